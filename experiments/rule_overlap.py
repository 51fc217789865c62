"""What a rule derives, by trying out all bindings, and how far two rules derive the same: no engine, no index.

A rule derives its head for each choice of distinct objects of one film for which its body holds. Heads have one atom, whose
variables are all in the body; bodies have atoms alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from neurosym.records import Atom, FactStore, Rule, Term

Held = Mapping[str, Mapping[str, frozenset[tuple[str, ...]]]]
"""Of each film the arguments of each relation's facts."""
Derived = frozenset[tuple[str, str, tuple[str, ...]]]
"""(film, relation, arguments)"""


def held_in(facts: FactStore, films: str = "study") -> Held:
    """The facts by film; each film itself has the class `films`, which facts do not tell."""
    found: dict[str, dict[str, set[tuple[str, ...]]]] = {}
    for fact in facts.facts:
        of_film = found.setdefault(fact.scene, {films: {(fact.scene,)}})
        of_film.setdefault(fact.relation, set()).add(fact.args)
    return {film: {r: frozenset(args) for r, args in of.items()} for film, of in found.items()}


def derived(rule: Rule, held: Held) -> Derived:
    """Every fact that a rule derives, whether it is there or not."""
    [head] = rule.head
    body = sorted(rule.body, key=lambda atom: len(atom.args))
    return frozenset(
        (film, head.predicate, tuple(theta[t] if t.is_variable else t.name for t in head.args))
        for film, facts in held.items()
        for theta in _bindings(body, {}, facts)
    )


def overlap(one: Derived, other: Derived) -> float:
    """What both derive of what either does, 0 if neither derives anything (Jaccard).

    >>> overlap(frozenset("ab"), frozenset("bc")) == 1 / 3
    True
    """
    return len(one & other) / len(one | other) if one | other else 0.0


def recovery(facts: Derived, candidates: Sequence[Derived]) -> dict[str, float]:
    """Of what a rule derives: the best overlap with a candidate, and the share that the candidates derive together."""
    best = max((overlap(facts, other) for other in candidates), default=0.0)
    together = frozenset[tuple[str, str, tuple[str, ...]]]().union(*candidates)
    return {"overlap": round(best, 4), "covered": round(len(facts & together) / max(1, len(facts)), 4)}


def confidence(rule: Rule, held: Held) -> float:
    """The share of what a rule derives that is there, 0 if it derives nothing."""
    made = derived(rule, held)
    return sum(args in held[film].get(relation, ()) for film, relation, args in made) / len(made) if made else 0.0


def _bindings(
    atoms: Sequence[Atom], theta: dict[Term, str], facts: Mapping[str, frozenset[tuple[str, ...]]]
) -> Iterator[dict[Term, str]]:
    if not atoms:
        yield theta
        return
    for args in facts.get(atoms[0].predicate, ()):
        extended = dict(theta)
        for term, entity in zip(atoms[0].args, args, strict=True):
            known = extended.setdefault(term, entity) if term.is_variable else term.name
            if known != entity:
                break
        else:
            if len(set(extended.values())) == len(extended):
                yield from _bindings(atoms[1:], extended, facts)
