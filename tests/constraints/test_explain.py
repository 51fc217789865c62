from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints import compile_constraints, groundings
from neurosym.constraints.confidence import RuleConfidenceEntry, RuleConfidences, load_report
from neurosym.constraints.explain import explain_scene
from neurosym.constraints.explanation import BrokenNote, SceneExplanation
from neurosym.constraints.repair import RepairPlan
from neurosym.data.masks import encode_mask
from neurosym.errors import ConstraintError, DataError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.records import Box, Detection, Scene
from tests.constraints.scenes_and_rules import CHECKED, EVERY_SHAPE, LEAVES, ROOT, THORAX, scenes

ONTOLOGY = ROOT / "ontologies/thorax.ttl"
FALLBACK = "should hold, but it does not"


def scene_of(*found: tuple[str, float, tuple[float, float, float, float]]) -> Scene:
    return Scene("film", 300, 300, tuple(Detection(name, Box(*box), score) for name, score, box in found))


def knowledge_of(tmp_path: Path, *rules: str) -> Knowledge:
    """Rules of a file over the thorax ontology, without the rules that its axioms become."""
    path = tmp_path / "my.rules"
    path.write_text("\n".join(rules) + "\n")
    knowledge = load_knowledge([ONTOLOGY, path])
    return replace(knowledge, rules=tuple(r for r in knowledge.rules if not r.meta.get("axiom")))


def explained(scene: Scene, knowledge: Knowledge, names: Sequence[str] = LEAVES, **options: object) -> SceneExplanation:
    constraints = compile_constraints(knowledge, names, required=False)
    return explain_scene(scene, knowledge, constraints=constraints, **options)  # type: ignore[arg-type]


def only(found: SceneExplanation) -> BrokenNote:
    [broken] = found.violations
    return broken


LUNG = ("right_lung", 0.98, (20.0, 20.0, 120.0, 220.0))
HEART = ("heart", 0.93, (16.0, 100.0, 96.0, 180.0))
NODULE = ("nodule", 0.62, (200.0, 40.0, 212.0, 52.0))


def test_a_violation_names_rule_line_detections_and_what_was_measured(tmp_path: Path) -> None:
    knowledge = knowledge_of(tmp_path, "% comment", "left_of(R, H) :- right_lung(R), heart(H).  %! id=order")
    broken = only(explained(scene_of(NODULE, LUNG, HEART), knowledge))
    assert broken.message == "right_lung 0.98 should lie left of heart 0.93, but its centre is 14 px to the right"
    assert (broken.expected, broken.found) == (
        "right_lung 0.98 should lie left of heart 0.93",
        "its centre is 14 px to the right",
    )
    assert broken.rule.id == "order"
    assert broken.rule.place == f"{tmp_path / 'my.rules'}:2"
    assert broken.rule.text == "left_of(R, H) :- right_lung(R), heart(H)."
    assert [(d.index, d.name, d.score, d.box) for d in broken.detections] == [(1, *LUNG), (2, *HEART)]


def test_a_violation_of_an_axiom_names_its_iri_and_its_line_in_the_ontology() -> None:
    found = explained(scene_of(NODULE), load_knowledge([ONTOLOGY]))
    broken = only(found)
    assert broken.rule.axiom == "https://w3id.org/neurosym/thorax#nodule"
    assert broken.rule.file == "ontologies/thorax.ttl" or broken.rule.file == str(ONTOLOGY)
    assert "nodule" in ONTOLOGY.read_text().splitlines()[broken.rule.line - 1]
    assert broken.rule.place.endswith(f"thorax.ttl:{broken.rule.line} <{broken.rule.axiom}>")
    assert broken.missing == "a lung that nodule 0.62 lies inside"
    assert broken.message == "nodule 0.62 should lie inside a lung, but no lung is detected"


def test_the_nearest_witness_is_named_and_one_below_the_threshold_that_would_do(tmp_path: Path) -> None:
    knowledge = knowledge_of(tmp_path, "inside(N, L), lung(L) :- nodule(N).")
    faint = ("left_lung", 0.31, (180.0, 20.0, 280.0, 220.0))
    broken = only(explained(scene_of(NODULE, LUNG, faint), knowledge))
    assert broken.found == (
        "none does: with right_lung 0.98, 0% of its width and 100% of the height lie within, inside means at least 75% of both"
        "; left_lung 0.31 would do, but scores below 0.5"
    )
    assert [d.index for d in broken.related] == [1]


