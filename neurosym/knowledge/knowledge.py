"""`load_knowledge`: ontology and rule files → one checked `Knowledge`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosym.errors import DataError, KnowledgeError, NeurosymError, Problem, did_you_mean, short_path
from neurosym.knowledge.canonical import canonical
from neurosym.knowledge.check import check_rules
from neurosym.knowledge.files import read_text
from neurosym.knowledge.ontology import Ontology, load_ontology
from neurosym.knowledge.rdf import FORMATS
from neurosym.knowledge.rules import parse_leniently
from neurosym.knowledge.statements import ACTIVE, named_ontologies
from neurosym.logic import Rule


@dataclass(frozen=True)
class Knowledge:
    """An ontology and the rules that hold over it.

    `rules` are the written and accepted ones of the rule files, followed by those that the ontology's own axioms become (beyond
    hierarchy and vocabulary) unless a file states the same rule (the file wins: its weight is the one a reviewer edits).
    `inactive` are the files' candidate and rejected rules. `files` are all that was read, imports included. `reasoner` is the
    engine that classified the ontology, "" if none did.
    """

    ontology: Ontology
    rules: tuple[Rule, ...]
    files: tuple[Path, ...] = ()
    inactive: tuple[Rule, ...] = ()
    reasoner: str = ""

    @property
    def entailments(self) -> tuple[Rule, ...]:
        """Everything that may be concluded: the rules, all axioms, and what the geometric words mean."""
        return tuple(dict.fromkeys((*self.rules, *self.ontology.theory)))

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


def load_knowledge(paths: Iterable[str | Path], reason: bool = False) -> Knowledge:
    """Read and check ontology files (any OWL syntax) and rule files (.rules).

    Args:
        paths: the files; without an ontology among them, those that the rule files name (``%! ontology=…``).
        reason: also classify with a reasoner; entailed subsumptions then count like told ones.

    Raises:
        KnowledgeError: with every problem found (warnings are not raised).
    """
    knowledge, problems = check_files(paths, reason)
    errors = [p for p in problems if p.severity == "error"]
    if knowledge is None and not errors:
        errors = [Problem("no ontology given", cure="name a .ttl file, e.g. ontologies/thorax.ttl")]
    if knowledge is None or errors:
        raise KnowledgeError(errors)
    return knowledge


def check_files(paths: Iterable[str | Path], reason: bool = False) -> tuple[Knowledge | None, list[Problem]]:
    """Like `load_knowledge`, but returns the problems, warnings included, instead of raising them.

    There is no `Knowledge` if the ontology is broken, or if there is none: the rules are then checked by themselves.
    """
    ontologies, rule_files, problems = _sorted(paths)
    rules: list[Rule] = []
    named: list[Path] = []
    absent: list[Problem] = []
    for path in rule_files:
        try:
            text = read_text(path)
        except NeurosymError as error:
            problems += error.problems
            continue
        parsed, mistakes = parse_leniently(text, short_path(path))
        rules += parsed
        problems += mistakes
        for name in named_ontologies(text):
            file = (path.parent / name).resolve()
            if _is_file(file):
                named.append(file)
            elif not ontologies:
                line = next(n for n, each in enumerate(text.splitlines(), 1) if "ontology=" in each and name in each)
                absent.append(Problem(f"the ontology {name!r} is not there", short_path(path), line))
    problems += absent
    if not (ontologies or named):
        if rule_files and not absent:
            message = "no ontology is given: classes and relations are taken as they are written"
            cure = "name one, or add a line `%! ontology=PATH` to the rule file"
            problems.append(Problem(message, short_path(rule_files[0]), cure=cure, severity="warning"))
        return None, _in_order([*problems, *check_rules(rules, None)])
    try:
        ontology = load_ontology(ontologies or list(dict.fromkeys(named)))
    except NeurosymError as error:
        return None, [*error.problems, *problems]
    reasoner = ""
    if reason:
        from neurosym.knowledge.reasoner import classify

        try:
            classified = classify(ontology)
        except NeurosymError as error:
            return None, [*error.problems, *problems]
        problems += classified.problems
        ontology, reasoner = ontology.with_subsumptions(classified.subsumptions), classified.engine
    problems += check_rules(rules, ontology)
    stated = {canonical(r) for r in rules} if ontology.rules else set()
    axioms = tuple(a for a in ontology.rules if canonical(a) not in stated)
    files = (*ontology.files, *(p.resolve() for p in rule_files))
    active = tuple(r for r in rules if r.meta.get("status", "") in ACTIVE)
    inactive = tuple(r for r in rules if r.meta.get("status", "") not in ACTIVE)
    return Knowledge(ontology, (*active, *axioms), files, inactive, reasoner), _in_order(problems)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for one
        return False


def _sorted(paths: Iterable[str | Path]) -> tuple[list[Path], list[Path], list[Problem]]:
    ontologies, rule_files, problems = [], [], []
    for path in map(Path, paths):
        if path.suffix == ".rules":
            rule_files.append(path)
        elif path.suffix.lower() in FORMATS:
            ontologies.append(path)
        else:
            known = ", ".join((*FORMATS, ".rules"))
            problems.append(Problem(f"unknown kind of knowledge file {path.suffix!r}; known: {known}", str(path)))
    return ontologies, rule_files, problems


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda p: (p.file, p.line))
