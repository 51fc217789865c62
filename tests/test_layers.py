from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
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
    ],
)
def test_a_rule_reviewers_laptop_needs_no_torch(module: str) -> None:
    code = f"import sys, neurosym.{module}; sys.exit(any(m.split('.')[0] in ('torch', 'torchvision') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
