"""Coded concepts for the names of an ontology: what DICOM calls (value, scheme, meaning).

A class has the code of SNOMED CT or RadLex that it is stated to match exactly (``skos:exactMatch``, SNOMED CT before RadLex);
without one it has its own name in the private scheme `PRIVATE`. A close or broad match is no code: it means something else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from neurosym.knowledge import Ontology
from neurosym.knowledge.triples import SKOS

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept

PRIVATE: Final = "99NEUROSYM"
"""The scheme of names that no vocabulary was stated to have; DICOM asks private schemes to begin with 99."""
_SCHEMES: Final = (
    ("SCT", re.compile(r"https?://snomed\.info/(?:id|sct)/(\d+)$")),
    ("RADLEX", re.compile(r".*/(RID\d+)$")),
)
_LONGEST_MEANING: Final = 64


class Concept(NamedTuple):
    """A code of a scheme; `meaning` is the ontology's label, at most 64 characters."""

    value: str
    scheme: str
    meaning: str


def concept_of(name: str, ontology: Ontology) -> Concept:
    """The concept of a class; a name that the ontology lacks is its own code."""
    known = ontology.classes.get(name)
    if known is None:
        return private_concept(name, name.replace("_", " "))
    matches = [o for o in ontology.source.triples.objects(known.iri, SKOS + "exactMatch") if isinstance(o, str)]
    for scheme, pattern in _SCHEMES:
        codes = sorted(found[1] for match in matches if (found := pattern.match(match)))
        if codes:
            return Concept(codes[0], scheme, known.label[:_LONGEST_MEANING])
    return private_concept(name, known.label)


def private_concept(name: str, label: str) -> Concept:
    """A name of our own as a concept."""
    return Concept(name, PRIVATE, label[:_LONGEST_MEANING])


def coded(concept: Concept) -> CodedConcept:
    """A concept as highdicom has it; needs highdicom (the extra `dicom`)."""
    from highdicom.sr import CodedConcept

    return CodedConcept(concept.value, concept.scheme, concept.meaning)
