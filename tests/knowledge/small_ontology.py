"""One small ontology with every kind of axiom: in Turtle and functional syntax, both by hand; and an OBO document."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import rdflib

from neurosym.knowledge.rdf import Source
from neurosym.knowledge.triples import is_blank

TURTLE = r"""@prefix : <http://example.org/x#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix ns: <https://w3id.org/neurosym/core#> .
<http://example.org/x> a owl:Ontology ; rdfs:comment "all kinds" .
ns:confidence a owl:AnnotationProperty . ns:category a owl:AnnotationProperty . skos:definition a owl:AnnotationProperty .
:lung a owl:Class ; rdfs:label "lung"@en , "Lunge"@de ;
  skos:definition "An organ of \"breathing\" <x> & y." ; ns:category "lung" .
:left a owl:Class ; rdfs:subClassOf :lung ; owl:disjointWith :right .
:right a owl:Class ; rdfs:subClassOf :lung .
:a1 a owl:Class . :a2 a owl:Class . :a3 a owl:Class .
[] a owl:AllDisjointClasses ; owl:members ( :a1 :a2 :a3 ) .
:lung owl:disjointUnionOf ( :left :right ) .
:inside a owl:ObjectProperty , owl:TransitiveProperty ; owl:inverseOf :contains ; rdfs:domain :lung ; rdfs:range :a1 .
:contains a owl:ObjectProperty , owl:ReflexiveProperty .
:near a owl:ObjectProperty , owl:SymmetricProperty ; owl:propertyChainAxiom ( :inside :near ) ; rdfs:subPropertyOf :touch .
:touch a owl:ObjectProperty , owl:AsymmetricProperty , owl:IrreflexiveProperty ; owl:propertyDisjointWith :inside .
:fn a owl:ObjectProperty , owl:FunctionalProperty , owl:InverseFunctionalProperty ; owl:equivalentProperty :fn2 .
:fn2 a owl:ObjectProperty .
:diameter a owl:DatatypeProperty , owl:FunctionalProperty ; rdfs:range xsd:decimal .
:nodule a owl:Class ; rdfs:subClassOf _:r ,
  [ a owl:Restriction ; owl:onProperty :near ; owl:allValuesFrom :a1 ] ,
  [ a owl:Restriction ; owl:onProperty :near ; owl:onClass :a1 ; owl:minQualifiedCardinality "1"^^xsd:nonNegativeInteger ] ,
  [ a owl:Restriction ; owl:onProperty :near ; owl:onClass :a1 ; owl:maxQualifiedCardinality "2"^^xsd:nonNegativeInteger ] ,
  [ a owl:Restriction ; owl:onProperty :near ; owl:onClass :a1 ; owl:qualifiedCardinality "3"^^xsd:nonNegativeInteger ] ,
  [ a owl:Restriction ; owl:onProperty :near ; owl:maxCardinality "4"^^xsd:nonNegativeInteger ] ,
  [ a owl:Restriction ; owl:onProperty :near ; owl:hasValue :i1 ] ,
  [ a owl:Restriction ; owl:onProperty :near ; owl:hasSelf true ] ,
  [ a owl:Restriction ; owl:onProperty :diameter ; owl:hasValue "3.5"^^xsd:decimal ] ,
  [ a owl:Restriction ; owl:onProperty :diameter ; owl:someValuesFrom [
    a rdfs:Datatype ; owl:onDatatype xsd:decimal ; owl:withRestrictions ( [ xsd:minInclusive "3.0"^^xsd:decimal ] ) ] ] .
_:r a owl:Restriction ; owl:onProperty :inside ; owl:someValuesFrom :lung .
[] a owl:Axiom ; owl:annotatedSource :nodule ; owl:annotatedProperty rdfs:subClassOf ; owl:annotatedTarget _:r ;
  ns:confidence "0.9"^^xsd:decimal .
[] a owl:Axiom ; owl:annotatedSource :left ; owl:annotatedProperty rdfs:subClassOf ; owl:annotatedTarget :lung ;
  rdfs:comment "textbook" .
:both a owl:Class ; owl:equivalentClass [ a owl:Class ; owl:intersectionOf ( :a1 [
  a owl:Restriction ; owl:onProperty :inside ; owl:someValuesFrom [ a owl:Class ;
    owl:unionOf ( :left [ a owl:Class ; owl:complementOf :right ] ) ] ] ) ] .
