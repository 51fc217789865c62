r"""Bodies of any shape in numbers: what the general evaluation and the evolution of rules work on.

A body is a conjunction of literals over variables and constants, with X = 0 and Y = 1 the head's variables:

    r(X, Z), s(Z, Y), t(Z, c), \+ u(X, Y), \+ v(Z, _), X ≠ Y, X < Y

A negated literal whose variable is nowhere else says that there is no such fact at all. `<` compares entities whose names are
numbers. A body in which Y does not occur is a *set* of entities, the body of rules h(X, c) and h(X, ∃V); else it is a set of
*pairs*. Bodies that differ in the names of variables, the order of literals, or in which end of a pair is called X are one
canonical body.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Final, NamedTuple

from neurosym.errors import InductionError, Problem
from neurosym.induction.kg.store import TripleStore
from neurosym.logic import Atom, Comparison, Negation, Rule, Term

X: Final = 0
Y: Final = 1
DIFFERENT: Final = -1
LESS: Final = -2
_BUILT_IN: Final = {DIFFERENT: r"\=", LESS: "<"}
_BETWEEN: Final = "ZWVUTSRQPONMLKJIHGFEDCBA"


class Literal(NamedTuple):
    """`relation(a, b)` in numbers of a store; a term is a variable if it is not negative, else −1 − the number of an entity."""

    relation: int
    a: int
    b: int
    negated: bool = False

    @property
    def variables(self) -> tuple[int, ...]:
        """Those of its terms that are variables, each once."""
        return tuple(dict.fromkeys(t for t in (self.a, self.b) if t >= 0))


Body = tuple[Literal, ...]


def literal(direction: int, a: int, b: int, negated: bool = False) -> Literal:
    """A literal read in a direction."""
    return Literal(direction >> 1, *((b, a) if direction & 1 else (a, b)), negated)


def chain(path: Sequence[int], end: int) -> Body:
    """A path of directions from X to a term, Y or another, through new variables."""
    stops = [X, *range(2, len(path) + 1), end]
    return tuple(literal(d, stops[k], stops[k + 1]) for k, d in enumerate(path))


def constant(entity: int) -> int:
    """The term of an entity; its own inverse.

    >>> constant(7), constant(constant(7))
    (-8, 7)
    """
    return -1 - entity


def is_pair(body: Body) -> bool:
    """Whether Y occurs in it."""
    return any(Y in literal.variables for literal in body)


def variables_of(body: Iterable[Literal]) -> list[int]:
    """Its variables, ascending."""
    return sorted({v for literal in body for v in literal.variables})


def renamed(body: Body, names: dict[int, int]) -> Body:
    """The body with its variables renamed; constants stay."""
    return tuple(Literal(r, names.get(a, a), names.get(b, b), n) for r, a, b, n in body)


def swapped(body: Body) -> Body:
    """The same pairs read backwards: X and Y exchanged."""
    return renamed(body, {X: Y, Y: X})


def canonical(body: Body) -> Body:
    """The least spelling of the body that leaves X and Y in place.

    >>> canonical((Literal(1, 5, 1), Literal(0, 0, 5))) == canonical((Literal(0, 0, 2), Literal(1, 2, 1)))
    True
    """
    inner = [v for v in variables_of(body) if v > Y]
    new = range(2, 2 + len(inner))
    return min(tuple(sorted(set(renamed(body, dict(zip(inner, order, strict=True)))))) for order in permutations(new))


def canonical_pair(body: Body) -> tuple[Body, bool]:
    """The least spelling of a set of pairs, and whether it is that of the pairs read backwards."""
    forwards, back = canonical(body), canonical(swapped(body))
    return (back, True) if back < forwards else (forwards, False)


def path_of(body: Body) -> tuple[int, ...] | None:
    """The directions of a body that is a path from X to Y; None if it is none.

    >>> path_of((Literal(0, 0, 2), Literal(1, 1, 2)))
    (0, 3)
    """
    here, path, left = X, [], list(body)
    while left:
        step = next((p for p in left if here in (p.a, p.b)), None)
        if step is None or step.negated or step.relation < 0 or min(step.a, step.b) < 0 or step.a == step.b:
            return None
        left.remove(step)
        path.append(2 * step.relation + (step.b == here))
        here = step.a if step.b == here else step.b
        if here in (X, Y) and left:
            return None
    return tuple(path) if here == Y and len(variables_of(body)) == len(body) + 1 else None


KINDS: Final = ("path", "tree", "cyclic", "existential", "negated")


def kind_of(body: Body) -> str:
    """The first that is true: "negated", a literal is; "path", see `path_of`, or a set's one literal; "cyclic", some variables
    can be reached in two ways; "existential", a variable occurs once; else "tree".

    >>> p, q = chain([0, 2], Y), chain([0], constant(7))
    >>> kind_of(p), kind_of(q), kind_of(p + q), kind_of(p + chain([4], Y))
    ('path', 'path', 'tree', 'cyclic')
    >>> kind_of(p + (Literal(1, X, 9),))
    'existential'
    """
    if any(p.negated for p in body):
        return "negated"
    if path_of(body) is not None or (len(body) == 1 and not is_pair(body)):
        return "path"
    edges = [p.variables for p in body if p.relation >= 0]
    variables = variables_of(body)
    if sum(len(edge) > 1 for edge in edges) + sum(p.a == p.b for p in body) >= len(variables):
        return "cyclic"
    times = Counter(v for edge in edges for v in edge)
    return "existential" if any(times[v] == 1 for v in variables if v > Y) else "tree"


def is_connected(body: Body) -> bool:
    """Whether all its variables hang together with X through literals that are not negated."""
    reached, edges = {X}, [set(literal.variables) for literal in body if not literal.negated and literal.relation >= 0]
    for _ in edges:
        for edge in edges:
            if edge & reached:
                reached |= edge
    own: set[int] = set()
    for literal in body:
        local = free_variables(literal, body) if literal.negated else ()
        if len(local) > 1:
            return False
        own |= set(literal.variables) - set(local)
    return own <= reached and any(X in edge for edge in edges)


def freed(body: Body) -> list[Body]:
    """The body with a new variable for one of the constants of its literals that are not negated."""
    new = max(*variables_of(body), Y) + 1
    found = []
    for k, p in enumerate(body):
        if not p.negated and p.a < 0:
            found.append((*body[:k], p._replace(a=new), *body[k + 1 :]))
        if not p.negated and p.b < 0:
            found.append((*body[:k], p._replace(b=new), *body[k + 1 :]))
    return found


def free_variables(literal: Literal, body: Body) -> tuple[int, ...]:
    """The literal's variables that no other literal has, without X and Y."""
    others = {v for other in body if other is not literal for v in other.variables}
    return tuple(v for v in literal.variables if v > Y and v not in others)


