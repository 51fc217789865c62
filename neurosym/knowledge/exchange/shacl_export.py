"""Rules as SHACL: each a node shape with a SPARQL rule (SHACL Advanced Features, W3C Note 2017), or with a SPARQL constraint if
it is a denial or says that two objects are one.

The target of a shape is the class of the rule's first class atom, else the subjects of its first relation; the query binds it
to the variable of that name. Class atoms look up the hierarchy of the data (`rdf:type/rdfs:subClassOf*`). An existential head
is a blank node in CONSTRUCT, made only where no witness exists. `sh:order` follows the strata. Rules that need each other want
several passes, which pySHACL makes within one shape only: run it until nothing is new.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from neurosym.knowledge.exchange.explicit import check_order, differ, objects, spelled_out, values
from neurosym.knowledge.exchange.formats import Context, Exported, Inexpressible, iri_of, sort_out
from neurosym.knowledge.exchange.turtle import PREFIXES, iri, prefixes, stated, text_literal, value_literal
from neurosym.knowledge.strata import signature, stratify
from neurosym.knowledge.triples import NS, RDF, RDFS, SH
from neurosym.logic import Atom, Condition, Count, Negation, Operand, Rule, Term

EQUAL = NS + "equal"
DECLARED = "urn:neurosym:rules"
_LOCAL = re.compile(r"(?P<namespace>.*[#/:])(?P<local>[A-Za-z_]\w*)\Z", re.ASCII)
_OPERATORS = {"=<": "<=", "=:=": "=", "\\=": "!="}


def export(rules: tuple[Rule, ...], context: Context) -> Exported:
    """The rules as one Turtle text of shapes.

    Raises:
        RuleError: the rules cannot be stratified.
    """
    writer = _Writer(rules, context)
    written, left_out = sort_out(rules, writer.shape)
    head = [prefixes({**PREFIXES, "sh": SH}), writer.declarations()]
    return Exported("\n".join([*head, *written]), left_out)


class _Writer:
    """Writes shapes one by one, and remembers the prefixes of their queries."""

    def __init__(self, rules: tuple[Rule, ...], context: Context) -> None:
        self.context = context
        self.order = stratify(rules)
        self.namespaces = {RDF: "rdf", RDFS: "rdfs"}

    def declarations(self) -> str:
        """The prefixes that the queries use."""
        lines = [
            f"sh:declare [ sh:prefix {text_literal(prefix)} ; sh:namespace {text_literal(namespace)}^^xsd:anyURI ]"
            for namespace, prefix in self.namespaces.items()
        ]
        return f"<{DECLARED}> a owl:Ontology ;\n    " + " ;\n    ".join(lines) + " .\n"

    def shape(self, rule: Rule) -> str:
        _check(rule)
        is_equality = any(a.predicate == "=" for a in rule.head)
        tested = rule
        if is_equality:
            same = differ(*rule.head[0].args)
            tested = replace(rule, head=(), conditions=(*rule.conditions, same))
        full, is_marked = spelled_out(tested, self.context.measurements)
        query = _Query(self, rule)
        focus, target = self._target(rule)
        where = query.where(focus, full)
        lines = [f"a sh:NodeShape ;\n    {target}", *stated(rule, is_marked)]
        if tested.head:
            number = max(self.order[signature(a)] for a in tested.head)
            text = f"CONSTRUCT {{ {' '.join(query.template())} }}\nWHERE {{\n{where}}}"
            kind, select = "sh:rule [ a sh:SPARQLRule", "sh:construct"
            lines.append(f"sh:order {number}")
            extra = [f"sh:order {number}"]
        else:
            text = f"SELECT $this\nWHERE {{\n{where}}}"
            kind, select = "sh:sparql [ a sh:SPARQLConstraint", "sh:select"
            extra = [f"sh:message {text_literal(f'breaks the rule {rule.id}')}"]
            lines += ["sh:severity sh:Warning"] if rule.weight is not None else []
            lines += ["ns:equal true"] if is_equality else []
        parts = [kind, *extra, f"sh:prefixes <{DECLARED}>", f"{select} {_long_literal(text)} ]"]
        return "[] " + " ;\n    ".join([*lines, " ;\n        ".join(parts)]) + " .\n"

    def _target(self, rule: Rule) -> tuple[Term, str]:
        """The variable of the focus node, and the statement that names its nodes."""
        classes = [a for a in rule.body if len(a.args) == 1 and a.args[0].is_variable and a.args[0].name != "_"]
        if classes:
            return classes[0].args[0], f"sh:targetClass {iri(self.context.iri(classes[0].predicate))}"
        for atom in rule.body:
            if atom.args[0].is_variable and atom.args[0].name != "_":
                return atom.args[0], f"sh:targetSubjectsOf {iri(self.context.iri(atom.predicate))}"
        raise Inexpressible("a shape needs a body atom that starts with a variable, to be its target")

    def name(self, text: str) -> str:
        """An IRI as the queries write it."""
        found = _LOCAL.match(text)
        if found is None:
            return iri(text)
        namespace = found["namespace"]
        if namespace not in self.namespaces:
            stem = re.sub(r"\W|_", "", re.split(r"[#/:]", namespace)[-2], flags=re.ASCII).lower() or "n"
            stem = stem if stem[0].isalpha() else f"n{stem}"
            taken = set(self.namespaces.values())
            numbered = (f"{stem}{n}" for n in range(2, len(taken) + 3))
            self.namespaces[namespace] = stem if stem not in taken else next(p for p in numbered if p not in taken)
        return f"{self.namespaces[namespace]}:{found['local']}"


def _check(rule: Rule) -> None:
    check_order(rule)
    if not rule.body:
        raise Inexpressible("a shape needs a target; a rule without a body has none")
    if any(a.predicate == "=" for a in rule.body):
        raise Inexpressible("an equality in the body; use one variable twice instead")
    if len(rule.head) > 1 and any(a.predicate == "=" for a in rule.head):
        raise Inexpressible("an equality beside other heads")
    for part in (*rule.head, *rule.body, *rule.conditions):
        for variable in part.variables:
            if variable.name == "this":
                raise Inexpressible("a variable named `this`")


class _Query:
    """The parts of one query."""

    def __init__(self, writer: _Writer, rule: Rule) -> None:
        self.writer, self.rule, self.context = writer, rule, writer.context
        self.values = values(rule, writer.context.measurements)

    def where(self, focus: Term, full: Rule) -> str:
        """The group graph pattern."""
        lines = [f"BIND($this AS ?{focus})", *map(self.pattern, full.body), *map(self.condition, full.conditions)]
        if self.rule.existential:
            lines.append(f"FILTER NOT EXISTS {{ {' '.join(self._witness())} }}")
        return "".join(f"  {line}\n" for line in lines)

    def template(self) -> Iterator[str]:
        """The head; what the body does not bind is a blank node."""
        unknown = self.rule.existential
        for atom in self.rule.head:
            first, *last = (f"_:{t}" if t in unknown else self.term(t) for t in atom.args)
            self._check_places(atom)
            name = self.writer.name(self.context.iri(atom.predicate))
            yield f"{first} {name} {last[0]} ." if last else f"{first} rdf:type {name} ."

    def _witness(self) -> Iterator[str]:
        yield from map(self.pattern, self.rule.head)
        if self.rule.distinct:
            known, unknown = objects(self.rule, self.context.measurements), self.rule.existential
            for one, other in (*((u, k) for u in unknown for k in known), *combinations(unknown, 2)):
                yield f"FILTER(?{one} != ?{other})"

    def pattern(self, atom: Atom) -> str:
        self._check_places(atom)
        name = self.writer.name(self.context.iri(atom.predicate))
        first, *last = map(self.term, atom.args)
        return f"{first} {name} {last[0]} ." if last else f"{first} rdf:type/rdfs:subClassOf* {name} ."

    def _check_places(self, atom: Atom) -> None:
        if len(atom.args) > 2:
            raise Inexpressible(f"{atom} has {len(atom.args)} arguments; RDF has classes and properties only")
        for term in atom.args[:1]:
            if term in self.values or term.datatype:
                raise Inexpressible(f"the value {term} stands where an object belongs")

    def term(self, term: Term) -> str:
        if term.is_variable:
            return "[]" if term.name == "_" else f"?{term.name}"
        if term.datatype == "string":
            return _string(term.name)
        if term.datatype:
            return value_literal(term)
        return self.writer.name(self.context.iris.get(term.name) or iri_of(term.name))

    def condition(self, condition: Condition) -> str:
        if isinstance(condition, Negation):
            return f"FILTER NOT EXISTS {{ {self.pattern(condition.atom)} }}"
        left, right = condition.left, condition.right
        if condition.operator == "is":
            return f"BIND({self._operand(right)} AS {self._operand(left)}) FILTER(BOUND({self._operand(left)}))"
        if condition.operator == "\\=" and not (isinstance(left, Term) and isinstance(right, Term)):
            raise Inexpressible(f"`{condition}` compares a calculation by its form; write =\\=")
        if condition.operator == "=\\=":
            return f"FILTER(!({self._operand(left)} = {self._operand(right)}))"
        operator = _OPERATORS.get(condition.operator, condition.operator)
        return f"FILTER({self._operand(left)} {operator} {self._operand(right)})"

    def _operand(self, operand: Operand) -> str:
        if isinstance(operand, Count):
            raise Inexpressible(
                "a SPARQL sub-query is computed apart from the query around it, and does not count to zero"
            )
        if isinstance(operand, Term):
            text = self.term(operand)
            return f"({text})" if text.startswith("-") else text
        if operand.operator in ("min", "max"):
            raise Inexpressible(f"SPARQL has no {operand.operator} of two values")
        inner = [self._operand(o) for o in operand.operands]
        if operand.operator == "abs":
            return f"ABS({inner[0]})"
        if len(inner) == 1:
            return f"(-({inner[0]}))"
        return f"({inner[0]} {operand.operator} {inner[1]})"


def _string(text: str) -> str:
    """A string as SPARQL spells it; a `\\u` within would be read as an escape wherever it stands."""
    if re.search(r"\\[uU]", text) or "\x00" in text:
        raise Inexpressible(f"the text {text!r} cannot stand in a query")
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


def _long_literal(text: str) -> str:
    return '"""' + text.replace("\\", "\\\\").replace('"', '\\"') + '"""'
