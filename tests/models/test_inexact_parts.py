"""Centroids, votes, posterior, filter and adversary against sums written out, and on images whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import fastrcnn_loss

from neurosym.models.adversary import adversarial_loss
from neurosym.models.annotation_noise import FLOOR, NoiseModel
from neurosym.models.centroids import CentroidBank, cell_centres, evidence, within
from neurosym.models.inexact import sample_evidence
from neurosym.models.positives import kept_positives, weighted_offset_loss
from neurosym.models.posterior import SWAY, posterior, residuals, witnessed
from neurosym.models.votes import ClassSizes, VoteHead, Votes, read_votes

SIZE = (64.0, 48.0)


def brute_mean(grid: np.ndarray, box: np.ndarray, cell: float, fine: int = 40) -> tuple[float, float]:
    """Sum and area of a grid that is constant in each cell, over a box in pixels, by a fine raster."""
    height, width = grid.shape
    big = np.repeat(np.repeat(grid, fine, 0), fine, 1)
    y, x = (np.arange(n * fine) + 0.5 for n in (height, width))
    inside = ((y >= box[1] / cell * fine) & (y < box[3] / cell * fine))[:, None]
    inside = inside & ((x >= box[0] / cell * fine) & (x < box[2] / cell * fine))[None]
    return float(big[inside].sum()) / fine**2, float(inside.sum()) / fine**2


def test_evidence_is_the_mean_inside_times_what_the_ring_lacks() -> None:
    rng = np.random.default_rng(0)
    grid = rng.random((12, 16))
    boxes = np.array([[8, 8, 40, 30], [0, 0, 20, 12], [30.5, 20.25, 33.0, 23.5], [40, 30, 64, 48]])
    found = evidence(torch.tensor(grid)[None], torch.tensor(boxes)[None], SIZE)[0]
    for box, value in zip(boxes, found.tolist(), strict=True):
        inner, area = brute_mean(grid, box, 4.0)
        middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * 1.5
        outer, whole = brute_mean(grid, np.concatenate([middle - half, middle + half]), 4.0)
        assert value == pytest.approx(inner / area * (1 - (outer - inner) / (whole - area)), abs=0.02)


def test_evidence_is_highest_for_the_box_that_holds_its_class_and_no_more() -> None:
    grid = torch.zeros(1, 24, 32)
    grid[:, 8:16, 10:20] = 1.0
    true = torch.tensor([20.0, 16.0, 40.0, 32.0])
    others = torch.stack([true, true + torch.tensor([-6, -6, 6, 6]), true + torch.tensor([4, 4, -4, -4]), true + 6])
    found = evidence(grid, others[None], SIZE)[0]
    assert found.argmax() == 0
    assert found[0] == pytest.approx(1.0, abs=1e-6)


def test_the_evidence_of_samples_is_that_of_each_box_on_its_objects_map() -> None:
    rng = torch.Generator().manual_seed(0)
    maps = [torch.rand(12, 16, generator=rng) for _ in range(3)] + [torch.rand(6, 8, generator=rng)]
    corner = torch.rand(20, 2, generator=rng) * 30
    boxes = torch.cat([corner, corner + 3 + torch.rand(20, 2, generator=rng) * 15], 1)
    matched = torch.tensor([0, 3, 1, 0, 3] * 4)
    found = sample_evidence(boxes, matched, maps, SIZE)
    for n, k in enumerate(matched.tolist()):
        assert float(found[n]) == pytest.approx(float(evidence(maps[k][None], boxes[None, n : n + 1], SIZE)), abs=1e-6)
    assert sample_evidence(boxes[:0], matched[:0], [], SIZE).shape == (0,)


def test_a_map_without_a_centroid_is_all_background_and_rows_sum_to_one() -> None:
    bank = CentroidBank(2, 1, 8)
    shown = bank.map(0, torch.randn(8, 5, 6))
    assert torch.equal(shown[0], torch.ones(5, 6))
    bank.centroids.normal_()
    bank.seen[0, [0, 2]] = True
    shown = bank.map(0, torch.randn(8, 5, 6))
    assert shown.sum(0).allclose(torch.ones(5, 6), atol=1e-6)
    assert not shown[1].any()


def test_a_fed_bank_maps_each_class_to_its_own_cells() -> None:
    torch.manual_seed(0)
    directions = F.normalize(torch.randn(3, 16), dim=1)
    truth = torch.zeros(12, 16, dtype=torch.long)
    truth[2:7, 2:8], truth[7:11, 9:15] = 1, 2
    features = directions[truth].permute(2, 0, 1) * 3 + 0.1 * torch.randn(16, 12, 16)
    boxes = torch.tensor([[8.0, 8, 32, 28], [36, 28, 60, 44]])
    bank = CentroidBank(2, 1, 16)
    for _ in range(3):
        bank.update(0, [features], [SIZE], [boxes], [torch.tensor([1, 2])], [torch.ones(2)], [bank.map(0, features)])
    shown = bank.map(0, features).argmax(0)
    assert (shown == truth).float().mean() > 0.97


def test_a_small_box_within_a_larger_one_does_not_feed_the_larger_ones_centroid() -> None:
    features = torch.zeros(2, 12, 16)
    features[0] = 1.0
    features[:, 4:8, 6:10] = torch.tensor([0.0, 1.0])[:, None, None]
    boxes = torch.tensor([[4.0, 4, 60, 44], [24.0, 16, 40, 32]])
    bank = CentroidBank(2, 1, 2)
    bank.update(0, [features], [SIZE], [boxes], [torch.tensor([1, 2])], [torch.ones(2)], [bank.map(0, features)])
    assert bank.centroids[0, 2].tolist() == [0.0, 1.0]
    assert bank.centroids[0, 1, 0] > bank.centroids[0, 1, 1]
    cells = cell_centres(12, 16, SIZE, torch.device("cpu"))
    core = within(cells, boxes, 0.5).reshape(2, 12, 16)
    assert features[1][core[0]].mean() > 0  # the larger core does hold cells of the small one


def head(classes: int = 1) -> VoteHead:
    sizes = ClassSizes(classes)
    sizes.measure(torch.tensor([[10.0, 10, 26, 22]] * 2), torch.tensor([1, 1]), torch.full((2,), 64.0 * 48), 55.4)
    return VoteHead(8, classes, sizes)


def test_class_sizes_are_means_of_logarithms() -> None:
    sizes = ClassSizes(3)
    boxes = torch.tensor([[0.0, 0, 10, 20], [5, 5, 45, 25], [0, 0, 7, 7]])
    sizes.measure(boxes, torch.tensor([1, 1, 3]), torch.tensor([100.0**2, 200.0**2, 50.0**2]), 256.0)
    logs = np.log([[10 / 100, 20 / 100], [40 / 200, 20 / 200]])
    assert sizes.mean[0].tolist() == pytest.approx(logs.mean(0).tolist(), rel=1e-5)
    assert sizes.sides(torch.tensor([3]), (80.0, 20.0))[0].tolist() == pytest.approx([7 / 50 * 40] * 2, rel=1e-5)
    assert sizes.level.tolist()[0] == round(math.log2(math.exp(logs.mean()) * 256 / 8 / 4))


def test_the_vote_loss_is_zero_iff_every_cell_in_a_box_votes_for_it() -> None:
    torch.manual_seed(0)
    heads, box = head(), torch.tensor([[12.0, 8, 36, 30]])
    cells = cell_centres(12, 16, SIZE, torch.device("cpu"))
    side = heads.sizes.sides(torch.tensor([1]), SIZE)
    right = torch.zeros(1, 4, 12, 16)
    right[0, :2] = ((torch.tensor([24.0, 19.0]) - cells) / side).T.reshape(2, 12, 16)
    right[0, 2:] = (torch.tensor([24.0, 22.0]) / side[0]).log()[:, None, None]
    level = int(heads.sizes.level[0])

    def loss(votes: torch.Tensor) -> float:
        return float(heads.loss({level: [votes]}, [SIZE], [box], [torch.tensor([1])]))

    assert loss(right) == pytest.approx(0.0, abs=1e-9)
    outside = ~within(cells, box)[0].reshape(12, 16)
    wrong = right.clone()
    wrong[..., outside] += 5.0
    assert loss(wrong) == pytest.approx(0.0, abs=1e-9)
    inside = right.clone()
    inside[0, 0] += 0.5
    assert loss(inside) == pytest.approx(0.5 - 0.05, rel=1e-5)  # smooth L1 beyond β: |x| − β/2


def test_an_image_without_boxes_costs_nothing_and_has_a_gradient_of_zero() -> None:
    heads = head()
    votes = heads(torch.randn(1, 8, 12, 16))[0]
    loss = heads.loss(
        {int(heads.sizes.level[0]): [votes]}, [SIZE], [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)]
    )
    loss.backward()
    assert float(loss) == 0.0
    assert all(p.grad is None or not p.grad.any() for p in heads.parameters())


def test_votes_that_agree_are_found_from_a_shifted_annotation() -> None:
    cells = cell_centres(12, 16, SIZE, torch.device("cpu"))
    true, side = torch.tensor([30.0, 22.0]), torch.tensor([[16.0, 12.0]])
    votes = torch.zeros(1, 4, 12, 16)
    votes[0, :2] = ((true - cells) / side).T.reshape(2, 12, 16)
    votes[0, 2:] = 0.25
    given = torch.tensor([[26.0, 20, 44, 30]])
    read = read_votes(votes, torch.ones(2, 12, 16), given, torch.tensor([1]), side, SIZE)
    assert read.centre[0].tolist() == pytest.approx(true.tolist(), abs=1e-4)
    assert read.log_size[0].tolist() == pytest.approx((side[0].log() + 0.25).tolist(), abs=1e-5)
    finest = (4.0 / side[0]).square() / 12  # a cell has 4 pixels
    assert read.centre_variance[0].tolist() == pytest.approx(finest.tolist(), rel=1e-5)


def test_two_annotations_of_neighbours_do_not_read_the_same_votes() -> None:
    """Each cell votes for the nearer of two objects; both annotations are shifted towards the left one."""
    cells = cell_centres(12, 16, SIZE, torch.device("cpu"))
    true, side = torch.tensor([[20.0, 24.0], [34.0, 24.0]]), torch.full((2, 2), 16.0)
    nearest = torch.cdist(cells, true).argmin(1)
    votes = torch.zeros(1, 4, 12, 16)
    votes[0, :2] = ((true[nearest] - cells) / side[0]).T.reshape(2, 12, 16)
    centre = true + torch.tensor([[-3.0, 2.0], [-6.0, -2.0]])
    given = torch.cat([centre - 8, centre + 8], 1)
    read = read_votes(votes, torch.ones(2, 12, 16), given, torch.tensor([1, 1]), side, SIZE)
    assert read.centre.flatten().tolist() == pytest.approx(true.flatten().tolist(), abs=0.5)


def test_votes_of_cells_unlike_their_class_do_not_count() -> None:
    cells = cell_centres(12, 16, SIZE, torch.device("cpu"))
    side = torch.tensor([[16.0, 12.0]])
    votes = torch.zeros(1, 4, 12, 16)
    votes[0, :2] = ((torch.tensor([30.0, 22.0]) - cells) / side).T.reshape(2, 12, 16)
    votes[0, 0, :, :8] += 0.3  # cells on the left say something else
    given, maps = torch.tensor([[22.0, 16, 38, 28]]), torch.ones(2, 12, 16)
    maps[1, :, :8] = 0.0
    read = read_votes(votes, maps, given, torch.tensor([1]), side, SIZE)
    assert read.centre[0].tolist() == pytest.approx([30.0, 22.0], abs=1e-3)


def simulated(noise: float, votes: float, count: int = 4000) -> tuple[torch.Tensor, torch.Tensor, Votes, torch.Tensor]:
    """True boxes, annotated ones with uniform noise, and votes with normal noise that they know of."""
    rng = torch.Generator().manual_seed(1)

    def uniform() -> torch.Tensor:
        return torch.rand(count, 2, generator=rng) * 2 - 1

    side = torch.full((count, 2), 40.0)
    centre = 200 + 50 * uniform()
    log = side.log() + 0.2 * torch.randn(count, 2, generator=rng)
    shifted, scaled = centre + noise * uniform() * log.exp(), log + (1 + noise * uniform()).log()
    said = Votes(
        centre + votes * side * torch.randn(count, 2, generator=rng),
        log + votes * torch.randn(count, 2, generator=rng),
        torch.full((count, 2), votes**2),
        torch.full((count, 2), votes**2),
    )

    def boxes(c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return torch.cat([c - s.exp() / 2, c + s.exp() / 2], 1)

    return boxes(centre, log), boxes(shifted, scaled), said, side


def learned(annotated: torch.Tensor, said: Votes, side: torch.Tensor) -> NoiseModel:
    """A noise model that has seen the annotations as training shows them, some at a time."""
    noise = NoiseModel()
    for part in range(0, len(annotated), 20):
        chosen = slice(part, part + 20)
        noise.update(*residuals(annotated[chosen], Votes(*(v[chosen] for v in said)), side[chosen]))
    return noise


@pytest.mark.parametrize("level", [0.1, 0.2, 0.4])
def test_the_noise_level_is_estimated_without_being_given(level: float) -> None:
    _, annotated, said, side = simulated(level, 0.08)
    noise = learned(annotated, said, side)
    assert noise.level == pytest.approx(level, rel=0.2)


def test_exact_annotations_are_left_nearly_as_they_are() -> None:
    true, annotated, said, side = simulated(0.0, 0.05)
    assert torch.equal(true, annotated)
    noise = learned(annotated, said, side)
    assert float(noise.variance.max()) < (2 * FLOOR) ** 2
    told = posterior(annotated, said, noise, side, (400.0, 400.0))
    assert float((told.boxes - true).abs().max()) < 0.1 * 40
    assert float(told.quality.mean()) > 0.9


def test_the_posterior_mean_is_nearer_to_the_truth_than_annotation_and_votes() -> None:
    true, annotated, said, side = simulated(0.4, 0.15)
    noise = learned(annotated, said, side)
    told = posterior(annotated, said, noise, side, (400.0, 400.0))

    def error(boxes: torch.Tensor) -> float:
        return float((boxes - true).abs().mean())

    half = said.log_size.exp() / 2
    assert error(told.boxes) < error(torch.cat([said.centre - half, said.centre + half], 1))
    assert error(told.boxes) < 0.6 * error(annotated)


def test_quality_tells_good_annotations_from_bad_ones() -> None:
    from torchvision.ops import box_iou

    true, annotated, said, side = simulated(0.4, 0.1, 600)
    noise = learned(annotated, said, side)
    told = posterior(annotated, said, noise, side, (400.0, 400.0))
    actual = box_iou(annotated, true).diagonal()
    assert np.corrcoef(told.quality.numpy(), actual.numpy())[0, 1] > 0.7
    assert abs(float(told.quality.mean() - actual.mean())) < 0.1


def test_sizes_that_the_image_does_not_tell_count_as_the_votes_error_rather_than_as_noise() -> None:
    """Centres and sizes are annotated alike; the sizes' votes err by far more than their variance says."""
    true, annotated, said, side = simulated(0.2, 0.08)
    astray = said.log_size + 0.15 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(2))
    noise = learned(annotated, said._replace(log_size=astray), side)
    assert float(noise.excess[0, 2:].min()) > 1.5
    assert float(noise.excess[0, :2].max()) < 1.2
    told = posterior(annotated, said._replace(log_size=astray), noise, side, (400.0, 400.0))

    def error(log_size: torch.Tensor) -> float:
        return float((log_size - (true[:, 2:] - true[:, :2]).log()).abs().mean())

    assert error((told.boxes[:, 2:] - told.boxes[:, :2]).log()) < min(
        error(astray), error((annotated[:, 2:] - annotated[:, :2]).log())
    )


