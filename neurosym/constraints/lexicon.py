"""What the names of an ontology mean to a detector: leaf classes, places, geometric words, measurements, or nothing.

What means nothing is told with the reason, in the words of the person who would have to change the ontology or the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from neurosym.constraints.geometry import MEASURE_NAMES, PLACES, WORDS
from neurosym.constraints.symbols import ClassIs, Column, Literal, Never, PlaceIs, Unusable, common
from neurosym.knowledge import Ontology
from neurosym.knowledge.entailment import MATES, SYMMETRIC
from neurosym.knowledge.triples import NS
from neurosym.logic import Atom, Term

_PLAIN: Final = {
    **{exchanged: (word, True) for word, exchanged in MATES.items()},
    "patient_left_of": ("left_of", True),
    "patient_right_of": ("left_of", False),
}
"""Words that say what another word says, of the same objects (False) or of them exchanged (True)."""
_GEOMETRIC: Final = "a relation in it has no ns:predicate, so an image cannot show it"
_OF_SCENES: Final = "read off a whole scene, for facts and induction; it constrains no detector"


class Lexicon:
    """What the names of an ontology mean to a detector: leaves, places, words, measurements."""

    def __init__(self, ontology: Ontology, names: tuple[str, ...], exclusive: bool) -> None:
        self.ontology, self.names, self.exclusive = ontology, names, exclusive
        by_iri = {c.iri: name for name, c in ontology.classes.items()}
        tied = ontology.source.triples.pairs(NS + "predicate")
        self.places = {by_iri[s]: str(getattr(o, "value", o)) for s, o in tied if s in by_iri}
        self.any = frozenset(range(1, len(names) + 1))
        zoned = ontology.zoned
        self.frames = frozenset(i for i, n in enumerate(names, 1) if any(ontology.is_a(n, z) for z in zoned))
        self._leaves: dict[str, frozenset[int]] = {}

    def leaves(self, name: str) -> frozenset[int]:
        """The columns of the detector's probabilities that make up a class.

        Where classes may overlap, a class that the detector knows itself is its own column, and the most general ones below it
        make up any other.
        """
        found = self._leaves.get(name)
        if found is None:
            below = [i for i, leaf in enumerate(self.names, 1) if self.ontology.is_a(leaf, name)]
            if not self.exclusive and (name in self.names or len(below) < len(self.names)):
                own = [i for i in below if self.names[i - 1] == name]
                below = own or [i for i in below if not any(self._is_below(i, j) for j in below)]
            found = self._leaves[name] = frozenset(below)
        return found

    def _is_below(self, i: int, j: int) -> bool:
        a, b = self.names[i - 1], self.names[j - 1]
        return a != b and self.ontology.is_a(a, b) and not (self.ontology.is_a(b, a) and i < j)

    def literal(self, name: str) -> ClassIs | PlaceIs:
        """What a unary predicate says of an object."""
        if name in self.places:
            return PlaceIs(PLACES.index(self.places[name]))
        leaves = self.leaves(name)
        if leaves:
            return ClassIs(leaves)
        if name in self.ontology.scene_words.names:
            raise Unusable(f"class {name!r} is {_OF_SCENES}")
        if name in self.ontology.study_labels.values():
            raise Unusable(f"class {name!r} is said of whole images; it constrains no detector")
        tied = self.ontology.categories.values()
        if not any(self.ontology.is_a(c, name) for c in tied):
            raise Unusable(
                f"class {name!r} has no category, so no data can show it; add ns:category to it in the ontology"
            )
        raise Unusable(f"no category of this data set is tied to {name!r}")

    def word(self, atom: Atom, swapped: bool) -> int:
        """The geometric word of a binary atom, of its objects in this order or exchanged; one number for what is the same."""
        word = "same" if atom.predicate == "=" else self.ontology.relations[atom.predicate].predicate
        if atom.predicate in self.ontology.scene_words.names:
            raise Unusable(f"relation {atom.predicate!r} is {_OF_SCENES}")
        if word not in WORDS:
            raise Unusable(_GEOMETRIC)
        plain, exchanged = _PLAIN.get(word, (word, False))
        return WORDS.index(plain) + (len(WORDS) if swapped != exchanged and plain not in SYMMETRIC else 0)

    def measures(self, atom: Atom) -> bool:
        """Whether an atom gives an object a value."""
        relation = self.ontology.relations.get(atom.predicate) if len(atom.args) == 2 else None
        return relation is not None and bool(relation.datatype)

    def towards(self, atom: Atom, anchor: Term) -> int:
        """The word of an atom, read from the anchor to the other object."""
        return self.word(atom, atom.args[0] != anchor)

    def measure(self, atom: Atom) -> int:
        """Which measurement an atom gives its object, by its index in `MEASURE_NAMES`."""
        word = self.ontology.relations[atom.predicate].predicate
        if word not in MEASURE_NAMES:
            raise Unusable(_GEOMETRIC)
        return MEASURE_NAMES.index(word)

    def column(self, parts: Iterable[Literal]) -> Column:
        """What is said of an object that is there at all: of its classes, or of any; exclusive classes are intersected."""
        found = frozenset(parts)
        classes = [p for p in found if isinstance(p, ClassIs)]
        if not self.exclusive:
            return found if any(p.positive for p in classes) else found | {ClassIs(self.any)}
        leaves = common(classes, self.any)
        others = (p for p in found if not isinstance(p, ClassIs))
        return frozenset({*others, ClassIs(leaves)}) if leaves else frozenset({Never()})
