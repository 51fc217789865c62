"""The general evaluation against all assignments one by one, and the best literal against all literals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import plain_bodies
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plain_rules import Triple, graphs

from neurosym.induction.kg.applied import EVERY, answers, arrange, workplace_for
from neurosym.induction.kg.archive import pair_rows, set_rows
from neurosym.induction.kg.assembly import columns
from neurosym.induction.kg.bodies import (
    Literal,
    canonical,
    canonical_pair,
    chain,
    constant,
    is_pair,
    numbered,
)
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.island import Kept
from neurosym.induction.kg.paths import Thresholds
from neurosym.induction.kg.refinement import Refiner
from neurosym.induction.kg.rules import ConstantRules, PathRules, RuleColumns
from neurosym.induction.kg.store import TripleStore
from neurosym.induction.scores import wilson
from neurosym.logic import Rule

DIGITS = "12345"
ANY = Thresholds(support=1, smoothed=0.0)
NO_PATHS = PathRules(np.zeros(0, np.int32), np.zeros((0, 1), np.int32), *np.zeros((2, 0), np.int32))
NO_CONSTANTS = ConstantRules(*np.zeros((4, 0), np.int32))


@settings(max_examples=400, deadline=None)
@given(graphs(DIGITS, "pq"), plain_bodies.rules(DIGITS, "pq"), st.booleans())
def test_every_rule_is_measured_as_by_all_assignments(triples: list[Triple], rule: Rule, distinct: bool) -> None:
    store = TripleStore.of(triples)
    assume(plain_bodies.names_known(store, rule))
    rule = replace(rule, distinct=distinct)
    found = Evaluator(store, distinct).counts(rule)
    assert tuple(found) == plain_bodies.counts(rule, set(triples), distinct), str(rule)


@settings(max_examples=150, deadline=None)
@given(graphs(DIGITS, "pq"), st.lists(plain_bodies.rules(DIGITS, "pq"), min_size=1, max_size=4), st.booleans())
def test_rules_of_any_shape_are_found_for_all_heads_and_say_what_all_assignments_say(
    triples: list[Triple], drawn: list[Rule], distinct: bool
) -> None:
    facts, store = set(triples), TripleStore.of(triples)
    bodies = [
        numbered(store, replace(rule, distinct=distinct))[1] for rule in drawn if plain_bodies.names_known(store, rule)
    ]
    least = [canonical_pair(body)[0] if is_pair(body) else canonical(body) for body in bodies]
    evaluator, kept = Evaluator(store, distinct), []
    for body in sorted(set(least)):
        if is_pair(body):
            pairs = evaluator.pairs(body)
            rows = [] if pairs is None else pair_rows(pairs, ANY)
        else:
            members = evaluator.members(body)
            rows = [] if members is None else set_rows(members, store, ANY)
        kept += [Kept(body, *row) for row in rows]
    rules = columns(evaluator, RuleColumns(NO_PATHS, NO_CONSTANTS), kept)
    told = [rules.rule(store, i) for i in range(len(rules))]
    for rule, support, size in zip(told, rules.support, rules.size, strict=True):
        assert (support, size) == plain_bodies.counts(rule, facts, distinct)[:2], str(rule)
    said = [plain_bodies.said(rule, facts, distinct) for rule in told]
    applied, hits = arrange(store, rules), np.empty((4096, 2), np.int32)
    for h in range(store.directions):
        for x in range(len(store.entities)):
            n = answers(store.csr, applied, x, h, workplace_for(len(store.entities)), hits, EVERY)
            found = {(int(r), store.entities[int(y)]) for r, y in hits[:n]}
            name, relation = store.entities[x], store.relations[h >> 1]
            right = {
                (i, o if h & 1 == 0 else s)
                for i, own in enumerate(said)
                for s, r, o in own
                if r == relation and (o if h & 1 else s) == name
            }
            assert found == right


def test_the_literal_that_gains_most_is_the_best_of_all_literals_measured_one_by_one() -> None:
    rng = np.random.default_rng(3)
    p, q = (sorted({(int(a), int(b)) for a, b in rng.integers(0, 20, size=(60, 2)) if a != b}) for _ in "pq")
    heads = {(x, y) for x, z in p for w, y in q if z == w and x != y and (x % 5 < 2 or (x + y) % 7 == 0)}
    facts = [(f"e{a}", name, f"e{b}") for name, pairs in (("p", p), ("q", q), ("r", sorted(heads))) for a, b in pairs]
    facts += [(f"e{x}", "is", f"kind{x % 5}") for x in range(20)]
    store = TripleStore.of(facts)
    evaluator = Evaluator(store)
    body = (Literal(store.relation("p"), 0, 2), Literal(store.relation("q"), 2, 1))
    head = 2 * store.relation("r")
    whole = evaluator.pairs(canonical_pair(body)[0])
    assert whole is not None

    def gain(literal: Literal) -> float:
        least, back = canonical_pair((*body, literal))
        found = evaluator.pairs(least)
        if found is None or not found.size:
            return 0.0
        support = found.support[head ^ back]
        confidence = np.array([support / found.size])
        return float(support * (wilson(confidence, np.array([float(found.size)]))[0] - plain))

    _, back = canonical_pair(body)
    plain = whole.support[head ^ back] / whole.size
    # a constant among what the body binds would not be counted alike, so only properties of which it binds nothing
    apart = [store.entities.number(f"kind{b}") for b in range(5)]
    literals = [
        Literal(r, *((0, constant(e)) if forwards else (constant(e), 0)), negated)
        for r in range(len(store.relations))
        for e in apart
        for forwards in (True, False)
        for negated in (True, False)
    ]
    found = [b[-1] for b in Refiner(evaluator).best(body, head, -1, 10**6)]
    right = sorted((p for p in literals if gain(p) > 1e-9), key=lambda p: -gain(p))
    own = [p for p in found if constant(min(p.a, p.b)) in apart]
    assert len(right) > 2
    assert [round(gain(p), 9) for p in own] == [round(gain(p), 9) for p in right]


@pytest.mark.parametrize("kept", [True, False])
def test_what_the_entity_half_way_must_be_or_must_not_have_is_found_at_once(kept: bool) -> None:
    rng = np.random.default_rng(0)
    a, b = (set(map(tuple, rng.integers(40, size=(90, 2)).tolist())) for _ in range(2))
    good = set(range(0, 40, 4))
    facts = [(f"x{x}", "a", f"z{z}") for x, z in a] + [(f"z{z}", "b", f"y{y}") for z, y in b]
    facts += [(f"z{z}", "kind", "good" if z in good else f"k{z % 4}") for z in range(40)]
    facts += [(f"z{z}", "state", f"s{z % 3}") for z in range(40) if z % 3]
    heads = {(x, y) for x, z in a for w, y in b if z == w and (z in good if kept else z % 3 == 0)}
    store = TripleStore.of(sorted({*facts, *((f"x{x}", "h", f"y{y}") for x, y in heads)}))
    body = chain((2 * store.relation("a"), 2 * store.relation("b")), 1)
    found = Refiner(Evaluator(store)).all(body, 2 * store.relation("h"), -1, 3)
    half_way = [other for other in found if set(other[-1].variables) & {2} and not set(other[-1].variables) & {0, 1}]
    good_one = Literal(store.relation("kind"), 2, constant(store.entities.number("good")))
    assert half_way[0][-1] == (good_one if kept else Literal(store.relation("state"), 2, 3, True))


def test_what_the_entity_beyond_must_be_is_found_at_once_for_a_head_with_a_constant() -> None:
    rng = np.random.default_rng(1)
    pairs = set(map(tuple, rng.integers(60, size=(150, 2)).tolist()))
    facts = [(f"x{x}", "a", f"z{z}") for x, z in pairs]
    facts += [(f"z{z}", "kind", "good" if z % 4 == 0 else f"k{z % 4}") for z in range(60)]
    facts += [(f"x{x}", "is", "well") for x in {x for x, z in pairs if z % 4 == 0}]
    facts += [(f"x{x}", "is", "ill") for x in range(0, 60, 3)]
    store = TripleStore.of(sorted(set(facts)))
    body = (Literal(store.relation("a"), 0, 2),)
    found = Refiner(Evaluator(store)).all(body, 2 * store.relation("is"), store.entities.number("well"), 2)
    beyond = [other[-1] for other in found if 0 not in other[-1].variables]
    assert beyond[0] == Literal(store.relation("kind"), 2, constant(store.entities.number("good")))