def test_some_votes_for_the_wrong_object_do_not_look_like_noise_of_all() -> None:
    _, annotated, said, side = simulated(0.2, 0.05)
    astray = said.centre.clone()
    astray[::20] += 2.0 * side[::20]
    noise = learned(annotated, said._replace(centre=astray), side)
    assert noise.level == pytest.approx(0.2, rel=0.35)


@settings(max_examples=30, deadline=None)
@given(st.floats(-2, 2), st.floats(0.05, 0.5), st.floats(0.1, 4.0))
def test_a_witness_moves_the_mean_to_the_mode_of_the_product(goal: float, deviation: float, weight: float) -> None:
    """With a cost weight (b − goal)² / 2 both factors are normal, and the mode has a closed form."""
    mean, spread = torch.zeros(1, 4, dtype=torch.float64), torch.full((1, 4), deviation, dtype=torch.float64)
    found = witnessed(mean, spread, lambda b: weight * (b - goal).square().sum() / 2)
    share = deviation**2 * weight
    mode = goal * share / (1 + share)
    assert float((found - mean).abs().max()) <= SWAY * deviation + 1e-9
    if share < 0.8 and abs(goal) * share < SWAY * deviation:
        assert found.flatten().tolist() == pytest.approx([mode] * 4, abs=0.2 * abs(mode) + 1e-3)


