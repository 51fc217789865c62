import gzip
import logging
from pathlib import Path

import pytest

from neurosym.errors import InductionError
from neurosym.induction.kg.reading import read_graph, read_splits, read_triples
from neurosym.induction.kg.store import TripleStore

GOOD = "the heart\tpart of\tthe chest\nlung\tpart of\tthe chest\t0.5\n"


def test_a_graph_is_read_from_text_and_from_packed_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(GOOD)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(GOOD.encode()))
    found = read_triples(tmp_path / "a.txt")
    assert found == read_triples(tmp_path / "a.txt.gz")
    assert found.facts == [("the heart", "part of", "the chest"), ("lung", "part of", "the chest")]
    assert found.weights == [1.0, 0.5]
    assert len(found.store()) == 2


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    marked = GOOD.encode("utf-8-sig")
    (tmp_path / "a.txt").write_bytes(marked)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(marked))
    for name in ("a.txt", "a.txt.gz"):
        assert read_triples(tmp_path / name).facts[0] == ("the heart", "part of", "the chest")


def test_lines_that_are_no_facts_are_told_with_their_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a\tp\n" + GOOD + "a\t\tb\na\tp\tb\tmaybe\na\tp\tb\t2\n" + "x\n" * 3)
    with pytest.raises(InductionError) as error:
        read_triples(file)
    told = str(error.value)
    assert ":1: found 2 fields between tabs" in told
    assert ":4: a field is empty" in told
    assert ":5: the weight 'maybe' is no number" in told
    assert ":6: the weight 2 is not in (0, 1]" in told
    assert "… and 2 more such lines" in told


def test_lines_that_are_no_facts_can_be_left_out_and_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_text(GOOD + "nonsense\n")
    with caplog.at_level(logging.WARNING):
        found = read_triples(tmp_path / "a.txt", strict=False)
    assert (len(found.facts), found.left_out) == (2, 1)
    assert "1 lines are no facts and were left out, the first is line 3" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\t\xff\tb\n"])
def test_a_file_without_facts_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InductionError, match=r"a\.txt (has no facts|cannot be read)"):
        read_triples(tmp_path / "a.txt")


def test_a_truncated_packed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(GOOD.encode() * 100)[:40])
    with pytest.raises(InductionError, match="cannot be read"):
        read_triples(tmp_path / "a.gz")


def test_splits_share_their_numbers_and_what_is_known_holds_them_all(tmp_path: Path) -> None:
    for name, text in {"train": "a\tp\tb\n", "valid": "b\tq\tc\n", "test": "c\tp\ta\n"}.items():
        (tmp_path / name).write_text(text)
    found = read_splits(*(tmp_path / name for name in ("train", "valid", "test")))
    assert list(found.train.entities) == ["a", "b", "c"]
    assert [int(c[0]) for c in found.test] == [2, 0, 0]
    assert (len(found.train), len(found.known)) == (1, 3)
    assert found.known.objects("c", "p") == ["a"]


def test_splits_may_be_of_any_form_that_graphs_are_read_from(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a\tp\tb\nb\tp\tc\n")
    (tmp_path / "valid.nt").write_text("<http://x.org/a> <http://x.org/p> <http://x.org/c> .\n")
    read_triples(tmp_path / "train").store().write(tmp_path / "test")
    found = read_splits(tmp_path / "train", tmp_path / "valid.nt", tmp_path / "test")
    names = [found.train.entities[int(n)] for n in (found.valid[0][0], found.valid[2][0])]
    assert (names, len(found.test[0]), len(found.known)) == (["a", "c"], 2, 3)


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.TSV", "a.tsv.gz", "a.txt.gz"])
def test_a_graph_between_tabs_is_known_by_its_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(GOOD.encode()) if name.endswith(".gz") else GOOD.encode())
    assert read_graph(tmp_path / name) == read_triples(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a", "a.gz", "a.csv.gz", "a.parquet.gz"])
def test_an_unknown_suffix_is_refused_and_the_known_ones_are_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(GOOD)
    with pytest.raises(InductionError) as error:
        read_graph(tmp_path / name)
    assert name in str(error.value)
    assert "known: .tsv, .txt, .nt, .ttl, each also with .gz, .parquet, and a folder" in str(error.value)


@pytest.mark.parametrize("name", ["a.tsv", "a.nt", "a.ttl.gz", "a.parquet"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InductionError, match="cannot be read"):
        read_graph(tmp_path / name)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 1.0, 0.25]])
def test_the_folder_of_a_store_gives_the_facts_back(tmp_path: Path, weights: list[float]) -> None:
    facts = [("b", "p", "a"), ("a", "p", "b"), ("a", "q", "ü")]
    TripleStore.of(facts, weights).write(tmp_path / "store")
    found = read_graph(tmp_path / "store")
    assert dict(zip(found.facts, found.weights, strict=True)) == dict(zip(facts, weights, strict=True))


def test_a_folder_that_holds_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InductionError, match="is no store of facts"):
        read_graph(tmp_path)


def test_a_packed_file_that_is_damaged_within_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(GOOD.encode() * 100))
    packed[12:30] = b"\xff" * 18
    (tmp_path / "a.tsv.gz").write_bytes(packed)
    with pytest.raises(InductionError, match="cannot be read"):
        read_graph(tmp_path / "a.tsv.gz")
