"""What torchrun tells a process of the others, in its environment; no torch here."""

from __future__ import annotations

import os


def processes() -> int:
    """How many processes torchrun has started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_main() -> bool:
    """Whether this process writes the run folder and speaks."""
    return processes() == 1 or os.environ["RANK"] == "0"
