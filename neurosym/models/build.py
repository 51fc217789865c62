"""The model that a config's `kind` names."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neurosym.errors import ConfigError, did_you_mean
from neurosym.models.cascade_rcnn import CascadeDetector
from neurosym.models.config import DetectorConfig
from neurosym.models.detector import Detector
from neurosym.models.mask_rcnn import MaskDetector
from neurosym.models.retinanet import RetinaDetector
from neurosym.models.scene import SceneModel
from neurosym.models.segmenter import FpnSegmenter

MODELS: dict[str, type[SceneModel]] = {
    "faster_rcnn": Detector,
    "cascade_rcnn": CascadeDetector,
    "retinanet": RetinaDetector,
    "mask_rcnn": MaskDetector,
    "fpn_segmenter": FpnSegmenter,
}


def build_model(config: DetectorConfig, names: Sequence[str], load: bool = True) -> SceneModel:
    """A model of the classes `names`; `load` reads the backbone's initial weights, which a checkpoint would replace anyway.

    Its weights lie with the channels last, and so will its features: which costs less CPU time (`detector-cost`).

    Raises:
        ConfigError: an unknown kind, or weights that do not fit.
    """
    if config.kind not in MODELS:
        raise ConfigError(f"model.kind: unknown kind {config.kind!r}; {did_you_mean(config.kind, MODELS)}")
    return MODELS[config.kind](config, names, load).to(memory_format=torch.channels_last)
