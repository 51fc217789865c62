from __future__ import annotations

import itertools
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints.circuit_cache import CircuitCache, canonical
from neurosym.constraints.circuits import FLOOR, CircuitTooLargeError, Clauses, compile_cnf
from neurosym.errors import ConstraintError

WEIGHTS = st.one_of(st.just(0.0), st.just(1.0), st.floats(1e-9, 2.0))
"""0 or not tiny: near the smallest double the oracle, which multiplies, keeps no digits; the circuit adds logarithms."""


def counted(clauses: Clauses, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """The weighted model count, by trying every assignment."""
    total = positive.new_zeros(len(positive))
    for model in itertools.product((False, True), repeat=positive.shape[1]):
        if all(any(model[abs(x) - 1] == (x > 0) for x in clause) for clause in clauses):
            weights = [positive[:, v] if true else negative[:, v] for v, true in enumerate(model)]
            total = total + (torch.stack(weights).prod(0) if weights else 1.0)
    return total


@st.composite
def formulas(draw: st.DrawFn, largest: int = 7) -> tuple[Clauses, int]:
    variables = draw(st.integers(0, largest))
    if not variables:
        return draw(st.sampled_from([(), ((),)])), 0
    literals = st.integers(1, variables).flatmap(lambda v: st.sampled_from([v, -v]))
    clauses = draw(st.lists(st.lists(literals, min_size=draw(st.integers(0, 1)), max_size=4), max_size=10))
    return tuple(map(tuple, clauses)), variables


@st.composite
def weighted(draw: st.DrawFn, largest: int = 7) -> tuple[Clauses, torch.Tensor, torch.Tensor]:
    clauses, variables = draw(formulas(largest))
    numbers = draw(st.lists(WEIGHTS, min_size=4 * variables, max_size=4 * variables))
    positive, negative = torch.tensor(numbers, dtype=torch.float64).reshape(2, 2, variables)
    return clauses, positive, negative


@given(weighted())
@settings(max_examples=150)
def test_a_count_equals_the_sum_over_all_models_for_any_weights(case: tuple) -> None:
    clauses, positive, negative = case
    circuit = compile_cnf(clauses, positive.shape[1])
    expected = counted(clauses, positive, negative)
    torch.testing.assert_close(circuit.log_count(positive, negative).exp(), expected, rtol=1e-9, atol=1e-12)


@given(weighted(largest=5))
@settings(max_examples=100)
def test_gradients_are_those_of_the_count_even_where_weights_are_0(case: tuple) -> None:
    clauses, positive, negative = case
    positive.requires_grad_()
    negative.requires_grad_()
    expected = counted(clauses, positive, negative)
    possible = expected.detach() > 1e-100
    found = compile_cnf(clauses, positive.shape[1]).log_count(positive, negative)
    gradients = torch.autograd.grad(found.sum(), (positive, negative))
    assert all(torch.isfinite(g).all() for g in gradients)
    if not expected.requires_grad:
        return
    truth = torch.autograd.grad(expected.sum(), (positive, negative), allow_unused=True)
    for mine, true in zip(gradients, truth, strict=True):
        if true is not None and possible.any():
            log_slope = true[possible] / expected.detach()[possible, None]
            torch.testing.assert_close(mine[possible], log_slope.clamp(max=1e20), rtol=1e-8, atol=1e-9)


def test_twelve_variables_are_counted_right() -> None:
    dice = random.Random(0)
    signed = [v * s for v in range(1, 13) for s in (1, -1)]
    clauses = tuple(tuple(dice.sample(signed, 3)) for _ in range(30))
    torch.manual_seed(0)
    positive, negative = torch.rand(2, 3, 12, dtype=torch.float64)
    found = compile_cnf(clauses, 12).log_count(positive, negative)
    torch.testing.assert_close(found, counted(clauses, positive, negative).log())


@pytest.mark.parametrize(
    ("clauses", "expected"),
    [((), 0.7 * 5.0), (((),), 0.0), (((1,),), 0.3 * 5.0), (((-1,),), 0.4 * 5.0), (((1,), (-1,)), 0.0)],
)
def test_constants_and_literals_count_the_variables_they_do_not_mention(clauses: Clauses, expected: float) -> None:
    found = compile_cnf(clauses, 2).log_count(torch.tensor([[0.3, 2.0]]), torch.tensor([[0.4, 3.0]]))
    assert float(found.exp()) == pytest.approx(expected, rel=1e-6)


def test_an_impossible_formula_has_the_floor_as_logarithm_and_finite_gradients() -> None:
    p = torch.tensor([[0.0, 0.5]], requires_grad=True)
    found = compile_cnf(((1,),), 2).log_count(p, 1 - p)
    assert float(found.detach()) == FLOOR
    found.backward()
    assert torch.isfinite(p.grad).all()
    assert p.grad[0, 0] > 0 == p.grad[0, 1]


def test_a_probability_far_below_the_smallest_number_keeps_its_logarithm_and_gradient() -> None:
    count = 60
    p = torch.full((1, count), 1e-3, requires_grad=True)
    found = compile_cnf([(v,) for v in range(1, count + 1)], count).log_count(p, 1 - p)
    torch.testing.assert_close(found, torch.log(p).sum(1))
    found.sum().backward()
    torch.testing.assert_close(p.grad, torch.full_like(p, 1e3))


def test_rows_of_a_batch_do_not_influence_each_other() -> None:
    torch.manual_seed(0)
    clauses = ((1, -2, 3), (-1, 4), (2, -4, 5), (-3, -5))
    p = torch.rand(4, 5, requires_grad=True)
    circuit = compile_cnf(clauses, 5)
    together = circuit.log_count(p, 1 - p)
    torch.testing.assert_close(together, torch.cat([circuit.log_count(r[None], 1 - r[None]) for r in p]))
    [slope] = torch.autograd.grad(together[2], p)
    assert (slope[[0, 1, 3]] == 0).all()


@given(formulas(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_a_canonical_formula_is_the_given_one_renumbered(case: tuple[Clauses, int], dice: random.Random) -> None:
    clauses, variables = case
    canon, order = canonical(clauses, variables)
    assert sorted(order) == list(range(1, variables + 1))
    back = {tuple(sorted(order[abs(x) - 1] * (1 if x > 0 else -1) for x in c)) for c in canon}
    plain = {tuple(sorted(set(c))) for c in clauses if not any(-x in c for x in c)}
    assert back == plain


def test_a_shape_that_recurs_on_other_variables_is_compiled_once() -> None:
    cache = CircuitCache()
    clauses = ((-1, -2, 3), (-2, -4, 5), (1, 4), (3, -5, 6))
    torch.manual_seed(0)
    weights = torch.rand(1, 6, dtype=torch.float64)
    for seed in range(20):
        names = random.Random(seed).sample(range(1, 7), 6)
        renamed = tuple(tuple(names[abs(x) - 1] * (1 if x > 0 else -1) for x in c) for c in clauses)
        circuit, order = cache.get(renamed, 6)
        mine = weights[:, [v - 1 for v in order]]
        expected = counted(renamed, weights, 1 - weights).log()
        torch.testing.assert_close(circuit.log_count(mine, 1 - mine), expected)
    assert cache.compilations == 1


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    cache = CircuitCache(capacity=2)
    for clauses in [((1,),), ((1, 2),), ((1,),), ((-1,),), ((1,),), ((1, 2),)]:
        cache.get(clauses, 2)
    assert cache.compilations == 4


def hard(count: int) -> Clauses:
    """Random 3-clauses at the ratio where circuits are largest."""
    dice = random.Random(1)
    pick = lambda: tuple(v * dice.choice((1, -1)) for v in dice.sample(range(1, count + 1), 3))  # noqa: E731
    return tuple(pick() for _ in range(int(1.8 * count)))


def test_limits_of_a_compilation_name_what_was_exceeded() -> None:
    with pytest.raises(CircuitTooLargeError, match="the formula has 30 variables; the limit is 20"):
        compile_cnf(hard(30), 30, max_variables=20)
    with pytest.raises(CircuitTooLargeError, match=r"the circuit has \d+ elements; the limit is 100"):
        compile_cnf(hard(30), 30, max_nodes=100)
    with pytest.raises(CircuitTooLargeError, match="compilation took .* s so far; the limit is 0 s"):
        compile_cnf(hard(30), 30, max_seconds=0.0)


def test_what_was_too_large_is_not_tried_again() -> None:
    cache = CircuitCache()
    for _ in range(3):
        with pytest.raises(CircuitTooLargeError, match="elements"):
            cache.get(hard(30), 30, max_nodes=100)
    assert cache.compilations == 1


def test_wrong_weights_and_literals_are_refused() -> None:
    circuit = compile_cnf(((1, 2),), 2)
    with pytest.raises(ConstraintError, match=r"expected \(batch, 2\) twice"):
        circuit.log_count(torch.ones(1, 3), torch.ones(1, 3))
    for bad in (float("nan"), -0.1):
        with pytest.raises(ConstraintError, match="negative or not finite"):
            circuit.log_count(torch.tensor([[bad, 1.0]]), torch.ones(1, 2))
    with pytest.raises(ConstraintError, match="literal -3 is of none of the 2 variables"):
        compile_cnf(((1, -3),), 2)
