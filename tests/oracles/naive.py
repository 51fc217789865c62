"""Rules by the definition, without indices, plans or strata: do facts satisfy a rule, does each step of a proof stand?"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

from neurosym.knowledge.inference import GroundAtom, Null, Proof, Text
from neurosym.logic import Atom, Condition, Count, Expression, Negation, Operand, Rule, Term
from tests.oracles.asp import objects

Theta = dict[Term, Any]
TESTS = {
    "<": operator.lt,
    "=<": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=:=": operator.eq,
    "=\\=": operator.ne,
}


def constant(term: Term) -> Any:
    return Text(term.name) if term.datatype == "string" else term.value


def unify(atom: Atom, fact: GroundAtom, theta: Theta) -> Theta | None:
    """`theta` extended so that the atom is the fact; `_` fits anything."""
    predicate, args = fact
    if predicate != atom.predicate or len(args) != len(atom.args):
        return None
    theta = dict(theta)
    for term, value in zip(atom.args, args, strict=True):
        if term.is_variable and term.name == "_":
            continue
        if (theta.setdefault(term, value) if term.is_variable else constant(term)) != value:
            return None
    return theta


def matches(atoms: Iterable[Atom], facts: Iterable[GroundAtom], theta: Theta) -> Iterator[Theta]:
    first, *rest = atoms if (atoms := tuple(atoms)) else (None,)
    if first is None:
        yield theta
        return
    for fact in facts:
        extended = unify(first, fact, theta)
        if extended is not None:
            yield from matches(rest, facts, extended)


def result(operand: Operand, theta: Theta, facts: Iterable[GroundAtom]) -> Any:
    if isinstance(operand, Term):
        return theta[operand] if operand.is_variable else constant(operand)
    if isinstance(operand, Count):
        found = (t for t in matches(operand.body, facts, theta) if satisfied(operand.conditions, t, facts) is not None)
        return len({tuple(result(term, t, facts) for term in operand.terms) for t in found})
    assert isinstance(operand, Expression)
    values = [result(o, theta, facts) for o in operand.operands]
    if len(values) == 1:
        return abs(values[0]) if operand.operator == "abs" else -values[0]
    operations: dict[str, Callable[..., Any]] = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": operator.truediv,
        "min": min,
        "max": max,
    }
    return operations[operand.operator](*values)


def satisfied(conditions: Iterable[Condition], theta: Theta, facts: Iterable[GroundAtom]) -> Theta | None:
    """`theta` with the results of `is`, or None if a condition fails; conditions stand in an order that can be computed."""
    theta = dict(theta)
    for condition in conditions:
        if isinstance(condition, Negation):
            if any(unify(condition.atom, fact, theta) is not None for fact in facts):
                return None
            continue
        right = result(condition.right, theta, facts)
        if condition.operator == "is":
            assert isinstance(condition.left, Term)
            if theta.setdefault(condition.left, right) != right:
                return None
            continue
        left = result(condition.left, theta, facts)
        if condition.operator == "\\=":
            if left == right:
                return None
        elif not all(isinstance(side, int | float) for side in (left, right)) or not TESTS[condition.operator](
            left, right
        ):
            return None
    return theta


def differ(variables: Iterable[Term], theta: Mapping[Term, Any]) -> bool:
    return all(
        theta[a] != theta[b] or isinstance(theta[a], int | float | Text)
        for a, b in combinations(variables, 2)
        if a in theta and b in theta
    )


def bodies(rule: Rule, facts: Iterable[GroundAtom], measurements: frozenset[str]) -> Iterator[Theta]:
    """Every way in which a rule's body holds."""
    for theta in matches(rule.body, facts, {}):
        full = satisfied(rule.conditions, theta, facts)
        if full is not None and (not rule.distinct or differ(objects(rule, measurements), full)):
            yield full


def is_satisfied(rule: Rule, facts: Iterable[GroundAtom], measurements: frozenset[str] = frozenset()) -> bool:
    """Whether the head holds wherever the body does."""
    facts = tuple(facts)
    atoms = [a for a in rule.head if a.predicate != "="]
    for theta in bodies(rule, facts, measurements):
        if any(theta[a.args[0]] != theta[a.args[1]] for a in rule.head if a.predicate == "="):
            return False
        different = (*objects(rule, measurements), *rule.existential) if rule.distinct else ()
        if not any(differ(different, t) for t in matches(atoms, facts, theta)):
            return False
    return True


def check_proof(
    proof: Proof, given: set[GroundAtom], facts: tuple[GroundAtom, ...], measurements: frozenset[str]
) -> None:
    """See that every step stands: rules have their premises, their conditions hold, leaves are given, nothing is circular."""
    _check_acyclic(proof)
    for step in proof.steps():
        if step.rule is None:
            _check_given(step, given)
            continue
        theta: Theta = {}
        assert len(step.premises) == len(step.rule.body)
        for atom, premise in zip(step.rule.body, step.premises, strict=True):
            assert premise.conclusion is not None
            extended = unify(atom, premise.conclusion, theta)
            assert extended is not None, f"{atom} is not {premise.conclusion}"
            theta = extended
        full = satisfied(step.rule.conditions, theta, facts)
        assert full is not None, f"a condition of {step.rule} fails"
        theta = full
        if step.rule.distinct:
            assert differ(objects(step.rule, measurements), theta)
        assert len(step.conditions) >= len(step.rule.conditions)
        if step.conclusion is None:
            assert not step.rule.head
        elif step.conclusion[0] == "=":
            equals = [{theta[t] for t in a.args} for a in step.rule.head if a.predicate == "="]
            assert set(step.conclusion[1]) in equals
        else:
            assert any(_fits(a, step.conclusion, theta) for a in step.rule.head)


def _fits(atom: Atom, fact: GroundAtom, theta: Theta) -> bool:
    """Whether a fact is an instance of a head atom, with nulls for the variables that the body does not bind."""
    found = unify(atom, fact, theta)
    return found is not None and all(isinstance(value, Null) for v, value in found.items() if v not in theta)


def _check_given(step: Proof, given: set[GroundAtom]) -> None:
    assert step.conclusion is not None
    if not step.premises:
        assert step.conclusion in given
        return
    fact, equality = step.premises
    assert fact.conclusion is not None
    assert equality.conclusion is not None
    old, new = equality.conclusion[1]
    predicate, args = fact.conclusion
    assert step.conclusion == (predicate, tuple(new if v == old else v for v in args))


def _check_acyclic(proof: Proof) -> None:
    """No fact is its own premise. What an equality rests on is looked at by itself: there, facts go by their former names."""
    done: set[int] = set()

    def visit(step: Proof, above: frozenset[GroundAtom]) -> None:
        assert step.conclusion is None or step.conclusion not in above, f"{step.conclusion} is its own premise"
        if id(step) not in done:
            for premise in step.premises:
                is_equality = premise.conclusion is not None and premise.conclusion[0] == "="
                visit(premise, frozenset() if is_equality else above | {step.conclusion or ("", ())})
            done.add(id(step))

    visit(proof, frozenset())
