"""Formulas of one shape are compiled once: clauses in a canonical numbering, and the circuits of those seen last.

The ground theories of films are full of the same small components (a lung, a heart, the rule between them) on other
detections. Canonical numbering is colour refinement (Weisfeiler and Leman 1968) on the clauses and variables of the CNF.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from neurosym.constraints.circuits import (
    MAX_NODES,
    MAX_SECONDS,
    MAX_VARIABLES,
    Circuit,
    CircuitTooLargeError,
    Clauses,
    compile_cnf,
    tidy,
)

_CHOICES: Final = 8


def canonical(clauses: Iterable[Sequence[int]], variables: int) -> tuple[Clauses, tuple[int, ...]]:
    """The clauses under a numbering of their variables that does not depend on the one given, as far as it is found cheaply.

    Variables are told apart by the clauses they occur in, and these by their variables, round by round (colour refinement);
    a variable of those still alike is then set apart, at most `_CHOICES` times. Two formulas that differ only by numbering get
    the same clauses unless they are very regular; equal clauses always mean the same formula.

    Returns:
        The clauses, and for each of their variables (from 1) the one given: `old = order[new - 1]`.
    """
    kept = tidy(clauses, variables)
    colours = _refined(kept, [0] * variables)
    for _ in range(_CHOICES):
        seen: dict[int, int] = {}
        alike = [c for v, c in enumerate(colours) if seen.setdefault(c, v) != v]
        if not alike:
            break
        chosen = min(alike)
        colours[seen[chosen]] = -1
        colours = _refined(kept, colours)
    order = sorted(range(variables), key=lambda v: (colours[v], v))
    new = {old + 1: i for i, old in enumerate(order, 1)}
    renamed = [[new[abs(x)] * (1 if x > 0 else -1) for x in clause] for clause in kept]
    return tidy(renamed, variables), tuple(v + 1 for v in order)


def _refined(clauses: Clauses, colours: list[int]) -> list[int]:
    """Colours split until no variable of a colour has other clauses than the rest of it; ranks do not depend on numbering."""
    count = len(set(colours))
    while True:
        words = [tuple(sorted((colours[abs(x) - 1], x > 0) for x in clause)) for clause in clauses]
        rank = {word: i for i, word in enumerate(sorted(set(words)))}
        around: list[list[tuple[int, bool]]] = [[] for _ in colours]
        for clause, word in zip(clauses, words, strict=True):
            for x in clause:
                around[abs(x) - 1].append((rank[word], x > 0))
        signs = [(c, tuple(sorted(a))) for c, a in zip(colours, around, strict=True)]
        ranks = {sign: i for i, sign in enumerate(sorted(set(signs)))}
        colours = [ranks[sign] for sign in signs]
        if len(ranks) == count:
            return colours
        count = len(ranks)


class CircuitCache:
    """Compiled circuits by canonical clauses, the `capacity` used last; a formula that was too large is remembered as well.

    Clauses exactly as seen before are found without being made canonical again.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self.capacity = capacity
        self.compilations = 0
        self._known: OrderedDict[tuple[Any, ...], Circuit | str] = OrderedDict()
        self._names: OrderedDict[tuple[Any, ...], tuple[Clauses, tuple[int, ...]]] = OrderedDict()

    def get(
        self,
        clauses: Clauses,
        variables: int,
        *,
        max_variables: int = MAX_VARIABLES,
        max_nodes: int = MAX_NODES,
        max_seconds: float = MAX_SECONDS,
    ) -> tuple[Circuit, tuple[int, ...]]:
        """The circuit, and for each of its variables the one of `clauses` that it stands for (from 1).

        Raises:
            CircuitTooLargeError: as `compile_cnf`, at the first attempt and at later ones.
        """
        if variables > max_variables:
            raise CircuitTooLargeError(f"the formula has {variables} variables; the limit is {max_variables}")
        name = self._names.get((clauses, variables))
        if name is None:
            name = canonical(clauses, variables)
            _remember(self._names, (clauses, variables), name, self.capacity)
        canon, order = name
        key = (canon, variables, max_nodes, max_seconds)
        found = self._known.get(key)
        if found is None:
            self.compilations += 1
            try:
                found = compile_cnf(
                    canon, variables, max_variables=max_variables, max_nodes=max_nodes, max_seconds=max_seconds
                )
            except CircuitTooLargeError as error:
                found = str(error)
        _remember(self._known, key, found, self.capacity)
        if isinstance(found, str):
            raise CircuitTooLargeError(found)
        return found, order


def _remember(table: OrderedDict[tuple[Any, ...], Any], key: tuple[Any, ...], value: Any, capacity: int) -> None:
    table[key] = value
    table.move_to_end(key)
    while len(table) > capacity:
        table.popitem(last=False)
