"""Why a scene breaks rules, and what a repair does about it: `explain_scene`, a scene and knowledge to a `SceneExplanation`.

Which groundings fire and which are broken is decided where it always is: by the compiled rules (`crisp.groundings`, what
`evaluate` counts), and by the definition (`broken.SceneFacts`) for rules that relate more objects than a detector can be
trained with. What is added here are words (`breach`, `wording`), places, confidences, and the rules that did not fire: a scene
on which nothing fires breaks nothing either, and should not be read as right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import cast

from neurosym.constraints.breach import breach_of, object_variables
from neurosym.constraints.broken import BrokenRule
from neurosym.constraints.compile import ConstraintSet, compile_constraints
from neurosym.constraints.confidence import RuleConfidenceEntry
from neurosym.constraints.crisp import groundings
from neurosym.constraints.denials import ClassColumns, Unfit, denials_of
from neurosym.constraints.explanation import BrokenNote, ChangeNote, RuleNote, RuleUse, SceneExplanation, SeenDetection
from neurosym.constraints.repair import Change, Repair, RepairPlan
from neurosym.constraints.wording import Wording, joined
from neurosym.errors import ConstraintError, Problem
from neurosym.knowledge import Knowledge
from neurosym.knowledge.canonical import rename
from neurosym.knowledge.entailment import SYMMETRIC
from neurosym.knowledge.geometry import MEASURES
from neurosym.logic import Atom, Condition, Negation, Rule, Term
from neurosym.records import Scene

GONE = -1.0
"""The score of a detection that a repair removed, so that indices stay as they are and no threshold sees it."""


def explain_scene(
    scene: Scene,
    knowledge: Knowledge,
    threshold: float = 0.5,
    *,
    constraints: ConstraintSet | None = None,
    plan: RepairPlan | None = None,
    confidences: Iterable[RuleConfidenceEntry] = (),
) -> SceneExplanation:
    """Every violation of a scene with its rule, confidence, detections and reason; which rules are silent; what a repair does.

    Args:
        scene: detections, of which those scored at least the threshold count.
        knowledge: ontology and rules.
        threshold: in [0, 1].
        constraints: the compiled rules; compiled for all categories of the ontology unless given.
        plan: what repairs the scene; None leaves the repair out.
        confidences: what a run learned of its rules (`confidence.load_report`).

    Raises:
        ConstraintError: no rule of the knowledge says anything about detections.
    """
    if constraints is None:
        names = sorted(set(knowledge.ontology.categories.values()))
        constraints = compile_constraints(knowledge, names, required=False)
    notes = _Notes({entry.rule: entry for entry in confidences})
    wide = tuple(_wide_rules(constraints, knowledge))
    if not (constraints.rules or wide or (plan is not None and plan.rules)):
        cure = "name a file of rules under `knowledge` in the config; constraints.json tells why a rule is not used"
        raise ConstraintError(Problem("no rule says anything about this detector's classes", cure=cure))
    wording = Wording(scene, knowledge.ontology, threshold)
    found, uses = _violations(constraints, wide, wording, notes)
    changes: tuple[ChangeNote, ...] = ()
    unsatisfied: tuple[BrokenNote, ...] = ()
    repaired: tuple[SeenDetection, ...] | None = None
    if plan is not None:
        repair = plan.repair(scene, threshold=threshold)
        changes, unsatisfied = _repair_notes(scene, repair, wording, notes)
        repaired = tuple(
            seen_detection(repair.scene, j, i)
            for j, i in enumerate(repair.kept)
            if repair.scene.detections[j].score >= threshold
        )
    used = {*constraints.rules, *wide}
    return SceneExplanation(
        scene.image_id,
        scene.width,
        scene.height,
        threshold,
        tuple(seen_detection(scene, i) for i, d in enumerate(scene.detections) if d.score >= threshold),
        tuple(sorted(found, key=lambda b: (-b.rule.weight, b.rule.id, [d.index for d in b.detections]))),
        uses,
        changes,
        unsatisfied,
        repaired,
        tuple((rule.id, reason) for rule, reason in constraints.unused if rule not in used),
    )


def seen_detection(scene: Scene, number: int, index: int | None = None) -> SeenDetection:
    """A detection of a scene as a plain value; `index` is what it is called by, if not its number."""
    d = scene.detections[number]
    x1, y1, x2, y2 = map(float, d.box.xyxy)
    return SeenDetection(number if index is None else index, d.name, float(d.score), (x1, y1, x2, y2))


class _Notes:
    """Rules as notes, with what was learned of them."""

    def __init__(self, learned: Mapping[str, RuleConfidenceEntry]) -> None:
        self.learned = learned

    def of(self, rule: Rule) -> RuleNote:
        entry = self.learned.get(rule.id)
        learned, verdict = (entry.learned, entry.verdict) if entry is not None else (None, "")
        stated = 1.0 if rule.weight is None else rule.weight
        axiom = rule.meta.get("axiom", "")
        return RuleNote(rule.id, str(rule), rule.file, rule.line, axiom, rule.weight is None, stated, learned, verdict)

    def broken(self, rule: Rule, detections: Sequence[int], wording: Wording) -> BrokenNote:
        """One violation (detections by their indices in the scene)."""
        breach = breach_of(rule, detections, wording)
        body, related = (
            tuple(seen_detection(wording.scene, i) for i in indices)
            for indices in (dict.fromkeys(detections), breach.related)
        )
        return BrokenNote(self.of(rule), body, breach.expected, breach.found, breach.message, breach.missing, related)


# --- what fires, what is broken ----------------------------------------------------------------------------------------


def _wide_rules(constraints: ConstraintSet, knowledge: Knowledge) -> Iterator[Rule]:
    """Rules about several detections that cannot train a detector, but can be held against a scene."""
    columns = ClassColumns(knowledge.ontology, constraints.names)
    for rule, _ in constraints.unused:
        atoms = [a for a in (*rule.body, *rule.head) if a.predicate != "="]
        if len({t for a in atoms for t in a.variables}) < 2:
            continue
        try:
            denials_of(rule, 0, columns)
        except Unfit:
            continue
        yield rule


def _violations(
    constraints: ConstraintSet, wide: Sequence[Rule], wording: Wording, notes: _Notes
) -> tuple[list[BrokenNote], tuple[RuleUse, ...]]:
    scene, shown = wording.scene, [i for i, d in enumerate(wording.scene.detections) if d.score >= wording.threshold]
    seen = replace(scene, detections=tuple(scene.detections[i] for i in shown))
    rules = (*constraints.rules, *wide)
    fired, broken = [0] * len(rules), [0] * len(rules)
    places: dict[tuple[int, tuple[int, ...]], None] = {}
    for grounding in groundings(constraints, seen):
        fired[grounding.rule] += 1
        if not grounding.holds:
            broken[grounding.rule] += 1
            places[grounding.rule, tuple(shown[i] for i in grounding.objects)] = None
    for number, rule in enumerate(wide if shown else (), len(constraints.rules)):
        breaches = [tuple(wording.seen[i] for i in found) for found in wording.facts.broken(rule)]
        fired[number], broken[number] = max(_fired(rule, wording), len(breaches)), len(breaches)
        places.update(((number, found), None) for found in breaches)
    told = [
        notes.broken(rules[number], detections, wording)
        for number, detections in places
        if not _told_before(rules[number], number, detections, places, wording)
    ]
    uses = tuple(
        RuleUse(notes.of(rule), fired[n], broken[n], "" if fired[n] else _silent(rule, wording))
        for n, rule in enumerate(rules)
    )
    return told, uses


def _told_before(
    rule: Rule,
    number: int,
    detections: tuple[int, ...],
    places: Mapping[tuple[int, tuple[int, ...]], None],
    wording: Wording,
) -> bool:
    """Whether a symmetric rule is broken by the same two detections in the other order, which is told instead."""
    names = object_variables(rule, wording)
    if not (len(detections) == len(names) == 2 and detections[0] > detections[1]):
        return False
    return (number, detections[::-1]) in places and _is_symmetric(rule, names[0], names[1], wording)


def _is_symmetric(rule: Rule, x: str, y: str, wording: Wording) -> bool:
    """Whether the rule says the same with its two objects exchanged."""

    def other(t: Term) -> Term:
        return replace(t, name=y if t.name == x else x if t.name == y else t.name) if t.is_variable else t

    def key(part: Atom | Condition) -> str:
        if isinstance(part, Negation):
            return rf"\+ {key(part.atom)}"
        if isinstance(part, Atom) and (part.predicate == "=" or wording.word(part) in SYMMETRIC):
            part = Atom(part.predicate, tuple(sorted(part.args)))
        return str(part)

    sides = (rule.head, rule.body, rule.conditions)
    return all({key(p) for p in side} == {key(cast(Atom, rename(p, other))) for p in side} for side in sides)


def _fired(rule: Rule, wording: Wording) -> int:
    """Groundings of a rule's body; of a denial, of what it says about classes, as the compiled rules count them."""
    body = rule.body if rule.head else [a for a in rule.body if wording.is_class(a)]
    names = object_variables(rule, wording)
    count = 0
    for theta in wording.facts.matches(body, {}):
        objects = [theta[n] for n in names if n in theta]
        if rule.distinct and any(a == b for a, b in combinations(objects, 2)):
            continue
        count += not rule.head or wording.facts.satisfied(rule.conditions, theta) is not None
    return count


