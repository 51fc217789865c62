"""What a training step of a detector costs beside torchvision's own of the same backbone and size; prints JSON.

    python step.py time KIND SEED [ROUNDS]      CPU time in ms: medians, and medians of the ratios of steps in turn
    python step.py memory KIND SEED             MB that a process grew by at its peak: weights, optimiser, two steps

Compared are `torchvision` (its own class, built from its public parts), `plain` (ours), `inexact` (ours, with posterior, filter
and adversary) and `scenes` (that, and the scene of each image that constraints see). All see the same images. A step is
forward, backward, clipping and AdamW. ResNet-18 with a pyramid of 128 channels, 320 px, two images of 15 boxes of three
classes, 300 proposals, 128 sampled boxes an image.
"""

from __future__ import annotations

import gc
import json
import re
import statistics
import sys
import time
from collections import OrderedDict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead

from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig, InexactConfig

WHICH = ("torchvision", "plain", "inexact", "scenes")
NAMES = ("a", "b", "c")
SIZE, BATCH, BOXES, WIDTH, HEAD, PROPOSALS, SAMPLED = 320, 2, 15, 128, 256, 300, 128
BATCHES, MEMORY_STEPS = 3, 2
"""Different batches that the turns go through; steps whose peak is told (from the second on there are centroids)."""

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


def batch(rng: torch.Generator, masks: bool) -> Batch:
    """Ellipses on noise; annotated boxes have sides and centres off by up to 30% (the protocol of `neurosym data degrade`)."""
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    images, targets = [], []
    for _ in range(BATCH):
        image = 0.2 + 0.1 * torch.rand(3, SIZE, SIZE, generator=rng)
        labels = torch.randint(1, len(NAMES) + 1, (BOXES,), generator=rng)
        sides = 20.0 * labels[:, None] * (0.7 + 0.6 * torch.rand(BOXES, 2, generator=rng))
        centres = sides / 2 + (SIZE - sides) * torch.rand(BOXES, 2, generator=rng)
        shapes = []
        for centre, side, label in zip(centres, sides, labels.tolist(), strict=True):
            inside = ((x - centre[0]) / side[0]) ** 2 + ((y - centre[1]) / side[1]) ** 2 <= 0.25
            image[label - 1][inside] += 0.5
            shapes.append(inside)
        off = 0.3 * (2 * torch.rand(BOXES, 4, generator=rng) - 1)
        middle, half = centres + off[:, :2] * sides, sides * (1 + off[:, 2:]) / 2
        boxes = torch.cat([middle - half, middle + half], 1).clamp(0, SIZE)
        target = {"boxes": boxes, "labels": labels}
        if masks:
            target["masks"] = torch.stack(shapes).to(torch.uint8)
        images.append(image)
        targets.append(target)
    return images, targets


class WithoutFinest(nn.Module):
    """The pyramid from stride 8 on."""

    def __init__(self, pyramid: nn.Module) -> None:
        super().__init__()
        self.pyramid, self.out_channels = pyramid, WIDTH

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict(list(self.pyramid(x).items())[1:])


def torchvisions_pyramid(layers: tuple[int, ...]) -> nn.Module:
    names = {f"layer{n}": str(n - 1) for n in layers}
    return BackboneWithFPN(resnet18(weights=None), names, [32 * 2**n for n in layers], WIDTH)


def torchvisions_own(kind: str) -> nn.Module:
    """torchvision's class with the same sizes; for `cascade_rcnn`, which it lacks, its Faster R-CNN."""
    sides, shapes = {"min_size": SIZE, "max_size": SIZE}, (0.5, 1.0, 2.0)
    levels = [16, 32, 64, 128, 256]
    if kind == "retinanet":
        anchors = AnchorGenerator(tuple((s, s * 2 ** (1 / 3), s * 2 ** (2 / 3)) for s in levels[1:]), (shapes,) * 4)
        head = RetinaNetHead(WIDTH, 9, len(NAMES), norm_layer=partial(nn.GroupNorm, 32))
        return RetinaNet(torchvisions_pyramid((2, 3, 4)), len(NAMES), anchor_generator=anchors, head=head, **sides)
    settings = {
        "rpn_anchor_generator": AnchorGenerator(tuple((s,) for s in levels), (shapes,) * 5),
        "box_head": TwoMLPHead(WIDTH * 49, HEAD),
        "box_predictor": FastRCNNPredictor(HEAD, len(NAMES) + 1),
        "rpn_pre_nms_top_n_train": 2 * PROPOSALS,
        "rpn_post_nms_top_n_train": PROPOSALS,
        "box_batch_size_per_image": SAMPLED,
    }
    pyramid = torchvisions_pyramid((1, 2, 3, 4))
    if kind != "mask_rcnn":
        return FasterRCNN(pyramid, **settings, **sides)
    masks = {
        "mask_head": MaskRCNNHeads(WIDTH, (WIDTH,) * 4, 1),
        "mask_predictor": MaskRCNNPredictor(WIDTH, WIDTH, len(NAMES) + 1),
    }
    return MaskRCNN(pyramid, **settings, **masks, **sides)


