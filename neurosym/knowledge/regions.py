"""What the text of a location tag means: "r.upper lobe(S2)" → a part of the right lung's box.

A region is a frame (a class whose boxes are frames, ``ns:zoned``, or one below it) and the thirds of the frame's height in
which something of the region may be seen (`neurosym.knowledge.geometry.ZONES`). A tag is read as the first of these that fits:

- ``right_lung/upper_zone+middle_zone`` or ``right_lung``: a frame's name, and zones of it;
- the name, label or synonym of a class of the ontology that is itself a frame, or that has an ``ns:frame`` and ``ns:zone``s
  (`ontologies/lung-lobes.ttl` says it of the lobes).

Of a text, what stands in brackets (a segment) is left out, and r. and l., right and left, are words; their order and the
words "of", "the" and "lung" do not count where a lobe is named, so that "r.upper lobe(S2)" is "upper lobe of right lung".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from neurosym.errors import DataError, Problem, did_you_mean
from neurosym.knowledge.geometry import ZONES
from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.triples import NS, SKOS, Literal

_WORDS = {"r": "right", "rt": "right", "l": "left", "lt": "left"}
_EMPTY = frozenset({"of", "the", "in"})


@dataclass(frozen=True, slots=True, order=True)
class Region:
    """The zones of a frame's box; `frames` are the classes that may be the frame (a class and what is below it)."""

    frames: tuple[str, ...]
    zones: tuple[str, ...] = ZONES


def words_of(text: str) -> frozenset[str]:
    """The words of a location that count, in no order.

    >>> sorted(words_of("r.upper lobe(S2)"))
    ['lobe', 'right', 'upper']
    """
    found = re.findall(r"[a-z]+", re.sub(r"\([^)]*\)", " ", text.lower().replace("_", " ")))
    return frozenset(_WORDS.get(w, w) for w in found if w not in _EMPTY)


class Regions:
    """The regions that an ontology knows."""

    def __init__(self, ontology: Ontology) -> None:
        self.ontology = ontology
        triples, self._names = ontology.source.triples, dict[str, Region]()
        self.frames = sorted(n for n in ontology.classes if self._is_frame(n))
        by_iri = {c.iri: c.name for c in ontology.classes.values()}
        for name in self.frames:
            self._names[name] = self._framed(name, ZONES)
        for iri, frame in triples.pairs(NS + "frame"):
            zones = tuple(o.value for o in triples.objects(iri, NS + "zone") if isinstance(o, Literal))
            if iri in by_iri and str(frame) in by_iri:
                self._names[by_iri[iri]] = self._framed(by_iri[str(frame)], zones or ZONES)
        self._spoken: dict[frozenset[str], Region] = {}
        for name, region in self._names.items():
            of_class = ontology.classes[name]
            synonyms = [o.value for o in triples.objects(of_class.iri, SKOS + "altLabel") if isinstance(o, Literal)]
            for text in (name, of_class.label, *synonyms):
                self._spoken.setdefault(words_of(text), region)
                self._spoken.setdefault(self._short(words_of(text)), region)

    def _is_frame(self, name: str) -> bool:
        return any(self.ontology.is_a(name, zoned) for zoned in self.ontology.zoned)

    def _framed(self, name: str, zones: Iterable[str]) -> Region:
        chosen = set(zones)
        return Region((name, *sorted(self.ontology.descendants(name))), tuple(z for z in ZONES if z in chosen))

    @staticmethod
    def _short(words: frozenset[str]) -> frozenset[str]:
        """Of a lobe the word "lung" says nothing."""
        return words - {"lung"} if "lobe" in words else words

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that are regions."""
        return tuple(sorted(self._names))

    def of_class(self, name: str) -> Region | None:
        """The region that a class is, None for a class that is none."""
        return self._names.get(name)

    def find(self, text: str) -> Region | None:
        """The region that a text names, None if no class fits."""
        frame, slash, zones = text.strip().partition("/")
        if slash and frame in self.frames:
            wanted = [z.strip() for z in zones.split("+")]
            return self._framed(frame, wanted) if set(wanted) <= {*ZONES} and wanted else None
        words = words_of(text)
        return self._names.get(text.strip()) or self._spoken.get(words) or self._spoken.get(self._short(words))

    def named(self, text: str, where: str = "") -> Region:
        """The region that a text names.

        Raises:
            DataError: no class of the ontology fits; names the nearest.
        """
        region = self.find(text)
        if region is None:
            known = [*self._names, *(self.ontology.classes[n].label for n in self._names)]
            cure = did_you_mean(text, known, self.ontology.where)
            raise DataError(Problem(f"location {text!r} is no region that the ontology knows", where, cure=cure))
        return region
