"""Training a segmenter on coarse masks: pixels get a posterior in the place of a label, some are ignored, some made harder.

    image, coarse masks → polygons of few corners are rounded (`few_corners`), of the others:
    rings and their π (`mask_border`) → posterior of each pixel → targets of cross-entropy and dice,
    positives unlike their class are ignored (`positives`), what was ignored becomes the adversary's filler (`adversary`)

What kind of coarseness it is (too wide, of few corners, a stroke) is not given and not asked. With d the signed distance of
pixel u to the annotated border of class c, f its colour, m_in and m_out the **local centroids**: the mean colours, in a window
around u, of pixels weighted by q and by 1 − q,

    logit q(u) = logit π_c(d) + T (‖f − m_out‖² − ‖f − m_in‖²) / 2σ²

which is Bayes' posterior of a pixel for T = 1, its ring the prior and its colour the evidence, normal about the colours of the
two sides; σ² is the mean squared distance of a pixel from the colour of its own side. Colours of neighbours are not
independent, so T < 1. Local centroids are those of localised active contours (Lankton & Tannenbaum, IEEE TIP 2008), here in an
expectation–maximisation with soft sides; the rest is ours. The network's own probabilities are no part of it: it learns
systematic coarseness in a dozen steps, and then confirms what it was told. It learns y = [q > ½], each pixel with the weight
|2q − 1|: what is undecided teaches nothing, and the far tails of π do not add up to a faint object.

The **filter** reads class centroids of the finest pyramid level (`CentroidBank`, fed with pixels instead of boxes): of the
pixels that the annotation of a class and the posterior call its own, those of low M are unknown, not negative. The
**adversary** mixes their features, as badly as possible, into those of kept pixels, before the last convolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from neurosym.models.adversary import adversarial_loss
from neurosym.models.centroids import CentroidBank
from neurosym.models.config import InexactConfig
from neurosym.models.few_corners import mended_polygon
from neurosym.models.mask_border import FARTHEST, BorderModel, rings_of, signed_distance
from neurosym.models.positives import kept_positives
from neurosym.models.scene import UNKNOWN, Target

WINDOW = 0.6
"""Half the side of the window of local centroids, in root mean square radii of the region."""
TEMPER = 0.25
"""T."""
ROUNDS = 2
"""Rounds of local centroids and posterior on an image at each step."""
STRIDE = 4
"""Of the finest pyramid level, of which the filter and the adversary read a cell; local centroids have one each, too."""
KEPT, FILLERS = 64, 8
"""Cells of a class that the adversary attacks at each step, and with how many of the filtered ones."""
_SUREST = 4.0
"""Bound of the log odds of a colour."""


@dataclass(frozen=True)
class Mended:
    """What a step learns from: of each image the truth (0 or 1) of each class and pixel, its weight in [0, 1], and whether it
    was annotated but filtered; `maps` are the class maps M of each image's cells."""

    truth: list[Float[Tensor, "class _ _"]]
    weight: list[Float[Tensor, "class _ _"]]
    filtered: list[Bool[Tensor, "class _ _"]]
    maps: list[Float[Tensor, "leaf _ _"]]


