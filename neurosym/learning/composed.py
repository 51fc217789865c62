"""Films composed by the rules: labelled findings laid onto other films, where the ontology lets them be.

Sixteen films show a handful of findings in a handful of places. The sampler of the refiner
(`neurosym.constraints.graph.sampler`) draws where else they may lie, given the anatomy that is there and the rules;
here such a scene is painted (`neurosym.learning.cuttings`), and the target is exact, for it is known what was painted.

The rules are read on masks where labelled films have them: a lung's corner is in its box and not in the lung. On a film
without labels the anatomy is what the teacher finds; its boxes are filled with the mean of the labelled masks of
their class, each stretched to its box (an atlas). So knowledge turns unlabelled films into labelled ones: that is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from neurosym.constraints.compile import WORDS
from neurosym.constraints.graph import ObjectScene, SceneSampler
from neurosym.constraints.graph.sampler import Array
from neurosym.constraints.shapes import ConstraintSet
from neurosym.data.masks import box_of, encode_mask
from neurosym.learning.batches import known_annotations
from neurosym.learning.cuttings import Cutting, cut, ellipse, mask_of, paste
from neurosym.models.soft_masks import paste as spread
from neurosym.records import Annotation, Sample

MAX_COVER = 0.3
"""A pasted finding that another finding's box would cover, or that would cover it, by more than this share is left out."""
_TRIES = 4
"""Places that are drawn for a finding before it is left out for being crowded."""
BELIEVED = 0.5
"""Rules of less confidence say of no finding what it lies inside."""
_ATLAS, _CELLS = 48, 64
"""Side of an atlas mask; cells along the longer side of a film on which the rules are read."""


def containers(constraints: ConstraintSet) -> dict[int, frozenset[int]]:
    """For each label, the labels that some believed rule ``inside(X, Y), c(Y) :- b(X)`` lets it lie inside."""
    found: dict[int, set[int]] = {}
    some, inside = constraints.existentials, WORDS.index("inside")
    for rule, body, witness, words in zip(some.rule, some.first, some.second, some.head, strict=True):
        if inside in words.tolist() and float(constraints.confidence[rule]) >= BELIEVED:
            within = constraints.closure[:, witness].nonzero()[:, 0].tolist()
            for label in constraints.closure[:, body].nonzero()[:, 0].tolist():
                found.setdefault(label, set()).update(within)
    return {label: frozenset(within) for label, within in found.items()}


@dataclass(frozen=True)
class _Film:
    """A film that is being composed: brightness, and the objects with their masks, at full size and on the rules' cells."""

    image: Array
    labels: list[int]
    boxes: list[Array]
    masks: list[Bool[Array, "height width"]]
    size: tuple[float, float]

    def organ(self, within: frozenset[int]) -> Bool[Array, "height width"] | None:
        """Where any object of these labels is; None if there is none."""
        chosen = [m for label, m in zip(self.labels, self.masks, strict=True) if label in within]
        return np.any(chosen, axis=0) if chosen else None

    def coarse(self) -> Float[Tensor, "object height width"]:
        """The masks on the cells that the rules are read on."""
        step = int(np.ceil(max(self.size) / _CELLS))
        return torch.from_numpy(np.stack([m[::step, ::step] for m in self.masks]).astype(np.float32))


