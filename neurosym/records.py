"""The values that travel from one stage to the next: pure data, without torch, without files.

    Sample ──detector──▶ Scene ──facts──▶ FactStore ──induction──▶ Candidate ──review──▶ Rule
    (film + annotations)  (detections)     (weighted facts)        (rule + evidence)

Boxes are in pixels, XYXY, of the image as it lies on disk; image x grows to the right, y downwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


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
    """One annotated object; `name` is the ontology class its category is tied to, `mask` a COCO run-length code."""

    name: str
    box: Box
    mask: Mapping[str, Any] | None = None
    iscrowd: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One image, 8-bit grey (height, width) or RGB (height, width, 3), with what is annotated on it.

    `labels` are the study-level classes that hold for the whole image; `attributes` is what the data set says beside.
    """

    image_id: str
    image: np.ndarray
    annotations: tuple[Annotation, ...] = ()
    labels: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True, slots=True)
class Detection:
    """One object found on (or annotated in) an image; `score` in [0, 1], 1 for an annotation."""

    name: str
    box: Box
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What is seen on one image: detections, and the study-level classes with their probabilities."""

    image_id: str
    width: int
    height: int
    detections: tuple[Detection, ...] = ()
    labels: Mapping[str, float] = field(default_factory=dict)
    image_path: str = ""


_NAME, _NUMBER = re.compile(r"[a-z][A-Za-z0-9_]*\Z"), re.compile(r"\d+(\.\d+)?\Z")


def quoted(name: str) -> str:
    """A name as rule text spells it: plain if it can stand so, else in single quotes (of which it may then hold none)."""
    return name if _NAME.match(name) else "'" + name.replace("'", "’") + "'"


@dataclass(frozen=True, slots=True, order=True)
class Term:
    """A variable (written with a capital first letter) or a constant (quoted where it could be taken for something else)."""

    name: str
    is_variable: bool = True

    def __str__(self) -> str:
        return self.name if self.is_variable or _NUMBER.match(self.name) else quoted(self.name)


@dataclass(frozen=True, slots=True, order=True)
class Atom:
    """`predicate(args…)`; the predicate "=" is equality, its two arguments are infix when printed."""

    predicate: str
    args: tuple[Term, ...]

    @property
    def variables(self) -> tuple[Term, ...]:
        return tuple(dict.fromkeys(t for t in self.args if t.is_variable))

    def __str__(self) -> str:
        if self.predicate == "=":
            return f"{self.args[0]} = {self.args[1]}"
        return f"{quoted(self.predicate)}({', '.join(map(str, self.args))})"


@dataclass(frozen=True, slots=True)
class Rule:
    """`weight :: head :- body.`

    An empty head is a denial, several head atoms a conjunction, a head variable that the body lacks is existential. `weight`
    is the probability of the head where the body holds, None for a hard rule. `meta` and place are not part of its identity.
    """

    head: tuple[Atom, ...]
    body: tuple[Atom, ...]
    weight: float | None = None
    meta: Mapping[str, str] = field(default_factory=dict, compare=False)
    file: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    @property
    def id(self) -> str:
        return self.meta.get("id") or str(self)

    @property
    def existential(self) -> tuple[Term, ...]:
        """The head variables that no body atom binds."""
        bound = {v for atom in self.body for v in atom.variables}
        return tuple(dict.fromkeys(v for atom in self.head for v in atom.variables if v not in bound))

    def __str__(self) -> str:
        weight = "" if self.weight is None else f"{self.weight:.12g} :: "
        head = ", ".join(map(str, self.head))
        body = ", ".join(map(str, self.body))
        return f"{weight}{head}{' ' if head and body else ''}{':- ' + body if body else ''}."


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
