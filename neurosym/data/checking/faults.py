"""What is wrong with a data set: impossible boxes, boxes drawn twice, patients and films that two splits share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from neurosym.data.checking.films import Boxed, CheckedFilm
from neurosym.data.images import CLIP_TOLERANCE
from neurosym.records import Box

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Fault:
    """One fault: what kind it is, where, and in words."""

    kind: str
    message: str
    split: str = ""
    film: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        place = ", ".join(filter(None, (self.split, self.film)))
        return f"{place}: {self.message}" if place else self.message


def box_fault(box: Box, width: int, height: int) -> tuple[str, str] | None:
    """Why a box cannot be meant, as a kind and in words; None if it can.

    >>> box_fault(Box(5, 5, 5, 9), 10, 10), box_fault(Box(0, 0, 10.5, 9), 10, 10)
    (('empty box', 'is empty'), None)
    """
    if not all(map(math.isfinite, box.xyxy)):
        return "not finite", "is not finite"
    if box.width <= 0 or box.height <= 0:
        return "empty box", "is empty"
    if max(box.x2, box.y2) <= 1 < min(width, height):
        return "within a pixel", "lies within one pixel; are its numbers shares of the film?"
    film = f"{width}×{height} film"
    if min(box.x2, width) <= max(box.x1, 0) or min(box.y2, height) <= max(box.y1, 0):
        return "outside", f"lies outside of its {film}"
    if box.width > width + 2 * CLIP_TOLERANCE or box.height > height + 2 * CLIP_TOLERANCE:
        return "larger than film", f"is larger than its {film}"
    beyond = max(-box.x1, -box.y1, box.x2 - width, box.y2 - height)
    if beyond > CLIP_TOLERANCE:
        return "leaves film", f"leaves its {film} by {beyond:g} px"
    return None


def faults_of_boxes(film: CheckedFilm, width: int, height: int) -> Iterator[tuple[Boxed, Fault]]:
    """The boxes of a film that are impossible or repeat an earlier one of their category."""
    seen: dict[tuple[str, Box], Boxed] = {}
    for boxed in film.boxes:
        corners = ", ".join(f"{v:g}" for v in boxed.box.xyxy)
        found = box_fault(boxed.box, width, height)
        if found is None:
            first = seen.setdefault((boxed.category, boxed.box), boxed)
            found = None if first is boxed else ("twice", f"is that of {first.what}, too")
        if found is not None:
            kind, words = found
            message = f"{boxed.what} ({boxed.category}): box [{corners}] {words}"
            yield boxed, Fault(kind, message, film.split, film.name)


def shared_patients(films: Sequence[CheckedFilm]) -> Iterator[Fault]:
    """Patients whose films are in more than one split; that train and unlabelled share one is no fault."""
    places: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for film in films:
        if film.patient:
            places[film.patient][film.split].append(film.name)
    for patient, splits in sorted(places.items()):
        if len(splits) > 1 and set(splits) != {"train", "unlabelled"}:
            told = ", ".join(f"{len(names)} in {split} ({names[0]})" for split, names in splits.items())
            yield Fault("patient", f"patient {patient} has films in several splits: {told}")
