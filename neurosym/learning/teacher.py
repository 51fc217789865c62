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
from jaxtyping import Float
from torch import Tensor

from neurosym.constraints.graph import ObjectScene, RefinedScene, SceneRefiner
from neurosym.learning.batches import augment, to_target, to_tensor
from neurosym.learning.box_jitter import reliable
from neurosym.learning.config import TeacherConfig
from neurosym.learning.objects import Objects, in_pixels, masks_of, sure_objects
from neurosym.learning.sampling import Moment
from neurosym.learning.strong_view import strong_view
from neurosym.learning.weak_targets import WeakTargets
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.detector import Detector
from neurosym.models.scene import SceneModel, SceneProposals, Target, unknown_masks
from neurosym.records import Sample

__all__ = [
    "Lesson",
    "Objects",
    "Reliability",
    "Teacher",
    "in_pixels",
    "lessons",
    "masks_of",
    "refine_all",
    "sure_objects",
    "target_scene",
]

Compose = Callable[[Sequence[Sample], Sequence[ObjectScene]], list[Sample]]
"""Samples and what is seen on each → the same with objects laid onto them, which alone they are annotated with."""


@dataclass(frozen=True)
class Lesson:
    """One unlabelled image as the student is shown it, with what the teacher said of it, in the same pixels.

    `target` are the sure objects, with masks of the image's size where the model has masks; `probabilities` and `boxes`
    everything that was refined (empty without a refiner, unless all regions were asked for); `seen` is the teacher's own scene
    and `plain` are the places of `boxes`, both in pixels of the plain image.
    """

    image: Float[Tensor, "3 height width"]
    target: Target
    probabilities: Float[Tensor, "refined leaf"]
    boxes: Float[Tensor, "refined 4"]
    seen: SceneProposals
    plain: Float[Tensor, "refined 4"]


@dataclass(frozen=True)
class Reliability:
    """How boxes are held to be reliable (see `neurosym.learning.box_jitter`), with the generator of a step's jitter."""

    jitters: int
    size: float
    bound: float
    rng: np.random.Generator

    @classmethod
    def of(cls, settings: TeacherConfig, seed: int, moment: Moment) -> Reliability | None:
        """That of a moment; None if every box is trusted."""
        if not settings.jitters:
            return None
        return cls(settings.jitters, settings.jitter, settings.variance, moment.draws(seed, 6))


class Teacher:
    """Predicts with the averaged weights; `follow` takes up the newest average."""

    def __init__(self, config: DetectorConfig, names: Sequence[str], device: torch.device) -> None:
        self.model: SceneModel = build_model(config, names, load=False).to(device).eval()
        if device.type == "cpu":  # its passes are faster so; the student's weights stay as they are
            self.model.to(memory_format=torch.channels_last)
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

    def reliable(self, images: list[Tensor], objects: Sequence[Objects], settings: Reliability) -> list[Tensor]:
        """Whether each object of the images that it looked at last is found again from nearby."""
        model = self.model
        assert isinstance(model, Detector), "only box heads can be asked about a box"
        boxes, labels = [o.boxes for o in objects], [o.labels for o in objects]
        s = settings
        return reliable(boxes, labels, lambda b, k: model.regress(images, b, k), s.rng, s.jitters, s.size, s.bound)


def target_scene(target: Target, image: Tensor) -> ObjectScene:
    """A target as a scene of its image, in its pixels."""
    height, width = image.shape[-2:]
    boxes = target["boxes"].double().cpu().numpy()
    return ObjectScene(target["labels"].cpu().numpy(), boxes, (float(width), float(height)))


def refine_all(refiner: SceneRefiner, scenes: Sequence[SceneProposals]) -> list[RefinedScene]:
    """Refine scenes that know their size (see `in_pixels`)."""
    return refiner.refine([(s.probabilities, s.boxes, s.size) for s in scenes if s.size is not None])


