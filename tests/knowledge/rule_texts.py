"""Random rules of the whole language (hypothesis)."""

from __future__ import annotations

from hypothesis import strategies as st

from neurosym.logic import Atom, Comparison, Count, Expression, Negation, Rule, Term, number

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}|[_/A-Z][a-z /.:_-]{1,8}", fullmatch=True) | st.sampled_from(
    ["is", "count", "not"]
)
characters = st.characters(codec="utf-8", exclude_characters="\r\0", exclude_categories=["Cs", "Cc"])
texts = st.text(characters, max_size=6)
variables = st.builds(Term, st.from_regex(r"[A-Z][a-z0-9]{0,3}|_[A-Z]", fullmatch=True))
constants = (
    st.builds(Term, names, st.just(False))
    | st.integers(-99, 99).map(number)
    | st.floats(-1e6, 1e6, allow_nan=False).map(number)
    | st.builds(Term, texts, st.just(False), st.just("string"))
)
terms = variables | constants
atoms = st.builds(Atom, names, st.lists(terms, min_size=1, max_size=3).map(tuple))
equalities = st.builds(Atom, st.just("="), st.tuples(terms, terms))
negations = st.builds(Negation, atoms)


def _is_folded(expression: Expression) -> bool:
    """The parser reads minus a number as a number."""
    inner = expression.operands[0]
    is_number = isinstance(inner, Term) and inner.datatype in ("integer", "decimal")
    return len(expression.operands) > 1 or not is_number or inner.name.startswith("-")


def _expressions(inner: st.SearchStrategy) -> st.SearchStrategy:
    binary = st.builds(Expression, st.sampled_from("+-*/"), st.tuples(inner, inner))
    minus = st.builds(Expression, st.just("-"), st.tuples(inner)).filter(_is_folded)
    functions = st.builds(Expression, st.just("abs"), st.tuples(inner)) | st.builds(
        Expression, st.sampled_from(["min", "max"]), st.tuples(inner, inner)
    )
    return binary | minus | functions


plain = st.recursive(terms, _expressions, max_leaves=4)
operators = st.sampled_from(["<", "=<", ">", ">=", "=:=", r"=\=", r"\="])
comparisons = st.builds(Comparison, operators, plain, plain)
counts = st.builds(
    Count,
    st.lists(terms, min_size=1, max_size=2).map(tuple),
    st.lists(atoms, min_size=1, max_size=2).map(tuple),
    st.lists(negations | comparisons, max_size=1).map(tuple),
)
sides = st.recursive(terms | counts, _expressions, max_leaves=4)
conditions = (
    negations | st.builds(Comparison, operators, sides, sides) | st.builds(Comparison, st.just("is"), variables, sides)
)
words = st.from_regex(r"[A-Za-z0-9 :;,%'.-]{1,20}", fullmatch=True).map(str.strip).filter(bool)
reserved = ("status", "date", "distinct", "ontology")
keys = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda k: k not in ("status", "date", "distinct", "ontology")
)
metas = st.dictionaries(keys, words, max_size=3)
rules = st.builds(
    Rule,
    st.lists(atoms | equalities, max_size=3).map(tuple),
    st.lists(atoms, min_size=1, max_size=4).map(tuple),
    st.none() | st.sampled_from([0.001, 0.25, 0.909, 1.0]),
    metas,
    conditions=st.lists(conditions, max_size=3).map(tuple),
    distinct=st.booleans(),
)
