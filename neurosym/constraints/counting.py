"""How many objects there are, when each is one only with a probability: the Poisson-binomial distribution.

For independent objects with probabilities q₁ … qₙ the number K of them has the generating function

    G(z)  =  Πₘ (1 − qₘ + qₘ z),        P(K = k) = [zᵏ] G(z)

Only the coefficients up to the largest number that a rule compares with are needed, so the product is taken as a tree of
polynomials cut off above that degree: exact (truncation loses nothing below it), differentiable, and log₂ n steps deep. The
dynamic programme of Hong (Computational Statistics & Data Analysis 59, 2013) is the same product taken one factor at a time.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

LARGEST = 64
"""The largest number that a count may be compared with."""


def count_distribution(chances: Float[Tensor, "*batch object"], largest: int) -> Float[Tensor, "*batch number"]:
    """P(K = k) for k = 0 … `largest`, K the number of objects of independent chances; the rest is P(K > largest).

    Invariant: entries are in [0, 1] and sum to at most 1, to 1 if there are no more than `largest` objects.
    """
    if chances.shape[-1] == 0:
        none = chances.new_zeros(*chances.shape[:-1], largest + 1)
        return torch.cat([torch.ones_like(none[..., :1]), none[..., 1:]], -1)
    polynomials = torch.stack([1.0 - chances, chances], -1)
    while polynomials.shape[-2] > 1:
        if polynomials.shape[-2] % 2:
            one = pad(torch.ones_like(polynomials[..., :1, :1]), (0, polynomials.shape[-1] - 1))
            polynomials = torch.cat([polynomials, one], -2)
        polynomials = _product(polynomials[..., ::2, :], polynomials[..., 1::2, :], largest)
    result = polynomials[..., 0, : largest + 1]
    return pad(result, (0, largest + 1 - result.shape[-1]))


def _product(a: Tensor, b: Tensor, largest: int) -> Tensor:
    """The product of polynomials, coefficients in the last dimension, without powers above `largest`."""
    width = min(a.shape[-1] + b.shape[-1] - 1, largest + 1)
    terms = [
        pad(a[..., i : i + 1] * b[..., : width - i], (i, max(0, width - i - b.shape[-1])))
        for i in range(min(a.shape[-1], width))
    ]
    return torch.stack(terms).sum(0)
