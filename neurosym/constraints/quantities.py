"""Comparisons and counts of a rule's conditions → literals: `neurosym.constraints.numeric` and `counting` give their truth.

W / V > 0.5                                     an inequality of the objects that W and V measure
count{N : nodule(N), inside(N, L)} > 5          a count literal of L
count{N : nodule(N), inside(N, M), lung(M)}     a count of the image; M is a witness that each N needs
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Final, TypeAlias

from neurosym.constraints.counting import LARGEST
from neurosym.constraints.lexicon import Lexicon
from neurosym.constraints.numeric import Form, Inequality
from neurosym.constraints.symbols import Column, CountIs, Literal, Unusable, WitnessIs, negated
from neurosym.logic import Atom, Comparison, Count, Expression, Negation, Operand, Term

Values: TypeAlias = dict[Term, Operand | tuple[int, Term]]
"""What the variables for values stand for: an operand that names them, or a measurement of an object."""
_FUNCTIONS: Final = frozenset({"+", "-", "*", "/", "abs", "min", "max"})
_FLIPPED: Final = {"<": ">", "=<": ">=", ">": "<", ">=": "=<", "=:=": "=:=", r"=\=": r"=\="}
_DEEPEST: Final = 50
NEVER_EQUAL: Final = "measurements are never exactly equal; compare them with a range"


def bind(lexicon: Lexicon, values: Values, atom: Atom) -> None:
    """Note which measurement of which object an atom's value is."""
    measure, value = lexicon.measure(atom), atom.args[1]
    if value.is_variable and value.name == "_":
        return
    if not value.is_variable or value in values:
        raise Unusable(f"{atom}: {NEVER_EQUAL}")
    values[value] = (measure, atom.args[0])


def inequality(condition: Comparison, values: Values, order: Sequence[Term]) -> tuple[Inequality, list[Term]]:
    """A comparison as a program, and the objects it measures, first the one that comes first in `order`."""
    if condition.operator in ("=:=", r"=\=", r"\="):
        raise Unusable(f"{condition}: {NEVER_EQUAL}")
    left, right = condition.left, condition.right
    if condition.operator in ("<", "=<"):
        left, right = right, left
    program = _Program(values)
    for side in (left, right):
        program.add(side)
    owners = sorted({owner for _, owner in program.leaves}, key=order.index)
    if not owners:
        raise Unusable(f"{condition} measures no object")
    places = iter([owners.index(owner) for _, owner in program.leaves])
    form: Form = tuple("xy"[next(places)] if word == "x" else word for word in program.form)
    leaves = tuple((measure, owners.index(owner)) for measure, owner in program.leaves)
    return Inequality(form, leaves, tuple(program.numbers), condition.operator in ("<", ">")), owners


