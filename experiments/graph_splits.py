"""The standard splits of knowledge graphs, and how well rules complete them: what the experiments on rules share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurosym.induction.kg.aggregation import METHODS, aggregation
from neurosym.induction.kg.applied import arrange
from neurosym.induction.kg.completion import best_aggregation, rank_answers
from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.reading import Splits, read_splits
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import TripleStore


def read(folder: Path) -> Splits:
    """The training, validation and test facts of a folder."""
    return read_splits(train_file(folder), folder / "valid.txt", folder / "test.txt")


def train_file(folder: Path) -> Path:
    """Where the training facts are, which may be packed."""
    plain = folder / "train.txt"
    return plain if plain.exists() else folder / "train.txt.gz"


def training_facts(splits: Splits) -> TripleStore:
    """The training facts as a store of their own, put together anew."""
    return TripleStore.of_numbers(splits.train.entities, splits.train.relations, *splits.train.columns())


def scored(splits: Splits, rules: RuleColumns, workers: int, method: str = "") -> dict[str, Any]:
    """Test ranks, by the method that ranks validation facts best unless one is given."""
    store = splits.train
    applied = arrange(store, rules)
    if method in METHODS:
        how = aggregation(store, rules, method)
    else:
        method, how = best_aggregation(store, rules, applied, splits.valid, splits.known, workers)
    ranking = rank_answers(store, applied, how, splits.test, splits.known, workers)
    told = {"mrr": ranking.mrr, "hits1": ranking.hits(1), "hits10": ranking.hits(10)}
    return {**told, "rules": len(rules), "method": method}


def warm_up() -> None:
    """Have everything compiled, which is kept on disk from then on; what is raced in large graphs alone `fit` sees to."""
    facts = [(f"x{i}", "p", f"x{(i * 7) % 20}") for i in range(20)] + [
        (f"x{i}", "q", f"x{(i * 3) % 20}") for i in range(20)
    ]
    config = LearnerConfig(budget=None, generations=60, evolution=EvolutionConfig(islands=1), workers=1, support=1)
    RuleLearner(config).fit(TripleStore.of(facts))
