from __future__ import annotations

import logging
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.errors import InductionError
from neurosym.induction.kg.reading import read_graph
from neurosym.induction.kg.tables import read_parquet

FACTS = {"subject": ["heart", "lung"], "relation": ["in", "in"], "object": ["chest", "thorax"]}
WEIGHTS = [1.0, 0.5]


def written(folder: Path, columns: dict[str, Any]) -> Path:
    file = folder / "a.parquet"
    pq.write_table(pa.table(columns), file)
    return file


@pytest.mark.parametrize(
    "order", [["object", "note", "weight", "subject", "relation"], ["weight", "object", "relation", "subject"]]
)
def test_columns_are_known_by_their_names_in_any_order(tmp_path: Path, order: list[str]) -> None:
    columns = FACTS | {"weight": WEIGHTS, "note": [1, None]}
    found = read_graph(written(tmp_path, {name: columns[name] for name in order}))
    assert found.facts == [("heart", "in", "chest"), ("lung", "in", "thorax")]
    assert (found.weights, found.left_out) == (WEIGHTS, 0)


def test_columns_of_other_names_are_known_by_their_places(tmp_path: Path) -> None:
    three = dict(zip(["head.id", "rel", "tail.id"], FACTS.values(), strict=True))
    assert read_graph(written(tmp_path, three)).weights == [1.0, 1.0]
    assert read_graph(written(tmp_path, three | {"sure": WEIGHTS})).weights == WEIGHTS
    assert read_graph(tmp_path / "a.parquet").facts == [("heart", "in", "chest"), ("lung", "in", "thorax")]


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.int64(), pa.uint8()],
)
def test_entities_may_be_texts_of_any_make_or_whole_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    numbers = pa.array([1, 2]) if pa.types.is_integer(kind) else pa.array(["1", "2"])
    found = read_graph(written(tmp_path, {"s": numbers.cast(kind), "p": ["p", "p"], "o": ["a", "b"]}))
    assert found.facts == [("1", "p", "a"), ("2", "p", "b")]


@pytest.mark.parametrize("weights", [[1, 1], pa.array([1.0, 1.0], pa.float16()), [Decimal("1.0"), Decimal("1.0")]])
def test_weights_may_be_numbers_of_any_make(tmp_path: Path, weights: Any) -> None:
    assert read_graph(written(tmp_path, FACTS | {"weight": weights})).weights == [1.0, 1.0]


def test_rows_that_are_no_facts_are_told_with_their_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    subject = ["a", None, "", "a", "a", "a", "a", "a"]
    weight = [1.0, 1.0, 1.0, float("nan"), None, 0.0, 2.0, float("inf")]
    file = written(tmp_path, {"subject": subject, "relation": ["p"] * 8, "object": ["b"] * 8, "weight": weight})
    with pytest.raises(InductionError) as error:
        read_graph(file)
    told = str(error.value).split("\n")
    assert ":2: a field is empty: '', 'p', 'b'" in told[0]
    assert ":3: a field is empty" in told[1]
    assert ":4: the weight nan is not in (0, 1]" in told[2]
    assert ":5: no weight" in told[3]
    assert ":6: the weight 0 is not in (0, 1]" in told[4]
    assert told[5] == "… and 2 more such lines"
    with caplog.at_level(logging.WARNING):
        found = read_graph(file, strict=False)
    assert (found.facts, found.left_out) == ([("a", "p", "b")], 7)
    assert "7 lines are no facts and were left out, the first is line 2" in caplog.text


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"a": ["x"], "b": ["x"]}, "the columns are 'a', 'b'; expected subject, relation, object and perhaps weight"),
        ({c: ["x"] for c in "abcde"}, "the columns are 'a', 'b', 'c', 'd', 'e'"),
        ({"a": [0.5], "b": ["x"], "c": [["x"]]}, "column 'a' holds double, expected texts or whole numbers"),
        ({"a": [0.5], "b": ["x"], "c": [["x"]]}, "column 'c' holds list<"),
        ({"a": ["x"], "b": ["x"], "c": ["x"], "d": ["x"]}, "column 'd' holds string, expected weights"),
        ({"a": ["x"], "b": ["x"], "c": [None]}, "column 'c' holds null"),
        (FACTS | {"weight": [True, True]}, "column 'weight' holds bool"),
    ],
)
def test_a_table_of_other_columns_is_refused(tmp_path: Path, columns: dict[str, Any], told: str) -> None:
    with pytest.raises(InductionError) as error:
        read_graph(written(tmp_path, columns))
    assert told in str(error.value)
    assert "a.parquet" in str(error.value)


@pytest.mark.parametrize("names", [["a", "b", "a"], [*FACTS, "object"], [*FACTS, "weight", "weight"]])
def test_columns_of_one_name_are_refused(tmp_path: Path, names: list[str]) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["x"])] * len(names), names=names), tmp_path / "a.parquet")
    with pytest.raises(InductionError, match=f"the columns are {', '.join(map(repr, names))}"):
        read_graph(tmp_path / "a.parquet")


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InductionError, match="has no facts: the table has no rows"):
        read_graph(written(tmp_path, {c: pa.array([], pa.string()) for c in FACTS}))


@pytest.mark.parametrize("content", [b"", b"subject\trelation\tobject\n", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(InductionError, match=r"a\.parquet cannot be read"):
        read_graph(tmp_path / "a.parquet")


def test_a_file_that_is_damaged_within_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path, {"s": [f"{i:x}" for i in range(5000)], "p": ["p"] * 5000, "o": ["o"] * 5000}).read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:100] + b"\xff" * 2000 + whole[2100:])
    with pytest.raises(InductionError, match=r"a\.parquet cannot be read"):
        read_graph(tmp_path / "a.parquet")


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
ROWS = st.tuples(NAMES, NAMES, NAMES, st.floats(0, 1, exclude_min=True))


@given(st.lists(ROWS, min_size=1))
def test_whatever_names_are_written_are_read_again(rows: list[tuple[str, str, str, float]]) -> None:
    with TemporaryDirectory() as folder:
        columns = zip(*rows, strict=True)
        found = read_parquet(written(Path(folder), dict(zip((*FACTS, "weight"), map(list, columns), strict=True))))
    assert found.facts == [row[:3] for row in rows]
    assert found.weights == [row[3] for row in rows]
