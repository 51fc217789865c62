"""Facts of a whole scene, in the words that an ontology declares with `ontologies/scene-facts.ttl`.

A fact is written where it is true of the detections as they are, like every other fact, so that what excludes itself (one
nodule, several nodules) is never written together. Its weight is a probability under the assumption that detections are
right or wrong independently of one another:

    PlacedIn, Mirrored    that of the object, or of both
    CountOf               P(at_least ≤ N ≤ at_most), N of Poisson binomial distribution
    SeenInEach            P(each region holds an object that is there)
    WidthRatio            that of the objects that are measured, together
    Stated                1

Frames are taken as seen, and geometry as certain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from neurosym.knowledge import Ontology
from neurosym.knowledge.geometry import frame_of, midline_of, zone_of
from neurosym.knowledge.regions import Region
from neurosym.knowledge.scene_words import CountOf, Mirrored, SeenInEach, Stated, WidthRatio
from neurosym.records import Box, Detection, Fact, Scene
from neurosym.scenes.probabilities import count_probability, coverage_probability

_AGE = re.compile(r"(\d{3})([DWMY])\Z")
_YEARS = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
"""How many of the units of a DICOM age string (PS3.5, value representation AS) make a year."""


class ImageFacts:
    """Reads the words of one ontology off scenes.

    Args:
        ontology: which declares them.
        frames: its classes of frames.
        written: for a class, the names that facts of it are written in: itself and those above it.
    """

    def __init__(self, ontology: Ontology, frames: frozenset[str], written: Callable[[str], Sequence[str]]) -> None:
        self.words, self.frames, self.written = ontology.scene_words, frames, written
        looked_for = {*(w.seen for w in self.words.counts), *(w.seen for w in self.words.in_each)}
        looked_for |= {name for word in self.words.ratios for name in (word.of, *word.across)}
        self.below = {name: {name} | ontology.descendants(name) for name in looked_for}

    def facts(
        self, scene: Scene, seen: Sequence[Detection], weights: Sequence[float], entities: Sequence[str]
    ) -> Iterator[Fact]:
        """The facts of the detections that are `seen` on a scene, each with a weight and an entity, and of the image."""
        layout = _Layout(scene, seen, weights, entities, self.frames)
        for word in self.words.placed:
            for i, entity in enumerate(entities):
                if any(layout.lies_in(i, region) for region in word.regions):
                    yield from (Fact(n, (entity,), weights[i], scene.image_id) for n in self.written(word.name))
        for mirrored in self.words.mirrored:
            for i, j in layout.mirrored(mirrored):
                weight = round(weights[i] * weights[j], 4)
                yield Fact(mirrored.name, (entities[i], entities[j]), weight, scene.image_id)
        for name, probability in self._of_image(layout):
            weight = round(probability, 4)
            yield from (Fact(n, (scene.image_id,), weight, scene.image_id) for n in self.written(name))

    def stated(self, image_id: str, attributes: Mapping[str, Any]) -> Iterator[Fact]:
        """What an image's attributes say of it."""
        for word in self.words.stated:
            if _is_stated(word, attributes):
                yield from (Fact(name, (image_id,), 1.0, image_id) for name in self.written(word.name))

    def _of_image(self, layout: _Layout) -> Iterator[tuple[str, float]]:
        for count in self.words.counts:
            yield from _counted(count, [layout.weights[i] for i in self._of_class(count.seen, layout)])
        for word in self.words.in_each:
            yield from self._in_each(word, layout)
        for ratio in self.words.ratios:
            yield from self._ratio(ratio, layout)

    def _of_class(self, name: str, layout: _Layout) -> list[int]:
        """The objects of a class and of those below it, each by its surest detection that says so."""
        surest: dict[str, int] = {}
        for i, detection in enumerate(layout.seen):
            if detection.name in self.below[name]:
                best = surest.setdefault(layout.entities[i], i)
                if layout.weights[i] > layout.weights[best]:
                    surest[layout.entities[i]] = i
        return list(surest.values())

    def _in_each(self, word: SeenInEach, layout: _Layout) -> Iterator[tuple[str, float]]:
        which = self._of_class(word.seen, layout)
        places = [frozenset(k for k, r in enumerate(word.regions) if layout.lies_in(i, r)) for i in which]
        if len(frozenset().union(*places)) == len(word.regions):
            weights = [layout.weights[i] for i in which]
            yield word.name, coverage_probability(weights, places, len(word.regions))

    def _ratio(self, word: WidthRatio, layout: _Layout) -> Iterator[tuple[str, float]]:
        found = [self._of_class(name, layout) for name in (word.of, *word.across)]
        if not all(found):
            return
        surest = [max(which, key=lambda i: layout.seen[i].score) for which in found]
        box, *across = (layout.seen[i].box for i in surest)
        ratio = width_ratio(box, across)
        if ratio is not None and ratio > word.more_than:
            yield word.name, prod(layout.weights[i] for i in surest)


