"""Rules that add nothing: written twice, or weaker than another rule (θ-subsumption)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from neurosym.errors import Problem
from neurosym.knowledge.canonical import canonical
from neurosym.knowledge.subsumption import subsumes
from neurosym.logic import Rule

_MOST_SUBSETS = 6
"""Rules with more body predicates are compared with the rules of the same head one by one."""


def duplicates(rules: Iterable[Rule]) -> Iterator[Problem]:
    """Rules that say the same as an earlier one, and ids that are used twice."""
    by_id: dict[str, Rule] = {}
    by_form: dict[object, Rule] = {}
    for rule in rules:
        first = by_form.setdefault(canonical(rule), rule)
        if first is not rule:
            message = f"the rule says the same as {place(first)}"
            yield Problem(message, rule.file, rule.line, cure="keep one")
        if rule.meta.get("id"):
            first = by_id.setdefault(rule.meta["id"], rule)
            if first is not rule:
                message = f"id {rule.id!r} is used before in {place(first)}"
                yield Problem(message, rule.file, rule.line, cure="give each rule its own id")


def place(rule: Rule) -> str:
    """Where a rule stands, for messages."""
    return f"{rule.file}:{rule.line}" if rule.file else f"'{rule}'"


def subsumed(rules: Sequence[Rule]) -> Iterator[Problem]:
    """Rules that another, more general rule of at least their weight makes superfluous (a warning)."""
    index: dict[tuple[frozenset[str], frozenset[str]], list[int]] = {}
    by_head: dict[frozenset[str], list[int]] = {}
    heads = [frozenset(a.predicate for a in rule.head) for rule in rules]
    bodies = [frozenset(a.predicate for a in rule.body) for rule in rules]
    for i in range(len(rules)):
        index.setdefault((heads[i], bodies[i]), []).append(i)
        by_head.setdefault(heads[i], []).append(i)
    for i, rule in enumerate(rules):
        if len(heads[i]) > 1 or len(bodies[i]) > _MOST_SUBSETS:
            candidates: Iterable[int] = by_head[heads[i]]
        else:
            subsets = (frozenset(s) for n in range(len(bodies[i]) + 1) for s in combinations(sorted(bodies[i]), n))
            candidates = (j for s in subsets for j in index.get((heads[i], s), ()))
        for j in candidates:
            if j != i and _is_stronger(rules[j], rule, j < i):
                message = f"the more general rule {place(rules[j])} makes this one superfluous"
                cure = "remove it, or give it a higher weight than the general one"
                yield Problem(message, rule.file, rule.line, cure=cure, severity="warning")
                break


def _is_stronger(general: Rule, specific: Rule, earlier: bool) -> bool:
    certain = float("inf")
    if (certain if general.weight is None else general.weight) < (
        certain if specific.weight is None else specific.weight
    ):
        return False
    if len(general.body) > len(specific.body) or not subsumes(general, specific, injective=general.distinct):
        return False
    return earlier or not subsumes(specific, general, injective=specific.distinct)
