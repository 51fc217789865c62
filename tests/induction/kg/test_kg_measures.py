import math
from collections import Counter
from fractions import Fraction
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_rules import RELATIONS, Triple, graphs
from scipy import stats

from neurosym.errors import InductionError
from neurosym.induction.kg.measures import (
    MEASURES,
    Counts,
    Sample,
    benjamini_hochberg,
    bonferroni,
    completeness_confidence,
    confidence,
    fisher,
    functionality,
    head_coverage,
    lift,
    log_fisher,
    lower_bound,
    missing,
    pca_confidence,
    predictions,
    sampling_error,
    smoothed,
    weighted_confidence,
    weighted_counts,
)
from neurosym.induction.kg.store import TripleStore

Pair = tuple[str, str]
Weights = dict[Triple, float]


def step(x: str, d: int, facts: Weights) -> dict[str, float]:
    """Where a direction leads from x, with the weights of the facts."""
    name, back = RELATIONS[d >> 1], d & 1
    forward = {o: w for (s, r, o), w in facts.items() if r == name and s == x}
    return {s: w for (s, r, o), w in facts.items() if r == name and o == x} if back else forward


def body_of(path: tuple[int, ...], facts: Weights) -> dict[Pair, float]:
    """The pairs that a path of at most two steps holds for, all entities distinct, with the best product of weights."""
    entities = sorted({e for s, _, o in facts for e in (s, o)})
    best: dict[Pair, float] = {}
    for stops in permutations(entities, len(path) + 1):
        weights = [step(a, d, facts).get(b, 0.0) for d, a, b in zip(path, stops, stops[1:], strict=False)]
        if all(weights):
            pair = stops[0], stops[-1]
            best[pair] = max(best.get(pair, 0.0), math.prod(weights))
    return best


def of_head(d: int, facts: Weights) -> dict[Pair, float]:
    entities = sorted({e for s, _, o in facts for e in (s, o)})
    return {(x, y): w for x in entities for y, w in step(x, d, facts).items() if x != y}


def counted(body: dict[Pair, float], heads: list[dict[Pair, float]]) -> Counts:
    """The counts of a body's rules for some heads."""
    sides = [({x for x, _ in head}, {y for _, y in head}) for head in heads]
    rows = [(i, w, head.get(pair, 0.0)) for i, head in enumerate(heads) for pair, w in body.items()]
    rule, weight, of_heads = np.array(rows).reshape(-1, 3).T
    weighted = weighted_counts(rule.astype(np.int64), weight, of_heads, len(heads))
    return Counts(
        support=np.array([len(body.keys() & head.keys()) for head in heads]),
        body=np.full(len(heads), len(body)),
        known=np.array([sum(x in xs for x, _ in body) for xs, _ in sides]),
        known_back=np.array([sum(y in ys for _, y in body) for _, ys in sides]),
        head=np.array([len(head) for head in heads]),
        subjects=np.array([len(xs) for xs, _ in sides]),
        objects=np.array([len(ys) for _, ys in sides]),
        weighted_support=weighted[0],
        weighted_body=weighted[1],
    )


