import math

import numpy as np
import pytest
from hypothesis import given, settings
from plain_rules import Triple, bindings, graphs

from neurosym.errors import ConfigError, InductionError
from neurosym.induction.kg.aggregation import METHODS, Aggregation, aggregation
from neurosym.induction.kg.applied import arrange
from neurosym.induction.kg.completion import Ranking, questions, rank_answers
from neurosym.induction.kg.paths import Thresholds
from neurosym.induction.kg.rules import ConstantRules, RuleColumns
from neurosym.induction.kg.short import short_rules
from neurosym.induction.kg.store import TripleStore
from neurosym.induction.kg.weights import WeightConfig, learn_weights

ANY = Thresholds(support=1, smoothed=0.0)
NO_CONSTANTS = ConstantRules(*(np.zeros(0, np.int32) for _ in range(4)))


def learned(store: TripleStore, thresholds: Thresholds = ANY) -> RuleColumns:
    found = short_rules(store, thresholds)
    return RuleColumns(found.paths, found.constants)


def predicted(store: TripleStore, rules: RuleColumns, facts: set[Triple]) -> dict[Triple, list[int]]:
    """Which rules say a fact, of all that any of them says."""
    said: dict[Triple, list[int]] = {}
    for i in range(len(rules)):
        rule = rules.rule(store, i)
        head = rule.head[0]
        free = [t.name for t in head.args if t.is_variable]
        for values in bindings(rule, facts)[1]:
            theta = dict(zip(free, values, strict=True))
            s, o = (theta.get(t.name, t.name) for t in head.args)
            said.setdefault((s, head.predicate, o), []).append(i)
    return said


def plain_rank(
    facts: set[Triple],
    said: dict[Triple, list[int]],
    value: list[float],
    witness: list[str],
    fact: Triple,
    backwards: bool,
    method: str,
    depth: int,
) -> tuple[float, float]:
    """The least and the greatest rank that rounding allows; `witness`: the constant in each rule's body, "" if it has none."""
    s, r, o = fact
    x, answer = (o, s) if backwards else (s, o)
    entities = sorted({e for a, _, b in facts for e in (a, b)})

    def full(y: str) -> Triple:
        return (y, r, x) if backwards else (x, r, y)

    total = sum(p == r for _, p, _ in facts)

    def standing(y: str) -> tuple[float, ...]:
        best: dict[object, float] = {}
        for i in said.get(full(y), ()):
            key = (witness[i] if method == "grouped" else None) or i
            best[key] = max(value[i], best.get(key, 0.0))
        lists = sorted(best.values(), reverse=True)[:depth]
        share = sum(p == r and (a if backwards else b) == y for a, p, b in facts) / total
        usual = math.log(share + 1e-4)
        if not lists:
            return (False, 0.0, usual)
        if method in ("noisy-or", "grouped"):
            return (True, 0.01 * usual - sum(math.log1p(-v) for v in lists), 0.0)
        return (True, *lists, *[0.0] * (depth - len(lists)), usual)

    def above(a: tuple[float, ...], b: tuple[float, ...]) -> int:
        for one, other in zip(a, b, strict=False):
            if not math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-5):
                return 1 if one > other else -1
        return 0

    own = standing(answer)
    sides = [above(standing(y), own) for y in entities if y != answer and full(y) not in facts]
    higher, equal = sides.count(1), sides.count(0)
    return (1 + higher, 1 + higher + equal) if method in ("noisy-or", "grouped") else (1 + higher + equal / 2,) * 2


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_ranks_are_those_of_applying_each_rule_by_trying_all_assignments(facts: list[Triple]) -> None:
    store, known = TripleStore.of(facts), set(facts)
    rules = learned(store)
    said, value = predicted(store, rules, known), rules.smoothed.tolist()
    bodies = [rules.rule(store, i).body[0].args for i in range(len(rules))]
    witness = ["".join(t.name for t in args if not t.is_variable) for args in bodies]
    columns = store.columns()
    named = [
        (store.entities[int(s)], store.relations[int(r)], store.entities[int(o)])
        for s, r, o in zip(*columns, strict=True)
    ]
    for method in METHODS:
        found = rank_answers(store, arrange(store, rules), aggregation(store, rules, method, 3), columns, store)
        for i, fact in enumerate([*named, *named]):
            depth = 1 if method == "max" else 3
            low, high = plain_rank(known, said, value, witness, fact, i >= len(named), method, depth)
            assert low <= found.ranks[i] <= high


def test_a_tie_with_everybody_is_the_middle_rank() -> None:
    store = TripleStore.of([("a", "p", "b"), ("c", "q", "d"), ("e", "q", "f")])
    rules = learned(store, Thresholds(support=9))
    known = TripleStore.of_numbers(
        store.entities, store.relations, *(np.append(c, v) for c, v in zip(store.columns(), (0, 0, 3), strict=True))
    )
    asked = [np.array([v]) for v in (store.entities.number("a"), store.relation("p"), store.entities.number("d"))]
    ranks = rank_answers(store, arrange(store, rules), aggregation(store, rules), asked, known).ranks
    # a p ?: b is known and does not count, nothing speaks for the five others
    assert ranks[0] == 3.0


