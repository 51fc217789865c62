"""Instances of a scene as masks, and the moves that change them: split, merge, add, delete (Xie et al., RICE, CoRL 2021).

RICE learns where to split and what to merge from colour and depth; here the masks' own shape proposes (their parts, what is
left of them when they are eroded, two clusters of their pixels) and the score decides. Ours are the classes: a part, or a
union, may take a class that shares a parent with its own, so that a left lung that is both lungs can be mended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from neurosym.constraints.graph.ontology_graph import OntologyGraph
from neurosym.records import Detection

Mask = np.ndarray
"""(height, width) of truth values, over the whole image."""
_SAME = 0.5
"""Overlap (Dice) from which on a candidate is there already."""


SHAPE = ("log area", "share of its box", "largest part", "share of deep pixels", "depth", "minor to major axis")


@dataclass(frozen=True, eq=False)
class Instance:
    """One object: its label (from 1), its pixels, of which there are some, and the detection that it is, if unchanged."""

    label: int
    mask: Bool[Mask, "height width"]
    score: float = 1.0
    source: Detection | None = None

    @cached_property
    def area(self) -> int:
        return int(self.mask.sum())

    @cached_property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns that the mask occupies."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The tight box, XYXY in pixels."""
        rows, columns = self.window
        return float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)

    @cached_property
    def key(self) -> tuple[int, bytes]:
        """The same for the same label and pixels."""
        return self.label, np.packbits(self.mask).tobytes()

    @cached_property
    def parts(self) -> tuple[Bool[Mask, "height width"], ...]:
        """Its connected parts, the largest first."""
        numbered, count = ndimage.label(self.mask, structure=np.ones((3, 3)))
        sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
        return tuple(numbered == 1 + int(k) for k in np.argsort(-sizes, kind="stable"))

    @cached_property
    def shape(self) -> Float[np.ndarray, " feature"]:
        """What a mask looks like whatever its place, see `SHAPE`: numbers of order 1, the same at any resolution."""
        rows, columns = self.window
        side = np.sqrt(self.area)
        points = np.argwhere(self.mask[self.window]).astype(float)
        spread = np.linalg.eigvalsh(np.atleast_2d(np.cov(points.T, bias=True)) + np.eye(2) / 12)
        return np.array(
            [
                np.log(self.area / self.mask.size) / 5.0,
                self.area / ((rows.stop - rows.start) * (columns.stop - columns.start)),
                float(self.parts[0].sum()) / self.area,
                float((self.depth > 0.15 * side).sum()) / self.area,
                float(self.depth.max()) / side,
                float(np.sqrt(spread[0] / spread[1])),
            ]
        )

    @cached_property
    def depth(self) -> Float[Mask, "height width"]:
        """The distance of each of its pixels to the nearest outside it, within `window` and a border of one pixel."""
        return np.asarray(ndimage.distance_transform_edt(np.pad(self.mask[self.window], 1)))


@dataclass(frozen=True)
class Move:
    """Instances (by their place in the list) that go, and those that come; `kind` is one of `MOVES`."""

    kind: str
    removed: tuple[int, ...]
    added: tuple[Instance, ...]

    def apply(self, instances: Sequence[Instance]) -> tuple[Instance, ...]:
        """What is then there; those that stay keep their order."""
        return (*(i for k, i in enumerate(instances) if k not in self.removed), *self.added)


MOVES = ("add", "delete", "merge", "split")


def in_turns(moves: Sequence[Move], rng: np.random.Generator) -> list[Move]:
    """The moves by chance, but the kinds in turn, and of a kind the objects in turn.

    Else most splits would be of objects with many siblings, of which the parts may be.
    """
    piles: dict[str, dict[tuple[int, ...], list[Move]]] = {}
    for k in rng.permutation(len(moves)).tolist():
        piles.setdefault(moves[k].kind, {}).setdefault(moves[k].removed, []).append(moves[k])
    kinds = [list(_turns(list(of_kind.values()))) for of_kind in piles.values()]
    return list(_turns(kinds))


def _turns(piles: Sequence[Sequence[Move]]) -> Iterator[Move]:
    for k in range(max(map(len, piles), default=0)):
        yield from (pile[k] for pile in piles if k < len(pile))


def siblings(ontology: OntologyGraph) -> dict[int, tuple[int, ...]]:
    """For each label the others with which it shares a direct parent."""
    parents: dict[int, set[int]] = {}
    for child, parent in ontology.subclass.T.tolist():
        if child < ontology.leaves:
            parents.setdefault(child + 1, set()).add(parent)
    labels = range(1, ontology.leaves + 1)
    return {a: tuple(b for b in labels if a != b and parents.get(a, set()) & parents.get(b, set())) for a in labels}


