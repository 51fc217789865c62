"""Islands on a Dask cluster of this machine: the rules are those of threads, also when workers die."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed import LocalCluster
from test_kg_learner import planted, settings

from neurosym.errors import ConfigError
from neurosym.induction.kg.clock import State
from neurosym.induction.kg.files import rules_of
from neurosym.induction.kg.learner import RuleLearner
from neurosym.induction.kg.store import TripleStore

GENERATIONS = 6


@pytest.fixture(scope="module")
def in_threads() -> list[str]:
    store = TripleStore.of(planted())
    return [str(rule) for rule in rules_of(store, RuleLearner(settings(GENERATIONS, select=False)).fit(store).rules)]


@pytest.mark.parametrize("workers", [2, 1])
def test_the_rules_of_a_cluster_are_those_of_threads_also_when_a_worker_is_killed_even_the_only_one(
    in_threads: list[str], workers: int
) -> None:
    store = TripleStore.of(planted())
    killed = []
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster:

        def told(state: State) -> None:
            if state.generation == 3 and not killed:
                worker = cluster.workers[0]
                killed.append(worker.process.pid)
                worker.process.process._process.kill()

        learner = RuleLearner(settings(GENERATIONS, select=False)).fit(store, told, scheduler=cluster.scheduler_address)
    assert killed
    assert [str(rule) for rule in rules_of(store, learner.rules)] == in_threads


def test_a_cluster_of_this_machine_maps_a_folder_and_is_ended(in_threads: list[str], tmp_path: Path) -> None:
    TripleStore.of(planted()).write(tmp_path / "graph")
    store = TripleStore.open(tmp_path / "graph")
    learner = RuleLearner(settings(GENERATIONS, select=False)).fit(store, scheduler="local")
    assert [str(rule) for rule in rules_of(store, learner.rules)] == in_threads


def test_a_scheduler_that_does_not_answer_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:1'"):
        RuleLearner(settings(1)).fit(TripleStore.of(planted()), scheduler="tcp://127.0.0.1:1")
