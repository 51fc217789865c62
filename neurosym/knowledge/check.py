"""What can be wrong with rules that parse: unknown names, arity, unbound variables, duplicates, contradictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from neurosym.errors import Problem, did_you_mean
from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.rules import canonical
from neurosym.records import Atom, Rule, Term


def check_rules(rules: Iterable[Rule], ontology: Ontology) -> list[Problem]:
    """Every problem of a rule set against its ontology, in the order of the files."""
    rules = tuple(rules)
    problems = [p for rule in rules for p in (*_vocabulary(rule, ontology), *_safety(rule))]
    if not problems:  # what follows looks names up
        problems = [p for rule in rules for p in _impossible(rule, ontology)]
    return problems + list(_duplicates(rules)) + list(_contradictions(rules, ontology))


def _vocabulary(rule: Rule, ontology: Ontology) -> Iterator[Problem]:
    for atom in (*rule.head, *rule.body):
        if atom.predicate == "=":
            continue
        classes, relations = set(ontology.classes), set(ontology.relations)
        if len(atom.args) == 1 and atom.predicate not in classes:
            kind, known, other = "class", classes, relations
        elif len(atom.args) == 2 and atom.predicate not in relations:
            kind, known, other = "relation", relations, classes
        elif len(atom.args) > 2:
            yield Problem(
                f"{atom} has {len(atom.args)} arguments; expected 1 (class) or 2 (relation)", rule.file, rule.line
            )
            continue
        else:
            continue
        if atom.predicate in other:
            needed = 2 if kind == "class" else 1
            message = (
                f"{atom.predicate!r} is a {'relation' if needed == 2 else 'class'}: expected {needed} argument(s), "
            )
            yield Problem(f"{message}found {len(atom.args)}", rule.file, rule.line)
        else:
            cure = did_you_mean(atom.predicate, known, ontology.where)
            yield Problem(f"unknown {kind} {atom.predicate!r}", rule.file, rule.line, cure=cure)


def _safety(rule: Rule) -> Iterator[Problem]:
    if any(a.predicate == "=" for a in rule.body):
        yield Problem(
            "an equality may only be a head", rule.file, rule.line, cure="use the same variable twice instead"
        )
    equalities = [a for a in rule.head if a.predicate == "="]
    if equalities and len(rule.head) > 1:
        yield Problem("an equality must be the only head atom", rule.file, rule.line, cure="split the rule")
    unbound = [v for a in equalities for v in a.variables if v in rule.existential]
    head_variables = {v for a in rule.head for v in a.variables}
    if rule.body and head_variables and head_variables == set(rule.existential):
        unbound = sorted(head_variables)
    if unbound:
        names = ", ".join(map(str, unbound))
        yield Problem(
            f"unsafe rule: the body does not bind {names}", rule.file, rule.line, cure="add a body atom with it"
        )
    if not rule.body and head_variables:
        yield Problem("a fact must not have variables", rule.file, rule.line, cure="add a body")


def _impossible(rule: Rule, ontology: Ontology) -> Iterator[Problem]:
    classes: dict[Term, list[str]] = {}
    for atom in (*rule.body, *rule.head):
        if len(atom.args) == 1 and atom in rule.body:
            classes.setdefault(atom.args[0], []).append(atom.predicate)
        elif len(atom.args) == 2 and atom.args[0] == atom.args[1]:
            yield Problem(f"{atom} relates an object to itself", rule.file, rule.line, cure="use two variables")
    for variable, names in classes.items():
        for a, b in combinations(names, 2):
            if rule.head and ontology.are_disjoint(a, b):
                message = f"the rule can never fire: {variable} cannot be both {a!r} and {b!r}, which are disjoint"
                yield Problem(message, rule.file, rule.line, cure="use two variables")


def _duplicates(rules: tuple[Rule, ...]) -> Iterator[Problem]:
    by_id: dict[str, Rule] = {}
    by_form: dict[object, Rule] = {}
    for rule in rules:
        first = by_form.setdefault(canonical(rule), rule)
        if first is not rule:
            place = f"{first.file}:{first.line}"
            yield Problem(f"the rule says the same as {place}", rule.file, rule.line, cure="keep one")
        if rule.meta.get("id"):
            first = by_id.setdefault(rule.meta["id"], rule)
            if first is not rule:
                message = f"id {rule.id!r} is used before in {first.file}:{first.line}"
                yield Problem(message, rule.file, rule.line, cure="give each rule its own id")


def _contradictions(rules: tuple[Rule, ...], ontology: Ontology) -> Iterator[Problem]:
    """Pairs of rules that cannot both hold where their bodies do.

    Found are: a rule whose head and body a denial forbids, and two rules that order the same classes both ways round by an
    asymmetric word. Each pair is minimal by construction. A weighted rule contradicts nothing that allows exceptions.
    """
    hard = [r for r in rules if r.weight is None and not r.existential]
    denials = {canonical(r): r for r in hard if not r.head}
    denials_by_atoms = {key[1]: r for key, r in denials.items()}
    orders: dict[object, Rule] = {}
    for rule in hard:
        for head in rule.head:
            forbidden = denials_by_atoms.get(canonical(Rule((), (*rule.body, head)))[1])
            if forbidden is not None:
                message = f"contradicts the denial in {forbidden.file}:{forbidden.line}"
                yield Problem(message, rule.file, rule.line, cure="weaken one by a weight, or remove it")
            if len(set(head.args)) != 2 or head.predicate not in ontology.relations:
                continue
            word = ontology.relations[head.predicate].predicate
            if word not in {*_OPPOSITE, *_OPPOSITE.values()}:
                continue
            forward, backward = Atom(word, head.args), Atom(word, head.args[::-1])
            if word in _OPPOSITE.values():
                plain = next(w for w, o in _OPPOSITE.items() if o == word)
                forward, backward = Atom(plain, head.args[::-1]), Atom(plain, head.args)
            orders[canonical(Rule((forward,), rule.body))] = rule
            other = orders.get(canonical(Rule((backward,), rule.body)))
            if other is not None:
                which = "it does itself" if other is rule else f"{other.file}:{other.line}"
                message = f"orders the same objects the other way round than {which}"
                yield Problem(
                    message, rule.file, rule.line, cure="tell the objects apart by their classes, or keep one"
                )


_OPPOSITE = {"left_of": "right_of", "above": "below", "larger_than": "smaller_than"}
