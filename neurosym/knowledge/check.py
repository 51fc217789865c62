"""What can be wrong with rules that parse: one rule at a time here, rules together in `redundancy` and `consistency`.

Names, number of arguments and types against the ontology; safety (every variable of a head, a negation or a comparison gets a
value in the body); bodies that no value can satisfy; duplicates; non-stratified negation; wardedness.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from neurosym.errors import NeurosymError, Problem, did_you_mean
from neurosym.knowledge.consistency import conflicts
from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.redundancy import duplicates, subsumed
from neurosym.knowledge.statements import ACTIVE
from neurosym.knowledge.strata import stratify
from neurosym.knowledge.warded import unwarded
from neurosym.logic import Atom, Comparison, Count, Expression, Negation, Rule, Term, variables_of

NUMERIC = frozenset({"integer", "decimal"})


def check_rules(rules: Iterable[Rule], ontology: Ontology | None) -> list[Problem]:
    """Every problem of a rule set, in the order of the files; without an ontology the names are taken as they are.

    Candidate and rejected rules are held against the vocabulary, but not against the other rules.
    """
    rules = tuple(rules)
    active = tuple(r for r in rules if r.meta.get("status", "") in ACTIVE)
    problems = [p for rule in rules for p in _single(rule, ontology)]
    problems += duplicates(rules)
    if any(p.severity == "error" for p in problems):
        return problems  # what follows looks names up
    axioms = () if ontology is None else ontology.rules
    try:
        if any(r.conditions for r in active):
            stratify((*active, *(() if ontology is None else ontology.theory)))
    except NeurosymError as error:
        return problems + list(error.problems)
    return problems + [*subsumed(active), *unwarded(active, axioms), *conflicts(active, ontology)]


def _single(rule: Rule, ontology: Ontology | None) -> Iterator[Problem]:
    yield from _arity(rule)
    if ontology is not None:
        yield from _vocabulary(rule, ontology)
        yield from _types(rule, ontology)
    yield from _safety(rule, ontology)
    yield from _small_letters(rule)
    yield from _impossible(rule)


def _problem(rule: Rule, message: str, cure: str = "", severity: str = "error") -> Problem:
    return Problem(message, rule.file, rule.line, cure=cure, severity=severity)


def _arity(rule: Rule) -> Iterator[Problem]:
    for atom in rule.atoms:
        if len(atom.args) > 2:
            yield _problem(rule, f"{atom} has {len(atom.args)} arguments; expected 1 (class) or 2 (relation)")


def _vocabulary(rule: Rule, ontology: Ontology) -> Iterator[Problem]:
    for atom in rule.atoms:
        if atom.predicate == "=" or len(atom.args) > 2:
            continue
        classes, relations = ontology.classes, ontology.relations
        if len(atom.args) == 1 and atom.predicate not in classes:
            kind, known, other = "class", set(classes), set(relations)
        elif len(atom.args) == 2 and atom.predicate not in relations:
            kind, known, other = "relation", set(relations), set(classes)
        else:
            continue
        if atom.predicate in other:
            needed = 2 if kind == "class" else 1
            message = (
                f"{atom.predicate!r} is a {'relation' if needed == 2 else 'class'}: expected {needed} argument(s), "
            )
            yield _problem(rule, f"{message}found {len(atom.args)}")
        else:
            cure = did_you_mean(atom.predicate, known, ontology.where)
            yield _problem(rule, f"unknown {kind} {atom.predicate!r}", cure)


def _types(rule: Rule, ontology: Ontology) -> Iterator[Problem]:
    """Objects where objects belong, and values of the right kind where a measurement has its value."""
    objects: dict[Term, Atom] = {}
    values: dict[Term, str] = dict.fromkeys(rule.measured, "a comparison")
    for atom in rule.atoms:
        relation = ontology.relations.get(atom.predicate) if len(atom.args) == 2 else None
        datatype = relation.datatype if relation is not None else ""
        if len(atom.args) == 2 and datatype:
            if atom.args[1].is_variable:
                values.setdefault(atom.args[1], f"{atom}")
            elif not _fits(atom.args[1], datatype):
                yield _problem(rule, f"{atom.predicate!r} has values of type {datatype}; found {atom.args[1]}")
        for place in atom.args[:1] if datatype else atom.args:
            if place.is_variable:
                objects.setdefault(place, atom)
            elif place.datatype and atom.predicate != "=":
                yield _problem(
                    rule, f"{atom} needs an object where {place} stands", "name a measurement, or a variable"
                )
    for variable in sorted(objects.keys() & values.keys()):
        message = f"{variable} is an object in {objects[variable]} and a value in {values[variable]}"
        yield _problem(rule, message, "use two variables")


def _fits(term: Term, datatype: str) -> bool:
    if datatype == "boolean":
        return term.name in ("true", "false")
    return term.datatype == datatype or (datatype == "decimal" and term.datatype == "integer")


def _safety(rule: Rule, ontology: Ontology | None) -> Iterator[Problem]:
    if any(a.predicate == "=" for a in rule.body):
        yield _problem(rule, "an equality may only be a head", "use the same variable twice instead")
    equalities = [a for a in rule.head if a.predicate == "="]
    if equalities and len(rule.head) > 1:
        yield _problem(rule, "an equality must be the only head atom", "split the rule")
    unbound = [v for a in equalities for v in a.variables if v in rule.existential]
    head_variables = {v for a in rule.head for v in a.variables}
    has_body = bool(rule.body or rule.conditions)
    if has_body and head_variables and head_variables == set(rule.existential) and not _of_the_film(rule, ontology):
        unbound = sorted(head_variables)
    if unbound:
        names = ", ".join(map(str, dict.fromkeys(unbound)))
        yield _problem(rule, f"unsafe rule: the body does not bind {names}", "add a body atom with it")
    if not has_body and head_variables:
        yield _problem(rule, "a fact must not have variables", "add a body")
    if rule.conditions:
        yield from _unbound_conditions(rule)


def _small_letters(rule: Rule) -> Iterator[Problem]:
    """Constants that look like variables: of a variable's letters, or all that a rule has."""
    variables = {v.name.lower(): v.name for a in rule.atoms for v in a.variables}
    constants = {t.name: t for a in rule.atoms for t in a.args if not t.is_variable and not t.datatype}
    small = [name for name in constants if name[:1].islower() and str(constants[name]) == name]
    meant = [name for name in small if name.lower() in variables]
    why = "variables begin with a capital letter"
    for name in meant:
        yield _problem(rule, f"{name} is a constant: {why}", f"write {variables[name.lower()]}", "warning")
    if rule.body and small and not variables:
        cure = f"write {', '.join(n.capitalize() for n in small)} if they are variables"
        yield _problem(rule, f"the rule has no variables: {why}", cure, "warning")


