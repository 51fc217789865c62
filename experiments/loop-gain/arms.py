"""One run of the grid: a burn-in that all arms of a seed share, then an arm, a loop of one round or a single training.

    start      trained with what an expert says that no learner of Horn rules finds (`TOLD`)
    loop       then rules are induced, accepted by figures, and it is trained again with them: start is its round 0
    again      start with another order of films and other draws: what a training gains by chance
    expert     trained with all rules of the expert's (rules/phantom.rules)
    left out   a loop that starts with all rules of the expert's but one, another one for each seed

The settings are those of the arm "both" of `../few-labels`, where rules act most: they say where findings are laid onto films,
from what scenes the refiner learns, and what a model is fined for.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from harness import HERE, record
from rule_overlap import confidence, derived, held_in, overlap

from neurosym.induction import InductionConfig
from neurosym.knowledge.rules import read_rules, write_rules
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.train import train
from neurosym.loop import Stages
from neurosym.records import Rule
from neurosym.rounds import Loop, Policy

NAME: Final = "loop-gain"
RUNS: Final = HERE.parent / "runs" / NAME
CONFIG: Final = HERE / NAME / "phantom.yaml"
ONTOLOGY: Final = HERE.parent / "ontologies" / "thorax.ttl"
EXPERT: Final = HERE.parent / "rules" / "phantom.rules"
BURN_IN: Final = 120
"""Steps on labels alone; each training of an arm adds those of the config."""
TOLD: Final = (
    "one_heart", "one_left_lung", "one_right_lung",
    "ground_glass_in_lung", "consolidation_in_lung", "nodule_in_lung", "effusion_in_lung",
)  # fmt: skip
LEFT_OUT: Final = (
    "right_lung_left_of_heart", "effusion_in_lower_zone", "lung_larger_than_heart", "nodule_is_small", "effusion_peripheral"
)  # fmt: skip
"""By seed."""
ARMS: Final = ("loop", "again", "expert", "left-out")
HEADS: Final = (
    "left_of", "larger_than", "upper_zone", "middle_zone", "lower_zone", "central", "peripheral",
    "small_object", "medium_object", "large_object",
)  # fmt: skip
SEARCH: Final = InductionConfig(targets=HEADS, min_confidence=0.9, top=40)
POLICY: Final = Policy()
SAME: Final = 0.9
LEAST: Final = 0.8


@dataclass(frozen=True)
class Job:
    """One arm of one seed."""

    arm: str
    seed: int

    @property
    def key(self) -> str:
        """The name of its record."""
        return f"{self.arm}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where it runs."""
        return RUNS / self.key

    @property
    def left_out(self) -> str:
        """The expert's rule that the loop has to find again."""
        return LEFT_OUT[self.seed % len(LEFT_OUT)]


def given(job: Job) -> list[Rule]:
    """The rules that an arm starts with."""
    rules = read_rules(EXPERT)
    if job.arm == "expert":
        return rules
    if job.arm == "left-out":
        return [r for r in rules if r.id != job.left_out]
    return [r for r in rules if r.id in TOLD]


def labelled(job: Job) -> tuple[str, ...]:
    """The overrides of a seed: other labelled films."""
    draws = job.seed + 100 * (job.arm == "again")
    return (f"seed={draws}", f"data.train.start={1000 * job.seed}")


def burn_in(seed: int) -> Path:
    """Where the shared start of a seed lies; trained if it is not there."""
    folder = RUNS / f"burn-in-seed{seed}"
    if not list(folder.glob("checkpoints/step-*")):
        shutil.rmtree(folder, ignore_errors=True)
        alone = ("teacher.weight=0", "refiner.enabled=false", "compose={}", "constraints.weight=0")
        steps = (f"train.steps={BURN_IN}", "train.lr=7e-4", "train.warmup_steps=20")
        train(load_config(CONFIG, (*labelled(Job("loop", seed)), *alone, *steps)), folder)
    return folder


def config_of(job: Job) -> TrainConfig:
    """The settings of an arm's first training; its rules are written beside it."""
    rules = RUNS / f"{job.key}.rules"
    write_rules(rules, given(job), f"What the arm {job.arm} starts with.")
    knowledge = json.dumps([str(ONTOLOGY), str(rules)])
    return load_config(CONFIG, (*labelled(job), f"knowledge={knowledge}", f"initial={burn_in(job.seed)}"))


def run(job: Job) -> dict[str, Any]:
    """The record of one job, computed if there is none yet."""
    logging.getLogger("neurosym").setLevel("ERROR")
    texts = [str(r) for r in given(job)]
    settings = [CONFIG.read_text(encoding="utf-8"), labelled(job), texts, BURN_IN, str(SEARCH), str(POLICY)]

    def compute() -> dict[str, Any]:
        shutil.rmtree(job.folder, ignore_errors=True)
        config = config_of(job)
        result = looped(job, config) if job.arm in ("loop", "left-out") else trained(job, config)
        shutil.rmtree(job.folder)
        return result

    return record(NAME, job.key, settings, compute)


def trained(job: Job, config: TrainConfig) -> dict[str, Any]:
    """AP and AP50 of a single training."""
    train(config, job.folder)
    found = Stages.of(job.folder).evaluate(overlays=0)
    return {"ap": found["ap"], "ap50": found["ap50"]}


def looped(job: Job, config: TrainConfig) -> dict[str, Any]:
    """Both rounds, the rules that were accepted between them, and what these are worth on annotated test films."""
    accepted = job.folder / "accepted.rules"
    done = Loop(config, job.folder, accepted, induction=SEARCH, offered=SEARCH.top or 0, policy=POLICY).run(1).done
    rules = read_rules(accepted) if accepted.is_file() else []
    held = held_in(Stages.of(job.folder / "round-0").true_facts())
    result: dict[str, Any] = {"rounds": [asdict(replace(r, run=Path(r.run).name)) for r in done]}
    result["accepted"] = [{"rule": str(r), "confidence": round(confidence(r, held), 4)} for r in rules]
    if job.arm == "left-out":
        [wanted] = [r for r in read_rules(EXPERT) if r.id == job.left_out]
        facts, made = derived(wanted, held), [derived(r, held) for r in rules]
        result["left_out"] = str(wanted)
        result["overlap"] = round(max((overlap(facts, other) for other in made), default=0.0), 4)
        result["covered"] = round(len(facts & frozenset().union(*made)) / len(facts), 4)
    return result


def chain(jobs: Sequence[Job]) -> None:
    """Run the jobs of a seed one after the other, and tell what came out."""
    for job in jobs:
        result = run(job)
        scores = result.get("rounds", [result])
        told = " → ".join(f"AP50 {r['ap50']:.3f}, AP {r['ap']:.3f}" for r in scores)
        print(f"{job.key}: {told}, {len(result.get('accepted', ()))} rules, {result['seconds']:.0f} s", flush=True)
