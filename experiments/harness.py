"""What experiments share: records that survive a kill, figures with intervals, `results.json`, the tables in README and docs.

``python experiments/harness.py NAME`` runs ``experiments/NAME/bench.py``, whose `figures()` returns `Figure`s. A run that is
recorded in ``experiments/NAME/records/`` for the same config and rules is not computed again, so a grid that was interrupted
goes on where it stopped; delete its records to measure changed code. Exit code 1: a goal is not met. The table shows what is
kept in `results.json` as expected. With ``AGAIN=1`` in the environment everything is computed anew, into ``runs/again/NAME``
(where an interrupted grid goes on; delete the folder to begin again), and held against that; what is kept stays.
``python experiments/harness.py --readme`` rewrites the tables: of all figures in ``docs/results.md``, of goals in the README.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy import stats

from neurosym.data.config import data_folder as data_sets
from neurosym.knowledge.rules import write_text_atomically

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
RESULTS = HERE.parent / "docs" / "results.md"
AGAIN = bool(os.environ.get("AGAIN"))
START, END = "<!-- results: begin -->", "<!-- results: end -->"


@dataclass(frozen=True)
class Figure:
    """One number: its mean with a 95% interval over the seeds, and the goal it must reach ("" if there is none)."""

    figure: str
    value: float
    low: float
    high: float
    goal: str
    met: bool
    seeds: int
    seconds: float
    commit: str

    @property
    def verdict(self) -> str:
        """The goal with ✓ where the whole interval meets it, ○ where only the mean does, ✗ where not; "" without one."""
        if not self.goal:
            return ""
        worst = self.low if self.goal.startswith(">=") else self.high
        certain = meets(worst, self.goal)
        return f"{self.goal} {'✗' if not self.met else '✓' if certain else '○'}"


def meets(value: float, goal: str) -> bool:
    """Whether a number meets a goal like ">= 0.9"; the goal "" is met by all.

    >>> meets(1, ">= 0.9"), meets(1, "<= 0.9"), meets(1, "")
    (True, False, True)
    """
    sign, _, bound = goal.partition(" ")
    return {">=": value >= float(bound or 0), "<=": value <= float(bound or 0), "": True}[sign]


def figure(
    name: str, records: Sequence[dict[str, Any]], of: Callable[[dict[str, Any]], float], goal: str = ""
) -> Figure:
    """Summarise one value over the records of several seeds; `goal` is like ">= 0.9" and is held against the mean."""
    values = [of(r) for r in records]
    mean = statistics.fmean(values)
    half = 0.0
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    commits = sorted({str(r["commit"]) for r in records})
    seconds = sum(float(r["seconds"]) for r in records)
    rounded = (round(v, 4) + 0.0 for v in (mean, mean - half, mean + half))  # no minus zero
    return Figure(name, *rounded, goal, meets(mean, goal), len(values), round(seconds, 1), ", ".join(commits))


def records(name: str) -> Path:
    """Where the runs of an experiment are recorded."""
    return HERE.parent / "runs" / "again" / name if AGAIN else HERE / name / "records"


def record(name: str, key: str, settings: Any, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The record of one run: read if it was made with the same settings, else computed and written."""
    path = records(name) / f"{key}.json"
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known["settings"] == digest:
            return known
    started = time.perf_counter()
    result = compute()
    value = {"settings": digest, "commit": COMMIT, "seconds": round(time.perf_counter() - started, 1), **result}
    write_text_atomically(path, json.dumps(value, indent=1) + "\n")
    return value


