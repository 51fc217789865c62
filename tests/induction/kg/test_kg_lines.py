"""Blocks of lines, held against the reader of single lines; dictionary encoding and sorting, against Python's own."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.errors import InductionError
from neurosym.induction.kg import lines
from neurosym.induction.kg.coding import Coder
from neurosym.induction.kg.reading import read_graph, read_store, read_triples
from neurosym.induction.kg.row_tables import ordered_by
from neurosym.induction.kg.store import TripleStore

PIECES = [b"a", b"b", b"\xc3\xa4", b"\t", b"\t", b"\t", b"\n", b"\r", b" ", b"0.5", b"1", b"2", b"nan", b"1_0", b"\xff"]
FACT = st.sampled_from([b"a\tp\tb\n", b"b\tq\t\xc3\xa4\n", b"a\tp\tb\t0.5\n", b"a\tp\tb\t1\r\n", b"\n"])
FILES = st.lists(
    FACT | st.sampled_from(PIECES) | st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join), max_size=12
)


def told(read, *arguments) -> object:  # type: ignore[no-untyped-def]
    """A store as plain values, or the message of the error."""
    try:
        store = read(*arguments)
    except InductionError as error:
        return str(error)
    weight = None if store.weight is None else store.weight.tolist()
    return list(store.entities), list(store.relations), [column.tolist() for column in store.csr], weight


@given(FILES.map(b"".join), st.booleans(), st.sampled_from([3, 10, 1 << 24]))
@settings(max_examples=300)
def test_blocks_of_lines_hold_what_single_lines_hold_and_complain_of_the_same(
    content: bytes, strict: bool, block: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK", block)
        file = Path(folder) / "a.tsv"
        file.write_bytes(content)
        found = told(read_store, file, strict)
        assert found == told(lambda: read_triples(file, strict).store())


def test_lines_that_are_no_facts_are_told_with_their_numbers_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lines, "_BLOCK", 20)
    file = tmp_path / "a.tsv"
    file.write_text("a\tp\tb\n" * 10 + "a\tp\n" + "\n" + "a\tp\tb\tmaybe\n" + "x\n" * 5)
    with pytest.raises(InductionError) as error:
        read_store(file)
    problems = str(error.value).split("\n")
    assert ":11: found 2 fields between tabs" in problems[0]
    assert ":13: the weight 'maybe' is no number" in problems[1]
    assert problems[5] == "… and 2 more such lines"
    with caplog.at_level(logging.WARNING):
        assert len(read_store(file, strict=False)) == 1
    assert "7 lines are no facts and were left out, the first is line 11" in caplog.text


@pytest.mark.parametrize("name", ["a.tsv", "a.txt.gz"])
def test_more_names_than_a_first_table_holds_are_numbered_in_the_order_of_their_bytes(
    tmp_path: Path, name: str
) -> None:
    rng = np.random.default_rng(0)
    facts = {(f"Q{a}", f"P{r}", f"Q{b}") for a, r, b in rng.integers([10**6, 9, 10**6], size=(20000, 3)).tolist()}
    text = "".join("\t".join(fact) + "\n" for fact in sorted(facts)).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    store = read_store(tmp_path / name)
    assert list(store.entities) == sorted({e for s, _, o in facts for e in (s, o)})
    entities, relations = list(store.entities), list(store.relations)
    columns = zip(*(column.tolist() for column in store.columns()), strict=True)
    assert {(entities[s], relations[r], entities[o]) for s, r, o in columns} == facts


def test_the_folder_of_a_store_is_mapped_and_other_files_are_read_as_graphs(tmp_path: Path) -> None:
    store = TripleStore.of([("a", "p", "b"), ("b", "q", "c")])
    store.write(tmp_path / "store")
    assert isinstance(read_store(tmp_path / "store").csr.target, np.memmap)
    (tmp_path / "a.nt").write_text("<http://e.org/a> <http://e.org/p> <http://e.org/b> .\n")
    assert told(read_store, tmp_path / "a.nt") == told(lambda: read_graph(tmp_path / "a.nt").store())
    with pytest.raises(InductionError, match="no graph is read from files"):
        read_store(tmp_path / "a.csv")


NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.just("\0"), min_size=1)


LONG = st.text("ab\0", min_size=7, max_size=20)
ALIKE = st.builds(lambda n, c: "a" * n + c + "b" * 9, st.integers(0, 20), st.sampled_from("abc"))


@given(st.lists(NAMES) | st.lists(LONG) | st.lists(ALIKE) | st.lists(NAMES.map("http://example.org/resource/".__add__)))
def test_names_get_numbers_when_first_seen_and_places_by_their_bytes(names: list[str]) -> None:
    coder, coded = Coder(), [name.encode() for name in names]
    bounds = np.cumsum([0, *map(len, coded)])
    text = np.frombuffer(b"".join(coded), dtype=np.uint8)
    numbers = coder.numbers(text, bounds[:-1], bounds[1:]).tolist()
    assert numbers == [list(dict.fromkeys(names)).index(name) for name in names]
    found, place = coder.sorted()
    assert list(found) == sorted(set(names), key=str.encode)
    assert [found[int(place[n])] for n in numbers] == names


@given(st.lists(st.integers(0, 9)))
def test_an_order_by_small_numbers_says_where_each_begins(numbers: list[int]) -> None:
    start, order = ordered_by(np.array(numbers, dtype=np.int32), 10)
    for value in range(10):
        assert order[start[value] : start[value + 1]].tolist() == [i for i, v in enumerate(numbers) if v == value]
