"""`neurosym facts` and what `neurosym induce` makes of its facts, on a run folder whose predictions are written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.data.images import annotated_scene
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.knowledge import load_knowledge
from neurosym.records import Box, Scene
from neurosym.scenes import load_facts, save_scenes
from neurosym.scenes.rdf import load_rdf
from tests.conftest import CLASSES, ROOT

FILES = [str(ROOT / "ontologies/chest-facts.ttl"), str(ROOT / "rules/thorax.rules")]
SPLITS = {"train": (0, 4), "val": (100, 40), "test": (200, 6)}


def predicted(scene: Scene, rng: np.random.Generator) -> Scene:
    """What is annotated, and as much that is not there, both with scores around 0.7."""
    shift = 0.45 * scene.width
    wrong = [replace(d, box=Box(*(v + shift for v in d.box.xyxy))) for d in scene.detections]
    found = [*scene.detections, *wrong]
    return replace(scene, detections=tuple(replace(d, score=round(float(rng.uniform(0.5, 0.9)), 4)) for d in found))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "made"
    folder.mkdir()
    data = {"format": "phantom", "size": 96, "categories": list(CLASSES)}
    data |= {split: {"start": start, "count": count} for split, (start, count) in SPLITS.items()}
    config = {"name": "made", "knowledge": FILES, "data": data, "names": list(CLASSES)}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rng = np.random.default_rng(0)
    for split in ("val", "test"):
        films = Phantom(*SPLITS[split], PhantomConfig(size=96))
        save_scenes(folder / f"scenes-{split}.json", [predicted(annotated_scene(f), rng) for f in films])
    return folder


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


def told(*words: object) -> dict[str, object]:
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_calibrated_facts_weigh_what_detections_of_their_score_are_worth(run: Path) -> None:
    plain, calibrated = told("facts", run), told("facts", run, "--calibrated")
    assert calibrated["facts"] == str(run / "facts-test-calibrated.tsv")
    stores = [load_facts(Path(str(value["facts"]))) for value in (plain, calibrated)]
    assert {(f.relation, f.args) for f in stores[0].facts} == {(f.relation, f.args) for f in stores[1].facts}
    mean = [np.mean([f.weight for f in s.facts if f.relation == "heart"]) for s in stores]
    assert mean[0] == pytest.approx(0.7, abs=0.08)
    assert mean[1] == pytest.approx(0.5, abs=0.08), "every second heart is none"
    errors = calibrated["calibration_error"]
    assert isinstance(errors, dict)
    assert errors["before"] > 0.15 > 0.1 > errors["after"]


def test_the_calibration_is_kept_until_there_is_another_checkpoint(run: Path) -> None:
    path = run / "calibration-scores.json"
    path.unlink(missing_ok=True)
    told("facts", run, "--calibrated")
    value = json.loads(path.read_text())
    assert value["origin"] == {"checkpoint": "", "split": "val"}
    path.write_text(json.dumps(value | {"error_before": 0.125}))
    assert told("facts", run, "--calibrated")["calibration_error"]["before"] == 0.125  # type: ignore[index]
    path.write_text(json.dumps(value | {"origin": {"checkpoint": "step-000001", "split": "val"}}))
    told("facts", run, "--calibrated")
    assert json.loads(path.read_text()) == value


def test_facts_of_a_split_tell_its_patients_and_are_written_as_rdf(run: Path, tmp_path: Path) -> None:
    for option in ((), ("--truth", "--masks")):
        value = told("facts", run, *option, "--threshold", 0.7, "--rdf", tmp_path / "f.ttl")
        store = load_facts(Path(str(value["facts"])))
        assert load_rdf(tmp_path / "f.ttl", load_knowledge(FILES).ontology) == store
        assert "female_patient" in store.relations
    assert value["facts"] == str(run / "true-facts-test-masks.tsv")


def test_what_makes_no_sense_is_refused_before_anything_is_done(run: Path, tmp_path: Path) -> None:
    both = invoke("facts", run, "--truth", "--calibrated").exception
    assert str(both) == "--calibrated: annotations have no scores to calibrate; leave it out, or --truth"
    csv = invoke("facts", tmp_path / "none", "--rdf", tmp_path / "f.csv").exception
    assert "facts cannot be written as '.csv'; name it .ttl or .nt" in str(csv)


def test_rules_are_induced_of_places_and_not_of_what_is_counted_or_known(run: Path) -> None:
    told("induce", run, "--truth", "--budget", "1", "--max-atoms", "1", "--min-support", "2")
    found = json.loads((run / "true-candidates.json").read_text())["candidates"]
    words = load_knowledge(FILES).ontology.scene_words
    heads = {c["rule"].split("::")[1].split("(")[0].strip() for c in found}
    assert heads & {word.name for word in words.placed}
    assert not heads & (words.names - {w.name for w in (*words.placed, *words.mirrored)})
