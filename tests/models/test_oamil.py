"""OA-MIL: against a loop over samples written from its formulas, and in a detector that trains with it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torchvision.ops import box_iou

from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.learning.batches import make_batch
from neurosym.learning.config import TrainConfig
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig, InexactConfig, OaMilConfig
from neurosym.models.detector import BoxHeads, Detector
from neurosym.models.oamil import Samples, bag_score, best_instances, corrected_boxes, mil_loss

NAMES = ("right_lung", "heart", "left_lung")
SIZE = 96
Target = dict[str, Tensor]


def detector_of(seed: int = 0, **oamil: object) -> Detector:
    """A small detector with OA-MIL from the first step on, unless told otherwise."""
    torch.manual_seed(seed)
    settings = {"enabled": True, "start": 0, "extension_start": 0} | oamil
    config = DetectorConfig(
        image_size=SIZE,
        max_size=SIZE,
        fpn_channels=16,
        head_features=32,
        proposals=60,
        sampled_boxes=32,
        oamil=OaMilConfig(**settings),  # type: ignore[arg-type]
    )
    model = build_model(config, NAMES).train()
    assert isinstance(model, Detector)
    return model


def films(count: int = 2) -> tuple[list[Tensor], list[Target]]:
    return make_batch(list(Phantom(0, count, PhantomConfig(size=SIZE))), NAMES, torch.device("cpu"), None, False)


def noisy(targets: list[Target], r: float) -> list[Target]:
    """The targets with each box's centre and sides changed by up to a share `r` of the sides."""
    changed = []
    for target in targets:
        boxes = target["boxes"]
        sides, u = boxes[:, 2:] - boxes[:, :2], 2 * torch.rand(len(boxes), 4) - 1
        centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2 + r * u[:, :2] * sides, sides * (1 + r * u[:, 2:])
        changed.append(target | {"boxes": torch.cat([centre - sides / 2, centre + sides / 2], 1).clamp(0, SIZE)})
    return changed


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


numbers = st.floats(0, 1, width=32)
bags_of_scores = st.lists(st.tuples(st.integers(0, 4), numbers), min_size=1, max_size=30)


@given(bags_of_scores)
def test_the_best_instance_of_a_bag_is_the_first_of_its_surest(drawn: list[tuple[int, float]]) -> None:
    used = sorted({bag for bag, _ in drawn})
    bags = [used.index(bag) for bag, _ in drawn]
    found = best_instances(torch.tensor([s for _, s in drawn]), torch.tensor(bags), len(used)).tolist()
    for bag, chosen in enumerate(found):
        own = [k for k, b in enumerate(bags) if b == bag]
        assert chosen == max(own, key=lambda k: (drawn[k][1], -k))


@given(st.lists(st.tuples(st.integers(1, 4), numbers), min_size=1, max_size=20))
def test_the_score_of_bags_is_a_mean_of_the_classes_means(drawn: list[tuple[int, float]]) -> None:
    means = []
    for label in {label for label, _ in drawn}:
        own = [score for other, score in drawn if other == label]
        means.append(sum(own) / len(own))
    found = bag_score(torch.tensor([s for _, s in drawn]), torch.tensor([n for n, _ in drawn]))
    assert float(found) == pytest.approx(sum(means) / len(means), abs=1e-6)


coordinates = st.tuples(*[st.floats(0, 50, width=32)] * 2, *[st.floats(51, 100, width=32)] * 2)


@given(coordinates, coordinates, numbers, st.floats(0.1, 20), numbers)
def test_a_corrected_box_lies_between_instance_and_annotation_at_most_theta_away(
    best: tuple[float, ...], annotated: tuple[float, ...], score: float, gamma: float, theta: float
) -> None:
    b, a = torch.tensor([best]), torch.tensor([annotated])
    found = corrected_boxes(b, torch.tensor([score]), a, gamma, theta)
    share = min(score**gamma, theta)
    torch.testing.assert_close(
        found, torch.tensor([[share * p + (1 - share) * q for p, q in zip(best, annotated, strict=True)]])
    )
    assert bool((found >= torch.minimum(a, b) - 1e-4).all())
    assert bool((found <= torch.maximum(a, b) + 1e-4).all())
    assert bool(((found - a).abs() <= theta * (b - a).abs() + 1e-4).all())
    assert torch.equal(corrected_boxes(b, torch.tensor([score]), a, gamma, 0.0), a)


