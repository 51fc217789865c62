"""Paths of three to five atoms: those that facts speak for, against trying all paths and all assignments."""

from __future__ import annotations

from itertools import product

import numpy as np
import plain_rules
import pytest
from hypothesis import given, settings
from plain_rules import Triple, graphs

from neurosym.induction.kg.longer_paths import graph_of, mined, promising
from neurosym.induction.kg.paths import PathMiner, Thresholds, canonical_path, joined_paths
from neurosym.induction.kg.rules import ConstantRules, RuleColumns
from neurosym.induction.kg.store import TripleStore
from neurosym.logic import Atom, Rule, Term


def supports(facts: set[Triple], store: TripleStore, length: int) -> dict[tuple[int, ...], int]:
    """The most support of every canonical path for any head, where there is some."""
    found: dict[tuple[int, ...], int] = {}
    stops = [Term("X"), *(Term(f"Z{i}") for i in range(length - 1)), Term("Y")]
    for path in product(range(store.directions), repeat=length):
        steps = []
        for k, d in enumerate(path):
            ends = (stops[k + 1], stops[k]) if d & 1 else (stops[k], stops[k + 1])
            steps.append(Atom(store.relations[d >> 1], ends))
        for r in range(len(store.relations)):
            rule = Rule(head=(Atom(store.relations[r], (stops[0], stops[-1])),), body=tuple(steps))
            held = plain_rules.measures(rule, facts)[0]
            if held:
                found[canonical_path(path)] = max(held, found.get(canonical_path(path), 0))
    return found


@given(graphs())
@settings(max_examples=25, deadline=None)
def test_on_small_graphs_all_paths_of_three_atoms_are_promised_with_their_exact_support(facts: list[Triple]) -> None:
    store = TripleStore.of(facts)
    told = promising(store, graph_of(store), 3, 1, 10_000)
    assert told.exact
    assert dict(zip(told.paths, told.support.tolist(), strict=True)) == supports(set(facts), store, 3)


@given(graphs(entities="abcdef"))
@settings(max_examples=6, deadline=None)
def test_on_small_graphs_all_paths_of_four_atoms_are_promised_with_their_exact_support(facts: list[Triple]) -> None:
    store = TripleStore.of(facts)
    told = promising(store, graph_of(store), 4, 1, 10_000)
    assert dict(zip(told.paths, told.support.tolist(), strict=True)) == supports(set(facts), store, 4)


def graph(seed: int, entities: int, facts: int) -> TripleStore:
    rng = np.random.default_rng(seed)
    rows = zip(rng.integers(entities, size=(facts, 2)).tolist(), rng.integers(3, size=facts).tolist(), strict=True)
    return TripleStore.of([(f"e{a}", "pqr"[k], f"e{b}") for (a, b), k in rows])


@pytest.mark.parametrize(("length", "facts", "support"), [(3, 160, 3), (4, 80, 3), (5, 60, 2)])
def test_promised_paths_have_all_rules_that_measuring_every_path_finds(length: int, facts: int, support: int) -> None:
    store, least = graph(0, 25, facts), Thresholds(support, 0.08)
    miner = PathMiner(store, least, workers=2)
    told = promising(store, graph_of(store), length, least.support, 10_000)
    found = joined_paths(list(mined(miner, told)))
    paths = {canonical_path(path) for path in product(range(store.directions), repeat=length)}
    every = PathMiner(store, least).rules(sorted(paths))
    assert told.exact
    assert 20 < len(every.head) < 3 * len(paths)
    assert all(np.array_equal(a, b) for a, b in zip(found, every, strict=True))


def test_of_many_facts_some_are_drawn_and_their_support_is_scaled_up() -> None:
    store = graph(1, 60, 1200)
    whole, some = (
        promising(store, graph_of(store), 3, 1, 10_000),
        promising(store, graph_of(store), 3, 1, 10_000, looked_at=300),
    )
    assert whole.exact
    assert not some.exact
    exact = dict(zip(whole.paths, whole.support.tolist(), strict=True))
    ratio = [value / exact[path] for path, value in zip(some.paths, some.support.tolist(), strict=True)]
    assert 0.9 < float(np.median(ratio)) < 1.3  # the most of three heads: a little too large


def test_the_most_promising_paths_are_those_of_surer_rules() -> None:
    store = graph(2, 40, 300)
    told = promising(store, graph_of(store), 3, 1, 10_000)
    rules = joined_paths(list(mined(PathMiner(store, Thresholds(1, 0.0)), told)))
    columns = RuleColumns(rules, ConstantRules(*np.zeros((4, 0), dtype=np.int32)))
    best: dict[tuple[int, ...], float] = {}
    for path, value in zip(rules.path.tolist(), columns.smoothed.tolist(), strict=True):
        key = canonical_path(tuple(path))
        best[key] = max(value, best.get(key, 0.0))
    order = [best[path] for path in told.paths]
    third = len(order) // 3
    assert np.mean(order[:third]) > 1.2 * np.mean(order[-third:])
