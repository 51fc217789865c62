"""Exact conjunctive queries: a table of bindings, one column a variable, joined atom by atom in NumPy.

An atom whose variables are all bound filters rows (semi-join); one that shares a variable expands rows through the
relation's compressed rows (`np.repeat`); one that shares none is crossed with the facts *of the same scene*. The next
atom is the one with the smallest expected table. Under injective semantics rows in which two variables bind one entity
are removed at once.

Work is bounded: a table that would exceed `cap` rows raises `TooExpensiveError` before it is built. The result is
therefore exact or absent, never approximate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurosym.induction.index import BoolArray, FactIndex, FloatArray, IntArray, Relation

Step = tuple[Relation, tuple[int, ...]]
"""An atom of a query: a relation, and the variable at each of its places."""


class TooExpensiveError(Exception):
    """A table of bindings would have more rows than the cap allows."""


@dataclass(slots=True)
class Table:
    """Bindings: one array per variable, all of the same length; rows are distinct.

    `anchor` is any entity of the row's scene; `weight` the product of the weights of the facts used, None when not
    asked.
    """

    columns: dict[int, IntArray]
    anchor: IntArray
    weight: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.anchor)

    def take(self, rows: IntArray | BoolArray) -> Table:
        """The chosen rows (a mask or positions)."""
        columns = {variable: column[rows] for variable, column in self.columns.items()}
        return Table(columns, self.anchor[rows], None if self.weight is None else self.weight[rows])


def bind(
    index: FactIndex,
    steps: Sequence[Step],
    *,
    injective: bool,
    cap: int,
    weighted: bool = False,
    start: Table | None = None,
    constants: frozenset[int] = frozenset(),
) -> Table:
    """All bindings of the variables that satisfy every atom, within one scene each.

    Args:
        steps: the atoms; at least one unless `start` is given.
        injective: distinct variables bind distinct entities; `constants` are exempt.
        cap: most rows of any intermediate table.
        weighted: also multiply the weights of the facts.
        start: bindings to extend instead of starting afresh.
        constants: variables that stand for a constant.

    Raises:
        TooExpensiveError: when the cap would be exceeded.
    """
    remaining = list(steps)
    if start is None:
        first = min(remaining, key=lambda step: len(step[0]))
        remaining.remove(first)
        table = _facts(first, weighted, injective, cap, constants)
    else:
        table = start
    while remaining and len(table):
        step = min(remaining, key=lambda step: _expansion(index, table, step))
        remaining.remove(step)
        table = _join(index, table, step, injective, cap, constants)
    if remaining:  # nothing left to join with: give the missing variables their (empty) columns
        table = table.take(np.zeros(0, dtype=np.int64))
        for _, variables in remaining:
            for variable in variables:
                table.columns.setdefault(variable, np.zeros(0, dtype=np.int64))
    return table


def _facts(step: Step, weighted: bool, injective: bool, cap: int, constants: frozenset[int]) -> Table:
    relation, variables = step
    if len(relation) > cap:
        raise TooExpensiveError
    columns = {variables[0]: relation.first}
    weight = relation.weight if weighted else None
    if relation.arity == 1:
        return Table(columns, relation.first, weight)
    loops = relation.first == relation.second
    if variables[0] == variables[1]:
        return Table(columns, relation.first, weight).take(loops)
    table = Table({**columns, variables[1]: relation.second}, relation.first, weight)
    if injective and loops.any() and not constants.intersection(variables):
        return table.take(~loops)
    return table


def _expansion(index: FactIndex, table: Table, step: Step) -> float:
    """Expected rows per row: at most 1 for a filter, else the mean number of facts that a row meets."""
    relation, variables = step
    bound = [variable in table.columns for variable in variables]
    if all(bound):
        return 0.0
    if any(bound):
        return len(relation) / max(1, len(index.entities))
    return len(relation) / max(1, len(index.scenes))


def _join(index: FactIndex, table: Table, step: Step, injective: bool, cap: int, constants: frozenset[int]) -> Table:
    relation, variables = step
    bound = [variable in table.columns for variable in variables]
    if all(bound):
        result = table.take(index.holds(relation, *(table.columns[v] for v in variables)))
        if result.weight is not None:
            result.weight = result.weight * index.weights(relation, *(result.columns[v] for v in variables))
        return result
    if bound[0]:
        rows, places = _expand(relation.first_start, table.columns[variables[0]], cap)
    elif any(bound):
        rows, places = _expand(relation.second_start, table.columns[variables[1]], cap)
        places = relation.second_order[places]
    else:
        rows, places = _expand(relation.scene_start, index.scene_of[table.anchor], cap)
    new = {v: (relation.first, relation.second)[i][places] for i, v in enumerate(variables) if not bound[i]}
    keep = np.ones(len(rows), dtype=bool)
    if len(variables) == 2 and variables[0] == variables[1]:
        keep &= relation.first[places] == relation.second[places]
    if injective:
        _distinct(keep, table, rows, new, constants)
    if not keep.all():
        rows, places = rows[keep], places[keep]
        new = {v: column[keep] for v, column in new.items()}
    result = table.take(rows)
    result.columns.update(new)
    if result.weight is not None:
        result.weight = result.weight * relation.weight[places]
    return result


def _expand(start: IntArray, keys: IntArray, cap: int) -> tuple[IntArray, IntArray]:
    """For each row, all positions start[key] … start[key + 1] - 1: (row of the old table, position), row-major."""
    begin = start[keys]
    count = start[keys + 1] - begin
    total = int(count.sum())
    if total > cap:
        raise TooExpensiveError
    rows = np.repeat(np.arange(len(keys)), count)
    ends = np.cumsum(count)
    return rows, np.arange(total) + np.repeat(begin - ends + count, count)


def _distinct(
    keep: BoolArray,
    table: Table,
    rows: IntArray,
    new: dict[int, IntArray],
    constants: frozenset[int],
) -> None:
    """Clear `keep` where a new variable binds the entity of another variable."""
    fresh = [v for v in new if v not in constants]
    for i, variable in enumerate(fresh):
        for other, column in table.columns.items():
            if other not in constants:
                keep &= new[variable] != column[rows]
        for other in fresh[:i]:
            keep &= new[variable] != new[other]
