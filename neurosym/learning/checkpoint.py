"""Checkpoints: tensors as safetensors, the rest as JSON, each complete or absent.

A checkpoint is a folder ``checkpoints/step-000300`` that is written under another name and renamed when it is complete, so a
killed process leaves the last good one. Training resumed from it goes on bit-identically on a CPU.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neurosym.errors import Problem, TrainingError, short_path
from neurosym.knowledge.files import to_disk
from neurosym.models.scene import OF_ANNOTATIONS, OF_TRAINING


@dataclass(frozen=True)
class Checkpoint:
    """What training needs to go on: weights, their average, optimiser state, random state, step."""

    step: int
    model: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    random: tuple[Tensor, ...]
    """The state of the random numbers of each process."""
    guidance: dict[str, Tensor] = field(default_factory=dict)
    """What is learned beside the detector: by knowledge (see `neurosym.learning.guidance.Guidance.state`), CoMatch's bank."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """Of the loss, where it is trained with 16 bits."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, info: Mapping[str, Any]) -> Path:
    """Write a checkpoint and remove the older ones; what cannot be written leaves those as they are.

    Raises:
        TrainingError: the disk is full, or may not be written.
    """
    temporary: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".writing-"))
        save_file(_contiguous(checkpoint.average or checkpoint.model), temporary / "model.safetensors")
        tensors = {f"model.{k}": v for k, v in checkpoint.model.items()}
        tensors |= {f"random.{rank}": state for rank, state in enumerate(checkpoint.random)}
        if checkpoint.guidance:
            save_file(_contiguous(checkpoint.guidance), temporary / "guidance.safetensors")
        groups = []
        for index, state in checkpoint.optimizer["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        for group in checkpoint.optimizer["param_groups"]:
            groups.append(
                {k: v for k, v in group.items() if isinstance(v, (int, float, bool, list, tuple, type(None)))}
            )
        save_file(_contiguous(tensors), temporary / "training.safetensors")
        state = {"step": checkpoint.step, "param_groups": groups, "scaler": checkpoint.scaler, **info}
        (temporary / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        temporary.chmod(0o755)  # made private by mkdtemp; colleagues read checkpoints too
        for file in (*temporary.iterdir(), temporary):  # on the disk before its name is, should the machine fail
            to_disk(file)
        final = folder / f"step-{checkpoint.step:06d}"
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
        to_disk(folder)  # before the older ones go
    except BaseException as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, (OSError, SafetensorError)):
            last = latest_checkpoint(folder)
            cure = f"make room, then --resume: {short_path(last)} is whole" if last else "make room, then start again"
            problem = Problem(f"the checkpoint of step {checkpoint.step} cannot be written ({error})", cure=cure)
            raise TrainingError(problem) from error
        raise
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other, ignore_errors=True)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    return max(folder.glob("step-*"), key=_step_of, default=None) if folder.is_dir() else None


