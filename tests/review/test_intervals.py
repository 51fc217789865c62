from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from neurosym.review.intervals import clustered_interval, counted


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_without_two_bindings_of_a_patient_it_is_the_interval_of_wilson(counts: tuple[int, int]) -> None:
    support, number = counts
    patients = np.arange(number)
    found = counted((patients < support).astype(int), np.ones(number, dtype=int), patients)
    known = binomtest(support, number).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-9)
    assert found.confidence == support / number


PATIENTS = st.lists(st.integers(0, 6).flatmap(lambda b: st.tuples(st.integers(0, b), st.just(b))), min_size=1)


@given(PATIENTS.filter(lambda counts: any(b for _, b in counts)))
def test_it_lies_around_the_confidence(counts: list[tuple[int, int]]) -> None:
    s, b = (np.array(column) for column in zip(*counts, strict=True))
    low, high = clustered_interval(s, b)
    assert 0 <= low <= s.sum() / b.sum() <= high <= 1


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(2, 9))
def test_bindings_that_a_patient_has_alike_say_no_more_than_one(holds: list[bool], copies: int) -> None:
    s, one = np.array(holds, dtype=int), np.ones(len(holds), dtype=int)
    low, high = clustered_interval(s, one)
    copied_low, copied_high = clustered_interval(copies * s, copies * one)
    assert copied_low <= low + 1e-9
    assert copied_high >= high - 1e-9


@pytest.mark.parametrize(("share", "alike"), [(0.8, 0.0), (0.8, 0.5), (0.95, 0.3)])
@pytest.mark.parametrize("patients", [15, 80])
def test_it_covers_the_truth_in_95_of_100_studies(share: float, alike: float, patients: int) -> None:
    """Bindings of one patient are alike: beta-binomial with this intraclass correlation."""
    draws = np.random.default_rng(5)
    covered, naive = 0, 0
    studies = 600
    for _ in range(studies):
        b = draws.integers(1, 8, patients)
        scale = (1 - alike) / alike if alike else 0.0
        chance = draws.beta(share * scale, (1 - share) * scale, patients) if alike else np.full(patients, share)
        s = draws.binomial(b, chance)
        low, high = clustered_interval(s, b)
        covered += low <= share <= high
        plain = binomtest(int(s.sum()), int(b.sum())).proportion_ci(0.95, method="wilson")
        naive += plain.low <= share <= plain.high
    assert 0.92 <= covered / studies <= 0.995
    if alike:
        assert naive / studies < 0.9  # what an interval over bindings would do


def test_images_of_one_patient_are_added_up_and_a_body_that_never_holds_has_no_share() -> None:
    patients = np.array([0, 0, 1])
    found = counted(np.array([2, 1, 0]), np.array([2, 2, 1]), patients)
    assert (found.images, found.support, found.body_size, found.confidence) == (3, 3, 5, 0.6)
    assert (found.low, found.high) == clustered_interval(np.array([3, 0]), np.array([4, 1]))
    none = counted(np.zeros(3, dtype=int), np.zeros(3, dtype=int), patients)
    assert (none.confidence, none.low, none.high) == (None, None, None)
