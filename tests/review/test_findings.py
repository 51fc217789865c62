from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.data.images import annotated_scene
from neurosym.data.phantom import PhantomConfig, phantom_layout
from neurosym.knowledge import Knowledge, load_knowledge, parse_rules
from neurosym.knowledge.geometry import PREDICATES
from neurosym.records import Box, Detection, Sample, Scene
from neurosym.review.findings import FilmFindings, Findings
from neurosym.review.sentences import Sentence, load_templates, sentences_of
from tests.conftest import CLASSES, ROOT
from tests.scenes.test_rule_instances import scenes

TEMPLATES = load_templates()
LABELS = ("cardiomegaly", "typical_appearance", "negative_for_pneumonia")


def graph(knowledge: Knowledge, scene: Scene, names: tuple[str, ...] = CLASSES) -> FilmFindings:
    return Findings(knowledge, names, 0.5, TEMPLATES.ratios).of(scene)


def said(knowledge: Knowledge, scene: Scene, names: tuple[str, ...] = CLASSES) -> tuple[Sentence, ...]:
    return sentences_of(graph(knowledge, scene, names), TEMPLATES)


def labelled(most: int = 7) -> st.SearchStrategy[Scene]:
    labels = st.dictionaries(st.sampled_from(LABELS), st.integers(0, 100).map(lambda n: n / 100))
    return st.builds(lambda scene, found: replace(scene, labels=found), scenes(most=most), labels)


def true_scene(index: int) -> tuple[Scene, dict[str, object]]:
    plan = phantom_layout(index, PhantomConfig(size=128))
    sample = Sample(plan.image_id, np.zeros((128, 128), np.uint8), plan.annotations, plan.labels)
    return annotated_scene(sample), dict(plan.attributes)


@settings(max_examples=60)
@given(scene=labelled())
def test_every_sentence_rests_on_detections_that_are_there_and_of_the_classes_it_names(
    thorax: Knowledge, scene: Scene
) -> None:
    weights = {r.id: r.weight for r in thorax.rules}
    held = {(r.id, i) for r in graph(thorax, scene).rules if r.holds for i in r.detections}
    for sentence in said(thorax, scene):
        assert all(scene.detections[i].score >= 0.5 for i in sentence.detections)
        numbers = {int(n) for n in re.findall(r"#(\d+)", sentence.text)}
        assert numbers <= set(sentence.detections)
        assert sentence.weights == tuple(weights[r] for r in sentence.rules)
        if sentence.kind == "present":
            assert all((rule, sentence.detections[0]) in held for rule in sentence.rules)
        if sentence.kind in ("present", "counted", "related"):
            assert {scene.detections[i].name for i in numbers} <= set(sentence.about)


@settings(max_examples=60)
@given(scene=labelled())
def test_each_class_is_said_to_be_there_as_often_as_it_is_or_not_at_all(thorax: Knowledge, scene: Scene) -> None:
    sentences = said(thorax, scene)
    for name in CLASSES:
        there = [i for i, d in enumerate(scene.detections) if d.name == name and d.score >= 0.5]
        of_class = [s for s in sentences if s.about == (name,) and s.kind in ("present", "counted", "absent")]
        if not there:
            assert [s.kind for s in of_class] == ["absent"]
        elif len(there) > TEMPLATES.list_at_most:
            [counted] = of_class
            assert set(counted.detections) == set(there)
            assert f": {len(there)}, " in counted.text
        else:
            assert {s.kind for s in of_class} == {"present"}
            assert {s.detections[0] for s in of_class} == set(there)
    for name, probability in scene.labels.items():
        [label] = [s for s in sentences if s.about == (name,)]
        assert label.kind == ("study_present" if probability >= 0.5 else "study_absent")
        assert label.text.startswith("Film: not ") == (probability < 0.5)


