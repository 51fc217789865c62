"""COCO, VOC, YOLO, NIfTI and DICOM SEG, each written by another library or by hand, against what was drawn."""

from __future__ import annotations

import gzip
import json
import math
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from PIL import Image, ImageDraw
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless
from scipy import ndimage
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.data.dicom import read_dicom_header
from neurosym.data.dicom_decoding import decode_apart
from neurosym.data.importing.coco import coco_source
from neurosym.data.importing.dicom_seg import dicom_seg_source
from neurosym.data.importing.nifti import nifti_source
from neurosym.data.importing.source import Source
from neurosym.data.importing.split import pseudonym
from neurosym.data.importing.voc import voc_source
from neurosym.data.importing.write import Settings, import_films, usable_box
from neurosym.data.importing.yolo import yolo_source
from neurosym.data.masks import decode_mask, encode_mask
from neurosym.errors import DataError
from neurosym.records import Box
from tests.data.dicom_files import stored, write_dicom


def grey(seed: int, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_film(path: Path, seed: int, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey(seed, shape)).save(path)
    return grey(seed, shape)


def imported(source: Source, out: Path, **settings) -> dict[str, dict]:
    import_films(source, out, Settings(**settings), "test")
    return {p.stem: json.loads(p.read_text()) for p in sorted(out.glob("*.json"))}


# --- boxes ----------------------------------------------------------------------------------------------------------


CORNER = st.one_of(
    st.integers(-120, 120).map(lambda quarters: quarters / 4), st.sampled_from([np.nan, np.inf, -np.inf])
)


@given(st.tuples(CORNER, CORNER, CORNER, CORNER), st.integers(1, 20), st.integers(1, 20))
def test_a_usable_box_lies_within_its_film_and_keeps_most_of_what_was_drawn(
    corners: tuple[float, float, float, float], width: int, height: int
) -> None:
    box = Box(*corners)
    found = usable_box(box, width, height)
    if found is not None:
        assert 0 <= found.x1 < found.x2 <= width
        assert 0 <= found.y1 < found.y2 <= height
        assert found.width * found.height >= 0.5 * box.width * box.height
    elif np.isfinite(corners).all() and box.x1 < box.x2 and box.y1 < box.y2:
        cells = 200
        x, y = (np.linspace(a, b, cells, endpoint=False) for a, b in ((box.x1, box.x2), (box.y1, box.y2)))
        inside = ((x >= 0) & (x < width)).mean() * ((y >= 0) & (y < height)).mean()
        assert inside <= 0.5 + 0.02


# --- COCO -----------------------------------------------------------------------------------------------------------


def test_coco_keeps_boxes_masks_attributes_supervision_and_splits(tmp_path: Path) -> None:
    source = tmp_path / "source"
    mask = np.zeros((40, 60))
    mask[5:15, 10:30] = 1
    for k, split in enumerate(("train", "val")):
        film = write_film(source / f"{split}2017/a{k}.png", k)
        image = {"id": 7, "file_name": f"a{k}.png", "width": 60, "height": 40}
        image |= {"attributes": {"site": "x", "Patient ID": "77"}, "supervision": {"complete": []}}
        drawn = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 20, 10], "segmentation": encode_mask(mask)}
        stroke = {"id": 2, "image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2], "drawn": "point"}
        data = {"images": [image], "annotations": [drawn, stroke], "categories": [{"id": 3, "name": "heart"}]}
        (source / "annotations").mkdir(exist_ok=True)
        (source / f"annotations/instances_{split}2017.json").write_text(json.dumps(data))
    found = imported(coco_source(source), tmp_path / "out")
    assert sorted(found) == ["train", "val"]
    assert (np.asarray(Image.open(tmp_path / "out/images/a1.png")) == film).all()
    [image], annotations = found["val"]["images"], found["val"]["annotations"]
    assert image["supervision"] == {"complete": []}
    assert image["attributes"].keys() == {"site", "patient"}
    assert image["attributes"]["patient"] != "77"
    assert (decode_mask(annotations[0]["segmentation"]) == mask).all()
    assert [a["bbox"] for a in annotations] == [[10, 5, 20, 10], [1, 1, 2, 2]]
    assert annotations[1]["drawn"] == "point"


def test_a_coco_film_without_a_patient_is_of_nobody_and_no_attribute_tells_who_it_is(tmp_path: Path) -> None:
    said = [
        {"patient": None, "PatientName": "Doe^Jane", "PatientSex": "F"}, {"patient": float("nan")}, {"Patient-ID": " 77"},
        {"patient": "", "patient id": 77, "patient_birth_date": "1950"},
    ]  # fmt: skip
    images = [
        {"id": n, "file_name": f"{n}.png", "width": 60, "height": 40, "attributes": a} for n, a in enumerate(said)
    ]
    for image in images:
        write_film(tmp_path / "s/images" / image["file_name"], image["id"])
    (tmp_path / "s/all.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    source = coco_source(tmp_path / "s")
    found = [i["attributes"] for i in imported(source, tmp_path / "out")["train"]["images"]]
    assert found == [{"PatientSex": "F"}, {}, {"patient": pseudonym("77")}, {"patient": pseudonym("77")}]
    assert source.notes[0].endswith("pseudonyms: Patient-ID, PatientName, patient, patient id, patient_birth_date")


def test_two_coco_files_whose_names_say_no_split_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(DataError, match=r"a.json: the file's name says no split; call it train, val"):
        coco_source(tmp_path)


def test_a_film_that_claims_to_be_endless_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [{"id": n, "file_name": f"{n}.png", "width": w, "height": w} for n, w in enumerate((20, 90))]
    for image in images:
        write_film(tmp_path / "s/images" / image["file_name"], 0, (image["width"], image["width"]))
    (tmp_path / "s/all.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    result = import_films(coco_source(tmp_path / "s"), tmp_path / "out", Settings(), "coco")
    assert result.splits["train"]["films"] == 1
    assert "1.png: image cannot be read" in str(result.skipped[0])


# --- VOC ------------------------------------------------------------------------------------------------------------


def test_voc_counts_pixels_from_one_and_tells_all_mistakes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "Annotations").mkdir(parents=True)
    (source / "ImageSets/Main").mkdir(parents=True)
    for n, split in enumerate(("train", "train", "test")):
        write_film(source / f"JPEGImages/f{n}.png", n)
        corners = "<xmin>1</xmin><ymin>1</ymin><xmax>60</xmax><ymax>20</ymax>"
        text = f"<annotation><object><name>RBC</name><bndbox>{corners}</bndbox></object></annotation>"
        (source / f"Annotations/f{n}.xml").write_text(text)
        with (source / f"ImageSets/Main/{split}.txt").open("a") as file:
            file.write(f"f{n}\n")
    found = imported(voc_source(source), tmp_path / "out")
    assert {k: len(v["images"]) for k, v in found.items()} == {"train": 2, "test": 1}
    assert [a["bbox"] for a in found["train"]["annotations"]] == [[0, 0, 60, 20]] * 2
    (source / "Annotations/f0.xml").write_text("<annotation><object><name>RBC</name></object></annotation>")
    (source / "Annotations/f1.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>')
    with pytest.raises(DataError) as error:
        voc_source(source)
    told = [p.message for p in error.value.problems]
    assert told == ["object 1: expected numbers in xmin, ymin, xmax, ymax", "declares a document type"]


@pytest.mark.parametrize(("size", "message"), [((60, 40), ""), ((0, 0), ""), ((40, 60), "image is 60×40 pixels")])
def test_a_voc_film_of_another_size_than_was_annotated_is_left_out(
    size: tuple[int, int], message: str, tmp_path: Path
) -> None:
    (tmp_path / "s/Annotations").mkdir(parents=True)
    for name, (width, height) in {"a": size, "b": (60, 40)}.items():
        write_film(tmp_path / f"s/JPEGImages/{name}.png", 1)
        said = f"<size><width>{width}</width><height>{height}</height></size>"
        (tmp_path / f"s/Annotations/{name}.xml").write_text(f"<annotation>{said}</annotation>")
    result = import_films(voc_source(tmp_path / "s"), tmp_path / "out", Settings(), "voc")
    assert [message in str(p) for p in result.skipped] == [True] * bool(message)
    (tmp_path / "s/Annotations/a.xml").write_text("<a><size><width>x</width><height>9</height></size></a>")
    with pytest.raises(DataError, match=r"a.xml: size is 'x × 9'; expected whole numbers"):
        voc_source(tmp_path / "s")
    (tmp_path / "s/Annotations/a.xml").write_text('<?xml version="1.0" encoding="utf-99"?><annotation/>')
    with pytest.raises(DataError, match=r"a.xml:1: not XML that can be read: .*; save it as UTF-8"):
        voc_source(tmp_path / "s")


# --- YOLO -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    folder = tmp_path / "yolo"
    for split in ("train", "valid"):
        write_film(folder / f"{split}/images/{split}1.png", 1)
        (folder / f"{split}/labels").mkdir()
    (folder / "train/labels/train1.txt").write_text("1 0.5 0.25 0.5 0.5\n0 0.1 0.1 0.6 0.1 0.6 0.9 0.1 0.9\n")
    text = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [lung, heart]\n"
    (folder / "data.yaml").write_text(text)
    return folder


def test_yolo_boxes_and_polygons_are_shares_of_the_film(yolo: Path, tmp_path: Path) -> None:
    source = yolo_source(yolo)
    found = imported(source, tmp_path / "out")
    assert source.notes == ("1 films have no label file: taken for negatives",)
    assert (len(found["val"]["images"]), len(found["val"]["annotations"])) == (1, 0)
    box, polygon = found["train"]["annotations"]
    assert box["bbox"] == [15, 0, 30, 20]
    assert (box["category_id"], polygon["category_id"]) == (2, 1)
    assert polygon["bbox"] == pytest.approx([6, 4, 30, 32])
    picture = Image.new("1", (60, 40))
    ImageDraw.Draw(picture).rectangle([6, 4, 35, 35], fill=1)
    assert (decode_mask(polygon["segmentation"]) == np.asarray(picture)).mean() > 0.97


def test_a_class_that_is_called_otherwise_is_imported_anew(yolo: Path, tmp_path: Path) -> None:
    imported(yolo_source(yolo), tmp_path / "out")
    text = (yolo / "data.yaml").read_text()
    for names in ("[heart, lung]", "[lung, cor]"):  # exchanged, renamed
        (yolo / "data.yaml").write_text(text.replace("[lung, heart]", names))
        found = imported(yolo_source(yolo), tmp_path / "out")["train"]
        called = {c["id"]: c["name"] for c in found["categories"]}
        assert [called[a["category_id"]] for a in found["annotations"]] == names.strip("[]").split(", ")[::-1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("[lung, yes]", "class 1 is True; expected a name; in quotes"),
        ("{0: lung, 1: }", "class 1 is None"),
        ("[lung, [a]]", r"class 1 is \['a'\]"),
        ("&a [*a]", "not YAML"),
        ("{0: lung, 0: heart}", "not YAML .'0' stands there twice"),
        (
            "\n".join(["&a0 [x, x]", *(f"x{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 9))]),
            "not YAML",
        ),
    ],
)
def test_names_of_yolo_are_names_and_not_endless(names: str, message: str, yolo: Path) -> None:
    (yolo / "data.yaml").write_text(f"train: train/images\nnames: {names}\n")
    with pytest.raises(DataError, match=message):
        yolo_source(yolo)


def test_yolo_lines_that_are_wrong_are_told_at_once_with_their_places(yolo: Path) -> None:
    (yolo / "train/labels/train1.txt").write_text(
        "0 0.5 0.5 0.1\n\n2 .5 .5 .1 .1\n0 nan 0 1 1\n0 .1 .1 .2 .2 .3 .3 .4\n1 10 10 20 20 1e12 30\n"
    )
    with pytest.raises(DataError) as error:
        yolo_source(yolo)
    assert [p.line for p in error.value.problems] == [1, 3, 4, 5, 6]
    assert "found '1 10 10 20 20 1e12 30'; expected shares of the film's sides, not pixels" in str(error.value)
    assert "unknown class 2; data.yaml names 0 to 1" in str(error.value)


def test_the_mark_of_windows_editors_is_no_part_of_a_label(yolo: Path) -> None:
    path = yolo / "train/labels/train1.txt"
    path.write_text("\ufeff" + path.read_text())
    assert len(yolo_source(yolo).films) == 2


@pytest.mark.parametrize("place", ["/etc", "../../..", "../../../../../../../etc", "a\\0b", "a" * 300])
def test_yolo_paths_do_not_leave_the_folder(place: str, yolo: Path) -> None:
    (yolo / "data.yaml").write_text(f'train: "{place}/nowhere"\nval: valid/images\nnames: [lung, heart]\n')
    with pytest.raises(DataError, match="is not there; expected a folder or a list of files below"):
        yolo_source(yolo)


# --- NIfTI ----------------------------------------------------------------------------------------------------------

AFFINES = {
    "RAS": np.diag([0.8, 0.9, 2.0, 1.0]),
    "LPS": np.diag([-0.8, -0.9, 2.0, 1.0]),
    "swapped": np.array([[0, 0.8, 0, 0], [0, 0, -0.9, 5], [2.0, 0, 0, 0], [0, 0, 0, 1]]),
}


def write_pair(
    folder: Path, affine: np.ndarray, shape: tuple[int, ...] = (16, 12, 10)
) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    volume = ndimage.gaussian_filter(rng.standard_normal(shape), 1.0) * 1000
    label = np.zeros(shape, dtype=np.uint8)
    label[2:6, 3:8] = 1
    label[9:12, 1:4] = 1
    label[10, 8] = 2
    for name, data in (("image", volume.astype(np.float32)), ("label", label)):
        nibabel.save(nibabel.Nifti1Image(data, affine), folder / f"{name}.nii.gz")
    return volume, label


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_slice_lies_as_the_affine_says(plane: str, affine: np.ndarray, tmp_path: Path) -> None:
    """Each voxel's place in the world, by nibabel's own affine, says where it belongs on its slice."""
    volume, label = write_pair(tmp_path / "source/case", affine)
    labels = {1: "lung", 2: "nodule"}
    source = nifti_source(tmp_path / "source", labels, plane, "all", (0, 1000))  # type: ignore[arg-type]
    across, row_axis, column_axis = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}[plane]
    world = apply_affine(affine, np.stack(np.indices(volume.shape), -1).reshape(-1, 3))
    ranks = np.stack([np.unique(np.round(world[:, k], 6), return_inverse=True)[1] for k in range(3)], 1)
    count = ranks.max(axis=0) + 1
    expected = np.zeros((count[across], count[row_axis], count[column_axis]))
    marked = np.zeros_like(expected)
    # rows: from the front or from above; columns: from the patient's right or from the front
    at = (ranks[:, across], count[row_axis] - 1 - ranks[:, row_axis], count[column_axis] - 1 - ranks[:, column_axis])
    expected[at], marked[at] = volume.reshape(-1), label.reshape(-1)
    assert len(source.films) == len(expected)
    for k in (0, 4, len(expected) - 1):
        film = source.films[k].load()
        assert np.abs(film.image - np.clip(expected[k] / 1000 + 0.5, 0, 1) * 255).max() <= 0.51
        for value, name in labels.items():
            drawn = [decode_mask(o.mask) for o in film.objects if o.category == name and o.mask is not None]
            assert (sum(drawn, np.zeros(film.image.shape)) == (marked[k] == value)).all()
            assert len(drawn) == ndimage.label(marked[k] == value, np.ones((3, 3)))[1]
        zooms = {0: 0.8, 1: 0.9, 2: 2.0}
        spacing = [zooms[row_axis], zooms[column_axis]]
        assert film.attributes["pixel_spacing"] == pytest.approx(spacing)


def test_the_patient_that_a_name_tells_goes_before_the_case(tmp_path: Path) -> None:
    for case in ("p1_before", "p1_after", "p2_before"):
        write_pair(tmp_path / f"source/{case}", AFFINES["RAS"])
    source = nifti_source(tmp_path / "source", {1: "lung", 2: "nodule"})
    for pattern, patients in (("", 3), (r"^p\d+", 2), (r"^x\d+", 3)):
        result = import_films(source, tmp_path / f"out{pattern[:2]}", Settings(patient=pattern), "nifti")
        assert result.splits["train"]["patients"] == patients


def test_a_nifti_film_of_one_slice_and_the_layout_of_nnunet(tmp_path: Path) -> None:
    source = tmp_path / "Dataset001"
    volume, label = write_pair(tmp_path / "one", AFFINES["LPS"], (16, 12, 1))
    for name, place in (("image", "imagesTr/a_0000.nii.gz"), ("label", "labelsTr/a.nii.gz")):
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"one/{name}.nii.gz").rename(source / place)
    (source / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lung": 1, "nodule": 2}}))
    [film] = nifti_source(source).films
    assert film.name == "a"
    loaded = film.load()
    low, high = np.percentile(volume.astype(np.float32), (0.5, 99.5))
    # of LPS the first voxel is at the right and in front: as an image lies on disk
    shown = np.clip((volume[..., 0].T - low) / (high - low), 0, 1) * 255
    assert np.abs(loaded.image - shown).max() <= 0.6
    assert sum(np.sum(decode_mask(o.mask)) for o in loaded.objects if o.mask) == (label > 0).sum()
    (source / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "lung"}}))
    with pytest.raises(DataError, match=r"value 2 has no name; known: 1 lung; give --labels"):
        nifti_source(source)


@pytest.mark.parametrize(
    "labels", [{"lung": math.inf}, {"lung": 1.5}, {"lung": 1, "nodule": 1}, {"lung": "x"}, {"lung": [1, 2]}, [1], 5]
)
def test_meanings_that_cannot_be_told_apart_are_refused(labels: object, tmp_path: Path) -> None:
    write_pair(tmp_path / "case", AFFINES["RAS"])
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(DataError, match="dataset.json: has no labels that can be read"):
        nifti_source(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda label, affine: (label * 0.7, affine), "label has values that are no whole numbers"),
        (
            lambda label, affine: (label, np.eye(4)),
            r"label lies [\d.]+ mm from where its image does; its affine must be",
        ),
        (lambda label, affine: (label, affine + 0.01 * np.eye(4, k=3)), ""),
    ],
    ids=["shares", "of another place", "rounded"],
)
def test_a_label_that_is_not_of_its_image_is_left_out(
    change: Callable[..., tuple[np.ndarray, np.ndarray]], message: str, tmp_path: Path
) -> None:
    affine = AFFINES["LPS"]
    _, label = write_pair(tmp_path / "case", affine)
    spoilt, place = change(label.astype(np.float32), affine)
    nibabel.save(nibabel.Nifti1Image(spoilt.astype(np.float32), place), tmp_path / "case/label.nii.gz")
    source = nifti_source(tmp_path, {1: "lung", 2: "nodule"})
    assert (bool(source.films), len(source.missing)) == (not message, bool(message))
    assert all(re.search(message, p.message + "; " + p.cure) for p in source.missing)


