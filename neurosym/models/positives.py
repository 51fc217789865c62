"""Which positive samples of an inexact box are kept: those that look like their class; the others are ignored.

A detector takes every anchor or proposal that overlaps an annotated box by half as a positive sample. Where the box is too big
or covers its target in part, some of them show what merely fills the box. The founding paper (Cheng & Wu, IJCAI 2022) filters
them by centroid feature maps; our reading: with a(b) the evidence of a sample's box (`neurosym.models.centroids.evidence`),

    kept: a(b) ≥ mean − λ · standard deviation, over the positives of the same object;  the best of an object always is

(the statistics of a target's own candidates decide, as in ATSS, Zhang et al., CVPR 2020). What is rejected is neither positive
nor negative: it may well show half of the object.

Of those that are kept, the offsets of an object count by the certainty q of its refined box (its expected intersection over
union with a box of the posterior), relative to the mean of the batch's positives: the loss of a sample × q / q̄, in box heads
(smooth L1) and in RetinaNet (L1). Classes count alike, for which class an object has does not hang on its outline. Where exact
and inexact annotations are mixed, q̄ is that of the last annotations instead: a batch without an exact one counts for less.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def kept_positives(
    evidence: Float[Tensor, " sample"], matched: Int[Tensor, " sample"], objects: int, strictness: float
) -> Bool[Tensor, " sample"]:
    """Which of the positive samples stay.

    Args:
        evidence: a(b) of each positive sample.
        matched: the index of its object, below `objects`.
        objects: how many there are.
        strictness: −λ: 0 rejects what is below the mean of its object, −∞ nothing.

    Invariant: every object that has a positive keeps one.
    """
    count = evidence.new_zeros(objects).index_add_(0, matched, torch.ones_like(evidence)).clamp_min(1.0)
    mean = evidence.new_zeros(objects).index_add_(0, matched, evidence) / count
    square = evidence.new_zeros(objects).index_add_(0, matched, (evidence - mean[matched]).square())
    threshold = mean + strictness * (square / count).sqrt() if strictness > -torch.inf else mean - torch.inf
    best = evidence.new_full((objects,), -torch.inf).scatter_reduce_(0, matched, evidence, "amax")
    return (evidence >= threshold[matched] - 1e-6) | (evidence >= best[matched])


def weighted_offset_loss(
    regression: Float[Tensor, "sample offset"],
    labels: Int[Tensor, " sample"],
    offsets: Float[Tensor, "sample 4"],
    certainty: Float[Tensor, " sample"],
    usual: Tensor | None = None,
) -> Float[Tensor, ""]:
    """torchvision's box loss of Faster R-CNN (`fastrcnn_loss`) with a weight for each positive.

    Args:
        regression: four offsets of each class, or four for all of them.
        labels: 0 is the background.
        offsets: what the regression should be.
        certainty: of each sample's object; that of the background does not count.
        usual: the q̄ that it is relative to; None is the mean of these positives.

    Invariant: torchvision's if all positives are equally certain.
    """
    positive = (labels > 0).nonzero()[:, 0]
    told = regression.reshape(len(regression), regression.shape[1] // 4, 4)
    of_class = labels[positive] if told.shape[1] > 1 else torch.zeros_like(positive)
    each = F.smooth_l1_loss(told[positive, of_class], offsets[positive], beta=1 / 9, reduction="none").sum(1)
    mean = certainty[positive].sum() / max(1, len(positive)) if usual is None else usual
    weight = certainty[positive] / mean.clamp_min(1e-6)
    return (each * weight).sum() / max(1, labels.numel())


def weighted_anchor_loss(
    regression: Sequence[Float[Tensor, "anchor 4"]],
    offsets: Sequence[Float[Tensor, "_ 4"]],
    positives: Sequence[Int[Tensor, " _"]],
    certainty: Sequence[Float[Tensor, " _"]],
    usual: Tensor | None = None,
) -> Float[Tensor, ""]:
    """torchvision's box loss of RetinaNet (L1; the mean over images of a sum over their positives per positive) with weights.

    Args:
        regression: the offsets of all anchors, image by image.
        offsets, positives, certainty: of the positive anchors, what they should be, which they are, and of their objects.
        usual: the q̄ that certainty is relative to; None is the mean of these positives.

    Invariant: torchvision's if all positives are equally certain.
    """
    whole = torch.cat(list(certainty))
    mean = (whole.sum() / max(1, len(whole)) if usual is None else usual).clamp_min(1e-6)
    terms = [
        (F.l1_loss(told[own], should, reduction="none").sum(1) * q / mean).sum() / max(1, len(own))
        for told, should, own, q in zip(regression, offsets, positives, certainty, strict=True)
    ]
    return torch.stack(terms).mean()
