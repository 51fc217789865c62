"""Genetic search for longer bodies: Evoda (Wu, Sallinger, Sherkhonov, Vahdati, Gottlob, ICDE 2022), adapted.

As there: a rule is a chromosome and an atom a gene; parents are drawn in proportion to fitness; mutation replaces
predicates and variables, crossover swaps a body atom between two rules; a covering loop takes the facts explained by
accepted rules out of the reward. Ours: one niche per head relation with elitism; a start from the best of all rules of
one and two atoms, and in a general graph from chains between examples (`paths`), instead of the singleton copy rule;
mutations that also add and drop atoms, and only put a relation where its arguments have entities in common with the
variable's other places; facts are discounted only as far as they are explained (by the lower bound of the best accepted
rule's confidence), so a sharper rule still earns its keep; neighbours of the fittest body are tried out one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from random import Random
from typing import Final

import numpy as np

from neurosym.induction.clauses import Body, BodyAtom, free_variables, is_connected
from neurosym.induction.config import EXACT_BODY, InductionConfig
from neurosym.induction.index import BoolArray, FactIndex
from neurosym.induction.paths import Paths
from neurosym.induction.scores import BREVITY, Scorer, Scores, Spelling
from neurosym.induction.seeds import fits
from neurosym.induction.subsumption import Known

_CROSSOVER: Final = 0.25
_ELITE: Final = 5
"""One in so many survives unchanged."""
_IMMIGRANTS: Final = 10
"""One in so many is new in each generation, against inbreeding."""
_EPOCH: Final = 5
"""Generations between two rounds of the covering loop."""
_ACCEPTED_PER_EPOCH: Final = 3
_KNOWN_FACTS_COUNT: Final = 0.2
"""What is left of the fitness of a rule that explains nothing new: it may still be a step on the way."""
_PATIENCE: Final = 0.95 / BREVITY
"""Fitness penalises a place less than quality does: a step that pays off with the next one must live to see it."""
_EXAMPLES: Final = 20
"""Facts of the head whose chains are counted at a time."""
_TRIES: Final = 20


class Coverage:
    """How well each fact of one head relation is explained by the rules accepted so far: the covering loop's memory."""

    def __init__(self, scorer: Scorer, head: int) -> None:
        self.scorer, self.head = scorer, head
        self.row = scorer.row[head]
        self.explained = np.zeros(len(scorer.slots))

    def novelty(self, scores: Scores) -> float:
        """The mean improvement over the facts the rule derives, as a share of its bound: 1 if none was explained."""
        bound = float(scores.bound[self.row])
        before = self.explained[self.scorer.supported(scores, self.head)]
        return float(np.maximum(0.0, bound - before).mean() / bound) if bound and len(before) else 0.0

    def improved(self, scores: Scores, margin: float) -> int:
        """How many facts the rule explains better, by more than the margin, than any accepted rule."""
        before = self.explained[self.scorer.supported(scores, self.head)]
        return int(np.count_nonzero(before < float(scores.bound[self.row]) - margin))

    def accept(self, scores: Scores) -> None:
        """Count the rule's facts as explained."""
        supported = self.scorer.supported(scores, self.head)
        self.explained[supported] = np.maximum(self.explained[supported], float(scores.bound[self.row]))


