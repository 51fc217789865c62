from __future__ import annotations

from itertools import permutations
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.knowledge import Knowledge, hermit, load_knowledge
from neurosym.knowledge.ontology import load_ontology
from neurosym.knowledge.triples import OWL, TYPE
from neurosym.logic import Atom, Rule, Term
from neurosym.review.standing import Standings
from tests.review.cohorts import rule
from tests.review.test_confirmation import ATOMS, consequences, horn_rules

PREFIXES = """@prefix : <http://x.org/o#> . @prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . @prefix ns: <http://neurosym.org/core#> .
<http://x.org/o> a owl:Ontology .
"""


@pytest.mark.parametrize(
    ("text", "standing", "because"),
    [
        ("left_of(B, A) :- left_lung(A), right_lung(B).", "known", "rules/thorax.rules:17"),
        ("0.9 :: below(H, L) :- lung(L), heart(H).", "known", "rules/thorax.rules:24, with weight 1"),
        (
            "lung(X) :- left_lung(X).",
            "entailed",
            "If X is a left lung, then X is a lung, by 'left_lung SubClassOf lung' (ontologies/thorax.ttl:37).",
        ),
        (
            "right_of(A, B) :- left_lung(A), right_lung(B).",
            "entailed",
            "If B is a right lung and A is a left lung, then B is left of A, by 'lungs_in_order' (rules/thorax.rules:17). "
            "If B is left of A, then A is right of B, by 'left_of InverseOf right_of' (ontologies/neurosym.ttl:162).",
        ),
        ("near(X, Y) :- overlaps(X, Y), nodule(X).", "entailed", "If X overlaps Y, then X is near Y"),
        ("heart(X) :- left_lung(X).", "contradicted", "Never: X is a lung and X is a heart, by 'DisjointClasses lung,"),
        (
            "right_of(B, A) :- left_lung(A), right_lung(B).",
            "contradicted",
            "Never: A is left of B and B is left of A, by ':- left_of(X, Y), left_of(Y, X).' (what the words mean).",
        ),
        (
            "left_lung(Y) :- left_lung(X), nodule(Y).",
            "contradicted",
            "then X and Y are the same object, and they are two, by 'one_left_lung'",
        ),
        ("near(X, Y) :- heart(X), heart(Y).", "contradicted", "its body cannot hold: If X is a heart and Y is a heart"),
        ("above(X, Y) :- nodule(X), heart(Y).", "novel", ""),
    ],
)
def test_a_rule_about_the_chest(thorax: Knowledge, text: str, standing: str, because: str) -> None:
    found = Standings(thorax).of(rule(text))
    assert found.standing == standing
    assert because in found.because
    assert bool(because) == bool(found.because)


def test_a_body_that_cannot_hold_is_warned_of(thorax: Knowledge) -> None:
    found = Standings(thorax).of(rule("near(X, Y) :- left_of(X, Y), left_of(Y, X)."))
    assert found.warnings == ("what its body describes breaks the knowledge, whatever its head",)


def test_rules_that_allow_exceptions_only_warn(thorax: Knowledge) -> None:
    follows = Standings(thorax).of(rule("inside(N, L), lung(L) :- nodule(N), near(N, M)."))
    against = Standings(thorax).of(rule("above(X, Y) :- heart(X), lung(Y)."))
    assert (follows.standing, against.standing) == ("novel", "novel")
    assert follows.warnings[0].startswith("it follows anyway with rules that allow exceptions: 'nodule_in_lung'")
    assert against.warnings[0].startswith("it describes exceptions to 'heart_below_lung'")


def test_a_rejected_rule_is_known_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "x.rejected.rules"
    file.write_text('near(X, Y) :- heart(X), lung(Y).  %! id=n status=rejected reason="by chance"\n')
    found = Standings(load_knowledge(["ontologies/thorax.ttl", file])).of(rule("near(A, B) :- lung(B), heart(A)."))
    assert found.standing == "known"
    assert found.because.endswith("x.rejected.rules:1, rejected: by chance")


# --- against HermiT ----------------------------------------------------------------------------------------------

CLASSES = [f"c{i}" for i in range(7)]


def drawn_ontology(rng: Random) -> str:
    lines = [f":{c} a owl:Class ; rdfs:label '{c}' ." for c in CLASSES]
    lines += [f":{r} a owl:ObjectProperty ; rdfs:label '{r}' ." for r in ("p", "q")]
    for _ in range(9):
        a, b = rng.sample(CLASSES, 2)
        some = f"[ a owl:Restriction ; owl:onProperty :{rng.choice('pq')} ; owl:someValuesFrom :{b} ]"
        lines.append(
            rng.choice(
                [
                    f":{a} rdfs:subClassOf :{b} .",
                    f":{a} rdfs:subClassOf :{b} .",
                    f":{a} owl:disjointWith :{b} .",
                    f":{a} rdfs:subClassOf {some} .",
                    f"{some} rdfs:subClassOf :{a} .",
                    f":{rng.choice('pq')} rdfs:domain :{a} .",
                    f":{rng.choice('pq')} rdfs:range :{a} .",
                ]
            )
        )
    return PREFIXES + "\n".join(lines) + "\n"


