"""Annotations of two qualities, not told apart: which are exact, and how far the others are off.

Some films were annotated with care and some in haste, and nobody wrote down which. With r = a − v as in
`neurosym.models.annotation_noise`, σ_v² the votes' variance and four independent numbers k to a box,

    exact:   r_k ~ N(0, τ_k²),       otherwise:   r_k ~ N(0, σ_1² + τ_k²),       π σ_0² + (1 − π) σ_1² = σ_n²,

τ_k² is how far votes of the class err, which exact annotations show: the mean of r_k² over these, and at first `SLACK` σ_v²,
for votes err by more than they scatter. σ_n² is the noise of all annotations together, σ_0 the least there is (`FLOOR`) and π
the share of exact ones. ℓ, the logarithm of the two likelihoods' ratio, has a bounded say for each number (`MOST`), and none
where the two are too alike to be told apart (`APART`).

Whoever draws one box of a film with care mostly draws them all so: a nodule, whose votes scatter too far to say anything, is
known by the lungs of its film. So with probability α a film's boxes are all alike, and otherwise each is as it is:

    p(film) = α [π Π e^ℓ + (1 − π)] + (1 − α) Π [π e^ℓ + (1 − π)]

from which the probability ρ of each box to be exact follows by Bayes' rule; π is the mean of ρ and α that of its own posterior,
over the last annotations (expectation maximisation, online: Cappé & Moulines, JRSS B 2009).

Two qualities are believed in only as far as they explain the residuals better than one does, r_k ~ N(0, σ_n² + what votes err
by): the gain is the mean of log p(film) over that of one quality, for each box, and the belief grows from 0 to 1 with it
(`GAIN`). What ρ, σ_1² and τ² say is blended by it with what one quality says, so that annotations of one quality, exact or not,
are refined as if this were off.

Offsets should count by one over their variance, a detector's own error included: of a box whose expected overlap is q,

    w = 1 / (1 + ((1 − q) / `ERROR`)²),     relative to the mean of w over the last annotations.

This is ours.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurosym.models.annotation_noise import FLOOR, OUTLIER

SLACK, MOST_SLACK = 2.0, 3.0
"""Variance of exact annotations about their votes, as a multiple of the votes' own: at first, and at most. Without a bound all
annotations of one quality would come to be called exact, and what they are off by the votes' error."""
MOST = 3.0
"""The most that one of the four numbers says for or against."""
APART = 1.5, 3.0
"""Ratio of the two variances: below the first a number says nothing, from the second on all it has to."""
WIDEST = 1 / 3
"""The most that σ_1² can be: that of a uniform noise of r = 1."""
SPAN = 0.02, 0.98
"""π and α stay within."""
GAIN = 0.02, 0.1
"""Nats a box that two qualities must explain better than one: below the first they count for nothing, from the second on in
full."""
PRIOR = 10.0
"""Exact annotations of a class that `SLACK` counts for."""
ERROR = 0.1
"""1 − q of what a detector errs by itself."""


class Quality(NamedTuple):
    """Of a film's boxes: the probability ρ that each is exact, and by how much its votes err; σ_1² of those that are not."""

    exact: Float[Tensor, " box"]
    votes: Float[Tensor, "box 4"]
    variance: Float[Tensor, " 4"]


