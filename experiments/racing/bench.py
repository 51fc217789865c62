"""Does racing pay? The same search with and without it: candidates per second of the processor, and what it loses.

All searches begin with the short rules, found exactly, and do a number of generations on one thread. Beside the two that are
timed there is one in which every body that racing leaves is measured all the same, by an evaluator of its own: a rule that
would have been kept is lost. ``RACING_GRAPHS=wn18rr`` runs that graph only, ``RACING_GENERATIONS=3`` so many generations.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from graph_splits import train_file, warm_up
from harness import Figure, data_folder, figure, gained, record

from neurosym.induction.kg.archive import pair_rows
from neurosym.induction.kg.assembly import first_parents, path_bodies
from neurosym.induction.kg.bodies import Body
from neurosym.induction.kg.ending import NEEDED
from neurosym.induction.kg.evaluator import Evaluator, Pairs
from neurosym.induction.kg.evolution import Archipelago, Search, Setting, evolve
from neurosym.induction.kg.island import EvolutionConfig, Island, Report
from neurosym.induction.kg.paths import Thresholds
from neurosym.induction.kg.racing import Floats, Race
from neurosym.induction.kg.reading import read_store
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.short import short_rules
from neurosym.induction.kg.store import TripleStore

NAME = "racing"
GRAPHS = ("fb15k-237", "wn18rr")
SEEDS = (0, 1, 2)
GENERATIONS = 60
MOST = 3
RACED, EXACT, AUDIT = "racing", "exact", "audit"


def figures() -> list[Figure]:
    """Of each graph the candidates a second of both searches, their ratio, bodies that died, and the share of rules lost."""
    folder = data_folder("kg") / "kg"
    generations = int(os.environ.get("RACING_GENERATIONS", GENERATIONS))
    found: list[Figure] = []
    for graph in os.environ.get("RACING_GRAPHS", ",".join(GRAPHS)).split(","):
        runs = {
            arm: {seed: searched(folder / graph, graph, arm, generations, seed) for seed in SEEDS}
            for arm in (EXACT, RACED, AUDIT)
        }
        raced, exact, audit = ([*runs[arm].values()] for arm in (RACED, EXACT, AUDIT))
        delta = EvolutionConfig().delta
        found += [
            figure(f"{graph}: candidates a second of the processor, all exact", exact, speed),
            figure(f"{graph}: candidates a second of the processor, racing", raced, speed),
            *gained(f"{graph}: racing / exact", runs[RACED], runs[EXACT], speed, ratio=True),
            figure(
                f"{graph}: share of the bodies with two variables that died",
                audit,
                lambda r: r["died"] / max(1, r["bodies"]),
            ),
            figure(
                f"{graph}: facts looked at for these / by measuring them",
                audit,
                lambda r: r["looked"] / max(1, r["work"]),
            ),
            figure(
                f"{graph}: share of their rules that was lost",
                audit,
                lambda r: r["lost"] / max(1, r["rules"]),
                f"<= {delta}",
            ),
        ]
    return found


def speed(run: dict[str, Any]) -> float:
    """Candidates a second of the processor."""
    return float(run["candidates"] / run["processor"])


def searched(folder: Path, graph: str, arm: str, generations: int, seed: int) -> dict[str, Any]:
    """The record of one search."""
    config = EvolutionConfig(most=MOST, seed=seed, racing=arm != EXACT)

    def compute() -> dict[str, Any]:
        store, rules = prepared(train_file(folder))
        setting = Setting(store, Thresholds(), config)
        search = setting.search(first_parents(store, rules, config.niche), path_bodies(rules.paths))
        return run(setting, search, arm == AUDIT, generations)

    key = f"{graph}-{generations}-{arm}-seed{seed}"
    found: dict[str, Any] = record(NAME, key, [config, generations, MOST], compute)
    return found


@cache
def prepared(file: Path) -> tuple[TripleStore, RuleColumns]:
    """The facts, and the short rules."""
    warm_up()
    store = read_store(file)
    short = short_rules(store, Thresholds(), min(2, MOST), depth=NEEDED)
    return store, RuleColumns(short.paths, short.constants)


def run(setting: Setting, search: Search, audited: bool, generations: int) -> dict[str, Any]:
    """What a number of generations took, and found."""
    before = [len(state.seen) for state in search.islands]
    islands = InTurn(setting, search)
    audits = [Audit(island) for island in islands.islands] if audited else []
    started = time.process_time()
    evolve(search, islands, lambda search: search.generation < generations)
    processor = time.process_time() - started
    candidates = sum(len(state.seen) for state in search.islands) - sum(before)
    told = {"processor": round(processor, 2), "candidates": candidates, "found": len(search.found)}
    for name in ("bodies", "died", "looked", "work", "rules", "lost") if audits else ():
        told[name] = sum(getattr(audit, name) for audit in audits)
    return told


class InTurn(Archipelago):
    """Islands one after the other."""

    def __init__(self, setting: Setting, search: Search) -> None:
        self.islands = [setting.island(state) for state in search.islands]

    def generation(self, search: Search) -> list[Report]:
        return [island.generation(sent) for island, sent in zip(self.islands, search.sent, strict=True)]

    def close(self) -> None:
        """Nothing to do."""


class Audit(Race):
    """Racing that measures what it leaves all the same, and counts.

    Attributes:
        bodies, died: bodies with two variables, and those of them that were left.
        looked, work: facts looked at of those that were left, and by measuring them; of one that may not be measured the most
            that one may need.
        rules, lost: those of these bodies that are kept by measuring, and those of them that were left.
    """

    def __init__(self, island: Island) -> None:
        config = island.config
        super().__init__(island.evaluator, island.thresholds.smoothed, config.delta, config.seed, island.wanted)
        self.island, self.own = island, Evaluator(island.store, cap=config.cap, kept=1)
        self.bodies = self.died = self.looked = self.work = self.rules = self.lost = 0
        island.race = self

    def pairs_of(self, body: Body) -> Pairs | None:
        """By measuring; None if it needs too much work."""
        counting = self.own.counting(body)
        if counting is None:
            return None
        size, work = counting.all(counting.xs, self.own.cap)
        counting.wipe()
        too_much = work < 0 or work > self.own.cap
        self.work += self.own.cap if too_much else work
        return None if too_much else Pairs(body, size, *counting.sums)

    def pairs(self, body: Body, known: Callable[[], Floats]) -> Pairs | None:
        """See `Race`."""
        found = super().pairs(body, known)
        self.bodies += 1
        if found is None:
            self.died += 1
            self.looked += self.looked_at
            left = self.pairs_of(body)
            lost = self.rules_of(body, left)
            self.lost += lost
            self.rules += lost
        else:
            self.rules += self.rules_of(body, found)
        return found

    def rules_of(self, body: Body, pairs: Pairs | None) -> int:
        """How many rules are kept."""
        rows = [] if pairs is None else pair_rows(pairs, self.island.thresholds)
        return len(self.island.surprising(body, rows))
