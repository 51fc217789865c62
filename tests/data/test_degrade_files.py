from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.data.coco import load_coco
from neurosym.data.degrade import DegradedSamples, degradation
from neurosym.data.degrade_files import degrade_file, read_truth, true_boxes
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import ConfigError, DataError, NeurosymError
from neurosym.knowledge import Knowledge
from neurosym.records import Sample

Folder = Callable[..., tuple[Path, Path]]
FILMS = 4


def with_masks(data: dict) -> None:
    films = Phantom(0, len(data["images"]), PhantomConfig(size=128))
    for entry, a in zip(data["annotations"], [a for f in films for a in f.annotations], strict=True):
        entry |= {"segmentation": dict(a.mask or {}), "area": 1.0, "iscrowd": 0, "note": "kept"}


def boxes_of(samples: list[Sample]) -> list[list[tuple[float, ...]]]:
    return [[a.box.xyxy for a in s.annotations] for s in samples]


@pytest.mark.parametrize("how", ["uniform", "too_big", "partial", "annotator", "point", "coarse_mask", "missing"])
def test_the_loader_shows_what_is_written_and_the_reader_the_truth_in_the_same_order(
    how: str, coco_folder: Folder, thorax: Knowledge, tmp_path: Path
) -> None:
    source, images = coco_folder(FILMS, with_masks)
    target = tmp_path / "noisy.json"
    degrade_file(source, target, degradation(how, 0.4))
    clean, shown = load_coco(source, images, thorax), list(load_coco(target, images, thorax))
    expected = DegradedSamples(clean, degradation(how, 0.4))
    truth, truth_boxes = read_truth(target), true_boxes(target)
    assert truth_boxes == true_boxes(expected)
    for i, sample in enumerate(shown):
        wanted = expected[i].annotations
        assert [a.name for a in sample.annotations] == [a.name for a in wanted]
        for a, b in zip(sample.annotations, wanted, strict=True):  # x, y, w, h and back cost a rounding error
            assert a.box.xyxy == pytest.approx(b.box.xyxy, abs=1e-9)
            assert a.mask == b.mask
        assert truth[sample.image_id] == expected.truth(i)


def test_training_samples_hold_nothing_of_the_truth(coco_folder: Folder, thorax: Knowledge, tmp_path: Path) -> None:
    source, images = coco_folder(FILMS, with_masks)
    target = tmp_path / "noisy.json"
    degrade_file(source, target, degradation("uniform", 0.4))
    shown = load_coco(target, images, thorax)
    for film, sample in zip(load_coco(source, images, thorax), shown, strict=True):
        assert "true" not in str((sample.annotations, sample.labels, sample.attributes))
        assert sample.labels == film.labels
        assert sample.attributes == film.attributes
        assert not {a.box for a in sample.annotations} & {a.box for a in film.annotations}
    # and with the truth removed from the file, training sees the very same
    data = json.loads(target.read_text())
    for entry in data["annotations"]:
        for key in [k for k in entry if k.startswith("true_")]:
            del entry[key]
    target.write_text(json.dumps(data))
    for a, b in zip(shown, load_coco(target, images, thorax), strict=True):
        assert (a.annotations, a.labels, a.attributes) == (b.annotations, b.labels, b.attributes)


def test_the_same_seed_writes_the_same_bytes_and_another_others(coco_folder: Folder, tmp_path: Path) -> None:
    source, _ = coco_folder(FILMS, with_masks)
    written = []
    for k, seed in enumerate((3, 3, 4)):
        degrade_file(source, tmp_path / f"{k}.json", degradation("uniform", 0.4, seed))
        written.append((tmp_path / f"{k}.json").read_bytes())
    assert written[0] == written[1] != written[2]


def test_a_box_is_drawn_the_same_in_a_shuffled_file_and_beside_other_images(
    coco_folder: Folder, tmp_path: Path
) -> None:
    source, _ = coco_folder(FILMS)
    data = json.loads(source.read_text())
    degrade_file(source, tmp_path / "a.json", degradation("uniform", 0.4))
    data["annotations"] = data["annotations"][::-1]
    data["images"] = data["images"][2:]
    left = {i["id"] for i in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in left]
    source.write_text(json.dumps(data))
    degrade_file(source, tmp_path / "b.json", degradation("uniform", 0.4))
    first, second = (
        {a["id"]: a["bbox"] for a in json.loads((tmp_path / f"{n}.json").read_text())["annotations"]} for n in "ab"
    )
    assert second
    assert second == {k: v for k, v in first.items() if k in second}


