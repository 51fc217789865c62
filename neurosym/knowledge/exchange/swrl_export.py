"""Rules as SWRL in Turtle, to be merged into an ontology: `swrl` reads it back, Protégé and HermiT read it too.

Negation, counting and existential heads stay out: SWRL has monotonic Horn rules only. A weight becomes `ns:confidence`, which
other programs take for a comment. The head of a denial is owl:Nothing, for HermiT 1.4 ignores a rule whose head is empty. A
calculation in several steps names each step by a variable below `urn:neurosym:part#`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neurosym.knowledge.exchange.explicit import check_order, spelled_out, values
from neurosym.knowledge.exchange.formats import Context, Exported, Inexpressible, iri_of, sort_out
from neurosym.knowledge.exchange.swrl import COMPARED, COMPUTED, PART, SWRLB
from neurosym.knowledge.exchange.turtle import PREFIXES, iri, prefixes, stated, value_literal
from neurosym.knowledge.triples import SWRL
from neurosym.logic import Atom, Comparison, Count, Expression, Operand, Rule, Term

_PREFIXES = {**PREFIXES, "swrl": SWRL, "swrlb": SWRLB}
_COMPARING = {operator: name for name, operator in COMPARED.items()}
_COMPUTING = {operator: name for name, operator in COMPUTED.items() if name != "unaryMinus"}
_VARIABLE = "urn:swrl:var#"


def export(rules: tuple[Rule, ...], context: Context) -> Exported:
    """The rules as one Turtle text."""
    writer = _Writer(context)
    written, left_out = sort_out(rules, writer.rule)
    return Exported("\n".join([prefixes(_PREFIXES), writer.declarations(), *written]), left_out)


class _Writer:
    """Writes rules one by one, and remembers what they name."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.kinds: dict[str, str] = {}
        self.variables: set[str] = set()
        self.annotated: set[str] = set()

    def rule(self, rule: Rule) -> str:
        if rule.existential:
            raise Inexpressible(f"SWRL cannot say that there is a {rule.existential[0]}")
        if any(a.predicate == "=" for a in rule.body):
            raise Inexpressible("an equality in the body; use one variable twice instead")
        check_order(rule)
        full, is_marked = spelled_out(rule, self.context.measurements)
        one = _RuleWriter(self.context, values(rule, self.context.measurements))
        body = [one.atom(a) for a in full.body] + [a for c in full.conditions for a in one.condition(c)]
        head = [one.atom(a) for a in full.head] if full.head else [one.false(full.body)]
        facts = stated(rule, is_marked)
        for name, kind in one.kinds.items():
            if self.kinds.get(name, kind) != kind:
                raise Inexpressible(f"<{name}> is used as {kind} here and as {self.kinds[name]} by another rule")
        self.kinds.update(one.kinds)
        self.variables |= one.variables
        self.annotated |= {fact.split(" ", 1)[0] for fact in facts}
        lines = ["a swrl:Imp", *facts, f"swrl:body {_list(body)}", f"swrl:head {_list(head)}"]
        return "[] " + " ;\n    ".join(lines) + " .\n"

    def declarations(self) -> str:
        """What the rules name, so that the text can be read on its own too."""
        lines = [f"{iri(name)} a {kind} ." for name, kind in sorted(self.kinds.items())]
        lines += [f"{fact} a owl:AnnotationProperty ." for fact in sorted(self.annotated) if fact != "rdfs:label"]
        lines += [f"{iri(name)} a swrl:Variable ." for name in sorted(self.variables)]
        imports = "".join(f" ; owl:imports {iri(name)}" for name in self.context.imports)
        return "".join(f"{line}\n" for line in (f"<urn:neurosym:rules> a owl:Ontology{imports} .", *lines))


