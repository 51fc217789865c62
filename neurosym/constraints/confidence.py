r"""How far each rule can be trusted, learned beside the detector: what is stated of a rule is a prior, films are the evidence.

For a rule of stated confidence w let F of its groundings have fired, V of them broken, H = F − V. Its true share θ of
groundings that hold has a robust prior, a mixture of what is stated and of "the statement is wrong, anything may hold":

    θ ~ (1 − ε) Beta(α, β) + ε Beta(1, 1),      α = n w,  β = max(n (1 − w), ½)

with n pretended groundings (more for hard rules, whose w is 1). The mixture (Schmidli et al., 2014, Biometrics 70(4): robust
meta-analytic-predictive priors) is what lets few films overthrow a wrong axiom, while a right one is not moved by a slip of an
annotator. Given the evidence, the learned confidence is the probability that the next grounding holds,

    ŵ = (1 − q) (α + H) / (α + β + F) + q (1 + H) / (2 + F),
    q / (1 − q) = ε / (1 − ε) · B(1 + H, 1 + V) · B(α, β) / B(α + H, β + V)

B the beta function, q the probability that the statement is wrong. It is the estimate of least expected squared error, exact,
free of a learning rate, and tends to 1 − V/F. A rule without evidence keeps what is stated.

There is evidence of two kinds. Annotated films count in full, each once. Predictions come from a model that is trained *with*
the rule, so that they confirm little: they are forgotten exponentially as the model changes, and weigh together at most a share
κ of the rule's annotated groundings,

    F = F_annotated + λ F_predicted,   λ = min(1, κ F_annotated / F_predicted),   V alike,

so that a rule whose only evidence is a model that was trained with it keeps its stated confidence. The prior was made for
trials in medicine; using it for each rule of a detector's loss, and the discount, is ours.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurosym.constraints.compile import ConstraintSet
from neurosym.constraints.crisp import groundings
from neurosym.errors import ConstraintError, DataError, Problem, did_you_mean, short_path
from neurosym.knowledge.rules import write_text_atomically
from neurosym.records import Scene

Source = Literal["annotations", "predictions"]


@dataclass(frozen=True, slots=True)
class RuleConfidenceEntry:
    """What was stated of a rule and what was learned; `fired` and `violated` count annotated groundings.

    `axiom` is the IRI of the class or property whose axiom the rule is, "" for a rule of a file.
    """

    rule: str
    text: str
    file: str
    line: int
    axiom: str
    stated: float
    learned: float
    fired: float
    violated: float
    verdict: str

    @property
    def is_down_weighted(self) -> bool:
        return self.verdict.startswith("down-weighted")

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file else ""
        axiom = f" <{self.axiom}>" if self.axiom else ""
        return f"{place}{self.rule}{axiom}: {self.stated:.3f} → {self.learned:.3f}, {self.verdict}: {self.text}"


class RuleConfidences(nn.Module):
    """The learned confidences of a set of rules; its state is the evidence so far, saved and resumed as a state_dict.

    Args:
        constraints: the compiled rules.
        hard_strength: n of hard rules.
        strength: n of weighted rules.
        doubt: ε, the prior probability that a statement is wrong.
        prediction_share: κ, what predictions may weigh, as a share of the annotated groundings.
        keep: the share of the evidence of predictions that stays at each new observation of predictions.
        frozen: ids of rules that keep what is stated, whatever is seen.

    Raises:
        ConstraintError: an id among `frozen` that no rule has.
    """

    annotated: Tensor
    predicted: Tensor
    stated: Tensor

    def __init__(
        self,
        constraints: ConstraintSet,
        *,
        hard_strength: float = 100.0,
        strength: float = 20.0,
        doubt: float = 1e-3,
        prediction_share: float = 0.25,
        keep: float = 0.99,
        frozen: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.constraints = constraints
        ids = [r.id for r in constraints.rules]
        for name in sorted(set(frozen) - set(ids)):
            raise ConstraintError(f"no rule {name!r} to freeze; {did_you_mean(name, ids)}")
        self.doubt, self.prediction_share, self.keep = doubt, prediction_share, keep
        device = constraints.confidence.device
        stated = torch.tensor([1.0 if r.weight is None else r.weight for r in constraints.rules], dtype=torch.float64)
        weight = torch.tensor([hard_strength if r.weight is None else strength for r in constraints.rules])
        fixed = torch.tensor([i in frozen for i in ids], dtype=torch.bool)
        self.register_buffer("stated", stated.to(device), persistent=False)
        self.register_buffer("_strength", weight.double().to(device), persistent=False)
        self.register_buffer("_frozen", fixed.to(device), persistent=False)
        zeros = torch.zeros(2, len(ids), dtype=torch.float64, device=device)
        self.register_buffer("annotated", zeros)
        self.register_buffer("predicted", zeros.clone())

    def observe(
        self, fired: Float[Tensor, " rule"], violated: Float[Tensor, " rule"], source: Source = "annotations"
    ) -> None:
        """Add groundings to the evidence: per rule how many fired and how many of them were broken, counted or soft.

        Raises:
            ConstraintError: counts of another number of rules, not finite, negative, or more broken than fired.
        """
        if fired.shape != self.stated.shape or violated.shape != self.stated.shape:
            raise ConstraintError(f"counts of {len(fired)} rules; the set has {len(self.stated)}")
        found = torch.stack([fired, violated]).detach().to(self.annotated)
        if not (torch.isfinite(found).all() and (found >= 0).all() and (found[1] <= found[0] + 1e-4).all()):
            raise ConstraintError("evidence must be finite counts with 0 ≤ violated ≤ fired")
        found[1] = torch.minimum(found[1], found[0])
        if source == "annotations":
            self.annotated += found
        else:
            self.predicted.mul_(self.keep).add_(found)

    def observe_annotations(self, scenes: Iterable[Scene]) -> None:
        """Add annotated films; each must be added once only, for seeing a film again is no new evidence."""
        counts = torch.zeros(2, len(self.stated), dtype=torch.float64)
        for scene in scenes:
            for grounding in groundings(self.constraints, scene):
                counts[0, grounding.rule] += 1
                counts[1, grounding.rule] += not grounding.holds
        self.observe(counts[0], counts[1])

    def evidence(self) -> Float[Tensor, "2 rule"]:
        """Fired and violated, annotations with the discounted predictions."""
        fired, told = self.predicted[0], self.annotated[0]
        discount = torch.where(
            fired > 0, self.prediction_share * told / fired.clamp(min=1e-12), torch.zeros_like(fired)
        )
        return self.annotated + discount.clamp(max=1.0) * self.predicted

    def probability_wrong(self) -> Float[Tensor, " rule"]:
        """q, the probability of each rule that what is stated of it is wrong."""
        alpha, beta, held, broken = self._counts()
        stated = _log_beta(alpha + held, beta + broken) - _log_beta(alpha, beta)
        anything = _log_beta(1.0 + held, 1.0 + broken)
        prior = torch.logit(torch.tensor(self.doubt, dtype=torch.float64, device=held.device))
        return torch.sigmoid(prior + anything - stated)

    def confidences(self) -> Float[Tensor, " rule"]:
        """ŵ of every rule, in [0, 1], without gradient: what `constraint_loss` takes as `confidence`."""
        alpha, beta, held, broken = self._counts()
        fired = held + broken
        wrong = self.probability_wrong()
        learned = (1 - wrong) * (alpha + held) / (alpha + beta + fired) + wrong * (1 + held) / (2 + fired)
        kept = self._frozen_mask() | (fired == 0)
        return torch.where(kept, self.stated, learned).to(self.constraints.confidence.dtype).detach()

    def _frozen_mask(self) -> Tensor:
        mask = self._frozen
        assert isinstance(mask, Tensor)
        return mask

    def _counts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """α, β, H, V."""
        strength = self._strength
        assert isinstance(strength, Tensor)
        fired, broken = self.evidence().unbind(0)
        return strength * self.stated, (strength * (1 - self.stated)).clamp(min=0.5), fired - broken, broken

    def report(self) -> list[RuleConfidenceEntry]:
        """One entry a rule, in the order of the rules."""
        learned, wrong = self.confidences().tolist(), self.probability_wrong().tolist()
        fired, violated = self.annotated.tolist()
        entries = []
        for i, rule in enumerate(self.constraints.rules):
            stated = float(self.stated[i])
            if self._frozen_mask()[i]:
                verdict = "kept: frozen"
            elif not fired[i]:
                verdict = "kept: it fired on no annotated film"
            elif wrong[i] > 0.5 and learned[i] < stated:
                verdict = f"down-weighted: broken in {violated[i]:g} of {fired[i]:g} annotated groundings"
            else:
                verdict = "kept"
            axiom = rule.meta.get("axiom", "")
            place = (rule.file, rule.line, axiom)
            entries.append(
                RuleConfidenceEntry(
                    rule.id, str(rule), *place, stated, round(learned[i], 6), fired[i], violated[i], verdict
                )
            )
        return entries

    def save_report(self, path: Path) -> None:
        """Write the report as JSON, a list with one object a rule; the file is replaced as a whole."""
        value = [asdict(entry) for entry in self.report()]
        write_text_atomically(Path(path), json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def load_report(path: Path) -> list[RuleConfidenceEntry]:
    """Read what `save_report` wrote.

    Raises:
        DataError: missing, not JSON, or not a report of confidences.
    """
    place = short_path(path)
    try:
        found = [RuleConfidenceEntry(**v) for v in json.loads(Path(path).read_text(encoding="utf-8"))]
        if not all(isinstance(e.rule, str) and isinstance(e.learned, int | float) for e in found):
            raise TypeError("an entry needs a rule and a learned confidence")
    except OSError as error:
        raise DataError(Problem(f"cannot be read: {error.strerror}", place)) from error
    except (ValueError, TypeError, RecursionError) as error:
        cure = "training with constraints.learn_confidence writes it"
        raise DataError(Problem(f"not a report of confidences: {error}", place, cure=cure)) from error
    return found


def shown(entries: Iterable[RuleConfidenceEntry]) -> str:
    """The report as text, a line a rule: first those that lost most."""
    return "\n".join(map(str, sorted(entries, key=lambda e: (e.learned - e.stated, e.rule))))


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
