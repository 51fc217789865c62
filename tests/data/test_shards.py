"""Shards: webdataset reads them, whoever is killed goes on, and their samples are those of the COCO file that was packed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.data.coco import load_coco
from neurosym.data.config import CocoData, PhantomData, ShardData, VocData, class_names, open_split
from neurosym.data.pool import shared_films
from neurosym.data.shard_films import coco_films, sample_films, split_films
from neurosym.data.shard_pack import FilmsToPack, PackedFilm, pack
from neurosym.data.shards import ShardSet, open_shards
from neurosym.data.unread import unread
from neurosym.data.weak_labels import contradictory_films, has_weak_films
from neurosym.errors import ConfigError, DataError, NeurosymError
from neurosym.knowledge import Knowledge
from neurosym.learning.batches import make_batch
from tests.data.shard_films import FILMS, SIZE, Folder, bare, contents, same
from tests.data.test_voc import cell
from tests.data.test_voc import write as write_voc

# --- what is written --------------------------------------------------------------------------------------------------


def test_webdataset_reads_the_image_files_byte_for_byte_and_a_coco_record_of_each(
    rich_files: tuple[Path, Path], packed: Path
) -> None:
    data = json.loads(rich_files[0].read_text())
    urls = sorted(map(str, packed.glob("*.tar")))
    assert len(urls) > 2
    read = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert [each["__key__"] for each in read] == [f"{n:09d}" for n in range(FILMS)]
    for image, each in zip(data["images"], read, strict=True):
        assert each["png"] == (rich_files[1] / image["file_name"]).read_bytes()
        record = json.loads(each["json"])
        assert record["images"] == [image]
        own = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        kept = [{k: v for k, v in a.items() if k not in ("area", "note", "true_bbox")} for a in own]
        assert record["annotations"] == kept
        assert {c["id"] for c in record["categories"]} == {a["category_id"] for a in own}
    assert all(Path(url).stat().st_size <= SIZE + 10_240 for url in urls)


class Killed(Exception):
    pass


def test_whoever_is_killed_at_any_film_goes_on_and_writes_the_same_bytes(
    rich_files: tuple[Path, Path], packed: Path, tmp_path: Path
) -> None:
    films = coco_films(*rich_files)
    whole, asked = contents(packed), list[int]()

    def until(last: int) -> Callable[[int], PackedFilm]:
        def film(n: int) -> PackedFilm:
            asked.append(n)
            if n == last:
                raise Killed
            return films.film(n)

        return film

    for last in range(FILMS):
        parts = tmp_path / f"killed-{last}"
        with pytest.raises(Killed):
            pack(replace(films, film=until(last)), parts, SIZE)
        with pytest.raises(DataError, match="no shards.json there"):
            open_shards(parts, None)  # type: ignore[arg-type]
        asked.clear()
        pack(replace(films, film=until(-1)), parts, SIZE)
        assert contents(parts) == whole
        assert asked[0] <= last
        assert last < 4 or asked[0] > 0  # complete shards are not read again
    pack(replace(films, film=until(0)), packed, SIZE)  # all there: nothing is asked for
    assert contents(packed) == whole


@pytest.mark.parametrize("packed_as", ["coco", "pictures"])
def test_shards_of_images_that_were_changed_since_or_lie_elsewhere_are_not_taken_for_written(
    packed_as: str, rich_files: tuple[Path, Path], thorax: Knowledge, tmp_path: Path
) -> None:
    def films(images: Path) -> FilmsToPack:
        if packed_as == "coco":
            return coco_films(rich_files[0], images)
        read = load_coco(rich_files[0], images, thorax)
        return sample_films(read, [n for n in read.names if n != "pneumothorax"], thorax)

    out, images = tmp_path / "shards", rich_files[1]
    pack(films(images), out, SIZE)
    before = contents(out)
    pack(films(images), out, SIZE)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(images, elsewhere)
    with pytest.raises(ConfigError, match="the folder holds shards of other films"):
        pack(films(elsewhere), out, SIZE)
    changed = images / "phantom-000003.png"
    content, written = changed.read_bytes(), changed.stat()
    for new, when in ((content + b"\0", written.st_mtime_ns), (content, written.st_mtime_ns + 10**9)):
        changed.write_bytes(new)
        os.utime(changed, ns=(when, when))
        with pytest.raises(ConfigError, match="the folder holds shards of other films"):
            pack(films(images), out, SIZE)
    os.utime(changed, ns=(written.st_mtime_ns, written.st_mtime_ns))
    pack(films(images), out, SIZE)
    assert contents(out) == before


def test_a_folder_that_lost_a_shard_is_not_told_to_be_written(rich_files: tuple[Path, Path], packed: Path) -> None:
    (packed / "shard-00001.tar").unlink()
    with pytest.raises(DataError, match=r"shard-00001\.tar: the shard is missing; copy it there again, or remove the"):
        pack(coco_films(*rich_files), packed, SIZE)


def test_a_folder_of_other_films_or_of_other_things_is_left_alone(
    rich_files: tuple[Path, Path], packed: Path, tmp_path: Path
) -> None:
    before = contents(packed)
    with pytest.raises(ConfigError, match="shards: the folder holds shards of other films, or of another size; name"):
        pack(coco_films(*rich_files, limit=2), packed, SIZE)
    with pytest.raises(ConfigError, match="or of another size"):
        pack(coco_films(*rich_files), packed, 2 * SIZE)
    assert contents(packed) == before
    with pytest.raises(ConfigError, match="images: the folder holds something else"):
        pack(coco_films(*rich_files), rich_files[1], SIZE)
    started = tmp_path / "started"
    films = coco_films(*rich_files)
    with pytest.raises(ZeroDivisionError):
        pack(replace(films, film=lambda n: films.film(n // (3 - n))), started, SIZE)
    with pytest.raises(ConfigError, match="the folder holds a part of other films"):
        pack(coco_films(*rich_files, limit=2), started, SIZE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_in_one_message(
    rich_files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path.open
    full = [True]

    def opened(path: Path, mode: str = "r", *more: object, **named: object) -> object:
        return own(Path("/dev/full") if full[0] and path.suffix == ".part" else path, mode, *more, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(
        DataError, match=r"full: cannot be written \(No space left on device\); the same command goes on"
    ):
        pack(coco_films(*rich_files), tmp_path / "full", SIZE)
    full[0] = False
    assert pack(coco_films(*rich_files), tmp_path / "full", SIZE).films == FILMS


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("categories", [None, ("heart", "left_lung", "nodule")])
def test_samples_and_tensors_are_those_of_the_coco_file(
    categories: tuple[str, ...] | None, rich_files: tuple[Path, Path], packed: Path, thorax: Knowledge
) -> None:
    wanted, found = load_coco(*rich_files, thorax, categories), open_shards(packed, thorax, categories)
    same(found, wanted)
    same(found[5:2:-2], wanted[5:2:-2])
    same(found.select([3, 0]), wanted.select([3, 0]))
    assert found.names == wanted.names
    cpu = torch.device("cpu")
    for own, other in zip(
        make_batch(list(found), found.names, cpu, np.random.default_rng(3), masks=True),
        make_batch(list(wanted), found.names, cpu, np.random.default_rng(3), masks=True),
        strict=True,
    ):
        for a, b in zip(own, other, strict=True):
            for key in a if isinstance(a, dict) else [slice(None)]:
                assert torch.equal(a[key], b[key])
    with pytest.raises(IndexError):
        found[FILMS]


def test_what_asks_for_no_pixels_is_told_the_same_and_reads_no_image(
    rich_files: tuple[Path, Path], packed: Path, thorax: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, found = load_coco(*rich_files, thorax), open_shards(packed, thorax)
    monkeypatch.setattr("neurosym.data.shards.decode_image", None)
    shown = unread(found)
    for i, sample in enumerate(wanted):
        assert repr(bare(shown[i])) == repr(bare(sample))
        assert shown[i].image.shape == sample.image.shape
    assert has_weak_films(found) is has_weak_films(wanted) is True
    assert not has_weak_films(found[3:])
    told = [list(map(str, contradictory_films(s, wanted.names, thorax.ontology))) for s in (found, wanted)]
    assert told[0] == told[1]


def test_a_film_of_shards_is_known_again_in_other_splits(
    rich_files: tuple[Path, Path], packed: Path, thorax: Knowledge
) -> None:
    films, shards = load_coco(*rich_files, thorax), open_shards(packed, thorax)
    assert len(shared_films(shards[1:3], films, "test")) == 2
    assert shared_films(shards[1:3], films[3:], "test") == []


def test_a_config_does_to_shards_what_it_does_to_files(
    rich_files: tuple[Path, Path], packed: Path, thorax: Knowledge
) -> None:
    more = {
        "few": {"count": 3, "seed": 1},
        "categories": ["left_lung", "heart"],
        "degrade": {"how": "uniform", "r": 0.3},
    }
    split = {"annotations": str(rich_files[0]), "images": str(rich_files[1]), "limit": 6}
    coco = CocoData.model_validate({"format": "coco", "train": split, **more})
    data = ShardData.model_validate({"format": "shards", "train": {"shards": str(packed), "limit": 6}, **more})
    for name in ("train", "unlabelled"):
        wanted, found = (open_split(d, name, Path(), thorax) for d in (coco, data))  # type: ignore[arg-type]
        same(found, wanted)
        assert class_names(data, found, thorax) == class_names(coco, wanted, thorax)
    with pytest.raises(ConfigError, match="data has no split 'val'; known: train"):
        open_split(data, "val", Path(), thorax)
    with pytest.raises(ConfigError, match=r"data.train: these films are packed already"):
        split_films(data, "train", Path(), thorax)


def test_pictures_of_voc_files_and_generated_films_are_packed_too(
    tmp_path: Path, blood: Knowledge, thorax: Knowledge
) -> None:
    split, *places = write_voc(tmp_path, cell("RBC", 1, 1, 20, 30) + cell("WBC", 5, 6, 80, 60))
    given = {"split": str(split), "annotations": str(places[0]), "images": str(places[1])}
    voc = VocData.model_validate({"format": "voc", "train": given})
    pack(split_films(voc, "train", Path(), blood), tmp_path / "voc")
    same(open_shards(tmp_path / "voc", blood), open_split(voc, "train", Path(), blood))

    phantom = PhantomData.model_validate({"format": "phantom", "size": 64, "train": {"start": 3, "count": 5}})
    pack(split_films(phantom, "train", Path(), thorax), tmp_path / "phantom")
    found, films = open_shards(tmp_path / "phantom", thorax), open_split(phantom, "train", Path(), thorax)
    for i in range(5):
        assert np.array_equal(found[i].image, films[i].image)
        assert [(a.name, a.box, a.mask) for a in found[i].annotations] == [
            (a.name, a.box, a.mask) for a in films[i].annotations
        ]
        assert (found[i].image_id, found[i].labels) == (films[i].image_id, films[i].labels)
        assert "relations" not in found[i].attributes


def test_an_id_in_quotes_is_packed_as_the_number_it_is_read_as(
    coco_folder: Folder, thorax: Knowledge, tmp_path: Path
) -> None:
    def change(data: dict) -> None:
        data["annotations"][0]["category_id"] = str(data["annotations"][0]["category_id"])

    files = coco_folder(1, change)
    pack(coco_films(*files), tmp_path / "shards", SIZE)
    assert open_shards(tmp_path / "shards", thorax)[0].annotations == load_coco(*files, thorax)[0].annotations


def test_mistakes_of_the_annotations_are_told_before_anything_is_packed(
    coco_folder: Folder, thorax: Knowledge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(data: dict) -> None:
        data["annotations"][0]["bbox"] = [5, 5, 0, 9]
        data["annotations"][1]["drawn"] = "circle"

    files = coco_folder(2, spoil)
    with pytest.raises(DataError, match=r"annotation 1: box \[5, 5, 5, 14\] is empty.*\n.*drawn as 'circle'"):
        coco_films(*files)
    pack(coco_films(*files, bad_boxes="drop"), tmp_path / "dropped")
    assert "dropped: " in caplog.text
    same(open_shards(tmp_path / "dropped", thorax, bad_boxes="drop"), load_coco(*files, thorax, bad_boxes="drop"))
    (files[1] / "phantom-000001.png").unlink()
    with pytest.raises(DataError, match=r"image 'phantom-000001.png' is not in"):
        coco_films(*files, bad_boxes="drop")


def test_shards_without_annotations_are_unlabelled_ones(coco_folder: Folder, thorax: Knowledge, tmp_path: Path) -> None:
    pack(coco_films(*coco_folder(2, lambda data: data["annotations"].clear())), tmp_path / "plain")
    with pytest.raises(DataError, match=r"plain: the file annotates nothing"):
        open_shards(tmp_path / "plain", thorax)
    assert len(open_shards(tmp_path / "plain", thorax, labelled=False)) == 2
    with pytest.raises(DataError, match=r"no category 'hart'; did you mean 'heart'"):
        open_shards(tmp_path / "plain", thorax, ["hart"], labelled=False)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_packs_a_coco_file_and_the_split_of_a_config(
    rich_files: tuple[Path, Path], tmp_path: Path, thorax: Knowledge
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"name: x\nknowledge: [{Path(__file__).parents[2]}/ontologies/thorax.ttl]\n"
        "data:\n  format: coco\n  train: {annotations: annotations.json, images: images}\n"
        "  val: {annotations: annotations.json, images: images, limit: 2}\n"
    )
    told = json.loads(invoke(rich_files[0], tmp_path / "a", "--images", rich_files[1], "--size", "0.03MB", "--json"))
    assert (told["films"], told["annotated"]["heart"]) == (FILMS, FILMS)
    assert told["shards"] == len(list((tmp_path / "a").glob("*.tar"))) > 2
    invoke(config, tmp_path / "b", "--size", "30 kB")
    assert contents(tmp_path / "a").keys() == contents(tmp_path / "b").keys()
    assert json.loads(invoke(config, tmp_path / "c", "--split", "val", "--json"))["films"] == 2
    assert isinstance(open_shards(tmp_path / "c", thorax), ShardSet)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a.json",), "a.json: of a COCO file give --images FOLDER and no --split; a config ends in .yaml"),
        (("a.json", "--images", "i", "--split", "val"), "and no --split"),
        (("a.yaml", "--images", "i"), "--images and --bad-boxes are of COCO files; a.yaml says both itself"),
        (("a.yaml", "--size", "12"), "--size '12': expected a number with kB, MB or GB, e.g. 256MB"),
        (("a.yaml", "--size", "0MB"), "--size '0MB'"),
        (("a.json", "--images", "i"), "a.json: annotation file not found"),
    ],
)
def test_what_the_command_cannot_do_is_one_message(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    source, *options = words
    result = CliRunner().invoke(app, ["data", "shards", source, str(tmp_path / "out"), *options])
    assert isinstance(result.exception, NeurosymError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def invoke(*words: object) -> str:
    result = CliRunner().invoke(app, ["data", "shards", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout
