"""OA-MIL, object-aware multiple instance learning: the published way to train Faster R-CNN on boxes beside their object.

After Liu, Wang, Lu, Cao and Zhang, "Robust Object Detection With Inaccurate Bounding Boxes" (ECCV 2022): classes are learned
well from inexact boxes, so the classifier says which of a detector's own boxes to believe. The positive samples matched to one
annotated box a are its *bag*; each moves to the box that the regressor gives it, and is scored there for the class of a:

    instances    bᵢ = decode(offsets read in sample i; sample i)      sᵢ = softmax(logits read in bᵢ)[class of a]
    selection    b* = the instance with the greatest score s* of the bag
    correction   φ = min(s*^γ, θ),  â = φ b* + (1 − φ) a              all samples of the bag regress to â (eq. 4)
    loss         λ (1 − S₀),  S = mean over classes of the mean over the class's bags of the bag's greatest score
    extension    N more rounds of instances, for the loss alone:
                 "refine"  bᵢ ← decode(offsets read in bᵢ; bᵢ)        λ [(1 − S₀) + c (1 − mean of S₁ … S_N)]
                 "random"  bᵢ ← decode(offsets read in bᵢ; sample i)  λ (1 − mean of S₀ … S_N)

Scores teach the classifier and the pyramid; boxes carry no gradient. Region proposals learn from the annotated boxes, which
also say what is positive. Unlike the authors' code (mmdetection 2; read, not copied) a bag is known by its image and its box,
not by the sum of its coordinates, instances are clipped to the image, epochs are steps, and the box head is torchvision's:
offsets of the centre and of the sides' logarithms under smooth L1, where theirs are of corners under L1. It is here to be
compared with; our own way is `neurosym.models.inexact`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import clip_boxes_to_image

from neurosym.models.config import OaMilConfig

Look = Callable[[list[Tensor]], tuple[Tensor, Tensor]]
"""Logits and offsets, of all classes, that the box head reads in boxes of each image."""


def best_instances(
    scores: Float[Tensor, " instance"], bags: Int[Tensor, " instance"], count: int
) -> Int[Tensor, " bag"]:
    """The index of the instance with the greatest score in each of `count` bags, the first of equals; no bag may be empty."""
    by_score = scores.detach().argsort(descending=True, stable=True)
    by_bag = by_score[bags[by_score].argsort(stable=True)]
    sizes = torch.bincount(bags, minlength=count)
    return by_bag[sizes.cumsum(0) - sizes]


def corrected_boxes(
    best: Float[Tensor, "bag 4"],
    scores: Float[Tensor, " bag"],
    annotated: Float[Tensor, "bag 4"],
    gamma: float,
    theta: float,
) -> Float[Tensor, "bag 4"]:
    """â = φ b* + (1 − φ) a with φ = min(s*^γ, θ) (eq. 4); between b* and a, equal to a for θ = 0.

    Args:
        best: the selected instance of each bag, XYXY pixels.
        scores: its probability of the bag's class.
        annotated: the bag's annotated box.
        gamma: above 0; the greater, the surer an instance must be to count.
        theta: in [0, 1]; the most that an instance counts.
    """
    phi = scores.pow(gamma).clamp(max=theta)[:, None]
    return phi * best + (1 - phi) * annotated


def bag_score(best: Float[Tensor, " bag"], labels: Int[Tensor, " bag"]) -> Float[Tensor, ""]:
    """S: the mean over classes of the mean over their bags of the greatest score, so that a frequent class weighs no more.

    Args:
        best: the greatest score of each bag; at least one.
        labels: the class of each bag.
    """
    counts = torch.bincount(labels)
    score: Tensor = (best / counts[labels]).sum() / (counts > 0).sum()
    return score


def mil_loss(rounds: Sequence[Tensor], config: OaMilConfig) -> Tensor:
    """λ times the loss of the bag scores S₀ … S_N (see above); in [0, λ (1 + c)], 0 where every round is sure of every bag."""
    first, further = rounds[0], rounds[1:]
    if not further:
        return config.weight * (1 - first)
    if config.extension == "random":
        return config.weight * (1 - torch.stack(list(rounds)).mean())
    return config.weight * ((1 - first) + config.extension_weight * (1 - torch.stack(list(further)).mean()))


@dataclass(frozen=True)
class Samples:
    """What a box head is trained on in a step, image by image.

    `boxes` are the samples, XYXY in pixels of the scaled image; `matched` the annotated box and `labels` the class of each, 0
    for the background; `annotated` are the boxes of each image, `sizes` its (height, width).
    """

    boxes: list[Tensor]
    matched: list[Tensor]
    labels: list[Tensor]
    annotated: list[Tensor]
    sizes: list[tuple[int, int]]

    @cached_property
    def positive(self) -> Tensor:
        """Which samples of all images are in a bag."""
        return torch.cat(self.labels) > 0

    @cached_property
    def counts(self) -> list[int]:
        """Positive samples of each image."""
        return [int((of_image > 0).sum()) for of_image in self.labels]

    @cached_property
    def bags(self) -> tuple[Tensor, int]:
        """The bag of each positive sample, numbered from 0 through all images, and how many bags there are."""
        first = accumulate((len(boxes) for boxes in self.annotated), initial=0)
        names = torch.cat([start + m for start, m in zip(first, self.matched, strict=False)])[self.positive]
        used = torch.bincount(names) > 0
        return used.cumsum(0)[names] - 1, int(used.sum())

    @cached_property
    def own_box(self) -> Tensor:
        """The annotated box of each positive sample."""
        parts = zip(self.annotated, self.matched, self.labels, strict=True)
        return torch.cat([boxes[matched[labels > 0]] for boxes, matched, labels in parts])

    def clipped(self, boxes: Tensor) -> Tensor:
        """Boxes of the positive samples, each cut at its image's edges."""
        parts = zip(torch.split(boxes, self.counts), self.sizes, strict=True)
        return torch.cat([clip_boxes_to_image(part, size) for part, size in parts])


