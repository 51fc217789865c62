from __future__ import annotations

import subprocess
import sys

MODULES = (
    "cli",
    "loop",
    "knowledge.reasoner",
    "scenes.draw",
    "scenes.rdf",
    "induction",
    "induction.kg.weights",
    "review",
    "review.run",
    "review.film_predictions",
    "review.film_reports",
    "review.web.app",
    "learning.runfolder",
    "data.config",
)


def test_a_rule_reviewers_laptop_needs_no_torch() -> None:
    """Each module is imported first of all, in a process of its own; what others bring lies there already."""
    code = f"""
import importlib, os, sys
import numpy, pydantic, rdflib, typer
for module in {MODULES}:
    if (child := os.fork()) == 0:
        importlib.import_module("neurosym." + module)
        os._exit(bool({{"torch", "torchvision"}} & {{m.split(".")[0] for m in sys.modules}}))
    if os.waitpid(child, 0)[1]:
        sys.exit("neurosym." + module)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
