r"""Rules in the order in which they shorten the description of the graph: few that say much, none that says it again.

By confidence a specialisation stands above its rule, and what holds of whole kinds above everything. Here a rule counts by what
it says that no rule before it said (a greedy covering), in bits, as in Quinlan's FOIL (Machine Learning 5, 1990) and in KGist
(Belth et al., WWW 2020). If it predicts p pairs that were not predicted before, t of them facts of its head r, it saves

    t · fact(r) − log₂(p + 1) − log₂ C(p, t) − name

    fact(r)    what a fact of r costs by itself, where its f facts are any f of the n · 2^H pairs of an entity with an end,
               log₂ C(n · 2^H, f) / f, H being the entropy of the ends of r, from the side from which that is less
    C(p, t)    which of what it predicts are facts
    name       log₂ of the choices for each relation, direction, sign, variable or constant

Rules come in the order of what they save over the square root of what all facts of their relation cost, so that neither the
largest relations nor the smallest take all the places. A rule that saves nothing is not in the order. Nor is one by which a
relation would be explained by what it explains, for then neither could be read first: of h ← a, b and a ← h, b the one that
saves more. A relation may explain itself.
"""

from __future__ import annotations

import heapq
import math
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from scipy.special import gammaln

from neurosym.induction.kg.bodies import Body, Literal, X, canonical, constant, is_pair, numbered, variables_of
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.engine import Room, solve
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.measures import FloatArray
from neurosym.induction.kg.orders import Order, domain
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import Csr, Int32, Int64, TripleStore

WORK: Final = 10_000_000
"""Facts that may be looked at to list what one rule predicts; one that needs more is not in the order."""
_NOTHING: Final = np.zeros(0, dtype=np.int64)


class Covering(NamedTuple):
    """Numbers of rules, in their order, and the bits that each saves after those before it."""

    rules: Int64
    bits: FloatArray


def covering(store: TripleStore, rules: RuleColumns, most: int, cap: int = WORK) -> Covering:
    """The rules that save most for their relation, one after another; at most so many.

    What a rule saves is counted again when it stands first, not after every choice: it hardly ever grows.

    >>> facts = [(f"x{i}", r, f"y{i}") for i in range(40) for r in ("mother", "parent")]
    >>> from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
    >>> store = TripleStore.of(facts)
    >>> rules = RuleLearner(LearnerConfig(budget=0.0)).fit(store).rules
    >>> [str(rules.rule(store, i)) for i in covering(store, rules, 1).rules]
    ['1 :: mother(X, Y) :- parent(X, Y).']
    """
    relation = rules.relations(store.csr.direction_of).astype(np.int64)
    fact = fact_bits(store)
    gain = _saved(fact[relation], rules.support.astype(np.float64), rules.size.astype(np.float64))
    facts = np.bincount(store.columns()[1], minlength=len(fact))
    whole = np.sqrt(fact * facts)
    gain = gain / whole[relation]
    first = np.lexsort((np.arange(len(rules)), -gain))
    queue = [(-float(gain[i]), int(i), -1) for i in first if gain[i] > 0]  # sorted, so it is a heap
    said = _Said(store, rules, cap)
    turn = np.zeros(len(store.relations), dtype=np.int64)
    chosen: list[int] = []
    bits: list[float] = []
    while queue and len(chosen) < most:
        least, i, counted = heapq.heappop(queue)
        r = int(relation[i])
        if counted == turn[r]:
            if not said.accept(i, r):
                continue
            turn[r] += 1
            chosen.append(i)
            bits.append(-least * whole[r])
            continue
        new, held = said.new(i, r)
        value = float(_saved(fact[r], np.array(float(held)), np.array(float(new)))) - said.name[i]
        if value > 0:
            heapq.heappush(queue, (-value / whole[r], i, int(turn[r])))
    return Covering(np.array(chosen, dtype=np.int64), np.array(bits))


def fact_bits(store: TripleStore) -> FloatArray:
    """Of each relation what one of its facts costs that no rule predicts."""
    csr = store.csr
    size = np.diff(csr.start)
    directions = csr.direction_of
    facts = np.bincount(directions, weights=size, minlength=store.directions)
    share = size / facts[directions]
    entropy = np.bincount(directions, weights=-share * np.log2(share), minlength=store.directions)
    own = facts[::2].astype(np.float64)
    room = len(store.entities) * 2.0 ** entropy.reshape(-1, 2).min(1)
    cost = _log_choose(np.maximum(room, own), own) / own / math.log(2)
    return np.asarray(np.maximum(cost, 1.0))


