"""What is killed: a search for rules, and a reviewer who judges. (Training is `neurosym train` itself.)

``work.py induce GRAPH FOLDER RULES`` goes on with the search in FOLDER, if there is one, and writes all rules at its end;
``work.py review LEDGER`` records one verdict after the other and prints the number of each as soon as it is recorded.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from neurosym.induction.kg import learner
from neurosym.induction.kg.files import write_rule_set
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.reading import read_store
from neurosym.review.ledger import Ledger

GENERATIONS = 60


def induce(graph: Path, folder: Path, rules: Path) -> None:
    """Up to a number of generations, so that the rules do not depend on how fast the machine is."""
    learner._WRITTEN_EVERY = 0.2  # many times a second instead of twice a minute: a kill is to hit the writing, too
    config = LearnerConfig(budget=None, generations=GENERATIONS, paths=500, workers=1)
    store = read_store(graph)
    found = RuleLearner(config).fit(store, folder=folder, resume=(folder / "base.npz").is_file())
    write_rule_set(rules, store, found.rules, "learned from a generated graph")


def review(path: Path) -> None:
    """Verdicts are numbered; after a kill they go on after those that are there."""
    ledger = Ledger(path)
    for number in itertools.count(len(ledger.verdicts())):
        ledger.record(f"verdict-{number}", "A. Reader", f"0.9 :: p{number}(X) :- q(X).", "accept")
        print(number, flush=True)


if __name__ == "__main__":
    what, *places = sys.argv[1:]
    {"induce": induce, "review": review}[what](*map(Path, places))
