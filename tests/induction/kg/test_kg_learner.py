"""The learner as its users meet it: what it finds, that its counts are exact, that seeds and threads do what they should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import plain_bodies
import pytest
from plain_rules import Triple

from neurosym.errors import ConfigError, InductionError, RuleError
from neurosym.induction.kg.aggregation import aggregation
from neurosym.induction.kg.applied import arrange
from neurosym.induction.kg.clock import State
from neurosym.induction.kg.completion import best_aggregation, rank_answers
from neurosym.induction.kg.ending import Ending
from neurosym.induction.kg.files import columns_of, read_rule_set, rules_of, write_rule_set
from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.selection import Selection, chosen_of
from neurosym.induction.kg.store import TripleStore
from neurosym.induction.kg.thinning import held_back
from neurosym.knowledge.exchange import import_rules
from neurosym.knowledge.rules import parse_rules


def settings(generations: int, seed: int = 0, workers: int = 1, most: int = 3, **others: object) -> LearnerConfig:
    evolution = EvolutionConfig(most=most, islands=2, brood=24, seed=seed)
    return LearnerConfig(budget=None, generations=generations, evolution=evolution, workers=workers, **others)  # type: ignore[arg-type]


def noise(rng: np.random.Generator, entities: int, facts: int) -> list[Triple]:
    pairs = rng.integers(entities, size=(facts, 2))
    return [(f"e{a}", f"r{rng.integers(3)}", f"e{b}") for a, b in pairs.tolist()]


def planted(seed: int = 0) -> list[Triple]:
    """`h(X, Y)` holds iff a(X, Z), b(Z, Y), and X is of kind `good`, and not `ill`; among other facts."""
    rng = np.random.default_rng(seed)
    a = {(int(x), int(z)) for x, z in rng.integers(60, size=(160, 2)) if x != z}
    b = {(int(z), int(y)) for z, y in rng.integers(60, size=(160, 2)) if z != y}
    good, ill = set(range(0, 60, 2)), set(range(0, 60, 6))
    facts = [(f"e{x}", "a", f"e{z}") for x, z in a] + [(f"e{z}", "b", f"e{y}") for z, y in b]
    facts += [(f"e{x}", "kind", "good" if x in good else "bad") for x in range(60)]
    facts += [(f"e{x}", "state", "ill" if x in ill else "well") for x in range(60)]
    heads = {(x, y) for x, z in a for w, y in b if z == w and x != y and x in good and x not in ill}
    return sorted({*facts, *((f"e{x}", "h", f"e{y}") for x, y in heads), *noise(rng, 60, 60)})


def test_every_rule_that_is_learned_has_the_counts_of_all_assignments() -> None:
    rng = np.random.default_rng(1)
    facts = {(f"{a}", "pqr"[k], f"{b}") for a, b, k in rng.integers(30, size=(40, 3)) % [6, 6, 3]}
    learner = RuleLearner(settings(60, support=1, smoothed=0.0, select=False)).fit(TripleStore.of(sorted(facts)))
    rules = learner.rules
    assert len(rules.general.set_rules.head) > 5
    assert len(rules.general.pair_rules.head) > 1
    for i in range(len(rules)):
        rule = rules.rule(learner.store, i)
        assert (rules.support[i], rules.size[i]) == plain_bodies.counts(rule, facts)[:2], str(rule)


@pytest.mark.parametrize("seed", [0, 2])
def test_a_planted_rule_with_a_branch_and_a_negation_is_found_and_predicts_just_its_facts(seed: int) -> None:
    facts = planted(seed)
    store = TripleStore.of(facts)
    learner = RuleLearner(settings(200, seed, most=4, targets=("h",), support=5)).fit(store)
    heads = sum(relation == "h" for _, relation, _ in facts)
    # what `good` and `well` say can be said in several ways, none of which needs to look at h
    top = [r for r in rules_of(store, learner.rules, 20) if all(atom.predicate != "h" for atom in r.body)]
    exact = [r for r in top if r.meta["support"] == r.meta["body_size"] == str(heads)]
    assert any(len(rule.body) + len(rule.conditions) == 4 for rule in exact)


def test_all_rules_of_a_target_have_its_head_and_an_unknown_target_is_named() -> None:
    store = TripleStore.of(planted())
    learner = RuleLearner(settings(2, targets=("h", "a"))).fit(store)
    assert {rule.head[0].predicate for rule in rules_of(store, learner.rules)} <= {"h", "a"}
    with pytest.raises(InductionError, match=r"relation 'kinds' has no facts; did you mean 'kind'\?"):
        RuleLearner(settings(2, targets=("kinds",))).fit(store)


def test_one_seed_gives_the_same_rules_on_one_thread_and_on_three_and_another_seed_gives_others() -> None:
    store = TripleStore.of(planted())

    def learned(seed: int, workers: int) -> list[str]:
        learner = RuleLearner(settings(6, seed, workers, select=False)).fit(store)
        return [str(rule) for rule in rules_of(store, learner.rules)]

    one = learned(0, 1)
    assert learned(0, 3) == one
    assert learned(1, 1) != one


def test_no_budget_still_gives_the_short_rules() -> None:
    store = TripleStore.of(
        [(f"p{i}", "parent", f"p{i + 1}") for i in range(9)] + [("p1", "child", "p0"), ("p2", "child", "p1")]
    )
    states: list[State] = []
    learner = RuleLearner(LearnerConfig(budget=0.0)).fit(store, states.append)
    assert "1 :: parent(X, Y) :- child(Y, X)." in [str(rule) for rule in rules_of(store, learner.rules)]
    assert max(state.generation for state in states) == 0


def test_an_interrupt_keeps_what_was_found() -> None:
    store = TripleStore.of(planted())
    states: list[State] = []

    def told(state: State) -> None:
        states.append(state)
        if [s.generation for s in states].count(3) == 1 and state.generation == 3:
            raise KeyboardInterrupt

    stopped = RuleLearner(settings(9, select=False)).fit(store, told)
    three = RuleLearner(settings(3, select=False)).fit(store)
    assert [str(r) for r in rules_of(store, stopped.rules)] == [str(r) for r in rules_of(store, three.rules)]


def test_an_interrupt_while_paths_are_measured_keeps_the_rules_until_then_and_nothing_evolves() -> None:
    states: list[State] = []

    def told(state: State) -> None:
        states.append(state)
        if len(states) == 1:
            raise KeyboardInterrupt

    store = TripleStore.of(planted())
    stopped = RuleLearner(settings(5, select=False)).fit(store, told)
    short = RuleLearner(settings(0, most=2, select=False)).fit(store)
    assert [str(r) for r in rules_of(store, stopped.rules)] == [str(r) for r in rules_of(store, short.rules)]


def test_an_interrupt_while_facts_held_back_are_asked_keeps_rules_and_nothing_evolves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts, judge, interrupts, states = planted(), Ending.judge, iter([KeyboardInterrupt]), list[State]()
    store = TripleStore.of(facts[::2])
    held = held_back(store, facts[1::2])
    short = RuleLearner(settings(0)).fit(store, held=held)

    def interrupted(self: Ending, *args: Any) -> None:
        for interrupt in interrupts:
            raise interrupt
        judge(self, *args)

    monkeypatch.setattr(Ending, "judge", interrupted)
    stopped = RuleLearner(settings(5)).fit(store, states.append, held=held)
    assert max(state.generation for state in states) == 0
    assert [str(r) for r in rules_of(store, stopped.rules)] == [str(r) for r in rules_of(store, short.rules)]
    assert len(stopped.rules) > 0


def test_a_search_that_was_stopped_and_gone_on_with_finds_what_it_would_have_found(tmp_path: Path) -> None:
    store = TripleStore.of(planted())
    whole = RuleLearner(settings(9, select=False)).fit(store)
    RuleLearner(settings(4, select=False)).fit(store, folder=tmp_path / "x.search")
    resumed = RuleLearner(settings(9, select=False)).fit(store, folder=tmp_path / "x.search", resume=True)
    assert [str(r) for r in rules_of(store, resumed.rules)] == [str(r) for r in rules_of(store, whole.rules)]


def test_a_search_killed_before_anything_evolved_begins_with_the_rules_found_at_once(tmp_path: Path) -> None:
    store = TripleStore.of(planted())
    whole = RuleLearner(settings(3, select=False)).fit(store, folder=tmp_path)
    (tmp_path / "search.npz").unlink()
    resumed = RuleLearner(settings(3, select=False)).fit(store, folder=tmp_path, resume=True)
    assert [str(r) for r in rules_of(store, resumed.rules)] == [str(r) for r in rules_of(store, whole.rules)]


def test_going_on_with_a_search_of_other_facts_or_settings_or_with_none_or_a_damaged_one_is_refused(
    tmp_path: Path,
) -> None:
    store, other = TripleStore.of(planted()), TripleStore.of(planted(1))
    with pytest.raises(InductionError, match=r"holds no search to go on with: base\.npz is missing"):
        RuleLearner(settings(1)).fit(store, folder=tmp_path, resume=True)
    RuleLearner(settings(1)).fit(store, folder=tmp_path)
    with pytest.raises(InductionError, match="is a search over other facts"):
        RuleLearner(settings(1)).fit(other, folder=tmp_path, resume=True)
    with pytest.raises(InductionError, match="support was 2 and is 3"):
        RuleLearner(settings(1, support=3)).fit(store, folder=tmp_path, resume=True)
    (tmp_path / "search.npz").write_bytes(b"PK cut short")
    with pytest.raises(InductionError, match=r"search\.npz is damaged and cannot be read"):
        RuleLearner(settings(1)).fit(store, folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budget": None}, "give a budget in seconds, or a number of generations"),
        ({"budget": -1.0}, "budget is -1.0 but must not be negative"),
        ({"paths": -1}, "paths is -1 but must not be negative"),
        ({"support": 0}, "support is 0 but must be at least 1"),
        ({"smoothed": 2.0}, r"smoothed is 2.0 but must lie in \[0, 1\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LearnerConfig(**wrong)  # type: ignore[arg-type]


def test_answers_come_with_rules_and_the_facts_they_rest_on() -> None:
    facts = [("ann", "mother", "bob"), ("bob", "mother", "cid"), ("dan", "mother", "eve"), ("eve", "mother", "fay")]
    facts += [("gus", "mother", "hal"), ("hal", "mother", "ida"), ("ann", "gran", "cid"), ("dan", "gran", "fay")]
    store = TripleStore.of(facts)
    learner = RuleLearner(LearnerConfig(budget=0.0)).fit(store)
    [answer, *_] = learner.answers("gus", "gran")
    assert answer.entity == "ida"
    by_path = [r for r in answer.reasons if len(r.facts) == 2]
    assert by_path[0].facts == (("mother", "gus", "hal"), ("mother", "hal", "ida"))
    assert learner.answers("ida", "gran", inverse=True)[0].entity == "gus"
    assert "cid" not in [a.entity for a in learner.answers("ann", "gran")], "known facts are no answers"
    with pytest.raises(InductionError, match="no entity 'zoe'"):
        learner.answers("zoe", "gran")


def test_rules_that_known_facts_do_not_need_are_dropped_and_the_ranks_of_known_facts_stay() -> None:
    store = TripleStore.of(planted())
    rules = RuleLearner(settings(4, select=False)).fit(store).rules
    few = chosen_of(rules, Selection(store, rules, 1).needed().worth > 0)
    assert 0 < len(few) < len(rules) / 5

    def best_values(some: object) -> np.ndarray:
        return rank_answers(store, arrange(store, some), aggregation(store, some, "max"), store.columns(), store).ranks  # type: ignore[arg-type]

    # the best rule of every known fact is still there, others can only have lost
    assert (best_values(few) <= best_values(rules)).all()


@pytest.mark.parametrize("suffix", [".rules", ".tsv"])
def test_a_rule_file_that_is_read_back_says_the_same(tmp_path: Path, suffix: str) -> None:
    store = TripleStore.of(planted())
    rules = RuleLearner(settings(8, most=3)).fit(store).rules
    path = tmp_path / f"learned{suffix}"
    left_out = write_rule_set(path, store, rules)
    again = read_rule_set(path, store)
    negated = sum(bool(rule.conditions) for rule in rules_of(store, rules))
    assert left_out == (negated if suffix == ".tsv" else 0)
    assert len(again) == len(rules) - left_out

    def told(some: object) -> set[tuple[str, str]]:
        return {(str(r), r.meta["support"]) for r in rules_of(store, some) if suffix == ".rules" or not r.conditions}  # type: ignore[arg-type]

    assert told(again) == told(rules)


def test_measures_of_a_file_are_taken_or_counted_anew(tmp_path: Path) -> None:
    store = TripleStore.of([("a", "p", "b"), ("c", "p", "d"), ("a", "q", "b")])
    path = tmp_path / "few.rules"
    path.write_text("0.5 :: q(X, Y) :- p(X, Y).  %! support=7 body_size=9\n")
    assert read_rule_set(path, store).support.tolist() == [7]
    anew = read_rule_set(path, store, measure=True)
    assert (anew.support.tolist(), anew.size.tolist()) == ([1], [2])


def test_anyburl_s_own_lines_are_understood() -> None:
    store = TripleStore.of([("a", "p", "b"), ("c", "p", "d"), ("a", "q", "b"), ("a", "r", "x1")])
    text = "2\t1\t0.5\tq(X,Y) <= p(X,Y)\n3\t1\t0.333\tr(X,x1) <= p(X,A)\n4\t1\t0.25\tr(X,x1) <= p(X,b)\n"
    rules = columns_of(store, import_rules(text, "anyburl")[0])
    told = [str(rules.rule(store, i)) for i in range(len(rules))]
    assert told == [
        "0.5 :: q(X, Y) :- p(X, Y).",
        "0.333333333333 :: r(X, x1) :- p(X, Z).",
        "0.25 :: r(X, x1) :- p(X, b).",
    ]
    assert rules.size.tolist() == [2, 3, 4]


def test_rules_a_graph_cannot_have_are_told_with_their_place(tmp_path: Path) -> None:
    store = TripleStore.of([("a", "p", "b"), ("a", "q", "b")])
    path = tmp_path / "odd.rules"
    path.write_text("0.5 :: q(X, Y) :- p(X, Z), p(Y, W).\n")
    with pytest.raises(InductionError, match=r"odd.rules:1: its variables do not hang together"):
        read_rule_set(path, store)
    path.write_text("0.5 :: q(X, Y) :- p(X, Y).\n0.5 :: q(X, Y) :- p(X, Y), X > Y.\n")
    with pytest.raises(InductionError, match=r"odd.rules:2: X > Y is no condition that rules over graphs have"):
        read_rule_set(path, store)
    path.write_text("0.5 :: q(X, Y) :- p(X, Y).  %! support=1 body_size=9999999999\n")
    with pytest.raises(InductionError, match=r"odd.rules:1: support and body_size are 1 and 9999999999; no graph has"):
        read_rule_set(path, store)
    path.write_text("0.5 :: q(X, Y) :- p(X.\n")
    with pytest.raises(RuleError, match=r"odd.rules:1:"):
        read_rule_set(path, store)
    with pytest.raises(InductionError, match=r"'.txt' is no form of rule files"):
        read_rule_set(tmp_path / "x.txt", store)


def test_rules_about_what_the_graph_does_not_have_are_counted_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    store = TripleStore.of([("a", "p", "b"), ("a", "q", "b")])
    rules = parse_rules("0.5 :: q(X, Y) :- p(X, Y).\n0.5 :: q(X, Y) :- s(X, Y).\n0.5 :: q(X, nobody) :- p(X, Y).\n")
    assert len(columns_of(store, rules)) == 1
    assert "2 rules speak of what the graph does not have" in caplog.text


def test_the_method_of_aggregation_is_the_one_that_ranks_held_back_facts_best() -> None:
    store = TripleStore.of(planted())
    rules = RuleLearner(settings(2)).fit(store).rules
    applied = arrange(store, rules)
    name, how = best_aggregation(store, rules, applied, store.columns(), store)
    own = rank_answers(store, applied, how, store.columns(), store).mrr
    for method in ("max", "max-plus", "noisy-or", "grouped"):
        assert rank_answers(store, applied, aggregation(store, rules, method), store.columns(), store).mrr <= own
    assert name in ("max", "max-plus", "noisy-or", "grouped")


def test_a_json_file_has_a_rule_a_place_with_its_measures(tmp_path: Path) -> None:
    store = TripleStore.of(planted())
    rules = RuleLearner(settings(1)).fit(store).rules
    write_rule_set(tmp_path / "x.json", store, rules)
    told = json.loads((tmp_path / "x.json").read_text())
    assert len(told) == len(rules)
    assert {"rule", "confidence", "support", "body_size", "bound", "coverage", "lift", "p"} <= set(told[0])
