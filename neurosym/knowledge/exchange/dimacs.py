r"""DIMACS CNF, the format of SAT solvers and of ROAD-R's requirements (Giunchiglia et al., Machine Learning 2023), as rules.

A variable is a label, and a clause what the labels of every one object must satisfy. With n the negated labels, p the others:

| clause | rule |
|---|---|
| `-n₁ -n₂ 0` | `:- n₁(X), n₂(X).` |
| `-n p 0` | `p(X) :- n(X).` |
| `-n p₁ p₂ 0` | `:- n(X), \+ p₁(X), \+ p₂(X).` |
| `p₁ p₂ 0` | `:- c(X), \+ p₁(X), \+ p₂(X).`, c the class of all objects |

The labels of the variables come in a list, or from comments `c NUMBER LABEL` before the header, as `export` writes them, one
label a number; a comment `c %! key=value` is what is known about the clause that follows. All other lines that begin with `c`
are for people, as the format says (DIMACS, "Satisfiability: Suggested Format", 1993), also those with a number that is no
variable's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from neurosym.errors import Problem, did_you_mean
from neurosym.knowledge.exchange.formats import (
    Context,
    Exported,
    Inexpressible,
    metadata_comment,
    sort_out,
    split_heads,
)
from neurosym.knowledge.rules import parse_leniently
from neurosym.logic import Atom, Negation, Rule, Term

X = Term("X")
_NAMED = re.compile(r"c\s+([1-9]\d{0,8})\s+(\S.*?)\s*\Z", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,9}\Z", re.ASCII)
_SHOWN = 3
"""Labels that an id spells out before it counts."""


def export(rules: tuple[Rule, ...], context: Context) -> Exported:
    """A clause for each head atom; predicates are numbered in the order in which rules name them."""
    number: dict[str, int] = {}

    def write(rule: Rule) -> str:
        clauses = [(metadata_comment(part, not part.distinct), _literals(part)) for part in split_heads(rule)]
        lines = []
        for known, literals in clauses:
            lines += [f"c{known}"] if known else []
            signed = (number.setdefault(name, len(number) + 1) * (1 if holds else -1) for name, holds in literals)
            lines.append(" ".join(map(str, (*signed, 0))))
        return "".join(f"{line}\n" for line in lines)

    written, left_out = sort_out(rules, write)
    clauses = sum(not line.startswith("c") for text in written for line in text.splitlines())
    names = "".join(f"c {i} {name}\n" for name, i in number.items())
    return Exported(f"{names}p cnf {len(number)} {clauses}\n{''.join(written)}", left_out)


def _literals(rule: Rule) -> list[tuple[str, bool]]:
    """The literals of a rule with at most one head atom, each once."""
    if rule.weight is not None:
        raise Inexpressible("a clause holds without exception; this rule has a weight")
    negated = [c.atom for c in rule.conditions if isinstance(c, Negation)]
    if len(negated) < len(rule.conditions):
        raise Inexpressible("a clause knows labels only, no comparison")
    atoms = (*rule.body, *rule.head, *negated)
    if any(len(a.args) != 1 or not a.args[0].is_variable for a in atoms) or len({a.args for a in atoms}) != 1:
        raise Inexpressible("a clause speaks of the labels of one object; this rule relates objects, or names one")
    if any("\n" in a.predicate or a.predicate != a.predicate.strip() for a in atoms):
        raise Inexpressible("a name with a line break, or a blank at its ends, cannot stand in a comment")
    found = [*((a.predicate, False) for a in rule.body), *((a.predicate, True) for a in (*rule.head, *negated))]
    return list(dict.fromkeys(found))


def load(text: str, file: str, context: Context) -> tuple[tuple[Rule, ...], list[Problem]]:
    """A rule for each clause; one that no object can break, or that was there before, is told and left out."""
    reader = _Reader(file, context)
    reader.read(text)
    return tuple(reader.rules), sorted(reader.problems, key=lambda p: (p.line, p.column))


@dataclass
class _Clause:
    line: int
    literals: list[int] = field(default_factory=list)
    known: str = ""


class _Reader:
    """Reads one file: first its lines, then, when all labels are known, its clauses."""

    def __init__(self, file: str, context: Context) -> None:
        self.file, self.context = file, context
        self.rules: list[Rule] = []
        self.problems: list[Problem] = []
        self.labels: dict[int, str] = dict(enumerate(context.labels, 1))
        self.named: dict[int, int] = {}
        """The line of the comment that names a variable."""
        self.comments: list[tuple[int, str, int]] = []
        """What may be a variable's number, its label, and the line, of comments before the header."""
        self.header: tuple[int, int, int] | None = None
        """Variables, clauses, and the line that says so."""

    def read(self, text: str) -> None:
        """Read a text; rules and problems are what it comes to."""
        clauses = list(self._clauses(text))
        if self.header is None:
            return
        variables, count, line = self.header
        if count != len(clauses):
            self._problem(f"the file has {len(clauses)} clauses; expected {count}", line)
        if self.context.labels and len(self.labels) != variables:
            told = f"found {len(self.labels)} labels for {variables} variables"
            self._problem(told, line, cure="one label a line, in the order of the numbers")
        classes = self._classes(clauses)
        if not self.problems:
            self._write(clauses, classes)

    def _problem(self, message: str, line: int, column: int = 0, cure: str = "", severity: str = "error") -> None:
        self.problems.append(Problem(message, self.file, line, column, cure, severity))

    def _clauses(self, text: str) -> Iterator[_Clause]:
        """The clauses, up to a bad header, or to a literal without one: what follows cannot be held against it."""
        clause, known = _Clause(0), ""
        for number, line in enumerate(text.split("\n"), 1):
            words = line.split()
            if not words:
                continue
            if words[0].startswith("c"):
                found = _NAMED.match(line.strip())
                if found and self.header is None:
                    self.comments.append((int(found[1]), found[2], number))
                known = line.partition("c")[2].strip() if words[:2] == ["c", "%!"] else known
            elif words[0] == "p":
                if not self._header(words, number):
                    return
            elif self.header is None:
                self._no_header(number)
                return
            else:
                for word in re.finditer(r"\S+", line):
                    value = self._literal(word[0], number, word.start() + 1)
                    clause.line = clause.line or number
                    if value:
                        clause.literals.append(value)
                    elif value == 0:
                        clause.known, known = known, ""
                        yield clause
                        clause = _Clause(0)
        if clause.line:
            self._problem("the last clause has no end", clause.line, cure="expected a 0 behind it")
        if self.header is None:
            self._no_header(1)

    def _no_header(self, line: int) -> None:
        self._problem("found no `p cnf VARIABLES CLAUSES`", line, cure="expected it before the first clause")

    def _name(self, number: int, label: str, line: int) -> None:
        first = self.labels.setdefault(number, label)
        at = self.named.setdefault(number, line)
        if label != first:
            told = f"variable {number} is {label!r} here and {first!r} in line {at}"
            self._problem(told, line, cure="begin a comment that names no variable with a word, not a number")

    def _header(self, words: list[str], line: int) -> bool:
        """Whether reading can go on."""
        if self.header is not None:
            self._problem("found a second header", line)
        elif len(words) != 4 or words[1] != "cnf" or not all(re.fullmatch(r"\d{1,9}", w, re.ASCII) for w in words[2:]):
            self._problem(f"found {' '.join(words)!r}; expected p cnf VARIABLES CLAUSES", line)
        else:
            self.header = int(words[2]), int(words[3]), line
            for comment in self.comments if not self.context.labels else ():
                if comment[0] <= self.header[0]:
                    self._name(*comment)
        return self.header is not None

    def _literal(self, word: str, line: int, column: int) -> int | None:
        """A literal, 0 for the end of a clause; None for what is neither."""
        if not _NUMBER.match(word):
            self._problem(
                f"found {word!r}; expected the number of a label, negative where it must not hold", line, column
            )
            return None
        assert self.header is not None
        value, most = int(word), self.header[0]
        if abs(value) > most:
            self._problem(f"unknown number {word}", line, column, f"the header says that there are {most} variables")
            return None
        return value

    def _classes(self, clauses: Iterable[_Clause]) -> dict[int, str]:
        """The class that each variable stands for."""
        assert self.header is not None
        used: dict[int, int] = {}
        for clause in clauses:
            for literal in clause.literals:
                used.setdefault(abs(literal), clause.line)
        if not self.context.labels:
            for number in sorted(used.keys() - self.labels.keys()):
                cure = f"name it before the header (c {number} LABEL), or give the list of labels with --labels"
                self._problem(f"variable {number} has no label", used[number], cure=cure)
        found: dict[int, str] = {}
        for number, label in sorted(self.labels.items()):
            line = self.named.get(number, self.header[2])
            name = self.context.classes.get(label) if self.context.is_closed else label
            if name is None:
                cure = did_you_mean(label, self.context.classes, "the ontology's classes and categories")
                self._problem(f"unknown label {label!r} of variable {number}", line, cure=cure)
            elif name in found.values():
                other = next(n for n, c in found.items() if c == name)
                self._problem(f"variables {other} and {number} are both {name!r}", line)
            else:
                found[number] = name
        if self.context.every and self.context.is_closed and self.context.every not in self.context.classes.values():
            cure = did_you_mean(self.context.every, self.context.classes.values())
            self._problem(f"unknown class {self.context.every!r} of all objects", line, cure=cure)
        return found

    def _write(self, clauses: Sequence[_Clause], classes: dict[int, str]) -> None:
        seen: dict[frozenset[int], int] = {}
        kept: list[tuple[_Clause, list[str], list[str]]] = []
        for k, clause in enumerate(clauses):
            literals = list(dict.fromkeys(clause.literals))
            holds = [classes[i] for i in literals if i > 0]
            fails = [classes[-i] for i in literals if i < 0]
            before = seen.setdefault(frozenset(literals), k)
            if not literals:
                self._problem("an empty clause, which no object satisfies", clause.line, cure="remove it")
            elif set(holds) & set(fails):
                self._problem("left out: whatever an object is, it satisfies this", clause.line, severity="warning")
            elif before != k:
                told = f"left out: the clause of line {clauses[before].line} says the same"
                self._problem(told, clause.line, severity="warning")
            elif not fails and not self.context.every:
                cure = "name the class that all objects are of with --every"
                self._problem("a clause without a negated label is about all objects", clause.line, cure=cure)
            else:
                kept.append((clause, fails or [self.context.every], holds))
        stated = [self._stated(clause) for clause, _, _ in kept]
        given: dict[str, int] = {}
        for (clause, _, _), known in zip(kept, stated, strict=True):
            name = known.meta.get("id", "") if known is not None else ""
            if name in given:
                told = f"id {name!r} is that of the clause of line {given[name]}, too"
                self._problem(told, clause.line, cure="give each clause its own id")
            elif name:
                given[name] = clause.line
        ids = set(given)
        for (clause, body, holds), known in zip(kept, stated, strict=True):
            self._rule(clause, body, holds, known, ids)

    def _stated(self, clause: _Clause) -> Rule | None:
        """A rule with what is known about a clause, None where that is nothing."""
        if not clause.known:
            return None
        rules, problems = parse_leniently(f"p(X) :- q(X). {clause.known}", self.file)
        self.problems += [replace(p, line=clause.line, column=0) for p in problems]
        return rules[0] if rules else None

    def _rule(self, clause: _Clause, body: list[str], holds: list[str], known: Rule | None, ids: set[str]) -> None:
        of = [Atom(name, (X,)) for name in holds]
        head = tuple(of) if len(of) == 1 else ()
        conditions = tuple(map(Negation, of)) if len(of) > 1 else ()
        if known is not None:
            meta, distinct = dict(known.meta), known.distinct
        else:
            source = f"{self.file.rpartition('/')[2]} line {clause.line}"
            meta, distinct = {"id": _id(body, holds, ids), "source": source}, True
        atoms = tuple(Atom(name, (X,)) for name in body)
        self.rules.append(Rule(head, atoms, None, meta, self.file, clause.line, conditions, distinct))


def _id(body: list[str], holds: list[str], taken: set[str]) -> str:
    """A readable name, `not_red_and_green`, `pushing_needs_pedestrian`; numbered where it is taken."""
    premise = "_and_".join(body)
    if not holds:
        name = f"not_{premise}"
    elif len(holds) > _SHOWN:
        name = f"{premise}_needs_{holds[0]}_or_{len(holds) - 1}_more"
    else:
        name = f"{premise}_needs_{'_or_'.join(holds)}"
    name = re.sub(r"\W+", "_", name).strip("_").lower() or "clause"
    numbered = (f"{name}_{k}" if k > 1 else name for k in range(1, len(taken) + 2))
    found = next(n for n in numbered if n not in taken)
    taken.add(found)
    return found
