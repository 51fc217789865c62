import logging
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import combinations, permutations, product
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_films import GEOMETRY, films, rule
from rule_brute_force import World, measure
from rule_strategies import stores

from neurosym.errors import ConfigError, InductionError
from neurosym.induction import InductionConfig, Progress, evaluate_rule, induce
from neurosym.induction.clauses import canonical, readable
from neurosym.induction.index import FactIndex
from neurosym.induction.paths import Paths
from neurosym.induction.scores import Scorer, Spelling
from neurosym.induction.seeds import bodies, compatible_places
from neurosym.induction.subsumption import Known, clauses_of
from neurosym.knowledge.subsumption import subsumes
from neurosym.records import Atom, Candidate, Fact, FactStore, Rule, Term

QUICK = InductionConfig(population=20, generations=8)
FILMS = films(40)


@pytest.fixture(scope="module")
def candidates() -> list[Candidate]:
    return induce(FILMS, QUICK, background=GEOMETRY)


# --- the seeds and their scores ---------------------------------------------------------------------------------------


@given(stores(most=40), st.booleans(), st.sampled_from(["standard", "pca"]))
@settings(max_examples=25, deadline=None)
def test_a_body_scored_for_all_heads_at_once_is_measured_as_each_rule_alone(
    store: FactStore, injective: bool, measure: str
) -> None:
    index = FactIndex.of(store)
    config = InductionConfig(injective=injective, measure=measure)
    names = [relation.name for relation in index.relations]
    for arity in {relation.arity for relation in index.relations}:
        scorer = Scorer(index, arity, config, Known(), Known())
        found = list(bodies(index, 2, arity, 4, Spelling(), Known(), compatible_places(index)))
        for body in Random(0).sample(found, min(12, len(found))):
            scores = scorer.score(body)
            for row, head in enumerate(scorer.heads):
                measured = evaluate_rule(readable(names[head], arity, body, names), index, injective=injective)
                if (head, tuple(range(arity))) in body:
                    assert scores.support[row] == 0
                    continue
                assert (scores.body_size, scores.support[row]) == (measured.body_size, measured.support)
                expected = measured.confidence if measure == "standard" else measured.pca_confidence
                assert scores.confidence[row] == pytest.approx(expected)
                assert scorer.supported(scores, head).sum() == measured.support


@pytest.mark.parametrize("scene", ["", "film"])
@pytest.mark.parametrize("arity", [1, 2])
def test_every_body_of_two_atoms_is_enumerated_once(arity: int, scene: str) -> None:
    everyone = [f"e{i}" for i in range(4)]
    facts = [Fact("a", (x,), 1.0, scene) for x in everyone]
    facts += [Fact(r, pair, 1.0, scene) for r in ("p", "q") for pair in permutations(everyone, 2)]
    index = FactIndex.of(FactStore(tuple(facts)))
    names = ["a", "p", "q"]
    found = [
        canonical(readable("h", arity, body, names))
        for body in bodies(index, 2, arity, 4, Spelling(), Known(), compatible_places(index))
    ]
    terms = [Term(name) for name in "XYZW"]
    atoms = [Atom("a", (t,)) for t in terms]
    atoms += [Atom(r, pair) for r in ("p", "q") for pair in permutations(terms, 2)]
    head = Atom("h", tuple(terms[:arity]))
    expected = {
        canonical(Rule((head,), pair)) for pair in combinations(atoms, 2) if is_allowed(head, pair, bool(scene))
    }
    assert len(found) == len(set(found))
    assert set(found) == expected


def is_allowed(head: Atom, body: tuple[Atom, ...], scenes: bool) -> bool:
    safe = {v for atom in body for v in atom.args} >= set(head.args)
    reached, pending = set(head.args), list(body)
    for _ in body:
        for atom in pending:
            if set(atom.args) & reached:
                reached |= set(atom.args)
    return safe and (scenes or all(set(atom.args) <= reached for atom in pending))


# --- planted rules ----------------------------------------------------------------------------------------------------

PLANTED = (
    "grandparent(X, Y) :- parent(X, Z), parent(Z, Y).",
    "uncle(X, Y) :- brother(X, Z), parent(Z, Y).",
    "spouse(X, Y) :- spouse(Y, X).",
    "supplies(X, Y) :- makes(X, Z), part_of(Z, W), needs(Y, W).",
)