def _step_of(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        TrainingError: a file is missing or damaged.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        tensors = load_file(path / "training.safetensors")
        average = load_file(path / "model.safetensors")
        return _of_parts(path, state, tensors, average)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, SafetensorError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        cure = "restore it from a copy, or start anew with another --out"
        raise TrainingError(Problem(f"checkpoint cannot be read ({said})", short_path(path), cure=cure)) from error


def _of_parts(path: Path, state: Any, tensors: Mapping[str, Tensor], average: dict[str, Tensor]) -> Checkpoint:
    """The checkpoint; ValueError, TypeError or KeyError if its files do not belong together."""
    step, groups, scaler = state["step"], state["param_groups"], state.get("scaler", {})
    if not isinstance(step, int) or step != _step_of(path):
        raise ValueError(f"state.json is of step {step!r}")
    if not isinstance(groups, list) or not all(isinstance(g, dict) and "params" in g for g in groups):
        raise ValueError("state.json has no groups of parameters")
    if not isinstance(scaler, dict):
        raise ValueError("state.json has no scale of the loss")
    optimizer: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            optimizer.setdefault(int(index), {})[name] = value
    moved = step > 0 and any(group["params"] for group in groups)
    if len({frozenset(of) for of in optimizer.values()}) > 1 or (moved and not optimizer):
        raise ValueError("a part of the optimiser's state is missing")
    model = {k[len("model.") :]: v for k, v in tensors.items() if k.startswith("model.")}
    if model.keys() != average.keys():
        raise ValueError("model.safetensors and training.safetensors are of different models")
    return Checkpoint(
        step=step,
        model=model,
        average=average,
        optimizer={"state": optimizer, "param_groups": groups},
        random=_random(tensors),
        guidance=load_guidance(path),
        scaler=scaler,
    )


def _random(tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The state of each process; a checkpoint of older versions has that of the only one."""
    ranks = sorted(int(key.rpartition(".")[2]) for key in tensors if key.startswith("random."))
    found = tuple(tensors[f"random.{rank}"] for rank in ranks) if ranks else (tensors["random"],)
    own = torch.get_rng_state()
    if not all(state.dtype == own.dtype and state.shape == own.shape for state in found):
        raise ValueError("the state of the random numbers is damaged")
    return found


def load_guidance(path: Path) -> dict[str, Tensor]:
    """What knowledge had learned at a checkpoint; empty where it had nothing to learn.

    Raises:
        TrainingError: the file is damaged.
    """
    file = path / "guidance.safetensors"
    if not file.is_file():
        return {}
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            Problem(f"what knowledge has learned cannot be read ({error})", short_path(file))
        ) from error


def load_weights(path: Path, model: nn.Module) -> None:
    """Load the weights to predict with.

    Raises:
        TrainingError: damaged, not finite, or of another model.
    """
    given = _read_weights(path)
    if odd := [k for k, v in given.items() if not bool(torch.isfinite(v).all())]:
        cure = "train again with a lower train.lr"
        raise TrainingError(Problem(f"weights are not finite ({odd[0]})", short_path(path), cure=cure))
    try:
        model.load_state_dict(given)
    except RuntimeError as error:
        message = "the weights are of another model than the run's config names"
        raise TrainingError(Problem(message, short_path(path), cure="restore the run's config.yaml")) from error


def begin_from(path: Path, model: nn.Module) -> tuple[str, ...]:
    """Load the weights that a new training starts from, and tell which parts of the model start anew.

    What predictions depend on must be the same in both models. A part that serves training alone (`OF_TRAINING`) is taken over
    if both have it in the same shape, else it stays as it is; so do those that learn how annotations are drawn
    (`OF_ANNOTATIONS`) in any case, for the other run may have learned from other annotations.

    Raises:
        TrainingError: damaged, or of another model; the first difference is named.
    """
    given, here = _read_weights(path), model.state_dict()
    parts = [(k, _part(given, k), _part(here, k)) for k in OF_TRAINING]
    anew = tuple(k for k, there, own in parts if k in OF_ANNOTATIONS or _shapes(there) != _shapes(own))
    taken, wanted = _without(given, anew), _without(here, anew)
    for key in sorted({*taken, *wanted}):
        there, own = _shape(taken, key), _shape(wanted, key)
        if there != own:
            message = f"initial: the weights are of another model than this run's; {key} is {there} there, {own} here"
            cure = "give this run the model and the classes of that one, or leave initial out"
            raise TrainingError(Problem(message, short_path(path), cure=cure))
    model.load_state_dict(taken, strict=False)
    return tuple(k for k in anew if _part(here, k))


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise TrainingError(Problem(f"weights cannot be read ({error})", short_path(path))) from error


def _part(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if k.startswith(f"{part}.")}


def _without(state: Mapping[str, Tensor], parts: Sequence[str]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not any(k.startswith(f"{part}.") for part in parts)}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {k: v.shape for k, v in state.items()}


def _shape(state: Mapping[str, Tensor], key: str) -> str:
    return "×".join(map(str, state[key].shape)) or "a number" if key in state else "missing"


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
