"""How many seconds before its budget is over must a search stop, so that the rest can be done in time?

The rest is to put the rules into columns, to ask known facts, and perhaps facts held back, which rules they need, and what the
caller does with them. It is *tried* on some entities and questions now and then, in the middle of the search; a trial is
followed by twenty times as long without any, unless its stage of the search has found twice as many rules by then. The first
one of a stage comes sooner: a few rules of a new kind, long paths say, may take longer than all before them. The seconds for
all entities are told from those for some of them, two standard errors on the safe side. From one trial to the next they grow
with the number of rules as they did before, and at least in proportion; two fifths more are kept free, since rules differ.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Final

_PIECES: Final = 4
_SHARE: Final = 1 / 64
_LARGEST: Final = 1 / 16
_ODD: Final = 4.0
"""How much longer than most a piece must take to be timed again: the machine may have been busy with something else."""
_PAUSE: Final = 20.0
_FIRST_PAUSE: Final = 1.0
"""How many times as long as the last trial a stage goes on before its first one."""
_FEW: Final = 1000
"""Rules of a stage for which nothing is tried, and below which seconds are not in proportion to rules."""
_SAFE: Final = 1.4


def seconds_of_all(part: Callable[[float, float], None], at_most: float) -> float:
    """Seconds that `part(0, 1)` takes, told from `part(first, share)` of small shares.

    Args:
        part: does the work for some share of it, from another share of it on.
        at_most: seconds to spend on this, or so.
    """
    started = time.perf_counter()
    part(0.0, 0.0)
    without = time.perf_counter() - started
    share = _SHARE

    def took_by(k: int) -> float:
        began = time.perf_counter()
        part(k * share, share)
        return max(0.0, time.perf_counter() - began - without)

    while True:
        took = [took_by(k) for k in range(_PIECES)]
        odd = _ODD * statistics.median(took)
        took = [seconds if seconds <= odd else min(seconds, took_by(k)) for k, seconds in enumerate(took)]
        if share >= _LARGEST or 4 * sum(took) > at_most - (time.perf_counter() - started):
            break
        share *= 4
    return without + (statistics.fmean(took) + 2 * statistics.stdev(took) / math.sqrt(_PIECES)) / share


class Forecast:
    """Seconds that the rest will take, by how many rules there are; 0 until something was tried.

    Attributes:
        rules, took: how many rules there were in the last trial, and its seconds.

    >>> forecast = Forecast()
    >>> forecast.tried(1000, seconds=0.5, at=1.0, took=0.1)
    >>> forecast.seconds(2000)  # twice as long, and two fifths more
    1.4
    >>> forecast.is_due(2.5, 2000), forecast.is_due(3.0, 2000), forecast.is_due(2.5, 3000)
    (False, True, True)
    """

    def __init__(self) -> None:
        self.rules, self._seconds, self._each, self.took = 0, 0.0, 0.0, 0.0
        self._next, self._before = -math.inf, 0

    def is_due(self, now: float, rules: int) -> bool:
        """Whether the next trial is to be made, with so many rules."""
        return now >= self._next or rules - self._before >= 2 * (self.rules - self._before) + _FEW

    def begins(self, rules: int, at: float) -> None:
        """Another stage of the search begins, with so many rules."""
        self._before, self._next = rules, min(self._next, at + _FIRST_PAUSE * self.took)

    def tried(self, rules: int, seconds: float, at: float, took: float) -> None:
        """Take up what a trial with so many rules told, when it ended, and how long it took."""
        if rules > self.rules > 0:
            self._each = max(0.0, (seconds - self._seconds) / (rules - self.rules))
        self.rules, self._seconds, self._next, self.took = rules, seconds, at + _PAUSE * took, took

    def seconds(self, rules: int) -> float:
        """What the rest takes with so many rules, on the safe side."""
        in_proportion = self._seconds / max(_FEW, self.rules)
        return _SAFE * (self._seconds + max(0, rules - self.rules) * max(self._each, in_proportion))
