"""The adversary: what was filtered out is mixed into what was kept, as badly as possible, and the class must still be seen.

The founding paper (Cheng & Wu, IJCAI 2022) puts "an adversarial loss on what was filtered out"; our reading is a min–max game.
With f the embedding of a kept positive of class c, g₁ … g_m those of rejected samples of c, and h the classifier,

    L = max over α in the simplex, Σ αⱼ ≤ ε of  CE(h(f + Σ αⱼ (gⱼ − f)), c)

The inner maximum of a convex function over a simplex lies in a corner: one filler, mixed in by ε, or none. For a linear h it
is found exactly by trying all. The detector minimises: its features of a target must be told from those of the filler of its
own box even where both are seen at once. Rejected samples count in proportion to their evidence, so that plain background,
which teaches nothing, is not what is mixed in. (Mixing with the worst one is adversarial training, Madry et al., ICLR 2018,
within the span of the rejected, in place of a ball of noise.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

MIXED = 0.5
"""ε: the most that a filler may make up of a feature."""


def adversarial_loss(
    kept: Float[Tensor, "kept channel"],
    labels: Int[Tensor, " kept"],
    rejected: Float[Tensor, "rejected channel"],
    rejected_labels: Int[Tensor, " rejected"],
    weight: Float[Tensor, " rejected"],
    classify: Callable[[Tensor], Tensor],
    mixed: float = MIXED,
) -> Float[Tensor, ""]:
    """Mean over kept samples of the cross-entropy after the worst mixture with a rejected one of the same class.

    Args:
        kept, labels: embeddings of positives and their classes.
        rejected, rejected_labels, weight: of filtered ones, with their evidence in [0, 1], which scales ε.
        classify: embeddings → logits, linear (or as good as).
        mixed: ε.

    Invariants: 0 with a gradient of 0 if nothing was kept or nothing rejected; never below the cross-entropy of `kept`.
    """
    same = labels[:, None] == rejected_labels[None]
    if not bool(same.any()):
        return kept.sum() * 0.0 + rejected.sum() * 0.0
    rows = same.any(1)
    own, names, same = kept[rows], labels[rows], same[rows]
    share = (mixed * weight.clamp(0.0, 1.0))[None, :, None]
    mixtures = own[:, None] + share * (rejected.detach()[None] - own[:, None])
    logits = classify(mixtures.flatten(0, 1))
    losses = F.cross_entropy(logits, names.repeat_interleave(len(rejected)), reduction="none")
    worst = losses.reshape(mixtures.shape[:2]).masked_fill(~same, -torch.inf).max(1).values
    alone = F.cross_entropy(classify(own), names, reduction="none")
    return torch.maximum(worst, alone).mean()
