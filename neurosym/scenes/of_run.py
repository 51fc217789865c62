"""What a run says of the facts of its scenes: what its data knows of the images, how probable its detector's scores are,
and which of their relations rules are learned for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from neurosym.data.unread import unread
from neurosym.errors import NeurosymError
from neurosym.knowledge.geometry import SIDES, SIZES, ZONES
from neurosym.knowledge.ontology import Ontology
from neurosym.learning.runfolder import OpenRun
from neurosym.records import FactStore, Scene
from neurosym.scenes.score_calibration import ScoreCalibration, fit_calibration, load_calibration

log = logging.getLogger(__name__)
CALIBRATION: Final = "calibration-scores.json"
"""The file of a run's calibration, in its folder."""


def image_attributes(run: OpenRun, split: str) -> dict[str, Mapping[str, Any]]:
    """The attributes of each image of a split; none if the run's ontology has no word for any."""
    if not run.knowledge.ontology.scene_words.stated:
        return {}
    try:
        images = run.images(split)
    except NeurosymError as error:  # the predictions are at hand, the data is not
        log.warning("what the data says of the images is no fact: %s", error)
        return {}
    return {sample.image_id: sample.attributes for sample in unread(images)}


def usual_heads(ontology: Ontology, scenes: Iterable[Scene], facts: FactStore) -> tuple[str, ...]:
    """The relations of facts that rules are learned for where none is named: geometry, places, sizes and study labels.

    What class a detection has is for the detector to say, how many there are is counted, and who the patient is is known.
    """
    labels = {label for scene in scenes for label in scene.labels}
    places = {*ZONES, *SIDES, *SIZES, *(word.name for word in ontology.scene_words.placed)}
    heads = {*ontology.relations, *places, *labels}
    return tuple(relation for relation in facts.relations if relation in heads)


def run_calibration(
    run: OpenRun, checkpoint: str, scenes: Callable[[], tuple[Sequence[Scene], Sequence[Scene]]], method: str = "platt"
) -> ScoreCalibration:
    """The calibration of a run's checkpoint; fitted and written if the file is of another one, or is not there.

    Args:
        run: whose folder has the file.
        checkpoint: its newest.
        scenes: gives what is predicted and what is annotated on the validation split.
        method: of `neurosym.scenes.score_calibration.METHODS`.
    """
    known = kept_calibration(run, checkpoint, method)
    if known is not None:
        return known
    predicted, true = scenes()
    found = fit_calibration(predicted, true, method, _fitted_to(checkpoint))
    found.save(run.path / CALIBRATION)
    return found


def kept_calibration(run: OpenRun, checkpoint: str, method: str = "platt") -> ScoreCalibration | None:
    """The calibration in a run's folder, None if there is none or it is of another checkpoint or method.

    Raises:
        DataError: the file is no calibration.
    """
    path = run.path / CALIBRATION
    known = load_calibration(path) if path.is_file() else None
    is_own = known is not None and (known.origin, known.method) == (_fitted_to(checkpoint), method)
    return known if is_own else None


def _fitted_to(checkpoint: str) -> dict[str, str]:
    return {"checkpoint": checkpoint, "split": "val"}
