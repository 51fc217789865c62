"""How noisy and how biased annotations are: estimated from how they stray from the votes, never given.

With a the annotation's and v the votes' centre (in shares of the class's sides) and log-size (`neurosym.models.posterior`),
annotation and votes err independently, so the **noise** of each of the four numbers is

    σ_n² = E (a − v)² − E σ_v²

as running means over the last annotations, never below `FLOOR`². Objects differ in size by more than the image tells, which
looks like noise of sizes. So that of the sizes is at most `EDGES` times that of the centre, as it is where each edge is off
by itself (σ² / 2 of a centre, 2 σ² of a size), and then drawn halfway to it; what this takes away is the votes' error
(`excess`). That of the centre is drawn halfway to the mean of all: votes that have hardly learned stay near the annotated
centre. A square counts for at most `OUTLIER` times the mean, so that a few votes for the wrong object do not look like
noise of all; a uniform noise, whose largest square is 3 times the mean, loses nothing by it.

What votes err by in common looks like noise, too, and some classes' votes err by much. But whoever draws boxes draws all
classes alike, if in their sizes; so the class that shows the least noise bounds that of all (`ALIKE`), and what a class
shows beyond is its votes' error. Only classes whose votes lie close together (`SURE`) bound: of a class whose votes scatter by
more than its annotations stray, no noise is left over, however much there is. Where one class only is annotated, or votes
find none, nothing tells the two apart.

**Bias** of size: where all boxes are too big for the target, or all cover a part of it, votes learn the bias along with the
size, and no mean shows it. But such boxes betray themselves by their centres: a box that contains its target may stray from it
by half of what it is too long by and no more, and a box within its target by half of what it lacks. So annotations that are
longer than usual stray further if boxes are too big, less far if they are partial, and as far as all others if the noise is
symmetric. With s = a − v of a log-size and d that of the centre on the same axis,

    κ = E (s − E s)(d² − E d²),     a side too long by s ~ U(0, m), placed anywhere around its target: κ = m³ / 144,

and the bias is m / 2 = ∛(18 κ): a third cumulant, to which errors that are independent of the size and symmetric add
nothing. Four things are asked of it before it is believed.
- Chance: z = κ / its standard error must be beyond `DOUBT`, and the bias is shrunk by 1 − (`DOUBT` / z)².
- Sizes that votes know in part only: an object larger than its votes say has a larger noise of its centre, which looks like
  boxes that are too big. In shares of the annotation's own sides instead of the class's, less the votes' variance, it is
  the other way round: there symmetric noise makes the same mean κ' = E (s − E s) d'² fall below 0. κ and κ' must agree.
- The noise of the centre: a bias b of such boxes accounts for b² / 9 of it, which must be a share of σ_d² worth the name
  (none of b counts below the first of `SHARE`, all of it from the second on); and b² ≤ 12 σ_d², the noise of boxes with E
  s² = b².
- That there is noise: nothing counts where σ_d² is hardly above its floor, for there κ is of the votes' errors.

Boxes at the image's border are left out, for there clipping ties size to place. All classes and both axes share one bias.
That boxes' own scatter tells a bias is ours; what a bias costs is the founding paper's Table 1 (Cheng and Wu, IJCAI 2022).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

FIRST = 0.05
"""(a − v)² before there are any: about that of a uniform noise of r = 0.4."""
OUTLIER = 6.0
FLOOR = 0.02
"""Least standard deviation of annotations, in shares of a side or logarithms."""
EDGES = 4.0
"""The most that a log-size's variance may be of the centre's."""
ALIKE = 2.0
"""The most that the noise of all annotations may be of that of the class which shows least."""
SURE = 0.01
"""The most that the centres of a class's votes may vary for it to bound all, in squares of a side."""
PRIOR, SEEN = 10.0, 30.0
"""Annotations that `FIRST` counts for in a class, and from how many on a class shows something."""
DOUBT = 4.0
"""Standard errors that κ must be away from 0."""
AGREE = 1.0
"""Standard errors that κ' must be away from 0, on the same side."""
SHARE = 0.3, 0.5
"""Of the centre's noise, that a bias must account for to count at all, and to count in full."""


