"""The posterior of a true box, given an inexact one: what annotation, class sizes, votes and the centroid map say.

With a the annotated centre and log-size, v those of the votes (`neurosym.models.votes`), everything in shares of the class's
mean side and in logarithms, and each of the four numbers by itself:

    true box ~ N(a, σ_n²) · N(v, σ_v²) · N(class mean, σ_c²)  (the last for sizes only)  · exp(a(b) / τ)

The Gaussian part has a closed form; `SAMPLES` boxes drawn from it are weighted by the evidence a(b) of the centroid map
(`neurosym.models.centroids.evidence`), τ = .03, and their mean is the refined box. The quality of an annotation is its expected
intersection over union with a box of the posterior, so it is calibrated as far as the posterior is.

How noisy the annotations are is not given. Annotation and votes err independently, so

    σ_n² = E (a − v)² − E σ_v²         with σ_v² the variance of an object's votes,

as running means (of medians) over the last annotations, never below `FLOOR`². σ_c² = the class's variance of annotated
log-sizes − σ_n² (an empirical Bayes estimate: what of the spread is not noise). The inverse-noise weighting by centroid maps is
the baseline of the project's first measurements; estimating the noise, the votes and the shrinkage are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.quasirandom import SobolEngine
from torchvision.ops import box_iou

from neurosym.models.centroids import evidence
from neurosym.models.votes import Votes

SAMPLES = 64
FLOOR = 0.02
"""Least standard deviation of anything, in shares of a side or logarithms."""
REACH = 1.5
"""Each of the four numbers stays within this many times √3 σ_n, the bound of a uniform noise, of the annotated one."""


class Posterior(NamedTuple):
    """Of each annotation: the mean box, and the annotation's quality in [0, 1]."""

    boxes: Float[Tensor, "box 4"]
    quality: Float[Tensor, " box"]


class NoiseModel(nn.Module):
    """Running means of (a − v)² and of the votes' variance, for centre (x, y) and log-size (w, h)."""

    residual: Tensor
    votes: Tensor
    updates: Tensor

    def __init__(self, memory: float = 0.98) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("residual", torch.zeros(4))
        self.register_buffer("votes", torch.zeros(4))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, residual: Float[Tensor, "box 4"], variance: Float[Tensor, "box 4"]) -> None:
        """Take the residuals a − v and the votes' variances of some annotations: of one image, on one level."""
        if not len(residual):
            return
        keep = min(self.memory, 1.0 - 1.0 / (float(self.updates) + 1.0))
        # the median of squares: a few boxes on the wrong object would else look like noise of all
        spread = residual.square().median(0).values / 0.4549  # the median of χ²₁
        self.residual.mul_(keep).add_((1 - keep) * spread)
        self.votes.mul_(keep).add_((1 - keep) * variance.median(0).values)
        self.updates.add_(1)

    @property
    def variance(self) -> Float[Tensor, " 4"]:
        """σ_n² of centre and log-size."""
        return (self.residual - self.votes).clamp_min(FLOOR**2)

    @property
    def level(self) -> float:
        """r of a uniform noise U(−r, r) of the same variance: σ_n² = r²/3."""
        return float((3.0 * self.variance.mean()).sqrt())


@torch.no_grad()
def posterior(
    boxes: Float[Tensor, "box 4"],
    votes: Votes,
    noise: NoiseModel,
    sides: Float[Tensor, "box 2"],
    size_variance: Float[Tensor, "box 2"],
    maps: Float[Tensor, "box height width"],
    size: tuple[float, float],
    temperature: float = 0.03,
) -> Posterior:
    """The refined boxes of one image.

    Args:
        boxes: annotated, in pixels of the image of (width, height) `size`.
        votes: see `neurosym.models.votes.read_votes`.
        noise: how far annotations are to be trusted.
        sides, size_variance: geometric mean sides of each box's class in these pixels, and the variance of annotated log-sides.
        maps: M of each box's class on the level that suits it.
        temperature: τ; infinite leaves the map out.
    """
    annotated, said, said_variance = _numbers(boxes, votes, sides)
    of_noise = noise.variance.to(boxes).expand_as(annotated)
    precision = 1 / of_noise + 1 / said_variance
    mean = annotated / of_noise + said / said_variance
    of_class = (size_variance - of_noise[:, 2:]).clamp_min(FLOOR**2)
    precision[:, 2:] += 1 / of_class  # whose mean is 0 in these units
    mean, deviation = mean / precision, precision.rsqrt()
    bound = REACH * (3.0 * of_noise).sqrt()
    mean = torch.minimum(torch.maximum(mean, annotated - bound), annotated + bound)
    sampled = mean[:, None] + deviation[:, None] * _normal(SAMPLES, boxes)
    candidates = _boxes(sampled, boxes, sides, size)
    weight = (evidence(maps, candidates, size) / temperature).softmax(1)
    refined = (weight[..., None] * candidates).sum(1)
    overlap = (
        torch.stack([box_iou(a[None], b)[0] for a, b in zip(boxes, candidates, strict=True)]) if len(boxes) else weight
    )
    return Posterior(refined, (weight * overlap).sum(1))


def residuals(
    boxes: Float[Tensor, "box 4"], votes: Votes, sides: Float[Tensor, "box 2"]
) -> tuple[Float[Tensor, "box 4"], Float[Tensor, "box 4"]]:
    """a − v of each annotation and the variance of its votes: what `NoiseModel.update` takes."""
    annotated, said, variance = _numbers(boxes, votes, sides)
    return annotated - said, variance


def _numbers(boxes: Tensor, votes: Votes, sides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Annotation and votes as (dx, dy, ln w, ln h) about the annotated centre and the class's sides; the votes' variances."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    logs = (boxes[:, 2:] - boxes[:, :2]).clamp_min(1.0).log() - sides.log()
    annotated = torch.cat([torch.zeros_like(centre), logs], 1)
    said = torch.cat([(votes.centre - centre) / sides, votes.log_size - sides.log()], 1)
    variance = torch.cat([votes.centre_variance, votes.size_variance], 1).clamp_min(FLOOR**2)
    return annotated, said, variance


def _boxes(numbers: Tensor, boxes: Tensor, sides: Tensor, size: tuple[float, float]) -> Float[Tensor, "box sample 4"]:
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2 + numbers[..., :2] * sides[:, None]
    half = numbers[..., 2:].exp() * sides[:, None] / 2
    limit = boxes.new_tensor([*size, *size])
    corners = torch.cat([centre - half, centre + half], -1)
    low, high = torch.minimum(corners.clamp_min(0.0), limit).chunk(2, -1)
    return torch.cat([low, torch.maximum(high, low + 1.0)], -1)


def _normal(count: int, like: Tensor) -> Float[Tensor, "sample 4"]:
    """The same well-spread standard normal points each time, so that the same posterior comes out twice."""
    points = SobolEngine(4, scramble=True, seed=0).draw(count).clamp(1e-4, 1 - 1e-4)  # type: ignore[no-untyped-call]
    return torch.erfinv(2 * points - 1).mul(2**0.5).to(like)
