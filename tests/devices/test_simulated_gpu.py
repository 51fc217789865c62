"""The simulated GPU refuses what torch refuses between devices, and else computes what the CPU does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from tests.devices.simulated_gpu import GENERATOR, INDICES, INTEGERS, MIXED, NUMPY, simulated_gpu

CPU = torch.arange(3.0)


@pytest.fixture(autouse=True)
def gpu() -> Iterator[torch.device]:
    with simulated_gpu() as device:
        yield device


@pytest.mark.parametrize(
    ("mix", "told"),
    [
        (lambda x: x + CPU, MIXED),
        (lambda x: CPU + x.sum(), MIXED),
        (lambda x: CPU.clone().add_(x), MIXED),
        (lambda x: x.add_(CPU), MIXED),
        (lambda x: torch.where(x > 1, x, CPU), MIXED),
        (lambda x: torch.cat([x, CPU]), MIXED),
        (lambda x: torch.stack([x.sum(), CPU.sum()]), MIXED),
        (lambda x: x @ CPU, MIXED),
        (lambda x: torch.equal(x, CPU), MIXED),
        (lambda x: CPU[x.long()], INDICES),
        (lambda x: CPU.clone().index_put_((x > 1,), CPU[0]), INDICES),
        (lambda x: nms(torch.ones(3, 4, device=x.device), CPU, 0.5), MIXED),
        (lambda x: torch.randn(3, generator=torch.Generator(), device=x.device), GENERATOR),
        (lambda x: x.normal_(generator=torch.Generator()), GENERATOR),
        (lambda x: torch.eye(3, device=x.device).long() @ x.long(), INTEGERS),
    ],
)
def test_what_torch_refuses_is_refused(gpu: torch.device, mix: Callable[[Tensor], object], told: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        mix(CPU.to(gpu))
    assert told in str(caught.value)


@pytest.mark.parametrize("convert", [lambda x: x.numpy(), np.asarray, np.array])
def test_it_is_no_array_before_it_is_on_the_cpu(gpu: torch.device, convert: Callable[[Tensor], object]) -> None:
    with pytest.raises(TypeError) as caught:
        convert(CPU.to(gpu))
    assert str(caught.value) == NUMPY
    assert convert(CPU.to(gpu).cpu()).tolist() == [0, 1, 2]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "make",
    [
        lambda x: torch.ones(3, device=x.device),
        lambda x: torch.tensor([1.0, 2.0], device=x.device),
        lambda x: torch.as_tensor(np.arange(3), device=x.device),
        lambda x: x.new_tensor([4.0]),
        lambda x: torch.zeros_like(x),
        lambda x: CPU.to(x),
        lambda x: x + CPU[0],
        lambda x: x * 2,
        lambda x: x[torch.tensor([0, 2])],
        lambda x: x[[]],
        lambda x: x[[True, False, True]],
        lambda x: x.clone().index_put_((torch.tensor([1]),), CPU[2]),
        lambda x: torch.empty(3, device=x.device).copy_(CPU),
        lambda x: nn.functional.one_hot(x.long(), 3),
        lambda x: roi_align(x.expand(1, 2, 5, 3), [x.new_tensor([[0.0, 0.0, 2.0, 4.0]])], 2),
    ],
)
def test_what_torch_allows_is_on_the_gpu_with_the_values_of_the_cpu(
    gpu: torch.device, make: Callable[[Tensor], Tensor]
) -> None:
    made, wanted = make(CPU.to(gpu)), make(CPU)
    assert made.device == gpu
    assert made.is_cuda
    assert wanted.device.type == "cpu"
    assert made.tolist() == wanted.tolist()


def test_writing_to_a_view_writes_to_the_whole(gpu: torch.device) -> None:
    whole = torch.zeros(2, 3, device=gpu)
    whole[1, [0, 2]] = 7.0
    whole[0] = CPU  # a write crosses devices
    whole.T[1].add_(1.0)
    assert whole.cpu().tolist() == [[0, 2, 2], [7, 1, 7]]
    assert [float(v) for v in whole[1]] == [7, 1, 7]


def test_draws_are_those_of_the_cpu(gpu: torch.device) -> None:
    drawn = []
    for device in ("cpu", gpu):
        torch.manual_seed(3)
        drawn.append([torch.rand(2, device=device).tolist(), torch.randperm(9, device=device).tolist()])
    assert drawn[0] == drawn[1]


def test_a_buffer_that_stays_behind_is_found(gpu: torch.device) -> None:
    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.forgotten = nn.Parameter(torch.ones(3)), torch.ones(3)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight + self.forgotten

    assert Shift()(CPU).tolist() == [1, 2, 3]
    with pytest.raises(RuntimeError, match="same device"):
        Shift().to(gpu)(CPU.to(gpu))


def test_a_step_of_learning_is_that_of_the_cpu_through_both_devices(gpu: torch.device) -> None:
    ended = []
    for device in (torch.device("cpu"), gpu):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).to(
            device
        )
        optimizer = torch.optim.AdamW(model.parameters())
        image = torch.rand(2, 1, 4, 4)
        for _ in range(2):
            loss = nn.functional.cross_entropy(model(image.to(device)), torch.tensor([0, 1], device=device))
            (loss.cpu() * 2.0).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert all(p.device == device for p in model.parameters())
        ended.append({k: v.cpu() for k, v in model.state_dict().items()})
    assert all(torch.equal(ended[0][k], ended[1][k]) for k in ended[0])
