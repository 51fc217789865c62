"""What a training writes down at each step: a line of ``log.jsonl``, and scalars for TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter


class TrainLog:
    """The log of a run that has `step` steps behind it; a context manager."""

    def __init__(self, out: Path, step: int) -> None:
        self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
        self.file = (out / "log.jsonl").open("a", encoding="utf-8")

    def add(self, step: int, terms: dict[str, float]) -> None:
        """The terms of a step, counted from 1."""
        self.file.write(json.dumps({"step": step} | {k: round(v, 5) for k, v in terms.items()}) + "\n")
        for key, value in terms.items():
            self.writer.add_scalar(f"train/{key}", value, step)

    def flush(self) -> None:
        """Bring the lines so far to the disk: a checkpoint counts on them."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def __enter__(self) -> TrainLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        self.writer.close()
