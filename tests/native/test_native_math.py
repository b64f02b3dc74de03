"""The vector sigmoid and tanh of every instruction set, against float64 numpy.

The bounds are those that the header of csrc/cpu/math.h states; they are read from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lstmrep import _native

HEADER = Path(__file__).resolve().parents[2] / "csrc" / "cpu" / "math.h"


def exact_sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, e) / (1.0 + e))


EXACT: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sigmoid": exact_sigmoid, "tanh": np.tanh}


def stated_bound(name: str) -> float:
    found = re.search(rf"\b{name} <= ([0-9]+[.][0-9]+)", HEADER.read_text())
    assert found, f"{HEADER.name} states no bound for {name}"
    return float(found.group(1))


def evaluate(name: str, x: np.ndarray) -> np.ndarray:
    y = np.full(x.shape, np.nan, dtype=np.float32)
    _native.cpu_math(name, x.ctypes.data, y.ctypes.data, x.size)
    return y


def errors_in_ulp(name: str, x: np.ndarray) -> np.ndarray:
    """Error of each result in units of the last place of the exact value's float."""
    with np.errstate(over="ignore", under="ignore"):
        exact = EXACT[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
        ulp = np.spacing(np.abs(rounded)).astype(np.float64)
    got = evaluate(name, x)
    finite = np.isfinite(rounded)
    assert np.array_equal(got[~finite], rounded[~finite], equal_nan=True)
    if name == "sigmoid":  # below the normal range its results are zero, as the header says
        low = rounded < np.finfo(np.float32).tiny
        assert low.any()
        assert not got[low].any()
        finite &= ~low
    assert np.isfinite(got[finite]).all(), f"{name} is not finite at {x[finite][~np.isfinite(got[finite])][:3]}"
    return np.asarray(np.abs(got[finite].astype(np.float64) - exact[finite]) / ulp[finite])


def dense_sample() -> np.ndarray:
    """Every 1021st float of both signs up to 2^8 (1021 is prime: all exponents, varied mantissas)."""
    top = int(np.array(256.0, np.float32).view(np.uint32))
    magnitude = np.arange(0, top, 1021, dtype=np.uint32).view(np.float32)
    near = np.linspace(-20, 20, 400_001, dtype=np.float32)
    return np.concatenate([magnitude, -magnitude, near])


@pytest.fixture(params=_native.cpu_isas_usable())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _native.cpu_isa()
    _native.set_cpu_isa(request.param)
    yield request.param
    _native.set_cpu_isa(before)


@pytest.mark.parametrize("name", list(EXACT))
def test_error_is_within_the_stated_bound(isa: str, name: str) -> None:
    worst = float(errors_in_ulp(name, dense_sample()).max())
    print(f"{name} on {isa}: {worst:.3f} ulp")
    assert worst <= stated_bound(name)


def test_special_values(isa: str) -> None:
    inf, nan = np.inf, np.nan
    x = np.array([inf, -inf, nan, 0.0, -0.0, 1e30, -1e30, 1e-40, -1e-40, 104.0, -104.0], dtype=np.float32)
    tiny = np.float32(1e-40)
    sigmoid, tanh = (evaluate(name, x) for name in EXACT)
    np.testing.assert_array_equal(sigmoid[:7], np.array([1, 0, nan, 0.5, 0.5, 1, 0], dtype=np.float32))
    np.testing.assert_array_equal(tanh, np.array([1, -1, nan, 0, 0, 1, -1, tiny, -tiny, 1, -1], dtype=np.float32))
    assert not np.signbit(tanh[3]), "tanh(+0) is +0"
    assert np.signbit(tanh[4]), "tanh(-0) is -0"


def test_any_length_and_no_write_behind(isa: str) -> None:
    x = np.linspace(-3, 3, 40, dtype=np.float32)
    whole = evaluate("tanh", x)
    for n in range(x.size):
        y = np.full(x.size, np.nan, dtype=np.float32)
        _native.cpu_math("tanh", x.ctypes.data, y.ctypes.data, n)
        assert (y[:n] == whole[:n]).all()
        assert np.isnan(y[n:]).all()
