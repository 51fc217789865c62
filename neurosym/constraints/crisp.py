"""Rules against a scene as a reader sees it: which groundings fire, and which of them break the rule.

This is the limit of `neurosym.constraints.loss.violation` for one-hot probabilities and temperature 0 (a test compares them),
computed in NumPy from the same compiled index tensors: truths are booleans, a conjunction is "all", a witness is "any". The
words are read off masks where detections have them, else off boxes. Where classes may overlap (`ConstraintSet.exclusive` is
False), the detections of one box are one object that is of all their classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from neurosym.constraints.geometry import MEASURE_NAMES, PLACES, TRUE, WORDS
from neurosym.constraints.numeric import InequalityGroup, margin
from neurosym.constraints.shapes import TRUE_LITERAL, ConstraintSet
from neurosym.knowledge.geometry import MEASURES, places_of
from neurosym.knowledge.mask_geometry import pair_margins
from neurosym.records import Detection, Scene, by_box

GRID = 128
"""Masks are read on a grid of at most so many pixels a side."""


@dataclass(frozen=True, slots=True)
class Grounding:
    """One application of rule number `rule` to detections of a scene (indices); `holds` is False for a violation.

    `objects` are those of the body: two, one, or none for a rule about the image as a whole. An object of several detections
    is named by the first of them.
    """

    rule: int
    objects: tuple[int, ...]
    holds: bool


def groundings(constraints: ConstraintSet, scene: Scene) -> list[Grounding]:
    """Every grounding of every rule whose body holds on the scene; a scene on which nothing is detected has none."""
    known = objects_in(constraints, scene)
    return list(_Crisp(constraints, scene, known).groundings()) if known else []


def objects_in(constraints: ConstraintSet, scene: Scene) -> list[list[int]]:
    """The objects of a scene that the rules know a class of, each as the indices of its detections."""
    known = [i for i, d in enumerate(scene.detections) if d.name in constraints.names]
    if constraints.exclusive:
        return [[i] for i in known]
    return [[known[k] for k in group] for group in by_box([scene.detections[i] for i in known])]


class _Crisp:
    """The truths of one scene as booleans."""

    def __init__(self, constraints: ConstraintSet, scene: Scene, objects: Sequence[Sequence[int]]) -> None:
        self.constraints, self.scene, self.known = constraints, scene, [group[0] for group in objects]
        self.found = [scene.detections[i] for i in self.known]
        self.names = [frozenset(scene.detections[i].name for i in group) for group in objects]
        self.boxes = np.array([d.box.xyxy for d in self.found], dtype=float)
        self.distinct = ~np.eye(len(self.known), dtype=bool)
        size = (scene.width, scene.height, np)
        self.measures = np.stack([MEASURES[name](self.boxes, *size) for name in MEASURE_NAMES])
        self.pairs = self._pairs()
        self.columns = self._columns(self._literals())

    def groundings(self) -> Iterator[Grounding]:
        group = self.constraints.pairs
        fields = (group.rule, group.first, group.second, group.body, group.head, group.denied)
        heads = (group.head_first, group.head_second)
        for rule, x, y, body, head, denied, u, v in zip(*(t.tolist() for t in (*fields, *heads)), strict=True):
            premise = self.columns[:, x, None] & self.columns[None, :, y] & self.distinct & self.pairs[body].all(0)
            holds = (self.columns[:, u, None] & self.columns[None, :, v] & self.pairs[head].all(0)) != denied
            for n, m in np.argwhere(premise):
                yield Grounding(rule, (self.known[n], self.known[m]), bool(holds[n, m]))
        one = self.constraints.unary
        table = (one.rule, one.first, one.head, one.denied, one.of_image)
        for rule, x, head, denied, of_image in zip(*(t.tolist() for t in table), strict=True):
            holds = self.columns[:, head] != denied
            for n in np.flatnonzero(self.columns[:1, x] if of_image else self.columns[:, x]):
                yield Grounding(rule, () if of_image else (self.known[n],), bool(holds[n]))

    def _pairs(self) -> np.ndarray:
        literals = self.constraints.pair_literals
        words = pair_margins(self.boxes, masks_of(self.found, self.scene), np) > 0
        words = np.concatenate([words, words.transpose(0, 2, 1), np.ones_like(words[:1])])
        assert len(words) == TRUE + 1 == 2 * len(WORDS) + 1
        parts = [words, ~words[literals.negated.cpu().numpy()]]
        for group in literals.inequalities:
            leaves = group.leaves.cpu().numpy()

            def leaf(slot: int, who: int, leaves: np.ndarray = leaves) -> np.ndarray:
                of_all: np.ndarray = self.measures[leaves[:, slot]]
                return of_all[:, None, :] if who else of_all[:, :, None]

            parts.append(_compared(group, leaf, 3))
        return np.concatenate(parts)

    def _literals(self) -> np.ndarray:
        table = self.constraints.literals
        classes = self._classes()
        among = table.given.cpu().numpy()
        of_one = np.stack([np.ones(len(self.known), bool), np.zeros(len(self.known), bool)], 1)
        parts = [of_one, classes, classes[:, among[:, 0]], self._places()[:, table.places.cpu().numpy()]]
        for group in table.inequalities:
            leaves = group.leaves.cpu().numpy()

            def leaf(slot: int, _: int, leaves: np.ndarray = leaves) -> np.ndarray:
                found: np.ndarray = self.measures[leaves[:, slot]]
                return found

            parts.append(_compared(group, leaf, 2).T)
        literals = np.concatenate(parts, 1)
        witnesses = self._related(table.witnesses, literals).any(2).T
        literals = np.concatenate([literals, witnesses, ~witnesses], 1)
        return np.concatenate([literals, self._counts(literals)], 1)

    def _classes(self) -> np.ndarray:
        """Which object is of which class: it is also of the classes above its own."""
        table = self.constraints.literals
        leaves = [[self.constraints.names.index(name) + 1 for name in sorted(of_one)] for of_one in self.names]
        if table.exclusive:
            return np.asarray(table.classes.cpu().numpy()[[leaf for [leaf] in leaves]] > 0.5)
        ancestry = self.constraints.ancestry.cpu().numpy() > 0.5
        labels = np.stack([ancestry[of_one].any(0) for of_one in leaves])
        labels[:, 0] = False
        found: np.ndarray = np.any(labels[:, table.members.cpu().numpy()], axis=2)
        first = found.shape[1] - table.negated_classes
        return np.concatenate([found[:, :first], ~found[:, first:]], 1)

    def _places(self) -> np.ndarray:
        """[detection, place], then the negations."""
        frames: dict[str, list[np.ndarray]] = {}
        for names, box in zip(self.names, self.boxes, strict=True):
            for name in sorted(names & self.constraints.zoned):
                frames.setdefault(name, []).append(box)
        size = (self.scene.width, self.scene.height)
        placed = [
            places_of(box, frames, *size, np, names.isdisjoint(self.constraints.zoned))
            for names, box in zip(self.names, self.boxes, strict=True)
        ]
        truth = np.array([[place in found for place in PLACES] for found in placed])
        return np.concatenate([truth, ~truth], 1)

    def _related(self, table: Any, literals: np.ndarray) -> np.ndarray:
        """[row, n, m]: m has the column and the words to n."""
        columns = self._columns(literals)[:, table.column.cpu().numpy()].T[:, None, :]
        words = self.pairs[table.words.cpu().numpy()].all(1)
        return np.asarray(words & columns & (self.distinct | table.reflexive.cpu().numpy()[:, None, None]))

    def _counts(self, literals: np.ndarray) -> np.ndarray:
        table = self.constraints.literals.counts
        number = self._related(table, literals).sum(2)
        weights = np.concatenate([table.weights.cpu().numpy(), np.zeros((len(number), 1))], 1)
        chosen = np.take_along_axis(weights, np.minimum(number, weights.shape[1] - 1), 1)
        return np.asarray(table.offset.cpu().numpy()[:, None] + chosen > 0.5).T

    def _columns(self, literals: np.ndarray) -> np.ndarray:
        index = self.constraints.columns.cpu().numpy()
        index = np.where(index < literals.shape[1], index, TRUE_LITERAL)
        return np.asarray(literals[:, index].all(2))


def _compared(group: InequalityGroup, leaf: Any, dimensions: int) -> np.ndarray:
    numbers = group.numbers.cpu().numpy()
    shape = (len(numbers),) + (1,) * (dimensions - 1)
    found = margin(group.form, leaf, lambda slot: numbers[:, slot].reshape(shape), np)
    return np.asarray(np.where(group.strict.cpu().numpy().reshape(shape), found > 0, found >= 0))


def masks_of(detections: Iterable[Detection], scene: Scene) -> np.ndarray | None:
    """(detection, height, width) in [0, 1] on a grid of at most `GRID` pixels a side, empty for a detection without a mask."""
    from neurosym.data.masks import decode_mask

    codes: list[Mapping[str, Any] | None] = [d.mask for d in detections]
    if not any(code is not None for code in codes):
        return None
    height, width = min(GRID, scene.height), min(GRID, scene.width)
    empty = np.zeros((height, width))
    return np.stack([empty if c is None else _resampled(decode_mask(c), height, width) for c in codes])


def _resampled(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mean of the mask over the cells of a coarser grid; a mask that is no finer is stretched."""
    found = mask.astype(float)
    for axis, cells in ((0, height), (1, width)):
        edges = np.linspace(0, found.shape[axis], cells + 1)
        sums = np.concatenate([np.zeros_like(found.take([0], axis)), found.cumsum(axis)], axis)
        low = np.floor(edges).astype(int)
        high = np.minimum(low + 1, found.shape[axis])
        share = (edges - low).reshape([-1 if a == axis else 1 for a in (0, 1)])
        at = sums.take(low, axis) * (1 - share) + sums.take(high, axis) * share
        found = np.diff(at, axis=axis) / (found.shape[axis] / cells)
    return found.clip(0.0, 1.0)  # rounding of the running sums


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
    return score_scenes(constraints, predicted, true)[0]