def family(seed: int, noise: float = 0.05) -> FactStore:
    """A graph on which the planted rules hold up to noise: heads left out, and heads made up."""
    rng = Random(seed)
    people = [f"n{i:03d}" for i in range(120)]
    facts: set[tuple[str, str, str]] = set()
    for relation, count in (("parent", 200), ("brother", 120), ("makes", 120), ("part_of", 120), ("needs", 120)):
        facts |= {(relation, *rng.sample(people, 2)) for _ in range(count)}
    couples = [rng.sample(people, 2) for _ in range(60)]
    facts |= {("spouse", a, b) for a, b in couples} | {("spouse", b, a) for a, b in couples}
    of = {
        r: [(a, b) for name, a, b in sorted(facts) if name == r]
        for r in ("parent", "brother", "makes", "part_of", "needs")
    }
    derived = {("grandparent", a, d) for (a, b), (c, d) in product(of["parent"], repeat=2) if b == c and a != d}
    derived |= {("uncle", a, d) for (a, b), (c, d) in product(of["brother"], of["parent"]) if b == c and a != d}
    made = {(a, d) for (a, b), (c, d) in product(of["makes"], of["part_of"]) if b == c and a != d}
    derived |= {("supplies", a, c) for (a, b), (c, d) in product(made, of["needs"]) if b == d and len({a, b, c}) == 3}
    facts = {fact for fact in sorted(facts) if fact[0] != "spouse" or rng.random() > noise}
    facts |= {fact for fact in sorted(derived) if rng.random() > noise}
    for relation in ("grandparent", "uncle", "supplies", "spouse"):
        wrong = int(noise * sum(fact[0] == relation for fact in facts))
        facts |= {(relation, *rng.sample(people, 2)) for _ in range(wrong)}
    return FactStore(tuple(Fact(r, (a, b)) for r, a, b in sorted(facts)))


def test_four_planted_rules_are_the_first_of_a_noisy_graph() -> None:
    store = family(0)
    found = induce(store, InductionConfig(population=40, generations=15))
    first = {canonical(candidate.rule): candidate for candidate in found[:6]}
    for text in PLANTED:
        candidate = first[canonical(rule(text))]
        measured = evaluate_rule(rule(text), store)
        assert (candidate.support, candidate.body_size) == (measured.support, measured.body_size)
        assert candidate.confidence == measured.confidence > 0.88


def test_chains_are_ranked_by_how_well_they_tell_facts_from_pairs_at_random() -> None:
    index = FactIndex.of(family(0))
    (supplies,) = (r for r in index.relations if r.name == "supplies")
    pairs = list(zip(supplies.first[:30].tolist(), supplies.second[:30].tolist(), strict=True))
    others = [(x, pairs[(i + 7) % 30][1]) for i, (x, _) in enumerate(pairs)]
    names = [relation.name for relation in index.relations]
    first = Paths(index).contrast(pairs, others, length=3, most=5, seed=0)[0]
    assert canonical(readable("supplies", 2, tuple(first), names)) == canonical(rule(PLANTED[3]))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_rule_of_five_atoms_is_the_first_of_noisy_films(seed: int) -> None:
    store = films(120, seed=1)
    config = InductionConfig(targets=("typical",), max_body=5, seed=seed)
    best = induce(store, config, background=GEOMETRY)[0]
    planted = rule("typical(S) :- film(S), opacity(X), lower_zone(X), contains(L, X), left_lung(L).")
    assert canonical(best.rule) == canonical(planted)
    assert best.confidence == evaluate_rule(planted, store).confidence > 0.88
    assert set(best.refuting).isdisjoint(best.supporting)


def test_strong_simple_rules_on_organs_lead_the_list(candidates: list[Candidate]) -> None:
    first = [str(Rule(c.rule.head, c.rule.body)) for c in candidates[:15]]
    assert "left_of(X, Y) :- right_lung(X), heart(Y)." in first
    assert "left_of(X, Y) :- heart(X), left_lung(Y)." in first


# --- what a candidate is ----------------------------------------------------------------------------------------------


def test_a_candidate_carries_its_exact_measures(candidates: list[Candidate]) -> None:
    for candidate in candidates:
        measured = evaluate_rule(candidate.rule, FILMS)
        assert candidate.confidence == measured.confidence >= QUICK.min_confidence
        assert (candidate.support, candidate.body_size) == (measured.support, measured.body_size)
        assert candidate.support >= QUICK.min_support
        assert measured.supporting_count >= QUICK.min_scenes
        assert (candidate.supporting, candidate.refuting) == (measured.supporting, measured.refuting)
        assert candidate.rule.weight == round(candidate.confidence, 3)


