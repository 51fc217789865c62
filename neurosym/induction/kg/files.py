"""Rule sets ↔ files: `.rules` (the language of docs/rules.md), AnyBURL's `.tsv`, and `.json` for other programs.

Every rule is written with its support and body size, the lower bound of its confidence, head coverage, lift and Fisher's
p-value (`neurosym.induction.kg.measures`); what is read back is not counted again, unless asked for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from neurosym.errors import InductionError, Problem, did_you_mean, short_path
from neurosym.induction.kg.assembly import table_of, with_paths
from neurosym.induction.kg.bodies import (
    Body,
    Literal,
    X,
    Y,
    canonical,
    constant,
    is_connected,
    is_pair,
    numbered,
    path_of,
)
from neurosym.induction.kg.constants import holds as _holds
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.measures import Counts as Columns
from neurosym.induction.kg.measures import fisher, head_coverage, lift, lower_bound
from neurosym.induction.kg.rules import ConstantRules, General, PathRules, RuleColumns
from neurosym.induction.kg.store import Csr, Int32, Int64, TripleStore
from neurosym.knowledge.exchange import export_rules, import_rules
from neurosym.knowledge.exchange.anyburl import apart
from neurosym.knowledge.files import read_text, write_text_atomically
from neurosym.knowledge.rules import read_rules, write_rules
from neurosym.logic import Rule

SUFFIXES: Final = (".rules", ".tsv", ".json")
log = logging.getLogger(__name__)


def rules_of(store: TripleStore, rules: RuleColumns, most: int | None = None) -> list[Rule]:
    """The rules with their measures as metadata, the most trusted first; at most so many."""
    order = np.lexsort((-rules.support, -rules.smoothed))[:most]
    support, size = rules.support, rules.size
    heads = _heads(store, rules)
    entities = len(store.entities)
    of_sets = np.repeat([False, True, True, False], [len(part.head) for part in rules.parts])
    room = np.where(of_sets, entities - 1, entities * (entities - 1))
    counts = Columns(support, size, head=heads[:, 0], subjects=heads[:, 1], objects=heads[:, 2])
    shown = {
        "bound": lower_bound(counts),
        "coverage": head_coverage(counts),
        "lift": lift(counts),
        "p": fisher(support, size, heads[:, 0], room),
    }
    found = []
    for i in order.tolist():
        rule = rules.rule(store, i)
        meta = {"support": str(support[i]), "body_size": str(size[i])}
        meta |= {name: f"{values[i]:.4g}" for name, values in shown.items()}
        found.append(Rule(rule.head, rule.body, rule.weight, meta, conditions=rule.conditions, distinct=rule.distinct))
    return found


def write_rule_set(
    path: str | Path, store: TripleStore, rules: RuleColumns, title: str = "", most: int | None = None
) -> int:
    """Write the rules, in the form that the suffix says; how many could not be written (AnyBURL knows no negation).

    Raises:
        InductionError: another suffix.
    """
    path, written = Path(path), rules_of(store, rules, most)
    if path.suffix == ".rules":
        write_rules(path, written, title)
    elif path.suffix == ".tsv":
        exported = export_rules([_for_anyburl(rule) for rule in written], "anyburl")
        write_text_atomically(path, exported.text)
        return len(exported.left_out)
    elif path.suffix == ".json":
        told = [{"rule": str(r), "confidence": r.weight} | {k: float(v) for k, v in r.meta.items()} for r in written]
        write_text_atomically(path, json.dumps(told, indent=1))
    else:
        raise _unknown(path)
    return 0


def read_rule_set(path: str | Path, store: TripleStore, measure: bool = False) -> RuleColumns:
    """Rules of a `.rules` or `.tsv` file, for the facts of a store.

    Rules that speak of relations or entities that the store does not have are left out and counted in a warning.

    Args:
        measure: count support and body size on the store, whatever the file says; rules without any are counted anyway.

    Raises:
        RuleError: the file has a mistake.
        InductionError: another suffix, or a rule is none that a graph can have.
    """
    path = Path(path)
    if path.suffix == ".rules":
        rules = read_rules(path)
    elif path.suffix == ".tsv":
        rules, problems = import_rules(read_text(path), "anyburl", short_path(path))
        if problems:
            log.warning("%d lines are no rules here and were left out; the first: %s", len(problems), problems[0])
    else:
        raise _unknown(path)
    return columns_of(store, rules, measure)


def columns_of(store: TripleStore, rules: Iterable[Rule], measure: bool = False) -> RuleColumns:
    """Rules in columns; see `read_rule_set`."""
    evaluator, sorted_out = Evaluator(store), _SortedOut(store)
    unknown = 0
    for rule in rules:
        try:
            head, body = numbered(store, rule)
        except InductionError:
            unknown += 1
            continue
        if not is_connected(body):
            raise InductionError(Problem(f"its variables do not hang together: {rule}", rule.file, rule.line))
        said = [rule.meta.get(k, "") for k in ("support", "body_size")]
        if measure or not all(s.isdecimal() for s in said):
            counts: Sequence[int] = evaluator.counts(rule)[:2]
        else:
            counts = [int(s) for s in said]
        if counts[1]:
            sorted_out.add(head, body, *counts)
    if unknown:
        log.warning("%d rules speak of what the graph does not have and were left out", unknown)
    return sorted_out.columns(evaluator)


class _SortedOut:
    """Rules by their form."""

    def __init__(self, store: TripleStore) -> None:
        self.store = store
        self.paths: list[tuple[int, tuple[int, ...], int, int]] = []
        self.constants: list[tuple[int, int, int, int]] = []
        self.sets: list[tuple[int, Body, int, int]] = []
        self.pairs: list[tuple[int, Body, int, int]] = []

    def add(self, head: Literal, body: Body, support: int, size: int) -> None:
        """A rule whose head is `h(X, Y)`, `h(X, c)` or `h(c, X)`."""
        if is_pair(body):
            path = path_of(body)
            if path:
                self.paths.append((head.relation, path, support, size))
            else:
                self.pairs.append((head.relation, canonical(body), support, size))
            return
        back = head.a != X
        other = head.a if back else head.b
        if other == Y:
            return  # who it is that exists is no answer to a question
        g = self.store.row(2 * head.relation + (not back), constant(other))
        if g < 0:
            return
        if len(body) == 1 and not body[0].negated and body[0].relation >= 0 and body[0].a != body[0].b:
            own, p = int(body[0].a != X), body[0]
            reverse, end = 2 * p.relation + 1 - own, p.a if own else p.b
            b = self.store.row(reverse, constant(end)) if end < 0 else -1 - (reverse ^ 1)
            self.constants.append((g, b, support, size))
        else:
            self.sets.append((g, canonical(body), support, size))

    def columns(self, evaluator: Evaluator) -> RuleColumns:
        """All of them; bodies that need too much work are left out, with their rules."""
        none = PathRules(np.zeros(0, np.int32), np.zeros((0, 1), np.int32), *np.zeros((2, 0), np.int32))
        sets, of_sets = _numbered_bodies(self.sets)
        found = {i: members for i, body in enumerate(sets) if (members := evaluator.members(body)) is not None}
        numbers = {old: new for new, old in enumerate(found)}
        of_sets = [(g, numbers[k], support, size) for g, k, support, size in of_sets if k in numbers]
        pairs, of_pairs = _numbered_bodies(self.pairs)
        constants = np.array(sorted(set(self.constants)), dtype=np.int32).reshape(-1, 4)
        general = General(tuple(found.values()), table_of(of_sets), tuple(pairs), table_of(of_pairs))
        return RuleColumns(with_paths(none, sorted(set(self.paths))), ConstantRules(*constants.T.copy()), general)


def _numbered_bodies(
    rules: list[tuple[int, Body, int, int]],
) -> tuple[list[Body], list[tuple[int, int, int, int]]]:
    numbers: dict[Body, int] = {}
    rows = [(h, numbers.setdefault(body, len(numbers)), support, size) for h, body, support, size in rules]
    return list(numbers), rows


def _heads(store: TripleStore, rules: RuleColumns) -> Int64:
    """Of each rule how many facts its head matches, how many entities are X in these, how many are Y; without loops."""
    subjects, relations, objects = store.columns()
    apart = subjects != objects
    facts = np.bincount(relations[apart], minlength=len(store.relations))
    each = [np.unique(np.stack([relations[apart], side[apart]]), axis=1)[0] for side in (subjects, objects)]
    sides = [np.bincount(side, minlength=len(store.relations)) for side in each]
    of_relation = np.stack([facts, *sides], 1)
    csr = store.csr
    rows = np.concatenate([rules.constants.head, rules.general.set_rules.head])
    members = np.diff(csr.start)[rows]
    members = members - _has_loop(csr, rows)
    of_row = np.stack([members, np.full(len(rows), len(store.entities)), np.ones(len(rows), dtype=np.int64)], 1)
    return np.concatenate([of_relation[rules.paths.head], of_row, of_relation[rules.general.pair_rules.head]])


def _has_loop(csr: Csr, rows: Int32) -> Int64:
    """1 where a row's entity is in the row itself."""
    found = [int(_holds(csr, int(g), int(csr.source[g]))) for g in np.unique(rows)]
    return np.array(found, dtype=np.int64)[np.searchsorted(np.unique(rows), rows)]


def _for_anyburl(rule: Rule) -> Rule:
    """With the metadata and, if it has no conditions, the inequalities that its files have."""
    meta = {k: rule.meta[k] for k in ("support", "body_size")}
    return Rule(rule.head, rule.body, rule.weight, meta, conditions=rule.conditions or apart(rule))


def _unknown(path: Path) -> InductionError:
    cure = did_you_mean(path.suffix, SUFFIXES) or f"known: {', '.join(SUFFIXES)}"
    return InductionError(Problem(f"{path.suffix!r} is no form of rule files", str(path), cure=cure))
