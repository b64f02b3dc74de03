"""Problems for the native tests, and a plain numpy transcription of the LSTM's forward and backward.

The transcription walks over recurrences, rows and steps in Python. It runs in a wider precision (the
judge) or in the kernel's own (the yardstick): `tolerance` allows a kernel twice the yardstick's error
plus a few units in the last place of the output's scale, so no test states a number of its own.
Types: S is the I/O type, C the compute type. bfloat16 arrays are held as uint16 bit patterns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

DTYPES = {"float32": 0, "bfloat16": 1, "float16": 2, "float64": 3}
CELLS = {"tanh": 0, "relu": 1}
MANTISSA_BITS = {"float32": 23, "bfloat16": 7, "float16": 10, "float64": 52}
SMALLEST = {"float32": 2.0**-149, "bfloat16": 2.0**-133, "float16": 2.0**-24, "float64": 2.0**-1074}
GUARD_BYTES = 256
GUARD_FILL = 0xA5
# Units in the last place of the output's scale that both sides may differ by beyond the doubled error.
SLACK_ULP = 4


def compute_type(dtype: str) -> type:
    return np.float64 if dtype == "float64" else np.float32


def judge_type(dtype: str) -> type:
    """float64, and extended precision for float64 itself."""
    return np.longdouble if dtype == "float64" else np.float64


def storage_type(dtype: str) -> type:
    return {"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16, "float64": np.float64}[dtype]


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """Values -> array of S (bfloat16: bits), rounded to nearest even from float32 or float64."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(values, dtype=storage_type(dtype))
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def decode(stored: np.ndarray, dtype: str, real: type = np.float64) -> np.ndarray:
    """Array of S -> values."""
    if dtype == "bfloat16":
        with np.errstate(invalid="ignore"):  # signalling NaNs
            return (stored.astype(np.uint32) << 16).view(np.float32).astype(real)
    return stored.astype(real)


class Buffer:
    """An array between two guard bands; starts as NaN (floats) or zeros, 64-byte aligned."""

    def __init__(self, shape: tuple[int, ...], kind: type, values: np.ndarray | None = None) -> None:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        self._bytes = np.full(size + 2 * GUARD_BYTES + 64, GUARD_FILL, dtype=np.uint8)
        start = GUARD_BYTES + (-self._bytes.ctypes.data - GUARD_BYTES) % 64
        self._start, self._end = start, start + size
        self.array: np.ndarray = self._bytes[start : start + size].view(kind).reshape(shape)
        if values is not None:
            self.array[...] = values
        elif kind in (np.float16, np.float32, np.float64):
            self.array[...] = np.nan
        else:
            self._bytes[start : start + size] = 0xFF  # a NaN as bfloat16 bits too

    @property
    def address(self) -> int:
        return int(self._bytes.ctypes.data) + self._start

    def check_guards(self) -> None:
        before, after = self._bytes[: self._start], self._bytes[self._end :]
        assert (before == GUARD_FILL).all(), "wrote before the array"
        assert (after == GUARD_FILL).all(), "wrote behind the array"


@dataclass
class Problem:
    """One problem; optional arrays are None where the kernel gets null."""

    dtype: str
    cell: str
    n: int
    t: int
    b: int
    h: int
    reverse: list[bool]
    w_hh: list[np.ndarray]  # N of [4H, H] S
    gates_x: np.ndarray | None = None  # [N, T, B, 4H] S
    x: np.ndarray | None = None  # [N or 1, T, B, I] S, instead of gates_x
    w_ih: list[np.ndarray] = field(default_factory=list)  # N of [4H, I] S, beside x
    bias: np.ndarray | None = None  # [N, 4H] C
    peephole: np.ndarray | None = None  # [N, 3, H] C
    h0: np.ndarray | None = None  # [N, B, H] S
    c0: np.ndarray | None = None  # [N, B, H] C
    lengths: np.ndarray | None = None  # [N, B] int32
    grad_h: np.ndarray | None = None  # [N, T, B, H] S
    grad_h_n: np.ndarray | None = None  # [N, B, H] S
    grad_c_n: np.ndarray | None = None  # [N, B, H] C
    saved: dict[str, np.ndarray] = field(default_factory=dict)

    def length(self, n: int, b: int) -> int:
        return self.t if self.lengths is None else int(np.clip(self.lengths[n, b], 0, self.t))

    def frame(self, n: int, b: int, t: int) -> int:
        return self.length(n, b) - 1 - t if self.reverse[n] else t


