"""Rule files → rules, and rules → rule files; docs/rules.md is the specification of the language.

One rule a line, ``%`` starts a comment, and a comment that starts with ``%!`` carries what is known about the rule:

    0.909 :: inside(X, L), lung(L) :- nodule(X).  %! id=nodule_in_lung source="JSRT: 140 of 154 nodules"

A rule without weight is hard. Distinct variables of a rule stand for distinct objects of one image. Every mistake of a file is
reported at once: a statement that does not parse is skipped, and reading goes on with the next one.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from neurosym.errors import Problem, RuleError, short_path
from neurosym.knowledge.files import read_text, write_text_atomically
from neurosym.knowledge.statements import Remark, Statement, split
from neurosym.logic import (
    FUNCTIONS,
    Atom,
    Comparison,
    Count,
    Expression,
    Negation,
    Operand,
    Rule,
    Term,
    number,
)

DEEPEST = 40
"""How deep brackets may be nested."""
_SYMBOLS = {
    "DOT": "'.' at the end of the rule",
    "COMMA": "','",
    "LPAR": "'('",
    "RPAR": "')'",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "COLON": "':'",
    "NAME": "a name in lower case",
    "VARIABLE": "a variable",
    "NUMBER": "a number",
    "OPERATOR": "a comparison",
    "__ANON_0": "'::'",
    "__ANON_1": "':-'",
}
_OPERATORS = {"<=": "=<", "!=": r"\=", "is": "is"}
_QUOTES = re.compile("[“”„‟‘’‚‛«»`´]")


class _ToRule(Transformer[Token, object]):
    """Builds the parts of a rule while the parser reads them."""

    def variable(self, items: list[Token]) -> Term:
        return Term(str(items[0]))

    def symbol(self, items: list[Token]) -> Term:
        return Term(_unquoted(items[0]), is_variable=False)

    def text(self, items: list[Token]) -> Term:
        try:
            return Term(str(ast.literal_eval(str(items[0]))), False, "string")
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"string {items[0]} has a broken escape; write \\\\ for a backslash") from error

    def number(self, items: list[Token]) -> Term:
        value = int(items[0]) if items[0].isdigit() else float(items[0])
        if not math.isfinite(value):
            raise ValueError(f"number {items[0]} is too large")
        return number(value)

    def negative(self, items: list[Operand]) -> Operand:
        operand = items[0]
        if isinstance(operand, Term) and operand.datatype in ("integer", "decimal") and operand.name[0] != "-":
            return Term(f"-{operand.name}", False, operand.datatype)
        return Expression("-", (operand,))

    def operation(self, items: list[Any]) -> Expression:
        return Expression(str(items[1]), (items[0], items[2]))

    def function(self, items: list[Any]) -> Expression:
        name, operands = str(items[0]), tuple(items[1:])
        if len(operands) != FUNCTIONS[name]:
            raise ValueError(f"{name} takes {FUNCTIONS[name]} value(s); found {len(operands)}")
        return Expression(name, operands)

    def count(self, items: list[Any]) -> Count:
        _, terms, _, literals = items
        atoms, conditions = _sorted_out(literals)
        if any(isinstance(c, Comparison) and c.counts for c in conditions):
            raise ValueError(
                "count{…} inside count{…} is not part of the language; name the inner count in a rule of its own"
            )
        if not atoms:
            raise ValueError("count{…} counts nothing; name an atom behind its ':'")
        return Count(tuple(terms), atoms, conditions)

    def atom(self, items: list[Any]) -> Atom:
        return Atom(_unquoted(items[0]), tuple(items[1:]))

    def negation(self, items: list[Any]) -> Negation:
        return Negation(items[-1])

    def comparison(self, items: list[Any]) -> Comparison | Atom:
        left, operator, right = items
        if operator == "=":
            if not (isinstance(left, Term) and isinstance(right, Term)):
                raise ValueError(
                    f"'{left} = {right}' compares a calculation; write =:= to compare, `is` to name the result"
                )
            return Atom("=", (left, right))
        if operator == "is" and not (isinstance(left, Term) and left.is_variable):
            raise ValueError(f"'{left} is …' names no variable; write `V is …`, or =:= to compare")
        return Comparison(_OPERATORS.get(str(operator), str(operator)), left, right)

    def head(self, items: list[object]) -> list[object]:
        return items

    body = terms = clause = head


@cache
def _grammar() -> Lark:
    text = Path(__file__).with_name("rules.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", maybe_placeholders=True, transformer=_ToRule())


def _unquoted(token: Token) -> str:
    if token.type != "QUOTED":
        return str(token)
    if str(token) == "'='":  # it would be taken for an equality
        raise ValueError("'=' is not a name; write X = Y")
    return str(token[1:-1])


def _sorted_out(literals: Iterable[object]) -> tuple[tuple[Atom, ...], tuple[Any, ...]]:
    literals = list(literals)
    atoms = tuple(part for part in literals if isinstance(part, Atom))
    return atoms, tuple(part for part in literals if not isinstance(part, Atom))


def parse_rules(text: str, file: str = "") -> tuple[Rule, ...]:
    """Parse the text of a rule file.

    Raises:
        RuleError: with every syntax error of the text, each with line and column.

    >>> [rule] = parse_rules("0.9 :: inside(X, L), lung(L) :- nodule(X).  %! id=nodule_in_lung")
    >>> rule.weight, rule.id, str(rule.existential[0])
    (0.9, 'nodule_in_lung', 'L')
    """
    rules, problems = parse_leniently(text, file)
    if problems:
        raise RuleError(problems)
    return rules


def parse_leniently(text: str, file: str = "") -> tuple[tuple[Rule, ...], list[Problem]]:
    """The rules of a text that parse, and the problems of those that do not."""
    rules: list[Rule] = []
    problems: list[Problem] = []
    for statement in split(text, file):
        if isinstance(statement, Statement):
            rule, mistakes = parse_statement(statement, file)
            problems += mistakes
            if rule is not None:
                rules.append(rule)
    return tuple(rules), problems


def parse_statement(statement: Statement, file: str = "") -> tuple[Rule | None, list[Problem]]:
    """The rule of one statement, None if it does not parse, with the problems of it and of its metadata."""
    problems = list(statement.problems)
    if not statement.text:
        return None, problems
    try:
        return _rule(statement, file), problems
    except UnexpectedInput as error:
        problems.append(_syntax_problem(error, statement, file))
    except ValueError as error:
        problems.append(Problem(str(error), file, statement.line))
    return None, problems


def _rule(statement: Statement, file: str) -> Rule:
    _check_nesting(statement.text)
    if re.fullmatch(r"[\d.,]+\s*", statement.text) and any(c in "0123456789" for c in statement.text):
        raise ValueError(
            f"{statement.text.strip()} stands alone; a weight is a share like 0.93, and % starts a comment"
        )
    parsed: Any = _grammar().parse(statement.text)
    weight_term, head, literals = parsed
    weight = None if weight_term is None else float(weight_term.name)
    if weight is not None and not 0.0 < weight <= 1.0:
        raise ValueError(f"weight {weight_term} is not a probability; expected 0 < weight <= 1")
    for part in head or ():
        if not isinstance(part, Atom):
            raise ValueError(f"'{part}' cannot be a head; a head is made of atoms, or is X = Y")
    if not head and not literals:
        raise ValueError("a rule needs a head or a body")
    atoms, conditions = _sorted_out(literals or ())
    meta = dict(statement.meta)
    distinct = meta.pop("distinct", "yes") == "yes"
    rule = Rule(tuple(head or ()), atoms, weight, meta, file, statement.line, conditions, distinct)
    return _with_named_blanks(rule)


def _check_nesting(text: str) -> None:
    depth = 0
    for mark in re.finditer(r"""'[^'\n]*'|"[^"\n]*"|[({]|[)}]""", text):
        depth += (mark[0] in "({") - (mark[0] in ")}")
        if depth > DEEPEST:
            raise ValueError(f"brackets are nested deeper than {DEEPEST}")


