"""The compiled form of a rule set: index tensors, one row a rule, grouped by shape.

Everything is built from three layers, each of which names the entries of the one below by their index:

    literals   one number per object: a class (a sum of leaf probabilities), a place, a comparison of measurements,
               a witness (the best other object with given words and classes), a count of such objects
    columns    conjunctions of literals: what a rule says of one of its variables
    rows       of a rule: body and head columns of its variables, and the pair literals (spatial words, comparisons of
               two objects) between them

so that rules that say the same of an object share the number, and a thousand rules are a handful of tensor operations
(`neurosym.constraints.truth` computes the layers, `neurosym.constraints.loss` and `grounding` the rows).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurosym.constraints.geometry import TRUE
from neurosym.constraints.numeric import InequalityGroup
from neurosym.records import Rule

TRUE_LITERAL, FALSE_LITERAL = 0, 1
"""The first two literals hold always and never; column 0 is the empty conjunction, which holds always."""


@dataclass(frozen=True)
class Witnesses:
    """One row per literal "there is an object with `column` that the `words` relate this one to"; its negation follows it.

    A witness without words may be the object itself where `reflexive`; with words it never is.
    """

    words: Int[Tensor, "witness word"]
    column: Int[Tensor, " witness"]
    reflexive: Bool[Tensor, " witness"]


@dataclass(frozen=True)
class Counts:
    """One row per literal "the number of objects with `column` and `words` to this one is such".

    With P(k) the chance of exactly k of them the literal is ``offset + Σₖ weights[k] P(k)``.
    """

    words: Int[Tensor, "count word"]
    column: Int[Tensor, " count"]
    reflexive: Bool[Tensor, " count"]
    offset: Float[Tensor, " count"]
    weights: Float[Tensor, "count number"]


@dataclass(frozen=True)
class LiteralTable:
    """What the literals are, in the order of their indices.

    First true and false, then for each row of these tables one literal (for `witnesses` all, then all negated):

    - `classes`: which leaf classes add up to it (exclusive classes), or `members`: which leaves are joined by a probabilistic
      or (classes that may overlap), of which the last `negated_classes` are then taken from 1;
    - `given`: pairs of class literals, P(first) / P(second): a class in a head, given the body's class of the same object;
    - `places`: indices of places, negated from `len(PLACES)` on;
    - `inequalities`: comparisons of one object's measurements;
    - `witnesses`, `counts`.

    `frames` are the class literals "is a frame" (whatever its class), then each class of frames; empty if there are none.
    """

    classes: Float[Tensor, "leaf class"]
    members: Int[Tensor, "class member"]
    negated_classes: int
    exclusive: bool
    given: Int[Tensor, "given 2"]
    places: Int[Tensor, " place"]
    frames: Int[Tensor, " frame"]
    inequalities: tuple[InequalityGroup, ...]
    witnesses: Witnesses
    counts: Counts

    @property
    def early(self) -> int:
        """How many literals come before the witnesses: those that one object decides by itself."""
        numbers = sum(len(g.strict) for g in self.inequalities)
        return 2 + self.classes.shape[1] + len(self.given) + len(self.places) + numbers

    @property
    def total(self) -> int:
        """How many literals there are."""
        return self.early + 2 * len(self.witnesses.column) + len(self.counts.column)


@dataclass(frozen=True)
class PairLiterals:
    """What holds between two objects: words by their index (`TRUE` holds always), then negations, then comparisons.

    `words` are those that some rule speaks of, as indices into `WORDS`; only these are computed. `row` is where a literal lies
    in the table of computed ones: first "two objects", then the words of (X, Y), those of (Y, X) (`swapped`, by their place
    among `words`), negations, comparisons.
    """

    words: tuple[int, ...]
    swapped: tuple[int, ...]
    row: Int[Tensor, " literal"]
    negated: Int[Tensor, " negated"]
    inequalities: tuple[InequalityGroup, ...]


@dataclass(frozen=True)
class UnaryGroup:
    """Rules of one object: the body is column `first`, the head column `head`; of images (`of_image`): of no object.

    A `denied` head must not hold. `witness` is the witness literal (its row) that an existential head asks for, else -1.
    """

    rule: Int[Tensor, " rule"]
    first: Int[Tensor, " rule"]
    head: Int[Tensor, " rule"]
    denied: Bool[Tensor, " rule"]
    of_image: Bool[Tensor, " rule"]
    witness: Int[Tensor, " rule"]


@dataclass(frozen=True)
class PairGroup:
    """Rules of two distinct objects X and Y.

    `first` and `second` are the body's columns of X and Y, `head_first` and `head_second` the head's; `body` and `head` the
    pair literals, padded with `TRUE`. A `denied` head must not hold.
    """

    rule: Int[Tensor, " rule"]
    first: Int[Tensor, " rule"]
    second: Int[Tensor, " rule"]
    body: Int[Tensor, "rule body_word"]
    head: Int[Tensor, "rule head_word"]
    denied: Bool[Tensor, " rule"]
    head_first: Int[Tensor, " rule"]
    head_second: Int[Tensor, " rule"]


@dataclass(frozen=True)
class Blocks:
    """Rows that need the same pair matrix side by side, so that a block of them is one matrix product.

    `rows` are row numbers of a group (-1 fills a block up), `plus` the pair literals whose product the matrix is; `minus`
    those whose product is then taken from 1, where `is_minus`.
    """

    rows: Int[Tensor, "block row"]
    plus: Int[Tensor, "block word"]
    minus: Int[Tensor, "block lacking_word"]
    is_minus: Bool[Tensor, " block"]


@dataclass(frozen=True)
class Grid:
    """The pair rules by their matrices and their distinct columns, for sums over all pairs at once.

    With M a block's matrix, C₁ and C₂ the columns `first` and `second`, all sums tᵀ M t of the rules are entries of C₁ᵀ M C₂;
    `place` is where each rule's lies in the table "block first second". `plus`, `minus` and `is_minus` are those of `Blocks`;
    where each is 1 − (one `minus` literal), and these lie side by side among the computed ones, `span` is where.
    """

    first: Int[Tensor, " first"]
    second: Int[Tensor, " second"]
    place: Int[Tensor, " rule"]
    plus: Int[Tensor, "block word"]
    minus: Int[Tensor, "block lacking_word"]
    is_minus: Bool[Tensor, " block"]
    has_plus: bool
    has_minus: bool
    span: tuple[int, int] | None

    @staticmethod
    def of(
        blocks: Blocks, first: Int[Tensor, " rule"], second: Int[Tensor, " rule"], row: Int[Tensor, " literal"]
    ) -> Grid:
        """The grid of rules with these columns."""
        plus, minus = blocks.plus.tolist(), blocks.minus.tolist()
        number: dict[Any, int] = {}
        where: dict[int, int] = {}
        kept = []
        order = sorted(range(len(plus)), key=lambda b: (plus[b], minus[b]))
        for block in order:
            key = (*plus[block], -1, *minus[block], bool(blocks.is_minus[block]))
            if key not in number:
                number[key] = len(number)
                kept.append(block)
            where |= {row: number[key] for row in blocks.rows[block].tolist() if row >= 0}
        (left, i), (right, j) = (torch.unique(c, return_inverse=True) for c in (first, second))
        block_of = torch.tensor([where[r] for r in range(len(first))], dtype=torch.long, device=first.device)
        place = (block_of * len(left) + i) * len(right) + j
        rows = row[blocks.minus[kept]]
        start = int(rows[0, 0])
        has_plus = bool((blocks.plus[kept] != TRUE).any())
        dense = (
            not has_plus
            and bool(blocks.is_minus[kept].all())
            and rows.tolist() == [[start + i] for i in range(len(rows))]
        )
        return Grid(
            left,
            right,
            place,
            blocks.plus[kept],
            blocks.minus[kept],
            blocks.is_minus[kept],
            has_plus,
            bool(blocks.is_minus[kept].any()),
            (start, start + len(rows)) if dense else None,
        )


@dataclass(frozen=True)
class Facts:
    """What holds of a rule set once and for all, so that no step asks its tensors again."""

    needs_size: bool
    late: bool
    denied: bool
    of_image: bool
    unary_is_all: bool
    head_columns: bool
    fired: Grid | None
    broken: Grid | None
    wordless: Bool[Tensor, " rule"]


@dataclass(frozen=True)
class ExistentialGroup:
    """The unary rules whose head is one witness: column `first` asks for column `second`, `head` the words to it."""

    rule: Int[Tensor, " rule"]
    first: Int[Tensor, " rule"]
    second: Int[Tensor, " rule"]
    head: Int[Tensor, "rule head_word"]


@dataclass(frozen=True)
class Gates:
    """Which witness and count literals (`late`, from the first of them) are wanted where which column (`column`) holds."""

    column: Int[Tensor, " gate"]
    late: Int[Tensor, " gate"]


@dataclass(frozen=True)
class ConstraintSet:
    """The compiled rules over the detector's classes `names` (background is column 0 of its probabilities).

    `unused` tells for each rule that constrains nothing here, why. `closure` is the class part of each column: 1 for the leaf
    classes that belong to it. `ancestry[i, j]` is 1 where class i is a j. `bodies` columns come first: of bodies, witnesses and
    counted objects; the others are heads. `needs_size` marks rules of which nothing is said where the image's size is unknown;
    `zoned` are the classes of frames among `names`.
    """

    names: tuple[str, ...]
    rules: tuple[Rule, ...]
    unused: tuple[tuple[Rule, str], ...]
    closure: Float[Tensor, "leaf column"]
    ancestry: Float[Tensor, "leaf leaf"]
    confidence: Float[Tensor, " rule"]
    needs_size: Bool[Tensor, " rule"]
    literals: LiteralTable
    pair_literals: PairLiterals
    columns: Int[Tensor, "column literal"]
    bodies: int
    unary: UnaryGroup
    pairs: PairGroup
    fired_blocks: Blocks
    broken_blocks: Blocks
    gates: Gates
    zoned: frozenset[str] = frozenset()

    @property
    def exclusive(self) -> bool:
        """Whether a detection has exactly one leaf class."""
        return self.literals.exclusive

    @property
    def existentials(self) -> ExistentialGroup:
        """The rules ``h(X, Y), c(Y) :- b(X).`` by themselves."""
        rows = (self.unary.witness >= 0) & (self.columns[self.unary.head, 1:] == TRUE_LITERAL).all(1)
        chosen = self.unary.witness[rows]
        witnesses = self.literals.witnesses
        return ExistentialGroup(
            self.unary.rule[rows], self.unary.first[rows], witnesses.column[chosen], witnesses.words[chosen]
        )

    @cached_property
    def facts(self) -> Facts:
        """What holds of the set, computed once."""
        unary, pairs = self.unary, self.pairs
        some = len(pairs.rule) > 0
        return Facts(
            needs_size=bool(self.needs_size.any()),
            late=len(self.literals.witnesses.column) + len(self.literals.counts.column) > 0,
            denied=bool(unary.denied.any()),
            of_image=bool(unary.of_image.any()),
            unary_is_all=unary.rule.tolist() == list(range(len(self.rules))),
            head_columns=bool((pairs.head_first != 0).any() or (pairs.head_second != 0).any()),
            fired=Grid.of(self.fired_blocks, pairs.first, pairs.second, self.pair_literals.row) if some else None,
            broken=Grid.of(self.broken_blocks, pairs.first, pairs.second, self.pair_literals.row) if some else None,
            wordless=(pairs.body == TRUE).all(1) & (pairs.head_first == 0) & (pairs.head_second == 0),
        )

    @cached_property
    def wide(self) -> tuple[Int[Tensor, " wide"], Int[Tensor, "wide literal"]]:
        """The columns of more than one literal, and their literals."""
        wide = (self.columns[:, 1:] != TRUE_LITERAL).any(1).nonzero()[:, 0]
        return wide, self.columns[wide]

    def to(self, device: torch.device | str) -> ConstraintSet:
        """The same constraints with their tensors on a device."""
        return moved(self, device)


T = TypeVar("T")


def moved(value: T, device: torch.device | str) -> T:
    """A dataclass of tensors, tuples and other values with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)  # type: ignore[return-value]
    if isinstance(value, tuple) and value and is_dataclass(value[0]) and not isinstance(value[0], Rule):
        return tuple(moved(v, device) for v in value)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        changes: dict[str, Any] = {f.name: moved(getattr(value, f.name), device) for f in fields(value)}
        return replace(value, **changes)
    return value
