"""SPARQL queries of SHACL rules as parts of a rule: the parse tree of rdflib, walked; nothing is guessed from the text.

What is understood: triple patterns, `rdf:type/rdfs:subClassOf*`, FILTER with comparisons and arithmetic, BIND, and
FILTER NOT EXISTS with one pattern (negation), or with the whole head (the test for an existing witness). Anything else is
refused by its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from neurosym.knowledge.exchange.formats import Context, Inexpressible, name_of
from neurosym.knowledge.exchange.turtle import value_term
from neurosym.knowledge.statements import LONGEST
from neurosym.knowledge.triples import RDF, RDFS, XSD, Literal
from neurosym.logic import Atom, Comparison, Condition, Expression, Negation, Operand, Term

_MOST_OPERATORS = 100
_COMPARED = {"<": "<", "<=": "=<", ">": ">", ">=": ">=", "=": "=:="}


@dataclass(slots=True)
class Group:
    """A group graph pattern: its triple patterns, its conditions, and the groups that must not exist."""

    atoms: list[Atom] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    absent: list[tuple[int, Group]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Query:
    """A CONSTRUCT or SELECT query: what it makes (nothing), where; `focus` is the variable that `$this` is bound to."""

    template: tuple[Atom, ...]
    where: Group
    focus: Term
    blanks: frozenset[Term]


def read_query(text: str, prefixes: Mapping[str, str], context: Context) -> Query:
    """Parse a query.

    Raises:
        Inexpressible: it is not SPARQL, or says what a rule cannot.
    """
    from rdflib.plugins.sparql.algebra import translatePath, translatePName, translatePrologue, traverse
    from rdflib.plugins.sparql.parser import parseQuery

    if len(text) > LONGEST:
        raise Inexpressible(f"the query is longer than {LONGEST} characters")
    try:
        prologue, tree = parseQuery(text)
        names = translatePrologue(prologue, None, dict(prefixes))
        tree = traverse(tree, visitPost=partial(translatePName, prologue=names))
        tree = traverse(tree, visitPost=translatePath)
    except RecursionError:
        raise Inexpressible("the query is nested too deeply") from None
    except Exception as error:  # pyparsing and rdflib have no common base; a prefix may be undeclared
        raise Inexpressible(f"the query is not SPARQL: {' '.join(str(error).split())}") from error
    reader = _Reader(context)
    if tree.name not in ("ConstructQuery", "SelectQuery") or any(k in tree for k in _MODIFIERS) or tree.where is None:
        raise Inexpressible("the query is not a plain CONSTRUCT or SELECT with a WHERE part")
    where = reader.group(tree.where)
    template = tuple(reader.triples(tree.template or (), in_template=True)) if tree.name == "ConstructQuery" else ()
    return Query(template, where, reader.focus, frozenset(reader.blanks))


_MODIFIERS = ("groupby", "having", "limitoffset", "datasetClause", "valuesClause")


class _Reader:
    """Reads one parse tree."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.focus = Term("This")
        self.blanks: set[Term] = set()

    def group(self, node: Any) -> Group:
        found = Group()
        if getattr(node, "name", "") != "GroupGraphPatternSub":
            raise Inexpressible(f"{_shown(node)} is not part of what rules here can say")
        for part in node.part or ():
            if part.name == "TriplesBlock":
                found.atoms += self.triples(part.triples)
            elif part.name == "Filter":
                self._filter(part.expr, found)
            elif part.name == "Bind":
                self._bind(part, found)
            else:
                raise Inexpressible(f"{_shown(part)} is not part of what rules here can say")
        return found

    def triples(self, blocks: Any, in_template: bool = False) -> Iterator[Atom]:
        flat = [term for block in blocks for term in block]
        blanks = Counter(str(t) for t in flat if type(t).__name__ == "BNode")
        if not in_template and any(count > 1 for count in blanks.values()):
            raise Inexpressible("a blank node stands twice in a pattern; use a variable")
        for subject, predicate, other in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            yield self._triple(subject, predicate, other, in_template)

    def _triple(self, subject: Any, predicate: Any, other: Any, in_template: bool) -> Atom:
        if _is_type(predicate) or (_is_type_path(predicate) and not in_template):
            if type(other).__name__ != "URIRef":
                raise Inexpressible("rdf:type of something that is not a class by name")
            return Atom(self._predicate(other), (self._object(subject, in_template),))
        if type(predicate).__name__ != "URIRef":
            raise Inexpressible(f"the path {predicate} is not a property by name")
        return Atom(self._predicate(predicate), (self._object(subject, in_template), self._term(other, in_template)))

    def _predicate(self, iri: Any) -> str:
        try:
            return self.context.names[str(iri)]
        except KeyError:
            raise Inexpressible(f"<{iri}> is not declared in the ontology") from None

    def _object(self, node: Any, in_template: bool) -> Term:
        term = self._term(node, in_template)
        if term.datatype:
            raise Inexpressible(f"the value {term} stands where an object belongs")
        return term

    def _term(self, node: Any, in_template: bool = False) -> Term:
        kind = type(node).__name__
        if kind == "Variable":
            return self.focus if str(node) == "this" else Term(_variable(str(node)))
        if kind == "BNode":
            blank = Term(_variable(str(node))) if in_template else Term("_")
            if in_template:
                self.blanks.add(blank)
            return blank
        if kind == "URIRef":
            iri = str(node)
            return Term(self.context.names[iri] if iri in self.context.names else name_of(iri), False)
        if kind == "Literal":
            term = value_term(Literal(str(node), str(node.datatype or XSD + "string"), node.language or ""))
            if term is not None:
                return term
        raise Inexpressible(f"the value {_shown(node)} is of a type that rules do not have")

    def _bind(self, part: Any, found: Group) -> None:
        value = self._operand(part.expr)
        if value == self.focus and self.focus == Term("This"):
            self.focus = Term(_variable(str(part.var)))
        else:
            found.conditions.append(Comparison("is", Term(_variable(str(part.var))), value))

    def _filter(self, node: Any, found: Group) -> None:
        node = _bare(node)
        name = getattr(node, "name", "")
        if name == "ConditionalAndExpression":
            for each in (node.expr, *node.other):
                self._filter(each, found)
        elif name == "Builtin_NOTEXISTS":
            found.absent.append((len(found.conditions), self.group(node.graph)))
        elif name == "UnaryNot":
            inner = _bare(node.expr)
            if getattr(inner, "name", "") != "RelationalExpression" or inner.op != "=":
                raise Inexpressible(f"! of {_shown(inner)}")
            found.conditions.append(Comparison("=\\=", self._operand(inner.expr), self._operand(inner.other)))
        elif name == "RelationalExpression":
            found.conditions.append(self._comparison(node))
        elif name != "Builtin_BOUND":
            raise Inexpressible(f"FILTER with {_shown(node)} is not part of what rules here can say")

    def _comparison(self, node: Any) -> Comparison:
        if node.op not in (*_COMPARED, "!="):
            raise Inexpressible(f"FILTER with {node.op} is not part of what rules here can say")
        left, right = self._operand(node.expr), self._operand(node.other)
        terms = [side for side in (left, right) if isinstance(side, Term)]
        if node.op == "!=":
            return Comparison("\\=" if len(terms) == 2 else "=\\=", left, right)
        if any(not t.is_variable and not t.datatype for t in terms):
            raise Inexpressible(f"FILTER compares the object {terms[-1]} by {node.op}; write it in the pattern")
        return Comparison(_COMPARED[node.op], left, right)

    def _operand(self, node: Any) -> Operand:
        node = _bare(node)
        name = getattr(node, "name", "")
        if not name:
            return self._term(node)
        if name in ("AdditiveExpression", "MultiplicativeExpression"):
            value = self._operand(node.expr)
            if len(node.op) > _MOST_OPERATORS:
                raise Inexpressible(f"a calculation has more than {_MOST_OPERATORS} operators")
            for operator, other in zip(node.op, node.other, strict=True):
                value = Expression(str(operator), (value, self._operand(other)))
            return value
        if name == "UnaryMinus":
            value = self._operand(node.expr)
            if isinstance(value, Term) and value.datatype in ("integer", "decimal") and value.name[0] != "-":
                return replace(value, name=f"-{value.name}")
            return Expression("-", (value,))
        if name == "Builtin_ABS":
            return Expression("abs", (self._operand(node.arg),))
        raise Inexpressible(f"{_shown(node)} is not part of what rules here can compute")


