"""The check itself: random numbers through a CUDA kernel and through stepwise, every output compared.

How far apart two right kernels can be.  Both form the sums of a step in float32, in different orders, and round h (in
the backward pass, the gate gradients that go through W_hh) to the I/O dtype after each step.  So one step adds, in
parts of an output's size,

- one ulp of the I/O dtype, eps: two values that differ by nearly nothing may be rounded to different neighbours;
- sqrt(H + 16) 2^-24 in the sums: H roundings and some 16 of the cell, of unit roundoff 2^-24 and of random signs, of
  partial sums that are about as large as the result, W_hh being scaled by 1/sqrt(H);
- where the products are in TF32, 2^-10: operands keep 10 bits of mantissa, and one kernel may round them where the
  other cuts them off.

Their sum is the ``unit``.  The next step passes a difference on through W_hh, whose norm is about 3 (a [4H, H] matrix
of variance 1/H), and through the cell, whose derivatives are around or below one.  So after STEPS = 3 steps an element
may be off by 1 + 3 + 9 units, 16 with what the cell adds.  Such elements are rare: few values lie so close to the
middle between two neighbours that the noise of float32 takes them across.  Steps then add like random numbers, and the
root mean square of the differences stays within two units.  This second bound sees what the first is too wide for: a
tile left out of a long sum, a little in all elements.

An output's size is its largest element for the first bound and its root mean square for the second, but at least
SMALLEST: few elements may all be small by cancellation, which their errors are not.  Tests hold right kernels to half
of both bounds, so that a card whose sums run in yet another order does not raise a false alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from lstmrep.backends import aborts
from lstmrep.backends.tensors import Backward, Final, Forward, Recurrence, Shape
from lstmrep.plan import CudaPass, Problem, TritonPass
from lstmrep.trust.verdicts import Verdict

STEPS = 3
LARGEST, TYPICAL = 16.0, 2.0  # units that the largest and the root mean square difference may have
SMALLEST = 0.25
STEPWISE = CudaPass("stepwise")


class Passes(NamedTuple):
    """A backend on CUDA as the check sees it."""

    kernels: Callable[[], Any]  # what has ``cuda_take_abort``: the module with the CUDA entries
    forward: Callable[[Any, Recurrence, Forward], None]  # the pass first
    backward: Callable[[Any, Recurrence, Backward], None]
    stepwise: CudaPass | TritonPass = STEPWISE
    card: Callable[[int], str] | None = None  # the card, the driver and the build, where the module does not tell them
    variable: str = "LSTMREP_CUDA_KERNEL"  # by which a user chooses a kernel
    choice: str = "cuda_kernel"  # the field of a Machine that holds it


def compared(
    passes: Passes, how: CudaPass | TritonPass, backward: bool, problem: Problem, shape: Shape, seed: int
) -> Verdict:
    """Run a pass by ``how`` and by stepwise on random numbers and compare all outputs. Synchronises the device.

    Args:
        passes: the CUDA backend.
        how: the kernel under check.
        backward: which pass.
        problem: tells the cell and whether it has peepholes.
        shape: N, B, H, dtypes and device of the call that waits for the verdict.
        seed: of the random numbers.

    Returns:
        The verdict; its figures are those of the output that is closest to, or furthest beyond, what is allowed.

    Raises:
        RuntimeError: a kernel of an earlier call had given up.
    """
    # Modes of the caller must not see, fake or trace what runs here; its random state is not touched.
    with torch.no_grad(), _disable_current_modes():
        shape = replace(shape, T=STEPS, I=0)
        draw = _Draw(shape, seed)
        r = _recurrence(draw, problem)
        gates_x = draw(STEPS, 4 * shape.H)
        want = _forward(passes, passes.stepwise, r, gates_x)
        if backward:
            grads = (draw(STEPS, shape.H), draw(shape.H), draw(shape.H, dtype=shape.compute))
            saved = want
            want = _backward(passes, passes.stepwise, r, saved, grads)
        _wait(shape.device)
        aborts.look(passes.kernels(), shape.device.index or 0, passes.variable)  # from here on it is the check's own
        got = _backward(passes, how, r, saved, grads) if backward else _forward(passes, how, r, gates_x)
        return _verdict(got, want, unit(shape, how.tf32))


def unit(shape: Shape, tf32: bool) -> float:
    """What one step may add to the difference of two right kernels, in parts of an output's size (see above)."""
    return torch.finfo(shape.dtype).eps + math.sqrt(shape.H + 16) * 2.0**-24 + (2.0**-10 if tf32 else 0.0)


