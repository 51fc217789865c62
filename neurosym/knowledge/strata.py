"""Stratification: an order in which predicates can be computed so that whatever is negated or counted is complete before.

Predicates that depend on each other form a component (Tarjan, SIAM J. Comput. 1972, without recursion), and components are
numbered so that no body predicate has a higher number than its head. Negation or counting within a component has no
stratified meaning (Apt, Blair & Walker 1988): that is an error, which names the cycle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from neurosym.errors import Problem, RuleError
from neurosym.knowledge.relations import Signature
from neurosym.logic import Atom, Negation, Rule


def signature(atom: Atom) -> Signature:
    """The predicate of an atom and its number of arguments."""
    return atom.predicate, len(atom.args)


def closed_reads(rule: Rule) -> Iterator[Signature]:
    """The predicates that a rule negates or counts."""
    for condition in rule.conditions:
        if isinstance(condition, Negation):
            yield signature(condition.atom)
            continue
        for count in condition.counts:
            yield from map(signature, count.body)
            yield from (signature(c.atom) for c in count.conditions if isinstance(c, Negation))


def derives(rule: Rule) -> list[Signature]:
    """The predicates of a rule's head; equality is none."""
    return [signature(atom) for atom in rule.head if atom.predicate != "="]


def stratify(rules: Sequence[Rule]) -> dict[Signature, int]:
    """The number of each predicate's component.

    The heads of an existential rule share a component, because its witness is looked for in all of them at once.

    Raises:
        RuleError: a predicate depends on its own negation or count; one problem for each such component.
    """
    edges: dict[Signature, dict[Signature, None]] = {}
    for rule in rules:
        heads = derives(rule)
        together = len(heads) > 1 and bool(rule.existential)
        reads = [*map(signature, rule.body), *(closed_reads(rule) if rule.conditions else ())]
        for one in chain(heads, reads):
            edges.setdefault(one, {})
        for one in heads:
            edges[one].update(dict.fromkeys(reads))
            if together:
                edges[one].update(dict.fromkeys(heads))
    component = _components(edges)
    problems: dict[int, Problem] = {}
    for rule in rules:
        if rule.conditions:
            for one in derives(rule):
                for other in closed_reads(rule):
                    if component[one] == component[other] and component[one] not in problems:
                        problems[component[one]] = _cycle(rule, one, other, rules, component)
    if problems:
        raise RuleError(problems.values())
    return component


def _components(edges: Mapping[Signature, Mapping[Signature, None]]) -> dict[Signature, int]:
    """Strongly connected components, numbered from what is depended on to what depends."""
    order: dict[Signature, int] = {}
    low: dict[Signature, int] = {}
    component: dict[Signature, int] = {}
    stack: list[Signature] = []
    number = 0
    for root in edges:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        stack.append(root)
        work = [(root, iter(edges[root]))]
        while work:
            node, rest = work[-1]
            for other in rest:
                if other not in order:
                    order[other] = low[other] = len(order)
                    stack.append(other)
                    work.append((other, iter(edges[other])))
                    break
                if other not in component:
                    low[node] = min(low[node], order[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    while True:
                        member = stack.pop()
                        component[member] = number
                        if member == node:
                            break
                    number += 1
    return component


def _cycle(
    rule: Rule, head: Signature, closed: Signature, rules: Sequence[Rule], component: Mapping[Signature, int]
) -> Problem:
    """What goes wrong when `rule` derives `head` from a negated or counted predicate that depends on `head`."""
    came_from: dict[Signature, tuple[Signature, Rule]] = {}
    inside = [r for r in rules if any(component[one] == component[head] for one in derives(r))]
    reached = [closed]
    for one in reached:  # grows: the shortest way from the closed predicate down to the head
        for other_rule in inside:
            if one in derives(other_rule):
                linked = derives(other_rule) if other_rule.existential else []
                for other in (*map(signature, other_rule.body), *closed_reads(other_rule), *linked):
                    if component.get(other) == component[head] and other not in came_from and other != closed:
                        came_from[other] = (one, other_rule)
                        reached.append(other)
        if head in came_from:
            break
    steps, one = [], head
    while one != closed:
        needed, (one, other_rule) = one, came_from[one]
        steps.append(f"{one[0]} needs {needed[0]}, by {_named(other_rule)}")
    negated = [c.atom for c in rule.conditions if isinstance(c, Negation)]
    verb = "negates" if closed in map(signature, negated) else "counts"
    steps.append(f"{head[0]} {verb} {closed[0]}, by {_named(rule)}")
    message = f"{head[0]} depends on its own negation or count: {'; '.join(reversed(steps))}"
    return Problem(
        message, rule.file, rule.line, cure="break the cycle: what is negated or counted must not need the result"
    )


def _named(rule: Rule) -> str:
    place = f"{rule.file}:{rule.line}" if rule.line else rule.file
    return f"{rule.id} ({place})" if place else rule.id
