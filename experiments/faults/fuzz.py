"""``fuzz.py TARGET SECONDS FOLDER``: inputs made by atheris (libFuzzer) from what the repository holds, in FOLDER.

A reader may refuse whatever it is given, by a `NeurosymError`. Anything else that it raises is a crash, and so is what takes it
longer than ten seconds or more than 2 GB. The last line says, as JSON, how many inputs were tried and how many of them crashed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUFFIXES = (".ttl", ".rdf", ".owx", ".ofn", ".omn", ".obo", ".nt", ".jsonld")
LONGEST, MEMORY = 4096, 2048


def rules(folder: Path) -> Callable[[bytes], None]:
    """The rule grammar."""
    from neurosym.knowledge.rules import parse_rules

    def read(data: bytes) -> None:
        parse_rules(data.decode("utf-8", "replace"), "fuzzed.rules")

    return read


def ontology(folder: Path) -> Callable[[bytes], None]:
    """Every syntax of ontologies; the first byte chooses which."""
    from neurosym.knowledge.ontology import load_ontology

    def read(data: bytes) -> None:
        path = folder / f"fuzzed{SUFFIXES[data[0] % len(SUFFIXES) if data else 0]}"
        path.write_bytes(data[1:])
        load_ontology([path])

    return read


def dicom(folder: Path) -> Callable[[bytes], None]:
    """Films as they come from a clinic: header, stored values, tables and windows.

    Of compressed ones the header alone: other libraries decode them, in a process of their own that ends if they do.
    """
    from pydicom.uid import AllTransferSyntaxes

    from neurosym.data.dicom import read_dicom, read_dicom_header

    compressed = {syntax for syntax in AllTransferSyntaxes if syntax.is_compressed}

    def read(data: bytes) -> None:
        path = folder / "fuzzed.dcm"
        path.write_bytes(data)
        if read_dicom_header(path).file_meta.get("TransferSyntaxUID") not in compressed:
            read_dicom(path)

    return read


def seeds(target: str, corpus: Path) -> None:
    """What the mutations start from."""
    corpus.mkdir(parents=True, exist_ok=True)
    if target == "rules":
        lines = [line for f in sorted((ROOT / "rules").glob("*.rules")) for line in f.read_text("utf-8").splitlines()]
        for number, line in enumerate(lines):
            (corpus / f"{number:04}").write_text(line, encoding="utf-8")
    elif target == "ontology":
        for number, text in enumerate(_ontologies()):
            (corpus / f"{number:04}").write_bytes(bytes([number % len(SUFFIXES)]) + text.encode())
    else:
        from tests.data.dicom_files import written_films  # the films that the reader is tested with

        for number, film in enumerate(written_films(corpus.parent / "films")):
            (corpus / f"{number:04}").write_bytes(film.read_bytes())


def _ontologies() -> list[str]:
    """One small text in each syntax, in the order of `SUFFIXES`."""
    iri = "http://x.org/"
    rdf = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#"'
    owl = "http://www.w3.org/2002/07/owl#"
    return [
        f"@prefix owl: <{owl}> .\n@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .\n@prefix : <{iri}> .\n"
        ":A a owl:Class ; rdfs:subClassOf :B, [ a owl:Restriction ; owl:onProperty :p ; owl:someValuesFrom :C ] .\n",
        f'<rdf:RDF {rdf} xmlns:owl="{owl}"><owl:Class rdf:about="{iri}A"><rdfs:subClassOf rdf:resource="{iri}B"/>'
        "</owl:Class></rdf:RDF>",
        f'<Ontology xmlns="{owl}" ontologyIRI="{iri}o"><SubClassOf><Class IRI="{iri}A"/><Class IRI="{iri}B"/></SubClassOf>'
        "</Ontology>",
        f"Prefix(:=<{iri}>)\nOntology(<{iri}o>\nDeclaration(Class(:A))\nSubClassOf(:A ObjectSomeValuesFrom(:p :B))\n)",
        f"Prefix: : <{iri}>\nOntology: <{iri}o>\nObjectProperty: p\nClass: A\n  SubClassOf: B and (p some C)\nClass: B\n"
        "Class: C\n",
        "format-version: 1.2\nontology: x\n\n[Term]\nid: X:1\nname: a\nis_a: X:2 ! b\nrelationship: part_of X:2\n\n"
        "[Term]\nid: X:2\n",
        f"<{iri}A> <http://www.w3.org/2000/01/rdf-schema#subClassOf> <{iri}B> .\n",
        f'{{"@id": "{iri}A", "@type": "{owl}Class", "http://www.w3.org/2000/01/rdf-schema#label": "a"}}',
    ]


def fuzz(target: str, seconds: int, folder: Path) -> None:
    """Runs until the time is over, or an input crashes."""
    import atheris

    with atheris.instrument_imports(include=["neurosym", "lark", "pydicom"], enable_loader_override=False):
        read = {"rules": rules, "ontology": ontology, "dicom": dicom}[target](folder)
        from neurosym.errors import NeurosymError
    logging.disable(logging.CRITICAL)

    def once(data: bytes) -> None:
        with contextlib.suppress(NeurosymError):
            read(data)

    seeds(target, folder / "corpus")
    options = [f"-max_total_time={seconds}", "-timeout=10", f"-rss_limit_mb={MEMORY}", f"-max_len={LONGEST}"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(folder / "corpus")], once)
    atheris.Fuzz()


def main() -> None:
    """In a process of its own, which a crash ends."""
    target, seconds, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if "--inside" in sys.argv:
        fuzz(target, seconds, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "ignore", *sys.argv, "--inside"],
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
    )
    inputs = [int(n) for n in re.findall(r"^#(\d+)\s", done.stderr, re.MULTILINE)]
    crashes = sorted(p.name for p in folder.glob("*-*") if p.name.startswith(("crash", "timeout", "oom", "slow-unit")))
    if (done.returncode and not crashes) or not inputs:
        raise SystemExit(done.stderr[-3000:])
    told = done.stderr[-2000:] if crashes else ""
    print(json.dumps({"inputs": max(inputs), "crashes": len(crashes), "names": crashes, "told": told}))


if __name__ == "__main__":
    main()
