"""Boxes that have several labels, as a one-stage detector learns, shows and detects them.

A data set keeps one annotation a label, as COCO does; those with the same box are one object. An anchor's target is the set of
its object's labels, one of 0 and 1 for each class, under the focal loss (Lin et al., ICCV 2017, eq. 5), which has a sigmoid a
class already. Constraints see those sigmoids as they are, and the background as the event that none is true:

    p₀ = Π_k (1 − σ_k),     p_k = σ_k

so that rows need not sum to 1 (for classes that exclude each other, see `neurosym.models.retinanet.exclusive`). Of
near-duplicate boxes the surest stays, whatever its labels: an object is detected once, with every label that scores at least
the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import clip_boxes_to_image, nms, sigmoid_focal_loss

from neurosym.models.scene import Target


def independent(logits: Float[Tensor, "box class"]) -> Float[Tensor, "box leaf"]:
    """Each class's sigmoid, and first the probability that none of them is true."""
    none = F.logsigmoid(-logits).sum(1, keepdim=True).exp()
    return torch.cat([none, logits.sigmoid()], 1)


def joined(target: Target, classes: int) -> Target:
    """A target with each box once, and which classes are annotated at it: `labels` (box, class) of 0 and 1.

    Args:
        target: its `labels` count from 0.
    """
    boxes, which = torch.unique(target["boxes"], dim=0, return_inverse=True)
    labels = boxes.new_zeros(len(boxes), classes)
    labels[which, target["labels"]] = 1.0
    return target | {"boxes": boxes, "labels": labels}


def class_loss(
    logits: Float[Tensor, "image anchor class"],
    labels: Sequence[Float[Tensor, "_ class"]],
    matched: Sequence[Int[Tensor, " anchor"]],
    ignored: int,
) -> Float[Tensor, ""]:
    """The focal loss of all classes of all anchors over the number of those that are matched, averaged over the images.

    With one label a box it is torchvision's.

    Args:
        labels: of each image's boxes.
        matched: the box of each anchor; negative for the background, `ignored` for what teaches nothing.
    """
    losses = []
    for own, of_boxes, box in zip(logits, labels, matched, strict=True):
        positive = box >= 0
        wanted = torch.zeros_like(own)
        wanted[positive] = of_boxes[box[positive]].to(own.dtype)
        counts = box != ignored
        total = sigmoid_focal_loss(own[counts], wanted[counts], reduction="sum")
        losses.append(total / positive.sum().clamp_min(1))
    return torch.stack(losses).mean()


def detections(
    logits: Float[Tensor, "anchor class"],
    boxes: Float[Tensor, "anchor 4"],
    size: tuple[int, int],
    threshold: float,
    overlap: float,
    most: int,
) -> dict[str, Tensor]:
    """Objects with all their labels of at least a score: `boxes`, `labels` from 0, `scores`; those of an object share its box.

    Args:
        size: height and width of the image, which boxes are cut to.
        threshold: the least score of a label.
        overlap: intersection over union above which two boxes are one object.
        most: objects that are kept, the surest.
    """
    scores = logits.sigmoid()
    surest = scores.amax(1)
    there = (surest >= threshold).nonzero()[:, 0]
    boxes, scores, surest = clip_boxes_to_image(boxes[there], size), scores[there], surest[there]
    kept = nms(boxes, surest, overlap)[:most]
    row, label = (scores[kept] >= threshold).nonzero().unbind(1)
    return {"boxes": boxes[kept][row], "labels": label, "scores": scores[kept][row, label]}
