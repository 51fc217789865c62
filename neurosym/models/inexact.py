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
from neurosym.models.annotation_noise import NoiseModel
from neurosym.models.centroids import CentroidBank, evidence
from neurosym.models.config import InexactConfig
from neurosym.models.mixed_quality import MixedQuality, Quality
from neurosym.models.positives import kept_positives
from neurosym.models.posterior import Witness, posterior, residuals, whole_sides
from neurosym.models.votes import ClassSizes, VoteHead, Votes, read_votes

Target = dict[str, Tensor]
FILLERS = 8
"""Rejected boxes of each class of an image that the adversary may mix in."""


class Refined(NamedTuple):
    """The targets of a step with `boxes` refined, their `certainty` where it is to count, the annotations' `quality`; of each
    image the centroid map of each box's class, on the level where the class is read; losses."""

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
        self.noise = NoiseModel(classes)
        self.mixed = MixedQuality(classes) if config.mixed else None
        self.witness: Witness | None = None
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def measure(
        self, boxes: Float[Tensor, "box 4"], labels: Int[Tensor, " box"], areas: Float[Tensor, " box"], side: float
    ) -> None:
        """See `ClassSizes.measure`; must be called before training."""
        self.sizes.measure(boxes, labels, areas, side)
        self.noise.measure(len(boxes))

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
        cut = self._unpadded(features, sizes)
        shown = self._maps(cut)
        boxes, labels = [t["boxes"] for t in targets], [t["labels"] for t in targets]
        found = [t | {"quality": torch.ones_like(t["boxes"][:, 0])} for t in targets]
        losses: dict[str, Tensor] = {}
        if self.head is not None:
            votes = self._votes(self.head, features, sizes)
            for n, target in enumerate(found):
                said, sides = self._said(target, here[n], _of_image(votes, n), _of_image(shown, n))
                self.noise.update(*residuals(boxes[n], said, sides), whole_sides(boxes[n], here[n]), labels[n])
                if self.ready:
                    found[n] = self._refined(target, said, sides, here[n], learn=True)
            places = [t["boxes"] for t in found] if self.ready else None
            losses["loss_votes"] = self.config.votes * self.head.loss(votes, here, boxes, labels, places)
        fed = [n for n, t in enumerate(found) if len(t["boxes"]) or "open" not in t or not bool(t["open"].any())]
        for k in self._used:
            # an open film without a box is not all background
            levels, maps = [cut[k][n] for n in fed], [shown[k][n] for n in fed]
            refined, quality = [found[n]["boxes"] for n in fed], [found[n]["quality"] for n in fed]
            self.bank.update(k, levels, [here[n] for n in fed], refined, [labels[n] for n in fed], quality, maps)
        self.steps.add_(1)
        return Refined(found, self._maps_of_boxes(labels, shown), losses)

    @torch.no_grad()
    def judge(self, features: Sequence[Tensor], sizes: Sequence[tuple[int, int]], targets: Sequence[Target]) -> Refined:
        """What `forward` says of annotations, arguments alike, without a step: nothing is learned, no state changes, no loss.

        Where there are no votes, or none that are ready, boxes are as they were given and their quality is 1.
        """
        shown = self._maps(self._unpadded(features, sizes))
        found = [t | {"quality": torch.ones_like(t["boxes"][:, 0])} for t in targets]
        if self.head is not None and self.ready:
            votes = self._votes(self.head, features, sizes)
            for n, (target, (height, width)) in enumerate(zip(found, sizes, strict=True)):
                size = float(width), float(height)
                said, sides = self._said(target, size, _of_image(votes, n), _of_image(shown, n))
                found[n] = self._refined(target, said, sides, size)
        return Refined(found, self._maps_of_boxes([t["labels"] for t in targets], shown), {})

    @torch.no_grad()
    def _said(
        self, target: Target, size: tuple[float, float], votes: dict[int, Tensor], maps: dict[int, Tensor]
    ) -> tuple[Votes, Tensor]:
        """What the votes of one image say of its boxes, each read on its class's level; the mean sides of their classes."""
        boxes, labels = target["boxes"], target["labels"]
        sides, levels = self.sizes.sides(labels, size).to(boxes), self.sizes.level[labels - 1]
        said = Votes(*boxes.new_zeros(4, len(boxes), 2))
        for level in sorted(set(levels.tolist())):
            own = (levels == level).nonzero()[:, 0]
            weight = maps[level] if self.config.centroids else torch.ones_like(maps[level])
            part = read_votes(votes[level].detach(), weight, boxes[own], labels[own], sides[own], size)
            for whole, piece in zip(said, part, strict=True):
                whole[own] = piece
        return said, sides

    @torch.no_grad()
    def _refined(
        self, target: Target, said: Votes, sides: Tensor, size: tuple[float, float], learn: bool = False
    ) -> Target:
        cost, witness = None, self.witness
        if witness is not None:
            labels = target["labels"]

            def cost(boxes: Tensor) -> Tensor:
                return witness(boxes, labels, size)

        mixed = self._quality(target, said, sides, learn) if self.mixed is not None else None
        told = posterior(target["boxes"], said, self.noise, sides, size, cost, target["labels"], mixed)
        certain = {}
        if self.config.weigh:
            certain["certainty"] = told.certainty
            if self.mixed is not None:
                certain |= self.mixed.weighed(told.certainty, learn=learn)
        return target | {"boxes": told.boxes, "quality": told.quality} | certain

    def _quality(self, target: Target, said: Votes, sides: Tensor, learn: bool) -> Quality:
        """Which of a film's annotations are exact; with `learn` the film is learned from."""
        assert self.mixed is not None
        residual, variance, _ = residuals(target["boxes"], said, sides)
        noise, excess = (v.to(variance) for v in (self.noise.variance, self.noise.excess))
        return self.mixed.tell(residual, variance, noise, target["labels"], excess, learn=learn)

    @property
    def _used(self) -> list[int]:
        return sorted(set(self.sizes.level.tolist()))

    def _unpadded(self, features: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> dict[int, list[Tensor]]:
        return {k: [f.detach() for f in _unpadded(features[k], sizes, self.strides[k])] for k in self._used}

    def _maps(self, cut: dict[int, list[Tensor]]) -> dict[int, list[Tensor]]:
        return {level: [self.bank.map(level, f) for f in images] for level, images in cut.items()}

    def _votes(
        self, head: VoteHead, features: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> dict[int, list[Tensor]]:
        return {k: _unpadded(head(features[k]), sizes, self.strides[k]) for k in self._used}

    def _maps_of_boxes(self, labels: Sequence[Tensor], shown: dict[int, list[Tensor]]) -> list[list[Tensor]]:
        return [
            [shown[int(self.sizes.level[k - 1])][n][k] for k in of_image.tolist()] for n, of_image in enumerate(labels)
        ]

    def filter_of(self, refined: Refined, sizes: Sequence[tuple[int, int]]) -> PositiveFilter | None:
        """The filter of a step; None before samples are filtered."""
        if not (self.config.filter and self.ready):
            return None
        return PositiveFilter(refined.maps, sizes, self.config.strictness, self.config.adversary)

    @property
    def ready(self) -> bool:
        """Whether votes and centroids have learned long enough to be believed."""
        return int(self.steps) >= self.config.start


class Rejected(NamedTuple):
    """Positives of an image that the filter rejects: indices among its samples, boxes, classes from 1, and evidence."""

    samples: Int[Tensor, " rejected"]
    boxes: Float[Tensor, "rejected 4"]
    labels: Int[Tensor, " rejected"]
    evidence: Float[Tensor, " rejected"]


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
        self._out: dict[int, Rejected] = {}

    def of_image(self, n: int, boxes: Tensor, matched: Tensor, labels: Tensor) -> Tensor:
        """The labels of an image's samples, of which the rejected positives are −1."""
        self._out.pop(n, None)
        positive = (labels > 0).nonzero()[:, 0]
        if not len(positive):
            return labels
        height, width = self.sizes[n]
        seen = sample_evidence(boxes[positive], matched[positive], self.maps[n], (float(width), float(height)))
        kept = kept_positives(seen, matched[positive], len(self.maps[n]), self.strictness)
        out = positive[~kept]
        self._out[n] = Rejected(out, boxes[out].detach(), labels[out], seen[~kept])
        return labels.index_fill(0, out, -1)

    def rejected(self, n: int, device: torch.device) -> Rejected:
        """Of an image's rejected samples, in the last stage that asked, those that the adversary may mix in: of each class."""
        none = torch.zeros(0, dtype=torch.long, device=device)
        found = self._out.get(n, Rejected(none, none.new_zeros(0, 4).float(), none, none.float()))
        order = found.evidence.argsort(descending=True, stable=True)
        of_class = [order[found.labels[order] == k][:FILLERS] for k in sorted(set(found.labels.tolist()))]
        best = torch.cat([order[:0], *of_class])
        return Rejected(*(part[best] for part in found))

    def look(
        self, features: dict[str, Tensor], sizes: Sequence[tuple[int, int]], pool: Callable[..., Tensor]
    ) -> Fillers:
        """What the detector sees in the rejected boxes of this step, as its box head will be given it."""
        device = next(iter(features.values())).device
        found = [self.rejected(n, device) for n in range(len(sizes))]
        pooled = pool(features, [r.boxes for r in found], sizes)
        labels, weights = torch.cat([r.labels for r in found]), torch.cat([r.evidence for r in found])
        return Fillers(pooled, labels, weights, self.adversary)


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
    if not len(boxes):
        return found
    # all objects of a level at once, padded to as many samples as the richest has
    order = matched.argsort(stable=True)
    row = matched[order]
    counts = torch.bincount(matched, minlength=len(maps))
    place = torch.arange(len(boxes), device=boxes.device) - (counts.cumsum(0) - counts)[row]
    table = boxes.new_zeros(len(maps), int(counts.max()), 4)
    table[row, place] = boxes[order]
    seen = boxes.new_zeros(table.shape[:2])
    for shape in {m.shape for m in maps}:
        own = [k for k, m in enumerate(maps) if m.shape == shape]
        seen[own] = evidence(torch.stack([maps[k] for k in own]), table[own], size)
    found[order] = seen[row, place]
    return found


def certainty_of(targets: Sequence[Target], matched: Sequence[Int[Tensor, " _"]]) -> Float[Tensor, " sample"] | None:
    """The certainty of each sample's object, in the order of images; None where targets were not refined."""
    if not targets or "certainty" not in targets[0]:
        return None
    # an image without objects has samples all the same; what they are matched to does not count
    padded = [torch.cat([t["certainty"], t["certainty"].new_ones(1)]) for t in targets]
    return torch.cat([c[m.clamp_max(len(c) - 1)] for c, m in zip(padded, matched, strict=True)])


def usual_certainty(targets: Sequence[Target]) -> Tensor | None:
    """What certainty is relative to; None is the mean of the samples at hand."""
    return targets[0].get("usual_certainty") if targets else None


def _of_image(levels: dict[int, list[Tensor]], n: int) -> dict[int, Tensor]:
    return {level: images[n] for level, images in levels.items()}


def _unpadded(maps: Tensor, sizes: Sequence[tuple[int, int]], stride: int) -> list[Tensor]:
    """Each image's own part of maps of a level; the last cell may reach beyond the image by less than a stride."""
    return [m[..., : -(-h // stride), : -(-w // stride)] for m, (h, w) in zip(maps, sizes, strict=True)]