class NoiseModel(nn.Module):
    """Running means of (a − v)² and of the votes' variance, for centre (x, y) and log-size (w, h); and of κ.

    Args:
        classes: of the annotations.
        memory: annotations until an old one counts 1/e.
    """

    residual: Tensor
    votes: Tensor
    class_residual: Tensor
    class_votes: Tensor
    weight: Tensor
    size: Tensor
    third: Tensor
    third_square: Tensor
    seen: Tensor
    annotations: Tensor

    def __init__(self, classes: int = 1, memory: float = 500.0) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("residual", torch.full((4,), FIRST))
        self.register_buffer("votes", torch.zeros(4))
        self.register_buffer("class_residual", torch.full((classes, 4), FIRST))
        self.register_buffer("class_votes", torch.zeros(classes, 4))
        self.register_buffer("weight", torch.full((classes,), PRIOR))
        self.register_buffer("size", torch.zeros(2))
        # κ and κ', and the means of their terms' squares
        self.register_buffer("third", torch.zeros(2))
        self.register_buffer("third_square", torch.zeros(2))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("annotations", torch.tensor(memory))

    def measure(self, annotations: int) -> None:
        """How many annotations there are: κ is a mean over about as many, and no more certain than these make it."""
        self.annotations.fill_(max(1.0, float(annotations)))

    @torch.no_grad()
    def update(
        self,
        residual: Float[Tensor, "box 4"],
        variance: Float[Tensor, "box 4"],
        size: Float[Tensor, "box 2"],
        whole: Bool[Tensor, "box 2"] | None = None,
        labels: Int[Tensor, " box"] | None = None,
    ) -> None:
        """Take the residuals a − v, the votes' variances and the annotated log-sizes of some annotations.

        `whole` says on which axes they are not cut off by the image's border, all if it is left out; `labels` count from 1,
        without them all are of the first class.
        """
        if not len(residual):
            return
        keep = math.exp(-len(residual) / self.memory)
        square = torch.minimum(residual.square(), OUTLIER * self.residual)
        there = torch.ones_like(size) if whole is None else whole.float()
        self._take_third(residual[:, 2:], square[:, :2], variance[:, :2], size, there)
        self._take_classes(residual, variance, torch.ones_like(residual[:, 0]).long() if labels is None else labels)
        self.residual.mul_(keep).add_((1 - keep) * square.mean(0))
        self.votes.mul_(keep).add_((1 - keep) * variance.mean(0))
        self.size.mul_(keep).add_((1 - keep) * residual[:, 2:].mean(0))

    def _take_classes(self, residual: Tensor, variance: Tensor, labels: Tensor) -> None:
        for c in sorted({k - 1 for k in labels.tolist()}):
            own = labels == c + 1
            square = torch.minimum(residual[own].square(), OUTLIER * self.class_residual[c])
            kept = math.exp(-len(square) / self.memory) * self.weight[c]
            total = kept + len(square)
            self.class_residual[c] = (kept * self.class_residual[c] + square.sum(0)) / total
            self.class_votes[c] = (kept * self.class_votes[c] + variance[own].sum(0)) / total
            self.weight[c] = total

    def _take_third(self, longer: Tensor, square: Tensor, variance: Tensor, size: Tensor, whole: Tensor) -> None:
        own = whole.sum(1) > 0
        if not bool(own.any()):
            return
        bound = (OUTLIER * self.residual[2:]).sqrt()
        longer = torch.minimum(torch.maximum(longer - self.size, -bound), bound)
        in_own_sides = (square - variance) * torch.exp(-2.0 * size)
        terms = torch.stack([longer * (square - self.residual[:2]), longer * in_own_sides], -1)
        each = ((terms * whole[..., None]).sum(1) / whole.sum(1, keepdim=True).clamp_min(1.0))[own]
        keep = math.exp(-len(each) / float(self.annotations))
        self.third.mul_(keep).add_((1 - keep) * each.mean(0))
        self.third_square.mul_(keep).add_((1 - keep) * each.square().mean(0))
        self.seen.add_(len(each)).clamp_(max=float(self.annotations))

    @property
    def variance(self) -> Float[Tensor, " 4"]:
        """σ_n² of centre and log-size."""
        pooled = _noise(self.residual, self.votes)
        seen = [
            (_noise(r, v), float(v[:2].mean()) <= SURE)
            for r, v, w in zip(self.class_residual, self.class_votes, self.weight, strict=True)
            if w >= SEEN
        ]
        sure = [noise for noise, is_sure in seen if is_sure]
        if len(seen) < 2 or not sure:
            return pooled
        least = min(sure, key=lambda v: float(v.mean()))
        return pooled.minimum(ALIKE * least)

    @property
    def excess(self) -> Float[Tensor, "class 4"]:
        """By how much a class's votes err beyond their variance, as a factor: what of E (a − v)² no noise accounts for."""
        return ((self.class_residual - self.variance) / self.class_votes.clamp_min(1e-9)).clamp_min(1.0)

    @property
    def bias(self) -> Float[Tensor, ""]:
        """By how much annotated log-sizes are too large (negative: too small), beyond doubt; 0 where it may be chance."""
        error = ((self.third_square - self.third.square()).clamp_min(1e-18) / self.seen.clamp_min(1.0)).sqrt()
        z, scaled = self.third / error
        if float(z.abs()) <= DOUBT or float(z.sign() * scaled) <= AGREE:
            return torch.zeros_like(z)
        third = self.third[0]
        noise = (self.residual - self.votes)[:2].clamp_min(FLOOR**2).mean()
        size = (18.0 * third.abs()).pow(1 / 3)
        least, enough = SHARE
        believed = ((size.square() / (9.0 * noise) - least) / (enough - least)).clamp(0.0, 1.0)
        believed = believed * (noise / (2.0 * FLOOR**2) - 1.0).clamp(0.0, 1.0) * (1.0 - (DOUBT / z).square())
        bias: Tensor = third.sign() * believed * size.minimum((12.0 * noise).sqrt())
        return bias

    @property
    def level(self) -> float:
        """r of a uniform noise U(−r, r) of the same variance: σ_n² = r²/3."""
        return float((3.0 * self.variance.mean()).sqrt())


def _noise(residual: Float[Tensor, " 4"], votes: Float[Tensor, " 4"]) -> Float[Tensor, " 4"]:
    own = (residual - votes).clamp_min(FLOOR**2)
    own = torch.cat([own[:2], own[2:].minimum(EDGES * own[:2].mean())])
    return 0.5 * (own + torch.stack([own.mean(), own[:2].mean()]).repeat_interleave(2))
