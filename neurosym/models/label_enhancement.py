"""Label enhancement on a graph: from the class of each annotated object to how much every class describes it.

A one-hot label says as much of a typical object as of one that lies among those of another class. Label enhancement (Xu, Tao &
Geng, IJCAI 2018; Xu, Liu & Geng, TKDE 2021) recovers a distribution from where an instance lies among the others; Du, Zhang,
Jiang, Long, Lin, Li and Tan ("Graph-Based Class-Imbalance Learning With Label Enhancement", IEEE TNNLS 2021,
doi:10.1109/TNNLS.2021.3133262) do so against class imbalance: "numerical labels" are estimated in a graph while the model is
trained. Of that paper we could read the abstract alone, so its objective is not what is here. Here are the textbook parts:

    W_ij = exp(−|u_i − u_j|² / 2σ²)  for j among the k nearest of i, or i of j;  0 else      u: unit features, σ: see below
    Ŵ = D^−½ W D^−½,  D = diag(W 1)
    F ← α Ŵ F + (1 − α) Y,   whose limit is   F = (1 − α)(I − α Ŵ)⁻¹ Y

(Zhou et al., Learning with local and global consistency, NeurIPS 2003; the iteration is the label enhancement "LP" that Xu et
al. compare with). Ours:

- *balance*: Y_ic = [y_i = c] / n_c. Every class sends out the same mass, as in class mass normalisation (Zhu, Ghahramani &
  Lafferty, ICML 2003), so that what reaches an object says how its surroundings look where all classes are as frequent.
- *relations between classes*: Y (I (1 − s) + s S), where S says how much of the ontology above them two classes share.
- *what is kept*: with p the normalised row of F and y the object's class,  d_y = max(p_y, keep)  and the rest shrinks in
  proportion. As keep > ½, the annotated class stays the likeliest: enhancement never relabels.
- *nodes are objects*, not samples: the mean embedding of the positives of an annotated object. Its own samples would be its
  nearest neighbours, and they all have its label.
- *memory*: a step shows too few objects for a graph, and of a rare class none. A bank keeps as many of each class.

What it does to two classes a, b that overlap at x, with densities n_a f_a and n_b f_b and distributions d: a model that fits
the targets decides for a where n_a f_a (d_a − ½) > n_b f_b (d_b − ½). One-hot labels have d = 1. With the balance the class
that is likelier at x *were both as frequent* has the greater d there, so the boundary moves from that of the skewed sample
towards that of a balanced one, by at most a factor (1 − ½) / (keep − ½).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

_TURNOVER = 4
"""A step replaces at most this part of a class's memory, so that a frequent class is remembered for some steps, too."""


def affinity(features: Float[Tensor, "node channel"], neighbours: int) -> Float[Tensor, "node node"]:
    """Ŵ, the normalised graph of the nearest neighbours (see above).

    σ² is the mean squared distance to the farthest neighbour that counts, so that no scale has to be chosen.

    Args:
        features: any scale; only their directions count.
        neighbours: k; all others where there are fewer.

    Invariants: symmetric, not negative, 0 on the diagonal, no eigenvalue outside [−1, 1].
    """
    count = len(features)
    near = min(neighbours, count - 1)
    if near < 1:
        return features.new_zeros(count, count)
    unit = F.normalize(features, dim=1)
    squared = (2.0 - 2.0 * unit @ unit.T).clamp_min(0.0).fill_diagonal_(torch.inf)
    nearest = squared.topk(near, largest=False)
    scale = nearest.values[:, -1].mean().clamp_min(1e-12)
    linked = torch.zeros_like(squared, dtype=torch.bool).scatter_(1, nearest.indices, True)
    weight = (-squared / (2.0 * scale)).exp() * (linked | linked.T)
    # the product of two unit vectors need not come out the same in both orders
    weight = (weight + weight.T) / 2.0
    root = weight.sum(1).clamp_min(torch.finfo(weight.dtype).tiny).rsqrt()
    return weight * (root[:, None] * root[None])


