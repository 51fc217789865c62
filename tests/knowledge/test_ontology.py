from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from neurosym.errors import DataError, OntologyError
from neurosym.knowledge import Knowledge, load_ontology
from neurosym.knowledge.reasoner import reason_over

PREFIXES = """@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix ns: <https://w3id.org/neurosym/core#> .
@prefix : <http://example.org/x#> .
"""
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="HermiT needs Java")


def write(path: Path, body: str, head: str = "<http://example.org/x> a owl:Ontology .") -> Path:
    path.write_text(f"{PREFIXES}{head}\n{body}\n", encoding="utf-8")
    return path


def test_classes_relations_and_ties_are_read_from_the_thorax_ontology(thorax: Knowledge) -> None:
    ontology = thorax.ontology
    assert ontology.is_a("ground_glass_opacity", "opacity")
    assert {"left_lung", "right_lung"} <= ontology.descendants("lung")
    assert ontology.are_disjoint("left_lung", "right_lung")
    assert not ontology.are_disjoint("ground_glass_opacity", "consolidation")
    assert ontology.relations["right_of"].inverse == "left_of"
    assert thorax.class_of_category("left_lung") == "left_lung"
    assert thorax.labels_of({"malignancy": "malignant", "age": 53}) == {"malignant_study"}


@needs_java
@pytest.mark.parametrize("name", ["thorax", "blood"])
def test_every_shipped_ontology_is_consistent_and_each_class_can_have_an_instance(
    name: str, request: pytest.FixtureRequest
) -> None:
    assert reason_over(request.getfixturevalue(name).ontology) == []


@needs_java
def test_the_class_hierarchy_is_the_one_that_hermit_infers(thorax: Knowledge) -> None:
    import owlready2

    world = owlready2.World()
    plain = "\n".join(
        line for line in thorax.ontology.graph.serialize(format="nt").splitlines() if "owl#imports" not in line
    )
    world.get_ontology("urn:test").load(fileobj=io.BytesIO(plain.encode()))
    owlready2.sync_reasoner_hermit(world, debug=0)
    ours = {
        c.iri: {thorax.ontology.classes[a].iri for a in thorax.ontology.ancestors(c.name)}
        for c in thorax.ontology.classes.values()
    }
    theirs = {c.iri: {a.iri for a in c.ancestors()} - {c.iri, owlready2.Thing.iri} for c in world.classes()}
    assert ours == theirs


@needs_java
def test_a_class_without_possible_instances_is_named(tmp_path: Path) -> None:
    body = ":a a owl:Class . :b a owl:Class ; owl:disjointWith :a . :both a owl:Class ; rdfs:subClassOf :a, :b ."
    [problem] = reason_over(load_ontology([write(tmp_path / "x.ttl", body)]))
    assert "class 'both' can have no instance" in problem.message


