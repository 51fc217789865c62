"""Proofs: why a fact holds, as a tree (with shared parts, a graph without cycles) down to the facts that were given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from neurosym.knowledge.arithmetic import Slots
from neurosym.knowledge.relations import Binding, GroundAtom, Null, Value, shown, shown_atom, value_of
from neurosym.logic import Atom, Comparison, Condition, Count, Expression, Negation, Operand, Rule, Term


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """One step: `rule` gives the `conclusion` from the `premises`, where the `conditions` hold.

    A conclusion of None is a contradiction, `("=", (a, b))` says that two are one. Without a rule the conclusion was given,
    or, if there are premises, is the first of them with equals put for equals, by the others.
    """

    conclusion: GroundAtom | None
    rule: Rule | None = None
    premises: tuple[Proof, ...] = ()
    conditions: tuple[str, ...] = ()

    def steps(self) -> Iterator[Proof]:
        """Every step once, from the conclusion on."""
        seen: set[int] = set()
        waiting = [self]
        while waiting:
            step = waiting.pop()
            if id(step) not in seen:
                seen.add(id(step))
                yield step
                waiting.extend(reversed(step.premises))

    def rules(self) -> frozenset[Rule]:
        """The rules that the proof uses."""
        return frozenset(step.rule for step in self.steps() if step.rule is not None)

    def __str__(self) -> str:
        lines: list[str] = []
        told: set[int] = set()
        waiting: list[tuple[int, Proof | str]] = [(0, self)]
        while waiting:
            depth, step = waiting.pop()
            if isinstance(step, str):
                lines.append("  " * depth + step)
                continue
            again = id(step) in told and bool(step.premises)
            lines.append("  " * depth + step._line() + (" (shown above)" if again else ""))
            if not again:
                told.add(id(step))
                below: list[Proof | str] = [*step.premises, *step.conditions]
                waiting.extend((depth + 1, each) for each in reversed(below))
        return "\n".join(lines)

    def _line(self) -> str:
        if self.conclusion is None:
            text = "contradiction"
        elif self.conclusion[0] == "=":
            text = " = ".join(map(shown, self.conclusion[1]))
        else:
            text = shown_atom(self.conclusion)
        if self.rule is None:
            return f"{text}  [{'equals for equals' if self.premises else 'given'}]"
        rule = self.rule
        place = f"{rule.file}:{rule.line}" if rule.line else rule.file
        return f"{text}  [{rule.id}{', ' + place if place else ''}]"


class Reason(NamedTuple):
    """How one fact was found: the last step, before equals were put for equals."""

    rule: Rule | None
    conclusion: GroundAtom
    premises: tuple[GroundAtom, ...] = ()
    conditions: tuple[str, ...] = ()


Equalities = dict[Null, tuple[Value, Proof]]
"""What each null turned out to be, and why."""


def canonical(value: Value, equalities: Equalities) -> Value:
    """What a value is called once equals are put for equals."""
    while isinstance(value, Null) and value in equalities:
        value = equalities[value][0]
    return value


def prove(
    goal: GroundAtom, reason: Callable[[GroundAtom], Reason], equalities: Equalities, known: dict[GroundAtom, Proof]
) -> Proof:
    """Put the reasons together, premises first; `known` keeps the proofs of parts, which are shared."""
    waiting = [goal]
    reasons: dict[GroundAtom, Reason] = {}
    while waiting:
        atom = waiting[-1]
        if atom in known:
            waiting.pop()
            continue
        found = reasons.get(atom)
        if found is None:
            found = reasons[atom] = reason(atom)
            missing = [premise for premise in found.premises if premise not in known]
            if missing:
                waiting.extend(reversed(missing))
                continue
        premises = tuple(known[premise] for premise in found.premises)
        proof = Proof(found.conclusion, found.rule, premises, found.conditions)
        known[atom] = replaced(proof, equalities)
        waiting.pop()
    return known[goal]


def replaced(proof: Proof, equalities: Equalities) -> Proof:
    """Lengthen a proof, step by step, until its conclusion names no null that has a better name."""
    while proof.conclusion is not None:
        predicate, args = proof.conclusion
        old = next((v for v in args if isinstance(v, Null) and v in equalities), None)
        if old is None:
            break
        new, because = equalities[old]
        proof = Proof((predicate, tuple(new if v == old else v for v in args)), None, (proof, because))
    return proof


def told(condition: Condition, binding: Binding, slots: Slots) -> tuple[str, ...]:
    """A condition as text with the values it was tested on: what is counted first, then the comparison."""
    if isinstance(condition, Negation):
        return (f"no {_filled_atom(condition.atom, binding, slots)}",)
    counts = tuple(f"{_filled(c, binding, slots, False)} = {binding[slots[c]]}" for c in condition.counts)
    left, right = (_filled(side, binding, slots) for side in (condition.left, condition.right))
    if condition.operator == "is":
        return *counts, f"{right} = {left}"
    return *counts, f"{left} {condition.operator} {right}"


def _filled(operand: Operand, binding: Binding, slots: Slots, is_counted: bool = True) -> Operand:
    """An operand with values for variables, and a count's result for the count."""
    if isinstance(operand, Expression):
        return Expression(operand.operator, tuple(_filled(o, binding, slots) for o in operand.operands))
    if isinstance(operand, Count) and not is_counted:
        terms = tuple(_filled_term(t, binding, slots) for t in operand.terms)
        body = tuple(_filled_atom(a, binding, slots) for a in operand.body)
        inner = tuple(
            Negation(_filled_atom(c.atom, binding, slots))
            if isinstance(c, Negation)
            else Comparison(c.operator, *(_filled(side, binding, slots) for side in (c.left, c.right)))
            for c in operand.conditions
        )
        return Count(terms, body, inner)
    if isinstance(operand, Count):
        return Term(str(binding[slots[operand]]))
    return _filled_term(operand, binding, slots)


def _filled_term(term: Term, binding: Binding, slots: Slots) -> Term:
    """A value is spelled out and made a variable, which prints as it is."""
    if term.is_variable and term not in slots:
        return term
    return Term(shown(binding[slots[term]] if term.is_variable else value_of(term)))


def _filled_atom(atom: Atom, binding: Binding, slots: Slots) -> Atom:
    return Atom(atom.predicate, tuple(_filled_term(t, binding, slots) for t in atom.args))
