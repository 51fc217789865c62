from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.data.config import CocoData, PhantomData, VocData, class_names, data_folder, open_split
from neurosym.data.degrade import DegradedSamples, degradation, degrade, point_of
from neurosym.data.degrade_draws import BOXES, degrade_annotations
from neurosym.data.degrade_files import true_boxes
from neurosym.data.masks import decode_mask, encode_mask
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.data.voc import load_voc
from neurosym.errors import ConfigError, DataError
from neurosym.knowledge import Knowledge
from neurosym.learning.batches import to_target
from neurosym.records import Annotation, Box, Sample

WIDTH, HEIGHT = 120, 90
SHARED = data_folder()
BCCD = pytest.mark.skipif(not (SHARED / "bccd").is_dir(), reason="the BCCD data set is not here; set NEUROSYM_DATA")
ROOT = Path(__file__).parents[2]

names = st.sampled_from(["heart", "nodule", "left_lung"])
shares = st.floats(0, 1)
seeds = st.integers(0, 1000)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x1, y1 = draw(st.floats(0, WIDTH - 2)), draw(st.floats(0, HEIGHT - 2))
    return Box(x1, y1, draw(st.floats(x1 + 1.5, WIDTH)), draw(st.floats(y1 + 1.5, HEIGHT)))


groups = st.lists(st.builds(Annotation, names, boxes()), min_size=1, max_size=6)


def spoilt(group: list[Annotation], how: str, r: float, seed: int = 0, image_id: str = "film", **options: object):  # type: ignore[no-untyped-def]
    classes = ["heart", "nodule", "left_lung"]
    return degrade_annotations(group, image_id, WIDTH, HEIGHT, degradation(how, r, seed, **options), classes)


def lies_within(a: Box, b: Box) -> bool:
    return a.x1 >= b.x1 and a.y1 >= b.y1 and a.x2 <= b.x2 and a.y2 <= b.y2


def overlap(a: Box, b: Box) -> float:
    common = max(0.0, min(a.x2, b.x2) - max(a.x1, b.x1)) * max(0.0, min(a.y2, b.y2) - max(a.y1, b.y1))
    return common / (a.width * a.height + b.width * b.height - common)


# --- boxes ------------------------------------------------------------------------------------------------------------


@given(groups, st.sampled_from(sorted(BOXES)), shares, seeds)
def test_every_box_stays_within_the_image_and_is_at_least_a_pixel_wide(
    group: list[Annotation], how: str, r: float, seed: int
) -> None:
    for d in spoilt(group, how, r, seed):
        assert d.shown is not None
        assert lies_within(d.shown.box, Box(0, 0, WIDTH, HEIGHT))
        assert min(d.shown.box.width, d.shown.box.height) >= 1
        assert not d.reverted or d.shown == d.truth


@given(groups, st.sampled_from(["uniform", "too_big", "partial", "annotator", "missing", "wrong_label"]), seeds)
def test_nothing_changes_at_r_0(group: list[Annotation], how: str, seed: int) -> None:
    assert [d.shown for d in spoilt(group, how, 0, seed)] == group


@given(groups, shares, seeds, st.floats(1.1, 10))
def test_a_box_that_is_too_big_contains_the_true_one_and_keeps_to_its_factor(
    group: list[Annotation], r: float, seed: int, factor: float
) -> None:
    for d in spoilt(group, "too_big", r, seed, factor=factor):
        a, b = d.truth.box, d.shown.box
        assert lies_within(a, b)
        assert b.width * b.height <= (1 + r * (factor - 1)) * a.width * a.height * (1 + 1e-9)


@given(groups, shares, seeds)
def test_a_partial_box_lies_within_the_true_one(group: list[Annotation], r: float, seed: int) -> None:
    for d in spoilt(group, "partial", r, seed):
        assert lies_within(d.shown.box, d.truth.box)
        assert d.reverted or d.shown.box.width >= (1 - r) * d.truth.box.width - 1e-9


@given(groups, st.sampled_from([*sorted(BOXES), "missing", "wrong_label"]), st.floats(0.1, 1), seeds, st.randoms())
def test_a_draw_depends_neither_on_the_order_of_annotations_nor_on_the_others(  # type: ignore[no-untyped-def]
    group: list[Annotation], how: str, r: float, seed: int, random
) -> None:
    group = list({a.box: a for a in group}.values())
    whole = {d.truth: d.shown for d in spoilt(group, how, r, seed)}
    shuffled = random.sample(group, len(group))
    assert {d.truth: d.shown for d in spoilt(shuffled, how, r, seed)} == whole
    alone = spoilt(group[:1], how, r, seed)[0]
    assert alone.shown == whole[group[0]]


