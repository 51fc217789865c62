"""What the spatial words mean, defined once for boxes: each word is a *margin*, positive iff the word is true.

    crisp(a, b)  =  margin(a, b) > 0                      (scenes.facts: what a rule reviewer reads)
    soft(a, b)   =  sigmoid(margin(a, b) / temperature)   (constraints.geometry: what a detector is trained with)

so the crisp predicate is the limit of the soft one as the temperature goes to 0, by construction. Margins are in units of
the boxes' own sides, hence free of the image's scale, and keep a gradient where the word is false. They are written with
arithmetic that NumPy arrays and torch tensors share; `xp` is either module. An ontology ties its own properties to these
words by `ns:predicate`. The same words for masks are in `neurosym.knowledge.mask_geometry`.

Beside the words there are numbers: `FUNCTIONS` of a pair of boxes (distance, ratios), which OWL has no property for, and
`MEASURES` of one box, which are data properties. A rule compares a pair by the measures of both:
``width_share(H, W), width_share(L, V), W / V > 0.5``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


def patient_left_of(a: Array, b: Array, xp: Any) -> Array:
    """a's centre lies towards the patient's left of b's, on a frontal film shown in the usual way: right of it in the image."""
    return left_of(b, a, xp)


def patient_right_of(a: Array, b: Array, xp: Any) -> Array:
    """a's centre lies towards the patient's right of b's, on a frontal film shown in the usual way: left of it in the image."""
    return left_of(a, b, xp)


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
    apart = -xp.minimum(_overlap(a, b, 0, xp), _overlap(a, b, 1, xp))
    return NEAR_GAP - apart / _mean_side(a, b)


def adjacent(a: Array, b: Array, xp: Any) -> Array:
    """The boxes are near (they touch, nearly touch or overlap in part), and neither is inside the other.

    The margin is the least of those of `near`, not `inside` and not `encloses`, so the word is the conjunction of the three.
    """
    return xp.minimum(near(a, b, xp), -xp.maximum(inside(a, b, xp), inside(b, a, xp)))


def same(a: Array, b: Array, xp: Any) -> Array:
    """The boxes are one object: their intersection over union exceeds `SAME_IOU`."""
    return iou(a, b, xp) - SAME_IOU


# --- numbers of a pair of boxes ---------------------------------------------------------------------------------------


def _area(box: Array) -> Array:
    return _side(box, 0) * _side(box, 1)


def _mean_side(a: Array, b: Array) -> Array:
    return 0.25 * (_side(a, 0) + _side(a, 1) + _side(b, 0) + _side(b, 1))


def _positive(x: Array, xp: Any) -> Array:
    return xp.maximum(x, x * 0.0)


def _intersection(a: Array, b: Array, xp: Any) -> Array:
    return _positive(_overlap(a, b, 0, xp), xp) * _positive(_overlap(a, b, 1, xp), xp)


def _length(x: Array, y: Array) -> Array:
    """√(x² + y²), with the gradient 0 (not NaN) at 0."""
    return (x * x + y * y + _TINY * _TINY) ** 0.5


def distance(a: Array, b: Array, xp: Any) -> Array:
    """The distance of the boxes' centres as a share of their mean side (the mean of two widths and two heights)."""
    return _length(_centre(b, 0) - _centre(a, 0), _centre(b, 1) - _centre(a, 1)) / _mean_side(a, b)


def gap(a: Array, b: Array, xp: Any) -> Array:
    """The larger of the horizontal and the vertical gap as a share of the mean side; 0 where the boxes touch or overlap."""
    return _positive(-xp.minimum(_overlap(a, b, 0, xp), _overlap(a, b, 1, xp)), xp) / _mean_side(a, b)


def width_ratio(a: Array, b: Array, xp: Any) -> Array:
    """a's width over b's."""
    return _side(a, 0) / _side(b, 0)


def height_ratio(a: Array, b: Array, xp: Any) -> Array:
    """a's height over b's."""
    return _side(a, 1) / _side(b, 1)


