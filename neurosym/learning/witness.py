"""The rules as a witness of where annotated boxes truly are.

A nodule lies in a lung and the heart between the two, whatever the annotator drew. Of the true boxes b of an image, whose
classes are known, the rules say

    p(b) ∝ exp(−V(b)),     V(b) = Σᵣ ln(wᵣ / (1 − wᵣ)) · (violated groundings of r in b)

the Markov logic network of the weighted rules (Richardson & Domingos, Machine Learning 2006), with soft geometry in the place
of crisp words, so that V has a gradient. `neurosym.models.posterior.witnessed` brings it together with what annotation and
votes say. A rule that is no surer than not (w ≤ ½) is silent.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from neurosym.constraints import ConstraintSet, violation

SUREST = 0.99
"""A hard rule counts as one of this confidence: were it endless, one annotation of a wrong class would move all others."""


class RuleWitness:
    """V of an image's boxes; `constraints` were compiled for the classes that labels count from 1."""

    def __init__(self, constraints: ConstraintSet, temperature: float = 0.1) -> None:
        self.constraints, self.temperature = constraints, temperature
        sure = constraints.confidence.clamp(0.5, SUREST)
        self.weight = (sure / (1.0 - sure)).log()

    def __call__(
        self, boxes: Float[Tensor, "box 4"], labels: Int[Tensor, " box"], size: tuple[float, float]
    ) -> Float[Tensor, ""]:
        """V of boxes in pixels of an image of (width, height) `size`; 0 iff no rule that is likelier than not is broken."""
        kinds = F.one_hot(labels, len(self.constraints.names) + 1).to(boxes.dtype)
        broken = violation(self.constraints, kinds, boxes, self.temperature, size=size).violated
        return (self.weight.to(broken) * torch.relu(broken)).sum()
