"""Objects picked from what a model proposes, for pseudo-labels and for predictions that are refined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import nms

from neurosym.models.scene import SceneModel, SceneProposals, Target

SUPPRESS = 0.5
"""Intersection over union above which two objects of one class are one."""


def in_pixels(scene: SceneProposals, image: Tensor) -> SceneProposals:
    """A scene with its boxes in pixels of the image that it was made from, not of the scaled one."""
    height, width = map(float, image.shape[-2:])
    before = scene.size or (width, height)
    scale = scene.boxes.new_tensor([width / before[0], height / before[1]] * 2)
    return SceneProposals(scene.probabilities, scene.boxes * scale, scene.masks, (width, height))


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
    threshold: float | Sequence[float],
    scores: Float[Tensor, "box leaf"] | None = None,
) -> Objects:
    """The objects of at least `threshold` (of all classes, or of each), each class with its duplicates suppressed."""
    scores = probabilities if scores is None else scores
    none = boxes.new_zeros(0, dtype=torch.int64)
    found, labels, found_scores = [none], [none], [boxes.new_zeros(0)]
    for label in range(1, probabilities.shape[1]):
        bound = threshold if isinstance(threshold, float) else threshold[label - 1]
        chosen = (scores[:, label] >= bound).nonzero()[:, 0]
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
