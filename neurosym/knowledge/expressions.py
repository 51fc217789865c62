"""Class expressions and data ranges of OWL 2 as values: read from triples, printed in Manchester syntax, negated.

The reading follows tables 11 to 15 of the OWL 2 mapping to RDF graphs (https://www.w3.org/TR/owl2-mapping-to-rdf/). Three
spellings are folded into one: `r value a` is `r some {a}`, owl:Thing is the empty conjunction, owl:Nothing the empty
disjunction. A data range is an expression about a value instead of an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from neurosym.knowledge.triples import OWL, RDF, RDFS, XSD, Literal, Node, is_blank
from neurosym.knowledge.vocabulary import BOUNDS, NOTHING, THING, Unreadable, Vocabulary, local_name
from neurosym.logic import Atom, Term, number


@dataclass(frozen=True, slots=True)
class Role:
    """A property or the inverse of one; `datatype` is "" for an object property."""

    name: str
    inverse: bool = False
    datatype: str = ""

    def __str__(self) -> str:
        return f"inverse {self.name}" if self.inverse else self.name

    def atom(self, x: Term, y: Term) -> Atom:
        return Atom(self.name, (y, x) if self.inverse else (x, y))


@dataclass(frozen=True, slots=True)
class Named:
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Not:
    part: Expression

    def __str__(self) -> str:
        return f"not {_bracketed(self.part)}"


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Expression, ...] = ()

    def __str__(self) -> str:
        return " and ".join(map(_bracketed, self.parts)) or "owl:Thing"


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Expression, ...] = ()

    def __str__(self) -> str:
        return " or ".join(map(_bracketed, self.parts)) or "owl:Nothing"


@dataclass(frozen=True, slots=True)
class OneOf:
    members: tuple[Term, ...]

    def __str__(self) -> str:
        return "{" + ", ".join(map(str, self.members)) + "}"


@dataclass(frozen=True, slots=True)
class Some:
    role: Role
    filler: Expression

    def __str__(self) -> str:
        if isinstance(self.filler, OneOf) and len(self.filler.members) == 1:
            return f"{self.role} value {self.filler.members[0]}"
        return f"{self.role} some {_bracketed(self.filler)}"


@dataclass(frozen=True, slots=True)
class All:
    role: Role
    filler: Expression

    def __str__(self) -> str:
        return f"{self.role} only {_bracketed(self.filler)}"


@dataclass(frozen=True, slots=True)
class Self:
    role: Role

    def __str__(self) -> str:
        return f"{self.role} Self"


@dataclass(frozen=True, slots=True)
class Count:
    """`word` ("min", "max" or "exactly") `number` role successors in the filler."""

    word: str
    number: int
    role: Role
    filler: Expression

    def __str__(self) -> str:
        filler = "" if self.filler == And() else f" {_bracketed(self.filler)}"
        return f"{self.role} {self.word} {self.number}{filler}"


@dataclass(frozen=True, slots=True)
class Datatype:
    """A named datatype; `holds` says whether the values of the property in question are all of it, or none."""

    name: str
    holds: bool = True

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Facet:
    """A bound on a number; the operator is spelled as in rules."""

    operator: str
    value: Term

    def __str__(self) -> str:
        return f"[{self.operator} {self.value}]"


Expression: TypeAlias = Named | Not | And | Or | OneOf | Some | All | Self | Count | Datatype | Facet

_FACETS: Final = {"minInclusive": ">=", "maxInclusive": "=<", "minExclusive": ">", "maxExclusive": "<"}
OPPOSITE: Final = {">=": "<", "=<": ">", ">": "=<", "<": ">="}
_CARDINALITIES: Final = {
    "minCardinality": "min",
    "maxCardinality": "max",
    "cardinality": "exactly",
    "minQualifiedCardinality": "min",
    "maxQualifiedCardinality": "max",
    "qualifiedCardinality": "exactly",
}


def _bracketed(e: Expression) -> str:
    plain = isinstance(e, Named | OneOf | Datatype | Facet) or (isinstance(e, And | Or) and len(e.parts) < 2)
    return str(e) if plain else f"({e})"


def complement(e: Expression) -> Expression:
    """The negation, pushed one step inwards where it can be."""
    match e:
        case Not(part):
            return part
        case And(parts):
            return Or(tuple(map(complement, parts)))
        case Or(parts):
            return And(tuple(map(complement, parts)))
        case Some(role, filler):
            return All(role, complement(filler))
        case All(role, filler):
            return Some(role, complement(filler))
        case Count("min", n, role, filler):
            return Count("max", n - 1, role, filler) if n else Or()
        case Count("max", n, role, filler):
            return Count("min", n + 1, role, filler)
        case Count(_, n, role, filler):
            return Or(tuple(complement(Count(word, n, role, filler)) for word in ("min", "max")))
        case Datatype(name, holds):
            return Datatype(name, not holds)
        case Facet(operator, value):
            return Facet(OPPOSITE[operator], value)
    return Not(e)


class ExpressionReader:
    """Reads the expressions of one ontology; a term that is not declared becomes a problem of the vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary, self.triples = vocabulary, vocabulary.triples
        self._open: list[str] = []

    def read(self, node: Node, about: str) -> Expression:
        """The class expression at a node of an axiom about the IRI `about`.

        Raises:
            Unreadable: with the reason, a plain clause.
        """
        if not isinstance(node, str):
            raise Unreadable(f"the literal {node.value!r} stands where a class is expected")
        if not is_blank(node):
            return self._named(node, about)
        if node in self._open:
            raise Unreadable("a class expression contains itself")
        self._open.append(node)
        try:
            return self.built(node, about)
        finally:
            self._open.pop()

    def role(self, node: Node, about: str) -> Role:
        """The property at a node, or the inverse of one."""
        v = self.vocabulary
        if not isinstance(node, str):
            raise Unreadable(f"the literal {node.value!r} stands where a property is expected")
        if is_blank(node):
            inverted = self.triples.value(node, OWL + "inverseOf")
            if inverted is None or is_blank(inverted):
                raise Unreadable("a property expression is neither a property nor the inverse of one")
            role = self.role(inverted, about)
            return Role(role.name, not role.inverse)
        if node in v.objects:
            return Role(v.objects[node])
        if node in v.data:
            return Role(v.data[node], datatype=v.datatype(node))
        if node in v.deprecated:
            raise Unreadable(f"property <{node}> is deprecated")
        if node.startswith(OWL):
            raise Unreadable(f"owl:{local_name(node)} relates everything or nothing")
        message = f"property <{node}> in an axiom about {self._name(about)} is not declared"
        v.undeclared(message, node, (*v.objects.values(), *v.data.values()), about)
        raise Unreadable(f"property <{node}> is not declared")

    def data_range(self, node: Node, role: Role, about: str) -> Expression:
        """The data range at a node, for the values of a data property."""
        t = self.triples
        if not isinstance(node, str):
            raise Unreadable(f"the literal {node.value!r} stands where a datatype is expected")
        if node in self._open:
            raise Unreadable("a data range contains itself")
        self._open.append(node)
        try:
            for head in t.objects(node, OWL + "oneOf"):
                return OneOf(tuple(self.vocabulary.literal(m, role.datatype) for m in t.members(head)))
            for word, kind in (("intersectionOf", And), ("unionOf", Or)):
                for head in t.objects(node, OWL + word):
                    return kind(tuple(self.data_range(m, role, about) for m in t.members(head)))
            for part in t.objects(node, OWL + "datatypeComplementOf"):
                return Not(self.data_range(part, role, about))
            for base in t.objects(node, OWL + "onDatatype"):
                facets = (f for head in t.objects(node, OWL + "withRestrictions") for f in t.members(head))
                return And((self.data_range(base, role, about), *(self._facet(str(f), role) for f in facets)))
            for defined in t.objects(node, OWL + "equivalentClass"):
                return self.data_range(defined, role, about)
            return self._datatype(node, role)
        finally:
            self._open.pop()

    def _name(self, about: str) -> str:
        return repr(self.vocabulary.names.get(about) or local_name(about)) if about else "several classes"

    def _named(self, node: str, about: str) -> Expression:
        v = self.vocabulary
        if node in v.classes:
            return Named(v.classes[node])
        if node == THING:
            return And()
        if node == NOTHING:
            return Or()
        if node in v.deprecated:
            raise Unreadable(f"class <{node}> is deprecated")
        message = f"class <{node}> in an axiom about {self._name(about)} is not declared"
        v.undeclared(message, node, v.classes.values(), about)
        raise Unreadable(f"class <{node}> is not declared")

    def built(self, node: str, about: str) -> Expression:
        """The expression that a node is made of, though it may have a name as well."""
        t = self.triples
        for word, kind in (("intersectionOf", And), ("unionOf", Or)):
            for head in t.objects(node, OWL + word):
                return kind(tuple(self.read(m, about) for m in t.members(head)))
        for part in t.objects(node, OWL + "complementOf"):
            return Not(self.read(part, about))
        for head in t.objects(node, OWL + "oneOf"):
            return OneOf(tuple(map(self.vocabulary.individual, t.members(head))))
        on = t.value(node, OWL + "onProperty")
        if on is None:
            many = t.value(node, OWL + "onProperties") is not None
            raise Unreadable("it restricts several properties at once" if many else "a class expression is incomplete")
        return self._restriction(node, self.role(on, about), about)

    def _restriction(self, node: str, role: Role, about: str) -> Expression:
        t = self.triples
        for word, kind in (("someValuesFrom", Some), ("allValuesFrom", All)):
            for filler in t.objects(node, OWL + word):
                return kind(role, self.filler(filler, role, about))
        for value in t.objects(node, OWL + "hasValue"):
            return Some(role, OneOf((self.value(value, role),)))
        if t.objects(node, OWL + "hasSelf"):
            return Self(role)
        for word, short in _CARDINALITIES.items():
            for literal in t.objects(node, OWL + word):
                if not isinstance(literal, Literal) or not literal.value.strip().isdigit():
                    raise Unreadable("a cardinality is not a whole number")
                on = t.value(node, OWL + "onClass") or t.value(node, OWL + "onDataRange")
                counted = And() if on is None else self.filler(on, role, about)
                return Count(short, int(literal.value), role, counted)
        raise Unreadable(f"the restriction on {role} is incomplete")

    def filler(self, node: Node, role: Role, about: str) -> Expression:
        """What a property's objects, or its values, are said to be."""
        return self.data_range(node, role, about) if role.datatype else self.read(node, about)

    def value(self, node: Node, role: Role) -> Term:
        """An individual, or the value of a data property."""
        return self.vocabulary.literal(node, role.datatype) if role.datatype else self.vocabulary.individual(node)

    def _facet(self, node: str, role: Role) -> Expression:
        for facet, operator in _FACETS.items():
            for bound in self.triples.objects(node, XSD + facet):
                value = self.vocabulary.literal(bound, role.datatype)
                if role.datatype not in ("integer", "decimal") or value.datatype == "string":
                    raise Unreadable(f"{role} is not numeric, and only numbers are compared by size")
                return Facet(operator, value)
        raise Unreadable(
            "only the facets minInclusive, maxInclusive, minExclusive and maxExclusive can be said by a rule"
        )

    def _datatype(self, node: str, role: Role) -> Expression:
        name, family = local_name(node), self.vocabulary.family(node)
        declared = self.vocabulary.declared_ranges(role.name)
        if node == RDFS + "Literal" or node in declared:
            holds = True
        elif role.datatype == "decimal" and family == "integer":
            raise Unreadable(f"no rule can tell whether a value of {role} is a whole number")
        elif family == role.datatype == "string" and node not in (XSD + "string", RDF + "PlainLiteral"):
            raise Unreadable(f"values of {name} are kept as text")
        else:
            holds = family == role.datatype or (family, role.datatype) == ("decimal", "integer")
        low, high = BOUNDS.get(name, (None, None)) if node.startswith(XSD) else (None, None)
        bounds: Sequence[tuple[str, int | None]] = ((">=", low), ("=<", high))
        facets = tuple(Facet(op, number(bound)) for op, bound in bounds if bound is not None)
        return And((Datatype(name, holds), *facets)) if facets else Datatype(name, holds)
