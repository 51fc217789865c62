"""Rules over graphs measured and applied a second time, as plainly as possible: all assignments, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

from hypothesis import strategies as st

from neurosym.records import Atom, Rule, Term

Triple = tuple[str, str, str]
Measures = tuple[int, int]
ENTITIES = "abcde"
RELATIONS = "pq"


def graphs(
    entities: Sequence[str] = ENTITIES, relations: str = RELATIONS, most: int = 14
) -> st.SearchStrategy[list[Triple]]:
    """Small graphs, self-loops included."""
    names = st.sampled_from(entities)
    return st.lists(st.tuples(names, st.sampled_from(relations), names), min_size=1, max_size=most)


def bindings(rule: Rule, facts: set[Triple]) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """(those of the head's variables for which body and head hold, for which the body holds).

    Distinct variables bind distinct entities, none of them a constant of the rule.
    """
    terms = [t for atom in (*rule.head, *rule.body) for t in atom.args]
    variables = sorted({t.name for t in terms if t.is_variable})
    constants = {t.name for t in terms if not t.is_variable}
    entities = sorted({e for s, _, o in facts for e in (s, o)} - constants)
    both, body = set(), set()
    for values in permutations(entities, len(variables)):
        theta = dict(zip(variables, values, strict=True))

        def holds(atom: Atom, theta: dict[str, str] = theta) -> bool:
            s, o = (theta[t.name] if t.is_variable else t.name for t in atom.args)
            return (s, atom.predicate, o) in facts

        if all(map(holds, rule.body)):
            key = tuple(theta[t.name] for t in rule.head[0].args if t.is_variable)
            body.add(key)
            if holds(rule.head[0]):
                both.add(key)
    return both, body


def measures(rule: Rule, facts: set[Triple]) -> Measures:
    """(support, body size)."""
    both, body = bindings(rule, facts)
    return len(both), len(body)


def path_rules(longest: int) -> list[Rule]:
    """Every rule whose body is a path, each once or, with its body read backwards, twice."""
    found = []
    for length in range(1, longest + 1):
        stops = [Term("X"), *(Term(f"Z{i}") for i in range(length - 1)), Term("Y")]
        for head in RELATIONS:
            for steps in product(product(RELATIONS, (False, True)), repeat=length):
                body = tuple(
                    Atom(r, (stops[i + 1], stops[i]) if back else (stops[i], stops[i + 1]))
                    for i, (r, back) in enumerate(steps)
                )
                rule = Rule((Atom(head, (stops[0], stops[-1])),), body)
                if body != rule.head:
                    found.append(rule)
    return found


def constant_rules(entities: str) -> list[Rule]:
    """Every rule with a constant in the head and one body atom."""
    x = Term("X")

    def atom(relation: str, other: Term, back: bool) -> Atom:
        return Atom(relation, (other, x) if back else (x, other))

    found = []
    for head, back, c in product(RELATIONS, (False, True), entities):
        top = atom(head, Term(c, is_variable=False), back)
        for relation, turned in product(RELATIONS, (False, True)):
            for other in (Term("Z"), *(Term(e, is_variable=False) for e in entities)):
                body = atom(relation, other, turned)
                if body != top:
                    found.append(Rule((top,), (body,)))
    return found


def same(rule: Rule) -> str:
    """A spelling that does not depend on the names of variables, on which of the two ends is X, or on the order of atoms."""
    ends = [t.name for t in rule.head[0].args if t.is_variable]
    inner = sorted({t.name for a in rule.body for t in a.args if t.is_variable} - set(ends))
    spellings = []
    for order in permutations(range(len(inner))):
        new = {n: f"Z{i}" for n, i in zip(inner, order, strict=True)} | {e: f"X{i}" for i, e in enumerate(ends)}

        def spell(atom: Atom, new: dict[str, str] = new) -> str:
            return f"{atom.predicate}({','.join(new[t.name] if t.is_variable else '!' + t.name for t in atom.args)})"

        spellings.append(spell(rule.head[0]) + " <- " + " & ".join(sorted(map(spell, rule.body))))
    return min(spellings)
