"""When a forward pass may run without torch's dispatcher in between.

Going through it costs about as much as the rest of a small call. It is needed only when something listens there: a
dispatch mode (fake tensors, counters), a tensor subclass, a tracer or a profiler. Autograd has been dealt with before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from lstmrep.ops.registration import forward_pass

_PLAIN = (Tensor, Parameter)
_modes = torch._C._len_torch_dispatch_stack
_profiling = torch._C._autograd._profiler_enabled
_tracing = torch._C._get_tracing_state


def forward_below_autograd(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """``lstmrep::lstm`` without recording a derivative: h, h_n, c_n, and gates and c (none or empty: not saved)."""
    if not (_modes() or _profiling() or _tracing()) and _plain(arguments):
        with torch._C._AutoDispatchBelowAutograd():
            return forward_pass(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        h, h_n, c_n, gates, c = torch.ops.lstmrep.lstm.default(*arguments)
    return h, h_n, c_n, gates, c


def _plain(arguments: tuple[Any, ...]) -> bool:
    """No tensor subclass and no meta tensor among the arguments and the lists in them."""
    for a in arguments:
        if isinstance(a, Tensor):
            if type(a) not in _PLAIN or a.is_meta:
                return False
        elif isinstance(a, list) and a and isinstance(a[0], Tensor) and not _plain(tuple(a)):
            return False
    return True