class InexactMasks(nn.Module):
    """State of the training on coarse masks; nothing of it is part of a prediction."""

    steps: Tensor

    def __init__(self, config: InexactConfig, classes: int, channels: int) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.border = BorderModel(classes)
        self.bank = CentroidBank(classes, 1, channels)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def ready(self) -> bool:
        """Whether rings and centroids have been fed long enough to be believed."""
        return int(self.steps) >= self.config.start

    @torch.no_grad()
    def forward(
        self,
        images: Sequence[Float[Tensor, "3 _ _"]],
        targets: Sequence[Target],
        annotated: Sequence[UInt8[Tensor, "class _ _"]],
        cells: Sequence[Float[Tensor, "channel _ _"]],
    ) -> Mended:
        """Mend the annotations of a step, and learn from them how coarse they are.

        Args:
            images: scaled, of any contrast.
            targets: with `masks` and `labels`, on the scaled images.
            annotated: their class maps (see `neurosym.models.segmenter.class_maps`).
            cells: features of the finest pyramid level, without padding.
        """
        truth, weight, filtered, maps = [], [], [], []
        for image, target, marks, level in zip(images, targets, annotated, cells, strict=True):
            posterior, open_ = self._posterior(_standardised(image), target, marks)
            shown = self.bank.map(0, level)
            out = self._filtered(posterior, marks, shown)
            self._feed_bank(level, posterior, ~open_, shown)
            truth.append((posterior > 0.5).to(posterior.dtype))
            weight.append((2 * posterior - 1).abs() * ~(open_ | out))
            filtered.append(out)
            maps.append(shown)
        self.steps.add_(1)
        return Mended(truth, weight, filtered, maps)

    def _posterior(
        self, image: Tensor, target: Target, marks: Tensor
    ) -> tuple[Float[Tensor, "class height width"], Bool[Tensor, "class height width"]]:
        """q of one image, and which pixels stay unknown.

        Before `start`, and without a posterior, q is the annotation itself; polygons are mended from the first step on.
        """
        found, open_ = (marks == 1).to(image.dtype), marks == UNKNOWN
        if not self.config.posterior:
            return found, open_
        for c in sorted({int(label) - 1 for label in target["labels"]}):
            drawn, others = self._polygons(target["masks"][target["labels"] == c + 1])
            if drawn:
                shown = torch.stack([*drawn, *((mask == 1).to(image.dtype) for mask in others)])
                found[c] = torch.where(open_[c], found[c], shown.amax(0))
            where = region_distance(others)
            if where is None:
                continue
            distance, radius = where
            rings = rings_of(distance)
            self.border.see(c, rings, image)
            if not self.ready:
                continue
            q, variance = self._mended(c, image, distance, radius)
            self.border.judge(c, rings, q, variance)
            found[c] = torch.where(open_[c], found[c], torch.stack([q, *drawn]).amax(0))
        return found, open_

    @torch.no_grad()
    def judge(
        self, c: int, image: Float[Tensor, "3 height width"], masks: UInt8[Tensor, "object height width"]
    ) -> Float[Tensor, "height width"]:
        """q of class c on one scaled image as a step would mend these masks of it, without a step: no state changes."""
        drawn, others = self._polygons(masks)
        where = region_distance(others)
        q = torch.zeros_like(image[0]) if where is None else self._mended(c, _standardised(image), *where)[0]
        return torch.stack([q, *drawn]).amax(0)

    @staticmethod
    def _polygons(masks: UInt8[Tensor, "object height width"]) -> tuple[list[Tensor], list[Tensor]]:
        """The masks that are polygons of few corners, mended, and the others as they are."""
        mended = [mended_polygon(mask) for mask in masks]
        drawn = [polygon.float() for polygon in mended if polygon is not None]
        return drawn, [mask for mask, polygon in zip(masks, mended, strict=True) if polygon is None]

    def _mended(
        self, c: int, image: Tensor, distance: Tensor, radius: float
    ) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
        """q of one class on one image, and the squared distance of each pixel from the colour of its own side."""
        prior = self.border.at(c, distance)
        q = prior
        for _ in range(ROUNDS):
            inside, outside = local_centroids(image, q, radius * WINDOW)
            to_inside, to_outside = (image - inside).square().mean(0), (image - outside).square().mean(0)
            variance = q * to_inside + (1 - q) * to_outside
            known = self.border.variance(c)
            scale = 2 * (variance[distance < FARTHEST].mean() if known is None else known).clamp_min(1e-6)
            colour = (TEMPER * (to_outside - to_inside) / scale).clamp(-_SUREST, _SUREST)
            if not self.config.centroids:
                colour = torch.zeros_like(colour)
            q = combined(prior, colour)
        return q, variance

    def _filtered(self, posterior: Tensor, marks: Tensor, shown: Tensor) -> Bool[Tensor, "class height width"]:
        """The annotated positives that look less like their class than the others of their image."""
        out = torch.zeros_like(marks, dtype=torch.bool)
        if not (self.config.filter and self.ready):
            return out
        own = F.interpolate(shown[None, 1:], size=marks.shape[1:], mode="nearest")[0]
        for c in range(self.classes):
            positive = (marks[c] == 1) & (posterior[c] > 0.5)
            if bool(positive.any()):
                seen = own[c][positive]
                kept = kept_positives(seen, torch.zeros_like(seen, dtype=torch.long), 1, self.config.strictness)
                out[c][positive] = ~kept
        return out

    def _feed_bank(self, level: Tensor, posterior: Tensor, known: Tensor, shown: Tensor) -> None:
        """Feed the bank with the cells whose centres are likelier in a class than not; the smaller region has a shared cell."""
        height, width = level.shape[1:]
        q, sure = at_cells(posterior, height, width).flatten(1), at_cells(known, height, width).flatten(1)
        agree = shown.flatten(1)
        weight = torch.zeros_like(agree)
        weight[0] = ((q < 0.5) & sure).all(0).to(agree.dtype)
        inside = (q > 0.5) & sure
        for c in inside.sum(1).argsort(descending=True).tolist():
            weight[:, inside[c]] = 0.0
            trust = agree[c + 1] if bool(self.bank.seen[0, c + 1]) else torch.ones_like(agree[c + 1])
            weight[c + 1] = torch.where(inside[c], q[c] * trust, weight[c + 1])
        self.bank.feed(0, [level], [weight])

    def adversary(
        self, mended: Mended, features: Sequence[Float[Tensor, "channel _ _"]], predictor: nn.Module
    ) -> Float[Tensor, ""]:
        """The adversary's loss, weighted (see `neurosym.models.adversary`), each class against the rest of the world.

        Args:
            features: of each image's cells, as `predictor` (a 1×1 convolution to class logits) is given them.
        """
        flat = torch.cat([f.flatten(1) for f in features], 1).T
        losses = [flat.sum() * 0.0]
        for c in range(self.classes):
            kept, out, seen = self._samples(mended, c, [f.shape[1:] for f in features])

            def one_against_none(mixed: Tensor, c: int = c) -> Tensor:
                logit = predictor(mixed[:, :, None, None])[:, c, 0, 0]
                return torch.stack([torch.zeros_like(logit), logit], 1)

            if len(kept) and len(out):
                ones = torch.ones_like(kept), torch.ones_like(out)
                losses.append(adversarial_loss(flat[kept], ones[0], flat[out], ones[1], seen, one_against_none))
        return self.config.adversary * torch.stack(losses).sum() / max(1, len(losses) - 1)

    @staticmethod
    def _samples(mended: Mended, c: int, shapes: Sequence[torch.Size]) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of kept cells of class c, evenly spaced; of filtered cells, those that look most like it; and their M."""
        cells = [
            (at_cells(t[c] * w[c], *s), at_cells(f[c], *s), m[c + 1])
            for t, w, f, m, s in zip(mended.truth, mended.weight, mended.filtered, mended.maps, shapes, strict=True)
        ]
        sure, filtered, seen = (torch.cat([x.flatten() for x in column]) for column in zip(*cells, strict=True))
        kept = (sure > 0).nonzero()[:, 0]
        kept = kept[:: max(1, -(-len(kept) // KEPT))]
        out = filtered.nonzero()[:, 0]
        out = out[seen[out].argsort(descending=True, stable=True)[:FILLERS]]
        return kept, out, seen[out]


def combined(
    prior: Float[Tensor, "height width"], log_odds: Float[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    """Bayes' posterior of a prior and independent evidence, whose log odds are given; a prior of 0 or 1 stays.

    >>> float(combined(torch.tensor([[0.5]]), torch.tensor([[3.0]]).log()))
    0.75
    """
    return torch.sigmoid(prior.logit() + log_odds)


def region_distance(
    masks: Iterable[UInt8[Tensor, "height width"]],
) -> tuple[Float[Tensor, "height width"], float] | None:
    """Signed distance to the nearest of a class's regions, each in its own radii, and their mean radius; None without any."""
    found = [f for f in map(signed_distance, masks) if f is not None]
    if not found:
        return None
    return torch.stack([f[0] for f in found]).amin(0), sum(f[1] for f in found) / len(found)


