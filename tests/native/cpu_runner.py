"""Calls lstmrep._native.cpu_forward and cpu_backward on numpy problems, with poisoned, guarded buffers."""

from __future__ import annotations

import numpy as np
from native_cases import (
    CELLS,
    DTYPES,
    Buffer,
    Problem,
    compute_type,
    decode,
    encode,
    storage_type,
)

from lstmrep import _native

LARGE = ("d_x", "d_w_ih", "d_w_hh")
IN_S = ("h", "h_n", "gates", "d_gates", "d_h0", *LARGE)  # outputs of the I/O type, the others are of the compute type


class Arena:
    """Buffers of one call; `check` looks at every guard band, and at inputs that must not change."""

    def __init__(self) -> None:
        self._buffers: list[Buffer] = []
        self._inputs: list[tuple[Buffer, bytes]] = []

    def out(self, shape: tuple[int, ...], kind: type) -> Buffer:
        self._buffers.append(Buffer(shape, kind))
        return self._buffers[-1]

    def put(self, values: np.ndarray | None) -> int:
        """Address of a guarded copy of an input; 0 for None."""
        if values is None:
            return 0
        buffer = Buffer(values.shape, values.dtype.type, values)
        self._buffers.append(buffer)
        self._inputs.append((buffer, buffer.array.tobytes()))
        return buffer.address

    def rows(self, vectors: np.ndarray | None, dtype: str | bool) -> list[int]:
        """Addresses of copies of all rows of some vectors, each by itself, in ``dtype`` where one is given."""
        if vectors is None:
            return []
        held = encode(vectors, dtype) if isinstance(dtype, str) else vectors
        return [self.put(row) for row in held.reshape(-1, vectors.shape[-1])]

    def check(self) -> None:
        for buffer in self._buffers:
            buffer.check_guards()
        for buffer, before in self._inputs:
            assert buffer.array.tobytes() == before, "an input was written to"


def workspace(
    arena: Arena, p: Problem, threads: int, packed: bool, by_rows: bool, backward: bool, features: int = 0
) -> Buffer:
    sizes = p.n, p.t, p.b, p.h, features
    size = _native.cpu_workspace_bytes(DTYPES[p.dtype], *sizes, threads, packed, by_rows, backward)
    return arena.out((size,), np.uint8)  # starts as 0xFF: NaN in every float type


