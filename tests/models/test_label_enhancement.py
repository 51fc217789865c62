"""Label enhancement: the graph and its propagation against loops over their definitions; what it may and may not change."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from neurosym.models.label_enhancement import ObjectMemory, affinity, keeping, label_distributions, propagate


def cloud(seed: int, nodes: int, channels: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(nodes, channels, generator=generator, dtype=torch.float64)


def graph_by_loops(features: Tensor, neighbours: int) -> Tensor:
    """Ŵ as the module's docstring defines it, number by number."""
    unit = [f / f.norm() for f in features]
    count = len(unit)
    squared = [[float((a - b).square().sum()) for b in unit] for a in unit]
    near = [sorted((j for j in range(count) if j != i), key=lambda j: squared[i][j])[:neighbours] for i in range(count)]
    scale = sum(squared[i][near[i][-1]] for i in range(count)) / count
    weight = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            if j in near[i] or i in near[j]:
                weight[i, j] = math.exp(-squared[i][j] / (2 * scale))
    degree = weight.sum(1)
    return torch.tensor(
        [[float(weight[i, j] / (degree[i] * degree[j]).sqrt()) for j in range(count)] for i in range(count)],
        dtype=torch.float64,
    )


@given(st.integers(0, 1000), st.integers(2, 12), st.integers(1, 4))
def test_the_graph_links_each_node_with_its_nearest_by_a_gaussian_of_their_distance(
    seed: int, nodes: int, neighbours: int
) -> None:
    features = cloud(seed, nodes)
    found = affinity(features, neighbours)
    assert torch.allclose(found, graph_by_loops(features, min(neighbours, nodes - 1)), atol=1e-9)
    assert torch.equal(found, found.T)
    assert torch.allclose(found, affinity(7.0 * features, neighbours), atol=1e-9)  # directions alone count
    assert torch.linalg.eigvalsh(found).abs().max() <= 1 + 1e-9


@pytest.mark.parametrize("nodes", [1, 2, 6])
def test_a_graph_of_few_or_of_equal_nodes_has_no_undefined_number(nodes: int) -> None:
    for features in (torch.ones(nodes, 4), torch.zeros(nodes, 4)):
        assert torch.isfinite(affinity(features, 3)).all()
    assert float(affinity(torch.ones(nodes, 4), 3).sum()) == pytest.approx(0.0 if nodes == 1 else nodes, rel=0.3)


@given(st.integers(0, 1000), st.integers(1, 12), st.floats(0, 0.95))
def test_propagation_is_the_limit_of_its_iteration_and_the_inverse_of_its_definition(
    seed: int, nodes: int, alpha: float
) -> None:
    graph = affinity(cloud(seed, nodes), 3)
    labels = torch.rand(nodes, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = propagate(graph, labels, alpha)
    identity = torch.eye(nodes, dtype=torch.float64)
    assert torch.allclose(found, (1 - alpha) * torch.linalg.inv(identity - alpha * graph) @ labels, atol=1e-9)
    walked = torch.zeros_like(labels)
    for _ in range(600):
        walked = alpha * graph @ walked + (1 - alpha) * labels
    assert torch.allclose(found, walked, atol=1e-9)
    assert bool((found >= (1 - alpha) * labels - 1e-12).all())


@given(st.integers(0, 1000), st.integers(1, 20), st.floats(0, 0.99), st.floats(0.51, 1.0), st.booleans(), st.booleans())
def test_enhanced_labels_are_distributions_that_never_relabel(
    seed: int, nodes: int, alpha: float, keep: float, balance: bool, related: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (nodes,), generator=generator)
    relations = torch.eye(4, dtype=torch.float64)
    if related:
        relations = (relations + torch.rand(4, 4, generator=generator, dtype=torch.float64)).softmax(1)
    found = label_distributions(cloud(seed, nodes), labels, relations, alpha, 3, keep, balance)
    assert torch.allclose(found.sum(1), torch.ones(nodes, dtype=torch.float64))
    assert bool((found >= 0).all())
    assert torch.equal(found.argmax(1), labels)
    assert bool((found.gather(1, labels[:, None]) >= keep - 1e-9).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("balance", [True, False])
def test_without_neighbours_share_labels_stay_exactly_one_hot(dtype: torch.dtype, balance: bool) -> None:
    labels = torch.tensor([0, 1, 1, 2, 2, 2, 2])
    found = label_distributions(cloud(3, 7).to(dtype), labels, torch.eye(3, dtype=dtype), 0.0, 4, 0.6, balance)
    assert torch.equal(found, F.one_hot(labels, 3).to(dtype))


def test_keeping_shrinks_other_classes_in_proportion_and_leaves_alone_what_is_sure() -> None:
    propagated = torch.tensor([[1.0, 3.0, 6.0], [8.0, 1.0, 1.0]], dtype=torch.float64)
    found = keeping(propagated, torch.tensor([0, 0]), 0.6)
    assert torch.allclose(found, torch.tensor([[0.6, 0.4 / 3, 0.8 / 3], [0.8, 0.1, 0.1]], dtype=torch.float64))


def test_an_object_among_those_of_another_class_is_described_by_both() -> None:
    near_zero, near_one = torch.tensor([[1.0, 0.02]]), torch.tensor([[0.02, 1.0]])
    features = torch.cat([near_zero.expand(5, 2), near_one.expand(5, 2)])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])  # the fifth looks like class 0
    found = label_distributions(features, labels, torch.eye(2), 0.8, 4, 0.6)
    assert float(found[4, 0]) == pytest.approx(0.4)
    assert float(found[0, 0]) > 0.8
    assert float(found[9, 1]) > 0.99


