"""The SIIM-FISABIO-RSNA tree as Kaggle distributes it, made of generated films."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.data.coco import load_coco
from neurosym.data.config import open_split
from neurosym.data.importing.siim import STUDIES, siim_source
from neurosym.data.importing.split import pseudonym, whose
from neurosym.data.importing.write import Settings, import_films
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.learning.config import load_config
from tests.data.dicom_files import stored, write_dicom

ROOT = Path(__file__).parents[2]
TYPICAL, NEGATIVE = (1, "Typical Appearance"), (0, "Negative for Pneumonia")
BOX = {"x": 5.25, "y": 6.5, "width": 10.0, "height": 20.25}


def write_tree(folder: Path, images: list[dict], **change: str) -> Path:
    """Each image: id, study, appearance, patient, boxes; columns and their order are those of the data set."""
    rows, studies = [], {}
    for n, image in enumerate(images):
        path = folder / "train" / image["study"] / f"series{n}" / f"{image['id']}.dcm"
        tags = {"PatientID": image["patient"], "PatientSex": "F", "ImagerPixelSpacing": [0.2, 0.2]}
        write_dicom(path, stored(n), WindowCenter=2048, WindowWidth=4096, **tags)
        boxes = image["boxes"]
        label = " ".join(f"opacity 1 {b['x']} {b['y']} {b['x'] + b['width']} {b['y'] + b['height']}" for b in boxes)
        row = [f"{image['id']}_image", str(boxes) if boxes else "", label or "none 1 0 0 1 1", image["study"]]
        rows.append(row)
        studies[image["study"]] = [int(column == image["appearance"]) for column in STUDIES]
    with (folder / "train_image_level.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "boxes", "label", "StudyInstanceUID"], *rows])
    with (folder / "train_study_level.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", *STUDIES], *([f"{s}_study", *v] for s, v in studies.items())])
    for name, text in change.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def image(number: int, study: int, boxes: int = 0, patient: str = "", appearance: str = "Typical Appearance") -> dict:
    moved = [BOX | {"x": BOX["x"] + k} for k in range(boxes)]
    who = patient or f"patient{study}"
    return {"id": f"{number:012x}", "study": f"{study:012x}", "appearance": appearance, "patient": who, "boxes": moved}


@pytest.fixture
def siim() -> Knowledge:
    return load_knowledge([ROOT / "experiments/siim-covid/siim.ttl", ROOT / "ontologies/thorax.ttl"])


def test_an_import_is_what_the_configs_of_the_experiment_read(tmp_path: Path, siim: Knowledge) -> None:
    films = [image(1, 1, 2), image(2, 2, 0, appearance="Negative for Pneumonia"), image(3, 3, 1)]
    tree, out = write_tree(tmp_path / "kaggle", films), tmp_path / "siim"
    result = import_films(siim_source(tree), out, Settings(), "siim")
    assert result.splits == {"train": {"films": 3, "objects": 3, "patients": 3}}
    read = load_coco(out / "train.json", out / "images", siim, ["opacity"])
    assert [[a.box.xyxy for a in s.annotations] for s in read] == [
        [(5.25, 6.5, 15.25, 26.75), (6.25, 6.5, 16.25, 26.75)], [], [(5.25, 6.5, 15.25, 26.75)],
    ]  # fmt: skip
    assert [s.labels for s in read] == [
        {"typical_appearance"}, {"negative_for_pneumonia"}, {"typical_appearance"},
    ]  # fmt: skip
    assert read[0].attributes["sex"] == "F"
    assert read[0].attributes["pixel_spacing"] == [0.2, 0.2]
    expected = np.clip((stored(0).astype(float) - 2047.5) / 4095 + 0.5, 0, 1) * 255
    assert np.abs(read[0].image - expected).max() <= 0.5 + 1e-4


@pytest.mark.parametrize(("unboxed", "kept"), [("weak", 2), ("negative", 2), ("leave-out", 1)])
def test_a_duplicate_without_boxes_in_a_positive_study_is_no_negative(
    unboxed: str, kept: int, tmp_path: Path, siim: Knowledge
) -> None:
    tree = write_tree(tmp_path / "kaggle", [image(1, 1, 1), image(2, 1, 0)])
    source = siim_source(tree, unboxed)  # type: ignore[arg-type]
    import_films(source, tmp_path / "siim", Settings(), "siim")
    films = load_coco(tmp_path / "siim/train.json", tmp_path / "siim/images", siim)
    assert len(films) == kept
    assert films[0].complete is None
    if unboxed != "leave-out":
        assert films[1].complete == (frozenset() if unboxed == "weak" else None)
    assert source.notes[0] == "1 films are further ones of a study"


def test_a_film_that_is_not_annotated_is_never_scored(tmp_path: Path) -> None:
    films = [image(n, n // 2, n % 2) for n in range(40)]
    result = import_films(siim_source(write_tree(tmp_path / "k", films)), tmp_path / "o", Settings(val=0.5), "siim")
    assert result.splits["val"]["films"] == result.splits["val"]["objects"] == result.unscored > 0
    assert result.splits["train"]["films"] == 2 * result.splits["train"]["objects"]


def test_films_of_a_patient_are_in_one_split_and_nothing_says_who_it_is(tmp_path: Path) -> None:
    films = [image(n, n + 100, 1, patient=f"MRN{n // 3}") for n in range(60)]
    tree, out = write_tree(tmp_path / "kaggle", films), tmp_path / "siim"
    result = import_films(siim_source(tree), out, Settings(val=0.25, test=0.25), "siim")
    assert sorted(result.splits) == ["test", "train", "val"]
    assert sum(s["patients"] for s in result.splits.values()) == 20
    text = "".join(p.read_text() for p in out.rglob("*.json*"))
    assert "MRN" not in text
    assert not any(f["study"] in text for f in films)
    other = import_films(siim_source(tree), out, Settings(val=0.25, test=0.25, seed=1), "siim")
    assert (other.written, other.kept) == (0, 60)
    assert other.splits != result.splits


SHARED = st.lists(st.tuples(st.sampled_from(["", *"abcdef"]), st.sampled_from(["", *"123456"])), max_size=9)


@given(SHARED)
def test_films_are_of_one_patient_if_a_way_over_shared_patients_and_studies_joins_them(
    films: list[tuple[str, str]],
) -> None:
    """By the closure of the matrix of films that share either."""
    near = np.array([[a == b or any(a[k] and a[k] == b[k] for k in (0, 1)) for b in films] for a in films], dtype=bool)
    for _ in films:
        near = near @ near
    found = whose(films)
    for a, said in enumerate(films):
        assert bool(found[a]) == any(said)
        for b in range(len(films)):
            if any(said) and any(films[b]):
                assert (found[a] == found[b]) == near[a, b]


def test_a_study_with_films_of_two_patient_ids_stays_in_one_split(tmp_path: Path) -> None:
    films = [image(n, n // 2, 1, patient=f"MRN{n}") for n in range(60)]
    out = tmp_path / "siim"
    result = import_films(siim_source(write_tree(tmp_path / "k", films)), out, Settings(val=0.5), "siim")
    studies = [
        {int(i["file_name"][:12], 16) // 2 for i in json.loads(p.read_text())["images"]} for p in out.glob("*.json")
    ]
    assert len(studies) == 2
    assert not studies[0] & studies[1]
    assert sum(s["patients"] for s in result.splits.values()) == result.mixed == 30


def test_nothing_of_an_import_without_the_key_or_of_a_patient_who_withdrew_is_left(tmp_path: Path) -> None:
    films = [image(n, n // 2, n % 2) for n in range(40)]
    out = tmp_path / "siim"
    import_films(siim_source(write_tree(tmp_path / "first", films)), out, Settings(), "siim")
    Image.new("L", (9, 9)).save(out / "images/mine.png")
    source = siim_source(write_tree(tmp_path / "second", films[:-2]))
    result = import_films(source, out, Settings(val=0.5, key=b"k" * 16), "siim")
    named = {i["file_name"] for p in out.glob("*.json") for i in json.loads(p.read_text())["images"]}
    assert {p.name for p in (out / "images").iterdir()} == named | {"mine.png"}
    assert (result.removed, result.strangers) == (2 + result.unscored, 1)
    journal = (out / ".import.jsonl").read_text()
    assert {json.loads(line)["name"] + ".png" for line in journal.splitlines()} == named
    text = journal + "".join(p.read_text() for p in out.glob("*.json"))
    assert not any(pseudonym(f["patient"]) in text for f in films)


def test_an_import_that_was_stopped_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    tree, out, whole = (
        write_tree(tmp_path / "kaggle", [image(n, n, 1) for n in range(6)]),
        tmp_path / "a",
        tmp_path / "b",
    )
    read: list[str] = []

    def stop(done: int, total: int, note: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_films(siim_source(tree), out, Settings(), "siim", stop)
    assert not (out / "train.json").exists()
    with (out / ".import.jsonl").open("a") as file:
        file.write('{"version": 1, "na')
    result = import_films(siim_source(tree), out, Settings(), "siim", lambda *_: read.append(""))
    assert (result.written, result.kept, len(read)) == (3, 3, 6)
    import_films(siim_source(tree), whole, Settings(), "siim")
    for path in whole.rglob("*"):
        if path.is_file() and path.name != ".import.jsonl":
            assert (out / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_a_film_that_cannot_be_read_is_left_out_and_told_or_stops_the_import(tmp_path: Path) -> None:
    films = [image(1, 1, 1), image(2, 2, 1), image(3, 3, 1)]
    tree = write_tree(tmp_path / "kaggle", films)
    broken = next(tree.rglob(f"{films[0]['id']}.dcm"))
    broken.write_bytes(broken.read_bytes()[:1500])
    next(tree.rglob(f"{films[2]['id']}.dcm")).unlink()
    result = import_films(siim_source(tree), tmp_path / "siim", Settings(), "siim")
    assert result.splits["train"]["films"] == 1
    assert sorted(Path(p.file).name for p in result.skipped) == [f"{films[0]['id']}.dcm", "train_image_level.csv"]
    other = tmp_path / "other"
    with pytest.raises(DataError, match="PixelData cannot be decoded"):
        import_films(siim_source(tree), other, Settings(bad="error"), "siim")
    assert not (other / "train.json").exists()


@pytest.mark.parametrize("name", ["faster", "cascade", "retinanet"])
def test_a_config_of_the_experiment_opens_all_splits_of_an_import(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, siim: Knowledge
) -> None:
    tree = write_tree(tmp_path / "kaggle", [image(n, n, n % 3) for n in range(24)])
    result = import_films(siim_source(tree), tmp_path / "data/siim", Settings(val=0.25, test=0.25), "siim")
    monkeypatch.setenv("NEUROSYM_DATA", str(tmp_path / "data"))
    config = load_config(ROOT / f"experiments/siim-covid/{name}.yaml")
    for split in ("train", "val", "test"):
        films = open_split(config.data, split, config.base, siim)  # type: ignore[arg-type]
        assert len(films) == result.splits[split]["films"] > 0
        assert sum(len(f.annotations) for f in films) == result.splits[split]["objects"]


def test_all_mistakes_of_the_tables_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "kaggle", [image(1, 1, 1), image(2, 2, 1), image(3, 3, 1), image(4, 4, 1)])
    table = tree / "train_image_level.csv"
    rows = list(csv.reader(table.open()))
    rows[1][1] = "[{'x': 1, 'y': 2, 'width': 3}]"
    rows[2][1] = "__import__('os').system('true')"
    rows[3][2] = "opacity 1 9 9 20 20"
    rows[4][0] = "../../etc_image"
    csv.writer(table.open("w", newline="")).writerows(rows)
    studies = tree / "train_study_level.csv"
    studies.write_text(studies.read_text().replace(f"{1:012x}_study,0,1", f"{1:012x}_study,1,1"))
    with pytest.raises(DataError) as error:
        siim_source(tree)
    told = [(Path(p.file).name, p.line, p.message[:20]) for p in error.value.problems]
    assert told == [
        ("train_study_level.csv", 2, "study '000000000001'"),
        ("train_image_level.csv", 2, "boxes are \"[{'x': 1,"),
        ("train_image_level.csv", 3, 'boxes are "__import_'),
        ("train_image_level.csv", 4, "boxes and label diff"),
        ("train_image_level.csv", 5, "id is '../../etc_ima"),
    ]


def test_the_command_imports_splits_and_makes_films_smaller(tmp_path: Path) -> None:
    films = [image(n, n, 1, patient=f"MRN{n // 3}") for n in range(30)]
    tree, out = write_tree(tmp_path / "kaggle", films), tmp_path / "siim"
    arguments = ["data", "import", "siim", str(tree), str(out), "--val", ".3", "--longest", "20", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["written"], told["skipped"]) == (30, [])
    data = json.loads((out / "val.json").read_text())
    name, (width, height) = data["images"][0]["file_name"], (18, 20)
    assert Image.open(out / "images" / name).size == (width, height)
    assert data["annotations"][0]["bbox"] == pytest.approx(
        [5.25 * 18 / 36, 6.5 * 20 / 41, 10 * 18 / 36, 20.25 * 20 / 41]
    )
    assert data["images"][0]["attributes"]["pixel_spacing"] == pytest.approx([0.2 * 41 / 20, 0.2 * 2])
