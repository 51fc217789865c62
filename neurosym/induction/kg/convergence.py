"""How a search converges, for people to see while it goes on: its rate, its best rules, and a curve of what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from neurosym.induction.kg.clock import State

_LEVELS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 60
_SLACK: Final = 1e-8
"""Of a part: a state at the end of one is of it."""
_APART: Final = 0.2
"""Seconds between two states that are kept."""
_LATELY: Final = 5.0
"""Seconds over which a rate is taken."""


class Convergence(list[State]):
    """The states of a search, one for each fifth of a second: the last of them is always the newest that was told."""

    def told(self, state: State) -> bool:
        """Take another state; whether some time has passed since what is shown was made."""
        new = len(self) < 2 or self[-1].seconds - self[-2].seconds >= _APART
        if new:
            self.append(state)
        else:
            self[-1] = state
        return new


def said(states: Sequence[State]) -> str:
    """The last state in a few words: generation, rules, and how many a second were found lately."""
    last = states[-1]
    before = next((s for s in states if s.seconds >= last.seconds - _LATELY), last)
    took = last.seconds - before.seconds
    rate = f", {max(0, last.rules - before.rules) / took:.0f}/s" if took > 0 else ""
    return f"generation {last.generation}: {last.rules} rules{rate}"


def picture(states: Sequence[State], budget: float | None, width: int = _WIDTH) -> str:
    """The worth of the evolution over the time it has, as a curve of blocks, and the best rules below it."""
    reached = states[-1].reached
    lines = [f"best  {line}" for line in reached.best]
    if reached.worth > 0:
        lines = [f"worth {curve(states, budget, width)} {reached.worth:.0f}", *lines]
    return "\n".join(lines)


def curve(states: Sequence[State], budget: float | None, width: int = _WIDTH) -> str:
    """A character for each part of the time (of the budget, or of what has passed): the highest worth until its end.

    >>> from neurosym.induction.kg.clock import Reached
    >>> curve([State(float(s), 0, Reached(worth=v)) for s, v in ((1, 0.0), (2, 4.0), (3, 6.0), (4, 7.0))], 8.0, 8)
    '▁▅▇█    '
    """
    seconds, worth = np.array([(s.seconds, s.reached.worth) for s in states]).T
    end = max(budget or 0.0, float(seconds[-1]))
    parts = (np.arange(1, width + 1) + _SLACK) * end / width
    known = np.searchsorted(seconds, parts, side="right") - 1
    levels = np.where(known < 0, 0, worth[known]) / max(float(worth[-1]), 1e-9) * (len(_LEVELS) - 1)
    past = np.ceil(float(seconds[-1]) / end * width - _SLACK)
    return "".join(_LEVELS[round(float(v))] if i < past else " " for i, v in enumerate(levels))


def as_dicts(states: Sequence[State]) -> list[dict[str, Any]]:
    """To plot: seconds, generation, rules, worth."""
    return [
        {
            "seconds": round(s.seconds, 2),
            "generation": s.generation,
            "rules": s.rules,
            "worth": round(s.reached.worth, 2),
        }
        for s in states
    ]
