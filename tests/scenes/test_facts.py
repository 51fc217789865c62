from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints import groundings
from neurosym.data.images import annotated_scene
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge, load_knowledge, parse_rules
from neurosym.records import Box, Detection, Fact, FactStore, Scene
from neurosym.scenes import facts_from, load_facts, load_scenes, save_facts, save_scenes
from tests.constraints.scenes_and_rules import THORAX, compiled
from tests.oracles.spatial import holds

SCENE = Scene(
    "film",
    200,
    200,
    (
        Detection("right_lung", Box(20, 20, 80, 140), 0.9),
        Detection("left_lung", Box(110, 20, 170, 140), 0.8),
        Detection("heart", Box(75, 80, 130, 130), 1.0),
        Detection("nodule", Box(112, 30, 118, 36), 0.5),
        Detection("nodule", Box(30, 120, 36, 126), 0.2),
    ),
    {"malignant_study": 1.0},
)


def test_a_scene_says_its_classes_relations_zones_sizes_and_labels(thorax: Knowledge) -> None:
    facts = {(f.relation, f.args): f.weight for f in facts_from([SCENE], thorax).facts}
    assert facts["lung", ("film/0",)] == facts["right_lung", ("film/0",)] == 0.9
    assert facts["left_of", ("film/0", "film/1")] == pytest.approx(0.72)
    assert facts["inside", ("film/3", "film/1")] == pytest.approx(0.4)
    assert {r for r, args in facts if args == ("film/3",)} >= {
        "nodule",
        "finding",
        "upper_zone",
        "central",
        "small_object",
    }
    assert facts["malignant_study", ("film",)] == 1.0
    assert not any("film/4" in args for _, args in facts), "a detection below the threshold is no fact"
    assert not any(r in ("right_of", "encloses", "scene_object", "study") for r, _ in facts)


def test_relations_are_those_that_the_definitions_give_for_every_pair(thorax: Knowledge) -> None:
    scenes = [annotated_scene(f) for f in Phantom(0, 10, PhantomConfig(size=128))]
    written = {(f.relation, f.args) for f in facts_from(scenes, thorax).facts if len(f.args) == 2}
    relations = {r for r, _ in written}
    expected = {
        (word, (f"{s.image_id}/{n}", f"{s.image_id}/{m}"))
        for s in scenes
        for n, m in itertools.permutations(range(len(s.detections)), 2)
        for word in relations
        if holds(word, s.detections[n].box, s.detections[m].box)
    }
    assert written == expected


def test_words_that_repeat_others_are_written_only_where_a_rule_speaks_of_them(
    thorax: Knowledge, tmp_path: Path
) -> None:
    ontologies = [f for f in thorax.files if f.suffix == ".ttl"]
    relations = {}
    for text in (
        "near(L, H) :- lung(L), heart(H).",
        "adjacent(L, H) :- left_lung(L), heart(H), patient_left_of(L, H).",
    ):
        (tmp_path / "x.rules").write_text(text)
        found = facts_from([SCENE], load_knowledge([*ontologies, tmp_path / "x.rules"])).facts
        relations[text[:4]] = {f.relation for f in found if len(f.args) == 2}
    assert relations["near"] == {f.relation for f in facts_from([SCENE], thorax).facts if len(f.args) == 2}
    assert relations["adja"] - relations["near"] == {"adjacent", "patient_left_of"}


def test_zones_and_relations_of_findings_agree_with_the_phantoms_own(thorax: Knowledge) -> None:
    films = Phantom(0, 60, PhantomConfig(size=128))
    ours, theirs = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    words = {
        "left_of",
        "above",
        "inside",
        "larger_than",
        "upper_zone",
        "middle_zone",
        "lower_zone",
        "peripheral",
        "central",
    }
    findings = {"ground_glass_opacity", "consolidation", "nodule", "pleural_effusion"}
    for film in films:
        scene = annotated_scene(film)
        kind = {f"{scene.image_id}/{i}": d.name for i, d in enumerate(scene.detections)}
        for fact in facts_from([scene], thorax).facts:
            if fact.relation in words and (len(fact.args) == 2 or kind[fact.args[0]] in findings):
                ours[(film.image_id, fact.relation, *(a.split("/")[1] for a in fact.args))] += 1
        for relation, a, b in film.attributes["relations"]:
            if relation in words:
                theirs[(film.image_id, relation, *(str(x) for x in (a, b) if x is not None))] += 1
    assert ours == theirs


