"""`train`: a config → a run folder.

A step learns from labelled images; once the teacher has started, also from what it says of unlabelled ones; and, where the
config asks for it, from what knowledge says of both (`neurosym.learning.guidance`). What else knowledge needs of the labelled
images is learned before the last checkpoint is written.

The folder holds ``config.yaml`` (resolved), ``knowledge/`` (copies of the files), ``checkpoints/``, ``log.jsonl`` (a line a
step) and TensorBoard events. The same config and seed give the same weights on a CPU; an interrupted run is resumed from its
last checkpoint and ends the same. Several processes share the work as `neurosym.learning.distribution` says; the first of them
alone writes.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import numpy as np
import torch
import yaml
from torch import Tensor

from neurosym.data.config import class_names, open_split
from neurosym.data.degrade import DegradedSamples
from neurosym.data.unread import unread
from neurosym.errors import ConfigError, TrainingError
from neurosym.knowledge import load_knowledge
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from neurosym.learning.config import TrainConfig
from neurosym.learning.distribution import ALONE, World, joined
from neurosym.learning.film_reader import SKIPPED, list_skipped
from neurosym.learning.idle_settings import idle_settings
from neurosym.learning.learner import Learner
from neurosym.learning.optimisation import cosine_rate, update_average
from neurosym.learning.resuming import logged_steps, require_same_run
from neurosym.learning.runfolder import copy_of
from neurosym.learning.train_log import TrainLog
from neurosym.learning.weak_supervision import check_supervision
from neurosym.records import Run, Sample

log = logging.getLogger(__name__)
OVERFLOWS: Final = 30
"""Steps in a row that may be left out with 16 bits: from 2¹⁶ on, the scale of the loss is halved at each."""
_COUNTED: Final = 1000
"""Images whose worse annotations are counted at the start; coarse masks take milliseconds each."""
Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step with (steps done, steps in all, loss terms)."""


def train(config: TrainConfig, out: str | Path, resume: bool = False, progress: Progress | None = None) -> Run:
    """Train a detector under constraints, together with the other processes that torchrun may have started.

    Args:
        config: see `neurosym.learning.config.load_config`.
        out: the run folder.
        resume: go on from the last checkpoint in `out`; without it `out` must not hold a run.
        progress: called after each step.

    Raises:
        KnowledgeError, DataError, ConfigError, ConstraintError: what is wrong with the files.
        TrainingError: a non-finite loss (every term is named; the last good checkpoint stays).
    """
    with joined() as world:
        trainer = open_trainer(config, Path(out), world=world)
        trainer.prepare(resume)
        return trainer.run(progress)


def open_trainer(config: TrainConfig, out: Path, most: int | None = None, world: World = ALONE) -> Trainer:
    """What `train` trains with; of `most` images of each pool only, if it is not for training but for looking at.

    Raises:
        what `train` raises before its first step.
    """
    knowledge = load_knowledge((config.base / p for p in config.knowledge), config.reason)
    images = open_split(config.data, "train", config.base, knowledge, config.weak.problems)
    unlabelled: Sequence[Sample] = ()
    knows = config.constraints.weight > 0 or config.energy.weight > 0
    if config.teacher.weight > 0 or (knows and config.constraints.unlabelled_batch):
        unlabelled = open_split(config.data, "unlabelled", config.base, knowledge, config.weak.problems)
    names = class_names(config.data, images, knowledge)
    if most is None:
        check_supervision(config, names, knowledge, images, unlabelled)
        if isinstance(shown := unread(images), DegradedSamples):
            log.info("annotations of the train split: %s", shown.told(_COUNTED))
        for problem in idle_settings(config):
            log.warning("%s", problem)
    else:
        images, unlabelled = images[:most], unlabelled[:most]
    return Trainer(config, names, knowledge, images, unlabelled, out, world)


def learning_rate(config: TrainConfig, step: int) -> float:
    """That of a step, from 0 (see `cosine_rate`)."""
    optim = config.train
    return cosine_rate(optim.lr, step, optim.steps, optim.warmup_steps)


