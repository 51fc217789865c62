from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from neurosym.knowledge import Knowledge
from neurosym.review.assessment import Assessment, Idle, save_assessments
from neurosym.review.ledger import Verdict
from neurosym.review.web.listing import PAGE, SORTS, STATUSES, Listing, Query, Row, rows_of, status_of
from neurosym.review.web.state import ReviewState
from tests.review.reviews import candidate
from tests.review.web.conftest import Browser
from tests.review.web.runs import served

CLASSES = ("heart", "lung", "nodule", "opacity", "left_lung")
COUNT = 60
CANDIDATES = [
    candidate(f"{word}(X, Y) :- {CLASSES[i % 5]}(X), {CLASSES[i // 5 % 5]}(Y), near(Y, X).", 1 + i * 7 % 10, 10)
    for i in range(COUNT)
    for word in (("above", "near", "left_of")[i % 3],)
]
QUERIES = st.builds(
    Query,
    q=st.sampled_from(("", "heart", "HEART lung", "is left of", "nothing")),
    status=st.sampled_from(sorted(STATUSES)),
    head=st.sampled_from(("", "above", "near")),
    confidence=st.sampled_from((0.0, 0.5, 1.0)),
    support=st.sampled_from((0, 3)),
    sort=st.sampled_from(sorted(SORTS)),
    down=st.booleans(),
)
VERDICTS = st.dictionaries(
    st.integers(1, COUNT),
    st.dictionaries(
        st.sampled_from(("Anna", "Ben")),
        st.builds(
            Verdict, id=st.just("x"), time=st.just("t"), reviewer=st.just("r"), rule=st.just("r"),
            verdict=st.sampled_from(("accept", "reject", "later")), figures=st.sampled_from(("", "old")),
        ),
        min_size=1,
    ),
    max_size=20,
)  # fmt: skip


@given(QUERIES, VERDICTS)
def test_the_list_holds_the_rules_that_pass_each_filter_in_the_order_asked_for(
    thorax: Knowledge, query: Query, verdicts: dict[int, dict[str, Verdict]]
) -> None:
    rows = rows_of(CANDIDATES, thorax.ontology, {})
    found = Listing(rows, verdicts, query, "Anna")
    expected = {r.number for r in rows if passes(r, query, verdicts.get(r.number, {}))}
    assert {r.number for r in found.found} == expected
    value = {"number": lambda r: r.number, "against": lambda r: 10 - r.candidate.support, "rule": lambda r: r.text}
    key = value.get(query.sort, lambda r: r.candidate.support if query.sort in ("confidence", "support") else 0)
    values = [key(r) for r in found.found]
    assert values == sorted(values, reverse=query.down)
    numbers = [r.number for r in found.found]
    for before, after in pairwise(numbers):
        assert found.beside(before)[1] == after
        assert found.beside(after)[0] == before


def passes(row: Row, query: Query, said: dict[str, Verdict]) -> bool:
    """The filters as the page describes them."""
    mine, others = said.get("Anna"), [v for n, v in said.items() if n != "Anna"]
    by_status = {
        "": True,
        "open": mine is None,
        "disputed": mine is not None and any(v.verdict != mine.verdict for v in others),
        "stale": mine is not None and mine.figures == "old",
    }
    chosen = by_status.get(query.status, mine is not None and mine.verdict == query.status)
    words = all(w in (row.text + row.reading).lower() for w in query.q.lower().split())
    enough = row.candidate.support / 10 >= query.confidence and row.candidate.support >= query.support
    return chosen and words and enough and query.head in ("", row.text.split("(")[0])


@given(QUERIES, st.integers(1, 50))
def test_a_query_is_what_its_address_says(query: Query, page: int) -> None:
    from urllib.parse import parse_qsl

    asked = Query.of(dict(parse_qsl(query.address(page=page))))
    assert asked.address() == query.address(page=page)
    assert asked.page == page


def test_nonsense_in_an_address_is_taken_for_no_filter() -> None:
    values = {"confidence": "nan", "support": "-3", "sort": "price", "page": "1e99", "status": "x", "down": "yes"}
    assert Query.of(values) == Query(page=1_000_000)
    assert Query.of({"page": "inf", "support": "inf"}) == Query(page=1_000_000, support=10**9)


def test_a_status_needs_a_verdict_of_ones_own(thorax: Knowledge) -> None:
    row = rows_of(CANDIDATES[:1], thorax.ontology, {})[0]
    assert status_of(row, {"Ben": Verdict("a", "t", "Ben", row.text, "accept")}, "Anna") == {"open"}


def test_a_long_list_comes_in_pages_that_hold_each_rule_once(anna: Browser, state: ReviewState) -> None:
    state.rows = tuple(r for _ in range(50) for r in state.rows)[: 2 * PAGE + 1]
    state.rows = rows_of([r.candidate for r in state.rows], state.evidence.knowledge.ontology, {})
    numbers = [n for page in (1, 2, 3) for n in re.findall(r'href="/rule/(\d+)', anna.part("/", page=page))]
    assert numbers == [str(n) for n in range(1, 2 * PAGE + 2)]


def test_what_is_known_of_a_rule_is_shown_and_can_be_filtered_by(run: Path, state: ReviewState) -> None:
    rows = state.rows
    said = [Assessment(rows[1].text, rows[1].reading, "entailed", because="follows from lung_heart_size"),
            Assessment(rows[2].text, "", "novel", warnings=("seen at one site only",),
                       idle=(Idle("heart(Y)", 0.02, -0.08, 0.12, "", "heart(Y) adds nothing that can be seen"),))]  # fmt: skip
    save_assessments(run / "assessments.json", said, state.review.origin)
    with_them = ReviewState.of(run)
    with served(with_them) as address:
        anna = Browser(address, with_them)
        assert re.findall(r'href="/rule/(\d+)', anna.part("/", standing="entailed")) == ["2"]
        assert "follows from lung_heart_size" in anna.get("/rule/2").text
        third = anna.get("/rule/3").text
        assert "seen at one site only" in third
        assert "heart(Y) adds nothing that can be seen" in third
        assert "difference 0.020 (-0.080 – 0.120)" in third
        assert "Plausibility" not in anna.get("/rule/1").text


def test_assessments_of_other_candidates_are_not_shown(run: Path, state: ReviewState) -> None:
    said = [Assessment(state.rows[0].text, "", "contradicted", because="of the old run")]
    save_assessments(run / "assessments.json", said, {"facts": "annotations"})
    other = ReviewState.of(run)
    assert [row.assessment for row in other.rows] == [None] * 6
    assert "assess again" in other.notes[0]
    (run / "assessments.json").write_text("{}")
    assert "not a file of assessments" in ReviewState.of(run).notes[0]
