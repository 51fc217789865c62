"""Write generated road scenes as COCO files, one annotation for each label of a box: ``python experiments/road/make.py OUT``.

``OUT/{train,val,test}.json`` and their pictures, the same for the same seed. Every object satisfies all rules that are given:
an object that breaks one is painted over and not annotated, so that rules which forbid what `scenes.py` draws leave fewer
objects, and never a contradiction.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageDraw
from scenes import HEIGHT, WIDTH, RoadScene, draw_scene

from neurosym.constraints import compile_constraints, groundings
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.rules import write_text_atomically
from neurosym.records import Box, Detection, Scene

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ONTOLOGY, RULES = ROOT / "ontologies" / "road.ttl", ROOT / "rules" / "road.rules"
LABELS = tuple((HERE / "labels.txt").read_text(encoding="utf-8").split())
SIZES = {"train": 80, "val": 40, "test": 120}
Allowed = Callable[[frozenset[str]], bool]


def allowed_by(knowledge: Knowledge) -> Allowed:
    """Whether one object may have a set of labels, by all rules of a knowledge."""
    ties = knowledge.ontology.categories
    constraints = compile_constraints(knowledge, [ties[label] for label in LABELS], required=False, exclusive=False)
    known: dict[frozenset[str], bool] = {}

    def allowed(labels: frozenset[str]) -> bool:
        if labels not in known:
            found = tuple(Detection(ties[label], Box(1, 1, 9, 9)) for label in sorted(labels))
            known[labels] = all(g.holds for g in groundings(constraints, Scene("", 10, 10, found)))
        return known[labels]

    return allowed


def annotated(scene: RoadScene, allowed: Allowed) -> RoadScene:
    """The scene without the objects that break a rule."""
    pen = ImageDraw.Draw(scene.image)
    kept = []
    for found in scene.objects:
        if allowed(found.labels):
            kept.append(found)
        else:
            pen.rectangle((found.box[0] - 3, found.box[1], found.box[2], found.box[3]), fill=(128, 128, 128))
    return RoadScene(scene.image, kept)


def write(out: Path, rules: Sequence[Path] = (RULES,), seed: int = 0, sizes: dict[str, int] | None = None) -> int:
    """Write all splits; returns how many objects they have."""
    allowed = allowed_by(load_knowledge([ONTOLOGY, *rules]))
    total = 0
    for number, (split, count) in enumerate((sizes or SIZES).items()):
        folder = out / split
        folder.mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        boxes: list[dict[str, Any]] = []
        for i in range(count):
            scene = annotated(draw_scene(np.random.default_rng([seed, number, i])), allowed)
            name = f"{split}-{i:04d}.png"
            scene.image.save(folder / name)
            images.append({"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT})
            total += len(scene.objects)
            for found in scene.objects:
                x1, y1, x2, y2 = found.box
                own = {"image_id": i, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                for label in sorted(found.labels):
                    boxes.append({"id": len(boxes) + 1, "category_id": LABELS.index(label) + 1} | own)
        categories = [{"id": k, "name": label} for k, label in enumerate(LABELS, 1)]
        value = {"images": images, "annotations": boxes, "categories": categories}
        write_text_atomically(out / f"{split}.json", json.dumps(value) + "\n")
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write generated road scenes as COCO files.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rules", type=Path, nargs="*", default=[RULES], help="rule files that every object satisfies")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{write(options.out, options.rules, options.seed)} objects in {options.out}")