@pytest.mark.parametrize(
    ("rule", "found", "message"),
    [
        (
            "X = Y :- heart(X), heart(Y).",
            [HEART, ("heart", 0.61, (56.0, 100.0, 136.0, 180.0))],
            "heart 0.93 and heart 0.61 should be one object, "
            "but they share 33% of their union, where one object shares more than 50%",
        ),
        (
            ":- nodule(N), lung(L), encloses(N, L).",
            [LUNG, ("nodule", 0.7, (20.0, 20.0, 120.0, 180.0))],
            "nodule 0.70 must not enclose right_lung 0.98, "
            "but 100% of right_lung 0.98's width and 80% of the height lie within, inside means at least 75% of both",
        ),
        (
            "larger_than(L, H) :- lung(L), heart(H).",
            [("left_lung", 0.9, (200.0, 20.0, 240.0, 100.0)), HEART],
            "left_lung 0.90 should be larger than heart 0.93, but its area is 50% of that of heart 0.93",
        ),
        (
            "small_object(N) :- nodule(N).",
            [("nodule", 0.62, (100.0, 100.0, 130.1, 130.0))],
            "nodule 0.62 should be a small object, but its box covers 1.003% of the image, small is less than 1%",
        ),
        (
            "lower_zone(E) :- pleural_effusion(E).",
            [LUNG, ("pleural_effusion", 0.6, (30.0, 60.0, 60.0, 80.0))],
            "pleural_effusion 0.60 should lie in the lower zone, "
            "but its centre is at 25% of the height of right_lung 0.98 from above, a zone is a third",
        ),
        (
            "lower_zone(E) :- pleural_effusion(E).",
            [("pleural_effusion", 0.6, (30.0, 60.0, 60.0, 80.0))],
            "pleural_effusion 0.60 should lie in the lower zone, but no lung is detected that it could be placed in",
        ),
        (
            "near(N, H) :- nodule(N), heart(H).",
            [("nodule", 0.6, (116.0, 120.0, 136.0, 140.0)), HEART],
            "nodule 0.60 should lie near heart 0.93, but the gap between them is 20 px, near is less than 5 px",
        ),
        (
            ":- heart(H), width_share(H, W), W > 0.25.",
            [HEART],
            "the width_share of heart 0.93 should be at most 0.25, but it is 0.267",
        ),
        (
            ":- lung(L), count{N : nodule(N), near(N, L)} > 1.",
            [LUNG, ("nodule", 0.6, (30.0, 30.0, 40.0, 40.0)), ("nodule", 0.6, (60.0, 60.0, 70.0, 70.0))],
            "count{N : nodule(N), near(N, L)} (of right_lung 0.98) should be at most 1, but it is 2",
        ),
        (
            r":- nodule(N), \+ lung(_).",
            [NODULE],
            "with nodule 0.62 there should be a lung, but no lung is detected",
        ),
        (
            ":- left_lung(X), heart(Y).",
            [("left_lung", 0.9, (200.0, 20.0, 240.0, 100.0)), HEART],
            "left_lung 0.90 and heart 0.93 must not be there together, but they are",
        ),
        (
            "inside(N, L) :- nodule(N), lung(L), overlaps(N, L).",
            [LUNG, ("nodule", 0.6, (110.0, 60.0, 130.0, 70.0))],
            "nodule 0.60 should lie inside right_lung 0.98, but 50% of its width and 100% of the height lie within, "
            "inside means at least 75% of both (since nodule 0.60 overlaps right_lung 0.98)",
        ),
    ],
)
def test_each_kind_of_rule_has_its_sentence(
    rule: str, found: list[tuple[str, float, tuple[float, float, float, float]]], message: str, tmp_path: Path
) -> None:
    assert message in [b.message for b in explained(scene_of(*found), knowledge_of(tmp_path, rule)).violations]


def test_an_equality_that_a_pair_breaks_is_told_once_and_counted_in_both_orders(tmp_path: Path) -> None:
    knowledge = knowledge_of(tmp_path, "X = Y :- heart(X), heart(Y).", "left_of(X, Y) :- nodule(X), opacity(Y).")
    other = ("heart", 0.61, (156.0, 100.0, 236.0, 180.0))
    nodules = (NODULE, ("nodule", 0.7, (200.0, 60.0, 212.0, 72.0)))
    found = explained(scene_of(HEART, other, *nodules), knowledge)
    assert [(u.fired, u.violated) for u in found.uses[:2]] == [(2, 2), (2, 2)]
    told = [b.rule.text for b in found.violations]
    assert told.count("X = Y :- heart(X), heart(Y).") == 1
    assert told.count("left_of(X, Y) :- nodule(X), opacity(Y).") == 2  # it says another thing in the other order


def test_detections_that_look_alike_are_told_apart_by_their_index(tmp_path: Path) -> None:
    knowledge = knowledge_of(tmp_path, "X = Y :- heart(X), heart(Y).")
    found = explained(scene_of(HEART, ("heart", 0.93, (156.0, 100.0, 236.0, 180.0))), knowledge)
    assert only(found).expected == "heart 0.93 (#0) and heart 0.93 (#1) should be one object"


