"""Masks drawn worse than they are: moved with a spoilt box, cut to it, or drawn coarsely.

Three coarse masks, after what annotators do to save time: a brush that is too wide (`dilate`), a polygon of few corners
(`polygon`; Douglas & Peucker 1973, doi:10.3138/FM57-6770-U75U-7727), a stroke through the middle (`scribble`; scribbles as
labels: Lin et al. 2016, arXiv:1604.05144). Lengths are in units of the square root of the mask's area, so that `r` means the
same for a nodule and a lung. The stroke is the cheapest path between the mask's two most distant pixels, a step costing its
length over its depth below the mask's border. These definitions are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as mask_api
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from neurosym.data.masks import decode_mask, encode_mask
from neurosym.records import Box

Mask = np.ndarray
"""(height, width), bool."""
STROKE_WIDTH = 3
"""Pixels."""
_MOST_NODES = 2000


def move_mask(code: Mapping[str, Any], old: Box, new: Box) -> dict[str, Any] | None:
    """The mask under the map that takes box `old` to `new`, each pixel the nearest of before; None if nothing is left."""
    mask = decode_mask(code) > 0
    height, width = mask.shape
    source = []
    for low, high, from_low, from_high, size in (
        (new.y1, new.y2, old.y1, old.y2, height),
        (new.x1, new.x2, old.x1, old.x2, width),
    ):
        centres = np.arange(size) + 0.5
        at = np.floor(from_low + (centres - low) * (from_high - from_low) / (high - low)).astype(int)
        source.append(np.where((at >= 0) & (at < size), at, -1))
    rows, columns = source
    moved = mask[np.ix_(np.maximum(rows, 0), np.maximum(columns, 0))] & (rows >= 0)[:, None] & (columns >= 0)
    return encode_mask(moved) if moved.any() else None


def cut_mask(code: Mapping[str, Any], box: Box) -> dict[str, Any] | None:
    """The mask's pixels whose centres lie in the box; None if there is none."""
    mask = decode_mask(code) > 0
    y, x = np.arange(mask.shape[0]) + 0.5, np.arange(mask.shape[1]) + 0.5
    cut = mask & ((y >= box.y1) & (y <= box.y2))[:, None] & ((x >= box.x1) & (x <= box.x2))
    return encode_mask(cut) if cut.any() else None


def mask_box(code: Mapping[str, Any]) -> Box:
    """The tight box: from the first pixel's near edge to the last pixel's far edge."""
    x, y, w, h = (float(v) for v in mask_api.toBbox(dict(code)))
    return Box(x, y, x + w, y + h)


def nearest_pixel(code: Mapping[str, Any], x: float, y: float) -> tuple[float, float]:
    """The centre of the mask's pixel that is nearest to (x, y), the first in reading order among equals.

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = np.nonzero(decode_mask(code))
    if not len(rows):
        raise ValueError("the mask is empty")
    k = int(np.argmin((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2))
    return float(columns[k] + 0.5), float(rows[k] + 0.5)


def dilate(mask: Mask, r: float, rng: np.random.Generator) -> Mask:
    """All pixels within r √area of the mask."""
    return np.asarray(ndimage.distance_transform_edt(~mask) <= r * np.sqrt(mask.sum()))


def polygon(mask: Mask, r: float, rng: np.random.Generator) -> Mask:
    """Each piece's outline with as few of its corners as keep it within r √area of the old one; holes are filled.

    An outline that would collapse to a line becomes its bounding rectangle. r = 0 fills holes only.
    """
    if r == 0:
        return np.asarray(ndimage.binary_fill_holes(mask, np.ones((3, 3))))
    loops = []
    for loop in outlines(mask):
        corners = simplified(loop, r * float(np.sqrt(mask.sum())))
        if len(corners) < 3:
            (x1, y1), (x2, y2) = loop.min(0), loop.max(0)
            corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        loops.append(corners.astype(float).ravel().tolist())
    codes = mask_api.frPyObjects(loops, *mask.shape)
    return np.asarray(mask_api.decode(mask_api.merge(codes)) > 0)


def scribble(mask: Mask, r: float, rng: np.random.Generator) -> Mask:
    """A stroke through the middle of the largest piece; a share r of its length is cut off, at the ends, by chance."""
    path = _middle_path(mask)
    kept = max(1, round((1 - r) * len(path)))
    start = int(rng.integers(len(path) - kept + 1))
    path = path[start : start + kept]
    stroke = np.zeros_like(mask)
    stroke[tuple(path[0])] = True
    for a, b in pairwise(path):
        steps = int(np.abs(b - a).max())
        between = np.rint(np.linspace(a, b, steps + 1)).astype(int)
        stroke[between[:, 0], between[:, 1]] = True
    return np.asarray(ndimage.maximum_filter(stroke, STROKE_WIDTH) & mask)


COARSE: dict[str, Callable[[Mask, float, np.random.Generator], Mask]] = {
    "dilate": dilate,
    "polygon": polygon,
    "scribble": scribble,
}


def coarse_mask(code: Mapping[str, Any], shape: str, r: float, rng: np.random.Generator) -> dict[str, Any]:
    """A coarser mask of the same object; `shape` is a name of `COARSE`. An empty mask stays empty."""
    mask = decode_mask(code) > 0
    return encode_mask(COARSE[shape](mask, r, rng)) if mask.any() else encode_mask(mask)


def outlines(mask: Mask) -> list[np.ndarray]:
    """The outer borders of a mask's pieces (4-connected) along pixel edges, (corner, 2) as x, y, clockwise on the screen."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    follows: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (dy, dx), (ax, ay), (bx, by) in (  # the neighbour outside; where the shared edge begins and ends
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (1, 1)),
        ((1, 0), (1, 1), (0, 1)),
        ((0, -1), (0, 1), (0, 0)),
    ):
        outside = padded[1 + dy : 1 + dy + mask.shape[0], 1 + dx : 1 + dx + mask.shape[1]]
        for y, x in np.argwhere(inner & ~outside).tolist():
            follows.setdefault((x + ax, y + ay), []).append((x + bx, y + by))
    loops = []
    for start in sorted(follows):  # of the borders not yet walked, the leftmost corner: none touches itself there
        while follows[start]:
            loop, here = [start], follows[start].pop()
            while here != start:
                before = loop[-1]
                loop.append(here)
                here = _turn_right(before, here, follows)
            loops.append(np.array(loop))
    return [loop for loop in loops if _signed_area(loop) > 0]


