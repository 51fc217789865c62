from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.errors import ReviewError
from neurosym.knowledge import parse_rules
from neurosym.review import Ledger, Verdict
from neurosym.review.ledger import DECISIONS, rule_key, standing, the_rule
from tests.review.reviews import NOON, ledger

RULE = "0.97 :: near(X, Y) :- heart(X), lung(Y)."


def test_a_verdict_is_read_back_as_it_was_given(tmp_path: Path) -> None:
    ledger(tmp_path).record("1", "Jürgen\u2028 Ø.", RULE, "reject", "seen\non film 3", figures="ab", films=("3", "4"))
    [found] = ledger(tmp_path).verdicts()
    reason = "seen\non film 3"
    assert found == Verdict("1", NOON.isoformat(), "Jürgen Ø.", RULE, "reject", reason, "", "ab", ("3", "4"))
    [line] = (tmp_path / "reviews.jsonl").read_text().split("\n")[:-1]
    assert json.loads(line)["rule"] == RULE


def test_a_rule_is_spelled_in_normal_form_without_its_metadata(tmp_path: Path) -> None:
    [rule] = parse_rules("0.970::near(X,Y) :- heart(X) , lung(Y). %! id=a source=b")
    assert ledger(tmp_path).record("1", "A", rule, "accept", edited="near(X,Y):-heart(X),lung(Y).").rule == RULE
    assert ledger(tmp_path).verdicts()[0].edited == "near(X, Y) :- heart(X), lung(Y)."


def test_opening_a_ledger_that_is_not_there_makes_no_file(tmp_path: Path) -> None:
    assert ledger(tmp_path).verdicts() == []
    assert list(tmp_path.iterdir()) == []


def test_cut_at_any_byte_a_ledger_loses_at_most_its_last_entry(tmp_path: Path) -> None:
    whole = ledger(tmp_path)
    for number, name in enumerate(("Änne", "Bo", "Cho 💡")):
        whole.record(str(number), name, RULE, "reject", "weil – ‘nein’")
    data = whole.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    for cut in range(len(data) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "reviews.jsonl").write_bytes(data[:cut])
        opened = ledger(folder)
        kept = sum(end - 1 <= cut for end in ends)  # an entry is whole without the end of its line
        assert [v.id for v in opened.verdicts()] == [str(i) for i in range(kept)]
        lost = data[ends[kept - 1] if kept else 0 : cut]
        assert opened.cut == lost.decode(errors="replace")
        aside = folder / "reviews.jsonl.cut"
        assert (aside.read_bytes() if aside.exists() else b"") == (lost + b"\n" if lost else b"")
        opened.record("new", "Dee", RULE, "later")
        again = ledger(folder)
        assert ([v.id for v in again.verdicts()][-1], len(again.verdicts()), again.cut) == ("new", kept + 1, "")


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"id": "x"}', "\xff", '{"id": "a" "b"}', "[" * 100_000])
def test_a_line_that_is_no_entry_is_named_with_its_number_and_the_cure(tmp_path: Path, line: str) -> None:
    book = ledger(tmp_path)
    book.record("1", "A", RULE, "later")
    before = book.path.read_bytes()
    book.path.write_bytes(before + line.encode("latin-1") + b"\n" + before)
    spoilt = book.path.read_bytes()
    with pytest.raises(ReviewError, match=r"reviews.jsonl:2: not an entry of a ledger: .*; restore the line"):
        ledger(tmp_path)
    with pytest.raises(ReviewError, match=r"reviews.jsonl:2:"):
        book.record("2", "A", RULE, "later")
    assert book.path.read_bytes() == spoilt


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("verdict", "acept", "unknown verdict 'acept'; did you mean 'accept'"),
        ("rule", "near(X", "is no rule"),
        ("films", "f", "'films' is no list"),
        ("extra", "x", "extra"),
        ("reason", "\ud800", "characters that are no text"),
    ],
)
def test_an_entry_that_was_changed_by_hand_is_refused(tmp_path: Path, key: str, value: str, message: str) -> None:
    book = ledger(tmp_path)
    book.record("1", "A", RULE, "later")
    book.path.write_text(json.dumps(json.loads(book.path.read_text()) | {key: value}) + "\n")
    with pytest.raises(ReviewError, match=message):
        ledger(tmp_path)


def _record_some(path: Path, worker: int) -> None:
    book = Ledger(path)
    for number in range(25):
        name = f"shared-{number}" if number % 5 == 0 else f"{worker}-{number}"
        book.record(name, "A" if number % 5 == 0 else f"r{worker}", RULE, "accept", "x" * 3000)


@pytest.mark.parametrize("how", ["processes", "threads"])
def test_of_verdicts_recorded_at_once_none_is_lost_and_none_is_doubled(tmp_path: Path, how: str) -> None:
    path = tmp_path / "reviews.jsonl"
    if how == "processes":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["neurosym.review.ledger"])
        workers = [context.Process(target=_record_some, args=(path, w)) for w in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
            assert worker.exitcode == 0
    else:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(_record_some, [path] * 8, range(8)))
    expected = {f"{w}-{n}" for w in range(8) for n in range(25) if n % 5} | {f"shared-{n}" for n in range(0, 25, 5)}
    found = Counter(json.loads(line)["id"] for line in path.read_text().splitlines())
    assert found == dict.fromkeys(expected, 1)
    assert not path.with_name("reviews.jsonl.cut").exists()


