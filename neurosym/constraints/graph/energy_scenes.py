"""The scenes that an energy learns from: labelled ones, the detector's own, and spoilt ones, in one form.

What tells a labelled scene from a detector's must be what is true of the film, not that labels are sure of themselves and few.
So a label is smoothed, and a labelled film that the detector has seen gives a second labelled scene, the relabelled one: the
detector's own boxes and image features, its own probabilities drawn towards the true class of each. Against it stand the
detector's output itself and corrupted scenes: the same boxes with something exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.constraints.graph.error_model import ErrorModel, intersection_over_union
from neurosym.constraints.graph.sampler import ObjectScene
from neurosym.errors import ConstraintError, Problem, did_you_mean

SAME_OBJECT = 0.5
"""Intersection over union from which on a proposal is of an object's class."""


@dataclass(frozen=True)
class EnergyScene:
    """One image's objects: class probabilities (background first), boxes in its pixels, image features of each box.

    `wrongness` in [0, 1] matters where the scene stands against labelled ones: the share of the full margin by which it should
    lie above them. What a detector says of a film without labels may be right: give it less than 1.
    """

    probabilities: Float[Tensor, "box leaf"]
    boxes: Float[Tensor, "box 4"]
    size: tuple[float, float]
    features: Float[Tensor, "box channel"] | None = None
    wrongness: float = 1.0

    def detached(self) -> EnergyScene:
        """The same without gradients."""
        features = None if self.features is None else self.features.detach()
        return replace(self, probabilities=self.probabilities.detach(), boxes=self.boxes.detach(), features=features)

    def with_fixed_boxes(self) -> EnergyScene:
        """The same with gradients to the probabilities only."""
        return replace(self, boxes=self.boxes.detach())


def labelled_scene(
    objects: ObjectScene, leaves: int, features: Float[Tensor, "box channel"] | None = None, smoothing: float = 0.1
) -> EnergyScene:
    """Labels as a scene: 1 − smoothing for the true one of `leaves` classes, the rest shared by the others and the background.

    `features` are those of the image in the true boxes.
    """
    chosen = torch.from_numpy(objects.labels.astype(np.int64))
    boxes = torch.from_numpy(objects.boxes.astype(np.float32)).reshape(-1, 4)
    return EnergyScene(_smoothed(chosen, leaves, smoothing), boxes, _size(objects), features)


def relabelled_scene(objects: ObjectScene, seen: EnergyScene, keep: float = 0.3) -> EnergyScene:
    """What the detector should have said of its own boxes: its probabilities, of which a share is kept, and the true class.

    A box is of the class of the object that it overlaps most, from `SAME_OBJECT` on, else background.
    """
    seen = seen.detached()
    overlap = intersection_over_union(seen.boxes.cpu().numpy(), objects.boxes)
    label = np.zeros(len(seen.boxes), dtype=np.int64)
    if len(objects) and len(label):
        label = np.where(overlap.max(1) >= SAME_OBJECT, objects.labels[overlap.argmax(1)], 0)
    truth = _smoothed(torch.from_numpy(label), seen.probabilities.shape[1] - 1, 0.0).to(seen.probabilities)
    return replace(seen, probabilities=keep * seen.probabilities + (1.0 - keep) * truth)


def judged_scene(objects: ObjectScene, seen: EnergyScene) -> EnergyScene:
    """What the detector said, with how wrong it is: the most probability that one of its boxes has in the wrong place."""
    right = relabelled_scene(objects, seen, keep=0.0).probabilities
    apart = 0.5 * (right - seen.probabilities.detach()).abs().sum(1)
    return replace(seen.detached(), wrongness=float(apart.max()) if len(apart) else 0.0)


def spoilt_scene(
    objects: ObjectScene,
    errors: ErrorModel,
    rng: np.random.Generator,
    pool: Callable[[Float[Tensor, "box 4"]], Float[Tensor, "box channel"]] | None = None,
) -> EnergyScene:
    """A labelled (or sampled) scene as the detector might have seen it; `pool` reads the image's features in its boxes."""
    probabilities, boxes = (torch.from_numpy(v.astype(np.float32)) for v in errors.spoil(objects, rng))
    boxes = boxes.reshape(-1, 4)
    return EnergyScene(probabilities, boxes, _size(objects), None if pool is None else pool(boxes))


