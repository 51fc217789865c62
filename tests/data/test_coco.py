from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurosym.data.coco import as_coco, load_coco
from neurosym.data.images import annotated_scene, read_image
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge

Folder = Callable[..., tuple[Path, Path]]


def test_films_written_as_coco_are_read_back_with_classes_boxes_and_labels(
    coco_folder: Folder, thorax: Knowledge
) -> None:
    images = load_coco(*coco_folder(3), thorax)
    for sample, film in zip(images, Phantom(0, 3, PhantomConfig(size=128)), strict=True):
        assert np.array_equal(sample.image, film.image)
        assert [(a.name, a.box) for a in sample.annotations] == [(a.name, a.box) for a in film.annotations]
        assert sample.labels == film.labels - {"cardiomegaly"}
    assert images.names[:3] == ("left_lung", "right_lung", "heart")


def test_only_the_asked_categories_are_read_in_the_asked_order(coco_folder: Folder, thorax: Knowledge) -> None:
    images = load_coco(*coco_folder(2), thorax, ["heart", "left_lung"])
    assert images.names == ("heart", "left_lung")
    assert {a.name for s in images for a in s.annotations} == {"heart", "left_lung"}


def spoil(key: str, value: object) -> Callable[[dict], None]:
    return lambda data: data["annotations"][0].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            spoil("bbox", [math.nan, 0, 5, 5]),
            r"annotation 1: box \[nan, 0, nan, 5\] is not finite; correct its numbers, or set bad_boxes: drop",
        ),
        (spoil("bbox", [5, 5, 0, 9]), r"annotation 1: box \[5, 5, 5, 14\] is empty; redraw or remove it"),
        (
            spoil("bbox", [0.2, 0.3, 0.5, 0.25]),
            r"box \[0.2, 0.3, 0.7, 0.55\] lies within one pixel; write pixels, not shares of the image",
        ),
        (
            spoil("bbox", [100, 0, 60, 9]),
            r"annotation 1: box \[100, 0, 160, 9\] leaves its 128×128 image by 32 px; clip or redraw it",
        ),
        (spoil("category_id", 99), "annotation 1: unknown category_id 99"),
        (spoil("image_id", 99), "annotation 1: unknown image_id 99"),
        (spoil("segmentation", {"size": [64, 64], "counts": "0"}), "annotation 1: mask is 64×64; its image is 128×128"),
        (lambda d: d["annotations"].clear(), "the file annotates nothing"),
        (spoil("bbox", None), r"annotations.0.bbox: .*found None"),
        (spoil("bbox", [1, 2, 3]), r"annotations.0.bbox"),
        (lambda d: d["images"][0].update(width=math.nan), r"images.0.width: .*found nan"),
        (lambda d: d["images"][0].pop("file_name"), r"images.0.file_name: Field required"),
        (lambda d: d["images"][0].update(file_name="gone.png"), r"image 'gone.png' is not in .*images"),
        (spoil("segmentation", [[1, 2, 3]]), "annotation 1: a polygon needs three points"),
        (spoil("segmentation", {"size": [128, 128]}), "annotation 1: a mask needs size and counts"),
        (spoil("segmentation", {"size": 128, "counts": "0"}), "annotation 1: mask is 128; its image is 128×128"),
        (spoil("segmentation", {"size": [128, 128], "counts": "garbage"}), "the code of the mask is damaged"),
        (
            spoil("segmentation", {"size": [128, 128], "counts": ""}),
            "runs of the mask have 0 pixels; its image has 16384",
        ),
        (spoil("segmentation", {"size": [128, 128], "counts": [5, 9]}), "runs of the mask have 14 pixels"),
        (spoil("segmentation", {"size": [128, 128], "counts": [-5, 16389]}), "must be whole numbers from 0 on"),
        (spoil("segmentation", {"size": [128, 128], "counts": None}), "must be whole numbers from 0 on"),
        (spoil("segmentation", [[1, 2, 3, 4, 5, math.nan]]), "a polygon's points must be finite numbers, found nan"),
        (spoil("segmentation", [[1, 2, 3, 4, 5, "6"]]), "a polygon's points must be finite numbers, found '6'"),
        (spoil("segmentation", [[1, 2, 3, 4, 5, 10**400]]), "a polygon's points must be finite numbers, found 1000"),
        (
            spoil("segmentation", [[0, 0, 127, 127] * 30_000]),
            "the polygons are 15239746 px long; expected at most 5000000",
        ),
        (lambda d: d["images"][0].update(width=10**12), r"images.0.width: .*less than or equal to 1000000"),
        (lambda d: d["images"][0].update(file_name="a\0b.png"), "images.0.file_name: .*no name that a file can have"),
        (lambda d: d["images"][0].update(file_name="a" * 300), "images.0.file_name: .*no name that a file can have"),
        (lambda d: d["images"][0].update(attributes={"study": "\ud800"}), r":1: a text holds half a character, .*ud8"),
        (
            lambda d: d["images"][1].update(id=1),
            r"images 'phantom-000000.png' and 'phantom-000001.png' have the same id 1; number them anew",
        ),
        (lambda d: d["categories"][1].update(id=1), "categories 'left_lung' and 'right_lung' have the same id 1"),
        (spoil("segmentation", [[1, 2, 1e12, 4, 5, 6]]), "a polygon leaves its 128×128 image by 1e\\+12 px"),
        (lambda d: d.pop("categories"), "not a COCO file: no categories"),
        (
            lambda d: d["categories"][0].update(name="spleen"),
            "category 'spleen' is tied to no ontology class; add ns:category",
        ),
        (lambda d: d["images"][0].update(file_name="../../etc/passwd"), "leaves the image folder"),
        (
            lambda d: d["images"][1].update(file_name=d["images"][0]["file_name"]),
            "two images have the id 'phantom-000000'",
        ),
    ],
)
def test_a_wrong_annotation_file_gives_one_message_with_its_cure(
    change: Callable[[dict], None], message: str, coco_folder: Folder, thorax: Knowledge
) -> None:
    with pytest.raises(DataError, match=message) as error:
        load_coco(*coco_folder(2, change), thorax)
    assert "annotations.json" in str(error.value)


