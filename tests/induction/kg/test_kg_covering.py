"""What rules save, counted a second time with sets and factorials; and what stands first because of it."""

from __future__ import annotations

import math
from collections import Counter
from graphlib import CycleError, TopologicalSorter

import numpy as np
import plain_bodies
import pytest
from plain_rules import Triple

from neurosym.induction.kg.covering import covering, fact_bits
from neurosym.induction.kg.files import columns_of
from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.store import TripleStore
from neurosym.knowledge.rules import parse_rules
from neurosym.logic import Negation, Rule


def related(seed: int) -> list[Triple]:
    """Of twelve entities `q` and `r` mostly follow from `p`, and `r` from `q` where an entity is of one kind."""
    rng = np.random.default_rng(seed)
    names = [f"e{i}" for i in range(12)]
    p = {(names[a], names[b]) for a, b in rng.integers(12, size=(34, 2)) if a != b}
    q = {(b, a) for a, b in p if rng.random() < 0.8}
    r = {(a, b) for a, b in q if int(a[1:]) % 3 or rng.random() < 0.2}
    noise = {(names[a], names[b]) for a, b in rng.integers(12, size=(4, 2)) if a != b}
    facts = [(s, name, o) for name, pairs in (("p", p), ("q", q | noise), ("r", r | noise)) for s, o in pairs]
    return sorted(facts + [(e, "kind", f"k{int(e[1:]) % 3}") for e in names])


def fact_cost(facts: set[Triple], relation: str) -> float:
    own = [fact for fact in facts if fact[1] == relation]
    entities = {e for s, _, o in facts for e in (s, o)}

    def entropy(ends: list[str]) -> float:
        return -sum(n / len(ends) * math.log2(n / len(ends)) for n in Counter(ends).values())

    ends = min(entropy([s for s, _, _ in own]), entropy([o for _, _, o in own]))
    room = len(entities) * 2**ends
    ways = sum(
        math.log2((room - i) / (len(own) - i)) for i in range(len(own))
    )  # log2 of the binomial, factor by factor
    return max(1.0, ways / len(own))


def name_cost(facts: set[Triple], rule: Rule) -> float:
    atoms = [*rule.head, *rule.body, *(c.atom for c in rule.conditions if isinstance(c, Negation))]
    terms = [t for atom in atoms for t in atom.args]
    variables = {t.name for t in terms if t.is_variable and t.name != "_"}
    symbols = len(variables) + sum(t.name == "_" for t in terms) + 1
    constants = sum(not t.is_variable for t in terms)
    entities = {e for s, _, o in facts for e in (s, o)}
    relations = {r for _, r, _ in facts}
    choices = len(atoms) * (math.log2(len(relations)) + 1) + len(terms) * math.log2(symbols)
    return choices + constants * math.log2(len(entities))


def saved(facts: set[Triple], rule: Rule, new: set[Triple]) -> float:
    held = len(new & facts)
    which = math.log2(len(new) + 1) + math.log2(math.comb(len(new), held))
    return held * fact_cost(facts, rule.head[0].predicate) - which - name_cost(facts, rule)


@pytest.mark.parametrize("seed", range(3))
def test_each_rule_saves_what_the_formula_says_of_what_is_new_in_it_and_the_first_saves_most_for_its_relation(
    seed: int,
) -> None:
    triples = related(seed)
    facts, store = set(triples), TripleStore.of(triples)
    evolution = EvolutionConfig(most=2, islands=1, brood=12, seed=seed)
    config = LearnerConfig(budget=None, generations=3, support=6, evolution=evolution, workers=1, select=False)
    rules = RuleLearner(config).fit(store).rules
    told = [rules.rule(store, i) for i in range(len(rules))]
    predicted = [plain_bodies.said(rule, facts) for rule in told]
    found = covering(store, rules, 9)
    assert 2 <= len(found.rules) < 9
    said: set[Triple] = set()
    needs: set[tuple[str, str]] = set()
    whole = [math.sqrt(facts_of(facts, rule) * fact_cost(facts, rule.head[0].predicate)) for rule in told]
    shares = [saved(facts, rule, own) / w for rule, own, w in zip(told, predicted, whole, strict=True)]
    assert found.bits[0] / whole[found.rules[0]] == pytest.approx(max(shares))
    for i, bits in zip(found.rules, found.bits, strict=True):
        assert bits == pytest.approx(saved(facts, told[i], predicted[i] - said), abs=1e-6)
        said |= predicted[i]
        needs |= rests(told[i])
    assert is_circular(needs) is False
    for rule, own in zip(told, predicted, strict=True):
        assert is_circular(needs | rests(rule)) or saved(facts, rule, own - said) < 1e-6


