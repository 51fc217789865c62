"""Coarse masks: the posterior against Bayes' rule written out, and images whose true masks are known."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor
from torch.nn import functional as F

from neurosym.models.config import DetectorConfig, InexactConfig
from neurosym.models.inexact_masks import InexactMasks, at_cells, combined, local_centroids, region_distance
from neurosym.models.mask_border import FARTHEST, RINGS, BorderModel, rings_of, signed_distance
from neurosym.models.scene import UNKNOWN
from neurosym.models.segmenter import FpnSegmenter, class_maps, segmentation_losses, weighted_losses

SIDE = 64
NAMES = ("disc", "square")


def disc(y: float, x: float, radius: float) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).to(torch.uint8)


def stroke(y: float, x: float, length: float) -> Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    mask[int(y) : int(y) + 2, int(x - length / 2) : int(x + length / 2)] = 1
    return mask


def film(rng: np.random.Generator, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """A noisy image with a bright disc on a ground that gets brighter to one side; its coarse mask, and the true one."""
    y, x = rng.uniform(26, 38, 2)
    radius = rng.uniform(11, 14)
    true = disc(y, x, radius)
    coarse = {
        "exact": lambda: true,
        "too wide": lambda: disc(y, x, 1.35 * radius),
        "too small": lambda: disc(y, x, 0.75 * radius),
        "stroke": lambda: stroke(y, x, 2 * radius - 2),
    }[kind]()
    image = 0.3 + torch.linspace(0, 0.2, SIDE)[None].expand(SIDE, -1) + 0.3 * true
    image = image + 0.05 * torch.from_numpy(rng.normal(size=(SIDE, SIDE))).float()
    return image[None].expand(3, -1, -1).clone(), coarse, true


def dice(found: Tensor, true: Tensor) -> float:
    mine, annotated = found > 0.5, true == 1
    return float(2 * (mine & annotated).sum() / (mine.sum() + annotated.sum()))


def mended(kind: str, steps: int = 30, **settings: object) -> tuple[list[float], list[float]]:
    """Dice of coarse and of mended masks of the last films, without a word about their kind."""
    rng = np.random.default_rng(0)
    inexact = InexactMasks(InexactConfig(posterior=True, start=4, **settings), 1, 4)  # type: ignore[arg-type]
    before, after = [], []
    for step in range(steps):
        films = [film(rng, kind) for _ in range(2)]
        targets = [{"masks": coarse[None], "labels": torch.tensor([1])} for _, coarse, _ in films]
        marks = [coarse[None] for _, coarse, _ in films]
        found = inexact([f[0] for f in films], targets, marks, [torch.zeros(4, 16, 16)] * 2)
        if step >= steps - 5:
            before += [dice(coarse, true) for _, coarse, true in films]
            after += [dice(q[0], true) for q, (_, _, true) in zip(found.truth, films, strict=True)]
    return before, after


def test_the_distance_is_to_the_line_between_inside_and_outside_in_radii_of_the_region() -> None:
    rng = np.random.default_rng(0)
    mask = torch.from_numpy((rng.random((9, 11)) < 0.4).astype(np.uint8))
    mask[2, 3] = UNKNOWN
    found = signed_distance(mask)
    assert found is not None
    inside, pixels = mask.numpy() == 1, np.argwhere(np.ones(mask.shape))
    there = np.argwhere(inside)
    radius = np.sqrt(((there - there.mean(0)) ** 2).sum(1).mean() + 1 / 6)
    assert found[1] == pytest.approx(radius)
    to_inside, to_outside = cdist(pixels, there).min(1), cdist(pixels, np.argwhere(~inside)).min(1)
    expected = np.where(inside.ravel(), 0.5 - to_outside, to_inside - 0.5) / radius
    assert np.allclose(found[0].numpy().ravel(), expected, atol=1e-5)


def test_the_radius_of_a_disc_and_of_a_stroke_through_it_are_alike() -> None:
    ball, line = signed_distance(disc(32, 32, 20)), signed_distance(stroke(32, 32, 40))
    assert ball is not None
    assert line is not None
    assert ball[1] == pytest.approx(20 / 2**0.5, rel=0.02)
    assert line[1] == pytest.approx(40 / 12**0.5, rel=0.02)


def test_rings_go_from_the_deepest_to_all_that_is_far() -> None:
    distance = torch.tensor([[-torch.inf, -1.25, -1.15, -0.01, 0.01, FARTHEST - 0.01, FARTHEST + 0.01, torch.inf]])
    assert rings_of(distance).tolist() == [[0, 0, 1, 12, 13, RINGS - 2, RINGS - 1, RINGS - 1]]


@pytest.mark.parametrize("share", [0.02, 0.4, 0.9])
def test_the_posterior_is_bayes_rule_written_out(share: float) -> None:
    """All of it: y, then the ring and two more witnesses, each drawn given y alone."""
    rng = np.random.default_rng(1)
    tables = [rng.dirichlet(np.ones(4), 2) for _ in range(3)]  # P(value | y) of three independent witnesses
    for values in itertools.product(range(4), repeat=3):
        joint = [
            (share if y else 1 - share) * np.prod([t[y, v] for t, v in zip(tables, values, strict=True)])
            for y in (0, 1)
        ]
        ring = np.array([(1 - share) * tables[0][0, values[0]], share * tables[0][1, values[0]]])
        prior = torch.tensor([[ring[1] / ring.sum()]])  # π of the ring
        odds = sum(np.log(t[1, v] / t[0, v]) for t, v in zip(tables[1:], values[1:], strict=True))
        assert float(combined(prior, torch.tensor([[odds]]))) == pytest.approx(joint[1] / sum(joint))


def test_a_prior_of_zero_or_one_is_not_moved_by_evidence() -> None:
    prior = torch.tensor([[0.0, 1.0]])
    assert combined(prior, torch.tensor([[9.0, -9.0]])).tolist() == [[0.0, 1.0]]


def test_the_profile_falls_where_the_colours_change_and_not_where_the_annotation_ends() -> None:
    border = BorderModel(1, 1)
    distance = torch.linspace(-1.5, 2.5, 4000).reshape(40, 100)
    colour = (distance < -0.32).float()[None] + 0.02 * torch.randn(1, 40, 100)
    for _ in range(3):
        border.see(0, rings_of(distance), colour)
    shares = border.at(0, distance)
    assert (shares[distance < -0.5] > 0.9).all()
    assert (shares[distance > -0.15] < 0.1).all()
    assert (shares[distance > FARTHEST] == 0).all()


def test_without_a_change_of_colour_the_annotated_border_is_believed() -> None:
    border = BorderModel(1, 1)
    distance = torch.linspace(-1.5, 2.5, 4000).reshape(40, 100)
    for _ in range(2):
        shares = border.at(0, distance)
        assert (shares[distance < -0.1] > 0.9).all()
        assert (shares[distance > 0.1] < 0.1).all()
        border.see(0, rings_of(distance), torch.ones(1, 40, 100))


def test_the_shares_are_the_posteriors_of_rings_made_monotone() -> None:
    border = BorderModel(2, 1)
    distance = torch.linspace(-1.2, 2.1, 3400).reshape(34, 100)
    rings = rings_of(distance)
    posterior = torch.rand(34, 100, generator=torch.Generator().manual_seed(0)) * (distance < 0.5)
    border.judge(1, rings, posterior, torch.full((34, 100), 3.0))
    shares = border.shares(1)
    assert (shares.diff() <= 0).all()
    mean = torch.stack(
        [posterior[rings == k].mean() if bool((rings == k).any()) else posterior.new_zeros(()) for k in range(RINGS)]
    )
    count = torch.bincount(rings.flatten(), minlength=RINGS).float()
    inner = slice(1, 17)  # pooling keeps the sum of a pool, and the pools end where the posteriors are 0
    assert float((shares * count)[inner].sum()) == pytest.approx(float((mean * count)[inner].sum()), rel=0.05)
    assert float(border.variance(1)) == pytest.approx(3.0)  # type: ignore[arg-type]
    assert border.variance(0) is None, "the other class was not judged"


def test_local_centroids_are_the_colours_of_the_two_sides_nearby() -> None:
    image = torch.zeros(1, SIDE, SIDE)
    image[0, :32, :], image[0, 32:, :] = 1.0, 3.0
    inside = torch.zeros(SIDE, SIDE)
    inside[:, 32:] = 1.0
    image[0, :, 32:] += 10
    inner, outer = local_centroids(image, inside, 8.0)
    assert float(inner[0, 8, 30]) == pytest.approx(11, abs=0.05)
    assert float(inner[0, 56, 34]) == pytest.approx(13, abs=0.05)
    assert float(outer[0, 8, 30]) == pytest.approx(1, abs=0.05)
    assert float(outer[0, 56, 34]) == pytest.approx(3, abs=0.05)


def test_the_distance_of_a_class_is_that_to_its_nearest_region() -> None:
    masks = torch.stack([disc(16, 16, 8), disc(48, 48, 12), torch.zeros(SIDE, SIDE, dtype=torch.uint8)])
    found = region_distance(masks)
    one, other = signed_distance(masks[0]), signed_distance(masks[1])
    assert found is not None
    assert one is not None
    assert other is not None
    assert torch.equal(found[0], torch.minimum(one[0], other[0]))
    assert region_distance(masks[2:]) is None
    assert region_distance(masks[:2] * UNKNOWN) is None


def test_masks_that_are_too_wide_shrink_to_the_bright_disc() -> None:
    before, after = mended("too wide")
    assert np.mean(before) < 0.75
    assert np.mean(after) > 0.93


def test_masks_that_are_too_small_grow_to_the_bright_disc() -> None:
    before, after = mended("too small")
    assert np.mean(before) < 0.75
    assert np.mean(after) > 0.9


def test_a_stroke_grows_to_the_bright_disc() -> None:
    before, after = mended("stroke")
    assert np.mean(before) < 0.25
    assert np.mean(after) > 0.75


def test_exact_masks_stay_nearly_as_they_are() -> None:
    assert np.mean(mended("exact")[1]) > 0.95


def test_before_its_start_and_without_a_posterior_annotations_are_taken_as_they_are() -> None:
    rng = np.random.default_rng(0)
    for settings in ({"posterior": True, "start": 9}, {"filter": True, "start": 0}):
        inexact = InexactMasks(InexactConfig(**settings), 1, 4)  # type: ignore[arg-type]
        for _ in range(3):
            image, coarse, _ = film(rng, "too wide")
            target = {"masks": coarse[None], "labels": torch.tensor([1])}
            found = inexact([image], [target], [coarse[None]], [torch.zeros(4, 16, 16)])
            assert torch.equal(found.truth[0], coarse[None].float())


def features_of(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Cells that know the colour: two channels, bright and dark, and noise."""
    bright = F.avg_pool2d(image[:1] - 0.3, 4)
    return torch.cat([bright, 0.3 - bright, 0.02 * torch.from_numpy(rng.normal(size=(2, 16, 16))).float()])


