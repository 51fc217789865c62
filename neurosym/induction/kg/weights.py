"""Weights of rules, learned from the facts that the rules were learned from: which rules tell a right answer from wrong ones?

For a question h(x, ?) with the answer y the entities that rules speak for are scored as in `neurosym.induction.kg.aggregation`,
and the weights minimise the cross-entropy of

    P(y) = exp(s(y)) / (exp(s(y)) + Σ exp(s(y′))),     s(y) = Σᵢ w_{rᵢ(y)} + u_h ln(p_h(y) + 10⁻⁴),     w ≥ 0

over those entities y′ that are not known to be right and score highest at the start (as RNNLogic, Qu et al., ICLR 2021,
weighs the rules that its network proposes). w starts from the noisy-or's −ln(1 − v). A rule is measured on the very facts
that it is to be weighed by here, so that a rule of two facts is always right for these two; the answer is therefore scored as
if its fact had not been there: without the rules that then would have too little support. Adagrad (Duchi et al., 2011),
questions in random order.

The weights may fit the facts that the rules are from and nothing else; so facts that nothing was learned from judge each epoch,
and if none is better than the start, the start it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from neurosym.errors import ConfigError
from neurosym.induction.kg.aggregation import Aggregation, Standing, aggregation, nobody
from neurosym.induction.kg.applied import ROOM, Applied, Workplace, workplace_for
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.completion import ask, drawn, questions, rank_answers, right_answers
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import Csr, Float32, Int32, Int64, TripleStore

_SMALL: Final = 1e-4
"""Gradients below this are not worth their time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WeightConfig:
    """How weights are learned."""

    questions: int = 1000
    """Most facts of each direction to learn from."""
    wrong: int = 50
    """Most wrong answers of a question to tell the right one from."""
    epochs: int = 5
    rate: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"questions": 1, "wrong": 1, "epochs": 1}
        problems = [
            f"{k} is {getattr(self, k)} but must be at least {v}" for k, v in least.items() if getattr(self, k) < v
        ]
        if not self.rate > 0:
            problems.append(f"rate is {self.rate} but must be positive")
        if problems:
            raise ConfigError("; ".join(problems))


class Lessons(NamedTuple):
    """Questions with the rules of their answers, the right one first: (question, answer, depth) of rules, −1 where there is
    none more; how many `answers` each has, 0 for a question that teaches nothing; ln p_h of each."""

    rule: Int32
    answers: Int32
    usual: Float32
    direction: Int32


def learn_weights(
    store: TripleStore,
    rules: RuleColumns,
    applied: Applied,
    start: Aggregation,
    least: int,
    config: WeightConfig,
    judge: Callable[[Aggregation], float] | None = None,
    workers: int = 1,
) -> Aggregation:
    """`start` (a noisy-or) with learned terms, of the epoch that `judge` finds best; of the last, without one.

    Args:
        least: support that a rule must have to be a rule.
        judge: called before the first epoch and after each; higher is better. `start` itself is given back if none is.
    """
    rng = np.random.default_rng(config.seed)
    asked = drawn(questions(store.columns()), store.directions, config.questions, rng)
    lessons = _lessons(store, rules, applied, start, asked, least, config.wrong, workers)
    term, usual = start.term.copy(), start.usual.copy()
    squares, usual_squares = np.zeros_like(term), np.zeros_like(usual)
    best, best_value = start, -np.inf if judge is None else judge(start)
    for epoch in range(config.epochs):
        order = rng.permutation(len(asked))
        loss = _epoch(*lessons, order, term, usual, squares, usual_squares, config.rate)
        found = start._replace(term=term.copy(), usual=usual.copy())
        value = 0.0 if judge is None else judge(found)
        log.info(
            "epoch %d of %d: loss %.4f%s", epoch + 1, config.epochs, loss, f", judged {value:.4f}" if judge else ""
        )
        if judge is None or value > best_value:
            best, best_value = found, value
    return best


def learned_aggregation(
    store: TripleStore,
    rules: RuleColumns,
    applied: Applied,
    valid: Sequence[Int64],
    known: TripleStore,
    least: int = 2,
    config: WeightConfig | None = None,
    workers: int = 1,
) -> Aggregation:
    """The noisy-or with learned weights, of the epoch under which the answers of held-back facts stand best by MRR."""

    def judge(how: Aggregation) -> float:
        return rank_answers(store, applied, how, valid, known, workers).mrr

    start = aggregation(store, rules, "noisy-or")
    return learn_weights(store, rules, applied, start, least, config or WeightConfig(), judge, workers)


