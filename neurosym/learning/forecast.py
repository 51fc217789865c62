"""What a training run will take, from a few steps of it: told before it starts, so that a budget can be thought over.

The steps are those of a second trainer on the first images of the data, in a folder that is thrown away; the run itself is not
touched by it. Steps on labels alone and steps with a teacher are timed apart. What knowledge learns besides (the refiner, the
scorer of instances) is left out and said to be: it takes longer than a forecast may.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from neurosym.learning.config import InstancesConfig, RefinerConfig, TrainConfig

IMAGES = 12
"""Images of each pool that are looked at."""


@dataclass(frozen=True)
class Forecast:
    """Seconds of a step, of each phase; `phases` are (steps, seconds a step)."""

    phases: tuple[tuple[int, float], ...]
    without: tuple[str, ...] = ()
    """What takes time besides, that was not timed."""

    @property
    def steps(self) -> int:
        """Steps in all."""
        return sum(steps for steps, _ in self.phases)

    @property
    def seconds(self) -> float:
        """Seconds in all."""
        return sum(steps * each for steps, each in self.phases)

    def __str__(self) -> str:
        if not self.phases:
            return "no step is left"
        parts = " + ".join(f"{steps} steps of {each:.2f} s" for steps, each in self.phases)
        left_out = f", without {' and '.join(self.without)}" if self.without else ""
        return f"about {spoken(self.seconds)}{left_out} ({parts})"


def spoken(seconds: float) -> str:
    """A duration as people say it.

    >>> spoken(42), spoken(150), spoken(9000)
    ('42 s', '2.5 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def forecast(config: TrainConfig, steps: int = 3, done: int = 0) -> Forecast:
    """Time some steps of a run; the first of each phase warms up and does not count.

    Args:
        config: of the run.
        steps: that are timed in each phase.
        done: steps of the run that are behind it already.

    Raises:
        what `train` raises.
    """
    from neurosym.learning.train import open_trainer  # torch only now

    learned = tuple(
        n for n, on in (("the refiner", config.refiner.enabled), ("instances", config.instances.enabled)) if on
    )
    total = config.train.steps
    if done >= total:
        return Forecast((), learned)
    tried = config.model_copy(update={"refiner": RefinerConfig(), "instances": InstancesConfig()})
    starts = [0, *([min(config.teacher.start, total)] if config.teacher.weight > 0 else [])]
    ends = [*starts[1:], total]
    with tempfile.TemporaryDirectory() as folder, _quietly():
        trainer = open_trainer(tried, Path(folder) / "run", IMAGES)
        phases = []
        with closing(trainer):
            trainer.prepare(resume=False)
            for start, end in zip(starts, ends, strict=True):
                left = max(0, end - max(start, done))
                if left:
                    phases.append((left, _seconds(trainer.time_steps(start, steps + 1))))
    return Forecast(tuple(phases), learned)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings: the run itself says them, with paths that stay."""
    log = logging.getLogger("neurosym")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _seconds(each: Sequence[float]) -> float:
    return statistics.median(each[1:]) if len(each) > 1 else each[0]


def steps_done(run: Path) -> int:
    """The step of a run's last checkpoint, 0 if there is none."""
    numbers = (p.name.removeprefix("step-") for p in (run / "checkpoints").glob("step-*"))
    return max((int(n) for n in numbers if n.isdecimal()), default=0)
