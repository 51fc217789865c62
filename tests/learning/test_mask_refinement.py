"""Refining instance masks in a run: what is refused at the start, what is kept for later, and what happens to predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurosym.constraints import compile_constraints
from neurosym.constraints.graph import InstanceScorer, ScorerSettings, mask_quality, ontology_graph
from neurosym.constraints.graph.instance_moves import Instance
from neurosym.constraints.graph.instances import refine_instances
from neurosym.data.masks import decode_mask, encode_mask
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import ConfigError
from neurosym.knowledge import Knowledge
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.mask_refinement import is_whole, refined_masks, require_masks_to_refine
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import OpenRun, open_run
from neurosym.learning.train import train
from neurosym.records import Box, Detection, Scene
from tests.learning.test_energy_term import learned
from tests.learning.test_train import Killed, config_of, weights

NAMES = ("left_lung", "right_lung", "heart", "ground_glass_opacity")
MASKED = (
    "model.kind=mask_rcnn",
    "constraints.weight=0",
    "model.image_size=64",
    "model.max_size=64",
    "model.fpn_channels=16",
    "model.score_threshold=0",
    "model.max_detections=12",
    "train.steps=3",
)
REFINED = (
    *MASKED,
    "instances.enabled=true",
    "instances.groups=1",
    "instances.steps=3",
    "instances.hidden=8",
    "instances.rounds=1",
    "instances.iterations=1",
    "instances.threshold=0.3",
    "instances.gain=0.0",
)


def without_refinement(run: OpenRun) -> OpenRun:
    off = run.config.model_copy(update={"instances": run.config.instances.model_copy(update={"enabled": False})})
    return OpenRun(run.path, off, run.names, run.knowledge)


def test_a_run_keeps_its_scorer_is_otherwise_as_without_it_and_predicts_refined(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def kill(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == 2:
            raise Killed

    train(config_of(tmp_path, *MASKED), tmp_path / "plain")
    config = config_of(tmp_path, *REFINED)
    with caplog.at_level("INFO", "neurosym"):
        train(config, tmp_path / "whole")
    assert "training the scorer of instance masks on 4 labelled films" in caplog.text
    assert "scorer of instance masks: step 3 of 3, loss" in caplog.text
    with pytest.raises(Killed):
        train(config, tmp_path / "parts", progress=kill)
    unfinished = open_run(tmp_path / "parts")
    images = unfinished.images("test")
    assert predict(unfinished, images) == predict(without_refinement(unfinished), images)
    assert "masks are not refined, their scorer is trained when training ends" in caplog.text
    train(config, tmp_path / "parts", resume=True)
    plain, whole, parts = (weights(tmp_path / n) for n in ("plain", "whole", "parts"))
    assert all(torch.equal(plain[k], whole[k]) and torch.equal(whole[k], parts[k]) for k in plain)
    one, other = learned(tmp_path / "whole"), learned(tmp_path / "parts")
    assert one.keys() == other.keys()
    assert all(k.startswith("scorer.") and torch.equal(one[k], other[k]) for k in one)
    run = open_run(tmp_path / "whole")
    refined, before = predict(run, images), predict(without_refinement(run), images)
    assert before == predict(open_run(tmp_path / "plain"), images)
    assert refined != before
    assert all(decode_mask(d.mask).shape == (128, 128) for s in refined for d in s.detections)  # type: ignore[arg-type]


def test_what_could_not_be_refined_at_the_end_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"instances.enabled: .* faster_rcnn finds boxes only; use .*fpn_segmenter, mask_rcnn"
    ):
        train(config_of(tmp_path, "instances.enabled=true"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"instances.classes: unknown class 'hart'; did you mean 'heart'\?"):
        train(config_of(tmp_path, *REFINED, "instances.classes=[hart, left_lung]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    film = Phantom(0, 1, PhantomConfig(size=64))[0]
    assert is_whole(film, NAMES)
    half = replace(film, annotations=(replace(film.annotations[0], mask=None), *film.annotations[1:]))
    bare = replace(film, annotations=())
    assert not is_whole(half, NAMES)
    assert not is_whole(bare, NAMES)
    require_masks_to_refine(config_of(tmp_path, *REFINED), NAMES, [half, film])
    with pytest.raises(ConfigError, match="films on which every object has a mask, and there is none; give the annot"):
        require_masks_to_refine(config_of(tmp_path, *REFINED), NAMES, [half, bare])


# --- predictions under a scorer that knows the truth ---------------------------------------------------------------------

SIDE = 48


class Oracle(InstanceScorer):
    """Scores by the true quality, or by anything else that is given."""

    def __init__(self, knowledge: Knowledge, quality) -> None:  # type: ignore[no-untyped-def]
        rules = compile_constraints(knowledge, NAMES)
        super().__init__(rules, ontology_graph(rules, knowledge.ontology), ScorerSettings(hidden=8, rounds=1))
        self.quality, self.seen = quality, []

    def score(self, hypotheses, size, image=None):  # type: ignore[no-untyped-def]
        self.seen.append(image)
        return np.array([self.quality(h) for h in hypotheses])


def block(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def detection(name: str, mask: np.ndarray, score: float) -> Detection:
    return Detection(name, Box(0, 0, SIDE, SIDE), score, encode_mask(mask))


def config(tmp_path: Path, **settings: object) -> TrainConfig:
    return config_of(tmp_path, *MASKED, *(f"instances.{k}={v}" for k, v in settings.items()))


LEFT, RIGHT, HEART = block((8, 40), (28, 44)), block((8, 40), (4, 20)), block((24, 40), (20, 28))
TRUTH = (Instance(1, LEFT), Instance(2, RIGHT), Instance(3, HEART))
FILM = np.full((SIDE, SIDE, 3), 7, dtype=np.uint8)


def test_objects_are_mended_candidates_added_and_the_others_stay_with_their_scores(
    thorax: Knowledge, tmp_path: Path
) -> None:
    heart, blob = detection("heart", HEART, 0.2), detection("heart", block((2, 6), (2, 6)), 0.3)
    both, empty = detection("left_lung", LEFT | RIGHT, 0.9), detection("heart", block((0, 0), (0, 0)), 0.8)
    scene = Scene("film", SIDE, SIDE, (both, empty, blob, heart))
    oracle = Oracle(thorax, lambda found: mask_quality(found, TRUTH))
    refined = refined_masks(scene, oracle, config(tmp_path, iterations=3, gain=0.01), FILM)
    names = [(d.name, d.score) for d in refined.detections]
    assert sorted(names[:3]) == [("heart", 0.2), ("left_lung", 0.9), ("right_lung", 0.9)]
    assert refined.detections[3:] == (empty, blob)
    found = {d.name: decode_mask(d.mask) > 0 for d in refined.detections[:3] if d.mask is not None}
    assert all(np.array_equal(found[NAMES[t.label - 1]], t.mask) for t in TRUTH)
    assert oracle.seen[0].shape == (SIDE, SIDE)
    kept = refined_masks(scene, oracle, config(tmp_path, classes="[heart]", images="false"), FILM)
    assert kept.detections == (both, heart, empty, blob)
    assert oracle.seen[-1] is None


def test_a_candidate_that_became_part_of_an_object_is_not_told_twice(thorax: Knowledge, tmp_path: Path) -> None:
    upper, lower = block((24, 32), (20, 28)), block((32, 40), (20, 28))
    sure, part = detection("heart", upper, 0.9), detection("heart", lower, 0.4)
    other = detection("heart", block((2, 6), (2, 6)), 0.45)
    scene = Scene("film", SIDE, SIDE, (sure, other, part))

    def covered(found) -> float:  # type: ignore[no-untyped-def]
        """How much of the heart is covered by hearts that lie in it, a little better by one."""
        return float(sum((i.mask & HEART).sum() - 2 * (i.mask & ~HEART).sum() for i in found) - 4 * len(found)) / 100

    refined = refined_masks(scene, Oracle(thorax, covered), config(tmp_path, gain=0.01), FILM)
    assert [d.score for d in refined.detections] == [0.9, 0.45]
    assert np.array_equal(decode_mask(refined.detections[0].mask) > 0, HEART)  # type: ignore[arg-type]
    assert refined.detections[1] is other


def test_a_scene_that_nothing_mends_comes_back_as_it_was_and_at_most_twenty_candidates_are_tried(
    thorax: Knowledge, tmp_path: Path
) -> None:
    many = tuple(detection("heart", block((k, k + 8), (k, k + 8)), 0.4 - 0.01 * k) for k in range(30))
    scene = Scene("film", SIDE, SIDE, many)
    assert refined_masks(scene, Oracle(thorax, lambda found: 0.5), config(tmp_path), FILM) is scene
    wanted = Instance(3, block((25, 33), (25, 33)))  # the 26th best

    def quality(found) -> float:  # type: ignore[no-untyped-def]
        return mask_quality([i for i in found if np.array_equal(i.mask, wanted.mask)], [wanted])

    assert refined_masks(scene, Oracle(thorax, quality), config(tmp_path), FILM) is scene
    asked = refine_instances(replace(scene, detections=()), Oracle(thorax, quality), candidates=many)
    assert asked.scene.detections == (many[25],)


def test_an_unknown_setting_of_the_new_sections_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    config_of(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text() + "instances: {treshold: 0.4}\nenergy: {wieght: 1}\n")
    with pytest.raises(ConfigError) as told:
        load_config(path)
    assert "instances.treshold: unknown setting; did you mean 'threshold'" in str(told.value)
    assert "energy.wieght: unknown setting; did you mean 'weight'" in str(told.value)
