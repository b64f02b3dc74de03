"""Rounding of float32 to bfloat16 and float16, bit for bit, on every instruction set and in the kernels.

The relu cell of a single step hands a non-negative bias of the g gate straight to the saved gates, so that
any float can be sent through the conversion; a sequence without steps sends h0 to h_n and so covers reading.
"""

from __future__ import annotations

from collections.abc import Iterator

import emulated
import numpy as np
import pytest
from cpu_runner import run_forward
from native_cases import DTYPES, Problem, decode, encode, storage_type

from lstmrep import _native

RECURRENCES, UNITS = 64, 512


@pytest.fixture(params=_native.cpu_isas_usable())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _native.cpu_isa()
    _native.set_cpu_isa(request.param)
    yield request.param
    _native.set_cpu_isa(before)


def hostile_floats(dtype: str) -> np.ndarray:
    """[N * H] non-negative floats: ties, their neighbours, subnormals, overflow, infinity, random bits."""
    stored = np.arange(0x7F80 if dtype == "bfloat16" else 0x7C00, dtype=np.uint16)
    grid = decode(stored if dtype == "bfloat16" else stored.view(np.float16), dtype, np.float32)
    rng = np.random.default_rng(0)
    pick = np.sort(rng.choice(grid.size - 1, 7000, replace=False))
    with np.errstate(over="ignore"):
        ties = (grid[pick].astype(np.float64) + grid[pick + 1].astype(np.float64)).astype(np.float32) / 2
    around = [ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(np.inf))]
    edges = np.array([0, 1e-45, 65504, 65519.99, 65520, 3.3895e38, 3.4028e38, np.inf, np.nan], dtype=np.float32)
    values = np.concatenate([*around, edges])
    rest = rng.integers(0, 0x7F800000, RECURRENCES * UNITS - values.size, dtype=np.uint32).view(np.float32)
    return np.concatenate([values, rest])


def assert_same_rounding(got: np.ndarray, x: np.ndarray, dtype: str) -> None:
    want = encode(x, dtype)
    number = ~np.isnan(x)
    assert np.isnan(decode(got, dtype)[~number]).all(), "a NaN did not stay a NaN"
    wrong = np.flatnonzero(got[number].view(np.uint16) != want[number].view(np.uint16))
    assert wrong.size == 0, f"{wrong.size} values round wrongly, first {x[number][wrong[0]]!r}"


def bias_with(x: np.ndarray) -> np.ndarray:
    """[N, 4H] biases: zeros, and x for gate g."""
    bias = np.zeros((RECURRENCES, 4, UNITS), dtype=np.float32)
    bias[:, 2] = x.reshape(RECURRENCES, UNITS)
    return bias.reshape(RECURRENCES, 4 * UNITS)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_cpu_rounds_to_nearest_even(isa: str, dtype: str) -> None:
    x = hostile_floats(dtype)
    for n in range(0, RECURRENCES, 8):  # a few at a time: each has its own copy of the weights
        part = bias_with(x)[n : n + 8]
        w: np.ndarray = np.zeros((4 * UNITS, UNITS), storage_type(dtype))
        p = Problem(dtype, "relu", 8, 1, 1, UNITS, reverse=[False] * 8, w_hh=[w] * 8, bias=part)
        gates = run_forward(p)["gates"].reshape(8, 4, UNITS)[:, 2]
        assert_same_rounding(gates.ravel(), x.reshape(RECURRENCES, UNITS)[n : n + 8].ravel(), dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_cpu_reads_and_writes_every_value_unchanged(isa: str, dtype: str) -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    stored = every if dtype == "bfloat16" else every.view(np.float16)
    w: np.ndarray = np.zeros((4 * 64, 64), storage_type(dtype))
    p = Problem(dtype, "tanh", 1, 0, 1024, 64, reverse=[False], w_hh=[w], h0=stored.reshape(1, 1024, 64))
    got = run_forward(p)["h_n"].ravel()
    number = ~np.isnan(decode(stored, dtype))
    assert (got[number].view(np.uint16) == every[number]).all()
    assert np.isnan(decode(got, dtype)[~number]).all()


@pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason())
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_host_variant_of_the_device_conversion_rounds_to_nearest_even(dtype: str) -> None:
    x, kind = hostile_floats(dtype), storage_type(dtype)
    bias, shape = bias_with(x), (RECURRENCES, 1, 1, UNITS)
    c_state = np.zeros(shape, np.float32)
    h_state: np.ndarray = np.zeros(shape, kind)
    h: np.ndarray = np.zeros(shape, kind)
    gates: np.ndarray = np.zeros((RECURRENCES, 4, UNITS), kind)
    emulated.module().cuda_pointwise_forward(
        device=0,
        stream=0,
        dtype=DTYPES[dtype],
        cell=1,
        N=RECURRENCES,
        T=1,
        B=1,
        H=UNITS,
        step=0,
        gates_x=0,
        recurrent=0,
        bias=bias.ctypes.data,
        peephole=0,
        lengths=0,
        reverse=0,
        c_state=c_state.ctypes.data,
        h_state=h_state.ctypes.data,
        h=h.ctypes.data,
        gates=gates.ctypes.data,
        c=0,
    )
    assert_same_rounding(gates[:, 2].ravel(), x, dtype)
