from __future__ import annotations

import io
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.errors import DataError, OntologyError
from neurosym.knowledge import Knowledge, load_ontology
from neurosym.knowledge.reasoner import classify
from neurosym.knowledge.ties import ANNOTATIONS
from neurosym.knowledge.triples import NS, OWL
from neurosym.records import Atom, Box, Term
from tests.oracles.spatial import holds

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
    assert list(classify(request.getfixturevalue(name).ontology).problems) == []


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
    [problem] = list(classify(load_ontology([write(tmp_path / "x.ttl", body)])).problems)
    assert "class 'both' can have no instance" in problem.message


def test_without_java_it_is_said_aloud_that_nothing_was_reasoned(
    thorax: Knowledge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    assert list(classify(thorax.ontology).problems) == []
    assert "HermiT did NOT run" in caplog.text


def test_broken_turtle_is_reported_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ttl", ":a a owl:Class\n:b a owl:Class .")
    with pytest.raises(OntologyError, match=r"x\.ttl:7:\d+: Turtle syntax: "):
        load_ontology([path])


def test_broken_xml_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.owl"
    path.write_text("<?xml version='1.0'?>\n<rdf:RDF>\n</wrong>")
    with pytest.raises(OntologyError, match=r"x\.owl:\d:\d+: XML: "):
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


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            ':a a owl:Class ; ns:categorie "RBC" .',
            "6: ns:categorie is no word of the core vocabulary; did you mean 'category'",
        ),
        (
            ":a a owl:Class . :b a owl:Class ; rdfs:subClassOf :a .\n[] a owl:Axiom ; owl:annotatedSource :b ;\n"
            "owl:annotatedProperty rdfs:subClassOf ; owl:annotatedTarget :a ; ns:confidense 0.9 .",
            "8: ns:confidense is no word of the core vocabulary; did you mean 'confidence'",
        ),
        (':a a owl:Class ; rdfs:subClassOf "b" .', "6: subClassOf of a is the text 'b'; write a name without quotes"),
        (':a a owl:Class ; ns:zoned "yes" .', "6: ns:zoned 'yes' is no truth value; write true or false"),
    ],
)
def test_what_would_do_nothing_is_refused(body: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OntologyError, match=message):
        load_ontology([write(tmp_path / "x.ttl", body)])


def test_the_annotations_that_are_known_are_those_that_the_ontologies_declare() -> None:
    ontology = load_ontology(sorted((Path(__file__).parents[2] / "ontologies").glob("*.ttl")))
    declared = ontology.source.triples.instances(OWL + "AnnotationProperty")
    assert {iri.removeprefix(NS) for iri in declared if iri.startswith(NS)} == ANNOTATIONS


def test_a_term_of_another_namespace_is_named_with_that_of_its_namesake(tmp_path: Path) -> None:
    body = ":a a owl:Class . :b a owl:Class ; rdfs:subClassOf <http://x.org/elsewhere#a> ."
    with pytest.raises(
        OntologyError, match=r"<http://x.org/elsewhere#a> of 'b' is not declared; did you mean <http\S+#a>\?"
    ):
        load_ontology([write(tmp_path / "x.ttl", body)])


def test_the_core_vocabulary_is_to_be_imported_where_only_its_words_are_used(tmp_path: Path) -> None:
    cure = "import the core vocabulary: owl:imports <https://w3id.org/neurosym/core>"
    with pytest.raises(OntologyError, match=f"scene_object> of 'a' is not declared; {cure}"):
        load_ontology([write(tmp_path / "x.ttl", ":a a owl:Class ; rdfs:subClassOf ns:scene_object .")])


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
    [rule] = load_ontology([write(tmp_path / "x.ttl", body)]).rules
    assert rule.id == "nodule_inside_lung"
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
    assert len({(a.kind, a.text) for a in thorax.ontology.axioms}) == len(thorax.ontology.axioms)


