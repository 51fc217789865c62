"""Samples with annotations made worse on purpose (the ways are in `neurosym.data.degrade_draws`), spoilt when asked for.

The truth is not part of a `Sample`, so training cannot see it; `DegradedSamples.truth` and `dropped` are for scoring only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, overload

from neurosym.data.degrade_draws import (
    Degradation,
    Degraded,
    annotator_of,
    count_changes,
    degradation,
    degrade_annotations,
    point_of,
)
from neurosym.data.images import ImageSet
from neurosym.errors import ConfigError, DataError, Problem, did_you_mean
from neurosym.records import Annotation, Sample

__all__ = ["Degradation", "DegradedSamples", "degradation", "degrade", "point_of"]


class DegradedSamples(Sequence[Sample]):
    """A sequence of samples with worse annotations, spoilt when asked for; the truth is kept out of the samples."""

    def __init__(self, source: Sequence[Sample], noise: Degradation, names: Sequence[str] | None = None) -> None:
        """`names` are the data set's classes; those of an `ImageSet` are known, others are read off all samples if needed.

        Raises:
            ConfigError: a rate of an unknown class, or no other class to mistake one for.
            DataError: coarse masks of images that have no mask.
        """
        self.source, self.noise = source, noise
        if names is None and isinstance(source, ImageSet):
            names = source.names
        if names is None and noise.how == "wrong_label":
            names = sorted({a.name for sample in source for a in sample.annotations})
        check_names(noise, names)
        if noise.how == "coarse_mask" and isinstance(source, ImageSet):
            require_a_mask(a for e in source.entries for a in e.annotations)
        self.names = tuple(names or ())
        self._drawn: dict[tuple[int, str], tuple[Degraded, ...]] = {}
        """By place and film: shards may show another film in the place of one that is damaged."""
        self._shown: dict[int, str] = {}
        """The film that was found in each place."""

    def __len__(self) -> int:
        return len(self.source)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> DegradedSamples: ...
    def __getitem__(self, index: int | slice) -> Sample | DegradedSamples:
        if isinstance(index, slice):
            return DegradedSamples(self.source[index], self.noise, self.names or None)
        sample = self.source[index]
        shown = tuple(d.shown for d in self._degraded(index, sample) if d.shown is not None)
        attributes = {
            k: v for k, v in sample.attributes.items() if k != "relations"
        }  # they are read off the true boxes
        if self.noise.how == "annotator":
            attributes["annotator"] = annotator_of(sample.image_id, self.noise)
        return replace(sample, annotations=shown, attributes=attributes)

    def over(self, source: Sequence[Sample]) -> DegradedSamples:
        """The same annotations over the same films read in another way, e.g. without their pixels."""
        other = copy.copy(self)
        other.source, other._shown = source, {}
        return other

    def truth(self, index: int) -> tuple[Annotation, ...]:
        """For scoring only: what sample `index` would show, annotation by annotation, had nothing been done to it."""
        return tuple(d.truth for d in self._degraded(index) if d.shown is not None)

    def dropped(self, index: int) -> tuple[Annotation, ...]:
        """For scoring only: what sample `index` misses."""
        return tuple(d.truth for d in self._degraded(index) if d.shown is None)

    def reverted(self, index: int) -> tuple[Annotation, ...]:
        """The annotations whose boxes were emptied, and so were left as they are."""
        return tuple(d.truth for d in self._degraded(index) if d.reverted)

    def counts(self, most: int | None = None) -> dict[str, int]:
        """How many annotations of the first `most` samples (all by default) there are, were changed, and so on.

        See `count_changes`; images are not read where the source knows what is annotated without.
        """
        first = range(len(self) if most is None else min(most, len(self)))
        return count_changes(d for i in first for d in self._degraded(i))

    def told(self, most: int) -> str:
        """`counts` in words."""
        told = self.counts(most)
        where = "" if len(self) <= most else f" on the first {most} of {len(self)} images"
        changed = f"{told['changed']} of {told['annotations']} changed{where} ({told['relabelled']} relabelled)"
        return f"{changed}, {told['dropped']} dropped, {told['reverted']} emptied and so left as they were"

    def image_id(self, index: int) -> str:
        """The image's id, without reading the image where that is possible."""
        return self.source.entries[index].image_id if isinstance(self.source, ImageSet) else self.source[index].image_id

    def _degraded(self, index: int, sample: Sample | None = None) -> tuple[Degraded, ...]:
        index = range(len(self))[index]
        if sample is None and index in self._shown:
            return self._drawn[index, self._shown[index]]
        if sample is None and isinstance(self.source, ImageSet):
            e = self.source.entries[index]
            outline = (e.annotations, e.image_id, e.width, e.height)
        else:
            sample = sample or self.source[index]
            outline = (sample.annotations, sample.image_id, sample.image.shape[1], sample.image.shape[0])
        key = index, outline[1]
        if key not in self._drawn:
            self._drawn[key] = degrade_annotations(*outline, self.noise, self.names)
        self._shown[index] = outline[1]
        return self._drawn[key]


@overload
def degrade(samples: Sample, how: str, r: float, seed: int = ..., **options: Any) -> Sample: ...
@overload
def degrade(samples: Sequence[Sample], how: str, r: float, seed: int = ..., **options: Any) -> DegradedSamples: ...
def degrade(
    samples: Sample | Sequence[Sample], how: str, r: float, seed: int = 0, **options: Any
) -> Sample | DegradedSamples:
    """Samples with worse annotations: one sample, or a sequence of them, spoilt when asked for.

    Args:
        how, r, seed, options: see `Degradation`.
        names: among the options, the data set's classes; without it `wrong_label` reads them off the samples.

    Raises:
        ConfigError: see `degradation`.
    """
    names = options.pop("names", None)
    noise = degradation(how, r, seed, **options)
    if isinstance(samples, Sample):
        return DegradedSamples([samples], noise, names)[0]
    return DegradedSamples(samples, noise, names)


def check_names(noise: Degradation, names: Sequence[str] | None) -> None:
    """Refuse rates of classes that the data set does not have, and a wrong label where there is one class only."""
    if names is None:
        return
    unknown = sorted({*noise.rates} - {*names})
    if unknown:
        raise ConfigError(Problem(f"rates: no class {u!r} in the data", cure=did_you_mean(u, names)) for u in unknown)
    if noise.how == "wrong_label" and len({*names}) < 2:
        raise ConfigError("how: wrong_label needs two classes or more; the data has one")


def require_a_mask(annotations: Iterable[Annotation], file: str = "") -> None:
    """Refuse to draw coarse masks where there is no mask at all."""
    if all(a.mask is None for a in annotations):
        cure = "use annotations with segmentations, or another how"
        raise DataError(Problem("coarse_mask: no annotation has a mask", file, cure=cure))
