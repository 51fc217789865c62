"""Racing: what dies on a sample is surely worth nothing, what lives is measured exactly, and dying is cheap."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from neurosym.errors import ConfigError
from neurosym.induction.kg import racing
from neurosym.induction.kg.bodies import Body, Y, canonical_pair, chain
from neurosym.induction.kg.evaluator import Evaluator, Pairs
from neurosym.induction.kg.files import rules_of
from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.racing import CHEAP, SHORT, Floats, Race, are_below, divergence, excesses, is_above
from neurosym.induction.kg.store import TripleStore

DELTA = 0.2


@given(st.floats(0, 1), st.floats(0.01, 0.99))
def test_the_divergence_is_that_of_two_coins_below_and_nothing_above(p: float, q: float) -> None:
    expected = entropy([p, 1 - p], [q, 1 - q]) if p < q else 0.0
    assert divergence(np.array([p]), np.array([q]))[0] == pytest.approx(expected, abs=1e-9)


def graph(rng: np.random.Generator, entities: int, hub: float) -> TripleStore:
    """Facts of p from all entities, some of which have very many; of h about one in ten between the same pairs."""
    facts = []
    for x in range(entities):
        many = int(entities * 0.5) if rng.random() < hub else int(rng.integers(1, 6))
        for y in rng.choice(entities, many, replace=False).tolist():
            facts.append((f"e{x:04}", "p", f"e{y:04}"))
            if rng.random() < 0.1:
                facts.append((f"e{x:04}", "h", f"e{y:04}"))
    return TripleStore.of(facts)


@pytest.mark.parametrize("hub", [0.0, 0.02])
def test_no_more_than_delta_of_the_samples_put_a_head_out_that_has_just_the_confidence_it_needs(hub: float) -> None:
    rng = np.random.default_rng(0)
    store = graph(rng, 600, hub)
    h, p = 2 * store.relation("h"), 2 * store.relation("p")
    xs = store.sources(p)
    sizes = np.array([len(set(store.targets(p, x)) - {x}) for x in xs])
    support = np.array([len(set(store.targets(p, x)) & set(store.targets(h, x)) - {x}) for x in xs])
    limits, over = (part[[h]] for part in excesses(store))
    c = support.sum() / sizes.sum()

    def share(needed: float, n: int, times: int = 400) -> float:
        out = 0
        for _ in range(times):
            some = rng.choice(len(xs), n, replace=False)
            held = np.array([float(support[some].sum())])
            out += int(are_below(held, sizes[some], len(xs), np.array([needed]), limits, over, math.log(1 / DELTA))[0])
        return out / times

    assert share(c, 128) <= DELTA
    assert share(c, 300) <= DELTA
    assert share(20 * c if hub else 8 * c, 300) > 0.9  # and it says something


def test_no_more_than_delta_of_the_samples_say_that_the_work_is_above_a_cap_that_it_just_keeps_to() -> None:
    rng = np.random.default_rng(0)
    works = rng.geometric(0.01, 2000) + 5000 * (rng.random(2000) < 0.01)

    def share(cap: int) -> float:
        said = [is_above(rng.choice(works, 256, replace=False), 2000, cap, math.log(1 / DELTA)) for _ in range(400)]
        return float(np.mean(said))

    assert share(int(works.sum())) <= DELTA
    assert share(int(works.sum() / 3)) > 0.9


@cache
def dense(entities: int = 1500, each: int = 20) -> TripleStore:
    """p and q lead from each entity to `each` others, h to one, by chance; g is where p and then q lead from every third."""
    rng = np.random.default_rng(0)
    facts = [
        (f"e{x}", r, f"e{y}")
        for x in range(entities)
        for r, n in (("p", each), ("q", each), ("h", 1))
        for y in rng.choice(entities, n, replace=False).tolist()
    ]
    ahead: dict[tuple[str, str], set[str]] = {}
    for s, r, o in facts:
        ahead.setdefault((s, r), set()).add(o)
    few = range(0, entities, 3)
    ends = {(f"e{x}", y) for x in few for z in ahead[f"e{x}", "p"] for y in ahead[z, "q"] if y != f"e{x}"}
    return TripleStore.of(facts + [(x, "g", y) for x, y in sorted(ends)])


def path(store: TripleStore, *names: str) -> Body:
    return canonical_pair(chain([2 * store.relation(name) for name in names], Y))[0]


def race(store: TripleStore, least: float, wanted: str = "", cap: int = 10_000_000) -> Race:
    heads = np.ones(store.directions, dtype=np.bool_)
    if wanted:
        heads = np.arange(store.directions) >> 1 == store.relation(wanted)
    return Race(Evaluator(store, cap=cap), least, 0.05, 0, heads)


def test_a_body_far_below_dies_at_a_tenth_of_the_work_and_one_above_is_measured_as_ever() -> None:
    store = dense()
    nothing = np.zeros(store.directions)
    body = path(store, "p", "q")
    own = Evaluator(store)
    counting = own.counting(body)
    assert counting is not None
    size, work = counting.all(counting.xs, own.cap)
    counting.wipe()
    assert len(counting.xs) > SHORT
    assert work > CHEAP
    far = race(store, 0.05, wanted="h")
    assert far.pairs(body, lambda: nothing) is None
    assert 0 < far.looked_at < work / 10
    near = race(store, 0.05)
    found, exact = near.pairs(body, lambda: nothing), own.pairs(body)
    assert found is not None
    assert exact is not None
    assert found.size == exact.size == size
    for name in ("support", "subjects", "objects"):
        assert np.array_equal(getattr(found, name), getattr(exact, name))


def test_a_head_that_no_generalisation_may_equal_is_out_and_the_body_with_it() -> None:
    store = dense()
    body = path(store, "p", "q")
    exact = Evaluator(store).pairs(body)
    assert exact is not None
    confidence = exact.support / exact.size
    lives, dies = race(store, 0.0), race(store, 0.0)
    assert lives.pairs(body, lambda: confidence) is not None
    assert dies.pairs(body, lambda: np.minimum(1.0, 3 * confidence + 0.05)) is None


def test_a_body_that_needs_far_more_work_than_allowed_is_left_when_a_part_of_that_is_done() -> None:
    store = dense()
    cap = 200_000
    assert Evaluator(store, cap=cap).pairs(path(store, "p", "q")) is None
    raced = race(store, 0.0, cap=cap)
    assert raced.pairs(path(store, "p", "q"), lambda: np.zeros(store.directions)) is None
    assert raced.looked_at < cap / 2


def test_of_a_body_that_reaches_the_cap_the_cap_was_looked_at_and_of_one_that_lives_the_sample() -> None:
    store = dense()
    body, nothing = path(store, "p", "q"), np.zeros(store.directions)
    for cap in (10, 5000):  # at the first subject, and at a later one of the first look
        dear = race(store, 0.0, cap=cap)
        assert dear.pairs(body, lambda: nothing) is None
        assert dear.looked_at == cap
    own = Evaluator(store).counting(body)
    assert own is not None
    _, work = own.all(own.xs, 10_000_000)
    lives = race(store, 0.0)
    assert lives.pairs(body, lambda: nothing) is not None
    assert 0 < lives.looked_at < work / 2


def test_other_bodies_may_be_measured_while_one_is_raced() -> None:
    store = dense()
    raced, bodies = race(store, 0.0), (path(store, "p", "q"), path(store, "q", "p"))

    def known() -> np.ndarray:
        assert raced.evaluator.pairs(bodies[1]) is not None
        return np.zeros(store.directions)

    found = raced.pairs(bodies[0], known), raced.evaluator.pairs(bodies[1])
    for one, body in zip(found, bodies, strict=True):
        expected = Evaluator(store).pairs(body)
        assert one is not None
        assert expected is not None
        assert np.array_equal(one.objects, expected.objects)


def learned(races: bool, workers: int = 1) -> tuple[RuleLearner, list[str]]:
    evolution = EvolutionConfig(most=3, islands=2, brood=24, racing=races)
    config = LearnerConfig(
        targets=("g",),
        budget=None,
        generations=8,
        paths=0,
        smoothed=0.2,
        evolution=evolution,
        workers=workers,
        select=False,
    )
    learner = RuleLearner(config).fit(dense(300, 6))
    return learner, [str(rule) for rule in rules_of(learner.store, learner.rules)]


@pytest.fixture
def all_are_raced(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whatever its size; says which bodies were left."""
    left: list[bool] = []
    pairs = Race.pairs

    def told(self: Race, body: Body, known: Callable[[], Floats]) -> Pairs | None:
        found = pairs(self, body, known)
        left.append(found is None)
        return found

    monkeypatch.setattr(racing, "SHORT", 64)
    monkeypatch.setattr(racing, "LOOKS", (16, 64, 128))
    monkeypatch.setattr(racing, "CHEAP", 0)
    monkeypatch.setattr(Race, "pairs", told)
    return left


def test_every_rule_of_a_search_that_races_has_exact_counts(all_are_raced: list[bool]) -> None:
    learner, _ = learned(races=True)
    rules, pairs = learner.rules, len(learner.rules.general.pair_rules.head)
    assert pairs > 0
    assert any(all_are_raced)
    assert not all(all_are_raced)
    exact = Evaluator(learner.store)
    for i in range(len(rules) - pairs, len(rules)):
        rule = rules.rule(learner.store, i)
        assert (rules.support[i], rules.size[i]) == exact.counts(rule)[:2], str(rule)


def test_a_search_that_races_finds_what_one_that_does_not_finds_and_the_same_on_two_threads(
    all_are_raced: list[bool],
) -> None:
    exact = learned(races=False)[1]
    assert not all_are_raced
    assert learned(races=True)[1] == exact
    assert any(all_are_raced)
    assert learned(races=True, workers=2)[1] == exact


def test_a_chance_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="delta is 0 but must lie between 0 and 1"):
        EvolutionConfig(delta=0)
