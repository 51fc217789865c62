"""Fuzzy semantics by name: how truths are joined, how much of a broken rule counts, and what the loss makes of its share.

A rule b → h is read as ¬(b ∧ ¬h), the S-implication of a t-norm T with the strong negation, so that a grounding with premise
truth a and head truth h is broken by

    v(a, h)  =  T(a, 1 − h)  ≤  a        product  a (1 − h)        Łukasiewicz  max(0, a − h)        Gödel  min(a, 1 − h)

(for product that is Reichenbach's implication, for Gödel Kleene and Dienes'; for Łukasiewicz S- and R-implication agree). The
*sigmoidal* implication of van Krieken, Acar & van Harmelen (KR 2020, arXiv 2006.03472, with b₀ = −½) sharpens Reichenbach's,

    σ̂(i)  =  ((1 + e^(s/2)) σ(s (i − ½)) − 1) / (e^(s/2) − 1),        s = 9,

whose gradient is strongest where a grounding is undecided. All are normalised by what the premises alone could break,
v(a, 0), which is a itself except for the sigmoidal one. `product-log` breaks rules like product, and turns a rule's share v
into −log(1 − v), the negative log-likelihood that a grounding drawn by its premise holds. Of the t-norms compared in
arXiv 2107.13646 the product family learned best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.errors import ConstraintError, Problem

SHARPNESS: Final = 9.0
WORST: Final = 1e-4
"""`product-log` of a share of 1 is −log of this."""


@dataclass(frozen=True)
class Norm:
    """A conjunction: of two tensors that broadcast, and of a tensor's entries along a dimension."""

    two: Callable[[Tensor, Tensor], Tensor]
    all: Callable[[Tensor, int], Tensor]


def _lukasiewicz(truths: Float[Tensor, ...], dim: int) -> Float[Tensor, ...]:
    return torch.relu(truths.sum(dim) - (truths.shape[dim] - 1))


TNORMS: Final[dict[str, Norm]] = {
    "product": Norm(lambda a, b: a * b, lambda truths, dim: truths.prod(dim)),
    "lukasiewicz": Norm(lambda a, b: torch.relu(a + b - 1.0), _lukasiewicz),
    "goedel": Norm(torch.minimum, lambda truths, dim: truths.amin(dim)),
}
"""Triangular norms by name: conjunctions of truths in [0, 1], commutative, associative, monotone."""


@dataclass(frozen=True)
class Semantics:
    """One way to read rules.

    `broken(a, h)` is how much a grounding violates (0 iff a = 0 or h = 1 for product and sigmoidal; 0 iff a ≤ h for
    Łukasiewicz), `penalty(v)` what a rule's share v in [0, 1] costs, 0 for 0. `bilinear`: `broken` is linear in a and in h,
    so that sums over all pairs are matrix products.
    """

    norm: Norm
    broken: Callable[[Tensor, Tensor], Tensor]
    penalty: Callable[[Tensor], Tensor]
    bilinear: bool = False

    def fired(self, premise: Tensor) -> Tensor:
        """The most that groundings could violate: with a head that fails."""
        if self.bilinear:
            return premise  # T(a, 1) = a
        return self.broken(premise, torch.zeros_like(premise))


def _reichenbach(a: Tensor, h: Tensor) -> Tensor:
    return a * (1.0 - h)


def _sigmoidal(a: Tensor, h: Tensor) -> Tensor:
    """1 − σ̂(1 − v) = σ̂(v), by the symmetry of the sigmoid around ½, for v = a (1 − h)."""
    v = a * (1.0 - h)
    scale = torch.tensor(SHARPNESS / 2, dtype=v.dtype, device=v.device).exp()
    # both ends are exact: σ(−s/2) (1 + e^(s/2)) = 1
    raw = (1.0 + scale) * torch.sigmoid(SHARPNESS * (v - 0.5)) - 1.0
    return (raw / (scale - 1.0)).clamp(0.0, 1.0)


def _identity(v: Tensor) -> Tensor:
    return v


def _log(v: Tensor) -> Tensor:
    return -torch.log1p(-(1.0 - WORST) * v)


SEMANTICS: Final[dict[str, Semantics]] = {
    "product": Semantics(TNORMS["product"], _reichenbach, _identity, True),
    "product-log": Semantics(TNORMS["product"], _reichenbach, _log, True),
    "lukasiewicz": Semantics(TNORMS["lukasiewicz"], lambda a, h: torch.relu(a - h), _identity),
    "goedel": Semantics(TNORMS["goedel"], lambda a, h: torch.minimum(a, 1.0 - h), _identity),
    "sigmoidal": Semantics(TNORMS["product"], _sigmoidal, _identity),
}
"""The choices of `constraints.semantics`."""


def semantics_of(name: str) -> Semantics:
    """The semantics of a name.

    Raises:
        ConstraintError: an unknown name; the choices are listed.
    """
    if name not in SEMANTICS:
        raise ConstraintError(Problem(f"unknown semantics {name!r}", cure=f"known: {', '.join(SEMANTICS)}"))
    return SEMANTICS[name]
