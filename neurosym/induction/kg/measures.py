"""What counts say about rules: measures, significance, and the error of counts over a sample; arrays of one entry a rule.

Of a rule with head h(X, Y), let G be the distinct bindings of the head's variables for which the body holds, S ⊆ G those for
which the head holds too, H the facts that the head matches.

    confidence             |S| / |G|: closed world, what is not a fact is false
    smoothed               |S| / (|G| + 5) (Meilicke et al., IJCAI 2019)
    lower_bound            the lower end of Wilson's 95% interval of the confidence
    head_coverage          |S| / |H| (Galárraga et al., WWW 2013)
    lift                   confidence · |subjects of h| · |objects of h| / |H|
    pca_confidence         |S| / |{(x, y) ∈ G: x has a fact of h}|: who has one has all (Galárraga et al., WWW 2013)
    functional_confidence  the same with y for x where h is more functional from object to subject (VLDB Journal 2015)
    completeness_confidence  |S| / (|G| − npi), npi being how many of G \\ S may be facts that are missing: for each x no more
                           than are known to be missing of h (Tanon et al., ISWC 2017, equations 5–9)
    weighted_confidence    Σ_G min(w_body(g), w_head(g)) / Σ_G w_body(g), w_body being the best product of the atoms' weights

The weighted confidence is that of `neurosym.induction.engine` and no expectation under independence, which would call a perfect
rule between facts of weight 0.9 wrong one time in ten: a head as certain as its body refutes nothing. Ratios with denominator 0
are 0. Completeness confidence is the confidence if nothing is missing, and PCA confidence if nothing is missing of those with
a fact and everything of the others (Tanon et al., proposition 1).

*Significance.* Fisher's exact test: the chance that |G| bindings drawn at random contain |S| facts or more. Bindings of one
entity are no independent draws, so that p tends to be too small: a rule that fails has nothing to show, one that passes may
have nothing either. The hypergeometric tail of SciPy 1.17 was off by 0.3% for 22 million facts among 2.5·10¹³ pairs, said 1 for
0.5 among 10¹⁶, and took 78 s for one rule; the one here has about twelve digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurosym.errors import InductionError
from neurosym.induction.kg.compiled import compiled, inlined
from neurosym.induction.kg.rules import DOUBT
from neurosym.induction.kg.store import Int64, TripleStore
from neurosym.induction.scores import wilson

FloatArray = NDArray[np.float64]
Numbers = NDArray[Any]
_BERNSTEIN: Final = 7 / 3 + 3 / math.sqrt(2)
_EXACT_FROM: Final = 16.0


class Counts(NamedTuple):
    """Of rules, an entry each; what is None was not counted, and a measure that needs it says so.

    Attributes:
        support, body: |S| and |G|.
        known, known_back: how many of G have an x with a fact of h from X to Y, and a y with one from Y to X.
        head, subjects, objects: the facts that the head matches, without loops where variables are distinct; how many
            entities are X in these, and how many are Y. For h(X, c): entities with that fact, all entities, 1.
        incomplete: npi, see `predictions`.
        weighted_support, weighted_body: see `weighted_counts`.
    """

    support: Numbers
    body: Numbers
    known: Numbers | None = None
    known_back: Numbers | None = None
    head: Numbers | None = None
    subjects: Numbers | None = None
    objects: Numbers | None = None
    incomplete: Numbers | None = None
    weighted_support: Numbers | None = None
    weighted_body: Numbers | None = None


def confidence(counts: Counts) -> FloatArray:
    """|S| / |G|.

    >>> confidence(Counts(np.array([1, 0]), np.array([3, 0]))).round(3).tolist()
    [0.333, 0.0]
    """
    return _ratio(counts.support, counts.body)


def smoothed(counts: Counts) -> FloatArray:
    """|S| / (|G| + 5): five counter-examples unseen."""
    return _ratio(counts.support, np.asarray(counts.body) + DOUBT)


def lower_bound(counts: Counts) -> FloatArray:
    """The lower end of Wilson's 95% interval of the confidence, bindings taken for independent trials."""
    return wilson(confidence(counts), np.asarray(counts.body, dtype=np.float64))


def head_coverage(counts: Counts) -> FloatArray:
    """|S| / |H|."""
    return _ratio(counts.support, _counted(counts, "head"))


def lift(counts: Counts) -> FloatArray:
    """How many times likelier the head is where the body holds than between any subject and any object of it."""
    return confidence(counts) * _ratio(
        _counted(counts, "subjects") * _counted(counts, "objects"), _counted(counts, "head")
    )


