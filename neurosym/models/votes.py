"""Votes: every cell of the pyramid says where the object around it lies, and so tells what its annotation should have been.

An inexact box is a true one with noise that the image knows nothing of. A regressor that is trained on such boxes learns their
conditional mean given the image, which is the true box, *if* what it is trained on is chosen without looking at the noise. The
positives of a detector are not: an anchor or a proposal counts because it overlaps the inexact box by half, so the box to be
learned is always near the one at hand, and a box head mends hardly anything. Here all cells in the annotated box learn alike:

    cell u in the box of class c, with (w̄_c, h̄_c) the class's geometric mean size:
    target = ((cₓ − uₓ) / w̄_c, (c_y − u_y) / h̄_c, ln(w / w̄_c), ln(h / h̄_c)),     smooth L1 (β = 0.1), each box the same weight

A shift of less than half a side leaves the cells around the true centre in the box, so for these the noise averages out. Once
there are refined boxes (`neurosym.models.posterior`), they say which cells are of which object, for the noise must not: the
cells in their middle (`MIDDLE`), each of the nearest refined centre. What a cell is to say stays the annotation: votes that
learn from refined boxes believe themselves and get worse.

The votes are read for all annotations of a class in an image together, for one cell must not speak for two objects. With
g_u = u + vote_u, M_c(u) the centroid map and lengths in shares of the class's sides, they are a mixture of one component for
each annotation, whose centre has the annotated one aᵢ as its prior, and a background β:

    r_ui = M_c(u) e_ui / (Σⱼ e_uj + β),   e_ui = exp(−|g_u − cᵢ|² / 2s²)              s falls through `ANNEAL`
    vᵢ = Σ_u r_ui g_u / Σ_u r_ui,   σᵢ² = Σ_u r_ui (g_u − vᵢ)² / Σ_u r_ui  (x and y)
    cᵢ = (vᵢ / σᵢ² + aᵢ / σ₀²) / (1 / σᵢ² + 1 / σ₀²)       from cᵢ = aᵢ on; what is read is vᵢ, and the mean size said there

(EM of a posterior mode, Dempster et al. 1977; Hough votes, Leibe et al. 2004.) No vote is trusted to better than a cell, whose
places have a variance of 1/12. Learning from the cells of a box is FCOS (Tian et al., ICCV 2019); that votes denoise
annotations, and how they are read, is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from neurosym.models.backbones import group_norm
from neurosym.models.centroids import cell_centres, within

CELLS = 8
"""A class is read on the level where its mean side has about this many cells."""
MIDDLE = 0.7
"""Side of the part of a refined box whose cells vote for it."""
ANNEAL = (0.3, 0.25, 0.2, 0.15, 0.12, 0.1, 0.1)
BACKGROUND = 0.05
WINDOW = 0.3
"""σ₀ in shares of a side. Not the estimated noise: votes that have hardly learned stay near the annotation, which looks
like little noise, and a narrow prior would keep them there."""
BETA = 0.1


class Votes(NamedTuple):
    """What the cells say of each annotation: centre and log-size, and the variance of the votes in shares of the class's side
    (centre) and of logarithms (size)."""

    centre: Float[Tensor, "box 2"]
    log_size: Float[Tensor, "box 2"]
    centre_variance: Float[Tensor, "box 2"]
    size_variance: Float[Tensor, "box 2"]


class ClassSizes(nn.Module):
    """Mean of each class's log-sides, in shares of √(image area): the unit of its votes, and the level that it is read on."""

    mean: Tensor
    level: Tensor

    def __init__(self, classes: int, finest: int = 4, levels: int = 4) -> None:
        """`finest` is the stride of the first of `levels` pyramid levels, each next one of which has twice that."""
        super().__init__()
        self.finest, self.levels = finest, levels
        self.register_buffer("mean", torch.full((classes, 2), -2.0))
        self.register_buffer("level", torch.zeros(classes, dtype=torch.long))

    def measure(
        self, boxes: Float[Tensor, "box 4"], labels: Int[Tensor, " box"], areas: Float[Tensor, " box"], side: float
    ) -> None:
        """Take the sizes from all annotations.

        Args:
            boxes: of the data set, in pixels of their images.
            labels: from 1.
            areas: of the image of each box.
            side: √(area) of a scaled image, for which the classes' levels are chosen.
        """
        logs = (boxes[:, 2:] - boxes[:, :2]).clamp_min(1.0).log() - 0.5 * areas[:, None].log()
        for k in range(len(self.mean)):
            own = logs[labels == k + 1]
            if len(own):
                self.mean[k] = own.mean(0)
        stride = self.mean.mean(1).exp() * side / CELLS
        self.level.copy_((stride / self.finest).log2().round().clamp(0, self.levels - 1).long())

    def sides(self, labels: Int[Tensor, " box"], size: tuple[float, float]) -> Float[Tensor, "box 2"]:
        """Mean width and height of the labels' classes, in pixels of an image of (width, height) `size`."""
        sides: Tensor = self.mean[labels - 1].exp() * (size[0] * size[1]) ** 0.5
        return sides


