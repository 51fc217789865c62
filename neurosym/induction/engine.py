"""Exact measures of one rule on facts, and the cases for and against it.

Let G be the distinct bindings of the head variables for which the body holds (*body size*), and S ⊆ G those for which
the head holds too (*support*). All counts are of bindings of head variables, never of whole bodies.

    confidence     |S| / |G|: closed world, what is not a fact is false
    pca            |S| / |{g ∈ G: something is known of g's subject}|: partial completeness (Galárraga et al., WWW 2013)
    head coverage  |S| / |facts the head matches|
    lift           confidence / prior
    weighted       Σ_G min(w_body(g), w_head(g)) / Σ_G w_body(g), w_body being the best product of the atoms' weights

*Semantics.* Distinct variables bind distinct entities (`injective`, the default); constants are exempt. With scenes,
one binding lies within one scene, so atoms need not share variables: `right_lung(X), heart(Y)` pairs the two of each
film. A variable of the head that the body lacks is existential: the head then holds if some entity fits.

*PCA.* r(X, Y) presumes that whoever has one r-fact has them all: g counts if its subject has any r-fact, the subject
being X, or Y where r is the more functional in that direction. A class c(X), read as type(X, c), counts g if X has any
class at all. For heads of another shape PCA equals the standard confidence. Scene geometry is computed for every pair
of objects, so there the standard confidence is the one to read; PCA is meant for relations that somebody annotated.

*Prior.* Two head variables: the share of ordered pairs of (distinct) entities of one scene that are facts; in a general
graph |facts| / (|subjects| · |objects|). One: the share of entities.

*Weights.* min rather than product in the weighted confidence: a head as certain as its body refutes nothing, even if
neither is certain. (Product would call an inverse of 0.9-facts 90% right.) With all weights 1 it equals the confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from neurosym.errors import InductionError, Problem
from neurosym.induction.clauses import free_variables
from neurosym.induction.index import BoolArray, FactIndex, FloatArray, Relation
from neurosym.induction.joins import Step, Table, TooExpensiveError, bind
from neurosym.knowledge.subsumption import Coded, encode
from neurosym.records import Atom, FactStore, Rule

WORK_CAP: Final = 5_000_000
"""Most rows of an intermediate table by default: about half a gigabyte, a few seconds."""
ROW: Final = -1_000_000
"""The pseudo-variable that remembers which body grounding a row of the head's join belongs to."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the facts say about a rule. Counts are exact; the lists of cases are cut to a readable length.

    A case is a scene, or in a general graph a head fact. Strongest first, then by name: a supporting case by
    min(w_body, w_head), a refuting one by w_body. A scene may both support and refute.
    """

    body_size: int
    support: int
    confidence: float
    pca_confidence: float
    head_coverage: float
    lift: float
    prior: float
    head_size: int
    weighted_body: float
    weighted_support: float
    weighted_confidence: float
    supporting: tuple[str, ...]
    refuting: tuple[str, ...]
    supporting_count: int
    refuting_count: int


def evaluate_rule(
    rule: Rule, facts: FactStore | FactIndex, *, injective: bool = True, cases: int = 50, work_cap: int = WORK_CAP
) -> Evaluation:
    """Measure a rule on facts, exactly.

    Args:
        rule: any rule with a head and a body over unary and binary relations; its weight plays no part. Several head
            atoms are a conjunction. A relation without facts is empty. Ratios with denominator 0 are 0.
        facts: a store, or a `FactIndex` built once from it when many rules are measured.
        injective: distinct variables bind distinct entities.
        cases: most supporting and most refuting cases to list.
        work_cap: most rows of an intermediate table.

    Raises:
        InductionError: a denial, a rule without a body or with conditions, equality, a relation used with another arity
            than its facts have, or a rule that needs more work than `work_cap`.

    >>> from neurosym.records import Fact, Term
    >>> x, y = Term("X"), Term("Y")
    >>> rule = Rule((Atom("left_of", (x, y)),), (Atom("right_lung", (x,)), Atom("heart", (y,))))
    >>> film = {"right_lung": ("d1",), "heart": ("d2",), "left_of": ("d1", "d2")}
    >>> evaluate_rule(rule, FactStore(tuple(Fact(r, args, scene="film1") for r, args in film.items()))).confidence
    1.0
    """
    index = facts if isinstance(facts, FactIndex) else FactIndex.of(facts)
    groundings, held, head_size = ground(rule, index, injective=injective, work_cap=work_cap)
    head = encode(rule.head, {})
    frontier = tuple(groundings.columns)
    assert groundings.weight is not None
    strength = np.minimum(groundings.weight, held)
    holds = held > 0
    support, body_size = int(holds.sum()), len(groundings)
    confidence = _ratio(support, body_size)
    prior = _prior(index, head, frontier, head_size, injective)
    known = _known_subjects(index, head, groundings)
    supporting, supporting_count = _cases(index, rule, groundings, holds, strength, cases)
    refuting, refuting_count = _cases(index, rule, groundings, ~holds, groundings.weight, cases)
    weighted_body = float(groundings.weight.sum())
    return Evaluation(
        body_size=body_size,
        support=support,
        confidence=confidence,
        pca_confidence=confidence if known is None else _ratio(support, int(known.sum())),
        head_coverage=_ratio(support, head_size),
        lift=_ratio(confidence, prior),
        prior=prior,
        head_size=head_size,
        weighted_body=weighted_body,
        weighted_support=float(strength.sum()),
        weighted_confidence=_ratio(float(strength.sum()), weighted_body),
        supporting=supporting,
        refuting=refuting,
        supporting_count=supporting_count,
        refuting_count=refuting_count,
    )


def ground(
    rule: Rule, index: FactIndex, *, injective: bool = True, work_cap: int = WORK_CAP
) -> tuple[Table, FloatArray, int]:
    """The body's bindings of the head's variables, the head's weight at each (0: it does not hold), and the head's bindings.

    The variables are numbered as they occur in the head. For what is raised see `evaluate_rule`.
    """
    require_measurable(rule, index)
    numbers: dict[str, int] = {}
    head, body = encode(rule.head, numbers), encode(rule.body, numbers)
    unbound = {numbers[v.name] for v in rule.existential}
    frontier = tuple(v for v in free_variables(head) if v not in unbound)
    try:
        groundings = project(index, query(index, body, injective, work_cap), frontier)
        held = head_weights(index, head, groundings, injective, work_cap)
        head_size = len(project(index, query(index, head, injective, work_cap), frontier))
    except TooExpensiveError:
        raise InductionError(
            Problem(
                f"measuring {rule} needs a table of more than {work_cap:,} rows",
                cure="add an atom that ties its variables together, or raise work_cap",
            )
        ) from None
    return groundings, held, head_size


def prior_of(index: FactIndex, relation: Relation, injective: bool) -> float:
    """The chance that c(X), or r(X, Y), holds for entities taken at random (of one scene): see "Prior" above."""
    if relation.arity == 1:
        return _ratio(len(relation), len(index.entities))
    if not index.has_scenes:
        return _ratio(len(relation), len(np.unique(relation.first)) * len(np.unique(relation.second)))
    loops = int((relation.first == relation.second).sum()) if injective else 0
    return _ratio(len(relation) - loops, _room(index, 2, injective))


def object_is_subject(relation: Relation) -> bool:
    """PCA's direction: is the relation more functional read backwards, having more distinct objects than subjects?"""
    return len(np.unique(relation.second)) > len(np.unique(relation.first))


