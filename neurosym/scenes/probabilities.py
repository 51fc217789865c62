"""How probable it is that so many objects are there, or one in each of some regions, if they are there independently."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import prod


def count_probability(probabilities: Sequence[float], at_least: int = 1, at_most: int | None = None) -> float:
    """P(at_least ≤ N ≤ at_most) for the number N of independent events that happen: the Poisson binomial distribution.

    With P₀ = (1), each event of probability p makes P′ₖ = (1 − p)·Pₖ + p·Pₖ₋₁; O(n²), and exact but for rounding.

    >>> round(count_probability([0.5, 0.8], 1, 1), 6)
    0.5
    """
    of_count = [1.0]
    for p in probabilities:
        of_count = [(1 - p) * here + p * below for here, below in zip([*of_count, 0.0], [0.0, *of_count], strict=True)]
    chosen = of_count[at_least : None if at_most is None else at_most + 1]
    return min(1.0, sum(chosen))


def coverage_probability(probabilities: Sequence[float], places: Sequence[frozenset[int]], regions: int) -> float:
    """The probability that each region holds an object, by inclusion and exclusion over the regions.

    Object i is there with probability pᵢ, and lies in the regions `places[i]` (numbered from 0; several where they overlap):

        P = Σ_S (−1)^|S| ∏ {1 − pᵢ : i lies in a region of S}    over the sets S of regions

    >>> round(coverage_probability([0.5, 0.8], [frozenset({0}), frozenset({1})], 2), 6)
    0.4
    """
    total = 0.0
    for size in range(regions + 1):
        for empty in combinations(range(regions), size):
            missing = (1 - p for p, held in zip(probabilities, places, strict=True) if not held.isdisjoint(empty))
            total += (-1) ** size * prod(missing)
    return min(1.0, max(0.0, total))
