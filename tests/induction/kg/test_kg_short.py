"""Short rules part by part: together they are all rules, and each alone is exact."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_rules import Triple, constant_rules, graphs, measures, path_rules, same

from neurosym.induction.kg import constants, paths, short
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.paths import NO_LIMIT, PathMiner, Thresholds, canonical_path
from neurosym.induction.kg.rules import ConstantRules, PathRules, RuleColumns
from neurosym.induction.kg.short import joined_paths, short_rules, short_rules_by_cost
from neurosym.induction.kg.store import TripleStore

NO_PATHS = PathRules(*(np.zeros(shape, np.int32) for shape in (0, (0, 1), 0, 0)))
NO_CONSTANTS = ConstantRules(*np.zeros((4, 0), np.int32))


def told(store: TripleStore, rules: RuleColumns) -> dict[str, tuple[int, int]]:
    found = {same(rules.rule(store, i)): (int(rules.support[i]), int(rules.size[i])) for i in range(len(rules))}
    assert len(found) == len(rules), "no rule is told twice"
    return found


def with_hub(seed: int = 0) -> TripleStore:
    """A graph in which one entity has a hundred times as many neighbours as most."""
    rng = np.random.default_rng(seed)
    ends = [(int(a), int(b)) for a, b in rng.integers(300, size=(500, 2))] + [(0, i) for i in range(1, 300)]
    return TripleStore.of([(f"e{a}", f"r{rng.integers(4)}", f"e{b}") for a, b in ends])


@given(graphs(), st.integers(1, 3), st.sampled_from([0.0, 0.05, 0.12, 0.3, 1.0]))
@settings(max_examples=60, deadline=None)
def test_the_rules_are_all_those_above_the_thresholds_with_the_counts_of_trying_all_assignments(
    facts: list[Triple], support: int, smoothed: float
) -> None:
    store = TripleStore.of(facts)
    found = short_rules(store, Thresholds(support, smoothed))
    every = {same(rule): measures(rule, set(facts)) for rule in [*path_rules(2), *constant_rules("abcde")]}
    kept = {k: (s, b) for k, (s, b) in every.items() if s >= support and s >= smoothed * (b + 5) - 1e-9}
    assert found.complete
    assert told(store, RuleColumns(found.paths, found.constants)) == kept


def test_parts_by_cost_are_the_same_rules_in_any_size_of_part_and_on_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, thresholds = with_hub(), Thresholds(2, 0.02)
    whole = short_rules(store, thresholds)
    for module in (constants, paths):
        monkeypatch.setattr(module, "_AT_ONCE", 50)
    monkeypatch.setattr(paths, "_TOGETHER", 1)
    monkeypatch.setattr(short, "_START", 0.0)
    assert sum(1 for _ in short_rules_by_cost(store, thresholds)) > 50
    again = short_rules(store, thresholds, workers=3)
    assert len(whole.paths.head) > 50
    assert len(whole.constants.head) > 50
    for one, other in zip((*whole.paths, *whole.constants), (*again.paths, *again.constants), strict=True):
        assert np.array_equal(one, other)


def test_the_paths_looked_for_through_a_hub_are_those_that_measuring_every_path_finds() -> None:
    store = with_hub(1)
    every = sorted({canonical_path(p) for n in (1, 2) for p in product(range(store.directions), repeat=n)})
    for support in (1, 3):
        thresholds = Thresholds(support, 0.0)
        expected = PathMiner(store, thresholds).rules(every)
        found = short_rules(store, thresholds).paths
        assert len(expected.head) > 100
        assert told(store, RuleColumns(found, NO_CONSTANTS)) == told(store, RuleColumns(expected, NO_CONSTANTS))


def test_when_time_is_over_the_rules_found_are_some_of_all_with_the_same_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, thresholds = with_hub(), Thresholds(1, 0.0)
    every = short_rules(store, thresholds)
    all_told = told(store, RuleColumns(every.paths, every.constants))
    none = short_rules(store, thresholds, until=time.monotonic())
    assert (len(none.paths.head), len(none.constants.head), none.complete) == (0, 0, False)
    for parts in (3, 8):
        clock = iter(range(10**6))
        monkeypatch.setattr(short.time, "monotonic", lambda clock=clock: float(next(clock)))
        found = short_rules(store, thresholds, until=3.0 * parts)
        some = told(store, RuleColumns(found.paths, found.constants))
        assert not found.complete
        assert 0 < len(some) < len(all_told)
        assert some.items() <= all_told.items()


def test_a_body_with_more_pairs_than_it_may_have_is_left_and_told() -> None:
    store = TripleStore.of([(f"x{i}", "p", f"y{j}") for i in range(30) for j in range(30)] + [("x0", "q", "y0")])
    miner = PathMiner(store, Thresholds(1, 0.0))
    assert len(miner.rules([(0,), (2,)], [899, 1]).head) == 1
    assert miner.too_wide == [(0,)]
    assert len(miner.rules([(0,), (2,)], [900, 1]).head) == 2
    assert miner.too_wide == []


def test_a_body_that_was_left_for_one_head_is_measured_for_another_with_more_support() -> None:
    steps = [(r, a, b) for i in range(100) for r, a, b in (("a", f"x{i}", f"z{i}"), ("b", f"z{i}", f"y{i}"))]
    heads = [(r, f"x{i}", f"y{i}") for r, n in (("few", 2), ("many", 90)) for i in range(n)]
    store = TripleStore.of([(a, r, b) for r, a, b in steps + heads])
    found = short_rules(store, Thresholds(2, 0.5))
    rules = told(store, RuleColumns(found.paths, NO_CONSTANTS))
    assert {counts for rule, counts in rules.items() if rule.startswith("many(X0,X1) <- a(")} == {(90, 100)}
    assert not [rule for rule in rules if rule.startswith("few(X0,X1) <- a(")]


@pytest.mark.parametrize(("support", "smoothed"), [(1, 0.01), (2, 0.01), (7, 0.3), (3, 1.0), (2, 0.0)])
def test_no_body_above_the_most_pairs_of_a_support_has_enough(support: int, smoothed: float) -> None:
    thresholds = Thresholds(1, smoothed)
    most = thresholds.most(support)
    assert most == NO_LIMIT if smoothed == 0 else thresholds.least(most + 1) > support


def test_known_pairs_are_counted_as_for_single_rules_from_both_ends() -> None:
    store = with_hub()
    miner = PathMiner(store, Thresholds(1, 0.0))
    rules = miner.rules([(0,), (2,), (0, 3), (1, 2), (2, 5)])
    evaluator, columns = Evaluator(store), RuleColumns(rules, NO_CONSTANTS)
    expected = [evaluator.counts(columns.rule(store, i)).subjects for i in range(len(columns))]
    assert miner.known(rules).tolist() == expected
    assert sum(k < n for k, n in zip(expected, rules.size, strict=True)) > 5


def test_joined_parts_are_as_wide_as_the_widest() -> None:
    one = PathRules(*(np.array(c, dtype=np.int32) for c in ([1], [[0]], [2], [3])))
    two = PathRules(*(np.array(c, dtype=np.int32) for c in ([0], [[0, 3]], [4], [5])))
    found = joined_paths([one, NO_PATHS, two])
    assert [c.tolist() for c in found] == [[0, 1], [[0, 3], [0, -1]], [4, 2], [5, 3]]
    assert [c.tolist() for c in joined_paths([])] == [[], [], [], []]
