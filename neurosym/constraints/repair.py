r"""The nearest scene that breaks no hard rule: labels may change or detections go, boxes stay where they are.

A detector's scene is repaired by weighted MaxSAT, as for autonomous driving by MOD-ECL and ROAD-R (Giunchiglia et al., 2023,
Machine Learning 112), whose constraints are about one box; here they relate boxes. With the probability p_d(c) of class c for
detection d, s_d the score of its present label and r_d = 1 - Σ_c p_d(c) that nothing is there, the repaired labels y minimise

    Σ_d cost_d(y_d),   cost_d(c) = log s_d − log p_d(c),   cost_d(gone) = log s_d − log r_d − logit(threshold)

subject to every hard rule: the most probable labels given the rules, for independent detections. A change costs at least
`UNIT`, so that what breaks no rule stays. Rules become clauses only where boxes allow them to be broken
(`neurosym.constraints.worlds`); RC2 (Ignatiev, Morgado & Marques-Silva, 2019, JSAT 11) of python-sat finds an optimum. Zones
and sides follow the frames, so their clauses hold for one choice of frames, and those of another choice are added when an
optimum has it. What comes out is checked by the definition (`neurosym.constraints.broken`): it breaks nothing but what
`Repair.unsatisfied` tells. No torch is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from neurosym.constraints.broken import BrokenRule, broken_rules
from neurosym.constraints.cnf import Cnf
from neurosym.constraints.denials import ClassColumns, Denial, Unfit, denials_of
from neurosym.constraints.worlds import Grounder, Membership, World
from neurosym.errors import ConstraintError, Problem, did_you_mean
from neurosym.knowledge import Knowledge
from neurosym.logic import Rule
from neurosym.records import Scene

Alternatives = Sequence[Mapping[str, float]]
"""For each detection of a scene the probabilities of classes that it could be; its own label's is its score."""
UNIT: Final = 1e-3
"""The smallest difference of log-probabilities that counts, and the least that a change costs."""
SURE: Final = 1e-6
"""Probabilities are kept within [SURE, 1 − SURE], so that their logarithms are finite."""
CANDIDATES: Final = 4
"""How many classes of a detection are looked at: its own, and the most probable others …"""
POSSIBLE: Final = 0.02
"""… of at least this probability."""