def require_measurable(rule: Rule, index: FactIndex) -> None:
    """Raise InductionError, naming every reason, for a rule that has no measures on these facts."""
    problems: list[Problem] = []

    def complain(message: str, cure: str = "") -> None:
        problems.append(Problem(message, file=rule.file, line=rule.line, cure=cure))

    if not rule.head:
        complain(f"{rule} is a denial: without a head it has no confidence", "give it a head to count violations by")
    if not rule.body:
        complain(f"{rule} has no body: there is nothing to condition on")
    if rule.conditions:
        complain(f"{rule} has conditions ({', '.join(map(str, rule.conditions))}), which are not measured")
    for atom in dict.fromkeys((*rule.head, *rule.body)):
        if atom.predicate == "=":
            complain(f"{rule} uses equality, which has no facts", "distinct variables already bind distinct entities")
        elif len(atom.args) not in (1, 2):
            complain(f"{atom} has {len(atom.args)} arguments; facts have one or two")
        elif (number := index.number(atom.predicate)) is not None and index.relations[number].arity != len(atom.args):
            arity = index.relations[number].arity
            complain(f"{atom} has {len(atom.args)} arguments but the facts of {atom.predicate!r} have {arity}")
    if problems:
        raise InductionError(problems)


def steps_of(index: FactIndex, atoms: tuple[Coded, ...]) -> tuple[list[Step], frozenset[int]]:
    """Atoms as steps of a join; a constant becomes a variable (-1, -2, …) that only its namesakes satisfy."""
    names = sorted({a for _, args in atoms for a in args if isinstance(a, str)})
    stand_in = {name: -1 - i for i, name in enumerate(names)}
    steps: list[Step] = [(index.named(name), (variable,)) for name, variable in stand_in.items()]
    for predicate, args in atoms:
        number = index.number(predicate)
        relation = index.empty(predicate, len(args)) if number is None else index.relations[number]
        steps.append((relation, tuple(stand_in[a] if isinstance(a, str) else a for a in args)))
    return steps, frozenset(stand_in.values())


