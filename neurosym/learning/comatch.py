"""CoMatch: class probabilities and embeddings that correct each other (Li, Xiong & Hoi, ICCV 2021).

For a sample b, a film or a region of one, let p_b be the class probabilities of its weak view and z_b a unit embedding.

    aligned     p_b ∝ p_b / p̄                        p̄: mean prediction of late (`Alignment`)
    smoothed    q_b = α p_b + (1 − α) Σ_k a_k p_k     a = softmax_k(z_b · z_k / t) over a bank of past samples (`smoothed`)
    labels      W^q_bj = 1 if b = j, else s(q_b, q_j) if that is at least T, else 0           (`label_graph`)
    embeddings  W^z_bj = exp(z_b · z'_j / t)          z of one strong view, z' of another     (`graph_loss`)
    graph loss  mean_b H(Ŵ^q_b, Ŵ^z_b)                Ŵ: rows divided by their sums
    class loss  mean_b [max q_b ≥ τ] H(q_b, p of the strong view)                             (`class_loss`)

The smoothed label is what minimises α |q − p_b|² + (1 − α) Σ_k a_k |q − p_k|². The other view is compared with throughout, as
the authors' program does, so that the columns may be of another network and go on with past samples (their version for
ImageNet, here for regions).

**Ours: the ontology is in the label graph.** In the paper s(q, r) = q · r: the chance that two labels drawn from them are the
same. A label is here a class with all its superclasses, and s(q, r) = q K rᵀ, the expected likeness of two labels drawn from
them, with K from `neurosym.knowledge.similarity`. Two samples that surely are some kind of pneumonia, though nobody knows
which, thus have an edge, and siblings a weaker one than equals; K = identity is the paper's graph exactly.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 32
"""Batches whose mean prediction is p̄, as in the authors' program."""


class MemoryBank(nn.Module):
    """The last `size` samples' embeddings and class probabilities; what is oldest is overwritten. Its state is its buffers."""

    embeddings: Tensor
    probabilities: Tensor
    written: Tensor

    def __init__(self, size: int, channels: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(size, channels))
        self.register_buffer("probabilities", torch.zeros(size, classes))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @property
    def full(self) -> bool:
        """Whether every place has been written."""
        return int(self.written) >= len(self.embeddings)

    @torch.no_grad()
    def add(self, embeddings: Float[Tensor, "sample channel"], probabilities: Float[Tensor, "sample class"]) -> None:
        """Remember samples in the place of the oldest; of more than fit, the last."""
        count, size = len(embeddings), len(self.embeddings)
        places = (int(self.written) + torch.arange(count, device=self.embeddings.device)) % size
        self.embeddings[places[-size:]] = embeddings[-size:].to(self.embeddings)
        self.probabilities[places[-size:]] = probabilities[-size:].to(self.probabilities)
        self.written += count

    def merge(self, states: dict[str, Tensor]) -> None:
        """Remember what the first process does: samples cannot be averaged."""
        for name, buffer in self.named_buffers():
            buffer.copy_(states[name][0])

    def filled(self) -> tuple[Float[Tensor, "entry channel"], Float[Tensor, "entry class"]]:
        """Copies of what is remembered, in no order that means anything; no entries at first."""
        count = min(int(self.written), len(self.embeddings))
        return self.embeddings[:count].clone(), self.probabilities[:count].clone()


class Alignment(nn.Module):
    """Distribution alignment: divides predictions by their mean over the last batches, so that no class takes all.

    It presumes that classes are about equally frequent. Its state is its buffers.
    """

    means: Tensor
    written: Tensor

    def __init__(self, classes: int, window: int = WINDOW) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(window, classes))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, probabilities: Float[Tensor, "sample class"]) -> Float[Tensor, "sample class"]:
        """Take the batch into account, and align it; rows sum to 1."""
        self.means[int(self.written) % len(self.means)] = probabilities.mean(0)
        self.written += 1
        mean = self.means[: min(int(self.written), len(self.means))].mean(0)
        aligned = probabilities / mean.clamp(min=torch.finfo(mean.dtype).tiny)
        return aligned / aligned.sum(1, keepdim=True)


