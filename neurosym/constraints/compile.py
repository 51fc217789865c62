"""Knowledge → index tensors: the rules a detector's output can be held against, and the reason for each that cannot.

A detector sees leaf classes; a rule may speak of any class above them. A detection has one leaf class, so the probability of a
class is the sum of its leaves', ``probabilities @ closure``, and the hierarchy and the disjointness of classes hold by
construction. Where classes may overlap (``exclusive=False``: one independent probability each), a class that the detector does
not know itself is the probabilistic or of those below it, and hierarchy and disjointness become rules with violations.

Rules and axioms alike become shapes (`neurosym.constraints.translate`), and shapes become rows of a few tensors
(`neurosym.constraints.shapes`), never one object per rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace

from neurosym.constraints.assemble import assembled
from neurosym.constraints.geometry import TRUE, WORDS
from neurosym.constraints.lexicon import Lexicon
from neurosym.constraints.shapes import ConstraintSet, ExistentialGroup, PairGroup
from neurosym.constraints.symbols import ClassGiven, ClassIs, Impossible, Shape, Unusable
from neurosym.constraints.translate import shapes_of
from neurosym.errors import ConstraintError, Problem
from neurosym.knowledge import Knowledge, Ontology
from neurosym.knowledge.canonical import canonical
from neurosym.knowledge.consistency import conflicts
from neurosym.knowledge.triples import NS
from neurosym.records import Atom, Rule, Term

__all__ = ["TRUE", "WORDS", "ConstraintSet", "ExistentialGroup", "PairGroup", "compile_constraints"]


def compile_constraints(
    knowledge: Knowledge, names: Sequence[str], required: bool = True, *, exclusive: bool = True
) -> ConstraintSet:
    """Compile a rule set and the axioms of its ontology for a detector of the classes `names`.

    Args:
        knowledge: the ontology and the rules over it.
        names: the detector's classes; class i is column i + 1 of its probabilities, column 0 is the background.
        required: whether it is an error if nothing constrains this detector, or if no detection could satisfy everything.
        exclusive: whether a detection has exactly one class (softmax), or each class its own probability (sigmoid).

    Raises:
        ConstraintError: an unknown class among `names`, or (if `required`) not a single rule that can constrain them, or hard
            rules that contradict each other: the smallest set of them is named.
    """
    ontology = knowledge.ontology
    unknown = [n for n in names if n not in ontology.classes]
    if unknown:
        raise ConstraintError([Problem(f"the detector's class {n!r} is not in {ontology.where}") for n in unknown])
    lexicon = Lexicon(ontology, tuple(names), exclusive)
    rules: list[Rule] = []
    shapes: list[list[Shape]] = []
    unused: list[tuple[Rule, str]] = []
    impossible: list[Problem] = []
    for rule in knowledge.rules:
        try:
            found = shapes_of(rule, lexicon)
        except Unusable as reason:
            unused.append((rule, str(reason)))
            if isinstance(reason, Impossible) and rule.weight is None:
                impossible.append(Problem(f"{rule.id}: {reason}", rule.file, rule.line, cure="remove the rule"))
            continue
        rules.append(rule)
        shapes.append(found)
    implied = list(_structural(ontology, lexicon))
    stated = {canonical(rule) for rule in knowledge.rules} if implied else set()
    for rule, found in implied:
        if canonical(rule) not in stated:
            rules.append(rule)
            shapes.append(found)
    if required:
        _check(knowledge, rules, unused, impossible)
    return assembled(lexicon, rules, shapes, tuple(unused))


def _check(
    knowledge: Knowledge, rules: Sequence[Rule], unused: Iterable[tuple[Rule, str]], impossible: list[Problem]
) -> None:
    if not rules:
        reasons = [Problem(f"{rule}: {why}", rule.file, rule.line) for rule, why in unused]
        raise ConstraintError([Problem("no rule constrains this detector"), *reasons])
    if not knowledge.files:  # what was read from files was held against itself there
        hard = [rule for rule in rules if rule.weight is None]
        impossible += [p for p in conflicts(hard, knowledge.ontology) if p.severity == "error"]
    if impossible:
        raise ConstraintError(impossible)


def _structural(ontology: Ontology, lexicon: Lexicon) -> Iterator[tuple[Rule, list[Shape]]]:
    """What the axioms about names alone say of a detector's output: a class that implies a place, classes that may overlap.

    Most of them hold by construction, or say of places and words what geometry makes true anyway; those are left out.
    """
    told = frozenset(ontology.rules)
    shown = {*lexicon.places, *lexicon.names, *(a for name in lexicon.names for a in ontology.ancestors(name))}
    for axiom in ontology.axioms:
        for rule in axiom.rules:
            if rule.meta["axiom"].startswith(NS) or not (axiom.structural or rule not in told):
                continue  # the vocabulary itself speaks of any object of an image; other axioms are among the rules
            found = _useful(rule, lexicon, shown)
            if found:
                file, line = ontology.place(axiom)
                yield replace(rule, file=file, line=line), found
    x = Term("X")
    for name in sorted(shown & ontology.classes.keys()):
        for above in sorted(ontology.classes[name].entailed):
            rule = Rule((Atom(above, (x,)),), (Atom(name, (x,)),), None, {"id": f"{name}_{above}_entailed"})
            found = _useful(rule, lexicon, shown)
            if found:
                yield rule, found


def _useful(rule: Rule, lexicon: Lexicon, shown: Set[str]) -> list[Shape]:
    """The shapes of a rule that speaks of a class which some detections are of and others are not."""
    if any(len(a.args) == 1 and a.predicate not in shown for a in rule.atoms):
        return []
    try:
        found = shapes_of(rule, lexicon)
    except Unusable:
        return []
    parts = (part for shape in found for column in (*shape.body, *shape.head) for part in column)
    names = any(isinstance(p, ClassIs | ClassGiven) and p.leaves != lexicon.any for p in parts)
    return found if names else []
