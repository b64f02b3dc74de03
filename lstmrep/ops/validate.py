"""Checks the arguments of the op in one place, before any address is taken.

Metadata only: it works on fake tensors and never synchronises.  Each failure is one sentence that names the argument,
what was expected and what to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lstmrep.backends.tensors import Shape, in_pairs
from lstmrep.ops.schema import Inputs, Passed

COMPUTE_DTYPE = {
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.float64: torch.float64,
}
CELLS = ("tanh", "relu")


def _shape_error(name: str, got: Tensor, expected: str, todo: str) -> ValueError:
    return ValueError(f"lstmrep.ops.lstm: argument '{name}' has shape {tuple(got.shape)}, expected {expected}; {todo}.")


def _expect(name: str, got: Tensor, expected: tuple[int, ...], legend: str, dtype: torch.dtype, like: Tensor) -> None:
    if tuple(got.shape) != expected:
        raise _shape_error(name, got, f"{legend} = {expected}", f"reshape '{name}' or check the other arguments")
    _expect_kind(name, got, dtype, like)


def _expect_kind(name: str, got: Tensor, dtype: torch.dtype, like: Tensor) -> None:
    if got.dtype != dtype:
        raise TypeError(
            f"lstmrep.ops.lstm: argument '{name}' is {got.dtype}, expected {dtype} beside weights of {like.dtype}; "
            f"pass {name}.to({dtype})."
        )
    if got.device != like.device:
        raise ValueError(
            f"lstmrep.ops.lstm: argument '{name}' is on {got.device}, the weights are on {like.device}; "
            f"pass {name}.to('{like.device}')."
        )


def first_weight(w_hh: list[Tensor]) -> Tensor:
    """The matrix whose dtype and device the other arguments must have."""
    if not w_hh:
        raise ValueError("lstmrep.ops.lstm: argument 'w_hh' is empty; pass one [4H, H] matrix for each recurrence.")
    return w_hh[0]


def check(i: Inputs, steps: int, reverse: Sequence[bool], cell: str) -> Shape:
    """Check everything and return the sizes.

    Raises:
        ValueError: a shape, device, flag or length is wrong.
        TypeError: a dtype is wrong.
    """
    x, w_ih, w_hh, bias, peephole, h0, c0, lengths = i
    n = len(w_hh)
    first = first_weight(w_hh)
    dtype = first.dtype
    compute = COMPUTE_DTYPE.get(dtype)
    if compute is None:
        raise TypeError(
            f"lstmrep.ops.lstm: argument 'w_hh' is {dtype}; pass float32, bfloat16, float16 or float64 weights."
        )
    if first.dim() != 2 or first.shape[0] != 4 * first.shape[1] or not first.shape[1]:
        raise _shape_error("w_hh", first, "[4H, H] for each recurrence", "stack the gates as i, f, g, o")
    hidden = first.shape[1]
    for w in w_hh[1:]:
        _expect("w_hh", w, (4 * hidden, hidden), "[4H, H]", dtype, first)
    if len(reverse) != n:
        raise ValueError(
            f"lstmrep.ops.lstm: argument 'reverse' has {len(reverse)} flags, expected {n}, one for each recurrence."
        )
    if cell not in CELLS:
        raise ValueError(f"lstmrep.ops.lstm: argument 'cell' is {cell!r}; choose 'tanh' or 'relu'.")
    if steps < 0:
        raise ValueError(f"lstmrep.ops.lstm: argument 'steps' is {steps}; pass the number of time steps, 0 or more.")

    features, batch = _check_input(x, w_ih, first, n, steps, hidden)
    if batch < 0:
        start = h0 if h0 is not None else c0
        if start is None or start.dim() != 3:
            raise ValueError(
                "lstmrep.ops.lstm: argument 'x' is none and there is no start state [N, B, H] to tell the batch size; "
                "pass h0 or c0."
            )
        batch = start.shape[1]
    if bias or peephole:
        vector = compute if (bias or peephole)[0].dtype == compute else dtype
        parts = 2 * n if in_pairs(bias, n) else n
        _check_vectors("bias", bias, (parts, 4 * hidden), "[N, 4H]", vector, first)
        _check_vectors("peephole", peephole, (n, 3, hidden), "[N, 3, H]", vector, first)
    for name, start, kind in (("h0", h0, dtype), ("c0", c0, compute)):
        if start is not None:
            rows = 1 if start.dim() and start.shape[0] == 1 else n
            _expect(name, start, (rows, batch, hidden), "[N, B, H] or [1, B, H] (shared)", kind, first)
    if lengths is not None:
        _expect("lengths", lengths, (n, batch), "[N, B]", torch.int32, first)
    return Shape(n, steps, batch, features, hidden, dtype, compute, first.device)


def _check_vectors(
    name: str, given: list[Tensor], whole: tuple[int, ...], legend: str, dtype: torch.dtype, like: Tensor
) -> None:
    """Tensors of one size that, one after the other, hold ``whole``."""
    each = math.prod(whole) / max(1, len(given))
    width, device = whole[-1], like.device
    for one in given:
        if one.numel() != each or one.shape[-1] != width:
            expected = f"{legend} = {whole}" + (f" in {len(given)} parts of one size" if len(given) > 1 else "")
            raise _shape_error(name, one, expected, f"reshape '{name}' or check the other arguments")
        if one.dtype != dtype or one.device != device:
            _expect_kind(name, one, dtype, like)


def _check_input(
    x: Tensor | None, w_ih: list[Tensor], first: Tensor, n: int, steps: int, hidden: int
) -> tuple[int, int]:
    """Input features (0: none, or x already holds the gates' input share) and batch (-1: not known from x)."""
    if x is None:
        if w_ih:
            raise ValueError("lstmrep.ops.lstm: argument 'x' is none but 'w_ih' is given; pass both or neither.")
        return 0, -1
    if x.dim() not in (3, 4):
        raise _shape_error("x", x, "[T, B, I] (shared) or [N, T, B, I]", "add the missing dimensions")
    t, batch, width = x.shape[-3:]
    if x.dim() == 4 and x.shape[0] != n:
        raise _shape_error("x", x, f"[N, T, B, I] with N = {n}", "pass one sequence for each recurrence")
    if t != steps:
        raise _shape_error("x", x, f"T = {steps} steps", "make 'steps' and 'x' agree")
    if not w_ih:
        _expect("x", x, (n, steps, batch, 4 * hidden), "[N, T, B, 4H] (no 'w_ih')", first.dtype, first)
        return 0, batch
    if len(w_ih) != n:
        raise ValueError(
            f"lstmrep.ops.lstm: argument 'w_ih' has {len(w_ih)} matrices, expected {n}, one for each recurrence."
        )
    for w in w_ih:
        _expect("w_ih", w, (4 * hidden, width), "[4H, I]", first.dtype, first)
    _expect_kind("x", x, first.dtype, first)
    return width, batch


def check_passed(s: Shape, passed: Passed) -> None:
    """Check gradients and saved tensors of a backward pass.

    Raises:
        ValueError: one is not as ``lstmrep::lstm`` returned it.
    """
    frames, state = (s.N, s.T, s.B, s.H), (s.N, s.B, s.H)
    expected = {
        "grad_h": (frames, s.dtype),
        "grad_h_n": (state, s.dtype),
        "grad_c_n": (state, s.compute),
        "h": (frames, s.dtype),
        "gates": ((s.N, s.T, s.B, 4 * s.H), s.dtype),
        "c": (frames, s.compute),
    }
    for (name, (shape, dtype)), tensor in zip(expected.items(), passed, strict=True):
        if tensor is not None and (tuple(tensor.shape) != shape or tensor.dtype != dtype or tensor.device != s.device):
            raise ValueError(
                f"lstmrep.ops.lstm_backward: argument '{name}' is {tensor.dtype} {tuple(tensor.shape)} on "
                f"{tensor.device}, expected {dtype} {shape} on {s.device}; pass what lstmrep::lstm returned."
            )


def check_lengths(lengths: Tensor | None, steps: int) -> None:
    """Check the values of lengths held on the CPU; those on a device are clamped by the kernels, unread here."""
    if lengths is None or lengths.device.type != "cpu" or not lengths.numel():
        return
    low, high = int(lengths.min()), int(lengths.max())
    if low < 0 or high > steps:
        raise ValueError(
            f"lstmrep.ops.lstm: argument 'lengths' holds values from {low} to {high}, expected 0 to T = {steps}; "
            "clamp them or pad the sequences."
        )
