"""A film classifier that learns from few labelled films and many without labels: a config → a run folder.

Methods (`neurosym.learning.image_config.Method`), which differ in what they make of unlabelled films and cost the same where
they are given the same `passes`:

    supervised   nothing
    fixmatch     the sure pseudo-label of the weak view teaches the strong view (Sohn et al., NeurIPS 2020)
    comatch      pseudo-labels smoothed by a memory bank, and the graphs (`neurosym.learning.comatch`), with or without the
                 ontology's hierarchy between labels (`comatch.kernel`)

The folder holds ``config.yaml`` (resolved), ``log.jsonl`` (a line a step) and ``checkpoints/``. The same config and seed give
the same weights on a CPU; an interrupted run is resumed from its last checkpoint, bank and all, and ends the same. Evaluated
are the averaged weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from neurosym.data.yaml_text import parse_yaml
from neurosym.errors import ConfigError, Problem, TrainingError, short_path
from neurosym.knowledge import load_knowledge
from neurosym.knowledge.rules import write_text_atomically
from neurosym.knowledge.similarity import class_similarity
from neurosym.learning.batches import batch_indices
from neurosym.learning.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, load_weights, save_checkpoint
from neurosym.learning.comatch import Alignment, MemoryBank, class_loss, graph_loss, label_graph, smoothed
from neurosym.learning.film_labels import Films, as_probabilities, label_loss, training_films
from neurosym.learning.image_config import ImageTrainConfig
from neurosym.learning.optimisation import cosine_rate, update_average
from neurosym.learning.views import plain_view, strong_view, weak_view
from neurosym.models.film_classifier import FilmClassifier
from neurosym.records import Run

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step with (steps done, steps in all, loss terms)."""
_BANK, _ALIGNMENT = "bank.", "alignment."
_LOOK_AT = 64
"""Films that are predicted together."""


def train_classifier(
    config: ImageTrainConfig, out: str | Path, resume: bool = False, progress: Progress | None = None
) -> Run:
    """Train a classifier; `out` must not hold a run unless it is resumed.

    Raises:
        KnowledgeError, DataError, ConfigError: what is wrong with the files.
        TrainingError: a loss or gradient that is not finite; a checkpoint that cannot be read.
    """
    out = Path(out)
    if config.threads:
        torch.set_num_threads(config.threads)
    checkpoint = latest_checkpoint(out / "checkpoints")
    if checkpoint is not None and not resume:
        raise ConfigError(f"{out} holds a run already; pass --resume (resume=True) to go on with it, or another folder")
    if checkpoint is not None:
        _require_same(config, out)
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    kernel = torch.tensor(class_similarity(knowledge.ontology, config.data.classes, config.comatch.kernel))
    trainer = _Trainer(config, *training_films(config, knowledge), kernel, out)
    if checkpoint is not None:
        trainer.load(load_checkpoint(checkpoint))
    return trainer.run(progress)


def _require_same(config: ImageTrainConfig, out: Path) -> None:
    """Refuse to resume a run with other settings."""
    before, now = open_classifier_config(out).model_dump(mode="json"), config.model_dump(mode="json")
    changed = [k for k in sorted(now) if k not in ("threads", "base") and before[k] != now[k]]
    if changed:
        raise ConfigError(
            f"{out} was trained with other settings of {', '.join(changed)}; restore them, or use another folder"
        )


def open_classifier_config(path: str | Path) -> ImageTrainConfig:
    """The config of a classifier's run folder.

    Raises:
        TrainingError: the folder holds none.
    """
    try:
        values = parse_yaml((Path(path) / "config.yaml").read_text(encoding="utf-8"))
        return ImageTrainConfig.model_validate(values)
    except (OSError, yaml.YAMLError, ValueError) as error:
        cure = "name a folder that `neurosym train` has written from the config of a film classifier"
        raise TrainingError(Problem("not the run folder of a classifier", short_path(path), cure=cure)) from error


def _build(config: ImageTrainConfig, load: bool) -> FilmClassifier:
    model = config.model
    weights = str(config.base / model.weights) if model.weights else ""
    network = FilmClassifier(config.data.classes, model.backbone, model.pretrained, weights, model.embedding, load)
    return network.to(memory_format=torch.channels_last)  # a quarter faster on a CPU


