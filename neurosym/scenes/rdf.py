"""Facts as RDF, in the IRIs of the ontology, with W3C PROV-O for where they come from; and back.

    <…#film-3> a owl:NamedIndividual , prov:Entity , thorax:malignant_study .          an image
    <…#film-3%2F0> a owl:NamedIndividual , prov:Entity , thorax:heart ;                a detection
        ns:left_of <…#film-3%2F1> ;
        prov:wasDerivedFrom <…#film-3> ; prov:wasGeneratedBy <…/provenance#prediction> ; prov:wasAttributedTo <…> .
    [] a owl:Axiom ;
        owl:annotatedSource <…#film-3%2F0> ; owl:annotatedProperty ns:left_of ; owl:annotatedTarget <…#film-3%2F1> ;
        ns:weight 0.72 ; prov:wasDerivedFrom <…#film-3> ; prov:wasGeneratedBy <…/provenance#facts> .

A fact is an assertion, so that reasoners and queries see it as it is; its weight is an annotation of that assertion, as
`ns:confidence` is in ontologies (OWL 2, Mapping to RDF Graphs, section 2.2). PROV-O's properties are declared as annotation
properties here, which keeps a file within OWL 2 DL where assertions have provenance too; the triples are PROV-O's own. A
reasoner takes every fact as certain.

Of a patient the file says what the facts say, and the image's id; paths and attributes are not written. Equal facts make equal
bytes. Only what the ontology declares can be written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, unquote

import pyoxigraph
from rdflib import OWL, PROV, RDF, RDFS, XSD, BNode, Graph, Namespace, URIRef
from rdflib import Literal as Value
from rdflib.term import Node

from neurosym.errors import DataError, Problem, did_you_mean, short_path
from neurosym.knowledge import Ontology
from neurosym.knowledge.rules import write_text_atomically
from neurosym.knowledge.triples import DCTERMS
from neurosym.knowledge.triples import NS as CORE
from neurosym.knowledge.vocabulary import local_name
from neurosym.records import Fact, FactStore

FORMATS: Final = {".ttl": "turtle", ".nt": "nt"}
NS: Final = Namespace(CORE)
HOME: Final = "https://w3id.org/neurosym/"
_TITLE: Final = URIRef(DCTERMS + "title")
_LINKS: Final = (
    PROV.wasDerivedFrom,
    PROV.wasGeneratedBy,
    PROV.wasAttributedTo,
    PROV.wasAssociatedWith,
    PROV.wasInformedBy,
)
_ANNOTATIONS: Final = (*_LINKS, PROV.used, NS.weight, _TITLE)
_DATATYPES: Final = {"integer": XSD.integer, "decimal": XSD.decimal, "boolean": XSD.boolean, "string": XSD.string}


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where facts come from.

    Attributes:
        name: what they are facts of, e.g. "runs/jsrt test".
        activity: what made the detections.
        version: of neurosym.
        model: the checkpoint that predicted them, "" for annotations.
        note: how the facts were made of the detections.
        base: what the IRIs of images and detections begin with, up to and without #; one made of `name` by default.
    """

    name: str
    activity: Literal["prediction", "annotation"]
    version: str
    model: str = ""
    note: str = ""
    base: str = ""

    @classmethod
    def of_predictions(cls, name: str, version: str, model: str, threshold: float, *how: str) -> Provenance:
        """Of a model's detections that score at least a threshold; `how` says what else was done."""
        note = ", ".join((f"facts of detections that score at least {threshold:g}", *how))
        return cls(name, "prediction", version, model, note)

    @classmethod
    def of_annotations(cls, name: str, version: str, *how: str) -> Provenance:
        """Of what is annotated."""
        return cls(name, "annotation", version, "", ", ".join(("facts of annotations", *how)))

    @property
    def namespace(self) -> str:
        """What IRIs begin with."""
        parts = (quote(part, safe="") for part in self.name.replace(" ", "/").split("/"))
        return f"{self.base or HOME + 'facts/' + '/'.join(parts)}#"


def format_of(path: Path) -> str:
    """The syntax that a file's name stands for.

    Raises:
        DataError: another suffix than those of `FORMATS`.
    """
    if path.suffix.lower() not in FORMATS:
        message = f"facts cannot be written as {path.suffix!r}"
        raise DataError(Problem(message, short_path(path), cure=f"name it {' or '.join(FORMATS)}"))
    return FORMATS[path.suffix.lower()]


def facts_graph(store: FactStore, ontology: Ontology, origin: Provenance) -> Graph:
    """The facts with their provenance.

    Raises:
        DataError: every relation or class that the ontology does not declare with so many arguments.
    """
    _require_declared(store, ontology)
    return _Writer(ontology, origin).write(store)


