"""Rule sets ↔ files: `.rules` (the language of docs/rules.md), AnyBURL's `.tsv`, and `.json` for other programs.

Every rule is written with its support and body size, the lower bound of its confidence, head coverage, lift and Fisher's
p-value (`neurosym.induction.kg.measures`); what is read back is not counted again, unless asked for.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from neurosym.errors import InductionError, Problem, did_you_mean, short_path
from neurosym.induction.kg.assembly import columns
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
)
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.island import Kept, is_short
from neurosym.induction.kg.measures import Counts, fisher, head_coverage, lift, lower_bound
from neurosym.induction.kg.rules import ConstantRules, PathRules, RuleColumns
from neurosym.induction.kg.store import Int64, TripleStore
from neurosym.knowledge.exchange import export_rules, import_rules
from neurosym.knowledge.exchange.anyburl import apart
from neurosym.knowledge.files import read_text, write_text_atomically
from neurosym.knowledge.rules import format_rule, read_rules, write_rules
from neurosym.logic import Rule

SUFFIXES: Final = (".rules", ".tsv", ".json")
_TRIED: Final = 64
_DIGITS: Final = 9
"""Of counts, which have 32 bits."""
log = logging.getLogger(__name__)


def rules_of(store: TripleStore, rules: RuleColumns, most: int | None = None, order: Int64 | None = None) -> list[Rule]:
    """The rules with their measures as metadata: those of an order, or the most trusted first; at most so many."""
    order = (np.lexsort((-rules.support, -rules.smoothed)) if order is None else order)[:most]
    support, size = rules.support, rules.size
    heads = _heads(store, rules)
    entities = len(store.entities)
    of_sets = np.repeat([False, True, True, False], [len(part.head) for part in rules.parts])
    room = np.where(of_sets, entities - 1, entities * (entities - 1))
    counts = Counts(support, size, head=heads[:, 0], subjects=heads[:, 1], objects=heads[:, 2])
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
    path: str | Path, store: TripleStore, rules: RuleColumns, title: str = "", order: Int64 | None = None
) -> int:
    """Write the rules, in the form that the suffix says; how many could not be written (AnyBURL knows no negation).

    Args:
        order: numbers of the rules to write, one after another; None for all, the most trusted first.

    Raises:
        InductionError: another suffix.
    """
    path, written = Path(path), rules_of(store, rules, order=order)
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


def writing_seconds(store: TripleStore, rules: RuleColumns, most: int | None = None) -> float:
    """Seconds that it takes to write so many of the rules (None: all), told from some."""
    started = time.perf_counter()
    rules_of(store, rules, 0)
    first = time.perf_counter() - started
    written = len([format_rule(rule) for rule in rules_of(store, rules, _TRIED)])
    each = (time.perf_counter() - started - 2 * first) / max(1, written)
    return first + max(0.0, each) * min(len(rules), len(rules) if most is None else most)


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
    evaluator, unknown = Evaluator(store), 0
    constants: set[tuple[int, int, int, int]] = set()
    others: dict[Kept, None] = {}
    for rule in rules:
        if not _is_known(store, rule):
            unknown += 1
            continue
        head, body = numbered(store, rule)
        if not is_connected(body):
            raise InductionError(Problem(f"its variables do not hang together: {rule}", rule.file, rule.line))
        said = [rule.meta.get(k, "") for k in ("support", "body_size")]
        if measure or not all(s.isdecimal() for s in said):
            support, size = evaluator.counts(rule)[:2]
        else:
            if max(map(len, said)) > _DIGITS:
                message = f"support and body_size are {' and '.join(said):.60}; no graph has so many facts"
                raise InductionError(Problem(message, rule.file, rule.line))
            support, size = map(int, said)
        place = _place(store, head, body)
        if place is None or not size:
            continue
        if is_short(body) and not is_pair(body):
            constants.add((place, _body_row(store, body[0]), support, size))
        else:
            others[Kept(canonical(body), place, support, size)] = None
    if unknown:
        log.warning("%d rules speak of what the graph does not have and were left out", unknown)
    table = np.array(sorted(constants), dtype=np.int32).reshape(-1, 4)
    none = PathRules(np.zeros(0, np.int32), np.zeros((0, 1), np.int32), *np.zeros((2, 0), np.int32))
    return columns(evaluator, RuleColumns(none, ConstantRules(*table.T.copy())), list(others))


def _is_known(store: TripleStore, rule: Rule) -> bool:
    """Whether the graph has the rule's relations and entities."""
    atoms = list(rule.atoms)
    names = {t.name for atom in atoms for t in atom.args if not t.is_variable}
    known = all(store.relations.number(atom.predicate) >= 0 for atom in atoms)
    return known and all(store.entities.number(name) >= 0 for name in names)


def _place(store: TripleStore, head: Literal, body: Body) -> int | None:
    """The head as `Kept` has it: a direction, or the row of the constant; None if it answers no question: who it is that
    exists is not said, and a constant without a fact of the head is never right."""
    back = head.a != X
    if is_pair(body):
        return 2 * head.relation + back
    other = head.a if back else head.b
    g = -1 if other == Y else store.row(2 * head.relation + (not back), constant(other))
    return None if g < 0 else g


def _body_row(store: TripleStore, p: Literal) -> int:
    """The body b(X, c) or b(X, Z) as `ConstantRules` has it."""
    back = p.a != X
    other = p.a if back else p.b
    return -1 - (2 * p.relation + back) if other >= 0 else store.row(2 * p.relation + (not back), constant(other))


def _heads(store: TripleStore, rules: RuleColumns) -> Int64:
    """Of each rule how many facts its head matches, how many entities are X in these, how many are Y; without loops."""
    subjects, relations, objects = store.columns()
    apart = subjects != objects
    facts = np.bincount(relations[apart], minlength=len(store.relations))
    each = [np.unique(np.stack([relations[apart], side[apart]]), axis=1)[0] for side in (subjects, objects)]
    sides = [np.bincount(side, minlength=len(store.relations)) for side in each]
    of_relation = np.stack([facts, *sides], 1)
    csr = store.csr
    of_fact = np.repeat(np.arange(len(csr.source)), np.diff(csr.start))
    members = np.bincount(of_fact[csr.target != csr.source[of_fact]], minlength=len(csr.source))
    rows = np.concatenate([rules.constants.head, rules.general.set_rules.head])
    ones = np.ones(len(rows), dtype=np.int64)
    of_row = np.stack([members[rows], len(store.entities) * ones, ones], 1)
    return np.concatenate([of_relation[rules.paths.head], of_row, of_relation[rules.general.pair_rules.head]])


def _for_anyburl(rule: Rule) -> Rule:
    """With the metadata and, if it has no conditions, the inequalities that its files have."""
    meta = {k: rule.meta[k] for k in ("support", "body_size")}
    return Rule(rule.head, rule.body, rule.weight, meta, conditions=rule.conditions or apart(rule))


def _unknown(path: Path) -> InductionError:
    cure = did_you_mean(path.suffix, SUFFIXES) or f"known: {', '.join(SUFFIXES)}"
    return InductionError(Problem(f"{path.suffix!r} is no form of rule files", str(path), cure=cure))