def moves_of(
    instances: Sequence[Instance],
    candidates: Sequence[Instance],
    related: dict[int, tuple[int, ...]],
    least_area: float = 5e-4,
    reach: float = 0.04,
) -> list[Move]:
    """Every move that can be made, in a fixed order.

    Args:
        instances: what is there.
        candidates: what may be added.
        related: see `siblings`.
        least_area: share of the image that a part must have.
        reach: how far apart two masks may be to be merged, as a share of the image's longer side.
    """
    shape = instances[0].mask.shape if instances else (1, 1)
    pixels, apart = max(4.0, least_area * shape[0] * shape[1]), reach * max(shape)
    found = [Move("add", (), (c,)) for c in candidates if not any(_is(c, i) for i in instances)]
    found += [Move("delete", (k,), ()) for k in range(len(instances))]
    for k, first in enumerate(instances):
        for m in range(k + 1, len(instances)):
            found += [Move("merge", (k, m), (union,)) for union in _unions(first, instances[m], related, apart)]
    for k, whole in enumerate(instances):
        for one, other in _halves(whole, pixels):
            for a, b in _labels(whole.label, related):
                parts = (
                    replace(whole, label=a, mask=one, source=None),
                    replace(whole, label=b, mask=other, source=None),
                )
                found.append(Move("split", (k,), parts))
    return found


def _labels(label: int, related: dict[int, tuple[int, ...]]) -> Iterator[tuple[int, int]]:
    """The classes of two parts: both its own, or one of them a sibling's."""
    yield label, label
    for other in related[label]:
        yield label, other
        yield other, label


def _is(a: Instance, b: Instance) -> bool:
    return a.label == b.label and overlap(a, b) >= _SAME


def overlap(a: Instance, b: Instance) -> float:
    """Dice: 2 |a ∩ b| / (|a| + |b|)."""
    (rows, columns), (others, across) = a.window, b.window
    low, left = max(rows.start, others.start), max(columns.start, across.start)
    high, right = min(rows.stop, others.stop), min(columns.stop, across.stop)
    if low >= high or left >= right:
        return 0.0
    common = int((a.mask[low:high, left:right] & b.mask[low:high, left:right]).sum())
    return 2.0 * common / (a.area + b.area)


def _unions(a: Instance, b: Instance, related: dict[int, tuple[int, ...]], reach: float) -> list[Instance]:
    """Of two instances of one class or of sibling classes that touch or nearly do; the larger one's class comes first."""
    if a.label != b.label and b.label not in related[a.label]:
        return []
    if _gap(a, b) > reach:
        return []
    large, small = (a, b) if a.area >= b.area else (b, a)
    joined = large.mask | small.mask
    score = max(a.score, b.score)
    return [Instance(label, joined, score) for label in dict.fromkeys((large.label, small.label))]


def _gap(a: Instance, b: Instance) -> float:
    """The least distance of two masks in pixels; an upper bound by their boxes where these are far apart."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = a.box, b.box
    boxes = float(np.hypot(max(u1 - x2, x1 - u2, 0.0), max(v1 - y2, y1 - v2, 0.0)))
    if boxes > 0.25 * max(a.mask.shape):
        return boxes
    top, left = int(min(y1, v1)), int(min(x1, u1))
    window = slice(top, int(max(y2, v2))), slice(left, int(max(x2, u2)))
    return float(ndimage.distance_transform_edt(~a.mask[window])[b.mask[window]].min())


def _halves(whole: Instance, least: float) -> Iterator[tuple[Mask, Mask]]:
    """Ways to take a mask apart: by its parts, by what erosion leaves of it, by two clusters of its pixels."""
    seen = set()
    for cores in (whole.parts[:2], _cores(whole, least), _clusters(whole)):
        if len(cores) < 2:
            continue
        nearer = ndimage.distance_transform_edt(~cores[0]) <= ndimage.distance_transform_edt(~cores[1])
        one, other = whole.mask & nearer, whole.mask & ~nearer
        key = one.tobytes()
        if min(one.sum(), other.sum()) >= least and key not in seen:
            seen.add(key)
            yield one, other


def _cores(whole: Instance, least: float) -> tuple[Mask, ...]:
    """The two largest pieces when just so much is eroded that a mask in one piece falls apart."""
    if len(whole.parts) != 1:
        return ()
    for depth in np.linspace(0.0, float(whole.depth.max()), 9)[1:-1]:
        numbered, count = ndimage.label(whole.depth > depth)
        sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
        if count >= 2 and np.sort(sizes)[-2] >= 0.25 * least:
            order = np.argsort(-sizes, kind="stable")[:2]
            cores = []
            for k in order:
                core = np.zeros_like(whole.mask)
                core[whole.window] = (numbered == 1 + int(k))[1:-1, 1:-1]
                cores.append(core)
            return tuple(cores)
    return ()


def _clusters(whole: Instance, rounds: int = 8) -> tuple[Mask, ...]:
    """Two means of the pixels (Lloyd), begun at the ends of their longest axis; a cluster is given by the pixel at its mean."""
    points = np.argwhere(whole.mask).astype(float)
    if len(points) < 2:
        return ()
    middle = points - points.mean(0)
    axis = np.linalg.eigh(middle.T @ middle)[1][:, -1]
    far = middle @ (axis if axis[np.abs(axis).argmax()] > 0 else -axis)
    means = np.stack([points[far.argmin()], points[far.argmax()]])
    for _ in range(rounds):
        nearest = ((points[:, None] - means[None]) ** 2).sum(2).argmin(1)
        means = np.stack([points[nearest == k].mean(0) if (nearest == k).any() else means[k] for k in (0, 1)])
    spots = np.rint(means).astype(int)
    if (spots[0] == spots[1]).all():
        return ()
    found = []
    for row, column in spots.tolist():
        core = np.zeros_like(whole.mask)
        core[row, column] = True
        found.append(core)
    return tuple(found)