def test_a_candidate_has_an_id_and_readable_evidence(candidates: list[Candidate]) -> None:
    ids = [candidate.rule.id for candidate in candidates]
    assert len(ids) == len(set(ids))
    assert "induced_left_of_1" in ids
    meta = candidates[0].rule.meta
    assert meta["status"] == "candidate"
    assert meta["support"] == str(candidates[0].support)
    assert {"scenes_for", "scenes_against", "weighted_confidence", "semantics"} <= set(meta)
    assert all(isinstance(value, str) for value in meta.values())


def test_no_rule_is_returned_twice_or_with_its_head_in_the_body(candidates: list[Candidate]) -> None:
    forms = [canonical(candidate.rule) for candidate in candidates]
    assert len(forms) == len(set(forms))
    assert not any(candidate.rule.head[0] in candidate.rule.body for candidate in candidates)


def test_no_body_atom_can_be_dropped_without_loss(candidates: list[Candidate]) -> None:
    for candidate in candidates:
        head, body = candidate.rule.head, candidate.rule.body
        for size in range(1, len(body)):
            for part in combinations(body, size):
                if {v for a in part for v in a.args} >= set(head[0].args):
                    shorter = evaluate_rule(Rule(head, part), FILMS)
                    assert shorter.confidence < max(candidate.confidence - 0.01, QUICK.min_confidence)


def with_finding(store: FactStore) -> FactStore:
    """The films, with `finding` above opacity and nodule."""
    more = [Fact("finding", f.args, f.weight, f.scene) for f in store.facts if f.relation in ("opacity", "nodule")]
    return FactStore((*store.facts, *more))


ABOVE = (*GEOMETRY, rule("finding(X) :- opacity(X)."), rule("finding(X) :- nodule(X)."))
SPECIAL = "larger_than(X, Y) :- heart(X), nodule(Y)."
GENERAL = "larger_than(X, Y) :- heart(X), finding(Y)."


def test_filling_up_adds_the_special_cases_of_general_rules_and_takes_none_of_the_novel_ones() -> None:
    store = with_finding(FILMS)
    config = replace(QUICK, targets=("larger_than",), max_body=2)
    plain, filled = (induce(store, replace(config, fill_up=f), background=ABOVE) for f in (False, True))
    plain_texts, filled_texts = ([str(Rule(c.rule.head, c.rule.body)) for c in found] for found in (plain, filled))
    assert GENERAL in plain_texts
    assert SPECIAL not in plain_texts
    assert {GENERAL, SPECIAL} <= set(filled_texts)
    added = [c for c in filled if c.rule.meta.get("novel") == "no"]
    assert filled[-len(added) :] == added
    assert filled_texts[: -len(added)] == plain_texts[: len(filled) - len(added)] == plain_texts


def test_a_list_that_is_filled_up_without_a_limit_has_every_plain_rule_that_enumeration_finds() -> None:
    """Of what things are: two classes, one for each of two things, tried one by one; of those for the same facts one."""
    store = with_finding(films(20))
    config = InductionConfig(targets=("larger_than",), max_body=2, top=None, fill_up=True, min_confidence=0.9)
    texts = {str(canonical(c.rule)) for c in induce(store, config, background=ABOVE)}
    names = ("right_lung", "left_lung", "heart", "trachea", "opacity", "nodule", "finding")
    missing = []
    for one, other in product(names, repeat=2):
        tried = rule(f"larger_than(X, Y) :- {one}(X), {other}(Y).")
        found = measure(tried, store)
        if found.confidence >= 0.9 and found.support >= 5 and len(found.supporting) >= 3:
            missing += [] if str(canonical(tried)) in texts else [tried]
    assert len(texts) > 10
    assert missing == []


def test_a_list_that_is_filled_up_is_as_long_as_asked_for_and_lean() -> None:
    filled = induce(FILMS, replace(QUICK, top=30, fill_up=True, max_body=2), background=GEOMETRY)
    assert len(filled) == 30
    test_no_body_atom_can_be_dropped_without_loss(filled)
    test_nothing_that_follows_from_the_background_is_returned(filled)


def test_rules_that_fill_up_take_the_place_of_rules_whose_facts_others_explain() -> None:
    """Of a rule that is put out, less than a quarter of the facts are explained by no other, by trying all bindings."""
    store = films(15)
    config = replace(QUICK, targets=("larger_than", "above"), top=None, max_body=2)
    plain = induce(store, config, background=GEOMETRY)
    filled = induce(store, replace(config, top=len(plain), fill_up=True), background=GEOMETRY)
    kept = {canonical(c.rule) for c in filled if c.rule.meta.get("novel") != "no"}
    facts = [explained_facts(candidate.rule, World(store)) for candidate in plain]
    out = [i for i, candidate in enumerate(plain) if canonical(candidate.rule) not in kept]
    assert len(filled) == len(plain) > len(out) > 0
    for i in out:
        alone = facts[i].difference(*(of for j, of in enumerate(facts) if j != i))
        assert len(alone) < 0.25 * len(facts[i])


