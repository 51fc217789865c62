"""The strong view of an image that the student is shown, where the teacher sees the plain one.

The student must find on a harder view what the teacher finds on an easy one (FixMatch: Sohn et al., NeurIPS 2020; for detectors
Unbiased Teacher and Soft Teacher, ICLR and ICCV 2021). On top of the usual augmentation (exposure, contrast, scale and shift,
in `neurosym.learning.batches`): gamma and contrast again, wider; a blur or noise; and rectangles cut out (Cutout: DeVries &
Taylor 2017, arXiv:1708.04552), filled with the film's mean. No mirror image, which would swap left and right; nothing that
moves a box."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neurosym.learning.batches import one_channel

GAMMA, CONTRAST, NOISE = (0.6, 1.7), (0.6, 1.5), 0.06
HOLES, HOLE_SHARE = 3, (0.02, 0.1)
"""Rectangles at most, and the share of the image's area that one covers."""
_BLUR = 0.3
"""Probability of a blur; noise has the same."""


def strong_view(image: Float[Tensor, "3 height width"], rng: np.random.Generator) -> Float[Tensor, "3 height width"]:
    """A harder view of an image in [0, 1]; the same generator state gives the same view."""
    gamma, contrast = rng.uniform(*GAMMA), rng.uniform(*CONTRAST)
    blurred, noisy = rng.random(2) < _BLUR
    seed = int(rng.integers(2**31))
    channels = len(image)
    image = one_channel(image)
    shown = ((image.clamp(1e-3, 1.0) ** gamma - 0.5) * contrast + 0.5).clamp(0.0, 1.0)
    if blurred:
        shown = F.avg_pool2d(shown[None], 3, 1, 1, count_include_pad=False)[0]
    if noisy:
        noise = torch.randn(shown.shape[1:], generator=torch.Generator().manual_seed(seed)).to(shown)
        shown = (shown + NOISE * noise).clamp(0.0, 1.0)
    return cut_out(shown, int(rng.integers(HOLES + 1)), rng).expand(channels, -1, -1)


def cut_out(
    image: Float[Tensor, "3 height width"], holes: int, rng: np.random.Generator
) -> Float[Tensor, "3 height width"]:
    """The image with rectangles, of any place on it, filled with its mean; the image itself is left alone."""
    height, width = image.shape[1:]
    shown, mean = image.clone(), image.mean()
    for _ in range(holes):
        area, aspect = rng.uniform(*HOLE_SHARE) * height * width, float(np.exp(rng.uniform(-1, 1)))
        high, wide = (
            max(1, min(s, round(v))) for s, v in ((height, (area * aspect) ** 0.5), (width, (area / aspect) ** 0.5))
        )
        top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
        shown[:, top : top + high, left : left + wide] = mean
    return shown
