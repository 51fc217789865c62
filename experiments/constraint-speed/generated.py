"""Knowledge made up for measuring: an ontology and rules as the files a user writes, and the same clauses for PiShield."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.records import Box, Detection, Scene

HEADER = """@prefix : <urn:speed#> .
@prefix ns: <https://w3id.org/neurosym/core#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
<urn:speed> a owl:Ontology .
"""
WORDS = ("left_of", "above", "inside", "overlaps", "larger_than", "near")


@dataclass(frozen=True)
class Clauses:
    """`bodies[i]` (label indices) imply label `heads[i]`."""

    labels: int
    bodies: tuple[tuple[int, int], ...]
    heads: tuple[int, ...]

    def pishield(self, path: Path) -> str:
        """The requirements file: number, head, ":-", body."""
        lines = (f"0 {h} :- {a} {b}" for (a, b), h in zip(self.bodies, self.heads, strict=True))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    def knowledge(self, folder: Path) -> Knowledge:
        texts = (f"l{h}(X) :- l{a}(X), l{b}(X)." for (a, b), h in zip(self.bodies, self.heads, strict=True))
        return _loaded(folder, self.labels, texts)


@dataclass(frozen=True)
class PairRules:
    """Rules `word(X, Y) :- first(X), second(Y).` as (first, second, word)."""

    labels: int
    rules: tuple[tuple[int, int, str], ...]

    def knowledge(self, folder: Path) -> Knowledge:
        return _loaded(folder, self.labels, (f"{w}(X, Y) :- l{a}(X), l{b}(Y)." for a, b, w in self.rules))


def clauses(count: int, labels: int = 50, seed: int = 0) -> Clauses:
    """Distinct clauses in which two of the lower half of the labels imply one of the upper half.

    No head is a body, so PiShield's layer has one stratum, its fastest case.
    """
    half = labels // 2
    every = [(b, h) for b in itertools.combinations(range(half), 2) for h in range(half, labels)]
    chosen = random.Random(seed).sample(every, count)
    return Clauses(labels, tuple(b for b, _ in chosen), tuple(h for _, h in chosen))


def pair_rules(count: int, labels: int, seed: int = 0) -> PairRules:
    """Distinct rules of two different classes and a word between them; no two contradict each other."""
    every = [(a, b, w) for a, b in itertools.combinations(range(labels), 2) for w in WORDS]
    return PairRules(labels, tuple(random.Random(seed).sample(every, count)))


def ordered_rules(count: int, labels: int, seed: int = 0) -> PairRules:
    """Rules that classes of smaller numbers lie left of those of larger ones, which one scene can satisfy."""
    every = [(a, b, "left_of") for a, b in itertools.combinations(range(labels), 2)]
    return PairRules(labels, tuple(random.Random(seed).sample(every, count)))


def ordered_scene(count: int, labels: int, wrong: int, seed: int) -> tuple[Scene, list[dict[str, float]]]:
    """Detections from left to right by class, `wrong` of them of a random class, and what each could be instead."""
    dice = random.Random(seed)
    detections, alternatives = [], []
    for n in range(count):
        kind = n * labels // count
        x, y = 20.0 * kind + dice.uniform(-4, 4), dice.uniform(0, 400)
        seen = dice.randrange(labels) if n in range(0, count, max(1, count // wrong)) else kind
        score = dice.uniform(0.6, 0.95)
        detections.append(Detection(f"l{seen}", Box(x, y, x + 15, y + 15), score))
        others = {f"l{k}" for k in (kind, dice.randrange(labels))} - {f"l{seen}"}
        alternatives.append({name: 0.9 * (1 - score) / len(others) for name in sorted(others)})
    return Scene(f"scene {seed}", 20 * labels + 20, 420, tuple(detections)), alternatives


def names(labels: int) -> tuple[str, ...]:
    return tuple(f"l{i}" for i in range(labels))


def _loaded(folder: Path, labels: int, rules: Iterable[str]) -> Knowledge:
    ontology, file = folder / "speed.ttl", folder / "speed.rules"
    kinds = [f':l{i} a owl:Class ; ns:category "l{i}" .' for i in range(labels)]
    kinds += [f':{w} a owl:ObjectProperty ; ns:predicate "{w}" .' for w in WORDS]
    ontology.write_text(HEADER + "\n".join(kinds) + "\n", encoding="utf-8")
    file.write_text("\n".join(rules) + "\n", encoding="utf-8")
    return load_knowledge([ontology, file])
