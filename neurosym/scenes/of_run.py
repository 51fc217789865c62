"""What a run adds to the facts of its scenes: what its data says of the images, and how probable its detector's scores are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from neurosym.data.unread import unread
from neurosym.errors import NeurosymError
from neurosym.learning.runfolder import OpenRun
from neurosym.records import Scene
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
    path, origin = run.path / CALIBRATION, {"checkpoint": checkpoint, "split": "val"}
    if path.is_file():
        known = load_calibration(path)
        if (known.origin, known.method) == (origin, method):
            return known
    predicted, true = scenes()
    found = fit_calibration(predicted, true, method, origin)
    found.save(path)
    return found
