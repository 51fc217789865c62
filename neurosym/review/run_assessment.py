"""The assessment of a run's candidates: which films to confirm them on, what to note besides, and the file beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosym.errors import InductionError, Problem, ReviewError, short_path
from neurosym.learning.runfolder import OpenRun
from neurosym.review.assessment import FILE, Assessment, load_assessments, save_assessments
from neurosym.review.candidates import load_candidates
from neurosym.review.cohort import Cohort, other_split
from neurosym.review.origin import ANNOTATIONS, PREDICTIONS
from neurosym.review.plausibility import Bounds, assess

_USUAL = Bounds(5, 3, 0.8)
"""What `neurosym induce` asks for if nothing else is said."""


@dataclass(frozen=True, slots=True)
class RunAssessment:
    """Assessments in the order of the candidates, the file they are in, and how they were made.

    `confirmed_on` is a split, "" if there was none; `notes` are sentences on the films and the bounds.
    """

    assessments: tuple[Assessment, ...]
    file: Path
    confirmed_on: str
    notes: tuple[str, ...]


def assess_run(
    run: OpenRun,
    cohort_of: Callable[[str, Mapping[str, Any]], Cohort],
    *,
    checkpoint: str = "",
    confirm: str = "",
    truth: bool = False,
    top: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    advance: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> RunAssessment:
    """Assess the candidates of a run and write ``assessments.json``, or ``true-assessments.json`` for those of annotations.

    Args:
        run: the run.
        cohort_of: the films and facts of a split, of the kind that an origin tells of.
        checkpoint: the newest of the run.
        confirm: the split to confirm on; "": test, else val, else train, whichever the candidates are not of.
        truth: assess ``true-candidates.json`` on annotations.
        top: so many of the first candidates; None: all.
        resamples, seed: of the bootstrap.
        advance: told of progress.

    Raises:
        InductionError: there are no candidates, or they are of other facts. ReviewError: `confirm` is the split they are of.
    """
    path = run.path / f"{'true-' if truth else ''}candidates.json"
    candidates, origin = load_candidates(path)
    _require_own(path, origin, ANNOTATIONS if truth else PREDICTIONS, checkpoint)
    split = str(origin["split"])
    if confirm == split:
        message = f"the candidates were found on {split!r}: they cannot be confirmed on it"
        raise ReviewError(Problem(message, short_path(path), cure="name another split"))
    confirm = confirm or other_split(split, run)
    discovery = cohort_of(split, origin)
    if (names := _images(origin)) is not None:
        discovery = discovery.only(names)
    confirmation = cohort_of(confirm, origin) if confirm else None
    bounds = Bounds.told(origin)
    notes = list(_notes(discovery, confirmation, bounds, truth))
    found = assess(
        candidates[:top], run.knowledge, discovery, confirmation, bounds or _USUAL,
        resamples=resamples, seed=seed, advance=advance,
    )  # fmt: skip
    file = run.path / f"{'true-' if truth else ''}{FILE}"
    made = {"confirmed_on": confirm, "resamples": resamples, "seed": seed, "notes": notes}
    save_assessments(file, found, origin, made)
    return RunAssessment(tuple(found), file, confirm, tuple(notes))


def assessments_of(run: Path, origin: Mapping[str, Any]) -> dict[str, Assessment]:
    """The assessments in a run folder, by the rule's text, if they are of candidates of this origin; else none.

    Raises:
        InductionError: the file is there and is none of assessments.
    """
    path = run / FILE
    if not path.is_file():
        return {}
    found, of = load_assessments(path)
    return found if of == dict(origin) else {}


def _require_own(path: Path, origin: Mapping[str, Any], kind: str, checkpoint: str) -> None:
    cure = "run `neurosym induce RUN` again" if kind == PREDICTIONS else "run `neurosym induce RUN --truth` again"
    if origin.get("facts") != kind or not origin.get("split"):
        message = f"the candidates are not told to be of {kind} of a split of the run"
        raise InductionError(Problem(message, short_path(path), cure=cure))
    made = origin.get("checkpoint", "")
    if kind == PREDICTIONS and made != checkpoint:
        message = f"the rules were induced with {made or 'no checkpoint'}, the run is at {checkpoint or 'none'}"
        raise InductionError(Problem(message, short_path(path), cure=cure))


def _images(origin: Mapping[str, Any]) -> set[str] | None:
    """The images that candidates are of, None if that is not told."""
    if "images" in origin:
        return set(origin["images"])
    if "patients" in origin:
        return {name for names in origin["patients"].values() for name in names}
    return None


def _notes(discovery: Cohort, confirmation: Cohort | None, bounds: Bounds | None, truth: bool) -> list[str]:
    notes = []
    if confirmation is None:
        notes.append("the run has no other split: nothing is confirmed")
    else:
        kept = confirmation.apart_from(discovery)
        what = "annotations" if truth else "predictions"
        said = (
            f"found on {discovery.split} ({len(discovery.films)} images), confirmed on {what} of {confirmation.split}"
        )
        notes.append(f"{said} ({len(kept.films)} images)")
        if left_out := len(confirmation.films) - len(kept.films):
            notes.append(
                f"{left_out} images of {confirmation.split} are left out: they show patients of {discovery.split}"
            )
        if not (discovery.names_patients and confirmation.names_patients):
            notes.append(
                "the data does not say whose all images are: each that is nobody's counts as a patient of its own"
            )
        if confirmation.split == "train" and not truth:
            notes.append("the model was trained on the images of train: it predicts them better than others")
    if bounds is None:
        b = _USUAL
        usual = f"support {b.min_support}, {b.min_scenes} scenes, confidence {b.min_confidence}"
        notes.append(f"the candidates do not say what the learner asked for; taken is {usual}")
    return notes
