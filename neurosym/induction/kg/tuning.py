"""A way of adding rules up for each direction of each relation: whatever ranks held-back facts of it best.

Whether many weak rules are worth a sure one, and what few sightings are worth, differs from relation to relation (SAFRAN, Ott,
Meilicke and Samwald, AKBC 2021, chooses by relation how it puts rules into groups). Each of a handful of ways ranks all
held-back facts. The way that is best for all of them is the usual one; a direction has another one where that is better by half
a standard error of the difference or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from neurosym.induction.kg.aggregation import Aggregation, ByDirection, aggregation
from neurosym.induction.kg.applied import Applied
from neurosym.induction.kg.completion import questions, rank_answers
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import Float32, Int64, TripleStore

_LEAST: Final = 3
"""Questions of a direction that has a way of its own."""
_SURE: Final = 0.5
_SUREST: Final = 0.9999
_CREDULOUS, _DOUBTFUL = 0.1, 25.0
"""Unseen counter-examples, instead of the usual 5."""


def ways_to_add_up(store: TripleStore, rules: RuleColumns) -> tuple[Aggregation, ...]:
    """The noisy-or and max-plus; the noisy-or of 20 rules, with less doubt of rules seen few times, with more, and with the
    evidence of paths, or of all rules that are none, halved."""
    usual, value = aggregation(store, rules, "noisy-or"), rules.smoothed
    is_path = np.arange(len(rules)) < len(rules.paths.head)
    half = 1 - np.sqrt(1 - value)

    def trusting(values: Float32, depth: int = usual.depth) -> Aggregation:
        values = np.minimum(values, _SUREST).astype(np.float32)
        return usual._replace(value=values, term=-np.log1p(-values), depth=depth)

    return (
        usual,
        aggregation(store, rules, "max-plus"),
        aggregation(store, rules, "noisy-or", 20),
        trusting(rules.support / (rules.size + _CREDULOUS))._replace(by_trust=False),
        trusting(rules.support / (rules.size + _DOUBTFUL))._replace(by_trust=False),
        trusting(np.where(is_path, half, value)),
        trusting(np.where(is_path, value, half), 10),
    )


def tuned_aggregation(
    store: TripleStore,
    rules: RuleColumns,
    applied: Applied,
    valid: Sequence[Int64],
    known: TripleStore,
    workers: int = 1,
) -> ByDirection:
    """The way of each direction that ranks held-back facts best.

    Args:
        valid: columns subject, relation, object of the facts held back, in numbers of the store.
        known: all that is known to be right.
    """
    ways = ways_to_add_up(store, rules)
    reciprocal = np.stack([1 / rank_answers(store, applied, how, valid, known, workers).ranks for how in ways])
    return ByDirection(ways, chosen_ways(reciprocal, questions(valid)[:, 1], store.directions))


def chosen_ways(reciprocal: np.ndarray, direction: Int64, directions: int) -> Int64:
    """Which way each direction has.

    Args:
        reciprocal: ranks 1 / rank of each way's answers (ways, questions).
        direction: of each question.
    """
    usual = int(reciprocal.mean(1).argmax())
    chosen = np.full(directions, usual)
    for d, count in enumerate(np.bincount(direction, minlength=directions).tolist()):
        if count >= _LEAST:
            own = reciprocal[:, direction == d]
            gain = own - own[usual]
            surely = gain.mean(1) > _SURE * gain.std(1) / np.sqrt(count)
            surely[usual] = True
            chosen[d] = np.where(surely, gain.mean(1), -np.inf).argmax()
    return chosen
