"""One run on one process and on two, as torchrun starts them, one thread each: seconds of a step and losses; JSON.

python processes.py SEED
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).with_suffix(".yaml")
WARM = 10
"""Steps at the beginning that do not count."""


def log(count: int, seed: int, out: Path) -> list[dict[str, Any]]:
    """What a run of so many processes says of each step."""
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    run = ["-m", "neurosym", "train", str(CONFIG), "--out", str(out), "--set", f"seed={seed}", "--no-forecast"]
    subprocess.run([*launch, "--nproc-per-node", str(count), *run], check=True, capture_output=True)  # noqa: S603
    return [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def main(seed: int) -> dict[str, Any]:
    """Runs alternate, so that a machine that slows down slows both: one, two, two, one."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [(count, log(count, seed, Path(folder) / str(n))) for n, count in enumerate((1, 2, 2, 1))]
    step = {k: statistics.median(s["seconds"] for c, r in runs if c == k for s in r[WARM:]) for k in (1, 2)}
    one, two = runs[0][1], runs[1][1]
    apart = max(abs(a["loss"] - b["loss"]) / a["loss"] for a, b in zip(one, two, strict=True))
    return {"one s": step[1], "two s": step[2], "speed-up": step[1] / step[2], "apart": apart}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
