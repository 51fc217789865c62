"""One run of neurosym beside LTNtorch and PiShield, in one process, in turns; prints its medians as JSON.

    python peers.py labels|pairs|sparse|repair SEED

Every system gets the same clauses and the same probabilities; before anything is timed, it is checked that they compute the
same violation and the same gradient (for PiShield's layer, which corrects instead of measuring: that it leaves alone exactly
what violates nothing). Where a peer leaves a choice, it is made in the peer's favour; README.md lists the choices.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from generated import Clauses, PairRules, clauses, names, ordered_rules, ordered_scene, pair_rules
from torch import Tensor

from neurosym.constraints import ConstraintSet, compile_constraints, violation
from neurosym.constraints.repair import RepairPlan
from neurosym.knowledge.geometry import PREDICATES

BATCH = 64
TEMPERATURE = 0.1
Step = Callable[[Tensor, Tensor], Tensor]
"""(class probabilities, boxes) → the mean violation over all groundings."""


def medians(systems: dict[str, Step], inputs: tuple[Tensor, ...], repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of CPU time of forward and backward of each system: medians over repeats that take turns.

    With one thread that is the wall time of an idle machine. A turn is two steps: `first` comes right after another system,
    whose data fill the caches, `again` right after the first. The order is drawn anew for each round, so that none always
    follows the same other; garbage is collected between rounds only.
    """
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in systems}
    order = list(systems)
    for repeat in range(repeats + 1):
        gc.collect()
        gc.disable()
        for name in order:
            for times in taken[name]:
                fresh = [x.clone().requires_grad_() for x in inputs]
                started = time.process_time()
                systems[name](*fresh).backward()  # type: ignore[no-untyped-call]
                spent = time.process_time() - started
                if repeat:  # the first round makes what is made once
                    times.append(1e3 * spent)
        gc.enable()
        random.shuffle(order)
    return {
        name: {"first": round(statistics.median(first), 4), "again": round(statistics.median(again), 4)}
        for name, (first, again) in taken.items()
    }


def same(systems: dict[str, Step], inputs: tuple[Tensor, ...]) -> None:
    """All systems give one value and one gradient."""
    found = {}
    for name, step in systems.items():
        fresh = [x.clone().requires_grad_() for x in inputs]
        value = step(*fresh)
        value.backward()  # type: ignore[no-untyped-call]
        found[name] = [value.detach(), *(torch.zeros_like(x) if x.grad is None else x.grad for x in fresh)]
    first, *others = found
    for other in others:
        for mine, theirs in zip(found[first], found[other], strict=True):
            torch.testing.assert_close(
                mine, theirs.to(mine.dtype), rtol=1e-3, atol=1e-6, msg=lambda m, o=other: f"{o}: {m}"
            )


def again(known: Any) -> Any:
    """A value of LTNtorch that is used a second time; a connective reshapes its operands in place."""
    import ltn

    return ltn.LTNObject(known.value, list(known.free_vars))


# --- 50 labels, clauses over the labels of one object -------------------------------------------------------------------


def ours_on_labels(made: Clauses, folder: Path) -> Step:
    """A batch is 64 objects of one image: rules of one variable ground on each."""
    constraints = compile_constraints(made.knowledge(folder), names(made.labels), exclusive=False)
    assert len(constraints.rules) == len(made.heads)

    def step(labels: Tensor, boxes: Tensor) -> Tensor:
        background = torch.zeros_like(labels[:, :1])
        found = violation(constraints, torch.cat([background, labels], 1), boxes)
        return found.violated.sum() / (len(labels) * len(made.heads))

    return step


def ltn_on_labels(made: Clauses) -> Step:
    """Forall x: (A(x) and B(x)) implies C(x), a label's predicate evaluated once a step."""
    import ltn
    from ltn import fuzzy_ops

    both = ltn.Connective(fuzzy_ops.AndProd(stable=False))
    implies = ltn.Connective(fuzzy_ops.ImpliesReichenbach(stable=False))
    forall = ltn.Quantifier(fuzzy_ops.AggregMean(), quantifier="f")
    satisfied = fuzzy_ops.SatAgg(fuzzy_ops.AggregMean())
    predicates = [ltn.Predicate(func=lambda x, i=i: x[:, i]) for i in range(made.labels)]

    def step(labels: Tensor, boxes: Tensor) -> Tensor:
        x = ltn.Variable("x", labels)
        truth = [p(x) for p in predicates]
        rules = zip(made.bodies, made.heads, strict=True)
        formulas = (implies(both(again(truth[a]), again(truth[b])), again(truth[c])) for (a, b), c in rules)
        return 1.0 - satisfied(*(forall(x, f) for f in formulas))

    return step