def facts_of(facts: set[Triple], rule: Rule) -> int:
    return sum(r == rule.head[0].predicate for _, r, _ in facts)


def rests(rule: Rule) -> set[tuple[str, str]]:
    """The head's relation with each other one of the body."""
    head = rule.head[0].predicate
    return {(head, atom.predicate) for atom in rule.atoms if atom.predicate != head}


def is_circular(pairs: set[tuple[str, str]]) -> bool:
    try:
        TopologicalSorter({h: {b for g, b in pairs if g == h} for h, _ in pairs}).prepare()
    except CycleError:
        return True
    return False


def test_of_two_relations_that_say_the_same_one_explains_the_other() -> None:
    facts = [(f"x{i}", r, f"y{i}") for i in range(40) for r in ("p", "q", "r")]
    store = TripleStore.of(facts)
    rules = RuleLearner(LearnerConfig(budget=0.0, select=False)).fit(store).rules
    told = [rules.rule(store, int(i)) for i in covering(store, rules, 10).rules]
    assert len(told) == 2
    assert len({rule.head[0].predicate for rule in told}) == 2


def test_a_rule_stands_above_its_specialisations_and_a_second_spelling_of_it_is_left_out() -> None:
    rng = np.random.default_rng(0)
    pairs = {(int(a), int(b)) for a, b in rng.integers(80, size=(200, 2)) if a != b}
    facts = [(f"e{a}", r, f"e{b}") for a, b in pairs for r in ("cause", "effect")]
    facts = [f for f in facts if f[1] == "cause" or rng.random() < 0.7]
    facts += [(f"e{b}", "back", f"e{a}") for a, b in pairs]
    facts += [(f"e{x}", "kind", f"k{x % 4}") for x in range(80)]
    store = TripleStore.of(facts)
    least = min(
        range(4),
        key=lambda k: sum(
            f[1] == "cause" and int(f[0][1:]) % 4 == k and (f[0], "effect", f[2]) not in facts for f in facts
        ),
    )
    text = f"""
    effect(X, Y) :- cause(X, Y), kind(X, k{least}).
    effect(X, Y) :- cause(X, Y).
    effect(X, Y) :- back(Y, X).
    """
    rules = columns_of(store, parse_rules(text))
    told = [str(rules.rule(store, int(i))).split(" :: ")[1] for i in covering(store, rules, 10).rules]
    assert told in (["effect(X, Y) :- cause(X, Y)."], ["effect(X, Y) :- back(Y, X)."])
    confident = np.argmax(rules.smoothed)
    assert "kind" in str(rules.rule(store, int(confident)))


def test_no_more_rules_are_told_than_are_wanted_and_none_where_there_are_none() -> None:
    facts = [(f"x{i}", r, f"y{i}") for i in range(40) for r in ("p", "q", "r")]
    store = TripleStore.of(facts)
    rules = RuleLearner(LearnerConfig(budget=0.0, select=False)).fit(store).rules
    assert [len(covering(store, rules, most).rules) for most in (0, 1)] == [0, 1]
    assert len(covering(store, columns_of(store, []), 3).rules) == 0


def test_a_fact_costs_an_entity_and_its_other_end_in_no_order() -> None:
    facts = [(f"x{i}", "kind", "ab"[i % 2]) for i in range(62)]
    store = TripleStore.of(facts)  # 64 entities; the object is one of two
    assert fact_bits(store).tolist() == pytest.approx([math.log2(math.comb(128, 62)) / 62])
