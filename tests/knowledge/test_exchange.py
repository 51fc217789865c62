"""Rules out to other formats and back: round trips of random rules, what is left out, mistakes, texts of other authors."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurosym.errors import RuleError
from neurosym.knowledge import Knowledge
from neurosym.knowledge.exchange import FORMATS, Context, export_rules, import_rules
from neurosym.knowledge.exchange.shacl_export import SH
from neurosym.knowledge.exchange.swrl import rules_of
from neurosym.knowledge.exchange.turtle import read_turtle
from neurosym.knowledge.rules import parse_rules
from neurosym.logic import Rule
from tests.knowledge.exchange_rules import CONTEXT, SHAPES, UNCLE, anyburl_rules, round_trip, rule, rules


@pytest.mark.parametrize("format", ["clingo", "problog", "swrl", "shacl"])
def test_what_is_read_back_is_what_was_written(format: str) -> None:
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(rules(format))
    def check(one: Rule) -> None:
        back = round_trip(format, one)
        assert back == one
        assert back.meta == one.meta

    check()


@given(anyburl_rules())
def test_anyburl_rules_come_back_with_their_counts(one: Rule) -> None:
    back = round_trip("anyburl", one)
    assert back == one
    assert back.meta == one.meta


def test_a_file_of_anyburl_is_read_under_object_identity() -> None:
    text = (
        "1512\t1207\t0.7982804232804233\tspouse(X,Y) <= spouse(Y,X)\n"
        "20\t10\t0.5\tspeaks(X,english) <= lives_in(X,A), capital(london,A)\n"
    )
    (first, second), problems = import_rules(text, "anyburl", "r.txt")
    assert problems == []
    assert first == rule("0.7982804232804233 :: spouse(X, Y) :- spouse(Y, X).")
    assert first.meta == {"support": "1207", "body_size": "1512"}
    assert second == rule(
        r"0.5 :: speaks(X, english) :- lives_in(X, A), capital(london, A), "
        r"X \= english, X \= london, A \= english, A \= london."
    )
    assert export_rules((first, second), "anyburl").text == text


# --- what cannot be said, and what cannot be read ---


@pytest.mark.parametrize(
    ("format", "text", "reason"),
    [
        ("clingo", "p(X) :- q(X), diameter(X, D), D < 0.5.", "integers only, not 0.5"),
        ("clingo", "p(X) :- q(X), diameter(X, D), V is D / 2, V > 1.", "division drops the remainder"),
        ("clingo", "p(X) :- q(X), diameter(X, D), min(D, 2) > 1.", "no min of two numbers"),
        ("clingo", "p(X) :- q(X), diameter(X, 2147483648).", "too large"),
        ("clingo", "inside(N, L), lung(L) :- nodule(N).", "there is a L"),
        ("clingo", "0.5 :: p(X), r(X) :- q(X).", "hold together"),
        ("clingo", "'http://e.org/p'(X) :- q(X).", "cannot spell the name 'http://e.org/p'"),
        ("clingo", "p(X) :- q(X), count{Y : r(Y)} > count{Y : s(Y)}.", "compare two counts"),
        ("clingo", "p(X) :- q(X), count{Y : r(Y)} + 1 > 2.", "compute with a count"),
        ("clingo", r"p(X) :- q(X), \+ r(X, _y).", "named _"),
        ("clingo", "p(X) :- q(X).  %! weight=heavy", "'heavy' cannot be kept"),
        ("problog", ":- p(X), q(X).", "no denials"),
        ("problog", "X = Y :- p(X), p(Y).", "two objects are one"),
        ("problog", "inside(N, L), lung(L) :- nodule(N).", "there is a L"),
        ("problog", "0.5 :: p(X), r(X) :- q(X).", "hold together"),
        ("problog", "p(X) :- q(X), count{Y : r(Y)} > 1.", "no counting"),
        ("problog", "evidence(X) :- q(X).", "a word of ProbLog itself"),
        ("problog", "p(X) :- q(X), diameter(X, D), V > 1, V is D * 2.", "V has no value yet"),
        ("swrl", r"p(X) :- q(X), \+ r(X).", "no negation as failure"),
        ("swrl", "p(X) :- q(X), count{Y : r(Y)} > 1.", "cannot count"),
        ("swrl", "inside(N, L), lung(L) :- nodule(N).", "there is a L"),
        ("swrl", "p(X) :- q(X), diameter(X, D), max(D, 2) > 3.", "no built-in for max"),
        ("swrl", r'p(X) :- q(X, V), V \= "a".', "about values"),
        ("swrl", "p(X) :- q(X, Y, Z).", "3 arguments"),
        ("swrl", "p(D) :- diameter(X, D), D > 1.", "the value D stands where an individual belongs"),
        ("shacl", "p(X) :- q(X), count{Y : r(Y)} > 1.", "sub-query"),
        ("shacl", "p(a).", "a rule without a body"),
        ("shacl", "p(a) :- q(b).", "to be its target"),
        ("shacl", "p(X) :- q(X), diameter(X, D), max(D, 2) > 3.", "no max of two values"),
        ("anyburl", "r(X, Y) :- s(X, Y).", "this one is hard"),
        ("anyburl", "0.5 :: r(X, Y) :- s(X, Y).", "body_size and support"),
        ("anyburl", "0.5 :: r(X) :- s(X, Y).  %! support=1 body_size=2", "relations of two things"),
        ("anyburl", "0.5 :: r(X, a) :- s(X, Y).  %! support=1 body_size=2", "apart from every entity"),
        ("anyburl", "0.5 :: r(X, Y) :- s(X, Y).  %! support=1 body_size=2 distinct=no", "distinct=no"),
        ("anyburl", "0.5 :: r(X, Y) :- s(X, Y).  %! support=1 body_size=2 id=a", "no place for the metadata id"),
        ("anyburl", "0.5 :: r(Node, Y) :- s(Node, Y).  %! support=1 body_size=2", "single capital letters"),
        ("anyburl", "0.5 :: 'r(s)'(X, Y) :- s(X, Y).  %! support=1 body_size=2", "'r(s)' holds what separates names"),
    ],
)
def test_what_a_format_cannot_say_is_left_out_with_the_reason(format: str, text: str, reason: str) -> None:
    one = rule(text)
    kept = rule("0.5 :: r(X, Y) :- s(X, Y).  %! support=1 body_size=2")
    exported = export_rules([one, kept], format)
    assert [r for r, _ in exported.left_out] == [one]
    assert reason in exported.left_out[0][1]
    assert import_rules(exported.text, format)[0] == (kept,)


def test_a_conjunctive_head_of_a_hard_rule_becomes_a_rule_an_atom() -> None:
    one = rule("left_of(R, H), above(R, H) :- lung(R), heart(H).  %! id=order source=atlas")
    for format in ("clingo", "problog"):
        found, problems = import_rules(export_rules([one], format).text, format)
        assert problems == []
        assert [r.head for r in found] == [(a,) for a in one.head]
        assert {(r.body, r.distinct) for r in found} == {(one.body, True)}
        assert [r.meta for r in found] == [{"id": "order_1", "source": "atlas"}, {"id": "order_2", "source": "atlas"}]


BROKEN = {
    "clingo": [
        ("p(X) :- q(X).\np(X) :- q(X)\n\n:- r(X).", 2, "does not end; expected '.'"),
        ("p(X) :- q(X.\nr(X) :- s(X).", 1, "unexpected '.'; expected ')' or ','"),
        ("{p(a)}.", 1, "unexpected '{'"),
        ("p(1..3).", 1, "unexpected '.'"),
        ("p(X) :- q(X), r(Y/2) .", 1, "'/'"),
        ("#show p/1.", 1, "unexpected character '#'"),
        ("p(X,Y) :- q(X).", 1, "the body does not bind Y"),
        ("p(X) :- q(X).  %! weight=2", 1, "weight 2 is not a probability"),
    ],
    "problog": [
        ("query(a).", 1, "'query', a command"),
        (":- p(X).", 1, "0 head atoms; expected one"),
        ("0.3::p(a); 0.7::p(b).", 1, "unexpected character ';'"),
        ("p(X) :- q(X), X = Y.", 1, "which unifies"),
        ("1.5::p(X) :- q(X).", 1, "not a probability"),
    ],
    "anyburl": [
        ("r(X,Y) <= s(X,Y)", 1, "found 1 fields; expected 4"),
        ("1\t1\t0.5\tr(X,Y) <= s(X,Y)\nx\t1\t0.5\tr(X,Y) <= s(X,Y)", 2, "found 'x' for the number of predictions"),
        ("1\t1\t7\tr(X,Y) <= s(X,Y)", 1, "found '7' for the confidence"),
        (f"{'9' * 5000}\t1\t0.5\tr(X,Y) <= s(X,Y)", 1, "for the number of predictions; expected a whole number"),
        ("5\t9\t0.5\tr(X,Y) <= s(X,Y)", 1, "found 9 correct predictions of 5"),
        ("1\t1\t0.5\tr(X,Y) :- s(X,Y)", 1, "no ' <= '"),
        ("1\t1\t0.5\tr(X,a, b) <= s(X,Y)", 1, "expected relation(X,Y)"),
        ("1\t1\t0.5\tr(X,e) <= s(X,me_myself_i)", 1, "me_myself_i"),
        ("1\t1\t0.5\tr(X,e) <= ", 1, "no body"),
        ("1\t1\t0.5\tr(X,Y) <= s(X,A)", 1, "does not bind Y"),
    ],
    "swrl": [("@prefix a: <http://e.org/> .\na:b a:c", 2, "Turtle syntax")],
    "shacl": [("@prefix a: <http://e.org/> .\na:b a:c", 2, "Turtle syntax")],
}


@pytest.mark.parametrize(
    ("format", "text", "line", "message"), [(f, *case) for f, cases in BROKEN.items() for case in cases]
)
def test_a_mistake_is_reported_with_its_line(format: str, text: str, line: int, message: str) -> None:
    _, problems = import_rules(text, format, "some.file")
    assert any(message in p.message and p.file == "some.file" and p.line == line for p in problems), problems


def test_every_mistake_of_a_file_is_reported_and_the_rest_is_read() -> None:
    text = "p(X) :- q(X.\nr(X) :- s(X).\n{t(a)}.\nu(X) :- v(X), not w(X)."
    found, problems = import_rules(text, "clingo", "f.lp")
    assert [p.line for p in problems] == [1, 3]
    assert found == (rule("r(X) :- s(X)."), rule(r"u(X) :- v(X), \+ w(X)."))


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_no_text_makes_a_reader_fall_over(format: str) -> None:
    pieces = [
        "p(X)",
        " :- ",
        "q(X,Y)",
        ".",
        "\n",
        "\t",
        "not ",
        "\\+ ",
        "{",
        "((((",
        '"',
        "'",
        "%! weight=",
        "0.5",
        "::",
        "<=",
        "[ ",
        "] ",
        "a swrl:Imp",
    ]

    @given(st.lists(st.one_of(st.sampled_from(pieces), st.text(max_size=3)), max_size=12).map("".join))
    @settings(max_examples=40)
    def check(text: str) -> None:
        import_rules(text, format, "f")

    check()


@pytest.mark.parametrize(
    "sum_", ["(-" * 3000 + "X" + ")" * 3000, "-" * 3000 + "X", "X" + " + X" * 3000], ids=["brackets", "signs", "sum"]
)
def test_a_calculation_that_is_too_deep_is_a_problem_and_no_crash(sum_: str) -> None:
    query = "CONSTRUCT {$this <urn:p> 1} WHERE {$this <urn:q> ?X FILTER(?X < " + sum_.replace("X", "?X") + ")}"
    shape = f'[] sh:targetClass <urn:c> ; sh:rule [ sh:construct "{query}" ] .'
    for format, text in (("clingo", f"p(X) :- q(X), X < {sum_}."), ("shacl", f"@prefix sh: <{SH}> . {shape}")):
        found, problems = import_rules(text, format)
        assert (found, len(problems)) == ((), 1)


def test_an_unknown_format_names_the_choices() -> None:
    with pytest.raises(RuleError, match="unknown format 'clngo'; did you mean 'clingo'"):
        export_rules([], "clngo")
    with pytest.raises(RuleError, match="known: anyburl, clingo, dimacs, problog, shacl, swrl"):
        import_rules("", "x")


# --- distinct objects ---


def test_inequalities_for_every_pair_make_a_rule_distinct() -> None:
    [some] = import_rules("p(X) :- q(X,Y), r(Y,Z), X != Y, Z != X.", "clingo")[0]
    assert not some.distinct
    assert len(some.conditions) == 2
    [every] = import_rules("p(X) :- q(X,Y), r(Y,Z), X != Y, Z != X, Y != Z.", "clingo")[0]
    assert every == rule("p(X) :- q(X, Y), r(Y, Z).")
    [none] = import_rules("p(X) :- q(X,Y).", "clingo")[0]
    assert none == replace(rule("p(X) :- q(X, Y)."), distinct=False)


def test_values_need_no_inequality() -> None:
    text = export_rules([rule("p(X) :- diameter(X, D), diameter(Y, E), D > E.")], "clingo").text
    assert text == "p(X) :- diameter(X,D), diameter(Y,E), D > E, X != Y.\n"
    with_data = FORMATS["clingo"].export((rule("p(X) :- diameter(X, D)."),), CONTEXT).text
    assert with_data == "p(X) :- diameter(X,D).\n"


def test_a_symbol_and_a_string_stay_apart() -> None:
    one = rule(r"""p(X) :- q(X, 'Left lung'), r(X, "Left lung"), s(X, left), t(X, "a\"b\\c\nd").""")
    for format in ("clingo", "problog", "shacl"):
        assert round_trip(format, one, Context()) == one


# --- RDF from elsewhere ---


def test_swrl_of_another_program_is_read() -> None:
    names = {f"http://example.org/{n}": n.lower() for n in ("hasParent", "hasBrother", "hasUncle", "side", "area")}
    triples, _ = read_turtle(UNCLE, "")
    uncle, area, *reasons = (found for _, found in rules_of(triples, names))
    assert uncle == replace(rule("hasuncle(X1, X3) :- hasparent(X1, X2), hasbrother(X2, X3)."), distinct=False)
    expected = rule("area(X3, X2) :- side(X3, X3_2), X1 is X3_2 * X3_2, X2 is X3_2 + X1 + 1.5.")
    assert area == replace(expected, distinct=False)
    assert [str(r)[:40] for r in reasons] == [
        "the built-in <http://www.w3.org/2003/11/",
        "it is disabled (swrla:isRuleEnabled fals",
        "an RDF list is cyclic",
    ]


def test_an_unreadable_swrl_rule_is_a_problem_at_the_line_of_its_label() -> None:
    found, problems = import_rules(UNCLE, "swrl", "u.ttl")
    assert len(found) == 2
    assert [(p.line, p.message.split(":")[0]) for p in problems] == [
        (UNCLE[: UNCLE.index('"text"')].count("\n") + 1, "SWRL rule 'text'"),
        (UNCLE[: UNCLE.index('"off"')].count("\n") + 1, "SWRL rule 'off'"),
        (UNCLE[: UNCLE.index('"round"')].count("\n") + 1, "SWRL rule 'round'"),
    ]


def test_shacl_of_another_author_is_read() -> None:
    found, problems = import_rules(SHAPES, "shacl", "s.ttl")
    ex = "'http://example.org/{}'".format
    assert list(found) == [
        replace(rule(text), distinct=distinct)
        for text, distinct in (
            (f"{ex('Figure')}(This) :- {ex('Rectangle')}(This).", True),
            (
                f"{ex('area')}(This, Area) :- {ex('Rectangle')}(This), {ex('width')}(This, W), {ex('height')}(This, H), "
                "Area is W * H, W > 0, H > 0.",
                True,
            ),
            (f"{ex('has')}(This, Object) :- {ex('part')}(This, Object).", False),
        )
    ]
    assert [p.message.split(": ", 2)[0] for p in problems] == [
        f"SHACL rule '{n}'" for n in ("optional", "blank", "syntax", "node")
    ]
    for problem, part in zip(problems, ("Optional", "made anew", "not SPARQL", "targetNode"), strict=True):
        assert part in problem.message


# --- with an ontology ---


@pytest.mark.parametrize("format", ["swrl", "shacl", "clingo"])
def test_the_rules_of_the_repository_survive(format: str, thorax: Knowledge, blood: Knowledge) -> None:
    for knowledge in (thorax, blood):
        exported = export_rules(knowledge.rules, format, knowledge.ontology)
        left = [r for r, _ in exported.left_out]
        assert all(r.existential or len(r.head) > 1 for r in left)
        found, problems = import_rules(exported.text, format, "f", knowledge.ontology)
        assert problems == []
        kept = [r for r in knowledge.rules if r not in left]
        assert list(found) == kept
        assert [r.meta for r in found] == [dict(r.meta) for r in kept]


def test_iris_come_from_the_ontology_and_unknown_names_are_left_out(thorax: Knowledge) -> None:
    some = parse_rules("lung(X) :- nodule(X). lungg(X) :- nodule(X).")
    exported = export_rules(some, "swrl", thorax.ontology)
    assert thorax.ontology.classes["nodule"].iri in exported.text
    assert "owl:imports" in exported.text
    [(left, reason)] = exported.left_out
    assert left == some[1]
    assert "no 'lungg'; did you mean 'lung'?" in reason
    text = exported.text.replace(thorax.ontology.classes["nodule"].iri, "http://example.org/nodul")
    assert "did you mean 'nodule'" in import_rules(text, "swrl", "", thorax.ontology)[1][0].message
