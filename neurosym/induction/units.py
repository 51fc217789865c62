"""A rule scene by scene, and body against no body: what intervals, bootstraps and stratified comparisons count.

`counts_by_scene` splits the body size and the support of `evaluate_rule` by scene. `units_of` also counts where the body does
not hold, `units_within` where part of it does not. A *unit* is a way to fill the variables of the head that the body binds:

- with what the classes say that the body names for these variables, if the body says something more: for lower_zone(X) :-
  opacity(X), inside(X, L), left_lung(L) the units are the opacities, and those inside the left lung are held against the
  others;
- else with whatever there is in a scene of the same kind, objects or the image itself: for covid(S) :- severe(S) every image
  that something is said of as a whole;
- for a head that shares no variable with the body, each scene is one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurosym.induction.engine import WORK_CAP, ground, head_weights
from neurosym.induction.index import BoolArray, FactIndex, IntArray
from neurosym.induction.joins import Table, TooExpensiveError
from neurosym.knowledge.subsumption import Coded, encode
from neurosym.records import Rule


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """For each unit its scene (a number in `FactIndex.scenes`), and whether body and head hold."""

    scene: IntArray
    body: BoolArray
    head: BoolArray


def counts_by_scene(rule: Rule, index: FactIndex, work_cap: int = WORK_CAP) -> tuple[IntArray, IntArray]:
    """Support and body size of a rule in each of `index.scenes`; for what is raised see `evaluate_rule`.

    Invariant: they add up to those of `evaluate_rule`.
    """
    groundings, held, _ = ground(rule, index, work_cap=work_cap)
    scene = index.scene_of[groundings.anchor]
    count = len(index.scenes)
    return np.bincount(scene[held > 0], minlength=count), np.bincount(scene, minlength=count)


def units_of(rule: Rule, index: FactIndex, work_cap: int = WORK_CAP) -> Units | None:
    """Every unit of a rule; None if they, or their heads' bindings, are more than `work_cap`.

    For what is raised see `evaluate_rule`.
    """
    groundings, _, _ = ground(rule, index, work_cap=work_cap)
    table = _universe(rule, index, groundings, work_cap)
    if table is None:
        return None
    head = encode(rule.head, {})
    try:
        held = head_weights(index, head, table, True, work_cap) > 0
    except TooExpensiveError:
        return None
    return Units(index.scene_of[table.anchor], _among(table, groundings, index), held)


def units_within(rule: Rule, less: Rule, index: FactIndex, work_cap: int = WORK_CAP) -> Units:
    """The units of `less` in which its body holds, told apart by whether the whole body of `rule` does.

    Args:
        rule: the rule.
        less: the same with fewer atoms in its body, which bind the same variables of the head.
        index: the facts.
        work_cap: see `evaluate_rule`, for what is raised too.
    """
    there, held, _ = ground(less, index, work_cap=work_cap)
    groundings, _, _ = ground(rule, index, work_cap=work_cap)
    return Units(index.scene_of[there.anchor], _among(there, groundings, index), held > 0)


def _universe(rule: Rule, index: FactIndex, groundings: Table, cap: int) -> Table | None:
    """All units, as bindings of the variables that the groundings bind; two at most, as an atom has no more."""
    variables = tuple(groundings.columns)
    if not variables:
        return Table({}, index.scene_start[:-1])
    numbers: dict[str, int] = {}
    encode(rule.head, numbers)
    body = encode(rule.body, numbers)
    classes = [atom for atom in body if len(atom[1]) == 1 and atom[1][0] in groundings.columns]
    more = len(classes) < len(body)
    pools = [_pool(v, classes if more else [], index, groundings.columns[v]) for v in variables]
    columns = _product(pools, index, cap)
    if columns is None:
        return None
    distinct = np.ones(len(columns[0]), dtype=bool)
    for i in range(len(columns)):
        for j in range(i):
            distinct &= columns[i] != columns[j]
    kept = {v: column[distinct] for v, column in zip(variables, columns, strict=True)}
    return Table(kept, columns[0][distinct])


def _pool(variable: int, classes: Sequence[Coded], index: FactIndex, bound: IntArray) -> IntArray:
    """The entities that a variable may be: of its classes, or of the kind of what it is bound to."""
    named = [predicate for predicate, args in classes if args == (variable,)]
    kept = np.ones(len(index.entities), dtype=bool)
    if not named:
        whole = np.array([scene == name for scene, name in index.entities], dtype=bool)
        kinds = np.unique(whole[bound])
        return np.flatnonzero(np.isin(whole, kinds))
    for predicate in named:
        number = index.number(predicate)
        members = np.empty(0, dtype=np.int64) if number is None else index.relations[number].first
        kept &= np.isin(np.arange(len(kept)), members)
    return np.flatnonzero(kept)


def _product(pools: Sequence[IntArray], index: FactIndex, cap: int) -> list[IntArray] | None:
    """Every choice of one entity from each pool, all of one scene; None if there are more than `cap`."""
    columns = [pools[0]]
    for pool in pools[1:]:
        bounds = np.searchsorted(pool, index.scene_start)  # entities are numbered scene by scene
        scene = index.scene_of[columns[0]]
        width = np.diff(bounds)[scene]
        if width.sum() > cap:
            return None
        first = np.repeat(bounds[scene], width)
        within = np.arange(len(first)) - np.repeat(np.cumsum(width) - width, width)
        columns = [np.repeat(column, width) for column in columns] + [pool[first + within]]
    return columns


def _among(table: Table, groundings: Table, index: FactIndex) -> BoolArray:
    """Which rows are among the groundings; by their scene, where there are no variables."""
    variables = tuple(groundings.columns)
    if not variables:
        return np.asarray(np.isin(index.scene_of[table.anchor], index.scene_of[groundings.anchor]))
    return np.asarray(np.isin(_keys(table, variables, index), _keys(groundings, variables, index)))


def _keys(table: Table, variables: Sequence[int], index: FactIndex) -> IntArray:
    """A number for each binding; two bindings of at most two variables have the same iff they are the same."""
    key = table.columns[variables[0]]
    for variable in variables[1:]:
        key = key * len(index.entities) + table.columns[variable]
    return key
