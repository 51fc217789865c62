"""Whoever opens a picture of several pages refuses it with one message, because nobody says which of them is meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurosym.data.checking.films import read_splits
from neurosym.data.checking.report import check
from neurosym.data.coco import load_coco
from neurosym.data.film_files import film_files, read_film_file
from neurosym.data.film_sources import Film
from neurosym.data.image_labels import load_image_labels
from neurosym.data.images import folder_images, read_image
from neurosym.data.shard_films import coco_films
from neurosym.data.shard_pack import pack
from neurosym.data.shards import open_shards
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge

GREYS = (7, 90, 200)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A TIFF of three pages, alone in its folder; beside that a COCO file and a table of it."""
    path = tmp_path / "films/stack.tif"
    path.parent.mkdir()
    first, *others = (Image.fromarray(np.full((32, 24), grey, np.uint8)) for grey in GREYS)
    first.save(path, save_all=True, append_images=others)
    data = {
        "images": [{"id": 1, "file_name": "stack.tif", "width": 24, "height": 32}],
        "categories": [{"id": 1, "name": "heart"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(data))
    (tmp_path / "labels.csv").write_text("file_name,finding\nstack.tif,normal\n")
    return path


Opens = Callable[[Path, Knowledge], object]
OPENS: dict[str, Opens] = {
    "a picture": lambda path, _: read_image(path),
    "a folder": lambda path, _: folder_images(path.parent),
    "training": lambda path, thorax: load_coco(path.parents[1] / "coco.json", path.parent, thorax)[0],
    "pretraining": lambda path, _: Film(path).read(),
    "size alone": lambda path, _: Film(path).shape(),
    "prediction": lambda path, _: read_film_file(film_files([path])[0][0]),
}


@pytest.mark.parametrize("opens", OPENS.values(), ids=OPENS)
def test_several_pages_are_refused_and_the_first_is_not_taken_for_all(
    opens: Opens, stack: Path, thorax: Knowledge
) -> None:
    with pytest.raises(DataError) as refused:
        opens(stack, thorax)
    [problem] = refused.value.problems
    assert (problem.message, problem.cure) == ("image has 3 pages", "split it into single images")
    assert problem.file.endswith("stack.tif")
    Image.fromarray(np.full((32, 24), 7, np.uint8)).save(stack)
    opens(stack, thorax)


def test_a_table_names_the_line_and_shards_the_film(stack: Path, thorax: Knowledge, tmp_path: Path) -> None:
    told = r"labels\.csv:2: image 'stack\.tif' has 3 pages; split it into single images"
    with pytest.raises(DataError, match=told):
        load_image_labels(tmp_path / "labels.csv", stack.parent, thorax)
    pack(coco_films(tmp_path / "coco.json", stack.parent), tmp_path / "shards")
    films = open_shards(tmp_path / "shards", thorax)
    with pytest.raises(DataError, match="film 'stack': image has 3 pages; split it into single images"):
        _ = films[0]


def test_the_check_of_a_data_set_tells_of_several_pages(stack: Path, tmp_path: Path) -> None:
    report = check(read_splits([tmp_path / "coco.json"], stack.parent))
    assert [str(f) for f in report.faults if f.severity == "error"] == ["coco, stack.tif: image has 3 pages"]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_stack_that_is_cut_off_anywhere_is_never_read(stack: Path) -> None:
    whole = stack.read_bytes()
    for length in range(len(whole)):
        stack.write_bytes(whole[:length])
        with pytest.raises(DataError, match="image"):
            read_image(stack)


def test_a_photograph_with_a_preview_behind_it_is_one_picture(tmp_path: Path) -> None:
    photograph, preview = (Image.new("L", size, grey) for size, grey in (((64, 48), 90), ((16, 12), 200)))
    photograph.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[preview])
    image = read_image(tmp_path / "x.jpg")
    assert image.shape[:2] == (48, 64)
    assert np.abs(image.astype(int) - 90).max() <= 2
