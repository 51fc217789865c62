"""Where the true border of an object lies, seen from the border of its coarse mask: estimated, never given.

Pixels around an annotated region are sorted into rings by their signed distance to its border, in units of the region's root
mean square radius, which a stroke through an object shares with the object about. A brush that is too wide, a polygon of few
corners and a stroke in the middle then differ in one thing only: how likely a pixel of ring k belongs to the object,

    π_{c,k} = P(y = 1 | class c, ring k),    falling with k.

Two estimates, over all images of a training. **Profile**: the mean colour m_k of a ring changes where a border is crossed, and
nowhere else as fast, wherever the annotation drew its own. With w_k the pixels of a ring, relative to the largest ring,

    jump_k = √ max(0, w_k ‖m_{k+1} − m_k‖² − median of these),    π_k = 1 − Σ_{j<k} jump_j / Σ jump_j

over the run of rings about the highest jump, with gaps of a ring at most: what changes far off is another object's border.

**Expectation–maximisation** (as STAPLE estimates its raters, Warfield et al. 2004, whose sensitivity is not a function of
distance): once posteriors q of pixels are known, π_k is their mean over ring k, made monotone (pool adjacent violators). The
profile breaks the symmetry that EM alone cannot: if all masks are too wide, a wide object explains them as well.
Colours, and not the network's features, make the profile: features trained on coarse masks jump at the annotated border.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy import ndimage
from scipy.optimize import isotonic_regression
from torch import Tensor, nn

NEAREST, FARTHEST, RING = -1.2, 2.0, 0.1
"""The first and the last border between rings, and a ring's width, in root mean square radii; what is farther is background."""
_EDGES = np.round(np.arange(NEAREST, FARTHEST + RING / 2, RING), 6)
RINGS = len(_EDGES) + 1
_LEAST = 0.005
"""π stays between this and 1 − this, so that no ring is beyond doubt."""
_MEMORY = 0.95


def signed_distance(mask: UInt8[Tensor, "height width"]) -> tuple[Float[Tensor, "height width"], float] | None:
    """Distance of each pixel's centre to the border of the pixels that are 1 (negative inside), in units of the radius.

    The radius, which is returned too, is the root mean square distance of the region's pixels to their mean, in pixels. The
    edge of the image is no border. None if no pixel is 1.
    """
    inside = (mask == 1).cpu().numpy()
    rows, columns = np.nonzero(inside)
    if not len(rows):
        return None
    radius = float(np.sqrt(rows.var() + columns.var() + 1 / 6))  # 1/6: of the pixel itself
    if inside.all():
        return torch.full(mask.shape, -torch.inf, device=mask.device), radius
    pixels = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    pixels -= 0.5 * np.sign(pixels)  # from centres of pixels to the line between them
    return torch.from_numpy(pixels / radius).to(mask.device, torch.float32), radius


def rings_of(distance: Float[Tensor, "height width"]) -> Int[Tensor, "height width"]:
    """The ring of each pixel, 0 the deepest."""
    return torch.bucketize(distance, torch.as_tensor(_EDGES, dtype=distance.dtype, device=distance.device))


class BorderModel(nn.Module):
    """π of each class, from running sums over the rings of the last images.

    Args:
        classes: number of classes, counted from 0 here.
        channels: of the images.
    """

    colours: Tensor
    pixels: Tensor
    inside: Tensor
    judged: Tensor
    spread: Tensor

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        self.register_buffer("colours", torch.zeros(classes, RINGS, channels))
        self.register_buffer("pixels", torch.zeros(classes, RINGS))
        self.register_buffer("inside", torch.zeros(classes, RINGS))
        self.register_buffer("judged", torch.zeros(classes, RINGS))
        self.register_buffer("spread", torch.zeros(classes, 2))

    @torch.no_grad()
    def see(self, c: int, rings: Int[Tensor, "height width"], image: Float[Tensor, "channel height width"]) -> None:
        """Take the colours of one image's rings around the regions of class c."""
        own = rings.flatten()
        sums = torch.zeros_like(self.colours[c]).index_add_(0, own, image.flatten(1).T)
        self.colours[c] = _MEMORY * self.colours[c] + sums
        self.pixels[c] = _MEMORY * self.pixels[c] + torch.bincount(own, minlength=RINGS)

    @torch.no_grad()
    def judge(
        self, c: int, rings: Int[Tensor, "height width"], posterior: Float[Tensor, "height width"], variance: Tensor
    ) -> None:
        """Take the posteriors of one image's pixels, and the squared distance of each from the colour of its own side."""
        own, within = rings.flatten(), (rings < RINGS - 1).flatten()
        self.inside[c] = _MEMORY * self.inside[c] + torch.zeros_like(self.inside[c]).index_add_(
            0, own, posterior.flatten()
        )
        self.judged[c] = _MEMORY * self.judged[c] + torch.bincount(own, minlength=RINGS)
        found = torch.stack([variance.flatten()[within].sum(), within.sum().to(variance.dtype)])
        self.spread[c] = _MEMORY * self.spread[c] + found

    def profile(self, c: int) -> Float[Tensor, " ring"]:
        """π by the colours alone; a step at the annotated border if they never change or none was seen."""
        seen = self.pixels[c]
        means = self.colours[c] / seen.clamp_min(1e-6)[:, None]
        weight = torch.minimum(seen[1:], seen[:-1]) / seen[:-1].max().clamp_min(1e-6)
        change = weight * (means[1:] - means[:-1]).square().mean(1)
        change[-1] = 0.0  # beyond the last ring lies all the rest of the image
        jump = (change - change.median()).clamp_min(0.0).sqrt()
        joined = ndimage.binary_closing(np.pad(jump.cpu().numpy() > 0, 1))[1:-1]
        runs, _ = ndimage.label(joined)
        jump = jump * torch.as_tensor(runs == runs[int(change.argmax())], device=jump.device)
        if not float(jump.sum()) > 0:
            jump = torch.as_tensor(_EDGES == 0.0, dtype=jump.dtype, device=jump.device)
        passed = torch.cat([jump.new_zeros(1), jump.cumsum(0)]) / jump.sum()
        return self._doubted(1.0 - passed)

    def shares(self, c: int) -> Float[Tensor, " ring"]:
        """π: of the posteriors where there are any, else the profile."""
        judged = self.judged[c]
        if not float(judged.sum()) > 0:
            return self.profile(c)
        weight = judged.clamp_min(1e-3).cpu().numpy().astype(float)
        mean = (self.inside[c] / judged.clamp_min(1e-3)).cpu().numpy().astype(float)
        falling = isotonic_regression(mean, weights=weight, increasing=False).x
        return self._doubted(judged.new_tensor(falling.tolist()))

    def at(self, c: int, distance: Float[Tensor, "height width"]) -> Float[Tensor, "height width"]:
        """π at each pixel, linear between the middles of rings; 0 beyond `FARTHEST`."""
        shares = self.shares(c)
        place = ((distance - NEAREST) / RING + 0.5).clamp(0.0, RINGS - 1.001)
        k = place.long()
        between = torch.lerp(shares[k], shares[k + 1], place - k)
        return torch.where(distance > FARTHEST, torch.zeros_like(between), between)

    def variance(self, c: int) -> Tensor | None:
        """Mean squared distance of a pixel from the colour of its own side; None before anything was judged."""
        total, count = self.spread[c]
        return total / count if float(count) > 0 else None

    @staticmethod
    def _doubted(shares: Tensor) -> Tensor:
        return torch.cat([shares[:-1].clamp(_LEAST, 1.0 - _LEAST), torch.zeros_like(shares[-1:])])
