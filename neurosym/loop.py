"""The loop on a run folder: which file each stage reads and which it leaves for the next.

    train ─▶ config.yaml, checkpoints/ ─▶ predict ─▶ scenes-SPLIT.json ─▶ facts ─▶ facts-SPLIT.tsv
                                          evaluate ─▶ evaluation-SPLIT.json, overlays/SPLIT/*.png
    induce ─▶ candidates.json, candidates.rules ─▶ report ─▶ report.html

Stages that detect import torch when they are called; the others never do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from neurosym.data.images import annotated_scene
from neurosym.errors import InductionError, Problem, short_path
from neurosym.induction import InductionConfig, induce
from neurosym.knowledge.geometry import SIDES, SIZES, ZONES
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.runfolder import OpenRun, open_run
from neurosym.records import Candidate, FactStore, Sample, Scene
from neurosym.review import load_candidates, save_candidates, write_report
from neurosym.scenes import facts_from, load_scenes, save_facts, save_scenes
from neurosym.scenes.draw import save_overlays

Advance = Callable[[int, int, str], None]
"""Called with (done, total, note)."""


def _quiet(done: int, total: int, note: str) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Stages:
    """The stages after training, on one split of one run; `advance` is told of progress."""

    run: OpenRun
    split: str = "test"
    threshold: float = 0.5
    advance: Advance = _quiet

    @classmethod
    def of(cls, path: Path, split: str = "test", threshold: float = 0.5, advance: Advance = _quiet) -> Stages:
        """Open a run folder (see `open_run` for what is raised)."""
        return cls(open_run(path), split, threshold, advance)

    def file(self, stem: str, suffix: str) -> Path:
        """Where a stage leaves its result for this split."""
        return self.run.path / f"{stem}-{self.split}{suffix}"

    def predict(self, images: Sequence[Sample] | None = None) -> list[Scene]:
        """Detect, and write the scenes; images that are not on disk (a phantom) are written as PNG beside them."""
        from neurosym.learning.predict import predict

        images = self.run.images(self.split) if images is None else images
        found = predict(self.run, images, progress=lambda done, total: self.advance(done, total, ""))
        scenes = [s if s.image_path else self._with_image(s, images[i]) for i, s in enumerate(found)]
        save_scenes(self.file("scenes", ".json"), scenes, self._checkpoint())
        return scenes

    def _checkpoint(self) -> str:
        """The name of the run's newest checkpoint, "" if there is none."""
        return max((p.name for p in (self.run.path / "checkpoints").glob("step-*")), default="")

    def _origin(self) -> dict[str, Any]:
        """What a result of this stage was made from; results are shown together only if it is the same."""
        return {"split": self.split, "threshold": self.threshold, "checkpoint": self._checkpoint()}

    def _with_image(self, scene: Scene, sample: Sample) -> Scene:
        path = self.run.path / "films" / self.split / f"{scene.image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image).save(path)
        return replace(scene, image_path=str(path.resolve()))

    def scenes(self) -> list[Scene]:
        """The predictions of this split; predicted now if the file of them is of another checkpoint, or is not there."""
        path = self.file("scenes", ".json")
        if path.is_file():
            scenes, origin = load_scenes(path)
            if origin == self._checkpoint():
                return scenes
        return self.predict()

    def evaluate(self, images: Sequence[Sample] | None = None, overlays: int = 12) -> dict[str, Any]:
        """Score predictions against annotations and draw some of them."""
        from neurosym.constraints import compile_constraints
        from neurosym.learning.evaluate import evaluate_scenes

        images = self.run.images(self.split) if images is None else images
        scenes = self.predict(images)
        true = [annotated_scene(images[i]) for i in range(len(images))]
        constraints = compile_constraints(self.run.knowledge, self.run.names, required=False)
        result = evaluate_scenes(scenes, true, self.run.names, constraints, self.threshold).as_dict()
        pictures = save_overlays(self.run.path / "overlays" / self.split, images, scenes, self.threshold, overlays)
        result |= self._origin() | {"overlays": [str(p) for p in pictures]}
        write_text_atomically(self.file("evaluation", ".json"), json.dumps(result, indent=1) + "\n")
        return result

    def facts(self) -> FactStore:
        """The facts of the split's predictions, written to ``facts-SPLIT.tsv``."""
        store = facts_from(self.scenes(), self.run.knowledge, self.threshold)
        save_facts(self.file("facts", ".tsv"), store)
        return store

    def true_facts(self) -> FactStore:
        """The facts of the split's annotations, written to ``true-facts-SPLIT.tsv``."""
        images = self.run.images(self.split)
        store = facts_from((annotated_scene(images[i]) for i in range(len(images))), self.run.knowledge)
        save_facts(self.file("true-facts", ".tsv"), store)
        return store

    def induce(self, config: InductionConfig) -> list[Candidate]:
        """Rules that hold in the facts and that the ontology does not entail already.

        Unless targets are named, heads are relations, places, sizes and study labels: what class a detection has is for the
        detector to say, not for a rule.
        """

        def progress(state: Any) -> None:
            self.advance(0, 0, f"{state.stage} {state.target}: {state.evaluated} bodies, {state.found} rules")

        ontology, facts = self.run.knowledge.ontology, self.facts()
        if not config.targets:
            labels = {label for scene in self.scenes() for label in scene.labels}
            heads = {*ontology.relations, *ZONES, *SIDES, *SIZES, *labels}
            config = replace(config, targets=tuple(r for r in facts.relations if r in heads))
        found = induce(facts, config, progress, background=ontology.entailments())
        save_candidates(self.run.path / "candidates.json", found, self._origin())
        return found

    def report(self, out: Path) -> int:
        """Write the HTML report of the induced rules, on the split they were learned from; returns how many there are."""
        path = self.run.path / "candidates.json"
        candidates, origin = load_candidates(path)
        if origin.get("checkpoint") != self._checkpoint() or not {"split", "threshold"} <= set(origin):
            made = origin.get("checkpoint") or "facts of another origin"
            message = f"the rules were induced with {made}, the run is at {self._checkpoint()}"
            raise InductionError(Problem(message, short_path(path), cure="run `neurosym induce RUN` again"))
        learned = replace(self, split=origin["split"], threshold=origin["threshold"])
        scenes, scored, evaluation = learned.scenes(), learned.file("evaluation", ".json"), None
        if scored.is_file():
            evaluation = json.loads(scored.read_text(encoding="utf-8"))
            if {k: evaluation.get(k) for k in origin} != origin:
                evaluation = None  # of another checkpoint or threshold
        title = f"Rules induced from {self.run.config.name}"
        source = f"predictions of score ≥ {learned.threshold:g} on the {learned.split} split"
        write_report(out, title, candidates, scenes, self.run.knowledge, evaluation, source, learned.threshold)
        return len(candidates)
