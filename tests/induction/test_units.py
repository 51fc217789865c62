from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurosym.induction.engine import evaluate_rule
from neurosym.induction.index import FactIndex
from neurosym.induction.units import counts_by_scene, units_of, units_within
from neurosym.knowledge import parse_rules
from neurosym.records import Atom, Fact, FactStore, Rule, Term
from tests.induction.made_up_films import films
from tests.induction.rule_brute_force import World, variables_of
from tests.induction.rule_strategies import rules, stores

FILMS = films(12, seed=3)
RULES = (
    "typical(S) :- film(S), nodule(N).",
    "typical(S) :- film(S).",
    "lower_zone(X) :- opacity(X), inside(X, L), left_lung(L).",
    "lower_zone(X) :- opacity(X).",
    "left_of(X, Y) :- right_lung(X), heart(Y).",
    "overlaps(X, Y) :- opacity(X), left_lung(Y), left_of(X, Y).",
    "above(X, Y) :- opacity(X), below(Y, X).",
    "inside(N, L), left_lung(L) :- nodule(N).",
    "lower_zone(X), opacity(X) :- film(S).",
)


def the(text: str) -> Rule:
    [rule] = parse_rules(text)
    return rule


@pytest.mark.parametrize("text", RULES)
def test_the_counts_of_a_scene_are_those_of_the_rule_on_that_scene_alone(text: str) -> None:
    index = FactIndex.of(FILMS)
    support, size = counts_by_scene(the(text), index)
    for i, scene in enumerate(index.scenes):
        alone = evaluate_rule(the(text), FactStore(tuple(f for f in FILMS.facts if f.scene == scene)))
        assert (support[i], size[i]) == (alone.support, alone.body_size)


def tried_one_by_one(text: str) -> list[tuple[str, bool, bool]]:
    """The units of a rule, by trying every choice of entities: scene, body, head."""
    rule = the(text)
    bound = {t for a in rule.body for t in a.args}
    free = [t for t in dict.fromkeys(t for a in rule.head for t in a.args) if t in bound]
    classes = [a for a in rule.body if len(a.args) == 1 and a.args[0] in free]
    found = []
    for scene in sorted({f.scene for f in FILMS.facts}):
        held = {(f.relation, f.args) for f in FILMS.facts if f.scene == scene}
        things = sorted({name for _, args in held for name in args})

        def holds(atoms, theta, held=held, things=things) -> bool:  # type: ignore[no-untyped-def]
            rest = [t for t in dict.fromkeys(t for a in atoms for t in a.args) if t not in theta]
            for chosen in permutations([x for x in things if x not in theta.values()], len(rest)):
                full = theta | dict(zip(rest, chosen, strict=True))
                if all((a.predicate, tuple(full[t] for t in a.args)) in held for a in atoms):
                    return True
            return False

        for chosen in permutations(things, len(free)):
            theta = dict(zip(free, chosen, strict=True))
            if len(classes) < len(rule.body):
                named = {a.args[0] for a in classes}
                kind = all((a.predicate, (theta[a.args[0]],)) in held for a in classes)
                kind = kind and all(theta[t] != scene for t in free if t not in named)
            else:
                on_film = "film(" in text
                kind = all((x == scene) == on_film for x in chosen)
            if kind:
                found.append((scene, holds(rule.body, theta), holds(rule.head, theta)))
    return sorted(found)


@pytest.mark.parametrize("text", RULES[:8])
def test_units_are_the_choices_of_the_kind_that_the_body_names(text: str) -> None:
    index = FactIndex.of(FILMS)
    units = units_of(the(text), index)
    assert units is not None
    got = sorted(zip([index.scenes[i] for i in units.scene], units.body.tolist(), units.head.tolist(), strict=True))
    assert got == tried_one_by_one(text)
    assert {True, False} & set(units.body.tolist())


def test_a_head_apart_from_the_body_has_a_unit_a_scene() -> None:
    units = units_of(the("left_lung(L) :- nodule(N)."), FactIndex.of(FILMS))
    assert units is not None
    assert units.scene.tolist() == list(range(12))
    assert units.head.all()
    with_nodule = {f.scene for f in FILMS.facts if f.relation == "nodule"}
    assert int(units.body.sum()) == len(with_nodule) < 12


