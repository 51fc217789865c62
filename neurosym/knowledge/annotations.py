"""What is said about axioms: `ns:confidence`, the share of cases in which one was measured to hold, and `dcterms:source`.

:nodule rdfs:subClassOf _:r .
[] a owl:Axiom ; owl:annotatedSource :nodule ; owl:annotatedProperty rdfs:subClassOf ; owl:annotatedTarget _:r ;
    ns:confidence 0.98 ; dcterms:source "jsrt train: 98 of 100 boxes" .
"""

from __future__ import annotations

from neurosym.knowledge.expressions import ExpressionReader
from neurosym.knowledge.triples import DCTERMS, NS, OWL, RDF, TYPE, Literal, Node, Triple, Triples, is_blank, is_iri
from neurosym.knowledge.vocabulary import Unreadable, Vocabulary, local_name

_INWARDS = (
    *(OWL + f"{word}Of" for word in ("intersection", "union", "complement")),
    *(OWL + word for word in ("someValuesFrom", "allValuesFrom", "onClass", "oneOf", "members")),
    RDF + "first",
    RDF + "rest",
)


def subject_of(triples: Triples, triple: Triple) -> str:
    """The IRI that an axiom is about: its subject, or the first IRI that a nameless axiom names; "" if there is none."""
    subject, _, obj = triple
    if is_iri(subject):
        return subject
    heads = triples.objects(subject, OWL + "members")
    try:
        members = [m for head in heads for m in triples.members(head)]
    except ValueError:
        members = []
    named = [*members, *triples.objects(subject, OWL + "sourceIndividual"), obj]
    return next((str(n) for n in named if is_iri(n) and not str(n).startswith(OWL)), "")


def words_of(triples: Triples, node: Node) -> list[str]:
    """By which words to find the line of an axiom with this object: its name, or the properties that its expression names."""
    if isinstance(node, Literal):
        return [node.value]
    if not is_blank(node):
        return [local_name(node)]
    found: list[str] = []
    seen, ahead = {node}, [node]
    while ahead:
        at = ahead.pop()
        found += (local_name(str(p)) for p in triples.objects(at, OWL + "onProperty") if is_iri(p))
        inner = {str(o) for predicate in _INWARDS for o in triples.objects(at, predicate) if is_blank(o)} - seen
        seen |= inner
        ahead += sorted(inner)
    return found


class Annotations:
    """`ns:confidence` and `dcterms:source` on axioms.

    An owl:Axiom node names its axiom's triple; where the object is an expression, a copy of it that says the same is as good
    (tools write one or the other). An axiom that is a node of its own carries its annotations itself.
    """

    def __init__(self, vocabulary: Vocabulary, expressions: ExpressionReader) -> None:
        self.v, self.t, self.expressions = vocabulary, vocabulary.triples, expressions
        self.found: dict[tuple[str, str, str], str] = {}
        self.met: set[str] = set()
        nodes = [s for predicate in (NS + "confidence", DCTERMS + "source") for s, _ in self.t.pairs(predicate)]
        for node in dict.fromkeys(nodes):
            parts = [self.t.value(node, OWL + f"annotated{word}") for word in ("Source", "Property", "Target")]
            if isinstance(parts[0], str) and isinstance(parts[1], str) and parts[2] is not None:
                self.found[self._key((parts[0], parts[1], parts[2]))] = node

    def of(self, triple: Triple) -> tuple[float | None, str]:
        """Confidence and source of the axiom with this main triple."""
        node: str | None = triple[0] if triple[1] == TYPE and is_blank(triple[0]) else None
        if node is None and self.found:
            node = self.found.get(self._key(triple))
        if node is None:
            return None, ""
        self.met.add(node)
        source = self.t.value(node, DCTERMS + "source")
        text = source.value if isinstance(source, Literal) else source or ""
        return self._confidence(node, subject_of(self.t, triple)), text

    def report_strays(self) -> None:
        """A confidence that belongs to no axiom is a mistake."""
        for node in self.found.values():
            if node not in self.met and self.t.value(node, NS + "confidence") is not None:
                about = str(self.t.value(node, OWL + "annotatedSource"))
                message = f"ns:confidence of an axiom about {local_name(about)!r} that the ontology does not state"
                self.v.problem(message, "state the axiom, with the same owl:annotatedTarget", about, "confidence")

    def _key(self, triple: Triple) -> tuple[str, str, str]:
        return (self._spelled(triple[0], triple[0]), triple[1], self._spelled(triple[2], triple[0]))

    def _spelled(self, node: Node, about: str) -> str:
        """A node that two copies of an expression share: its text."""
        if isinstance(node, Literal):
            return repr(node)
        if not is_blank(node):
            return node
        try:
            if self.t.value(node, RDF + "first") is not None:
                return repr(self.t.members(node))
            return str(self.expressions.read(node, about))
        except (Unreadable, ValueError):
            return node

    def _confidence(self, node: str, about: str) -> float | None:
        value = self.t.value(node, NS + "confidence")
        if value is None:
            return None
        text = value.value if isinstance(value, Literal) else value
        try:
            confidence = float(text)
        except ValueError:
            confidence = -1.0
        if not 0.0 < confidence <= 1.0:
            name = self.v.names.get(about) or local_name(about)
            message = f"ns:confidence {text!r} of an axiom about {name!r} is not in (0, 1]"
            self.v.problem(message, "write the share of cases in which the axiom holds", about, text)
            return None
        return confidence
