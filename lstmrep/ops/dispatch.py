"""When a forward pass may run without torch's dispatcher in between.

Going through it costs about as much as the rest of a small call. It is needed only when something listens there: a
dispatch mode (fake tensors, counters), a tensor subclass or a profiler. Autograd has been dealt with before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from lstmrep.ops.registration import forward_pass
from lstmrep.ops.schema import Inputs

_PLAIN = (Tensor, Parameter)
_modes = torch._C._len_torch_dispatch_stack
_profiling = torch._C._autograd._profiler_enabled


def forward_below_autograd(i: Inputs, *static: Any) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """``lstmrep::lstm`` without recording a derivative: h, h_n, c_n, and gates and c (none or empty: not saved)."""
    with torch._C._AutoDispatchBelowAutograd():
        if not (_modes() or _profiling()) and all(map(_plain, i.flat())):
            return forward_pass(i, *static)
        h, h_n, c_n, gates, c = torch.ops.lstmrep.lstm.default(*i, *static)
    return h, h_n, c_n, gates, c


def _plain(t: Tensor | None) -> bool:
    return t is None or (type(t) in _PLAIN and not t.is_meta)
