"""CUDA backend: the adapters of its kernels, which of them runs being the plan's.

``stepwise``: a library product and one fused pointwise kernel a step (csrc/cuda/pointwise); any H, B, dtype and
architecture, 2T launches a pass.  ``cta_resident``: the whole sequence in one launch, W_hh held by each CTA
(csrc/cuda/cta_resident).  ``grid_resident``: the whole sequence in one launch whose CTAs hold W_hh together and wait
for each other (csrc/cuda/grid_resident).  Products keep float32 results whatever the I/O dtype.  Everything runs on
torch's current stream, and nothing synchronises but the one check of a kernel at its first use (``lstmrep.trust``),
which is left out during capture: so a pass can be captured in a CUDA graph.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstmrep import env, native, trust
from lstmrep.backends import aborts, memory
from lstmrep.backends.cpu import CELL_CODE, address, sizes
from lstmrep.backends.stepwise import Products, add_up, set_state, start_gradients
from lstmrep.backends.tensors import DTYPE_CODE, Backward, Forward, Recurrence, Shape, addresses, reverse_bits
from lstmrep.plan import CudaPass, GridLayout, Plan


def kernels() -> Any:
    """What holds ``cuda_pointwise_*``: the native module; tests put the host build of the kernels here."""
    return native.module()


def _stream(device: torch.device) -> tuple[int, int]:
    """Device index and raw stream; 0, 0 for the host build in tests."""
    if device.type != "cuda":
        return 0, 0
    stream = torch.cuda.current_stream(device)
    return stream.device_index, stream.cuda_stream


def _running(plan: Plan, backward: bool, s: Shape) -> CudaPass:
    """The kernel that runs a pass: the plan's, or stepwise where that is not trusted."""
    how = plan.cuda[backward]
    if how.kernel == "stepwise":
        return how
    aborts.look(kernels(), s.device.index or 0)
    running: CudaPass = trust.trusted(plan, backward, s, _PASSES)
    return running


def forward(plan: Plan, r: Recurrence, a: Forward) -> None:
    """Fill ``a`` by the plan's kernel, or by stepwise where that is not trusted."""
    _forward_by(_running(plan, False, r.shape), r, a)


def backward(plan: Plan, r: Recurrence, a: Backward) -> None:
    """Fill ``a`` by the plan's kernel, or by stepwise where that is not trusted."""
    _backward_by(_running(plan, True, r.shape), r, a)


def _forward_by(how: CudaPass, r: Recurrence, a: Forward) -> None:
    if how.kernel == "cta_resident":
        _resident_forward(how, r, a)
    elif how.grid is not None:
        _grid_forward(how, how.grid, r, a)
    else:
        _stepwise_forward(r, a)


def _backward_by(how: CudaPass, r: Recurrence, a: Backward) -> None:
    if how.kernel == "cta_resident":
        _resident_backward(how, r, a)
    elif how.grid is not None:
        _grid_backward(how, how.grid, r, a)
    else:
        _stepwise_backward(r, a)


# kernels is looked up at each use: tests put another module there.
_PASSES = trust.Passes(lambda: kernels(), _forward_by, _backward_by)


def _resident_forward(how: CudaPass, r: Recurrence, a: Forward) -> None:
    kernels().cuda_resident_forward(*_call(how, r), how.rows, *_forward_arrays(r, a))


