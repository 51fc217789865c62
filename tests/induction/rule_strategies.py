"""Random small worlds and rules over them."""

from __future__ import annotations

from hypothesis import strategies as st

from neurosym.records import Atom, Fact, FactStore, Rule, Term

UNARY, BINARY = ("a", "b"), ("p", "q", "r")
ENTITIES = ("e0", "e1", "e2", "e3")
VARIABLES = tuple(Term(name) for name in "XYZW")
CONSTANTS = (Term("e0", False), Term("e2", False), Term("nobody", False))


@st.composite
def stores(draw: st.DrawFn, scenes: bool | None = None, most: int = 30) -> FactStore:
    """Facts with loops, repeated facts and weights whose products are exact."""
    with_scenes = draw(st.booleans()) if scenes is None else scenes
    scene = st.sampled_from(("s0", "s1", "s2")) if with_scenes else st.just("")
    entity, weight = st.sampled_from(ENTITIES), st.sampled_from((1.0, 1.0, 0.5, 0.25))
    unary = st.builds(Fact, st.sampled_from(UNARY), st.tuples(entity), weight, scene)
    binary = st.builds(Fact, st.sampled_from(BINARY), st.tuples(entity, entity), weight, scene)
    return FactStore(tuple(draw(st.lists(unary | binary | binary, min_size=1, max_size=most))))


@st.composite
def rules(draw: st.DrawFn, constants: bool = True, heads: int = 2, most: int = 4) -> Rule:
    """Rules with repeated relations, loops, cycles, existential and conjunctive heads, and a relation without facts."""
    chosen = VARIABLES[: draw(st.integers(1, len(VARIABLES)))]
    term = st.sampled_from((*chosen * 3, *CONSTANTS) if constants else chosen)
    unary = st.builds(Atom, st.sampled_from(UNARY), st.tuples(term))
    binary = st.builds(Atom, st.sampled_from((*BINARY * 3, "unseen")), st.tuples(term, term))
    head = draw(st.lists(unary | binary, min_size=1, max_size=draw(st.sampled_from((1, 1, heads)))))
    return Rule(tuple(head), tuple(draw(st.lists(unary | binary | binary, min_size=1, max_size=most))))
