"""The soft spatial words and places: ``sigmoid(margin / temperature)`` of the margins that the crisp ones compare to 0.

The margins are defined once, in `neurosym.knowledge.geometry` for boxes and `neurosym.knowledge.mask_geometry` for masks, so
each soft predicate tends to its crisp one as the temperature falls (away from the border itself, where it is ½). Ours are the
soft zones and sizes, which are ordered logits and so sum to 1, and the soft frame: the frame of an object is the first, in an
order that is itself soft, of those objects that are frames, as if whether each is one were drawn independently.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.constraints.mask_geometry import checked_masks
from neurosym.errors import ConstraintError, Problem
from neurosym.knowledge.geometry import (
    FUNCTIONS,
    MEASURES,
    PREDICATES,
    SIDES,
    SIZES,
    ZONES,
    frame_distance,
    left_frame_margin,
    peripheral_margins,
    size_margins,
    zone_margins,
)
from neurosym.knowledge.mask_geometry import pair_margins

WORDS: tuple[str, ...] = tuple(PREDICATES)
TRUE = 2 * len(WORDS)
"""Index of the word that always holds; word w of (X, Y) has index w, of (Y, X) `len(WORDS) + w`."""
PLACES: tuple[str, ...] = (*ZONES, *SIDES, *SIZES)
FUNCTION_NAMES: tuple[str, ...] = tuple(FUNCTIONS)
MEASURE_NAMES: tuple[str, ...] = tuple(MEASURES)
UNLIKELY: Final = 1e-3
"""What is a frame with less truth than this is taken for none; each such object changes no truth by more than that."""


def soft_words(
    boxes: Float[Tensor, "box 4"], temperature: float = 0.1, masks: Float[Tensor, "mask height width"] | None = None
) -> Float[Tensor, "word box box"]:
    """Truth in [0, 1] of every word for every ordered pair of objects, in the order that compiled rules index.

    The first ``len(WORDS)`` slices are word(n, m), the next as many word(m, n), the last one is all true. As the temperature
    goes to 0 each slice goes to its crisp predicate; gradients stay finite because every margin is bounded below by the boxes'
    own sides, or by the pixels of the masks.

    Args:
        boxes: XYXY, any unit.
        temperature: softness, in units of the boxes' sides.
        masks: values in [0, 1] over the whole image, any resolution; a pair of them tells the words instead of the boxes,
            unless one of them is empty.

    Raises:
        ConstraintError: masks that do not fit the boxes, a temperature that is not positive.
    """
    _check(temperature)
    truth = torch.sigmoid(
        pair_margins(boxes, None if masks is None else checked_masks(boxes, masks), torch) / temperature
    )
    return torch.cat([truth, truth.transpose(1, 2), torch.ones_like(truth[:1])])


def pair_functions(boxes: Float[Tensor, "box 4"]) -> Float[Tensor, "function box box"]:
    """The numbers of every ordered pair of boxes, in the order of `FUNCTION_NAMES`."""
    first, second = boxes[:, None], boxes[None]
    return torch.stack([function(first, second, torch) for function in FUNCTIONS.values()])


def soft_measures(
    boxes: Float[Tensor, "box 4"], width: int | float, height: int | float
) -> Float[Tensor, "measure box"]:
    """The numbers of every box on an image of this size (same unit as the boxes), in the order of `MEASURE_NAMES`.

    They need no temperature: it is their comparison that is soft.
    """
    return torch.stack([measure(boxes, width, height, torch) for measure in MEASURES.values()])


def soft_places(
    boxes: Float[Tensor, "box 4"],
    frames: Float[Tensor, " box"],
    width: int | float,
    height: int | float,
    temperature: float = 0.1,
    *,
    classes: Float[Tensor, "frame_class box"] | None = None,
) -> Float[Tensor, "place box"]:
    """Truth in [0, 1] of every unary word for every box, in the order of `PLACES`.

    With f the truth that an object is a frame, w its frame's distribution over the others and z the soft zones (or sides)
    in each frame, a zone's truth is (1 − f) ∑ w z: the three zones sum to the truth that the object is placed at all, and so do
    the two sides. The three sizes sum to 1.

    Args:
        boxes: XYXY in the image's unit.
        frames: the truth that each box is a frame (of a class with ns:zoned).
        width: of the image.
        height: of the image.
        temperature: softness, in shares of the frame's sides.
        classes: the truth that each box is of each class of frames; the midline, which sides are seen from, lies between
            the classes. Without it, as on an image with one class of frames, the midline is the image's own.

    Raises:
        ConstraintError: a temperature or an image size that is not positive.
    """
    _check(temperature, width, height)
    small, large = (torch.sigmoid(m / temperature) for m in size_margins(boxes, width, height, torch))
    sizes = torch.stack([small, 1.0 - small - large, large])
    likely = torch.nonzero(frames.detach() > UNLIKELY).flatten()
    share = _frame_share(boxes, frames, likely, (width, height), temperature)
    first, second = boxes[:, None], boxes[likely][None]
    upper, lower = (torch.sigmoid(m / temperature) for m in zone_margins(first, second))
    peripheral = _peripheral(first, second, _midline(boxes, classes, width), temperature)
    placed = torch.stack([upper, 1.0 - upper - lower, lower, 1.0 - peripheral, peripheral])
    return torch.cat([(placed * share).sum(2) * (1.0 - frames), sizes])


def _check(temperature: int | float, *lengths: int | float) -> None:
    if not temperature > 0:
        cure = "crisp predicates are the limit; take a small number such as 0.001"
        raise ConstraintError(Problem(f"temperature {temperature} is not positive", cure=cure))
    if not all(length > 0 for length in lengths):
        raise ConstraintError(f"an image of {' × '.join(map(str, lengths))} has no area")


def _frame_share(
    boxes: Float[Tensor, "box 4"],
    frames: Float[Tensor, " box"],
    likely: Tensor,
    size: tuple[int | float, int | float],
    temperature: float,
) -> Float[Tensor, "box frame"]:
    """The probability that each likely frame is the frame of each box; rows sum to the probability that there is one.

    The frame k is the object's if it is one and none before it is: fₖ ∏ⱼ (1 − fⱼ · [j before k]). "Before" is by distance,
    then by area; the soft order divides the distance by T² and the area by T, so that distance decides alone in the limit. The
    product is exact for crisp orders and for two frames; for more it is scaled to the sum 1 − ∏(1 − fⱼ).
    """
    way, area = frame_distance(boxes[:, None], boxes[likely][None], torch)
    scale = size[0] * size[1]
    away = (way / scale + 1e-12).sqrt()
    cost = away / temperature**2 + area / scale / temperature
    before = torch.sigmoid(cost[:, None, :] - cost[:, :, None])  # box, j, k
    itself = likely[None] == torch.arange(len(boxes), device=boxes.device)[:, None]
    truth = torch.where(itself, torch.zeros_like(cost), frames[likely][None])
    same = torch.eye(len(likely), dtype=torch.bool, device=boxes.device)
    ahead = torch.where(same, torch.zeros_like(before), before * truth[:, :, None])
    share = truth * (1.0 - ahead).prod(1)
    some = 1.0 - (1.0 - truth).prod(1)
    total = share.sum(1)
    return share * torch.where(total > 0, some / total.clamp(min=1e-15), torch.ones_like(total))[:, None]


def _peripheral(box: Tensor, frame: Tensor, midline: Tensor, temperature: float) -> Float[Tensor, "box frame"]:
    if_left, if_right = (torch.sigmoid(m / temperature) for m in peripheral_margins(box, frame))
    left = torch.sigmoid(left_frame_margin(frame, midline) / temperature)
    return left * if_left + (1.0 - left) * if_right


def _midline(
    boxes: Float[Tensor, "box 4"], classes: Float[Tensor, "frame_class box"] | None, width: int | float
) -> Float[Tensor, ""]:
    """The mean centre of the classes of frames that are there, as far as at least two are, else the image's middle."""
    own = boxes.new_tensor(width / 2)
    if classes is None or len(classes) < 2 or len(boxes) == 0:
        return own
    centre = 0.5 * (boxes[:, 0] + boxes[:, 2])
    mean = (classes * centre).sum(1) / classes.sum(1).clamp(min=UNLIKELY)
    present = 1.0 - (1.0 - classes).prod(1)
    none = (1.0 - present).prod()
    others = 1.0 - torch.where(torch.eye(len(classes), dtype=torch.bool, device=boxes.device), 0.0, present[None])
    one = (present * others.prod(1)).sum()
    between = (present * mean).sum() / present.sum().clamp(min=UNLIKELY)
    several = 1.0 - none - one
    return several * between + (1.0 - several) * own