def _lessons(
    store: TripleStore,
    rules: RuleColumns,
    applied: Applied,
    how: Aggregation,
    asked: Int64,
    least: int,
    wrong: int,
    workers: int,
) -> Lessons:
    shape = len(asked), wrong + 1
    rule = np.full((*shape, how.depth), -1, dtype=np.int32)
    count = np.zeros(len(asked), dtype=np.int32)
    usual = np.zeros(shape, dtype=np.float32)
    support = rules.support

    def part(rows: Int64) -> None:
        if not len(rows):
            return
        own = slice(rows[0], rows[-1] + 1)
        place, standing = workplace_for(len(store.entities)), nobody(len(store.entities), how.depth)
        _collect(
            store.csr,
            applied,
            how,
            support,
            asked[own],
            least,
            place,
            standing,
            rule[own],
            count[own],
            usual[own],
        )

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(part, np.array_split(np.arange(len(asked)), workers * 8)))
    return Lessons(rule, count, usual, asked[:, 1].astype(np.int32))


@compiled
def _collect(
    csr: Csr,
    applied: Applied,
    how: Aggregation,
    support: Int32,
    asked: Int64,
    least: int,
    place: Workplace,
    standing: Standing,
    rule: Int32,
    count: Int32,
    usual: Float32,
) -> None:
    """Fill the rules, numbers and ln p_h of the answers of the questions."""
    wrong, depth = rule.shape[1] - 1, rule.shape[2]
    right = np.full(len(csr.entity_start) - 1, -1, dtype=np.int64)
    hits = np.empty((ROOM, 2), dtype=np.int32)
    for q in range(len(asked)):
        x, h, answer = asked[q]
        hits = ask(csr, applied, how, asked, q, place, standing, hits)
        n = standing.size[0]
        # the answer, as if its fact had not been there
        k = 0
        for i in range(standing.filled[answer]):
            r = standing.rule[answer, i]
            if support[r] > least:
                rule[q, 0, k] = r
                k += 1
        if k == 0:
            continue
        usual[q, 0] = standing.usual[answer]
        right_answers(csr, x, h, right, q)
        others = np.empty(n, dtype=np.int32)
        trust = np.empty(n, dtype=np.float32)
        m = 0
        for i in range(n):
            y = standing.touched[i]
            if right[y] != q:
                others[m] = y
                trust[m] = standing.score[y]
                m += 1
        order = np.argsort(-trust[:m]) if m <= wrong else _highest(trust[:m], wrong)
        chosen = min(m, wrong)
        for i in range(chosen):
            y = others[order[i]]
            for j in range(min(depth, standing.filled[y])):
                rule[q, i + 1, j] = standing.rule[y, j]
            usual[q, i + 1] = standing.usual[y]
        count[q] = chosen + 1


@compiled
def _highest(values: Float32, most: int) -> Int64:
    """The places of the highest values, so many of them at least."""
    bound = np.partition(values, len(values) - most)[len(values) - most]
    places = np.flatnonzero(values >= bound)
    return places[np.argsort(-values[places])]


@compiled
def _epoch(
    rule: Int32,
    count: Int32,
    usual: Float32,
    direction: Int32,
    order: Int64,
    term: Float32,
    of_usual: Float32,
    squares: Float32,
    usual_squares: Float32,
    rate: float,
) -> float:
    """One pass over the questions; the mean loss. Weights and sums of squared gradients are changed in place."""
    depth = rule.shape[2]
    score = np.empty(rule.shape[1])
    total, taught = 0.0, 0
    for q in order:
        n, h = count[q], direction[q]
        if n < 2:
            continue
        highest = -np.inf
        for c in range(n):
            s = of_usual[h] * usual[q, c]
            for k in range(depth):
                if rule[q, c, k] < 0:
                    break
                s += term[rule[q, c, k]]
            score[c] = s
            highest = max(highest, s)
        mass = 0.0
        for c in range(n):
            score[c] = np.exp(score[c] - highest)
            mass += score[c]
        total -= np.log(score[0] / mass)
        taught += 1
        slope = 0.0
        for c in range(n):
            g = score[c] / mass - (1.0 if c == 0 else 0.0)
            slope += g * usual[q, c]
            if abs(g) < _SMALL:
                continue
            for k in range(depth):
                r = rule[q, c, k]
                if r < 0:
                    break
                squares[r] += g * g
                term[r] = max(0.0, term[r] - rate * g / np.sqrt(squares[r] + 0.01))
        usual_squares[h] += slope * slope
        of_usual[h] -= rate * slope / np.sqrt(usual_squares[h] + 0.01)
    return total / max(1, taught)
