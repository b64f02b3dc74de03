"""The contract every backend fills: which tensors come in, which buffers it must write.

All tensors are dense and already checked by ``lstmrep.ops.validate``.  ``S`` is the I/O dtype (float32, bfloat16,
float16, float64), ``C`` the dtype of the cell state and of every sum: float32, or float64 when S is float64.
Gates are in order i, f, g, o; peepholes in order i, f, o.

Step t of row (n, b) is active when t < len.  Its frame is t, or len-1-t when ``reverse[n]``; a step that is not
active owns frame t, where every frame-shaped output is zero.  ``h_n`` and ``c_n`` follow the last active step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """Sizes of one call: N recurrences, T steps, B rows, I input features (0: none), H units."""

    N: int
    T: int
    B: int
    I: int
    H: int
    dtype: torch.dtype  # S
    compute: torch.dtype  # C
    device: torch.device


@dataclass(slots=True)
class Recurrence:
    """What forward and backward share."""

    shape: Shape
    reverse: list[bool]  # [N]
    cell: str  # "tanh" | "relu"
    w_hh: list[Tensor]  # N of [4H, H] S
    bias: Tensor | None  # [N, 4H] C
    peephole: Tensor | None  # [N, 3, H] C
    h0: Tensor | None  # [N, B, H] S; none means zeros
    c0: Tensor | None  # [N, B, H] C; none means zeros
    lengths: Tensor | None  # [N, B] int32


@dataclass(slots=True)
class Forward:
    """Buffers of a forward pass."""

    gates_x: Tensor | None  # [N, T, B, 4H] S, the input's share of the gates; may be the same tensor as gates
    h: Tensor  # [N, T, B, H] S, out
    h_n: Tensor  # [N, B, H] S, out
    c_n: Tensor  # [N, B, H] C, out
    gates: Tensor | None  # [N, T, B, 4H] S, out: gates after their non-linearity; none: not wanted
    c: Tensor | None  # [N, T, B, H] C, out; none: not wanted


@dataclass(slots=True)
class Backward:
    """Buffers of a backward pass. Gradients that are none are zero; outputs that are none are not wanted."""

    gates: Tensor  # [N, T, B, 4H] S; may be the same tensor as d_gates
    c: Tensor  # [N, T, B, H] C
    grad_h: Tensor | None  # [N, T, B, H] S
    grad_h_n: Tensor | None  # [N, B, H] S
    grad_c_n: Tensor | None  # [N, B, H] C
    d_gates: Tensor  # [N, T, B, 4H] S, out: gradient of the sums before the non-linearity
    d_h0: Tensor | None  # [N, B, H] S, out
    d_c0: Tensor | None  # [N, B, H] C, out
    d_bias: Tensor | None  # [N, 4H] C, out
    d_peephole: Tensor | None  # [N, 3, H] C, out
