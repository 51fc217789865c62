"""Knowledge → `ConstraintSet`; a scene or a detector's output → how far it breaks the rules, as a number to minimise."""

from neurosym.constraints.compile import ConstraintSet, compile_constraints
from neurosym.constraints.crisp import RuleScore, groundings, score_rules
from neurosym.constraints.loss import Violation, constraint_loss, violation

__all__ = [
    "ConstraintSet",
    "RuleScore",
    "Violation",
    "compile_constraints",
    "constraint_loss",
    "groundings",
    "score_rules",
    "violation",
]