def test_without_java_it_is_said_aloud_that_nothing_was_reasoned(
    thorax: Knowledge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    assert reason_over(thorax.ontology) == []
    assert "HermiT did NOT run" in caplog.text


def test_broken_turtle_is_reported_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ttl", ":a a owl:Class\n:b a owl:Class .")
    with pytest.raises(OntologyError, match=r"x\.ttl:7: Turtle syntax: "):
        load_ontology([path])


def test_broken_xml_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.owl"
    path.write_text("<?xml version='1.0'?>\n<rdf:RDF>\n</wrong>")
    with pytest.raises(OntologyError, match=r"x\.owl:\d: xml syntax"):
        load_ontology([path])


def test_an_unknown_superclass_is_reported_with_the_nearest_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ttl", ":lung a owl:Class .\n:left_lung a owl:Class ; rdfs:subClassOf :lunge .")
    with pytest.raises(
        OntologyError, match=r"x.ttl:7: superclass <.*lunge> of 'left_lung' is not declared; did you mean 'lung'"
    ):
        load_ontology([path])


def test_an_unknown_geometric_word_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    body = ':a a owl:Class . :r a owl:ObjectProperty ; ns:predicate "insid" .'
    with pytest.raises(
        OntologyError, match="ns:predicate 'insid' of 'r' is not a geometric word; did you mean 'inside'"
    ):
        load_ontology([write(tmp_path / "x.ttl", body)])


def test_a_category_tied_to_two_classes_is_refused(tmp_path: Path) -> None:
    body = ':a a owl:Class ; ns:category "RBC" .\n:b a owl:Class ; ns:category "RBC" .'
    with pytest.raises(OntologyError, match="category 'RBC' is tied to both 'a' and 'b'; keep one"):
        load_ontology([write(tmp_path / "x.ttl", body)])


def test_an_import_that_is_not_on_this_disk_is_never_fetched(tmp_path: Path) -> None:
    head = "<http://example.org/x> a owl:Ontology ; owl:imports <http://example.org/elsewhere> ."
    with pytest.raises(
        OntologyError, match=r"x\.ttl:5: owl:imports <http://example.org/elsewhere> is not on this disk.*catalog"
    ):
        load_ontology([write(tmp_path / "x.ttl", ":a a owl:Class .", head)])


def test_an_import_is_found_through_the_catalog(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "base.ttl", ":base a owl:Class .", "<http://example.org/base> a owl:Ontology .")
    (tmp_path / "catalog-v001.xml").write_text(
        '<catalog xmlns="urn:oasis:names:tc:entity:xmlns:xml:catalog">'
        '<uri name="http://example.org/base" uri="deep/base.ttl"/></catalog>'
    )
    head = "<http://example.org/x> a owl:Ontology ; owl:imports <http://example.org/base> ."
    ontology = load_ontology([write(tmp_path / "x.ttl", ":a a owl:Class ; rdfs:subClassOf :base .", head)])
    assert ontology.ancestors("a") == {"base"}


def test_a_cyclic_import_names_the_circle(tmp_path: Path) -> None:
    for this, other in (("x", "y"), ("y", "x")):
        head = f"<http://example.org/{this}> a owl:Ontology ; owl:imports <http://example.org/{other}> ."
        write(tmp_path / f"{this}.ttl", f":{this}c a owl:Class .", head)
    with pytest.raises(OntologyError, match=r"cyclic owl:imports: x.ttl → y.ttl → x.ttl; remove one"):
        load_ontology([tmp_path / "x.ttl"])


def test_a_category_without_a_class_says_which_line_to_add(thorax: Knowledge) -> None:
    with pytest.raises(DataError) as error:
        thorax.class_of_category("hart", "boxes.json")
    assert "boxes.json: category 'hart' is tied to no ontology class; add ns:category \"hart\"" in str(error.value)
    assert "did you mean 'heart'?" in str(error.value)


def test_an_existential_axiom_becomes_a_weighted_rule(tmp_path: Path) -> None:
    body = """
:lung a owl:Class . :inside a owl:ObjectProperty ; ns:predicate "inside" .
:nodule a owl:Class ; rdfs:subClassOf _:r .
_:r a owl:Restriction ; owl:onProperty :inside ; owl:someValuesFrom :lung .
[] a owl:Axiom ; owl:annotatedSource :nodule ; owl:annotatedProperty rdfs:subClassOf ; owl:annotatedTarget _:r ;
   ns:confidence 0.9 ."""
    [rule] = load_ontology([write(tmp_path / "x.ttl", body)]).axioms
    assert str(rule) == "0.9 :: inside(X, Y), lung(Y) :- nodule(X)."


@pytest.mark.parametrize("value", ['"high"', "-0.5", "1.2", "0"])
def test_a_confidence_that_is_no_probability_is_refused(value: str, tmp_path: Path) -> None:
    body = f"""
:lung a owl:Class . :inside a owl:ObjectProperty ; ns:predicate "inside" .
:nodule a owl:Class ; rdfs:subClassOf _:r .
_:r a owl:Restriction ; owl:onProperty :inside ; owl:someValuesFrom :lung .
[] a owl:Axiom ; owl:annotatedSource :nodule ; owl:annotatedProperty rdfs:subClassOf ; owl:annotatedTarget _:r ;
   ns:confidence {value} ."""
    with pytest.raises(OntologyError, match="ns:confidence .* of an axiom about 'nodule' is not in"):
        load_ontology([write(tmp_path / "x.ttl", body)])


def test_an_unknown_zone_word_on_a_class_and_a_cyclic_list_are_refused(tmp_path: Path) -> None:
    body = ':a a owl:Class ; ns:predicate "uper_zone" .'
    with pytest.raises(
        OntologyError, match="'uper_zone' of class 'a' is not a zone, side or size; did you mean 'upper_zone'"
    ):
        load_ontology([write(tmp_path / "x.ttl", body)])
    body = ":a a owl:Class . [] a owl:AllDisjointClasses ; owl:members _:l . _:l rdf:first :a ; rdf:rest _:l ."
    head = "@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> . <http://example.org/x> a owl:Ontology ."
    with pytest.raises(OntologyError, match="an RDF list is cyclic"):
        load_ontology([write(tmp_path / "y.ttl", body, head)])


def test_the_same_file_named_twice_counts_once(tmp_path: Path, thorax: Knowledge) -> None:
    path = Path(__file__).parents[2] / "ontologies/thorax.ttl"
    assert load_ontology([path, path]).axioms == thorax.ontology.axioms
    assert len(set(map(str, thorax.ontology.axioms))) == len(thorax.ontology.axioms)


@needs_java
def test_an_ontology_outside_owl_2_dl_is_refused_by_hermit_with_its_reason(tmp_path: Path) -> None:
    body = ":a a owl:Class . :r a owl:ObjectProperty , owl:TransitiveProperty , owl:AsymmetricProperty ."
    with pytest.raises(OntologyError, match="HermiT refuses the ontology: .*"):
        reason_over(load_ontology([write(tmp_path / "x.ttl", body)]))


def test_what_the_ontology_entails_is_told_as_rules(thorax: Knowledge) -> None:
    entailed = set(map(str, thorax.ontology.entailments()))
    assert entailed >= {
        "lung(X) :- left_lung(X).",
        "finding(X) :- consolidation(X).",
        "right_of(Y, X) :- left_of(X, Y).",
        "near(Y, X) :- near(X, Y).",
        "left_of(X, Z) :- left_of(X, Y), left_of(Y, Z).",
        "overlaps(X, Y) :- inside(X, Y).",
        "larger_than(X, Y) :- medium_object(X), small_object(Y).",
    }
    assert "inside(X, Z) :- inside(X, Y), inside(Y, Z)." not in entailed


def test_the_graph_that_experts_reach_is_the_whole_file(thorax: Knowledge) -> None:
    labels = thorax.ontology.graph.query(
        "SELECT ?l WHERE { ?c <http://www.w3.org/2000/01/rdf-schema#label> ?l FILTER(str(?l) = 'right lung') }"
    )
    assert len(list(labels)) >= 1