def test_a_witness_without_a_say_moves_nothing() -> None:
    mean = torch.randn(3, 4)
    assert torch.equal(witnessed(mean, torch.ones(3, 4), lambda b: b.sum() * 0.0), mean)


def test_no_boxes_have_a_posterior_of_no_boxes() -> None:
    nothing = torch.zeros(0, 2)
    votes = Votes(nothing, nothing, nothing, nothing)
    told = posterior(torch.zeros(0, 4), votes, NoiseModel(), nothing, SIZE, lambda boxes: boxes.sum())
    assert told.boxes.shape == (0, 4)
    assert told.quality.shape == (0,)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=20),
    st.floats(-3, 3),
)
def test_every_object_with_a_positive_keeps_its_best_one(samples: list[tuple[float, int]], strictness: float) -> None:
    values = torch.tensor([v for v, _ in samples], dtype=torch.float64)
    matched = torch.tensor([k for _, k in samples])
    kept = kept_positives(values, matched, 4, strictness)
    for k in {k for _, k in samples}:
        own = (matched == k).nonzero()[:, 0]
        assert bool(kept[own[values[own].argmax()]])
        mean, deviation = values[own].mean(), values[own].std(correction=0)
        for n in own.tolist():
            if values[n] > mean + strictness * deviation + 1e-4:
                assert bool(kept[n])
            elif values[n] < mean + strictness * deviation - 1e-4 and values[n] < values[own].max():
                assert not bool(kept[n])