def query(index: FactIndex, atoms: tuple[Coded, ...], injective: bool, cap: int) -> Table:
    """Every binding of the atoms' variables for which they are facts."""
    steps, constants = steps_of(index, atoms)
    return bind(index, steps, injective=injective, cap=cap, weighted=True, constants=constants)


def project(index: FactIndex, table: Table, frontier: tuple[int, ...]) -> Table:
    """The distinct bindings of the frontier, each with its largest weight; one a scene where the frontier is empty."""
    assert table.weight is not None
    scenes = index.scene_of[table.anchor]
    keys = np.stack([table.columns[v] for v in frontier] if frontier else [scenes], axis=1)
    distinct, which = np.unique(keys, axis=0, return_inverse=True)
    weight = np.zeros(len(distinct))
    np.maximum.at(weight, which.reshape(-1), table.weight)
    anchor = distinct[:, 0] if frontier else index.scene_start[distinct[:, 0]]
    return Table({v: distinct[:, i] for i, v in enumerate(frontier)}, anchor, weight)


def head_weights(index: FactIndex, head: tuple[Coded, ...], groundings: Table, injective: bool, cap: int) -> FloatArray:
    """For each binding the weight of the head, 0 where it does not hold; the best of an existential head."""
    columns = {**groundings.columns, ROW: np.arange(len(groundings))}
    steps, constants = steps_of(index, head)
    start = Table(columns, groundings.anchor, np.ones(len(groundings)))
    found = bind(index, steps, injective=injective, cap=cap, start=start, constants=constants | {ROW})
    assert found.weight is not None
    held = np.zeros(len(groundings))
    np.maximum.at(held, found.columns[ROW], found.weight)
    return held


def _room(index: FactIndex, places: int, injective: bool) -> float:
    """How many ways there are to put (distinct) entities of one scene into so many places."""
    sizes = index.scene_sizes.astype(np.float64)
    ways = np.ones_like(sizes)
    for i in range(places):
        ways *= np.maximum(sizes - i, 0) if injective else sizes
    return float(ways.sum())


def _prior(
    index: FactIndex, head: tuple[Coded, ...], frontier: tuple[int, ...], head_size: int, injective: bool
) -> float:
    predicate, args = head[0]
    number = index.number(predicate)
    if len(head) == 1 and number is not None and len(frontier) == len(args) == len(set(args)):
        return prior_of(index, index.relations[number], injective)
    return _ratio(head_size, _room(index, len(frontier), injective))


def _known_subjects(index: FactIndex, head: tuple[Coded, ...], groundings: Table) -> BoolArray | None:
    """PCA's choice of body groundings; None where it means nothing and the standard confidence stands in."""
    predicate, args = head[0]
    number = index.number(predicate)
    if len(head) > 1 or number is None or any(isinstance(a, int) and a not in groundings.columns for a in args):
        return None
    relation = index.relations[number]
    known = np.zeros(len(index.entities), dtype=bool)
    if relation.arity == 1:
        for other in index.relations:
            if other.arity == 1:
                known[other.first] = True
        place = 0
    else:
        place = int(object_is_subject(relation))
        if isinstance(args[place], str):
            place = 1 - place
        known[relation.second if place else relation.first] = True
    return None if isinstance(args[place], str) else known[groundings.columns[args[place]]]


def _cases(
    index: FactIndex, rule: Rule, groundings: Table, chosen: BoolArray, strength: FloatArray, most: int
) -> tuple[tuple[str, ...], int]:
    """The scenes (or head facts) of the chosen groundings, strongest first, then by name; and how many there are."""
    rows = np.flatnonzero(chosen)
    if index.has_scenes:
        best = np.zeros(len(index.scenes))
        np.maximum.at(best, index.scene_of[groundings.anchor[rows]], strength[rows])
        order = np.argsort(-best, kind="stable")
        count = int(np.count_nonzero(best))
        return tuple(index.scenes[i] for i in order[: min(most, count)]), count
    numbers: dict[str, int] = {}
    encode(rule.head, numbers)
    order = rows[np.argsort(-strength[rows], kind="stable")][:most]
    bound = [{v: index.entities[column[row]][1] for v, column in groundings.columns.items()} for row in order]
    return tuple(", ".join(_ground(atom, numbers, names) for atom in rule.head) for names in bound), len(rows)


def _ground(atom: Atom, numbers: dict[str, int], bound: dict[int, str]) -> str:
    args = (bound.get(numbers[t.name], t.name) if t.is_variable else t.name for t in atom.args)
    return f"{atom.predicate}({', '.join(args)})"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
