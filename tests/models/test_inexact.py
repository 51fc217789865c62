"""Detectors trained on inexact boxes: what every kind does, and that boxes are mended without a word about their noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig, InexactConfig
from neurosym.models.inexact import InexactBoxes, PositiveFilter
from neurosym.models.scene import SceneModel, unknown_masks

DETECTORS = ("faster_rcnn", "cascade_rcnn", "retinanet", "mask_rcnn")
NAMES = ("square", "disc")


def model_of(kind: str, **settings: object) -> SceneModel:
    torch.manual_seed(0)
    more = {"posterior": True, "filter": True, "adversary": 0.1, "start": 0} | settings
    config = DetectorConfig(
        kind=kind,  # type: ignore[arg-type]
        image_size=96,
        max_size=96,
        fpn_channels=32,
        head_features=32,
        proposals=50,
        sampled_boxes=16,
        inexact=InexactConfig(**more),  # type: ignore[arg-type]
    )
    model = build_model(config, NAMES).train()
    assert model.inexact is not None
    model.inexact.measure(
        torch.tensor([[0.0, 0, 24, 24], [0, 0, 26, 22]]), torch.tensor([1, 2]), torch.full((2,), 96.0**2), 96.0
    )
    return model


def film(generator: torch.Generator, noise: float) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """An image with four bright squares or discs in a grid, its annotation with uniform noise, and the true boxes."""
    image = 0.2 + 0.05 * torch.rand(3, 96, 96, generator=generator)
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    true, labels = [], []
    for row in range(2):
        for column in range(2):
            centre = torch.tensor([24.0 + 48 * column, 24.0 + 48 * row]) + 16 * (
                torch.rand(2, generator=generator) - 0.5
            )
            side = float(20 + 8 * torch.rand(1, generator=generator))
            label = int(torch.randint(1, 3, (1,), generator=generator))
            away = torch.stack([(x + 0.5 - centre[0]).abs(), (y + 0.5 - centre[1]).abs()])
            shape = away.amax(0) <= side / 2 if label == 1 else away.norm(dim=0) <= side / 2
            image[:, shape] += 0.5
            true.append(torch.cat([centre - side / 2, centre + side / 2]))
            labels.append(label)
    exact = torch.stack(true)
    sides = (exact[:, 2:] - exact[:, :2]) * (1 + noise * (2 * torch.rand(4, 2, generator=generator) - 1))
    shift = noise * (2 * torch.rand(4, 2, generator=generator) - 1) * (exact[:, 2:] - exact[:, :2])
    centre = (exact[:, :2] + exact[:, 2:]) / 2 + shift
    annotated = torch.cat([centre - sides / 2, centre + sides / 2], 1).clamp(0, 96)
    masks = unknown_masks(annotated, 96, 96)  # for the kind that has them
    return image, {"boxes": annotated, "labels": torch.tensor(labels), "masks": masks}, exact


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", DETECTORS)
def test_every_loss_is_finite_and_reaches_the_votes(kind: str, mixed: bool) -> None:
    model, generator = model_of(kind, mixed=mixed), torch.Generator().manual_seed(0)
    films = [film(generator, 0.3) for _ in range(2)]
    for _ in range(2):  # in the second pass there are centroids
        losses, scenes = model([f[0] for f in films], [f[1] for f in films])
    total(losses).backward()
    assert bool(torch.isfinite(total(losses)))
    assert "loss_votes" in losses
    assert len(scenes) == 2
    assert model.inexact is not None
    assert model.inexact.head.out.weight.grad is not None
    assert bool(model.inexact.head.out.weight.grad.any())


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_filter_alone_trains_no_votes_and_leaves_the_boxes_as_they_are(kind: str) -> None:
    model, generator = model_of(kind, posterior=False), torch.Generator().manual_seed(0)
    image, target, _ = film(generator, 0.3)
    told: list[Tensor] = []
    assert model.inexact is not None
    model.inexact.register_forward_hook(
        lambda _, given, out: told.extend([given[2][0]["boxes"], out.targets[0]["boxes"]])
    )
    for _ in range(2):
        losses, _ = model([image], [target])
    assert "loss_votes" not in losses
    assert bool(torch.isfinite(total(losses)))
    assert torch.equal(told[-2], told[-1])


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", DETECTORS)
def test_images_without_boxes_and_a_class_that_is_absent_are_learned_from_as_well(kind: str, mixed: bool) -> None:
    model, generator = model_of(kind, mixed=mixed), torch.Generator().manual_seed(1)
    image, target, _ = film(generator, 0.3)
    one = {k: v[target["labels"] == target["labels"][0]] for k, v in target.items()}
    empty = {k: v[:0] for k, v in target.items()}
    for targets in ([one, empty], [empty, empty], [one, empty]):
        losses, _ = model([image, image], targets)
        assert bool(torch.isfinite(total(losses)))
        total(losses).backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("kind", DETECTORS)
def test_what_is_learned_of_inexact_boxes_is_no_part_of_a_prediction(kind: str) -> None:
    model, plain = (
        model_of(kind),
        build_model(model_of(kind).config.model_copy(update={"inexact": InexactConfig()}), NAMES),
    )
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("inexact.")}
    plain.load_state_dict(weights)
    image = film(torch.Generator().manual_seed(2), 0.0)[0]
    one, other = model.eval().detect([image])[0], plain.eval().detect([image])[0]
    assert all(torch.equal(one[k], other[k]) for k in ("boxes", "labels", "scores"))


def test_boxes_are_mended_while_a_detector_trains_on_them() -> None:
    model, generator = model_of("retinanet", start=30, filter=False, adversary=0.0), torch.Generator().manual_seed(3)
    films = [film(generator, 0.4) for _ in range(40)]
    given, found = [], []
    inexact = model.inexact
    assert isinstance(inexact, InexactBoxes)
    boxes, labels = (torch.cat([f[1][k] for f in films]) for k in ("boxes", "labels"))
    inexact.measure(boxes, labels, torch.full((len(boxes),), 96.0**2), 96.0)
    told: list[list[Tensor]] = []
    inexact.register_forward_hook(lambda _, __, out: told.append([t["boxes"] for t in out.targets]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(70):
        chosen = [films[(4 * step + k) % 40] for k in range(4)]
        losses, _ = model([f[0] for f in chosen], [f[1] for f in chosen])
        optimizer.zero_grad()
        total(losses).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step >= 60:
            given += [box_iou(f[1]["boxes"], f[2]).diagonal() for f in chosen]
            found += [box_iou(b, f[2]).diagonal() for b, f in zip(told[-1], chosen, strict=True)]
    assert float(torch.cat(given).mean()) < 0.52
    assert float(torch.cat(found).mean()) > 0.6


def test_the_filter_ignores_what_is_unlike_the_class_and_never_all_of_an_object() -> None:
    shown = torch.zeros(2, 24, 24)
    shown[0, 4:10, 4:10], shown[1, 14:20, 14:20] = 1.0, 1.0
    boxes = torch.tensor([[16.0, 16, 40, 40], [0, 0, 48, 48], [28, 28, 52, 52], [56, 56, 80, 80], [0, 0, 8, 8]])
    matched, labels = torch.tensor([0, 0, 0, 1, 0]), torch.tensor([1, 1, 1, 2, 0])
    chosen = PositiveFilter([list(shown)], [(96, 96)], strictness=0.0)
    assert chosen.of_image(0, boxes, matched, labels).tolist() == [1, -1, -1, 2, 0]
    nothing = torch.zeros(2, 24, 24)
    worthless = PositiveFilter([list(nothing)], [(96, 96)], strictness=0.0)
    assert (worthless.of_image(0, boxes, matched, labels) > 0).sum() == 4


def test_an_adversary_without_a_filter_says_so() -> None:
    with pytest.raises(ValueError, match="it mixes in what the filter removes"):
        InexactConfig(adversary=0.1)


def test_what_pads_an_image_in_a_batch_is_no_part_of_it() -> None:
    model = model_of("faster_rcnn", filter=False, adversary=0.0)
    assert model.inexact is not None
    rng = torch.Generator().manual_seed(9)
    sizes, strides = [(96, 64), (64, 96)], (4, 8, 16, 32)
    levels = [torch.rand(2, 32, 96 // s, 96 // s, generator=rng) for s in strides]
    target = {"boxes": torch.tensor([[8.0, 8, 30, 40], [20, 30, 60, 60]]), "labels": torch.tensor([1, 2])}
    model.inexact.bank.centroids.copy_(torch.rand(model.inexact.bank.centroids.shape, generator=rng))
    together = model.inexact.judge(levels, sizes, [target, target])
    for n, (height, width) in enumerate(sizes):
        alone = [f[n : n + 1, :, : height // s, : width // s] for f, s in zip(levels, strides, strict=True)]
        told = model.inexact.judge(alone, [sizes[n]], [target])
        for whole, own in zip(together.maps[n], told.maps[0], strict=True):
            torch.testing.assert_close(whole, own)


@pytest.mark.parametrize("kind", ["faster_rcnn", "cascade_rcnn", "mask_rcnn"])
def test_the_region_proposals_ignore_anchors_that_the_filter_rejects(kind: str) -> None:
    rng = torch.Generator().manual_seed(0)
    films = [film(rng, 0.4) for _ in range(2)]
    model = model_of(kind, posterior=False)
    rpn, seen = model.net.rpn, []
    own = type(rpn).assign_targets_to_anchors

    def kept(strictness: float) -> tuple[int, int]:
        model.load_state_dict(before)
        model.inexact.config = model.inexact.config.model_copy(update={"strictness": strictness})
        seen.clear()
        model([f[0] for f in films], [f[1] for f in films])
        return int((torch.cat(seen) == 1).sum()), int((torch.cat(seen) == 0).sum())

    def look(self: object, anchors: object, targets: object) -> object:
        labels, matched = own(self, anchors, targets)
        seen.extend(labels)
        return labels, matched

    rpn.proposal_matcher.high_threshold = 0.4  # so that an object has several
    model([f[0] for f in films], [f[1] for f in films])  # from now on there are centroids
    before = {k: v.clone() for k, v in model.state_dict().items()}
    type(rpn).assign_targets_to_anchors = look
    try:
        all_of_them, background = kept(-1e6)
        strict, as_before = kept(0.0)
    finally:
        type(rpn).assign_targets_to_anchors = own
    assert 0 < strict < all_of_them
    assert background == as_before


@pytest.mark.parametrize(("kind", "loss"), [("faster_rcnn", "loss_box_reg"), ("retinanet", "bbox_regression")])
def test_the_certainty_of_boxes_weighs_their_offsets_and_nothing_else(kind: str, loss: str) -> None:
    rng = torch.Generator().manual_seed(1)
    films = [film(rng, 0.4) for _ in range(2)]
    found = []
    for weigh in (True, False):
        model = model_of(kind, weigh=weigh, filter=False, adversary=0.0)
        torch.manual_seed(2)
        found.append(model([f[0] for f in films], [f[1] for f in films])[0])
    assert float(found[0][loss].detach()) != float(found[1][loss].detach())
    others = [k for k in found[0] if k != loss]
    assert all(torch.equal(found[0][k], found[1][k]) for k in others)
