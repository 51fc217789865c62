"""Which IRIs an ontology declares as what, and the names they have in rules.

A class or property is named by its local name when that can stand in a rule (``right_lung``), else by its label in snake case
(``HP_0000118`` "Phenotypic abnormality" is ``phenotypic_abnormality``); labels that several terms share get the local name
appended. An individual is named by its local name. A data property has one of four datatypes: that of its range, else that of
the restrictions and values it is used with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from neurosym.errors import Problem, did_you_mean, short_path
from neurosym.knowledge.rdf import Source
from neurosym.knowledge.triples import NS, OWL, RDF, RDFS, XSD, Literal, Node, is_blank, is_iri
from neurosym.logic import Term, number

_ATOM = re.compile(r"[a-z][A-Za-z0-9_]*\Z")
_BUILT_IN = (OWL, RDF, RDFS, XSD)
THING, NOTHING = OWL + "Thing", OWL + "Nothing"
_OBJECT_KINDS = ("ObjectProperty", "TransitiveProperty", "SymmetricProperty", "InverseFunctionalProperty")

BOUNDS: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "nonNegativeInteger": (0, None),
    "positiveInteger": (1, None),
    "nonPositiveInteger": (None, 0),
    "negativeInteger": (None, -1),
    "long": (-(2**63), 2**63 - 1),
    "int": (-(2**31), 2**31 - 1),
    "short": (-(2**15), 2**15 - 1),
    "byte": (-128, 127),
    "unsignedLong": (0, 2**64 - 1),
    "unsignedInt": (0, 2**32 - 1),
    "unsignedShort": (0, 2**16 - 1),
    "unsignedByte": (0, 255),
}
"""The smallest and the largest value of the datatypes that XML Schema derives from xsd:integer."""

_DECIMAL = {XSD + "decimal", XSD + "double", XSD + "float", OWL + "real", OWL + "rational"}


class Unreadable(Exception):
    """Why an axiom cannot be read, or cannot be said as rules."""


def local_name(iri: str) -> str:
    """What follows the last ``#``, ``/`` or ``:``."""
    return iri[max(iri.rfind("#"), iri.rfind("/"), iri.rfind(":")) + 1 :]


