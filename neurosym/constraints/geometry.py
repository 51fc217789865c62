"""The soft spatial words: ``sigmoid(margin / temperature)`` of the margins in `neurosym.knowledge.geometry`."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.constraints.compile import WORDS
from neurosym.knowledge.geometry import PREDICATES


def soft_words(boxes: Float[Tensor, "box 4"], temperature: float = 0.1) -> Float[Tensor, "word box box"]:
    """Truth in [0, 1] of every word for every ordered pair of boxes, in the order that compiled rules index.

    The first ``len(WORDS)`` slices are word(n, m), the next as many word(m, n), the last one is all true. As the temperature
    goes to 0 each slice goes to its crisp predicate; gradients stay finite because every margin is bounded below by the boxes'
    own sides.
    """
    first, second = boxes[:, None, :], boxes[None, :, :]
    margins = torch.stack([PREDICATES[w](first, second, torch) for w in WORDS])
    truth = torch.sigmoid(margins / temperature)
    return torch.cat([truth, truth.transpose(1, 2), torch.ones_like(truth[:1])])
