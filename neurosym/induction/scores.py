"""One body, all heads: measure a query once and score it as a rule for every head relation.

A body with its head variables numbered 0 (and 1) yields a set of entities (or ordered pairs). Laid over the facts of
all head relations of that arity as a 0/1 vector, one matrix product gives the support of every head. Bodies are
memoised by canonical form.

The quality of a rule, by which it is selected and listed, is

    quality = max(0, (bound - prior) / (1 - prior)) · √coverage · 0.9^(argument places of the body)

bound: the lower end of Wilson's 95% interval of the confidence, so that 5 of 5 ranks below 240 of 250. A film is one
observation however many pairs of objects it shows, so with scenes the trials are those the body holds in. The excess
over the prior is the share of uncertainty the rule removes; a relation that holds for every other pair anyway gains
little from a confidence of 0.6. coverage: the share of the scenes showing the head in which the rule derives it
rightly; in a general graph the head coverage. By scenes, because a rule on two organs meets one pair a film out of many
and is no less general for that. The last factor prefers what is quick to read: `right_lung(X), heart(Y)` has two
places, a chain of two relations four. The formula is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurosym.induction.clauses import Body, canonical_body
from neurosym.induction.config import InductionConfig
from neurosym.induction.engine import object_is_subject, prior_of
from neurosym.induction.index import BoolArray, FactIndex, FloatArray, IntArray
from neurosym.induction.joins import TooExpensiveError, bind
from neurosym.induction.subsumption import Clause, Known
from neurosym.knowledge.subsumption import Coded

BREVITY: Final = 0.9
_NORMAL_975: Final = 1.959964
_MEMO_BYTES: Final = 256_000_000
_MOST_STAMPED: Final = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """A body's measures, one entry per head relation of the arity (in the order of `Scorer.heads`)."""

    body_size: int
    support: IntArray
    confidence: FloatArray
    """Standard or PCA, as the config says; 0 for heads that are trivial."""
    trials: FloatArray
    """Independent observations behind the confidence."""
    bound: FloatArray
    quality: FloatArray
    hits: NDArray[np.uint8]
    """The slots the body holds at, bit-packed."""


def wilson(confidence: FloatArray, trials: FloatArray) -> FloatArray:
    """The lower end of Wilson's 95% interval of a proportion; 0 without trials.

    >>> wilson(np.array([1.0, 0.96]), np.array([5.0, 250.0])).round(3).tolist()
    [0.566, 0.928]
    """
    n = np.maximum(trials, 1.0)
    z2 = _NORMAL_975**2
    centre = confidence + z2 / (2 * n)
    spread = _NORMAL_975 * np.sqrt(confidence * (1 - confidence) / n + z2 / (4 * n * n))
    return np.asarray(np.where(trials > 0, np.maximum(0.0, (centre - spread) / (1 + z2 / n)), 0.0))


