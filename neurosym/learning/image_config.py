"""A training run of a film classifier, as written in a YAML file (see `neurosym.learning.image_classifier`); no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from neurosym.data.config import DataPath
from neurosym.data.yaml_text import parse_yaml
from neurosym.learning.comatch_config import CoMatchConfig
from neurosym.learning.config_file import load_settings
from neurosym.models.config import Backbone

Method = Literal["supervised", "fixmatch", "comatch"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageDataConfig(_Strict):
    """Films in a CSV file (`neurosym.data.image_labels`), split by patient; few of the training films keep their labels."""

    table: DataPath
    images: DataPath
    file_column: str = "file_name"
    patient_column: str
    patient_pattern: str = ""
    """A regular expression: which part of the column tells the patient; "" for all of it."""
    classes: tuple[str, ...] = Field(min_length=2)
    """Classes of the ontology that films are told apart by, none above another; films of neither are left out."""
    test: float = Field(0.25, gt=0, lt=1)
    """Share of the patients whose films are the test set."""
    val: float = Field(0.15, gt=0, lt=1)
    per_class: int = Field(10, ge=1)
    """Training films of each class that keep their label, drawn by the run's seed."""
    unlabelled: int | None = Field(None, ge=1)
    """Other training films that are used at most, drawn by the run's seed."""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> ImageDataConfig:
        if self.test + self.val >= 1:
            raise ValueError(f"test and val take {self.test + self.val:g} of the patients; leave some to train on")
        return self


class ClassifierConfig(_Strict):
    """The network (see `neurosym.models.film_classifier`)."""

    backbone: Backbone = "lite0"
    pretrained: bool = True
    """Of `lite0`: start from the ImageNet weights."""
    weights: str = ""
    """A safetensors file to start from, relative to the config file: a pretrained trunk, or a torchvision ResNet."""
    image_size: int = Field(96, ge=32, le=1024)
    """Pixels of both sides that films are scaled to."""
    embedding: int = Field(64, ge=2)
    """Channels of the embedding (64; 128 for ImageNet)."""


class ImageOptimConfig(_Strict):
    """How long and how fast; the learning rate warms up linearly, then falls as a cosine to 1% of itself."""

    passes: int = Field(40_000, ge=1)
    """What the run may cost, in films: a forward pass is 1, with its backward pass 3. Methods with the same passes cost the
    same; how many steps that is depends on the method."""
    batch_size: int = Field(12, ge=1)
    unlabelled_ratio: int = Field(3, ge=1)
    """μ: unlabelled films to one labelled (7; 5)."""
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the steps."""
    gradient_clip: float = Field(5.0, gt=0)
    ema: float = Field(0.98, ge=0, lt=1)
    """Decay of the weight average that is evaluated."""
    checkpoint_every: int = Field(100, ge=1)


class ImageTrainConfig(_Strict):
    """Everything that a classifier's run depends on."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    seed: int = 0
    threads: int = Field(0, ge=0)
    base: Annotated[Path, AfterValidator(Path.absolute)] = Path()
    """The folder that relative paths start from; `load_image_config` sets it to the config file's own."""
    knowledge: tuple[DataPath, ...]
    method: Method = "comatch"
    """`supervised`: the labelled films alone. `fixmatch` (Sohn et al., NeurIPS 2020): also sure pseudo-labels. `comatch`: also
    the graphs of pseudo-labels and embeddings."""
    align: bool = True
    """Divide pseudo-labels by their mean of late (distribution alignment), with both methods."""
    data: ImageDataConfig
    model: ClassifierConfig = ClassifierConfig()
    train: ImageOptimConfig = ImageOptimConfig()
    comatch: CoMatchConfig = CoMatchConfig()
    """`class_weight` and `confidence` are also FixMatch's."""

    @property
    def passes_a_step(self) -> int:
        """The cost of a step, in films."""
        labelled = 3 * self.train.batch_size
        views = {"supervised": 0, "fixmatch": 1 + 3, "comatch": 1 + 3 + 3}[self.method]
        return labelled + views * self.train.unlabelled_ratio * self.train.batch_size

    @property
    def steps(self) -> int:
        """The steps that the passes allow."""
        return max(1, self.train.passes // self.passes_a_step)


_OF_FILMS: Final = frozenset(ImageDataConfig.model_fields) - {"images", "test", "val", "unlabelled"}
"""Settings of `data` that no detector has."""


def is_film_config(path: str | Path) -> bool:
    """Whether a config file is that of a film classifier, whose data are a table of films; False if it cannot be read."""
    try:
        values = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    data = values.get("data") if isinstance(values, dict) else None
    return isinstance(data, dict) and "format" not in data and not _OF_FILMS.isdisjoint(data)


def load_image_config(path: str | Path, overrides: Sequence[str] = ()) -> ImageTrainConfig:
    """Read a YAML config of a classifier's run, with ``key.sub=value`` overrides.

    Raises:
        ConfigError: every mistake of the file at once.
    """
    return load_settings(ImageTrainConfig, path, overrides)
