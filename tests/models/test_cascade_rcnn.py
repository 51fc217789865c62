from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import box_iou

from neurosym.learning.batches import make_batch
from neurosym.models.cascade_rcnn import STAGES, CascadeDetector, CascadeHeads, log_mean_softmax, stage_losses
from neurosym.models.config import DetectorConfig
from tests.models.overfit import NAMES, overfit

SMALL = DetectorConfig(
    kind="cascade_rcnn",
    image_size=128,
    max_size=128,
    proposals=50,
    sampled_boxes=32,
    head_features=64,
    fpn_channels=32,
    score_threshold=0.0,
)
SCALES = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))
OVERLAPS, SHARES = (0.5, 0.6, 0.7), (1.0, 0.5, 0.25)


class FirstStage(CascadeHeads):
    stages = STAGES[:1]


class FirstStageDetector(CascadeDetector):
    heads = FirstStage


class Watched(CascadeHeads):
    """Keeps what arrives at each stage, what it is trained on, and what it predicts."""

    def forward(self, features, proposals, image_shapes, targets=None):  # type: ignore[no-untyped-def]
        self.targets, self.arrived, self.taught, self.predicted = targets, [], [], []
        return super().forward(features, proposals, image_shapes, targets)

    def select_training_samples(self, proposals, targets):  # type: ignore[no-untyped-def]
        self.arrived.append([p.clone() for p in proposals])
        chosen = super().select_training_samples(proposals, targets)
        self.taught.append(chosen)
        return chosen

    def _look(self, number, pooled):  # type: ignore[no-untyped-def]
        found = super()._look(number, pooled)
        self.predicted.append((number, *found[:2]))  # without the embedding
        return found


class WatchedDetector(CascadeDetector):
    heads = Watched


def example(seed: int = 0) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    torch.manual_seed(seed)
    boxes = torch.tensor([[10.0, 10.0, 60.0, 90.0], [50.0, 30.0, 120.0, 110.0]])
    other = torch.tensor([[30.0, 20.0, 100.0, 70.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 2])}, {"boxes": other, "labels": torch.tensor([2])}]
    return [torch.rand(3, 128, 128) for _ in range(2)], targets


def with_offsets(model: CascadeDetector) -> CascadeDetector:
    """Regressors that move boxes by several pixels, as trained ones would."""
    torch.manual_seed(5)
    for predictor in model.net.roi_heads.box_predictor:
        nn.init.normal_(predictor.bbox_pred.bias, std=0.7)
    return model


def decoded(offsets: Tensor, boxes: Tensor, scale: tuple[int, ...]) -> np.ndarray:
    """The inverse of the R-CNN parametrisation (Girshick et al. 2014, eq. 1–4), box by box."""
    found = []
    for (dx, dy, dw, dh), (x1, y1, x2, y2) in zip(offsets.tolist(), boxes.tolist(), strict=True):
        w, h = x2 - x1, y2 - y1
        x, y = (x1 + x2) / 2 + w * dx / scale[0], (y1 + y2) / 2 + h * dy / scale[1]
        w, h = w * np.exp(dw / scale[2]), h * np.exp(dh / scale[3])
        found.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    return np.array(found).reshape(-1, 4)


def encoded(truth: list[float], box: list[float], scale: tuple[int, ...]) -> np.ndarray:
    (a, b, c, d), (x1, y1, x2, y2) = truth, box
    w, h = x2 - x1, y2 - y1
    moved = ((a + c - x1 - x2) / 2 / w, (b + d - y1 - y2) / 2 / h, np.log((c - a) / w), np.log((d - b) / h))
    return np.array(moved) * scale


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("build", [FirstStageDetector, CascadeDetector])
def test_the_first_stage_has_the_losses_of_torchvisions_faster_rcnn_with_tied_regressors(
    build: type[CascadeDetector],
) -> None:
    model = build(SMALL, ("a", "b")).train()
    images, targets = example()
    torch.manual_seed(1)
    ours, _ = model(images, targets)
    as_torchvisions(model)
    torch.manual_seed(1)
    theirs = model.net(images, targets)
    for name in ("loss_classifier", "loss_box_reg"):
        assert theirs[name] > 0
        torch.testing.assert_close(ours[f"{name}_1"], theirs[name])
    assert ("loss_classifier_2" in ours) == (build is CascadeDetector)