def test_filtered_pixels_are_those_unlike_their_class_and_they_are_unknown() -> None:
    rng = np.random.default_rng(0)
    inexact = InexactMasks(InexactConfig(filter=True, start=6), 1, 4)
    for _ in range(12):
        image, coarse, true = film(rng, "too wide")
        target = {"masks": coarse[None], "labels": torch.tensor([1])}
        found = inexact([image], [target], [coarse[None]], [features_of(image, rng)])
    out = found.filtered[0][0]
    assert bool(out.any())
    assert (coarse[out] == 1).all(), "only what was annotated is filtered"
    assert float((true[out] == 0).float().mean()) > 0.8
    assert float(out[(coarse == 1) & (true == 0)].float().mean()) > 0.5
    assert torch.equal(found.weight[0][0] == 0, out)


def model_of(**settings: object) -> FpnSegmenter:
    torch.manual_seed(0)
    config = DetectorConfig(
        kind="fpn_segmenter",
        image_size=SIDE,
        max_size=SIDE,
        fpn_channels=16,
        inexact=InexactConfig(**settings),  # type: ignore[arg-type]
    )
    return FpnSegmenter(config, NAMES).train()


ALL = {"posterior": True, "filter": True, "adversary": 0.1, "start": 1}


def targets_of(*masks: Tensor, labels: tuple[int, ...] | None = None) -> dict[str, Tensor]:
    boxes = torch.tensor([[2.0, 2, 60, 60]]).expand(len(masks), 4).clone()
    stacked = torch.stack(masks) if masks else torch.zeros(0, SIDE, SIDE, dtype=torch.uint8)
    return {"boxes": boxes, "labels": torch.tensor(labels or (1,) * len(masks), dtype=torch.int64), "masks": stacked}