def smoothed(
    probabilities: Float[Tensor, "sample class"],
    embeddings: Float[Tensor, "sample channel"],
    bank: tuple[Float[Tensor, "entry channel"], Float[Tensor, "entry class"]],
    keep: float,
    temperature: float,
) -> Float[Tensor, "sample class"]:
    """Pseudo-labels that agree with those of similar samples: q = α p + (1 − α) Σ_k a_k p_k, a = softmax(z · z_k / t).

    Args:
        probabilities, embeddings: p and z of the weak views.
        bank: z_k and p_k (`MemoryBank.filled`).
        keep, temperature: α and t.

    Invariants: rows sum to 1; α = 1, and an empty bank, change nothing.
    """
    others, opinions = bank
    if keep == 1.0 or not len(others):
        return probabilities
    weights = (embeddings @ others.T / temperature).softmax(1)
    return keep * probabilities + (1.0 - keep) * weights @ opinions


def label_similarity(
    labels: Float[Tensor, "sample class"],
    others: Float[Tensor, "other class"],
    kernel: Float[Tensor, "class class"] | None = None,
) -> Float[Tensor, "sample other"]:
    """s(q, r) = q K rᵀ, in [0, 1] for probabilities and a kernel in [0, 1]; without a kernel q · r."""
    return (labels if kernel is None else labels @ kernel) @ others.T


def label_graph(
    labels: Float[Tensor, "sample class"],
    threshold: float,
    kernel: Float[Tensor, "class class"] | None = None,
    past: Float[Tensor, "entry class"] | None = None,
) -> Float[Tensor, "sample column"]:
    """W^q: edges of weight s between pseudo-labels that are alike by at least `threshold`; loops of weight 1.

    Args:
        labels: q, one row a sample.
        threshold: T.
        kernel: K; None is the paper's.
        past: pseudo-labels of remembered samples, the columns after those of the samples themselves.
    """
    alike = label_similarity(labels, labels, kernel)
    alike = alike.masked_fill(torch.eye(len(labels), dtype=torch.bool, device=labels.device), 1.0)
    if past is not None:
        alike = torch.cat([alike, label_similarity(labels, past, kernel)], 1)
    return alike * (alike >= threshold)


def row_normalised(graph: Float[Tensor, "sample column"]) -> Float[Tensor, "sample column"]:
    """Ŵ: each row divided by its sum, which a loop keeps above 0."""
    return graph / graph.sum(1, keepdim=True)


def graph_loss(
    graph: Float[Tensor, "sample column"],
    embeddings: Float[Tensor, "sample channel"],
    others: Float[Tensor, "column channel"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Mean over samples of the cross-entropy H(Ŵ^q_b, Ŵ^z_b), with Ŵ^z_bj = exp(z_b · z'_j / t) / Σ_j exp(z_b · z'_j / t).

    Where W^q is the identity, this is InfoNCE between two views; where it joins all samples of a class, supervised
    contrastive learning (Khosla et al., NeurIPS 2020).

    Args:
        graph: W^q, not normalised.
        embeddings: z of one strong view.
        others: z' of another view of the samples, and of whatever further columns W^q has.
        temperature: t.

    Invariants: at least the mean entropy of Ŵ^q, and that only where Ŵ^z = Ŵ^q; 0 with a gradient of 0 without samples.
    """
    if not len(embeddings):
        return embeddings.sum() * 0.0
    near = (embeddings @ others.T / temperature).log_softmax(1)
    return -(row_normalised(graph) * near).sum(1).mean()


def class_loss(
    logits: Float[Tensor, "sample class"], labels: Float[Tensor, "sample class"], confidence: float
) -> Float[Tensor, ""]:
    """Mean over all samples of [max q ≥ τ] H(q, softmax of the strong view's logits); 0 without samples."""
    if not len(logits):
        return logits.sum() * 0.0
    sure = labels.max(1).values >= confidence
    return (F.cross_entropy(logits, labels, reduction="none") * sure).mean()
