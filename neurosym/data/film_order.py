"""An order of films that is not kept: the film at any place of any epoch is computed when it is asked for.

A permutation of N places is a Feistel network over rows × columns ≥ N, with numbers modulo both sides in the place of bits
(Black & Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002): each round adds to one coordinate a hash of the other
one, which is undone by subtracting it. A place that falls outside of the N is sent through again until it does not; about one
in √N is. Neither memory nor the time of a step grows with N, where a shuffled list of a million films is 8 MB, made anew for
whoever starts in the middle of an epoch.

Shuffling shards and then a window of films, as streams of tars do, was the other choice: it reads a disk in its order, but
mixes only films of the same window, and a run that is resumed must first read what it had read. Here each film is one read at
its place in a shard, which takes a local disk far less time than the film takes to decode; on a spinning disk or a network
each is a seek, so copy the shards first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
_ROUNDS = 8


def permuted(places: np.ndarray, count: int, key: Sequence[int]) -> np.ndarray:
    """Where these places of 0 … count − 1 go under a permutation that `key` (whole numbers not below 0) chooses.

    >>> sorted(permuted(np.arange(5), 5, (1, 0)).tolist())
    [0, 1, 2, 3, 4]
    """
    rows = math.isqrt(max(count - 1, 0)) + 1
    columns = -(-count // rows)
    keys: Numbers = np.asarray(np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64), dtype=np.uint64)
    found = np.array(places, dtype=np.uint64)
    left = np.ones(len(found), dtype=bool)
    while left.any():
        found[left] = _once(found[left], rows, columns, keys)
        left = found >= count
    return found.astype(np.int64)


def _once(at: Numbers, rows: int, columns: int, keys: Numbers) -> Numbers:
    row, column = at // np.uint64(columns), at % np.uint64(columns)
    for number in range(_ROUNDS):
        key = keys[number : number + 1]
        if number % 2:
            column = (column + _mixed(row, key) % np.uint64(columns)) % np.uint64(columns)
        else:
            row = (row + _mixed(column, key) % np.uint64(rows)) % np.uint64(rows)
    return row * np.uint64(columns) + column


def _mixed(value: Numbers, key: Numbers) -> Numbers:
    """64 bits that depend on all bits of value and key (the finaliser of SplitMix64: Steele, Lea & Flood, OOPSLA 2014)."""
    x = value * np.uint64(0x9E3779B97F4A7C15) + key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class StreamOrder:
    """Each epoch a fresh permutation of `count` films, wrapping around; any step can be asked for first.

    Invariant: an epoch shows each film once.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __call__(self, batch: int, step: int) -> list[int]:
        """The films of a step of `batch` films, in the order of training."""
        places = np.arange(step * batch, (step + 1) * batch)
        epochs = places // self.count
        found = np.empty(batch, dtype=np.int64)
        for epoch in np.unique(epochs):
            own = epochs == epoch
            found[own] = permuted(places[own] % self.count, self.count, (self.seed, int(epoch)))
        numbers: list[int] = found.tolist()
        return numbers
