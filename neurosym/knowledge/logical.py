"""What an ontology states logically, cut into axioms: each main triple with the blank nodes that hang on it.

The cut follows the OWL 2 mapping to RDF graphs (W3C 2012, section 3). Annotations, imports and reified axioms are left out: a
reasoner does not look at them, and of a large ontology they are most triples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from neurosym.knowledge.triples import OWL, RDF, RDFS, SWRL, TYPE, XSD, Literal, Node, Triple, Triples, is_blank
from neurosym.knowledge.vocabulary import NOTHING

_BUILT_IN = (OWL, RDF, RDFS, XSD)
_DECLARED = {
    *(OWL + kind for kind in ("Class", "ObjectProperty", "DatatypeProperty", "AnnotationProperty", "NamedIndividual")),
    RDFS + "Datatype",
    SWRL + "Variable",
}
_AXIOM = {
    *(RDFS + p for p in ("subClassOf", "subPropertyOf", "domain", "range")),
    *(OWL + p for p in ("equivalentClass", "disjointWith", "disjointUnionOf", "hasKey")),
    *(OWL + p for p in ("intersectionOf", "unionOf", "complementOf", "oneOf")),  # on a named class, as in OWL 1
    *(OWL + p for p in ("equivalentProperty", "inverseOf", "propertyDisjointWith", "propertyChainAxiom")),
    *(OWL + p for p in ("sameAs", "differentFrom")),
}
_OF_BLANK = {RDFS + "subClassOf", OWL + "disjointWith"}
_WHOLE = {OWL + k for k in ("AllDisjointClasses", "AllDisjointProperties", "AllDifferent", "NegativePropertyAssertion")}
_WHOLE.add(SWRL + "Imp")
CHARACTERISTICS = {
    *(OWL + p for p in ("FunctionalProperty", "InverseFunctionalProperty", "TransitiveProperty", "SymmetricProperty")),
    *(OWL + p for p in ("AsymmetricProperty", "ReflexiveProperty", "IrreflexiveProperty")),
}
_ANNOTATED = {OWL + "annotatedSource", OWL + "annotatedProperty", OWL + "annotatedTarget", OWL + "versionInfo"}


@dataclass(frozen=True)
class LogicalAxiom:
    """One axiom: its main triple, and all triples that spell it (the main one first)."""

    main: Triple
    triples: tuple[Triple, ...]

    @cached_property
    def signature(self) -> frozenset[str]:
        """The classes, properties and individuals that it speaks of."""
        terms = {n for s, _, o in self.triples for n in (s, o) if isinstance(n, str)}
        terms |= {p for _, p, _ in self.triples}
        return frozenset(n for n in terms if not is_blank(n) and not n.startswith((*_BUILT_IN, SWRL)))

    @property
    def is_fact(self) -> bool:
        """Whether it is about individuals: a class assertion or a property assertion."""
        _, predicate, obj = self.main
        return obj not in _WHOLE | CHARACTERISTICS if predicate == TYPE else not predicate.startswith(_BUILT_IN)

    @property
    def has_builtins(self) -> bool:
        """Whether it is a SWRL rule that computes (`swrlb:greaterThan`, say), which no DL reasoner here understands."""
        return any(p == SWRL + "builtin" for _, p, _ in self.triples)


def declarations(triples: Triples) -> dict[str, tuple[Triple, ...]]:
    """What each named term is declared to be."""
    found: dict[str, tuple[Triple, ...]] = {}
    for subject, kind in triples.pairs(TYPE):
        if kind in _DECLARED and not is_blank(subject):
            found[subject] = (*found.get(subject, ()), (subject, TYPE, kind))
    return found


def logical_axioms(triples: Triples) -> Iterator[LogicalAxiom]:
    """Every axiom, in the order of the triples."""
    structure: dict[str, list[Triple]] = {}
    for triple in triples:
        if is_blank(triple[0]) and _is_structure(triple[1]):
            structure.setdefault(triple[0], []).append(triple)
    properties = {*triples.instances(OWL + "ObjectProperty"), *triples.instances(OWL + "DatatypeProperty")}
    annotating = {p for p in triples.instances(OWL + "AnnotationProperty") if p not in properties}
    for triple in triples:
        if triple[0] not in annotating and _is_main(triple, properties):
            whole = triple[1] == TYPE and triple[2] in _WHOLE
            spelled = dict.fromkeys([triple])
            if whole and not is_blank(triple[0]):
                spelled.update((t, None) for t in _of_subject(triples, triple[0]))
            starts = (n for t in list(spelled) for n in (t[0], t[2]))
            spelled.update((t, None) for t in _closure(starts, structure, triple))
            yield LogicalAxiom(triple, tuple(spelled))


def _is_structure(predicate: str) -> bool:
    return predicate.startswith((*_BUILT_IN, SWRL)) and predicate not in _ANNOTATED and predicate not in _OF_BLANK


def _is_main(triple: Triple, properties: set[str]) -> bool:
    subject, predicate, obj = triple
    if predicate == TYPE:
        if obj in _WHOLE or obj in CHARACTERISTICS:
            return True
        return isinstance(obj, str) and (is_blank(obj) or obj == NOTHING or not obj.startswith((*_BUILT_IN, SWRL)))
    if is_blank(subject):
        return predicate in _OF_BLANK or predicate in properties
    return predicate in _AXIOM or predicate in properties


def _of_subject(triples: Triples, subject: str) -> list[Triple]:
    predicates = (SWRL + "body", SWRL + "head", OWL + "members", OWL + "distinctMembers")
    return [(subject, p, o) for p in predicates for o in triples.objects(subject, p)]


def _closure(starts: Iterable[Node], structure: dict[str, list[Triple]], main: Triple) -> Iterator[Triple]:
    """The triples of the blank nodes that can be reached."""
    seen: set[str] = set()
    waiting = [n for n in starts if is_blank(n)]
    while waiting:
        node = str(waiting.pop())
        if node in seen:
            continue
        seen.add(node)
        for triple in structure.get(node, ()):
            if triple != main:
                yield triple
            if is_blank(triple[2]):
                waiting.append(triple[2])


def to_ntriples(triples: Iterable[Triple]) -> str:
    """The triples as N-Triples."""
    return "".join(f"{_term(s)} {_term(p)} {_term(o)} .\n" for s, p, o in triples)


def _term(node: Node) -> str:
    if isinstance(node, Literal):
        text = node.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        return f'"{text}"@{node.language}' if node.language else f'"{text}"^^<{node.datatype}>'
    return node if is_blank(node) else f"<{node}>"


def module(axioms: Sequence[LogicalAxiom], seeds: Iterable[str]) -> list[int]:
    """The axioms (their indices) that can have a say about the seeds, nearest first: in practice a superset of the ⊥-module.

    That is (Cuenca Grau et al., JAIR 2008) all that entails anything of the form `seed SubClassOf …`. An axiom is taken once
    enough of the terms on its left are reached: two of a disjointness, all of a definition's conjuncts, else one.
    """
    missing: list[int] = []
    owner: list[int] = []
    by_term: dict[str, list[int]] = {}
    for index, axiom in enumerate(axioms):
        for terms, count in _triggers(axiom):
            for term in terms:
                by_term.setdefault(term, []).append(len(owner))
            owner.append(index)
            missing.append(min(count, len(terms)))
    taken: dict[int, None] = {}
    waiting = list(dict.fromkeys(seeds))
    reached = set(waiting)
    ready = [trigger for trigger, count in enumerate(missing) if count == 0]
    while ready or waiting:
        for trigger in ready:
            index = owner[trigger]
            if index not in taken:
                taken[index] = None
                new = sorted(axioms[index].signature - reached)
                reached.update(new)
                waiting += new
        ready, current, waiting = [], waiting, []
        for term in current:
            for trigger in by_term.get(term, ()):
                missing[trigger] -= 1
                if missing[trigger] == 0:
                    ready.append(trigger)
    return list(taken)


def _triggers(axiom: LogicalAxiom) -> list[tuple[frozenset[str], int]]:
    """Sets of terms, each with how many of them must be reached for the axiom to matter."""
    subject, predicate, obj = axiom.main
    terms = axiom.signature
    if obj == OWL + "ReflexiveProperty":
        return [(frozenset(), 0)]
    if predicate in _FROM_SUBJECT or (predicate == TYPE and obj in CHARACTERISTICS):
        return [(terms, 1) if is_blank(subject) else (terms & {subject}, 1)]
    if predicate == OWL + "disjointWith" and not is_blank(subject) and not is_blank(obj):
        return [(terms, 2)]
    if obj == OWL + "AllDisjointClasses" and not any(is_blank(o) for _, p, o in axiom.triples if p == RDF + "first"):
        return [(terms, 2)]
    if predicate == OWL + "equivalentClass" and all(p in _CONJUNCTIVE for _, p, _ in axiom.triples[1:]):
        return [(terms & {subject}, 1), (terms - {subject}, len(terms))]
    return [(terms, 1)]


_FROM_SUBJECT = {RDFS + "subClassOf", RDFS + "domain", RDFS + "range", RDFS + "subPropertyOf", OWL + "hasKey"}
_CONJUNCTIVE = {OWL + "intersectionOf", OWL + "someValuesFrom", OWL + "onProperty", RDF + "first", RDF + "rest", TYPE}