def measured(script: Path, *arguments: object, python: str | Path = sys.executable, path: str = "") -> dict[str, Any]:
    """What a script prints as JSON in its last line, run in a process of its own on one thread.

    `path` is its PYTHONPATH, by default the project's folder.
    """
    variables = {**os.environ, "PYTHONPATH": path or str(HERE.parent), "OMP_NUM_THREADS": "1"}
    command = [str(python), str(script), *map(str, arguments)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def timed(folder: Path, work: Callable[[Path], Any], scored: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What `scored` says of the run that `work` makes in an empty folder, which goes afterwards, and how long that took."""
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    work(folder)
    seconds = time.perf_counter() - started
    result = scored(folder) | {"training_seconds": round(seconds, 1)}
    shutil.rmtree(folder)
    return result


def recorded(name: str, keys: Mapping[int, str]) -> dict[int, dict[str, Any]]:
    """The records of an arm, by seed, of which `keys` has the names; those that are not there are left out."""
    paths = {seed: records(name) / f"{key}.json" for seed, key in keys.items()}
    return {seed: json.loads(p.read_text(encoding="utf-8")) for seed, p in paths.items() if p.is_file()}


def side_by_side(work: Callable[[Any], None], parts: Iterable[Any], workers: int = 2) -> None:
    """Do the parts of a grid in processes of their own; `work` must be of a module that these can import."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(work, parts))


def won_back(
    name: str,
    exact: Mapping[int, dict[str, Any]],
    plain: Mapping[int, dict[str, Any]],
    runs: Mapping[int, dict[str, Any]],
    value: str,
    goal: str = "",
) -> list[Figure]:
    """Share of a loss: (arm − plain) / (plain on exact annotations − plain), over the seeds that all three have recorded.

    The seeds' mean loss is the measure of all, for the loss of one seed may be small by chance. Nothing for less than two.
    """
    seeds = sorted({*exact} & {*plain} & {*runs})
    if len(seeds) < 2:
        return []
    loss = statistics.fmean(exact[s][value] - plain[s][value] for s in seeds)
    chosen = [runs[s] | {"share": (runs[s][value] - plain[s][value]) / loss} for s in seeds]
    return [figure(name, chosen, lambda r: r["share"], goal)]


def gained(
    name: str,
    runs: Mapping[int, dict[str, Any]],
    others: Mapping[int, dict[str, Any]],
    of: Callable[[dict[str, Any]], float],
    goal: str = "",
    ratio: bool = False,
) -> list[Figure]:
    """`of` an arm less (by `ratio`: over) that of another, seed by seed; nothing for less than two seeds that both have."""
    seeds = sorted({*runs} & {*others})
    if len(seeds) < 2:
        return []
    pairs = [(of(runs[s]), of(others[s])) for s in seeds]
    chosen = [runs[s] | {"gain": a / b if ratio else a - b} for s, (a, b) in zip(seeds, pairs, strict=True)]
    return [figure(name, chosen, lambda r: r["gain"], goal)]


def _git(*words: str) -> str:
    command = ["git", "-C", str(HERE), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603


# Read when the program starts; the plus says that the package was not as it is committed.
COMMIT = (_git("rev-parse", "--short", "HEAD") or "unknown") + (
    "+" if _git("status", "--porcelain", "../neurosym") else ""
)


def data_folder(*needed: str) -> Path:
    """The folder of data sets; ends the program with a message, successfully, where a needed one is absent."""
    folder = data_sets()
    missing = [n for n in needed if not (folder / n).is_dir()]
    if missing:
        raise SystemExit(
            skip(f"skipped: no {', '.join(missing)} in {folder}; set NEUROSYM_DATA to the data sets' folder")
        )
    return folder


def skip(message: str) -> int:
    """Say why nothing was run; the exit code of a skipped experiment."""
    Console().print(message, soft_wrap=True)
    return 0


def run(name: str) -> int:
    """Run one experiment; returns the exit code."""
    path = HERE / name / "bench.py"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in HERE.glob("*/bench.py")))
        Console().print(f"no experiment {name!r}; known: {known}")
        return 2
    spec = importlib.util.spec_from_file_location(f"bench_{name.replace('-', '_')}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[Figure] = module.figures()
    show(name, found, kept(name))
    if not AGAIN:
        write_text_atomically(HERE / name / "results.json", json.dumps([asdict(f) for f in found], indent=1) + "\n")
        update_readme()
    return 0 if all(f.met for f in found) else 1


def kept(name: str) -> dict[str, Figure]:
    """The figures that an experiment keeps, by name."""
    path = HERE / name / "results.json"
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return {v["figure"]: Figure(**v) for v in values}


def show(name: str, found: Sequence[Figure], expected: Mapping[str, Figure]) -> None:
    """Print figures as a table, beside what was kept of them before."""
    columns = ("figure", "expected", "mean", "95% interval", "goal", "met", "seeds", "seconds", "commit")
    table = Table(*columns, title=name)
    for f in found:
        met = {"✓": "yes", "○": "within noise", "✗": "NO", "": "–"}[f.verdict[-1:]]
        before = f"{expected[f.figure].value:g}" if f.figure in expected else "–"
        figures = f"{f.value:g}", f"{f.low:g} – {f.high:g}"
        table.add_row(f.figure, before, *figures, f.goal, met, str(f.seeds), f"{f.seconds:g}", f.commit)
    Console(width=172).print(table)


def update_readme() -> None:
    """Rewrite the table of goals between the README's two markers, and the page of all figures."""
    text = README.read_text(encoding="utf-8")
    if START not in text or END not in text:
        return
    head = "figure | mean | 95% interval | goal | seeds |"
    goals = [f"| experiment | {head}", "|---|---|---|---|---|---|"]
    every = [
        "# Results",
        "",
        "All figures that `make bench` keeps in `results.json`: mean and 95% interval over the seeds. A goal is met by the",
        "whole interval (✓), by the mean alone (○: within noise), or not (✗).",
    ]
    for path in sorted(HERE.glob("*/results.json")):
        name = path.parent.name
        every += ["", f"## {name}", "", f"`make bench NAME={name}`, see `experiments/{name}`.", ""]
        every += [f"| {head}", "|---|---|---|---|---|"]
        for f in (Figure(**v) for v in json.loads(path.read_text(encoding="utf-8"))):
            row = f"{f.figure} | {f.value:g} | {f.low:g} – {f.high:g} | {f.verdict} | {f.seeds} |"
            every.append(f"| {row}")
            if f.goal:
                goals.append(f"| [{name}](experiments/{name}) | {row}")
    before, rest = text.split(START)
    write_text_atomically(README, before + START + "\n" + "\n".join(goals) + "\n" + END + rest.split(END)[1])
    write_text_atomically(RESULTS, "\n".join(every) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python experiments/harness.py NAME | --readme")
    sys.path.insert(0, str(HERE))
    raise SystemExit(update_readme() if sys.argv[1] == "--readme" else run(sys.argv[1]))
