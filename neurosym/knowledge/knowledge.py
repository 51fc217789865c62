"""`load_knowledge`: ontology and rule files → one checked `Knowledge`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neurosym.errors import DataError, KnowledgeError, NeurosymError, Problem, did_you_mean, short_path
from neurosym.knowledge.check import check_rules
from neurosym.knowledge.ontology import Ontology, load_ontology
from neurosym.knowledge.rdf import FORMATS
from neurosym.knowledge.rules import canonical, parse_leniently, read_text
from neurosym.records import Rule


@dataclass(frozen=True)
class Knowledge:
    """An ontology and the rules that hold over it.

    `rules` are those of the rule files, followed by the ontology's own existential axioms unless a file states the same
    rule (the file wins: its weight is the one a reviewer edits). `files` are all that was read, imports included.
    """

    ontology: Ontology
    rules: tuple[Rule, ...]
    files: tuple[Path, ...] = ()

    def class_of_category(self, category: str, file: str = "") -> str:
        """The class a data set's category is tied to by ``ns:category``.

        Raises:
            DataError: naming the category, the nearest tie, and the line to add to the ontology.
        """
        ties = self.ontology.categories
        if category not in ties:
            near = did_you_mean(category, ties, self.ontology.where)
            cure = f'add ns:category "{category}" to its class in the ontology; {near}'
            raise DataError(Problem(f"category {category!r} is tied to no ontology class", file, cure=cure))
        return ties[category]

    def labels_of(self, attributes: Mapping[str, object]) -> frozenset[str]:
        """The study classes that an image's attributes say hold for it (``ns:studyLabel "key=value"``)."""
        ties = self.ontology.study_labels
        return frozenset(ties[key] for k, v in attributes.items() if (key := f"{k}={v}") in ties)


def load_knowledge(paths: Iterable[str | Path]) -> Knowledge:
    """Read and check ontology files (.ttl, .owl, .rdf, .nt) and rule files (.rules).

    Raises:
        KnowledgeError: with every problem found.
    """
    knowledge, problems = check_files(paths)
    if knowledge is None or problems:
        raise KnowledgeError(problems)
    return knowledge


def check_files(paths: Iterable[str | Path]) -> tuple[Knowledge | None, list[Problem]]:
    """Like `load_knowledge`, but returns the problems instead of raising them; no `Knowledge` if the ontology is broken."""
    problems: list[Problem] = []
    ontologies, rule_files = [], []
    for path in map(Path, paths):
        if path.suffix == ".rules":
            rule_files.append(path)
        elif path.suffix.lower() in FORMATS:
            ontologies.append(path)
        else:
            known = ", ".join((*FORMATS, ".rules"))
            problems.append(Problem(f"unknown kind of knowledge file {path.suffix!r}; known: {known}", str(path)))
    rules: list[Rule] = []
    for path in rule_files:
        try:
            parsed, mistakes = parse_leniently(read_text(path), short_path(path))
            rules += parsed
            problems += mistakes
        except NeurosymError as error:
            problems += error.problems
    if not ontologies:
        problems.append(Problem("no ontology given", cure="name a .ttl file, e.g. ontologies/thorax.ttl"))
        return None, problems
    try:
        ontology = load_ontology(ontologies)
    except NeurosymError as error:
        return None, [*error.problems, *problems]
    problems += check_rules(rules, ontology)
    known_forms = {canonical(r) for r in rules}
    axioms = tuple(a for a in ontology.axioms if canonical(a) not in known_forms)
    files = (*ontology.files, *(p.resolve() for p in rule_files))
    return Knowledge(ontology, (*rules, *axioms), files), sorted(problems, key=lambda p: (p.file, p.line))
