"""Facts + knowledge → what follows, image by image, with proofs (see `neurosym.knowledge.inference`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from neurosym.errors import DataError, Problem
from neurosym.knowledge import Knowledge
from neurosym.knowledge.inference import GroundAtom, Inference, Program
from neurosym.knowledge.relations import Text, Value, value_of
from neurosym.knowledge.rules import parse_rules
from neurosym.records import Fact, FactStore


def infer_scenes(store: FactStore, knowledge: Knowledge, min_weight: float = 1.0) -> Iterator[tuple[str, Inference]]:
    """What the hard rules, and those of at least `min_weight`, entail on each scene ("" for a general graph).

    Raises:
        DataError: a measurement's value is not of its type.
    """
    used = [r for r in knowledge.entailments if r.weight is None or r.weight >= min_weight]
    program = Program(used, knowledge.ontology.measurements)
    types = {name: r.datatype for name, r in knowledge.ontology.relations.items() if r.datatype}
    scenes: dict[str, list[GroundAtom]] = {}
    for fact in store.facts:
        scenes.setdefault(fact.scene, []).append((fact.relation, _values(fact, types)))
    for scene, facts in scenes.items():
        yield scene, program.run(facts)


def _values(fact: Fact, types: Mapping[str, str]) -> tuple[Value, ...]:
    datatype = types.get(fact.relation, "")
    if datatype == "string":
        return (*fact.args[:-1], Text(fact.args[-1]))
    if datatype not in ("integer", "decimal"):
        return fact.args
    try:
        return (*fact.args[:-1], int(fact.args[-1]) if datatype == "integer" else float(fact.args[-1]))
    except ValueError as error:
        arguments = ", ".join(fact.args)
        raise DataError(Problem(f"fact {fact.relation}({arguments}) has no {datatype} as its value")) from error


def ground_atom(text: str) -> GroundAtom:
    """`left_of(a, b)` as a fact to ask for.

    Raises:
        DataError: not one atom without variables.
    """
    rules = parse_rules(f"{text.strip().removesuffix('.')}.")
    if len(rules) != 1 or len(rules[0].head) != 1 or rules[0].body or rules[0].head[0].variables:
        raise DataError(Problem(f"{text!r} is not one fact", cure="write it like left_of(heart_1, lung_2)"))
    atom = rules[0].head[0]
    return atom.predicate, tuple(map(value_of, atom.args))
