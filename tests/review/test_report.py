from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurosym.errors import InductionError
from neurosym.knowledge import Knowledge, parse_rules
from neurosym.records import Box, Candidate, Detection, Scene
from neurosym.review import load_candidates, save_candidates, write_report


def candidate(text: str = "0.75 :: left_of(X, Y) :- right_lung(X), heart(Y).") -> Candidate:
    [rule] = parse_rules(text + ' %! id=induced_1 source="learned here"')
    return Candidate(rule, 3, 4, 0.75, 0.75, 0.5, 2.0, ("a", "b"), ("c",))


def scenes(folder: Path) -> list[Scene]:
    found = (Detection("right_lung", Box(5, 5, 20, 40), 0.9), Detection("heart", Box(22, 22, 40, 40), 0.9))
    made = []
    for i, name in enumerate("abc"):
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
    captions = re.findall(r"<figcaption>(\w)</figcaption>", text)
    assert captions == ["c", "a", "b"]
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
    write_report(tmp_path / "r.html", "<b>title</b>", [bad], films, thorax)
    text = (tmp_path / "r.html").read_text()
    assert "<script>" not in text
    assert "<b>title" not in text


def test_a_film_that_is_gone_is_named_without_a_picture(thorax: Knowledge, tmp_path: Path) -> None:
    films = scenes(tmp_path)
    (tmp_path / "c.png").unlink()
    write_report(tmp_path / "r.html", "Title", [candidate()], films, thorax)
    text = (tmp_path / "r.html").read_text()
    assert text.count("data:image/jpeg") == 2
    assert "<figcaption>c</figcaption>" in text


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
