"""CPU backend: the whole sequence in one native call (csrc/cpu). Addresses go down, no tensor does."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from lstmrep import native
from lstmrep.backends import memory, packs
from lstmrep.backends.tensors import DTYPE_CODE, Backward, Forward, Gradients, Recurrence, addresses, in_pairs
from lstmrep.plan import Plan

CELL_CODE = {"tanh": 0, "relu": 1}


def address(tensor: Tensor | None) -> int:
    """Address of a tensor's first element, 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()


def sizes(r: Recurrence) -> tuple[int, ...]:
    """N, T, B, H: the sizes that every kernel entry takes."""
    s = r.shape
    return s.N, s.T, s.B, s.H


@functools.lru_cache(maxsize=4096)
def _workspace_bytes(entry: str, dtype: torch.dtype, *told: int | bool) -> int:
    size: int = getattr(native.module(), entry)(DTYPE_CODE[dtype], *told)
    return size


def _workspace_size(plan: Plan, r: Recurrence, features: int, backward: bool) -> int:
    told = *sizes(r), features, plan.threads, plan.packed, plan.by_rows, backward
    return _workspace_bytes("cpu_workspace_bytes", r.shape.dtype, *told)


def _strides(x: Tensor | None) -> tuple[int, int, int]:
    """Strides of an input ``[T, B, I]`` or ``[N, T, B, I]`` along N, T and B."""
    if x is None:
        return 0, 0, 0
    n, t, b, _ = x.stride() if x.dim() == 4 else (0, *x.stride())
    return n, t, b


def forward(plan: Plan, r: Recurrence, a: Forward) -> None:
    """Fill ``a``; see csrc/cpu/forward.h for the kernel."""
    s = r.shape
    features = 0 if a.x is None else s.I
    size = _workspace_size(plan, r, features, False)
    workspace = memory.scratch(size, "kernel")
    native.module().cpu_forward(
        DTYPE_CODE[r.shape.dtype],
        CELL_CODE[r.cell],
        plan.threads,
        plan.packed,
        plan.by_rows,
        *sizes(r),
        features,
        address(a.gates_x),
        address(a.x),
        _strides(a.x),
        [w.data_ptr() for w in a.w_ih],
        r.vectors_as_io,
        addresses(r.biases, 2 * s.N if in_pairs(r.biases, s.N) else s.N, 4 * s.H),
        [w.data_ptr() for w in r.w_hh],
        packs.addresses(r.w_hh) if plan.packed else [],
        addresses(r.peepholes, 3 * s.N, s.H),
        0 if r.start_h is None else address(r.h0),
        0 if r.start_c is None else address(r.c0),
        address(r.lengths),
        r.reverse,
        a.h.data_ptr(),
        a.h_n.data_ptr(),
        a.c_n.data_ptr(),
        address(a.gates),
        address(a.c),
        workspace.data_ptr(),
    )
    memory.offer(size, "kernel")


def gradients(plan: Plan, r: Recurrence, a: Gradients) -> None:
    """Fill ``a``, one recurrence after the other; see csrc/cpu/gradients.h for the kernel."""
    if a.d_x is None and not a.d_w_ih and a.d_w_hh is None:
        return
    s = r.shape
    told = s.T, s.B, s.H, s.I, plan.gradients
    size = _workspace_bytes("cpu_gradients_workspace_bytes", s.dtype, *told, a.d_x is not None)
    workspace = memory.scratch(size, "kernel")
    x_n, *x_strides = _strides(a.x)
    shared = a.x is not None and a.x.dim() == 3
    item, frames = s.dtype.itemsize, s.T * s.B

    def of(tensor: Tensor | None, n: int, elements: int) -> int:
        return 0 if tensor is None else tensor.data_ptr() + n * elements * item

    for n in range(s.N):
        native.module().cpu_gradients(
            DTYPE_CODE[s.dtype],
            *told,
            of(a.d_gates, n, frames * 4 * s.H),
            of(a.x, n, x_n),
            x_strides,
            a.w_ih[n].data_ptr() if a.w_ih else 0,
            of(a.h, n, frames * s.H),
            of(r.h0, n, s.B * s.H),
            0 if r.lengths is None else r.lengths[n].data_ptr(),
            r.reverse[n],
            shared and n > 0,  # to the gradients of x of the recurrences before
            of(a.d_x, n, 0 if shared else frames * s.I),
            a.d_w_ih[n].data_ptr() if a.d_w_ih else 0,
            of(a.d_w_hh, n, 4 * s.H * s.H),
            workspace.data_ptr(),
        )
    memory.offer(size, "kernel")


def backward(plan: Plan, r: Recurrence, a: Backward) -> None:
    """Fill ``a``; see csrc/cpu/backward.h for the kernel."""
    s, vectors = r.shape, a.final.vectors
    size = _workspace_size(plan, r, 0, True)
    workspace = memory.scratch(size, "kernel")
    native.module().cpu_backward(
        DTYPE_CODE[r.shape.dtype],
        CELL_CODE[r.cell],
        plan.threads,
        plan.packed,
        plan.by_rows,
        *sizes(r),
        [w.data_ptr() for w in r.w_hh],
        r.vectors_as_io,
        addresses(r.peepholes, 3 * s.N, s.H),
        0 if r.start_c is None else address(r.c0),
        address(r.lengths),
        r.reverse,
        a.gates.data_ptr(),
        a.c.data_ptr(),
        address(a.grad_h),
        address(a.grad_h_n),
        address(a.grad_c_n),
        a.d_gates.data_ptr(),
        address(a.d_h0),
        address(a.d_c0),
        address(vectors),
        addresses([vectors], 7 * s.N, s.H)[4 * s.N :] if vectors is not None and r.peepholes else [],
        workspace.data_ptr(),
    )
    memory.offer(size, "kernel")
    a.final.finish_starts(r, a)
    a.finished = True
