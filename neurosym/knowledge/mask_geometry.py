"""What the spatial words mean for masks: the margins of `neurosym.knowledge.geometry`, measured on pixels instead of boxes.

A mask is a grid of values in [0, 1] over the whole image (binary where it is annotated, soft where a network gives it); all
masks of an image share one grid of any resolution, and a pixel of it counts as a square. With A the sum of a mask a, C its
centroid, W and H its width and height (the columns and rows that it occupies, each counted by its strongest pixel):

    left_of      (C(b) − C(a)) / mean of the two widths, on x; `above` likewise on y
    inside       ∑ab / A(a) − INSIDE_SHARE: the share of a's mass that lies in b
    overlaps     contrast(∑ab / min(A(a), A(b)), OVERLAP_SHARE)
    larger_than  ln A(a) − ln A(b)
    same         ∑ab / (A(a) + A(b) − ∑ab) − SAME_IOU
    near         contrast(∑ dilated(a)² b², ½), dilated by NEAR_GAP of the mean side: some pixel of b is within reach of a
    adjacent     near, neither inside the other

and the other words are these with a and b exchanged. Masks that are filled rectangles agree with the words for boxes, except
that a sliver below `OVERLAP_SHARE` of the smaller mask is no overlap, and that three quarters of the *area* must lie inside. As
for boxes, same ⇒ overlaps ⇒ near and inside ⇒ overlaps hold of binary masks. A mask of less than half a pixel is empty and
has no place: its box speaks for it. `xp` is numpy or torch, which makes the crisp words (margin > 0) the limit of the soft
ones. Sums of products of all pairs are one product of matrices; `near` takes one more for each reach in pixels that occurs, so
grids of some 64 to 128 pixels a side are meant.
"""

from __future__ import annotations

import math
from typing import Any, Final

from neurosym.knowledge.geometry import INSIDE_SHARE, NEAR_GAP, PREDICATES, SAME_IOU, Array, contrast

OVERLAP_SHARE: Final = 0.01
"""`overlaps`: the share of the smaller mask that must lie in the other, so that touching edges are no overlap."""
EMPTY: Final = 0.5
"""The area in pixels below which a mask shows nothing."""
_TINY: Final = 1e-6


def pair_margins(boxes: Array, masks: Array | None, xp: Any) -> Array:
    """The margins of every word for every ordered pair of objects, by their masks where both have one, else by their boxes.

    Args:
        boxes: (object, 4), x1, y1, x2, y2 in any unit.
        masks: (object, height, width) in [0, 1] over the whole image, or None.
        xp: numpy or torch.

    Returns:
        (word, object, object) in the order of `PREDICATES`; positive iff the word is true.
    """
    first, second = boxes[:, None], boxes[None]
    by_box = {word: margin(first, second, xp) for word, margin in PREDICATES.items()}
    if masks is None:
        return xp.stack([by_box[word] for word in PREDICATES])
    masks = masks * 1.0
    by_mask = mask_margins(masks, xp)
    shown = _flat(masks).sum(1) >= EMPTY
    both = shown[:, None] & shown[None]
    return xp.stack([xp.where(both, by_mask[word], by_box[word]) for word in PREDICATES])


def mask_margins(masks: Array, xp: Any) -> dict[str, Array]:
    """The margins (object, object) of every word by masks (object, height, width), of floats; finite for empty ones too."""
    flat = _flat(masks)
    area = xp.clip(flat.sum(1), EMPTY, None)
    common = flat @ flat.T
    width, height = _extent(masks, 1, xp), _extent(masks, 2, xp)
    left_of = _before(_centroid(masks, 1, area, xp), width)
    above = _before(_centroid(masks, 2, area, xp), height)
    inside = common / area[:, None] - (INSIDE_SHARE - _TINY)
    larger_than = xp.log(area)[:, None] - xp.log(area)[None]
    near = _near(masks, flat, width + height, xp)
    return {
        "left_of": left_of,
        "right_of": left_of.T,
        "above": above,
        "below": above.T,
        "inside": inside,
        "encloses": inside.T,
        "overlaps": contrast(common / xp.minimum(area[:, None], area[None]), OVERLAP_SHARE),
        "larger_than": larger_than,
        "smaller_than": larger_than.T,
        "near": near,
        "same": common / (area[:, None] + area[None] - common) - SAME_IOU,
        "adjacent": xp.minimum(near, -xp.maximum(inside, inside.T)),
        "patient_left_of": left_of.T,
        "patient_right_of": left_of,
    }


def _flat(masks: Array) -> Array:
    return masks.reshape(len(masks), masks.shape[1] * masks.shape[2])  # −1 would not do for no masks


def _centroid(masks: Array, over: int, area: Array, xp: Any) -> Array:
    """The mean position on one axis, in pixels, of the mass summed over the other one."""
    profile = masks.sum(over)
    position = xp.cumsum(xp.ones_like(profile), 1) - 0.5
    return (profile * position).sum(1) / area


def _extent(masks: Array, over: int, xp: Any) -> Array:
    """The width (over rows, 1) or the height (over columns, 2) in pixels, at least one."""
    return xp.clip(xp.amax(masks, over).sum(1), 1.0, None)


def _before(centre: Array, side: Array) -> Array:
    return (centre[None] - centre[:, None]) / (0.5 * (side[:, None] + side[None]))


def _near(masks: Array, flat: Array, sides: Array, xp: Any) -> Array:
    """The margins of `near`.

    Two sets of pixels with a gap of g pixels meet when one of them is dilated by g + 1, and g < r iff g + 1 ≤ ⌈r⌉. The reach
    ⌈r⌉ of a pair, r = NEAR_GAP · mean side, is a constant to the gradient. Values are squared so that haze adds up to nothing.
    """
    reach = xp.ceil(NEAR_GAP * 0.25 * (sides[:, None] + sides[None]) - 1e-4)
    met, squared, dilated = flat @ flat.T * 0.0, (flat * flat).T, masks
    wanted = {int(r) for r in reach.reshape(-1).tolist() if math.isfinite(r)}
    for pixels in range(max(wanted, default=0) + 1):
        if pixels:
            dilated = _dilated(_dilated(dilated, 1, xp), 2, xp)
        if pixels in wanted:
            reached = _flat(dilated)
            met = xp.where(reach == pixels, (reached * reached) @ squared, met)
    return contrast(0.5 * (met + met.T), 0.5)


def _dilated(masks: Array, axis: int, xp: Any) -> Array:
    """Each pixel as strong as the strongest of itself and its two neighbours on one axis."""
    head, tail = (masks[:, :1], masks[:, -1:]) if axis == 1 else (masks[:, :, :1], masks[:, :, -1:])
    later, earlier = (masks[:, 1:], masks[:, :-1]) if axis == 1 else (masks[:, :, 1:], masks[:, :, :-1])
    neighbours = xp.maximum(xp.concatenate([head, earlier], axis), xp.concatenate([later, tail], axis))
    return xp.maximum(masks, neighbours)
