"""What a format's reader hands on: films that are still to be read, and what their tables say of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neurosym.errors import DataError, Problem, short_path
from neurosym.records import Box

Unboxed = Literal["weak", "leave-out", "negative"]
MOST_TOLD = 20
"""Problems of one source that are printed."""


@dataclass(frozen=True)
class Drawn:
    """One object: its box (x1, y1, x2, y2) in pixels as the source has it, maybe outside of the film, and maybe a mask."""

    category: str
    box: Box
    mask: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of a COCO annotation: "drawn", "iscrowd"."""


@dataclass(frozen=True)
class Loaded:
    """A film that was read: 8 bits, (height, width) or (height, width, 3), and all that is known of it.

    `patient` is whose it is in the source's own words, "" if it does not say; what is written is a pseudonym. `supervision` is
    what a COCO image may say of itself (`neurosym.data.coco_weak`).
    """

    image: np.ndarray
    objects: tuple[Drawn, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    patient: str = ""
    supervision: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ToImport:
    """A film before it is read: its name below the folder of images, without suffix, and what it is made of.

    `said` is everything that `load` takes from elsewhere than `files`: where neither changed, the film need not be read again.
    `split` is the source's own, "" if it has none. `study` is the examination that it is of, "" if the source does not say:
    films of a study are of one patient.
    """

    name: str
    files: tuple[Path, ...]
    load: Callable[[], Loaded]
    said: str = ""
    split: str = ""
    study: str = ""

    def mark(self) -> str:
        """A digest of what the film is made of.

        Raises:
            DataError: one of its files is not there.
        """
        found = hashlib.sha256(self.said.encode())
        for path in self.files:
            try:
                stat = path.stat()
            except OSError as error:
                raise DataError(Problem(f"cannot be read: {error.strerror}", str(path))) from error
            found.update(f"\0{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
        return found.hexdigest()


@dataclass(frozen=True)
class Source:
    """The films of a folder, the categories that they may be annotated with, and what a reader should know of it."""

    films: tuple[ToImport, ...]
    categories: tuple[str, ...]
    notes: tuple[str, ...] = ()
    missing: tuple[Problem, ...] = ()
    """Films that a table names and that are not there."""


def require_size(image: np.ndarray, size: tuple[int, int], path: Path) -> None:
    """Refuse a film that is not of the width and height that its annotation is of.

    Raises:
        DataError: it has another size.
    """
    if image.shape[1::-1] != size:
        found, said = f"{image.shape[1]}×{image.shape[0]}", f"{size[0]}×{size[1]}"
        raise DataError(Problem(f"image is {found} pixels; its annotation says {said}", short_path(path)))


def raise_all(problems: list[Problem]) -> None:
    """Tell all mistakes of a table at once, the first `MOST_TOLD` of them in words."""
    if problems:
        rest = len(problems) - MOST_TOLD
        more = [Problem(f"… and {rest} more", problems[0].file)] if rest > 0 else []
        raise DataError([*problems[:MOST_TOLD], *more])
