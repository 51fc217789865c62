"""SHACL rules (SHACL Advanced Features, W3C Note 2017) as rules: `shacl_export` writes what is read here.

A node shape is read with each `sh:rule` (a SPARQL rule, or a triple rule with nodes and one-step paths) and each `sh:sparql`
constraint; its target is one more body atom where the query does not have it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from neurosym.errors import Problem
from neurosym.knowledge.exchange.explicit import differ, objects, understood
from neurosym.knowledge.exchange.formats import Context, Inexpressible, name_of
from neurosym.knowledge.exchange.shacl_export import EQUAL
from neurosym.knowledge.exchange.sparql import Group, Query, negations, read_query
from neurosym.knowledge.exchange.turtle import LABEL, annotations_of, line_of, literals_about, read_turtle, value_term
from neurosym.knowledge.triples import OWL, RDFS, SH, TYPE, XSD, Literal, Node, Triples, is_iri
from neurosym.logic import Atom, Comparison, Rule, Term

_TARGETS = ("targetClass", "targetSubjectsOf", "targetObjectsOf", "targetNode", "target")


def load(text: str, file: str, context: Context) -> tuple[tuple[Rule, ...], list[Problem]]:
    """The rules and constraints of a Turtle text of shapes."""
    triples, problems = read_turtle(text, file)
    carriers = [(s, o, kind) for kind in ("rule", "sparql") for s, o in triples.pairs(SH + kind)]
    order = {shape: n for n, shape in enumerate(triples.instances(SH + "NodeShape"))}
    carriers.sort(key=lambda carrier: order.get(carrier[0], len(order)))
    shapes = literals_about(triples, {shape for shape, _, _ in carriers})
    rules = []
    for shape, node, kind in carriers:
        label = next((value.value for predicate, value in shapes[shape] if predicate == LABEL), "")
        line = line_of(text, label)
        try:
            rule = _Reader(triples, context, shape).rule(str(node), kind, shapes[shape])
            rules.append(replace(rule, file=file, line=line))
        except (Inexpressible, ValueError) as reason:
            problems.append(Problem(f"SHACL {kind} {label!r}: {reason}", file, line))
    return tuple(rules), problems


class _Reader:
    """Reads one rule or constraint of a shape."""

    def __init__(self, triples: Triples, context: Context, shape: str) -> None:
        self.triples, self.context, self.shape = triples, context, shape

    def rule(self, node: str, kind: str, about: Sequence[tuple[str, Literal]]) -> Rule:
        weight, is_marked, meta = annotations_of(about)
        for each in (self.shape, node):
            if self.triples.value(each, SH + "deactivated") == Literal("true", XSD + "boolean"):
                raise Inexpressible("it is deactivated")
        if self.triples.objects(node, SH + "condition"):
            raise Inexpressible("sh:condition; write the condition into the query")
        query = self._query(node, kind)
        witness = self._witness(query)
        body = self._with_target(tuple(query.where.atoms), query.focus)
        conditions = negations(query.where, witness)
        rule = Rule(query.template, body, weight, meta, conditions=conditions, distinct=False)
        if kind == "rule" and not query.template:
            raise Inexpressible("the query makes nothing")
        if loose := [v for v in rule.existential if v not in query.blanks]:
            raise Inexpressible(f"the pattern does not bind {loose[0]}")
        found = rule if is_marked else understood(rule, self.context.measurements)
        if rule.existential:
            found = self._existential(rule, found, witness)
        is_equality = self.triples.value(self.shape, EQUAL) == Literal("true", XSD + "boolean")
        return _equality(found) if is_equality and kind == "sparql" else found

    def _query(self, node: str, kind: str) -> Query:
        types = self.triples.objects(node, TYPE)
        if SH + "TripleRule" in types:
            return self._triple_rule(node)
        text = self.triples.value(node, SH + ("construct" if kind == "rule" else "select"))
        if not isinstance(text, Literal):
            raise Inexpressible(
                "it is neither a SPARQL rule nor a triple rule" if kind == "rule" else "it has no sh:select"
            )
        declared: dict[str, str] = {}
        for holder in self.triples.objects(node, SH + "prefixes"):
            for entry in self.triples.objects(str(holder), SH + "declare"):
                prefix, namespace = (self.triples.value(str(entry), SH + role) for role in ("prefix", "namespace"))
                if isinstance(prefix, Literal) and namespace is not None:
                    declared[prefix.value] = namespace.value if isinstance(namespace, Literal) else namespace
        return read_query(text.value, declared, self.context)

    def _triple_rule(self, node: str) -> Query:
        """`sh:subject`, `sh:predicate`, `sh:object`, each a node, `sh:this`, or a path of one step from it."""
        where, focus = Group(), Term("This")
        terms: list[Term] = []
        predicate = self.triples.value(node, SH + "predicate")
        for role in ("subject", "object"):
            value = self.triples.value(node, SH + role)
            path = self.triples.value(value, SH + "path") if isinstance(value, str) else None
            if value == SH + "this":
                terms.append(focus)
            elif isinstance(path, str) and is_iri(path):
                terms.append(Term(role.capitalize()))
                where.atoms.append(Atom(self._name(path), (focus, terms[-1])))
            elif predicate == TYPE and role == "object" and isinstance(value, str) and is_iri(value):
                return Query((Atom(self._name(value), (terms[0],)),), where, focus, frozenset())
            else:
                terms.append(self._constant(value, role))
        if not isinstance(predicate, str) or terms[0].datatype:
            raise Inexpressible("a triple rule needs an object for sh:subject and a property for sh:predicate")
        return Query((Atom(self._name(predicate), tuple(terms)),), where, focus, frozenset())

    def _constant(self, value: Node | None, role: str) -> Term:
        if isinstance(value, Literal):
            term = value_term(value)
            if term is not None:
                return term
        elif value is not None and is_iri(value):
            return Term(self.context.names[value] if value in self.context.names else name_of(value), False)
        raise Inexpressible(f"sh:{role} is not a node or a path of one step")

    def _name(self, iri: str) -> str:
        try:
            return self.context.names[iri]
        except KeyError:
            raise Inexpressible(f"<{iri}> is not declared in the ontology") from None

    def _with_target(self, body: tuple[Atom, ...], focus: Term) -> tuple[Atom, ...]:
        found = [(t, str(o)) for t in _TARGETS for o in self.triples.objects(self.shape, SH + t)]
        if not found and {OWL + "Class", RDFS + "Class"} & set(map(str, self.triples.objects(self.shape, TYPE))):
            found = [("targetClass", self.shape)]
        if len(found) != 1 or found[0][0] not in _TARGETS[:3]:
            kinds = ", ".join(f"sh:{t}" for t, _ in found) or "none"
            raise Inexpressible(
                f"the shape has the targets {kinds}; expected one class, or the subjects or objects of a property"
            )
        kind, iri = found[0]
        name = self._name(iri)
        if kind == "targetClass":
            atom = Atom(name, (focus,))
            return body if atom in body else (atom, *body)
        place = 0 if kind == "targetSubjectsOf" else 1
        if any(a.predicate == name and len(a.args) == 2 and a.args[place] == focus for a in body):
            return body
        taken = {v for a in body for v in a.variables}
        other = next(v for v in map(Term, map("_{}".format, range(1, len(taken) + 2))) if v not in taken)
        return (Atom(name, (focus, other) if place == 0 else (other, focus)), *body)

    def _witness(self, query: Query) -> Group | None:
        if not query.blanks:
            return None
        for _, group in reversed(query.where.absent):
            if set(group.atoms) == set(query.template):
                return group
        raise Inexpressible("a blank node is made anew by each run; add FILTER NOT EXISTS { the same with variables }")

    def _existential(self, rule: Rule, found: Rule, witness: Group | None) -> Rule:
        """The rule is `distinct` only if its witness is kept apart from the objects of the body as well."""
        assert witness is not None
        known, unknown = objects(rule, self.context.measurements), rule.existential
        wanted = {differ(u, k) for u in unknown for k in known} | {differ(a, b) for a, b in combinations(unknown, 2)}
        kept = set(witness.conditions)
        if witness.absent or kept - wanted or (kept and kept != wanted) or (kept and not found.distinct):
            raise Inexpressible("the test for a witness keeps only some of the variables apart")
        return found if kept or not wanted else replace(rule, distinct=False)


def _equality(rule: Rule) -> Rule:
    """A constraint that is marked: its last inequality is the head."""
    last = rule.conditions[-1] if rule.conditions else None
    if not isinstance(last, Comparison) or last.operator != "\\=":
        raise Inexpressible("ns:equal is said of a constraint that does not end with an inequality")
    assert isinstance(last.left, Term)
    assert isinstance(last.right, Term)
    return replace(rule, head=(Atom("=", (last.left, last.right)),), conditions=rule.conditions[:-1])