def test_a_damaged_voxel_size_is_read_off_the_affine(tmp_path: Path) -> None:
    write_pair(tmp_path / "case", AFFINES["RAS"])
    path = tmp_path / "case/image.nii.gz"
    plain = bytearray(gzip.decompress(path.read_bytes()))
    plain[84:88] = struct.pack("<f", math.nan)  # pixdim[2]
    path.write_bytes(gzip.compress(plain))
    film = nifti_source(tmp_path, {1: "lung", 2: "nodule"}).films[0].load()
    assert film.attributes["pixel_spacing"] == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("damage", ["cut", "stream", "header"])
def test_a_damaged_volume_is_left_out_and_told(damage: str, tmp_path: Path) -> None:
    for case in ("a", "b"):
        write_pair(tmp_path / f"source/{case}", AFFINES["RAS"])
    path = tmp_path / "source/a/image.nii.gz"
    packed = path.read_bytes()
    plain = bytearray(gzip.decompress(packed))
    stream = zlib.compressobj(wbits=31)
    whole = stream.compress(plain[:4000]) + stream.flush(zlib.Z_FULL_FLUSH)
    plain[70:72] = b"\xff\x7f"  # the type of its voxels
    path.write_bytes(
        {
            "cut": packed[:200],
            "stream": whole + b"\xff" * 200,
            "header": gzip.compress(plain),
        }[damage]
    )
    arguments = ["data", "import", "nifti", str(tmp_path / "source"), str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, [*arguments, "--labels", "1=lung,2=nodule"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["splits"]["train"] == {"films": 10, "objects": 30, "patients": 1}
    assert "a/image.nii.gz: cannot be read as NIfTI" in told["skipped"][0]


# --- DICOM SEG ------------------------------------------------------------------------------------------------------


TAGS = {
    "StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.2", "FrameOfReferenceUID": "1.2.3.3",
    "PatientBirthDate": "", "PatientSex": "M", "PatientAge": "064Y", "AccessionNumber": "", "StudyID": "",
    "StudyDate": "", "StudyTime": "", "ReferringPhysicianName": "", "PixelSpacing": [0.5, 0.5],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SliceThickness": 1, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
}  # fmt: skip


def write_seg(path: Path, films: list[Path], masks: np.ndarray, labels: list[str], kind: str = "BINARY") -> None:
    """By highdicom; masks: (film, height, width, segment)."""
    import highdicom as hd
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    described = [
        SegmentDescription(
            n, label, codes.SCT.Tissue, codes.SCT.Lung, "AUTOMATIC",
            hd.AlgorithmIdentificationSequence("by hand", codes.DCM.ArtificialIntelligence, "1"),
        )
        for n, label in enumerate(labels, 1)
    ]  # fmt: skip
    seg = Segmentation(
        [dcmread(f) for f in films], masks, kind, described, hd.UID(), 1, hd.UID(), 1, "m", "m", "1", "s",
        omit_empty_frames=True,
    )  # fmt: skip
    seg.save_as(path)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segments_are_drawn_on_the_films_that_they_name(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "MUELLER_HANS"
    films = [
        write_dicom(source / f"{n}.dcm", stored(n), ImagePositionPatient=[0, 0, n], InstanceNumber=n + 1, **TAGS)
        for n in range(3)
    ]
    alone = write_dicom(source / "alone.dcm", stored(9))
    masks = np.zeros((3, 41, 36, 2), dtype=np.uint8)
    masks[0, 5:20, 3:9, 0] = 1
    masks[1, 8:12, 20:30, 1] = 1
    masks[0, 30:35, 20:30, 1] = 1
    if kind == "LABELMAP":
        masks = (masks * np.array([1, 2])).sum(-1).astype(np.uint8)
    data = masks.astype(np.float32) if kind == "FRACTIONAL" else masks
    write_seg(source / "seg.dcm", films, data, ["left lung", "nodule"], kind)
    found = imported(dicom_seg_source(source), tmp_path / "out")["train"]
    names = [c["name"] for c in found["categories"]]
    assert names == ["left lung", "nodule"]
    drawn = {
        (names[a["category_id"] - 1], tuple(a["bbox"]), int(decode_mask(a["segmentation"]).sum()))
        for a in found["annotations"]
    }
    assert drawn == {
        ("left lung", (3, 5, 6, 15), 90), ("nodule", (20, 8, 10, 4), 40), ("nodule", (20, 30, 10, 5), 50),
    }  # fmt: skip
    assert [("supervision" in i, "age" in i["attributes"]) for i in found["images"]].count((True, False)) == 1
    uid = str(read_dicom_header(alone).SOPInstanceUID)
    text = "".join(p.read_text() for p in (tmp_path / "out").glob("*.json"))
    assert not any(word in text for word in ("MUELLER", "4711", "Doe", uid))
    if kind == "BINARY":  # a name that anybody could compute of the UID is gone with a key
        assert pseudonym(uid) in text
        key = b"k" * 16
        (tmp_path / "secret").write_bytes(key)
        arguments = ["data", "import", "dicom-seg", str(source), str(tmp_path / "out")]
        assert CliRunner().invoke(app, [*arguments, "--key", str(tmp_path / "secret")]).exit_code == 0
        text = "".join(map(str, (tmp_path / "out").rglob("*")))
        text += "".join(p.read_text() for p in (tmp_path / "out").glob("*.json*"))
        assert pseudonym(uid) not in text
        assert pseudonym(uid, key) in text


@pytest.fixture
def seg(tmp_path: Path) -> Path:
    """A SEG that draws on two films; of a third there is none."""
    films = [
        write_dicom(tmp_path / f"s/{n}.dcm", stored(n), ImagePositionPatient=[0, 0, n], InstanceNumber=n + 1, **TAGS)
        for n in range(2)
    ]
    masks = np.zeros((2, 41, 36, 1), dtype=np.uint8)
    masks[:, 5:20, 3:9] = 1
    write_seg(tmp_path / "s/seg.dcm", films, masks, ["lung"])
    write_dicom(tmp_path / "s/alone.dcm", stored(9))
    return tmp_path / "s/seg.dcm"


@pytest.mark.parametrize(
    ("frame", "sequence", "word", "value", "left"),
    [
        (None, "PlaneOrientationSequence", "ImageOrientationPatient", [-1, 0, 0, 0, -1, 0], 2),
        (None, "PlaneOrientationSequence", "ImageOrientationPatient", [1, 0, 0, 0.0004, 1, 0], 0),
        (None, "PixelMeasuresSequence", "PixelSpacing", [0.5, 0.6], 2),
        (1, "PlanePositionSequence", "ImagePositionPatient", [0, 0, 1], 1),
        (1, "PlanePositionSequence", "ImagePositionPatient", [0.02, 0, 0], 0),
    ],
)
def test_a_frame_that_lies_otherwise_than_its_film_is_not_drawn(
    frame: int | None, sequence: str, word: str, value: list[float], left: int, seg: Path, tmp_path: Path
) -> None:
    said = dcmread(seg)
    assert list(said.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient) == [0, 0, 0]
    groups = said.SharedFunctionalGroupsSequence if frame is None else said.PerFrameFunctionalGroupsSequence
    setattr(groups[frame or 0][sequence][0], word, value)
    said.save_as(seg)
    result = import_films(dicom_seg_source(seg.parent), tmp_path / "out", Settings(), "dicom-seg")
    assert result.splits["train"] == {"films": 3 - left, "objects": 2 - left, "patients": 1}
    assert all(word in str(p) and "on a grid of its own" in str(p) for p in result.skipped)
    assert len(result.skipped) == left


@pytest.mark.parametrize("damage", ["a frame too few", "endless", "a stream that is none"])
def test_the_pixels_of_a_damaged_seg_cost_the_films_that_it_draws_on(damage: str, seg: Path, tmp_path: Path) -> None:
    said = dcmread(seg)
    if damage == "a frame too few":
        said.NumberOfFrames = 1
    elif damage == "endless":
        said.Rows = said.Columns = 2**15 + 1
    else:
        said.file_meta.TransferSyntaxUID = RLELossless
        said.BitsAllocated = said.BitsStored = 8
        said.HighBit = 7
        said.PixelData = encapsulate([b"no RLE at all", b"neither"])
        said["PixelData"].VR, said["PixelData"].is_undefined_length = "OB", True
    said.save_as(seg)
    result = import_films(dicom_seg_source(seg.parent), tmp_path / "out", Settings(), "dicom-seg")
    expected = {
        "a frame too few": ["frame 2 has no pixels"],
        "endless": ["Rows × Columns × NumberOfFrames is 32769 × 32769 × 2; expected at most 1073 million pixels"] * 2,
        "a stream that is none": ["PixelData cannot be decoded"] * 2,
    }[damage]
    assert len(result.skipped) == len(expected)
    assert all(text in str(p) for text, p in zip(expected, result.skipped, strict=True))


def test_a_compressed_seg_is_decoded_in_the_other_process(
    seg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = dcmread(seg)
    frames = said.pixel_array
    said.BitsAllocated = said.BitsStored = 8
    said.HighBit, said.PixelData = 7, frames.tobytes()
    said.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    said.save_as(seg)
    read: list[Path] = []
    monkeypatch.setattr("neurosym.data.dicom.decode_apart", lambda path: read.append(path) or decode_apart(path))
    found = imported(dicom_seg_source(seg.parent), tmp_path / "out")["train"]
    assert [int(decode_mask(a["segmentation"]).sum()) for a in found["annotations"]] == [90, 90]
    assert read == [seg]


def test_a_seg_that_names_no_film_is_told(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", stored())
    with pytest.raises(DataError, match="no DICOM SEG object"):
        dicom_seg_source(tmp_path)
    write_dicom(tmp_path / "b.dcm", stored(1), SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    with pytest.raises(DataError, match=r"b.dcm: is no DICOM SEG that can be read"):
        dicom_seg_source(tmp_path)


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kaggle"], "unknown format 'kaggle'; known: coco, dicom-seg, nifti"),
        (["yolo", "--val", ".1"], "the source has splits of its own (train, val); leave out --val and --test"),
        (["yolo", "--val", ".6", "--test", ".4"], "nothing is left to train on"),
        (["nifti", "--labels", "lung"], "--labels 'lung': expected VALUE=NAME"),
        (["nifti", "--window", "3"], "--window '3': expected CENTRE,WIDTH"),
        (["yolo", "--patient", "("], "--patient '(': no regular expression"),
    ],
)
def test_an_option_that_makes_no_sense_is_told(arguments: list[str], message: str, yolo: Path, tmp_path: Path) -> None:
    kind, *options = arguments
    result = CliRunner().invoke(app, ["data", "import", kind, str(yolo), str(tmp_path / "out"), *options])
    assert message in str(result.exception)


def test_names_say_the_patient_where_films_do_not_and_stale_splits_are_removed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    images = [{"id": n, "file_name": f"p{n // 2}_{n}.png", "width": 60, "height": 40} for n in range(40)]
    for n, image in enumerate(images):
        write_film(source / "images" / image["file_name"], n, (40, 60))
    data = {"images": images, "annotations": [], "categories": []}
    (source / "all.json").write_text(json.dumps(data))
    out = tmp_path / "out"
    found = imported(coco_source(source), out, val=0.5, patient=r"^p\d+")
    halves = [{i["attributes"]["patient"] for i in d["images"]} for d in found.values()]
    assert sorted(found) == ["train", "val"]
    assert not halves[0] & halves[1]
    assert len(halves[0] | halves[1]) == 20
    (out / "mine.json").write_text("{}")
    assert sorted(imported(coco_source(source), out)) == ["mine", "train"]
