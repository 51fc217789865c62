from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurosym.constraints.counting import count_distribution
from neurosym.constraints.numeric import margin


@given(st.lists(st.floats(0.0, 1.0), max_size=8), st.integers(0, 10))
def test_the_distribution_of_a_number_is_the_sum_over_all_sets(chances: list[float], largest: int) -> None:
    found = count_distribution(torch.tensor(chances, dtype=torch.float64), largest)
    expected = [0.0] * (len(chances) + largest + 1)
    for there in itertools.product((0, 1), repeat=len(chances)):
        weight = math.prod(q if t else 1 - q for q, t in zip(chances, there, strict=True))
        expected[sum(there)] += weight
    assert found.tolist() == pytest.approx(expected[: largest + 1], abs=1e-12)


def test_batches_are_independent_and_differentiable() -> None:
    chances = torch.rand(2, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = count_distribution(chances, 3)
    assert found.shape == (2, 3, 4)
    torch.testing.assert_close(found[1, 2], count_distribution(chances[1, 2], 3))
    assert torch.autograd.gradcheck(lambda q: count_distribution(q, 3), (chances,))


def test_certain_objects_are_counted_exactly() -> None:
    chances = torch.zeros(300)
    chances[::50] = 1.0
    assert count_distribution(chances, 7).tolist() == [0.0] * 6 + [1.0, 0.0]


@given(st.floats(0.01, 2.0), st.floats(0.01, 2.0), st.floats(0.01, 2.0), st.floats(1e-3, 1e3))
def test_a_comparison_has_the_sign_of_its_difference_and_no_unit(a: float, b: float, c: float, unit: float) -> None:
    """``A - B > C`` and ``A / B > C``, read off and in other units."""
    if min(abs(a - b - c), abs(a / b - c)) < 1e-3:
        return

    def found(form: str, *values: float) -> float:
        numbers = [torch.tensor(v, dtype=torch.float64) for v in values]
        return float(margin(tuple(form.split()), lambda slot, _: numbers[slot], lambda slot: numbers[slot], torch))

    difference = found("x x - x", a, b, c)
    assert (difference > 0) == (a - b > c)
    assert found("x x - x", a * unit, b * unit, c * unit) == pytest.approx(difference, rel=1e-6)
    assert (found("x x / x", a, b, c) > 0) == (a / b > c)


def test_a_difference_compared_with_zero_has_a_gradient() -> None:
    a = torch.tensor(0.3, requires_grad=True)
    found = margin(
        ("x", "x", "-", "#"), lambda slot, _: (a, torch.tensor(0.5))[slot], lambda _: torch.tensor(0.0), torch
    )
    found.backward()
    assert float(found.detach()) < 0 < float(a.grad)


def test_a_division_by_zero_stays_finite() -> None:
    a = torch.tensor(0.3, requires_grad=True)
    found = margin(("x", "#", "/", "#"), lambda *_: a, lambda slot: torch.tensor((0.0, 1.0)[slot]), torch)
    found.backward()
    assert torch.isfinite(found)
    assert torch.isfinite(a.grad)
