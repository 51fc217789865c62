"""Training on inexact boxes: the parts that every detector shares, between its pyramid and its heads.

    pyramid → votes, centroid maps → posterior of each annotated box → anchors and proposals are assigned to the refined boxes,
    positives unlike their class are ignored (`positives`), what was ignored becomes the adversary's filler (`adversary`)

The votes, which there are only where boxes are refined, learn from the annotations as they are: only these are unbiased; a head
that learnt from its own refined boxes would believe itself. All other losses see the refined ones, once the votes have learned
for `start` steps. Nothing of this is part of a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurosym.models.adversary import adversarial_loss
from neurosym.models.centroids import CentroidBank, evidence
from neurosym.models.config import InexactConfig
from neurosym.models.positives import kept_positives
from neurosym.models.posterior import NoiseModel, Posterior, posterior, residuals
from neurosym.models.votes import ClassSizes, VoteHead, Votes, read_votes

Target = dict[str, Tensor]
FILLERS = 8
"""Rejected boxes of an image that the adversary may mix in."""


class Refined(NamedTuple):
    """The targets of a step with `boxes` refined and their annotations' `quality` in [0, 1]; of each image the centroid map
    of each box's class, on the level where the class is read; losses."""

    targets: list[Target]
    maps: list[list[Tensor]]
    losses: dict[str, Tensor]


class InexactBoxes(nn.Module):
    """State and losses; `forward` is the part of a training step that refines the targets."""

    steps: Tensor

    def __init__(
        self, config: InexactConfig, classes: int, channels: int, strides: tuple[int, ...] = (4, 8, 16, 32)
    ) -> None:
        """`strides` are those of the pyramid's levels, finest first; what comes after them is not used."""
        super().__init__()
        self.config, self.strides = config, strides
        self.sizes = ClassSizes(classes, strides[0], len(strides))
        self.bank = CentroidBank(classes, len(strides), channels)
        self.head = VoteHead(channels, classes, self.sizes) if config.posterior else None
        self.noise = NoiseModel()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def measure(
        self, boxes: Float[Tensor, "box 4"], labels: Int[Tensor, " box"], areas: Float[Tensor, " box"], side: float
    ) -> None:
        """See `ClassSizes.measure`; must be called before training."""
        self.sizes.measure(boxes, labels, areas, side)

    def forward(
        self, features: Sequence[Tensor], sizes: Sequence[tuple[int, int]], targets: Sequence[Target]
    ) -> Refined:
        """The targets with refined boxes, the centroid map of each box's class, and the loss of the votes.

        Args:
            features: of the levels, finest first, as padded in the batch.
            sizes: (height, width) of each scaled image.
            targets: `boxes` in its pixels, and `labels`.
        """
        here = [(float(w), float(h)) for h, w in sizes]
        used = sorted(set(self.sizes.level.tolist()))
        cut = {k: [f.detach() for f in _unpadded(features[k], sizes, self.strides[k])] for k in used}
        shown = {level: [self.bank.map(level, f) for f in cut[level]] for level in used}
        boxes, labels = [t["boxes"] for t in targets], [t["labels"] for t in targets]
        levels = [self.sizes.level[own - 1].tolist() for own in labels]
        maps = [
            [shown[level][n][k] for level, k in zip(levels[n], own.tolist(), strict=True)]
            for n, own in enumerate(labels)
        ]
        found = [t | {"quality": torch.ones_like(t["boxes"][:, 0])} for t in targets]
        losses: dict[str, Tensor] = {}
        if self.head is not None:
            votes = {k: _unpadded(self.head(features[k]), sizes, self.strides[k]) for k in used}
            for n, target in enumerate(found):
                said = {level: of_level[n].detach() for level, of_level in votes.items()}
                found[n] = self._refined(target, here[n], said, maps[n])
            places = [t["boxes"] for t in found] if self.ready else None
            losses["loss_votes"] = self.config.votes * self.head.loss(votes, here, boxes, labels, places)
        for k in used:
            refined, quality = [t["boxes"] for t in found], [t["quality"] for t in found]
            self.bank.update(k, cut[k], here, refined, labels, quality, shown[k])
        self.steps.add_(1)
        return Refined(found, maps, losses)

    @torch.no_grad()
    def _refined(
        self, target: Target, size: tuple[float, float], votes: dict[int, Tensor], maps: Sequence[Tensor]
    ) -> Target:
        """One image's target, refined once the votes are ready; what it says of the noise is learned from the start."""
        boxes, labels = target["boxes"], target["labels"]
        levels = self.sizes.level[labels - 1]
        refined, quality = boxes.clone(), target["quality"].clone()
        for level in sorted(set(levels.tolist())):
            chosen = (levels == level).nonzero()[:, 0]
            own, shown = labels[chosen], torch.stack([maps[k] for k in chosen.tolist()])
            sides = self.sizes.sides(own, size).to(boxes)
            read = read_votes(votes[level][own - 1], shown, boxes[chosen], sides, size)
            self.noise.update(*residuals(boxes[chosen], read, sides))
            if self.ready:
                told = self._posterior(boxes[chosen], read, sides, own, shown, size)
                refined[chosen], quality[chosen] = told.boxes, told.quality
        return target | {"boxes": refined, "quality": quality}

    def _posterior(
        self, boxes: Tensor, read: Votes, sides: Tensor, labels: Tensor, shown: Tensor, size: tuple[float, float]
    ) -> Posterior:
        temperature = self.config.temperature if self.config.centroids else torch.inf
        variance = self.sizes.variance[labels - 1].to(boxes)
        return posterior(boxes, read, self.noise, sides, variance, shown, size, temperature)

    def filter_of(self, refined: Refined, sizes: Sequence[tuple[int, int]]) -> PositiveFilter | None:
        """The filter of a step; None before samples are filtered."""
        if not (self.config.filter and self.ready):
            return None
        return PositiveFilter(refined.maps, sizes, self.config.strictness, self.config.adversary)

    @property
    def ready(self) -> bool:
        """Whether votes and centroids have learned long enough to be believed."""
        return int(self.steps) >= self.config.start


