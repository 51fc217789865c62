from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints import compile_constraints
from neurosym.constraints.graph import ontology_graph
from neurosym.constraints.graph.instance_moves import SHAPE, Instance, moves_of, overlap
from neurosym.constraints.graph.instance_scorer import (
    Brightness,
    InstanceScorer,
    ScorerSettings,
    instances_of,
    mask_quality,
    scoring_loss,
    train_scorer,
)
from neurosym.constraints.graph.instances import InstanceRefinement, RefineSettings, refine_instances
from neurosym.data.masks import decode_mask, encode_mask
from neurosym.data.phantom import PhantomConfig, phantom_layout
from neurosym.errors import ConstraintError
from neurosym.knowledge import Knowledge
from neurosym.records import Box, Detection, Scene
from tests.conftest import CLASSES

SIDE = 64
SMALL = ScorerSettings(groups=2, group=6, steps=100, batch=5, hidden=24, lr=5e-3)
QUICK = RefineSettings(iterations=2, branching=1, tried=12)
Spoiler = Callable[[Scene, np.random.Generator], tuple[Scene, tuple[Detection, ...]]]


def film(index: int) -> Scene:
    layout = phantom_layout(index, PhantomConfig(size=SIDE))
    found = tuple(Detection(a.name, a.box, 1.0, a.mask) for a in layout.annotations)
    return Scene(layout.image_id, SIDE, SIDE, found)


def trained(thorax: Knowledge, scenes: Sequence[Scene], chosen: ScorerSettings) -> InstanceScorer:
    rules = compile_constraints(thorax, CLASSES)
    return train_scorer(scenes, rules, ontology_graph(rules, thorax.ontology), chosen, seed=0)


@pytest.fixture(scope="module")
def scorer(thorax: Knowledge) -> InstanceScorer:
    return trained(thorax, [film(i) for i in range(24)], SMALL)


def found(name: str, mask: np.ndarray, score: float = 0.9) -> Detection:
    return Detection(name, Box(0, 0, SIDE, SIDE), score, encode_mask(mask))


def mask_of(scene: Scene, name: str) -> np.ndarray:
    return next(decode_mask(d.mask) > 0 for d in scene.detections if d.name == name and d.mask is not None)


def without(scene: Scene, *names: str) -> tuple[Detection, ...]:
    return tuple(d for d in scene.detections if d.name not in names)


