"""`neurosym findings`: what a run found on each film, in sentences that keep their evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurosym.cli.console import AsJson, RunFolder, SplitName, Threshold, bars, print_json, show_done


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    epilog = (
        "Examples: `neurosym findings runs/jsrt-anatomy`, then read runs/jsrt-anatomy/findings/test/findings.txt; "
        "`neurosym findings RUN --image JPCLN001 --format json,text,sr --dicom films/`; "
        "`neurosym findings RUN --templates my-words.yaml`. JSON, templates and structured reports: docs/reports.md"
    )
    app.command(epilog=epilog)(findings)


def findings(
    run: RunFolder,
    split: SplitName = "test",
    image: Annotated[
        list[str] | None, typer.Option(help="The id of a film; several may be given. Default: all.")
    ] = None,
    threshold: Threshold = 0.5,
    format_: Annotated[
        str,
        typer.Option("--format", help="Which of json, text and sr (DICOM structured reports), with commas between."),
    ] = "json,text",
    out: Annotated[Path | None, typer.Option(help="Folder; RUN/findings/SPLIT by default.")] = None,
    templates: Annotated[
        Path | None, typer.Option(help="A YAML file of sentences, instead of the English ones that are built in.")
    ] = None,
    dicom: Annotated[
        Path | None, typer.Option(help="A folder with ID.dcm of each film, for structured reports to refer to.")
    ] = None,
    keep_identifiers: Annotated[
        bool, typer.Option("--keep-identifiers", help="Call films by their ids, and keep the patient's name and dates.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Report what is found on each film, and what was looked for and is not there: JSON, text, DICOM SR (TID 1500).

    Films are numbered in the order of the split, so that no report says who the patient is.
    """
    from neurosym.loop import Stages
    from neurosym.review.film_reports import Wanted
    from neurosym.review.sentences import DEFAULT, load_templates

    formats = tuple(dict.fromkeys(word.strip() for word in format_.split(",") if word.strip()))
    wanted = Wanted(formats, tuple(image or ()), dicom, keep_identifiers)
    words = load_templates(templates or DEFAULT)
    with bars() as stage:
        stages = Stages.of(run, split, threshold, stage("findings"))
        files = stages.findings(words, wanted, out)
    if as_json:
        print_json({"files": list(map(str, files))})
        return
    more = f" and {len(files) - 2} more" if len(files) > 2 else ""
    show_done("written", f"{', '.join(map(str, files[:2]))}{more}")
