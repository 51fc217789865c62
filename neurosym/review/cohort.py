"""Images with whose they are, what the data says of them and the facts of them: what a rule is measured on.

Attributes are found by their names, whatever the case, blanks and underscores: the patient, the site, and the subgroups that a
reviewer asks for first, view, sex and age. Ages come in bands.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from neurosym.data.unread import unread
from neurosym.errors import NeurosymError
from neurosym.induction.index import FactIndex, IntArray
from neurosym.learning.runfolder import OpenRun
from neurosym.records import FactStore

PATIENT: Final = ("patient", "patientid")
SITE: Final = ("site", "institution", "hospital", "source", "domain")
SUBGROUPS: Final = {
    "view": ("view", "viewposition", "projection"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "age": ("age", "patientage", "ageyears"),
}
_BANDS: Final = ((18, "<18"), (40, "18–39"), (65, "40–64"), (float("inf"), "≥65"))
_AGE: Final = re.compile(r"0*(\d+(?:\.\d+)?)\s*([YMWD]?)(?:ears?)?", re.IGNORECASE)
_YEARS: Final = {"": 1.0, "y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}


@dataclass(frozen=True, slots=True)
class Film:
    """One image: its name, whose it is ("" where the data does not say), where it lies, and its attributes."""

    image_id: str
    patient: str = ""
    path: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What tells it from other films: its place, because two folders may use one name."""
        return self.path or self.image_id


@dataclass(frozen=True)
class Cohort:
    """Films of one split; `facts` are of these and may be of others, which are left out."""

    split: str
    films: tuple[Film, ...]
    facts: FactStore

    @property
    def shown(self) -> FactStore:
        """The facts of these films."""
        names = {film.image_id for film in self.films}
        return FactStore(tuple(f for f in self.facts.facts if f.scene in names))

    @cached_property
    def index(self) -> FactIndex | None:
        """The facts of these films, ready to measure on; None if there are none."""
        shown = self.shown
        return FactIndex.of(shown) if shown.facts else None

    @cached_property
    def patients(self) -> IntArray:
        """A number for whose each film is; one that is nobody's is a patient of its own."""
        numbers: dict[tuple[bool, str], int] = {}
        whose = ((True, f.patient) if f.patient else (False, f.key) for f in self.films)
        return np.array([numbers.setdefault(one, len(numbers)) for one in whose], dtype=np.int64)

    @cached_property
    def film_of_scene(self) -> IntArray:
        """The film of each scene of the index."""
        place = {film.image_id: i for i, film in enumerate(self.films)}
        scenes = () if self.index is None else self.index.scenes
        return np.array([place[s] for s in scenes], dtype=np.int64)

    @property
    def names_patients(self) -> bool:
        """Whether the data says whose every film is."""
        return all(film.patient for film in self.films)

    def values(self, attribute: str) -> list[str]:
        """What an attribute says of each film, "" where it says nothing; ages by bands."""
        said = [_text(film.attributes.get(attribute)) for film in self.films]
        return [age_band(v) for v in said] if _plain(attribute) in SUBGROUPS["age"] else said

    def only(self, image_ids: Collection[str]) -> Cohort:
        """The films of these names."""
        return Cohort(self.split, tuple(f for f in self.films if f.image_id in image_ids), self.facts)

    def apart_from(self, other: Cohort) -> Cohort:
        """The films that neither are films of another cohort nor show its patients."""
        keys, patients = {f.key for f in other.films}, {f.patient for f in other.films} - {""}
        kept = tuple(f for f in self.films if f.key not in keys and f.patient not in patients)
        return Cohort(self.split, kept, self.facts)


def films_of(run: OpenRun, split: str) -> tuple[Film, ...]:
    """The films of a split of a run's data, in its order; no image is decoded.

    Raises:
        ConfigError: the run has no such split. DataError: its files are missing or wrong.
    """
    found = []
    for sample in unread(run.images(split)):
        patient = next((_text(v) for k, v in sample.attributes.items() if _plain(k) in PATIENT and _text(v)), "")
        found.append(Film(sample.image_id, patient, sample.path, sample.attributes))
    return tuple(found)


def attributes_of(cohorts: Iterable[Cohort]) -> tuple[str, ...]:
    """The names of the films' attributes, without the patient's, in order."""
    names = {name for cohort in cohorts for film in cohort.films for name in film.attributes}
    return tuple(sorted(n for n in names if _plain(n) not in PATIENT))


def site_attribute(names: Iterable[str]) -> str:
    """The attribute that says where a film was taken, "" if there is none."""
    return _named(SITE, tuple(names))


def subgroup_attributes(names: Iterable[str]) -> Iterator[str]:
    """The attributes that say view, sex and age."""
    names = tuple(names)
    yield from filter(None, (_named(words, names) for words in SUBGROUPS.values()))


def in_order(values: Iterable[str]) -> list[str]:
    """The known ones among what an attribute says, each once; age bands by age."""
    bands = [band for _, band in _BANDS]
    return sorted({*values} - {""}, key=lambda v: (bands.index(v) if v in bands else -1, v))


def age_band(text: str) -> str:
    """An age in years, or as DICOM writes it, as a band; "" if it is none.

    >>> [age_band(age) for age in ("17", "018Y", "11M", "64.5", "65", "unknown")]
    ['<18', '18–39', '<18', '40–64', '≥65', '']
    """
    read = _AGE.fullmatch(text.strip())
    if read is None:
        return ""
    years = float(read[1]) * _YEARS[read[2].lower()]
    return next(band for end, band in _BANDS if years < end)


def other_split(split: str, run: OpenRun) -> str:
    """Where to confirm what was found on a split: the first of test, val and train that the run has and that is another one."""
    for name in ("test", "val", "train"):
        if name != split:
            try:
                if len(run.images(name)):
                    return name
            except NeurosymError:
                continue
    return ""


def _named(words: tuple[str, ...], names: tuple[str, ...]) -> str:
    by_word = {_plain(name): name for name in reversed(names)}
    return next((by_word[w] for w in words if w in by_word), "")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.lower())


def _text(value: object) -> str:
    """A value as text; one that is no plain value, a list say, is not told apart by."""
    return str(value).strip() if isinstance(value, str | int | float) and value == value else ""