def local_centroids(
    image: Float[Tensor, "channel height width"], inside: Float[Tensor, "height width"], window: float
) -> tuple[Float[Tensor, "channel height width"], Float[Tensor, "channel height width"]]:
    """Mean colours around each pixel of what is inside and what is outside, in a window of 2 · `window` pixels, tapered.

    Where a window holds nothing of a side it has the colour of the whole image. They are smooth, and so worked out per cell.
    """
    share = torch.stack([inside, 1 - inside])
    parts = torch.cat([share, (share[:, None] * image[None]).flatten(0, 1)])[None]
    parts = F.avg_pool2d(parts, STRIDE, STRIDE, ceil_mode=True, count_include_pad=False)
    side = 2 * max(1, round(window / STRIDE)) + 1
    for _ in range(2):
        parts = F.avg_pool2d(parts, (1, side), 1, (0, side // 2), count_include_pad=False)
        parts = F.avg_pool2d(parts, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    parts = F.interpolate(parts, size=image.shape[1:], mode="bilinear", align_corners=False)[0]
    sums = parts[2:].reshape(2, *image.shape) + 1e-3 * image.mean((1, 2))[None, :, None, None]
    inner, outer = sums / (parts[:2, None] + 1e-3)
    return inner, outer


def at_cells(maps: Tensor, height: int, width: int) -> Tensor:
    """The values of pixels at the centres of cells."""
    y = (torch.arange(height, device=maps.device) * STRIDE + STRIDE // 2).clamp(max=maps.shape[-2] - 1)
    x = (torch.arange(width, device=maps.device) * STRIDE + STRIDE // 2).clamp(max=maps.shape[-1] - 1)
    return maps[..., y[:, None], x[None]]


def _standardised(image: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 height width"]:
    """Mean 0 and standard deviation 1 over the image, slightly smoothed: exposure says nothing of where a border is."""
    smooth = F.avg_pool2d(image.detach(), 3, 1, 1, count_include_pad=False)
    return (smooth - smooth.mean()) / smooth.std().clamp_min(1e-6)