@dataclass
class _Program:
    """A postfix program in the making; every measurement is an "x" until it is known whose it is."""

    values: Values
    form: list[str] = field(default_factory=list)
    leaves: list[tuple[int, Term]] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)

    def add(self, operand: Operand, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise Unusable("its arithmetic defines a value by itself, or is nested too deep")
        if isinstance(operand, Expression):
            for inner in operand.operands:
                self.add(inner, depth + 1)
            is_sign = operand.operator == "-" and len(operand.operands) == 1
            assert operand.operator in _FUNCTIONS
            self.form.append("neg" if is_sign else operand.operator)
        elif isinstance(operand, Count):
            raise Unusable("a count may only be compared with a number")
        elif operand.is_variable:
            value = self.values.get(operand)
            if value is None:
                raise Unusable(f"{operand} is no measurement that an image can show")
            if isinstance(value, tuple):
                self.form.append("x")
                self.leaves.append(value)
            else:
                self.add(value, depth + 1)
        elif isinstance(operand.value, str):
            raise Unusable(f"{operand} is no number")
        else:
            self.form.append("#")
            self.numbers.append(float(operand.value))


def count_literal(condition: Comparison, lexicon: Lexicon, variables: Sequence[Term]) -> tuple[Term | None, CountIs]:
    """A comparison of a count as a literal, and the object of the rule that it is a literal of (None: of the image)."""
    count, limit, operator = condition.left, condition.right, condition.operator
    if isinstance(limit, Count):
        count, limit, operator = limit, count, _FLIPPED.get(operator, operator)
    is_number = isinstance(limit, Term) and limit.datatype in ("integer", "decimal")
    if not isinstance(count, Count) or not isinstance(limit, Term) or not is_number or operator not in _FLIPPED:
        raise Unusable(f"{condition}: a count may only be compared with a number")
    if len(count.terms) != 1 or not count.terms[0].is_variable or count.terms[0] in variables:
        raise Unusable(f"{count} does not count one kind of object")
    anchor, words, column = _Counted(count, lexicon, variables).read()
    offset, weights = _chosen_numbers(operator, float(limit.value), str(condition))
    return anchor, CountIs(words, column, True, offset, weights)


class _Counted:
    """Reads what is counted: an object `it`, related to one object of the rule at most, and to objects of its own."""

    def __init__(self, count: Count, lexicon: Lexicon, variables: Sequence[Term]) -> None:
        self.count, self.lexicon, self.variables, self.it = count, lexicon, variables, count.terms[0]
        self.values: Values = {}
        self.parts: list[Literal] = []
        self.anchored: dict[Term, list[int]] = {}
        self.others: dict[Hashable, tuple[list[int], list[Literal]]] = {}

    def read(self) -> tuple[Term | None, tuple[int, ...], Column]:
        """The anchor among the rule's objects, the words from it to what is counted, and what that is."""
        for number, atom in enumerate(self.count.body):
            self._atom(number, atom)
        if len(self.anchored) > 1:
            raise Unusable(f"{self.count} relates what it counts to two objects")
        for words, inner in self.others.values():
            self.parts.append(WitnessIs(tuple(sorted(words)), self.lexicon.column(inner), True))
        self.parts += self._conditions()
        for anchor, words in self.anchored.items():
            return anchor, tuple(sorted(words)), self.lexicon.column(self.parts)
        return None, (), self.lexicon.column(self.parts)

    def _atom(self, number: int, atom: Atom) -> None:
        if self.lexicon.measures(atom):
            if atom.args[0] != self.it:
                raise Unusable(f"{self.count} measures something else than what it counts")
            bind(self.lexicon, self.values, atom)
            return
        others = [t for t in atom.args if t != self.it]
        if len(others) > 1 or (not others and len(atom.args) > 1):
            raise Unusable(f"{atom} in {self.count} does not speak of what is counted")
        if not others:
            self.parts.append(self.lexicon.literal(atom.predicate))
            return
        [other] = others
        if other in self.variables:
            if len(atom.args) == 1:
                raise Unusable(f"{atom} in {self.count} does not speak of what is counted")
            self.anchored.setdefault(other, []).append(self.lexicon.towards(atom, other))
            return
        key = (number,) if other.name == "_" else other  # each _ is an object of its own
        words, inner = self.others.setdefault(key, ([], []))
        if len(atom.args) == 1:
            inner.append(self.lexicon.literal(atom.predicate))
        else:
            words.append(self.lexicon.towards(atom, self.it))

    def _conditions(self) -> Iterator[Literal]:
        for condition in self.count.conditions:
            if isinstance(condition, Comparison):
                if condition.operator == r"\=" and {condition.left, condition.right} == {self.it, *self.anchored}:
                    continue  # words never relate an object to itself
                yield inequality(condition, self.values, (self.it,))[0]
            else:
                yield self._negation(condition)

    def _negation(self, condition: Negation) -> Literal:
        atom = condition.atom
        free = [t for t in atom.args if t != self.it]
        if not free and len(atom.args) == 1:
            return negated(self.lexicon.literal(atom.predicate))
        is_local = len(atom.args) == 2 and len(free) == 1 and free[0] not in self.variables
        if not is_local or self.lexicon.measures(atom):
            raise Unusable(f"{condition} in {self.count} does not speak of what is counted")
        return WitnessIs((self.lexicon.towards(atom, self.it),), self.lexicon.column(()), False, False)


def _chosen_numbers(operator: str, limit: float, text: str) -> tuple[float, tuple[float, ...]]:
    """Which numbers satisfy a comparison: offset and weights so that ``offset + Σ weights[k] P(k)`` is its chance."""
    if abs(limit) > LARGEST:
        raise Unusable(f"{text} counts beyond {LARGEST}")
    if operator in (">", ">="):
        least = floor(limit) + 1 if operator == ">" else ceil(limit)
        return 1.0, (-1.0,) * max(0, least)
    if operator in ("<", "=<"):
        least = ceil(limit) if operator == "<" else floor(limit) + 1
        return 0.0, (1.0,) * max(0, least)
    sign, offset = (1.0, 0.0) if operator == "=:=" else (-1.0, 1.0)
    if limit < 0 or limit != floor(limit):
        return offset, ()
    return offset, (*(0.0,) * int(limit), sign)
