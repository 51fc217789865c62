"""Knowledge files → `Knowledge`: ontologies (OWL), rules (weighted Horn), checked against each other.

>>> from neurosym.knowledge import load_knowledge
>>> knowledge = load_knowledge(["ontologies/thorax.ttl", "rules/thorax.rules"])  # doctest: +SKIP
"""

from neurosym.knowledge.knowledge import Knowledge, check_files, load_knowledge
from neurosym.knowledge.ontology import Ontology, load_ontology
from neurosym.knowledge.rules import format_rule, parse_rules, read_rules, write_rules

__all__ = [
    "Knowledge",
    "Ontology",
    "check_files",
    "format_rule",
    "load_knowledge",
    "load_ontology",
    "parse_rules",
    "read_rules",
    "write_rules",
]
