"""One population of the genetic search for rules: an island, with a niche for each direction of each relation.

A generation of an island is a number of new bodies (`neurosym.induction.kg.growth`): a niche is drawn, with it a fact to be
explained, and the body is either grown from the fact alone or from a parent that explains it. A body is measured once, for all
heads. A rule is *kept* if it is above the thresholds and says more than its generalisations: its confidence exceeds theirs, and
surely so: its lower bound (Wilson, 95%) exceeds their smoothed confidence. In a niche the best kept bodies are the parents, by
Pareto fronts of

    the lower bound of the confidence, head coverage, brevity, novelty

where novelty is one less for each rule before it that has the same support and body size. Niches and
operators are drawn the more often the more the bodies that came of them explained lately, niches also by their facts.

What an island will find hangs on its `IslandState` alone, of which every generation reports what it changed: an island that was
lost, or a search that was stopped, goes on from there as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import ConfigError, did_you_mean
from neurosym.induction.kg.archive import Row, pair_rows, set_rows
from neurosym.induction.kg.bodies import (
    KINDS,
    Body,
    X,
    canonical,
    canonical_pair,
    freed,
    is_connected,
    is_pair,
    kind_of,
    path_of,
    variables_of,
)
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.growth import CHANGES, REFINE, SEEDS, Fact, Growth
from neurosym.induction.kg.paths import Thresholds
from neurosym.induction.kg.racing import Race
from neurosym.induction.kg.rules import DOUBT
from neurosym.induction.kg.store import Int64, TripleStore
from neurosym.induction.scores import wilson

_FORGET: Final = 0.98


@dataclass(frozen=True, slots=True)
class EvolutionConfig:
    """How rules evolve.

    Attributes:
        most: literals of a body.
        islands: populations that exchange their best.
        brood: new bodies of an island in a generation.
        niche: bodies of a niche that are parents.
        cap: facts that may be looked at to measure one body.
        without: kinds of bodies (`KINDS`) that are not measured, to see what they are worth.
        racing: leave bodies that are surely worth nothing on a sample (`neurosym.induction.kg.racing`).
        delta: by racing, the chance at most that a rule that would be kept is lost, once its body is made.
    """

    most: int = 3
    islands: int = 4
    brood: int = 16
    niche: int = 24
    cap: int = 10_000_000
    seed: int = 0
    without: tuple[str, ...] = ()
    racing: bool = True
    delta: float = 0.05

    def __post_init__(self) -> None:
        least = {"most": 1, "islands": 1, "brood": 1, "niche": 1, "cap": 1}
        problems = [
            f"{k} is {getattr(self, k)} but must be at least {v}" for k, v in least.items() if getattr(self, k) < v
        ]
        if not 0 < self.delta < 1:
            problems.append(f"delta is {self.delta} but must lie between 0 and 1")
        for kind in self.without:
            if kind not in KINDS:
                cure = did_you_mean(kind, KINDS) or f"known: {', '.join(KINDS)}"
                problems.append(f"without: unknown kind of body {kind!r}; {cure}")
        if problems:
            raise ConfigError("; ".join(problems))


@dataclass(frozen=True, slots=True)
class Kept:
    """A rule that is kept: its body, canonical, its head (a direction of pairs, a row of a set), support and body size; its
    support times what its confidence surely exceeds that of its generalisations by."""

    body: Body
    head: int
    support: int
    size: int
    news: float = 0.0

    @property
    def smoothed(self) -> float:
        return self.support / (self.size + DOUBT)


@dataclass(slots=True)
class Niche:
    """The parents of one direction, which of all that it had were refined, and what its bodies were worth lately."""

    parents: list[Kept] = field(default_factory=list)
    worth: float = 1.0
    refined: frozenset[tuple[Body, int]] = frozenset()


@dataclass(slots=True)
class IslandState:
    """All that an island goes on from, or what a generation changed of it.

    Attributes:
        chances: the state of its generator.
        worth: of the operators: what they brought lately.
        niches: by direction.
        seen: bodies that it need not measure.
    """

    chances: Mapping[str, Any]
    worth: dict[str, float]
    niches: dict[int, Niche]
    seen: set[Body]

    @classmethod
    def of(cls, config: EvolutionConfig, number: int, seen: Iterable[Body]) -> Self:
        """That of an island with a number before its first generation."""
        chances = np.random.default_rng((config.seed, number)).bit_generator.state
        return cls(chances, dict.fromkeys((*SEEDS, REFINE, *CHANGES), 1.0), {}, set(seen))

    def update(self, change: IslandState) -> None:
        """Take up what a generation changed."""
        self.chances, self.worth = change.chances, change.worth
        self.niches |= change.niches
        self.seen |= change.seen


class Report(NamedTuple):
    """The rules that a generation found, and what it changed."""

    found: list[Kept]
    change: IslandState


def learned(mean: float, value: float) -> float:
    """A mean that forgets, after one value more; it starts at 1, which is optimistic."""
    return _FORGET * mean + (1 - _FORGET) * max(value, 1e-3)


def _shares(weights: np.ndarray) -> np.ndarray:
    """Weights as chances, none of which dies out but those that are zero."""
    weights = np.where(weights > 0, weights + 0.05 * weights.mean(), 0.0)
    shares: np.ndarray = weights / weights.sum()
    return shares


class Island:
    """One population, which goes on from a state."""

    def __init__(
        self,
        store: TripleStore,
        thresholds: Thresholds,
        config: EvolutionConfig,
        targets: frozenset[int] | None,
        state: IslandState,
    ) -> None:
        self.store, self.thresholds, self.config = store, thresholds, config
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = state.chances
        self.evaluator = Evaluator(store, cap=config.cap)
        self.growth = Growth(self.evaluator, config.most, self.rng)
        self.worth, self.seen = dict(state.worth), set(state.seen)
        self.niches = [replace(state.niches.get(d, Niche())) for d in range(store.directions)]
        self._new: set[Body] = set()
        self._touched: set[int] = set()
        self.facts = np.diff(store.csr.start[store.csr.first_row])
        wanted = np.arange(store.directions) >> 1
        self.wanted = np.isin(wanted, sorted(targets)) if targets is not None else np.ones(len(wanted), dtype=np.bool_)
        self.race: Race | None = None
        if config.racing:
            self.race = Race(self.evaluator, thresholds.smoothed, config.delta, config.seed, self.wanted)

    def generation(self, migrants: Sequence[Kept]) -> Report:
        """New rules that are kept, after others' rules have joined the niches."""
        self._new, self._touched = set(), set()
        self.settle(migrants)
        facts, worth = np.sqrt(self.facts) * self.wanted, np.array([niche.worth for niche in self.niches])
        drawn = self.rng.choice(len(self.niches), self.config.brood, p=_shares(facts * worth))
        found: list[Kept] = []
        for direction in drawn.tolist():
            kind, bodies = self._children(direction)
            kept = [rule for body in bodies for rule in self._measured(body)]
            found += kept
            value = math.log1p(sum(rule.news for rule in kept))
            self.niches[direction].worth = learned(self.niches[direction].worth, value)
            self.worth[kind] = learned(self.worth[kind], value)
        self.settle(found)
        niches = {d: replace(self.niches[d]) for d in sorted(self._touched | set(drawn.tolist()))}
        return Report(found, IslandState(self.rng.bit_generator.state, dict(self.worth), niches, self._new))

    def settle(self, found: Sequence[Kept]) -> None:
        """Rules join their niches, of which the best stay."""
        touched: dict[int, list[Kept]] = {}
        for rule in found:
            touched.setdefault(self.niche_of(rule), []).append(rule)
        for direction, new in touched.items():
            niche = self.niches[direction]
            parents = list(dict.fromkeys([*niche.parents, *new]))
            niche.parents = best(parents, int(self.facts[direction]), self.config.niche)
        self._touched |= set(touched)

    def niche_of(self, rule: Kept) -> int:
        return rule.head if is_pair(rule.body) else int(self.store.csr.direction_of[rule.head]) ^ 1

    def _children(self, direction: int) -> tuple[str, list[Body]]:
        """Bodies that were not measured before, and what made them."""
        niche = self.niches[direction]
        kinds = [*SEEDS, REFINE, *CHANGES] if niche.parents else list(SEEDS)
        kind = kinds[int(self.rng.choice(len(kinds), p=_shares(np.array([self.worth[k] for k in kinds]))))]
        bodies: Sequence[Body | None]
        if kind in SEEDS:
            bodies = [self.growth.seed(kind, self._fact(direction))]
        elif kind == REFINE:
            bodies = self._refined(niche, direction)
        else:
            bodies = [self._changed(kind, niche, direction)]
        new = []
        for body in bodies:
            least = None if body is None else canonical_pair(body)[0] if is_pair(body) else canonical(body)
            if least is None or least in self.seen or is_short(least):
                continue
            if not self.config.without or kind_of(least) not in self.config.without:
                self.seen.add(least)
                self._new.add(least)
                new.append(least)
        return kind, new

    def _changed(self, kind: str, niche: Niche, direction: int) -> Body | None:
        one, other = (niche.parents[int(self.rng.integers(len(niche.parents)))] for _ in range(2))
        fact = self.growth.example(one.body, direction, self._constant(one))
        return None if fact is None else self.growth.change(kind, one.body, fact, other.body)

    def _refined(self, niche: Niche, direction: int) -> Sequence[Body]:
        """The best refinements of the parent with the most support of those that were not refined before."""
        left = [rule for rule in niche.parents if (rule.body, rule.head) not in niche.refined]
        if not left:
            return []
        rule = max(left, key=lambda rule: rule.support)
        niche.refined |= {(rule.body, rule.head)}
        return self.growth.refined(rule.body, direction, self._constant(rule))

    def _constant(self, rule: Kept) -> int:
        """The constant of its head, −1 of pairs."""
        return -1 if is_pair(rule.body) else int(self.store.csr.source[rule.head])

    def _fact(self, direction: int) -> Fact:
        csr = self.store.csr
        low, high = csr.first_row[direction : direction + 2]
        e = int(self.rng.integers(csr.start[low], csr.start[high]))
        g = int(np.searchsorted(csr.start[low : high + 1], e, side="right")) - 1 + int(low)
        return direction, int(csr.source[g]), int(csr.target[e])

    def _measured(self, body: Body) -> list[Kept]:
        """The rules of a body that say more than their generalisations."""
        if is_pair(body):
            known = partial(self._known, body)
            pairs = self.evaluator.pairs(body) if self.race is None else self.race.pairs(body, known)
            rows = [] if pairs is None else pair_rows(pairs, self.thresholds)
        else:
            members = self.evaluator.members(body)
            rows = [] if members is None else set_rows(members, self.store, self.thresholds)
        return self.surprising(body, rows)

    def surprising(self, body: Body, rows: list[Row]) -> list[Kept]:
        """The rules of wanted heads that say more than their generalisations."""
        direction = (lambda head: head) if is_pair(body) else self.store.csr.direction_of.__getitem__
        rows = [row for row in rows if self.wanted[direction(row[0])]]
        if not rows:
            return []
        heads, support, size = (np.array(column) for column in zip(*rows, strict=True))
        confidence, bound = support / size, wilson(support / size, size.astype(np.float64))
        known, plain = np.zeros(len(rows)), np.zeros(len(rows))
        better = confidence > 0
        for parent in generalisations(body):
            own, whole = self._counted(parent, heads)
            known, plain = np.maximum(known, own / (whole + DOUBT)), np.maximum(plain, own / max(1, whole))
            better = (bound > known) & (confidence > plain)
            if not bool(better.any()):
                return []
        news = support * (bound - known)
        return [Kept(body, *rows[i], float(news[i])) for i in np.flatnonzero(better).tolist()]

    def _counted(self, body: Body, heads: Int64) -> tuple[Int64, int]:
        """The support of a body for some heads, and its size; nothing if it needs more work than allowed."""
        if is_pair(body):
            least, back = canonical_pair(body)
            pairs = self.evaluator.pairs(least)
            return (np.zeros_like(heads), 0) if pairs is None else (pairs.support[heads ^ back], pairs.size)
        members = self.evaluator.members(canonical(body))
        return (np.zeros_like(heads), 0) if members is None else (members.supports(heads), len(members.members))

    def _known(self, body: Body) -> NDArray[np.float64]:
        """The most that a generalisation of a set of pairs has of confidence, by direction."""
        heads, known = np.arange(self.store.directions), np.zeros(self.store.directions)
        for parent in generalisations(body):
            own, whole = self._counted(parent, heads)
            known = np.maximum(known, own / max(1, whole))
        return known


