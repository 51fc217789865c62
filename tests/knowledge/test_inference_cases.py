"""Inference, case by case: what the definition leaves to us, and what is told to people."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from neurosym.errors import KnowledgeError, RuleError
from neurosym.knowledge.inference import GroundAtom, Null, Program, Text, infer
from neurosym.logic import Atom, Comparison, Count, Expression, Negation, Rule, Term, number
from tests.knowledge.spelled import D, E, X, Y, Z, atom, names, rule


def test_negation_and_counting_wait_for_all_that_they_ask_about() -> None:
    rules = [
        rule([atom("lonely", X)], [atom("node", X)], Negation(atom("near", X, Term("_")))),
        rule([atom("hub", X)], [atom("node", X)], Comparison(">=", Count((Y,), (atom("near", X, Y),)), number(2))),
        rule([atom("far", X)], [atom("lonely", X)], Negation(atom("hub", X))),
        rule([atom("hub", Y), atom("near", Y, X)], [atom("near", X, Y)]),  # its heads have different strata
        rule([atom("near", X, Y)], [atom("touches", X, Y)]),
    ]
    facts: list[GroundAtom] = [("node", (n,)) for n in "abcd"]
    facts += [("touches", ("a", "b")), ("touches", ("a", "b")), ("touches", ("c", "b"))]
    for order in itertools.permutations(rules):
        found = infer(facts, order, frozenset())
        assert [names(found, p) for p in ("lonely", "hub", "far")] == [["d"], ["a", "b", "c"], ["d"]]


def test_a_count_is_of_different_values_for_each_object_that_the_rule_speaks_of() -> None:
    of_kinds = Count((Z,), (atom("part", X, Y), atom("kind", Y, Z)))
    counted = rule([atom("kinds", X, D)], [atom("thing", X)], Comparison("is", D, of_kinds))
    facts: list[GroundAtom] = [("thing", ("s",)), ("thing", ("t",)), ("thing", ("u",))]
    facts += [("part", ("s", "p")), ("part", ("s", "q")), ("part", ("t", "p"))]
    facts += [("kind", ("p", "k")), ("kind", ("q", "k")), ("kind", ("q", "l"))]
    assert names(infer(facts, [counted]), "kinds") == [("s", 2), ("t", 1), ("u", 0)]


def test_a_variable_of_a_negation_is_its_own_only_if_the_rule_has_it_nowhere_else() -> None:
    unpaired = rule([atom("unpaired", X)], [atom("r", X, Y), atom("s", Y, Z)], Negation(atom("r", X, Z)))
    facts: list[GroundAtom] = [("r", ("a", "b")), ("s", ("b", "c")), ("r", ("d", "b")), ("r", ("d", "c"))]
    assert names(infer(facts, [unpaired]), "unpaired") == ["a"], "and not: r(a, anything)"
    late = rule(
        [atom("p", X)], [atom("m", X, D)], Negation(atom("m", X, E)), Comparison("is", E, Expression("+", (D, D)))
    )
    assert names(infer([("m", ("a", 1)), ("m", ("a", 2)), ("m", ("b", 3))], [late], frozenset({"m"})), "p") == [
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [("<", [1]), ("=<", [1, 2]), (">", [3]), (">=", [2, 3]), ("=:=", [2]), ("=\\=", [1, 3]), ("\\=", [1, 3])],
)
def test_each_comparison_at_its_limit(operator: str, expected: list[int]) -> None:
    facts: list[GroundAtom] = [("m", ("a", i)) for i in (1, 2, 3)]
    for limit in (number(2), number(2.0), Expression("+", (number(1), number(1)))):
        kept = rule([atom("kept", D)], [atom("m", X, D)], Comparison(operator, D, limit))
        assert names(infer(facts, [kept], frozenset({"m"})), "kept") == expected


def test_a_witness_is_made_once_and_only_if_none_is_there() -> None:
    in_lung = rule([atom("inside", X, Y), atom("lung", Y)], [atom("nodule", X)])
    known: list[GroundAtom] = [("nodule", ("n",)), ("inside", ("n", "l")), ("lung", ("l",))]
    assert infer(known, [in_lung]).derived == 0
    made = infer([*known[:2], ("nodule", ("m",))], [in_lung])
    nulls = [args[0] for _, args in made.facts("lung")]
    assert made.derived == 4
    assert len(set(nulls)) == 2
    assert all(isinstance(v, Null) for v in nulls)


def test_a_witness_that_rules_can_find_is_not_made() -> None:
    rules = [
        rule([atom("part", X, Y), atom("nucleus", Y)], [atom("cell", X)]),
        rule([atom("nucleus", Y)], [atom("part", X, Y), atom("dark", Y)]),
    ]
    found = infer([("cell", ("c",)), ("part", ("c", "n")), ("dark", ("n",))], rules)
    assert set(found.conclusions()) == {("nucleus", ("n",))}


def test_under_distinct_nothing_is_its_own_witness() -> None:
    friend = [atom("friend", X, Y)], [atom("person", X)]
    facts: list[GroundAtom] = [("person", ("a",)), ("friend", ("a", "a"))]
    assert infer(facts, [rule(*friend, distinct=False)]).derived == 0
    assert infer(facts, [rule(*friend)]).derived == 1


def test_a_functional_relation_names_the_null() -> None:
    rules = [
        rule([atom("part", X, Y), atom("nucleus", Y)], [atom("cell", X)], name="has_nucleus"),
        rule([Atom("=", (Y, Z))], [atom("part", X, Y), atom("part", X, Z)], name="one_part"),
        rule([atom("odd", X)], [atom("nucleus", X)], Negation(atom("blue", X))),
    ]
    found = infer([("cell", ("c",)), ("part", ("c", "n")), ("blue", ("n",))], rules)
    assert set(found.conclusions()) == {("nucleus", ("n",))}, "the null is n, and n is blue"
    assert str(found.proof(("nucleus", ("n",)))) == (
        "nucleus(n)  [equals for equals]\n"
        "  nucleus(_:n1)  [has_nucleus]\n"
        "    cell(c)  [given]\n"
        "  _:n1 = n  [one_part]\n"
        "    part(c, n)  [given]\n"
        "    part(c, _:n1)  [has_nucleus]\n"
        "      cell(c)  [given]"
    )


def test_two_names_or_two_numbers_that_should_be_one_are_a_clash() -> None:
    one = rule([Atom("=", (Y, Z))], [atom("part", X, Y), atom("part", X, Z)])
    found = infer([("part", ("c", "n")), ("part", ("c", "m"))], [one])
    [clash] = found.clashes
    assert set(clash.premises) == {("part", ("c", "n")), ("part", ("c", "m"))}
    assert set(clash.equated or ()) == {"n", "m"}
    assert found.proof_of(clash).conclusion == ("=", clash.equated)
    assert found.derived == 0
    numbers = infer([("part", ("c", 1)), ("part", ("c", 1.0)), ("part", ("c", 2))], [one], frozenset({"part"}))
    assert [set(c.equated or ()) for c in numbers.clashes] == [{1, 2}]


def test_a_witness_that_turns_out_to_be_what_it_must_not_be_is_a_clash() -> None:
    friend = rule([atom("friend", X, Y)], [atom("person", X)], name="friend")
    one = rule([Atom("=", (Y, Z))], [atom("friend", X, Y), atom("friend", X, Z)], distinct=False)
    found = infer([("person", ("a",)), ("friend", ("a", "a"))], [friend, one])
    [clash] = found.clashes
    assert (clash.rule, clash.equated) == (friend, (Null(1, 1), "a"))
    assert str(found.proof_of(clash)).startswith("contradiction  [friend]\n  person(a)  [given]\n  _:n1 = a  [Y = Z")


def test_given_nulls_are_objects_without_a_name() -> None:
    one = rule([Atom("=", (Y, Z))], [atom("part", X, Y), atom("part", X, Z)])
    null = Null(7, 1)
    found = infer([("part", ("c", null)), ("blue", (null,)), ("part", ("c", "n"))], [one])
    assert set(found.facts()) == {("part", ("c", "n")), ("blue", ("n",))}
    assert found.holds(("blue", (null,)))
    assert str(found.proof(("blue", ("n",)))).startswith("blue(n)  [equals for equals]\n  blue(_:n7)  [given]")


def test_chains_of_nulls_end_at_the_depth_and_it_is_reported() -> None:
    parent = rule([atom("parent", X, Y), atom("person", Y)], [atom("person", X)])
    found = infer([("person", ("a",))], [parent], max_depth=3)
    assert found.derived == 6
    assert found.truncated == (parent,)
    assert sorted(v.depth for _, (v,) in found.conclusions("person") if isinstance(v, Null)) == [1, 2, 3]


def test_counting_up_without_end_is_stopped_and_reported() -> None:
    grows = [
        rule([atom("n", E)], [atom("n", D)], Comparison("is", E, Expression(op, (D, number(2))))) for op in ("+", "*")
    ]
    found = Program(grows, frozenset({"n"})).run([("n", (1,))], max_computed=1000)
    assert set(found.truncated) == set(grows)
    squares = rule([atom("n", E)], [atom("n", D)], Comparison("is", E, Expression("*", (D, D))))
    assert names(infer([("n", (10,))], [squares]), "n") == [10, 10**2, 10**4, 10**8, 10**16], "then 64 bits are over"


def test_bindings_are_bounded_at_every_atom_and_what_is_found_within_is_true() -> None:
    loose = [Term(f"V{n}") for n in range(5)]
    often = rule([atom("often", loose[0])], [atom("a", v) for v in loose])
    facts: list[GroundAtom] = [("a", (n,)) for n in "abcdef"]
    whole = Program([often]).run(facts, max_bindings=10_000)
    assert (names(whole, "often"), whole.truncated) == (list("abcdef"), ())
    part = Program([often]).run(facts, max_bindings=100)
    assert part.truncated == (often,)
    assert 0 < part.derived < 6


def test_what_cannot_be_computed_is_false() -> None:
    half = Comparison(">", Expression("/", (number(1), D)), number(0))
    head, body = [atom("yes", X)], [atom("m", X, D)]
    facts: list[GroundAtom] = [
        ("m", ("a", 0)),
        ("m", ("b", Text("2"))),
        ("m", ("c", "e")),
        ("m", ("d", 2)),
        ("m", ("f", -1)),
    ]
    assert names(infer(facts, [rule(head, body, half)], frozenset({"m"})), "yes") == ["d"]
    assert names(infer(facts, [rule(head, body, Comparison("<", D, number(9)))], frozenset({"m"})), "yes") == [
        "a",
        "d",
        "f",
    ]
    different = Comparison("\\=", D, Term("2", False, "string"))
    assert names(infer(facts, [rule(head, body, different)], frozenset({"m"})), "yes") == ["a", "c", "d", "f"]


def test_distinct_is_for_objects_not_for_values() -> None:
    same = rule([atom("twins", X, Y)], [atom("m", X, D), atom("m", Y, E)])
    facts: list[GroundAtom] = [("m", ("a", 1)), ("m", ("b", 1)), ("m", ("c", 2))]
    assert len(names(infer(facts, [same], frozenset({"m"})), "twins")) == 6
    assert len(names(infer(facts, [same]), "twins")) == 6, "two numbers may be equal wherever they stand"
    texts: list[GroundAtom] = [("m", ("a", "u")), ("m", ("b", "u")), ("m", ("c", "v"))]
    assert len(names(infer(texts, [same]), "twins")) == 4, "two objects may not"
    assert len(names(infer([("m", ("a", Text("u"))), ("m", ("b", Text("u")))], [same]), "twins")) == 2


def test_a_text_is_not_an_individual() -> None:
    facts: list[GroundAtom] = [("m", ("x", Text("a"))), ("m", ("y", "a"))]
    of_text, of_name = ([atom("m", X, Term("a", False, kind))] for kind in ("string", ""))
    assert names(infer(facts, [rule([atom("p", X)], of_text)]), "p") == ["x"]
    assert names(infer(facts, [rule([atom("p", X)], of_name)]), "p") == ["y"]


def test_rules_without_a_body_are_facts_or_demand_an_object() -> None:
    rules = [
        rule([atom("lung", "l")], []),
        rule([atom("heart", X)], []),
        rule([atom("no", "l")], [], Negation(atom("bad", "l"))),
    ]
    found = infer([], rules)
    assert found.holds(("lung", ("l",)))
    assert found.holds(("no", ("l",)))
    assert [type(args[0]) for _, args in found.facts("heart")] == [Null]


def test_a_predicate_may_have_several_arities() -> None:
    found = infer([("p", ("a",)), ("p", ("a", "b"))], [rule([atom("q", X)], [atom("p", X)])])
    assert set(found.conclusions()) == {("q", ("a",))}


def test_conditions_are_told_with_their_values() -> None:
    crowded = rule(
        [atom("crowded", X)],
        [atom("lung", X), atom("score", X, D)],
        Comparison(">", Count((Y,), (atom("inside", Y, X),)), number(1)),
        Comparison("is", E, Expression("*", (D, number(2)))),
        Comparison(">", E, number(0.5)),
        Negation(atom("artefact", X)),
        name="crowding",
    )
    facts: list[GroundAtom] = [("lung", ("l",)), ("score", ("l", 0.5)), ("inside", ("a", "l")), ("inside", ("b", "l"))]
    proof = infer(facts, [crowded], frozenset({"score"})).proof(("crowded", ("l",)))
    assert proof.conditions == (
        "count{Y : inside(Y, l)} = 2",
        "2 > 1",
        "0.5 * 2 = 1.0",
        "1.0 > 0.5",
        "no artefact(l)",
    )
    assert proof.rules() == {crowded}


def test_a_proof_names_the_place_of_each_rule() -> None:
    placed = Rule((atom("q", X),), (atom("p", X),), meta={"id": "r"}, file="a.rules", line=3)
    assert str(infer([("p", ("Left lung",))], [placed]).proof(("q", ("Left lung",)))) == (
        "q('Left lung')  [r, a.rules:3]\n  p('Left lung')  [given]"
    )


def test_a_proof_may_be_deep_and_tells_shared_parts_once() -> None:
    step = rule([atom("p", Y)], [atom("p", X), atom("next", X, Y)])
    chain: list[GroundAtom] = [("next", (f"x{i}", f"x{i + 1}")) for i in range(2000)]
    found = infer([("p", ("x0",)), *chain], [step])
    assert str(found.proof(("p", ("x2000",)))).count("\n") == 4000
    double = rule([atom("q", X, Y)], [atom("p", X), atom("p", Y)], distinct=False, name="double")
    twice = rule([atom("p", "b")], [atom("a", "a")], name="twice")
    text = str(infer([("a", ("a",))], [twice, double]).proof(("q", ("b", "b"))))
    assert text.count("a(a)") == 1
    assert text.count("(shown above)") == 1


def test_asking_for_the_proof_of_what_does_not_hold_names_what_does() -> None:
    found = infer([("lung", ("l1",))], [rule([atom("organ", X)], [atom("lung", X)])])
    with pytest.raises(KnowledgeError, match=r"organ\(l2\) is neither given nor derived; did you mean 'organ\(l1\)'\?"):
        found.proof(("organ", ("l2",)))
    with pytest.raises(KnowledgeError, match=r"did you mean 'organ'\?"):
        found.proof(("orgn", ("l1",)))


def test_negation_in_a_circle_is_an_error_that_names_the_circle() -> None:
    def placed(line: int, head: Atom, body: Atom, *conditions: Any) -> Rule:
        return Rule((head,), (body,), None, {"id": f"r{line}"}, "a.rules", line, conditions)

    rules = [
        placed(1, atom("p", X), atom("q", X), Negation(atom("r", X))),
        placed(2, atom("r", X), atom("s", X)),
        placed(3, atom("s", X), atom("p", X)),
        placed(4, atom("t", X), atom("q", X), Comparison(">", Count((Y,), (atom("t", Y),)), number(1))),
    ]
    with pytest.raises(RuleError) as caught:
        Program(rules)
    first, second = str(caught.value).splitlines()
    assert first.startswith(
        "a.rules:1: p depends on its own negation or count: p negates r, by r1 (a.rules:1); "
        "r needs s, by r2 (a.rules:2); s needs p, by r3 (a.rules:3); break the cycle"
    )
    assert second.startswith("a.rules:4: t depends on its own negation or count: t counts t, by r4 (a.rules:4);")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            rule([atom("p", X)], [atom("q", X)], Comparison("<", D, number(1))),
            "unsafe rule: nothing binds what it tests: D < 1",
        ),
        (rule([atom("p", X)], [atom("q", X), Atom("=", (X, Y))]), "'=' stands in a head only"),
        (rule([Atom("=", (X, Y))], [atom("q", X)]), "the body does not bind Y"),
    ],
)
def test_rules_that_cannot_be_run_are_refused(wrong: Rule, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        Program([wrong])


def test_of_one_denial_only_so_many_clashes_are_kept() -> None:
    denials = [rule([], [atom("a", X)], name="one"), rule([], [atom("a", X), atom("b", X)], name="two")]
    facts: list[GroundAtom] = [(p, (f"x{i}",)) for i in range(10) for p in ("a", "b")]
    assert [c.rule.id for c in infer(facts, denials, clash_limit=3).clashes] == ["one"] * 3 + ["two"] * 3


def test_a_small_run_touches_only_the_rules_it_reaches() -> None:
    hierarchy = [rule([atom(f"c{i + 1}", X)], [atom(f"c{i}", X)]) for i in range(3000)]
    program = Program([*hierarchy, *(rule([], [atom(f"c{i}", X), atom("other", X)]) for i in range(3000))])
    assert program.run([("c2990", ("a",))]).derived == 10
    assert len(program.plans) == 10


def test_two_relations_that_grow_at_once_are_joined_both_ways() -> None:
    rules = [
        rule([atom("q", Y)], [atom("both", X), atom("nq", X, Y)]),
        rule([atom("s", Y)], [atom("both", X), atom("ns", X, Y)]),
        rule([atom("both", X)], [atom("q", X), atom("s", X)]),
    ]
    facts: list[GroundAtom] = [("q", ("a",)), ("q", ("c",)), ("s", ("a",)), ("s", ("b",))]
    facts += [("nq", ("a", "b")), ("ns", ("a", "c"))]
    assert names(infer(facts, rules), "both") == ["a", "b", "c"]


@pytest.mark.parametrize("names_of", [lambda i: f"x{i}", lambda i: i])
def test_recursion_finds_the_transitive_closure(names_of: Callable[[int], Any]) -> None:
    edges = [(i, (i * 7 + 3) % 40) for i in range(40)] + [(i, (i * 3 + 1) % 40) for i in range(0, 40, 5)]
    facts: list[GroundAtom] = [("e", (names_of(a), names_of(b))) for a, b in edges]
    rules = [
        rule([atom("t", X, Y)], [atom("e", X, Y)], distinct=False),
        rule([atom("t", X, Z)], [atom("t", X, Y), atom("t", Y, Z)], distinct=False),
    ]
    closure = set(edges)
    while more := {(a, d) for (a, b), (c, d) in itertools.product(closure, closure) if b == c} - closure:
        closure |= more
    assert {args for _, args in infer(facts, rules).facts("t")} == {(names_of(a), names_of(b)) for a, b in closure}
