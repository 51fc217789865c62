"""The detector's own errors, kept as examples: how it saw each true object, and what it saw where nothing is.

A refiner must learn from scenes spoilt in the way in which its detector spoils them: this confusion, these offsets, these false
alarms. No family of distributions is assumed: for each true object the proposals that fell to it are kept, with their class
probabilities and their borders in units of the object; for each film the rest, in units of the film's anatomy. To spoil a
sampled scene, every object is given the proposals of a random true object of its class (bootstrap; Efron 1979), a class with
too few of them borrows from its siblings in the ontology with the two columns exchanged. What a few films cannot show is which
classes will be taken for each other on new ones; there the ontology is the prior: a share of objects is confused with a sibling
(two sides of one finding, two kinds of opacity), its two columns mixed at random.

Predictions on films that were trained on are too good. What is observed should be films the detector has not seen, with known
truth: `neurosym.learning.composed` makes such films from labelled ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from neurosym.constraints.graph.sampler import Array, ObjectScene, frame_of, mapped
from neurosym.knowledge import Ontology
from neurosym.knowledge.geometry import iou

OWN = 0.2
"""Intersection over union from which on a proposal falls to an object."""
_FEW = 6
"""Examples below which a class also borrows from its siblings."""


@dataclass(frozen=True)
class Seen:
    """What fell to one true object: probabilities, and borders in units of the object's sides."""

    probabilities: Float[Array, "proposal leaf"]
    offsets: Float[Array, "proposal 4"]


@dataclass
class ErrorModel:
    """Collects examples (`observe`) and spoils scenes with them (`spoil`)."""

    names: tuple[str, ...]
    ontology: Ontology
    permanent: frozenset[int]
    keep: int = 32
    confusion: float = 0.3
    """The share of objects that are confused with a sibling beyond what was seen."""
    objects: dict[int, list[Seen]] = field(default_factory=dict)
    alarms: list[tuple[Array, Array, Array]] = field(default_factory=list)

    def observe(
        self, scene: ObjectScene, probabilities: Float[Array, "proposal leaf"], boxes: Float[Array, "proposal 4"]
    ) -> None:
        """Keep how the detector saw one labelled scene."""
        overlap = intersection_over_union(boxes, scene.boxes)
        owner = overlap.argmax(1) if len(scene) else np.zeros(len(boxes), dtype=int)
        owned = overlap.max(1) >= OWN if len(scene) else np.zeros(len(boxes), dtype=bool)
        for k, (label, box) in enumerate(zip(scene.labels, scene.boxes, strict=True)):
            mine = owned & (owner == k)
            sides = np.tile(np.maximum(box[2:] - box[:2], 1e-6), 2)
            seen = Seen(probabilities[mine], (boxes[mine] - box) / sides)
            self.objects.setdefault(int(label), []).append(seen)
        self.alarms.append((probabilities[~owned], boxes[~owned], frame_of(scene, self.permanent)))

    def spoil(self, scene: ObjectScene, rng: np.random.Generator) -> tuple[Array, Array]:
        """Class probabilities and boxes as the detector might have given them for this scene, surest first."""
        probabilities, boxes = [np.zeros((0, len(self.names) + 1))], [np.zeros((0, 4))]
        for label, box in zip(scene.labels, scene.boxes, strict=True):
            seen = self._example(int(label), rng)
            if seen is not None:
                probabilities.append(self._confused(int(label), seen.probabilities, rng))
                boxes.append(box + seen.offsets * np.tile(box[2:] - box[:2], 2))
        if self.alarms:
            p, b, frame = self.alarms[int(rng.integers(len(self.alarms)))]
            here = frame_of(scene, self.permanent)
            probabilities.append(p)
            boxes.append(np.stack([mapped(x, frame, here) for x in b]) if len(b) else b)
        return self._finished(np.concatenate(probabilities), np.concatenate(boxes), scene.size, rng)

    def _finished(
        self, probabilities: Array, boxes: Array, size: tuple[float, float], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """A little noise on everything, so that no example is met twice; then as many as a scene keeps."""
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        boxes = np.clip(boxes + rng.normal(0.0, 0.005, boxes.shape) * sides, 0.0, np.tile(size, 2))
        noisy = (probabilities + 1e-5) * np.exp(rng.normal(0.0, 0.25, probabilities.shape))
        noisy = noisy / noisy.sum(1, keepdims=True)
        whole = ((boxes[:, 2:] - boxes[:, :2]) >= 1.0).all(1)
        noisy, boxes = noisy[whole], boxes[whole]
        order = np.argsort(noisy[:, 0], kind="stable")[: self.keep]
        return noisy[order], boxes[order]

    def _example(self, label: int, rng: np.random.Generator) -> Seen | None:
        own = self.objects.get(label, [])
        siblings = self._siblings(label)
        borrow = siblings and (not own or rng.random() < 0.5 * max(0.0, 1 - len(own) / _FEW))
        if not borrow:
            return own[int(rng.integers(len(own)))] if own else None
        other = siblings[int(rng.integers(len(siblings)))]
        seen = self.objects[other][int(rng.integers(len(self.objects[other])))]
        swapped = seen.probabilities.copy()
        swapped[:, [label, other]] = swapped[:, [other, label]]
        return Seen(swapped, seen.offsets)

    def _confused(self, label: int, probabilities: Array, rng: np.random.Generator) -> Array:
        """The proposals of one object, perhaps with a part of its own column in the column of a sibling, and the reverse."""
        siblings = self._near(label, range(1, len(self.names) + 1))
        if not siblings or label in self.permanent or rng.random() >= self.confusion:
            return probabilities
        other = siblings[int(rng.integers(len(siblings)))]
        part = rng.uniform()
        mixed = probabilities.copy()
        mixed[:, label] = (1 - part) * probabilities[:, label] + part * probabilities[:, other]
        mixed[:, other] = (1 - part) * probabilities[:, other] + part * probabilities[:, label]
        return mixed

    def _near(self, label: int, among: Iterable[int]) -> list[int]:
        """The classes that share a parent with this one."""
        classes = self.ontology.classes
        mine = classes[self.names[label - 1]].parents
        return [c for c in among if c != label and classes[self.names[c - 1]].parents & mine]

    def _siblings(self, label: int) -> Sequence[int]:
        """Classes with examples that share a parent with this one; any that is no anatomy if there is none."""
        others = [c for c in sorted(self.objects) if c != label and c not in self.permanent]
        near = self._near(label, others)
        return near or others


def intersection_over_union(a: Float[Array, "first 4"], b: Float[Array, "second 4"]) -> Float[Array, "first second"]:
    """Of every pair of boxes."""
    return np.asarray(iou(a[:, None], b[None], np))
