from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.data.images import annotated_scene
from neurosym.data.phantom import PhantomConfig, phantom_film
from neurosym.errors import DataError, NeurosymError, ReviewError
from neurosym.knowledge import Knowledge
from neurosym.records import Scene
from neurosym.review import film_reports
from neurosym.review.film_reports import Wanted, write_film_reports
from neurosym.review.findings import FilmFindings, Findings
from neurosym.review.sentences import load_templates, sentences_of
from neurosym.scenes import save_scenes
from tests.conftest import CLASSES, ROOT
from tests.review.test_confirmation import run_folder

IDS = ("doe-jane-1960", "roe-maximilian-1971", "poe-annika-1982")


def films(folder: Path) -> list[Scene]:
    """True scenes of phantom films under the names of patients."""
    made = []
    for number, name in enumerate(IDS):
        sample = phantom_film(4 + number, PhantomConfig(size=64))
        Image.fromarray(sample.image).save(folder / f"{name}.png")
        found = annotated_scene(sample)
        made.append(replace(found, image_id=name, image_path=str(folder / f"{name}.png")))
    return made


def write(out: Path, scenes: list[Scene], knowledge: Knowledge, wanted: Wanted) -> list[Path]:
    templates = load_templates()
    findings = Findings(knowledge, CLASSES, 0.5, templates.ratios)
    return write_film_reports(out, scenes, findings, templates, wanted, "annotations")


def test_films_are_numbered_by_their_place_in_the_split_and_nothing_tells_their_ids(
    tmp_path: Path, thorax: Knowledge
) -> None:
    pytest.importorskip("highdicom")
    out = tmp_path / "out"
    files = write(out, films(tmp_path), thorax, Wanted(("json", "text", "sr"), images=IDS[1:]))
    assert sorted(f.name for f in files) == sorted(
        ["findings.json", "findings.txt", *(f"film-{n}{end}.dcm" for n in (2, 3) for end in ("", ".image", ".seg"))]
    )
    for file in files:
        stored = file.read_bytes()
        words = [str(tmp_path), *IDS, *(name.split("-")[1] for name in IDS)]  # a year may be part of a random UID
        assert not [word for word in words if word.encode() in stored]
    told = json.loads((out / "findings.json").read_text())
    assert [f["image_id"] for f in told["films"]] == ["film 2", "film 3"]


def test_identifiers_are_kept_where_it_is_asked_for(tmp_path: Path, thorax: Knowledge) -> None:
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    wanted = Wanted(("text", "sr"), images=IDS[:1], keep_identifiers=True)
    write(tmp_path / "out", films(tmp_path), thorax, wanted)
    assert IDS[0] in (tmp_path / "out/findings.txt").read_text().lower()
    assert pydicom.dcmread(tmp_path / f"out/sr/{IDS[0]}.dcm").PatientID == IDS[0]


def test_the_json_is_the_graph_with_its_sentences_and_the_text_says_the_same(tmp_path: Path, thorax: Knowledge) -> None:
    scenes = films(tmp_path)
    write(tmp_path / "out", scenes, thorax, Wanted())
    told = json.loads((tmp_path / "out/findings.json").read_text())
    assert (told["format"], told["version"], told["language"]) == ("neurosym findings", 1, "en")
    text = (tmp_path / "out/findings.txt").read_text()
    for number, (plain, scene) in enumerate(zip(told["films"], scenes, strict=True), 1):
        film = FilmFindings.from_dict(plain)
        made = Findings(thorax, CLASSES, 0.5, load_templates().ratios).of(scene)
        assert film == replace(made, image_id=f"film {number}")
        assert [s["text"] for s in plain["sentences"]] == [s.text for s in sentences_of(film, load_templates())]
        assert all(s["text"] in text for s in plain["sentences"])


