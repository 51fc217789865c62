"""From the thousands of rules above the thresholds to the list a person reads.

Greedy, best first: the next candidate is the one whose quality times novelty is largest, where novelty is how much
better it explains its facts than the candidates before it (the covering loop again, now over all heads). Two relations
that say the same, such as inverses, explain nothing of each other. Before an evolved rule is accepted, all its
neighbours, one atom more or one atom other, are measured; a better one comes first. A rule is dropped when

- it explains fewer than `min_support` facts better than those before it, or its novelty is below 0.1;
- one of its sub-bodies passes the thresholds and does as well within 0.01, or has, passing or not, a confidence that
  the lower bound of this rule's does not exceed: the further atom has not been shown to help (under injective
  semantics the sub-bodies are, up to renaming, exactly the bodies that θ-subsume it);
- an accepted rule that is no longer and as good within 0.01 already derives its head from its body, with the help of
  known rules: right_of(Y, X) :- right_lung(X), heart(Y) beside left_of(X, Y) :- right_lung(X), heart(Y);
- a background rule subsumes it. A background rule with a weight below 0.99 is itself uncertain and leaves room for a
  refinement that is better than its weight by more than 0.01.

With `fill_up` rules that only explain what others explain, their special cases above all, come last: in the places that are
left, and in those of rules whose novelty is below 0.25. The heads take turns; of a head the shortest and surest come first, one
of those that derive the same facts. Such are larger_than(X, Y) :- heart(X), nodule(Y) after larger_than(X, Y) :- heart(X),
finding(Y), for a reader who finds the general rule too bold; and a rule for few facts that a less sure one for many explains
already.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, islice
from typing import Final

from neurosym.errors import InductionError
from neurosym.induction.clauses import Body, canonical, is_connected, readable
from neurosym.induction.config import EXACT_BODY, InductionConfig
from neurosym.induction.engine import WORK_CAP, Evaluation, evaluate_rule
from neurosym.induction.evolution import Breeder, Coverage
from neurosym.induction.index import FactIndex
from neurosym.induction.scores import Scorer, Scores, Spelling
from neurosym.induction.subsumption import Clause, Known
from neurosym.knowledge.subsumption import subsumes
from neurosym.records import Candidate, Rule

TOLERANCE: Final = 0.01
CERTAIN: Final = 0.99
_LEAST_NOVELTY: Final = 0.1
_HARDLY_NOVEL: Final = 0.25
"""Below this `fill_up` puts other rules in a rule's place."""
_log = logging.getLogger(__name__)


Accepted = tuple[float, Clause, float]
"""(score, clause, confidence)"""