def test_the_same_scenes_in_any_order_give_byte_identical_facts(thorax: Knowledge, tmp_path: Path) -> None:
    scenes = [annotated_scene(f) for f in Phantom(0, 5, PhantomConfig(size=128))]
    for name, order in (("a", scenes), ("b", scenes[::-1])):
        save_facts(tmp_path / name, facts_from(order, thorax))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_scenes_and_facts_survive_a_round_trip_through_their_files(thorax: Knowledge, tmp_path: Path) -> None:
    save_scenes(tmp_path / "s.json", [SCENE], "step-000007")
    assert load_scenes(tmp_path / "s.json") == ([SCENE], "step-000007")
    store = facts_from([SCENE], thorax)
    save_facts(tmp_path / "f.tsv", store)
    assert load_facts(tmp_path / "f.tsv") == store


def test_plain_triples_are_facts_of_a_general_graph(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("a\tknows\tb\nb\tknows\tc\n")
    assert load_facts(path) == FactStore((Fact("knows", ("a", "b")), Fact("knows", ("b", "c"))))


def test_a_byte_order_mark_is_no_part_of_the_first_fact(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("a\tknows\tb\n", encoding="utf-8-sig")
    assert load_facts(path) == FactStore((Fact("knows", ("a", "b")),))
    path.write_text("relation\targuments\tweight\tscene\nheart\th\t0.5\tf\n", encoding="utf-8-sig")
    assert load_facts(path) == FactStore((Fact("heart", ("h",), 0.5, "f"),))


def test_malformed_lines_are_counted_and_the_first_five_shown(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("a\tknows\tb\n" + "broken\n" * 7)
    with pytest.raises(DataError) as error:
        load_facts(path)
    assert len(error.value.problems) == 6
    assert error.value.problems[0].line == 2
    assert "7 malformed lines in all" in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_id", None), ("image_id", 7), ("width", math.nan), ("height", "20"), ("height", 0), ("labels", [1]),
        ("labels", {"large": "1"}), ("score", math.nan), ("score", None), ("score", 7), ("score", -1),
        ("x1", -math.inf), ("x2", "3"), ("y2", True),
        ("y1", 10**400), ("name", 5),
    ],
)  # fmt: skip
def test_a_scene_with_a_value_that_is_none_is_refused(key: str, value: object, tmp_path: Path) -> None:
    save_scenes(tmp_path / "s.json", [SCENE])
    data = json.loads((tmp_path / "s.json").read_text())
    scene = data["scenes"][0]
    detection = scene["detections"][0]
    next(part for part in (detection["box"], detection, scene) if key in part)[key] = value
    (tmp_path / "s.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="s.json: not a file of scenes: "):
        load_scenes(tmp_path / "s.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('[{"image_id": 1}]', "not a file of scenes"),
        ("[" * 100_000, "not a file of scenes: maximum recursion"),
    ],
)
def test_a_file_that_holds_no_scenes_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_scenes(path)
    with pytest.raises(DataError, match="write it with `neurosym predict RUN`"):
        load_scenes(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("detection", "score", float("nan"), r"detection 0: 'score' is nan, expected a number in \[0, 1\]"),
        ("detection", "score", 2, "'score' is 2"),
        ("detection", "score", "0.9", "'score' is '0.9'"),
        ("detection", "name", ["heart"], r"'name' is \['heart'\], expected text"),
        ("detection", "box", {"x1": 9, "y1": 0, "x2": 1, "y2": 1}, r"'box' is \[9, 0, 1, 1\], expected finite x1 ≤ x2"),
        ("detection", "box", {"x1": float("nan"), "y1": 0, "x2": 1, "y2": 1}, "'box' is"),
        ("detection", "box", {"x1": "1", "y1": 0, "x2": 1, "y2": 1}, "'box' is"),
        ("detection", "mask", {"size": [-1, 5], "counts": "0"}, "mask is 5×-1; its image is"),
        ("scene", "width", "128", "'width' is '128', expected a whole number of pixels"),
        ("scene", "height", 0, "'height' is 0"),
        ("scene", "labels", ["healthy"], r"'labels' is \['healthy'\]"),
        ("scene", "labels", {"healthy": "x"}, "the probability of 'healthy' is 'x'"),
        ("scene", "image_id", 5, "scene 2: 'image_id' is 5, expected text"),
        ("scene", "image_id", "../film", "'image_id' is no image's"),
        ("scene", "image_id", "film-0", "two scenes have the image_id 'film-0'"),
        ("scene", "detections", None, "'detections' is no list"),
    ],
)
def test_a_scene_with_a_wrong_value_is_named_when_it_is_read(
    where: str, key: str, value: object, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.json"
    save_scenes(path, [replace(SCENE, image_id="film-0"), SCENE])
    told = json.loads(path.read_text())
    scene = told["scenes"][1]
    (scene if where == "scene" else scene["detections"][0])[key] = value
    path.write_text(json.dumps(told))
    with pytest.raises(DataError, match=f"not a file of scenes: .*{message}.*; remove it and write it anew"):
        load_scenes(path)


def test_where_boxes_have_several_labels_an_object_has_the_classes_of_all_of_them(thorax: Knowledge) -> None:
    lung, spot = Box(20, 20, 80, 140), Box(30, 120, 36, 126)
    told = (("right_lung", lung, 0.9), ("nodule", spot, 0.6), ("consolidation", spot, 0.8), ("nodule", lung, 0.3))
    scene = Scene("film", 200, 200, tuple(Detection(*d) for d in told))
    facts = {(f.relation, f.args): f.weight for f in facts_from([scene], thorax, multi_label=True).facts}
    assert {args for _, args in facts if len(args) == 1} == {("film/0",), ("film/1",)}
    assert facts["nodule", ("film/1",)] == 0.6
    assert facts["consolidation", ("film/1",)] == facts["opacity", ("film/1",)] == 0.8
    assert facts["inside", ("film/1", "film/0")] == pytest.approx(0.72), "as sure as its surest label"
    assert not any(len(set(args)) < len(args) for _, args in facts), "an object has no relation to itself"
    single = facts_from([scene], thorax)
    assert facts_from([replace(scene, detections=scene.detections[:2])], thorax, multi_label=True) == facts_from(
        [replace(scene, detections=scene.detections[:2])], thorax
    ), "one label a box is what it was"
    assert ("film/2",) in {f.args for f in single.facts}


PLACED = ("upper_zone", "middle_zone", "lower_zone", "central", "peripheral")
CORNERS = st.tuples(*(st.integers(0, 60) for _ in range(2)), *(st.integers(5, 40) for _ in range(2)))
LABELS = st.sets(st.sampled_from(("right_lung", "left_lung", "heart", "nodule")), min_size=1, max_size=3)


@given(st.dictionaries(CORNERS, LABELS, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_an_object_of_several_labels_has_the_places_that_rules_see_it_at(
    objects: dict[tuple[int, ...], set[str]],
) -> None:
    boxes = {Box(x, y, x + w, y + h): sorted(names) for (x, y, w, h), names in objects.items()}
    scene = Scene("film", 100, 100, tuple(Detection(n, box) for box, names in boxes.items() for n in names))
    rules = parse_rules("".join(f":- {place}(X).\n" for place in PLACED))
    constraints = compiled(*rules, exclusive=False)
    broken = ((constraints.rules[g.rule], g.objects[0]) for g in groundings(constraints, scene) if not g.holds)
    seen = {(rule.body[0].predicate, entity) for rule, entity in broken if rule.body[0].predicate in PLACED}
    facts = facts_from([scene], THORAX, multi_label=True).facts
    assert {(f.relation, int(f.args[0].split("/")[1])) for f in facts if f.relation in PLACED} == seen
