"""How big objects of a class are, as the boxes that there are show: what marks and labels do not say.

Any box around a point holds it, the whole film too, so a bag of instances that knows no size learns boxes that are too big.
With the logarithms of the width and the height of the class's boxes as shares of the film's, their means μ and deviations σ,

    s_c(b) = exp(−½ Σ_{w, h} ((log side − μ_c) / (2 max(σ_c, 0.15)))²)

is 1 for a box of the usual size and one half at about 2.4 deviations on one side; it is 1 for all boxes of a class that has
fewer than `LEAST` of them. They are boxes as annotated, exact or not: their noise is small against the sizes that it excludes.
Ours; for masks from points, Bearman et al. (What's the point, ECCV 2016) set an objectness prior in the same place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.data.unread import unread
from neurosym.learning.batches import annotated_sizes
from neurosym.records import Sample

LEAST = 3
NARROWEST, WIDER = 0.15, 2.0


class ClassShapes:
    """Log sides of each class's boxes: `mean` and `deviation` (class, 2), NaN where nothing is known."""

    def __init__(self, mean: Float[Tensor, "class 2"], deviation: Float[Tensor, "class 2"]) -> None:
        self.mean, self.deviation = mean, deviation

    @classmethod
    def of(cls, samples: Sequence[Sample], names: Sequence[str]) -> ClassShapes:
        """From all boxes of a split."""
        sides, labels = [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.int64)]
        films = unread(samples)
        for n in range(len(films)):
            sample = films[n]
            boxes, own, _ = annotated_sizes([sample], names)
            height, width = sample.image.shape[:2]
            sides.append(((boxes[:, 2:] - boxes[:, :2]) / torch.tensor([width, height])).clamp_min(1e-6).log())
            labels.append(own)
        table, kinds = torch.cat(sides), torch.cat(labels)
        unknown = torch.full((2,), torch.nan)
        several = [table[kinds == c] for c in range(1, len(names) + 1)]
        mean = torch.stack([s.mean(0) if len(s) >= LEAST else unknown for s in several])
        deviation = torch.stack([s.std(0, correction=0) if len(s) >= LEAST else unknown for s in several])
        return cls(mean, deviation)

    def fit(self, boxes: Float[Tensor, "box 4"], size: tuple[float, float]) -> Float[Tensor, "box class"]:
        """s_c(b) of boxes on an image of (width, height) `size`."""
        sides = ((boxes[:, 2:] - boxes[:, :2]) / boxes.new_tensor(size)).clamp_min(1e-6).log()
        scale = WIDER * self.deviation.clamp_min(NARROWEST)
        away = (sides[:, None] - self.mean.to(boxes)) / scale.to(boxes)
        return torch.exp(-0.5 * away.square().sum(2)).nan_to_num(1.0)
