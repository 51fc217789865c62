from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurosym.data.film_files import Film, film_files, read_film_file
from neurosym.errors import DataError

pydicom = pytest.importorskip("pydicom")

from tests.data.dicom_files import stored, write_dicom  # noqa: E402

STORAGE = "1.2.840.10008.5.1.4.1.1."
NO_FILMS = {
    "report": STORAGE + "88.33",
    "segmentation": STORAGE + "66.4",
    "presentation": STORAGE + "11.1",
    "key-objects": STORAGE + "88.59",
    "document": STORAGE + "104.1",
    "plan": STORAGE + "481.5",
}
FILMS = {"radiograph": STORAGE + "1", "capture": STORAGE + "7", "mammogram": STORAGE + "1.2", "beam": STORAGE + "481.1"}


def mixed(folder: Path) -> Path:
    """A folder as an export leaves it."""
    write_dicom(folder / "a/IM0001", stored(shape=(37, 29)))
    write_dicom(folder / "a/film.dcm", stored(1, (37, 29)))
    Image.fromarray(np.full((8, 6), 7, np.uint8)).save(folder / "b.PNG", "PNG")
    (folder / "notes.txt").write_text("no film")
    (folder / ".DS_Store").write_bytes(b"\0" * 200)
    (folder / "broken.dcm").write_bytes(b"short")
    return folder


def read(files: list) -> list[Film]:
    return [film for file in files if file.path.name != "broken.dcm" and (film := read_film_file(file)) is not None]


def test_a_folder_gives_dicom_by_its_content_and_pictures_by_their_suffix(tmp_path: Path) -> None:
    files, passed_over = film_files([mixed(tmp_path)])
    assert [(f.name, f.is_dicom) for f in files] == [
        ("a/IM0001", True),
        ("a/film.dcm", True),
        ("b.PNG", False),
        ("broken.dcm", True),
    ]
    assert passed_over == 1


def test_a_film_is_known_by_its_uid_or_by_the_bytes_of_its_file(tmp_path: Path) -> None:
    films = read(film_files([mixed(tmp_path)])[0])
    assert films[0].identity == pydicom.dcmread(tmp_path / "a/IM0001").SOPInstanceUID
    assert films[2].identity == hashlib.sha256((tmp_path / "b.PNG").read_bytes()).hexdigest()
    assert [(f.image.shape, f.image.dtype.name) for f in films] == [((37, 29), "uint8")] * 2 + [((8, 6), "uint8")]
    assert films[2].header is None


def test_a_file_that_is_named_twice_is_one_film(tmp_path: Path) -> None:
    mixed(tmp_path)
    files, _ = film_files([tmp_path / "a/film.dcm", tmp_path / "a", tmp_path])
    assert sorted(f.path.name for f in files) == ["IM0001", "b.PNG", "broken.dcm", "film.dcm"]


@pytest.mark.parametrize("kind", NO_FILMS)
def test_dicom_that_is_no_film_is_passed_over_in_a_folder_and_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = write_dicom(tmp_path / "x.dcm", stored(), SOPClassUID=NO_FILMS[kind])
    assert read(film_files([tmp_path])[0]) == []
    with pytest.raises(DataError, match=r"x\.dcm: \(0008,0016\) SOPClassUID is '.*'; expected an image"):
        read(film_files([path])[0])


@pytest.mark.parametrize("kind", FILMS)
def test_images_of_every_kind_are_films(tmp_path: Path, kind: str) -> None:
    write_dicom(tmp_path / "x.dcm", stored(), SOPClassUID=FILMS[kind])
    assert len(read(film_files([tmp_path])[0])) == 1


def test_a_film_without_an_instance_uid_cannot_be_told_from_others(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", stored())
    film = pydicom.dcmread(path)
    del film.SOPInstanceUID
    film.save_as(path)
    with pytest.raises(DataError, match=r"no \(0008,0018\) SOPInstanceUID; it tells a film from others"):
        read(film_files([path])[0])


def test_every_path_that_is_not_there_is_told_and_a_folder_without_films_too(tmp_path: Path) -> None:
    with pytest.raises(DataError) as told:
        film_files([tmp_path / "a", tmp_path / "b"])
    assert [str(p) for p in told.value.problems] == [f"{tmp_path / n}: no such file or folder" for n in "ab"]
    (tmp_path / "notes.txt").write_text("no film")
    with pytest.raises(DataError, match=r"no film in it; expected \.png"):
        film_files([tmp_path])


def test_a_picture_of_several_pages_is_refused_and_not_read_as_its_first(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 6), value, np.uint8)) for value in (7, 9, 11)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")
    one, stack = film_files([tmp_path])[0]
    assert len(read([one])) == 1
    with pytest.raises(DataError, match=r"stack\.tif: image has 3 pages; split it into single images"):
        read_film_file(stack)


def test_a_tiff_whose_header_places_its_pixels_at_a_fraction_is_a_damaged_image(tmp_path: Path) -> None:
    file = tmp_path / "film.tif"
    Image.fromarray(np.full((8, 6), 7, np.uint8)).save(file)
    whole = file.read_bytes()
    where = struct.pack("<HH", 273, 4)  # StripOffsets, a whole number of 32 bits
    assert whole.count(where) == 1
    file.write_bytes(whole.replace(where, struct.pack("<HH", 273, 11)))  # a floating-point number
    with pytest.raises(DataError, match=r"film\.tif: image cannot be read \('float' object"):
        read_film_file(film_files([tmp_path])[0][0])
