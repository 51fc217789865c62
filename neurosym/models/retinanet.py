"""RetinaNet (Lin et al., ICCV 2017; torchvision's) that also shows its surest anchors as a differentiable scene.

RetinaNet scores each class of each anchor by a sigmoid of its own; a constraint needs one distribution over the classes and
the background. We take the sigmoids σₖ as independent events and condition on at most one of them being true:

    p₀ ∝ Π_j (1 − σ_j),     pₖ ∝ σₖ Π_{j≠k} (1 − σ_j),     that is     p = softmax(0, z₁, …, z_K)   of the logits z

so rows sum to 1, two classes share what they contest, and one class alone has exactly its σ. As in the paper the pyramid is
used from stride 8 on; its pooled level is the last (images here have a few hundred pixels, not a thousand). The head's towers
are group-normalised, as in torchvision's second version, which a training of a few hundred steps needs. With `multi_label` a
box has any number of classes and the sigmoids stay independent (`neurosym.models.multi_label`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou

from neurosym.models import multi_label
from neurosym.models.backbones import Pyramid, build_backbone, group_norm
from neurosym.models.config import DetectorConfig
from neurosym.models.dense_adversary import RejectedAnchors, TowerView, tower_adversary
from neurosym.models.inexact import InexactBoxes, PositiveFilter, Refined, usual_certainty
from neurosym.models.open_films import is_open
from neurosym.models.positives import weighted_anchor_loss
from neurosym.models.scene import KEEP, SceneModel, SceneProposals, Target, distinct, with_extent

_SUBSCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
_STRIDES = (4, 8, 16, 32, 64)


def exclusive(logits: Float[Tensor, "box class"]) -> Float[Tensor, "box leaf"]:
    """Independent sigmoids, conditioned on at most one being true: background first, rows sum to 1."""
    return F.pad(logits, (1, 0)).softmax(1)


class _UpperLevels(nn.Module):
    """A pyramid without the levels below `finest`, which are not computed: the finest is the dearest.

    If it `keeps_below`, what the next finer one would be convolved from is at hand for who asks: see `finer`.
    """

    def __init__(self, pyramid: Pyramid, finest: int, keeps_below: bool) -> None:
        super().__init__()
        self.pyramid, self.skipped, self.out_channels = pyramid, finest - 2, pyramid.out_channels
        self.keeps_below = keeps_below and finest > 2
        self._below: tuple[str, Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        with self.pyramid.fewer_bits(x.device):
            features = self._levels(x)
        return OrderedDict((name, level.float()) for name, level in features.items())

    def _levels(self, x: Tensor) -> OrderedDict[str, Tensor]:
        fpn, maps = self.pyramid.fpn, self.pyramid.trunk(x)
        names = list(maps)[self.skipped :]
        levels: list[Tensor] = []
        inner: Tensor | None = None
        for name in reversed(names):  # torchvision's top-down pass, which ends here before the bottom
            lateral = fpn.inner_blocks[int(name)](maps[name])
            if inner is not None:
                lateral = lateral + F.interpolate(inner, size=lateral.shape[-2:], mode="nearest")
            inner = lateral
            levels.insert(0, fpn.layer_blocks[int(name)](inner))
        if self.keeps_below and inner is not None:
            name = list(maps)[self.skipped - 1]
            self._below = name, maps[name].float(), inner.float()
        levels, names = fpn.extra_blocks(levels, list(maps.values()), names)
        return OrderedDict(zip(names, levels, strict=True))

    def finer(self) -> list[Tensor]:
        """Of the last `forward`, the level below the finest, summed but not convolved; none below stride 4."""
        if self._below is None:
            return []
        name, features, above = self._below
        lateral: Tensor = self.pyramid.fpn.inner_blocks[int(name)](features)
        return [lateral + F.interpolate(above, size=lateral.shape[-2:], mode="nearest")]


class RetinaDetector(SceneModel):
    """RetinaNet with three anchor sizes within each octave, in every aspect ratio of the config."""

    _seen: dict[str, Tensor]

    def __init__(self, config: DetectorConfig, names: Sequence[str], load: bool = True) -> None:
        super().__init__(config, names, load)
        strides = _STRIDES[config.finest_level - 2 :]
        if config.inexact.active:
            self.inexact = InexactBoxes(config.inexact, len(names), config.fpn_channels, _STRIDES[:-1])
        anchors = AnchorGenerator(
            sizes=tuple(tuple(config.anchor_scale * s * k for k in _SUBSCALES) for s in strides),
            aspect_ratios=(config.aspect_ratios,) * len(strides),
        )
        count = anchors.num_anchors_per_location()[0]
        self.net = RetinaNet(
            _UpperLevels(build_backbone(config, load), config.finest_level, config.inexact.active),
            head=RetinaNetHead(config.fpn_channels, count, len(names), norm_layer=group_norm),
            num_classes=len(names),
            min_size=config.image_size,
            max_size=config.max_size,
            anchor_generator=anchors,
            score_thresh=config.score_threshold,
            nms_thresh=config.nms_threshold,
            detections_per_img=config.max_detections,
            topk_candidates=config.proposals,
        )

    def forward(self, images: list[Tensor], targets: list[Target]) -> tuple[dict[str, Tensor], list[SceneProposals]]:
        """Training losses by torchvision's names, and the scene of each image."""
        # torchvision's head counts classes from 0 and has no background
        moved = [t | {"labels": t["labels"] - 1} for t in with_extent(targets)]
        batch, scaled = self.net.transform(images, moved)
        if self.inexact is None or not self.annotated:
            outputs, anchors = self._head(batch)
            losses = self._plain_losses(scaled, outputs, anchors)
        else:
            outputs, anchors, losses = self._inexact_pass(self.inexact, batch, scaled)
        if not self.shows_scenes:
            return losses, []
        return losses, self._scenes(outputs, anchors, batch.image_sizes, KEEP)

    def propose(self, images: list[Tensor], limit: int = 64) -> list[SceneProposals]:
        """The surest anchors of unlabelled images, with gradients through head and pyramid."""
        batch, _ = self.net.transform(images, None)
        return self._scenes(*self._head(batch), batch.image_sizes, min(limit, KEEP))

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Final detections in pixels of the given images: `boxes`, `labels`, `scores`."""
        training = self.training
        self.eval()
        found: list[dict[str, Tensor]] = self._objects(images) if self.config.multi_label else self.net(images)
        self.train(training)
        return [f | {"labels": f["labels"] + 1} for f in found]

    def _objects(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """What `detect` finds where boxes have several labels; labels count from 0."""
        batch, _ = self.net.transform(images, None)
        outputs, anchors = self._head(batch)
        limits = self.config.score_threshold, self.config.nms_threshold, self.config.max_detections
        found = []
        for n, (places, size) in enumerate(zip(anchors, batch.image_sizes, strict=True)):
            logits, boxes = self._surest(outputs, n, places)
            found.append(multi_label.detections(logits, boxes, size, *limits))
        done: list[dict[str, Tensor]] = self.net.transform.postprocess(
            found, batch.image_sizes, [(int(i.shape[-2]), int(i.shape[-1])) for i in images]
        )
        return done

    def pyramid(self) -> Mapping[str, Tensor]:
        """The feature pyramid of the last `forward` or `propose`."""
        return self._seen

    def vote_levels(self) -> list[Tensor]:
        """Votes do not find objects of a few cells, so these are read from stride 4 on, as in the other detectors."""
        return [*self._upper.finer(), *self._seen.values()]

    @property
    def _upper(self) -> _UpperLevels:
        return cast(_UpperLevels, self.net.backbone)

    def _features(self, batch: ImageList) -> list[Tensor]:
        levels = self.net.backbone(batch.tensors)
        self._seen = {name: level.detach() for name, level in levels.items()}
        return list(levels.values())

    def _head(self, batch: ImageList) -> tuple[dict[str, Tensor], list[Tensor]]:
        features = self._features(batch)
        return self.net.head(features), self.net.anchor_generator(batch, features)

    def _plain_losses(
        self, targets: list[Target], outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """torchvision's losses; boxes of certainty 0 (see `Target`) teach their class alone."""
        if self.config.multi_label:
            return self._multi_label_losses(targets, outputs, anchors)
        if not any(is_open(t) or "certainty" in t for t in targets):
            losses: dict[str, Tensor] = self.net.compute_loss(targets, outputs, anchors)
            return losses
        matched = [self._matched(places, target) for places, target in zip(anchors, targets, strict=True)]
        head = self.net.head
        sure = [_of_certain(own, target) for own, target in zip(matched, targets, strict=True)]
        return {
            "classification": head.classification_head.compute_loss(targets, outputs, matched),
            "bbox_regression": head.regression_head.compute_loss(targets, outputs, anchors, sure),
        }

    def _multi_label_losses(
        self, targets: list[Target], outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        logits, matcher = outputs["cls_logits"], self.net.proposal_matcher
        objects = [multi_label.joined(t, logits.shape[2]) for t in targets]
        matched = [self._matched(places, target) for places, target in zip(anchors, objects, strict=True)]
        labels = [t["labels"] for t in objects]
        return {
            "classification": multi_label.class_loss(logits, labels, matched, matcher.BETWEEN_THRESHOLDS),
            "bbox_regression": self.net.head.regression_head.compute_loss(objects, outputs, anchors, matched),
        }

    def _inexact_pass(
        self, inexact: InexactBoxes, batch: ImageList, targets: list[Target]
    ) -> tuple[dict[str, Tensor], list[Tensor], dict[str, Tensor]]:
        """What `_head` gives, and the losses on refined boxes and filtered anchors; `targets` count classes from 0."""
        features = self._features(batch)
        from_one = [t | {"labels": t["labels"] + 1} for t in targets]
        told: Refined = inexact([*self._upper.finer(), *features], batch.image_sizes, from_one)
        with TowerView(self.net.head.classification_head) as view:
            outputs = self.net.head(features)
        anchors = self.net.anchor_generator(batch, features)
        chosen = inexact.filter_of(told, batch.image_sizes)
        matched = [self._matched(places, target) for places, target in zip(anchors, told.targets, strict=True)]
        losses: dict[str, Tensor] = dict(told.losses)
        if chosen is not None:
            parts = list(zip(anchors, matched, told.targets, strict=True))
            labels = [self._kept(n, *part, chosen) for n, part in enumerate(parts)]
            matched = [
                own.masked_fill(kept < 0, self.net.proposal_matcher.BETWEEN_THRESHOLDS)
                for own, kept in zip(matched, labels, strict=True)
            ]
            if chosen.adversary:
                out = [chosen.rejected(n, places.device) for n, places in enumerate(anchors)]
                rejected = [RejectedAnchors(r.samples, r.labels, r.evidence) for r in out]
                worst = tower_adversary(view, outputs["cls_logits"], labels, rejected)
                losses["loss_adversary"] = chosen.adversary * worst
        refined = [t | {"labels": t["labels"] - 1} for t in told.targets]
        losses |= self.net.head.compute_loss(refined, outputs, anchors, matched)
        if "certainty" in refined[0]:
            losses["bbox_regression"] = self._weighted_regression(refined, outputs["bbox_regression"], anchors, matched)
        return outputs, anchors, losses

    def _weighted_regression(
        self, targets: list[Target], regression: Tensor, anchors: list[Tensor], matched: list[Tensor]
    ) -> Tensor:
        """The regression's loss, in which an anchor counts by how certain its box is."""
        positives = [(own >= 0).nonzero()[:, 0] for own in matched]
        of_boxes = [own[chosen] for own, chosen in zip(matched, positives, strict=True)]
        offsets = [
            self.net.box_coder.encode_single(target["boxes"][which], places[chosen])
            for target, which, places, chosen in zip(targets, of_boxes, anchors, positives, strict=True)
        ]
        certainty = [t["certainty"][which] for t, which in zip(targets, of_boxes, strict=True)]
        return weighted_anchor_loss(list(regression), offsets, positives, certainty, usual_certainty(targets))

    def _matched(self, anchors: Tensor, target: Target) -> Tensor:
        """The box of each anchor of an image, as torchvision matches them; on an open film no anchor is background."""
        matcher = self.net.proposal_matcher
        if len(target["boxes"]):
            matched: Tensor = matcher(box_iou(target["boxes"], anchors))
        else:
            matched = torch.full((len(anchors),), matcher.BELOW_LOW_THRESHOLD, dtype=torch.int64, device=anchors.device)
        if is_open(target):
            matched = matched.masked_fill(matched == matcher.BELOW_LOW_THRESHOLD, matcher.BETWEEN_THRESHOLDS)
        return matched

    def _kept(self, n: int, anchors: Tensor, matched: Tensor, target: Target, chosen: PositiveFilter) -> Tensor:
        """The labels of an image's anchors from 1: 0 where none is matched, −1 where the filter rejects."""
        labels = torch.zeros_like(matched)
        positive = matched >= 0
        labels[positive] = target["labels"][matched[positive]]
        return chosen.of_image(n, anchors, matched.clamp_min(0), labels)

    def _scenes(
        self, outputs: dict[str, Tensor], anchors: list[Tensor], sizes: list[tuple[int, int]], keep: int
    ) -> list[SceneProposals]:
        """The anchors least like background, decoded; near-duplicates are suppressed, the surest stay."""
        scenes = []
        for n, (places, (height, width)) in enumerate(zip(anchors, sizes, strict=True)):
            logits, boxes = self._surest(outputs, n, places)
            probabilities = multi_label.independent(logits) if self.config.multi_label else exclusive(logits)
            kept = distinct(probabilities, boxes, keep)
            scenes.append(SceneProposals(probabilities[kept], boxes[kept], None, (float(width), float(height))))
        return scenes

    def _surest(self, outputs: dict[str, Tensor], n: int, places: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and boxes of the anchors of image n that are least like background."""
        logits, regression = outputs["cls_logits"][n], outputs["bbox_regression"][n]
        # monotone in 1 − p₀
        sure = F.softplus(logits.detach()).sum(1) if self.config.multi_label else logits.detach().logsumexp(1)
        best = sure.topk(min(self.config.proposals, len(sure))).indices
        boxes: Tensor = self.net.box_coder.decode_single(regression[best], places[best])
        return logits[best], boxes


def _of_certain(matched: Tensor, target: Target) -> Tensor:
    """The matches of anchors with boxes that are certain; others are background to a regression, which has none."""
    if "certainty" not in target or not len(target["boxes"]):
        return matched
    unsure = (matched >= 0) & (target["certainty"][matched.clamp_min(0)] == 0)
    return matched.masked_fill(unsure, -1)
