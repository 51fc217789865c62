"""Do 100 000 unlabelled films stream at constant memory, and what does it take to open as many files (`walk.py`)?"""

from __future__ import annotations

from functools import partial

from harness import HERE, Figure, figure, measured, record

NAME = "pool-memory"
SCRIPT = HERE / NAME / "walk.py"
SEED = 0
"""One walk: it takes a quarter of an hour, and what it measures is hardly of chance."""


def figures() -> list[Figure]:
    """Growth of memory on the way through generated films; what a folder of files takes."""
    films, files = (
        [record(NAME, what, settings(what), partial(measured, SCRIPT, what, SEED))] for what in ("films", "files")
    )
    return [
        figure("films of the pool", films, lambda r: r["films"]),
        figure("resident MB after 5000 films", films, lambda r: r["5000 MB"]),
        figure("resident MB after all films", films, lambda r: r["last MB"]),
        figure("growth of resident memory from the 5000th film to the last", films, lambda r: r["growth"], "<= 0.05"),
        figure("peak MB", films, lambda r: r["peak MB"]),
        figure("MB of the opened pool of films", films, lambda r: r["opened MB"]),
        figure("files in the folder", files, lambda r: r["files"]),
        figure("s to open the folder", files, lambda r: r["open s"]),
        figure("MB of the opened folder", files, lambda r: r["opened MB"]),
    ]


def settings(what: str) -> dict[str, str]:
    """A measurement is of the script as it is."""
    return {"what": what, "script": SCRIPT.read_text(encoding="utf-8")}
