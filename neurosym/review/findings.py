"""The abnormality graph of one film, as plain values: what is there, what was looked for and is not, and what the rules say.

Follows the first half of KERP (Li et al., AAAI 2019): a film is encoded as a graph of findings before anything is said about
it; `neurosym.review.sentences` retrieves templates for it. Here the graph is not a network's guess: nodes are classes of the
ontology with the detections that are their evidence, edges are measured on boxes, and rules are edges with a proof.

Detections are named by their index in the scene. Nothing here says who the patient is, except `image_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from neurosym.knowledge import Knowledge, Ontology
from neurosym.knowledge.geometry import PREDICATES, SIDES, SIZES, ZONES, frame_distance, frame_of, places_of
from neurosym.knowledge.reading import reading
from neurosym.knowledge.regions import Regions
from neurosym.knowledge.triples import NS
from neurosym.learning.runfolder import OpenRun
from neurosym.records import Box, Scene
from neurosym.scenes.image_facts import width_ratio
from neurosym.scenes.of_run import image_attributes
from neurosym.scenes.rule_instances import RuleBook, RuleInstance

CONTACTS: Final = ("inside", "overlaps", "near")
"""The words of geometry that make an edge, the closest first; of two objects only the closest that holds is told."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A detection and where it lies; `box` is x1, y1, x2, y2 in pixels.

    `size`, `zone` and `side` are names of classes ("" where the ontology has none, or the film no frame), `frame` the index of
    the detection whose thirds the zones are: that which it lies `within` (with its centre), or else the nearest. `regions` are
    the classes of the frame's regions in which it can lie, seen that it lies in the zone (lobes, which no detector sees), with
    their labels; none if all of them fit. `mask` is a COCO run-length code.
    """

    detection: int
    probability: float
    box: tuple[float, float, float, float]
    size: str = ""
    zone: str = ""
    side: str = ""
    frame: int | None = None
    within: bool = False
    regions: tuple[str, ...] = ()
    region_labels: tuple[str, ...] = ()
    mask: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A class that was looked for.

    It is present if a detection scores at least the threshold; `evidence` are all of those, the surest first. `probability` is
    the highest score, also of an absent one. `group` is the highest class above it below the vocabulary's own, e.g. `finding`;
    `is_frame` says that others are placed within it.
    """

    name: str
    label: str
    group: str
    group_label: str
    is_frame: bool
    present: bool
    probability: float
    evidence: tuple[Evidence, ...] = ()

    @property
    def count(self) -> int:
        """How many objects are evidence."""
        return len(self.evidence)


@dataclass(frozen=True, slots=True)
class StudyLabel:
    """What is said of the film as a whole."""

    name: str
    label: str
    present: bool
    probability: float