@settings(max_examples=60)
@given(scene=scenes())
def test_a_relation_is_told_if_and_only_if_the_boxes_show_it(thorax: Knowledge, scene: Scene) -> None:
    edges = {(e.relation, e.subject, e.object) for e in graph(thorax, scene).edges}
    seen = [i for i, d in enumerate(scene.detections) if d.score >= 0.5]

    def holds(word: str, a: int, b: int) -> bool:
        first, second = (np.array(scene.detections[i].box.xyxy) for i in (a, b))
        return bool(PREDICATES[word](first, second, np) > 0)

    for a in seen:
        for b in seen:
            told = [(word, x, y) for word, x, y in edges if {x, y} == {a, b}]
            if a == b:
                assert not told
                continue
            inside = [("inside", x, y) for x, y in ((a, b), (b, a)) if holds("inside", x, y)]
            if inside:
                assert sorted(told) == sorted(inside)
            else:
                closest = next((w for w in ("overlaps", "near") if holds(w, a, b)), None)
                assert [word for word, _, _ in told] == ([closest] if closest else [])


@pytest.mark.parametrize("index", range(24))
def test_of_a_true_scene_the_text_names_exactly_what_is_on_the_film(thorax: Knowledge, index: int) -> None:
    scene, attributes = true_scene(index)
    sentences = said(thorax, scene)
    present = {s.about[0] for s in sentences if s.kind in ("present", "counted")}
    absent = {s.about[0] for s in sentences if s.kind == "absent"}
    assert present == {d.name for d in scene.detections}
    assert absent == set(CLASSES) - present
    labels = {thorax.ontology.classes[name].label for name in scene.labels}
    assert {s.text.split(",")[0].removeprefix("Film: ") for s in sentences if s.kind == "study_present"} == labels
    [ratio] = [q.value for q in graph(thorax, scene).quantities]
    assert ratio == pytest.approx(attributes["cardiothoracic_ratio"], abs=0.02)


def test_zones_are_those_that_the_generator_put_findings_into(thorax: Knowledge) -> None:
    checked = 0
    for index in range(24):
        scene, attributes = true_scene(index)
        relations = set(attributes["relations"])  # type: ignore[call-overload]
        for finding in graph(thorax, scene).findings:
            for e in finding.evidence:
                if finding.group == "finding" and e.within:
                    checked += 1
                    assert (e.zone, e.detection, None) in relations
                    assert (e.side, e.detection, None) in relations
    assert checked > 10


def test_what_lies_outside_every_frame_is_not_put_into_one(thorax: Knowledge) -> None:
    scene = Scene("a", 100, 80, (Detection("left_lung", Box(50, 0, 90, 60)), Detection("nodule", Box(0, 70, 5, 75))))
    [nodule] = [s.text for s in said(thorax, scene) if s.kind == "present" and s.about == ("nodule",)]
    assert nodule == "Nodule (#1): evident, 1.00, small, outside of the left lung, which is the nearest."


def test_lobes_that_no_detector_sees_are_told_where_the_zone_of_the_lung_leaves_no_other() -> None:
    lobes = load_knowledge([ROOT / "ontologies" / "lung-lobes.ttl"])
    right, left = Box(5, 0, 45, 90), Box(55, 0, 95, 90)
    third = {"upper": 10, "middle": 40, "lower": 70}
    at = {(s, z): Box(x, y, x + 4, y + 4) for s, x in (("right", 20), ("left", 70)) for z, y in third.items()}
    frames = (Detection("right_lung", right), Detection("left_lung", left))
    scene = Scene("a", 100, 100, (*frames, *(Detection("nodule", box) for box in at.values())))
    film = graph(lobes, scene, ("right_lung", "left_lung", "nodule"))
    told = dict(zip(at, [e.regions for f in film.findings if f.name == "nodule" for e in f.evidence], strict=True))
    lower, middle, upper = (f"{lobe}_lobe_of_right_lung" for lobe in ("lower", "middle", "upper"))
    assert told["right", "upper"] == (upper,)
    assert told["right", "middle"] == (), "all three lobes are seen there"
    assert told["right", "lower"] == (lower, middle)
    assert told["left", "upper"] == ("upper_lobe_of_left_lung",)
    assert told["left", "middle"] == ()
    assert told["left", "lower"] == ("lower_lobe_of_left_lung",)
    low = replace(scene, detections=(*frames, Detection("nodule", at["right", "lower"])))
    [nodule] = [s.text for s in said(lobes, low, ("right_lung", "left_lung", "nodule")) if s.about == ("nodule",)]
    seen = "where one sees the lower lobe of right lung or the middle lobe of right lung"
    assert f"in the lower zone of the right lung, {seen}, " in nodule
    without_lungs = graph(lobes, replace(scene, detections=scene.detections[2:]), ("right_lung", "nodule"))
    assert not any(e.regions for f in without_lungs.findings for e in f.evidence)
    looked_for = graph(lobes, scene, ("right_lung", "left_lung", "nodule", upper, middle, lower))
    assert {e.regions for f in looked_for.findings for e in f.evidence if e.detection in (2, 3, 4)} == {()}