def pishield_layer(made: Clauses, path: str, iterative: bool) -> Step:
    from pishield.shield_layer import build_shield_layer

    order = ",".join(map(str, range(made.labels)))
    with contextlib.redirect_stdout(io.StringIO()):
        layer = build_shield_layer(
            made.labels, path, "custom", custom_ordering=order, requirements_type="propositional"
        )

    def step(labels: Tensor, boxes: Tensor) -> Tensor:
        return layer(labels, iterative=iterative).sum()

    check_layer(layer, made)
    return step


def check_layer(layer: torch.nn.Module, made: Clauses) -> None:
    """On labels that are 0 or 1, the layer changes an object iff it violates a clause."""
    labels = (torch.rand(200, made.labels, generator=torch.Generator().manual_seed(1)) > 0.9).float()
    labels[::2, made.labels // 2 :] = 1.0
    a, b = torch.tensor(made.bodies).T
    broken = (labels[:, a] * labels[:, b] * (1 - labels[:, torch.tensor(made.heads)])).amax(1) > 0
    changed = (layer(labels) != labels).any(1)
    assert 0 < int(broken.sum()) < len(broken)
    assert torch.equal(broken, changed), "PiShield's layer reads other clauses"


def pishield_loss(made: Clauses, path: str) -> Step | None:
    """None for the release on PyPI, which has the layer only."""
    try:
        from pishield.shield_loss import build_shield_loss
    except ImportError:
        return None
    loss = build_shield_loss(made.labels, path, tnorm_choice="product")
    return lambda labels, boxes: loss(labels)


def labels(seed: int, folder: Path) -> dict[str, Any]:
    torch.manual_seed(seed)
    found = {}
    for count in (100, 1000):
        made = clauses(count, seed=seed)
        path = made.pishield(folder / "requirements.txt")
        systems: dict[str, Step] = {"ours": ours_on_labels(made, folder), "ltn": ltn_on_labels(made)}
        loss = pishield_loss(made, path)
        if loss is not None:
            systems["pishield loss"] = loss
        inputs = torch.rand(BATCH, made.labels), random_boxes(BATCH)
        same(systems, inputs)
        systems["pishield layer, iterative"] = pishield_layer(made, path, iterative=True)
        systems["pishield layer, tensor"] = pishield_layer(made, path, iterative=False)
        found[str(count)] = medians(systems, inputs, 9)
    return found


# --- 100 detections, rules between two ----------------------------------------------------------------------------------


def random_boxes(count: int) -> Tensor:
    corner = torch.rand(count, 2) * 400
    return torch.cat([corner, corner + 10 + torch.rand(count, 2) * 100], 1)


def ours_on_pairs(constraints: ConstraintSet, threshold: float = 0.0) -> Step:
    def step(probabilities: Tensor, boxes: Tensor) -> Tensor:
        found = violation(constraints, probabilities, boxes, TEMPERATURE, threshold=threshold)
        return found.violated.sum() / (len(boxes) * (len(boxes) - 1) * len(constraints.rules))

    return step


def ltn_on_pairs(made: PairRules, guarded: bool) -> Step:
    """Forall x, y: (A(x) and B(y)) implies word(x, y); classes and words evaluated once a step.

    `guarded` leaves out pairs of an object with itself, as ours does; LTNtorch is faster without.
    """
    import ltn
    from ltn import fuzzy_ops

    both = ltn.Connective(fuzzy_ops.AndProd(stable=False))
    implies = ltn.Connective(fuzzy_ops.ImpliesReichenbach(stable=False))
    forall = ltn.Quantifier(fuzzy_ops.AggregMean(), quantifier="f")
    satisfied = fuzzy_ops.SatAgg(fuzzy_ops.AggregMean())
    used = sorted({c for a, b, _ in made.rules for c in (a, b)})
    classes = {c: ltn.Predicate(func=lambda v, c=c: v[:, 5 + c]) for c in used}
    words = {
        w: ltn.Predicate(func=lambda v, u, w=w: torch.sigmoid(PREDICATES[w](v[:, :4], u[:, :4], torch) / TEMPERATURE))
        for w in sorted({w for *_, w in made.rules})
    }

    def step(probabilities: Tensor, boxes: Tensor) -> Tensor:
        features = torch.cat([boxes, probabilities], 1)
        x, y = ltn.Variable("x", features), ltn.Variable("y", features)
        of_x, of_y = ({c: p(v) for c, p in classes.items()} for v in (x, y))
        between = {w: p(x, y) for w, p in words.items()}
        formulas = (implies(both(again(of_x[a]), again(of_y[b])), again(between[w])) for a, b, w in made.rules)
        if not guarded:
            return 1.0 - satisfied(*(forall([x, y], f) for f in formulas))
        apart = 1.0 - torch.eye(len(boxes))
        return torch.stack([((1.0 - f.value) * apart).sum() for f in formulas]).mean() / apart.sum()

    return step


def pairs(seed: int, folder: Path) -> dict[str, Any]:
    torch.manual_seed(seed)
    kinds = 20
    inputs = torch.randn(100, kinds + 1).softmax(1), random_boxes(100)
    found = {}
    for count in (20, 100, 1000):
        made = pair_rules(count, kinds, seed=seed)
        constraints = compile_constraints(made.knowledge(folder), names(kinds))
        assert len(constraints.rules) == count
        systems: dict[str, Step] = {"ours": ours_on_pairs(constraints)}
        if count <= 100:
            same({**systems, "ltn": ltn_on_pairs(made, guarded=True)}, inputs)
            systems["ltn"] = ltn_on_pairs(made, guarded=False)
        found[str(count)] = medians(systems, inputs, 15)
    return found


# --- many objects, many rules, sparse -----------------------------------------------------------------------------------


def sparse(seed: int, folder: Path) -> dict[str, Any]:
    """CPU time of 300 detections, each 85% sure of its class of 50, with 5,000 rules; pairs with a premise above 0.05."""
    torch.manual_seed(seed)
    kinds, count = 50, 300
    constraints = compile_constraints(pair_rules(5000, kinds, seed=seed).knowledge(folder), names(kinds))
    probabilities = 0.15 * torch.rand(count, kinds + 1).softmax(1)
    probabilities[torch.arange(count), torch.randint(1, kinds + 1, (count,))] += 0.85
    boxes = random_boxes(count)
    forward: list[float] = []
    for repeat in range(17):
        started = time.process_time()
        violation(constraints, probabilities, boxes, TEMPERATURE, threshold=0.05)
        if repeat >= 2:
            forward.append(1e3 * (time.process_time() - started))
    both = medians({"ours": ours_on_pairs(constraints, 0.05)}, (probabilities, boxes), 15)
    return {"forward": round(statistics.median(forward), 4), "forward and backward": both["ours"]["first"]}


# --- repair -------------------------------------------------------------------------------------------------------------


def repairs(seed: int, folder: Path) -> dict[str, Any]:
    """CPU time to repair 50 detections, 5 of them of a wrong class, under 100 hard rules; the plan is made once."""
    kinds, taken, changed = 20, [], []
    knowledge = ordered_rules(100, kinds, seed=seed).knowledge(folder)
    plan = RepairPlan(knowledge, names(kinds))
    for number in range(12):
        scene, alternatives = ordered_scene(50, kinds, 5, seed=100 * seed + number)
        started = time.process_time()
        found = plan.repair(scene, alternatives=alternatives)
        taken.append(1e3 * (time.process_time() - started))
        changed.append(len(found.changes))
        assert not plan.broken(found.scene)
    return {"repair": round(statistics.median(taken[2:]), 4), "changes": statistics.fmean(changed)}


def main() -> None:
    kind, seed = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    random.seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        found = {"labels": labels, "pairs": pairs, "sparse": sparse, "repair": repairs}[kind](seed, Path(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
