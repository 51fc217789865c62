from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurosym.constraints.semantics import SEMANTICS, TNORMS, semantics_of
from neurosym.errors import ConstraintError

truths = st.floats(0.0, 1.0)


def at(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(truths, truths, truths, st.sampled_from(sorted(TNORMS)))
def test_each_conjunction_is_a_triangular_norm(a: float, b: float, c: float, name: str) -> None:
    norm = TNORMS[name]
    x, y, z = at(a), at(b), at(c)
    torch.testing.assert_close(norm.two(x, y), norm.two(y, x))
    torch.testing.assert_close(norm.two(norm.two(x, y), z), norm.two(x, norm.two(y, z)))
    torch.testing.assert_close(norm.two(x, at(1.0)), x)
    assert float(norm.two(x, torch.minimum(y, z))) <= float(norm.two(x, y)) + 1e-12
    torch.testing.assert_close(norm.all(torch.stack([x, y, z]), 0), norm.two(norm.two(x, y), z))


@given(truths, truths, st.sampled_from(sorted(SEMANTICS)))
def test_a_grounding_violates_no_more_than_with_a_failing_head(a: float, h: float, name: str) -> None:
    chosen = SEMANTICS[name]
    most, broken = float(chosen.fired(at(a))), float(chosen.broken(at(a), at(h)))
    assert 0.0 <= broken <= most + 1e-12 <= 1.0 + 2e-12


@pytest.mark.parametrize("name", sorted(SEMANTICS))
def test_on_crisp_truths_all_semantics_are_classical(name: str) -> None:
    for a, h in itertools.product((0.0, 1.0), repeat=2):
        assert float(SEMANTICS[name].broken(at(a), at(h))) == pytest.approx(float(a == 1.0 and h == 0.0), abs=1e-12)


@given(truths, truths)
def test_the_violations_are_those_of_the_formulas(a: float, h: float) -> None:
    x, y = at(a), at(h)
    assert float(SEMANTICS["product"].broken(x, y)) == pytest.approx(a * (1 - h))
    assert float(SEMANTICS["lukasiewicz"].broken(x, y)) == pytest.approx(1 - min(1.0, 1 - a + h), abs=1e-12)
    assert float(SEMANTICS["goedel"].broken(x, y)) == pytest.approx(1 - max(1 - a, h), abs=1e-12)
    s, implied = 9.0, 1 - a + a * h
    sigmoid = 1 / (1 + math.exp(-s * (implied - 0.5)))
    sharpened = ((1 + math.exp(s / 2)) * sigmoid - 1) / (math.exp(s / 2) - 1)
    assert float(SEMANTICS["sigmoidal"].broken(x, y)) == pytest.approx(1 - sharpened, abs=1e-9)


@pytest.mark.parametrize("name", sorted(SEMANTICS))
def test_a_rule_that_is_kept_costs_nothing_and_cost_grows_with_its_share(name: str) -> None:
    shares = torch.linspace(0, 1, 50, dtype=torch.float64)
    cost = SEMANTICS[name].penalty(shares)
    assert float(cost[0]) == 0.0
    assert (cost.diff() > 0).all()
    assert torch.isfinite(cost).all()


def test_product_log_is_minus_log_of_what_holds() -> None:
    assert float(SEMANTICS["product-log"].penalty(at(0.3))) == pytest.approx(-math.log(0.7), abs=1e-3)


@pytest.mark.parametrize("name", sorted(SEMANTICS))
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    a = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    h = torch.tensor([0.1, 0.55, 0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: SEMANTICS[name].penalty(SEMANTICS[name].broken(x, y)), (a, h))


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ConstraintError) as error:
        semantics_of("prodct")
    assert str(error.value) == (
        "unknown semantics 'prodct'; known: product, product-log, lukasiewicz, goedel, sigmoidal"
    )
