"""What every model gives to constraints: its objects as tensors with gradients, whatever kind of network found them.

A two-stage detector shows its proposals, a one-stage detector its surest anchors, a segmenter the regions of its probability
maps. All become `SceneProposals`, so that a constraint never asks which network it trains. What knowledge asks of the image
beyond that is written once for all kinds: the pyramid's features in given boxes, and masks of the image's size for objects that
were refined. `SceneModel` is the contract that `tests/contracts/test_models.py` holds every kind to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign, nms

from neurosym.models.config import DetectorConfig
from neurosym.models.inexact import InexactBoxes
from neurosym.models.soft_masks import at_image_size

Target = dict[str, Tensor]
"""`boxes` (n, 4) XYXY pixels and `labels` (n,) from 1, label 0 is the background; for models that learn from masks also
`masks` (n, height, width) uint8: 1 inside, 0 outside, `UNKNOWN` where it was not annotated."""
OF_THE_FILM = frozenset({"open", "marks", "points"})
"""What a target may hold besides, which is not one of each box: `open` (class,) bool, whether objects of the class may have no
box here; `points` (n, 3) x and y in pixels and the number of a mark, `marks` (m,) the label of each mark (a point or a stroke
that was drawn instead of a box). Boxes may also have a `certainty`; those of 0 teach no offsets."""
UNKNOWN = 255
"""In a target's mask: these pixels may or may not belong to the object; nothing is learned from them."""
KEEP, SUPPRESS = 32, 0.6
"""Objects that a scene keeps, and the intersection over union above which two of them are one."""
MASK_THRESHOLD = 0.5
"""Probability above which a pixel belongs to a detection, and a cell to a region."""
OF_ANNOTATIONS: Final = ("inexact", "inexact_masks")
"""The parts of a model, by their names in its state, that learn how the annotations of its own training data are drawn."""
OF_TRAINING: Final = (*OF_ANNOTATIONS, "embedding", "net.roi_heads.classification", "net.roi_heads.oamil")
"""All parts that serve training alone: no prediction depends on them, and settings of training say whether there are any."""
_ROI_CELLS, _ROI_SAMPLES = 3, 2
_FINEST_STRIDE = 4
"""Of the pyramid level "0"; each next one has twice that."""


@dataclass(frozen=True)
class SceneProposals:
    """The objects that a model proposes on one image, duplicates suppressed, with gradients.

    `probabilities` have the background first, rows sum to 1 (where boxes have several labels, each label is by itself); `boxes`
    are XYXY in pixels of the scaled image, whose (width, height) is `size`; `masks` are each object's soft mask over the whole
    image, in [0, 1] and at a low resolution: cell (i, j) of h×w covers the pixels from (j·width/w, i·height/h) to
    ((j+1)·width/w, (i+1)·height/h). None: the model has only boxes.
    """

    probabilities: Float[Tensor, "box leaf"]
    boxes: Float[Tensor, "box 4"]
    masks: Float[Tensor, "box height width"] | None = None
    size: tuple[float, float] | None = None


