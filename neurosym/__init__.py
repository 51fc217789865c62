"""Ontologies and rules become training constraints for detectors of medical images; predictions become rules again.

    load_knowledge(paths) → Knowledge            compile_constraints(knowledge, names) → ConstraintSet
    load_config(path) → TrainConfig              train(config, out) → Run
    open_run(run) → OpenRun                      predict(run, images) → list[Scene]
    facts_from(scenes, knowledge) → FactStore    induce(facts) → list[Candidate]
    write_report(path, title, candidates, scenes, knowledge)

Names are imported when they are first used, so that knowledge, facts, induction and reports work where torch is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurosym.constraints import compile_constraints
    from neurosym.induction import induce
    from neurosym.knowledge import load_knowledge
    from neurosym.learning.config import load_config
    from neurosym.learning.predict import predict
    from neurosym.learning.runfolder import open_run
    from neurosym.learning.train import train
    from neurosym.review import write_report
    from neurosym.scenes import facts_from

__version__ = "0.1.0"
__all__ = [
    "compile_constraints",
    "facts_from",
    "induce",
    "load_config",
    "load_knowledge",
    "open_run",
    "predict",
    "train",
    "write_report",
]
_HOME = {
    "compile_constraints": "neurosym.constraints",
    "facts_from": "neurosym.scenes",
    "induce": "neurosym.induction",
    "load_config": "neurosym.learning.config",
    "load_knowledge": "neurosym.knowledge",
    "open_run": "neurosym.learning.runfolder",
    "predict": "neurosym.learning.predict",
    "train": "neurosym.learning.train",
    "write_report": "neurosym.review",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'neurosym' has no attribute {name!r}")
