"""A run folder, opened again: its config and its knowledge; no torch here, so that a rule reviewer can open it too."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from neurosym.data.config import Split, open_split
from neurosym.data.yaml_text import parse_yaml
from neurosym.errors import ConfigError, Problem, TrainingError, did_you_mean, short_path
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.learning.config import TrainConfig
from neurosym.learning.image_config import is_film_config
from neurosym.records import Run, Sample

SPLITS: tuple[Split, ...] = ("train", "val", "test", "unlabelled")


log = logging.getLogger(__name__)


def copy_of(run: Path, file: Path) -> Path:
    """Where a run keeps the knowledge file that it was trained with."""
    return run / "knowledge" / f"{file.parent.name}-{file.name}"


@dataclass(frozen=True)
class OpenRun:
    """What a run was made from: `names` are the detector's classes, label i + 1 is ``names[i]``."""

    path: Path
    config: TrainConfig
    names: tuple[str, ...]
    knowledge: Knowledge

    def images(self, split: str) -> Sequence[Sample]:
        """The images of one split of the run's data.

        Raises:
            ConfigError: there is no such split. DataError: its files are missing or wrong.
        """
        for known in SPLITS:
            if known == split:
                return open_split(self.config.data, known, self.config.base, self.knowledge)
        raise ConfigError(f"unknown split {split!r}; {did_you_mean(split, SPLITS)}")

    @property
    def categories(self) -> dict[str, str]:
        """What each class of the run is called in its data."""
        ties = self.knowledge.ontology.categories
        names = [*(self.config.data.categories or ()), *sorted(ties)]
        return {n: next((c for c in names if ties.get(c) == n), n) for n in self.names}

    def require_one_class(self, stage: str) -> None:
        """Refuse a stage that takes each detection for an object of its own.

        Raises:
            ConfigError: the run's boxes have several labels.
        """
        if self.config.model.multi_label:
            message = f"{stage} is of objects of one class; the boxes of this run have several labels"
            cure = "`neurosym evaluate` tells which rules they break"
            raise ConfigError(Problem(message, short_path(self.path / "config.yaml"), cure=cure))

    def image_folder(self, split: str) -> Path | None:
        """The folder that the split's file names are relative to, None for images that are not on disk."""
        folder = getattr(getattr(self.config.data, split, None), "images", None)
        return None if folder is None else self.config.base / folder


def open_run(path: str | Path | Run) -> OpenRun:
    """Read a run's config and knowledge; knowledge files that changed since training are named in a warning.

    Raises:
        TrainingError: the folder holds no run, or one of a film classifier.
    """
    path = path.path if isinstance(path, Run) else Path(path)
    if is_film_config(path / "config.yaml"):
        cure = "score it with `neurosym evaluate`, or name the run of a detector"
        raise TrainingError(Problem("the run of a film classifier has no detections", short_path(path), cure=cure))
    try:
        values = parse_yaml((path / "config.yaml").read_text(encoding="utf-8"))
        names = values.pop("names")
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or len({*names}) < len(names):
            raise ValueError("names are no list of different classes")
        config = TrainConfig.model_validate(values)
    except (OSError, yaml.YAMLError, KeyError, AttributeError, TypeError, ValueError) as error:
        cure = "name a folder that `neurosym train` has written"
        if (path / "config.yaml").is_file():
            cure += "; the config.yaml there is damaged, or of something else"
        raise TrainingError(Problem("not a run folder", short_path(path), cure=cure)) from error
    knowledge = load_knowledge((config.base / p for p in config.knowledge), config.reason)
    for file in knowledge.files:
        copy = copy_of(path, file)
        if copy.is_file() and copy.read_bytes() != file.read_bytes():
            log.warning("%s has changed since the run was trained; what it was then is in %s", short_path(file), copy)
    return OpenRun(path, config, tuple(names), knowledge)