@pytest.mark.parametrize("classes", [1, 4])
def test_offsets_of_equally_certain_boxes_cost_what_torchvision_says(classes: int) -> None:
    torch.manual_seed(0)
    regression, offsets = torch.randn(12, 4 * classes), torch.randn(12, 4)
    labels = torch.randint(0, 4, (12,))
    found = weighted_offset_loss(regression, labels, offsets, torch.full((12,), 0.3))
    told = regression if classes > 1 else regression.repeat(1, 4)
    assert float(found) == pytest.approx(
        float(fastrcnn_loss(torch.randn(12, 4), told, [labels], [offsets])[1]), rel=1e-5
    )


def test_offsets_count_by_the_certainty_of_their_box_and_without_positives_nothing_does() -> None:
    torch.manual_seed(1)
    regression, offsets, certainty = torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0.2, 0.8, 0.5])
    labels = torch.tensor([1, 2, 0])
    found = float(weighted_offset_loss(regression, labels, offsets, certainty))
    each = [float(F.smooth_l1_loss(regression[n], offsets[n], beta=1 / 9, reduction="sum")) for n in range(2)]
    assert found == pytest.approx((0.4 * each[0] + 1.6 * each[1]) / 3, rel=1e-5)
    assert float(weighted_offset_loss(regression, labels * 0, offsets, certainty)) == 0.0
    assert float(weighted_offset_loss(regression[:0], labels[:0], offsets[:0], certainty[:0])) == 0.0


