"""What knowledge adds to training: violation, refiner, consistency, energy, learned confidences, behind one object.

    compose    every step: lay labelled findings onto films where the rules let them be; onto unlabelled ones, too
    prepare    when the teacher starts: see how it errs on composed films, sample scenes from ontology, rules and labelled
               films, and train the refiner to undo such errors
    watch      after each pass: what the energy needs of it
    losses     every step: named terms from the detector's scenes on labelled and unlabelled images
    finish     when training ends: the scorer that refines instance masks at test time

Each term grows linearly from 0 over its warm-up. Everything that a resumed run needs is in `state`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurosym.constraints import ConstraintSet, compile_constraints, constraint_loss, ground
from neurosym.constraints.confidence import RuleConfidences
from neurosym.constraints.exact import exact_loss
from neurosym.constraints.graph import (
    ErrorModel,
    GraphSettings,
    InstanceScorer,
    ObjectScene,
    OntologyGraph,
    RefinerSettings,
    SamplerSettings,
    SceneRefiner,
    SceneSampler,
    consistency_loss,
    ontology_graph,
    train_refiner,
)
from neurosym.data.images import annotated_scene
from neurosym.data.unread import unread
from neurosym.data.weak_labels import has_weak_films, says_weakly
from neurosym.errors import ConfigError
from neurosym.knowledge import Knowledge
from neurosym.learning.batches import make_batch
from neurosym.learning.composed import Composer, object_scene
from neurosym.learning.config import RefinerConfig, TrainConfig
from neurosym.learning.distribution import ALONE, World
from neurosym.learning.energy_term import EnergyTerm, Watched
from neurosym.learning.mask_refinement import fitted_scorer, require_masks_to_refine, restored_scorer
from neurosym.learning.sampling import Moment
from neurosym.learning.teacher import Lesson, Teacher, in_pixels, target_scene
from neurosym.models.open_films import is_open
from neurosym.models.scene import SceneModel, SceneProposals, Target
from neurosym.records import Sample

log = logging.getLogger(__name__)
_REFINER, _CONFIDENCES, _ENERGY, _SCORER = "refiner.", "confidences.", "energy.", "scorer."
COMPOSED, ANYWHERE = SamplerSettings(move=0.08), SamplerSettings(free=1.0)
"""A pasted finding's look belongs to its place more than its box does, so it is moved less; without rules, nothing is known."""
WATCH, WATCH_RATE = 4, 2.0
"""Composed films that are looked at together, and the findings laid onto each, on average."""
SURE = 0.5
"""Premises truer than this are evidence for or against a rule's confidence."""


def refiner_settings(config: RefinerConfig) -> RefinerSettings:
    """The network's settings from the config's section."""
    graph = GraphSettings(relations=config.relations)
    return RefinerSettings(
        config.scenes,
        config.steps,
        config.batch,
        hidden=config.hidden,
        rounds=config.rounds,
        trust=config.trust,
        graph=graph,
    )


