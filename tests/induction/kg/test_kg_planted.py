"""The graphs of experiments/planted-rules: their rules hold as they say before facts are removed and noise is added."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.store import TripleStore
from neurosym.knowledge.rules import parse_rules

FOLDER = Path(__file__).parents[3] / "experiments"
MODULES = ("bench", "harness", "planted")


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        for folder in (FOLDER, FOLDER / "planted-rules"):
            patch.syspath_prepend(str(folder))
        for module in MODULES:
            patch.delitem(sys.modules, module, raising=False)
        yield importlib.import_module("bench")
        for module in MODULES:
            sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def world_of(bench: ModuleType) -> Callable[[int], Any]:
    """The world of a seed, planted once."""
    return cache(lambda seed: bench.plant(bench.Planting(seed=seed)))


def test_a_planted_rule_derives_just_its_facts_and_every_literal_that_its_shape_adds_matters(
    world_of: Callable[[int], Any],
) -> None:
    world = world_of(1)
    assert len(world.planted) == 20
    assert {p.shape for p in world.planted} == {"path", "tree", "constant", "negation", "mixed", "set"}
    assert not any(r.startswith("h") for _, r, _ in world.base)
    added = {"path": 0, "set": 1, "mixed": 2}
    for shape, rule, derived in world.planted:
        store = TripleStore.of([*world.base, *derived])  # so that all facts of the head are derived
        evaluator = Evaluator(store)
        counts = evaluator.counts(rule)
        assert counts.support == counts.size == len(derived) >= 100, str(rule)
        parts = [replace(rule, body=tuple(p for p in rule.body if p != left)) for left in rule.body[1:]]
        parts += [replace(rule, conditions=()) for _ in rule.conditions]
        sizes = [evaluator.counts(less).size for less in parts if leads_to_its_ends(less)]
        assert len(sizes) == added.get(shape, 1), str(rule)
        assert all(3 * size >= 4 * counts.size for size in sizes), str(rule)


def leads_to_its_ends(rule: object) -> bool:
    reached = {"X"}
    for atom in rule.body:  # type: ignore[attr-defined]
        names = {t.name for t in atom.variables}
        if not names & reached:
            return False
        reached |= names
    needed = {t.name for part in (*rule.head, *rule.conditions) for t in part.variables} - {"_"}  # type: ignore[attr-defined]
    return needed <= reached


def test_of_a_head_three_in_ten_derived_facts_are_removed_and_one_in_ten_is_added_that_is_not_derived(
    world_of: Callable[[int], Any],
) -> None:
    world = world_of(2)
    derived = {fact for p in world.planted for fact in p.derived}
    assert world.removed <= derived
    assert not world.noise & (derived | world.base)
    every, removed, noise = (Counter(r for _, r, _ in facts) for facts in (derived, world.removed, world.noise))
    assert len(every) == 16
    assert {h: removed[h] for h in every} == {h: round(0.3 * n) for h, n in every.items()}
    assert {h: noise[h] for h in every} == {h: round(0.1 * n) for h, n in every.items()}
    assert world.facts == sorted((world.base | derived | world.noise) - world.removed)
    kind = {s: o for s, r, o in world.base if r == "is"}
    for p in world.planted:
        head = p.rule.head[0].predicate
        ends = {(kind.get(s), kind.get(o, o)) for s, r, o in derived | world.noise if r == head}
        assert len(ends) == 1


def test_a_seed_gives_one_world(bench: ModuleType, world_of: Callable[[int], Any]) -> None:
    one, again, other = world_of(2), bench.plant(bench.Planting(seed=2)), world_of(1)
    assert one == again
    assert one.base != other.base


def test_a_rule_is_recognised_by_any_names_and_from_either_end_and_another_is_not(bench: ModuleType) -> None:
    store = TripleStore.of([("a", r, "b") for r in "hpq"])
    text = """
    h(X, Y) :- p(X, Z), q(Z, Y), \\+ p(Z, b).
    h(Y, X) :- q(W, X), p(Y, W), \\+ p(W, b).
    h(Y, X) :- p(X, Z), q(Z, Y), \\+ p(Z, b).
    h(X, Y) :- p(X, Z), q(Z, Y), \\+ p(Z, a).
    """
    one, same, turned, other = (bench.spelled(store, rule) for rule in parse_rules(text))
    assert one == same
    assert len({one, turned, other}) == 3


def test_a_graph_too_small_for_a_rule_is_refused(bench: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"no \w+ rule planted"):
        bench.plant(bench.Planting(entities=600))
