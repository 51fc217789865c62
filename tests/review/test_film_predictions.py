"""Films in, files out: what is written is in the pixels of the source, and does not say whose it is."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from neurosym.data.film_files import film_files
from neurosym.data.masks import encode_mask
from neurosym.errors import ReviewError
from neurosym.knowledge import Knowledge
from neurosym.records import Box, Detection, Sample, Scene
from neurosym.review import film_predictions
from neurosym.review.findings import Findings
from neurosym.review.pseudonyms import Pseudonyms

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from neurosym.review.film_predictions import FilmPredictions, Wanted, predict_films  # noqa: E402
from tests.review.clinic_films import film_with_square, save_film, words_of_patient  # noqa: E402

SQUARE = (20, 10, 50, 40)
NAMES = ("left_lung", "nodule")
CATEGORIES = {"left_lung": "Left lung", "nodule": "Nodule"}
ALL = ("coco", "seg", "sr", "overlay", "film")
KEY = b"a key of a clinic"


def bright_square(samples: Sequence[Sample]) -> list[Scene]:
    """Detects what is bright: its box as a nodule, its pixels as a lung, and a guess below the threshold."""
    scenes = []
    for sample in samples:
        grey = sample.image if sample.image.ndim == 2 else sample.image[..., 0]
        bright = grey > 128
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        box = Box(*map(float, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)))
        found = (
            Detection("nodule", box, 0.9),
            Detection("left_lung", box, 0.7, encode_mask(bright)),
            Detection("nodule", Box(0, 0, 3, 3), 0.2),
        )
        scenes.append(Scene(sample.image_id, grey.shape[1], grey.shape[0], found))
    return scenes


def predicted(out: Path, films: list[Path], knowledge: Knowledge, wanted: Wanted) -> FilmPredictions:
    findings = Findings(knowledge, NAMES, 0.5)
    return predict_films(out, film_files(films)[0], bright_square, findings, CATEGORIES, wanted, "runs/x, step-1")


def wanted_of(kinds: Sequence[str] = ALL, keep: bool = False, key: bytes = KEY) -> Wanted:
    return Wanted(tuple(kinds), Pseudonyms(key, keep))


def clinic(folder: Path) -> Path:
    """A mixed folder: a film of each shade, one of another shape, and pictures in grey and in colour."""
    save_film(folder / "doe/IM0001", PhotometricInterpretation="MONOCHROME1")
    save_film(folder / "doe/jane.dcm")
    save_film(folder / "roe.dcm", 120, 70)
    grey = np.full((80, 64), 20, np.uint8)
    grey[10:40, 20:50] = 230
    Image.fromarray(grey).save(folder / "Jane Doe.png")
    Image.fromarray(np.stack([grey, grey, grey // 2], -1)).save(folder / "smear.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, thorax: Knowledge) -> tuple[Path, FilmPredictions]:
    folder = tmp_path_factory.mktemp("made")
    clinic(folder / "films")
    return folder / "out", predicted(folder / "out", [folder / "films"], thorax, wanted_of())


def test_coco_has_the_boxes_and_masks_of_every_film_in_its_own_pixels(made: tuple[Path, FilmPredictions]) -> None:
    truth = COCO(made[0] / "coco.json")
    results = truth.loadRes(str(made[0] / "coco-results.json"))
    assert (
        sorted((i["width"], i["height"]) for i in truth.imgs.values()) == [(64, 80)] * 2 + [(70, 120)] + [(90, 60)] * 2
    )
    for image in truth.imgs.values():
        found = results.loadAnns(results.getAnnIds(image["id"]))
        names = {truth.cats[a["category_id"]]["name"]: a for a in found if a["score"] >= 0.5}
        x1, y1, x2, y2 = SQUARE
        assert [names[n]["bbox"] for n in ("Nodule", "Left lung")] == [[x1, y1, x2 - x1, y2 - y1]] * 2
        expected = np.zeros((image["height"], image["width"]), np.uint8)
        expected[y1:y2, x1:x2] = 1
        assert (truth.annToMask(names["Left lung"]) == expected).all()
        assert sorted(a["score"] for a in found) == [0.2, 0.7, 0.9]
        assert sorted(a["score"] for a in truth.loadAnns(truth.getAnnIds(image["id"]))) == [0.7, 0.9]


def test_segmentation_and_report_refer_to_the_film_that_is_written_beside_them(
    made: tuple[Path, FilmPredictions],
) -> None:
    out, done = made
    assert done.files == {"coco": 2, "seg": 5, "sr": 5, "overlay": 5, "film": 5}
    for path in (out / "film").iterdir():
        film = pydicom.dcmread(path)
        seg = highdicom.seg.segread(out / "seg" / path.name)
        report = highdicom.sr.srread(out / "sr" / path.name)
        x1, y1, x2, y2 = SQUARE
        expected = np.zeros((film.Rows, film.Columns), np.uint8)
        expected[y1:y2, x1:x2] = 1
        back = seg.get_pixels_by_source_instance([film.SOPInstanceUID], ignore_spatial_locations=True)
        assert (back[0] == expected[..., None]).all()
        assert back.shape[-1] == 2
        regions = report.content.get_planar_roi_measurement_groups()
        outlined, boxed = sorted(regions, key=lambda r: r.tracking_identifier)
        assert (*boxed.roi.value.min(0), *boxed.roi.value.max(0)) == SQUARE
        reference = outlined.referenced_segmentation_frame
        [frame] = reference.referenced_frame_numbers
        assert reference.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert (seg.pixel_array[frame - 1] == expected).all()
        assert seg.SegmentSequence[frame - 1].TrackingUID == outlined.tracking_uid
        assert {r.tracking_uid for r in regions} == {s.TrackingUID for s in seg.SegmentSequence}
        [study] = report.CurrentRequestedProcedureEvidenceSequence
        referred = {r.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for r in s.ReferencedSOPSequence}
        assert referred == {film.SOPInstanceUID, seg.SOPInstanceUID}
        assert {d.StudyInstanceUID for d in (film, seg, report)} == {study.StudyInstanceUID}
        assert (film.pixel_array[y1:y2, x1:x2] != film.pixel_array[0, 0]).all()


def test_no_file_says_who_the_patient_is_or_what_the_film_was_called(made: tuple[Path, FilmPredictions]) -> None:
    out, done = made
    sources = {
        d: pydicom.dcmread(d, stop_before_pixels=True)
        for d in out.parent.glob("films/**/*")
        if d.is_file() and d.suffix != ".png"
    }
    uids = [
        str(s[w].value) for s in sources.values() for w in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    ]
    files = [p for p in out.rglob("*") if p.is_file()]
    assert len(files) == 22
    for file in files:
        data = file.read_bytes()
        assert words_of_patient(data) == []
        assert [
            w for w in (*uids, "smear", "IM0001", "roe", "jane", "Jane", str(out.parent)) if w.encode() in data
        ] == []
        if file.suffix == ".dcm":
            assert words_of_patient(pydicom.dcmread(file).to_json().encode()) == []
    assert done.skipped == {}
    with Image.open(next((out / "overlay").iterdir())) as picture:
        assert picture.info == {}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_what_is_written_has_what_its_class_asks_for(made: tuple[Path, FilmPredictions], kind: str) -> None:
    for path in (made[0] / kind).iterdir():
        told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
        assert [line for line in told.splitlines() if line.startswith("Error")] == []


def test_films_come_in_the_order_of_their_names_so_that_it_tells_nothing(made: tuple[Path, FilmPredictions]) -> None:
    names = [i["file_name"] for i in json.loads((made[0] / "coco.json").read_text())["images"]]
    assert names == sorted(names)


def test_the_same_key_gives_the_same_names_and_uids_and_another_none_of_them(tmp_path: Path, thorax: Knowledge) -> None:
    films = clinic(tmp_path / "films")

    def names(out: str, key: bytes) -> tuple[set[str], set[str], set[str]]:
        predicted(tmp_path / out, [films], thorax, wanted_of(("film", "seg", "coco"), key=key))
        written = [pydicom.dcmread(p) for p in (tmp_path / out / "film").iterdir()]
        segmented = {pydicom.dcmread(p).SOPInstanceUID for p in (tmp_path / out / "seg").iterdir()}
        images = json.loads((tmp_path / out / "coco.json").read_text())["images"]
        patients = {i["attributes"]["patient"] for i in images if "attributes" in i}
        assert len(patients) == 1
        files = {p.name for p in (tmp_path / out / "film").iterdir()}
        return files | patients, {d.SOPInstanceUID for d in written} | {d.StudyInstanceUID for d in written}, segmented

    first, again, other = names("a", KEY), names("b", KEY), names("c", b"the key of another clinic")
    assert first[:2] == again[:2]
    assert not first[2] & again[2], "another segmentation is another object"
    assert not any(mine & theirs for mine, theirs in zip(first, other, strict=True))


def test_identity_is_kept_where_it_is_asked_for(tmp_path: Path, thorax: Knowledge) -> None:
    path = save_film(tmp_path / "films/doe.dcm")
    source = pydicom.dcmread(path)
    predicted(tmp_path / "out", [tmp_path / "films"], thorax, wanted_of(keep=True))
    for kind in ("seg", "sr", "film"):
        made = pydicom.dcmread(tmp_path / f"out/{kind}/doe.dcm")
        assert (made.PatientID, made.PatientName, made.StudyDate) == ("P-4711", "Doe^Jane", "20200301")
        assert made.StudyInstanceUID == source.StudyInstanceUID
        assert "PatientIdentityRemoved" not in made
    [image] = json.loads((tmp_path / "out/coco.json").read_text())["images"]
    assert (image["file_name"], image["attributes"]["patient"]) == ("doe.dcm", "P-4711")


def test_a_header_that_lacks_what_may_be_empty_or_has_an_odd_sex_is_no_hindrance(
    tmp_path: Path, thorax: Knowledge
) -> None:
    gone = dict.fromkeys(("AccessionNumber", "PatientBirthDate", "StudyID", "ReferringPhysicianName"))
    path = save_film(tmp_path / "a.dcm", PatientSex="U", **gone)
    for keep in (True, False):
        done = predicted(tmp_path / f"out{keep}", [path], thorax, wanted_of(keep=keep))
        assert (done.films, done.skipped) == (1, {})


def test_a_film_that_cannot_be_read_or_written_is_told_of_and_leaves_nothing(tmp_path: Path, thorax: Knowledge) -> None:
    films = tmp_path / "films"
    for number in range(6):
        save_film(films / f"{number}.dcm")
    whole = (films / "1.dcm").read_bytes()
    (films / "1.dcm").write_bytes(whole[: len(whole) // 2])
    save_film(films / "3.dcm", SeriesInstanceUID=None)
    (films / "4.png").write_bytes(b"no picture")
    done = predicted(tmp_path / "out", [films], thorax, wanted_of())
    assert set(done.skipped) == {str(films / n) for n in ("1.dcm", "3.dcm", "4.png")}
    assert (
        "its header lacks SeriesInstanceUID; leave seg, sr and film out of --write"
        in done.skipped[str(films / "3.dcm")]
    )
    assert done.films == 4
    for kind in ("seg", "sr", "overlay", "film"):
        assert len(list((tmp_path / "out" / kind).iterdir())) == 4
    assert len(json.loads((tmp_path / "out/coco.json").read_text())["images"]) == 4
    assert predicted(tmp_path / "boxes", [films / "3.dcm"], thorax, wanted_of(("coco",))).films == 1


def test_what_was_written_of_a_film_is_taken_away_if_the_rest_cannot_be(
    tmp_path: Path, thorax: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = film_predictions.write_bytes_atomically

    def full(path: Path, data: bytes) -> None:
        if path.parent.name == "sr":
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(film_predictions, "write_bytes_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        predicted(tmp_path / "out", [save_film(tmp_path / "a.dcm")], thorax, wanted_of())
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_the_same_film_twice_is_one_film(tmp_path: Path, thorax: Knowledge) -> None:
    film = film_with_square()
    for name in ("a.dcm", "b.dcm"):
        film.save_as(tmp_path / name, enforce_file_format=True)
    done = predicted(tmp_path / "out", [tmp_path / "a.dcm", tmp_path / "b.dcm"], thorax, wanted_of(("coco",)))
    assert done.skipped == {str(tmp_path / "b.dcm"): f"is the same film as {tmp_path / 'a.dcm'}"}


def test_a_film_on_which_nothing_is_found_has_a_report_and_no_segmentation(tmp_path: Path, thorax: Knowledge) -> None:
    files = film_files([save_film(tmp_path / "a.dcm")])[0]

    def nothing(samples: Sequence[Sample]) -> list[Scene]:
        return [Scene(s.image_id, s.image.shape[1], s.image.shape[0]) for s in samples]

    done = predict_films(
        tmp_path / "out", files, nothing, Findings(thorax, NAMES), CATEGORIES, wanted_of(("seg", "sr"))
    )
    assert done.files == {"sr": 1}


def test_nothing_is_overwritten_or_mixed(tmp_path: Path, thorax: Knowledge) -> None:
    films = clinic(tmp_path / "films")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("")
    with pytest.raises(ReviewError, match="full: there is something at --out already; name a new folder"):
        predicted(tmp_path / "full", [films], thorax, wanted_of())
    with pytest.raises(ReviewError, match="--out lies in the films' folder .*; the next call would take"):
        predicted(films / "out", [films], thorax, wanted_of())
    wanted = Wanted(("coco",), Pseudonyms(KEY), tmp_path / "out/who.csv")
    with pytest.raises(ReviewError, match="--mapping lies in --out"):
        predicted(tmp_path / "out", [films], thorax, wanted)
    (tmp_path / "who.csv").write_text("")
    with pytest.raises(ReviewError, match="there is something at --mapping already; name another file"):
        predicted(tmp_path / "out", [films], thorax, Wanted(("coco",), Pseudonyms(KEY), tmp_path / "who.csv"))
    with pytest.raises(ReviewError, match="--write: unknown kind 'segm'; did you mean 'seg'"):
        Wanted(("segm",))


def test_the_mapping_is_there_also_where_the_rest_was_stopped(tmp_path: Path, thorax: Knowledge) -> None:
    for number in range(film_predictions.BATCH + 1):
        save_film(tmp_path / f"films/{number}.dcm")
    files = film_files([tmp_path / "films"])[0]

    def stopped(samples: Sequence[Sample]) -> list[Scene]:
        if len(samples) == 1:
            raise KeyboardInterrupt
        return bright_square(samples)

    wanted = Wanted(("overlay",), mapping=tmp_path / "who.csv")
    with pytest.raises(KeyboardInterrupt):
        predict_films(tmp_path / "out", files, stopped, Findings(thorax, NAMES), CATEGORIES, wanted)
    told = {line.split(",")[1] for line in (tmp_path / "who.csv").read_text().splitlines()[1:]}
    assert told == {p.stem for p in (tmp_path / "out/overlay").iterdir()}


def test_the_mapping_says_which_film_has_which_name_and_only_its_owner_may_read_it(
    tmp_path: Path, thorax: Knowledge
) -> None:
    path = save_film(tmp_path / "a.dcm")
    wanted = Wanted(("film",), Pseudonyms(KEY), tmp_path / "who.csv")
    predicted(tmp_path / "out", [path], thorax, wanted)
    heading, row = (line.split(",") for line in (tmp_path / "who.csv").read_text().splitlines())
    told = dict(zip(heading, row, strict=True))
    source, film = pydicom.dcmread(path), pydicom.dcmread(tmp_path / f"out/film/{told['name']}.dcm")
    assert told["file"] == str(path)
    for column, word in (("study_uid", "Study"), ("series_uid", "Series"), ("sop_uid", "SOP")):
        assert told[column] == source[f"{word}InstanceUID"].value
        assert told[f"new_{column}"] == film[f"{word}InstanceUID"].value
    assert (tmp_path / "who.csv").stat().st_mode & 0o777 == 0o600


def test_text_in_the_pixels_is_warned_of_by_tag_and_by_sight(tmp_path: Path, thorax: Knowledge) -> None:
    save_film(tmp_path / "films/tag.dcm", BurnedInAnnotation="YES")
    save_film(tmp_path / "films/clean.dcm", BurnedInAnnotation="NO")
    save_film(tmp_path / "films/unsaid.dcm")
    done = predicted(tmp_path / "out", [tmp_path / "films"], thorax, wanted_of(("coco",)))
    assert done.text == {str(tmp_path / "films/tag.dcm"): "its header says so (BurnedInAnnotation YES)"}
    assert done.untold == 1


def test_overlays_are_the_films_with_their_detections(made: tuple[Path, FilmPredictions]) -> None:
    sizes = []
    for path in (made[0] / "overlay").iterdir():
        with Image.open(path) as picture:
            sizes.append(picture.size)
            colours = {c for _, c in picture.getcolors(picture.width * picture.height) or ()}
            assert any(max(c) - min(c) > 60 for c in colours), "something is drawn in colour"
    assert sorted(sizes) == [(384, 256)] * 2 + [(384, 480)] * 2 + [(384, 658)]
