"""A rule as an English sentence, from the labels of the ontology, and what each of its variables stands for.

"If N is a nodule and N is not an artefact, then in 93% of the cases there is L such that N is inside L and L is a lung."
"""

from __future__ import annotations

from neurosym.knowledge.ontology import Ontology
from neurosym.logic import Atom, Condition, Count, Negation, Operand, Rule, Term


def reading(rule: Rule, ontology: Ontology | None) -> str:
    """The sentence; names that the ontology lacks are read as they are written."""
    body = _listed([_phrase(part, ontology) for part in (*rule.body, *rule.conditions)])
    head = _listed([_phrase(atom, ontology) for atom in rule.head])
    share = "" if rule.weight is None else f"in {rule.weight * 100:.3g}% of the cases "
    if not rule.head:
        return f"Never: {body}." if rule.weight is None else f"In {rule.weight * 100:.3g}% of the cases not: {body}."
    if rule.existential and body:
        there = "there is" if len(rule.existential) == 1 else "there are"
        head = f"{there} {_listed([str(v) for v in rule.existential])} such that {head}"
    sentence = f"If {body}, then {share}{head}." if body else f"{share}{head}."
    return sentence[0].upper() + sentence[1:] if share and not body else sentence


def variables(rule: Rule, ontology: Ontology | None) -> list[str]:
    """A line for each variable: its classes, and whether it is a value, or an object that must exist."""
    classes: dict[Term, list[str]] = {}
    for atom in (*rule.body, *rule.head):
        if len(atom.args) == 1 and atom.args[0].is_variable:
            classes.setdefault(atom.args[0], []).append(_label(atom.predicate, ontology))
    lines = []
    for variable in dict.fromkeys(v for part in (*rule.body, *rule.head) for v in part.variables):
        kind = "a value" if variable in rule.measured else "an object"
        if variable in rule.existential:
            kind = "an object that must exist"
        named = ", ".join(dict.fromkeys(classes.get(variable, ())))
        lines.append(f"{variable}: {kind} ({named})" if named else f"{variable}: {kind}")
    return lines


def _phrase(part: Atom | Condition, ontology: Ontology | None, negated: bool = False) -> str:
    no = "not " if negated else ""
    if isinstance(part, Negation):
        return _phrase(part.atom, ontology, negated=True)
    if not isinstance(part, Atom):
        return f"{_operand(part.left, ontology)} {part.operator} {_operand(part.right, ontology)}"
    args = [str(t) for t in part.args]
    if part.predicate == "=":
        return f"{args[0]} and {args[1]} are the same object"
    label = _label(part.predicate, ontology)
    if len(args) == 1:
        return f"{args[0]} is {no}{_article(label)} {label}"
    if len(args) != 2:
        return f"{no}{part}"
    if label.split(" ")[0].endswith("s"):  # a verb: "encloses", "has part"
        return f"it is not so that {args[0]} {label} {args[1]}" if negated else f"{args[0]} {label} {args[1]}"
    return f"{args[0]} is {no}{label} {args[1]}"


def _operand(operand: Operand, ontology: Ontology | None) -> str:
    if not isinstance(operand, Count):
        return str(operand)
    what = _listed([_phrase(part, ontology) for part in (*operand.body, *operand.conditions)])
    return f"the number of {', '.join(map(str, operand.terms))} such that {what}"


def _label(name: str, ontology: Ontology | None) -> str:
    if ontology is not None:
        known = ontology.classes.get(name) or ontology.relations.get(name)
        if known is not None and known.label.strip():
            return known.label
    return name.replace("_", " ")


def _listed(parts: list[str]) -> str:
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else "".join(parts)


def _article(word: str) -> str:
    return "an" if word[:1].lower() in tuple("aeiou") else "a"
