"""The masks that soft words are computed from: what is required of them, and the gradient they pass on.

The margins are those of `neurosym.knowledge.mask_geometry`, on torch tensors. All of them are differentiable in the mask values
almost everywhere and their gradients are finite everywhere: areas are bounded below by half a pixel, widths by one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.errors import ConstraintError, Problem

_SLACK = 1e-4
"""By how much rounding may take a mask's value out of [0, 1]."""


def checked_masks(boxes: Float[Tensor, "box 4"], masks: Tensor) -> Float[Tensor, "box height width"]:
    """The masks as floats of the boxes' type on the boxes' device.

    Raises:
        ConstraintError: not one mask (height, width) a box, no pixels, values that are not finite or lie outside [0, 1].
    """
    if masks.ndim != 3 or len(masks) != len(boxes):
        found = " × ".join(map(str, masks.shape))
        cure = f"give one mask a box over the whole image: {len(boxes)} × height × width"
        raise ConstraintError(Problem(f"masks are {found} for {len(boxes)} boxes", cure=cure))
    if not (masks.shape[1] and masks.shape[2]):
        raise ConstraintError(Problem(f"masks of {masks.shape[1]} × {masks.shape[2]} pixels show nothing"))
    masks = masks.to(boxes)
    if len(masks):
        least, most = (float(v) for v in torch.aminmax(masks.detach()))
        if not (torch.isfinite(masks).all()):
            raise ConstraintError("the detector's masks are not finite; lower the learning rate")
        if least < -_SLACK or most > 1 + _SLACK:
            cure = "turn logits into shares of pixels by a sigmoid"
            raise ConstraintError(
                Problem(f"mask values lie between {least:.4g} and {most:.4g}, not in [0, 1]", cure=cure)
            )
    return masks
