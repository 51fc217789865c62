"""The teacher: a weight average of the student that looks at unlabelled images and says what is on them.

A mean teacher for detectors (Tarvainen & Valpola 2017; Liu et al., Unbiased Teacher, 2021): it sees the plain image, its sure
objects become the student's targets on the augmented one. With a refiner, what it says is first put into the company of
everything else on the image, of the ontology and of the rules (`neurosym.constraints.graph`). Where the model has masks, so
have the targets: of the proposal that an object was, or of the mask branch on the refined box (`SceneModel.masks_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import nms

from neurosym.constraints.graph import ObjectScene, RefinedScene, SceneRefiner
from neurosym.learning.batches import augment, to_target, to_tensor
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.scene import SceneModel, SceneProposals, Target, unknown_masks
from neurosym.records import Sample

Compose = Callable[[Sequence[Sample], Sequence[ObjectScene]], list[Sample]]
"""Samples and what is seen on each → the same with objects laid onto them, which alone they are annotated with."""
SUPPRESS = 0.5
"""Intersection over union above which two pseudo-labels of one class are one object."""


@dataclass(frozen=True)
class Lesson:
    """One unlabelled image as the student is shown it, with what the teacher said of it, in the same pixels.

    `target` are the sure objects, with masks of the image's size where the model has masks; `probabilities` and `boxes`
    everything that was refined (empty without a refiner); `seen` is the teacher's own scene, in pixels of the plain image.
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

    def masks(self, images: list[Tensor], scenes: Sequence[SceneProposals], objects: Sequence[Objects]) -> list[Tensor]:
        """The masks of objects on the images that it looked at last (see `masks_of`)."""
        return masks_of(self.model, images, scenes, objects)


def in_pixels(scene: SceneProposals, image: Tensor) -> SceneProposals:
    """A scene with its boxes in pixels of the image that it was made from, not of the scaled one."""
    height, width = map(float, image.shape[-2:])
    before = scene.size or (width, height)
    scale = scene.boxes.new_tensor([width / before[0], height / before[1]] * 2)
    return SceneProposals(scene.probabilities, scene.boxes * scale, scene.masks, (width, height))


def target_scene(target: Target, image: Tensor) -> ObjectScene:
    """A target as a scene of its image, in its pixels."""
    height, width = image.shape[-2:]
    boxes = target["boxes"].double().cpu().numpy()
    return ObjectScene(target["labels"].cpu().numpy(), boxes, (float(width), float(height)))


def refine_all(refiner: SceneRefiner, scenes: Sequence[SceneProposals]) -> list[RefinedScene]:
    """Refine scenes that know their size (see `in_pixels`)."""
    return refiner.refine([(s.probabilities, s.boxes, s.size) for s in scenes if s.size is not None])


@dataclass(frozen=True)
class Objects:
    """Objects that were picked from a scene: `proposal` is the row of the scene that each of them is."""

    boxes: Float[Tensor, "object 4"]
    labels: Int[Tensor, " object"]
    scores: Float[Tensor, " object"]
    proposal: Int[Tensor, " object"]

    @property
    def target(self) -> Target:
        """Boxes and labels."""
        return {"boxes": self.boxes, "labels": self.labels}


def sure_objects(
    probabilities: Float[Tensor, "box leaf"],
    boxes: Float[Tensor, "box 4"],
    threshold: float,
    scores: Float[Tensor, "box leaf"] | None = None,
) -> Objects:
    """The objects of at least `threshold`, each class with its duplicates suppressed."""
    scores = probabilities if scores is None else scores
    none = boxes.new_zeros(0, dtype=torch.int64)
    found, labels, found_scores = [none], [none], [boxes.new_zeros(0)]
    for label in range(1, probabilities.shape[1]):
        chosen = (scores[:, label] >= threshold).nonzero()[:, 0]
        kept = chosen[nms(boxes[chosen], scores[chosen, label], SUPPRESS)]
        found.append(kept)
        labels.append(torch.full_like(kept, label))
        found_scores.append(scores[kept, label])
    proposal = torch.cat(found)
    return Objects(boxes[proposal], torch.cat(labels), torch.cat(found_scores), proposal)


