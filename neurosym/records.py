"""The values that travel from one stage to the next: pure data, without torch, without files.

    Sample ──detector──▶ Scene ──facts──▶ FactStore ──induction──▶ Candidate ──review──▶ Rule
    (film + annotations)  (detections)     (weighted facts)        (rule + evidence)

Boxes are in pixels, XYXY, of the image as it lies on disk; image x grows to the right, y downwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neurosym.logic import Atom, Rule, Term, quoted

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Annotation",
    "Atom",
    "Box",
    "Candidate",
    "Detection",
    "Fact",
    "FactStore",
    "Rule",
    "Run",
    "Sample",
    "Scene",
    "Term",
    "by_box",
    "quoted",
]


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel rectangle (x1, y1, x2, y2) in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        return self.y2 - self.y1

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        return (self.x1, self.y1, self.x2, self.y2)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated object; `name` is the ontology class its category is tied to, `mask` a COCO run-length code.

    `drawn` says what was drawn if it was neither an outline nor a box: a "point" (in the middle of the small `box`), or a
    "scribble", a stroke through the object; `mask` is the stroke, and pixels outside of it may be the object's, too.
    """

    name: str
    box: Box
    mask: Mapping[str, Any] | None = None
    iscrowd: bool = False
    drawn: Literal["", "point", "scribble"] = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image, 8-bit grey (height, width) or RGB (height, width, 3), with what is annotated on it.

    `labels` are the classes that hold for the whole image: of the study, and of things that are somewhere on it. `attributes`
    is what the data set says beside. `complete` are the classes all of whose objects on the image are annotated (None: all of
    them), `absent` those that are known to have none, `tags` say where some object is: (class, region), see
    `neurosym.knowledge.regions`.
    """

    image_id: str
    image: np.ndarray
    annotations: tuple[Annotation, ...] = ()
    labels: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    complete: frozenset[str] | None = None
    absent: frozenset[str] = frozenset()
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Detection:
    """One object found on (or annotated in) an image; `score` in [0, 1], 1 for an annotation; `mask` as in `Annotation`."""

    name: str
    box: Box
    score: float = 1.0
    mask: Mapping[str, Any] | None = None


def by_box(detections: Sequence[Detection]) -> list[list[int]]:
    """The indices of detections, those of one box together: where classes overlap, they are one object with several."""
    groups: dict[Box, list[int]] = {}
    for i, detection in enumerate(detections):
        groups.setdefault(detection.box, []).append(i)
    return list(groups.values())


@dataclass(frozen=True, slots=True)
class Scene:
    """What is seen on one image: detections, and the study-level classes with their probabilities."""

    image_id: str
    width: int
    height: int
    detections: tuple[Detection, ...] = ()
    labels: Mapping[str, float] = field(default_factory=dict)
    image_path: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """`relation(args…)` with a weight in (0, 1]; `scene` is its image, "" in a general graph."""

    relation: str
    args: tuple[str, ...]
    weight: float = 1.0
    scene: str = ""


@dataclass(frozen=True, slots=True)
class FactStore:
    """Facts, sorted; unary ones are class membership, binary ones relations."""

    facts: tuple[Fact, ...]

    @property
    def relations(self) -> tuple[str, ...]:
        return tuple(sorted({f.relation for f in self.facts}))


@dataclass(frozen=True, slots=True)
class Candidate:
    """An induced rule with its exact measures, and the scenes (or head facts) that speak for and against it."""

    rule: Rule
    support: int
    body_size: int
    confidence: float
    pca_confidence: float
    head_coverage: float
    lift: float
    supporting: tuple[str, ...] = ()
    refuting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A finished (or interrupted) training: the folder that holds its config, checkpoint, predictions and logs."""

    path: Path
    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)
