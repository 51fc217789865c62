"""Shards that are damaged, or a stranger's: a film stops the run or is set aside, no name leads elsewhere, nothing is run."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurosym.data.coco import load_coco
from neurosym.data.degrade import DegradedSamples, degradation
from neurosym.data.shard_films import coco_films
from neurosym.data.shard_index import FILM, DamagedFilm
from neurosym.data.shard_pack import pack
from neurosym.data.shards import open_shards
from neurosym.data.unread import unread
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge
from tests.data.shard_films import FILMS, Folder, contents, same


def rows(out: Path) -> np.ndarray:
    return np.array(np.load(out / "films.npy"))


def overwrite(out: Path, n: int, by: int, content: bytes, record: bool = False) -> None:
    """Change a film's shard at so many bytes from the start of its image's member, or of its record's."""
    row = rows(out)[n]
    place = int(row["offset"]) + (512 + -(-int(row["image"]) // 512) * 512) * record
    with (out / f"shard-{row['shard']:05d}.tar").open("r+b") as file:
        file.seek(place + by)
        file.write(content)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.USTAR_FORMAT)


def in_place(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Path], None]:
    return lambda out: overwrite(out, 2, 0, header(name, int(rows(out)[2]["image"]), kind, link))


def truncate(out: Path) -> None:
    row = rows(out)[2]
    os.truncate(out / f"shard-{row['shard']:05d}.tar", int(row["offset"]) + 600)


def rewrite_row(**values: int) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        found = rows(out)
        for name, value in values.items():
            found[2][name] = value
        np.save(out / "films.npy", found)

    return change


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, r"the shard ends at byte \d+, before the film does"),
    "a byte of the image": (
        lambda o: overwrite(o, 2, 700, b"?"),
        r"member '000000002.png' is not what was packed \(SHA",
    ),
    "a byte of the record": (
        lambda o: overwrite(o, 2, 520, b"?", True),
        "member '000000002.json' is not what was packed",
    ),
    "no header": (lambda o: overwrite(o, 2, 0, b"\0" * 512), "no member of a tar at byte"),
    "a path upwards": (
        in_place("../../../tmp/000000002.png"),
        "member '../../../tmp/000000002.png' is not one of film",
    ),
    "a whole path": (in_place("/etc/000000002.png"), "is not one of film 000000002"),
    "a path behind": (in_place("000000002/../../x.png"), "is not one of film 000000002"),
    "another film": (in_place("000000003.png"), "member '000000003.png' is not one of film 000000002"),
    "a symbolic link": (in_place("000000002.png", tarfile.SYMTYPE, "/etc/passwd"), "is no plain file"),
    "a hard link": (in_place("000000002.png", tarfile.LNKTYPE, "/etc/passwd"), "is no plain file"),
    "a device": (in_place("000000002.png", tarfile.CHRTYPE), "is no plain file"),
    "a pipe": (in_place("000000002.png", tarfile.FIFOTYPE), "is no plain file"),
    "a folder": (in_place("000000002.png/", tarfile.DIRTYPE), "is no plain file"),
    "a row of no shard": (rewrite_row(shard=2**32 - 1), "shard-4294967295.tar: .*No such file"),
    "a row beyond the shard": (rewrite_row(offset=2**63), "before the film does"),
    "a row of endless length": (rewrite_row(image=2**62), "before the film does"),
}


@pytest.mark.parametrize("what", sorted(DAMAGES))
def test_a_damaged_film_stops_the_run_or_is_set_aside_and_all_others_stay_in_their_places(
    what: str, rich_files: tuple[Path, Path], packed: Path, thorax: Knowledge, caplog: pytest.LogCaptureFixture
) -> None:
    change, message = DAMAGES[what]
    change(packed)
    wanted, strict = load_coco(*rich_files, thorax), open_shards(packed, thorax)
    with pytest.raises(DamagedFilm, match=message) as error:
        strict[2]
    assert "film 'phantom-000002'" in str(error.value)
    lenient = open_shards(packed, thorax, on_unreadable="skip")
    found = [lenient[i] for i in range(FILMS)]
    gone = set(lenient.skipped)
    same([found[i] for i in range(FILMS) if i not in gone], [wanted[i] for i in range(FILMS) if i not in gone])
    shown = {found[i].image_id for i in gone}
    assert 2 in gone
    assert not shown & {f"phantom-{i:06d}" for i in gone}
    assert len(gone) == 1 or what == "truncated"
    assert caplog.text.count("skipped: ") == len(gone)
    again = open_shards(packed, thorax, on_unreadable="skip")  # a resumed run, which meets the films in another order
    assert [again[i].image_id for i in reversed(range(FILMS))] == [s.image_id for s in reversed(found)]