def test_two_annotations_with_one_box_are_spoilt_each_in_its_own_way_whatever_their_order() -> None:
    twins = [Annotation("nodule", Box(10, 10, 60, 60)), Annotation("heart", Box(10, 10, 60, 60))]
    nodule, heart = (d.shown for d in spoilt(twins, "uniform", 0.4))
    assert nodule.box != heart.box
    assert [d.shown for d in spoilt(twins[::-1], "uniform", 0.4)] == [heart, nodule]


def test_another_seed_or_another_image_draws_otherwise() -> None:
    group = [Annotation("heart", Box(20, 20, 70, 60))]
    drawn = {spoilt(group, "uniform", 0.4, s, i)[0].shown for s, i in ((0, "a"), (1, "a"), (0, "b"), (0, "a"))}
    assert len(drawn) == 3


def test_uniform_noise_has_the_protocols_range_and_spread_away_from_the_border() -> None:
    box, r = Box(40, 30, 80, 60), 0.3
    drawn = [spoilt([Annotation("heart", box)], "uniform", r, 0, f"film-{k}")[0].shown.box for k in range(1500)]
    values = np.array([b.xyxy for b in drawn])
    shift = (values[:, :2] + values[:, 2:]) / 2 - [60, 45]
    for found in (shift / [40, 30], (values[:, 2:] - values[:, :2]) / [40, 30] - 1):
        assert np.abs(found).max() <= r + 1e-9
        assert np.abs(found.mean(0)).max() < 0.02
        assert found.std(0) == pytest.approx(r / math.sqrt(3), rel=0.06)  # of U(−r, r)


def test_a_box_that_is_emptied_at_the_border_reverts_and_is_named() -> None:
    corner = Annotation("nodule", Box(0, 0, 4, 4))
    found = [spoilt([corner], "uniform", 1.0, seed)[0] for seed in range(100)]
    reverted = [d for d in found if d.reverted]
    assert 0 < len(reverted) < 100
    assert all(d.shown == corner for d in reverted)


def test_an_annotator_is_off_in_the_same_way_on_all_own_images() -> None:
    group = [Annotation("heart", Box(40, 30, 80, 60))]
    samples = [Sample(f"film-{k}", np.zeros((HEIGHT, WIDTH), np.uint8), tuple(group)) for k in range(60)]
    shown = degrade(samples, "annotator", 0.3, annotators=3)
    of: dict[int, list[float]] = {}
    for s in shown:
        of.setdefault(s.attributes["annotator"], []).append(s.annotations[0].box.x1)
    assert set(of) == {0, 1, 2}
    within = max(np.std(v) for v in of.values())
    assert within <= 40 * 0.3 * 0.25  # a side, r, the share that is not habit
    assert within < np.std([np.mean(v) for v in of.values()])


def test_points_are_small_boxes_around_a_pixel_of_the_object() -> None:
    film = Phantom(3, 1, PhantomConfig(size=96))[0]
    shown = degrade(film, "point", 1.0, 2)
    for truth, a in zip(film.annotations, shown.annotations, strict=True):
        point = point_of(a.box)
        assert point is not None
        assert a.mask is None
        assert decode_mask(truth.mask)[int(point[1]), int(point[0])] == 1
    assert point_of(film.annotations[0].box) is None


# --- classes and what is missing --------------------------------------------------------------------------------------


def test_boxes_are_dropped_at_their_classes_rates() -> None:
    group = [Annotation(n, Box(10, 10 + k / 10, 50, 60)) for k in range(300) for n in ("heart", "nodule")]
    found = spoilt(group, "missing", 0.2, rates={"nodule": 0.7})
    for name, rate in (("heart", 0.2), ("nodule", 0.7)):
        share = np.mean([d.shown is None for d in found if d.truth.name == name])
        assert share == pytest.approx(rate, abs=0.09)


@given(groups, seeds)
def test_at_rate_1_every_label_is_wrong_and_every_box_right(group: list[Annotation], seed: int) -> None:
    for d in spoilt(group, "wrong_label", 1.0, seed):
        assert d.shown.name != d.truth.name
        assert d.shown.name in ("heart", "nodule", "left_lung")
        assert d.shown.box == d.truth.box


def test_crowds_are_left_alone() -> None:
    crowd = [Annotation("heart", Box(10, 10, 50, 50), iscrowd=True)]
    for how in (*BOXES, "missing", "wrong_label"):
        assert spoilt(crowd, how, 1.0)[0].shown is crowd[0]


# --- masks ------------------------------------------------------------------------------------------------------------


