"""What is common to the DICOM objects that are made here: who made them, their bytes, and what is told if a film forbids them.

Needs highdicom (the extra `dicom`).
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neurosym.errors import Problem, ReviewError, short_path

if TYPE_CHECKING:
    from pydicom import Dataset

MAKER: Final = "neurosym"
_REFUSALS: Final = (AttributeError, KeyError, OverflowError, TypeError, ValueError)
"""What highdicom and pydicom raise of a header that is not as the standard has it."""
logging.getLogger("highdicom").setLevel(logging.WARNING)  # it tells of every module that it copies


def program_version() -> str:
    """Of the installed package, "" where the program runs from its sources."""
    try:
        return version("neurosym-imaging")
    except PackageNotFoundError:
        return ""


def dicom_bytes(dataset: Dataset) -> bytes:
    """A dataset as a DICOM file."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@contextmanager
def refusals_of(path: Path) -> Iterator[None]:
    """Tell of a film of which no DICOM can be made.

    Raises:
        ReviewError: highdicom or pydicom refuse the header.
    """
    try:
        yield
    except _REFUSALS as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        message = f"no DICOM can be made of it ({reason:.180})"
        raise ReviewError(Problem(message, short_path(path))) from error
