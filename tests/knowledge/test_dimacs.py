from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.errors import RuleError
from neurosym.knowledge import load_ontology
from neurosym.knowledge.exchange import export_rules, import_rules
from neurosym.knowledge.rules import parse_rules
from neurosym.logic import Negation, Rule
from tests.knowledge.exchange_rules import round_trip

ROOT = Path(__file__).parents[2]
LABELS = ("a", "b", "c", "d")
EVERY = "thing"


def accepts(rule: Rule, labels: set[str]) -> bool:
    """A rule about one object, read off its definition: broken where the body holds and the head does not."""
    held = {*labels, EVERY}
    negated = [c.atom.predicate for c in rule.conditions if isinstance(c, Negation)]
    fires = all(a.predicate in held for a in rule.body) and not any(name in held for name in negated)
    return not fires or (bool(rule.head) and all(a.predicate in held for a in rule.head))


def cnf(clauses: list[list[int]], variables: int = len(LABELS)) -> str:
    lines = [" ".join(map(str, [*c, 0])) for c in clauses]
    return "\n".join([f"p cnf {variables} {len(clauses)}", *lines]) + "\n"


LITERALS = st.integers(1, len(LABELS)).flatmap(lambda n: st.sampled_from([n, -n]))


@given(st.lists(st.lists(LITERALS, min_size=1, max_size=5), max_size=6))
@settings(max_examples=150)
def test_the_rules_accept_exactly_the_label_sets_that_satisfy_the_clauses(clauses: list[list[int]]) -> None:
    rules, problems = import_rules(cnf(clauses), "dimacs", labels=LABELS, every=EVERY)
    assert all(p.severity == "warning" for p in problems)
    assert len(rules) + len(problems) == len(clauses)
    assert len({r.id for r in rules}) == len(rules)
    for held in product((False, True), repeat=len(LABELS)):
        labels = {name for name, on in zip(LABELS, held, strict=True) if on}
        satisfied = all(any(held[abs(x) - 1] == (x > 0) for x in clause) for clause in clauses)
        assert all(accepts(r, labels) for r in rules) == satisfied


@pytest.mark.parametrize(
    ("clause", "rule", "name"),
    [
        ("-1 -2", ":- a(X), b(X).", "not_a_and_b"),
        ("2 -1", "b(X) :- a(X).", "a_needs_b"),
        ("-1 2 3", r":- a(X), \+ b(X), \+ c(X).", "a_needs_b_or_c"),
        ("1 -2 -3", "a(X) :- b(X), c(X).", "b_and_c_needs_a"),
        ("1 2 3 4", r":- thing(X), \+ a(X), \+ b(X), \+ c(X), \+ d(X).", "thing_needs_a_or_3_more"),
        ("1", "a(X) :- thing(X).", "thing_needs_a"),
        ("-1", ":- a(X).", "not_a"),
    ],
)
def test_each_kind_of_clause_is_the_plainest_rule_with_a_readable_name(clause: str, rule: str, name: str) -> None:
    [found], problems = import_rules(f"p cnf 4 1\n{clause} 0\n", "dimacs", "x/f.cnf", labels=LABELS, every=EVERY)
    assert problems == []
    assert (str(found), found.id, found.meta["source"]) == (rule, name, "f.cnf line 2")