def masks_of(
    model: SceneModel, images: list[Tensor], scenes: Sequence[SceneProposals], objects: Sequence[Objects]
) -> list[Bool[Tensor, "object height width"]]:
    """Masks of each image's size of the objects picked from the scenes that the model has just proposed, refined or not."""
    own = [s.masks[o.proposal] for s, o in zip(scenes, objects, strict=True) if s.masks is not None]
    return model.masks_of(images, [o.boxes for o in objects], [o.labels for o in objects], own)


def lessons(
    samples: Sequence[Sample],
    teacher: Teacher,
    refiner: SceneRefiner | None,
    threshold: float,
    rng: np.random.Generator | None,
    compose: Compose | None = None,
) -> list[Lesson]:
    """What the student is to learn from unlabelled samples; images, boxes and masks are augmented together if `rng` is given.

    The teacher looks at the plain images; `compose` then lays objects onto them, which are added to what it is sure of. Of an
    object whose mask has no pixel the shape is unknown, not empty: its pixels teach nothing.
    """
    images = [to_tensor(s.image, teacher.device) for s in samples]
    scenes = teacher.look(images)
    refined = refine_all(refiner, scenes) if refiner is not None else [None] * len(scenes)
    told = [scene if better is None else better for scene, better in zip(scenes, refined, strict=True)]
    objects = [sure_objects(t.probabilities, t.boxes, threshold) for t in told]
    targets = [o.target for o in objects]
    if all(s.masks is not None for s in scenes):
        parts = zip(targets, teacher.masks(images, scenes, objects), strict=True)
        targets = [t | {"masks": _known(t["boxes"], masks)} for t, masks in parts]
    if compose is not None:
        films = compose(samples, [target_scene(t, i) for t, i in zip(targets, images, strict=True)])
        images = [to_tensor(film.image, teacher.device) for film in films]
        targets = [_joined(t, film, teacher) for t, film in zip(targets, films, strict=True)]
    found = []
    for image, scene, better, told_of_it, target in zip(images, scenes, refined, told, targets, strict=True):
        soft = told_of_it.boxes if better is not None else told_of_it.boxes[:0]
        image, shown, rows, boxes = _shown(image, target, soft, rng)
        found.append(Lesson(image, shown, told_of_it.probabilities[rows], boxes, scene))
    return found


def _joined(target: Target, film: Sample, teacher: Teacher) -> Target:
    """The target, and what was laid onto the film."""
    more = to_target(film, teacher.model.names, masks="masks" in target)
    return {k: torch.cat([v, more[k].to(v)]) for k, v in target.items()}


def _shown(
    image: Tensor, target: Target, soft: Tensor, rng: np.random.Generator | None
) -> tuple[Tensor, Target, Tensor, Tensor]:
    """The image, the target, and which of the soft boxes are left and where, all moved together."""
    count = len(target["labels"])
    boxes = torch.cat([target["boxes"], soft])
    # the labels are the objects' numbers on the way
    moved: Target = {"boxes": boxes, "labels": torch.arange(len(boxes), device=boxes.device)}
    if "masks" in target:
        moved["masks"] = torch.cat([target["masks"], target["masks"].new_zeros(len(soft), *image.shape[-2:])])
    if rng is not None:
        image, moved = _moved(image, moved, rng)
    number = moved["labels"]
    sure = number < count
    shown = {k: v[sure] for k, v in moved.items()} | {"labels": target["labels"][number[sure]]}
    return image, shown, number[~sure] - count, moved["boxes"][~sure]


def _known(boxes: Tensor, masks: Tensor) -> Tensor:
    """The masks as a target has them."""
    unknown = unknown_masks(boxes, *masks.shape[1:])
    return torch.where(masks.flatten(1).any(1)[:, None, None], masks.to(torch.uint8), unknown)


def _moved(image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
    moved, changed = augment(image.cpu(), {k: v.cpu() for k, v in target.items()}, rng)
    return moved.to(image.device), {k: v.to(image.device) for k, v in changed.items()}
