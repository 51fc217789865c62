"""One rule → its shape: which columns and pair literals its body and head are, still as symbols.

The variables of a rule's body are read as objects, the second places of data properties as measurements. What the body says of
one object becomes a column, what it says of two becomes pair literals; an existential variable of the head, a local variable
of a negation and a counted variable become literals of the object they hang on. So every rule of the language over at most two
objects is one of three shapes: about an image, about an object, about a pair.

A denial has no head that could fail. Its classes are its premise, and everything else in it is what must not be: of
``:- pleural_effusion(X), upper_zone(X).`` each effusion fires and one in the upper zone violates; where there are classes only,
the first is the premise. The violation rate is then the share of what the rule is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import cast

from neurosym.constraints.lexicon import Lexicon
from neurosym.constraints.numeric import Inequality
from neurosym.constraints.quantities import NEVER_EQUAL, Values, bind, count_literal, inequality
from neurosym.constraints.symbols import (
    ClassGiven,
    ClassIs,
    Column,
    Impossible,
    Literal,
    Never,
    PairLiteral,
    Shape,
    Unusable,
    WitnessIs,
    WordIs,
    common,
    negated,
)
from neurosym.knowledge.canonical import rename
from neurosym.logic import Atom, Comparison, Condition, Negation, Rule, Term


def shapes_of(rule: Rule, lexicon: Lexicon) -> list[Shape]:
    """The shapes of a rule: one, or two where its two variables may stand for one object.

    Raises:
        Unusable: with the reason why the rule constrains nothing.
    """
    shapes = [_Reader(rule, lexicon).shape()]
    x_and_y = _Reader(rule, lexicon).objects()
    if not rule.distinct and len(x_and_y) == 2 and not _are_related(rule, x_and_y):
        merged = _with_one(rule, *x_and_y)
        with suppress(Unusable):  # no object is both
            shapes.append(_Reader(merged, lexicon).shape())
    return shapes


def _are_related(rule: Rule, pair: Sequence[Term]) -> bool:
    """Whether the rule speaks of a relation of its two objects, or says that they differ: no object has one to itself."""
    negated = [c.atom for c in rule.conditions if isinstance(c, Negation)]
    differ = any(
        isinstance(c, Comparison) and c.operator == r"\=" and set(c.variables) == set(pair) for c in rule.conditions
    )
    return differ or any(set(a.args) == set(pair) for a in (*rule.body, *rule.head, *negated))


def _with_one(rule: Rule, x: Term, y: Term) -> Rule:
    def name(t: Term) -> Term:
        return x if t == y else t

    head, body = (tuple(cast(Atom, rename(a, name)) for a in atoms) for atoms in (rule.head, rule.body))
    conditions = tuple(cast(Condition, rename(c, name)) for c in rule.conditions)
    return replace(rule, head=head, body=body, conditions=conditions)


@dataclass
class _Side:
    """What a rule says in its body, or in its head, of its two objects and between them."""

    columns: tuple[list[Literal], list[Literal]] = field(default_factory=lambda: ([], []))
    between: list[PairLiteral] = field(default_factory=list)


class _Reader:
    """Reads one rule."""

    def __init__(self, rule: Rule, lexicon: Lexicon) -> None:
        self.rule, self.lexicon = rule, lexicon
        self.values: Values = {}
        self.body, self.head, self.tests = _Side(), _Side(), _Side()
        self.witness: WitnessIs | None = None

    def objects(self) -> tuple[Term, ...]:
        """The variables of the body's atoms that stand for objects."""
        measured = {a.args[1] for a in self.rule.body if self.lexicon.measures(a)}
        found = (v for a in self.rule.body for v in a.variables)
        return tuple(dict.fromkeys(v for v in found if v not in measured))

    def shape(self) -> Shape:
        rule = self.rule
        if not rule.body and not rule.conditions:
            raise Unusable("it is a fact, about no object of an image")
        objects = (t for a in rule.atoms for t in (a.args[:1] if self.lexicon.measures(a) else a.args))
        if any(not t.is_variable for t in objects):
            raise Unusable("it names a constant; objects of an image have no names")
        self.variables = self.objects()
        if len(self.variables) + len(rule.existential) > 2:
            related = len(self.variables) + len(rule.existential)
            raise Unusable(f"it relates {related} objects; constraints relate at most 2")
        self._measure()
        for atom in rule.body:
            if len(atom.args) == 1:
                self.body.columns[self._who(atom.args[0])].append(self.lexicon.literal(atom.predicate))
            elif not self.lexicon.measures(atom):
                self.body.between += self._words(atom)
        for condition in rule.conditions:
            self._condition(condition)
        self._head()
        return self._denial() if not rule.head else self._implication()

    # --- bodies ---------------------------------------------------------------------------------------------------

    def _who(self, variable: Term) -> int:
        return self.variables.index(variable)

    def _words(self, atom: Atom, positive: bool = True) -> Iterator[PairLiteral]:
        """A word between the two objects of the rule."""
        if atom.args[0] == atom.args[1]:
            raise Unusable(f"{atom} relates an object to itself")
        yield WordIs(self.lexicon.word(atom, bool(self._who(atom.args[0]))), positive)

    def _measure(self) -> None:
        """Find what the variables for values stand for."""
        for atom in self.rule.body:
            if self.lexicon.measures(atom):
                bind(self.lexicon, self.values, atom)
        named = [c for c in self.rule.conditions if isinstance(c, Comparison) and c.operator == "is"]
        for condition in named:
            assert isinstance(condition.left, Term)
            if condition.left in self.values or condition.left in self.variables:
                raise Unusable(f"{condition}: {NEVER_EQUAL}")
            self.values[condition.left] = condition.right

    def _condition(self, condition: Negation | Comparison) -> None:
        if isinstance(condition, Negation):
            self._negation(condition)
        elif condition.counts:
            anchor, literal = count_literal(condition, self.lexicon, self.variables)
            self.tests.columns[0 if anchor is None else self._who(anchor)].append(literal)
        elif condition.operator == r"\=":
            sides = {condition.left, condition.right}
            if not (len(sides) == 2 and sides <= set(self.variables)):
                raise Unusable(f"{condition} compares no two objects of the rule")
        elif condition.operator != "is":
            compared, owners = inequality(condition, self.values, self.variables)
            if len(owners) == 2:
                self.tests.between.append(compared)
            else:
                self.tests.columns[self._who(owners[0])].append(compared)

    def _negation(self, negation: Negation) -> None:
        atom = negation.atom
        if self.lexicon.measures(atom):
            raise Unusable(f"{negation} denies a measurement, and every object of an image has one")
        bound = [t for t in atom.args if t in self.variables]
        if len(bound) == len(atom.args) == 1:
            self.tests.columns[self._who(bound[0])].append(negated(self.lexicon.literal(atom.predicate)))
        elif len(atom.args) == 1:
            column = self.lexicon.column([self.lexicon.literal(atom.predicate)])
            self.tests.columns[0].append(WitnessIs((), column, True, False))
        elif len(bound) == 2:
            if bound[0] != bound[1]:
                self.tests.between += self._words(atom, positive=False)
        elif len(bound) == 1:
            words = (self.lexicon.towards(atom, bound[0]),)
            column = self.lexicon.column([])
            self.tests.columns[self._who(bound[0])].append(WitnessIs(words, column, False, False))
        else:
            raise Unusable(f"{negation} speaks of no object of the rule")

    # --- heads ----------------------------------------------------------------------------------------------------

    def _head(self) -> None:
        words: list[int] = []
        inner: list[Literal] = []
        for atom in self.rule.head:
            if self.lexicon.measures(atom):
                raise Unusable(f"{atom} in its head sets a measurement, which the boxes decide")
            unknown = [t for t in atom.args if t not in self.variables]
            if len(atom.args) == 1:
                literal = self.lexicon.literal(atom.predicate)
                (inner if unknown else self.head.columns[self._who(atom.args[0])]).append(literal)
            elif not unknown:
                self.head.between += self._words(atom)
            elif len(unknown) == 1:
                anchor = next(t for t in atom.args if t in self.variables)
                words.append(self.lexicon.towards(atom, anchor))
            else:
                raise Unusable(f"{atom} relates an object that must exist to itself")
        if self.rule.existential:
            column = self.lexicon.column(inner)
            if Never() in column:
                raise Impossible("no object can be what it asks for: its classes exclude each other in the detector")
            self.witness = WitnessIs(tuple(sorted(words)), column, not (words or self.rule.distinct))
            self.head.columns[0].append(self.witness)

    def _implication(self) -> Shape:
        body = tuple(self._body_column(who, [*self.body.columns[who], *self.tests.columns[who]]) for who in (0, 1))
        between = (*self.body.between, *self.tests.between)
        head = tuple(self._head_column(body[who], self.head.columns[who]) for who in (0, 1))
        head_between = tuple(p for p in self.head.between if p not in between)
        if not any(head) and not head_between:
            raise Unusable("its head follows from its body by the class hierarchy already")
        return Shape(
            len(self.variables),
            (body[0], body[1]),
            _sorted_pair(between),
            (head[0], head[1]),
            _sorted_pair(head_between),
            False,
            self.witness,
        )

    def _denial(self) -> Shape:
        """Classes are the premise; everything else is what must not be."""
        premise: list[list[Literal]] = []
        rest: list[list[Literal]] = []
        for who in (0, 1):
            column, tests = self.body.columns[who], self.tests.columns[who]
            premise.append([p for p in column if isinstance(p, ClassIs)])
            rest.append([*(p for p in column if not isinstance(p, ClassIs)), *tests])
        between = (*self.body.between, *self.tests.between)
        if len(self.variables) == 1 and not rest[0]:
            premise[0], rest[0] = premise[0][:1], premise[0][1:]
        columns = [self._body_column(who, premise[who]) for who in (0, 1)]
        heads = [self._head_column(columns[who], rest[who], denied=True) for who in (0, 1)]
        return Shape(
            len(self.variables), (columns[0], columns[1]), (), (heads[0], heads[1]), _sorted_pair(between), True
        )

    def _body_column(self, who: int, parts: Iterable[Literal]) -> Column:
        """A conjunction of literals; the classes of an exclusive detector are intersected into one."""
        if who >= len(self.variables):
            return frozenset(parts)
        column = self.lexicon.column(parts)
        if Never() in column:
            raise Unusable("it is about a single object's classes, which exclude each other in the detector anyway")
        return column

    def _head_column(self, body: Column, parts: Sequence[Literal], denied: bool = False) -> Column:
        """A head's column, without what the body says already."""
        column = frozenset(p for p in parts if p not in body)
        classes = [p for p in column if isinstance(p, ClassIs)]
        if not self.lexicon.exclusive:
            held = [p.leaves for p in body if isinstance(p, ClassIs) and p.positive]
            return frozenset(p for p in column if not _follows(p, held))
        if not classes:
            return column
        [among] = [p.leaves for p in body if isinstance(p, ClassIs)]
        leaves = common(classes, among)
        others = frozenset(p for p in column if not isinstance(p, ClassIs))
        if not leaves and denied:
            raise Unusable("it is about a single object's classes, which exclude each other in the detector anyway")
        if not leaves:
            raise Impossible("its classes exclude each other in the detector, so no detection can satisfy it")
        return others if leaves == among else others | {ClassGiven(leaves, among)}


def _follows(literal: Literal, held: Iterable[frozenset[int]]) -> bool:
    """Whether a class that is an or of leaves holds because an or of some of them does."""
    return isinstance(literal, ClassIs) and literal.positive and any(leaves <= literal.leaves for leaves in held)


def _sorted_pair(parts: Iterable[PairLiteral]) -> tuple[PairLiteral, ...]:
    return tuple(sorted(dict.fromkeys(parts), key=lambda p: (isinstance(p, Inequality), str(p))))
