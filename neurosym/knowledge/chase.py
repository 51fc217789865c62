"""The engine: semi-naive evaluation in stratified order, with a restricted chase for existential heads and equalities.

One priority queue of rules does it all. A rule waits in it while it has rows to join that it has not seen, its rank follows
the strata, so what it negates or counts is complete when its turn comes; within a component a rule that must invent objects
waits for those that need not (Fagin et al., Data exchange, 2005: the standard chase). When an equality gives a null a better
name, evaluation starts anew from the given facts with that name, because a negation or a count may come out differently; a
null is known by the rule and the objects it was made for, so every start ends with fewer of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count as numbers
from typing import TYPE_CHECKING

from neurosym.knowledge.plans import Clause, Plan, Tally, Witness, instance
from neurosym.knowledge.proofs import Equalities, Proof, Reason, canonical, prove, told
from neurosym.knowledge.relations import Binding, GroundAtom, Null, Relation, Row, Signature, Store, Value
from neurosym.logic import Rule

if TYPE_CHECKING:
    from neurosym.knowledge.inference import Program

_RENAMED = -1  # stands for a plan's number before the row that a given fact was, when its nulls have better names now


@dataclass(frozen=True, slots=True)
class Limits:
    """`depth` of nulls, `computed` facts of a rule that computes in its own recursion, `clashes` kept of one rule, `bindings`
    that are looked at each time a rule's body is joined with what is new for it (None: all)."""

    depth: int
    computed: int
    clashes: int
    bindings: int | None = None


@dataclass(frozen=True, slots=True)
class Clash:
    """A denial whose body holds, or an equality of two that are known to be two (then `equated`).

    So is the null that an existential rule made and the object that it was found to be, if the rule wants it to be another one.
    """

    rule: Rule
    premises: tuple[GroundAtom, ...]
    conditions: tuple[str, ...] = ()
    equated: tuple[Value, Value] | None = None


