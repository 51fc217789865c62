"""Scenes → weighted facts, in the words of the ontology.

Each detection becomes an entity named ``image/number``, the image itself the entity ``image``. Facts are

- the detection's class and every class above it (except the vocabulary's own roots, which say nothing);
- every geometric relation of the ontology that holds between two detections (the crisp predicates of
  `neurosym.knowledge.geometry`), each once: of a word and its inverse (`inside`, `encloses`) only the plain one is written;
- where the ontology names a frame (``ns:zoned``, e.g. a lung): the third of the frame and the side, for each detection that is
  no frame itself; the frame is the smallest that holds the detection's centre, else the nearest, and the side is seen from
  the midline between the classes of frames (a lung that is seen twice counts once);
- the size class by the share of the image's area, and the study labels of the image.

A fact weighs the product of its detections' scores. Geometry itself is certain: it is computed, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from neurosym.knowledge import Knowledge
from neurosym.knowledge.geometry import PREDICATES, SWAPPED, side_of, size_of, zone_of
from neurosym.knowledge.triples import NS
from neurosym.records import Detection, Fact, FactStore, Scene


def facts_from(scenes: Iterable[Scene], knowledge: Knowledge, threshold: float = 0.5) -> FactStore:
    """All facts of the scenes' detections that score at least `threshold`, sorted."""
    vocabulary = _Vocabulary(knowledge)
    return FactStore(tuple(sorted({f for scene in scenes for f in vocabulary.facts(scene, threshold)})))


class _Vocabulary:
    def __init__(self, knowledge: Knowledge) -> None:
        ontology = knowledge.ontology
        self.ontology = ontology
        core = {name for name, c in ontology.classes.items() if c.iri.startswith(NS)}
        self.classes = {n: sorted(({n} | ontology.ancestors(n)) - core) for n in ontology.classes}
        self.declared = set(ontology.classes)
        self.relations: list[tuple[str, str]] = []
        by_preference = sorted(ontology.relations.items(), key=lambda r: (r[1].predicate in SWAPPED, r[0]))
        for name, relation in by_preference:
            written_as_inverse = any(relation.inverse == done for done, _ in self.relations)
            if relation.predicate and not written_as_inverse:
                self.relations.append((name, relation.predicate))
        self.frames = {n for n in ontology.classes if any(ontology.is_a(n, z) for z in ontology.zoned)}

    def facts(self, scene: Scene, threshold: float) -> Iterator[Fact]:
        seen = [d for d in scene.detections if d.score >= threshold and d.name in self.declared]
        entities = [f"{scene.image_id}/{i}" for i in range(len(seen))]
        for entity, detection in zip(entities, seen, strict=True):
            for name in (*self.classes[detection.name], *self._places(detection, seen, scene)):
                yield Fact(name, (entity,), detection.score, scene.image_id)
        for label, weight in scene.labels.items():
            if weight > 0 and label in self.declared:
                for name in self.classes[label]:
                    yield Fact(name, (scene.image_id,), weight, scene.image_id)
        if len(seen) < 2:
            return
        boxes = np.array([d.box.xyxy for d in seen])
        for name, word in self.relations:
            holds = PREDICATES[word](boxes[:, None], boxes[None], np) > 0
            np.fill_diagonal(holds, False)
            for n, m in np.argwhere(holds):
                weight = round(seen[n].score * seen[m].score, 4)
                yield Fact(name, (entities[n], entities[m]), weight, scene.image_id)

    def _places(self, detection: Detection, seen: list[Detection], scene: Scene) -> Iterator[str]:
        box = np.array(detection.box.xyxy)
        size = size_of(box, scene.width, scene.height)
        if size in self.declared:
            yield size
        by_class: dict[str, list[np.ndarray]] = {}
        for d in seen:
            if d.name in self.frames:
                by_class.setdefault(d.name, []).append(np.array(d.box.xyxy))
        frames = [frame for several in by_class.values() for frame in several]
        if detection.name in self.frames or not frames:
            return
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2

        def distance(frame: np.ndarray) -> tuple[float, float]:
            dx = max(frame[0] - x, 0.0, x - frame[2])
            dy = max(frame[1] - y, 0.0, y - frame[3])
            return (dx * dx + dy * dy, (frame[2] - frame[0]) * (frame[3] - frame[1]))

        frame = min(frames, key=distance)
        centres = [np.mean([(f[0] + f[2]) / 2 for f in several]) for several in by_class.values()]
        midline = float(np.mean(centres)) if len(centres) > 1 else scene.width / 2
        for place in (zone_of(box, frame), side_of(box, frame, midline)):
            if place in self.declared:
                yield place
