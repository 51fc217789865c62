"""The DICOM image of a film that its reports refer to: its own, or a Secondary Capture; and no more of it than is wanted.

Who the patient is stands in a capture only if it is asked for; the UIDs of a DICOM image are kept, since what is said of it
would refer to nothing without them. Needs highdicom (the extra `dicom`).
"""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from neurosym.errors import Problem, ReviewError, short_path
from neurosym.review.findings import FilmFindings

if TYPE_CHECKING:
    from pydicom import Dataset

NOBODY: Final = "ANONYMOUS"
"""The id of the patient where no identifiers are kept; the name is the same with a caret, as DICOM writes family names."""
MAKER: Final = "neurosym"
logging.getLogger("highdicom").setLevel(logging.WARNING)  # it tells of every module that it copies
_REFERRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns")
"""What a report needs to know of the image that it refers to."""


def read_film(path: Path, film: FilmFindings) -> Dataset:
    """The DICOM image of a film, without pixels.

    Raises:
        ReviewError: it is no DICOM image, or not of the size that the findings were made on.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        image = pydicom.dcmread(path, stop_before_pixels=True)
    except (OSError, InvalidDicomError) as error:
        raise ReviewError(Problem(f"cannot be read as DICOM: {error}", short_path(path))) from error
    missing = [word for word in _REFERRED if word not in image]
    if missing:
        raise ReviewError(Problem(f"no DICOM image: it lacks {', '.join(missing)}", short_path(path)))
    if (image.Columns, image.Rows) != (film.width, film.height):
        found, expected = f"{image.Columns}×{image.Rows}", f"{film.width}×{film.height}"
        cure = "boxes in pixels of another size would lie elsewhere; name the film that the run has seen"
        raise ReviewError(Problem(f"is {found} pixels, the findings are of {expected}", short_path(path), cure=cure))
    return image


def secondary_capture(pixels: np.ndarray, patient: str = "") -> Dataset:
    """A Secondary Capture of a film.

    Args:
        pixels: 8-bit, (height, width) or (height, width, 3).
        patient: the patient's id; "" for nobody's.
    """
    import highdicom as hd
    from highdicom.sc import SCImage

    image = SCImage(
        np.ascontiguousarray(pixels),
        photometric_interpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=hd.UID(),
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        patient_id=patient or NOBODY,
        patient_name=f"{patient or NOBODY}^",
        patient_orientation=("L", "F"),
    )
    for word in ("PatientOrientation", "Laterality"):
        setattr(image, word, None)  # the pixels do not say how they are turned
    if not patient:
        say_who_is_gone(image)
    return image


def maker_version() -> str:
    """Of the installed package, "" where the program runs from its sources."""
    try:
        return version("neurosym-imaging")
    except PackageNotFoundError:
        return ""


def without_patient(image: Dataset) -> Dataset:
    """What a report needs to know of an image, and nobody's name: whatever is not listed is left out."""
    from pydicom import Dataset

    bare = Dataset()
    for word in _REFERRED:
        setattr(bare, word, image[word].value)
    bare.file_meta = image.file_meta
    bare.PatientID, bare.PatientName = NOBODY, f"{NOBODY}^"
    for word in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        setattr(bare, word, None)
    bare.ReferringPhysicianName = None
    return bare


def say_who_is_gone(dataset: Dataset) -> None:
    """Say in a DICOM object that it does not tell who the patient is."""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Only UIDs, size and modality of the image are kept"
