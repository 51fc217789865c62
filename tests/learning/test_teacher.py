"""Learning from unlabelled images: the teacher's lessons, the refiner in a training run, and runs that start from others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from neurosym.constraints.graph import ObjectScene
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import ConfigError, TrainingError
from neurosym.learning.batches import to_tensor
from neurosym.learning.checkpoint import latest_checkpoint
from neurosym.learning.config import load_config
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import open_run
from neurosym.learning.teacher import Teacher, in_pixels, lessons, sure_objects
from neurosym.learning.train import open_trainer, train
from neurosym.models.build import build_model
from neurosym.models.scene import SceneProposals
from neurosym.records import Annotation, Box, Sample
from tests.learning.test_train import Killed, config_of, weights

TAUGHT = (
    "teacher.weight=1",
    "teacher.start=2",
    "teacher.batch=1",
    "teacher.threshold=0.05",
    "constraints.unlabelled_batch=0",
)
REFINED = (
    *TAUGHT,
    "refiner.enabled=true",
    "refiner.films=4",
    "refiner.scenes=6",
    "refiner.steps=2",
    "refiner.hidden=8",
    "refiner.rounds=1",
    "refiner.warmup_steps=1",
    "refiner.confidence=0.1",
    "compose.rate=1",
    "compose.unlabelled=true",
    "refiner.threshold=0.05",
    "constraints.learn_confidence=true",
)


def test_a_killed_run_with_teacher_refiner_and_learned_confidences_resumes_to_the_same_weights(tmp_path: Path) -> None:
    config = config_of(tmp_path, *REFINED, "train.steps=5", "train.checkpoint_every=3")

    def kill(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == 4:
            raise Killed

    whole = train(config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, tmp_path / "parts", progress=kill)
    train(config, tmp_path / "parts", resume=True)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert {"loss_constraint", "loss_consistency", "pseudo_loss_classifier"} <= set(whole.metrics)
    learned = [
        load_file(latest_checkpoint(tmp_path / n / "checkpoints") / "guidance.safetensors") for n in ("whole", "parts")
    ]  # type: ignore[operator]
    assert learned[0].keys() == learned[1].keys()
    assert all(torch.equal(learned[0][k], learned[1][k]) for k in learned[0])
    assert {k.split(".")[0] for k in learned[0]} == {"refiner", "confidences"}
    assert (tmp_path / "whole/confidences.json").is_file()


def test_predictions_of_a_refined_run_are_refined_unless_the_config_says_not(tmp_path: Path) -> None:
    run = train(config_of(tmp_path, *REFINED, "train.steps=3", "model.score_threshold=0"), tmp_path / "run")
    opened = open_run(run)
    assert opened.config.refiner.at_test
    images = opened.images("test")
    refined = predict(opened, images)
    off = opened.config.model_copy(update={"refiner": opened.config.refiner.model_copy(update={"at_test": False})})
    plain = predict(type(opened)(opened.path, off, opened.names, opened.knowledge), images)
    assert [s.image_id for s in refined] == [s.image_id for s in plain]
    assert any(a.detections != b.detections for a, b in zip(refined, plain, strict=True))
    assert all(0 <= d.score <= 1 for s in refined for d in s.detections)


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    first = train(config_of(tmp_path, "constraints.weight=0"), tmp_path / "first")
    overrides = (*REFINED, "teacher.start=0", f"initial={tmp_path / 'first'}", "train.steps=1", "train.lr=1e-9")
    second = train(config_of(tmp_path, *overrides), tmp_path / "second")
    begun = load_file(latest_checkpoint(first.path / "checkpoints") / "model.safetensors")  # type: ignore[operator]
    key = "net.roi_heads.box_predictor.cls_score.weight"
    torch.testing.assert_close(weights(second.path)[f"model.{key}"], begun[key], atol=1e-6, rtol=0)


def test_a_run_with_inexact_boxes_starts_from_a_plain_one_with_the_sizes_of_its_own_data(tmp_path: Path) -> None:
    plain = ("constraints.weight=0", "constraints.unlabelled_batch=0", "train.steps=1")
    inexact = (*plain, "model.inexact={posterior: true, filter: true, start: 1}")
    train(config_of(tmp_path, *plain), tmp_path / "plain")
    train(config_of(tmp_path, *inexact, f"initial={tmp_path / 'plain'}", "train.steps=2"), tmp_path / "first")
    later = config_of(tmp_path, *inexact, f"initial={tmp_path / 'first'}", "data.train.start=50")
    begun = load_file(latest_checkpoint(tmp_path / "first/checkpoints") / "model.safetensors")  # type: ignore[operator]
    anew = open_trainer(later.model_copy(update={"initial": ""}), tmp_path / "anew").model
    own = open_trainer(later, tmp_path / "second").model
    assert own.inexact is not None
    assert anew.inexact is not None
    assert int(begun["inexact.steps"]) > 0
    assert int(own.inexact.steps) == 0
    assert torch.equal(own.inexact.sizes.mean, anew.inexact.sizes.mean)
    assert not torch.equal(own.inexact.sizes.mean, begun["inexact.sizes.mean"])
    assert torch.equal(own.inexact.noise.residual, anew.inexact.noise.residual)
    key = "net.roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(own.state_dict()[key], begun[key])
    train(config_of(tmp_path, *plain, f"initial={tmp_path / 'first'}"), tmp_path / "back")


def test_a_run_cannot_start_from_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="initial: .*nothing holds no checkpoint"):
        train(config_of(tmp_path, f"initial={tmp_path / 'nothing'}"), tmp_path / "run")


def test_a_teacher_without_an_average_or_a_refiner_without_a_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.ema: the teacher is the weight average"):
        train(config_of(tmp_path, *TAUGHT, "train.ema=0"), tmp_path / "run")
    with pytest.raises(ConfigError, match="the refiner refines a teacher's scenes; set teacher.weight above 0"):
        config_of(tmp_path, "refiner.enabled=true")


def test_a_teacher_without_unlabelled_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data has no split 'unlabelled'"):
        train(config_of(tmp_path, *TAUGHT, "data.unlabelled=null"), tmp_path / "run")


def test_the_student_is_shown_the_boxes_where_the_augmentation_has_moved_them(tmp_path: Path) -> None:
    """A model that finds the bright square; augmented with its boxes, the square stays under its box."""
    config = config_of(tmp_path)
    film = Phantom(0, 1, PhantomConfig(size=128))[0]
    dark = np.zeros((128, 128), dtype=np.uint8)
    dark[40:80, 30:60] = 255

    class Sees:
        device = torch.device("cpu")

        def look(self, images: list[torch.Tensor]) -> list[SceneProposals]:
            p = torch.tensor([[0.1, 0.9, 0.0, 0.0, 0.0]])
            return [SceneProposals(p, torch.tensor([[30.0, 40.0, 60.0, 80.0]]), None, (128.0, 128.0)) for _ in images]

    del config
    sample = type(film)("square", dark)
    for seed in range(6):
        (lesson,) = lessons([sample], Sees(), None, 0.5, np.random.default_rng(seed))  # type: ignore[arg-type]
        bright = (lesson.image[0] > (lesson.image[0].max() + lesson.image[0].min()) / 2).nonzero().float()
        y1, x1 = bright.min(0).values.tolist()
        y2, x2 = (bright.max(0).values + 1).tolist()
        assert lesson.target["boxes"][0].tolist() == pytest.approx([x1, y1, x2, y2], abs=2.5)
        assert lesson.target["labels"].tolist() == [1]
        assert len(lesson.probabilities) == 0  # nothing was refined


def test_objects_that_are_laid_onto_a_film_join_what_the_teacher_is_sure_of(tmp_path: Path) -> None:
    """The teacher looks at the plain film; the student is shown the composed one, with what was laid as exact targets."""
    film = Phantom(0, 1, PhantomConfig(size=128))[0]
    looked: list[torch.Tensor] = []

    class Sees:
        device = torch.device("cpu")
        model = SimpleNamespace(names=("heart", "nodule"))

        def look(self, images: list[torch.Tensor]) -> list[SceneProposals]:
            looked.extend(images)
            p = torch.tensor([[0.1, 0.9, 0.0]])
            return [SceneProposals(p, torch.tensor([[30.0, 40.0, 60.0, 80.0]]), None, (128.0, 128.0)) for _ in images]

    def compose(samples: Sequence[Sample], seen: Sequence[ObjectScene]) -> list[Sample]:
        assert [s.labels.tolist() for s in seen] == [[1]]
        assert seen[0].boxes.tolist() == [[30.0, 40.0, 60.0, 80.0]]
        white = np.full_like(samples[0].image, 255)
        return [replace(samples[0], image=white, annotations=(Annotation("nodule", Box(5, 6, 15, 16)),))]

    (lesson,) = lessons([film], Sees(), None, 0.5, None, compose)  # type: ignore[arg-type]
    assert float(lesson.image.min()) == 1.0
    assert float(looked[0].min()) < 1.0
    assert lesson.target["labels"].tolist() == [1, 2]
    assert lesson.target["boxes"].tolist() == [[30.0, 40.0, 60.0, 80.0], [5.0, 6.0, 15.0, 16.0]]


def test_composing_onto_unlabelled_films_needs_a_teacher(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"compose\.unlabelled: a teacher sees where things are there"):
        config_of(tmp_path, "compose.unlabelled=true", "compose.rate=1", "teacher.weight=0", "refiner.enabled=false")


def test_inexact_boxes_and_a_teacher_go_together(tmp_path: Path) -> None:
    assert config_of(tmp_path, *TAUGHT, "model.inexact.posterior=true").teacher.weight == 1


def test_the_teacher_sees_boxes_in_pixels_of_the_image_it_was_given(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    names = ("left_lung", "right_lung", "heart", "ground_glass_opacity")
    torch.manual_seed(0)
    model = build_model(config.model, names, load=False)
    teacher = Teacher(config.model, names, torch.device("cpu"))
    teacher.follow(model.state_dict())
    image = to_tensor(Phantom(0, 1, PhantomConfig(size=192))[0].image)
    (seen,) = teacher.look([image])
    assert seen.size == (192.0, 192.0)
    with torch.no_grad():
        (raw,) = model.eval().propose([image])
    assert raw.size == (96.0, 96.0)
    torch.testing.assert_close(seen.boxes, raw.boxes * 2, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(in_pixels(raw, image).boxes, seen.boxes, atol=1e-3, rtol=1e-4)


def test_of_duplicates_the_surest_is_a_pseudo_label_and_the_unsure_are_none() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 0.0, 60.0, 10.0]])
    p = torch.tensor([[0.2, 0.8, 0.0], [0.1, 0.9, 0.0], [0.6, 0.1, 0.3]])
    found = sure_objects(p, boxes, 0.5)
    assert found.target["boxes"].tolist() == [[1.0, 0.0, 11.0, 10.0]]
    assert found.target["labels"].tolist() == [1]
    assert found.scores.tolist() == pytest.approx([0.9])
    assert found.proposal.tolist() == [1]


def test_a_damaged_file_of_what_knowledge_learned_is_named(tmp_path: Path) -> None:
    run = train(config_of(tmp_path, *REFINED, "train.steps=3"), tmp_path / "run")
    path = latest_checkpoint(run.path / "checkpoints")
    assert path is not None
    (path / "guidance.safetensors").write_bytes(b"torn")
    with pytest.raises(TrainingError, match="what knowledge has learned cannot be read"):
        predict(open_run(run), open_run(run).images("test"))


def test_an_unknown_setting_of_the_refiner_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    config_of(tmp_path)
    path.write_text(path.read_text() + "refiner: {enabledd: true}\n")
    with pytest.raises(ConfigError, match=r"refiner\.enabledd: unknown setting; did you mean 'enabled'"):
        load_config(path)


def test_exact_counting_trains_a_detector_and_an_unknown_semantics_lists_the_known_ones(tmp_path: Path) -> None:
    terms = train(config_of(tmp_path, "constraints.semantics=exact", "train.steps=3"), tmp_path / "run").metrics
    assert terms["loss_constraint"] > 0
    with pytest.raises(
        ConfigError, match=r"constraints\.semantics: .*'product-log', 'product', 'lukasiewicz'.*'exact'"
    ):
        config_of(tmp_path, "constraints.semantics=prodct")


def test_learned_confidences_are_told_in_the_run_folder_and_a_wrong_rule_loses_weight(tmp_path: Path) -> None:
    rules = tmp_path / "wrong.rules"
    rules.write_text(
        "left_of(R, H) :- right_lung(R), heart(H).  %! id=right\n"
        "0.95 :: left_of(L, H) :- left_lung(L), heart(H).  %! id=wrong\n"
    )
    root = Path(__file__).parents[2]
    overrides = (
        f"knowledge=[{root}/ontologies/thorax.ttl, {rules}]",
        "constraints.learn_confidence=true",
        "data.train.count=16",
        "train.steps=1",
    )
    run = train(config_of(tmp_path, *overrides), tmp_path / "run")
    told = {e["rule"]: e for e in json.loads((run.path / "confidences.json").read_text())}
    assert told["right"]["learned"] > 0.95
    assert told["wrong"]["learned"] < 0.2
    assert "down-weighted: broken in 16 of 16" in told["wrong"]["verdict"]
    assert told["wrong"]["file"].endswith("wrong.rules")
    assert told["wrong"]["line"] == 2