def save_rdf(path: Path, store: FactStore, ontology: Ontology, origin: Provenance) -> None:
    """Write facts as Turtle or N-Triples, as the file's name says (see `facts_graph` and `format_of` for what is raised)."""
    syntax = format_of(path)
    graph = facts_graph(store, ontology, origin)
    text = "".join(sorted(graph.serialize(format="nt").splitlines(keepends=True)))
    if syntax == "turtle":  # pyoxigraph keeps the order, and writes ten times as fast as rdflib
        quads = pyoxigraph.parse(text, format=pyoxigraph.RdfFormat.N_TRIPLES)
        prefixes = {prefix: str(space) for prefix, space in graph.namespaces()}
        triples = (quad.triple for quad in quads)
        written = pyoxigraph.serialize(triples, format=pyoxigraph.RdfFormat.TURTLE, prefixes=prefixes)
        assert written is not None  # it was not told to write to a file
        text = written.decode("utf-8")
    write_text_atomically(path, text)


def load_rdf(path: Path, ontology: Ontology) -> FactStore:
    """Read the facts of a file that `save_rdf` wrote.

    Raises:
        DataError: it cannot be read, or names what the ontology does not declare.
    """
    syntax = format_of(path)
    try:
        graph = Graph().parse(path, format=syntax)
    except OSError as error:
        raise DataError(Problem(f"cannot be read: {error.strerror}", short_path(path))) from error
    except Exception as error:  # rdflib's parsers raise errors of many kinds
        raise DataError(Problem(f"not {syntax}: {error}", short_path(path))) from error
    return facts_of_graph(graph, ontology, short_path(path))


def facts_of_graph(graph: Graph, ontology: Ontology, file: str = "") -> FactStore:
    """The facts of a graph: its assertions with a weight.

    Raises:
        DataError: an assertion that is incomplete, weighs no probability, or names what the ontology does not declare.
    """
    names = {c.iri: c.name for c in ontology.classes.values()} | {r.iri: r.name for r in ontology.relations.values()}
    facts, problems = [], []
    for axiom, weight in graph.subject_objects(NS.weight):
        subject, predicate, target = (
            graph.value(axiom, p) for p in (OWL.annotatedSource, OWL.annotatedProperty, OWL.annotatedTarget)
        )
        word = str(target if predicate == RDF.type else predicate)
        if subject is None or predicate is None or target is None:
            problems.append(
                Problem("an ns:weight is on no whole assertion", file, cure="state source, property, target")
            )
        elif word not in names:
            cure = did_you_mean(local_name(word), names.values(), ontology.where)
            problems.append(Problem(f"<{word}> is not declared by the ontology", file, cure=cure))
        elif not 0 < _number(weight) <= 1:
            problems.append(Problem(f"the ns:weight {weight} is not in (0, 1]", file, cure="write a probability"))
        else:
            args = (_entity(subject),) if predicate == RDF.type else (_entity(subject), _entity(target))
            scene = graph.value(axiom, PROV.wasDerivedFrom)
            facts.append(Fact(names[word], args, _number(weight), "" if scene is None else _entity(scene)))
    if problems:
        raise DataError(sorted(set(problems), key=str))
    return FactStore(tuple(sorted(facts)))


def _number(node: Node) -> float:
    try:
        return float(str(node))
    except ValueError:
        return math.nan


def _entity(node: Node) -> str:
    return str(node) if isinstance(node, Value) else unquote(local_name(str(node)))


def _require_declared(store: FactStore, ontology: Ontology) -> None:
    known = {1: set(ontology.classes), 2: set(ontology.relations)}
    problems = []
    for relation, arity in sorted({(f.relation, len(f.args)) for f in store.facts}):
        if relation not in known.get(arity, ()):
            cure = did_you_mean(relation, known.get(arity, ()), ontology.where)
            problems.append(Problem(f"{relation!r} of {arity} arguments is not declared by the ontology", cure=cure))
    if problems:
        raise DataError(problems)