def _turn_right(
    before: tuple[int, int], here: tuple[int, int], follows: dict[tuple[int, int], list[tuple[int, int]]]
) -> tuple[int, int]:
    """The next corner; where two pieces touch at a corner, the turn that stays on the same piece."""
    ends = follows[here]

    def turn(end: tuple[int, int]) -> int:
        return (here[0] - before[0]) * (end[1] - here[1]) - (here[1] - before[1]) * (end[0] - here[0])

    chosen = max(ends, key=turn)
    ends.remove(chosen)
    return chosen


def _signed_area(loop: np.ndarray) -> float:
    x, y = loop[:, 0], loop[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def simplified(loop: np.ndarray, tolerance: float) -> np.ndarray:
    """The corners that Douglas and Peucker keep of a closed line, begun at its first corner and the one farthest from it."""
    far = int(((loop - loop[0]) ** 2).sum(1).argmax())
    points = np.concatenate([loop, loop[:1]])
    kept = {0, far}
    spans = [(0, far), (far, len(loop))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        a, b = points[first], points[last]
        length = float(np.hypot(*(b - a)))
        rest = points[first + 1 : last] - a
        if length > 0:
            distance = np.abs(rest[:, 0] * (b - a)[1] - rest[:, 1] * (b - a)[0]) / length
        else:
            distance = np.hypot(rest[:, 0], rest[:, 1])
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            middle = first + 1 + worst
            kept.add(middle)
            spans += [(first, middle), (middle, last)]
    return loop[sorted(kept)]


def _middle_path(mask: Mask) -> np.ndarray:
    """Pixels (point, 2) as row, column, from one end of the largest piece to the other; thinned out if it is large."""
    stride = max(1, int(np.ceil(np.sqrt(mask.sum() / _MOST_NODES))))
    thin = mask[::stride, ::stride]
    if not thin.any():
        stride, thin = 1, mask
    pieces, count = ndimage.label(thin, np.ones((3, 3)))
    sizes = ndimage.sum_labels(thin, pieces, np.arange(1, count + 1))
    piece = pieces == 1 + int(np.argmax(sizes))
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    lengths, costs = _steps(piece, depth)
    pixels = np.argwhere(piece)
    start = int(dijkstra(lengths, directed=False, indices=0).argmax())
    end = int(dijkstra(lengths, directed=False, indices=start).argmax())
    _, before = dijkstra(costs, directed=False, indices=start, return_predecessors=True)
    path = [end]
    while path[-1] != start:
        path.append(int(before[path[-1]]))
    return np.asarray(pixels[path] * stride)


def _steps(piece: Mask, depth: np.ndarray) -> tuple[csr_array, csr_array]:
    """The graph of neighbouring pixels: how long each step is, and what it costs."""
    number = np.full(piece.shape, -1)
    number[piece] = np.arange(piece.sum())
    padded, deep = np.pad(number, 1, constant_values=-1), np.pad(depth, 1)
    height, width = piece.shape
    rows, columns, lengths, costs = [], [], [], []
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        there = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        both = piece & (there >= 0)
        length = np.full(int(both.sum()), np.hypot(dy, dx))
        mean_depth = (depth + deep[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width])[both] / 2
        rows.append(number[both])
        columns.append(there[both])
        lengths.append(length)
        costs.append(length / mean_depth)
    at = (np.concatenate(rows), np.concatenate(columns))
    size = (int(piece.sum()),) * 2
    return csr_array((np.concatenate(lengths), at), shape=size), csr_array((np.concatenate(costs), at), shape=size)
