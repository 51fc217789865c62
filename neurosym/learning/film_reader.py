"""The films of each step of a training, read ahead of it by threads, and the share of them that one of several processes has.

Threads are enough: most of what a film takes, reading, hashing and decoding, happens outside of Python's lock, and so does what
a step computes. What a step gets depends on its number alone, however many threads read, and wherever a resumed run begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from neurosym.data.config import ShardData
from neurosym.data.pool import shard_sets
from neurosym.knowledge.files import write_text_atomically
from neurosym.learning.config import TrainConfig
from neurosym.learning.sampling import Order, image_order, uniform_order
from neurosym.records import Sample

AHEAD: Final = 2
"""Steps that are read while one is computed."""
SKIPPED: Final = "skipped.txt"


def share_of(order: Order, rank: int, ranks: int) -> Order:
    """The films that one of `ranks` processes shows of an order that all of them have: every `ranks`-th of a step.

    Invariant: the shares of `batch` films of all ranks are the `ranks` × `batch` films of the step, each once.
    """
    return lambda batch, step: order(ranks * batch, step)[rank::ranks]


class FilmReader:
    """Films by step.

    Args:
        samples: what the order's numbers are of.
        order: the films of a step.
        batch: films in a step.
        readers: threads; 0 reads when a step asks.
        steps: nothing is read ahead for steps from this number on.
    """

    def __init__(self, samples: Sequence[Sample], order: Order, batch: int, readers: int, steps: int) -> None:
        self.samples, self.order, self.batch, self.steps = samples, order, batch, steps
        self._threads = ThreadPoolExecutor(readers, "films") if readers else None
        self._coming: dict[int, tuple[list[int], list[Future[Sample]]]] = {}

    def films(self, step: int) -> tuple[list[int], list[Sample]]:
        """The numbers of a step's films, and the films.

        Raises:
            DataError: one of them cannot be read.
        """
        if self._threads is None:
            chosen = self.order(self.batch, step)
            return chosen, [self.samples[i] for i in chosen]
        for number in [n for n in self._coming if not step <= n <= step + AHEAD]:  # the run has gone elsewhere
            for unwanted in self._coming.pop(number)[1]:
                unwanted.cancel()
        for number in (step, *range(step + 1, min(step + 1 + AHEAD, self.steps))):
            if number not in self._coming:
                chosen = self.order(self.batch, number)
                self._coming[number] = chosen, [self._threads.submit(self.samples.__getitem__, i) for i in chosen]
        chosen, found = self._coming.pop(step)
        return chosen, [each.result() for each in found]

    def close(self) -> None:
        """Stop the threads."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)


def film_readers(
    config: TrainConfig, names: Sequence[str], images: Sequence[Sample], unlabelled: Sequence[Sample]
) -> tuple[FilmReader, FilmReader]:
    """What reads the labelled and the unlabelled films of a run."""
    optim, seed = config.train, config.seed
    readers = config.data.readers if isinstance(config.data, ShardData) else 0
    order = image_order(optim.sampling, images, names, optim.repeat_threshold, seed)
    others = config.teacher.batch if config.teacher.weight > 0 else config.constraints.unlabelled_batch
    return (
        FilmReader(images, order, optim.batch_size, readers, optim.steps),
        FilmReader(unlabelled, uniform_order(unlabelled, seed + 1), others, readers, optim.steps),
    )


def list_skipped(folder: Path, pools: Sequence[Sequence[Sample]]) -> int:
    """Add to ``skipped.txt`` the damaged films that others were shown for, and why; returns how many it lists."""
    found = {str(problem) for pool in pools for shards in shard_sets(pool) for problem in [*shards.skipped.values()]}
    path = folder / SKIPPED
    known = set(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else set()
    if found - known:
        write_text_atomically(path, "".join(f"{line}\n" for line in sorted(known | found)))
    return len(known | found)
