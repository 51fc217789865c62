"""Rules with bodies of any shape, drawn; and evaluated a second time: all assignments, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

from hypothesis import strategies as st

from neurosym.induction.kg.store import TripleStore
from neurosym.logic import Atom, Comparison, Negation, Rule, Term

Triple = tuple[str, str, str]
Counted = tuple[int, int, int, int]


def bindings(rule: Rule, facts: set[Triple], distinct: bool = True) -> tuple[list[str], set[tuple[str, ...]]]:
    """The head's variables that the body has, and what they are bound to where it holds."""
    head = rule.head[0]
    inner = sorted({v.name for part in (*rule.body, *rule.conditions) for v in part.variables if v.name != "_"})
    constants = {t.name for atom in rule.atoms for t in atom.args if not t.is_variable}
    entities = sorted({e for s, _, o in facts for e in (s, o)})
    ends = [t.name for t in head.args if t.is_variable and t.name in inner]
    found: set[tuple[str, ...]] = set()
    others = [e for e in entities if e not in constants]
    for values in permutations(others, len(inner)) if distinct else product(entities, repeat=len(inner)):
        theta = dict(zip(inner, values, strict=True))
        if all(_holds(part, theta, facts) for part in (*rule.body, *rule.conditions)):
            found.add(tuple(theta[e] for e in ends))
    return ends, found


def counts(rule: Rule, facts: set[Triple], distinct: bool = True) -> Counted:
    """(support, body size, bindings whose subject has a fact of the head's relation, whose object has one)."""
    ends, found = bindings(rule, facts, distinct)
    head, entities = rule.head[0], sorted({e for s, _, o in facts for e in (s, o)})
    support = subjects = objects = 0
    for binding in found:
        theta = dict(zip(ends, binding, strict=True))
        ranges = [[theta.get(t.name, t.name)] if t.name in theta or not t.is_variable else entities for t in head.args]
        support += any((s, head.predicate, o) in facts for s, o in product(*ranges))
        subjects += any((s, head.predicate, o) in facts for s, o in product(ranges[0], entities))
        objects += any((s, head.predicate, o) in facts for s, o in product(entities, ranges[1]))
    return support, len(found), subjects, objects


def said(rule: Rule, facts: set[Triple], distinct: bool = True) -> set[Triple]:
    """The facts that a rule predicts, known or not."""
    ends, found = bindings(rule, facts, distinct)
    thetas = [dict(zip(ends, binding, strict=True)) for binding in found]
    s, o = rule.head[0].args
    return {(theta.get(s.name, s.name), rule.head[0].predicate, theta.get(o.name, o.name)) for theta in thetas}


def _holds(part: Atom | Negation | Comparison, theta: dict[str, str], facts: set[Triple]) -> bool:
    if isinstance(part, Negation):
        return not _holds(part.atom, theta, facts)
    if isinstance(part, Comparison):
        left, right = (theta[t.name] for t in part.variables)
        return left != right if part.operator == "\\=" else float(left) < float(right)
    s, o = (None if t.name == "_" else theta[t.name] if t.is_variable else t.name for t in part.args)
    if s is not None and o is not None:
        return (s, part.predicate, o) in facts
    return any(s in (None, a) and o in (None, b) and r == part.predicate for a, r, b in facts)


def names_known(store: TripleStore, rule: Rule) -> bool:
    """Whether the graph has the entities and relations that the rule names."""
    names = {t.name for atom in rule.atoms for t in atom.args if not t.is_variable}
    known = all(store.entities.number(n) >= 0 for n in names)
    return known and all(store.relations.number(a.predicate) >= 0 for a in rule.atoms)


def rules(entities: Sequence[str], relations: str, atoms: int = 3, conditions: int = 1) -> st.SearchStrategy[Rule]:
    """Connected rules of so many literals: trees, cycles, loops, constants, negation, comparison, existential heads."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Rule:
        variables, body = ["X"], []
        for i in range(draw(st.integers(1, atoms))):
            u = draw(st.sampled_from(variables))
            new = f"Z{i}"
            other = draw(st.sampled_from([*variables, new, new, new, *entities[:2]]))
            if other == new:
                variables.append(new)
            body.append(_atom(draw, relations, u, other))
        rest: list[Negation | Comparison] = []
        for _ in range(draw(st.integers(0, conditions))):
            u, v = draw(st.sampled_from(variables)), draw(st.sampled_from([*variables, "_", *entities[:2]]))
            kind = draw(st.sampled_from(["not", "not", "\\=", "<"]))
            if kind == "not":
                rest.append(Negation(_atom(draw, relations, u, v)))
            elif v in variables and u != v:
                rest.append(Comparison(kind, Term(u), Term(v)))
        other = draw(st.sampled_from([*(v for v in variables if v != "X"), "V", entities[0], entities[1]]))
        return Rule((_atom(draw, relations, "X", other),), tuple(body), conditions=tuple(rest))

    return drawn()


def _atom(draw: st.DrawFn, relations: str, u: str, v: str) -> Atom:
    args = tuple(Term(t, t[0].isupper() or t == "_") for t in (u, v))
    return Atom(draw(st.sampled_from(relations)), args if draw(st.booleans()) else args[::-1])
