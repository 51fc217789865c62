"""Self-supervised pretraining, as written in a YAML file (see `neurosym.learning.pretrain`); no torch here.

name: ssl
images: [{folder: films}, {annotations: jsrt/train.json, images: jsrt/images}]
exclude: [{annotations: jsrt/test.json, images: jsrt/images}]
train: {steps: 2000, batch_size: 64}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from neurosym.data.config import DataPath
from neurosym.data.film_sources import FilmSource
from neurosym.learning.config_file import load_settings
from neurosym.models.config import Backbone

Method = Literal["swav", "densecl", "byol"]
Range = tuple[float, float]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ViewsConfig(_Strict):
    """Random views of a film (see `neurosym.learning.pretrain_views`); the defaults are for radiographs.

    For coloured smears: ``{channels: rgb, mirror: 0.5, flip: 0.5, rotation: 180, colour: 0.2}``.
    """

    size: int = Field(112, ge=32, le=1024)
    """Pixels of both sides of the two large crops."""
    scale: Range = (0.3, 1.0)
    """Share of the film's area that a large crop shows."""
    local_crops: int = Field(4, ge=0, le=16)
    """Small crops beside them, whose views predict the large ones' clusters (`swav` only)."""
    local_size: int = Field(64, ge=32, le=512)
    local_scale: Range = (0.05, 0.3)
    gamma: float = Field(1.6, ge=1)
    """Exposure: grey to the power of 1/gamma to gamma."""
    contrast: float = Field(1.5, ge=1)
    """By a factor of 1/contrast to contrast about the mean."""
    brightness: float = Field(0.15, ge=0, le=1)
    noise: float = Field(0.03, ge=0, le=1)
    """Standard deviation of grain, at most, of a range of 1."""
    blur: float = Field(0.01, ge=0, le=0.2)
    """Standard deviation of a blur, at most, as a share of the crop's side."""
    rotation: float = Field(8.0, ge=0, le=180)
    """Degrees, at most, to either side."""
    mirror: float = Field(0.0, ge=0, le=1)
    """Probability of a mirror image. 0 for radiographs: their heart is on one side."""
    flip: float = Field(0.0, ge=0, le=1)
    """Probability of turning upside down."""
    channels: Literal["grey", "rgb"] = "grey"
    colour: float = Field(0.0, ge=0, le=1)
    """Of `rgb`: each channel by a factor of 1 − colour to 1 + colour."""

    @model_validator(mode="after")
    def _fits(self) -> ViewsConfig:
        for name in ("scale", "local_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name}: expected two shares, 0 < low <= high <= 1, found [{low:g}, {high:g}]")
        if self.colour and self.channels == "grey":
            raise ValueError("colour: grey films have none; set channels: rgb")
        return self


class PretrainOptimConfig(_Strict):
    """How long and how fast; the learning rate warms up linearly, then falls as a cosine to 1% of itself."""

    steps: int = Field(2000, ge=1)
    batch_size: int = Field(64, ge=2)
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(100, ge=0)
    gradient_clip: float = Field(5.0, gt=0)
    checkpoint_every: int = Field(200, ge=1)
    readers: int = Field(0, ge=0, le=64)
    """Threads that read the films of the next step while this one is computed; 0 reads when it is its turn."""


class SwavConfig(_Strict):
    """Clustering of features (Caron et al., NeurIPS 2020; Ghesu et al. 2022); values are the authors' unless said otherwise."""

    prototypes: int = Field(128, ge=2)
    """3000 in the paper, for a million images."""
    temperature: float = Field(0.1, gt=0)
    epsilon: float = Field(0.05, ge=0.02)
    """Of Sinkhorn-Knopp: the smaller, the harder the assignments; below 0.02 exp(1/epsilon) overflows."""
    iterations: int = Field(3, ge=1)
    frozen_steps: int = Field(50, ge=0)
    """Steps before prototypes move."""
    queue: int = Field(512, ge=0)
    """Embeddings of late batches, of each large crop, that are assigned with the batch if it is smaller than `prototypes`."""
    queue_start: int = Field(200, ge=0)


class DenseClConfig(_Strict):
    """Contrast of whole films and of places on them (Wang et al., CVPR 2021)."""

    temperature: float = Field(0.2, gt=0)
    queue: int = Field(2048, ge=16)
    """Negatives; 65,536 in the paper."""
    dense_weight: float = Field(0.5, ge=0, le=1)
    momentum: float = Field(0.99, ge=0, lt=1)
    """Of the averaged network that gives the keys; 0.999 in the paper, for long runs."""


