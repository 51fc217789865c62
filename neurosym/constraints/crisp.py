"""Rules against a scene as a reader sees it: which groundings fire, and which of them break the rule.

This is the limit of `neurosym.constraints.loss.violation` for one-hot probabilities and temperature 0 (a test compares them),
computed in NumPy from the same compiled index tensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from neurosym.constraints.compile import TRUE, WORDS, ConstraintSet
from neurosym.knowledge.geometry import PREDICATES
from neurosym.records import Scene


@dataclass(frozen=True, slots=True)
class Grounding:
    """One application of rule number `rule` to detections of a scene (indices); `holds` is False for a violation."""

    rule: int
    objects: tuple[int, ...]
    holds: bool


def groundings(constraints: ConstraintSet, scene: Scene) -> list[Grounding]:
    """Every grounding of every rule whose body holds on the scene."""
    known = [i for i, d in enumerate(scene.detections) if d.name in constraints.names]
    if not known:
        return []
    boxes = np.array([scene.detections[i].box.xyxy for i in known])
    leaf = [constraints.names.index(scene.detections[i].name) + 1 for i in known]
    member = constraints.closure.cpu().numpy()[leaf] > 0.5
    words = np.stack([PREDICATES[w](boxes[:, None], boxes[None], np) > 0 for w in WORDS])
    words = np.concatenate([words, words.transpose(0, 2, 1), np.ones_like(words[:1])])
    assert len(words) == TRUE + 1
    distinct = ~np.eye(len(known), dtype=bool)
    found = []
    pairs = constraints.pairs
    for rule, x, y, body, head, denied in zip(
        *(t.tolist() for t in (pairs.rule, pairs.first, pairs.second, pairs.body, pairs.head, pairs.denied)),
        strict=True,
    ):
        premise = member[:, x, None] & member[None, :, y] & distinct & words[body].all(0)
        holds = words[head].all(0) != denied
        found += [Grounding(rule, (known[n], known[m]), bool(holds[n, m])) for n, m in np.argwhere(premise)]
    some = constraints.existentials
    for rule, x, y, head in zip(*(t.tolist() for t in (some.rule, some.first, some.second, some.head)), strict=True):
        witness = (words[head].all(0) & member[None, :, y] & distinct).any(1)
        found += [Grounding(rule, (known[n],), bool(witness[n])) for n in np.flatnonzero(member[:, x])]
    return found


@dataclass(frozen=True, slots=True)
class RuleScore:
    """How a rule fares on predictions: `fired` and `violated` count groundings; `fired_true` those on the true scenes.

    ``violated / fired`` alone is lowered by silencing premises; ``fired / fired_true`` shows it (0.8–1.2 is sound).
    """

    rule: str
    text: str
    fired: int
    violated: int
    fired_true: int
    violated_true: int

    @property
    def violation_rate(self) -> float | None:
        return self.violated / self.fired if self.fired else None

    @property
    def fired_ratio(self) -> float | None:
        return self.fired / self.fired_true if self.fired_true else None


def score_rules(constraints: ConstraintSet, predicted: Iterable[Scene], true: Iterable[Scene]) -> list[RuleScore]:
    """Violated/fired and fired/true of every compiled rule over two lists of scenes of the same images."""
    fired, violated = _counts(constraints, predicted)
    fired_true, violated_true = _counts(constraints, true)
    return [
        RuleScore(rule.id, str(rule), fired[i], violated[i], fired_true[i], violated_true[i])
        for i, rule in enumerate(constraints.rules)
    ]


def _counts(constraints: ConstraintSet, scenes: Iterable[Scene]) -> tuple[Counter[int], Counter[int]]:
    fired: Counter[int] = Counter()
    violated: Counter[int] = Counter()
    for scene in scenes:
        for grounding in groundings(constraints, scene):
            fired[grounding.rule] += 1
            violated[grounding.rule] += not grounding.holds
    return fired, violated
