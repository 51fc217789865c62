"""Are the phantom's generating rules found again in what a trained detector predicts, and is a planted confounder flagged?

Each seed draws films of two hospitals (`films.py`), trains a detector on them without a rule, and induces rules from its
predictions on validation films. A rule is recovered if one of the first candidates derives the same: overlap (Jaccard) of the
sets of facts that the two derive, of at least .9, by brute force (`../rule_overlap.py`) on the *annotated* test films.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))

from films import CONFOUNDED, TUBING, TYPICAL, draw_films
from harness import HERE, Figure, figure, record
from rule_overlap import Held, confidence, derived, held_in, overlap, recovery

from neurosym.data.phantom import CATEGORIES, GENERATING_RULES, PhantomConfig
from neurosym.induction import InductionConfig, evaluate_rule
from neurosym.knowledge import parse_rules
from neurosym.learning.config import load_config
from neurosym.learning.train import train
from neurosym.loop import Stages
from neurosym.records import Candidate, Rule
from neurosym.review import load_candidates, save_candidates
from neurosym.review.ledger import normal_text, rule_key
from neurosym.rounds import Policy

NAME: Final = "rule-recovery"
SEEDS: Final = (0, 1, 3)
"""Threshold and least confidence were chosen on the validation films of seed 2."""
FILMS: Final = {"train": 200, "val": 500, "test": 300}
FIRST: Final = 20
SAME: Final = 0.9
CATEGORY: Final = ("typical", "upper-ground-glass", "parapneumonic", "upper-lobe")
ANATOMY: Final = (
    "right-lung-heart", "heart-left-lung", "lung-heart-size", "lung-nodule-size", "effusion-lower", "effusion-peripheral"
)  # fmt: skip
"""The generating rules that are Horn rules with one atom in their head; one whose head says that something exists is not."""
EVERY: Final = "every head"
LISTS: Final[dict[str, tuple[str, ...]]] = {
    "label": CATEGORIES,
    **{head: (head,) for head in ("left_of", "larger_than", "lower_zone", "peripheral")},
    EVERY: (),
}
"""What is asked for, by `--target`: the study labels, a relation, a place; nothing named."""
THRESHOLD: Final = 0.7
SEARCH: Final = InductionConfig(min_confidence=0.6, max_body=6, top=FIRST)
"""`--fill-up` where heads are asked for."""
LEAST: Final = 0.8
"""Of a rule that is accepted, the confidence on annotated films."""


def generating() -> dict[str, Rule]:
    """The rules that are to be recovered, by id."""
    texts = {r.id: r.text for r in GENERATING_RULES}
    return {name: parse_rules(texts[name])[0] for name in (*CATEGORY, *ANATOMY)}


def list_of(rule: Rule) -> str:
    """The list of candidates that a rule should be in."""
    head = rule.head[0].predicate
    return "label" if head in CATEGORIES else head


def figures() -> list[Figure]:
    """Rules recovered, how far each is, what became of the confounder, and of what the plausibility filter accepts."""
    runs = [recorded(seed) for seed in SEEDS]
    found = []
    for kind, names in (("category", CATEGORY), ("anatomical", ANATOMY)):
        several = f"{kind} rules recovered, of {len(names)}"
        found += [
            figure(f"{several}, their heads asked for", runs, _recovered("predictions", names), f">= {len(names)}"),
            figure(f"{several}, no head asked for", runs, _recovered("predictions", names, EVERY)),
            figure(f"{several}, their heads asked for, from annotations", runs, _recovered("annotations", names)),
        ]
        for name in names:
            own = list_of(generating()[name])
            for key in ("overlap", "covered"):
                found.append(figure(f"{name}: {key}", runs, _share("predictions", own, name, key)))
    return [
        *found,
        figure("the confounded rule is flagged", runs, lambda r: r["confounder"]["flagged"], ">= 1"),
        figure("the confounded rule is among the candidates", runs, lambda r: r["confounder"]["found"]),
        figure("recovered rules that are blamed on the hospital", runs, lambda r: r["blamed"], "<= 0"),
        figure("candidates accepted by figures", runs, lambda r: len(r["accepted"])),
        figure(f"accepted with a confidence below {LEAST} on annotated films", runs, _false, "<= 0"),
        figure("AP50, test", runs, lambda r: r["ap50"]),
    ]


def _share(source: str, own: str, name: str, key: str) -> Callable[[dict[str, Any]], float]:
    return lambda run: float(run[source][own]["rules"][name][key])


def _recovered(source: str, names: tuple[str, ...], asked: str = "") -> Callable[[dict[str, Any]], float]:
    shares = [_share(source, asked or list_of(generating()[name]), name, "overlap") for name in names]
    return lambda run: sum(share(run) >= SAME for share in shares)


def _false(run: dict[str, Any]) -> float:
    return sum(a["confidence"] < LEAST for a in run["accepted"])


def recorded(seed: int) -> dict[str, Any]:
    """The record of one seed, computed if there is none yet."""
    logging.getLogger("neurosym").setLevel("ERROR")
    path = HERE / NAME / "config.yaml"
    wanted = [str(r) for r in generating().values()]
    settings = [path.read_text(encoding="utf-8"), FILMS, TYPICAL, TUBING, wanted, str(SEARCH), THRESHOLD, LISTS, seed]
    found: dict[str, Any] = record(NAME, f"seed{seed}", settings, lambda: compute(seed))
    return found


def compute(seed: int) -> dict[str, Any]:
    """Draw films, train, induce, assess."""
    folder = HERE.parent / "runs" / NAME / f"seed{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    splits = {}
    for k, (split, number) in enumerate(FILMS.items()):
        draw_films(folder / "films", split, number, 100_000 * seed + 30_000 * k, PhantomConfig(seed=7))
        splits[split] = {"annotations": str(folder / f"films/{split}.json"), "images": str(folder / "films" / split)}
    overrides = [
        f"data.{split}={{annotations: {p['annotations']}, images: {p['images']}}}" for split, p in splits.items()
    ]
    train(load_config(HERE / NAME / "config.yaml", (f"seed={seed}", *overrides)), folder / "run")
    found = Stages.of(folder / "run").evaluate(overlays=0)
    result = judged(Stages.of(folder / "run", "val", THRESHOLD)) | {k: found[k] for k in ("ap", "ap50", "per_class")}
    shutil.rmtree(folder)
    return result


def judged(stages: Stages) -> dict[str, Any]:
    """Induce from annotations and from predictions of a split, assess the latter; all is held against annotated test films."""
    held = held_in(replace(stages, split="test").true_facts())
    result: dict[str, Any] = {}
    lists: dict[str, list[Candidate]] = {}
    for source in ("annotations", "predictions"):
        asked = {name: replace(SEARCH, targets=heads, fill_up=bool(heads)) for name, heads in LISTS.items()}
        lists = {name: stages.induce(config, truth=source == "annotations") for name, config in asked.items()}
        result[source] = {name: compared(name, candidates, held) for name, candidates in lists.items()}
    return result | assessed(stages, lists, held)


def compared(asked: str, candidates: list[Candidate], held: Held) -> dict[str, Any]:
    """Candidates, and of each rule of their heads the best overlap, and the share of its facts that they derive together."""
    made = [derived(c.rule, held) for c in candidates]
    rules = {
        name: recovery(derived(rule, held), made)
        for name, rule in generating().items()
        if asked in (EVERY, list_of(rule))
    }
    return {"candidates": [str(c.rule) for c in candidates], "rules": rules}


def assessed(stages: Stages, lists: dict[str, list[Candidate]], held: Held) -> dict[str, Any]:
    """What plausibility says of the candidates of a run's predictions, and of the confounded rule, whether it is one or not."""
    path = stages.run.path / "candidates.json"
    candidates = {rule_key(c.rule): c for several in lists.values() for c in several}
    [planted] = parse_rules(CONFOUNDED)
    found = rule_key(planted) in candidates
    confounded = candidates.setdefault(rule_key(planted), as_candidate(planted, stages)).rule
    save_candidates(path, candidates.values(), load_candidates(path)[1])
    assessments = {a.rule: a for a in stages.assess(resamples=500).assessments}

    def of_site(rule: Rule) -> list[str]:
        blamed = assessments[normal_text(rule)].confounders
        return [c.message for c in blamed if c.attribute == "site"]

    true = [derived(rule, held) for rule in generating().values()]
    recovered = [c.rule for c in candidates.values() if any(overlap(derived(c.rule, held), t) >= SAME for t in true)]
    accepted = [c.rule for c in candidates.values() if not Policy().objection(assessments[normal_text(c.rule)])]
    return {
        "confounder": {"found": found, "flagged": bool(of_site(confounded)), "messages": of_site(confounded)},
        "blamed": sum(bool(of_site(rule)) for rule in recovered),
        "accepted": [{"rule": str(rule), "confidence": round(confidence(rule, held), 4)} for rule in accepted],
    }


def as_candidate(rule: Rule, stages: Stages) -> Candidate:
    """A rule that the learner did not offer, measured on the same facts."""
    found = evaluate_rule(rule, stages.facts())
    measures = (found.support, found.body_size, found.confidence, found.pca_confidence, found.head_coverage, found.lift)
    return Candidate(replace(rule, weight=round(found.confidence, 3), meta={"id": "planted"}), *measures)