def _silent(rule: Rule, wording: Wording) -> str:
    """Why a rule did not fire."""
    wanted: dict[str, int] = {}
    for atom in rule.body:
        if wording.is_class(atom):
            wanted[atom.predicate] = wanted.get(atom.predicate, 0) + 1
    members = {name: len(wording.facts.members.get(name, ())) for name in wanted}
    absent = [name for name in wanted if not members[name]]
    if absent:
        return f"no {joined(absent, 'and no')} is detected"
    few = [name for name in wanted if rule.distinct and members[name] < wanted[name]]
    if few:
        return f"only one {joined(few)} is detected"
    relations = [str(a) for a in rule.body if not wording.is_class(a) and wording.word(a) not in MEASURES]
    told = joined([*relations, *map(str, rule.conditions)])
    return f"{told} holds of none" if told else "no detection is what it is about"


# --- repair ------------------------------------------------------------------------------------------------------------


def _repair_notes(
    scene: Scene, repair: Repair, wording: Wording, notes: _Notes
) -> tuple[tuple[ChangeNote, ...], tuple[BrokenNote, ...]]:
    after = dict(zip(repair.kept, repair.scene.detections, strict=True))
    aligned = [after.get(i, replace(d, score=GONE)) for i, d in enumerate(scene.detections)]

    def worded(taken_back: int | None = None) -> Wording:
        detections = list(aligned)
        if taken_back is not None:
            detections[taken_back] = scene.detections[taken_back]
        return Wording(replace(scene, detections=tuple(detections)), wording.ontology, wording.threshold)

    changes = tuple(_change_note(scene, change, worded(change.detection), notes) for change in repair.changes)
    left = worded() if repair.unsatisfied else wording
    unsatisfied = [notes.broken(b.rule, [repair.kept[d] for d in b.detections], left) for b in repair.unsatisfied]
    return changes, tuple(dict.fromkeys(unsatisfied))


def _change_note(scene: Scene, change: Change, wording: Wording, notes: _Notes) -> ChangeNote:
    """The causes in words, on the scene in which this change alone is taken back."""
    causes: list[BrokenRule] = []
    for cause in change.causes:
        again = any(c.rule == cause.rule and set(c.detections) == set(cause.detections) for c in causes)
        if not again:
            causes.append(cause)
    told = tuple(notes.broken(c.rule, c.detections, wording) for c in causes)
    return ChangeNote(seen_detection(scene, change.detection), change.after, change.cost, told)
