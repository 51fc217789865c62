"""Rules in the languages of other programs, out and in; docs/exchange.md says what each can carry.

What a format cannot say is left out with the reason, what cannot be read is a problem with its line; nothing is changed in
silence. One plain dict names the formats:

>>> from neurosym.knowledge.rules import parse_rules
>>> print(export_rules(parse_rules("left_of(R, H) :- right_lung(R), heart(H)."), "clingo").text.rstrip())
left_of(R,H) :- right_lung(R), heart(H), R != H.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from neurosym.errors import Problem, RuleError, did_you_mean
from neurosym.knowledge.exchange import anyburl, clingo, dimacs, problog, shacl, shacl_export, swrl, swrl_export
from neurosym.knowledge.exchange.formats import Context, Exported, Format
from neurosym.logic import Rule

if TYPE_CHECKING:
    from neurosym.knowledge.ontology import Ontology

__all__ = ["FORMATS", "Context", "Exported", "Format", "export_rules", "import_rules"]

FORMATS: Final = {
    "anyburl": Format(".txt", anyburl.export, anyburl.load),
    "problog": Format(".pl", problog.export, problog.load),
    "clingo": Format(".lp", clingo.export, clingo.load),
    "swrl": Format(".ttl", swrl_export.export, swrl.load),
    "shacl": Format(".ttl", shacl_export.export, shacl.load),
    "dimacs": Format(".cnf", dimacs.export, dimacs.load),
}


def export_rules(rules: Iterable[Rule], format: str, ontology: Ontology | None = None) -> Exported:
    """The rules as a text of a format, and those that it cannot carry, each with the reason.

    Raises:
        RuleError: there is no such format; or (shacl) the rules cannot be stratified.
    """
    return _format(format).export(tuple(rules), Context.of(ontology))


def import_rules(
    text: str,
    format: str,
    file: str = "",
    ontology: Ontology | None = None,
    labels: Sequence[str] = (),
    every: str = "",
) -> tuple[tuple[Rule, ...], list[Problem]]:
    """The rules of a text in a format, and a problem for each statement that is not a rule here.

    Args:
        text: the whole file.
        format: a name in `FORMATS`.
        file: what problems call it.
        ontology: whose names the rules use.
        labels: of dimacs, what its variables 1, 2 … stand for; by default what its comments say.
        every: of dimacs, the class that all objects are of, for clauses without a negated label.

    Raises:
        RuleError: there is no such format, or it has no labels.
    """
    if format != "dimacs" and (labels or every):
        raise RuleError(Problem(f"labels: a file of {format} names its classes itself", cure="leave them out"))
    context = replace(Context.of(ontology), labels=tuple(labels), every=every)
    return _format(format).load(text, file, context)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise RuleError(Problem(f"unknown format {name!r}", cure=did_you_mean(name, FORMATS)))
    return FORMATS[name]
