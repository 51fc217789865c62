"""Which objects a rule speaks of: one case for each binding of the head's variables that its measures count.

A case stands for a distinct binding of the variables that head and body share (`neurosym.induction.engine`), so that of the
cases of all facts there are as many as the rule's body size, and as many that hold as its support. Each is shown by one
binding of all of the rule's variables: of the body's the one whose facts weigh most, and if the head holds, the same of those
that the head alone has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neurosym.errors import InductionError, Problem
from neurosym.induction.clauses import free_variables
from neurosym.induction.engine import ROW, WORK_CAP, query, require_measurable, steps_of
from neurosym.induction.index import FactIndex
from neurosym.induction.joins import Table, TooExpensiveError, bind
from neurosym.knowledge.subsumption import encode
from neurosym.records import FactStore, Rule


@dataclass(frozen=True, slots=True)
class Case:
    """One case for (`holds`) or against a rule: the entity of each variable, and the weight of the body's facts.

    Of a case against the rule, the variables that the head alone has are not bound.
    """

    scene: str
    holds: bool
    weight: float
    binding: Mapping[str, str]


def cases_of(rule: Rule, facts: FactStore | FactIndex, work_cap: int = WORK_CAP) -> list[Case]:
    """Every case of a rule on facts: those against it first, then by weight, then by name.

    Raises:
        InductionError: as `evaluate_rule`.

    >>> from neurosym.knowledge import parse_rules
    >>> from neurosym.records import Fact
    >>> film = FactStore((Fact("heart", ("d1",), scene="film"), Fact("large", ("d2",), scene="film")))
    >>> cases_of(parse_rules("large(X) :- heart(X).")[0], film)
    [Case(scene='film', holds=False, weight=1.0, binding={'X': 'd1'})]
    """
    index = facts if isinstance(facts, FactIndex) else FactIndex.of(facts)
    require_measurable(rule, index)
    numbers: dict[str, int] = {}
    head, body = encode(rule.head, numbers), encode(rule.body, numbers)
    unbound = {numbers[v.name] for v in rule.existential}
    frontier = [v for v in free_variables(head) if v not in unbound]
    try:
        table = query(index, body, rule.distinct, work_cap)
        best = _heaviest(table, [table.columns[v] for v in frontier] or [index.scene_of[table.anchor]])
        chosen = table.take(best)
        start = Table({v: chosen.columns[v] for v in frontier}, chosen.anchor, np.ones(len(chosen)))
        start.columns[ROW] = np.arange(len(chosen))
        steps, constants = steps_of(index, head)
        found = bind(index, steps, injective=rule.distinct, cap=work_cap, start=start, constants=constants | {ROW})
    except TooExpensiveError:
        cure = "add an atom that ties its variables together"
        raise InductionError(Problem(f"{rule} needs a table of more than {work_cap:,} rows", cure=cure)) from None
    witness = found.take(_heaviest(found, [found.columns[ROW]]))
    place = {int(row): i for i, row in enumerate(witness.columns[ROW])}
    names = {number: name for name, number in numbers.items()}
    assert chosen.weight is not None
    cases = []
    for row in range(len(chosen)):
        bound = {v: column[row] for v, column in chosen.columns.items() if v in names}
        if row in place:
            bound |= {v: witness.columns[v][place[row]] for v in unbound}
        binding = {names[v]: index.entities[entity][1] for v, entity in sorted(bound.items())}
        scene = index.scenes[index.scene_of[chosen.anchor[row]]]
        cases.append(Case(scene, row in place, float(chosen.weight[row]), binding))
    return sorted(cases, key=lambda c: (c.holds, -c.weight, c.scene, tuple(c.binding.items())))


def _heaviest(table: Table, key: list[np.ndarray]) -> np.ndarray:
    """For each distinct key the row with the largest weight, of equal ones that with the smallest entities."""
    assert table.weight is not None
    others = [table.columns[v] for v in sorted(table.columns, reverse=True)]
    order = np.lexsort([*others, -table.weight, *key])
    keys = np.stack([column[order] for column in key], axis=1)
    first = np.ones(len(order), dtype=bool)
    first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return order[first]
