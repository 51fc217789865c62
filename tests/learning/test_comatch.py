"""CoMatch's equations against loops written from the paper, invariants, and a toy problem that the graph solves better."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from neurosym.knowledge import Knowledge
from neurosym.knowledge.similarity import class_similarity
from neurosym.learning.comatch import (
    Alignment,
    MemoryBank,
    class_loss,
    graph_loss,
    label_graph,
    label_similarity,
    row_normalised,
    smoothed,
)
from neurosym.models.embedding import EmbeddingHead

SEEDS = st.integers(0, 10_000)


def drawn(seed: int, rows: int, classes: int = 4, channels: int = 5) -> tuple[Tensor, Tensor]:
    """Probabilities and unit embeddings."""
    g = torch.Generator().manual_seed(seed)
    p = (3 * torch.randn(rows, classes, generator=g, dtype=torch.float64)).softmax(1)
    return p, F.normalize(torch.randn(rows, channels, generator=g, dtype=torch.float64), dim=1)


def similarity_kernel(classes: int = 4) -> Tensor:
    """Classes 0 and 1 are siblings, 2 and 3 are strangers to all."""
    kernel = torch.eye(classes, dtype=torch.float64)
    kernel[0, 1] = kernel[1, 0] = 0.4
    return kernel


@given(SEEDS, st.integers(1, 5), st.integers(1, 7), st.floats(0, 0.99))
def test_smoothing_is_the_loop_over_the_bank(seed: int, rows: int, entries: int, keep: float) -> None:
    (p, z), (others_p, others_z) = drawn(seed, rows), drawn(seed + 1, entries)
    got = smoothed(p, z, (others_z, others_p), keep, 0.2)
    for b in range(rows):
        a = [math.exp(float(z[b] @ others_z[k]) / 0.2) for k in range(entries)]
        for c in range(4):
            neighbours = sum(a[k] / sum(a) * float(others_p[k, c]) for k in range(entries))
            assert float(got[b, c]) == pytest.approx(keep * float(p[b, c]) + (1 - keep) * neighbours, abs=1e-9)
    torch.testing.assert_close(got.sum(1), torch.ones(rows, dtype=torch.float64))


@given(SEEDS)
def test_a_smoothed_label_minimises_the_papers_objective(seed: int) -> None:
    """α |q − p|² + (1 − α) Σ a_k |q − p_k|² (eq. 5) has its minimum where its gradient is 0."""
    (p, z), (others_p, others_z) = drawn(seed, 1), drawn(seed + 1, 6)
    q = smoothed(p, z, (others_z, others_p), 0.7, 0.2).requires_grad_()
    a = (z @ others_z.T / 0.2).softmax(1)[0]
    objective = 0.7 * (q - p).square().sum() + 0.3 * (a * (q - others_p).square().sum(1)).sum()
    (gradient,) = torch.autograd.grad(objective, q)
    assert gradient.abs().max() < 1e-9


@given(SEEDS)
def test_smoothing_with_alpha_1_or_an_empty_bank_is_the_identity(seed: int) -> None:
    (p, z), (others_p, others_z) = drawn(seed, 3), drawn(seed + 1, 6)
    assert torch.equal(smoothed(p, z, (others_z, others_p), 1.0, 0.2), p)
    assert torch.equal(smoothed(p, z, (others_z[:0], others_p[:0]), 0.5, 0.2), p)


@given(SEEDS, st.floats(0, 1), st.booleans())
def test_the_label_graph_is_the_loop_over_pairs(seed: int, threshold: float, past: bool) -> None:
    q, _ = drawn(seed, 5)
    more, _ = drawn(seed + 1, 3)
    kernel = similarity_kernel()
    got = label_graph(q, threshold, kernel, more if past else None)
    columns = torch.cat([q, more]) if past else q
    assert got.shape == (5, len(columns))
    for b in range(5):
        for j in range(len(columns)):
            s = sum(float(q[b, c] * kernel[c, d] * columns[j, d]) for c in range(4) for d in range(4))
            truth = 1.0 if b == j else s if s >= threshold else 0.0
            if abs(s - threshold) > 1e-9:
                assert float(got[b, j]) == pytest.approx(truth, abs=1e-12)


@given(SEEDS, st.integers(1, 5), st.integers(0, 4))
def test_the_graph_loss_is_the_loop_over_rows(seed: int, rows: int, more: int) -> None:
    (q, z), (others_q, others_z) = drawn(seed, rows), drawn(seed + 1, rows + more)
    graph = label_graph(q, 0.3, None, others_q[rows:])
    got = graph_loss(graph, z, others_z, 0.2)
    total = 0.0
    for b in range(rows):
        near = [math.exp(float(z[b] @ others_z[j]) / 0.2) for j in range(rows + more)]
        for j in range(rows + more):
            total -= float(graph[b, j] / graph[b].sum()) * math.log(near[j] / sum(near))
    assert float(got) == pytest.approx(total / rows, abs=1e-9)


@given(SEEDS)
def test_the_identity_kernel_is_plain_comatch(seed: int) -> None:
    """The paper's W^q (eq. 8): q_b · q_j where that is at least T, and loops of 1."""
    q, _ = drawn(seed, 6)
    plain = q @ q.T
    plain.fill_diagonal_(1.0)
    plain = plain * (plain >= 0.5)
    assert torch.equal(label_graph(q, 0.5), plain)
    torch.testing.assert_close(label_graph(q, 0.5, torch.eye(4, dtype=torch.float64)), plain, rtol=0, atol=1e-15)