def negations(group: Group, witness: Group | None) -> tuple[Condition, ...]:
    """The conditions of a group with its absent groups, other than `witness`, as negations in their places."""
    conditions: list[Condition] = list(group.conditions)
    for place, absent in reversed(group.absent):
        if absent is witness:
            continue
        if len(absent.atoms) != 1 or absent.conditions or absent.absent:
            raise Inexpressible("NOT EXISTS of several things at once; name them by a rule of their own")
        conditions.insert(place, Negation(absent.atoms[0]))
    return tuple(conditions)


def _bare(node: Any) -> Any:
    """The expression within the layers that the grammar wraps around it."""
    layers = (
        "ConditionalOrExpression",
        "ConditionalAndExpression",
        "RelationalExpression",
        "AdditiveExpression",
        "MultiplicativeExpression",
    )
    while getattr(node, "name", "") in layers and not node.other:
        node = node.expr
    return node


def _is_type(predicate: Any) -> bool:
    return type(predicate).__name__ == "URIRef" and str(predicate) == RDF + "type"


def _is_type_path(predicate: Any) -> bool:
    steps: Any = getattr(predicate, "args", ())
    return (
        type(predicate).__name__ == "SequencePath"
        and len(steps) == 2
        and _is_type(steps[0])
        and type(steps[1]).__name__ == "MulPath"
        and steps[1].mod == "*"
        and str(steps[1].path) == RDFS + "subClassOf"
    )


def _variable(name: str) -> str:
    """A name that can stand for a variable in a rule: `?size` as Size."""
    return name[:1].upper() + name[1:] if name[:1].isalpha() else f"_{name.removeprefix('_')}"


def _shown(node: Any) -> str:
    return str(getattr(node, "name", node)).removesuffix("GraphPattern").removeprefix("Builtin_")
