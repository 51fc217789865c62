"""What an ontology entails: can every class have an instance, and which classes lie below which without it being written?

HermiT answers completely for OWL 2 DL. Without Java `reasonable` (OWL 2 RL, in Rust) answers in part, and that is said aloud:
an instance of each class is made up and the rules tell its other classes. A contradiction is reported with the axioms that
clash. An axiom with ns:confidence counts as certain.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neurosym.errors import Problem
from neurosym.knowledge import hermit
from neurosym.knowledge.logical import LogicalAxiom, declarations, logical_axioms, to_ntriples
from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.reasons import Reasons
from neurosym.knowledge.told import Told
from neurosym.knowledge.triples import TYPE, Triple
from neurosym.knowledge.vocabulary import NOTHING, THING, local_name

log = logging.getLogger(__name__)
Engine = Literal["hermit", "reasonable"]
REASON_SECONDS = 60.0
"""How long the axioms that clash are looked for, all contradictions together."""
_WITNESS = "urn:neurosym:witness:"
_SHOWN = 8  # names that one message lists
_REASONED = 40  # classes whose reasons are looked for
_CURE = "weaken or remove one of them"


@dataclass(frozen=True, slots=True)
class Classification:
    """What a reasoner found; `subsumptions` are (class, superclass) pairs of names that the written hierarchy lacks."""

    engine: Engine
    consistent: bool
    unsatisfiable: tuple[str, ...]
    subsumptions: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...]


def is_available() -> bool:
    """Whether HermiT can run: it needs Java."""
    return hermit.is_available()


def classify(ontology: Ontology, engine: Engine | Literal["auto"] = "auto", timeout: float = 300.0) -> Classification:
    """Let a reasoner draw every conclusion about the named classes.

    Args:
        ontology: what to reason about, with its imports.
        engine: "auto" is HermiT where there is Java, else `reasonable`.
        timeout: seconds that HermiT may take.

    Raises:
        OntologyError: no Java for HermiT; HermiT refuses the ontology or takes too long.
    """
    chosen = engine if engine != "auto" else "hermit" if is_available() else "reasonable"
    triples = ontology.source.triples
    everything = list(logical_axioms(triples))
    axioms = [axiom for axiom in everything if not axiom.has_builtins]
    if len(axioms) < len(everything):
        log.warning(
            "%d SWRL rules with built-ins were left out: no reasoner here knows them", len(everything) - len(axioms)
        )
    declared = declarations(triples)
    told = Told(axioms)
    if chosen == "hermit":
        taxonomy = _by_hermit(ontology, axioms, declared, told, timeout)
    else:
        log.warning(
            "%sreasonable checked the OWL 2 RL part only: what follows from unions, cardinalities or from what must exist is "
            "NOT complete",
            "" if is_available() else "Java is not installed, HermiT did NOT run; ",
        )
        taxonomy = _by_rules(axioms, declared, told)
    reasons = Reasons(axioms, declared, told, REASON_SECONDS)
    report = _Report(ontology, axioms, told, reasons, verified=chosen == "hermit")
    if taxonomy is None:
        return Classification(chosen, False, (), (), (report.inconsistency(),))
    names = {c.iri: c.name for c in ontology.classes.values()}
    empty = sorted(taxonomy.empty)
    return Classification(
        chosen,
        consistent=True,
        unsatisfiable=tuple(sorted(names.get(iri, iri) for iri in empty)),
        subsumptions=_new(ontology, taxonomy, names),
        problems=tuple(report.unsatisfiable(empty)),
    )


def _all(axioms: Iterable[LogicalAxiom], declared: Mapping[str, tuple[Triple, ...]]) -> Iterable[Triple]:
    yield from (triple for triples in declared.values() for triple in triples)
    yield from (triple for axiom in axioms for triple in axiom.triples)


def _new(ontology: Ontology, taxonomy: hermit.Taxonomy, names: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The entailed pairs of named classes that the written hierarchy does not hold."""
    pairs = {*taxonomy.direct, *((a, b) for group in taxonomy.equal for a in group for b in group if a != b)}
    known = ((names[a], names[b]) for a, b in pairs if a in names and b in names and not {a, b} & taxonomy.empty)
    return tuple(sorted((a, b) for a, b in known if not ontology.is_a(a, b)))


def _by_hermit(
    ontology: Ontology,
    axioms: Sequence[LogicalAxiom],
    declared: Mapping[str, tuple[Triple, ...]],
    told: Told,
    timeout: float,
) -> hermit.Taxonomy | None:
    """What HermiT says; where it gives up because too many classes are empty, those that can be read off."""
    try:
        return hermit.classify(to_ntriples(_all(axioms, declared)), timeout)
    except hermit.Exhausted as error:
        empty = frozenset(c.iri for c in ontology.classes.values() if told.clash([c.iri]))
        if not empty:
            raise
        log.warning("%s: only contradictions that can be read off the axioms are reported; mend them first", error)
        return hermit.Taxonomy((), (), empty)


