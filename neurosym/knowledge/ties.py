"""``ns:predicate`` held against `neurosym.knowledge.geometry`: a class means a place, a relation a word, a number a measure;
and what would else do nothing in silence: misspelt annotations of the core vocabulary, texts in the place of classes.
"""

from __future__ import annotations

from neurosym.errors import did_you_mean
from neurosym.knowledge.geometry import MEASURES, PREDICATES, SIDES, SIZES, ZONES
from neurosym.knowledge.triples import NS, OWL, RDFS, Literal
from neurosym.knowledge.vocabulary import Vocabulary, local_name

ANNOTATIONS = frozenset(
    (
        "category",
        "studyLabel",
        "predicate",
        "mayOverlap",
        "zoned",
        "confidence",
        "distinct",
        "equal",
        "frame",
        "zone",
        "region",
        "seen",
        "inEach",
        "atLeast",
        "atMost",
        "lessThan",
        "moreThan",
        "widthOf",
        "acrossWidthOf",
        "attribute",
        "mirrored",
        "weight",
    )
)
"""What `ontologies/` declares as annotations of the core vocabulary."""


def check_vocabulary(v: Vocabulary) -> None:
    """Note all of this."""
    _check_annotations(v)
    _check_terms(v)
    _check_predicates(v)


def _check_annotations(v: Vocabulary) -> None:
    """Note each annotation in the core's namespace that the core lacks, and each ``ns:zoned`` that is no truth value."""
    declared = {*v.names, *v.annotations}
    for iri in v.triples.predicates():
        word = local_name(iri)
        if iri == NS + word and iri not in declared and word not in ANNOTATIONS:
            v.problem(f"ns:{word} is no word of the core vocabulary", did_you_mean(word, ANNOTATIONS), iri, word)
    for iri, value in v.triples.pairs(NS + "zoned"):
        said = value.value if isinstance(value, Literal) else value
        if said not in ("true", "false", "1", "0"):
            v.problem(f"ns:zoned {said!r} is no truth value", "write true or false", iri, "zoned")


_OF_TERMS = (
    *(RDFS + p for p in ("subClassOf", "subPropertyOf", "domain", "range")),
    *(OWL + p for p in ("equivalentClass", "disjointWith", "equivalentProperty", "inverseOf")),
)


def _check_terms(v: Vocabulary) -> None:
    """Note each text where OWL has a class or a property: such an axiom says nothing."""
    for predicate in _OF_TERMS:
        for subject, value in v.triples.pairs(predicate):
            if isinstance(value, Literal):
                word = local_name(predicate)
                v.problem(
                    f"{word} of {local_name(subject)} is the text {value.value!r}",
                    "write a name without quotes",
                    subject,
                    word,
                )


def _check_predicates(v: Vocabulary) -> None:
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