def _with_named_blanks(rule: Rule) -> Rule:
    """Each `_` of head and body as a variable of its own, `_1`, `_2` …; within conditions `_` stays: it binds nothing."""
    if not any(t.name == "_" for atom in (*rule.head, *rule.body) for t in atom.args):
        return rule
    taken = {v.name for part in (*rule.head, *rule.body, *rule.conditions) for v in part.variables}
    fresh = (name for name in map("_{}".format, range(1, 10**6)) if name not in taken)

    def named(atom: Atom) -> Atom:
        return Atom(
            atom.predicate, tuple(Term(next(fresh)) if t.is_variable and t.name == "_" else t for t in atom.args)
        )

    head, body = tuple(map(named, rule.head)), tuple(map(named, rule.body))
    return Rule(head, body, rule.weight, rule.meta, rule.file, rule.line, rule.conditions, rule.distinct)


def _syntax_problem(error: UnexpectedInput, statement: Statement, file: str) -> Problem:
    line, column = statement.line + max(error.line, 1) - 1, max(error.column, 1)
    if error.line <= 1:
        column += statement.column - 1
    if isinstance(error, UnexpectedCharacters):
        found = statement.text.split("\n")[error.line - 1][error.column - 1]
        cure = "write plain ASCII quotes" if _QUOTES.match(found) else "write a plain hyphen" if found in "–—−" else ""
        if not cure and ord(found) > 127:
            cure = "write it in plain ASCII; a name with other letters stands in single quotes"
        if found == "#":
            cure = "a comment begins with %"
        if found in "'\"":
            return Problem("a quote is not closed on its line", file, line, column)
        return Problem(f"unexpected character {found!r}", file, line, column, cure)
    if isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END"):
        lines = statement.text.rstrip().split("\n")
        end = len(lines[-1]) + (statement.column if len(lines) == 1 else 1)
        return Problem("the rule does not end; expected '.'", file, statement.line + len(lines) - 1, end)
    assert isinstance(error, UnexpectedToken)
    word = re.search(r"\w+\s*$", statement.text[: error.pos_in_stream or 0])
    if str(error.token) == "(" and word is not None and not word[0][0].islower():
        name = word[0].strip()
        cure = f"write {name[0].lower()}{name[1:]}, or '{name}' in quotes"
        return Problem(f"{name!r} starts like a variable, and a variable has no arguments", file, line, column, cure)
    expected = sorted({_SYMBOLS[name] for name in error.accepts or error.expected if name in _SYMBOLS})
    cures = [f"expected {' or '.join(expected)}"] if expected else []
    if not expected and error.token.type == "NUMBER":
        cures.append("a number has a digit before its point, as in 0.9")
    if str(error.token) == ":" and word is not None:
        cures.append("a name stands without a prefix")
    return Problem(f"unexpected {str(error.token)!r}", file, line, column, "; ".join(cures))


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Parse a rule file (see `parse_rules`)."""
    return parse_rules(read_text(path), short_path(path))


def format_rule(rule: Rule) -> str:
    """One line of a rule file, metadata included; parsing it gives the rule back (a double quote in metadata turns single)."""
    values = {k: str(v).replace('"', "'") for k, v in rule.meta.items()}
    if not rule.distinct:
        values["distinct"] = "no"
    meta = " ".join(f'{k}="{v}"' if re.search(r"\s|^$", v) else f"{k}={v}" for k, v in values.items())
    return f"{rule}  %! {meta}" if meta else str(rule)


def write_rules(path: Path, rules: Iterable[Rule], title: str = "") -> None:
    """Write a rule file atomically: readers see the old file or the new one, never half of it."""
    text = "".join(f"% {line}\n" for line in title.splitlines()) + "".join(format_rule(r) + "\n" for r in rules)
    write_text_atomically(Path(path), text)


def rule_file_text(path: Path) -> str:
    """The text of a rule file.

    Raises:
        RuleError: it is not named as one, or cannot be read.
    """
    if path.suffix != ".rules":
        raise RuleError(Problem("is no rule file", short_path(path), cure="name files that end in .rules"))
    return read_text(path)


def format_text(text: str, file: str = "") -> str:
    """A rule file in its normal form: one rule a line, conditions behind the atoms, metadata last; comments stay.

    A comment inside a rule moves to the line above it; several blank lines become one. Formatting twice changes nothing more.

    Raises:
        RuleError: the text has a mistake; nothing can be formatted then.
    """
    lines: list[str] = []
    problems: list[Problem] = []
    for item in split(text, file):
        if isinstance(item, Remark):
            if item.text or (lines and lines[-1]):
                lines.append(item.text)
            continue
        rule, mistakes = parse_statement(item, file)
        problems += mistakes
        if rule is not None:
            formatted = format_rule(rule)
            beside = item.trailing and "  %! " not in formatted
            lines += item.comments + ([item.trailing] if item.trailing and not beside else [])
            lines.append(f"{formatted}  {item.trailing}" if beside else formatted)
    if problems:
        raise RuleError(problems)
    return "\n".join(lines).strip("\n") + "\n" if any(lines) else ""


__all__ = [
    "format_rule",
    "format_text",
    "parse_leniently",
    "parse_rules",
    "parse_statement",
    "read_rules",
    "read_text",
    "rule_file_text",
    "write_rules",
    "write_text_atomically",
]
