from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurosym.errors import ReviewError, RuleError
from neurosym.knowledge import Knowledge, load_knowledge, parse_rules
from neurosym.knowledge.rules import format_text, read_rules
from neurosym.records import Candidate
from neurosym.review import Ledger, Publication, publish, save_candidates
from neurosym.review.ledger import normal_text
from neurosym.review.rule_file import read_rule_file
from tests.review.reviews import ANNOTATIONS, TAUGHT, candidate, judge, ledger, predictions

ROOT = Path(__file__).parents[2]
NEAR = candidate("near(X, Y) :- heart(X), lung(Y).")
ABOVE = candidate("above(X, Y) :- nodule(X), heart(Y).", 12, 12)
LEFT = candidate(TAUGHT)
EXISTING = """% Mine, by hand.
0.9   ::  above( A,B ) :- lung(A) ,
   heart(B).   % spelled my own way
%! id=mine
left_of(H, L) :- heart(H), left_lung(L).

% --- more ---
large_object(L) :- lung(L).  %! id=last"""


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    return ledger(tmp_path)


def put(
    candidates: list[Candidate], book: Ledger, file: Path, origin: dict[str, object] | None = None, **options: object
) -> Publication:
    return publish(candidates, book.verdicts(), file, origin=origin or ANNOTATIONS, **options)  # type: ignore[arg-type]


def test_an_accepted_rule_is_written_with_where_it_comes_from_and_is_knowledge(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept")
    judge(book, NEAR, "accept", "Ben")
    file = tmp_path / "rules/x.rules"
    put([NEAR, ABOVE], book, file)
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl", file])
    [rule] = [r for r in knowledge.rules if r.file.endswith("x.rules")]
    assert str(rule) == "0.9 :: near(X, Y) :- heart(X), lung(Y)."
    meta = {"status": "accepted", "reviewer": "Anna, Ben", "date": "2026-03-01", "support": "9", "body_size": "10"}
    assert dict(rule.meta) == meta | {"id": rule.id, "source": "runs/a train: annotations, induced_x"}
    assert re.fullmatch(r"near_[0-9a-f]{8}", rule.id)
    assert not file.with_suffix(".rejected.rules").exists()


def test_a_rejected_rule_is_kept_with_its_reason_and_does_nothing(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "reject", reason='of this "projection"\n % only')
    put([NEAR], book, tmp_path / "x.rules")
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl", tmp_path / "x.rejected.rules"])
    assert not [r for r in knowledge.rules if r.file.endswith(".rules")]
    [rule] = knowledge.inactive
    assert (rule.meta["reason"], rule.meta["status"]) == ("of this 'projection' % only", "rejected")
    assert not (tmp_path / "x.rules").exists()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    "text", [EXISTING, EXISTING.replace("% --- more ---", "% --- induced, and accepted by review ---")]
)
def test_what_stood_in_the_file_stays_byte_for_byte(
    book: Ledger, tmp_path: Path, end: str, last: str, mark: str, text: str
) -> None:
    file = tmp_path / "x.rules"
    before = (mark + text + last).replace("\n", end).encode()
    file.write_bytes(before)
    judge(book, NEAR, "accept")
    judge(book, ABOVE, "accept")
    put([NEAR, ABOVE], book, file)
    after = file.read_bytes()
    kept = next(k for k in range(len(before), -1, -1) if after.startswith(before[:k]))
    assert after.endswith(before[kept:])
    added = after[kept : len(after) - len(before) + kept].decode()
    assert [name in line for name, line in zip(("above", "near"), added.strip().split(end)[-2:], strict=True)] == [
        True
    ] * 2
    assert len(read_rules(file)) == 5
    if end == "\r\n":
        assert after.count(b"\n") == after.count(b"\r\n")


