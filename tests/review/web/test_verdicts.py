from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neurosym.errors import InductionError, TrainingError
from neurosym.records import Candidate
from neurosym.review import load_candidates, save_candidates
from neurosym.review.candidates import figures_digest
from neurosym.review.run import RunReview
from neurosym.review.web.state import ReviewState
from tests.review.web.conftest import Browser, field
from tests.review.web.runs import served


def said(state: ReviewState) -> list[tuple[str, str, str]]:
    """The ledger as anybody reads it: reviewer, verdict, rule."""
    lines = state.review.ledger.path.read_text().splitlines() if state.review.ledger.path.exists() else []
    return [(v["reviewer"], v["verdict"], v["rule"]) for v in map(json.loads, lines)]


def test_a_verdict_is_recorded_with_the_figures_and_films_that_were_shown(anna: Browser, state: ReviewState) -> None:
    text = anna.get("/rule/1").text
    films = ["phantom-000000", "phantom-000003", "elsewhere"]
    answer = anna.judge(1, "accept", field(text, "entry"), films=films)
    assert (answer.status_code, answer.url.path) == (200, "/rule/2")
    [entry] = state.review.ledger.verdicts()
    assert (entry.reviewer, entry.verdict, entry.id) == ("Anna", "accept", field(text, "entry"))
    assert entry.figures == figures_digest(state.review.candidates[0])
    assert entry.films == ("phantom-000000", "phantom-000003")


def test_a_form_that_is_sent_twice_counts_once(anna: Browser, state: ReviewState) -> None:
    entry = field(anna.get("/rule/1").text, "entry")
    answers = [anna.judge(1, "reject", entry, reason="no") for _ in range(2)]
    assert [a.status_code for a in answers] == [200, 200]
    assert len(said(state)) == 1


def test_a_form_from_before_an_undo_is_not_taken_for_a_new_verdict(anna: Browser, state: ReviewState) -> None:
    anna.judge(1, "accept", "a")
    anna.judge(1, "undo", "b")
    answer = anna.judge(1, "accept", "a")
    assert answer.status_code == 422
    assert "give the verdict again" in answer.text
    assert state.verdicts() == {}


def test_a_hundred_verdicts_at_once_are_all_there_once(anna: Browser, state: ReviewState) -> None:
    jobs = [(n % 6 + 1, f"{n}") for n in range(100)]
    anna.follow_redirects = False
    with ThreadPoolExecutor(20) as pool:
        sent = list(pool.map(lambda j: anna.judge(j[0], "later", j[1]).status_code, jobs * 2))  # each one doubled
    assert set(sent) == {303}
    lines = [json.loads(line)["id"] for line in state.review.ledger.path.read_text().splitlines()]
    assert Counter(lines) == Counter(entry for _, entry in jobs)


def test_two_tabs_and_the_command_line_see_each_others_verdicts(anna: Browser, run: Path) -> None:
    tab = anna.get("/rule/2").text
    RunReview.of(run).judge("2", "Anna", "later", entry_id="cli")
    assert "put off" in anna.get("/rule/2").text
    anna.judge(2, "accept", field(tab, "entry"))
    assert "accepted" in anna.get("/rule/2").text
    assert [v.verdict for v in RunReview.of(run).ledger.verdicts()] == ["later", "accept"]


def test_a_rejection_without_a_reason_is_answered_in_place(anna: Browser, state: ReviewState) -> None:
    answer = anna.judge(1, "reject", "a", reason="  ")
    assert answer.status_code == 422
    assert "without a reason; say why" in answer.text
    assert 'aria-describedby="verdict-error"' in answer.text
    assert said(state) == []


@pytest.mark.parametrize("fields", [{"verdict": "maybe", "entry": "a"}, {"verdict": "undo", "entry": "a"}])
def test_what_is_no_verdict_is_told_and_not_recorded(anna: Browser, state: ReviewState, fields: dict[str, str]) -> None:
    answer = anna.submit("/rule/1/verdict", **fields)
    assert answer.status_code in (400, 422)
    assert "unknown verdict" in answer.text or "no verdict on" in answer.text
    assert anna.judge(1, "accept", "").status_code == 422
    assert said(state) == []


def test_undo_brings_the_verdict_before_back_and_stays_on_the_rule(anna: Browser, state: ReviewState) -> None:
    anna.judge(3, "later", "a")
    anna.judge(3, "accept", "b")
    assert anna.judge(3, "undo", "c").url.path == "/rule/3"
    assert state.verdicts()[3]["Anna"].verdict == "later"


def test_the_next_rule_is_that_of_the_filtered_list(anna: Browser) -> None:
    anna.judge(2, "accept", "a")
    answer = anna.submit("/rule/1/verdict?status=open", verdict="accept", entry="b")
    assert answer.url.path == "/rule/3"
    assert answer.url.params["status"] == "open"
    last = anna.submit("/rule/6/verdict?status=open", verdict="later", entry="c")
    assert last.url.path == "/"


