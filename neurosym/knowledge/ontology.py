"""The ontology as the rest of the program sees it: classes, relations and axioms, their closure, and their ties to data.

Five annotation properties of `ontologies/neurosym.ttl` tie an ontology to data, so that no Python table has to:
``ns:category`` (a data set's category), ``ns:studyLabel`` (an image attribute ``key=value``), ``ns:predicate`` (the geometric
word a property means), ``ns:zoned`` (boxes of this class are the frame whose thirds are the zones), ``ns:confidence`` (how
often an axiom holds). Words that are read off a whole scene are in `neurosym.knowledge.scene_words`. What an axiom becomes is
in `neurosym.knowledge.axioms`; names are in `neurosym.knowledge.vocabulary`.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from neurosym.errors import OntologyError, short_path
from neurosym.knowledge.annotations import subject_of, words_of
from neurosym.knowledge.axioms import Axiom, read_axioms
from neurosym.knowledge.rdf import Source, read_sources
from neurosym.knowledge.ties import check_vocabulary
from neurosym.knowledge.triples import NS, SKOS, Literal, Node, is_blank
from neurosym.knowledge.vocabulary import Vocabulary
from neurosym.logic import Rule

if TYPE_CHECKING:
    import networkx as nx
    from rdflib import Graph

    from neurosym.knowledge.scene_words import SceneWords

DEFINITIONS = (SKOS + "definition", "http://purl.obolibrary.org/obo/IAO_0000115")


@dataclass(frozen=True, slots=True)
class OntologyClass:
    """A named class; `parents` are the asserted named superclasses, `entailed` those that a reasoner found besides."""

    name: str
    iri: str
    label: str
    parents: frozenset[str]
    definition: str = ""
    entailed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Relation:
    """A property; `predicate` is the geometric word it means, "" if it is not geometric.

    `datatype` is "" for an object property, else what its values are: "integer", "decimal", "string" or "boolean".
    `domain` and `range` are the named classes that it is stated to lead from and to.
    """

    name: str
    iri: str
    label: str
    predicate: str
    inverse: str = ""
    symmetric: bool = False
    transitive: bool = False
    parents: frozenset[str] = frozenset()
    datatype: str = ""
    functional: bool = False
    asymmetric: bool = False
    domain: frozenset[str] = frozenset()
    range: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Ontology:
    """Classes, relations and axioms of one ontology with its imports; `graph` is the untouched RDF for experts."""

    classes: dict[str, OntologyClass]
    relations: dict[str, Relation]
    disjoint: frozenset[frozenset[str]]
    categories: dict[str, str]
    study_labels: dict[str, str]
    zoned: frozenset[str]
    axioms: tuple[Axiom, ...]
    source: Source = field(repr=False)
    _above: dict[str, frozenset[str]] = field(default_factory=dict, repr=False, compare=False)
    _foes: dict[str, frozenset[str]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, imported ones before those that import them."""
        return self.source.files

    @property
    def graph(self) -> Graph:
        """The complete RDF."""
        return self.source.graph

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """What the axioms say beyond how names relate, as rules with their places in the files."""
        found = []
        for axiom in self.axioms:
            kept = [] if axiom.structural else [r for r in axiom.rules if r.weight is not None or not _subsumption(r)]
            if kept:
                file, line = self.place(axiom)
                found += [replace(rule, file=file, line=line) for rule in kept]
        return tuple(found)

    @cached_property
    def measurements(self) -> frozenset[str]:
        """The data properties: relations between an object and a value."""
        return frozenset(name for name, r in self.relations.items() if r.datatype)

    @cached_property
    def hierarchy(self) -> nx.DiGraph:
        """The named classes with an edge from each to its parents, asserted and entailed."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_nodes_from(self.classes)
        graph.add_edges_from((name, parent) for name, c in self.classes.items() for parent in c.parents | c.entailed)
        return graph

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        children: dict[str, list[str]] = {}
        for name, c in self.classes.items():
            for parent in c.parents | c.entailed:
                children.setdefault(parent, []).append(name)
        return children

    @cached_property
    def _disjoint_with(self) -> dict[str, set[str]]:
        table: dict[str, set[str]] = {}
        for a, b in (tuple(pair) for pair in self.disjoint):
            table.setdefault(a, set()).add(b)
            table.setdefault(b, set()).add(a)
        return table

    def ancestors(self, name: str) -> frozenset[str]:
        """Every named superclass of a class, without itself."""
        known = self._above.get(name)
        if known is None:
            c = self.classes[name]
            found: set[str] = set()
            ahead = [*c.parents, *c.entailed]
            while ahead:
                parent = ahead.pop()
                if parent in found:
                    continue
                found.add(parent)
                if parent in self._above:
                    found |= self._above[parent]
                else:
                    ahead += (*self.classes[parent].parents, *self.classes[parent].entailed)
            known = self._above[name] = frozenset(found - {name})
        return known

    def descendants(self, name: str) -> frozenset[str]:
        """Every named subclass of a class, without itself."""
        found: set[str] = set()
        ahead = [name]
        while ahead:
            for child in self._children.get(ahead.pop(), ()):
                if child not in found:
                    found.add(child)
                    ahead.append(child)
        return frozenset(found - {name})

    def is_a(self, name: str, ancestor: str) -> bool:
        """Whether every instance of `name` is one of `ancestor`."""
        return name == ancestor or ancestor in self.ancestors(name)

    def are_disjoint(self, a: str, b: str) -> bool:
        """Whether the two classes, or classes above them, are stated to share no instance."""
        if a not in self._foes:
            above = self.ancestors(a) | {a}
            self._foes[a] = frozenset(foe for c in above for foe in self._disjoint_with.get(c, ()))
        return b in self._foes[a] or not self._foes[a].isdisjoint(self.ancestors(b))

    def with_subsumptions(self, pairs: Iterable[tuple[str, str]]) -> Ontology:
        """This ontology with entailed subsumptions (class, superclass) in its closure.

        Raises:
            KeyError: a name that is no class.
        """
        found: dict[str, set[str]] = {}
        for name, parent in pairs:
            if parent != name and self.classes[parent].name not in self.classes[name].parents:
                found.setdefault(name, set()).add(parent)
        changed = {n: replace(self.classes[n], entailed=self.classes[n].entailed | more) for n, more in found.items()}
        return replace(self, classes={**self.classes, **changed}, _above={}, _foes={})

    def entailments(self) -> tuple[Rule, ...]:
        """What the hierarchy, the relations' characteristics and the sizes entail, as hard rules: nothing to find anew."""
        from neurosym.knowledge.entailment import entailments

        return entailments(self)

    @cached_property
    def theory(self) -> tuple[Rule, ...]:
        """Every rule to infer with: from axioms, from a reasoner, from the words of geometry."""
        from neurosym.knowledge.entailment import theory

        return theory(self)

    def geometry_rules(self) -> tuple[Rule, ...]:
        """What the relations tied by ``ns:predicate`` entail by the definition of their words in geometry.py."""
        from neurosym.knowledge.entailment import geometry_rules

        return geometry_rules(self)

    @cached_property
    def scene_words(self) -> SceneWords:
        """The classes and relations that are read off a whole scene."""
        from neurosym.knowledge.scene_words import read_scene_words

        return read_scene_words(self)[0]

    def place(self, axiom: Axiom) -> tuple[str, int]:
        """File and line of an axiom; line 0 if it is not found."""
        triples = self.source.triples
        about = subject_of(triples, axiom.triple)
        if not about:
            return short_path(self.files[-1]), 0
        words = words_of(triples, axiom.triple[0] if is_blank(axiom.triple[0]) else axiom.triple[2])
        return self.source.place(about, *words)

    @property
    def where(self) -> str:
        """The files, for messages."""
        return ", ".join(short_path(f) for f in self.files)


