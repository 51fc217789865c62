"""Few rules instead of many: those that the known facts need.

A rule is *needed* if it is among the `depth` most trusted ones for some known fact that it predicts. Of millions most are not.

It is asked from the facts of one relation after another: from an x its paths and other sets of pairs are followed, the most
trusted first, until no fact h(x, y) could take up one more; for h(X, c) the members of c's row are held against the bodies. So
wrong answers, of which rules have many more than right ones, are hardly looked at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from neurosym.induction.kg.applied import WORK, Applied, Workplace, arrange, excepted, order_of_pairs, workplace_for
from neurosym.induction.kg.bodies import Body
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.engine import solve
from neurosym.induction.kg.evaluator import Members
from neurosym.induction.kg.kernels import enter, find, find_row, reach
from neurosym.induction.kg.rules import BodyRules, ConstantRules, PathRules, RuleColumns
from neurosym.induction.kg.store import Csr, Float32, Int32, Int64, TripleStore

_AT_ONCE: Final = 5000
"""Facts of a relation that are looked at before the clock is."""
Chosen = NDArray[np.bool_]
Float64 = NDArray[np.float64]


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


class Need(NamedTuple):
    """Of each rule the sum over the facts that need it of 1, 1/2, 1/3, … where it is their first, second, third, so 0 iff none
    does; and whether all relations were looked at."""

    worth: Float64
    complete: bool


class Ranked(NamedTuple):
    """Values of rules; of `Applied` the paths, pairs and rules with constants, the most trusted of each head first."""

    value: Float32
    path: Int64
    pair: Int64
    head: Int64


class Lists(NamedTuple):
    """Of each fact of a relation its `filled` most trusted rules."""

    value: Float32
    rule: Int32
    filled: Int32


class Selection:
    """Asks known facts which of some rules they need.

    Args:
        depth: how many most trusted rules a fact needs.
        most: facts of each relation to look at, or so: those of some entities, drawn by the seed; the others need no rule.
    """

    def __init__(
        self,
        store: TripleStore,
        rules: RuleColumns,
        depth: int,
        most: int | None = None,
        seed: int = 0,
        workers: int = 1,
    ) -> None:
        self.store, self.rules, self.depth, self.workers = store, rules, depth, workers
        self._applied = arrange(store, rules)
        self._ranked = _ranked(rules, self._applied)
        self._facts = np.diff(store.csr.start[store.csr.first_row])[::2]
        self._shares = np.ones(len(self._facts)) if most is None else np.minimum(1.0, most / np.maximum(1, self._facts))
        self._draws = np.random.default_rng(seed).random(len(store.entities))

    def part(self, first: float, share: float) -> None:
        """Do a share of the work of `needed`."""
        self.needed(first=first, share=share)

    def needed(self, until: float | None = None, share: float = 1.0, first: float = 0.0) -> Need:
        """How much each rule is needed.

        Args:
            until: when to stop, by the clock of `time.monotonic`; of the relations not looked at by then every rule is needed.
            share: of the entities that would be looked at, how many are: those from this share of them on, `first`.
        """
        relation = self.rules.relations(self.store.csr.direction_of)
        heads = np.bincount(relation, minlength=len(self._facts))
        order = np.argsort(-self._facts, kind="stable")
        left = iter(order[heads[order] > 0].tolist())

        def look(relations: Iterator[int]) -> tuple[Float64, list[int]]:
            worth, late = np.zeros(len(self.rules)), []
            place = workplace_for(len(self.store.entities))
            for r in relations:
                draws = self._draws / self._shares[r]
                pieces = 1 if until is None else 1 + int(self._facts[r]) // _AT_ONCE
                for k in range(pieces):
                    if until is not None and time.monotonic() > until:
                        late.append(r)
                        break
                    low, high = first + share * k / pieces, first + share * (k + 1) / pieces
                    worth += self._worth(r, (draws >= low) & (draws < high), place)
            return worth, late

        with ThreadPoolExecutor(self.workers) as pool:
            found = list(pool.map(look, [left] * self.workers))
        late = [r for _, own in found for r in own]
        worth = np.asarray(np.sum([own for own, _ in found], axis=0) + np.isin(relation, late))
        return Need(worth, not late)

    def _worth(self, relation: int, looked: Chosen, place: Workplace) -> Float64:
        """What facts of one relation add."""
        facts = self._facts[relation]
        table = facts, self.depth
        lists = Lists(np.zeros(table, np.float32), np.zeros(table, np.int32), np.zeros(facts, np.int32))
        _look(self.store.csr, self._applied, self._ranked, relation, looked, place, lists)
        there = np.arange(self.depth) < lists.filled[:, None]
        weights = np.broadcast_to(1.0 / np.arange(1, self.depth + 1), there.shape)
        return np.bincount(lists.rule[there], weights[there], minlength=len(self.rules)).astype(np.float64)


def _ranked(rules: RuleColumns, applied: Applied) -> Ranked:
    value = rules.smoothed
    of_path, of_pair = (
        np.repeat(np.arange(len(start) - 1), np.diff(start)) for start in (applied.path_start, applied.pair_start)
    )
    return Ranked(
        value,
        np.lexsort((-value[applied.path_rule], of_path)),
        np.lexsort((-value[applied.pair_rule], of_pair)),
        np.lexsort((-value[applied.rule], applied.head)),
    )


@compiled
def _look(csr: Csr, rules: Applied, ranked: Ranked, r: int, looked: Chosen, place: Workplace, lists: Lists) -> None:
    """Enter all rules into the lists of the facts of relation r that some entities have.

    The entities are of the side of r that has more of them, from which paths lead to fewer ends.
    """
    first, middle, last = csr.first_row[2 * r], csr.first_row[2 * r + 1], csr.first_row[2 * r + 2]
    h = 2 * r if middle - first >= last - middle else 2 * r + 1
    for g in range(csr.first_row[h], csr.first_row[h + 1]):
        if looked[csr.source[g]]:
            _enter_pairs(csr, rules, ranked, h, g, place, lists)
    for g in range(first, last):
        if rules.head_start[g] < rules.head_start[g + 1] and (csr.direction_of[g] != h or looked[csr.source[g]]):
            _enter_members(csr, rules, ranked, h, g, looked, lists)


@compiled
def _fact(csr: Csr, g: int, e: int) -> int:
    """The number among its relation's facts of fact e of row g."""
    d = csr.direction_of[g]
    first = csr.start[csr.first_row[d - (d & 1)]]
    if d & 1 == 0:
        return int(e - first)
    back = csr.back[e]
    return int(find(csr.target, csr.start[back], csr.start[back + 1], csr.source[g]) - first)


