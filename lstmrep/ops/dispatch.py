"""When a pass may run without torch's dispatcher in between.

Going through it costs about as much as the rest of a small call. It is needed only when something listens there: a
dispatch mode (fake tensors, counters), a tensor subclass or a profiler. Autograd has been dealt with before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from lstmrep.ops import direct
from lstmrep.ops.direct import Flat, Outputs, Static
from lstmrep.ops.registration import backward_pass, forward_pass
from lstmrep.ops.schema import Inputs, Passed

_PLAIN = {Tensor, Parameter, type(None)}
_modes = torch._C._len_torch_dispatch_stack
_profiling = torch._C._autograd._profiler_enabled


def direct_call(static: Static, flat: Flat, known: bool = False) -> Any:
    """What runs this call with no interpreter in between, for ``direct.forward``; or none.

    Args:
        known: none too if there has been no call like it, whose arguments were checked.
    """
    if _listened():
        return None
    return direct.known(static, flat) if known else direct.found(static, flat)


def forward_below_autograd(static: Static, flat: Flat) -> Outputs:
    """``lstmrep::lstm`` without recording a derivative: h, h_n, c_n, and gates and c (none or empty: not saved)."""
    call = direct_call(static, flat)
    return usual_forward(static, flat) if call is None else direct.forward(call, static, flat)


def usual_forward(static: Static, flat: Flat) -> Outputs:
    """The same where there is no direct call."""
    i, rest = Inputs.from_flat(flat, static[0]), static[1:]
    with torch._C._AutoDispatchBelowAutograd():
        if not _listened() and _plain(flat, i.w_hh[0]):
            return forward_pass(i, *rest)
        h, h_n, c_n, gates, c = torch.ops.lstmrep.lstm.default(*i, *rest)
    return h, h_n, c_n, gates, c


def backward_below_autograd(passed: Passed, i: Inputs, *static: Any) -> list[Tensor]:
    """``lstmrep::lstm_backward`` where gradients are not recorded."""
    if not _listened() and _plain((*passed, *i.flat()), i.w_hh[0]):
        with torch._C._AutoDispatchBelowAutograd():
            return backward_pass(passed, i, *static)
    grads, saved = passed[:3], passed[3:]
    made: list[Tensor] = torch.ops.lstmrep.lstm_backward.default(*grads, *i, *saved, *static)
    return made


def direct_backward(
    static: Static, grads: Flat, saved: Flat, needs: tuple[bool, ...]
) -> tuple[Tensor | None, ...] | None:
    """The gradients of the arguments ``(static, *flat)`` where they can be had directly; else none."""
    if torch.is_grad_enabled() or _listened():
        return None
    dense = [g if g is None else g.contiguous() for g in grads]  # that of a sum is one number, expanded
    return direct.backward(static, (*dense, *saved), needs)


def _listened() -> bool:
    """Whether a dispatch mode or a profiler listens to every operation."""
    return bool(_modes() or _profiling())


def _plain(tensors: Flat, weight: Tensor) -> bool:
    """Whether nobody in the dispatcher would notice an operation on these tensors, all on the device of ``weight``."""
    return _PLAIN.issuperset(map(type, tensors)) and not weight.is_meta
