"""Scenes that might be: drawn from a few labelled ones and bent to what the rules say.

A refiner that has seen sixteen films knows sixteen scenes. The rules know more: a nodule may lie anywhere in either
lung, a heart lies between them. So a scene is built from parts of labelled ones and from chance, and each object's
place is chosen among `proposals` candidates with probability ∝ exp(−β E),

    E = Σᵣ cᵣ Σ_groundings of r with the candidate  premise (1 − head),      cᵣ = min(−log(1 − wᵣ), cap)

a Gibbs step per object in the Markov network that the weighted rules span (Richardson & Domingos 2006). What is in
every scene (the anatomy) comes from one labelled scene, the rest from another, moved by the map that takes the one's
anatomy to the other's, or is scattered by chance; how many there are of each class follows the labelled scenes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurosym.constraints.grounding import ground
from neurosym.constraints.shapes import ConstraintSet
from neurosym.errors import ConstraintError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ObjectScene:
    """Objects of known class on one image: labels count from 1, boxes are XYXY in the image's pixels."""

    labels: Int[Array, " object"]
    boxes: Float[Array, "object 4"]
    size: tuple[float, float]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class SamplerSettings:
    """`permanent`: in which share of the scenes a class must be, once, to count as anatomy; `jitter`: standard deviation of
    borders in shares of a box's side; `joint`: how often another scene's objects come together; `free`: how often a place is
    drawn over the whole image; `sharpness` β; `cap` the cost of breaking a hard rule."""

    permanent: float = 0.8
    jitter: float = 0.03
    move: float = 0.12
    joint: float = 0.65
    free: float = 0.5
    candidates: int = 16
    sharpness: float = 1.5
    cap: float = 5.0


