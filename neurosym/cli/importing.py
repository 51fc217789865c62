"""`data import` and `data check`: from what a hospital has to COCO files, and whether they can be trained on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from neurosym.cli.console import AsJson, bars, console, escaped, output, print_json, show_done, show_problems
from neurosym.errors import ConfigError, Problem, did_you_mean

if TYPE_CHECKING:
    from neurosym.data.checking.faults import Fault
    from neurosym.data.importing.source import Source
    from neurosym.data.importing.write import Imported

FORMATS = ("siim", "coco", "voc", "yolo", "nifti", "dicom-seg")
_SHOWN = 20
_IMPORT_EXAMPLES = (
    "Examples: `neurosym data import siim siim-covid19-detection ../shared/data/siim --val .1 --test .1 --longest 1024`, "
    "`neurosym data import nifti scans/ out/ --labels '1=left_lung,2=right_lung' --window=-600,1500`, "
    "`neurosym data import dicom-seg pacs-export/ out/ --val .1 --test .2 --key secret.txt --bad error`, "
    "`neurosym data import yolo roboflow/ out/`"
)

_CHECK_EXAMPLES = (
    "Examples: `neurosym data check ../shared/data/siim/*.json --sheet sheet.png`, "
    "`neurosym data check experiments/siim-covid/faster.yaml --json`, "
    "`neurosym data check train.json test.json --images films/`"
)


def register(data_app: typer.Typer) -> None:
    """Add these commands to `neurosym data`."""
    data_app.command("import", epilog=_IMPORT_EXAMPLES)(import_)
    data_app.command("check", epilog=_CHECK_EXAMPLES)(check)


def import_(
    kind: Annotated[str, typer.Argument(metavar="FORMAT", help=", ".join(FORMATS) + ".")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to import; nothing in it is changed.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write images/ and COCO files to.")],
    val: Annotated[float, typer.Option(min=0, max=1, help="Share of the patients whose films validate.")] = 0.0,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of the patients whose films are for the end.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Another seed draws another split.")] = 0,
    patient: Annotated[
        str, typer.Option(help="Regular expression: the part of a film's name that says whose it is.")
    ] = "",
    key: Annotated[
        Path | None, typer.Option(help="A file whose bytes make the patients' pseudonyms; keep it, and keep it secret.")
    ] = None,
    longest: Annotated[int, typer.Option(min=0, help="Make films smaller until no side is longer; 0 leaves them.")] = 0,
    bad: Annotated[
        Literal["error", "skip"],
        typer.Option(help="Films that cannot be read and impossible boxes: leave them out and list them, or stop."),
    ] = "skip",
    unboxed: Annotated[
        Literal["weak", "leave-out", "negative"],
        typer.Option(
            help="Of siim: films without boxes in positive studies are not annotated, left out, or negatives."
        ),
    ] = "weak",
    labels: Annotated[str, typer.Option(help="Of nifti: what values mean, VALUE=NAME,…")] = "",
    plane: Annotated[
        Literal["axial", "coronal", "sagittal"], typer.Option(help="Of nifti: how volumes are cut.")
    ] = "axial",
    slices: Annotated[
        Literal["labelled", "all"], typer.Option(help="Of nifti: which slices become films.")
    ] = "labelled",
    window: Annotated[str, typer.Option(help="Of nifti: CENTRE,WIDTH of the grey values.")] = "",
    as_json: AsJson = False,
) -> None:
    """Read films and annotations of another form; write PNG films and COCO files. Goes on where it was stopped."""
    from neurosym.data.importing.split import load_key
    from neurosym.data.importing.write import Settings, import_films

    if val + test >= 1:
        raise ConfigError(f"--val {val:g} --test {test:g}: nothing is left to train on; together they are below 1")
    try:
        re.compile(patient)
    except re.error as error:
        raise ConfigError(f"--patient {patient!r}: no regular expression ({error})") from error
    secret = load_key(key) if key else b""
    source = _source(kind, folder, unboxed, labels, plane, slices, window, secret)
    own = sorted({f.split for f in source.films} - {""})
    if own and (val or test):
        raise ConfigError(f"the source has splits of its own ({', '.join(own)}); leave out --val and --test")
    settings = Settings(val, test, seed, bad, longest, secret, patient)
    with bars() as stage:
        result = import_films(source, out, settings, kind, stage(f"import {kind}"))
    if as_json:
        print_json(_as_json(result, source, out))
        return
    _show(result, source, out, split=bool(val or test))


def _source(
    kind: str, folder: Path, unboxed: Any, labels: str, plane: Any, slices: Any, window: str, secret: bytes
) -> Source:
    """The reader of a format, which is imported when it is asked for: some need packages of an extra."""
    if kind not in FORMATS:
        raise ConfigError(f"unknown format {kind!r}; {did_you_mean(kind, FORMATS)}")
    if kind == "siim":
        from neurosym.data.importing.siim import siim_source

        return siim_source(folder, unboxed)
    if kind == "coco":
        from neurosym.data.importing.coco import coco_source

        return coco_source(folder)
    if kind == "voc":
        from neurosym.data.importing.voc import voc_source

        return voc_source(folder)
    if kind == "yolo":
        from neurosym.data.importing.yolo import yolo_source

        return yolo_source(folder)
    if kind == "dicom-seg":
        from neurosym.data.importing.dicom_seg import dicom_seg_source

        return dicom_seg_source(folder, secret)
    from neurosym.data.importing.nifti import nifti_source

    return nifti_source(folder, _labels(labels), plane, slices, _window(window))


def _labels(text: str) -> dict[int, str]:
    found = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        value, sign, name = part.partition("=")
        if not sign or not name.strip() or not value.strip().isdigit():
            raise ConfigError(f"--labels {part!r}: expected VALUE=NAME, e.g. 1=left_lung")
        found[int(value)] = name.strip()
    return found


def _window(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        centre, width = map(float, text.split(","))
    except ValueError as error:
        raise ConfigError(f"--window {text!r}: expected CENTRE,WIDTH, e.g. --window=-600,1500") from error
    if not width > 0:
        raise ConfigError(f"--window {text!r}: the width is more than 0")
    return centre, width


def _as_json(result: Imported, source: Source, out: Path) -> dict[str, Any]:
    counts = {
        k: getattr(result, k)
        for k in ("written", "kept", "removed", "strangers", "clipped", "nobody", "mixed", "unscored")
    }
    problems = {k: list(map(str, getattr(result, k))) for k in ("skipped", "dropped")}
    return {"out": str(out), "splits": result.splits} | counts | problems | {"notes": list(source.notes)}


def _show(result: Imported, source: Source, out: Path, split: bool) -> None:
    table = Table("file", "films", "objects", "patients")
    for name, counts in result.splits.items():
        table.add_row(f"{name}.json", *(str(counts[k]) for k in ("films", "objects", "patients")))
    output.print(table)
    for what, problems in (("films left out", result.skipped), ("boxes left out", result.dropped)):
        if problems:
            console.print(f"[yellow]{len(problems)} {what}[/]:", highlight=False)
        for problem in problems[:_SHOWN]:
            console.print(f"  {escaped(str(problem))}", soft_wrap=True, highlight=False)
        if len(problems) > _SHOWN:
            console.print(f"  … and {len(problems) - _SHOWN} more; --json has all of them", highlight=False)
    notes = [*source.notes]
    if result.clipped:
        notes.append(f"{result.clipped} boxes left their film and were clipped")
    if result.removed:
        notes.append(f"{result.removed} films of {out / 'images'} are in no split now: removed")
    if result.strangers:
        notes.append(f"{result.strangers} PNG files in {out / 'images'} are of no import: left, look whose they are")
    if result.unscored:
        notes.append(f"{result.unscored} films that are not annotated were drawn for val or test: left out")
    if result.mixed:
        notes.append(f"{result.mixed} studies have films of several patients: each is taken for one patient's")
    if split and result.nobody:
        notes.append(f"{result.nobody} films do not say whose they are: each was split on its own; see --patient")
    for note in notes:
        console.print(f"[cyan]note[/] {escaped(note)}", soft_wrap=True, highlight=False)
    done = f"{result.written} films written, {result.kept} were there"
    show_done("imported", f"{out} ({done}); next: neurosym data check {shlex.quote(str(out))}/*.json")


def check(
    paths: Annotated[
        list[Path], typer.Argument(metavar="CONFIG_OR_COCO…", help="A run's config, or COCO files, each a split.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="The films' folder; by default images/ beside a COCO file, or its own folder.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG file: a row of pictures a class, faulty and unusual boxes first.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for leakage, duplicates, impossible boxes and unbalanced classes; exit code 1 if there is a fault."""
    from neurosym.data.checking.films import read_splits
    from neurosym.data.checking.report import check as check_splits
    from neurosym.data.checking.sheet import write_sheet

    splits = read_splits(paths, images)
    with bars() as stage:
        report = check_splits(splits, stage("check films"))
    if sheet is not None:
        write_sheet(sheet, splits, report)
        show_done("written", str(sheet))
    if as_json:
        print_json(report.as_json())
    else:
        _show_balance(report.balance)
        _show_faults(report.faults)
    if report.errors:
        raise typer.Exit(1)


