from __future__ import annotations

import logging
from pathlib import Path

import pytest
import rdflib
from hypothesis import given
from hypothesis import strategies as st

from neurosym.errors import InductionError
from neurosym.induction.kg.facts import TYPE, Triples
from neurosym.induction.kg.reading import read_graph
from neurosym.induction.kg.types import SUBCLASS, typed
from neurosym.knowledge import Ontology, load_ontology

TURTLE = """@prefix : <http://example.org/> . @prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
:Organ a owl:Class ; rdfs:subClassOf owl:Thing .
:Lung a owl:Class ; rdfs:subClassOf :Organ , [ a owl:Restriction ; owl:onProperty :in ; owl:someValuesFrom :Chest ] .
:X_1 a owl:Class ; rdfs:label "Left lung" ; rdfs:subClassOf :Lung .
:Chest a owl:Class . :in a owl:ObjectProperty .
"""
DATA = """:l1 a :X_1 , owl:NamedIndividual ; :in :c1 . :l2 a :Lung . :c1 a :Chest . :X_1 :shownBy :atlas .
"""


@pytest.fixture
def ontology(tmp_path: Path) -> Ontology:
    (tmp_path / "anatomy.ttl").write_text(TURTLE)
    return load_ontology([tmp_path / "anatomy.ttl"])


def certain(*facts: tuple[str, str, str]) -> Triples:
    return Triples(list(facts), [1.0] * len(facts), 0)


def test_members_of_a_class_are_members_of_all_above_it(ontology: Ontology, tmp_path: Path) -> None:
    (tmp_path / "data.ttl").write_text(TURTLE + DATA)
    store = typed(read_graph(tmp_path / "data.ttl"), ontology).store()
    assert store.objects("l1", TYPE) == ["left_lung", "lung", "organ", "owl:NamedIndividual"]
    assert store.objects("l2", TYPE) == ["lung", "organ"]
    members = 2 * store.relation(TYPE) + 1
    assert [store.entities[x] for x in store.targets(members, store.entities.number("organ"))] == ["l1", "l2"]
    assert store.objects("l1", "in") == ["c1"]


def test_a_class_keeps_one_name_wherever_it_occurs(ontology: Ontology, tmp_path: Path) -> None:
    (tmp_path / "data.ttl").write_text(TURTLE + DATA)
    assert ("left_lung", "shownBy", "atlas") in typed(read_graph(tmp_path / "data.ttl"), ontology).facts


@pytest.mark.parametrize("word", ["left_lung", "X_1", "Left lung", "http://example.org/X_1"])
def test_a_class_of_an_ontology_is_told_by_name_iri_or_label(ontology: Ontology, word: str) -> None:
    found = typed(certain(("x", TYPE, word)), ontology)
    assert found.facts == [("x", TYPE, "left_lung"), ("x", TYPE, "lung"), ("x", TYPE, "organ")]


def test_another_relation_can_tell_the_classes(ontology: Ontology) -> None:
    found = typed(certain(("x", "isA", "chest"), ("x", "in", "y")), ontology, told_by="isA")
    assert found.facts == [("x", "in", "y"), ("x", TYPE, "chest")]


def test_what_follows_is_as_certain_as_its_best_reason(ontology: Ontology) -> None:
    lungs = [("x", TYPE, "left_lung"), ("x", TYPE, "lung"), ("y", TYPE, "lung"), ("y", TYPE, "lung")]
    found = typed(Triples([*lungs, ("x", "in", "y")], [0.25, 0.5, 0.75, 0.5, 0.1], 3, 4), ontology)
    assert dict(zip(found.facts, found.weights, strict=True)) == {
        ("x", "in", "y"): 0.1,
        ("x", TYPE, "left_lung"): 0.25,
        ("x", TYPE, "lung"): 0.5,
        ("x", TYPE, "organ"): 0.5,
        ("y", TYPE, "lung"): 0.75,
        ("y", TYPE, "organ"): 0.75,
    }
    assert (found.left_out, found.literals) == (3, 4)


