from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyoxigraph
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdflib import OWL, PROV, RDF, Graph, URIRef
from rdflib.compare import isomorphic

from neurosym.data.images import annotated_scene
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import DataError
from neurosym.knowledge import load_knowledge
from neurosym.knowledge.ontology import load_ontology
from neurosym.knowledge.reasoner import classify
from neurosym.records import Box, Detection, Fact, FactStore, Scene
from neurosym.scenes import facts_from
from neurosym.scenes.rdf import Provenance, facts_graph, facts_of_graph, load_rdf, save_rdf

ROOT = Path(__file__).parents[2]
CHEST = load_knowledge([ROOT / "ontologies/chest-facts.ttl"])
PREDICTED = Provenance.of_predictions("runs/jsrt test", "0.1.0", "step-000100", 0.5, "calibrated")
SCENE = Scene(
    "film 1.a#ü/x",
    200,
    200,
    (
        Detection("right_lung", Box(20, 20, 80, 140), 0.9),
        Detection("left_lung", Box(110, 20, 170, 140), 0.8),
        Detection("nodule", Box(112, 30, 118, 36), 0.3333),
    ),
    {"malignant_study": 1.0},
)
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="HermiT needs Java")


def store() -> FactStore:
    films = [annotated_scene(f) for f in Phantom(0, 3, PhantomConfig(size=64))]
    attributes = {film.image_id: {"sex": "F"} for film in films}
    return facts_from([SCENE, *films], CHEST, 0.1, attributes=attributes)


@pytest.mark.parametrize("suffix", [".ttl", ".nt"])
def test_facts_survive_their_file(suffix: str, tmp_path: Path) -> None:
    facts = store()
    save_rdf(tmp_path / f"f{suffix}", facts, CHEST.ontology, PREDICTED)
    assert load_rdf(tmp_path / f"f{suffix}", CHEST.ontology) == facts


@pytest.mark.parametrize("suffix", [".ttl", ".nt"])
def test_another_library_reads_the_same_graph(suffix: str, tmp_path: Path) -> None:
    facts = facts_from([SCENE], CHEST, 0.1)
    path = tmp_path / f"f{suffix}"
    save_rdf(path, facts, CHEST.ontology, PREDICTED)
    syntax = pyoxigraph.RdfFormat.TURTLE if suffix == ".ttl" else pyoxigraph.RdfFormat.N_TRIPLES
    read = list(pyoxigraph.parse(path=str(path), format=syntax))
    written = pyoxigraph.serialize((quad.triple for quad in read), format=pyoxigraph.RdfFormat.N_TRIPLES)
    again = Graph().parse(data=written, format="nt")
    assert isomorphic(again, facts_graph(facts, CHEST.ontology, PREDICTED))
    assert facts_of_graph(again, CHEST.ontology) == facts


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=8)


@settings(max_examples=25)
@given(NAMES, st.floats(1e-9, 1), st.sampled_from(["heart", "nodule"]), st.booleans())
def test_any_name_and_weight_survive(name: str, weight: float, word: str, in_scene: bool) -> None:
    scene = name if in_scene else ""
    facts = (Fact(word, (f"{name}/0",), weight, scene), Fact("left_of", (f"{name}/0", f"{name}/1"), weight, scene))
    facts = FactStore(tuple(sorted(facts)))
    text = facts_graph(facts, CHEST.ontology, PREDICTED).serialize(format="nt")
    assert facts_of_graph(Graph().parse(data=text, format="nt"), CHEST.ontology) == facts


def test_measurements_are_literals() -> None:
    facts = FactStore((Fact("width_share", ("film/0", "0.250"), 0.5, "film"),))
    graph = facts_graph(facts, CHEST.ontology, PREDICTED)
    assert facts_of_graph(graph, CHEST.ontology) == facts
    assert len(set(graph.subjects(PROV.wasDerivedFrom, None))) == 2, "the detection and the assertion, not the value"


def test_every_assertion_and_detection_says_where_it_comes_from() -> None:
    facts = store()
    graph = facts_graph(facts, CHEST.ontology, PREDICTED)
    ask = """SELECT DISTINCT ?s WHERE {
        ?axiom a owl:Axiom ; owl:annotatedSource ?s ; owl:annotatedProperty ?p ; owl:annotatedTarget ?o ; ns:weight ?w ;
            prov:wasGeneratedBy ?made ; prov:wasDerivedFrom ?image .
        ?s ?p ?o .
        ?made a prov:Activity ; prov:wasAssociatedWith ?agent ; prov:wasInformedBy ?prediction .
        ?agent a prov:SoftwareAgent .
        ?prediction a prov:Activity ; prov:used ?checkpoint .
        OPTIONAL { ?s prov:wasDerivedFrom ?image ; prov:wasGeneratedBy ?prediction ; prov:wasAttributedTo ?agent }
    }"""
    found = {str(s) for (s,) in graph.query(ask)}  # type: ignore[misc]
    assert len(found) == len({f.args[0] for f in facts.facts})
    assert len(set(graph.subjects(RDF.type, OWL.Axiom))) == len(facts.facts)
    detections = {arg for f in facts.facts for arg in f.args if arg != f.scene}
    for predicate in (PROV.wasGeneratedBy, PROV.wasAttributedTo, PROV.wasDerivedFrom):
        named = {s for s in graph.subjects(predicate, None) if isinstance(s, URIRef)}
        assert len(named) == len(detections)


