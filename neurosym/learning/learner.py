"""The model of a run and all that it learns from: what a share of a step's batch teaches, as one loss.

A batch is dealt to the processes of a run and to the parts of a step (`train.accumulate`); `Learner.losses` are of one share of
it: labelled images, and once the teacher has started what it says of unlabelled ones; with what weak labels and knowledge say
of both.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurosym.errors import ConfigError, short_path
from neurosym.knowledge import Knowledge
from neurosym.knowledge.similarity import class_similarity
from neurosym.learning.batches import annotated_sizes, make_batch, require_masks
from neurosym.learning.checkpoint import begin_from, latest_checkpoint
from neurosym.learning.class_thresholds import ClassThresholds
from neurosym.learning.comatch_regions import LabelledRegions, region_comatch
from neurosym.learning.config import TrainConfig
from neurosym.learning.distribution import ALONE, World
from neurosym.learning.film_reader import film_readers
from neurosym.learning.guidance import Guidance
from neurosym.learning.optimisation import pick_device, set_precision
from neurosym.learning.sampling import Moment
from neurosym.learning.teacher import Lesson, Reliability, Teacher, lessons
from neurosym.learning.weak_supervision import WeakSupervision
from neurosym.learning.witness import RuleWitness
from neurosym.models.build import build_model
from neurosym.models.class_losses import relate_classes
from neurosym.models.scene import SceneProposals
from neurosym.records import Sample

log = logging.getLogger(__name__)


@dataclass
class Learner:
    """A run's model, its data, and what teaches it; `step` is how many steps are behind it."""

    config: TrainConfig
    names: tuple[str, ...]
    knowledge: Knowledge
    images: Sequence[Sample]
    unlabelled: Sequence[Sample]
    out: Path
    world: World = ALONE

    def __post_init__(self) -> None:
        self._require_even_batches()
        torch.manual_seed(self.config.seed)
        self.device = pick_device(self.config, self.world.local_rank)
        self.guidance = Guidance(self.config, self.names, self.knowledge, self.images, self.device, self.world)
        self.weak = WeakSupervision.of(
            self.config, self.names, self.knowledge, (self.images, self.unlabelled), self.guidance
        )
        model = self.config.model
        if model.weights:
            model = model.model_copy(update={"weights": str(self.config.base / model.weights)})
        self.model = build_model(model, self.names).to(self.device)
        self.model.shows_scenes = self.guidance.looks_at_scenes or self.weak is not None
        if self.model.uses_masks:
            require_masks(self.images, self.names, 32 if self.weak is None else len(self.images))
        if self.config.initial:  # what is measured below is of this run's own data
            self._begin_from(self.config.base / self.config.initial)
        if self.model.inexact is not None:
            # images are scaled to the shorter side; 4:3 is as good a guess of the other as any
            side = model.image_size * (4 / 3) ** 0.5
            boxes, labels, areas = (v.to(self.device) for v in annotated_sizes(self.images, self.names))
            self.model.inexact.measure(boxes, labels, areas, side)
            if self.config.rules_are_witnesses:
                self.model.inexact.witness = RuleWitness(self.guidance.constraints, self.config.constraints.temperature)
        if model.classification.ontology > 0:
            relate_classes(self.model, class_similarity(self.knowledge.ontology, self.names))
        optim = self.config.train
        self.films, self.unlabelled_films, self.quality_order = film_readers(
            self.config, self.names, self.images, self.unlabelled, self.world
        )
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()} if optim.ema else {}
        self.teacher: Teacher | None = None
        if self.config.teacher.weight > 0:
            if not self.average:
                raise ConfigError("train.ema: the teacher is the weight average; set it above 0, e.g. 0.98")
            self.teacher = Teacher(model, self.names, self.device)
        self.thresholds = ClassThresholds.of(self.config, len(self.names))
        self.comatch = region_comatch(self.config, self.names, self.knowledge.ontology, self.device)
        set_precision(self.model, optim.precision)
        if self.teacher is not None:
            set_precision(self.teacher.model, optim.precision)
        self.step = 0
        self._seen: list[SceneProposals] = []
        """What the teacher saw in the parts of the step so far."""

    def _require_even_batches(self) -> None:
        optim, teacher = self.config.train, self.config.teacher
        batches = {"train.batch_size": optim.batch_size, "constraints.unlabelled_batch": 0, "teacher.batch": 0}
        if teacher.weight > 0:
            batches["teacher.batch"] = teacher.batch
        elif self.unlabelled:
            batches["constraints.unlabelled_batch"] = self.config.constraints.unlabelled_batch
        for setting, count in batches.items():
            self.world.require_even(count, setting, optim.accumulate)

    def _begin_from(self, run: Path) -> None:
        """Start from another run's averaged weights; what serves training alone may differ (see `begin_from`)."""
        checkpoint = latest_checkpoint(run / "checkpoints")
        if checkpoint is None:
            raise ConfigError(f"initial: {short_path(run)} holds no checkpoint; name a run folder that was trained")
        anew = begin_from(checkpoint, self.model)
        if anew:
            log.info("starts from %s; not taken over, but learned anew: %s", short_path(run), ", ".join(anew))

    def losses(self, part: int) -> dict[str, Tensor]:
        """The terms of what this process sees in a part of the step's batch; parts must be asked for in their order."""
        optim, seed = self.config.train, self.config.seed
        shares = self.world.size * optim.accumulate
        moment = Moment(self.step, part * self.world.size + self.world.rank if shares > 1 else None)
        rng = moment.draws(seed, 1) if optim.augment else None
        samples = self.guidance.compose(self.films.films(self.step, part)[1], moment)
        known = self.weak.hinter.target if self.weak is not None else None
        images, targets = make_batch(samples, self.names, self.device, rng, self.model.uses_masks, known)
        losses: dict[str, Tensor]
        losses, scenes = self.model(images, targets)
        if self.weak is not None:
            losses = losses | self.weak.terms.losses(self.step, samples, scenes, images, targets)
        labelled = self.guidance.watch(self.model, scenes, images, targets)
        regions = None
        if self.comatch is not None and self.step >= self.config.teacher.start:
            regions = self.comatch.labelled(self.model, images, targets)
        pseudo, others, taught = self._unlabelled_part(part, moment, rng, regions)
        unlabelled = self.guidance.watch(self.model, others)
        losses = losses | pseudo | self.guidance.losses(self._taught_steps(), scenes, others, taught)
        return losses | self.guidance.energy_losses(moment, labelled, unlabelled, self._is_last(part))

    def _is_last(self, part: int) -> bool:
        """Whether a part ends its step: what learns once a step does so then, from this part's films where it must."""
        return part == self.config.train.accumulate - 1

    def close(self) -> None:
        """Stop what reads films."""
        self.films.close()
        self.unlabelled_films.close()

    def _taught_steps(self) -> int:
        """Steps since the terms of knowledge began: with a teacher they begin with it."""
        return self.step - self.config.teacher.start if self.config.teacher.weight > 0 else self.step

    def _unlabelled_part(
        self, part: int, moment: Moment, rng: np.random.Generator | None, regions: LabelledRegions | None = None
    ) -> tuple[dict[str, Tensor], list[SceneProposals], list[Lesson]]:
        """Losses on pseudo-labels (none before the teacher starts), the student's scenes, and what the teacher said."""
        settings, refiner = self.config.teacher, self.config.refiner
        if settings.weight == 0:
            return {}, self._plain_scenes(part, rng), []
        if self.step < settings.start or self.teacher is None:
            return {}, [], []
        if part == 0:
            self.teacher.follow(self.average)
            self.guidance.prepare(self.teacher)
        _, samples = self.unlabelled_films.films(self.step, part)
        threshold = refiner.threshold if refiner.enabled else settings.threshold
        compose = partial(self.guidance.compose_unlabelled, moment=moment)
        onto = compose if self.guidance.composes_unlabelled else None
        taught = lessons(
            samples,
            self.teacher,
            self.guidance.refiner,
            threshold if self.thresholds is None else self.thresholds.thresholds(),
            rng,
            onto,
            regions is not None,
            weak=self.weak.targets if self.weak is not None else None,
            reliability=Reliability.of(settings, self.config.seed, moment),
            strong=moment.draws(self.config.seed, 7) if settings.strong else None,
        )
        self._seen += [lesson.seen for lesson in taught]
        if self._is_last(part):
            self.guidance.learn_from(self._seen)
            if self.thresholds is not None:
                self.thresholds.watch(self._seen)
            self._seen = []
        self.model.annotated = False
        losses, scenes = self.model([lesson.image for lesson in taught], [lesson.target for lesson in taught])
        self.model.annotated = True
        losses = {f"pseudo_{k}": settings.weight * v for k, v in losses.items()}
        if self.comatch is not None and regions is not None:
            losses |= self.comatch.losses(self.model, self.teacher, regions, taught)
        return losses, scenes, taught

    def _plain_scenes(self, part: int, rng: np.random.Generator | None) -> list[SceneProposals]:
        """Without a teacher: the student's scenes of unlabelled images, for the constraints alone."""
        if not self.unlabelled or self.step == 0:
            return []
        _, samples = self.unlabelled_films.films(self.step, part)
        images, _ = make_batch(samples, self.names, self.device, rng)
        return self.model.propose(images)
