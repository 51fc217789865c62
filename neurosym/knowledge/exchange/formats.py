"""What every exchange format is given and gives back: the names and IRIs of an ontology, a text, and what had to stay out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from neurosym.errors import Problem, did_you_mean
from neurosym.knowledge.triples import OWL, is_iri
from neurosym.logic import Rule

if TYPE_CHECKING:
    from neurosym.knowledge.ontology import Ontology

BASE = "urn:neurosym:"
"""Where a name lives that no ontology gives an IRI: `urn:neurosym:nodule`."""

_KEY, _PLAIN = re.compile(r"[A-Za-z_]\w*\Z"), re.compile(r"[\w.:/+-]+\Z", re.ASCII)
_IRI = re.compile(r"(https?://|urn:|file:)[^\s<>\"{}|\\^`]+\Z")


class Exported(NamedTuple):
    """A text, and each rule that the format cannot carry with the reason."""

    text: str
    left_out: tuple[tuple[Rule, str], ...] = ()


class Inexpressible(Exception):
    """A rule cannot be said in a format; the message says why."""


class _AnyName(defaultdict[str, str]):
    """The names of IRIs when no ontology says which there are."""

    def __missing__(self, iri: str) -> str:
        return name_of(iri)


@dataclass(frozen=True)
class Context:
    """What an ontology knows about the names in rules; without one every name is taken as it stands.

    `iris` maps the names of classes and relations to their IRIs, `names` back; `measurements` are the data properties,
    `imports` the IRIs of the ontology and of what it imports. `classes` are the classes by their names and by the categories
    that data calls them. `labels` and `every` are what a file of clauses does not say: the labels by their numbers, from 1,
    and the class that all objects are of.
    """

    iris: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=_AnyName)
    measurements: frozenset[str] = frozenset()
    imports: tuple[str, ...] = ()
    is_closed: bool = False
    classes: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    every: str = ""

    @classmethod
    def of(cls, ontology: Ontology | None) -> Context:
        """The names of an ontology."""
        if ontology is None:
            return cls()
        iris = {name: each.iri for table in (ontology.classes, ontology.relations) for name, each in table.items()}
        names = {iri: name for name, iri in iris.items()}
        imports = tuple(sorted(iri for iri in ontology.source.triples.instances(OWL + "Ontology") if is_iri(iri)))
        classes = {**ontology.categories, **{name: name for name in ontology.classes}}
        return cls(iris, names, ontology.measurements, imports, is_closed=True, classes=classes)

    def iri(self, predicate: str) -> str:
        """The IRI of a class or a relation.

        Raises:
            Inexpressible: the ontology has no such name.
        """
        if predicate in self.iris:
            return self.iris[predicate]
        if self.is_closed:
            raise Inexpressible(f"the ontology has no {predicate!r}; {did_you_mean(predicate, self.iris)}")
        return iri_of(predicate)


@dataclass(frozen=True, slots=True)
class Format:
    """One exchange format: `export` writes rules as text, `load` reads them with every problem of the text."""

    suffix: str
    export: Callable[[tuple[Rule, ...], Context], Exported]
    load: Callable[[str, str, Context], tuple[tuple[Rule, ...], list[Problem]]]


def iri_of(name: str) -> str:
    """The IRI of a name that no ontology knows; a name that is an IRI stands for itself.

    >>> iri_of("left lung"), iri_of("http://example.org/a")
    ('urn:neurosym:left%20lung', 'http://example.org/a')
    """
    return name if _IRI.match(name) and not name.startswith(BASE) else BASE + quote(name, safe="")


def name_of(iri: str) -> str:
    """The inverse of `iri_of`."""
    return unquote(iri.removeprefix(BASE)) if iri.startswith(BASE) else iri


def sort_out(rules: tuple[Rule, ...], write: Callable[[Rule], str]) -> tuple[list[str], tuple[tuple[Rule, str], ...]]:
    """Write each rule; those that raise `Inexpressible` are set apart with the reason."""
    written: list[str] = []
    left_out: list[tuple[Rule, str]] = []
    for rule in rules:
        try:
            written.append(write(rule))
        except Inexpressible as reason:
            left_out.append((rule, str(reason)))
    return written, tuple(left_out)


def split_heads(rule: Rule) -> tuple[Rule, ...]:
    """A hard rule with several head atoms as one rule an atom, with ids `id_1`, `id_2` …

    Raises:
        Inexpressible: it has a weight: its heads hold together or not at all.
    """
    if len(rule.head) < 2:
        return (rule,)
    if rule.weight is not None:
        raise Inexpressible("the heads of a weighted rule hold together; apart they would be independent of each other")
    ids = [{"id": f"{rule.meta['id']}_{n}"} if "id" in rule.meta else {} for n in range(1, len(rule.head) + 1)]
    return tuple(replace(rule, head=(a,), meta={**rule.meta, **own}) for a, own in zip(rule.head, ids, strict=True))


def metadata_comment(rule: Rule, is_marked: bool, weight: float | None = None) -> str:
    """The `%!` comment behind a rule, "" if there is nothing to say.

    Raises:
        Inexpressible: metadata that could not be read back.
    """
    values = {} if weight is None else {"weight": repr(float(weight))}
    values.update(rule.meta)
    if is_marked:
        values["distinct"] = "no"
    for key, value in rule.meta.items():
        if key in ("weight", "distinct") or not _KEY.match(key) or set(value) & set('"\n\r'):
            raise Inexpressible(f"the metadata {key}={value!r} cannot be kept")
    written = (f"{k}={v}" if _PLAIN.match(v) else f'{k}="{v}"' for k, v in values.items())
    return "  %! " + " ".join(written) if values else ""
