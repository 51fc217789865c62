"""A schedule: pretraining, bridge, weak supervision … as stages of one config, each resumable, each with what it gained.

    name: hybrid
    pretrain: {…}              # settings of `neurosym pretrain`, without a name; optional
    train: {…}                 # settings of `neurosym train`, without a name: what all stages share
    stages:
      - {name: bridge, set: [teacher.weight=1.0]}
      - {name: weak, set: [weak.weight=1.0, train.steps=600]}
    validate: val

A stage is a run of its own in a folder of the schedule's: it has the shared settings with its own laid over them, and starts
from the averaged weights of the stage before; the first one from the pretrained backbone. What a stage is worth is its gain on
validation films over the stage before, beside what it cost (``contributions.json``). A gain holds for this order of the stages;
that is what a schedule can know without running each stage alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from neurosym.data.yaml_text import parse_yaml
from neurosym.errors import ConfigError, Problem, short_path
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.config import TrainConfig
from neurosym.learning.config_file import checked, load_settings, override_setting
from neurosym.learning.forecast import steps_done
from neurosym.learning.pretrain_config import PretrainConfig
from neurosym.learning.resuming import logged_steps

PRETRAIN = "pretrain"
Tell = Callable[[str, int, int, str], None]
"""Called with (stage, steps done, steps in all, a note)."""


class StageConfig(BaseModel):
    """One stage: its name, which is that of its folder, and its own settings, written as ``key.sub=value``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    set: tuple[str, ...] = ()


class ScheduleConfig(BaseModel):
    """Everything that a schedule depends on; `train` and `pretrain` are checked as soon as the stages are made of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    base: Annotated[Path, AfterValidator(Path.absolute)] = Path()
    pretrain: dict[str, Any] | None = None
    train: dict[str, Any]
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    validate_on: str = Field("val", alias="validate")
    """The split that a stage's contribution is measured on; "" for none."""

    @model_validator(mode="after")
    def _names_differ(self) -> ScheduleConfig:
        names = [s.name for s in self.stages]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"stages: two are called {twice[0]!r}; give each a name of its own")
        if PRETRAIN in names:
            raise ValueError(f"stages: {PRETRAIN!r} is the name of the pretraining; call the stage otherwise")
        for key in ("name", "initial"):
            if key in self.train:
                raise ValueError(f"train.{key}: a schedule sets it by itself; leave it out")
        return self


@dataclass(frozen=True)
class Contribution:
    """What a stage reached on validation films, what it gained over the one before (None for the first) and what it cost."""

    stage: str
    ap: float | None
    ap50: float | None
    gain_ap: float | None
    gain_ap50: float | None
    steps: int
    seconds: float


def is_schedule(path: str | Path) -> bool:
    """Whether a config file is that of a schedule; False if it cannot be read, which its reader will tell better."""
    try:
        values = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(values, dict) and "stages" in values


def load_schedule(path: str | Path, overrides: Sequence[str] = ()) -> Schedule:
    """Read a schedule and check all its stages.

    Raises:
        ConfigError: every mistake of the first part that has some, with file and key.
    """
    config = load_settings(ScheduleConfig, path, overrides)
    return Schedule.of(config, Path(path).read_text(encoding="utf-8"), short_path(path))


