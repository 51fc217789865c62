from __future__ import annotations

import math

import numpy as np
import pytest

from neurosym.review.stratified import Difference, risk_difference, tables_of

TOLBUTAMIDE = ((8, 106, 5, 120), (22, 98, 16, 85))
"""Deaths of all on tolbutamide, and on placebo, below 55 years and above (University Group Diabetes Program, 1970)."""


def difference(
    body: np.ndarray, head: np.ndarray, stratum: np.ndarray, patient: np.ndarray | None = None
) -> Difference | None:
    """From one entry a unit."""
    return risk_difference(tables_of(body, head, np.arange(len(body)), len(body)), stratum, patient)


def units(tables: tuple[tuple[int, int, int, int], ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = []
    for k, (a, n1, c, n0) in enumerate(tables):
        rows += [(1, 1, k)] * a + [(1, 0, k)] * (n1 - a) + [(0, 1, k)] * c + [(0, 0, k)] * (n0 - c)
    body, head, stratum = np.array(rows).T
    return body.astype(bool), head.astype(bool), stratum


def test_the_example_of_the_textbook() -> None:
    """Rothman, Greenland & Lash, Modern Epidemiology, 2008, table 15-1; 90% limits as metafor's rma.mh gives them."""
    found = difference(*units(TOLBUTAMIDE))
    assert found is not None
    assert found.value == pytest.approx(0.0349, abs=5e-5)
    limits = found.value - 1.644854 * found.error, found.value + 1.644854 * found.error
    assert limits == pytest.approx((-0.0176, 0.0874), abs=5e-5)
    assert (found.exposed, found.unexposed) == (204, 205)


def test_one_stratum_gives_the_plain_difference_and_almost_its_plain_error() -> None:
    body, head, stratum = units(((30, 204, 21, 205),))
    found = difference(body, head, stratum)
    assert found is not None
    p, q = 30 / 204, 21 / 205
    assert found.value == pytest.approx(p - q)
    assert found.error == pytest.approx(math.sqrt(p * (1 - p) / 204 + q * (1 - q) / 205), rel=0.01)


@pytest.mark.parametrize(("strata", "size"), [(3, 60), (60, 4)])
def test_the_error_is_that_of_repeated_studies_with_large_strata_and_with_many_small_ones(
    strata: int, size: int
) -> None:
    draws = np.random.default_rng(1)
    base = draws.uniform(0.1, 0.5, strata)
    values, errors = [], []
    stratum = np.repeat(np.arange(strata), size)
    for _ in range(1500):
        body = draws.random(len(stratum)) < 0.4
        head = draws.random(len(stratum)) < base[stratum] + 0.3 * body
        found = difference(body, head, stratum)
        assert found is not None
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(values) == pytest.approx(0.3, abs=0.02)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.1)


def test_patients_with_several_units_are_left_out_one_at_a_time() -> None:
    draws = np.random.default_rng(2)
    patient = np.repeat(np.arange(40), 3)
    stratum = draws.integers(0, 3, 40)[patient]
    body = (draws.random(40) < 0.5)[patient]
    head = np.where(draws.random(120) < 0.8, (draws.random(40) < 0.5)[patient], draws.random(120) < 0.5)
    found, independent = difference(body, head, stratum, patient), difference(body, head, stratum)
    assert found is not None
    assert independent is not None
    left = []
    for one in range(40):
        kept = patient != one
        without = difference(body[kept], head[kept], stratum[kept])
        assert without is not None
        left.append(without.value)
    error = math.sqrt(39 / 40 * np.sum((np.array(left) - np.mean(left)) ** 2))
    assert found.error == pytest.approx(error)
    assert found.error > 1.3 * independent.error
    assert found.value == independent.value
    film = np.arange(120) // 3 * 3 + stratum  # what lies within one stratum and shows one patient may be put together
    together = risk_difference(tables_of(body, head, film, 121), np.arange(121) % 3, np.arange(121) // 3)
    assert together == found


def test_nothing_is_said_where_no_stratum_has_both() -> None:
    body = np.array([True, True, False, False])
    assert difference(body, body, np.array([0, 0, 1, 1])) is None
