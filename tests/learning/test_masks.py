from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from neurosym.data.coco import as_coco
from neurosym.data.images import annotated_scene
from neurosym.data.masks import decode_mask, encode_mask
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import DataError
from neurosym.learning.batches import augment, make_batch, require_masks, to_target, to_tensor
from neurosym.learning.config import load_config
from neurosym.learning.evaluate import evaluate_scenes
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import open_run
from neurosym.learning.strong_view import strong_view
from neurosym.learning.train import train
from neurosym.models.scene import UNKNOWN
from neurosym.records import Box, Detection, Sample, Scene
from neurosym.scenes import load_scenes, save_scenes

ROOT = Path(__file__).parents[2]
NAMES = ("right_lung", "heart", "left_lung")
FILMS = list(Phantom(0, 4, PhantomConfig(size=96)))


def boxes_only(film: Sample) -> Sample:
    return replace(film, annotations=tuple(replace(a, mask=None) for a in film.annotations))


def test_masks_are_given_only_when_asked_for_and_are_the_annotations_own() -> None:
    film = FILMS[0]
    plain, full = to_target(film, NAMES), to_target(film, NAMES, masks=True)
    assert set(plain) == {"boxes", "labels"}
    assert torch.equal(plain["boxes"], full["boxes"])
    assert full["masks"].dtype == torch.uint8
    known = [a for a in film.annotations if a.name in NAMES]
    for mask, annotation in zip(full["masks"], known, strict=True):
        assert annotation.mask is not None
        assert np.array_equal(mask.numpy(), decode_mask(annotation.mask))


def test_the_mask_of_an_annotation_without_one_is_unknown_in_its_box() -> None:
    film = boxes_only(FILMS[0])
    target = to_target(film, NAMES, masks=True)
    for mask, box in zip(target["masks"], target["boxes"].int().tolist(), strict=True):
        expected = torch.zeros(96, 96, dtype=torch.uint8)
        expected[box[1] : box[3], box[0] : box[2]] = UNKNOWN
        assert torch.equal(mask, expected)


@pytest.mark.parametrize("seed", range(6))
def test_augmentation_moves_masks_as_boxes_and_leaves_boxes_as_without_masks(seed: int) -> None:
    image = torch.rand(3, 96, 96)
    plain, full = (to_target(FILMS[1], NAMES, masks=m) for m in (False, True))
    one, without = augment(image, plain, np.random.default_rng(seed))
    two, moved = augment(image, full, np.random.default_rng(seed))
    assert torch.equal(one, two)
    assert torch.equal(without["boxes"], moved["boxes"])
    assert torch.equal(without["labels"], moved["labels"])
    assert len(moved["masks"]) == len(moved["boxes"]) > 0
    assert set(moved["masks"].unique().tolist()) <= {0, 1}
    for mask, box in zip(moved["masks"], moved["boxes"].tolist(), strict=True):
        place = mask.nonzero()
        (y1, x1), (y2, x2) = place.min(0).values.tolist(), (place.max(0).values + 1).tolist()
        assert [x1, y1, x2, y2] == pytest.approx(box, abs=1.5)


def test_a_batch_of_a_film_that_shows_nothing_has_no_masks() -> None:
    images, [target] = make_batch(
        [replace(FILMS[0], annotations=())], NAMES, torch.device("cpu"), np.random.default_rng(0), True
    )
    assert images[0].shape == (3, 96, 96)
    assert target["masks"].shape == (0, 96, 96)


def test_data_without_any_mask_is_refused_for_a_model_that_learns_from_masks() -> None:
    require_masks(FILMS, NAMES)
    with pytest.raises(
        DataError, match=r"annotations .* are boxes only; use annotations with segmentations, or model.kind"
    ):
        require_masks([boxes_only(f) for f in FILMS], NAMES)


def shifted(scenes: list[Scene], seed: int) -> list[Scene]:
    """Scenes whose masks and boxes are moved by a few pixels, with scores."""
    rng = np.random.default_rng(seed)
    found = []
    for scene in scenes:
        detections = []
        for d in scene.detections:
            assert d.mask is not None
            dy, dx = rng.integers(-4, 5, 2)
            mask = np.roll(decode_mask(d.mask), (dy, dx), (0, 1))
            detections.append(replace(d, score=float(rng.uniform(0.1, 1)), mask=encode_mask(mask)))
        found.append(replace(scene, detections=tuple(detections)))
    return found


@pytest.mark.parametrize("seed", range(2))
def test_mask_average_precision_equals_pycocotools(seed: int) -> None:
    true = [annotated_scene(f) for f in FILMS]
    predicted = shifted(true, seed)
    result = evaluate_scenes(predicted, true, NAMES)
    for name in NAMES:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = as_coco(true, NAMES)
            truth.createIndex()
            run = COCOeval(truth, truth.loadRes(as_coco(predicted, NAMES)["annotations"]), "segm")
            run.params.catIds = [NAMES.index(name) + 1]
            run.evaluate()
            run.accumulate()
            run.summarize()
        assert result.per_class[name]["mask_ap"] == pytest.approx(run.stats[0], abs=1e-6)
        assert result.per_class[name]["mask_ap50"] == pytest.approx(run.stats[1], abs=1e-6)
    assert result.mask_ap == pytest.approx(np.mean([c["mask_ap"] for c in result.per_class.values()]))
    assert result.as_dict()["mask_ap50"] == result.mask_ap50


