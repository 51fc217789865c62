"""What a run's rules say against annotations: whom they blame, and in which words.

The compiled rules are held against the annotations as they are (`neurosym.constraints.crisp`) and worded as `neurosym explain`
words them. How far a rule can be trusted on these annotations is learned from them (`neurosym.constraints.confidence`), unless
the run has learned it in training: an axiom that fits the anatomy but not what annotators draw is broken nearly everywhere,
and must not make every annotation suspect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from neurosym.constraints import ConstraintSet, groundings
from neurosym.constraints.breach import breach_of
from neurosym.constraints.confidence import RuleConfidences, load_report
from neurosym.constraints.crisp import Grounding
from neurosym.constraints.wording import Wording
from neurosym.learning.annotation_estimate import blame_of, trust_of
from neurosym.learning.run_constraints import constraints_of
from neurosym.learning.runfolder import OpenRun
from neurosym.records import Scene

TOLD = 0.05
"""The least trust in a rule whose violations are told."""


@dataclass(frozen=True)
class Violations:
    """Of one scene, by detection: the blame of those that break a rule, and what is said of them, a sentence a rule."""

    blame: Mapping[int, float]
    told: Mapping[int, tuple[str, ...]]


def violations_of(run: OpenRun, scenes: Sequence[Scene]) -> list[Violations]:
    """The violations of the run's rules on annotated scenes, in their order; all of them say how far each rule is trusted."""
    constraints = constraints_of(run)
    found = [groundings(constraints, scene) for scene in scenes]
    trust = _trust(run, constraints, found)
    return [_of_scene(run, constraints, trust, scene, own) for scene, own in zip(scenes, found, strict=True)]


def _trust(run: OpenRun, constraints: ConstraintSet, found: Sequence[Sequence[Grounding]]) -> list[float]:
    """Of each rule (see `trust_of`)."""
    fired = torch.zeros(2, len(constraints.rules))
    for grounding in (g for own in found for g in own):
        fired[0, grounding.rule] += 1
        fired[1, grounding.rule] += not grounding.holds
    report = run.path / "confidences.json"
    if report.is_file():
        learned = {e.rule: e.learned for e in load_report(report)}
    else:
        confidences = RuleConfidences(constraints)
        confidences.observe(fired[0], fired[1])
        learned = {e.rule: e.learned for e in confidences.report()}
    stated = [1.0 if rule.weight is None else rule.weight for rule in constraints.rules]
    counts = zip(constraints.rules, stated, *fired.tolist(), strict=True)
    return [trust_of(weight, learned.get(rule.id, weight), f, v) for rule, weight, f, v in counts]


def _of_scene(
    run: OpenRun, constraints: ConstraintSet, trust: Sequence[float], scene: Scene, found: Sequence[Grounding]
) -> Violations:
    # a symmetric rule is broken by the same two objects in both orders: one violation
    broken = {(g.rule, frozenset(g.objects)): g for g in found if not g.holds and g.objects}
    blame = blame_of([(trust[g.rule], g.objects) for g in broken.values()])
    wording = Wording(scene, run.knowledge.ontology, 0.0)
    times = Counter((g.rule, i) for g in broken.values() for i in set(g.objects))
    told: dict[int, dict[int, str]] = {}
    for g in (g for g in broken.values() if trust[g.rule] >= TOLD):
        new = [i for i in sorted(set(g.objects)) if g.rule not in told.get(i, {})]
        sentence = breach_of(constraints.rules[g.rule], g.objects, wording).message if new else ""
        for i in new:
            more = f" (and {times[g.rule, i] - 1} more)" if times[g.rule, i] > 1 else ""
            told.setdefault(i, {})[g.rule] = f"rule `{constraints.rules[g.rule].id}` violated: {sentence}{more}"
    return Violations(blame, {i: tuple(of_rules.values()) for i, of_rules in told.items()})
