"""The axioms about classes, and about individuals, as drafts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from neurosym.knowledge.annotations import subject_of
from neurosym.knowledge.drafts import Draft, DraftReader
from neurosym.knowledge.expressions import And, Expression, Named, OneOf, Or, Role
from neurosym.knowledge.horn import Clause, inclusion, key
from neurosym.knowledge.triples import OWL, RDF, RDFS, TYPE, Node, Triple, is_blank, is_iri
from neurosym.knowledge.vocabulary import NOTHING, THING, Unreadable, local_name
from neurosym.logic import Atom, Term

_X = Term("X")
_UNIQUE_NAMES = "individuals of different names are different anyway: in rules a name is the thing itself"


class ClassAxioms(DraftReader):
    """The axioms of section 9.1 of the OWL 2 structural specification, data type definitions (9.4) and keys (9.5)."""

    def read(self) -> Iterator[Draft]:
        yield from self._inclusions()
        yield from self._equivalences()
        yield from self._lists()

    def _inclusions(self) -> Iterator[Draft]:
        names = self.v.classes
        atoms = {name: (Atom(name, (_X,)),) for name in names.values()}
        for s, o in self.t.pairs(RDFS + "subClassOf"):
            triple = (s, RDFS + "subClassOf", o)
            if s in names and o in names and s != o:  # by far the most frequent kind, so it takes a short cut
                sub, sup = names[s], names[str(o)]
                clauses = (Clause(atoms[sup], atoms[sub]),)
                yield Draft("SubClassOf", f"{sub} SubClassOf {sup}", triple, clauses, True, "", f"{sub}_is_{sup}")
                continue
            if s in names and is_iri(o) and not (o in names or o in self.v.deprecated or str(o).startswith(OWL)):
                message = f"superclass <{o}> of {names[s]!r} is not declared"
                self.v.undeclared(message, str(o), names.values(), s)
            yield self.draft("SubClassOf", triple, self._inclusion)

    def _equivalences(self) -> Iterator[Draft]:
        datatypes = set(self.t.instances(RDFS + "Datatype"))
        for word in ("equivalentClass", "intersectionOf", "unionOf", "complementOf", "oneOf"):
            for s, o in self.t.pairs(OWL + word):
                if is_blank(s) and word != "equivalentClass":
                    continue  # part of an expression
                triple = (s, OWL + word, o)
                if s in datatypes:
                    if word == "equivalentClass":
                        yield Draft(
                            "DatatypeDefinition", f"{local_name(s)} EquivalentTo a data range", triple, (), True
                        )
                    continue
                yield self.draft("EquivalentClasses", triple, self._equivalence)
        for s, o in self.t.pairs(OWL + "disjointWith"):
            triple = (s, OWL + "disjointWith", o)
            yield self.draft("DisjointClasses", triple, lambda t: self._disjoint(t, (t[0], t[2])))

    def _inclusion(self, triple: Triple) -> Draft:
        about = subject_of(self.t, triple)
        sub, sup = self.expressions.read(triple[0], about), self.expressions.read(triple[2], about)
        return Draft("SubClassOf", f"{sub} SubClassOf {sup}", triple, lambda: inclusion(sub, sup))

    def _equivalence(self, triple: Triple) -> Draft:
        s, predicate, o = triple
        about = subject_of(self.t, triple)
        left = self.expressions.read(s, about)
        is_whole = predicate != OWL + "equivalentClass"  # a named class is the node of an expression, as OWL 1 allowed
        right = self.expressions.built(s, about) if is_whole else self.expressions.read(o, about)
        both = isinstance(left, Named) and isinstance(right, Named)
        return Draft(
            "EquivalentClasses",
            f"{left} EquivalentTo {right}",
            triple,
            lambda: (*inclusion(left, right), *inclusion(right, left)),
            both,
        )

    def _disjoint(self, triple: Triple, nodes: Iterable[Node]) -> Draft:
        about = subject_of(self.t, triple)
        parts = [self.expressions.read(n, about) for n in nodes]
        named = all(isinstance(p, Named) for p in parts)
        return Draft(
            "DisjointClasses", n_ary("Disjoint", "Classes", parts), triple, lambda: _disjointness(parts), named
        )

    def _lists(self) -> Iterator[Draft]:
        for node in self.t.instances(OWL + "AllDisjointClasses"):
            triple = (node, TYPE, OWL + "AllDisjointClasses")
            yield self.draft("DisjointClasses", triple, lambda t: self._disjoint(t, self._members(t[0])))
        for s, o in self.t.pairs(OWL + "disjointUnionOf"):
            yield self.draft("DisjointUnion", (s, OWL + "disjointUnionOf", o), self._disjoint_union)
        for s, o in self.t.pairs(OWL + "hasKey"):
            yield self.draft("HasKey", (s, OWL + "hasKey", o), self._key)

    def _members(self, node: str) -> list[Node]:
        return [m for head in self.t.objects(node, OWL + "members") for m in self.t.members(head)]

    def _disjoint_union(self, triple: Triple) -> Draft:
        about = triple[0]
        whole = self.expressions.read(about, about)
        parts = [self.expressions.read(n, about) for n in self.t.members(triple[2])]

        def clauses() -> Iterator[Clause]:
            for part in parts:
                yield from inclusion(part, whole)
            yield from inclusion(whole, Or(tuple(parts)))
            yield from _disjointness(parts)

        return Draft("DisjointUnion", f"{whole} DisjointUnionOf {', '.join(map(str, parts))}", triple, clauses)

    def _key(self, triple: Triple) -> Draft:
        about = subject_of(self.t, triple)
        keyed = self.expressions.read(triple[0], about)
        roles = [self.expressions.role(n, about) for n in self.t.members(triple[2])]
        return Draft("HasKey", f"{keyed} HasKey {', '.join(map(str, roles))}", triple, lambda: key(keyed, roles))


class Assertions(DraftReader):
    """The axioms of section 9.6: what is said of individuals."""

    def read(self) -> Iterator[Draft]:
        yield from self._individuals()
        yield from self._comparisons()

    def _individuals(self) -> Iterator[Draft]:
        named = set(self.t.instances(OWL + "NamedIndividual"))
        ours = self.v.classes
        for s, o in list(self.t.pairs(TYPE)):
            if o in ours or is_blank(o) or o in (THING, NOTHING):
                triple = (s, TYPE, o)
                yield self.draft("ClassAssertion", triple, self._class_assertion)
            elif s in named and is_iri(o) and not str(o).startswith((OWL, RDF, RDFS)) and o not in self.v.deprecated:
                message = f"class <{o}> of the individual {local_name(s)!r} is not declared"
                self.v.undeclared(message, str(o), ours.values(), s)
        for iri, kind in (*((p, "Object") for p in self.v.objects), *((p, "Data") for p in self.v.data)):
            for s, o in self.t.pairs(iri):
                triple = (s, iri, o)
                yield self.draft(f"{kind}PropertyAssertion", triple, self._property_assertion)
        for node in self.t.instances(OWL + "NegativePropertyAssertion"):
            triple = (node, TYPE, OWL + "NegativePropertyAssertion")
            yield self.draft("NegativeObjectPropertyAssertion", triple, self._negative_assertion)

    def _class_assertion(self, triple: Triple) -> Draft:
        who = self.v.individual(triple[0])
        what = self.expressions.read(triple[2], triple[0])
        return Draft("ClassAssertion", f"{who} Type {what}", triple, lambda: inclusion(OneOf((who,)), what))

    def _fact(self, s: Node, p: Node, o: Node, triple: Triple) -> tuple[Role, Atom]:
        role = self.role(p, triple)
        return role, role.atom(self.v.individual(s), self.expressions.value(o, role))

    def _property_assertion(self, triple: Triple) -> Draft:
        role, fact = self._fact(*triple, triple)
        kind = "DataPropertyAssertion" if role.datatype else "ObjectPropertyAssertion"
        text = f"{fact.args[0]} {role} {fact.args[1]}"
        return Draft(kind, text, triple, lambda: [Clause((fact,), ())])

    def _negative_assertion(self, triple: Triple) -> Draft:
        node = triple[0]
        target = self.t.value(node, OWL + "targetIndividual") or self.t.value(node, OWL + "targetValue")
        source, p = (self.t.value(node, OWL + word) for word in ("sourceIndividual", "assertionProperty"))
        if source is None or p is None or target is None:
            raise Unreadable("a negative assertion lacks its source, its property or its target")
        role, fact = self._fact(source, p, target, triple)
        kind = f"Negative{'Data' if role.datatype else 'Object'}PropertyAssertion"
        text = f"not {fact.args[0]} {role} {fact.args[1]}"
        return Draft(kind, text, triple, lambda: [Clause((), (fact,))])

    def _comparisons(self) -> Iterator[Draft]:
        for predicate, kind in (("sameAs", "SameIndividual"), ("differentFrom", "DifferentIndividuals")):
            for s, o in self.t.pairs(OWL + predicate):
                text = f"{local_name(s)} {kind} {local_name(str(o))}"
                reason = _UNIQUE_NAMES if kind == "DifferentIndividuals" else "a thing has one name in rules: use one"
                yield Draft(kind, text, (s, OWL + predicate, o), (), unused=reason)
        for node in self.t.instances(OWL + "AllDifferent"):
            triple = (node, TYPE, OWL + "AllDifferent")
            yield Draft("DifferentIndividuals", "AllDifferent", triple, (), unused=_UNIQUE_NAMES)


def _disjointness(parts: Iterable[Expression]) -> Iterator[Clause]:
    for a, b in combinations(parts, 2):
        yield from inclusion(And((a, b)), Or())


def n_ary(word: str, plural: str, parts: Iterable[object]) -> str:
    """`a DisjointWith b`, or `DisjointClasses a, b, c`."""
    texts = list(map(str, parts))
    return f"{texts[0]} {word}With {texts[1]}" if len(texts) == 2 else f"{word}{plural} {', '.join(texts)}"