def test_the_same_scenes_give_the_same_bytes(tmp_path: Path, thorax: Knowledge) -> None:
    scenes = films(tmp_path)
    for name in "ab":
        write(tmp_path / name, scenes, thorax, Wanted())
    for file in ("findings.json", "findings.txt"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_reports_refer_to_the_dicom_films_of_a_folder(tmp_path: Path, thorax: Knowledge) -> None:
    pytest.importorskip("highdicom")
    from neurosym.review.source_image import secondary_capture

    image = secondary_capture(np.zeros((64, 64), np.uint8), "doe")
    image.save_as(tmp_path / f"{IDS[0]}.dcm")
    wanted = Wanted(("sr",), images=IDS[:1], dicom=tmp_path)
    masks, report = write(tmp_path / "out", films(tmp_path), thorax, wanted)
    for file in (masks, report):
        assert image.SOPInstanceUID.encode() in file.read_bytes()
    with pytest.raises(
        ReviewError,
        match=r"roe-maximilian-1971\.dcm: the DICOM image of a film is missing; did you mean .doe-jane-1960",
    ):
        write(tmp_path / "out", films(tmp_path), thorax, replace(wanted, images=IDS[1:2]))


@pytest.mark.parametrize("keep", [False, True])
def test_the_patient_of_a_dicom_film_is_in_what_is_written_only_if_asked_for(
    tmp_path: Path, thorax: Knowledge, keep: bool
) -> None:
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    from tests.review.clinic_films import PATIENT, save_film, words_of_patient

    save_film(tmp_path / f"{IDS[0]}.dcm", 64, 64)
    wanted = Wanted(("sr",), images=IDS[:1], dicom=tmp_path, keep_identifiers=keep)
    source = pydicom.dcmread(tmp_path / f"{IDS[0]}.dcm")
    for path in write(tmp_path / "out", films(tmp_path), thorax, wanted):
        made, told = pydicom.dcmread(path), words_of_patient(path.read_bytes())
        assert made.StudyInstanceUID == source.StudyInstanceUID
        if keep:
            assert {"Doe", "Jane", PATIENT["PatientID"], PATIENT["AccessionNumber"]} <= set(told)
            assert "PatientIdentityRemoved" not in made
        else:
            assert told == []
            assert (made.PatientID, made.PatientIdentityRemoved, made.ContentDate) == ("ANONYMOUS", "YES", "19000101")
            codes = [c.CodeValue for c in made.DeidentificationMethodCodeSequence]
            assert codes == ["113100", "113110"], "by the profile, with UIDs kept"


def test_a_film_that_is_gone_cannot_be_referred_to(tmp_path: Path, thorax: Knowledge) -> None:
    pytest.importorskip("highdicom")
    gone = [replace(s, image_path="") for s in films(tmp_path)]
    with pytest.raises(DataError, match="the image of film 1 is not at hand to refer to; predict again, or give"):
        write(tmp_path / "out", gone, thorax, Wanted(("sr",)))


def test_what_cannot_be_written_is_told_before_anything_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match="unknown format 'txt'; did you mean 'text'"):
        Wanted(("txt",))
    with pytest.raises(ReviewError, match="--dicom: only structured reports refer to DICOM images; add sr to --format"):
        Wanted(dicom=tmp_path)
    monkeypatch.setattr(film_reports, "find_spec", lambda name: None)
    with pytest.raises(ReviewError, match=r"highdicom is not installed.*; pip install 'neurosym-imaging\[dicom\]'"):
        Wanted(("sr",))


def test_the_command_writes_into_the_run_folder_and_names_the_nearest_film(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", "small_object(H) :- heart(H).")
    save_scenes(folder / "scenes-test.json", films(tmp_path))
    result = CliRunner().invoke(app, ["findings", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    files = [Path(f) for f in json.loads(result.stdout)["files"]]
    assert [f.relative_to(folder) for f in files] == [
        Path("findings/test/findings.json"),
        Path("findings/test/findings.txt"),
    ]
    assert "is broken by heart #" in files[1].read_text()
    failed = CliRunner().invoke(app, ["findings", str(folder), "--image", "doe-jane-1966"])
    assert isinstance(failed.exception, NeurosymError)
    assert "no image 'doe-jane-1966'; did you mean 'doe-jane-1960'?" in str(failed.exception)


def test_the_example_of_the_docs_is_what_the_program_says(thorax: Knowledge) -> None:
    """Regenerate it by pasting `told` where docs/reports.md shows phantom film 6."""
    scene = annotated_scene(phantom_film(6, PhantomConfig(size=256)))
    templates = load_templates()
    film = replace(Findings(thorax, CLASSES, 0.5, templates.ratios).of(scene), image_id="film 1")
    told = film_reports.text_of([(film, sentences_of(film, templates))])
    page = (ROOT / "docs/reports.md").read_text(encoding="utf-8")
    assert told.strip() in page
    nested = [(film, sentences_of(film, templates))]
    [plain] = json.loads(json.dumps(film_reports.json_of(nested)))["films"]
    kinds = ("findings", "labels", "edges", "quantities", "rules", "sentences")
    keys = {*plain, *plain["findings"][0]["evidence"][0], *(k for kind in kinds for k in plain[kind][0])}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []
