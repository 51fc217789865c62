"""AnyBURL's rule files (AnyBURL 23; Meilicke et al., "Anytime bottom-up rule learning", IJCAI 2019): one rule a line.

    predictions TAB correct predictions TAB confidence TAB head(X,Y) <= b(X,A), c(A,Y)

X, Y and A to W are variables; any other argument is an entity, a relation is any text without a bracket. AnyBURL reads a rule
under object identity: no two variables, and no variable and entity of a rule, stand for one thing. So a rule is `distinct`,
and one with entities gets an `X \\= entity` for each of them. Negation, comparisons, weights without counts and classes have
no place in the file.
"""

from __future__ import annotations

import re
from itertools import product

from neurosym.errors import Problem
from neurosym.knowledge.exchange.explicit import differ
from neurosym.knowledge.exchange.formats import Context, Exported, Inexpressible, sort_out
from neurosym.logic import Atom, Comparison, Rule, Term

_VARIABLE = re.compile(r"[A-Z]\Z")
_FORBIDDEN = re.compile(r"[\t\n\r(),]|<=|^\s|\s$|^$")
_REFLEXIVE = "me_myself_i"


def export(rules: tuple[Rule, ...], context: Context) -> Exported:
    """One line a rule; names stay as they are."""
    written, left_out = sort_out(rules, _line)
    return Exported("".join(f"{line}\n" for line in written), left_out)


def _line(rule: Rule) -> str:
    if rule.weight is None:
        raise Inexpressible("AnyBURL rules have a confidence; this one is hard")
    counts = (rule.meta.get("body_size", ""), rule.meta.get("support", ""))
    if not all(re.fullmatch(r"\d+", count, re.ASCII) for count in counts):
        raise Inexpressible("AnyBURL rules have counts: body_size and support are not in the metadata")
    if unknown := sorted(set(rule.meta) - {"body_size", "support"}):
        raise Inexpressible(f"AnyBURL has no place for the metadata {', '.join(unknown)}")
    if len(rule.head) != 1 or rule.existential or not rule.body:
        raise Inexpressible("AnyBURL rules have one head atom, whose variables the body binds")
    if not rule.distinct:
        raise Inexpressible("in AnyBURL different variables are different things; this rule has distinct=no")
    if tuple(rule.conditions) != apart(rule):
        raise Inexpressible(
            "AnyBURL keeps every variable apart from every entity of a rule, and knows no other condition"
        )
    body = ", ".join(map(_written, rule.body))
    return f"{counts[0]}\t{counts[1]}\t{rule.weight!r}\t{_written(rule.head[0])} <= {body}"


def apart(rule: Rule) -> tuple[Comparison, ...]:
    """The inequalities of variables and entities that object identity implies."""
    terms = dict.fromkeys(t for atom in (*rule.head, *rule.body) for t in atom.args)
    variables, entities = ([t for t in terms if t.is_variable == wanted] for wanted in (True, False))
    return tuple(differ(v, e) for v, e in product(variables, entities))


def _written(atom: Atom) -> str:
    if len(atom.args) != 2 or atom.predicate == "=":
        raise Inexpressible(f"{atom}: AnyBURL knows relations of two things only")
    for name in (atom.predicate, *(t.name for t in atom.args)):
        if _FORBIDDEN.search(name):
            raise Inexpressible(f"the name {name!r} holds what separates names in AnyBURL")
    for term in atom.args:
        if term.datatype:
            raise Inexpressible(f"{term} is a value; AnyBURL knows entities only")
        if term.is_variable != bool(_VARIABLE.match(term.name)) or term.name == _REFLEXIVE:
            raise Inexpressible(
                f"AnyBURL's variables are single capital letters; {term} would be taken for something else"
            )
    return f"{atom.predicate}({atom.args[0].name},{atom.args[1].name})"


def load(text: str, file: str, context: Context) -> tuple[tuple[Rule, ...], list[Problem]]:
    """Every line that is a rule; of the others, what is wrong with each."""
    rules: list[Rule] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rules.append(_rule(line.rstrip("\r"), file, number, context))
            except Inexpressible as reason:
                problems.append(Problem(str(reason), file, number))
    return tuple(rules), problems


def _rule(line: str, file: str, number: int, context: Context) -> Rule:
    fields = line.split("\t")
    if len(fields) != 4:
        raise Inexpressible(
            f"found {len(fields)} fields; expected 4, separated by tabs: predictions, correct, confidence, rule"
        )
    body_size, support, confidence, text = fields
    for name, count in (("predictions", body_size), ("correct predictions", support)):
        if not re.fullmatch(r"\d{1,18}", count, re.ASCII):
            raise Inexpressible(f"found {count!r:.40} for the number of {name}; expected a whole number")
    if int(support) > int(body_size):
        raise Inexpressible(f"found {support} correct predictions of {body_size}")
    weight = _confidence(confidence)
    head, arrow, body = text.partition(" <= ")
    if not arrow and not text.endswith(" <="):
        raise Inexpressible(f"found no ' <= ' in {text!r}")
    if _REFLEXIVE in text:
        raise Inexpressible(f"{_REFLEXIVE} stands for a relation of a thing to itself, which rules here do not have")
    if not body.strip():
        raise Inexpressible("the rule has no body; it says only how often its head holds")
    atoms = [_atom(part, context) for part in (head.removesuffix(" <="), *_split(body))]
    rule = Rule((atoms[0],), tuple(atoms[1:]), weight, {"support": support, "body_size": body_size}, file, number)
    if rule.existential:
        raise Inexpressible(f"the body does not bind {rule.existential[0]}")
    return Rule(rule.head, rule.body, weight, rule.meta, file, number, apart(rule))


def _confidence(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0.0 < weight <= 1.0:
        raise Inexpressible(f"found {text!r} for the confidence; expected a number above 0, at most 1")
    return weight


def _split(body: str) -> list[str]:
    """The atoms: they are cut behind a closing bracket, where a comma and a blank follow."""
    return re.split(r"(?<=\)), ", body.strip())


def _atom(text: str, context: Context) -> Atom:
    found = re.fullmatch(r"(?P<name>[^(),]+)\((?P<first>[^(),]+),(?P<last>[^(),]+)\)", text.strip())
    if found is None:
        cure = "names with a bracket or a comma cannot be told apart in this format"
        raise Inexpressible(f"found {text!r}; expected relation(X,Y); {cure}")
    terms = (Term(t) if _VARIABLE.match(t) else Term(t, False) for t in (found["first"], found["last"]))
    name = found["name"]
    return Atom(context.names.get(name.strip("<>"), name), tuple(terms))
