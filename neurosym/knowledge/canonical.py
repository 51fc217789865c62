"""When do two rules say the same? When they differ in the names of variables and in the order of their parts only.

Each rule gets a canonical form. Variables are first told apart by where they occur (colour refinement, as in graph
canonisation: McKay & Piperno, "Practical graph isomorphism, II", 2014); among those that still look alike every order is
tried and the least spelling taken. Of variables that can be exchanged without changing the rule (``a(X), a(Y), a(Z)``) one
order stands for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from neurosym.logic import Atom, Comparison, Condition, Count, Expression, Negation, Operand, Rule, Term

Form = tuple[tuple[str, ...], tuple[str, ...]]
_MOST_ORDERS = 5_040
_MIRRORED = {">": "<", ">=": "=<"}


def canonical(rule: Rule) -> Form:
    """Head and body as sorted strings: equal for two rules iff they say the same, weights aside.

    Where more than 5,040 orders of like variables would have to be tried (of more than 8 variables fewer), the first decide,
    and two spellings of one rule may look different.
    """
    parts: list[tuple[int, Atom | Condition]] = [
        *((0, a) for a in rule.head),
        *((1, a) for a in rule.body),
        *((1, c) for c in rule.conditions),
    ]
    variables = list(dict.fromkeys(v for _, part in parts for v in part.variables))

    def form(order: Sequence[Term]) -> Form:
        names = {v: f"V{i}" for i, v in enumerate(order)}
        spelled = [(side, spell(part, names)) for side, part in parts]
        head, body = ({text for s, text in spelled if s == side} for side in (0, 1))
        return tuple(sorted(head)), tuple(sorted(body))

    if len(variables) < 2:
        return form(variables)
    best: Form | None = None
    for tried, order in enumerate(_orders(parts, variables)):
        current = form(order)
        if best is None or current < best:
            best = current
        if tried >= min(_MOST_ORDERS, 8 * _MOST_ORDERS // len(variables)):
            break
    assert best is not None
    return best


def _orders(parts: Sequence[tuple[int, Atom | Condition]], variables: Sequence[Term]) -> Iterator[list[Term]]:
    """Orders of the variables that colour refinement cannot tell apart."""
    occurs = {v: [(side, part) for side, part in parts if v in part.variables] for v in variables}

    def refine(colours: dict[Term, int]) -> dict[Term, int]:
        while True:
            names = {v: f"C{c}" for v, c in colours.items()}
            looks = {
                v: (colours[v], sorted(f"{side}{spell(part, {**names, v: '*'})}" for side, part in occurs[v]))
                for v in variables
            }
            ranks = sorted({str(look) for look in looks.values()})
            ranks.sort(key=lambda text: (int(text[1 : text.index(",")]), text))
            finer = {v: ranks.index(str(look)) for v, look in looks.items()}
            if len(set(finer.values())) == len(set(colours.values())):
                return finer
            colours = finer

    def exchanged(u: Term, v: Term) -> bool:
        around = [*occurs[u], *(o for o in occurs[v] if u not in o[1].variables)]
        other = {u: v.name, v: u.name}
        return {(s, spell(p, {})) for s, p in around} == {(s, spell(p, other)) for s, p in around}

    def kinds_of(tied: Sequence[Term]) -> list[Term]:
        """One of each kind of variables that can be exchanged with each other."""
        kinds: list[Term] = []
        for v in tied:
            if not any(exchanged(u, v) for u in kinds):
                kinds.append(v)
        return kinds

    def search(colours: dict[Term, int]) -> Iterator[list[Term]]:
        groups: dict[int, list[Term]] = {}
        for v in variables:
            groups.setdefault(colours[v], []).append(v)
        tied = next((g for _, g in sorted(groups.items()) if len(g) > 1), None)
        if tied is None:
            yield sorted(variables, key=lambda v: colours[v])
            return
        kinds = kinds_of(tied)
        if len(kinds) == 1 and len(tied) > 7:  # at once: step by step it is deep
            place = {v: i for i, v in enumerate(tied)}
            yield from search(refine({v: len(tied) * c + place.get(v, 0) for v, c in colours.items()}))
            return
        for chosen in kinds:
            split = {v: 2 * c + (v in tied and v != chosen) for v, c in colours.items()}
            yield from search(refine(split))

    yield from search(refine(dict.fromkeys(variables, 0)))


def spell(part: Atom | Condition | Operand, names: Mapping[Term, str]) -> str:
    """A part of a rule with its variables renamed, and what is symmetric in it in one order."""
    renamed = rename(part, lambda t: Term(names.get(t, t.name)) if t.is_variable else t)
    if isinstance(renamed, Atom) and renamed.predicate == "=":
        return " = ".join(sorted(map(str, renamed.args)))
    if isinstance(renamed, Comparison):
        left, right = str(renamed.left), str(renamed.right)
        if renamed.operator in _MIRRORED:
            return f"{right} {_MIRRORED[renamed.operator]} {left}"
        if renamed.operator in ("=:=", r"=\=", r"\="):
            left, right = sorted((left, right))
        return f"{left} {renamed.operator} {right}"
    if isinstance(renamed, Count):
        inner = sorted(spell(p, {}) for p in (*renamed.body, *renamed.conditions))
        return f"count{{{', '.join(sorted(map(str, renamed.terms)))} : {', '.join(inner)}}}"
    return str(renamed)


Renaming = Callable[[Term], Term]


def rename(part: Atom | Condition | Operand, name: Renaming) -> Atom | Condition | Operand:
    """The same part of a rule with every term replaced."""
    if isinstance(part, Term):
        return name(part)
    if isinstance(part, Atom):
        return replace(part, args=tuple(map(name, part.args)))
    if isinstance(part, Negation):
        return Negation(replace(part.atom, args=tuple(map(name, part.atom.args))))
    if isinstance(part, Expression):
        return replace(part, operands=tuple(rename(o, name) for o in part.operands))  # type: ignore[misc]
    if isinstance(part, Comparison):
        return replace(part, left=rename(part.left, name), right=rename(part.right, name))  # type: ignore[arg-type]
    inner = tuple(rename(c, name) for c in part.conditions)
    atoms = tuple(rename(a, name) for a in part.body)
    return Count(tuple(map(name, part.terms)), atoms, inner)  # type: ignore[arg-type]
