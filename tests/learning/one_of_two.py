"""The command line as one of two processes of a run; a module of its own, for a process imports it to begin."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from neurosym.cli import main


def run_as(rank: int, port: int, words: Sequence[str]) -> None:
    """`neurosym` with these words, in the environment that torchrun gives to a process of two."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in own.items()})
    sys.argv = ["neurosym", *words]
    main()
