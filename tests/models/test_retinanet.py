from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead

from neurosym.models.config import DetectorConfig, InexactConfig
from neurosym.models.retinanet import RetinaDetector, exclusive
from tests.models.overfit import NAMES, overfit

SMALL = DetectorConfig(kind="retinanet", image_size=96, max_size=96, proposals=50, fpn_channels=32, pretrained=False)


def example() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 10.0, 60.0, 90.0], [50.0, 30.0, 120.0, 110.0]])
    return [torch.rand(3, 128, 128) for _ in range(2)], [{"boxes": boxes, "labels": torch.tensor([1, 2])}] * 2


def torchvisions_own(model: RetinaDetector) -> RetinaNet:
    """A RetinaNet of torchvision's with the same weights; it counts classes from 0."""
    net = model.net
    own = RetinaNet(
        net.backbone,
        num_classes=len(model.names),
        min_size=model.config.image_size,
        max_size=model.config.max_size,
        anchor_generator=net.anchor_generator,
        head=RetinaNetHead(model.config.fpn_channels, 9, len(model.names), norm_layer=partial(nn.GroupNorm, 8)),
        score_thresh=model.config.score_threshold,
        topk_candidates=model.config.proposals,
        detections_per_img=model.config.max_detections,
    )
    own.load_state_dict(net.state_dict())
    return own


def test_training_losses_are_torchvisions_own() -> None:
    model = RetinaDetector(SMALL, ("a", "b")).train()
    images, targets = example()
    ours, _ = model(images, targets)
    theirs = torchvisions_own(model).train()(images, [t | {"labels": t["labels"] - 1} for t in targets])
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)
    assert targets[0]["labels"].tolist() == [1, 2], "the caller's targets stay as they were"


def test_detections_are_torchvisions_own() -> None:
    model = RetinaDetector(SMALL.model_copy(update={"score_threshold": 0.0}), ("a", "b"))
    images, _ = example()
    ours = model.detect(images)
    with torch.no_grad():
        theirs = torchvisions_own(model).eval()(images)
    assert len(ours[0]["boxes"]) > 0
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine["boxes"], other["boxes"])
        torch.testing.assert_close(mine["scores"], other["scores"])
        assert torch.equal(mine["labels"], other["labels"] + 1)


def test_the_distribution_is_of_independent_sigmoids_given_that_at_most_one_is_true() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64) * 2
    for row, found in zip(logits.sigmoid().tolist(), exclusive(logits).tolist(), strict=True):
        mass = [0.0] * 5
        for events in itertools.product((False, True), repeat=4):
            if sum(events) <= 1:
                p = math.prod(s if e else 1 - s for s, e in zip(row, events, strict=True))
                mass[events.index(True) + 1 if any(events) else 0] += p
        assert found == pytest.approx([m / sum(mass) for m in mass])
    assert exclusive(logits[:, :1])[:, 1].tolist() == pytest.approx(logits[:, 0].sigmoid().tolist())


@pytest.mark.parametrize(("finest", "first"), [(2, (24, 24)), (3, (12, 12))])
def test_the_finest_level_is_the_configs(finest: int, first: tuple[int, int]) -> None:
    model = RetinaDetector(SMALL.model_copy(update={"finest_level": finest}), ("a",))
    levels = list(model.net.backbone(torch.rand(1, 3, 96, 96)).values())
    assert tuple(levels[0].shape[2:]) == first
    assert tuple(levels[-1].shape[2:]) == (2, 2)
    sizes = [s[0] for s in model.net.anchor_generator.sizes]
    assert sizes == [4.0 * 2**level for level in range(finest, 7)]


@pytest.mark.parametrize("finest", [2, 3])
def test_the_levels_are_those_of_the_whole_pyramid_bit_by_bit(finest: int) -> None:
    model = RetinaDetector(SMALL.model_copy(update={"finest_level": finest}), ("a",)).eval()
    image = torch.rand(2, 3, 72, 100)
    with torch.no_grad():
        found, whole = model.net.backbone(image), model.net.backbone.pyramid(image)
    assert list(found) == list(whole)[finest - 2 :]
    assert all(torch.equal(found[k], whole[k]) for k in found)


def test_four_films_are_learned_by_heart_and_the_scene_shows_them() -> None:
    model, films, images, result = overfit("retinanet", steps=32, lr=2e-3, films=4)
    assert result.ap50 > 0.95
    for scene, film in zip(model.propose(images), films, strict=True):
        sure = scene.probabilities.detach()[:, 1:].max(1)
        for name in NAMES:
            box = next(a.box.xyxy for a in film.annotations if a.name == name)
            best = next(i for i in range(len(scene.boxes)) if sure.indices[i] == NAMES.index(name))
            assert sure.values[best] > 0.5
            assert scene.boxes[best].tolist() == pytest.approx(box, abs=8.0)


def test_votes_on_inexact_boxes_are_read_from_stride_four_on_and_teach_that_level() -> None:
    config = SMALL.model_copy(update={"inexact": InexactConfig(posterior=True)})
    model = RetinaDetector(config, ("a", "b")).train()
    losses, _ = model(*example())
    assert [level.shape[-1] for level in model.vote_levels()] == [24, 12, 6, 3, 2]
    assert model.inexact is not None
    model.inexact.sizes.level.zero_()  # the finest, whatever the size of the classes
    losses, _ = model(*example())
    losses["loss_votes"].backward()
    gradient = model.net.backbone.pyramid.fpn.inner_blocks[0][0].weight.grad
    assert gradient is not None
    assert bool(gradient.any())


def test_what_votes_alone_read_costs_a_prediction_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SMALL.model_copy(update={"inexact": InexactConfig(posterior=True)})
    model = RetinaDetector(config, ("a", "b")).eval()

    def refuse(*_: object) -> None:
        raise AssertionError("the level of stride 4 was computed")

    monkeypatch.setattr(model.net.backbone.pyramid.fpn.inner_blocks[0], "forward", refuse)
    assert len(model.detect(example()[0])) == 2