def make_problem(
    seed: int, dtype: str, cell: str, n: int, t: int, b: int, h: int, *, optional: str = "random"
) -> Problem:
    """A random problem; optional: 'all' arrays given, 'none', or each with probability 0.7."""
    rng = np.random.default_rng(seed)
    real = compute_type(dtype)

    def keep() -> bool:
        draw = rng.random() < 0.7
        return draw if optional == "random" else optional == "all"

    def s(*shape: int, scale: float = 1.0) -> np.ndarray:
        return encode(rng.standard_normal(shape) * scale, dtype)

    def c(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(real)

    lengths = rng.integers(-1, t + 2, size=(n, b)).astype(np.int32)  # out of range on purpose: clamped
    return Problem(
        dtype,
        cell,
        n,
        t,
        b,
        h,
        reverse=[bool(rng.integers(2)) for _ in range(n)],
        w_hh=[s(4 * h, h, scale=h**-0.5) for _ in range(n)],
        gates_x=s(n, t, b, 4 * h) if keep() else None,
        bias=c(n, 4 * h, scale=0.5) if keep() else None,
        peephole=c(n, 3, h, scale=0.5) if keep() else None,
        h0=s(n, b, h, scale=0.5) if keep() else None,
        c0=c(n, b, h) if keep() else None,
        lengths=lengths if keep() else None,
        grad_h=s(n, t, b, h) if keep() else None,
        grad_h_n=s(n, b, h) if keep() else None,
        grad_c_n=c(n, b, h) if keep() else None,
    )


def with_input(p: Problem, seed: int, features: int, *, shared: bool, batch_first: bool = False) -> Problem:
    """The problem with an input of its own in place of gates_x; batch_first: laid out as [N or 1, B, T, I]."""
    rng = np.random.default_rng(seed)
    n, t, b = (1 if shared else p.n), p.t, p.b
    values = rng.standard_normal((n, b, t, features) if batch_first else (n, t, b, features))
    x = encode(values, p.dtype)
    weights = [encode(rng.standard_normal((4 * p.h, features)) * features**-0.5, p.dtype) for _ in range(p.n)]
    return replace(p, gates_x=None, x=x.transpose(0, 2, 1, 3) if batch_first else x, w_ih=weights)


def logistic(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e))


