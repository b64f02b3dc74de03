"""When a pass may run without torch's dispatcher in between.

Going through it costs about as much as the rest of a small call. It is needed only when something listens there: a
dispatch mode (fake tensors, counters), a tensor subclass or a profiler. Autograd has been dealt with before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from lstmrep.ops.registration import backward_pass, forward_pass
from lstmrep.ops.schema import Inputs, Passed

_PLAIN = {Tensor, Parameter, type(None)}
_modes = torch._C._len_torch_dispatch_stack
_profiling = torch._C._autograd._profiler_enabled


def forward_below_autograd(i: Inputs, *static: Any) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """``lstmrep::lstm`` without recording a derivative: h, h_n, c_n, and gates and c (none or empty: not saved)."""
    with torch._C._AutoDispatchBelowAutograd():
        if _unheard(i.flat(), i.w_hh[0]):
            return forward_pass(i, *static)
        h, h_n, c_n, gates, c = torch.ops.lstmrep.lstm.default(*i, *static)
    return h, h_n, c_n, gates, c


def backward_below_autograd(passed: Passed, i: Inputs, *static: Any) -> list[Tensor]:
    """``lstmrep::lstm_backward`` where gradients are not recorded."""
    if _unheard((*passed, *i.flat()), i.w_hh[0]):
        with torch._C._AutoDispatchBelowAutograd():
            return backward_pass(passed, i, *static)
    grads, saved = passed[:3], passed[3:]
    made: list[Tensor] = torch.ops.lstmrep.lstm_backward.default(*grads, *i, *saved, *static)
    return made


def _unheard(tensors: tuple[Tensor | None, ...], weight: Tensor) -> bool:
    """Whether nobody in the dispatcher would notice an operation on these tensors, all on the device of ``weight``."""
    return not (_modes() or _profiling()) and _PLAIN.issuperset(map(type, tensors)) and not weight.is_meta
