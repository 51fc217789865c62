import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_films import films, rule
from rule_brute_force import measure
from rule_strategies import rules, stores

from neurosym.errors import InductionError
from neurosym.induction import evaluate_rule
from neurosym.induction.index import FactIndex
from neurosym.records import Fact, FactStore, Rule

LUNGS = FactStore(
    tuple(
        Fact(relation, args, weight, scene)
        for scene, weight in (("f1", 0.9), ("f2", 0.8), ("f3", 0.7))
        for relation, args in (("right_lung", ("d1",)), ("heart", ("d2",)), ("left_lung", ("d3",)))
    )
    + (Fact("left_of", ("d1", "d2"), 1.0, "f1"), Fact("left_of", ("d1", "d2"), 0.5, "f2"))
)


@given(rules(), stores(), st.booleans())
@settings(max_examples=400, deadline=None)
def test_every_measure_equals_that_of_trying_all_assignments(rule: Rule, store: FactStore, injective: bool) -> None:
    try:
        found = evaluate_rule(rule, store, injective=injective, cases=1000)
    except InductionError:
        raise AssertionError("this rule can be measured") from None
    true = measure(rule, store, injective)
    assert (found.body_size, found.support) == (true.body_size, true.support)
    assert found.confidence == pytest.approx(true.confidence)
    assert found.pca_confidence == pytest.approx(true.pca_confidence)
    assert found.head_coverage == pytest.approx(true.head_coverage)
    assert found.lift == pytest.approx(true.lift)
    assert found.weighted_confidence == pytest.approx(true.weighted_confidence)
    assert list(found.supporting) == true.supporting
    assert list(found.refuting) == true.refuting


@given(rules(), stores(), st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_order_of_facts_and_atoms_does_not_matter(rule: Rule, store: FactStore, random: object) -> None:
    facts, body = list(store.facts), list(rule.body)
    random.shuffle(facts)
    random.shuffle(body)
    assert evaluate_rule(Rule(rule.head, tuple(body)), FactStore(tuple(facts))) == evaluate_rule(rule, store)


def test_atoms_without_a_common_variable_meet_within_one_scene_only() -> None:
    found = evaluate_rule(rule("left_of(X, Y) :- right_lung(X), heart(Y)."), LUNGS)
    assert (found.body_size, found.support) == (3, 2)
    assert (found.supporting, found.refuting) == (("f1", "f2"), ("f3",))


def test_the_prior_of_a_relation_is_its_share_of_the_ordered_pairs_of_a_scene() -> None:
    found = evaluate_rule(rule("left_of(X, Y) :- right_lung(X), heart(Y)."), LUNGS)
    assert found.prior == pytest.approx(2 / 18)
    assert found.lift == pytest.approx(2 / 3 / (2 / 18))
    assert evaluate_rule(rule("heart(X) :- left_of(Y, X)."), LUNGS).prior == pytest.approx(3 / 9)


def test_refuting_scenes_come_strongest_first_and_are_cut_but_counted() -> None:
    nothing = evaluate_rule(rule("inside(X, Y) :- right_lung(X), heart(Y)."), LUNGS, cases=2)
    assert nothing.refuting == ("f1", "f2")
    assert nothing.refuting_count == 3
    assert nothing.supporting == ()


def test_a_head_as_certain_as_its_body_refutes_nothing() -> None:
    facts = (Fact("left_of", ("a", "b"), 0.9), Fact("right_of", ("b", "a"), 0.9), Fact("left_of", ("b", "c"), 0.1))
    found = evaluate_rule(rule("right_of(X, Y) :- left_of(Y, X)."), FactStore(facts))
    assert found.weighted_confidence == pytest.approx(0.9)
    assert found.confidence == 0.5


def test_cases_of_a_general_graph_are_head_facts() -> None:
    facts = (Fact("p", ("a", "b")), Fact("p", ("b", "c"), 0.5), Fact("q", ("b", "a")))
    found = evaluate_rule(rule("q(X, Y) :- p(Y, X)."), FactStore(facts))
    assert (found.supporting, found.refuting) == (("q(b, a)",), ("q(c, b)",))


def test_pca_confidence_forgives_what_is_unknown() -> None:
    facts = (Fact("born", ("a", "x")), Fact("lives", ("a", "x")), Fact("lives", ("b", "y")), Fact("lives", ("a", "y")))
    found = evaluate_rule(rule("born(X, Y) :- lives(X, Y)."), FactStore(facts))
    assert found.confidence == pytest.approx(1 / 3)
    assert found.pca_confidence == pytest.approx(1 / 2)


def test_distinct_variables_may_bind_one_entity_under_homomorphic_semantics() -> None:
    facts = FactStore((Fact("p", ("a", "b")), Fact("p", ("c", "b")), Fact("q", ("a", "c"))))
    both = rule("q(X, Y) :- p(X, Z), p(Y, Z).")
    assert evaluate_rule(both, facts).body_size == 2
    assert evaluate_rule(both, facts, injective=False).body_size == 4


def test_an_existential_head_holds_if_some_entity_fits() -> None:
    found = evaluate_rule(rule("left_of(X, Y) :- right_lung(X)."), LUNGS)
    assert (found.body_size, found.support) == (3, 2)


def test_an_index_may_be_built_once_for_many_rules() -> None:
    index = FactIndex.of(films(5))
    some = rule("left_of(X, Y) :- right_lung(X), left_lung(Y).")
    assert evaluate_rule(some, index) == evaluate_rule(some, films(5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (":- p(X, Y).", ":- p(X, Y). is a denial: without a head it has no confidence"),
        ("p(X, X) :- .", "p(X, X). has no body: there is nothing to condition on"),
        ("a(X, Y) :- p(X, Y).", "a(X, Y) has 2 arguments but the facts of 'a' have 1"),
        ("p(X, Y) :- t(X, Y, Z).", "t(X, Y, Z) has 3 arguments; facts have one or two"),
        ("p(X, Y) :- =(X, Y).", "uses equality, which has no facts"),
    ],
)
def test_a_rule_that_cannot_be_measured_says_why(text: str, message: str) -> None:
    facts = FactStore((Fact("a", ("x",)), Fact("p", ("x", "y"))))
    with pytest.raises(InductionError) as error:
        evaluate_rule(rule(text), facts)
    assert message in str(error.value)


def test_the_place_of_a_rule_is_in_its_error() -> None:
    denial = Rule((), rule("p(X, Y) :- p(X, Y).").body, file="thorax.rules", line=7)
    with pytest.raises(InductionError, match=r"^thorax\.rules:7: "):
        evaluate_rule(denial, FactStore((Fact("p", ("x", "y")),)))


def test_a_rule_that_is_too_much_work_is_refused_and_not_estimated() -> None:
    with pytest.raises(InductionError, match="needs a table of more than 100 rows; add an atom"):
        evaluate_rule(rule("left_of(X, Y) :- left_of(X, Z), left_of(Z, Y)."), films(10), work_cap=100)