def lessons(
    samples: Sequence[Sample],
    teacher: Teacher,
    refiner: SceneRefiner | None,
    threshold: float | Sequence[float],
    rng: np.random.Generator | None,
    compose: Compose | None = None,
    regions: bool = False,
    *,
    weak: WeakTargets | None = None,
    reliability: Reliability | None = None,
    strong: np.random.Generator | None = None,
) -> list[Lesson]:
    """What the student is to learn from unlabelled samples; images, boxes and masks are augmented together if `rng` is given.

    The teacher looks at the plain images; `compose` then lays objects onto them, which are added to what it is sure of. Of an
    object whose mask has no pixel the shape is unknown, not empty: its pixels teach nothing. With `regions` the lessons tell
    everything that was seen even where nothing refines it.

    `threshold` is one for all classes or one for each. `weak` makes what the teacher says agree with what samples are annotated
    with; `reliability` tells boxes that teach offsets from those that do not; `strong` draws the student's harder view.
    """
    images = [to_tensor(s.image, teacher.device) for s in samples]
    scenes = teacher.look(images)
    refined = refine_all(refiner, scenes) if refiner is not None else [None] * len(scenes)
    told = [scene if better is None else better for scene, better in zip(scenes, refined, strict=True)]
    if weak is None:
        objects = [sure_objects(t.probabilities, t.boxes, threshold) for t in told]
    else:
        whole = [SceneProposals(t.probabilities, t.boxes, None, s.size) for t, s in zip(told, scenes, strict=True)]
        objects = [weak.refined(s, scene, threshold) for s, scene in zip(samples, whole, strict=True)]
    targets = [o.target for o in objects]
    if reliability is not None:
        certain = teacher.reliable(images, objects, reliability)
        targets = [t | {"certainty": c.float()} for t, c in zip(targets, certain, strict=True)]
    if all(s.masks is not None for s in scenes):
        parts = zip(targets, teacher.masks(images, scenes, objects), strict=True)
        targets = [t | {"masks": _known(t["boxes"], masks)} for t, masks in parts]
    if weak is not None:
        known = [weak.annotated(s, masks="masks" in t) for s, t in zip(samples, targets, strict=True)]
        targets = [t if k is None else _with(t, k) for t, k in zip(targets, known, strict=True)]
    if compose is not None:
        films = compose(samples, [target_scene(t, i) for t, i in zip(targets, images, strict=True)])
        images = [to_tensor(film.image, teacher.device) for film in films]
        targets = [_joined(t, film, teacher) for t, film in zip(targets, films, strict=True)]
    found = []
    for image, scene, better, told_of_it, target in zip(images, scenes, refined, told, targets, strict=True):
        soft = told_of_it.boxes if better is not None or regions else told_of_it.boxes[:0]
        image, shown, rows, boxes = _shown(image, target, soft, rng)
        if strong is not None:
            image = strong_view(image, strong)
        found.append(Lesson(image, shown, told_of_it.probabilities[rows], boxes, scene, told_of_it.boxes[rows]))
    return found


def _joined(target: Target, film: Sample, teacher: Teacher) -> Target:
    """The target, and what was laid onto the film."""
    return _with(target, to_target(film, teacher.model.names, masks="masks" in target))


def _with(target: Target, more: Target) -> Target:
    """A target with more objects, which are certain."""
    more = {"certainty": torch.ones_like(more["boxes"][:, 0])} | more
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
    if "certainty" in target:
        shown["certainty"] = target["certainty"][number[sure]]
    return image, shown, number[~sure] - count, moved["boxes"][~sure]


def _known(boxes: Tensor, masks: Tensor) -> Tensor:
    """The masks as a target has them."""
    unknown = unknown_masks(boxes, *masks.shape[1:])
    return torch.where(masks.flatten(1).any(1)[:, None, None], masks.to(torch.uint8), unknown)


def _moved(image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
    moved, changed = augment(image.cpu(), {k: v.cpu() for k, v in target.items()}, rng)
    return moved.to(image.device), {k: v.to(image.device) for k, v in changed.items()}
