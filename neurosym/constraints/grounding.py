"""Sparse grounding: the choices of objects that a rule fires for, and nothing else.

Of 5,000 rules over 300 detections there are 450 million choices of two objects, and a detector that is sure of itself makes a
few thousand of them true. A conjunction is no truer than any of its parts, so a choice whose premise exceeds τ has every
column above τ:

1. the columns of early literals bound those of all literals from above, and give each column the objects it may hold of;
2. witnesses and counts are computed for the objects that they are asked of, from the objects that they may be about;
3. a rule's choices are the products of its two columns' objects, enumerated from running totals without ever forming the
   rule × object × object tensor; the spatial words are computed for those that are left.

What is dropped has a premise ≤ τ, or is a witness or counted object whose own truth is ≤ τ; for τ → 0 the sums are those of the
dense form. Grounding by the images of a body's relations is what databases do (semi-joins); doing it on truths, keeping the
gradient, is ours.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurosym.constraints.counting import count_distribution
from neurosym.constraints.geometry import TRUE, WORDS
from neurosym.constraints.numeric import margin
from neurosym.constraints.semantics import semantics_of
from neurosym.constraints.shapes import ConstraintSet, PairGroup
from neurosym.constraints.truth import ImageTruth, Size, columns_of, image_truth, join
from neurosym.knowledge.geometry import PREDICATES


@dataclass(frozen=True)
class Groundings:
    """The choices of objects for which rules fire: rule number, object indices, truth of body and head with gradients.

    `second` is -1 where a rule has no second object; for an existential rule it is the best witness, -1 if there is none. A
    rule about the whole image has -1 for `first`, too. A denial's head is true as far as what it denies is false.
    """

    rule: Int[Tensor, " grounding"]
    first: Int[Tensor, " grounding"]
    second: Int[Tensor, " grounding"]
    premise: Float[Tensor, " grounding"]
    head: Float[Tensor, " grounding"]

    def __len__(self) -> int:
        return len(self.rule)


def ground(
    constraints: ConstraintSet,
    probabilities: Float[Tensor, "object leaf"],
    boxes: Float[Tensor, "box 4"],
    *,
    size: Size | None = None,
    masks: Float[Tensor, "mask height width"] | None = None,
    temperature: float = 0.1,
    threshold: float = 0.05,
    semantics: str = "product",
) -> Groundings:
    """Every choice of objects whose premise is truer than the threshold; the arguments are those of `loss.violation`.

    Rules that need the size of an image that has none are left out.

    Raises:
        ConstraintError: unknown semantics, a wrong number of classes, boxes or masks, or a value that is not finite.
    """
    truth = image_truth(constraints, probabilities, boxes, size, masks, temperature, semantics_of(semantics).norm)
    found = ground_truth(truth, threshold)
    if size is None and bool(constraints.needs_size.any()):
        return _chosen(found, ~constraints.needs_size[found.rule])
    return found


def ground_truth(truth: ImageTruth, threshold: float) -> Groundings:
    """The groundings of an image whose truths are at hand (lazily: only what is needed is computed)."""
    return split_truth(truth, threshold, False)[0]


@dataclass(frozen=True)
class WholeRows:
    """The rows of pair rules that fire for every two of the objects that their columns may hold of.

    `columns` are the truths of bodies, 0 where they are no truer than the threshold: a row's groundings, whose premises are
    all truer than it, then add up to what the dense form gives.
    """

    row: Int[Tensor, " row"]
    columns: Float[Tensor, "box column"]


def split_truth(truth: ImageTruth, threshold: float, whole: bool = True) -> tuple[Groundings, WholeRows | None]:
    """The groundings of an image but for those of rows that fire as a whole, and these rows, where that is cheaper."""
    if truth.count == 0:
        none = torch.zeros(0, dtype=torch.long, device=truth.boxes.device)
        empty = truth.probabilities.new_zeros(0)
        return Groundings(none, none, none, empty, empty), None
    scene = _Sparse(truth, threshold)
    rows = scene.whole_rows() if whole else None
    parts = [scene.unary(), scene.pairs(None if rows is None else rows.row)]
    parts = [p for p in parts if len(p)] or parts[:1]
    found = Groundings(*(torch.cat([getattr(p, f) for p in parts]) for f in Groundings.__dataclass_fields__))
    return found, rows


def _chosen(found: Groundings, keep: Tensor) -> Groundings:
    return Groundings(*(getattr(found, f)[keep] for f in Groundings.__dataclass_fields__))


@dataclass(frozen=True)
class _Members:
    """For each column the objects it may hold of, all in one list: column c has `size[c]` of them from `start[c]` on."""

    box: Int[Tensor, " member"]
    start: Int[Tensor, " column"]
    size: Int[Tensor, " column"]

    @staticmethod
    def of(active: Bool[Tensor, "box column"]) -> _Members:
        size = active.sum(0)
        return _Members(active.T.nonzero()[:, 1], size.cumsum(0) - size, size)


def _products(
    members: _Members, first: Int[Tensor, " row"], second: Int[Tensor, " row"]
) -> tuple[Int[Tensor, " choice"], Int[Tensor, " choice"], Int[Tensor, " choice"]]:
    """For every row all choices of an object of one column and an object of another: (row, object, object)."""
    inner = members.size[second]
    row, offset = _ranges(members.size[first] * inner)
    width = pick(inner, row)
    outer = torch.div(offset, width, rounding_mode="floor")
    n = pick(members.box, pick(members.start[first], row) + outer)
    m = pick(members.box, pick(members.start[second], row) + offset - outer * width)
    return row, n, m


def _ranges(sizes: Int[Tensor, " row"]) -> tuple[Int[Tensor, " entry"], Int[Tensor, " entry"]]:
    """Rows repeated as often as their sizes say, and the running number of each entry within its row."""
    row = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
    return row, torch.arange(len(row), device=sizes.device) - pick(sizes.cumsum(0) - sizes, row)


def pick(vector: Tensor, index: Tensor) -> Tensor:
    """``vector[index]``: the same values and gradients, several times faster."""
    return vector.index_select(0, index)


def take(table: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """``table[row, column]``, likewise."""
    return table.reshape(-1).index_select(0, row * table.shape[1] + column)


_CHOICE = 10
"""How many entries of the table of all pairs are as much work as one grounding."""


class _Sparse:
    """One image's truths where they matter."""

    def __init__(self, truth: ImageTruth, threshold: float) -> None:
        self.truth, self.threshold = truth, threshold
        self.constraints, self.norm = truth.constraints, truth.norm
        self.words = _PairTruth(truth)
        self.some = len(self.constraints.literals.witnesses.column)
        self.first_late = truth.early.shape[1]
        self.bodies = columns_of(self.constraints, truth.early, self.norm, self.constraints.bodies)
        self.members = _Members.of(self.bodies.detach() > threshold)
        self.late = truth.early.new_zeros(0)
        late = self.some + len(self.constraints.literals.counts.column)
        self.slot = torch.full((truth.count, late), -1, device=truth.boxes.device)
        self.best = torch.zeros(0, dtype=torch.long, device=truth.boxes.device)
        if late:
            self._find_late()

    def _find_late(self) -> None:
        """Witnesses and counts for the objects that a gate asks them of; then the bodies that depend on them."""
        n, literal = self._requests()
        is_count = literal >= self.some
        order = torch.cat([(~is_count).nonzero()[:, 0], is_count.nonzero()[:, 0]])
        n, literal, some = n[order], literal[order], len(n) - int(is_count.sum())
        self.slot[n, literal] = torch.arange(len(n), device=n.device)
        if some:
            self.late = self._witnesses(n[:some], literal[:some])
            self._refine()
        if some < len(n):
            self.late = torch.cat([self.late, self._counts(n[some:], literal[some:] - self.some)])
            self._refine()

    def _requests(self) -> tuple[Tensor, Tensor]:
        """Objects and late literals, each pair once."""
        gates = self.constraints.gates
        gate, offset = _ranges(self.members.size[gates.column])
        n = pick(self.members.box, pick(self.members.start[gates.column], gate) + offset)
        literal = pick(gates.late, gate)
        number = torch.arange(len(n), device=n.device)
        self.slot[n, literal] = number
        once = self.slot[n, literal] == number
        return (n, literal) if bool(once.all()) else (n[once], literal[once])

    def _refine(self) -> None:
        """Bodies with late literals were bounds so far."""
        late = (self.constraints.columns[: self.constraints.bodies] >= self.first_late).any(1)
        if not bool(late.any()):
            return
        active = (self.bodies.detach() > self.threshold) & late
        n, column = active.nonzero().unbind(1)
        self.bodies = self.bodies.index_put((n, column), self.at(column, n))
        self.members = _Members.of(self.bodies.detach() > self.threshold)

    def at(self, column: Int[Tensor, " point"], n: Int[Tensor, " point"]) -> Float[Tensor, " point"]:
        """Columns of chosen objects, whatever their literals; late ones that are not known yet hold."""
        literals = pick(self.constraints.columns, column)
        is_late = literals >= self.first_late
        early = torch.where(is_late, 0, literals)
        width = literals.shape[1]
        truth = take(self.truth.early, n.repeat_interleave(width), early.reshape(-1))
        point = is_late.reshape(-1).nonzero()[:, 0]
        if len(point):
            number = pick(literals.reshape(-1), point) - self.first_late
            negated = (number >= self.some) & (number < 2 * self.some)
            owner = pick(n, torch.div(point, width, rounding_mode="floor"))
            slot = take(self.slot, owner, torch.where(number >= self.some, number - self.some, number))
            known = ((slot >= 0) & (slot < len(self.late))).nonzero()[:, 0]
            value = pick(self.late, pick(slot, known))
            value = torch.where(pick(negated, known), 1.0 - value, value)
            truth = truth.index_put((pick(point, known),), value)
        return join(self.norm, truth.reshape(-1, width), 1)

    def _related(self, table: Any, n: Tensor, literal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For each request the objects m it may be about and their truths, as a flat list."""
        column = table.column[literal]
        request, offset = _ranges(self.members.size[column])
        m = pick(self.members.box, pick(self.members.start[column], request) + offset)
        keep = ((pick(n, request) != m) | pick(table.reflexive[literal], request)).nonzero()[:, 0]
        request, m = pick(request, keep), pick(m, keep)
        words = self.words.all(pick(table.words, pick(literal, request)), pick(n, request), m)
        truth = self.norm.two(words, take(self.bodies, m, pick(column, request)))
        return request, m, truth

    def _witnesses(self, n: Tensor, literal: Tensor) -> Tensor:
        request, m, truth = self._related(self.constraints.literals.witnesses, n, literal)
        best = truth.new_zeros(len(n)).scatter_reduce(0, request, truth, "amax")
        self.best = torch.full_like(n, -1)
        wins = (truth == best[request]) & (truth > 0)
        self.best[request[wins]] = m[wins]
        return best

    def _counts(self, n: Tensor, literal: Tensor) -> Tensor:
        table = self.constraints.literals.counts
        request, _, truth = self._related(table, n, literal)
        sizes = torch.bincount(request, minlength=len(n))
        place = torch.arange(len(request), device=n.device) - (sizes.cumsum(0) - sizes)[request]
        chances = truth.new_zeros(len(n), int(sizes.max())).index_put((request, place), truth)
        numbers = table.weights.shape[1]
        distribution = count_distribution(chances, max(0, numbers - 1))[:, :numbers]
        offset, weights = table.offset.to(truth.dtype), table.weights.to(truth.dtype)
        return offset[literal] + (distribution * weights[literal]).sum(1)

    def unary(self) -> Groundings:
        """Rules about one object, or about the image."""
        group = self.constraints.unary
        row, offset = _ranges(self.members.size[group.first])
        n = pick(self.members.box, pick(self.members.start[group.first], row) + offset)
        if bool(group.of_image.any()):
            keep = (~group.of_image[row] | (n == 0)).nonzero()[:, 0]
            row, n = row[keep], n[keep]
        head = self.at(pick(group.head, row), n)
        head = torch.where(pick(group.denied, row), 1.0 - head, head)
        second = torch.full_like(n, -1)
        if len(self.best):
            asked = pick(group.witness, row)
            slot = take(self.slot, n, asked.clamp_min(0))
            second = torch.where((asked >= 0) & (slot >= 0), self.best[slot.clamp(0, len(self.best) - 1)], second)
        first = torch.where(pick(group.of_image, row), -1, n)
        return Groundings(pick(group.rule, row), first, second, take(self.bodies, n, pick(group.first, row)), head)

    def whole_rows(self) -> WholeRows | None:
        """The rows without body words of which the least premise is above the threshold, if they have enough groundings.

        None where a column depends on other objects, or where the pairs of all objects would be more work.
        """
        group, facts = self.constraints.pairs, self.constraints.facts
        if facts.late or not len(group.rule):
            return None
        bodies = self.bodies.detach()
        active = bodies > self.threshold
        least = torch.where(active, bodies, 1.0).amin(0)
        premise = self.norm.two(pick(least, group.first), pick(least, group.second))
        row = ((premise > self.threshold) & facts.wordless).nonzero()[:, 0]
        size = self.members.size
        choices = int((pick(size, pick(group.first, row)) * pick(size, pick(group.second, row))).sum())
        words = len(self.constraints.pair_literals.words) + 1
        if _CHOICE * choices < words * self.truth.count**2:
            return None
        return WholeRows(row, self.bodies * active)

    def pairs(self, without: Tensor | None = None) -> Groundings:
        """Rules about two objects, without some rows."""
        group, bodies = self.constraints.pairs, self.bodies
        if without is not None:
            left = torch.ones_like(group.rule, dtype=torch.bool)
            left[without] = False
            group = PairGroup(*(getattr(group, f.name)[left] for f in fields(group)))
        if not len(group.rule):
            none, empty = group.rule, bodies.new_zeros(0)
            return Groundings(none, none, none, empty, empty)
        row, n, m = _products(self.members, group.first, group.second)
        premise = self.norm.two(take(bodies, n, pick(group.first, row)), take(bodies, m, pick(group.second, row)))
        keep = ((premise.detach() > self.threshold) & (n != m)).nonzero()[:, 0]
        row, n, m, premise = (pick(v, keep) for v in (row, n, m, premise))
        if bool((group.body != TRUE).any()):
            premise = self.norm.two(premise, self.words.all(pick(group.body, row), n, m))
            keep = (premise.detach() > self.threshold).nonzero()[:, 0]
            row, n, m, premise = (pick(v, keep) for v in (row, n, m, premise))
        head = self.words.all(pick(group.head, row), n, m)
        for column, box in ((group.head_first, n), (group.head_second, m)):
            if bool(column.any()):
                head = self.norm.two(head, self.at(pick(column, row), box))
        head = torch.where(pick(group.denied, row), 1.0 - head, head)
        return Groundings(pick(group.rule, row), n, m, premise, head)


class _PairTruth:
    """Literals of chosen pairs: from the table of all pairs if there is one or most of it is asked for; else one by one."""

    def __init__(self, truth: ImageTruth) -> None:
        self.truth = truth
        literals = truth.constraints.pair_literals
        plain, total = TRUE + 1, TRUE + 1 + len(literals.negated)
        device = truth.boxes.device
        self.word = torch.arange(total, device=device)
        self.word[plain:] = literals.negated
        self.negated = torch.arange(total, device=device) >= plain
        self.total = total

    def all(
        self, literals: Int[Tensor, "choice literal"], n: Int[Tensor, " choice"], m: Int[Tensor, " choice"]
    ) -> Float[Tensor, " choice"]:
        """The conjunction of each choice's literals."""
        size = literals.numel()
        like = self.truth.probabilities
        if size == 0 or bool((literals == TRUE).all()):
            return torch.ones(len(n), dtype=like.dtype, device=like.device)
        if "rows" in vars(self.truth) or self.truth.masks is not None or size > self._table_size():
            row = self.truth.constraints.pair_literals.row[literals]
            found = self.truth.rows[row, n[:, None], m[:, None]]
            return join(self.truth.norm, torch.where(literals == TRUE, torch.ones_like(found), found), 1)
        width = literals.shape[1]
        found = self._each(literals.reshape(-1), n.repeat_interleave(width), m.repeat_interleave(width))
        return join(self.truth.norm, found.reshape(-1, width), 1)

    def _table_size(self) -> int:
        """How many literals, looked up one by one, are as much work as the table of all pairs."""
        return len(self.truth.constraints.pair_literals.words) * self.truth.count**2 // 4

    def _each(self, literal: Tensor, n: Tensor, m: Tensor) -> Tensor:
        truth = self.truth
        comparison = literal >= self.total
        word = pick(self.word, literal.clamp_max(self.total - 1))
        swapped = (word >= len(WORDS)) & (word != TRUE)
        first, second = torch.where(swapped, m, n), torch.where(swapped, n, m)
        base = torch.where(comparison | (word == TRUE), -1, torch.where(swapped, word - len(WORDS), word))
        places, values = [], []
        for w in truth.constraints.pair_literals.words:
            at = (base == w).nonzero()[:, 0]
            if len(at):
                a, b = (pick(truth.boxes, pick(box, at)) for box in (first, second))
                places.append(at)
                values.append(torch.sigmoid(PREDICATES[WORDS[w]](a, b, torch) / truth.temperature))
        found = torch.ones(len(literal), dtype=truth.boxes.dtype, device=truth.boxes.device)
        if places:
            found = found.index_put((torch.cat(places),), torch.cat(values))
        if len(truth.constraints.pair_literals.negated):
            negated = pick(self.negated, literal.clamp_max(self.total - 1)) & ~comparison
            found = torch.where(negated, 1.0 - found, found)
        found = found.to(truth.probabilities.dtype)
        return self._compared(literal, n, m, found) if bool(comparison.any()) else found

    def _compared(self, literal: Tensor, n: Tensor, m: Tensor, found: Tensor) -> Tensor:
        start = self.total
        for group in self.truth.constraints.pair_literals.inequalities:
            stop = start + len(group.strict)
            at = ((literal >= start) & (literal < stop)).nonzero()[:, 0]
            which, sides = literal[at] - start, (n[at], m[at])
            numbers = group.numbers.to(found.dtype)

            def leaf(slot: int, who: int, group: Any = group, which: Tensor = which, sides: Any = sides) -> Tensor:
                return self.truth.measures[group.leaves[which, slot], sides[who]]

            def number(slot: int, numbers: Tensor = numbers, which: Tensor = which) -> Tensor:
                return numbers[which, slot]

            truth = torch.sigmoid(margin(group.form, leaf, number, torch) / self.truth.temperature)
            found = found.index_put((at,), truth)
            start = stop
        return found
