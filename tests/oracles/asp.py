"""Rules as an answer set program: clingo says what follows. Integers only, no existential heads, no equality.

A denial becomes a rule for `clash`, whose arguments are the rule's number and the values of the body's variables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import clingo

from neurosym.knowledge.inference import GroundAtom, Value
from neurosym.logic import Atom, Comparison, Condition, Count, Expression, Negation, Operand, Rule, Term

OPERATORS = {"=<": "<=", "=:=": "=", "=\\=": "!=", "\\=": "!=", "is": "="}
Fact = GroundAtom


def consequences(
    facts: Iterable[Fact], rules: Sequence[Rule], measurements: frozenset[str]
) -> tuple[set[Fact], set[tuple[int, frozenset[Fact]]]]:
    """Every fact that holds, and the ground bodies of the denials that fire, each with its rule's number."""
    lines = [f"{p}({','.join(map(str, args))})." for p, args in facts]
    for number, rule in enumerate(rules):
        lines += translated(number, rule, measurements)
    control = clingo.Control(["--warn=none"])
    control.add("base", [], "\n".join(lines))
    control.ground([("base", [])])
    models: list[Sequence[clingo.Symbol]] = []
    control.solve(on_model=lambda model: models.append(model.symbols(atoms=True)))
    [symbols] = models
    holds: set[Fact] = set()
    clashes: set[tuple[int, frozenset[Fact]]] = set()
    for symbol in symbols:
        args: tuple[Value, ...] = tuple(
            a.number if a.type == clingo.SymbolType.Number else a.name for a in symbol.arguments
        )
        if symbol.name == "clash":
            number = symbol.arguments[0].number
            theta = dict(zip(body_variables(rules[number]), args[1:], strict=True))
            body = ((a.predicate, tuple(ground(t, theta) for t in a.args)) for a in rules[number].body)
            clashes.add((number, frozenset(body)))
        elif not symbol.name.startswith("aux"):
            holds.add((symbol.name, args))
    return holds, clashes


def ground(term: Term, theta: dict[Term, Value]) -> Value:
    return theta[term] if term.is_variable else term.value


def body_variables(rule: Rule) -> list[Term]:
    return sorted({t for atom in rule.body for t in atom.args if t.is_variable})


def objects(rule: Rule, measurements: frozenset[str]) -> list[Term]:
    """The variables with a place among the objects and no place among the numbers."""
    places = [
        (t, a.predicate in measurements and i == 1) for a in (*rule.body, *rule.head) for i, t in enumerate(a.args)
    ]
    in_object_place = {t for t, is_value in places if not is_value and t.is_variable}
    return sorted(in_object_place & {t for a in rule.body for t in a.args} - rule.measured)


def translated(number: int, rule: Rule, measurements: frozenset[str]) -> list[str]:
    body, helpers = [written(a) for a in rule.body], []
    bound = set(rule.bound)
    for place, condition in enumerate(rule.conditions):
        literals, helper = condition_text(condition, bound, f"{number}_{place}")
        body += literals
        helpers += helper
    if rule.distinct:
        body += [f"{one} != {other}" for one, other in combinations(objects(rule, measurements), 2)]
    heads = [written(a) for a in rule.head]
    if not heads:
        heads = [f"clash({', '.join(map(str, (number, *body_variables(rule))))})"]
    return [*helpers, *(f"{head} :- {', '.join(body)}." if body else f"{head}." for head in heads)]


def written(atom: Atom) -> str:
    return f"{atom.predicate}({','.join(t.name for t in atom.args)})"


def condition_text(condition: Condition, bound: set[Term], name: str) -> tuple[list[str], list[str]]:
    if isinstance(condition, Negation):
        shared = [v for v in condition.variables if v in bound]
        aux = f"aux{name}({','.join(v.name for v in shared)})" if shared else f"aux{name}"
        return [f"not {aux}"], [f"{aux} :- {written(condition.atom)}."]
    assert isinstance(condition, Comparison)
    counts: list[str] = []
    left, right = (side_text(side, counts, name) for side in (condition.left, condition.right))
    return [*counts, f"{left} {OPERATORS.get(condition.operator, condition.operator)} {right}"], []


def side_text(operand: Operand, counts: list[str], name: str) -> str:
    if isinstance(operand, Term):
        return operand.name
    if isinstance(operand, Expression):
        parts = [side_text(o, counts, name) for o in operand.operands]
        if operand.operator == "abs":
            return f"|{parts[0]}|"
        return f"(-{parts[0]})" if len(parts) == 1 else f"({parts[0]} {operand.operator} {parts[1]})"
    assert isinstance(operand, Count)
    inner = [written(a) for a in operand.body]
    for condition in operand.conditions:
        if isinstance(condition, Negation):
            inner.append(f"not {written(condition.atom)}")
        else:
            inner += condition_text(condition, set(), name)[0]
    variable = f"C{name}_{len(counts)}"
    counts.append(f"{variable} = #count{{{','.join(t.name for t in operand.terms)} : {', '.join(inner)}}}")
    return variable
