"""How well the boxes of proposals fit a place: a mark, a part of a frame, an organ; numbers in [0, 1] with gradients.

Regions and organs are objects of the film themselves: those that are annotated, else what the detector sees, each as far as it
is sure of it (t_f). With z_f in [0, 1] how well a box fits frame f,

    q = P(some frame is there and fits) + P(no frame is there) = 1 − Π_f (1 − t_f z_f) + Π_f (1 − t_f)

so on a film where no lung is seen a tag about lungs says nothing of place, and costs nothing. Zones are the soft ones of
`neurosym.constraints.geometry`, by the same margins.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.knowledge.geometry import PREDICATES, ZONES, zone_margins
from neurosym.learning.multiple_instances import of_labels
from neurosym.models.scene import SceneProposals, Target


class Frames(NamedTuple):
    """Boxes of frames, and how sure it is that each is one."""

    boxes: Float[Tensor, "frame 4"]
    truth: Float[Tensor, " frame"]


def frames_on(scene: SceneProposals, target: Target, labels: Collection[int]) -> Frames:
    """The objects of these labels: those annotated, with truth 1, or all proposals as far as they are seen to be one.

    What is seen tells where others are and is not told by them: no gradient leads back to it.
    """
    own = target["boxes"][[k in labels for k in target["labels"].tolist()]]
    if len(own) or not len(scene.boxes):
        return Frames(own, torch.ones_like(own[:, 0]))
    return Frames(scene.boxes.detach(), of_labels(scene.probabilities.detach(), frozenset(labels)))


def fits_some(fit: Float[Tensor, "box frame"], truth: Float[Tensor, " frame"]) -> Float[Tensor, " box"]:
    """q of boxes that fit each frame so well; 1 where there is no frame."""
    return 1.0 - (1.0 - truth * fit).prod(1) + (1.0 - truth).prod()


def in_region(
    boxes: Float[Tensor, "box 4"], frames: Frames, zones: Collection[str], temperature: float
) -> Float[Tensor, " box"]:
    """q of boxes whose centres are in the frame's width, and in one of these thirds of its height."""
    first, second = boxes[:, None], frames.boxes[None]
    upper, lower = (torch.sigmoid(m / temperature) for m in zone_margins(first, second))
    truth = dict(zip(ZONES, (upper, 1.0 - upper - lower, lower), strict=True))
    vertical = torch.stack([truth[z] for z in zones]).sum(0).clamp(0.0, 1.0)
    centre = 0.5 * (first[..., 0] + first[..., 2])
    width = (second[..., 2] - second[..., 0]).clamp_min(1e-6)
    within = torch.minimum(centre - second[..., 0], second[..., 2] - centre) / width
    return fits_some(vertical * torch.sigmoid(within / temperature), frames.truth)


def inside_organ(boxes: Float[Tensor, "box 4"], organs: Frames, temperature: float) -> Float[Tensor, " box"]:
    """q of boxes that are inside an organ (`neurosym.knowledge.geometry.inside`)."""
    margin = PREDICATES["inside"](boxes[:, None], organs.boxes[None], torch)
    return fits_some(torch.sigmoid(margin / temperature), organs.truth)


def held_share(boxes: Float[Tensor, "box 4"], points: Float[Tensor, "point 2"]) -> Float[Tensor, " box"]:
    """The share of points that each box holds, its border included."""
    x, y = points[None, :, 0], points[None, :, 1]
    x1, y1, x2, y2 = (boxes[:, k, None] for k in range(4))
    return ((x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)).to(boxes.dtype).mean(1)


def left_out(box: Float[Tensor, " 4"], points: Float[Tensor, "point 2"]) -> Float[Tensor, ""]:
    """By how much a box must grow to hold all points, in units of the sides of the points' own box; 0 iff it holds them."""
    low, high = points.amin(0), points.amax(0)
    side = (high - low).clamp_min(1.0)
    return ((torch.relu(box[:2] - low) + torch.relu(high - box[2:])) / side).sum()
