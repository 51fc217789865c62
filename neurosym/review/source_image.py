"""The DICOM image that predictions refer to: the film's own header, the same without the patient, or a capture of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurosym.data.film_files import Film
from neurosym.errors import Problem, ReviewError, short_path
from neurosym.review.deidentify import deidentified, say_who_is_gone
from neurosym.review.pseudonyms import Pseudonyms
from neurosym.review.structured_report import REFERRED, secondary_capture

if TYPE_CHECKING:
    from pydicom import Dataset

_TYPE_2 = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")
_MAY_LACK = (*_TYPE_2, "AccessionNumber", "ReferringPhysicianName")
_SEXES = ("M", "F", "O")


def source_image(film: Film, name: str, pseudonyms: Pseudonyms, whole: Dataset | None = None) -> Dataset:
    """The image of a film.

    Args:
        film: with a DICOM header, or without: then a Secondary Capture is made of its pixels.
        name: of the film; the patient's id of a capture, if identity is kept.
        pseudonyms: say whether it is, and give the UIDs.
        whole: the DICOM file with its pixels, to be taken instead of the header.

    Raises:
        ReviewError: the header lacks what is referred to.
    """
    header = film.header if whole is None else whole
    if header is None:
        return _capture(film, name, pseudonyms)
    missing = [word for word in REFERRED if not header.get(word)]
    if missing:
        message = f"nothing can refer to it: its header lacks {', '.join(missing)}"
        raise ReviewError(Problem(message, short_path(film.file.path), cure="leave seg, sr and film out of --write"))
    return _completed(header) if pseudonyms.keep_identity else deidentified(header, pseudonyms)


def _capture(film: Film, name: str, pseudonyms: Pseudonyms) -> Dataset:
    """A Secondary Capture whose UIDs are the same for the same pixels and key."""
    image = secondary_capture(film.image, name if pseudonyms.keep_identity else "")
    for word in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(image, word, pseudonyms.new_uid(f"{film.identity}/{word}"))
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    if not pseudonyms.keep_identity:
        say_who_is_gone(image)
    return image


def _completed(header: Dataset) -> Dataset:
    """The header with what may be empty but has to be there, and without a sex that DICOM has no word for."""
    for word in _MAY_LACK:
        if word not in header:
            setattr(header, word, None)
    if header.PatientSex not in (*_SEXES, "", None):
        header.PatientSex = None
    return header
