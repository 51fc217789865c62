"""Premise-normalised violation: how much of what the rules speak of, breaks them.

For a rule b → h with premise truth aᵢ and head truth hᵢ over the groundings i of a batch,

    vᵣ = Σᵢ aᵢ (1 − hᵢ) / (Σᵢ aᵢ + ε),        loss = Σᵣ wᵣ · max(0, vᵣ − (1 − wᵣ)) / Σᵣ wᵣ

A plain fuzzy implication is satisfied by silencing its premises; dividing by the premises takes that way out. Truth is the
product t-norm, a rule of confidence w may be broken in a share 1 − w of its groundings before it costs anything, and
objects that are ε-few in a batch weigh little. The loss is 0 iff no rule has vᵣ > 1 − wᵣ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.constraints.compile import ConstraintSet
from neurosym.constraints.geometry import soft_words
from neurosym.errors import ConstraintError


@dataclass(frozen=True)
class Violation:
    """Per rule of the set: the premises' total truth, and the part of it where the head fails."""

    fired: Float[Tensor, " rule"]
    violated: Float[Tensor, " rule"]

    def rate(self, epsilon: float = 1.0) -> Float[Tensor, " rule"]:
        """The premise-normalised violation vᵣ."""
        return self.violated / (self.fired + epsilon)


def violation(
    constraints: ConstraintSet,
    probabilities: Float[Tensor, "box leaf"],
    boxes: Float[Tensor, "box 4"],
    temperature: float = 0.1,
) -> Violation:
    """Soft violation of every rule on one image.

    Args:
        constraints: compiled for the classes behind `probabilities`.
        probabilities: class probabilities of each object, background first; rows sum to 1.
        boxes: XYXY, any unit.
        temperature: softness of the geometry, in units of the boxes' sides.

    Raises:
        ConstraintError: a wrong number of classes, or a value that is not finite.
    """
    if probabilities.shape[1] != len(constraints.names) + 1:
        expected = f"{len(constraints.names) + 1} classes (background first)"
        raise ConstraintError(f"probabilities have {probabilities.shape[1]} columns; expected {expected}")
    if not (torch.isfinite(probabilities).all() and torch.isfinite(boxes).all()):
        raise ConstraintError("the detector's probabilities or boxes are not finite; lower the learning rate")
    count = len(constraints.rules)
    fired, violated = probabilities.new_zeros(count), probabilities.new_zeros(count)
    if len(boxes) == 0:
        return Violation(fired, violated)
    truth = probabilities @ constraints.closure
    words = soft_words(boxes, temperature)
    distinct = 1.0 - torch.eye(len(boxes), dtype=truth.dtype, device=truth.device)
    pairs = constraints.pairs
    if len(pairs.rule):
        premise = truth[:, pairs.first].T[:, :, None] * truth[:, pairs.second].T[:, None, :] * distinct
        premise = premise * words[pairs.body].prod(1)
        head = words[pairs.head].prod(1)
        broken = torch.where(pairs.denied[:, None, None], head, 1.0 - head)
        fired = fired.index_add(0, pairs.rule, premise.sum((1, 2)))
        violated = violated.index_add(0, pairs.rule, (premise * broken).sum((1, 2)))
    some = constraints.existentials
    if len(some.rule):
        premise = truth[:, some.first].T
        witness = words[some.head].prod(1) * truth[:, some.second].T[:, None, :] * distinct
        fired = fired.index_add(0, some.rule, premise.sum(1))
        violated = violated.index_add(0, some.rule, (premise * (1.0 - witness.amax(2))).sum(1))
    return Violation(fired, violated)


def constraint_loss(
    constraints: ConstraintSet,
    images: Sequence[tuple[Tensor, Tensor]],
    temperature: float = 0.1,
    epsilon: float = 1.0,
) -> tuple[Float[Tensor, ""], Violation]:
    """The loss of a batch of (probabilities, boxes), and the violation summed over it."""
    parts = [violation(constraints, p, b, temperature) for p, b in images]
    total = Violation(torch.stack([p.fired for p in parts]).sum(0), torch.stack([p.violated for p in parts]).sum(0))
    allowed = 1.0 - constraints.confidence
    excess = torch.relu(total.rate(epsilon) - allowed)
    loss = (constraints.confidence * excess).sum() / constraints.confidence.sum()
    return loss, total
