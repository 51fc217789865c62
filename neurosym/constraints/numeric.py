"""Comparisons of measurements (`W > 0.7`, `W / V > 0.5`) as one postfix program for all comparisons of one form.

A comparison is brought to ``left > right``; its numbers and the measurements it reads become rows of index tensors, so that
a thousand rules that differ in nothing else are one evaluation. Its margin is the difference in units of what it is made of,

    m  =  (left − right) / ½(|left|° + |right|°)        |a ± b|° = |a|° + |b|°,  |a·b|° = |a|°|b|°,  |a / b|° = |a|° / |b|

which is free of the unit of the measurement, keeps a gradient for `A - B > 0`, and is positive iff the comparison holds: the
same form as the margins of `neurosym.knowledge.geometry`. The units are ours; the truth is ``sigmoid(m / T)`` as for words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Leaf: TypeAlias = tuple[int, int]
"""A measurement and whose it is: 0 for the first object, 1 for the second."""
Form: TypeAlias = tuple[str, ...]
"""A postfix program: "x" and "y" push the next measurement, "#" the next number, any other word is an operation."""
TINY = 1e-6
_NOTHING = 1e-12


@dataclass(frozen=True)
class Inequality:
    """One comparison, brought to ``left > right`` (or ``>=`` if not strict), as data for its form."""

    form: Form
    leaves: tuple[Leaf, ...]
    numbers: tuple[float, ...]
    strict: bool

    @property
    def objects(self) -> frozenset[int]:
        """Which of the two objects it measures."""
        return frozenset(who for _, who in self.leaves)


@dataclass(frozen=True)
class InequalityGroup:
    """All comparisons of one form: the measurements and the numbers that each of them reads."""

    form: Form
    leaves: Int[Tensor, "comparison leaf"]
    numbers: Float[Tensor, "comparison number"]
    strict: Bool[Tensor, " comparison"]


def margin(form: Form, leaf: Callable[[int, int], Any], number: Callable[[int], Any], xp: Any) -> Any:
    """The margin of a form: `leaf(slot, who)` and `number(slot)` give its values, arrays or tensors that broadcast."""
    stack: list[tuple[Any, Any]] = []
    leaves = numbers = 0
    for word in form:
        if word in "xy":
            value = leaf(leaves, "xy".index(word))
            leaves += 1
            stack.append((value, abs(value)))
        elif word == "#":
            value = number(numbers)
            numbers += 1
            stack.append((value, abs(value)))
        elif word in ("neg", "abs"):
            value, size = stack.pop()
            stack.append((-value if word == "neg" else abs(value), size))
        else:
            (b, size_b), (a, size_a) = stack.pop(), stack.pop()
            stack.append(_OPERATIONS[word](a, size_a, b, size_b, xp))
    (right, right_size), (left, left_size) = stack.pop(), stack.pop()
    return (left - right) / (0.5 * (left_size + right_size) + _NOTHING)


def _over(a: Any, size_a: Any, b: Any, size_b: Any, xp: Any) -> tuple[Any, Any]:
    """A quotient that stays finite: a divisor within `TINY` of zero counts as `TINY` on its side of zero."""
    sign = xp.where(b < 0, -1.0, 1.0)
    divisor = sign * xp.maximum(abs(b), abs(b) * 0.0 + TINY)
    return a / divisor, size_a / abs(divisor)


_OPERATIONS: dict[str, Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]]] = {
    "+": lambda a, s, b, t, xp: (a + b, s + t),
    "-": lambda a, s, b, t, xp: (a - b, s + t),
    "*": lambda a, s, b, t, xp: (a * b, s * t),
    "/": _over,
    "min": lambda a, s, b, t, xp: (xp.minimum(a, b), xp.maximum(s, t)),
    "max": lambda a, s, b, t, xp: (xp.maximum(a, b), xp.maximum(s, t)),
}