def test_whatever_was_acknowledged_before_the_writer_was_killed_is_there(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from neurosym.review import Ledger; book = Ledger(Path(sys.argv[1]))\n"
        f"for i in range(10**6): print(book.record(str(i), 'A', {RULE!r}, 'later', 'x' * 5000).id, flush=True)"
    )
    path = tmp_path / "reviews.jsonl"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [next(writer.stdout).strip() for _ in range(20)]
        writer.kill()
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
    found = [v.id for v in ledger(tmp_path).verdicts()]
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) <= len(acknowledged) + 1


def test_an_id_that_belongs_to_another_verdict_is_refused(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.record("1", "A", RULE, "accept")
    with pytest.raises(ReviewError, match="the id '1' belongs to another verdict"):
        book.record("1", "A", RULE, "later")


@pytest.mark.parametrize("partly", [0, 10])
def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partly: int) -> None:
    book = ledger(tmp_path)
    book.record("1", "A", RULE, "accept")
    before = book.path.read_bytes()
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) > partly and partly:
            calls.append(data)
            if len(calls) == 1:
                return write(handle, data[:partly])
        raise OSError(errno.ENOSPC, "No space left on device")

    calls: list[bytes] = []
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ReviewError, match="was not recorded: No space left"):
        book.record("2", "A", RULE, "accept")
    assert book.path.read_bytes() == before


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"verdict": "reject", "reason": "  "}, "cannot be rejected without a reason"),
        ({"verdict": "undo"}, "has no verdict on .* to undo"),
        ({"verdict": "yes"}, "unknown verdict 'yes'; known: accept, later, reject, undo"),
        ({"verdict": "accept", "reviewer": " "}, "needs a reviewer"),
        ({"verdict": "later", "edited": RULE}, "only an accepted rule can be edited"),
        ({"verdict": "accept", "rule": RULE + RULE.replace("0.97 :: ", " ")}, "expected one rule, found 2"),
        ({"verdict": "accept", "edited": "near(X"}, "is no rule"),
        ({"verdict": "accept", "entry_id": ""}, "needs an id"),
        ({"verdict": "accept", "reviewer": "M\udcfcller"}, r"has characters that are no text; write it in UTF-8"),
    ],
)
def test_what_makes_no_verdict_is_refused_and_not_written(tmp_path: Path, given_: dict[str, str], message: str) -> None:
    words = {"entry_id": "1", "reviewer": "A", "rule": RULE} | given_
    with pytest.raises(ReviewError, match=message):
        ledger(tmp_path).record(**words)  # type: ignore[arg-type]
    assert ledger(tmp_path).verdicts() == []


def test_undo_cannot_take_back_more_than_was_said(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    for number, verdict in enumerate(("accept", "undo")):
        book.record(str(number), "A", RULE, verdict)  # type: ignore[arg-type]
    with pytest.raises(ReviewError, match="to undo"):
        book.record("3", "A", RULE, "undo")
    with pytest.raises(ReviewError, match="to undo"):
        book.record("4", "B", RULE, "undo")


def test_a_rule_in_other_words_is_the_same_rule(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.record("1", "A", RULE, "accept")
    book.record("2", "A", "0.5 :: near(P, Q) :- lung(Q), heart(P).", "reject", "no")
    [[(name, verdict)]] = [list(of.items()) for of in book.standing().values()]
    assert (name, verdict.verdict) == ("A", "reject")


RULES = ("near(X, Y) :- heart(X), lung(Y).", "near(Y, X) :- heart(X), lung(Y).")
SAID = st.tuples(st.sampled_from("AB"), st.sampled_from(RULES), st.sampled_from(DECISIONS))


@given(st.lists(SAID, max_size=20))
def test_what_stands_is_the_last_verdict_that_no_later_undo_takes_back(said: list[tuple[str, str, str]]) -> None:
    entries = [Verdict(str(i), "", *words) for i, words in enumerate(said)]  # type: ignore[arg-type]
    found = standing(entries)
    for reviewer in "AB":
        for rule in RULES:
            mine = [e for e in entries if (e.reviewer, e.rule) == (reviewer, rule)]
            while mine and mine[0].verdict == "undo":  # nothing was said before
                mine.pop(0)
            expected = None
            for end in range(len(mine), 0, -1):  # the latest verdict after which undos never outnumber verdicts
                tail = [e.verdict for e in mine[end:]]
                level, alive = 1, mine[end - 1].verdict != "undo"
                for verdict in tail:
                    level += -1 if verdict == "undo" else 1
                    alive &= level > 0
                if alive and level == 1:
                    expected = mine[end - 1]
                    break
            assert found.get(rule_key(the_rule(rule)), {}).get(reviewer) == expected