def test_masks_speak_where_there_are_masks(tmp_path: Path) -> None:
    knowledge = knowledge_of(tmp_path, "inside(N, L) :- nodule(N), lung(L).")
    lung, nodule = np.zeros((300, 300), np.uint8), np.zeros((300, 300), np.uint8)
    lung[:, :150] = 1
    nodule[100:140, 130:170] = 1
    found = Scene(
        "film",
        300,
        300,
        (
            Detection("left_lung", Box(0, 0, 300, 300), 0.9, encode_mask(lung)),  # the box would hold it
            Detection("nodule", Box(130, 100, 170, 140), 0.8, encode_mask(nodule)),
        ),
    )
    share = "50% of its area lies within, inside means at least 75%"
    assert only(explained(found, knowledge)).found == share


def test_a_rule_about_three_objects_is_held_against_a_scene_too(tmp_path: Path) -> None:
    rule = "left_of(R, L) :- right_lung(R), heart(H), left_lung(L), left_of(R, H)."
    knowledge = knowledge_of(tmp_path, rule)
    left = ("left_lung", 0.9, (0.0, 20.0, 20.0, 100.0))
    far = ("heart", 0.93, (200.0, 100.0, 280.0, 180.0))
    found = explained(scene_of(LUNG, far, left), knowledge)
    assert only(found).message == (
        "right_lung 0.98 should lie left of left_lung 0.90, but its centre is 60 px to the right "
        "(since right_lung 0.98 lies left of heart 0.93)"
    )
    assert (found.uses[-1].fired, found.uses[-1].violated) == (1, 1)


def test_rules_that_did_not_fire_are_counted_and_say_why(tmp_path: Path) -> None:
    knowledge = knowledge_of(
        tmp_path,
        "left_of(R, H) :- right_lung(R), heart(H).  %! id=fires",
        "X = Y :- heart(X), heart(Y).  %! id=one_heart",
        "inside(N, L) :- nodule(N), lung(L).  %! id=no_nodule",
        "above(N, L) :- heart(N), lung(L), near(N, L), overlaps(N, L), encloses(N, L).  %! id=condition",
        "near(N, L) :- nodule(N), consolidation(L).  %! id=neither",
    )
    far = ("heart", 0.93, (200.0, 100.0, 280.0, 180.0))
    found = explained(scene_of(LUNG, far), knowledge)
    silent = {u.rule.id: u.silent for u in found.uses}
    assert silent["fires"] == ""
    assert silent["one_heart"] == "only one heart is detected"
    assert silent["no_nodule"] == "no nodule is detected"
    assert silent["neither"] == "no nodule and no consolidation is detected"
    assert silent["condition"] == "near(N, L), overlaps(N, L) and encloses(N, L) holds of none"
    assert found.fired == 1
    assert found.summary == f"1 of {len(found.uses)} rules fired on film, none is broken"


def test_a_scene_without_detections_says_so_plainly(tmp_path: Path) -> None:
    knowledge = knowledge_of(tmp_path, "left_of(R, H) :- right_lung(R), heart(H).", ":- count{L : lung(L)} > 2.")
    for empty in (scene_of(), scene_of(("heart", 0.4, HEART[2]))):
        found = explained(empty, knowledge)
        assert found.summary == "no detection scores ≥ 0.5 on film; no rule fires"
        assert (found.violations, found.fired) == ((), 0)


def test_knowledge_that_says_nothing_about_the_detector_is_an_error() -> None:
    with pytest.raises(
        ConstraintError, match="no rule says anything about this detector's classes; name a file of rules"
    ):
        explained(scene_of(HEART), Knowledge(THORAX.ontology, (), CHECKED), ("heart",))


def test_what_the_run_learned_of_a_rule_is_told_and_the_surest_rule_comes_first(tmp_path: Path) -> None:
    knowledge = knowledge_of(
        tmp_path,
        "left_of(R, H) :- right_lung(R), heart(H).  %! id=doubted",
        "0.9 :: small_object(H) :- heart(H).  %! id=kept",
    )
    entry = RuleConfidenceEntry("doubted", "", "", 0, "", 1.0, 0.41, 16.0, 9.0, "down-weighted: broken in 9 of 16")
    found = explained(scene_of(LUNG, HEART), knowledge, confidences=[entry])
    assert [(b.rule.id, b.rule.trust) for b in found.violations] == [
        ("kept", "confidence 0.9"),
        ("doubted", "hard, learned 0.41"),
    ]
    assert found.violations[1].rule.verdict.startswith("down-weighted")


def test_a_report_of_confidences_is_read_back_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    rules = RuleConfidences(compile_constraints(THORAX, LEAVES))
    rules.observe_annotations([scene_of(LUNG, HEART)])
    rules.save_report(tmp_path / "confidences.json")
    assert load_report(tmp_path / "confidences.json") == rules.report()
    for text in ("[", '[{"rule": "x"}]', "[1]", "7"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match="not a report of confidences"):
            load_report(tmp_path / "bad.json")


