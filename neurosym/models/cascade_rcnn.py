"""Cascade R-CNN (Cai & Vasconcelos, CVPR 2018) on the Faster R-CNN of `neurosym.models.detector`.

One head cannot be trained for close fits: few proposals overlap an object by 0.7. The cascade asks for more in each stage, of
boxes that the stage before has improved. Stage t has a threshold uₜ of the intersection over union from which on a box is
foreground, a box head hₜ, a regressor fₜ that is the same for all classes, and a weight wₜ of its loss:

    bₜ₊₁ = fₜ(x, bₜ),  clipped, without gradient            u = 0.5, 0.6, 0.7
    loss = Σₜ wₜ (cross-entropy + smooth L1)                w = 1, ½, ¼
    p(x) = ⅓ Σₜ softmax hₜ(x, b₃)                           boxes f₃(x, b₃)

In training the annotated boxes join the boxes of *each* stage and leave them again before the next one; the first stage samples
its boxes as Faster R-CNN does and later ones take all that arrive. That is what the authors' code does; mmdetection draws a new
sample in each stage, Detectron2 adds the annotated boxes to the first stage alone. The average is the paper's too: all three
classifiers look at the boxes that reach stage 3, where mmdetection and Detectron2 average what each stage said of its own. So
every object of a scene has its average, also the annotated boxes that stages 1 and 2 never saw in that form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from neurosym.models.class_losses import Boxes, build_class_loss
from neurosym.models.config import DetectorConfig
from neurosym.models.detector import BoxHeads, Detector, RoIPass
from neurosym.models.inexact import certainty_of, usual_certainty
from neurosym.models.positives import weighted_offset_loss
from neurosym.models.scene import Target

_MIN_SIDE = 1e-2
"""Pixels; torchvision's own bound, below which clipping has left nothing of a box."""


@dataclass(frozen=True)
class Stage:
    """`overlap` makes a box foreground; `weights` scale its offsets (x, y, width, height); `share` weighs its loss."""

    overlap: float
    weights: tuple[float, float, float, float]
    share: float


STAGES = (
    Stage(0.5, (10.0, 10.0, 5.0, 5.0), 1.0),
    Stage(0.6, (20.0, 20.0, 10.0, 10.0), 0.5),
    Stage(0.7, (30.0, 30.0, 15.0, 15.0), 0.25),
)
"""Of the paper. Offsets shrink from stage to stage, so their scale grows to keep the targets near unit variance."""


