"""SWRL rules (W3C member submission, 21 May 2004) in RDF: reading them, from an ontology or from a Turtle text.

Class atoms, property atoms with individuals or values, equality and difference of individuals, and the built-ins that compare
and compute. A head that is empty, or says owl:Nothing, means that the body never holds. `swrl_export` writes what is read
here; a variable below `urn:neurosym:part#` names a part of a larger calculation and is put back in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from neurosym.errors import Problem, did_you_mean
from neurosym.knowledge.exchange.explicit import binds, differ, understood
from neurosym.knowledge.exchange.formats import Context, Inexpressible, name_of
from neurosym.knowledge.exchange.turtle import LABEL, annotations_of, line_of, literals_about, read_turtle, value_term
from neurosym.knowledge.triples import OWL, SWRL, TYPE, Literal, Node, Triples, is_iri
from neurosym.logic import Atom, Comparison, Condition, Expression, Operand, Rule, Term

SWRLB = "http://www.w3.org/2003/11/swrlb#"
PART = "urn:neurosym:part#"
COMPARED = {
    "greaterThan": ">",
    "greaterThanOrEqual": ">=",
    "lessThan": "<",
    "lessThanOrEqual": "=<",
    "equal": "=:=",
    "notEqual": r"=\=",
}
COMPUTED = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "unaryMinus": "-", "abs": "abs"}
_MOST_PARTS = 100
_ENABLED = "http://swrl.stanford.edu/ontologies/3.3/swrla.owl#isRuleEnabled"


def load(text: str, file: str, context: Context) -> tuple[tuple[Rule, ...], list[Problem]]:
    """The SWRL rules of a Turtle text; one with an inequality for every pair of objects is `distinct`."""
    triples, problems = read_turtle(text, file)
    about = literals_about(triples, triples.instances(SWRL + "Imp"))
    data = {
        triples.value(atom, SWRL + "propertyPredicate") for atom in triples.instances(SWRL + "DatavaluedPropertyAtom")
    }
    measurements = frozenset(
        context.names[p] for p in data if isinstance(p, str) and (p in context.names or not context.is_closed)
    )
    rules = []
    for node, found in rules_of(triples, context.names):
        label = next((value.value for predicate, value in about[node] if predicate == LABEL), "")
        line = line_of(text, label)
        if isinstance(found, Rule):
            is_marked = annotations_of(about[node])[1]
            rule = found if is_marked else understood(found, measurements)
            rules.append(replace(rule, file=file, line=line))
        else:
            problems.append(Problem(f"SWRL rule {label!r}: {found}", file, line))
    return tuple(rules), problems


def rules_of(triples: Triples, names: Mapping[str, str]) -> Iterator[tuple[str, Rule | str]]:
    """Each `swrl:Imp` with its rule as it stands there (not `distinct`), or with the reason why it cannot be read.

    `names` maps the IRIs of classes and properties (and of individuals, where they have one) to the names used in rules.
    """
    imps = triples.instances(SWRL + "Imp")
    about = literals_about(triples, imps)
    for imp in imps:
        try:
            if any(predicate == _ENABLED and value.value in ("false", "0") for predicate, value in about[imp]):
                raise Inexpressible("it is disabled (swrla:isRuleEnabled false)")
            yield imp, _Reader(triples, names).rule(imp, about[imp])
        except (Inexpressible, ValueError) as reason:
            yield imp, str(reason)


class _Reader:
    """Reads one rule."""

    def __init__(self, triples: Triples, names: Mapping[str, str]) -> None:
        self.triples, self.names = triples, names
        self.variables: dict[str, Term] = {}
        self.parts: dict[Term, Expression] = {}

    def rule(self, imp: str, about: Sequence[tuple[str, Literal]]) -> Rule:
        weight, _, meta = annotations_of(about)
        body_nodes, head_nodes = self._atoms(imp, "body"), self._atoms(imp, "head")
        body: list[Atom] = []
        later: list[str] = []
        for node in body_nodes:
            kind = self._kind(node)
            if kind in ("BuiltinAtom", "DifferentIndividualsAtom"):
                later.append(node)
            elif kind == "SameIndividualAtom":
                raise Inexpressible("sameAs in a body; use one variable twice instead")
            else:
                body.append(self._atom(node, kind))
        conditions: list[Condition] = []
        for node in later:
            conditions += self._condition(node, body, conditions)
        head = tuple(self._atom(node, self._kind(node)) for node in head_nodes if not self._is_false(node))
        if not body_nodes and not head:
            raise Inexpressible("it has neither body nor head")
        if head and len(head) < len(head_nodes):
            raise Inexpressible("its head has owl:Nothing beside other atoms")
        rule = Rule(head, tuple(body), weight, meta, conditions=tuple(conditions), distinct=False)
        if rule.existential:
            raise Inexpressible(f"its body does not bind {rule.existential[0]}")
        return rule

    def _atoms(self, imp: str, part: str) -> list[str]:
        start = self.triples.value(imp, SWRL + part)
        nodes = self.triples.members(start) if start is not None else ()
        if not all(isinstance(node, str) for node in nodes):
            raise Inexpressible(f"swrl:{part} holds a literal")
        return [str(node) for node in nodes]

    def _kind(self, node: str) -> str:
        kinds = [str(k).removeprefix(SWRL) for k in self.triples.objects(node, TYPE) if str(k).startswith(SWRL)]
        return kinds[0] if kinds else "untyped atom"

    def _is_false(self, node: str) -> bool:
        return self.triples.value(node, SWRL + "classPredicate") == OWL + "Nothing"

    def _atom(self, node: str, kind: str) -> Atom:
        if kind == "ClassAtom":
            return Atom(self._predicate(node, "classPredicate"), (self._object(node, 1),))
        if kind == "IndividualPropertyAtom":
            return Atom(self._predicate(node, "propertyPredicate"), (self._object(node, 1), self._object(node, 2)))
        if kind == "DatavaluedPropertyAtom":
            name = self._predicate(node, "propertyPredicate")
            return Atom(name, (self._object(node, 1), self._value(self._one(node, "argument2"))))
        if kind == "SameIndividualAtom":
            return Atom("=", (self._object(node, 1), self._object(node, 2)))
        raise Inexpressible(f"a {kind} is not part of the rule language here")

    def _condition(self, node: str, body: list[Atom], before: list[Condition]) -> list[Condition]:
        if self._kind(node) == "DifferentIndividualsAtom":
            return [differ(self._object(node, 1), self._object(node, 2))]
        iri = str(self._one(node, "builtin"))
        name = iri.removeprefix(SWRLB)
        arguments = [self._value(a) for a in self.triples.members(self._one(node, "arguments"))]
        least, most = (2, 2) if name in COMPARED or name in ("abs", "unaryMinus") else (3, 3)
        most = 99 if name in ("add", "multiply") else most
        if name not in COMPARED and name not in COMPUTED:
            raise Inexpressible(
                f"the built-in <{iri}> has no counterpart; {did_you_mean(name, (*COMPARED, *COMPUTED))}"
            )
        if not least <= len(arguments) <= most:
            raise Inexpressible(f"swrlb:{name} takes {least} arguments; found {len(arguments)}")
        result, *operands = (self._whole(a) for a in arguments)
        if name in COMPARED:
            operator = "is" if name == "equal" and binds(body, before, result) else COMPARED[name]
            return [Comparison(operator, result, operands[0])]
        computed = Expression(COMPUTED[name], tuple(operands[:2] if least == 3 else operands))
        for operand in operands[2:]:
            computed = Expression(COMPUTED[name], (computed, operand))
        if arguments[0].is_variable and arguments[0].name.startswith(PART):
            if len(self.parts) == _MOST_PARTS:
                raise Inexpressible(f"its calculations have more than {_MOST_PARTS} parts")
            self.parts[arguments[0]] = computed
            return []
        return [Comparison("is" if binds(body, before, result) else "=:=", result, computed)]

    def _whole(self, term: Term) -> Operand:
        return self.parts.get(term, term)

    def _one(self, node: str, role: str) -> Node:
        value = self.triples.value(node, SWRL + role)
        if value is None:
            raise Inexpressible(f"an atom lacks swrl:{role}")
        return value

    def _predicate(self, node: str, role: str) -> str:
        iri = self._one(node, role)
        if not isinstance(iri, str) or not is_iri(iri):
            raise Inexpressible("an atom is about a class expression; name the class")
        try:
            return self.names[iri]
        except KeyError:
            local = re.split(r"[#/:]", iri)[-1]
            raise Inexpressible(f"<{iri}> is not declared; {did_you_mean(local, self.names.values())}") from None

    def _object(self, node: str, place: int) -> Term:
        argument = self._one(node, f"argument{place}")
        if isinstance(argument, Literal):
            raise Inexpressible(f"the value {argument.value!r} stands where an individual belongs")
        if SWRL + "Variable" in self.triples.objects(argument, TYPE):
            return self._variable(argument)
        if not is_iri(argument):
            raise Inexpressible("an atom is about an individual without a name")
        return Term(self.names[argument] if argument in self.names else name_of(argument), False)

    def _value(self, argument: Node) -> Term:
        if isinstance(argument, Literal):
            term = value_term(argument)
            if term is None:
                raise Inexpressible(
                    f"the value {argument.value!r} is of type <{argument.datatype}>, which rules do not have"
                )
            return term
        if SWRL + "Variable" not in self.triples.objects(argument, TYPE):
            raise Inexpressible(f"<{argument}> stands where a value belongs")
        return self._variable(argument)

    def _variable(self, iri: str) -> Term:
        """`urn:swrl:var#x` as X; a name that is taken already gets a number."""
        if iri.startswith(PART):
            return Term(iri)
        if iri not in self.variables:
            local = re.sub(r"\W", "_", re.split(r"[#/:]", iri)[-1], flags=re.ASCII)
            stem = local[:1].upper() + local[1:] if local[:1].isalpha() else f"_{local.removeprefix('_')}"
            taken = {v.name for v in self.variables.values()}
            choices = (stem, *(f"{stem}_{n}" for n in range(2, len(taken) + 3)))
            self.variables[iri] = Term(next(name for name in choices if name not in taken))
        return self.variables[iri]
