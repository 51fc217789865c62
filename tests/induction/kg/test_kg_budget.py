"""A budget holds for the search and for what comes after it, on a clock that is made up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.induction.kg import clock as clocks
from neurosym.induction.kg import forecast as forecasts
from neurosym.induction.kg.clock import Clock, State
from neurosym.induction.kg.forecast import seconds_of_all


class Time:
    """A clock that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


@given(fixed=st.floats(0.0, 1.0), each=st.floats(0.0, 0.0003), step=st.floats(0.01, 0.3), rules=st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_the_search_stops_in_time_for_what_comes_after_it_and_uses_the_rest(
    fixed: float, each: float, step: float, rules: int
) -> None:
    """Each step takes as long and finds as many rules; what comes after it takes `fixed` and a time for `each` rule."""
    time = Time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clocks, "time", time)
        clock, found, took = Clock(20.0, lambda _: None), 0, 0.05

        def trial(at_most: float) -> float:
            time.now += took
            return fixed + each * found

        while True:
            clock.try_rest(found, trial)
            if not (clock.goes_on(found, 1.0) and clock.has_time_for_another(found)):
                break
            time.now += step
            found += rules
        end = time.now - 100.0 + fixed + each * found
    growth = step + each * rules
    # a first step may be the last but one: it takes as long as it takes
    assert end <= 20.0 + growth + took
    # two fifths of the rest are kept free
    assert end + 0.4 * (fixed + each * found) >= 20.0 - 3 * growth - took


def test_a_rest_that_takes_longer_than_is_left_ends_the_search_at_once() -> None:
    time, states = Time(), list[State]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clocks, "time", time)
        clock = Clock(10.0, states.append)
        clock.try_rest(1000, lambda _: 6.2)  # and two fifths more
        assert clock.goes_on(1000, 1.0)
        assert not clock.goes_on(2000, 1.0)
        time.now += 1.5
        assert not clock.goes_on(1000, 1.0)
    assert [state.rules for state in states] == [1000, 2000, 1000]


def test_a_long_step_ends_no_search_on_a_guess_that_a_trial_can_put_right() -> None:
    time, trials = Time(), list[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clocks, "time", time)
        clock = Clock(10.0, lambda _: None)
        clock.begins()

        def step(rules: int, seconds: float) -> bool:
            def trial(_: float) -> float:
                trials.append(rules)
                time.now += 0.4
                return 0.5

            time.now += seconds
            clock.try_rest(rules, trial)
            return clock.has_time_for_another(rules)

        assert step(1000, 0.1)
        # the rest of 2900 rules is guessed to take 2.03 s, too long after two more such steps; it takes as long as before
        assert step(2900, 2.5)
    assert trials == [1000, 2900]


def test_without_a_budget_nothing_is_tried_and_the_search_goes_on() -> None:
    clock = Clock(None, lambda _: None)
    clock.try_rest(10, lambda _: pytest.fail("tried"))
    assert clock.goes_on(10, 1.0)
    assert clock.has_time_for_another(10)


@given(fixed=st.floats(0.0, 0.5), whole=st.floats(0.0, 500.0))
@settings(max_examples=50, deadline=None)
def test_seconds_of_all_are_told_from_parts_and_little_time_is_spent_on_them(fixed: float, whole: float) -> None:
    time = Time()

    def part(first: float, share: float) -> None:
        assert 0 <= first <= first + share <= 1
        time.now += fixed + whole * share

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecasts, "time", time)
        assert seconds_of_all(part, at_most=0.5) == pytest.approx(fixed + whole, rel=1e-6, abs=1e-6)
    spent = time.now - 100.0
    assert spent <= max(0.5, whole / 16 + 5 * fixed) + 9 * fixed + 1e-6


def test_parts_that_differ_put_the_forecast_on_the_safe_side() -> None:
    time = Time()
    seconds = iter([0.0, 0.1, 0.3, 0.1, 0.3])

    def part(first: float, share: float) -> None:
        time.now += next(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecasts, "time", time)
        told = seconds_of_all(part, at_most=0.0)
    # mean 0.2, standard deviation of four 0.11547, its error half of that
    assert told == pytest.approx((0.2 + 0.11547005) * 64)


def test_a_piece_that_took_oddly_long_is_timed_again() -> None:
    time = Time()
    seconds = iter([0.0, 0.1, 5.0, 0.1, 0.1, 0.1])

    def part(first: float, share: float) -> None:
        time.now += next(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecasts, "time", time)
        assert seconds_of_all(part, at_most=0.0) == pytest.approx(0.1 * 64)
