"""A run folder to review, without a training: phantom films, what is on them as predictions, rules measured on those."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import uvicorn
import yaml
from PIL import Image

from neurosym.data.images import annotated_scene
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.induction import evaluate_rule
from neurosym.induction.index import FactIndex
from neurosym.knowledge import Knowledge, load_knowledge, parse_rules
from neurosym.learning.config import TrainConfig
from neurosym.records import Candidate, Rule, Scene
from neurosym.review import save_candidates
from neurosym.review.web.app import create_app
from neurosym.review.web.state import ReviewState
from neurosym.scenes import facts_from, save_scenes

ROOT = Path(__file__).parents[3]
ONTOLOGY = ROOT / "ontologies/thorax.ttl"
TEXTS = (
    "left_of(X, Y) :- right_lung(X), heart(Y).",
    "larger_than(X, Y) :- lung(X), heart(Y).",
    "inside(X, Y), lung(Y) :- opacity(X).",
    "near(X, Y) :- heart(X), lung(Y).",
    "lower_zone(X) :- pleural_effusion(X).",
    "above(X, Y) :- nodule(X), heart(Y).",
)
FILMS = 12


def make_run(
    folder: Path, texts: Sequence[str] = TEXTS, films: int = FILMS, size: int = 128, masks: bool = False
) -> Path:
    """Write the folder; on the first film the lungs are taken for each other, which speaks against rules of sides."""
    folder.mkdir(parents=True)
    file = folder / "x.rules"
    file.write_text("")
    knowledge = load_knowledge([ONTOLOGY, file])
    data = {"format": "phantom", "size": 64, "train": {"start": 0, "count": 2}, "test": {"start": 0, "count": films}}
    values = {"name": "x", "knowledge": [str(ONTOLOGY), str(file)], "data": data, "base": folder}
    config = TrainConfig.model_validate(values)
    settings = config.model_dump(mode="json") | {"names": ["heart", "left_lung", "right_lung"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    scenes = [_scene(folder, sample, masks) for sample in Phantom(0, films, PhantomConfig(size=size))]
    scenes[0] = mistaken(scenes[0])
    save_scenes(folder / "scenes-test.json", scenes, "step-1")
    origin = {"facts": "predictions", "run": "runs/x", "split": "test", "threshold": 0.5, "checkpoint": "step-1"}
    save_candidates(
        folder / "candidates.json", candidates(texts, scenes, knowledge), origin | {"trained_with": [], "untold": ""}
    )
    return folder


def _scene(folder: Path, sample, masks: bool) -> Scene:  # type: ignore[no-untyped-def]
    path = folder / "films" / f"{sample.image_id}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(sample.image).save(path)
    scene = replace(annotated_scene(sample), image_path=str(path))
    if masks:
        return scene
    return replace(scene, detections=tuple(replace(d, mask=None) for d in scene.detections))


def mistaken(scene: Scene) -> Scene:
    """The lungs' names exchanged."""
    names = {"left_lung": "right_lung", "right_lung": "left_lung"}
    return replace(scene, detections=tuple(replace(d, name=names.get(d.name, d.name)) for d in scene.detections))


def candidates(texts: Sequence[str], scenes: Sequence[Scene], knowledge: Knowledge) -> list[Candidate]:
    """The rules of the texts with their measures on the scenes."""
    index = FactIndex.of(facts_from(scenes, knowledge))
    return [_measured(rule, i, index) for i, rule in enumerate(parse_rules("\n".join(texts)), 1)]


def _measured(rule: Rule, number: int, index: FactIndex) -> Candidate:
    m = evaluate_rule(rule, index)
    head = "_".join(a.predicate for a in rule.head)
    rule = replace(rule, weight=max(0.001, round(m.confidence, 3)), meta={"id": f"induced_{head}_{number}"}, line=0)
    measures = (m.support, m.body_size, m.confidence, m.pca_confidence, m.head_coverage, m.lift)
    return Candidate(rule, *measures, m.supporting, m.refuting)


@contextmanager
def served(state: ReviewState) -> Iterator[str]:
    """The page of a state on a port of its own; yields its address, without the token."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    settings = uvicorn.Config(create_app(state), log_level="error", lifespan="off")
    server = uvicorn.Server(settings)
    thread = Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