def _show_balance(balance: dict[str, dict[str, Any]]) -> None:
    """Objects per class and split, each with its share of the split's objects."""
    table = Table("class", *balance, title="objects (share of the split)")
    for name in dict.fromkeys(c for counts in balance.values() for c in counts["classes"]):
        row = []
        for counts in balance.values():
            found = counts["classes"].get(name, {}).get("objects", 0)
            row.append(f"{found} ({found / counts['objects']:.1%})" if found else "–")
        table.add_row(escaped(name), *row)
    for what, key in (("films", "films"), ("films without a box", "without_box"), ("patients", "patients")):
        table.add_row(f"[dim]{what}[/]", *(str(c[key]) for c in balance.values()))
    output.print(table)


def _show_faults(faults: Sequence[Fault]) -> None:
    """The first ones of each kind, one a line."""
    kinds = dict.fromkeys((f.severity, f.kind) for f in faults)
    for severity, kind in kinds:
        own = [f for f in faults if (f.severity, f.kind) == (severity, kind)]
        show_problems([Problem(f"{kind}: {f}", severity=severity) for f in own[:_SHOWN]])
        if len(own) > _SHOWN:
            console.print(f"  … and {len(own) - _SHOWN} more; --json has all of them", highlight=False)
    if not faults:
        console.print("[green]no fault found[/]")
