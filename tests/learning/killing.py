"""A run that is killed and resumed, beside the same run left alone: what both end with."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from neurosym.learning.checkpoint import latest_checkpoint
from neurosym.learning.config import TrainConfig
from neurosym.learning.train import train


class Killed(Exception):
    pass


def killed_and_whole(config: TrainConfig, folder: Path, last: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The states of a run that was killed after step `last` and resumed, and of one that was not; made below `folder`."""

    def kill(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == last:
            raise Killed

    with pytest.raises(Killed):
        train(config, folder / "killed", progress=kill)
    train(config, folder / "killed", resume=True)
    train(config, folder / "whole")
    return _state(folder / "killed"), _state(folder / "whole")


def _state(run: Path) -> dict[str, Tensor]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    files = (checkpoint / f"{part}.safetensors" for part in ("training", "guidance"))
    return {k: v for file in files if file.is_file() for k, v in load_file(file).items()}