def area_ratio(a: Array, b: Array, xp: Any) -> Array:
    """a's area over b's."""
    return _area(a) / _area(b)


def iou(a: Array, b: Array, xp: Any) -> Array:
    """Intersection over union of the boxes."""
    common = _intersection(a, b, xp)
    return common / (_area(a) + _area(b) - common)


def share_inside(a: Array, b: Array, xp: Any) -> Array:
    """The share of a's area that lies within b."""
    return _intersection(a, b, xp) / _area(a)


# --- numbers of one box -----------------------------------------------------------------------------------------------


def centre_x(box: Array, width: float, height: float, xp: Any) -> Array:
    """The x of the box's centre as a share of the image's width."""
    return _centre(box, 0) / width


def centre_y(box: Array, width: float, height: float, xp: Any) -> Array:
    """The y of the box's centre as a share of the image's height, growing downwards."""
    return _centre(box, 1) / height


def width_share(box: Array, width: float, height: float, xp: Any) -> Array:
    """The box's width as a share of the image's."""
    return _side(box, 0) / width


def height_share(box: Array, width: float, height: float, xp: Any) -> Array:
    """The box's height as a share of the image's."""
    return _side(box, 1) / height


def area_share(box: Array, width: float, height: float, xp: Any) -> Array:
    """The box's area as a share of the image's."""
    return _area(box) / (width * height)


def aspect(box: Array, width: float, height: float, xp: Any) -> Array:
    """The box's width over its height, both in pixels."""
    return _side(box, 0) / _side(box, 1)


Margin = Callable[[Array, Array, Any], Array]
Measure = Callable[[Array, float, float, Any], Array]


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
    "adjacent": adjacent,
    "patient_left_of": patient_left_of,
    "patient_right_of": patient_right_of,
}
"""The binary spatial words by name; `same` is what an equality `X = Y` in a rule head means on a film."""

SWAPPED: Final = frozenset({"right_of", "below", "encloses", "smaller_than", "patient_right_of"})
"""Words that say of (a, b) what another word says of (b, a)."""

DERIVED: Final = frozenset({"adjacent", "patient_left_of", "patient_right_of"})
"""Words that other words define; facts are written in those others, unless a rule speaks of a derived one."""

FUNCTIONS: Final[dict[str, Margin]] = {
    "distance": distance,
    "gap": gap,
    "width_ratio": width_ratio,
    "height_ratio": height_ratio,
    "area_ratio": area_ratio,
    "iou": iou,
    "share_inside": share_inside,
}
"""Numbers of an ordered pair of boxes, free of the image's scale."""

MEASURES: Final[dict[str, Measure]] = {
    "centre_x": centre_x,
    "centre_y": centre_y,
    "width_share": width_share,
    "height_share": height_share,
    "area_share": area_share,
    "aspect": aspect,
}
"""Numbers of one box on an image of a width and a height; a data property means one of them by `ns:predicate`."""

ZONES: Final = ("upper_zone", "middle_zone", "lower_zone")
SIDES: Final = ("central", "peripheral")
SIZES: Final = ("small_object", "medium_object", "large_object")
SMALL_SHARE: Final = 0.01
LARGE_SHARE: Final = 0.10
"""Sizes by the share of the image's area: small below 1%, large above 10%."""
PERIPHERAL_SHARE: Final = 0.4
"""`peripheral`: the centre lies in the 40% of the frame's width that is farthest from the image's other frames."""


def contrast(share: Array, bound: float) -> Array:
    """(share − bound) / (share + bound): how far a share ≥ 0 is above a bound, in [−1, 1), 0 at the bound itself.

    It is tanh(½ ln(share / bound)): ratios count, yet a share of 0 stays finite and a full share does not drown the rest.
    """
    return (share - bound) / (share + bound)


def zone_margins(box: Array, frame: Array) -> tuple[Array, Array]:
    """Margins of the upper and the lower zone, as shares of the frame's height; the middle zone is what is left."""
    share = (_centre(box, 1) - frame[..., 1]) / _side(frame, 1)
    return 1 / 3 - share, share - 2 / 3


