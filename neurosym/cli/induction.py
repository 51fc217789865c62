"""The verbs between predictions and review: facts, induce."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from neurosym.cli.console import (
    AsJson,
    RunFolder,
    SplitName,
    Threshold,
    bars,
    console,
    escaped,
    output,
    print_json,
    show_done,
)
from neurosym.cli.graphs import induce_graph
from neurosym.errors import ConfigError

if TYPE_CHECKING:
    from neurosym.induction import InductionConfig


Masks = Annotated[bool, typer.Option("--masks", help="Relate objects by their masks where both have one.")]
Calibrated = Annotated[
    bool, typer.Option("--calibrated", help="Weigh by probabilities, fitted to the val split, instead of scores.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    epilogs: dict[Callable[..., None], str] = {
        facts: "Examples: `neurosym facts runs/jsrt-anatomy --threshold 0.7`, "
        "`neurosym facts RUN --calibrated --rdf facts.ttl`, `neurosym facts RUN --truth --masks`",
        induce: "Examples: `neurosym induce runs/jsrt-anatomy --target left_of`, `neurosym induce RUN --truth`, "
        "`neurosym induce RUN --calibrated --masks`, "
        "`neurosym induce --facts kg.txt --budget 60`, "
        "`neurosym induce --facts kg.txt --store kg`, `neurosym induce --facts kg --only parent --only child`, "
        "`neurosym induce --facts train.txt --valid valid.txt --out few.rules`",
    }
    for command, epilog in epilogs.items():
        app.command(epilog=epilog)(command)


def facts(
    run: RunFolder,
    split: SplitName = "test",
    threshold: Threshold = 0.5,
    truth: Annotated[bool, typer.Option("--truth", help="Facts of the annotations, not of the predictions.")] = False,
    masks: Masks = False,
    calibrated: Calibrated = False,
    rdf: Annotated[
        Path | None, typer.Option(help="Also write them as RDF with their provenance, to FILE.ttl or FILE.nt.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a split's scenes into weighted facts in the words of the ontology."""
    from neurosym.loop import Stages
    from neurosym.review.origin import made_how
    from neurosym.scenes.rdf import format_of

    if truth and calibrated:
        raise ConfigError("--calibrated: annotations have no scores to calibrate; leave it out, or --truth")
    if rdf is not None:
        format_of(rdf)  # a wrong name need not wait for the detector
    with bars() as stage:
        stages = Stages.of(run, split, threshold, stage("detect"))
        store = stages.true_facts(masks=masks) if truth else stages.facts(masks, calibrated)
        fitted = stages.calibration() if calibrated else None
        if rdf is not None:
            stages.save_rdf(rdf, store, truth, made_how({"masks": masks, "calibrated": calibrated}))
    path = stages.facts_file(masks, calibrated, truth)
    if as_json:
        value = {"facts": str(path), "count": len(store.facts), "relations": list(store.relations)}
        value |= {"rdf": str(rdf)} if rdf else {}
        errors = {"before": fitted.error_before, "after": fitted.error_after} if fitted else None
        print_json(value | ({"calibration_error": errors} if errors else {}))
        return
    show_done(f"{len(store.facts)} facts", f"in {path}{f' and {rdf}' if rdf else ''}")
    if fitted:
        after = "unknown" if fitted.error_after is None else f"{fitted.error_after:.3f}"
        told = f"expected calibration error on val: {fitted.error_before:.3f}, after by cross-validation {after}"
        console.print(told, soft_wrap=True, highlight=False)
        warn_of_fit(split)


def warn_of_fit(split: str) -> None:
    """Say so if the films whose facts are calibrated are those that the probabilities were fitted to."""
    if split == "val":
        console.print("[yellow]the probabilities were fitted to these very films[/]")