def test_rules_that_fill_up_come_head_by_head_the_shortest_first() -> None:
    config = replace(QUICK, targets=("larger_than", "above"), top=None, max_body=2)
    store = with_finding(films(15))
    plain, all_filled = (induce(store, replace(config, fill_up=f), background=ABOVE) for f in (False, True))
    everything = Counter(c.rule.head[0].predicate for c in all_filled)
    top = len(plain) + 12
    found = [c.rule for c in induce(store, replace(config, top=top, fill_up=True), background=ABOVE)]
    novel, added = ([r for r in found if (r.meta.get("novel") == "no") is fills] for fills in (False, True))
    listed = Counter(r.head[0].predicate for r in novel)
    assert {r.head[0].predicate for r in added} == {"larger_than", "above"}
    for one in added:
        head = one.head[0].predicate
        assert all(listed[head] <= listed[o] or listed[o] == everything[o] for o in ("larger_than", "above"))
        listed[head] += 1
    for head in ("larger_than", "above"):
        lengths = [len(r.body) for r in added if r.head[0].predicate == head]
        assert lengths == sorted(lengths)


def explained_facts(rule: Rule, world: World) -> set[tuple[str, str, tuple[str, ...]]]:
    """The known facts of its head that a rule derives."""
    (head,) = rule.head
    variables = sorted({t for atom in (head, *rule.body) for t in atom.args})
    return {
        (scene, head.predicate, tuple(theta[t] for t in head.args))
        for scene in world.entities
        for theta in world.assignments(variables, True, scene)
        if world.truth((head, *rule.body), theta, scene) > 0
    }


# --- background -------------------------------------------------------------------------------------------------------


def test_nothing_that_follows_from_the_background_is_returned(candidates: list[Candidate]) -> None:
    known = Known(clause for r in GEOMETRY for clause in clauses_of(r))
    for candidate in candidates:
        ((head, body),) = clauses_of(candidate.rule)
        assert not known.entails(head, body)
        assert known.superfluous(body) == []
        assert not any(subsumes(r, candidate.rule) for r in GEOMETRY)


def test_of_two_rules_that_an_inverse_makes_one_only_one_is_returned(candidates: list[Candidate]) -> None:
    texts = {str(canonical(candidate.rule)) for candidate in candidates}
    one = str(canonical(rule("left_of(X, Y) :- right_lung(X), heart(Y).")))
    other = str(canonical(rule("right_of(Y, X) :- right_lung(X), heart(Y).")))
    assert (one in texts) + (other in texts) == 1


def test_without_background_inverses_are_found_and_hide_nothing() -> None:
    texts = [str(Rule(c.rule.head, c.rule.body)) for c in induce(FILMS, InductionConfig(max_body=2, top=None))]
    assert "left_of(X, Y) :- right_of(Y, X)." in texts
    assert "left_of(X, Y) :- right_lung(X), heart(Y)." in texts


def test_a_body_does_not_hold_a_class_beside_its_subclass() -> None:
    more = tuple(Fact("lung", f.args, f.weight, f.scene) for f in FILMS.facts if f.relation.endswith("_lung"))
    background = (*GEOMETRY, rule("lung(X) :- left_lung(X)."), rule("lung(X) :- right_lung(X)."))
    found = induce(FactStore(FILMS.facts + more), QUICK, background=background)
    assert any("lung" in str(candidate.rule) for candidate in found)
    for candidate in found:
        for subclass in ("left_lung", "right_lung"):
            for atom in candidate.rule.body:
                assert not (atom.predicate == subclass and Atom("lung", atom.args) in candidate.rule.body)


def test_a_class_without_facts_still_links_two_that_have_some() -> None:
    background = (rule("organ(X) :- part(X)."), rule("part(X) :- heart(X)."))
    more = tuple(Fact("organ", f.args, f.weight, f.scene) for f in FILMS.facts if f.relation == "heart")
    found = induce(FactStore(FILMS.facts + more), InductionConfig(max_body=1), background=background)
    assert "organ(X) :- heart(X)." not in [str(Rule(c.rule.head, c.rule.body)) for c in found]


