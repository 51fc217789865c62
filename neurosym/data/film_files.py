"""Films as they lie on a clinic's disk: files and folders in which PNG, JPEG, TIFF and DICOM may be mixed.

DICOM is known by its content, whatever a file is called. In a folder, files that are no images are passed over, and so are
DICOM files that hold no film (reports, segmentations, presentation states, a DICOMDIR). A file that was named itself has to be
a film.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from neurosym.data.dicom import DICOM_SUFFIXES, read_dicom, read_dicom_header
from neurosym.data.images import IMAGE_SUFFIXES, read_image
from neurosym.errors import DataError, Problem, short_path

if TYPE_CHECKING:
    from pydicom import Dataset

_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_NO_FILMS: Final = (
    "1.2.840.10008.1.3.10",  # a DICOMDIR
    *(_STORAGE + kind for kind in ("9.", "11.", "66", "67", "68.", "88.", "104.", "200.", "481.")),
)
"""How the SOP classes of waveforms, presentation states, segmentations, reports, documents and plans begin."""
_RT_IMAGE: Final = _STORAGE + "481.1"


@dataclass(frozen=True, slots=True)
class FilmFile:
    """A file that may hold a film; `name` is its path below the `folder` that was named (None: the file was)."""

    path: Path
    name: str
    is_dicom: bool
    folder: Path | None = None


@dataclass(frozen=True)
class Film:
    """A film that was read: 8-bit grey (height, width) or RGB, as it is to be seen.

    `header` is its DICOM header without pixels, None of other files. `identity` tells it from every other film: the SOP
    Instance UID, or the SHA-256 of the file.
    """

    file: FilmFile
    image: NDArray[np.uint8]
    identity: str
    header: Dataset | None = None


def film_files(paths: Sequence[Path]) -> tuple[list[FilmFile], int]:
    """The files of films, each once, in the order of their names, and how many other files were passed over.

    Raises:
        DataError: a path that is not there, or no film in all of them.
    """
    missing = [Problem("no such file or folder", short_path(p)) for p in paths if not p.exists()]
    if missing:
        raise DataError(missing)
    found: dict[Path, FilmFile] = {}
    passed = 0
    for path in paths:
        for file in _below(path) if path.is_dir() else [FilmFile(path, path.name, _is_dicom(path))]:
            if file.folder and not (file.is_dicom or file.path.suffix.lower() in IMAGE_SUFFIXES):
                passed += 1
            else:
                found.setdefault(file.path.resolve(), file)
    if not found:
        kinds = ", ".join((*IMAGE_SUFFIXES, *DICOM_SUFFIXES))
        cure = f"expected {kinds}, or DICOM files without a suffix"
        raise DataError(Problem("no film in it", ", ".join(map(short_path, paths)), cure=cure))
    return list(found.values()), passed


def read_film_file(file: FilmFile) -> Film | None:
    """Read a film; None for a DICOM file that holds no film, if it was not named itself.

    Raises:
        DataError: it cannot be read (`read_dicom`, `read_image`), or has no SOP Instance UID.
    """
    if not file.is_dicom:
        image = np.asarray(read_image(file.path), dtype=np.uint8)
        return Film(file, image, hashlib.sha256(file.path.read_bytes()).hexdigest())
    header = read_dicom_header(file.path)
    kind = str(header.get("SOPClassUID") or getattr(header, "file_meta", {}).get("MediaStorageSOPClassUID") or "")
    if kind.startswith(_NO_FILMS) and kind != _RT_IMAGE:
        if file.folder:
            return None
        from pydicom.uid import UID

        message = f"(0008,0016) SOPClassUID is {UID(kind).name!r:.60}"
        raise DataError(Problem(message, short_path(file.path), cure="expected an image"))
    found = read_dicom(file.path)
    identity = str(found.header.get("SOPInstanceUID") or "")
    if not identity:
        message = "no (0008,0018) SOPInstanceUID"
        raise DataError(Problem(message, short_path(file.path), cure="it tells a film from others"))
    return Film(file, found.image, identity, found.header)


def _below(folder: Path) -> Iterator[FilmFile]:
    """Every file below a folder but hidden ones."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield FilmFile(path, name.as_posix(), _is_dicom(path), folder)


def _is_dicom(path: Path) -> bool:
    """By the letters after the preamble, whatever it is called; else by its suffix."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM" or path.suffix.lower() in DICOM_SUFFIXES
    except OSError:  # reading the film tells why
        return path.suffix.lower() in DICOM_SUFFIXES
