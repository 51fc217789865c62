"""Random views of films for self-supervised pretraining: multi-crop (Caron et al., NeurIPS 2020) for radiographs.

A crop shows a random share of the film's area at an aspect of 3:4 to 4:3, cut and scaled in one antialiased step, then
turned a little. Its grey values pass through a random film curve (gamma, contrast, brightness), focus (Gaussian blur) and
grain. Ghesu et al. 2022 rescale the film's frequency bands beside that ("energy"); here there is no such step. There is no
mirror image unless it is asked for, because left and right are what anatomy and rules speak of; neither inversion nor
solarisation, which would make air white. All crops of one size are changed together, one tensor operation a step.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from neurosym.learning.pretrain_config import ViewsConfig
from neurosym.learning.views import column

Crops = Float[Tensor, "film channel side side"]
_ASPECT = float(np.log(4 / 3))
_SIGMAS = (0.3, 1.0)
"""A blur that is drawn has at least this share of the greatest standard deviation, and at most all of it."""


def as_picture(pixels: np.ndarray, channels: str) -> Image.Image:
    """A film as Pillow's picture, grey or in colours as asked for."""
    return Image.fromarray(pixels).convert("L" if channels == "grey" else "RGB")


def crops_of(pictures: list[Image.Image], views: ViewsConfig, local: int, rng: np.random.Generator) -> list[Crops]:
    """Two large crops of each film, then `local` small ones: tensors in [0, 1], one a crop."""
    sizes = [(views.size, views.scale)] * 2 + [(views.local_size, views.local_scale)] * local
    return [changed(torch.stack([_crop(p, size, scale, rng) for p in pictures]), views, rng) for size, scale in sizes]


def whole(pictures: list[Image.Image], size: int) -> Crops:
    """Each film as it is, scaled to a square."""
    return torch.stack([_tensor(p.resize((size, size), Image.Resampling.BILINEAR)) for p in pictures])


def changed(crops: Crops, views: ViewsConfig, rng: np.random.Generator) -> Crops:
    """Crops turned and mirrored, exposed, coloured, blurred and grained, each by its own draw."""
    count = len(crops)
    crops = _turned(crops, views, rng)
    gamma = views.gamma ** rng.uniform(-1, 1, count)
    contrast = views.contrast ** rng.uniform(-1, 1, count)
    brightness = rng.uniform(-views.brightness, views.brightness, count)
    crops = crops.clamp(1e-3, 1.0) ** column(gamma)
    middle = crops.mean((1, 2, 3), keepdim=True)
    crops = (crops - middle) * column(contrast) + middle + column(brightness)
    if views.colour:
        tint = rng.uniform(1 - views.colour, 1 + views.colour, (count, 3, 1, 1)).astype(np.float32)
        crops = crops * torch.from_numpy(tint)
    crops = _blurred(crops, views.blur * crops.shape[-1], rng)
    if views.noise:
        grain = rng.standard_normal((count, 1, *crops.shape[2:]), dtype=np.float32)
        crops = crops + column(rng.uniform(0, views.noise, count)) * torch.from_numpy(grain)
    return crops.clamp(0.0, 1.0)


def _crop(picture: Image.Image, size: int, scale: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """A box of a random area, aspect and place, scaled to a square."""
    width, height = picture.size
    area = width * height * rng.uniform(*scale)
    stretch = np.exp(rng.uniform(-_ASPECT, _ASPECT) / 2)
    wide, high = min(np.sqrt(area) * stretch, width), min(np.sqrt(area) / stretch, height)
    x, y = rng.uniform(0, width - wide), rng.uniform(0, height - high)
    box = (x, y, min(x + wide, width), min(y + high, height))
    return _tensor(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _tensor(picture: Image.Image) -> Float[Tensor, "channel height width"]:
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / np.float32(255.0))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _turned(crops: Tensor, views: ViewsConfig, rng: np.random.Generator) -> Tensor:
    """About the centre; what comes in from outside is the crop's edge."""
    count = len(crops)
    angle = np.deg2rad(views.rotation) * rng.uniform(-1, 1, count)
    across = np.where(rng.random(count) < views.mirror, -1.0, 1.0)
    down = np.where(rng.random(count) < views.flip, -1.0, 1.0)
    if not (views.rotation or views.mirror or views.flip):
        return crops
    theta = np.zeros((count, 2, 3), dtype=np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle) * across, -np.sin(angle) * down
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle) * across, np.cos(angle) * down
    grid = F.affine_grid(torch.from_numpy(theta), list(crops.shape), align_corners=False)
    return F.grid_sample(crops, grid, padding_mode="border", align_corners=False)


def _blurred(crops: Tensor, sigma: float, rng: np.random.Generator) -> Tensor:
    """Half of the crops, by a Gaussian of up to `sigma` pixels: rows, then columns, each crop with its own kernel."""
    count, channels = crops.shape[:2]
    on = rng.random(count) < 0.5
    widths = sigma * rng.uniform(*_SIGMAS, count)
    chosen = np.flatnonzero(on)
    radius = int(np.ceil(2 * sigma))
    if radius < 1 or not len(chosen):
        return crops
    at = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (at[None] / np.maximum(widths[chosen], 1e-3)[:, None]) ** 2)
    weight = torch.from_numpy((kernel / kernel.sum(1, keepdims=True)).astype(np.float32)).repeat_interleave(channels, 0)
    index = torch.from_numpy(chosen)
    part = crops[index].flatten(0, 1)[None]
    padded = F.pad(part, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(padded, weight[:, None, None, :], groups=len(weight))
    blurred = F.conv2d(rows, weight[:, None, :, None], groups=len(weight))
    return crops.index_copy(0, index, blurred.reshape(len(chosen), channels, *blurred.shape[2:]))
