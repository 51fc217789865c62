from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neurosym.errors import RuleError
from neurosym.knowledge.canonical import canonical, rename
from neurosym.knowledge.rules import format_rule, format_text, parse_leniently, parse_rules, read_rules, write_rules
from neurosym.knowledge.statements import directives
from neurosym.logic import Comparison, Count, Expression, Negation, number
from neurosym.records import Atom, Rule, Term
from tests.knowledge.rule_texts import rules


@given(rules)
def test_a_printed_rule_parses_back_to_itself(rule: Rule) -> None:
    [back] = parse_rules(format_rule(rule))
    assert back == rule
    assert dict(back.meta) == dict(rule.meta)


@given(st.lists(rules, max_size=5))
def test_formatting_is_idempotent(several: list[Rule]) -> None:
    text = "".join(f"{format_rule(r)}\n" for r in several)
    assert format_text(text) == text


@given(st.text(max_size=200))
def test_any_text_either_parses_or_says_what_is_wrong(text: str) -> None:
    _, problems = parse_leniently(text, "x.rules")
    assert all(p.file == "x.rules" and p.line >= 1 and p.message for p in problems)


def test_weights_existential_heads_denials_and_equalities_are_read() -> None:
    text = """
    % where lesions are
    0.909 :: inside(X, L), lung(L) :- nodule(X).  %! id=nodule_in_lung source="JSRT, 140 of 154"
    X = Y :- heart(X), heart(Y).
    :- heart(H),
       lung(L), inside(H, L).
    """
    lesion, one, denial = parse_rules(text)
    assert (lesion.weight, lesion.id, lesion.meta["source"]) == (0.909, "nodule_in_lung", "JSRT, 140 of 154")
    assert lesion.existential == (Term("L"),)
    assert one.head == (Atom("=", (Term("X"), Term("Y"))),)
    assert denial.head == ()
    assert (denial.line, str(denial)) == (5, ":- heart(H), lung(L), inside(H, L).")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("left_of(R, H :- a(R).", "x.rules:1:14: unexpected ':-'; expected ')' or ','"),
        ("a(X) :- b(X)", "x.rules:1:13: the rule does not end; expected '.'"),
        ("2 :: a(X) :- b(X).", "x.rules:1: weight 2 is not a probability; expected 0 < weight <= 1"),
        ("0 :: a(X) :- b(X).", "x.rules:1: weight 0 is not a probability; expected 0 < weight <= 1"),
        ("a(X) :- b(“x”).", "x.rules:1:11: unexpected character '“'; write plain ASCII quotes"),
        (".", "x.rules:1: a rule needs a head or a body"),
        ("'='(X) :- heart(X).", "x.rules:1: '=' is not a name; write X = Y"),
        ("'='(X, Y) :- heart(X), heart(Y).", "x.rules:1: '=' is not a name; write X = Y"),
    ],
)
def test_a_syntax_error_names_line_column_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(RuleError) as error:
        parse_rules(text, "x.rules")
    assert str(error.value) == message


def test_all_errors_of_a_file_are_told_at_once_and_a_lost_dot_spoils_one_rule_only() -> None:
    text = "a(X) :- b(X)\nc(X) :- d(X).\ne(X :- f(X).\ng(X) :- h(X)."
    with pytest.raises(RuleError) as error:
        parse_rules(text)
    assert [p.line for p in error.value.problems] == [1, 3]


def test_a_file_that_is_not_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_bytes(b"a(X) :- b(X).\n\xff\xfe")
    with pytest.raises(RuleError, match="x.rules:2: not UTF-8 text; save the file as UTF-8"):
        read_rules(path)