def test_the_adversary_finds_the_worst_mixture() -> None:
    torch.manual_seed(3)
    classify = torch.nn.Linear(6, 4)
    kept, rejected = torch.randn(5, 6), torch.randn(7, 6)
    labels, others = torch.tensor([1, 2, 1, 3, 2]), torch.tensor([1, 1, 2, 2, 1, 2, 1])
    weight = torch.rand(7)
    found = float(adversarial_loss(kept, labels, rejected, others, weight, classify))
    worst = []
    for f, c in zip(kept, labels, strict=True):
        own = [j for j in range(7) if others[j] == c]
        if own:
            mixed = [f] + [f + 0.5 * weight[j] * (rejected[j] - f) for j in own]
            worst.append(max(float(F.cross_entropy(classify(m)[None], c[None])) for m in mixed))
    assert found == pytest.approx(sum(worst) / len(worst), rel=1e-5)
    plain = float(F.cross_entropy(classify(kept[:3]), labels[:3]))
    assert float(adversarial_loss(kept[:3], labels[:3], rejected, others, weight, classify)) >= plain - 1e-6


def test_an_adversary_without_fillers_of_a_class_costs_nothing() -> None:
    kept = torch.randn(3, 6, requires_grad=True)
    loss = adversarial_loss(
        kept, torch.tensor([1, 1, 1]), torch.randn(2, 6), torch.tensor([2, 2]), torch.ones(2), torch.nn.Linear(6, 3)
    )
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert kept.grad is not None
    assert not kept.grad.any()
