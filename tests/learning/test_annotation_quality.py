from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from neurosym.data.coco import load_coco
from neurosym.data.degrade import DegradedSamples, degradation, degrade
from neurosym.data.degrade_files import degrade_file
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import TrainingError
from neurosym.knowledge import Knowledge
from neurosym.learning.annotation_estimate import (
    AnnotationQuality,
    QualityParts,
    best_prediction,
    blame_of,
    estimate_of,
    moved_in_words,
    reasons_of,
    trust_of,
)
from neurosym.learning.annotation_quality import annotation_quality, judge_images
from neurosym.learning.annotation_rules import violations_of
from neurosym.learning.annotation_truth import score_quality, truth_of_file, truth_of_split
from neurosym.learning.batches import to_target
from neurosym.learning.checkpoint import latest_checkpoint, load_weights
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import OpenRun, open_run
from neurosym.learning.train import train
from neurosym.models.build import build_model
from neurosym.models.centroids import evidence
from neurosym.models.scene import SceneModel
from neurosym.records import Annotation, Box, Detection, Sample, Scene
from tests.learning.test_train import config_of

SMALL = ("constraints.weight=0", "constraints.unlabelled_batch=0", "data.train.count=4")
NOISY = "data.degrade={how: uniform, r: 0.3}"
HEART = Annotation("heart", Box(40.0, 50.0, 80.0, 90.0))


