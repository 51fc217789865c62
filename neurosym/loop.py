"""The loop on a run folder: which file each stage reads and which it leaves for the next.

    train ─▶ config.yaml, checkpoints/ ─▶ predict ─▶ scenes-SPLIT.json ─▶ facts ─▶ facts-SPLIT.tsv
                                          facts --calibrated ─▶ calibration-scores.json
                                          evaluate ─▶ evaluation-SPLIT.json, overlays/SPLIT/*.png
    repair ─▶ scenes-SPLIT-repaired.json, repairs-SPLIT.json     explain ─▶ explanations/SPLIT/IMAGE.png
    quality ─▶ quality-SPLIT.json, quality-SPLIT.html     findings ─▶ findings/SPLIT/findings.json, .txt, sr/*.dcm
    induce ─▶ candidates.json, candidates.rules ─▶ report ─▶ report.html     of annotations: true-candidates.json, .rules
    assess ─▶ assessments.json                                               of annotations: true-assessments.json
    review ─▶ reviews.jsonl ─▶ rules/NAME.rules, rules/NAME.rejected.rules

Stages that detect import torch when they are called; the others never do.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from neurosym.data.images import IMAGE_SUFFIXES, annotated_scene, read_image
from neurosym.data.unread import unread
from neurosym.errors import ConfigError, DataError, Problem, did_you_mean, short_path
from neurosym.induction import InductionConfig, induce
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.annotation_truth import score_quality, to_judge
from neurosym.learning.runfolder import OpenRun, open_run
from neurosym.records import Candidate, FactStore, Sample, Scene
from neurosym.review import save_candidates
from neurosym.review.cohort import Cohort, films_of
from neurosym.review.film_reports import Wanted, write_film_reports
from neurosym.review.findings import Findings
from neurosym.review.origin import origin_of_annotations, origin_of_predictions, run_name
from neurosym.review.quality_page import write_quality_page
from neurosym.review.run_assessment import RunAssessment, assess_run
from neurosym.review.run_report import reported_candidates, write_run_report
from neurosym.review.sentences import Templates
from neurosym.review.suggestions import write_suggestions
from neurosym.scenes import facts_from, load_scenes, save_facts, save_scenes
from neurosym.scenes.draw import save_overlays, save_picture
from neurosym.scenes.explanation_picture import explanation_picture
from neurosym.scenes.of_run import image_attributes, run_calibration, usual_heads

if TYPE_CHECKING:
    from neurosym.constraints.explanation import SceneExplanation
    from neurosym.constraints.repair import RepairPlan
    from neurosym.scenes.score_calibration import ScoreCalibration

log = logging.getLogger(__name__)
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
        from neurosym.constraints.repair_report import repair_details, repair_summary

        self.run.require_one_class("repair")
        scenes = self.scenes() if scenes is None else scenes
        plan = self._plan()
        repairs = {}
        for number, scene in enumerate(scenes, 1):
            repairs[scene.image_id] = plan.repair(scene, threshold=self.threshold)
            self.advance(number, len(scenes), "repaired")
        repaired = [r.scene for r in repairs.values()]
        summary = self._origin() | repair_summary(repairs)
        save_scenes(self.file("scenes", "-repaired.json"), repaired, self._checkpoint())
        text = json.dumps(summary | repair_details(repairs), indent=1)
        write_text_atomically(self.file("repairs", ".json"), text + "\n")
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
        from neurosym.constraints.confidence import load_report
        from neurosym.constraints.explain import explain_scene
        from neurosym.learning.run_constraints import constraints_of

        self.run.require_one_class("explain")
        scene = self._scene_of(image)
        learned = self.run.path / "confidences.json"
        plan = self._plan() if find_spec("pysat") is not None else None
        if plan is None:
            log.warning("python-sat is not installed, so no repair is shown; pip install 'neurosym-imaging[repair]'")
        found = explain_scene(
            scene,
            self.run.knowledge,
            self.threshold,
            constraints=constraints_of(self.run),
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

        Raises:
            ConfigError: scenes are to be repaired whose boxes have several labels.
        """
        from neurosym.learning.evaluate import evaluate_scenes, scenes_to_score
        from neurosym.learning.run_constraints import constraints_of

        if repair:
            self.run.require_one_class("repair")
        images = self.run.images(self.split) if images is None else images
        scenes = self.predict(images)
        true = scenes_to_score((images[i] for i in range(len(images))), self.run.names)
        constraints = constraints_of(self.run)
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

    def evaluation(self) -> dict[str, Any] | None:
        """What `evaluate` wrote of this split, None if nothing, or of another checkpoint or threshold."""
        path, made = self.file("evaluation", ".json"), self._origin()
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            cure = "write it anew with `neurosym evaluate RUN`"
            raise DataError(Problem("not an evaluation, or damaged", short_path(path), cure=cure))
        return found if {k: found.get(k) for k in made} == made else None

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
            ConfigError: boxes are to be suggested by a run that refines none, or have several labels. DataError: there is no
                annotation to judge.

        Of a given file, annotations of categories that the run does not learn are left out: ``left_out`` in the result says how
        many of each.
        """
        from neurosym.learning.annotation_quality import annotation_quality

        self.run.require_one_class("quality")
        if suggest is not None and not self.run.config.model.inexact.posterior:
            cure = "train with model.inexact.posterior: true"
            raise ConfigError(Problem("--suggest: the run refines no boxes", short_path(self.run.path), cure=cure))
        images, truth, left_out = to_judge(self.run, self.split, given)
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
            folder = given[1] if given else self.run.image_folder(self.split)
            count = write_suggestions(suggest, found, scenes, self.run.categories, folder)
            result |= {"suggestions": str(suggest), "changed": count}
        text = json.dumps(result | {"ranked": [q.as_dict() for q in ranked]}, indent=1, ensure_ascii=False)
        write_text_atomically(self.file("quality", ".json"), text + "\n")
        place, by_id = {s.image_id: i for i, s in enumerate(scenes)}, {s.image_id: s for s in scenes}
        title = f"Annotations of {self.run.config.name}, {self.split}"
        write_quality_page(out, title, ranked[:top], lambda i: images[place[i]], by_id, len(found), scores)
        return result | {"report": str(out), "worst": [q.as_dict() for q in ranked[:top]]}

    def facts(self, masks: bool = False, calibrated: bool = False) -> FactStore:
        """The facts of the predictions, written to `facts_file`; `calibrated` ones weigh probabilities, not scores."""
        probable = self.calibration() if calibrated else None
        store = self._facts_of(self.scenes(), self.threshold, masks=masks, calibration=probable)
        save_facts(self.facts_file(masks, calibrated), store)
        return store

    def _facts_of(self, scenes: Sequence[Scene], threshold: float = 0.5, **how: Any) -> FactStore:
        attributes, several = image_attributes(self.run, self.split), self.run.config.model.multi_label
        return facts_from(scenes, self.run.knowledge, threshold, attributes=attributes, multi_label=several, **how)

    def facts_file(self, masks: bool = False, calibrated: bool = False, truth: bool = False) -> Path:
        """``facts-SPLIT.tsv``, of annotations ``true-facts-SPLIT.tsv``; by masks and of calibrated weights each its own."""
        how = f"{'-masks' if masks else ''}{'-calibrated' if calibrated else ''}"
        return self.file("true-facts" if truth else "facts", f"{how}.tsv")

    def calibration(self) -> ScoreCalibration:
        """What makes this checkpoint's scores probabilities, fitted to the validation split."""
        val = replace(self, split="val")
        return run_calibration(self.run, self._checkpoint(), lambda: (val.scenes(), val.true_scenes()))

    def save_rdf(self, path: Path, store: FactStore, truth: bool = False, how: Sequence[str] = ()) -> None:
        """Write facts of this split as RDF, with where they come from; `how` says how they were made, in words."""
        from neurosym import __version__
        from neurosym.scenes.rdf import Provenance, save_rdf

        name = f"{run_name(self.run.path)} {self.split}"
        predicted = Provenance.of_predictions(name, __version__, self._checkpoint(), self.threshold, *how)
        origin = Provenance.of_annotations(name, __version__, *how) if truth else predicted
        save_rdf(path, store, self.run.knowledge.ontology, origin)

    def true_scenes(self) -> list[Scene]:
        """What is annotated on the images of the split."""
        return [annotated_scene(image) for image in unread(self.run.images(self.split))]

    def true_facts(self, scenes: Sequence[Scene] | None = None, masks: bool = False) -> FactStore:
        """The facts of the split's annotations, written to `facts_file`."""
        scenes = self.true_scenes() if scenes is None else scenes
        store = self._facts_of(scenes, masks=masks)
        save_facts(self.facts_file(masks, truth=True), store)
        return store

    def induce(
        self, config: InductionConfig, truth: bool = False, *, masks: bool = False, calibrated: bool = False
    ) -> list[Candidate]:
        """Rules that hold in the facts and that the ontology does not entail already, written to ``candidates.json``.

        With `truth` the facts are of the annotations, and the file is ``true-candidates.json``: evidence that no model was
        taught. Unless targets are named, heads are `usual_heads`. `masks` and `calibrated` are those of `facts`; the origin
        says so, and whoever measures the rules makes the same facts. ConfigError: annotations have nothing to calibrate.
        """
        if truth and calibrated:
            raise ConfigError("--calibrated: annotations have no scores to calibrate; leave it out, or --truth")

        def progress(state: Any) -> None:
            self.advance(0, 0, f"{state.stage} {state.target}: {state.evaluated} bodies, {state.found} rules")

        scenes = self.true_scenes() if truth else self.scenes()
        ontology = self.run.knowledge.ontology
        facts = self.true_facts(scenes, masks) if truth else self.facts(masks, calibrated)
        if not config.targets:
            config = replace(config, targets=usual_heads(ontology, scenes, facts))
        found = induce(facts, config, progress, background=ontology.entailments())
        image_ids = [scene.image_id for scene in scenes]
        if truth:
            origin = origin_of_annotations(self.run, self.split, image_ids)
        else:
            origin = origin_of_predictions(self.run, self.split, self.threshold, self._checkpoint(), image_ids)
        asked = {name: getattr(config, name) for name in ("min_support", "min_scenes", "min_confidence", "measure")}
        origin |= {"masks": masks, "calibrated": calibrated, "bounds": asked}
        save_candidates(self.run.path / f"{'true-' if truth else ''}candidates.json", found, origin)
        return found

    def assess(self, *, truth: bool = False, **how: Any) -> RunAssessment:
        """What speaks for and against the induced rules besides their measures; for the rest see `assess_run`."""

        def cohort(split: str, origin: Mapping[str, Any]) -> Cohort:
            stages = replace(self, split=split, threshold=origin.get("threshold", self.threshold))
            masks = bool(origin.get("masks"))
            facts = stages.true_facts(masks=masks) if truth else stages.facts(masks, bool(origin.get("calibrated")))
            return Cohort(split, films_of(self.run, split), facts)

        return assess_run(self.run, cohort, truth=truth, checkpoint=self._checkpoint(), advance=self.advance, **how)

    def findings(self, templates: Templates, wanted: Wanted, out: Path | None = None) -> list[Path]:
        """Report what is found on each film of the split; see `write_film_reports` for what is written and raised."""
        self.run.require_one_class("findings")
        made = Findings.of_run(self.run, self.split, self.threshold, templates.ratios)
        out = out or self.run.path / "findings" / self.split
        return write_film_reports(out, self.scenes(), made, templates, wanted, self._source, self.advance)

    @property
    def _source(self) -> str:
        return f"predictions of score ≥ {self.threshold:g} on the {self.split} split"

    def report(self, out: Path, keep_identifiers: bool = False, films: int = 4) -> int:
        """Write the HTML report of the run and its rules, on the split they were learned from; returns how many there are.

        Films are numbered unless identifiers are kept; what is found on the first `films` is told, of boxes with one label.
        """
        candidates, origin = reported_candidates(self.run, self._checkpoint())
        learned = replace(self, split=origin["split"], threshold=origin["threshold"])
        scenes, evaluation = learned.scenes(), learned.evaluation()
        write_run_report(
            out, self.run, candidates, origin, scenes, evaluation, learned._source, keep_identifiers, films
        )
        return len(candidates)