class PositiveFilter:
    """The filter of one training step: labels of rejected samples become −1, which torchvision's samplers never draw.

    Args:
        maps: of each image, the centroid map of each box's class.
        sizes: (height, width) of the scaled images.
        strictness: see `neurosym.models.positives.kept_positives`.
        adversary: weight of the adversary's loss, 0 for none.
    """

    def __init__(
        self,
        maps: Sequence[Sequence[Tensor]],
        sizes: Sequence[tuple[int, int]],
        strictness: float,
        adversary: float = 0.0,
    ) -> None:
        self.maps, self.sizes, self.strictness, self.adversary = maps, sizes, strictness, adversary
        # an image's rejected boxes, their classes and evidence; of the last stage that asked
        self._out: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def of_image(self, n: int, boxes: Tensor, matched: Tensor, labels: Tensor) -> Tensor:
        """The labels of an image's samples, of which the rejected positives are −1."""
        positive = (labels > 0).nonzero()[:, 0]
        if not len(positive):
            return labels
        height, width = self.sizes[n]
        seen = sample_evidence(boxes[positive], matched[positive], self.maps[n], (float(width), float(height)))
        kept = kept_positives(seen, matched[positive], len(self.maps[n]), self.strictness)
        out = positive[~kept]
        self._out[n] = boxes[out].detach(), labels[out], seen[~kept]
        return labels.index_fill(0, out, -1)

    def look(
        self, features: dict[str, Tensor], sizes: Sequence[tuple[int, int]], pool: Callable[..., Tensor]
    ) -> Fillers:
        """What the detector sees in the rejected boxes of this step, as its box head will be given it."""
        boxes, labels, weights = [], [], []
        device = next(iter(features.values())).device
        empty = torch.zeros(0, 4, device=device), torch.zeros(0, dtype=torch.long, device=device)
        for n in range(len(sizes)):
            box, label, seen = self._out.get(n, (*empty, torch.zeros(0, device=device)))
            best = seen.argsort(descending=True, stable=True)[:FILLERS]
            boxes.append(box[best])
            labels.append(label[best])
            weights.append(seen[best])
        return Fillers(pool(features, boxes, sizes), torch.cat(labels), torch.cat(weights), self.adversary)


@dataclass(frozen=True)
class Fillers:
    """Rejected samples of a step: pooled features, classes and evidence; `share` is the weight of the adversary's loss."""

    pooled: Tensor
    labels: Int[Tensor, " filler"]
    evidence: Float[Tensor, " filler"]
    share: float

    def loss(self, embedded: Tensor, labels: Tensor, head: nn.Module, predictor: nn.Module) -> Tensor:
        """The adversary's loss on the positives among embedded samples (see `neurosym.models.adversary`).

        `head` embeds pooled features, `predictor` gives logits and offsets.
        """
        kept = labels > 0
        if not len(self.labels) or not bool(kept.any()):
            return embedded.sum() * 0.0
        loss = adversarial_loss(
            embedded[kept],
            labels[kept],
            head(self.pooled),
            self.labels,
            self.evidence,
            lambda mixed: predictor(mixed)[0],
        )
        return self.share * loss


def sample_evidence(
    boxes: Float[Tensor, "sample 4"], matched: Int[Tensor, " sample"], maps: Sequence[Tensor], size: tuple[float, float]
) -> Float[Tensor, " sample"]:
    """a(b) of samples, each by the map of the object that it is matched to."""
    found = boxes.new_zeros(len(boxes))
    for k in sorted(set(matched.tolist())):
        own = (matched == k).nonzero()[:, 0]
        found[own] = evidence(maps[k][None], boxes[own][None], size)[0]
    return found


def _unpadded(maps: Tensor, sizes: Sequence[tuple[int, int]], stride: int) -> list[Tensor]:
    """Each image's own part of maps of a level; the last cell may reach beyond the image by less than a stride."""
    return [m[..., : -(-h // stride), : -(-w // stride)] for m, (h, w) in zip(maps, sizes, strict=True)]