def test_the_file_records_what_was_done_and_keeps_what_it_does_not_touch(coco_folder: Folder, tmp_path: Path) -> None:
    source, _ = coco_folder(FILMS, with_masks)
    target = tmp_path / "noisy.json"
    returned = degrade_file(source, target, degradation("uniform", 0.4, 5))
    before, after = json.loads(source.read_text()), json.loads(target.read_text())
    assert after["info"]["degraded"] == [returned]
    assert {k: returned[k] for k in ("how", "r", "seed", "dropped", "relabelled", "reverted")} == {
        "how": "uniform",
        "r": 0.4,
        "seed": 5,
        "dropped": 0,
        "relabelled": 0,
        "reverted": [],
    }
    assert returned["annotations"] == returned["changed"] == len(before["annotations"])
    assert 0.3 < returned["mean_iou"] < 0.6
    assert (after["images"], after["categories"]) == (before["images"], before["categories"])
    for a, b in zip(before["annotations"], after["annotations"], strict=True):
        assert b["true_bbox"] == a["bbox"]
        assert b["true_category_id"] == a["category_id"] == b["category_id"]
        assert b["true_segmentation"] == a["segmentation"]
        assert (b["id"], b["note"]) == (a["id"], "kept")
        assert b["area"] != a["area"]  # of the spoilt mask: the old one would tell


def test_at_r_0_annotations_keep_their_very_numbers(coco_folder: Folder, tmp_path: Path) -> None:
    source, _ = coco_folder(FILMS, with_masks)
    assert degrade_file(source, tmp_path / "same.json", degradation("uniform", 0.0))["changed"] == 0
    before, after = json.loads(source.read_text()), json.loads((tmp_path / "same.json").read_text())
    for a, b in zip(before["annotations"], after["annotations"], strict=True):
        assert {k: v for k, v in b.items() if not k.startswith("true_")} == a


def test_dropped_annotations_and_wrong_labels_can_be_scored(
    coco_folder: Folder, thorax: Knowledge, tmp_path: Path
) -> None:
    source, images = coco_folder(FILMS)
    before = json.loads(source.read_text())
    record = degrade_file(source, tmp_path / "less.json", degradation("missing", 0.0, rates={"heart": 1.0}))
    after = json.loads((tmp_path / "less.json").read_text())
    hearts = [a["id"] for a in before["annotations"] if a["category_id"] == 3]
    assert [a["id"] for a in after["dropped_annotations"]] == hearts
    assert record["dropped"] == len(hearts) == FILMS
    degrade_file(source, tmp_path / "wrong.json", degradation("wrong_label", 0.5))
    truth, shown = read_truth(tmp_path / "wrong.json"), load_coco(tmp_path / "wrong.json", images, thorax)
    pairs = [(t, a) for s in shown for t, a in zip(truth[s.image_id], s.annotations, strict=True)]
    assert all(t.box == a.box for t, a in pairs)
    assert {t.name == a.name for t, a in pairs} == {True, False}
    assert [t.name for t, _ in pairs] == [a.name for s in load_coco(source, images, thorax) for a in s.annotations]


def test_the_truth_of_some_categories_is_what_the_loader_shows_of_them(
    coco_folder: Folder, thorax: Knowledge, tmp_path: Path
) -> None:
    source, images = coco_folder(FILMS)
    target = tmp_path / "noisy.json"
    degrade_file(source, target, degradation("uniform", 0.3))
    some = ["heart", "left_lung"]
    truth = true_boxes(target, some)
    clean = load_coco(source, images, thorax, some)
    assert [list(truth[s.image_id]) for s in clean] == [[a.box for a in s.annotations] for s in clean]


def test_a_file_that_is_degraded_twice_keeps_its_first_truth_and_both_records(
    coco_folder: Folder, tmp_path: Path
) -> None:
    source, _ = coco_folder(FILMS, with_masks)
    degrade_file(source, tmp_path / "once.json", degradation("uniform", 0.2))
    degrade_file(tmp_path / "once.json", tmp_path / "twice.json", degradation("missing", 0.3))
    before, after = json.loads(source.read_text()), json.loads((tmp_path / "twice.json").read_text())
    assert [d["how"] for d in after["info"]["degraded"]] == ["uniform", "missing"]
    true = {a["id"]: a["true_bbox"] for a in (*after["annotations"], *after["dropped_annotations"])}
    assert true == {a["id"]: a["bbox"] for a in before["annotations"]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("true_bbox", None), ("true_bbox", [1, 2, 3]), ("true_bbox", {"x": 1}), ("true_bbox", [1, 2, 3, 10**400]),
        ("true_category_id", [1]), ("true_category_id", 99),
    ],
)  # fmt: skip
def test_a_damaged_truth_is_told_when_it_is_read_and_when_its_file_is_degraded_again(
    key: str, value: object, coco_folder: Folder, tmp_path: Path
) -> None:
    once = tmp_path / "once.json"
    degrade_file(coco_folder(FILMS)[0], once, degradation("uniform", 0.3))
    data = json.loads(once.read_text())
    data["annotations"][0][key] = value
    once.write_text(json.dumps(data))
    for use in (read_truth, lambda path: degrade_file(path, tmp_path / "twice.json", degradation("uniform", 0.3))):
        with pytest.raises(DataError, match="annotation 1: no true_bbox or true_category_id"):
            use(once)


