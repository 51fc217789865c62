"""Rules in columns become parents of the evolution, and what it keeps becomes columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurosym.induction.kg.bodies import (
    Body,
    X,
    Y,
    canonical,
    canonical_pair,
    chain,
    constant,
    is_pair,
    literal,
    path_of,
    swapped,
)
from neurosym.induction.kg.evaluator import Evaluator, Members
from neurosym.induction.kg.island import Kept
from neurosym.induction.kg.paths import backwards, joined_paths, path_rules
from neurosym.induction.kg.rules import BodyRules, General, PathRules, RuleColumns, pair_rule, set_rule
from neurosym.induction.kg.store import Int32, TripleStore
from neurosym.logic import Rule


def first_parents(store: TripleStore, rules: RuleColumns, each: int) -> list[Kept]:
    """Of every niche the most trusted rules, paths and constants, as many of each."""
    csr, value = store.csr, rules.smoothed
    found: list[Kept] = []
    paths, constants = rules.paths, rules.constants
    for i in _first(2 * paths.head, value[: len(paths.head)], each):
        body, back = canonical_pair(chain([int(d) for d in paths.path[i] if d >= 0], Y))
        found.append(Kept(body, 2 * int(paths.head[i]) + back, int(paths.support[i]), int(paths.size[i])))
    for i in _first(csr.direction_of[constants.head], value[len(paths.head) :][: len(constants.head)], each):
        b = int(constants.body[i])
        d, c = (-1 - b, 2) if b < 0 else (int(csr.direction_of[b]) ^ 1, constant(int(csr.source[b])))
        head, support, size = int(constants.head[i]), int(constants.support[i]), int(constants.size[i])
        found.append(Kept(canonical((literal(d, X, c),)), head, support, size))
    return found


def rule_of(store: TripleStore, kept: Kept) -> Rule:
    """A rule that the evolution kept, as people write it."""
    weight = kept.support / kept.size
    if not is_pair(kept.body):
        return set_rule(store, kept.head, kept.body, weight)
    return pair_rule(store, kept.head >> 1, swapped(kept.body) if kept.head & 1 else kept.body, weight)


def path_bodies(paths: PathRules) -> frozenset[Body]:
    """The canonical bodies of these rules."""
    rows = paths.path[np.lexsort(paths.path.T)]
    new = np.ones(len(rows), dtype=np.bool_)
    new[1:] = (rows[1:] != rows[:-1]).any(1)  # there are far more rules than paths
    distinct = [tuple(d for d in row if d >= 0) for row in rows[new].tolist()]
    return frozenset(canonical_pair(chain(row, Y))[0] for row in distinct)


def _first(niche: Int32, value: np.ndarray, each: int) -> list[int]:
    """The places of the highest values of each niche."""
    order = np.lexsort((-value, niche))
    first = np.searchsorted(niche[order], niche[order])
    return [int(i) for i in order[np.arange(len(order)) - first < each]]


def columns(evaluator: Evaluator, base: RuleColumns, kept: Sequence[Kept]) -> RuleColumns:
    """The rules of `base` and those that the evolution kept; sets that need too much work are left out, with their rules."""
    paths: list[tuple[int, tuple[int, ...], int, int]] = []
    sets: dict[Body, tuple[int, Members]] = {}
    pairs: dict[Body, int] = {}
    of_sets, of_pairs = [], []
    for rule in kept:
        path, back = path_of(rule.body), rule.head & 1
        if not is_pair(rule.body):
            if rule.body not in sets and (members := evaluator.members(rule.body)) is not None:
                sets[rule.body] = len(sets), members
            if rule.body in sets:
                of_sets.append((rule.head, sets[rule.body][0], rule.support, rule.size))
        elif path and evaluator.distinct:
            paths.append((rule.head >> 1, backwards(path) if back else path, rule.support, rule.size))
        else:
            body = swapped(rule.body) if back else rule.body
            of_pairs.append((rule.head >> 1, pairs.setdefault(body, len(pairs)), rule.support, rule.size))
    general = General(
        tuple(members for _, members in sets.values()),
        _table(of_sets),
        tuple(pairs),
        _table(of_pairs),
        evaluator.distinct,
    )
    return RuleColumns(joined_paths([base.paths, path_rules(paths)]), base.constants, general)


def _table(rows: Sequence[tuple[int, int, int, int]]) -> BodyRules:
    """Rows of (head, body, support, body size) as columns, sorted."""
    table = np.array(sorted(rows), dtype=np.int32).reshape(-1, 4)
    return BodyRules(*(np.ascontiguousarray(part) for part in table.T))
