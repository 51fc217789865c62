"""The ground theory of one image: clauses over what its detections are, where they lie, and which weighted rules are in force.

The random variables, all independent of one another (the assumption of the semantic loss, and its limit: arXiv 2507.11357):

- of each detection its leaf class, background among them: one categorical variable with the detector's probabilities (where
  classes may overlap, one variable a class);
- of each spatial word of two detections its truth, with its soft truth as probability. Words that say the same share a
  variable (`right_of(a, b)` is `left_of(b, a)`, `near` is symmetric), words that say the opposite share it negated
  (`left_of(b, a)` is not `left_of(a, b)`); which words do is read off their margins;
- of each place of a detection, and of each comparison of measurements, its truth likewise;
- of each grounding of a rule of confidence w < 1 whether it is in force, with probability w.

A grounding b₁(x), b₂(y), g(x, y) → h is the clause x ∉ b₁ ∨ y ∉ b₂ ∨ ¬g ∨ h ∨ "not in force"; several heads are several
clauses; what an existential rule asks for and what a rule counts is a literal over conjunctions (`Several`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeAlias

import numpy as np

from neurosym.constraints.geometry import PLACES, TRUE, WORDS
from neurosym.constraints.shapes import FALSE_LITERAL, TRUE_LITERAL
from neurosym.constraints.truth import ImageTruth
from neurosym.knowledge.geometry import PREDICATES


class IsOf(NamedTuple):
    """The detection is of one of the leaf classes."""

    detection: int
    leaves: frozenset[int]


class Holds(NamedTuple):
    """A truth of the image: object literal `number` of detection `first`, or pair literal `number` of two detections."""

    number: int
    first: int
    second: int = -1


class Several(NamedTuple):
    """The number of `items` (conjunctions) that hold is a k with `allowed[k]`."""

    items: tuple[tuple[Literal, ...], ...]
    allowed: tuple[bool, ...]


Atom: TypeAlias = IsOf | Holds | Several
Literal: TypeAlias = tuple[Atom, bool]
"""An atom, or (False) its negation."""
Source: TypeAlias = tuple[bool, int, int, int]
"""A grounding: whether of a pair rule, the row of its group, the detections (−1: none)."""


@dataclass(frozen=True)
class GroundClause:
    """One of the literals holds, or the grounding is not in force; `force` is its number, −1 for a hard rule."""

    rule: int
    literals: tuple[Literal, ...]
    force: int
    source: Source

    def atoms(self) -> Iterator[IsOf | Holds]:
        """Each atom that is a random variable, as often as it occurs."""
        yield from _atoms(self.literals)


def _atoms(literals: Iterable[Literal]) -> Iterator[IsOf | Holds]:
    for atom, _ in literals:
        if isinstance(atom, Several):
            for item in atom.items:
                yield from _atoms(item)
        else:
            yield atom


@cache
def _said_by() -> tuple[tuple[int, bool, bool], ...]:
    """For each word (base, swapped, negated): word(a, b) is base(b, a) if swapped, and that is false if negated.

    Read off the margins of fixed pairs of boxes: two words mean the same iff their margins do.
    """
    corners = np.random.default_rng(0).uniform(1, 100, (2, 64, 4))
    a, b = np.concatenate([corners[..., :2], corners[..., :2] + corners[..., 2:]], -1)
    margins = [(m(a, b, np), m(b, a, np)) for m in PREDICATES.values()]
    found = []
    for word, (mine, _) in enumerate(margins):
        ways = [
            (base, swapped, negated)
            for base in range(word)
            for swapped in (False, True)
            for negated in (False, True)
            if np.allclose(mine, -margins[base][swapped] if negated else margins[base][swapped])
        ]
        found.append(ways[0] if ways else (word, False, False))
    return tuple(found)


@cache
def _symmetry() -> tuple[int, ...]:
    """1 for a symmetric word, −1 for one that holds of (b, a) iff it does not of (a, b), else 0."""
    corners = np.random.default_rng(1).uniform(1, 100, (2, 64, 4))
    a, b = np.concatenate([corners[..., :2], corners[..., :2] + corners[..., 2:]], -1)
    margins = [(m(a, b, np), m(b, a, np)) for m in PREDICATES.values()]
    return tuple(int(np.allclose(one, two)) - int(np.allclose(one, -two)) for one, two in margins)


def word_literal(word: int, first: int, second: int) -> tuple[Holds, bool]:
    """The variable behind word `word` of (first, second), the same for every way to say it."""
    if word >= len(WORDS):
        word, first, second = word - len(WORDS), second, first
    base, swapped, negated = _said_by()[word]
    if swapped:
        first, second = second, first
    if first > second and _symmetry()[base]:
        first, second = second, first
        negated ^= _symmetry()[base] < 0
    return Holds(base, first, second), not negated


@dataclass(frozen=True)
class GroundTheory:
    """The clauses, and for each geometric variable the computed truth it is read from, with whether that says the same."""

    clauses: list[GroundClause]
    read_from: dict[Holds, tuple[Holds, bool]]


def ground_theory(truth: ImageTruth, silent: Sequence[bool], threshold: float, negligible: float) -> GroundTheory:
    """The clauses of all groundings whose premise exceeds `threshold`.

    Left out as well is a grounding that is broken with a probability of at most `negligible`, and a witness at most as likely.
    A soft truth that is exactly 0 or 1 is a constant. Of a `silent` rule nothing is said.
    """
    grounder = _Grounder(truth, silent, threshold, negligible)
    grounder.unary()
    grounder.pairs()
    return GroundTheory(list(grounder.clauses.values()), grounder.read_from)


class _Grounder:
    """Reads the compiled rules back into clauses, where they can matter."""

    def __init__(self, truth: ImageTruth, silent: Sequence[bool], threshold: float, negligible: float) -> None:
        self.set, self.silent, self.threshold, self.negligible = truth.constraints, silent, threshold, negligible
        self.count = truth.count
        self.early, self.literals, self.columns, self.words = (
            x.detach().cpu().double().numpy() for x in (truth.early, truth.literals, truth.columns, truth.pairs)
        )
        self.confidence = self.set.confidence.tolist()
        self.parts = [[k for k in row if k != TRUE_LITERAL] for row in self.set.columns.tolist()]
        table = self.set.literals
        self.leaves = [frozenset(np.flatnonzero(c).tolist()) for c in table.classes.T.cpu().numpy() > 0.5]
        self.given = table.given.tolist()
        self.places = table.places.tolist()
        self.negated_words = self.set.pair_literals.negated.tolist()
        self.known: dict[tuple[int, int], bool | Literal] = {}
        self.read_from: dict[Holds, tuple[Holds, bool]] = {}
        self.clauses: dict[object, GroundClause] = {}
        self.forces = 0

    # --- literals -------------------------------------------------------------------------------------------------

    def object_literal(self, index: int, n: int) -> bool | Literal:
        """Literal `index` of detection n, or whether it holds for certain."""
        if (index, n) not in self.known:
            self.known[index, n] = self._object_literal(index, n)
        return self.known[index, n]

    def _object_literal(self, index: int, n: int) -> bool | Literal:
        if index in (TRUE_LITERAL, FALSE_LITERAL):
            return index == TRUE_LITERAL
        table, k = self.set.literals, index - 2
        if k < len(self.leaves):
            return IsOf(n, self.leaves[k]), k < len(self.leaves) - table.negated_classes
        k -= len(self.leaves)
        if k < len(self.given):
            return IsOf(n, self.leaves[self.given[k][0]]), True
        if index < table.early:
            k -= len(self.given)
            same = index
            if k < len(self.places):
                place = self.places[k] % len(PLACES)
                same = index - k + next(i for i, p in enumerate(self.places) if p % len(PLACES) == place)
            if self.early[n, index] in (0.0, 1.0):
                return bool(self.early[n, index])
            opposite = same != index and self.places[k] != self.places[k - (index - same)]
            return Holds(same, n), not opposite
        k = index - table.early
        total = len(table.witnesses.column)
        if k < 2 * total:
            items = self.items(table.witnesses, k % total, n)
            return self.several(items, [j > 0 for j in range(len(items) + 1)], k < total)
        items = self.items(table.counts, k - 2 * total, n)
        weights, offset = table.counts.weights[k - 2 * total].tolist(), float(table.counts.offset[k - 2 * total])
        allowed = [offset + (weights[j] if j < len(weights) else 0.0) > 0.5 for j in range(len(items) + 1)]
        return self.several(items, allowed, True)

    def items(self, table: object, row: int, n: int) -> list[tuple[Literal, ...]]:
        """For each detection that may be meant, what must hold of it."""
        words: list[int] = [w for w in table.words[row].tolist() if w != TRUE]  # type: ignore[attr-defined]
        column, reflexive = int(table.column[row]), bool(table.reflexive[row])  # type: ignore[attr-defined]
        chance = self.columns[:, column] * np.prod([self.words[w][n] for w in words], axis=0)
        found = []
        for m in np.flatnonzero(chance > self.negligible).tolist():
            if m != n or reflexive:
                item = self.conjunction([*self.column(column, m), *(self.pair_literal(w, n, m) for w in words)])
                if item is not None:
                    found.append(item)
        return found

    @staticmethod
    def several(items: list[tuple[Literal, ...]], allowed: Sequence[bool], positive: bool) -> bool | Literal:
        """Items that hold for certain are counted at once."""
        certain = sum(not item for item in items)
        left = tuple(item for item in items if item)
        allowed = tuple(allowed[certain : certain + len(left) + 1])
        if len(set(allowed)) == 1:
            return allowed[0] == positive
        return Several(left, allowed), positive

    def column(self, column: int, n: int) -> list[bool | Literal]:
        return [self.object_literal(k, n) for k in self.parts[column]]

    def pair_literal(self, index: int, n: int, m: int) -> bool | Literal:
        value = self.words[index][n, m]
        if index == TRUE or value in (0.0, 1.0):
            return bool(value)
        atom, positive = Holds(index, n, m), True
        if index < TRUE:
            atom, positive = word_literal(index, n, m)
        elif index - TRUE - 1 < len(self.negated_words):
            atom, opposite = word_literal(self.negated_words[index - TRUE - 1], n, m)
            positive = not opposite
        # words that no rule names are not computed, so the truth is read where it is named
        self.read_from.setdefault(atom, (Holds(index, n, m), positive))
        return atom, positive

    @staticmethod
    def conjunction(parts: Iterable[bool | Literal]) -> tuple[Literal, ...] | None:
        """The parts that are not certain; None if one is certainly false."""
        found: dict[Literal, None] = {}
        for part in parts:
            if part is False:
                return None
            if part is not True:
                found[part] = None
        return tuple(found)

    # --- rules ----------------------------------------------------------------------------------------------------

    def unary(self) -> None:
        group = self.set.unary
        columns = (group.rule, group.first, group.head, group.denied, group.of_image)
        for row, (rule, first, head, denied, of_image) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            premise, holds = self.columns[:, first], self.columns[:, head]
            for n in self.matter(rule, premise, holds, denied)[:, 0].tolist()[: 1 if of_image else None]:
                self.add(rule, self.column(first, n), self.column(head, n), denied, (False, row, n, -1))

    def pairs(self) -> None:
        group = self.set.pairs
        columns = (group.rule, group.first, group.second, group.body, group.head, group.denied)
        more = (group.head_first, group.head_second)
        for row, (rule, x, y, body, head, denied, of_x, of_y) in enumerate(
            zip(*(c.tolist() for c in (*columns, *more)), strict=True)
        ):
            firsts = np.flatnonzero(self.columns[:, x] > self.threshold)
            seconds = np.flatnonzero(self.columns[:, y] > self.threshold)
            place = np.ix_(firsts, seconds)
            premise = self.columns[firsts, x][:, None] * self.columns[seconds, y] * (firsts[:, None] != seconds)
            premise = premise * np.prod([self.words[w][place] for w in body], axis=0)
            holds = self.columns[firsts, of_x][:, None] * self.columns[seconds, of_y]
            holds = holds * np.prod([self.words[w][place] for w in head], axis=0)
            for i, j in self.matter(rule, premise, holds, denied).tolist():
                n, m = int(firsts[i]), int(seconds[j])
                tests = [*self.column(x, n), *self.column(y, m), *(self.pair_literal(w, n, m) for w in body)]
                heads = [*self.column(of_x, n), *self.column(of_y, m), *(self.pair_literal(w, n, m) for w in head)]
                self.add(rule, tests, heads, denied, (True, row, n, m))

    def matter(self, rule: int, premise: np.ndarray, holds: np.ndarray, denied: bool) -> np.ndarray:
        """Where a grounding fires, and may be broken."""
        broken = self.confidence[rule] * premise * (holds if denied else 1.0 - holds)
        return np.argwhere((premise > self.threshold) & (broken > self.negligible) & (not self.silent[rule]))

    def add(
        self,
        rule: int,
        body: Sequence[bool | Literal],
        heads: Sequence[bool | Literal],
        denied: bool,
        source: Source,
    ) -> None:
        """The clauses of one grounding, without those that a constant makes true."""
        tests = self.conjunction([*body, *heads] if denied else body)
        if tests is None:
            return
        rest: list[bool | Literal] = [False] if denied else [h for h in heads if h is not True]
        force = -1
        if rest and self.confidence[rule] < 1.0:
            force = self.forces = self.forces + 1
        for head in dict.fromkeys(rest):
            literals = dict.fromkeys((*((atom, not positive) for atom, positive in tests), *((head,) if head else ())))
            clause = GroundClause(rule, tuple(literals), force, source)
            self.clauses.setdefault((frozenset(literals), force), clause)


def components(clauses: Sequence[GroundClause]) -> list[list[GroundClause]]:
    """Groups of clauses that share no variable with another group, in the order of their first clause."""
    parent: dict[object, object] = {}

    def root(x: object) -> object:
        parent.setdefault(x, x)
        while parent[x] != x:
            parent[x] = x = parent[parent[x]]
        return x

    for number, clause in enumerate(clauses):
        variables: list[object] = [a.detection if isinstance(a, IsOf) else a for a in clause.atoms()]
        if clause.force >= 0:
            variables.append(("force", clause.force))
        for variable in variables:
            parent[root(variable)] = root(("clause", number))
    groups: defaultdict[object, list[GroundClause]] = defaultdict(list)
    for number, clause in enumerate(clauses):
        groups[root(("clause", number))].append(clause)
    return list(groups.values())


def occurrences(clauses: Sequence[GroundClause]) -> Counter[Holds | int]:
    """In how many places each truth and each "in force" (by its number) occurs."""
    return Counter([a for c in clauses for a in c.atoms() if isinstance(a, Holds)] + [c.force for c in clauses])
