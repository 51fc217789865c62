"""Multiple instance learning on proposals: what a film says of some object, without saying of which.

The proposals of a film are the instances of a bag (Dietterich et al. 1997; for detectors Bilen & Vedaldi, WSDDN, CVPR 2016; Ren
et al., UFO², ECCV 2020). With p_n(c) the probability that proposal n is of class c, q_n in [0, 1] how well its box fits what is
said, and L the classes below a label in the ontology, the truth that some object fits is a noisy-or, and the loss its log:

    e_n = q_n Σ_{c ∈ L} p_n(c)          P = 1 − Π_n (1 − e_n)          −log P

    image label        q_n: inside an organ that a finding of class c lies in, by the rules
    location tag       q_n: in that part of the lung's box
    point, scribble    q_n: the share of the mark that the box holds
    all of them        times how well the box's size is one of class c (`neurosym.learning.class_shapes`)

What is known *not* to be there is known of each proposal: with N_n the classes that proposal n cannot have,

    negatives          −mean_n log (1 − Σ_{c ∈ N_n} p_n(c))

The loss counts by max_n q_n, without gradient: a bag in which no instance could be the object says nothing of any.
WSDDN normalises scores over proposals, so that one must be chosen; the noisy-or lets two objects be there. Because the gradient
of −log P reaches proposal n in proportion to e_n, it is the likeliest ones that learn.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_SUREST = 1.0 - 1e-6
_LEAST = 1e-6


def noisy_or(truth: Float[Tensor, " instance"]) -> Float[Tensor, ""]:
    """1 − Π (1 − t) of independent events; 0 of none.

    >>> round(float(noisy_or(torch.tensor([0.5, 0.5]))), 3)
    0.75
    """
    return -torch.expm1(torch.log1p(-truth.clamp(0.0, _SUREST)).sum())


def some_fits(truth: Float[Tensor, " instance"]) -> Float[Tensor, ""]:
    """−log of the noisy-or: 0 iff some instance fits for certain; bounded where none fits at all."""
    return -noisy_or(truth).clamp_min(_LEAST).log()


def of_labels(probabilities: Float[Tensor, "box leaf"], labels: frozenset[int]) -> Float[Tensor, " box"]:
    """The probability of each proposal to be of one of the labels."""
    return probabilities[:, sorted(labels)].sum(1)


def negatives(probabilities: Float[Tensor, "box leaf"], impossible: Bool[Tensor, "box class"]) -> Float[Tensor, ""]:
    """The mean over proposals of −log (1 − probability of a class that it cannot have); 0 without proposals."""
    wrong = (probabilities[:, 1:] * impossible).sum(1).clamp(max=_SUREST)
    return -torch.log1p(-wrong).sum() / max(1, len(wrong))
