"""The posterior of a true box, given an inexact one: what annotation and votes say.

With a the annotated centre and log-size, v those of the votes (`neurosym.models.votes`), everything in shares of the class's
mean side and in logarithms, and each of the four numbers by itself:

    true box ~ N(a, σ_n²) · N(v, σ_v²),   the refined box is its mean,   σ_v² the variance of the object's votes

There is no prior of the class: votes are conditional means given the image and have it in them. The quality of an annotation is
its expected intersection over union with a box of the posterior, from `SAMPLES` of them, so it is calibrated as far as the
posterior is. The certainty of a refined box is the same of itself.

How noisy and how biased annotations are is not given: `neurosym.models.annotation_noise` estimates it. The bias is taken off
both log-sizes before all else. Where annotations are of two qualities (`neurosym.models.mixed_quality`), the posterior is a
mixture: with probability ρ of the box above with σ_0² in the place of σ_n², otherwise with σ_1²; its mean and variance count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.quasirandom import SobolEngine

from neurosym.models.annotation_noise import FLOOR, NoiseModel
from neurosym.models.mixed_quality import Quality
from neurosym.models.votes import Votes

SAMPLES = 64
BEST = 0.07
"""Least standard deviation of votes, in shares of a side or logarithms: what they err by in common, the variance of one about
another does not show."""
REACH = 1.5
"""Each of the four numbers stays within this many times √3 σ_n, the bound of a uniform noise, of the annotated one."""
STEPS, SWAY = 4, 1.5
Witness = Callable[[Tensor, Tensor, tuple[float, float]], Tensor]
"""(boxes, labels, (width, height)) → a cost, the higher the less likely the boxes are together."""


class Posterior(NamedTuple):
    """Of each annotation: the mean box, the annotation's quality and the mean box's certainty; both in [0, 1]."""

    boxes: Float[Tensor, "box 4"]
    quality: Float[Tensor, " box"]
    certainty: Float[Tensor, " box"]


@torch.no_grad()
def posterior(
    boxes: Float[Tensor, "box 4"],
    votes: Votes,
    noise: NoiseModel,
    sides: Float[Tensor, "box 2"],
    size: tuple[float, float],
    cost: Callable[[Tensor], Tensor] | None = None,
    labels: Int[Tensor, " box"] | None = None,
    mixed: Quality | None = None,
) -> Posterior:
    """The refined boxes of one image.

    Args:
        boxes: annotated, in pixels of the image of (width, height) `size`.
        votes: see `neurosym.models.votes.read_votes`.
        noise: how far annotations are to be trusted.
        sides: geometric mean sides of each box's class in these pixels.
        cost: of all boxes together, in pixels; see `witnessed`.
        labels: their classes, from 1; without them all are of the first.
        mixed: which annotations are exact, where they are of two qualities.
    """
    annotated, said, said_variance = _numbers(boxes, votes, sides)
    bias = F.pad(noise.bias.to(boxes).expand(2), (2, 0))
    annotated, said = annotated - bias, said - bias
    if mixed is None:
        of_class = torch.zeros_like(boxes[:, 0]).long() if labels is None else labels - 1
        said_variance = said_variance * noise.excess.to(boxes)[of_class]
    else:
        said_variance = mixed.votes
    of_noise = (noise.variance if mixed is None else mixed.variance).to(boxes).expand_as(annotated)
    mean, variance = _joined(annotated, of_noise, said, said_variance)
    parts = [(mean, variance)]
    if mixed is not None:
        # what is exact has no bias
        parts.append(_joined(annotated + bias, torch.full_like(of_noise, FLOOR**2), said, said_variance))
        rho = mixed.exact[:, None]
        mean = torch.lerp(parts[0][0], parts[1][0], rho)
        each = [of + (own - mean).square() for own, of in parts]
        variance = torch.lerp(each[0], each[1], rho)
    before = mean
    if cost is not None and len(boxes):
        mean = witnessed(mean, variance.sqrt(), lambda b: cost(_boxes(b[:, None], boxes, sides, size)[:, 0]))
    bound = REACH * (3.0 * of_noise).sqrt()
    mean = torch.minimum(torch.maximum(mean, annotated - bound), annotated + bound)
    points = _normal(SAMPLES, boxes)
    sampled = (mean - before + parts[0][0])[:, None] + parts[0][1].sqrt()[:, None] * points
    if mixed is not None:
        of_exact = torch.arange(SAMPLES, device=boxes.device) < (mixed.exact * SAMPLES)[:, None]
        exact = (mean - before + parts[1][0])[:, None] + parts[1][1].sqrt()[:, None] * points
        sampled = torch.where(of_exact[..., None], exact, sampled)
    samples, refined = _boxes(sampled, boxes, sides, size), _boxes(mean[:, None], boxes, sides, size)
    quality, certainty = (_overlap(one, samples).mean(1) for one in (boxes[:, None], refined))
    return Posterior(refined[:, 0], quality, certainty)


def _joined(annotated: Tensor, of_noise: Tensor, said: Tensor, of_votes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of N(annotated, of_noise) · N(said, of_votes)."""
    variance = 1 / (1 / of_noise + 1 / of_votes)
    return variance * (annotated / of_noise + said / of_votes), variance


