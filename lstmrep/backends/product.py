"""A matrix product whose result keeps the compute dtype: float32 for bfloat16 and float16 operands."""

from __future__ import annotations

import torch
from torch import Tensor


def wide_product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """``out = a @ b`` without rounding to the operands' dtype.

    Args:
        a: ``[M, K]`` in the I/O dtype.
        b: ``[K, N]`` in the I/O dtype, any strides.
        out: ``[M, N]`` in the compute dtype.

    Returns:
        out.
    """
    if a.dtype == out.dtype:
        return torch.mm(a, b, out=out)
    if a.is_cuda:
        return torch.ops.aten.mm.dtype_out(a, b, out.dtype, out=out)  # type: ignore[no-any-return]
    return torch.mm(a.to(out.dtype), b.to(out.dtype), out=out)