class Selection:
    """One pass over `found` of all scorers; `run()` returns the candidates."""

    def __init__(
        self,
        index: FactIndex,
        config: InductionConfig,
        scorers: Mapping[int, Scorer],
        spelling: Spelling,
        given: Known,
        known: Known,
        background: Sequence[Rule],
        breeders: Mapping[int, Breeder],
        is_late: Callable[[], bool],
    ) -> None:
        self.index, self.config, self.scorers, self.spelling = index, config, scorers, spelling
        self.names = [relation.name for relation in index.relations]
        self.learned = set(known.clauses) - set(given.clauses)
        self.given = Known(given.clauses, injective=config.injective)
        self.known = known
        self.soft = [rule for rule in background if rule.weight is not None and rule.weight < CERTAIN]
        self.variants = {canonical(rule) for rule in background if rule.head and rule.body}
        self.coverage: dict[int, Coverage] = {}
        self.queue: list[tuple[float, int, int, Body]] = []
        self.breeders, self.is_late = breeders, is_late
        self.polished: set[tuple[int, Body]] = set()
        self.queued = dict.fromkeys(scorers, 0)
        self.accepted: list[Accepted] = []
        self.fillers: list[Accepted] = []
        self.passed_over: list[tuple[int, Body]] = []
        """Rules whose facts others explain already; `fill_up` makes some of them candidates after all."""

    def run(self, progress: Callable[[int], None]) -> list[Candidate]:
        """The candidates, best first; `progress` is told the number accepted so far."""
        self._refill()
        while self.queue and (self.config.top is None or len(self.accepted) < self.config.top):
            _, length, head, body = heapq.heappop(self.queue)
            scorer = self._scorer(head)
            if head not in self.coverage:
                self.coverage[head] = Coverage(scorer, head)
            coverage = self.coverage[head]
            scores = self._scores(head, body)
            novelty = coverage.novelty(scores)
            if novelty < _LEAST_NOVELTY or coverage.improved(scores, TOLERANCE) < self.config.min_support:
                if self.config.fill_up:
                    self.passed_over.append((head, body))
                continue
            score = scorer.found[head, body] * novelty
            if self.queue and score < -self.queue[0][0]:  # novelty only falls, so this stays an upper bound
                heapq.heappush(self.queue, (-score, length, head, body))
                continue
            clause, confidence = self._clause(head, body), self._confidence(head, body)
            if self._has_better_part(head, body) or self._is_known(clause, confidence, self.accepted):
                continue
            if self._polish(head, body):
                heapq.heappush(self.queue, (-score, length, head, body))
                continue
            if self.spelling.body(clause[:1], scorer.arity) != self.spelling.body(body, scorer.arity):
                coverage.accept(scores)
            self.accepted.append((score, clause, confidence))
            if len(body) == 1 and confidence >= CERTAIN:
                self.given.add(clause)
            progress(len(self.accepted))
        if self.config.fill_up:
            self._fill_up()
        return self._candidates()

    def _scorer(self, head: int) -> Scorer:
        return self.scorers[self.index.relations[head].arity]

    def _scores(self, head: int, body: Body) -> Scores:
        """The scores of a body that could be measured before."""
        scores = self._scorer(head).score(body)
        assert scores is not None  # it is in `found`
        return scores

    def _refill(self) -> None:
        """Queue what was found since the last call (measuring a sub-body may find a rule)."""
        for arity, scorer in self.scorers.items():
            for (head, body), quality in islice(scorer.found.items(), self.queued[arity], None):
                heapq.heappush(self.queue, (-quality, len(body), head, body))
            self.queued[arity] = len(scorer.found)

    def _polish(self, head: int, body: Body) -> bool:
        """Measure the neighbours of an evolved body, once: exact where evolution sampled. Was there anything new?"""
        if len(body) <= EXACT_BODY or (head, body) in self.polished or self.is_late():
            return False
        self.polished.add((head, body))
        scorer = self._scorer(head)
        before = len(scorer.found)
        for neighbour in self.breeders[head].neighbours(body):
            scorer.score(neighbour)
        self._refill()
        return len(scorer.found) > before

    def _has_better_part(self, head: int, body: Body) -> bool:
        scorer = self._scorer(head)
        row = scorer.row[head]
        whole = self._scores(head, body)
        for size in range(1, len(body)):
            for part in combinations(body, size):
                bound = {v for _, args in part for v in args}
                if not bound.issuperset(range(scorer.arity)):
                    continue
                if not self.index.has_scenes and not is_connected(part, range(scorer.arity)):
                    continue
                shorter = self.spelling.body(part, scorer.arity)
                scores = scorer.score(shorter)
                if scores is None:
                    continue
                passes = (head, shorter) in scorer.found
                if (passes and scores.confidence[row] >= whole.confidence[row] - TOLERANCE) or (
                    scores.confidence[row] >= whole.bound[row]
                ):
                    self._refill()
                    return True
        self._refill()
        return False

    def _fill_up(self) -> None:
        """Accept rules that were passed over, head by head, the plainest first, in the place of hardly novel ones."""
        novel: list[Accepted] = []
        hardly: list[Accepted] = []
        for rule in self.accepted:
            (hardly if rule[0] < _HARDLY_NOVEL * self._quality(rule[1]) else novel).append(rule)
        room = None if self.config.top is None else self.config.top - len(novel)
        listed: dict[tuple[int, int], list[Accepted]] = {}
        for rule in self.accepted:
            listed.setdefault(self._sizes(rule[1]), []).append(rule)
        of_head = Counter(clause[0][0] for _, clause, _ in novel)
        queue = [(of_head[head], self._plainness(head, body), head, body) for head, body in self.passed_over]
        heapq.heapify(queue)
        while queue and (room is None or len(self.fillers) < room):
            listed_then, plainness, head, body = heapq.heappop(queue)
            if of_head[head] > listed_then:
                heapq.heappush(queue, (of_head[head], plainness, head, body))
                continue
            clause, confidence = self._clause(head, body), self._confidence(head, body)
            same = listed.setdefault(self._sizes(clause), [])
            if self._is_known(clause, confidence, ()) or self._says_the_same(clause, same):
                continue
            if self._has_better_part(head, body):
                continue
            filler = (self._quality(clause) * _LEAST_NOVELTY, clause, confidence)
            same.append(filler)
            self.fillers.append(filler)
            of_head[head] += 1
        if room is not None:
            self.accepted = novel + hardly[: room - len(self.fillers)]

    def _says_the_same(self, clause: Clause, others: Sequence[Accepted]) -> bool:
        """Whether one of the rules with as many facts and counterexamples has the same ones, or says it by an inverse."""
        (head, _), body = clause
        facts = self._facts(head, body)
        closure = self.known.closure(body)
        for _, other, _ in others:
            if other[0][0] == head and self._facts(head, other[1]) == facts:
                return True
            if other[0][0] != head and self.known.entails(clause[0], closure, other):
                return True
        return False

    def _quality(self, clause: Clause) -> float:
        (head, _), body = clause
        return self._scorer(head).found[head, body]

    def _sizes(self, clause: Clause) -> tuple[int, int]:
        """How many facts a rule derives, and how many of them are there."""
        (head, _), body = clause
        scores = self._scores(head, body)
        return scores.body_size, int(scores.support[self._scorer(head).row[head]])

    def _plainness(self, head: int, body: Body) -> tuple[int, int, float, int]:
        """Fewest atoms, what things are before how they lie to each other, surest, with the most facts."""
        scores, row = self._scores(head, body), self._scorer(head).row[head]
        places = sum(len(args) for _, args in body)
        return len(body), places, -float(scores.bound[row]), -int(scores.support[row])

    def _facts(self, head: int, body: Body) -> bytes:
        """The known facts of a relation that a body derives, as bits."""
        return self._scores(head, body).hits.tobytes()

    def _clause(self, head: int, body: Body) -> Clause:
        return (head, tuple(range(self._scorer(head).arity))), body

    def _confidence(self, head: int, body: Body) -> float:
        return float(self._scores(head, body).confidence[self._scorer(head).row[head]])

    def _is_known(self, clause: Clause, confidence: float, accepted: Sequence[Accepted]) -> bool:
        atom, body = clause
        base = self.given if (atom, body) in self.learned else self.known
        closure = base.closure(body)
        if atom in closure:
            return True
        predicates = {predicate for predicate, _ in closure}
        for _, other, as_sure in accepted:
            if len(other[1]) > len(body) or as_sure < confidence - TOLERANCE:
                continue
            if predicates.issuperset(p for p, _ in other[1]) and base.entails(atom, closure, other):
                return True
        rule = self._rule(atom[0], body)
        if canonical(rule) in self.variants:
            return True
        return any(
            rule_.weight is not None
            and confidence <= rule_.weight + TOLERANCE
            and subsumes(rule_, rule, injective=self.config.injective)
            for rule_ in self.soft
        )

    def _rule(self, head: int, body: Body) -> Rule:
        return readable(self.names[head], self._scorer(head).arity, body, self.names)

    def _candidates(self) -> list[Candidate]:
        rules = [(score, self._rule(clause[0][0], clause[1]), False) for score, clause, _ in self.accepted]
        rules.sort(key=lambda item: (-item[0], str(item[1])))
        rules += [(score, self._rule(clause[0][0], clause[1]), True) for score, clause, _ in self.fillers]
        count: dict[str, int] = {}
        candidates = []
        for score, rule, fills in rules:
            try:
                cap = max(WORK_CAP, self.config.work_cap)
                measured = evaluate_rule(
                    rule, self.index, injective=self.config.injective, cases=self.config.cases, work_cap=cap
                )
            except InductionError as error:
                _log.warning("candidate left out: %s", error)
                continue
            head = rule.head[0].predicate
            count[head] = count.get(head, 0) + 1
            name = f"induced_{head}_{count[head]}"
            candidates.append(_candidate(rule, measured, name, score, fills, self.index, self.config))
        return candidates