def test_a_mask_goes_with_its_box_so_that_it_does_not_tell_the_true_one() -> None:
    mask = np.zeros((HEIGHT, WIDTH))
    mask[20:60, 30:80] = 1
    group = [Annotation("heart", Box(30, 20, 80, 60), encode_mask(mask))]
    for how in ("uniform", "too_big", "partial", "annotator"):
        shown = spoilt(group, how, 0.4, 5)[0].shown
        rows, columns = np.nonzero(decode_mask(shown.mask))
        tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.array(tight) - shown.box.xyxy).max() <= 1
    assert spoilt(group, "missing", 0.0)[0].shown.mask == group[0].mask


# --- samples and configs ----------------------------------------------------------------------------------------------


def test_training_sees_the_spoilt_boxes_and_nothing_of_the_true_ones() -> None:
    films = Phantom(0, 3, PhantomConfig(size=96))
    shown = degrade(films, "uniform", 0.4, 1)
    for film, sample, i in zip(films, shown, range(3), strict=True):
        assert np.array_equal(sample.image, film.image)
        classes = [a.name for a in film.annotations]
        assert [a.name for a in sample.annotations] == classes
        expected = [d.shown.box.xyxy for d in degrade_annotations(film.annotations, film.image_id, 96, 96, shown.noise)]
        assert to_target(sample, classes)["boxes"].tolist() == pytest.approx(np.array(expected), rel=1e-6)
        assert not {a.box for a in sample.annotations} & {a.box for a in film.annotations}
        assert not {str(a.mask) for a in sample.annotations} & {str(a.mask) for a in film.annotations}
        assert "relations" not in sample.attributes
        assert shown.truth(i) == film.annotations


def test_the_true_boxes_have_the_order_of_what_is_shown_without_what_is_missing() -> None:
    films = Phantom(0, 6, PhantomConfig(size=96))
    shown = degrade(films, "missing", 0.4)
    truth = true_boxes(shown)
    assert [tuple(a.box for a in s.annotations) for s in shown] == [truth[s.image_id] for s in shown]
    for i, film in enumerate(films):
        assert sorted([*shown.truth(i), *shown.dropped(i)], key=str) == sorted(film.annotations, key=str)
    assert any(shown.dropped(i) for i in range(6))


def test_a_slice_and_a_single_sample_are_spoilt_as_the_sequence_is() -> None:
    films = Phantom(0, 4, PhantomConfig(size=96))
    shown = degrade(films, "uniform", 0.3, 7)
    assert shown[2].annotations == shown[1:3][1].annotations == degrade(films[2], "uniform", 0.3, 7).annotations
    assert shown[-1].annotations == shown[3].annotations
    with pytest.raises(IndexError):
        _ = shown[4]


