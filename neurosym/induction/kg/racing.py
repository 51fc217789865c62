r"""Racing: a body none of whose rules can be kept dies on a sample of its subjects, long before all of them are gone through.

A body has bₓ bindings (x, y) for each x of a domain of N entities, of which sₓ are facts of a head d. Its rule is not kept
unless Σₓ (sₓ − c·bₓ) ≥ 0, c being the least confidence that is enough: that of the thresholds, and then that of the
generalisations. What is summed is bounded, so that few x tell its mean. For any T and B

    uₓ = min(sₓ, T) − c·min(bₓ, B) lies in [−cB, T],    Σₓ uₓ ≥ −E,    E = Σₓ max(0, facts of d that x has − T),

because x has no more support than facts of d, which are counted beforehand. So if n of the N are drawn without replacement the
mean ū of theirs satisfies (W. Hoeffding, JASA 58, 1963, theorem 1 and section 6)

    P(ū ≤ v) ≤ exp(−n·kl(p̂, p)),    p̂ = (v + cB) / (T + cB) < p = (cB − E/N) / (T + cB),

kl being that of two coins. An x with many bindings is one draw, however many these are. A head is out when that is below its
part of δ, of which it has one for each look, T and B; the body is dead when all heads are. It is dead as well when it would
surely need more work than is allowed, which is told in the same way. So *of each rule that would be kept, the chance of being
lost is at most δ once its body is made*, whatever other heads and bodies do. That is not the chance of missing it in a search:
a rule whose parent was lost may never be made.

A body that lives goes on with the x that are left: what was drawn is not lost, and its measures are exact. The sample hangs on
the body and the seed alone, not on the island, the thread, or what was measured before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurosym.induction.kg.bodies import Body, X, Y
from neurosym.induction.kg.engine import Sums
from neurosym.induction.kg.evaluator import Evaluator, Pairs
from neurosym.induction.kg.store import Int64, TripleStore

LOOKS: Final = (64, 256, 1024, 4096)
"""Subjects that were drawn when it is asked whether the body is dead; never more than half of them."""
SHORT: Final = 512
"""A body with fewer subjects than this is measured at once."""
CHEAP: Final = 500_000
"""So is one that, by the first look, needs less work than this in all: it takes some milliseconds, and asking one of them."""
_SUPPORTS: Final = np.array([1.0, 32.0, np.inf])
_SIZES: Final = 4.0 ** np.arange(7)
_WORKS: Final = np.array([2.0, 16.0, 128.0])
"""T, B, and the same for work, in multiples of the mean that is allowed."""

Floats = NDArray[np.float64]


def excesses(store: TripleStore) -> tuple[Floats, Floats]:
    """Of each direction and T: the most support that one x counts with, and E."""
    csr = store.csr
    facts = np.diff(csr.start).astype(np.float64)
    first = csr.first_row
    most = np.array([facts[a:b].max(initial=0.0) for a, b in pairwise(first)])
    limits = np.minimum(_SUPPORTS, np.maximum(most, 1.0)[:, None])
    over = [np.maximum(facts[a:b, None] - limits[d], 0.0).sum(0) for d, (a, b) in enumerate(pairwise(first))]
    return limits, np.array(over)


def divergence(p: Floats, q: Floats) -> Floats:
    """kl(p, q) of coins that fall with chance p and q; 0 where p ≥ q.

    >>> divergence(np.array([0.0, 0.5]), np.array([0.5, 0.2])).round(3).tolist()
    [0.693, 0.0]
    """
    below = p < q
    p, q = np.where(below, np.clip(p, 0.0, 1.0), 0.0), np.where(below, q, 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.where(p > 0, p * np.log(p / q), 0.0)
        other = np.where(p < 1, (1 - p) * np.log((1 - p) / (1 - q)), 0.0)
    return np.where(below, one + other, 0.0)


def are_below(
    support: Floats, sizes: Int64, population: int, needed: Floats, limits: Floats, over: Floats, surprise: float
) -> NDArray[np.bool_]:
    """Of which heads the confidence is surely below what they need.

    Args:
        support: Σ sₓ of the sample, by head.
        sizes: bₓ of the sample.
        needed: c by head.
        limits, over: T and E by head, see `excesses`.
        surprise: ln(1/δ) for all T and B together.
    """
    n, tests = len(sizes), len(_SIZES) * limits.shape[1]
    cut = np.minimum(sizes[:, None], _SIZES).sum(0)
    c = needed[:, None, None]
    least = c * _SIZES
    width = limits[:, :, None] + least
    p = ((support[:, None, None] - c * cut) / n + least) / width
    q = (least - over[:, :, None] / population) / width
    return np.asarray((n * divergence(p, q) >= surprise + math.log(tests)).any((1, 2)))


def is_above(works: Int64, population: int, cap: int, surprise: float) -> bool:
    """Whether the work for all is surely more than the cap."""
    mean = cap / population
    limits = mean * _WORKS
    p = 1 - np.minimum(works[:, None], limits).mean(0) / limits
    return bool((len(works) * divergence(p, 1 - mean / limits) >= surprise + math.log(len(limits))).any())


class Race:
    """Measures sets of pairs as an `Evaluator` does, but for those that are surely worth nothing; for one thread.

    Args:
        least: the confidence that every rule must have.
        delta: the chance at most that a rule that would be kept is lost, once its body is made.
        wanted: of each direction whether rules for it are wanted.

    Attributes:
        looked_at: of the body asked for last, facts looked at until it was dead, which are the cap if that was reached (where
            the entity that reaches it is counted whole); of one that lives those of the sample, 0 if none was drawn.
    """

    def __init__(self, evaluator: Evaluator, least: float, delta: float, seed: int, wanted: NDArray[np.bool_]) -> None:
        self.evaluator, self.store, self.least, self.seed = evaluator, evaluator.store, least, seed
        self._limits, self._over = excesses(self.store)
        self._wanted, self._times = wanted, np.zeros(len(self.store.entities), dtype=np.int32)
        # half for the heads, looked at once more at the first look; half for the work
        self._surprise = math.log(2 * (len(LOOKS) + 1) / delta)
        self.looked_at = 0

    def pairs(self, body: Body, known: Callable[[], Floats]) -> Pairs | None:
        """What `Evaluator.pairs` says of a canonical body; or None if no rule of it can be kept.

        Args:
            known: of each direction the confidence that its rule must have because the generalisations have it.
        """
        counting = self.evaluator.counting(body, self._times)
        self.looked_at = 0
        if counting is None or len(counting.xs) < SHORT:
            return self._told(self.evaluator.pairs(body))
        xs, cap = counting.xs, self.evaluator.cap
        looks = [n for n in LOOKS if n <= len(xs) // 2]
        drawn = self._drawn(body, len(xs), looks[-1])
        sizes, works = np.zeros((2, looks[-1]), dtype=np.int64)
        needed = np.full(self.store.directions, self.least)
        alive, done = self._heads(body), 0
        for n in looks:
            some = slice(done, n)
            left = cap - self.looked_at
            if counting.each(xs[drawn[some]], left, sizes[some], works[some]) < n - done:
                counting.wipe()
                return self._told(None)
            self.looked_at, done = int(works[:n].sum()), n
            if is_above(works[:n], len(xs), cap, self._surprise):
                counting.wipe()
                return None
            alive = alive[~self._are_out(alive, counting.sums, sizes[:n], len(xs), needed)]
            if n == looks[0] and len(alive):
                if self.looked_at / n * len(xs) < CHEAP:
                    break
                needed = np.maximum(needed, known())
                alive = alive[~self._are_out(alive, counting.sums, sizes[:n], len(xs), needed)]
            if not len(alive):
                counting.wipe()
                return None
        rest = np.ones(len(xs), dtype=np.bool_)
        rest[drawn[:done]] = False
        return self._told(self.evaluator.finished(body, counting, xs[rest], int(sizes[:done].sum()), self.looked_at))

    def _told(self, found: Pairs | None) -> Pairs | None:
        """What was found; if nothing the cap was reached."""
        if found is None:
            self.looked_at = self.evaluator.cap
        return found

    def _are_out(self, heads: Int64, sums: Sums, sizes: Int64, population: int, needed: Floats) -> NDArray[np.bool_]:
        support = sums.support[heads].astype(np.float64)
        out = np.zeros(len(heads), dtype=np.bool_)
        asked = support < needed[heads] * sizes.sum()  # the others are above in the sample itself
        at = heads[asked]
        out[asked] = are_below(
            support[asked], sizes, population, needed[at], self._limits[at], self._over[at], self._surprise
        )
        return out

    def _heads(self, body: Body) -> Int64:
        """The directions that a rule may be for: those that are wanted and that the body does not repeat."""
        wanted = self._wanted.copy()
        wanted[
            [2 * p.relation + (p.a == Y) for p in body if {p.a, p.b} == {X, Y} and not p.negated and p.relation >= 0]
        ] = False
        return np.flatnonzero(wanted)

    def _drawn(self, body: Body, population: int, most: int) -> Int64:
        words = [self.seed, *(int(v) & 0xFFFFFFFF for literal in body for v in literal)]
        return np.random.default_rng(words).choice(population, most, replace=False)