@pytest.mark.parametrize("extension", ["refine", "random"])
def test_the_loss_is_zero_for_sure_bags_and_falls_with_any_rounds_score(extension: str) -> None:
    config = OaMilConfig(extension=extension, weight=0.5, extension_weight=2.0)  # type: ignore[arg-type]
    sure = [torch.tensor(1.0)] * 3
    assert float(mil_loss(sure, config)) == 0.0
    rounds = [torch.tensor(v, requires_grad=True) for v in (0.2, 0.5, 0.9)]
    loss = mil_loss(rounds, config)
    loss.backward()
    expected = (0.8 + 2 * 0.3) / 2 if extension == "refine" else (1 - 1.6 / 3) / 2
    assert float(loss.detach()) == pytest.approx(expected)
    assert all(float(r.grad) < 0 for r in rounds if r.grad is not None)
    assert float(mil_loss(rounds[:1], config).detach()) == pytest.approx(0.4)


def moved(box: list[float], offsets: list[float], side: float) -> list[float]:
    """A box by Faster R-CNN's offsets of weights (10, 10, 5, 5), cut at a square image's edges."""
    width, height = box[2] - box[0], box[3] - box[1]
    x = (box[0] + box[2]) / 2 + offsets[0] / 10 * width
    y = (box[1] + box[3]) / 2 + offsets[1] / 10 * height
    most = math.log(1000 / 16)
    width, height = (v * math.exp(min(o / 5, most)) for v, o in ((width, offsets[2]), (height, offsets[3])))
    return [min(max(v, 0.0), side) for v in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)]


def offsets_between(box: list[float], aim: list[float]) -> list[float]:
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = (aim[0] + aim[2] - box[0] - box[2]) / 2, (aim[1] + aim[3] - box[1] - box[3]) / 2
    sides = math.log((aim[2] - aim[0]) / width), math.log((aim[3] - aim[1]) / height)
    return [10 * x / width, 10 * y / height, 5 * sides[0], 5 * sides[1]]


class OneByOne:
    """OA-MIL of one step in loops over images, objects and samples, reading the head in one box at a time."""

    def __init__(self, heads: BoxHeads, features: dict[str, Tensor], samples: Samples, config: OaMilConfig) -> None:
        self.heads, self.features, self.samples, self.config = heads, features, samples, config

    def read(self, image: int, box: list[float], label: int) -> tuple[float, list[float]]:
        boxes = [torch.tensor([box] if n == image else []).reshape(-1, 4) for n in range(len(self.samples.boxes))]
        with torch.no_grad():
            logits, offsets = self.heads.read(self.features, self.samples.sizes, boxes)
        return float(logits[0].softmax(0)[label]), offsets[0].reshape(-1, 4)[label].tolist()

    def rounds(self, image: int, sample: list[float], label: int) -> list[tuple[list[float], float]]:
        _, offsets = self.read(image, sample, label)
        found, start = [], sample
        for _ in range(1 + self.config.extensions):
            box = moved(start, offsets, SIZE)
            score, offsets = self.read(image, box, label)
            found.append((box, score))
            start = box if self.config.extension == "refine" else sample
        return found

    def step(self) -> tuple[dict[tuple[int, int], list[float]], float]:
        """The offsets of each positive sample by (image, sample), and the loss."""
        config, given = self.config, self.samples
        offsets: dict[tuple[int, int], list[float]] = {}
        best_of_class: list[dict[int, list[float]]] = [{} for _ in range(1 + config.extensions)]
        for n, boxes in enumerate(given.boxes):
            for k, annotated in enumerate(given.annotated[n].tolist()):
                own = [i for i in range(len(boxes)) if given.labels[n][i] > 0 and given.matched[n][i] == k]
                if not own:
                    continue
                label = int(given.labels[n][own[0]])
                rounds = [self.rounds(n, boxes[i].tolist(), label) for i in own]
                for t, best in enumerate(best_of_class):
                    best.setdefault(label, []).append(max(r[t][1] for r in rounds))
                box, score = max((r[0] for r in rounds), key=lambda found: found[1])
                phi = min(score**config.gamma, config.theta)
                aim = [phi * b + (1 - phi) * a for b, a in zip(box, annotated, strict=True)]
                offsets |= {(n, i): offsets_between(boxes[i].tolist(), aim) for i in own}
        scores = [sum(sum(v) / len(v) for v in best.values()) / len(best) for best in best_of_class]
        if config.extension == "random":
            return offsets, config.weight * (1 - sum(scores) / len(scores))
        later = sum(scores[1:]) / config.extensions
        return offsets, config.weight * ((1 - scores[0]) + config.extension_weight * (1 - later))


