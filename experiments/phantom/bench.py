"""How fast the phantom paints, on one core."""

from __future__ import annotations

import time
from typing import Any

from harness import Figure, figure, record

from neurosym.data.phantom import Phantom, PhantomConfig

FILMS = 150


def figures() -> list[Figure]:
    """Films a second at 256 and 512 pixels, masks and labels included; three repeats."""

    def measure(size: int, repeat: int) -> dict[str, Any]:
        films = Phantom(repeat * FILMS, FILMS, PhantomConfig(size=size))
        _ = films[0]
        started = time.process_time()
        for i in range(FILMS):
            _ = films[i]
        return {"films_per_second": FILMS / (time.process_time() - started)}

    runs = {
        size: [record("phantom", f"{size}-{i}", [size, i, FILMS], lambda s=size, k=i: measure(s, k)) for i in range(3)]
        for size in (256, 512)
    }
    return [
        figure("films/s/core at 256 px", runs[256], lambda r: r["films_per_second"], ">= 50"),
        figure("films/s/core at 512 px", runs[512], lambda r: r["films_per_second"]),
    ]