def propagate(
    graph: Float[Tensor, "node node"], labels: Float[Tensor, "node class"], alpha: float
) -> Float[Tensor, "node class"]:
    """F = (1 − α)(I − α Ŵ)⁻¹ Y, the limit of F ← α Ŵ F + (1 − α) Y from any start.

    Args:
        graph: Ŵ, as `affinity` gives it; I − α Ŵ is then positive definite and solved by its Cholesky factor.
        labels: Y, not negative.
        alpha: in [0, 1), the share that comes from the neighbours.

    Invariants: not negative (up to rounding), at least (1 − α) Y, exactly Y for α = 0.
    """
    system = torch.eye(len(graph), dtype=graph.dtype, device=graph.device) - alpha * graph
    return (1.0 - alpha) * torch.cholesky_solve(labels, torch.linalg.cholesky(system))


def keeping(
    propagated: Float[Tensor, "node class"], labels: Int[Tensor, " node"], keep: float
) -> Float[Tensor, "node class"]:
    """Rows as distributions in which the annotated class has at least `keep`; the others shrink in proportion.

    Args:
        propagated: not negative, and above 0 for the annotated class.
        labels: the annotated class of each row, from 0.
        keep: in (½, 1].

    Invariants: rows sum to 1, and their greatest entry is that of the annotated class.
    """
    shares = propagated.clamp_min(0.0)
    shares = shares / shares.sum(1, keepdim=True)
    own = shares.gather(1, labels[:, None])
    kept = own.clamp_min(keep)
    others = shares * ((1.0 - kept) / (1.0 - own).clamp_min(torch.finfo(own.dtype).tiny))
    return others.scatter(1, labels[:, None], kept)


def label_distributions(
    features: Float[Tensor, "node channel"],
    labels: Int[Tensor, " node"],
    relations: Float[Tensor, "class class"],
    alpha: float,
    neighbours: int,
    keep: float,
    balance: bool = True,
) -> Float[Tensor, "node class"]:
    """How much each class describes each node, by propagation on the graph of their features (see above).

    Args:
        features, labels: of the nodes; classes count from 0.
        relations: (1 − s) I + s S, the rows of which sum to 1; the identity where classes are not related.
        alpha, neighbours, keep: see `propagate`, `affinity` and `keeping`.
        balance: every class sends out the same mass, however many nodes it has.

    Invariants: those of `keeping`; exactly one-hot for α = 0 and unrelated classes.
    """
    truth = F.one_hot(labels, len(relations)).to(features.dtype)
    if balance:
        truth = truth / truth.sum(0).clamp_min(1.0)
    return keeping(propagate(affinity(features, neighbours), truth @ relations, alpha), labels, keep)


class ObjectMemory(nn.Module):
    """The last objects of each class: `slots` embeddings of each, the oldest replaced first. Buffers, so checkpoints have them.

    Args:
        classes: without the background.
        slots: of each class.
        channels: of an embedding.
    """

    features: Tensor
    seen: Tensor

    def __init__(self, classes: int, slots: int, channels: int) -> None:
        super().__init__()
        self.quota = max(1, slots // _TURNOVER)
        self.register_buffer("features", torch.zeros(classes, slots, channels))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.long))

    @torch.no_grad()
    def remember(self, features: Float[Tensor, "object channel"], labels: Int[Tensor, " object"]) -> None:
        """Take up objects, labels from 0; of a class that shows more than a part of its slots, some that are spread evenly."""
        slots = self.features.shape[1]
        for label in torch.unique(labels).tolist():
            own = (labels == label).nonzero()[:, 0]
            count = min(len(own), self.quota)
            chosen = own[torch.arange(count, device=own.device) * len(own) // count]
            places = (self.seen[label] + torch.arange(count, device=own.device)) % slots
            self.features[label, places] = features[chosen].to(self.features)
            self.seen[label] += count

    def merge(self, states: dict[str, Tensor]) -> None:
        """Remember what the first process does: objects cannot be averaged."""
        self.features.copy_(states["features"][0])
        self.seen.copy_(states["seen"][0])

    def recall(self) -> tuple[Float[Tensor, "node channel"], Int[Tensor, " node"]]:
        """What is remembered: embeddings and labels from 0, class by class."""
        slots = self.features.shape[1]
        filled = torch.arange(slots, device=self.seen.device)[None] < self.seen[:, None]
        return self.features[filled], filled.nonzero()[:, 0]
