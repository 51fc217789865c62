"""`neurosym predict`: detections on a split or a folder, into the run; or on films, into files for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from neurosym.cli.console import (
    AsJson,
    RunFolder,
    SplitName,
    bars,
    console,
    escaped,
    output,
    print_json,
    show_done,
    show_problems,
)
from neurosym.errors import ConfigError, Problem

if TYPE_CHECKING:
    from neurosym.review.film_predictions import FilmPredictions

EXAMPLES = (
    "Examples: `neurosym predict runs/jsrt-anatomy --split val`, `neurosym predict RUN --images new-films/`; "
    "`neurosym predict RUN export/ film.png --out predictions --write coco,seg,sr,overlay`, "
    "`neurosym predict RUN export/ --out predictions --write seg,film --key hospital.key --mapping who-is-who.csv`. "
    "What is written, and what of a patient stays in it: docs/dicom.md"
)
_OF_A_SPLIT = ("split", "images", "repair")
_OF_FILMS = ("out", "write", "keep_identity", "key", "mapping", "bad")


def predict(
    context: typer.Context,
    run: RunFolder,
    films: Annotated[
        list[Path] | None,
        typer.Argument(help="Files and folders of films, DICOM or pictures, to detect on instead of a split."),
    ] = None,
    split: SplitName = "test",
    images: Annotated[Path | None, typer.Option(help="A folder of images to detect on instead of a split.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Also write the nearest scenes that break no hard rule, and what changed.")
    ] = False,
    threshold: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Of films: the least score of what is written (but coco-results.json has all). "
            "With --repair: detections scored below it are left as they are.",
        ),
    ] = 0.5,
    out: Annotated[Path | None, typer.Option(help="Of films: the folder to write; new, or empty.")] = None,
    write: Annotated[
        str,
        typer.Option(
            help="Of films: which of coco (JSON), seg and sr (DICOM), overlay (PNG) and film (DICOM without the patient), "
            "with commas between."
        ),
    ] = "coco,overlay",
    keep_identity: Annotated[
        bool, typer.Option("--keep-identity", help="Of films: keep file names, patients, dates and UIDs.")
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            help="Of films: a secret that names are made with; the same one gives the same names. Default: random."
        ),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="Of films: also write which film has which name and UIDs, to this CSV file.")
    ] = None,
    bad: Annotated[
        Literal["error", "skip"],
        typer.Option(help="Films that cannot be read are left out and told of; error: end with exit code 1 then."),
    ] = "error",
    as_json: AsJson = False,
) -> None:
    """Detect on a split or a folder, and write the scenes as JSON; or on FILMS, and write COCO JSON, DICOM SEG and SR, PNG.

    What is written of FILMS does not say who the patient is, unless --keep-identity. Text in the pixels stays: it is warned of.
    """
    _refuse_what_does_not_go_together(context, films)
    if films:
        if out is None:
            raise ConfigError("--out: name the folder that the predictions of films are to be written to")
        words = tuple(dict.fromkeys(word.strip() for word in write.split(",") if word.strip()))
        _predict_films(run, films, threshold, out, words, keep_identity, key, mapping, bad, as_json)
        return
    from neurosym.data.images import folder_images
    from neurosym.loop import Stages

    with bars() as stage:
        name = f"folder-{images.resolve().name}" if images else split
        stages = Stages.of(run, name, threshold, stage("detect"))
        scenes = stages.predict(folder_images(images) if images else None)
        told = stages.repair(scenes)[1] if repair else None
    path, repaired = stages.file("scenes", ".json"), stages.file("scenes", "-repaired.json")
    if as_json:
        value = {"scenes": str(path), "images": len(scenes), "detections": sum(len(s.detections) for s in scenes)}
        print_json(value | ({"repaired": str(repaired), "repair": told} if told else {}))
        return
    show_done(f"{len(scenes)} scenes", f"in {path}")
    if told:
        show_repair(told)
        show_done("repaired", f"in {repaired}; each change in {stages.file('repairs', '.json')}")


def _refuse_what_does_not_go_together(context: typer.Context, films: list[Path] | None) -> None:
    foreign, reason = (_OF_A_SPLIT, "goes without FILMS") if films else (_OF_FILMS, "goes with FILMS; name some")
    given = [name for name in foreign if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if given:
        raise ConfigError([Problem(f"--{name.replace('_', '-')}: {reason}") for name in given])


def _predict_films(
    run: Path,
    films: list[Path],
    threshold: float,
    out: Path,
    kinds: tuple[str, ...],
    keep_identity: bool,
    key: Path | None,
    mapping: Path | None,
    bad: str,
    as_json: bool,
) -> None:
    from neurosym.data.film_files import film_files
    from neurosym.data.importing.split import load_key
    from neurosym.learning.runfolder import open_run
    from neurosym.review.film_predictions import Wanted, predict_films
    from neurosym.review.findings import Findings
    from neurosym.review.origin import run_name
    from neurosym.review.pseudonyms import Pseudonyms
    from neurosym.review.sentences import load_templates

    names = Pseudonyms(keep_identity=keep_identity) if key is None else Pseudonyms(load_key(key), keep_identity)
    wanted = Wanted(kinds, names, mapping)
    opened, (files, passed_over) = open_run(run), film_files(films)
    opened.require_one_class("predict FILMS")
    from neurosym.learning.predict import Predictor  # after the films: a typing mistake need not wait for torch

    detect = Predictor(opened)
    findings = Findings(opened.knowledge, opened.names, threshold, load_templates().ratios)
    source = f"{run_name(opened.path)}, {detect.checkpoint}"
    with bars() as stage:
        done = predict_films(out, files, detect, findings, opened.categories, wanted, source, stage("films"))
    done.passed_over += passed_over
    if as_json:
        print_json(done.as_dict())
    else:
        _show_films(done, threshold)
    show_problems([Problem(f"skipped: {why}", file) for file, why in done.skipped.items()])
    if done.skipped and (bad == "error" or not done.films):
        raise typer.Exit(1)


def _show_films(done: FilmPredictions, threshold: float) -> None:
    """What was written, and the warnings of text in pixels."""
    written = ", ".join(f"{count} {kind}" for kind, count in done.files.items()) or "nothing"
    found = f"{done.detections} detections of score ≥ {threshold:g}"
    show_done(f"{done.films} films,", f"{found}; {written} in {done.out}")
    if done.passed_over:
        console.print(f"{done.passed_over} other files passed over", highlight=False)
    show_problems([Problem(f"text may be burned in: {why}", f, severity="warning") for f, why in done.text.items()])
    if done.untold:
        message = (
            f"{done.untold} films do not say whether text is burned in (0028,0301); that none was seen proves nothing"
        )
        show_problems([Problem(message, cure="look at them before they leave the house", severity="note")])


def show_repair(told: dict[str, Any], hard_violations: int | None = None) -> None:
    """What a repair of many scenes did."""
    what = f"{told['removed']} detections removed and {told['relabelled']} relabelled"
    left = "" if hard_violations is None else f"; hard violations left: {hard_violations}"
    output.print(f"repair: {what} on {told['images_changed']} of {told['images']} images{left}", soft_wrap=True)
    table = Table("rule", "changes it forced", "places no repair can satisfy")
    for rule in dict.fromkeys((*told["forced_by"], *told["unsatisfied"])):
        counts = (told[key].get(rule, 0) for key in ("forced_by", "unsatisfied"))
        table.add_row(escaped(rule), *map(str, counts))
    if table.rows:
        output.print(table)
