"""How many seconds before its budget is over must a search stop, so that the rest can be done in time?

The rest is to put the rules into columns, to ask known facts, and perhaps facts held back, which rules they need, and what the
caller does with them. It is *tried* on some entities and questions now and then, in the middle of the search; a trial is
followed by twenty times as long without any. The seconds for all entities are told from those for some of them, two standard
errors on the safe side, and from one trial to the next they grow with the number of rules as they did before.
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
_PAUSE: Final = 20.0


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
    while True:
        took = []
        for k in range(_PIECES):
            began = time.perf_counter()
            part(k * share, share)
            took.append(max(0.0, time.perf_counter() - began - without))
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
    >>> forecast.seconds(3000)
    1.5
    >>> forecast.is_due(2.5), forecast.is_due(3.0)
    (False, True)
    """

    def __init__(self) -> None:
        self.rules, self._seconds, self._each, self.took = 0, 0.0, 0.0, 0.0
        self._next = -math.inf

    def is_due(self, now: float) -> bool:
        """Whether the next trial may be made."""
        return now >= self._next

    def tried(self, rules: int, seconds: float, at: float, took: float) -> None:
        """Take up what a trial with so many rules told, when it ended, and how long it took."""
        if rules > self.rules:
            self._each = max(0.0, (seconds - self._seconds) / (rules - self.rules))
        self.rules, self._seconds, self._next, self.took = rules, seconds, at + _PAUSE * took, took

    def seconds(self, rules: int) -> float:
        """What the rest takes with so many rules."""
        return self._seconds + self._each * max(0, rules - self.rules)
