"""Random rules of every shape, random scenes and detector outputs for them, over the thorax ontology."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from hypothesis import strategies as st

from neurosym.constraints import ConstraintSet, compile_constraints
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.rules import parse_rules
from neurosym.records import Box, Detection, Rule, Scene
from tests.conftest import CLASSES
from tests.oracles.rules import PLACES

ROOT = Path(__file__).parents[2]
THORAX = load_knowledge([ROOT / "ontologies/thorax.ttl", ROOT / "rules/thorax.rules"])
LEAVES = CLASSES
SIZE = (100.0, 100.0)
CHECKED = (Path("checked"),)
"""Files that were checked already: their rules are not held against each other again."""

EVERY_SHAPE = parse_rules(r"""
    small_object(N) :- nodule(N).                                              %! id=unary
    lower_zone(E) :- pleural_effusion(E).                                      %! id=zone
    :- pleural_effusion(X), upper_zone(X).                                     %! id=denied_zone
    nodule(X) :- small_object(X), \+ heart(X).                                 %! id=class_head
    lung(X), large_object(X) :- left_lung(X).                                  %! id=implied_class
    :- opacity(X), \+ nodule(X), small_object(X).                              %! id=negated_class
    left_of(R, H) :- right_lung(R), heart(H).                                  %! id=pair
    left_of(R, H), larger_than(R, H) :- right_lung(R), heart(H).               %! id=two_words
    inside(N, L) :- nodule(N), lung(L), overlaps(N, L).                        %! id=word_in_body
    :- nodule(N), lung(L), encloses(N, L).                                     %! id=denied_pair
    :- finding(N), heart(H), inside(N, H), \+ near(N, H).                      %! id=denied_negation
    above(A, B) :- upper_zone(A), lower_zone(B), opacity(A), opacity(B).       %! id=places_in_body
    small_object(N), peripheral(N) :- nodule(N), lung(L), inside(N, L).        %! id=places_in_head
    small_object(N), large_object(L), inside(N, L) :- nodule(N), lung(L).      %! id=head_of_three
    nodule(N) :- small_object(N), lung(L), inside(N, L).                       %! id=class_from_pair
    right_of(X, Y) :- finding(X), finding(Y), \+ inside(X, Y), \+ left_of(X, Y).  %! id=negated_words
    X = Y :- heart(X), heart(Y).                                               %! id=equality
    :- left_lung(X), heart(Y).                                                 %! id=never_together
    inside(N, L), lung(L) :- nodule(N).                                        %! id=existential
    inside(N, L), lung(L), large_object(L), small_object(N) :- nodule(N).      %! id=existential_with_places
    near(N, Z) :- pleural_effusion(N), lower_zone(N).                          %! id=existential_of_anything
    :- nodule(N), \+ inside(N, _).                                             %! id=inside_nothing
    :- opacity(N), \+ lung(_).                                                 %! id=no_lung
    small_object(N) :- nodule(N), \+ overlaps(_, N).                           %! id=alone_is_small
    :- lung(L), count{N : nodule(N), inside(N, L)} > 1.                        %! id=few_nodules
    large_object(L) :- lung(L), count{N : opacity(N), inside(N, L)} >= 2.      %! id=many_opacities
    :- heart(H), count{N : finding(N), small_object(N), \+ nodule(N), near(N, H)} =:= 1.  %! id=exactly
    :- lung(L), count{N : nodule(N)} =< 1.                                     %! id=at_most
    :- lung(L), count{N : nodule(N), inside(N, L), \+ overlaps(N, _)} =\= 1.   %! id=count_of_lonely
    :- count{L : lung(L)} > 2.                                                 %! id=of_the_image
    :- count{L : lung(L), left_of(L, H), heart(H)} < 1.                        %! id=some_left_lung
    :- heart(H), width_share(H, W), W > 0.3.                                   %! id=wide_heart
    larger_than(H, N) :- heart(H), opacity(N), width_share(H, W), width_share(N, V), W / V > 0.5.  %! id=ratio
    :- lung(X), lung(Y), height_share(X, A), height_share(Y, B), abs(A - B) > 0.2.  %! id=difference
    large_object(X) :- heart(X), area_share(X, A), aspect(X, R), S is A * 2 + R, max(S, 0.5) >= min(A, 0.3) - 0.1.  %! id=sum
    :- lung(L), count{N : opacity(N), near(N, _), overlaps(_, N)} > 1.         %! id=count_of_touching
    :- lung(L), count{N : nodule(N), area_share(N, A), A < 0.05} > 1.          %! id=count_measured
    above(X, Y) :- heart(X), lung(Y), X \= Y.                                  %! id=different
