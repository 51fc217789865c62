"""Pools of films, and the films that are kept out of them by their content."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from neurosym.data.film_exclusion import pixel_hash, without
from neurosym.data.film_sources import FilmPool, FilmSource, PhantomFilms, open_sources
from neurosym.data.phantom import PhantomConfig, phantom_film
from neurosym.errors import DataError


def film(seed: int, shape: tuple[int, ...] = (20, 24)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(folder: Path, count: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        Image.fromarray(film(n)).save(folder / f"{n}.png")
    return folder


def names(pool: FilmPool) -> list[str]:
    return [Path(f.name).name for f in pool]


def test_every_kind_of_source_finds_its_films_and_each_film_once(tmp_path: Path) -> None:
    images = write(tmp_path / "images")
    (tmp_path / "coco.json").write_text(
        json.dumps(
            {
                "images": [{"id": k, "file_name": f"{k}.png", "width": 24, "height": 20} for k in (1, 0)],
                "annotations": [],
                "categories": [],
            }
        )
    )
    (tmp_path / "split.txt").write_text("3\n2\n")
    (tmp_path / "table.csv").write_text("file_name,finding\n2.png,x\n")
    sources = {
        "folder": FilmSource(folder="images"),
        "coco": FilmSource(annotations="coco.json", images="images"),
        "voc": FilmSource(split="split.txt", annotations="xml", images="images"),
        "table": FilmSource(table="table.csv", images="images"),
    }
    found = {k: names(open_sources([s], tmp_path)) for k, s in sources.items()}
    assert found == {
        "folder": ["0.png", "1.png", "2.png", "3.png"],
        "coco": ["1.png", "0.png"],
        "voc": ["3.png", "2.png"],
        "table": ["2.png"],
    }
    assert [s.kind for s in sources.values()] == list(sources)
    together = open_sources([*sources.values(), FilmSource(phantom=PhantomFilms(start=5, count=2, size=64))], tmp_path)
    assert len(together) == 6
    np.testing.assert_array_equal(together[0].read(), film(0))
    assert images / "0.png" == together[0].path
    expected = phantom_film(6, PhantomConfig(size=64)).image
    np.testing.assert_array_equal(together[-1].read(), expected)
    assert len(open_sources([FilmSource(folder="images", limit=3)], tmp_path)) == 3


def test_a_source_that_is_none_or_two_is_refused() -> None:
    for values in ({}, {"folder": "a", "table": "b", "images": "c"}, {"annotations": "a"}, {"images": "a"}):
        with pytest.raises(ValidationError, match="a source names one of"):
            FilmSource.model_validate(values)


def test_missing_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="image folder not found"):
        open_sources([FilmSource(folder="none")], tmp_path)
    with pytest.raises(DataError, match="no image there"):
        open_sources([FilmSource(folder="empty")], tmp_path)
    (tmp_path / "t.csv").write_text("file,finding\n")
    with pytest.raises(DataError, match="no column 'file_name'; did you mean 'file'"):
        open_sources([FilmSource(table="t.csv", images="empty")], tmp_path)
    (tmp_path / "split.txt").write_text("7\n")
    with pytest.raises(DataError, match="image '7' is not in"):
        open_sources([FilmSource(split="split.txt", images="empty")], tmp_path)
    image = {"id": 1, "file_name": "../t.png", "width": 9, "height": 9}
    (tmp_path / "coco.json").write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    with pytest.raises(DataError, match="image name '../t.png' leaves the image folder"):
        open_sources([FilmSource(annotations="coco.json", images="empty")], tmp_path)


def test_copies_of_held_out_films_are_left_out_whatever_their_name_and_lossless_format(tmp_path: Path) -> None:
    held_out, pool = write(tmp_path / "test", 4), tmp_path / "pool"
    pool.mkdir()
    shutil.copyfile(held_out / "0.png", pool / "another-name.png")
    Image.open(held_out / "1.png").save(pool / "anew.bmp")
    Image.open(held_out / "2.png").convert("RGB").save(pool / "in-three-channels.png", compress_level=9)
    changed = film(3)
    changed[7, 9] ^= 1  # of the same size, all but one pixel the same
    Image.fromarray(changed).save(pool / "one-bit-off.png")
    Image.fromarray(film(1).T.copy()).save(pool / "transposed.png")
    Image.fromarray(film(9)).save(pool / "other.png")
    films = open_sources([FilmSource(folder="pool")], tmp_path)
    checked = without(films, list(open_sources([FilmSource(folder="test")], tmp_path)))
    assert checked.excluded == 3
    assert names(checked.pool) == ["one-bit-off.png", "other.png", "transposed.png"]
    assert checked.unreadable == ()


def test_phantom_films_are_excluded_by_number_and_when_saved_as_files(tmp_path: Path) -> None:
    held_out = list(open_sources([FilmSource(phantom=PhantomFilms(start=3, count=4, size=64))], tmp_path))
    pool = open_sources([FilmSource(phantom=PhantomFilms(start=0, count=10, size=64))], tmp_path)
    checked = without(pool, held_out)
    assert [f.number for f in checked.pool] == [0, 1, 2, 7, 8, 9]
    assert checked.excluded == 4
    other = open_sources([FilmSource(phantom=PhantomFilms(start=0, count=10, size=64, shift=True))], tmp_path)
    assert without(other, held_out).excluded == 0
    (tmp_path / "saved").mkdir()
    for n in (2, 3):
        Image.fromarray(phantom_film(n, PhantomConfig(size=64)).image).save(tmp_path / "saved" / f"{n}.png")
    saved = open_sources([FilmSource(folder="saved")], tmp_path)
    assert names(without(saved, held_out).pool) == ["2.png"]


def test_films_that_cannot_be_opened_are_told_apart_from_those_that_are_excluded(tmp_path: Path) -> None:
    held_out, pool = write(tmp_path / "test", 1), write(tmp_path / "pool", 3)
    (pool / "1.png").write_bytes(b"no image")
    films = open_sources([FilmSource(folder="pool")], tmp_path)
    checked = without(films, list(open_sources([FilmSource(folder="test")], tmp_path)))
    assert (names(checked.pool), checked.excluded) == (["2.png"], 1)
    assert [Path(p.file).name for p in checked.unreadable] == ["1.png"]
    (held_out / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read"):
        without(films, list(open_sources([FilmSource(folder="test")], tmp_path)))


def test_a_pool_of_a_hundred_thousand_films_keeps_none_of_them(tmp_path: Path) -> None:
    pool = open_sources([FilmSource(phantom=PhantomFilms(count=100_000, size=256))], tmp_path)
    assert len(pool) == 100_000
    for n in (0, 1):
        pool[n].read()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(5, 100_000, 10_000):
        assert pool[n].read().shape == (256, 256)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept < 2 * 256 * 256, "ten films were read, and less than two of them are still there"


def test_the_hash_of_pixels_knows_shape_and_content() -> None:
    assert pixel_hash(film(0)) == pixel_hash(np.stack([film(0)] * 3, 2))
    assert pixel_hash(film(0)) != pixel_hash(film(0).reshape(24, 20))
    assert pixel_hash(film(0, (8, 8, 3))) != pixel_hash(film(1, (8, 8, 3)))


def test_a_pools_digest_changes_with_its_films_and_not_with_its_place(tmp_path: Path) -> None:
    write(tmp_path / "a" / "films")
    write(tmp_path / "b" / "films")
    one, other = (open_sources([FilmSource(folder="films")], tmp_path / k) for k in "ab")
    assert one.digest() == other.digest()
    (tmp_path / "b" / "films" / "3.png").unlink()
    assert open_sources([FilmSource(folder="films")], tmp_path / "b").digest() != one.digest()
