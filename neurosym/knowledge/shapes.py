"""SHACL (W3C 2017): does an ontology state what this program needs, and what the users' own shapes ask for?

The profile is `ontologies/shapes/neurosym-shapes.ttl`; pySHACL validates. It is shown only triples whose predicates the shapes
mention, and no anonymous or deprecated class as a class; nothing is fetched from the network, and no script is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from neurosym.errors import OntologyError, Problem, did_you_mean, short_path
from neurosym.knowledge.ontology import Ontology, collector_at_rest
from neurosym.knowledge.rdf import Source, read_sources
from neurosym.knowledge.triples import (
    NS,
    OWL,
    RDF,
    RDFS,
    SH,
    TYPE,
    XSD,
    Literal,
    Node,
    Triple,
    Triples,
    is_blank,
    is_iri,
)
from neurosym.knowledge.vocabulary import local_name

if TYPE_CHECKING:
    from rdflib import Graph
    from rdflib.term import Node as RdflibNode

PROFILE = Path("ontologies", "shapes", "neurosym-shapes.ttl")
_OPEN = "https://w3id.org/neurosym/shapes#Annotated"
_SHOWN = 20  # findings of one shape that are reported one by one
_SEVERITIES = {SH + "Warning": "warning", SH + "Info": "note"}
_QUERIES = ("select", "ask", "construct", "update")
_SCRIPTS = ("js", "jsFunctionName", "jsLibrary", "jsLibraryURL", "JSConstraint", "JSTarget", "JSRule", "JSFunction")


def profile() -> Path:
    """The shapes that ship with neurosym: in the package once installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package, package.parent):
        if (folder / PROFILE).is_file():
            return folder / PROFILE
    raise OntologyError(Problem("the SHACL profile is missing", str(package / PROFILE), cure="install neurosym anew"))


def check_shapes(ontology: Ontology, shapes: Sequence[Path] = ()) -> list[Problem]:
    """Hold an ontology against the profile and the users' own shapes.

    Args:
        ontology: what to check, with its imports.
        shapes: further SHACL files, in any syntax that ontologies are read from.

    Returns:
        A problem for each result, by place; a Violation is an error, a Warning a warning, an Info a note. Of one shape at most
        20 are told one by one.

    Raises:
        OntologyError: a shapes file that cannot be read, or that is no SHACL.
    """
    import pyshacl
    from pyshacl.errors import ReportableRuntimeError

    source = read_sources([profile(), *shapes])
    problems = list(_mistakes(source))
    if problems:
        raise OntologyError(problems)
    open_pairs = [] if source.triples.objects(_OPEN, SH + "deactivated") else list(_open_pairs(ontology))
    source.triples.add(_OPEN, SH + "deactivated", Literal("true", XSD + "boolean"))
    try:
        with collector_at_rest():
            _, report, _ = pyshacl.validate(
                _rdflib(_shown(ontology, source.triples)),
                shacl_graph=_rdflib(source.triples),
                advanced=True,
                allow_warnings=True,
                inplace=True,
            )
    except ReportableRuntimeError as error:
        raise OntologyError(_refusal(str(error), source)) from error
    if isinstance(report, ReportableRuntimeError):
        raise OntologyError(_refusal(str(report), source))
    results = _triples(report)
    for number, (cls, other) in enumerate(open_pairs):
        _add_result(results, f"_:open{number}", cls, other, source.triples)
    return _Report(ontology, results).problems()


def _open_pairs(ontology: Ontology) -> Iterator[tuple[str, str]]:
    """What the shape `Annotated` finds in SPARQL: that takes rdflib 8 seconds for 80 classes, and minutes for 200."""
    iris = {name: ontology.classes[name].iri for name in set(ontology.categories.values()) if name in ontology.classes}
    overlapping = {frozenset(pair) for pair in ontology.source.triples.pairs(NS + "mayOverlap")}
    children: dict[str, set[str]] = {}
    for name in iris:
        for parent in ontology.classes[name].parents:
            children.setdefault(parent, set()).add(name)
    siblings = {pair for group in children.values() for pair in combinations(sorted(group, key=iris.__getitem__), 2)}
    for a, b in sorted(siblings):
        related = ontology.is_a(a, b) or ontology.is_a(b, a) or ontology.are_disjoint(a, b)
        if not related and frozenset((iris[a], iris[b])) not in overlapping:
            yield iris[a], iris[b]


