from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import ConfigError, TrainingError
from neurosym.learning import guidance as guidance_module
from neurosym.learning import train as train_module
from neurosym.learning.batches import augment, batch_indices, to_target, to_tensor
from neurosym.learning.checkpoint import latest_checkpoint, load_checkpoint, load_weights
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import learning_rate, open_trainer, train

ROOT = Path(__file__).parents[2]
CONFIG = f"""
name: tiny
threads: 1
knowledge: [{ROOT}/ontologies/thorax.ttl, {ROOT}/rules/thorax.rules]
data:
  format: phantom
  size: 128
  categories: [left_lung, right_lung, heart, ground_glass_opacity]
  train: {{start: 0, count: 4}}
  unlabelled: {{start: 100, count: 4}}
  test: {{start: 200, count: 3}}
model: {{image_size: 96, max_size: 96, proposals: 40, sampled_boxes: 24, head_features: 32, fpn_channels: 32}}
train: {{steps: 4, batch_size: 2, warmup_steps: 1, checkpoint_every: 2}}
constraints: {{weight: 0.5, warmup_steps: 1, unlabelled_batch: 1}}
"""


def config_of(tmp_path: Path, *overrides: str) -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return load_config(path, overrides)


@pytest.fixture(scope="module")
def one_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a training of one step."""
    folder = tmp_path_factory.mktemp("one")
    train(config_of(folder, "train.steps=1"), folder / "run")
    return folder / "run/checkpoints/step-000001"


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "training.safetensors") | load_file(checkpoint / "model.safetensors")


class Killed(Exception):
    pass


def test_a_killed_run_resumes_to_bit_identical_weights(tmp_path: Path) -> None:
    config = config_of(tmp_path)

    def kill(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == 3:
            raise Killed

    train(config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, tmp_path / "parts", progress=kill)
    assert latest_checkpoint(tmp_path / "parts/checkpoints").name == "step-000002"  # type: ignore[union-attr]
    resumed = train(config, tmp_path / "parts", resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    assert resumed.step == 4
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_what_was_done_to_the_annotations_is_told_before_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "neurosym.learning.train")
    noise = "data.degrade={how: missing, r: 0.5}"
    whole = sum(len(film.annotations) for film in Phantom(0, 4, PhantomConfig(size=128)))
    trainer = open_trainer(config_of(tmp_path, noise), tmp_path / "run")
    left = sum(len(trainer.images[i].annotations) for i in range(4))
    assert f"annotations of the train split: 0 of {whole} changed (0 relabelled), {whole - left} dropped" in caplog.text
    caplog.clear()
    monkeypatch.setattr(train_module, "_COUNTED", 3)
    open_trainer(config_of(tmp_path, noise), tmp_path / "run")
    assert "changed on the first 3 of 4 images (0 relabelled)" in caplog.text
    caplog.clear()
    open_trainer(config_of(tmp_path, noise), tmp_path / "run", most=2)
    open_trainer(config_of(tmp_path), tmp_path / "run")
    assert "changed" not in caplog.text


def test_a_run_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    config = config_of(tmp_path, "train.steps=1")
    train(config, tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run already; pass --resume"):
        train(config, tmp_path / "run")


def test_a_run_with_other_settings_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    train(config_of(tmp_path, "train.steps=1"), tmp_path / "run")
    before = (tmp_path / "run/config.yaml").read_text(), (tmp_path / "run/constraints.json").read_text()
    for override, what in (
        ("model.head_features=16", "model"),
        ("data.categories=[heart, left_lung, right_lung, ground_glass_opacity]", "data, names"),
        ("train.lr=0.5", "train.lr"),
        ("seed=5", "seed"),
    ):
        other = config_of(tmp_path, "train.steps=2", override)
        with pytest.raises(ConfigError, match=f"was trained with other settings of {what}; restore them"):
            train(other, tmp_path / "run", resume=True)
        with pytest.raises(ConfigError, match="holds a run already"):
            train(other, tmp_path / "run")
    assert before == ((tmp_path / "run/config.yaml").read_text(), (tmp_path / "run/constraints.json").read_text())


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    config = config_of(tmp_path, "train.steps=1")
    train(config, tmp_path / "run")
    path = latest_checkpoint(tmp_path / "run/checkpoints")
    assert path is not None
    (path / "training.safetensors").write_bytes(b"torn")
    with pytest.raises(TrainingError, match="step-000001: checkpoint cannot be read"):
        train(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state, kept, weights: state.clear(), "'step' is missing"),
        (lambda state, kept, weights: state.update(step=7), "is of step 7"),
        (lambda state, kept, weights: state.update(step="1"), "is of step '1'"),
        (lambda state, kept, weights: state.update(param_groups=None), "no groups of parameters"),
        (lambda state, kept, weights: weights.popitem(), "are of different models"),
        (lambda state, kept, weights: kept.pop("optimizer.0.exp_avg"), "a part of the optimiser's state is missing"),
        (lambda state, kept, weights: kept.update({"optimizer.x.y": torch.ones(1)}), "'x'"),
        (lambda state, kept, weights: kept.pop("random.0"), "'random' is missing"),
        (lambda state, kept, weights: kept.update({"random.0": torch.ones(3)}), "random numbers is damaged"),
    ],
)
def test_a_checkpoint_whose_parts_do_not_belong_together_is_refused(
    change: Callable[..., object], message: str, one_step: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(one_step, tmp_path / one_step.name)
    state = json.loads((path / "state.json").read_text())
    kept, weights = load_file(path / "training.safetensors"), load_file(path / "model.safetensors")
    change(state, kept, weights)
    (path / "state.json").write_text(json.dumps(state))
    save_file(kept, path / "training.safetensors")
    save_file(weights, path / "model.safetensors")
    with pytest.raises(TrainingError, match=rf"step-000001: checkpoint cannot be read \(.*{message}.*restore it"):
        load_checkpoint(path)


def test_weights_that_are_not_finite_predict_nothing_and_are_refused(one_step: Path, tmp_path: Path) -> None:
    path = shutil.copytree(one_step, tmp_path / one_step.name)
    weights = load_file(path / "model.safetensors")
    name = next(k for k, v in weights.items() if v.is_floating_point())
    save_file(weights | {name: torch.full_like(weights[name], torch.nan)}, path / "model.safetensors")
    with pytest.raises(TrainingError, match=rf"weights are not finite \({name}\); train again with a lower"):
        load_weights(path, torch.nn.Identity())


def test_a_loss_that_is_not_finite_names_every_term_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = guidance_module.constraint_loss
    calls = []

    def poisoned(*args, **kwargs):  # type: ignore[no-untyped-def]
        calls.append(1)
        loss, found = real(*args, **kwargs)
        return (loss * float("nan") if len(calls) == 3 else loss), found

    monkeypatch.setattr(guidance_module, "constraint_loss", poisoned)
    with pytest.raises(
        TrainingError, match=r"step 4: the loss is not finite \(.*loss_classifier=.*loss_constraint=nan\)"
    ):
        train(config_of(tmp_path), tmp_path / "run")
    assert latest_checkpoint(tmp_path / "run/checkpoints").name == "step-000002"  # type: ignore[union-attr]


def test_a_gradient_that_is_not_finite_stops_training_before_it_reaches_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match="step 1: the gradient is not finite; lower train.lr"):
        train(config_of(tmp_path), tmp_path / "run")
    assert latest_checkpoint(tmp_path / "run/checkpoints") is None


def test_the_constraint_term_enters_the_loss_and_can_be_turned_off(tmp_path: Path) -> None:
    on = train(config_of(tmp_path), tmp_path / "on").metrics
    off = train(config_of(tmp_path, "constraints.weight=0"), tmp_path / "off").metrics
    assert on["loss_constraint"] > 0
    assert "loss_constraint" not in off
    used = json.loads((tmp_path / "on/constraints.json").read_text())
    assert "right_lung_left_of_heart" in used["used"]
    assert "one_cardiomediastinum" in used["unused"]


def test_predictions_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    run = open_run(train(config_of(tmp_path, "model.score_threshold=0"), tmp_path / "run"))
    images = run.images("test")
    one, three = predict(run, images, batch_size=1), predict(run, images, batch_size=3)
    for a, b in zip(one, three, strict=True):
        assert (a.image_id, len(a.detections)) == (b.image_id, len(b.detections))
        np.testing.assert_allclose([d.score for d in a.detections], [d.score for d in b.detections], atol=2e-4)
    assert [s.image_id for s in one] == [s.image_id for s in images]


def test_a_run_keeps_its_knowledge_and_says_when_a_file_has_changed_since(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = tmp_path / "my.rules"
    rules.write_text("left_of(R, H) :- right_lung(R), heart(H).")
    config = config_of(tmp_path, "train.steps=1", f"knowledge=[{ROOT}/ontologies/thorax.ttl, my.rules]")
    run = train(config, tmp_path / "run")
    kept = {p.name for p in (tmp_path / "run/knowledge").iterdir()}
    assert kept == {"ontologies-neurosym.ttl", "ontologies-thorax.ttl", f"{tmp_path.name}-my.rules"}
    open_run(run)
    assert "has changed" not in caplog.text
    rules.write_text("left_of(H, L) :- heart(H), left_lung(L).")
    open_run(run)
    assert "my.rules has changed since the run was trained" in caplog.text
    with pytest.raises(ConfigError, match=r"was trained with other settings of .*my\.rules; restore them"):
        train(config, tmp_path / "run", resume=True)


def test_a_run_whose_files_are_gone_cannot_be_resumed_and_says_which(tmp_path: Path) -> None:
    config = config_of(tmp_path, "train.steps=1")
    train(config, tmp_path / "run")
    (tmp_path / "run/log.jsonl").unlink()
    with pytest.raises(TrainingError, match=r"cannot be resumed, a file of it is missing or damaged: .*log\.jsonl"):
        train(config, tmp_path / "run", resume=True)


def test_a_log_whose_last_line_was_cut_by_the_kill_is_gone_on_with(tmp_path: Path) -> None:
    train(config_of(tmp_path, "train.steps=1"), tmp_path / "run")
    log = tmp_path / "run/log.jsonl"
    log.write_text(log.read_text() + '{"step": 2, "loss": 1.5}\n{"step": 3, "lo')  # a full buffer ends anywhere
    train(config_of(tmp_path, "train.steps=2"), tmp_path / "run", resume=True)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2]
    for damage in ("[]", "{", "null", '{"loss": 2}', "[" * 100_000):
        log.write_text(f'{{"step": 1}}\n{damage}\n')
        with pytest.raises(TrainingError, match=r"missing or damaged: log\.jsonl, line 2 is none of a training's log"):
            train(config_of(tmp_path, "train.steps=3"), tmp_path / "run", resume=True)


@pytest.mark.parametrize("names", ["abc", "null", "[1, 2]", "[heart, heart]"])
def test_a_config_whose_classes_are_damaged_is_no_run(names: str, tmp_path: Path) -> None:
    values = config_of(tmp_path).model_dump(mode="json") | {"names": []}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values).replace("names: []", f"names: {names}"))
    with pytest.raises(TrainingError, match=r"not a run folder.*; the config\.yaml there is damaged"):
        open_run(tmp_path)
    (tmp_path / "config.yaml").write_text("- a\n- list\n")
    with pytest.raises(TrainingError, match="not a run folder"):
        open_run(tmp_path)


def test_a_folder_without_a_run_or_an_unknown_split_is_explained(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not a run folder; name a folder that `neurosym train` has written"):
        open_run(tmp_path)
    run = open_run(train(config_of(tmp_path, "train.steps=1"), tmp_path / "run"))
    with pytest.raises(ConfigError, match="unknown split 'tets'; did you mean 'test'"):
        run.images("tets")
    with pytest.raises(ConfigError, match="data has no split 'val'"):
        run.images("val")


def test_a_gpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        train(config_of(tmp_path, "device=cuda"), tmp_path / "run")


def test_every_image_is_seen_once_an_epoch_in_an_order_that_any_step_can_recompute() -> None:
    order = [i for step in range(5) for i in batch_indices(10, 4, step, seed=3)]
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert batch_indices(10, 4, 2, seed=3) == order[8:12]
    assert batch_indices(10, 4, 2, seed=4) != order[8:12]


def test_the_learning_rate_warms_up_and_falls_to_one_percent(tmp_path: Path) -> None:
    config = config_of(tmp_path, "train.steps=100", "train.warmup_steps=10", "train.lr=1.0")
    rates = [learning_rate(config, s) for s in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.01)


def test_augmentation_moves_image_and_boxes_alike_and_never_mirrors() -> None:
    film = Phantom(0, 1, PhantomConfig(size=128))[0]
    names = ("right_lung", "left_lung", "heart")
    for seed in range(10):
        _, target = augment(torch.zeros(3, 128, 128), to_target(film, names), np.random.default_rng(seed))
        centre = {
            names[n - 1]: float(b[0] + b[2]) for b, n in zip(target["boxes"], target["labels"].tolist(), strict=True)
        }
        assert centre["right_lung"] < centre["heart"] < centre["left_lung"]
        # a white square where the heart is stays under the heart's box
        heart = next(a.box for a in film.annotations if a.name == "heart")
        square = torch.zeros(3, 128, 128)
        square[:, int(heart.y1) : int(heart.y2), int(heart.x1) : int(heart.x2)] = 1.0
        moved, target = augment(square, to_target(film, ("heart",)), np.random.default_rng(seed))
        bright = (moved[0] > (moved[0].max() + moved[0].min()) / 2).nonzero().float()
        y1, x1 = bright.min(0).values.tolist()
        y2, x2 = (bright.max(0).values + 1).tolist()
        assert target["boxes"][0].tolist() == pytest.approx([x1, y1, x2, y2], abs=2.5)


def test_a_colour_image_keeps_its_channels_and_a_grey_one_is_repeated() -> None:
    colour = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert torch.equal(to_tensor(colour)[2] * 255, torch.tensor([[2.0, 5.0], [8.0, 11.0]]))
    assert to_tensor(colour[..., 0]).shape == (3, 2, 2)


def test_a_full_disk_ends_the_run_with_a_message_and_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    config = config_of(tmp_path, "train.steps=2")
    train(config, tmp_path / "run")
    before = weights(tmp_path / "run")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    longer = config.model_copy(update={"train": config.train.model_copy(update={"steps": 4})})
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as a disk that has no more than this
        with pytest.raises(TrainingError, match=r"checkpoint of step 4 cannot be written .*step-000002 is whole"):
            train(longer, tmp_path / "run", resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in (tmp_path / "run/checkpoints").iterdir()] == ["step-000002"]
    after = weights(tmp_path / "run")
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert train(longer, tmp_path / "run", resume=True).step == 4


def test_checkpoints_beyond_a_million_steps_come_after_those_before(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        (tmp_path / f"step-{step:06d}").mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "step-1000000"