def pca_confidence(counts: Counts) -> FloatArray:
    """|S| / those of G whose x has a fact of the head."""
    return _ratio(counts.support, _counted(counts, "known"))


def functional_confidence(counts: Counts) -> FloatArray:
    """PCA confidence from the side that determines the other better: from Y where there are more objects than subjects."""
    back = _counted(counts, "objects") > _counted(counts, "subjects")
    return _ratio(counts.support, np.where(back, _counted(counts, "known_back"), _counted(counts, "known")))


def completeness_confidence(counts: Counts) -> FloatArray:
    """|S| / (|G| − npi)."""
    return _ratio(counts.support, counts.body - _counted(counts, "incomplete"))


def weighted_confidence(counts: Counts) -> FloatArray:
    """Σ min(w_body, w_head) / Σ w_body; the confidence if all weights are 1."""
    return _ratio(_counted(counts, "weighted_support"), _counted(counts, "weighted_body"))


MEASURES: Final[dict[str, Callable[[Counts], FloatArray]]] = {
    function.__name__: function
    for function in (
        confidence,
        smoothed,
        lower_bound,
        head_coverage,
        lift,
        pca_confidence,
        functional_confidence,
        completeness_confidence,
        weighted_confidence,
    )
}


def functionality(store: TripleStore) -> FloatArray:
    """Of each direction d, |sources| / |facts|: 1 iff no entity has two facts of it. Of d ^ 1 it is the inverse functionality.

    F. Suchanek et al., "PARIS", VLDB 2011, equation 1.

    >>> functionality(TripleStore.of([("ann", "parent", "bob"), ("ann", "parent", "cid")])).tolist()
    [0.5, 1.0]
    """
    first = store.csr.first_row
    return _ratio(np.diff(first), np.diff(store.csr.start[first]))


def missing(store: TripleStore, direction: int, expected: ArrayLike) -> FloatArray:
    """How many facts of a direction each entity lacks.

    Args:
        expected: how many it has in truth; one number for all ("everyone has 2 parents") or one an entity, NaN where nothing
            is known. An entity with more facts than expected lacks none.
    """
    csr = store.csr
    low, high = csr.first_row[direction : direction + 2]
    has = np.zeros(len(store.entities))
    has[csr.source[low:high]] = np.diff(csr.start[low : high + 1])
    return np.maximum(np.broadcast_to(np.asarray(expected, dtype=np.float64), has.shape) - has, 0.0)


def predictions(rule: Int64, predicted: Numbers, lacking: Numbers, count: int) -> tuple[FloatArray, FloatArray]:
    """(npi, npc) of each rule: new facts predicted where facts are missing, and where none can be.

        npi = Σ_x min(predicted(x), lacking(x))      npc = Σ_x max(predicted(x) − lacking(x), 0)

    over the x for which it is known how many are lacking (Tanon et al., ISWC 2017, equations 7 and 8). 1 − npc / |G| is their
    completeness precision, npi / Σ lacking their recall.

    Args:
        rule: the number of a rule, below `count`, for each pair of a rule and an entity x with bindings in G \\ S.
        predicted: how many such bindings.
        lacking: `missing` of x in the head's direction; NaN if unknown, infinite if it may be any number.
    """
    told = ~np.isnan(lacking)
    rule, predicted, lacking = rule[told], predicted[told], lacking[told]
    inside = np.minimum(predicted, lacking)
    sums = (np.bincount(rule, weights=part, minlength=count) for part in (inside, predicted - inside))
    npi, npc = (np.asarray(part, dtype=np.float64) for part in sums)
    return npi, npc


def weighted_counts(rule: Int64, body: Numbers, head: Numbers, count: int) -> tuple[FloatArray, FloatArray]:
    """(weighted support, weighted body) of each rule: Σ min(w_body, w_head) and Σ w_body.

    Args:
        rule: the number of a rule, below `count`, for each pair of a rule and a binding of its G.
        body: the best product of the weights of the body's facts over the ways to bind the rest; head: that of the head's fact,
            0 where it is none.
    """
    support, size = (np.bincount(rule, weights=part, minlength=count) for part in (np.minimum(body, head), body))
    return np.asarray(support, dtype=np.float64), np.asarray(size, dtype=np.float64)


