"""Contradictions that can be read off the axioms: two disjoint classes above one class, or above the filler of a restriction.

A best-first search over what is told (superclasses, conjuncts, domains, ranges, existential fillers), with the number of axioms
used so far as the cost. In milliseconds it finds most mistakes that people make. It is sound and incomplete: nothing is
concluded from a union, a cardinality above one, a property chain or the sufficient side of a definition; that is HermiT's part.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from neurosym.knowledge.logical import LogicalAxiom
from neurosym.knowledge.triples import OWL, RDFS, TYPE, Literal, Triples, is_blank
from neurosym.knowledge.vocabulary import NOTHING, THING

Support: TypeAlias = frozenset[int]
"""The axioms that a conclusion rests on, by their index."""
_Links: TypeAlias = dict[str, list[tuple[str, int]]]
_Restrictions: TypeAlias = dict[str, list[tuple[str, str, int]]]
_DEEPEST = 3  # how many restrictions deep a clash is looked for
_COUNTS = tuple(OWL + p for p in ("minCardinality", "cardinality", "minQualifiedCardinality", "qualifiedCardinality"))
_TABLES = {
    RDFS + "domain": "domains",
    RDFS + "range": "ranges",
    RDFS + "subPropertyOf": "wider",
    RDFS + "subClassOf": "supers",
    OWL + "equivalentClass": "supers",
    OWL + "equivalentProperty": "wider",
    OWL + "inverseOf": "inverse",
    TYPE: "types",
}
_BOTH_WAYS = {OWL + "equivalentClass", OWL + "equivalentProperty", OWL + "inverseOf"}


class Told:
    """What axioms say outright; a class expression is known by its blank node, as if it were a named class."""

    def __init__(self, axioms: Sequence[LogicalAxiom]) -> None:
        self._links: dict[str, _Links] = {table: defaultdict(list) for table in _TABLES.values()}
        self._some: _Restrictions = defaultdict(list)
        self._only: _Restrictions = defaultdict(list)
        self._apart: dict[str, list[tuple[int, str]]] = defaultdict(list)  # two classes of one group share no instance
        self._facts: list[tuple[str, str, str, int]] = []
        self._clean: dict[frozenset[str], int] = {}  # start → from which depth on nothing was found
        for index, axiom in enumerate(axioms):
            nodes = Triples()
            for triple in axiom.triples:
                nodes.add(*triple)
            self._read_main(axiom, nodes, index)
            for node in dict.fromkeys(s for s, _, _ in axiom.triples if is_blank(s)):
                self._read_expression(node, nodes, index)

    def needed(self, cls: str) -> set[str]:
        """The named classes that a class stands and falls with: those straight above it, and its restrictions' fillers."""
        seen: set[str] = set()
        waiting = [cls]
        for node in waiting:
            nearer = [above for above, _ in self._links["supers"][node]] + [filler for _, filler, _ in self._some[node]]
            waiting += (n for n in nearer if is_blank(n) and n not in seen)
            seen.update(nearer)
        return {node for node in seen if not is_blank(node) and node != cls}

    def clash(self, classes: Iterable[str]) -> Support | None:
        """Few axioms (not always the fewest) by which nothing can be in all these classes; None if none are found."""
        return self._clash({cls: frozenset() for cls in classes}, 0)

    def inconsistency(self) -> Support | None:
        """Few axioms by which an individual belongs to disjoint classes; None if none are found."""
        types: dict[str, dict[str, Support]] = defaultdict(dict)
        for individual, classes in self._links["types"].items():
            types[individual].update((cls, frozenset({index})) for cls, index in classes)
        for subject, relation, obj, index in self._facts:
            types[subject].update(self._ends(relation, frozenset({index}), "domains", "ranges"))
            types[obj].update(self._ends(relation, frozenset({index}), "ranges", "domains"))
        found = [clash for start in types.values() if (clash := self._clash(start, 0)) is not None]
        return min(found, key=len, default=None)

    def _read_main(self, axiom: LogicalAxiom, nodes: Triples, index: int) -> None:
        subject, predicate, obj = axiom.main
        if predicate == OWL + "disjointUnionOf":
            for member in _members(nodes, subject, predicate):
                self._links["supers"][member].append((subject, index))
                self._apart[member].append((index, subject))
        elif obj == OWL + "AllDisjointClasses":
            for member in _members(nodes, subject, OWL + "members"):
                self._apart[member].append((index, subject))
        elif obj == OWL + "SymmetricProperty":
            self._links["inverse"][subject].append((subject, index))
        elif isinstance(obj, Literal):
            return
        elif predicate == OWL + "disjointWith":
            for cls in (subject, obj):
                self._apart[cls].append((index, subject))
        elif predicate in (OWL + "intersectionOf", OWL + "complementOf"):  # a named class so defined, as in OWL 1
            self._read_expression(subject, nodes, index)
        elif predicate in _TABLES:
            links = self._links[_TABLES[predicate]]
            links[subject].append((obj, index))
            if predicate in _BOTH_WAYS:
                links[obj].append((subject, index))
        elif not predicate.startswith(OWL):
            self._facts.append((subject, predicate, obj, index))

    def _read_expression(self, node: str, nodes: Triples, index: int) -> None:
        for part in _members(nodes, node, OWL + "intersectionOf"):
            self._links["supers"][node].append((part, index))
        opposite = nodes.value(node, OWL + "complementOf")
        if isinstance(opposite, str):
            for cls in (node, opposite):
                self._apart[cls].append((index, node))
        relation = nodes.value(node, OWL + "onProperty")
        if not isinstance(relation, str) or is_blank(relation):
            return
        some, only = (nodes.value(node, OWL + p) for p in ("someValuesFrom", "allValuesFrom"))
        if isinstance(some, str):
            self._some[node].append((relation, some, index))
        if isinstance(only, str):
            self._only[node].append((relation, only, index))
        for count in (nodes.value(node, p) for p in _COUNTS):
            if isinstance(count, Literal) and count.value.isdigit() and int(count.value) > 0:
                filler = nodes.value(node, OWL + "onClass")
                self._some[node].append((relation, filler if isinstance(filler, str) else THING, index))

    def _wider(self, relation: str) -> dict[str, Support]:
        """The relations that hold wherever this one does."""
        found: dict[str, Support] = {relation: frozenset()}
        waiting = [relation]
        for each in waiting:
            for wider, index in self._links["wider"][each]:
                if wider not in found:
                    found[wider] = found[each] | {index}
                    waiting.append(wider)
        return found

    def _ends(self, relation: str, support: Support, near: str, far: str) -> Iterator[tuple[str, Support]]:
        """What a relation says of one of its two ends: by its domain (`near`), or by its inverse's range (`far`)."""
        for wider, steps in self._wider(relation).items():
            for cls, index in self._links[near][wider]:
                yield cls, support | steps | {index}
            for inverse, turn in self._links["inverse"][wider]:
                for cls, index in self._links[far][inverse]:
                    yield cls, support | steps | {turn, index}

    def _above(self, start: Mapping[str, Support]) -> dict[str, Support]:
        """Every class above those of the start, each with few axioms that put it there."""
        found: dict[str, Support] = {}
        queue = [(len(support), order, cls, support) for order, (cls, support) in enumerate(start.items())]
        order = len(queue)
        heapq.heapify(queue)
        while queue:
            _, _, cls, support = heapq.heappop(queue)
            if cls in found:
                continue
            found[cls] = support
            steps = [(above, support | {index}) for above, index in self._links["supers"][cls]]
            for relation, _, index in self._some[cls]:
                steps += self._ends(relation, support | {index}, "domains", "ranges")
            for above, more in steps:
                if above not in found:
                    order += 1
                    heapq.heappush(queue, (len(more), order, above, more))
        return found

    def _clash(self, start: Mapping[str, Support], depth: int) -> Support | None:
        key = frozenset(start)
        if self._clean.get(key, depth + 1) <= depth:
            return None
        above = self._above(start)
        found = [above[NOTHING]] if NOTHING in above else []
        groups: dict[tuple[int, str], list[Support]] = defaultdict(list)
        for cls, support in above.items():
            for group in self._apart[cls]:
                groups[group].append(support)
        for (index, _), supports in groups.items():
            if len(supports) > 1:
                one, other = sorted(supports, key=len)[:2]
                found.append(one | other | {index})
        if not found and depth < _DEEPEST:
            deeper = (self._clash(successor, depth + 1) for successor in self._successors(above))
            found = [clash for clash in deeper if clash is not None]
        if not found:
            self._clean[key] = depth
        return min(found, key=len, default=None)

    def _successors(self, above: Mapping[str, Support]) -> Iterator[dict[str, Support]]:
        """For each thing that an instance must be related to: the classes it is in."""
        for cls, support in above.items():
            for relation, filler, index in self._some[cls]:
                base = support | {index}
                wider = self._wider(relation)
                start = {filler: base}
                for end, why in self._ends(relation, base, "ranges", "domains"):
                    start.setdefault(end, why)
                for other, reason in above.items():
                    for limited, only, step in self._only[other]:
                        if limited in wider:
                            start.setdefault(only, base | reason | wider[limited] | {step})
                yield start


def _members(nodes: Triples, subject: str, predicate: str) -> list[str]:
    """The classes of a list, none if there is no such list or it is broken (which reading reports)."""
    head = nodes.value(subject, predicate)
    try:
        members = nodes.members(head) if head is not None else ()
        return list(dict.fromkeys(m for m in members if isinstance(m, str)))
    except ValueError:
        return []