class ObjectAwareMil(nn.Module):
    """Corrects what a box head regresses to, and scores bags; knows how many steps it has seen, and learns nothing itself."""

    steps: Tensor

    def __init__(self, config: OaMilConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(
        self, samples: Samples, offsets: Sequence[Tensor], regression: Tensor, coder: BoxCoder, look: Look
    ) -> tuple[list[Tensor], Tensor]:
        """The offsets that the samples should regress to, with those of each bag corrected, and the loss of the bags.

        Args:
            samples: of the step.
            offsets: (sample, 4) of each image, towards the annotated boxes; returned as they are before `start`.
            regression: (sample of all images, 4 × (1 + classes)), as the head reads it in the samples.
            coder: of the head.
            look: reads the head in other boxes.

        Returns:
            (sample, 4) of each image without gradient, and `mil_loss`; zero where no sample is positive.
        """
        seen = int(self.steps)
        self.steps.add_(1)
        if not sum(samples.counts):
            return list(offsets), regression.sum() * 0.0
        more = self.config.extensions if seen >= self.config.extension_start else 0
        bags, count = samples.bags
        labels = torch.cat(samples.labels)[samples.positive]
        rounds, towards = [], list(offsets)
        for number, (boxes, scores) in enumerate(self._instances(samples, labels, regression, coder, look, more)):
            best = best_instances(scores, bags, count)
            rounds.append(bag_score(scores[best], labels[best]))
            if number == 0 and seen >= self.config.start:
                mended = self._corrected(boxes[best], scores[best], samples.own_box[best])
                towards = self._towards(samples, offsets, mended[bags], coder)
        return towards, mil_loss(rounds, self.config)

    def _instances(
        self, samples: Samples, labels: Tensor, regression: Tensor, coder: BoxCoder, look: Look, more: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Boxes and scores of the positive samples' instances: as the regressor gives them, then of `more` rounds."""
        sampled = torch.cat(samples.boxes)[samples.positive]
        start, read, found = sampled, regression[samples.positive], []
        for _ in range(1 + more):
            moved = coder.decode_single(_of_class(read, labels).detach(), start)
            boxes = samples.clipped(moved)
            logits, read = look(list(torch.split(boxes, samples.counts)))
            found.append((boxes, logits.softmax(1)[torch.arange(len(labels), device=labels.device), labels]))
            start = sampled if self.config.extension == "random" else boxes
        return found

    @torch.no_grad()
    def _corrected(self, best: Tensor, scores: Tensor, annotated: Tensor) -> Tensor:
        return corrected_boxes(best, scores, annotated.to(best), self.config.gamma, self.config.theta)

    @torch.no_grad()
    def _towards(self, samples: Samples, offsets: Sequence[Tensor], corrected: Tensor, coder: BoxCoder) -> list[Tensor]:
        """The offsets of each image, with those of positive samples towards their corrected boxes."""
        sampled = torch.cat(samples.boxes)[samples.positive]
        together = torch.cat(list(offsets))
        together[samples.positive] = coder.encode_single(corrected, sampled)
        return list(torch.split(together, [len(o) for o in offsets]))


def _of_class(regression: Float[Tensor, "sample offset"], labels: Int[Tensor, " sample"]) -> Float[Tensor, "sample 4"]:
    """The four offsets of each sample's own class."""
    return regression.reshape(len(labels), -1, 4)[torch.arange(len(labels), device=labels.device), labels]
