"""What a graph of some size costs, each step in a process of its own; prints JSON.

    python step.py load FILE STORE                  from TSV to a store in memory, and from there to a folder
    python step.py search STORE SECONDS RULES       rules from an opened store, until the time is over
    python step.py open STORE SUBJECT RELATION      from nothing to an answer

Seconds are of CPU time (on one thread: the wall time of an idle machine), beside them of wall time. Of `load` and `search`
those in which loops are compiled do not count; of `open` all count from the start of the interpreter on.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from neurosym.induction.kg.store import TripleStore

PCA = 0.5


class Watch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def told(self, name: str) -> dict[str, float]:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        return {name: round(cpu, 3), f"{name}_wall": round(wall, 3)}


def load(file: str, folder: str) -> dict[str, Any]:
    from neurosym.induction.kg.reading import read_store

    with tempfile.TemporaryDirectory() as scratch:  # have everything compiled
        (Path(scratch) / "a.tsv").write_text("a\tp\tb\n")
        read_store(Path(scratch) / "a.tsv")
    watch = Watch()
    store = read_store(file)
    found = watch.told("load")
    watch = Watch()
    store.write(folder)
    sizes = {"facts": len(store), "entities": len(store.entities), "relations": len(store.relations)}
    return found | watch.told("write") | sizes | {"load_peak": peak()}


def search(folder: str, seconds: float, wanted: int) -> dict[str, Any]:
    """Path rules are counted by their PCA confidence as they come; the search goes on when there are enough."""
    from neurosym.induction.kg.paths import PathMiner, Thresholds
    from neurosym.induction.kg.rules import PathRules
    from neurosym.induction.kg.short import short_rules_by_cost

    with tempfile.TemporaryDirectory() as scratch:  # have everything compiled, for arrays that are mapped
        TripleStore.of([(f"x{i}", r, f"x{i * 7 % 20}") for i in range(20) for r in "pq"]).write(Path(scratch) / "a")
        tiny = TripleStore.open(Path(scratch) / "a")
        for part in short_rules_by_cost(tiny, Thresholds()):
            if isinstance(part, PathRules):
                PathMiner(tiny, Thresholds()).known(part)
    found: dict[str, Any] = {}
    counts = {"one_atom": 0, "two_atoms": 0, "constants": 0, "confident": 0}
    watch, started = Watch(), time.process_time()
    store = TripleStore.open(folder)
    miner, parts = PathMiner(store, Thresholds()), short_rules_by_cost(store, Thresholds())
    complete = False
    while not complete and time.process_time() - started < seconds:
        part = next(parts, None)
        complete = part is None
        if isinstance(part, PathRules):
            counts["one_atom" if part.path.shape[1] == 1 else "two_atoms"] += len(part.head)
            if len(part.head):
                counts["confident"] += int((part.support > PCA * miner.known(part)).sum())
            if counts["confident"] >= wanted and "first" not in found:
                found |= watch.told("first") | {"first_two_atoms": counts["two_atoms"]}
        elif part is not None:
            counts["constants"] += len(part.head)
    return found | watch.told("search") | counts | {"complete": complete, "search_peak": peak()}


def opened(folder: str, subject: str, relation: str) -> dict[str, Any]:
    watch = Watch()
    answers = TripleStore.open(folder).objects(subject, relation)
    found = watch.told("open") | {"answers": len(answers), "open_peak": peak()}
    return found | {"restart": round(time.process_time(), 3)}


def peak() -> float:
    """MB of this process, with the pages of the store that it has touched."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "load":
        found = load(*rest)
    elif what == "search":
        found = search(rest[0], float(rest[1]), int(rest[2]))
    else:
        found = opened(*rest)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
