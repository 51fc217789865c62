"""Class centroids of feature vectors on each level of a pyramid, and the maps that say where a class really is.

The founding paper (Cheng & Wu, IJCAI 2022) filters positive samples "by centroid feature maps of the FPN levels" and leaves
it at that sentence; this is our reading. With the unit vector û of a cell's features on level l,

    μ_{l,c} ← m μ_{l,c} + (1 − m) mean of û over cells of class c, each weighted by how sure it is,     c = 0: the background
    M_{l,c}(u) = softmax_c(κ ⟨û, μ̂_{l,c}⟩)

A cell belongs to class c if it lies in the middle of a box of c; it is the surer, the more the present map agrees. Cells in no
box, nor in its surroundings, are background. κ = 10 as in cosine classifiers (Gidaris & Komodakis, CVPR 2018).
Classes that lie within others (a nodule in a lung) compete only where both are: a cell of the smaller box is not one of
the larger.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

CORE = 0.5
"""Side of the middle of a box whose cells make its class's centroid, as a share of the box's side."""
AROUND = 1.5
"""Side of a box's surroundings, likewise; background begins beyond."""


def cell_centres(height: int, width: int, size: tuple[float, float], device: torch.device) -> Float[Tensor, "cell 2"]:
    """The centres (x, y) of a level's cells, row by row, in pixels of an image of (width, height) `size`."""
    x = (torch.arange(width, device=device) + 0.5) * (size[0] / width)
    y = (torch.arange(height, device=device) + 0.5) * (size[1] / height)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)


