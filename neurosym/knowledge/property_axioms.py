"""The axioms about properties, as drafts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import Final

from neurosym.knowledge.class_axioms import n_ary
from neurosym.knowledge.drafts import Draft, DraftReader
from neurosym.knowledge.expressions import All, And, Count, Datatype, Named, Or, Role, Self, Some
from neurosym.knowledge.horn import Clause, inclusion
from neurosym.knowledge.triples import OWL, RDFS, TYPE, Triple, is_blank, is_iri
from neurosym.knowledge.vocabulary import local_name
from neurosym.logic import Atom, Term

_X, _Y, _Z = Term("X"), Term("Y"), Term("Z")
_CHARACTERISTICS: Final = {
    "FunctionalProperty": "Functional",
    "InverseFunctionalProperty": "InverseFunctional",
    "SymmetricProperty": "Symmetric",
    "AsymmetricProperty": "Asymmetric",
    "TransitiveProperty": "Transitive",
    "ReflexiveProperty": "Reflexive",
    "IrreflexiveProperty": "Irreflexive",
}


class PropertyAxioms(DraftReader):
    """The axioms of sections 9.2 and 9.3 of the OWL 2 structural specification."""

    def read(self) -> Iterator[Draft]:
        yield from self._properties()
        yield from self._characteristics()

    def _properties(self) -> Iterator[Draft]:
        for predicate, word, read in (
            (RDFS + "subPropertyOf", "Sub?PropertyOf", self._sub_property),
            (OWL + "equivalentProperty", "Equivalent?Properties", self._equivalent_properties),
            (OWL + "propertyDisjointWith", "Disjoint?Properties", self._disjoint_properties),
            (RDFS + "domain", "?PropertyDomain", self._domain),
            (RDFS + "range", "?PropertyRange", self._range),
            (OWL + "propertyChainAxiom", "ObjectPropertyChain", self._chain),
            (OWL + "inverseOf", "InverseObjectProperties", self._inverse),
        ):
            for s, o in self.t.pairs(predicate):
                if s in self.v.annotations or (is_blank(s) and predicate == OWL + "inverseOf"):
                    continue  # the latter is a property expression
                triple, kind = (s, predicate, o), word.replace("?", "Data" if s in self.v.data else "Object")
                yield self._of(kind, triple, read)
        for node in self.t.instances(OWL + "AllDisjointProperties"):
            triple = (node, TYPE, OWL + "AllDisjointProperties")
            yield self.draft("DisjointObjectProperties", triple, self._all_disjoint)

    def _of(self, kind: str, triple: Triple, read: Callable[[str, Triple], Draft]) -> Draft:
        """The draft of an axiom whose subject is a property, unless nobody declared it."""
        s = triple[0]
        if is_iri(s) and s not in self.v.names and s not in self.v.deprecated and not s.startswith(OWL):
            reason = f"<{s}> is declared neither as an object property nor as a data property"
            return Draft(kind, f"{local_name(s)} {kind}", triple, (), unused=reason)
        return self.draft(kind, triple, lambda t: read(kind, t))

    def _sub_property(self, kind: str, triple: Triple) -> Draft:
        p, q = self.role(triple[0], triple), self.role(triple[2], triple)
        clause = Clause((_between(q),), (_between(p),))
        return Draft(kind, f"{p} SubPropertyOf {q}", triple, lambda: _telling(clause), _plain(p, q))

    def _equivalent_properties(self, kind: str, triple: Triple) -> Draft:
        p, q = self.role(triple[0], triple), self.role(triple[2], triple)
        there, back = (Clause((_between(b),), (_between(a),)) for a, b in ((p, q), (q, p)))
        return Draft(kind, f"{p} EquivalentTo {q}", triple, lambda: _telling(there, back), _plain(p, q))

    def _disjoint_properties(self, kind: str, triple: Triple) -> Draft:
        roles = [self.role(n, triple) for n in (triple[0], triple[2])]
        return Draft(kind, n_ary("Disjoint", "Properties", roles), triple, lambda: _disjoint_roles(roles))

    def _all_disjoint(self, triple: Triple) -> Draft:
        heads = self.t.objects(triple[0], OWL + "members")
        roles = [self.role(n, triple) for head in heads for n in self.t.members(head)]
        kind = "DisjointDataProperties" if any(r.datatype for r in roles) else "DisjointObjectProperties"
        return Draft(kind, n_ary("Disjoint", "Properties", roles), triple, lambda: _disjoint_roles(roles))

    def _domain(self, kind: str, triple: Triple) -> Draft:
        p = self.role(triple[0], triple)
        domain = self.expressions.read(triple[2], triple[0])
        return Draft(
            kind,
            f"{p} Domain {domain}",
            triple,
            lambda: inclusion(Some(p, And()), domain),
            isinstance(domain, Named) and _plain(p),
        )

    def _range(self, kind: str, triple: Triple) -> Draft:
        p = self.role(triple[0], triple)
        filler = self.expressions.filler(triple[2], p, triple[0])
        structural = isinstance(filler, Datatype) or (isinstance(filler, Named) and _plain(p))
        return Draft(kind, f"{p} Range {filler}", triple, lambda: inclusion(And(), All(p, filler)), structural)

    def _chain(self, kind: str, triple: Triple) -> Draft:
        whole = self.role(triple[0], triple)
        links = [self.role(n, triple) for n in self.t.members(triple[2])]
        along = [Term("X")] + [Term("YZUT"[i] if i < 4 else f"X{i}") for i in range(len(links))]
        body = tuple(link.atom(a, b) for link, a, b in zip(links, along[:-1], along[1:], strict=True))
        clause = Clause((whole.atom(along[0], along[-1]),), body)
        return Draft(kind, f"{' o '.join(map(str, links))} SubPropertyOf {whole}", triple, lambda: _telling(clause))

    def _inverse(self, kind: str, triple: Triple) -> Draft:
        p, q = self.role(triple[0], triple), self.role(triple[2], triple)
        there, back = (Clause((b.atom(_Y, _X),), (a.atom(_X, _Y),)) for a, b in ((p, q), (q, p)))
        return Draft(kind, f"{p} InverseOf {q}", triple, lambda: _telling(there, back), _plain(p, q))

    def _characteristics(self) -> Iterator[Draft]:
        for word, name in _CHARACTERISTICS.items():
            for s in self.t.instances(OWL + word):
                if s not in self.v.annotations:
                    kind = f"{name}{'Data' if s in self.v.data else 'Object'}Property"
                    yield self._of(kind, (s, TYPE, OWL + word), self._characteristic)

    def _characteristic(self, kind: str, triple: Triple) -> Draft:
        p, name = self.role(triple[0], triple), _CHARACTERISTICS[local_name(str(triple[2]))]
        forward, backward = p.atom(_X, _Y), p.atom(_Y, _X)
        text = f"{p} Characteristics {name}"
        if name in ("Functional", "InverseFunctional"):
            role = p if name == "Functional" else Role(p.name, not p.inverse, p.datatype)
            return Draft(kind, text, triple, lambda: inclusion(And(), Count("max", 1, role, And())))
        if name == "Irreflexive":
            return Draft(kind, text, triple, lambda: inclusion(Self(p), Or()))
        if name == "Reflexive":
            return Draft(kind, text, triple, lambda: inclusion(And(), Self(p)))
        clause = {
            "Symmetric": Clause((backward,), (forward,)),
            "Asymmetric": Clause((), (forward, backward)),
            "Transitive": Clause((p.atom(_X, _Z),), (forward, p.atom(_Y, _Z))),
        }[name]
        return Draft(kind, text, triple, lambda: [clause], name != "Asymmetric" and _plain(p))


def _between(role: Role) -> Atom:
    return role.atom(_X, Term("V") if role.datatype else _Y)


def _plain(*roles: Role) -> bool:
    return not any(r.inverse for r in roles)


def _telling(*clauses: Clause) -> list[Clause]:
    """The clauses whose head is not in their own body."""
    return [c for c in clauses if not set(c.head) <= set(c.body)]


def _disjoint_roles(roles: Iterable[Role]) -> list[Clause]:
    return [Clause((), (_between(p), _between(q))) for p, q in combinations(roles, 2)]
