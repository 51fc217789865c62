"""Which images a step of training shows, by name: each as often as any other, or images of rare classes more often.

    uniform         each epoch is a permutation of the images
    repeat_factor   each epoch shows image i about r_i times:
                        r(c) = max(1, √(t / f(c))),   r_i = max over the classes c on image i of r(c)
                    with f(c) the share of images that show class c and t the share below which a class is repeated

(repeat factor sampling: Gupta, Dollár & Girshick, LVIS, CVPR 2019, after Mahajan et al., ECCV 2018). In each epoch image i is
there ⌊r_i⌋ times and once more with probability r_i − ⌊r_i⌋. LVIS has t = 0.001 for a thousand classes; a set with a handful of
classes has none so rare, and needs a t near the share that its rare class should have.

An epoch depends on the seed and its number alone, and a step on the epochs up to it, so any step can be asked for first: a run
that is resumed sees what it would have seen. Where no class is repeated both orders are the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from neurosym.data.film_order import StreamOrder
from neurosym.data.pool import shard_sets
from neurosym.data.unread import unread
from neurosym.errors import ConfigError, did_you_mean
from neurosym.learning.batches import batch_indices, known_annotations
from neurosym.records import Sample

Array = np.ndarray
Order = Callable[[int, int], list[int]]
"""The images of a step: (images in a step, number of the step from 0) → their indices."""


@dataclass(frozen=True)
class Moment:
    """A step from 0 and, where its batch is dealt to processes or seen in parts, which share of it; each has its own draws."""

    step: int
    share: int | None = None

    def draws(self, seed: int, purpose: int) -> np.random.Generator:
        """The random numbers that one purpose has at this moment; on one process, in one part, those of the step."""
        return np.random.default_rng([seed, self.step, purpose, *([] if self.share is None else [self.share])])


def class_repeats(shown: Sequence[Collection[str]], threshold: float) -> dict[str, float]:
    """r(c) of each class that any image shows.

    Args:
        shown: the classes on each image.
        threshold: t, in (0, 1].
    """
    counts = Counter(name for names in shown for name in set(names))
    return {name: max(1.0, math.sqrt(threshold * len(shown) / count)) for name, count in sorted(counts.items())}


def repeat_factors(shown: Sequence[Collection[str]], threshold: float) -> list[float]:
    """r_i of each image: that of the rarest class on it, 1 where there is none.

    Args:
        shown: the classes on each image.
        threshold: t, in (0, 1].

    Invariant: at least 1.
    """
    repeats = class_repeats(shown, threshold)
    return [max((repeats[name] for name in names), default=1.0) for names in shown]


class RepeatFactorOrder:
    """Images in an order that shows each about as often as its factor says; `epoch` tells which, and how often.

    Args:
        factors: r_i of each image, at least 1.
        seed: of the order; also of which images the fractions of factors are for.
    """

    def __init__(self, factors: Sequence[float], seed: int) -> None:
        self.factors, self.seed = np.asarray(factors, dtype=np.float64), seed
        self._ends: list[int] = []
        self._last: tuple[int, Array] = (-1, np.zeros(0, dtype=np.int64))

    def __call__(self, batch: int, step: int) -> list[int]:
        """The images of a step, in the order of training."""
        return [self._image(place) for place in range(step * batch, (step + 1) * batch)]

    def counts(self, epoch: int) -> Array:
        """How often each image is shown in an epoch: its factor, rounded down or up at random, so that this is its mean."""
        whole = np.floor(self.factors)
        drawn = np.random.default_rng([self.seed, epoch, 2]).random(len(whole))
        return (whole + (drawn < self.factors - whole)).astype(np.int64)

    def epoch(self, number: int) -> Array:
        """The images of an epoch in their order."""
        if self._last[0] != number:
            images = np.repeat(np.arange(len(self.factors)), self.counts(number))
            self._last = number, images[np.random.default_rng([self.seed, number]).permutation(len(images))]
        return self._last[1]

    def _image(self, place: int) -> int:
        """The image at a place, counted through all epochs."""
        while not self._ends or self._ends[-1] <= place:
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + int(self.counts(len(self._ends)).sum()))
        epoch = int(np.searchsorted(self._ends, place, side="right"))
        start = self._ends[epoch - 1] if epoch else 0
        return int(self.epoch(epoch)[place - start])


def uniform_order(images: Sequence[Sample], seed: int) -> Order:
    """Each epoch a permutation of the images; where they are read from shards, one of which no list is kept (`StreamOrder`)."""
    if next(shard_sets(images), None) is not None:
        return StreamOrder(len(images), seed)
    return lambda batch, step: batch_indices(len(images), batch, step, seed)


def _uniform(images: Sequence[Sample], names: Sequence[str], threshold: float, seed: int) -> Order:
    return uniform_order(images, seed)


def _repeat_factor(images: Sequence[Sample], names: Sequence[str], threshold: float, seed: int) -> Order:
    films = unread(images)
    shown = [{a.name for a in known_annotations(films[n], names)} for n in range(len(films))]
    return RepeatFactorOrder(repeat_factors(shown, threshold), seed)


SAMPLINGS: dict[str, Callable[[Sequence[Sample], Sequence[str], float, int], Order]] = {
    "uniform": _uniform,
    "repeat_factor": _repeat_factor,
}


def image_order(name: str, images: Sequence[Sample], names: Sequence[str], threshold: float, seed: int) -> Order:
    """The order in which training shows images.

    Args:
        name: one of `SAMPLINGS`.
        images: of the train split; their annotations are read once, if the order depends on them.
        names: the model's classes; others do not count.
        threshold: t of `repeat_factor`.
        seed: the same gives the same order.

    Raises:
        ConfigError: no order has this name.
    """
    if name not in SAMPLINGS:
        raise ConfigError(f"train.sampling: unknown order {name!r}; {did_you_mean(name, SAMPLINGS)}")
    return SAMPLINGS[name](images, names, threshold, seed)