def test_a_cascade_of_one_stage_detects_as_torchvisions_faster_rcnn_with_tied_regressors() -> None:
    model = with_offsets(FirstStageDetector(SMALL, ("a", "b")))
    images, _ = example()
    ours = model.detect(images)
    as_torchvisions(model.eval())
    with torch.no_grad():
        theirs = model.net(images)
    for mine, other in zip(ours, theirs, strict=True):
        assert len(other["boxes"]) > 0
        for key in ("boxes", "labels", "scores"):
            torch.testing.assert_close(mine[key], other[key])


def as_torchvisions(model: CascadeDetector) -> None:
    """The first stage as a head of torchvision's, whose classes have a regressor each: here all the same one."""
    heads = model.net.roi_heads
    mine, classes = heads.box_predictor[0], heads.box_predictor[0].cls_score.out_features
    theirs = FastRCNNPredictor(mine.cls_score.in_features, classes)
    theirs.cls_score = mine.cls_score
    with torch.no_grad():
        theirs.bbox_pred.weight.copy_(mine.bbox_pred.weight.repeat(classes, 1))
        theirs.bbox_pred.bias.copy_(mine.bbox_pred.bias.repeat(classes))
    heads.box_head, heads.box_predictor = heads.box_head[0], theirs
    heads.proposal_matcher = Matcher(0.5, 0.5, allow_low_quality_matches=False)
    heads.box_coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    heads.__class__ = RoIHeads


def test_a_box_is_foreground_from_each_stages_own_overlap_on() -> None:
    heads = CascadeDetector(SMALL, ("a", "b")).net.roi_heads
    truth = [torch.tensor([[0.0, 0.0, 100.0, 100.0], [200.0, 0.0, 300.0, 100.0]])]
    # of a truth's 100 rows the first k: the intersection over union is k/100
    boxes = [torch.tensor([[x, 0.0, x + 100.0, float(k)] for x in (0.0, 200.0) for k in (49, 51, 59, 61, 69, 71, 100)])]
    expected = {0: [0, 1, 1, 1, 1, 1, 1], 1: [0, 0, 0, 1, 1, 1, 1], 2: [0, 0, 0, 0, 0, 1, 1]}
    for stage, foreground in expected.items():
        heads._enter(stage)
        matched, labels = heads.assign_targets_to_proposals(boxes, truth, [torch.tensor([2, 1])])
        assert labels[0].tolist() == [2 * f for f in foreground] + foreground
        assert matched[0][labels[0] > 0].tolist() == [0] * sum(foreground) + [1] * sum(foreground)


def test_the_first_stage_samples_one_positive_to_three_negatives_and_later_ones_take_all() -> None:
    heads = CascadeDetector(SMALL, ("a", "b")).net.roi_heads
    labels = [torch.tensor([1, 2] * 15 + [0] * 50), torch.tensor([0, 2])]
    for stage, positives in enumerate((8, 30, 30)):
        heads._enter(stage)
        many, few = heads.subsample(labels)
        assert int((labels[0][many] > 0).sum()) == positives
        assert len(many.unique()) == len(many) == (32 if stage == 0 else 80)
        assert few.tolist() == [0, 1]


def test_each_stage_learns_from_what_the_stage_before_improved_and_from_the_annotated_boxes() -> None:
    model = with_offsets(WatchedDetector(SMALL, ("a", "b"))).train()
    images, targets = example()
    model(images, targets)
    heads = model.net.roi_heads
    counts = []
    for stage in (0, 1):
        boxes, sizes = heads.taught[stage][0], [len(b) for b in heads.taught[stage][0]]
        number, _, offsets = heads.predicted[stage]
        assert number == stage
        for image, (before, moves) in enumerate(zip(boxes, offsets.detach().split(sizes), strict=True)):
            truth = heads.targets[image]["boxes"]
            after = np.clip(decoded(moves, before, SCALES[stage]), 0, 128)
            own = [any(torch.equal(b, t) for t in truth) for b in before]
            expected = after[~np.array(own)]
            expected = expected[(expected[:, 2:] - expected[:, :2] >= 0.01).all(1)]
            np.testing.assert_allclose(heads.arrived[stage + 1][image], expected, atol=1e-3)
            taken = heads.taught[stage + 1][0][image]
            np.testing.assert_allclose(taken, np.concatenate([expected, truth.numpy()]), atol=1e-3)
            assert not taken.requires_grad
            counts.append(sum(own))
    assert min(counts[2:]) >= 1, "the annotated boxes were among those of stage 2"


