"""Classes and relations that are read off a whole scene, as an ontology declares them with `ontologies/scene-facts.ttl`:

    PlacedIn    objects in a region                      ns:region
    CountOf     images with so many objects of a class   ns:seen, ns:atLeast, ns:atMost
    SeenInEach  images with one in each of some regions  ns:seen, ns:inEach
    WidthRatio  images on which a ratio is exceeded      ns:widthOf, ns:acrossWidthOf, ns:moreThan
    Stated      images that the data says something of   ns:attribute, ns:atLeast, ns:lessThan
    Mirrored    pairs on both sides of the midline       ns:mirrored

`neurosym.scenes.image_facts` reads them. They say what is true of a scene as a whole, or of what no box shows, so nothing is
trained with them; a rule may speak of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from neurosym.errors import Problem, did_you_mean
from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.regions import Region, Regions
from neurosym.knowledge.triples import NS, Literal, is_iri
from neurosym.knowledge.vocabulary import local_name

_Word = TypeVar("_Word")
_KINDS = ("region", "seen", "widthOf", "attribute")
"""Each makes a class one that is read off a scene; a class has one of them."""
_NEEDS = {
    "inEach": ("seen",),
    "atMost": ("seen",),
    "atLeast": ("seen", "attribute"),
    "lessThan": ("attribute",),
    "acrossWidthOf": ("widthOf",),
    "moreThan": ("widthOf",),
}
"""What says more of one of these kinds, and nothing without it."""


@dataclass(frozen=True, slots=True)
class PlacedIn:
    """The object's frame and zone are those of one of the regions."""

    name: str
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class CountOf:
    """Between `at_least` and `at_most` (None: any number) objects of class `seen`."""

    name: str
    seen: str
    at_least: int = 1
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class SeenInEach:
    """An object of class `seen` in each of the regions."""

    name: str
    seen: str
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class WidthRatio:
    """The width of an object of class `of`, divided by that from edge to edge of the classes `across`, exceeds `more_than`."""

    name: str
    of: str
    across: tuple[str, ...]
    more_than: float


@dataclass(frozen=True, slots=True)
class Stated:
    """An attribute of the image has one of the values (`values`), or a number in [at_least, less_than) (`number`)."""

    name: str
    values: frozenset[tuple[str, str]]
    number: str = ""
    at_least: float = -math.inf
    less_than: float = math.inf


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Two objects at mirrored places, within a share of the frames' width and height."""

    name: str
    tolerance: float


@dataclass(frozen=True, slots=True)
class SceneWords:
    """What an ontology declares of each kind, by name."""

    placed: tuple[PlacedIn, ...] = ()
    counts: tuple[CountOf, ...] = ()
    in_each: tuple[SeenInEach, ...] = ()
    ratios: tuple[WidthRatio, ...] = ()
    stated: tuple[Stated, ...] = ()
    mirrored: tuple[Mirrored, ...] = ()

    @property
    def shown(self) -> frozenset[str]:
        """The names of those that the objects of a scene decide."""
        every: list[PlacedIn | CountOf | SeenInEach | WidthRatio | Mirrored] = []
        for kind in (self.placed, self.counts, self.in_each, self.ratios, self.mirrored):
            every += kind
        return frozenset(word.name for word in every)

    @property
    def names(self) -> frozenset[str]:
        """All names."""
        return self.shown | {w.name for w in self.stated}


class _Wrong(Exception):
    """Why a word cannot be read: the message, its cure, and the word of the file that it is about."""

    def __init__(self, message: str, cure: str, word: str) -> None:
        super().__init__(message)
        self.message, self.cure, self.word = message, cure, word


def read_scene_words(ontology: Ontology) -> tuple[SceneWords, list[Problem]]:
    """The words of an ontology, and what is wrong with those that are not among them."""
    reader = _Reader(ontology)
    if not any(True for tie in (*_KINDS, *_NEEDS, "mirrored") for _ in reader.triples.pairs(NS + tie)):
        return SceneWords(), []
    words = SceneWords(
        placed=reader.all_of("region", reader.placed),
        counts=reader.all_of("seen", reader.count, lambda iri: not reader.has(iri, "inEach")),
        in_each=reader.all_of("seen", reader.in_each, lambda iri: reader.has(iri, "inEach")),
        ratios=reader.all_of("widthOf", reader.ratio),
        stated=reader.all_of("attribute", reader.stated),
        mirrored=reader.all_of("mirrored", reader.mirrored),
    )
    reader.report_strays()
    return words, reader.problems