def peripheral_margins(box: Array, frame: Array) -> tuple[Array, Array]:
    """Margins of `peripheral`, as shares of the frame's width: for a frame left of the midline, and for one right of it."""
    share = (_centre(box, 0) - frame[..., 0]) / _side(frame, 0)
    return (1.0 - share) - (1.0 - PERIPHERAL_SHARE), share - (1.0 - PERIPHERAL_SHARE)


def left_frame_margin(frame: Array, midline: Array) -> Array:
    """How far the frame's centre lies left of the midline's x, as a share of the frame's width."""
    return (midline - _centre(frame, 0)) / _side(frame, 0)


def size_margins(box: Array, width: float, height: float, xp: Any) -> tuple[Array, Array]:
    """Margins of a small and of a large object; a medium one is what is left."""
    share = area_share(box, width, height, xp)
    return -contrast(share, SMALL_SHARE), contrast(share, LARGE_SHARE)


def frame_distance(box: Array, frame: Array, xp: Any) -> tuple[Array, Array]:
    """By what an object's frame is chosen, the less the better: the way from its centre to the frame's box, then the area.

    So the frame is the smallest that holds the centre, and the nearest where none does.
    """
    x, y = _centre(box, 0), _centre(box, 1)
    dx = _positive(xp.maximum(frame[..., 0] - x, x - frame[..., 2]), xp)
    dy = _positive(xp.maximum(frame[..., 1] - y, y - frame[..., 3]), xp)
    return dx * dx + dy * dy, abs(frame[..., 2] - frame[..., 0]) * abs(frame[..., 3] - frame[..., 1])


def zone_of(box: Array, frame: Array) -> str:
    """The third of the frame's height that holds the box's centre."""
    upper, lower = zone_margins(box, frame)
    return ZONES[0] if upper > 0 else ZONES[1] if lower < 0 else ZONES[2]


def side_of(box: Array, frame: Array, midline: float) -> str:
    """`peripheral` if the box's centre lies in the outer `PERIPHERAL_SHARE` of the frame, seen from the midline x."""
    if_left, if_right = peripheral_margins(box, frame)
    return "peripheral" if (if_left if left_frame_margin(frame, midline) > 0 else if_right) > 0 else "central"


def size_of(box: Array, width: float, height: float) -> str:
    """Small, medium or large by the share of the image's area."""
    share = area_share(box, width, height, None)
    return SIZES[0] if share < SMALL_SHARE else SIZES[1] if share <= LARGE_SHARE else SIZES[2]


def frame_of(box: Array, frames: Sequence[Array], xp: Any) -> Array:
    """The frame of a box: the smallest of the frames that hold its centre, else the nearest."""
    return min(frames, key=lambda frame: tuple(float(part) for part in frame_distance(box, frame, xp)))


def midline_of(frames: Mapping[str, Sequence[Array]], width: float) -> float:
    """The x that sides are seen from: the mean centre of the classes of frames, or the image's own for fewer than two.

    Each class counts once by the mean of its boxes, so that a lung that is seen twice does not pull the midline over.
    """
    centres = [sum(float(_centre(f, 0)) for f in several) / len(several) for several in frames.values() if several]
    return sum(centres) / len(centres) if len(centres) > 1 else width / 2


def places_of(
    box: Array, frames: Mapping[str, Sequence[Array]], width: float, height: float, xp: Any, placed: bool = True
) -> tuple[str, ...]:
    """The size of a box, then its zone and side if it is `placed` (no frame itself) and the image has frames.

    Args:
        box: one box.
        frames: the boxes of each class of frames (a class with ns:zoned, or one below it) on the image.
        width: of the image.
        height: of the image.
        xp: numpy or torch.
        placed: whether the object can have a frame.
    """
    size = size_of(box, width, height)
    every = [frame for several in frames.values() for frame in several]
    if not placed or not every:
        return (size,)
    frame = frame_of(box, every, xp)
    return (size, zone_of(box, frame), side_of(box, frame, midline_of(frames, width)))
