"""Films as a clinic has them: DICOM that says who the patient is, in the forms that detectors and archives get wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "P-4711",
    "PatientBirthDate": "19600102",
    "AccessionNumber": "ACC-99",
    "ReferringPhysicianName": "House^Gregory",
    "InstitutionName": "Saint Elsewhere",
    "StudyDate": "20200301",
    "StudyTime": "081500",
    "StudyID": "STUDY-7",
    "PatientAge": "060Y",
    "ImageComments": "called Jane",
}
BACKGROUND, BRIGHT = 300, 3500
"""Of 12 bits, as they are to be seen."""


def film_with_square(
    height: int = 60, width: int = 90, square: tuple[int, int, int, int] = (20, 10, 50, 40), **tags: Any
) -> Dataset:
    """A dark film of 12 bits in which one rectangle (x1, y1, x2, y2) is bright, and its patient is named.

    With ``PhotometricInterpretation="MONOCHROME1"`` the stored values are turned round, and the film looks the same.
    """
    seen = np.full((height, width), BACKGROUND, np.uint16)
    x1, y1, x2, y2 = square
    seen[y1:y2, x1:x2] = BRIGHT
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    film.StudyInstanceUID, film.SeriesInstanceUID = generate_uid(), generate_uid()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.Modality, film.PatientSex = "DX", "F"
    film.Rows, film.Columns, film.SamplesPerPixel = height, width, 1
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PhotometricInterpretation = tags.pop("PhotometricInterpretation", "MONOCHROME2")
    film.WindowCenter, film.WindowWidth = 2048, 4096
    film.ImagerPixelSpacing, film.PatientOrientation = [0.2, 0.2], ["L", "F"]
    film.PixelData = (4095 - seen if film.PhotometricInterpretation == "MONOCHROME1" else seen).tobytes()
    for word, value in (PATIENT | tags).items():
        if value is not None:
            setattr(film, word, value)
        elif word in film:
            delattr(film, word)
    return film


def save_film(path: Path, *how: Any, **tags: Any) -> Path:
    """The same as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    film_with_square(*how, **tags).save_as(path, enforce_file_format=True)
    return path


def words_of_patient(data: bytes) -> list[str]:
    """Which words of the patient stand in a file."""
    parts = [part for value in PATIENT.values() for part in value.split("^")]
    return [part for part in parts if part.encode() in data]