def what_hermit_says(triples: list[str], rules: list[tuple[str, tuple[str, ...]]]) -> list[str]:
    """A class for each body, and one for body and head: empty, or below the head."""

    def name(c: str) -> str:
        return f"<http://x.org/o#{c}>"

    def meet(new: str, parts: tuple[str, ...]) -> list[str]:
        nodes = [f"_:{new}n{i}" for i in range(len(parts))] + [f"<{TYPE.rsplit('#')[0]}#nil>"]
        rdf = TYPE.rsplit("#")[0]
        lines = [f"{name(new)} <{TYPE}> <{OWL}Class> .", f"{name(new)} <{OWL}equivalentClass> _:{new} ."]
        lines += [f"_:{new} <{TYPE}> <{OWL}Class> .", f"_:{new} <{OWL}intersectionOf> {nodes[0]} ."]
        for part, node, after in zip(parts, nodes, nodes[1:], strict=False):
            lines += [f"{node} <{rdf}#first> {name(part)} .", f"{node} <{rdf}#rest> {after} ."]
        return lines

    lines = list(triples)
    for i, (head, body) in enumerate(rules):
        lines += meet(f"body{i}", (*body, *body[:1]) if len(body) == 1 else body) + meet(f"both{i}", (*body, head))
    taxonomy = hermit.classify("\n".join(lines) + "\n", 60)
    assert taxonomy is not None
    above: dict[str, set[str]] = {}
    for low, high in taxonomy.direct:
        above.setdefault(low, set()).add(high)
    for group in taxonomy.equal:
        for one in group:
            above.setdefault(one, set()).update(group)

    def ancestors(start: str) -> set[str]:
        seen, ahead = set(), [start]
        while ahead:
            for parent in above.get(ahead.pop(), ()):
                if parent not in seen:
                    seen.add(parent)
                    ahead.append(parent)
        return seen

    said = []
    for i, (head, _) in enumerate(rules):
        base = "http://x.org/o#"
        if f"{base}both{i}" in taxonomy.empty:
            said.append("contradicted")
        else:
            said.append("entailed" if base + head in ancestors(f"{base}body{i}") else "novel")
    return said


@pytest.mark.skipif(not hermit.is_available(), reason="HermiT needs Java")
@pytest.mark.parametrize("seed", range(4))
def test_rules_over_classes_stand_as_hermit_says(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    file = tmp_path / "o.ttl"
    file.write_text(drawn_ontology(rng))
    ontology = load_ontology([file])
    drawn = [
        (head, tuple(sorted(body))) for head, *body in (rng.sample(CLASSES, rng.choice([2, 3])) for _ in range(25))
    ]
    triples = [f"{s.n3()} {p.n3()} {o.n3()} ." for s, p, o in ontology.graph]
    said = what_hermit_says(triples, drawn)
    standings = Standings(Knowledge(ontology, ()))
    x = Term("X")
    found = [standings.of(Rule((Atom(h, (x,)),), tuple(Atom(b, (x,)) for b in body))).standing for h, body in drawn]
    assert found == said
    assert len(set(said)) > 1


# --- against trying everything -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Knowledge:
    """Classes and relations of which nothing is said."""
    file = tmp_path_factory.mktemp("o") / "o.ttl"
    lines = [f":{c} a owl:Class ; rdfs:label '{c}' ." for c in "abcd"]
    lines += [f":{r} a owl:ObjectProperty ; rdfs:label '{r}' ." for r in "rs"]
    file.write_text(PREFIXES + "\n".join(lines) + "\n")
    return load_knowledge([file])


DENIALS = st.lists(ATOMS, min_size=2, max_size=2, unique=True).map(lambda atoms: Rule((), tuple(atoms)))


def breaks(atoms: set[Atom], rules: list[Rule], denials: list[Rule]) -> bool:
    closed = consequences(atoms, rules)
    objects = sorted({t for atom in closed for t in atom.args})
    for denial in denials:
        variables = sorted({t for atom in denial.body for t in atom.args})
        for chosen in permutations(objects, len(variables)):
            theta = dict(zip(variables, chosen, strict=True))
            if {Atom(a.predicate, tuple(theta[t] for t in a.args)) for a in denial.body} <= closed:
                return True
    return False


@given(rules=st.lists(horn_rules(), max_size=4), denials=st.lists(DENIALS, max_size=2), goal=horn_rules())
def test_a_rule_stands_as_trying_every_binding_says(
    words: Knowledge, rules: list[Rule], denials: list[Rule], goal: Rule
) -> None:
    found = Standings(Knowledge(words.ontology, tuple(dict.fromkeys((*rules, *denials))))).of(goal)
    if found.standing == "known":
        assert any(str(r) in found.because or r.id in found.because for r in rules)
        return
    if breaks({*goal.body, *goal.head}, rules, denials):
        assert found.standing == "contradicted"
    elif set(goal.head) <= consequences(set(goal.body), rules):
        assert found.standing == "entailed"
    else:
        assert found.standing == "novel"
