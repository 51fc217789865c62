"""A backbone's weights as a file: into every backbone they fit, and a clear word where they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import resnet34
from torchvision.ops import FrozenBatchNorm2d

from neurosym.errors import ConfigError
from neurosym.models.backbone_weights import backbone_of, save_backbone
from neurosym.models.backbones import build_backbone, build_trunk
from neurosym.models.build import build_model
from neurosym.models.config import Backbone, DetectorConfig
from neurosym.models.film_classifier import FilmClassifier
from neurosym.models.pretrain_network import PretrainNetwork, measure_norms

BACKBONES: tuple[Backbone, ...] = ("lite0", "resnet18", "resnet50")


def pretrained(folder: Path, backbone: Backbone) -> Path:
    """A file as pretraining writes it, of random weights and statistics."""
    torch.manual_seed(3)
    trunk = PretrainNetwork(backbone, 8, 4, pretrained=False).trunk
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    path = folder / f"{backbone}.safetensors"
    save_backbone(path, trunk, backbone, {"method": "swav"})
    return path


@pytest.mark.parametrize("backbone", BACKBONES)
def test_pretrained_weights_load_into_their_backbone_and_its_norms_are_frozen(
    tmp_path: Path, backbone: Backbone
) -> None:
    path = pretrained(tmp_path, backbone)
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["neurosym-backbone"])
    assert told == {"backbone": backbone, "method": "swav"}
    state = load_file(path)
    assert backbone_of(state) == backbone
    pyramid = build_backbone(DetectorConfig(backbone=backbone, weights=str(path), fpn_channels=16))
    own = pyramid.trunk.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[k], v) for k, v in state.items())
    kinds = {type(m) for m in pyramid.trunk.modules() if "BatchNorm" in type(m).__name__}
    assert kinds == {FrozenBatchNorm2d}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_file_of_another_backbone_is_refused_by_name(tmp_path: Path, backbone: Backbone) -> None:
    path = pretrained(tmp_path, backbone)
    for other in BACKBONES:
        if other != backbone:
            cure = f"the file is of {backbone}, the config names {other}: set model.backbone: {backbone}"
            with pytest.raises(ConfigError, match=cure):
                build_backbone(DetectorConfig(backbone=other, weights=str(path)))


def test_a_file_that_lacks_a_parameter_or_has_one_too_many_is_refused(tmp_path: Path) -> None:
    state = load_file(pretrained(tmp_path, "lite0"))
    short = {k: v for k, v in state.items() if k != "_blocks.3._bn1.bias"}
    more = state | {"other.weight": torch.zeros(1)}
    for name, wrong, reason in (
        ("short", short, "missing .'_blocks.3._bn1.bias'"),
        ("more", more, "unexpected .'other"),
    ):
        path = tmp_path / f"{name}.safetensors"
        save_file(wrong, path)
        with pytest.raises(ConfigError, match=f"does not fit the backbone: missing .*{reason}|{reason}"):
            build_backbone(DetectorConfig(weights=str(path)))
    foreign = {k: v.contiguous() for k, v in resnet34().state_dict().items()}
    save_file(foreign, tmp_path / "resnet34.safetensors")
    with pytest.raises(ConfigError, match="expected the parameters of resnet18"):
        build_backbone(DetectorConfig(backbone="resnet18", weights=str(tmp_path / "resnet34.safetensors")))


@pytest.mark.parametrize("kind", ["faster_rcnn", "cascade_rcnn", "retinanet", "mask_rcnn", "fpn_segmenter"])
def test_every_kind_of_model_starts_from_pretrained_weights(tmp_path: Path, kind: str) -> None:
    path = pretrained(tmp_path, "lite0")
    model = build_model(DetectorConfig(kind=kind, weights=str(path), fpn_channels=16, head_features=16), ("a", "b"))  # type: ignore[arg-type]
    stems = [v for k, v in model.state_dict().items() if k.endswith("_conv_stem.weight")]
    assert len(stems) == 1
    assert torch.equal(stems[0], load_file(path)["_conv_stem.weight"])


def test_a_film_classifier_starts_from_pretrained_weights(tmp_path: Path) -> None:
    path = pretrained(tmp_path, "lite0")
    model = FilmClassifier(("a", "b"), weights=str(path))
    assert torch.equal(model.trunk.state_dict()["_conv_stem.weight"], load_file(path)["_conv_stem.weight"])


def test_imagenet_weights_are_the_same_under_trained_and_frozen_norms() -> None:
    films = torch.rand(2, 3, 64, 64)
    trained, frozen = (
        build_trunk("lite0", norm, pretrained=True)[0].eval() for norm in (nn.BatchNorm2d, FrozenBatchNorm2d)
    )
    with torch.no_grad():
        torch.testing.assert_close(trained(films)["3"], frozen(films)["3"], atol=1e-4, rtol=1e-4)


def test_norms_measured_on_films_make_their_features_those_of_training() -> None:
    """The statistics of one batch, taken as those of all films, norm this batch as training does."""
    torch.manual_seed(0)
    network = PretrainNetwork("lite0", 8, 4, pretrained=False).eval()
    films = torch.rand(16, 1, 96, 96)
    with torch.no_grad():
        before = network.pooled(films)
        measure_norms(network, [])
        assert torch.equal(network.pooled(films), before)
        measure_norms(network, [films])
        assert not network.training
        evaluated = network.pooled(films)
        network.train()
        torch.testing.assert_close(evaluated, network.pooled(films), atol=0.15, rtol=0.15)
    first = next(m for m in network.trunk.modules() if isinstance(m, nn.BatchNorm2d))
    assert first.momentum == 0.1