def mean(values: list[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


DIRECTIONS = range(2 * len(RELATIONS))
PATHS = [path for length in (1, 2) for path in product(DIRECTIONS, repeat=length)]


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_every_measure_is_what_its_definition_says_of_all_bindings(triples: list[Triple], random: object) -> None:
    facts = {t: random.choice([0.25, 0.5, 1.0]) for t in sorted(set(triples))}
    heads = [of_head(d, facts) for d in DIRECTIONS]
    for path in PATHS:
        body = body_of(path, facts)
        counts = counted(body, heads)
        found = {name: f(counts) for name, f in MEASURES.items() if name != "completeness_confidence"}
        for d, head in enumerate(heads):
            xs, ys = {x for x, _ in head}, {y for _, y in head}
            held = [pair in head for pair in body]
            from_x, from_y = ([p in head for p in body if p[end] in (xs, ys)[end]] for end in (0, 1))
            anywhere = mean([pair in head for pair in product(xs, ys)])
            true = {
                "confidence": mean(held),
                "smoothed": mean(held + [False] * 5),
                "lower_bound": stats.binomtest(sum(held), len(held)).proportion_ci(method="wilson").low if held else 0,
                "head_coverage": mean([pair in body for pair in head]),
                "lift": mean(held) / anywhere if anywhere else 0.0,
                "pca_confidence": mean(from_x),
                "functional_confidence": mean(from_y if len(ys) > len(xs) else from_x),
                "weighted_confidence": sum(min(w, head.get(p, 0)) for p, w in body.items()) / sum(body.values() or [1]),
            }
            assert {name: values[d] for name, values in found.items()} == pytest.approx(true, abs=1e-6)


def test_the_measures_of_the_example_of_amie() -> None:
    # Galárraga et al., WWW 2013, section 3: livesIn(x, y) ⇒ wasBornIn(x, y)
    lives, born = {("adam", "paris"), ("adam", "rome"), ("bob", "zurich")}, {("adam", "paris"), ("carl", "rome")}
    counts = Counts(
        support=np.array([len(lives & born)]),
        body=np.array([len(lives)]),
        known=np.array([sum(x in {s for s, _ in born} for x, _ in lives)]),
        head=np.array([len(born)]),
        subjects=np.array([2]),
        objects=np.array([2]),
    )
    # one of three is right; nobody knows where Bob was born; one of two births is derived; half of the 2 × 2 pairs are births
    assert [f(counts)[0] for f in (confidence, pca_confidence, head_coverage, lift)] == pytest.approx(
        [1 / 3, 1 / 2, 1 / 2, 2 / 3]
    )


FAMILY = {
    "worksAt": "john mpi, mary mpi, dave mpi, carol tuwien",
    "educatedAt": "dave mpi, bob mpi, mary tuwien, carol tuwien",
    "hasChild": "john bob, john alice, mary bob, mary carol",
    "hasFather": "bob john, alice john, dave john",
    "hasSibling": "alice bob, bob carol, dave carol",
}
"""A graph with all the numbers that the examples of Tanon et al. (ISWC 2017) tell of their figure 1."""
CHILDREN = {"john": 3, "mary": 3, "alice": 1, "carol": 0, "dave": 0}
SIBLINGS = {"bob": 3, "alice": 2, "carol": 2, "dave": 2}


@pytest.mark.parametrize(
    ("first", "second", "turned", "head", "expected", "figures"),
    [
        # support, body, PCA, completeness, npi, npc, precision, recall
        ("worksAt", "educatedAt", True, "hasChild", CHILDREN, (2, 8, 2 / 4, 2 / 6, 2, 4, 0.5, 2 / 3)),
        ("hasFather", "hasChild", False, "hasSibling", SIBLINGS, (1, 6, 1 / 6, 1 / 2, 4, 1, 5 / 6, 2 / 3)),
    ],
)
def test_completeness_has_the_published_figures(
    first: str, second: str, turned: bool, head: str, expected: dict[str, int], figures: tuple[float, ...]
) -> None:
    relation = {r: {tuple(pair.split()) for pair in text.split(", ")} for r, text in FAMILY.items()}
    then = {(b, a) for a, b in relation[second]} if turned else relation[second]
    body = {(x, y) for (x, z), (w, y) in product(relation[first], then) if z == w}  # here variables may be one entity
    store = TripleStore.of([(s, r, o) for r, pairs in relation.items() for s, o in pairs])
    told = np.full(len(store.entities), np.nan)
    for name, number in expected.items():
        told[store.entities.number(name)] = number
    lacking = missing(store, 2 * store.relation(head), told)
    new = Counter(store.entities.number(x) for x, _ in body - relation[head])
    xs, predicted = np.array(list(new)), np.array(list(new.values()))
    npi, npc = predictions(np.zeros(len(xs), np.int64), predicted, lacking[xs], 1)
    known = sum(x in {s for s, _ in relation[head]} for x, _ in body)
    size = np.array([len(body)])
    counts = Counts(np.array([len(body & relation[head])]), size, np.array([known]), incomplete=npi)
    found = (counts.support, size, pca_confidence(counts), completeness_confidence(counts))
    assert [v[0] for v in (*found, npi, npc, 1 - npc / size, npi / np.nansum(lacking))] == pytest.approx(figures)


@given(graphs(), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_completeness_lies_between_closed_world_and_pca_its_limits(triples: list[Triple], seed: int) -> None:
    facts = {(s, r, o): 1.0 for s, r, o in triples if s != o} | {("m", r, "n"): 1.0 for r in RELATIONS}
    store, rng = TripleStore.of(list(facts)), np.random.default_rng(seed)
    for path, d in product(PATHS, DIRECTIONS):
        body, head = body_of(path, facts), of_head(d, facts)
        counts = counted(body, [head])
        new = Counter(store.entities.number(x) for x, _ in body.keys() - head.keys())
        xs, predicted = np.array(list(new), np.int64), np.array(list(new.values()), np.int64)
        has = np.array([len(step(name, d, facts)) for name in store.entities])

        def rated(lacking: np.ndarray, xs=xs, predicted=predicted, counts=counts) -> float:
            npi, npc = predictions(np.zeros(len(xs), np.int64), predicted, lacking[xs], 1)
            assert npi + npc == (predicted * ~np.isnan(lacking[xs])).sum()
            return completeness_confidence(counts._replace(incomplete=npi))[0]

        assert np.array_equal(missing(store, d, 2), np.maximum(0, 2 - has))
        assert rated(missing(store, d, 0)) == rated(np.full(len(has), np.nan)) == confidence(counts)[0]
        assert rated(np.where(has > 0, 0.0, np.inf)) == pca_confidence(counts)[0]
        assert confidence(counts)[0] <= rated(missing(store, d, has + rng.integers(-1, 3, len(has)))) <= 1


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_functionality_is_the_share_of_facts_with_a_source_of_their_own(triples: list[Triple]) -> None:
    store = TripleStore.of(triples)
    for r, name in enumerate(store.relations):
        pairs = {(s, o) for s, relation, o in triples if relation == name}
        sides = [len({pair[end] for pair in pairs}) / len(pairs) for end in (0, 1)]
        assert functionality(store)[2 * r : 2 * r + 2].tolist() == sides


def test_a_body_that_never_holds_scores_nothing_and_one_that_always_is_right_everything() -> None:
    none, full = np.array([0, 0, 0]), np.array([1, 40, 22_000_000])
    never = Counts(*[none] * 10)
    always = Counts(*[full] * 5, *[full] * 2, none, *[full] * 2)
    assert all((f(never) == 0).all() for f in MEASURES.values())
    for name in ("confidence", "head_coverage", "pca_confidence", "completeness_confidence", "weighted_confidence"):
        assert (MEASURES[name](always) == 1).all()
    assert smoothed(always).tolist() == [1 / 6, 40 / 45, 22_000_000 / 22_000_005]
    assert lower_bound(always).round(4).tolist() == [0.2065, 0.9124, 1.0]


def test_equal_weights_below_1_leave_a_rule_without_exceptions_at_1() -> None:
    support, body = weighted_counts(np.array([0, 0, 1]), np.array([0.9, 0.9, 0.9]), np.array([0.9, 0.9, 0.0]), 2)
    counts = Counts(np.array([2, 0]), np.array([2, 1]), weighted_support=support, weighted_body=body)
    assert weighted_confidence(counts).tolist() == [1.0, 0.0]


def test_a_measure_says_what_was_not_counted() -> None:
    with pytest.raises(InductionError, match="needs `known`, which was not counted"):
        pca_confidence(Counts(np.array([1]), np.array([2])))


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """(support, body, head, room)."""
    a, b, c, d = (draw(st.integers(0, 40)) for _ in range(4))
    return a, a + b, a + c, a + b + c + d


@given(st.lists(tables(), min_size=1, max_size=8))
@settings(deadline=None)
def test_fishers_p_is_that_of_scipy_and_of_exact_fractions(rows: list[tuple[int, int, int, int]]) -> None:
    found = fisher(*np.array(rows).T)
    for p, (k, n, facts, every) in zip(found, rows, strict=True):
        ways = sum(math.comb(facts, j) * math.comb(every - facts, n - j) for j in range(k, min(n, facts) + 1))
        assert p == pytest.approx(float(Fraction(ways, math.comb(every, n))), rel=1e-11)
        table = [[k, n - k], [facts - k, every - n - facts + k]]
        assert p == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("table", "log10"),
    [  # by mpmath in 50 digits
        ((105_000, 1_000_000, 22_000_000, 14_541 * 14_540), math.log10(9.8012034153551371e-4)),
        ((120, 100_000_000, 22_000_000, 25 * 10**12), math.log10(6.8833837792401394e-4)),
        ((200_000, 10**12, 2 * 10**9, 10**16), math.log10(0.50029739872250662)),
        ((5, 1_000, 37, 16 * 10**12), math.log10(4.1156126393816193e-46)),
        ((5_000, 10_000, 22_000_000, 16 * 10**12), math.log10(2.9218972952534) - 26_301),
    ],
)
def test_fishers_p_keeps_its_digits_at_the_size_of_large_graphs(table: tuple[int, ...], log10: float) -> None:
    k, n, facts, every = table
    assert log_fisher(k, n, facts, every) / math.log(10) == pytest.approx(log10, rel=1e-12, abs=1e-12)
    assert log_fisher(k, facts, n, every) == pytest.approx(log_fisher(*table), rel=1e-12)
    assert 0 <= fisher(*table) <= 1


@pytest.mark.parametrize("facts", [100, 22_000_000])
def test_full_support_has_the_least_p_and_no_support_1(facts: int) -> None:
    every, k = 25 * 10**12, np.array([0, 1, facts // 2, facts])
    logs = log_fisher(k, facts, facts, every)
    assert logs[0] == 0
    assert (np.diff(logs) < 0).all()
    ways = math.lgamma(facts + 1) - sum(math.log(every - i) for i in range(facts)) if facts < 1000 else None
    assert ways is None or logs[-1] == pytest.approx(ways, rel=1e-12)
    assert np.isfinite(logs).all()


def test_counts_that_do_not_fit_into_the_room_are_refused() -> None:
    with pytest.raises(InductionError, match=r"rule 1: support 3, body 5 and 2 facts do not fit into 9 bindings"):
        fisher([1, 3], [5, 5], [2, 2], [9, 9])


P = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459),
    *(0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
]
"""Benjamini and Hochberg (1995), section 3.2."""


def test_corrections_reject_as_many_as_in_the_paper_of_benjamini_and_hochberg() -> None:
    assert int((bonferroni(np.array(P)) <= 0.05).sum()) == 3
    assert int((benjamini_hochberg(np.array(P)) <= 0.05).sum()) == 4
    assert benjamini_hochberg(np.array(P))[3] == pytest.approx(0.0095 * 15 / 4)
    assert bonferroni(np.array(P))[:3].tolist() == pytest.approx([0.0015, 0.006, 0.0285])


@given(st.lists(st.floats(0, 1), max_size=12), st.integers(0, 30), st.randoms(use_true_random=False))
def test_tests_that_are_not_listed_count_as_if_they_had_failed(p: list[float], more: int, random: object) -> None:
    random.shuffle(p)
    tests, every = len(p) + more, np.array(p + [1.0] * more)
    by_hand = [min(q * tests / int((every <= q).sum()) for q in p if q >= own) for own in p]
    assert benjamini_hochberg(np.array(p), tests) == pytest.approx(np.minimum(1.0, by_hand))
    assert not p or benjamini_hochberg(np.array(p)) == pytest.approx(stats.false_discovery_control(p))
    assert bonferroni(np.array(p), tests).tolist() == [min(1.0, tests * q) for q in p]


def drawn(s: np.ndarray, b: np.ndarray, chosen: np.ndarray, squares: bool) -> Sample:
    """The sums over the subjects chosen, a sample a row."""
    s_, b_ = s[chosen], b[chosen]
    sums = tuple((u * v).sum(axis=1) for u, v in ((s_, s_), (s_, b_), (b_, b_)))
    size = chosen.shape[1]
    whole = s_.sum(axis=1), b_.sum(axis=1), (b_ > 0).sum(axis=1), np.full(len(chosen), b.max())
    return Sample(*whole, size, len(b), sums if squares else None)


def misses(s: np.ndarray, b: np.ndarray, sample: Sample, delta: float, shrunk: float = 1.0) -> float:
    """The share of samples whose confidence is farther off than told."""
    off = np.abs(sample.support / np.maximum(sample.body, 1) - s.sum() / b.sum())
    return float((off > shrunk * sampling_error(sample, delta) + 1e-12).mean())


@given(
    st.lists(st.integers(0, 2).flatmap(lambda b: st.tuples(st.integers(0, b), st.just(b))), min_size=2, max_size=9),
    st.floats(0.3, 0.99),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_of_all_samples_of_any_size_no_more_than_delta_are_farther_off(
    subjects: list[Pair], delta: float, squares: bool
) -> None:
    s, b = np.array(subjects).T
    for size in range(1, len(subjects) + 1) if b.sum() else ():
        chosen = np.array(list(combinations(range(len(subjects)), size)))
        assert misses(s, b, drawn(s, b, chosen, squares), delta) <= delta


def samples(rng: np.random.Generator, population: int, size: int, times: int = 2000) -> np.ndarray:
    return np.array([rng.choice(population, size, replace=False) for _ in range(times)])


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_the_bound_of_sets_holds_and_would_not_if_it_were_half_as_wide(share: float) -> None:
    rng = np.random.default_rng(1)
    b = (rng.random(1000) < 0.8).astype(np.int64)
    s = b * (rng.random(1000) < 0.5)
    sample = drawn(s, b, samples(rng, 1000, int(share * 1000)), squares=False)
    assert misses(s, b, sample, 0.2) <= 0.2
    assert misses(s, b, sample, 0.2, shrunk=0.5) > 0.2


def test_with_squares_the_bound_holds_where_few_subjects_have_many_bindings_and_would_not_at_a_sixth() -> None:
    rng = np.random.default_rng(2)
    b = np.append(rng.integers(1, 4, 39_990), np.full(10, 12))
    s = rng.binomial(b, 0.5)
    chosen = samples(rng, len(b), 20_000, 300)
    plain, sample = drawn(s, b, chosen, squares=False), drawn(s, b, chosen, squares=True)
    assert sampling_error(sample, 0.2).max() < 0.4 * sampling_error(plain, 0.2).min()
    assert misses(s, b, sample, 0.2) <= 0.2
    assert misses(s, b, sample, 0.2, shrunk=1 / 6) > 0.2


def test_the_bound_with_squares_is_that_of_the_paper_where_all_subjects_have_one_binding() -> None:
    # then ε = σ √(2ρ ln(20/δ) / n) + κ ln(20/δ) / n, half of δ being spent on the other bound; n = 1000 of a million
    sums = [np.array([v]) for v in (10, 1000, 1000, 1)]
    sample = Sample(*sums, 1000, 10**6, (sums[0], sums[0], sums[1]))
    log, sigma = math.log(20 / 0.05), math.sqrt(0.01 * 0.99)
    by_hand = sigma * math.sqrt(2 * (1 - 999 / 10**6) * log / 1000) + (7 / 3 + 3 / math.sqrt(2)) * log / 1000
    assert sampling_error(sample, 0.05)[0] == pytest.approx(by_hand)
    assert sampling_error(sample._replace(squares=None), 0.05)[0] > by_hand


def test_bodies_of_unequal_size_widen_the_bound_with_squares() -> None:
    # 1000 subjects with 1 binding and 1000 with 3, all facts: b̄ = 2, σ_b = 1, σ_z = 0
    sums = [np.array([v]) for v in (4000, 4000, 2000, 3)]
    sample = Sample(*sums, 2000, 10**9, (np.array([10_000]),) * 3)
    log, kappa = math.log(20 / 0.05), 7 / 3 + 3 / math.sqrt(2)
    by_hand = kappa * 3 * log / 2000 / (2 - math.sqrt(2 * log / 2000))
    assert sampling_error(sample, 0.05)[0] == pytest.approx(by_hand, rel=1e-5)


def test_the_last_subjects_narrow_the_bound_more_than_in_proportion() -> None:
    # 4 of 5: ρ = (1 − 4/5)(1 + 1/4) = 1/4, less than 1 − 3/5
    sample = Sample(*(np.array([v]) for v in (2, 4, 4, 1)), 4, 5)
    assert sampling_error(sample, 0.5)[0] == pytest.approx(math.sqrt(math.log(4) / 4 / 8))


def test_the_error_of_a_set_depends_on_the_bindings_found_and_is_nothing_once_all_subjects_are_seen() -> None:
    found = [Sample(*(np.array([v]) for v in (50, 100, 100, 1)), m, 10**7) for m in (100, 10_000, 1_000_000)]
    expected = math.sqrt(math.log(2 / 0.05) / 200)
    assert [sampling_error(sample, 0.05)[0] for sample in found] == pytest.approx([expected] * 3, rel=1e-4)
    assert sampling_error(found[0]._replace(drawn=10**7), 0.05).tolist() == [0.0]


def test_a_bound_that_says_nothing_is_1() -> None:
    nothing = Sample(*(np.array([v]) for v in (0, 0, 0, 1)), 50, 1000)
    hubs = Sample(*(np.array([v]) for v in (100, 200, 100, 10_000)), 100, 10**6)
    many = hubs._replace(squares=(np.array([150]), np.array([250]), np.array([500])))
    assert [sampling_error(sample, 0.05)[0] for sample in (nothing, hubs, many)] == [1.0, 1.0, 1.0]
