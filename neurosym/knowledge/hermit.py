"""HermiT, the OWL 2 DL reasoner (Glimm et al., 2014), run as the program that owlready2 ships.

Only the jar of owlready2 is used: its Python part would read the ontology a second time (into SQLite) before HermiT reads it.
One Java process takes many small ontologies, so a search for a reason does not start Java for each question.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosym.errors import OntologyError, Problem
from neurosym.knowledge.triples import OWL, RDFS, TYPE, Triple
from neurosym.knowledge.vocabulary import NOTHING, THING

MEGABYTES = 1000
"""What Java may use as its heap."""
PROBE = "urn:neurosym:probe"
_LINE = re.compile(r"^(SubClassOf|EquivalentClasses)\( (<.+>) \)$")
_REFUSAL = re.compile(r"^(?:Exception in thread \S+ )?[\w.$]*\.(\w*(?:Exception|Error))(?:: (.*))?$", re.MULTILINE)


class Exhausted(OntologyError):
    """HermiT did not come to an end with the time, memory or stack that it has."""


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """The classified hierarchy, by IRI: direct superclasses, groups of equal classes, and the classes that must be empty."""

    direct: tuple[tuple[str, str], ...]
    equal: tuple[tuple[str, ...], ...]
    empty: frozenset[str]


def is_available() -> bool:
    """Whether HermiT can run: it needs Java."""
    return shutil.which("java") is not None


def classify(ntriples: str, timeout: float) -> Taxonomy | None:
    """The hierarchy that an ontology entails, None if it is inconsistent.

    Raises:
        OntologyError: HermiT refuses the ontology, or does not come to an end.
    """
    output, inconsistent = _run([ntriples], ["-c"], timeout)
    if inconsistent:
        return None
    direct: list[tuple[str, str]] = []
    equal: list[tuple[str, ...]] = []
    empty: set[str] = set()
    for line in output.splitlines():
        found = _LINE.match(line)
        if not found:
            continue
        names = tuple(name for name in found[2][1:-1].split("> <"))
        if found[1] == "SubClassOf":
            direct.append((names[0], names[1]))
        elif NOTHING in names:
            empty.update(n for n in names if n not in (NOTHING, THING))
        else:
            equal.append(names)
    return Taxonomy(tuple(direct), tuple(equal), frozenset(empty))


def first_clash(ontologies: Sequence[str], timeout: float) -> int:
    """The index of the first of these ontologies that is inconsistent or leaves `PROBE` empty; their number if none is."""
    results = _clashes(ontologies, timeout)
    return results.index(True) if True in results else len(ontologies)


def clashes(ontologies: Sequence[str], timeout: float) -> list[bool]:
    """For each ontology, whether it is inconsistent or leaves the class `PROBE` empty."""
    results: list[bool] = []
    while len(results) < len(ontologies):  # HermiT stops at the first inconsistent one
        results += _clashes(ontologies[len(results) :], timeout)
    return results


def probing(cls: str | None) -> list[Triple]:
    """Triples that make `PROBE` a class, below `cls` if one is given."""
    declared: list[Triple] = [(PROBE, TYPE, OWL + "Class")]
    return declared if cls is None else [*declared, (PROBE, RDFS + "subClassOf", cls)]


def _clashes(ontologies: Sequence[str], timeout: float) -> list[bool]:
    output, inconsistent = _run(ontologies, [f"-k<{PROBE}>"], timeout, "-XX:TieredStopAtLevel=1")
    results = ["is not satisfiable" in line for line in output.splitlines() if line.endswith("satisfiable.")]
    return [*results, True] if inconsistent else results


def _run(ontologies: Iterable[str], actions: list[str], timeout: float, *options: str) -> tuple[str, bool]:
    """What HermiT prints about the ontologies up to the first inconsistent one, and whether there was one."""
    folder = Path(next(iter(_package("owlready2"))), "hermit")
    classpath = os.pathsep.join((str(folder), str(folder / "HermiT.jar")))
    command = [
        "java",
        f"-Xmx{MEGABYTES}M",
        "-XX:+UseSerialGC",
        *options,
        "-cp",
        classpath,
    ]  # serial: a third of the memory
    command += ["org.semanticweb.HermiT.cli.CommandLine", *actions]
    with tempfile.TemporaryDirectory(prefix="neurosym-") as scratch:
        for index, text in enumerate(ontologies):
            path = Path(scratch, f"{index}.nt")
            path.write_text(text, encoding="utf-8")
            command.append(path.as_uri())
        try:
            done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise Exhausted(Problem(f"HermiT gave no answer in {timeout:.0f} seconds")) from None
        except OSError as error:
            raise OntologyError(Problem(f"Java cannot be started: {error}")) from error
    errors = done.stderr.decode("utf-8", "replace")
    inconsistent = "InconsistentOntologyException" in errors
    if done.returncode and not inconsistent:
        raise _refusal(errors)
    return done.stdout.decode("utf-8", "replace"), inconsistent


def _package(name: str) -> Sequence[str]:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise OntologyError(Problem(f"the package {name}, which brings HermiT, is not installed"))
    return list(spec.submodule_search_locations)


def _refusal(errors: str) -> OntologyError:
    """HermiT's own words, with the cure where it is known."""
    found = _REFUSAL.search(errors)
    kind, reason = found.groups() if found else ("", (errors.strip().splitlines() or ["no reason given"])[0])
    reason = (reason or kind).strip().removeprefix("Error: ")
    if kind in ("OutOfMemoryError", "StackOverflowError"):
        return Exhausted(Problem(f"HermiT cannot do this ontology in {MEGABYTES} MB of memory ({kind})"))
    cure = ""
    if kind == "UnsupportedDatatypeException":
        datatype = re.search("The datatype '([^']+)'", errors)
        reason = f"it does not know the datatype {datatype[1] if datatype else reason}"
        cure = "take a datatype of OWL 2, xsd:dateTime for dates, say"
    elif "Non-simple property" in reason:
        reason = f"not OWL 2 DL: {reason.removesuffix('.')}"
        cure = "a transitive property, or one above it, is not counted, functional, asymmetric, irreflexive or disjoint"
    return OntologyError(Problem(f"HermiT refuses the ontology: {reason}", cure=cure))
