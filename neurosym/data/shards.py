"""Films read from shards one at a time, in any order: what `neurosym data shards` has packed, as samples.

The samples are those of the COCO file that was packed: categories are tied to classes, and labels and locations read, by the
same code and by the knowledge of the run. An access costs one read of the shard at the film's place; neither a film nor a list
of films is kept, so that a set of any length takes no more memory than its memory-mapped index.

A film whose image or record cannot be read any more stops the run or is set aside: told, counted (`ShardSet.skipped`), and
replaced by another film. Which one follows from the film's number and what else is damaged alone, so that all other places of
the order stay as they are, and a resumed run meets the same films. What an annotation says wrongly is no damage, and always
stops.
"""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, overload

import numpy as np
from pydantic import ValidationError

from neurosym.data.coco import CocoFile, image_entries, require_annotated, wanted_classes
from neurosym.data.film_order import permuted
from neurosym.data.images import BadBoxes, BoxChecker, ImageEntry, decode_image
from neurosym.data.shard_index import DamagedFilm, ShardIndex
from neurosym.errors import DataError, Problem, short_path
from neurosym.knowledge import Knowledge
from neurosym.records import Sample

log = logging.getLogger(__name__)
OnUnreadable = Literal["stop", "skip"]
Found = TypeVar("Found")


class ShardSet(Sequence[Sample]):
    """The films of a folder of shards; `open_shards` makes one.

    `names` are the classes that its categories are tied to, `skipped` what was wrong with each film that was replaced, by
    number, which a part shares with the whole.
    """

    def __init__(
        self,
        shards: ShardIndex,
        classes: Mapping[str, str],
        knowledge: Knowledge,
        bad_boxes: BadBoxes = "error",
        on_unreadable: OnUnreadable = "stop",
    ) -> None:
        self.shards, self.classes, self.knowledge = shards, dict(classes), knowledge
        self.bad_boxes, self.on_unreadable = bad_boxes, on_unreadable
        self.names = tuple(dict.fromkeys(self.classes.values()))
        self.numbers: range | np.ndarray = range(shards.header.films)
        self.skipped: dict[int, Problem] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> ShardSet: ...
    def __getitem__(self, index: int | slice) -> Sample | ShardSet:
        if isinstance(index, slice):
            return self._part(self.numbers[index])
        return self._or_another(self._sample, range(len(self))[index])

    def entry(self, index: int) -> ImageEntry:
        """A film without its pixels, which are not read: one whose image is damaged is replaced once that was met."""
        return self._or_another(self._entry, range(len(self))[index])

    def select(self, indices: Sequence[int] | np.ndarray) -> ShardSet:
        """Some of the films, in this order."""
        return self._part(np.asarray(self.numbers)[np.asarray(indices, dtype=np.int64)])

    def _part(self, numbers: range | np.ndarray) -> ShardSet:
        part = object.__new__(ShardSet)
        part.__dict__.update(self.__dict__)
        part.numbers = numbers
        return part

    def _or_another(self, read: Callable[[int], Found], place: int) -> Found:
        """What is read of the film at a place, or of the first readable one in an order that the film's number decides."""
        first = int(self.numbers[place])
        others = (int(self.numbers[permuted(np.array([k]), len(self), (first, 0))[0]]) for k in range(len(self)))
        for n in itertools.chain([first], others):
            if n in self.skipped:  # a record may be whole where the image is not
                continue
            try:
                return read(n)
            except DamagedFilm as error:
                self._set_aside(n, error)
        raise DataError(Problem(f"none of {len(self)} films can be read", short_path(self.shards.folder)))

    def _set_aside(self, n: int, error: DamagedFilm) -> None:
        if self.on_unreadable == "stop":
            raise error
        if n not in self.skipped:
            self.skipped[n] = error.problems[0]
            log.warning("skipped: %s", error.problems[0])

    def _sample(self, n: int) -> Sample:
        entry = self._entry(n)
        shown = f"{short_path(self.shards.shard(int(self.shards.films[n]['shard'])))}: film {entry.image_id!r}"
        image = self.shards.image(n)
        try:
            pixels = decode_image(io.BytesIO(image), shown)
            entry.require_size(pixels, shown)
        except DataError as error:
            raise DamagedFilm(error.problems) from error
        return entry.sample(pixels)

    def _entry(self, n: int) -> ImageEntry:
        record = self.shards.record(n)
        shown = f"{short_path(self.shards.shard(int(self.shards.films[n]['shard'])))}: film {self.shards.image_id(n)!r}"
        try:
            data = CocoFile.model_validate_json(record)
        except ValidationError as error:
            raise DamagedFilm(Problem(f"its record is no COCO file ({error.errors()[0]['msg']})", shown)) from error
        checker = BoxChecker(shown, self.bad_boxes)
        entries = image_entries(data, self.classes, Path(), self.knowledge, checker)
        if checker.problems:
            checker.finish()  # what is dropped was told when the films were packed
        if len(entries) != 1:
            raise DamagedFilm(Problem(f"its record is of {len(entries)} images, expected one", shown))
        return entries[0]


def open_shards(
    folder: Path,
    knowledge: Knowledge,
    categories: Sequence[str] | None = None,
    bad_boxes: BadBoxes = "error",
    labelled: bool = True,
    on_unreadable: OnUnreadable = "stop",
) -> ShardSet:
    """Open a folder that `neurosym data shards` has written; no film is read.

    Args:
        folder: with the shards and their index.
        knowledge: ties categories to classes and image attributes to study labels.
        categories: the categories to use, in this order; all if None.
        bad_boxes: "drop" for films that were packed so.
        labelled: whether something must be annotated.
        on_unreadable: "skip" goes on with another film in the place of one that is damaged.

    Raises:
        DataError: not complete, a damaged index, a missing shard ("skip" tells it, and goes on), an unknown category, nothing
            annotated.
    """
    index = ShardIndex.open(folder)
    shown = short_path(folder)
    missing = index.missing()
    if missing and (on_unreadable == "stop" or len(missing) == index.header.shards):
        raise DataError(missing[:20])
    for problem in missing:
        log.warning("%s", problem)
    classes = wanted_classes(index.header.categories, knowledge, categories, shown)
    if labelled:
        seen: dict[str, int] = {}
        for category, name in classes.items():
            seen[name] = seen.get(name, 0) + index.header.annotated.get(category, 0)
        require_annotated(seen, classes, shown)
    return ShardSet(index, classes, knowledge, bad_boxes, on_unreadable)
