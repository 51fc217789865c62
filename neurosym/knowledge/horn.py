r"""A class inclusion `sub ⊑ sup` as clauses of the rule language.

The left side becomes bodies, one for each of its disjuncts; the right side becomes heads as far as it is a conjunction of
atoms and existential restrictions (Grosof et al., Description Logic Programs, WWW 2003, with the existential heads of
Datalog±), equalities for "at most one", and denials for everything else:

    sub ⊑ d1 ⊔ d2     `:- sub(X), \+ d1(X), \+ d2(X).`
    sub ⊑ ≥2 r.d      `:- sub(X), count{Y : r(X, Y), d(Y)} < 2.`

The principle is that nothing is ever *derived* from what is not known: a clause with negation, or with a bound on a count from
above, is a denial. Read in one finite interpretation whose individuals have different names, the clauses hold exactly where
the inclusion does (tests/oracles/owl.py); what cannot be said so raises `Unreadable` with the reason.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Final, NamedTuple

from neurosym.knowledge.expressions import (
    All,
    And,
    Count,
    Datatype,
    Expression,
    Facet,
    Named,
    Not,
    OneOf,
    Or,
    Role,
    Self,
    Some,
    complement,
)
from neurosym.knowledge.vocabulary import Unreadable
from neurosym.logic import Atom, Comparison, Condition, Negation, Operand, Term, number
from neurosym.logic import Count as Counted

_ANYTHING = Term("_")
_OBJECTS, _VALUES = ("X", "Y", "Z", "U", "T"), ("V", "W")
_HOLDS: Final = {"<": operator.lt, "=<": operator.le, ">": operator.gt, ">=": operator.ge}
_MOST = 64
Table = Mapping[Term, Term]


class Clause(NamedTuple):
    """A rule without weight, name and place."""

    head: tuple[Atom, ...]
    body: tuple[Atom, ...]
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class _Case:
    """One way for an expression to hold: atoms, conditions, variables that must be one constant.

    `anchors` are atoms that the conditions imply; they are only written where nothing else binds the object.
    """

    atoms: tuple[Atom, ...] = ()
    conditions: tuple[Condition, ...] = ()
    equal: dict[Term, Term] = field(default_factory=dict)
    anchors: tuple[Atom, ...] = ()

    @property
    def rests_on_absence(self) -> bool:
        return any(isinstance(c, Negation) or (c.counts and c.operator == "<") for c in self.conditions)

    def joined(self, other: _Case) -> _Case | None:
        """Both; None if they want one variable to be two constants (different names are different individuals)."""
        if any(self.equal.get(v, c) != c for v, c in other.equal.items()):
            return None
        return _Case(
            self.atoms + other.atoms,
            self.conditions + other.conditions,
            self.equal | other.equal,
            self.anchors + other.anchors,
        )


def inclusion(sub: Expression, sup: Expression) -> list[Clause]:
    """The clauses that say `sub ⊑ sup`; none if it holds anyway.

    Raises:
        Unreadable: no set of clauses says it; the reason is a plain clause.
    """
    t = _Translator()
    x = t.object()
    return [clause for case in t.holds(sub, x) for clause in t.implied(case, sup, x)]


def key(e: Expression, roles: Iterable[Role]) -> list[Clause]:
    """Two instances of `e` that share a value of every role are one."""
    t = _Translator()
    x, y = t.object(), t.object()
    shared = [(role, t.of(role)) for role in roles]
    same = _Case(tuple(role.atom(t_, v) for role, v in shared for t_ in (x, y)))
    cases = _joined([t.holds(e, x), t.holds(e, y), [same]])
    return [clause for case in cases for clause in t.written((Atom("=", (x, y)),), case)]


def _joined(alternatives: Iterable[list[_Case]]) -> list[_Case]:
    """Every choice of one case from each list, joined."""
    found = [_Case()]
    for cases in alternatives:
        found = [both for a, b in product(found, cases) if (both := a.joined(b)) is not None]
        if len(found) > _MOST:
            raise Unreadable(f"its disjunctions make more than {_MOST} rules")
    return found


class _Translator:
    """Works on one inclusion: hands out variables and remembers what each of them is for."""

    def __init__(self) -> None:
        self._count = 0
        self.values: set[Term] = set()
        self.local: set[Term] = {_ANYTHING}
        self.witnesses: set[Term] = set()

    def object(self) -> Term:
        self._count += 1
        return Term(f"O{self._count}")

    def of(self, role: Role) -> Term:
        """A new variable for what a role leads to."""
        variable = self.object()
        if role.datatype:
            self.values.add(variable)
        return variable

    def holds(self, e: Expression, x: Term) -> list[_Case]:
        """The cases in which `e` holds of x."""
        match e:
            case And(parts):
                return _joined(self.holds(p, x) for p in parts)
            case Or(parts):
                return [case for p in parts for case in self.holds(p, x)]
            case Named(name):
                return [_Case((Atom(name, (x,)),))]
            case Self(role):
                return [_Case((role.atom(x, x),))]
            case OneOf(members):
                return [_Case(equal={x: m}) for m in members]
            case Facet(op, value):
                return [_Case(conditions=(Comparison(op, x, value),))]
            case Datatype(_, is_all):
                return [_Case()] if is_all else []
            case Some(role, filler):
                return self._led_to(role, filler, x, self.of(role))
            case All(role, filler):
                return [_Case(conditions=self._none(role, complement(filler), x))]
            case Count():
                return self._counted(e, x)
            case Not(part):
                return self._negated(part, x)

    def _led_to(self, role: Role, filler: Expression, x: Term, y: Term) -> list[_Case]:
        return _joined([[_Case((role.atom(x, y),))], self.holds(filler, y)])

    def _negated(self, e: Expression, x: Term) -> list[_Case]:
        match e:
            case Named(name):
                return [_Case(conditions=(Negation(Atom(name, (x,))),))]
            case Self(role):
                return [_Case(conditions=(Negation(role.atom(x, x)),))]
            case OneOf(members):
                return [_Case(conditions=tuple(Comparison(r"\=", x, m) for m in members))]
        return self.holds(complement(e), x)

    def _none(self, role: Role, filler: Expression, x: Term) -> tuple[Condition, ...]:
        """That x has no role successor in the filler."""
        y = self.of(role)
        self.local.add(y)
        found: list[Condition] = []
        for case in self._led_to(role, filler, x, y):
            atoms = tuple(_atom(a, case.equal) for a in case.atoms)
            inner = {v for a in atoms for v in a.variables} - {x}
            if len(atoms) == 1 and not case.conditions:
                found.append(Negation(_atom(atoms[0], dict.fromkeys(inner, _ANYTHING))))
            else:
                found.append(Comparison("<", self._count_of(case, y), number(1)))
        return tuple(found)

    def _count_of(self, case: _Case, y: Term) -> Counted:
        if any(c.counts for c in case.conditions if isinstance(c, Comparison)):
            raise Unreadable("it counts within a count")
        if y in case.equal:
            raise Unreadable("it counts individuals that it names")
        atoms = tuple(dict.fromkeys(_atom(a, case.equal) for a in case.atoms))
        self.local.update(v for a in atoms[1:] for v in a.variables)
        return Counted((y,), atoms, tuple(_condition(c, case.equal) for c in case.conditions))

    def _counted(self, e: Count, x: Term) -> list[_Case]:
        n, role, filler = e.number, e.role, e.filler
        if e.word == "exactly":
            return _joined(self.holds(Count(word, n, role, filler), x) for word in ("min", "max"))
        if e.word == "max" and n == 0:
            return self.holds(All(role, complement(filler)), x)
        if e.word == "min" and n < 2:
            return self.holds(Some(role, filler), x) if n else [_Case()]
        y = self.of(role)
        cases = self._led_to(role, filler, x, y)
        if len(cases) != 1:
            if not cases:  # nothing can be counted
                return [_Case()] if e.word == "max" else []
            raise Unreadable("it counts what is one thing or another")
        self.local.add(y)
        count = self._count_of(cases[0], y)
        if e.word == "max":
            return [_Case(conditions=(Comparison("<", count, number(n + 1)),))]
        return [_Case(conditions=(Comparison(">", count, number(n - 1)),), anchors=(role.atom(x, self.of(role)),))]

    def implied(self, case: _Case, e: Expression, x: Term) -> Iterator[Clause]:
        """The clauses that say: where the case holds, `e` holds of x."""
        if isinstance(e, And):
            for part in e.parts:
                yield from self.implied(case, part, x)
        elif isinstance(e, All):
            y = self.of(e.role)
            further = case.joined(_Case((e.role.atom(x, y),)))
            assert further is not None  # it makes no variable a constant
            yield from self.implied(further, e.filler, y)
        elif isinstance(e, Count) and e.word == "exactly":
            for word in ("min", "max"):
                yield from self.implied(case, Count(word, e.number, e.role, e.filler), x)
        elif isinstance(e, Count) and e.word == "min" and e.number == 1:
            yield from self.implied(case, Some(e.role, e.filler), x)
        elif isinstance(e, Or) and len(e.parts) == 1:
            yield from self.implied(case, e.parts[0], x)
        elif isinstance(e, Or) and any(isinstance(p, Not) for p in e.parts):
            yield from self._implication(case, e, x)
        elif case.rests_on_absence:
            yield from self._denied(case, e, x)
        elif isinstance(e, Count) and e.word == "max" and e.number == 1:
            yield from self._at_most_one(case, e, x)
        else:
            head = self._head(e, x)
            if head is None:
                yield from self._denied(case, e, x)
            elif head:
                yield from self.written(head, case)

    def _implication(self, case: _Case, e: Or, x: Term) -> Iterator[Clause]:
        """`¬a ⊔ b` is read as: if a then b."""
        given = And(tuple(p.part for p in e.parts if isinstance(p, Not)))
        rest = tuple(p for p in e.parts if not isinstance(p, Not))
        for further in _joined([[case], self.holds(given, x)]):
            yield from self.implied(further, rest[0] if len(rest) == 1 else Or(rest), x)

    def _denied(self, case: _Case, e: Expression, x: Term) -> Iterator[Clause]:
        for whole in _joined([[case], self.holds(complement(e), x)]):
            yield from self.written((), whole)

    def _at_most_one(self, case: _Case, e: Count, x: Term) -> Iterator[Clause]:
        y, z = self.of(e.role), self.of(e.role)
        both = [self._led_to(e.role, e.filler, x, v) for v in (y, z)]
        if any(len(cases) != 1 or cases[0].equal or cases[0].rests_on_absence for cases in both):
            yield from self._denied(case, e, x)
            return
        for whole in _joined([[case], *both]):
            if e.role.datatype:
                differ = _Case(conditions=(Comparison(r"\=", y, z),))
                yield from self.written((), _joined([[whole], [differ]])[0])
            else:
                yield from self.written((Atom("=", (y, z)),), whole)

    def _head(self, e: Expression, x: Term) -> tuple[Atom, ...] | None:
        """The atoms that make `e` hold of x, with new witnesses; None if atoms cannot say it."""
        match e:
            case Named(name):
                return (Atom(name, (x,)),)
            case Self(role):
                return (role.atom(x, x),)
            case Datatype(_, True):
                return ()
            case Some(role, OneOf((member,))):
                return (role.atom(x, member),)
            case Some(role, filler) | Count("min", 1, role, filler):
                y = self.of(role)
                rest = self._head(filler, y)
                self.witnesses.add(y)
                return None if rest is None else (role.atom(x, y), *rest)
            case And(parts):
                found = [self._head(p, x) for p in parts]
                return None if None in found else tuple(a for atoms in found if atoms for a in atoms)
        return None

    def written(self, head: tuple[Atom, ...], case: _Case) -> Iterator[Clause]:
        """The finished clause, if it says anything at all.

        Raises:
            Unreadable: an object is bound by nothing, or the clause is a plain contradiction.
        """
        table = case.equal
        body = tuple(dict.fromkeys(_atom(a, table) for a in case.atoms))
        conditions = tuple(dict.fromkeys(_condition(c, table) for c in case.conditions))
        head = tuple(dict.fromkeys(_atom(a, table) for a in head))
        decided = [_decided(c) for c in conditions]
        never = any(isinstance(c, Negation) and c.atom in body for c in conditions)
        if never or False in decided or (head and all(a in body or _is_same(a) for a in head)):
            return
        conditions = tuple(c for c, known in zip(conditions, decided, strict=True) if known is None)
        needed = {v for part in (*head, *conditions) for v in part.variables} - self.local - self.witnesses
        if not needed <= {v for a in body for v in a.variables}:
            body += tuple(dict.fromkeys(_atom(a, table) for a in case.anchors))
        if not needed <= {v for a in body for v in a.variables}:
            raise Unreadable("it is about everything there is: no class and no relation binds its object")
        if not (head or body or conditions):
            raise Unreadable("it can never hold")
        yield self._renamed(Clause(head, body, conditions))

    def _renamed(self, clause: Clause) -> Clause:
        """The same clause with X, Y, Z … for objects and V, W … for values, in the order of the text."""
        order = dict.fromkeys(v for part in (*clause.body, *clause.conditions, *clause.head) for v in part.variables)
        table: dict[Term, Term] = {_ANYTHING: _ANYTHING}
        for pool, variables in (
            (_VALUES, [v for v in order if v in self.values]),
            (_OBJECTS, [v for v in order if v not in self.values and v != _ANYTHING]),
        ):
            for i, v in enumerate(variables):
                table[v] = Term(pool[i] if i < len(pool) else f"{pool[0]}{i}")
        return Clause(
            tuple(_atom(a, table) for a in clause.head),
            tuple(_atom(a, table) for a in clause.body),
            tuple(_condition(c, table) for c in clause.conditions),
        )


def _is_same(atom: Atom) -> bool:
    return atom.predicate == "=" and atom.args[0] == atom.args[1]


def _decided(c: Condition) -> bool | None:
    """Whether a comparison of constants holds; None for any other condition."""
    if not isinstance(c, Comparison) or not isinstance(c.left, Term) or not isinstance(c.right, Term):
        return None
    if c.left.is_variable or c.right.is_variable:
        return None
    if c.operator == r"\=":
        return c.left != c.right
    return bool(_HOLDS[c.operator](c.left.value, c.right.value))


def _atom(atom: Atom, table: Table) -> Atom:
    return Atom(atom.predicate, tuple(table.get(t, t) for t in atom.args)) if table else atom


def _condition(c: Condition, table: Table) -> Condition:
    if isinstance(c, Negation):
        return Negation(_atom(c.atom, table))
    return Comparison(c.operator, _operand(c.left, table), _operand(c.right, table))


def _operand(o: Operand, table: Table) -> Operand:
    if isinstance(o, Term):
        return table.get(o, o)
    if isinstance(o, Counted):
        atoms = tuple(_atom(a, table) for a in o.body)
        inner = tuple(c for each in o.conditions if (c := _condition(each, table)))
        return Counted(tuple(table.get(t, t) for t in o.terms), atoms, inner)
    return o
