"""A GPU that is none: tensors that say they are on `cuda:0` and compute on the CPU, for machines without a GPU.

Within `simulated_gpu()` a tensor that is made on or moved to `cuda` holds a CPU tensor, and each operation runs on what is
held: values, gradients and random draws are those of the CPU, so a step on the simulated GPU must equal the same step on the
CPU. What torch refuses between devices is refused with torch's own words:

- tensors of two devices in one operation, but for a CPU tensor without dimensions among elementwise operations;
- a CPU tensor indexed by a GPU tensor (a GPU tensor may be indexed by a CPU tensor);
- random draws on the GPU by a generator of the CPU;
- products of matrices of integers, which the GPU has none for;
- `numpy()` of a GPU tensor; `cpu()`, `item()` and `tolist()` give what is held.

To C++ such a tensor is on `meta`, so that autograd asks no CUDA driver for a stream, and what operations make "like" another
tensor is told apart from the CPU's. Not simulated: autocast, a generator of the GPU's own, asynchronous copies, several GPUs,
memory, and kernels other than those above that the GPU lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda", 0)
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
INDICES = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
INTEGERS = "\"addmm_cuda\" not implemented for 'Long'"
GENERATOR = "Expected a 'cuda' device type for generator but found 'cpu'"

_aten = torch.ops.aten
_CROSSING = {_aten.copy_, _aten._to_copy, _aten._copy_from}
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
_PRODUCTS = {_aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm, _aten.mv, _aten.addmv, _aten.dot}
_TAKES_SCALAR = {_aten.fill, _aten.fill_, _aten.masked_fill, _aten.masked_fill_, _aten.index_fill, _aten.index_fill_}


class OnGpu(Tensor):
    """A tensor of the simulated GPU; `held` has its values."""

    held: Tensor
    device = GPU  # type: ignore[assignment]
    is_cuda = True  # type: ignore[assignment]
    is_meta = is_cpu = False  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made: OnGpu = Tensor._make_wrapper_subclass(cls, held.size(), **layout, device="meta")  # type: ignore[attr-defined]
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.held})"

    def get_device(self) -> int:
        return 0

    def item(self) -> Any:
        return self.held.item()

    def tolist(self) -> Any:
        return self.held.tolist()

    def __format__(self, spec: str) -> str:
        return format(self.held, spec)

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().held.numpy(force=True)
        raise TypeError(NUMPY)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(NUMPY)

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, **{"device": GPU, **kwargs})

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_listless(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_listless(index), value)

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return _run(op, args, dict(kwargs or {}))


def _listless(index: Any) -> Any:
    """An index with tensors for lists and arrays, of which C++ would make tensors of `meta`, which have no values."""
    if isinstance(index, tuple):
        return tuple(_listless(i) for i in index)
    if not isinstance(index, list | np.ndarray):
        return index
    return torch.as_tensor(index) if len(index) else torch.zeros(0, dtype=torch.long)


class _Gpu(TorchDispatchMode):
    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return _run(op, args, dict(kwargs or {}))


def _run(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    values = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor | Generator)]
    tensors = [v for v in values if isinstance(v, Tensor)]
    if any(t.is_meta for t in tensors):
        raise AssertionError(f"{op} is given a tensor that C++ made beside this simulation")
    asked = kwargs.get("device")
    on_gpu = any(isinstance(t, OnGpu) for t in tensors)
    if on_gpu:
        _require_one_device(op, args, tensors)
    if asked is not None:
        on_gpu = torch.device(asked).type in ("cuda", "meta")
        kwargs["device"] = torch.device("cpu")
    elif op.overloadpacket in _CROSSING:
        on_gpu = isinstance(args[0], OnGpu)
    if on_gpu and any(isinstance(v, Generator) and v.device.type == "cpu" for v in values):
        raise RuntimeError(GENERATOR)
    if on_gpu and op.overloadpacket in _PRODUCTS and not tensors[0].is_floating_point():
        raise RuntimeError(INTEGERS)
    held_args, held_kwargs = tree_map_only(OnGpu, lambda t: t.held, (args, kwargs))
    result = op(*held_args, **held_kwargs)
    if not on_gpu:
        return result
    return return_and_correct_aliasing(op, args, kwargs, tree_map_only(Tensor, OnGpu, result))


def _require_one_device(op: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
    """Raise what torch raises where an operation on the GPU is given tensors of the CPU that it does not take."""
    packet = op.overloadpacket
    if packet in _CROSSING:
        return
    if packet in _INDEXING:
        if not isinstance(args[0], OnGpu):
            raise RuntimeError(INDICES if any(isinstance(i, OnGpu) for i in args[1]) else MIXED)
        tensors = [v for v in args[2:] if isinstance(v, Tensor)]
    written = any(a.alias_info is not None and a.alias_info.is_write for a in op._schema.arguments)
    if written and not isinstance(args[0], OnGpu):
        raise RuntimeError(MIXED)
    scalars = torch.Tag.pointwise in op.tags or packet in _INDEXING | _TAKES_SCALAR
    if any(not isinstance(t, OnGpu) and not (scalars and t.ndim == 0) for t in tensors):
        raise RuntimeError(f"{MIXED} ({op})")


def _made_on_the_cpu(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.tensor` and `torch.as_tensor`, which would ask the driver for the GPU before any operation is dispatched."""

    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if not isinstance(data, Tensor):
            data = tree_map_only(OnGpu, lambda t: t.item(), data)
        if device is None or torch.device(device).type == "cpu":
            return make(data, *args, device=device, **kwargs)
        return make(data, *args, **kwargs).to(GPU)

    return made


@contextmanager
def simulated_gpu() -> Iterator[torch.device]:
    """A torch that sees one GPU, the simulated one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "set_device", lambda device: None)
        patch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
        patch.setattr(torch, "tensor", _made_on_the_cpu(torch.tensor))
        patch.setattr(torch, "as_tensor", _made_on_the_cpu(torch.as_tensor))
        with _Gpu():
            yield GPU
