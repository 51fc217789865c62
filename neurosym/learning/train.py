"""`train`: a config → a run folder.

A step learns from labelled images; once the teacher has started, also from what it says of unlabelled ones; and, where the
config asks for it, from what knowledge says of both (`neurosym.learning.guidance`). What else knowledge needs of the labelled
images is learned before the last checkpoint is written.

The folder holds ``config.yaml`` (resolved), ``knowledge/`` (copies of the files), ``checkpoints/``, ``log.jsonl`` (a line a
step) and TensorBoard events. The same config and seed give the same weights on a CPU; an interrupted run is resumed from its
last checkpoint and ends the same.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from neurosym.data.config import class_names, open_split
from neurosym.data.degrade import DegradedSamples
from neurosym.data.unread import unread
from neurosym.errors import ConfigError, TrainingError, short_path
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.rules import write_text_atomically
from neurosym.knowledge.similarity import class_similarity
from neurosym.learning.batches import annotated_sizes, make_batch, require_masks
from neurosym.learning.checkpoint import (
    Checkpoint,
    begin_from,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from neurosym.learning.class_thresholds import ClassThresholds
from neurosym.learning.comatch_regions import LabelledRegions, region_comatch
from neurosym.learning.config import TrainConfig
from neurosym.learning.film_reader import SKIPPED, film_readers, list_skipped
from neurosym.learning.guidance import Guidance
from neurosym.learning.idle_settings import idle_settings
from neurosym.learning.optimisation import cosine_rate, pick_device, update_average
from neurosym.learning.runfolder import copy_of
from neurosym.learning.teacher import Lesson, Reliability, Teacher, lessons
from neurosym.learning.weak_supervision import WeakSupervision, check_supervision
from neurosym.learning.witness import RuleWitness
from neurosym.models.build import build_model
from neurosym.models.class_losses import relate_classes
from neurosym.models.scene import SceneProposals
from neurosym.records import Run, Sample

log = logging.getLogger(__name__)
_MAY_CHANGE: Final = frozenset({"train", "device", "threads", "base"})
"""Settings that a resumed run may have changed; of `train`, only the number of steps and checkpoints."""
_COUNTED: Final = 1000
"""Images whose worse annotations are counted at the start; coarse masks take milliseconds each."""
Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step with (steps done, steps in all, loss terms)."""


def train(config: TrainConfig, out: str | Path, resume: bool = False, progress: Progress | None = None) -> Run:
    """Train a detector under constraints.

    Args:
        config: see `neurosym.learning.config.load_config`.
        out: the run folder.
        resume: go on from the last checkpoint in `out`; without it `out` must not hold a run.
        progress: called after each step.

    Raises:
        KnowledgeError, DataError, ConfigError, ConstraintError: what is wrong with the files.
        TrainingError: a non-finite loss (every term is named; the last good checkpoint stays).
    """
    trainer = open_trainer(config, Path(out))
    trainer.prepare(resume)
    return trainer.run(progress)


def open_trainer(config: TrainConfig, out: Path, most: int | None = None) -> Trainer:
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
    return Trainer(config, names, knowledge, images, unlabelled, out)


def learning_rate(config: TrainConfig, step: int) -> float:
    """That of a step, from 0 (see `cosine_rate`)."""
    optim = config.train
    return cosine_rate(optim.lr, step, optim.steps, optim.warmup_steps)


