"""The little Turtle that rules in RDF need: IRIs, literals and metadata as text, and a text back as triples."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from neurosym.errors import Problem
from neurosym.knowledge.exchange.formats import Inexpressible
from neurosym.knowledge.triples import DCTERMS, NS, OWL, RDF, RDFS, XSD, Literal, Node, Triples
from neurosym.logic import Rule, Term, number

PREFIXES = {"rdf": RDF, "rdfs": RDFS, "owl": OWL, "xsd": XSD, "dcterms": DCTERMS, "ns": NS}
CONFIDENCE, DISTINCT, LABEL = NS + "confidence", NS + "distinct", RDFS + "label"
_KEYS = {"id": "rdfs:label", "source": "dcterms:source"}
_RESERVED = frozenset({"confidence", "distinct", "equal", "weight"})
_INTEGERS = {XSD + t for t in ("integer", "int", "long", "short", "nonNegativeInteger", "positiveInteger")}
_DECIMALS = {XSD + t for t in ("decimal", "double", "float")}
_NOT_IN_AN_IRI = re.compile(r"[\x00-\x20<>\"{}|^`\\]")


def read_turtle(text: str, file: str) -> tuple[Triples, list[Problem]]:
    """The triples of a Turtle text, and the syntax error if there is one."""
    import pyoxigraph as ox

    triples = Triples()
    try:
        for quad in ox.parse(text.encode(), format=ox.RdfFormat.TURTLE, base_iri="urn:neurosym:file"):
            if not isinstance(quad.subject, ox.Triple) and not isinstance(quad.object, ox.Triple):
                triples.add(_node(quad.subject), quad.predicate.value, _object(quad.object))
    except SyntaxError as error:
        message = f"Turtle syntax: {error.msg}"
        return triples, [Problem(message, file, error.lineno or 0, error.offset or 0)]
    return triples, []


def _node(node: object) -> str:
    import pyoxigraph as ox

    assert isinstance(node, ox.NamedNode | ox.BlankNode)
    return node.value if isinstance(node, ox.NamedNode) else f"_:{node.value}"


def _object(node: object) -> Node:
    import pyoxigraph as ox

    if isinstance(node, ox.Literal):
        return Literal(node.value, node.datatype.value, node.language or "")
    return _node(node)


def iri(text: str) -> str:
    """An IRI in angle brackets."""
    return "<" + _NOT_IN_AN_IRI.sub(lambda m: f"%{ord(m[0]):02X}", text) + ">"


def text_literal(text: str) -> str:
    """A string literal, on one line."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def value_literal(term: Term) -> str:
    """A constant that is a value, as Turtle and SPARQL both spell it.

    Raises:
        Inexpressible: a number that is not finite.
    """
    if term.datatype == "string":
        return text_literal(term.name)
    if term.datatype == "integer":
        return term.name
    if not math.isfinite(float(term.name)):
        raise Inexpressible(f"{term.name} is not a finite number")
    return term.name if "e" in term.name or "." in term.name else f"{term.name}.0"


def value_term(literal: Literal) -> Term | None:
    """A literal as a constant; None for a datatype that rules do not have."""
    try:
        if literal.datatype in _INTEGERS:
            return number(int(literal.value))
        if literal.datatype in _DECIMALS:
            value = float(literal.value)
            return number(value) if math.isfinite(value) else None
    except ValueError:
        return None
    is_text = literal.datatype == XSD + "string" and not literal.language
    return Term(literal.value, False, "string") if is_text else None


def stated(rule: Rule, is_marked: bool) -> list[str]:
    """`predicate object` for the id, the weight, the metadata of a rule, and `ns:distinct false` if it is marked.

    Raises:
        Inexpressible: a metadata key that has a meaning of its own here.
    """
    found = []
    for key, value in rule.meta.items():
        if key in _RESERVED or not re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII):
            raise Inexpressible(f"the metadata key {key!r} cannot be kept")
        found.append(f"{_KEYS.get(key, 'ns:' + key)} {text_literal(value)}")
    if rule.weight is not None:
        found.append(f"ns:confidence {value_literal(number(float(rule.weight)))}")
    if is_marked:
        found.append("ns:distinct false")
    return found


def annotations_of(about: Sequence[tuple[str, Literal]]) -> tuple[float | None, bool, dict[str, str]]:
    """The inverse of `stated`, of what is said `about` a node: weight, whether it is marked, metadata.

    Raises:
        Inexpressible: a confidence that is not a probability.
    """
    known = {LABEL: "id", DCTERMS + "source": "source"}
    meta: dict[str, str] = {}
    weight: float | None = None
    is_marked = False
    for predicate, value in about:
        if predicate == CONFIDENCE:
            weight = _probability(value)
        elif predicate == DISTINCT:
            is_marked = value.value in ("false", "0")
        elif predicate in known or (predicate.startswith(NS) and predicate.removeprefix(NS) not in _RESERVED):
            meta.setdefault(known.get(predicate, predicate.removeprefix(NS)), value.value)
    return weight, is_marked, meta


def literals_about(triples: Triples, nodes: Iterable[str]) -> dict[str, list[tuple[str, Literal]]]:
    """The literals that are said about each of some nodes, with their predicates."""
    found: dict[str, list[tuple[str, Literal]]] = {node: [] for node in nodes}
    if found:
        for subject, predicate, value in triples:
            if subject in found and isinstance(value, Literal):
                found[subject].append((predicate, value))
    return found


def _probability(value: Literal) -> float:
    try:
        weight = float(value.value)
    except ValueError:
        weight = -1.0
    if not 0.0 < weight <= 1.0:
        raise Inexpressible(f"ns:confidence {value.value!r} is not a probability; expected 0 < weight <= 1")
    return weight


def prefixes(used: Mapping[str, str]) -> str:
    """The @prefix lines of a Turtle text."""
    return "".join(f"@prefix {name}: <{namespace}> .\n" for name, namespace in used.items())


def line_of(text: str, label: str) -> int:
    """The first line that holds a label as a literal; 0 if none does."""
    position = text.find(text_literal(label)) if label else -1
    return text[:position].count("\n") + 1 if position >= 0 else 0
