"""The adversary of a dense detector: what its class tower sees where anchors were rejected, mixed into what was kept.

A dense detector has no box head. The last that its classes share is the tower before the last 3×3 convolution, so the
embedding of an anchor is that convolution's input at the anchor's cell, nine cells of the tower, and its classifier the
convolution's rows for the anchor's place among those of the cell. That is linear, as `neurosym.models.adversary` asks for; a
rejected anchor's patch is judged by the classifier of the kept anchor that it is mixed into. Its features are without gradient,
the classifiers are not: where the detector looks at filler it is not to see the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.retinanet import RetinaNetClassificationHead

from neurosym.models.adversary import dense_adversarial_loss


class RejectedAnchors(NamedTuple):
    """Of an image: indices among its anchors, classes from 1, and evidence in [0, 1]."""

    anchors: Int[Tensor, " rejected"]
    labels: Int[Tensor, " rejected"]
    evidence: Float[Tensor, " rejected"]


class TowerView:
    """Within a ``with`` block, keeps what the class tower gives on each level to the last convolution, without gradient."""

    def __init__(self, head: RetinaNetClassificationHead) -> None:
        self.head = head
        self.levels: list[Tensor] = []

    def __enter__(self) -> TowerView:
        self._hook = self.head.conv.register_forward_hook(lambda _, __, seen: self.levels.append(seen.detach()))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._hook.remove()

    def logits(self, image: int, anchors: Int[Tensor, " anchor"]) -> Float[Tensor, "anchor place class"]:
        """What the classifiers of all anchors of a cell give to the patches at the cells of some anchors of an image."""
        places, classes, last = self.head.num_anchors, self.head.num_classes, self.head.cls_logits
        patches = [self._patch(image, cell) for cell in (anchors // places).tolist()]
        if not patches:
            nothing: Tensor = last.bias.new_zeros(0, places, classes)
            return nothing
        seen: Tensor = F.conv2d(torch.stack(patches), last.weight, last.bias)
        return seen.reshape(-1, places, classes)

    def _patch(self, image: int, cell: int) -> Float[Tensor, "channel 3 3"]:
        """The 3×3 cells around one, counted row by row and level by level; zero beyond the map, as the convolution pads it."""
        for level in self.levels:
            height, width = level.shape[2:]
            if cell < height * width:
                y, x = divmod(cell, width)
                top, left = max(y - 1, 0), max(x - 1, 0)
                cut = level[image, :, top : y + 2, left : x + 2]
                before = (left - x + 1, top - y + 1)
                return F.pad(cut, (before[0], 3 - cut.shape[2] - before[0], before[1], 3 - cut.shape[1] - before[1]))
            cell -= height * width
        raise IndexError("a cell beyond the last level")


def tower_adversary(
    view: TowerView,
    logits: Float[Tensor, "image anchor class"],
    labels: Sequence[Int[Tensor, " anchor"]],
    rejected: Sequence[RejectedAnchors],
) -> Float[Tensor, ""]:
    """The adversary's loss (`neurosym.models.adversary.dense_adversarial_loss`) over the images of a step.

    Args:
        view: of the pass that gave `logits`.
        labels: the class of each kept positive anchor of an image, from 1; 0 and less for all others.
        rejected: what may be mixed in, also into anchors of other images.
    """
    places = view.head.num_anchors
    kept = [(own > 0).nonzero()[:, 0] for own in labels]
    own = torch.cat([of_image[k] for of_image, k in zip(logits, kept, strict=True)])
    names = torch.cat([of_image[k] for of_image, k in zip(labels, kept, strict=True)])
    seen = torch.cat([view.logits(n, r.anchors) for n, r in enumerate(rejected)])
    judged = seen[:, torch.cat(kept) % places].transpose(0, 1)  # each by the classifier of the kept anchor's place
    others, weight = (torch.cat([r[k] for r in rejected]) for k in (1, 2))
    return dense_adversarial_loss(own, names, judged, others, weight)
