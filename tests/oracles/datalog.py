"""What follows from facts, by trying every rule on every choice of facts until nothing is new; strata are given in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from neurosym.knowledge.inference import GroundAtom
from neurosym.logic import Rule
from tests.oracles.naive import bodies, result


def closure(
    facts: Iterable[GroundAtom], strata: Iterable[Sequence[Rule]], measurements: frozenset[str] = frozenset()
) -> set[GroundAtom]:
    """The least set that holds the facts and the heads of all rules, one stratum after the other; no existential heads."""
    known = set(facts)
    for rules in strata:
        while (
            new := {
                (atom.predicate, tuple(result(term, theta, known) for term in atom.args))
                for rule in rules
                for theta in bodies(rule, known, measurements)
                for atom in rule.head
            }
            - known
        ):
            known |= new
    return known