@dataclass
class Trainer:
    """The state of a training; `train` is what to call."""

    config: TrainConfig
    names: tuple[str, ...]
    knowledge: Knowledge
    images: Sequence[Sample]
    unlabelled: Sequence[Sample]
    out: Path

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        self.device = pick_device(self.config)
        self.guidance = Guidance(self.config, self.names, self.knowledge, self.images, self.device)
        self.weak = WeakSupervision.of(
            self.config, self.names, self.knowledge, (self.images, self.unlabelled), self.guidance
        )
        model = self.config.model
        if model.weights:
            model = model.model_copy(update={"weights": str(self.config.base / model.weights)})
        self.model = build_model(model, self.names).to(self.device)
        self.model.shows_scenes = self.guidance.looks_at_scenes or self.weak is not None
        if self.model.uses_masks:
            require_masks(self.images, self.names, 32 if self.weak is None else len(self.images))
        if self.config.initial:  # what is measured below is of this run's own data
            self._begin_from(self.config.base / self.config.initial)
        if self.model.inexact is not None:
            # images are scaled to the shorter side; 4:3 is as good a guess of the other as any
            side = model.image_size * (4 / 3) ** 0.5
            boxes, labels, areas = (v.to(self.device) for v in annotated_sizes(self.images, self.names))
            self.model.inexact.measure(boxes, labels, areas, side)
            if self.config.rules_are_witnesses:
                self.model.inexact.witness = RuleWitness(self.guidance.constraints, self.config.constraints.temperature)
        if model.classification.ontology > 0:
            relate_classes(self.model, class_similarity(self.knowledge.ontology, self.names))
        optim = self.config.train
        self.films, self.unlabelled_films = film_readers(self.config, self.names, self.images, self.unlabelled)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()} if optim.ema else {}
        self.teacher: Teacher | None = None
        if self.config.teacher.weight > 0:
            if not self.average:
                raise ConfigError("train.ema: the teacher is the weight average; set it above 0, e.g. 0.98")
            self.teacher = Teacher(model, self.names, self.device)
        self.thresholds = ClassThresholds.of(self.config, len(self.names))
        self.comatch = region_comatch(self.config, self.names, self.knowledge.ontology, self.device)
        self.step = 0

    def _begin_from(self, run: Path) -> None:
        """Start from another run's averaged weights; what serves training alone may differ (see `begin_from`)."""
        checkpoint = latest_checkpoint(run / "checkpoints")
        if checkpoint is None:
            raise ConfigError(f"initial: {short_path(run)} holds no checkpoint; name a run folder that was trained")
        anew = begin_from(checkpoint, self.model)
        if anew:
            log.info("starts from %s; not taken over, but learned anew: %s", short_path(run), ", ".join(anew))

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
        if checkpoint is not None:
            self._load(checkpoint, resolved)
        else:
            (self.out / "log.jsonl").unlink(missing_ok=True)
            for file in self.knowledge.files:
                copy_of(self.out, file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy_of(self.out, file))
        write_text_atomically(self.out / "config.yaml", yaml.safe_dump(resolved, sort_keys=False))
        if self.guidance.active:
            self._tell_constraints()

    def _load(self, checkpoint: Path, resolved: dict[str, Any]) -> None:
        """Take up a checkpoint's state, if it was made with the same settings (but for steps and device) and knowledge."""
        try:
            before = yaml.safe_load((self.out / "config.yaml").read_text(encoding="utf-8"))
            names = before.pop("names")
            before = TrainConfig.model_validate(before).model_dump(mode="json") | {"names": names}
            lines = (self.out / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            copies = {f: copy_of(self.out, f).read_bytes() for f in self.knowledge.files}
            old = before["train"]
        except (OSError, yaml.YAMLError, AttributeError, TypeError, KeyError, ValueError) as error:
            raise TrainingError(f"{self.out} cannot be resumed, a file of it is missing or damaged: {error}") from error
        before, resolved = (v | {"data": _fixed(v["data"])} for v in (before, resolved))
        changed = [k for k in sorted({*before, *resolved} - _MAY_CHANGE) if before.get(k) != resolved.get(k)]
        fixed = sorted({*resolved["train"]} - {"steps", "checkpoint_every"})
        changed += [f"train.{k}" for k in fixed if old.get(k) != resolved["train"][k]]
        changed += [short_path(f) for f, copy in copies.items() if f.read_bytes() != copy]
        if changed:
            what = ", ".join(changed)
            raise ConfigError(
                f"{self.out} was trained with other settings of {what}; restore them, or use another --out"
            )
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
        torch.set_rng_state(state.random)
        self.step = state.step
        write_text_atomically(self.out / "log.jsonl", "".join(lines[: self.step]))

    def run(self, progress: Progress | None) -> Run:
        optim = self.config.train
        terms: dict[str, float] = {}
        writer = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.step + 1)
        self.model.train()
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log_file:
            while self.step < optim.steps:
                started = time.perf_counter()
                terms = self._train_step()
                self.step += 1
                terms["seconds"] = time.perf_counter() - started
                log_file.write(json.dumps({"step": self.step} | {k: round(v, 5) for k, v in terms.items()}) + "\n")
                for key, value in terms.items():
                    writer.add_scalar(f"train/{key}", value, self.step)
                if self.step % optim.checkpoint_every == 0 or self.step == optim.steps:
                    log_file.flush()
                    if self.step == optim.steps:
                        self.guidance.finish()
                    self._save()
                if progress is not None:
                    progress(self.step, optim.steps, terms)
        writer.close()
        self.films.close()
        self.unlabelled_films.close()
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
        optim, seed = self.config.train, self.config.seed
        rng = np.random.default_rng([seed, self.step, 1]) if optim.augment else None
        samples = self.guidance.compose(*self.films.films(self.step), self.step)
        known = self.weak.hinter.target if self.weak is not None else None
        images, targets = make_batch(samples, self.names, self.device, rng, self.model.uses_masks, known)
        losses, scenes = self.model(images, targets)
        if self.weak is not None:
            losses = losses | self.weak.terms.losses(self.step, samples, scenes, images, targets)
        labelled = self.guidance.watch(self.model, scenes, images, targets)
        regions = None
        if self.comatch is not None and self.step >= self.config.teacher.start:
            regions = self.comatch.labelled(self.model, images, targets)
        pseudo, others, taught = self._unlabelled_step(rng, regions)
        unlabelled = self.guidance.watch(self.model, others)
        losses = losses | pseudo | self.guidance.losses(self._taught_steps(), scenes, others, taught)
        losses = losses | self.guidance.energy_losses(self.step, labelled, unlabelled)
        total = sum_terms(losses)
        self._require_finite(total, losses)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), optim.gradient_clip)
        if not math.isfinite(float(norm)):
            raise TrainingError(f"step {self.step + 1}: the gradient is not finite; lower train.lr")
        self.optimizer.step()
        update_average(self.average, self.model.state_dict(), self.step, optim.ema)
        terms = {k: float(v.detach()) for k, v in losses.items()} | {"loss": float(total.detach())}
        if self.model.inexact is not None and self.model.inexact.head is not None:
            noise = self.model.inexact.noise
            terms |= {"annotation_noise": noise.level, "size_bias": float(noise.bias)}
        return terms | self.guidance.figures()

    def _require_finite(self, total: Tensor, losses: dict[str, Tensor]) -> None:
        if not math.isfinite(float(total.detach())):
            shown = ", ".join(f"{k}={float(v.detach()):g}" for k, v in losses.items())
            raise TrainingError(f"step {self.step + 1}: the loss is not finite ({shown}); lower train.lr")

    def _taught_steps(self) -> int:
        """Steps since the terms of knowledge began: with a teacher they begin with it."""
        return self.step - self.config.teacher.start if self.config.teacher.weight > 0 else self.step

    def _unlabelled_step(
        self, rng: np.random.Generator | None, regions: LabelledRegions | None = None
    ) -> tuple[dict[str, Tensor], list[SceneProposals], list[Lesson]]:
        """Losses on pseudo-labels (none before the teacher starts), the student's scenes, and what the teacher said."""
        settings, refiner = self.config.teacher, self.config.refiner
        if settings.weight == 0:
            return {}, self._plain_scenes(rng), []
        if self.step < settings.start or self.teacher is None:
            return {}, [], []
        self.teacher.follow(self.average)
        self.guidance.prepare(self.teacher)
        _, samples = self.unlabelled_films.films(self.step)
        threshold = refiner.threshold if refiner.enabled else settings.threshold
        compose = partial(self.guidance.compose_unlabelled, step=self.step)
        onto = compose if self.guidance.composes_unlabelled else None
        taught = lessons(
            samples,
            self.teacher,
            self.guidance.refiner,
            threshold if self.thresholds is None else self.thresholds.thresholds(),
            rng,
            onto,
            regions is not None,
            weak=self.weak.targets if self.weak is not None else None,
            reliability=Reliability.of(settings, self.config.seed, self.step),
            strong=np.random.default_rng([self.config.seed, self.step, 7]) if settings.strong else None,
        )
        seen = [lesson.seen for lesson in taught]
        self.guidance.learn_from(seen)
        if self.thresholds is not None:
            self.thresholds.watch(seen)
        self.model.annotated = False
        losses, scenes = self.model([lesson.image for lesson in taught], [lesson.target for lesson in taught])
        self.model.annotated = True
        losses = {f"pseudo_{k}": settings.weight * v for k, v in losses.items()}
        if self.comatch is not None and regions is not None:
            losses |= self.comatch.losses(self.model, self.teacher, regions, taught)
        return losses, scenes, taught

    def _plain_scenes(self, rng: np.random.Generator | None) -> list[SceneProposals]:
        """Without a teacher: the student's scenes of unlabelled images, for the constraints alone."""
        if not self.unlabelled or self.step == 0:
            return []
        images, _ = make_batch(self.unlabelled_films.films(self.step)[1], self.names, self.device, rng)
        return self.model.propose(images)

    def _save(self) -> None:
        state = Checkpoint(
            self.step,
            self.model.state_dict(),
            self.average,
            self.optimizer.state_dict(),
            torch.get_rng_state(),
            self.guidance.state()
            | (self.comatch.state() if self.comatch is not None else {})
            | (self.thresholds.tensors() if self.thresholds is not None else {}),
        )
        self.guidance.save_reports(self.out)
        skipped = list_skipped(self.out, (self.images, self.unlabelled))
        if skipped:
            log.info("damaged films until step %d: %d, listed in %s", self.step, skipped, self.out / SKIPPED)
        save_checkpoint(self.out / "checkpoints", state, {"name": self.config.name, "seed": self.config.seed})


def _fixed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings of data, those that a resumed run must not have changed: not how shards are read."""
    return {k: v for k, v in data.items() if k not in ("readers", "on_unreadable")}


def sum_terms(losses: dict[str, Tensor]) -> Tensor:
    """The total of named loss terms."""
    return torch.stack([v.reshape(()) for v in losses.values()]).sum()
