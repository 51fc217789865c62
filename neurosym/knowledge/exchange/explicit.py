"""What a rule leaves to be understood, written out for languages that take every variable as it stands, and back.

Under `distinct` two variables for objects never stand for one object. Other languages do not know that, so an exported rule
says `X \\= Y` for every pair, after its own conditions; a rule that is read with an inequality for every pair becomes
`distinct` without them. A rule that is not `distinct` and could be taken for one (it has a single variable, or an inequality
for every pair of its own) is marked `distinct=no`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations

from neurosym.knowledge.exchange.formats import Inexpressible
from neurosym.knowledge.plans import objects_of
from neurosym.logic import Atom, Comparison, Condition, Expression, Negation, Operand, Rule, Term, variables_of


def objects(rule: Rule, measurements: frozenset[str]) -> tuple[Term, ...]:
    """The body's variables for objects, by first use; `_` is none."""
    bound = rule.bound
    return tuple(v for v in objects_of(rule, measurements) if v in bound and v.name != "_")


def values(rule: Rule, measurements: frozenset[str]) -> frozenset[Term]:
    """The variables of a rule that stand for values."""
    found = {v for atom in (*rule.body, *rule.head) for v in atom.variables} | rule.measured
    return frozenset(found.difference(objects_of(rule, measurements)))


def differ(left: Term, right: Term) -> Comparison:
    r"""`left \= right`."""
    return Comparison("\\=", left, right)


def spelled_out(rule: Rule, measurements: frozenset[str]) -> tuple[Rule, bool]:
    """The rule with its inequalities in the conditions and `distinct` False, and whether it must be marked `distinct=no`."""
    full = replace(rule, distinct=False)
    if rule.distinct:
        pairs = combinations(objects(rule, measurements), 2)
        full = replace(full, conditions=(*rule.conditions, *(differ(a, b) for a, b in pairs)))
    return full, understood(full, measurements).distinct != rule.distinct


def understood(rule: Rule, measurements: frozenset[str]) -> Rule:
    """The inverse of `spelled_out`, of a rule without mark: of each pair's inequalities the last is taken away."""
    rest = list(rule.conditions)
    for pair in combinations(objects(rule, measurements), 2):
        places = [i for i, c in enumerate(rest) if _parts(c) == frozenset(pair)]
        if not places:
            return replace(rule, distinct=False)
        del rest[places[-1]]
    return replace(rule, conditions=tuple(rest), distinct=True)


def _parts(condition: Condition) -> frozenset[Operand] | None:
    if isinstance(condition, Comparison) and condition.operator == "\\=":
        return frozenset((condition.left, condition.right))
    return None


def check_order(rule: Rule) -> None:
    """See that each condition uses only what the body and the conditions before it bind.

    Raises:
        Inexpressible: a language that computes from left to right cannot run it.
    """
    bound = {v for atom in rule.body for v in atom.variables}
    for condition in rule.conditions:
        if not isinstance(condition, Comparison):
            continue
        names = condition.operator == "is"
        counted = {v for count in condition.counts for v in count.variables}
        used = variables_of(condition.right) if names else condition.variables
        for variable in used:
            if variable not in bound | counted:
                raise Inexpressible(f"{variable} has no value yet in `{condition}`")
        if names:
            if not isinstance(condition.left, Term) or not condition.left.is_variable or condition.left in bound:
                raise Inexpressible(f"`{condition}` does not name a result")
            bound.add(condition.left)


def binds(rule_body: Iterable[Atom], conditions: Iterable[Condition], left: Operand) -> bool:
    """Whether `left = …` would be the first to give a variable its value: then it means `is`, else `=:=`."""
    if not isinstance(left, Term) or not left.is_variable:
        return False
    named = {c.left for c in conditions if isinstance(c, Comparison) and c.operator == "is"}
    return left not in named and all(left not in atom.args for atom in rule_body)


def terms_of(part: Rule | Atom | Condition | Operand) -> Iterator[Term]:
    """Every term within a part of a rule, as often as it stands there."""
    if isinstance(part, Term):
        yield part
        return
    inner: tuple[Atom | Condition | Operand, ...]
    if isinstance(part, Rule):
        inner = (*part.head, *part.body, *part.conditions)
    elif isinstance(part, Atom):
        inner = part.args
    elif isinstance(part, Negation):
        inner = (part.atom,)
    elif isinstance(part, Expression):
        inner = part.operands
    elif isinstance(part, Comparison):
        inner = (part.left, part.right)
    else:
        inner = (*part.terms, *part.body, *part.conditions)
    for each in inner:
        yield from terms_of(each)
