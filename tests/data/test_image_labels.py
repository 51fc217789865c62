"""Tables of films that are labelled as a whole, and splits that keep patients together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurosym.data.image_labels import load_image_labels, patient_of, split_by_patient
from neurosym.data.images import ImageEntry
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge


def write(tmp_path: Path, rows: list[str], header: str = "file_name,finding,who") -> Path:
    for row in rows:
        path = tmp_path / row.split(",")[0]
        if path.suffix == ".png":
            Image.fromarray(np.full((6, 8), 9, dtype=np.uint8)).save(path)
    table = tmp_path / "labels.csv"
    table.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return table


def test_a_row_is_a_film_with_the_labels_that_the_ontology_ties_to_its_columns(
    tmp_path: Path, thorax: Knowledge
) -> None:
    table = write(tmp_path, ["a.png,viral_pneumonia,p1", "b.png,normal,p2", "c.png,unheard of,p2"])
    films = load_image_labels(table, tmp_path, thorax)
    assert [sorted(e.labels) for e in films.entries] == [["viral_pneumonia_study"], ["no_finding_study"], []]
    assert films.names == ("no_finding_study", "viral_pneumonia_study")
    assert films.entries[0].attributes["who"] == "p1"
    assert films[0].image.shape == (6, 8)


def test_all_that_is_wrong_with_a_table_is_told_at_once_with_its_lines(tmp_path: Path, thorax: Knowledge) -> None:
    table = write(tmp_path, ["a.png,normal,p", "b.jpg,normal,p", "a.png,normal,p", "../c.jpg,normal,p"])
    with pytest.raises(DataError) as caught:
        load_image_labels(table, tmp_path, thorax)
    assert [p.line for p in caught.value.problems] == [3, 4, 5]
    assert "image 'b.jpg' is not in" in str(caught.value)
    assert "two images have the id 'a'" in str(caught.value)
    assert "leaves the image folder" in str(caught.value)


def test_a_missing_column_file_or_label_is_explained(tmp_path: Path, thorax: Knowledge) -> None:
    table = write(tmp_path, ["a.png,normal,p"])
    with pytest.raises(DataError, match="no column 'file'; did you mean 'file_name'"):
        load_image_labels(table, tmp_path, thorax, "file")
    with pytest.raises(DataError, match="table of image labels not found"):
        load_image_labels(tmp_path / "none.csv", tmp_path, thorax)
    with pytest.raises(DataError, match="no film has a label that the ontology knows; add ns:studyLabel"):
        load_image_labels(write(tmp_path, ["a.png,x,p"]), tmp_path, thorax)
    (tmp_path / "d.png").write_text("no image")
    table.write_text("file_name,finding\nd.png,normal\n")
    with pytest.raises(DataError, match=r"labels\.csv:2: image 'd\.png' cannot be read"):
        load_image_labels(table, tmp_path, thorax)


def entries(count: int) -> list[ImageEntry]:
    return [
        ImageEntry(f"i{n}", Path("x"), 1, 1, attributes={"name": f"person{n % 400}_virus_{n}.jpg"})
        for n in range(count)
    ]


def test_no_patient_is_in_two_parts_and_parts_have_about_their_shares() -> None:
    films = entries(1200)
    parts = split_by_patient(films, "name", r"person\d+", (0.25, 0.15))
    assert sorted(i for p in parts for i in p) == list(range(1200))
    patients = [{patient_of(films[i], "name", r"person\d+") for i in p} for p in parts]
    assert not patients[0] & patients[1]
    assert not (patients[0] | patients[1]) & patients[2]
    assert [len(p) / 400 for p in patients] == pytest.approx([0.25, 0.15, 0.6], abs=0.06)


def test_a_patients_part_does_not_change_when_films_are_added() -> None:
    few, many = entries(50), entries(1200)
    of_few, of_many = (split_by_patient(f, "name", r"person\d+", (0.25, 0.15)) for f in (few, many))
    assert all(set(a) == {i for i in b if i < 50} for a, b in zip(of_few, of_many, strict=True))


def test_a_film_whose_name_does_not_tell_its_patient_is_one_by_itself() -> None:
    entry = ImageEntry("i", Path("x"), 1, 1, attributes={"name": "scan.jpg"})
    assert patient_of(entry, "name", r"person\d+") == "scan.jpg"
    assert patient_of(entry, "name") == "scan.jpg"
    with pytest.raises(DataError, match="film 'i' has no 'nam' to tell its patient by; did you mean 'name'"):
        split_by_patient([entry], "nam", "", (0.5,))
