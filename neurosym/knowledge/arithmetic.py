r"""Comparisons and arithmetic of rule bodies, as functions of a binding.

Whatever has no result makes its comparison false, as a built-in that fails does in Prolog: division by zero, a text or an
individual where a number is wanted, a result beyond 64 bits or not finite. Only `\=` is for every kind of value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from neurosym.knowledge.relations import Binding, value_of
from neurosym.logic import Comparison, Count, Expression, Operand, Term

Slots: TypeAlias = Mapping[Term | Count, int]
"""Where a binding has the value of a variable, or of a counting term."""
Number: TypeAlias = int | float
NUMBER = (int, float)
_LARGEST = 2**63
_NO_RESULT = (TypeError, ArithmeticError)

_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "=<": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=:=": operator.eq,
    r"=\=": operator.ne,
}
_OPERATIONS: dict[str, Callable[..., Number]] = {
    "+": operator.add,
    "-": lambda *n: n[0] - n[1] if len(n) == 2 else -n[0],
    "*": operator.mul,
    "/": operator.truediv,
    "abs": abs,
    "min": min,
    "max": max,
}


def number_of(operand: Operand, slots: Slots) -> Callable[[Binding], Number]:
    """The operand's number as a function of a binding, which raises a TypeError or an ArithmeticError if there is none."""
    if isinstance(operand, Expression):
        operation, inner = _OPERATIONS[operand.operator], [number_of(o, slots) for o in operand.operands]

        def computed(binding: Binding) -> Number:
            result = operation(*[each(binding) for each in inner])
            if abs(result) >= _LARGEST if isinstance(result, int) else not math.isfinite(result):
                raise OverflowError
            return result

        return computed
    if isinstance(operand, Term) and not operand.is_variable:
        value = value_of(operand)
        return lambda _: _number(value)
    slot = slots[operand]
    return lambda binding: _number(binding[slot])


def _number(value: object) -> Number:
    if isinstance(value, NUMBER):
        return value
    raise TypeError


def test_of(condition: Comparison, slots: Slots) -> Callable[[Iterator[Binding]], Iterator[Binding]]:
    """A comparison as a filter of bindings."""
    if condition.operator == r"\=":
        left, right = _value(condition.left, slots), _value(condition.right, slots)
        return lambda bindings: (b for b in bindings if _succeeds(operator.ne, left, right, b))
    test = _TESTS["=:=" if condition.operator == "is" else condition.operator]
    if isinstance(condition.left, Term | Count) and condition.left in slots and isinstance(condition.right, Term):
        slot, limit = slots[condition.left], condition.right
        if not limit.is_variable and limit.datatype in ("integer", "decimal"):  # the usual case, and much faster
            value = value_of(limit)
            return lambda bindings: (b for b in bindings if isinstance(b[slot], NUMBER) and test(b[slot], value))
    one, other = number_of(condition.left, slots), number_of(condition.right, slots)
    return lambda bindings: (b for b in bindings if _succeeds(test, one, other, b))


def result_of(condition: Comparison, slots: Slots) -> Callable[[Iterator[Binding]], Iterator[Binding]]:
    """`left is right` as a step that puts the result at the end of each binding."""
    number = number_of(condition.right, slots)

    def step(bindings: Iterator[Binding]) -> Iterator[Binding]:
        for binding in bindings:
            try:
                result = number(binding)
            except _NO_RESULT:
                continue
            yield binding + (result,)

    return step


def _value(operand: Operand, slots: Slots) -> Callable[[Binding], object]:
    if isinstance(operand, Expression):
        return number_of(operand, slots)
    if isinstance(operand, Term) and not operand.is_variable:
        value = value_of(operand)
        return lambda _: value
    slot = slots[operand]
    return lambda binding: binding[slot]


def _succeeds(
    test: Callable[[Any, Any], bool],
    left: Callable[[Binding], object],
    right: Callable[[Binding], object],
    binding: Binding,
) -> bool:
    try:
        return test(left(binding), right(binding))
    except _NO_RESULT:
        return False
