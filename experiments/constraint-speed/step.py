"""What the whole constraint term adds to a training step of a ResNet-18-FPN Faster R-CNN at 320 px; prints medians as JSON.

    python step.py SEED [ROUNDS]

A step learns from two labelled and two unlabelled images: losses of the detector on both, the second with the pseudo-labels of
a teacher, then backward, clipping and AdamW. *With* knowledge it has, too, the violation of the rules on all four images'
scenes, the teacher's scenes as graphs, the graph network on them, and the consistency of the student with what comes out. The
network's weights are random: they cost what trained ones do. So are the detector's, whose scenes leave more classes open, and
therefore ground more rules, than a trained one's; for the consistency to have work, any refined object counts as sure.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurosym.constraints.graph import RefinerSettings, SceneRefiner, ontology_graph
from neurosym.data.config import open_split
from neurosym.knowledge import load_knowledge
from neurosym.learning.batches import make_batch
from neurosym.learning.config import ConstraintConfig, RefinerConfig, TeacherConfig, TrainConfig
from neurosym.learning.guidance import Guidance
from neurosym.learning.teacher import Teacher, lessons
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig

ROOT = Path(__file__).parents[2]
NAMES = ("left_lung", "right_lung", "heart", "ground_glass_opacity", "consolidation", "nodule", "pleural_effusion")
BATCH, THRESHOLD = 2, 0.5
"""Images of each kind a step; what the teacher is this sure of is a pseudo-label."""


class Steps:
    """A training step with and without knowledge, on the same images."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        config = TrainConfig.model_validate(
            {
                "name": "constraint-speed",
                "knowledge": [str(ROOT / "ontologies" / "thorax.ttl"), str(ROOT / "rules" / "phantom.rules")],
                "data": {
                    "format": "phantom",
                    "size": 320,
                    "seed": seed,
                    "categories": list(NAMES),
                    "train": {"start": 0, "count": BATCH},
                    "unlabelled": {"start": 1000, "count": BATCH},
                },
                "model": DetectorConfig(backbone="resnet18", image_size=320, max_size=320),
                "constraints": ConstraintConfig(weight=0.3, warmup_steps=0),
                "teacher": TeacherConfig(weight=1.0, start=0, batch=BATCH),
                "refiner": RefinerConfig(enabled=True, warmup_steps=0, confidence=0.01, threshold=THRESHOLD),
            }
        )
        device = torch.device("cpu")
        knowledge = load_knowledge(config.knowledge)
        labelled = open_split(config.data, "train", config.base, knowledge)
        unlabelled = open_split(config.data, "unlabelled", config.base, knowledge)
        self.unlabelled = [unlabelled[i] for i in range(BATCH)]
        self.images, self.targets = make_batch([labelled[i] for i in range(BATCH)], NAMES, device, None)
        self.guidance = Guidance(config, NAMES, knowledge, labelled, device)
        constraints = self.guidance.constraints
        self.guidance.refiner = SceneRefiner(
            constraints, ontology_graph(constraints, knowledge.ontology), RefinerSettings(), device
        )
        self.model = build_model(config.model, NAMES)
        self.model.train()
        self.teacher = Teacher(config.model, NAMES, device)
        self.teacher.follow(self.model.state_dict())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.objects: list[int] = []

    def step(self, with_knowledge: bool) -> dict[str, Tensor]:
        losses, scenes = self.model(self.images, self.targets)
        refiner = self.guidance.refiner if with_knowledge else None
        taught = lessons(self.unlabelled, self.teacher, refiner, THRESHOLD, np.random.default_rng(0))
        pseudo, others = self.model([lesson.image for lesson in taught], [lesson.target for lesson in taught])
        losses = losses | {f"pseudo_{k}": v for k, v in pseudo.items()}
        if with_knowledge:
            losses |= self.guidance.losses(1, scenes, others, taught)
            self.objects += [len(s.boxes) for s in (*scenes, *others)]
        self.optimizer.zero_grad()
        torch.stack([v.sum() for v in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self.optimizer.step()
        return losses


def measured(seed: int, rounds: int) -> dict[str, float]:
    """Medians of CPU time in ms; the two kinds of step take turns in an order that is drawn anew."""
    steps = Steps(seed)
    taken: dict[bool, list[float]] = {False: [], True: []}
    agreed = 0
    for repeat in range(rounds + 1):
        for kind in random.sample((False, True), 2):
            started = time.process_time()
            losses = steps.step(kind)
            spent = time.process_time() - started
            if repeat:  # the first round makes what is made once
                taken[kind].append(1e3 * spent)
            if kind:
                assert {"loss_constraint", "loss_consistency"} <= set(losses)
                agreed += float(losses["loss_consistency"].detach()) > 0
    without, whole = (statistics.median(taken[kind]) for kind in (False, True))
    return {
        "without": round(without, 1),
        "with": round(whole, 1),
        "share": round((whole - without) / without, 4),
        "objects": statistics.fmean(steps.objects),
        "steps_with_consistency": agreed,
    }


def main() -> None:
    seed, rounds = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 9
    torch.set_num_threads(1)
    random.seed(seed)
    print(json.dumps(measured(seed, rounds)))


if __name__ == "__main__":
    main()
