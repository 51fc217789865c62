"""The film classifier: views, labels, a run of each method, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.errors import ConfigError, NeurosymError, TrainingError
from neurosym.knowledge import Knowledge
from neurosym.learning.checkpoint import latest_checkpoint
from neurosym.learning.evaluate_films import area_under_curve, evaluate_classifier, score_films
from neurosym.learning.film_labels import as_probabilities, held_out_films, label_loss, possible_classes, training_films
from neurosym.learning.image_classifier import load_classifier, open_classifier_config, predict_films, train_classifier
from neurosym.learning.image_config import ImageTrainConfig, load_image_config
from neurosym.learning.views import OPERATIONS, moved, plain_view, strong_view, weak_view

ROOT = Path(__file__).parents[2]
FINDINGS = {"normal": 60, "bacterial_pneumonia": 130, "viral_pneumonia": 200}
NAMES = ("no_finding_study", "bacterial_pneumonia_study", "viral_pneumonia_study")


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 films of 20 patients; a film is as bright as its finding says."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    rows = ["file_name,finding,who"]
    for n in range(30):
        finding = list(FINDINGS)[n % 3]
        pixels = rng.normal(FINDINGS[finding], 20, (40, 40)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"f{n}.png")
        rows.append(f"f{n}.png,{finding},person{n % 20}_{n}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "config.yaml").write_text(
        "name: tiny\n"
        "threads: 1\n"
        f"knowledge: [{ROOT}/ontologies/thorax.ttl]\n"
        "data:\n"
        "  table: labels.csv\n"
        "  images: .\n"
        "  patient_column: who\n"
        "  patient_pattern: 'person\\d+'\n"
        f"  classes: [{', '.join(NAMES)}]\n"
        "  per_class: 1\n"
        "model: {image_size: 32, pretrained: false, embedding: 8}\n"
        "train: {passes: 120, batch_size: 3, unlabelled_ratio: 1, checkpoint_every: 2}\n"
        "comatch: {bank: 8, kernel: lin, edge: 0.2, confidence: 0.2}\n"
    )
    return folder


def config_of(films: Path, *overrides: str) -> ImageTrainConfig:
    return load_image_config(films / "config.yaml", overrides)


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "training.safetensors") | load_file(checkpoint / "guidance.safetensors")


def test_a_killed_run_resumes_to_the_same_weights_bank_and_alignment(films: Path, tmp_path: Path) -> None:
    config = config_of(films, "train.passes=150")

    def kill(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == 3:
            raise Killed

    whole = train_classifier(config, tmp_path / "whole")
    assert whole.step == config.steps == 5
    assert set(whole.metrics) == {"loss_labelled", "loss_class", "loss_graph"}
    with pytest.raises(Killed):
        train_classifier(config, tmp_path / "parts", progress=kill)
    train_classifier(config, tmp_path / "parts", resume=True)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert one["bank.written"] == 5 * 6
    lines = (tmp_path / "parts/log.jsonl").read_text().splitlines()
    assert lines == (tmp_path / "whole/log.jsonl").read_text().splitlines()


@pytest.mark.parametrize(
    ("method", "kernel", "terms"),
    [("supervised", "lin", 1), ("fixmatch", "lin", 2), ("comatch", "lin", 3), ("comatch", "identity", 3)],
)
def test_each_method_trains_within_its_passes_and_is_evaluated(
    method: str, kernel: str, terms: int, films: Path, tmp_path: Path
) -> None:
    common = (f"method={method}", f"comatch.kernel={kernel}", "train.passes=60")
    config = config_of(films, *common)
    run = train_classifier(config, tmp_path / "run")
    assert len(run.metrics) == terms
    assert 60 - config.passes_a_step < run.step * config.passes_a_step <= 60
    told = evaluate_classifier(run.path, "test")
    assert 0 <= told["accuracy"] <= 1
    assert set(told["above"]) == {"pneumonia_study"}
    with pytest.raises(ConfigError, match="holds a run already"):
        train_classifier(config, tmp_path / "run")
    with pytest.raises(ConfigError, match="was trained with other settings of comatch, seed; restore them"):
        train_classifier(config_of(films, *common, "seed=1", "comatch.edge=0.5"), run.path, resume=True)


def test_supervised_training_learns_to_tell_films_of_different_brightness(films: Path, tmp_path: Path) -> None:
    overrides = ("method=supervised", "data.per_class=3", "train.passes=900", "train.batch_size=9", "train.ema=0.5")
    config = config_of(films, *overrides, "model.pretrained=true")
    run = train_classifier(config, tmp_path / "run")
    assert evaluate_classifier(run.path, "val")["balanced_accuracy"] > 0.6


def test_the_films_of_a_run_are_split_by_patient_and_few_keep_their_labels(films: Path, thorax: Knowledge) -> None:
    config = config_of(films)
    labelled, unlabelled = training_films(config, thorax)
    val, test = (held_out_films(config, thorax, split) for split in ("val", "test"))  # type: ignore[arg-type]
    everyone = [labelled, unlabelled, val, test]
    patients = [{int(i.removeprefix("f")) % 20 for i in part.ids} for part in everyone]
    assert sum(len(part) for part in everyone) == 30
    assert not (patients[0] | patients[1]) & (patients[2] | patients[3])
    assert not patients[2] & patients[3]
    assert labelled.possible.sum(0).tolist() == [1, 1, 1]
    other, _ = training_films(config_of(films, "seed=3"), thorax)
    assert other.ids != labelled.ids
    assert len(training_films(config_of(films, "data.unlabelled=2"), thorax)[1]) == 2
    with pytest.raises(
        ConfigError, match=r"data\.per_class: only \d+ training films of 'no_finding_study', 20 are asked"
    ):
        training_films(config_of(films, "data.per_class=20"), thorax)


def test_a_label_leaves_what_lies_in_it_or_what_it_lies_in_possible(thorax: Knowledge) -> None:
    told = {
        "viral_pneumonia_study": (False, False, True),
        "pneumonia_study": (False, True, True),
        "covid_19_study": (False, False, True),
        "typical_appearance": (True, True, True),
    }
    for label, classes in told.items():
        assert possible_classes(thorax.ontology, NAMES, frozenset({label})) == classes
    both = frozenset({"viral_pneumonia_study", "pneumonia_study", "typical_appearance"})
    assert possible_classes(thorax.ontology, NAMES, both) == (False, False, True)


def test_the_loss_of_a_label_is_the_cross_entropy_or_that_of_the_sum_of_what_it_holds() -> None:
    logits = torch.tensor([[1.0, 0.2, -0.5], [0.3, 0.1, 2.0]])
    sure = torch.tensor([[True, False, False], [False, False, True]])
    torch.testing.assert_close(label_loss(logits, sure), F.cross_entropy(logits, torch.tensor([0, 2])))
    either = torch.tensor([[False, True, True], [True, True, True]])
    p = logits.softmax(1)
    torch.testing.assert_close(label_loss(logits, either), -(p[0, 1] + p[0, 2]).log() / 2)
    assert as_probabilities(either)[0].tolist() == [0, 0.5, 0.5]


def test_classes_of_which_one_lies_in_another_are_refused(films: Path, thorax: Knowledge) -> None:
    with pytest.raises(
        ConfigError, match="'viral_pneumonia_study' lies in 'pneumonia_study'; name classes that exclude"
    ):
        training_films(config_of(films, "data.classes=[pneumonia_study, viral_pneumonia_study]"), thorax)
    with pytest.raises(ConfigError, match=r"data\.classes: 'viral_study' is no class of the ontology"):
        training_films(config_of(films, "data.classes=[viral_study, pneumonia_study]"), thorax)
    with pytest.raises(ConfigError, match="test and val take 1.1 of the patients"):
        config_of(films, "data.test=0.5", "data.val=0.6")
    with pytest.raises(ConfigError, match=r"train\.passs: unknown setting; did you mean 'passes'"):
        config_of(films, "train.passs=3")


def test_views_are_films_in_0_to_1_that_depend_on_the_generator_alone() -> None:
    pixels = torch.randint(0, 256, (12, 40, 40), dtype=torch.uint8)
    for view in (weak_view, strong_view):
        one, other = (view(pixels, np.random.default_rng(5)) for _ in range(2))
        assert torch.equal(one, other)
        assert one.shape == (12, 3, 40, 40)
        assert 0 <= float(one.min()) <= float(one.max()) <= 1
        assert not torch.equal(one, view(pixels, np.random.default_rng(6)))
    assert torch.equal(plain_view(pixels)[:, 0], pixels.float() / 255)


def test_no_view_mirrors_or_inverts_a_film_and_the_strong_one_changes_more() -> None:
    """A film with a bright left upper quarter keeps it brightest there."""
    pixels = torch.full((200, 32, 32), 60, dtype=torch.uint8)
    pixels[:, :16, :16] = 200
    changed = []
    for view in (weak_view, strong_view):
        seen = view(pixels, np.random.default_rng(0))[:, 0]
        quarters = torch.stack([seen[:, y : y + 16, x : x + 16].mean((1, 2)) for y in (0, 16) for x in (0, 16)], 1)
        assert (quarters.argmax(1) == 0).all()
        changed.append(float((seen - pixels / 255).abs().mean()))
    assert changed[1] > 2 * changed[0]
    assert not {"mirror", "flip", "invert", "solarize"} & set(OPERATIONS)


def test_a_film_that_is_turned_by_a_quarter_or_shifted_by_pixels_is_the_array_that_is() -> None:
    film = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    still = {"scale": np.zeros(1), "shift": np.zeros((1, 2))}
    turned = moved(film, still | {"turn": np.array([np.pi / 2])})[0, 0]
    torch.testing.assert_close(turned, torch.rot90(film[0, 0], 1), atol=1e-4, rtol=0)
    shifted = moved(film, still | {"shift": np.array([[0.1, -0.2]])})[0, 0]  # two pixels to the right, four up
    torch.testing.assert_close(shifted[:16, 2:], film[0, 0, 4:, :18], atol=1e-4, rtol=0)


def test_a_weak_view_changes_the_area_of_a_disc_by_its_scale_alone() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    disc = torch.from_numpy(np.where(x**2 + y**2 < 14**2, 255, 0).astype(np.uint8))[None].expand(100, -1, -1)
    seen = weak_view(disc, np.random.default_rng(0))[:, 0] > 0.5
    areas = seen.sum((1, 2)) / (disc[0] > 0).sum()
    assert float(areas.min()) > 0.95**2 - 0.03
    assert float(areas.max()) < 1.05**2 + 0.03


def test_scores_are_those_counted_by_hand(thorax: Knowledge) -> None:
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.35, 0.25], [0.45, 0.05, 0.5]])
    told = score_films(p, [0, 1, 1, 2], NAMES, thorax.ontology)
    assert told["accuracy"] == 0.75
    assert told["recall"] == {NAMES[0]: 1.0, NAMES[1]: 0.5, NAMES[2]: 1.0}
    assert told["balanced_accuracy"] == pytest.approx(2.5 / 3)
    assert told["auc"] == pytest.approx((1.0 + 1.0 + 1.0) / 3)
    assert told["above"] == {"pneumonia_study": {"auc": 1.0, "accuracy": 1.0}}
    with pytest.raises(TrainingError, match="no films to evaluate"):
        score_films(p[:0], [], NAMES, thorax.ontology)


def test_the_area_under_the_curve_is_the_loop_over_pairs() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 5, 40) / 5, rng.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert area_under_curve(scores, positive) == pytest.approx(np.mean(pairs))
    assert np.isnan(area_under_curve(scores, np.ones(40, dtype=bool)))


def test_a_folder_without_a_run_is_explained_and_predictions_are_probabilities(
    films: Path, tmp_path: Path, thorax: Knowledge
) -> None:
    with pytest.raises(TrainingError, match="not the run folder of a classifier"):
        open_classifier_config(tmp_path)
    with pytest.raises(TrainingError, match="the run has no checkpoint"):
        load_classifier(tmp_path)
    run = train_classifier(config_of(films, "train.passes=1"), tmp_path / "run")
    found = predict_films(load_classifier(run.path), held_out_films(config_of(films), thorax, "test"))
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))


# --- the command line -------------------------------------------------------------------------------------------------


def told(*words: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)])
    assert isinstance(result.exception, NeurosymError)
    return str(result.exception)


def test_a_classifier_is_trained_resumed_and_evaluated_from_the_command_line(films: Path, tmp_path: Path) -> None:
    def kill(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == 3:
            raise Killed

    run, config = tmp_path / "run", films / "config.yaml"
    with pytest.raises(Killed):
        train_classifier(config_of(films, "seed=2"), run, progress=kill)
    assert "pass --resume" in refused("train", config, "--out", run, "--set", "seed=2")
    assert "other settings of seed" in refused("train", config, "--out", run, "--resume")
    trained = told("train", config, "--out", run, "--resume", "--set", "seed=2")
    whole = train_classifier(config_of(films, "seed=2"), tmp_path / "whole")
    assert (trained["run"], trained["step"], trained["terms"]) == (str(run), whole.step, whole.metrics)
    scores = told("evaluate", run, "--split", "val")
    expected = evaluate_classifier(tmp_path / "whole", "val")
    assert {k: scores[k] for k in ("films", "accuracy", "recall")} == {
        k: expected[k] for k in ("films", "accuracy", "recall")
    }
    assert json.loads((run / "evaluation-val.json").read_text()) == scores
    table = CliRunner().invoke(app, ["evaluate", str(run)], catch_exceptions=False).output
    assert "pneumonia_study or not" in table


def test_what_a_classifier_has_not_is_refused_with_what_to_do_instead(films: Path, tmp_path: Path) -> None:
    run = train_classifier(config_of(films, "method=supervised", "train.passes=9"), tmp_path / "run").path
    assert "leave out --repair, which detectors have" in refused("evaluate", run, "--repair")
    assert "is scored on val or test, not on 'tset'; did you mean 'test'" in refused("evaluate", run, "--split", "tset")
    for command in ("predict", "facts", "report"):
        assert "the run of a film classifier has no detections; score it with" in refused(command, run)
    path = tmp_path / "wrong.yaml"
    path.write_text((films / "config.yaml").read_text().replace("  table:", "  tabel:"))
    message = refused("train", path)
    assert "wrong.yaml:5: data.tabel: unknown setting; did you mean 'table'?" in message
    assert "data.table: is missing" in message
