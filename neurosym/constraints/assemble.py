"""Shapes → tensors: every literal, column and pair literal is numbered once, rows that need the same matrix are put together.

The order of the literals is that of `neurosym.constraints.shapes.LiteralTable`: what one object decides by itself comes before
what depends on other objects, so that the truths are computed from left to right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from neurosym.constraints.geometry import PLACES, TRUE, WORDS
from neurosym.constraints.lexicon import Lexicon
from neurosym.constraints.numeric import Form, Inequality, InequalityGroup
from neurosym.constraints.shapes import (
    FALSE_LITERAL,
    TRUE_LITERAL,
    Blocks,
    ConstraintSet,
    Counts,
    Gates,
    LiteralTable,
    PairGroup,
    PairLiterals,
    UnaryGroup,
    Witnesses,
)
from neurosym.constraints.symbols import (
    NOTHING,
    ClassGiven,
    ClassIs,
    Column,
    CountIs,
    Literal,
    Never,
    PairLiteral,
    PlaceIs,
    Shape,
    WitnessIs,
    WordIs,
)
from neurosym.records import Rule

_Key = tuple[tuple[int, ...], tuple[int, ...]]
"""Pair literals that multiply to a matrix, and those whose product is then taken from 1."""


def assembled(
    lexicon: Lexicon, rules: Sequence[Rule], shapes: Sequence[Sequence[Shape]], unused: tuple[tuple[Rule, str], ...]
) -> ConstraintSet:
    """The constraint set of rules with their shapes."""
    rows = [(number, shape) for number, found in enumerate(shapes) for shape in found]
    book = _Book(lexicon, [shape for _, shape in rows])
    unary = [(n, s) for n, s in rows if s.objects < 2]
    pairs = [(n, s) for n, s in rows if s.objects == 2]
    pair_group = book.pairs(pairs)
    bodies: list[_Key] = [(book.between(s.between), ()) for _, s in pairs]
    broken = [_matrix(book.between(s.between), book.between(s.head_between), s.denied) for _, s in pairs]
    needs = [any(_needs_size(c) for s in found for c in _parts(s)) for found in shapes]
    return ConstraintSet(
        names=lexicon.names,
        rules=tuple(rules),
        unused=unused,
        closure=book.closure(),
        ancestry=_ancestry(lexicon),
        confidence=torch.tensor([1.0 if r.weight is None else r.weight for r in rules]),
        needs_size=torch.tensor(needs, dtype=torch.bool),
        literals=book.literals(),
        pair_literals=book.pair_literals(),
        columns=_padded([[book.index[p] for p in column] or [TRUE_LITERAL] for column in book.columns], TRUE_LITERAL),
        bodies=book.bodies,
        unary=book.unary(unary),
        pairs=pair_group,
        fired_blocks=_blocks(bodies),
        broken_blocks=_blocks(broken),
        gates=book.gates([s for _, s in rows]),
        zoned=frozenset(lexicon.names[i - 1] for i in lexicon.frames),
    )


def _ancestry(lexicon: Lexicon) -> Tensor:
    names, is_a = lexicon.names, lexicon.ontology.is_a
    rows = [[0.0, *(float(is_a(name, above)) for above in names)] for name in names]
    return torch.tensor([[1.0, *(0.0 for _ in names)], *rows])


def _parts(shape: Shape) -> tuple[Iterable[Literal | PairLiteral], ...]:
    return (*shape.body, shape.between, *shape.head, shape.head_between)


def _needs_size(parts: Iterable[Literal | PairLiteral]) -> bool:
    inner = (p.column for p in parts if isinstance(p, WitnessIs | CountIs))
    return any(isinstance(p, PlaceIs | Inequality) for p in parts) or any(map(_needs_size, inner))


def _matrix(body: tuple[int, ...], head: tuple[int, ...], denied: bool) -> _Key:
    """What is summed of a broken rule: body and head (denied), or body and not head (which never fails without words)."""
    return (tuple(sorted({*body, *head})), ()) if denied else (body, head or (TRUE,))


class _Book:
    """Numbers the literals, columns and pair literals of all shapes."""

    def __init__(self, lexicon: Lexicon, shapes: Sequence[Shape]) -> None:
        self.lexicon = lexicon
        bodies = list(dict.fromkeys((NOTHING, *(c for s in shapes for c in _bodies_of(s)))))
        self.bodies = len(bodies)
        self.columns: list[Column] = list(dict.fromkeys((*bodies, *(c for s in shapes for c in s.head))))
        self.column = {column: i for i, column in enumerate(self.columns)}
        found = list(dict.fromkeys(p for column in self.columns for p in _in_order(column)))
        each = (frozenset({i}) for i in sorted(lexicon.frames))
        frames = [ClassIs(leaves) for leaves in (lexicon.frames, *each)] if lexicon.frames else []
        self.classes = list(dict.fromkeys(p for p in [*found, *frames] if isinstance(p, ClassIs) and p.positive))
        self.negated = [p for p in found if isinstance(p, ClassIs) and not p.positive]
        self.given = [p for p in found if isinstance(p, ClassGiven)]
        given = (ClassIs(leaves) for p in self.given for leaves in p)
        self.classes = list(dict.fromkeys([*self.classes, *given]))
        self.places = [p for p in found if isinstance(p, PlaceIs)]
        self.forms, self.inequalities = _by_form([p for p in found if isinstance(p, Inequality)])
        self.witnesses = list(dict.fromkeys(p._replace(positive=True) for p in found if isinstance(p, WitnessIs)))
        self.counts = [p for p in found if isinstance(p, CountIs)]
        self.frames = [self.classes.index(f) for f in frames]
        early: list[Literal] = [*self.classes, *self.negated, *self.given, *self.places, *self.inequalities]
        late: list[Literal] = [*self.witnesses, *(p._replace(positive=False) for p in self.witnesses), *self.counts]
        numbered: list[Literal] = [*early, *late]
        self.index: dict[Literal, int] = {p: i for i, p in enumerate(numbered, 2)}
        self.index[Never()] = FALSE_LITERAL
        self.early = 2 + len(early)
        between = list(dict.fromkeys(p for s in shapes for p in (*s.between, *s.head_between)))
        self.pair_forms, pair_inequalities = _by_form([p for p in between if isinstance(p, Inequality)])
        self.between_words = [p.word for p in between if isinstance(p, WordIs)]
        self.negated_words = sorted({p.word for p in between if isinstance(p, WordIs) and not p.positive})
        self.pair_index: dict[PairLiteral, int] = {WordIs(w): w for w in range(TRUE)}
        first = TRUE + 1
        self.pair_index |= {WordIs(w, False): first + i for i, w in enumerate(self.negated_words)}
        first += len(self.negated_words)
        self.pair_index |= {p: first + i for i, p in enumerate(pair_inequalities)}

    def between(self, parts: Iterable[PairLiteral]) -> tuple[int, ...]:
        """Pair literals by their numbers."""
        return tuple(sorted(self.pair_index[p] for p in parts))

    def closure(self) -> Tensor:
        """The leaf classes of each column: all of them where it names no class."""
        closure = torch.zeros(len(self.lexicon.names) + 1, len(self.columns))
        for k, column in enumerate(self.columns):
            leaves = self.lexicon.any
            for part in column:
                if isinstance(part, ClassIs):
                    leaves = leaves & part.leaves if part.positive else leaves - part.leaves
            closure[list(leaves), k] = 1.0
        return closure

    def literals(self) -> LiteralTable:
        every = [*self.classes, *self.negated]
        classes = torch.zeros(len(self.lexicon.names) + 1, len(every))
        for k, part in enumerate(every):
            classes[list(part.leaves), k] = 1.0
        class_of = {p.leaves: i for i, p in enumerate(self.classes)}
        return LiteralTable(
            classes=classes,
            members=_padded([sorted(p.leaves) for p in every], 0),
            negated_classes=len(self.negated),
            exclusive=self.lexicon.exclusive,
            given=_matrix_of([[class_of[p.leaves], class_of[p.among]] for p in self.given], 2),
            places=_vector([p.place + (0 if p.positive else len(PLACES)) for p in self.places]),
            frames=_vector(self.frames),
            inequalities=self.forms,
            witnesses=Witnesses(
                words=_padded([w.words for w in self.witnesses], TRUE),
                column=_vector([self.column[w.column] for w in self.witnesses]),
                reflexive=torch.tensor([w.reflexive and not w.words for w in self.witnesses], dtype=torch.bool),
            ),
            counts=self._counts(),
        )

    def _counts(self) -> Counts:
        width = max((len(c.weights) for c in self.counts), default=0)
        weights = [[*c.weights, *[0.0] * (width - len(c.weights))] for c in self.counts]
        return Counts(
            words=_padded([c.words for c in self.counts], TRUE),
            column=_vector([self.column[c.column] for c in self.counts]),
            reflexive=torch.tensor([c.reflexive and not c.words for c in self.counts], dtype=torch.bool),
            offset=torch.tensor([c.offset for c in self.counts], dtype=torch.float32),
            weights=torch.tensor(weights, dtype=torch.float32).reshape(len(weights), width),
        )

    def pair_literals(self) -> PairLiterals:
        late = [w for p in self.witnesses for w in p.words] + [w for p in self.counts for w in p.words]
        used = {w for w in (*self.between_words, *late) if w != TRUE}
        words = sorted({w % len(WORDS) for w in used})
        swapped = [i for i, w in enumerate(words) if w + len(WORDS) in used]
        place = {w: i for i, w in enumerate(words, 1)}
        place |= {words[i] + len(WORDS): k for k, i in enumerate(swapped, 1 + len(words))}
        start = 1 + len(words) + len(swapped)
        further = range(start, start + len(self.pair_index) - TRUE)
        row = [*(place.get(w, 0) for w in range(TRUE + 1)), *further]
        return PairLiterals(tuple(words), tuple(swapped), _vector(row), _vector(self.negated_words), self.pair_forms)

    def unary(self, rows: Sequence[tuple[int, Shape]]) -> UnaryGroup:
        return UnaryGroup(
            rule=_vector([n for n, _ in rows]),
            first=_vector([self.column[s.body[0]] for _, s in rows]),
            head=_vector([self.column[s.head[0]] for _, s in rows]),
            denied=torch.tensor([s.denied for _, s in rows], dtype=torch.bool),
            of_image=torch.tensor([s.objects == 0 for _, s in rows], dtype=torch.bool),
            witness=_vector([-1 if s.witness is None else self.witnesses.index(s.witness) for _, s in rows]),
        )

    def pairs(self, rows: Sequence[tuple[int, Shape]]) -> PairGroup:
        return PairGroup(
            rule=_vector([n for n, _ in rows]),
            first=_vector([self.column[s.body[0]] for _, s in rows]),
            second=_vector([self.column[s.body[1]] for _, s in rows]),
            body=_padded([self.between(s.between) for _, s in rows], TRUE),
            head=_padded([self.between(s.head_between) for _, s in rows], TRUE),
            denied=torch.tensor([s.denied for _, s in rows], dtype=torch.bool),
            head_first=_vector([self.column[s.head[0]] for _, s in rows]),
            head_second=_vector([self.column[s.head[1]] for _, s in rows]),
        )

    def gates(self, shapes: Sequence[Shape]) -> Gates:
        """Which late literals are wanted where: in a body and its head where the body's column may hold."""
        found: dict[tuple[int, int], None] = {}
        for shape in shapes:
            for body, head in zip(shape.body, shape.head, strict=True):
                found |= {(self.column[body], late): None for late in self._late((*body, *head))}
        for count in self.counts:
            found |= {(self.column[count.column], late): None for late in self._late(count.column)}
        return Gates(_vector([c for c, _ in found]), _vector([late for _, late in found]))

    def _late(self, parts: Iterable[Literal]) -> list[int]:
        """The witnesses and counts among literals, numbered from the first of them; a negated witness is its witness."""
        total = len(self.witnesses)
        numbers = [self.index[p] - self.early for p in parts if self.index[p] >= self.early]
        return [n if n < total else n - total for n in numbers]


