"""OWL 2 axioms and rules in one finite interpretation, each by its definition.

`axiom_holds` follows the direct semantics of OWL 2 (https://www.w3.org/TR/owl2-direct-semantics/) over expressions written as
tuples, ``("some", role, filler)``; `rule_holds` tries every assignment. The two share no code with each other or the package.
Individuals are the elements of their own name, so different names are different things.
"""

from __future__ import annotations

import itertools
import operator
from dataclasses import dataclass
from typing import Any

from neurosym.logic import Atom, Comparison, Condition, Count, Negation, Rule, Term

Expression = tuple[Any, ...]
Role = tuple[str, bool]
COMPARE = {"<": operator.lt, "=<": operator.le, ">": operator.gt, ">=": operator.ge, r"\=": operator.ne}
FACETS = {
    "minInclusive": operator.ge,
    "maxInclusive": operator.le,
    "minExclusive": operator.gt,
    "maxExclusive": operator.lt,
}


@dataclass(frozen=True)
class Interpretation:
    """The extension of every class and of every property; the values of data properties are numbers."""

    domain: tuple[str, ...]
    classes: dict[str, frozenset[str]]
    objects: dict[str, frozenset[tuple[str, str]]]
    data: dict[str, frozenset[tuple[str, int]]]


def role_pairs(role: Role, i: Interpretation) -> set[tuple[Any, Any]]:
    name, inverse = role
    pairs = i.objects[name] if name in i.objects else i.data[name]
    return {(b, a) if inverse else (a, b) for a, b in pairs}


def in_range(value: int, e: Expression) -> bool:
    match e:
        case ("integer",):
            return True
        case ("values", values):
            return value in values
        case ("facet", word, bound):
            return bool(FACETS[word](value, bound))
        case ("and", parts):
            return all(in_range(value, p) for p in parts)
        case ("or", parts):
            return any(in_range(value, p) for p in parts)
        case ("not", part):
            return not in_range(value, part)
    raise AssertionError(e)


def extension(e: Expression, i: Interpretation) -> set[str]:
    """The elements of the domain that an expression stands for."""
    everything = set(i.domain)
    match e:
        case ("class", name):
            return set(i.classes[name])
        case ("thing",):
            return everything
        case ("nothing",):
            return set()
        case ("and", parts):
            return set.intersection(*(extension(p, i) for p in parts))
        case ("or", parts):
            return set.union(*(extension(p, i) for p in parts))
        case ("not", part):
            return everything - extension(part, i)
        case ("one of", members):
            return set(members)
        case ("self", role):
            return {a for a, b in role_pairs(role, i) if a == b}
        case ("value", role, value):
            return {a for a, b in role_pairs(role, i) if b == value}
    word, number, role, filler = e if len(e) == 4 else (e[0], 0, *e[1:])
    if role[0] in i.data:
        led = {x: {b for a, b in role_pairs(role, i) if a == x and in_range(b, filler)} for x in i.domain}
    else:
        inside = extension(filler, i)
        led = {x: {b for a, b in role_pairs(role, i) if a == x and b in inside} for x in i.domain}
    total = {x: {b for a, b in role_pairs(role, i) if a == x} for x in i.domain}
    tests = {
        "some": lambda x: bool(led[x]),
        "only": lambda x: led[x] == total[x],
        "min": lambda x: len(led[x]) >= number,
        "max": lambda x: len(led[x]) <= number,
        "exactly": lambda x: len(led[x]) == number,
    }
    return {x for x in i.domain if tests[word](x)}