def test_a_known_uncertain_rule_is_not_returned_but_may_be_refined() -> None:
    target = InductionConfig(targets=("larger_than",), max_body=2, top=None)
    before = {canonical(c.rule) for c in induce(FILMS, target, background=GEOMETRY)}
    known = rule("larger_than(X, Y) :- left_lung(X), heart(Y).", weight=0.9)
    after = {canonical(c.rule) for c in induce(FILMS, target, background=(*GEOMETRY, known))}
    assert before - after == {canonical(known)}


# --- determinism, limits, reports -------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_list_whatever_the_order_of_the_facts(candidates: list[Candidate]) -> None:
    facts = list(FILMS.facts)
    Random(3).shuffle(facts)
    assert induce(FactStore(tuple(facts)), QUICK, background=GEOMETRY) == candidates


def test_the_hash_seed_of_the_process_does_not_matter() -> None:
    code = (
        "from made_up_films import films, GEOMETRY; from neurosym.induction import induce, InductionConfig\n"
        "for c in induce(films(12), InductionConfig(generations=3, population=10), background=GEOMETRY): print(c)"
    )
    here = Path(__file__).parent
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{here}:{here.parents[1]}"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert b"left_of" in outputs.pop()


def test_only_the_targets_are_heads_and_top_cuts_the_list() -> None:
    found = induce(FILMS, InductionConfig(targets=("near", "above"), max_body=2, top=4), background=GEOMETRY)
    assert len(found) == 4
    assert {candidate.rule.head[0].predicate for candidate in found} <= {"near", "above"}


def test_a_target_without_facts_names_its_neighbour() -> None:
    with pytest.raises(InductionError, match="target 'left_off' has no facts; did you mean 'left_of'"):
        induce(FILMS, InductionConfig(targets=("left_off",)))


def test_a_budget_ends_the_search_early_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    reports: list[Progress] = []
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        induce(films(150), InductionConfig(budget_seconds=0.5), reports.append)
    assert time.monotonic() - started < 4
    assert reports[-1].stage == "done"
    assert reports[-1].out_of_time
    assert "the budget of 0.5 s ran out" in caplog.text


def test_bodies_that_are_too_much_work_are_counted_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    reports: list[Progress] = []
    with caplog.at_level(logging.WARNING):
        found = induce(FILMS, InductionConfig(work_cap=2500, max_body=2), reports.append, background=GEOMETRY)
    assert found
    assert reports[-1].too_expensive > 0
    assert "were skipped: each needs a table of more than 2500 rows" in caplog.text
    for candidate in found:
        assert candidate.confidence == evaluate_rule(candidate.rule, FILMS).confidence


def test_progress_tells_the_stages_in_order() -> None:
    stages: list[str] = []
    induce(FILMS, QUICK, lambda report: stages.append(report.stage))
    assert list(dict.fromkeys(stages)) == ["seeds", "evolution", "selection", "done"]


def test_a_general_graph_needs_connected_rules() -> None:
    found = induce(family(1), InductionConfig(generations=5, population=20, min_confidence=0.1, top=None))
    assert found
    for candidate in found:
        assert is_allowed(candidate.rule.head[0], candidate.rule.body, scenes=False)


def test_pca_confidence_may_rule_the_search() -> None:
    facts = [Fact("lives", (f"p{i}", f"c{i % 7}")) for i in range(80)]
    facts += [Fact("born", (f"p{i}", f"c{i % 7}")) for i in range(20)]
    store = FactStore(tuple(facts))
    assert induce(store, InductionConfig(targets=("born",))) == []
    (best, *_) = induce(store, InductionConfig(targets=("born",), measure="pca"))
    assert str(best.rule) == "0.25 :: born(X, Y) :- lives(X, Y)."
    assert best.pca_confidence == 1.0


def test_facts_that_show_no_rule_give_no_candidate() -> None:
    assert induce(FactStore((Fact("p", ("a", "b")),))) == []
    assert induce(FactStore((Fact("a", ("x",), 1.0, "f1"),))) == []


def test_every_setting_that_makes_no_sense_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        InductionConfig(max_body=0, min_confidence=2.0, budget_seconds=0.0, top=0, measure="lift", targets="left_of")
    assert str(error.value).splitlines() == [
        "max_body is 0 but must be at least 1",
        "min_confidence is 2.0 but must lie in [0, 1]",
        "budget_seconds is 0.0 but must be positive; None: no limit",
        "top is 0 but must be at least 1; None: all",
        "unknown measure 'lift'; known: standard, pca",
        "targets is 'left_of' but must be a tuple; ('left_of',)",
    ]
