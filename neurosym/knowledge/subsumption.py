"""θ-subsumption between rules. Exact, by backtracking; clauses are small.

Rule C subsumes rule D when, for every head atom of D, a substitution θ of C's variables maps a head atom of C onto it and C's
body into D's (Plotkin 1970): whatever D derives, C derives too. A condition of C must stand, so renamed, among those of D.
Under injective semantics θ must map distinct variables to distinct terms (object identity, Esposito et al. 1996), because C
itself only speaks of distinct entities.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from neurosym.knowledge.canonical import spell
from neurosym.logic import Atom, Rule

Coded = tuple[Any, tuple[Any, ...]]
"""(predicate, arguments): an int argument is a variable, a str one a constant."""


def encode(atoms: Sequence[Atom], numbers: dict[str, int]) -> tuple[Coded, ...]:
    """Atoms in coded form; `numbers` (variable name → int) is extended by the variables not met before."""
    coded = []
    for atom in atoms:
        args = tuple(numbers.setdefault(t.name, len(numbers)) if t.is_variable else t.name for t in atom.args)
        coded.append((atom.predicate, args))
    return tuple(coded)


def subsumes(general: Rule, specific: Rule, *, injective: bool = True) -> bool:
    """Does `general` derive whatever `specific` derives, by θ-subsumption?

    >>> from neurosym.logic import Atom, Rule, Term
    >>> x, z = Term("X"), Term("Z")
    >>> short = Rule((Atom("sick", (x,)),), (Atom("film", (x,)),))
    >>> subsumes(short, Rule(short.head, (*short.body, Atom("opacity", (z,)))))
    True
    """
    if bool(general.head) != bool(specific.head):  # a denial derives no atom, and nothing but a denial is a denial
        return False
    if general.distinct and not specific.distinct:  # the specific one speaks of equal objects too
        return False
    variables: dict[str, int] = {}
    general_head, general_body = encode(general.head, variables), encode(general.body, variables)
    unknown = {variables[v.name] for v in general.existential}
    tests = [(c, c.variables) for c in general.conditions]
    others: dict[str, int] = {}
    head, body = encode(specific.head, others), by_predicate(encode(specific.body, others))
    other_unknown = {others[v.name] for v in specific.existential}
    tested = {spell(c, {v: f"S{others.get(v.name, v.name)}" for v in c.variables}) for c in specific.conditions}

    def covers(*pairs: tuple[Coded, Coded]) -> bool:
        """One substitution sends every chosen atom of the general head to its partner, and the body into the body."""
        theta: dict[int, Any] = {}
        for (predicate, args), (other, image) in pairs:
            if predicate != other or len(args) != len(image):
                return False
            if not all(_assign(a, b, theta, [], injective) for a, b in zip(args, image, strict=True)):
                return False
        # An existential variable promises some entity, which is no more than another rule's existential variable says.
        if any((a in unknown) != (b in other_unknown) for a, b in theta.items()):
            return False
        for found in matches(general_body, body, injective=injective, theta=theta):
            seen = {name: f"S{found[number]}" for name, number in variables.items() if number in found}
            if all(spell(c, {v: seen.get(v.name, f"S{v.name}") for v in vs}) in tested for c, vs in tests):
                return True
        return False

    if unknown:
        return any(covers(*zip(choice, head, strict=True)) for choice in product(general_head, repeat=len(head)))
    return all(any(covers((atom, wanted)) for atom in general_head) for wanted in head) and (bool(head) or covers())


def matches(
    pattern: Sequence[Coded],
    target: Mapping[Any, Sequence[tuple[Any, ...]]],
    *,
    injective: bool,
    theta: Mapping[int, Any] | None = None,
) -> Iterator[dict[int, Any]]:
    """All substitutions of the pattern's variables that send every pattern atom to a target atom.

    `target` lists argument tuples by predicate; its terms are opaque. A constant of the pattern matches only itself.
    """
    chosen: dict[int, Any] = dict(theta or {})
    pending = sorted(pattern, key=lambda atom: len(target.get(atom[0], ())))  # the most constrained atom first

    def extend(i: int) -> Iterator[dict[int, Any]]:
        if i == len(pending):
            yield dict(chosen)
            return
        predicate, args = pending[i]
        for image in target.get(predicate, ()):
            if len(image) != len(args):
                continue
            added: list[int] = []
            if all(_assign(a, b, chosen, added, injective) for a, b in zip(args, image, strict=True)):
                yield from extend(i + 1)
            for a in added:
                del chosen[a]

    yield from extend(0)


def _assign(term: Any, image: Any, chosen: dict[int, Any], added: list[int], injective: bool) -> bool:
    if isinstance(term, str):
        return bool(term == image)
    if term in chosen:
        return bool(chosen[term] == image)
    if injective and image in chosen.values():
        return False
    chosen[term] = image
    added.append(term)
    return True


def by_predicate(atoms: Iterable[Coded]) -> dict[Any, list[tuple[Any, ...]]]:
    """The argument tuples of each predicate."""
    grouped: dict[Any, list[tuple[Any, ...]]] = defaultdict(list)
    for predicate, args in atoms:
        grouped[predicate].append(args)
    return grouped
