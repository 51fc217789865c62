"""The report of a run: its candidates, if they are of its newest checkpoint, with what is found on some of their films."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosym.errors import InductionError, Problem, short_path
from neurosym.learning.runfolder import OpenRun
from neurosym.records import Candidate, Scene
from neurosym.review.candidates import load_candidates
from neurosym.review.findings import Findings
from neurosym.review.origin import made_how
from neurosym.review.report import write_report
from neurosym.review.run_summary import summary_of
from neurosym.review.sentences import load_templates, sentences_of


def reported_candidates(run: OpenRun, checkpoint: str) -> tuple[list[Candidate], dict[str, Any]]:
    """The candidates to report, and their origin, which tells the split and the threshold.

    Raises:
        InductionError: there are none, or they are not of predictions of this checkpoint.
    """
    path = run.path / "candidates.json"
    candidates, origin = load_candidates(path)
    if origin.get("checkpoint") != checkpoint or not {"split", "threshold"} <= set(origin):
        made = origin.get("checkpoint") or "facts of another origin"
        message = f"the rules were induced with {made}, the run is at {checkpoint}"
        raise InductionError(Problem(message, short_path(path), cure="run `neurosym induce RUN` again"))
    return candidates, origin


def write_run_report(
    path: Path,
    run: OpenRun,
    candidates: Sequence[Candidate],
    origin: Mapping[str, Any],
    scenes: Sequence[Scene],
    evaluation: Mapping[str, Any] | None,
    source: str,
    keep_identifiers: bool = False,
    films: int = 4,
) -> None:
    """Write the report (`write_report`).

    Args:
        path: the HTML file.
        run: the run.
        candidates, origin: from `reported_candidates`.
        scenes, evaluation: of the split that the candidates are of.
        source: which predictions they are of, in words.
        keep_identifiers: do not number films.
        films: on so many of the first it is told what is found; on none where boxes have several labels.
    """
    templates, threshold = load_templates(), float(origin["threshold"])
    made = Findings.of_run(run, origin["split"], threshold, templates.ratios)
    films = 0 if run.config.model.multi_label else films
    found = ((scene, sentences_of(made.of(scene), templates)) for scene in scenes[:films])
    told = [(scene, [s for s in several if s.kind != "supported"]) for scene, several in found]
    write_report(
        path, f"Rules induced from {run.config.name}", candidates, scenes, run.knowledge, evaluation,
        ", ".join([source, *made_how(origin)]), threshold,
        keep_identifiers=keep_identifiers, summary=summary_of(run), told=told,
    )  # fmt: skip
