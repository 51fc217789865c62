"""Scenes → weighted facts, in the words of the ontology.

Each detection becomes an entity named ``image/number``, the image itself the entity ``image``. Facts are

- the detection's class and every class above it (except the vocabulary's own roots, which say nothing);
- every geometric relation of the ontology that holds between two detections (the crisp predicates of
  `neurosym.knowledge.geometry`), each once: of a word and its inverse (`inside`, `encloses`) only the plain one is written,
  and the core's derived words (`adjacent`, the patient's sides), which repeat the others, only where a rule of the
  knowledge speaks of them;
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
from neurosym.knowledge.geometry import DERIVED, PREDICATES, SWAPPED, places_of
from neurosym.knowledge.triples import NS
from neurosym.records import Detection, Fact, FactStore, Scene


def facts_from(scenes: Iterable[Scene], knowledge: Knowledge, threshold: float = 0.5) -> FactStore:
    """All facts of the scenes' detections that score at least `threshold`, sorted."""
    vocabulary = _Vocabulary(knowledge)
    return FactStore(tuple(sorted({f for scene in scenes for f in vocabulary.facts(scene, threshold)})))


def seen_in(scene: Scene, knowledge: Knowledge, threshold: float = 0.5) -> list[Detection]:
    """The detections that facts are of; the entity ``image/i`` is the one at position i."""
    return [d for d in scene.detections if d.score >= threshold and d.name in knowledge.ontology.classes]


class _Vocabulary:
    def __init__(self, knowledge: Knowledge) -> None:
        ontology = knowledge.ontology
        self.knowledge, self.ontology = knowledge, ontology
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
        self.frames = {n for n in ontology.classes if any(ontology.is_a(n, z) for z in ontology.zoned)}

    def facts(self, scene: Scene, threshold: float) -> Iterator[Fact]:
        seen = seen_in(scene, self.knowledge, threshold)
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
        by_class: dict[str, list[np.ndarray]] = {}
        for d in seen:
            if d.name in self.frames:
                by_class.setdefault(d.name, []).append(np.array(d.box.xyxy))
        box, placed = np.array(detection.box.xyxy), detection.name not in self.frames
        for place in places_of(box, by_class, scene.width, scene.height, np, placed):
            if place in self.declared:
                yield place
