"""Refining instance masks in a run: a scorer that is trained once, when training ends, and what it makes of predictions.

The search is that of `neurosym.constraints.graph.instances` (after RICE, Xie et al., CoRL 2021), the scorer learns from the
run's labelled films. A prediction of at least `instances.threshold` is an object of the scene; the best of the others are what
may be added to it. What was not added stays among the predictions with its own score, so that a precision-recall curve keeps
its tail; what was deleted, split or merged is gone. Detections without a pixel are left as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from neurosym.constraints import ConstraintSet, compile_constraints
from neurosym.constraints.graph import (
    InstanceRefinement,
    InstanceScorer,
    OntologyGraph,
    RefineSettings,
    ScorerSettings,
    ontology_graph,
    refine_instances,
    train_scorer,
)
from neurosym.data.images import annotated_scene
from neurosym.data.masks import decode_mask
from neurosym.data.weak_labels import says_weakly
from neurosym.errors import ConfigError, Problem, did_you_mean
from neurosym.knowledge import Knowledge
from neurosym.learning.batches import known_annotations
from neurosym.learning.config import InstancesConfig, TrainConfig
from neurosym.models.build import MODELS
from neurosym.records import Detection, Sample, Scene

log = logging.getLogger(__name__)
CANDIDATES = 20
"""Detections below the threshold that may be added at most, the surest first."""
TOLD = 8
"""How often the training of the scorer is logged."""


def require_masks_to_refine(config: TrainConfig, names: Sequence[str], images: Sequence[Sample]) -> None:
    """Refuse, before anything is trained, a run whose masks could not be refined when it ends.

    Raises:
        ConfigError: a model without masks, a class it does not know, or no labelled film to learn from.
    """
    if not config.instances.enabled:
        return
    kind = config.model.kind
    if kind in MODELS and not MODELS[kind].uses_masks:
        able = ", ".join(sorted(k for k in MODELS if MODELS[k].uses_masks))
        cure = f"use model.kind: one of {able}, or leave instances.enabled out"
        raise ConfigError(Problem(f"instances.enabled: masks are refined, and {kind} finds boxes only", cure=cure))
    unknown = [c for c in config.instances.classes if c not in names]
    if unknown:
        raise ConfigError(
            Problem(f"instances.classes: unknown class {c!r}", cure=did_you_mean(c, names)) for c in unknown
        )
    if not any(is_whole(images[k], names) for k in range(min(len(images), config.instances.films))):
        message = "instances.enabled: the scorer learns from films on which every object has a mask, and there is none"
        cure = "give the annotations segmentations, or leave instances.enabled out"
        raise ConfigError(Problem(message, cure=cure))


def is_whole(sample: Sample, names: Sequence[str]) -> bool:
    """Whether the sample shows objects of these classes, and each has a mask."""
    masks = [a.mask for a in known_annotations(sample, names)]
    return bool(masks) and all(m is not None for m in masks) and not says_weakly(sample)


def scorer_settings(config: InstancesConfig) -> ScorerSettings:
    """The scorer's settings from the config's section."""
    return ScorerSettings(groups=config.groups, steps=config.steps, hidden=config.hidden, rounds=config.rounds)


def fitted_scorer(
    config: TrainConfig, constraints: ConstraintSet, ontology: OntologyGraph, images: Sequence[Sample]
) -> InstanceScorer:
    """A scorer trained on the labelled films on which every object of the detector's classes has a mask."""
    names, settings = constraints.names, config.instances
    shown = (images[k] for k in range(min(len(images), settings.films)))
    films = [s for s in shown if is_whole(s, names)]
    log.info("training the scorer of instance masks on %d labelled films", len(films))

    def tell(step: int, steps: int, loss: float) -> None:
        if step % max(1, steps // TOLD) == 0 or step == steps:
            log.info("scorer of instance masks: step %d of %d, loss %.3f", step, steps, loss)

    return train_scorer(
        [annotated_scene(replace(s, annotations=tuple(a for a in s.annotations if a.name in names))) for s in films],
        constraints,
        ontology,
        scorer_settings(settings),
        config.seed,
        [grey(s.image) for s in films] if settings.images else None,
        tell,
    )


def restored_scorer(
    config: TrainConfig, names: tuple[str, ...], knowledge: Knowledge, weights: dict[str, Tensor]
) -> InstanceScorer:
    """A run's scorer from its weights."""
    constraints = compile_constraints(knowledge, names, required=False)
    scorer = InstanceScorer(
        constraints, ontology_graph(constraints, knowledge.ontology), scorer_settings(config.instances)
    )
    scorer.network.load_state_dict(weights)
    return scorer


def refined_masks(scene: Scene, scorer: InstanceScorer, config: TrainConfig, image: np.ndarray) -> Scene:
    """The prediction of one film after refinement; unchanged if no change scores higher.

    Objects that stay keep their place in the list; what is new or was added comes after them, what was not added last.

    Args:
        scene: every detection with a mask of the film's size.
        scorer: see `fitted_scorer`.
        config: the run's.
        image: the film's pixels.
    """
    settings = config.instances
    solid = [d for d in scene.detections if d.mask is not None and decode_mask(d.mask).any()]
    sure = [d for d in solid if d.score >= settings.threshold]
    others = sorted((d for d in solid if d.score < settings.threshold), key=lambda d: -d.score)[:CANDIDATES]
    search = RefineSettings(
        settings.iterations, settings.branching, gain=settings.gain, classes=settings.classes or None
    )
    refined = refine_instances(
        replace(scene, detections=tuple(sure)),
        scorer,
        search,
        others,
        grey(image) if settings.images else None,
        config.seed,
    )
    if not refined.steps:
        return scene
    log.info("%s: %s", scene.image_id, "; ".join(map(str, refined.steps)))
    gone = {id(d) for d in (*sure, *_taken(refined, sure, others))}
    rest = [d for d in scene.detections if id(d) not in gone]
    return replace(scene, detections=(*refined.scene.detections, *rest))


def _taken(refined: InstanceRefinement, sure: Sequence[Detection], candidates: Sequence[Detection]) -> list[Detection]:
    """The candidates that are in the refined scene, as they were or as part of an object that was made of them.

    A step names the class that it adds, not the candidate. Those of a class that were added and are not there as they were have
    been changed since: they are the ones that lie in new objects most, and by more than half.
    """
    there = {id(d) for d in refined.scene.detections}
    known = {id(d) for d in (*sure, *candidates)}
    taken = [c for c in candidates if id(c) in there]
    made = [d for d in refined.scene.detections if id(d) not in known]
    for name in sorted({c.name for c in candidates}):
        added = sum(s.added == (name,) for s in refined.steps if s.kind == "add")
        lost = added - sum(c.name == name for c in taken)
        share = {id(c): _covered(c, made) for c in candidates if c.name == name and id(c) not in there}
        inside = [c for c in candidates if share.get(id(c), 0.0) > 0.5]
        taken += sorted(inside, key=lambda c: -share[id(c)])[: max(0, lost)]
    return taken


def _covered(candidate: Detection, objects: Sequence[Detection]) -> float:
    """The greatest share of the candidate's pixels that one of the objects has."""
    assert candidate.mask is not None
    own = decode_mask(candidate.mask) > 0
    return max((float(decode_mask(o.mask)[own].mean()) for o in objects if o.mask is not None), default=0.0)


def grey(image: np.ndarray) -> np.ndarray:
    """(height, width) brightness of a grey or a colour image."""
    return image if image.ndim == 2 else image.mean(2, dtype=np.float32)
