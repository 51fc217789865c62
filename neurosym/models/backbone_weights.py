"""Weights of a backbone's trunk as a safetensors file: written by pretraining, read by every detector, segmenter and
classifier.

A file's metadata say which backbone it is of and how it was made. Names are those of the published weights (torchvision's
for the ResNets), so that a file of torchvision's parameters is read as well as one of ours. Loading is strict: each
parameter of the trunk must be there and nothing else, but for the classifier of a ResNet and counters of batch
normalisation, which detection does without.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neurosym.errors import ConfigError, Problem

_TOLD = "neurosym-backbone"
"""The one key of the metadata, a JSON object: several would be written in an order that differs from file to file."""
_COUNTER = "num_batches_tracked"


def save_backbone(path: Path, trunk: nn.Module, backbone: str, facts: Mapping[str, str]) -> None:
    """Write a trunk's weights; `facts` go into the metadata. The file is complete or absent."""
    state = {
        k: v.detach().cpu().contiguous().clone() for k, v in trunk.state_dict().items() if not k.endswith(_COUNTER)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{path.name}")
    try:
        save_file(state, temporary, {_TOLD: json.dumps({"backbone": backbone, **facts})})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_backbone(path: Path, trunk: nn.Module, backbone: str) -> None:
    """Load a trunk's weights in place.

    Raises:
        ConfigError: no such file, not a safetensors file, or one of another backbone (the message says of which).
    """
    if not path.is_file():
        raise ConfigError(f"model.weights: file {str(path)!r} not found; expected a safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {}).get(_TOLD, "{}")).get("backbone", "")
        state = {k: v for k, v in load_file(path).items() if not k.startswith("fc.") and not k.endswith(_COUNTER)}
    except (SafetensorError, ValueError, AttributeError) as error:
        raise ConfigError(f"model.weights: {str(path)!r} is not a safetensors file ({error})") from error
    own = told or backbone_of(state)
    counters = {k: v for k, v in trunk.state_dict().items() if k.endswith(_COUNTER)}
    try:
        missing, unexpected = trunk.load_state_dict(state | counters, strict=False)
    except RuntimeError as error:
        raise ConfigError(_misfit(path, str(error).splitlines()[1].strip(), own, backbone)) from error
    missing = [k for k in missing if not k.startswith("fc.")]
    if missing or unexpected:
        raise ConfigError(_misfit(path, f"missing {missing[:3]}, unexpected {unexpected[:3]}", own, backbone))


def backbone_of(state: Mapping[str, Tensor]) -> str:
    """Which of our backbones has parameters of these names and shapes; "" if none."""
    if "_conv_stem.weight" in state and "_blocks.15._project_conv.weight" in state:
        return "lite0"
    if "layer1.0.conv3.weight" in state and "layer3.5.conv1.weight" in state and "layer3.6.conv1.weight" not in state:
        return "resnet50"
    if (
        "layer1.0.conv2.weight" in state
        and "layer1.0.conv3.weight" not in state
        and "layer1.2.conv1.weight" not in state
    ):
        return "resnet18"
    return ""


def _misfit(path: Path, reason: str, own: str, backbone: str) -> Problem:
    message = f"model.weights: {path.name} does not fit the backbone: {reason}"
    cure = f"the file is of {own}, the config names {backbone}: set model.backbone: {own}"
    return Problem(message, cure=cure if own and own != backbone else f"expected the parameters of {backbone}")
