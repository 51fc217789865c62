"""Faults that are put into a data set are found, each once; a sound one has none."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.data.checking.duplicates import difference_hash, duplicates, print_of
from neurosym.data.checking.faults import Fault, box_fault
from neurosym.data.checking.films import CheckedFilm, read_splits
from neurosym.data.checking.report import Report, check
from neurosym.data.checking.sheet import EACH, TILE, sheet
from neurosym.data.coco import checked_annotations, read_coco
from neurosym.data.images import BoxChecker
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import ConfigError, DataError
from neurosym.records import Box

SIZE = 96


@pytest.fixture(scope="module")
def films() -> list[np.ndarray]:
    return [f.image for f in Phantom(0, 8, PhantomConfig(size=SIZE))]


def write(folder: Path, films: list[np.ndarray], **splits: list[dict]) -> list[Path]:
    """One COCO file a split; each entry: film (its number), patient, boxes as (category, x, y, w, h)."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    paths = []
    for split, entries in splits.items():
        data: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
        for n, entry in enumerate(entries, 1):
            name = entry.get("name", f"{split}{n}.png")
            if "film" in entry:
                Image.fromarray(films[entry["film"]]).save(folder / "images" / name)
            image = {"id": n, "file_name": name, "width": SIZE, "height": SIZE}
            data["images"].append(image | {"attributes": {"patient": entry.get("patient", f"{split}{n}")}})
            for category, *box in entry.get("boxes", [(1, 5, 5, 20, 20), (2, 40, 40, 20, 20)]):
                known = {"id": len(data["annotations"]) + 1, "image_id": n, "category_id": category}
                data["annotations"].append(known | {"bbox": box})
        paths.append(folder / f"{split}.json")
        paths[-1].write_text(json.dumps(data))
    return paths


def kinds(report: Report) -> list[tuple[str, str]]:
    return sorted((f.kind, f.severity) for f in report.faults)


def test_a_sound_data_set_has_no_fault_and_its_balance_is_counted(tmp_path: Path, films: list[np.ndarray]) -> None:
    boxes = [(1, 5, 5, 20, 20), (1, 50, 50, 9, 9), (2, 0, 0, SIZE, SIZE + 0.5)]
    train = [{"film": 0, "boxes": boxes}, {"film": 1}, {"film": 2, "boxes": []}]
    report = check(read_splits(write(tmp_path, films, train=train, val=[{"film": 3}])))
    assert report.faults == ()
    assert report.balance["train"]["classes"] == {"a": {"objects": 3, "films": 2}, "b": {"objects": 2, "films": 2}}
    counts = {k: report.balance["train"][k] for k in ("films", "without_box", "patients", "objects")}
    assert counts == {"films": 3, "without_box": 1, "patients": 3, "objects": 5}


def test_every_fault_is_found_once(tmp_path: Path, films: list[np.ndarray]) -> None:
    nan = float("nan")
    boxes = [
        (1, nan, 5, 5, 5), (1, 5, 5, 0, 5), (1, 200, 5, 5, 5), (1, -9, -9, 300, 50), (1, 80, 5, 30, 5),
        (1, 7, 7, 9, 9), (1, 7, 7, 9, 9), (2, 7, 7, 9, 9),
    ]  # fmt: skip
    train = [{"film": 0, "boxes": boxes}, {"film": 1}, {"film": 1}, {"film": 2, "patient": "same"}]
    val = [{"film": 0, "boxes": [(1, 5, 5, 9, 9)]}, {"film": 3, "patient": "same", "boxes": []}, {"name": "gone.png"}]
    paths = write(tmp_path, films, train=train, val=val)
    data = json.loads(paths[1].read_text())
    data["images"][1]["width"] = SIZE + 1
    data["annotations"] = [a for a in data["annotations"] if a["category_id"] == 1]
    paths[1].write_text(json.dumps(data))
    report = check(read_splits(paths))
    errors = ["duplicate", "empty box", "larger than film", "leaves film", "not finite", "outside", "patient", "size"]
    errors += ["twice", "unreadable"]
    warnings = [("class absent", "warning"), ("duplicate", "warning")]
    assert kinds(report) == sorted([(e, "error") for e in errors] + warnings)
    assert report.errors == len(errors)
    assert [f.severity for f in report.faults] == ["error"] * len(errors) + ["warning"] * 2
    twice = next(f for f in report.faults if f.kind == "twice")
    assert str(twice) == "train, train1.png: annotation 7 (a): box [7, 7, 16, 16] is that of annotation 6, too"


