"""Faster R-CNN (torchvision's) that also shows its proposals as a differentiable scene.

torchvision returns losses in training and boxes in evaluation; a constraint needs, *in training*, the class probabilities and
the decoded boxes with their gradients. `Detector.forward` returns both from one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import nms

from neurosym.models.backbones import build_backbone
from neurosym.models.config import DetectorConfig

Target = dict[str, Tensor]
"""`boxes` (n, 4) XYXY pixels and `labels` (n,) from 1; label 0 is the background."""


@dataclass(frozen=True)
class SceneProposals:
    """The objects that a detector proposes on one image, duplicates suppressed, with gradients.

    `probabilities` are the box head's softmax, background first; `boxes` are in pixels of the scaled image.
    """

    probabilities: Float[Tensor, "box leaf"]
    boxes: Float[Tensor, "box 4"]


class _RoIHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's box branch, with the raw predictions of the last forward pass kept for `Detector`."""

    last: tuple[Tensor, Tensor, list[Tensor]]

    def forward(self, features, proposals, image_shapes, targets=None):  # type: ignore[no-untyped-def]
        if targets is not None and self.training:
            proposals, _, labels, regression_targets = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        logits, regression = self.box_predictor(self.box_head(pooled))
        self.last = (logits, regression, proposals)
        if targets is not None and self.training:
            classifier, box = fastrcnn_loss(logits, regression, labels, regression_targets)
            return [], {"loss_classifier": classifier, "loss_box_reg": box}
        if self.training:
            return [], {}
        boxes, scores, found = self.postprocess_detections(logits, regression, proposals, image_shapes)
        result = [{"boxes": b, "labels": n, "scores": s} for b, s, n in zip(boxes, scores, found, strict=True)]
        return result, {}


class Detector(nn.Module):
    """A detector of `len(names)` classes; class i of the config's order has label i + 1."""

    def __init__(self, config: DetectorConfig, names: Sequence[str], load: bool = True) -> None:
        super().__init__()
        self.config, self.names = config, tuple(names)
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
        heads = self.net.roi_heads
        self.net.roi_heads = _RoIHeads(
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

    def forward(self, images: list[Tensor], targets: list[Target]) -> tuple[dict[str, Tensor], list[SceneProposals]]:
        """Training losses by torchvision's names, and the proposals of each image.

        Args:
            images: (3, height, width) in [0, 1] each.
            targets: one per image; `boxes` may be empty (an image known to show nothing).
        """
        losses = self.net(images, targets)
        return losses, self._scenes()

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

    def _scenes(self, keep: int = 32, threshold: float = 0.6) -> list[SceneProposals]:
        """Each proposal as the box of its likeliest class; near-duplicates are suppressed, the `keep` surest stay."""
        logits, regression, proposals = self.net.roi_heads.last
        decoded = self.net.roi_heads.box_coder.decode(regression, proposals)
        scenes = []
        counts = [len(p) for p in proposals]
        for scores, boxes in zip(logits.split(counts), decoded.split(counts), strict=True):
            probabilities = scores.softmax(-1)
            label = probabilities.detach()[:, 1:].argmax(1) + 1 if len(scores) else scores.new_zeros(0).long()
            box = boxes[torch.arange(len(boxes), device=boxes.device), label]
            kept = nms(box.detach(), 1.0 - probabilities.detach()[:, 0], threshold)[:keep]
            scenes.append(SceneProposals(probabilities[kept], box[kept]))
        return scenes