def fisher(support: ArrayLike, body: ArrayLike, head: ArrayLike, room: ArrayLike) -> FloatArray:
    """P(at least `support` facts among `body` bindings drawn at random from `room`, `head` of which are facts).

        p = Σ_{k ≥ support} C(head, k) · C(room − head, body − k) / C(room, body)

    Bindings and facts must lie in the room. All of n entities: (|S|, |G|, |H|, n·(n − 1)), loops not counted; those with a
    fact of h, so that a body gains nothing by keeping to entities of the right kind: (|S|, known, |H|, subjects·(n − 1)).
    Where p is below 10⁻³⁰⁸ it is 0, and `log_fisher` still tells.

    Raises:
        InductionError: there is no such table of counts.

    >>> fisher([3, 0], 5, 5, 10).round(3).tolist()
    [0.5, 1.0]
    """
    return np.asarray(np.exp(log_fisher(support, body, head, room)))


def log_fisher(support: ArrayLike, body: ArrayLike, head: ArrayLike, room: ArrayLike) -> FloatArray:
    """The natural logarithm of `fisher`."""
    table = np.broadcast_arrays(*(np.asarray(part, dtype=np.float64) for part in (support, body, head, room)))
    k, n, facts, every = (np.ravel(part) for part in table)
    wrong = np.flatnonzero((k < 0) | (k > np.minimum(n, facts)) | (n + facts - k > every))
    if len(wrong):
        i = wrong[0]
        counts = f"support {k[i]:.0f}, body {n[i]:.0f} and {facts[i]:.0f} facts"
        raise InductionError(f"rule {i}: {counts} do not fit into {every[i]:.0f} bindings")
    found = np.empty(len(k))
    _log_tails(k, n, facts, every, found)
    return found.reshape(table[0].shape)


def bonferroni(p: FloatArray, tests: int | None = None) -> FloatArray:
    """p · tests, at most 1: of rules where this is below α, none is due to chance with probability 1 − α.

    Args:
        tests: how many rules were tested, those that are not in p included; None: len(p).
    """
    return np.minimum(1.0, p * (len(p) if tests is None else tests))


def benjamini_hochberg(p: FloatArray, tests: int | None = None) -> FloatArray:
    """min over the p′ ≥ p of p′ · tests / rank(p′): of rules where this is below α, a share of α at most is due to chance.

    Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995). Holds for tests that are independent or positively dependent, which
    those of rules over one graph are taken to be.

    Args:
        tests: how many rules were tested; those that are not in p count as if they had p = 1.
    """
    order = np.argsort(p)[::-1]
    found = np.empty(len(p))
    ranked = p[order] * (len(p) if tests is None else tests) / np.arange(len(p), 0, -1)
    found[order] = np.minimum.accumulate(np.minimum(1.0, ranked))
    return found


class Sample(NamedTuple):
    """Sums over `drawn` of `population` subjects, a uniform sample without replacement, of rules, an entry each.

    Attributes:
        support, body: Σ sᵢ and Σ bᵢ, where subject i has bᵢ bindings in G and sᵢ in S.
        active: how many of the subjects have bᵢ > 0.
        largest: no subject of the population has more bindings; 1 for rules h(X, c). What was seen does not tell.
        squares: Σ sᵢ², Σ sᵢ bᵢ, Σ bᵢ².
    """

    support: Numbers
    body: Numbers
    active: Numbers
    largest: Numbers
    drawn: int
    population: int
    squares: tuple[Numbers, Numbers, Numbers] | None = None


def sampling_error(sample: Sample, delta: float) -> FloatArray:
    """ε with |ĉ − c| ≤ ε with probability 1 − δ at least, ĉ being the confidence in the sample and c in the population.

    The numbers zᵢ = sᵢ − c·bᵢ have the mean 0 in the population, (ĉ − c)·b̄ in the sample, and lie within `largest` of each
    other. Given their number, the n active subjects are a uniform sample of all such, N = population − drawn + n at most. So
    the bounds of Bardenet and Maillard (Bernoulli 21, 2015) hold, with ρ = min(1 − (n−1)/N, (1 − n/N)(1 + 1/n)):

        Hoeffding–Serfling (corollary 2.5)     ε·b̄ = largest · √(ρ ln(2/δ) / 2n)
        empirical Bernstein–Serfling (4.3)     ε·b̄ = σ_z √(2ρ ln(10/δ) / n) + (7/3 + 3/√2) · largest · ln(10/δ) / n

    where σ_z(c) ≤ σ_z(ĉ) + ε·σ_b is solved for ε. Without `squares` the first; with them the lesser of both, δ/2 each.

    *1 says nothing.* The first does so until n > (largest/b̄)² ln(2/δ)/2, as for paths through hubs always; the second until
    n > 5·(largest/b̄)·ln(20/δ) or so. δ is of one rule looked at once, after a number of subjects fixed before: to race k
    rules with r looks, give δ/(k·r).

    >>> sample = Sample(*(np.array([v]) for v in (600, 1000, 1000, 1)), drawn=5000, population=10**6)
    >>> sampling_error(sample, 0.05).round(3).tolist()
    [0.043]
    """
    n = np.asarray(sample.active, dtype=np.float64)
    if sample.drawn == sample.population:
        return np.zeros(n.shape)
    several = np.maximum(n, 1.0)
    every = sample.population - sample.drawn + several
    rho = np.minimum(1 - (several - 1) / every, (1 - several / every) * (1 + 1 / several))
    mean = sample.body / several
    delta = delta if sample.squares is None else delta / 2
    error = _bounded(sample.largest * np.sqrt(rho * math.log(2 / delta) / (2 * several)), mean)
    if sample.squares is None:
        return error
    c = _ratio(sample.support, sample.body)
    ss, sb, bb = sample.squares
    sigma = np.sqrt(np.maximum(ss - 2 * c * sb + c * c * bb, 0.0) / several)
    sigma_body = np.sqrt(np.maximum(bb / several - mean**2, 0.0))
    surprise = math.log(10 / delta)
    slack = np.sqrt(2 * rho * surprise / several)
    rest = _BERNSTEIN * sample.largest * surprise / several
    return np.minimum(error, _bounded(slack * sigma + rest, mean - slack * sigma_body))