class _Trainer:
    def __init__(self, config: ImageTrainConfig, labelled: Films, unlabelled: Films, kernel: Tensor, out: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out = config, out
        self.labelled, self.unlabelled = labelled, unlabelled
        # a product with the identity costs little, but need not round as the plain one does
        self.kernel = None if config.comatch.kernel == "identity" else kernel
        self.model = _build(config, load=True)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.train.lr, weight_decay=config.train.weight_decay
        )
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}
        classes = len(config.data.classes)
        self.bank = MemoryBank(config.comatch.bank, config.model.embedding, classes)
        self.alignment = Alignment(classes)
        self.step = 0

    def run(self, progress: Progress | None) -> Run:
        self.out.mkdir(parents=True, exist_ok=True)
        resolved = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
        write_text_atomically(self.out / "config.yaml", resolved)
        steps, terms = self.config.steps, dict[str, float]()
        log = self.out / "log.jsonl"
        resumed = self.step > 0 and log.is_file()
        kept = log.read_text(encoding="utf-8").splitlines(keepends=True)[: self.step] if resumed else []
        write_text_atomically(log, "".join(kept))
        self.model.train()
        with log.open("a", encoding="utf-8") as lines:
            while self.step < steps:
                terms = self._train_step()
                self.step += 1
                lines.write(json.dumps({"step": self.step} | {k: round(v, 5) for k, v in terms.items()}) + "\n")
                if self.step % self.config.train.checkpoint_every == 0 or self.step == steps:
                    lines.flush()
                    self._save()
                if progress is not None:
                    progress(self.step, steps, terms)
        return Run(self.out, self.step, terms)

    def _train_step(self) -> dict[str, float]:
        losses = self._losses(np.random.default_rng([self.config.seed, self.step, 1]))
        total = torch.stack(list(losses.values())).sum()
        shown = {k: float(v.detach()) for k, v in losses.items()}
        optim, steps = self.config.train, self.config.steps
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(optim.lr, self.step, steps, round(optim.warmup * steps))
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.gradient_clip)
        if not math.isfinite(float(norm)):
            terms = ", ".join(f"{k}={v:g}" for k, v in shown.items())
            raise TrainingError(f"step {self.step + 1}: loss or gradient is not finite ({terms}); lower train.lr")
        self.optimizer.step()
        update_average(self.average, self.model.state_dict(), self.step, optim.ema)
        return shown

    def _losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """The named terms of one step."""
        config, settings = self.config, self.config.comatch
        size, labelled = config.train.batch_size, self.labelled
        chosen = batch_indices(len(labelled), size, self.step, config.seed)
        possible = labelled.possible[chosen]
        logits, embedded = self.model(weak_view(labelled.pixels[chosen], rng))
        losses = {"loss_labelled": label_loss(logits, possible)}
        if config.method == "supervised":
            return losses
        pool = self.unlabelled
        chosen = batch_indices(len(pool), size * config.train.unlabelled_ratio, self.step, config.seed + 1)
        films = pool.pixels[chosen]
        with torch.no_grad():
            seen, weak = self.model(weak_view(films, rng))
            told = self.alignment(seen.softmax(1)) if config.align else seen.softmax(1)
        guessed = told
        if config.method == "comatch":
            # a bank of a few batches would let early mistakes confirm one another
            past = self.bank.filled() if self.bank.full else (weak[:0], told[:0])
            guessed = smoothed(told, weak, past, settings.keep, settings.temperature)
            self.bank.add(torch.cat([weak, embedded.detach()]), torch.cat([told, as_probabilities(possible)]))
        logits, one = self.model(strong_view(films, rng))
        losses["loss_class"] = settings.class_weight * class_loss(logits, guessed, settings.confidence)
        if config.method == "comatch":
            _, other = self.model(strong_view(films, rng))
            graph = label_graph(guessed, settings.edge, self.kernel)
            losses["loss_graph"] = settings.weight * graph_loss(graph, one, other, settings.temperature)
        return losses

    def _save(self) -> None:
        parts = ((_BANK, self.bank), (_ALIGNMENT, self.alignment))
        beside = {f"{prefix}{k}": v for prefix, part in parts for k, v in part.state_dict().items()}
        weights, optimizer = self.model.state_dict(), self.optimizer.state_dict()
        state = Checkpoint(self.step, weights, self.average, optimizer, (torch.get_rng_state(),), beside)
        save_checkpoint(self.out / "checkpoints", state, {"name": self.config.name, "seed": self.config.seed})

    def load(self, state: Checkpoint) -> None:
        """Go on from a checkpoint."""
        try:
            self.model.load_state_dict(state.model)
            self.optimizer.load_state_dict(state.optimizer)
            for prefix, part in ((_BANK, self.bank), (_ALIGNMENT, self.alignment)):
                own = {k.removeprefix(prefix): v for k, v in state.guidance.items() if k.startswith(prefix)}
                part.load_state_dict(own)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(f"{self.out}: the checkpoint is of another model; use another folder") from error
        self.average = dict(state.average)
        torch.set_rng_state(state.random[0])
        self.step = state.step


@torch.no_grad()
def predict_films(model: FilmClassifier, films: Films) -> Tensor:
    """Class probabilities (film, class) of the plain films."""
    model.eval()
    found = [model(plain_view(part))[0].softmax(1) for part in torch.split(films.pixels, _LOOK_AT)]
    return torch.cat(found) if found else torch.zeros(0, len(model.names))


def load_classifier(path: str | Path) -> FilmClassifier:
    """The averaged weights of a run, to predict with.

    Raises:
        TrainingError: no run, or a damaged one.
    """
    checkpoint = latest_checkpoint(Path(path) / "checkpoints")
    if checkpoint is None:
        raise TrainingError(Problem("the run has no checkpoint", short_path(path), cure="train it first"))
    model = _build(open_classifier_config(path), load=False)
    load_weights(checkpoint, model)
    return model.eval()
