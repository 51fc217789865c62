"""Pretraining from beginning to end, on films of a few pixels."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.errors import ConfigError, DataError
from neurosym.learning.pretrain import pretrain
from neurosym.learning.pretrain_config import PretrainConfig
from neurosym.models.backbones import build_backbone
from neurosym.models.config import DetectorConfig

TINY: dict[str, Any] = {
    "name": "tiny",
    "threads": 1,
    "images": [{"folder": "films"}],
    "pretrained": False,
    "hidden": 16,
    "embedding": 8,
    "views": {"size": 32, "local_size": 32, "local_crops": 1},
    "train": {"steps": 4, "batch_size": 4, "warmup_steps": 1, "checkpoint_every": 2},
    "swav": {"prototypes": 4, "queue": 6, "queue_start": 1, "frozen_steps": 1},
    "densecl": {"queue": 16},
    "monitor": {"every": 2, "films": 8},
    "export": {"films": 4, "size": 32},
}


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 48), dtype=np.uint8)).save(folder / f"{n:02d}.png")
    return tmp_path


def settings(base: Path, **changes: Any) -> PretrainConfig:
    values = TINY | {"base": base}
    for key, value in changes.items():
        values |= {key: values[key] | value if isinstance(value, dict) and key in values else value}
    return PretrainConfig.model_validate(values)


def logged(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


class Stop(Exception):
    """Whatever ends a process."""


@pytest.mark.parametrize("method", ["swav", "densecl", "byol"])
def test_an_interrupted_run_goes_on_bit_identically(films: Path, method: str) -> None:
    config = settings(films, method=method)
    whole = pretrain(config, films / "whole")
    assert whole.step == 4

    def interrupt(done: int, total: int, terms: dict[str, float]) -> None:
        assert total == 4
        assert terms["films_per_second"] >= 0
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        pretrain(config, films / "parts", progress=interrupt)
    assert not (films / "parts" / "backbone.safetensors").exists()
    with pytest.raises(ConfigError, match="holds a run already; pass --resume"):
        pretrain(config, films / "parts")
    pretrain(settings(films, method=method, train={"readers": 2}), films / "parts", resume=True)
    one, other = ((films / k / "backbone.safetensors").read_bytes() for k in ("whole", "parts"))
    assert one == other
    assert logged(films / "whole") == logged(films / "parts")
    assert [line["step"] for line in logged(films / "whole")] == [0, 1, 2, 3, 4]
    assert ("used" in logged(films / "whole")[2]) == (method == "swav")


def test_a_run_is_resumed_only_with_its_own_settings_and_films(films: Path) -> None:
    pretrain(settings(films, train={"steps": 2}), films / "run")
    with pytest.raises(ConfigError, match=r"other settings of swav, train.lr; restore them"):
        pretrain(settings(films, swav={"epsilon": 0.1}, train={"lr": 0.5}), films / "run", resume=True)
    (films / "films" / "03.png").unlink()
    with pytest.raises(ConfigError, match="the pool has other films than when the run began"):
        pretrain(settings(films, train={"steps": 3}), films / "run", resume=True)


def test_the_weights_are_those_of_a_detectors_backbone_and_the_card_says_what_they_are_from(films: Path) -> None:
    run = pretrain(settings(films, exclude=[{"folder": "films", "limit": 2}]), films / "run")
    path = run.path / "backbone.safetensors"
    trunk = build_backbone(DetectorConfig(weights=str(path), fpn_channels=16)).trunk
    assert all((trunk.state_dict()[k] == v).all() for k, v in load_file(path).items())
    card = (run.path / "README.md").read_text()
    assert "10 films; 2 others were excluded by their content, 0 could not be read" in card
    assert f"| loss of the last step | {run.metrics['loss']:.4g} |" in card
    assert json.loads((run.path / "pool.json").read_text())["excluded"] == 2


def test_films_that_cannot_be_read_are_listed_and_skipped_or_stop_the_run(
    films: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = (films / "films" / "05.png").read_bytes()
    (films / "films" / "05.png").write_bytes(whole[: len(whole) // 2])
    (films / "films" / "06.png").write_text("no image")
    config = settings(films, train={"steps": 4, "batch_size": 6})
    with caplog.at_level(logging.WARNING):
        run = pretrain(config, films / "run")
    lines = (run.path / "skipped.txt").read_text().splitlines()
    assert [Path(line.split("\t")[0]).name for line in lines] == ["05.png", "06.png"]
    assert all("cannot be read" in line for line in lines)
    assert "2 films could not be read; see" in caplog.text
    with pytest.raises(DataError, match=r"0[56].png: image cannot be read"):
        pretrain(settings(films, on_unreadable="stop", train={"batch_size": 6}), films / "other")
    for path in (films / "films").iterdir():
        path.write_text("no image")
    with pytest.raises(DataError, match="none of 12 films can be read"):
        pretrain(settings(films), films / "third")


def test_held_out_films_of_the_probe_are_excluded_and_the_probe_is_logged(films: Path) -> None:
    names = [f"{n:02d}.png" for n in range(12)]
    rows = [f"{name},p{n // 2},{'ab'[n % 2]}" for n, name in enumerate(names)]
    (films / "labels.csv").write_text("\n".join(["file_name,patient,kind", *rows]) + "\n")
    probe = {"table": "labels.csv", "images": "films", "label_column": "kind", "patient_column": "patient"}
    run = pretrain(settings(films, probe=probe | {"test": 0.5, "every": 2, "size": 32}), films / "run")
    pool = json.loads((run.path / "pool.json").read_text())
    assert pool["excluded"] in (2, 4, 6, 8, 10), "both films of a patient are held out, or none"
    assert pool["films"] == 12 - pool["excluded"]
    probed = {line["step"]: line for line in logged(run.path) if "probe_knn" in line}
    assert sorted(probed) == [0, 2, 4]
    assert all(0 <= line["probe_linear"] <= 1 for line in probed.values())


def test_a_collapse_is_told_while_the_run_goes_on(films: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A single grey everywhere: all films have the same embedding, whatever is learned."""
    for path in (films / "films").iterdir():
        Image.fromarray(np.full((40, 48), 90, dtype=np.uint8)).save(path)
    with caplog.at_level(logging.WARNING):
        pretrain(settings(films, monitor={"start": 2}), films / "run")
    assert "step 2: the embeddings are collapsing (rank 1 is below 4" in caplog.text
    assert logged(films / "run")[2]["rank"] == pytest.approx(1.0, abs=1e-3)


