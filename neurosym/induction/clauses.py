"""Rules as small integer tuples, and the one spelling that all variants of a rule share.

A *coded atom* is `(predicate, args)`, a variable a non-negative integer, a constant a string. The learner codes
predicates by their position in the fact index and keeps the head variables at 0 (and 1), so a body alone names a query:
the heads are scored all at once.

The canonical form is invariant under renaming of variables and reordering of atoms. It is exact: colour refinement
(each variable is told apart by where it occurs, then by its neighbours) and, within groups still alike, the least
spelling over all permutations. Rules have few variables, so the permutations are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product
from typing import Any, TypeVar

from neurosym.knowledge.subsumption import Coded, encode
from neurosym.records import Atom, Rule, Term

BodyAtom = tuple[int, tuple[int, ...]]
"""A coded atom of the learner: the relation's number, variables only."""
Body = tuple[BodyAtom, ...]
AtomT = TypeVar("AtomT", bound=tuple[Any, tuple[Any, ...]])

_NAMES = ("X", "Y", "Z", "W", "V", "U")


def free_variables(atoms: Sequence[Coded], pinned: int = 0) -> list[int]:
    """The variables numbered `pinned` or above, ascending."""
    return sorted({a for _, args in atoms for a in args if isinstance(a, int) and a >= pinned})


def canonical_body(
    atoms: Sequence[AtomT], pinned: int, spell: Callable[[AtomT], AtomT] | None = None
) -> tuple[AtomT, ...]:
    """The least spelling of a body: variables below `pinned` keep their numbers, the others are numbered on from there.

    `spell` rewrites an atom to the preferred one of its equivalents (left_of(X, Y) for right_of(Y, X)).

    >>> canonical_body([(3, (0, 7)), (1, (7,))], pinned=1)
    ((1, (1,)), (3, (0, 1)))
    """
    variables = free_variables(atoms, pinned)
    # Colours see the places of an atom, which respelling may exchange: then all orders must be tried.
    plain = len(variables) <= 2 or spell is not None
    orders = permutations(variables) if plain else _orders(atoms, variables)
    best: tuple[AtomT, ...] | None = None
    for order in orders:
        new = {v: pinned + i for i, v in enumerate(order)}
        renamed: list[Any] = [(p, tuple([new.get(a, a) for a in args])) for p, args in atoms]
        if spell is not None:
            renamed = [spell(atom) for atom in renamed]
        spelling = tuple(sorted(set(renamed)))
        if best is None or spelling < best:
            best = spelling
    assert best is not None  # there is always one order, the empty one
    return best


def canonical(rule: Rule) -> Rule:
    """The rule with its atoms sorted and its variables renamed V0, V1, …: equal for two rules iff they are variants.

        The weight is dropped and an atom written twice kept once.

    from neurosym.records import Atom, Rule, Term
        >>> x, y = Term("A"), Term("B")
        >>> str(canonical(Rule((Atom("left_of", (x, y)),), (Atom("right_of", (y, x)),))))
        'left_of(V0, V1) :- right_of(V1, V0).'
    """
    numbers: dict[str, int] = {}
    atoms = [(0, p, args) for p, args in encode(rule.head, numbers)]
    atoms += [(1, p, args) for p, args in encode(rule.body, numbers)]
    names = sorted({a for _, _, args in atoms for a in args if isinstance(a, str)})
    negative = {name: i - len(names) for i, name in enumerate(names)}  # so that a spelling holds integers only
    coded = [((place, p), tuple(negative[a] if isinstance(a, str) else a for a in args)) for place, p, args in atoms]
    head: list[Atom] = []
    body: list[Atom] = []
    for (place, predicate), args in canonical_body(coded, 0):
        terms = tuple(Term(f"V{a}") if a >= 0 else Term(names[a], is_variable=False) for a in args)
        (body if place else head).append(Atom(predicate, terms))
    return Rule(tuple(head), tuple(body))


def readable(head: str, arity: int, body: Body, relations: Sequence[str]) -> Rule:
    """A coded rule as a person writes it: X, Y in the head, Z, W, … beyond; atoms on early variables first.

    >>> str(readable("left_of", 2, ((0, (1,)), (1, (0,))), ["heart", "right_lung"]))
    'left_of(X, Y) :- right_lung(X), heart(Y).'
    """

    def term(variable: int) -> Term:
        rounds, letter = divmod(variable, len(_NAMES))
        return Term(_NAMES[letter] + (str(rounds) if rounds else ""))

    ordered = sorted(body, key=lambda atom: (max(atom[1]), -len(atom[1]), atom[1], relations[atom[0]]))
    atoms = tuple(Atom(relations[p], tuple(term(a) for a in args)) for p, args in ordered)
    return Rule((Atom(head, tuple(term(a) for a in range(arity))),), atoms)


def is_connected(atoms: Sequence[Coded], head: Sequence[Any]) -> bool:
    """Do the atoms, with a head over these variables, hang together through shared variables?"""
    reached = set(head)
    pending = [set(args) for _, args in atoms]
    while pending:
        touching = [args for args in pending if args & reached]
        if not touching:
            return False
        pending = [args for args in pending if not args & reached]
        reached.update(*touching)
    return True


def _orders(atoms: Sequence[Coded], variables: list[int]) -> Iterator[tuple[int, ...]]:
    """The orders of the variables that respect their refined colours: all ones that can give the least spelling."""
    colour: dict[int, Any] = dict.fromkeys(variables, 0)
    for _ in variables:
        seen: dict[int, list[Any]] = {v: [] for v in variables}
        for predicate, args in atoms:
            around = tuple((0, colour[a]) if a in colour else (1, a) for a in args)
            for v in {a for a in args if a in colour}:
                seen[v].append((predicate, tuple(a == v for a in args), around))
        signatures = {v: (colour[v], sorted(seen[v])) for v in variables}
        ranked = sorted({repr(s): s for s in signatures.values()}.values())
        refined = {v: ranked.index(signatures[v]) for v in variables}
        if refined == colour:
            break
        colour = refined
    groups = [[v for v in variables if colour[v] == c] for c in sorted(set(colour.values()))]
    for chosen in product(*(permutations(group) for group in groups)):
        yield tuple(v for group in chosen for v in group)
