"""Films composed by the rules: what is pasted, where, and what the target says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from neurosym.constraints import compile_constraints
from neurosym.constraints.graph import ObjectScene, SamplerSettings, SceneSampler
from neurosym.data.masks import decode_mask
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.data.shard_films import coco_films
from neurosym.data.shard_pack import pack
from neurosym.data.shards import open_shards
from neurosym.knowledge import load_knowledge
from neurosym.learning.composed import Composer, containers, object_scene
from neurosym.learning.guidance import Guidance
from neurosym.learning.sampling import Moment
from neurosym.records import Annotation, Box, Sample
from tests.conftest import CLASSES
from tests.learning.test_train import config_of

ROOT = Path(__file__).parents[2]
KNOWLEDGE = load_knowledge([ROOT / "ontologies/thorax.ttl", ROOT / "rules/phantom.rules"])
SET = compile_constraints(KNOWLEDGE, CLASSES)
FILMS = list(Phantom(0, 12, PhantomConfig(size=128, seed=7)))
SCENES = [object_scene(f, CLASSES) for f in FILMS]


def composer(rules: bool = True) -> Composer:
    constraints = SET if rules else replace(SET, confidence=torch.zeros_like(SET.confidence))
    return Composer(FILMS, CLASSES, SceneSampler(SCENES, constraints, SamplerSettings(free=1.0)), rules)


def composed(maker: Composer, count: int = 24, rate: float = 2.0) -> list[tuple[Sample, Sample, list[Annotation]]]:
    found = []
    for k in range(count):
        before = FILMS[k % 12]
        after = maker.compose(before, SCENES[k % 12], rate, np.random.default_rng(k))
        found.append((before, after, list(after.annotations[len(before.annotations) :])))
    return found


def share_in_a_lung(rules: bool) -> float:
    inside = total = 0
    for before, _, added in composed(composer(rules)):
        lungs = [a.box for a in before.annotations if a.name.endswith("lung")]
        for a in added:
            total += 1
            x, y = (a.box.x1 + a.box.x2) / 2, (a.box.y1 + a.box.y2) / 2
            inside += any(b.x1 <= x <= b.x2 and b.y1 <= y <= b.y2 for b in lungs)
    assert total > 15
    return inside / total


def test_findings_go_where_the_rules_let_them_be_and_without_rules_anywhere() -> None:
    assert share_in_a_lung(rules=True) > 0.9
    assert share_in_a_lung(rules=False) < 0.85


def test_pixels_change_inside_the_new_boxes_and_nowhere_else() -> None:
    for before, after, added in composed(composer()):
        changed = np.abs(before.image.astype(int) - after.image.astype(int)) > 3
        allowed = np.zeros_like(changed)
        for a in added:
            rim = 0.2 * max(a.box.width, a.box.height) + 3
            y1, x1 = max(0, int(a.box.y1 - rim)), max(0, int(a.box.x1 - rim))
            allowed[y1 : int(a.box.y2 + rim) + 1, x1 : int(a.box.x2 + rim) + 1] = True
        assert not (changed & ~allowed).any()
        assert before.annotations == after.annotations[: len(before.annotations)]


def test_a_bright_square_that_is_pasted_lies_where_its_annotation_says() -> None:
    grey = np.full((100, 100), 60, dtype=np.uint8)
    grey[45:54, 25:34] = 220
    lungs = (Annotation("left_lung", Box(50, 5, 95, 95)), Annotation("right_lung", Box(5, 5, 48, 95)))
    shown = Sample("shown", grey, (*lungs, Annotation("nodule", Box(25, 45, 34, 54))))
    empty = Sample("empty", np.full((100, 100), 90, dtype=np.uint8), lungs)
    samples = [shown, empty]
    scenes = [object_scene(s, CLASSES) for s in samples]
    constraints = compile_constraints(KNOWLEDGE, CLASSES)
    maker = Composer(samples, CLASSES, SceneSampler(scenes, constraints, SamplerSettings(permanent=0.9)))
    seen = 0
    for seed in range(20):
        after = maker.compose(empty, scenes[1], 1.0, np.random.default_rng(seed))
        if len(after.annotations) != 3:
            continue
        seen += 1
        box = after.annotations[2].box
        middle = after.image[int((box.y1 + box.y2) / 2), int((box.x1 + box.x2) / 2)]
        assert middle > 180  # 220, lifted by the 30 that this film is brighter, at most
        outside = after.image.copy()
        outside[int(box.y1) - 8 : int(box.y2) + 8, int(box.x1) - 8 : int(box.x2) + 8] = 90
        assert (np.abs(outside.astype(int) - 90) <= 2).all()
    assert seen >= 5


def test_the_same_generator_state_composes_the_same_film() -> None:
    one, other = (composer().compose(FILMS[3], SCENES[3], 3.0, np.random.default_rng(8)) for _ in range(2))
    assert np.array_equal(one.image, other.image)
    assert one.annotations == other.annotations


def test_at_rate_zero_or_without_findings_a_film_stays_as_it_is() -> None:
    film = composer().compose(FILMS[0], SCENES[0], 0.0, np.random.default_rng(0))
    assert np.array_equal(film.image, FILMS[0].image)
    only = [replace(f, annotations=tuple(a for a in f.annotations if a.name in CLASSES[:3])) for f in FILMS]
    scenes = [object_scene(f, CLASSES) for f in only]
    bare = Composer(only, CLASSES, SceneSampler(scenes, SET))
    assert bare.compose(only[0], scenes[0], 5.0, np.random.default_rng(0)) is only[0]


@pytest.mark.parametrize("channels", [0, 3])
def test_grey_and_colour_films_both_take_findings(channels: int) -> None:
    film = FILMS[1] if channels == 0 else replace(FILMS[1], image=np.repeat(FILMS[1].image[..., None], 3, 2))
    after = composer().compose(film, SCENES[1], 4.0, np.random.default_rng(2))
    assert after.image.shape == film.image.shape
    assert after.image.dtype == np.uint8
    assert len(after.annotations) > len(film.annotations)


def test_an_empty_scene_has_the_image_as_its_frame() -> None:
    nothing = ObjectScene(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), (128.0, 128.0))
    assert composer().sampler.frame_of(nothing).tolist() == [0.0, 0.0, 128.0, 128.0]


def test_what_a_finding_lies_inside_is_read_off_the_rules_and_their_confidence() -> None:
    lungs = frozenset({CLASSES.index("left_lung") + 1, CLASSES.index("right_lung") + 1})
    findings = {CLASSES.index(n) + 1 for n in CLASSES if n not in ("left_lung", "right_lung", "heart")}
    assert containers(SET) == dict.fromkeys(findings, lungs)
    assert containers(replace(SET, confidence=torch.full_like(SET.confidence, 0.4))) == {}


def test_with_rules_nothing_is_painted_outside_the_lungs_and_the_mask_is_what_was_painted() -> None:
    for before, after, added in composed(composer(), rate=4.0):
        lungs = np.any([decode_mask(a.mask) for a in before.annotations if a.mask and a.name.endswith("lung")], axis=0)
        changed = np.abs(before.image.astype(int) - after.image.astype(int)) > 3
        reach = ndimage.binary_dilation(lungs, iterations=3)
        assert not (changed & ~reach).any()
        for a in added:
            assert a.mask is not None
            mask = decode_mask(a.mask) > 0
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert a.box.xyxy == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert not (mask & ~lungs).any()


def test_an_unlabelled_film_gets_findings_by_the_anatomy_that_is_seen_and_no_annotation_but_theirs() -> None:
    maker, organs = composer(), ("left_lung", "right_lung", "heart")
    added = inside = total = 0
    for k, film in enumerate(FILMS):
        scene = SCENES[k]
        anatomy = np.array([CLASSES[label - 1] in organs for label in scene.labels])
        seen = ObjectScene(scene.labels[anatomy], scene.boxes[anatomy], scene.size)
        after = maker.onto(replace(film, annotations=()), seen, 3.0, np.random.default_rng(k))
        lungs = np.any([decode_mask(a.mask) for a in film.annotations if a.mask and a.name.endswith("lung")], axis=0)
        for a in after.annotations:
            assert a.name not in organs
            assert a.mask is not None
            mask = decode_mask(a.mask) > 0
            added, inside, total = added + 1, inside + (mask & (lungs > 0)).sum(), total + mask.sum()
    assert added > 10
    assert inside / total > 0.85  # the atlas is the mean lung, stretched to the box of this one


def test_a_film_on_which_no_lung_is_seen_gets_no_finding_of_the_lungs() -> None:
    nothing = ObjectScene(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), (128.0, 128.0))
    film = replace(FILMS[0], annotations=())
    after = composer().onto(film, nothing, 5.0, np.random.default_rng(0))
    assert after.annotations == ()
    assert np.array_equal(after.image, film.image)


def test_a_film_in_the_place_of_a_damaged_one_is_composed_by_the_anatomy_it_shows(
    coco_folder: Callable[..., tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations, images = coco_folder(5)
    (images / "phantom-000002.png").write_bytes(b"no image")
    pack(coco_films(annotations, images), tmp_path / "shards")
    films = open_shards(tmp_path / "shards", KNOWLEDGE, on_unreadable="skip")
    guidance = Guidance(config_of(tmp_path, "compose.rate=2"), CLASSES, KNOWLEDGE, films, torch.device("cpu"))
    assert guidance.composer is not None
    used: list[ObjectScene] = []
    own = guidance.composer.compose

    def compose(sample: Sample, scene: ObjectScene, rate: float, rng: np.random.Generator) -> Sample:
        used.append(scene)
        return own(sample, scene, rate, rng)

    monkeypatch.setattr(guidance.composer, "compose", compose)
    samples = [films[2], films[1]]
    guidance.compose(samples, Moment(0))
    assert [s.boxes.tolist() for s in used] == [[list(a.box.xyxy) for a in s.annotations] for s in samples]