def _bounded(part: FloatArray, whole: FloatArray) -> FloatArray:
    """part / whole, 1 where that is more or undefined."""
    return np.asarray(np.minimum(1.0, np.divide(part, whole, out=np.ones_like(part), where=whole > 0)))


def _ratio(part: Numbers, whole: Numbers) -> FloatArray:
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _counted(counts: Counts, name: str) -> Numbers:
    found: Numbers | None = getattr(counts, name)
    if found is None:
        raise InductionError(f"a measure needs `{name}`, which was not counted")
    return np.asarray(found)


@inlined
def _rest(x: float) -> float:
    """ln x! − (x ln x − x)."""
    if x <= 0.0:
        return 0.0
    if x < _EXACT_FROM:
        return math.lgamma(x + 1.0) - x * math.log(x) + x
    i = 1.0 / x
    return 0.5 * math.log(2.0 * math.pi * x) + i * (1 / 12 - i * i * (1 / 360 - i * i * (1 / 1260 - i * i / 1680)))


@inlined
def _deviance(x: float, mean: float, excess: float) -> float:
    """x ln(x / mean) − x + mean, where x = mean + excess; without loss of digits where x is near its mean."""
    if x <= 0.0 or mean <= 0.0:
        return max(mean, 0.0)
    u = excess / mean
    if abs(u) > 0.5:
        return x * math.log(x / mean) - excess
    return mean * ((1.0 + u) * math.log1p(u) - u)


@compiled
def _log_term(k: float, n: float, facts: float, every: float) -> float:
    """ln of C(facts, k) C(every − facts, n − k) / C(every, n), from the deviances of the four cells (as Loader's binomial)."""
    excess = k - n / every * facts
    out, other = every - n, every - facts
    log: float = _rest(n) + _rest(out) + _rest(facts) + _rest(other) - _rest(every)
    log -= _rest(k) + _deviance(k, n / every * facts, excess)
    log -= _rest(n - k) + _deviance(n - k, n / every * other, -excess)
    log -= _rest(facts - k) + _deviance(facts - k, out / every * facts, -excess)
    log -= _rest(out - facts + k) + _deviance(out - facts + k, out / every * other, excess)
    return log


@compiled
def _log_tails(support: FloatArray, body: FloatArray, head: FloatArray, room: FloatArray, found: FloatArray) -> None:
    for i in range(len(support)):
        k, n, facts, every = support[i], body[i], head[i], room[i]
        if k <= max(0.0, n + facts - every):
            found[i] = 0.0
            continue
        term, total = 1.0, 0.0
        if k > n / every * facts:
            j = k
            while term > 1e-17 * total:  # terms fall from here on, ever faster
                total += term
                term *= (n - j) / (j + 1.0) * ((facts - j) / (every - n - facts + j + 1.0))
                j += 1.0
            found[i] = min(0.0, _log_term(k, n, facts, every) + math.log(total))
        else:
            j = k - 1.0
            while term > 1e-17 * total:
                total += term
                term *= j / (n - j + 1.0) * ((every - n - facts + j) / (facts - j + 1.0))
                j -= 1.0
            found[i] = math.log1p(-math.exp(_log_term(k - 1.0, n, facts, every)) * total)