def test_all_bad_boxes_of_a_file_are_told_at_once(coco_folder: Folder, thorax: Knowledge) -> None:
    def change(data: dict) -> None:
        for a in data["annotations"][:3]:
            a["bbox"] = [0, 0, -1, 5]

    with pytest.raises(DataError) as error:
        load_coco(*coco_folder(2, change), thorax)
    assert len(error.value.problems) == 3


def test_bad_boxes_may_be_dropped_and_that_is_said(
    coco_folder: Folder, thorax: Knowledge, caplog: pytest.LogCaptureFixture
) -> None:
    images = load_coco(*coco_folder(2, spoil("bbox", [5, 5, 0, 9])), thorax, bad_boxes="drop")
    assert len(images[0].annotations) == len(Phantom(0, 1, PhantomConfig(size=128))[0].annotations) - 1
    assert "dropped: " in caplog.text
    assert "annotation 1" in caplog.text


def test_a_category_that_is_annotated_nowhere_is_said(
    coco_folder: Folder, thorax: Knowledge, caplog: pytest.LogCaptureFixture
) -> None:
    def change(data: dict) -> None:
        data["annotations"] = [a for a in data["annotations"] if a["category_id"] != 3]

    load_coco(*coco_folder(2, change), thorax, ["heart", "left_lung"])
    assert "category 'heart' is annotated nowhere" in caplog.text


def test_a_box_that_leaves_the_image_by_a_rounding_error_is_clipped(coco_folder: Folder, thorax: Knowledge) -> None:
    box = load_coco(*coco_folder(1, spoil("bbox", [-0.4, 3, 60, 125.5])), thorax)[0].annotations[0].box
    assert box.xyxy == (0.0, 3.0, 59.6, 128.0)


