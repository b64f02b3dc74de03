"""Small calls on the CPU, from torch's tensors to the kernels with no interpreter in between.

A call of one recurrence that takes a tenth of a millisecond pays as much again for the lines of Python on the usual way
(``lstmrep.ops.registration``).  The first call of a kind goes that way in all but the kernels: it is checked and
planned.  If the cpu backend forms all of its products itself, calls of that kind are then found by their tensors'
signature and go through one object of the native module (csrc/bindings/direct_call.h), which makes the same buffers and
calls the same kernels: the same bits come out.  It takes torch's C functions for reading tensors, which came with
2.10; without them every call goes the usual way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lstmrep import native
from lstmrep.backends import memory, packs
from lstmrep.backends.cpu import CELL_CODE
from lstmrep.backends.tensors import DTYPE_CODE, Shape
from lstmrep.ops.plans import direct_calls, sizes_and_plan
from lstmrep.ops.schema import SINGLE, Counts, Inputs, Passed
from lstmrep.plan import Plan

Flat = tuple[Tensor | None, ...]  # in the order of ``Inputs.flat``
# Tensors in the lists, steps, reverse, cell, backend, save.
Static = tuple[Counts, int, tuple[bool, ...], str, str, str]

Outputs = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]  # h, h_n, c_n, gates, c

_PASSED = len(Passed._fields)
_GATES = Passed._fields.index("gates")
_KNOWN = 1024
_UNKNOWN = object()


@functools.cache
def readable() -> Callable[[Flat], Any] | None:
    """What gives tensors' signature; none where torch does not let the native module read its tensors."""
    table = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    if table is None or native.reason():
        return None
    native.module().read_tensors_by(table, Tensor, torch.nn.Parameter)
    signature: Callable[[Flat], Any] = native.module().signature
    return signature


def forward(call: Any, static: Static, flat: Flat, layer: bool = False) -> Outputs:
    """h, h_n, c_n, gates and c as ``registration.forward_pass`` gives them, by what ``found`` has found.

    Of a ``layer`` h is ``[T, B, H]``: its caller needs no view, nor autograd that of its gradient.
    """
    workspace = memory.scratch(call.forward_bytes, "kernel")
    made: Outputs = call.forward(flat, static[5] == "all", layer, workspace.data_ptr())
    return made


def backward(static: Static, tensors: Flat, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...] | None:
    """Gradients of the arguments ``(static, *flat)``; none: go through ``registration.backward_pass``.

    Args:
        static: of the forward pass.
        tensors: gradients of h, h_n and c_n, the saved h, gates and c, and the forward pass's flat inputs.
        needs: whether each argument wants a gradient.
    """
    call = found(static, tensors)
    if call is None:
        return None
    gates = tensors[_GATES]
    assert gates is not None
    workspace, d_gates = memory.scratch(call.backward_bytes, "kernel"), memory.scratch(gates.nbytes, "d_gates")
    made: tuple[Tensor | None, ...] = call.backward(tensors, needs, d_gates.data_ptr(), workspace.data_ptr())
    return made


def known(static: Static, tensors: Flat) -> Any:
    """The native module's object for calls like this one, of which there has been one; or none."""
    told = _told(static, tensors)
    return told and _usable(direct_calls.get(told))


def found(static: Static, tensors: Flat) -> Any:
    """The native module's object for calls like this one, or none: go the usual way."""
    told = _told(static, tensors)
    if told is None:
        return None
    call = direct_calls.get(told, _UNKNOWN)
    if call is _UNKNOWN:
        call = _made(static, tensors)
        if len(direct_calls) >= _KNOWN:
            direct_calls.clear()
        direct_calls[told] = call
    return _usable(call)


def _told(static: Static, tensors: Flat) -> tuple[Any, Static, int] | None:
    """What calls of one kind have in common; none where a tensor cannot be read."""
    read = readable()
    signature = read(tensors) if read else None
    return None if signature is None else (signature, static, torch.get_num_threads())


def _usable(call: Any) -> Any:
    return None if call is not None and call.packed and packs.any_kept() else call


def _made(static: Static, tensors: Flat) -> Any:
    """The same for a call that is the first of its kind, which is checked here."""
    counts, steps, reverse, cell, backend, save = static
    passed = None
    if len(tensors) > sum(counts) + SINGLE:
        passed, tensors = Passed.of(*tensors[:_PASSED]), tensors[_PASSED:]  # type: ignore[arg-type]
        if passed.gates is None or not any(g is not None for g in passed[:3]):
            return None
    i = Inputs.from_flat(tensors, counts)
    training, recompute = save != "nothing", save == "states"
    s, plan = sizes_and_plan(
        i, steps, list(reverse), cell, backend, training=training, recompute=recompute, passed=passed
    )
    if recompute or not _fits(s, plan, i, passed):
        return None
    vectors = i.bias or i.peephole
    kind = vectors[0].dtype if vectors else s.compute

    def like(dtype: torch.dtype, *shape: int) -> Tensor:
        # Of one element: only what it looks like counts.
        return torch.empty((), dtype=dtype, device=s.device).expand(shape)

    frames, gates = (1, s.T, s.B), s.T * s.B * 4 * s.H * s.dtype.itemsize
    weights = 4 * s.H * max(s.I, s.H) * s.dtype.itemsize
    large = max(gates, weights, s.T * s.B * max(s.I, s.H) * s.compute.itemsize) >= memory.POOLED
    call = native.module().DirectCall(
        DTYPE_CODE[s.dtype],
        CELL_CODE[cell],
        plan.threads,
        plan.packed,
        plan.by_rows,
        s.T,
        s.B,
        s.H,
        s.I,
        kind != s.compute,
        len(i.bias),
        bool(i.peephole),
        reverse[0],
        plan.gradients or 1,
        memory.fresh_like(large),
        (
            like(s.dtype, *frames, s.H),
            like(s.dtype, s.T, s.B, s.H),
            like(s.dtype, 1, s.B, s.H),
            like(s.compute, 1, s.B, s.H),
            like(s.dtype, *frames, 4 * s.H),
            like(s.compute, *frames, s.H),
            like(s.dtype, s.T, s.B, s.I),
            like(kind, 4 * s.H),
            like(kind, s.H),
        ),
    )
    scratch = call.forward_bytes if passed is None else max(call.backward_bytes, gates)
    return call if scratch <= memory.KEPT else None


def _fits(s: Shape, plan: Plan, i: Inputs, passed: Passed | None) -> bool:
    """Whether a native call can stand for this one: it takes dense tensors and fills everything itself."""
    alone = plan.backend == "cpu" and plan.shares and (passed is None or plan.gradients > 0)
    if not alone or s.N != 1 or i.x is None or i.x.dim() != 3 or i.lengths is not None or not s.T * s.B:
        return False
    given = [t for t in (*i.flat()[1:], *(passed or ())) if t is not None]
    plain = all(v.dim() == 1 for v in (*i.bias, *i.peephole))
    return plain and i.x.stride(2) == 1 and all(t.is_contiguous() for t in given)
