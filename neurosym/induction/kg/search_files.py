"""A search on disk, so that one that was stopped, or killed, goes on: a folder of two files in NumPy's format, no pickles.

    base.npz     the rules that were found at once, and of what facts and settings: written once
    search.npz   the rules that evolved, the islands' states, what they were sent: written anew as the search goes on

Each is written beside its place and then renamed. Bodies are rows of numbers, one after another, with the place where each
begins.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import InductionError
from neurosym.induction.kg.bodies import Body, Literal
from neurosym.induction.kg.evolution import Search
from neurosym.induction.kg.island import IslandState, Kept, Niche
from neurosym.induction.kg.rules import ConstantRules, PathRules, RuleColumns
from neurosym.induction.kg.store import TripleStore

Arrays = dict[str, NDArray[Any]]
BASE: Final = "base.npz"
SEARCH: Final = "search.npz"


def write_base(folder: Path, store: TripleStore, settings: Mapping[str, Any], base: RuleColumns) -> None:
    """Begin a folder with the paths and constants of a search; an older search in it is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SEARCH).unlink(missing_ok=True)
    arrays = {f"path_{k}": v for k, v in base.paths._asdict().items()}
    arrays |= {f"constant_{k}": v for k, v in base.constants._asdict().items()}
    _write(folder / BASE, arrays, {"settings": dict(settings), "facts": digest(store)})


def write_search(folder: Path, search: Search) -> None:
    """Write down where a search is."""
    arrays = _rules("found", search.rules)
    header: dict[str, Any] = {"generation": search.generation, "islands": []}
    for i, (state, sent) in enumerate(zip(search.islands, search.sent, strict=True)):
        directions = sorted(state.niches)
        niches = [state.niches[d] for d in directions]
        arrays |= _rules(f"sent{i}", sent) | _bodies(f"seen{i}", sorted(state.seen))
        arrays |= _rules(f"parents{i}", [rule for niche in niches for rule in niche.parents])
        arrays[f"niche{i}"] = np.array([[d, len(n.parents)] for d, n in zip(directions, niches, strict=True)], np.int64)
        arrays[f"niche_worth{i}"] = np.array([niche.worth for niche in niches])
        refined = [
            (body, head, d) for d, niche in zip(directions, niches, strict=True) for body, head in sorted(niche.refined)
        ]
        arrays |= _bodies(f"refined{i}", [body for body, _, _ in refined])
        arrays[f"refined_at{i}"] = np.array([(head, d) for _, head, d in refined], np.int64).reshape(-1, 2)
        header["islands"].append({"chances": state.chances, "worth": state.worth})
    _write(folder / SEARCH, arrays, header)


def read_base(folder: Path, store: TripleStore, settings: Mapping[str, Any]) -> RuleColumns:
    """The rules that a search began with.

    Raises:
        InductionError: there are none, they cannot be read, or they are of other facts or settings.
    """
    if not (folder / BASE).exists():
        raise InductionError(f"{folder} holds no search to go on with: {BASE} is missing")
    arrays, header = _read(folder / BASE)
    if header["facts"] != digest(store):
        raise InductionError(f"{folder} is a search over other facts: begin a new one in another folder")
    was = header["settings"]
    other = [f"{k} was {was.get(k)} and is {v}" for k, v in json.loads(json.dumps(settings)).items() if was.get(k) != v]
    if other:
        raise InductionError(f"{folder} is a search with other settings ({'; '.join(other)}): begin a new one")
    paths = PathRules(*(arrays[f"path_{k}"] for k in PathRules._fields))
    return RuleColumns(paths, ConstantRules(*(arrays[f"constant_{k}"] for k in ConstantRules._fields)))


def read_search(folder: Path) -> Search | None:
    """Where a search is; None if nothing has evolved yet.

    Raises:
        InductionError: the file cannot be read.
    """
    if not (folder / SEARCH).exists():
        return None
    arrays, header = _read(folder / SEARCH)
    found = {(rule.body, rule.head): rule for rule in _rules_of("found", arrays)}
    states, sent = [], []
    for i, told in enumerate(header["islands"]):
        parents, niches, first = _rules_of(f"parents{i}", arrays), {}, 0
        for (d, count), worth in zip(arrays[f"niche{i}"].tolist(), arrays[f"niche_worth{i}"].tolist(), strict=True):
            niches[d] = Niche(parents[first : first + count], worth)
            first += count
        for body, (head, d) in zip(_bodies_of(f"refined{i}", arrays), arrays[f"refined_at{i}"].tolist(), strict=True):
            niches[d].refined |= {(body, head)}
        states.append(IslandState(told["chances"], told["worth"], niches, set(_bodies_of(f"seen{i}", arrays))))
        sent.append(_rules_of(f"sent{i}", arrays))
    return Search(header["generation"], found, states, sent)


def digest(store: TripleStore) -> str:
    """What tells the facts of a store from others."""
    found = hashlib.blake2b(digest_size=16)
    for array in (store.entities.text, store.relations.text, store.csr.source, store.csr.start, store.csr.target):
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _bodies(name: str, bodies: Sequence[Body]) -> Arrays:
    literals = np.array([tuple(p) for body in bodies for p in body], dtype=np.int32).reshape(-1, 4)
    start = np.cumsum([0, *(len(body) for body in bodies)], dtype=np.int64)
    return {f"{name}_literals": literals, f"{name}_start": start}


def _bodies_of(name: str, arrays: Arrays) -> list[Body]:
    start = arrays[f"{name}_start"].tolist()
    rows = [Literal(r, a, b, bool(negated)) for r, a, b, negated in arrays[f"{name}_literals"].tolist()]
    return [tuple(rows[first:last]) for first, last in pairwise(start)]


def _rules(name: str, rules: Iterable[Kept]) -> Arrays:
    rules = list(rules)
    counts = np.array([(rule.head, rule.support, rule.size) for rule in rules], dtype=np.int64).reshape(-1, 3)
    news = np.array([rule.news for rule in rules], dtype=np.float64)
    return _bodies(name, [rule.body for rule in rules]) | {f"{name}_counts": counts, f"{name}_news": news}


def _rules_of(name: str, arrays: Arrays) -> list[Kept]:
    counts, news = arrays[f"{name}_counts"].tolist(), arrays[f"{name}_news"].tolist()
    bodies = _bodies_of(name, arrays)
    return [Kept(body, h, held, n, new) for body, (h, held, n), new in zip(bodies, counts, news, strict=True)]


def _write(file: Path, arrays: Arrays, header: Mapping[str, Any]) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            np.savez(
                out, allow_pickle=False, **arrays, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
            )
            out.flush()
            os.fsync(out.fileno())
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(file: Path) -> tuple[Arrays, dict[str, Any]]:
    try:
        with np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
            header: dict[str, Any] = json.loads(arrays.pop("header").tobytes())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
        raise InductionError(f"{file} is damaged and cannot be read ({e}); begin the search anew") from e
    return arrays, header
