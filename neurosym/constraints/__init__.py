"""Knowledge → `ConstraintSet`; a scene or a detector's output → how far it breaks the rules, as a number to minimise."""

from neurosym.constraints.compile import ConstraintSet, compile_constraints
from neurosym.constraints.crisp import Grounding, RuleScore, groundings, score_rules
from neurosym.constraints.grounding import Groundings, ground
from neurosym.constraints.loss import Violation, constraint_loss, violation
from neurosym.constraints.semantics import SEMANTICS, TNORMS

__all__ = [
    "SEMANTICS",
    "TNORMS",
    "ConstraintSet",
    "Grounding",
    "Groundings",
    "RuleScore",
    "Violation",
    "compile_constraints",
    "constraint_loss",
    "ground",
    "groundings",
    "score_rules",
    "violation",
]
