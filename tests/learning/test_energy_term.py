"""The energy beside a detector: what it sees of a pass, when it teaches, and that a resumed run has the same one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from neurosym.constraints import compile_constraints
from neurosym.constraints.graph import energy_loss, ontology_graph
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.knowledge import Knowledge
from neurosym.learning.batches import make_batch
from neurosym.learning.checkpoint import latest_checkpoint
from neurosym.learning.config import EnergyConfig
from neurosym.learning.energy_term import EnergyTerm
from neurosym.learning.sampling import Moment
from neurosym.learning.train import train
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.scene import SceneModel, SceneProposals
from tests.learning.test_teacher import TAUGHT
from tests.learning.test_train import Killed, config_of, weights

NAMES = ("left_lung", "right_lung", "heart", "ground_glass_opacity")
CPU = torch.device("cpu")
SMALL = ("energy.weight=0.5", "energy.hidden=8", "energy.rounds=1", "constraints.weight=0")
EAGER = (*SMALL, "energy.start_after_updates=0", "energy.warmup_steps=1")


def learned(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "guidance.safetensors")


@pytest.mark.parametrize("more", [("energy.updates=2",), TAUGHT], ids=["without teacher", "with teacher"])
def test_a_killed_run_with_an_energy_resumes_to_the_same_detector_and_energy(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    config = config_of(tmp_path, *EAGER, *more, "train.steps=5", "train.checkpoint_every=3")

    def kill(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == 4:
            raise Killed

    train(config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, tmp_path / "parts", progress=kill)
    train(config, tmp_path / "parts", resume=True)
    for of_run in (weights, learned):
        one, other = of_run(tmp_path / "whole"), of_run(tmp_path / "parts")
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) for k in one)
    assert {k.split(".")[1] for k in learned(tmp_path / "whole")} == {"network", "optimizer", "updates", "ranked"}
    logs = [(tmp_path / n / "log.jsonl").read_text().splitlines() for n in ("whole", "parts")]
    told = [[{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log] for log in logs]
    assert told[0] == told[1]
    assert all(0 <= line["energy_ranked"] <= 1 for line in told[0])


def test_an_energy_that_is_too_young_to_teach_leaves_the_detector_as_it_would_be(tmp_path: Path) -> None:
    labelled = ("constraints.weight=0", "constraints.unlabelled_batch=0")
    train(config_of(tmp_path, *labelled), tmp_path / "without")
    run = train(config_of(tmp_path, *SMALL, *labelled, "energy.start_after_updates=4"), tmp_path / "with")
    one, other = weights(tmp_path / "without"), weights(tmp_path / "with")
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert "loss_energy" not in run.metrics
    assert int(learned(tmp_path / "with")["energy.updates"]) == 4


# --- a detector whose boxes look like what they are ----------------------------------------------------------------------


class Shows(SceneModel):
    """Scenes with image features from which the true class of each box can be told."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.table = torch.from_numpy(np.random.default_rng(9).normal(size=(len(NAMES) + 1, 6)).astype(np.float32))
        self.true: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, images, targets):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    propose = detect = pyramid = forward

    def features_of(self, boxes):  # type: ignore[no-untyped-def]
        found = []
        for these, (true, labels) in zip(boxes, self.true, strict=True):
            apart = (these[:, None] - true[None]).abs().amax(2)
            found.append(self.table[torch.where(apart.amin(1) < 1, labels[apart.argmin(1)], 0)])
        return found


