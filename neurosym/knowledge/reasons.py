"""Why can a class have no instance? The axioms that clash, and not one more: a justification (Kalyanpur et al., ISWC 2007).

A guess comes from what the axioms say outright (`told`), else from the class's module; HermiT decides. It shrinks a set of
axioms by looking for the shortest prefix that still clashes: the last axiom of that prefix is needed, what follows it is not.
(QuickXplain, Junker 2004, asks fewer questions, each after the answer to the last; one run of HermiT takes many at once.)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from neurosym.knowledge import hermit
from neurosym.knowledge.logical import LogicalAxiom, module, to_ntriples
from neurosym.knowledge.told import Told
from neurosym.knowledge.triples import Triple

log = logging.getLogger(__name__)
Subject: TypeAlias = str | None
"""What clashes: a class, by its IRI, or (None) the ontology as a whole."""
_AT_ONCE = 16  # prefixes that one run of HermiT is asked about


class Reasons:
    """Finds reasons among the axioms of one ontology; they are known by their index."""

    def __init__(
        self, axioms: Sequence[LogicalAxiom], declared: Mapping[str, tuple[Triple, ...]], told: Told, seconds: float
    ) -> None:
        self._axioms, self._declared, self._told = axioms, declared, told
        self._seconds, self._end = seconds, time.monotonic() + seconds

    def find(self, subjects: Sequence[Subject]) -> list[tuple[int, ...]]:
        """For each subject a minimal set of axioms that clash, as HermiT says; an empty one if time ran out before."""
        found = [self.read_off(subject) for subject in subjects]
        try:
            minimal = self._are_minimal(subjects, found)
            found = [reason if right else () for reason, right in zip(found, minimal, strict=True)]
            for place, subject in enumerate(subjects):
                found[place] = found[place] or self._search(subject)
        except hermit.Exhausted:
            log.warning("the reasons of some contradictions were not found in %.0f seconds", self._seconds)
        return found

    def read_off(self, subject: Subject) -> tuple[int, ...]:
        """The axioms that clash outright, without a reasoner; empty if none are found."""
        support = _clash(self._told, subject) or frozenset()
        for index in sorted(support):
            fewer = sorted(support - {index})
            if _clash(Told([self._axioms[i] for i in fewer]), subject):
                support = frozenset(fewer)
        return tuple(sorted(support))

    def _are_minimal(self, subjects: Sequence[Subject], sets: Sequence[tuple[int, ...]]) -> list[bool]:
        """Whether each set clashes, and no longer does when any one axiom is taken away: one run of HermiT for all."""
        texts: list[str] = []
        for subject, indices in zip(subjects, sets, strict=True):
            texts.append(self._text(subject, indices))
            texts += [self._text(subject, [i for i in indices if i != left_out]) for left_out in indices]
        answers = iter(hermit.clashes(texts, self._left()))
        minimal = []
        for indices in sets:
            whole, *parts = (next(answers) for _ in (None, *indices))
            minimal.append(whole and not any(parts))
        return minimal

    def _search(self, subject: Subject) -> tuple[int, ...]:
        """The minimal set that is left of the module of a class (of all individuals)."""
        seeds = sorted({t for a in self._axioms if a.is_fact for t in a.signature}) if subject is None else [subject]
        rest = module(self._axioms, seeds)
        if not hermit.clashes([self._text(subject, rest)], self._left())[0]:
            rest = list(range(len(self._axioms)))
        needed: list[int] = []
        while length := self._shortest(subject, needed, rest):
            needed.append(rest[length - 1])
            del rest[length - 1 :]
        return tuple(sorted(needed))

    def _shortest(self, subject: Subject, needed: Sequence[int], rest: Sequence[int]) -> int:
        """The length of the shortest prefix of `rest` that clashes with what is needed; all of it does."""
        low, high = -1, len(rest)  # the prefix of length `high` clashes, that of `low` does not
        while high - low > 1:
            step = max(1, (high - low) // _AT_ONCE)
            lengths = list(range(low + step, high, step))
            found = hermit.first_clash([self._text(subject, (*needed, *rest[:n])) for n in lengths], self._left())
            low, high = lengths[found - 1] if found else low, (*lengths, high)[found]
        return high

    def _text(self, subject: Subject, indices: Sequence[int]) -> str:
        """These axioms with their declarations, and the class that HermiT is asked about put below the subject."""
        axioms = [self._axioms[index] for index in indices]
        terms = sorted({term for axiom in axioms for term in axiom.signature} | ({subject} if subject else set()))
        declared = [triple for term in terms for triple in self._declared.get(term, ())]
        return to_ntriples([*hermit.probing(subject), *declared, *(t for axiom in axioms for t in axiom.triples)])

    def _left(self) -> float:
        return max(1.0, self._end - time.monotonic())


def _clash(told: Told, subject: Subject) -> frozenset[int] | None:
    return told.inconsistency() if subject is None else told.clash([subject])
