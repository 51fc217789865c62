"""Samples without their pixels, for what asks a whole data set only for sizes and annotations: no image is decoded.

Files and shards say how large their images are, and the phantom knows its layout before it paints; what is made of these
(degraded, supervised, joined) is made of them without pixels, too. Any other sequence is read as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np

from neurosym.data.degrade import DegradedSamples
from neurosym.data.images import ImageEntry, ImageSet
from neurosym.data.phantom import Phantom, phantom_layout
from neurosym.data.pool import Joined
from neurosym.data.shards import ShardSet
from neurosym.data.supervision import SupervisedSamples
from neurosym.records import Sample


def unread(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The same samples, each with a black image of the same height and width where its own need not be read for these.

    Invariant: annotations, labels, attributes and tags are those of `samples`, for degraded ones without drawing them anew.
    Where shards replace damaged films, a film whose record alone is whole is shown until its image was asked for.

    >>> film = unread(Phantom(3, 1))[0]
    >>> film.image_id, film.image.shape, film.annotations == Phantom(3, 1)[0].annotations
    ('phantom-000003', (256, 256), True)
    """
    if isinstance(samples, Joined):
        return Joined([unread(part) for part in samples.parts])
    if isinstance(samples, (DegradedSamples, SupervisedSamples)):
        return samples.over(unread(samples.source))
    if isinstance(samples, ImageSet):
        entries = samples.entries
        return _Unread(len(entries), lambda i: _of_entry(entries[i]))
    if isinstance(samples, ShardSet):
        return _Unread(len(samples), lambda i: _of_entry(samples.entry(i)))
    if isinstance(samples, Phantom):
        return _Unread(len(samples), lambda i: _layout(samples, i))
    return samples


class _Unread(Sequence[Sample]):
    """Samples that a function makes when they are asked for."""

    def __init__(self, count: int, make: Callable[[int], Sample]) -> None:
        self._places, self._make = range(count), make

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        at = self._places[index]
        return [self._make(i) for i in at] if isinstance(at, range) else self._make(at)


def _of_entry(entry: ImageEntry) -> Sample:
    return entry.sample(_black(entry.height, entry.width))


def _layout(films: Phantom, index: int) -> Sample:
    plan = phantom_layout(films.indices[index], films.config)
    image = _black(films.config.size, films.config.size)
    return Sample(plan.image_id, image, plan.annotations, plan.labels, plan.attributes)


def _black(height: int, width: int) -> np.ndarray:
    """An image that takes no memory of its own."""
    return np.broadcast_to(np.uint8(0), (height, width))
