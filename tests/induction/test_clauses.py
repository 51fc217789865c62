import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_films import rule
from rule_brute_force import are_variants
from rule_brute_force import subsumes as subsumes_by_brute_force
from rule_strategies import VARIABLES, rules

import neurosym.induction
from neurosym.induction.clauses import canonical, canonical_body
from neurosym.induction.subsumption import Known, clauses_of
from neurosym.knowledge.subsumption import subsumes
from neurosym.records import Atom, Rule, Term


@given(rules(most=5), st.permutations(VARIABLES), st.randoms())
@settings(max_examples=200, deadline=None)
def test_the_canonical_form_forgets_names_and_order(rule: Rule, names: list[Term], random: object) -> None:
    renaming = dict(zip(VARIABLES, names, strict=True))

    def renamed(atoms: tuple[Atom, ...]) -> tuple[Atom, ...]:
        changed = [Atom(a.predicate, tuple(renaming.get(t, t) for t in a.args)) for a in atoms]
        random.shuffle(changed)
        return tuple(changed)

    assert canonical(Rule(renamed(rule.head), renamed(rule.body))) == canonical(rule)


@given(rules(most=3), rules(most=3))
@settings(max_examples=300, deadline=None)
def test_rules_have_one_canonical_form_only_if_they_are_variants(one: Rule, other: Rule) -> None:
    assert (canonical(one) == canonical(other)) == are_variants(one, other)
    assert are_variants(one, canonical(one))


def test_a_ring_of_six_alike_variables_is_told_from_two_rings_of_three() -> None:
    six = rule("h(X) :- " + ", ".join(f"p(V{i}, V{(i + 1) % 6})" for i in range(6)))
    turned = rule("h(X) :- " + ", ".join(f"p(V{(i + 3) % 6}, V{(i + 4) % 6})" for i in reversed(range(6))))
    three = rule("h(X) :- p(A, B), p(B, C), p(C, A), p(D, E), p(E, F), p(F, D).")
    assert canonical(six) == canonical(turned) != canonical(three)


def test_head_variables_keep_their_place() -> None:
    assert canonical_body([(0, (0, 1))], 2) != canonical_body([(0, (1, 0))], 2)


@given(rules(heads=1, most=2), rules(heads=1, most=4), st.booleans())
@settings(max_examples=400, deadline=None)
def test_subsumption_equals_that_of_trying_all_substitutions(general: Rule, specific: Rule, injective: bool) -> None:
    if not general.existential and not specific.existential:
        found = subsumes(general, specific, injective=injective)
        assert found == subsumes_by_brute_force(general, specific, injective)


@given(rules(heads=1), st.permutations(VARIABLES), st.data())
@settings(max_examples=150, deadline=None)
def test_a_rule_subsumes_its_renamings_and_extensions(general: Rule, names: list[Term], data: st.DataObject) -> None:
    renaming = dict(zip(VARIABLES, names, strict=True))
    more = data.draw(rules(most=2)).body

    def renamed(atoms: tuple[Atom, ...]) -> tuple[Atom, ...]:
        return tuple(Atom(a.predicate, tuple(renaming.get(t, t) for t in a.args)) for a in atoms)

    if not general.existential:
        assert subsumes(general, Rule(renamed(general.head), (*renamed(general.body), *more)))


@pytest.mark.parametrize(
    ("general", "specific", "injective", "expected"),
    [
        ("h(X) :- p(X, Y).", "h(A) :- p(A, B), q(B).", True, True),
        ("h(X) :- p(X, Y).", "h(A) :- p(B, A).", True, False),
        ("h(X) :- p(X, Y), p(X, Z).", "h(X) :- p(X, Y).", False, True),
        ("h(X) :- p(X, Y), p(X, Z).", "h(X) :- p(X, Y).", True, False),
        ("h(X) :- p(X, Y).", "h(X) :- p(X, heart).", True, True),
        ("h(X) :- p(X, heart).", "h(X) :- p(X, Y).", True, False),
        ("g(X), h(X) :- p(X).", "h(X) :- p(X).", True, True),
        ("h(X) :- p(X).", "g(X), h(X) :- p(X).", True, False),
        ("in(X, Y) :- p(X).", "in(X, Y) :- p(X), q(Y).", True, False),
        ("in(X, Y) :- p(X).", "in(X, Z) :- p(X), q(X).", True, True),
        (":- p(X).", ":- p(Y), q(Y).", True, True),
        (":- p(X).", "h(X) :- p(X).", True, False),
    ],
)
def test_subsumption_knows(general: str, specific: str, injective: bool, expected: bool) -> None:
    assert subsumes(rule(general), rule(specific), injective=injective) is expected


def test_known_rules_are_chained_and_transitivity_is_matched() -> None:
    texts = ("lung(X) :- left_lung(X).", "organ(X) :- lung(X).", "above(X, Z) :- above(X, Y), above(Y, Z).")
    known = Known(clause for text in texts for clause in clauses_of(rule(text)))
    assert known.entails(("organ", (5,)), [("left_lung", (5,))])
    assert known.entails(("above", (0, 3)), [("above", (0, 1)), ("above", (1, 2)), ("above", (2, 3))])
    assert not known.entails(("left_lung", (5,)), [("organ", (5,))])
    assert known.superfluous([("left_lung", (0,)), ("organ", (0,)), ("organ", (1,))]) == [("organ", (0,))]


def test_what_cannot_be_chained_gives_no_clause() -> None:
    for text in (":- p(X), q(X).", "p(X, Y) :- q(X).", "p(a, b).", "=(X, Y) :- p(X, Y)."):
        assert clauses_of(rule(text)) == []
    assert len(clauses_of(rule("p(X), q(X) :- r(X)."))) == 2


def test_the_examples_in_the_docstrings_run() -> None:
    for module in pkgutil.iter_modules(neurosym.induction.__path__, "neurosym.induction."):
        assert doctest.testmod(importlib.import_module(module.name)).failed == 0


def test_induction_never_imports_torch() -> None:
    code = "import sys, neurosym.induction; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