def name_bits(store: TripleStore, head: Literal, body: Body) -> float:
    """What it costs to say which rule is meant."""
    parts = (head, *body)
    terms = [t for part in parts for t in (part.a, part.b)]
    symbols = math.log2(len(variables_of(parts)) + 1)
    constants = sum(t < 0 for t in terms)
    relations = math.log2(len(store.relations)) + 1
    return len(parts) * relations + len(terms) * symbols + constants * math.log2(len(store.entities))


def _saved(fact: FloatArray, held: FloatArray, predicted: FloatArray) -> FloatArray:
    """Bits, the rule's name not counted."""
    which = _log_choose(predicted, held) / math.log(2)
    return np.asarray(held * fact - np.log2(predicted + 1) - which)


def _log_choose(n: FloatArray, k: FloatArray) -> FloatArray:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


class _Said:
    """What chosen rules predict, by relation, and what others predict beside; a pair is subject · entities + object."""

    def __init__(self, store: TripleStore, rules: RuleColumns, cap: int) -> None:
        self.store, self.rules, self.cap = store, rules, cap
        self.evaluator = Evaluator(store, rules.general.distinct, cap)
        self.name: dict[int, float] = {}
        self._predicted: dict[int, Int64] = {}
        self._said: dict[int, Int64] = {}
        self._rests: dict[int, set[int]] = {}
        self._needs: dict[int, set[int]] = {}
        subjects, relations, objects = store.columns()
        at = np.searchsorted(relations, np.arange(len(store.relations) + 1))
        keys = subjects * len(store.entities) + objects  # ascending within a relation
        self._facts = [keys[low:high] for low, high in pairwise(at)]

    def new(self, i: int, relation: int) -> tuple[int, int]:
        """How many pairs rule i predicts that are not said yet, and how many of them are facts."""
        found = self._predicted[i] if i in self._predicted else self._listed(i)
        found = found[~_within(found, self._said.get(relation, _NOTHING))]
        self._predicted[i] = found
        return len(found), int(_within(found, self._facts[relation]).sum())

    def accept(self, i: int, relation: int) -> bool:
        """Say what rule i predicts, unless its body rests on its head."""
        rests = self._rests.pop(i)
        found = self._predicted.pop(i)
        if relation in self._below(rests):
            return False
        self._needs.setdefault(relation, set()).update(rests)
        self._said[relation] = np.union1d(self._said.get(relation, _NOTHING), found)
        return True

    def _below(self, relations: set[int]) -> set[int]:
        """Relations, and all that chosen rules explain them by."""
        found: set[int] = set()
        left = list(relations)
        while left:
            r = left.pop()
            if r not in found:
                found.add(r)
                left += self._needs.get(r, ())
        return found

    def _listed(self, i: int) -> Int64:
        store, entities = self.store, len(self.store.entities)
        head, body = numbered(store, self.rules.rule(store, i))
        self.name[i] = name_bits(store, head, body)
        self._rests[i] = {literal.relation for literal in body if literal.relation >= 0} - {head.relation}
        if is_pair(body):
            order = self.evaluator.order(body)
            if order is None:
                return _NOTHING
            pairs, work = list_pairs(store.csr, order, domain(store, body), self.evaluator.room, self.cap)
            x, y = (_NOTHING, _NOTHING) if work < 0 else pairs.T.astype(np.int64)
            return np.sort(x * entities + y if head.a == X else y * entities + x)
        members = self.evaluator.members(canonical(body))
        if members is None:
            return _NOTHING
        c = constant(head.b if head.a == X else head.a)
        x = members.without(c).astype(np.int64)
        return np.sort(x * entities + c if head.a == X else c * entities + x)


def _within(keys: Int64, ascending: Int64) -> np.ndarray:
    """Which of some numbers are among others."""
    if not len(ascending):
        return np.zeros(len(keys), dtype=np.bool_)
    at = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    return np.asarray(ascending[at] == keys)


@compiled
def list_pairs(csr: Csr, order: Order, xs: Int32, room: Room, cap: int) -> tuple[Int32, int]:
    """The pairs (x, y) of a body, by x, and the facts looked at, −1 if these would exceed `cap`."""
    found = np.empty((1024, 2), dtype=np.int32)
    m, work = 0, 0
    for x in xs:
        n, looked = solve(csr, order, x, -1, -1, room, cap - work)
        if looked < 0:
            return found[:m], -1
        work += looked + n
        if m + n > len(found):
            more = np.empty((2 * (m + n), 2), dtype=np.int32)
            more[:m] = found[:m]
            found = more
        for k in range(n):
            found[m + k, 0], found[m + k, 1] = x, room.found[k]
        m += n
    return found[:m], work
