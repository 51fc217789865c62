"""The films that a run's candidates were learned from: their objects, their facts, and the cases for and against a rule.

Predictions are read from ``RUN/scenes-SPLIT.json``, annotations from the run's data; either only if they are those that the
candidates' origin names, else no film is shown and `missing` says why. Nothing is kept that is cheap to make again: facts are
made film by film, and all of them only once a rule is to be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from neurosym.data.images import annotated_scene, read_image
from neurosym.data.unread import unread
from neurosym.errors import DataError, InductionError, NeurosymError, Problem, ReviewError, did_you_mean
from neurosym.induction.bindings import Case, cases_of
from neurosym.induction.engine import Evaluation, evaluate_rule
from neurosym.induction.index import FactIndex
from neurosym.knowledge import Knowledge
from neurosym.learning.runfolder import OpenRun
from neurosym.records import Detection, FactStore, Rule, Sample, Scene
from neurosym.review.origin import ANNOTATIONS, PREDICTIONS
from neurosym.scenes import facts_from, load_scenes
from neurosym.scenes.facts import Calibration, seen_in
from neurosym.scenes.of_run import CALIBRATION, image_attributes, kept_calibration

WORK_CAP = 2_000_000
"""Most rows of a table while somebody waits: about two seconds."""


@dataclass
class Evidence:
    """Scenes by image id, what is drawn of them, and their facts; `missing` says why there are none."""

    knowledge: Knowledge
    scenes: Mapping[str, Scene] = field(default_factory=dict)
    threshold: float = 0.5
    images: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    missing: str = ""
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    masks: bool = False
    calibration: Calibration | None = None
    multi_label: bool = False
    _lock: Lock = field(default_factory=Lock, repr=False)

    @classmethod
    def of(cls, run: OpenRun, origin: Mapping[str, Any]) -> Evidence:
        """What the origin of a run's candidates names; never raises, for verdicts can be given without films."""
        try:
            if origin.get("facts") == PREDICTIONS:
                return cls._predicted(run, origin)
            if origin.get("facts") == ANNOTATIONS:
                split = str(origin.get("split", ""))
                stated, masks = image_attributes(run, split), bool(origin.get("masks"))
                return cls._annotated(run, run.images(split), stated, masks)
        except NeurosymError as error:
            return cls(run.knowledge, missing=str(error))
        return cls(run.knowledge, missing="candidates.json does not say which films its facts are of")

    @classmethod
    def _predicted(cls, run: OpenRun, origin: Mapping[str, Any]) -> Evidence:
        path = run.path / f"scenes-{origin.get('split', '')}.json"
        scenes, checkpoint = load_scenes(path)
        if checkpoint != origin.get("checkpoint", checkpoint):
            message = f"are of checkpoint {checkpoint!r}, the candidates of {origin['checkpoint']!r}"
            raise DataError(Problem(message, str(path), cure="induce again"))
        calibration = kept_calibration(run, checkpoint) if origin.get("calibrated") else None
        if origin.get("calibrated") and calibration is None:
            message = (
                f"is not there, or not of checkpoint {checkpoint!r}, by which the candidates' facts were calibrated"
            )
            raise DataError(Problem(message, str(run.path / CALIBRATION), cure="induce again"))
        images = {s.image_id: _reader(Path(s.image_path)) for s in scenes if s.image_path}
        stated = image_attributes(run, str(origin.get("split", "")))
        threshold = float(origin.get("threshold", 0.5))
        by_id, masks = {s.image_id: s for s in scenes}, bool(origin.get("masks"))
        several = run.config.model.multi_label
        return cls(run.knowledge, by_id, threshold, images, "", stated, masks, calibration, several)

    @classmethod
    def _annotated(
        cls, run: OpenRun, samples: Sequence[Sample], stated: Mapping[str, Mapping[str, Any]], masks: bool
    ) -> Evidence:
        scenes = [annotated_scene(sample) for sample in unread(samples)]
        images = {scene.image_id: _drawer(samples, i) for i, scene in enumerate(scenes)}
        by_id, several = {s.image_id: s for s in scenes}, run.config.model.multi_label
        return cls(run.knowledge, by_id, images=images, attributes=stated, masks=masks, multi_label=several)

    def scene(self, film: str) -> Scene:
        """The scene of an image id.

        Raises:
            ReviewError: there is none; the nearest id is named.
        """
        if film not in self.scenes:
            raise ReviewError(
                Problem(f"no film {film!r} among {len(self.scenes)}", cure=did_you_mean(film, self.scenes))
            )
        return self.scenes[film]

    def image(self, film: str) -> np.ndarray:
        """The pixels of a film.

        Raises:
            ReviewError: no such film. DataError: its image cannot be read.
        """
        self.scene(film)
        if film not in self.images:
            raise DataError(Problem(f"film {film!r} has no image on disk"))
        return self.images[film]()

    def objects(self, film: str) -> list[Detection]:
        """The detections that facts are of; variables are bound to their positions."""
        return seen_in(self.scene(film), self.knowledge, self.threshold)

    def cases(self, rule: Rule, film: str) -> list[Case]:
        """The cases of a rule on one film, those against it first.

        Raises:
            ReviewError: no such film. InductionError: the rule cannot be measured.
        """
        facts = self._facts([self.scene(film)])
        return cases_of(rule, facts, WORK_CAP) if facts.facts else []

    def measure(self, rule: Rule, cases: int = 50) -> Evaluation:
        """The measures of a rule on all films.

        Raises:
            InductionError: there are no facts, or the rule cannot be measured.
        """
        if not self.scenes:
            raise InductionError(f"there are no films to measure it on: {self.missing}")
        return evaluate_rule(rule, self.index, injective=rule.distinct, cases=cases, work_cap=WORK_CAP)

    @property
    def index(self) -> FactIndex:
        """The facts of all films, made once."""
        with self._lock:
            return self._index

    @cached_property
    def _index(self) -> FactIndex:
        return FactIndex.of(self._facts(self.scenes.values()))

    def _facts(self, scenes: Iterable[Scene]) -> FactStore:
        """Facts made as those that the candidates were learned from."""
        return facts_from(
            scenes,
            self.knowledge,
            self.threshold,
            masks=self.masks,
            calibration=self.calibration,
            attributes=self.attributes,
            multi_label=self.multi_label,
        )


def position(entity: str, film: str) -> int | None:
    """Which object of a film an entity is, None for the film itself."""
    return int(entity[len(film) + 1 :]) if entity.startswith(f"{film}/") else None


def _reader(path: Path) -> Callable[[], np.ndarray]:
    return lambda: read_image(path)


def _drawer(samples: Sequence[Sample], index: int) -> Callable[[], np.ndarray]:
    return lambda: samples[index].image