class Trainer(Learner):
    """A training; `train` is what to call."""

    def __post_init__(self) -> None:
        super().__post_init__()
        optim = self.config.train
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=optim.precision == "16")
        self.overflows = 0
        if not self.world.main:  # the weights are those of all, what is drawn while training is not
            torch.manual_seed(self._own_seed())

    def _own_seed(self) -> int:
        """Of what this process draws from now on."""
        return int(np.random.default_rng([self.config.seed, self.step, 8, self.world.rank]).integers(2**31))

    def _tell_constraints(self) -> None:
        """Say how many rules constrain this detector, and write down which do not, and why."""
        used, unused = self.guidance.constraints.rules, self.guidance.constraints.unused
        for rule, reason in unused:
            if "add ns:category" in reason:
                log.warning("%s:%d: %s", rule.file, rule.line, reason)
        path = self.out / "constraints.json"
        value = {"used": [r.id for r in used], "unused": {r.id: reason for r, reason in unused}}
        write_text_atomically(path, json.dumps(value, indent=1) + "\n")
        log.info(
            "%d of %d rules constrain this detector; why not the others: %s", len(used), len(used) + len(unused), path
        )

    def prepare(self, resume: bool) -> None:
        """Make the run folder, or load the state to go on from; a run that is refused is left as it was."""
        checkpoint = latest_checkpoint(self.out / "checkpoints")
        if checkpoint is not None and not resume:
            raise ConfigError(f"{self.out} holds a run already; pass --resume to go on with it, or another --out")
        resolved = self.config.model_dump(mode="json") | {"names": list(self.names)}
        self.world.wait()  # nothing is written before all processes have seen what is there
        lines = None
        if checkpoint is not None:
            require_same_run(self.out, resolved, self.knowledge.files)
            self._load(checkpoint)
            lines = logged_steps(self.out / "log.jsonl", self.step)
        self.world.require_same_start(self.model, self.step)
        if not self.world.main:
            return
        if lines is not None:
            write_text_atomically(self.out / "log.jsonl", "".join(line for line, _ in lines))
        else:
            (self.out / "log.jsonl").unlink(missing_ok=True)
            for file in self.knowledge.files:
                copy_of(self.out, file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy_of(self.out, file))
        write_text_atomically(self.out / "config.yaml", yaml.safe_dump(resolved, sort_keys=False))
        if self.guidance.active:
            self._tell_constraints()

    def _load(self, checkpoint: Path) -> None:
        """Take up a checkpoint's state."""
        state = load_checkpoint(checkpoint)
        try:
            self.model.load_state_dict(state.model)
            self.optimizer.load_state_dict(state.optimizer)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"{checkpoint}: the checkpoint is of another model; start anew with another --out"
            ) from error
        self.average = {k: v.to(self.device) for k, v in state.average.items()} if self.average else {}
        self.guidance.load(state.guidance)
        if self.thresholds is not None:
            self.thresholds.load(state.guidance)
        if self.comatch is not None:
            self.comatch.load(state.guidance)
        if self.quality_order is not None:
            self.quality_order.load(state.guidance)
        self.step = state.step
        if self.scaler.is_enabled() and state.scaler:
            self.scaler.load_state_dict(state.scaler)
        if len(state.random) == self.world.size:
            torch.set_rng_state(state.random[self.world.rank])
        else:  # as many processes as there are now have drawn nothing yet
            torch.manual_seed(self._own_seed())
        if self.device.type == "cuda":  # whose own state is not kept: no draw of an earlier step comes again
            torch.cuda.manual_seed(self._own_seed())

    def run(self, progress: Progress | None) -> Run:
        """Train up to the last step; the log and the checkpoints are written by the first process.

        Raises:
            TrainingError: a loss or a gradient that is not finite; a folder that cannot be written.
        """
        try:
            return self._run(progress)
        except OSError as error:
            raise TrainingError(
                f"{self.out} cannot be written: {error.strerror or error}; make room, then --resume"
            ) from error
        finally:
            self.close()

    def _run(self, progress: Progress | None) -> Run:
        optim = self.config.train
        terms: dict[str, float] = {}
        self.model.train()
        with TrainLog(self.out, self.step) if self.world.main else nullcontext() as told:
            while self.step < optim.steps:
                started = time.perf_counter()
                terms = self._train_step()
                self.step += 1
                terms["seconds"] = time.perf_counter() - started
                if told is not None:
                    told.add(self.step, terms)
                if self.step % optim.checkpoint_every == 0 or self.step == optim.steps:
                    if told is not None:
                        told.flush()
                    if self.step == optim.steps:
                        self.guidance.finish()
                    self._save()
                if progress is not None:
                    progress(self.step, optim.steps, terms)
        return Run(self.out, self.step, terms)

    def time_steps(self, start: int, count: int) -> list[float]:
        """Seconds of `count` steps as from step `start` on, taken without a checkpoint; what they change stays changed."""
        self.model.train()
        self.step, seconds = start, []
        for _ in range(count):
            started = time.perf_counter()
            self._train_step()
            self.step += 1
            seconds.append(time.perf_counter() - started)
        return seconds

    def _train_step(self) -> dict[str, float]:
        optim = self.config.train
        if self.quality_order is not None and self.quality_order.is_due(self.step):
            self.quality_order.judge(self.model, self.images, self.world, self.step)
        self.optimizer.zero_grad()
        parts = [self._learn(0)] if optim.accumulate == 1 else self._learn_in_parts()
        terms = {k: sum(p.get(k, 0.0) for p in parts) / len(parts) for k in dict.fromkeys(k for p in parts for k in p)}
        self.world.average_gradients(self.model.parameters())
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), optim.gradient_clip)
        terms |= self._require_gradient(float(norm))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.scaler.step(self.optimizer)  # with 16 bits, a step whose gradient overflows is left out
        self.scaler.update()
        self._agree()
        update_average(self.average, self.model.state_dict(), self.step, optim.ema)
        if self.model.inexact is not None and self.model.inexact.head is not None:
            noise = self.model.inexact.noise
            terms |= {"annotation_noise": noise.level, "size_bias": float(noise.bias)}
            if self.model.inexact.mixed is not None:
                terms["exact_share"] = float(self.model.inexact.mixed.share)
        return terms | self.guidance.figures()

    def _learn_in_parts(self) -> list[dict[str, float]]:
        """The terms of all parts of a step, which the model's own counters of steps take for one."""
        counters = [b for name, b in self.model.named_buffers() if name.rpartition(".")[2] == "steps"]
        before = [c.clone() for c in counters]
        terms = []
        for part in range(self.config.train.accumulate):
            for counter, value in zip(counters, before, strict=True):
                counter.copy_(value)
            terms.append(self._learn(part))
        return terms

    def _require_gradient(self, norm: float) -> dict[str, float]:
        """The scale of the loss, for the log; with 16 bits a gradient may overflow until a scale is found, but not for ever."""
        if not self.scaler.is_enabled():
            if not math.isfinite(norm):
                raise TrainingError(f"step {self.step + 1}: the gradient is not finite; lower train.lr")
            return {}
        self.overflows = 0 if math.isfinite(norm) else self.overflows + 1
        if self.overflows > OVERFLOWS:
            message = f"step {self.step + 1}: no gradient of the last {self.overflows} steps is finite"
            raise TrainingError(f"{message}; set train.precision to bf16 or 32, or lower train.lr")
        return {"loss_scale": self.scaler.get_scale()}

    def _agree(self) -> None:
        """Make the same on all processes what each has learned from its own films, beside the weights."""
        self.world.agree([self.model, *([] if self.comatch is None else [self.comatch.bank])])
        if self.thresholds is not None and self.config.teacher.start <= self.step and self.world.size > 1:
            self.thresholds.agree(self.world)

    def _learn(self, part: int) -> dict[str, float]:
        """Add the gradients of a part of the batch to those of the step.

        Returns its terms: those of this process's share, but for `loss`, the mean over all processes.
        """
        losses = self.losses(part)
        total = sum_terms(losses)
        over_all = self.world.mean(total)
        self._require_finite(total, losses, over_all)
        self.scaler.scale(total / self.config.train.accumulate).backward()  # type: ignore[no-untyped-call]
        return {k: float(v.detach()) for k, v in losses.items()} | {"loss": float(over_all)}

    def _require_finite(self, total: Tensor, losses: dict[str, Tensor], over_all: Tensor) -> None:
        if not math.isfinite(float(total.detach())):
            shown = ", ".join(f"{k}={float(v.detach()):g}" for k, v in losses.items())
            raise TrainingError(f"step {self.step + 1}: the loss is not finite ({shown}); lower train.lr")
        if not math.isfinite(float(over_all)):
            raise TrainingError(f"step {self.step + 1}: the loss of another process is not finite; it says more")

    def _save(self) -> None:
        self.world.require_agreement(self.model, self.step)
        random = tuple(self.world.gather(torch.get_rng_state().to(self.device)).cpu())
        with self.world.turn():  # each process may have met other damaged films
            skipped = list_skipped(self.out, (self.images, self.unlabelled))
        if not self.world.main:
            return
        if skipped:
            log.info("damaged films until step %d: %d, listed in %s", self.step, skipped, self.out / SKIPPED)
        state = Checkpoint(
            self.step,
            self.model.state_dict(),
            self.average,
            self.optimizer.state_dict(),
            random,
            self.guidance.state()
            | (self.comatch.state() if self.comatch is not None else {})
            | (self.thresholds.tensors() if self.thresholds is not None else {})
            | (self.quality_order.tensors() if self.quality_order is not None else {}),
            self.scaler.state_dict(),
        )
        self.guidance.save_reports(self.out)
        save_checkpoint(self.out / "checkpoints", state, {"name": self.config.name, "seed": self.config.seed})


def sum_terms(losses: dict[str, Tensor]) -> Tensor:
    """The total of named loss terms."""
    return torch.stack([v.reshape(()) for v in losses.values()]).sum()