class VoteHead(nn.Module):
    """Four numbers per class from every cell of a level; one head for all levels."""

    def __init__(self, channels: int, classes: int, sizes: ClassSizes, hidden: int = 64) -> None:
        super().__init__()
        self.classes, self.sizes = classes, sizes
        self.tower = nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1, bias=False), group_norm(hidden), nn.ReLU())
        self.out = nn.Conv2d(hidden, 4 * classes, 1)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, features: Float[Tensor, "image channel height width"]) -> Tensor:
        """(image, class, 4, height, width) of one level."""
        votes: Tensor = self.out(self.tower(features)).unflatten(1, (self.classes, 4))
        return votes

    def loss(
        self,
        votes: Mapping[int, Sequence[Float[Tensor, "class 4 _ _"]]],
        sizes: Sequence[tuple[float, float]],
        boxes: Sequence[Float[Tensor, "_ 4"]],
        labels: Sequence[Int[Tensor, " _"]],
        refined: Sequence[Float[Tensor, "_ 4"]] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean over boxes of the mean over their cells; `votes` of the levels that classes are read on, unpadded.

        `refined` boxes tell which cells are whose, else the annotated `boxes` do. A cell in several boxes of a class learns the
        one whose centre is nearest. 0 without boxes.
        """
        terms = [v.sum() * 0.0 for images in votes.values() for v in images[:1]]
        total, count = torch.stack(terms).sum(), 0
        for n, (size, own, label) in enumerate(zip(sizes, boxes, labels, strict=True)):
            for k in sorted(set(label.tolist())):
                vote = votes[int(self.sizes.level[k - 1])][n][k - 1]
                places = None if refined is None else refined[n][label == k]
                loss, number = self._of_class(vote, own[label == k], places, k, size)
                total, count = total + loss, count + number
        return total / max(1, count)

    def _of_class(
        self,
        vote: Float[Tensor, "4 height width"],
        boxes: Tensor,
        refined: Tensor | None,
        label: int,
        size: tuple[float, float],
    ) -> tuple[Tensor, int]:
        cells = cell_centres(vote.shape[1], vote.shape[2], size, vote.device)
        side = self.sizes.sides(torch.tensor([label], device=vote.device), size)
        places, part = (boxes, 1.0) if refined is None else (refined, MIDDLE)
        distance = (_away(places, cells) / side).square().sum(-1).masked_fill(~within(cells, places, part), torch.inf)
        nearest, which = distance.min(0)
        away = _away(boxes, cells) / side
        chosen = nearest.isfinite()
        log_size = ((boxes[:, 2:] - boxes[:, :2]).clamp_min(1.0) / side).log()
        target = torch.cat([away[which, torch.arange(len(cells), device=which.device)], log_size[which]], 1)[chosen]
        said = vote.flatten(1).T[chosen]
        each = F.smooth_l1_loss(said, target, beta=BETA, reduction="none").sum(1)
        share = each.new_zeros(len(boxes)).index_add_(0, which[chosen], torch.ones_like(each))
        return (each / share[which[chosen]]).sum(), int((share > 0).sum())


def _away(boxes: Float[Tensor, "box 4"], cells: Float[Tensor, "cell 2"]) -> Float[Tensor, "box cell 2"]:
    """From each cell to each box's centre."""
    return (boxes[:, None, :2] + boxes[:, None, 2:]) / 2 - cells[None]


@torch.no_grad()
def read_votes(
    votes: Float[Tensor, "class 4 height width"],
    maps: Float[Tensor, "leaf height width"],
    boxes: Float[Tensor, "box 4"],
    labels: Int[Tensor, " box"],
    sides: Float[Tensor, "box 2"],
    size: tuple[float, float],
) -> Votes:
    """What the votes of one image's level say of its annotations.

    Args:
        votes: of every class.
        maps: M, the background first.
        boxes: annotated, in pixels of the image of (width, height) `size`.
        labels: their classes, from 1.
        sides: mean width and height of their classes.
    """
    cells = cell_centres(votes.shape[2], votes.shape[3], size, votes.device)
    cell = boxes.new_tensor([size[0] / votes.shape[3], size[1] / votes.shape[2]])
    found = torch.zeros(4, len(boxes), 2, dtype=boxes.dtype, device=boxes.device)
    for label in sorted(set(labels.tolist())):
        own = (labels == label).nonzero()[:, 0]
        side = sides[own[0]]
        said = votes[label - 1].flatten(1).T
        centre = (boxes[own, :2] + boxes[own, 2:]) / 2 / side
        finest = (cell / side).square() / 12.0  # the variance of a place that is known to a cell
        found[:, own] = torch.stack(
            _mixture(cells / side + said[:, :2], said[:, 2:], maps[label].flatten(), centre, finest)
        )
        found[0, own] *= side
        found[1, own] += side.log()
    return Votes(*found)


def _mixture(
    goal: Float[Tensor, "cell 2"],
    log_size: Float[Tensor, "cell 2"],
    mass: Float[Tensor, " cell"],
    annotated: Float[Tensor, "box 2"],
    finest: Float[Tensor, " 2"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre, log-size and their variances of each annotation of one class; all in shares of the class's sides."""
    mode = annotated
    for scale in ANNEAL:
        near = torch.exp(-torch.cdist(mode, goal).square() / (2 * scale**2))
        weight = near / (near.sum(0) + BACKGROUND) * mass + 1e-9 * near + 1e-20
        weight = weight / weight.sum(1, keepdim=True)
        centre = weight @ goal
        spread = (weight[..., None] * (goal[None] - centre[:, None]).square()).sum(1)
        variance = torch.maximum(spread, finest)
        mode = (centre / variance + annotated / WINDOW**2) / (1 / variance + 1 / WINDOW**2)
    mean = weight @ log_size
    of_size = (weight[..., None] * (log_size[None] - mean[:, None]).square()).sum(1)
    return centre, mean, variance, torch.maximum(of_size, finest)
