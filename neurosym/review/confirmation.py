"""No self-confirmation: a model trained with a rule predicts what obeys it, so its predictions do not speak for the rule.

Facts of annotations are evidence, and so are predictions of a model that was not taught the rule. Where an origin
(`neurosym.review.origin`) does not tell, the facts are taken for no evidence: what they are is easily told by inducing again
(`neurosym induce RUN`, or `--truth` for annotations).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from neurosym.induction.subsumption import Clause, Known, clauses_of
from neurosym.knowledge import Knowledge
from neurosym.knowledge.rules import parse_rules
from neurosym.knowledge.subsumption import encode, subsumes
from neurosym.records import Candidate, Rule
from neurosym.review.ledger import rule_key
from neurosym.review.origin import ANNOTATIONS, PREDICTIONS


def self_confirming(candidate: Candidate | Rule, origin: Mapping[str, Any], knowledge: Knowledge | None = None) -> str:
    """Why the facts of this origin do not speak for the candidate, "" if they do.

    Args:
        candidate: an induced rule, with its measures or without.
        origin: where the facts come from, as `neurosym.review.origin` writes it.
        knowledge: its ontology tells which rules say the same in other words: `right_of` for `left_of`, a class below.
    """
    rule = candidate.rule if isinstance(candidate, Candidate) else candidate
    facts, run = origin.get("facts", ""), origin.get("run") or "a run that is not named"
    if facts == ANNOTATIONS:
        return ""
    if facts != PREDICTIONS or "trained_with" not in origin:
        return "it is not told whether its facts are of annotations, or of a model that was trained without it"
    taught = _taught(origin["trained_with"])
    if by := _taught_by(rule, taught, knowledge):
        named = " and ".join(f"{r.meta.get('id', '')} `{r}`".strip() for r in by)
        how = "with this rule" if len(by) == 1 and rule_key(by[0]) == rule_key(rule) else "with what it follows from"
        return f"its facts are predictions of {run}, which was trained {how}: {named}"
    if origin.get("untold"):
        return f"its facts are predictions of {run}, and it is not told what that was trained with: {origin['untold']}"
    return ""


def _taught(told: Iterable[Mapping[str, str]]) -> list[Rule]:
    return [replace(rule, meta={"id": entry.get("id", "")}) for entry in told for rule in parse_rules(entry["rule"])]


def _taught_by(rule: Rule, taught: Sequence[Rule], knowledge: Knowledge | None) -> list[Rule]:
    """The first rule that the model was taught and that makes this one hold; several, if only together; none, if none do."""
    key = rule_key(rule)
    for other in taught:
        if rule_key(other) == key or subsumes(other, rule, injective=other.distinct):
            return [other]
    given = () if knowledge is None else knowledge.ontology.entailments()
    background = [clause for r in given for clause in clauses_of(r)]
    if _derives([], background, rule):
        return []  # the ontology says it, whatever was learned
    chained = [r for r in taught if clauses_of(r)]
    if not _derives(chained, background, rule):
        return []
    for other in chained:
        if _derives([other], background, rule):
            return [other]
    needed = list(chained)
    for other in chained:
        fewer = [r for r in needed if r is not other]
        if _derives(fewer, background, rule):
            needed = fewer
    return needed


def _derives(rules: Sequence[Rule], background: Sequence[Clause], goal: Rule) -> bool:
    if not goal.head or not goal.body or goal.existential or any(a.predicate == "=" for a in goal.head):
        return False
    known = Known([*background, *(clause for r in rules for clause in clauses_of(r))], injective=goal.distinct)
    numbers: dict[str, int] = {}
    head, body = encode(goal.head, numbers), encode(goal.body, numbers)
    return set(head) <= known.closure(body)
