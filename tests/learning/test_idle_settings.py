"""Settings of `model.inexact` without effect are told; configs that an ablation leaves them in still load."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.learning.batches import make_batch
from neurosym.learning.config import TrainConfig
from neurosym.learning.idle_settings import NEEDS, idle_settings
from neurosym.learning.train import open_trainer
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig, InexactConfig
from tests.learning.test_train import config_of

ROOT = Path(__file__).parents[2]
NAMES = ("right_lung", "heart", "left_lung")
PLAIN = "constraints.weight=0"
OTHER = {"centroids": False, "weigh": False, "rules": False, "votes": 7.0, "start": 1, "strictness": 50.0}
"""Of each setting that needs another one, a value that changes much."""


def idle(tmp_path: Path, *overrides: str) -> list[str]:
    return [re.findall(r"inexact\.(\w+):", str(p))[0] for p in idle_settings(config_of(tmp_path, PLAIN, *overrides))]


def test_settings_that_need_another_are_told_with_what_they_need(tmp_path: Path) -> None:
    filtering = (
        "model.inexact={filter: true, votes: 2, weigh: true, centroids: false, rules: true, strictness: -1, start: 5}"
    )
    assert idle(tmp_path, filtering) == ["centroids", "weigh", "rules", "votes"]
    assert idle(tmp_path, "model.inexact={posterior: true, votes: 2, strictness: -1, start: 5}") == ["strictness"]
    assert idle(tmp_path, "model.inexact={start: 5}") == ["start"]
    assert idle(tmp_path, "model.inexact={posterior: true, rules: true}") == ["rules"]
    assert idle(tmp_path, "model.inexact={posterior: true, rules: true}", "constraints.weight=0.1") == []
    masks = "model.inexact={posterior: true, votes: 2, weigh: true, rules: true, centroids: true, start: 5}"
    assert idle(tmp_path, masks, "model.kind=fpn_segmenter") == ["weigh", "rules", "votes"]
    [told] = idle_settings(config_of(tmp_path, PLAIN, "model.inexact.votes=2"))
    assert told.severity == "warning"
    assert str(told) == (
        "model.inexact.votes: set to 2, but it has no effect here; "
        "it needs model.inexact.posterior: true; else leave it out"
    )


def test_defaults_are_silent_also_where_a_resolved_config_writes_them_out(tmp_path: Path) -> None:
    assert idle(tmp_path) == idle(tmp_path, "model.inexact={filter: true, adversary: 0.1}") == []
    assert idle(tmp_path, "model.inexact={adversary: 0}") == []
    config = config_of(tmp_path, PLAIN, "model.inexact={filter: true, votes: 2}")
    resolved = TrainConfig.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))))
    assert [str(p)[:19] for p in idle_settings(resolved)] == ["model.inexact.votes"]


def test_a_training_says_once_what_has_no_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = config_of(tmp_path, PLAIN, "model.inexact.weigh=true")
    open_trainer(config, tmp_path / "run")
    open_trainer(config, tmp_path / "run", most=2)  # the look ahead of a forecast
    assert [r.getMessage()[:40] for r in caplog.records if r.levelname == "WARNING"] == [
        "model.inexact.weigh: set to true, but it"
    ]


@pytest.mark.parametrize("name", ["inexact-boxes", "inexact-masks"])
def test_the_ablations_of_the_experiments_load(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / name))
    for module in ("arms", "harness", "detection"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    arms = importlib.import_module("arms")
    for data, arm in itertools.product(("jsrt", "covid-cxr", "bccd", "phantom"), arms.ARMS):
        if not (ROOT / "experiments" / name / f"{data}.yaml").is_file():
            continue
        job = (
            arms.Job(data, "faster_rcnn", "r=.4", arm, 0)
            if name == "inexact-boxes"
            else arms.Job(data, "dilate", arm, 0)
        )
        told = [str(p).split(":")[0] for p in idle_settings(arms.config_of(job))]
        assert told == (["model.inexact.start"] if name == "inexact-masks" and arm == "plain" else [])
    for module in ("arms", "harness", "detection"):
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    ("kind", "on", "without_effect"),
    [
        ("faster_rcnn", {"filter": True, "start": 0}, {"centroids", "weigh", "rules", "votes"}),
        ("faster_rcnn", {"posterior": True, "start": 0}, {"strictness"}),
        ("fpn_segmenter", {"posterior": True, "filter": True, "start": 0}, {"weigh", "rules", "votes"}),
        ("fpn_segmenter", {"posterior": True, "start": 0}, {"strictness"}),
        ("faster_rcnn", {}, set(OTHER)),
    ],
)
def test_what_is_said_to_have_no_effect_has_none(kind: str, on: dict[str, object], without_effect: set[str]) -> None:
    more = {k: OTHER[k] for k in without_effect}
    config = TrainConfig.model_validate(
        {"name": "x", "knowledge": [], "data": {"format": "phantom", "train": {"start": 0, "count": 1}}}
        | {"model": {"kind": kind, "inexact": on | more}}
    )
    assert {re.findall(r"inexact\.(\w+):", str(p))[0] for p in idle_settings(config)} == without_effect
    assert losses(kind, on) == losses(kind, on | more)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("faster_rcnn", ("centroids", "weigh", "votes", "start")),
        ("fpn_segmenter", ("centroids", "start", "strictness")),
    ],
)
def test_what_has_what_it_needs_has_an_effect(kind: str, names: tuple[str, ...]) -> None:
    on = {"posterior": True, "filter": True, "start": 0}
    plain = losses(kind, on)
    for name in names:  # rules and the strictness of boxes need more than two steps: test_witness, test_inexact_parts
        assert losses(kind, on | {name: OTHER[name]}) != plain, name


def losses(kind: str, on: dict[str, object]) -> list[float]:
    """Of two steps without an update: the second is told what the first has learned."""
    torch.manual_seed(0)
    settings = {"image_size": 64, "max_size": 64, "fpn_channels": 16, "head_features": 16, "pretrained": False}
    inexact = InexactConfig.model_validate(on)
    model = build_model(DetectorConfig(kind=kind, proposals=40, inexact=inexact, **settings), NAMES).train()  # type: ignore[arg-type]
    films = list(Phantom(0, 1, PhantomConfig(size=64)))
    found = []
    for _ in range(2):
        told, _ = model(*make_batch(films, NAMES, torch.device("cpu"), None, model.uses_masks))
        found += [float(v.detach()) for v in told.values()]
    return found


# --- the table in the documentation -------------------------------------------------------------------------------------


def test_the_documented_settings_are_those_that_there_are_with_their_defaults_and_kinds() -> None:
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    table = text.split("| `inexact` | of | needs | default | meaning |\n")[1].split("\n\n")[0].splitlines()[1:]
    rows = {r[0].strip("`"): r[1:] for r in ([c.strip() for c in line.split("|")[1:-1]] for line in table)}
    fields = InexactConfig.model_fields
    assert list(rows) == list(fields) == list(NEEDS)
    for name, (kinds, needs, default, _) in rows.items():
        assert yaml.safe_load(default) == fields[name].default, name
        wants = [what for _, what in NEEDS[name]]
        assert (kinds == "boxes") == ("a model.kind that learns boxes" in wants), name
        assert kinds in ("boxes", "boxes, masks")
        named = {"filter"} if name == "adversary" else set()  # refused without, see `InexactConfig`
        named |= set(re.findall(r"posterior|filter|constraints\.weight", " ".join(wants)))
        assert set(re.findall(r"`([\w.]+)`", needs)) == named, name
