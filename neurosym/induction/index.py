"""Facts as sorted integer arrays: what the exact joins of the rule learner run on.

Every entity gets a number, every relation its facts in compressed sparse rows (CSR) both ways. Entities are numbered by
(scene, name), so the entities of a scene, and the facts of a relation within a scene, are contiguous ranges. A general
graph (no fact has a scene) is the special case of one scene named "".

An entity *is* the pair (scene, name): a rule ranges over one scene, hence `d1` on two films is two entities, and a
constant of a rule is looked up by name within each scene. A fact given twice keeps its largest weight. The order of the
facts in the store does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import InductionError, Problem
from neurosym.records import Fact, FactStore

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_MOST_PROBLEMS: Final = 20
_MOST_PAIRS_LAID_OUT: Final = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """The facts of one relation, sorted by (first, second); for a unary relation `second` is empty.

    The facts with first argument e are first_start[e] … first_start[e + 1] - 1; those with second argument e lie at the
    positions second_order[second_start[e] : second_start[e + 1]]. `scene_start` delimits the scenes likewise.
    """

    name: str
    arity: int
    first: IntArray
    second: IntArray
    weight: FloatArray
    first_start: IntArray
    second_start: IntArray
    second_order: IntArray
    scene_start: IntArray
    ids: IntArray
    """Ascending: the entity of each unary fact, the pair number of each binary one."""
    member: BoolArray | None
    """Membership by entity or pair number; None where the pairs are too many to lay out."""

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True, eq=False)
class FactIndex:
    """A dictionary-encoded fact store; build it with `FactIndex.of(facts)`.

    `pair_id(x, y) = row_start[x] + y - first_of_scene(x)` numbers the ordered pairs of entities of one scene without
    gaps, 0 … pair_count - 1, in the order of (x, y).
    """

    entities: tuple[tuple[str, str], ...]
    """(scene, name) by entity number."""
    scenes: tuple[str, ...]
    scene_of: IntArray
    scene_start: IntArray
    """The entities of scene s are scene_start[s] … scene_start[s + 1] - 1."""
    row_start: IntArray
    relations: tuple[Relation, ...]
    """By name."""
    _number: dict[str, int] = field(repr=False)
    _named: dict[str, list[int]] = field(repr=False)

    @classmethod
    def of(cls, store: FactStore) -> FactIndex:
        """Encode a fact store.

        Raises InductionError, naming every problem, for an empty store, a relation with two arities, more than two
        arguments, a weight outside (0, 1], or a mixture of facts with and without a scene.
        """
        problems = list(_problems(store.facts))
        if problems:
            more = len(problems) - _MOST_PROBLEMS
            raise InductionError(problems[:_MOST_PROBLEMS] + ([Problem(f"… and {more} more")] if more > 0 else []))
        entities = tuple(sorted({(fact.scene, name) for fact in store.facts for name in fact.args}))
        number = {entity: i for i, entity in enumerate(entities)}
        scenes = tuple(sorted({scene for scene, _ in entities}))
        scene_number = {scene: i for i, scene in enumerate(scenes)}
        scene_of = np.array([scene_number[scene] for scene, _ in entities], dtype=np.int64)
        scene_start = np.searchsorted(scene_of, np.arange(len(scenes) + 1)).astype(np.int64)
        row_start = np.concatenate([[0], np.cumsum(np.diff(scene_start)[scene_of])]).astype(np.int64)
        grouped: dict[str, dict[tuple[int, ...], float]] = {}
        for fact in store.facts:
            group = grouped.setdefault(fact.relation, {})
            key = tuple(number[fact.scene, name] for name in fact.args)
            group[key] = max(fact.weight, group.get(key, 0.0))
        names = sorted(grouped)
        named: dict[str, list[int]] = {}
        for i, (_, name) in enumerate(entities):
            named.setdefault(name, []).append(i)
        relations = tuple(_relation(name, grouped[name], scene_of, scene_start, row_start) for name in names)
        numbers = {name: i for i, name in enumerate(names)}
        return cls(entities, scenes, scene_of, scene_start, row_start, relations, numbers, named)

    @property
    def has_scenes(self) -> bool:
        return self.scenes != ("",)

    @property
    def pair_count(self) -> int:
        return int(self.row_start[-1])

    @property
    def scene_sizes(self) -> IntArray:
        return np.diff(self.scene_start)

    def number(self, name: str) -> int | None:
        """The position of a relation in `relations`, None if no fact mentions it."""
        return self._number.get(name)

    def named(self, name: str) -> Relation:
        """The entities called `name`, one a scene at most, as a unary relation: how a constant enters a join."""
        members: dict[tuple[int, ...], float] = {(i,): 1.0 for i in self._named.get(name, ())}
        return _relation(name, members, self.scene_of, self.scene_start, self.row_start, arity=1)

    def empty(self, name: str, arity: int) -> Relation:
        """A relation that a rule mentions and no fact does."""
        return _relation(name, {}, self.scene_of, self.scene_start, self.row_start, arity=arity)

    def pair_id(self, x: IntArray, y: IntArray) -> IntArray:
        """Number of the ordered pair (x, y); both must lie in the same scene, row by row."""
        return np.asarray(self.row_start[x] + y - self.scene_start[self.scene_of[x]])

    def key(self, columns: Sequence[IntArray]) -> IntArray:
        """The numbers that `Relation.ids` holds: of the entity for one column, of the pair for two."""
        return columns[0] if len(columns) == 1 else self.pair_id(*columns)

    def holds(self, relation: Relation, *columns: IntArray) -> BoolArray:
        """For each row: is it a fact?"""
        keys = self.key(columns)
        if relation.member is not None:
            return relation.member[keys]
        places = relation.ids.searchsorted(keys)
        return np.asarray(np.append(relation.ids, -1)[places] == keys)

    def weights(self, relation: Relation, *columns: IntArray) -> FloatArray:
        """For each row, which must be a fact: its weight."""
        return relation.weight[relation.ids.searchsorted(self.key(columns))]


def describe(fact: Fact) -> str:
    """A fact as text, with its scene if it has one.

    >>> describe(Fact("inside", ("d1", "d2"), scene="film7"))
    'inside(d1, d2) of film7'
    """
    return f"{fact.relation}({', '.join(fact.args)})" + (f" of {fact.scene}" if fact.scene else "")


def _relation(
    name: str,
    facts: dict[tuple[int, ...], float],
    scene_of: IntArray,
    scene_start: IntArray,
    row_start: IntArray,
    arity: int = 0,
) -> Relation:
    keys = sorted(facts)
    arity = arity or len(keys[0])
    table = np.array(keys, dtype=np.int64).reshape(len(keys), arity)
    first = np.ascontiguousarray(table[:, 0])
    second = np.ascontiguousarray(table[:, 1]) if arity == 2 else np.empty(0, dtype=np.int64)
    bounds = np.arange(len(scene_of) + 1)
    order = np.argsort(second, kind="stable")
    ids = row_start[first] + second - scene_start[scene_of[first]] if arity == 2 else first
    member: BoolArray | None = None
    space = int(row_start[-1]) if arity == 2 else len(scene_of)
    if arity == 1 or space <= _MOST_PAIRS_LAID_OUT:
        member = np.zeros(space, dtype=bool)
        member[ids] = True
    return Relation(
        name=name,
        arity=arity,
        first=first,
        second=second,
        weight=np.array([facts[key] for key in keys], dtype=np.float64),
        first_start=np.searchsorted(first, bounds).astype(np.int64),
        second_start=np.searchsorted(second[order], bounds).astype(np.int64),
        second_order=order.astype(np.int64),
        scene_start=np.searchsorted(first, scene_start).astype(np.int64),
        ids=ids,
        member=member,
    )


def _problems(facts: tuple[Fact, ...]) -> Iterable[Problem]:
    if not facts:
        yield Problem("there are no facts to learn from", cure="was anything detected?")
        return
    example: dict[str, dict[int, Fact]] = {}
    with_scene: Fact | None = None
    without: Fact | None = None
    for fact in facts:
        example.setdefault(fact.relation, {}).setdefault(len(fact.args), fact)
        if fact.scene:
            with_scene = with_scene or fact
        else:
            without = without or fact
        if not _is_weight(fact.weight):
            yield Problem(f"weight {fact.weight} of {describe(fact)} is not in (0, 1]")
        if fact.relation == "=":
            yield Problem(f"{describe(fact)}: '=' is equality, not a relation that can be learned")
        elif len(fact.args) not in (1, 2):
            yield Problem(f"{describe(fact)} has {len(fact.args)} arguments; rules are induced over one or two")
    for name, arities in sorted(example.items()):
        if len(arities) > 1:
            counts = " and ".join(str(arity) for arity in sorted(arities))
            shown = " and ".join(describe(arities[arity]) for arity in sorted(arities))
            yield Problem(f"relation {name!r} has facts with {counts} arguments: {shown}", cure="rename one of them")
    if with_scene and without:
        yield Problem(
            f"{describe(with_scene)} belongs to a scene but {describe(without)} to none",
            cure="give every fact a scene, or none",
        )


def _is_weight(weight: Any) -> bool:
    try:
        return bool(0.0 < weight <= 1.0)
    except TypeError:
        return False
