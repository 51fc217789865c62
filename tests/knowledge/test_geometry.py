from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neurosym.errors import OntologyError
from neurosym.knowledge.geometry import FUNCTIONS, MEASURES, PREDICATES, places_of, side_of, size_of, zone_of
from neurosym.knowledge.ontology import load_ontology
from neurosym.records import Box
from tests.oracles import spatial
from tests.oracles.spatial import holds


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y = draw(st.integers(0, 90)), draw(st.integers(0, 90))
    return Box(x, y, x + draw(st.integers(1, 60)), y + draw(st.integers(1, 60)))


@pytest.mark.parametrize("word", PREDICATES)
@given(a=boxes(), b=boxes())
def test_a_margin_is_positive_iff_the_word_is_true_by_its_definition(word: str, a: Box, b: Box) -> None:
    margin = float(PREDICATES[word](np.array(a.xyxy), np.array(b.xyxy), np))
    if abs(margin) > 1e-6:  # on the border itself either answer is one of rounding
        assert (margin > 0) == holds(word, a, b)


@given(a=boxes(), b=boxes(), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_words_do_not_depend_on_the_image_scale_or_origin(a: Box, b: Box, scale: float, shift: float) -> None:
    first, second = np.array(a.xyxy), np.array(b.xyxy)
    for word, margin in PREDICATES.items():
        before = margin(first, second, np)
        after = margin(first * scale + shift, second * scale + shift, np)
        assert after == pytest.approx(before, rel=1e-3, abs=1e-3), word


def test_zones_are_thirds_and_sides_face_away_from_the_midline() -> None:
    frame = np.array([10.0, 0.0, 40.0, 90.0])
    at = lambda x, y: np.array([x - 1, y - 1, x + 1, y + 1], dtype=float)  # noqa: E731
    assert [zone_of(at(25, y), frame) for y in (10, 45, 80)] == ["upper_zone", "middle_zone", "lower_zone"]
    assert [side_of(at(x, 45), frame, midline=50) for x in (12, 38)] == ["peripheral", "central"]
    assert [side_of(at(x, 45), frame, midline=0) for x in (12, 38)] == ["central", "peripheral"]
    assert [size_of(np.array([0, 0, s, s]), 100, 100) for s in (5, 20, 50)] == [
        "small_object",
        "medium_object",
        "large_object",
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
@given(a=boxes(), b=boxes())
def test_the_numbers_of_a_pair_are_those_of_their_definitions(function: str, a: Box, b: Box) -> None:
    found = float(FUNCTIONS[function](np.array(a.xyxy), np.array(b.xyxy), np))
    assert found == pytest.approx(spatial.number(function, a, b), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", MEASURES)
@given(box=boxes(), width=st.integers(100, 300), height=st.integers(100, 300))
def test_the_measures_of_a_box_are_those_of_their_definitions(name: str, box: Box, width: int, height: int) -> None:
    found = float(MEASURES[name](np.array(box.xyxy), width, height, np))
    assert found == pytest.approx(spatial.measure(name, box, width, height), rel=1e-5)


@given(a=boxes(), b=boxes(), scale=st.floats(0.01, 100))
def test_numbers_of_pairs_do_not_depend_on_the_image_scale(a: Box, b: Box, scale: float) -> None:
    first, second = np.array(a.xyxy), np.array(b.xyxy)
    for name, function in FUNCTIONS.items():
        expected = pytest.approx(function(first, second, np), rel=1e-3, abs=1e-3)
        assert function(first * scale, second * scale, np) == expected, name
    for name, measure in MEASURES.items():
        expected = pytest.approx(measure(first, 150, 200, np), rel=1e-3)
        assert measure(first * scale, 150 * scale, 200 * scale, np) == expected, name


@given(a=boxes(), b=boxes())
def test_ratios_of_measures_are_the_ratios_of_the_pair(a: Box, b: Box) -> None:
    first, second = np.array(a.xyxy), np.array(b.xyxy)
    for measure in ("width", "height", "area"):
        value = [MEASURES[f"{measure}_share"](box, 160, 190, np) for box in (first, second)]
        assert value[0] / value[1] == pytest.approx(FUNCTIONS[f"{measure}_ratio"](first, second, np))


def test_the_patients_left_is_on_the_right_of_a_frontal_film() -> None:
    left_lung, heart = np.array([60, 0, 90, 90]), np.array([35, 40, 65, 80])
    assert PREDICATES["patient_left_of"](left_lung, heart, np) > 0
    assert PREDICATES["patient_right_of"](heart, left_lung, np) > 0
    assert PREDICATES["patient_left_of"](heart, left_lung, np) < 0


def test_adjacent_boxes_touch_or_nearly_touch_and_neither_holds_the_other() -> None:
    box = np.array([0.0, 0.0, 40.0, 40.0])
    beside = {
        "touching": [40, 0, 80, 40],
        "a gap of 2": [42, 0, 82, 40],
        "partly over": [20, 0, 60, 40],
        "a gap of 5": [45, 0, 85, 40],
        "within": [10, 10, 20, 20],
        "around": [-5, -5, 50, 50],
        "itself": [0, 0, 40, 40],
    }
    true = {name for name, b in beside.items() if PREDICATES["adjacent"](box, np.array(b, dtype=float), np) > 0}
    assert true == {"touching", "a gap of 2", "partly over"}


FRAMES = st.dictionaries(st.sampled_from(["left_lung", "right_lung", "lobe"]), st.lists(boxes(), max_size=3))


@given(box=boxes(), frames=FRAMES)
def test_places_are_those_of_the_smallest_frame_around_else_of_the_nearest(
    box: Box, frames: dict[str, list[Box]]
) -> None:
    every = [f for several in frames.values() for f in several]
    x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    away = [(max(f.x1 - x, x - f.x2, 0) ** 2 + max(f.y1 - y, y - f.y2, 0) ** 2, f.width * f.height) for f in every]
    ways = [way or -area for way, area in away]
    assume(len(set(ways)) == len(ways))  # of two that are as near, or around it and as large, either is the frame
    expected = [spatial.size(box, 151, 149)]  # primes: no share is 1% or 10%
    if every:
        frame = spatial.frame(box, every)
        for axis, parts in ((0, 5), (1, 3)):
            start, end = frame.xyxy[axis], frame.xyxy[axis + 2]
            part = parts * ((x, y)[axis] - start) / (end - start)
            assume(abs(part - round(part)) > 1e-6)
        means = [sum(f.x1 + f.x2 for f in fs) / len(fs) for fs in frames.values() if fs]
        assume(abs(frame.x1 + frame.x2 - (sum(means) / len(means) if len(means) > 1 else 151)) > 1e-6)
        expected += [spatial.zone(box, frame), spatial.side(box, frame, frames, 151)]
    arrays = {name: [np.array(f.xyxy, dtype=float) for f in fs] for name, fs in frames.items()}
    assert places_of(np.array(box.xyxy, dtype=float), arrays, 151, 149, np) == tuple(expected)


def test_what_is_a_frame_itself_has_a_size_and_no_place() -> None:
    lung = np.array([0.0, 0.0, 50.0, 50.0])
    assert places_of(lung, {"lung": [lung]}, 100, 100, np, placed=False) == ("large_object",)


def test_a_data_property_means_a_measure_and_no_relation(tmp_path: Path) -> None:
    core = Path(__file__).parents[2] / "ontologies/neurosym.ttl"
    path = tmp_path / "x.ttl"
    text = core.read_text(encoding="utf-8")
    path.write_text(text.replace('ns:predicate "width_share"', 'ns:predicate "widht_share"'), encoding="utf-8")
    with pytest.raises(OntologyError, match=r"'widht_share' of 'width_share' is not a measure of a box; did you mean"):
        load_ontology([path])
    path.write_text(text.replace('ns:predicate "near"', 'ns:predicate "aspect"'), encoding="utf-8")
    with pytest.raises(OntologyError, match="'aspect' of 'near' is not a geometric word"):
        load_ontology([path])
    assert {r.predicate for r in load_ontology([core]).relations.values() if r.datatype} == set(MEASURES)
