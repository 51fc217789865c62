from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neurosym.errors import RuleError
from neurosym.knowledge.rules import canonical, format_rule, parse_leniently, parse_rules, read_rules, write_rules
from neurosym.records import Atom, Rule, Term

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}|[_/A-Z][a-z /.:_-]{1,8}", fullmatch=True)
keys = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
terms = st.builds(Term, st.from_regex(r"[A-Z][a-z0-9]{0,3}", fullmatch=True)) | st.builds(Term, names, st.just(False))
atoms = st.builds(Atom, names, st.lists(terms, min_size=1, max_size=3).map(tuple))
equalities = st.builds(Atom, st.just("="), st.tuples(terms, terms))
metas = st.dictionaries(
    keys, st.from_regex(r"[A-Za-z0-9 :;,%'.-]{1,20}", fullmatch=True).map(str.strip).filter(bool), max_size=3
)
rules = st.builds(
    Rule,
    st.lists(atoms | equalities, max_size=3).map(tuple),
    st.lists(atoms, min_size=1, max_size=4).map(tuple),
    st.none() | st.sampled_from([0.001, 0.25, 0.909, 1.0]),
    metas,
)


@given(rules)
def test_a_printed_rule_parses_back_to_itself(rule: Rule) -> None:
    [back] = parse_rules(format_rule(rule))
    assert back == rule
    assert dict(back.meta) == dict(rule.meta)


@given(st.lists(rules, max_size=5))
def test_formatting_is_idempotent(several: list[Rule]) -> None:
    text = "\n".join(map(format_rule, several))
    assert "\n".join(map(format_rule, parse_rules(text))) == text


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
        ("a(X) :- b(“x”).", "x.rules:1:11: unexpected character '“'; write plain ASCII quotes and dashes"),
        (r"a(X) :- \+ b(X).", r"x.rules:1:9: unexpected character '\\'; negation is not part of the rule language yet"),
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
def test_renaming_variables_and_reordering_atoms_keep_the_canonical_form(rule: Rule, random: Random) -> None:
    variables = sorted({t for a in (*rule.head, *rule.body) for t in a.variables})
    assume(len(variables) <= 5)
    names = [Term(f"V{i}x") for i in range(len(variables))]
    random.shuffle(names)
    fresh = dict(zip(variables, names, strict=True))

    def rename(atoms: tuple[Atom, ...]) -> tuple[Atom, ...]:
        renamed = [Atom(a.predicate, tuple(fresh.get(t, t) for t in a.args)) for a in atoms]
        return tuple(random.sample(renamed, len(renamed)))

    assert canonical(Rule(rename(rule.head), rename(rule.body))) == canonical(rule)


def test_rules_that_differ_in_more_than_spelling_have_different_forms() -> None:
    texts = ("r(X, Y) :- a(X), b(Y).", "r(Y, X) :- a(X), b(Y).", "r(X, Y) :- a(Y), b(Y).", "r(X, x) :- a(X), b(Y).")
    assert len({canonical(parse_rules(t)[0]) for t in texts}) == 4
    same = (
        ":- heart(X), heart(Y), left_of(X, Y).",
        ":- heart(Y), heart(X), left_of(X, Y).",
        ":- left_of(B, A), heart(A), heart(B).",
    )
    assert len({canonical(parse_rules(t)[0]) for t in same}) == 1


def test_relations_of_any_graph_can_be_written_in_quotes() -> None:
    [rule] = parse_rules("'_hypernym'(X, 'Bob') :- '/people/person'(X, Y), born(Y, 1970).")
    assert rule.head == (Atom("_hypernym", (Term("X"), Term("Bob", False))),)
    assert str(rule) == "'_hypernym'(X, 'Bob') :- '/people/person'(X, Y), born(Y, 1970)."
