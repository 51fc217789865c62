from math import nan

import pytest

from neurosym.errors import InductionError
from neurosym.induction.index import FactIndex
from neurosym.records import Fact, FactStore


def problems(*facts: Fact) -> list[str]:
    with pytest.raises(InductionError) as error:
        FactIndex.of(FactStore(facts))
    return [str(problem) for problem in error.value.problems]


def test_nothing_can_be_learned_from_no_facts() -> None:
    assert problems() == ["there are no facts to learn from; was anything detected?"]


def test_a_relation_with_two_arities_names_a_fact_of_each() -> None:
    assert problems(Fact("inside", ("d1", "d2")), Fact("inside", ("d3",))) == [
        "relation 'inside' has facts with 1 and 2 arguments: inside(d3) and inside(d1, d2); rename one of them"
    ]


def test_weights_lie_above_zero_and_up_to_one() -> None:
    found = problems(Fact("p", ("a", "b"), 0.0), Fact("p", ("b", "c"), nan), Fact("p", ("c", "d"), 1.5, ""))
    assert found == [
        "weight 0.0 of p(a, b) is not in (0, 1]",
        "weight nan of p(b, c) is not in (0, 1]",
        "weight 1.5 of p(c, d) is not in (0, 1]",
    ]


def test_facts_with_and_without_a_scene_do_not_mix() -> None:
    assert problems(Fact("p", ("a", "b"), 1.0, "film1"), Fact("q", ("c",))) == [
        "p(a, b) of film1 belongs to a scene but q(c) to none; give every fact a scene, or none"
    ]


def test_facts_have_one_or_two_arguments() -> None:
    assert problems(Fact("between", ("a", "b", "c"))) == [
        "between(a, b, c) has 3 arguments; rules are induced over one or two"
    ]


def test_a_flood_of_problems_is_cut_but_counted() -> None:
    found = problems(*(Fact("p", ("a", f"b{i}"), -1.0) for i in range(50)))
    assert len(found) == 21
    assert found[-1] == "… and 30 more"


def test_an_entity_is_a_name_within_a_scene_and_a_repeated_fact_keeps_its_best_weight() -> None:
    index = FactIndex.of(
        FactStore((Fact("a", ("d1",), 0.5, "f1"), Fact("a", ("d1",), 0.7, "f1"), Fact("a", ("d1",), 0.2, "f2")))
    )
    assert index.entities == (("f1", "d1"), ("f2", "d1"))
    assert index.relations[0].weight.tolist() == [0.7, 0.2]