def witnessed(
    mean: Float[Tensor, "box 4"],
    deviation: Float[Tensor, "box 4"],
    cost: Callable[[Float[Tensor, "box 4"]], Float[Tensor, ""]],
) -> Float[Tensor, "box 4"]:
    """The mode of N(b; mean, deviation²) · exp(−cost(b)), by `STEPS` damped steps b ← ½ (b + mean − deviation² ∇cost(b)).

    A cost's say is bounded: no number moves further than `SWAY` deviations. Where the cost has no gradient nothing moves.
    """
    here = mean
    for _ in range(STEPS):
        with torch.enable_grad():
            asked = here.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(cost(asked), asked)
        pull = torch.nan_to_num(deviation.square() * slope)
        pull = torch.minimum(torch.maximum(pull, -SWAY * deviation), SWAY * deviation)
        here = 0.5 * (here + mean - pull)
    return here


def residuals(
    boxes: Float[Tensor, "box 4"], votes: Votes, sides: Float[Tensor, "box 2"]
) -> tuple[Float[Tensor, "box 4"], Float[Tensor, "box 4"], Float[Tensor, "box 2"]]:
    """a − v of each annotation, the variance of its votes, and its log-size: for `NoiseModel.update`."""
    annotated, said, variance = _numbers(boxes, votes, sides)
    return annotated - said, variance, annotated[:, 2:]


def whole_sides(boxes: Float[Tensor, "box 4"], size: tuple[float, float]) -> Bool[Tensor, "box 2"]:
    """On which axes a box ends within the image of (width, height) `size` on both sides, by more than a pixel."""
    return (boxes[:, :2] > 1.0) & (boxes[:, 2:] < boxes.new_tensor(size) - 1.0)


def _numbers(boxes: Tensor, votes: Votes, sides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Annotation and votes as (dx, dy, ln w, ln h) about the annotated centre and the class's sides; the votes' variances."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    logs = (boxes[:, 2:] - boxes[:, :2]).clamp_min(1.0).log() - sides.log()
    annotated = torch.cat([torch.zeros_like(centre), logs], 1)
    said = torch.cat([(votes.centre - centre) / sides, votes.log_size - sides.log()], 1)
    variance = torch.cat([votes.centre_variance, votes.size_variance], 1).clamp_min(BEST**2)
    return annotated, said, variance


def _boxes(numbers: Tensor, boxes: Tensor, sides: Tensor, size: tuple[float, float]) -> Float[Tensor, "box sample 4"]:
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2 + numbers[..., :2] * sides[:, None]
    half = numbers[..., 2:].exp() * sides[:, None] / 2
    limit = boxes.new_tensor([*size, *size])
    corners = torch.cat([centre - half, centre + half], -1)
    low, high = torch.minimum(corners.clamp_min(0.0), limit).chunk(2, -1)
    return torch.cat([low, torch.maximum(high, low + 1.0)], -1)


def _overlap(one: Float[Tensor, "box 1 4"], others: Float[Tensor, "box sample 4"]) -> Float[Tensor, "box sample"]:
    """Intersection over union of a box with each of its samples."""
    low, high = torch.maximum(one[..., :2], others[..., :2]), torch.minimum(one[..., 2:], others[..., 2:])
    common = (high - low).clamp_min(0.0).prod(-1)
    areas = (one[..., 2:] - one[..., :2]).prod(-1) + (others[..., 2:] - others[..., :2]).prod(-1)
    return common / (areas - common).clamp_min(1e-9)


def _normal(count: int, like: Tensor) -> Float[Tensor, "sample 4"]:
    """The same well-spread standard normal points each time, so that the same posterior comes out twice."""
    points = SobolEngine(4, scramble=True, seed=0).draw(count).clamp(1e-4, 1 - 1e-4)  # type: ignore[no-untyped-call]
    return torch.erfinv(2 * points - 1).mul(2**0.5).to(like)