def test_a_clause_may_run_over_lines_and_share_one() -> None:
    rules, problems = import_rules("c a comment\np cnf 4 3\n-1\n 2 0 -2 3 0\n-3 4 0", "dimacs", labels=LABELS)
    assert problems == []
    assert [(str(r), r.line) for r in rules] == [("b(X) :- a(X).", 3), ("c(X) :- b(X).", 4), ("d(X) :- c(X).", 5)]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("1 2 0\n", ["f:1: found no `p cnf VARIABLES CLAUSES`; expected it before the first clause"]),
        (
            "c 1 of a pair\n-5 0\np cnf 4 1\n",
            ["f:2: found no `p cnf VARIABLES CLAUSES`; expected it before the first clause"],
        ),
        ("\n", ["f:1: found no `p cnf VARIABLES CLAUSES`; expected it before the first clause"]),
        ("p cnf 4 1\np cnf 4 2\n-1 2 0\n", ["f:2: found a second header"]),
        ("p cnf 4\n-1 2 0\n", ["f:1: found 'p cnf 4'; expected p cnf VARIABLES CLAUSES"]),
        (
            "p cnf 4 2\n-1 -x 0\n-9 2 0\n",
            [
                "f:2:4: found '-x'; expected the number of a label, negative where it must not hold",
                "f:3:1: unknown number -9; the header says that there are 4 variables",
            ],
        ),
        ("p cnf 4 2\n-1 2 0\n", ["f:1: the file has 1 clauses; expected 2"]),
        ("p cnf 4 0\n-1 2\n", ["f:2: the last clause has no end; expected a 0 behind it"]),
        (
            "p cnf 5 1\n-1 2 0\n",
            ["f:1: found 4 labels for 5 variables; one label a line, in the order of the numbers"],
        ),
        ("p cnf 4 1\n0\n", ["f:2: an empty clause, which no object satisfies; remove it"]),
        (
            "p cnf 4 1\n1 2 0\n",
            [
                "f:2: a clause without a negated label is about all objects; "
                "name the class that all objects are of with --every"
            ],
        ),
        ("p cnf 4 1\n1 -1 0\n", ["f:2: left out: whatever an object is, it satisfies this"]),
        ("p cnf 4 2\n-1 2 0\n2 -1 2 0\n", ["f:3: left out: the clause of line 2 says the same"]),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(text: str, messages: list[str]) -> None:
    _, problems = import_rules(text, "dimacs", "f", labels=LABELS)
    assert [str(p) for p in problems] == messages


def test_a_number_that_comments_call_two_things_is_told_with_both_lines() -> None:
    text = "c 1 car\nc 2 bus\nc 1 clause follows\nc 2 bus\np cnf 2 1\n-1 -2 0\n"
    rules, problems = import_rules(text, "dimacs", "f")
    cure = "begin a comment that names no variable with a word, not a number"
    assert [str(p) for p in problems] == [f"f:3: variable 1 is 'clause follows' here and 'car' in line 1; {cure}"]
    assert rules == ()
    [rule], problems = import_rules(text, "dimacs", "f", labels=["x", "y"])
    assert (str(rule), problems) == (":- x(X), y(X).", [])


@pytest.mark.parametrize(
    "stray",
    [
        "c a comment\n{}",
        "c---- 1 more\n{}",
        "c\n{}",
        "c 3 labels, 2 of them used\n{}",  # no variable 3
        "c 2024 by the traffic group\n{}",
        "c 0 is the end of a clause\n{}",
        "c -1 says that it is no car\n{}",
        "{}c 1 clause\n",  # behind the header
        "{}c 2 more follow\n",
    ],
)
@pytest.mark.parametrize("is_closed", [True, False])
def test_comments_that_name_no_variable_are_passed_over(stray: str, is_closed: bool) -> None:
    text = stray.format("c 1 car\nc 2 bus\np cnf 2 1\n") + "-1 -2 0\n"
    road = load_ontology([ROOT / "ontologies/road.ttl"]) if is_closed else None
    [rule], problems = import_rules(text, "dimacs", "f", road)
    assert (str(rule), problems) == (":- car(X), bus(X).", [])


def test_a_comment_behind_the_header_does_not_stand_for_a_label_that_is_missing() -> None:
    rules, problems = import_rules("c 1 car\np cnf 2 1\nc 2 labels exclude each other\n-1 -2 0\n", "dimacs", "f")
    cure = "name it before the header (c 2 LABEL), or give the list of labels with --labels"
    assert (rules, [str(p) for p in problems]) == ((), [f"f:4: variable 2 has no label; {cure}"])


def test_a_label_that_the_ontology_does_not_know_is_told_where_it_stands() -> None:
    road = load_ontology([ROOT / "ontologies/road.ttl"])
    _, [problem] = import_rules("c 1 car\nc 2 of these exclude\np cnf 2 1\n-1 -2 0\n", "dimacs", "f", road)
    assert str(problem).startswith("f:2: unknown label 'of these exclude' of variable 2")


@pytest.mark.parametrize("given_first", [True, False])
def test_generated_ids_are_numbered_around_given_ones(given_first: bool) -> None:
    clauses = ["c %! id=not_a_and_b\n-3 4 0", "-1 -2 0"]
    text = "\n".join(["p cnf 4 2", *(clauses if given_first else clauses[::-1])])
    rules, problems = import_rules(text, "dimacs", labels=LABELS)
    assert problems == []
    assert {str(r): r.id for r in rules} == {"d(X) :- c(X).": "not_a_and_b", ":- a(X), b(X).": "not_a_and_b_2"}