def test_a_film_in_the_place_of_a_damaged_one_has_its_own_annotations_also_where_records_were_read_before(
    packed: Path, thorax: Knowledge
) -> None:
    overwrite(packed, 2, 700, b"?")  # the image alone: the record can be read
    noise = degradation("uniform", 0.3, 1)
    films = open_shards(packed, thorax, on_unreadable="skip")
    degraded = DegradedSamples(films, noise, films.names)
    seen_before = unread(degraded)
    assert seen_before[2].image_id == "phantom-000002"
    shown = degraded[2]
    assert shown.image_id != "phantom-000002"
    own = DegradedSamples([films[2]], noise, films.names)
    assert shown.annotations == own[0].annotations
    assert (degraded.truth(2), degraded.reverted(2)) == (own.truth(0), own.reverted(0))
    for records in (seen_before, unread(degraded), unread(films)):
        assert records[2].image_id == shown.image_id
    assert seen_before[2].annotations == shown.annotations


def test_a_missing_shard_is_told_at_the_start_and_its_places_go_to_different_films(
    rich_files: tuple[Path, Path], packed: Path, thorax: Knowledge, caplog: pytest.LogCaptureFixture
) -> None:
    (packed / "shard-00000.tar").unlink()
    with pytest.raises(DataError, match=r"shard-00000.tar: the shard is missing; copy it there again"):
        open_shards(packed, thorax)
    lenient = open_shards(packed, thorax, on_unreadable="skip")
    assert "the shard is missing" in caplog.text
    lost = [n for n in range(FILMS) if rows(packed)[n]["shard"] == 0]
    assert len({lenient[n].image_id for n in lost}) > 1
    assert sorted(lenient.skipped) == lost
    for shard in packed.glob("*.tar"):
        os.truncate(shard, 0)
    with pytest.raises(DataError, match=f"none of {FILMS} films can be read"):
        lenient[0]


def test_an_image_that_was_broken_when_it_was_packed_is_set_aside_when_it_is_read(
    coco_folder: Folder, thorax: Knowledge, tmp_path: Path
) -> None:
    files = coco_folder(3)
    whole = (files[1] / "phantom-000001.png").read_bytes()
    (files[1] / "phantom-000001.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(files[1] / "phantom-000002.png")
    pack(coco_films(*files), tmp_path / "out")
    lenient = open_shards(tmp_path / "out", thorax, on_unreadable="skip")
    assert [lenient[i].image_id for i in range(3)] == ["phantom-000000"] * 3
    first, second = (str(lenient.skipped[n]) for n in (1, 2))
    assert "image cannot be read" in first
    assert "image is 9×9 pixels; its annotation says 128×128" in second


def test_a_wrong_word_in_a_record_stops_the_run_for_it_is_no_damage(
    coco_folder: Folder, thorax: Knowledge, tmp_path: Path
) -> None:
    def spoil(data: dict) -> None:
        data["images"][0]["supervision"] = {"present": ["opacty"]}

    pack(coco_films(*coco_folder(2, spoil)), tmp_path / "out")
    lenient = open_shards(tmp_path / "out", thorax, on_unreadable="skip")
    with pytest.raises(DataError, match=r"unknown class 'opacty'; did you mean 'opacity'"):
        lenient[0]
    assert not lenient.skipped


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.where),)

    def __init__(self, where: Path) -> None:
        self.where = where


def test_an_index_of_a_stranger_runs_nothing_and_is_refused(packed: Path, thorax: Knowledge, tmp_path: Path) -> None:
    whole = contents(packed)
    for name, content, message in [
        ("films.npy", _pickled(Bomb(tmp_path / "ran")), "the index cannot be read"),
        ("films.npy", whole["films.npy"][:-50], "the index cannot be read"),
        ("films.npy", _saved(np.zeros(FILMS)), "films.npy and shards.json do not belong together"),
        ("films.npy", _saved(np.zeros(3, FILM)), "films.npy and shards.json do not belong together"),
        ("ids.bin", whole["ids.bin"] + b"x", "films.npy and shards.json do not belong together"),
        ("shards.json", whole["shards.json"].replace(b'"shards": ', b'"shards": 9999999'), "do not belong together"),
        ("shards.json", b"{}", "shards.json: not a file of `neurosym data shards`: films: Field required"),
        ("shards.json", whole["shards.json"].replace(b'"films"', b'"fims"'), "fims: Extra inputs are not permitted"),
    ]:
        (packed / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            open_shards(packed, thorax)
        (packed / name).write_bytes(whole[name])
    assert not (tmp_path / "ran").exists()
    assert len(open_shards(packed, thorax)) == FILMS
    with pytest.raises(DataError, match="folder of shards not found; write it with"):
        open_shards(tmp_path / "nowhere", thorax)


def _pickled(value: object) -> bytes:
    return _saved(np.array([value], dtype=object))


def _saved(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_an_index_whose_header_was_cut_off_is_refused(packed: Path, thorax: Knowledge) -> None:
    content = bytearray((packed / "films.npy").read_bytes())
    content[content.index(b"}")] = ord("(")
    (packed / "films.npy").write_bytes(content)
    with pytest.raises(DataError, match="the index cannot be read .*; pack the films anew"):
        open_shards(packed, thorax)
