"""`pretrain`: films without labels → the weights of a backbone (self-supervised learning).

Ghesu et al. 2022 ("Self-supervised learning from 100 million medical images") learn features by contrast and online
clustering of films; `method: swav` is that clustering, with views made for radiographs; `densecl` and `byol` stand beside
it (`neurosym.learning.pretrain_methods`).

The folder holds ``config.yaml`` (resolved), ``pool.json`` (how many films, how many were excluded), ``skipped.txt`` (films
that could not be read), ``log.jsonl`` (a line a step), TensorBoard events, ``checkpoints/``, and at the end
``backbone.safetensors`` with its model card ``README.md``. The same config and seed give the same weights on a CPU; an
interrupted run is resumed from its last checkpoint and ends the same.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from neurosym.data.yaml_text import parse_yaml
from neurosym.errors import ConfigError, DataError, TrainingError
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from neurosym.learning.forecast import spoken
from neurosym.learning.optimisation import cosine_rate, pick_device
from neurosym.learning.pretrain_card import model_card
from neurosym.learning.pretrain_config import PretrainConfig
from neurosym.learning.pretrain_films import PoolReader
from neurosym.learning.pretrain_methods import Swav, build_method
from neurosym.learning.pretrain_monitor import CollapseAlarm, figures
from neurosym.learning.pretrain_probe import Probe, accuracies, open_probe
from neurosym.learning.pretrain_views import as_picture, crops_of, whole
from neurosym.learning.resuming import logged_steps
from neurosym.models.backbone_weights import save_backbone
from neurosym.models.pretrain_network import measure_norms
from neurosym.records import Run

log = logging.getLogger(__name__)
WEIGHTS = "backbone.safetensors"
Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step with (steps done, steps in all, figures)."""
_MAY_CHANGE: Final = frozenset({"device", "threads", "base", "on_unreadable"})
_MAY_CHANGE_IN_TRAIN: Final = frozenset({"steps", "checkpoint_every", "readers"})
_FORECAST_AFTER = 6
"""Steps; the first one makes what is made once, and does not count."""
_LOOK_AT = 32
"""Films that go through the network together when nothing is learned."""
_VIEWS, _MONITOR, _NORMS = 3, 5, 7
"""Streams of random numbers."""


def pretrain(config: PretrainConfig, out: str | Path, resume: bool = False, progress: Progress | None = None) -> Run:
    """Pretrain a backbone; `out` must not hold a run unless it is resumed.

    Raises:
        ConfigError: what is wrong with the config, or with resuming.
        DataError: a source or label table is missing or wrong, or an unreadable film is to stop the run.
        TrainingError: a loss that is not finite (the last good checkpoint stays); a checkpoint that cannot be read.
    """
    out = Path(out)
    checkpoint = latest_checkpoint(out / "checkpoints")
    if checkpoint is not None and not resume:
        raise ConfigError(f"{out} holds a run already; pass --resume to go on with it, or another --out")
    if checkpoint is not None:
        _require_same(config, out)
    trainer = Pretrainer(config, out, checkpoint is not None)
    try:
        if checkpoint is not None:
            trainer.load(load_checkpoint(checkpoint))
        return trainer.run(progress)
    finally:
        trainer.reader.close()


def _require_same(config: PretrainConfig, out: Path) -> None:
    """Refuse to resume a run with other settings."""
    try:
        values = parse_yaml((out / "config.yaml").read_text(encoding="utf-8"))
        before = PretrainConfig.model_validate(values).model_dump(mode="json")
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise TrainingError(f"{out} cannot be resumed, config.yaml is missing or damaged: {error}") from error
    now = config.model_dump(mode="json")
    changed = [k for k in sorted(now.keys() - _MAY_CHANGE - {"train"}) if before[k] != now[k]]
    fixed = sorted(now["train"].keys() - _MAY_CHANGE_IN_TRAIN)
    changed += [f"train.{k}" for k in fixed if before["train"][k] != now["train"][k]]
    if changed:
        what = ", ".join(changed)
        raise ConfigError(f"{out} was pretrained with other settings of {what}; restore them, or use another --out")