def axiom_holds(axiom: Expression, i: Interpretation) -> bool:
    match axiom:
        case ("SubClassOf", sub, sup):
            return extension(sub, i) <= extension(sup, i)
        case ("EquivalentClasses", a, b):
            return extension(a, i) == extension(b, i)
        case ("DisjointClasses", parts):
            return all(not extension(a, i) & extension(b, i) for a, b in itertools.combinations(parts, 2))
        case ("DisjointUnion", name, parts):
            whole = extension(("class", name), i) == set.union(*(extension(p, i) for p in parts))
            return whole and axiom_holds(("DisjointClasses", parts), i)
        case ("Domain", role, e):
            return {a for a, _ in role_pairs(role, i)} <= extension(e, i)
        case ("Range", (name, _) as role, e) if name in i.data:
            return all(in_range(v, e) for _, v in role_pairs(role, i))
        case ("Range", role, e):
            return {b for _, b in role_pairs(role, i)} <= extension(e, i)
        case ("SubProperty", a, b):
            return role_pairs(a, i) <= role_pairs(b, i)
        case ("EquivalentProperties", a, b):
            return role_pairs(a, i) == role_pairs(b, i)
        case ("InverseProperties", a, b):
            return role_pairs(a, i) == {(y, x) for x, y in role_pairs(b, i)}
        case ("DisjointProperties", a, b):
            return not role_pairs(a, i) & role_pairs(b, i)
        case ("Chain", links, whole):
            reached = {(x, x) for x in i.domain}
            for link in links:
                reached = {(x, z) for x, y in reached for y2, z in role_pairs(link, i) if y == y2}
            return reached <= role_pairs(whole, i)
        case ("HasKey", e, roles):
            inside = extension(e, i)
            same = [{x: {b for a, b in role_pairs(r, i) if a == x} for x in i.domain} for r in roles]
            return not any(all(s[x] & s[y] for s in same) for x, y in itertools.combinations(sorted(inside), 2))
        case ("ClassAssertion", who, e):
            return who in extension(e, i)
        case ("PropertyAssertion", role, a, b):
            return (a, b) in role_pairs(role, i)
        case ("NegativeAssertion", role, a, b):
            return (a, b) not in role_pairs(role, i)
    kind, role = axiom
    pairs = role_pairs(role, i)
    led = [{b for a, b in pairs if a == x} for x in i.domain]
    back = [{a for a, b in pairs if b == x} for x in i.domain]
    return {
        "Functional": all(len(s) <= 1 for s in led),
        "InverseFunctional": all(len(s) <= 1 for s in back),
        "Symmetric": all((b, a) in pairs for a, b in pairs),
        "Asymmetric": all((b, a) not in pairs for a, b in pairs),
        "Transitive": all((a, d) in pairs for a, b in pairs for c, d in pairs if b == c),
        "Irreflexive": all(a != b for a, b in pairs),
        "Reflexive": all((x, x) in pairs for x in i.domain),
    }[kind]


Bound = dict[Term, Any]


def _value(t: Term, bound: Bound) -> Any:
    return bound[t] if t.is_variable else t.value


def _true(atom: Atom, bound: Bound, i: Interpretation) -> bool:
    values = tuple(_value(t, bound) for t in atom.args)
    if atom.predicate == "=":
        return bool(values[0] == values[1])
    if len(values) == 1:
        return values[0] in i.classes[atom.predicate]
    return values in (i.objects[atom.predicate] if atom.predicate in i.objects else i.data[atom.predicate])


def _everything(i: Interpretation) -> list[Any]:
    return [*i.domain, *sorted({v for pairs in i.data.values() for _, v in pairs})]


def _assignments(atoms: tuple[Atom, ...], bound: Bound, i: Interpretation) -> list[Bound]:
    """Every way to give the atoms' free variables a value so that all of them are true."""
    found = [bound]
    for atom in atoms:
        following = []
        for b in found:
            free = [v for v in dict.fromkeys(atom.variables) if v not in b]
            for values in itertools.product(_everything(i), repeat=len(free)):
                extended = {**b, **dict(zip(free, values, strict=True))}
                if _true(atom, extended, i):
                    following.append(extended)
        found = following
    return found


def _condition(c: Condition, bound: Bound, i: Interpretation) -> bool:
    if isinstance(c, Negation):
        fresh = tuple(Term(f"_{n}") if t == Term("_") else t for n, t in enumerate(c.atom.args))
        assert all(t in bound or t.name.startswith("_") for t in fresh if t.is_variable), "unsafe negation"
        return not _assignments((Atom(c.atom.predicate, fresh),), bound, i)
    assert isinstance(c, Comparison)
    left, right = (_side(s, bound, i) for s in (c.left, c.right))
    return bool(COMPARE[c.operator](left, right))


def _side(side: Any, bound: Bound, i: Interpretation) -> Any:
    if isinstance(side, Count):
        found = _assignments(side.body, bound, i)
        kept = [b for b in found if all(_condition(c, b, i) for c in side.conditions)]
        return len({tuple(_value(t, b) for t in side.terms) for b in kept})
    return _value(side, bound)


def rule_holds(rule: Rule, i: Interpretation) -> bool:
    """Whether a rule is true, read as ordinary first-order logic with the closed world of the interpretation."""
    assert not rule.distinct
    for bound in _assignments(rule.body, {}, i):
        if not all(_condition(c, bound, i) for c in rule.conditions):
            continue
        if not rule.head or not _assignments(rule.head, bound, i):
            return False
    return True