def _by_rules(
    axioms: Sequence[LogicalAxiom], declared: Mapping[str, tuple[Triple, ...]], told: Told
) -> hermit.Taxonomy | None:
    """What the OWL 2 RL rules say of one made-up instance of each class; None if a real individual is in disjoint classes."""
    import reasonable
    from rdflib import URIRef

    classes = [term for term, kinds in declared.items() if any(str(kind).endswith("#Class") for _, _, kind in kinds)]
    witnesses: list[Triple] = [(f"{_WITNESS}{i}", TYPE, cls) for i, cls in enumerate(classes)]
    reasoner = reasonable.PyReasoner()
    with tempfile.TemporaryDirectory(prefix="neurosym-") as scratch:
        path = Path(scratch, "ontology.ttl")
        path.write_text(to_ntriples([*_all(axioms, declared), *witnesses]), encoding="utf-8")
        reasoner.load_file(str(path))
    types: dict[str, set[str]] = {}
    for subject, predicate, obj in reasoner.reason_full():
        if str(predicate) == TYPE and isinstance(obj, URIRef) and str(obj) != THING:
            types.setdefault(str(subject), set()).add(str(obj))
    individuals = {s for a in axioms if a.is_fact for s in (a.main[0], a.main[2]) if isinstance(s, str)}
    if told.inconsistency() or any(_impossible(types.get(each, set()), told) for each in sorted(individuals)):
        return None
    of_class = {cls: types.get(f"{_WITNESS}{i}", {cls}) for i, cls in enumerate(classes)}
    empty = frozenset(cls for cls, found in of_class.items() if _impossible(found, told))
    direct = ((cls, above) for cls, found in of_class.items() for above in sorted(found) if above != cls)
    return hermit.Taxonomy(tuple(direct), (), empty)


def _impossible(classes: set[str], told: Told) -> bool:
    return NOTHING in classes or told.clash(sorted(classes)) is not None


class _Report:
    """Contradictions as problems, with the axioms that clash as the ontology's reader words and places them."""

    def __init__(
        self, ontology: Ontology, axioms: Sequence[LogicalAxiom], told: Told, reasons: Reasons, verified: bool
    ) -> None:
        self._ontology, self._axioms, self._told = ontology, axioms, told
        self._reasons, self._verified = reasons, verified
        self._names = {c.iri: c.name for c in ontology.classes.values()}
        self._written = {axiom.triple: axiom for axiom in ontology.axioms}

    def inconsistency(self) -> Problem:
        """The ontology as a whole contradicts itself."""
        [reason] = self._find([None])
        message = "the ontology is inconsistent, no world can satisfy all its axioms: " + self._clash(reason)
        place = self._place(reason[0]) if reason else (self._ontology.where, 0)
        return Problem(message, *place, cure=_CURE if reason else "")

    def unsatisfiable(self, classes: Sequence[str]) -> list[Problem]:
        """The classes without an instance, first those that are not so because of another one."""
        causes = {cls: sorted(self._told.needed(cls) & set(classes)) for cls in classes}
        followers = _followers(causes)
        problems = []
        roots = list(followers)[:_REASONED]
        for cls, reason in zip(roots, self._find(list(roots)), strict=True):
            message = f"class {self._name(cls)!r} can have no instance: {self._clash(reason)}"
            problems.append(Problem(message, *self._ontology.source.place(cls), cure=_CURE if reason else ""))
        for cls, others in list(followers.items())[:_REASONED]:
            if others:
                message = f"{self._listed(others)} can have no instance because {self._name(cls)!r} can have none"
                problems.append(Problem(message, *self._ontology.source.place(others[0]), cure="cure that one first"))
        if rest := list(followers)[_REASONED:]:
            message = f"{self._listed(rest)} can have no instance either; their reasons were not looked for"
            problems.append(Problem(message, *self._ontology.source.place(rest[0]), cure="cure the others first"))
        return problems

    def _listed(self, classes: Sequence[str]) -> str:
        names = [repr(self._name(cls)) for cls in classes]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"{'class' if len(names) == 1 else 'classes'} {', '.join(names[:_SHOWN])}{more}"

    def _find(self, subjects: Sequence[str | None]) -> list[tuple[int, ...]]:
        if self._verified:
            return self._reasons.find(subjects)
        return [self._reasons.read_off(subject) for subject in subjects]

    def _clash(self, reason: Sequence[int]) -> str:
        if not reason:
            return "its axioms contradict each other (which ones, could not be found)"
        parts = []
        for index in reason:
            file, line = self._place(index)
            parts.append(f"'{self._text(index)}' ({Path(file).name}:{line})")
        if len(parts) == 1:
            return f"{parts[0]} contradicts itself"
        return f"{', '.join(parts[:-1])} and {parts[-1]} contradict each other"

    def _place(self, index: int) -> tuple[str, int]:
        written = self._written.get(self._axioms[index].main)
        return self._ontology.place(written) if written else self._ontology.source.place(self._axioms[index].main[0])

    def _text(self, index: int) -> str:
        axiom = self._axioms[index]
        written = self._written.get(axiom.main)
        return written.text if written else " ".join(local_name(str(node)) for node in axiom.main)

    def _name(self, iri: str) -> str:
        return self._names.get(iri, iri)


def _followers(causes: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Each class that is empty of itself → those that are empty since it is; of a circle the first counts as the cause."""
    above_of: dict[str, list[str]] = {}
    for cls, needed in causes.items():
        for each in needed:
            above_of.setdefault(each, []).append(cls)
    explained: set[str] = set()
    found: dict[str, list[str]] = {}
    for cls in sorted(causes, key=lambda c: (bool(causes[c]), c)):
        if cls in explained:
            continue
        waiting = [cls]
        explained.add(cls)
        for each in waiting:
            new = [below for below in above_of.get(each, ()) if below not in explained]
            explained.update(new)
            waiting += new
        found[cls] = sorted(waiting[1:])
    return found
