"""An order that is computed and not kept: each film once an epoch, any place first, as likely anywhere as by chance."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neurosym.data.film_order import StreamOrder, permuted


@given(st.integers(1, 700), st.integers(0, 2**32), st.integers(0, 1000))
def test_every_place_has_one_film_and_any_of_them_can_be_asked_for_alone(count: int, seed: int, epoch: int) -> None:
    whole = permuted(np.arange(count), count, (seed, epoch))
    assert sorted(whole.tolist()) == list(range(count))
    some = np.array([0, count // 2, count - 1])
    assert permuted(some, count, (seed, epoch)).tolist() == whole[some].tolist()


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 15), st.integers(0, 9))
def test_each_epoch_shows_each_film_once_whatever_the_batch(count: int, batch: int, seed: int) -> None:
    order = StreamOrder(count, seed)
    steps = [order(batch, step) for step in range(-(-3 * count // batch))]
    shown = [film for step in steps for film in step]
    assert all(len(step) == batch for step in steps)
    for epoch in range(3):
        assert sorted(shown[epoch * count : (epoch + 1) * count]) == list(range(count))


@pytest.mark.parametrize(("count", "places"), [(7, (0,)), (5, (0, 1)), (6, (2, 5)), (12, (11,))])
def test_over_the_seeds_films_are_as_likely_at_a_place_and_pairs_at_two_as_in_a_shuffle(
    count: int, places: tuple[int, ...]
) -> None:
    draws = 1000
    found = Counter(tuple(permuted(np.array(places), count, (seed, 0)).tolist()) for seed in range(draws))
    cells = count if len(places) == 1 else count * (count - 1)
    expected = draws / cells
    value = sum((n - expected) ** 2 for n in found.values()) / expected + (cells - len(found)) * expected
    assert stats.chi2.sf(value, cells - 1) > 1e-4


def test_films_that_follow_one_another_on_disk_do_not_in_the_order() -> None:
    count = 100_003
    order = permuted(np.arange(count), count, (1, 0))
    steps = np.diff(order)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 4 / count**0.5
    assert (np.abs(steps) == 1).sum() <= 12  # of a shuffle 2 on average
    assert abs((order == np.arange(count)).sum() - 1) <= 6  # of a shuffle 1 on average
    later = permuted(np.arange(count), count, (1, 1))
    assert (order == later).sum() <= 8


def test_a_step_of_a_hundred_million_films_takes_no_memory_for_them() -> None:
    order = StreamOrder(10**8, 0)
    order(16, 0)
    tracemalloc.start()
    films = order(16, 10**9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(films)) == 16
    assert peak < 100_000
