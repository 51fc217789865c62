from __future__ import annotations

import io
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from neurosym.data.masks import decode_mask, encode_mask
from neurosym.induction import evaluate_rule
from neurosym.knowledge import Knowledge, load_knowledge, parse_rules
from neurosym.records import Box, Detection, Scene
from neurosym.review import load_candidates, save_candidates
from neurosym.review.evidence import Evidence, position
from neurosym.review.ledger import the_rule
from neurosym.review.web.overlay import mask_path
from neurosym.review.web.place import place_of
from neurosym.review.web.rule_page import FilmView, film_view, films_of, parts_of, variables_of
from neurosym.review.web.state import ReviewState
from neurosym.scenes import facts_from
from tests.review.web.conftest import Browser
from tests.review.web.runs import TEXTS, served

ROOT = Path(__file__).parents[3]
FIRST = "phantom-000000"  # where the lungs are taken for each other


def test_counter_examples_come_first_and_the_first_of_them_is_shown(anna: Browser, state: ReviewState) -> None:
    assert state.rows[0].candidate.refuting == (FIRST,)
    text = anna.get("/rule/1").text
    films = re.findall(r'alt="(Against|For): (phantom-\d+)"', text)
    assert films[0] == ("Against", FIRST)
    assert [f for side, f in films if side == "For"] == list(state.rows[0].candidate.supporting)
    assert "X is the right lung, Y is the heart, but left_of(X, Y) does not hold." in text


@pytest.mark.parametrize("number", range(1, len(TEXTS) + 1))
def test_what_the_films_show_of_a_rule_adds_up_to_its_figures(state: ReviewState, number: int) -> None:
    candidate = state.rows[number - 1].candidate
    cases = [c for film in state.evidence.scenes for c in state.evidence.cases(candidate.rule, film)]
    assert (len(cases), sum(c.holds for c in cases)) == (candidate.body_size, candidate.support)
    assert {c.scene for c in cases if not c.holds} == set(candidate.refuting)


@pytest.mark.parametrize("number", range(1, len(TEXTS) + 1))
def test_the_objects_that_are_lit_up_are_of_the_classes_that_the_rule_names(state: ReviewState, number: int) -> None:
    rule, ontology = state.rows[number - 1].candidate.rule, state.evidence.knowledge.ontology
    names = variables_of(rule)
    for film in state.evidence.scenes:
        objects = state.evidence.objects(film)
        for case in range(len(state.evidence.cases(rule, film))):
            view = film_view(rule, state.evidence, films_of((film,), ()), film, "for", case)
            bound = {o.variable: o for o in view.objects if o.variable >= 0}
            for atom in (a for a in rule.body if len(a.args) == 1):
                drawn = bound[names.index(atom.args[0].name)]
                assert ontology.is_a(objects[drawn.number].name, atom.predicate)
                box = objects[drawn.number].box
                assert (drawn.x, drawn.y, drawn.width, drawn.height) == (box.x1, box.y1, box.width, box.height)


def test_an_object_of_several_labels_is_drawn_once_and_called_what_the_rule_asks_for() -> None:
    knowledge = load_knowledge([ROOT / "ontologies" / "road.ttl"])
    car, light = Box(10, 10, 40, 30), Box(60, 5, 64, 15)
    told = (("brakes", car, 0.6), ("car", car, 0.93), ("stops", car, 1.0), ("traffic_light", light, 1.0))
    scene = Scene("film", 100, 100, tuple(Detection(*d) for d in told))

    def view(text: str, multi_label: bool = True) -> FilmView:
        evidence = Evidence(knowledge, {"film": scene}, multi_label=multi_label)
        return film_view(the_rule(text), evidence, films_of(("film",), ()), "film", "for", None)

    found = view("stops(X) :- car(X).")
    assert found.sentence == "X is the car: stops(X) holds."
    assert [(o.number, o.caption, o.variable) for o in found.objects] == [
        (3, "traffic light", -1),
        (0, "brakes 0.60, car 0.93, stops", 0),
    ]
    assert view("stops(X) :- vehicle(X), brakes(X).").sentence == "X is the brakes, car: stops(X) holds."
    assert view("stops(X) :- medium_object(X), car(X).").sentence.startswith("X is the car")
    assert view("left_of(X, Y) :- medium_object(X), light(Y).").sentence == (
        "X is the brakes, car, stops, Y is the traffic light: left_of(X, Y) holds."
    )
    assert len(view("stops(X) :- car(X).", multi_label=False).objects) == 4