def test_rules_with_words_that_the_data_says_of_a_film_fire_where_it_says_so() -> None:
    chest = load_knowledge([ROOT / "ontologies" / "chest-facts.ttl"])
    rules = parse_rules(
        """large_object(H) :- heart(H), female_patient(S). %! id=hers
        enlarged_heart_ratio(S) :- heart(H), anteroposterior_view(S). %! id=wide
        female_patient(S) :- heart(H), anteroposterior_view(S). %! id=unasked"""
    )
    scene = Scene("a", 100, 100, (Detection("heart", Box(40, 40, 75, 75)),))
    stated = {"a": {"sex": "F"}, "b": {"sex": "M", "view": "AP"}}
    findings = Findings(replace(chest, rules=tuple(rules)), ("heart",), attributes=stated)
    told = {n: {r.id: r.holds for r in findings.of(replace(scene, image_id=n)).rules} for n in ("a", "b", "c")}
    assert told == {"a": {"hers": True}, "b": {"wide": False}, "c": {}}


def test_a_broken_rule_names_its_objects_and_a_kept_one_its_weight(thorax: Knowledge) -> None:
    hearts = (Detection("heart", Box(0, 0, 20, 20), 0.9), Detection("heart", Box(60, 40, 80, 60), 0.7))
    [broken] = [s for s in said(thorax, Scene("a", 100, 80, hearts)) if s.kind == "broken"]
    assert broken.text.startswith("Rule one_heart (hard) is broken by heart #0, heart #1: If X is a heart and Y is")
    assert (broken.rules, broken.weights, broken.detections) == (("one_heart",), (None,), (0, 1))
    small = Scene("a", 100, 80, (Detection("nodule", Box(0, 0, 5, 5)),))
    [kept] = [s for s in said(thorax, small) if s.kind == "supported"]
    assert (kept.rules, kept.weights) == (("nodule_is_small",), (1.0,))
    assert (
        kept.text == "Rule nodule_is_small (1) holds: If N is a nodule, then in 100% of the cases N is a small object."
    )


def test_cells_are_counted_and_have_no_places(blood: Knowledge) -> None:
    cells = [Detection("red_blood_cell", Box(12 * i, 0, 12 * i + 10, 10), 0.9 - i / 100) for i in range(7)]
    scene = Scene("smear", 100, 100, (*cells, Detection("platelet", Box(50, 50, 53, 53), 0.3)))
    texts = [s.text for s in said(blood, scene, ("red_blood_cell", "white_blood_cell", "platelet")) if not s.rules]
    assert texts == [
        "Platelet: none, the surest 0.30.",
        "Red blood cell: 7, scores 0.84 to 0.90; 7 medium-sized.",
        "White blood cell: none.",
    ]


@settings(max_examples=30)
@given(scene=labelled())
def test_a_graph_survives_the_way_through_json(thorax: Knowledge, scene: Scene) -> None:
    film = graph(thorax, scene)
    assert FilmFindings.from_dict(json.loads(json.dumps(film.as_dict()))) == film


def test_nothing_of_a_rules_folder_is_in_its_evidence(thorax: Knowledge) -> None:
    [rule] = parse_rules("small_object(X) :- nodule(X).", "/home/doe/films/x.rules")
    scene = Scene("a", 100, 80, (Detection("nodule", Box(0, 0, 5, 5)),))
    [evidence] = graph(replace(thorax, rules=(rule,)), scene).rules
    assert evidence.place == "x.rules:1"