def test_rules_of_a_later_review_go_under_the_same_heading(book: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "x.rules"
    file.write_text(EXISTING)
    judge(book, NEAR, "accept")
    put([NEAR, ABOVE], book, file)
    file.write_text(file.read_text() + "\n% --- added by hand ---\nsmall_object(N) :- nodule(N).\n")
    judge(book, ABOVE, "accept")
    put([NEAR, ABOVE], book, file)
    lines = file.read_text().splitlines()
    heading = lines.index("% --- induced, and accepted by review ---")
    assert lines.count(lines[heading]) == 1
    assert [" near(" in line or " above(" in line for line in lines[heading + 1 : heading + 4]] == [True, True, False]
    assert lines[-2:] == ["% --- added by hand ---", "small_object(N) :- nodule(N)."]


def test_publishing_twice_changes_nothing(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept")
    judge(book, ABOVE, "reject", reason="no")
    first = put([NEAR, ABOVE], book, tmp_path / "x.rules")
    files = sorted(tmp_path.glob("*.rules"))
    before = [(f.read_bytes(), f.stat().st_mtime_ns) for f in files]
    second = put([NEAR, ABOVE], book, tmp_path / "x.rules", since=first.files[0])
    assert [(f.read_bytes(), f.stat().st_mtime_ns) for f in files] == before
    assert (second.diff(), second.accepted, second.rejected) == ("", (), ())
    assert [normal_text(r) for r in second.present] == [normal_text(ABOVE.rule), normal_text(NEAR.rule)]


def test_the_order_of_candidates_and_reviewers_does_not_matter(book: Ledger, tmp_path: Path) -> None:
    candidates = [
        NEAR,
        ABOVE,
        LEFT,
        candidate("near(X, Y) :- lung(X), heart(Y)."),
        candidate("central(X) :- heart(X)."),
    ]
    for c in candidates:
        judge(book, c, "accept" if c is not LEFT else "reject", "Ben", "no")
        judge(book, c, "accept" if c is not LEFT else "later", "Anna")
    written = set()
    for seed in range(6):
        shuffled, verdicts = candidates[:], book.verdicts()
        random.Random(seed).shuffle(shuffled)
        random.Random(seed).shuffle(verdicts)
        folder = tmp_path / str(seed)
        publish(shuffled, verdicts, folder / "x.rules", origin=ANNOTATIONS)
        written.add(tuple(f.read_bytes() for f in sorted(folder.glob("*.rules"))))
    assert len(written) == 1


def test_nothing_is_written_when_only_asked_what_would_be(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept")
    found = put([NEAR], book, tmp_path / "new/x.rules", write=False)
    assert not (tmp_path / "new").exists()
    added = [line[1:] for line in found.diff().splitlines() if line.startswith("+") and not line.startswith("+++")]
    put([NEAR], book, tmp_path / "new/x.rules")
    assert (tmp_path / "new/x.rules").read_text().splitlines() == added


@pytest.mark.parametrize("where", ["file", "knowledge"])
def test_a_rule_that_stands_there_in_other_words_is_not_added(book: Ledger, tmp_path: Path, where: str) -> None:
    written = tmp_path / ("x.rules" if where == "file" else "other.rules")
    written.write_text("0.5 :: near(Q, P) :- lung(P), heart(Q).\n")
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl", written])
    judge(book, NEAR, "accept")
    found = put([NEAR], book, tmp_path / "x.rules", knowledge=knowledge)
    assert (found.diff(), [r.weight for r in found.present]) == ("", [0.5])


@pytest.mark.parametrize(
    ("verdict", "status"), [("accept", "rejected"), ("accept", "candidate"), ("reject", "accepted")]
)
def test_a_line_with_another_verdict_is_named_and_left(book: Ledger, tmp_path: Path, verdict: str, status: str) -> None:
    file = tmp_path / ("x.rules" if verdict == "reject" else "x.rejected.rules")
    file.write_text(f"% first\nnear(X, Y) :- heart(X), lung(Y). %! status={status}\n")
    judge(book, NEAR, verdict, reason="no")  # type: ignore[arg-type]
    found = put([NEAR], book, tmp_path / "x.rules")
    [problem] = found.refused
    assert f"{file}:2 as {status}; remove that line" in str(problem)
    assert found.diff() == ""


def test_a_rule_of_which_the_wording_was_changed_after_publishing_is_not_added_again(
    book: Ledger, tmp_path: Path
) -> None:
    judge(book, NEAR, "accept")
    put([NEAR], book, tmp_path / "x.rules")
    file = tmp_path / "x.rules"
    file.write_text(file.read_text().replace("heart(X)", "heart(X), large_object(X)"))
    assert put([NEAR], book, file).diff() == ""


def test_changes_of_other_rules_meanwhile_are_kept(book: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "x.rules"
    file.write_text(EXISTING)
    before = read_rule_file(file)
    file.write_text(EXISTING.replace("large_object(L)", "0.9 :: large_object(L)") + "\nsmall_object(N) :- nodule(N).\n")
    judge(book, NEAR, "accept")
    put([NEAR], book, file, since=before)
    texts = [str(r) for r in read_rules(file)]
    assert "0.9 :: large_object(L) :- lung(L)." in texts
    assert "small_object(N) :- nodule(N)." in texts
    assert "0.9 :: near(X, Y) :- heart(X), lung(Y)." in texts


@pytest.mark.parametrize(
    ("then", "now", "message"),
    [
        ("", "0.4 :: near(B, A) :- heart(B), lung(A).", r"x.rules:1: was changed in .* while it was under review"),
        ("0.4 :: near(B, A) :- heart(B), lung(A).", "", "was removed in .* while it was under review"),
        ("near(B, A) :- heart(B), lung(A).", "0.4 :: near(B, A) :- heart(B), lung(A).", "was changed in"),
    ],
)
def test_a_change_of_the_same_rule_meanwhile_stops_it(
    book: Ledger, tmp_path: Path, then: str, now: str, message: str
) -> None:
    file = tmp_path / "x.rules"
    file.write_text(then)
    before = read_rule_file(file)
    file.write_text(now)
    judge(book, NEAR, "accept")
    judge(book, ABOVE, "accept")
    with pytest.raises(ReviewError, match=message):
        put([NEAR, ABOVE], book, file, since=before)
    assert file.read_text() == now


def test_a_rule_that_reviewers_disagree_on_is_refused_unless_asked_for(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept")
    judge(book, NEAR, "reject", "Ben", "only in men")
    found = put([NEAR], book, tmp_path / "x.rules")
    assert "reviewers disagree: Anna accepts it; Ben rejects it: only in men" in str(found.refused[0])
    assert found.diff() == ""
    put([NEAR], book, tmp_path / "x.rules", disputed=True)
    [rule] = read_rules(tmp_path / "x.rules")
    assert (rule.meta["reviewer"], rule.meta["disputed"]) == ("Anna", "only in men")


def test_an_edited_rule_says_what_it_was_and_does_not_claim_the_old_counts(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept", edited="near(H, L) :- heart(H), left_lung(L).")
    put([NEAR], book, tmp_path / "x.rules")
    [rule] = read_rules(tmp_path / "x.rules")
    assert str(rule) == "0.9 :: near(H, L) :- heart(H), left_lung(L)."
    assert rule.meta["edited_from"] == normal_text(NEAR.rule)
    assert rule.meta["source"].endswith("9 of 10 before editing")
    assert not {"support", "body_size"} & set(rule.meta)


def test_an_expert_may_give_a_weight_and_then_the_counts_stay(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept", edited="0.7 :: near(X, Y) :- heart(X), lung(Y).")
    put([NEAR], book, tmp_path / "x.rules")
    [rule] = read_rules(tmp_path / "x.rules")
    assert (rule.weight, rule.meta["support"], rule.meta["edited_from"]) == (0.7, "9", normal_text(NEAR.rule))


def test_wordings_that_differ_are_refused(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept", edited="near(H, L) :- heart(H), left_lung(L).")
    judge(book, NEAR, "accept", "Ben")
    assert "accepted in different wordings" in str(put([NEAR], book, tmp_path / "x.rules").refused[0])


def test_a_rule_that_was_accepted_by_other_figures_is_refused(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept")
    now = candidate("near(X, Y) :- heart(X), lung(Y).", 60, 100)
    found = put([now], book, tmp_path / "x.rules")
    assert "Anna accepted it by other figures than it has now; judge it again" in str(found.refused[0])
    judge(book, now, "accept")
    assert [r.weight for r in put([now], book, tmp_path / "x.rules").accepted] == [0.6]


def test_a_name_that_the_ontology_does_not_know_stops_all_and_writes_nothing(
    book: Ledger, tmp_path: Path, thorax: Knowledge
) -> None:
    judge(book, NEAR, "accept", edited="near(X, Y) :- hearth(X), lung(Y).")
    judge(book, ABOVE, "reject", reason="no")
    with pytest.raises(RuleError, match="unknown class 'hearth'; did you mean 'heart'"):
        put([NEAR, ABOVE], book, tmp_path / "x.rules", knowledge=thorax)
    assert not list(tmp_path.glob("*.rules"))


def test_a_file_with_a_mistake_is_not_touched(book: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "x.rules"
    file.write_text("near(X, Y :- heart(X).\n")
    judge(book, NEAR, "accept")
    with pytest.raises(RuleError, match="x.rules:1:"):
        put([NEAR], book, file)
    assert file.read_text() == "near(X, Y :- heart(X).\n"


def test_metadata_that_waits_for_a_rule_at_the_end_does_not_become_that_of_a_new_one(
    book: Ledger, tmp_path: Path
) -> None:
    file = tmp_path / "x.rules"
    file.write_text("large_object(L) :- lung(L).\n%! id=forgotten source=here\n")
    judge(book, NEAR, "accept")
    with pytest.raises(ReviewError, match="cannot be added without changing"):
        put([NEAR], book, file)


def test_of_reviews_published_at_once_none_is_lost(tmp_path: Path) -> None:
    names = ("small_object", "medium_object", "large_object", "central", "peripheral", "lower_zone")

    def publish_one(name: str) -> None:
        one = candidate(f"{name}(X) :- heart(X).")
        (tmp_path / name).mkdir()
        book = ledger(tmp_path / name)
        judge(book, one, "accept")
        put([one], book, tmp_path / "x.rules")

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(publish_one, names))
    assert sorted(r.head[0].predicate for r in read_rules(tmp_path / "x.rules")) == sorted(names)


def test_a_link_to_a_rule_file_stays_a_link(book: Ledger, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/x.rules").write_text(EXISTING)
    (tmp_path / "x.rules").symlink_to(tmp_path / "real/x.rules")
    judge(book, NEAR, "accept")
    put([NEAR], book, tmp_path / "x.rules")
    assert (tmp_path / "x.rules").is_symlink()
    assert len(read_rules(tmp_path / "real/x.rules")) == 4


def test_a_verdict_on_a_rule_that_is_no_candidate_any_more_is_told(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept")
    [warning] = put([ABOVE], book, tmp_path / "x.rules").warnings
    assert str(warning) == f"{normal_text(NEAR.rule)} was judged and is no candidate any more"


TEXT = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=40).filter(lambda t: t.split())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(reviewer=TEXT, reason=TEXT)
def test_no_text_of_a_reviewer_breaks_the_rule_files(
    tmp_path_factory: pytest.TempPathFactory, reviewer: str, reason: str
) -> None:
    folder = tmp_path_factory.mktemp("text")
    book = ledger(folder)
    judge(book, NEAR, "reject", reviewer, reason)
    judge(book, ABOVE, "accept", reviewer)
    put([NEAR, ABOVE], book, folder / "x.rules")
    [rejected], [accepted] = read_rules(folder / "x.rejected.rules"), read_rules(folder / "x.rules")
    assert {"reason", "reviewer", "source", "id"} <= set(rejected.meta)
    assert (accepted.meta["status"], rejected.meta["status"]) == ("accepted", "rejected")
    plain = re.compile("[^\\w]+")  # letters survive, in their order
    for said, kept in ((reviewer, accepted.meta["reviewer"]), (reason, rejected.meta["reason"])):
        assert plain.sub("", kept) == plain.sub("", said)


# --- no self-confirmation -----------------------------------------------------------------------------------------


def test_what_a_model_was_taught_is_not_published_on_its_word(book: Ledger, tmp_path: Path, thorax: Knowledge) -> None:
    judge(book, LEFT, "accept")
    judge(book, NEAR, "accept")
    found = put([LEFT, NEAR], book, tmp_path / "x.rules", predictions(TAUGHT), knowledge=thorax)
    [problem] = found.refused
    assert "predictions of runs/a, which was trained with this rule: taught_1" in str(problem)
    assert normal_text(LEFT.rule) in str(problem)
    assert [normal_text(r) for r in found.accepted] == [normal_text(NEAR.rule)]


@pytest.mark.parametrize(
    ("origin", "counts"),
    [(ANNOTATIONS, True), (predictions(run="runs/b"), True), (predictions(TAUGHT, run="runs/b"), False), ({}, False)],
)
def test_evidence_of_another_origin_lets_it_be_published_with_that_evidences_figures(
    book: Ledger, tmp_path: Path, origin: dict[str, object], counts: bool
) -> None:
    other = candidate("left_of(P, Q) :- heart(Q), right_lung(P).", 3, 4)
    save_candidates(tmp_path / "other.json", [NEAR, other], origin)
    judge(book, LEFT, "accept")
    found = put([LEFT], book, tmp_path / "x.rules", predictions(TAUGHT), also=[tmp_path / "other.json"])
    assert (len(found.accepted), len(found.refused)) == ((1, 0) if counts else (0, 1))
    if counts:
        [rule] = read_rules(tmp_path / "x.rules")
        assert (rule.weight, rule.meta["support"], rule.meta["body_size"]) == (0.75, "3", "4")
        assert rule.meta["source"].startswith(f"{origin['run']} ")


def test_evidence_for_another_rule_is_none_for_this_one(book: Ledger, tmp_path: Path) -> None:
    save_candidates(tmp_path / "other.json", [NEAR], ANNOTATIONS)
    judge(book, LEFT, "accept")
    assert put([LEFT], book, tmp_path / "x.rules", predictions(TAUGHT), also=[tmp_path / "other.json"]).refused


def test_editing_a_rule_into_one_that_was_taught_does_not_get_round_it(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept", edited=TAUGHT)
    assert put([NEAR], book, tmp_path / "x.rules", predictions(TAUGHT)).refused


def test_a_taught_rule_may_still_be_rejected(book: Ledger, tmp_path: Path) -> None:
    judge(book, LEFT, "reject", reason="not in dextrocardia")
    assert len(put([LEFT], book, tmp_path / "x.rules", predictions(TAUGHT)).rejected) == 1


def test_only_a_rule_file_is_written_to(book: Ledger, tmp_path: Path) -> None:
    for name in ("x.txt", "x.rejected.rules"):
        with pytest.raises(ReviewError, match="expected a rule file"):
            put([NEAR], book, tmp_path / name)


def test_what_is_published_reads_the_same_in_its_normal_form(book: Ledger, tmp_path: Path) -> None:
    judge(book, NEAR, "accept")
    put([NEAR], book, tmp_path / "x.rules")
    text = (tmp_path / "x.rules").read_text()
    assert format_text(text) == text
    assert len(parse_rules(text)) == 1
