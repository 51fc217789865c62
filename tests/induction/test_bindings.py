from __future__ import annotations

import pytest
from hypothesis import given

from neurosym.errors import InductionError
from neurosym.induction import evaluate_rule
from neurosym.induction.bindings import cases_of
from neurosym.knowledge import parse_rules
from neurosym.records import Fact, FactStore, Rule
from tests.induction.rule_brute_force import World, variables_of
from tests.induction.rule_strategies import rules, stores


@given(stores(), rules())
def test_there_are_as_many_cases_as_the_measures_count_and_each_is_true(store: FactStore, rule: Rule) -> None:
    try:
        measured = evaluate_rule(rule, store)
    except InductionError:
        with pytest.raises(InductionError):
            cases_of(rule, store)
        return
    found = cases_of(rule, store)
    assert (len(found), sum(c.holds for c in found)) == (measured.body_size, measured.support)
    assert [c.holds for c in found] == sorted(c.holds for c in found)
    world = World(store)
    body, head = variables_of(rule.body), variables_of(rule.head)
    for case in found:
        theta = {v: case.binding[v.name] for v in {*body, *head} if v.name in case.binding}
        assert set(body) <= set(theta)
        assert case.weight == world.truth(rule.body, theta, case.scene) > 0
        if case.holds:
            assert world.truth(rule.head, theta, case.scene) > 0


def test_a_case_against_an_existential_head_leaves_open_what_is_missing() -> None:
    [rule] = parse_rules("inside(N, L), lung(L) :- nodule(N).")
    facts = [Fact("nodule", (n,), scene=s) for s, n in (("a", "1"), ("b", "1"))]
    facts += [Fact("inside", ("1", "2"), scene="a"), Fact("lung", ("2",), scene="a")]
    against, for_it = cases_of(rule, FactStore(tuple(facts)))
    assert (against.scene, against.binding) == ("b", {"N": "1"})
    assert (for_it.scene, for_it.binding) == ("a", {"N": "1", "L": "2"})


def test_a_rule_with_conditions_is_refused_instead_of_measured_without_them() -> None:
    [rule] = parse_rules(r"large(X) :- heart(X), \+ small(X).")
    facts = FactStore((Fact("heart", ("1",), scene="a"), Fact("large", ("1",), scene="a")))
    for measure in (evaluate_rule, cases_of):
        with pytest.raises(InductionError, match=r"has conditions \(\\\+ small\(X\)\), which are not measured"):
            measure(rule, facts)
