"""``ns:predicate`` held against `neurosym.knowledge.geometry`: a class means a place, a relation a word, a number a measure."""

from __future__ import annotations

from neurosym.errors import did_you_mean
from neurosym.knowledge.geometry import MEASURES, PREDICATES, SIDES, SIZES, ZONES
from neurosym.knowledge.triples import NS, Literal
from neurosym.knowledge.vocabulary import Vocabulary


def check_predicates(v: Vocabulary) -> None:
    """Note every ``ns:predicate`` that names no word of its kind."""
    places = (*ZONES, *SIDES, *SIZES)
    for iri, value in v.triples.pairs(NS + "predicate"):
        word = value.value if isinstance(value, Literal) else value
        if iri in v.classes and word not in places:
            message = f"ns:predicate {word!r} of class {v.names[iri]!r} is not a zone, side or size"
            v.problem(message, did_you_mean(word, places), iri, word)
        elif iri in v.data and word not in MEASURES:
            message = f"ns:predicate {word!r} of {v.names[iri]!r} is not a measure of a box"
            v.problem(message, did_you_mean(word, MEASURES), iri, word)
        elif iri in v.objects and word not in PREDICATES:
            message = f"ns:predicate {word!r} of {v.names[iri]!r} is not a geometric word"
            v.problem(message, did_you_mean(word, PREDICATES), iri, word)
