"""Rules planted in a graph, three in ten of whose consequences are gone and which has noise: are they found, and told first?

A learner gets the facts of `planted.plant`, nothing else. Its rules are put in order twice: as rule files are, by smoothed
confidence, and by what they save (`neurosym.induction.kg.covering`). A planted rule is found if a rule learned has its head
and body but for the names of variables, the order of literals and which end is called X. Seconds are of wall time, from the
facts in memory to the last rule in order; those of the processor are told beside, for they do not depend on other work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from harness import Figure, figure, record
from planted import Planting, World, plant

from neurosym.induction.kg.bodies import Body, X, canonical, canonical_pair, is_pair, numbered
from neurosym.induction.kg.clock import State
from neurosym.induction.kg.covering import covering
from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import TripleStore
from neurosym.logic import Rule

NAME = "planted-rules"
SEEDS = (0, 1, 2)
ARMS = {"all relations": False, "heads named": True}
"""Of each arm whether the learner is told which relations have rules."""
BUDGET = 60
SEARCH = 50.0
"""Seconds until no generation is begun any more; the rest is for the last one and the order of rules."""
SUPPORT, SMOOTHED, MOST, CAP = 30, 0.05, 4, 200_000
WORKERS = 2
FIRST = 40

Spelled = tuple[tuple[int, ...], Body]


def figures() -> list[Figure]:
    """How many planted rules are learned, and among the first in either order; how long that took."""
    found: list[Figure] = []
    for arm, named in ARMS.items():
        runs = [recovered(arm, named, seed) for seed in SEEDS]
        goal = f">= {runs[0]['planted']}"
        found += [
            figure(f"{arm}: planted rules in the first {FIRST}, by what they save", runs, lambda r: r["saving"], goal),
            figure(f"{arm}: planted rules in the first {FIRST}, by confidence", runs, lambda r: r["confident"]),
            figure(f"{arm}: planted rules learned", runs, lambda r: r["learned"]),
            figure(f"{arm}: rules", runs, lambda r: r["rules"]),
            figure(f"{arm}: seconds", runs, lambda r: r["took"], f"<= {BUDGET}"),
            figure(f"{arm}: seconds of the processor", runs, lambda r: r["processor"]),
        ]
    return found


def recovered(arm: str, named: bool, seed: int) -> dict[str, Any]:
    """The record of one graph."""
    planting = Planting(seed=seed)
    config = LearnerConfig(
        targets=tuple(f"h{i}" for i in range(planting.heads)) if named else (),
        budget=SEARCH,
        support=SUPPORT,
        smoothed=SMOOTHED,
        evolution=EvolutionConfig(most=MOST, cap=CAP, seed=seed),
        workers=WORKERS,
        select=False,
    )

    def compute() -> dict[str, Any]:
        warm_up()
        return measured(plant(planting), config)

    found: dict[str, Any] = record(NAME, f"{arm.replace(' ', '-')}-seed{seed}", [planting, config, FIRST], compute)
    return found


def measured(world: World, config: LearnerConfig) -> dict[str, Any]:
    """Learn, put in order, and look for what was planted."""
    facts, states = world.facts, list[State]()
    started, processor = time.perf_counter(), time.process_time()
    store = TripleStore.of(facts)
    rules = RuleLearner(config).fit(store, states.append).rules
    saving = covering(store, rules, FIRST).rules
    took, processor = time.perf_counter() - started, time.process_time() - processor
    confident = np.lexsort((-rules.support, -rules.smoothed))[:FIRST]
    wanted = {spelled(store, planted.rule): planted for planted in world.planted}

    def those(numbers: Iterable[int]) -> set[Spelled]:
        return {spelled(store, rules.rule(store, int(i))) for i in numbers} & set(wanted)

    learned = those(range(len(rules)))
    return {
        "planted": len(world.planted),
        "saving": len(those(saving)),
        "confident": len(those(confident)),
        "learned": len(learned),
        "missed": sorted(f"{p.shape}: {p.rule}" for key, p in wanted.items() if key not in learned),
        "rules": len(rules),
        "generations": max(state.generation for state in states),
        "took": round(took, 1),
        "processor": round(processor, 1),
        "first": [f"{'*' if those([i]) else ' '} {_counted(store, rules, int(i))}" for i in saving],
    }


def _counted(store: TripleStore, rules: RuleColumns, i: int) -> str:
    return f"{rules.support[i]}/{rules.size[i]} {rules.rule(store, i)}"


def spelled(store: TripleStore, rule: Rule) -> Spelled:
    """Head and body, the same for rules that say the same in the same literals."""
    head, body = numbered(store, rule)
    if not is_pair(body):
        return (head.relation, head.a, head.b), canonical(body)
    least, back = canonical_pair(body)
    return (head.relation, (head.a != X) != back), least


def warm_up() -> None:
    """Have everything compiled, which is kept on disk from then on."""
    evolution = EvolutionConfig(most=MOST, cap=CAP, islands=1)
    few = LearnerConfig(
        budget=None,
        generations=8,
        paths=50,
        support=SUPPORT,
        smoothed=SMOOTHED,
        evolution=evolution,
        workers=1,
    )
    measured(plant(Planting()), few)