def induce(
    run: Annotated[Path | None, typer.Argument(help="A run folder; none with --facts.")] = None,
    split: SplitName = "test",
    facts_file: Annotated[
        Path | None,
        typer.Option(
            "--facts", help="Facts of scenes; or a graph: triples (.txt .tsv .nt .ttl .parquet), a store's folder."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With --facts: the JSON file to write, rules go beside it; of a graph the rule file."),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="A head relation; repeat it for more. All by default.")
    ] = None,
    threshold: Threshold = 0.5,
    max_atoms: Annotated[int, typer.Option(min=1, help="Most atoms of a body.")] = 4,
    min_support: Annotated[
        int | None, typer.Option(min=1, help="Fewest groundings that a rule must explain; 5, of a graph 2.")
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Lowest confidence: 0.8; of a graph support / (body size + 5): 0.01."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0.0, help="Seconds, of a graph 60 for all but reading and --top; the best so far are kept."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Most rules to return; 40. Of a graph all, or as many of those that save most."),
    ] = None,
    fill_up: Annotated[
        bool,
        typer.Option(
            "--fill-up", help="Of scenes: list special cases and superfluous rules, too, after the novel ones."
        ),
    ] = False,
    ontology: Annotated[
        Path | None, typer.Option(help="Of a graph: what is above the classes that it says things are, `x a CLASS`.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Of a graph: a line that is no fact is an error, else left out.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Of a graph: threads, or local processes.")] = 2,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Of a graph: a Dask scheduler (tcp://HOST:8786), or `local`, instead of threads."),
    ] = None,
    search: Annotated[
        Path | None, typer.Option(help="Of a graph: a folder where the search is written down, to be gone on with.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --search.")] = False,
    valid: Annotated[
        Path | None,
        typer.Option(
            help="Of a graph: facts held back; the fewest rules are kept that complete them as well as all do."
        ),
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="With --valid: MRR that may be lost for fewer rules: 0.002.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="Of a graph: write its facts as this folder, which workers map and --facts takes without reading."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Of a store's folder: read the facts of this relation; repeat it for more. All by default."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    truth: Annotated[bool, typer.Option("--truth", help="The facts are of annotations, not of predictions.")] = False,
    masks: Masks = False,
    calibrated: Calibrated = False,
    as_json: AsJson = False,
) -> None:
    """Learn rules from facts by a genetic search over Horn rules."""
    if facts_file is not None and (masks or calibrated):
        named = " and ".join(["--masks"] * masks + ["--calibrated"] * calibrated)
        raise ConfigError(f"{named}: say how facts are made of a run; those in {facts_file} are made already")
    if facts_file is not None and run is None and not _is_of_scenes(facts_file):
        if truth:
            raise ConfigError("--truth: a graph of triples is not of annotations; leave it out")
        if fill_up:
            raise ConfigError("--fill-up is for facts of scenes; of a graph, leave --top out to have all rules")
        if resume and search is None:
            raise ConfigError("--resume goes on with the search in --search FOLDER: name it")
        if tolerance is not None and valid is None:
            raise ConfigError("--tolerance: how much may be lost on the facts of --valid FILE: name it")
        if only and (ontology is not None or not facts_file.is_dir()):
            raise ConfigError(
                "--only reads some relations of a store's folder; make one with --store FOLDER, and leave --ontology out"
            )
        if store is not None and store.resolve() == facts_file.resolve():
            raise ConfigError(f"--store: {store} is where the facts are read from; name another folder")
        given = {"budget": budget, "support": min_support, "smoothed": min_confidence, "tolerance": tolerance}
        settings = {"targets": tuple(target or ()), "workers": workers} | {
            k: v for k, v in given.items() if v is not None
        }
        how = {"folder": search, "resume": resume, "scheduler": scheduler}
        evolution = {"most": max_atoms, "seed": seed}
        induce_graph(facts_file, ontology, settings, evolution, out, strict, top, as_json, how, valid, store, only)
        return
    of_graphs = {"--ontology": ontology, "--search": search, "--resume": resume, "--scheduler": scheduler}
    if foreign := [option for option, value in of_graphs.items() if value]:
        raise ConfigError(f"{', '.join(foreign)}: of a graph; facts of scenes have no use for it")
    if store is not None or only:
        named = "--store" if store is not None else "--only"
        raise ConfigError(f"{named} is for the facts of a graph; give its triples with --facts")
    if valid is not None or tolerance is not None:
        named = "--valid" if valid is not None else "--tolerance"
        raise ConfigError(f"{named}: facts held back are those of a graph; give its triples with --facts")
    from neurosym.induction import InductionConfig

    config = InductionConfig(
        targets=tuple(target or ()),
        max_body=max_atoms,
        min_support=min_support or 5,
        min_confidence=0.8 if min_confidence is None else min_confidence,
        budget_seconds=budget,
        top=top or 40,
        fill_up=fill_up,
        seed=seed,
    )
    _induce_scenes(run, split, threshold, facts_file, out, truth, config, as_json, masks, calibrated)


def _is_of_scenes(facts_file: Path) -> bool:
    from neurosym.scenes import is_facts_of_scenes

    return is_facts_of_scenes(facts_file)


def _induce_scenes(
    run: Path | None,
    split: str,
    threshold: float,
    facts_file: Path | None,
    out: Path | None,
    truth: bool,
    config: InductionConfig,
    as_json: bool,
    masks: bool,
    calibrated: bool,
) -> None:
    """Learn rules from the facts of a run, or of a file of such facts, and show the first."""
    from neurosym.induction import induce as learn
    from neurosym.loop import Stages
    from neurosym.review import save_candidates
    from neurosym.review.origin import ANNOTATIONS, run_name
    from neurosym.scenes import load_facts

    with bars() as stage:
        if run is not None and facts_file is None and out is None:
            out = run / f"{'true-' if truth else ''}candidates.json"
            stages = Stages.of(run, split, threshold, stage("induce"))
            found = stages.induce(config, truth, masks=masks, calibrated=calibrated)
        elif facts_file is not None and run is None:
            if out is not None and not out.name:
                raise ConfigError(f"--out: {str(out)!r} is no file's name")
            out = (out or facts_file.with_name(f"{facts_file.stem}-candidates")).with_suffix(".json")
            advance = stage("induce")
            found = learn(
                load_facts(facts_file), config, lambda s: advance(0, 0, f"{s.stage} {s.target}: {s.found} rules")
            )
            save_candidates(out, found, {"facts": ANNOTATIONS if truth else "", "run": run_name(facts_file)})
        else:
            raise ConfigError(
                "give either a run folder (its candidates.json is written), or --facts FILE, with --out if wanted"
            )
    if as_json:
        print_json({"candidates": str(out), "count": len(found), "rules": [str(c.rule) for c in found]})
        return
    table = Table("rule", "support", "confidence", "coverage", title=f"{len(found)} candidate rules, the first 15")
    for c in found[:15]:
        measures = (f"{c.support}/{c.body_size}", f"{c.confidence:.3f}", f"{c.head_coverage:.3f}")
        table.add_row(escaped(str(c.rule)), *measures)
    output.print(table)
    show_done("written", f"{out} and {out.with_suffix('.rules')}")
    if calibrated:
        warn_of_fit(split)