def test_units_beyond_the_limit_are_not_counted() -> None:
    assert units_of(the("above(X, Y) :- below(Y, X)."), FactIndex.of(FILMS), work_cap=400) is None


def test_units_whose_heads_have_bindings_beyond_the_limit_are_not_counted() -> None:
    seen = [Fact("near", (f"o{i}", f"z{j}"), scene="film") for i in range(30) for j in range(30)]
    seen += [Fact("marked", (f"z{j}",), scene="film") for j in range(16)]
    index = FactIndex.of(FactStore((*seen, Fact("opacity", ("o0",), scene="film"))))
    rule = the("near(X, Z), marked(Z) :- opacity(X).")  # measured from the 16 marked things: 480 pairs on the way
    assert evaluate_rule(rule, index, work_cap=480).support == 1
    assert units_of(rule, index, work_cap=899) is None  # from the units' side there are all 900
    units = units_of(rule, index, work_cap=900)
    assert units is not None
    assert int(units.head.sum()) == 30


@given(st.integers(0, 30))
@settings(max_examples=15)
def test_the_units_where_the_body_holds_are_its_groundings(seed: int) -> None:
    index = FactIndex.of(films(4, seed=seed))
    for text in RULES[:8]:
        units, measured = units_of(the(text), index), evaluate_rule(the(text), index)
        assert units is not None
        assert int(units.body.sum()) == measured.body_size
        assert int(np.sum(units.body & units.head)) == measured.support


def within_one_by_one(rule: Rule, less: Rule, store: FactStore) -> list[tuple[str, bool, bool]]:
    """The units where the body of `less` holds, by trying every binding: scene, the whole body, head."""
    world = World(store)
    found = []
    for scene in world.entities:

        def where(atoms: tuple[Atom, ...], scene: str = scene) -> Iterator[dict[Term, str]]:
            for theta in world.assignments(variables_of(atoms), True, scene):
                if world.truth(atoms, theta, scene):
                    yield theta

        frontier = [v for v in variables_of(rule.head) if v in variables_of(less.body)]
        units = {tuple(theta[v] for v in frontier) for theta in where(less.body)}
        whole = {tuple(theta[v] for v in frontier) for theta in where(rule.body)}
        held = {tuple(theta[v] for v in frontier) for theta in where(rule.head)}
        found += [(scene, unit in whole, unit in held) for unit in units]
    return sorted(found)


@given(stores(), rules(), st.data())
@settings(max_examples=200)
def test_units_within_are_the_bindings_of_less_told_apart_by_the_whole_body(
    store: FactStore, rule: Rule, data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(rule.body), max_size=len(rule.body)))
    less = replace(rule, body=tuple(a for a, keep in zip(rule.body, kept, strict=True) if keep))
    assume(less.body and less.existential == rule.existential)
    index = FactIndex.of(store)
    units = units_within(rule, less, index)
    got = zip([index.scenes[i] for i in units.scene], units.body.tolist(), units.head.tolist(), strict=True)
    assert sorted(got) == within_one_by_one(rule, less, store)


@pytest.mark.parametrize(
    ("whole", "less"),
    [
        ("typical(S) :- film(S), nodule(N), opacity(O).", "typical(S) :- film(S), opacity(O)."),
        ("left_of(X, Y) :- right_lung(X), heart(Y), opacity(O).", "left_of(X, Y) :- right_lung(X), heart(Y)."),
        ("lower_zone(X) :- opacity(X), inside(X, L), nodule(N).", "lower_zone(X) :- opacity(X), inside(X, L)."),
        ("lower_zone(X), opacity(X) :- film(S), nodule(N).", "lower_zone(X), opacity(X) :- film(S)."),
    ],
)
def test_units_within_are_those_of_less_in_which_its_body_holds(whole: str, less: str) -> None:
    index = FactIndex.of(FILMS)
    units, all_of_less = units_within(the(whole), the(less), index), units_of(the(less), index)
    assert all_of_less is not None
    where = all_of_less.body
    assert units.scene.tolist() == all_of_less.scene[where].tolist()
    assert units.head.tolist() == all_of_less.head[where].tolist()
    assert int(units.body.sum()) == evaluate_rule(the(whole), index).body_size
    assert {True, False} == set(units.body.tolist())