def within(
    cells: Float[Tensor, "cell 2"], boxes: Float[Tensor, "box 4"], scale: float = 1.0
) -> Bool[Tensor, "box cell"]:
    """Which cells lie in each box, its sides scaled about its centre."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    return ((cells[None] - centre[:, None]).abs() <= half[:, None]).all(-1)


class CentroidBank(nn.Module):
    """Centroids μ (level, 1 + class, channel), the background first; `seen` tells which of them have been fed.

    Args:
        classes: number of classes without the background.
        levels: of the pyramid, finest first.
        channels: of its features.
        momentum: m; a step is a few images, so a centroid forgets within some 1 / (1 − m) steps.
        sharpness: κ.
    """

    centroids: Tensor
    seen: Tensor

    def __init__(
        self, classes: int, levels: int, channels: int, momentum: float = 0.95, sharpness: float = 10.0
    ) -> None:
        super().__init__()
        self.momentum, self.sharpness = momentum, sharpness
        self.register_buffer("centroids", torch.zeros(levels, classes + 1, channels))
        self.register_buffer("seen", torch.zeros(levels, classes + 1, dtype=torch.bool))

    def merge(self, states: dict[str, Tensor]) -> None:
        """Take up the mean of the centroids of all processes that have fed them."""
        fed = states["seen"].to(self.centroids)[..., None]
        self.centroids.copy_((fed * states["centroids"]).sum(0) / fed.sum(0).clamp_min(1.0))
        self.seen.copy_(states["seen"].any(0))

    def map(self, level: int, features: Float[Tensor, "channel height width"]) -> Float[Tensor, "leaf height width"]:
        """M of one image on one level; a class that was never fed has no share, all is background before the first update."""
        cells = F.normalize(features.flatten(1), dim=0)
        cosine = F.normalize(self.centroids[level], dim=1) @ cells
        cosine = cosine.masked_fill(~self.seen[level][:, None], -torch.inf)
        if not bool(self.seen[level].any()):
            cosine = torch.cat([torch.zeros_like(cosine[:1]), cosine[1:]])
        shares = (self.sharpness * cosine).softmax(0)
        return shares.reshape(-1, *features.shape[1:])

    @torch.no_grad()
    def update(
        self,
        level: int,
        features: Sequence[Float[Tensor, "channel _ _"]],
        sizes: Sequence[tuple[float, float]],
        boxes: Sequence[Float[Tensor, "_ 4"]],
        labels: Sequence[Int[Tensor, " _"]],
        quality: Sequence[Float[Tensor, " _"]],
        maps: Sequence[Float[Tensor, "leaf _ _"]],
    ) -> None:
        """Feed one level with the images of a step: unpadded features, (width, height), boxes in pixels, quality in [0, 1].

        `maps` are those of the images before the update (`map`).
        """
        weights = [
            self._weights(level, shown, size, box, label, sure)
            for size, box, label, sure, shown in zip(sizes, boxes, labels, quality, maps, strict=True)
        ]
        self.feed(level, features, weights)

    @torch.no_grad()
    def feed(
        self,
        level: int,
        features: Sequence[Float[Tensor, "channel _ _"]],
        weights: Sequence[Float[Tensor, "leaf _"]],
    ) -> None:
        """Feed one level with the images of a step, each cell of which counts for each centroid by its weight."""
        sums = torch.zeros_like(self.centroids[level])
        mass = sums.new_zeros(len(sums))
        for image, weight in zip(features, weights, strict=True):
            sums += weight @ F.normalize(image.flatten(1), dim=0).T
            mass += weight.sum(1)
        fed = mass > 0
        mean = sums[fed] / mass[fed, None]
        first = ~self.seen[level][fed]
        old = self.centroids[level][fed]
        self.centroids[level][fed] = torch.where(first[:, None], mean, self.momentum * old + (1 - self.momentum) * mean)
        self.seen[level] |= fed

    def _weights(
        self, level: int, shown: Tensor, size: tuple[float, float], boxes: Tensor, labels: Tensor, quality: Tensor
    ) -> Float[Tensor, "leaf cell"]:
        """How much each cell of an image with map `shown` counts for each centroid."""
        cells = cell_centres(shown.shape[1], shown.shape[2], size, shown.device)
        agree = shown.flatten(1)
        weight = torch.zeros_like(agree)
        weight[0] = (~within(cells, boxes, AROUND).any(0)).to(agree.dtype)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        core = within(cells, boxes, CORE)
        for n in area.argsort(descending=True).tolist():  # the smallest box of a cell is drawn last and keeps it
            weight[:, core[n]] = 0.0
            label = int(labels[n])
            known = agree[label] if bool(self.seen[level, label]) else torch.ones_like(agree[label])
            weight[label] = torch.where(core[n], known * quality[n], weight[label])
        return weight


def evidence(
    maps: Float[Tensor, "box height width"], boxes: Float[Tensor, "box candidate 4"], size: tuple[float, float]
) -> Float[Tensor, "box candidate"]:
    """a(b) = mean of M in b · (1 − mean of M in the ring from b to `AROUND` b): near 1 if b holds its class and no more.

    Means are taken over areas with M constant in each cell, by a summed-area table: a box smaller than a cell has that cell's
    value, and gradients are not meant. A ring that lies outside the image altogether counts as empty.

    Args:
        maps: M of each box's class on the level that suits it.
        boxes: candidates, XYXY in pixels of an image of (width, height) `size`.
    """
    inner, area = _integral(maps, boxes, size)
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2 * AROUND
    outer, all_of_it = _integral(maps, torch.cat([centre - half, centre + half], -1), size)
    ring = ((outer - inner) / (all_of_it - area).clamp_min(1e-6)).clamp(0.0, 1.0)
    return (inner / area.clamp_min(1e-6)).clamp(0.0, 1.0) * (1.0 - ring)


def _integral(
    maps: Float[Tensor, "box height width"], boxes: Float[Tensor, "box candidate 4"], size: tuple[float, float]
) -> tuple[Float[Tensor, "box candidate"], Float[Tensor, "box candidate"]]:
    """∫ M over each box within the image, and the area over which it is taken; both in cells."""
    height, width = maps.shape[1:]
    table = F.pad(maps.cumsum(1).cumsum(2), (1, 0, 1, 0))
    limit = boxes.new_tensor([width, height, width, height])
    placed = (boxes * (limit / boxes.new_tensor([*size, *size]))).clamp_min(0.0)
    x1, y1, x2, y2 = torch.minimum(placed, limit).unbind(-1)
    total = _read(table, x2, y2) - _read(table, x1, y2) - _read(table, x2, y1) + _read(table, x1, y1)
    return total, (x2 - x1) * (y2 - y1)


def _read(table: Float[Tensor, "box row column"], x: Tensor, y: Tensor) -> Tensor:
    """The table between its entries, bilinear: exact for an integral of a map that is constant in each cell."""
    left, top = x.floor().clamp(max=table.shape[2] - 2), y.floor().clamp(max=table.shape[1] - 2)
    u, v = x - left, y - top
    index = torch.arange(len(table), device=table.device)[:, None].expand(x.shape)
    i, j = top.long(), left.long()
    upper = table[index, i, j] * (1 - u) + table[index, i, j + 1] * u
    lower = table[index, i + 1, j] * (1 - u) + table[index, i + 1, j + 1] * u
    return upper * (1 - v) + lower * v
