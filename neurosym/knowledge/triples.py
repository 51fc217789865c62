"""RDF triples as plain Python values, indexed for reading an ontology: an IRI is a `str`, a blank node a `str` that starts
with ``_:``, a literal a `Literal`. Half a million of them load and index in about a second; experts get rdflib's graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
RDFS = "http://www.w3.org/2000/01/rdf-schema#"
OWL = "http://www.w3.org/2002/07/owl#"
XSD = "http://www.w3.org/2001/XMLSchema#"
SKOS = "http://www.w3.org/2004/02/skos/core#"
DCTERMS = "http://purl.org/dc/terms/"
SH = "http://www.w3.org/ns/shacl#"
SWRL = "http://www.w3.org/2003/11/swrl#"
NS = "https://w3id.org/neurosym/core#"
TYPE = RDF + "type"


class Literal(NamedTuple):
    """A literal: its text as written, its datatype IRI, its language ("" for none)."""

    value: str
    datatype: str = XSD + "string"
    language: str = ""


Node: TypeAlias = str | Literal
Triple: TypeAlias = tuple[str, str, Node]


def is_blank(node: Node) -> bool:
    """Whether a node is a blank node."""
    return isinstance(node, str) and node.startswith("_:")


def is_iri(node: Node) -> bool:
    """Whether a node is an IRI."""
    return isinstance(node, str) and not node.startswith("_:")


class Triples:
    """A set of triples, each kept once and in the order it came."""

    def __init__(self) -> None:
        self._forward: dict[str, dict[str, list[Node]]] = {}
        self._backward: dict[str, dict[Node, list[str]]] = {}

    def add(self, subject: str, predicate: str, obj: Node) -> None:
        """Add one triple; a second time changes nothing."""
        objects = self._forward.setdefault(predicate, {}).setdefault(subject, [])
        if obj not in objects:
            objects.append(obj)
            self._backward.pop(predicate, None)

    def objects(self, subject: str, predicate: str) -> list[Node]:
        """Every o of (subject, predicate, o)."""
        return self._forward.get(predicate, {}).get(subject, [])

    def value(self, subject: str, predicate: str) -> Node | None:
        """The first o of (subject, predicate, o), None if there is none."""
        objects = self.objects(subject, predicate)
        return objects[0] if objects else None

    def subjects(self, predicate: str, obj: Node) -> list[str]:
        """Every s of (s, predicate, obj)."""
        if predicate not in self._backward:
            index: dict[Node, list[str]] = {}
            for subject, objects in self._forward.get(predicate, {}).items():
                for each in objects:
                    index.setdefault(each, []).append(subject)
            self._backward[predicate] = index
        return self._backward[predicate].get(obj, [])

    def pairs(self, predicate: str) -> Iterator[tuple[str, Node]]:
        """Every (s, o) of (s, predicate, o)."""
        for subject, objects in self._forward.get(predicate, {}).items():
            for each in objects:
                yield subject, each

    def predicates(self) -> Iterator[str]:
        """Every p of some (s, p, o)."""
        return iter(self._forward)

    def instances(self, kind: str) -> list[str]:
        """Every subject of rdf:type `kind`."""
        return self.subjects(TYPE, kind)

    def members(self, head: Node) -> tuple[Node, ...]:
        """The members of an RDF list.

        Raises:
            ValueError: the list is cyclic or does not end in rdf:nil.
        """
        found: list[Node] = []
        seen: set[Node] = set()
        while head != RDF + "nil":
            first = self.value(head, RDF + "first") if isinstance(head, str) else None
            rest = self.value(head, RDF + "rest") if isinstance(head, str) else None
            if head in seen or first is None or rest is None:
                raise ValueError("an RDF list is cyclic" if head in seen else "an RDF list is broken off")
            seen.add(head)
            found.append(first)
            head = rest
        return tuple(found)

    def __iter__(self) -> Iterator[Triple]:
        for predicate, table in self._forward.items():
            for subject, objects in table.items():
                for each in objects:
                    yield subject, predicate, each

    def __len__(self) -> int:
        return sum(len(objects) for table in self._forward.values() for objects in table.values())