@pytest.mark.parametrize("extension", ["refine", "random"])
def test_a_step_does_what_the_formulas_say_sample_by_sample(extension: str) -> None:
    # an exponent below 1, since a detector that has learned nothing is sure of nothing
    model = detector_of(extension=extension, extensions=2, gamma=0.3, theta=0.6, weight=0.7, extension_weight=0.5)
    images, targets = films()
    batch, scaled = model.net.transform(images, noisy(targets, 0.3))
    features = model.net.backbone(batch.tensors)
    proposals, _ = model.net.rpn(batch, features, scaled)
    heads = model.net.roi_heads
    boxes, matched, labels, offsets = heads.select_training_samples(proposals, scaled)
    samples = Samples(boxes, matched, labels, [t["boxes"] for t in scaled], batch.image_sizes)
    assert max(torch.bincount(m[n > 0]).max() for m, n in zip(matched, labels, strict=True)) > 1
    _, regression = heads.read(features, batch.image_sizes, boxes)
    read = lambda given: heads.read(features, batch.image_sizes, given)  # noqa: E731
    towards, loss = heads.oamil(samples, offsets, regression, heads.box_coder, read)
    expected, of_bags = OneByOne(heads, features, samples, model.config.oamil).step()
    assert float(loss.detach()) == pytest.approx(of_bags, abs=1e-5)
    changed = 0.0
    for n, of_image in enumerate(towards):
        assert torch.equal(of_image[labels[n] == 0], offsets[n][labels[n] == 0])
        for i, found in enumerate(of_image):
            if (n, i) in expected:
                torch.testing.assert_close(found, torch.tensor(expected[n, i]), atol=2e-3, rtol=2e-3)
                changed = max(changed, float((found - offsets[n][i]).abs().max()))
    assert len(expected) == int(samples.positive.sum())
    assert changed > 0.1
    assert not any(o.requires_grad for o in towards)


def step_of(model: Detector, given: tuple[list[Tensor], list[Target]]) -> dict[str, Tensor]:
    torch.manual_seed(1)
    losses: dict[str, Tensor] = model(*given)[0]
    return losses


def test_with_theta_zero_all_but_its_own_loss_is_that_of_a_plain_detector() -> None:
    images, targets = films()
    with_it, plain = detector_of(theta=0.0), detector_of(enabled=False)
    one, other = step_of(with_it, (images, targets)), step_of(plain, (images, targets))
    assert set(one) - set(other) == {"loss_oamil"}
    assert all(torch.equal(one[k], v) for k, v in other.items())
    assert not [k for k in plain.state_dict() if "oamil" in k]


def test_boxes_are_corrected_only_after_the_start() -> None:
    images, targets = films()
    plain, model = detector_of(enabled=False), detector_of(start=2, gamma=0.1)
    found = [step_of(model, (images, targets))["loss_box_reg"] for _ in range(3)]
    expected = step_of(plain, (images, targets))["loss_box_reg"]
    assert [torch.equal(f, expected) for f in found] == [True, True, False]
    again = detector_of(start=2, gamma=0.1)
    again.load_state_dict(model.state_dict())
    assert not torch.equal(step_of(again, (images, targets))["loss_box_reg"], expected), "a checkpoint knows the step"


def test_bags_are_extended_only_after_their_own_start() -> None:
    images, targets = films()
    short, model = detector_of(extensions=0), detector_of(extensions=2, extension_start=1)
    first, second = (step_of(model, (images, targets))["loss_oamil"] for _ in range(2))
    assert torch.equal(first, step_of(short, (images, targets))["loss_oamil"])
    assert float(second.detach()) > float(first.detach())


@pytest.mark.parametrize("extension", ["refine", "random"])
def test_its_loss_teaches_classifier_and_trunk_and_no_box(extension: str) -> None:
    model = detector_of(extension=extension, extensions=2)
    step_of(model, films())["loss_oamil"].backward()
    heads = model.net.roi_heads
    assert bool(heads.box_predictor.cls_score.weight.grad.any())
    assert heads.box_predictor.bbox_pred.weight.grad is None or not heads.box_predictor.bbox_pred.weight.grad.any()
    trunk = [p.grad for n, p in model.named_parameters() if ".trunk." in n and p.grad is not None]
    assert max(float(g.abs().max()) for g in trunk) > 0
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_images_without_boxes_and_without_positives_are_learned_from_as_well() -> None:
    model = detector_of()
    images, targets = films()
    empty = {k: v[:0] for k, v in targets[0].items()}
    for told in ([empty, empty], [targets[0], empty], [empty, targets[1]]):
        model.zero_grad()
        losses, _ = model(images, told)
        total(losses).backward()
        assert all(bool(torch.isfinite(v)) for v in losses.values())
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
        assert (float(losses["loss_oamil"].detach()) > 0) == any(len(t["boxes"]) for t in told)