@needs_java
def test_an_ontology_outside_owl_2_dl_is_refused_by_hermit_with_its_reason(tmp_path: Path) -> None:
    body = ":a a owl:Class . :r a owl:ObjectProperty , owl:TransitiveProperty , owl:AsymmetricProperty ."
    with pytest.raises(OntologyError, match="not OWL 2 DL: .*"):
        list(classify(load_ontology([write(tmp_path / "x.ttl", body)])).problems)


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


@needs_java
def test_told_superclasses_of_every_spelling_are_those_that_hermit_infers(tmp_path: Path) -> None:
    import owlready2

    body = """
:r a owl:ObjectProperty .
:a a owl:Class ; owl:equivalentClass :b . :b a owl:Class ; rdfs:subClassOf [ owl:intersectionOf ( :c :d ) ] .
:c a owl:Class . :d a owl:Class . :e a owl:Class ; owl:equivalentClass [ owl:intersectionOf ( :a
  [ a owl:Restriction ; owl:onProperty :r ; owl:someValuesFrom :c ] ) ] .
:f a owl:Class ; owl:equivalentClass [ owl:unionOf ( :g :h ) ] . :g a owl:Class . :h a owl:Class .
:i a owl:Class ; owl:disjointUnionOf ( :j :k ) . :j a owl:Class ; rdfs:subClassOf :g . :k a owl:Class .
"""
    ontology = load_ontology([write(tmp_path / "x.ttl", body)])
    world = owlready2.World()
    nt = ontology.graph.serialize(format="nt")
    world.get_ontology("urn:test").load(fileobj=io.BytesIO(nt.encode()))
    owlready2.sync_reasoner_hermit(world, debug=0)
    for c in world.classes():
        equivalents = {e for e in c.equivalent_to if isinstance(e, owlready2.ThingClass)}
        theirs = {a.name for each in (c, *equivalents) for a in each.ancestors()} - {c.name, "Thing"}
        assert ontology.ancestors(c.name) == theirs
        assert {b.name for b in world.classes() if c.name in ontology.ancestors(b.name)} == ontology.descendants(c.name)


def test_classes_below_one_another_in_a_circle_are_refused_unless_stated_equivalent(tmp_path: Path) -> None:
    classes = ":a a owl:Class . :b a owl:Class . :c a owl:Class .\n"
    circle = ":a rdfs:subClassOf :b . :b rdfs:subClassOf :c . :c rdfs:subClassOf :a ."
    with pytest.raises(OntologyError, match="cyclic class hierarchy: a ⊑ b ⊑ c ⊑ a; remove one of these"):
        load_ontology([write(tmp_path / "x.ttl", classes + circle)])
    stated = classes + circle + " :a owl:equivalentClass :b . :b owl:equivalentClass :c ."
    assert load_ontology([write(tmp_path / "y.ttl", stated)]).ancestors("a") == {"b", "c"}


def test_names_made_from_one_label_are_told_apart_by_the_local_name(tmp_path: Path) -> None:
    body = ':HP_1 a owl:Class ; rdfs:label "Cyst" . :HP_2 a owl:Class ; rdfs:label "Cyst" . :HP_3 a owl:Class .'
    ontology = load_ontology([write(tmp_path / "x.ttl", body)])
    assert set(ontology.classes) == {"cyst_hp_1", "cyst_hp_2", "hp_3"}
    body = ":a a owl:Class . <http://example.org/y#a> a owl:Class ."
    with pytest.raises(OntologyError, match="two terms share the name 'a': <http://example.org/x#a>, <http://example"):
        load_ontology([write(tmp_path / "y.ttl", body)])


def test_deprecated_classes_are_left_out(tmp_path: Path) -> None:
    body = ":a a owl:Class . :old a owl:Class ; owl:deprecated true ."
    assert set(load_ontology([write(tmp_path / "x.ttl", body)]).classes) == {"a"}


