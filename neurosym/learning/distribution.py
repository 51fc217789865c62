"""One training on several processes, one for each GPU or core, as torchrun starts them.

Data parallelism (Li et al., PyTorch Distributed, VLDB 2020): every process has the whole model and takes its own share of each
batch; gradients are averaged over all processes before a step, so the weights stay the same on all of them. A batch of the
config is the batch of all processes together, so that a run means the same on one and on many.

It is not `DistributedDataParallel`: a step goes through the model more than once (labelled films, pseudo-labels, proposals,
regions to embed), by other methods than `forward`, and which parts get a gradient depends on what a process's films show. Here
all gradients of a step are averaged in one message when they are there, a part that no process has reached has none, as on one
process.

Beside its weights a model keeps state that follows what it sees (centroids, the noise of annotations, batch norms): buffers.
Each process feeds them from its own share; after a step they are made the same on all (`World.agree`): floating point numbers
are means over the processes, counters and flags the greatest, unless a module says otherwise in its method `merge`. A running
mean so remembers `size` times as many annotations as it would on one process.
"""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, distributed, nn
from torchvision.ops import FrozenBatchNorm2d

from neurosym.errors import ConfigError, TrainingError
from neurosym.learning.launch import processes

Item = TypeVar("Item")
_PATIENCE = datetime.timedelta(hours=2)
"""How long a process waits for the others: the refiner is trained within one step."""


@runtime_checkable
class Merges(Protocol):
    """A module whose buffers are not simply averaged."""

    def merge(self, states: dict[str, Tensor]) -> None:
        """Take up the buffers of all processes, each with the process as its first axis; the same on all afterwards."""


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees them; by itself, without torchrun, it is alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this is the process that writes the run folder and speaks."""
        return self.rank == 0

    def require_even(self, count: int, setting: str, parts: int = 1) -> None:
        """Refuse a batch that cannot be dealt evenly to processes and to the parts of a step.

        Raises:
            ConfigError: names the setting and the nearest number that can.
        """
        shares = self.size * parts
        if count % shares:
            nearest = max(shares, round(count / shares) * shares)
            why = f"{self.size} processes" + (f" × {parts} parts (train.accumulate)" if parts > 1 else "")
            raise ConfigError(f"{setting}: {count} images cannot be dealt evenly to {why}; {nearest} can")

    def share(self, items: Sequence[Item], part: int = 0, parts: int = 1) -> list[Item]:
        """What of a batch this process sees in one of the parts of a step; all of it if it is alone and there is one part."""
        each, block = len(items) // (self.size * parts), part * self.size + self.rank
        return list(items[block * each : (block + 1) * each])

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give each parameter the mean of its gradients over the processes; one that no process has reached has none."""
        if self.size == 1:
            return
        own = [p for p in parameters if p.requires_grad]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
        reached = own[0].new_tensor([float(p.grad is not None) for p in own])
        flat = torch.cat([*(g.reshape(-1) for g in grads), reached])
        distributed.all_reduce(flat)
        anyone = flat[len(flat) - len(own) :].tolist()
        parts = torch.split(flat[: len(flat) - len(own)], [p.numel() for p in own])
        for parameter, grad, part, reach in zip(own, grads, parts, anyone, strict=True):
            parameter.grad = grad.copy_(part.view_as(parameter) / self.size) if reach else None

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes, without gradient."""
        return self.total(value) / self.size

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over the processes, without gradient."""
        value = value.detach().clone()
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def everyone(self, true: bool, device: torch.device) -> bool:
        """Whether something holds on all processes."""
        return float(self.mean(torch.tensor(float(true), device=device))) == 1.0

    def gather(self, value: Tensor) -> Tensor:
        """(process, …): a tensor of the same shape of each process."""
        if self.size == 1:
            return value[None]
        found = [torch.empty_like(value) for _ in range(self.size)]
        distributed.all_gather(found, value.contiguous())
        return torch.stack(found)

    @torch.no_grad()
    def agree(self, modules: Iterable[nn.Module]) -> None:
        """Make the buffers of modules the same on all processes (see above)."""
        if self.size == 1:
            return
        own = [
            (part, dict(part.named_buffers(recurse=False)))
            for module in modules
            for part in module.modules()
            if not isinstance(part, FrozenBatchNorm2d)
        ]
        tensors = [buffer for _, buffers in own for buffer in buffers.values()]
        if not tensors:
            return
        # a double holds every count and flag exactly
        all_of_them = self.gather(torch.cat([t.reshape(-1).double() for t in tensors]))
        flat = iter(torch.split(all_of_them, [t.numel() for t in tensors], dim=1))
        for part, buffers in own:
            states = {k: next(flat).reshape(self.size, *v.shape).to(v.dtype) for k, v in buffers.items()}
            if isinstance(part, Merges):
                part.merge(states)
                continue
            for name, buffer in buffers.items():
                merged = states[name].mean(0) if buffer.is_floating_point() else states[name].amax(0)
                buffer.copy_(merged)

    def require_agreement(self, module: nn.Module, step: int) -> None:
        """Make sure that all processes still train the same model.

        Raises:
            TrainingError: their weights have come apart.
        """
        if self.size == 1:
            return
        sums = torch.stack([p.detach().double().sum() for p in module.parameters()])
        found = self.gather(sums)
        if not torch.allclose(found, found[:1].expand_as(found), rtol=1e-6, atol=1e-6):
            raise TrainingError(f"step {step}: the weights differ between processes; go on from the last checkpoint")

    def require_same_start(self, module: nn.Module, step: int) -> None:
        """Make sure that all processes begin with the same step and the same weights.

        Raises:
            ConfigError: they have read different checkpoints, or none.
        """
        if self.size == 1:
            return
        parameter = next(module.parameters())
        steps = self.gather(parameter.new_tensor([float(step)])).flatten().tolist()
        if len({*steps}) > 1:
            found = ", ".join(str(int(s)) for s in steps)
            raise ConfigError(
                f"the processes begin at different steps ({found}); put the run folder where all can read it"
            )
        self.require_agreement(module, step)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A block that the processes go through one after the other."""
        for rank in range(self.size):
            if rank == self.rank:
                yield
            self.wait()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()


ALONE = World()


@contextmanager
def joined() -> Iterator[World]:
    """The processes that torchrun has started this one with; leaves them when the block ends."""
    size = processes()
    if size == 1:
        yield ALONE
        return
    world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    cuda = torch.cuda.is_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
    if not world.main:
        logging.getLogger("neurosym").setLevel(logging.ERROR)
    try:
        yield world
    except RuntimeError as error:
        if "gloo" in str(error) or "NCCL" in str(error):
            raise TrainingError("another process has ended, and says why") from error
        raise
    finally:
        distributed.destroy_process_group()
