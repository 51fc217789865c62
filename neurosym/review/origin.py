"""Where the facts come from that candidates were learned from; without it nobody can say what the candidates are worth.

facts          "annotations" or "predictions"; anything else is not told
run            the run's folder, by its last two names
split          of the run's data
threshold, checkpoint    of predictions: the least score of a detection, and the model's name
masks, calibrated    whether objects are related by their masks, and weights are probabilities; false if not told
trained_with   of predictions: the rules that the model was trained with, each {"id": …, "rule": …}
untold         of predictions: why these may not be all, "" if they are
patients       the images that the facts are of, by patient; `images` where the data does not say whose they are
bounds         what the learner asked of a rule: least support, scenes and confidence, and the measure of the latter
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from neurosym.errors import NeurosymError
from neurosym.knowledge.rules import format_rule
from neurosym.learning.runfolder import OpenRun
from neurosym.learning.taught import taught_rules
from neurosym.records import Rule
from neurosym.review.cohort import films_of

PREDICTIONS: Final = "predictions"
ANNOTATIONS: Final = "annotations"


def origin_of_annotations(run: OpenRun, split: str, image_ids: Iterable[str]) -> dict[str, Any]:
    """Of facts that annotations say."""
    return {"facts": ANNOTATIONS, "run": run_name(run.path), "split": split} | _images(run, split, image_ids)


def origin_of_predictions(
    run: OpenRun, split: str, threshold: float, checkpoint: str, image_ids: Iterable[str]
) -> dict[str, Any]:
    """Of facts that a run's model predicted, with the rules it was trained with."""
    taught = taught_rules(run)
    return {
        "facts": PREDICTIONS,
        "run": run_name(run.path),
        "split": split,
        "threshold": threshold,
        "checkpoint": checkpoint,
        "trained_with": [{"id": r.meta.get("id", ""), "rule": format_rule(_bare(r))} for r in taught.rules],
        "untold": taught.untold,
    } | _images(run, split, image_ids)


def run_name(path: Path) -> str:
    """A run folder's last two names: the same on every machine.

    >>> run_name(Path("/home/anna/work/runs/jsrt"))
    'runs/jsrt'
    """
    return "/".join(Path(path).resolve().parts[-2:]).lstrip("/")


def made_how(origin: Mapping[str, Any]) -> list[str]:
    """How facts were made, in words; nothing of those that are related by boxes and weigh scores."""
    return [word for key, word in (("masks", "related by masks"), ("calibrated", "calibrated")) if origin.get(key)]


def in_words(origin: Mapping[str, Any]) -> str:
    """An origin as the source of a rule."""
    facts, run, split = (origin.get(k, "") for k in ("facts", "run", "split"))
    what = facts or "facts of unknown origin"
    if facts == PREDICTIONS and "threshold" in origin:
        what = f"predictions of score ≥ {origin['threshold']:g}"
    what = ", ".join([what, *made_how(origin)])
    where = f"{run} {split}".strip()
    return f"{where}: {what}" if where else what


def _bare(rule: Rule) -> Rule:
    return Rule(rule.head, rule.body, rule.weight, {}, "", 0, rule.conditions, rule.distinct)


def _images(run: OpenRun, split: str, image_ids: Iterable[str]) -> dict[str, Any]:
    wanted = sorted(set(image_ids))
    patients = _patients(run, split)
    if not all(name in patients for name in wanted):
        return {"images": wanted}
    by_patient: dict[str, list[str]] = {}
    for name in wanted:
        by_patient.setdefault(patients[name], []).append(name)
    return {"patients": dict(sorted(by_patient.items()))}


def _patients(run: OpenRun, split: str) -> dict[str, str]:
    """The patient of each image whose data names one, in an attribute `patient` or `patient_id`."""
    try:
        films = films_of(run, split)
    except NeurosymError:
        return {}  # the predictions are at hand, the data is not
    return {film.image_id: film.patient for film in films if film.patient}
