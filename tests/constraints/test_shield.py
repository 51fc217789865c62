"""The shield's guarantee over random hierarchies, disjointness and Horn rules, checked on what was generated."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints.broken import broken_rules
from neurosym.constraints.geometry import PLACES
from neurosym.constraints.shield import Shield, sizes_of
from neurosym.errors import ConstraintError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.geometry import size_of
from neurosym.knowledge.ontology import load_ontology
from neurosym.knowledge.rules import parse_rules
from neurosym.records import Box, Detection, Scene
from neurosym.scenes import facts_from
from tests.conftest import ROOT

THORAX = load_knowledge([ROOT / "ontologies/thorax.ttl", ROOT / "rules/thorax.rules"])
HEAD = (
    "@prefix : <https://example.org/x#> . @prefix owl: <http://www.w3.org/2002/07/owl#> .\n"
    "@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .\n<https://example.org/x> a owl:Ontology .\n"
)


@dataclass(frozen=True)
class Labels:
    """What was generated: names, the pairs (class, superclass) with their closure, disjoint pairs, Horn rules."""

    names: tuple[str, ...]
    above: frozenset[tuple[str, str]]
    disjoint: frozenset[tuple[str, str]]
    horn: tuple[tuple[tuple[str, ...], str], ...]

    def satisfied(self, holds: frozenset[str]) -> bool:
        return (
            all(b in holds for a, b in self.above if a in holds)
            and not any(a in holds and b in holds for a, b in self.disjoint)
            and all(head in holds if head else False for body, head in self.horn if set(body) <= holds)
        )

    def closure(self, holds: frozenset[str]) -> frozenset[str]:
        found = set(holds)
        while True:
            more = {b for a, b in self.above if a in found} | {h for body, h in self.horn if h and set(body) <= found}
            if more <= found:
                return frozenset(found)
            found |= more

    @property
    def knowledge(self) -> Knowledge:
        lines = [f":{n} a owl:Class ." for n in self.names]
        lines += [f":{a} rdfs:subClassOf :{b} ." for a, b in sorted(self.above)]
        lines += [f":{a} owl:disjointWith :{b} ." for a, b in sorted(self.disjoint)]
        path = Path("labels.ttl").resolve()
        ontology = load_ontology([path], {path: HEAD + "\n".join(lines)})
        texts = (f"{head}{'(X) ' if head else ''}:- {', '.join(f'{b}(X)' for b in body)}." for body, head in self.horn)
        return Knowledge(ontology, tuple(parse_rules("\n".join(texts))))


@st.composite
def label_sets(draw: st.DrawFn) -> Labels:
    names = tuple("abcdef"[: draw(st.integers(1, 6))])
    index = range(len(names))
    pairs = [(names[i], names[j]) for i, j in itertools.combinations(index, 2)]
    told = draw(st.lists(st.sampled_from(pairs), max_size=5, unique=True)) if pairs else []
    above = set(told)
    while more := {(a, d) for a, b in above for c, d in above if b == c} - above:
        above |= more
    foes = draw(st.lists(st.sampled_from(pairs), max_size=3, unique=True)) if pairs else []
    bodies = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True).map(tuple)
    horn = draw(st.lists(st.tuples(bodies, st.sampled_from((*names, ""))), max_size=3, unique=True))
    horn = [(body, head) for body, head in horn if head not in body]
    return Labels(names, frozenset(above), frozenset(foes), tuple(horn))


def scores(count: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(0, 1, width=32), min_size=count, max_size=count)


@given(label_sets(), st.data())
@settings(max_examples=150)
def test_predicted_labels_never_break_a_label_constraint(labels: Labels, data: st.DataObject) -> None:
    possible = [labels.satisfied(labels.closure(frozenset({n}))) for n in labels.names]
    if not all(possible):
        with pytest.raises(ConstraintError, match=f"allow no '{labels.names[possible.index(False)]}' at all"):
            Shield(labels.knowledge, labels.names, exclusive=False)
        return
    shield = Shield(labels.knowledge, labels.names, exclusive=False)
    raw = torch.tensor([data.draw(scores(len(labels.names))) for _ in range(8)])
    shielded = shield(raw)
    for before, after in zip(raw.tolist(), shielded.tolist(), strict=True):
        predicted = frozenset(n for n, p in zip(labels.names, after, strict=True) if p > 0.5)
        assert labels.satisfied(predicted)
        assert predicted == _by_priority(labels, dict(zip(labels.names, before, strict=True)))


def _by_priority(labels: Labels, raw: dict[str, float]) -> frozenset[str]:
    """Of all consistent choices among the labels above one half, the one that keeps the surest label, then the next …"""
    wanted = sorted((n for n in raw if raw[n] > 0.5), key=lambda n: -raw[n])
    choices = (frozenset(c) for k in range(len(wanted) + 1) for c in itertools.combinations(wanted, k))
    closed = [c for c in map(labels.closure, choices) if labels.satisfied(c)]
    return max(closed, key=lambda c: [n in c for n in wanted], default=frozenset())


@given(label_sets(), st.data())
@settings(max_examples=60)
def test_scores_that_satisfy_the_constraints_pass_unchanged(labels: Labels, data: st.DataObject) -> None:
    try:
        shield = Shield(labels.knowledge, labels.names, exclusive=False)
    except ConstraintError:
        return
    raw = torch.tensor([data.draw(scores(len(labels.names)))])
    once = shield(raw)
    torch.testing.assert_close(shield(once), once)
    if not (labels.disjoint or labels.horn):  # then it is the maximum over the descendants
        index = {n: i for i, n in enumerate(labels.names)}
        expected = [max([raw[0, i], *(raw[0, index[a]] for a, b in labels.above if b == n)]) for n, i in index.items()]
        torch.testing.assert_close(once[0], torch.stack([torch.as_tensor(e) for e in expected]))


def test_gradients_reach_what_decides_a_label() -> None:
    labels = Labels(("a", "b", "c"), frozenset({("a", "b")}), frozenset({("b", "c")}), ())
    shield = Shield(labels.knowledge, labels.names, exclusive=False)
    raw = torch.tensor([[0.8, 0.6, 0.7]], requires_grad=True)
    found = shield(raw)
    torch.testing.assert_close(found, torch.tensor([[0.8, 0.8, 0.5]]))
    found.sum().backward()
    torch.testing.assert_close(raw.grad, torch.tensor([[2.0, 0.0, 0.0]]))


LEAVES = ("left_lung", "right_lung", "heart", "nodule", "mass", "consolidation")


def place_rules() -> Knowledge:
    text = (
        "small_object(N) :- nodule(N).\n:- heart(H), small_object(H).\nlarge_object(M) :- mass(M).\n"
        "mass(X) :- opacity(X), large_object(X).\n:- consolidation(C), upper_zone(C)."
    )
    return Knowledge(THORAX.ontology, tuple(parse_rules(text)))


@given(st.lists(st.tuples(*[st.floats(0, 60)] * 2, *[st.floats(1, 60)] * 2), max_size=5), st.integers(0, 2**31))
@settings(max_examples=60)
def test_a_class_that_a_box_rules_out_has_no_probability_and_the_others_keep_their_ratios(
    corners: list[tuple[float, float, float, float]], seed: int
) -> None:
    knowledge = place_rules()
    shield = Shield(knowledge, LEAVES)
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in corners], dtype=torch.float64).reshape(-1, 4)
    raw = torch.rand(len(boxes), len(LEAVES) + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    raw = raw.softmax(1)
    found = shield(raw, boxes=boxes, size=(100.0, 100.0))
    torch.testing.assert_close(found.sum(1), torch.ones(len(boxes), dtype=torch.float64))
    by_box = [r for r in knowledge.rules if "upper_zone" not in str(r)]
    for n, box in enumerate(boxes.tolist()):
        for k, name in enumerate(LEAVES, 1):
            scene = Scene("film", 100, 100, (Detection(name, Box(*box)),))
            is_broken = bool(broken_rules(by_box, scene, THORAX.ontology))
            assert (found[n, k] == 0) == is_broken
            if not is_broken:
                assert found[n, k] / found[n, 0] == pytest.approx(float(raw[n, k] / raw[n, 0]))


def test_zones_count_once_the_places_are_known() -> None:
    shield = Shield(place_rules(), LEAVES)
    scene = Scene(
        "film", 100, 100, (Detection("left_lung", Box(50, 0, 95, 90)), Detection("consolidation", Box(60, 5, 80, 20)))
    )
    told = facts_from([scene], THORAX).facts
    places = torch.tensor(
        [[any(f.relation == p and f.args == (f"film/{i}",) for f in told) for p in PLACES] for i in (0, 1)]
    )
    raw = torch.full((2, len(LEAVES) + 1), 1 / 7)
    boxes = torch.tensor([d.box.xyxy for d in scene.detections], dtype=torch.float32)
    column = LEAVES.index("consolidation") + 1
    assert shield(raw, boxes=boxes, size=(100.0, 100.0))[1, column] > 0
    found = shield(raw, places=places)
    assert found[1, column] == 0
    assert found[0, column] == 0  # it is large: a large opacity is a mass
    assert found[1, 0] > 0


def test_without_boxes_rules_about_sizes_do_not_count() -> None:
    raw = torch.rand(3, len(LEAVES) + 1).softmax(1)
    torch.testing.assert_close(Shield(place_rules(), LEAVES)(raw), raw)


def test_what_is_left_where_everything_is_ruled_out_is_background() -> None:
    shield = Shield(place_rules(), ("nodule",))
    raw = torch.tensor([[0.0, 1.0]])
    large = torch.tensor([[0.0, 0.0, 90.0, 90.0]])
    torch.testing.assert_close(shield(raw, boxes=large, size=(100.0, 100.0)), torch.tensor([[1.0, 0.0]]))
    bare = Shield(place_rules(), ("nodule",), background=False)
    with pytest.raises(ConstraintError, match="the rules allow no class for box 0"):
        bare(raw[:, 1:], boxes=large, size=(100.0, 100.0))


def test_multi_label_outputs_respect_a_boxs_size() -> None:
    shield = Shield(place_rules(), ("opacity", "nodule", "mass"), exclusive=False)
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 90.0, 90.0]])
    found = shield(torch.tensor([[0.6, 0.9, 0.8], [0.6, 0.9, 0.1]]), boxes=boxes, size=(100.0, 100.0))
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.9, 0.5], [0.6, 0.5, 0.6]]))


def test_the_gradient_of_conditioning_is_that_of_finite_differences() -> None:
    shield = Shield(place_rules(), LEAVES)
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 90.0, 90.0]], dtype=torch.float64)
    raw = torch.rand(2, len(LEAVES) + 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: shield(p, boxes=boxes, size=(100.0, 100.0)), (raw,))


@given(st.floats(0.5, 100), st.floats(0.5, 100))
def test_sizes_are_those_of_the_crisp_words(width: float, height: float) -> None:
    box = torch.tensor([[0.0, 0.0, width, height]], dtype=torch.float64)
    told = sizes_of(box, 100.0, 100.0)[0].tolist()
    assert [p for p, holds in zip(("small_object", "medium_object", "large_object"), told, strict=True) if holds] == [
        size_of(box[0].numpy(), 100.0, 100.0)
    ]


def test_a_class_that_the_rules_forbid_everywhere_is_a_mistake_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text("\n:- nodule(X), opacity(X).")
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl"])
    bad = Knowledge(knowledge.ontology, tuple(parse_rules(path.read_text(), "x.rules")))
    with pytest.raises(
        ConstraintError, match=r"x.rules:2: the rules allow no 'nodule' at all: :- nodule\(X\), opacity\(X\)."
    ):
        Shield(bad, ("nodule",))


def test_unknown_classes_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(ConstraintError, match="class 'nodul' is not in the ontology; did you mean 'nodule'"):
        Shield(THORAX, ("nodul",))
    with pytest.raises(ConstraintError, match="probabilities have 2 columns; expected 3"):
        Shield(THORAX, ("nodule", "heart"))(torch.rand(1, 2))


def test_weighted_rules_and_conditions_are_left_out_and_said() -> None:
    text = "0.9 :: small_object(N) :- nodule(N).\n" + r"small_object(N) :- nodule(N), \+ mass(N)." + "\n"
    knowledge = Knowledge(THORAX.ontology, tuple(parse_rules(text)))
    shield = Shield(knowledge, ("nodule",))
    assert shield.clauses == ()
    assert [why for _, why in shield.unused] == [r"its condition \+ mass(N) cannot be met by raising labels"]
    assert len(Shield(knowledge, ("nodule",), min_weight=0.9).clauses) == 1