def test_every_loss_and_gradient_is_finite_whatever_is_annotated() -> None:
    model, rng = model_of(**ALL), np.random.default_rng(0)
    image, coarse, _ = film(rng, "too wide")
    full, nothing = torch.ones(SIDE, SIDE, dtype=torch.uint8), torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    half = coarse.clone()
    half[:, :32] = UNKNOWN
    cases = [
        [targets_of(coarse), targets_of(coarse, stroke(20, 20, 12), labels=(1, 2))],
        [targets_of(full), targets_of(nothing)],
        [targets_of(coarse * UNKNOWN), targets_of(half)],
        [targets_of(), targets_of()],
        [targets_of(full * UNKNOWN, full * UNKNOWN, labels=(1, 2))] * 2,
        [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}, targets_of(coarse)],
    ]
    for targets in [*cases, *cases]:
        losses, scenes = model([image, image], targets)
        assert set(losses) == {"loss_mask", "loss_dice", "loss_adversary"}
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        assert all(bool(torch.isfinite(v)) for v in losses.values())
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
        assert len(scenes) == 2


def test_nothing_is_learned_of_unknown_pixels() -> None:
    model = model_of(**ALL | {"start": 0})
    image = film(np.random.default_rng(0), "exact")[0]
    losses, _ = model([image], [targets_of(*[torch.full((SIDE, SIDE), UNKNOWN, dtype=torch.uint8)] * 2, labels=(1, 2))])
    assert float(losses["loss_mask"]) == 0.0
    assert float(losses["loss_dice"]) == 0.0
    assert int(model.inexact_masks.steps) == 1  # type: ignore[union-attr]


