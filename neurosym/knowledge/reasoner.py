"""HermiT over an ontology: is it consistent, and can every class have an instance?

owlready2 cannot read Turtle, so the graph is handed on as N-Triples, in a private world. Without Java nothing is checked, and
that is said aloud.
"""

from __future__ import annotations

import io
import logging
import shutil

from rdflib import Graph
from rdflib.namespace import OWL

from neurosym.errors import OntologyError, Problem
from neurosym.knowledge.ontology import Ontology

log = logging.getLogger(__name__)


def is_available() -> bool:
    """Whether HermiT can run: it needs Java."""
    return shutil.which("java") is not None


def reason_over(ontology: Ontology) -> list[Problem]:
    """The contradictions that HermiT finds; empty, with a warning in the log, if there is no Java.

    Raises:
        OntologyError: HermiT refuses the ontology (it is not OWL 2 DL, say).
    """
    if not is_available():
        log.warning("Java is not installed: HermiT did NOT run, contradictions between axioms are not looked for")
        return []
    import owlready2

    world = owlready2.World()
    graph = Graph()
    for triple in ontology.graph:
        if triple[1] != OWL.imports:  # the graph holds them already, and owlready2 would ask the network for them
            graph.add(triple)
    triples = graph.serialize(format="nt", encoding="utf-8")
    world.get_ontology("urn:neurosym:merged").load(fileobj=io.BytesIO(triples))
    where = ontology.where
    try:
        with world.get_ontology("urn:neurosym:inferred"):
            owlready2.sync_reasoner_hermit(world, infer_property_values=False, debug=0)
    except owlready2.OwlReadyInconsistentOntologyError:
        return [Problem("the ontology is inconsistent: no world can satisfy all its axioms", where)]
    except owlready2.base.OwlReadyJavaError as error:
        reason = next((line for line in str(error).splitlines() if "Exception" in line or "Error" in line), str(error))
        raise OntologyError(Problem(f"HermiT refuses the ontology: {reason.strip()[:300]}", where)) from error
    names = {c.iri: c.name for c in ontology.classes.values()}
    empty = sorted(names.get(c.iri, c.iri) for c in world.inconsistent_classes() if c.iri != str(owlready2.Nothing.iri))
    return [Problem(f"class {name!r} can have no instance: its axioms contradict each other", where) for name in empty]