def is_short(body: Body) -> bool:
    """Whether the rules of a body are among those that are all found before anything evolves."""
    path = path_of(body)
    return len(path) <= 2 if path else len(body) == 1 and not is_pair(body) and variables_of(body) != [X, X]


def generalisations(body: Body) -> list[Body]:
    """The bodies with one literal less, and those with a variable for one constant, that still hang together."""
    found, pair = [], is_pair(body)
    for k in range(len(body)):
        rest = body[:k] + body[k + 1 :]
        if rest and is_pair(rest) == pair and is_connected(rest):
            found.append(rest)
    return found + freed(body)


def best(rules: Sequence[Kept], facts: int, most: int) -> list[Kept]:
    """Some of the rules of one niche: by Pareto fronts, in a front by the bound."""
    if len(rules) <= most:
        return list(rules)
    support, size = (np.array([getattr(r, k) for r in rules], dtype=np.float64) for k in ("support", "size"))
    bound = wilson(support / size, size)
    same: dict[tuple[int, int], int] = {}
    novelty = []
    for i in np.lexsort((np.arange(len(rules)), -bound)):
        key = (rules[i].support, rules[i].size)
        same[key] = same.get(key, 0) - 1
        novelty.append((i, same[key]))
    last = np.array([n for _, n in sorted(novelty)])
    values = np.stack([bound, support / facts, -np.array([len(r.body) for r in rules], dtype=np.float64), last], 1)
    beaten = (values[:, None] <= values[None]).all(2) & (values[:, None] < values[None]).any(2)
    chosen: list[int] = []
    left = np.ones(len(rules), dtype=bool)
    while len(chosen) < most:
        front = np.flatnonzero(left & ~(beaten & left[None]).any(1))
        chosen += front[np.argsort(-bound[front], kind="stable")].tolist()
        left[front] = False
    return [rules[i] for i in sorted(chosen[:most])]