class SceneSampler:
    """Draws scenes for one set of rules; the same generator state gives the same scenes."""

    def __init__(
        self, scenes: Sequence[ObjectScene], constraints: ConstraintSet, settings: SamplerSettings | None = None
    ) -> None:
        scenes = [s for s in scenes if len(s)]
        if not scenes:
            raise ConstraintError("no labelled scene has an object, so none can be sampled from them")
        self.scenes, self.constraints = scenes, constraints
        self.settings = settings or SamplerSettings()
        self.permanent = self._permanent_classes()
        weight = constraints.confidence.cpu().numpy().astype(float)
        cost = -np.log(np.clip(1.0 - weight, math.exp(-self.settings.cap), 1.0))
        self.cost = torch.from_numpy(cost.astype(np.float32))
        self.rates = {c: np.mean([(s.labels == c).sum() for s in scenes]) for c in range(1, len(constraints.names) + 1)}
        self.pool = {c: [(s, b) for s in scenes for b in s.boxes[s.labels == c]] for c in self.rates}

    def _permanent_classes(self) -> frozenset[int]:
        once = [{int(c) for c in s.labels if (s.labels == c).sum() == 1} for s in self.scenes]
        classes = set().union(*once)
        return frozenset(c for c in classes if np.mean([c in o for o in once]) >= self.settings.permanent)

    def sample(self, rng: np.random.Generator) -> ObjectScene:
        """One scene."""
        base = self.scenes[int(rng.integers(len(self.scenes)))]
        stays = np.isin(base.labels, list(self.permanent))
        labels = base.labels[stays].tolist()
        boxes = [self._jittered(b, self.settings.jitter, rng) for b in base.boxes[stays]]
        if boxes:
            boxes = list(_warped(np.stack(boxes), base.size, rng))
        here = _around(np.array(boxes), base.size)
        for label, source, box in self._others(rng):
            moved = self.carried(box, source, here)
            placed = self.place(labels, boxes, label, moved, here, base.size, rng)
            if placed is not None:
                labels.append(label)
                boxes.append(placed)
        stacked = np.stack(boxes) if boxes else np.zeros((0, 4))
        return ObjectScene(np.array(labels, dtype=np.int64), stacked, base.size)

    def place(
        self,
        labels: Sequence[int],
        boxes: Sequence[Array],
        label: int,
        box: Float[Array, " border"],
        frame: Float[Array, " border"],
        size: tuple[float, float],
        rng: np.random.Generator,
        masks_of: Callable[[Array], Tensor] | None = None,
    ) -> Float[Array, " border"] | None:
        """Where an object of about this box goes beside the objects that are there: one of the candidates, by what they break.

        `masks_of` gives, for candidates (candidate, 4), the masks of what is there and of each candidate; without it the rules
        are read on boxes. None if it may be nowhere on this image, as far as the candidates tell.
        """
        options = np.stack([self._placed(box, frame, size, rng) for _ in range(self.settings.candidates)])
        options = options[((options[:, 2:] - options[:, :2]) >= 2.0).all(1)]
        if not len(options):
            return None
        masks = None if masks_of is None else masks_of(options)
        energy = self._energy(list(labels), list(boxes), label, options, size, masks)
        if energy.min() > self.settings.cap and rng.random() > math.exp(-energy.min()):
            return None
        chance = np.exp(-self.settings.sharpness * (energy - energy.min()))
        return np.asarray(options[int(rng.choice(len(options), p=chance / chance.sum()))])

    def frame_of(self, scene: ObjectScene) -> Float[Array, " border"]:
        """The box around what is in every scene; the image where nothing is."""
        return frame_of(scene, self.permanent)

    def carried(
        self, box: Float[Array, " border"], source: ObjectScene, frame: Float[Array, " border"]
    ) -> Float[Array, " border"]:
        """A box of another scene, moved by the map that takes that scene's anatomy to the frame."""
        return mapped(box, self.frame_of(source), frame)

    def _others(self, rng: np.random.Generator) -> list[tuple[int, ObjectScene, Array]]:
        """Which objects beside the anatomy: those of another scene together, or as many of each class as chance has it."""
        if rng.random() < self.settings.joint:
            other = self.scenes[int(rng.integers(len(self.scenes)))]
            return [
                (int(c), other, b) for c, b in zip(other.labels, other.boxes, strict=True) if c not in self.permanent
            ]
        found = []
        for c, rate in self.rates.items():
            if c in self.permanent or not self.pool[c]:
                continue
            for _ in range(int(rng.poisson(rate))):
                source, box = self.pool[c][int(rng.integers(len(self.pool[c])))]
                found.append((c, source, box))
        return found

    def _jittered(self, box: Array, share: float, rng: np.random.Generator) -> Array:
        sides = np.tile(box[2:] - box[:2], 2)
        return np.asarray(box + rng.normal(0.0, share, 4) * sides)

    def _placed(self, box: Array, frame: Array, size: tuple[float, float], rng: np.random.Generator) -> Array:
        """The box with another size, near its place or anywhere in the frame, cut off at the image's borders."""
        half = (box[2:] - box[:2]) / 2 * np.exp(rng.normal(0.0, 0.2, 2))
        centre = (box[:2] + box[2:]) / 2
        if rng.random() < self.settings.free:
            centre = rng.uniform(frame[:2], frame[2:])
        else:
            centre = centre + rng.normal(0.0, self.settings.move, 2) * (frame[2:] - frame[:2])
        return np.asarray(np.clip(np.concatenate([centre - half, centre + half]), 0.0, np.tile(size, 2)))

    def _energy(
        self,
        labels: list[int],
        boxes: list[Array],
        label: int,
        options: Array,
        size: tuple[float, float],
        masks: Tensor | None,
    ) -> Float[Array, " option"]:
        """How much each option would break, beside the objects that are there."""
        there = len(labels)
        everything = torch.from_numpy(np.concatenate([*(b[None] for b in boxes), options]).astype(np.float32))
        one_hot = torch.zeros(len(everything), len(self.constraints.names) + 1)
        one_hot[torch.arange(len(everything)), torch.tensor([*labels, *[label] * len(options)])] = 1.0
        found = ground(self.constraints, one_hot, everything, size=size, masks=masks, temperature=0.02, threshold=0.3)
        broken = (self.cost[found.rule] * found.premise * (1.0 - found.head)).numpy()
        first, second = found.first.numpy(), found.second.numpy()
        energy = np.zeros(len(everything))
        alone = (first >= there) & (second < there)
        np.add.at(energy, first[alone], broken[alone])
        other = (second >= there) & (first < there)
        np.add.at(energy, second[other], broken[other])
        return energy[there:]


def frame_of(scene: ObjectScene, permanent: frozenset[int]) -> Float[Array, " border"]:
    """The box around the objects of the classes that are in every scene; the image where there is none."""
    return _around(scene.boxes[np.isin(scene.labels, list(permanent))], scene.size)


def _around(boxes: Array, size: tuple[float, float]) -> Array:
    if not len(boxes):
        return np.array([0.0, 0.0, *size])
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def mapped(box: Array, before: Array, after: Array) -> Array:
    """The box carried along by the map from one frame to another."""
    scale = np.tile((after[2:] - after[:2]) / np.maximum(before[2:] - before[:2], 1e-6), 2)
    return np.asarray(np.tile(after[:2], 2) + (box - np.tile(before[:2], 2)) * scale)


def _warped(boxes: Array, size: tuple[float, float], rng: np.random.Generator) -> Array:
    """All boxes scaled and shifted together, as by another pose."""
    middle = np.tile(size, 2) / 2
    shift = np.tile(rng.normal(0.0, 0.03, 2) * size, 2)
    posed = (boxes - middle) * np.exp(rng.normal(0.0, 0.06)) + middle + shift
    return np.asarray(np.clip(posed, 0.0, np.tile(size, 2)))
