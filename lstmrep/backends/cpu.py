"""CPU backend: the whole sequence in one native call (csrc/cpu). Addresses go down, no tensor does."""

from __future__ import annotations

from torch import Tensor

from lstmrep import native
from lstmrep.backends import memory, packs
from lstmrep.backends.tensors import DTYPE_CODE, Backward, Forward, Recurrence
from lstmrep.plan import Plan

CELL_CODE = {"tanh": 0, "relu": 1}


def address(tensor: Tensor | None) -> int:
    """Address of a tensor's first element, 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()


def sizes(r: Recurrence) -> tuple[int, ...]:
    """N, T, B, H: the sizes that every kernel entry takes."""
    s = r.shape
    return s.N, s.T, s.B, s.H


def _workspace(plan: Plan, r: Recurrence, backward: bool) -> Tensor:
    size = native.module().cpu_workspace_bytes(
        DTYPE_CODE[r.shape.dtype], *sizes(r), plan.threads, plan.packed, backward
    )
    return memory.workspace(size, r.shape.device)


def forward(plan: Plan, r: Recurrence, a: Forward) -> None:
    """Fill ``a``; see csrc/cpu/forward.h for the kernel."""
    workspace = _workspace(plan, r, False)
    native.module().cpu_forward(
        DTYPE_CODE[r.shape.dtype],
        CELL_CODE[r.cell],
        plan.threads,
        plan.packed,
        plan.by_rows,
        *sizes(r),
        address(a.gates_x),
        address(r.bias),
        [w.data_ptr() for w in r.w_hh],
        packs.addresses(r.w_hh) if plan.packed else [],
        address(r.peephole),
        address(r.h0),
        address(r.c0),
        address(r.lengths),
        r.reverse,
        a.h.data_ptr(),
        a.h_n.data_ptr(),
        a.c_n.data_ptr(),
        address(a.gates),
        address(a.c),
        workspace.data_ptr(),
    )


def backward(plan: Plan, r: Recurrence, a: Backward) -> None:
    """Fill ``a``; see csrc/cpu/backward.h for the kernel."""
    workspace = _workspace(plan, r, True)
    native.module().cpu_backward(
        DTYPE_CODE[r.shape.dtype],
        CELL_CODE[r.cell],
        plan.threads,
        plan.packed,
        plan.by_rows,
        *sizes(r),
        [w.data_ptr() for w in r.w_hh],
        address(r.peephole),
        address(r.c0),
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
        address(a.d_bias),
        address(a.d_peephole),
        workspace.data_ptr(),
    )
