"""What the spatial words mean, defined once for boxes: each word is a *margin*, positive iff the word is true.

    crisp(a, b)  =  margin(a, b) > 0                      (scenes.facts: what a rule reviewer reads)
    soft(a, b)   =  sigmoid(margin(a, b) / temperature)   (constraints.geometry: what a detector is trained with)

so the crisp predicate is the limit of the soft one as the temperature goes to 0, by construction. Margins are in units of
the boxes' own sides, hence free of the image's scale, and keep a gradient where the word is false. They are written with
arithmetic that NumPy arrays and torch tensors share; `xp` is either module. An ontology ties its own properties to these
words by `ns:predicate`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Array = Any
"""numpy.ndarray or torch.Tensor, float, (..., 4): x1, y1, x2, y2 in any unit."""

INSIDE_SHARE: Final = 0.75
"""`inside`: the share of a's width and of a's height that must lie within b."""
NEAR_GAP: Final = 0.1
"""`near`: the largest gap between two boxes, as a share of their mean side."""
SAME_IOU: Final = 0.5
"""`same`: the intersection over union above which two boxes are one object."""
_TINY: Final = 1e-6


def _centre(box: Array, axis: int) -> Array:
    return (box[..., axis] + box[..., axis + 2]) * 0.5


def _side(box: Array, axis: int) -> Array:
    """Width (axis 0) or height (axis 1), kept positive so that a degenerate box divides nothing by zero."""
    return abs(box[..., axis + 2] - box[..., axis]) + _TINY


def _overlap(a: Array, b: Array, axis: int, xp: Any) -> Array:
    """Length of the common interval on one axis; negative is the gap between the boxes."""
    return xp.minimum(a[..., axis + 2], b[..., axis + 2]) - xp.maximum(a[..., axis], b[..., axis])


def left_of(a: Array, b: Array, xp: Any) -> Array:
    """a's centre lies left of b's *in the image* (on a frontal film: towards the patient's right)."""
    return (_centre(b, 0) - _centre(a, 0)) / (0.5 * (_side(a, 0) + _side(b, 0)))


def above(a: Array, b: Array, xp: Any) -> Array:
    """a's centre lies above b's in the image."""
    return (_centre(b, 1) - _centre(a, 1)) / (0.5 * (_side(a, 1) + _side(b, 1)))


def inside(a: Array, b: Array, xp: Any) -> Array:
    """At least `INSIDE_SHARE` of a's width and of a's height lie within b."""
    share = xp.minimum(_overlap(a, b, 0, xp) / _side(a, 0), _overlap(a, b, 1, xp) / _side(a, 1))
    return share - (INSIDE_SHARE - _TINY)


def overlaps(a: Array, b: Array, xp: Any) -> Array:
    """The boxes share some area; the margin is the shared part of the shorter side, negative for a gap."""
    x = _overlap(a, b, 0, xp) / xp.minimum(_side(a, 0), _side(b, 0))
    y = _overlap(a, b, 1, xp) / xp.minimum(_side(a, 1), _side(b, 1))
    return xp.minimum(x, y)


def larger_than(a: Array, b: Array, xp: Any) -> Array:
    """a's area exceeds b's; the margin is the log ratio of the areas."""
    return xp.log(_side(a, 0) * _side(a, 1)) - xp.log(_side(b, 0) * _side(b, 1))


def near(a: Array, b: Array, xp: Any) -> Array:
    """The gap between the boxes is below `NEAR_GAP` of their mean side (0 where they touch or overlap)."""
    mean_side = 0.25 * (_side(a, 0) + _side(a, 1) + _side(b, 0) + _side(b, 1))
    gap = -xp.minimum(_overlap(a, b, 0, xp), _overlap(a, b, 1, xp))
    return NEAR_GAP - gap / mean_side


def same(a: Array, b: Array, xp: Any) -> Array:
    """The boxes are one object: their intersection over union exceeds `SAME_IOU`."""
    width, height = _overlap(a, b, 0, xp), _overlap(a, b, 1, xp)
    zero = width * 0.0
    intersection = xp.maximum(width, zero) * xp.maximum(height, zero)
    union = _side(a, 0) * _side(a, 1) + _side(b, 0) * _side(b, 1) - intersection
    return intersection / union - SAME_IOU


Margin = Callable[[Array, Array, Any], Array]


def _swapped(margin: Margin) -> Margin:
    return lambda a, b, xp: margin(b, a, xp)


PREDICATES: Final[dict[str, Margin]] = {
    "left_of": left_of,
    "right_of": _swapped(left_of),
    "above": above,
    "below": _swapped(above),
    "inside": inside,
    "encloses": _swapped(inside),
    "overlaps": overlaps,
    "larger_than": larger_than,
    "smaller_than": _swapped(larger_than),
    "near": near,
    "same": same,
}
"""The binary spatial words by name; `same` is what an equality `X = Y` in a rule head means on a film."""

SWAPPED: Final = frozenset({"right_of", "below", "encloses", "smaller_than"})
"""Words that say of (a, b) what another word says of (b, a)."""

ZONES: Final = ("upper_zone", "middle_zone", "lower_zone")
SIDES: Final = ("central", "peripheral")
SIZES: Final = ("small_object", "medium_object", "large_object")
SMALL_SHARE: Final = 0.01
LARGE_SHARE: Final = 0.10
"""Sizes by the share of the image's area: small below 1%, large above 10%."""
PERIPHERAL_SHARE: Final = 0.4
"""`peripheral`: the centre lies in the 40% of the frame's width that is farthest from the image's other frames."""


def zone_of(box: Array, frame: Array) -> str:
    """The third of the frame's height that holds the box's centre."""
    share = (_centre(box, 1) - frame[1]) / _side(frame, 1)
    return ZONES[0] if share < 1 / 3 else ZONES[1] if share < 2 / 3 else ZONES[2]


def side_of(box: Array, frame: Array, midline: float) -> str:
    """`peripheral` if the box's centre lies in the outer `PERIPHERAL_SHARE` of the frame, seen from the midline x."""
    share = (_centre(box, 0) - frame[0]) / _side(frame, 0)
    if _centre(frame, 0) < midline:
        share = 1.0 - share
    return "peripheral" if share > 1.0 - PERIPHERAL_SHARE else "central"


def size_of(box: Array, width: float, height: float) -> str:
    """Small, medium or large by the share of the image's area."""
    share = _side(box, 0) * _side(box, 1) / (width * height)
    return SIZES[0] if share < SMALL_SHARE else SIZES[1] if share <= LARGE_SHARE else SIZES[2]
