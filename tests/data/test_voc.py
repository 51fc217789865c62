from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurosym.data.config import data_folder
from neurosym.data.voc import load_voc
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge

SHARED = data_folder()


def write(folder: Path, objects: str, split: str = "smear\n") -> tuple[Path, Path, Path]:
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(folder / "smear.jpg")
    (folder / "smear.xml").write_text(
        "<annotation><filename>smear.jpg</filename><size><width>80</width><height>60</height></size>"
        f"{objects}</annotation>"
    )
    (folder / "train.txt").write_text(split)
    return folder / "train.txt", folder, folder


def cell(name: str, *corners: object) -> str:
    tags = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name><bndbox>{tags}</bndbox></object>"


def test_cells_are_read_with_pixels_counted_from_one(tmp_path: Path, blood: Knowledge) -> None:
    images = load_voc(*write(tmp_path, cell("RBC", 1, 1, 20, 30) + cell("WBC", 5, 6, 80, 60)), blood)
    assert images.names == ("red_blood_cell", "white_blood_cell")
    assert [(a.name, a.box.xyxy) for a in images[0].annotations] == [
        ("red_blood_cell", (0, 0, 20, 30)),
        ("white_blood_cell", (4, 5, 80, 60)),
    ]
    assert images[0].image.shape == (60, 80, 3)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (cell("RBC", 9, 9, 9, 9), r"smear.xml: object 1 \(RBC\): box \[9, 9, 9, 9\] is empty; redraw or remove it"),
        (cell("RBC", "nan", 1, 9, 9), "is not finite"),
        (cell("RBC", 1, 1, 200, 9), "leaves its 80×60 image by 120 px"),
        (cell("RBC", "one", 1, 9, 9), "smear.xml: not a number"),
        (cell("Blast", 1, 1, 9, 9), "smear.xml: category 'Blast' is tied to no ontology class"),
        ("<object><name>RBC</name></object>", "smear.xml: no <bndbox/xmin>"),
        ("<object>", "smear.xml:1: not XML"),
        ("", "no picture of the split is annotated"),
    ],
)
def test_a_wrong_annotation_gives_one_message(objects: str, message: str, tmp_path: Path, blood: Knowledge) -> None:
    with pytest.raises(DataError, match=message):
        load_voc(*write(tmp_path, objects), blood)


def test_an_encoding_that_nobody_knows_is_told_and_the_mark_of_windows_editors_is_not_read(
    tmp_path: Path, blood: Knowledge
) -> None:
    files = write(tmp_path, cell("RBC", 1, 1, 9, 9), "\ufeffsmear\n")
    assert len(load_voc(*files, blood)) == 1
    text = (tmp_path / "smear.xml").read_text()
    for encoding in ("utf-99", "utf-7"):
        (tmp_path / "smear.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?>{text}')
        with pytest.raises(DataError, match=r"smear.xml:1: not XML.*(encoding|UTF-8)"):
            load_voc(*files, blood)


def test_mistakes_of_all_files_are_told_at_once(tmp_path: Path, blood: Knowledge) -> None:
    places = write(tmp_path, cell("RBC", 9, 9, 9, 9), split="smear\nother\n")
    (tmp_path / "other.xml").write_text((tmp_path / "smear.xml").read_text().replace("smear.jpg", "gone.jpg"))
    with pytest.raises(DataError) as error:
        load_voc(*places, blood)
    messages = "\n".join(map(str, error.value.problems))
    assert len(error.value.problems) == 3
    assert "smear.xml: object 1" in messages
    assert "other.xml: object 1" in messages
    assert "image 'gone.jpg' is not in" in messages


def test_an_empty_split_or_a_missing_picture_is_named(tmp_path: Path, blood: Knowledge) -> None:
    with pytest.raises(DataError, match="train.txt: the split file is empty"):
        load_voc(*write(tmp_path, "", split=""), blood)
    with pytest.raises(DataError, match="other.xml: annotation file not found"):
        load_voc(*write(tmp_path, "", split="other\n"), blood)


def test_a_name_that_leaves_the_folder_or_comes_twice_is_refused(tmp_path: Path, blood: Knowledge) -> None:
    with pytest.raises(DataError, match="train.txt: image name '../smear.xml' leaves the image folder"):
        load_voc(*write(tmp_path, "", split="../smear\n"), blood)
    with pytest.raises(DataError, match="train.txt: two images have the id 'smear'"):
        load_voc(*write(tmp_path, cell("RBC", 1, 1, 9, 9), split="smear\nsmear\n"), blood)


def test_an_entity_bomb_is_refused_without_being_expanded(tmp_path: Path, blood: Knowledge) -> None:
    places = write(tmp_path, "")
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    (tmp_path / "smear.xml").write_text(f"<!DOCTYPE x [{entities}]><annotation><filename>&a11;</filename></annotation>")
    with pytest.raises(DataError, match="smear.xml"):
        load_voc(*places, blood)


@pytest.mark.skipif(not (SHARED / "bccd").is_dir(), reason="the BCCD data set is not here; set NEUROSYM_DATA")
def test_the_two_clicks_among_the_real_smears_are_refused_or_dropped(blood: Knowledge) -> None:
    places = (SHARED / "bccd/train.txt", SHARED / "bccd/annotations", SHARED / "bccd/images")
    with pytest.raises(DataError, match="is empty"):
        load_voc(*places, blood)
    images = load_voc(*places, blood, bad_boxes="drop")
    assert len(images) == 205
    assert set(images.names) == {"platelet", "red_blood_cell", "white_blood_cell"}
