"""Which rules known facts need, and how few do as well on facts held back: counted a second time, rule by rule."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import plain_bodies
import pytest
from plain_rules import Triple
from scipy.stats import ttest_rel

from neurosym.errors import ConfigError, InductionError
from neurosym.induction.kg import selection as selections
from neurosym.induction.kg.aggregation import METHODS, aggregation
from neurosym.induction.kg.applied import arrange
from neurosym.induction.kg.bodies import Y, canonical_pair, chain, is_pair, kind_of, numbered
from neurosym.induction.kg.completion import rank_answers
from neurosym.induction.kg.ending import Ending
from neurosym.induction.kg.island import EvolutionConfig, Kept
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.paths import Thresholds
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.selection import Selection, chosen_of
from neurosym.induction.kg.short import short_rules
from neurosym.induction.kg.store import TripleStore
from neurosym.induction.kg.thinning import Beginner, Beginnings, HeldBack, held_back

ENTITIES = 6
_EACH = 25


def graph(seed: int, facts: int = 24) -> list[Triple]:
    drawn = np.random.default_rng(seed).integers(ENTITIES, size=(facts, 3))
    triples = {(f"e{a}", "pqr"[k % 3], f"e{b}") for a, k, b in drawn.tolist()}
    return sorted(triples | {(f"e{b}", "s", f"e{a}") for a, r, b in triples if r == "p" and a != b})


def learned(store: TripleStore, seed: int = 0, **evolution: object) -> RuleColumns:
    """Some short rules and some evolved ones of all kinds, few enough to be tried one by one."""
    config = EvolutionConfig(most=3, islands=1, brood=16, seed=seed, **evolution)  # type: ignore[arg-type]
    settings = LearnerConfig(budget=None, generations=6, support=1, evolution=config, workers=1, select=False)  # type: ignore[arg-type]
    rules = RuleLearner(settings).fit(store).rules
    place = np.concatenate([np.random.default_rng(seed).permutation(len(part.head)) for part in rules.parts])
    return chosen_of(rules, place < _EACH)


def speaking(store: TripleStore, rules: RuleColumns, facts: set[Triple]) -> dict[Triple, list[int]]:
    """Of each fact the rules that predict it."""
    found: dict[Triple, list[int]] = {}
    for i in range(len(rules)):
        for fact in plain_bodies.said(rules.rule(store, i), facts) & facts:
            found.setdefault(fact, []).append(i)
    return found


def assert_needed(used: np.ndarray, rules: RuleColumns, by_fact: Mapping[Any, list[int]], depth: int) -> None:
    """Whichever of equally trusted rules are taken: those above them all are, and none below them is."""
    value = rules.smoothed
    must, may = np.zeros((2, len(rules)), dtype=bool)
    for speakers in by_fact.values():
        own = value[speakers]
        must[speakers] |= (own[:, None] <= own[None]).sum(1) <= depth
        may[speakers] |= (own[:, None] < own[None]).sum(1) < depth
    assert not (must & ~used).any()
    assert not (used & ~may).any()
    assert must.any()


@pytest.mark.parametrize(("seed", "depth"), [(0, 1), (1, 3)])
def test_the_rules_that_facts_need_are_those_found_by_trying_every_rule_on_every_fact(seed: int, depth: int) -> None:
    facts = graph(seed)
    store = TripleStore.of(facts)
    rules = learned(store, seed)
    assert min(len(part.head) for part in rules.parts) > 0
    by_fact = speaking(store, rules, set(facts))
    need = Selection(store, rules, depth, workers=2).needed()
    assert need.complete
    assert_needed(need.worth > 0, rules, by_fact, depth)
    lists = [min(depth, len(speakers)) for speakers in by_fact.values()]
    assert need.worth.sum() == pytest.approx(sum(1 / k for n in lists for k in range(1, n + 1)))


@pytest.mark.parametrize("workers", [1, 3])
def test_rules_with_constants_that_no_fact_needs_are_left_out_as_they_are_found(workers: int) -> None:
    facts = graph(2)
    store, thresholds, depth = TripleStore.of(facts), Thresholds(2, 0.0), 2
    every = short_rules(store, thresholds)
    some = short_rules(store, thresholds, workers=workers, depth=depth)
    rules = RuleColumns(every.paths._make(column[:0] for column in every.paths), every.constants)
    rows = list(zip(*(column.tolist() for column in every.constants), strict=True))
    kept = set(zip(*(column.tolist() for column in some.constants), strict=True))
    assert kept < set(rows)
    used = np.array([row in kept for row in rows])
    by_head: dict[tuple[Triple, int], list[int]] = {}
    for fact, speakers in speaking(store, rules, set(facts)).items():
        for i in speakers:
            by_head.setdefault((fact, int(rules.constants.head[i])), []).append(i)
    assert_needed(used, rules, by_head, depth)
    assert [column.tolist() for column in some.paths] == [column.tolist() for column in every.paths]


def test_shares_of_the_entities_add_up_to_all_of_them() -> None:
    store = TripleStore.of(graph(3))
    selection = Selection(store, learned(store), 3)
    parts = [selection.needed(first=k / 4, share=1 / 4).worth for k in range(4)]
    assert np.sum(parts, axis=0) == pytest.approx(selection.needed().worth)
    assert 0 < parts[0].sum() < selection.needed().worth.sum()


def test_when_time_is_over_every_rule_that_could_not_be_judged_is_kept() -> None:
    store = TripleStore.of(graph(0))
    selection = Selection(store, learned(store), 1)
    late = selection.needed(until=time.monotonic() - 1)
    assert not late.complete
    assert (late.worth > 0).all()
    assert not (selection.needed(until=time.monotonic() + 600).worth > 0).all()


def test_the_clock_is_looked_at_in_the_middle_of_a_large_relation(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TripleStore.of(graph(0))
    selection = Selection(store, learned(store), 1)
    monkeypatch.setattr(selections, "_AT_ONCE", 2)
    whole = selection.needed(until=math.inf)
    assert whole.complete
    assert whole.worth == pytest.approx(selection.needed().worth)
    looks = count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(looks)))
    assert not selection.needed(until=1.5).complete
    assert next(looks) > len(store.relations)


def split(seed: int) -> tuple[TripleStore, HeldBack]:
    facts = graph(seed, 40)
    held = facts[::7]
    store = TripleStore.of([fact for fact in facts if fact not in held])
    return store, held_back(store, held)


def test_the_mrr_of_each_beginning_is_that_of_its_rules_alone() -> None:
    store, held = split(4)
    rules = learned(store)
    order = np.random.default_rng(0).permutation(len(rules))
    found = Beginner(store, rules, order, held, workers=2).mrr()
    assert found is not None
    assert found.sizes[0] == len(rules)
    assert found.asked == 2 * len(held.facts[0])
    for size, told in zip(found.sizes, found.mrr, strict=True):
        some = chosen_of(rules, np.isin(np.arange(len(rules)), order[:size]))
        applied = arrange(store, some)
        own = [rank_answers(store, applied, aggregation(store, some, m), held.facts, held.known).mrr for m in METHODS]
        assert told == pytest.approx(own)


def test_the_fewest_rules_are_kept_whose_mrr_is_within_the_tolerance_of_the_best() -> None:
    sizes = np.array([40, 20, 10, 5])
    mrr = np.array([[0.50, 0.1], [0.1, 0.53], [0.529, 0.2], [0.51, 0.3]])
    found = Beginnings(sizes, mrr, 8, np.zeros(8))
    assert found.smallest(0.0) == (20, METHODS[1], 0.53)
    assert found.smallest(0.002) == (10, METHODS[0], 0.529)
    assert found.smallest(0.05)[0] == 5


def test_what_is_above_by_a_standard_error_of_the_difference_is_surely_above() -> None:
    """Against scipy: a gain is more than its standard error where the paired t statistic is above 1."""
    rng = np.random.default_rng(0)
    surely = 0
    for _ in range(50):
        one, other = rng.random((2, 20))
        one[:3], other[5] = np.nan, np.nan
        both = np.isfinite(one) & np.isfinite(other)
        found = [Beginnings(np.array([1]), np.zeros((1, 1)), 20, best) for best in (one, other)]
        expected = float(ttest_rel(one[both], other[both]).statistic) > 1
        assert found[0].is_surely_above(found[1]) == expected
        surely += expected
    assert 0 < surely < 50


def best(store: TripleStore, rules: RuleColumns, held: HeldBack) -> float:
    """The MRR of facts held back under the best method."""
    applied = arrange(store, rules)
    return max(rank_answers(store, applied, aggregation(store, rules, m), held.facts, held.known).mrr for m in METHODS)


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
def test_with_facts_held_back_mrr_on_them_does_not_fall_below_that_of_all_needed_rules(tolerance: float) -> None:
    store, held = split(5)
    evolution = EvolutionConfig(most=3, islands=1, brood=16)
    config = LearnerConfig(budget=None, generations=6, support=1, evolution=evolution, workers=1, tolerance=tolerance)

    plain = RuleLearner(config).fit(store)
    thin = RuleLearner(config).fit(store, held=held)
    assert len(thin.rules) < len(plain.rules)
    assert plain.beginnings is None
    assert thin.beginnings is not None
    assert len(thin.rules) == thin.beginnings.smallest(tolerance)[0]
    assert best(store, thin.rules, held) >= best(store, plain.rules, held) - tolerance - 1e-9


def test_with_facts_held_back_mrr_on_them_does_not_fall_below_that_of_short_rules_alone() -> None:
    spoilt = 0
    for seed in range(1, 13):
        store, held = split(seed)
        evolution = EvolutionConfig(most=3, islands=1, brood=16)
        config = LearnerConfig(budget=None, generations=6, support=1, evolution=evolution, workers=1, tolerance=0.0)
        short = replace(config, generations=0, evolution=replace(evolution, most=2))
        by_all, by_short = (best(store, RuleLearner(kind).fit(store).rules, held) for kind in (config, short))
        spoilt += by_all < by_short
        assert best(store, RuleLearner(config).fit(store, held=held).rules, held) >= by_short - 1e-9
    assert spoilt > 0


def test_where_time_is_over_in_the_end_what_was_chosen_before_anything_evolved_is_kept() -> None:
    store, held = split(5)
    short = short_rules(store, Thresholds(1, 0.0))
    rules = RuleColumns(short.paths, short.constants)
    evolved = [Kept(canonical_pair(chain((0, 2, 4), Y))[0], 0, 1, 1)]
    expected, _ = Ending(store, True, 0.0, 0, 1000, 1, held).chosen(rules, ())
    ending = Ending(store, True, 0.0, 0, 1000, 1, held)
    ending.judge(rules)
    found, beginnings = ending.chosen(rules, evolved, time.monotonic() - 1)
    assert beginnings is not None
    assert [found.rule(store, i) for i in range(len(found))] == [expected.rule(store, i) for i in range(len(expected))]
    assert len(found) < len(rules)


def test_facts_held_back_are_asked_for_as_many_seconds_as_there_are_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = graph(6, 90)
    store = TripleStore.of(facts[::2])
    held = held_back(store, facts[1::2])
    short = short_rules(store, Thresholds(1, 0.0))
    rules = RuleColumns(short.paths, short.constants)
    clock = count(100.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))  # a second passes from one look to the next

    def asked(seconds: float) -> int:
        _, beginnings = Ending(store, True, 0.0, 0, 1000, 1, held, seconds).chosen(rules, ())
        assert beginnings is not None
        return beginnings.asked

    assert asked(math.inf) == 2 * len(held.facts[0]) > 64
    assert (asked(1.5), asked(2.5)) == (32, 64)


def test_rules_that_there_is_no_time_to_choose_among_are_all_kept_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = TripleStore.of(graph(6, 90))
    short = short_rules(store, Thresholds(1, 0.0))
    rules = RuleColumns(short.paths, short.constants)

    def kept(seconds: float) -> int:
        ending = Ending(store, True, 0.0, 0, 1000, 1, selecting=seconds)
        ending.seconds(rules, (), 0.1)
        return len(ending.chosen(rules, ())[0])

    assert kept(60.0) < len(rules)
    assert not caplog.messages
    assert kept(0.0) == len(rules)
    kept_all = f"choosing would take too much of the budget: all {len(rules)} rules are kept; give it more seconds"
    assert caplog.messages == [kept_all]


def test_facts_held_back_that_the_graph_cannot_have_are_left_out_and_none_at_all_is_refused() -> None:
    store = TripleStore.of(graph(0))
    held = held_back(store, [("e1", "p", "e2"), ("e1", "p", "nobody"), ("e1", "unknown", "e2")])
    assert [len(column) for column in held.facts] == [1, 1, 1]
    assert (store.entities[int(held.facts[0][0])], store.entities[int(held.facts[2][0])]) == ("e1", "e2")
    with pytest.raises(InductionError, match="no fact that is held back has a relation and two entities"):
        held_back(store, [("e1", "p", "nobody")])
    with pytest.raises(ConfigError, match="leave select on"):
        RuleLearner(LearnerConfig(budget=0.0, select=False)).fit(store, held=held)


@pytest.mark.parametrize("kind", ["tree", "cyclic", "existential", "negated"])
def test_a_kind_of_bodies_that_is_left_out_is_not_among_the_rules_and_else_it_is(kind: str) -> None:
    store = TripleStore.of(graph(1))

    def kinds(**evolution: object) -> set[str]:
        rules = learned(store, **evolution)
        first = len(rules.paths.head) + len(rules.constants.head)
        return {kind_of(numbered(store, rules.rule(store, i))[1]) for i in range(first, len(rules))}

    assert kind in kinds()
    assert kind not in kinds(without=(kind,))
    with pytest.raises(ConfigError, match=r"unknown kind of body 'tre'; did you mean 'tree'\?"):
        EvolutionConfig(without=("tre",))


@pytest.mark.parametrize("seed", range(3))
def test_kinds_agree_with_the_variables_of_the_rule_as_it_is_written(seed: int) -> None:
    store = TripleStore.of(graph(seed))
    rules = learned(store, seed)
    for i in range(len(rules)):
        rule = rules.rule(store, i)
        body = numbered(store, rule)[1]
        kind = kind_of(body)
        assert (kind == "negated") == bool(rule.conditions)
        if kind == "negated":
            continue
        times = [t.name for atom in rule.body for t in atom.args if t.is_variable]
        once = {v for v in times if times.count(v) == 1} - {"X", "Y"}
        both = [atom for atom in rule.body if sum(t.is_variable for t in atom.args) == 2]
        circular = len(both) >= len(set(times))
        assert (kind == "cyclic") == circular
        if kind == "existential":
            assert once
        elif kind == "tree":
            assert not once
        elif kind == "path" and is_pair(body):
            assert len(both) == len(rule.body) == len(set(times)) - 1
