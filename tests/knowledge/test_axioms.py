r"""Axioms and the rules they become: against a model checker (tests/oracles/owl.py), HermiT, py-horned-owl, and OWL 2 RL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.errors import OntologyError
from neurosym.knowledge.ontology import Ontology, load_ontology
from tests.knowledge.random_axioms import AXIOMS, axiom_turtle, interpretation
from tests.oracles.owl import axiom_holds, rule_holds

PREFIXES = """@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix swrl: <http://www.w3.org/2003/11/swrl#> .
@prefix dcterms: <http://purl.org/dc/terms/> .
@prefix ns: <https://w3id.org/neurosym/core#> .
@prefix : <http://example.org/x#> .
<http://example.org/x> a owl:Ontology .
"""
DECLARED = """:a a owl:Class . :b a owl:Class . :c a owl:Class . :r a owl:ObjectProperty . :s a owl:ObjectProperty .
:age a owl:DatatypeProperty ; rdfs:range xsd:integer . :size a owl:DatatypeProperty ; rdfs:range xsd:integer .
:i0 a owl:NamedIndividual . :i1 a owl:NamedIndividual . :i2 a owl:NamedIndividual .
"""


def load(tmp_path: Path, body: str, declared: str = DECLARED) -> Ontology:
    path = tmp_path / "x.ttl"
    return load_ontology([path], {path: f"{PREFIXES}{declared}{body}\n"})


@settings(max_examples=300)
@given(axiom=AXIOMS, seed=st.integers(0, 2**32))
def test_in_every_interpretation_the_rules_hold_exactly_where_the_axiom_does(axiom: tuple[Any, ...], seed: int) -> None:
    ontology = load(Path("/nowhere"), axiom_turtle(axiom))
    given_anyway = {"age Range integer", "size Range integer"}
    found = [a for a in ontology.axioms if a.text not in given_anyway]
    for each in found:
        assert each.rules or each.unused or each.structural
    for number in range(25):
        i = interpretation(seed + number)
        truth = axiom_holds(axiom, i)
        if any(a.unused and a.unused not in ("it holds anyway", "it can never hold") for a in found):
            break
        claimed = all(rule_holds(r, i) for a in found for r in a.rules)
        claimed = claimed and not any(a.unused == "it can never hold" for a in found)
        assert claimed == truth, (axiom, [str(r) for a in found for r in a.rules], [a.unused for a in found])


# --- every axiom is used or has a reason --------------------------------------------------------------------------------

KITCHEN_SINK = """Prefix(:=<http://example.org/x#>) Prefix(xsd:=<http://www.w3.org/2001/XMLSchema#>)
Prefix(owl:=<http://www.w3.org/2002/07/owl#>)
Ontology(<http://example.org/x>
Declaration(Class(:a)) Declaration(Class(:b)) Declaration(Class(:c)) Declaration(Class(:d))
Declaration(ObjectProperty(:r)) Declaration(ObjectProperty(:s)) Declaration(ObjectProperty(:t))
Declaration(DataProperty(:age)) Declaration(DataProperty(:weight)) Declaration(Datatype(:adult))
Declaration(NamedIndividual(:i)) Declaration(NamedIndividual(:j)) Declaration(AnnotationProperty(:note))
AnnotationAssertion(:note :a "text")
SubClassOf(:a :b)
SubClassOf(:a ObjectSomeValuesFrom(:r :c))
SubClassOf(:a ObjectAllValuesFrom(ObjectInverseOf(:r) :c))
SubClassOf(ObjectIntersectionOf(:a ObjectSomeValuesFrom(:s :c)) :d)
SubClassOf(:a ObjectUnionOf(:c :d))
SubClassOf(:a ObjectComplementOf(:d))
SubClassOf(:a ObjectMaxCardinality(1 :r :c))
SubClassOf(:a ObjectMaxCardinality(2 :r))
SubClassOf(:a ObjectMinCardinality(2 :r :c))
SubClassOf(:a ObjectExactCardinality(2 :s :c))
SubClassOf(:a ObjectHasValue(:r :i))
SubClassOf(:a ObjectHasSelf(:s))
SubClassOf(:a ObjectAllValuesFrom(:s ObjectOneOf(:i :j)))
SubClassOf(:a DataSomeValuesFrom(:age :adult))
SubClassOf(:a DataAllValuesFrom(:age DatatypeRestriction(xsd:integer xsd:minInclusive "0"^^xsd:integer)))
SubClassOf(:a DataMaxCardinality(1 :weight))
SubClassOf(:a DataHasValue(:age "3"^^xsd:integer))
SubClassOf(owl:Thing ObjectSomeValuesFrom(:s :c))
EquivalentClasses(:b ObjectIntersectionOf(:c ObjectSomeValuesFrom(:t :c)))
DisjointClasses(:c :d)
DisjointClasses(:a :c :d)
DisjointUnion(:b :a :d)
HasKey(:a (:r) (:age))
SubObjectPropertyOf(:r :s)
SubObjectPropertyOf(ObjectPropertyChain(:r :s) :t)
EquivalentObjectProperties(:s :t)
DisjointObjectProperties(:r :t)
InverseObjectProperties(:r :s)
ObjectPropertyDomain(:r :a)
ObjectPropertyRange(:r ObjectUnionOf(:a :b))
FunctionalObjectProperty(:r)
InverseFunctionalObjectProperty(:r)
ReflexiveObjectProperty(:s)
IrreflexiveObjectProperty(:r)
SymmetricObjectProperty(:s)
AsymmetricObjectProperty(:r)
TransitiveObjectProperty(:t)
SubDataPropertyOf(:age :weight)
DisjointDataProperties(:age :weight)
DataPropertyDomain(:age :a)
DataPropertyRange(:age xsd:integer)
DataPropertyRange(:weight xsd:integer)
FunctionalDataProperty(:age)
DatatypeDefinition(:adult DatatypeRestriction(xsd:integer xsd:minInclusive "18"^^xsd:integer))
ClassAssertion(:a :i)
ClassAssertion(ObjectSomeValuesFrom(:r :c) :j)
ClassAssertion(:a _:someone)
ObjectPropertyAssertion(:r :i :j)
NegativeObjectPropertyAssertion(:s :i :j)
DataPropertyAssertion(:age :i "40"^^xsd:integer)
NegativeDataPropertyAssertion(:age :i "41"^^xsd:integer)
SameIndividual(:i :j)
DifferentIndividuals(:i :j)
)
"""


def kitchen_sink() -> Ontology:
    path = Path("/nowhere/x.ofn")
    return load_ontology([path], {path: KITCHEN_SINK})


def test_no_axiom_is_dropped_in_silence() -> None:
    pyhornedowl = pytest.importorskip("pyhornedowl")
    theirs: dict[str, int] = {}
    for axiom in pyhornedowl.open_ontology_from_string(KITCHEN_SINK, "ofn").get_axioms():
        kind = type(axiom.component).__name__
        if not kind.startswith(("Declare", "Annotation")):
            theirs[kind] = theirs.get(kind, 0) + 1
    ours: dict[str, int] = {}
    for axiom in kitchen_sink().axioms:
        kind = "SubObjectPropertyOf" if axiom.kind == "ObjectPropertyChain" else axiom.kind
        ours[kind] = ours.get(kind, 0) + 1
        assert axiom.rules or axiom.unused or axiom.structural
    assert ours == theirs


RL = {  # the rule of OWL 2 RL (https://www.w3.org/TR/owl2-profiles/, tables 5 to 7) → axiom, and what the table says
    "prp-dom": (":r rdfs:domain :c .", ["c(X) :- r(X, Y)."]),
    "prp-rng": (":r rdfs:range :c .", ["c(Y) :- r(X, Y)."]),
    "prp-fp": (":r a owl:FunctionalProperty .", ["Y = Z :- r(X, Y), r(X, Z)."]),
    "prp-ifp": (":r a owl:InverseFunctionalProperty .", ["X = Z :- r(X, Y), r(Z, Y)."]),
    "prp-irp": (":r a owl:IrreflexiveProperty .", [":- r(X, X)."]),
    "prp-symp": (":r a owl:SymmetricProperty .", ["r(Y, X) :- r(X, Y)."]),
    "prp-asyp": (":r a owl:AsymmetricProperty .", [":- r(X, Y), r(Y, X)."]),
    "prp-trp": (":r a owl:TransitiveProperty .", ["r(X, Z) :- r(X, Y), r(Y, Z)."]),
    "prp-spo1": (":r rdfs:subPropertyOf :s .", ["s(X, Y) :- r(X, Y)."]),
    "prp-spo2": (":s owl:propertyChainAxiom ( :r :r ) .", ["s(X, Z) :- r(X, Y), r(Y, Z)."]),
    "prp-eqp": (":r owl:equivalentProperty :s .", ["s(X, Y) :- r(X, Y).", "r(X, Y) :- s(X, Y)."]),
    "prp-pdw": (":r owl:propertyDisjointWith :s .", [":- r(X, Y), s(X, Y)."]),
    "prp-inv": (":r owl:inverseOf :s .", ["s(Y, X) :- r(X, Y).", "r(Y, X) :- s(X, Y)."]),
    "prp-key": (":c owl:hasKey ( :age ) .", ["X = Y :- c(X), c(Y), age(X, V), age(Y, V)."]),
    "cls-int": ("[ owl:intersectionOf ( :a :b ) ] rdfs:subClassOf :c .", ["c(X) :- a(X), b(X)."]),
    "cls-uni": ("[ owl:unionOf ( :a :b ) ] rdfs:subClassOf :c .", ["c(X) :- a(X).", "c(X) :- b(X)."]),
    "cls-com": (":a rdfs:subClassOf [ owl:complementOf :b ] .", [":- a(X), b(X)."]),
    "cls-svf": (
        "[ owl:onProperty :r ; owl:someValuesFrom :a ] rdfs:subClassOf :c .",
        ["c(X) :- r(X, Y), a(Y)."],
    ),
    "cls-avf": (":c rdfs:subClassOf [ owl:onProperty :r ; owl:allValuesFrom :a ] .", ["a(Y) :- c(X), r(X, Y)."]),
    "cls-hv1": (":c rdfs:subClassOf [ owl:onProperty :r ; owl:hasValue :i0 ] .", ["r(X, i0) :- c(X)."]),
    "cls-hv2": ("[ owl:onProperty :r ; owl:hasValue :i0 ] rdfs:subClassOf :c .", ["c(X) :- r(X, i0)."]),
    "cls-maxc1": (":c rdfs:subClassOf [ owl:onProperty :r ; owl:maxCardinality 0 ] .", [":- c(X), r(X, Y)."]),
    "cls-maxqc3": (
        ":c rdfs:subClassOf [ owl:onProperty :r ; owl:maxQualifiedCardinality 1 ; owl:onClass :a ] .",
        ["Y = Z :- c(X), r(X, Y), a(Y), r(X, Z), a(Z)."],
    ),
    "cls-oo": ("[ owl:oneOf ( :i0 :i1 ) ] rdfs:subClassOf :c .", ["c(i0).", "c(i1)."]),
    "cax-sco": (":a rdfs:subClassOf :b .", ["b(X) :- a(X)."]),
    "cax-dw": (":a owl:disjointWith :b .", [":- a(X), b(X)."]),
}


@pytest.mark.parametrize("name", RL)
def test_where_owl_2_rl_has_a_rule_ours_is_the_same(name: str, tmp_path: Path) -> None:
    body, expected = RL[name]
    [axiom] = [a for a in load(tmp_path, body).axioms if not a.text.endswith("Range integer")]
    assert [str(r) for r in axiom.rules] == expected
    assert not any(r.distinct for r in axiom.rules)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (":r a owl:ReflexiveProperty .", "it is about everything there is"),
        (":a rdfs:subClassOf [ owl:onProperty :r ; owl:allValuesFrom "
         "[ owl:onProperty :s ; owl:someValuesFrom [ owl:onProperty :r ; owl:allValuesFrom :b ] ] ] .",
         "it counts within a count"),
        (":a rdfs:subClassOf [ owl:onProperty :r ; owl:maxQualifiedCardinality 2 ; "
         "owl:onClass [ owl:unionOf ( :b :c ) ] ] .", "it counts what is one thing or another"),
        (":a rdfs:subClassOf [ owl:onProperty :age ; owl:someValuesFrom [ owl:onDatatype xsd:integer ; "
         "owl:withRestrictions ( [ xsd:pattern \"4.\" ] ) ] ] .", "only the facets minInclusive"),
        (":a rdfs:subClassOf [ owl:onProperty owl:topObjectProperty ; owl:someValuesFrom :b ] .", "relates everything"),
        (":a rdfs:subClassOf owl:Thing .", "it holds anyway"),
        (":a rdfs:subClassOf [ owl:onProperty :r ; owl:maxCardinality \"many\" ] .", "is not a whole number"),
        ("[] a :a .", "an anonymous individual"),
        (":i0 owl:sameAs :i1 .", "one name"),
        (":old a owl:Class ; owl:deprecated true . :a rdfs:subClassOf :old .", "old> is deprecated"),
        (":undeclared rdfs:subPropertyOf :r .", "neither as an object property nor as a data property"),
    ],
)  # fmt: skip
def test_an_axiom_that_becomes_nothing_says_why(body: str, reason: str, tmp_path: Path) -> None:
    [axiom] = [a for a in load(tmp_path, body).axioms if a.unused]
    assert reason in axiom.unused
    assert axiom.rules == ()
    assert not axiom.structural


def test_a_class_or_property_that_is_not_declared_is_reported_with_the_nearest_name(tmp_path: Path) -> None:
    body = ":a rdfs:subClassOf [ owl:onProperty :rr ; owl:someValuesFrom :b ] , [ owl:unionOf ( :b :bb ) ] ."
    with pytest.raises(OntologyError) as error:
        load(tmp_path, body, DECLARED.replace(":r a", ":roughly a"))
    assert "property <http://example.org/x#rr> in an axiom about 'a' is not declared" in str(error.value)
    assert "class <http://example.org/x#bb> in an axiom about 'a' is not declared" in str(error.value)


def test_every_kind_of_axiom_can_have_a_confidence_and_a_source(tmp_path: Path) -> None:
    body = """
    :r a owl:FunctionalProperty . :a rdfs:subClassOf :b .
    :a rdfs:subClassOf [ a owl:Restriction ; owl:onProperty :r ; owl:someValuesFrom :c ] .
    [] a owl:Axiom ; owl:annotatedSource :a ; owl:annotatedProperty rdfs:subClassOf ; ns:confidence 0.7 ;
       owl:annotatedTarget [ a owl:Restriction ; owl:onProperty :r ; owl:someValuesFrom :c ] ; dcterms:source "7 of 10" .
    [] a owl:Axiom ; owl:annotatedSource :a ; owl:annotatedProperty rdfs:subClassOf ; owl:annotatedTarget :b ;
       ns:confidence 0.8 .
    [] a owl:Axiom ; owl:annotatedSource :r ; owl:annotatedProperty rdf:type ;
       owl:annotatedTarget owl:FunctionalProperty ; ns:confidence 0.9 .
    [] a owl:AllDisjointClasses ; owl:members ( :a :c ) ; ns:confidence 0.95 ."""
    ontology = load(tmp_path, body)
    assert sorted(str(r) for r in ontology.rules) == [
        "0.7 :: r(X, Y), c(Y) :- a(X).",
        "0.8 :: b(X) :- a(X).",
        "0.9 :: Y = Z :- r(X, Y), r(X, Z).",
        "0.95 :: :- a(X), c(X).",
    ]
    [some] = [a for a in ontology.axioms if a.confidence == 0.7]
    assert (some.source, some.rules[0].meta["source"], some.rules[0].id) == ("7 of 10", "7 of 10", "a_r_c")
    assert not ontology.is_a("a", "b")  # what holds in 4 cases of 5 is no part of the closure
    assert not ontology.are_disjoint("a", "c")


def test_a_confidence_of_an_axiom_that_nobody_states_is_refused(tmp_path: Path) -> None:
    body = """[] a owl:Axiom ; owl:annotatedSource :a ; owl:annotatedProperty rdfs:subClassOf ; owl:annotatedTarget :b ;
    ns:confidence 0.8 ."""
    with pytest.raises(OntologyError, match="ns:confidence of an axiom about 'a' that the ontology does not state"):
        load(tmp_path, body)


def test_rule_ids_are_unique_and_rules_know_their_line(tmp_path: Path) -> None:
    ontology = kitchen_sink()
    ids = [r.id for a in ontology.axioms for r in a.rules]
    assert len(ids) == len(set(ids))
    declared = ":a a owl:Class .\n:b a owl:Class .\n:s a owl:ObjectProperty .\n"
    [rule] = load(tmp_path, ":a rdfs:subClassOf\n  [ owl:onProperty :s ; owl:allValuesFrom :b ] .", declared).rules
    assert (Path(rule.file).name, rule.line) == ("x.ttl", PREFIXES.count("\n") + 5)


def test_swrl_rules_are_axioms_too(tmp_path: Path) -> None:
    body = """
    :x a swrl:Variable . :rule a swrl:Imp ; rdfs:label "a then b" ;
    swrl:body ( [ a swrl:ClassAtom ; swrl:classPredicate :a ; swrl:argument1 :x ] ) ;
    swrl:head ( [ a swrl:ClassAtom ; swrl:classPredicate :b ; swrl:argument1 :x ] ) ."""
    [axiom] = [a for a in load(tmp_path, body).axioms if a.kind == "DLSafeRule"]
    [rule] = axiom.rules
    assert (rule.id, rule.distinct, rule.head[0].predicate, rule.body[0].predicate) == ("a_then_b", False, "b", "a")