def load_ontology(paths: Iterable[Path], texts: Mapping[Path, str] | None = None) -> Ontology:
    """Read ontology files and what they import into one `Ontology`; `texts` stand for files that an editor has open.

    Raises:
        OntologyError: with every problem of the files (see `neurosym.knowledge.rdf` for those of reading).
    """
    with collector_at_rest():
        return _Reader(read_sources(paths, texts)).read()


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """While only new objects are made, the cycle collector walks over all of them again and again: half the time of HPO."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _subsumption(rule: Rule) -> tuple[str, str] | None:
    """(class, superclass) if the rule says just that one class lies below another."""
    if len(rule.head) != 1 or len(rule.body) != 1 or rule.conditions:
        return None
    head, body = rule.head[0], rule.body[0]
    if len(head.args) != 1 or head.args != body.args or not head.args[0].is_variable:
        return None
    return body.predicate, head.predicate


class _Reader:
    """Reads one source; problems are collected, then raised together."""

    def __init__(self, source: Source) -> None:
        self.source, self.triples = source, source.triples
        self.vocabulary = Vocabulary(source)

    def read(self) -> Ontology:
        from neurosym.knowledge.scene_words import read_scene_words

        v = self.vocabulary
        check_vocabulary(v)
        axioms = read_axioms(v)
        hard = [rule for a in axioms if a.confidence is None for rule in a.rules]
        parents: dict[str, set[str]] = {}
        for pair in filter(None, map(_subsumption, hard)):
            parents.setdefault(pair[0], set()).add(pair[1])
        self._check_circles(axioms)
        ontology = Ontology(
            classes={name: self._class(iri, name, parents.get(name, ())) for iri, name in v.classes.items()},
            relations=self._relations(axioms),
            disjoint=frozenset(filter(None, map(_disjointness, hard))),
            categories=self._ties("category"),
            study_labels=self._ties("studyLabel"),
            zoned=frozenset(v.names[s] for s, o in self.triples.pairs(NS + "zoned") if s in v.names and _is_true(o)),
            axioms=axioms,
            source=self.source,
        )
        if not v.problems:  # the words name classes
            v.problems += read_scene_words(ontology)[1]
        if not v.classes:
            v.problem("declares no owl:Class", "is this the right file?")
        if v.problems:
            raise OntologyError(v.problems)
        return ontology

    def _class(self, iri: str, name: str, parents: Iterable[str]) -> OntologyClass:
        definition = next((o for p in DEFINITIONS for o in self.triples.objects(iri, p)), "")
        text = definition.value if isinstance(definition, Literal) else definition
        return OntologyClass(name, iri, self.vocabulary.label(iri) or name, frozenset(parents), text)

    def _relations(self, axioms: Iterable[Axiom]) -> dict[str, Relation]:
        """The properties, with what their axioms say of them for certain."""
        v = self.vocabulary
        said: dict[tuple[str, str], set[str]] = {}
        for axiom in axioms:
            subject, _, obj = axiom.triple
            if axiom.confidence is not None or subject not in v.names:
                continue
            word = re.sub(
                r"^(Object|Data|Sub(Object|Data))Property(?=Domain|Range|Of)|(Object|Data)Property$", "", axiom.kind
            )
            said.setdefault((subject, word), set()).add(v.names.get(str(obj), ""))
            if word in ("InverseObjectProperties", "EquivalentObjectProperties", "EquivalentDataProperties"):
                said.setdefault((str(obj), word), set()).add(v.names[subject])

        def names(iri: str, *words: str) -> frozenset[str]:
            return frozenset(n for word in words for n in said.get((iri, word), ()) if n and n != v.names[iri])

        found = {}
        for iri, name in {**v.objects, **v.data}.items():
            found[name] = Relation(
                name,
                iri,
                v.label(iri) or name,
                next((o.value for o in self.triples.objects(iri, NS + "predicate") if isinstance(o, Literal)), ""),
                inverse=min(names(iri, "InverseObjectProperties"), default=""),
                symmetric=(iri, "Symmetric") in said,
                transitive=(iri, "Transitive") in said,
                parents=names(iri, "Of", "EquivalentObjectProperties", "EquivalentDataProperties"),
                datatype=v.datatype(iri) if iri in v.data else "",
                functional=(iri, "Functional") in said,
                asymmetric=(iri, "Asymmetric") in said,
                domain=names(iri, "Domain"),
                range=names(iri, "Range"),
            )
        return found

    def _check_circles(self, axioms: Iterable[Axiom]) -> None:
        """Classes below one another in a circle are a slip, unless they are stated to be equivalent."""
        one: dict[str, str] = {}

        def root(name: str) -> str:
            while name in one:
                name = one[name]
            return name

        steps = []
        for axiom in axioms:
            if axiom.structural and axiom.kind in ("EquivalentClasses", "SubClassOf"):
                pair = _subsumption(axiom.rules[0])
                assert pair is not None  # a structural inclusion is one
                if axiom.kind == "SubClassOf":
                    steps.append(pair)
                elif root(pair[0]) != root(pair[1]):
                    one[root(pair[0])] = root(pair[1])
        above: dict[str, set[str]] = {}
        for name, parent in steps:
            if not one or root(name) != root(parent):
                above.setdefault(root(name), set()).add(root(parent))
        try:
            TopologicalSorter(above).prepare()
        except CycleError as error:
            circle = error.args[1][::-1]
            start = circle.index(min(circle))
            circle = [*circle[start:-1], *circle[: start + 1]]
            iri = next(i for i, n in self.vocabulary.classes.items() if n == circle[0])
            cure = "remove one of these rdfs:subClassOf, or state owl:equivalentClass"
            self.vocabulary.problem(f"cyclic class hierarchy: {' ⊑ '.join(circle)}", cure, iri, circle[1])

    def _ties(self, tie: str) -> dict[str, str]:
        table: dict[str, str] = {}
        names = self.vocabulary.names
        pairs = ((s, o.value if isinstance(o, Literal) else o) for s, o in self.triples.pairs(NS + tie) if s in names)
        for iri, value in sorted(pairs):
            name = names[iri]
            if table.setdefault(value, name) != name:
                message = f"{tie} {value!r} is tied to both {table[value]!r} and {name!r}"
                self.vocabulary.problem(message, "keep one", iri, value)
        return table


def _disjointness(rule: Rule) -> frozenset[str] | None:
    """The two classes that a denial keeps apart, if that is all it says."""
    if rule.head or len(rule.body) != 2 or rule.conditions:
        return None
    a, b = rule.body
    return frozenset((a.predicate, b.predicate)) if len(a.args) == 1 and a.args == b.args else None


def _is_true(node: Node) -> bool:
    return isinstance(node, Literal) and node.value in ("true", "1")