class Breeder:
    """Makes new bodies of old ones for one head relation; every body it returns is valid, lean and canonical."""

    def __init__(
        self, index: FactIndex, config: InductionConfig, head: int, spelling: Spelling, known: Known, places: BoolArray
    ) -> None:
        self.index, self.config, self.spelling, self.known, self.places = index, config, spelling, known, places
        self.arity = index.relations[head].arity
        self.head: BodyAtom = (head, tuple(range(self.arity)))
        self.relations = range(len(index.relations))
        self.unary = [p for p in self.relations if index.relations[p].arity == 1]
        self.binary = [p for p in self.relations if index.relations[p].arity == 2]

    def mutate(self, body: Body, rng: Random) -> Body | None:
        """Add an atom (or two: a relation to something new, with its class), drop, relabel or relink one."""
        operators = [self._add, self._add, self._attach, self._swap, self._relink, self._drop]
        for _ in range(_TRIES):
            atoms = rng.choice(operators)(list(body), rng)
            child = None if atoms is None else self.repair(atoms)
            if child is not None and child != body:
                return child
        return None

    def cross(self, body: Body, other: Body, rng: Random) -> Body | None:
        """Put an atom of the other body in place of one of this body's."""
        for _ in range(_TRIES):
            atoms = list(body)
            predicate, args = rng.choice(other)
            # Variables beyond the head mean nothing across rules: each may land on any of this rule's.
            free = range(self.arity, self.config.max_variables)
            moved = {v: rng.choice(free) for v in args if v >= self.arity} if free else {}
            atoms[rng.randrange(len(atoms))] = (predicate, tuple(moved.get(v, v) for v in args))
            child = self.repair(atoms)
            if child is not None and child != body:
                return child
        return None

    def neighbours(self, body: Body) -> Iterator[Body]:
        """The bodies one step away: with an atom more, or with an atom of the same arity in place of one."""
        used = [*range(self.arity), *free_variables(body, self.arity)]
        terms = [*used, max(used) + 1] if len(used) < self.config.max_variables else used
        more: list[BodyAtom] = [(p, (v,)) for p in self.unary for v in used]
        if len(body) < self.config.max_body:
            more += [(p, pair) for p in self.binary for pair in permutations(terms, 2)]
            yield from filter(None, (self.repair([*body, atom]) for atom in more))
        for i, (_, args) in enumerate(body):
            rest = [*body[:i], *body[i + 1 :]]
            others = [(p, pair) for p in self.binary for pair in permutations(args)]
            choices = others if len(args) == 2 else [atom for atom in more if len(atom[1]) == 1]
            yield from filter(None, (self.repair([*rest, atom]) for atom in choices))

    def repair(self, atoms: Sequence[BodyAtom]) -> Body | None:
        """The body in canonical form without superfluous atoms; None if it is no valid body for the head."""
        atoms = tuple(dict.fromkeys(atoms))
        if not atoms or len(atoms) > self.config.max_body or self.head in atoms:
            return None
        variables = {v for _, args in atoms for v in args}
        if not variables.issuperset(self.head[1]) or len(variables) > self.config.max_variables:
            return None
        if any(len(set(args)) != len(args) for _, args in atoms):
            return None
        if not self.index.has_scenes and not is_connected(atoms, self.head[1]):
            return None
        if not fits((*atoms, self.head), self.places):
            return None
        body = self.spelling.body(atoms, self.arity)
        while superfluous := self.known.superfluous(body):
            gone = superfluous[-1]
            body = self.spelling.body([atom for atom in body if atom != gone], self.arity)
        return body

    def _variable(self, atoms: Sequence[BodyAtom], rng: Random) -> int:
        """One of the rule's variables, or now and then a new one."""
        used: list[int] = [*range(self.arity), *free_variables(atoms, self.arity)]
        new = max(used) + 1
        return rng.choice([*used, new] if len(used) < self.config.max_variables else used)

    def _add(self, atoms: list[BodyAtom], rng: Random) -> list[BodyAtom] | None:
        if len(atoms) >= self.config.max_body:
            return None
        predicate = rng.choice(self.relations)
        args: list[int] = []
        for _ in range(self.index.relations[predicate].arity):
            args.append(self._variable([*atoms, (predicate, tuple(args))], rng))
        return [*atoms, (predicate, tuple(args))]

    def _attach(self, atoms: list[BodyAtom], rng: Random) -> list[BodyAtom] | None:
        """A binary atom to a new variable and a unary atom on that: `inside(X, Z), left_lung(Z)`."""
        if len(atoms) + 2 > self.config.max_body or not self.unary or not self.binary:
            return None
        used = [*range(self.arity), *free_variables(atoms, self.arity)]
        old, new = rng.choice(used), max(used) + 1
        link = rng.choice(self.binary), rng.choice([(old, new), (new, old)])
        return [*atoms, link, (rng.choice(self.unary), (new,))]

    def _drop(self, atoms: list[BodyAtom], rng: Random) -> list[BodyAtom] | None:
        del atoms[rng.randrange(len(atoms))]
        return atoms

    def _swap(self, atoms: list[BodyAtom], rng: Random) -> list[BodyAtom] | None:
        i = rng.randrange(len(atoms))
        args = atoms[i][1]
        predicate = rng.choice(self.unary if len(args) == 1 else self.binary)
        atoms[i] = (predicate, args[::-1] if rng.random() < 0.3 else args)
        return atoms

    def _relink(self, atoms: list[BodyAtom], rng: Random) -> list[BodyAtom] | None:
        i = rng.randrange(len(atoms))
        predicate, args = atoms[i]
        changed = list(args)
        changed[rng.randrange(len(changed))] = self._variable(atoms, rng)
        atoms[i] = (predicate, tuple(changed))
        return atoms