@dataclass(frozen=True, slots=True)
class Change:
    """A detection (its index in the scene before) whose label changed, or that is gone (`after` is None).

    `cost` is the loss of log-probability. `causes` are the rules that would be broken if this change alone were taken back,
    each with the detections (indices before) that it is about; there is at least one.
    """

    detection: int
    before: str
    after: str | None
    cost: float
    causes: tuple[BrokenRule, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """The ids of the rules that forced the change."""
        return tuple(dict.fromkeys(c.id for c in self.causes))

    @property
    def partners(self) -> tuple[int, ...]:
        """The other detections that those rules are about."""
        return tuple(sorted({d for c in self.causes for d in c.detections} - {self.detection}))

    def __str__(self) -> str:
        what = f"becomes {self.after}" if self.after else "is removed"
        return f"detection {self.detection} ({self.before}) {what}: " + "; ".join(map(str, self.causes))


@dataclass(frozen=True, slots=True)
class Repair:
    """The repaired scene and what was done.

    `kept[i]` is the index before of the scene's detection i. `unsatisfied` are the rules that no change of labels can meet (for
    a rule that asks for something that is not there), with detections of the repaired scene; it breaks no other hard rule.
    """

    scene: Scene
    changes: tuple[Change, ...]
    unsatisfied: tuple[BrokenRule, ...]
    kept: tuple[int, ...]

    @property
    def cost(self) -> float:
        """What the changes cost together."""
        return math.fsum(c.cost for c in self.changes)


class RepairPlan:
    """The hard rules of some knowledge, made ready to repair scenes.

    Args:
        knowledge: ontology and rules.
        names: the detector's classes; all that the ontology ties to categories unless given.
        min_weight: weighted rules of at least this weight count as hard too.
        keep_existential: a rule that asks for another object removes and relabels nothing, its breaches are only reported.

    `rules` are the hard rules in use, `unused` the hard rules that say nothing about detections of these classes, with reasons.

    Raises:
        ConstraintError: unknown class among `names`; python-sat is not installed.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        names: Sequence[str] | None = None,
        *,
        min_weight: float | None = None,
        keep_existential: bool = False,
    ) -> None:
        ontology = knowledge.ontology
        names = sorted(set(ontology.categories.values())) if names is None else list(names)
        unknown = [n for n in names if n not in ontology.classes]
        if unknown:
            cures = ((n, did_you_mean(n, ontology.classes, ontology.where)) for n in unknown)
            raise ConstraintError([Problem(f"class {n!r} is not in the ontology", cure=cure) for n, cure in cures])
        self.ontology = ontology
        self.columns = ClassColumns(ontology, tuple(names))
        self.frames = frozenset(n for n in ontology.classes if any(ontology.is_a(n, z) for z in ontology.zoned))
        self.denials: list[Denial] = []
        rules: list[Rule] = []
        unused: list[tuple[Rule, str]] = []
        self.reported: set[Rule] = set()
        for rule in knowledge.rules:
            if not (rule.weight is None or (min_weight is not None and rule.weight >= min_weight)):
                continue
            try:
                denials = denials_of(rule, len(rules), self.columns)
            except Unfit as reason:
                unused.append((rule, str(reason)))
                continue
            rules.append(rule)
            if keep_existential and any(d.existential for d in denials):
                self.reported.add(rule)
                continue
            self.denials += denials
        self.rules, self.unused = tuple(rules), tuple(unused)
        _solver()

    def broken(self, scene: Scene, threshold: float = 0.0) -> tuple[BrokenRule, ...]:
        """Where the scene's detections of at least a score break the hard rules."""
        return broken_rules(self.rules, scene, self.ontology, threshold)

    def repair(self, scene: Scene, *, threshold: float = 0.5, alternatives: Alternatives | None = None) -> Repair:
        """The scene that is nearest to this one and breaks no hard rule.

        Args:
            scene: detections that score below the threshold, or whose class the ontology lacks, are passed on and not counted.
            threshold: the score from which a detection is shown; also the odds at which one is given up.
            alternatives: what each detection could be instead; without, a detection can only go.

        A relabelled detection scores p(c) / (1 − s), its probability given that it is not what it was, but at least the
        threshold, so that whoever reads the scene at the threshold sees it.

        Raises:
            ConstraintError: alternatives that do not fit the scene; a rule with too many groundings.
        """
        _check_alternatives(scene, alternatives, self)
        problem = _Problem(self, scene, threshold, alternatives)
        return problem.repaired()


def repair(
    scene: Scene,
    knowledge: Knowledge | RepairPlan,
    *,
    threshold: float = 0.5,
    alternatives: Alternatives | None = None,
    min_weight: float | None = None,
    keep_existential: bool = False,
) -> Repair:
    """Repair one scene; for many, make a `RepairPlan` once (whose own options then count)."""
    if isinstance(knowledge, RepairPlan):
        plan = knowledge
    else:
        plan = RepairPlan(knowledge, min_weight=min_weight, keep_existential=keep_existential)
    return plan.repair(scene, threshold=threshold, alternatives=alternatives)


class _Problem:
    """One scene as a MaxSAT problem: variables are the labels of the detections that are seen."""

    def __init__(self, plan: RepairPlan, scene: Scene, threshold: float, alternatives: Alternatives | None) -> None:
        self.plan, self.scene, self.threshold = plan, scene, threshold
        classes = plan.ontology.classes
        self.seen = [i for i, d in enumerate(scene.detections) if d.score >= threshold and d.name in classes]
        self.others = [alternatives[i] if alternatives is not None else {} for i in self.seen]
        scores = [scene.detections[i].score for i in self.seen]
        self.candidates, self.costs = [], []
        for i, others, score in zip(self.seen, self.others, scores, strict=True):
            names, costs = _options(scene.detections[i].name, score, others, threshold)
            self.candidates.append(names)
            self.costs.append(costs)
        self.world = World(plan.columns, scene, self.seen, self.candidates)
        self.cnf = Cnf()
        self.member = Membership(self.cnf, self.candidates)
        self.relaxed: dict[int, int] = {}
        self._uses: dict[int, list[int]] = {}
        self._values: dict[int, bool] = {}
        self.origins: list[tuple[list[int], int, tuple[int, ...]]] = []
        self.frames_done: set[tuple[str, ...]] = set()
        self.is_placed = any(d.placed for d in plan.denials)

    def repaired(self) -> Repair:
        self._ground([d for d in self.plan.denials if not d.placed], self.world.bits, 0)
        labels = [0] * len(self.seen)
        self._ground_places(labels)
        while True:
            if not self._holds(labels):
                labels = self._optimum()
            if not self._ground_places(labels):
                break
        return self._result(labels)

    def _ground(self, denials: Sequence[Denial], bits: np.ndarray, guard: int) -> None:
        """Clauses for all groundings that these boxes allow to be broken; they count only where `guard` holds (0: always)."""
        for denial in denials:
            rule = self.plan.rules[denial.rule]
            grounding = Grounder(self.world, bits, self.member, rule)
            for literals, detections in grounding.instances(denial.part):
                clause = [-literal for literal in literals]
                if guard:
                    clause.append(-guard)
                if not denial.part.fresh:
                    clause.append(self._relaxation(denial.rule))
                self.origins.append((clause, denial.rule, detections))

    def _relaxation(self, rule: int) -> int:
        """A literal that gives up a rule that an image without objects may break already."""
        if rule not in self.relaxed:
            self.relaxed[rule] = self.cnf.new()
        return self.relaxed[rule]

    def _ground_places(self, labels: Sequence[int]) -> bool:
        """Clauses of the rules on zones and sides for the frames that these labels make; False if they are there already."""
        if not self.is_placed:
            return False
        names = [several[k] if k < len(several) else "" for several, k in zip(self.candidates, labels, strict=True)]
        frames = tuple(n if n in self.plan.frames else "" for n in names)
        if frames in self.frames_done:
            return False
        self.frames_done.add(frames)
        guard = []
        for i, (several, frame) in enumerate(zip(self.candidates, frames, strict=True)):
            mask = sum(1 << k for k, n in enumerate(several) if (n == frame if frame else n in self.plan.frames))
            if mask:
                guard.append(self.member.of(i, mask) if frame else -self.member.of(i, mask))
        placed = [d for d in self.plan.denials if d.placed]
        self._ground(placed, self.world.placed(frames), self.cnf.all_of(guard))
        return True

    def _assignment(self, labels: Sequence[int]) -> dict[int, bool]:
        assignment = dict.fromkeys(self.relaxed.values(), False)
        for number, label in enumerate(labels):
            assignment |= self._labelled(number, label)
        return assignment

    def _labelled(self, number: int, label: int) -> dict[int, bool]:
        literals, gone = self.member.labels[number], self.member.gone[number]
        return {abs(gone): (label == len(literals)) == (gone > 0)} | {v: k == label for k, v in enumerate(literals)}

    def _holds(self, labels: Sequence[int]) -> bool:
        """Whether labels meet all clauses that were made."""
        value = self.cnf.values(self._assignment(labels))
        return all(any(value[abs(k)] == (k > 0) for k in clause) for clause, _, _ in self.origins)

    def _breaches(self, number: int, labels: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        """The rules, with detections, whose clauses break if one detection gets its old label back."""
        if not self._uses:
            for index, (clause, _, _) in enumerate(self.origins):
                for literal in clause:
                    self._uses.setdefault(literal, []).append(index)
        before, value = (self.cnf.values(v) for v in (self._values, self._values | self._labelled(number, 0)))
        fallen = (v if before[v] else -v for v in value if value[v] != before[v])
        touched = sorted({index for literal in fallen for index in self._uses.get(literal, ())})
        return [
            (rule, detections)
            for clause, rule, detections in (self.origins[index] for index in touched)
            if not any(value[abs(k)] == (k > 0) for k in clause)
        ]

    def _optimum(self) -> list[int]:
        rc2, wcnf = _solver()
        formula = wcnf()
        formula.nv = self.cnf.top
        formula.hard = [*self.cnf.clauses, *(clause for clause, _, _ in self.origins)]
        for literals, gone, costs in zip(self.member.labels, self.member.gone, self.costs, strict=True):
            formula.soft += [[-literal] for literal in (*literals[1:], gone)]
            formula.wght += [max(1, round(cost / UNIT)) for cost in costs[1:]]
        total = 1 + sum(formula.wght)
        formula.soft += [[-literal] for literal in self.relaxed.values()]
        formula.wght += [total] * len(self.relaxed)
        with rc2(formula, adapt=True, exhaust=True, minz=True) as solver:
            model = solver.compute()
        if model is None:
            raise ConstraintError("the hard rules cannot be met together, whatever is removed")
        true = {literal for literal in model if literal > 0}
        return [
            next((k for k, literal in enumerate(literals) if literal in true), len(literals))
            for literals in self.member.labels
        ]

    def _result(self, labels: Sequence[int]) -> Repair:
        scene, kept = self._scene_with(labels)
        left = self.plan.broken(scene, self.threshold)
        self._values = self._assignment(labels)
        given_up = {self.plan.rules[r] for r in self.relaxed} | self.plan.reported
        if wrong := [b for b in left if b.rule not in given_up]:
            raise ConstraintError([Problem(f"the repaired scene {scene.image_id!r} breaks {wrong[0]}")])
        changes = tuple(self._change(n, labels) for n, label in enumerate(labels) if label)
        return Repair(scene, changes, left, kept)

    def _scene_with(self, labels: Sequence[int]) -> tuple[Scene, tuple[int, ...]]:
        new = dict(enumerate(self.scene.detections))
        for i, several, others, label in zip(self.seen, self.candidates, self.others, labels, strict=True):
            if label == len(several):
                del new[i]
            elif label:
                score = min(1.0, others[several[label]] / max(1.0 - new[i].score, SURE))
                new[i] = replace(new[i], name=several[label], score=max(self.threshold, score))
        return replace(self.scene, detections=tuple(new.values())), tuple(new)

    def _change(self, number: int, labels: Sequence[int]) -> Change:
        causes = [
            BrokenRule(self.plan.rules[rule], tuple(self.seen[d] for d in detections))
            for rule, detections in self._breaches(number, labels)
        ]
        if not causes:  # with the frames as they then are no clauses were made
            scene, kept = self._scene_with([0 if n == number else label for n, label in enumerate(labels)])
            causes = [
                BrokenRule(b.rule, tuple(kept[d] for d in b.detections))
                for b in self.plan.broken(scene, self.threshold)
            ]
        several, label = self.candidates[number], labels[number]
        after = several[label] if label < len(several) else None
        return Change(self.seen[number], several[0], after, self.costs[number][label], tuple(dict.fromkeys(causes)))


def _options(name: str, score: float, others: Mapping[str, float], threshold: float) -> tuple[list[str], list[float]]:
    """The classes that a detection could be, its own first, and the cost of each; the last cost is of its going."""
    ranked = sorted((-p, n) for n, p in others.items() if n != name and p >= POSSIBLE)[: CANDIDATES - 1]
    sure = _inside(score)
    nothing = _inside(1.0 - score - sum(p for n, p in others.items() if n != name))
    odds = math.log(_inside(threshold) / _inside(1.0 - threshold))
    costs = [max(UNIT, math.log(sure / _inside(-p))) for p, _ in ranked]
    return [name, *(n for _, n in ranked)], [0.0, *costs, max(UNIT, math.log(sure / nothing) - odds)]


def _inside(probability: float) -> float:
    return min(max(probability, SURE), 1.0 - SURE)


def _check_alternatives(scene: Scene, alternatives: Alternatives | None, plan: RepairPlan) -> None:
    if alternatives is None:
        return
    count = len(scene.detections)
    if len(alternatives) != count:
        raise ConstraintError(f"alternatives for {len(alternatives)} detections; the scene has {count}")
    classes, problems = plan.ontology.classes, []
    for name in sorted({n for several in alternatives for n in several} - classes.keys()):
        cure = did_you_mean(name, classes, plan.ontology.where)
        problems.append(Problem(f"alternative class {name!r} is not in the ontology", cure=cure))
    if not all(0.0 <= p <= 1.0 for several in alternatives for p in several.values()):
        problems.append(Problem("the probabilities of alternatives are not all within 0 and 1"))
    if problems:
        raise ConstraintError(problems)


def _solver() -> tuple[type, type]:
    """RC2 and the formula it takes; python-sat is looked for only where a scene is to be repaired."""
    try:
        from pysat.examples.rc2 import RC2
        from pysat.formula import WCNF
    except ImportError as error:
        raise ConstraintError(
            Problem("repair needs python-sat, which is not installed", cure="pip install 'neurosym-imaging[repair]'")
        ) from error
    return RC2, WCNF
