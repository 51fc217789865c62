r"""A scene whose labels are open: each detection has candidate classes or is gone, while its box stays where it is.

Which labels make a detection a lung is a bit mask over its candidates; relations and measures of boxes are constants. So a
denial is grounded by joins of NumPy arrays that keep only the choices of detections that could be forbidden, and only what
depends on labels becomes literals (`neurosym.constraints.cnf`). Zones and sides depend on which detections are frames: they
are constants once that is fixed, which is what `World.placed` is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neurosym.constraints.cnf import TRUE, Cnf
from neurosym.constraints.denials import ClassColumns, Part
from neurosym.errors import ConstraintError
from neurosym.knowledge.geometry import MEASURES, PREDICATES, places_of, size_of
from neurosym.knowledge.mask_geometry import pair_margins
from neurosym.logic import Comparison, Count, Expression, Operand, Rule, Term
from neurosym.records import Scene

Bits: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
LARGEST_JOIN: Final = 20_000_000
"""Choices of detections of one rule that are looked at; a rule with more raises an error instead of filling the memory."""


def places_of_all(boxes: Floats, frames: Sequence[str], width: float, height: float) -> list[tuple[str, ...]]:
    """The words for where each of some boxes lies on an image (see `neurosym.knowledge.geometry.places_of`).

    Args:
        boxes: (box, 4), XYXY.
        frames: the class of each box that is a frame, "" for the others.
        width: of the image, in the boxes' unit.
        height: likewise.
    """
    by_class: dict[str, list[Floats]] = {}
    for box, name in zip(boxes, frames, strict=True):
        if name:
            by_class.setdefault(name, []).append(box)
    return [places_of(box, by_class, width, height, np, not name) for box, name in zip(boxes, frames, strict=True)]


class Words:
    """The spatial words between detections of a scene, as tables of booleans: by masks where both have one, else by boxes.

    No word holds of a detection with itself: every relation is between two distinct objects (ontologies/neurosym.ttl).
    """

    def __init__(self, scene: Scene, seen: Sequence[int]) -> None:
        found = [scene.detections[i] for i in seen]
        self.boxes: Floats = np.array([d.box.xyxy for d in found], dtype=np.float64).reshape(-1, 4)
        self._tables: dict[str, NDArray[np.bool_]] = {}
        if any(d.mask is not None for d in found):
            from neurosym.constraints.crisp import masks_of  # masks need its grid, and boxes alone need no torch

            margins = pair_margins(self.boxes, masks_of(found, scene), np)
            self._tables = {word: self._distinct(margin) for word, margin in zip(PREDICATES, margins, strict=True)}

    def __getitem__(self, word: str) -> NDArray[np.bool_]:
        if word not in self._tables:
            self._tables[word] = self._distinct(PREDICATES[word](self.boxes[:, None], self.boxes[None], np))
        return self._tables[word]

    def _distinct(self, margin: Floats) -> NDArray[np.bool_]:
        holds: NDArray[np.bool_] = np.asarray(margin) > 0
        np.fill_diagonal(holds, False)
        return holds


class World:
    """The detections `seen` of a scene with candidate classes, the present one first."""

    def __init__(
        self, columns: ClassColumns, scene: Scene, seen: Sequence[int], candidates: Sequence[Sequence[str]]
    ) -> None:
        self.columns, self.candidates = columns, candidates
        self.words = Words(scene, seen)
        self.boxes = self.words.boxes
        self.width, self.height = float(scene.width), float(scene.height)
        self.full: Bits = np.array([(1 << len(c)) - 1 for c in candidates], dtype=np.int64)
        self._values: dict[str, Floats] = {}
        is_a = columns.ontology.is_a
        row = {
            name: np.array([is_a(name, c) for c in columns.columns], dtype=np.int64)
            for name in {n for several in candidates for n in several}
        }
        zero = np.zeros(len(columns.columns), dtype=np.int64)
        self._labels: Bits = np.array(
            [sum((row[n] << k for k, n in enumerate(several)), zero) for several in candidates], dtype=np.int64
        ).reshape(len(candidates), len(zero))
        self._place_row = {
            place: np.array([is_a(place, c) for c in columns.columns], dtype=bool) for place in columns.places
        }
        self.bits = self.placed(None)

    def placed(self, frames: Sequence[str] | None) -> Bits:
        """(detection, column): the candidates that make it a member; `frames` as in `places_of_all`, None for sizes alone."""
        if not any(row.any() for row in self._place_row.values()):
            return self._labels
        if frames is None:
            words: list[tuple[str, ...]] = [(size_of(box, self.width, self.height),) for box in self.boxes]
        else:
            words = places_of_all(self.boxes, frames, self.width, self.height)
        held = [[self._place_row[w] for w in several if w in self._place_row] for several in words]
        member = np.array([np.any(rows, axis=0) if rows else np.zeros(self._labels.shape[1], bool) for rows in held])
        return np.where(member.reshape(self._labels.shape), self.full[:, None], self._labels)

    def measure(self, name: str) -> Floats:
        """(detection,): the values of a measure."""
        if name not in self._values:
            value = MEASURES[name](self.boxes, self.width, self.height, np)
            self._values[name] = np.asarray(value, dtype=np.float64)
        return self._values[name]


@dataclass(frozen=True)
class Rows:
    """Choices of detections and values for variables; `origin` is the row of the table that each was made from."""

    origin: Bits
    objects: dict[Term, Bits]
    values: dict[Term, Floats]

    def __len__(self) -> int:
        return len(self.origin)

    def at(self, index: Any, origin: Bits | None = None) -> Rows:
        """The rows at an index."""
        return Rows(
            self.origin[index] if origin is None else origin,
            {v: a[index] for v, a in self.objects.items()},
            {v: a[index] for v, a in self.values.items()},
        )


def no_rows(count: int = 1) -> Rows:
    """Rows that choose nothing yet."""
    return Rows(np.arange(count), {}, {})


class Grounder:
    """Grounds parts over a world into literals of a formula."""

    def __init__(self, world: World, bits: Bits, member: Membership, rule: Rule) -> None:
        self.world, self.bits, self.member, self.rule = world, bits, member, rule

    def instances(self, part: Part) -> Iterator[tuple[list[int], tuple[int, ...]]]:
        """The choices that could be forbidden: literals that all hold where the denial is broken, and the detections."""
        rows, literals = self._ground(part, no_rows())
        chosen = [rows.objects[v].tolist() for v in part.fresh]
        for i, found in enumerate(literals):
            if -TRUE not in found:
                yield found, tuple(column[i] for column in chosen)

    def _ground(self, part: Part, rows: Rows) -> tuple[Rows, list[list[int]]]:
        """The rows that a part may hold on, joined to `rows`, and for each the literals that make it hold."""
        masks = self._masks(part)
        rows = self._joined(part, rows, masks)
        if not len(rows):
            return rows, []
        wanted = {**dict.fromkeys(part.fresh, self.world.full), **masks}
        columns = [self._literals(rows.objects[v], bits) for v, bits in wanted.items()]
        literals: list[list[int]] = np.stack(columns, 1).tolist() if columns else [[] for _ in range(len(rows))]
        again = Rows(np.arange(len(rows)), rows.objects, rows.values)
        for absent in part.absent:
            witnesses, holds = self._ground(absent, again)
            table: list[list[int]] = [[] for _ in literals]
            for row, found in zip(witnesses.origin.tolist(), holds, strict=True):
                table[row].append(self.member.cnf.all_of(found))
            for found, some in zip(literals, table, strict=True):
                found.append(-self.member.cnf.any_of(some))
        for comparison, counted in part.counts:
            for found, literal in zip(literals, self._counts(comparison, counted, again), strict=True):
                found.append(literal)
        return rows, literals

    def _literals(self, chosen: Bits, bits: Bits) -> Bits:
        """For each row the literal of its detection's being one of its candidates in `bits`."""
        table = np.zeros(len(bits), dtype=np.int64)
        for detection in np.flatnonzero(np.bincount(chosen, minlength=len(bits))).tolist():
            table[detection] = self.member.of(detection, int(bits[detection]))
        found: Bits = table[chosen]
        return found

    def _masks(self, part: Part) -> dict[Term, Bits]:
        masks = {}
        for variable, holds, fails in part.classes:
            bits = self.world.full.copy()
            for column in holds:
                bits &= self.bits[:, column]
            if fails:
                failing = self.world.full.copy()
                for column in fails:
                    failing &= ~self.bits[:, column]
                bits &= failing
            masks[variable] = bits
        return masks

    def _joined(self, part: Part, rows: Rows, masks: Mapping[Term, Bits]) -> Rows:
        rows = rows.at(slice(None))  # what is bound below must not reach the caller's rows
        pending = [*part.relations, *(("", x, y, True) for x, y in part.different)]
        for variable, bits in masks.items():
            if variable in rows.objects:
                rows = rows.at(bits[rows.objects[variable]] != 0)
        rows, pending = self._filtered(rows, pending)
        for variable in part.fresh:
            candidates = np.flatnonzero(masks.get(variable, self.world.full))
            if len(rows) * len(candidates) > LARGEST_JOIN:
                raise ConstraintError(f"{self.rule} relates too many detections of one image to be checked")
            index = np.repeat(np.arange(len(rows)), len(candidates))
            rows = rows.at(index)
            rows.objects[variable] = np.tile(candidates, len(index) // len(candidates) if len(candidates) else 0)
            rows, pending = self._filtered(rows, pending)
        for name, variable, value in part.measures:
            rows.values[value] = self.world.measure(name)[rows.objects[variable]]
        for comparison in part.comparisons:
            rows = rows.at(holds(comparison, rows.values, len(rows)))
        return rows

    def _filtered(
        self, rows: Rows, pending: Iterable[tuple[str, Term, Term, bool]]
    ) -> tuple[Rows, list[tuple[str, Term, Term, bool]]]:
        later = []
        for item in pending:
            word, x, y, wanted = item
            if x not in rows.objects or y not in rows.objects:
                later.append(item)
                continue
            first, second = rows.objects[x], rows.objects[y]
            rows = rows.at(self.world.words[word][first, second] == wanted if word else first != second)
        return rows, later

    def _counts(self, comparison: Comparison, counted: Sequence[tuple[Count, Part]], rows: Rows) -> Iterator[int]:
        """For each row the literal of a comparison of counts."""
        cnf = self.member.cnf
        members: list[list[list[int]]] = []
        for count, part in counted:
            found, literals = self._ground(part, rows)
            table: list[dict[tuple[int, ...], list[int]]] = [{} for _ in range(len(rows))]
            columns = [found.objects[t].tolist() for t in count.terms]
            for i, row in enumerate(found.origin.tolist()):
                key = tuple(column[i] for column in columns)
                table[row].setdefault(key, []).append(cnf.all_of(literals[i]))
            members.append([[cnf.any_of(some) for some in each.values()] for each in table])
        for row in range(len(rows)):
            values = {v: float(a[row]) for v, a in rows.values.items()}
            yield self._count_literal(comparison, [c for c, _ in counted], [m[row] for m in members], values)

    def _count_literal(
        self, comparison: Comparison, counts: Sequence[Count], members: Sequence[list[int]], values: dict[Term, float]
    ) -> int:
        """Of all the numbers that the counts could be, those that satisfy the comparison."""
        cnf = self.member.cnf
        sums = [[*cnf.at_least(m), -TRUE] for m in members]
        options = []
        for numbers in product(*(range(len(m) + 1) for m in members)):
            known: dict[Any, float] = {**values, **dict(zip(counts, map(float, numbers), strict=True))}
            if holds(comparison, {k: np.array([v]) for k, v in known.items()}, 1)[0]:
                exact = [(s[n], -s[n + 1]) for s, n in zip(sums, numbers, strict=True)]
                options.append(cnf.all_of(literal for pair in exact for literal in pair))
        return cnf.any_of(options)


class Membership:
    """Literals of "this detection is one of these candidates"."""

    def __init__(self, cnf: Cnf, candidates: Sequence[Sequence[str]]) -> None:
        self.cnf = cnf
        self.labels: list[list[int]] = []
        self.gone: list[int] = []
        self._known: dict[tuple[int, int], int] = {}
        for several in candidates:
            literals = [cnf.new() for _ in several]
            gone = cnf.new() if len(literals) > 1 else -literals[0]
            if len(literals) > 1:
                cnf.exactly_one([*literals, gone])
            self.labels.append(literals)
            self.gone.append(gone)

    def of(self, detection: int, mask: int) -> int:
        """The literal for a bit mask of candidates."""
        key = (detection, mask)
        literal = self._known.get(key)
        if literal is None:
            labels = self.labels[detection]
            if mask == (1 << len(labels)) - 1:
                literal = -self.gone[detection]
            else:
                literal = self.cnf.any_of(label for k, label in enumerate(labels) if mask >> k & 1)
            self._known[key] = literal
        return literal


def holds(comparison: Comparison, values: Mapping[Any, Floats], rows: int) -> NDArray[np.bool_]:
    """A comparison on arrays of values; false where its arithmetic has no finite result."""
    with np.errstate(all="ignore"):
        left, right = (_number(side, values, rows) for side in (comparison.left, comparison.right))
    compare = _COMPARE[comparison.operator]
    found: NDArray[np.bool_] = np.isfinite(left) & np.isfinite(right) & compare(left, right)
    return found


def _number(operand: Operand, values: Mapping[Any, Floats], rows: int) -> Floats:
    if isinstance(operand, Expression):
        inner = [_number(o, values, rows) for o in operand.operands]
        result: Floats = _OPERATIONS[operand.operator, len(inner)](*inner)
        return np.where(np.logical_and.reduce([np.isfinite(i) for i in inner]), result, np.nan)
    if operand in values:
        return values[operand]
    value = operand.value if isinstance(operand, Term) and not operand.is_variable else None
    return np.full(rows, float(value) if isinstance(value, int | float) else np.nan)


_COMPARE: Final = {
    "<": np.less,
    "=<": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "=:=": np.equal,
    r"=\=": np.not_equal,
    r"\=": np.not_equal,
}
_OPERATIONS: Final[dict[tuple[str, int], Any]] = {
    ("+", 2): np.add,
    ("-", 2): np.subtract,
    ("-", 1): np.negative,
    ("*", 2): np.multiply,
    ("/", 2): np.divide,
    ("abs", 1): np.abs,
    ("min", 2): np.minimum,
    ("max", 2): np.maximum,
}