def test_an_instance_that_leaves_the_image_spoils_nothing() -> None:
    model = detector_of(gamma=0.01, theta=0.99)
    images, targets = films()
    with torch.no_grad():
        model.net.roi_heads.box_predictor.bbox_pred.bias.fill_(100.0)  # ten widths away
    losses, _ = model(images, targets)
    total(losses).backward()
    assert all(bool(torch.isfinite(v)) for v in losses.values())
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_the_number_of_bags_is_that_of_annotated_boxes_with_a_sample_even_if_two_are_alike() -> None:
    box = torch.tensor([[0.0, 0, 20, 20]])
    same, other = torch.cat([box, box]), box + 4
    none = torch.zeros(0, dtype=torch.int64)
    samples = Samples(
        boxes=[same, box[:0], torch.cat([other, box, other])],
        matched=[torch.tensor([0, 1]), none, torch.tensor([1, 0, 1])],
        labels=[torch.tensor([1, 1]), none, torch.tensor([2, 0, 2])],
        annotated=[same, box[:0], torch.cat([box, other])],
        sizes=[(32, 32)] * 3,
    )
    own, count = samples.bags
    assert (own.tolist(), count) == ([0, 1, 2, 2], 3)
    assert torch.equal(samples.own_box, torch.cat([same, other, other]))


def squares(count: int) -> list[tuple[Tensor, Target, Tensor]]:
    """Images with three bright rectangles, their boxes with uniform noise of 0.3, and the true boxes."""
    found = []
    for _ in range(count):
        image = 0.2 + 0.05 * torch.rand(3, SIZE, SIZE)
        centre = torch.tensor([[24.0, 24.0], [72.0, 28.0], [48.0, 70.0]]) + 12 * (torch.rand(3, 2) - 0.5)
        sides = 18 + 14 * torch.rand(3, 2)
        true = torch.cat([centre - sides / 2, centre + sides / 2], 1).round()
        for left, top, right, bottom in true.int().tolist():
            image[0, top:bottom, left:right] += 0.6
        target = {"boxes": true, "labels": torch.ones(3, dtype=torch.int64)}
        found.append((image, noisy([target], 0.3)[0], true))
    return found


def aims(inputs: tuple[Any, ...], towards: list[Tensor]) -> list[tuple[int, int, Tensor]]:
    """Image, object and the box that its samples regress to."""
    samples, _, _, coder, _ = inputs
    found = {}
    for n, boxes in enumerate(samples.boxes):
        for i in (samples.labels[n] > 0).nonzero()[:, 0].tolist():
            found[n, int(samples.matched[n][i])] = coder.decode_single(towards[n][i : i + 1], boxes[i : i + 1])
    return [(n, k, box) for (n, k), box in found.items()]


def test_losses_fall_and_corrected_boxes_are_nearer_to_their_objects_than_annotated_ones() -> None:
    # within so few steps scores are middling, of which an exponent of 7.5 makes nothing
    model = detector_of(gamma=1.0, start=30, extension_start=30, extensions=1)
    data = squares(200)  # each seen once, for the noise of films that are seen again is learned by heart
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history, annotated, corrected = [], [], []
    last: list[tuple[int, int, Tensor]] = []
    model.net.roi_heads.oamil.register_forward_hook(lambda _, inputs, out: last.extend(aims(inputs, out[0])))
    for step in range(100):
        chosen = data[2 * step : 2 * step + 2]
        last.clear()
        losses, _ = model([c[0] for c in chosen], [c[1] for c in chosen])
        optimizer.zero_grad()
        total(losses).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        history.append(float(total(losses).detach()))
        if step >= 70:
            for n, k, box in last:
                true = chosen[n][2][k : k + 1]
                annotated.append(float(box_iou(chosen[n][1]["boxes"][k : k + 1], true)))
                corrected.append(float(box_iou(box, true)))
    assert sum(history[-10:]) < 0.7 * sum(history[:10])
    assert len(corrected) > 40
    assert sum(corrected) / len(corrected) > sum(annotated) / len(annotated) + 0.01


@pytest.mark.parametrize("kind", ["cascade_rcnn", "mask_rcnn", "retinanet", "fpn_segmenter"])
def test_other_kinds_refuse_it(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"oamil: it is for faster_rcnn, found kind {kind}; set oamil.enabled"):
        DetectorConfig(kind=kind, oamil=OaMilConfig(enabled=True))  # type: ignore[arg-type]
    DetectorConfig(kind=kind)  # type: ignore[arg-type]


def test_it_is_refused_beside_another_mending_of_boxes_and_beside_a_teacher() -> None:
    on = OaMilConfig(enabled=True)
    with pytest.raises(ValidationError, match="oamil: it and inexact would both mend the same boxes"):
        DetectorConfig(oamil=on, inexact=InexactConfig(posterior=True))
    part = {"start": 0, "count": 1}
    data = {"format": "phantom", "train": part, "val": part, "test": part}
    run = {"name": "x", "knowledge": [], "data": data, "model": {"oamil": {"enabled": True}}}
    TrainConfig.model_validate(run)
    with pytest.raises(ValidationError, match=r"model\.oamil: pseudo-labels would be taken for annotations"):
        TrainConfig.model_validate(run | {"teacher": {"weight": 1.0}})
