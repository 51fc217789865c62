"""The losses of weak supervision against brute force and closed forms, and which gradients they have."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neurosym.constraints import compile_constraints
from neurosym.data.masks import box_of, encode_mask
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.geometry import ZONES, zone_of
from neurosym.learning.batches import augment, make_batch, to_target, to_tensor
from neurosym.learning.class_shapes import ClassShapes
from neurosym.learning.hints import Hinter, stroke_mask
from neurosym.learning.label_rules import holding, label_rules
from neurosym.learning.multiple_instances import negatives, noisy_or, some_fits
from neurosym.learning.weak import WeakTerms
from neurosym.learning.weak_config import WeakConfig
from neurosym.learning.weak_places import Frames, held_share, in_region, inside_organ, left_out
from neurosym.models.scene import SceneProposals, Target
from neurosym.records import Annotation, Box, Sample

ROOT = Path(__file__).parents[2]
NAMES = ("left_lung", "right_lung", "heart", "ground_glass_opacity", "consolidation", "nodule")
LEFT, RIGHT, HEART, GGO, CONSOLIDATION, NODULE = range(1, 7)
SIZE = 100
ONLY = {"label": 0.0, "tag": 0.0, "mark": 0.0, "cover": 0.0, "stroke": 0.0, "rule": 0.0, "negative": 0.0}
probabilities = st.lists(st.floats(0, 0.99), min_size=1, max_size=6)


@given(probabilities)
def test_a_noisy_or_is_the_probability_that_some_independent_event_happens(truth: list[float]) -> None:
    expected = sum(
        math.prod(t if happens else 1 - t for t, happens in zip(truth, world, strict=True))
        for world in product([True, False], repeat=len(truth))
        if any(world)
    )
    assert float(noisy_or(torch.tensor(truth, dtype=torch.float64))) == pytest.approx(expected, abs=1e-9)


def test_a_bag_costs_nothing_iff_something_fits_for_certain_and_is_bounded_where_nothing_does() -> None:
    assert float(some_fits(torch.tensor([0.1, 1.0]))) == pytest.approx(0, abs=1e-5)
    assert float(some_fits(torch.tensor([0.1, 0.2]))) == pytest.approx(-math.log(0.28), abs=1e-5)
    nothing = torch.zeros(3, requires_grad=True)
    some_fits(nothing).backward()  # type: ignore[no-untyped-call]
    assert nothing.grad is not None
    assert bool(nothing.grad.isfinite().all())
    assert float(some_fits(torch.zeros(0))) < 20


def test_negatives_are_the_mean_of_what_each_proposal_says_of_impossible_classes() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    impossible = torch.tensor([[True, False], [True, True]])
    assert float(negatives(p, impossible)) == pytest.approx(-(math.log(0.7) + math.log(0.1)) / 2, abs=1e-5)
    assert float(negatives(p, torch.zeros(2, 2, dtype=torch.bool))) == 0


# --- places -----------------------------------------------------------------------------------------------------------

corner = st.floats(0, 80)
box = st.builds(lambda x, y, w, h: [x, y, x + w, y + h], corner, corner, st.floats(2, 20), st.floats(2, 20))


@given(box, st.sets(st.sampled_from(ZONES), min_size=1))
def test_soft_regions_tend_to_the_crisp_zone_within_the_frames_width(place: list[float], zones: set[str]) -> None:
    frame = [20.0, 10.0, 60.0, 90.0]
    share = ((place[1] + place[3]) / 2 - 10) / 80
    x = (place[0] + place[2]) / 2
    if min(abs(share - 1 / 3), abs(share - 2 / 3)) < 0.01 or min(abs(x - 20), abs(x - 60)) < 0.5:
        return
    expected = zone_of(np.array(place), np.array(frame)) in zones and 20 < x < 60
    frames = Frames(torch.tensor([frame]), torch.ones(1))
    found = in_region(torch.tensor([place]), frames, sorted(zones, key=ZONES.index), 1e-4)
    assert float(found) == pytest.approx(float(expected), abs=1e-4)


def test_a_place_in_a_frame_that_nobody_sees_says_nothing() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    assert float(in_region(boxes, Frames(torch.zeros(0, 4), torch.zeros(0)), ZONES[:1], 0.1)) == 1
    far = torch.tensor([[50.0, 50.0, 90.0, 90.0]])
    half = float(inside_organ(boxes, Frames(far, torch.tensor([0.5])), 1e-3))
    assert half == pytest.approx(0.5, abs=1e-4)  # half sure that there is an organ, in which it is not
    two = Frames(torch.tensor([[0.0, 0.0, 40.0, 40.0], [50.0, 50.0, 90.0, 90.0]]), torch.tensor([0.6, 0.5]))
    assert float(inside_organ(boxes, two, 1e-3)) == pytest.approx(0.6 + 0.4 * 0.5, abs=1e-4)


@given(box, st.lists(st.tuples(corner, corner), min_size=1, max_size=8))
def test_a_box_is_short_of_a_stroke_by_nothing_iff_it_holds_all_of_it(
    place: list[float], points: list[tuple[float, float]]
) -> None:
    stroke, own = torch.tensor(points), torch.tensor(place)
    x1, y1, x2, y2 = own.tolist()
    inside = [x1 <= x <= x2 and y1 <= y <= y2 for x, y in stroke.tolist()]
    assert float(held_share(own[None], stroke)) == pytest.approx(sum(inside) / len(inside))
    assert (float(left_out(own, stroke)) == 0) == all(inside)


# --- films ------------------------------------------------------------------------------------------------------------


def lungs() -> tuple[Annotation, ...]:
    return Annotation("right_lung", Box(10, 10, 45, 90)), Annotation("left_lung", Box(55, 10, 90, 90))


def film(**known: object) -> Sample:
    grey = np.full((SIZE, SIZE), 100, dtype=np.uint8)
    return replace(Sample("film", grey, lungs(), complete=frozenset(NAMES[:3])), **known)  # type: ignore[arg-type]


def scene_of(rows: list[tuple[list[float], dict[int, float]]]) -> tuple[SceneProposals, Tensor, Tensor]:
    """A scene with boxes and class probabilities given, and the leaves that gradients are read from."""
    p = torch.zeros(len(rows), len(NAMES) + 1)
    for n, (_, classes) in enumerate(rows):
        for k, value in classes.items():
            p[n, k] = value
        p[n, 0] = 1 - p[n].sum()
    p.requires_grad_()
    boxes = torch.tensor([b for b, _ in rows], requires_grad=True)
    return SceneProposals(p, boxes, None, (float(SIZE), float(SIZE))), p, boxes


def losses_of(
    knowledge: Knowledge, sample: Sample, scene: SceneProposals, learns_boxes: bool = True, **settings: object
) -> dict[str, Tensor]:
    hinter = Hinter(NAMES, knowledge.ontology, learns_boxes)
    config = WeakConfig.model_validate({**ONLY, "warmup_steps": 0, "temperature": 1e-3, **settings})
    terms = WeakTerms(config, hinter, knowledge, compile_constraints(knowledge, NAMES, required=False))
    images, targets = make_batch([sample], NAMES, torch.device("cpu"), None, False, hinter.target)
    return terms.losses(0, [sample], [scene], images, targets)


IN_RIGHT, IN_LEFT, OUTSIDE = [20.0, 15.0, 30.0, 25.0], [60.0, 70.0, 70.0, 80.0], [46.0, 0.0, 54.0, 8.0]
ROWS = [(IN_RIGHT, {GGO: 0.3, NODULE: 0.1}), (IN_LEFT, {CONSOLIDATION: 0.2}), (OUTSIDE, {GGO: 0.9})]


def test_a_label_counts_for_the_classes_below_it_in_the_organs_that_the_rules_say(thorax: Knowledge) -> None:
    scene = scene_of(ROWS)[0]
    found = losses_of(thorax, film(labels=frozenset({"opacity"})), scene, label=1)
    assert found["loss_weak_label"].item() == pytest.approx(-math.log(1 - 0.6 * 0.8), abs=1e-4)
    anywhere = losses_of(thorax, film(labels=frozenset({"opacity"})), scene, label=1, place=False)
    assert anywhere["loss_weak_label"].item() == pytest.approx(-math.log(1 - 0.6 * 0.8 * 0.1), abs=1e-4)
    one = losses_of(thorax, film(labels=frozenset({"consolidation", "opacity", "finding"})), scene, label=1)
    assert one["loss_weak_label"].item() == pytest.approx(-math.log(0.2), abs=1e-4)  # what is above it is said with it


def test_labels_reach_class_scores_and_not_boxes_unless_they_are_told_to(thorax: Knowledge) -> None:
    said = film(labels=frozenset({"opacity"}), tags=(("nodule", "right_lung/upper_zone"),), absent=frozenset({"heart"}))
    settings = {"label": 1, "tag": 1, "mark": 1, "negative": 1, "rule": 1, "temperature": 0.1}
    scene, p, boxes = scene_of(ROWS)
    sum(losses_of(thorax, said, scene, **settings).values()).backward()  # type: ignore[union-attr]
    assert boxes.grad is None or float(boxes.grad.abs().max()) == 0
    assert p.grad is not None
    assert float(p.grad.abs().max()) > 0
    scene, _, boxes = scene_of(ROWS)
    sum(losses_of(thorax, said, scene, through_boxes=True, **settings).values()).backward()  # type: ignore[union-attr]
    assert boxes.grad is not None
    assert float(boxes.grad.abs().max()) > 0


def test_a_tag_is_a_label_in_its_region(thorax: Knowledge) -> None:
    rows = [(IN_RIGHT, {NODULE: 0.3}), (IN_LEFT, {NODULE: 0.6}), ([20.0, 70.0, 30.0, 80.0], {NODULE: 0.5})]
    scene = scene_of(rows)[0]
    for region, expected in (("right_lung/upper_zone", 0.3), ("left_lung", 0.6), ("right_lung", 1 - 0.7 * 0.5)):
        found = losses_of(thorax, film(tags=(("nodule", region),)), scene, tag=1)
        assert found["loss_weak_tag"].item() == pytest.approx(-math.log(expected), abs=1e-4)
    with pytest.raises(DataError, match=r"film: location 'spleen' is no region"):
        losses_of(thorax, film(tags=(("nodule", "spleen"),)), scene, tag=1)


def test_without_annotated_lungs_a_tag_takes_those_that_the_detector_sees(thorax: Knowledge) -> None:
    said = film(annotations=(), complete=frozenset(), tags=(("nodule", "right_lung/upper_zone"),))
    rows = [(IN_RIGHT, {NODULE: 0.3}), (IN_LEFT, {NODULE: 0.6}), ([10.0, 10.0, 45.0, 90.0], {RIGHT: 0.8})]
    scene, p, _ = scene_of(rows)
    found = losses_of(thorax, said, scene, tag=1)["loss_weak_tag"]
    # the second is in no right lung with probability 0.8, else the tag says nothing of place
    assert found.item() == pytest.approx(-math.log(1 - 0.7 * (1 - 0.6 * 0.2)), abs=1e-4)
    found.backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    assert float(p.grad[2, RIGHT].abs()) == 0


def point(name: str, x: float, y: float) -> Annotation:
    return Annotation(name, Box(x - 1, y - 1, x + 1, y + 1), drawn="point")


def test_a_point_asks_for_its_class_around_it_and_denies_it_elsewhere(thorax: Knowledge) -> None:
    said = film(annotations=(*lungs(), point("nodule", 25, 20)), complete=frozenset({*NAMES[:3], "nodule"}))
    rows = [(IN_RIGHT, {NODULE: 0.3}), (IN_LEFT, {NODULE: 0.6}), ([0.0, 0.0, 99.0, 99.0], {NODULE: 0.2})]
    scene = scene_of(rows)[0]
    found = losses_of(thorax, said, scene, mark=1, negative=1)
    assert found["loss_weak_mark"].item() == pytest.approx(-math.log(1 - 0.7 * 0.8), abs=1e-4)
    assert found["loss_weak_negative"].item() == pytest.approx(-math.log(0.4) / 3, abs=1e-4)


def test_classes_that_are_complete_are_denied_off_their_boxes_and_open_ones_are_not(thorax: Knowledge) -> None:
    rows = [([10.0, 10.0, 45.0, 88.0], {RIGHT: 0.9}), (IN_LEFT, {RIGHT: 0.5, NODULE: 0.3}), (OUTSIDE, {GGO: 0.7})]
    scene = scene_of(rows)[0]
    found = losses_of(thorax, film(), scene, negative=1)
    assert found["loss_weak_negative"].item() == pytest.approx(-math.log(0.5) / 3, abs=1e-4)
    gone = losses_of(thorax, film(absent=frozenset({"opacity"})), scene, negative=1)
    assert gone["loss_weak_negative"].item() == pytest.approx(-(math.log(0.2) + math.log(0.3)) / 3, abs=1e-4)


def scribble(name: str, rows: slice, columns: slice) -> Annotation:
    stroke = np.zeros((SIZE, SIZE), dtype=bool)
    stroke[rows, columns] = True
    return Annotation(name, box_of(stroke), encode_mask(stroke), drawn="scribble")


def test_the_best_box_of_a_stroke_grows_until_it_holds_it(thorax: Knowledge) -> None:
    said = film(annotations=(scribble("heart", slice(50, 52), slice(20, 60)),), complete=frozenset({"heart"}))
    scene, _, boxes = scene_of([([30.0, 40.0, 50.0, 60.0], {HEART: 0.9}), ([15.0, 40.0, 70.0, 60.0], {HEART: 0.1})])
    found = losses_of(thorax, said, scene, cover=1)["loss_weak_cover"]
    assert float(found.detach()) == pytest.approx((30 - 20.5 + 59.5 - 50) / 39, abs=0.1)
    found.backward()  # type: ignore[no-untyped-call]
    assert boxes.grad is not None
    assert boxes.grad[0, 0] > 0 > boxes.grad[0, 2]  # its left edge moves left, its right edge right
    assert float(boxes.grad[1].abs().max()) == 0
    whole = scene_of([([15.0, 40.0, 70.0, 60.0], {HEART: 0.9})])[0]
    assert losses_of(thorax, said, whole, cover=1)["loss_weak_cover"].item() == 0


def test_the_pixels_of_a_stroke_belong_in_the_mask_of_some_proposal_of_its_class(thorax: Knowledge) -> None:
    said = film(annotations=(scribble("heart", slice(40, 60), slice(40, 60)),), complete=frozenset({"heart"}))
    scene, *_ = scene_of([([30.0, 30.0, 70.0, 70.0], {HEART: 0.5}), (IN_LEFT, {GGO: 0.9})])
    masks = torch.zeros(2, 10, 10)
    masks[0, 4:6, 4:6] = 0.8
    masks[1] = 1.0
    found = losses_of(thorax, said, replace(scene, masks=masks), stroke=1)["loss_weak_stroke"]
    assert found.item() == pytest.approx(-math.log(0.5 * 0.8), abs=1e-4)


def test_boxes_count_as_far_as_they_are_as_big_as_their_class_is(thorax: Knowledge) -> None:
    sizes = [(40.0, 80.0), (50.0, 80.0), (45.0, 60.0)]
    films = [film(annotations=(Annotation("heart", Box(0, 0, w, h)),)) for w, h in sizes]
    shapes = ClassShapes.of(
        [*films, film(annotations=(Annotation("nodule", Box(0, 0, 5, 5)), point("heart", 9, 9)))], NAMES
    )
    logs = np.log(np.array(sizes) / SIZE)
    mean, deviation = logs.mean(0), logs.std(0)
    usual = [0.0, 0.0, *(SIZE * np.exp(mean))]
    boxes = torch.tensor([usual, [0.0, 0.0, 99.0, 99.0], [10.0, 10.0, 20.0, 15.0]], dtype=torch.float32)
    found = shapes.fit(boxes, (float(SIZE), float(SIZE)))
    for box_, fit in zip(boxes.tolist(), found[:, HEART - 1].tolist(), strict=True):
        away = (np.log([(box_[2] - box_[0]) / SIZE, (box_[3] - box_[1]) / SIZE]) - mean) / (
            2 * np.maximum(deviation, 0.15)
        )
        assert fit == pytest.approx(math.exp(-0.5 * float((away**2).sum())), abs=1e-5)
    assert found[0, HEART - 1] == pytest.approx(1)
    assert bool((found[:, NODULE - 1] == 1).all())  # a single box of it says nothing
    terms = WeakTerms(
        WeakConfig.model_validate({**ONLY, "mark": 1, "warmup_steps": 0}),
        hinter := Hinter(NAMES, thorax.ontology),
        thorax,
        compile_constraints(thorax, NAMES, required=False),
        shapes,
    )
    said = film(annotations=(point("heart", 20, 20),), complete=frozenset({"heart"}))
    images, targets = make_batch([said], NAMES, torch.device("cpu"), None, False, hinter.target)
    scene = scene_of([(b, {HEART: 0.5}) for b in boxes[:2].tolist()])[0]
    cost = terms.losses(0, [said], [scene], images, targets)["loss_weak_mark"].item()
    assert cost == pytest.approx(-math.log(1 - 0.5 * (1 - 0.5 * float(found[1, HEART - 1]))), abs=1e-4)


def test_a_film_of_which_everything_is_annotated_has_no_weak_terms(thorax: Knowledge) -> None:
    said = film(complete=None, labels=frozenset({"covid_19_study"}))
    assert losses_of(thorax, said, scene_of(ROWS)[0], **dict.fromkeys(ONLY, 1.0)) == {}


# --- rules ------------------------------------------------------------------------------------------------------------


def test_a_rule_from_a_label_of_the_study_asks_for_an_object_in_an_organ(thorax: Knowledge, tmp_path: Path) -> None:
    rules = tmp_path / "more.rules"
    rules.write_text(
        ":- negative_for_pneumonia(S), opacity(X).  %! id=none status=written source=x\n"
        "0.5 :: nodule(X) :- malignant_study(S).  %! id=some status=written source=x\n"
    )
    files = [ROOT / "ontologies/thorax.ttl", ROOT / "rules/thorax.rules", ROOT / "rules/labels.rules", rules]
    knowledge = load_knowledge(files)
    hinter = Hinter(NAMES, knowledge.ontology)
    found = {r.study: r for r in label_rules(knowledge, hinter)}
    assert set(found) == {"pneumonia_study", "negative_for_pneumonia", "malignant_study"}
    assert found["pneumonia_study"].labels == {GGO, CONSOLIDATION, NODULE}
    assert [r.study for r in holding(found.values(), ["covid_19_study"], hinter)] == ["pneumonia_study"]
    scene = scene_of(ROWS)[0]

    def cost(label: str) -> float:
        return losses_of(knowledge, film(labels=frozenset({label})), scene, rule=1)["loss_weak_rule"].item()

    assert cost("covid_19_study") == pytest.approx(-0.93 * math.log(1 - 0.6 * 0.8), abs=1e-4)
    assert cost("negative_for_pneumonia") == pytest.approx(-math.log(0.6 * 0.8 * 0.1) / 3, abs=1e-4)
    assert cost("malignant_study") == pytest.approx(-0.5 * math.log(0.1), abs=1e-4)


def test_the_shipped_rule_constrains_no_pair_of_boxes_and_thus_changes_no_other_training(thorax: Knowledge) -> None:
    more = load_knowledge([ROOT / "ontologies/thorax.ttl", ROOT / "rules/thorax.rules", ROOT / "rules/labels.rules"])
    ours, theirs = (compile_constraints(k, NAMES).rules for k in (more, thorax))
    assert [r.id for r in ours] == [r.id for r in theirs]


# --- samples to targets -----------------------------------------------------------------------------------------------


def test_points_and_strokes_are_no_boxes_to_a_detector_and_masks_to_a_segmenter(thorax: Knowledge) -> None:
    said = film(
        annotations=(*lungs(), point("nodule", 25, 20), scribble("heart", slice(50, 52), slice(20, 60))), complete=None
    )
    detector, segmenter = (Hinter(NAMES, thorax.ontology, b) for b in (True, False))
    target = detector.target(said, to_target(said, NAMES))
    assert target["labels"].tolist() == [RIGHT, LEFT]
    assert target["marks"].tolist() == [NODULE, HEART]
    assert target["points"][target["points"][:, 2] == 0, :2].tolist() == [[25.0, 20.0]]
    assert [n for n, o in zip(NAMES, target["open"].tolist(), strict=True) if o] == ["heart", "nodule"]
    masked = segmenter.target(said, to_target(said, NAMES, masks=True))
    assert masked["labels"].tolist() == [RIGHT, LEFT, NODULE, HEART]
    assert 4 <= int((masked["masks"][2] == 1).sum()) <= 9
    assert int((masked["masks"][3] == 1)[50:52, 20:60].sum()) == 80


def test_marks_move_with_the_film() -> None:
    rng = np.random.default_rng(3)
    for seed in range(5):
        spots = torch.tensor([[30.5, 40.5, 0.0], [70.5, 20.5, 1.0]])
        image = torch.zeros(3, SIZE, SIZE)
        for k, (x, y, _) in enumerate(spots.tolist()):
            image[k, int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = 1.0
        target: Target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "points": spots}
        moved, changed = augment(image, target | {"marks": torch.tensor([1, 2])}, np.random.default_rng([seed, 0]))
        for x, y, k in changed["points"].tolist():
            bright = (moved[int(k)] > moved[int(k)].max() - 0.05).nonzero().float()
            assert abs(float(bright[:, 1].mean()) + 0.5 - x) < 1
            assert abs(float(bright[:, 0].mean()) + 0.5 - y) < 1
    corner = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    gone = augment(torch.zeros(3, SIZE, SIZE), corner | {"points": torch.tensor([[-40.0, 5.0, 0.0]])}, rng)[1]
    assert gone["points"].shape == (0, 3)


def test_labels_that_something_more_definite_speaks_for_are_not_asked_for_twice(thorax: Knowledge) -> None:
    hinter = Hinter(NAMES, thorax.ontology)
    with_point = film(
        annotations=(*lungs(), point("nodule", 25, 20)), labels=frozenset({"opacity", "anatomical_structure"})
    )
    hints = hinter.of(with_point)
    assert hints is not None
    assert hints.present == ()
    tagged = hinter.of(film(labels=frozenset({"opacity", "nodule"}), tags=(("nodule", "left_lung"),)))
    assert tagged is not None
    assert tagged.present == ()
    plain = hinter.of(film(labels=frozenset({"opacity", "finding", "covid_19_study"})))
    assert plain is not None
    assert plain.present == (frozenset({GGO, CONSOLIDATION, NODULE}),)
    assert hinter.of(film(complete=None)) is None


def test_a_phantom_film_of_points_has_one_mark_for_each_object_inside_its_mask(thorax: Knowledge) -> None:
    hinter = Hinter(NAMES, thorax.ontology)
    sample = Phantom(0, 1, PhantomConfig(size=SIZE))[0]
    strokes = replace(
        sample, annotations=tuple(replace(a, drawn="scribble") for a in sample.annotations if a.name in NAMES)
    )
    marks = hinter.marks(strokes)
    assert len(marks.labels) == len(strokes.annotations)
    for k in range(len(marks.labels)):
        own = marks.of(k)
        assert 1 <= len(own) <= 64
        assert bool(stroke_mask(own, SIZE, SIZE).any())
    assert to_tensor(sample.image).shape == (3, SIZE, SIZE)