def test_balanced_labels_say_what_is_likelier_were_all_classes_as_frequent() -> None:
    # one object of class 1 beside eight of class 0, all of them alike
    labels = torch.tensor([0] * 8 + [1])
    same = torch.ones(9, 3)
    plain = label_distributions(same, labels, torch.eye(2), 0.9, 8, 0.51, balance=False)
    balanced = label_distributions(same, labels, torch.eye(2), 0.9, 8, 0.51, balance=True)
    assert float(plain[0, 1]) < 0.2
    # Ŵ is 1 along the mean of the nodes and −1/8 across it: F = ½ of each class, but for what a node keeps of its own
    kept = 0.1 / (1 + 0.9 / 8)
    own, other = kept * (1 / 8 - 1 / 9) + 1 / 9, kept * (0 - 1 / 9) + 1 / 9
    assert float(balanced[0, 1]) == pytest.approx(other / (own + other), abs=1e-6)
    assert float(balanced[0, 1]) > 0.47
    assert float(balanced[8, 1]) > float(plain[8, 1])


def test_related_classes_receive_a_share_of_a_label() -> None:
    relations = torch.tensor([[0.8, 0.2, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    apart = torch.eye(3).repeat_interleave(2, 0)
    found = label_distributions(apart, torch.tensor([0, 0, 1, 1, 2, 2]), relations, 0.5, 1, 0.6)
    expected = torch.tensor([[0.8, 0.2, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]]).repeat_interleave(2, 0)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_memory_forgets_the_oldest_of_each_class_and_no_class_crowds_out_another() -> None:
    memory = ObjectMemory(2, 4, 1)  # a step replaces one of four
    memory.remember(torch.tensor([[100.0]]), torch.tensor([1]))
    for step in range(6):
        memory.remember(torch.full((3, 1), float(step)), torch.tensor([0, 0, 0]))
    features, labels = memory.recall()
    assert sorted(features[labels == 0, 0].tolist()) == [2.0, 3.0, 4.0, 5.0]
    assert features[labels == 1, 0].tolist() == [100.0]


def test_a_memory_takes_objects_from_all_of_a_step() -> None:
    memory = ObjectMemory(1, 8, 1)  # two of a step
    memory.remember(torch.arange(10.0)[:, None], torch.zeros(10, dtype=torch.long))
    assert memory.recall()[0][:, 0].tolist() == [0.0, 5.0]


def test_a_memory_is_in_the_state_of_its_model() -> None:
    memory = ObjectMemory(3, 8, 2)
    memory.remember(cloud(0, 6, 2).float(), torch.tensor([0, 0, 1, 1, 1, 2]))
    other = ObjectMemory(3, 8, 2)
    other.load_state_dict(memory.state_dict())
    for a, b in zip(memory.recall(), other.recall(), strict=True):
        assert torch.equal(a, b)


def two_gaussians(seed: int, counts: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples of two classes that overlap, and balanced ones to test on."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.zeros(2, 6, dtype=torch.float64)
    centre[:, 0], centre[0, 1], centre[1, 1] = 4.0, -1.0, 1.0

    def draw(counts: tuple[int, int]) -> tuple[Tensor, Tensor]:
        labels = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
        noise = torch.randn(len(labels), 6, generator=generator, dtype=torch.float64)
        return centre[labels] + noise, labels

    return *draw(counts), *draw((2000, 2000))


def recalls(target: Tensor, x: Tensor, tests: Tensor, truth: Tensor) -> tuple[float, float]:
    """Recall of the rare class and accuracy on balanced tests of a logistic regression that was fitted to targets."""
    torch.manual_seed(0)
    model = nn.Linear(x.shape[1], 2).double()
    fit = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        fit.zero_grad()
        value = -(target * model(x).log_softmax(1)).sum(1).mean()
        value.backward()
        return value

    fit.step(loss)
    found = model(tests).argmax(1)
    return float((found[truth == 1] == 1).double().mean()), float((found == truth).double().mean())


@pytest.mark.parametrize(("seed", "before", "after"), [(0, 0.40, 0.64), (1, 0.37, 0.68), (2, 0.44, 0.69)])
def test_a_classifier_of_enhanced_labels_recalls_more_of_a_rare_class(seed: int, before: float, after: float) -> None:
    x, labels, tests, truth = two_gaussians(seed, (400, 20))
    hard = F.one_hot(labels, 2).double()
    soft = label_distributions(x, labels, torch.eye(2, dtype=torch.float64), 0.5, 8, 0.6)
    (rare, accuracy), (rare_soft, accuracy_soft) = recalls(hard, x, tests, truth), recalls(soft, x, tests, truth)
    assert (rare, rare_soft) == pytest.approx((before, after), abs=0.02)  # those of docs/imbalance.md
    assert 0.09 < accuracy_soft - accuracy < 0.13
    plain = label_distributions(x, labels, torch.eye(2, dtype=torch.float64), 0.5, 8, 0.6, balance=False)
    assert recalls(plain, x, tests, truth)[0] < rare  # it is the balance that does it


@pytest.mark.parametrize("seed", range(2))
def test_enhanced_labels_of_classes_as_frequent_change_little(seed: int) -> None:
    x, labels, tests, truth = two_gaussians(seed, (200, 200))
    soft = label_distributions(x, labels, torch.eye(2, dtype=torch.float64), 0.5, 8, 0.6)
    hard = F.one_hot(labels, 2).double()
    assert recalls(soft, x, tests, truth) == pytest.approx(recalls(hard, x, tests, truth), abs=0.005)
