"""Views of whole films for consistency training: weak and strong augmentation of a batch, without mirrors.

The strong view follows RandAugment (Cubuk et al., NeurIPS 2020) as FixMatch and CoMatch use it: a few operations drawn anew for
each film, each of a random strength, then a square that is cut out (DeVries & Taylor 2017). Operations are those that a film
may undergo in practice: position and exposure of the patient, focus, grain. Mirrors, inversion and solarisation are left out:
they would move the heart to the right, or make air white.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

OPERATIONS = ("turn", "scale", "shear", "shift", "gamma", "contrast", "brightness", "blur", "sharpen", "grain")
DRAWN = 3
"""Operations of a strong view."""
CUT = 0.3
"""Side of the square that is cut out, at most, as a share of the film's."""

Images = Float[Tensor, "film 3 height width"]


def weak_view(films: UInt8[Tensor, "film height width"], rng: np.random.Generator) -> Images:
    """Shifts of up to 4%, scales of up to 5%, brightness of up to 5%."""
    count = len(films)
    pixels = films[:, None].float() / 255.0
    move = {"scale": rng.uniform(-0.05, 0.05, count), "shift": rng.uniform(-0.04, 0.04, (count, 2))}
    pixels = moved(pixels, move) + column(rng.uniform(-0.05, 0.05, count))
    return _three(pixels)


def plain_view(films: UInt8[Tensor, "film height width"]) -> Images:
    """The films as they are."""
    return _three(films[:, None].float() / 255.0)


def strong_view(films: UInt8[Tensor, "film height width"], rng: np.random.Generator) -> Images:
    """`DRAWN` of `OPERATIONS` for each film, then a square cut out."""
    count = len(films)
    on = np.zeros((count, len(OPERATIONS)), dtype=bool)
    for row in on:
        row[rng.choice(len(OPERATIONS), DRAWN, replace=False)] = True
    does = {name: on[:, k].astype(float) for k, name in enumerate(OPERATIONS)}
    strength = {name: does[name] * rng.uniform(-1.0, 1.0, count) for name in OPERATIONS}
    move = {
        "turn": np.deg2rad(12.0) * strength["turn"],
        "scale": 0.2 * strength["scale"],
        "shear": 0.15 * strength["shear"],
        "shift": 0.12 * does["shift"][:, None] * rng.uniform(-1.0, 1.0, (count, 2)),
    }
    pixels = moved(films[:, None].float() / 255.0, move)
    pixels = pixels.clamp(1e-3, 1.0) ** column(1.7 ** strength["gamma"])
    middle = pixels.mean((2, 3), keepdim=True)
    pixels = (pixels - middle) * column(1.6 ** strength["contrast"]) + middle
    pixels = pixels + 0.2 * column(strength["brightness"])
    smooth = _blurred(pixels)
    pixels = pixels + column(np.abs(strength["blur"])) * (smooth - pixels)
    pixels = pixels + 1.5 * column(np.abs(strength["sharpen"])) * (pixels - _blurred(pixels))
    noise = torch.from_numpy(rng.standard_normal(tuple(pixels.shape), dtype=np.float32)).to(pixels)
    pixels = pixels + 0.06 * column(np.abs(strength["grain"])).to(pixels) * noise
    return _three(_cut(pixels, rng))


def moved(pixels: Float[Tensor, "film 1 side side"], move: dict[str, np.ndarray]) -> Float[Tensor, "film 1 side side"]:
    """Square films turned, sheared, scaled and shifted about the centre in one resampling; what comes in is the film's edge.

    Args:
        pixels: the films.
        move: of each film `scale` (beside 1) and `shift` (film, 2) as a share of the side; it may have `turn` (radians) and
            `shear`, too.
    """
    count = len(pixels)
    none = np.zeros(count)
    turn, shear, scale = move.get("turn", none), move.get("shear", none), 1.0 + move["scale"]
    cos, sin = np.cos(turn) / scale, np.sin(turn) / scale
    theta = np.zeros((count, 2, 3), dtype=np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = cos, -sin + shear
    theta[:, 1, 0], theta[:, 1, 1] = sin, cos
    theta[:, :, 2] = -2.0 * move["shift"]
    grid = F.affine_grid(torch.from_numpy(theta).to(pixels), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def column(values: np.ndarray) -> Float[Tensor, "film 1 1 1"]:
    """A number of each film, to go with a batch of films."""
    return torch.from_numpy(values.astype(np.float32))[:, None, None, None]


def _blurred(pixels: Tensor) -> Tensor:
    """A binomial kernel of 5×5 (a standard deviation of one pixel)."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]).to(pixels) / 16.0
    padded = F.pad(pixels, (2, 2, 2, 2), mode="replicate")
    return F.conv2d(padded, (row[:, None] * row[None])[None, None])


def _cut(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """A square of each film, anywhere, is replaced by grey."""
    count, _, height, width = pixels.shape
    side = rng.uniform(0.0, CUT, count)
    y, x = rng.uniform(0.0, 1.0, (2, count))
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    far_y = (rows[None] - torch.from_numpy(y)[:, None]).abs() > torch.from_numpy(side / 2)[:, None]
    far_x = (columns[None] - torch.from_numpy(x)[:, None]).abs() > torch.from_numpy(side / 2)[:, None]
    kept = (far_y[:, :, None] | far_x[:, None, :])[:, None].to(pixels.device)
    return torch.where(kept, pixels, pixels.new_tensor(0.5))


def _three(pixels: Tensor) -> Tensor:
    return pixels.clamp(0.0, 1.0).expand(-1, 3, -1, -1)
