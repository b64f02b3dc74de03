"""The LSTM cell on tiles of float32, forward and backward: the only copy of the equations in this package.

Gates in order i, f, g, o; peephole vectors in order i, f, o.  docs/math.md has the equations and their derivation.
Not done here: loads, stores, rounding to the I/O dtype, sums over time and batch.
"""

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)). On a GPU ``tl.exp`` and ``/`` are ex2.approx and div.full: absolute error below 3e-7."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    """An odd polynomial below 0.6, 0.8 units in the last place; (1 - e) / (1 + e) of e = exp(-2 |x|) above.

    On a GPU the absolute error is below 3e-7, by exp and the division as in ``sigmoid``.
    """
    size = tl.abs(x)
    square = x * x
    series = -5.89515641e-03 * square + 2.07959702e-02
    series = series * square - 5.37838265e-02
    series = series * square + 1.33319229e-01
    series = series * square - 3.33332986e-01
    e = tl.exp(-2.0 * size)
    large = (1.0 - e) / (1.0 + e)
    return tl.where(size < 0.6, x + x * square * series, tl.where(x < 0.0, -large, large))


@triton.jit
def cell_forward(z_i, z_f, z_g, z_o, c_prev, p_i, p_f, p_o, PEEPHOLE: tl.constexpr, RELU: tl.constexpr):
    """The gates after their non-linearity, then c and h.

    z are the sums of input, recurrent and bias shares; p the peepholes, which nothing reads where PEEPHOLE is false:
    leaving them out is not the same as zeros, since 0 * inf is NaN.
    """
    if PEEPHOLE:
        z_i += p_i * c_prev
        z_f += p_f * c_prev
    i = sigmoid(z_i)
    f = sigmoid(z_f)
    if RELU:
        g = tl.where(z_g < 0.0, 0.0, z_g)  # NaN stays NaN
    else:
        g = tanh(z_g)
    c = f * c_prev + i * g
    if PEEPHOLE:
        z_o += p_o * c
    o = sigmoid(z_o)
    if RELU:
        h = o * c
    else:
        h = o * tanh(c)
    return i, f, g, o, c, h


@triton.jit
def cell_backward(i, f, g, o, c_prev, c, p_i, p_f, p_o, dh, dc, PEEPHOLE: tl.constexpr, RELU: tl.constexpr):
    """Gradients of the four sums before their non-linearity, then of c_prev.

    dh is the gradient of h, dc that of c from the step after; the rest as ``cell_forward`` has it.
    """
    if RELU:
        d_o = dh * c * o * (1.0 - o)
        dc += dh * o
    else:
        squashed = tanh(c)
        d_o = dh * squashed * o * (1.0 - o)
        dc += dh * o * (1.0 - squashed * squashed)
    if PEEPHOLE:
        dc += d_o * p_o
    d_i = dc * g * i * (1.0 - i)
    d_f = dc * c_prev * f * (1.0 - f)
    d_g = dc * i
    if RELU:
        d_g = tl.where(g > 0.0, d_g, 0.0)
    else:
        d_g *= 1.0 - g * g
    dc_prev = dc * f
    if PEEPHOLE:
        dc_prev += d_f * p_f + d_i * p_i
    return d_i, d_f, d_g, d_o, dc_prev