class MixedQuality(nn.Module):
    """π, α, and the gain of two qualities over one, as running means.

    Args:
        classes: of the annotations.
        memory: annotations until an old one counts 1/e.
    """

    share: Tensor
    alike: Tensor
    gain: Tensor
    square: Tensor
    weight: Tensor
    usual: Tensor

    def __init__(self, classes: int = 1, memory: float = 500.0) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("share", torch.tensor(0.5))
        self.register_buffer("alike", torch.tensor(0.5))
        self.register_buffer("gain", torch.tensor(0.0))
        # sums over exact annotations of each class: r², and how many
        self.register_buffer("square", torch.zeros(classes, 4))
        self.register_buffer("weight", torch.zeros(classes))
        self.register_buffer("usual", torch.tensor(0.5))

    @torch.no_grad()
    def tell(
        self,
        residual: Float[Tensor, "box 4"],
        votes: Float[Tensor, "box 4"],
        noise: Float[Tensor, " 4"],
        labels: Int[Tensor, " box"] | None = None,
        excess: Float[Tensor, "class 4"] | None = None,
        *,
        learn: bool = False,
    ) -> Quality:
        """Which boxes of one film are exact.

        Args:
            residual: a − v.
            votes: σ_v².
            noise: σ_n² of all annotations, whatever their quality.
            labels: classes, from 1; without them all are of the first.
            excess: of `NoiseModel`, what votes err by beyond σ_v² as long as no exact annotation shows it.
            learn: take the film into the means.
        """
        of_class = torch.zeros_like(residual[:, 0]).long() if labels is None else labels - 1
        pi, alpha = self.share.to(residual), self.alike.to(residual)
        wide = ((noise - pi * FLOOR**2) / (1 - pi)).clamp(FLOOR**2, WIDEST)
        square, weight = self.square.to(residual)[of_class], self.weight.to(residual)[of_class, None]
        exact = ((PRIOR * SLACK * votes + square) / (PRIOR + weight)).clamp(votes, MOST_SLACK * votes)
        other = wide + exact
        said = 0.5 * (residual.square() * (1 / other - 1 / exact) + (other / exact).log())
        low, high = (math.log(v) for v in APART)
        apart = (((other / exact).log() - low) / (high - low)).clamp(0.0, 1.0)
        ratio = (apart * said.clamp(-MOST, MOST)).sum(1)
        together, each = _log_sum(pi.log() + ratio.sum(), (1 - pi).log()), _log_sum(pi.log() + ratio, (1 - pi).log())
        same = torch.sigmoid(alpha.logit() + together - each.sum())
        rho = same * torch.sigmoid(pi.logit() + ratio.sum()) + (1 - same) * torch.sigmoid(pi.logit() + ratio)
        first = votes if excess is None else votes * excess[of_class]
        errors = ((PRIOR * first + square) / (PRIOR + weight)).maximum(votes)
        if learn and len(residual):
            # log p(film), of which `together` and `each` are relative to the inexact component
            two = _log_sum(alpha.log() + together, (1 - alpha).log() + each.sum()) + _log_density(residual, other)
            gain = (two - _log_density(residual, noise + first)) / len(residual)
            self._learn(rho, same, gain, residual.square().minimum(OUTLIER * exact), of_class)
        belief = self.belief.to(residual)
        return Quality(rho * belief, torch.lerp(first, errors, belief), torch.lerp(noise, wide, belief))

    @property
    def belief(self) -> Tensor:
        """How far two qualities are believed in, from 0 to 1."""
        low, high = GAIN
        return ((self.gain - low) / (high - low)).clamp(0.0, 1.0)

    def weighed(self, certainty: Float[Tensor, " box"], *, learn: bool = False) -> dict[str, Tensor]:
        """w of boxes of these expected overlaps, and what it is relative to; with `learn` the latter is learned from them."""
        weight = 1 / (1 + ((1 - certainty) / ERROR).square())
        if learn and len(certainty):
            keep = self._keep(len(certainty))
            self.usual.mul_(keep).add_((1 - keep) * weight.mean())
        return {"certainty": weight, "usual_certainty": self.usual.to(weight).clone()}

    def _keep(self, count: int) -> float:
        return math.exp(-count / self.memory)

    def _learn(self, rho: Tensor, same: Tensor, gain: Tensor, square: Tensor, of_class: Tensor) -> None:
        keep = self._keep(len(rho))
        self.share.mul_(keep).add_((1 - keep) * rho.mean()).clamp_(*SPAN)
        self.gain.mul_(keep).add_((1 - keep) * gain.clamp(-MOST, MOST))
        if len(rho) > 1:
            self.alike.mul_(keep).add_((1 - keep) * same).clamp_(*SPAN)
        self.square.mul_(keep).index_add_(0, of_class, rho[:, None] * square)
        self.weight.mul_(keep).index_add_(0, of_class, rho)


def _log_density(residual: Tensor, variance: Tensor) -> Tensor:
    """The sum of the logarithms of N(0, variance), but for a constant."""
    return -0.5 * (residual.square() / variance + variance.log()).sum()


def _log_sum(one: Tensor, other: Tensor) -> Tensor:
    return torch.logaddexp(one, other.expand_as(one))