def _bodies_of(shape: Shape) -> Iterable[Column]:
    """The columns that are looked up for every object: of bodies, and of witnesses and counted objects."""
    for column in (*shape.body, *shape.head):
        yield from _within(column)
    yield from shape.body


def _within(column: Column) -> Iterable[Column]:
    for part in column:
        if isinstance(part, WitnessIs | CountIs):
            yield from _within(part.column)
            yield part.column


def _in_order(column: Column) -> list[Literal]:
    return sorted(column, key=lambda p: (type(p).__name__, str(p)))


def _by_form(parts: Iterable[Inequality]) -> tuple[tuple[InequalityGroup, ...], list[Inequality]]:
    """Comparisons grouped by their form, and in the order of the groups."""
    groups: dict[Form, list[Inequality]] = {}
    for part in dict.fromkeys(parts):
        groups.setdefault(part.form, []).append(part)
    made = tuple(
        InequalityGroup(
            form,
            _matrix_of([[measure for measure, _ in p.leaves] for p in group], len(group[0].leaves)),
            torch.tensor([p.numbers for p in group], dtype=torch.float64).reshape(len(group), len(group[0].numbers)),
            torch.tensor([p.strict for p in group], dtype=torch.bool),
        )
        for form, group in groups.items()
    )
    return made, [p for group in groups.values() for p in group]


def _blocks(keys: Sequence[_Key]) -> Blocks:
    """Rows with equal keys in blocks of one width, near the mean size of a group, so that little of them is filling."""
    groups: dict[_Key, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    width = max(1, -(-len(keys) // max(1, len(groups))))
    rows: list[list[int]] = []
    spelled: list[_Key] = []
    for key, members in groups.items():
        for start in range(0, len(members), width):
            chunk = members[start : start + width]
            rows.append(chunk + [-1] * (width - len(chunk)))
            spelled.append(key)
    return Blocks(
        rows=_matrix_of(rows, width),
        plus=_padded([plus for plus, _ in spelled], TRUE),
        minus=_padded([minus for _, minus in spelled], TRUE),
        is_minus=torch.tensor([bool(minus) for _, minus in spelled], dtype=torch.bool),
    )


def _vector(values: Sequence[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.long)


def _matrix_of(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    return torch.tensor([list(r) for r in rows], dtype=torch.long).reshape(len(rows), width)


def _padded(rows: Sequence[Sequence[int]], filling: int) -> Tensor:
    width = max([1, *map(len, rows)])
    return _matrix_of([[*r, *[filling] * (width - len(r))] for r in rows], width)
