"""The spatial words written out for two boxes, from their definitions in ontologies/neurosym.ttl."""

from __future__ import annotations

from neurosym.records import Box


def _common(a: Box, b: Box) -> tuple[float, float]:
    return min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)


def _area(a: Box) -> float:
    return a.width * a.height


def holds(word: str, a: Box, b: Box) -> bool:
    inverse = {"right_of": "left_of", "below": "above", "encloses": "inside", "smaller_than": "larger_than"}
    if word in inverse:
        return holds(inverse[word], b, a)
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
