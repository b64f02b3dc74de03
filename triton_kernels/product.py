"""Products with W_hh of one recurrence, K walked in blocks of DEPTH.

W_hh is ``[4H, H]`` in the I/O dtype.  Both products read it as it lies: the weights of a block are contiguous along K
in the forward pass and along units in the backward pass, so nothing is transposed.  What other programs wrote is read
past the first-level cache (``.cg``), which is not coherent between them.
"""

import triton
import triton.language as tl

from .numeric import multiply_add


@triton.jit
def gate_sums(h, w, rows, units, B, H, DEPTH: tl.constexpr, PRECISION: tl.constexpr):
    """h' W_hh^T of a tile, one ``[ROWS, UNITS]`` float32 for each gate.

    h: state ``[B, H]`` before the step. w: ``[4H, H]``. rows ``[ROWS]``, units ``[UNITS]``: of the tile.
    """
    z_i = tl.zeros([rows.shape[0], units.shape[0]], tl.float32)
    z_f = tl.zeros([rows.shape[0], units.shape[0]], tl.float32)
    z_g = tl.zeros([rows.shape[0], units.shape[0]], tl.float32)
    z_o = tl.zeros([rows.shape[0], units.shape[0]], tl.float32)
    gate = H.to(tl.int64) * H  # elements from one gate's weights to the next
    from_h = h + rows.to(tl.int64)[:, None] * H
    from_w = w + units.to(tl.int64)[None, :] * H
    for first in range(0, H, DEPTH):
        k = first + tl.arange(0, DEPTH)
        a = tl.load(from_h + k[None, :], mask=(rows[:, None] < B) & (k[None, :] < H), other=0.0, cache_modifier=".cg")
        at = from_w + k[:, None]
        there = (units[None, :] < H) & (k[:, None] < H)
        z_i = multiply_add(a, tl.load(at, mask=there, other=0.0), z_i, PRECISION)
        z_f = multiply_add(a, tl.load(at + gate, mask=there, other=0.0), z_f, PRECISION)
        z_g = multiply_add(a, tl.load(at + 2 * gate, mask=there, other=0.0), z_g, PRECISION)
        z_o = multiply_add(a, tl.load(at + 3 * gate, mask=there, other=0.0), z_o, PRECISION)
    return z_i, z_f, z_g, z_o


@triton.jit
def state_gradient(d, w, rows, units, B, H, DEPTH: tl.constexpr, PRECISION: tl.constexpr):
    """d W_hh of a tile, ``[ROWS, UNITS]`` float32: what comes to h' through the gates of the step after.

    d: gate gradients ``[B, 4H]`` of that step. The rest as ``gate_sums`` has it.
    """
    dh = tl.zeros([rows.shape[0], units.shape[0]], tl.float32)
    from_d = d + rows.to(tl.int64)[:, None] * (4 * H)
    for first in range(0, 4 * H, DEPTH):
        k = first + tl.arange(0, DEPTH)
        a = tl.load(
            from_d + k[None, :], mask=(rows[:, None] < B) & (k[None, :] < 4 * H), other=0.0, cache_modifier=".cg"
        )
        at = w + k.to(tl.int64)[:, None] * H + units[None, :]
        there = (k[:, None] < 4 * H) & (units[None, :] < H)
        dh = multiply_add(a, tl.load(at, mask=there, other=0.0), dh, PRECISION)
    return dh