def test_the_parts_of_a_rule_are_its_text() -> None:
    for text in (*TEXTS, r"inside(N, L) :- nodule(N), lung(L), \+ small(N).", "a(X), b(Y)."):
        rule = the_rule(text)
        assert "".join(p.text for p in parts_of(rule)) == str(rule)
        for part in parts_of(rule):
            spoken = {variables_of(rule)[i] for i in part.variables}
            assert spoken == set(re.findall(r"\b[A-Z]\b", part.text))


def test_the_cases_of_a_film_can_be_gone_through(anna: Browser) -> None:
    texts = [anna.part("/rule/4/film", film=FIRST, side="for", case=i) for i in (0, 1, 9)]
    assert "case 1 of 2" in texts[0]
    assert "case 2 of 2" in texts[1]
    assert {"left lung" in t.split("sentence")[1] for t in texts[:2]} == {True, False}
    assert texts[2] == texts[0]  # no such case


def test_a_picture_is_the_film_and_is_sent_once(anna: Browser, state: ReviewState) -> None:
    answer = anna.get("/picture", params={"film": FIRST})
    shown = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L"), dtype=float)
    film = np.asarray(Image.open(state.evidence.scene(FIRST).image_path).convert("L"), dtype=float)
    assert shown.shape == film.shape
    assert np.abs(shown - film).mean() < 3
    again = anna.get("/picture", params={"film": FIRST}, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    small = anna.get("/picture", params={"film": FIRST, "width": 160})
    assert Image.open(io.BytesIO(small.content)).size == (128, 128)  # never larger than it is
    assert anna.get("/picture", params={"film": FIRST, "width": 5000}).status_code == 400
    assert anna.get("/picture", params={"film": "phantom-000001"}).headers["etag"] != answer.headers["etag"]


def test_a_film_that_is_gone_or_broken_is_told(anna: Browser, run: Path) -> None:
    text = (run / "scenes-test.json").read_text().replace("films/phantom-000001.png", "films/gone.png")
    (run / "scenes-test.json").write_text(text)
    state = ReviewState.of(run)
    with served(state) as address:
        answer = Browser(address, state).get("/picture", params={"film": "phantom-000001"})
    assert answer.status_code == 400
    assert "gone.png" in answer.text


def test_without_films_rules_can_still_be_judged(run: Path) -> None:
    (run / "scenes-test.json").unlink()
    state = ReviewState.of(run)
    with served(state) as address:
        anna = Browser(address, state)
        text = anna.get("/rule/1").text
        assert "No films: " in text
        assert "write it with `neurosym predict RUN`" in text
        assert f"against: {FIRST}" in text
        assert "there are no films to measure it on" in anna.wording(1, "near(X, Y) :- heart(X), lung(Y).")
        assert anna.judge(1, "accept", "a").status_code == 200


def test_scenes_of_another_checkpoint_are_not_shown_as_evidence(run: Path) -> None:
    text = (run / "scenes-test.json").read_text()
    (run / "scenes-test.json").write_text(text.replace('"step-1"', '"step-2"'))
    assert "are of checkpoint 'step-2', the candidates of 'step-1'" in ReviewState.of(run).notes[0]


def test_annotations_are_shown_where_the_candidates_are_of_annotations(run: Path) -> None:
    candidates, _ = load_candidates(run / "candidates.json")
    save_candidates(run / "candidates.json", candidates, {"facts": "annotations", "split": "test"})
    evidence = ReviewState.of(run).evidence
    assert evidence.missing == ""
    assert {s.width for s in evidence.scenes.values()} == {64}
    assert evidence.image(FIRST).shape == (64, 64)
    found = evidence.measure(candidates[0].rule)
    assert found.support == found.body_size == 12  # no lung is mistaken in the annotations


def test_facts_of_unknown_origin_have_no_films(thorax: Knowledge, run: Path) -> None:
    candidates, _ = load_candidates(run / "candidates.json")
    save_candidates(run / "candidates.json", candidates, {"facts": ""})
    assert "does not say which films" in ReviewState.of(run).evidence.missing


def test_detections_below_the_threshold_are_neither_drawn_nor_counted(state: ReviewState) -> None:
    evidence = Evidence(state.evidence.knowledge, state.evidence.scenes, threshold=1.1)
    assert evidence.objects(FIRST) == []
    assert evidence.cases(state.rows[0].candidate.rule, FIRST) == []
    assert position(f"{FIRST}/12", FIRST) == 12
    assert position(FIRST, FIRST) is None


MASKS = st.integers(1, 9).flatmap(
    lambda w: st.lists(st.lists(st.booleans(), min_size=w, max_size=w), min_size=1, max_size=9)
)


@given(MASKS)
def test_the_outline_of_a_mask_encloses_its_pixels(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    path = mask_path(encode_mask(mask))
    crossings = np.zeros((mask.shape[0], mask.shape[1] + 1), dtype=int)  # vertical edges by row and column
    length = 0
    for x, y, way, steps in re.findall(r"M(\d+) (\d+)([hv])(\d+)", path):
        length += int(steps)
        if way == "v":
            crossings[int(y) : int(y) + int(steps), int(x)] += 1
    assert (np.cumsum(crossings, axis=1)[:, :-1] % 2 == mask).all()  # even-odd, from the left
    padded = np.pad(mask, 1).astype(int)
    assert length == np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()


def test_the_outline_of_a_large_mask_lies_within_its_steps() -> None:
    picture = Image.new("L", (1000, 900))
    ImageDraw.Draw(picture).ellipse((200, 100, 800, 700), fill=255)
    code = encode_mask(np.asarray(picture))
    points = np.array([(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)", mask_path(code))])
    distance = np.hypot(points[:, 0] - 500, points[:, 1] - 400)
    assert np.abs(distance - 300).max() < 4 * 2**0.5 + 1
    assert decode_mask(code).sum() > 280_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("left_of(X, Y) :- right_lng(X), heart(Y).", "line 1, column 18: unknown class 'right_lng'; did you mean"),
        ("left_of(X, Y) :-\n  heart(X), lung(Y)", "line 2, column 20: the rule does not end; expected '.'"),
        ("left_of(X Y) :- heart(X).", "line 1, column 11: unexpected 'Y'; expected"),
        ("left_of(X, Z) :- heart(X), X = Y.", "an equality may only be a head"),
        ("2 :: near(X, Y) :- heart(X), lung(Y).", "weight 2 is not a probability"),
        ("", "there is no rule"),
        ("near(X, Y) :- heart(X), lung(Y). near(X, Y) :- lung(X), heart(Y).", "expected one rule, found 2"),
        ("% nothing but a remark", "there is no rule"),
        ("near(X, Y) :- " + "heart(X), " * 500 + "lung(Y).", "longer than 4,000 characters"),
        ("heart(X, Y) :- lung(X), heart(Y).", "line 1, column 1: 'heart' is a class: expected 1 argument(s)"),
    ],
)  # fmt: skip
def test_nonsense_is_answered_in_place_with_line_and_column(anna: Browser, text: str, message: str) -> None:
    found = anna.wording(1, text)
    assert message in unescape(re.sub(r"</?b>", "", found))
    assert 'value="accept"' not in found
    answer = anna.judge(1, "accept", "a", edited=text or "%")
    assert answer.status_code == 422


def test_an_edited_rule_is_measured_at_once_on_the_films(anna: Browser, state: ReviewState) -> None:
    text = "left_of(X, Y) :- lung(X), heart(Y)."
    facts = facts_from(state.evidence.scenes.values(), state.evidence.knowledge)
    expected = evaluate_rule(parse_rules(text)[0], facts)
    found = unescape(anna.wording(1, text))
    figures = [
        expected.support,
        expected.body_size - expected.support,
        expected.body_size,
        f"{expected.confidence:.3f}",
    ]
    row = re.search(r'<tr class="new">.*?</tr>', found, re.DOTALL)
    assert row is not None
    assert re.findall(r">([\d.]+)</td>", row[0])[:4] == list(map(str, figures))
    films = re.findall(r'alt="Against: (phantom-\d+)"', found)
    assert films == list(expected.refuting)
    assert f'name="edited" value="{round(expected.confidence, 3):g} :: {text}"' in found
    assert "your wording" in anna.part("/rule/1/film", film=films[1], edited=text)


def test_an_edited_rule_is_accepted_with_its_measured_weight(anna: Browser, state: ReviewState) -> None:
    anna.judge(1, "accept", "a", edited="left_of(X, Y) :- lung(X), heart(Y).")
    [entry] = state.review.ledger.verdicts()
    assert entry.edited == "0.5 :: left_of(X, Y) :- lung(X), heart(Y)."
    assert entry.rule.startswith("0.917 :: left_of(X, Y) :- right_lung(X)")


def test_a_wording_that_says_the_same_or_cannot_be_measured_is_told(anna: Browser) -> None:
    assert "It says what the induced rule says" in anna.wording(1, "left_of(A, B) :- heart(B), right_lung(A).")
    found = anna.wording(1, r"left_of(A, B) :- heart(B), right_lung(A), \+ small_object(A).")
    assert "has conditions" in found
    assert "Accept this wording" in found
    assert "no film has a fact of &#39;airways&#39;" in anna.wording(1, "near(A, B) :- heart(B), airways(A).")


def test_the_editor_works_without_scripts(anna: Browser) -> None:
    answer = anna.submit("/rule/1/wording", text="left_of(X, Y) :- lung(X), heart(Y).")
    assert answer.status_code == 200
    assert "<!doctype html>" in answer.text
    assert "Accept this wording" in answer.text


def test_the_place_of_a_rule_holds_its_classes_and_all_above(thorax: Knowledge, anna: Browser) -> None:
    rule = the_rule(TEXTS[0])
    place = place_of(rule, thorax.ontology)
    nodes = {e["data"]["id"] for e in place.elements if "source" not in e["data"]}
    wanted = {"right_lung", "heart"} | thorax.ontology.ancestors("right_lung") | thorax.ontology.ancestors("heart")
    assert nodes == wanted
    height = {e["data"]["id"]: e["position"]["y"] for e in place.elements if "position" in e}
    for edge in (e for e in place.elements if e["classes"] == "above"):
        assert height[edge["data"]["target"]] < height[edge["data"]["source"]]
    [head] = [e["data"] for e in place.elements if e["classes"] == "head"]
    assert (head["source"], head["target"], head["label"]) == ("right_lung", "heart", "left of")
    assert any(line.startswith("right lung is a kind of lung") for line in place.lines)
    data = re.search(r'id="graph-data">(.*?)</script>', anna.get("/rule/1").text, re.DOTALL)
    assert data is not None
    assert json.loads(data[1]) == json.loads(json.dumps(place.elements))


def test_what_the_data_says_of_a_film_counts_in_its_facts() -> None:
    knowledge = load_knowledge([ROOT / "ontologies" / "chest-facts.ttl"])
    scenes = {n: Scene(n, 100, 100, (Detection("heart", Box(40, 40, 70, 70)),)) for n in ("a", "b")}
    evidence = Evidence(knowledge, scenes, attributes={"a": {"sex": "F"}, "b": {"sex": "M"}})
    [rule] = parse_rules("large_object(X) :- heart(X), female_patient(F).")
    assert evidence.measure(rule).body_size == 1
    assert [len(evidence.cases(rule, film)) for film in ("a", "b")] == [1, 0]