def test_what_reading_refuses_in_an_annotation_besides_its_box_is_told_with_its_film(
    tmp_path: Path, films: list[np.ndarray]
) -> None:
    (path,) = write(tmp_path, films, train=[{"film": 0}, {"film": 1}, {"film": 2}])
    data = json.loads(path.read_text())
    spoilt = [
        {"segmentation": {"size": [SIZE, SIZE + 1], "counts": [SIZE * (SIZE + 1)]}}, {"segmentation": [[1, 2, 3, 4]]},
        {"drawn": "point-cloud"}, {"category_id": 7}, {"image_id": 9}, {"segmentation": {"size": 5, "counts": "1"}},
    ]  # fmt: skip
    for annotation, change in zip(data["annotations"], spoilt, strict=True):
        annotation |= change
    path.write_text(json.dumps(data))
    found = [f for f in check(read_splits([path])).faults if f.severity == "error"]
    assert [str(f) for f in found] == [
        f"train, train1.png: annotation 1: mask is {SIZE + 1}×{SIZE}; its image is {SIZE}×{SIZE}",
        "train, train1.png: annotation 2: a polygon needs three points, x and y each",
        "train, train2.png: annotation 3: no loss covers what is drawn as 'point-cloud'",
        "train, train2.png: annotation 4: unknown category_id 7",
        "train: annotation 5: unknown image_id 9",
        f"train, train3.png: annotation 6: mask is 5; its image is {SIZE}×{SIZE}",
    ]
    checker = BoxChecker("train.json")
    list(checked_annotations(read_coco(path, "train.json")[1], {"a": "a", "b": "b"}, checker))
    assert [p.message for p in checker.problems] == [f.message for f in found]


@given(
    st.tuples(*[st.one_of(st.integers(-60, 60).map(lambda k: k / 2), st.just(float("nan"))) for _ in range(4)]),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_a_box_has_a_fault_exactly_if_training_refuses_it(
    corners: tuple[float, float, float, float], width: int, height: int
) -> None:
    checker = BoxChecker("")
    usable = checker.check(Box(*corners), width, height, "box")
    found = box_fault(Box(*corners), width, height)
    assert (found is None) == (usable is not None)


# --- duplicates -----------------------------------------------------------------------------------------------------


def found_between(first: np.ndarray, second: np.ndarray) -> list[Fault]:
    pair = [CheckedFilm(s, f"{s}.png", Path(f"{s}.png"), None) for s in ("train", "test")]
    return list(duplicates(pair, [print_of(first), print_of(second)]))


def test_the_hash_compares_each_pixel_of_a_small_picture_with_its_neighbour(films: list[np.ndarray]) -> None:
    film = Image.fromarray(films[0])
    small = np.asarray(film.resize((9, 8), Image.Resampling.LANCZOS)).astype(int)
    bits = "".join("1" if small[r, c] < small[r, c + 1] else "0" for r, c in product(range(8), range(8)))
    assert difference_hash(film) == int(bits, 2)


def test_copies_are_near_and_other_films_are_not(films: list[np.ndarray], tmp_path: Path) -> None:
    film = Image.fromarray(films[0])
    film.save(tmp_path / "a.jpg", quality=60)
    copies = {
        "compressed": np.asarray(Image.open(tmp_path / "a.jpg")),
        "scaled": np.asarray(film.resize((160, 160), Image.Resampling.BICUBIC)),
        "brighter": np.asarray(film.point(lambda v: min(255, int(v * 0.9 + 20)))),
    }
    for name, copy in copies.items():
        assert [(f.kind, f.severity) for f in found_between(films[0], copy)] == [("near duplicate", "warning")], name
    assert [(f.kind, f.severity) for f in found_between(films[0], films[0].copy())] == [("duplicate", "error")]
    grey_as_colour = np.repeat(films[0][..., None], 3, axis=2)
    assert [f.kind for f in found_between(films[0], grey_as_colour)] == ["duplicate"]
    assert not any(found_between(a, b) for k, a in enumerate(films) for b in films[k + 1 :])


def test_what_the_unlabelled_split_shares_with_train_is_a_warning_and_with_test_an_error(
    tmp_path: Path, films: list[np.ndarray]
) -> None:
    for other, severity in (("train", "warning"), ("test", "error")):
        splits = {"unlabelled": [{"film": 0, "boxes": []}], other: [{"film": 0}]}
        report = check(read_splits(write(tmp_path / other, films, **splits)))
        assert [(f.kind, f.severity) for f in report.faults if f.kind == "duplicate"] == [("duplicate", severity)]


# --- files, the sheet and the command -------------------------------------------------------------------------------


def test_a_config_is_checked_with_its_categories_and_limits(tmp_path: Path, films: list[np.ndarray]) -> None:
    paths = write(tmp_path, films, train=[{"film": 0}, {"film": 1, "boxes": [(1, 500, 0, 9, 9)]}], val=[{"film": 2}])
    split = {p.stem: {"annotations": p.name, "images": "images"} for p in paths}
    data = {"format": "coco", "categories": ["a"], "train": split["train"] | {"limit": 1}, "val": split["val"]}
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"name": "x", "data": data}))
    report = check(read_splits([config]))
    assert report.faults == ()
    assert {s: list(c["classes"]) for s, c in report.balance.items()} == {"train": ["a"], "val": ["a"]}
    config.write_text(yaml.safe_dump({"data": data | {"categories": ["a", "Zebra"]}}))
    with pytest.raises(DataError, match=r"train.json: the file has no category 'Zebra'"):
        read_splits([config])
    config.write_text(yaml.safe_dump({"data": {"format": "coco", "train": {"annotations": "a.json"}}}))
    with pytest.raises(ConfigError, match=r"run.yaml: data.train.images: Field required"):
        read_splits([config])


