"""The ontology as the rest of the program sees it: named classes and relations, their closure, and their ties to data.

A class or property is named by its local name when that can stand in a rule (``right_lung``), else by its label in snake
case. Four annotation properties of `ontologies/neurosym.ttl` tie an ontology to data, so that no Python table has to:
``ns:category`` (a data set's category), ``ns:studyLabel`` (an image attribute ``key=value``), ``ns:predicate`` (the
geometric word a property means), ``ns:zoned`` (boxes of this class are the frame whose thirds are the zones).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path

import networkx as nx
from rdflib import RDF, RDFS, BNode, Graph, Literal, Namespace, URIRef
from rdflib.collection import Collection
from rdflib.namespace import OWL, SKOS
from rdflib.term import Node

from neurosym.errors import OntologyError, Problem, did_you_mean, short_path
from neurosym.knowledge.geometry import PREDICATES, SIDES, SIZES, ZONES
from neurosym.knowledge.rdf import line_of, read_graph
from neurosym.records import Atom, Rule, Term

NS = Namespace("https://w3id.org/neurosym/core#")
_ATOM = re.compile(r"[a-z][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class OntologyClass:
    """A named class; `parents` are the asserted named superclasses."""

    name: str
    iri: str
    label: str
    parents: frozenset[str]
    definition: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """An object property; `predicate` is the geometric word it means, "" if it is not geometric."""

    name: str
    iri: str
    label: str
    predicate: str
    inverse: str = ""
    symmetric: bool = False
    transitive: bool = False
    parents: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Ontology:
    """Classes, relations and axioms of one ontology with its imports; `graph` is the untouched RDF for experts."""

    classes: dict[str, OntologyClass]
    relations: dict[str, Relation]
    disjoint: frozenset[frozenset[str]]
    categories: dict[str, str]
    study_labels: dict[str, str]
    zoned: frozenset[str]
    axioms: tuple[Rule, ...]
    files: tuple[Path, ...]
    graph: Graph = field(repr=False)

    @cached_property
    def _ancestors(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(nx.descendants(self.hierarchy, name)) for name in self.classes}

    @cached_property
    def hierarchy(self) -> nx.DiGraph:
        """The named classes with an edge from each to its parents."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.classes)
        graph.add_edges_from((name, parent) for name, c in self.classes.items() for parent in c.parents)
        return graph

    def ancestors(self, name: str) -> frozenset[str]:
        """Every named superclass of a class, without itself."""
        return self._ancestors[name]

    def descendants(self, name: str) -> frozenset[str]:
        """Every named subclass of a class, without itself."""
        return frozenset(nx.ancestors(self.hierarchy, name))

    def is_a(self, name: str, ancestor: str) -> bool:
        """Whether every instance of `name` is one of `ancestor`."""
        return name == ancestor or ancestor in self.ancestors(name)

    def are_disjoint(self, a: str, b: str) -> bool:
        """Whether the two classes, or classes above them, are stated to share no instance."""
        above_a, above_b = self.ancestors(a) | {a}, self.ancestors(b) | {b}
        return any(frozenset((x, y)) in self.disjoint for x in above_a for y in above_b if x != y)

    def entailments(self) -> tuple[Rule, ...]:
        """What the hierarchy, the relations' characteristics and the sizes entail, as hard rules: nothing to find anew."""
        x, y, z = Term("X"), Term("Y"), Term("Z")
        rules = [
            Rule((Atom(parent, (x,)),), (Atom(name, (x,)),)) for name in self.classes for parent in self.ancestors(name)
        ]
        for name, r in self.relations.items():
            body = (Atom(name, (x, y)),)
            rules += [Rule((Atom(parent, (x, y)),), body) for parent in r.parents]
            if r.inverse:
                rules.append(Rule((Atom(r.inverse, (y, x)),), body))
            if r.symmetric:
                rules.append(Rule((Atom(name, (y, x)),), body))
            if r.transitive:
                rules.append(Rule((Atom(name, (x, z)),), (*body, Atom(name, (y, z)))))
            if r.predicate == "larger_than":
                sizes = [size for size in SIZES if size in self.classes]
                pairs = combinations(sizes, 2)  # from small to large
                rules += [Rule((Atom(name, (x, y)),), (Atom(b, (x,)), Atom(a, (y,)))) for a, b in pairs]
        return tuple(sorted(set(rules), key=str))

    @property
    def where(self) -> str:
        """The files, for messages."""
        return ", ".join(short_path(f) for f in self.files)


