"""The losses of weak supervision: one term for each way of saying something of a film without drawing boxes.

    loss_weak_label     of each label that is present: some proposal is of a class below it, inside an organ that it lies in
    loss_weak_tag       of each tag: that, and in the tag's region
    loss_weak_mark      of each point and stroke: some proposal is of its class and holds it
    loss_weak_cover     of each stroke: the proposal that fits it best grows to hold all of it
    loss_weak_stroke    of each stroke, in models with masks of proposals: its pixels are in the mask of some such proposal
    loss_weak_rule      of each label of the study that a rule leads from: see `neurosym.learning.label_rules`
    loss_weak_negative  of each proposal: it is of no class that it cannot have

Each is a mean over what is said in the step's batch, whatever film it is said of, so kinds mix freely; `WeakConfig` weighs
them. A proposal cannot be of class c where c is absent; where every c of the film has its box or its mark, and it overlaps no
such box by `MATCH` and holds no such mark. The equations are in `multiple_instances` and `weak_places`. **Labels do not move
boxes**: they say nothing of where an object ends, and the founding paper (Cheng & Wu, IJCAI 2022) warns that they may harm
localisation, so boxes enter all terms but the stroke's cover without gradient, unless `through_boxes`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from neurosym.constraints import ConstraintSet
from neurosym.knowledge import Knowledge
from neurosym.knowledge.geometry import PREDICATES
from neurosym.learning.class_shapes import ClassShapes
from neurosym.learning.composed import containers
from neurosym.learning.hints import Hinter, Hints
from neurosym.learning.label_rules import LabelRule, holding, label_rules
from neurosym.learning.multiple_instances import negatives, of_labels, some_fits
from neurosym.learning.teacher import in_pixels
from neurosym.learning.weak_config import WeakConfig
from neurosym.learning.weak_places import Frames, fits_some, frames_on, held_share, in_region, inside_organ, left_out
from neurosym.models.scene import SceneProposals, Target
from neurosym.records import Sample

MATCH = 0.3
"""Intersection over union with an annotated box from which a proposal may be of its class; the box itself may be inexact."""
_LEAST = 1e-6


class WeakTerms:
    """The terms of weak supervision of one run."""

    def __init__(
        self,
        config: WeakConfig,
        hinter: Hinter,
        knowledge: Knowledge,
        constraints: ConstraintSet,
        shapes: ClassShapes | None = None,
    ) -> None:
        self.config, self.hinter, self.shapes = config, hinter, shapes
        self.within = containers(constraints) if config.place else {}
        self.rules = label_rules(knowledge, hinter)

    def losses(
        self,
        step: int,
        samples: Sequence[Sample],
        scenes: Sequence[SceneProposals],
        images: Sequence[Tensor],
        targets: Sequence[Target],
    ) -> dict[str, Tensor]:
        """The weighted terms of a step; none on a batch of which nothing is said weakly.

        Args:
            step: of the run, from 0; the terms grow over `WeakConfig.warmup_steps`.
            samples: the films of the batch.
            scenes: what the model proposes on each, in pixels of the scaled image.
            images: as they were shown, augmented.
            targets: in pixels of `images`, with what `Hinter.target` adds.
        """
        settings = self.config
        share = settings.weight * min(1.0, (step + 1) / max(1, settings.warmup_steps))
        said: dict[str, list[Tensor]] = {}
        if share > 0:
            for sample, scene, image, target in zip(samples, scenes, images, targets, strict=True):
                hints = self.hinter.of(sample)
                if hints is not None and len(scene.boxes):
                    _Film(self, hints, in_pixels(scene, image), target, said).say()
        weights = {
            "label": settings.label,
            "tag": settings.tag,
            "mark": settings.mark,
            "cover": settings.cover,
            "stroke": settings.stroke,
            "rule": settings.rule,
            "negative": settings.negative,
        }
        return {
            f"loss_weak_{kind}": share * weight * torch.stack(said[kind]).mean()
            for kind, weight in weights.items()
            if weight > 0 and kind in said
        }


class _Film:
    """One film's terms; they are added to `said` by kind."""

    def __init__(
        self, terms: WeakTerms, hints: Hints, scene: SceneProposals, target: Target, said: dict[str, list[Tensor]]
    ) -> None:
        self.terms, self.hints, self.scene, self.target, self.said = terms, hints, scene, target, said
        through = terms.config.through_boxes
        self.p, self.boxes = scene.probabilities, scene.boxes if through else scene.boxes.detach()
        self.points, self.marks = target["points"], target["marks"]
        fit = torch.ones_like(self.p[:, 1:])
        if terms.shapes is not None and scene.size is not None:
            fit = terms.shapes.fit(self.boxes, scene.size)
        self.shape = torch.cat([torch.ones_like(fit[:, :1]), fit], 1)

    def say(self) -> None:
        """All terms of the film."""
        for labels in self.hints.present:
            self._bag("label", self._placed(labels))
        for labels, region in self.hints.tags:
            frames = self._frames(region.frames)
            place = in_region(self.boxes, frames, region.zones, self.terms.config.temperature)
            self._bag("tag", [(labels, place)])
        for mark, label in enumerate(self.marks.tolist()):
            own = self.points[self.points[:, 2] == mark, :2]
            if len(own):
                self._mark(own, label)
        impossible = self._impossible()
        for rule in holding(self.terms.rules, self.hints.study, self.terms.hinter):
            self._rule(rule)
        if bool(impossible.any()):
            self._add("negative", negatives(self.p, impossible))

    def _add(self, kind: str, term: Tensor) -> None:
        self.said.setdefault(kind, []).append(term)

    def _frames(self, names: Sequence[str]) -> Frames:
        known = self.terms.hinter.names
        return frames_on(self.scene, self.target, [known.index(n) + 1 for n in names if n in known])

    def _bag(self, kind: str, parts: Sequence[tuple[Collection[int], Tensor]], weight: float = 1.0) -> None:
        """The term of a bag: of each part the classes that count, and how well each proposal's place fits them.

        It counts as far as any proposal could be the object: where none is of the right size and at the right place, to call
        the least unfit of them one would teach boxes that are wrong.
        """
        fits = [place[:, None] * self.shape[:, sorted(labels)] for labels, place in parts]
        truth = [(f * self.p[:, sorted(labels)]).sum(1) for f, (labels, _) in zip(fits, parts, strict=True)]
        possible = torch.cat(fits, 1).max().detach()
        self._add(kind, weight * possible * some_fits(torch.stack(truth).sum(0)))

    def _placed(self, labels: frozenset[int]) -> list[tuple[Collection[int], Tensor]]:
        """The classes of a label by the organs that they lie in, and how far each proposal is inside one of these."""
        temperature = self.terms.config.temperature
        by_organ: dict[frozenset[int], set[int]] = {}
        for k in labels:
            by_organ.setdefault(self.terms.within.get(k, frozenset()), set()).add(k)
        anywhere = torch.ones_like(self.boxes[:, 0])
        return [
            (own, inside_organ(self.boxes, frames_on(self.scene, self.target, o), temperature) if o else anywhere)
            for o, own in by_organ.items()
        ]

    def _mark(self, points: Tensor, label: int) -> None:
        held = held_share(self.boxes, points)
        self._bag("mark", [({label}, held)])
        if len(points) < 2:
            return
        fit = (self.p[:, label] * self.shape[:, label] * held).detach()
        best = int(fit.argmax())
        if float(fit[best]) > 0 and self.terms.hinter.learns_boxes:
            self._add("cover", left_out(self.scene.boxes[best], points))
        if self.scene.masks is not None and self.terms.hinter.learns_boxes:
            self._add("stroke", self._in_some_mask(points, label))

    def _in_some_mask(self, points: Tensor, label: int) -> Tensor:
        """−mean log of the noisy-or over proposals of (probability of the class, fixed) · (soft mask), at the points."""
        masks, size = self.scene.masks, self.scene.size
        assert masks is not None
        assert size is not None
        column = (points[:, 0] / size[0] * masks.shape[2]).long().clamp(0, masks.shape[2] - 1)
        row = (points[:, 1] / size[1] * masks.shape[1]).long().clamp(0, masks.shape[1] - 1)
        sure = of_labels(self.p.detach(), frozenset({label}))
        truth = (sure[:, None] * masks[:, row, column]).clamp(0.0, 1.0 - _LEAST)
        return -(-torch.expm1(torch.log1p(-truth).sum(0))).clamp_min(_LEAST).log().mean()

    def _impossible(self) -> Tensor:
        """(proposal, class): what the proposal cannot be."""
        boxes, labels = self.boxes.detach(), self.target["labels"].to(self.p.device)
        found = torch.zeros_like(self.p[:, 1:], dtype=torch.bool)
        overlap = box_iou(boxes, self.target["boxes"]) >= MATCH
        of_marks = [
            held_share(boxes, own) > 0 if len(own := self.points[self.points[:, 2] == m, :2]) else None
            for m in range(len(self.marks))
        ]
        for c in range(found.shape[1]):
            if bool(self.hints.absent[c]):
                found[:, c] = True
            elif not bool(self.hints.open[c]) or bool(self.hints.marked[c]):
                free = ~overlap[:, labels == c + 1].any(1)
                for held, label in zip(of_marks, self.marks.tolist(), strict=True):
                    if label == c + 1 and held is not None:
                        free = free & ~held
                found[:, c] = free
        return found

    def _rule(self, rule: LabelRule) -> None:
        labels = rule.labels
        if rule.denies:
            gone = torch.zeros_like(self.p[:, 1:], dtype=torch.bool)
            gone[:, [k - 1 for k in labels]] = True
            self._add("rule", rule.weight * negatives(self.p, gone))
            return
        if any(k in labels for k in self.target["labels"].tolist()):
            return  # it has its object
        place = torch.ones_like(self.boxes[:, 0])
        if rule.word:
            others = frames_on(self.scene, self.target, rule.others)
            margin = PREDICATES[rule.word](self.boxes[:, None], others.boxes[None], torch)
            place = fits_some(torch.sigmoid(margin / self.terms.config.temperature), others.truth)
        self._bag("rule", [(labels, place)], rule.weight)