# --- against the groundings that `evaluate` counts ----------------------------------------------------------------------


SHAPES = Knowledge(THORAX.ontology, tuple(EVERY_SHAPE), CHECKED)
COMPILED = compile_constraints(SHAPES, LEAVES)


@settings(max_examples=15)
@given(scenes(5), st.integers(0, 2**20))
def test_every_broken_grounding_is_told_in_words_that_fit_and_nothing_else_is(scene: Scene, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scored = tuple(replace(d, score=float(rng.choice([0.3, 0.8]))) for d in scene.detections)
    scene = replace(scene, detections=scored)
    seen = [i for i, d in enumerate(scored) if d.score >= 0.5]
    found = explain_scene(scene, SHAPES, 0.5, constraints=COMPILED)
    expected, counts = set(), [[0, 0] for _ in COMPILED.rules]
    for g in groundings(COMPILED, replace(scene, detections=tuple(scored[i] for i in seen))):
        counts[g.rule][0] += 1
        counts[g.rule][1] += not g.holds
        if not g.holds:
            expected.add((COMPILED.rules[g.rule].id, frozenset(seen[i] for i in g.objects)))
    assert {(b.rule.id, frozenset(d.index for d in b.detections)) for b in found.violations} == expected
    assert [[u.fired, u.violated] for u in found.uses] == counts
    assert all(bool(u.silent) == (u.fired == 0) for u in found.uses)
    for b in found.violations:
        assert FALLBACK not in b.message, b
        assert any(d.name in b.message for d in b.detections) or not b.detections, b
    assert SceneExplanation.from_dict(json.loads(json.dumps(found.as_dict()))) == found


# --- repair ------------------------------------------------------------------------------------------------------------


def test_each_change_says_which_rule_and_which_partner_force_it(tmp_path: Path) -> None:
    knowledge = knowledge_of(
        tmp_path, "X = Y :- heart(X), heart(Y).  %! id=one_heart", ":- count{L : lung(L)} < 1.  %! id=lungs"
    )
    second = ("heart", 0.61, (156.0, 100.0, 236.0, 180.0))
    found = explained(scene_of(NODULE, HEART, second), knowledge, plan=RepairPlan(knowledge, LEAVES))
    [change] = found.changes
    assert (change.detection.index, change.after, [d.index for d in change.partners]) == (2, None, [1])
    assert [c.rule.place for c in change.causes] == [f"{tmp_path / 'my.rules'}:1"]
    assert change.message == (
        "heart 0.61 (#2) is removed, because otherwise one_heart: heart 0.93 and heart 0.61 should be one object, "
        "but they share 0% of their union, where one object shares more than 50%"
    )
    assert found.repaired is not None
    assert [d.index for d in found.repaired] == [0, 1]
    [unmet] = found.unsatisfied
    assert (unmet.rule.id, unmet.message) == ("lungs", "count{L : lung(L)} should be at least 1, but it is 0")
    assert SceneExplanation.from_dict(json.loads(json.dumps(found.as_dict()))) == found


@settings(max_examples=15)
@given(scenes(5), st.integers(0, 2**20))
def test_repair_leaves_detections_below_the_threshold_as_they_are(scene: Scene, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scored = tuple(replace(d, score=float(rng.choice([0.1, 0.49, 0.5, 0.9]))) for d in scene.detections)
    repair = PLAN.repair(replace(scene, detections=scored), threshold=0.5)
    faint = [i for i, d in enumerate(scored) if d.score < 0.5]
    after = dict(zip(repair.kept, repair.scene.detections, strict=True))
    assert [after[i] for i in faint] == [scored[i] for i in faint]


@settings(max_examples=15)
@given(scenes(5), st.integers(0, 2**20))
def test_every_change_of_a_repair_is_explained_with_the_detections_it_is_about(scene: Scene, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scored = tuple(replace(d, score=float(rng.uniform(0.3, 1))) for d in scene.detections)
    scene = replace(scene, detections=scored)
    found = explain_scene(scene, SHAPES, 0.5, constraints=COMPILED, plan=PLAN)
    repair = PLAN.repair(scene, threshold=0.5)
    assert [c.detection.index for c in found.changes] == [c.detection for c in repair.changes]
    for told, change in zip(found.changes, repair.changes, strict=True):
        assert {c.rule.id for c in told.causes} == set(change.rules)
        assert all(FALLBACK not in c.message for c in told.causes), told
    assert {b.rule.id for b in found.unsatisfied} == {b.id for b in repair.unsatisfied}


PLAN = RepairPlan(SHAPES, LEAVES)