def test_a_failed_write_leaves_the_old_rule_file(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    write_rules(path, parse_rules("a(X) :- b(X)."))
    before = path.read_text()

    def broken():  # type: ignore[no-untyped-def]
        yield from parse_rules("c(X) :- d(X).")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rules(path, broken())
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.rules"]


@given(rules, st.randoms(use_true_random=False))
def test_renaming_variables_and_reordering_parts_keep_the_canonical_form(rule: Rule, random: Random) -> None:
    variables = sorted({v for part in (*rule.head, *rule.body, *rule.conditions) for v in part.variables})
    assume(len(variables) <= 7)
    names = [f"V{i}x" for i in range(len(variables))]
    random.shuffle(names)
    fresh = dict(zip(variables, names, strict=True))

    def respelled(parts: Sequence[Any]) -> tuple[Any, ...]:
        renamed = [rename(p, lambda t: Term(fresh[t]) if t.is_variable else t) for p in parts]
        return tuple(random.sample(renamed, len(renamed)))

    other = Rule(respelled(rule.head), respelled(rule.body), conditions=respelled(rule.conditions))
    assert canonical(other) == canonical(rule)


def test_rules_that_differ_in_more_than_spelling_have_different_forms() -> None:
    texts = ("r(X, Y) :- a(X), b(Y).", "r(Y, X) :- a(X), b(Y).", "r(X, Y) :- a(Y), b(Y).", "r(X, x) :- a(X), b(Y).")
    assert len({canonical(parse_rules(t)[0]) for t in texts}) == 4
    same = (
        ":- heart(X), heart(Y), left_of(X, Y).",
        ":- heart(Y), heart(X), left_of(X, Y).",
        ":- left_of(B, A), heart(A), heart(B).",
    )
    assert len({canonical(parse_rules(t)[0]) for t in same}) == 1


@pytest.mark.parametrize("atom", ["lung(X{})", "near(X, X{})", "near(X{}, Y)"])
def test_many_variables_that_can_be_exchanged_are_told_to_be_the_same_rule_at_once(atom: str) -> None:
    atoms = [atom.format(i) for i in range(200)]
    forms = {
        canonical(parse_rules(f"near(X, Y) :- heart(X), lung(Y), {', '.join(order)}.")[0])
        for order in (atoms, atoms[::-1])
    }
    assert len(forms) == 1


def test_relations_of_any_graph_can_be_written_in_quotes() -> None:
    [rule] = parse_rules("'_hypernym'(X, 'Bob') :- '/people/person'(X, Y), born(Y, 1970).")
    assert rule.head == (Atom("_hypernym", (Term("X"), Term("Bob", False))),)
    assert rule.body[1].args[1] == Term("1970", False, "integer")
    assert str(rule) == "'_hypernym'(X, 'Bob') :- '/people/person'(X, Y), born(Y, 1970)."


def test_conditions_are_read_with_their_precedence() -> None:
    [rule] = parse_rules(
        r"big(I) :- ratio(I, R), not tube(I), R - 1 - 2 * R >= -(1 + 2) / abs(R), V is count{X, Y : near(X, Y)}."
    )
    negation, comparison, naming = rule.conditions
    r = Term("R")
    assert negation == Negation(Atom("tube", (Term("I"),)))
    assert comparison == Comparison(
        ">=",
        Expression("-", (Expression("-", (r, number(1))), Expression("*", (number(2), r)))),
        Expression("/", (Expression("-", (Expression("+", (number(1), number(2))),)), Expression("abs", (r,)))),
    )
    assert naming == Comparison("is", Term("V"), Count((Term("X"), Term("Y")), (Atom("near", (Term("X"), Term("Y"))),)))
    assert rule.measured == {Term("R"), Term("V")}
    assert rule.existential == ()


def test_constants_keep_their_type() -> None:
    [rule] = parse_rules(r"""a(3, -0.5, "le\"ft", 'Heart 1', heart_1).""")
    assert [(t.name, t.datatype) for t in rule.head[0].args] == [
        ("3", "integer"),
        ("-0.5", "decimal"),
        ('le"ft', "string"),
        ("Heart 1", ""),
        ("heart_1", ""),
    ]


def test_each_blank_variable_is_one_of_its_own() -> None:
    [rule] = parse_rules("a(X) :- near(X, _), near(_, X), near(X, _1).")
    assert len({v for atom in rule.body for v in atom.variables}) == 4


def test_formatting_keeps_comments_and_changes_only_the_form() -> None:
    text = """

% the heart
%! id=one status=accepted
X=Y:-heart(X),heart(Y). % one only


b(X) :- % first
  \\+ c(X),
  a(X). c(X) :- d(X).  %! source="a b"
"""
    formatted = """% the heart
% one only
X = Y :- heart(X), heart(Y).  %! id=one status=accepted

% first
b(X) :- a(X), \\+ c(X).
c(X) :- d(X).  %! source="a b"
"""
    assert format_text(text) == formatted
    assert format_text(formatted) == formatted
    assert format_text("") == format_text("\n\n") == ""


def test_a_file_with_a_mistake_is_not_formatted() -> None:
    with pytest.raises(RuleError, match=r"x\.rules:2:4: unexpected '\.'"):
        format_text("a(X) :- b(X).\na(X.", "x.rules")


def test_a_line_of_its_own_names_the_ontologies_of_a_file() -> None:
    text = "%! ontology=../a.ttl,b.ttl\na(X) :- b(X).  %! id=x\n"
    assert directives(text) == {"ontology": "../a.ttl,b.ttl"}
    assert parse_rules(text)[0].meta == {"id": "x"}
    assert format_text(text) == text
