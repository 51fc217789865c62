"""The DICOM image that reports and segmentations refer to: a film's own, the same without the patient, or a Secondary Capture.

What is made of a film takes patient, study and UIDs from here, so that nothing else decides how much is told of them. Needs
highdicom (the extra `dicom`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from neurosym.data.dicom import read_dicom_header
from neurosym.data.film_files import Film
from neurosym.errors import Problem, ReviewError, short_path
from neurosym.review.deidentify import NOBODY, deidentified, say_who_is_gone
from neurosym.review.dicom_writing import MAKER
from neurosym.review.findings import FilmFindings
from neurosym.review.pseudonyms import Pseudonyms, UidOf

if TYPE_CHECKING:
    from pydicom import Dataset

_REFERRED: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
)
"""What has to be known of an image that is referred to."""
_TYPE_2: Final = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")
_MAY_LACK: Final = (*_TYPE_2, "AccessionNumber", "ReferringPhysicianName")
_SEXES: Final = ("M", "F", "O")


def source_image(film: Film, name: str, pseudonyms: Pseudonyms, whole: Dataset | None = None) -> Dataset:
    """The image of a film.

    Args:
        film: with a DICOM header, or without: then a Secondary Capture is made of its pixels, with the same UIDs for the same
            pixels and key.
        name: of the film; the patient's id of a capture, if identity is kept.
        pseudonyms: say whether it is, and give the UIDs.
        whole: the DICOM file with its pixels, to be taken instead of the header.

    Raises:
        ReviewError: the header lacks what is referred to.
    """
    header = film.header if whole is None else whole
    if header is None:
        patient = name if pseudonyms.keep_identity else ""
        return secondary_capture(film.image, patient, lambda word: pseudonyms.new_uid(f"{film.identity}/{word}"))
    _require_reference(header, film.file.path, "leave seg, sr and film out of --write")
    return _completed(header) if pseudonyms.keep_identity else deidentified(header, pseudonyms)


def read_source(path: Path, film: FilmFindings, keep_identity: bool = False) -> Dataset:
    """The DICOM image of findings that were made elsewhere, without pixels; its UIDs stay, by which an archive finds it.

    Raises:
        DataError: it is no DICOM. ReviewError: it is no image, or not of the size that the findings were made on.
    """
    image = read_dicom_header(path)
    _require_reference(image, path, "name a DICOM image")
    if (image.Columns, image.Rows) != (film.width, film.height):
        found, expected = f"{image.Columns}×{image.Rows}", f"{film.width}×{film.height}"
        cure = "boxes in pixels of another size would lie elsewhere; name the film that the run has seen"
        raise ReviewError(Problem(f"is {found} pixels, the findings are of {expected}", short_path(path), cure=cure))
    return _completed(image) if keep_identity else deidentified(image, None)


def secondary_capture(pixels: np.ndarray, patient: str = "", uid_of: UidOf | None = None) -> Dataset:
    """A Secondary Capture of a film.

    Args:
        pixels: 8-bit, (height, width) or (height, width, 3).
        patient: the patient's id; "" for nobody's.
        uid_of: a UID for the name of an attribute; random ones by default.
    """
    from highdicom.sc import SCImage

    uid_of = uid_of or Pseudonyms().new_uid
    image = SCImage(
        np.ascontiguousarray(pixels),
        photometric_interpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=uid_of("StudyInstanceUID"),
        series_instance_uid=uid_of("SeriesInstanceUID"),
        series_number=1,
        sop_instance_uid=uid_of("SOPInstanceUID"),
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


def with_pixels(path: Path, header: Dataset) -> Dataset:
    """A film's whole file; it is that of `header`.

    Raises:
        ReviewError: it was changed since the header was read.
    """
    import pydicom

    whole = pydicom.dcmread(path)
    if whole.get("SOPInstanceUID") != header.get("SOPInstanceUID"):
        raise ReviewError(Problem("the film was changed while it was read", short_path(path)))
    return whole


def _require_reference(header: Dataset, path: Path, cure: str) -> None:
    missing = [word for word in _REFERRED if not header.get(word)]
    if missing:
        message = f"nothing can refer to it: its header lacks {', '.join(missing)}"
        raise ReviewError(Problem(message, short_path(path), cure=cure))


def _completed(header: Dataset) -> Dataset:
    """The header with what may be empty but has to be there, and without a sex that DICOM has no word for."""
    for word in _MAY_LACK:
        if word not in header:
            setattr(header, word, None)
    if header.PatientSex not in (*_SEXES, "", None):
        header.PatientSex = None
    return header
