"""A graph of any size with power-law degrees, in which some relations follow from others; a TSV file of it.

    python graph.py FACTS SEED FILE      prints JSON: how many facts, how many the best known entity is in

Its sizes are those of Wikidata5M (Wang et al., TACL 2021: 4.6 million entities, 822 relations, 20.6 million facts), and smaller
ones in proportion: an entity for about 4.5 facts, 3 · facts^⅓ relations. The entity of rank k is the subject of a fact with
probability ∝ k^−0.5 and its object with probability ∝ k^−0.7, ranks by chance, so that in- and out-degrees are power laws.
Relation k has facts in proportion to 1 / (k + 5). Of every eight relations three follow from others and have further facts by
chance:

    2 ← 1(X, Y)    3 ← 1(Y, X)    5 ← 4(X, Z), 1(Z, Y)

each for a share of the subjects that have the body, with all that the body leads to for these: rules with a PCA confidence near
1. What a composition leads to is cut after a hundred for one subject.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
PERIOD = 8
SAME, INVERSE, JOIN = 2, 3, 5
SHARE, WIDEST = 0.7, 100
SUBJECTS, OBJECTS = 0.5, 0.7


def columns(facts: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(subject, relation, object) of about so many facts, some of them twice, in the order of relations."""
    rng = np.random.default_rng(seed)
    entities, relations = max(10, facts * 2 // 9), max(PERIOD, round(3 * facts ** (1 / 3)))
    share = 1 / (np.arange(relations) + 5.0)
    sizes = np.maximum(2, facts * share / share.sum()).astype(np.int64)
    ranks = rng.permutation(entities), rng.permutation(entities)
    parts: list[Pairs] = []
    for k in range(relations):
        derived = [pairs[:, : sizes[k] * 4 // 5] for pairs in follows(parts, k, entities, rng)]
        size = int(sizes[k]) - sum(pairs.shape[1] for pairs in derived)
        ends = (drawn(rank, size, power, rng) for rank, power in zip(ranks, (SUBJECTS, OBJECTS), strict=True))
        s, o = np.concatenate([np.stack(list(ends)), *derived], axis=1)
        parts.append((s, o))
    names = rng.permutation(relations)
    relation = np.repeat(names, [len(s) for s, _ in parts])
    return np.concatenate([s for s, _ in parts]), relation, np.concatenate([o for _, o in parts])


def drawn(rank: NDArray[np.int64], size: int, power: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Entities, that of rank k with probability ∝ k^−power."""
    return rank[(len(rank) * rng.random(size) ** (1 / (1 - power))).astype(np.int64)]


def follows(parts: list[Pairs], k: int, entities: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """What relation k takes over from those before it: none or one array of (2, pairs)."""
    first = k - k % PERIOD
    kind = k % PERIOD
    if kind not in (SAME, INVERSE, JOIN):
        return []
    x, y = parts[first + 1]
    if kind == INVERSE:
        x, y = y, x
    if kind == JOIN:
        x, y = joined(parts[first + 4], (x, y))
    chosen = rng.random(entities)[x] < SHARE
    return [np.stack([x[chosen], y[chosen]])]


def joined(left: Pairs, right: Pairs) -> Pairs:
    """The distinct pairs (x, y) that some z joins, of an x with no more than `WIDEST` ways to a y."""
    order = np.argsort(right[0], kind="stable")
    z, y = right[0][order], right[1][order]
    low, high = np.searchsorted(z, left[1]), np.searchsorted(z, left[1], side="right")
    ways = np.bincount(left[0], high - low)
    kept = ways[left[0]] <= WIDEST
    x, low, count = left[0][kept], low[kept], (high - low)[kept]
    place = np.repeat(low - np.cumsum(count) + count, count) + np.arange(count.sum())
    pairs = np.unique(np.stack([np.repeat(x, count), y[place]]), axis=1)
    return pairs[0], pairs[1]


def write(file: Path, facts: int, seed: int) -> dict[str, int]:
    """The graph's facts in an order by chance, `Q12⇥P3⇥Q45` a line; how many lines, how many the best known entity is in."""
    found = columns(facts, seed)
    order = np.random.default_rng([seed, 1]).permutation(len(found[0]))
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with csv.CSVWriter(file, pa.schema([(name, pa.string()) for name in "sro"]), write_options=options) as out:
        for rows in np.array_split(order, max(1, facts // 1_000_000)):
            named = zip("QPQ", found, strict=True)
            texts = [pc.binary_join_element_wise(p, pa.array(c[rows]).cast(pa.string()), "") for p, c in named]
            out.write_table(pa.table(texts, names=list("sro")))
    degree = sum(np.bincount(ends, minlength=facts) for ends in (found[0], found[2]))
    return {"lines": len(order), "best_known": int(degree.max())}


if __name__ == "__main__":
    print(json.dumps(write(Path(sys.argv[3]), int(sys.argv[1]), int(sys.argv[2]))))