:one a owl:Class ; owl:equivalentClass [ a owl:Class ; owl:oneOf ( :i1 :i2 ) ] .
:i1 a owl:NamedIndividual , :nodule ; :inside :i2 ; :diameter "4.5"^^xsd:decimal ; owl:sameAs :i3 .
:i2 a owl:NamedIndividual ; owl:differentFrom :i1 . :i3 a owl:NamedIndividual .
[] a owl:AllDifferent ; owl:members ( :i1 :i2 :i3 ) .
[] a owl:NegativePropertyAssertion ; owl:sourceIndividual :i1 ; owl:assertionProperty :near ; owl:targetIndividual :i2 .
:old a owl:Class ; owl:deprecated true .
:key a owl:Class ; owl:hasKey ( :diameter ) .
"""

FUNCTIONAL = r"""Prefix(:=<http://example.org/x#>)
Prefix(owl:=<http://www.w3.org/2002/07/owl#>)
Prefix(rdfs:=<http://www.w3.org/2000/01/rdf-schema#>)
Prefix(xsd:=<http://www.w3.org/2001/XMLSchema#>)
Prefix(skos:=<http://www.w3.org/2004/02/skos/core#>)
Prefix(ns:=<https://w3id.org/neurosym/core#>)
Ontology(<http://example.org/x>
    Annotation(rdfs:comment "all kinds")
    Declaration(Class(:a1))
    Declaration(Class(:a2))
    Declaration(Class(:a3))
    Declaration(Class(:both))
    Declaration(Class(:key))
    Declaration(Class(:left))
    Declaration(Class(:lung))
    Declaration(Class(:nodule))
    Declaration(Class(:old))
    Declaration(Class(:one))
    Declaration(Class(:right))
    Declaration(ObjectProperty(:contains))
    Declaration(ObjectProperty(:fn))
    Declaration(ObjectProperty(:fn2))
    Declaration(ObjectProperty(:inside))
    Declaration(ObjectProperty(:near))
    Declaration(ObjectProperty(:touch))
    Declaration(AnnotationProperty(skos:definition))
    Declaration(AnnotationProperty(ns:category))
    Declaration(AnnotationProperty(ns:confidence))
    Declaration(DataProperty(:diameter))
    Declaration(NamedIndividual(:i1))
    Declaration(NamedIndividual(:i2))
    Declaration(NamedIndividual(:i3))
    SubClassOf(Annotation(rdfs:comment "textbook") :left :lung)
    SubClassOf(:right :lung)
    SubClassOf(Annotation(ns:confidence "0.9"^^xsd:decimal) :nodule ObjectSomeValuesFrom(:inside :lung))
    SubClassOf(:nodule ObjectAllValuesFrom(:near :a1))
    SubClassOf(:nodule ObjectHasValue(:near :i1))
    SubClassOf(:nodule ObjectHasSelf(:near))
    SubClassOf(:nodule ObjectMinCardinality(1 :near :a1))
    SubClassOf(:nodule ObjectMaxCardinality(2 :near :a1))
    SubClassOf(:nodule ObjectMaxCardinality(4 :near))
    SubClassOf(:nodule ObjectExactCardinality(3 :near :a1))
    SubClassOf(:nodule DataSomeValuesFrom(:diameter DatatypeRestriction(xsd:decimal xsd:minInclusive "3.0"^^xsd:decimal)))
    SubClassOf(:nodule DataHasValue(:diameter "3.5"^^xsd:decimal))
    EquivalentClasses(:both ObjectIntersectionOf(:a1
      ObjectSomeValuesFrom(:inside ObjectUnionOf(:left ObjectComplementOf(:right)))))
    EquivalentClasses(:one ObjectOneOf(:i1 :i2))
    DisjointClasses(:left :right)
    DisjointClasses(:a1 :a2 :a3)
    DisjointUnion(:lung :left :right)
    SubObjectPropertyOf(ObjectPropertyChain(:inside :near) :near)
    SubObjectPropertyOf(:near :touch)
    EquivalentObjectProperties(:fn :fn2)
    DisjointObjectProperties(:touch :inside)
    InverseObjectProperties(:inside :contains)
    ObjectPropertyDomain(:inside :lung)
    ObjectPropertyRange(:inside :a1)
    FunctionalObjectProperty(:fn)
    InverseFunctionalObjectProperty(:fn)
    ReflexiveObjectProperty(:contains)
    IrreflexiveObjectProperty(:touch)
    SymmetricObjectProperty(:near)
    AsymmetricObjectProperty(:touch)
    TransitiveObjectProperty(:inside)
    DataPropertyRange(:diameter xsd:decimal)
    FunctionalDataProperty(:diameter)
    HasKey(:key () (:diameter))
    SameIndividual(:i1 :i3)
    DifferentIndividuals(:i1 :i2 :i3)
    DifferentIndividuals(:i2 :i1)
    ClassAssertion(:nodule :i1)
    ObjectPropertyAssertion(:inside :i1 :i2)
    NegativeObjectPropertyAssertion(:near :i1 :i2)
    DataPropertyAssertion(:diameter :i1 "4.5"^^xsd:decimal)
    AnnotationAssertion(rdfs:label :lung "Lunge"@de)
    AnnotationAssertion(rdfs:label :lung "lung"@en)
    AnnotationAssertion(skos:definition :lung "An organ of \"breathing\" <x> & y.")
    AnnotationAssertion(ns:category :lung "lung")
    AnnotationAssertion(owl:deprecated :old "true"^^xsd:boolean)
)
"""

OBO_TEXT = r"""format-version: 1.4
data-version: 2025-01-16
ontology: tiny
idspace: ns https://w3id.org/neurosym/core#
default-namespace: tiny_ns
import: http://example.org/base.owl
subsetdef: slim "A slim"
synonymtypedef: layperson "layperson term"

[Term]
id: T:0000001
name: lung
namespace: other
def: "An organ of \"breathing\"." [PMID:1, http://x.org/y]
alt_id: T:0000099
comment: a comment
subset: slim
synonym: "pulmo" EXACT layperson [X:1]
synonym: "air bag" RELATED []
xref: RID:1301 "thing"
created_by: me
creation_date: 2008-02-27T02:20:00Z

[Term]
id: T:0000002
name: left lung
is_a: T:0000001 {confidence="0.9"} ! lung
disjoint_from: T:0000003
property_value: ns:category "left_lung" xsd:string
property_value: ns:see T:0000001

[Term]
id: T:0000003
name: right lung
is_a: T:0000001
relationship: part_of T:0000004 {source="me"} ! body

[Term]
id: T:0000004
name: body
union_of: T:0000001
union_of: T:0000005

[Term]
id: T:0000005
name: nodule
intersection_of: T:0000001
intersection_of: part_of T:0000004

[Term]
id: T:0000006
name: old
is_obsolete: true
replaced_by: T:0000005
consider: T:0000004

[Term]
id: T:0000007
equivalent_to: T:0000005

[Typedef]
id: part_of
name: part of
xref: BFO:0000050
is_transitive: true
domain: T:0000001
range: T:0000004
inverse_of: has_part
is_a: overlaps
is_functional: true

[Typedef]
id: has_part
name: has part
is_inverse_functional: true
is_reflexive: true

[Typedef]
id: near
name: near
is_symmetric: true

[Typedef]
id: overlaps
name: overlaps
is_asymmetric: true

[Typedef]
id: T:p1
name: prefixed property
is_metadata_tag: false

[Typedef]
id: note
name: note
is_metadata_tag: true

[Typedef]
id: is_obs_prop
is_obsolete: true

[Instance]
id: T:i1
name: an instance
instance_of: T:0000001
relationship: part_of T:i2

[Instance]
id: T:i2
"""


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / next(iter(files))


def of(source: Source) -> rdflib.Graph:
    """The triples that were indexed (not those of `source.graph`) as an rdflib graph."""
    graph = rdflib.Graph()
    for s, p, o in source.triples:
        subject = rdflib.BNode(s) if is_blank(s) else rdflib.URIRef(s)
        value: rdflib.term.Node
        if isinstance(o, str):
            value = rdflib.BNode(o) if is_blank(o) else rdflib.URIRef(o)
        else:
            datatype = None if o.language or o.datatype.endswith("#string") else rdflib.URIRef(o.datatype)
            value = rdflib.Literal(o.value, lang=o.language or None, datatype=datatype)
        graph.add((subject, rdflib.URIRef(p), value))
    return graph


@cache
def in_every_syntax() -> dict[str, str]:
    """The same ontology in the syntaxes that another library writes; functional syntax is written by hand."""
    import pyhornedowl

    graph = rdflib.Graph().parse(data=TURTLE, format="turtle")
    whole = FUNCTIONAL  # horned writes IRI=":nodule" where its input had prefixes
    for prefix, iri in re.findall(r"Prefix\((\w*:)=<(.*)>\)", FUNCTIONAL):
        whole = re.sub(rf"(?<![\w<])(?<!=)(?<!Prefix\(){prefix}(\w+)", rf"<{iri}\1>", whole)
    horned = pyhornedowl.open_ontology_from_string(re.sub(r"Prefix\(.*\n", "", whole), "ofn")
    return {
        "x.ttl": TURTLE,
        "x.rdf": graph.serialize(format="xml"),
        "x.nt": graph.serialize(format="nt"),
        "x.jsonld": graph.serialize(format="json-ld"),
        "x.ofn": FUNCTIONAL,
        "x.omn": horned.save_to_string("omn"),
        "x.owx": horned.save_to_string("owx"),
    }