class SceneModel(nn.Module, ABC):
    """A model of `len(names)` classes; class i of the config's order has label i + 1."""

    uses_masks: ClassVar[bool] = False
    """Whether its targets carry `masks` and its detections have them."""
    learns_boxes: ClassVar[bool] = True
    """Whether the boxes of its targets are learned; else a stroke is a mask like any other."""

    def __init__(self, config: DetectorConfig, names: Sequence[str], load: bool = True) -> None:
        """`load` reads the backbone's initial weights, which a checkpoint would replace anyway."""
        super().__init__()
        self.config, self.names = config, tuple(names)
        self.inexact: InexactBoxes | None = None
        self.annotated = True
        """False while it is shown pseudo-labels: nothing is learned then of how annotations are drawn."""
        self.shows_scenes = True
        """Whether `forward` makes the scene of each image; where nothing looks at it, False saves its time and memory."""

    @abstractmethod
    def forward(self, images: list[Tensor], targets: list[Target]) -> tuple[dict[str, Tensor], list[SceneProposals]]:
        """Named training losses, and the scene of each image (no scenes without `shows_scenes`), from one pass.

        Args:
            images: (3, height, width) in [0, 1] each.
            targets: one per image; `boxes` may be empty (an image known to show nothing). Boxes without extent are left out;
                where a model learns from masks and a target has none, only what its boxes say is learned.
        """

    @abstractmethod
    def propose(self, images: list[Tensor], limit: int = 64) -> list[SceneProposals]:
        """The scenes of unlabelled images, with gradients; at most `limit` objects each."""

    @abstractmethod
    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Final detections in pixels of the given images: `boxes`, `labels`, `scores`, for some `masks` (bool, image size)."""

    @abstractmethod
    def pyramid(self) -> Mapping[str, Tensor]:
        """The pyramid of the last `forward` or `propose`, by torchvision's names: "0" of stride 4, "1" of 8 … and "pool"."""

    def vote_levels(self) -> list[Tensor]:
        """The maps of the last `forward` or `propose` that votes for inexact boxes are read from, finest first."""
        return list(self.pyramid().values())

    @torch.no_grad()
    def features_of(self, boxes: list[Float[Tensor, "_ 4"]]) -> list[Float[Tensor, "_ channel"]]:
        """What the image shows in boxes: their mean pyramid features, `fpn_channels` numbers each, without gradients.

        Each box is read from the level that fits its size (RoIAlign, He et al. 2017, by the rule of Lin et al. 2017, eq. 1).

        Args:
            boxes: of each image of the last `forward` or `propose`, in pixels of the scaled image, as in `SceneProposals`.
        """
        levels = {name: level.detach() for name, level in self.pyramid().items() if name.isdigit()}
        first = next(iter(levels))
        # torchvision infers strides from the ratio of sizes, which is exact for the padded batch only
        stride = _FINEST_STRIDE * 2 ** int(first)
        height, width = (stride * side for side in levels[first].shape[-2:])
        pool = MultiScaleRoIAlign(list(levels), _ROI_CELLS, _ROI_SAMPLES)
        found: Tensor = pool(levels, [b.detach() for b in boxes], [(height, width)] * len(boxes)).mean((2, 3))
        return list(torch.split(found, [len(b) for b in boxes]))

    @torch.no_grad()
    def masks_of(
        self,
        images: list[Tensor],
        boxes: list[Float[Tensor, "_ 4"]],
        labels: list[Tensor],
        own: list[Float[Tensor, "_ _ _"]],
    ) -> list[Bool[Tensor, "_ _ _"]]:
        """Masks of each image's size, (object, height, width), for objects of the last `propose` that were changed since.

        Here an object keeps the soft mask that it was proposed with, enlarged bilinearly and cut at one half; it may be empty.

        Args:
            images: those that were given to `propose`.
            boxes: where the objects of each image are now, in its pixels.
            labels: what they are now.
            own: the soft masks they were proposed with (rows of `SceneProposals.masks`).
        """
        return [at_image_size(m, i.shape[-2:]) > MASK_THRESHOLD for m, i in zip(own, images, strict=True)]


def with_extent(targets: Sequence[Target]) -> list[Target]:
    """The targets without boxes of no width or height, which have no logarithm and no anchor."""
    kept = []
    for target in targets:
        big = (target["boxes"][:, 2:] > target["boxes"][:, :2]).all(1)
        kept.append({k: v if k in OF_THE_FILM else v[big] for k, v in target.items()})
    return kept


def with_masks(images: Sequence[Tensor], targets: Sequence[Target]) -> list[Target]:
    """The targets, with the masks that boxes alone allow (unknown within, outside elsewhere) where there are none."""
    return [
        target if "masks" in target else target | {"masks": unknown_masks(target["boxes"], *image.shape[-2:])}
        for image, target in zip(images, targets, strict=True)
    ]


def unknown_masks(boxes: Tensor, height: int, width: int) -> Tensor:
    """(n, height, width) uint8: `UNKNOWN` for pixels whose centre lies in the box, else 0."""
    x = torch.arange(width, device=boxes.device) + 0.5
    y = torch.arange(height, device=boxes.device) + 0.5
    within_x = (x >= boxes[:, :1]) & (x <= boxes[:, 2:3])
    within_y = (y >= boxes[:, 1:2]) & (y <= boxes[:, 3:])
    return (within_y[:, :, None] & within_x[:, None, :]).to(torch.uint8) * UNKNOWN


def distinct(
    probabilities: Float[Tensor, "box leaf"],
    boxes: Float[Tensor, "box 4"],
    keep: int = KEEP,
    threshold: float = SUPPRESS,
) -> Tensor:
    """Indices of the objects to keep, surest first: near-duplicates are suppressed whatever their class."""
    kept: Tensor = nms(boxes.detach(), 1.0 - probabilities.detach()[:, 0], threshold)[:keep]
    return kept
