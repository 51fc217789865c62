"""A semantic segmenter: the semantic branch of panoptic feature pyramids (Kirillov et al., CVPR 2019) with a sigmoid per class.

Each pyramid level of stride 4·2ⁿ goes through n times (3×3 convolution, group norm, ReLU, 2× bilinear) to stride 4, the levels
are added and one 1×1 convolution gives the classes. The paper has exclusive classes (softmax); here a class has a sigmoid of
its own, because findings lie *in* organs and a pixel may be both. The loss is binary cross-entropy plus soft dice (Milletari
et al., 3DV 2016) over the classes that a batch shows.

To a constraint, an object is a connected region of a class's map: its soft mask is the map on the cells nearest to the region,
its box and its probability are those of `neurosym.models.soft_masks`, and its distribution is (1 − presence, presence) over the
background and its class. A class without a region is one faint object, its whole map, so that a rule can still call for it.
Detections are the connected components of the map above one half, each scored by its mean probability.

Where masks are coarse, pixels are mended or ignored while the model trains (`neurosym.models.inexact_masks`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from neurosym.models.backbones import build_backbone, group_norm
from neurosym.models.config import DetectorConfig
from neurosym.models.inexact_masks import STRIDE, InexactMasks
from neurosym.models.open_films import unopened
from neurosym.models.scene import (
    KEEP,
    MASK_THRESHOLD,
    UNKNOWN,
    SceneModel,
    SceneProposals,
    Target,
    with_extent,
    with_masks,
)
from neurosym.models.soft_masks import cells_of, presence, soft_box

_MEAN, _DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_LEVELS = ("0", "1", "2", "3")
_PRIOR = 0.05
"""Share of pixels that an untrained model gives to each class; half of them would drown the first steps."""


class SemanticBranch(nn.Module):
    """Pyramid levels → class logits at stride 4, and the features that the last convolution, the predictor, makes them of."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.scale_heads = nn.ModuleList(self._scale_head(channels, n) for n in range(len(_LEVELS)))
        self.predictor = nn.Conv2d(channels, classes, 1)
        nn.init.constant_(self.predictor.bias, math.log(_PRIOR / (1 - _PRIOR)))  # type: ignore[arg-type]

    @staticmethod
    def _scale_head(channels: int, doublings: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(max(1, doublings)):
            layers += [
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                group_norm(channels),
                nn.ReLU(),
            ]
            if doublings:
                layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
        return nn.Sequential(*layers)

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        total = torch.stack([head(features[k]) for k, head in zip(_LEVELS, self.scale_heads, strict=True)]).sum(0)
        return self.predictor(total), total


class FpnSegmenter(SceneModel):
    """Class maps, and the objects that they show; a label is a class index + 1."""

    uses_masks: ClassVar[bool] = True
    learns_boxes: ClassVar[bool] = False
    _seen: dict[str, Tensor]

    def __init__(self, config: DetectorConfig, names: Sequence[str], load: bool = True) -> None:
        super().__init__(config, names, load)
        self.transform = GeneralizedRCNNTransform(config.image_size, config.max_size, _MEAN, _DEVIATION)
        self.backbone = build_backbone(config, load)
        self.branch = SemanticBranch(config.fpn_channels, len(names))
        active = config.inexact.active
        self.inexact_masks = InexactMasks(config.inexact, len(names), config.fpn_channels) if active else None

    def forward(self, images: list[Tensor], targets: list[Target]) -> tuple[dict[str, Tensor], list[SceneProposals]]:
        """`loss_mask` (cross-entropy), `loss_dice` and maybe `loss_adversary`, and the scene of each image."""
        batch, scaled = self.transform(images, with_masks(images, with_extent(targets)))
        logits, cells = self._read(batch)
        truth = [unopened(class_maps(t["masks"], t["labels"], len(self.names)), t) for t in scaled]
        if self.inexact_masks is None or not self.annotated:
            losses = segmentation_losses(logits, truth)
        else:
            losses = self._inexact_losses(self.inexact_masks, batch, scaled, truth, logits, cells)
        return losses, [self._scene(x.sigmoid(), KEEP) for x in logits] if self.shows_scenes else []

    def _inexact_losses(
        self,
        inexact: InexactMasks,
        batch: ImageList,
        targets: Sequence[Target],
        truth: Sequence[Tensor],
        logits: Sequence[Tensor],
        cells: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The losses of masks that may be coarse."""
        pixels = [
            image[:, :height, :width] for image, (height, width) in zip(batch.tensors, batch.image_sizes, strict=True)
        ]
        finest = [f[:, : c.shape[1], : c.shape[2]] for f, c in zip(self._seen[_LEVELS[0]], cells, strict=True)]
        mended = inexact(pixels, targets, truth, finest)
        losses = weighted_losses(logits, mended.truth, mended.weight)
        if inexact.config.adversary > 0:
            losses["loss_adversary"] = inexact.adversary(mended, cells, self.branch.predictor)
        return losses

    def propose(self, images: list[Tensor], limit: int = 64) -> list[SceneProposals]:
        """The regions of unlabelled images, with gradients through the whole network."""
        batch, _ = self.transform(images, None)
        return [self._scene(x.sigmoid(), min(limit, KEEP)) for x in self._logits(batch)]

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Final detections in pixels of the given images: `boxes`, `labels`, `scores`, `masks` (bool, image size)."""
        training = self.training
        self.eval()
        batch, _ = self.transform(images, None)
        maps = [
            F.interpolate(x[None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0].sigmoid()
            for x, image in zip(self._logits(batch), images, strict=True)
        ]
        self.train(training)
        return [
            components(m, self.config.min_area, self.config.score_threshold, self.config.max_detections) for m in maps
        ]

    def pyramid(self) -> Mapping[str, Tensor]:
        """The feature pyramid of the last `forward` or `propose`."""
        return self._seen

    def _logits(self, batch: ImageList) -> list[Tensor]:
        """Class logits of each scaled image at its own size, without the padding of the batch."""
        return self._read(batch)[0]

    def _read(self, batch: ImageList) -> tuple[list[Tensor], list[Tensor]]:
        """`_logits`, and of each image the features of its cells of stride 4 that the predictor is given."""
        levels = self.backbone(batch.tensors)
        self._seen = {name: level.detach() for name, level in levels.items()}
        coarse, embedded = self.branch(levels)
        fine = F.interpolate(coarse, size=batch.tensors.shape[-2:], mode="bilinear", align_corners=False)
        logits = [x[:, :height, :width] for x, (height, width) in zip(fine, batch.image_sizes, strict=True)]
        cells = [
            x[:, : -(-h // STRIDE), : -(-w // STRIDE)] for x, (h, w) in zip(embedded, batch.image_sizes, strict=True)
        ]
        return logits, cells

    def _scene(self, maps: Float[Tensor, "class height width"], keep: int) -> SceneProposals:
        """The `keep` surest regions of one image's class maps."""
        height, width = maps.shape[1:]
        size = (float(width), float(height))
        longest = min(self.config.mask_cells, -(-max(width, height) // 4))  # never finer than the logits
        coarse = F.adaptive_avg_pool2d(maps, cells_of(size, longest))
        labels, masks = [], []
        for label, (probability, shares) in enumerate(zip(coarse, regions(coarse.detach()), strict=True), 1):
            masks.append(probability * shares)
            labels += [label] * len(shares)
        soft = torch.cat(masks)
        sure = presence(soft)
        kept = sure.detach().argsort(descending=True, stable=True)[:keep]
        soft, sure = soft[kept], sure[kept]
        leaf = F.one_hot(torch.tensor(labels, device=kept.device)[kept], len(self.names) + 1)
        background = F.one_hot(torch.zeros_like(kept), len(self.names) + 1)
        probabilities = sure[:, None] * leaf + (1.0 - sure)[:, None] * background
        return SceneProposals(probabilities, soft_box(soft, size), soft, size)


def class_maps(
    masks: UInt8[Tensor, "object height width"], labels: Tensor, classes: int
) -> UInt8[Tensor, "class height width"]:
    """1 where any object of a class is, else `UNKNOWN` where one may be, else 0."""
    maps = masks.new_zeros(classes, *masks.shape[1:])
    for mask, label in zip(masks, labels.tolist(), strict=True):
        own = maps[label - 1]
        maps[label - 1] = torch.where((own == 1) | (mask == 1), 1, torch.maximum(own, mask)).to(torch.uint8)
    return maps


def segmentation_losses(
    logits: Sequence[Float[Tensor, "class _ _"]], truth: Sequence[UInt8[Tensor, "class _ _"]]
) -> dict[str, Tensor]:
    """`weighted_losses` of a truth that is 1, 0 or `UNKNOWN`."""
    there = [(t == 1).to(x.dtype) for t, x in zip(truth, logits, strict=True)]
    return weighted_losses(logits, there, [(t != UNKNOWN).to(x.dtype) for t, x in zip(truth, logits, strict=True)])


def weighted_losses(
    logits: Sequence[Float[Tensor, "class _ _"]],
    truth: Sequence[Float[Tensor, "class _ _"]],
    weight: Sequence[Float[Tensor, "class _ _"]],
) -> dict[str, Tensor]:
    """Binary cross-entropy, the mean over pixels and classes; and 1 − dice, the mean over the classes that are there.

    dice_c = (2 Σ p y + 1) / (Σ p + Σ y + 1)      over the pixels of class c in the batch, p its probability, y its truth

    Each pixel counts by its weight of the class; 0 leaves it out.
    """
    scores = torch.cat([x.flatten(1) for x in logits], 1)
    sure = torch.cat([w.flatten(1) for w in weight], 1)
    there = torch.cat([t.flatten(1) for t in truth], 1)
    entropy = F.binary_cross_entropy_with_logits(scores, there, reduction="none")
    there = there * sure
    p = scores.sigmoid() * sure
    dice = (2.0 * (p * there).sum(1) + 1.0) / (p.sum(1) + there.sum(1) + 1.0)
    shown = (there.sum(1) > 0).to(scores.dtype)
    return {
        "loss_mask": (entropy * sure).sum() / sure.sum().clamp(min=1.0),
        "loss_dice": ((1.0 - dice) * shown).sum() / shown.sum().clamp(min=1.0),
    }


def regions(maps: Float[Tensor, "class height width"]) -> list[Float[Tensor, "region height width"]]:
    """For each class, the cells of each of its regions (0 or 1); they share the image, each cell goes to the nearest region.

    A region is a connected component (by sides) of the cells above one half; where there is none, the whole image is one.
    """
    found = []
    for probability in maps.cpu().numpy():
        labels, count = ndimage.label(probability > MASK_THRESHOLD)
        if count > 1:
            nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
            labels = labels[tuple(nearest)]
        numbers = np.arange(1, count + 1)[:, None, None]
        shares = labels[None] == numbers if count > 1 else np.ones_like(probability[None])
        found.append(torch.as_tensor(shares, dtype=maps.dtype, device=maps.device))
    return found


def components(
    maps: Float[Tensor, "class height width"], min_area: int, score_threshold: float, limit: int
) -> dict[str, Tensor]:
    """Detections of one image: the connected components of each class's map above one half, surest first."""
    found: list[tuple[float, int, np.ndarray, int]] = []
    for label, probability in enumerate(maps.cpu().numpy(), 1):
        numbered, _ = ndimage.label(probability > MASK_THRESHOLD)
        area = np.bincount(numbered.ravel())
        mean = np.bincount(numbered.ravel(), probability.ravel()) / area
        usable = np.flatnonzero((area >= min_area) & (mean >= score_threshold))
        found += [(float(mean[n]), label, numbered, int(n)) for n in usable if n > 0]
    found = sorted(found, key=lambda f: -f[0])[:limit]
    masks = np.array([numbered == n for _, _, numbered, n in found], dtype=bool).reshape(-1, *maps.shape[1:])
    places = [ndimage.find_objects(m.astype(np.int8))[0] for m in masks]
    boxes = [[x.start, y.start, x.stop, y.stop] for y, x in places]
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32, device=maps.device).reshape(-1, 4),
        "labels": torch.tensor([f[1] for f in found], dtype=torch.int64, device=maps.device),
        "scores": torch.tensor([f[0] for f in found], dtype=torch.float32, device=maps.device),
        "masks": torch.from_numpy(masks).to(maps.device),
    }