def corrupted_scene(
    scene: EnergyScene, rng: np.random.Generator, kind: str | None = None, steps: int = 1, least: float = 0.1
) -> EnergyScene:
    """The scene with one thing wrong, or a few: see `CORRUPTIONS`; without `kind` each is drawn by chance.

    Wrong probabilities are mixed with the right ones, of which at most the share 1 − `least` stays (detectors are seldom sure
    of their errors), and the scene is as wrong as the greatest share of the wrong ones; a misplaced box or image is entirely
    wrong. A scene of fewer than two objects can only be relabelled; an empty one stays, and is not wrong.

    Raises:
        ConstraintError: unknown kind.
    """
    if kind is not None and kind not in CORRUPTIONS:
        raise ConstraintError(Problem(f"unknown corruption {kind!r}", cure=did_you_mean(kind, CORRUPTIONS)))
    scene, worst = scene.detached(), 0.0
    names = [k for k in CORRUPTIONS if k != "features" or scene.features is not None]
    for _ in range(steps if len(scene.boxes) else 0):
        chosen = kind or names[int(rng.integers(len(names)))]
        wrong = CORRUPTIONS[chosen if len(scene.boxes) > 1 else "relabel"](scene, rng)
        relabelled = wrong.probabilities is not scene.probabilities
        share = float(rng.uniform(least, 1.0)) if relabelled else 1.0
        scene = replace(wrong, probabilities=scene.probabilities.lerp(wrong.probabilities, share))
        worst = max(worst, share)
    return replace(scene, wrongness=worst)


def _relabel(scene: EnergyScene, rng: np.random.Generator) -> EnergyScene:
    """One object changes its likeliest class for another, the background among them."""
    p = scene.probabilities.clone()
    n = _object(scene, rng)
    best = int(p[n].argmax())
    other = int(rng.choice([c for c in range(p.shape[1]) if c != best]))
    p[n, [best, other]] = p[n, [other, best]]
    return replace(scene, probabilities=p)


def _exchange(scene: EnergyScene, rng: np.random.Generator) -> EnergyScene:
    """Two boxes of different likeliest class change their probabilities."""
    n = _object(scene, rng)
    best = scene.probabilities.argmax(1)
    others = (best != best[n]).nonzero()[:, 0].tolist()
    if not others:
        return _relabel(scene, rng)
    m = int(rng.choice(others))
    p = scene.probabilities.clone()
    p[[n, m]] = p[[m, n]]
    return replace(scene, probabilities=p)


def _move(scene: EnergyScene, rng: np.random.Generator) -> EnergyScene:
    """One box lies elsewhere on the image, with the image features of where it was."""
    n, boxes = _object(scene, rng), scene.boxes.clone()
    sides = (boxes[n, 2:] - boxes[n, :2]).clamp_min(1.0)
    room = (boxes.new_tensor(scene.size) - sides).clamp_min(0.0)
    corner = boxes.new_tensor(rng.random(2).tolist()) * room
    boxes[n] = torch.cat([corner, corner + sides])
    return replace(scene, boxes=boxes)


def _features(scene: EnergyScene, rng: np.random.Generator) -> EnergyScene:
    """Two boxes of different likeliest class change their image features: as a graph the scene is what it was."""
    assert scene.features is not None
    n, best = _object(scene, rng), scene.probabilities.argmax(1)
    others = (best != best[n]).nonzero()[:, 0].tolist()
    if not others:
        return _relabel(scene, rng)
    m = int(rng.choice(others))
    features = scene.features.clone()
    features[[n, m]] = features[[m, n]]
    return replace(scene, features=features)


CORRUPTIONS: dict[str, Callable[[EnergyScene, np.random.Generator], EnergyScene]] = {
    "relabel": _relabel,
    "exchange": _exchange,
    "move": _move,
    "features": _features,
}
"""What may be wrong with a scene; `features` only where there are any."""


def _object(scene: EnergyScene, rng: np.random.Generator) -> int:
    """A box, those that are likelier an object first: a change of the background changes little."""
    weight = 1.0 - scene.probabilities[:, 0].double().cpu().numpy() + 1e-3
    return int(rng.choice(len(weight), p=weight / weight.sum()))


def _smoothed(labels: Tensor, leaves: int, smoothing: float) -> Tensor:
    p = torch.full((len(labels), leaves + 1), smoothing / leaves)
    p[torch.arange(len(labels)), labels] = 1.0 - smoothing
    return p


def _size(objects: ObjectScene) -> tuple[float, float]:
    return float(objects.size[0]), float(objects.size[1])