@compiled
def _weakest(csr: Csr, g: int, lists: Lists) -> float:
    """What a rule must exceed to be entered for some fact of row g; 0 if a list has room."""
    depth = lists.value.shape[1]
    least = np.float32(np.inf)
    for e in range(csr.start[g], csr.start[g + 1]):
        if csr.target[e] != csr.source[g]:
            least = min(least, lists.value[_fact(csr, g, e), depth - 1])
    return float(least)


@compiled
def _enter_pairs(csr: Csr, rules: Applied, ranked: Ranked, h: int, g: int, place: Workplace, lists: Lists) -> None:
    """Paths and other sets of pairs, from the entity of row g."""
    x, space, room = csr.source[g], place.space, place.room
    weakest = _weakest(csr, g, lists)
    for k in range(rules.path_start[h], rules.path_start[h + 1]):
        i = ranked.path[k]
        rule = rules.path_rule[i]
        if ranked.value[rule] <= weakest:
            break
        n, work = reach(csr, rules.path[i, : rules.length[i]], x, space, WORK)
        if work >= 0 and n > 0:
            weakest = _enter_marked(csr, g, space.mark, space.turn[0], ranked.value[rule], rule, lists)
    for k in range(rules.pair_start[h], rules.pair_start[h + 1]):
        i = ranked.pair[k]
        rule = rules.pair_rule[i]
        if ranked.value[rule] <= weakest:
            break
        n, work = solve(csr, order_of_pairs(rules.pairs, i), x, -1, -1, room, WORK)
        if work >= 0 and n > 0:
            weakest = _enter_marked(csr, g, room.mark, room.turn[0], ranked.value[rule], rule, lists)


@compiled
def _enter_marked(csr: Csr, g: int, mark: Int64, turn: int, value: float, rule: int, lists: Lists) -> float:
    """Enter a rule for the facts of row g whose ends are marked; what the next one must exceed."""
    for e in range(csr.start[g], csr.start[g + 1]):
        if mark[csr.target[e]] == turn and csr.target[e] != csr.source[g]:
            f = _fact(csr, g, e)
            lists.filled[f] = enter(lists.value[f], lists.rule[f], lists.filled[f], value, rule)
    return float(_weakest(csr, g, lists))


@compiled
def _enter_members(csr: Csr, rules: Applied, ranked: Ranked, h: int, g: int, looked: Chosen, lists: Lists) -> None:
    """The rules with row g for their head, for its members."""
    c, depth = csr.source[g], lists.value.shape[1]
    for e in range(csr.start[g], csr.start[g + 1]):
        x = csr.target[e]
        if csr.direction_of[g] != h and not looked[x]:
            continue
        f = _fact(csr, g, e)
        for k in range(rules.head_start[g], rules.head_start[g + 1]):
            i = ranked.head[k]
            value = ranked.value[rules.rule[i]]
            if value <= lists.value[f, depth - 1]:
                break
            if _fulfils(csr, rules, rules.body[i], x, c):
                lists.filled[f] = enter(lists.value[f], lists.rule[f], lists.filled[f], value, rules.rule[i])


@compiled
def _fulfils(csr: Csr, rules: Applied, b: int, x: int, c: int) -> bool:
    """Does x fulfil body b of a rule h(X, c)? See `Applied`."""
    rows = len(csr.source)
    first_set = rows + len(csr.first_row) - 1
    if b < rows:
        told = x != c and x != csr.source[b] and find(csr.target, csr.start[b], csr.start[b + 1], x) >= 0
    elif b < first_set:
        own = find_row(csr, b - rows, x)
        told = x != c and own >= 0 and rules.only[own] != -1 and rules.only[own] != c
    else:
        s, sets = b - first_set, rules.sets
        apart = x != c or not rules.pairs.distinct
        told = apart and find(sets.member, sets.start[s], sets.start[s + 1], x) >= 0 and not excepted(sets, s, x, c)
    return bool(told)


_Body = TypeVar("_Body", Members, Body)


def _used(bodies: tuple[_Body, ...], rules: BodyRules) -> tuple[tuple[_Body, ...], BodyRules]:
    """The bodies that rules still have, and the rules with their new numbers."""
    numbers, body = np.unique(rules.body, return_inverse=True)
    return tuple(bodies[i] for i in numbers.tolist()), rules._replace(body=body.astype(np.int32))