def disc(rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.ogrid[:SIDE, :SIDE]
    y, x = rng.uniform(12, 52, 2)
    return (rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(4, 8) ** 2


def any_organ(rng: np.random.Generator) -> str:
    return ("heart", "left_lung", "right_lung")[int(rng.integers(3))]


def lungs_merged(scene: Scene, rng: np.random.Generator) -> tuple[Scene, tuple[Detection, ...]]:
    both = mask_of(scene, "left_lung") | mask_of(scene, "right_lung")
    name = ("left_lung", "right_lung")[int(rng.integers(2))]
    return replace(scene, detections=(*without(scene, "left_lung", "right_lung"), found(name, both))), ()


def heart_halved(scene: Scene, rng: np.random.Generator) -> tuple[Scene, tuple[Detection, ...]]:
    heart, axis = mask_of(scene, "heart"), int(rng.integers(2))
    upper = np.indices(heart.shape)[axis] < np.median(np.argwhere(heart)[:, axis])
    halves = found("heart", heart & upper), found("heart", heart & ~upper)
    return replace(scene, detections=(*without(scene, "heart"), *halves)), ()


def blob_added(scene: Scene, rng: np.random.Generator) -> tuple[Scene, tuple[Detection, ...]]:
    return replace(scene, detections=(*scene.detections, found(any_organ(rng), disc(rng)))), ()


def organ_lost(scene: Scene, rng: np.random.Generator) -> tuple[Scene, tuple[Detection, ...]]:
    name = any_organ(rng)
    candidates = found(name, mask_of(scene, name), 0.2), found(any_organ(rng), disc(rng), 0.15)
    return replace(scene, detections=without(scene, name)), candidates


SPOILERS: tuple[Spoiler, ...] = (lungs_merged, heart_halved, blob_added, organ_lost)


def quality(scene: Scene, truth: Scene) -> float:
    return mask_quality(instances_of(scene, CLASSES), instances_of(truth, CLASSES))


@dataclass(frozen=True)
class Outcome:
    truth: Scene
    spoilt: Scene
    candidates: tuple[Detection, ...]
    refined: InstanceRefinement

    @property
    def before(self) -> float:
        return quality(self.spoilt, self.truth)

    @property
    def after(self) -> float:
        return quality(self.refined.scene, self.truth)


@pytest.fixture(scope="module")
def outcomes(scorer: InstanceScorer) -> dict[str, list[Outcome]]:
    """24 held-out films, six spoilt in each way."""
    results: dict[str, list[Outcome]] = {}
    for way, spoiler in enumerate(SPOILERS):
        rng = np.random.default_rng(way)
        for index in range(1000 + 6 * way, 1006 + 6 * way):
            truth = film(index)
            spoilt, candidates = spoiler(truth, rng)
            refined = refine_instances(spoilt, scorer, QUICK, candidates)
            results.setdefault(spoiler.__name__, []).append(Outcome(truth, spoilt, candidates, refined))
    return results


def test_refinement_mends_most_of_what_is_wrong_with_new_films(outcomes: dict[str, list[Outcome]]) -> None:
    everything = [o for of_one in outcomes.values() for o in of_one]
    assert len(everything) == 24
    left = 1 - np.mean([o.after for o in everything])
    assert left < 0.5 * (1 - np.mean([o.before for o in everything]))


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_refinement_mends(outcomes: dict[str, list[Outcome]], spoiler: Spoiler) -> None:
    of_one = outcomes[spoiler.__name__]
    assert np.mean([o.after for o in of_one]) > np.mean([o.before for o in of_one]) + 0.02


def test_masks_that_come_back_are_whole(outcomes: dict[str, list[Outcome]]) -> None:
    for o in itertools.chain.from_iterable(outcomes.values()):
        for d in o.refined.scene.detections:
            assert d.mask is not None
            mask = decode_mask(d.mask)
            assert mask.shape == (SIDE, SIDE)
            assert mask.any()
            if d not in o.spoilt.detections and d not in o.candidates:
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                assert d.box.xyxy == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def test_each_step_scores_higher_than_the_one_before(outcomes: dict[str, list[Outcome]]) -> None:
    for o in itertools.chain.from_iterable(outcomes.values()):
        steps = o.refined.steps
        assert len(steps) <= QUICK.iterations
        assert all(s.after >= s.before + QUICK.gain for s in steps)
        assert all(a.after == b.before for a, b in itertools.pairwise(steps))


def test_classes_that_may_not_be_changed_stay(scorer: InstanceScorer, outcomes: dict[str, list[Outcome]]) -> None:
    organs = ("heart", "left_lung", "right_lung")
    for o in outcomes["blob_added"]:
        refined = refine_instances(o.spoilt, scorer, replace(QUICK, classes=organs, gain=0.0, iterations=1))
        assert [d for d in refined.scene.detections if d.name not in organs] == list(without(o.spoilt, *organs))
        none = refine_instances(o.spoilt, scorer, replace(QUICK, classes=()))
        assert none.scene == o.spoilt
    with pytest.raises(ConstraintError, match="unknown class 'hart'; did you mean 'heart'?"):
        refine_instances(o.spoilt, scorer, replace(QUICK, classes=("hart",)))


def test_what_is_right_is_left_alone(scorer: InstanceScorer) -> None:
    scenes = [film(i) for i in range(1100, 1105)]
    refined = [refine_instances(s, scorer, QUICK) for s in scenes]
    assert np.mean([quality(r.scene, s) for r, s in zip(refined, scenes, strict=True)]) > 0.95
    untouched = [r.scene for r in refined if not r.steps]
    assert len(untouched) >= 4
    assert all(s in scenes for s in untouched)


def test_the_log_tells_what_was_done(scorer: InstanceScorer) -> None:
    truth = film(1002)
    spoilt, _ = lungs_merged(truth, np.random.default_rng(0))
    refined = refine_instances(spoilt, scorer, QUICK)
    assert refined.steps[0].kind == "split"
    assert sorted(refined.steps[0].added) == ["left_lung", "right_lung"]
    assert str(refined.steps[0]).startswith(f"split: {refined.steps[0].removed[0]} → ")
    assert refined.score == refined.steps[-1].after
    kept = [d for d in spoilt.detections if d.name == "heart"]
    assert all(d in refined.scene.detections for d in kept)


def test_an_added_candidate_keeps_its_low_score(scorer: InstanceScorer) -> None:
    truth = film(1003)
    heart = found("heart", mask_of(truth, "heart"), 0.07)
    lost = replace(truth, detections=without(truth, "heart"))
    refined = refine_instances(lost, scorer, QUICK, [heart])
    assert refined.steps[0].kind == "add"
    assert heart in refined.scene.detections


def test_the_same_seed_gives_the_same_scorer_and_the_same_refinement(thorax: Knowledge) -> None:
    tiny = replace(SMALL, groups=1, steps=3)
    results = []
    for _ in range(2):
        scorer = trained(thorax, [film(i) for i in range(2)], tiny)
        spoilt, candidates = blob_added(film(1004), np.random.default_rng(0))
        results.append(refine_instances(spoilt, scorer, replace(QUICK, tried=8, gain=0.0), candidates, seed=5))
    assert results[0] == results[1]


def test_scenes_that_cannot_be_refined_are_told(scorer: InstanceScorer) -> None:
    scene = film(1005)
    boxes = replace(scene, detections=tuple(replace(d, mask=None) for d in scene.detections))
    same = refine_instances(boxes, scorer)
    assert same.scene is boxes
    assert "no object of the scene has a mask" in same.note
    mixed = replace(scene, detections=(replace(scene.detections[0], mask=None), *scene.detections[1:]))
    with pytest.raises(
        ConstraintError, match=r"phantom-001005: detection 1 \(right_lung\) has no mask; masks are refined of"
    ):
        refine_instances(mixed, scorer)
    with pytest.raises(
        ConstraintError, match=r"mask of detection 1 \(heart\) is \[3, 3\] \(height, width\), the scene \[64, 64\]"
    ):
        refine_instances(replace(scene, detections=(found("heart", np.ones((3, 3))),)), scorer)
    with pytest.raises(ConstraintError, match="unknown class 'hart'; did you mean 'heart'?"):
        refine_instances(replace(scene, detections=(found("hart", np.ones((64, 64))),)), scorer)
    with pytest.raises(ConstraintError, match=r"the image is \(5, 64\), the scene \(64, 64\)"):
        refine_instances(scene, scorer, image=np.zeros((5, 64)))


def test_empty_masks_do_not_come_back(scorer: InstanceScorer) -> None:
    scene = film(1006)
    nothing = found("nodule", np.zeros((SIDE, SIDE)))
    refined = refine_instances(replace(scene, detections=(*scene.detections, nothing)), scorer, QUICK, [nothing])
    assert nothing not in refined.scene.detections
    assert "1 of the scene's masks had no pixel" in refined.note
    assert refine_instances(replace(scene, detections=()), scorer, QUICK).scene.detections == ()


def test_a_scorer_needs_labelled_masks(thorax: Knowledge) -> None:
    rules = compile_constraints(thorax, CLASSES)
    graph = ontology_graph(rules, thorax.ontology)
    with pytest.raises(ConstraintError, match="no labelled film shows an object"):
        train_scorer([replace(film(0), detections=())], rules, graph)
    with pytest.raises(ConstraintError, match="0 images for 1 labelled films"):
        train_scorer([film(0)], rules, graph, images=[])


# --- quality and moves against brute force ------------------------------------------------------------------------------

RELATED = {1: (2,), 2: (1,), 3: ()}


@st.composite
def instances(draw: st.DrawFn, most: int = 4) -> tuple[Instance, ...]:
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    chosen = []
    for _ in range(draw(st.integers(1, most))):
        y, x = rng.integers(0, 14, 2)
        mask = np.zeros((20, 20), dtype=bool)
        mask[y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = rng.random() < 2
        mask &= rng.random((20, 20)) < rng.choice([0.7, 1.0])
        mask[y, x] = True
        chosen.append(Instance(int(rng.integers(1, 4)), mask))
    return tuple(chosen)


@given(instances(), instances())
@settings(max_examples=40)
def test_quality_is_the_best_of_all_ways_to_match(a: tuple[Instance, ...], b: tuple[Instance, ...]) -> None:
    def dice(one: Instance, other: Instance) -> float:
        common = float((one.mask & other.mask).sum())
        return 2 * common / float(one.mask.sum() + other.mask.sum()) if one.label == other.label else 0.0

    few, many = sorted((a, b), key=len)
    best = max(sum(map(dice, few, chosen)) for chosen in itertools.permutations(many, len(few)))
    assert mask_quality(a, b) == pytest.approx(2 * best / (len(a) + len(b)))
    assert mask_quality(a, a) == 1.0
    assert mask_quality((), ()) == 1.0
    assert mask_quality(a, ()) == 0.0


@given(instances(), instances(2))
@settings(max_examples=40)
def test_moves_keep_the_pixels_they_should(there: tuple[Instance, ...], candidates: tuple[Instance, ...]) -> None:
    for move in moves_of(there, candidates, RELATED):
        after = move.apply(there)
        assert all(i.mask.any() and i.mask.shape == (20, 20) for i in after)
        gone = [there[k] for k in move.removed]
        pixels, come = sum(g.mask.astype(int) for g in gone), sum(i.mask.astype(int) for i in move.added)
        if move.kind == "split":
            assert np.array_equal(come, pixels)  # a partition
            assert gone[0].label in {i.label for i in move.added}
            assert all(i.label in (gone[0].label, *RELATED[gone[0].label]) for i in move.added)
        elif move.kind == "merge":
            assert np.array_equal(come > 0, pixels > 0)
            assert move.added[0].label in {g.label for g in gone}
        elif move.kind == "add":
            assert move.added[0] in candidates
            assert all(overlap(move.added[0], i) < 0.5 for i in there if i.label == move.added[0].label)
        else:
            assert (move.kind, len(gone), len(move.added)) == ("delete", 1, 0)
        assert len(after) == len(there) - len(move.removed) + len(move.added)


def test_only_neighbours_of_related_classes_are_merged() -> None:
    def square(label: int, left: int) -> Instance:
        mask = np.zeros((100, 100), dtype=bool)
        mask[10:20, left : left + 10] = True
        return Instance(label, mask)

    there = (square(1, 0), square(2, 12), square(3, 22), square(1, 60))
    merged = {m.removed for m in moves_of(there, (), RELATED) if m.kind == "merge"}
    assert merged == {(0, 1)}  # 2 pixels apart and siblings; 3 is no sibling, the last is far off


def test_shapes_are_the_same_at_twice_the_resolution() -> None:
    for i in instances_of(film(1), CLASSES):
        large = Instance(i.label, np.kron(i.mask, np.ones((4, 4))).astype(bool))
        if i.area > 100:
            np.testing.assert_allclose(large.shape, i.shape, atol=0.12, err_msg=str(SHAPE))


def test_brightness_is_that_inside_and_around_a_mask() -> None:
    image = np.full((40, 40), 50.0)
    image[10:20, 10:20] = 200.0
    image[0, 0], image[39, 39] = 0.0, 250.0
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:20, 10:20] = True
    there, mean, contrast, spread = Brightness(image).of(Instance(1, mask))
    assert (there, mean, spread) == (1.0, 1.0, 0.0)
    assert contrast == pytest.approx(-1.0)
    assert Brightness(None).of(Instance(1, mask)).tolist() == [0.0] * 4
    with pytest.raises(ConstraintError, match="grid of finite values"):
        Brightness(image * np.nan)


def test_a_scorer_that_sees_images_tells_the_same_masks_apart_on_different_films(thorax: Knowledge) -> None:
    scenes = [film(i) for i in range(3)]
    rules = compile_constraints(thorax, CLASSES)
    graph = ontology_graph(rules, thorax.ontology)
    rng = np.random.default_rng(0)
    images = [rng.random((SIDE, SIDE)) for _ in scenes]
    seeing = train_scorer(scenes, rules, graph, replace(SMALL, groups=1, steps=3), images=images)
    masks, size = [instances_of(scenes[0], CLASSES)], (float(SIDE), float(SIDE))
    bright = mask_of(scenes[0], "heart") + 0.1 * images[0]
    assert seeing.score(masks, size, images[0]) != pytest.approx(seeing.score(masks, size, bright), abs=1e-6)
    assert seeing.score(masks, size, images[0]) == pytest.approx(seeing.score(masks, size, 3 * images[0] + 7), abs=1e-6)


def test_the_scoring_loss_is_cross_entropy_and_order_within_groups() -> None:
    logits, groups = torch.tensor([1.0, -1.0, 0.5, 2.0]), [torch.tensor([0.9, 0.4]), torch.tensor([0.3, 0.305])]
    q = torch.cat(groups)
    p = torch.sigmoid(logits)
    entropy = -(q * p.log() + (1 - q) * (1 - p).log()).mean()
    order = torch.log1p(
        torch.exp(torch.tensor(-2.0))
    )  # of the first group; those of the second are as good as each other
    torch.testing.assert_close(scoring_loss(logits, groups), entropy + order)
