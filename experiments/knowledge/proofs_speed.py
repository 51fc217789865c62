"""How fast inference is: a random knowledge graph of a million facts, 50 rules of every kind, a thousand proof trees.

``python experiments/knowledge/proofs_speed.py`` prints what `measure` returns. To measure memory it needs a process of its own,
because the largest memory use of a process never goes down again.
"""

from __future__ import annotations

import json
import random
import resource
import time
from collections.abc import Iterator

from neurosym.knowledge.inference import GroundAtom, Program
from neurosym.knowledge.rules import parse_rules
from neurosym.logic import Rule

FACTS = 1_000_000
PROOFS = 1000
CLASSES, RELATIONS = 20, 20
MEASUREMENTS = ("diameter", "density", "score")

_HIERARCHY = [(child, (child - 1) // 3) for child in range(1, CLASSES)]  # a tree, three children each
_RULES = r"""
% properties: domains, ranges, sub-properties, inverses
c1(X) :- r1(X, _).
c2(Y) :- r1(_, Y).
c4(X) :- r2(X, _).
near(X, Y) :- r3(X, Y).
near(X, Y) :- r4(X, Y).
near(Y, X) :- r5(X, Y).
has_part(Y, X) :- part_of(X, Y).
part_of(X, Y) :- r0(X, Y).
% recursion over a sparse relation
within(X, Y) :- part_of(X, Y).
within(X, Z) :- within(X, Y), part_of(Y, Z).
% joins
linked(X, Z) :- r6(X, Y), r7(Y, Z).
linked(X, Y) :- r8(X, Y), c5(X), c6(Y).
triangle(X, Y, Z) :- r9(X, Y), r10(Y, Z), r11(X, Z).
shared(X, Y) :- r12(X, Z), r12(Y, Z).
member(X, Y) :- within(X, Y), c1(Y).
% comparison and arithmetic
large(X) :- diameter(X, D), D > 30.
dense(X) :- c2(X), density(X, D), D >= 0.8.
heavy(X) :- diameter(X, D), density(X, E), M is D * D * D * E, M > 20000.
sure(X) :- score(X, S), abs(S - 0.5) > 0.4.
larger(X, Y) :- r13(X, Y), diameter(X, D), diameter(Y, E), D > E + 5.
% negation
small(X) :- c3(X), \+ large(X).
isolated(X) :- c4(X), \+ near(X, _), \+ near(_, X).
whole(X) :- c0(X), \+ part_of(X, _).
% counting
crowded(X) :- c1(X), count{Y : near(X, Y)} >= 4.
rich(X) :- whole(X), count{Y : has_part(X, Y), large(Y)} >= 1.
% existential
inside(X, L), region(L) :- dense(X), \+ within(X, _).
% denials
:- c7(X), c8(X), c9(X).
:- large(X), small(X).
:- within(X, X).
:- larger(X, Y), larger(Y, X).
:- crowded(X), isolated(X).
"""


def rules() -> tuple[Rule, ...]:
    """Fifty rules."""
    hierarchy = "".join(f"c{parent}(X) :- c{child}(X).\n" for child, parent in _HIERARCHY)
    return parse_rules(hierarchy + _RULES, "proofs_speed.rules")


def graph(size: int = FACTS, seed: int = 0) -> Iterator[GroundAtom]:
    """Random facts: 30% classes, 15% measurements, the rest relations; `r0` is a forest, the others are random."""
    source = random.Random(seed)
    things = [f"x{i}" for i in range(size // 5)]
    measured = size * 15 // 100 // len(MEASUREMENTS)
    classified = size * 30 // 100 // CLASSES
    related = (size - measured * len(MEASUREMENTS) - classified * CLASSES) // RELATIONS
    for number in range(CLASSES):
        for thing in source.sample(things, classified):
            yield f"c{number}", (thing,)
    for name, scale in zip(MEASUREMENTS, (50.0, 1.0, 1.0), strict=True):
        for thing in source.sample(things, measured):
            yield name, (thing, round(source.random() * scale, 3))
    for child in source.sample(range(1, len(things)), related):  # a parent comes before its children: no cycles
        yield "r0", (things[child], things[source.randrange(child)])
    for number in range(1, RELATIONS):
        seen: set[tuple[str, str]] = set()
        while len(seen) < related:
            pair = source.choice(things), source.choice(things)
            if pair not in seen:
                seen.add(pair)
                yield f"r{number}", pair


def measure(size: int = FACTS) -> dict[str, float]:
    """Seconds for compiling the rules, inferring everything and writing proofs; counts; the process's memory in GB."""
    facts, known = list(graph(size)), rules()
    start = time.perf_counter()
    program = Program(known, frozenset(MEASUREMENTS))
    inference = program.run(facts)
    inferred = time.perf_counter()
    conclusions = list(inference.conclusions())
    chosen = random.Random(1).sample(conclusions, min(PROOFS, len(conclusions)))
    picked = time.perf_counter()
    text = [str(inference.proof(atom)) for atom in chosen]
    done = time.perf_counter()
    return {
        "facts": len(facts),
        "rules": len(known),
        "derived": inference.derived,
        "clashes": len(inference.clashes),
        "proofs": len(text),
        "inference_seconds": inferred - start,
        "proof_seconds": done - picked,
        "seconds": inferred - start + done - picked,
        "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


if __name__ == "__main__":
    print(json.dumps(measure()))