def test_what_a_reasoner_found_counts(ontology: Ontology) -> None:
    found = typed(certain(("x", TYPE, "chest")), ontology.with_subsumptions([("chest", "organ")]))
    assert ("x", TYPE, "organ") in found.facts


def test_an_unknown_class_is_told_with_the_nearest_name(ontology: Ontology) -> None:
    with pytest.raises(InductionError) as error:
        typed(certain(("x", TYPE, "lugn"), ("y", TYPE, "lugn"), ("y", TYPE, "lung")), ontology)
    told = "class 'lugn', of 2 facts, is unknown; did you mean 'lung'? (declared in "
    assert str(error.value).startswith(told)
    assert "anatomy.ttl" in str(error.value)


def test_of_many_unknown_classes_five_are_told(ontology: Ontology) -> None:
    with pytest.raises(InductionError, match="… and 2 more such classes"):
        typed(certain(*(("x", TYPE, f"q{i}") for i in range(7))), ontology)


def test_unknown_classes_can_be_let_be(ontology: Ontology, caplog: pytest.LogCaptureFixture) -> None:
    facts = [("x", TYPE, "lugn"), ("x", TYPE, "lung")]
    with caplog.at_level(logging.WARNING):
        assert typed(certain(*facts), ontology, strict=False).facts == [*facts, ("x", TYPE, "organ")]
    assert "1 classes are unknown, so nothing follows for their members; the first is 'lugn'" in caplog.text


def test_a_word_for_two_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ttl").write_text(TURTLE + ':X_2 a owl:Class ; rdfs:label "Left lung" .')
    with pytest.raises(InductionError, match="may be 'left_lung_x_1' or 'left_lung_x_2'; tell it by its IRI"):
        typed(certain(("x", TYPE, "Left lung")), load_ontology([tmp_path / "a.ttl"]))


@pytest.mark.parametrize("facts", [[("x", "isa", "lung")], [("x", "isa", "y"), ("x", TYPE, "owl:NamedIndividual")]])
def test_a_graph_that_tells_no_classes_is_refused(ontology: Ontology, facts: list[tuple[str, str, str]]) -> None:
    with pytest.raises(InductionError, match="the relation 'a' tells of nothing what it is; known: isa"):
        typed(certain(*facts), ontology)


def test_a_graph_can_be_its_own_hierarchy(tmp_path: Path) -> None:
    (tmp_path / "data.ttl").write_text(TURTLE + DATA)
    graph = read_graph(tmp_path / "data.ttl")
    found = set(typed(graph, graph).facts)
    assert found - set(graph.facts) == {("l1", TYPE, "Lung"), ("l1", TYPE, "Organ"), ("l2", TYPE, "Organ")}
    assert set(graph.facts) <= found


CLASSES = st.sampled_from("ABCDEF")


@given(
    st.sets(st.tuples(CLASSES, CLASSES), min_size=1), st.sets(st.tuples(st.sampled_from("xyz"), CLASSES), min_size=1)
)
def test_subsumption_is_followed_as_rdflib_follows_it_circles_and_all(
    below: set[tuple[str, str]], told: set[tuple[str, str]]
) -> None:
    graph = rdflib.Graph()
    for c, d in below:
        graph.add((rdflib.URIRef(c), rdflib.RDFS.subClassOf, rdflib.URIRef(d)))
    expected = {
        (x, TYPE, str(d)) for x, c in told for d in graph.transitive_objects(rdflib.URIRef(c), rdflib.RDFS.subClassOf)
    }
    hierarchy = certain(*((c, SUBCLASS, d) for c, d in below), *((c, TYPE, "owl:Class") for c in "ABCDEF"))
    found = typed(certain(*((x, TYPE, c) for x, c in told)), hierarchy)
    assert set(found.facts) == expected
    assert len(found.facts) == len(expected)
