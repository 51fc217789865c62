"""What the word means: a class, a relation, a sign of the language; elsewhere on a rule, the rule (in Markdown)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from neurosym.knowledge import geometry
from neurosym.knowledge.editor.rulefile import Entry, RuleFile
from neurosym.knowledge.ontology import DEFINITIONS, Ontology
from neurosym.knowledge.reading import reading, variables
from neurosym.knowledge.triples import Literal

KEYWORDS: Final[Mapping[str, str]] = {
    "count": "`count{X, Y : body}` is the number of distinct (X, Y) for which the body holds; it stands in a comparison.",
    "is": "`V is expression` computes the expression and binds the variable V to the result.",
    "not": r"`not atom` is written `\+ atom`: the atom is not known to hold.",
    r"\+": r"`\+ atom`: the atom is not known to hold (negation as failure, stratified); `_` in it stands for anything.",
    "abs": "`abs(x)`: the absolute value.",
    "min": "`min(x, y)`: the smaller of two values.",
    "max": "`max(x, y)`: the larger of two values.",
    "::": "`weight :: rule`: the probability, in (0, 1], of the head where the body holds; a rule without one is hard.",
    ":-": "`head :- body`: the head holds wherever the body does; without a head, the body never holds.",
    "=": "`X = Y` as a head: the two are one object.",
    r"\=": r"`X \= Y`: the two are different. Different variables of a rule file stand for different objects anyhow.",
    "=:=": "`x =:= y`: two numbers are equal.",
    r"=\=": r"`x =\= y`: two numbers differ.",
    "=<": "`x =< y`: less or equal.",
    "%!": "`%! key=value …`: what is known about the rule: its id, status, source, reviewer, date …",
}
_SETTING = re.compile(r"`?\b([A-Z]{3,}_[A-Z]+)\b`?")
_MOST_NAMES = 12


def hover(file: RuleFile, ontology: Ontology | None, offset: int) -> tuple[str, int, int] | None:
    """The text to show, and the range that it is about; None where nothing is known."""
    token = file.document.token_at(offset)
    entry = file.entry_at(offset)
    if token is not None and token.kind in ("name", "quoted") and token.text not in KEYWORDS:
        text = describe(token.name, ontology) if ontology is not None else ""
        if text:
            return text, token.start, token.end
    if token is not None and token.text in KEYWORDS and token.start <= offset < token.end:
        return KEYWORDS[token.text], token.start, token.end
    if token is not None and token.text.startswith("%!") and offset - token.start < 2:
        return KEYWORDS["%!"], token.start, token.start + 2
    if entry is None or entry.rule is None:
        return None
    return _about_rule(entry, ontology), entry.start, entry.end


def describe(name: str, ontology: Ontology) -> str:
    """A class or a relation in Markdown; "" if the ontology has none of that name."""
    if name in ontology.classes:
        return "\n\n".join(_class(name, ontology))
    return "\n\n".join(_relation(name, ontology)) if name in ontology.relations else ""


def _class(name: str, ontology: Ontology) -> Iterator[str]:
    known = ontology.classes[name]
    yield f"**{_plain(known.label)}**: class `{name}`"
    if known.definition:
        yield _plain(known.definition)
    facts = []
    above = sorted(ontology.ancestors(name))
    below = sorted(ontology.descendants(name))
    facts += [f"is a: {_names(sorted(known.parents) + [a for a in above if a not in known.parents])}"] if above else []
    facts += [f"includes: {_names(below)}"] if below else []
    categories = sorted(c for c, owner in ontology.categories.items() if owner == name)
    labels = sorted(c for c, owner in ontology.study_labels.items() if owner == name)
    facts += [f"categories of data sets: {_names(categories)}"] if categories else []
    facts += [f"image attributes: {_names(labels)}"] if labels else []
    facts += ["geometry: its boxes are the frames of the zones"] if name in ontology.zoned else []
    yield _list([*facts, *_where(known.iri, ontology)])


def _relation(name: str, ontology: Ontology) -> Iterator[str]:
    known = ontology.relations[name]
    what = f"{known.datatype} value `{name}(X, V)`" if known.datatype else f"relation `{name}(X, Y)`"
    yield f"**{_plain(known.label)}**: {what}"
    if text := _definition(known.iri, ontology):
        yield _plain(text)
    facts = [f"from: {_names(sorted(known.domain))}"] if known.domain else []
    facts += [f"to: {_names(sorted(known.range))}"] if known.range else []
    facts += [f"geometry: {meaning}"] if (meaning := geometric_meaning(known.predicate)) else []
    facts += [f"inverse: `{known.inverse}`"] if known.inverse else []
    kinds = [word for word in ("symmetric", "asymmetric", "transitive", "functional") if getattr(known, word)]
    facts += [", ".join(kinds)] if kinds else []
    facts += [f"implies: {_names(sorted(known.parents))}"] if known.parents else []
    yield _list([*facts, *_where(known.iri, ontology)])


def _definition(iri: str, ontology: Ontology) -> str:
    for annotation in DEFINITIONS:
        found = ontology.source.triples.value(iri, annotation)
        if isinstance(found, Literal):
            return found.value
    return ""


def geometric_meaning(word: str) -> str:
    """What a geometric word says of two boxes, or a measure of one, from the definition that is computed with; else ""."""
    meaning = geometry.PREDICATES.get(word) or geometry.MEASURES.get(word)
    if meaning is None:
        return ""
    text = " ".join((meaning.__doc__ or "").split())
    text = _SETTING.sub(lambda m: str(getattr(geometry, m[1], m[1])), text)
    return f"`{word}`: {text}" if text else f"`{word}`, computed from the two boxes"


def _where(iri: str, ontology: Ontology) -> list[str]:
    file, line = ontology.source.place(iri)
    return [f"IRI: <{iri}>", *([f"declared in {file}:{line}" if line else f"declared in {file}"] if file else [])]


def _about_rule(entry: Entry, ontology: Ontology | None) -> str:
    rule = entry.rule
    assert rule is not None
    lines = [f"**{_plain(rule.meta.get('id', 'rule without an id'))}**", _plain(reading(rule, ontology))]
    told = {"weight": "hard" if rule.weight is None else f"{rule.weight:.12g}"}
    told |= {key.replace("_", " "): value for key, value in rule.meta.items() if key != "id"}
    lines.append(_list([f"{_plain(key)}: {_plain(value)}" for key, value in told.items()]))
    named = variables(rule, ontology)
    if named:
        lines.append("Variables\n\n" + _list([_plain(line) for line in named]))
    objects = {v for part in (*rule.body, *rule.head) for v in part.variables} - rule.measured
    if rule.distinct and len(objects) > 1:
        lines.append("Different variables stand for different objects.")
    return "\n\n".join(lines)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(f"`{name}`" for name in names[:_MOST_NAMES]) + more


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _plain(text: str) -> str:
    """Text of a knowledge file, which may hold anything, with Markdown's signs made harmless."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)