def ours(kind: str, inexact: bool, scenes: bool, batches: list[Batch]) -> nn.Module:
    told = InexactConfig(posterior=True, filter=True, adversary=0.1, start=0) if inexact else InexactConfig()
    config = DetectorConfig(
        kind=kind,  # type: ignore[arg-type]
        backbone="resnet18",
        image_size=SIZE,
        max_size=SIZE,
        fpn_channels=WIDTH,
        head_features=HEAD,
        proposals=PROPOSALS,
        sampled_boxes=SAMPLED,
        inexact=told,
    )
    model = build_model(config, NAMES)
    model.shows_scenes = scenes
    if model.inexact is not None:
        boxes = torch.cat([t["boxes"] for _, targets in batches for t in targets])
        labels = torch.cat([t["labels"] for _, targets in batches for t in targets])
        model.inexact.measure(boxes, labels, torch.full((len(boxes),), float(SIZE**2)), float(SIZE))
    return model


def built(which: str, kind: str, seed: int, batches: list[Batch]) -> nn.Module:
    torch.manual_seed(seed)
    if which == "torchvision":
        return torchvisions_own(kind)
    return ours(kind, which != "plain", which == "scenes", batches)


class Learner:
    """A model with its optimiser."""

    def __init__(self, which: str, kind: str, seed: int, batches: list[Batch]) -> None:
        self.model = built(which, kind, seed, batches).train()
        self.batches = batches
        if which == "torchvision" and kind == "retinanet":  # its classes count from 0
            self.batches = [(i, [t | {"labels": t["labels"] - 1} for t in targets]) for i, targets in batches]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)

    def step(self, number: int) -> dict[str, Tensor]:
        images, targets = self.batches[number % len(self.batches)]
        found = self.model(images, targets)
        losses: dict[str, Tensor] = found[0] if isinstance(found, tuple) else found
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        return losses


def same_start(learners: dict[str, Learner], kind: str) -> None:
    """All from the same weights, so that they propose and sample alike; ours of the cascade have heads of their own."""
    plain = learners["plain"].model.net.state_dict()  # type: ignore[union-attr]
    own = learners["torchvision"].model
    inside = {re.sub(r"\btrunk\.", "body.", k).replace("backbone.pyramid.", "backbone."): v for k, v in plain.items()}
    expected = own.state_dict()
    if kind == "retinanet":  # torchvision's pyramid has no level of stride 4, so the others are counted from 0
        moved = {re.sub(r"_blocks\.([123])\.", lambda m: f"_blocks.{int(m[1]) - 1}.", k): v for k, v in inside.items()}
        inside = {k: moved[k] for k in expected}
    if kind == "cascade_rcnn":
        inside = {k: v for k, v in inside.items() if "roi_heads" not in k}
    missing, unexpected = own.load_state_dict(inside, strict=False)
    assert not unexpected
    assert kind == "cascade_rcnn" or not missing
    for which in ("inexact", "scenes"):
        learners[which].model.net.load_state_dict(plain)  # type: ignore[union-attr]


def timed(kind: str, seed: int, rounds: int) -> dict[str, float]:
    """Medians in ms, and of the ratios to torchvision's step of the same round."""
    rng = torch.Generator().manual_seed(seed)
    batches = [batch(rng, kind == "mask_rcnn") for _ in range(BATCHES)]
    learners = {which: Learner(which, kind, seed, batches) for which in WHICH}
    same_start(learners, kind)
    taken: dict[str, list[float]] = {which: [] for which in WHICH}
    for turn in range(rounds + 1):
        gc.collect()
        for which, learner in learners.items():
            torch.manual_seed(turn)
            started = time.process_time()
            losses = learner.step(turn)
            spent = time.process_time() - started
            if turn:  # the first round makes what is made once, and fills the centroids
                taken[which].append(1e3 * spent)
            if which in ("inexact", "scenes") and turn:
                assert any("adversary" in k for k in losses), "everything is on"
    found = {which: round(statistics.median(times), 1) for which, times in taken.items()}
    for which in WHICH[1:]:
        pairs = zip(taken[which], taken["torchvision"], strict=True)
        found[f"{which} / torchvision"] = round(statistics.median(a / b for a, b in pairs), 4)
    return found


def peak() -> float:
    """MB; of this program alone, where the peak that `getrusage` tells begins with that of the program that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def grown(kind: str, seed: int, which: str) -> float:
    rng = torch.Generator().manual_seed(seed)
    batches = [batch(rng, kind == "mask_rcnn") for _ in range(BATCHES)]
    before = peak()
    learner = Learner(which, kind, seed, batches)
    for number in range(MEMORY_STEPS):
        torch.manual_seed(number)
        learner.step(number)
    return round(peak() - before, 1)


def memory(kind: str, seed: int) -> dict[str, float]:
    """Of each kind of step in a process of its own, forked from this one before it computes anything."""
    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        found = dict(zip(WHICH, pool.map(partial(grown, kind, seed), WHICH, chunksize=1), strict=True))
    ratios = {f"{which} / torchvision": round(found[which] / found["torchvision"], 4) for which in WHICH[1:]}
    return found | ratios


def main() -> None:
    torch.set_num_threads(1)
    what, kind, seed, *rest = sys.argv[1:]
    found = timed(kind, int(seed), int(rest[0]) if rest else 3) if what == "time" else memory(kind, int(seed))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
