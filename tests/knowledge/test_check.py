from __future__ import annotations

import os
import re
import shutil
import socket
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurosym.errors import KnowledgeError
from neurosym.knowledge import Ontology, check_files, load_knowledge, load_ontology, parse_rules
from neurosym.knowledge.check import check_rules
from neurosym.knowledge.rules import format_rule
from tests.knowledge.broken_rules import BROKEN
from tests.knowledge.rule_texts import rules

ROOT = Path(__file__).parents[2]


@cache
def chest() -> Ontology:
    return load_ontology([ROOT / "ontologies/thorax.ttl"])


@pytest.fixture
def thorax() -> Ontology:
    return chest()


def told(text: str, ontology: Ontology) -> list[str]:
    return [p.message for p in check_rules(parse_rules(text, "x.rules"), ontology)]


def test_the_shipped_rules_are_free_of_problems() -> None:
    for name in ("thorax", "blood", "road"):
        knowledge, problems = check_files([ROOT / f"ontologies/{name}.ttl", ROOT / f"rules/{name}.rules"])
        assert problems == []
        assert knowledge is not None
        assert knowledge.rules


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_file_is_told_with_line_and_cure(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, expected = BROKEN[name]
    monkeypatch.chdir(tmp_path)
    Path("x.rules").write_bytes(text if isinstance(text, bytes) else text.encode())
    _, problems = check_files([ROOT / "ontologies/thorax.ttl", "x.rules"])
    shown = [("warning: " if p.severity == "warning" else "") + str(p) for p in problems]
    assert [re.sub(r"\.ttl:\d+", ".ttl:LINE", s.replace(f"{ROOT}/", "")) for s in shown] == expected
    assert os.listdir() == ["x.rules"]


def test_a_body_of_many_loose_variables_is_judged_soon(thorax: Ontology) -> None:
    loose = ", ".join(f"lung(X{n})" for n in range(12))
    assert any("contradicts 'DisjointClasses lung" in message for message in told(f"heart(X0) :- {loose}.", thorax))


# Names of the ontology in random rules of the whole language: whatever they say, it is judged and not stumbled over.
vocabulary = st.sampled_from(["heart", "lung", "left_lung", "nodule", "near", "left_of", "inside", "above", "overlaps"])


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(rules, min_size=1, max_size=4), st.data())
def test_any_rules_that_parse_can_be_judged(several: list, data: st.DataObject) -> None:
    text = "\n".join(format_rule(r) for r in several)
    for name in {a.predicate for r in several for a in (*r.head, *r.body)} - {"="}:
        text = text.replace(f"{name}(", f"{data.draw(vocabulary)}(")
    parsed = [r for r in several if r.head or r.body]
    assert all(p.message for p in check_rules(parsed, chest()))
    assert all(p.message for p in check_rules(parsed, None))


shapes = st.sampled_from(
    [
        "{r}(X, Y) :- {c}(X), {d}(Y).",
        "{r}(Y, X) :- {c}(X), {d}(Y), {s}(X, Y).",
        "{c}(X) :- {d}(X), {s}(X, Y).",
        "{r}(X, Y), {c}(Y) :- {d}(X).",
        ":- {c}(X), {d}(Y), {r}(X, Y).",
        "X = Y :- {c}(X), {c}(Y).",
        "{c}(X) :- {d}(X), \\+ {r}(X, _).",
        "{r}(X, Y) :- {c}(X), {d}(Y), count{{Z : {s}(X, Z)}} > 2.",
    ]
)
classes = st.sampled_from(["heart", "lung", "left_lung", "right_lung", "nodule", "finding"])
relations = st.sampled_from(["near", "left_of", "right_of", "inside", "overlaps", "larger_than"])
sentences = st.builds(
    lambda t, c, d, r, s: t.format(c=c, d=d, r=r, s=s), shapes, classes, classes, relations, relations
)


@given(st.lists(sentences, min_size=1, max_size=6, unique=True))
def test_what_is_said_of_a_rule_set_does_not_depend_on_chance(several: list[str]) -> None:
    text = "\n".join(several)
    assert told(text, chest()) == told(text, chest())


def test_the_contradictory_set_is_minimal_and_names_rules_and_axioms(thorax: Ontology) -> None:
    chain = [
        "above(X, Y) :- heart(X), nodule(Y).",
        "above(Y, Z) :- nodule(Y), rib(Z).",
        "near(X, Y) :- heart(X), rib(Y).",
        "below(X, Z) :- heart(X), nodule(Y), rib(Z).",
    ]
    [message] = told("\n".join(chain), thorax)
    assert "near" not in message
    for part in ("x.rules:1", "x.rules:2", "above Characteristics Transitive", "above InverseOf below"):
        assert part in message
    for i in (0, 1, 3):  # without any one of them there is nothing wrong
        assert told("\n".join(chain[:i] + chain[i + 1 :]), thorax) == []


def test_agreeing_rules_and_weighted_rules_contradict_nothing(thorax: Ontology) -> None:
    assert told("left_of(X, Y) :- heart(X), nodule(Y).\nright_of(Y, X) :- heart(X), airways(Y).", thorax) == []
    assert (
        told("0.9 :: left_of(X, Y) :- heart(X), nodule(Y).\n0.3 :: left_of(Y, X) :- heart(X), nodule(Y).", thorax) == []
    )


