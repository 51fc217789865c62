"""All checks of a data set, each film decoded once; and what is in it, split by split and class by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from neurosym.data.checking.duplicates import Print, duplicates, print_of
from neurosym.data.checking.faults import Fault, faults_of_boxes, shared_patients
from neurosym.data.checking.films import Boxed, CheckedFilm, Splits
from neurosym.data.images import read_image
from neurosym.errors import DataError

Advance = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Report:
    """The faults, errors first; `balance` has per split the films, objects and patients, and per class objects and films.

    `odd` are the boxes with a fault of their own, by film and box.
    """

    faults: tuple[Fault, ...]
    balance: dict[str, dict[str, Any]]
    odd: frozenset[tuple[CheckedFilm, Boxed]]

    @property
    def errors(self) -> int:
        """How many faults are no warnings."""
        return sum(f.severity == "error" for f in self.faults)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        told = [
            {"kind": f.kind, "severity": f.severity, "split": f.split, "film": f.film} | {"message": f.message}
            for f in self.faults
        ]
        return {"errors": self.errors, "splits": self.balance, "faults": told}


def check(splits: Splits, advance: Advance | None = None) -> Report:
    """Check every film and box; nothing is changed."""
    faults: list[Fault] = []
    odd: set[tuple[CheckedFilm, Boxed]] = set()
    read: list[CheckedFilm] = []
    prints: list[Print] = []
    for number, film in enumerate(splits.films, 1):
        size = film.size
        try:
            image = read_image(film.path)
            size = (image.shape[1], image.shape[0])
            read.append(film)
            prints.append(print_of(image))
            if film.size not in (None, size):
                said = "{}×{}".format(*film.size)
                message = f"film is {size[0]}×{size[1]} pixels; its annotation says {said}"
                faults.append(Fault("size", message, film.split, film.name))
        except DataError as error:
            faults += [Fault("unreadable", p.message, film.split, film.name) for p in error.problems]
        if size is not None:
            for boxed, fault in faults_of_boxes(film, *size):
                faults.append(fault)
                odd.add((film, boxed))
        if advance is not None:
            advance(number, len(splits.films), f"{len(faults)} faults" if faults else "")
    faults += [Fault("annotation", m, split, film) for split, found in splits.mistakes.items() for film, m in found]
    faults += [*duplicates(read, prints), *shared_patients(splits.films), *_unsaid(splits)]
    balance = _balance(splits)
    faults += _absent(splits, balance)
    ordered = sorted(faults, key=lambda f: f.severity != "error")
    return Report(tuple(ordered), balance, frozenset(odd))


def _balance(splits: Splits) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for split, categories in splits.categories.items():
        films = [f for f in splits.films if f.split == split]
        objects = Counter(b.category for f in films for b in f.boxes)
        shown = Counter(c for f in films for c in {b.category for b in f.boxes})
        classes = {c: {"objects": objects[c], "films": shown[c]} for c in categories}
        patients = len({f.patient for f in films if f.patient})
        counts = {"films": len(films), "without_box": sum(not f.boxes for f in films), "patients": patients}
        found[split] = {"file": splits.files[split]} | counts | {"objects": objects.total(), "classes": classes}
    return found


def _absent(splits: Splits, balance: dict[str, dict[str, Any]]) -> Iterator[Fault]:
    """Classes that one split has and another lacks, so that they are not learned, or not scored."""
    scored = [s for s in balance if s != "unlabelled"]
    for category in dict.fromkeys(c for s in scored for c in splits.categories[s]):
        counts = {s: balance[s]["classes"].get(category, {}).get("objects", 0) for s in scored}
        lacking = [s for s, n in counts.items() if not n]
        if lacking:
            told = "nowhere" if len(lacking) == len(scored) else f"not in {', '.join(lacking)}"
            yield Fault("class absent", f"{category} is annotated {told}", severity="warning")


def _unsaid(splits: Splits) -> Iterator[Fault]:
    """Leakage by patient cannot be seen where films do not say whose they are."""
    unsaid = sum(not f.patient for f in splits.films)
    if unsaid and len(splits.files) > 1:
        message = f"{unsaid} of {len(splits.films)} films do not say whose they are (attribute `patient`)"
        yield Fault("patient unknown", message, severity="warning")