@given(SEEDS)
def test_rows_of_the_normalised_graph_sum_to_1(seed: int) -> None:
    q, _ = drawn(seed, 6)
    for threshold in (0.0, 0.5, 1.0):
        rows = row_normalised(label_graph(q, threshold, similarity_kernel()))
        torch.testing.assert_close(rows.sum(1), torch.ones(6, dtype=torch.float64))


def test_a_graph_of_equal_sure_labels_is_all_ones_and_of_different_ones_the_loops_alone() -> None:
    assert (label_graph(torch.tensor([[0.0, 1.0]]).expand(4, 2), 0.8) == 1).all()
    assert torch.equal(label_graph(torch.eye(4), 0.8), torch.eye(4))


@given(SEEDS)
def test_the_loss_is_the_entropy_of_the_label_graph_where_the_two_graphs_are_equal_and_else_more(seed: int) -> None:
    q, z = drawn(seed, 4)
    graph = label_graph(q, 0.0)
    wanted = row_normalised(graph)
    entropy = float(-(wanted * wanted.log()).sum(1).mean())
    # embeddings (rows of the identity) whose similarities are the logarithms of the wanted graph
    met = graph_loss(graph, torch.eye(4, dtype=torch.float64), wanted.log().T, 1.0)
    assert float(met) == pytest.approx(entropy, abs=1e-9)
    assert float(graph_loss(graph, z, z, 0.2)) >= entropy - 1e-12


def test_where_no_labels_agree_the_graph_loss_is_infonce() -> None:
    _, z = drawn(0, 5)
    _, other = drawn(1, 5)
    truth = F.cross_entropy(z @ other.T / 0.2, torch.arange(5))
    torch.testing.assert_close(graph_loss(torch.eye(5, dtype=torch.float64), z, other, 0.2), truth)


def test_terms_of_no_samples_are_0_with_a_gradient() -> None:
    z, logits = torch.zeros(0, 5, requires_grad=True), torch.zeros(0, 3, requires_grad=True)
    loss = graph_loss(torch.zeros(0, 2), z, torch.zeros(2, 5), 0.2) + class_loss(logits, torch.zeros(0, 3), 0.9)
    loss.backward()
    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert logits.grad is not None


def test_only_sure_labels_teach_the_classifier_and_the_mean_is_over_all() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.5, 0.0], [0.0, 1.0]])
    labels = torch.tensor([[0.96, 0.04], [0.6, 0.4], [0.02, 0.98]])
    log = logits.log_softmax(1)
    truth = sum(-(labels[b] * log[b]).sum() for b in (0, 2)) / 3
    torch.testing.assert_close(class_loss(logits, labels, 0.95), truth)


@given(SEEDS, st.integers(1, 6))
def test_the_bank_wraps_round_and_keeps_the_last(seed: int, size: int) -> None:
    g = torch.Generator().manual_seed(seed)
    bank, told = MemoryBank(size, 2, 3), []
    for _ in range(6):
        count = int(torch.randint(0, 9, (), generator=g))
        z, p = torch.randn(count, 2, generator=g), torch.rand(count, 3, generator=g)
        bank.add(z, p)
        told += list(zip(z.tolist(), p.tolist(), strict=True))
        assert bank.full == (len(told) >= size)
        kept = zip(*(v.tolist() for v in bank.filled()), strict=True)
        assert sorted(kept) == sorted(told[-size:])


def test_what_a_bank_gave_does_not_change_when_more_is_added() -> None:
    bank = MemoryBank(2, 1, 1)
    bank.add(torch.ones(2, 1), torch.ones(2, 1))
    given_out = bank.filled()
    bank.add(torch.zeros(2, 1), torch.zeros(2, 1))
    assert given_out[0].tolist() == [[1], [1]]


@given(SEEDS)
def test_alignment_is_the_loop_over_the_last_batches(seed: int) -> None:
    aligner, batches = Alignment(4, window=3).double(), []
    for step in range(5):
        p, _ = drawn(seed + step, 6)
        batches.append(p)
        got = aligner(p)
        mean = [sum(float(b[:, c].mean()) for b in batches[-3:]) / len(batches[-3:]) for c in range(4)]
        for row in range(6):
            raised = [float(p[row, c]) / mean[c] for c in range(4)]
            assert got[row].tolist() == pytest.approx([v / sum(raised) for v in raised], rel=1e-9)


