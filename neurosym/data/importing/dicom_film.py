"""A DICOM film as one to import: its pixels, its spacing, and the attributes that subgroups are made of.

Nothing else of its header is taken: no name, no date, no place, no UID.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosym.data.dicom import read_dicom
from neurosym.data.importing.source import Loaded

if TYPE_CHECKING:
    from pydicom import Dataset

OLDEST = 90
"""Greater ages become this one: there are so few that old that the age alone may tell who it is."""
_UNITS = {"Y": 1.0, "M": 1 / 12, "W": 1 / 52, "D": 1 / 365}


def load_dicom(path: Path) -> Loaded:
    """Read one film, without objects.

    Raises:
        DataError: it cannot be read.
    """
    film = read_dicom(path)
    attributes = said_of_patient(film.header)
    if film.pixel_spacing is not None:
        attributes["pixel_spacing"] = list(film.pixel_spacing)
    return Loaded(film.image, attributes=attributes, patient=str(film.header.get("PatientID") or "").strip())


def said_of_patient(header: Dataset) -> dict[str, Any]:
    """Sex (M, F), age in full years and view of a header, each where it says so.

    >>> from pydicom import Dataset
    >>> header = Dataset()
    >>> header.PatientAge, header.PatientSex = "018M", "O"
    >>> said_of_patient(header)
    {'age': 1}
    """
    found: dict[str, Any] = {}
    if (sex := str(header.get("PatientSex") or "").upper()) in ("M", "F"):
        found["sex"] = sex
    age = re.fullmatch(r"(\d{3})([DWMY])", str(header.get("PatientAge") or ""))
    if age:
        found["age"] = min(int(int(age[1]) * _UNITS[age[2]]), OLDEST)
    view = str(header.get("ViewPosition") or "").strip().upper()
    if re.fullmatch(r"[A-Z]{1,4}", view):
        found["view"] = view
    return found