def test_a_rule_is_superfluous_if_a_rule_of_its_weight_or_the_ontology_says_as_much(thorax: Ontology) -> None:
    general = "0.9 :: near(X, Y) :- heart(X), lung(Y).\n"
    assert told(general + "0.95 :: near(X, Y) :- heart(X), lung(Y), nodule(Z).", thorax) == []
    [weaker] = told(general + "0.8 :: near(A, B) :- nodule(Z), lung(B), heart(A).", thorax)
    assert weaker == "the more general rule x.rules:1 makes this one superfluous"
    assert told("near(X, Y) :- heart(X), lung(Y).\nnear(X, Y) :- heart(X), lung(Y), \\+ nodule(X).", thorax) == [
        "the more general rule x.rules:1 makes this one superfluous"
    ]
    [entailed] = told("near(X, Y) :- inside(X, Y), heart(X).", thorax)
    assert entailed.startswith("the rule follows anyway from 'inside SubPropertyOf overlaps' (")
    assert told(":- heart(X), lung(X), near(X, Y).", thorax)[0].startswith(
        "the rule follows anyway from 'DisjointClasses"
    )


def test_a_rule_set_that_is_neither_warded_nor_weakly_acyclic_is_pointed_out(thorax: Ontology) -> None:
    endless = "inside(X, Y), lung(Y) :- lung(X).\n"
    join = "overlaps(Y, Z) :- inside(X, Y), inside(Z, X)."
    messages = told(endless + join, thorax)
    assert messages == ["not warded: no single body atom guards Y, Z, which may stand for unnamed objects"]
    assert told("inside(X, Y), lung(Y) :- nodule(X).\n" + join, thorax) == []  # weakly acyclic: the chase ends


def test_problems_of_several_rules_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text("left_of(X, Y :- heart(X).\nlung(X) :- hart(X).\nnear(X, Y) :- lungs(X), heart(Y).")
    _, problems = check_files([ROOT / "ontologies/thorax.ttl", path])
    assert [p.line for p in problems] == [1, 2, 3]


def test_a_rule_of_a_file_replaces_the_same_axiom_of_the_ontology(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text("0.5 :: inside(N, L), lung(L) :- nodule(N).")
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl", path])
    about = [r for r in knowledge.rules if r.body[0].predicate == "nodule" and r.existential]
    assert [r.weight for r in about] == [0.5]


def test_candidate_and_rejected_rules_are_kept_and_do_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text(
        "left_of(X, Y) :- heart(X), nodule(Y).  %! status=accepted\n"
        "left_of(Y, X) :- heart(X), nodule(Y).  %! status=rejected\n"
        "above(X, Y) :- heart(X), nodule(Y).  %! status=candidate\n"
    )
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl", path])
    assert [r.line for r in knowledge.rules if r.file.endswith("x.rules")] == [1]
    assert [r.line for r in knowledge.inactive] == [2, 3]


def test_a_rule_file_can_name_its_ontology(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text("near(X, Y) :- hart(X), lung(Y).")
    knowledge, [alone] = check_files([path])
    assert (knowledge, alone.severity) == (None, "warning")
    assert "no ontology is given" in alone.message
    path.write_text(f"%! ontology={os.path.relpath(ROOT / 'ontologies/thorax.ttl', tmp_path)}\n" + path.read_text())
    _, [problem] = check_files([path])
    assert (problem.line, problem.message) == (2, "unknown class 'hart'")
    path.write_text("% near\n%! ontology=away.ttl\nnear(X, Y) :- heart(X), lung(Y).")
    knowledge, [problem] = check_files([path])
    assert (knowledge, problem.line, problem.message) == (None, 2, "the ontology 'away.ttl' is not there")
    path.write_text(f"%! ontology={'a' * 300}.ttl\nnear(X, Y) :- heart(X), lung(Y).")
    assert "is not there" in check_files([path])[1][0].message


def test_a_file_of_another_kind_and_a_missing_ontology_are_told(tmp_path: Path) -> None:
    with pytest.raises(KnowledgeError, match=r"unknown kind of knowledge file '\.docx'"):
        load_knowledge([tmp_path / "x.docx"])
    path = tmp_path / "x.rules"
    path.write_text("near(X, Y) :- heart(X), lung(Y).")
    with pytest.raises(KnowledgeError, match="no ontology given"):
        load_knowledge([path])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_as_a_rule_file_are_judged_without_network_or_writing(
    data: bytes, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "x.rules").write_bytes(data)
    _, problems = check_files([folder / "x.rules"])
    assert all(p.message for p in problems)
    assert os.listdir(folder) == ["x.rules"]


@pytest.mark.skipif(shutil.which("java") is None, reason="HermiT needs Java")
def test_what_only_a_reasoner_finds_counts_in_the_check_of_rules(tmp_path: Path) -> None:
    ontology, rules = tmp_path / "x.ttl", tmp_path / "x.rules"
    ontology.write_text(
        "@prefix : <urn:x#> . @prefix owl: <http://www.w3.org/2002/07/owl#> .\n"
        "@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . <urn:x> a owl:Ontology .\n"
        ":a a owl:Class ; rdfs:subClassOf :c . :b a owl:Class ; rdfs:subClassOf :c . :c a owl:Class .\n"
        ":d a owl:Class ; rdfs:subClassOf [ a owl:Class ; owl:unionOf ( :a :b ) ] .\n"
        ":e a owl:Class ; owl:disjointWith :c .\n"
    )
    rules.write_text("e(X) :- d(X).")
    assert check_files([ontology, rules])[1] == []
    knowledge, [problem] = check_files([ontology, rules], reason=True)
    assert knowledge is not None
    assert knowledge.reasoner == "hermit"
    assert knowledge.ontology.is_a("d", "c")
    assert "the rule contradicts" in problem.message
    assert "d_c_entailed" in problem.message
