"""Few rules instead of many: those that the known facts need.

A rule is *needed* if it is among the `depth` most trusted ones for some known fact that it predicts. Of millions most are not.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from neurosym.induction.kg.aggregation import Aggregation, Standing, nobody
from neurosym.induction.kg.applied import ROOM, Applied, Workplace, workplace_for
from neurosym.induction.kg.bodies import Body
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.completion import ask, drawn, questions
from neurosym.induction.kg.evaluator import Members
from neurosym.induction.kg.rules import BodyRules, ConstantRules, PathRules, RuleColumns
from neurosym.induction.kg.store import Csr, Int64, TripleStore

Chosen = NDArray[np.bool_]


def chosen_of(rules: RuleColumns, chosen: Chosen) -> RuleColumns:
    """The chosen ones of all rules, in their order; bodies that none of them has any more stay out."""
    bounds = np.cumsum([0, *(len(part.head) for part in rules.parts)])
    own = [np.flatnonzero(chosen[a:b]) for a, b in pairwise(bounds)]
    own_paths, own_constants, own_sets, own_pairs = own
    paths = PathRules(*(column[own_paths] for column in rules.paths))
    constants = ConstantRules(*(column[own_constants] for column in rules.constants))
    general = rules.general
    sets, of_sets = _used(general.sets, BodyRules(*(column[own_sets] for column in general.set_rules)))
    pairs, of_pairs = _used(general.pairs, BodyRules(*(column[own_pairs] for column in general.pair_rules)))
    general = replace(general, sets=sets, set_rules=of_sets, pairs=pairs, pair_rules=of_pairs)
    return RuleColumns(paths, constants, general)


def of_heads(store: TripleStore, rules: RuleColumns, targets: frozenset[int] | None) -> RuleColumns:
    """The rules whose head's relation is one of some; of all, if None."""
    if targets is None:
        return rules
    relation = rules.relations(store.csr.direction_of)
    return chosen_of(rules, np.isin(relation, sorted(targets)))


def needed(
    store: TripleStore,
    rules: RuleColumns,
    applied: Applied,
    how: Aggregation,
    most: int,
    seed: int = 0,
    workers: int = 1,
) -> Int64:
    """For how many known facts each rule is among the `how.depth` most trusted ones.

    Args:
        most: facts of each direction to look at, drawn by the seed; the others need no rule.
    """
    asked = drawn(questions(store.columns()), store.directions, most, np.random.default_rng(seed))
    used = np.zeros(len(rules), dtype=np.int64)

    def look(rows: Int64) -> Int64:
        own = np.zeros(len(rules), dtype=np.int64)
        place, standing = workplace_for(len(store.entities)), nobody(len(store.entities), how.depth)
        _look(store.csr, applied, how, asked[rows], place, standing, own)
        return own

    with ThreadPoolExecutor(workers) as pool:
        for own in pool.map(look, np.array_split(np.arange(len(asked)), 4 * workers)):
            used += own
    return used


@compiled
def _look(
    csr: Csr, applied: Applied, how: Aggregation, asked: Int64, place: Workplace, standing: Standing, used: Int64
) -> None:
    hits = np.empty((ROOM, 2), dtype=np.int32)
    for q in range(len(asked)):
        hits = ask(csr, applied, how, asked, q, place, standing, hits)
        answer = asked[q, 2]
        for k in range(standing.filled[answer]):
            used[standing.rule[answer, k]] += 1


_Body = TypeVar("_Body", Members, Body)


def _used(bodies: tuple[_Body, ...], rules: BodyRules) -> tuple[tuple[_Body, ...], BodyRules]:
    """The bodies that rules still have, and the rules with their new numbers."""
    numbers, body = np.unique(rules.body, return_inverse=True)
    return tuple(bodies[i] for i in numbers.tolist()), rules._replace(body=body.astype(np.int32))
