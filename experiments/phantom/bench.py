"""How fast the phantom paints, on one core, and how hard it is for a detector: neither hopeless nor perfect."""

from __future__ import annotations

import time
from typing import Any

from detection import seed_record
from harness import Figure, figure, record

from neurosym.data.phantom import Phantom, PhantomConfig

FILMS = 150
FINDINGS = ("ground_glass_opacity", "consolidation", "nodule", "pleural_effusion")


def figures() -> list[Figure]:
    """Films a second at 256 and 512 pixels, masks and labels included; AP50 of a detector trained on 200 films."""

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
    detector = [seed_record("phantom", 0)]
    return [
        figure("films/s/core at 256 px", runs[256], lambda r: r["films_per_second"], ">= 50"),
        figure("films/s/core at 512 px", runs[512], lambda r: r["films_per_second"]),
        *(figure(f"AP50 {n}, 200 films", detector, lambda r, n=n: r["per_class"][n]["ap50"]) for n in FINDINGS),
    ]
