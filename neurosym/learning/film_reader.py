"""The films of each step of a training, read ahead of it by threads, and the share of them that one of several processes has.

Threads are enough: most of what a film takes, reading, hashing and decoding, happens outside of Python's lock, and so does what
a step computes. What a step gets depends on its number alone, however many threads read, and wherever a resumed run begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from neurosym.data.config import ShardData
from neurosym.data.pool import shard_sets
from neurosym.knowledge.files import write_text_atomically
from neurosym.learning.config import TrainConfig
from neurosym.learning.distribution import ALONE, World
from neurosym.learning.quality_order import QualityOrder
from neurosym.learning.sampling import Order, image_order, uniform_order
from neurosym.records import Sample

AHEAD: Final = 2
"""Steps that are read while one is computed."""
SKIPPED: Final = "skipped.txt"
Item = TypeVar("Item")


def dealt(order: Order, world: World, parts: int) -> Order:
    """The films of an order that one of the processes shows, those of the parts of a step one after the other."""
    return lambda batch, step: [n for part in range(parts) for n in world.share(order(batch, step), part, parts)]


class FilmReader:
    """Films by step.

    Args:
        samples: what the order's numbers are of.
        order: the films of a step.
        batch: what the order is asked for.
        readers: threads; 0 reads when a step asks.
        steps: nothing is read ahead for steps from this number on.
        parts: that a step sees its films in, one after the other.
    """

    def __init__(
        self, samples: Sequence[Sample], order: Order, batch: int, readers: int, steps: int, parts: int = 1
    ) -> None:
        self.samples, self.order, self.batch, self.steps, self.parts = samples, order, batch, steps, parts
        self._threads = ThreadPoolExecutor(readers, "films") if readers else None
        self._coming: dict[int, tuple[list[int], list[Future[Sample]]]] = {}

    def films(self, step: int, part: int = 0) -> tuple[list[int], list[Sample]]:
        """The numbers of the films that a step sees in one of its parts, and the films.

        Raises:
            DataError: one of them cannot be read.
        """
        if self._threads is None:
            chosen = self._part(self.order(self.batch, step), part)
            return chosen, [self.samples[i] for i in chosen]
        left = [n for n in self._coming if not step <= n <= step + AHEAD]  # steps that are over, or left
        if step in self._coming and self._coming[step][0] != self.order(self.batch, step):
            left = list(self._coming)  # the order has changed on the way
        for number in left:
            for unwanted in self._coming.pop(number)[1]:
                unwanted.cancel()
        for number in (step, *range(step + 1, min(step + 1 + AHEAD, self.steps))):
            if number not in self._coming:
                chosen = self.order(self.batch, number)
                self._coming[number] = chosen, [self._threads.submit(self.samples.__getitem__, i) for i in chosen]
        chosen, found = self._coming[step]
        return self._part(chosen, part), [each.result() for each in self._part(found, part)]

    def _part(self, of_step: Sequence[Item], part: int) -> list[Item]:
        each = len(of_step) // self.parts
        return list(of_step[part * each : (part + 1) * each])

    def close(self) -> None:
        """Stop the threads."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)


def film_readers(
    config: TrainConfig,
    names: Sequence[str],
    images: Sequence[Sample],
    unlabelled: Sequence[Sample],
    world: World = ALONE,
) -> tuple[FilmReader, FilmReader, QualityOrder | None]:
    """What reads this process's share of the labelled and of the unlabelled films of a run; the labelled ones' order, if it is
    one that must be told their quality."""
    optim, seed, parts = config.train, config.seed, config.train.accumulate
    readers = config.data.readers if isinstance(config.data, ShardData) else 0
    asked = optim.sampling == "quality"
    quality = QualityOrder.of(uniform_order(images, seed), optim, seed) if asked else None
    order = quality or image_order(optim.sampling, images, names, optim.repeat_threshold, seed)
    others = config.teacher.batch if config.teacher.weight > 0 else config.constraints.unlabelled_batch
    other = uniform_order(unlabelled, seed + 1)
    return (
        FilmReader(images, dealt(order, world, parts), optim.batch_size, readers, optim.steps, parts),
        FilmReader(unlabelled, dealt(other, world, parts), others, readers, optim.steps, parts),
        quality,
    )


def list_skipped(folder: Path, pools: Sequence[Sequence[Sample]]) -> int:
    """Add to ``skipped.txt`` the damaged films that others were shown for, and why; returns how many it lists."""
    found = {str(problem) for pool in pools for shards in shard_sets(pool) for problem in [*shards.skipped.values()]}
    path = folder / SKIPPED
    known = set(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else set()
    if found - known:
        write_text_atomically(path, "".join(f"{line}\n" for line in sorted(known | found)))
    return len(known | found)
