"""What can go wrong, as one tree; every error names the place and, where it can, the cure.

    NeurosymError                       base: catch this one
    ├── KnowledgeError                  an ontology or a rule file is wrong
    │   ├── OntologyError               broken RDF, missing import, cyclic import
    │   └── RuleError                   syntax, unknown relation, unsafe rule
    ├── DataError                       images or annotations are wrong
    ├── ConfigError                     a configuration is wrong
    ├── ConstraintError                 a rule cannot become a constraint for this detector
    ├── TrainingError                   training cannot go on (non-finite loss, foreign checkpoint)
    ├── InductionError                  facts that nothing can be learned from
    └── ReviewError                     verdicts that cannot be recorded, read or published

A file has often more than one mistake, so an error carries a list of `Problem`s and prints them all, one a line, in the form
editors understand: ``path:line:column: message; did you mean 'name'?``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake at one place; `line` and `column` count from 1, 0 means unknown.

    `severity` is "error" (it must be mended before training), "warning" (it may be meant) or "note".
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    cure: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        places = [str(n) for n in (self.line, self.line and self.column) if n]
        if self.file:
            place = ":".join((self.file, *places))
        else:
            place = ", ".join(f"{what} {n}" for what, n in zip(("line", "column"), places, strict=False))
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}; {self.cure}" if self.cure else text


class NeurosymError(Exception):
    """Base of every error this package raises on purpose."""

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        if isinstance(problems, Problem):
            problems = (problems,)
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class KnowledgeError(NeurosymError):
    """An ontology or a rule file is wrong."""


class OntologyError(KnowledgeError):
    """An ontology cannot be read or used."""


class RuleError(KnowledgeError):
    """A rule file cannot be read or used."""


class DataError(NeurosymError):
    """Images or annotations are wrong."""


class ConfigError(NeurosymError):
    """A configuration is wrong."""


class ConstraintError(NeurosymError):
    """A rule cannot become a constraint."""


class TrainingError(NeurosymError):
    """Training or evaluation cannot go on."""


class InductionError(NeurosymError):
    """Rules cannot be learned from these facts."""


class ReviewError(NeurosymError):
    """Verdicts on rules cannot be recorded, read or published."""


def did_you_mean(name: str, known: Iterable[str], declared_in: str = "") -> str:
    """The cure for an unknown name: the nearest known one, or the whole choice when none is near.

    >>> did_you_mean("locted_in", ["located_in", "inside"], "ontologies/thorax.ttl")
    "did you mean 'located_in'? (declared in ontologies/thorax.ttl)"
    >>> did_you_mean("x", ["product", "goedel"])
    'known: goedel, product'
    """
    choices = sorted(set(known))
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    where = f" (declared in {declared_in})" if declared_in else ""
    if near:
        return f"did you mean {near[0]!r}?{where}"
    if not choices:
        return f"nothing is declared{where}"
    shown = ", ".join(choices[:12]) + (", …" if len(choices) > 12 else "")
    return f"known: {shown}{where}"


def short_path(path: str | Path) -> str:
    """The path as the user would type it: relative to the working folder where it lies below."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except (ValueError, OSError, RuntimeError):  # elsewhere, gone, or a circle of links
        return str(path)
