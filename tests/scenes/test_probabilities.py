from __future__ import annotations

import itertools
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.scenes.probabilities import count_probability, coverage_probability

SHARES = st.lists(st.floats(0, 1), max_size=7)


def worlds(probabilities: list[float]) -> list[tuple[tuple[bool, ...], float]]:
    """Every way that events can happen or not, with its probability."""
    ways = itertools.product((False, True), repeat=len(probabilities))
    return [(w, prod(p if here else 1 - p for p, here in zip(probabilities, w, strict=True))) for w in ways]


@given(SHARES, st.integers(0, 4), st.none() | st.integers(0, 6))
def test_the_probability_of_a_count_is_that_of_the_worlds_with_that_count(
    probabilities: list[float], low: int, high: int | None
) -> None:
    expected = sum(p for w, p in worlds(probabilities) if sum(w) >= low and (high is None or sum(w) <= high))
    assert count_probability(probabilities, low, high) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.frozensets(st.integers(0, 2))), max_size=7))
def test_regions_that_overlap_are_covered_as_often_as_in_the_worlds(
    objects: list[tuple[float, frozenset[int]]],
) -> None:
    probabilities, places = [p for p, _ in objects], [held for _, held in objects]
    expected = sum(
        p
        for w, p in worlds(probabilities)
        if frozenset().union(*(held for held, here in zip(places, w, strict=True) if here)) == {0, 1, 2}
    )
    assert coverage_probability(probabilities, places, 3) == pytest.approx(expected, abs=1e-9)
