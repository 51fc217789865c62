"""How the rules that speak for an entity become its standing among all.

Of each entity the `depth` most trusted rules are looked at, v₁ ≥ v₂ ≥ … being their smoothed confidences. It stands by

    max-plus   v₁, then v₂, … : lexicographic (AnyBURL; Meilicke et al., IJCAI 2019)
    noisy-or   −Σ ln(1 − vᵢ)
    grouped    the same, of the rules whose body speaks of the same constant the most trusted alone: they say one thing in
               several ways, and to count it once is the non-redundant noisy-or (Ott et al., AKBC 2021, who cluster rules)
    learned    Σ wᵢ of weights that tell right answers from wrong ones (`neurosym.induction.kg.weights`)

and by how often it is an answer at all: `usual` · ln(p_h(y) + 10⁻⁴), p_h(y) the share of the facts of h that lead to y. That
breaks the ties of max-plus and is one more piece of evidence for a sum. What no rule speaks for comes after all that some rule
speaks for, in the order of p_h.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from neurosym.errors import InductionError, Problem, did_you_mean
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import Csr, Float32, Int32, Int64, TripleStore

DEPTHS: Final = {"max": 1, "max-plus": 10, "noisy-or": 5, "grouped": 5}
"""Of each method how many rules of an entity it looks at."""
METHODS: Final = tuple(DEPTHS)
USUAL: Final = 0.01
_NEVER: Final = 1e-4
_SILENCE: Final = np.float32(-1000.0)


class Aggregation(NamedTuple):
    """What compiled functions need: the order of rules, each rule's term of the sum, the group of which an entity has one rule
    (−1: the rule's own), the weight of `usual` by direction; whether its values put paths in the order of their smoothed
    confidence."""

    value: Float32
    term: Float32
    group: Int32
    usual: Float32
    depth: int
    lexicographic: bool
    by_trust: bool = True


class ByDirection(NamedTuple):
    """Several ways to add up, and which one questions of each direction have (`neurosym.induction.kg.tuning`)."""

    ways: tuple[Aggregation, ...]
    way: Int64


def aggregation(
    store: TripleStore, rules: RuleColumns, method: str = "max-plus", depth: int | None = None
) -> Aggregation:
    """One of the methods that need no learning; `max` is max-plus of depth 1, `depth` else that of `DEPTHS` if not given.

    Raises:
        InductionError: an unknown method.
    """
    if method not in METHODS:
        cure = did_you_mean(method, METHODS) or f"known: {', '.join(METHODS)}"
        raise InductionError(Problem(f"unknown aggregation {method!r}", cure=cure))
    depth = DEPTHS[method] if depth is None or method == "max" else depth
    value, group = rules.smoothed, np.full(len(rules), -1, dtype=np.int32)
    usual = np.full(store.directions, USUAL, dtype=np.float32)
    if method == "grouped":
        first, body = len(rules.paths.head), rules.constants.body
        group[first : first + len(body)] = np.where(body < 0, -1, store.csr.source[np.maximum(body, 0)])
    if method in ("noisy-or", "grouped"):
        return Aggregation(value, -np.log1p(-value), group, usual, depth, False)
    return Aggregation(value, np.zeros_like(value), group, usual, depth, True)


class Standing(NamedTuple):
    """Of each entity its `filled` most trusted rules and their values; the `size[0]` entities with any, in `touched`; its score
    and ln p_h."""

    value: Float32
    rule: Int32
    filled: Int32
    touched: Int32
    size: Int64
    score: Float32
    usual: Float32


def nobody(entities: int, depth: int) -> Standing:
    """A standing of entities that nothing speaks for yet."""
    table = (entities, depth)
    return Standing(
        np.zeros(table, dtype=np.float32),
        np.zeros(table, dtype=np.int32),
        np.zeros(entities, dtype=np.int32),
        np.zeros(entities, dtype=np.int32),
        np.zeros(1, dtype=np.int64),
        np.zeros(entities, dtype=np.float32),
        np.zeros(entities, dtype=np.float32),
    )


@compiled
def most_trusted(hits: Int32, value: Float32, group: Int32, standing: Standing) -> int:
    """Fill the lists anew with what `hits` say; how many entities anything speaks for."""
    values, rule, filled, touched = standing.value, standing.rule, standing.filled, standing.touched
    for i in range(standing.size[0]):
        filled[touched[i]] = 0
        values[touched[i]] = 0.0
    depth = values.shape[1]
    n = 0
    for i in range(len(hits)):
        r, y = hits[i, 0], hits[i, 1]
        v, g = value[r], group[r]
        k = filled[y]
        if k == 0:
            touched[n] = y
            n += 1
        if k == depth and v <= values[y, depth - 1]:
            continue
        same = -1
        for j in range(k if g >= 0 else 0):
            if group[rule[y, j]] == g:
                same = j
        if same >= 0:
            if v <= values[y, same]:
                continue
            k = same
        elif k < depth:
            filled[y] = k + 1
        else:
            k = depth - 1
        while k > 0 and values[y, k - 1] < v:
            values[y, k] = values[y, k - 1]
            rule[y, k] = rule[y, k - 1]
            k -= 1
        values[y, k] = v
        rule[y, k] = r
    standing.size[0] = n
    return n


@compiled
def usual_of(csr: Csr, h: int, usual: Float32) -> None:
    """ln(p_h(y) + 10⁻⁴) of all entities y."""
    low, high = csr.first_row[h ^ 1], csr.first_row[(h ^ 1) + 1]
    total = max(1, csr.start[high] - csr.start[low])
    usual[:] = math.log(_NEVER)
    for g in range(low, high):
        usual[csr.source[g]] = math.log((csr.start[g + 1] - csr.start[g]) / total + _NEVER)


@compiled
def stand(csr: Csr, how: Aggregation, h: int, new: bool, hits: Int32, standing: Standing) -> None:
    """Fill `standing` for a question of direction h; `new`: the last question was of another direction."""
    n = most_trusted(hits, how.value, how.group, standing)
    if new:
        usual_of(csr, h, standing.usual)
    standing.score[:] = _SILENCE + standing.usual
    for i in range(n):
        y = standing.touched[i]
        score = how.usual[h] * standing.usual[y]
        for k in range(standing.filled[y]):
            score += how.term[standing.rule[y, k]]
        standing.score[y] = score