def test_pretraining_needs_no_network(films: Path) -> None:
    code = f"""
import socket
def refuse(*a, **k):
    raise OSError("the network was touched")
socket.socket.__init__ = socket.getaddrinfo = socket.create_connection = refuse
from pathlib import Path
from neurosym.learning.pretrain import pretrain
from neurosym.learning.pretrain_config import PretrainConfig
config = PretrainConfig.model_validate({TINY!r} | {{"base": Path({str(films)!r}), "train": {{"steps": 1, "batch_size": 2}}}})
print(pretrain(config, {str(films / "run")!r}).step)
import sys
print(sorted(m for m in sys.modules if m.split(".")[0] in ("pytorch_lightning", "hydra", "requests")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["1", "[]"]


def test_the_command_trains_and_tells_where_the_weights_are(films: Path) -> None:
    path = films / "ssl.yaml"
    path.write_text(json.dumps(TINY), encoding="utf-8")  # JSON is YAML
    runner = CliRunner()
    told = runner.invoke(app, ["pretrain", "--help"]).output
    assert "Examples:" in told
    assert "--resume" in told
    command = ["pretrain", str(path), "--out", str(films / "run"), "--set", "train.steps=1", "--json"]
    result = json.loads(runner.invoke(app, command).stdout)
    assert result["step"] == 1
    assert Path(result["weights"]).is_file()
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        runner.invoke(app, ["pretrain", str(path), "--set", "train.step=1"], catch_exceptions=False)