class Chase:
    """One run of a program."""

    def __init__(self, program: Program, facts: Iterable[GroundAtom], limits: Limits) -> None:
        self.program, self.limits = program, limits
        self.equalities: Equalities = {}
        self._nulls: dict[tuple[int, Row], tuple[Null, ...]] = {}
        self._given: dict[Signature, list[Row]] = {}
        self._numbers: Iterator[int] | None = None
        tables: dict[Signature, dict[Row, Binding | None]] = {}
        for predicate, args in facts:
            signature = (predicate, len(args))
            table = tables.get(signature)
            if table is None:
                table = tables[signature] = {}
            table[args] = None
        self._begin({signature: Relation(table) for signature, table in tables.items()})
        while not self._complete():
            self._begin(self._renamed())

    def _begin(self, store: Store) -> None:
        self.store = store
        self.given = {signature: len(relation.rows) for signature, relation in store.items()}
        self.clashes: dict[tuple[int, frozenset[GroundAtom]], Clash] = {}
        self.truncated: dict[int, Rule] = {}
        self._proofs: dict[GroundAtom, Proof] = {}
        self._found: Equalities = {}
        self._seen: dict[int, list[int]] = {}
        self._computed: dict[int, int] = {}
        self._kept: dict[int, int] = {}
        self._heap: list[int] = list(self.program.unconditional)
        self._queued: set[int] = set(self._heap)
        for signature in store:
            self._wake(signature)

    def _complete(self) -> bool:
        """Evaluate until nothing is new; False if equalities were found, so that it must be done again."""
        while self._heap:
            rank = heappop(self._heap)
            self._queued.discard(rank)
            self._fire(self.program.clauses[rank])
            if self._found:
                self.equalities.update(self._found)
                self._nulls = {(r, self._named(key)): made for (r, key), made in self._nulls.items()}
                return False
        return True

    def _renamed(self) -> Store:
        """The given facts, with the names that nulls have by now."""
        if not self._given:
            self._given = {signature: self.store[signature].rows[:size] for signature, size in self.given.items()}
        store: Store = {}
        for signature, rows in self._given.items():
            if any(isinstance(v, Null) for row in rows for v in row):
                why: dict[Row, Binding | None] = dict.fromkeys(row for row in rows if self._named(row) == row)
                for row in rows:
                    why.setdefault(self._named(row), (_RENAMED, *row))
            else:
                why = dict.fromkeys(rows)
            store[signature] = Relation(why)
        return store

    def _named(self, row: Row) -> Row:
        return tuple([canonical(v, self.equalities) if isinstance(v, Null) else v for v in row])

    def _wake(self, signature: Signature) -> None:
        """Queue the rules that read a relation, if all they read is there."""
        present, queued = self.store.keys(), self._queued
        for rank, needs in self.program.users.get(signature, ()):
            if needs <= present and rank not in queued:
                queued.add(rank)
                heappush(self._heap, rank)

    def _fire(self, clause: Clause) -> None:
        """Join what is new for a rule; the first time that is everything."""
        sizes = [len(self.store[signature].rows) for signature in clause.reads]
        seen = self._seen.get(clause.rank)
        self._seen[clause.rank] = sizes
        starts = [(-1, 0)] if seen is None else [(i, low) for i, low in enumerate(seen) if low < sizes[i]]
        for first, low in starts:
            plan = self.program.plan(clause, first, sizes)
            tally = None if self.limits.bindings is None else Tally(self.limits.bindings)
            bindings = plan.bindings(self.store, low, tally)
            if not plan.rule.head:
                self._clash(clause, plan, bindings)
            elif plan.witness is not None:
                self._invent(clause, plan, plan.witness, bindings)
            elif plan.equalities:
                kept = list(bindings)
                self._equate(clause, plan, kept)
                self._derive(clause, plan, kept)
            else:
                self._derive(clause, plan, bindings if len(plan.heads) == 1 else list(bindings))
            if tally is not None and tally.is_over:
                self.truncated[clause.rank] = clause.rule

    def _derive(self, clause: Clause, plan: Plan, bindings: Iterable[Binding]) -> None:
        if clause.grows and self._computed.get(clause.rank, 0) > self.limits.computed:
            self.truncated[clause.rank] = clause.rule
            return
        for signature, head in plan.heads:
            relation = self.store.get(signature)
            known = relation.why if relation is not None else {}
            fresh = {row: b for b in bindings if (row := head(b)) not in known}
            if fresh:
                self._add(signature, fresh)
                self._wake(signature)
                if clause.grows:
                    self._computed[clause.rank] = self._computed.get(clause.rank, 0) + len(fresh)

    def _add(self, signature: Signature, fresh: dict[Row, Binding]) -> None:
        relation = self.store.get(signature)
        if relation is None:
            relation = self.store[signature] = Relation({})
        relation.add(fresh)

    def _invent(self, clause: Clause, plan: Plan, witness: Witness, bindings: Iterable[Binding]) -> None:
        """Make nulls for the existential variables, unless something satisfies the whole head already."""
        touched: dict[Signature, None] = {}
        for key, binding in {witness.key(b): b for b in bindings}.items():
            if witness.is_known(key, self.store):
                continue
            nulls = self._nulls_for(clause, key, witness)
            if nulls is None:
                self.truncated[clause.rank] = clause.rule
                continue
            full = binding + self._named(nulls)
            if not witness.is_apart(full):
                self._collide(clause, plan, binding, nulls)
            for signature, head in plan.heads:
                row = head(full)
                if signature not in self.store or row not in self.store[signature].why:
                    self._add(signature, {row: binding + nulls})
                    touched[signature] = None
        for signature in touched:
            self._wake(signature)

    def _nulls_for(self, clause: Clause, key: Row, witness: Witness) -> tuple[Null, ...] | None:
        """The nulls of a rule for some objects: always the same; None if they would lie too deep."""
        nulls = self._nulls.get((clause.rank, key))
        if nulls is None:
            depth = 1 + max((v.depth for v in key if isinstance(v, Null)), default=0)
            if depth > self.limits.depth:
                return None
            if self._numbers is None:
                given = (v for relation in self.store.values() for row in relation.rows for v in row)
                self._numbers = numbers(1 + max((v.number for v in given if isinstance(v, Null)), default=0))
            nulls = self._nulls[clause.rank, key] = tuple(Null(next(self._numbers), depth) for _ in witness.variables)
        return nulls

    def _equate(self, clause: Clause, plan: Plan, bindings: Iterable[Binding]) -> None:
        """Give nulls better names; two different names are a clash."""
        for binding in bindings:
            for pair in plan.equalities:
                left, right = pair(binding)
                if left == right or left in self._found or right in self._found:
                    continue  # what a null of this round was found to be is seen again under its new name
                premises, conditions = self._instance(plan, binding)
                if not isinstance(left, Null) and not isinstance(right, Null):
                    self._keep(clause, Clash(plan.rule, premises, conditions, (left, right)))
                    continue
                old, new = _better_last(left, right)
                proofs = tuple(map(self.proof, premises))
                self._found[old] = new, Proof(("=", (old, new)), plan.rule, proofs, conditions)

    def _collide(self, clause: Clause, plan: Plan, binding: Binding, nulls: tuple[Null, ...]) -> None:
        """A clash: a witness that must differ from some objects was found to be one of them."""
        old = next(null for null in nulls if null in self.equalities)
        premises, conditions = self._instance(plan, binding)
        self._keep(clause, Clash(plan.rule, premises, conditions, (old, canonical(old, self.equalities))))

    def _clash(self, clause: Clause, plan: Plan, bindings: Iterable[Binding]) -> None:
        for binding in bindings:
            if not self._keep(clause, Clash(plan.rule, *self._instance(plan, binding))):
                break

    def _keep(self, clause: Clause, clash: Clash) -> bool:
        """Keep a clash unless there are enough of its rule."""
        if self._kept.get(clause.rank, 0) >= self.limits.clashes:
            return False
        key = clause.rank, frozenset(clash.premises)
        if key not in self.clashes:
            self.clashes[key] = clash
            self._kept[clause.rank] = self._kept.get(clause.rank, 0) + 1
        return True

    def _instance(self, plan: Plan, binding: Binding) -> tuple[tuple[GroundAtom, ...], tuple[str, ...]]:
        """The body of a rule with the values of a binding: its atoms, and its conditions as text."""
        premises = tuple((atom.predicate, instance(atom.args, plan.slots)(binding)) for atom in plan.body)
        return premises, tuple(text for c in plan.rule.conditions for text in told(c, binding, plan.slots))

    def proof(self, atom: GroundAtom) -> Proof:
        """The proof of a fact that holds."""
        return prove(atom, self._reason, self.equalities, self._proofs)

    def proof_of(self, clash: Clash) -> Proof:
        """The proof of what clashes: an equality, or a contradiction."""
        premises = [self.proof(premise) for premise in clash.premises]
        conclusion = None if clash.equated is None else ("=", clash.equated)
        null = clash.equated[0] if clash.equated is not None else None
        while isinstance(null, Null) and null in self.equalities:
            conclusion = None
            null, because = self.equalities[null]
            premises.append(because)
        return Proof(conclusion, clash.rule, tuple(premises), clash.conditions)

    def _reason(self, atom: GroundAtom) -> Reason:
        predicate, args = atom
        binding = self.store[predicate, len(args)].why[args]
        if binding is None:
            return Reason(None, atom)
        if binding[0] == _RENAMED:
            return Reason(None, (predicate, binding[1:]))
        plan = self.program.plans[binding[0]]
        heads = [head(binding) for signature, head in plan.heads if signature == (predicate, len(args))]
        found = args if args in heads else next(row for row in heads if self._named(row) == args)
        return Reason(plan.rule, (predicate, found), *self._instance(plan, binding))


def _better_last(left: Value, right: Value) -> tuple[Null, Value]:
    """A null before what it is called from now on: a name if there is one, else the older null."""
    if isinstance(left, Null) and (
        not isinstance(right, Null) or (right.depth, right.number) < (left.depth, left.number)
    ):
        return left, right
    assert isinstance(right, Null)
    return right, left
