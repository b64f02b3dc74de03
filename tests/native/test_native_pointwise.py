"""The CUDA pointwise kernels on the emulated device, step by step with numpy GEMMs between."""

from __future__ import annotations

import emulated
import numpy as np
import pytest
from cpu_runner import Arena, type_of, values
from native_cases import (
    CELLS,
    DTYPES,
    Problem,
    assert_close,
    decode,
    encode,
    make_problem,
    reference_backward,
    reference_forward,
    storage_type,
)

from lstmrep import _native

pytestmark = pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason())

SHAPES = ((1, 4, 1, 1), (2, 3, 7, 5), (3, 5, 17, 17), (1, 2, 7, 63), (2, 4, 1, 64), (3, 3, 7, 100))
TYPES = ("float32", "bfloat16", "float16")


def reverse_mask(p: Problem) -> int:
    return sum(1 << j for j, flag in enumerate(p.reverse) if flag)


def forward(p: Problem, *, alias: bool) -> dict[str, np.ndarray]:
    """The whole sequence on the emulated kernel; outputs as stored arrays."""
    device, arena, s = emulated.module(), Arena(), storage_type(p.dtype)
    n, t, b, h = p.n, p.t, p.b, p.h
    out = {"h": arena.out((n, t, b, h), s), "gates": arena.out((n, t, b, 4 * h), s)}
    out["c"] = arena.out((n, t, b, h), np.float32)
    c_state, h_state = arena.out((n, b, h), np.float32), arena.out((n, b, h), s)
    c_state.array[...] = 0 if p.c0 is None else p.c0
    h_state.array[...] = encode(np.zeros((n, b, h)), p.dtype) if p.h0 is None else p.h0
    if alias and p.gates_x is not None:
        out["gates"].array[...] = p.gates_x
    gates_x = out["gates"].address if alias and p.gates_x is not None else arena.put(p.gates_x)
    bias, peephole, lengths = arena.put(p.bias), arena.put(p.peephole), arena.put(p.lengths)
    for step in range(t):
        recurrent = None
        if step > 0 or p.h0 is not None:
            state = decode(h_state.array, p.dtype, np.float32)
            w = np.stack([decode(w, p.dtype, np.float32) for w in p.w_hh])
            recurrent = np.einsum("nbk,njk->nbj", state, w).astype(np.float32)
        device.cuda_pointwise_forward(
            device=0,
            stream=0,
            dtype=DTYPES[p.dtype],
            cell=CELLS[p.cell],
            N=n,
            T=t,
            B=b,
            H=h,
            step=step,
            gates_x=gates_x,
            recurrent=arena.put(recurrent),
            bias=bias,
            peephole=peephole,
            lengths=lengths,
            reverse=reverse_mask(p),
            c_state=c_state.address,
            h_state=h_state.address,
            h=out["h"].address,
            gates=out["gates"].address,
            c=out["c"].address,
        )
    arena.check()
    stored = {name: buffer.array.copy() for name, buffer in out.items()}
    return {**stored, "h_n": h_state.array.copy(), "c_n": c_state.array.copy()}


def backward(p: Problem, gates: np.ndarray, c: np.ndarray, *, alias: bool) -> dict[str, np.ndarray]:
    """The whole sequence on the emulated kernel, GEMMs and the start state in numpy."""
    device, arena, s = emulated.module(), Arena(), storage_type(p.dtype)
    n, t, b, h = p.n, p.t, p.b, p.h
    d_gates, d_step = arena.out((n, t, b, 4 * h), s), arena.out((n, b, 4 * h), s)
    dc, sums = arena.out((n, b, h), np.float32), arena.out((n, b, 7, h), np.float32)
    sums.array[...] = 0
    if alias:
        d_gates.array[...] = gates
    fixed = {
        "peephole": arena.put(p.peephole),
        "lengths": arena.put(p.lengths),
        "gates": d_gates.address if alias else arena.put(gates),
        "c": arena.put(c),
        "c0": arena.put(p.c0),
        "grad_h": arena.put(p.grad_h),
        "grad_h_n": arena.put(p.grad_h_n),
        "grad_c_n": arena.put(p.grad_c_n),
    }
    w = np.stack([decode(w, p.dtype, np.float32) for w in p.w_hh])
    dh: np.ndarray | None = None
    for step in reversed(range(t)):
        device.cuda_pointwise_backward(
            device=0,
            stream=0,
            dtype=DTYPES[p.dtype],
            cell=CELLS[p.cell],
            N=n,
            T=t,
            B=b,
            H=h,
            step=step,
            reverse=reverse_mask(p),
            dh_recurrent=arena.put(dh),
            dc=dc.address,
            d_gates=d_gates.address,
            d_step=d_step.address,
            sums=sums.address,
            **fixed,
        )
        dh = np.einsum("nbj,nju->nbu", decode(d_step.array, p.dtype, np.float32), w).astype(np.float32)
    arena.check()
    assert dh is not None
    d_h0, d_c0 = encode(dh, p.dtype), dc.array.copy()
    for j, row in np.ndindex(n, b):
        if p.length(j, row) == 0:  # never entered: the caller hands the incoming gradients through
            d_h0[j, row] = encode(np.zeros(h), p.dtype) if p.grad_h_n is None else p.grad_h_n[j, row]
            d_c0[j, row] = 0 if p.grad_c_n is None else p.grad_c_n[j, row]
    total = sums.array.astype(np.float64).sum(axis=1)
    return {
        "d_gates": d_gates.array.copy(),
        "d_h0": d_h0,
        "d_c0": d_c0,
        "d_bias": total[:, :4].reshape(n, 4 * h),
        "d_peephole": total[:, 4:],
    }


@pytest.mark.parametrize("cell", ["tanh", "relu"])
@pytest.mark.parametrize("dtype", TYPES)
def test_forward_against_the_transcription(dtype: str, cell: str) -> None:
    for seed, shape in enumerate(SHAPES):
        for optional in ("all", "none", "random"):
            p = make_problem(seed, dtype, cell, *shape, optional=optional)
            exact = reference_forward(p, np.float64, rounded=False)
            yardstick = reference_forward(p, np.float32, rounded=True)
            for name, stored in forward(p, alias=seed % 2 == 0).items():
                assert_close(name, values(name, stored, p), yardstick[name], exact[name], type_of(name, p))


@pytest.mark.parametrize("cell", ["tanh", "relu"])
@pytest.mark.parametrize("dtype", TYPES)
def test_backward_against_the_transcription(dtype: str, cell: str) -> None:
    for seed, shape in enumerate(SHAPES):
        for optional in ("all", "none", "random"):
            p = make_problem(seed, dtype, cell, *shape, optional=optional)
            saved = reference_forward(p, np.float32, rounded=True)
            gates, c = encode(saved["gates"], dtype), saved["c"]
            exact = reference_backward(p, gates, c, np.float64)
            yardstick = reference_backward(p, gates, c, np.float32, recur_rounded=True)
            for name in ("d_gates", "d_h0"):
                yardstick[name] = decode(encode(yardstick[name], dtype), dtype)
            for name, stored in backward(p, gates, c, alias=seed % 2 == 1).items():
                assert_close(name, values(name, stored, p), yardstick[name], exact[name], type_of(name, p))


def test_the_emulated_entries_have_the_native_signatures() -> None:
    device = emulated.module()
    entries = {name for name in vars(_native) if name.startswith("cuda_")} & set(vars(device))
    assert entries >= {"cuda_pointwise_forward", "cuda_pointwise_backward"}
    for name in sorted(entries):
        assert getattr(device, name).__doc__ == getattr(_native, name).__doc__, name