@dataclass(frozen=True, slots=True)
class Edge:
    """`relation` holds between two detections; `probability` is the product of their scores, geometry itself is certain."""

    relation: str
    label: str
    subject: int
    object: int
    probability: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a quantity is measured: the width of the surest `part` over that of all the surest `whole` together."""

    name: str
    label: str
    part: str
    whole: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured number with the detections that it was measured on."""

    name: str
    label: str
    value: float
    detections: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RuleEvidence:
    """A rule that fired: it supports what it is about where it holds, and is evidence against it where it does not.

    `weight` is None for a hard rule, `place` is file and line without a folder, `premises` the facts of the proof.
    """

    id: str
    text: str
    reading: str
    weight: float | None
    place: str
    holds: bool
    detections: tuple[int, ...]
    witnesses: tuple[int, ...] = ()
    premises: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FilmFindings:
    """The graph of one film; groups of findings come in the order of their labels, those with frames (organs) last."""

    image_id: str
    width: int
    height: int
    threshold: float
    findings: tuple[Finding, ...]
    labels: tuple[StudyLabel, ...] = ()
    edges: tuple[Edge, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    rules: tuple[RuleEvidence, ...] = ()

    @property
    def names(self) -> dict[int, Finding]:
        """The finding of each detection that is evidence."""
        return {e.detection: f for f in self.findings for e in f.evidence}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        value = asdict(self)
        for plain, finding in zip(value["findings"], self.findings, strict=True):
            plain["count"] = finding.count
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> FilmFindings:
        """A graph that `as_dict` made, also after a way through JSON; keys that it does not know are left alone."""

        def several(kind: Any, key: str, *lists: str, of: Mapping[str, Any] = value) -> tuple[Any, ...]:
            known = kind.__dataclass_fields__
            plain = ({k: tuple(v) if k in lists else v for k, v in one.items() if k in known} for one in of[key])
            return tuple(kind(**one) for one in plain)

        findings = tuple(
            replace(
                f,
                evidence=several(Evidence, "evidence", "box", "regions", "region_labels", of={"evidence": f.evidence}),
            )
            for f in several(Finding, "findings")
        )
        return cls(
            value["image_id"],
            value["width"],
            value["height"],
            value["threshold"],
            findings,
            several(StudyLabel, "labels"),
            several(Edge, "edges"),
            several(Quantity, "quantities", "detections"),
            several(RuleEvidence, "rules", "detections", "witnesses", "premises"),
        )


class Findings:
    """Scenes → graphs, for detectors of the classes `names`; rules are made ready once.

    `attributes` are what the data says of each film, by its id, for rules with words that are read off it (``ns:attribute``).
    """

    def __init__(
        self,
        knowledge: Knowledge,
        names: Iterable[str],
        threshold: float = 0.5,
        ratios: Sequence[Ratio] = (),
        attributes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.knowledge, self.threshold, self.ratios = knowledge, threshold, tuple(ratios)
        self.names = tuple(n for n in dict.fromkeys(names) if n in knowledge.ontology.classes)
        self.attributes = attributes or {}
        self.book = RuleBook(knowledge, self.names)
        self.regions = Regions(knowledge.ontology)
        self.frames = {n for n in self.names if any(knowledge.ontology.is_a(n, z) for z in knowledge.ontology.zoned)}
        with_frames = {_group(n, knowledge.ontology) for n in knowledge.ontology.zoned}
        self.ordered = sorted(self.names, key=lambda n: self._rank(_group(n, knowledge.ontology), n, with_frames))

    @classmethod
    def of_run(cls, run: OpenRun, split: str, threshold: float, ratios: Sequence[Ratio] = ()) -> Findings:
        """For what a run detects on a split, with what its data says of the films."""
        return cls(run.knowledge, run.names, threshold, ratios, image_attributes(run, split))

    def _rank(self, group: str, name: str, with_frames: set[str]) -> tuple[bool, str, str]:
        classes = self.knowledge.ontology.classes
        return group in with_frames, classes[group].label, classes[name].label

    def of(self, scene: Scene) -> FilmFindings:
        """The graph of a scene; detections of classes that nobody looked for are left out."""
        seen = [i for i, d in enumerate(scene.detections) if d.score >= self.threshold and d.name in self.names]
        evidence, stated = self._evidence(scene, seen), self.attributes.get(scene.image_id, {})
        return FilmFindings(
            scene.image_id,
            scene.width,
            scene.height,
            self.threshold,
            tuple(self._finding(name, scene, evidence) for name in self.ordered),
            self._labels(scene),
            tuple(self._edges(scene, seen)),
            tuple(q for ratio in self.ratios if (q := _quantity(ratio, scene, seen)) is not None),
            tuple(_rule(i, self.knowledge.ontology) for i in self.book.instances(scene, self.threshold, stated)),
        )

    def _finding(self, name: str, scene: Scene, evidence: Mapping[int, Evidence]) -> Finding:
        ontology = self.knowledge.ontology
        mine = [e for i, e in evidence.items() if scene.detections[i].name == name]
        best = max((float(d.score) for d in scene.detections if d.name == name), default=0.0)
        group = _group(name, ontology)
        of_group = ontology.classes[group].label
        mine.sort(key=lambda e: (-e.probability, e.detection))
        is_frame = name in self.frames
        return Finding(name, ontology.classes[name].label, group, of_group, is_frame, bool(mine), best, tuple(mine))

    def _labels(self, scene: Scene) -> tuple[StudyLabel, ...]:
        classes = self.knowledge.ontology.classes
        found = ((name, float(p)) for name, p in scene.labels.items() if name in classes)
        ordered = sorted(found, key=lambda pair: (-pair[1], pair[0]))
        return tuple(StudyLabel(n, classes[n].label, p >= self.threshold, p) for n, p in ordered)

    def _evidence(self, scene: Scene, seen: Sequence[int]) -> dict[int, Evidence]:
        boxes = {i: np.array(scene.detections[i].box.xyxy, dtype=np.float64) for i in seen}
        frames = [i for i in seen if scene.detections[i].name in self.frames]
        by_class: dict[str, list[np.ndarray]] = {}
        for i in frames:
            by_class.setdefault(scene.detections[i].name, []).append(boxes[i])
        found = {}
        for i in seen:
            is_placed = i not in frames
            words = places_of(boxes[i], by_class, scene.width, scene.height, np, is_placed)
            words = tuple(w for w in words if w in self.knowledge.ontology.classes)
            frame, within = None, False
            if is_placed and frames:
                chosen = frame_of(boxes[i], [boxes[j] for j in frames], np)
                frame = next(j for j in frames if boxes[j] is chosen)
                within = float(frame_distance(boxes[i], chosen, np)[0]) == 0
            size, zone, side = (next((w for w in words if w in kind), "") for kind in (SIZES, ZONES, SIDES))
            d = scene.detections[i]
            regions = self._regions(scene.detections[frame].name, zone) if frame is not None and within else ()
            labels = tuple(self.knowledge.ontology.classes[n].label for n in regions)
            place = (size, zone, side, frame, within, regions, labels)
            found[i] = Evidence(i, float(d.score), _xyxy(d.box), *place, d.mask)
        return found

    def _regions(self, frame: str, zone: str) -> tuple[str, ...]:
        """The regions of a frame that a zone is of, in the order of their labels; none if they are all of its regions.

        A region that is a frame itself, or that a detector looks for, is seen and needs not be concluded.
        """
        classes, of_frame = self.knowledge.ontology.classes, {}
        for name in self.regions.names:
            region = self.regions.of_class(name)
            if region is not None and frame in region.frames and name not in {*self.regions.frames, *self.names}:
                of_frame[name] = region.zones
        fitting = [name for name, zones in of_frame.items() if zone in zones]
        tells = any(zone not in zones for zones in of_frame.values()) or len(of_frame) == 1
        return tuple(sorted(fitting, key=lambda n: (classes[n].label, n))) if tells else ()

    def _edges(self, scene: Scene, seen: Sequence[int]) -> list[Edge]:
        if len(seen) < 2:
            return []
        boxes = np.array([scene.detections[i].box.xyxy for i in seen], dtype=np.float64)
        rank = {i: (self.ordered.index(scene.detections[i].name), i) for i in seen}  # findings before organs
        told: set[frozenset[int]] = set()
        edges = []
        for word in CONTACTS:
            known = sorted(n for n, r in self.knowledge.ontology.relations.items() if r.predicate == word)
            if not known:
                continue
            relation = self.knowledge.ontology.relations[known[0]]
            holds = PREDICATES[word](boxes[:, None], boxes[None], np) > 0
            fresh = set()
            for n, m in np.argwhere(holds).tolist():
                a, b = seen[n], seen[m]
                pair = frozenset((a, b))
                is_repeated = word != "inside" and rank[a] > rank[b]
                if a == b or pair in told or is_repeated:
                    continue
                fresh.add(pair)
                score = float(scene.detections[a].score) * float(scene.detections[b].score)
                edges.append(Edge(relation.name, relation.label, a, b, round(score, 4)))
            told |= fresh
        return edges


def _group(name: str, ontology: Ontology) -> str:
    """The highest class above one (or itself) that is not of the core vocabulary; of several the first by name."""
    own = [c for c in ontology.ancestors(name) | {name} if not ontology.classes[c].iri.startswith(NS)]
    top = [c for c in own if not (ontology.ancestors(c) & set(own))]
    return min(top, default=name)


def _quantity(ratio: Ratio, scene: Scene, seen: Sequence[int]) -> Quantity | None:
    """The ratio, None where one of its classes is not seen."""
    best: list[int] = []
    for name in (ratio.part, *ratio.whole):
        mine = [i for i in seen if scene.detections[i].name == name]
        if not mine:
            return None
        best.append(max(mine, key=lambda i: (scene.detections[i].score, -i)))
    part, *whole = (scene.detections[i].box for i in best)
    value = width_ratio(part, whole)
    return None if value is None else Quantity(ratio.name, ratio.label, value, tuple(best))


def _rule(instance: RuleInstance, ontology: Ontology) -> RuleEvidence:
    rule = instance.rule
    place = f"{Path(rule.file).name}:{rule.line}" if rule.file else ""
    return RuleEvidence(
        rule.id,
        str(rule),
        reading(rule, ontology),
        rule.weight,
        place,
        instance.holds,
        instance.detections,
        instance.witnesses,
        instance.premises,
    )


def _xyxy(box: Box) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = map(float, box.xyxy)
    return x1, y1, x2, y2