class AgnosticPredictor(FastRCNNPredictor):  # type: ignore[misc]
    """Scores of the classes (background first), and one box for all of them."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.bbox_pred = nn.Linear(features, 4)


def log_mean_softmax(opinions: Sequence[Float[Tensor, "box leaf"]]) -> Float[Tensor, "box leaf"]:
    """log (1/n Σₜ softmax zₜ) of n logits: as logits they have the average as their softmax, and never an infinite gradient."""
    together = torch.stack([z.log_softmax(1) for z in opinions])
    return together.logsumexp(0) - math.log(len(opinions))


def stage_losses(
    logits: Float[Tensor, "box leaf"],
    regression: Float[Tensor, "box 4"],
    labels: Sequence[Tensor],
    offsets: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """torchvision's losses of Faster R-CNN with one box for all classes; zero, not undefined, where there are no boxes.

    The cross-entropy is a mean over all boxes; the smooth L1 (β = 1/9) of the foreground is divided by the number of all boxes.

    Args:
        logits: of the boxes of all images, background first.
        regression: their offsets, as the stage's box coder scales them.
        labels: of each image's boxes, 0 is the background; the class of those of label −100 does not count.
        offsets: of each image's boxes, what the regression should be; those of the background do not count.
    """
    if not len(logits):
        return logits.sum(), regression.sum()
    classifier, box = fastrcnn_loss(logits, regression.repeat(1, logits.shape[1]), labels, offsets)
    if not bool((torch.cat(list(labels)) >= 0).any()):
        classifier = logits.sum() * 0.0
    return classifier, box


class CascadeHeads(BoxHeads):
    """The stages in turn; `box_head`, `box_predictor` and, if any, `classification` are lists with one module per stage.

    `last` is what the last stage saw, with the averaged probabilities as logits and its box repeated for each class, so that
    `Detector` reads scenes and detections from it as from a single head.
    """

    stages: ClassVar[tuple[Stage, ...]] = STAGES
    classification: nn.ModuleList | None
    _number = 0

    def forward(self, features, proposals, image_shapes, targets=None):  # type: ignore[no-untyped-def]
        taught = targets is not None and self.training
        losses: dict[str, Tensor] = {}
        sampled = None
        for number, stage in enumerate(self.stages):
            self._enter(number)
            if taught:
                proposals, matched, labels, offsets = self.select_training_samples(proposals, targets)
                sampled = matched, labels
            pooled = self.box_roi_pool(features, proposals, image_shapes)
            logits, regression, embedded = self._look(number, pooled)
            if taught:
                if self.filter is not None and self.filter.adversary:
                    look = self.filter.look(features, image_shapes, self.box_roi_pool)
                    worst = look.loss(embedded, torch.cat(labels), self.box_head[number], self.box_predictor[number])
                    losses[f"loss_adversary_{number + 1}"] = stage.share * worst
                classifier, box = stage_losses(logits, regression, labels, offsets)
                if self.classification is not None:
                    classifier = self.classification[number](logits, Boxes.of(labels, matched), embedded)
                certain = certainty_of(targets, matched)
                if certain is not None:
                    box = weighted_offset_loss(
                        regression, torch.cat(labels), torch.cat(offsets), certain, usual_certainty(targets)
                    )
                losses[f"loss_classifier_{number + 1}"] = stage.share * classifier
                losses[f"loss_box_reg_{number + 1}"] = stage.share * box
            if stage is not self.stages[-1]:
                proposals = self._improved(regression, proposals, image_shapes, targets if taught else None)
        earlier = [self._look(number, pooled)[0] for number in range(len(self.stages) - 1)]
        averaged = log_mean_softmax([*earlier, logits])
        each = regression.repeat(1, logits.shape[1])
        self.last = RoIPass(averaged, each, proposals, image_shapes, features, sampled)
        if self.training:
            return [], losses
        boxes, scores, found = self.postprocess_detections(averaged, each, proposals, image_shapes)
        result = [{"boxes": b, "labels": n, "scores": s} for b, s, n in zip(boxes, scores, found, strict=True)]
        return result, {}

    def regressed(
        self, features: dict[str, Tensor], sizes: list[tuple[int, int]], boxes: list[Tensor], labels: list[Tensor]
    ) -> list[Tensor]:
        """Where the stages, one after the other, move boxes; the same for all labels."""
        for number in range(len(self.stages)):
            self._enter(number)
            regression = self._look(number, self.box_roi_pool(features, boxes, sizes))[1]
            decoded = self.box_coder.decode(regression, boxes).reshape(-1, 4).split([len(b) for b in boxes])
            boxes = [clip_boxes_to_image(d, size) for d, size in zip(decoded, sizes, strict=True)]
        return boxes

    def represent(self, features: dict[str, Tensor], sizes: list[tuple[int, int]], boxes: list[Tensor]) -> Tensor:
        """What the last stage reads the class of each box from."""
        represented: Tensor = self.box_head[-1](self.box_roi_pool(features, boxes, sizes))
        return represented

    def classify(self, represented: Tensor) -> Tensor:
        """The last stage's logits."""
        logits: Tensor = self.box_predictor[-1](represented)[0]
        return logits

    def subsample(self, labels: list[Tensor]) -> list[Tensor]:
        """Indices of the boxes to train on: one positive to three negatives in the first stage, later all that count."""
        if self._number == 0:
            chosen: list[Tensor] = super().subsample(labels)
            return chosen
        return [(of_image >= 0).nonzero()[:, 0] for of_image in labels]

    def _enter(self, number: int) -> None:
        """What torchvision's methods read for matching, encoding and decoding is from now on this stage's."""
        stage = self.stages[number]
        self._number = number
        self.proposal_matcher = Matcher(stage.overlap, stage.overlap, allow_low_quality_matches=False)
        self.box_coder = BoxCoder(stage.weights)

    def _look(self, number: int, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A stage's logits and offsets for pooled features, and the embedding that they are read from."""
        embedded = self.box_head[number](pooled)
        logits, regression = self.box_predictor[number](embedded)
        return logits, regression, embedded

    @torch.no_grad()
    def _improved(
        self, regression: Tensor, boxes: list[Tensor], sizes: list[tuple[int, int]], targets: list[Target] | None
    ) -> list[Tensor]:
        """The stage's decoded boxes, clipped; without those of no extent and those that were annotated boxes before."""
        decoded = self.box_coder.decode(regression, boxes).reshape(-1, 4).split([len(b) for b in boxes])
        improved = []
        for number, (before, after, size) in enumerate(zip(boxes, decoded, sizes, strict=True)):
            moved = clip_boxes_to_image(after, size)
            if targets is not None:
                known = targets[number]["boxes"].to(before.dtype)
                moved = moved[~(before[:, None] == known).all(2).any(1)]
            improved.append(moved[remove_small_boxes(moved, _MIN_SIDE)])
        return improved


class CascadeDetector(Detector):
    """Faster R-CNN with a cascade of heads; its scene is the average of their softmaxes and the last one's boxes.

    Gradients of a scene reach every head through the probabilities and the last head alone through the boxes.
    """

    heads: type[CascadeHeads] = CascadeHeads

    def __init__(self, config: DetectorConfig, names: Sequence[str], load: bool = True) -> None:
        super().__init__(config, names, load)
        heads, width = self.net.roi_heads, config.head_features
        heads.box_head = nn.ModuleList(TwoMLPHead(config.fpn_channels * 7 * 7, width) for _ in heads.stages)
        heads.box_predictor = nn.ModuleList(AgnosticPredictor(width, len(names) + 1) for _ in heads.stages)
        losses = [build_class_loss(config.classification, len(names), width) for _ in heads.stages]
        heads.classification = nn.ModuleList(loss for loss in losses if loss is not None) or None