""")


def compiled(*rules: Rule, names: tuple[str, ...] = LEAVES, exclusive: bool = True) -> ConstraintSet:
    return compile_constraints(Knowledge(THORAX.ontology, rules, CHECKED), names, exclusive=exclusive)


@st.composite
def scenes(draw: st.DrawFn, most: int = 7) -> Scene:
    """Boxes of every size that often lie in one another, no two borders alike."""
    rng = random.Random(draw(st.integers(0, 10**9)))
    found: list[Detection] = []
    for _ in range(draw(st.integers(0, most))):
        name = draw(st.sampled_from(LEAVES))
        if found and rng.random() < 0.4:
            outer = rng.choice(found).box
            x, y = rng.uniform(outer.x1, outer.x2), rng.uniform(outer.y1, outer.y2)
            box = Box(x, y, x + rng.uniform(1, 12), y + rng.uniform(1, 12))
        else:
            x, y = rng.uniform(0, 60), rng.uniform(0, 60)
            box = Box(x, y, x + rng.uniform(2, 40), y + rng.uniform(2, 40))
        found.append(Detection(name, box))
    return Scene("film", int(SIZE[0]), int(SIZE[1]), tuple(found))


def one_hot(scene: Scene) -> torch.Tensor:
    probabilities = torch.zeros(len(scene.detections), len(LEAVES) + 1, dtype=torch.float64)
    for i, d in enumerate(scene.detections):
        probabilities[i, LEAVES.index(d.name) + 1] = 1.0
    return probabilities


def boxes_of(scene: Scene) -> torch.Tensor:
    return torch.tensor([d.box.xyxy for d in scene.detections], dtype=torch.float64).reshape(-1, 4)


def unsure(scene: Scene, seed: int, sharpness: float = 2.0) -> torch.Tensor:
    """Probabilities that lean to the scene's classes."""
    noise = torch.randn(len(scene.detections), len(LEAVES) + 1, generator=torch.Generator().manual_seed(seed))
    return (noise.double() + sharpness * one_hot(scene)).softmax(-1)


CLASS_NAMES = (*LEAVES, "lung", "opacity", "finding", "anatomical_structure")
RELATIONS = ("left_of", "right_of", "above", "inside", "encloses", "overlaps", "larger_than", "near", "patient_left_of")
MEASURED = ("width_share", "height_share", "area_share", "aspect", "centre_x", "centre_y")


@st.composite
def rule_texts(draw: st.DrawFn) -> str:
    """A rule of one or two objects: classes, places, words, negations, counts and comparisons, drawn freely."""
    variables = draw(st.sampled_from([("X",), ("X", "Y")]))

    def maybe(part: st.SearchStrategy[str], chance: int = 3) -> list[str]:
        return [draw(part)] if draw(st.integers(1, chance)) == 1 else []

    def of(names: tuple[str, ...], v: str) -> st.SearchStrategy[str]:
        return st.sampled_from(names).map(lambda name: f"{name}({v})")

    def between(a: str, b: str) -> st.SearchStrategy[str]:
        return st.tuples(st.sampled_from(RELATIONS), st.booleans()).map(
            lambda drawn: f"{drawn[0]}({a}, {b})" if drawn[1] else f"{drawn[0]}({b}, {a})"
        )

    body: list[str] = []
    for v in variables:
        body += [draw(of(CLASS_NAMES, v))] if draw(st.booleans()) else [draw(of(PLACES, v))]
        body += maybe(of((*CLASS_NAMES, *PLACES), v))
        body += maybe(of((*CLASS_NAMES, *PLACES), v).map(lambda atom: rf"\+ {atom}"))
        body += maybe(between(v, "_").map(lambda atom: rf"\+ {atom}"), 5)
        if draw(st.integers(1, 4)) == 1:
            inner = [draw(of(CLASS_NAMES, "N")), *maybe(of(PLACES, "N"))]
            inner += [draw(between("N", v))] if draw(st.booleans()) else []
            inner += maybe(of(CLASS_NAMES, "N").map(lambda atom: rf"\+ {atom}"))
            operator = draw(st.sampled_from([">", ">=", "<", "=<", "=:=", "=\\="]))
            body.append(f"count{{N : {', '.join(inner)}}} {operator} {draw(st.integers(0, 3))}")
        if draw(st.integers(1, 4)) == 1:
            body += [f"{draw(st.sampled_from(MEASURED))}({v}, M{v})"]
            body += [f"M{v} {draw(st.sampled_from(['<', '>=']))} {draw(st.sampled_from(['0.2', '0.5', '1.1']))}"]
    if len(variables) == 2:
        body += maybe(between("X", "Y"), 2) + maybe(between("X", "Y").map(lambda atom: rf"\+ {atom}"), 4)
        if draw(st.integers(1, 4)) == 1:
            a, b = draw(st.sampled_from(MEASURED)), draw(st.sampled_from(MEASURED))
            body += [
                f"{a}(X, A)",
                f"{b}(Y, B)",
                draw(st.sampled_from(["A / B > 0.8", "A - B < 0.1", "abs(A - B) > 0.2"])),
            ]
    kind = draw(st.sampled_from(["denial", "head", "head", "existential" if len(variables) == 1 else "equality"]))
    if kind == "denial":
        return f":- {', '.join(body)}."
    if kind == "equality":
        return f"X = Y :- {', '.join(body)}."
    head = maybe(of((*CLASS_NAMES, *PLACES), draw(st.sampled_from(variables))), 2)
    if kind == "existential":
        head += [draw(between("X", "Z")), *maybe(of(CLASS_NAMES, "Z"), 2), *maybe(of(PLACES, "Z"))]
    elif len(variables) == 2:
        head += [draw(between("X", "Y"))]
    elif not head:
        head = [draw(of(PLACES, "X"))]
    return f"{', '.join(head)} :- {', '.join(body)}."
