"""The films of a pretraining as it needs them: the pool without what must not be seen, and the batch of any step.

Batches are read by number when their step comes, or by threads while the step before is computed; what a step gets depends
on the seed, the step and the pool alone. A film that cannot be read is replaced by the next one of the pool and listed in
``skipped.txt``, or stops the training, as the config says.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from neurosym.data.film_exclusion import without
from neurosym.data.film_sources import Film, open_sources
from neurosym.errors import DataError, Problem
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.batches import batch_indices
from neurosym.learning.pretrain_config import PretrainConfig
from neurosym.learning.pretrain_probe import Probe
from neurosym.learning.pretrain_views import as_picture

log = logging.getLogger(__name__)
_MAX_PROBLEMS = 20


class PoolReader:
    """Films of the pool by step or by number, as pictures.

    `excluded` is how many films were left out because they must not be seen, `skipped` which could not be read, and why.
    """

    def __init__(self, config: PretrainConfig, probe: Probe | None, list_in: Path, resumed: bool = False) -> None:
        """A resumed run also goes on skipping what it has skipped.

        Raises:
            DataError: a source is missing, nothing is left, or a film is unreadable and the config says to stop.
        """
        self.config, self.list_in = config, list_in
        self.skipped: dict[str, str] = {}
        if resumed and list_in.is_file():
            lines = list_in.read_text(encoding="utf-8").splitlines()
            self.skipped = dict(line.split("\t", 1) for line in lines if "\t" in line)
        self.excluded = 0
        self.pool = open_sources(config.images, config.base)
        held_out = [*open_sources(config.exclude, config.base), *(probe.held_out if probe else ())]
        if held_out:
            self._exclude(held_out)
        if not len(self.pool):
            raise DataError(Problem("no film is left to pretrain on", cure="check images and exclude in the config"))
        log.info("%d films to pretrain on; %d were excluded", len(self.pool), self.excluded)
        readers = config.train.readers
        self._threads = ThreadPoolExecutor(readers, "films") if readers else None
        self._coming: tuple[int, list[Future[Image.Image]]] | None = None

    def _exclude(self, held_out: Sequence[Film]) -> None:
        checked = without(self.pool, held_out)
        if checked.unreadable and self.config.on_unreadable == "stop":
            raise DataError(checked.unreadable[:_MAX_PROBLEMS])
        self.pool, self.excluded = checked.pool, checked.excluded
        self.skipped |= {p.file: p.message for p in checked.unreadable}
        self.write_skipped()

    def batch(self, step: int) -> list[Image.Image]:
        """The films of a step; the same one whenever it is asked for."""
        if self._threads is None:
            return [self.picture(i) for i in self._indices(step)]
        coming = self._coming if self._coming is not None and self._coming[0] == step else (step, self._ask(step))
        self._coming = (step + 1, self._ask(step + 1)) if step + 1 < self.config.train.steps else None
        return [f.result() for f in coming[1]]

    def _ask(self, step: int) -> list[Future[Image.Image]]:
        assert self._threads is not None
        return [self._threads.submit(self.picture, i) for i in self._indices(step)]

    def _indices(self, step: int) -> list[int]:
        return batch_indices(len(self.pool), self.config.train.batch_size, step, self.config.seed)

    def some(self, count: int, stream: int) -> Iterator[Image.Image]:
        """Some films of the pool, drawn by the run's seed and the number of a stream, one at a time."""
        order = np.random.default_rng([self.config.seed, stream]).permutation(len(self.pool))[:count]
        return (self.picture(int(i)) for i in order)

    def picture(self, index: int) -> Image.Image:
        """Film number `index`, or the next one that can be read.

        Raises:
            DataError: none can be read, or this one and the config says to stop.
        """
        for number in range(len(self.pool)):
            film: Film = self.pool[(index + number) % len(self.pool)]
            if film.name in self.skipped:
                continue
            try:
                return as_picture(film.read(), self.config.views.channels)
            except DataError as error:
                if self.config.on_unreadable == "stop":
                    raise
                self.skipped[film.name] = error.problems[0].message
                log.warning("skipped: %s", error.problems[0])
                self.write_skipped()
        raise DataError(Problem(f"none of {len(self.pool)} films can be read", cure=f"see {self.list_in}"))

    def write_skipped(self) -> None:
        """List the films that could not be read."""
        if self.skipped:
            lines = [f"{name}\t{why}\n" for name, why in sorted(dict(self.skipped).items())]
            write_text_atomically(self.list_in, "".join(lines))

    def close(self) -> None:
        """Stop the threads that read ahead."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
