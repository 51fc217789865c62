"""What is left after kill −9 of training, of a search for rules and of a review; what going on costs; fuzzing of readers."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from harness import HERE, Figure, figure, measured, record
from safetensors.torch import load_file
from torture import ROOT, environment, killed, started

from neurosym.induction.kg.search_files import BASE, SEARCH
from neurosym.learning.checkpoint import latest_checkpoint, load_checkpoint
from neurosym.review.ledger import Ledger

NAME = "faults"
FOLDER = HERE / NAME
RUNS = ROOT / "runs" / NAME
KILLS = {"training": 10, "induction": 4, "review": 4}
"""Of each seed; with three seeds 54 in all."""
SEEDS = (0, 1, 2)
FILES = ("bench.py", "torture.py", "work.py", "fuzz.py", "config.yaml", "whole.yaml")
TARGETS = ("rules", "ontology", "dicom")
FUZZED = 600


def figures() -> list[Figure]:
    """Differences, files and verdicts lost must be none; going on must cost less than 5% of a run."""
    found = []
    runs = {what: [_record(what, seed) for seed in SEEDS] for what in (*KILLS, "resume")}
    for what, kills in KILLS.items():
        found.append(figure(f"{what}: kills of each seed", runs[what], lambda r: r["kills"], f">= {kills}"))
        found.append(figure(f"{what}: files that were not whole after a kill", runs[what], lambda r: r["torn"], "<= 0"))
    weights, rules, verdicts = runs["training"], runs["induction"], runs["review"]
    found += [
        figure(
            "training: tensors that differ from the run that was not killed", weights, lambda r: r["differ"], "<= 0"
        ),
        figure(
            "induction: rules that differ from the search that was not killed", rules, lambda r: r["differ"], "<= 0"
        ),
        figure(
            "review: verdicts that were told to be recorded and are not there", verdicts, lambda r: r["lost"], "<= 0"
        ),
        figure("review: verdicts recorded", verdicts, lambda r: r["recorded"]),
        figure("resume: share of a light run of 300 steps", runs["resume"], lambda r: r["overhead"], "<= 0.05"),
    ]
    for target in TARGETS:
        fuzzed = [_record(f"fuzz-{target}", 0)]
        found += [
            figure(f"fuzzing, {target}: inputs in {FUZZED} s", fuzzed, lambda r: r["inputs"]),
            figure(f"fuzzing, {target}: crashes and hangs", fuzzed, lambda r: r["crashes"], "<= 0"),
        ]
    return found


def _record(what: str, seed: int) -> dict[str, Any]:
    texts = [(FOLDER / f).read_text(encoding="utf-8") for f in FILES]
    works = {"training": training, "induction": induction, "review": review, "resume": resuming}
    work = works.get(what) or partial(fuzzing, what.removeprefix("fuzz-"))

    def compute() -> dict[str, Any]:
        folder = RUNS / f"{what}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        result = work(folder, seed)
        shutil.rmtree(folder)
        return result

    return record(NAME, f"{what}-seed{seed}", {"what": what, "seed": seed, "texts": texts}, compute)


def training(folder: Path, seed: int) -> dict[str, Any]:
    """`neurosym train`, killed and resumed, against the same run left alone."""

    def command(out: Path) -> list[object]:
        settings = ["--set", f"seed={seed}", "--no-forecast", "--resume"]
        return ["-m", "neurosym", "train", FOLDER / "config.yaml", "--out", out, *settings]

    alone, run, torn = folder / "alone", folder / "killed", list[str]()
    _done(started(command(alone)))

    def begun(since: float) -> bool:
        config = run / "config.yaml"
        return config.is_file() and config.stat().st_mtime >= since

    def check() -> None:
        try:
            yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["name"]
            for checkpoint in (run / "checkpoints").glob("step-*"):
                if checkpoint == latest_checkpoint(run / "checkpoints"):  # an older one may be on its way out
                    load_checkpoint(checkpoint)
                    load_file(checkpoint / "model.safetensors")
        except Exception as error:  # whatever it is, a file is not whole
            torn.append(repr(error))

    kills = killed(command(run), KILLS["training"], 4.0, random.Random(seed), begun, check)
    one, other = (_tensors(path) for path in (alone, run))
    differ = sum(k not in one or k not in other or not torch.equal(one[k], other[k]) for k in {*one, *other})
    return {"kills": kills, "torn": len(torn), "differ": differ, "tensors": len(one), "told": torn}


def _tensors(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return {f"{f.name} {k}": v for f in sorted(checkpoint.glob("*.safetensors")) for k, v in load_file(f).items()}


def induction(folder: Path, seed: int) -> dict[str, Any]:
    """A search that is written down as it goes on."""
    graph, torn = folder / "graph.tsv", list[str]()
    draw = random.Random(seed)
    facts = {(draw.randrange(120), draw.randrange(6), draw.randrange(120)) for _ in range(1500)}
    graph.write_text("".join(f"e{s}\tr{r}\te{o}\n" for s, r, o in sorted(facts)), encoding="utf-8")

    def command(name: str) -> list[object]:
        return [FOLDER / "work.py", "induce", graph, folder / name, folder / f"{name}.rules"]

    _done(started(command("alone")))

    def begun(since: float) -> bool:
        return any(f.stat().st_mtime >= since for f in (folder / "killed").glob("*.npz"))

    def check() -> None:
        import numpy as np

        for name in (BASE, SEARCH):
            try:
                if (folder / "killed" / name).exists():
                    with np.load(folder / "killed" / name, allow_pickle=False) as arrays:
                        _ = [arrays[k] for k in arrays]
            except Exception as error:  # whatever it is, a file is not whole
                torn.append(repr(error))

    kills = killed(command("killed"), KILLS["induction"], 1.5, draw, begun, check)
    one, other = (set((folder / f"{n}.rules").read_text(encoding="utf-8").splitlines()) for n in ("alone", "killed"))
    return {"kills": kills, "torn": len(torn), "differ": len(one ^ other), "rules": len(one), "told": torn}


def review(folder: Path, seed: int) -> dict[str, Any]:
    """Verdicts one after the other; what was printed was recorded, or should have been."""
    ledger, draw, told, torn = folder / "reviews.jsonl", random.Random(seed), set[int](), list[str]()
    for _ in range(KILLS["review"]):
        words = [sys.executable, str(FOLDER / "work.py"), "review", str(ledger)]
        process = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert process.stdout is not None
        told.add(int(process.stdout.readline()))
        end = time.time() + draw.uniform(0.0, 1.0)
        for line in process.stdout:
            if line.endswith("\n"):
                told.add(int(line))
            if time.time() > end:
                break
        os.kill(process.pid, signal.SIGKILL)
        told |= {int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")}
        process.wait()
    there = {int(v.id.rpartition("-")[2]) for v in Ledger(ledger).verdicts()}
    for line in ledger.read_text(encoding="utf-8").splitlines():
        try:
            json.loads(line)
        except ValueError as error:
            torn.append(repr(error))
    return {
        "kills": KILLS["review"],
        "torn": len(torn),
        "lost": len(told - there),
        "recorded": len(there),
        "told": torn,
    }


def resuming(folder: Path, seed: int) -> dict[str, Any]:
    """What it takes to start anew, read a checkpoint and come to the next step, as a share of a whole run."""
    command = ["-m", "neurosym", "train", FOLDER / "whole.yaml", "--out", folder / "run", "--set", f"seed={seed}"]
    command += ["--no-forecast", "--resume"]
    began = time.perf_counter()
    _done(started(command))
    whole = time.perf_counter() - began
    began = time.perf_counter()
    _done(started([*command, "--set", "train.steps=301"]))
    again = time.perf_counter() - began
    last = json.loads((folder / "run/log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return {"whole s": whole, "again s": again, "overhead": (again - last["seconds"]) / whole}


def fuzzing(target: str, folder: Path, seed: int) -> dict[str, Any]:
    """`fuzz.py` for so many seconds."""
    return measured(FOLDER / "fuzz.py", target, FUZZED, folder)


def _done(process: subprocess.Popen[bytes]) -> None:
    _, told = process.communicate()
    if process.returncode:
        raise SystemExit(told.decode())