def test_alignment_gives_a_neglected_class_its_share() -> None:
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    aligned = Alignment(2)(p)
    assert (aligned[:, 1] > p[:, 1]).all()
    assert aligned[2, 1] > 0.5


def test_two_labels_that_are_surely_pneumonia_have_an_edge_only_if_the_hierarchy_counts(thorax: Knowledge) -> None:
    names = ("no_finding_study", "bacterial_pneumonia_study", "viral_pneumonia_study")
    kernel = torch.tensor(class_similarity(thorax.ontology, names, "lin"))
    either, normal, bacterial = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    both = torch.stack([either, either])
    assert label_graph(both, 0.6)[0, 1] == 0
    assert label_graph(both, 0.6, kernel)[0, 1] > 0.6
    alike = label_similarity(either[None], torch.stack([bacterial, normal]), kernel)
    assert alike[0, 0] > 0.6
    assert alike[0, 1] == 0


def test_free_embeddings_under_the_graph_loss_come_to_lie_siblings_nearer_than_strangers() -> None:
    q = F.one_hot(torch.arange(30) % 3, 3).double()
    kernel = similarity_kernel(3)
    apart = {}
    for name, k in (("plain", None), ("hierarchy", kernel)):
        torch.manual_seed(0)
        free = torch.randn(30, 8, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([free], 0.05)
        for _ in range(150):
            z = F.normalize(free, dim=1)
            loss = graph_loss(label_graph(q, 0.2, k), z, z, 0.2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        z = F.normalize(free.detach(), dim=1)
        of = [z[c::3].mean(0) for c in range(3)]
        apart[name] = float(of[0] @ of[1]), float(of[0] @ of[2])
    siblings, strangers = apart["hierarchy"]
    assert siblings > strangers + 0.5
    assert abs(apart["plain"][0] - apart["plain"][1]) < 0.1


SIGNAL, NUISANCE, CLASSES = 4, 24, 6


class Toy(nn.Module):
    """Class logits and embeddings of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(SIGNAL + NUISANCE, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.classifier, self.embedding = nn.Linear(64, CLASSES), EmbeddingHead(64, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.trunk(x)
        return self.classifier(hidden), self.embedding(hidden)


def accuracy(seed: int, graph: bool) -> float:
    """Two clusters a class in four dimensions, among 24 that say nothing and that views draw anew; one label a cluster."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    centres = 2 * F.normalize(torch.randn(2 * CLASSES, SIGNAL, generator=g), dim=1)
    cluster = torch.arange(360) % (2 * CLASSES)
    y = cluster % CLASSES
    signal = centres[cluster] + 0.5 * torch.randn(360, SIGNAL, generator=g)
    x = torch.cat([signal, torch.randn(360, NUISANCE, generator=g)], 1)
    labelled = torch.arange(2 * CLASSES)
    sure = F.one_hot(y[labelled], CLASSES).float()
    net, bank, align = Toy(), MemoryBank(256, 16, CLASSES), Alignment(CLASSES)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)

    def view(x: Tensor, share: float) -> Tensor:
        moved = x[:, :SIGNAL] + 0.1 * torch.randn(len(x), SIGNAL, generator=g)
        anew = torch.rand(len(x), NUISANCE, generator=g) < share
        rest = torch.where(anew, torch.randn(len(x), NUISANCE, generator=g), x[:, SIGNAL:])
        return torch.cat([moved, rest], 1)

    for _ in range(200):
        others = x[torch.randperm(len(x), generator=g)[:72]]
        logits, z = net(view(x[labelled], 0.1))
        loss = F.cross_entropy(logits, y[labelled])
        with torch.no_grad():
            seen, weak = net(view(others, 0.1))
            told = align(seen.softmax(1))
            guessed = told
            if graph and bank.full:
                guessed = smoothed(told, weak, bank.filled(), 0.7, 0.1)
            bank.add(torch.cat([weak, z.detach()]), torch.cat([told, sure]))
        logits, one = net(view(others, 0.5))
        loss = loss + class_loss(logits, guessed, 0.8)
        if graph:
            _, other = net(view(others, 0.5))
            loss = loss + 3.0 * graph_loss(label_graph(guessed, 0.8), one, other, 0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float((net(x)[0].argmax(1) == y).float().mean())


def test_the_graph_beats_plain_pseudo_labels_where_labels_are_few_and_most_features_say_nothing() -> None:
    gains = [accuracy(seed, graph=True) - accuracy(seed, graph=False) for seed in (0, 1, 2)]
    assert min(gains) > 0
    assert sum(gains) / 3 > 0.05