def films(model: Shows, step: int) -> tuple[list[SceneProposals], list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Two films at half size; every other box, more or less, is seen as something else."""
    rng = np.random.default_rng(step)
    samples = [Phantom(0, 40, PhantomConfig(size=64))[k] for k in (2 * step % 40, (2 * step + 1) % 40)]
    images, targets = make_batch(samples, NAMES, CPU, None)
    model.true = [(t["boxes"] / 2, t["labels"]) for t in targets]
    scenes = []
    for boxes, labels in model.true:
        logits = torch.zeros(len(boxes), len(NAMES) + 1)
        told = torch.where(torch.from_numpy(rng.random(len(labels)) < 0.5), labels % len(NAMES) + 1, labels)
        sure = torch.from_numpy(rng.uniform(2.0, 4.0, len(labels)).astype(np.float32))
        logits[torch.arange(len(boxes)), told] = sure
        scenes.append(SceneProposals(logits.requires_grad_().softmax(1), boxes, None, (32.0, 32.0)))
    return scenes, images, targets


def term(thorax: Knowledge, channels: int = 6, **settings: object) -> EnergyTerm:
    rules = compile_constraints(thorax, NAMES)
    config = EnergyConfig(weight=0.5, hidden=16, rounds=1, **settings)  # type: ignore[arg-type]
    return EnergyTerm(config, rules, ontology_graph(rules, thorax.ontology), channels, 3, CPU)


def test_the_weight_grows_with_the_warm_up_and_with_what_the_energy_can_tell(thorax: Knowledge) -> None:
    one = term(thorax, start_after_updates=20, updates=2, warmup_steps=10)
    assert one.weight == 0
    one.updates = 10_000
    for ranked, share in ((0.3, 0), (0.5, 0), (0.6, 0), (0.675, 0.5), (0.75, 1), (1.0, 1)):
        one.ranked = ranked
        assert one.weight == pytest.approx(0.5 * share)
    for updates, share in ((2, 0), (20, 0), (30, 0.5), (40, 1)):
        one.updates = updates
        assert one.weight == pytest.approx(0.5 * share)


def test_an_energy_that_has_learned_to_tell_draws_the_detector_to_the_true_classes(thorax: Knowledge) -> None:
    model, one = Shows(), term(thorax, start_after_updates=12, warmup_steps=1, updates=4, lr=5e-3)
    silent = []
    for step in range(14):
        scenes, images, targets = films(model, step)
        found = one.losses(Moment(step), one.watch(model, scenes, images, targets), [])
        silent.append("loss_energy" not in found)
    assert silent[:4] == [True] * 4
    assert not silent[-1]
    assert one.ranked > 0.7
    assert one.figures() == {"energy_ranked": one.ranked, "energy_active": 1.0}
    up = []
    for step in range(100, 104):
        scenes, _, _ = films(model, step)
        seen = [w.scene for w in one.watch(model, scenes)]
        slopes = torch.autograd.grad(energy_loss(one.energy, seen, slack=-20.0).loss, [s.probabilities for s in scenes])
        for scene, slope, (_, labels) in zip(scenes, slopes, model.true, strict=True):
            told, rows = scene.probabilities.argmax(1), torch.arange(len(labels))
            up.append((slope[rows, told] - slope[rows, labels])[told != labels])
    assert len(torch.cat(up)) > 8
    assert float((torch.cat(up) > 0).float().mean()) > 0.8, "less of the wrong class, more of the true one"


def test_a_labelled_pass_is_watched_in_pixels_of_the_scaled_image_without_boxes_of_no_extent(thorax: Knowledge) -> None:
    settings = {"image_size": 64, "max_size": 64, "fpn_channels": 16, "pretrained": False, "proposals": 40}
    model = build_model(DetectorConfig(kind="retinanet", **settings), NAMES).train()  # type: ignore[arg-type]
    images, targets = make_batch(list(Phantom(0, 2, PhantomConfig(size=128))), NAMES, CPU, None)
    spoilt = [
        {
            "boxes": torch.cat([t["boxes"], t["boxes"][:1, [0, 1, 0, 3]]]),
            "labels": torch.cat([t["labels"]] + [t["labels"][:1]]),
        }
        for t in targets
    ]
    _, scenes = model(images, spoilt)
    watched = term(thorax, channels=16).watch(model, scenes, images, spoilt)
    expected = model.features_of([t["boxes"] / 2 for t in targets])
    mine = model.features_of([s.boxes for s in scenes])
    for one, scene, target, there, here in zip(watched, scenes, targets, expected, mine, strict=True):
        assert one.objects is not None
        np.testing.assert_allclose(one.objects.boxes, target["boxes"] / 2, atol=1e-4)
        assert one.objects.labels.tolist() == target["labels"].tolist()
        assert one.objects.size == one.scene.size == (64.0, 64.0)
        assert one.scene.probabilities.requires_grad
        assert torch.equal(one.scene.boxes, scene.boxes)
        torch.testing.assert_close(one.true_features, there)
        torch.testing.assert_close(one.scene.features, here)


def test_an_image_blind_energy_asks_for_no_features(thorax: Knowledge) -> None:
    model, one = Shows(), term(thorax, image_features=False)
    scenes, images, targets = films(model, 0)
    model.features_of = None  # type: ignore[assignment, method-assign]
    watched = one.watch(model, scenes, images, targets)
    assert [w.scene.features for w in watched] == [None, None]
    one.losses(Moment(0), watched, one.watch(model, scenes))
    assert one.updates == 1


def test_films_that_show_nothing_are_no_reason_to_stop(thorax: Knowledge) -> None:
    """Without an object there is nothing to spoil, and without a wrong scene nothing to learn."""
    model, one = Shows(), term(thorax)
    nothing, image = torch.zeros(0, 4), torch.zeros(3, 64, 64)
    model.true = [(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))]
    scene = SceneProposals(torch.zeros(0, len(NAMES) + 1), nothing, None, (32.0, 32.0))
    target = {"boxes": nothing, "labels": torch.zeros(0, dtype=torch.long)}
    assert one.losses(Moment(0), one.watch(model, [scene], [image], [target]), []) == {}
    assert one.updates == 0
    assert one.figures() == {}
