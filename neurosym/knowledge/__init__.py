"""Knowledge files → `Knowledge`: ontologies (OWL), rules (Datalog±), checked against each other.

>>> from neurosym.knowledge import load_knowledge
>>> knowledge = load_knowledge(["ontologies/thorax.ttl", "rules/thorax.rules"])  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurosym.knowledge.knowledge import Knowledge, check_files, load_knowledge
    from neurosym.knowledge.ontology import Ontology, load_ontology
    from neurosym.knowledge.rules import format_rule, parse_rules, read_rules, write_rules

_HOMES = {
    "Knowledge": "knowledge",
    "Ontology": "ontology",
    "check_files": "knowledge",
    "format_rule": "rules",
    "load_knowledge": "knowledge",
    "load_ontology": "ontology",
    "parse_rules": "rules",
    "read_rules": "rules",
    "write_rules": "rules",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


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
