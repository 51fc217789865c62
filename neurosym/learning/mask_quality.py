"""What a segmenter's posterior of pixels says of annotated masks: an opinion on their quality, without a training step.

The opinion on mask A, of class c, is the overlap |A ∩ Y| / |A ∪ Y| with the posterior's mask Y = [q_c > ½] (see
`neurosym.models.inexact_masks`). Where a class has several annotations on an image, each has the part of Y that is nearer to it
than to the others, so that none answers for its neighbour's pixels. All of it is read at the model's own scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from torch import Tensor

from neurosym.learning.batches import to_target, to_tensor
from neurosym.models.inexact_masks import InexactMasks
from neurosym.models.segmenter import FpnSegmenter
from neurosym.records import Sample


@torch.no_grad()
def judge_masks(model: FpnSegmenter, samples: Sequence[Sample]) -> list[list[float | None]]:
    """The opinion on each judged annotation of each image, in [0, 1]; None where the annotation has no mask.

    None for all if the model has no posterior, or one that has not learned for long enough. No state of the model changes.
    """
    inexact = model.inexact_masks
    device = next(model.parameters()).device
    targets = [{k: v.to(device) for k, v in to_target(s, model.names, masks=True).items()} for s in samples]
    if inexact is None or not (inexact.config.posterior and inexact.ready):
        return [[None] * len(t["labels"]) for t in targets]
    batch, scaled = model.transform([to_tensor(s.image, device) for s in samples], targets)
    found = []
    for pixels, (height, width), target in zip(batch.tensors, batch.image_sizes, scaled, strict=True):
        found.append(_of_image(inexact, pixels[:, :height, :width], target["masks"], target["labels"]))
    return found


def _of_image(
    inexact: InexactMasks,
    image: Float[Tensor, "3 height width"],
    masks: UInt8[Tensor, "object height width"],
    labels: Tensor,
) -> list[float | None]:
    opinions: list[float | None] = [None] * len(labels)
    known = (masks == 1).flatten(1).any(1)
    for label in sorted({*labels[known].tolist()}):
        own = (known & (labels == label)).nonzero()[:, 0].tolist()
        inside = inexact.judge(label - 1, image, masks[own]) > 0.5
        shares = nearest((masks[own] == 1).cpu().numpy())
        for k, share in zip(own, shares, strict=True):
            drawn, part = masks[k] == 1, inside & torch.from_numpy(share).to(inside.device)
            opinions[k] = float((drawn & part).sum() / (drawn | part).sum())
    return opinions


def nearest(masks: Bool[np.ndarray, "object height width"]) -> Bool[np.ndarray, "object height width"]:
    """For each mask the pixels that are nearer to it than to the others; those as near to several are the first's.

    A pixel of several masks belongs to each of them.
    """
    away = np.stack([ndimage.distance_transform_edt(~mask) for mask in masks])
    first = away.argmin(0)[None] == np.arange(len(masks))[:, None, None]
    return np.asarray(first | masks)