def test_weighted_losses_of_hard_masks_are_those_of_hard_masks_and_off_means_off() -> None:
    model, plain, rng = model_of(posterior=True, start=5), model_of(), np.random.default_rng(0)
    assert not any(k.startswith("inexact") for k in plain.state_dict())
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("inexact")})
    image, coarse, _ = film(rng, "too wide")
    targets = [targets_of(coarse, stroke(20, 20, 12), labels=(1, 2))]
    one, other = model([image], copy.deepcopy(targets))[0], plain([image], copy.deepcopy(targets))[0]
    assert {k: float(v) for k, v in one.items()} == {k: float(v) for k, v in other.items()}
    found = model.eval().detect([image])[0], plain.eval().detect([image])[0]
    assert all(torch.equal(found[0][k], found[1][k]) for k in ("boxes", "labels", "scores", "masks"))


def test_a_pixel_of_weight_one_third_counts_as_one_of_three() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(2, 1, 4, generator=generator), (torch.rand(2, 1, 4, generator=generator) < 0.5).float()
    weight = torch.tensor([1.0, 2, 0, 3]).expand(2, 1, 4) / 3
    found = weighted_losses([logits], [truth], [weight])
    times = torch.tensor([1, 2, 0, 3])
    repeated = weighted_losses(
        [logits.repeat_interleave(times, 2)], [truth.repeat_interleave(times, 2)], [torch.ones(2, 1, 6)]
    )
    assert float(found["loss_mask"]) == pytest.approx(float(repeated["loss_mask"]), rel=1e-5)
    p, y, w = logits.sigmoid()[:, 0], truth[:, 0], weight[:, 0]
    dice = (2 * (w * p * y).sum(1) + 1) / ((w * p).sum(1) + (w * y).sum(1) + 1)
    shown = (y * w).sum(1) > 0
    assert float(found["loss_dice"]) == pytest.approx(float((1 - dice)[shown].mean()), rel=1e-5)


def test_the_adversary_mixes_a_filtered_cell_into_a_kept_one_of_its_class() -> None:
    model, rng = model_of(**ALL | {"start": 0, "posterior": False}), np.random.default_rng(0)
    inexact = model.inexact_masks
    assert inexact is not None
    image, coarse, _ = film(rng, "too wide")
    target = targets_of(coarse)
    marks = class_maps(target["masks"], target["labels"], 2)
    for _ in range(8):
        cells = F.pad(features_of(image, rng), (0, 0, 0, 0, 0, 12))
        found = inexact([image], [target], [marks], [cells])
    out = at_cells(found.filtered[0], 16, 16)
    assert bool(out[0].any())
    assert not bool(out[1].any())
    embedded = torch.randn(16, 16, 16, requires_grad=True)
    loss = inexact.adversary(found, [embedded], model.branch.predictor)
    loss.backward()
    assert embedded.grad is not None
    touched = embedded.grad.abs().sum(0) > 0
    kept = at_cells(found.truth[0] * found.weight[0] > 0, 16, 16)[0]
    assert bool((touched & kept).any())
    assert not bool((touched & ~kept).any()), "the fillers themselves are not moved"
    logit = model.branch.predictor(embedded[None])[0, 0][kept]
    assert float(loss) >= 0.1 * float(F.softplus(-logit).detach().mean()) * (1 - 1e-5)


def test_losses_over_unknown_pixels_only_are_zero() -> None:
    truth = [torch.full((1, 3, 3), UNKNOWN, dtype=torch.uint8)]
    assert {k: float(v) for k, v in segmentation_losses([torch.ones(1, 3, 3)], truth).items()} == {
        "loss_mask": 0.0,
        "loss_dice": 0.0,
    }