def _add_result(results: Triples, node: str, focus: str, value: str, shapes: Triples) -> None:
    """Add a result of the shape `Annotated` as SHACL's validation report has it."""
    [constraint] = shapes.objects(_OPEN, SH + "sparql")
    results.add(node, TYPE, SH + "ValidationResult")
    results.add(node, SH + "focusNode", focus)
    results.add(node, SH + "value", value)
    results.add(node, SH + "sourceConstraint", constraint)
    for severity in shapes.objects(_OPEN, SH + "severity"):
        results.add(node, SH + "resultSeverity", severity)
    for message in shapes.objects(str(constraint), SH + "message"):
        if isinstance(message, Literal):
            results.add(node, SH + "resultMessage", message._replace(value=message.value.replace("{?value}", value)))


def _mistakes(shapes: Source) -> Iterator[Problem]:
    """What pySHACL would pass over in silence, or what would reach beyond this machine's disk."""
    from rdflib.namespace import SH as KNOWN

    known = {local_name(str(term)) for term in dir(KNOWN)} | {"and", "class", "in", "not", "or"}  # Python's own words
    for subject, predicate, obj in shapes.triples:
        for term in (predicate, obj) if predicate == TYPE else (predicate,):
            if not isinstance(term, str) or not term.startswith(SH):
                continue
            word = term.removeprefix(SH)
            place = shapes.place(subject, word)
            if word in _SCRIPTS:
                yield Problem(f"sh:{word}: scripts in shapes are not run", *place, cure="write it as sh:sparql")
            elif word not in known:
                yield Problem(f"SHACL has no term sh:{word}", *place, cure=did_you_mean(word, known))
        if predicate in {SH + query for query in _QUERIES} and isinstance(obj, Literal):
            bare = re.sub(r"<[^>]*>|\"[^\"]*\"|'[^']*'|#.*", " ", obj.value)
            found = re.search(r"(?<![?$:\w])(SERVICE|FROM|LOAD)\b", bare, re.IGNORECASE)
            if found:
                place = shapes.place(subject, found[1])
                yield Problem(
                    f"the query asks another machine ({found[1]})", *place, cure="nothing is fetched: leave it out"
                )


def _shown(ontology: Ontology, shapes: Triples) -> Iterator[Triple]:
    """The triples that the shapes can see; anonymous and deprecated classes are no classes to them."""
    classes = {c.iri for c in ontology.classes.values()}
    mentioned = {node for triple in shapes for node in triple if isinstance(node, str)}
    mentioned |= {TYPE, RDF + "first", RDF + "rest", RDFS + "subClassOf"}
    queries = " ".join(o.value for q in _QUERIES for _, o in shapes.pairs(SH + q) if isinstance(o, Literal))
    words = set(re.findall(r"[\w-]+", queries))
    for triple in ontology.source.triples:
        subject, predicate, obj = triple
        if predicate not in mentioned and local_name(predicate) not in words:
            continue
        if not (predicate == TYPE and obj == OWL + "Class" and subject not in classes):
            yield triple


def _rdflib(triples: Iterable[Triple]) -> Graph:
    from rdflib import BNode, Graph, URIRef
    from rdflib import Literal as RdflibLiteral

    @cache
    def term(node: Node) -> RdflibNode:
        if isinstance(node, str):
            return BNode(node[2:]) if is_blank(node) else URIRef(node)
        if node.language:
            return RdflibLiteral(node.value, lang=node.language)
        return RdflibLiteral(node.value, datatype=None if node.datatype == XSD + "string" else URIRef(node.datatype))

    graph = Graph()
    for s, p, o in triples:
        graph.add((term(s), term(p), term(o)))
    return graph


