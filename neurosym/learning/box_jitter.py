"""Which of the teacher's boxes are reliable: those that the teacher finds again from nearby.

A sure class is no sign of an exact box (Soft Teacher: Xu et al., ICCV 2021, section 3.3). So each pseudo-box b is moved a
little, `jitters` times, and the teacher's own box head says where each of them should be:

    bᵢ = b + U(−s, s) · (w, h, w, h)      b̂ᵢ = head(bᵢ)
    σ̂_k = 2 · std_i b̂ᵢ[k] / (w + h)       reliable: mean_k σ̂_k < v

s = .06 and v = .02 are the paper's, as are 10 jitters. Boxes that are not reliable teach their class but no offsets
(`certainty` 0 in a target, see `neurosym.models.scene`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

Regress = Callable[[list[Tensor], list[Tensor]], list[Tensor]]
"""Boxes of each image and their labels → where the box head moves them."""


def jittered(
    boxes: Float[Tensor, "box 4"], count: int, size: float, rng: np.random.Generator
) -> Float[Tensor, "jitter box 4"]:
    """`count` copies of each box, every corner coordinate moved by up to `size` of its side, evenly."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moves = torch.from_numpy(rng.uniform(-size, size, (count, len(boxes), 4)).astype(np.float32)).to(boxes)
    return boxes + moves * sides


def spread(found: Float[Tensor, "jitter box 4"], boxes: Float[Tensor, "box 4"]) -> Float[Tensor, " box"]:
    """mean_k σ̂_k: the standard deviation of where boxes were found, in mean sides of the box."""
    sides = (boxes[:, 2:] - boxes[:, :2]).sum(1).clamp_min(1e-6) / 2
    return found.std(0, correction=0).mean(1) / sides


def reliable(
    boxes: Sequence[Float[Tensor, "_ 4"]],
    labels: Sequence[Tensor],
    regress: Regress,
    rng: np.random.Generator,
    count: int,
    size: float,
    bound: float,
) -> list[Bool[Tensor, " _"]]:
    """Of each image, which boxes the box head finds again to within `bound`."""
    moved = [jittered(b, count, size, rng) for b in boxes]
    found = regress([m.reshape(-1, 4) for m in moved], [k.repeat(count) for k in labels])
    return [
        spread(f.reshape(count, len(b), 4), b) < bound if len(b) else b.new_zeros(0, dtype=torch.bool)
        for f, b in zip(found, boxes, strict=True)
    ]