@dataclass(frozen=True)
class Schedule:
    """A checked schedule; `stages` have no `initial` and no pretrained weights yet, for these depend on the folder."""

    config: ScheduleConfig
    pretrain: PretrainConfig | None
    stages: tuple[TrainConfig, ...]

    @classmethod
    def of(cls, config: ScheduleConfig, text: str = "", shown: str = "") -> Schedule:
        """Check the stages; `text` and `shown` are of the file that the config is from."""
        pretrain = None
        if config.pretrain is not None:
            values = {"name": f"{config.name}-{PRETRAIN}", "base": config.base} | config.pretrain
            pretrain = checked(PretrainConfig, values, text, shown)
        stages = tuple(cls._stage(config, stage, text, shown) for stage in config.stages)
        backbone = stages[0].model.backbone
        if pretrain is not None and pretrain.backbone != backbone:
            message = f"pretrain.backbone: {pretrain.backbone}, but the stages train a {backbone}"
            raise ConfigError(Problem(message, shown, cure="name the same backbone in both"))
        return cls(config, pretrain, stages)

    @staticmethod
    def _stage(config: ScheduleConfig, stage: StageConfig, text: str, shown: str) -> TrainConfig:
        values: dict[str, Any] = deepcopy(dict(config.train))
        for override in stage.set:
            override_setting(values, override)
        try:
            return checked(
                TrainConfig, {"base": config.base, **values, "name": f"{config.name}-{stage.name}"}, text, shown
            )
        except ConfigError as error:
            raise ConfigError([_of_stage(p, stage.name) for p in error.problems]) from error

    def run(self, out: Path, tell: Tell | None = None) -> list[Contribution]:
        """Run all stages, or what of them is left, and write ``contributions.json`` after each.

        A stage that is finished is not run again, one that was interrupted goes on from its last checkpoint.
        """
        from neurosym.learning.train import train  # torch only when it runs

        file = out / "contributions.json"
        known, found = _known(file), list[Contribution]()
        initial, weights = "", self._pretrained(out, tell)
        for stage, config in zip(self.config.stages, self.stages, strict=True):
            folder = out / stage.name
            model = config.model
            if weights is not None:  # of all stages: a backbone with weights of its own keeps its norms as they are
                model = model.model_copy(update={"weights": str(weights.resolve())})
            steps = config.train.steps
            run = config.model_copy(update={"initial": initial, "model": model})
            done = steps_done(folder)
            if done < steps:
                train(run, folder, done > 0, _teller(tell, stage.name))
            initial = str(folder.resolve())
            before = found[-1] if found else None
            own = known.get(stage.name)
            found.append(own if own is not None and done == steps else self._contribution(stage.name, folder, before))
            write_text_atomically(file, json.dumps([asdict(c) for c in found], indent=1) + "\n")
        return found

    def _pretrained(self, out: Path, tell: Tell | None) -> Path | None:
        if self.pretrain is None:
            return None
        from neurosym.learning.pretrain import pretrain

        weights = out / PRETRAIN / "backbone.safetensors"
        if not weights.is_file():
            resume = (out / PRETRAIN / "checkpoints").is_dir()
            pretrain(self.pretrain, out / PRETRAIN, resume, _teller(tell, PRETRAIN))
        return weights

    def _contribution(self, stage: str, folder: Path, last: Contribution | None) -> Contribution:
        lines = logged_steps(folder / "log.jsonl", steps_done(folder))
        seconds = round(sum(told["seconds"] for _, told in lines), 1)
        if not self.config.validate_on:
            return Contribution(stage, None, None, None, None, len(lines), seconds)
        ap, ap50 = (round(score, 4) for score in _scores(folder, self.config.validate_on))
        gain = None if last is None or last.ap is None else round(ap - last.ap, 4)
        gain50 = None if last is None or last.ap50 is None else round(ap50 - last.ap50, 4)
        return Contribution(stage, ap, ap50, gain, gain50, len(lines), seconds)


def _scores(folder: Path, split: str) -> tuple[float, float]:
    """AP and AP50 of a run on a split."""
    from neurosym.learning.evaluate import evaluate_scenes, scenes_to_score
    from neurosym.learning.predict import predict
    from neurosym.learning.run_constraints import constraints_of
    from neurosym.learning.runfolder import open_run

    run = open_run(folder)
    images = run.images(split)
    true = scenes_to_score(images, run.names)
    result = evaluate_scenes(predict(run, images), true, run.names, constraints_of(run))
    return result.ap, result.ap50


def _teller(tell: Tell | None, stage: str) -> Callable[[int, int, dict[str, float]], None] | None:
    if tell is None:
        return None
    return lambda done, total, terms: tell(stage, done, total, f"loss {terms['loss']:.3f}")


def _known(path: Path) -> dict[str, Contribution]:
    if not path.is_file():
        return {}
    try:
        return {c["stage"]: Contribution(**c) for c in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError) as error:
        cure = "delete it; what the finished stages gained is then measured again"
        raise ConfigError(Problem(f"cannot be read: {error}", short_path(path), cure=cure)) from error


def _of_stage(problem: Problem, stage: str) -> Problem:
    return Problem(f"stage {stage!r}: {problem.message}", problem.file, problem.line, problem.column, cure=problem.cure)