def serial_product(x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """x [K] times columns [K, M], summed one k after the other as the kernels do (numpy sums pairwise
    only along the last axis)."""
    return np.asarray((x[:, None] * columns).sum(axis=0))


def reference_forward(p: Problem, real: type, rounded: bool) -> dict[str, np.ndarray]:
    """Forward in `real`; rounded: h recurs as S would hold it. Returns values, not stored bits."""
    n, t, b, h = p.n, p.t, p.b, p.h
    out: dict[str, np.ndarray] = {
        "h": np.zeros((n, t, b, h), real),
        "gates": np.zeros((n, t, b, 4, h), real),
        "c": np.zeros((n, t, b, h), real),
        "h_n": np.zeros((n, b, h), real),
        "c_n": np.zeros((n, b, h), real),
    }
    gates_x = None if p.gates_x is None else decode(p.gates_x, p.dtype, real).reshape(n, t, b, 4, h)
    for j in range(n):
        w_t = np.ascontiguousarray(decode(p.w_hh[j], p.dtype, real).T)
        peep = np.zeros((3, h), real) if p.peephole is None else p.peephole[j].astype(real)
        bias = np.zeros((4, h), real) if p.bias is None else p.bias[j].astype(real).reshape(4, h)
        if p.x is not None:
            x = decode(p.x[j % len(p.x)], p.dtype, real)
            w_ih_t = np.ascontiguousarray(decode(p.w_ih[j], p.dtype, real).T)
        for row in range(b):
            state = np.zeros(h, real) if p.h0 is None else decode(p.h0[j, row], p.dtype, real)
            cell = np.zeros(h, real) if p.c0 is None else p.c0[j, row].astype(real)
            for step in range(p.length(j, row)):
                frame = p.frame(j, row, step)
                z = serial_product(state, w_t).reshape(4, h) + bias
                if gates_x is not None:
                    z = z + gates_x[j, frame, row]
                if p.x is not None:
                    z = z + serial_product(x[frame, row], w_ih_t).reshape(4, h)
                i, f = logistic(z[0] + peep[0] * cell), logistic(z[1] + peep[1] * cell)
                g = np.tanh(z[2]) if p.cell == "tanh" else np.maximum(z[2], 0)
                cell = f * cell + i * g
                o = logistic(z[3] + peep[2] * cell)
                value = o * (np.tanh(cell) if p.cell == "tanh" else cell)
                state = decode(encode(value, p.dtype), p.dtype, real) if rounded else value
                out["h"][j, frame, row] = state
                out["c"][j, frame, row] = cell
                out["gates"][j, frame, row] = [i, f, g, o]
            out["h_n"][j, row], out["c_n"][j, row] = state, cell
    if rounded:
        out["gates"] = decode(encode(out["gates"], p.dtype), p.dtype, real)
    out["gates"] = out["gates"].reshape(n, t, b, 4 * h)
    return out


def reference_backward(
    p: Problem, gates: np.ndarray, c: np.ndarray, real: type, *, recur_rounded: bool = False
) -> dict[str, np.ndarray]:
    """Backward in `real` from saved gates (S) and c (C); recur_rounded: gate gradients recur as S."""
    n, t, b, h = p.n, p.t, p.b, p.h
    saved = decode(gates, p.dtype, real).reshape(n, t, b, 4, h)
    cells: np.ndarray = c.astype(real)
    out: dict[str, np.ndarray] = {
        "d_gates": np.zeros((n, t, b, 4, h), real),
        "d_h0": np.zeros((n, b, h), real),
        "d_c0": np.zeros((n, b, h), real),
        "d_bias": np.zeros((n, 4, h), real),
        "d_peephole": np.zeros((n, 3, h), real),
    }
    for j in range(n):
        w = decode(p.w_hh[j], p.dtype, real)
        peep = np.zeros((3, h), real) if p.peephole is None else p.peephole[j].astype(real)
        for row in range(b):
            dh = np.zeros(h, real) if p.grad_h_n is None else decode(p.grad_h_n[j, row], p.dtype, real)
            dc = np.zeros(h, real) if p.grad_c_n is None else p.grad_c_n[j, row].astype(real)
            for step in reversed(range(p.length(j, row))):
                frame = p.frame(j, row, step)
                if p.grad_h is not None:
                    dh = dh + decode(p.grad_h[j, frame, row], p.dtype, real)
                i, f, g, o = saved[j, frame, row]
                now = cells[j, frame, row]
                if step > 0:
                    before = cells[j, p.frame(j, row, step - 1), row]
                else:
                    before = np.zeros(h, real) if p.c0 is None else p.c0[j, row].astype(real)
                squashed, slope = (np.tanh(now), 1 - np.tanh(now) ** 2) if p.cell == "tanh" else (now, 1)
                d_o = dh * squashed * o * (1 - o)
                dc = dc + d_o * peep[2] + dh * o * slope
                d_g = dc * i * ((1 - g * g) if p.cell == "tanh" else (g > 0))
                d_i, d_f = dc * g * i * (1 - i), dc * before * f * (1 - f)
                dc = dc * f + d_f * peep[1] + d_i * peep[0]
                d = np.stack([d_i, d_f, d_g, d_o])
                out["d_gates"][j, frame, row] = d
                out["d_bias"][j] += d
                out["d_peephole"][j] += np.stack([before * d_i, before * d_f, now * d_o])
                recur = decode(encode(d, p.dtype), p.dtype, real) if recur_rounded else d
                dh = serial_product(recur.reshape(-1), w)
            out["d_h0"][j, row], out["d_c0"][j, row] = dh, dc
    out["d_gates"] = out["d_gates"].reshape(n, t, b, 4 * h)
    out["d_bias"] = out["d_bias"].reshape(n, 4 * h)
    return out


def reference_gradients(p: Problem, n: int, d_gates: np.ndarray, h: np.ndarray, real: type) -> dict[str, np.ndarray]:
    """Gradients of x, W_ih and W_hh of recurrence n in `real`, from stored gate gradients and h; rows one by one."""
    assert p.x is not None
    d, states = decode(d_gates[n], p.dtype, real), decode(h[n], p.dtype, real)
    x, w = decode(p.x[n % len(p.x)], p.dtype, real), decode(p.w_ih[n], p.dtype, real)
    out = {"d_x": np.zeros(x.shape, real), "d_w_ih": np.zeros(w.shape, real), "d_w_hh": np.zeros((4 * p.h, p.h), real)}
    for frame, row in np.ndindex(p.t, p.b):
        if frame >= p.length(n, row):
            continue
        step = p.frame(n, row, frame)  # its own inverse
        now = d[frame, row]
        out["d_x"][frame, row] = serial_product(now, w)
        out["d_w_ih"] += now[:, None] * x[frame, row]
        if step > 0:
            out["d_w_hh"] += now[:, None] * states[p.frame(n, row, step - 1), row]
        elif p.h0 is not None:
            out["d_w_hh"] += now[:, None] * decode(p.h0[n, row], p.dtype, real)
    return out


def tolerance(yardstick: np.ndarray, exact: np.ndarray, dtype: str) -> float:
    """Largest allowed error of an output held in `dtype`: 2 x the yardstick's, plus a few ulp."""
    if exact.size == 0:
        return 0.0
    scale = float(np.abs(exact).max())
    ulp = max(2.0 ** -MANTISSA_BITS[dtype] * scale, SMALLEST[dtype])
    return 2 * float(np.abs(yardstick.astype(exact.dtype) - exact).max()) + SLACK_ULP * ulp


def assert_close(name: str, got: np.ndarray, yardstick: np.ndarray, exact: np.ndarray, dtype: str) -> None:
    assert got.shape == exact.shape, name
    assert np.isfinite(got).all(), f"{name}: not finite, or never written"
    error = float(np.abs(got.astype(exact.dtype) - exact).max()) if exact.size else 0.0
    allowed = tolerance(yardstick, exact, dtype)
    assert error <= allowed, f"{name}: error {error:.3e} is above {allowed:.3e}"


def assert_same_bits(name: str, one: np.ndarray, other: np.ndarray) -> None:
    assert one.tobytes() == other.tobytes(), f"{name}: not bitwise equal"
