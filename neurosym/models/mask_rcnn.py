"""Mask R-CNN (He et al., ICCV 2017; torchvision's mask branch) on the Faster R-CNN of `neurosym.models.detector`.

The mask branch looks at the boxes of a scene once more, so that each proposed object carries a soft mask with gradients; the
mask of the likeliest class counts, as it does in detection. Annotations that have only a box train the box branch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_inference, maskrcnn_loss, paste_masks_in_image
from torchvision.ops import MultiScaleRoIAlign

from neurosym.models.config import DetectorConfig
from neurosym.models.detector import BoxHeads, Detector, likeliest
from neurosym.models.scene import MASK_THRESHOLD, SceneProposals, Target, with_masks
from neurosym.models.soft_masks import cells_of, paste


class MaskHeads(BoxHeads):
    """The box branch, then torchvision's mask branch on its positive proposals (training) or its detections."""

    def forward(self, features, proposals, image_shapes, targets=None):  # type: ignore[no-untyped-def]
        result, losses = super().forward(features, proposals, image_shapes, targets)  # type: ignore[no-untyped-call]
        if self.last.sampled is not None:
            losses["loss_mask"] = self._mask_loss(*self.last.sampled, targets)
        elif not self.training:
            logits = self.mask_logits([r["boxes"] for r in result])
            for found, masks in zip(result, maskrcnn_inference(logits, [r["labels"] for r in result]), strict=True):
                found["masks"] = masks
        return result, losses

    def mask_logits(self, boxes: list[Tensor]) -> Tensor:
        """(boxes of all images, classes, 28, 28), from the features of the last forward pass."""
        pooled = self.mask_roi_pool(self.last.features, boxes, self.last.sizes)
        logits: Tensor = self.mask_predictor(self.mask_head(pooled))
        return logits

    def _mask_loss(self, matched: list[Tensor], labels: list[Tensor], targets: list[Target]) -> Tensor:
        """torchvision's loss over the positive proposals whose object has a known mask."""
        boxes, objects = [], []
        for proposals, match, label, target in zip(self.last.proposals, matched, labels, targets, strict=True):
            known = (target["masks"] <= 1).flatten(1).all(1)
            positive = (label > 0).nonzero()[:, 0]
            if len(known):
                positive = positive[known[match[positive]]]
            boxes.append(proposals[positive])
            objects.append(match[positive])
        loss: Tensor = maskrcnn_loss(
            self.mask_logits(boxes), boxes, [t["masks"] for t in targets], [t["labels"] for t in targets], objects
        )
        return loss


class MaskDetector(Detector):
    """Faster R-CNN whose objects have masks; its scenes carry soft masks of `mask_cells` cells over the whole image."""

    uses_masks: ClassVar[bool] = True
    heads = MaskHeads

    def __init__(self, config: DetectorConfig, names: Sequence[str], load: bool = True) -> None:
        super().__init__(config, names, load)
        width, heads = config.fpn_channels, self.net.roi_heads
        heads.mask_roi_pool = MultiScaleRoIAlign(featmap_names=["0", "1", "2", "3"], output_size=14, sampling_ratio=2)
        heads.mask_head = MaskRCNNHeads(width, (width,) * 4, 1)
        heads.mask_predictor = MaskRCNNPredictor(width, width, len(names) + 1)

    def forward(self, images: list[Tensor], targets: list[Target]) -> tuple[dict[str, Tensor], list[SceneProposals]]:
        """Training losses by torchvision's names, and the proposals of each image with their masks."""
        return super().forward(images, with_masks(images, targets))

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Final detections in pixels of the given images: `boxes`, `labels`, `scores`, `masks` (bool, image size)."""
        return [f | {"masks": f["masks"][:, 0] > MASK_THRESHOLD} for f in super().detect(images)]

    @torch.no_grad()
    def masks_of(
        self,
        images: list[Tensor],
        boxes: list[Float[Tensor, "_ 4"]],
        labels: list[Tensor],
        own: list[Float[Tensor, "_ _ _"]],
    ) -> list[Bool[Tensor, "_ _ _"]]:
        """What the mask branch sees in the boxes now, of the classes that they are now; `own` is not needed."""
        heads = self.net.roi_heads
        scaled = [
            box * box.new_tensor([width / image.shape[-1], height / image.shape[-2]] * 2)
            for box, image, (height, width) in zip(boxes, images, heads.last.sizes, strict=True)
        ]
        soft = maskrcnn_inference(heads.mask_logits(scaled), labels)
        parts = zip(soft, boxes, images, strict=True)
        return [paste_masks_in_image(m, b, i.shape[-2:])[:, 0] > MASK_THRESHOLD for m, b, i in parts]

    def _scenes(self) -> list[SceneProposals]:
        scenes = super()._scenes()
        labels = torch.cat([likeliest(s.probabilities) for s in scenes])
        logits = self.net.roi_heads.mask_logits([s.boxes.detach() for s in scenes])
        masks = logits[torch.arange(len(labels), device=labels.device), labels].sigmoid()
        result = []
        for scene, own in zip(scenes, masks.split([len(s.boxes) for s in scenes]), strict=True):
            assert scene.size is not None
            cells = cells_of(scene.size, self.config.mask_cells)
            result.append(replace(scene, masks=paste(own, scene.boxes, scene.size, cells)))
        return result