def test_losses_of_every_stage_equal_a_box_by_box_count() -> None:
    model = with_offsets(WatchedDetector(SMALL, ("a", "b"))).train()
    images, targets = example()
    losses, _ = model(images, targets)
    heads = model.net.roi_heads
    for stage in range(3):
        _, logits, offsets = heads.predicted[stage]
        rows = iter(zip(logits.double().tolist(), offsets.double().tolist(), strict=True))
        entropies, moved, positives = [], 0.0, 0
        for boxes, target in zip(heads.taught[stage][0], heads.targets, strict=True):
            for box in boxes.tolist():
                scores, offset = next(rows)
                overlaps = [overlap(box, t) for t in target["boxes"].tolist()]
                best = int(np.argmax(overlaps))
                label = int(target["labels"][best]) if overlaps[best] >= OVERLAPS[stage] else 0
                entropies.append(np.log(np.exp(scores).sum()) - scores[label])
                if label:
                    positives += 1
                    wanted = encoded(target["boxes"][best].tolist(), box, SCALES[stage])
                    error = np.abs(np.array(offset) - wanted)
                    moved += float(np.where(error < 1 / 9, 4.5 * error**2, error - 1 / 18).sum())
        assert positives >= 3
        expected = {"classifier": np.mean(entropies), "box_reg": moved / len(entropies)}
        for name, value in expected.items():
            found = float(losses[f"loss_{name}_{stage + 1}"].detach())
            assert found == pytest.approx(SHARES[stage] * value, rel=1e-3)


def test_the_regression_of_a_box_does_not_depend_on_its_class() -> None:
    torch.manual_seed(0)
    logits, regression, offsets = torch.randn(6, 4), torch.randn(6, 4), torch.randn(6, 4)
    values = [
        float(stage_losses(logits, regression, [torch.tensor(labels)], [offsets])[1])
        for labels in ([1, 1, 1, 0, 0, 0], [1, 2, 3, 0, 0, 0])
    ]
    assert values[0] > 0
    assert values[0] == pytest.approx(values[1])


def test_detections_and_scenes_have_the_three_classifiers_average_and_the_boxes_of_the_last_stage() -> None:
    model = CascadeDetector(SMALL, ("a", "b"))
    heads = model.net.roi_heads
    opinions = [(0.2, 0.7, 0.1), (0.5, 0.2, 0.3), (0.1, 0.3, 0.6)]
    with torch.no_grad():
        for predictor, opinion in zip(heads.box_predictor, opinions, strict=True):
            for p in predictor.parameters():
                p.zero_()
            predictor.cls_score.bias.copy_(torch.tensor(opinion).log())
            predictor.bbox_pred.bias[0] = 1.0  # to the right by 1/10, then 1/20, then 1/30 of the width
    start = torch.tensor([[10.0, 20.0, 70.0, 50.0], [40.0, 60.0, 52.0, 120.0]])
    end = start + torch.tensor([[11.0, 0.0, 11.0, 0.0], [2.2, 0.0, 2.2, 0.0]])
    features = OrderedDict((str(i), torch.randn(1, 32, 32 >> i, 32 >> i)) for i in range(4))
    with torch.no_grad():
        [found], _ = heads.eval()(features, [start], [(128, 128)])
        [scene] = model._scenes()
    mean = np.mean(opinions, 0)
    assert found["labels"].tolist() == [1, 1, 2, 2]
    np.testing.assert_allclose(found["scores"], [mean[1]] * 2 + [mean[2]] * 2, atol=1e-6)
    np.testing.assert_allclose(np.sort(found["boxes"], 0), np.sort(torch.cat([end, end]), 0), atol=1e-3)
    np.testing.assert_allclose(scene.probabilities, [mean] * 2, atol=1e-6)
    np.testing.assert_allclose(np.sort(scene.boxes, 0), np.sort(end, 0), atol=1e-3)