def test_mean_reciprocal_rank_and_hits_of_known_ranks() -> None:
    ranking = Ranking(np.array([1.0, 2.0, 4.0, 20.0]))
    assert ranking.mrr == pytest.approx((1 + 0.5 + 0.25 + 0.05) / 4)
    assert [ranking.hits(k) for k in (1, 3, 10)] == [0.25, 0.5, 0.75]


def test_the_number_of_workers_changes_no_rank() -> None:
    store = made_up_graph()
    rules = learned(store)
    how = aggregation(store, rules, "noisy-or")
    one, two = (
        rank_answers(store, arrange(store, rules), how, store.columns(), store, workers=n).ranks for n in (1, 2)
    )
    assert np.array_equal(one, two)


def made_up_graph() -> TripleStore:
    """`right` follows from `cause`; six relations that always agree, and are right where there is no cause, point elsewhere."""
    facts = []
    for i in range(60):
        facts += [(f"x{i}", "cause", f"y{i % 12}"), (f"x{i}", "right", f"y{i % 12}")]
        facts += [(f"x{i}", f"lure{k}", f"y{(i + 1 + i // 12) % 12}") for k in range(6)]
    for i in range(40):
        facts += [(f"z{i}", "right", f"y{i % 12}"), *((f"z{i}", f"lure{k}", f"y{i % 12}") for k in range(6))]
    return TripleStore.of(facts)


def test_learned_weights_rank_right_answers_higher_than_the_noisy_or_they_start_from() -> None:
    store = made_up_graph()
    rules = RuleColumns(short_rules(store, Thresholds(5, 0.1), 1).paths, NO_CONSTANTS)
    applied, start = arrange(store, rules), aggregation(store, rules, "noisy-or", depth=10)
    asked = store.columns()

    def mrr(how: Aggregation) -> float:
        """Of the questions after objects: the subjects of one object cannot be told apart."""
        own = [c[asked[1] == store.relation("right")] for c in asked]
        return Ranking(rank_answers(store, applied, how, own, store).ranks[: len(own[0])]).mrr

    found = learn_weights(store, rules, applied, start, 1, WeightConfig(epochs=10))
    assert mrr(start) < 0.8
    assert mrr(found) > 0.95
    assert (found.term >= 0).all()


def test_where_no_epoch_is_judged_better_the_weights_are_those_of_the_start() -> None:
    store = made_up_graph()
    rules = learned(store)
    start = aggregation(store, rules, "noisy-or")
    values = iter([0.5, 0.4, 0.3])
    found = learn_weights(
        store, rules, arrange(store, rules), start, 1, WeightConfig(epochs=2), judge=lambda _: next(values)
    )
    assert found is start


def test_the_best_judged_epoch_is_kept_not_the_last() -> None:
    store = made_up_graph()
    rules = learned(store)
    seen: list[Aggregation] = []

    def judge(how: Aggregation) -> float:
        seen.append(how)
        return [0.1, 0.9, 0.5][len(seen) - 1]

    start = aggregation(store, rules, "noisy-or")
    found = learn_weights(store, rules, arrange(store, rules), start, 1, WeightConfig(epochs=2), judge)
    assert found is seen[1]


def test_the_same_seed_gives_the_same_weights() -> None:
    store = made_up_graph()
    rules = learned(store)
    start = aggregation(store, rules, "noisy-or")
    a, b = (learn_weights(store, rules, arrange(store, rules), start, 1, WeightConfig(), workers=n) for n in (1, 2))
    assert np.array_equal(a.term, b.term)


def test_an_answer_is_scored_without_the_rules_that_only_its_own_fact_gave_enough_support() -> None:
    # p(X, Y) ← q(X, Y) has support 2: without the fact in question it has 1, too little to be a rule
    store = TripleStore.of([("a", "p", "b"), ("c", "p", "d"), ("a", "q", "b"), ("c", "q", "d"), ("e", "q", "f")])
    rules = learned(store, Thresholds(support=2))
    start = aggregation(store, rules, "noisy-or")
    found = learn_weights(store, rules, arrange(store, rules), start, 2, WeightConfig())
    assert len(rules) > 0
    assert np.array_equal(found.term, start.term)


def test_settings_and_methods_that_make_no_sense_are_refused() -> None:
    store = TripleStore.of([("a", "p", "b")])
    with pytest.raises(InductionError, match="max-plus"):
        aggregation(store, learned(store), "maxplus")
    with pytest.raises(ConfigError, match="epochs is 0 but must be at least 1; rate is 0 but must be positive"):
        WeightConfig(epochs=0, rate=0)


def test_questions_are_asked_in_both_directions() -> None:
    asked = questions([np.array([1]), np.array([2]), np.array([3])])
    assert asked.tolist() == [[1, 4, 3], [3, 5, 1]]
