"""Islands on the workers of a Dask cluster: other processes of this machine, or other machines.

A generation of an island is a task. The worker that did the last one has the island still, so it is asked first; any other, one
that takes over from a worker that died among them, answers that it does not know the island, and is sent its state as it was
after the last generation. So nothing is lost, and the rules are those of the same search in threads. The facts are sent to each
worker once; of a store that was opened from a folder the folder's name alone, which each worker maps, so that a graph may be
larger than a worker's memory.

Dask's processes exchange Python objects (pickles): name only a scheduler that you trust.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from neurosym.errors import ConfigError, InductionError
from neurosym.induction.kg.evolution import Archipelago, Search, Setting
from neurosym.induction.kg.island import Island, IslandState, Kept, Report

LOCAL: Final = "local"
_PATIENCE: Final = 4
_ANSWERS_WITHIN: Final = 5
_here: dict[tuple[str, int], tuple[int, Island]] = {}
"""In a worker: the islands that it has, by search and number, each with the generations it has done."""


class Cluster(Archipelago):
    """Islands on a Dask cluster.

    Args:
        scheduler: its address, as tcp://host:8786; "local" for processes of this machine that end with the search.
        workers: how many processes, if local.

    Raises:
        ConfigError: no scheduler answers there.
    """

    def __init__(self, setting: Setting, search: Search, scheduler: str, workers: int) -> None:
        from distributed import Client, LocalCluster

        self._setting, self._name = setting, uuid.uuid4().hex
        self._own = None
        if scheduler == LOCAL:
            self._own = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")  # type: ignore[no-untyped-call]
        try:
            self._client = Client(self._own or scheduler, timeout=_ANSWERS_WITHIN)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as e:
            raise ConfigError(f"no Dask scheduler answers at {scheduler!r} ({e})") from e
        self._at: list[str | None] = [None] * len(search.islands)
        self._facts = self._sent()

    def generation(self, search: Search) -> list[Report]:
        """See `Archipelago`; an island whose worker died goes on at another one."""
        from distributed import CancelledError, KilledWorker

        found: list[Report | None] = [None] * len(search.islands)
        states: list[IslandState | None] = [None] * len(found)
        for _ in range(_PATIENCE):
            missing = [i for i, report in enumerate(found) if report is None]
            try:
                reports = self._asked(search, missing, [states[i] for i in missing])
            except (CancelledError, KilledWorker):  # with the workers the facts are gone
                self._facts, reports = self._sent(), [None] * len(missing)
            for i, report in zip(missing, reports, strict=True):
                found[i], states[i] = report, search.islands[i]
            if all(report is not None for report in found):
                break
        else:
            raise InductionError("the workers of the cluster keep dying: see their logs")
        return [report for report in found if report is not None]

    def _sent(self) -> Any:
        """The facts and settings, sent to all workers."""
        return self._client.scatter(self._setting, broadcast=True, hash=False)  # type: ignore[no-untyped-call]

    def _asked(
        self, search: Search, numbers: Sequence[int], states: Sequence[IslandState | None]
    ) -> list[Report | None]:
        futures = [
            self._client.submit(
                next_generation,
                *(self._facts, self._name, i, search.generation, search.sent[i], state),
                workers=self._at[i],
                allow_other_workers=self._at[i] is not None,
                pure=False,
            )
            for i, state in zip(numbers, states, strict=True)
        ]
        answers: list[tuple[str, Report | None]] = self._client.gather(futures)  # type: ignore[no-untyped-call]
        for i, (worker, _) in zip(numbers, answers, strict=True):
            self._at[i] = worker
        return [report for _, report in answers]

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]
        if self._own is not None:
            self._own.close()


def next_generation(
    setting: Setting, name: str, number: int, generation: int, sent: Sequence[Kept], state: IslandState | None
) -> tuple[str, Report | None]:
    """In a worker: its address, and the report of an island's next generation; None if it needs the island's state first."""
    from distributed import get_worker

    if state is not None:
        _here[name, number] = generation, setting.island(state)
    address: str = get_worker().address
    if _here.get((name, number), (-1, None))[0] != generation:
        return address, None
    island = _here[name, number][1]
    for other in [key for key in _here if key[0] != name]:
        del _here[other]  # of searches that ended
    report = island.generation(sent)
    _here[name, number] = generation + 1, island
    return address, report