def _triples(graph: Graph) -> Triples:
    from rdflib import BNode
    from rdflib import Literal as RdflibLiteral

    def node(term: RdflibNode) -> Node:
        if isinstance(term, RdflibLiteral):
            return Literal(str(term), str(term.datatype or XSD + "string"), term.language or "")
        return f"_:{term}" if isinstance(term, BNode) else str(term)

    triples = Triples()
    for s, p, o in graph:
        triples.add(str(node(s)), str(p), node(o))
    return triples


def _refusal(message: str, shapes: Source) -> Problem:
    """pySHACL's own words, at the place of the first term of the shapes that they name."""
    text = message.split("\nFor reference")[0].strip().replace("\n", " ")
    named = [s for s, _, _ in shapes.triples if not is_blank(s) and s in message]
    place = shapes.place(max(named, key=len)) if named else (short_path(shapes.files[-1]), 0)
    return Problem(f"the shapes cannot be used: {text[:300]}", *place)


class _Report:
    """pySHACL's results as problems."""

    def __init__(self, ontology: Ontology, report: Triples) -> None:
        self._source, self._report = ontology.source, report
        self._names = {c.iri: c.name for c in ontology.classes.values()}
        self._names |= {r.iri: r.name for r in ontology.relations.values()}

    def problems(self) -> list[Problem]:
        """All results by place; what a shape has more of than `_SHOWN` is counted."""
        groups: dict[Node | None, list[str]] = {}
        for result in self._report.instances(SH + "ValidationResult"):
            shape = self._value(result, "sourceConstraint") or self._value(result, "sourceShape")
            groups.setdefault(shape, []).append(result)
        found: list[Problem] = []
        for group in groups.values():
            group.sort(key=lambda result: (str(self._value(result, "focusNode")), str(self._value(result, "value"))))
            shown = [self._problem(result) for result in group[:_SHOWN]]
            if more := len(group) - len(shown):
                shown[-1] = replace(shown[-1], message=f"{shown[-1].message} (and so for {more} more)")
            found += shown
        return sorted(found, key=lambda p: (p.file, p.line, p.message))

    def _problem(self, result: str) -> Problem:
        focus, value = self._value(result, "focusNode") or "", self._value(result, "value") or ""
        messages = [o for o in self._report.objects(result, SH + "resultMessage") if isinstance(o, Literal)]
        message = min(messages, key=lambda o: (o.language not in ("", "en"), o.value)).value
        text = value.value if isinstance(value, Literal) else value
        words: tuple[str, ...] = ()
        if text and not is_blank(value):
            shown = self._name(text) if is_iri(value) else text
            message = message.replace(text, repr(shown)) if is_iri(value) else message
            words = (local_name(text) if is_iri(value) else text,)
        message, _, cure = message.partition("; ")
        if words and value != focus and repr(shown) not in message and text not in message:
            message += f" (found {shown!r})"
        about = self._about(focus)
        severity = _SEVERITIES.get(str(self._value(result, "resultSeverity")), "error")
        subject = focus.value if isinstance(focus, Literal) else self._name(about)
        return Problem(f"{subject!r}: {message}", *self._source.place(about, *words), cure=cure, severity=severity)

    def _about(self, node: Node) -> str:
        """The IRI by which a person finds the node: its own, or that of what holds it."""
        for _ in range(100):  # anonymous nodes may refer to one another in a circle
            if is_iri(node):
                break
            annotated = self._source.triples.value(str(node), OWL + "annotatedSource") if is_blank(node) else None
            node = annotated or self._holders.get(node, "")
        return str(node)

    @cached_property
    def _holders(self) -> dict[Node, str]:
        """Who states a literal (a tie to data before any other), or refers to an anonymous node."""
        found: dict[Node, str] = {}
        for subject, predicate, obj in self._source.triples:
            if not is_iri(obj) and (predicate.startswith(NS) or obj not in found):
                found[obj] = subject
        return found

    def _name(self, iri: str) -> str:
        return self._names.get(iri) or local_name(iri) or iri

    def _value(self, result: str, word: str) -> Node | None:
        return self._report.value(result, SH + word)