def test_a_reviewer_sees_what_others_said_only_after_judging(anna: Browser, ben: Browser) -> None:
    anna.judge(1, "reject", "a", reason="mirrored films")
    before = ben.get("/rule/1").text
    assert "mirrored films" not in before
    assert "1 other reviewer has" in before
    assert "disputed" not in ben.part("/")
    ben.judge(1, "accept", "b")
    assert "mirrored films" in ben.get("/rule/1").text
    assert "disputed" in ben.part("/", status="disputed")


def test_agreement_is_that_of_the_ledger_with_the_disputes(anna: Browser, ben: Browser) -> None:
    for number, (mine, other) in enumerate((("accept", "accept"), ("accept", "later"), ("later", "later")), 1):
        anna.judge(number, mine, f"a{number}")
        ben.judge(number, other, f"b{number}")
    text = anna.get("/agreement").text
    assert "Anna and Ben" in text
    assert "0.400" in text  # p_o = 2/3, p_e = (2·1 + 1·2)/9
    assert '<a href="/rule/2">' in text
    assert '<a href="/rule/1">' not in text


def test_verdicts_by_other_figures_are_marked(run: Path, tmp_path: Path) -> None:
    RunReview.of(run).judge("1", "Anna", "accept", entry_id="a")
    candidates, origin = load_candidates(run / "candidates.json")
    first = candidates[0]
    changed = Candidate(first.rule, first.support - 1, first.body_size, 0.5, 0.5, 0.5, 1.0, first.supporting, ())
    save_candidates(run / "candidates.json", [changed, *candidates[1:]], origin)
    state = ReviewState.of(run)
    with served(state) as address:
        anna = Browser(address, state)
        assert "by other figures than these" in anna.get("/rule/1").text
        assert "other figures" in anna.part("/", status="stale")


def test_candidates_that_change_under_the_page_are_told_of(anna: Browser, run: Path) -> None:
    assert "has changed since" not in anna.get("/").text
    (run / "candidates.json").write_text((run / "candidates.json").read_text() + " ")
    assert "candidates.json has changed since this page was started" in anna.get("/").text


def test_a_ledger_that_was_cut_is_mended_and_told_of(anna: Browser, state: ReviewState) -> None:
    anna.judge(1, "accept", "a")
    path = state.review.ledger.path
    whole = path.read_text()
    path.write_text(whole + '{"id": "cut", "time": "2026-')
    answer = anna.judge(2, "accept", "b")
    assert "cut off in writing and was moved to reviews.jsonl.cut" in answer.text
    assert [v.id for v in state.review.ledger.verdicts()] == ["a", "b"]
    assert path.read_text().startswith(whole)
    assert '"id": "cut"' in path.with_name("reviews.jsonl.cut").read_text()


def test_a_broken_line_in_the_ledger_is_told_with_its_number(anna: Browser, state: ReviewState) -> None:
    anna.judge(1, "accept", "a")
    path = state.review.ledger.path
    path.write_text("nonsense\n" + path.read_text())
    answer = anna.get("/rule/1")
    assert answer.status_code == 400
    assert "reviews.jsonl:1: not an entry of a ledger" in answer.text


def test_a_name_is_asked_for_once(address: str, state: ReviewState) -> None:
    browser = Browser(address, state, "")
    assert browser.get("/rule/2").url.path == "/reviewer"
    assert browser.submit("/reviewer", name="\x00").status_code == 422
    assert browser.submit("/reviewer", name="  Dr.  Ötzi; x=1 ", next="2").url.path == "/rule/2"
    browser.judge(1, "later", "a")
    assert said(state)[0][0] == "Dr. Ötzi; x=1"
    assert browser.submit("/reviewer", name="Ö", next="//evil.example").url.path == "/"


def test_the_name_of_the_command_line_is_enough(run: Path) -> None:
    state = ReviewState.of(run, reviewer="Cleo")
    with served(state) as address:
        assert Browser(address, state, "").judge(1, "later", "a").status_code == 200
    assert said(state)[0][0] == "Cleo"


def test_exports_say_what_the_ledger_says(anna: Browser, ben: Browser, state: ReviewState) -> None:
    anna.judge(1, "reject", "a", reason='of, "this" film')
    ben.judge(1, "accept", "b")
    assert anna.get("/export/ledger.jsonl").text == state.review.ledger.path.read_text()
    found = anna.get("/export/candidates.json").json()
    assert len(found["candidates"]) == 6
    assert {n: v["verdict"] for n, v in found["candidates"][0]["verdicts"].items()} == {
        "Anna": "reject",
        "Ben": "accept",
    }
    rows = anna.get("/export/candidates.csv").text.splitlines()
    assert len(rows) == 1 + 2 + 5
    assert '"of, ""this"" film"' in rows[1]
    assert anna.get("/export/secrets").status_code == 400


def test_a_folder_without_a_run_or_candidates_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not a run folder"):
        ReviewState.of(tmp_path)
    (run / "candidates.json").unlink()
    with pytest.raises(InductionError, match="write it with `neurosym induce RUN`"):
        ReviewState.of(run)


def test_a_spreadsheet_takes_no_reason_for_a_formula(anna: Browser) -> None:
    anna.judge(1, "reject", "e", reason='=HYPERLINK("http://evil.example")')
    for name in ("ledger.csv", "candidates.csv"):
        assert ",\"'=HYPERLINK(" in anna.get(f"/export/{name}").text