class ByolConfig(_Strict):
    """Prediction of an averaged network's view, without negatives (Grill et al., NeurIPS 2020)."""

    momentum: float = Field(0.99, ge=0, lt=1)
    """Rises to 1 as a cosine, as in the paper."""
    hidden: int = Field(512, ge=8)
    """Of the predictor."""


class MonitorConfig(_Strict):
    """Watching for collapse (see `neurosym.learning.pretrain_monitor`)."""

    every: int = Field(100, ge=0)
    """Steps; 0 never looks."""
    films: int = Field(256, ge=8)
    """Films of the pool that it looks at, always the same."""
    start: int = Field(200, ge=0)
    """Steps before it warns: embeddings of an untrained network are all alike."""
    min_rank: float = Field(4.0, ge=1)
    """Effective rank of the embeddings below which it warns."""
    min_std: float = Field(0.1, ge=0)
    """Standard deviation of the embeddings' channels below which it warns; 1 if they are spread evenly."""
    min_used: float = Field(0.05, ge=0, le=1)
    """Share of prototypes in use below which it warns."""


class ProbeConfig(_Strict):
    """What the features are worth: films with labels in a CSV file, classified while training goes on.

    A share of the patients is held out: their films test the probe, and are excluded from the pool by themselves.
    """

    table: DataPath
    images: DataPath
    file_column: str = "file_name"
    label_column: str
    patient_column: str = ""
    """"" takes each file for a patient of its own."""
    patient_pattern: str = ""
    """A regular expression: which part of the column tells the patient; "" for all of it."""
    test: float = Field(0.25, gt=0, lt=1)
    """Share of the patients that is held out, drawn by a hash of who they are."""
    films: int = Field(600, ge=8)
    """Films of either part that are used at most, drawn by the run's seed."""
    every: int = Field(500, ge=1)
    """Steps."""
    neighbours: int = Field(20, ge=1)
    size: int = Field(112, ge=32, le=1024)
    """Pixels of both sides that films are scaled to."""


class ExportConfig(_Strict):
    """The last step: statistics of batch normalisation, which detectors keep frozen, are measured on whole films."""

    films: int = Field(512, ge=0)
    """How many; 0 keeps those of the crops."""
    size: int = Field(256, ge=32, le=2048)
    """Pixels of both sides that they are scaled to; `model.image_size` of the detector."""


class PretrainConfig(_Strict):
    """Everything a pretraining depends on."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(0, ge=0)
    base: Annotated[Path, AfterValidator(Path.absolute)] = Path()
    """The folder that relative paths start from; `load_pretrain_config` sets it to the config file's own."""
    images: tuple[FilmSource, ...] = Field(min_length=1)
    exclude: tuple[FilmSource, ...] = ()
    """Films that must not be seen, such as those of test splits: recognised by their content."""
    on_unreadable: Literal["skip", "stop"] = "skip"
    """A film that cannot be read is skipped, counted and listed in ``skipped.txt``; or training stops."""
    method: Method = "swav"
    backbone: Backbone = "lite0"
    pretrained: bool = True
    """Of `lite0`: start from the ImageNet weights, unless there are `weights`."""
    weights: str = ""
    """A safetensors file of the backbone's weights to start from, relative to the config file."""
    hidden: int = Field(512, ge=8)
    """Of the projection head, which is thrown away."""
    embedding: int = Field(128, ge=2)
    views: ViewsConfig = ViewsConfig()
    train: PretrainOptimConfig = PretrainOptimConfig()
    swav: SwavConfig = SwavConfig()
    densecl: DenseClConfig = DenseClConfig()
    byol: ByolConfig = ByolConfig()
    monitor: MonitorConfig = MonitorConfig()
    probe: ProbeConfig | None = None
    export: ExportConfig = ExportConfig()

    @property
    def local_crops(self) -> int:
        """Small crops of a film; methods that compare two views have none."""
        return self.views.local_crops if self.method == "swav" else 0


def load_pretrain_config(path: str | Path, overrides: Sequence[str] = ()) -> PretrainConfig:
    """Read a YAML config of a pretraining, with ``key.sub=value`` overrides.

    Raises:
        ConfigError: every mistake of the file at once.
    """
    return load_settings(PretrainConfig, path, overrides)