class _Draw:
    """Random tensors ``[N, ..., H-like]`` of a generator of its own; the batch stands before the last dimension."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape = shape
        self.generator = torch.Generator(device=shape.device).manual_seed(seed)

    def raw(self, *size: int, scale: float = 1.0, dtype: torch.dtype | None = None) -> Tensor:
        s = self.shape
        values = torch.randn(size, generator=self.generator, device=s.device, dtype=torch.float32)
        return values.mul_(scale).to(dtype or s.dtype)

    def __call__(self, *size: int, scale: float = 1.0, dtype: torch.dtype | None = None) -> Tensor:
        s = self.shape
        return self.raw(s.N, *size[:-1], s.B, size[-1], scale=scale, dtype=dtype)


def _recurrence(draw: _Draw, p: Problem) -> Recurrence:
    s = draw.shape
    wide = s.compute
    return Recurrence(
        shape=s,
        reverse=[n % 2 == 1 for n in range(s.N)],
        cell=p.cell,
        w_hh=[draw.raw(4 * s.H, s.H, scale=s.H**-0.5) for _ in range(s.N)],
        biases=[draw.raw(s.N, 4 * s.H, scale=0.5, dtype=wide)],
        peepholes=[draw.raw(s.N, 3, s.H, scale=0.5, dtype=wide)] if p.peephole else [],
        start_h=draw(s.H, scale=0.5),
        start_c=draw(s.H, dtype=wide),
        lengths=None,
    )


def _unwritten(shape: Shape, *size: int, dtype: torch.dtype | None = None) -> Tensor:
    """An output full of NaN: what a kernel does not write cannot pass."""
    return torch.full(size, math.nan, dtype=dtype or shape.dtype, device=shape.device)


def _forward(passes: Passes, how: CudaPass | TritonPass, r: Recurrence, gates_x: Tensor) -> dict[str, Tensor]:
    s = r.shape
    out = {
        "h": _unwritten(s, s.N, s.T, s.B, s.H),
        "h_n": _unwritten(s, s.N, s.B, s.H),
        "c_n": _unwritten(s, s.N, s.B, s.H, dtype=s.compute),
        "gates": gates_x.clone(),  # in place, as in a training step
        "c": _unwritten(s, s.N, s.T, s.B, s.H, dtype=s.compute),
    }
    a = Forward(gates_x=out["gates"], h=out["h"], h_n=out["h_n"], c_n=out["c_n"], gates=out["gates"], c=out["c"])
    passes.forward(how, r, a)
    return out


def _backward(
    passes: Passes,
    how: CudaPass | TritonPass,
    r: Recurrence,
    saved: dict[str, Tensor],
    grads: tuple[Tensor, Tensor, Tensor],
) -> dict[str, Tensor]:
    s = r.shape
    vectors = _unwritten(s, 7 * s.N * s.H, dtype=s.compute)
    bias, peephole = vectors.split((4 * s.N * s.H, 3 * s.N * s.H))
    out = {
        "d_gates": _unwritten(s, s.N, s.T, s.B, 4 * s.H),
        "d_h0": _unwritten(s, s.N, s.B, s.H),
        "d_c0": _unwritten(s, s.N, s.B, s.H, dtype=s.compute),
        "d_bias": bias.view(s.N, 4 * s.H),
    }
    d_peephole = peephole.view(s.N, 3, s.H) if r.peepholes else None
    # Start states of their own and vectors in the compute dtype: the final gradients are the plain ones.
    final = Final(out["d_h0"], out["d_c0"], vectors)
    passes.backward(how, r, Backward(saved["gates"], saved["c"], *grads, **out, d_peephole=d_peephole, final=final))
    return out if d_peephole is None else {**out, "d_peephole": d_peephole}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _verdict(got: dict[str, Tensor], want: dict[str, Tensor], unit: float) -> Verdict:
    found = [_compared(name, got[name].double(), true.double(), unit) for name, true in want.items()]
    share, figures = max(found)
    return Verdict(share <= 1.0, figures)


def _compared(name: str, got: Tensor, true: Tensor, unit: float) -> tuple[float, str]:
    """The larger share that the two differences have of what is allowed of them, and the figures as text."""
    error = got - true
    largest, size = error.abs().max(), true.abs().max()
    typical, usual = error.square().mean().sqrt(), true.square().mean().sqrt()
    largest, size, typical, usual = torch.stack([largest, size, typical, usual]).tolist()
    allowed = LARGEST * unit * max(size, SMALLEST), TYPICAL * unit * max(usual, SMALLEST)
    shares = largest / allowed[0], typical / allowed[1]
    text = (
        f"{name}: largest error {largest:.1e}, allowed {allowed[0]:.1e}; "
        f"root mean square {typical:.1e}, allowed {allowed[1]:.1e}"
    )
    # NaN and infinity, in the kernel's output or in stepwise's, are the worst of all.
    return max(shares) if all(map(math.isfinite, shares)) else math.inf, text