class _RuleWriter:
    """Writes the atoms of one rule."""

    def __init__(self, context: Context, values: frozenset[Term]) -> None:
        self.context, self.values = context, values
        self.kinds: dict[str, str] = {}
        self.variables: set[str] = set()
        self.parts = 0

    def atom(self, atom: Atom) -> str:
        if atom.predicate == "=":
            left, right = atom.args
            return f"[ a swrl:SameIndividualAtom ; {self._places(self._object(left), self._object(right))} ]"
        name = self.context.iri(atom.predicate)
        if len(atom.args) == 1:
            self._use(name, "owl:Class")
            return (
                f"[ a swrl:ClassAtom ; swrl:classPredicate {iri(name)} ; {self._places(self._object(atom.args[0]))} ]"
            )
        if len(atom.args) != 2:
            raise Inexpressible(f"{atom} has {len(atom.args)} arguments; SWRL has classes and properties only")
        first, last = atom.args
        is_data = atom.predicate in self.context.measurements or self._is_value(last)
        self._use(name, "owl:DatatypeProperty" if is_data else "owl:ObjectProperty")
        kind = "Datavalued" if is_data else "Individual"
        places = self._places(self._object(first), self._value(last) if is_data else self._object(last))
        return f"[ a swrl:{kind}PropertyAtom ; swrl:propertyPredicate {iri(name)} ; {places} ]"

    def false(self, body: Sequence[Atom]) -> str:
        """What a denial has for a head."""
        if not body:
            raise Inexpressible("a denial without an atom")
        place = self._places(self._object(body[0].args[0]))
        return f"[ a swrl:ClassAtom ; swrl:classPredicate owl:Nothing ; {place} ]"

    def condition(self, condition: object) -> Iterator[str]:
        if not isinstance(condition, Comparison):
            raise Inexpressible("SWRL has no negation as failure")
        left, operator, right = condition.left, condition.operator, condition.right
        if operator == "\\=":
            if (
                not isinstance(left, Term)
                or not isinstance(right, Term)
                or self._is_value(left)
                or self._is_value(right)
            ):
                raise Inexpressible(f"`{condition}` is about values; SWRL compares values by number: write =\\=")
            yield f"[ a swrl:DifferentIndividualsAtom ; {self._places(self._object(left), self._object(right))} ]"
            return
        steps: list[str] = []
        if operator in ("is", "=:=") and isinstance(left, Term) and isinstance(right, Expression):
            self._compute(self._value(left), right, steps)
        else:
            sides = [self._operand(side, steps) for side in (left, right)]
            steps.append(_builtin(_COMPARING["=:=" if operator == "is" else operator], sides))
        yield from steps

    def _operand(self, operand: Operand, steps: list[str]) -> str:
        """A side of a comparison as one argument; what must be computed for it is added to `steps`."""
        if isinstance(operand, Count):
            raise Inexpressible("SWRL cannot count")
        if isinstance(operand, Term):
            return self._value(operand)
        self.parts += 1
        self.variables.add(f"{PART}{self.parts}")
        name = iri(f"{PART}{self.parts}")
        self._compute(name, operand, steps)
        return name

    def _compute(self, result: str, expression: Expression, steps: list[str]) -> None:
        if expression.operator not in _COMPUTING:
            raise Inexpressible(f"SWRL has no built-in for {expression.operator}")
        name = "unaryMinus" if expression.operator == "-" and len(expression.operands) == 1 else None
        operands = [self._operand(o, steps) for o in expression.operands]
        steps.append(_builtin(name or _COMPUTING[expression.operator], [result, *operands]))

    def _use(self, name: str, kind: str) -> None:
        if self.kinds.setdefault(name, kind) != kind:
            raise Inexpressible(f"<{name}> is used as {kind} and as {self.kinds[name]}")

    def _is_value(self, term: Term) -> bool:
        return term in self.values or bool(term.datatype)

    def _object(self, term: Term) -> str:
        if self._is_value(term):
            raise Inexpressible(f"the value {term} stands where an individual belongs")
        return self._variable(term) if term.is_variable else iri(self.context.iris.get(term.name) or iri_of(term.name))

    def _value(self, term: Term) -> str:
        if not term.is_variable and not term.datatype:
            raise Inexpressible(f"{term} stands where a value belongs")
        return self._variable(term) if term.is_variable else value_literal(term)

    def _variable(self, term: Term) -> str:
        if term.name == "_":
            raise Inexpressible("SWRL has no anonymous variable; give it a name")
        self.variables.add(_VARIABLE + term.name)
        return iri(_VARIABLE + term.name)

    @staticmethod
    def _places(*arguments: str) -> str:
        return " ; ".join(f"swrl:argument{i} {a}" for i, a in enumerate(arguments, 1))


def _builtin(name: str, arguments: list[str]) -> str:
    return f"[ a swrl:BuiltinAtom ; swrl:builtin swrlb:{name} ; swrl:arguments ({' '.join(arguments)}) ]"


def _list(atoms: list[str]) -> str:
    return "(" + "".join(f"\n        {atom}" for atom in atoms) + ")"