def _of_the_film(rule: Rule, ontology: Ontology | None) -> bool:
    """Whether the body is labels of the film as a whole, from which it may follow that something is on it."""
    if ontology is None or rule.conditions:
        return False
    known = (a.predicate for a in rule.body)
    return bool(rule.body) and all(p in ontology.classes and ontology.is_a(p, "study") for p in known)


def _unbound_conditions(rule: Rule) -> Iterator[Problem]:
    """Variables that a condition tests and nothing binds; those of a negation or a count may be local if named `_…`."""
    bound = {v for atom in rule.body for v in atom.variables}
    waiting = [c for c in rule.conditions if isinstance(c, Comparison) and c.operator == "is"]
    while ready := [c for c in waiting if _needs(c.right) <= bound]:
        bound |= {v for c in ready for v in variables_of(c.left)}
        waiting = [c for c in waiting if c not in ready]
    for condition in rule.conditions:
        if isinstance(condition, Negation):
            loose = {v for v in condition.variables if v not in bound and not v.name.startswith("_")}
            cure = "add a body atom with it, or name it _{} if any value will do"
        else:
            target = set(variables_of(condition.left)) if condition.operator == "is" else set()
            needed = (_needs(condition.left) - target) | _needs(condition.right)
            loose = needed - bound
            cure = "add a body atom with it"
        for v in sorted(loose):
            yield _problem(rule, f"unsafe rule: nothing binds {v} of {condition}", cure.format(v))
        if not isinstance(condition, Negation):
            for count in condition.counts:
                inner = bound | {v for atom in count.body for v in atom.variables}
                for v in sorted({v for v in count.variables if v not in inner and not v.name.startswith("_")}):
                    yield _problem(
                        rule, f"unsafe rule: nothing binds {v} of {count}", "add an atom with it to the count"
                    )


def _needs(operand: object) -> set[Term]:
    """The variables of a side that must be bound outside of it: those of a count are its own."""
    if isinstance(operand, Count):
        return set()
    if isinstance(operand, Expression):
        return {v for inner in operand.operands for v in _needs(inner)}
    return {operand} if isinstance(operand, Term) and operand.is_variable else set()


def _impossible(rule: Rule) -> Iterator[Problem]:
    for atom in (*rule.body, *rule.head):
        if rule.distinct and len(atom.args) == 2 and atom.args[0] == atom.args[1] and atom.args[0].is_variable:
            yield _problem(rule, f"{atom} relates an object to itself", "use two variables")
    negated = {c.atom for c in rule.conditions if isinstance(c, Negation)}
    for atom in rule.body:
        if atom in negated:
            yield _problem(
                rule, rf"the rule can never fire: it asks for {atom} and for \+ {atom}", "remove one of them"
            )
    yield from _empty_ranges(rule)


def _empty_ranges(rule: Rule) -> Iterator[Problem]:
    """Comparisons of one thing with numbers that leave no number over."""
    lowest: dict[str, tuple[float, bool, Comparison]] = {}
    highest: dict[str, tuple[float, bool, Comparison]] = {}
    for condition in rule.conditions:
        if not isinstance(condition, Comparison):
            continue
        for side, other, flipped in (
            (condition.left, condition.right, False),
            (condition.right, condition.left, True),
        ):
            if not (isinstance(other, Term) and other.datatype in NUMERIC):
                continue
            value, key, operator = float(other.value), str(side), condition.operator
            up, down = ("<", "=<") if flipped else (">", ">=")
            if operator in (up, down, "=:="):
                bound = (value, operator == up, condition)
                lowest[key] = max(lowest.get(key, bound), bound, key=lambda b: b[:2])
            up, down = (">", ">=") if flipped else ("<", "=<")
            if operator in (up, down, "=:="):
                bound = (value, operator == up, condition)
                highest[key] = min(highest.get(key, bound), bound, key=lambda b: (b[0], not b[1]))
    for key, (low, open_low, first) in lowest.items():
        if key in highest:
            high, open_high, second = highest[key]
            if low > high or (low == high and (open_low or open_high)):
                yield _problem(
                    rule, f"the rule can never fire: no number is both {first} and {second}", "correct one of them"
                )
