"""Scenes → weighted facts, in the words of the ontology.

Each detection becomes an entity named ``image/number``, the image itself the entity ``image``. Facts are

- the detection's class and every class above it (except the vocabulary's own roots, which say nothing);
- every geometric relation of the ontology that holds between two detections (the crisp predicates of
  `neurosym.knowledge.geometry`, or of `mask_geometry` on their masks), each once: of a word and its inverse (`inside`,
  `encloses`) only the plain one is written, and the core's derived words (`adjacent`, the patient's sides), which repeat
  the others, only where a rule of the knowledge speaks of them;
- where the ontology names a frame (``ns:zoned``, e.g. a lung): the third of the frame and the side, for each object that is
  no frame itself; the frame is the smallest that holds the detection's centre, else the nearest, and the side is seen from
  the midline between the classes of frames (a lung that is seen twice counts once);
- the size class by the share of the image's area, and the study labels of the image;
- the words that the ontology declares of whole scenes (`neurosym.scenes.image_facts`), if it declares any.

A fact weighs the product of its detections' scores, which a calibration makes probabilities: that they are all right, if they
are right independently of one another. What is found in two ways has the greater weight, and what rounds to a weight of 0 is
left out. Geometry itself is certain: it is computed, not guessed.

Where boxes have several labels, the detections of one box are one object: its entity is that of the first, it has the classes
of all of them, each with its own weight, and its relations weigh what its surest one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from neurosym.data.masks import decode_mask
from neurosym.errors import DataError, Problem
from neurosym.knowledge import Knowledge
from neurosym.knowledge.geometry import DERIVED, PREDICATES, SWAPPED, places_of
from neurosym.knowledge.mask_geometry import pair_margins
from neurosym.knowledge.triples import NS
from neurosym.records import Detection, Fact, FactStore, Scene, by_box
from neurosym.scenes.image_facts import ImageFacts, frames_among

GRID = 128
"""Pixels of the longer side of the grid that masks are compared on."""

Calibration = Callable[[str, float], float]
"""(class, score) → the probability in [0, 1] that such a detection is right."""


def facts_from(
    scenes: Iterable[Scene],
    knowledge: Knowledge,
    threshold: float = 0.5,
    *,
    masks: bool = False,
    calibration: Calibration | None = None,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
    multi_label: bool = False,
) -> FactStore:
    """All facts of the scenes' detections that score at least `threshold`, sorted.

    Args:
        scenes: with study labels, which are facts of the image.
        knowledge: whose words the facts are written in; what its ontology does not declare is not written.
        threshold: of the score as it was detected; what a detection weighs is the calibrated one.
        masks: relate two detections by their masks where both have one, instead of by their boxes.
        calibration: what makes a score a probability (`neurosym.scenes.score_calibration`).
        attributes: what the data says of each image, by its id; for words with ``ns:attribute``.
        multi_label: the detections of one box are one object with several classes.
    """
    vocabulary = _Vocabulary(knowledge, masks, calibration, multi_label)
    stated = attributes or {}
    weights: dict[tuple[str, tuple[str, ...], str], float] = {}
    for scene in scenes:
        for fact in vocabulary.facts(scene, threshold, stated.get(scene.image_id, {})):
            key = (fact.relation, fact.args, fact.scene)
            weights[key] = max(fact.weight, weights.get(key, 0.0))
    found = (Fact(relation, args, weight, scene) for (relation, args, scene), weight in weights.items() if weight > 0)
    return FactStore(tuple(sorted(found)))


def seen_in(scene: Scene, knowledge: Knowledge, threshold: float = 0.5) -> list[Detection]:
    """The detections that facts are of; the entity ``image/i`` is the one at position i."""
    return [d for d in scene.detections if d.score >= threshold and d.name in knowledge.ontology.classes]


def objects_among(seen: Sequence[Detection], multi_label: bool) -> list[list[int]]:
    """The indices of the detections of each object: one, or where boxes have several labels all of a box.

    The object's entity ``image/i`` is called by the first.
    """
    return by_box(seen) if multi_label else [[i] for i in range(len(seen))]


class _Vocabulary:
    def __init__(self, knowledge: Knowledge, masks: bool, calibration: Calibration | None, multi_label: bool) -> None:
        ontology = knowledge.ontology
        self.knowledge, self.ontology, self.masks, self.calibration = knowledge, ontology, masks, calibration
        self.multi_label = multi_label
        core = {name for name, c in ontology.classes.items() if c.iri.startswith(NS)}
        self.classes = {n: sorted(({n} | ontology.ancestors(n)) - core) for n in ontology.classes}
        self.declared = set(ontology.classes)
        self.relations: list[tuple[str, str]] = []
        spoken_of = {a.predicate for rule in knowledge.rules for a in rule.atoms}
        by_preference = sorted(ontology.relations.items(), key=lambda r: (r[1].predicate in SWAPPED, r[0]))
        for name, relation in by_preference:
            written_as_inverse = any(relation.inverse == done for done, _ in self.relations)
            repeats = relation.predicate in DERIVED and relation.iri.startswith(NS) and name not in spoken_of
            if relation.predicate in PREDICATES and not written_as_inverse and not repeats:
                self.relations.append((name, relation.predicate))
        self.frames = frozenset(n for n in ontology.classes if any(ontology.is_a(n, z) for z in ontology.zoned))
        self.image_facts = ImageFacts(ontology, self.frames, lambda name: self.classes[name])

    def facts(self, scene: Scene, threshold: float, attributes: Mapping[str, Any]) -> Iterator[Fact]:
        seen = seen_in(scene, self.knowledge, threshold)
        weights = [d.score for d in seen]
        if self.calibration is not None:
            weights = [round(self.calibration(d.name, d.score), 4) for d in seen]
        groups = objects_among(seen, self.multi_label)
        first = {i: group[0] for group in groups for i in group}
        entities = [f"{scene.image_id}/{first[i]}" for i in range(len(seen))]
        framed = frames_among(seen, entities, self.frames)
        for entity, detection, weight in zip(entities, seen, weights, strict=True):
            for name in (*self.classes[detection.name], *self._places(detection, entity not in framed, seen, scene)):
                yield Fact(name, (entity,), weight, scene.image_id)
        for label, weight in scene.labels.items():
            if weight > 0 and label in self.declared:
                for name in self.classes[label]:
                    yield Fact(name, (scene.image_id,), weight, scene.image_id)
        yield from self.image_facts.stated(scene.image_id, attributes)
        yield from self.image_facts.facts(scene, seen, weights, entities)
        if len(groups) < 2:
            return
        surest = [max(weights[i] for i in group) for group in groups]
        for name, holds in self._relations([seen[group[0]] for group in groups], scene):
            np.fill_diagonal(holds, False)
            for n, m in np.argwhere(holds):
                weight = round(surest[n] * surest[m], 4)
                yield Fact(name, (entities[groups[n][0]], entities[groups[m][0]]), weight, scene.image_id)

    def _relations(self, seen: Sequence[Detection], scene: Scene) -> Iterator[tuple[str, np.ndarray]]:
        """Each relation with where it holds: [first, second]."""
        boxes = np.array([d.box.xyxy for d in seen])
        if not (self.masks and any(d.mask is not None for d in seen)):
            for name, word in self.relations:
                yield name, PREDICATES[word](boxes[:, None], boxes[None], np) > 0
            return
        margins = dict(zip(PREDICATES, pair_margins(boxes, mask_grid(seen, scene), np), strict=True))
        for name, word in self.relations:
            yield name, margins[word] > 0

    def _places(self, detection: Detection, placed: bool, seen: list[Detection], scene: Scene) -> Iterator[str]:
        by_class: dict[str, list[np.ndarray]] = {}
        for d in seen:
            if d.name in self.frames:
                by_class.setdefault(d.name, []).append(np.array(d.box.xyxy))
        for place in places_of(np.array(detection.box.xyxy), by_class, scene.width, scene.height, np, placed):
            if place in self.declared:
                yield place


def mask_grid(seen: Sequence[Detection], scene: Scene) -> np.ndarray:
    """The masks of detections on one grid of square pixels, (detection, height, width): each pixel the share that is covered.

    A detection without a mask has an empty one. Images of up to `GRID` pixels keep theirs, larger ones are averaged.

    Raises:
        DataError: a mask of another size than the image.
    """
    step = -(-max(scene.width, scene.height) // GRID)
    height, width = -(-scene.height // step), -(-scene.width // step)
    grid = np.zeros((len(seen), height, width))
    for k, d in enumerate(seen):
        if d.mask is not None:
            mask, full = decode_mask(d.mask), np.zeros((height * step, width * step))
            if mask.shape != (scene.height, scene.width):
                found = f"a mask of {d.name} is {mask.shape[1]}×{mask.shape[0]} pixels"
                raise DataError(Problem(f"image {scene.image_id!r}: {found}, the image {scene.width}×{scene.height}"))
            full[: scene.height, : scene.width] = mask
            grid[k] = full.reshape(height, step, width, step).mean((1, 3))
    return grid
