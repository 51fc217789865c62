"""The spatial words, numbers and places written out for boxes and masks, from their definitions in ontologies/neurosym.ttl."""

from __future__ import annotations

import math
from fractions import Fraction

from neurosym.records import Box


def _common(a: Box, b: Box) -> tuple[float, float]:
    return min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)


def _area(a: Box) -> float:
    return a.width * a.height


INVERSE = {
    "right_of": "left_of",
    "below": "above",
    "encloses": "inside",
    "smaller_than": "larger_than",
    "patient_left_of": "left_of",  # the patient faces the reader
    "patient_right_of": "right_of",
}
"""Words that say of (a, b) what the other says of (b, a)."""


def holds(word: str, a: Box, b: Box) -> bool:
    if word in INVERSE:
        return holds(INVERSE[word], b, a)
    if word == "adjacent":
        return holds("near", a, b) and not holds("inside", a, b) and not holds("inside", b, a)
    width, height = _common(a, b)
    if word == "left_of":
        return a.x1 + a.x2 < b.x1 + b.x2
    if word == "above":
        return a.y1 + a.y2 < b.y1 + b.y2
    if word == "inside":
        return width >= 0.75 * a.width and height >= 0.75 * a.height
    if word == "overlaps":
        return width > 0 and height > 0
    if word == "larger_than":
        return _area(a) > _area(b)
    if word == "near":
        gap = max(0.0, -width, -height)
        return gap < 0.1 * (a.width + a.height + b.width + b.height) / 4
    assert word == "same"
    shared = max(0.0, width) * max(0.0, height)
    return shared / (_area(a) + _area(b) - shared) > 0.5


def number(function: str, a: Box, b: Box) -> float:
    """The numbers of a pair of boxes."""
    width, height = _common(a, b)
    mean_side = (a.width + a.height + b.width + b.height) / 4
    shared = max(0.0, width) * max(0.0, height)
    return {
        "distance": math.dist(_centre(a), _centre(b)) / mean_side,
        "gap": max(0.0, -width, -height) / mean_side,
        "width_ratio": a.width / b.width,
        "height_ratio": a.height / b.height,
        "area_ratio": _area(a) / _area(b),
        "iou": shared / (_area(a) + _area(b) - shared),
        "share_inside": shared / _area(a),
    }[function]


def measure(name: str, a: Box, width: float, height: float) -> float:
    """The numbers of one box on an image."""
    return {
        "centre_x": (a.x1 + a.x2) / 2 / width,
        "centre_y": (a.y1 + a.y2) / 2 / height,
        "width_share": a.width / width,
        "height_share": a.height / height,
        "area_share": _area(a) / width / height,
        "aspect": a.width / a.height,
    }[name]


def _centre(a: Box) -> tuple[float, float]:
    return (a.x1 + a.x2) / 2, (a.y1 + a.y2) / 2


def size(a: Box, width: float, height: float) -> str:
    share = 100 * _area(a) / (width * height)
    return "small_object" if share < 1 else "large_object" if share > 10 else "medium_object"


def frame(a: Box, frames: list[Box]) -> Box:
    """The smallest box that holds a's centre; where none does, the nearest."""
    x, y = _centre(a)
    holding = [f for f in frames if f.x1 <= x <= f.x2 and f.y1 <= y <= f.y2]
    if holding:
        return min(holding, key=_area)
    return min(frames, key=lambda f: math.dist((x, y), (min(max(x, f.x1), f.x2), min(max(y, f.y1), f.y2))))


def zone(a: Box, frame: Box) -> str:
    thirds = 3 * (_centre(a)[1] - frame.y1) / frame.height
    return "upper_zone" if thirds < 1 else "lower_zone" if thirds > 2 else "middle_zone"


def side(a: Box, frame: Box, frames: dict[str, list[Box]], width: float) -> str:
    """Seen from the mean of the classes' mean centres, or from the middle of the image if there is one class only."""
    means = [sum(_centre(f)[0] for f in several) / len(several) for several in frames.values() if several]
    midline = sum(means) / len(means) if len(means) > 1 else width / 2
    fifths = 5 * (_centre(a)[0] - frame.x1) / frame.width
    outer = fifths < 2 if _centre(frame)[0] < midline else fifths > 3
    return "peripheral" if outer else "central"


Pixels = frozenset[tuple[int, int]]
"""A binary mask: the (x, y) of its pixels."""


def holds_of_masks(word: str, a: Pixels, b: Pixels) -> bool:
    """The words for two masks, none empty, pixel by pixel."""
    if word in INVERSE:
        return holds_of_masks(INVERSE[word], b, a)
    common = len(a & b)
    if word == "left_of":
        return Fraction(sum(x for x, _ in a), len(a)) < Fraction(sum(x for x, _ in b), len(b))
    if word == "above":
        return Fraction(sum(y for _, y in a), len(a)) < Fraction(sum(y for _, y in b), len(b))
    if word == "inside":
        return 4 * common >= 3 * len(a)
    if word == "overlaps":
        return 100 * common > min(len(a), len(b))
    if word == "larger_than":
        return len(a) > len(b)
    if word == "same":
        return 2 * common > len(a | b)
    if word == "adjacent":
        apart = not holds_of_masks("inside", a, b) and not holds_of_masks("inside", b, a)
        return apart and holds_of_masks("near", a, b)
    assert word == "near"
    gap = min(max(abs(x - u) - 1, abs(y - v) - 1, 0) for x, y in a for u, v in b)
    sides = sum(len({x for x, _ in m}) + len({y for _, y in m}) for m in (a, b))
    return 40 * gap < sides  # a tenth of the mean of four sides
