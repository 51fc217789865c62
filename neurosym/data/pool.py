"""Films put together into one sequence, and whether two sequences share a film.

A film on disk is known by the SHA-256 of its file, whatever it is called; a phantom film by its seed, domain and number,
whatever its size; any other by the SHA-256 of its pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from typing import overload

from neurosym.data.degrade import DegradedSamples
from neurosym.data.images import ImageSet
from neurosym.data.phantom import Phantom
from neurosym.data.shards import ShardSet
from neurosym.data.supervision import SupervisedSamples
from neurosym.errors import Problem
from neurosym.records import Sample


class Joined(Sequence[Sample]):
    """Several sequences, one after the other."""

    def __init__(self, parts: Sequence[Sequence[Sample]]) -> None:
        self.parts = [p for p in parts if len(p)]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return self._part(range(len(self))[index])
        at = range(len(self))[index]
        for part in self.parts:
            if at < len(part):
                return part[at]
            at -= len(part)
        raise IndexError(index)

    def _part(self, chosen: range) -> Sequence[Sample]:
        """Some of the films, of which none is read yet if they follow one another."""
        if chosen.step != 1:
            return [self[i] for i in chosen]
        parts, first = [], 0
        for part in self.parts:
            parts.append(part[max(0, chosen.start - first) : max(0, chosen.stop - first)])
            first += len(part)
        return Joined(parts)


def identities(samples: Sequence[Sample]) -> Iterator[tuple[Hashable, str]]:
    """What each film is known by, and what it is called."""
    if isinstance(samples, Joined):
        for part in samples.parts:
            yield from identities(part)
    elif isinstance(samples, SupervisedSamples):
        known = list(identities(samples.source))
        yield from (known[i] for i in samples.indices)
    elif isinstance(samples, DegradedSamples):
        yield from identities(samples.source)
    elif isinstance(samples, ImageSet):
        for entry in samples.entries:
            yield hashlib.sha256(entry.path.read_bytes()).hexdigest(), entry.image_id
    elif isinstance(samples, ShardSet):
        shards = samples.shards
        yield from ((shards.image_hash(n), shards.image_id(n)) for n in map(int, samples.numbers))
    elif isinstance(samples, Phantom):
        config = samples.config
        for index in samples.indices:
            yield ("phantom", config.seed, config.shift, index), f"phantom-{index:06d}"
    else:
        for n in range(len(samples)):
            sample = samples[n]
            yield hashlib.sha256(sample.image.tobytes()).hexdigest(), sample.image_id


def shard_sets(samples: Sequence[Sample]) -> Iterator[ShardSet]:
    """The shards that films are read from, whatever is done to their annotations."""
    if isinstance(samples, Joined):
        for part in samples.parts:
            yield from shard_sets(part)
    elif isinstance(samples, (DegradedSamples, SupervisedSamples)):
        yield from shard_sets(samples.source)
    elif isinstance(samples, ShardSet):
        yield samples


def shared_films(pool: Sequence[Sample], held_out: Sequence[Sample], split: str) -> list[Problem]:
    """A problem for each film of the unlabelled pool that is also a film of the held-out split."""
    known = dict(identities(held_out))
    found = []
    for identity, image_id in identities(pool):
        if identity in known:
            other = known[identity]
            same = f"{image_id!r}" if other == image_id else f"{image_id!r}, there called {other!r},"
            cure = "take it out of the pool, or set weak.problems: report if the result is not to be compared"
            found.append(Problem(f"unlabelled film {same} is also in the {split} split", cure=cure))
    return found
