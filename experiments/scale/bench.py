"""Does training scale? A million films' index, an epoch of 100 000 films, and the reader against the step (`stream.py`)."""

from __future__ import annotations

from functools import partial
from typing import Any

from harness import HERE, Figure, figure, measured, record

NAME = "scale"
STREAM = HERE / NAME / "stream.py"
PROCESSES = HERE / NAME / "processes.py"
SEEDS = (0, 1, 2)
"""Of the speeds; memory, which is hardly of chance, is measured once."""


def figures() -> list[Figure]:
    """Streaming from shards, and two processes against one."""
    return [*streaming(), *distribution()]


def streaming() -> list[Figure]:
    """What the index takes, whether an epoch is flat, and whether training ever waits for films."""
    index, epoch = [streamed("index", 0)], [streamed("epoch", 0)]
    speeds = [streamed("speed", seed) for seed in SEEDS]
    return [
        figure("films of the index", index, lambda r: r["films"]),
        figure("resident MB of the index, all of it looked at", index, lambda r: r["resident MB"], "<= 500"),
        figure("s to open the index", index, lambda r: r["open s"]),
        figure("films of the epoch", epoch, lambda r: r["films"]),
        figure("resident MB after a tenth of the epoch", epoch, lambda r: r["10% MB"]),
        figure("resident MB after the epoch", epoch, lambda r: r["100% MB"]),
        figure(
            "growth of resident memory from a tenth of the epoch to its end", epoch, lambda r: r["growth"], "<= 0.05"
        ),
        figure("films/s of the epoch", epoch, lambda r: r["films/s"]),
        figure("films/s of the reader", speeds, lambda r: r["reader"]),
        figure("films/s that a light training takes in from memory", speeds, lambda r: r["memory"]),
        figure("films/s of the reader / of training", speeds, lambda r: r["reader / training"], ">= 2"),
        figure("films/s of training from shards / from memory", speeds, lambda r: r["shards / memory"]),
    ]


def distribution() -> list[Figure]:
    """What a second process is worth on two cores, and whether it changes what is learned."""
    texts = [f.read_text(encoding="utf-8") for f in (PROCESSES, PROCESSES.with_suffix(".yaml"))]
    runs = [
        record(NAME, f"processes-{seed}", {"texts": texts, "seed": seed}, partial(measured, PROCESSES, seed))
        for seed in SEEDS
    ]
    return [
        figure("s of a step on one process", runs, lambda r: r["one s"]),
        figure("s of a step on two processes", runs, lambda r: r["two s"]),
        figure("speed of two processes / of one", runs, lambda r: r["speed-up"], ">= 1.5"),
        figure("largest relative difference of the loss in 60 steps", runs, lambda r: r["apart"], "<= 0.02"),
    ]


def streamed(what: str, seed: int) -> dict[str, Any]:
    """The record of one measurement."""
    return record(NAME, f"{what}-{seed}", settings(what), partial(measured, STREAM, what, seed))


def settings(what: str) -> dict[str, str]:
    """A measurement is of the script as it is."""
    return {"what": what, "script": STREAM.read_text(encoding="utf-8")}