@pytest.fixture(scope="module")
def refining(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    """A run that has just begun to refine boxes."""
    folder = tmp_path_factory.mktemp("refining")
    settings = (*SMALL, NOISY, "train.steps=3", "model.inexact={posterior: true, start: 2}")
    return open_run(train(config_of(folder, *settings), folder / "run"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    """A run that knows nothing of inexact boxes."""
    folder = tmp_path_factory.mktemp("plain")
    return open_run(train(config_of(folder, *SMALL, "train.steps=1"), folder / "run"))


def model_of(run: OpenRun) -> SceneModel:
    model = build_model(run.config.model, run.names, load=False)
    checkpoint = latest_checkpoint(run.path / "checkpoints")
    assert checkpoint is not None
    load_weights(checkpoint, model)
    return model.eval()


def moved(box: Box, dx: float = 0.0, dy: float = 0.0) -> Box:
    return Box(box.x1 + dx, box.y1 + dy, box.x2 + dx, box.y2 + dy)


# --- the formula ----------------------------------------------------------------------------------------------------------

share = st.floats(0, 1)
opinion = st.none() | share


@given(share, opinion, opinion, share, st.sampled_from(["agreement", "attained", "posterior", "blame"]), share)
def test_the_estimate_lies_in_0_to_1_rises_with_each_opinion_and_falls_with_the_blame(
    agreement: float, attained: float | None, posterior: float | None, blame: float, which: str, other: float
) -> None:
    parts = QualityParts(agreement, 0.5, attained, posterior, blame)
    old = getattr(parts, which)
    assume(old is not None)
    before, after = estimate_of(parts), estimate_of(replace(parts, **{which: other}))
    assert 0 <= before <= 1
    if other >= old:
        assert after <= before + 1e-12 if which == "blame" else after >= before - 1e-12


def test_opinions_weigh_alike_and_evidence_itself_is_none() -> None:
    assert estimate_of(QualityParts(0.6)) == pytest.approx(0.6)
    assert estimate_of(QualityParts(0.6, 0.1, 0.2)) == pytest.approx(0.4)
    assert estimate_of(QualityParts(0.6, 0.9, 0.2)) == pytest.approx(0.4)
    assert estimate_of(QualityParts(0.6, 0.1, 0.3, 0.9)) == pytest.approx(0.6)
    assert estimate_of(QualityParts(0.6, blame=0.5)) == pytest.approx(0.45)


def test_an_annotation_that_was_moved_away_from_its_prediction_ranks_below_the_untouched_one() -> None:
    predictions = [Detection("heart", HEART.box, 0.9), Detection("nodule", Box(0, 0, 10, 10), 0.9)]
    estimates = []
    for shift in (0, 5, 10, 20, 39, 60):
        agreement, _ = best_prediction(replace(HEART, box=moved(HEART.box, shift)), predictions)
        estimates.append(estimate_of(QualityParts(agreement)))
        assert agreement == pytest.approx(0.9 * max(0, 40 - shift) / (40 + shift) if shift < 40 else 0)
    assert estimates == sorted(estimates, reverse=True)
    assert estimates[-1] == 0


def test_agreement_is_the_greatest_score_times_overlap_of_its_own_class() -> None:
    sure, near = Detection("heart", moved(HEART.box, 20), 0.9), Detection("heart", moved(HEART.box, 2), 0.5)
    other = Detection("nodule", HEART.box, 1.0)
    agreement, best = best_prediction(HEART, [sure, other, near])
    assert best == near
    assert agreement == pytest.approx(0.5 * 38 / 42)
    assert best_prediction(HEART, [other]) == (0.0, None)
    assert best_prediction(HEART, []) == (0.0, None)


def test_of_two_that_contradict_each_other_each_has_half_the_blame() -> None:
    assert blame_of([(1.0, (0, 1))]) == {0: 0.5, 1: 0.5}
    assert blame_of([(0.6, (0, 1))]) == pytest.approx({0: 0.3, 1: 0.3})
    assert blame_of([(0.8, (3,))]) == pytest.approx({3: 0.8})
    assert blame_of([(0.0, (0, 1))]) == {0: 0.0, 1: 0.0}


def test_one_that_contradicts_ten_has_most_of_the_blame() -> None:
    blame = blame_of([(1.0, (0, i)) for i in range(1, 11)])
    assert blame[0] == pytest.approx(1 - (1 / 11) ** 10)
    assert all(blame[i] == pytest.approx(1 / 11) for i in range(1, 11))


violation = st.tuples(st.floats(0.05, 1), st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True))


@given(st.lists(violation, max_size=8), violation)
def test_another_violation_never_lowers_the_blame_of_those_in_it(
    before: list[tuple[float, list[int]]], new: tuple[float, list[int]]
) -> None:
    old, now = blame_of(before), blame_of([*before, new])
    assert all(0 <= b <= 1 for b in now.values())
    assert all(now[i] >= old.get(i, 0.0) - 1e-9 for i in new[1])


@given(st.floats(0.01, 1), share, st.integers(1, 200), st.integers(0, 200))
def test_a_rule_broken_no_more_often_than_it_says_blames_nobody(
    stated: float, learned: float, fired: int, violated: int
) -> None:
    violated = min(violated, fired)
    trust = trust_of(stated, learned, fired, violated)
    assert 0 <= trust <= learned
    if violated <= (1 - stated) * fired:
        assert trust == 0
    elif stated == 1:
        assert trust == learned
    assert trust_of(stated, learned, 10, 10) == pytest.approx(learned * stated)


def test_a_rule_that_nearly_every_image_breaks_makes_no_annotation_suspect(thorax: Knowledge, plain: OpenRun) -> None:
    def scene(number: int, apart: bool) -> Scene:
        gap = 10.0 if apart else -10.0
        lung = Detection("left_lung", Box(20.0, 10.0, 60.0, 110.0))
        return Scene(str(number), 128, 128, (lung, Detection("heart", Box(60.0 + gap, 60.0, 100.0, 100.0))))

    def blame(broken: int) -> float:
        found = violations_of(plain, [scene(i, i < broken) for i in range(40)])
        assert all(v.told for v in found[:broken]) == (broken < 40)
        return found[0].blame[1]

    [rule] = [r for r in thorax.rules if r.id == "lung_overlaps_heart"]
    assert rule.weight == 1.0
    assert blame(1) > 0.45  # half of it is the lung's
    assert blame(40) < 0.05


def test_on_a_map_without_blur_the_evidence_of_a_box_is_near_its_overlap() -> None:
    shown = torch.zeros(1, 200, 200)
    shown[:, 80:120, 80:120] = 1.0
    true = np.array([80.0, 80, 120, 120])
    shifts = [true + np.array([d, 0, d, 0]) for d in range(0, 21)]
    bigger = [true + np.array([-a, -b, b, a]) for a, b in itertools.product(range(0, 30, 6), repeat=2)]
    for boxes, tolerance in ((shifts, 0.07), (bigger, 1e-4)):
        found = evidence(shown, torch.tensor(np.stack(boxes), dtype=torch.float32)[None], (200.0, 200.0))[0]
        for box, value in zip(boxes, found.tolist(), strict=True):
            width, height = (min(box[k + 2], true[k + 2]) - max(box[k], true[k]) for k in (0, 1))
            union = (box[2] - box[0]) * (box[3] - box[1]) + 1600 - width * height
            assert value == pytest.approx(width * height / union, abs=tolerance)


def test_reasons_say_where_predictions_and_posterior_put_it_and_what_else_is_seen_there() -> None:
    best = Detection("heart", moved(HEART.box, -14), 0.9)
    assert reasons_of(HEART, [best], best, None, ()) == ("predictions (0.90) put it 14 px to the left",)
    nodule = Detection("nodule", HEART.box, 0.8)
    said = reasons_of(HEART, [nodule], None, moved(HEART.box, 0, 6), ("rule `r` violated: it lies wrong",))
    assert said == (
        "no heart is predicted there",
        "a nodule (0.80) is predicted there",
        "the posterior puts it 6 px down",
        "rule `r` violated: it lies wrong",
    )
    assert reasons_of(HEART, [], Detection("heart", HEART.box, 0.9), HEART.box, ()) == ()


def test_a_move_in_words_names_shift_and_sides() -> None:
    assert moved_in_words(Box(0, 0, 40, 20), Box(0, 0, 40, 20)) == ""
    assert moved_in_words(Box(0, 0, 40, 20), Box(0.4, 0, 40.4, 20)) == ""
    assert moved_in_words(Box(0, 0, 40, 20), Box(10, -5, 40, 25)) == "5 px to the right, 25% narrower and 50% taller"


# --- against the truth ------------------------------------------------------------------------------------------------------


def judged(estimate: float, box: Box, name: str = "heart", index: int = 0, suggested: Box | None = None):  # type: ignore[no-untyped-def]
    return AnnotationQuality("film", index, name, box, suggested, estimate, QualityParts(estimate))


def average_ranks(values: np.ndarray) -> np.ndarray:
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


@given(st.lists(st.tuples(share, st.integers(0, 40)), min_size=3, max_size=30))
def test_calibration_and_rank_correlation_are_as_written_out(pairs: list[tuple[float, int]]) -> None:
    found = [judged(e, moved(HEART.box, d), index=i) for i, (e, d) in enumerate(pairs)]
    scores = score_quality(found, {"film": [HEART] * len(found)})
    assert scores is not None
    estimates, true = np.array([e for e, _ in pairs]), np.array([(40 - d) / (40 + d) for _, d in pairs])
    error = 0.0
    for k in range(10):
        inside = np.array([min(int(e * 10), 9) == k for e in estimates])
        if inside.any():
            error += inside.sum() / len(pairs) * abs(true[inside].mean() - estimates[inside].mean())
    assert scores.error == pytest.approx(error, abs=1e-6)
    assert scores.annotated_iou == pytest.approx(true.mean(), abs=1e-6)
    assert sum(b.count for b in scores.bins) == scores.annotations == len(pairs)
    assert scores.rank_correlation is None or -1 - 1e-9 <= scores.rank_correlation <= 1 + 1e-9
    if np.ptp(estimates) > 1e-6 and np.ptp(true) > 1e-6:
        expected = np.corrcoef(average_ranks(estimates), average_ranks(true))[0, 1]
        assert scores.rank_correlation == pytest.approx(expected, abs=1e-6)
    else:
        assert scores.rank_correlation is None


def test_a_wrong_class_is_worth_nothing_and_suggestions_are_scored_by_themselves() -> None:
    better = moved(HEART.box, 10)
    found = [judged(0.8, moved(HEART.box, 20), suggested=better), judged(0.2, HEART.box, "nodule", 1)]
    scores = score_quality(found, {"film": [HEART, HEART]})
    assert scores is not None
    assert scores.annotated_iou == pytest.approx((20 / 60 + 1) / 2)
    assert scores.suggested_iou == pytest.approx(30 / 50)
    assert scores.error == pytest.approx((abs(0.8 - 1 / 3) + 0.2) / 2)
    assert score_quality([], {}) is None


def test_the_truth_of_a_degraded_file_stands_beside_what_training_reads(
    coco_folder: Callable[..., tuple[Path, Path]], tmp_path: Path, plain: OpenRun
) -> None:
    source, images = coco_folder(3)
    assert truth_of_file(plain, source) is None
    for how in ("uniform", "missing"):
        noisy = tmp_path / f"{how}.json"
        degrade_file(source, noisy, degradation(how, 0.4, 1))
        truth = truth_of_file(plain, noisy)
        assert truth is not None
        shown = load_coco(noisy, images, plain.knowledge)
        entries = iter(json.loads(noisy.read_text())["annotations"])
        for entry in shown.entries:
            assert len(truth[entry.image_id]) == len(entry.annotations)
            for true, own in zip(truth[entry.image_id], entry.annotations, strict=True):
                x, y, w, h = next(entries)["true_bbox"]
                assert true.box.xyxy == pytest.approx((x, y, x + w, y + h))
                assert true.name == own.name


# --- a run's own ------------------------------------------------------------------------------------------------------------


def test_every_annotation_is_judged_in_order_with_all_parts(refining: OpenRun) -> None:
    samples = refining.images("train")
    calls: list[tuple[int, int]] = []
    found = annotation_quality(refining, batch_size=3, progress=lambda *c: calls.append(c))
    known = [
        (s.image_id, i, a.name, a.box)
        for s in (samples[k] for k in range(len(samples)))
        for i, a in enumerate(s.annotations)
        if a.name in refining.names
    ]
    assert [(q.image_id, q.index, q.name, q.box) for q in found] == known
    for q in found:
        parts = q.parts
        assert parts.posterior is not None
        assert parts.evidence is not None
        assert all(0 <= v <= 1 for v in (q.estimate, parts.agreement, parts.posterior, parts.evidence, parts.blame))
        assert q.suggested is not None
        assert 0 <= q.suggested.x1 < q.suggested.x2 <= 128
        assert 0 <= q.suggested.y1 < q.suggested.y2 <= 128
    assert calls == [(3, 4), (4, 4)]
    assert json.loads(json.dumps([q.as_dict() for q in found]))


def test_the_truth_is_never_read_when_estimating(refining: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = predict(refining, refining.images("train"))
    expected = annotation_quality(refining, scenes=scenes)

    def forbidden(*_: object) -> None:
        raise AssertionError("the truth was read")

    for name in ("truth", "dropped", "reverted"):
        monkeypatch.setattr(DegradedSamples, name, forbidden)
    samples = refining.images("train")
    assert isinstance(samples, DegradedSamples)
    assert annotation_quality(refining, scenes=scenes) == expected
    with pytest.raises(AssertionError, match="the truth was read"):
        truth_of_split(refining, "train", samples)


def test_estimates_of_a_degraded_split_are_scored(refining: OpenRun) -> None:
    samples = refining.images("train")
    truth = truth_of_split(refining, "train", samples)
    assert truth is not None
    scores = score_quality(annotation_quality(refining), truth)
    assert scores is not None
    films = Phantom(0, 4, PhantomConfig(size=128))
    clean = {f.image_id: [a.box for a in f.annotations] for f in (films[i] for i in range(4))}
    assert {k: [t.box for t in v] for k, v in truth.items()} == clean
    assert 0.3 < scores.annotated_iou < 0.9
    assert scores.suggested_iou is not None
    assert truth_of_split(refining, "test", refining.images("test")) is None


def test_judging_changes_nothing_of_the_model(refining: OpenRun) -> None:
    model = model_of(refining)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    samples = [refining.images("train")[i] for i in range(2)]
    scenes = [Scene(s.image_id, 128, 128) for s in samples]
    one, other = judge_images(model, samples, scenes), judge_images(model, samples, scenes)
    assert one == other
    after = model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_what_is_judged_is_what_a_training_step_would_have_refined(refining: OpenRun) -> None:
    model = model_of(refining)
    inexact = model.inexact
    assert inexact is not None
    inexact.noise.memory = math.inf  # what the step itself learns of the noise then counts for nothing,
    inexact.noise.weight.fill_(1e9)  # in all and in each class
    sample = refining.images("train")[0]
    [[*seen]] = judge_images(model, [sample], [Scene(sample.image_id, 128, 128)])
    target = to_target(sample, refining.names)
    scale = 96 / 128
    told = inexact(list(model.pyramid().values()), [(96, 96)], [target | {"boxes": target["boxes"] * scale}])
    boxes, quality = told.targets[0]["boxes"] / scale, told.targets[0]["quality"]
    assert len(seen) == len(boxes) > 2
    for (suggested, parts), box, sure in zip(seen, boxes.tolist(), quality.tolist(), strict=True):
        assert suggested is not None
        assert suggested.xyxy == pytest.approx(box, abs=0.02)
        assert parts.posterior == pytest.approx(sure, abs=1e-3)


def test_boxes_are_not_refined_before_the_votes_are_ready(refining: OpenRun) -> None:
    model = model_of(refining)
    assert model.inexact is not None
    model.inexact.steps.zero_()
    sample = refining.images("train")[0]
    [seen] = judge_images(model, [sample], [Scene(sample.image_id, 128, 128)])
    assert [(suggested, parts.posterior) for suggested, parts in seen] == [(None, None)] * len(seen)


def test_a_run_without_inexact_boxes_judges_by_predictions_and_rules(plain: OpenRun) -> None:
    sample = replace(plain.images("train")[0], annotations=(HEART,))
    scene = Scene(sample.image_id, 128, 128, (Detection("heart", HEART.box, 0.7),))
    [found] = annotation_quality(plain, samples=[sample], scenes=[scene])
    assert found.parts == QualityParts(pytest.approx(0.7))  # type: ignore[arg-type]
    assert found.estimate == pytest.approx(0.7)
    assert found.suggested is None


def test_an_annotation_that_violates_a_rule_ranks_below_the_same_without(plain: OpenRun) -> None:
    lungs = (
        Annotation("right_lung", Box(10.0, 20.0, 50.0, 100.0)),
        Annotation("left_lung", Box(78.0, 20.0, 118.0, 100.0)),
    )
    image = np.zeros((128, 128), np.uint8)

    def judge(heart: Box) -> list[AnnotationQuality]:
        sample = Sample("film", image, (*lungs, Annotation("heart", heart)))
        seen = Scene("film", 128, 128, tuple(Detection(a.name, a.box, 0.9) for a in sample.annotations))
        return annotation_quality(plain, samples=[sample], scenes=[seen])

    good, bad = judge(Box(45.0, 60.0, 85.0, 95.0)), judge(Box(100.0, 2.0, 126.0, 18.0))
    assert good[2].parts.agreement == pytest.approx(bad[2].parts.agreement)
    assert good[2].parts.blame < bad[2].parts.blame
    assert good[2].estimate > bad[2].estimate
    assert bad[2].estimate < bad[0].estimate  # it breaks more rules than each of the lungs
    assert any(r.startswith("rule `") and "violated: " in r for r in bad[2].reasons)


def test_images_without_annotations_absent_classes_and_crowds_are_left_out(refining: OpenRun) -> None:
    sample = refining.images("train")[0]
    known = next(a for a in sample.annotations if a.name == "heart")
    nodule = Annotation("nodule", Box(10, 10, 20, 20))  # a class that the run does not know
    crowd = replace(known, iscrowd=True)
    empty = replace(sample, annotations=())
    mixed = replace(sample, annotations=(nodule, crowd, known))
    found = annotation_quality(refining, samples=[empty, mixed, empty])
    assert [(q.index, q.name) for q in found] == [(2, "heart")]
    assert annotation_quality(refining, samples=[empty]) == []
    assert annotation_quality(refining, samples=degrade([mixed], "missing", 1.0, names=refining.names)) == []


def test_predictions_of_other_images_are_refused(plain: OpenRun) -> None:
    sample = plain.images("train")[0]
    with pytest.raises(TrainingError, match="0 predictions are not of these 1 images"):
        annotation_quality(plain, samples=[sample], scenes=[])
    with pytest.raises(TrainingError, match="the predictions have 'x' in the place of 'phantom-000000'"):
        annotation_quality(plain, samples=[sample], scenes=[Scene("x", 128, 128)])
