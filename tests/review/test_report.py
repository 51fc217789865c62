from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.errors import InductionError
from neurosym.induction import InductionConfig
from neurosym.knowledge import Knowledge, parse_rules
from neurosym.loop import Stages
from neurosym.records import Box, Candidate, Detection, Scene
from neurosym.review import load_candidates, save_candidates, write_report
from neurosym.review.findings import Findings
from neurosym.review.run_summary import Curve, RunSummary
from neurosym.review.sentences import load_templates, sentences_of
from neurosym.scenes import save_scenes
from tests.review.test_confirmation import run_folder


def candidate(text: str = "0.75 :: left_of(X, Y) :- right_lung(X), heart(Y).") -> Candidate:
    [rule] = parse_rules(text + ' %! id=induced_1 source="learned here"')
    return Candidate(rule, 3, 4, 0.75, 0.75, 0.5, 2.0, ("a", "b"), ("c",))


def scenes(folder: Path, prefix: str = "") -> list[Scene]:
    found = (Detection("right_lung", Box(5, 5, 20, 40), 0.9), Detection("heart", Box(22, 22, 40, 40), 0.9))
    made = []
    for i, name in enumerate([f"{prefix}-{n}" for n in range(3)] if prefix else "abc"):
        path = folder / f"{name}.png"
        Image.fromarray(np.full((64, 64), 40 * (i + 1), np.uint8)).save(path)
        made.append(Scene(name, 64, 64, found, image_path=str(path)))
    return made


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_report_shows_measures_and_refuting_films_before_supporting_ones(thorax: Knowledge, tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", "Title", [candidate()], scenes(tmp_path), thorax)
    text = (tmp_path / "r.html").read_text()
    assert "If X is a right lung and Y is a heart, then X is left of" in text
    assert "3 of 4" in text
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert captions == ["film 3", "film 1", "film 2"]
    assert text.count("data:image/jpeg;base64,") == 3


def test_the_report_is_one_file_without_scripts_or_links_elsewhere(thorax: Knowledge, tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", "Title", [candidate()], scenes(tmp_path), thorax)
    page = Page((tmp_path / "r.html").read_text())
    assert not [t for t, _ in page.tags if t in ("script", "link", "iframe")]
    places = [a.get("src") or a.get("href") or "" for _, a in page.tags]
    assert all(p.startswith(("data:image/jpeg", "#")) for p in places if p)
    assert all(a.get("alt") for t, a in page.tags if t == "img")


def test_text_from_files_is_escaped(thorax: Knowledge, tmp_path: Path) -> None:
    films = [Scene("<script>alert(1)</script>", 64, 64)]
    bad = Candidate(candidate().rule, 1, 1, 1.0, 1.0, 1.0, 1.0, (films[0].image_id,), ())
    write_report(tmp_path / "r.html", "<b>title</b>", [bad], films, thorax, keep_identifiers=True)
    text = (tmp_path / "r.html").read_text()
    assert "<script>" not in text
    assert "<b>title" not in text


def test_a_film_that_is_gone_is_named_without_a_picture(thorax: Knowledge, tmp_path: Path) -> None:
    films = scenes(tmp_path)
    (tmp_path / "c.png").unlink()
    write_report(tmp_path / "r.html", "Title", [candidate()], films, thorax)
    text = (tmp_path / "r.html").read_text()
    assert text.count("data:image/jpeg") == 2
    assert "<figcaption>film 3</figcaption>" in text


def test_no_name_folder_or_metadata_of_a_film_is_in_the_report(thorax: Knowledge, tmp_path: Path) -> None:
    """Neither in the text nor in the pictures; of everything that is written down of the patient."""
    folder = tmp_path / "clinic-7" / "doe-jane"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x010E] = "exif-jane-doe"  # ImageDescription
    words = PngInfo()
    words.add_text("PatientName", "text-jane-doe")
    picture = Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))
    picture.save(folder / "p-4711.png", pnginfo=words, exif=exif)
    picture.save(folder / "p-4712.jpg", exif=exif, comment=b"comment-jane-doe")
    found = (Detection("right_lung", Box(5, 5, 20, 40), 0.9), Detection("heart", Box(22, 22, 40, 40), 0.9))
    films = [
        Scene(path.stem, 64, 64, found, image_path=str(path)) for path in (folder / "p-4711.png", folder / "p-4712.jpg")
    ]
    rules = parse_rules("0.75 :: left_of(X, Y) :- right_lung(X), heart(Y).", str(folder / "x.rules"))
    shown = replace(candidate(), supporting=("p-4711",), refuting=("p-4712",))
    templates = load_templates()
    told = [(f, sentences_of(Findings(thorax, ("heart", "right_lung")).of(f), templates)) for f in films]
    knowledge = replace(thorax, rules=tuple(rules))
    write_report(tmp_path / "r.html", "Title", [shown], films, knowledge, told=told)
    text = (tmp_path / "r.html").read_text()
    pictures = [base64.b64decode(data) for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", text)]
    assert len(pictures) == 4
    assert text.count("film 1") == 4  # caption and alternative text, twice
    assert "Already written: x.rules:1." in text
    for stored in (re.sub(r"base64,[^\"]+", "", text).encode(), *pictures):
        assert not [word for word in (b"jane", b"doe", b"4711", b"4712", b"clinic") if word in stored.lower()]
    for stored in pictures:
        assert dict(Image.open(io.BytesIO(stored)).getexif()) == {}


def test_ids_are_shown_where_it_is_asked_for(thorax: Knowledge, tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", "Title", [candidate()], scenes(tmp_path), thorax, keep_identifiers=True)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", (tmp_path / "r.html").read_text())
    assert captions == ["c", "a", "b"]


def test_settings_and_curves_are_shown_without_a_script(thorax: Knowledge, tmp_path: Path) -> None:
    curve = Curve("loss", "0,0 120,30 240,72", 50, 0.25, 1.5, 0.25)
    summary = RunSummary((("seed", "<7>"),), ("heart",), (curve,))
    write_report(tmp_path / "r.html", "Title", [], [], thorax, summary=summary)
    page = Page(text := (tmp_path / "r.html").read_text())
    assert [a["points"] for t, a in page.tags if t == "polyline"] == ["0,0 120,30 240,72"]
    assert "&lt;7&gt;" in text
    assert "loss: 0.25 to 1.5; 0.25 at step 50" in text


def test_the_command_reports_a_run_without_the_ids_of_its_films(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", "")
    stages = Stages.of(folder)
    save_scenes(folder / "scenes-test.json", scenes(tmp_path, "doe-jane"))
    stages.induce(InductionConfig(min_support=1))
    result = CliRunner().invoke(app, ["report", str(folder), "--films", "2", "--json"])
    assert result.exit_code == 0, result.output
    text = (folder / "report.html").read_text()
    assert "What is found on some films" in text
    assert "doe" not in text
    assert str(tmp_path) not in text
    assert CliRunner().invoke(app, ["report", str(folder), "--keep-identifiers"]).exit_code == 0
    assert "doe-jane-1" in (folder / "report.html").read_text()


def test_a_rule_that_somebody_has_written_already_says_where(thorax: Knowledge, tmp_path: Path) -> None:
    new = candidate("0.9 :: above(X, Y) :- nodule(X), heart(Y).")
    write_report(tmp_path / "r.html", "Title", [candidate(), new], scenes(tmp_path), thorax)
    assert re.findall(r"Already written: (\S+):\d+\.", (tmp_path / "r.html").read_text()) == ["rules/thorax.rules"]


def test_a_report_without_rules_says_so(thorax: Knowledge, tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", "Title", [], [], thorax)
    assert "No rule passed the thresholds" in (tmp_path / "r.html").read_text()


def test_candidates_survive_a_round_trip_and_their_rules_are_a_rule_file(tmp_path: Path) -> None:
    save_candidates(tmp_path / "c.json", [candidate()], {"split": "val"})
    [back], origin = load_candidates(tmp_path / "c.json")
    assert origin == {"split": "val"}
    assert back == candidate()
    assert back.rule.meta["source"] == "learned here"
    [rule] = parse_rules((tmp_path / "c.rules").read_text())
    assert rule == candidate().rule


def test_a_file_that_holds_no_candidates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('[{"rule": "a(X) :- b(X)."}]')
    with pytest.raises(InductionError, match="not a file of candidates"):
        load_candidates(tmp_path / "c.json")
    with pytest.raises(InductionError, match="write it with `neurosym induce RUN`"):
        load_candidates(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("candidate", "support", None, "candidate 1: 'support' is None, expected a whole number from 0 on"),
        ("candidate", "confidence", float("nan"), r"'confidence' is nan, expected a number in \[0, 1\]"),
        ("candidate", "confidence", 2, "'confidence' is 2"),
        ("candidate", "lift", "x", "'lift' is 'x', expected a number from 0 on"),
        ("candidate", "rule", "a(X :-", "candidate 1: unexpected ':-'"),
        ("candidate", "rule", "", "candidate 1: 'rule' is '', expected one rule"),
        ("candidate", "refuting", "film", "candidate 1: 'refuting' is no list"),
        ("origin", "threshold", "x", r"'threshold' of the origin is 'x', expected a number in \[0, 1\]"),
        ("origin", "split", 3, "'split' of the origin is 3, expected text"),
        ("origin", "images", 3, "'images' of the origin or of a patient is no list"),
        ("origin", "patients", {"p": [1]}, "'images' of the origin or of a patient are no names"),
        ("origin", "bounds", 3, "'bounds' of the origin is 3"),
        ("origin", "trained_with", [{}], "'trained_with' of the origin holds {}, expected an id and a rule"),
    ],
)
def test_candidates_with_a_wrong_value_are_refused_and_it_is_named(
    part: str, key: str, value: object, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.json"
    save_candidates(path, [candidate()], {"split": "val"})
    told = json.loads(path.read_text())
    (told["origin"] if part == "origin" else told["candidates"][0])[key] = value
    path.write_text(json.dumps(told))
    with pytest.raises(InductionError, match=f"c.json: not a file of candidates: .*{message}"):
        load_candidates(path)
