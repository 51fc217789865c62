"""Faster R-CNN (torchvision's) that also shows its proposals as a differentiable scene.

torchvision returns losses in training and boxes in evaluation; a constraint needs, *in training*, the class probabilities and
the decoded boxes with their gradients. `Detector.forward` returns both from one pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import AnchorGenerator

from neurosym.models.backbones import build_backbone
from neurosym.models.class_losses import Boxes, build_class_loss
from neurosym.models.config import DetectorConfig
from neurosym.models.embedding import EmbeddingHead
from neurosym.models.inexact import InexactBoxes, PositiveFilter, Refined, certainty_of, usual_certainty
from neurosym.models.oamil import ObjectAwareMil, Samples
from neurosym.models.open_films import without_background
from neurosym.models.positives import weighted_offset_loss
from neurosym.models.region_proposals import RegionProposals
from neurosym.models.scene import SceneModel, SceneProposals, Target, distinct, with_extent

__all__ = ["BoxHeads", "Detector", "SceneProposals", "Target"]


@dataclass(frozen=True)
class RoIPass:
    """What the heads computed in their last forward pass; `sampled` are the ground-truth index and label of each proposal."""

    logits: Tensor
    regression: Tensor
    proposals: list[Tensor]
    sizes: list[tuple[int, int]]
    features: dict[str, Tensor]
    sampled: tuple[list[Tensor], list[Tensor]] | None


class BoxHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's box branch, with the raw predictions of the last forward pass kept for `Detector`."""

    last: RoIPass
    filter: PositiveFilter | None = None
    """Of the training step at hand, where positive samples of inexact boxes are filtered."""
    oamil: ObjectAwareMil | None
    """Set by `Detector`; no default here, for it would hide the module."""
    classification: nn.Module | None
    """Likewise; None is torchvision's cross-entropy."""

    def forward(self, features, proposals, image_shapes, targets=None):  # type: ignore[no-untyped-def]
        sampled = None
        if targets is not None and self.training:
            proposals, matched, labels, regression_targets = self.select_training_samples(proposals, targets)
            sampled = matched, labels
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        embedded = self.box_head(pooled)
        logits, regression = self.box_predictor(embedded)
        self.last = RoIPass(logits, regression, proposals, image_shapes, features, sampled)
        if targets is not None and self.training:
            if not len(logits):  # a mean over nothing is no number
                return [], {"loss_classifier": logits.sum(), "loss_box_reg": regression.sum()}
            of_bags: dict[str, Tensor] = {}
            if self.oamil is not None:
                samples = Samples(proposals, matched, labels, [t["boxes"] for t in targets], image_shapes)
                read = partial(self.read, features, image_shapes)
                told = self.oamil(samples, regression_targets, regression, self.box_coder, read)
                regression_targets, of_bags["loss_oamil"] = told
            classifier, box = fastrcnn_loss(logits, regression, labels, regression_targets)
            if not bool((torch.cat(labels) >= 0).any()):
                classifier = logits.sum() * 0.0
            if self.classification is not None:
                classifier = self.classification(logits, Boxes.of(labels, matched), embedded)
            certain = certainty_of(targets, matched)
            if certain is not None:
                box = weighted_offset_loss(
                    regression, torch.cat(labels), torch.cat(regression_targets), certain, usual_certainty(targets)
                )
            losses = {"loss_classifier": classifier, "loss_box_reg": box} | of_bags
            if self.filter is not None and self.filter.adversary:
                look = self.filter.look(features, image_shapes, self.box_roi_pool)
                losses["loss_adversary"] = look.loss(embedded, torch.cat(labels), self.box_head, self.box_predictor)
            return [], losses
        if self.training:
            return [], {}
        boxes, scores, found = self.postprocess_detections(logits, regression, proposals, image_shapes)
        result = [{"boxes": b, "labels": n, "scores": s} for b, s, n in zip(boxes, scores, found, strict=True)]
        return result, {}

    def read(
        self, features: dict[str, Tensor], sizes: list[tuple[int, int]], boxes: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Logits and offsets that the head reads in boxes of each image, which carry no gradient themselves."""
        logits, regression = self.box_predictor(self.box_head(self.box_roi_pool(features, boxes, sizes)))
        return logits, regression

    def regressed(
        self, features: dict[str, Tensor], sizes: list[tuple[int, int]], boxes: list[Tensor], labels: list[Tensor]
    ) -> list[Tensor]:
        """Where the head moves boxes of these labels."""
        regression = self.read(features, sizes, boxes)[1]
        decoded = self.box_coder.decode(regression, boxes).reshape(len(regression), -1, 4)
        moved = decoded[torch.arange(len(decoded), device=decoded.device), torch.cat(labels)]
        return list(moved.split([len(b) for b in boxes]))

    def represent(self, features: dict[str, Tensor], sizes: list[tuple[int, int]], boxes: list[Tensor]) -> Tensor:
        """What the class of each box is read from, (boxes of all images, head feature)."""
        represented: Tensor = self.box_head(self.box_roi_pool(features, boxes, sizes))
        return represented

    def classify(self, represented: Tensor) -> Tensor:
        """The logits, background first, that the head reads in what `represent` gives."""
        logits: Tensor = self.box_predictor(represented)[0]
        return logits

    def select_training_samples(self, proposals: list[Tensor], targets: list[Target]) -> Any:
        """torchvision's, but that the class loss of background on open films does not count."""
        proposals, matched, labels, offsets = super().select_training_samples(proposals, targets)
        return proposals, matched, without_background(labels, targets), offsets

    def assign_targets_to_proposals(self, proposals, gt_boxes, gt_labels):  # type: ignore[no-untyped-def]
        matched, labels = super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        if self.filter is not None:
            parts = zip(proposals, matched, labels, strict=True)
            labels = [self.filter.of_image(n, *part) for n, part in enumerate(parts)]
        return matched, labels


class Detector(SceneModel):
    """Faster R-CNN (Ren et al., NeurIPS 2015); its scene is the box head's softmax and the box of the likeliest class."""

    heads: type[BoxHeads] = BoxHeads

    def __init__(self, config: DetectorConfig, names: Sequence[str], load: bool = True) -> None:
        super().__init__(config, names, load)
        backbone = build_backbone(config, load)
        strides = (4, 8, 16, 32, 64)
        anchors = AnchorGenerator(
            sizes=tuple((config.anchor_scale * s,) for s in strides),
            aspect_ratios=(config.aspect_ratios,) * len(strides),
        )
        representation = TwoMLPHead(config.fpn_channels * 7 * 7, config.head_features)
        self.net = FasterRCNN(
            backbone,
            rpn_anchor_generator=anchors,
            box_head=representation,
            box_predictor=FastRCNNPredictor(config.head_features, len(names) + 1),
            min_size=config.image_size,
            max_size=config.max_size,
            rpn_pre_nms_top_n_train=2 * config.proposals,
            rpn_post_nms_top_n_train=config.proposals,
            rpn_pre_nms_top_n_test=2 * config.proposals,
            rpn_post_nms_top_n_test=config.proposals,
        )
        self.net.rpn = RegionProposals.of(self.net.rpn)
        if config.inexact.active:
            self.inexact = InexactBoxes(config.inexact, len(names), config.fpn_channels)
        heads = self.net.roi_heads
        self.net.roi_heads = self.heads(
            box_roi_pool=heads.box_roi_pool,
            box_head=heads.box_head,
            box_predictor=heads.box_predictor,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=config.sampled_boxes,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=config.score_threshold,
            nms_thresh=config.nms_threshold,
            detections_per_img=config.max_detections,
        )
        self.net.roi_heads.oamil = ObjectAwareMil(config.oamil) if config.oamil.enabled else None
        self.net.roi_heads.classification = build_class_loss(config.classification, len(names), config.head_features)
        self.embedding = EmbeddingHead(config.head_features, config.embedding) if config.embedding else None

    def forward(self, images: list[Tensor], targets: list[Target]) -> tuple[dict[str, Tensor], list[SceneProposals]]:
        """Training losses by torchvision's names, and the proposals of each image."""
        if self.inexact is None or not self.annotated:
            return self.net(images, with_extent(targets)), self._scenes() if self.shows_scenes else []
        batch, scaled = self.net.transform(images, with_extent(targets))
        features = self.net.backbone(batch.tensors)
        told: Refined = self.inexact(list(features.values()), batch.image_sizes, scaled)
        heads = self.net.roi_heads
        heads.filter = self.net.rpn.filter = self.inexact.filter_of(told, batch.image_sizes)
        proposals, of_anchors = self.net.rpn(batch, features, told.targets)
        _, of_boxes = heads(features, proposals, batch.image_sizes, told.targets)
        heads.filter = self.net.rpn.filter = None
        return told.losses | of_boxes | of_anchors, self._scenes() if self.shows_scenes else []

    def propose(self, images: list[Tensor], limit: int = 64) -> list[SceneProposals]:
        """The proposals of unlabelled images, with gradients through the box head and the pyramid (not the anchors)."""
        batch, _ = self.net.transform(images, None)
        features = self.net.backbone(batch.tensors)
        self.net.rpn.eval()
        with torch.no_grad():
            proposals, _ = self.net.rpn(batch, features, None)
        self.net.rpn.train(self.training)
        training = self.net.roi_heads.training
        self.net.roi_heads.train()
        self.net.roi_heads(features, [p[:limit] for p in proposals], batch.image_sizes, None)
        self.net.roi_heads.train(training)
        return self._scenes()

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Final detections in pixels of the given images: `boxes`, `labels`, `scores`."""
        training = self.training
        found: list[dict[str, Tensor]] = self.eval().net(images)
        self.train(training)
        return found

    def pyramid(self) -> Mapping[str, Tensor]:
        """The feature pyramid of the last `forward` or `propose`."""
        levels: dict[str, Tensor] = self.net.roi_heads.last.features
        return levels

    def embed(
        self, images: list[Tensor], boxes: list[Float[Tensor, "_ 4"]]
    ) -> tuple[Float[Tensor, "region channel"], Float[Tensor, "region leaf"]]:
        """Unit embeddings of regions, and the logits of their classes (background first), with gradients.

        Args:
            images: those of the last `forward` or `propose`, whose features are read.
            boxes: of each image, in its pixels; they carry no gradient.
        """
        assert self.embedding is not None, "model.embedding is 0"
        heads = self.net.roi_heads
        parts = zip(boxes, images, heads.last.sizes, strict=True)
        scaled = [b * b.new_tensor([w / image.shape[-1], h / image.shape[-2]] * 2) for b, image, (h, w) in parts]
        represented = heads.represent(heads.last.features, heads.last.sizes, scaled)
        embedded: Tensor = self.embedding(represented)
        return embedded, heads.classify(represented)

    @torch.no_grad()
    def regress(
        self, images: list[Tensor], boxes: list[Float[Tensor, "_ 4"]], labels: list[Tensor]
    ) -> list[Float[Tensor, "_ 4"]]:
        """Where the box head says that objects of these labels are, seen from these boxes.

        Args:
            images: those of the last `forward` or `propose`, whose features are read.
            boxes: of each image, in its pixels, as are those that come back.
            labels: of each box, from 1.
        """
        heads = self.net.roi_heads
        last = heads.last
        scale = [
            b.new_tensor([w / image.shape[-1], h / image.shape[-2]] * 2)
            for b, image, (h, w) in zip(boxes, images, last.sizes, strict=True)
        ]
        scaled = [b * s for b, s in zip(boxes, scale, strict=True)]
        if not sum(map(len, scaled)):
            return scaled
        moved = heads.regressed(last.features, last.sizes, scaled, labels)
        return [m / s for m, s in zip(moved, scale, strict=True)]

    def _scenes(self) -> list[SceneProposals]:
        """Each proposal as the box of its likeliest class; near-duplicates are suppressed, the surest stay."""
        last = self.net.roi_heads.last
        decoded = self.net.roi_heads.box_coder.decode(last.regression, last.proposals)
        decoded = decoded.reshape(*last.logits.shape, 4)  # torchvision's is flat where no image has a proposal
        scenes = []
        counts = [len(p) for p in last.proposals]
        parts = zip(last.logits.split(counts), decoded.split(counts), last.sizes, strict=True)
        for scores, boxes, (height, width) in parts:
            probabilities = scores.softmax(-1)
            box = boxes[torch.arange(len(boxes), device=boxes.device), likeliest(probabilities)]
            kept = distinct(probabilities, box)
            scenes.append(SceneProposals(probabilities[kept], box[kept], None, (float(width), float(height))))
        return scenes


def likeliest(probabilities: Tensor) -> Tensor:
    """The label of the likeliest class that is not the background."""
    if not len(probabilities):
        return torch.zeros(0, dtype=torch.int64, device=probabilities.device)
    return probabilities.detach()[:, 1:].argmax(1) + 1
