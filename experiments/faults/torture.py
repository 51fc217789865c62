"""A command is killed (SIGKILL) at random moments, started again each time, and at last left to end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0
"""Seconds that a process may take until it has begun."""


def environment() -> dict[str, str]:
    """That of the commands: one thread, this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def started(command: Sequence[object]) -> subprocess.Popen[bytes]:
    """A Python program in a process group of its own."""
    words = [sys.executable, "-W", "ignore", *map(str, command)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, env=environment(), cwd=ROOT, start_new_session=True, **quiet)  # type: ignore[call-overload]  # noqa: S603


def killed(
    command: Sequence[object],
    kills: int,
    span: float,
    rng: random.Random,
    begun: Callable[[float], bool],
    check: Callable[[], None],
) -> int:
    """Kill a command so many times and let it end; how many times it was killed.

    Args:
        command: for Python.
        kills: at most; a command that ends before is not started again.
        span: a kill comes within so many seconds of the moment when it has begun.
        rng: draws the moments.
        begun: asked with the time of the start, whether it is at work.
        check: called after each kill, raises if a file is not whole.
    """
    done = 0
    while done < kills:
        since = time.time()
        process = started(command)
        while not begun(since) and process.poll() is None and time.time() - since < PATIENCE:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, span))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done += 1
        check()
    ended = started(command)
    _, told = ended.communicate()
    if ended.returncode:
        raise SystemExit(f"{command} failed after {done} kills:\n{told.decode()}")
    check()
    return done
