"""Repair against brute force: no cheaper choice of labels meets the rules, and what comes out breaks none."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints import compile_constraints, groundings
from neurosym.constraints.broken import broken_rules
from neurosym.constraints.repair import Alternatives, Repair, RepairPlan, repair
from neurosym.data.masks import encode_mask
from neurosym.errors import ConstraintError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.inference import GroundAtom
from neurosym.knowledge.rules import parse_rules
from neurosym.records import Box, Detection, Rule, Scene
from neurosym.scenes import facts_from
from tests.conftest import ROOT
from tests.oracles.naive import bodies, is_satisfied
from tests.oracles.rules import evaluate
from tests.oracles.spatial import holds

THORAX = load_knowledge([ROOT / "ontologies/thorax.ttl", ROOT / "rules/thorax.rules"])
BLOOD = load_knowledge([ROOT / "ontologies/blood.ttl", ROOT / "rules/blood.rules"])
NAMES = ("left_lung", "right_lung", "heart", "nodule", "consolidation")
WORDS = ("left_of", "above", "inside", "encloses", "overlaps", "larger_than", "near", "adjacent")


def knowing(text: str) -> Knowledge:
    return Knowledge(THORAX.ontology, tuple(parse_rules(text)))


def scene_of(*found: tuple[str, tuple[float, float, float, float], float]) -> Scene:
    return Scene("film", 100, 100, tuple(Detection(name, Box(*box), score) for name, box, score in found))


def facts_of(scene: Scene) -> list[GroundAtom]:
    """Classes and places as `scenes.facts` tells them, relations and measures by their definitions."""
    names = [f"{scene.image_id}/{i}" for i in range(len(scene.detections))]
    told = facts_from([scene], THORAX, threshold=0.0).facts
    found: list[GroundAtom] = [(f.relation, f.args) for f in told if len(f.args) == 1]
    for (i, d), (j, other) in itertools.permutations(zip(names, scene.detections, strict=True), 2):
        found += [(word, (i, j)) for word in WORDS if holds(word, d.box, other.box)]
    for i, d in zip(names, scene.detections, strict=True):
        found += [("width_share", (i, d.box.width / scene.width)), ("height_share", (i, d.box.height / scene.height))]
    return found


def is_met(rule: Rule, scene: Scene) -> bool:
    if any(a.predicate == "=" for a in rule.head):
        return evaluate(rule, scene, THORAX.ontology)[1] == 0
    facts = facts_of(scene)
    if not rule.head:
        return not any(True for _ in bodies(rule, facts, THORAX.ontology.measurements))
    return is_satisfied(rule, facts, THORAX.ontology.measurements)


# --- random scenes and rules ------------------------------------------------------------------------------------------

sides = st.integers(3, 60)
corners = st.integers(0, 60)


@st.composite
def scenes(draw: st.DrawFn, names: tuple[str, ...] = NAMES, limit: int = 4) -> Scene:
    found = []
    for _ in range(draw(st.integers(0, limit))):
        x, y, width, height = draw(st.tuples(corners, corners, sides, sides))
        score = draw(st.sampled_from((0.5, 0.61, 0.7, 0.83, 0.95, 1.0)))
        found.append((draw(st.sampled_from(names)), (x, y, x + width, y + height), score))
    return scene_of(*found)


@st.composite
def scenes_with_alternatives(draw: st.DrawFn) -> tuple[Scene, Alternatives]:
    scene = draw(scenes())
    alternatives = []
    for d in scene.detections:
        others = draw(st.dictionaries(st.sampled_from(NAMES), st.floats(0.1, 0.9), max_size=2))
        left = 1.0 - d.score
        alternatives.append({n: left * share / 2 for n, share in others.items()} | {d.name: d.score})
    return scene, alternatives


classes = st.sampled_from((*NAMES, "lung", "opacity", "finding"))
words = st.sampled_from(WORDS)
places = st.sampled_from(("upper_zone", "lower_zone", "peripheral", "central", "small_object", "large_object"))
FORMS = (
    ":- {a}(X), {b}(Y), {w}(X, Y).",
    "{w}(X, Y) :- {a}(X), {b}(Y).",
    "{w}(X, Y), {v}(X, Y) :- {a}(X), {b}(Y).",
    "X = Y :- {a}(X), {a}(Y).",
    "{w}(X, L), {b}(L) :- {a}(X).",
    "{w}(X, L), {b}(L), {v}(M, X), {a}(M) :- {a}(X).",
    "{b}(X) :- {a}(X), {p}(X).",
    "{p}(X) :- {a}(X).",
    ":- {a}(X), {p}(X), {b}(Y), {w}(X, Y).",
    r":- {a}(X), \+ {w}(X, _).",
    r":- {a}(X), {b}(Y), \+ {w}(X, Y).",
    r":- {a}(X), \+ {b}(X), \+ {p}(X).",
    r":- {a}(X), {b}(Y), {w}(X, Y), \+ {c}(_).",
    ":- {a}(X), count{{Y : {b}(Y), {w}(Y, X)}} >= 2.",
    ":- count{{X : {a}(X)}} > 1.",
    ":- count{{X : {a}(X)}} < 1.",
    ":- {a}(X), count{{Y : {b}(Y)}} > count{{Z : {c}(Z), {w}(Z, X)}}.",
    ":- {a}(X), width_share(X, V), V > 0.305.",
    ":- {a}(X), {b}(Y), width_share(X, V), height_share(Y, W), Q is V / W, Q > 1.13.",
    ":- {a}(X), width_share(X, V), count{{Y : {b}(Y), width_share(Y, W), W > V}} > 1.",
    ":- {a}(X), {b}(Y), {c}(Z), {w}(X, Y), {v}(Y, Z).",
)


@st.composite
def rule_sets(draw: st.DrawFn) -> tuple[Rule, ...]:
    texts = []
    for form in draw(st.lists(st.sampled_from(FORMS), min_size=1, max_size=3)):
        a, b, c = draw(st.tuples(classes, classes, classes))
        texts.append(form.format(a=a, b=b, c=c, w=draw(words), v=draw(words), p=draw(places)))
    return tuple(parse_rules("\n".join(texts)))


def cost_of(scene: Scene, alternatives: Alternatives, labels: tuple[str | None, ...]) -> float:
    """The definition in the head of `neurosym.constraints.repair`, for threshold one half."""
    total = 0.0
    for d, p, label in zip(scene.detections, alternatives, labels, strict=True):
        if label != d.name:
            score = min(d.score, 1 - 1e-6)
            nothing = 1 - d.score - sum(v for n, v in p.items() if n != d.name)
            other = max(nothing, 1e-6) if label is None else max(p[label], 1e-6)
            total += max(1e-3, math.log(score / other))
    return total


def labelled(scene: Scene, labels: tuple[str | None, ...]) -> Scene:
    kept = [replace(d, name=n) for d, n in zip(scene.detections, labels, strict=True) if n is not None]
    return replace(scene, detections=tuple(kept))


def labels_of(scene: Scene, repaired: Repair) -> tuple[str | None, ...]:
    after = dict(zip(repaired.kept, (d.name for d in repaired.scene.detections), strict=True))
    return tuple(after.get(i) for i in range(len(scene.detections)))


@given(scenes_with_alternatives(), rule_sets())
@settings(max_examples=120)
def test_no_cheaper_choice_of_labels_meets_the_rules(
    given_scene: tuple[Scene, Alternatives], rules: tuple[Rule, ...]
) -> None:
    scene, alternatives = given_scene
    found = RepairPlan(Knowledge(THORAX.ontology, rules), NAMES).repair(scene, alternatives=alternatives)
    rootless = [r for r in rules if not r.body]  # may be broken whatever is removed

    def price(labels: tuple[str | None, ...]) -> tuple[int, float]:
        other = labelled(scene, labels)
        if not all(is_met(r, other) for r in rules if r.body):
            return (len(rules) + 1, 0.0)
        return (sum(not is_met(r, other) for r in set(rootless)), cost_of(scene, alternatives, labels))

    options = [
        [d.name, None, *(n for n in p if n != d.name and p[n] >= 0.02)]
        for d, p in zip(scene.detections, alternatives, strict=True)
    ]
    ranked = sorted(itertools.product(*options), key=lambda labels: cost_of(scene, alternatives, labels))
    best = min(map(price, ranked)) if rootless else next(p for p in map(price, ranked) if p[0] == 0)
    chosen = labels_of(scene, found)
    assert price(chosen)[0] == best[0]
    assert cost_of(scene, alternatives, chosen) == pytest.approx(best[1], abs=2e-3)
    assert found.cost == pytest.approx(cost_of(scene, alternatives, chosen), abs=1e-6)
    assert {b.rule for b in found.unsatisfied} == {r for r in rootless if not is_met(r, labelled(scene, chosen))}


@given(scenes(), rule_sets())
@settings(max_examples=150)
def test_what_is_called_broken_is_what_the_oracles_call_broken(scene: Scene, rules: tuple[Rule, ...]) -> None:
    told = {b.rule for b in broken_rules(rules, scene, THORAX.ontology)}
    assert told == {r for r in rules if not is_met(r, scene)}


@given(scenes_with_alternatives(), rule_sets())
@settings(max_examples=80)
def test_every_change_is_explained_by_rules_that_break_without_it(
    given_scene: tuple[Scene, Alternatives], rules: tuple[Rule, ...]
) -> None:
    scene, alternatives = given_scene
    found = RepairPlan(Knowledge(THORAX.ontology, rules), NAMES).repair(scene, alternatives=alternatives)
    chosen = labels_of(scene, found)
    assert [c.detection for c in found.changes] == [i for i, d in enumerate(scene.detections) if chosen[i] != d.name]
    for change in found.changes:
        assert (change.before, change.after) == (scene.detections[change.detection].name, chosen[change.detection])
        without = tuple(change.before if i == change.detection else n for i, n in enumerate(chosen))
        broken = {r for r in rules if not is_met(r, labelled(scene, without))}
        assert change.causes
        assert {c.rule for c in change.causes} <= broken


@given(
    scenes(("left_lung", "right_lung", "heart", "cardiomediastinum", "nodule", "ground_glass_opacity"), limit=12),
    st.sampled_from((None, 0.9)),
)
@settings(max_examples=60)
def test_a_repaired_chest_film_breaks_no_hard_rule(scene: Scene, min_weight: float | None) -> None:
    plan = RepairPlan(THORAX, min_weight=min_weight)
    found = plan.repair(scene)
    assert found.unsatisfied == ()
    plain = [r for r in plan.rules if not any(a.predicate in ("small_object", "large_object") for a in r.head)]
    assert all(evaluate(r, found.scene, THORAX.ontology)[1] == 0 for r in plain)
    assert broken_rules(plan.rules, found.scene, THORAX.ontology) == ()
    for before, after in zip(found.kept, found.scene.detections, strict=True):
        assert after == scene.detections[before]


@given(scenes(("red_blood_cell", "white_blood_cell", "platelet"), limit=15))
@settings(max_examples=40)
def test_a_repaired_blood_smear_breaks_no_rule_that_counts_as_hard(scene: Scene) -> None:
    plan = RepairPlan(BLOOD, min_weight=0.95)
    found = plan.repair(scene)
    assert len(plan.rules) == len(BLOOD.rules)
    assert broken_rules(BLOOD.rules, found.scene, BLOOD.ontology) == ()


@given(scenes(("left_lung", "right_lung", "heart", "nodule", "ground_glass_opacity"), limit=8))
@settings(max_examples=40)
def test_the_hard_rules_that_training_counts_as_broken_are_those_that_repair_mends(scene: Scene) -> None:
    names = ("left_lung", "right_lung", "heart", "nodule", "ground_glass_opacity")
    compiled = compile_constraints(THORAX, names)
    plan = RepairPlan(THORAX, names, min_weight=0.0)
    counted = {compiled.rules[g.rule] for g in groundings(compiled, scene) if not g.holds}
    mended = {b.rule for b in plan.broken(scene)}
    assert mended == counted & set(plan.rules)
    assert counted & set(THORAX.rules) <= set(plan.rules)


# --- what is done, by example -----------------------------------------------------------------------------------------

LUNGS = (("right_lung", (5, 10, 40, 90), 0.97), ("left_lung", (60, 10, 95, 90), 0.96))


def test_of_two_hearts_the_surer_one_stays_and_the_change_names_the_rule_and_its_place() -> None:
    scene = scene_of(*LUNGS, ("heart", (45, 50, 70, 80), 0.9), ("heart", (42, 10, 55, 30), 0.6))
    found = repair(scene, THORAX)
    [change] = found.changes
    assert (change.detection, change.before, change.after) == (3, "heart", None)
    assert found.kept == (0, 1, 2)
    assert change.rules == ("one_heart",)
    assert change.partners == (2,)
    assert str(change).startswith("detection 3 (heart) is removed: one_heart (rules/thorax.rules:")
    assert change.cost == pytest.approx(math.log(0.6 / 0.4))


def test_two_boxes_of_one_heart_are_one_heart() -> None:
    scene = scene_of(*LUNGS, ("heart", (45, 50, 70, 80), 0.9), ("heart", (46, 51, 70, 80), 0.8))
    assert repair(scene, THORAX).changes == ()


def test_a_lung_on_the_wrong_side_is_renamed_if_that_is_more_probable_than_nothing() -> None:
    scene = scene_of(("left_lung", (5, 10, 40, 90), 0.6), ("left_lung", (60, 10, 95, 90), 0.9))
    alternatives = [{"left_lung": 0.6, "right_lung": 0.3}, {"left_lung": 0.9, "right_lung": 0.05}]
    found = repair(scene, THORAX, alternatives=alternatives)
    assert [d.name for d in found.scene.detections] == ["right_lung", "left_lung"]
    assert found.scene.detections[0].score == pytest.approx(0.3 / 0.4)
    assert found.changes[0].cost == pytest.approx(math.log(0.6 / 0.3))
    assert repair(scene, THORAX).kept == (1,)


def test_a_finding_without_the_organ_it_must_lie_in_goes_or_is_reported() -> None:
    knowledge = knowing("inside(N, L), lung(L) :- nodule(N).  %! id=in_lung")
    scene = scene_of(("nodule", (20, 20, 25, 25), 0.9), ("heart", (40, 40, 60, 60), 0.9))
    found = repair(scene, knowledge)
    assert [d.name for d in found.scene.detections] == ["heart"]
    assert found.changes[0].rules == ("in_lung",)
    reported = repair(scene, knowledge, keep_existential=True)
    assert reported.scene == scene
    assert [(b.id, b.detections) for b in reported.unsatisfied] == [("in_lung", (0,))]


def test_a_witness_is_made_of_another_label_where_that_is_cheaper() -> None:
    knowledge = knowing("inside(N, L), lung(L) :- nodule(N).")
    scene = scene_of(("nodule", (20, 20, 25, 25), 0.99), ("heart", (5, 5, 60, 60), 0.55))
    found = repair(scene, knowledge, alternatives=[{}, {"left_lung": 0.4}])
    assert [d.name for d in found.scene.detections] == ["nodule", "left_lung"]


def test_what_asks_for_something_that_is_not_there_is_reported_with_its_place() -> None:
    knowledge = knowing(":- count{L : lung(L)} < 2.  %! id=two_lungs\nX = Y :- heart(X), heart(Y).")
    scene = scene_of(LUNGS[0], ("heart", (45, 50, 70, 80), 0.9), ("heart", (42, 10, 55, 30), 0.6))
    found = repair(scene, knowledge)
    assert [b.id for b in found.unsatisfied] == ["two_lungs"]
    assert found.kept == (0, 1)


def test_hard_rules_that_exclude_each_other_leave_as_few_broken_as_can_be() -> None:
    text = ":- count{L : lung(L)} < 1.  %! id=a_lung\n:- count{L : lung(L)} > 0.  %! id=no_lung\n:- lung(X), heart(Y)."
    scene = scene_of(LUNGS[0], ("heart", (45, 50, 70, 80), 0.6))
    found = repair(scene, knowing(text))
    assert [b.id for b in found.unsatisfied] == ["no_lung"]
    assert [d.name for d in found.scene.detections] == ["right_lung"]


def test_a_zone_follows_the_frames_that_are_left() -> None:
    """The nodule lies in the upper zone of the tall lung, and in the lower one of the short lung that is to go."""
    text = "lower_zone(N) :- nodule(N).  %! id=low\n:- left_lung(L), height_share(L, H), H < 0.3.  %! id=tall"
    scene = scene_of(
        ("left_lung", (60, 0, 95, 90), 0.9), ("left_lung", (62, 5, 90, 25), 0.7), ("nodule", (70, 18, 74, 22), 0.6)
    )
    found = repair(scene, knowing(text))
    assert found.kept == (0,)
    assert [c.rules for c in found.changes] == [("tall",), ("low",)]


def test_an_axiom_that_forces_a_change_is_named_by_its_iri(tmp_path: Path) -> None:
    path = tmp_path / "x.ttl"
    path.write_text(
        "@prefix : <https://example.org/x#> . @prefix ns: <https://w3id.org/neurosym/core#> .\n"
        "@prefix owl: <http://www.w3.org/2002/07/owl#> . @prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .\n"
        "<https://example.org/x> a owl:Ontology ; owl:imports <https://w3id.org/neurosym/core> .\n"
        ':organ a owl:Class ; rdfs:subClassOf ns:scene_object ; ns:category "organ" .\n'
        ':spot a owl:Class ; rdfs:subClassOf ns:scene_object ; ns:category "spot" ;\n'
        "  rdfs:subClassOf [ a owl:Restriction ; owl:onProperty ns:inside ; owl:someValuesFrom :organ ] .\n"
    )
    (tmp_path / "catalog-v001.xml").write_text((ROOT / "ontologies/catalog-v001.xml").read_text())
    (tmp_path / "neurosym.ttl").write_text((ROOT / "ontologies/neurosym.ttl").read_text())
    found = repair(scene_of(("spot", (20, 20, 25, 25), 0.9)), load_knowledge([path]))
    [cause] = found.changes[0].causes
    assert cause.axiom == "https://example.org/x#spot"
    assert cause.place.startswith(str(path)) or cause.place.split(":")[0].endswith("x.ttl")


def test_masks_decide_where_detections_have_them() -> None:
    knowledge = knowing(":- heart(H), nodule(N), overlaps(H, N).")
    corner, opposite = np.zeros((100, 100)), np.zeros((100, 100))
    corner[:20, :20], opposite[60:80, 60:80] = 1, 1
    heart = Detection("heart", Box(0, 0, 80, 80), 0.9, encode_mask(corner))
    nodule = Detection("nodule", Box(0, 0, 80, 80), 0.8, encode_mask(opposite))
    assert repair(Scene("film", 100, 100, (heart, nodule)), knowledge).changes == ()
    assert repair(Scene("film", 100, 100, (heart, replace(nodule, mask=None))), knowledge).kept == (0,)


def test_an_empty_scene_and_classes_that_no_rule_knows_stay_as_they_are() -> None:
    assert repair(scene_of(), THORAX).changes == ()
    scene = scene_of(("pleural_effusion", (0, 0, 50, 50), 0.9), ("no such class", (0, 0, 50, 50), 0.9))
    assert repair(scene, THORAX).scene == scene


def test_what_scores_below_the_threshold_neither_counts_nor_goes() -> None:
    scene = scene_of(*LUNGS, ("heart", (45, 50, 70, 80), 0.9), ("heart", (42, 10, 55, 30), 0.4))
    assert repair(scene, THORAX).scene == scene
    assert repair(scene, THORAX, threshold=0.3).kept == (0, 1, 2)


def test_weighted_rules_count_only_from_the_given_weight_on() -> None:
    knowledge = knowing("0.9 :: left_of(R, H) :- right_lung(R), heart(H).")
    scene = scene_of(("right_lung", (60, 0, 95, 90), 0.9), ("heart", (30, 40, 55, 70), 0.7))
    assert repair(scene, knowledge).changes == ()
    assert repair(scene, knowledge, min_weight=0.91).changes == ()
    assert repair(scene, knowledge, min_weight=0.9).kept == (0,)


def test_hard_rules_about_nothing_that_is_seen_say_why() -> None:
    text = "left_of(H, S) :- heart(H), spinal_cord(S).\nlung(a).\ntypical_appearance(S) :- study(S), nodule(N)."
    plan = RepairPlan(knowing(text.replace("spinal_cord", "rib")), NAMES)
    assert [why for _, why in plan.unused] == [
        "class 'rib' has no category, so no data can show it",
        "it is a fact, about no object of an image",
        "class 'study' has no category, so no data can show it",
    ]


def test_alternatives_that_do_not_fit_are_refused() -> None:
    scene = scene_of(LUNGS[0])
    with pytest.raises(ConstraintError, match="alternatives for 2 detections; the scene has 1"):
        repair(scene, THORAX, alternatives=[{}, {}])
    with pytest.raises(
        ConstraintError, match="alternative class 'left_long' is not in the ontology; did you mean 'left_lung'"
    ):
        repair(scene, THORAX, alternatives=[{"left_long": 0.5}])
    with pytest.raises(ConstraintError, match="not all within 0 and 1"):
        repair(scene, THORAX, alternatives=[{"left_lung": 1.5}])


PROGRAM = """
import random
from neurosym.constraints.repair import repair
from neurosym.knowledge import load_knowledge
from neurosym.records import Box, Detection, Scene
rng = random.Random(0)
found = []
for _ in range(14):
    x, y = rng.random() * 60, rng.random() * 60
    name = rng.choice(("left_lung", "right_lung", "heart", "nodule", "consolidation"))
    found.append(Detection(name, Box(x, y, x + 5 + rng.random() * 35, y + 5 + rng.random() * 35), 0.7))
knowledge = load_knowledge(["ontologies/thorax.ttl", "rules/thorax.rules"])
alternatives = [{"heart": 0.1, "nodule": 0.1, "left_lung": 0.1}] * 14
told = repr(repair(Scene("film", 100, 100, tuple(found)), knowledge, min_weight=0.9, alternatives=alternatives).changes)
"""


def test_the_same_scene_is_repaired_in_the_same_way_by_every_process() -> None:
    here: dict[str, str] = {}
    exec(PROGRAM, here)
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", PROGRAM + "print(told)"]
    there = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here["told"]
    assert "Change(" in here["told"]
