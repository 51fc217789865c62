"""What a constraint may expect of any model, whatever its kind: one suite for all of `MODELS`."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from neurosym.constraints import compile_constraints, violation
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import ConfigError, TrainingError
from neurosym.knowledge import Knowledge
from neurosym.learning.batches import make_batch, to_tensor
from neurosym.learning.checkpoint import Checkpoint, begin_from, load_weights, save_checkpoint
from neurosym.models.build import MODELS, build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.detector import Detector
from neurosym.models.scene import OF_ANNOTATIONS, OF_TRAINING, SceneModel, SceneProposals

NAMES = ("right_lung", "heart", "left_lung")
FILMS = list(Phantom(0, 2, PhantomConfig(size=96)))
KINDS = sorted(MODELS)
WITH_MASKS = [k for k in KINDS if MODELS[k].uses_masks]
TWO_STAGE = [k for k in KINDS if issubclass(MODELS[k], Detector)]


def small(kind: str, **more: object) -> SceneModel:
    torch.manual_seed(0)
    settings = {"image_size": 64, "max_size": 96, "fpn_channels": 16, "head_features": 16, "pretrained": False}
    config = DetectorConfig(kind=kind, proposals=40, sampled_boxes=16, **settings | more)  # type: ignore[arg-type]
    return build_model(config, NAMES)


def batch(model: SceneModel) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    return make_batch(FILMS, NAMES, torch.device("cpu"), None, model.uses_masks)


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def of_the_trunk(model: nn.Module) -> list[Tensor]:
    return [p.grad for n, p in model.named_parameters() if ".trunk." in n and p.grad is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_is_distributions_and_boxes_of_the_scaled_image(kind: str) -> None:
    model = small(kind).train()
    images, targets = batch(model)
    images[1] = images[1][:, :72]  # 96 wide, 72 high: scaled to 85 by 64
    targets[1] = {k: v[:, :72] if k == "masks" else v for k, v in targets[1].items()}
    _, labelled = model(images, targets)
    for scenes in (labelled, model.propose(images)):
        assert [s.size for s in scenes] == [(64, 64), (85, 64)]
        for scene in scenes:
            assert_valid(scene, len(NAMES) + 1)
    assert all(0 < len(s.boxes) <= 2 for s in model.propose(images, limit=2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_nobody_asks_for_scenes_makes_none_and_learns_the_same(kind: str) -> None:
    learned = []
    for shown in (True, False):
        model = small(kind).train()
        model.shows_scenes = shown
        losses, scenes = model(*batch(model))
        assert len(scenes) == (2 if shown else 0)
        total(losses).backward()
        learned.append([losses, dict(model.named_parameters())])
    assert learned[0][0].keys() == learned[1][0].keys()
    assert all(torch.equal(learned[0][0][k], learned[1][0][k]) for k in learned[0][0])
    for (name, one), other in zip(learned[0][1].items(), learned[1][1].values(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        assert one.grad is None or torch.equal(one.grad, other.grad), name


def assert_valid(scene: SceneProposals, leaves: int) -> None:
    assert scene.size is not None
    count = len(scene.boxes)
    assert 0 < count <= 32
    assert scene.probabilities.shape == (count, leaves)
    torch.testing.assert_close(scene.probabilities.sum(1), torch.ones(count))
    assert scene.probabilities.min() >= 0
    assert torch.isfinite(scene.boxes).all()
    assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()
    assert (scene.probabilities.detach()[:, 0].diff() >= -1e-6).all(), "the surest first"
    if scene.masks is not None:
        height, width = scene.masks.shape[1:]
        assert len(scene.masks) == count
        assert abs(width / height - scene.size[0] / scene.size[1]) < 0.1, "cells are about square"
        assert scene.masks.min() >= 0
        assert scene.masks.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_only_models_that_learn_from_masks_show_and_detect_masks(kind: str) -> None:
    model = small(kind, score_threshold=0.0)
    images, _ = batch(model)
    found = model.detect(images)
    assert all(("masks" in f) == model.uses_masks for f in found)
    assert all((s.masks is not None) == model.uses_masks for s in model.propose(images))


@pytest.mark.parametrize("source", ["labelled", "unlabelled"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_broken_rule_reaches_the_trunk(kind: str, source: str, thorax: Knowledge) -> None:
    constraints = compile_constraints(thorax, NAMES)
    model = small(kind).train()
    images, targets = batch(model)
    scenes = model(images, targets)[1] if source == "labelled" else model.propose(images)
    found = [violation(constraints, s.probabilities, s.boxes, size=s.size, masks=s.masks) for s in scenes]
    violated = torch.stack([f.violated.sum() for f in found]).sum()
    assert violated > 0
    violated.backward()
    gradients = of_the_trunk(model)
    assert all(torch.isfinite(g).all() for g in gradients)
    assert max(float(g.abs().max()) for g in gradients) > 0


@pytest.mark.parametrize("kind", WITH_MASKS)
def test_the_gradient_of_a_mask_reaches_the_trunk(kind: str) -> None:
    model = small(kind).train()
    scenes = model.propose(batch(model)[0])
    torch.stack([s.masks.square().mean() for s in scenes if s.masks is not None]).sum().backward()
    assert max(float(g.abs().max()) for g in of_the_trunk(model)) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_show_nothing_have_finite_losses_and_gradients(kind: str) -> None:
    model = small(kind).train()
    images, targets = batch(model)
    nothing = {k: v[:0] for k, v in targets[0].items()}
    for given in ([nothing, nothing], [targets[0], nothing]):
        model.zero_grad()
        losses, _ = model(images, given)
        total(losses).backward()
        assert all(torch.isfinite(v) for v in losses.values())
        assert all(torch.isfinite(g).all() for g in of_the_trunk(model))


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_no_image_shows_leaves_losses_and_gradients_finite(kind: str) -> None:
    model = small(kind).train()
    images, targets = batch(model)
    without = [{k: v[t["labels"] != 2] for k, v in t.items()} for t in targets]
    assert all(0 < len(w["labels"]) < len(t["labels"]) for w, t in zip(without, targets, strict=True))
    losses, scenes = model(images, without)
    (total(losses) + torch.stack([s.probabilities[:, 2].sum() for s in scenes]).sum()).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    assert all(torch.isfinite(g).all() for g in of_the_trunk(model))


@pytest.mark.parametrize("kind", TWO_STAGE)
def test_images_without_proposals_learn_from_their_boxes_and_show_and_detect_nothing(kind: str) -> None:
    model = small(kind, score_threshold=0.0).train()
    images, targets = batch(model)
    assert isinstance(model, Detector)
    model.net.rpn.min_size = 1e9
    losses, scenes = model(images, targets)
    total(losses).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    assert all(torch.isfinite(g).all() for g in of_the_trunk(model))
    assert all(len(s.boxes) for s in scenes), "the annotated boxes are looked at"
    assert [s.probabilities.shape for s in model.propose(images)] == [(0, 4), (0, 4)]
    assert [len(f["boxes"]) for f in model.detect(images)] == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_without_extent_is_as_no_box(kind: str) -> None:
    model = small(kind).train()
    images, targets = batch(model)
    flat = torch.tensor([[20.0, 30.0, 20.0, 60.0], [5.0, 5.0, 5.0, 5.0]])
    spoilt = [
        t | {"boxes": torch.cat([t["boxes"], flat]), "labels": torch.cat([t["labels"], t["labels"][:2]])}
        for t in targets
    ]
    if model.uses_masks:
        spoilt = [t | {"masks": torch.cat([t["masks"], t["masks"][:2]])} for t in spoilt]
    results = []
    for given in (targets, spoilt):
        torch.manual_seed(3)
        results.append(model(images, given)[0])
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_image_on_which_nothing_is_sure_has_no_detections(kind: str) -> None:
    model = small(kind, score_threshold=1.0)
    [found] = model.detect([to_tensor(FILMS[0].image)[:, :50, :40]])
    shapes = {"boxes": (0, 4), "labels": (0,), "scores": (0,)} | ({"masks": (0, 50, 40)} if model.uses_masks else {})
    assert {k: tuple(v.shape) for k, v in found.items()} == shapes


@pytest.mark.parametrize("kind", KINDS)
def test_detections_lie_in_their_images_and_leave_the_model_in_training(kind: str) -> None:
    model = small(kind, score_threshold=0.0, min_area=1)
    images = [to_tensor(FILMS[0].image), to_tensor(FILMS[1].image)[:, :60]]
    if kind == "fpn_segmenter":  # what is untrained sees nothing; let it see about half of the image
        nn.init.zeros_(model.branch.predictor.bias)
    found = model.train().detect(images)
    assert model.training
    for image, one in zip(images, found, strict=True):
        height, width = image.shape[1:]
        boxes = one["boxes"]
        assert 0 < len(boxes) == len(one["labels"]) == len(one["scores"]) <= 100
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= width
        assert boxes[:, 3].max() <= height
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert set(one["labels"].tolist()) <= {1, 2, 3}
        assert ((one["scores"] >= 0) & (one["scores"] <= 1)).all()
        assert (one["scores"].diff() <= 0).all(), "the surest first"
        if model.uses_masks:
            assert one["masks"].dtype == torch.bool
            assert one["masks"].shape == (len(boxes), height, width)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_survive_a_checkpoint_and_fit_no_other_kind(kind: str, tmp_path: Path) -> None:
    model = small(kind, score_threshold=0.0)
    images, _ = batch(model)
    path = saved(model, tmp_path)
    other = small(kind, score_threshold=0.0)
    nn.init.normal_(next(p for p in other.parameters() if p.requires_grad))
    load_weights(path, other)
    for one, two in zip(model.detect(images), other.detect(images), strict=True):
        assert all(torch.equal(one[k], two[k]) for k in one)
    stranger = small(next(k for k in KINDS if k != kind))
    with pytest.raises(TrainingError, match="the weights are of another model"):
        load_weights(path, stranger)


def saved(model: SceneModel, folder: Path) -> Path:
    state = {k: v.clone() for k, v in model.state_dict().items()}
    return save_checkpoint(
        folder, Checkpoint(1, state, {}, {"state": {}, "param_groups": []}, torch.get_rng_state()), {}
    )


def helped(kind: str, **more: object) -> SceneModel:
    """A model with every part that its kind can have for training alone, nothing of it as it is made."""
    settings: dict[str, object] = {"inexact": {"posterior": True, "filter": True, "adversary": 0.1}}
    if kind in TWO_STAGE:
        settings |= {"embedding": 8, "classification": {"loss": "label_enhancement", "memory": 4}}
    model = small(kind, **settings | more)
    for key, value in model.state_dict().items():
        if any(key.startswith(f"{part}.") for part in OF_TRAINING):
            value.copy_(torch.full_like(value, 3))
    return model


def parts_of(keys: set[str]) -> set[str]:
    return {part for key in keys for part in OF_TRAINING if key.startswith(f"{part}.")}


@pytest.mark.parametrize("kind", KINDS)
def test_no_prediction_depends_on_the_parts_that_serve_training_alone(kind: str) -> None:
    plain, full = small(kind, score_threshold=0.0), helped(kind, score_threshold=0.0)
    more = full.state_dict().keys() - plain.state_dict().keys()
    assert plain.state_dict().keys() < full.state_dict().keys()
    assert all(any(key.startswith(f"{part}.") for part in OF_TRAINING) for key in more)
    assert parts_of(more) & {*OF_ANNOTATIONS}
    full.load_state_dict(plain.state_dict(), strict=False)
    images, _ = batch(plain)
    for one, two in zip(plain.detect(images), full.detect(images), strict=True):
        assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_starts_from_weights_with_or_without_the_parts_of_training(kind: str, tmp_path: Path) -> None:
    plain, full = small(kind), helped(kind)
    nn.init.normal_(next(p for p in plain.parameters() if p.requires_grad))
    before = {k: v.clone() for k, v in full.state_dict().items()}
    path = saved(plain, tmp_path / "plain")
    more = full.state_dict().keys() - plain.state_dict().keys()
    assert {*begin_from(path, full)} == parts_of({*more})
    for key, value in full.state_dict().items():
        assert torch.equal(value, before[key] if key in more else plain.state_dict()[key]), key
    bare = small(kind)
    assert begin_from(saved(full, tmp_path / "full"), bare) == ()
    assert all(torch.equal(v, full.state_dict()[k]) for k, v in bare.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_was_learned_of_the_annotations_is_left_behind_where_both_have_it(kind: str, tmp_path: Path) -> None:
    full, other = helped(kind), helped(kind)
    for key, value in other.state_dict().items():
        if parts_of({key}):
            value.zero_()
    anew = begin_from(saved(full, tmp_path), other)
    assert len(anew) == 1
    assert {*anew} < {*OF_ANNOTATIONS}
    for key, value in other.state_dict().items():
        if key.startswith(f"{anew[0]}."):
            assert not bool(value.any())
        else:
            assert torch.equal(value, full.state_dict()[key])


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_does_not_start_from_another_model(kind: str, tmp_path: Path) -> None:
    path = saved(small(kind), tmp_path)
    with pytest.raises(TrainingError, match=r"initial: the weights are of another model.*16.* there, 32.* here"):
        begin_from(path, small(kind, fpn_channels=32))
    stranger = small(next(k for k in KINDS if k != kind))
    with pytest.raises(TrainingError, match=r"(is|there,) missing (there|here).*the model and the classes of that one"):
        begin_from(path, stranger)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_losses_and_scenes(kind: str) -> None:
    runs = []
    for _ in range(2):
        model = small(kind).train()
        torch.manual_seed(7)
        runs.append(model(*batch(model)))
    (one, first), (two, second) = runs
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(first, second, strict=True))


def read_by_hand(model: SceneModel, image: int, box: Tensor) -> Tensor:
    """The mean of 6 × 6 evenly spread points of the level that eq. 1 of the FPN paper names, by bilinear interpolation."""
    levels = {int(k): v for k, v in model.pyramid().items() if k.isdigit()}
    area = float((box[2] - box[0]) * (box[3] - box[1]))
    wanted = 4 + math.floor(math.log2(math.sqrt(area) / 224)) - 2
    level = min(max(wanted, min(levels)), max(levels))
    features, stride = levels[level][image], 4 * 2**level
    points = [box[:2] + (box[2:] - box[:2]) * (torch.tensor([i, j]) + 0.5) / 6 for i in range(6) for j in range(6)]
    size = torch.tensor([features.shape[2], features.shape[1]]) * stride
    grid = 2 * torch.stack(points) / size - 1
    # torchvision's RoIAlign takes the first pixel's corner for its middle: half a pixel of the level to the right and below
    grid = grid + torch.tensor([1 / features.shape[2], 1 / features.shape[1]])
    found = nn.functional.grid_sample(features[None], grid[None, None], padding_mode="border", align_corners=False)
    return found[0, :, 0].mean(1)


@pytest.mark.parametrize("source", ["labelled", "unlabelled"])
@pytest.mark.parametrize("kind", KINDS)
def test_features_in_boxes_are_means_of_the_pyramid_without_gradient(kind: str, source: str) -> None:
    model = small(kind).train()
    images, targets = batch(model)
    images[1] = images[1][:, :72]  # 85 by 64 when scaled, so the batch is padded
    targets[1] = {k: v[:, :72] if k == "masks" else v for k, v in targets[1].items()}
    if source == "labelled":
        model(images, targets)
    else:
        model.propose(images)
    boxes = [torch.tensor([[8.0, 12.0, 40.0, 60.0], [20.0, 20.0, 30.0, 28.0]]), torch.tensor([[30.0, 6.0, 70.0, 58.0]])]
    found = model.features_of(boxes)
    assert [f.shape for f in found] == [(2, 16), (1, 16)]
    assert not any(f.requires_grad for f in found)
    for image, (of_image, read) in enumerate(zip(boxes, found, strict=True)):
        for box, features in zip(of_image, read, strict=True):
            torch.testing.assert_close(features, read_by_hand(model, image, box), atol=1e-4, rtol=1e-4)
    none = [boxes[0][:0], boxes[0][:0]]
    assert [f.shape for f in model.features_of(none)] == [(0, 16), (0, 16)]
    assert [f.shape for f in model.features_of([boxes[0], none[1]])] == [(2, 16), (0, 16)]


def test_the_masks_of_detections_are_those_of_the_same_boxes_and_labels_asked_for_again() -> None:
    model = small("mask_rcnn", score_threshold=0.0)
    images, _ = batch(model)
    images[1] = images[1][:, :72]
    detected = model.detect(images)
    assert any(bool(f["masks"].any()) for f in detected)
    own = [f["masks"][:, :1, :1].float() for f in detected]
    again = model.masks_of(images, [f["boxes"] for f in detected], [f["labels"] for f in detected], own)
    for one, masks in zip(detected, again, strict=True):
        assert masks.shape == one["masks"].shape
        assert float((masks != one["masks"]).float().mean()) < 1e-3


def test_a_segmenters_object_keeps_the_mask_that_it_was_proposed_with() -> None:
    model = small("fpn_segmenter").eval()
    images, _ = batch(model)
    images[1] = images[1][:, :72]
    model.propose(images)
    soft = torch.zeros(2, 6, 8)
    soft[0, 2:4, 2:6] = 0.9
    soft[1] = 0.3
    boxes, labels = torch.tensor([[0.0, 0.0, 5.0, 5.0]]).expand(2, 4), torch.tensor([1, 2])
    one, other = model.masks_of(images, [boxes, boxes[:0]], [labels, labels[:0]], [soft, soft[:0]])
    assert one.shape == (2, 96, 96)
    assert other.shape == (0, 72, 96)
    assert one[0, 38:58, 30:66].all()
    assert int(one[0].sum()) <= 40 * 56, "not further than half a cell"
    assert not one[1].any()


@pytest.mark.parametrize("kind", WITH_MASKS)
def test_targets_without_masks_teach_what_boxes_say(kind: str) -> None:
    model = small(kind).train()
    images, targets = batch(model)
    losses, _ = model(images, [{k: t[k] for k in ("boxes", "labels")} for t in targets])
    total(losses).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    shape = "loss_mask" if kind == "mask_rcnn" else "loss_dice"
    assert float(losses[shape].detach()) == 0.0, "no shape is known, so none is taught"
    assert max(float(g.abs().max()) for g in of_the_trunk(model)) > 0


def test_an_unknown_kind_names_the_known_ones() -> None:
    config = DetectorConfig().model_copy(update={"kind": "retinanett"})
    with pytest.raises(ConfigError, match=r"model.kind: unknown kind 'retinanett'; did you mean 'retinanet'\?"):
        build_model(config, NAMES)
