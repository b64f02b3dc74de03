"""Fresh buffers, as tensors. Under LSTMREP_POISON=1 they start as NaN, so a value that a kernel forgot to write, or
read before writing, shows. On the CPU the first touch of a page can take the system longer than a kernel takes to fill
it: large results come from a pool of blocks, scratch stays with its thread, and what is large asks for large pages."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from lstmrep import env, native
from lstmrep.backends.tensors import DTYPE_CODE

_profiling = torch._C._autograd._profiler_enabled
# Asked once: this is on the way of every call.
POISON = env.poison()


LARGE = 4 << 20  # bytes: two large pages
POOLED = 256 << 10  # bytes: results from here on come from the pool, 64 pages
KEPT = 8 << 20  # bytes of scratch that a thread keeps for each use
OFFERED = 1 << 30  # the same where it is offered to the system after each use


class _Kept(threading.local):
    """By use: this thread's buffers of bytes, and the last view of each that was asked for."""

    def __init__(self) -> None:
        self.buffers: dict[str, Tensor] = {}
        self.views: dict[str, Tensor] = {}


_kept = _Kept()


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor, or one full of NaN when poisoning is on."""
    if math.prod(shape) * dtype.itemsize >= POOLED and device.type == "cpu" and dtype in DTYPE_CODE:
        made = _pooled(shape, dtype)
    else:
        made = torch.empty(shape, dtype=dtype, device=device)
    return made.fill_(float("nan")) if POISON and dtype.is_floating_point else made


def _pooled(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """On the CPU, from the pool (csrc/common/block_pool.h), to which it goes back with the last tensor on it.

    While a profiler looks on it comes from torch, which tells profilers what it allocates.
    """
    if native.reason() or _profiling():
        return torch.empty(shape, dtype=dtype)
    made: Tensor = torch._C._from_dlpack(native.module().pooled_tensor(DTYPE_CODE[dtype], shape))
    return made


def fresh_like(large: bool) -> Callable[[Tensor], Tensor]:
    """What makes the same with the shape of a floating-point tensor on the CPU that is dense or expanded.

    ``large``: some may be. Where none is and nothing is poisoned that is a function of torch's alone.
    """
    return _fresh_like if large or POISON else torch.empty_like


def _fresh_like(prototype: Tensor) -> Tensor:
    return empty(tuple(prototype.shape), prototype.dtype, prototype.device)


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` of two matrices, into memory like that of ``empty``."""
    if a.shape[0] * b.shape[1] * a.element_size() < POOLED or a.device.type != "cpu":
        return torch.mm(a, b)
    return torch.mm(a, b, out=empty((a.shape[0], b.shape[1]), a.dtype, a.device))


def workspace(size: int, device: torch.device) -> Tensor:
    """``size`` bytes of scratch. Poison is 0xFF everywhere: NaN in every floating-point format."""
    buffer = torch.empty(size, dtype=torch.uint8, device=device)
    if size >= LARGE and device.type == "cpu" and not native.reason():
        native.module().advise_huge_pages(buffer.data_ptr(), size)
    return buffer.fill_(0xFF) if POISON else buffer


def scratch(size: int, use: str) -> Tensor:
    """The same on the CPU, until this thread's next call for the same use.

    Up to ``OFFERED`` bytes for each use stay with the thread: the first touch of fresh pages costs a small call as much
    as its arithmetic does, and a large one more than that where the system must first find them. A use of more than
    ``KEPT`` ends with ``offer``.
    """
    held = _kept.buffers.get(use)
    if held is not None and held.nbytes >= size:
        return held
    made = workspace(size, torch.device("cpu"))
    if size <= OFFERED and not POISON:
        _kept.buffers[use] = made
        _kept.views.pop(use, None)
    return made


def offer(size: int, use: str) -> None:
    """Lets the system take what ``scratch`` of so many bytes, more than ``KEPT``, has kept, when it is short of memory.

    Until then the next use finds its pages there. Where a system knows no such offers nothing is kept.
    """
    held = _kept.buffers.get(use)
    if held is None or size <= KEPT or held.nbytes < size or native.module().offer_pages(held.data_ptr(), size):
        return
    del _kept.buffers[use]
    _kept.views.pop(use, None)


def scratch_tensor(shape: tuple[int, ...], dtype: torch.dtype, use: str) -> Tensor:
    """The same as a tensor of a shape, however large; to be offered after its use."""
    held = _kept.views.get(use)
    if held is not None and held.shape == shape and held.dtype == dtype:
        return held
    size = math.prod(shape) * dtype.itemsize
    view = scratch(size, use)[:size].view(dtype).view(shape)
    if size <= KEPT and not POISON:
        _kept.views[use] = view
    return view
