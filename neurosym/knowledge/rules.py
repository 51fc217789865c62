"""Rule files → rules, and rules → rule files.

One rule a line, ``%`` starts a comment, and a comment that starts with ``%!`` carries what is known about the rule:

    0.909 :: inside(X, L), lung(L) :- nodule(X).  %! id=nodule_in_lung source="JSRT: 140 of 154 nodules"

A rule without weight is hard. Distinct variables of a rule stand for distinct objects of one image. Every mistake of a file is
reported at once: a statement that does not parse is skipped, and reading goes on with the next one.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from neurosym.errors import Problem, RuleError, short_path
from neurosym.records import Atom, Rule, Term

_META = re.compile(r'(\w+)=("[^"]*"|\S+)')
_SYMBOLS = {
    "DOT": "'.' at the end of the rule",
    "COMMA": "','",
    "LPAR": "'('",
    "RPAR": "')'",
    "NAME": "a name in lower case",
    "VARIABLE": "a variable",
    "NUMBER": "a number",
    "STRING": "a quoted constant",
    "EQUAL": "'='",
    "__ANON_0": "'::'",
    "__ANON_1": "':-'",
}


@cache
def _grammar() -> Lark:
    text = Path(__file__).with_name("rules.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", maybe_placeholders=True)


def _unquoted(token: Token) -> str:
    return token[1:-1] if token.type == "STRING" else str(token)


class _ToRule(Transformer[Token, object]):
    def variable(self, items: list[Token]) -> Term:
        return Term(str(items[0]))

    def constant(self, items: list[Token]) -> Term:
        return Term(_unquoted(items[0]), is_variable=False)

    def atom(self, items: list[Any]) -> Atom:
        return Atom(_unquoted(items[0]), tuple(items[1:]))

    def equality(self, items: list[Term]) -> Atom:
        return Atom("=", (items[0], items[1]))

    def head(self, items: list[Atom]) -> tuple[Atom, ...]:
        return tuple(items)

    body = head

    def clause(self, items: list[object]) -> tuple[object, ...]:
        return tuple(items)


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
    for line, statement, meta in _statements(text):
        try:
            rules.append(_rule(statement, meta, file, line))
        except UnexpectedInput as error:
            problems.append(_syntax_problem(error, statement, file, line))
        except ValueError as error:
            problems.append(Problem(str(error), file, line))
    return tuple(rules), problems


def _rule(statement: str, meta: dict[str, str], file: str, line: int) -> Rule:
    parsed: Any = _ToRule().transform(_grammar().parse(statement))
    weight_token, head, body = parsed
    weight = None if weight_token is None else float(weight_token)
    if weight is not None and not 0.0 < weight <= 1.0:
        raise ValueError(f"weight {weight_token} is not a probability; expected 0 < weight <= 1")
    if "'='" in statement:  # a quoted "=" would be taken for an equality
        raise ValueError("'=' is not a name; write X = Y")
    if not head and not body:
        raise ValueError("a rule needs a head or a body")
    return Rule(head or (), body or (), weight, meta, file, line)


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Cut a text into (first line, statement without comments, metadata); a statement ends with a dot at a line's end."""
    pending, first = "", 0
    meta: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        code, comment = _split_comment(line)
        if pending and ":-" in code and ":-" in pending:
            yield first, pending, meta  # the dot of the rule before was forgotten
            pending, meta = "", {}
        if code.strip() or pending:
            first = first if pending else number
            pending += ("\n" if pending else "") + code
        if comment.startswith("!"):
            meta = {k: v.strip('"') for k, v in _META.findall(comment)}
        if code.rstrip().endswith("."):
            yield first, pending, meta
            pending, meta = "", {}
    if pending.strip():
        yield first, pending, meta


def _split_comment(line: str) -> tuple[str, str]:
    quoted = False
    for i, char in enumerate(line):
        if char == "'":
            quoted = not quoted
        elif char == "%" and not quoted:
            return line[:i], line[i + 1 :]
    return line, ""


def _syntax_problem(error: UnexpectedInput, statement: str, file: str, first: int) -> Problem:
    line, column = first + max(error.line, 1) - 1, max(error.column, 1)
    if isinstance(error, UnexpectedCharacters):
        found = statement.splitlines()[error.line - 1][error.column - 1]
        cure = "write plain ASCII quotes and dashes" if ord(found) > 127 else ""
        if found == "\\":
            cure = "negation is not part of the rule language yet"
        return Problem(f"unexpected character {found!r}", file, line, column, cure)
    if isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END"):
        lines = statement.rstrip().splitlines()
        end = first + len(lines) - 1
        return Problem("the rule does not end; expected '.'", file, end, len(lines[-1]) + 1)
    assert isinstance(error, UnexpectedToken)
    expected = sorted(_SYMBOLS.get(name, name) for name in error.accepts or error.expected)
    return Problem(f"unexpected {str(error.token)!r}; expected {' or '.join(expected)}", file, line, column)


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Parse a rule file (see `parse_rules`)."""
    return parse_rules(read_text(path), short_path(path))


def read_text(path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        RuleError: it is missing, or not UTF-8 (with the line).
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = Path(path).read_bytes()[: error.start].count(b"\n") + 1
        raise RuleError(Problem("not UTF-8 text", short_path(path), line, cure="save the file as UTF-8")) from error
    except OSError as error:
        raise RuleError(Problem(f"cannot be read: {error.strerror}", short_path(path))) from error


def format_rule(rule: Rule) -> str:
    """One line of a rule file, metadata included; parsing it gives the rule back (a double quote in metadata turns single)."""
    values = {k: str(v).replace('"', "'") for k, v in rule.meta.items()}
    meta = " ".join(f'{k}="{v}"' if re.search(r"\s|^$", v) else f"{k}={v}" for k, v in values.items())
    return f"{rule}  %! {meta}" if meta else str(rule)


def write_rules(path: Path, rules: Iterable[Rule], title: str = "") -> None:
    """Write a rule file atomically: readers see the old file or the new one, never half of it."""
    text = "".join(f"% {line}\n" for line in title.splitlines()) + "".join(format_rule(r) + "\n" for r in rules)
    write_text_atomically(Path(path), text)


def write_text_atomically(path: Path, text: str) -> None:
    """Write beside the target and rename over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def canonical(rule: Rule) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Head and body as sorted strings: equal for two rules iff they differ in variable names and the order of atoms only.

    The least form over all namings of the variables; beyond seven variables, where those are too many, variables are named by
    first use, and two spellings of one rule may then look different.
    """
    variables = list(dict.fromkeys(v for atom in (*rule.body, *rule.head) for v in atom.variables))
    numbers = range(len(variables))
    orders = permutations(numbers) if len(variables) <= 7 else (tuple(numbers),)

    def form(order: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        names = {v: Term(f"V{n}") for v, n in zip(variables, order, strict=True)}
        renamed = [
            [replace(a, args=tuple(names.get(t, t) for t in a.args)) for a in part] for part in (rule.head, rule.body)
        ]
        return tuple(sorted({str(_ordered(a)) for a in renamed[0]})), tuple(sorted({str(a) for a in renamed[1]}))

    return min(map(form, orders))


def _ordered(atom: Atom) -> Atom:
    """Equality is symmetric."""
    return replace(atom, args=tuple(sorted(atom.args))) if atom.predicate == "=" else atom