@pytest.mark.parametrize("key", ["degraded", "dropped_annotations"])
def test_a_damaged_record_of_what_was_done_before_is_told(key: str, coco_folder: Folder, tmp_path: Path) -> None:
    def change(data: dict) -> None:
        data.setdefault("info", {})
        (data["info"] if key == "degraded" else data)[key] = 5

    with pytest.raises(DataError, match=f"{key} is 5; expected a list"):
        degrade_file(coco_folder(1, change)[0], tmp_path / "o.json", degradation("uniform", 0.3))


def test_a_point_is_also_written_as_a_keypoint(coco_folder: Folder, tmp_path: Path) -> None:
    source, _ = coco_folder(1, with_masks)
    degrade_file(source, tmp_path / "points.json", degradation("point", 0.5))
    for a in json.loads((tmp_path / "points.json").read_text())["annotations"]:
        x, y, w, h = a["bbox"]
        assert a["keypoints"] == [x + w / 2, y + h / 2, 2]
        assert (w, h) == (2, 2)
        assert "segmentation" not in a


def spoil(key: str, value: object) -> Callable[[dict], None]:
    return lambda data: data["annotations"][0].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][0].pop("bbox"), "annotations.0.bbox: Field required"),
        (
            spoil("bbox", [math.nan, 0, 5, 5]),
            r"annotation 1: box \[nan, 0, nan, 5\] is not finite; correct its numbers",
        ),
        (spoil("bbox", [5, 5, 0, 9]), r"annotation 1: box \[5, 5, 5, 14\] is empty"),
        (spoil("category_id", 99), "annotation 1: unknown category_id 99"),
        (lambda d: d.pop("images"), "not a COCO file: no images"),
    ],
)
def test_a_file_that_cannot_be_degraded_is_refused_and_nothing_is_written(
    change: Callable[[dict], None], message: str, coco_folder: Folder, tmp_path: Path
) -> None:
    source, _ = coco_folder(1, change)
    with pytest.raises(DataError, match=message) as error:
        degrade_file(source, tmp_path / "out.json", degradation("uniform", 0.1))
    assert "annotations.json" in str(error.value)
    assert not (tmp_path / "out.json").exists()


def test_bad_boxes_may_be_left_out_and_that_is_recorded(coco_folder: Folder, tmp_path: Path) -> None:
    source, _ = coco_folder(1, spoil("bbox", [5, 5, 0, 9]))
    record = degrade_file(source, tmp_path / "out.json", degradation("uniform", 0.1), "drop")
    assert record["left_out"] == 1
    assert 1 not in [a["id"] for a in json.loads((tmp_path / "out.json").read_text())["annotations"]]


def test_a_clean_file_has_no_truth_to_read_and_is_never_overwritten(coco_folder: Folder) -> None:
    source, _ = coco_folder(1)
    with pytest.raises(DataError, match="annotation 1: no true_bbox or true_category_id; the truth is in files that"):
        true_boxes(source)
    with pytest.raises(ConfigError, match=r"annotations\.json: would be overwritten by its degraded copy"):
        degrade_file(source, source, degradation("uniform", 0.1))
    with pytest.raises(DataError, match="coarse_mask: no annotation has a mask"):
        degrade_file(source, source.parent / "out.json", degradation("coarse_mask", 0.1))


# --- the command ------------------------------------------------------------------------------------------------------


def command(*words: object) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(app, ["data", "degrade", *map(str, words)])
    return result.exit_code, result.output, result.exception


def test_the_command_explains_itself_with_examples() -> None:
    code, text, _ = command("--help")
    assert code == 0
    assert "neurosym data degrade train.json noisy.json --how uniform --r 0.4" in " ".join(text.split())


def test_the_command_writes_what_the_function_does_and_prints_the_record(coco_folder: Folder, tmp_path: Path) -> None:
    source, _ = coco_folder(FILMS)
    options = ("--how", "missing", "--r", 0.1, "--seed", 2, "--rate", "heart=0.9", "--json")
    code, text, _ = command(source, tmp_path / "cli.json", *options)
    assert code == 0
    record = degrade_file(source, tmp_path / "function.json", degradation("missing", 0.1, 2, rates={"heart": 0.9}))
    assert (tmp_path / "cli.json").read_bytes() == (tmp_path / "function.json").read_bytes()
    assert json.loads(text) == {"out": str(tmp_path / "cli.json")} | record


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--how", "blur", "--r", 0.1), "unknown degradation 'blur'; known: annotator, coarse_mask, missing"),
        (("--r", 3), "r: Input should be less than or equal to 1, found 3.0"),
        (("--how", "missing", "--r", 0.1, "--rate", "heart"), "--rate 'heart': expected CATEGORY=PROBABILITY"),
        (("--how", "missing", "--r", 0.1, "--rate", "haert=0.5"), "no class 'haert' in the data; did you mean 'heart'"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    options: tuple[object, ...], message: str, coco_folder: Folder, tmp_path: Path
) -> None:
    code, _, error = command(coco_folder(1)[0], tmp_path / "out.json", *options)
    assert code == 1
    assert isinstance(error, NeurosymError)
    assert message in str(error)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    code, _, error = command(tmp_path / "no.json", tmp_path / "out.json", "--r", 0.1)
    assert code == 1
    assert "no.json: annotation file not found" in str(error)