def test_an_id_that_is_given_twice_is_told_with_both_lines() -> None:
    text = "p cnf 4 3\nc %! id=one\n-1 2 0\nc %! id=two\n-2 3 0\nc %! id=one\n-3 4 0\n"
    _, problems = import_rules(text, "dimacs", "f", labels=LABELS)
    told = "f:7: id 'one' is that of the clause of line 3, too; give each clause its own id"
    assert [str(p) for p in problems] == [told]


def test_labels_are_classes_or_categories_of_the_ontology() -> None:
    road = load_ontology([ROOT / "ontologies/road.ttl"])
    [rule], problems = import_rules("p cnf 2 1\n-1 2 0\n", "dimacs", ontology=road, labels=["PushObj", "pedestrian"])
    assert (str(rule), problems) == ("pedestrian(X) :- pushes_object(X).", [])
    _, problems = import_rules("p cnf 2 1\n-1 2 0\n", "dimacs", "f", road, ["PushObject", "Ped"], "road_objects")
    where = "(declared in the ontology's classes and categories)"
    assert [str(p) for p in problems] == [
        f"f:1: unknown label 'PushObject' of variable 1; did you mean 'PushObj'? {where}",
        "f:1: unknown class 'road_objects' of all objects; did you mean 'road_object'?",
    ]
    _, problems = import_rules("p cnf 2 1\n-1 2 0\n", "dimacs", "f", road, ["Ped", "pedestrian"])
    assert [str(p) for p in problems] == ["f:1: variables 1 and 2 are both 'pedestrian'"]


def test_a_file_without_labels_needs_a_list_of_them() -> None:
    _, problems = import_rules("p cnf 2 1\n-1 2 0\n", "dimacs", "f")
    assert [str(p) for p in problems] == [
        f"f:2: variable {n} has no label; name it before the header (c {n} LABEL), or give the list of labels with --labels"
        for n in (1, 2)
    ]
    with pytest.raises(RuleError, match="a file of clingo names its classes itself"):
        import_rules("", "clingo", labels=["a"])


@pytest.mark.parametrize(
    "text",
    [
        ':- a(X), b(X).  %! id=apart source="a book, page 3" status=accepted',
        "b(X) :- a(X).",
        r":- a(X), 'Left lung'(X), \+ b(X), \+ c(X).  %! id=some",
        "b(X) :- a(X), c(X).  %! distinct=no",
    ],
)
def test_exported_rules_come_back_with_what_is_known_of_them(text: str) -> None:
    [rule] = parse_rules(text)
    back = round_trip("dimacs", rule)
    assert (back, back.distinct) == (rule, rule.distinct)
    if rule.meta:
        assert dict(back.meta) == dict(rule.meta)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.9 :: b(X) :- a(X).", "a clause holds without exception"),
        ("near(X, Y) :- a(X), b(Y).", "relates objects, or names one"),
        (":- a(X), b(Y).", "relates objects, or names one"),
        (":- a(X), area_share(X, A), A > 0.5.", "knows labels only, no comparison"),
    ],
)
def test_what_is_no_clause_is_left_out_with_the_reason(text: str, reason: str) -> None:
    exported = export_rules(parse_rules(text), "dimacs")
    [(_, why)] = exported.left_out
    assert reason in why
    assert exported.text == "p cnf 0 0\n"


def test_a_hard_rule_with_two_heads_is_two_clauses() -> None:
    assert export_rules(parse_rules("b(X), c(X) :- a(X)."), "dimacs").text.endswith("p cnf 3 2\n-1 2 0\n-1 3 0\n")


def test_the_command_writes_a_rule_file_that_checks(tmp_path: Path) -> None:
    (tmp_path / "f.cnf").write_text("c requirements\np cnf 3 2\n-3 1 0\n1 2 0\n")
    (tmp_path / "labels.txt").write_text("Ped\nCar\nPushObj\n")
    given = ["--labels", str(tmp_path / "labels.txt"), "--ontology", str(ROOT / "ontologies/road.ttl")]
    out = tmp_path / "f.rules"
    command = ["rules", "import", str(tmp_path / "f.cnf"), "--from", "dimacs", *given, "--out", str(out)]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert not out.exists()
    done = CliRunner().invoke(app, [*command, "--every", "road_object"])
    assert done.exit_code == 0, done.output
    assert "pedestrian(X) :- pushes_object(X)." in out.read_text()
    assert CliRunner().invoke(app, ["check", str(ROOT / "ontologies/road.ttl"), str(out)]).exit_code == 0