class _Writer:
    """Makes one graph."""

    def __init__(self, ontology: Ontology, origin: Provenance) -> None:
        self.ontology, self.origin = ontology, origin
        self.entities = Namespace(origin.namespace)
        self.notes = Namespace(f"{origin.namespace[:-1]}/provenance#")
        self.software = URIRef(f"{HOME}software#{origin.version}")
        self.graph = Graph(bind_namespaces="none")
        general = (("owl", OWL), ("rdf", RDF), ("rdfs", RDFS), ("xsd", XSD), ("ns", NS), ("prov", PROV))
        for prefix, space in (*general, ("film", self.entities), ("origin", self.notes)):
            self.graph.bind(prefix, space)

    def write(self, store: FactStore) -> Graph:
        self._header()
        source = self._provenance()
        for number, fact in enumerate(store.facts):
            self._fact(fact, BNode(f"fact{number:08d}"))
        scenes = {f.scene for f in store.facts if f.scene}
        has_study = any(c.iri == str(NS.study) for c in self.ontology.classes.values())
        for scene in sorted(scenes):
            self._add(self._iri(scene), RDF.type, PROV.Entity)
            if has_study:
                self._add(self._iri(scene), RDF.type, self._word(str(NS.study), OWL.Class))
        for scene, entity in sorted({(f.scene, e) for f in store.facts for e in self._objects(f)}):
            node = self._iri(entity)
            self._add(node, RDF.type, PROV.Entity)
            self._add(node, PROV.wasDerivedFrom, self._iri(scene))
            self._add(node, PROV.wasGeneratedBy, self.notes[self.origin.activity])
            self._add(node, PROV.wasAttributedTo, source)
        return self.graph

    def _objects(self, fact: Fact) -> Iterator[str]:
        """The objects of an image that a fact is about."""
        relation = self.ontology.relations.get(fact.relation)
        args = fact.args[:1] if len(fact.args) == 2 and relation is not None and relation.datatype else fact.args
        yield from (a for a in args if fact.scene and a != fact.scene)

    def _fact(self, fact: Fact, axiom: BNode) -> None:
        subject = self._iri(fact.args[0])
        self._add(subject, RDF.type, OWL.NamedIndividual)
        predicate: URIRef = RDF.type
        target: Node
        if len(fact.args) == 1:
            target = self._word(self.ontology.classes[fact.relation].iri, OWL.Class)
        else:
            relation = self.ontology.relations[fact.relation]
            predicate = self._word(relation.iri, OWL.DatatypeProperty if relation.datatype else OWL.ObjectProperty)
            if relation.datatype:
                target = Value(fact.args[1], datatype=_DATATYPES[relation.datatype], normalize=False)
            else:
                target = self._iri(fact.args[1])
                self._add(target, RDF.type, OWL.NamedIndividual)
        self._add(subject, predicate, target)
        self._add(axiom, RDF.type, OWL.Axiom)
        self._add(axiom, OWL.annotatedSource, subject)
        self._add(axiom, OWL.annotatedProperty, predicate)
        self._add(axiom, OWL.annotatedTarget, target)
        weight = format(Decimal(repr(float(fact.weight))), "f")
        self._add(axiom, NS.weight, Value(weight, datatype=XSD.decimal))
        self._add(axiom, PROV.wasGeneratedBy, self.notes.facts)
        if fact.scene:
            self._add(axiom, PROV.wasDerivedFrom, self._iri(fact.scene))

    def _header(self) -> None:
        document = URIRef(self.origin.namespace[:-1])
        self._add(document, RDF.type, OWL.Ontology)
        self._add(document, _TITLE, Value(f"Facts of {self.origin.name}"))
        for word in _ANNOTATIONS:
            self._add(word, RDF.type, OWL.AnnotationProperty)
        for word in (PROV.Entity, PROV.Activity, PROV.Agent, PROV.SoftwareAgent):
            self._add(word, RDF.type, OWL.Class)

    def _provenance(self) -> URIRef:
        """Write activities and agents; who the detections are attributed to."""
        made, counted = self.notes[self.origin.activity], self.notes.facts
        self._described(self.software, PROV.SoftwareAgent, f"neurosym {self.origin.version}")
        source = self.software
        if self.origin.activity == "annotation":
            source = self.notes.annotators
            self._described(source, PROV.Agent, f"who annotated {self.origin.name}")
        label = f"{self.origin.activity} on {self.origin.name}"
        self._described(made, PROV.Activity, label)
        self._add(made, PROV.wasAssociatedWith, source)
        if self.origin.model:
            model = self.notes[quote(self.origin.model, safe="")]
            self._described(model, PROV.Entity, f"checkpoint {self.origin.model}")
            self._add(made, PROV.used, model)
        self._described(counted, PROV.Activity, self.origin.note or f"facts of {self.origin.name}")
        self._add(counted, PROV.wasInformedBy, made)
        self._add(counted, PROV.wasAssociatedWith, self.software)
        return source

    def _described(self, node: URIRef, kind: URIRef, label: str) -> None:
        self._add(node, RDF.type, OWL.NamedIndividual)
        self._add(node, RDF.type, kind)
        self._add(node, RDFS.label, Value(label))

    def _word(self, iri: str, kind: URIRef) -> URIRef:
        """A term of the ontology, declared in this file too, so that it is whole by itself."""
        space = iri.removesuffix(local_name(iri))
        if prefix := re.sub(r"\W", "-", local_name(space[:-1])):
            self.graph.bind(prefix, space, override=False)
        self._add(URIRef(iri), RDF.type, kind)
        return URIRef(iri)

    def _iri(self, entity: str) -> URIRef:
        return self.entities[quote(entity, safe="")]

    def _add(self, subject: Node, predicate: Node, target: Node) -> None:
        self.graph.add((subject, predicate, target))
