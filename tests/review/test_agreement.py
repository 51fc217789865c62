from __future__ import annotations

import json
import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.review import Verdict
from neurosym.review.agreement import CATEGORIES, agreement, agreements, cohens_kappa

COUNTS = st.lists(st.integers(0, 6), min_size=9, max_size=9)


def said(pairs: list[tuple[str, str]]) -> list[Verdict]:
    """Both reviewers' verdicts on one rule a pair; "" for none."""
    entries = []
    for number, pair in enumerate(pairs):
        for name, verdict in zip("AB", pair, strict=True):
            if verdict:
                entries.append(Verdict(f"{number}{name}", "", name, f"near(X, c{number}) :- heart(X).", verdict, "why"))  # type: ignore[arg-type]
    return entries


def pairs_of(counts: list[int]) -> list[tuple[str, str]]:
    cells = product(CATEGORIES, repeat=2)
    return [cell for cell, count in zip(cells, counts, strict=True) for _ in range(count)]


def test_kappa_of_the_psychiatric_diagnoses_of_fleiss_cohen_and_everitt() -> None:
    # "Large sample standard errors of kappa and weighted kappa" (1969): n = 200, p_o = .70, p_e = .475, κ = .429
    found = agreement(said(pairs_of([106, 10, 4, 22, 28, 10, 2, 12, 6])), "A", "B")
    assert (found.rules, found.observed, found.expected) == (200, 0.70, 0.475)
    assert found.kappa == pytest.approx(0.429, abs=5e-4)
    assert len(found.disputes) == 60


@given(COUNTS)
def test_kappa_is_that_of_all_pairs_counted_one_by_one(counts: list[int]) -> None:
    pairs = pairs_of(counts)
    found = agreement(said(pairs), "A", "B")
    if not pairs:
        assert (found.rules, found.observed, found.expected, found.kappa) == (0, None, None, None)
        return
    shuffled = [(a, b) for a, _ in pairs for _, b in pairs]  # every verdict of one with every verdict of the other
    observed = sum(a == b for a, b in pairs) / len(pairs)
    expected = sum(a == b for a, b in shuffled) / len(shuffled)
    assert (found.observed, found.expected) == (pytest.approx(observed), pytest.approx(expected))
    if expected == 1:
        assert found.kappa is None
    else:
        assert found.kappa == pytest.approx((observed - expected) / (1 - expected))
        assert found.kappa <= 1


@given(COUNTS)
def test_kappa_is_scikit_learns(counts: list[int]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    pairs = pairs_of(counts)
    found = cohens_kappa({cell: pairs.count(cell) for cell in product(CATEGORIES, repeat=2)})[2]
    theirs = metrics.cohen_kappa_score(*zip(*pairs, strict=True), labels=list(CATEGORIES)) if pairs else math.nan
    assert (math.nan if found is None else found) == pytest.approx(theirs, nan_ok=True)


@pytest.mark.parametrize("pairs", [[], [("accept", "")], [("accept", "accept")] * 3])
def test_where_chance_explains_everything_kappa_is_none_also_in_json(pairs: list[tuple[str, str]]) -> None:
    found = agreement(said(pairs), "A", "B")
    assert found.kappa is None
    assert "NaN" not in json.dumps(found.as_dict(), allow_nan=False)


def test_disputes_name_the_rule_and_both_verdicts_and_rules_that_one_judged_do_not_count() -> None:
    entries = said([("accept", "accept"), ("accept", "reject"), ("later", ""), ("", "reject")])
    [found] = agreements(entries)
    assert (found.first, found.second, found.rules) == ("A", "B", 2)
    assert [(d.rule, d.first.verdict, d.second.verdict) for d in found.disputes] == [
        ("near(X, c1) :- heart(X).", "accept", "reject")
    ]
    assert agreements(said([("accept", "")])) == []


def test_a_verdict_that_was_undone_does_not_count() -> None:
    entries = said([("accept", "reject")])
    undone = Verdict("u", "", "B", entries[1].rule, "undo")
    assert agreement([*entries, undone], "A", "B").rules == 0
