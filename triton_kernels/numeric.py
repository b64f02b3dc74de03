"""Rounding and products whose result Triton's interpreter gets wrong in bfloat16 (versions 3.4 to 3.9).

The interpreter keeps bfloat16 as bit patterns. It cuts off where a GPU rounds to nearest, and multiplies the patterns
as integers.  Compiled kernels take the plain operations.
"""

import triton
import triton.language as tl

INTERPRETED: tl.constexpr = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def narrow(x, dtype: tl.constexpr):
    """``x`` float32 rounded to nearest even in ``dtype``."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        x = tl.where(x == x, rounded.to(tl.float32, bitcast=True), x)
    return x.to(dtype)


@triton.jit
def multiply_add(a, b, sums, PRECISION: tl.constexpr):
    """``sums + a b``: a ``[M, K]`` and b ``[K, N]`` in the I/O dtype, sums ``[M, N]`` float32."""
    if INTERPRETED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, sums, input_precision=PRECISION)