def width_ratio(box: Box, across: Sequence[Box]) -> float | None:
    """The width of a box over that from the leftmost to the rightmost edge of others, None where that is 0.

    Of the heart across both lungs it is the cardiothoracic ratio.

    >>> width_ratio(Box(40, 0, 80, 10), [Box(10, 0, 50, 10), Box(60, 0, 90, 10)])
    0.5
    """
    width = max(b.x2 for b in across) - min(b.x1 for b in across)
    return box.width / width if width > 0 else None


def _counted(word: CountOf, probabilities: Sequence[float]) -> Iterator[tuple[str, float]]:
    if word.at_least <= len(probabilities) and (word.at_most is None or len(probabilities) <= word.at_most):
        yield word.name, count_probability(probabilities, word.at_least, word.at_most)


def _is_stated(word: Stated, attributes: Mapping[str, Any]) -> bool:
    if not word.number:
        return any(str(attributes[key]).strip() == value for key, value in word.values if key in attributes)
    number = _number(attributes.get(word.number))
    return number is not None and word.at_least <= number < word.less_than


def _number(value: Any) -> float | None:
    """The number that an attribute is, a DICOM age in years; None for "todo", a gap, anything else."""
    text = str(value).strip()
    if match := _AGE.match(text):
        return int(match[1]) / _YEARS[match[2]]
    try:
        return float(text)
    except ValueError:
        return None


def frames_among(seen: Sequence[Detection], entities: Sequence[str], frames: frozenset[str]) -> frozenset[str]:
    """The entities that a detection calls a frame; they lie in none."""
    return frozenset(entity for entity, d in zip(entities, seen, strict=True) if d.name in frames)


class _Layout:
    """The detections of a scene, the object that each is of, what each weighs, and where it lies among the frames."""

    def __init__(
        self,
        scene: Scene,
        seen: Sequence[Detection],
        weights: Sequence[float],
        entities: Sequence[str],
        frames: frozenset[str],
    ) -> None:
        self.seen, self.weights, self.entities = seen, weights, entities
        self.boxes = [np.array(d.box.xyxy) for d in seen]
        framed = frames_among(seen, entities, frames)
        self.placed = [i for i, entity in enumerate(entities) if entity not in framed]
        self.frames = [(d.name, self.boxes[i]) for i, d in enumerate(seen) if d.name in frames]
        self.width = scene.width
        every = [box for _, box in self.frames]
        self.regions: dict[int, tuple[frozenset[str], str]] = {}
        for i in self.placed if every else ():
            frame = frame_of(self.boxes[i], every, np)
            names = frozenset(name for name, box in self.frames if np.array_equal(box, frame))
            self.regions[i] = names, zone_of(self.boxes[i], frame)

    def lies_in(self, i: int, region: Region) -> bool:
        """Whether an object's frame and zone are of a region."""
        names, zone = self.regions.get(i, (frozenset(), ""))
        return zone in region.zones and not names.isdisjoint(region.frames)

    def mirrored(self, word: Mirrored) -> Iterator[tuple[int, int]]:
        """The pairs of objects, both ways round, at mirrored places of the frames."""
        if not self.regions:
            return
        by_class: dict[str, list[np.ndarray]] = {}
        for name, box in self.frames:
            by_class.setdefault(name, []).append(box)
        midline = midline_of(by_class, self.width)
        edges = np.array([box for _, box in self.frames])
        extent = edges[:, 2:].max(0) - edges[:, :2].min(0)
        centres = np.array([(self.boxes[i][:2] + self.boxes[i][2:]) / 2 for i in self.placed])
        offset, height = centres[:, 0] - midline, centres[:, 1]
        opposite = offset[:, None] * offset[None] < 0
        close_x = abs(offset[:, None] + offset[None]) <= word.tolerance * extent[0]
        close_y = abs(height[:, None] - height[None]) <= word.tolerance * extent[1]
        for n, m in np.argwhere(opposite & close_x & close_y):
            yield self.placed[n], self.placed[m]