def run_forward(
    p: Problem,
    threads: int = 2,
    *,
    save: bool = True,
    alias: bool = False,
    packed: bool = True,
    by_rows: bool = False,
    vectors_as_io: bool = False,
    second_bias: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Outputs of cpu_forward as stored arrays; alias: gates is written over gates_x; second_bias: added to p.bias."""
    arena = Arena()
    features, strides, x = 0, (0, 0, 0), 0
    if p.x is not None:
        features = p.x.shape[-1]
        along_n, along_t, along_b, _ = (stride // p.x.itemsize for stride in p.x.strides)
        strides = (along_n if len(p.x) > 1 else 0, along_t, along_b)
        batch_first = along_t < along_b  # the guarded copy is laid out like x
        x = arena.put(np.ascontiguousarray(p.x.transpose(0, 2, 1, 3) if batch_first else p.x))
    s, c = storage_type(p.dtype), compute_type(p.dtype)
    n, t, b, h = p.n, p.t, p.b, p.h
    out = {
        "h": arena.out((n, t, b, h), s),
        "h_n": arena.out((n, b, h), s),
        "c_n": arena.out((n, b, h), c),
    }
    if save:
        out["gates"] = arena.out((n, t, b, 4 * h), s)
        out["c"] = arena.out((n, t, b, h), c)
    if alias and p.gates_x is not None:
        out["gates"].array[...] = p.gates_x
        gates_x = out["gates"].address
    else:
        gates_x = arena.put(p.gates_x)
    bias = p.bias
    if bias is not None and second_bias is not None:
        bias = np.stack([bias, second_bias], axis=1)  # both of a recurrence side by side
    _native.cpu_forward(
        dtype=DTYPES[p.dtype],
        cell=CELLS[p.cell],
        threads=threads,
        packed=packed,
        by_rows=by_rows,
        N=n,
        T=t,
        B=b,
        H=h,
        I=features,
        gates_x=gates_x,
        x=x,
        x_strides=strides,
        w_ih=[arena.put(w) for w in p.w_ih],
        vectors_as_io=vectors_as_io,
        bias=arena.rows(bias, vectors_as_io and p.dtype),
        w_hh=[arena.put(w) for w in p.w_hh],
        packs=[],
        peephole=arena.rows(p.peephole, vectors_as_io and p.dtype),
        h0=arena.put(p.h0),
        c0=arena.put(p.c0),
        lengths=arena.put(p.lengths),
        reverse=p.reverse,
        h=out["h"].address,
        h_n=out["h_n"].address,
        c_n=out["c_n"].address,
        gates=out["gates"].address if save else 0,
        c=out["c"].address if save else 0,
        workspace=workspace(arena, p, threads, packed, by_rows, False, features).address,
    )
    arena.check()
    return {name: buffer.array.copy() for name, buffer in out.items()}


def run_backward(
    p: Problem,
    gates: np.ndarray,
    c: np.ndarray,
    threads: int = 2,
    *,
    optional: bool = True,
    alias: bool = False,
    packed: bool = True,
    by_rows: bool = False,
    vectors_as_io: bool = False,
) -> dict[str, np.ndarray]:
    """Outputs of cpu_backward as stored arrays; alias: d_gates is written over gates."""
    arena = Arena()
    s, real = storage_type(p.dtype), compute_type(p.dtype)
    n, t, b, h = p.n, p.t, p.b, p.h
    out = {"d_gates": arena.out((n, t, b, 4 * h), s)}
    if optional:
        out["d_h0"] = arena.out((n, b, h), s)
        out["d_c0"] = arena.out((n, b, h), real)
        out["d_bias"] = arena.out((n, 4 * h), s if vectors_as_io else real)
        out["d_peephole"] = arena.out((n, 3, h), s if vectors_as_io else real)
    if alias:
        out["d_gates"].array[...] = gates

    def address(name: str) -> int:
        return out[name].address if name in out else 0

    sums = address("d_peephole")
    _native.cpu_backward(
        dtype=DTYPES[p.dtype],
        cell=CELLS[p.cell],
        threads=threads,
        packed=packed,
        by_rows=by_rows,
        N=n,
        T=t,
        B=b,
        H=h,
        w_hh=[arena.put(w) for w in p.w_hh],
        vectors_as_io=vectors_as_io,
        peephole=arena.rows(p.peephole, vectors_as_io and p.dtype),
        c0=arena.put(p.c0),
        lengths=arena.put(p.lengths),
        reverse=p.reverse,
        gates=address("d_gates") if alias else arena.put(gates),
        c=arena.put(c),
        grad_h=arena.put(p.grad_h),
        grad_h_n=arena.put(p.grad_h_n),
        grad_c_n=arena.put(p.grad_c_n),
        d_gates=address("d_gates"),
        d_h0=address("d_h0"),
        d_c0=address("d_c0"),
        d_bias=address("d_bias"),
        d_peephole=[sums + k * h * out["d_peephole"].array.itemsize for k in range(3 * n)] if sums else [],
        workspace=workspace(arena, p, threads, packed, by_rows, True).address,
    )
    arena.check()
    return {name: buffer.array.copy() for name, buffer in out.items()}


def run_gradients(
    p: Problem,
    n: int,
    d_gates: np.ndarray,
    h: np.ndarray,
    threads: int = 2,
    *,
    outputs: tuple[str, ...] = LARGE,
    onto: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Outputs of cpu_gradients for recurrence n as stored arrays, d_x added `onto` some. p.x may be batch first."""
    assert p.x is not None
    arena = Arena()
    s, features = storage_type(p.dtype), p.x.shape[-1]
    x = p.x[n % len(p.x)]
    strides = tuple(stride // x.itemsize for stride in x.strides[:2])
    shapes = {"d_x": (p.t, p.b, features), "d_w_ih": (4 * p.h, features), "d_w_hh": (4 * p.h, p.h)}
    out = {name: arena.out(shapes[name], s) for name in outputs}
    if onto is not None:
        out["d_x"].array[...] = onto
    sizes = DTYPES[p.dtype], p.t, p.b, p.h, features, threads
    size = _native.cpu_gradients_workspace_bytes(*sizes, "d_x" in out)
    _native.cpu_gradients(
        *sizes,
        d_gates=arena.put(d_gates[n]),
        x=arena.put(np.ascontiguousarray(x.transpose(1, 0, 2) if strides[0] < strides[1] else x)),
        x_strides=strides,
        w_ih=arena.put(p.w_ih[n]),
        h=arena.put(h[n]),
        h0=arena.put(None if p.h0 is None else p.h0[n]),
        lengths=arena.put(None if p.lengths is None else p.lengths[n]),
        reverse=p.reverse[n],
        add=onto is not None,
        workspace=arena.out((size,), np.uint8).address,
        **{name: out[name].address if name in out else 0 for name in LARGE},
    )
    arena.check()
    return {name: buffer.array.copy() for name, buffer in out.items()}


def values(name: str, stored: np.ndarray, p: Problem) -> np.ndarray:
    """Stored output -> float64 values, by the type that output has."""
    return decode(stored, p.dtype) if name in IN_S else stored.astype(np.float64)


def type_of(name: str, p: Problem) -> str:
    """The dtype an output is held in."""
    if name in IN_S:
        return p.dtype
    return "float64" if p.dtype == "float64" else "float32"
