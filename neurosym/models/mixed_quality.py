"""Annotations of two qualities, not told apart: which are exact, and how far the others are off.

Some films were annotated with care and some in haste, and nobody wrote down which. With r = a − v as in
`neurosym.models.annotation_noise`, σ_v² the votes' variance and four independent numbers k to a box,

    exact:   r_k ~ N(0, `SLACK` σ_v²),       otherwise:   r_k ~ N(0, σ_1² + σ_v²),       π σ_0² + (1 − π) σ_1² = σ_n²,

σ_n² being the noise of all annotations together, σ_0 the least there is (`FLOOR`) and π the share of exact ones. The slack is
because votes err by more than they scatter. ℓ, the logarithm of the two likelihoods' ratio, has a bounded say for each number
(`MOST`), and none where the two are too alike to be told apart (`APART`).

Whoever draws one box of a film with care mostly draws them all so: a nodule, whose votes scatter too far to say anything, is
known by the lungs of its film. So with probability α a film's boxes are all alike, and otherwise each is as it is:

    p(film) = α [π Π e^ℓ + (1 − π)] + (1 − α) Π [π e^ℓ + (1 − π)]

from which the probability ρ of each box to be exact follows by Bayes' rule; π is the mean of ρ and α that of its own posterior,
over the last annotations (expectation maximisation, online: Cappé & Moulines, JRSS B 2009). Where nothing can be told apart, as
where all annotations are exact, ρ is drawn to 0, and boxes are refined as if there were one quality. This is ours.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurosym.models.annotation_noise import FLOOR

SLACK = 2.0
"""Variance of exact annotations about their votes, as a multiple of the votes' own."""
MOST = 3.0
"""The most that one of the four numbers says for or against."""
APART = 1.5, 3.0
"""Ratio of the two variances: below the first a number says nothing, from the second on all it has to."""
WIDEST = 1 / 3
"""The most that σ_1² can be: that of a uniform noise of r = 1."""
SPAN = 0.02, 0.98
"""π and α stay within."""


class Quality(NamedTuple):
    """Of a film's boxes: the probability ρ that each is exact; and σ_1² of those that are not."""

    exact: Float[Tensor, " box"]
    variance: Float[Tensor, " 4"]


class MixedQuality(nn.Module):
    """π, α, and how far the two qualities can be told apart at all, as running means.

    Args:
        memory: annotations until an old one counts 1/e.
    """

    share: Tensor
    alike: Tensor
    apart: Tensor

    def __init__(self, memory: float = 500.0) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("share", torch.tensor(0.5))
        self.register_buffer("alike", torch.tensor(0.5))
        self.register_buffer("apart", torch.tensor(1.0))

    @torch.no_grad()
    def tell(
        self,
        residual: Float[Tensor, "box 4"],
        votes: Float[Tensor, "box 4"],
        noise: Float[Tensor, " 4"],
        *,
        learn: bool = False,
    ) -> Quality:
        """Which boxes of one film are exact.

        Args:
            residual: a − v.
            votes: σ_v².
            noise: σ_n² of all annotations, whatever their quality.
            learn: take the film into π and α.
        """
        pi, alpha = self.share.to(residual), self.alike.to(residual)
        wide = ((noise - pi * FLOOR**2) / (1 - pi)).clamp(FLOOR**2, WIDEST)
        exact, other = SLACK * votes, wide + votes
        said = 0.5 * (residual.square() * (1 / other - 1 / exact) + (other / exact).log())
        low, high = (math.log(v) for v in APART)
        apart = (((other / exact).log() - low) / (high - low)).clamp(0.0, 1.0)
        ratio = (apart * said.clamp(-MOST, MOST)).sum(1)
        together, each = _log_sum(pi.log() + ratio.sum(), (1 - pi).log()), _log_sum(pi.log() + ratio, (1 - pi).log())
        same = torch.sigmoid(alpha.logit() + together - each.sum())
        rho = same * torch.sigmoid(pi.logit() + ratio.sum()) + (1 - same) * torch.sigmoid(pi.logit() + ratio)
        if learn and len(residual):
            self._learn(rho, same, apart)
        return Quality(rho * self.apart.to(residual), wide)

    def _learn(self, rho: Tensor, same: Tensor, apart: Tensor) -> None:
        keep = math.exp(-len(rho) / self.memory)
        self.share.mul_(keep).add_((1 - keep) * rho.mean()).clamp_(*SPAN)
        self.apart.mul_(keep).add_((1 - keep) * apart.mean(1).max())
        if len(rho) > 1:
            self.alike.mul_(keep).add_((1 - keep) * same).clamp_(*SPAN)


def _log_sum(one: Tensor, other: Tensor) -> Tensor:
    return torch.logaddexp(one, other.expand_as(one))
