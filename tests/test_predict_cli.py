"""`neurosym predict RUN FILMS`, by a detector that has hardly been trained: what it finds means nothing, where it is counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner, Result

from neurosym.cli import app
from neurosym.data.phantom import PhantomConfig, phantom_film
from neurosym.errors import ConfigError, DataError
from neurosym.learning.predict import Predictor
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import train
from neurosym.records import Sample
from tests.learning.test_train import config_of

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from pycocotools.coco import COCO  # noqa: E402

from tests.review.clinic_films import film_with_square, save_film  # noqa: E402

INPUT = 96
"""The longer side of what the model sees."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    small = ("train.steps=1", "model.kind=mask_rcnn", "model.score_threshold=0.01", "model.max_detections=4")
    return train(config_of(folder, *small), folder / "run").path


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words)])


def phantom(height: int, width: int) -> np.ndarray:
    return phantom_film(0, PhantomConfig(size=256)).image[:height, :width]


def test_a_film_of_four_times_the_pixels_has_the_same_boxes_at_twice_the_size(run: Path) -> None:
    """Reduced to the model's input by bilinear interpolation, both films are the same to the last bit."""
    film = phantom(144, 192)
    larger = film.repeat(2, 0).repeat(2, 1)
    scenes = Predictor(open_run(run))([Sample("a", film), Sample("b", larger)])
    boxes = [np.array([d.box.xyxy for d in scene.detections]) for scene in scenes]
    assert len(boxes[0]) == 4
    assert boxes[0].max() > INPUT, "a box in pixels of the film, not of the model's input"
    np.testing.assert_allclose(boxes[1], 2 * boxes[0], atol=0.03)
    assert [(s.width, s.height) for s in scenes] == [(192, 144), (384, 288)]
    assert {tuple(d.mask["size"]) for d in scenes[1].detections if d.mask} == {(288, 384)}


def test_what_is_written_of_a_mixed_folder_is_in_the_pixels_of_each_film(run: Path, tmp_path: Path) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    grey = phantom(256, 200).astype(np.uint16) * 16
    dark = film_with_square(256, 200, PhotometricInterpretation="MONOCHROME1", PixelData=(4095 - grey).tobytes())
    films.mkdir()
    dark.save_as(films / "IM0001", enforce_file_format=True)
    Image.fromarray(phantom(120, 256)).save(films / "Jane Doe.png")
    (films / "readme.txt").write_text("")
    words = (films, "--out", out, "--write", "coco,seg,sr,overlay", "--threshold", "0.02", "--json")
    result = invoke(run, *words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["films"], told["passed_over"], told["skipped"]) == (2, 1, {})
    assert told["files"] == {"overlay": 2, "seg": 2, "sr": 2, "coco": 2, "film": 1}
    truth = COCO(out / "coco.json")
    assert len(truth.anns) == told["detections"] > 0
    assert sorted((i["height"], i["width"]) for i in truth.imgs.values()) == [(120, 256), (256, 200)]
    for image in truth.imgs.values():
        segments = highdicom.seg.segread(out / f"seg/{Path(image['file_name']).stem}.dcm")
        masks = [truth.annToMask(a) for a in truth.loadAnns(truth.getAnnIds(image["id"]))]
        frames = segments.pixel_array.reshape(-1, image["height"], image["width"])
        assert sorted(f.tobytes() for f in frames) == sorted(m.tobytes() for m in masks)
        report = highdicom.sr.srread(out / f"sr/{Path(image['file_name']).stem}.dcm")
        assert len(report.content.get_planar_roi_measurement_groups()) == len(masks)


def test_a_dark_film_gives_what_the_same_film_gives_as_a_picture(run: Path, tmp_path: Path) -> None:
    seen = phantom(256, 200)
    tags = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "WindowCenter": None, "WindowWidth": None}
    film = film_with_square(256, 200, PhotometricInterpretation="MONOCHROME1", PixelData=(255 - seen).tobytes(), **tags)
    film.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    Image.fromarray(seen).save(tmp_path / "b.png")
    found = []
    for name in ("a.dcm", "b.png"):
        assert invoke(run, tmp_path / name, "--out", tmp_path / f"out-{name}").exit_code == 0
        found.append(json.loads((tmp_path / f"out-{name}/coco-results.json").read_text()))
    assert found[0] == found[1]
    assert len(found[0]) > 0


def test_a_film_that_cannot_be_read_is_told_and_ends_with_1_unless_that_was_wanted(run: Path, tmp_path: Path) -> None:
    save_film(tmp_path / "films/a.dcm")
    (tmp_path / "films/b.dcm").write_bytes(b"no film")
    result = invoke(run, tmp_path / "films", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{tmp_path}/films/b.dcm: skipped: is no DICOM file" in result.stderr
    assert "1 films, 0 detections of score ≥ 0.5; 1 overlay, 2 coco in" in result.stderr
    assert "1 films do not say whether text is burned in (0028,0301)" in result.stderr
    assert len(json.loads((tmp_path / "out/coco.json").read_text())["images"]) == 1
    assert invoke(run, tmp_path / "films", "--out", tmp_path / "again", "--bad", "skip").exit_code == 0
    nothing = invoke(run, tmp_path / "films/b.dcm", "--out", tmp_path / "none", "--bad", "skip")
    assert nothing.exit_code == 1, "not one film was read"


def test_text_on_a_film_is_warned_of(run: Path, tmp_path: Path) -> None:
    picture = Image.fromarray(np.minimum(phantom(256, 256), 120))
    ImageDraw.Draw(picture).text((60, 4), "DOE JANE 1960", fill=255)
    picture.save(tmp_path / "a.png")
    result = invoke(run, tmp_path / "a.png", "--out", tmp_path / "out", "--write", "overlay")
    assert f"{tmp_path}/a.png: text may be burned in: something like text at the top" in result.stderr


def test_a_key_gives_the_same_names_again(run: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef\n")
    save_film(tmp_path / "a.dcm")
    names = []
    for out in ("one", "two"):
        words = ("--out", tmp_path / out, "--key", tmp_path / "key", "--mapping", tmp_path / f"{out}.csv")
        assert invoke(run, tmp_path / "a.dcm", *words, "--write", "overlay").exit_code == 0
        names.append([p.name for p in (tmp_path / out / "overlay").iterdir()])
    assert names[0] == names[1]
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "two.csv").read_text()


def test_options_of_films_and_of_splits_do_not_mix(run: Path, tmp_path: Path) -> None:
    film = save_film(tmp_path / "a.dcm")
    told = invoke(run, film, "--split", "val", "--repair").exception
    assert isinstance(told, ConfigError)
    assert str(told) == "--split: goes without FILMS\n--repair: goes without FILMS"
    assert str(invoke(run, "--out", tmp_path, "--keep-identity").exception).splitlines() == [
        "--out: goes with FILMS; name some",
        "--keep-identity: goes with FILMS; name some",
    ]
    assert "--out: name the folder" in str(invoke(run, film).exception)
    gone = invoke(run, tmp_path / "gone", "--out", tmp_path / "out").exception
    assert isinstance(gone, DataError)
    assert "gone: no such file or folder" in str(gone)
