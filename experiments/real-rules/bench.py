"""The first rules that real films give, with what the tool says of each: from annotations, and from what a detector predicts.

From annotations of the training films, by masks, confirmed on annotated test films; and from the predictions on test films of a
detector that was trained without rules, confirmed on those on validation films. What a rule of the predictions is worth on the
annotated test films is told beside it (`../rule_overlap.py`, by brute force).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness import HERE, Figure, data_folder, figure, record
from rule_overlap import Derived, Held, confidence, derived, held_in, recovery

from neurosym.induction import InductionConfig
from neurosym.knowledge import parse_rules
from neurosym.learning.config import load_config
from neurosym.learning.train import train
from neurosym.loop import Stages
from neurosym.records import Candidate
from neurosym.review.ledger import normal_text

NAME: Final = "real-rules"
SEEDS: Final = (0, 1, 2)
FIRST: Final = 20
SAME: Final = 0.9
SEARCH: Final = InductionConfig(min_confidence=0.8, top=FIRST)
MEASURED: Final[dict[str, dict[str, str]]] = {
    "jsrt": {
        "right lung, heart": "left_of(R, H) :- right_lung(R), heart(H).",
        "heart, left lung": "left_of(H, L) :- heart(H), left_lung(L).",
        "nodule in lung": "inside(N, L) :- nodule(N), lung(L), overlaps(N, L).",
    },
    "covid-cxr": {
        "ground glass in lung": "inside(G, L) :- ground_glass_opacity(G), lung(L), overlaps(G, L).",
        "consolidation in lung": "inside(C, L) :- consolidation(C), lung(L), overlaps(C, L).",
        "tube in airways": "inside(T, A) :- endotracheal_tube(T), airways(A), overlaps(T, A).",
    },
}
"""What the data's README tells of them, as Horn rules: that a thing is in some lung is said of the lung that it overlaps."""
LISTS: Final[dict[str, tuple[str, ...]]] = {"every head": (), "left_of": ("left_of",), "inside": ("inside",)}


def figures() -> list[Figure]:
    """How many of the measured relations are among the first candidates, and of these how many hold and what they are."""
    data_folder(*MEASURED)
    found = []
    for data, wanted in MEASURED.items():
        runs = [recorded(data, seed) for seed in SEEDS]
        for source in ("annotations", "predictions"):
            of = f"{data}, {source}"
            several = f"{of}: measured relations derived, of {len(wanted)}"
            goal = f">= {len(wanted)}"
            found += [
                figure(f"{several}, no head asked", runs, _derived(source, ("every head",))),
                figure(f"{several}, heads asked", runs, _derived(source, ("left_of", "inside")), goal),
            ]
            for standing, none in (("known", ""), ("entailed", ""), ("novel", ""), ("contradicted", "<= 0")):
                found.append(
                    figure(f"{of}: {standing} among the first {FIRST}", runs, _standing(source, standing), none)
                )
        found.append(figure(f"{data}, predictions: confidence on annotated films, mean", runs, _held))
        found.append(figure(f"{data}: AP50, test", runs, lambda r: r["ap50"]))
    return found


def _derived(source: str, lists: tuple[str, ...]) -> Callable[[dict[str, Any]], float]:
    def count(run: dict[str, Any]) -> float:
        told = [run[source][name]["measured"] for name in lists]
        return sum(any(t[rule]["covered"] >= SAME for t in told) for rule in told[0])

    return count


def _standing(source: str, standing: str) -> Callable[[dict[str, Any]], float]:
    return lambda run: sum(c["standing"] == standing for c in run[source]["every head"]["candidates"])


def _held(run: dict[str, Any]) -> float:
    values = [c["on annotated test films"] for c in run["predictions"]["every head"]["candidates"]]
    return sum(values) / max(1, len(values))


def recorded(data: str, seed: int) -> dict[str, Any]:
    """The record of one seed, computed if there is none yet."""
    logging.getLogger("neurosym").setLevel("ERROR")
    config = (HERE / NAME / f"{data}.yaml").read_text(encoding="utf-8")
    settings = [config, str(SEARCH), LISTS, MEASURED[data], seed]
    found: dict[str, Any] = record(NAME, f"{data}-seed{seed}", settings, lambda: compute(data, seed))
    return found


def compute(data: str, seed: int) -> dict[str, Any]:
    """Train, induce from both, assess."""
    folder = HERE.parent / "runs" / NAME / f"{data}-seed{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    train(load_config(HERE / NAME / f"{data}.yaml", (f"seed={seed}",)), folder)
    result = judged(folder, data)
    shutil.rmtree(folder)
    return result


def judged(folder: Path, data: str) -> dict[str, Any]:
    """The candidates of a trained run, each with what is known of it."""
    test = Stages.of(folder, "test")
    scores = test.evaluate(overlays=0)
    result: dict[str, Any] = {k: scores[k] for k in ("ap", "ap50", "per_class")}
    for source, split in (("annotations", "train"), ("predictions", "test")):
        truth = source == "annotations"
        stages = Stages.of(folder, split)
        held = held_in(test.true_facts(masks=truth))
        result[source] = {
            name: told(stages, stages.induce(replace(SEARCH, targets=heads), truth, masks=truth), truth, held, data)
            for name, heads in LISTS.items()
        }
    return result


def told(stages: Stages, candidates: list[Candidate], truth: bool, held: Held, data: str) -> dict[str, Any]:
    """What the tool says of candidates, in their order, and how far they derive what is measured in the data."""
    confirm = "test" if truth else "val"
    assessments = {a.rule: a for a in stages.assess(truth=truth, confirm=confirm, resamples=500).assessments}
    rows = []
    for c in candidates:
        known = assessments[normal_text(c.rule)]
        confirmed = known.confirmation
        rows.append(
            {
                "rule": str(c.rule),
                "reading": known.reading,
                "support": c.support,
                "body size": c.body_size,
                "standing": known.standing,
                "because": known.because,
                "confirmed": None if confirmed is None else [confirmed.confidence, confirmed.low, confirmed.high],
                "held in resamples": known.held,
                "confounders": [x.message for x in known.confounders],
                "warnings": list(known.warnings),
                "on annotated test films": round(confidence(c.rule, held), 4),
            }
        )
    made = [derived(c.rule, held) for c in candidates]
    return {"candidates": rows, "measured": {name: compared(text, made, held) for name, text in MEASURED[data].items()}}


def compared(text: str, made: list[Derived], held: Held) -> dict[str, float]:
    """A measured relation's best overlap with a candidate, and the share of its facts that the candidates derive."""
    [rule] = parse_rules(text)
    facts = derived(rule, held)
    return {"facts": len(facts), "confidence": round(confidence(rule, held), 4), **recovery(facts, made)}
