"""The teacher: a weight average of the student that looks at unlabelled images and says what is on them.

A mean teacher for detectors (Tarvainen & Valpola 2017; Liu et al., Unbiased Teacher, 2021): it sees the plain image, its sure
objects become the student's targets on the augmented one. With a refiner, what it says is first put into the company of
everything else on the image, of the ontology and of the rules (`neurosym.constraints.graph`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import nms

from neurosym.constraints.graph import ObjectScene, RefinedScene, SceneRefiner
from neurosym.learning.batches import augment, to_target, to_tensor
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.scene import SceneModel, SceneProposals, Target
from neurosym.records import Sample

Compose = Callable[[Sequence[Sample], Sequence[ObjectScene]], list[Sample]]
"""Samples and what is seen on each → the same with objects laid onto them, which alone they are annotated with."""
SUPPRESS = 0.5
"""Intersection over union above which two pseudo-labels of one class are one object."""


@dataclass(frozen=True)
class Lesson:
    """One unlabelled image as the student is shown it, with what the teacher said of it, in the same pixels.

    `target` are the sure objects; `probabilities` and `boxes` everything that was refined (empty without a refiner); `seen` is
    the teacher's own scene, in pixels of the plain image.
    """

    image: Float[Tensor, "3 height width"]
    target: Target
    probabilities: Float[Tensor, "refined leaf"]
    boxes: Float[Tensor, "refined 4"]
    seen: SceneProposals


class Teacher:
    """Predicts with the averaged weights; `follow` takes up the newest average."""

    def __init__(self, config: DetectorConfig, names: Sequence[str], device: torch.device) -> None:
        self.model: SceneModel = build_model(config, names, load=False).to(device).eval()
        self.device = device

    def follow(self, average: dict[str, Tensor]) -> None:
        """Take up the averaged weights."""
        self.model.load_state_dict(average)

    @torch.no_grad()
    def look(self, images: list[Tensor]) -> list[SceneProposals]:
        """The scenes of plain images, boxes in pixels of those images."""
        return [in_pixels(s, image) for s, image in zip(self.model.propose(images), images, strict=True)]


def in_pixels(scene: SceneProposals, image: Tensor) -> SceneProposals:
    """A scene with its boxes in pixels of the image that it was made from, not of the scaled one."""
    height, width = map(float, image.shape[-2:])
    before = scene.size or (width, height)
    scale = scene.boxes.new_tensor([width / before[0], height / before[1]] * 2)
    return SceneProposals(scene.probabilities, scene.boxes * scale, scene.masks, (width, height))


def refine_all(refiner: SceneRefiner, scenes: Sequence[SceneProposals]) -> list[RefinedScene]:
    """Refine scenes that know their size (see `in_pixels`)."""
    return refiner.refine([(s.probabilities, s.boxes, s.size) for s in scenes if s.size is not None])


def sure_objects(
    probabilities: Float[Tensor, "box leaf"],
    boxes: Float[Tensor, "box 4"],
    threshold: float,
    scores: Float[Tensor, "box leaf"] | None = None,
) -> tuple[Target, Float[Tensor, " object"]]:
    """The objects of at least `threshold`, each class with its duplicates suppressed, as a target; and their scores."""
    scores = probabilities if scores is None else scores
    found_boxes, found_labels, found_scores = [boxes[:0]], [boxes.new_zeros(0, dtype=torch.int64)], [boxes.new_zeros(0)]
    for label in range(1, probabilities.shape[1]):
        chosen = (scores[:, label] >= threshold).nonzero()[:, 0]
        kept = chosen[nms(boxes[chosen], scores[chosen, label], SUPPRESS)]
        found_boxes.append(boxes[kept])
        found_labels.append(torch.full_like(kept, label))
        found_scores.append(scores[kept, label])
    return {"boxes": torch.cat(found_boxes), "labels": torch.cat(found_labels)}, torch.cat(found_scores)


def lessons(
    samples: Sequence[Sample],
    teacher: Teacher,
    refiner: SceneRefiner | None,
    threshold: float,
    rng: np.random.Generator | None,
    compose: Compose | None = None,
) -> list[Lesson]:
    """What the student is to learn from unlabelled samples; images and boxes are augmented together if a generator is given.

    The teacher looks at the plain images; `compose` then lays objects onto them, which are added to what it is sure of.
    """
    images = [to_tensor(s.image, teacher.device) for s in samples]
    scenes = teacher.look(images)
    refined = refine_all(refiner, scenes) if refiner is not None else [None] * len(scenes)
    everything = [scene if better is None else better for scene, better in zip(scenes, refined, strict=True)]
    targets = [sure_objects(told.probabilities, told.boxes, threshold)[0] for told in everything]
    if compose is not None:
        films = compose(samples, [_objects(t, i) for t, i in zip(targets, images, strict=True)])
        images = [to_tensor(film.image, teacher.device) for film in films]
        targets = [_joined(t, film, teacher) for t, film in zip(targets, films, strict=True)]
    found = []
    for image, scene, better, told, target in zip(images, scenes, refined, everything, targets, strict=True):
        soft = told.boxes if better is not None else told.boxes[:0]
        # the sure objects and the refined ones move with the image at once; the labels are their numbers on the way
        boxes = torch.cat([target["boxes"], soft])
        moved: Target = {"boxes": boxes, "labels": torch.arange(len(boxes), device=boxes.device)}
        if rng is not None:
            image, moved = _moved(image, moved, rng)
        sure = moved["labels"] < len(target["labels"])
        shown = {"boxes": moved["boxes"][sure], "labels": target["labels"][moved["labels"][sure]]}
        probabilities = told.probabilities[moved["labels"][~sure] - len(target["labels"])]
        found.append(Lesson(image, shown, probabilities, moved["boxes"][~sure], scene))
    return found


def _objects(target: Target, image: Tensor) -> ObjectScene:
    """A target as a scene of its image."""
    height, width = image.shape[-2:]
    boxes = target["boxes"].double().cpu().numpy()
    return ObjectScene(target["labels"].cpu().numpy(), boxes, (float(width), float(height)))


def _joined(target: Target, film: Sample, teacher: Teacher) -> Target:
    """The target, and what was laid onto the film."""
    more = to_target(film, teacher.model.names)
    return {k: torch.cat([v, more[k].to(v)]) for k, v in target.items()}


def _moved(image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
    moved, changed = augment(image.cpu(), {k: v.cpu() for k, v in target.items()}, rng)
    return moved.to(image.device), {k: v.to(image.device) for k, v in changed.items()}