def test_polygons_become_masks(coco_folder: Folder, thorax: Knowledge) -> None:
    from pycocotools import mask

    change = spoil("segmentation", [[10, 10, 30, 10, 30, 40, 10, 40]])
    found = load_coco(*coco_folder(1, change), thorax)[0].annotations[0].mask
    assert found is not None
    assert mask.area({"size": found["size"], "counts": found["counts"]}) == pytest.approx(600, abs=60)


def test_a_missing_folder_or_file_says_to_set_neurosym_data(
    coco_folder: Folder, thorax: Knowledge, tmp_path: Path
) -> None:
    annotations, images = coco_folder(1)
    with pytest.raises(DataError, match="image folder not found; set NEUROSYM_DATA"):
        load_coco(annotations, tmp_path / "nowhere", thorax)
    with pytest.raises(DataError, match="annotation file not found; set NEUROSYM_DATA"):
        load_coco(tmp_path / "no.json", images, thorax)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the annotation file is empty"),
        ("{", r":1:2: not JSON"),
        ("[]", "no images"),
        ("[" * 100_000, "its lists are nested too deeply"),
        ('{"images": [' + "9" * 5000 + "]}", "not JSON that can be read"),
    ],
)
def test_a_file_that_is_not_coco_is_refused(
    text: str, message: str, coco_folder: Folder, thorax: Knowledge, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_coco(path, coco_folder(1)[1], thorax)


def test_the_mark_of_windows_editors_is_no_part_of_the_file(coco_folder: Folder, thorax: Knowledge) -> None:
    path, images = coco_folder(1)
    path.write_text("\ufeff" + path.read_text())
    assert len(load_coco(path, images, thorax)) == 1


def test_a_tiff_whose_strips_do_not_have_all_of_its_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(np.full((8, 9), 200, np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    length = content.index(struct.pack("<H", 257), 8) + 8  # the value of ImageLength
    assert content[length] == 8
    content[length] = 12
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x.tif: image cannot be read \(its strips have 8 of 12 rows\)"):
        read_image(path)


def test_an_image_that_does_not_fit_into_the_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (9, 8)).save(tmp_path / "x.png")

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", full)
    with pytest.raises(DataError, match="x.png: image cannot be read .it does not fit into the memory"):
        read_image(tmp_path / "x.png")


def test_a_truncated_or_resized_image_is_named(coco_folder: Folder, thorax: Knowledge) -> None:
    images = load_coco(*coco_folder(2), thorax)
    path = images.entries[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="phantom-000000.png: image cannot be read"):
        _ = images[0]
    Image.new("L", (64, 64)).save(path)
    with pytest.raises(DataError, match="image is 64×64 pixels; its annotation says 128×128"):
        _ = images[0]


@pytest.mark.parametrize(("mode", "scale"), [("I;16", 65535), ("I;16", 4095), ("F", 1.0)])
def test_a_grey_image_of_more_than_8_bits_keeps_its_contrast(mode: str, scale: float, tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, scale, 256), (64, 1))
    path = tmp_path / ("x.tif" if mode == "F" else "x.png")
    Image.fromarray(ramp.astype(np.float32 if mode == "F" else np.uint16)).save(path)
    found = read_image(path)
    assert found.dtype == np.uint8
    assert np.abs(found[0].astype(float) - np.arange(256)).max() <= 3


def test_unlabelled_images_need_no_annotation(coco_folder: Folder, thorax: Knowledge) -> None:
    images = load_coco(*coco_folder(2, lambda d: d["annotations"].clear()), thorax, labelled=False)
    assert [s.annotations for s in images] == [(), ()]


def test_scenes_written_as_coco_keep_their_boxes() -> None:
    scene = annotated_scene(Phantom(0, 1, PhantomConfig(size=128))[0])
    data = json.loads(json.dumps(as_coco([scene], ["heart", "left_lung"])))
    boxes = {data["categories"][a["category_id"] - 1]["name"]: a["bbox"] for a in data["annotations"]}
    heart = next(d.box for d in scene.detections if d.name == "heart")
    assert boxes["heart"] == [heart.x1, heart.y1, heart.width, heart.height]
    assert set(boxes) == {"heart", "left_lung"}
