"""The rules of a run, compiled for its detector, for all that holds its predictions or annotations against them."""

from __future__ import annotations

from neurosym.constraints import ConstraintSet, compile_constraints
from neurosym.learning.runfolder import OpenRun


def constraints_of(run: OpenRun) -> ConstraintSet:
    """The constraints of an opened run, none if no rule constrains it; classes overlap where its boxes have several labels."""
    return compile_constraints(run.knowledge, run.names, required=False, exclusive=not run.config.model.multi_label)