def test_data_properties_are_measurements_with_a_datatype(tmp_path: Path) -> None:
    head = "@prefix xsd: <http://www.w3.org/2001/XMLSchema#> . <http://example.org/x> a owl:Ontology ."
    body = """:a a owl:Class ; rdfs:subClassOf [ owl:onProperty :used ; owl:allValuesFrom xsd:double ] .
:count a owl:DatatypeProperty , owl:FunctionalProperty ; rdfs:range xsd:nonNegativeInteger ; rdfs:domain :a .
:width a owl:DatatypeProperty ; rdfs:range xsd:float . :note a owl:DatatypeProperty . :used a owl:DatatypeProperty .
:flag a owl:DatatypeProperty ; rdfs:range xsd:boolean . :r a owl:ObjectProperty , owl:AsymmetricProperty ."""
    ontology = load_ontology([write(tmp_path / "x.ttl", body, head)])
    kinds = {name: r.datatype for name, r in ontology.relations.items()}
    assert kinds == {
        "count": "integer", "width": "decimal", "note": "string", "used": "decimal", "flag": "boolean", "r": ""
    }  # fmt: skip
    assert ontology.measurements == set(kinds) - {"r"}
    count = ontology.relations["count"]
    assert (count.functional, count.domain, ontology.relations["r"].asymmetric) == (True, {"a"}, True)


def test_what_a_reasoner_found_enters_the_closure_and_stays_apart_from_what_is_asserted(thorax: Knowledge) -> None:
    before = thorax.ontology
    after = before.with_subsumptions([("nodule", "anatomical_structure"), ("nodule", "opacity")])
    assert after.is_a("nodule", "anatomical_structure")
    assert not before.is_a("nodule", "anatomical_structure")
    assert after.classes["nodule"].entailed == {"anatomical_structure"}
    assert after.classes["nodule"].parents == before.classes["nodule"].parents
    assert after.are_disjoint("nodule", "finding")  # anatomy and findings are disjoint
    assert "nodule" in after.descendants("anatomical_structure")


def test_disjointness_is_inherited_by_everything_below(thorax: Knowledge) -> None:
    ontology = thorax.ontology
    for a in ontology.classes:
        for b in ontology.classes:
            above = [{n, *ontology.ancestors(n)} for n in (a, b)]
            stated = any(frozenset((x, y)) in ontology.disjoint for x in above[0] for y in above[1] if x != y)
            assert ontology.are_disjoint(a, b) == stated


SIDES_OF_BOXES = st.integers(0, 40)
BOXES = st.tuples(SIDES_OF_BOXES, SIDES_OF_BOXES, st.integers(1, 40), st.integers(1, 40)).map(
    lambda b: Box(b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(boxes=st.lists(BOXES, min_size=3, max_size=3))
def test_what_geometric_words_entail_holds_of_every_three_boxes(thorax: Knowledge, boxes: list[Box]) -> None:
    ontology = thorax.ontology
    rules = ontology.geometry_rules()
    assert len({r.id for r in rules}) == len(rules)
    for rule in rules:
        assert not rule.distinct
        for chosen in itertools.permutations(boxes):
            bound = dict(zip(map(Term, "XYZ"), chosen, strict=True))

            def true(atom: Atom, bound: dict[Term, Box] = bound) -> bool:
                return holds(ontology.relations[atom.predicate].predicate, *(bound[t] for t in atom.args))

            if all(map(true, rule.body)):
                assert rule.head, rule
                assert all(map(true, rule.head)), rule


def test_reading_an_ontology_needs_neither_rdflib_nor_networkx() -> None:
    code = """import sys
from pathlib import Path
from neurosym.knowledge.ontology import load_ontology
ontology = load_ontology([Path('ontologies/thorax.ttl')])
ontology.ancestors('nodule'), ontology.are_disjoint('nodule', 'mass'), ontology.rules, ontology.entailments()
sys.exit(any(m in sys.modules for m in ('rdflib', 'networkx', 'owlready2', 'torch')))"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0