def scene_of(name: str, *objects: tuple[str, list[tuple[int, int]], float]) -> Scene:
    """A scene of 4 × 5 pixels whose objects are given by class, pixels (row, column) and score."""
    found = []
    for label, pixels, score in objects:
        mask = np.zeros((4, 5))
        mask[tuple(np.array(pixels).T)] = 1
        found.append(Detection(label, Box(0, 0, 5, 4), score, encode_mask(mask)))
    return Scene(name, 5, 4, tuple(found))


def test_dice_is_of_the_union_of_a_class_and_the_mean_over_images_where_either_has_a_pixel() -> None:
    true = [
        scene_of("a", ("lung", [(0, 0), (0, 1)], 1.0), ("lung", [(3, 3)], 1.0)),
        scene_of("b", ("lung", [(0, 0)], 1.0)),
        scene_of("c"),
        scene_of("d"),
    ]
    predicted = [
        # the pixel (0, 1) is found twice and counts once; what is below the threshold does not count
        scene_of("a", ("lung", [(0, 1)], 0.9), ("lung", [(0, 1), (1, 1)], 0.5), ("lung", [(3, 3)], 0.4)),
        scene_of("b"),
        scene_of("c", ("lung", [(2, 2)], 0.8)),
        scene_of("d", ("lung", [(2, 2)], 0.3)),
    ]
    result = evaluate_scenes(predicted, true, ["lung", "heart"])
    assert result.dice == {"lung": pytest.approx((2 * 1 / (3 + 2) + 0 + 0) / 3)}
    assert result.as_dict()["dice"] == result.dice
    assert evaluate_scenes(predicted, true, ["lung", "heart"], threshold=0.35).dice["lung"] == pytest.approx(4 / 6 / 3)
    bare = [replace(s, detections=tuple(replace(d, mask=None) for d in s.detections)) for s in predicted]
    assert evaluate_scenes(bare, true, ["lung", "heart"]).dice == {}


def test_masks_are_scored_only_where_both_sides_have_them() -> None:
    true = [annotated_scene(f) for f in FILMS]
    bare = [annotated_scene(boxes_only(f)) for f in FILMS]
    for predicted, annotated in ((bare, true), (true, bare), ([*true[:3], bare[3]], true)):
        result = evaluate_scenes(predicted, annotated, NAMES)
        assert result.mask_ap is None
        assert set(result.as_dict()) == {"images", "ap", "ap50", "calibration_error", "per_class", "rules"}
        assert all(set(c) == {"ap", "ap50"} for c in result.per_class.values())
    assert evaluate_scenes(true, true, NAMES).mask_ap == pytest.approx(1.0)
    silent = [replace(s, detections=()) for s in true]
    assert evaluate_scenes(silent, true, NAMES).mask_ap == 0.0


@pytest.mark.parametrize("kind", ["fpn_segmenter", "mask_rcnn"])
def test_a_run_of_a_model_with_masks_predicts_masks_of_the_images_size(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"""
name: tiny
threads: 1
knowledge: [{ROOT}/ontologies/thorax.ttl, {ROOT}/rules/thorax.rules]
data:
  format: phantom
  size: 128
  categories: [left_lung, right_lung, heart]
  train: {{start: 0, count: 4}}
  test: {{start: 200, count: 2}}
model: {{kind: {kind}, image_size: 64, max_size: 64, proposals: 40, head_features: 32, fpn_channels: 16, score_threshold: 0}}
train: {{steps: 4, batch_size: 2, lr: 3.0e-3, warmup_steps: 1, ema: 0}}
constraints: {{weight: 0.5, warmup_steps: 1}}
""")
    run = open_run(train(load_config(path), tmp_path / "run"))
    scenes = predict(run, run.images("test"))
    found = [d for s in scenes for d in s.detections]
    assert found
    for d in found:
        assert d.mask is not None
        assert decode_mask(d.mask).shape == (128, 128)
    save_scenes(tmp_path / "s.json", scenes)
    assert load_scenes(tmp_path / "s.json")[0] == scenes


@pytest.mark.parametrize("seed", range(4))
def test_a_grey_film_is_augmented_as_its_three_channels_would_be(seed: int) -> None:
    grey = to_tensor(np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8))
    target = {"boxes": torch.tensor([[5.0, 5, 30, 30]]), "labels": torch.tensor([1])}
    views = []
    for image in (grey, grey.clone(memory_format=torch.contiguous_format)):
        rng = np.random.default_rng(seed)
        views.append(strong_view(augment(image, target, rng)[0], rng))
    assert views[0].shape == (3, 40, 50)
    torch.testing.assert_close(*views)
