"""Triton backend: the adapter of ``lstmrep.triton_kernels``, which of them runs being the plan's.

For users without nvcc, and on architectures that the compiled module was not built for.  Everything runs on torch's
current stream; a kernel compiles at its first use, once for each dtype and set of flags, never again for other sizes.
docs/kernels/triton.md has the kernels.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lstmrep import env, trust
from lstmrep.backends import aborts, memory
from lstmrep.backends.stepwise import Products, add_up, set_state, start_gradients
from lstmrep.backends.tensors import Backward, Forward, Recurrence, reverse_bits
from lstmrep.plan import Plan
from lstmrep.planner.problem import TritonPass
from lstmrep.planner.triton import STEPWISE

VARIABLE = "LSTMREP_TRITON_KERNEL"
SUMS = 7  # per element: four of the bias, three of the peepholes
POLLS_PER_SECOND = 1_000_000  # looks at a counter through the second-level cache, roughly


def forward(plan: Plan, r: Recurrence, a: Forward) -> None:
    """Fill ``a`` by the plan's kernel."""
    forward_by(_running(plan, False, r), r, a)


def backward(plan: Plan, r: Recurrence, a: Backward) -> None:
    """Fill the plain gradients of ``a`` by the plan's kernel."""
    backward_by(_running(plan, True, r), r, a)


def _running(plan: Plan, backward: bool, r: Recurrence) -> TritonPass:
    """The kernel that runs a pass: the plan's, or stepwise where that is not trusted."""
    how = plan.triton[backward]
    if how.kernel == "stepwise":
        return how
    aborts.look(_Words, r.shape.device.index or 0, VARIABLE)
    running: TritonPass = trust.trusted(plan, backward, r.shape, PASSES)
    return running


def forward_by(how: TritonPass, r: Recurrence, a: Forward) -> None:
    """Fill ``a`` by one kernel."""
    s = r.shape
    if r.lengths is not None or not s.T:  # rows without any step
        set_state(r.h0, a.h_n)
    if not s.T:
        set_state(r.c0, a.c_n)
        return
    with _on(s.device):
        _FORWARD[how.kernel](how, _call(r, r.bias), r, a)


def backward_by(how: TritonPass, r: Recurrence, a: Backward) -> None:
    """Fill the plain gradients of ``a`` by one kernel."""
    s = r.shape
    dc = memory.empty((s.N, s.B, s.H), s.compute, s.device) if a.d_c0 is None else a.d_c0
    sums = None
    if a.d_bias is not None or a.d_peephole is not None:
        sums = memory.empty((s.N, s.B, SUMS, s.H), s.compute, s.device)
        if not s.T:
            sums.zero_()
    if s.T:
        with _on(s.device):
            _BACKWARD[how.kernel](how, _call(r), r, a, dc, sums)
    else:
        start_gradients(r, a, a.d_gates, memory.empty((s.N, s.B, s.H), s.compute, s.device), dc)
    if sums is not None:
        add_up(sums, a)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton starts kernels on torch's current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _call(r: Recurrence, bias: Tensor | None = None) -> Any:
    from lstmrep.triton_kernels.launch import Call

    s = r.shape
    w, step = _weights(r.w_hh)
    bits = reverse_bits(r.reverse)
    return Call(w, step, bias, r.peephole, r.h0, r.c0, r.lengths, s.N, s.T, s.B, s.H, bits, r.cell == "relu")


def _weights(w_hh: list[Tensor]) -> tuple[Tensor, int]:
    """The first W_hh, and elements from each to the next. Those of up to two recurrences are read where they lie; more,
    unless they are evenly spaced, are copied side by side."""
    first, size = w_hh[0], w_hh[0].element_size()
    if len(w_hh) == 1:
        return first, 0
    steps = {b.data_ptr() - a.data_ptr() for a, b in itertools.pairwise(w_hh)}
    if len(steps) > 1:
        return torch.stack(w_hh), first.numel()
    return first, steps.pop() // size


def _exchange(r: Recurrence, width: int, start: Tensor | None = None) -> Tensor:
    s = r.shape
    exchange = memory.empty((2, s.N, s.B, width), s.dtype, s.device)
    if width == s.H:
        set_state(start, exchange[0])
    return exchange


def _stepwise_forward(how: TritonPass, call: Any, r: Recurrence, a: Forward) -> None:
    from lstmrep.triton_kernels.stepwise import launch_forward

    s = r.shape
    z = memory.empty((s.N, s.B, 4 * s.H), s.compute, s.device)
    h = memory.empty((s.N, s.B, s.H), s.dtype, s.device)
    product = None if r.h0 is None else Products(r.h0, r.w_hh, True, z)
    for step in range(s.T):
        if product is not None:
            product()
        launch_forward(call, how, a, None if product is None else z, h, step)
        if step == 0:
            product = Products(h, r.w_hh, True, z)


