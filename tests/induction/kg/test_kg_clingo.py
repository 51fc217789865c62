"""What the general evaluation counts is what clingo counts, on graphs and bodies too large to try all assignments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import clingo
import plain_bodies
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_rules import Triple, graphs

from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.store import TripleStore
from neurosym.logic import Atom, Comparison, Condition, Negation, Rule, Term

NUMBERS = [str(n) for n in (10, 2, *range(-3, 2), *range(3, 10))]
X, Y, Z, W, ANY, TWO, TEN = (Term(n, n.isupper() or n == "_") for n in ("X", "Y", "Z", "W", "_", "2", "10"))


def counted(rules: Sequence[Rule], facts: Sequence[Triple]) -> list[plain_bodies.Counted]:
    """Of each rule (support, body size, bindings whose subject has a fact of the head, whose object has one)."""
    lines = [f'fact({s}, "{r}", {o}).' for s, r, o in facts]
    lines += [line for number, rule in enumerate(rules) for line in program(number, rule)]
    control = clingo.Control(["--warn=none"])
    control.add("base", [], "\n".join([*lines, "#show count/3."]))
    control.ground([("base", [])])
    with control.solve(yield_=True) as models:
        [shown] = [model.symbols(shown=True) for model in models]
    told = {(s.arguments[0].number, s.arguments[1].name): s.arguments[2].number for s in shown}
    columns = ("support", "size", "subjects", "objects")
    return [tuple(told[number, column] for column in columns) for number in range(len(rules))]


def program(number: int, rule: Rule) -> list[str]:
    """The rule's bindings and four counts of them."""
    literals = [*map(written, (*rule.body, *rule.conditions))]
    bound = {t.name for atom in rule.body for t in atom.args if t.is_variable}
    constants = {t.name for atom in rule.atoms for t in atom.args if not t.is_variable}
    if rule.distinct:
        pairs = combinations(sorted(bound | constants), 2)
        literals += [f"{a} != {b}" for a, b in pairs if bound & {a, b}]
    head = rule.head[0]
    s, o = (t.name if t.name in bound or not t.is_variable else "_" for t in head.args)
    binding = f"binding({number}, {', '.join(t.name for t in head.args if t.name in bound)})"
    values = binding.partition(",")[2][:-1]
    asked = {
        "support": f', fact({s}, "{head.predicate}", {o})',
        "size": "",
        "subjects": f', fact({s}, "{head.predicate}", _)',
        "objects": f', fact(_, "{head.predicate}", {o})',
    }
    counts = [f"count({number}, {c}, N) :- N = #count{{{values} : {binding}{more}}}." for c, more in asked.items()]
    return [f"{binding} :- {', '.join(literals)}.", *counts]


def written(part: Atom | Condition) -> str:
    if isinstance(part, Negation):
        return f"not {written(part.atom)}"
    if isinstance(part, Comparison):
        return f"{part.left} {'<' if part.operator == '<' else '!='} {part.right}"
    return f'fact({part.args[0].name}, "{part.predicate}", {part.args[1].name})'


def check(rules: Sequence[Rule], facts: Sequence[Triple]) -> None:
    store = TripleStore.of(facts)
    evaluators = {distinct: Evaluator(store, distinct) for distinct in (True, False)}
    known = [replace(r, distinct=d) for r in rules if plain_bodies.names_known(store, r) for d in evaluators]
    for rule, right in zip(known, counted(known, facts), strict=True):
        assert tuple(evaluators[rule.distinct].counts(rule)) == right, (str(rule), rule.distinct)


@settings(max_examples=150, deadline=None)
@given(
    graphs(NUMBERS, "pq", most=60),
    st.lists(plain_bodies.rules(NUMBERS, "pq", atoms=4, conditions=2), min_size=3, max_size=6),
)
def test_rules_of_up_to_six_literals_are_counted_as_clingo_counts_them(facts: list[Triple], rules: list[Rule]) -> None:
    check(rules, facts)


def rule(head: tuple[Term, Term], *body: Atom | Negation | Comparison) -> Rule:
    conditions = tuple(part for part in body if not isinstance(part, Atom))
    return Rule((Atom("h", head),), tuple(p for p in body if isinstance(p, Atom)), conditions=conditions)


def p(a: Term, b: Term) -> Atom:
    return Atom("p", (a, b))


def q(a: Term, b: Term) -> Atom:
    return Atom("q", (a, b))


KINDS = {
    "a path": rule((X, Y), p(X, Z), q(Z, Y)),
    "a tree": rule((X, Y), p(X, Z), q(Z, Y), p(Z, W)),
    "a cycle": rule((X, Y), p(X, Y), p(Y, Z), p(Z, X)),
    "a loop": rule((X, Y), p(X, Y), q(X, X)),
    "a constant": rule((X, Y), p(X, Y), q(Y, TWO)),
    "a constant in the head": rule((X, TEN), p(X, Y), q(Y, Z)),
    "a constant for subject": rule((TEN, X), p(Y, X)),
    "an entity that exists": rule((X, W), p(X, Y)),
    "an entity that exists for subject": rule((W, X), p(X, Y)),
    "no such fact": rule((X, Y), p(X, Y), Negation(q(X, Y))),
    "no such fact with a constant": rule((X, Y), p(X, Y), Negation(q(TWO, Y))),
    "no fact at all": rule((X, Y), p(X, Y), Negation(q(Y, ANY))),
    "no fact from anywhere": rule((X, Y), p(X, Z), p(Z, Y), Negation(q(ANY, Z))),
    "no fact at all of a constant": rule((X, Y), p(X, Y), Negation(q(TWO, ANY))),
    "no fact between constants": rule((X, Y), p(X, Y), Negation(q(TWO, TEN))),
    "inequality": rule((X, Y), p(X, Z), p(Z, Y), Comparison("\\=", X, Y)),
    "order": rule((X, Y), p(X, Z), q(Z, Y), Comparison("<", X, Z)),
}


@settings(max_examples=40, deadline=None)
@given(graphs(NUMBERS, "hpq", most=90))
def test_every_kind_of_literal_is_counted_as_clingo_counts_it(facts: list[Triple]) -> None:
    check(list(KINDS.values()), facts)


def test_every_kind_of_literal_says_something_on_some_graph() -> None:
    facts = [(a, r, b) for i, a in enumerate(NUMBERS) for k, r in enumerate("hpq") for b in NUMBERS[i % 3 :: 2 + k]]
    facts = [f for f in facts if f[0] != "2" or f[1] != "q"]
    for kind, counts in zip(KINDS, counted(list(KINDS.values()), facts), strict=True):
        assert counts[0] > 0, kind
