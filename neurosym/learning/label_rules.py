"""Rules from a film's label to its objects: ``opacity(X), inside(X, L), lung(L) :- pneumonia_study(S).``

A label of the study says something of objects if a rule leads from it to them. Two forms are used:

    w :: c(X), word(X, Y), d(Y) :- label(S).      some object of c is in this relation to one of d (the last two may be absent)
    w :: :- label(S), c(X).                       no object of c

Labels, c and d are classes; a film with a label below the rule's has it too. The first is a bag of instances as any label
(`neurosym.learning.multiple_instances`) with q_n the soft word towards d, the second makes c impossible; both count by w. Rules
of other forms constrain no detector here; the constraints that relate objects are those of `neurosym.constraints`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neurosym.knowledge import Knowledge
from neurosym.knowledge.geometry import PREDICATES
from neurosym.learning.hints import Hinter
from neurosym.logic import Atom, Rule

STUDY = "study"


@dataclass(frozen=True)
class LabelRule:
    """What a label of the study says of some object: `labels` are its classes, empty for no class of the detector.

    `word` relates it to an object of `others`, "" to none; `denies`: there is no such object.
    """

    study: str
    labels: frozenset[int]
    weight: float
    word: str = ""
    others: frozenset[int] = frozenset()
    denies: bool = False


def label_rules(knowledge: Knowledge, hinter: Hinter) -> tuple[LabelRule, ...]:
    """The rules of these forms, of which the detector has a class."""
    found = (_label_rule(rule, knowledge, hinter) for rule in knowledge.rules)
    return tuple(r for r in found if r is not None and r.labels)


def holding(rules: Iterable[LabelRule], labels: Iterable[str], hinter: Hinter) -> list[LabelRule]:
    """The rules whose label a film with these labels has."""
    ontology = hinter.ontology
    known = [name for name in labels if name in ontology.classes]
    return [r for r in rules if any(ontology.is_a(name, r.study) for name in known)]


def _label_rule(rule: Rule, knowledge: Knowledge, hinter: Hinter) -> LabelRule | None:
    ontology = knowledge.ontology

    def of_study(atom: Atom) -> bool:
        name = atom.predicate
        return len(atom.args) == 1 and name in ontology.classes and name != STUDY and ontology.is_a(name, STUDY)

    if STUDY not in ontology.classes or rule.conditions or any(not a.args for a in (*rule.head, *rule.body)):
        return None
    labels = [a for a in rule.body if of_study(a)]
    if len(labels) != 1:
        return None
    study, variable = labels[0].predicate, labels[0].args[0]
    rest = [a for a in rule.body if a is not labels[0] and not (a.predicate == STUDY and a.args == (variable,))]
    weight = 1.0 if rule.weight is None else rule.weight
    if not rule.head:
        if len(rest) != 1 or len(rest[0].args) != 1 or rest[0].args[0] == variable:
            return None
        return LabelRule(study, hinter.below(rest[0].predicate), weight, denies=True)
    if rest:
        return None
    return _positive(study, rule.head, weight, knowledge, hinter)


def _positive(
    study: str, head: Sequence[Atom], weight: float, knowledge: Knowledge, hinter: Hinter
) -> LabelRule | None:
    kinds = [a for a in head if len(a.args) == 1]
    pairs = [a for a in head if len(a.args) == 2]
    variables = {t for a in head for t in a.args}
    if len({a.args[0] for a in kinds}) != len(kinds) or len(kinds) != len(variables) or len(pairs) > 1:
        return None
    if not pairs:
        return LabelRule(study, hinter.below(kinds[0].predicate), weight) if len(kinds) == 1 else None
    relation = knowledge.ontology.relations.get(pairs[0].predicate)
    if relation is None or relation.predicate not in PREDICATES or len(kinds) != 2:
        return None
    of = {a.args[0]: hinter.below(a.predicate) for a in kinds}
    first, second = pairs[0].args
    if first == second or not of[second]:
        return None
    return LabelRule(study, of[first], weight, relation.predicate, of[second])