class Guidance:
    """The knowledge of one run at work; without weights for it, it does nothing and costs nothing."""

    def __init__(
        self,
        config: TrainConfig,
        names: tuple[str, ...],
        knowledge: Knowledge,
        images: Sequence[Sample],
        device: torch.device,
        world: World = ALONE,
    ) -> None:
        self.config, self.names, self.images, self.device, self.world = config, names, images, device, world
        self.knowledge = knowledge
        acting = (config.constraints.weight, config.refiner.enabled, config.compose.rate, config.energy.weight)
        self.active = any(value > 0 for value in acting)
        self.looks_at_scenes = config.constraints.weight > 0 or config.refiner.enabled or config.energy.weight > 0
        """Whether the scenes of a training step count."""
        require_masks_to_refine(config, names, images)
        if self.active:
            _ = self.constraints  # rules that constrain nothing are refused before a run folder is touched
        self.refiner: SceneRefiner | None = None
        needed = config.refiner.enabled or config.compose.rate > 0
        self.scenes = [object_scene(sample, names) for sample in unread(images)] if needed else []
        self.whole = list(range(len(self.scenes)))
        """The films all of whose objects have a box; of others it is not known what else is there."""
        if has_weak_films(images):
            self.whole = [n for n in self.whole if not says_weakly(images[n])]
            images = [images[n] for n in self.whole]
        self.composer: Composer | None = None
        if any(len(self.scenes[n]) for n in self.whole):
            rules = config.compose.rules
            sampler = self._sampler(COMPOSED if rules else ANYWHERE)
            self.composer = Composer(images, names, sampler, rules)
        self.confidences: RuleConfidences | None = None
        if config.constraints.learn_confidence and self.active:
            self.confidences = RuleConfidences(self.constraints)
            self.confidences.observe_annotations(annotated_scene(s) for s in self.images if not says_weakly(s))
        self.energy: EnergyTerm | None = None
        if config.energy.weight > 0:
            channels = config.model.fpn_channels
            settings, graph = config.energy, self._ontology()
            self.energy = EnergyTerm(settings, self.constraints, graph, channels, config.seed, device, world)
        self.scorer: InstanceScorer | None = None

    @cached_property
    def constraints(self) -> ConstraintSet:
        """The compiled rules; an error if knowledge is to act and no rule constrains the detector."""
        exclusive = not self.config.model.multi_label
        compiled = compile_constraints(self.knowledge, self.names, required=self.active, exclusive=exclusive)
        return compiled.to(self.device)

    def _ontology(self) -> OntologyGraph:
        return ontology_graph(self.constraints.to("cpu"), self.knowledge.ontology)

    def _sampler(self, settings: SamplerSettings | None = None) -> SceneSampler:
        constraints = self.constraints.to("cpu")
        if not self.config.compose.rules:
            constraints = replace(constraints, confidence=torch.zeros_like(constraints.confidence))
        return SceneSampler([self.scenes[n] for n in self.whole], constraints, settings)

    def compose(self, samples: Sequence[Sample], moment: Moment) -> list[Sample]:
        """The labelled images of a moment, with findings laid onto them if the config asks for it."""
        rate = self.config.compose.rate
        if self.composer is None or rate == 0:
            return list(samples)
        rng = moment.draws(self.config.seed, 2)
        return [
            s if says_weakly(s) else self.composer.compose(s, object_scene(s, self.names), rate, rng) for s in samples
        ]

    def compose_unlabelled(
        self, samples: Sequence[Sample], seen: Sequence[ObjectScene], moment: Moment
    ) -> list[Sample]:
        """The unlabelled images of a moment, with findings laid onto them where what is seen there lets them be.

        Their annotations are what was laid, and nothing else.
        """
        assert self.composer is not None
        rng = moment.draws(self.config.seed, 5)
        rate = self.config.compose.rate
        return [self.composer.onto(sample, scene, rate, rng) for sample, scene in zip(samples, seen, strict=True)]

    @property
    def composes_unlabelled(self) -> bool:
        """Whether the config asks for findings on unlabelled images, and there are any to lay."""
        settings = self.config.compose
        return settings.unlabelled and settings.rate > 0 and self.composer is not None

    def _errors(self, teacher: Teacher) -> ErrorModel:
        """How the teacher errs on films it has not seen: labelled ones, augmented, with findings laid onto them."""
        assert self.composer is not None
        errors = ErrorModel(self.names, self.knowledge.ontology, self.composer.sampler.permanent)
        rng = np.random.default_rng([self.config.seed, 3])
        for first in range(0, self.config.refiner.films, WATCH):
            chosen = [self.whole[k % len(self.whole)] for k in range(first, first + WATCH)]
            shown = [self.images[i] for i in chosen]
            films = [self.composer.compose(s, object_scene(s, self.names), WATCH_RATE, rng) for s in shown]
            images, targets = make_batch(films, self.names, self.device, rng)
            for image, target, seen in zip(images, targets, teacher.look(images), strict=True):
                told = (v.double().cpu().numpy() for v in (seen.probabilities, seen.boxes))
                errors.observe(target_scene(target, image), *told)
        return errors

    def prepare(self, teacher: Teacher, progress: Callable[[int, int, float], None] | None = None) -> None:
        """Train the refiner on the teacher's errors, once."""
        if not self.config.refiner.enabled or self.refiner is not None:
            return
        if self.composer is None:
            raise ConfigError("refiner.enabled: no training image has an object of the detector's classes; label some")
        log.info("training the refiner on %d sampled scenes", self.config.refiner.scenes)
        self.refiner = train_refiner(
            self.constraints,
            self._ontology(),
            [self.scenes[n] for n in self.whole],
            self._errors(teacher),
            refiner_settings(self.config.refiner),
            self.config.seed,
            progress,
            self.device,
        )

    def finish(self) -> None:
        """Train the scorer of instance masks, once."""
        if self.config.instances.enabled and self.scorer is None:
            self.scorer = fitted_scorer(self.config, self.constraints.to("cpu"), self._ontology(), self.images)

    def watch(
        self,
        model: SceneModel,
        scenes: Sequence[SceneProposals],
        images: Sequence[Tensor] = (),
        targets: Sequence[Target] = (),
    ) -> list[Watched]:
        """What the energy needs of the pass that made these scenes (see `EnergyTerm.watch`); nothing without an energy."""
        if self.energy is None:
            return []
        watched = self.energy.watch(model, scenes, images, targets)
        # an open film shows more than its boxes, so it is no example of a true scene
        return [w for w, t in zip(watched, targets, strict=True) if not is_open(t)] if targets else watched

    def energy_losses(
        self, moment: Moment, labelled: Sequence[Watched], unlabelled: Sequence[Watched], learns: bool = True
    ) -> dict[str, Tensor]:
        """If it `learns`, update the energy with what was watched at the detector's `moment`; its term, if it may teach yet."""
        return {} if self.energy is None else self.energy.losses(moment, labelled, unlabelled, learns)

    def figures(self) -> dict[str, float]:
        """What a step's line of the log says beside the losses."""
        return {} if self.energy is None else self.energy.figures()

    def losses(
        self,
        step: int,
        labelled: Sequence[SceneProposals],
        unlabelled: Sequence[SceneProposals],
        lessons: Sequence[Lesson],
    ) -> dict[str, Tensor]:
        """The terms of one step.

        Args:
            step: since the terms began.
            labelled: the student's scenes of labelled images.
            unlabelled: its scenes of unlabelled ones, in the order of `lessons`.
            lessons: what the teacher said of them (empty without a teacher).
        """
        found: dict[str, Tensor] = {}
        settings, refiner = self.config.constraints, self.config.refiner
        weight = settings.weight * min(1.0, step / max(1, settings.warmup_steps))
        if weight > 0:
            scenes = [*labelled, *unlabelled]
            if not refiner.relations and refiner.enabled:
                scenes = [_without_geometry(s) for s in scenes]
            found["loss_constraint"] = weight * self._violation(scenes)
        weight = refiner.weight * min(1.0, step / max(1, refiner.warmup_steps))
        if self.refiner is not None and lessons and weight > 0:
            student = [
                (s.probabilities, p.boxes) for s, p in zip(unlabelled, self._pixels(unlabelled, lessons), strict=True)
            ]
            targets = [(lesson.probabilities, lesson.boxes) for lesson in lessons]
            found["loss_consistency"] = weight * consistency_loss(student, targets, refiner.confidence)
        return found

    def _violation(self, scenes: Sequence[SceneProposals]) -> Tensor:
        """How far the scenes break the rules, by the semantics that the config names."""
        settings = self.config.constraints
        confidence = self.confidences.confidences() if self.confidences is not None else None
        if settings.semantics == "exact":
            terms = [
                exact_loss(
                    self.constraints,
                    s.probabilities,
                    s.boxes,
                    size=s.size,
                    masks=s.masks,
                    temperature=settings.temperature,
                    confidence=confidence,
                ).loss
                for s in scenes
            ]
            return torch.stack(terms).mean()
        loss, _ = constraint_loss(
            self.constraints,
            scenes,
            settings.temperature,
            settings.epsilon,
            semantics=settings.semantics,
            confidence=confidence,
        )
        return loss

    def _pixels(self, scenes: Sequence[SceneProposals], lessons: Sequence[Lesson]) -> list[SceneProposals]:
        return [in_pixels(scene, lesson.image) for scene, lesson in zip(scenes, lessons, strict=True)]

    @torch.no_grad()
    def learn_from(self, scenes: Sequence[SceneProposals]) -> None:
        """Take the teacher's sure detections as evidence for or against the rules."""
        if self.confidences is None:
            return
        count = len(self.constraints.rules)
        fired, violated = torch.zeros(count, device=self.device), torch.zeros(count, device=self.device)
        for scene in scenes:
            found = ground(self.constraints, scene.probabilities, scene.boxes, size=scene.size, threshold=SURE)
            fired.index_add_(0, found.rule, found.premise)
            violated.index_add_(0, found.rule, found.premise * (1.0 - found.head))
        self.confidences.observe(self.world.total(fired), self.world.total(violated), "predictions")

    def save_reports(self, folder: Path) -> None:
        """Write what was learned of the rules' confidences."""
        if self.confidences is not None:
            self.confidences.save_report(folder / "confidences.json")

    def state(self) -> dict[str, Tensor]:
        """Tensors to go on from."""
        found: dict[str, Tensor] = {}
        if self.refiner is not None:
            found |= {f"{_REFINER}{k}": v for k, v in self.refiner.network.state_dict().items()}
        if self.confidences is not None:
            found |= {f"{_CONFIDENCES}{k}": v for k, v in self.confidences.state_dict().items()}
        if self.energy is not None:
            found |= {f"{_ENERGY}{k}": v for k, v in self.energy.state().items()}
        if self.scorer is not None:
            found |= {f"{_SCORER}{k}": v for k, v in self.scorer.network.state_dict().items()}
        return found

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up tensors that `state` gave."""
        weights = refiner_weights(state)
        if weights and self.config.refiner.enabled:
            self.refiner = restored_refiner(self.config, self.names, self.knowledge, weights, self.device)
        learned = _part(state, _CONFIDENCES)
        if learned and self.confidences is not None:
            self.confidences.load_state_dict(learned)
        energy = _part(state, _ENERGY)
        if energy and self.energy is not None:
            self.energy.load(energy)
        scorer = scorer_weights(state)
        if scorer and self.config.instances.enabled:
            self.scorer = restored_scorer(self.config, self.names, self.knowledge, scorer)


def restored_refiner(
    config: TrainConfig,
    names: tuple[str, ...],
    knowledge: Knowledge,
    weights: dict[str, Tensor],
    device: torch.device,
) -> SceneRefiner:
    """A run's refiner from its weights."""
    constraints = compile_constraints(knowledge, names, required=False)
    graph = ontology_graph(constraints, knowledge.ontology)
    refiner = SceneRefiner(constraints, graph, refiner_settings(config.refiner), device)
    refiner.network.load_state_dict(weights)
    return refiner


def refiner_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The refiner's part of a run's saved tensors."""
    return _part(state, _REFINER)


def scorer_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a run's saved tensors that scores instance masks."""
    return _part(state, _SCORER)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _without_geometry(scene: SceneProposals) -> SceneProposals:
    """The same probabilities with every box the same: no relation tells anything (the ablation of relations)."""
    width, height = scene.size or (1.0, 1.0)
    boxes = scene.boxes.new_tensor([0.0, 0.0, width, height]).expand(len(scene.boxes), 4)
    return SceneProposals(scene.probabilities, boxes, None, scene.size)
