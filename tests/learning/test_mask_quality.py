"""Quality of annotated masks: against predicted ones, and against the posterior of a segmenter that knows coarse ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurosym.data.degrade import DegradedSamples
from neurosym.data.masks import box_of, decode_mask, encode_mask, mask_overlap
from neurosym.learning.annotation_estimate import AnnotationQuality, QualityParts, best_prediction, reasons_of
from neurosym.learning.annotation_quality import annotation_quality
from neurosym.learning.annotation_truth import score_quality, truth_of_split
from neurosym.learning.batches import make_batch
from neurosym.learning.mask_quality import judge_masks, nearest
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import train
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.inexact_masks import InexactMasks
from neurosym.models.segmenter import FpnSegmenter
from neurosym.records import Annotation, Detection, Sample
from tests.learning.test_train import config_of

SIDE = 96
Y, X = np.mgrid[:SIDE, :SIDE] + 0.5


def disc(x: float, y: float, radius: float) -> np.ndarray:
    return np.asarray((X - x) ** 2 + (Y - y) ** 2 < radius**2)


def annotated(mask: np.ndarray, name: str = "heart") -> Annotation:
    return Annotation(name, box_of(mask), encode_mask(mask))


def film(centres: Sequence[tuple[float, float]], drawn: float, seed: int) -> Sample:
    """Bright discs of radius 12 on a dark, noisy film, annotated as discs of radius `drawn`."""
    rng = np.random.default_rng(seed)
    there = np.any([disc(*c, 12) for c in centres], axis=0)
    image = (60 + 120 * there + rng.normal(0, 12, (SIDE, SIDE))).clip(0, 255).astype(np.uint8)
    return Sample(f"film-{seed}", image, tuple(annotated(disc(*c, drawn)) for c in centres))


def segmenter(**inexact: object) -> FpnSegmenter:
    torch.manual_seed(0)
    settings = {"image_size": 64, "max_size": 64, "fpn_channels": 16, "pretrained": False, "inexact": inexact}
    model = build_model(DetectorConfig.model_validate({"kind": "fpn_segmenter"} | settings), ("lung", "heart"))
    assert isinstance(model, FpnSegmenter)
    return model


@pytest.fixture(scope="module")
def taught() -> FpnSegmenter:
    """Shown masks that are a third too wide, so that it knows where borders lie; its network has learned nothing."""
    model = segmenter(posterior=True, start=2).train()
    rng = np.random.default_rng(0)
    for step in range(8):
        films = [film([tuple(rng.uniform(30, 66, 2))], 16, 2 * step + k) for k in range(2)]
        with torch.no_grad():
            model(*make_batch(films, model.names, torch.device("cpu"), None, True))
    return model.eval()


def test_the_posterior_finds_the_true_mask_better_than_the_wide_one_it_was_shown(taught: FpnSegmenter) -> None:
    wide, exact = film([(40, 50)], 16, 99), film([(40, 50)], 12, 99)
    [[of_wide]], [[of_exact]] = judge_masks(taught, [wide]), judge_masks(taught, [exact])
    assert of_wide is not None
    assert of_exact is not None
    true = 12**2 / 16**2
    assert abs(of_wide - true) < 0.1
    assert of_exact > of_wide + 0.1


def test_judging_masks_changes_no_state_and_is_the_same_for_images_together_or_alone(taught: FpnSegmenter) -> None:
    films = [film([(40, 50)], 16, 1), film([(50, 40), (20, 70)], 13, 2)]
    before = {k: v.clone() for k, v in taught.state_dict().items()}
    together = judge_masks(taught, films)
    assert together == [judge_masks(taught, [f])[0] for f in films]
    assert [len(of_image) for of_image in together] == [1, 2]
    after = taught.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not taught.training


def test_there_is_no_opinion_without_a_mask_a_posterior_or_enough_steps(taught: FpnSegmenter) -> None:
    one = film([(40, 50)], 16, 1)
    box = replace(one.annotations[0], mask=None)
    scribble, other = replace(one.annotations[0], drawn="scribble"), replace(one.annotations[0], name="nodule")
    mixed = replace(one, annotations=(box, other, scribble, *one.annotations))
    assert judge_masks(taught, [mixed]) == [[None, *judge_masks(taught, [one])[0]]]
    assert judge_masks(taught, [replace(one, annotations=())]) == [[]]
    for model in (segmenter(), segmenter(filter=True, start=0), segmenter(posterior=True, start=1)):
        assert judge_masks(model.eval(), [one]) == [[None]]


def test_each_annotation_answers_for_the_part_of_the_posterior_that_is_nearest_to_it(
    taught: FpnSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    centres = [(24, 48), (72, 48)]
    two = film(centres, 12, 1)
    found = torch.from_numpy(np.any([disc(*c, 12) for c in centres], axis=0)).float()
    shrunk = torch.nn.functional.interpolate(found[None, None], size=(64, 64), mode="nearest")[0, 0]
    monkeypatch.setattr(InexactMasks, "judge", lambda *_: shrunk * 0.9)
    assert judge_masks(taught, [two]) == [[pytest.approx(1.0, abs=0.05)] * 2]
    monkeypatch.setattr(InexactMasks, "judge", lambda *_: shrunk * 0.9 * (torch.arange(64) < 32))
    [[left, right]] = judge_masks(taught, [two])
    assert left == pytest.approx(1.0, abs=0.05)
    assert right == 0


def test_pixels_belong_to_the_nearest_mask_and_shared_ones_to_each() -> None:
    masks = np.stack([disc(20, 48, 9), disc(70, 48, 9), disc(74, 48, 9)])
    shares = nearest(masks)
    assert (shares & masks == masks).all()
    assert shares.any(0).all()
    away = np.stack([np.hypot(X - x, Y - y) for x, y in ((20, 48), (70, 48), (74, 48))])
    clear = away[0] + 3 < away[1:].min(0)
    assert shares[0][clear].all()
    assert not shares[1:, clear].any()


# --- in the estimate and its score ---------------------------------------------------------------------------------------


def test_masks_are_compared_where_both_have_one_and_boxes_elsewhere() -> None:
    whole, half = disc(48, 48, 20), disc(48, 48, 20) & (Y > 48)
    own = annotated(whole)
    seen = Detection("heart", box_of(whole), 0.8, encode_mask(half))
    assert best_prediction(own, [seen])[0] == pytest.approx(0.8 * half.sum() / whole.sum())
    assert best_prediction(own, [replace(seen, mask=None)])[0] == pytest.approx(0.8)
    assert best_prediction(replace(own, mask=None), [seen])[0] == pytest.approx(0.8)
    assert reasons_of(own, [seen], seen, None, (), 0.314) == (
        "the predicted mask overlaps it by 0.50",
        "the posterior's mask overlaps it by 0.31",
    )
    assert reasons_of(own, [], replace(seen, mask=own.mask), None, (), 0.9) == ()
    with pytest.raises(ValueError, match="not of one image"):
        mask_overlap(encode_mask(whole), encode_mask(whole[:9]))


def test_a_judged_mask_is_scored_by_its_overlap_with_the_true_mask() -> None:
    true, drawn = disc(48, 48, 12), disc(48, 48, 16)
    own = annotated(drawn)
    judged = AnnotationQuality("film", 0, "heart", own.box, None, 0.5, QualityParts(0.5), mask=own.mask)
    of_box = replace(judged, mask=None)
    wrong = replace(judged, index=1, name="lung")
    of_masks = (true & drawn).sum() / (true | drawn).sum()
    boxes = 24**2 / 32**2
    truth = {"film": [annotated(true), annotated(true)]}
    scores = score_quality([judged, wrong], truth)
    assert scores is not None
    assert scores.mask_iou == pytest.approx(of_masks)
    assert scores.annotated_iou == pytest.approx(boxes)
    assert scores.error == pytest.approx(abs(0.5 - of_masks / 2))
    alone = score_quality([of_box], truth)
    assert alone is not None
    assert alone.mask_iou is None
    assert alone.error == pytest.approx(abs(0.5 - boxes))
    bare = score_quality([judged], {"film": [replace(annotated(true), mask=None)]})
    assert bare is not None
    assert bare.mask_iou is None
    assert "mask" not in judged.as_dict()
    assert (judged.as_dict()["judged"], of_box.as_dict()["judged"]) == ("mask", "box")


def test_a_segmenter_that_learns_from_coarse_masks_judges_them_and_is_scored_by_masks(tmp_path: Path) -> None:
    settings = (
        *("model.kind=fpn_segmenter", "constraints.weight=0", "constraints.unlabelled_batch=0", "train.steps=3"),
        "data.train.count=2",
        "model.inexact={posterior: true, start: 1}",
        "data.degrade={how: coarse_mask, shape: dilate, r: 0.2}",
    )
    run = open_run(train(config_of(tmp_path, *settings), tmp_path / "run"))
    samples = run.images("train")
    assert isinstance(samples, DegradedSamples)
    found = annotation_quality(run, samples=samples)
    assert len(found) > 5
    assert all(q.parts.posterior is not None and q.parts.attained is None and q.suggested is None for q in found)
    assert len({q.parts.posterior for q in found}) > 3
    truth = truth_of_split(run, "train", samples)
    assert truth is not None
    scores = score_quality(found, truth)
    assert scores is not None
    shown = {s.image_id: s.annotations for s in (samples[i] for i in range(len(samples)))}
    pairs = [(shown[q.image_id][q.index], truth[q.image_id][q.index]) for q in found]
    ious = []
    for own, true in pairs:
        assert own.mask is not None
        assert true.mask is not None
        a, b = decode_mask(own.mask) > 0, decode_mask(true.mask) > 0
        ious.append((a & b).sum() / (a | b).sum())
    assert scores.mask_iou == pytest.approx(np.mean(ious), abs=1e-6)


def test_a_detector_of_boxes_goes_on_judging_boxes_of_annotations_with_masks(tmp_path: Path) -> None:
    settings = ("constraints.weight=0", "constraints.unlabelled_batch=0", "train.steps=1", "data.train.count=1")
    run = open_run(train(config_of(tmp_path, *settings), tmp_path / "run"))
    found = annotation_quality(run)
    assert found
    assert all(q.mask is None for q in found)
