"""`induce`: facts in, candidate rules out.

1. every rule with one body atom, exactly; near-certain ones (confidence ≥ 0.99, lower bound ≥ 0.9) join the background,
   so that later bodies hold neither of two atoms that say the same, nor derive a head that one atom derives already;
2. every rule with two body atoms, exactly, all heads of a body at once (`seeds`, `scores`);
3. longer ones by evolution, one niche per head relation (`evolution`);
4. a greedy, non-redundant choice (`selection`), measured once more with weights and cases (`engine`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final

import numpy as np

from neurosym.errors import InductionError, Problem, did_you_mean
from neurosym.induction.clauses import Body
from neurosym.induction.config import EXACT_BODY, InductionConfig, Progress, Stage
from neurosym.induction.engine import evaluate_rule
from neurosym.induction.evolution import Breeder, Niche
from neurosym.induction.index import FactIndex
from neurosym.induction.paths import Paths
from neurosym.induction.scores import Scorer, Spelling, wilson
from neurosym.induction.seeds import bodies, compatible_places
from neurosym.induction.selection import CERTAIN, Selection
from neurosym.induction.subsumption import Clause, Known, clauses_of
from neurosym.records import Candidate, FactStore, Rule

_CERTAIN_BOUND: Final = 0.9
_REPORT_EVERY: Final = 500
_log = logging.getLogger(__name__)


def induce(
    facts: FactStore,
    config: InductionConfig | None = None,
    progress: Callable[[Progress], None] | None = None,
    *,
    background: Sequence[Rule] = (),
) -> list[Candidate]:
    """Learn rules from facts, best first, each with its exact measures and the cases for and against.

    Args:
        facts: unary and binary facts, of scenes or of a general graph.
        config: what to look for and how hard; the defaults suit a few hundred films.
        progress: called now and then with a `Progress`, at the end with stage "done".
        background: rules known already, from the ontology or the rule files. What they subsume is not returned. Hard
            ones (no weight, or at least 0.99) also say which body atoms are superfluous; the facts are best closed
            under them. Denials and existential rules are let be.

    Raises:
        InductionError: facts that nothing can be learned from, or a target without facts.

    The invariant: no candidate follows from the background, and none can lose a body atom without losing confidence.
    """
    return _Induction(facts, config or InductionConfig(), progress, background).run()


class _Induction:
    def __init__(
        self,
        facts: FactStore,
        config: InductionConfig,
        progress: Callable[[Progress], None] | None,
        background: Sequence[Rule],
    ) -> None:
        self.config, self.progress, self.background = config, progress, background
        self.index = FactIndex.of(facts)
        self.numbers = {relation.name: i for i, relation in enumerate(self.index.relations)}
        unknown = [name for name in config.targets if name not in self.numbers]
        if unknown:
            problems = [Problem(f"target {n!r} has no facts", cure=did_you_mean(n, self.numbers)) for n in unknown]
            raise InductionError(problems)
        for rule in background:  # a class without facts may still link two that have some
            for atom in (*rule.head, *rule.body):
                self.numbers.setdefault(atom.predicate, len(self.index.relations) - len(self.numbers) - 1)
        hard = filter(_is_hard, background)
        clauses = dict.fromkeys(clause for rule in hard for clause in clauses_of(rule, self.numbers))
        self.given = Known(clauses, injective=config.injective)
        self.known = Known(clauses, injective=config.injective)
        self.spelling = Spelling()
        self.paths = None if self.index.has_scenes else Paths(self.index)
        self.places = compatible_places(self.index)
        arities = sorted({relation.arity for relation in self.index.relations})
        self.scorers = {a: Scorer(self.index, a, config, self.given, self.known) for a in arities}
        self.cut_short = False
        self.deadline = float("inf") if config.budget_seconds is None else time.monotonic() + config.budget_seconds

    def run(self) -> list[Candidate]:
        singles = {arity: self._seed(arity, 1) for arity in self.scorers}
        self._learn_background(singles)
        for arity, scorer in self.scorers.items():
            seeds = [body for body in singles[arity] if self.spelling.body(body, arity) == body]
            for atoms in range(2, min(EXACT_BODY, self.config.max_body) + 1):
                seeds += self._seed(arity, atoms)
            if self.config.max_body > EXACT_BODY and self.config.generations:
                for head in scorer.heads:
                    if scorer.wanted[scorer.row[head]]:
                        self._evolve(scorer, head, seeds)
        selection = Selection(
            self.index, self.config, self.scorers, self.spelling, self.given, self.known, self.background,
            {head: self._breeder(head) for head in range(len(self.index.relations))}, self._is_late,
        )  # fmt: skip
        candidates = selection.run(lambda accepted: self._report("selection", accepted))
        self._report("done", len(candidates))
        self._warn()
        return candidates

    def _seed(self, arity: int, atoms: int) -> list[Body]:
        """Measure every body with so many atoms."""
        done: list[Body] = []
        variables = max(self.config.max_variables, arity)
        for body in bodies(self.index, atoms, arity, variables, self.spelling, self.known, self.places):
            if self._is_late():
                break
            self.scorers[arity].score(body)
            done.append(body)
            if len(done) % _REPORT_EVERY == 0:
                self._report("seeds", len(done))
        return done

    def _learn_background(self, singles: dict[int, list[Body]]) -> None:
        """Let near-certain rules with one body atom count as known from here on."""
        trusted: set[Clause] = set(self._borne_out())
        learned: set[tuple[int, Body]] = set()
        for arity, scorer in self.scorers.items():
            for body in singles[arity]:
                scores = scorer.score(body)
                if scores is None or scores.body_size < self.config.min_support:
                    continue
                # Of the standard confidence, whatever the measure: PCA's makes no sound inference.
                size = np.full(len(scorer.heads), float(scores.body_size))
                confidence = scores.support / size
                certain = (confidence >= CERTAIN) & (wilson(confidence, scores.trials) >= _CERTAIN_BOUND)
                if self.index.has_scenes:
                    certain &= scores.trials >= self.config.min_scenes
                certain &= (scores.support >= self.config.min_support) & (confidence >= self.config.min_confidence)
                learned.update((scorer.heads[h], body) for h in np.flatnonzero(certain))
        new: list[Clause] = [((head, tuple(range(self._arity(head)))), body) for head, body in sorted(learned)]
        for clause in new:
            if clause not in self.given.clauses:
                self.known.add(clause)
        self.spelling.learn(self.index, self.known, trusted | set(new))
        for arity, scorer in self.scorers.items():
            for head, body in list(scorer.found):
                if (head, body) not in learned and self.spelling.body(body, arity) != body:
                    del scorer.found[head, body]  # its preferred spelling is in `found` as well

    def _arity(self, relation: int) -> int:
        return self.index.relations[relation].arity

    def _borne_out(self) -> Iterator[Clause]:
        """The hard background rules with one body atom that hold in the facts: only then may atoms be exchanged."""
        for rule in self.background:
            if len(rule.body) != 1 or not _is_hard(rule):
                continue
            for clause, head in zip(clauses_of(rule, self.numbers), rule.head, strict=False):
                try:
                    measured = evaluate_rule(Rule((head,), rule.body), self.index, injective=self.config.injective)
                except InductionError:  # of another arity than the facts, say: then it is of no use here
                    continue
                if measured.confidence >= CERTAIN:
                    yield clause

    def _evolve(self, scorer: Scorer, head: int, seeds: Sequence[Body]) -> None:
        relation = self.index.relations[head]
        if len(relation) < self.config.min_support:
            return
        paths = self.paths if scorer.arity == 2 else None
        niche = Niche(scorer, self._breeder(head), seeds, paths, Random(f"{self.config.seed}/{relation.name}"))
        while niche.generation < self.config.generations and not self._is_late():
            niche.step()
            self._report("evolution", niche.generation, relation.name)

    def _breeder(self, head: int) -> Breeder:
        return Breeder(self.index, self.config, head, self.spelling, self.known, self.places)

    def _is_late(self) -> bool:
        self.cut_short |= time.monotonic() > self.deadline
        return self.cut_short

    def _report(self, stage: Stage, step: int, target: str = "") -> None:
        if self.progress is not None:
            scorers = self.scorers.values()
            self.progress(
                Progress(
                    stage=stage,
                    target=target,
                    step=step,
                    evaluated=sum(s.evaluated for s in scorers),
                    too_expensive=sum(s.too_expensive for s in scorers),
                    found=sum(len(s.found) for s in scorers),
                    out_of_time=self.cut_short,
                )
            )

    def _warn(self) -> None:
        skipped = sum(scorer.too_expensive for scorer in self.scorers.values())
        if skipped:
            evaluated = sum(scorer.evaluated for scorer in self.scorers.values())
            _log.warning(
                "%d of %d bodies were skipped: each needs a table of more than %d rows (work_cap)",
                skipped, evaluated, self.config.work_cap,
            )  # fmt: skip
        if self.cut_short:
            _log.warning("the budget of %g s ran out: the search is incomplete", self.config.budget_seconds)


def _is_hard(rule: Rule) -> bool:
    return rule.weight is None or rule.weight >= CERTAIN