class _Reader:
    def __init__(self, ontology: Ontology) -> None:
        self.ontology, self.triples = ontology, ontology.source.triples
        self.regions = Regions(ontology)
        self.classes = {c.iri: c.name for c in ontology.classes.values()}
        self.relations = {r.iri: r.name for r in ontology.relations.values() if not r.datatype}
        self.problems: list[Problem] = []

    def has(self, iri: str, tie: str) -> bool:
        return bool(self.triples.objects(iri, NS + tie))

    def all_of(
        self, tie: str, read: Callable[[str, str], _Word], which: Callable[[str], bool] = lambda iri: True
    ) -> tuple[_Word, ...]:
        """What every term with a tie is read as, in the order of the names."""
        known, kind = (self.relations, "relation") if tie == "mirrored" else (self.classes, "class")
        found = []
        for iri in sorted({s for s, _ in self.triples.pairs(NS + tie)}, key=lambda i: (known.get(i, ""), i)):
            if not which(iri):
                continue
            try:
                if iri not in known:
                    raise _Wrong(f"ns:{tie} on {local_name(iri)!r}, which is no {kind}", f"declare the {kind}", tie)
                found.append(read(iri, known[iri]))
            except _Wrong as wrong:
                self._problem(iri, wrong)
        return tuple(found)

    def report_strays(self) -> None:
        """Bounds and places of nothing, and classes of two kinds."""
        for tie, needed in _NEEDS.items():
            for iri in dict.fromkeys(s for s, _ in self.triples.pairs(NS + tie)):
                if not any(self.has(iri, kind) for kind in needed):
                    expected = " or ".join(f"ns:{kind}" for kind in needed)
                    self._problem(
                        iri, _Wrong(f"ns:{tie} on {local_name(iri)!r} says nothing alone", f"add {expected}", tie)
                    )
        for iri in dict.fromkeys(s for kind in _KINDS for s, _ in self.triples.pairs(NS + kind)):
            kinds = [kind for kind in _KINDS if self.has(iri, kind)]
            if len(kinds) > 1:
                both = " and ".join(f"ns:{kind}" for kind in kinds)
                self._problem(iri, _Wrong(f"{local_name(iri)!r} has {both}", "keep one of them", kinds[1]))

    def _problem(self, iri: str, wrong: _Wrong) -> None:
        file, line = self.ontology.source.place(iri, wrong.word)
        self.problems.append(Problem(wrong.message, file, line, cure=wrong.cure))

    # --- the kinds ------------------------------------------------------------------------------------------------

    def placed(self, iri: str, name: str) -> PlacedIn:
        return PlacedIn(name, self._regions(iri, "region"))

    def count(self, iri: str, name: str) -> CountOf:
        low, high = self._number(iri, "atLeast"), self._number(iri, "atMost")
        for tie, value in (("atLeast", low), ("atMost", high)):
            if value is not None and (value < 0 or value != int(value)):
                raise _Wrong(f"ns:{tie} {value:g} of {name!r} is no number of objects", "write 0, 1, 2, …", tie)
        least = int(low) if low is not None else 0 if high is not None else 1
        if high is not None and high < least:
            raise _Wrong(f"{name!r} is of at least {least} and at most {high:g} objects", "exchange them", "atMost")
        return CountOf(name, self._class(iri, "seen"), least, None if high is None else int(high))

    def in_each(self, iri: str, name: str) -> SeenInEach:
        for tie in ("atLeast", "atMost"):
            if self.has(iri, tie):
                raise _Wrong(f"{name!r} has both ns:inEach and ns:{tie}", "make two classes of it", tie)
        return SeenInEach(name, self._class(iri, "seen"), self._regions(iri, "inEach"))

    def ratio(self, iri: str, name: str) -> WidthRatio:
        across, bound = self._classes(iri, "acrossWidthOf"), self._number(iri, "moreThan")
        if not across or bound is None:
            missing = "moreThan" if across else "acrossWidthOf"
            raise _Wrong(f"ns:widthOf on {name!r} without ns:{missing}", f"add ns:{missing}", "widthOf")
        if bound <= 0:
            raise _Wrong(f"ns:moreThan {bound:g} of {name!r} is not above 0", "write a ratio, e.g. 0.5", "moreThan")
        return WidthRatio(name, self._class(iri, "widthOf"), across, bound)

    def stated(self, iri: str, name: str) -> Stated:
        texts = [getattr(o, "value", str(o)) for o in self.triples.objects(iri, NS + "attribute")]
        pairs = [tuple(part.strip() for part in text.partition("=")) for text in texts]
        low, high = self._number(iri, "atLeast"), self._number(iri, "lessThan")
        if low is None and high is None:
            for text, (key, _, value) in zip(texts, pairs, strict=True):
                if not (key and value):
                    cure = "write key=value, or add ns:atLeast or ns:lessThan for its number"
                    raise _Wrong(f"ns:attribute {text!r} of {name!r} has no value", cure, "attribute")
            return Stated(name, frozenset((key, value) for key, _, value in pairs))
        if len(pairs) != 1 or pairs[0][1]:
            raise _Wrong(
                f"{name!r} has a bound for {', '.join(map(repr, sorted(texts)))}",
                "name one key, without a value",
                "attribute",
            )
        low, high = -math.inf if low is None else low, math.inf if high is None else high
        if low >= high:
            raise _Wrong(f"no number is at least {low:g} and less than {high:g}", "exchange them", "lessThan")
        return Stated(name, frozenset(), pairs[0][0], low, high)

    def mirrored(self, iri: str, name: str) -> Mirrored:
        tolerance = self._number(iri, "mirrored")
        assert tolerance is not None  # it is why the relation is read
        if not 0 < tolerance < 1:
            raise _Wrong(
                f"ns:mirrored {tolerance:g} of {name!r} is not in (0, 1)", "write a share, e.g. 0.1", "mirrored"
            )
        return Mirrored(name, tolerance)

    # --- what they name -------------------------------------------------------------------------------------------

    def _number(self, iri: str, tie: str) -> float | None:
        values = self.triples.objects(iri, NS + tie)
        if not values:
            return None
        shown = ", ".join(str(getattr(v, "value", v)) for v in values)
        try:
            [value] = [float(v.value) for v in values if isinstance(v, Literal)]
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise _Wrong(f"ns:{tie} {shown} of {local_name(iri)!r} is not one number", "write one number", tie)
        return value

    def _named(self, iri: str, tie: str) -> Iterator[tuple[str, str]]:
        """The names and IRIs of the classes that a tie points to."""
        for node in self.triples.objects(iri, NS + tie):
            if not is_iri(node) or str(node) not in self.classes:
                text = str(getattr(node, "value", node))
                cure = did_you_mean(local_name(text), self.classes.values(), self.ontology.where)
                raise _Wrong(f"ns:{tie} of {local_name(iri)!r} names {text!r}, which is no class", cure, tie)
            yield self.classes[str(node)], str(node)

    def _classes(self, iri: str, tie: str) -> tuple[str, ...]:
        return tuple(sorted(name for name, _ in self._named(iri, tie)))

    def _class(self, iri: str, tie: str) -> str:
        names = self._classes(iri, tie)
        if len(names) != 1:
            raise _Wrong(f"ns:{tie} of {local_name(iri)!r} names {len(names)} classes", "name one", tie)
        return names[0]

    def _regions(self, iri: str, tie: str) -> tuple[Region, ...]:
        found = set()
        for name in self._classes(iri, tie):
            region = self.regions.of_class(name)
            if region is None:
                known = did_you_mean(name, self.regions.names, self.ontology.where)
                raise _Wrong(f"ns:{tie} of {local_name(iri)!r} names {name!r}, which is no region", known, tie)
            found.add(region)
        return tuple(sorted(found))
