r"""ProbLog programs (Fierens et al., TPLP 15(3), 2015): the rule language here is spelled as ProbLog is, so little changes.

`0.93::h(X) :- b(X).` means the same in both. A conjunctive head of a hard rule becomes one clause an atom, `id_1`, `id_2` …;
under a weight that would be independent coin tosses, so there it is left out, as are denials, equalities, existential heads and
counting. The inequalities that `distinct` implies are written as `X \= Y`. Metadata stands in a comment that starts with `%!`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from neurosym.errors import Problem
from neurosym.knowledge.exchange.explicit import check_order, spelled_out, terms_of, understood
from neurosym.knowledge.exchange.formats import (
    Context,
    Exported,
    Inexpressible,
    metadata_comment,
    sort_out,
    split_heads,
)
from neurosym.knowledge.rules import parse_leniently
from neurosym.logic import Atom, Comparison, Expression, Rule

# fmt: off
_OWN = frozenset((
    "atom", "atom_number", "atomic", "call", "call_in_scope", "call_nc", "callable", "check_state", "clause",
    "cmd_args", "compound", "condition", "consult", "create_scope", "dbreference", "debugprint", "error",
    "evidence", "find_scope", "float", "ground", "integer", "is_list", "length", "module", "nocache", "nonvar",
    "number", "numbervars", "once", "possible", "primitive", "probabilityX", "query", "rational", "seq",
    "set_state", "simple", "sort", "subquery", "subsumes_chk", "subsumes_term", "succ", "try_call", "unknown",
    "use_module", "var", "varnumbers", "write", "writeln", "writenl",
))
# fmt: on
"""Predicates of one or two places that mean something to ProbLog itself."""


def export(rules: tuple[Rule, ...], context: Context) -> Exported:
    """One clause a line."""

    def write(rule: Rule) -> str:
        _check(rule)
        return "".join(_clause(part, context) for part in split_heads(rule))

    written, left_out = sort_out(rules, write)
    return Exported("".join(written), left_out)


def _check(rule: Rule) -> None:
    if not rule.head:
        raise Inexpressible("ProbLog has no denials (`:- body.` is a command there)")
    if any(a.predicate == "=" for a in (*rule.head, *rule.body)):
        raise Inexpressible("ProbLog cannot say that two objects are one")
    if rule.existential:
        raise Inexpressible(f"ProbLog cannot say that there is a {rule.existential[0]}")
    if any(isinstance(c, Comparison) and c.counts for c in rule.conditions):
        raise Inexpressible("ProbLog has no counting")
    for condition in rule.conditions:
        sides = (condition.left, condition.right) if isinstance(condition, Comparison) else ()
        if (
            isinstance(condition, Comparison)
            and condition.operator == "\\="
            and any(isinstance(s, Expression) for s in sides)
        ):
            raise Inexpressible(f"`{condition}` compares a calculation by its form; write =\\=")
    check_order(rule)
    for atom in rule.atoms:
        if atom.predicate in _OWN and len(atom.args) < 3:
            raise Inexpressible(f"{atom.predicate!r} is a word of ProbLog itself")
    for name in chain((a.predicate for a in rule.atoms), (t.name for t in terms_of(rule) if not t.datatype)):
        if not name or set(name) & set("'\\\n"):
            raise Inexpressible(f"the name {name!r} cannot stand in quotes")


def _clause(rule: Rule, context: Context) -> str:
    full, is_marked = spelled_out(rule, context.measurements)
    weight = "" if rule.weight is None else f"{float(rule.weight)!r}::"
    return f"{weight}{replace(full, weight=None)}{metadata_comment(rule, is_marked)}\n"


def load(text: str, file: str, context: Context) -> tuple[tuple[Rule, ...], list[Problem]]:
    """The clauses of a ProbLog program; queries, evidence and commands are reported."""
    found, problems = parse_leniently(text, file)
    rules: list[Rule] = []
    for rule in found:
        mistakes = list(_foreign(rule))
        problems += [Problem(message, file, rule.line) for message in mistakes]
        if not mistakes:
            rules.append(understood(rule, context.measurements) if rule.distinct else rule)
    return tuple(rules), sorted(problems, key=lambda p: (p.line, p.column))


def _foreign(rule: Rule) -> Iterator[str]:
    """What our language would take for something else than ProbLog does."""
    if len(rule.head) != 1:
        yield f"found {len(rule.head)} head atoms; expected one (`:- …` is a command in ProbLog)"
    elif rule.head[0].predicate in _OWN:
        yield f"found {rule.head[0].predicate!r}, a command; expected a rule"
    if any(a.predicate == "=" for a in (*rule.head, *rule.body)):
        yield "found '=', which unifies; expected =:= to compare numbers or `is` to name a result"
    if rule.existential:
        yield f"the body does not bind {rule.existential[0]}"
    if any(isinstance(c, Comparison) and c.counts for c in rule.conditions):
        yield "found count, which ProbLog does not have"
    if any(isinstance(a, Atom) and a.predicate in _OWN for a in rule.body):
        yield "found a word of ProbLog itself in the body"