def load_ontology(paths: Iterable[Path]) -> Ontology:
    """Read ontology files and what they import into one `Ontology`.

    Raises:
        OntologyError: with every problem of the files (see `neurosym.knowledge.rdf` for those of reading).
    """
    graph = Graph()
    files: tuple[Path, ...] = ()
    for path in paths:
        if Path(path).resolve() in files:
            continue
        part, seen = read_graph(Path(path))
        graph += part
        files += tuple(f for f in seen if f not in files)
    return _Reader(graph, files).read()


class _Reader:
    """Reads one merged graph; problems are collected, then raised together."""

    def __init__(self, graph: Graph, files: tuple[Path, ...]) -> None:
        self.graph, self.files = graph, files
        self.problems: list[Problem] = []

    def read(self) -> Ontology:
        class_nodes = self._subjects(OWL.Class)
        property_nodes = self._subjects(OWL.ObjectProperty)
        names: dict[Node, str] = {node: self._name(node) for node in (*class_nodes, *property_nodes)}
        for name in sorted(n for n, count in Counter(names.values()).items() if count > 1):
            iris = ", ".join(sorted(f"<{i}>" for i, n in names.items() if n == name))
            self._problem(f"two terms share the name {name!r}: {iris}", name, "give one of them another label")
        classes = {names[n]: self._class(n, names) for n in class_nodes}
        relations = {names[n]: self._relation(n, names) for n in property_nodes}
        ontology = Ontology(
            classes=classes,
            relations=relations,
            disjoint=frozenset(self._disjoint(names)),
            categories=self._ties(NS.category, names),
            study_labels=self._ties(NS.studyLabel, names),
            zoned=frozenset(names[s] for s in self.graph.subjects(NS.zoned, Literal(True)) if s in names),
            axioms=tuple(sorted(set(self._axioms(names)), key=str)),
            files=self.files,
            graph=self.graph,
        )
        if not classes:
            self._problem("declares no owl:Class", "", "is this the right file?")
        if self.problems:
            raise OntologyError(self.problems)
        return ontology

    def _subjects(self, kind: URIRef) -> list[URIRef]:
        found = {s for s in self.graph.subjects(RDF.type, kind) if isinstance(s, URIRef)}
        return sorted(found - {OWL.Thing, OWL.Nothing})

    def _problem(self, message: str, word: str, cure: str = "") -> None:
        for file in reversed(self.files):
            line = line_of(file, word) if word else 0
            if line:
                self.problems.append(Problem(message, short_path(file), line, cure=cure))
                return
        self.problems.append(Problem(message, short_path(self.files[-1]), cure=cure))

    def _label(self, node: URIRef) -> str:
        labels = [o for o in self.graph.objects(node, RDFS.label) if isinstance(o, Literal)]
        labels.sort(key=lambda o: (o.language not in (None, "en"), str(o)))
        return str(labels[0]).strip() if labels else ""

    def _name(self, node: URIRef) -> str:
        local = re.split(r"[#/:]", str(node))[-1]
        if _ATOM.match(local):
            return local
        source = self._label(node) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", local)
        name = re.sub(r"\W+", "_", source).strip("_").lower()
        return name if _ATOM.match(name) else f"c_{name}"

    def _class(self, node: URIRef, names: dict[Node, str]) -> OntologyClass:
        parents = set()
        for parent in (*self.graph.objects(node, RDFS.subClassOf), *self.graph.objects(node, OWL.equivalentClass)):
            if parent in names:
                parents.add(names[parent])
            elif isinstance(parent, URIRef) and parent != OWL.Thing:
                local = re.split(r"[#/:]", str(parent))[-1]
                cure = did_you_mean(local, names.values())
                self._problem(f"superclass <{parent}> of {names[node]!r} is not declared", local, cure)
        for word in map(str, self.graph.objects(node, NS.predicate)):
            if word not in (*ZONES, *SIDES, *SIZES):
                cure = did_you_mean(word, (*ZONES, *SIDES, *SIZES))
                self._problem(f"ns:predicate {word!r} of class {names[node]!r} is not a zone, side or size", word, cure)
        definition = next((str(o) for o in self.graph.objects(node, SKOS.definition)), "")
        return OntologyClass(
            names[node], str(node), self._label(node) or names[node], frozenset(parents - {names[node]}), definition
        )

    def _relation(self, node: URIRef, names: dict[Node, str]) -> Relation:
        word = next((str(o) for o in self.graph.objects(node, NS.predicate)), "")
        if word and word not in PREDICATES:
            cure = did_you_mean(word, PREDICATES)
            self._problem(f"ns:predicate {word!r} of {names[node]!r} is not a geometric word", word, cure)
        inverses = {*self.graph.objects(node, OWL.inverseOf), *self.graph.subjects(OWL.inverseOf, node)}
        return Relation(
            names[node],
            str(node),
            self._label(node) or names[node],
            word,
            inverse=min((names[i] for i in inverses if i in names), default=""),
            symmetric=(node, RDF.type, OWL.SymmetricProperty) in self.graph,
            transitive=(node, RDF.type, OWL.TransitiveProperty) in self.graph,
            parents=frozenset(names[p] for p in self.graph.objects(node, RDFS.subPropertyOf) if p in names),
        )

    def _disjoint(self, names: dict[Node, str]) -> Iterator[frozenset[str]]:
        for a, b in self.graph.subject_objects(OWL.disjointWith):
            if a in names and b in names:
                yield frozenset((names[a], names[b]))
        for node in self.graph.subjects(RDF.type, OWL.AllDisjointClasses):
            for head in self.graph.objects(node, OWL.members):
                yield from self._pairs(head, names)
        for head in self.graph.objects(None, OWL.disjointUnionOf):
            yield from self._pairs(head, names)

    def _pairs(self, head: Node, names: dict[Node, str]) -> Iterator[frozenset[str]]:
        try:
            members = [names[m] for m in Collection(self.graph, head) if m in names]
        except ValueError:
            self._problem("an RDF list is cyclic", "AllDisjointClasses", "write the list anew")
            return
        yield from (frozenset((a, b)) for i, a in enumerate(members) for b in members[i + 1 :] if a != b)

    def _ties(self, tie: URIRef, names: dict[Node, str]) -> dict[str, str]:
        table: dict[str, str] = {}
        for node, value in sorted(self.graph.subject_objects(tie)):
            if node not in names:
                continue
            name = names[node]
            if table.setdefault(str(value), name) != name:
                message = f"{tie.fragment} {str(value)!r} is tied to both {table[str(value)]!r} and {name!r}"
                self._problem(message, str(value), "keep one")
        return table

    def _axioms(self, names: dict[Node, str]) -> Iterator[Rule]:
        """`C ⊑ ∃r.D` as `r(X, Y), d(Y) :- c(X).`, weighted by the axiom's ns:confidence."""
        x, y = Term("X"), Term("Y")
        for node, restriction in self.graph.subject_objects(RDFS.subClassOf):
            if not isinstance(restriction, BNode) or not isinstance(node, URIRef) or node not in names:
                continue
            relation = self.graph.value(restriction, OWL.onProperty)
            filler = self.graph.value(restriction, OWL.someValuesFrom)
            if relation not in names or filler not in names:
                continue
            head = (Atom(names[relation], (x, y)), Atom(names[filler], (y,)))
            weight = self._confidence(node, restriction)
            meta = {"id": f"{names[node]}_{names[relation]}_{names[filler]}", "axiom": str(node)}
            where = next((f for f in reversed(self.files) if line_of(f, names[node])), self.files[-1])
            yield Rule(head, (Atom(names[node], (x,)),), weight, meta, short_path(where), line_of(where, names[node]))

    def _confidence(self, node: URIRef, restriction: Node) -> float | None:
        for axiom in self.graph.subjects(OWL.annotatedSource, node):
            same = (axiom, OWL.annotatedProperty, RDFS.subClassOf) in self.graph
            target = self.graph.value(axiom, OWL.annotatedTarget)
            value = self.graph.value(axiom, NS.confidence)
            if same and value is not None and target is not None and self._same_restriction(target, restriction):
                try:
                    confidence = float(str(value))
                except ValueError:
                    confidence = -1.0
                if not 0.0 < confidence <= 1.0:
                    message = f"ns:confidence {str(value)!r} of an axiom about {self._name(node)!r} is not in (0, 1]"
                    self._problem(message, str(value), "write the share of cases in which the axiom holds")
                    return None
                return confidence
        return None

    def _same_restriction(self, a: Node, b: Node) -> bool:
        def key(n: Node) -> tuple[Node | None, Node | None]:
            return (self.graph.value(n, OWL.onProperty), self.graph.value(n, OWL.someValuesFrom))

        return a == b or key(a) == key(b)
