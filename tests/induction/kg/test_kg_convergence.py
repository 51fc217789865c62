"""What is told of a search while it goes on is what it has found."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import plain_bodies
from hypothesis import example, given
from hypothesis import strategies as st

from neurosym.induction.kg.clock import Reached, State
from neurosym.induction.kg.convergence import Convergence, as_dicts, curve, picture, said
from neurosym.induction.kg.evolution import SHOWN
from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.search_files import read_search
from neurosym.induction.kg.store import TripleStore
from neurosym.knowledge.rules import parse_rules


def test_the_best_rules_that_are_told_are_the_most_trusted_of_all_and_their_counts_are_those_of_all_assignments(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(3)
    facts = sorted({(f"e{a}", "pqr"[k], f"e{b}") for a, b, k in (rng.integers(30, size=(90, 3)) % [8, 8, 3]).tolist()})
    states: list[State] = []
    evolution = EvolutionConfig(most=3, islands=2, brood=24, seed=1)
    config = LearnerConfig(budget=None, generations=30, support=2, evolution=evolution, workers=1, select=False)
    learner = RuleLearner(config).fit(TripleStore.of(facts), states.append, folder=tmp_path / "search")
    reached = states[-1].reached
    assert reached.generation == states[-1].generation == 30
    told = []
    for line in reached.best:
        counts, _, text = line.partition(" ")
        support, size = map(int, counts.split("/"))
        assert plain_bodies.counts(parse_rules(text)[0], set(facts))[:2] == (support, size), line
        told.append(support / (size + 5))
    np.testing.assert_allclose(told, np.sort(learner.rules.smoothed)[::-1][:SHOWN], rtol=1e-6)
    worth = [state.reached.worth for state in states]
    assert worth == sorted(worth)
    assert worth[-1] > 0
    search = read_search(tmp_path / "search")
    assert search is not None
    np.testing.assert_allclose(search.worth, sum(rule.news for rule in search.found.values()))
    np.testing.assert_allclose(search.worth, worth[-1])


@given(
    steps=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 10)), min_size=1, max_size=30),
    budget=st.none() | st.floats(1, 60),
    width=st.integers(1, 80),
)
@example(steps=[(1.467872353083676, 0.0), (1.4784499968192728, 0.0), (0.039, 0.0), (0.039, 1.0)], budget=None, width=13)
def test_a_curve_rises_to_where_the_search_is_and_leaves_room_for_the_rest(
    steps: list[tuple[float, float]], budget: float | None, width: int
) -> None:
    seconds, worth = np.cumsum(np.array(steps), 0).T + [[0.5], [0.0]]
    states = [State(float(s), 0, Reached(worth=float(w))) for s, w in zip(seconds, worth, strict=True)]
    drawn = curve(states, budget, width)
    assert len(drawn) == width
    past = drawn.rstrip(" ")
    assert list(past) == sorted(past)
    end = max(budget or 0.0, float(seconds[-1]))
    assert len(past) == np.ceil(seconds[-1] / end * width - 1e-8)
    if worth[-1] > 1e-6:
        assert past[-1] == "█"


def test_of_many_states_those_some_time_apart_are_kept_and_the_newest() -> None:
    kept = Convergence()
    drawn = [kept.told(State(0.01 * n, n, Reached(n, ("1/1 p(X) :- q(X).",), float(n)))) for n in range(1001)]
    assert kept[-1].rules == 1000
    assert 40 < sum(drawn) == len(kept) < 60
    assert all(b.seconds - a.seconds >= 0.2 for a, b in pairwise(kept[:-1]))
    assert said(kept) == "generation 1000: 1000 rules, 100/s"
    assert picture(kept, 10.0).splitlines()[1:] == ["best  1/1 p(X) :- q(X)."]
    assert as_dicts(kept)[-1] == {"seconds": 10.0, "generation": 1000, "rules": 1000, "worth": 1000.0}
