from __future__ import annotations

from html import unescape
from pathlib import Path

from neurosym.knowledge.rules import read_rules
from neurosym.review.web.state import ReviewState
from tests.review.web.conftest import Browser, field
from tests.review.web.runs import TEXTS, served


def write(browser: Browser) -> tuple[int, str]:
    """Press "Write the files" on the page as it is now."""
    shown = browser.get("/publish").text
    answer = browser.submit("/publish", digest=field(shown, "digest"))
    return answer.status_code, unescape(answer.text)


def judged(anna: Browser) -> None:
    anna.judge(1, "accept", "a")
    anna.judge(2, "reject", "b", reason="by the definition of the boxes")


def test_what_is_shown_is_what_is_written(anna: Browser, state: ReviewState) -> None:
    judged(anna)
    shown = unescape(anna.get("/publish").text)
    assert state.target is not None
    assert not state.target.exists()
    status, text = write(anna)
    assert (status, "Written: 1 accepted, 1 rejected" in text) == (200, True)
    for file in (state.target, state.target.with_suffix(".rejected.rules")):
        for line in file.read_text().splitlines():
            assert f"+{line}" in shown
    [rule] = read_rules(state.target)
    assert (str(rule).endswith(TEXTS[0]), rule.meta["reviewer"]) == (True, "Anna")
    assert "Nothing is to be written" in anna.get("/publish").text


def test_a_verdict_after_the_look_has_to_be_looked_at(anna: Browser, state: ReviewState) -> None:
    judged(anna)
    digest = field(anna.get("/publish").text, "digest")
    anna.judge(4, "accept", "c")
    answer = anna.submit("/publish", digest=digest)
    assert answer.status_code == 409
    assert "have changed since this was shown" in answer.text
    assert state.target is not None
    assert not state.target.exists()


def test_other_rules_that_were_written_meanwhile_stay(anna: Browser, state: ReviewState) -> None:
    judged(anna)
    assert state.target is not None
    state.target.parent.mkdir(exist_ok=True)
    state.target.write_text("above(X, Y) :- nodule(X), heart(Y).  %! id=by_hand\n")
    assert write(anna)[0] == 200
    by_hand, induced = read_rules(state.target)
    assert (by_hand.meta["id"], induced.meta["status"]) == ("by_hand", "accepted")


def test_the_same_rule_changed_meanwhile_is_refused_until_it_was_read(anna: Browser, state: ReviewState) -> None:
    judged(anna)
    assert state.target is not None
    state.target.parent.mkdir(exist_ok=True)
    theirs = "0.5 :: left_of(X, Y) :- right_lung(X), heart(Y).  %! id=theirs status=accepted\n"
    state.target.write_text(theirs)
    answer = anna.get("/publish")
    assert answer.status_code == 409
    assert "was changed in" in answer.text
    assert "while it was under review" in answer.text
    assert anna.submit("/publish", digest="x").status_code == 409
    assert state.target.read_text() == theirs
    anna.submit("/publish", seen="file")
    assert "there already" in anna.get("/publish").text
    write(anna)
    assert state.target.read_text() == theirs


def test_rules_that_reviewers_dispute_are_refused_unless_asked_for(anna: Browser, ben: Browser) -> None:
    judged(anna)
    ben.judge(1, "reject", "c", reason="not in dextrocardia")
    assert "reviewers disagree" in unescape(anna.get("/publish").text)
    shown = unescape(anna.get("/publish?disputed=1").text)
    assert 'disputed="not in dextrocardia"' in shown


def test_without_a_rule_file_the_page_says_how_to_name_one(run: Path, state: ReviewState) -> None:
    other = ReviewState.of(run)
    with served(other) as address:
        anna = Browser(address, other)
        assert "--to rules/accepted.rules" in anna.get("/publish").text
        assert anna.submit("/publish", digest="").status_code == 200


def test_a_rule_taught_to_the_model_is_said_to_be_so_before_it_is_judged(run: Path) -> None:
    text = (run / "candidates.json").read_text()
    taught = '"trained_with": [{"id": "t1", "rule": "left_of(R, H) :- right_lung(R), heart(H)."}]'
    (run / "candidates.json").write_text(text.replace('"trained_with": []', taught))
    state = ReviewState.of(run)
    with served(state) as address:
        anna = Browser(address, state)
        assert "which was trained with this rule: t1" in anna.get("/rule/1").text
        assert "which was trained" not in anna.get("/rule/4").text
