"""Models with masks under a teacher and a refiner: pseudo-labels and refined detections have masks, and the right ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurosym.constraints import compile_constraints
from neurosym.constraints.graph import RefinerSettings, SceneRefiner, ontology_graph
from neurosym.data.masks import decode_mask
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.knowledge import Knowledge
from neurosym.learning.batches import to_tensor
from neurosym.learning.predict import detect_refined, predict
from neurosym.learning.runfolder import open_run
from neurosym.learning.teacher import Teacher, lessons
from neurosym.learning.train import train
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.scene import UNKNOWN, SceneModel, SceneProposals
from neurosym.records import Sample
from tests.learning.test_teacher import REFINED
from tests.learning.test_train import config_of

NAMES = ("left_lung", "right_lung", "heart")
CPU = torch.device("cpu")
PLACES = ((40, 80, 32, 60), (88, 112, 20, 52), (20, 52, 72, 104))
"""Rows and columns of the squares on the film below, multiples of the cells of 4 pixels."""
LABELS = (3, 1, 2)


class Squares(SceneModel):
    """Proposes the squares with their masks; `faint` ones are proposed with masks that are nowhere above one half."""

    uses_masks = True

    def __init__(self, faint: tuple[int, ...] = (), masks: bool = True) -> None:
        nn.Module.__init__(self)
        self.config = DetectorConfig()
        self.faint, self.masks = faint, masks

    def propose(self, images: list[Tensor], limit: int = 64) -> list[SceneProposals]:
        boxes = torch.tensor([[x1, y1, x2, y2] for y1, y2, x1, x2 in PLACES]).float()
        p = torch.full((len(PLACES), 4), 0.02)
        p[torch.arange(len(PLACES)), torch.tensor(LABELS)] = 0.94
        soft = torch.zeros(len(PLACES), 32, 32)
        for k, (y1, y2, x1, x2) in enumerate(PLACES):
            soft[k, y1 // 4 : y2 // 4, x1 // 4 : x2 // 4] = 0.3 if k in self.faint else 1.0
        return [SceneProposals(p, boxes, soft if self.masks else None, (128.0, 128.0)) for _ in images]

    def forward(self, images, targets):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    detect = pyramid = forward


class SquaresTeacher(Teacher):
    def __init__(self, model: SceneModel) -> None:
        self.model, self.device = model, CPU


def film(number: int) -> Sample:
    """Only this square is bright."""
    y1, y2, x1, x2 = PLACES[number]
    image = np.zeros((128, 128), dtype=np.uint8)
    image[y1:y2, x1:x2] = 255
    return Sample("square", image)


def untrained(knowledge: Knowledge) -> SceneRefiner:
    """Its heads are zero: of a scene it keeps the boxes and which class is the likeliest."""
    rules = compile_constraints(knowledge, NAMES)
    return SceneRefiner(rules, ontology_graph(rules, knowledge.ontology), RefinerSettings(hidden=8, rounds=1))


def intersection_over_union(a: Tensor, b: Tensor) -> float:
    return float((a & b).sum()) / float((a | b).sum())


@pytest.mark.parametrize("refined", [False, True])
def test_the_mask_of_a_pseudo_label_lies_on_its_object_where_the_augmentation_has_moved_it(
    refined: bool, thorax: Knowledge
) -> None:
    refiner = untrained(thorax) if refined else None
    for seed in range(5):
        for number, label in enumerate(LABELS):
            rng = np.random.default_rng(seed) if seed else None
            (lesson,) = lessons([film(number)], SquaresTeacher(Squares()), refiner, 0.5, rng)
            target, image = lesson.target, lesson.image[0]
            assert target["masks"].dtype == torch.uint8
            assert target["masks"].shape == (len(target["labels"]), 128, 128)
            assert sorted(target["labels"].tolist()) == [1, 2, 3]
            mask = target["masks"][target["labels"] == label][0]
            bright = image > (image.max() + image.min()) / 2
            assert set(mask.unique().tolist()) == {0, 1}
            # the corners of a bilinear mask are cut
            assert intersection_over_union(mask == 1, bright) > 0.9


@pytest.mark.parametrize("refined", [False, True])
def test_masks_change_nothing_else_of_a_lesson(refined: bool, thorax: Knowledge) -> None:
    refiner = untrained(thorax) if refined else None
    one, other = (
        lessons([film(0)], SquaresTeacher(Squares(masks=m)), refiner, 0.5, np.random.default_rng(4))[0]
        for m in (True, False)
    )
    assert torch.equal(one.image, other.image)
    assert set(one.target) - set(other.target) == {"masks"}
    assert all(torch.equal(one.target[k], other.target[k]) for k in other.target)
    assert torch.equal(one.probabilities, other.probabilities)
    assert torch.equal(one.boxes, other.boxes)
    assert len(one.boxes) == (3 if refined else 0)


def test_the_shape_of_a_pseudo_label_without_a_pixel_is_unknown_in_its_box() -> None:
    (lesson,) = lessons([film(0)], SquaresTeacher(Squares(faint=(1,))), None, 0.5, None)
    for label, mask in zip(lesson.target["labels"].tolist(), lesson.target["masks"], strict=True):
        y1, y2, x1, x2 = PLACES[LABELS.index(label)]
        if LABELS.index(label) == 1:
            expected = torch.zeros(128, 128, dtype=torch.uint8)
            expected[y1:y2, x1:x2] = UNKNOWN
            assert torch.equal(mask, expected)
        else:
            assert set(mask.unique().tolist()) == {0, 1}


def test_refined_detections_of_a_segmenter_have_the_masks_of_their_proposals_and_some_pixel(thorax: Knowledge) -> None:
    found = detect_refined(Squares(faint=(2,)), untrained(thorax), [torch.zeros(3, 128, 128)])[0]
    assert found["masks"].dtype == torch.bool
    assert len(found["boxes"]) == len(found["labels"]) == len(found["scores"]) == len(found["masks"])
    assert set(found["labels"][found["scores"] > 0.3].tolist()) == {1, 3}
    for label, box, mask in zip(found["labels"].tolist(), found["boxes"], found["masks"], strict=True):
        number = next(k for k, (y1, y2, x1, x2) in enumerate(PLACES) if box.tolist() == [x1, y1, x2, y2])
        del label
        y1, y2, x1, x2 = PLACES[number]
        expected = torch.zeros(128, 128, dtype=torch.bool)
        expected[y1:y2, x1:x2] = True
        assert number != 2
        assert intersection_over_union(mask, expected) > 0.95


def test_refined_detections_of_mask_rcnn_have_masks_of_its_branch_in_the_refined_boxes(thorax: Knowledge) -> None:
    """Boxes that a refiner has moved take their masks with them."""
    torch.manual_seed(0)
    settings = {"image_size": 64, "max_size": 64, "fpn_channels": 16, "head_features": 16, "pretrained": False}
    config = DetectorConfig(kind="mask_rcnn", proposals=40, score_threshold=0.05, **settings)  # type: ignore[arg-type]
    model, refiner = build_model(config, NAMES), untrained(thorax)
    # every pixel of a box belongs to its object, so a mask is its box
    nn.init.constant_(model.net.roi_heads.mask_predictor.mask_fcn_logits.weight, 0.0)
    nn.init.constant_(model.net.roi_heads.mask_predictor.mask_fcn_logits.bias, 9.0)
    nn.init.constant_(refiner.network.box[1].bias, 0.2)  # type: ignore[union-attr, arg-type]
    images = [to_tensor(f.image) for f in Phantom(0, 2, PhantomConfig(size=96))]
    images[1] = images[1][:, :72]
    plain = detect_refined(model, untrained(thorax), images)
    for image, moved, before in zip(images, detect_refined(model, refiner, images), plain, strict=True):
        assert len(moved["boxes"]) > 0
        assert moved["masks"].shape[1:] == image.shape[1:]
        assert not torch.equal(moved["boxes"][:5], before["boxes"][:5])
        for box, mask in zip(moved["boxes"], moved["masks"], strict=True):
            place = mask.nonzero()
            tight = torch.cat([place.min(0).values.flip(0), place.max(0).values.flip(0) + 1])
            assert (tight - box).abs().max() <= 2.5


@pytest.mark.parametrize("kind", ["mask_rcnn", "fpn_segmenter"])
def test_a_run_with_masks_a_teacher_and_a_refiner_learns_shapes_and_predicts_them(kind: str, tmp_path: Path) -> None:
    overrides = ("model.image_size=64", "model.max_size=64", "model.fpn_channels=16", "train.lr=3e-3", "train.ema=0.3")
    settings = (
        *REFINED,
        *overrides,
        f"model.kind={kind}",
        "teacher.start=5",
        "train.steps=8",
        "model.score_threshold=0",
    )
    run = train(config_of(tmp_path, *settings), tmp_path / "run")
    # exactly 0 where no shape is known
    assert run.metrics["pseudo_loss_mask" if kind == "mask_rcnn" else "pseudo_loss_dice"] > 0
    opened = open_run(run)
    images = opened.images("test")
    scenes = predict(opened, images)
    off = opened.config.model_copy(update={"refiner": opened.config.refiner.model_copy(update={"at_test": False})})
    assert scenes != predict(type(opened)(opened.path, off, opened.names, opened.knowledge), images)
    found = [d for s in scenes for d in s.detections]
    assert found
    for d in found:
        assert d.mask is not None
        assert decode_mask(d.mask).shape == (128, 128)
        assert decode_mask(d.mask).any()
