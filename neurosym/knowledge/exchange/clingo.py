r"""clingo programs (Potassco User Guide 2.2.0; ASP-Core-2): rules as integer-only, hard Datalog with stable negation.

    left_of(R,H) :- right_lung(R), heart(H), R != H.  %! weight=0.98 id=right_lung_left_of_heart

clingo takes a weighted rule for a hard one: the weight is kept in the comment only. `=:=` is `=`, `is` is `=` too (the first to
name its variable), `\=` is `!=`; `A =\= B` between plain terms is `not A = B`, so that the two can be told apart. A name of an
individual that clingo cannot spell is `symbol("Left lung")`. Decimals and division stay out, for clingo counts in integers.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from neurosym.errors import Problem
from neurosym.knowledge.exchange.explicit import binds, check_order, spelled_out, terms_of, understood
from neurosym.knowledge.exchange.formats import (
    Context,
    Exported,
    Inexpressible,
    metadata_comment,
    sort_out,
    split_heads,
)
from neurosym.knowledge.statements import Statement, split
from neurosym.logic import Atom, Comparison, Condition, Count, Expression, Negation, Operand, Rule, Term, number

_NAME = re.compile(r"[a-z][A-Za-z0-9_]*\Z")
_VARIABLE = re.compile(r"_*[A-Z][A-Za-z0-9_]*\Z|_\Z")
_SPELLED = {"=<": "<=", "=:=": "=", "=\\=": "!=", "\\=": "!=", "is": "="}
_READ = {"<=": "=<", "==": "="}
_LARGEST = 2**31 - 1
_MOST_BRACKETS, _MOST_OPERATORS = 40, 100


def export(rules: tuple[Rule, ...], context: Context) -> Exported:
    """One rule a line."""

    def write(rule: Rule) -> str:
        _check(rule)
        return "".join(_statement(part, context) for part in split_heads(rule))

    written, left_out = sort_out(rules, write)
    return Exported("".join(written), left_out)


def _check(rule: Rule) -> None:
    if rule.existential:
        raise Inexpressible(f"clingo cannot say that there is a {rule.existential[0]}")
    if len(rule.head) > 1 and any(a.predicate == "=" for a in rule.head):
        raise Inexpressible("an equality beside other heads")
    check_order(rule)
    for atom in rule.atoms:
        if atom.predicate == "=" and atom not in rule.head:
            raise Inexpressible("an equality in the body; use one variable twice instead")
        if atom.predicate != "=" and (not _NAME.match(atom.predicate) or atom.predicate == "not"):
            raise Inexpressible(f"clingo cannot spell the name {atom.predicate!r}")
    local = {v for c in rule.conditions if isinstance(c, Negation) for v in c.variables} - rule.bound
    if loose := sorted(v for v in local if v.name != "_"):
        raise Inexpressible(f"nothing binds {loose[0]} of a negation; clingo wants it named _")
    for term in terms_of(rule):
        if term.is_variable and not _VARIABLE.match(term.name):
            raise Inexpressible(f"clingo would take the variable {term} for a name")


def _statement(rule: Rule, context: Context) -> str:
    full, is_marked = spelled_out(rule, context.measurements)
    head = "".join(map(_atom, full.head))
    body = ", ".join((*map(_atom, full.body), *map(_condition, full.conditions)))
    joined = " :- ".join((head, body)).lstrip() if body else head
    return f"{joined}.{metadata_comment(rule, is_marked, rule.weight)}\n"


def _atom(atom: Atom) -> str:
    if atom.predicate == "=":
        return f"{_term(atom.args[0])} = {_term(atom.args[1])}"
    return f"{atom.predicate}({','.join(map(_term, atom.args))})"


def _term(term: Term) -> str:
    if term.is_variable:
        return term.name
    if term.datatype == "decimal":
        raise Inexpressible(f"clingo knows integers only, not {term}")
    if term.datatype == "integer":
        if abs(int(term.name)) > _LARGEST:
            raise Inexpressible(f"{term} is too large for clingo")
        return term.name
    if not term.datatype and _NAME.match(term.name) and term.name != "not":
        return term.name
    if "\x00" in term.name:
        raise Inexpressible("clingo's texts cannot hold a zero byte")
    text = term.name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"' if term.datatype else f'symbol("{text}")'


def _condition(condition: Condition) -> str:
    if isinstance(condition, Negation):
        return f"not {_atom(condition.atom)}"
    left, right = condition.left, condition.right
    has_plain_sides = isinstance(left, Term) and isinstance(right, Term)
    if condition.operator == "\\=" and not has_plain_sides:
        raise Inexpressible(f"`{condition}` compares a calculation by its form; write =\\=")
    if isinstance(left, Count) and isinstance(right, Count):
        raise Inexpressible("clingo cannot compare two counts; name one with `is`")
    if condition.operator == "=\\=" and has_plain_sides:
        return f"not {_operand(left)} = {_operand(right)}"
    return f"{_operand(left)} {_SPELLED.get(condition.operator, condition.operator)} {_operand(right)}"


def _operand(operand: Operand) -> str:
    if isinstance(operand, Term):
        return _term(operand)
    if isinstance(operand, Count):
        inner = ", ".join((*map(_atom, operand.body), *map(_condition, operand.conditions)))
        return f"#count{{ {','.join(map(_term, operand.terms))} : {inner} }}"
    if operand.operator == "/":
        raise Inexpressible("clingo's division drops the remainder")
    if operand.operator in ("min", "max"):
        raise Inexpressible(f"clingo has no {operand.operator} of two numbers")
    if any(isinstance(o, Count) for o in operand.operands):
        raise Inexpressible("clingo cannot compute with a count; name it with `is` first")
    if operand.operator == "abs":
        return f"|{_operand(operand.operands[0])}|"
    if len(operand.operands) == 1:
        return f"-({_operand(operand.operands[0])})"
    left, right = (f"({_operand(o)})" if _is_sum(o) else _operand(o) for o in operand.operands)
    return f"{left} {operand.operator} {right}"


def _is_sum(operand: Operand) -> bool:
    return isinstance(operand, Expression) and operand.operator != "abs"


def load(text: str, file: str, context: Context) -> tuple[tuple[Rule, ...], list[Problem]]:
    """The rules of a clingo program; choices, disjunctions, directives and whatever else it has are reported."""
    rules: list[Rule] = []
    problems: list[Problem] = []
    for statement in split(text, file):
        if isinstance(statement, Statement):
            problems += statement.problems
            try:
                rules.append(_rule(statement, file, context))
            except UnexpectedInput as error:
                problems.append(_syntax_problem(error, statement, file))
            except Inexpressible as reason:
                problems.append(Problem(str(reason), file, statement.line))
    return tuple(rules), problems


@cache
def _grammar() -> Lark:
    text = Path(__file__).with_name("clingo.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", maybe_placeholders=True)


def _check_size(text: str) -> None:
    """Refuse what would nest too deeply to be worked with."""
    plain = re.sub(r'"([^"\\\n]|\\.)*"', "", text)
    depth = max(accumulate((c in "({") - (c in ")}") for c in plain), default=0)
    if depth > _MOST_BRACKETS or len(re.findall(r"[-+*|]", plain)) > _MOST_OPERATORS:
        message = f"more than {_MOST_OPERATORS} operators, or brackets nested deeper than {_MOST_BRACKETS}"
        raise Inexpressible(f"the rule has {message}")


def _rule(statement: Statement, file: str, context: Context) -> Rule:
    _check_size(statement.text)
    parsed: Any = _ToRule().transform(_grammar().parse(statement.text))
    head, literals = parsed
    atoms, conditions = _sorted_out(literals or (), ())
    if not head and not literals:
        raise Inexpressible("a rule needs a head or a body")
    meta = dict(statement.meta)
    is_marked = meta.pop("distinct", "yes") == "no"
    weight = _weight(meta.pop("weight", None))
    rule = Rule((head,) if head else (), atoms, weight, meta, file, statement.line, conditions, distinct=False)
    if rule.existential:
        raise Inexpressible(f"the body does not bind {rule.existential[0]}")
    return rule if is_marked else understood(rule, context.measurements)


def _weight(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0.0 < weight <= 1.0:
        raise Inexpressible(f"weight {text} is not a probability; expected 0 < weight <= 1")
    return weight


def _sorted_out(literals: tuple[Any, ...], outer: tuple[Atom, ...]) -> tuple[tuple[Atom, ...], tuple[Condition, ...]]:
    """Atoms and conditions; of the comparisons with `=` those that give a variable its value become `is`."""
    atoms = tuple(part for part in literals if isinstance(part, Atom))
    conditions: list[Condition] = []
    for part in literals:
        if isinstance(part, Comparison) and part.operator == "=":
            names = binds((*outer, *atoms), conditions, part.left)
            conditions.append(replace(part, operator="is" if names else "=:="))
        elif not isinstance(part, Atom):
            conditions.append(part)
    return atoms, tuple(conditions)


class _ToRule(Transformer[Token, Any]):
    """Builds the parts of a rule; `=` is decided on when the whole body is known."""

    def variable(self, items: list[Token]) -> Term:
        return Term(str(items[0]))

    def symbol(self, items: list[Token]) -> Term:
        return Term(str(items[0]), False)

    def quoted_symbol(self, items: list[Token]) -> Term:
        return Term(_unescaped(items[1]), False)

    def text(self, items: list[Token]) -> Term:
        return Term(_unescaped(items[0]), False, "string")

    def integer(self, items: list[Token]) -> Term:
        return number(int(items[0]))

    def negative(self, items: list[Operand]) -> Operand:
        operand = items[0]
        if isinstance(operand, Term) and operand.datatype == "integer" and not operand.name.startswith("-"):
            return number(-int(operand.name))
        return Expression("-", (operand,))

    def absolute(self, items: list[Operand]) -> Expression:
        return Expression("abs", (items[0],))

    def operation(self, items: list[Any]) -> Expression:
        return Expression(str(items[1]), (items[0], items[2]))

    def count(self, items: list[Any]) -> Count:
        return Count(items[0], *_sorted_out(items[1], ()))

    def atom(self, items: list[Any]) -> Atom:
        return Atom(str(items[0]), tuple(items[1:]))

    def equality(self, items: list[Term]) -> Atom:
        return Atom("=", (items[0], items[2]))

    def negation(self, items: list[Any]) -> Negation:
        return Negation(items[1])

    def refusal(self, items: list[Any]) -> Comparison:
        return Comparison("=\\=", items[1], items[3])

    def comparison(self, items: list[Any]) -> Comparison:
        left, operator, right = items
        if operator == "!=":
            has_plain_sides = isinstance(left, Term) and isinstance(right, Term)
            return Comparison("\\=" if has_plain_sides else "=\\=", left, right)
        return Comparison(_READ.get(operator, str(operator)), left, right)

    def head(self, items: list[Atom]) -> Atom:
        return items[0]

    def body(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(items)

    terms = clause = body


def _unescaped(token: Token) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], token[1:-1])


def _syntax_problem(error: UnexpectedInput, statement: Statement, file: str) -> Problem:
    line, column = statement.line + max(error.line, 1) - 1, max(error.column, 1)
    if error.line <= 1:
        column += statement.column - 1
    if isinstance(error, UnexpectedCharacters):
        return Problem(
            f"unexpected character {error.char!r}: it is not part of what rules here can say", file, line, column
        )
    if not isinstance(error, UnexpectedToken) or error.token.type == "$END":
        last = statement.line + statement.text.rstrip().count("\n")
        return Problem("the rule does not end; expected '.'", file, last)
    names: set[str] = error.accepts or error.expected
    expected = sorted({_SYMBOLS[name] for name in names if name in _SYMBOLS})
    return Problem(f"unexpected {str(error.token)!r}; expected {' or '.join(expected)}", file, line, column)


_SYMBOLS = {
    "DOT": "'.'",
    "COMMA": "','",
    "LPAR": "'('",
    "RPAR": "')'",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "NAME": "a name in lower case",
    "VARIABLE": "a variable",
    "NUMBER": "a whole number",
    "OPERATOR": "a comparison",
    "EQUAL": "'='",
    "NOT": "'not'",
    "__ANON_0": "':-'",
}