class Vocabulary:
    """The declared terms of one ontology with their names; problems found on the way are collected in `problems`."""

    def __init__(self, source: Source) -> None:
        self.source, self.triples = source, source.triples
        self.problems: list[Problem] = []
        self.deprecated = {s for s, o in self.triples.pairs(OWL + "deprecated") if isinstance(o, Literal) and _true(o)}
        self.annotations = frozenset(self.triples.instances(OWL + "AnnotationProperty"))
        classes = self._declared("Class")
        objects = self._declared(*_OBJECT_KINDS)
        data = [p for p in self._declared("DatatypeProperty") if p not in objects]
        names = self._named(dict.fromkeys((*classes, *objects, *data)))
        self.names = names
        self.classes = {c: names[c] for c in classes}
        self.objects = {p: names[p] for p in objects}
        self.data = {p: names[p] for p in data}
        self._ranges = {names[p]: self.triples.objects(p, RDFS + "range") for p in data}
        self._individuals: dict[str, str] = {}
        self._by_individual: dict[str, str] = {}
        self._datatypes: dict[str, str] = {}
        self._reported: set[str] = set()

    def problem(self, message: str, cure: str, about: str = "", *words: str) -> None:
        """Note a problem of the block about an IRI, at the first of the words."""
        file, line = self.source.place(about, *words) if about and not is_blank(about) else ("", 0)
        self.problems.append(Problem(message, file or short_path(self.source.files[-1]), line, cure=cure))

    def undeclared(self, message: str, iri: str, known: Iterable[str], about: str) -> None:
        """Note that an IRI is used but not declared; once for each IRI."""
        if iri not in self._reported:
            self._reported.add(iri)
            word = local_name(iri)
            namesake = next((other for other in self.names if local_name(other) == word), "")
            cure = f"did you mean <{namesake}>?" if namesake else did_you_mean(word, known)
            if iri == NS + word and not any(other.startswith(NS) for other in self.names):
                cure = f"import the core vocabulary: owl:imports <{NS.removesuffix('#')}>"
            self.problem(message, cure, about, word)

    def label(self, iri: str) -> str:
        """The English label, or one without a language, or any; "" if there is none."""
        labels = [o for o in self.triples.objects(iri, RDFS + "label") if isinstance(o, Literal)]
        if len(labels) > 1:
            labels.sort(key=lambda o: (o.language not in ("", "en"), o.value))
        return labels[0].value.strip() if labels else ""

    def individual(self, node: Node) -> Term:
        """The constant that stands for an individual.

        Raises:
            Unreadable: it is anonymous.
        """
        if not isinstance(node, str) or is_blank(node):
            raise Unreadable("it is about an anonymous individual, which a rule cannot name")
        if node not in self._individuals:
            name = self._individuals[node] = local_name(node) or node
            other = self._by_individual.setdefault(name, node)
            if other != node:
                self.problem(f"two individuals share the name {name!r}: <{other}>, <{node}>", "rename one", node, name)
        return Term(self._individuals[node], False)

    def literal(self, node: Node, datatype: str) -> Term:
        """A literal as a value of a data property, so that equal values are equal terms.

        Raises:
            Unreadable: it is no literal, or no number where its datatype promises one.
        """
        if not isinstance(node, Literal):
            raise Unreadable(f"<{node}> stands where a literal is expected")
        own = self.family(node.datatype)
        if own == "boolean":
            return Term("true" if _true(node) else "false", False)
        if own == "string":
            return Term(node.value, False, "string")
        try:
            value = int(node.value) if own == "integer" else float(node.value)
        except ValueError:
            raise Unreadable(f"{node.value!r} is not a number") from None
        if value in (float("inf"), float("-inf")) or value != value:
            raise Unreadable(f"{node.value} is not a finite number")
        if datatype == "decimal":
            return number(float(value))
        return number(int(value) if datatype == "integer" and value == int(value) else value)

    def datatype(self, iri: str) -> str:
        """The datatype of a data property: "integer", "decimal", "string" or "boolean"."""
        if iri not in self._datatypes:
            self._datatypes[iri] = "string"  # for a property that is its own ancestor
            self._datatypes[iri] = next(filter(None, self._hints(iri)), "string")
        return self._datatypes[iri]

    def declared_ranges(self, name: str) -> list[Node]:
        """What the data property of this name has as its rdfs:range."""
        return self._ranges[name]

    def _hints(self, iri: str) -> Iterable[str]:
        triples = self.triples
        for node in triples.objects(iri, RDFS + "range"):
            yield self.family(node)
        for parent in triples.objects(iri, RDFS + "subPropertyOf"):
            if parent in self.data and triples.objects(str(parent), RDFS + "range"):
                yield self.datatype(str(parent))
        for restriction in triples.subjects(OWL + "onProperty", iri):
            for word in ("someValuesFrom", "allValuesFrom", "onDataRange", "hasValue"):
                for node in triples.objects(restriction, OWL + word):
                    yield self.family(node.datatype if isinstance(node, Literal) else node)
        yield from sorted(self.family(o.datatype) for _, o in triples.pairs(iri) if isinstance(o, Literal))

    def family(self, node: Node, depth: int = 0) -> str:
        """Which of the four datatypes the values of a data range belong to; "" if that is not known."""
        if isinstance(node, Literal) or depth > 20:
            return ""
        if node.startswith(XSD) or node in _DECIMAL:
            if node in _DECIMAL:
                return "decimal"
            word = node[len(XSD) :]
            return "integer" if word == "integer" or word in BOUNDS else "boolean" if word == "boolean" else "string"
        if node == RDFS + "Literal":
            return ""
        if node.startswith(RDF):
            return "string"  # plain literals, with and without language
        for word in ("onDatatype", "equivalentClass"):
            for base in self.triples.objects(node, OWL + word):
                return self.family(base, depth + 1)
        for word in ("oneOf", "intersectionOf", "unionOf"):
            for head in self.triples.objects(node, OWL + word):
                found = (m.datatype if isinstance(m, Literal) else m for m in self.triples.members(head))
                return next(filter(None, (self.family(m, depth + 1) for m in found)), "")
        return ""

    def _declared(self, *kinds: str) -> list[str]:
        found = {s for kind in kinds for s in self.triples.instances(OWL + kind) if is_iri(s)}
        return sorted(s for s in found - self.deprecated if not s.startswith(_BUILT_IN))

    def _named(self, nodes: Iterable[str]) -> dict[str, str]:
        groups: dict[str, list[str]] = {}
        names: dict[str, str] = {}
        for node in nodes:
            local = local_name(node)
            groups.setdefault(local if _ATOM.match(local) else self._spelled(node, local), []).append(node)
        taken: dict[str, list[str]] = {}
        for name, members in groups.items():
            for node in members:
                local = local_name(node)
                if len(members) > 1 and local != name:
                    names[node] = f"{name}_{_snake(local)}"
                else:
                    names[node] = name
                taken.setdefault(names[node], []).append(node)
        for name, members in sorted(taken.items()):
            if len(members) > 1:
                iris = ", ".join(f"<{i}>" for i in sorted(members))
                message = f"two terms share the name {name!r}: {iris}"
                self.problem(message, "give one of them another local name", members[-1], name)
        return names

    def _spelled(self, node: str, local: str) -> str:
        name = _snake(self.label(node) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", local))
        return name if _ATOM.match(name) else f"c_{name}"


def _snake(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_").lower()


def _true(literal: Literal) -> bool:
    return literal.value in ("true", "1")