def test_all_three_classifiers_look_at_the_boxes_that_reach_the_last_stage() -> None:
    model = with_offsets(CascadeDetector(SMALL, ("a", "b"))).eval()
    heads = model.net.roi_heads
    with torch.no_grad():
        model.propose(example()[0])
        last = heads.last
        pooled = heads.box_roi_pool(last.features, last.proposals, last.sizes)
        each = [p(h(pooled)) for h, p in zip(heads.box_head, heads.box_predictor, strict=True)]
    average = torch.stack([scores.double().softmax(1) for scores, _ in each]).mean(0)
    torch.testing.assert_close(last.logits.double().softmax(1), average, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(last.regression, each[2][1].repeat(1, 3))


@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_average_is_exact_and_has_a_finite_gradient_however_sure_the_stages_are(rows: list[list[float]]) -> None:
    logits = [torch.tensor([r], requires_grad=True) for r in rows]
    found = log_mean_softmax(logits).softmax(1)
    expected = torch.stack([z.detach().double().softmax(1) for z in logits]).mean(0)
    torch.testing.assert_close(found.detach().double(), expected, atol=1e-5, rtol=1e-4)
    found[0, 0].backward()
    assert all(z.grad is not None and torch.isfinite(z.grad).all() for z in logits)


def test_the_published_size_of_cascade_rcnn_with_resnet_50_on_coco() -> None:
    config = DetectorConfig(kind="cascade_rcnn", backbone="resnet50", fpn_channels=256, head_features=1024)
    with torch.device("meta"):
        model = CascadeDetector(config, [f"class {i}" for i in range(80)], load=False)

    def conv(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel**2 + 2 * outputs  # batch normalisation has a scale and a shift per channel

    stem, layers, inputs = conv(3, 64, 7), [], 64
    for width, repeats in ((64, 3), (128, 4), (256, 6), (512, 3)):
        layer = conv(inputs, 4 * width, 1)
        for _ in range(repeats):
            layer += conv(inputs, width, 1) + conv(width, width, 3) + conv(width, 4 * width, 1)
            inputs = 4 * width
        layers.append(layer)
    pyramid = sum((c + 1) * 256 for c in (256, 512, 1024, 2048)) + 4 * (9 * 256 + 1) * 256
    proposals = (9 * 256 + 1) * 256 + 257 * 3 * (1 + 4)
    head = (49 * 256 + 1) * 1024 + 1025 * 1024 + 1025 * (81 + 4)
    expected = stem + sum(layers) + pyramid + proposals + 3 * head
    assert sum(p.numel() for p in model.parameters()) == expected == 69_394_766
    # 69.17 M is mmdetection's figure for cascade_rcnn_r50_fpn: of parameters with gradients, and it freezes stem and layer 1
    assert expected - stem - layers[0] == 69_169_422


def test_losses_reach_every_trainable_parameter_and_each_stages_own_head() -> None:
    model = CascadeDetector(SMALL, ("a", "b")).train()
    losses, _ = model(*example())
    heads = model.net.roi_heads
    for stage in range(3):
        model.zero_grad()
        (losses[f"loss_classifier_{stage + 1}"] + losses[f"loss_box_reg_{stage + 1}"]).backward(retain_graph=True)
        reached = [any(p.grad is not None and bool(p.grad.any()) for p in h.parameters()) for h in heads.box_head]
        assert reached == [i == stage for i in range(3)], "boxes pass no gradient from stage to stage"
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("source", ["labelled", "unlabelled"])
def test_a_scene_teaches_all_classifiers_and_the_last_regressor(source: str) -> None:
    model = CascadeDetector(SMALL, ("a", "b")).train()
    images, targets = example()
    scenes = model(images, targets)[1] if source == "labelled" else model.propose(images)
    predictors = model.net.roi_heads.box_predictor
    torch.stack([s.probabilities[:, 1].sum() for s in scenes]).sum().backward(retain_graph=True)
    assert all(float(p.cls_score.weight.grad.abs().sum()) > 0 for p in predictors)
    assert all(p.bbox_pred.weight.grad is None or not p.bbox_pred.weight.grad.any() for p in predictors)
    torch.stack([s.boxes.square().sum() for s in scenes]).sum().backward()
    reached = [p.bbox_pred.weight.grad is not None and bool(p.bbox_pred.weight.grad.any()) for p in predictors]
    assert reached == [False, False, True]


def test_a_trunk_with_loaded_weights_keeps_its_normalisation_and_one_without_learns_it() -> None:
    def change(pretrained: bool) -> tuple[set[str], set[str]]:
        model = CascadeDetector(SMALL.model_copy(update={"pretrained": pretrained}), ("a", "b")).train()
        before = {k: v.clone() for k, v in model.state_dict().items() if ".trunk." in k and "num_batches" not in k}
        losses, _ = model(*example())
        torch.stack(list(losses.values())).sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.01).step()
        after = model.state_dict()
        changed = {k for k in before if not torch.equal(before[k], after[k])}
        return changed, {k for k in before if "_bn" in k}

    changed, norms = change(pretrained=True)
    assert changed
    assert not changed & norms
    changed, norms = change(pretrained=False)
    assert norms <= changed


def test_the_same_seed_gives_the_same_training() -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        model = CascadeDetector(SMALL, ("a", "b")).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(2):
            losses, _ = model(*example())
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
        runs.append(model.state_dict())
    assert all(torch.equal(runs[0][k], runs[1][k]) for k in runs[0])


def test_images_without_proposals_learn_from_their_annotated_boxes_and_have_empty_scenes_otherwise() -> None:
    model = CascadeDetector(SMALL, ("a", "b")).train()
    model.net.rpn.min_size = 1e9
    images, targets = example()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    for given_targets, counts in ((targets, [2, 1]), ([targets[0], nothing], [2, 0]), ([nothing, nothing], [0, 0])):
        model.zero_grad()
        losses, scenes = model(images, given_targets)
        torch.stack(list(losses.values())).sum().backward()
        assert all(torch.isfinite(v) for v in losses.values())
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        assert [len(b) for b in model.net.roi_heads.last.proposals] == counts
        assert [bool(len(s.boxes)) for s in scenes] == [bool(c) for c in counts]
    for scene in model.propose(images):
        assert scene.probabilities.shape == (0, 3)
        assert scene.boxes.shape == (0, 4)
    assert [len(f["boxes"]) for f in model.detect(images)] == [0, 0]


def test_a_stage_that_clips_a_box_away_passes_it_to_no_other() -> None:
    model = CascadeDetector(SMALL, ("a", "b"))
    with torch.no_grad():
        model.net.roi_heads.box_predictor[0].bbox_pred.weight.zero_()
        model.net.roi_heads.box_predictor[0].bbox_pred.bias.copy_(torch.tensor([1e4, 0.0, 0.0, 0.0]))
    images, targets = example()
    losses, _ = model.train()(images, targets)
    assert all(torch.isfinite(v) for v in losses.values())
    assert [len(b) for b in model.net.roi_heads.last.proposals] == [2, 1], "only the annotated boxes are left"
    assert [len(s.boxes) for s in model.propose(images)] == [0, 0]
    assert [len(f["boxes"]) for f in model.detect(images)] == [0, 0]


def test_four_films_are_learned_and_boxes_fit_better_from_stage_to_stage() -> None:
    model, samples, images, after = overfit("cascade_rcnn", steps=24, lr=2e-3, films=4, size=128)
    assert after.ap50 > 0.95
    _, targets = make_batch(samples, NAMES, torch.device("cpu"), None, False)
    heads = model.net.roi_heads
    model.eval()
    with torch.no_grad():
        batch, _ = model.net.transform(images)
        features = model.net.backbone(batch.tensors)
        boxes, _ = model.net.rpn(batch, features)
        truth = [t["boxes"] for t in targets]
        first = [box_iou(b, t).max(1).values > 0.5 for b, t in zip(boxes, truth, strict=True)]
        boxes = [b[f] for b, f in zip(boxes, first, strict=True)]
        fits = []
        for stage in range(3):
            fits.append(mean_overlap(boxes, truth))
            heads._enter(stage)
            _, regression, _ = heads._look(stage, heads.box_roi_pool(features, boxes, batch.image_sizes))
            boxes = heads._improved(regression, boxes, batch.image_sizes, None)
    fits.append(mean_overlap(boxes, truth))
    assert fits[0] < fits[1] < fits[2], "what arrives at the stages"
    assert fits[3] > fits[1], "what leaves the last one"


def mean_overlap(boxes: list[Tensor], truth: list[Tensor]) -> float:
    return float(torch.cat([box_iou(b, t).max(1).values for b, t in zip(boxes, truth, strict=True)]).mean())