class Scorer:
    """Scores bodies for all heads of one arity, keeps what passes the thresholds in `found`.

    A *slot* is an entity (or pair) of which some head relation is a fact; `member[h, s]` says whether head h is.
    """

    def __init__(self, index: FactIndex, arity: int, config: InductionConfig, given: Known, known: Known) -> None:
        self.index, self.arity, self.config = index, arity, config
        self.given, self.known = given, known
        self.heads = [i for i, relation in enumerate(index.relations) if relation.arity == arity]
        self.row = {relation: h for h, relation in enumerate(self.heads)}
        relations = [index.relations[i] for i in self.heads]
        self.slots: IntArray = np.unique(np.concatenate([r.ids for r in relations] or [np.zeros(0, np.int64)]))
        self.member: BoolArray = np.zeros((len(relations), len(self.slots)), dtype=bool)
        for h, relation in enumerate(relations):
            self.member[h, self.slots.searchsorted(relation.ids)] = True
        self._member = self.member.astype(np.float32)  # 0/1 sums are exact in single precision up to 2^24
        self._space = index.pair_count if arity == 2 else len(index.entities)
        starts = index.scene_start
        self._scene_ids = starts if arity == 1 else index.row_start[starts]
        """Where each scene's entities (or pairs) begin, and the end of the last."""
        firsts = self.slots if arity == 1 else index.row_start.searchsorted(self.slots, side="right") - 1
        self._slot_scene: IntArray = index.scene_of[firsts]
        self.prior = np.array([prior_of(index, r, config.injective) for r in relations])
        self._shown = self._scenes_hit(np.ones(len(self.slots), dtype=bool))
        self._sizes = np.array([len(r) for r in relations], dtype=np.float64)
        self._backwards = np.array([arity == 2 and object_is_subject(r) for r in relations], dtype=bool)
        self._subjects = np.zeros((len(relations), len(index.entities)), dtype=np.float32)
        for h, relation in enumerate(relations):
            self._subjects[h, relation.second if self._backwards[h] else relation.first] = 1.0
        if arity == 1:  # PCA of a class presumes an entity's classes known once one of them is
            self._subjects[:] = self._subjects.max(axis=0, initial=0.0)
        self.wanted = np.array([not config.targets or r.name in config.targets for r in relations], dtype=bool)
        self.found: dict[tuple[int, Body], float] = {}
        """(head relation, body) → quality, for every rule above the thresholds."""
        self.evaluated = self.too_expensive = 0
        self._memo: dict[Body, Scores | None] = {}
        self._memo_size = max(1000, _MEMO_BYTES // (len(self.slots) // 8 + 32 * len(relations) + 500))

    def score(self, body: Body) -> Scores | None:
        """The scores of a body in canonical form; None if it is too expensive to measure."""
        if body in self._memo:
            return self._memo[body]
        self.evaluated += 1
        scores = self._measure(body)
        if scores is None:
            self.too_expensive += 1
        else:
            self._keep(body, scores)
        if len(self._memo) >= self._memo_size:
            del self._memo[next(iter(self._memo))]
        self._memo[body] = scores
        return scores

    def supported(self, scores: Scores, head: int) -> BoolArray:
        """The slots at which body and head hold; `head` is a relation's number."""
        hits = np.unpackbits(scores.hits, count=len(self.slots)).view(bool)
        return np.asarray(hits & self.member[self.row[head]])

    def _measure(self, body: Body) -> Scores | None:
        index = self.index
        steps = [(index.relations[predicate], args) for predicate, args in body]
        try:
            table = bind(index, steps, injective=self.config.injective, cap=self.config.work_cap)
        except TooExpensiveError:
            return None
        ids = index.key([table.columns[v] for v in range(self.arity)])
        if self._space <= _MOST_STAMPED:
            stamps = np.zeros(self._space, dtype=bool)
            stamps[ids] = True
            hits = stamps[self.slots]
            distinct = np.flatnonzero(stamps)
        else:
            distinct = np.unique(ids)
            hits = np.isin(self.slots, distinct, assume_unique=True)
        support = (self._member @ hits.astype(np.float32)).astype(np.int64)
        support[self._trivial(body)] = 0
        size = self._size(distinct)
        confidence = support / np.maximum(size, 1.0)
        trials = np.minimum(size, self._scenes_of(distinct)) if index.has_scenes else size
        bound = wilson(confidence, trials)
        quality = self._quality(body, support, bound, hits)
        return Scores(len(distinct), support, confidence, trials, bound, quality, np.packbits(hits))

    def _size(self, distinct: IntArray) -> FloatArray:
        """The denominator of the confidence, by head."""
        if self.config.measure == "standard":
            return np.full(len(self.heads), float(len(distinct)))
        entities = len(self.index.entities)
        if self.arity == 1:
            return np.asarray(self._subjects[:, distinct].sum(axis=1), dtype=np.float64)
        x = self.index.row_start.searchsorted(distinct, side="right") - 1
        y = distinct - self.index.row_start[x] + self.index.scene_start[self.index.scene_of[x]]
        forwards = self._subjects @ np.bincount(x, minlength=entities).astype(np.float32)
        backwards = self._subjects @ np.bincount(y, minlength=entities).astype(np.float32)
        sizes: FloatArray = np.where(self._backwards, backwards, forwards).astype(np.float64)
        return sizes

    def _scenes_of(self, distinct: IntArray) -> int:
        """In how many scenes the (ascending) entities or pairs lie."""
        place = distinct.searchsorted(self._scene_ids)
        return int(np.count_nonzero(np.diff(place)))

    def _quality(self, body: Body, support: IntArray, bound: FloatArray, hits: BoolArray) -> FloatArray:
        gain: FloatArray = np.maximum(0.0, bound - self.prior) / np.maximum(1.0 - self.prior, 1e-9)
        gain[support < 1] = 0.0
        if not gain.any():
            return gain
        if self.index.has_scenes:
            coverage = self._scenes_hit(hits) / np.maximum(self._shown, 1)
        else:
            coverage = support / np.maximum(self._sizes, 1.0)
        places = sum(len(args) for _, args in body)
        quality: FloatArray = gain * np.sqrt(coverage) * BREVITY**places
        return quality

    def _scenes_hit(self, hits: BoolArray) -> IntArray:
        """For each head the number of scenes in which it holds at one of the slots."""
        slots = np.flatnonzero(hits)
        if not len(slots):
            return np.zeros(len(self.heads), dtype=np.int64)
        scenes = self._slot_scene[slots]
        starts = np.flatnonzero(np.diff(scenes, prepend=-1))
        held = np.bitwise_or.reduceat(self.member[:, slots].view(np.uint8), starts, axis=1)
        return np.asarray(np.count_nonzero(held, axis=1))

    def _trivial(self, body: Body) -> list[int]:
        """The heads that the body implies by what is known already (or that stand in it)."""
        known = self.known if len(body) > 1 else self.given
        head = tuple(range(self.arity))
        return [self.row[p] for p, args in known.closure(body) if args == head and p in self.row]

    def _keep(self, body: Body, scores: Scores) -> None:
        config = self.config
        passing = self.wanted & (scores.support >= config.min_support) & (scores.confidence >= config.min_confidence)
        passing &= scores.quality > 0
        if not passing.any():
            return
        if self.index.has_scenes and config.min_scenes > 1:
            hits = np.unpackbits(scores.hits, count=len(self.slots)).view(bool)
            passing &= self._scenes_hit(hits) >= config.min_scenes
        for h in np.flatnonzero(passing):
            self.found[self.heads[h], body] = float(scores.quality[h])


class Spelling:
    """Canonical bodies modulo known equivalences: right_of(Y, X) is always written left_of(X, Y).

    Only equivalences that the facts bear out are used, else rewriting would change what a body means.
    """

    def __init__(self) -> None:
        self.equivalents: dict[int, list[tuple[int, bool]]] = {}

    def learn(self, index: FactIndex, known: Known, trusted: set[Clause]) -> None:
        """Find which atoms imply each other by rules with one body atom among `trusted`."""
        binary = Known([c for c in known.clauses if c in trusted and len(c[1]) == 1], injective=known.injective)
        one_way: dict[Coded, set[Coded]] = {}
        for number, relation in enumerate(index.relations):
            atom: Coded = (number, tuple(range(relation.arity)))
            one_way[atom] = {a for a in binary.closure([atom]) if len(a[1]) == relation.arity}
        for number, relation in enumerate(index.relations):
            args = tuple(range(relation.arity))
            mutual = [
                (p, other != args)
                for p, other in sorted(one_way[number, args])
                if (number, other) in one_way.get((p, args), ())
            ]
            if len(mutual) > 1:
                self.equivalents[number] = mutual

    def atom(self, atom: tuple[int, tuple[int, ...]]) -> tuple[int, tuple[int, ...]]:
        """The preferred spelling of an atom."""
        choices = self.equivalents.get(atom[0])
        if choices is None:
            return atom
        return min((p, atom[1][::-1] if swapped else atom[1]) for p, swapped in choices)

    def body(self, atoms: Sequence[tuple[int, tuple[int, ...]]], arity: int) -> Body:
        """The canonical form of a body."""
        return canonical_body(atoms, arity, self.atom if self.equivalents else None)
