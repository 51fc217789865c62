"""Which parts of a body add nothing to the rest: a rule may hold for the sake of one part, and another be there by chance.

If `typical(X) :- study(X), opacity(Z)` is true, so is `typical(X) :- study(X), tubing(Y), opacity(Z)`, whatever tubing says.
Bayardo, Agrawal & Gunopulos ("Constraint-based rule mining in large, dense databases", ICDE 1999) ask of a rule a minimum
improvement: its confidence must be so much above that of each rule with less in its body. Here the difference is

    P(head | body) - P(head | less, not body)

over the units in which `less`, the body without the part, holds (`neurosym.induction.units`), with a 95% interval over
patients; it is 0 iff the two confidences are the same. A part is told of if

1. there are at least 10 units with and 10 without it, and the interval is not above 0: it adds nothing that can be seen; or
2. the interval is above 0, but the difference vanishes within strata of a variable, by the conditions of
   `neurosym.review.confounding`: that variable may explain it. Holm's correction is for all parts and variables looked at.

A *part* is what still hangs together in the body when the variables of the head are taken away; atoms that speak of these alone
are in no part. A body of one part is not looked at: `neurosym.review.confounding` asks of it as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from neurosym.errors import InductionError
from neurosym.induction.units import units_within
from neurosym.records import Atom, Rule, Term
from neurosym.review.assessment import Idle
from neurosym.review.confounding import FEWEST_UNITS, Confounding, Question

Part = tuple[Atom, ...]


def parts_of(rule: Rule) -> tuple[Part, ...]:
    """The parts of a body, and the atoms of each, in the body's order.

    >>> from neurosym.knowledge import parse_rules
    >>> [rule] = parse_rules("typical(X) :- study(X), tubing(Y), opacity(Z), inside(Z, L), lung(L).")
    >>> [", ".join(map(str, part)) for part in parts_of(rule)]
    ['tubing(Y)', 'opacity(Z), inside(Z, L), lung(L)']
    """
    of_head = {v for atom in rule.head for v in atom.variables}
    tied: list[frozenset[Term]] = []
    for atom in rule.body:
        if own := frozenset(atom.variables) - of_head:
            touched = [t for t in tied if t & own]
            tied = [t for t in tied if not t & own] + [own.union(*touched)]
    parts = [tuple(a for a in rule.body if t.intersection(a.variables)) for t in tied]
    return tuple(sorted(parts, key=lambda part: rule.body.index(part[0])))


def idle_parts(rule: Rule, confounding: Confounding) -> tuple[tuple[Idle, ...], tuple[str, ...]]:
    """The parts of a rule's body that add nothing to the rest, and the attributes that cannot be told from a part, in words.

    Parts without which the rule binds fewer variables of its head, or cannot be measured, are not looked at.
    """
    questions = list(_questions(rule, confounding))
    open_ones = [q for q in questions if q.crude.low > 0]
    found, inseparable = confounding.explained(rule, open_ones)
    told = [_idle(q, _nothing(q)) for q in questions if q.crude.low <= 0]
    for question, explaining in zip(open_ones, found, strict=True):
        claim = f"{question.what} adds little to the rest of the body"
        for variable, adjusted in explaining:
            message = confounding.sentence(variable, claim, question.crude, adjusted)
            told.append(_idle(question, message, variable.name))
    return tuple(told), inseparable


def _questions(rule: Rule, confounding: Confounding) -> Iterator[Question]:
    parts = parts_of(rule)
    for part in parts if len(parts) > 1 else ():
        less = replace(rule, body=tuple(atom for atom in rule.body if atom not in part))
        if less.existential != rule.existential:
            continue
        what = ", ".join(map(str, part))
        try:
            asked = confounding.question(what, partial(units_within, rule, less))
        except InductionError:
            continue
        if asked is not None and min(asked.crude.exposed, asked.crude.unexposed) >= FEWEST_UNITS:
            yield asked


def _nothing(question: Question) -> str:
    crude = question.crude
    seen = f"a difference of {crude.value:.2f} ({crude.low:.2f} to {crude.high:.2f})"
    return f"{question.what} adds nothing that can be seen to the rest of the body: {seen}"


def _idle(question: Question, message: str, attribute: str = "") -> Idle:
    return Idle(question.what, question.crude.value, question.crude.low, question.crude.high, attribute, message)
