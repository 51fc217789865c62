"""Weak supervision in a run: what its films say besides boxes, its losses, the teacher's targets; and what is wrong with them.

Films that say nothing weakly need none of it, and a run without such films is what it was before.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from neurosym.data.config import open_split
from neurosym.data.pool import shared_films
from neurosym.data.weak_labels import contradictory_films, has_weak_films
from neurosym.errors import ConfigError, DataError, Problem
from neurosym.knowledge import Knowledge
from neurosym.learning.class_shapes import ClassShapes
from neurosym.learning.config import TrainConfig
from neurosym.learning.guidance import Guidance
from neurosym.learning.hints import Hinter
from neurosym.learning.weak import WeakTerms
from neurosym.learning.weak_targets import WeakTargets
from neurosym.models.build import MODELS
from neurosym.records import Sample

log = logging.getLogger(__name__)
_SHOWN: Final = 20
"""Problems that are told one by one."""
_HELD_OUT: Final[tuple[Literal["val", "test"], ...]] = ("val", "test")


@dataclass(frozen=True)
class WeakSupervision:
    """What a run with weakly annotated films needs of them; `targets` is None where the teacher's are left as they are."""

    hinter: Hinter
    terms: WeakTerms
    targets: WeakTargets | None

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        names: Sequence[str],
        knowledge: Knowledge,
        films: Sequence[Sequence[Sample]],
        guidance: Guidance,
    ) -> WeakSupervision | None:
        """None for a run all of whose films, labelled or not, say nothing weakly."""
        if not any(map(has_weak_films, films)):
            return None
        if config.model.multi_label:
            raise ConfigError(
                "model.multi_label: some films are annotated weakly, which boxes of several labels are not taught by"
            )
        learns_boxes = config.model.kind not in MODELS or MODELS[config.model.kind].learns_boxes
        hinter = Hinter(names, knowledge.ontology, learns_boxes)
        shapes = ClassShapes.of(films[0], names) if config.weak.shape else None
        targets = (
            WeakTargets(hinter, config.weak.floor, config.weak.temperature, shapes) if config.weak.refine else None
        )
        return cls(hinter, WeakTerms(config.weak, hinter, knowledge, guidance.constraints, shapes), targets)


def check_supervision(
    config: TrainConfig,
    names: Sequence[str],
    knowledge: Knowledge,
    images: Sequence[Sample],
    unlabelled: Sequence[Sample],
) -> None:
    """Tell labels that contradict annotations, and unlabelled films that are validation or test films.

    Raises:
        DataError: there are some, and `weak.problems` is "stop".
    """
    problems = [p for films in (images, unlabelled) for p in contradictory_films(films, names, knowledge.ontology)]
    for split in _HELD_OUT:
        if len(unlabelled) and getattr(config.data, split) is not None:
            problems += _leaks(config, knowledge, unlabelled, split)
    problems = list(dict.fromkeys(problems))
    if not problems:
        return
    if config.weak.problems == "stop":
        more = len(problems) - _SHOWN
        raise DataError([*problems[:_SHOWN], *([Problem(f"… and {more} more")] if more > 0 else [])])
    for problem in problems:
        log.warning("%s", problem)


def _leaks(
    config: TrainConfig, knowledge: Knowledge, unlabelled: Sequence[Sample], split: Literal["val", "test"]
) -> list[Problem]:
    """Unlabelled films that are held out; a held-out split that is not there (yet) is said to be unchecked."""
    try:
        held_out = open_split(config.data, split, config.base, knowledge)
    except DataError as error:
        log.warning("the %s split cannot be read, so it is not checked for unlabelled films: %s", split, error)
        return []
    return shared_films(unlabelled, held_out, split)
