"""What is known of a film beside boxes and masks, in the terms of a detector: which labels, points and regions say what.

A label d of the film counts for every class of the detector that the ontology puts at or below it: "opacity" is there if any
consolidation, nodule or ground-glass opacity is; if it is absent, none of them is. Of the labels that are present only those
count that nothing more definite speaks for: an annotation, a mark or a tag of a class below d, or a label below it.

    open      classes of which there may be objects without a box: not complete, or drawn as points or scribbles; no absent ones
    marked    classes of which every object has a box or a mark
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurosym.data.degrade_draws import point_of
from neurosym.data.masks import decode_mask
from neurosym.data.weak_labels import says_weakly
from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.regions import Region, Regions
from neurosym.models.scene import Target
from neurosym.records import Annotation, Sample

STROKE_POINTS = 64
"""Points that a stroke is told by at most."""
POINT_RADIUS = 1.5
"""Pixels; of the disc that a point is to a model that learns masks alone."""


@dataclass(frozen=True)
class Hints:
    """Of one film; labels count from 1, class i of the tensors has label i + 1.

    `present` are sets of labels of which each has an object on the film, `tags` the same with the object's region; `study` are
    the labels of the film as a whole, by name.
    """

    open: Bool[Tensor, " class"]
    absent: Bool[Tensor, " class"]
    marked: Bool[Tensor, " class"]
    present: tuple[frozenset[int], ...]
    tags: tuple[tuple[frozenset[int], Region], ...]
    study: frozenset[str]


@dataclass(frozen=True)
class Marks:
    """Points and strokes of a film: x, y and the number of the mark that a point is of; of each mark its label, and whether it
    is a stroke."""

    points: Float[Tensor, "point 3"]
    labels: Int[Tensor, " mark"]
    strokes: Bool[Tensor, " mark"]

    def of(self, mark: int) -> Float[Tensor, "_ 2"]:
        """Where a mark is; nothing if it is off the image."""
        return self.points[self.points[:, 2] == mark, :2]


class Hinter:
    """Reads hints off samples; `learns_boxes` as of the model that is to learn from them."""

    def __init__(self, names: Sequence[str], ontology: Ontology, learns_boxes: bool = True) -> None:
        self.names, self.ontology, self.learns_boxes = tuple(names), ontology, learns_boxes
        self.regions = Regions(ontology)

    def below(self, name: str) -> frozenset[int]:
        """The labels of the detector's classes that are `name` or lie below it."""
        if name not in self.ontology.classes:
            return frozenset()
        return frozenset(i for i, n in enumerate(self.names, 1) if self.ontology.is_a(n, name))

    def of(self, sample: Sample) -> Hints | None:
        """What is known of a film; None where every object has its box."""
        if not says_weakly(sample):
            return None
        annotated = [a for a in sample.annotations if a.name in self.names and not a.iscrowd]
        drawn = {a.name for a in annotated if a.drawn}
        complete = frozenset(self.names) if sample.complete is None else sample.complete
        spoken = frozenset(self.names.index(a.name) + 1 for a in annotated)
        absent = frozenset[int]().union(*map(self.below, sample.absent)) - spoken
        tags = tuple(
            (labels, self.regions.named(place, sample.image_id))
            for name, place in sample.tags
            if (labels := self.below(name) - absent)
        )
        told = [frozenset({k}) for k in spoken] + [of_tag for of_tag, _ in tags]
        several = {s for name in sample.labels if (s := self.below(name) - absent)}
        present = [s for s in several if not any(t <= s for t in told) and not any(t < s for t in several)]

        def of_classes(names: frozenset[str] | set[str]) -> Tensor:
            return torch.tensor([n in names for n in self.names], dtype=torch.bool)

        gone = torch.tensor([i in absent for i in range(1, len(self.names) + 1)], dtype=torch.bool)
        return Hints(
            (~of_classes(complete) | of_classes(drawn)) & ~gone,
            gone,
            of_classes(complete) & of_classes(drawn),
            tuple(sorted(present, key=sorted)),
            tags,
            sample.labels,
        )

    def marks(self, sample: Sample) -> Marks:
        """The points and strokes of a film."""
        drawn = [a for a in sample.annotations if a.drawn and a.name in self.names and not a.iscrowd]
        points = [np.column_stack([p := mark_points(a), np.full(len(p), k)]) for k, a in enumerate(drawn)]
        found = np.concatenate(points) if points else np.zeros((0, 3))
        labels = torch.tensor([self.names.index(a.name) + 1 for a in drawn], dtype=torch.int64)
        strokes = torch.tensor([a.drawn == "scribble" for a in drawn], dtype=torch.bool)
        return Marks(torch.from_numpy(found.astype(np.float32)), labels, strokes)

    def target(self, sample: Sample, target: Target) -> Target:
        """A target with what is known of its film besides (see `neurosym.models.scene.OF_THE_FILM`).

        A model without boxes gets strokes and points as masks; outside of them its pixels are unknown, for the class is open.
        """
        hints = self.of(sample)
        if hints is None:
            return target
        marks = self.marks(sample)
        target = target | {"open": hints.open, "points": marks.points, "marks": marks.labels}
        if self.learns_boxes or not len(marks.labels):
            return target
        height, width = sample.image.shape[:2]
        masks = [stroke_mask(marks.of(k), height, width) for k in range(len(marks.labels))]
        boxes = [_around(m) for m in masks]
        return target | {
            "boxes": torch.cat([target["boxes"], torch.tensor(boxes, dtype=torch.float32)]),
            "labels": torch.cat([target["labels"], marks.labels]),
            "masks": torch.cat([target["masks"], torch.stack(masks)]),
        }


def mark_points(annotation: Annotation) -> np.ndarray:
    """(n, 2) x and y of a point, or of pixel centres of a stroke, evenly spaced in reading order."""
    box = annotation.box
    if annotation.drawn == "point" or annotation.mask is None:
        return np.array([point_of(box) or ((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2)])
    rows, columns = np.nonzero(decode_mask(annotation.mask))
    step = max(1, -(-len(rows) // STROKE_POINTS))
    return np.column_stack([columns, rows])[::step] + 0.5


def stroke_mask(points: Float[Tensor, "point 2"], height: int, width: int) -> Tensor:
    """(height, width) uint8: 1 on the pixels whose centres are within `POINT_RADIUS` of a point."""
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    near = (x[None, None] - points[:, 0, None, None]) ** 2 + (y[None, :, None] - points[:, 1, None, None]) ** 2
    return (near.amin(0) <= POINT_RADIUS**2).to(torch.uint8)


def _around(mask: Tensor) -> list[float]:
    rows, columns = mask.nonzero().unbind(1)
    return [float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)]