class Composer:
    """Lays findings of labelled films onto films; the same generator state gives the same film.

    Args:
        samples: the labelled films; each is read once.
        names: the detector's classes.
        sampler: where things may be.
        rules: False lays findings anywhere on a film, whatever it shows (an ablation).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        names: Sequence[str],
        sampler: SceneSampler,
        rules: bool = True,
    ) -> None:
        self.names, self.sampler, self.rules = tuple(names), sampler, rules
        self.within = containers(sampler.constraints) if rules else {}
        self.cuttings: dict[int, list[Cutting]] = {}
        shapes: dict[int, list[Array]] = {}
        for sample in samples:
            scene = object_scene(sample, self.names)
            film = self._film(sample, scene)
            for label, box, mask, annotation in zip(
                film.labels, film.boxes, film.masks, known_annotations(sample, self.names), strict=True
            ):
                if label not in sampler.permanent:
                    organ = film.organ(self.within.get(label, frozenset()))
                    self.cuttings.setdefault(label, []).append(cut(sample, annotation, label, scene, organ))
                elif annotation.mask is not None:
                    shapes.setdefault(label, []).append(_stretched(mask, box))
        self.atlas = {label: np.mean(some, 0) > 0.5 for label, some in shapes.items()}

    def onto(self, sample: Sample, scene: ObjectScene, rate: float, rng: np.random.Generator) -> Sample:
        """An unlabelled film, of which a detector saw `scene`, with findings laid onto it and annotations of these alone."""
        return self.compose(replace(sample, annotations=()), scene, rate, rng)

    def compose(self, sample: Sample, scene: ObjectScene, rate: float, rng: np.random.Generator) -> Sample:
        """The film with about `rate` more findings, classes drawn evenly, each where the rules let it be."""
        count = int(rng.poisson(rate))
        if not self.cuttings or not count:
            return sample
        film = self._film(sample, scene)
        added: list[Annotation] = []
        for _ in range(count):
            label = sorted(self.cuttings)[int(rng.integers(len(self.cuttings)))]
            cutting = self.cuttings[label][int(rng.integers(len(self.cuttings[label])))]
            added += self._add(film, cutting, scene, rng)
        pixels = np.clip(film.image + 0.5, 0, 255).astype(np.uint8)
        return Sample(
            sample.image_id, pixels, (*sample.annotations, *added), sample.labels, sample.attributes, sample.path
        )

    def _add(self, film: _Film, cutting: Cutting, scene: ObjectScene, rng: np.random.Generator) -> list[Annotation]:
        """Lay one finding onto the film, if there is a place for it."""
        if self.rules:
            frame = self.sampler.frame_of(scene)
            start = self.sampler.carried(cutting.box, cutting.source, frame)
        else:
            frame, start = np.array([0.0, 0.0, *film.size]), cutting.box

        masks = self._masks(film, cutting) if self.rules and film.masks else None
        for _ in range(_TRIES):
            box = self.sampler.place(film.labels, film.boxes, cutting.label, start, frame, film.size, rng, masks)
            if box is None:
                return []
            if not self._crowded(box, film):
                break
        else:
            return []
        within = self.within.get(cutting.label)
        organ = film.organ(within) if within else None
        if within and organ is None:
            return []
        shown = paste(film.image, cutting, box, self.rules and self._changes_side(cutting, box, frame), organ)
        if shown is None:
            return []
        taken, mask = shown
        film.labels.append(cutting.label)
        film.boxes.append(np.array(taken.xyxy))
        film.masks.append(mask)
        return [Annotation(cutting.name, taken, mask=encode_mask(mask))]

    def _masks(self, film: _Film, cutting: Cutting) -> Callable[[Array], Tensor]:
        """For boxes that the finding might have: the masks of what is there, and of the finding in each of the boxes."""
        there = film.coarse()
        opaque = cutting.alpha > 0.5
        tight = np.array(box_of(opaque).xyxy) if opaque.any() else np.array([0.0, 0.0, *opaque.shape[::-1]])
        shape = torch.from_numpy(_stretched(opaque, tight, 16).astype(np.float32))

        def masks_of(options: Array) -> Tensor:
            boxes = torch.from_numpy(options.astype(np.float32))
            rows, columns = there.shape[1:]
            own = spread(shape.expand(len(options), -1, -1), boxes, film.size, (rows, columns))
            return torch.cat([there, own.clamp(0.0, 1.0)])

        return masks_of

    def _film(self, sample: Sample, scene: ObjectScene) -> _Film:
        height, width = sample.image.shape[:2]
        known = known_annotations(sample, self.names)
        if known:
            masks = [mask_of(a, height, width) for a in known]
        else:
            masks = [self._guessed(int(c), b, height, width) for c, b in zip(scene.labels, scene.boxes, strict=True)]
        return _Film(sample.image.astype(np.float32), scene.labels.tolist(), list(scene.boxes), masks, scene.size)

    def _guessed(self, label: int, box: Array, height: int, width: int) -> Bool[Array, "height width"]:
        """The atlas of the class in the box; an ellipse for classes without one."""
        if label not in self.atlas:
            return ellipse(box, height, width)
        mask = np.zeros((height, width), dtype=bool)
        x1, y1, x2, y2 = (round(float(v)) for v in np.clip(box, 0, [width, height, width, height]))
        if x2 > x1 and y2 > y1:
            rows = (np.arange(y2 - y1) * _ATLAS) // (y2 - y1)
            columns = (np.arange(x2 - x1) * _ATLAS) // (x2 - x1)
            mask[y1:y2, x1:x2] = self.atlas[label][np.ix_(rows, columns)]
        return mask

    def _changes_side(self, cutting: Cutting, box: Array, frame: Array) -> bool:
        """Whether the finding comes to lie on the other side of the anatomy: there it is mirrored, as the anatomy is."""
        before = self.sampler.frame_of(cutting.source)
        sides = [np.sign(b[0] + b[2] - f[0] - f[2]) for b, f in ((cutting.box, before), (box, frame))]
        return bool(sides[0] != sides[1])

    def _crowded(self, box: Array, film: _Film) -> bool:
        area = np.prod(box[2:] - box[:2])
        for label, other in zip(film.labels, film.boxes, strict=True):
            if label in self.sampler.permanent:
                continue
            common = np.prod(np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None))
            if common > MAX_COVER * min(area, np.prod(other[2:] - other[:2])):
                return True
        return False


def object_scene(sample: Sample, names: Sequence[str]) -> ObjectScene:
    """What is annotated on a sample, as labels and boxes."""
    known = known_annotations(sample, names)
    labels = np.array([names.index(a.name) + 1 for a in known], dtype=np.int64)
    boxes = np.array([a.box.xyxy for a in known], dtype=float).reshape(-1, 4)
    height, width = sample.image.shape[:2]
    return ObjectScene(labels, boxes, (float(width), float(height)))


def _stretched(mask: Bool[Array, "height width"], box: Array, side: int = _ATLAS) -> Float[Array, "side side"]:
    """What a mask shows of its box, brought to a square."""
    x1, y1, x2, y2 = (int(v) for v in (np.floor(box[0]), np.floor(box[1]), np.ceil(box[2]), np.ceil(box[3])))
    part = mask[max(0, y1) : max(y2, y1 + 1), max(0, x1) : max(x2, x1 + 1)].astype(np.float32)
    if not part.size:
        return np.ones((side, side))
    factors = side / part.shape[0], side / part.shape[1]
    return np.asarray(ndimage.zoom(part, factors, order=1, grid_mode=True, mode="nearest"))
