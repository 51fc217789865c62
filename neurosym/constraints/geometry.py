"""The soft spatial words and places: ``sigmoid(margin / temperature)`` of the margins that the crisp ones compare to 0.

The margins are defined once, in `neurosym.knowledge.geometry` for boxes and `neurosym.knowledge.mask_geometry` for masks, so
each soft predicate tends to its crisp one as the temperature falls (away from the border itself, where it is ½). Ours are the
soft zones and sizes, which are ordered logits and so sum to 1, and the soft frame: the frame of an object is the first, in an
order that is itself soft, of those objects that are frames, as if whether each is one were drawn independently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

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
    margins = box_margins(boxes, WORDS) if masks is None else pair_margins(boxes, checked_masks(boxes, masks), torch)
    truth = torch.sigmoid(margins / temperature)
    return torch.cat([truth, truth.transpose(1, 2), torch.ones_like(truth[:1])])


def box_margins(boxes: Float[Tensor, "box 4"], words: Sequence[str]) -> Float[Tensor, "word box box"]:
    """The margins of some words for every ordered pair of boxes; what words have in common is computed once.

    Each word is evaluated by its own definition (`PREDICATES`), on operands that remember every intermediate result: sides,
    centres and overlaps are one tensor each, for all words and for both boxes of a pair.
    """
    known: dict[Any, _Shared] = {}
    first = _Shared(boxes[:, None], known, side=1)
    second = first.mirrored()
    margins = torch.stack([PREDICATES[word](first, second, _SharedModule).value for word in words])
    for shared in (first, *known.values()):
        shared.twin = None  # a circle would keep the tensors until garbage is collected
    known.clear()
    return margins


class _Shared:
    """A tensor in an expression whose parts are computed once: the same operation on the same operands is the same object.

    `side` is 1 for what the first box alone decides, "box 1", 2 for the second one's "1 box" (the transpose of the first's), 0
    for what the pair decides.
    """

    __slots__ = ("known", "side", "twin", "value")

    def __init__(self, value: Tensor, known: dict[Any, _Shared], side: int, twin: _Shared | None = None) -> None:
        self.value, self.known, self.side, self.twin = value, known, side, twin

    def mirrored(self) -> _Shared:
        """The same of the second box."""
        if self.twin is None:
            self.twin = _Shared(self.value.transpose(0, 1), self.known, 2, self)
        return self.twin

    def _made(self, operation: Any, other: Any, commutes: bool = False, reverse: bool = False) -> _Shared:
        shared = isinstance(other, _Shared)
        if self.side == 2 and (not shared or other.side == 2):
            assert self.twin is not None
            return self.twin._made(operation, other.twin if shared else other, commutes, reverse).mirrored()
        key = (operation, id(self), id(other) if shared else ("number", other), reverse)
        found = self.known.get(key)
        if found is None and commutes and shared:
            found = self.known.get((operation, id(other), id(self), reverse))
        if found is None:
            value = other.value if shared else other
            side = self.side if not shared or other.side == self.side else 0
            found = _Shared(operation(value, self.value) if reverse else operation(self.value, value), self.known, side)
            self.known[key] = found
        return found

    def __getitem__(self, index: Any) -> _Shared:
        return self._made(_item, index)

    def __add__(self, other: Any) -> _Shared:
        return self._made(torch.add, other, commutes=True)

    def __sub__(self, other: Any) -> _Shared:
        return self._made(torch.sub, other)

    def __mul__(self, other: Any) -> _Shared:
        return self._made(torch.mul, other, commutes=True)

    def __truediv__(self, other: Any) -> _Shared:
        return self._made(torch.div, other)

    def __pow__(self, other: Any) -> _Shared:
        return self._made(torch.pow, other)

    def __rsub__(self, other: Any) -> _Shared:
        return self._made(_minus, other, reverse=True)

    def __neg__(self) -> _Shared:
        return self._made(_negative, None)

    def __abs__(self) -> _Shared:
        return self._made(_absolute, None)

    __radd__, __rmul__ = __add__, __mul__


def _item(value: Tensor, index: Any) -> Tensor:
    found: Tensor = value[index]
    return found


def _minus(a: Any, b: Any) -> Any:
    return a - b


def _negative(value: Tensor, nothing: None) -> Tensor:
    return -value


def _absolute(value: Tensor, nothing: None) -> Tensor:
    return value.abs()


def _logarithm(value: Tensor, nothing: None) -> Tensor:
    return value.log()


class _SharedModule:
    """What the words' definitions ask of NumPy or torch, on shared operands."""

    @staticmethod
    def minimum(a: _Shared, b: _Shared) -> _Shared:
        return a._made(torch.minimum, b, commutes=True)

    @staticmethod
    def maximum(a: _Shared, b: _Shared) -> _Shared:
        return a._made(torch.maximum, b, commutes=True)

    @staticmethod
    def log(a: _Shared) -> _Shared:
        return a._made(_logarithm, None)


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