@pytest.mark.parametrize(
    ("how", "r", "options", "message"),
    [
        ("unifrom", 0.1, {}, "unknown degradation 'unifrom'; did you mean 'uniform'"),
        ("blur", 0.1, {}, "known: annotator, coarse_mask, missing, partial, point, too_big, uniform, wrong_label"),
        ("uniform", 1.5, {}, "r: Input should be less than or equal to 1, found 1.5"),
        ("uniform", -0.1, {}, "r: Input should be greater than or equal to 0, found -0.1"),
        ("uniform", math.nan, {}, "r: .*found nan"),
        ("missing", 0.1, {"rates": {"heart": 2}}, "rates.heart: Input should be less than or equal to 1, found 2"),
        ("coarse_mask", 0.1, {"shape": "blob"}, "shape: Input should be 'dilate', 'polygon' or 'scribble'"),
        ("missing", 0.1, {"names": ["heart"], "rates": {"haert": 0.5}}, "no class 'haert' .*did you mean 'heart'"),
        ("wrong_label", 0.1, {"names": ["heart"]}, "wrong_label needs two classes"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_what_can(how: str, r: float, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        degrade(Phantom(0, 1, PhantomConfig(size=64)), how, r, **options)


def phantom_data(**degrade_: object) -> PhantomData:
    split = {"start": 0, "count": 2}
    values = {"format": "phantom", "size": 96, "train": split, "val": split, "test": split, "unlabelled": split}
    return PhantomData.model_validate(values | ({"degrade": degrade_} if degrade_ else {}))


def test_a_config_degrades_the_train_split_and_no_other(thorax: Knowledge) -> None:
    plain, spoilt_ = phantom_data(), phantom_data(r=0.4)
    for split in ("train", "val", "test", "unlabelled"):
        pairs = zip(open_split(plain, split, Path(), thorax), open_split(spoilt_, split, Path(), thorax), strict=True)  # type: ignore[arg-type]
        same = [a.annotations == b.annotations for a, b in pairs]
        assert same == [split != "train"] * 2
    assert phantom_data().degrade is None


def test_classes_are_those_of_the_data_even_if_all_that_shows_them_is_dropped(thorax: Knowledge) -> None:
    data = phantom_data(how="missing", r=1.0)
    images = open_split(data, "train", Path(), thorax)
    assert all(s.annotations == () for s in images)
    assert {"heart", "left_lung", "right_lung"} <= set(class_names(data, images, thorax))


def test_wrong_labels_of_a_config_are_among_its_categories(thorax: Knowledge) -> None:
    data = phantom_data(how="wrong_label", r=1.0).model_copy(update={"categories": ("heart", "left_lung")})
    for sample, film in zip(open_split(data, "train", Path(), thorax), Phantom(0, 2, PhantomConfig(96)), strict=True):
        for shown, truth in zip(sample.annotations, film.annotations, strict=True):
            swapped = {"heart": "left_lung", "left_lung": "heart"}
            assert shown.name == swapped.get(truth.name, truth.name)


def test_a_coco_config_is_degraded_alike_and_only_where_labels_are_kept(coco_folder, thorax: Knowledge) -> None:  # type: ignore[no-untyped-def]
    annotations, images = coco_folder(6)
    split = {"annotations": str(annotations), "images": str(images)}
    values = {"format": "coco", "few": {"count": 3, "seed": 1}, "train": split, "degrade": {"r": 0.4}}
    data = CocoData.model_validate(values)
    plain = data.model_copy(update={"degrade": None})
    train, rest = (open_split(data, s, Path(), thorax) for s in ("train", "unlabelled"))  # type: ignore[arg-type]
    assert isinstance(train, DegradedSamples)
    assert not isinstance(rest, DegradedSamples)
    truth = open_split(plain, "train", Path(), thorax)
    assert [train.truth(i) for i in range(3)] == [s.annotations for s in truth]
    assert all(a.annotations != b.annotations for a, b in zip(train, truth, strict=True))


def test_coarse_masks_of_data_without_masks_are_refused(coco_folder, thorax: Knowledge) -> None:  # type: ignore[no-untyped-def]
    annotations, images = coco_folder(1)
    values = {"format": "coco", "train": {"annotations": str(annotations), "images": str(images)}}
    data = CocoData.model_validate(values | {"degrade": {"how": "coarse_mask", "r": 0.1}})
    with pytest.raises(DataError, match="coarse_mask: no annotation has a mask; use annotations with segmentations"):
        open_split(data, "train", Path(), thorax)


def test_a_training_config_asks_for_it_by_one_override_and_is_told_the_choices() -> None:
    from neurosym.learning.config import load_config

    for name, model in (("phantom", PhantomData), ("bccd", VocData), ("jsrt-anatomy", CocoData)):
        path = ROOT / f"experiments/{name}/config.yaml"
        assert load_config(path).data.degrade is None
        data = load_config(path, ["data.degrade.r=0.4"]).data
        assert isinstance(data, model)
        assert data.degrade == degradation("uniform", 0.4)
        with pytest.raises(ConfigError, match=r"data\.degrade\.how: Input should be 'uniform', 'too_big'"):
            load_config(path, ["data.degrade.how=blur", "data.degrade.r=0.1"])
        with pytest.raises(ConfigError, match=r"data\.degrade\.sed: unknown setting; did you mean 'seed'"):
            load_config(path, ["data.degrade.r=0.1", "data.degrade.sed=1"])


# --- the published level ----------------------------------------------------------------------------------------------


@BCCD
@pytest.mark.parametrize(("r", "published"), [(0.1, 0.81), (0.2, 0.67), (0.3, 0.55), (0.4, 0.46)])
def test_uniform_noise_on_bccd_has_the_mean_overlap_that_is_published(
    r: float, published: float, blood: Knowledge
) -> None:
    places = (SHARED / "bccd/train.txt", SHARED / "bccd/annotations", SHARED / "bccd/images")
    shown = degrade(load_voc(*places, blood, bad_boxes="drop"), "uniform", r, 0)
    truth = true_boxes(shown)
    data = VocData.model_validate(
        {
            "format": "voc",
            "bad_boxes": "drop",
            "train": dict(zip(("split", "annotations", "images"), map(str, places), strict=True)),
            "degrade": {"how": "uniform", "r": r},
        }
    )
    sample = open_split(data, "train", Path(), blood)[0]
    assert sample.annotations == shown[0].annotations
    found = []
    for i, boxes_ in enumerate(truth.values()):
        degraded = [d.shown.box for d in shown._degraded(i)]
        found += [overlap(a, b) for a, b in zip(degraded, boxes_, strict=True)]
    assert len(found) == 2804
    assert np.mean(found) == pytest.approx(published, abs=0.015)
