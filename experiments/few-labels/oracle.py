"""Where the average precision of a run is lost: what it would be if one kind of error were mended by an oracle.

``python experiments/few-labels/oracle.py RUN [SPLIT]``. After TIDE (Bolya et al. 2020): classes put right, false alarms
removed, boxes put right, each alone; and what rules can say by themselves, with the truth about the anatomy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from neurosym.constraints import compile_constraints
from neurosym.constraints.crisp import groundings
from neurosym.data.images import annotated_scene
from neurosym.learning.calibration import overlap_of
from neurosym.learning.evaluate import evaluate_scenes
from neurosym.loop import Stages
from neurosym.records import Detection, Scene

Mend = Callable[[Scene, Scene], Iterable[Detection]]


def best(detection: Detection, truth: Scene) -> tuple[float, Detection | None]:
    """The true object that a detection overlaps most."""
    pairs = [(overlap_of(detection.box, t.box), k) for k, t in enumerate(truth.detections)]
    overlap, index = max(pairs, default=(0.0, -1))
    return overlap, truth.detections[index] if index >= 0 else None


def classes_right(found: Scene, truth: Scene) -> Iterable[Detection]:
    """Every detection that overlaps an object by half has its class."""
    for d in found.detections:
        overlap, t = best(d, truth)
        yield replace(d, name=t.name) if t is not None and overlap >= 0.5 else d


def alarms_removed(found: Scene, truth: Scene) -> Iterable[Detection]:
    """Detections that overlap nothing are gone."""
    return (d for d in found.detections if best(d, truth)[0] >= 0.1)


def boxes_right(found: Scene, truth: Scene) -> Iterable[Detection]:
    """A detection of the right class takes its object's box."""
    for d in found.detections:
        overlap, t = best(d, truth)
        yield replace(d, box=t.box) if t is not None and overlap >= 0.1 and t.name == d.name else d


def rules_obeyed(stages: Stages) -> Mend:
    """A detection that breaks a rule beside the true anatomy has a tenth of its score."""
    run = stages.run
    constraints = compile_constraints(run.knowledge, run.names)

    def mend(found: Scene, truth: Scene) -> Iterable[Detection]:
        for d in found.detections:
            others = tuple(t for t in truth.detections if best(replace(d, box=t.box), Scene("", 1, 1, (d,)))[0] < 0.5)
            scene = replace(truth, detections=(d, *others))
            broken = any(not g.holds and 0 in g.objects for g in groundings(constraints, scene))
            yield replace(d, score=0.1 * d.score) if broken else d

    return mend


def main() -> None:
    """Print one line an oracle."""
    stages = Stages.of(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "val")
    images = stages.run.images(stages.split)
    true = [annotated_scene(images[i]) for i in range(len(images))]
    found = stages.scenes()
    mends: dict[str, Mend] = {
        "as it is": lambda f, _: f.detections,
        "classes put right": classes_right,
        "false alarms removed": alarms_removed,
        "boxes put right": boxes_right,
        "rules obeyed": rules_obeyed(stages),
    }
    for name, mend in mends.items():
        scenes = [replace(f, detections=tuple(mend(f, t))) for f, t in zip(found, true, strict=True)]
        result = evaluate_scenes(scenes, true, stages.run.names)
        classes = ", ".join(f"{k} {v['ap50']:.3f}" for k, v in result.per_class.items())
        Console(soft_wrap=True).print(f"{name:22s} AP50 {result.ap50:.3f} ({classes})")


if __name__ == "__main__":
    main()
