"""Inference against clingo and against the definition, on generated rules and facts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.knowledge.inference import GroundAtom, Null, Program, infer
from neurosym.logic import Atom, Comparison, Count, Expression, Negation, Operand, Rule, Term, number
from tests.knowledge.spelled import X, Y, Z, atom, rule
from tests.oracles import asp, naive

MEASURED = frozenset({"m0", "m1"})
LEVEL = {"a0": 0, "r0": 0, "m0": 0, "a1": 1, "r1": 1, "m1": 1, "a2": 2, "r2": 2, "a3": 3}
OBJECTS = [Term("X"), Term("Y"), Term("Z")]
VALUES = [Term("D"), Term("E")]
NAMES = ["a", "b", "c"]
EXAMPLES = settings(max_examples=120, deadline=None)


@st.composite
def facts_of(draw: st.DrawFn) -> list[GroundAtom]:
    name = st.sampled_from(NAMES)
    some = st.one_of(
        st.tuples(st.sampled_from(["a0", "a1", "a2"]), st.tuples(name)),
        st.tuples(st.sampled_from(["r0", "r1", "r2"]), st.tuples(name, name)),
        st.tuples(st.sampled_from(["m0", "m1"]), st.tuples(name, st.integers(-3, 9))),
    )
    return draw(st.lists(some, min_size=draw(st.sampled_from([0, 8, 16])), max_size=20))


def arity_filled(draw: st.DrawFn, predicate: str, objects: list[Term], values: list[Term]) -> Atom:
    if predicate in MEASURED:
        return Atom(predicate, (draw(st.sampled_from(objects)), draw(st.sampled_from(values))))
    size = 1 if predicate.startswith("a") else 2
    return Atom(predicate, tuple(draw(st.sampled_from(objects)) for _ in range(size)))


@st.composite
def stratified_rule(draw: st.DrawFn) -> Rule:
    """Negation and counting only of lower levels, numbers computed only for `m1` from `m0`."""
    head = draw(st.sampled_from(["", "a1", "a2", "a3", "r1", "r2", "m1"]))
    level = LEVEL.get(head, 4)
    usable = [p for p, at in LEVEL.items() if at <= level and not (head == "m1" and p == "m1")]
    lower = [p for p, at in LEVEL.items() if at < level]
    terms = [*OBJECTS, *OBJECTS, X, X, Y, Term("a", False)]
    body = [arity_filled(draw, draw(st.sampled_from(usable)), terms, VALUES) for _ in range(draw(st.integers(1, 3)))]
    bound = {t for a in body for t in a.args if t.is_variable}
    objects = [t for t in OBJECTS if t in bound] or [Term("a", False)]
    values: list[Term] = [t for t in VALUES if t in bound]
    conditions: list[Negation | Comparison] = []
    if head == "m1" and values and draw(st.booleans()):
        operators = st.sampled_from(["+", "-", "*"])
        computed = Expression(draw(operators), (draw(st.sampled_from(values)), number(draw(st.integers(-2, 3)))))
        conditions.append(Comparison("is", Term("F"), computed))
        values.append(Term("F"))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        conditions.append(draw(condition(lower, objects, values)))
    heads = []
    if head:
        heads = [arity_filled(draw, head, objects, values or [number(1)])]
        if head == "a1" and draw(st.booleans()):
            heads.append(arity_filled(draw, draw(st.sampled_from(["a3", "r2"])), objects, [number(1)]))
    return Rule(tuple(heads), tuple(body), None, {}, "", 0, tuple(conditions), draw(st.booleans()))


@st.composite
def condition(draw: st.DrawFn, lower: list[str], objects: list[Term], values: list[Term]) -> Negation | Comparison:
    kind = draw(st.sampled_from(["negation", "count", "differ", "compare"] if lower else ["differ", "compare"]))
    anything = Term("_")
    if kind == "negation":
        local = [*objects, anything, Term("_L")]
        return Negation(arity_filled(draw, draw(st.sampled_from(lower)), local, [*values, number(2), anything]))
    if kind == "count":
        inner = [*objects, Term("U"), Term("V")]
        body = [
            arity_filled(draw, draw(st.sampled_from(lower)), inner, [Term("G")]) for _ in range(draw(st.integers(1, 2)))
        ]
        local = sorted({t for a in body for t in a.args if t.name in "UVG"})
        if local:
            tests: list[Negation | Comparison] = []
            if Term("G") in local and draw(st.booleans()):
                tests.append(Comparison(">", Term("G"), number(1)))
            if Term("U") in local and draw(st.booleans()):
                tests.append(
                    Negation(arity_filled(draw, draw(st.sampled_from(lower)), [Term("U"), anything], [anything]))
                )
            counted = Count(
                tuple(draw(st.lists(st.sampled_from(local), min_size=1, unique=True))), tuple(body), tuple(tests)
            )
            operator = draw(st.sampled_from([">=", "<", "=:=", "=\\="]))
            return Comparison(operator, counted, number(draw(st.integers(0, 3))))
    if kind == "compare" and values:
        operands: list[Operand] = [*values, Expression("+", (values[0], number(1))), Expression("abs", (values[-1],))]
        operator = draw(st.sampled_from(["<", "=<", ">", ">=", "=:=", "=\\="]))
        return Comparison(operator, draw(st.sampled_from(operands)), draw(st.sampled_from([*operands, number(3)])))
    return Comparison("\\=", draw(st.sampled_from(objects)), draw(st.sampled_from([*objects, Term("c", False)])))


@given(facts_of(), st.lists(stratified_rule(), min_size=3, max_size=8))
@settings(max_examples=250, deadline=None)
def test_what_follows_is_what_clingo_says_and_every_proof_stands(facts: list[GroundAtom], rules: list[Rule]) -> None:
    holds, clashes = asp.consequences(facts, rules, MEASURED)
    found = infer(facts, rules, MEASURED, clash_limit=10_000)
    assert set(found.facts()) == holds
    assert {(rules.index(c.rule), frozenset(c.premises)) for c in found.clashes} == {
        (rules.index(rules[n]), body) for n, body in clashes
    }
    everything = tuple(found.facts())
    assert set(found.conclusions()) == holds - set(facts)
    assert found.derived == len(holds - set(facts))
    for each in everything:
        naive.check_proof(found.proof(each), set(facts), everything, MEASURED)
    for clash in found.clashes:
        naive.check_proof(found.proof_of(clash), set(facts), everything, MEASURED)


@given(facts_of(), st.lists(stratified_rule(), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_program_gives_the_same_in_every_run_and_in_any_order_of_rules(
    facts: list[GroundAtom], rules: list[Rule]
) -> None:
    program = Program(rules, MEASURED)
    program.run(facts[::2])
    assert set(program.run(facts).facts()) == set(infer(facts, rules[::-1], MEASURED).facts())


@st.composite
def existential_rule(draw: st.DrawFn) -> Rule:
    body = [
        arity_filled(draw, draw(st.sampled_from(["a0", "a1", "r0", "r1"])), [X, Y], [])
        for _ in range(draw(st.integers(1, 2)))
    ]
    bound = sorted({t for a in body for t in a.args})
    head = [
        arity_filled(draw, draw(st.sampled_from(["a1", "a2", "r1", "r2"])), [*bound, Z], [])
        for _ in range(draw(st.integers(1, 2)))
    ]
    return Rule(tuple(head), tuple(body), distinct=draw(st.booleans()))


def names_only(facts: list[GroundAtom]) -> list[GroundAtom]:
    return [fact for fact in facts if fact[0] not in MEASURED]


@given(facts_of(), st.lists(existential_rule(), min_size=1, max_size=4))
@EXAMPLES
def test_the_chase_ends_in_a_model_and_a_model_needs_no_chase(facts: list[GroundAtom], rules: list[Rule]) -> None:
    found = infer(names_only(facts), rules, max_depth=3)
    everything = tuple(found.facts())
    for each in everything:
        naive.check_proof(found.proof(each), set(facts), everything, frozenset())
    for one in rules:
        if one not in found.truncated:
            assert naive.is_satisfied(one, everything)
    if not found.truncated:
        again = infer(everything, rules, max_depth=100)
        assert (again.derived, again.truncated) == (0, ())


def a_model(facts: list[GroundAtom], rules: list[Rule], witness: str) -> set[GroundAtom]:
    """Facts closed under rules by the definition, with one known object as the witness of everything."""
    model = set(facts)
    while True:
        missing = [
            (a.predicate, tuple(theta.get(t, witness) for t in a.args))
            for one in rules
            for theta in naive.matches(one.body, model, {})
            if not any(True for _ in naive.matches(one.head, model, theta))
            for a in one.head
        ]
        if not missing:
            return model
        model.update(missing)


def maps_into(facts: list[GroundAtom], model: set[GroundAtom]) -> bool:
    """Whether nulls can be replaced so that every fact is in the model."""
    nulls = {v: Term(str(v)) for _, args in facts for v in args if isinstance(v, Null)}
    atoms = [
        Atom(p, tuple(nulls[v] if isinstance(v, Null) else Term(str(v), False) for v in args)) for p, args in facts
    ]
    return next(naive.matches(atoms, model, {}), None) is not None


@given(facts_of(), st.lists(existential_rule(), min_size=1, max_size=3), st.sampled_from(NAMES))
@settings(max_examples=60, deadline=None)
def test_the_chase_says_nothing_that_is_not_so_in_every_model(
    facts: list[GroundAtom], rules: list[Rule], name: str
) -> None:
    rules = [Rule(one.head, one.body, distinct=False) for one in rules]
    found = [fact for fact in infer(names_only(facts), rules, max_depth=2).facts() if fact not in facts]
    if len({v for _, args in found for v in args if isinstance(v, Null)}) <= 6:
        assert maps_into(found, a_model(names_only(facts), rules, name))


@st.composite
def equality(draw: st.DrawFn) -> Rule:
    body = draw(
        st.sampled_from(
            [[atom("r1", X, Y), atom("r1", X, Z)], [atom("r1", Y, X), atom("r1", Z, X)], [atom("a2", Y), atom("a2", Z)]]
        )
    )
    return Rule((Atom("=", (Y, Z)),), tuple(body), distinct=draw(st.booleans()))


@given(
    facts_of(), st.lists(existential_rule(), max_size=3), st.lists(equality(), min_size=1, max_size=2), st.booleans()
)
@EXAMPLES
def test_equalities_hold_in_the_result_and_their_proofs_stand(
    facts: list[GroundAtom], rules: list[Rule], equalities: list[Rule], has_negation: bool
) -> None:
    if has_negation:
        rules = [*rules, rule([atom("a3", X)], [atom("a2", X)], Negation(atom("r1", X, Term("_"))))]
    found = infer(names_only(facts), [*rules, *equalities], max_depth=2, clash_limit=10_000)
    everything = tuple(found.facts())
    clashing = {c.equated for c in found.clashes}
    broken = {c.rule for c in found.clashes}
    assert all(not isinstance(v, Null) for c in found.clashes if c.rule in equalities for v in c.equated or ())
    for one in rules:
        assert one in found.truncated or one in broken or naive.is_satisfied(one, everything)
    for one in equalities:
        for theta in naive.bodies(one, everything, frozenset()):
            left, right = theta[Y], theta[Z]
            assert left == right or (left, right) in clashing or (right, left) in clashing
    derived_only = [each for each in everything if each[0] != "a3"]
    for each in (
        derived_only
    ):  # steps that led to an equality speak of facts under the old names, so only positive rules are checked
        naive.check_proof(found.proof(each), set(facts), everything, frozenset())
