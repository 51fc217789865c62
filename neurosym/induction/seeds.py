"""Every body of one and two atoms, exactly once: the exhaustive start of the search.

Shapes first (which places share a variable), then relations, so that renamings are never generated. With scenes an atom
need not touch the others (`right_lung(X), heart(Y)`); in a general graph body and head must be connected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, permutations, product

import numpy as np

from neurosym.induction.clauses import Body, BodyAtom, free_variables, is_connected
from neurosym.induction.index import BoolArray, FactIndex
from neurosym.induction.scores import Spelling
from neurosym.induction.subsumption import Known

Shape = tuple[tuple[int, ...], ...]


def shapes(atoms: int, arity: int, most_variables: int, connected: bool) -> list[Shape]:
    """The argument patterns of bodies with so many atoms that bind all head variables, up to renaming and order.

    >>> shapes(1, arity=1, most_variables=2, connected=True)
    [((0,),), ((0, 1),), ((1, 0),)]
    """
    variables = range(most_variables)
    patterns: list[tuple[int, ...]] = [(v,) for v in variables] + list(permutations(variables, 2))
    found: dict[Shape, Shape] = {}
    for combination in combinations_with_replacement(patterns, atoms):
        coded = [(len(args), args) for args in combination]
        used = {v for args in combination for v in args}
        if not used.issuperset(range(arity)) or (connected and not is_connected(coded, range(arity))):
            continue
        free = free_variables(coded, arity)
        spellings = []
        for order in permutations(free):
            new = {v: arity + i for i, v in enumerate(order)}
            spellings.append(tuple(sorted(tuple(new.get(v, v) for v in args) for args in combination)))
        found.setdefault(min(spellings), min(spellings))
    return sorted(found)


def compatible_places(index: FactIndex) -> BoolArray:
    """[place, place]: do two argument places have an entity in common? Place 2r + i is argument i of relation r."""
    occupied = np.zeros((2 * len(index.relations), len(index.entities)), dtype=np.float32)
    for number, relation in enumerate(index.relations):
        occupied[2 * number, relation.first] = 1.0
        occupied[2 * number + 1, relation.second] = 1.0
    return np.asarray(occupied @ occupied.T > 0)


def fits(atoms: Sequence[BodyAtom], places: BoolArray) -> bool:
    """Can every variable be the same entity at all its places? A necessary condition for the body to hold anywhere."""
    at: dict[int, list[int]] = {}
    for predicate, args in atoms:
        for i, v in enumerate(args):
            place = 2 * predicate + i
            if not all(places[place, other] for other in at.setdefault(v, [])):
                return False
            at[v].append(place)
    return True


def bodies(
    index: FactIndex, atoms: int, arity: int, most_variables: int, spelling: Spelling, known: Known, places: BoolArray
) -> Iterator[Body]:
    """All bodies with so many atoms that can hold, in canonical form, each once, none with a superfluous atom."""
    by_arity = {a: [i for i, r in enumerate(index.relations) if r.arity == a] for a in (1, 2)}
    seen: set[Body] = set()
    for shape in shapes(atoms, arity, most_variables, connected=not index.has_scenes):
        for relations in product(*(by_arity[len(args)] for args in shape)):
            body = spelling.body(list(zip(relations, shape, strict=True)), arity)
            if len(body) == atoms and body not in seen:
                seen.add(body)
                if fits(body, places) and (atoms == 1 or not known.superfluous(body)):
                    yield body