class Niche:
    """The population of one head relation."""

    def __init__(
        self, scorer: Scorer, breeder: Breeder, seeds: Sequence[Body], paths: Paths | None, rng: Random
    ) -> None:
        self.scorer, self.breeder, self.paths, self.rng = scorer, breeder, paths, rng
        self.head = breeder.head[0]
        self.size = breeder.config.population
        self.coverage = Coverage(scorer, self.head)
        self.seeds = self._rated(seeds)
        best = sorted(self.seeds, key=lambda body: (-self.seeds[body], len(body), body))[: self.size // 2]
        self.population = list(dict.fromkeys([*best, *self._drawn(self.size - len(best))]))
        self.generation = 0
        self.polished: set[Body] = set()

    def step(self) -> None:
        """One generation; every `_EPOCH` the best rules are accepted and what they explain is discounted."""
        if self.generation % _EPOCH == 0:
            self._cover()
            self.population = list(dict.fromkeys([*self.population, *self._chains(self.size // 4)]))
        fitness = self._ranked()
        ranked, weights = list(fitness), [value + 1e-6 for value in fitness.values()]
        self.generation += 1
        if not ranked:
            return
        elite = ranked[: max(1, self.size // _ELITE)]
        following = dict.fromkeys([*elite, *self._drawn(self.size // _IMMIGRANTS)])
        for _ in range(2 * self.size):
            if len(following) >= self.size:
                break
            mother, father = self.rng.choices(ranked, weights, k=2)
            crossing = self.rng.random() < _CROSSOVER
            child = self.breeder.cross(mother, father, self.rng) if crossing else self.breeder.mutate(mother, self.rng)
            if child is not None:
                self.scorer.score(child)
                following[child] = None
        self.population = list(following)

    def fitness(self, body: Body) -> float:
        """Quality, discounted by what accepted rules explain already."""
        scores = self.scorer.score(body)
        if scores is None or not (quality := float(scores.quality[self.coverage.row])):
            return 0.0
        quality *= _PATIENCE ** sum(len(args) for _, args in body)
        return quality * (_KNOWN_FACTS_COUNT + (1 - _KNOWN_FACTS_COUNT) * self.coverage.novelty(scores))

    def _ranked(self) -> dict[Body, float]:
        """The population with its fitness, fittest first; of bodies that hold at the same facts only the shortest."""
        shortest: dict[tuple[int, bytes], Body] = {}
        for body in sorted(self.population, key=lambda body: (len(body), body)):
            scores = self.scorer.score(body)
            if scores is not None:
                shortest.setdefault((scores.body_size, scores.hits.tobytes()), body)
        fitness = {body: self.fitness(body) for body in shortest.values()}
        return dict(sorted(fitness.items(), key=lambda item: (-item[1], len(item[0]), item[0])))

    def _rated(self, seeds: Sequence[Body]) -> dict[Body, float]:
        """The seeds of any quality for this head."""
        quality: dict[Body, float] = {}
        for body in seeds:
            if self.breeder.known.entails(self.breeder.head, body):  # what is as good as known breeds nothing new
                continue
            scores = self.scorer.score(body)
            if scores is not None and scores.quality[self.coverage.row] > 0:
                quality[body] = float(scores.quality[self.coverage.row])
        return quality

    def _drawn(self, count: int) -> list[Body]:
        """Seeds drawn in proportion to their quality: the best alone would be much alike."""
        return self.rng.choices(list(self.seeds), list(self.seeds.values()), k=count) if self.seeds else []

    def _chains(self, most: int) -> list[Body]:
        """In a general graph: the chains that tell facts not explained yet from pairs at random."""
        config, relation = self.breeder.config, self.breeder.index.relations[self.head]
        if self.paths is None:
            return []
        longest = min(config.max_body, config.max_variables - 1, self.paths.longest)
        if longest <= EXACT_BODY:
            return []
        doubt = 1.0 - self.coverage.explained[self.scorer.slots.searchsorted(relation.ids)]
        rows = self.rng.choices(range(len(relation)), doubt.tolist(), k=_EXAMPLES)
        pairs = [(int(relation.first[i]), int(relation.second[i])) for i in rows]
        others = [(x, self.rng.choice(pairs)[1]) for x, _ in pairs]
        length, seed = self.rng.randint(EXACT_BODY + 1, longest), self.rng.getrandbits(32)
        chains = self.paths.contrast(pairs, others, length, 2 * most, seed)
        bodies = (self.breeder.repair(atoms) for atoms in chains)
        return list(dict.fromkeys(filter(None, bodies)))[:most]

    def _cover(self) -> None:
        self._polish()
        for _ in range(_ACCEPTED_PER_EPOCH):
            gain = {body: self._gain(body) for body in self.population if (self.head, body) in self.scorer.found}
            best = min(gain, key=lambda body: (-gain[body], len(body), body), default=None)
            if best is None or not gain[best]:
                return
            scores = self.scorer.score(best)
            assert scores is not None  # it is in `found`
            self.coverage.accept(scores)

    def _polish(self) -> None:
        """Add the neighbours of the fittest evolved body not yet looked at that outdo it."""
        body = next((b for b in self._ranked() if len(b) > EXACT_BODY and b not in self.polished), None)
        if body is None:
            return
        self.polished.add(body)
        fitness = self.fitness(body)
        near = dict.fromkeys(self.breeder.neighbours(body))
        self.population += [b for b in near if self.fitness(b) > fitness and b not in self.population]

    def _gain(self, body: Body) -> float:
        scores = self.scorer.score(body)
        return float(scores.quality[self.coverage.row]) * self.coverage.novelty(scores) if scores else 0.0