def _stepwise_backward(how: TritonPass, call: Any, r: Recurrence, a: Backward, dc: Tensor, sums: Tensor | None) -> None:
    from lstmrep.triton_kernels.stepwise import launch_backward

    s = r.shape
    d_step = memory.empty((s.N, s.B, 4 * s.H), s.dtype, s.device)
    dh = memory.empty((s.N, s.B, s.H), s.compute, s.device)
    product = Products(d_step, r.w_hh, False, dh)
    for step in reversed(range(s.T)):
        last = step == s.T - 1
        if not last:
            product()
        launch_backward(call, how, a, None if last else dh, d_step, dc, sums, step)
    start_gradients(r, a, d_step, dh, dc)


def _fused_forward(how: TritonPass, call: Any, r: Recurrence, a: Forward) -> None:
    from lstmrep.triton_kernels.fused_step import launch_forward

    exchange = _exchange(r, r.shape.H, r.h0)
    for step in range(r.shape.T):
        launch_forward(call, how, a, exchange, step)


def _fused_backward(how: TritonPass, call: Any, r: Recurrence, a: Backward, dc: Tensor, sums: Tensor | None) -> None:
    from lstmrep.triton_kernels.fused_step import launch_backward

    exchange = _exchange(r, 4 * r.shape.H)
    for step in reversed(range(-1 if a.d_h0 is not None else 0, r.shape.T)):
        launch_backward(call, how, a, exchange, dc, sums, step)


def _held_forward(how: TritonPass, call: Any, r: Recurrence, a: Forward) -> None:
    from lstmrep.triton_kernels.batch_split import launch_held_forward

    launch_held_forward(call, how, a)


def _held_backward(how: TritonPass, call: Any, r: Recurrence, a: Backward, dc: Tensor, sums: Tensor | None) -> None:
    from lstmrep.triton_kernels.batch_split import launch_held_backward

    launch_held_backward(call, how, a, dc, sums)


def _walked_forward(how: TritonPass, call: Any, r: Recurrence, a: Forward) -> None:
    from lstmrep.triton_kernels.batch_split import launch_walked_forward

    launch_walked_forward(call, how, a, _exchange(r, r.shape.H, r.h0))


def _walked_backward(how: TritonPass, call: Any, r: Recurrence, a: Backward, dc: Tensor, sums: Tensor | None) -> None:
    from lstmrep.triton_kernels.batch_split import launch_walked_backward

    launch_walked_backward(call, how, a, _exchange(r, 4 * r.shape.H), dc, sums)


def _grid_forward(how: TritonPass, call: Any, r: Recurrence, a: Forward) -> None:
    from lstmrep.triton_kernels.grid_persistent import launch_forward

    launch_forward(call, how, a, _exchange(r, r.shape.H, r.h0), *_waiting(how, r))


def _grid_backward(how: TritonPass, call: Any, r: Recurrence, a: Backward, dc: Tensor, sums: Tensor | None) -> None:
    from lstmrep.triton_kernels.grid_persistent import launch_backward

    launch_backward(call, how, a, _exchange(r, 4 * r.shape.H), dc, sums, *_waiting(how, r))


def _waiting(how: TritonPass, r: Recurrence) -> tuple[Tensor, Tensor, int]:
    """Counters, the host's word, and how often a program looks before it gives up."""
    s = r.shape
    counters = torch.zeros((s.N, how.teams), dtype=torch.int32, device=s.device)
    polls = env.spin_nanoseconds() * POLLS_PER_SECOND // 1_000_000_000
    return counters, _word(s.device.index or 0), polls


@functools.cache
def _word(index: int) -> Tensor:
    """One word a device, never freed, by which a kernel tells that it gave up; pinned where there is a card."""
    return torch.zeros(1, dtype=torch.int32, pin_memory=torch.cuda.is_available())


class _Words:
    """What ``aborts.look`` and the check ask of the module that started a kernel."""

    @staticmethod
    def cuda_take_abort(index: int) -> int:
        """The code that a kernel left since the last look, 0 for none; forgets it."""
        word = _word(index)
        code = int(word[0])
        if code:
            word.zero_()
        return code


@functools.cache
def _card(index: int) -> str:
    """The card, the driver and the build: a verdict on a kernel holds for these."""
    import triton

    from lstmrep.triton_kernels import launch

    sources = sorted(Path(launch.__file__).parent.glob("*.py"))
    build = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    name = "Triton's interpreter"
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(index)
        name = f"{torch.cuda.get_device_name(index)} sm_{major}{minor}, driver{trust.driver()}"
    return f"{name}, triton {triton.__version__} on torch {torch.__version__}, kernels {build}"


_FORWARD = {
    "batch_held": _held_forward,
    "batch_walked": _walked_forward,
    "grid_persistent": _grid_forward,
    "fused_step": _fused_forward,
    "stepwise": _stepwise_forward,
}
_BACKWARD = {
    "batch_held": _held_backward,
    "batch_walked": _walked_backward,
    "grid_persistent": _grid_backward,
    "fused_step": _fused_backward,
    "stepwise": _stepwise_backward,
}

PASSES = trust.Passes(
    lambda: _Words,
    # Looked up at each use: tests put other kernels there.
    lambda how, r, a: forward_by(how, r, a),
    lambda how, r, a: backward_by(how, r, a),
    STEPWISE,
    _card,
    VARIABLE,
    "triton_kernel",
)