def test_films_outside_of_the_folder_are_not_looked_at(tmp_path: Path, films: list[np.ndarray]) -> None:
    (path,) = write(tmp_path, films, train=[{"name": "../elsewhere.png"}])
    with pytest.raises(DataError, match="image name '../elsewhere.png' leaves the image folder"):
        read_splits([path])


def test_voc_splits_are_checked_with_corners_as_they_stand(tmp_path: Path, films: list[np.ndarray]) -> None:
    for name in ("images", "xml"):
        (tmp_path / name).mkdir()
    for n, corners in enumerate(((1, 1, 96, 96), (1, 1, 99, 50))):
        Image.fromarray(films[n]).save(tmp_path / f"images/f{n}.png")
        box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
        text = f"<annotation><object><name>RBC</name><bndbox>{box}</bndbox></object></annotation>"
        (tmp_path / f"xml/f{n}.xml").write_text(text)
    (tmp_path / "train.txt").write_text("f0\nf1\n")
    data = {"format": "voc", "train": {"split": "train.txt", "annotations": "xml", "images": "images"}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"data": data}))
    report = check(read_splits([tmp_path / "run.yaml"]))
    assert [str(f) for f in report.faults] == [
        "train, f1: object 1 (RBC): box [0, 0, 99, 50] is larger than its 96×96 film"
    ]
    (tmp_path / "xml/f1.xml").write_text("<annotation><size><width>95</width><height>96</height></size></annotation>")
    assert kinds(check(read_splits([tmp_path / "run.yaml"]))) == [("size", "error")]


def test_a_patient_that_is_null_is_not_one_that_splits_share(tmp_path: Path, films: list[np.ndarray]) -> None:
    splits = {"train": [{"film": 0, "patient": None}], "val": [{"film": 1, "patient": None}]}
    assert kinds(check(read_splits(write(tmp_path, films, **splits)))) == [("patient unknown", "warning")]


def test_the_sheet_has_a_row_a_class_with_faulty_boxes_first(tmp_path: Path, films: list[np.ndarray]) -> None:
    train = [{"film": 0, "boxes": [(1, 10, 10, 20, 20), (1, 30, 30, 0, 9), (2, 5, 5, 30, 30)]}, {"film": 1}]
    splits = read_splits(write(tmp_path, films, train=train))
    page = np.asarray(sheet(splits, check(splits)))
    assert page.shape == (2 * (TILE + 60), 2 * EACH * (TILE + 8) + 8, 3)
    first = page[30 : 30 + TILE, 8 : 8 + TILE].reshape(-1, 3)
    assert (first == (220, 50, 40)).all(axis=1).any()
    rest = page[:, 8 + TILE + 8 :].reshape(-1, 3)
    assert not (rest == (220, 50, 40)).all(axis=1).any()
    assert (rest == (230, 150, 30)).all(axis=1).any()


def test_the_command_exits_with_1_if_there_is_a_fault(tmp_path: Path, films: list[np.ndarray]) -> None:
    for folder, other, code in (("sound", "b", 0), ("leaky", "train1", 1)):
        splits = {"train": [{"film": 0}], "test": [{"film": 1, "patient": other}]}
        paths = [str(p) for p in write(tmp_path / folder, films, **splits)]
        result = CliRunner().invoke(app, ["data", "check", *paths, "--sheet", str(tmp_path / "s.png"), "--json"])
        assert result.exit_code == code, result.output
        assert json.loads(result.stdout)["errors"] == code
        assert Image.open(tmp_path / "s.png").format == "PNG"
        plain = CliRunner().invoke(app, ["data", "check", *paths])
        assert ("patient train1 has films in several splits" in plain.output) == bool(code)
