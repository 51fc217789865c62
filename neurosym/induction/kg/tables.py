"""Graphs in Parquet: a fact a row.

Its columns are ``subject``, ``relation``, ``object`` and, if facts are not certain, ``weight``, among any others; or
they are the three or four columns of the table in that order, whatever their names. Entities and relations are texts or
whole numbers. Rows are read in batches through pyarrow and counted from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neurosym.errors import InductionError, Problem, short_path
from neurosym.induction.kg.facts import Found, Triples, gather, weighted

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES: Final = ("subject", "relation", "object")
_WEIGHT: Final = "weight"


def read_parquet(file: str | Path, strict: bool = True) -> Triples:
    """Read a file.

    Args:
        strict: a row that is no fact (a field empty, a weight outside (0, 1]) is an error; else it is left out.

    Raises:
        InductionError: the file cannot be read, has other columns, no facts, or, if `strict`, other rows.
    """
    file = Path(file)
    return gather(short_path(file), _rows(file), strict, "the table has no rows")


def _rows(file: Path) -> Iterator[tuple[int, Found]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as table:
            columns = _columns(table.schema_arrow, short_path(file))
            for batch in table.iter_batches(columns=columns):
                fields = [batch.column(c).cast(pa.string()).to_pylist() for c in columns[:3]]
                certain = [1.0] * len(batch)
                weights = batch.column(columns[3]).cast(pa.float64()).to_pylist() if columns[3:] else certain
                for s, r, o, weight in zip(*fields, weights, strict=True):
                    number += 1
                    found = weighted((s or "", r or "", o or ""), weight) if weight is not None else "no weight"
                    yield number, found
    except pa.ArrowException as error:
        raise InductionError(f"{short_path(file)} cannot be read: {error}") from error


def _columns(schema: pa.Schema, file: str) -> list[str]:
    """The names of the columns that hold subject, relation, object and perhaps weight."""
    import pyarrow.types as kinds

    columns = list(schema.names)
    if columns.count(_WEIGHT) < 2 and all(columns.count(name) == 1 for name in _NAMES):
        columns = [*_NAMES, *([_WEIGHT] if _WEIGHT in columns else [])]
    elif len(columns) not in (3, 4) or len(set(columns)) < len(columns):
        shown = ", ".join(map(repr, columns)) or "none"
        cure = "expected subject, relation, object and perhaps weight, or three or four columns of other names"
        raise InductionError(Problem(f"the columns are {shown}", file, cure=cure))
    problems = []
    for place, name in enumerate(columns):
        kind = schema.field(name).type
        plain = kind.value_type if kinds.is_dictionary(kind) else kind
        if place < 3:
            is_text = kinds.is_string(plain) or kinds.is_large_string(plain) or kinds.is_string_view(plain)
            fits, expected = is_text or kinds.is_integer(plain), "texts or whole numbers"
        else:
            fits = kinds.is_floating(plain) or kinds.is_integer(plain) or kinds.is_decimal(plain)
            expected = "weights, which are numbers"
        if not fits:
            problems.append(Problem(f"column {name!r} holds {kind}, expected {expected}", file))
    if problems:
        raise InductionError(problems)
    return columns