def score_scenes(
    constraints: ConstraintSet, predicted: Iterable[Scene], true: Iterable[Scene]
) -> tuple[list[RuleScore], float | None]:
    """What `score_rules` tells, and `share_of_broken` of the predicted scenes."""
    mine, annotated = _tally(constraints, predicted), _tally(constraints, true)
    scores = [
        RuleScore(rule.id, str(rule), mine.fired[i], mine.violated[i], annotated.fired[i], annotated.violated[i])
        for i, rule in enumerate(constraints.rules)
    ]
    return scores, mine.share


def share_of_broken(constraints: ConstraintSet, scenes: Iterable[Scene]) -> float | None:
    """The share of the objects of all scenes at which a hard rule is broken, alone or with another.

    None without objects, or without hard rules.
    """
    return _tally(constraints, scenes).share


class _Tally(NamedTuple):
    fired: Counter[int]
    violated: Counter[int]
    share: float | None
    """Of the objects, those at which a hard rule is broken."""


def _tally(constraints: ConstraintSet, scenes: Iterable[Scene]) -> _Tally:
    hard = {i for i, rule in enumerate(constraints.rules) if rule.weight is None}
    fired: Counter[int] = Counter()
    violated: Counter[int] = Counter()
    objects = broken = 0
    for scene in scenes:
        at: set[int] = set()
        for grounding in groundings(constraints, scene):
            fired[grounding.rule] += 1
            violated[grounding.rule] += not grounding.holds
            if grounding.rule in hard and not grounding.holds:
                at.update(grounding.objects)
        objects += len(objects_in(constraints, scene))
        broken += len(at)
    return _Tally(fired, violated, broken / objects if hard and objects else None)
