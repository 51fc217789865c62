"""The clock of a search: how far it is, and when it must stop so that what comes after it is done within the budget."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from neurosym.induction.kg.forecast import Forecast

log = logging.getLogger(__name__)
LEAST_SECONDS: Final = 5.0
"""Whatever the budget: without the short rules there is nothing to begin with."""
_FIRST: Final = 0.1
"""Share of the budget that a first generation is thought to take."""
_STEPS_DIFFER: Final = 2.0
"""How many times as long as the longest step until now the next one may take."""
_TRIAL: Final = 0.01
"""Share of the budget for one trial of what comes after the search."""


class Reached(NamedTuple):
    """What an evolution has come to: generations, the most trusted rules (31/33 r(X, Y) :- …), and its worth.

    The worth is the sum, over the rules that evolved, of the facts that each is right about times how much more it surely is
    trusted than what it was made of. It grows ever more slowly: once it hardly does, more time finds little.
    """

    generation: int = 0
    best: tuple[str, ...] = ()
    worth: float = 0.0


class State(NamedTuple):
    """Where the search is: seconds, rules found so far, what the evolution has come to."""

    seconds: float
    rules: int
    reached: Reached

    @property
    def generation(self) -> int:
        return self.reached.generation


_NOTHING: Final = Reached()


class Clock:
    """Tells how far a search is, and when its time is over."""

    def __init__(self, budget: float | None, told: Callable[[State], None]) -> None:
        self.budget, self.told = budget, told
        self.started = self.written = time.monotonic()
        self.before = 0
        self.stopped = False
        self.forecast = Forecast()
        self._asked, self._longest, self._first = self.started, 0.0, False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def since_written(self) -> float:
        return time.monotonic() - self.written

    def wrote(self) -> None:
        """What was found until now is written down."""
        self.written = time.monotonic()

    @property
    def end(self) -> float | None:
        """When all must be done, by the clock of `time.monotonic`."""
        return None if self.budget is None else self.started + max(LEAST_SECONDS, self.budget)

    def share(self, of_all: float) -> float:
        """So many seconds are a share of the budget."""
        return math.inf if self.end is None else of_all * (self.end - self.started)

    def goes_on(self, found: int, share: float, reached: Reached = _NOTHING) -> bool:
        """Whether there is time left of a share of the budget."""
        self.told(State(self.seconds, self.before + found, reached))
        in_time = self.budget is None or self.seconds < share * self.budget
        return in_time and not self.stopped and self.leaves_time(self.before + found)

    def leaves_time(self, rules: int, step: float = 0.0) -> bool:
        """Whether what comes after the search can still be done with so many rules if it goes on for a step of some seconds."""
        return self.end is None or time.monotonic() + step + self.forecast.seconds(rules) < self.end

    def begins(self) -> None:
        """Another stage begins: before its first step nobody knows how long one takes, and there must be some time left."""
        self._longest, self._first = 0.0, True
        self.forecast.begins(self.before, time.monotonic())

    def has_time_to_begin(self, rules: int) -> bool:
        """Whether there is time for a first generation, with so many rules."""
        return self.leaves_time(rules, _FIRST * (self.budget or 0.0))

    def has_time_for_another(self, found: int) -> bool:
        """The same, if it goes on for as long as it took at most between two calls."""
        now = time.monotonic()
        if self._first:
            self._first, self._asked = False, now
            return self.has_time_to_begin(self.before + found)
        self._longest, self._asked = max(self._longest, now - self._asked), now
        return self.leaves_time(self.before + found, _STEPS_DIFFER * self._longest)

    def try_rest(self, rules: int, trial: Callable[[float], float]) -> None:
        """Try what comes after the search, if a trial is due: `trial` tells its seconds, and may take some itself.

        One is due as well where there is no time left only because of the rules found since the last one. None is made where it
        would take the time that is left.
        """
        forecast = self.forecast
        if self.end is None or not self.leaves_time(forecast.rules, 2 * forecast.took):
            return
        started = time.monotonic()
        step = _STEPS_DIFFER * max(self._longest, started - self._asked)
        if not forecast.is_due(started, rules) and self.leaves_time(rules, step):
            return
        seconds = trial(self.share(_TRIAL))
        now = time.monotonic()
        log.debug("%.1f s: the rest takes %.3f s with %d rules", self.seconds, seconds, rules)
        forecast.tried(rules, seconds, now, now - started)
        self._asked += now - started
