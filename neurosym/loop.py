"""The loop on a run folder: which file each stage reads and which it leaves for the next.

    train ─▶ config.yaml, checkpoints/ ─▶ predict ─▶ scenes-SPLIT.json ─▶ facts ─▶ facts-SPLIT.tsv
                                          evaluate ─▶ evaluation-SPLIT.json, overlays/SPLIT/*.png
    repair ─▶ scenes-SPLIT-repaired.json, repairs-SPLIT.json     explain ─▶ explanations/SPLIT/IMAGE.png
    quality ─▶ quality-SPLIT.json, quality-SPLIT.html     findings ─▶ findings/SPLIT/findings.json, .txt, sr/*.dcm
    induce ─▶ candidates.json, candidates.rules ─▶ report ─▶ report.html     of annotations: true-candidates.json, .rules
    review ─▶ reviews.jsonl ─▶ rules/NAME.rules, rules/NAME.rejected.rules

Stages that detect import torch when they are called; the others never do.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from neurosym.data.coco import known_categories, load_coco
from neurosym.data.images import IMAGE_SUFFIXES, annotated_scene, read_image
from neurosym.errors import ConfigError, DataError, InductionError, Problem, did_you_mean, short_path
from neurosym.induction import InductionConfig, induce
from neurosym.knowledge.geometry import SIDES, SIZES, ZONES
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.annotation_truth import Truth, score_quality, truth_of_file, truth_of_split
from neurosym.learning.runfolder import OpenRun, open_run
from neurosym.records import Candidate, FactStore, Sample, Scene
from neurosym.review import load_candidates, save_candidates, write_report
from neurosym.review.film_reports import Wanted, write_film_reports
from neurosym.review.findings import Findings
from neurosym.review.origin import origin_of_annotations, origin_of_predictions
from neurosym.review.quality_page import write_quality_page
from neurosym.review.run_summary import summary_of
from neurosym.review.sentences import Templates, load_templates, sentences_of
from neurosym.review.suggestions import write_suggestions
from neurosym.scenes import facts_from, load_scenes, save_facts, save_scenes
from neurosym.scenes.draw import save_overlays, save_picture
from neurosym.scenes.explanation_picture import explanation_picture

if TYPE_CHECKING:
    from neurosym.constraints.explanation import SceneExplanation
    from neurosym.constraints.repair import RepairPlan

log = logging.getLogger(__name__)
Advance = Callable[[int, int, str], None]
"""Called with (done, total, note)."""


def _quiet(done: int, total: int, note: str) -> None:
    """Show no progress."""


def _counted(annotations: Mapping[str, int]) -> str:
    """How many annotations there are of each category, in words; of the ten most frequent ones, if there are more."""
    most = sorted(annotations.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in most[10:])
    return ", ".join(f"{count} of {name}" for name, count in most[:10]) + (f", {rest} of others" if rest else "")


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

    def scenes(self, images: Sequence[Sample] | None = None) -> list[Scene]:
        """The predictions of this split; predicted now if the file of them is of another checkpoint, or is not there.

        `images` are those of the split, if they have been opened already.
        """
        path = self.file("scenes", ".json")
        if path.is_file():
            scenes, origin = load_scenes(path)
            if origin == self._checkpoint():
                return scenes
        return self.predict(images)

    def repair(self, scenes: Sequence[Scene] | None = None) -> tuple[list[Scene], dict[str, Any]]:
        """The split's scenes without a hard violation at the threshold, and what it took, written to two files.

        Detections below the threshold are passed on as they are, so average precision still counts them.

        Raises:
            ConstraintError: python-sat is not installed.
        """
        scenes = self.scenes() if scenes is None else scenes
        plan = self._plan()
        repairs = []
        for number, scene in enumerate(scenes, 1):
            repairs.append(plan.repair(scene, threshold=self.threshold))
            self.advance(number, len(scenes), "repaired")
        repaired = [r.scene for r in repairs]
        changes = [(s.image_id, change) for s, r in zip(scenes, repairs, strict=True) for change in r.changes]
        left = [(s.image_id, broken) for s, r in zip(scenes, repairs, strict=True) for broken in r.unsatisfied]
        summary = self._origin() | {
            "images": len(scenes),
            "images_changed": len({image for image, _ in changes}),
            "removed": sum(change.after is None for _, change in changes),
            "relabelled": sum(change.after is not None for _, change in changes),
            "forced_by": dict(Counter(rule for _, change in changes for rule in change.rules).most_common()),
            "unsatisfied": dict(Counter(broken.id for _, broken in left).most_common()),
        }
        told = [
            {"image": image, "detection": c.detection, "before": c.before, "after": c.after, "cost": round(c.cost, 4)}
            | {"rules": list(c.rules), "partners": list(c.partners), "message": str(c)}
            for image, c in changes
        ]
        unmet = [{"image": i, "rule": b.id, "detections": list(b.detections), "message": str(b)} for i, b in left]
        save_scenes(self.file("scenes", "-repaired.json"), repaired, self._checkpoint())
        value = summary | {"changes": told, "unsatisfied_places": unmet}
        write_text_atomically(self.file("repairs", ".json"), json.dumps(value, indent=1) + "\n")
        return repaired, summary

    def _plan(self) -> RepairPlan:
        from neurosym.constraints.repair import RepairPlan

        return RepairPlan(self.run.knowledge, self.run.names)

    def explain(self, image: str, out: Path | None = None) -> tuple[SceneExplanation, Path]:
        """Explain what the rules say of one image, and draw it.

        Args:
            image: an image file, on which the run's model detects now, or the id of an image of this split.
            out: the picture's file; in the run folder by default.

        Raises:
            DataError: no such image (the nearest known id is named). ConstraintError: the run has no rules.
        """
        from neurosym.constraints import compile_constraints
        from neurosym.constraints.confidence import load_report
        from neurosym.constraints.explain import explain_scene

        scene = self._scene_of(image)
        learned = self.run.path / "confidences.json"
        plan = None
        if find_spec("pysat") is None:
            log.warning("python-sat is not installed, so no repair is shown; pip install 'neurosym-imaging[repair]'")
        else:
            plan = self._plan()
        found = explain_scene(
            scene,
            self.run.knowledge,
            self.threshold,
            constraints=compile_constraints(self.run.knowledge, self.run.names, required=False),
            plan=plan,
            confidences=load_report(learned) if learned.is_file() else (),
        )
        origin = "files" if Path(image).is_file() else self.split
        out = out or self.run.path / "explanations" / origin / f"{scene.image_id}.png"
        save_picture(explanation_picture(read_image(Path(scene.image_path)), scene, found), out)
        return found, out

    def _scene_of(self, image: str) -> Scene:
        """The scene of an image file, or of an image of the split by its id."""
        path = Path(image)
        if path.is_file():
            from neurosym.learning.predict import predict

            return predict(self.run, [Sample(path.stem, read_image(path), path=str(path.resolve()))])[0]
        scenes = {scene.image_id: scene for scene in self.scenes()}
        if image in scenes:
            return scenes[image]
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise DataError(Problem("image not found", short_path(path), cure="name an image file or an image's id"))
        cure = did_you_mean(image, scenes)
        raise DataError(Problem(f"the {self.split} split has no image {image!r}", short_path(self.run.path), cure=cure))

    def evaluate(
        self, images: Sequence[Sample] | None = None, overlays: int = 12, repair: bool = False
    ) -> dict[str, Any]:
        """Score predictions against annotations and draw some of them; with `repair`, the repaired predictions.

        ``hard_violations`` counts where hard rules are broken at the threshold. What is scored of repaired scenes is written
        beside the raw ones' scores, to ``evaluation-SPLIT-repaired.json``.
        """
        from neurosym.constraints import compile_constraints
        from neurosym.learning.evaluate import evaluate_scenes

        images = self.run.images(self.split) if images is None else images
        scenes = self.predict(images)
        true = [annotated_scene(images[i]) for i in range(len(images))]
        constraints = compile_constraints(self.run.knowledge, self.run.names, required=False)
        suffix, summary = "", {}
        if repair:
            scenes, told = self.repair(scenes)
            suffix, summary = "-repaired", {"repair": told}
        evaluation = evaluate_scenes(scenes, true, self.run.names, constraints, self.threshold)
        hard = [s.violated for s, rule in zip(evaluation.rules, constraints.rules, strict=True) if rule.weight is None]
        folder = self.run.path / "overlays" / f"{self.split}{suffix}"
        pictures = save_overlays(folder, images, scenes, self.threshold, overlays)
        result = evaluation.as_dict() | {"hard_violations": sum(hard)} | summary
        result |= self._origin() | {"overlays": [str(p) for p in pictures]}
        write_text_atomically(self.file("evaluation", f"{suffix}.json"), json.dumps(result, indent=1) + "\n")
        return result

    def quality(
        self, out: Path, top: int = 40, suggest: Path | None = None, given: tuple[Path, Path] | None = None
    ) -> dict[str, Any]:
        """Judge the annotations of the split, and show the worst; all of them are written to ``quality-SPLIT.json``.

        Args:
            out: the page of the worst, as HTML.
            top: how many it shows.
            suggest: a COCO file of the suggested boxes to write.
            given: a COCO file and the folder of its images, to judge instead of the split.

        Raises:
            ConfigError: boxes are to be suggested by a run that refines none. DataError: there is no annotation to judge.

        Of a given file, annotations of categories that the run does not learn are left out: ``left_out`` in the result says how
        many of each.
        """
        from neurosym.learning.annotation_quality import annotation_quality

        refines = self.run.config.model.inexact.posterior
        if suggest is not None and not refines:
            cure = "train with model.inexact.posterior: true"
            raise ConfigError(Problem("--suggest: the run refines no boxes", short_path(self.run.path), cure=cure))
        images, truth, left_out = self._annotated(given)
        scenes = self.scenes(images) if given is None else self.predict(images)
        found = annotation_quality(
            self.run, self.split, images, scenes, progress=lambda done, total: self.advance(done, total, "judged")
        )
        if not found:
            message = f"nothing is annotated on the images of {self.split} that the run knows a class of"
            raise DataError(Problem(message, short_path(self.run.path), cure="name another split, e.g. train"))
        ranked = sorted(found, key=lambda q: (q.estimate, q.image_id, q.index))
        scores = None if truth is None else score_quality(found, truth)
        result = self._origin() | {"annotations": len(found), "scores": None if scores is None else scores.as_dict()}
        result["left_out"] = left_out
        if suggest is not None:
            if all(q.suggested is None for q in found):
                message = (
                    "--suggest: the run has refined no box (it ended before model.inexact.start, or learns from masks)"
                )
                raise ConfigError(Problem(message, short_path(self.run.path), cure="train a detector for longer"))
            count = write_suggestions(suggest, found, scenes, self._categories(), self._image_folder(given))
            result |= {"suggestions": str(suggest), "changed": count}
        text = json.dumps(result | {"ranked": [q.as_dict() for q in ranked]}, indent=1, ensure_ascii=False)
        write_text_atomically(self.file("quality", ".json"), text + "\n")
        place = {s.image_id: i for i, s in enumerate(scenes)}
        title = f"Annotations of {self.run.config.name}, {self.split}"
        by_id = {s.image_id: s for s in scenes}
        write_quality_page(out, title, ranked[:top], lambda i: images[place[i]], by_id, len(found), scores)
        return result | {"report": str(out), "worst": [q.as_dict() for q in ranked[:top]]}

    def _annotated(self, given: tuple[Path, Path] | None) -> tuple[Sequence[Sample], Truth | None, dict[str, int]]:
        """The images to judge, the truth about them where there is one, which is for scoring only; and how many annotations
        of each category are left out, because the run does not learn it."""
        if given is None:
            images = self.run.images(self.split)
            return images, truth_of_split(self.run, self.split, images), {}
        file, folder = given
        knowledge, bad_boxes = self.run.knowledge, self.run.config.data.bad_boxes
        known, left_out = known_categories(file, knowledge, self.run.names)
        found = load_coco(file, folder, knowledge, known, bad_boxes, labelled=False)
        if not any(entry.annotations for entry in found.entries):
            others = f"; annotated are {_counted(left_out)}" if left_out else ""
            message = f"nothing is annotated that the run learns ({', '.join(self.run.names)}){others}"
            cure = "give a file of its classes, or tie a category to one of them (ns:category in the ontology)"
            raise DataError(Problem(message, short_path(file), cure=cure))
        return found, truth_of_file(self.run, file, known), left_out

    def _categories(self) -> dict[str, str]:
        """What each class of the run is called in its data."""
        ties = self.run.knowledge.ontology.categories
        names = [*(self.run.config.data.categories or ()), *sorted(ties)]
        return {n: next((c for c in names if ties.get(c) == n), n) for n in self.run.names}

    def _image_folder(self, given: tuple[Path, Path] | None) -> Path | None:
        """The folder that the split's file names are relative to, None for images that are not on disk."""
        folder = getattr(getattr(self.run.config.data, self.split, None), "images", None)
        return given[1] if given is not None else None if folder is None else self.run.config.base / folder

    def facts(self) -> FactStore:
        """The facts of the split's predictions, written to ``facts-SPLIT.tsv``."""
        store = facts_from(self.scenes(), self.run.knowledge, self.threshold)
        save_facts(self.file("facts", ".tsv"), store)
        return store

    def true_scenes(self) -> list[Scene]:
        """What is annotated on the images of the split."""
        images = self.run.images(self.split)
        return [annotated_scene(images[i]) for i in range(len(images))]

    def true_facts(self, scenes: Sequence[Scene] | None = None) -> FactStore:
        """The facts of the split's annotations, written to ``true-facts-SPLIT.tsv``."""
        store = facts_from(self.true_scenes() if scenes is None else scenes, self.run.knowledge)
        save_facts(self.file("true-facts", ".tsv"), store)
        return store

    def induce(self, config: InductionConfig, truth: bool = False) -> list[Candidate]:
        """Rules that hold in the facts and that the ontology does not entail already, written to ``candidates.json``.

        With `truth` the facts are of the annotations, and the file is ``true-candidates.json``: evidence that no model was
        taught. Unless targets are named, heads are relations, places, sizes and study labels: what class a detection has is
        for the detector to say, not for a rule.
        """

        def progress(state: Any) -> None:
            self.advance(0, 0, f"{state.stage} {state.target}: {state.evaluated} bodies, {state.found} rules")

        scenes = self.true_scenes() if truth else self.scenes()
        ontology, facts = self.run.knowledge.ontology, self.true_facts(scenes) if truth else self.facts()
        if not config.targets:
            labels = {label for scene in scenes for label in scene.labels}
            heads = {*ontology.relations, *ZONES, *SIDES, *SIZES, *labels}
            config = replace(config, targets=tuple(r for r in facts.relations if r in heads))
        found = induce(facts, config, progress, background=ontology.entailments())
        image_ids = [scene.image_id for scene in scenes]
        if truth:
            origin = origin_of_annotations(self.run, self.split, image_ids)
        else:
            origin = origin_of_predictions(self.run, self.split, self.threshold, self._checkpoint(), image_ids)
        save_candidates(self.run.path / f"{'true-' if truth else ''}candidates.json", found, origin)
        return found

    def findings(self, templates: Templates, wanted: Wanted, out: Path | None = None) -> list[Path]:
        """Report what is found on each film of the split; see `write_film_reports` for what is written and raised."""
        made = Findings(self.run.knowledge, self.run.names, self.threshold, templates.ratios)
        source = f"predictions of score ≥ {self.threshold:g} on the {self.split} split"
        out = out or self.run.path / "findings" / self.split
        return write_film_reports(out, self.scenes(), made, templates, wanted, source, self.advance)

    def report(self, out: Path, keep_identifiers: bool = False, films: int = 4) -> int:
        """Write the HTML report of the run and its rules, on the split they were learned from; returns how many there are.

        Films are numbered unless identifiers are kept; what is found on the first `films` is told.
        """
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
            made = learned._origin()
            if {k: evaluation.get(k) for k in made} != made:
                evaluation = None  # of another checkpoint or threshold
        title = f"Rules induced from {self.run.config.name}"
        source = f"predictions of score ≥ {learned.threshold:g} on the {learned.split} split"
        templates = load_templates()
        made = Findings(self.run.knowledge, self.run.names, learned.threshold, templates.ratios)
        found = ((scene, sentences_of(made.of(scene), templates)) for scene in scenes[:films])
        told = [(scene, [s for s in several if s.kind != "supported"]) for scene, several in found]
        write_report(
            out, title, candidates, scenes, self.run.knowledge, evaluation, source, learned.threshold,
            keep_identifiers=keep_identifiers, summary=summary_of(self.run), told=told,
        )  # fmt: skip
        return len(candidates)