def _resident_backward(how: CudaPass, r: Recurrence, a: Backward) -> None:
    s = r.shape
    ctas = -(-s.B // how.rows)
    sums, parts = _scratch(r, a, ctas)
    # By which the CTAs find out who comes last.
    arrivals = None if sums is None and parts is None else memory.empty((ctas + s.N,), torch.int32, s.device)
    kernels().cuda_resident_backward(
        *_call(how, r),
        how.rows,
        *_backward_arrays(r, a),
        *map(address, (*_start_gradients_of(r, a), a.final.vectors, sums, parts, arrivals)),
    )
    _finish(r, a)


def _grid_forward(how: CudaPass, g: GridLayout, r: Recurrence, a: Forward) -> None:
    m = _grid_memory(g, r.shape, 0)
    kernels().cuda_grid_forward(
        *_call(how, r),
        g.rows,
        g.choice,
        *_forward_arrays(r, a),
        m.exchange,
        m.counters,
        address(m.streamed),
        env.spin_nanoseconds(),
    )


def _grid_backward(how: CudaPass, g: GridLayout, r: Recurrence, a: Backward) -> None:
    s = r.shape
    sums, parts = _scratch(r, a, g.replicas)
    m = _grid_memory(g, s, g.members * (g.replicas + s.N))
    d_h0, d_c0 = _start_gradients_of(r, a)
    # The running gradient of c, which each recurrence ends with as its part of that of c0.
    dc = d_c0 if parts is None else parts[1]
    if dc is None:
        dc = memory.empty((s.N, s.B, s.H), s.compute, s.device)
    kernels().cuda_grid_backward(
        *_call(how, r),
        g.rows,
        g.choice,
        *_backward_arrays(r, a),
        *map(address, (d_h0, d_c0, dc, a.final.vectors, sums, parts)),
        m.arrivals,
        m.exchange,
        m.counters,
        *map(address, (m.streamed, m.parts)),
        env.spin_nanoseconds(),
    )
    _finish(r, a)


class _GridMemory(NamedTuple):
    """What the CTAs of a grid-resident launch share; held until the launch is queued."""

    zeros: Tensor
    exchange: int  # the exchanged operand, and after it in the same memory:
    counters: int
    arrivals: int
    streamed: Tensor | None
    parts: Tensor | None


def _grid_memory(g: GridLayout, s: Shape, arrivals: int) -> _GridMemory:
    zeros = torch.zeros(g.exchange_bytes + 4 * (g.counter_words + arrivals), dtype=torch.uint8, device=s.device)
    at = zeros.data_ptr()
    return _GridMemory(
        zeros,
        at,
        at + g.exchange_bytes,
        at + g.exchange_bytes + 4 * g.counter_words,
        memory.workspace(g.streamed_bytes, s.device) if g.streamed_bytes else None,
        memory.empty((g.part_floats,), torch.float32, s.device) if g.part_floats else None,
    )


def _call(how: CudaPass, r: Recurrence) -> tuple[Any, ...]:
    """What all kernels over whole sequences start with."""
    return (*_stream(r.shape.device), DTYPE_CODE[r.shape.dtype], CELL_CODE[r.cell], how.tf32, *sizes(r))


def _forward_arrays(r: Recurrence, a: Forward) -> tuple[Any, ...]:
    s = r.shape
    return (
        address(a.gates_x),
        addresses(r.summed_biases, s.N, 4 * s.H),
        [w.data_ptr() for w in r.w_hh],
        addresses(r.peepholes, 3 * s.N, s.H),
        r.vectors_as_io,
        *_starts(r),
        address(r.lengths),
        reverse_bits(r.reverse),
        *map(address, (a.h, a.h_n, a.c_n, a.gates, a.c)),
    )


def _backward_arrays(r: Recurrence, a: Backward) -> tuple[Any, ...]:
    s = r.shape
    _, c0, shared = _starts(r)
    return (
        [w.data_ptr() for w in r.w_hh],
        addresses(r.peepholes, 3 * s.N, s.H),
        r.vectors_as_io,
        c0,
        shared,
        address(r.lengths),
        reverse_bits(r.reverse),
        *map(address, (a.gates, a.c, a.grad_h, a.grad_h_n, a.grad_c_n, a.d_gates)),
    )


def _scratch(r: Recurrence, a: Backward, parts: int) -> tuple[Tensor | None, Tensor | None]:
    """Sums of ``parts`` parts of the batch, and the start gradients of recurrences that share their start."""
    s, final = r.shape, a.final
    sums = starts = None
    if final.vectors is not None:
        sums = memory.empty((s.N, parts, kernels().cuda_sums_pitch(s.H)), s.compute, s.device)
    if r.shared_start and (final.d_h0 is not None or final.d_c0 is not None):
        starts = memory.empty((2, s.N, s.B, s.H), s.compute, s.device)
    return sums, starts


def _start_gradients_of(r: Recurrence, a: Backward) -> tuple[Tensor | None, Tensor | None]:
    """Where the kernels write the gradients of h0 and c0."""
    return (a.final.d_h0, a.final.d_c0) if r.shared_start else (a.d_h0, a.d_c0)


def _finish(r: Recurrence, a: Backward) -> None:
    """What is left after a launch that wrote the final gradients."""
    if a.final.vectors is not None and not r.shape.B:
        a.final.vectors.zero_()  # nothing was launched
    if not r.shared_start:
        a.final.finish_starts(r, a)
    a.finished = True


def _starts(r: Recurrence) -> tuple[int, int, bool]:
    """Addresses of h0 and c0, and whether they are one for all recurrences."""
    if r.shared_start:
        return address(r.start_h), address(r.start_c), True
    return address(r.h0), address(r.c0), False


def _stepwise_forward(r: Recurrence, a: Forward) -> None:
    """One step after the other. The states live in h_n and c_n and are final after the last step."""
    s = r.shape
    device, stream = _stream(s.device)
    h_state, c_state = set_state(r.h0, a.h_n), set_state(r.c0, a.c_n)
    recurrent = memory.empty((s.N, s.B, 4 * s.H), s.compute, s.device)
    product, entry = Products(h_state, r.w_hh, True, recurrent), kernels().cuda_pointwise_forward
    # All that a step has in common with the others, so that the loop does little on the host.
    before = (device, stream, DTYPE_CODE[s.dtype], CELL_CODE[r.cell], *sizes(r))
    gates_x, sums = address(a.gates_x), recurrent.data_ptr()
    after = (
        address(r.bias),
        address(r.peephole),
        address(r.lengths),
        reverse_bits(r.reverse),
        c_state.data_ptr(),
        h_state.data_ptr(),
        a.h.data_ptr(),
        address(a.gates),
        address(a.c),
    )
    for t in range(s.T):
        has_product = t > 0 or r.h0 is not None
        if has_product:
            product()
        entry(*before, t, gates_x, sums if has_product else 0, *after)


def _stepwise_backward(r: Recurrence, a: Backward) -> None:
    """Last step first. Bias and peephole sums are kept per row and added over rows once at the end."""
    s = r.shape
    device, stream = _stream(s.device)
    dc = memory.empty((s.N, s.B, s.H), s.compute, s.device).zero_()
    d_step = memory.empty((s.N, s.B, 4 * s.H), s.dtype, s.device)
    dh = memory.empty((s.N, s.B, s.H), s.compute, s.device)
    wants_sums = a.d_bias is not None or a.d_peephole is not None
    sums = memory.empty((s.N, s.B, 7, s.H), s.compute, s.device).zero_() if wants_sums else None
    product, entry = Products(d_step, r.w_hh, False, dh), kernels().cuda_pointwise_backward
    before = (device, stream, DTYPE_CODE[s.dtype], CELL_CODE[r.cell], *sizes(r))
    given = (
        address(r.peephole),
        address(r.lengths),
        reverse_bits(r.reverse),
        a.gates.data_ptr(),
        a.c.data_ptr(),
        address(r.c0),
        address(a.grad_h),
        address(a.grad_h_n),
        address(a.grad_c_n),
    )
    through, after = dh.data_ptr(), (dc.data_ptr(), a.d_gates.data_ptr(), d_step.data_ptr(), address(sums))
    for t in reversed(range(s.T)):
        last = t == s.T - 1
        if not last:
            product()
        entry(*before, t, *given, 0 if last else through, *after)
    start_gradients(r, a, d_step, dh, dc)
    if sums is not None:
        add_up(sums, a)
