"""A reviewer's own wording of a candidate: is it a rule, does the knowledge allow it, and what do the films say of it?

Everything is checked as a rule file would be, and every message has the line and column of the text it is about. A wording
without a weight gets the confidence that is measured of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from neurosym.errors import NeurosymError, Problem, ReviewError
from neurosym.induction.engine import Evaluation
from neurosym.knowledge.check import check_rules
from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.rules import parse_leniently
from neurosym.records import Rule
from neurosym.review.evidence import Evidence
from neurosym.review.ledger import normal_text, rule_key, the_rule

LONGEST: Final = 4_000
"""Characters of a wording."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What is to be said of an edited text; `rule` is None if it is none, `measured` if it has no measures.

    `same`: it says what the candidate says. `accepted` is the text that a verdict records, "" if it cannot be accepted.
    """

    text: str
    problems: tuple[Problem, ...] = ()
    rule: Rule | None = None
    measured: Evaluation | None = None
    same: bool = False
    accepted: str = ""


def wording(text: str, candidate: Rule, evidence: Evidence) -> Wording:
    """Read, check and measure an edited rule."""
    if len(text) > LONGEST:
        return Wording(text, (Problem(f"the rule is longer than {LONGEST:,} characters"),))
    rules, problems = parse_leniently(text)
    if not problems and len(rules) != 1:
        problems = [Problem("there is no rule" if not rules else f"expected one rule, found {len(rules)}", line=1)]
    if problems:
        return Wording(text, tuple(problems))
    rule = replace(rules[0], meta={})
    told = [_placed(p, text) for p in check_rules([rule], evidence.knowledge.ontology)]
    if any(p.severity == "error" for p in told):
        return Wording(text, tuple(told), rule)
    same = rule_key(rule) == rule_key(candidate)
    try:
        measured = evidence.measure(rule)
    except NeurosymError as error:
        why = [replace(p, file="", line=0, severity="warning") for p in error.problems]
        return Wording(text, (*told, *why), rule, same=same, accepted=normal_text(rule))
    unseen = sorted({a.predicate for a in (*rule.head, *rule.body) if evidence.index.number(a.predicate) is None})
    told += [_placed(Problem(f"no film has a fact of '{name}'", severity="warning"), text) for name in unseen]
    weighted = rule
    if rule.weight is None and not same and measured.confidence > 0:
        weighted = replace(rule, weight=max(0.001, round(measured.confidence, 3)))
    return Wording(text, tuple(told), rule, measured, same, normal_text(weighted))


def require_known_words(text: str, ontology: Ontology, where: str) -> None:
    """Refuse a wording that the ontology does not know, for it could not be published; `where` is what messages call it.

    Raises:
        ReviewError: with every problem.
    """
    told = check_rules([the_rule(text)], ontology)
    errors = [replace(p, file=where, line=0) for p in told if p.severity == "error"]
    if errors:
        raise ReviewError(errors)


def _placed(problem: Problem, text: str) -> Problem:
    """The problem with the column of the name it is about, where it names one that stands in the text."""
    for name in re.findall(r"'([^']+)'|(\w+)\(", problem.message):
        word = name[0] or name[1]
        found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)
        if found is not None:
            before = text[: found.start()]
            line, column = before.count("\n") + 1, found.start() - before.rfind("\n")
            return replace(problem, file="", line=line, column=column)
    return replace(problem, file="")