def _candidate(
    rule: Rule, measured: Evaluation, name: str, score: float, fills: bool, index: FactIndex, config: InductionConfig
) -> Candidate:
    where = "scenes" if index.has_scenes else "head_facts"
    meta = {
        "id": name,
        "status": "candidate",
        "source": "induction",
        "support": str(measured.support),
        "body_size": str(measured.body_size),
        "pca_confidence": f"{measured.pca_confidence:.3f}",
        "weighted_confidence": f"{measured.weighted_confidence:.3f}",
        "head_coverage": f"{measured.head_coverage:.3f}",
        "lift": f"{measured.lift:.2f}",
        "score": f"{score:.3f}",
        f"{where}_for": str(measured.supporting_count),
        f"{where}_against": str(measured.refuting_count),
        "semantics": "injective" if config.injective else "homomorphic",
    }
    meta |= {"novel": "no"} if fills else {}
    return Candidate(
        rule=replace(rule, weight=max(0.001, round(measured.confidence, 3)), meta=meta),
        support=measured.support,
        body_size=measured.body_size,
        confidence=measured.confidence,
        pca_confidence=measured.pca_confidence,
        head_coverage=measured.head_coverage,
        lift=measured.lift,
        supporting=measured.supporting,
        refuting=measured.refuting,
    )
