"""Soft masks as objects: where a probability map's box lies, how surely it shows anything, and box masks over the whole image.

Constraints relate boxes, a segmenter has maps. What turns one into the other is ours:

- **presence** of a soft mask m is Σ m³ / Σ m², between the mean and the maximum of m: 1 for any crisp mask that is not empty,
  p for a map that is p everywhere, and hardly lowered by a faint background.
- **soft box**: the expected bounding box of a random set whose columns (and rows) are occupied independently, given that it
  is not empty. Column x is occupied with probability a(x) = r⁴ / (r⁴ + (1 − r)⁴), r the column's maximum over the mask's, so

      P(first = x) ∝ a(x) Π_{x' < x} (1 − a(x')),        x₁ = Σ x P(first = x),        x₂ = Σ (x + 1) P(last = x)

  which is the tight box of a crisp mask, about the half-maximum extent of a soft one, and at least a cell wide always.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_SHARP = 4.0
_TINY = 1e-6


def cells_of(size: tuple[float, float], longest: int) -> tuple[int, int]:
    """(rows, columns) of square cells that cover an image of (width, height), `longest` along its longer side."""
    width, height = size
    cell = max(1.0, max(width, height) / longest)
    return max(1, round(height / cell)), max(1, round(width / cell))


def presence(masks: Float[Tensor, "box height width"]) -> Float[Tensor, " box"]:
    """How surely a soft mask shows anything, in [0, 1]."""
    square = masks.square()
    return (square * masks).sum((1, 2)) / (square.sum((1, 2)) + _TINY**2)


def soft_box(masks: Float[Tensor, "box height width"], size: tuple[float, float]) -> Float[Tensor, "box 4"]:
    """The expected bounding box of each soft mask, in pixels of an image of (width, height) `size`.

    An empty mask has no error but the box of one cell in the middle of the image.
    """
    peak = masks.detach().amax((1, 2)).clamp(min=_TINY)[:, None]
    x1, x2 = _extent(masks.amax(1) / peak)
    y1, y2 = _extent(masks.amax(2) / peak)
    cell_x, cell_y = size[0] / masks.shape[2], size[1] / masks.shape[1]
    return torch.stack([x1 * cell_x, y1 * cell_y, x2 * cell_x, y2 * cell_y], 1)


def _extent(profile: Float[Tensor, "box cell"]) -> tuple[Float[Tensor, " box"], Float[Tensor, " box"]]:
    """Expected first edge and last edge of each row's random set, in cells."""
    occupied = _SHARP * torch.logit(profile.clamp(_TINY, 1.0 - _TINY))
    place = torch.arange(profile.shape[1], device=profile.device, dtype=profile.dtype)
    first = _expected(occupied, place)
    last = _expected(occupied.flip(1), place.flip(0))
    return first, last + 1.0


def _expected(occupied: Float[Tensor, "box cell"], place: Float[Tensor, " cell"]) -> Float[Tensor, " box"]:
    """The expected place of the first occupied cell, given that there is one; `occupied` are logits."""
    free_so_far = F.logsigmoid(-occupied).cumsum(1)
    before = F.pad(free_so_far[:, :-1], (1, 0)).exp()
    weight = occupied.sigmoid() * before
    return (weight * place).sum(1) / weight.sum(1)


def at_image_size(masks: Float[Tensor, "box rows columns"], size: Sequence[int]) -> Float[Tensor, "box height width"]:
    """Soft masks over the whole image, enlarged to its (height, width): bilinear between the middles of cells."""
    if not len(masks):
        return masks.new_zeros(0, *size)
    return F.interpolate(masks[None], size=tuple(size), mode="bilinear", align_corners=False)[0]


def paste(
    masks: Float[Tensor, "box side side"],
    boxes: Float[Tensor, "box 4"],
    size: tuple[float, float],
    cells: tuple[int, int],
) -> Float[Tensor, "box height width"]:
    """Masks relative to their boxes, laid over the whole image of (width, height) `size`.

    A cell has the mask's value at its centre (bilinear) times the share of the cell that the box covers, so a mask of ones has
    the area of its box, however small; gradients reach the masks and the boxes.
    """
    u, across = _along(boxes[:, 0], boxes[:, 2], size[0] / cells[1], cells[1])
    v, down = _along(boxes[:, 1], boxes[:, 3], size[1] / cells[0], cells[0])
    grid = torch.stack([u[:, None, :].expand(-1, cells[0], -1), v[:, :, None].expand(-1, -1, cells[1])], -1)
    sampled = F.grid_sample(masks[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    return sampled * (down[:, :, None] * across[:, None, :])


def _along(
    low: Float[Tensor, " box"], high: Float[Tensor, " box"], cell: float, count: int
) -> tuple[Float[Tensor, "box cell"], Float[Tensor, "box cell"]]:
    """On one axis: each cell's place in the box, from -1 to 1, and the share of the cell that the box covers."""
    low, high = low[:, None], high[:, None]
    start = torch.arange(count, device=low.device) * cell
    covered = (torch.minimum(start + cell, high) - torch.maximum(start, low)).clamp(min=0.0) / cell
    place = 2.0 * (start + 0.5 * cell - low) / (high - low).clamp(min=_TINY) - 1.0
    # beyond the bound a cell is outside anyway; without it a thin box would ask for places that no integer can name
    return place.clamp(-4.0, 4.0), covered
