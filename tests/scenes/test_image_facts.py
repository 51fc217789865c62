"""Facts of whole scenes against the phantom's own truth, and their weights against every world that detections leave open."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.data.images import annotated_scene
from neurosym.data.masks import decode_mask, encode_mask
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.records import Box, Detection, Sample, Scene
from neurosym.scenes import facts_from
from neurosym.scenes.image_facts import width_ratio
from tests.oracles.spatial import holds_of_masks

ROOT = Path(__file__).parents[2]
CHEST = load_knowledge([ROOT / "ontologies/chest-facts.ttl"])
LUNGS = (Detection("right_lung", Box(20, 20, 90, 180)), Detection("left_lung", Box(110, 20, 180, 180)))
OPACITIES = ("ground_glass_opacity", "consolidation", "nodule")


@pytest.fixture(scope="module")
def films() -> list[Sample]:
    return list(Phantom(0, 60, PhantomConfig(size=128)))


def facts_of(scene: Scene, **how: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    return {(f.relation, f.args): f.weight for f in facts_from([scene], CHEST, **how).facts}


def names_of(scene: Scene, entity: str = "film", **how: Any) -> set[str]:
    return {relation for (relation, args) in facts_of(scene, **how) if args == (entity,)}


def scene(*detections: Detection) -> Scene:
    return Scene("film", 200, 200, (*LUNGS, *detections))


def at(name: str, x: float, y: float, score: float = 1.0) -> Detection:
    return Detection(name, Box(x - 5, y - 5, x + 5, y + 5), score)


def test_an_ontology_that_declares_no_such_words_has_the_facts_that_it_had(
    thorax: Knowledge, films: list[Sample]
) -> None:
    scenes = [annotated_scene(f) for f in films[:10]]
    plain = set(facts_from(scenes, thorax, attributes={f.image_id: f.attributes for f in films}).facts)
    declared = CHEST.ontology.scene_words.names
    assert not declared & {f.relation for f in plain}
    more = set(facts_from(scenes, CHEST).facts)
    assert plain <= more
    assert {f.relation for f in more - plain} <= declared


def test_the_hearts_ratio_is_that_of_the_phantoms_masks(films: list[Sample]) -> None:
    found = Counter[bool]()
    for film in films:
        columns = {a.name: np.flatnonzero(decode_mask(a.mask).any(0)) for a in film.annotations if a.mask is not None}
        chest = np.concatenate([columns["left_lung"], columns["right_lung"]])
        ratio = (np.ptp(columns["heart"]) + 1) / (np.ptp(chest) + 1)
        boxes = {a.name: a.box for a in film.annotations}
        assert width_ratio(boxes["heart"], [boxes["left_lung"], boxes["right_lung"]]) == pytest.approx(ratio)
        assert ratio == pytest.approx(film.attributes["cardiothoracic_ratio"], abs=0.02)
        is_large = "enlarged_heart_ratio" in names_of(annotated_scene(film), film.image_id)
        assert is_large == (ratio > 0.5)
        found[is_large] += 1
    assert min(found[True], found[False]) > 5


def test_without_both_lungs_there_is_no_ratio() -> None:
    wide = Detection("heart", Box(50, 100, 150, 180), 0.9)
    assert facts_of(scene(wide))["enlarged_heart_ratio", ("film",)] == 0.9
    alone = replace(scene(wide), detections=(LUNGS[0], wide))
    assert "enlarged_heart_ratio" not in names_of(alone)


def test_counts_and_both_sides_are_those_of_the_phantoms_findings(films: list[Sample]) -> None:
    seen = Counter[str]()
    for film in films:
        kinds = Counter(a.name for a in film.annotations)
        lungs = {a.name: decode_mask(a.mask).any(0).nonzero()[0] for a in film.annotations if "lung" in a.name}
        middle = (lungs["right_lung"].max() + lungs["left_lung"].min()) / 2
        expected = set()
        for kind, word in (("nodule", "nodule"), ("consolidation", "consolidation")):
            expected |= {f"single_{word}"} if kinds[kind] == 1 else {f"multiple_{word}s"} if kinds[kind] > 1 else set()
        for name, of in (
            ("opacity", OPACITIES),
            *((k, (k,)) for k in ("ground_glass_opacity", "consolidation", "pleural_effusion")),
        ):
            sides = {(a.box.x1 + a.box.x2) / 2 > middle for a in film.annotations if a.name in of}
            expected |= {f"bilateral_{name}"} if len(sides) == 2 else set()
        words = CHEST.ontology.scene_words
        image_words = {w.name for kind in (words.counts, words.in_each) for w in kind}
        found = names_of(annotated_scene(film), film.image_id) & image_words
        assert found == expected
        seen.update(found)
    assert {"single_nodule", "single_consolidation", "bilateral_opacity", "bilateral_ground_glass_opacity"} <= set(seen)


@st.composite
def uncertain_scenes(draw: st.DrawFn) -> Scene:
    """Lungs that are certain, findings with any score."""
    names = st.sampled_from([*OPACITIES, "pleural_effusion"])
    places = (st.floats(15, 185), st.floats(15, 185), st.floats(0.05, 1))
    found = draw(st.lists(st.builds(at, names, *places), max_size=6))
    return scene(*found)


def worlds(uncertain: Scene) -> Iterator[tuple[Scene, float]]:
    """Every scene that is left if each detection is there or not, with its probability."""
    found = uncertain.detections[len(LUNGS) :]
    for here in itertools.product((False, True), repeat=len(found)):
        share = prod(d.score if h else 1 - d.score for d, h in zip(found, here, strict=True))
        kept = [replace(d, score=1.0) for d, h in zip(found, here, strict=True) if h]
        yield scene(*kept), share


@settings(max_examples=25)
@given(uncertain_scenes())
def test_a_fact_of_the_image_weighs_the_worlds_in_which_it_is_true(uncertain: Scene) -> None:
    weights = {r: w for (r, args), w in facts_of(uncertain, threshold=0.0).items() if args == ("film",)}
    true = Counter[str]()
    for world, share in worlds(uncertain):
        for name in names_of(world):
            true[name] += share  # type: ignore[assignment]
    for name, weight in weights.items():
        assert weight == pytest.approx(true[name], abs=1e-4)


def test_what_excludes_itself_is_never_written_together() -> None:
    two = scene(at("nodule", 40, 50, 0.6), at("nodule", 60, 90, 0.6))
    assert facts_of(two)["multiple_nodules", ("film",)] == 0.36
    assert "single_nodule" not in names_of(two)
    assert facts_of(scene(at("nodule", 40, 50, 0.6)))["single_nodule", ("film",)] == 0.6


def test_sides_and_lobes_are_those_of_the_lung_and_its_thirds() -> None:
    thirds = {40: "upper", 100: "middle", 170: "lower"}
    for x, side in ((50, "right"), (150, "left")):
        for y, third in thirds.items():
            found = names_of(scene(at("nodule", x, y)), "film/2")
            lower = "in_right_middle_or_lower_lobe" if side == "right" else "in_left_lower_lobe"
            expected = {f"{side}_sided"}
            expected |= {f"in_{side}_upper_lobe"} if third != "lower" else set()
            expected |= {lower} if third != "upper" else set()
            assert {n for n in found if n.startswith("in_") or n.endswith("_sided")} == expected
    lung_itself = names_of(scene(), "film/0")
    assert not {n for n in lung_itself if n.endswith(("_sided", "_lobe"))}


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(10, 190), st.integers(10, 190)), min_size=2, max_size=5))
def test_pairs_mirror_each_other_by_the_definition(places: list[tuple[int, int]]) -> None:
    found = {args for (r, args) in facts_of(scene(*(at("nodule", *p) for p in places))) if r == "mirrors"}
    expected = set()
    for (i, (x, y)), (j, (u, v)) in itertools.permutations(enumerate(places, 2), 2):
        # the lungs reach from 20 to 180 on both axes, their midline is 100: a tenth is 16
        if (x - 100) * (u - 100) < 0 and abs((200 - x) - u) <= 16 and abs(y - v) <= 16:
            expected.add((f"film/{i}", f"film/{j}"))
    assert found == expected


def test_what_is_stated_of_the_patient_is_a_fact_only_if_the_ontology_has_a_word_for_it() -> None:
    def stated(**attributes: Any) -> set[str]:
        return names_of(scene(), attributes={"film": attributes, "other": {"sex": "M"}})

    assert stated(sex="F", age=71, view="AP Supine") == {
        "female_patient",
        "patient_65_or_older",
        "anteroposterior_view",
    }
    assert stated(sex="todo", age="todo", view="todo", name="Anna") == set()
    assert stated(sex="", age=None) == set()
    bands = {"17.9": "under_18", "18": "18_to_64", 64.99: "18_to_64", "065Y": "65_or_older", "011M": "under_18"}
    for age, band in bands.items():
        assert stated(age=age) == {f"patient_{band}"}
    assert stated(age="nan") == set()


def test_a_calibration_makes_the_weights_and_the_score_decides_what_is_seen() -> None:
    film = scene(at("nodule", 40, 50, 0.6), at("nodule", 60, 90, 0.4))

    def halved(name: str, score: float) -> float:
        return score / 2 if name == "nodule" else score

    facts = facts_of(film, calibration=halved)
    assert facts["nodule", ("film/2",)] == facts["single_nodule", ("film",)] == 0.3
    assert facts["inside", ("film/2", "film/0")] == 0.3
    assert ("nodule", ("film/3",)) not in facts


def test_relations_by_masks_are_those_of_their_pixels(films: list[Sample]) -> None:
    by_box = 0
    for film in films[:12]:
        seen = annotated_scene(film)
        found = facts_of(seen, masks=True)
        boxes = facts_of(seen)
        pixels = [frozenset(zip(*np.nonzero(decode_mask(d.mask))[::-1], strict=True)) for d in seen.detections]  # type: ignore[arg-type]
        for i, j in itertools.permutations(range(len(pixels)), 2):
            pair = (f"{film.image_id}/{i}", f"{film.image_id}/{j}")
            for word in ("left_of", "above", "inside", "overlaps", "larger_than"):
                holds = holds_of_masks(word, pixels[i], pixels[j])
                assert ((word, pair) in found) == holds, (word, pair)
                by_box += ((word, pair) in boxes) != holds
    assert by_box > 0, "boxes say the same, so the masks were not put to the test"


def test_a_mask_of_another_size_than_its_image_is_refused() -> None:
    mask = encode_mask(np.ones((10, 20)))
    wrong = scene(replace(at("nodule", 40, 50), mask=mask))
    with pytest.raises(DataError, match="image 'film': a mask of nodule is 20×10 pixels, the image 200×200"):
        facts_of(wrong, masks=True)


def test_the_labels_of_one_box_are_one_object_of_what_is_counted(tmp_path: Path) -> None:
    right = (at("consolidation", 40, 50, 0.6), at("nodule", 40, 50, 0.9), at("ground_glass_opacity", 40, 50, 0.3))
    left = (at("nodule", 150, 60, 0.4), at("ground_glass_opacity", 150, 60, 0.5))
    several = facts_of(scene(*right, *left), threshold=0.0, multi_label=True)
    surest = facts_of(scene(right[1], left[1]), threshold=0.0)
    assert several["bilateral_opacity", ("film",)] == surest["bilateral_opacity", ("film",)] == 0.45
    assert several["multiple_nodules", ("film",)] == 0.36
    busy = tmp_path / "busy.ttl"
    busy.write_text("""
        @prefix : <http://example.org/busy#> . @prefix ns: <https://w3id.org/neurosym/core#> .
        @prefix owl: <http://www.w3.org/2002/07/owl#> . @prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
        <http://example.org/busy> a owl:Ontology .
        :pair a owl:Class ; rdfs:subClassOf ns:study ; ns:seen <https://w3id.org/neurosym/road#road_object> ; ns:atLeast 2 .
    """)
    road = load_knowledge([ROOT / "ontologies/road.ttl", ROOT / "ontologies/scene-facts.ttl", busy])
    car, bus = (Box(x, 0, x + 20, 20) for x in (0, 50))
    told = (("car", car, 0.8), ("brakes", car, 0.9), ("stops", car, 0.6), ("bus", bus, 0.5))
    one, both = (Scene("film", 100, 100, tuple(Detection(*d) for d in told[:n])) for n in (3, 4))
    weights = [
        {f.relation: f.weight for f in facts_from([s], road, multi_label=True).facts if f.args == ("film",)}
        for s in (one, both)
    ]
    assert weights == [{}, {"pair": 0.45}]


def test_what_is_on_the_box_of_a_lung_lies_in_no_lung() -> None:
    lung, spot = LUNGS[0].box, at("nodule", 40, 50)
    told = scene(Detection("nodule", lung), spot, at("consolidation", 40, 50))
    found = {e: names_of(told, e, multi_label=True) for e in ("film/0", "film/3")}
    assert "nodule" in found["film/0"]
    assert "right_sided" not in found["film/0"]
    assert found["film/3"] >= {"nodule", "consolidation", "right_sided"}