class Pretrainer:
    """A pretraining on its way; `step` counts the steps done."""

    def __init__(self, config: PretrainConfig, out: Path, resumed: bool = False) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out, self.step = config, out, 0
        self.device = pick_device(config)
        self.probe: Probe | None = open_probe(config.probe, config.base, config.seed) if config.probe else None
        self.reader = PoolReader(config, self.probe, out / "skipped.txt", resumed)
        if len(self.reader.pool) < 2:
            raise DataError("a single film is left to pretrain on; there is nothing to tell it from")
        self.method = build_method(config).to(self.device)
        optim = config.train
        parameters = [p for p in self.method.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optim.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},  # norms and biases
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=optim.lr)
        self.alarm = CollapseAlarm(config.monitor, config.method)
        self.last: dict[str, float] = {}
        """The newest of every figure."""

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self, progress: Progress | None) -> Run:
        """All steps that are left, then the weights and their card."""
        self._prepare()
        steps, every = self.config.train.steps, self.config.train.checkpoint_every
        writer = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.step + 1)
        forecast = _Forecast(self.config, self.step)
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as lines:
            if self.step == 0:  # what later figures are to be held against
                self._note(lines, writer, self._looked_at(forecast))
            while self.step < steps:
                started = time.perf_counter()
                terms = self.train_step()
                terms["seconds"] = time.perf_counter() - started
                forecast.add(terms["seconds"])
                if forecast.steps == _FORECAST_AFTER:
                    log.info(forecast.text())
                terms |= self._looked_at(forecast)
                self._note(lines, writer, terms)
                if self.step % every == 0 or self.step == steps:
                    self._save()
                if progress is not None:
                    progress(self.step, steps, terms | {"films_per_second": forecast.films_per_second})
        writer.close()
        self._export()
        return Run(self.out, self.step, dict(self.last))

    def _prepare(self) -> None:
        """Write down what the run is made of; refuse to go on with another pool."""
        pool = {
            "films": len(self.reader.pool),
            "excluded": self.reader.excluded,
            "digest": self.reader.pool.digest(),
        }
        path = self.out / "pool.json"
        if self.step and path.is_file() and json.loads(path.read_text(encoding="utf-8")) != pool:
            raise ConfigError(f"{self.out}: the pool has other films than when the run began; use another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        resolved = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
        write_text_atomically(self.out / "config.yaml", resolved)
        write_text_atomically(path, json.dumps(pool, indent=1) + "\n")
        log_file = self.out / "log.jsonl"
        kept = logged_steps(log_file, self.step) if self.step and log_file.is_file() else []
        for _, told in kept:
            self.last |= {k: v for k, v in told.items() if k not in ("step", "seconds")}
        write_text_atomically(log_file, "".join(line for line, _ in kept))

    def _note(self, lines: Any, writer: SummaryWriter, terms: dict[str, float]) -> None:
        """A line in the log, points in TensorBoard."""
        self.last |= {k: v for k, v in terms.items() if k != "seconds"}
        lines.write(json.dumps({"step": self.step} | {k: round(v, 5) for k, v in terms.items()}) + "\n")
        lines.flush()
        for key, value in terms.items():
            writer.add_scalar(f"pretrain/{key}", value, self.step)

    # --- one step -----------------------------------------------------------------------------------------------------

    def train_step(self) -> dict[str, float]:
        """One step of learning; returns its loss."""
        optim, rng = self.config.train, np.random.default_rng([self.config.seed, self.step, _VIEWS])
        pictures = self.reader.batch(self.step)
        views = crops_of(pictures, self.config.views, self.config.local_crops, rng)
        self.method.train()
        loss = self.method.loss([v.to(self.device) for v in views], self.step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"step {self.step + 1}: the loss is not finite ({value}); lower train.lr")
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(optim.lr, self.step, optim.steps, optim.warmup_steps)
        loss.backward()  # type: ignore[no-untyped-call]
        if isinstance(self.method, Swav) and self.step < self.config.swav.frozen_steps:
            for parameter in self.method.frozen:
                parameter.grad = None
        norm = torch.nn.utils.clip_grad_norm_(self.method.parameters(), optim.gradient_clip)
        if not math.isfinite(float(norm)):
            raise TrainingError(f"step {self.step + 1}: the gradient is not finite; lower train.lr")
        self.optimizer.step()
        self.optimizer.zero_grad()  # at once, so that gradients take no memory while the next step's loss is computed
        self.method.after_step(self.step)
        self.step += 1
        return {"loss": value}

    # --- looking at it ------------------------------------------------------------------------------------------------

    def _looked_at(self, forecast: _Forecast) -> dict[str, float]:
        """Figures of the monitor and of the probe, where it is time for them."""
        found: dict[str, float] = {}
        every, last = self.config.monitor.every, self.step == self.config.train.steps
        started = time.perf_counter()
        if every and (self.step % every == 0 or last):
            found |= self.monitor()
            self.alarm.check(self.step, found)
            forecast.monitor = time.perf_counter() - started
        started = time.perf_counter()
        if self.config.probe is not None and (self.step % self.config.probe.every == 0 or last):
            found |= self.probed()
            forecast.probe = time.perf_counter() - started
        return found

    @torch.no_grad()
    def monitor(self) -> dict[str, float]:
        """Figures that tell a collapse, of the same films each time."""
        pictures = self.reader.some(self.config.monitor.films, _MONITOR)
        features = self._features(pictures, self.config.views.size)
        embeddings = torch.nn.functional.normalize(self.method.network.projector(features), dim=1)
        scores = self.method.scores(embeddings)
        return figures(embeddings.cpu(), features.cpu(), None if scores is None else scores.cpu())

    @torch.no_grad()
    def probed(self) -> dict[str, float]:
        """What the features are worth on labelled films that were held out."""
        assert self.probe is not None
        assert self.config.probe is not None
        size, parts = self.config.probe.size, []
        for part in (self.probe.train, self.probe.test):
            pictures = (as_picture(film.read(), self.config.views.channels) for film, _ in part)
            parts.append((self._features(pictures, size).cpu(), torch.tensor([label for _, label in part])))
        return accuracies(parts[0], parts[1], len(self.probe.names), self.config.probe.neighbours)

    def _features(self, pictures: Iterable[Image.Image], size: int) -> Tensor:
        self.method.eval()
        found = [self.method.network.pooled(films) for films in self._whole(pictures, size)]
        return torch.cat(found)

    def _whole(self, pictures: Iterable[Image.Image], size: int) -> Iterator[Tensor]:
        """Batches of whole films on the device."""
        waiting: list[Image.Image] = []
        for picture in pictures:
            waiting.append(picture)
            if len(waiting) == _LOOK_AT:
                yield whole(waiting, size).to(self.device)
                waiting = []
        if waiting:
            yield whole(waiting, size).to(self.device)

    # --- state and result ---------------------------------------------------------------------------------------------

    def _save(self) -> None:
        weights, optimizer = self.method.state_dict(), self.optimizer.state_dict()
        state = Checkpoint(self.step, weights, {}, optimizer, (torch.get_rng_state(),))
        save_checkpoint(self.out / "checkpoints", state, {"name": self.config.name, "seed": self.config.seed})

    def load(self, state: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            TrainingError: it is of another network.
        """
        try:
            self.method.load_state_dict(state.model)
            self.optimizer.load_state_dict(state.optimizer)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(f"{self.out}: the checkpoint is of another model; use another --out") from error
        torch.set_rng_state(state.random[0])
        self.step = state.step
        if self.device.type == "cuda":  # whose own state is not kept: no draw of an earlier step comes again
            torch.cuda.manual_seed(int(np.random.default_rng([self.config.seed, self.step]).integers(2**31)))

    def _export(self) -> None:
        """The weights, normed on whole films, and their card."""
        own = self.config.export
        if own.films:
            measure_norms(self.method.network, self._whole(self.reader.some(own.films, _NORMS), own.size))
        if self.reader.skipped:
            log.warning("%d films could not be read; see %s", len(self.reader.skipped), self.reader.list_in)
        pool = (len(self.reader.pool), self.reader.excluded, len(self.reader.skipped))
        write_text_atomically(self.out / "README.md", model_card(self.config, self.step, pool, self.last))
        facts = {"method": self.config.method, "steps": str(self.step), "name": self.config.name}
        save_backbone(self.out / WEIGHTS, self.method.network.trunk, self.config.backbone, facts)


class _Forecast:
    """How fast it goes and how long it will take, from the first steps of this session."""

    def __init__(self, config: PretrainConfig, step: int) -> None:
        self.config, self.began = config, step
        self.steps, self.seconds = 0, 0.0
        self.monitor = self.probe = 0.0

    def add(self, seconds: float) -> None:
        self.steps += 1
        if self.steps > 1:
            self.seconds += seconds

    @property
    def films_per_second(self) -> float:
        return self.config.train.batch_size * (self.steps - 1) / self.seconds if self.seconds else 0.0

    def text(self) -> str:
        config, left = self.config, self.config.train.steps - self.began
        looks = left / config.monitor.every * self.monitor if config.monitor.every else 0.0
        looks += left / config.probe.every * self.probe if config.probe else 0.0
        total = left * config.train.batch_size / self.films_per_second + looks
        return (
            f"forecast: {self.films_per_second:.1f} films/s; {left} steps of {config.train.batch_size} films will take about "
            f"{spoken(total)}, of which {looks:.0f} s for monitor and probe"
        )
