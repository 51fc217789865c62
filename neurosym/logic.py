"""What a rule is made of: terms, atoms, conditions, and the rule itself; pure values that print as the rule language.

    0.93 :: inside(N, L), lung(L) :- nodule(N), \\+ artefact(N), diameter(N, D), D < 30.
    └weight  └head (L is existential)  └body (atoms)  └conditions: negation, comparison, counting

The body's atoms bind variables, its conditions test them; a rule is printed with the conditions last. docs/rules.md is the
specification of the language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

_NAME = re.compile(r"[a-z][A-Za-z0-9_]*\Z")
KEYWORDS: Final = frozenset({"is", "not", "abs", "min", "max", "count"})
"""Words with a meaning of their own: a class or an individual of such a name is written in quotes."""


def quoted(name: str) -> str:
    """A name as rule text spells it: plain if it can stand so, else in single quotes (of which it may then hold none)."""
    return name if _NAME.match(name) and name not in KEYWORDS else "'" + name.replace("'", "’") + "'"


@dataclass(frozen=True, slots=True, order=True)
class Term:
    """A variable (written with a capital first letter) or a constant.

    A constant of `datatype` "" names an individual; "integer", "decimal" and "string" are literal values, of which `name` is
    the text (a number's as Python prints it, so that equal numbers of one type are equal terms).
    """

    name: str
    is_variable: bool = True
    datatype: str = ""

    @property
    def value(self) -> str | int | float:
        """A constant as a Python value."""
        if self.datatype == "integer":
            return int(self.name)
        return float(self.name) if self.datatype == "decimal" else self.name

    def __str__(self) -> str:
        if self.is_variable or self.datatype in ("integer", "decimal"):
            return self.name
        if self.datatype == "string":
            return '"' + self.name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        return quoted(self.name)


def number(value: float) -> Term:
    """A numeric constant: an integer for an `int`, else a decimal.

    >>> str(number(3)), str(number(0.5))
    ('3', '0.5')
    """
    return Term(repr(value), False, "integer" if isinstance(value, int) else "decimal")


@dataclass(frozen=True, slots=True, order=True)
class Atom:
    """`predicate(args…)`; the predicate "=" is equality, its two arguments are infix when printed."""

    predicate: str
    args: tuple[Term, ...]

    @property
    def variables(self) -> tuple[Term, ...]:
        return tuple(dict.fromkeys(t for t in self.args if t.is_variable))

    def __str__(self) -> str:
        if self.predicate == "=":
            return f"{self.args[0]} = {self.args[1]}"
        return f"{quoted(self.predicate)}({', '.join(map(str, self.args))})"


@dataclass(frozen=True, slots=True)
class Negation:
    r"""`\+ atom`: the atom is not known to hold (negation as failure, stratified); `_` in it stands for anything."""

    atom: Atom

    @property
    def variables(self) -> tuple[Term, ...]:
        return self.atom.variables

    def __str__(self) -> str:
        return rf"\+ {self.atom}"


@dataclass(frozen=True, slots=True)
class Expression:
    """Arithmetic: `operator` is one of `+ - * /` (two operands, or one for -), `abs`, `min`, `max`."""

    operator: str
    operands: tuple[Operand, ...]

    @property
    def variables(self) -> tuple[Term, ...]:
        return tuple(dict.fromkeys(v for o in self.operands for v in variables_of(o)))

    def __str__(self) -> str:
        if self.operator in FUNCTIONS:
            return f"{self.operator}({', '.join(map(str, self.operands))})"
        if len(self.operands) == 1:
            return f"-{self._inner(0)}"
        return f"{self._inner(0)} {self.operator} {self._inner(1)}"

    def _inner(self, index: int) -> str:
        """An operand in brackets where it binds more loosely (or, on the right, no more tightly) than this operator."""
        operand = self.operands[index]
        if not isinstance(operand, Expression) or operand.operator in FUNCTIONS:
            return str(operand)
        mine, its = (3 if len(e.operands) == 1 else _PRECEDENCE[e.operator] for e in (self, operand))
        return f"({operand})" if its < mine or (its == mine and (index == 1 or mine == 3)) else str(operand)


@dataclass(frozen=True, slots=True)
class Count:
    """`count{X, Y : body, conditions}`: how many distinct values of the terms satisfy the rest; not nested."""

    terms: tuple[Term, ...]
    body: tuple[Atom, ...]
    conditions: tuple[Negation | Comparison, ...] = ()

    @property
    def variables(self) -> tuple[Term, ...]:
        """Every variable within; those that the rest of the rule does not have are local."""
        found = [v for part in (*self.body, *self.conditions) for v in part.variables]
        return tuple(dict.fromkeys((*(t for t in self.terms if t.is_variable), *found)))

    def __str__(self) -> str:
        return f"count{{{', '.join(map(str, self.terms))} : {', '.join(map(str, (*self.body, *self.conditions)))}}}"


@dataclass(frozen=True, slots=True)
class Comparison:
    r"""`left operator right`: `<`, `=<`, `>`, `>=`, `=:=`, `=\=` on numbers, `\=` on anything, `is` to name a result.

    `left is right` binds the variable on its left; every other comparison tests values that are bound already.
    """

    operator: str
    left: Operand
    right: Operand

    @property
    def variables(self) -> tuple[Term, ...]:
        return tuple(dict.fromkeys((*variables_of(self.left), *variables_of(self.right))))

    @property
    def counts(self) -> tuple[Count, ...]:
        """The counting terms of both sides."""
        return (*_counts(self.left), *_counts(self.right))

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


Operand: TypeAlias = Term | Expression | Count
Condition: TypeAlias = Negation | Comparison
FUNCTIONS: Final = {"abs": 1, "min": 2, "max": 2}
_PRECEDENCE: Final = {"+": 1, "-": 1, "*": 2, "/": 2}


def variables_of(operand: Operand) -> tuple[Term, ...]:
    """The variables of one side of a comparison."""
    if isinstance(operand, Term):
        return (operand,) if operand.is_variable else ()
    return operand.variables


def _counts(operand: Operand) -> Iterator[Count]:
    if isinstance(operand, Count):
        yield operand
    elif isinstance(operand, Expression):
        for inner in operand.operands:
            yield from _counts(inner)


@dataclass(frozen=True, slots=True)
class Rule:
    """`weight :: head :- body, conditions.`

    An empty head is a denial, several head atoms a conjunction, a head variable that the body lacks is existential, a head
    `X = Y` says that two objects are one. `weight` is the probability of the head where the body holds, None for a hard rule.
    Distinct variables for objects stand for distinct objects unless `distinct` is False (so it is for axioms of an ontology).
    `meta` and place are not part of a rule's identity.
    """

    head: tuple[Atom, ...]
    body: tuple[Atom, ...]
    weight: float | None = None
    meta: Mapping[str, str] = field(default_factory=dict, compare=False)
    file: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)
    conditions: tuple[Condition, ...] = ()
    distinct: bool = True

    @property
    def id(self) -> str:
        return self.meta.get("id") or str(self)

    @property
    def atoms(self) -> Iterator[Atom]:
        """Every atom: of the head, the body, and within the conditions."""
        yield from self.head
        yield from self.body
        conditions = list(self.conditions)
        for condition in conditions:
            if isinstance(condition, Negation):
                yield condition.atom
            else:
                for count in condition.counts:
                    yield from count.body
                    conditions += count.conditions

    @property
    def bound(self) -> frozenset[Term]:
        """The variables that the body gives a value: by an atom, or by `is`."""
        named = {c.left for c in self.conditions if isinstance(c, Comparison) and c.operator == "is"}
        return frozenset({v for atom in self.body for v in atom.variables} | {t for t in named if isinstance(t, Term)})

    @property
    def existential(self) -> tuple[Term, ...]:
        """The head variables that the body does not bind."""
        bound = self.bound
        return tuple(dict.fromkeys(v for atom in self.head for v in atom.variables if v not in bound))

    @property
    def measured(self) -> frozenset[Term]:
        r"""The variables that stand for values, not for objects: compared by size, computed with, or the result of `is`."""
        numeric = [c for c in self.conditions if isinstance(c, Comparison) and c.operator != r"\="]
        sides = [side for c in numeric for side in (c.left, c.right)]
        return frozenset(v for side in sides for v in _measured(side))

    def __str__(self) -> str:
        weight = "" if self.weight is None else f"{self.weight:.12g} :: "
        head = ", ".join(map(str, self.head))
        body = ", ".join(map(str, (*self.body, *self.conditions)))
        return f"{weight}{head}{' ' if head and body else ''}{':- ' + body if body else ''}."


def _measured(operand: Operand) -> Iterator[Term]:
    if isinstance(operand, Term) and operand.is_variable:
        yield operand
    elif isinstance(operand, Expression):
        for inner in operand.operands:
            yield from _measured(inner)
    elif isinstance(operand, Count):
        for condition in operand.conditions:
            if isinstance(condition, Comparison) and condition.operator != r"\=":
                yield from (*_measured(condition.left), *_measured(condition.right))
