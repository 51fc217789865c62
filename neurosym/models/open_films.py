"""Films on which not every object is annotated: what is unlike all annotations is then no evidence of background.

A target's ``open`` says, class by class, whether there may be objects of the class without a box. On such a film

    anchors and pixels without an annotation      are ignored (of a segmenter: pixels of the open classes alone)
    proposals that match no annotated box         stay in the scene, but their class loss does not count

so the annotated objects are learned as on any other film, and what is known of the rest comes from the terms of weak
supervision (`neurosym.learning.weak`). Nothing changes on films without ``open``, nor where it is nowhere true.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from neurosym.models.scene import UNKNOWN, Target

IGNORED = -100
"""Label of a box whose class loss does not count, as in torchvision."""


def is_open(target: Target) -> bool:
    """Whether the film may show objects that are not annotated."""
    return "open" in target and bool(target["open"].any())


def without_background(labels: Sequence[Tensor], targets: Sequence[Target]) -> list[Tensor]:
    """Labels of sampled proposals, background of open films `IGNORED`."""
    pairs = zip(labels, targets, strict=True)
    return [own.masked_fill(own == 0, IGNORED) if is_open(target) else own for own, target in pairs]


def unopened(
    maps: UInt8[Tensor, "class height width"], target: Target, unknown: int = UNKNOWN
) -> UInt8[Tensor, "class height width"]:
    """Class maps of a segmenter, in which what is outside of an open class's annotations is unknown."""
    if not is_open(target):
        return maps
    return torch.where(target["open"][:, None, None] & (maps == 0), unknown, maps).to(torch.uint8)