def test_annotations_are_attributed_to_those_who_drew_them() -> None:
    origin = Provenance.of_annotations("runs/jsrt train", "0.1.0")
    graph = facts_graph(facts_from([SCENE], CHEST, 0.1), CHEST.ontology, origin)
    [annotators] = set(graph.objects(None, PROV.wasAttributedTo))
    assert (annotators, RDF.type, PROV.Agent) in graph
    assert not list(graph.objects(None, PROV.used))


def test_nothing_but_the_images_id_tells_who_the_patient_is(tmp_path: Path) -> None:
    scene = replace(SCENE, image_id="film", image_path="/data/Anna_Meyer/film.png")
    attributes = {"film": {"patient_id": "4711", "sex": "F", "age": 71}}
    save_rdf(tmp_path / "f.ttl", facts_from([scene], CHEST, attributes=attributes), CHEST.ontology, PREDICTED)
    text = (tmp_path / "f.ttl").read_text()
    assert "female_patient" in text
    assert not [word for word in ("Anna", "4711", "71 ", '"71"') if word in text]


def test_equal_facts_make_equal_bytes(tmp_path: Path) -> None:
    for suffix in ("ttl", "nt"):
        for name in ("a", "b"):
            save_rdf(tmp_path / f"{name}.{suffix}", store(), CHEST.ontology, PREDICTED)
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_what_cannot_be_written_or_read_is_told(tmp_path: Path) -> None:
    facts = FactStore((Fact("lft_of", ("a", "b")), Fact("hart", ("a",))))
    with pytest.raises(DataError) as error:
        facts_graph(facts, CHEST.ontology, PREDICTED)
    assert [p.message for p in error.value.problems] == [
        "'hart' of 1 arguments is not declared by the ontology",
        "'lft_of' of 2 arguments is not declared by the ontology",
    ]
    assert "did you mean 'left_of'?" in str(error.value)
    with pytest.raises(DataError, match="facts cannot be written as '.csv'; name it .ttl or .nt"):
        save_rdf(tmp_path / "f.csv", facts, CHEST.ontology, PREDICTED)
    (tmp_path / "f.ttl").write_text("<a> <b")
    with pytest.raises(DataError, match="f.ttl: not turtle"):
        load_rdf(tmp_path / "f.ttl", CHEST.ontology)
    for weight, shown in (("1.5", "1.5"), ("'much'", "much")):
        (tmp_path / "f.ttl").write_text(
            "@prefix : <https://w3id.org/neurosym/core#> . @prefix owl: <http://www.w3.org/2002/07/owl#> .\n"
            f"[] :weight {weight} ; owl:annotatedSource <x:a> ; owl:annotatedProperty :near ; owl:annotatedTarget <x:b> ."
        )
        with pytest.raises(DataError, match=f"f.ttl: the ns:weight {shown} is not in"):
            load_rdf(tmp_path / "f.ttl", CHEST.ontology)
    save_rdf(tmp_path / "g.nt", facts_from([SCENE], CHEST), CHEST.ontology, PREDICTED)
    blood = load_knowledge([ROOT / "ontologies/blood.ttl"]).ontology
    with pytest.raises(DataError, match="thorax#left_lung> is not declared by the ontology"):
        load_rdf(tmp_path / "g.nt", blood)


@needs_java
def test_facts_agree_with_the_ontology_and_one_object_in_both_lungs_does_not(tmp_path: Path) -> None:
    facts = facts_from([SCENE], CHEST, 0.1)
    wrong = Fact("left_lung", (f"{SCENE.image_id}/0",), 1.0, SCENE.image_id)  # which is a right lung
    for name, written in (("right", facts), ("wrong", FactStore(tuple(sorted((*facts.facts, wrong)))))):
        path = tmp_path / f"{name}.ttl"
        save_rdf(path, written, CHEST.ontology, PREDICTED)
        whole = load_ontology([ROOT / "ontologies/chest-facts.ttl", path])
        assert classify(whole, "hermit").consistent == (name == "right")
