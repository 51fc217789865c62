from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from neurosym.data.coco import as_coco
from neurosym.errors import TrainingError
from neurosym.learning.evaluate import above, evaluate_scenes, scenes_to_score
from neurosym.records import Annotation, Box, Detection, Sample, Scene

NAMES = ("heart", "nodule", "left_lung")


def random_scenes(seed: int, images: int = 12) -> tuple[list[Scene], list[Scene]]:
    rng = np.random.default_rng(seed)
    true, predicted = [], []
    for i in range(images):
        boxes, found = [], []
        for _ in range(rng.integers(1, 5)):
            x, y, w, h = rng.uniform(5, 60, 4)
            name = NAMES[rng.integers(2)]
            boxes.append(Detection(name, Box(x, y, x + w, y + h)))
            dx, dy = rng.normal(0, 4, 2)
            found.append(Detection(name, Box(x + dx, y + dy, x + w + dy, y + h + dx), float(rng.uniform(0.1, 1))))
        found.append(Detection("left_lung", Box(0, 0, 9, 9), 0.3))
        true.append(Scene(str(i), 128, 128, tuple(boxes)))
        predicted.append(Scene(str(i), 128, 128, tuple(found)))
    return predicted, true


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_equals_pycocotools(seed: int) -> None:
    predicted, true = random_scenes(seed)
    result = evaluate_scenes(predicted, true, NAMES)
    for name in NAMES[:2]:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = as_coco(true, NAMES)
            truth.createIndex()
            run = COCOeval(truth, truth.loadRes(as_coco(predicted, NAMES)["annotations"]), "bbox")
            run.params.catIds = [NAMES.index(name) + 1]
            run.evaluate()
            run.accumulate()
            run.summarize()
        assert result.per_class[name]["ap"] == pytest.approx(run.stats[0], abs=1e-6)
        assert result.per_class[name]["ap50"] == pytest.approx(run.stats[1], abs=1e-6)
    assert result.ap == pytest.approx(np.mean([c["ap"] for c in result.per_class.values()]))


def test_a_class_that_is_annotated_nowhere_has_no_score() -> None:
    assert set(evaluate_scenes(*random_scenes(0), NAMES).per_class) == {"heart", "nodule"}


def test_perfect_predictions_score_one_and_none_score_zero() -> None:
    _, true = random_scenes(1)
    assert evaluate_scenes(true, true, NAMES).ap == pytest.approx(1.0)
    assert evaluate_scenes([above(s, 2.0) for s in true], true, NAMES).ap == 0.0


def test_scenes_of_other_images_or_without_annotations_are_refused() -> None:
    predicted, true = random_scenes(0)
    with pytest.raises(TrainingError, match="not of the same images in the same order"):
        evaluate_scenes(predicted[::-1], true, NAMES)
    with pytest.raises(TrainingError, match="nothing is annotated"):
        evaluate_scenes(predicted, [above(s, 2.0) for s in true], NAMES)


def test_points_are_not_scored_as_boxes_and_images_without_a_box_for_every_object_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    image = np.zeros((64, 64), dtype=np.uint8)
    heart, nodule = Annotation("heart", Box(1, 2, 30, 40)), Annotation("nodule", Box(5, 5, 7, 7), drawn="point")
    full = Sample("a", image, (heart,))
    assert scenes_to_score([full], NAMES)[0].detections == (Detection("heart", heart.box),)
    assert not caplog.records
    pointed = Sample("b", image, (heart, nodule))
    open_class = Sample("c", image, (heart,), complete=frozenset({"heart"}))
    found = scenes_to_score([full, pointed, open_class], ["heart", "nodule"])
    assert [[d.name for d in s.detections] for s in found] == [["heart"]] * 3
    assert "on 2 of 3 images not every object has a box" in caplog.text
    caplog.clear()
    scenes_to_score([pointed, open_class], ["heart"])
    scenes_to_score([replace(open_class, absent=frozenset({"nodule"}))], ["heart", "nodule"])
    assert not caplog.records
