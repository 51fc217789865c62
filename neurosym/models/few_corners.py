"""Masks drawn as polygons of few corners: which they are, and the outline that their corners lie on.

Who clicks an outline puts the corners on the border of the object and lets straight edges cut off what lies between, so the
mask is too small where the object bulges and too large where it is hollow. Neither is a distance to the border that all pixels
share, which is what `neurosym.models.mask_border` estimates, but the corners are known to be right.

**Which.** The outline is simplified until it strays by a pixel. An edge of length L of a round object of the same area would
miss its arc by the sagitta L²/8ρ, ρ = √(area/π). Where that is more than `CLEARLY` pixels the edge was drawn, not seen. A mask
has few corners if such edges are more than `SHARE` of its outline, and it is neither a stroke, whose sides are straight, too:
4π area > `STROKE` outline², nor a box, whose corners lie off the border: its area is less than `BOX` of its extent.

**Outline.** The centripetal Catmull–Rom curve through the corners (Catmull & Rom 1974; of its kind the one without cusps and
loops within an edge: Yuksel, Schaefer & Keyser, Computer-Aided Design 2011, doi:10.1016/j.cad.2010.08.008).
"""

from __future__ import annotations

import numpy as np
import torch
from faster_coco_eval.core import mask as mask_api
from jaxtyping import UInt8
from torch import Tensor

from neurosym.data.degrade_masks import outlines, simplified

CLEARLY = 3.0
"""Pixels."""
SHARE = 0.4
STROKE = 0.27
BOX = 0.95
_TOLERANCE = 1.0
"""Pixels; what is drawn in pixels strays by as much from any line."""
_POINTS = 12
"""Of the curve, on an edge."""


def mended_polygon(mask: UInt8[Tensor, "height width"]) -> UInt8[Tensor, "height width"] | None:
    """The mask with the outline that its corners lie on; None if it was not drawn with few corners.

    Pixels that are neither 0 nor 1 are unknown: such a mask is none of these.
    """
    pixels = mask.cpu().numpy()
    if pixels.max(initial=0) != 1:
        return None
    loops = [simplified(loop, _TOLERANCE).astype(float) for loop in outlines(pixels == 1)]
    loops = [loop for loop in loops if len(loop) > 2]
    if not has_few_corners(loops, float(pixels.sum())):
        return None
    curves = [rounded(loop).ravel().tolist() for loop in loops]
    codes = mask_api.frPyObjects(curves, *pixels.shape)
    return torch.from_numpy(mask_api.decode(mask_api.merge(codes))).to(mask.device, torch.uint8)


def has_few_corners(loops: list[np.ndarray], area: float) -> bool:
    """Whether outlines, (corner, 2) each, around so many pixels were drawn edge by edge."""
    if not loops:
        return False
    lengths = np.concatenate([np.hypot(*(np.roll(c, -1, 0) - c).T) for c in loops])
    outline = lengths.sum()
    if 4 * np.pi * area <= STROKE * outline**2 or area >= BOX * _extent(loops):
        return False
    sagitta = lengths**2 / (8 * np.sqrt(area / np.pi))
    return bool(lengths[sagitta > CLEARLY].sum() > SHARE * outline)


def _extent(loops: list[np.ndarray]) -> float:
    corners = np.concatenate(loops)
    return float((corners.max(0) - corners.min(0)).prod())


def rounded(corners: np.ndarray) -> np.ndarray:
    """Points (12 · corner, 2) on the closed centripetal Catmull–Rom curve through all corners (corner, 2).

    In the pyramid of Barry & Goldman (SIGGRAPH 1988): lines between corners, then between these lines, then between those.
    """
    a, b, c, d = (np.roll(corners, shift, 0)[:, None] for shift in (1, 0, -1, -2))
    knots = [np.zeros((len(corners), 1, 1))]
    for p, q in ((a, b), (b, c), (c, d)):
        knots.append(knots[-1] + np.sqrt(np.linalg.norm(q - p, axis=-1, keepdims=True)))
    t0, t1, t2, t3 = knots
    t = t1 + (t2 - t1) * np.linspace(0, 1, _POINTS, endpoint=False)[:, None]

    def between(p: np.ndarray, q: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.asarray(p + (q - p) * (t - low) / (high - low))

    ab, bc, cd = between(a, b, t0, t1), between(b, c, t1, t2), between(c, d, t2, t3)
    curve = between(between(ab, bc, t0, t2), between(bc, cd, t1, t3), t1, t2)
    return np.asarray(curve.reshape(-1, 2))
