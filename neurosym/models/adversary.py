"""The adversary: what was filtered out is mixed into what was kept, as badly as possible, and the class must still be seen.

The founding paper (Cheng & Wu, IJCAI 2022) puts "an adversarial loss on what was filtered out"; our reading is a min–max game.
With f the embedding of a kept positive of class c, g₁ … g_m those of rejected samples of c, and h the classifier,

    L = max over α in the simplex, Σ αⱼ ≤ ε of  CE(h(f + Σ αⱼ (gⱼ − f)), c)

The inner maximum of a convex function over a simplex lies in a corner: one filler, mixed in by ε, or none. For a linear h it
is found exactly by trying all. The detector minimises: its features of a target must be told from those of the filler of its
own box even where both are seen at once. Rejected samples count in proportion to their evidence, so that plain background,
which teaches nothing, is not what is mixed in. (Mixing with the worst one is adversarial training, Madry et al., ICLR 2018,
within the span of the rejected, in place of a ball of noise.)

A dense detector has a classifier hₐ for each kind of anchor and a sigmoid for each class: CE is then the negative
log-likelihood of independent classes, −log σ_c − Σ_{k≠c} log (1 − σₖ). It is the focal loss without its weights, which are
there for the many easy negatives, of which this loss has none, and with which it would not be convex. As hₐ is linear,
hₐ(f + α (g − f)) = hₐ(f) + α (hₐ(g) − hₐ(f)): nothing but logits has to be mixed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
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
    alone = F.cross_entropy(classify(own), names, reduction="none")
    return _worst(alone, losses.reshape(mixtures.shape[:2]), same)


def dense_adversarial_loss(
    kept: Float[Tensor, "kept class"],
    labels: Int[Tensor, " kept"],
    rejected: Float[Tensor, "kept rejected class"],
    rejected_labels: Int[Tensor, " rejected"],
    weight: Float[Tensor, " rejected"],
    mixed: float = MIXED,
) -> Float[Tensor, ""]:
    """`adversarial_loss` where each kept sample has a linear classifier of its own and each class a sigmoid.

    Args:
        kept: logits hₐ(f) of positives, without a background; `labels` count classes from 1.
        rejected: hₐ(g), the logits that each kept sample's own classifier gives to each rejected one; their gradient should
            reach the classifiers alone, else what fills a box is made to look like what should be in it.
        rejected_labels, weight, mixed: as in `adversarial_loss`.

    Invariants: those of `adversarial_loss`.
    """
    same = labels[:, None] == rejected_labels[None]
    if not bool(same.any()):
        return kept.sum() * 0.0 + rejected.sum() * 0.0
    rows = same.any(1)
    own, same = kept[rows], same[rows]
    truth = F.one_hot(labels[rows] - 1, kept.shape[1]).to(kept.dtype)
    share = (mixed * weight.clamp(0.0, 1.0))[None, :, None]
    mixtures = own[:, None] + share * (rejected[rows] - own[:, None])
    truths = truth[:, None].expand_as(mixtures)
    losses = F.binary_cross_entropy_with_logits(mixtures, truths, reduction="none").sum(2)
    alone = F.binary_cross_entropy_with_logits(own, truth, reduction="none").sum(1)
    return _worst(alone, losses, same)


def _worst(
    alone: Float[Tensor, " kept"], mixtures: Float[Tensor, "kept rejected"], same: Bool[Tensor, "kept rejected"]
) -> Float[Tensor, ""]:
    """Mean over kept samples of the highest loss, alone or after a mixture with one of the same class."""
    worst = mixtures.masked_fill(~same, -torch.inf).max(1).values
    return torch.maximum(worst, alone).mean()