def written(store: TripleStore, body: Body) -> tuple[tuple[Atom, ...], tuple[Negation | Comparison, ...]]:
    """The body's atoms and conditions as rules have them, variables named X, Y, Z, W, …"""
    inner = [v for v in variables_of(body) if v > Y]
    names = {X: "X", Y: "Y"} | {
        v: _BETWEEN[i % len(_BETWEEN)] + "1" * (i // len(_BETWEEN)) for i, v in enumerate(inner)
    }
    atoms: list[Atom] = []
    conditions: list[Negation | Comparison] = []
    for literal in body:
        local = free_variables(literal, body) if literal.negated else ()
        a, b = (
            Term("_") if t in local else Term(names[t]) if t >= 0 else Term(store.entities[constant(t)], False)
            for t in (literal.a, literal.b)
        )
        if literal.relation < 0:
            conditions.append(Comparison(_BUILT_IN[literal.relation], a, b))
        elif literal.negated:
            conditions.append(Negation(Atom(store.relations[literal.relation], (a, b))))
        else:
            atoms.append(Atom(store.relations[literal.relation], (a, b)))
    return tuple(atoms), tuple(conditions)


def numbered(store: TripleStore, rule: Rule) -> tuple[Literal, Body]:
    """The head and body of a rule in numbers of the store.

    The head's variables are X and Y in its order; of a head `h(c, X)` the only one is X. Of an existential head `h(X, V)` V is
    a variable that the body does not have.

    Raises:
        InductionError: the rule has no single head `h(X, Y)`, `h(X, c)`, `h(c, X)`; or other conditions than negation, `\\=`
            and `<`; or names a relation or an entity that the store does not have.
    """
    if len(rule.head) != 1 or len(rule.head[0].args) != 2:
        raise _problem(rule, "a rule over a graph has one head with two arguments")
    inner = {t.name for part in (*rule.body, *rule.conditions) for t in part.variables}
    ends = [t.name for t in rule.head[0].variables]
    ends.sort(key=lambda name: name not in inner)  # X occurs in the body
    if not ends or ends[0] not in inner:
        raise _problem(rule, "no variable of the head occurs in the body")
    names = {name: i for i, name in enumerate(ends)}

    def term(t: Term) -> int:
        if t.is_variable:
            name = f"_{len(names)}" if t.name == "_" else t.name
            return names.setdefault(name, max(2, len(names) + (len(ends) < 2)))
        entity = store.entities.number(t.name)
        if entity < 0:
            raise _problem(rule, f"the graph has no entity {t.name!r}")
        return constant(entity)

    def numbers(atom: Atom, negated: bool = False) -> Literal:
        if len(atom.args) != 2:
            raise _problem(rule, f"{atom} does not have two arguments")
        return Literal(store.named(atom.predicate), term(atom.args[0]), term(atom.args[1]), negated)

    body = [numbers(atom) for atom in rule.body]
    operators = {name: number for number, name in _BUILT_IN.items()}
    for condition in rule.conditions:
        if rule.distinct and isinstance(condition, Comparison) and condition.operator == _BUILT_IN[DIFFERENT]:
            continue  # variables are apart anyway, from each other and from constants
        if isinstance(condition, Negation):
            body.append(numbers(condition.atom, negated=True))
        elif condition.operator in operators and isinstance(condition.left, Term) and isinstance(condition.right, Term):
            body.append(Literal(operators[condition.operator], term(condition.left), term(condition.right)))
        else:
            raise _problem(rule, f"{condition} is no condition that rules over graphs have")
    return numbers(rule.head[0]), tuple(body)


def _problem(rule: Rule, message: str) -> InductionError:
    return InductionError(Problem(f"{message}: {rule}", file=rule.file, line=rule.line))
