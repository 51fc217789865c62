"""What a COCO file may say of an image or an annotation beside boxes and masks; an addition of ours to the format.

An annotation's ``"drawn"`` is "point" (the middle of its bbox) or "scribble" (its segmentation is the stroke). An image's
``"supervision"`` says what is known of it as a whole; classes are categories of the file or classes of the ontology:

    {"complete": ["left_lung"],            all of these are annotated; left out: all categories are
     "present": ["opacity"],               somewhere on the image
     "absent": ["pleural_effusion"],       nowhere on it
     "tags": [["nodule", "r. upper lobe"]]}   somewhere in this region (neurosym.knowledge.regions)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from neurosym.data.images import BoxChecker, ImageEntry
from neurosym.errors import Problem, did_you_mean
from neurosym.knowledge import Knowledge
from neurosym.knowledge.regions import Regions

Drawn = Literal["", "point", "scribble"]
DRAWN: Final[tuple[Drawn, ...]] = ("", "point", "scribble")


class WeakLabels(BaseModel):
    """An image's ``supervision``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    complete: tuple[str, ...] | None = None
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()


def with_weak_labels(
    entry: ImageEntry,
    labels: WeakLabels | None,
    undrawn: Iterable[str],
    names: Mapping[str, str],
    knowledge: Knowledge,
    checker: BoxChecker,
) -> ImageEntry:
    """An image with what its ``supervision`` says; mistakes are left with the checker.

    Args:
        entry: with its annotations.
        labels: None where the file says nothing.
        undrawn: classes of which an annotation was left out, and which are therefore not complete.
        names: the categories that are read, each with its class.
        knowledge: knows further classes, and regions.
        checker: collects the problems of the file.
    """
    known = set(names.values())
    if undrawn:
        entry = replace(entry, complete=frozenset(known - set(undrawn)))
    if labels is None:
        return entry
    classes = knowledge.ontology.classes

    def class_of(name: str) -> str | None:
        found = names.get(name) or (name if name in classes else None)
        if found is None:
            cure = did_you_mean(name, [*names, *classes])
            message = f"image {entry.image_id!r}, supervision: unknown class {name!r}"
            checker.problems.append(Problem(message, checker.file, cure=cure))
        return found

    def several(said: Iterable[str]) -> frozenset[str]:
        return frozenset(c for c in map(class_of, said) if c is not None)

    regions = Regions(knowledge.ontology) if labels.tags else None
    tags = []
    for name, place in labels.tags:
        of = class_of(name)
        if regions is not None and regions.find(place) is None:
            message = f"image {entry.image_id!r}: location {place!r} is no region that the ontology knows"
            checker.unusable(message, did_you_mean(place, regions.frames))
        elif of is not None:
            tags.append((of, place))
    complete = entry.complete
    if labels.complete is not None:
        complete = several(labels.complete) - frozenset(undrawn)
    return replace(
        entry,
        complete=None if complete is not None and known <= complete else complete,
        labels=entry.labels | several(labels.present),
        absent=several(labels.absent),
        tags=tuple(tags),
    )
