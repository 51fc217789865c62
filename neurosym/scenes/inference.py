"""Facts + knowledge → what follows, image by image, with proofs (see `neurosym.knowledge.inference`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from neurosym.errors import DataError, Problem, did_you_mean
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


def strange_facts(store: FactStore, knowledge: Knowledge, file: str) -> list[Problem]:
    """A warning for each word of the facts that no axiom and no rule can speak of: nothing follows from such facts."""
    words = _words(knowledge)
    pairs = ((f.relation, len(f.args)) for f in store.facts)
    strange = Counter(pair for pair in pairs if words and words.get(pair[0]) != pair[1])
    problems = []
    for (word, arguments), count in sorted(strange.items()):
        if word in words:
            message = f"{word!r} takes {words[word]} argument(s), but has {arguments} in {count} fact(s)"
            cure = "a class is of one object, a relation of two"
        else:
            message = f"{word!r}, of {count} fact(s), is no class or relation of the ontology"
            cure = did_you_mean(word, words, knowledge.ontology.where)
        problems.append(Problem(f"{message}, so nothing follows from them", file, cure=cure, severity="warning"))
    return problems


def why_not(asked: GroundAtom, derived: Iterable[Fact], knowledge: Knowledge) -> str:
    """What may have been meant by a fact that does not follow, in words."""
    word, args = asked
    of_it = {f"{f.relation}({', '.join(f.args)})" for f in derived if f.relation == word}
    if of_it:
        return did_you_mean(f"{word}({', '.join(map(str, args))})", of_it)
    words = _words(knowledge)
    if word in words:
        return f"nothing is known to be {word}"
    return f"{word!r} is no class or relation: {did_you_mean(word, words, knowledge.ontology.where)}"


def _words(knowledge: Knowledge) -> dict[str, int]:
    """The classes and relations of the ontology, each with its number of arguments."""
    ontology = knowledge.ontology
    return dict.fromkeys(ontology.classes, 1) | dict.fromkeys(ontology.relations, 2)
