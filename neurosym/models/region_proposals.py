"""torchvision's region proposal network, told of what is known of a film's annotations.

On open films (`neurosym.models.open_films`) no anchor is background. In training on inexact boxes anchors are positive by their
overlap with the refined ones, and of these the filter (`neurosym.models.positives`) makes those unlike their class count as
neither positive nor negative, as it does with the box head's proposals.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork

from neurosym.models.inexact import PositiveFilter
from neurosym.models.open_films import is_open
from neurosym.models.scene import Target


class RegionProposals(RegionProposalNetwork):  # type: ignore[misc]
    """The same network, parameters and settings; `filter` is that of the training step at hand, where there is one."""

    filter: PositiveFilter | None = None

    def assign_targets_to_anchors(self, anchors, targets):  # type: ignore[no-untyped-def]
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        for n, (own, target) in enumerate(zip(labels, targets, strict=True)):
            if is_open(target):
                own.masked_fill_(own == 0, -1.0)
            if self.filter is not None:
                self._reject(self.filter, n, anchors[n], own, matched[n], target)
        return labels, matched

    def _reject(
        self, chosen: PositiveFilter, n: int, anchors: Tensor, labels: Tensor, boxes: Tensor, target: Target
    ) -> None:
        """Set the labels of rejected anchors to −1; `boxes` are those that torchvision has matched the anchors with."""
        positive = (labels > 0).nonzero()[:, 0]
        if not len(positive):
            return
        which = (boxes[positive][:, None] == target["boxes"][None]).all(2).int().argmax(1)
        kept = chosen.of_image(n, anchors[positive], which, target["labels"][which])
        labels[positive[kept < 0]] = -1.0

    def compute_loss(self, objectness, pred_bbox_deltas, labels, regression_targets):  # type: ignore[no-untyped-def]
        if not any(bool((own >= 0).any()) for own in labels):  # a mean over nothing is no number
            return objectness.sum() * 0.0, pred_bbox_deltas.sum() * 0.0
        return super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)

    @classmethod
    def of(cls, rpn: RegionProposalNetwork) -> RegionProposals:
        """A network of torchvision's, made one of these."""
        rpn.__class__ = cls
        return rpn  # type: ignore[no-any-return]
