"""cpu_forward and cpu_backward against the numpy transcription, for every type and instruction set."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from cpu_runner import LARGE, run_backward, run_forward, run_gradients, type_of, values
from native_cases import (
    Problem,
    assert_close,
    assert_same_bits,
    compute_type,
    decode,
    encode,
    judge_type,
    make_problem,
    reference_backward,
    reference_forward,
    reference_gradients,
    with_input,
)

from lstmrep import _native
from lstmrep.plan import CPU_PAIR_ISAS

ISAS = _native.cpu_isas_usable()
HOSTILE_H = (1, 5, 17, 63, 64, 100)
HOSTILE_B = (1, 7, 17)
FEW_ROWS = [
    (n, t, b, h)
    for h in (1, 17, 63, 100, 530)
    for b, n, t in zip((1, 2, 3, 4), (3, 2, 1, 2), (4, 2, 3, 3), strict=True)
]
SHAPES = [(n, t, b, h) for h in HOSTILE_H for b, n, t in zip(HOSTILE_B, (3, 2, 1), (4, 3, 5), strict=True)]
TYPES = ("float32", "bfloat16", "float16", "float64")


@pytest.fixture(autouse=True)
def restore_isa() -> Iterator[None]:
    before = _native.cpu_isa()
    yield
    _native.set_cpu_isa(before)


def check_forward(p: Problem, **options: int) -> dict[str, np.ndarray]:
    got = run_forward(p, **options)
    exact = reference_forward(p, judge_type(p.dtype), rounded=False)
    yardstick = reference_forward(p, compute_type(p.dtype), rounded=True)
    for name, stored in got.items():
        assert_close(name, values(name, stored, p), yardstick[name], exact[name], type_of(name, p))
    return got


def check_backward(p: Problem, gates: np.ndarray, c: np.ndarray, **options: int) -> None:
    got = run_backward(p, gates, c, **options)
    exact = reference_backward(p, gates, c, judge_type(p.dtype))
    rounded = p.dtype == "bfloat16" and _native.cpu_isa() in CPU_PAIR_ISAS
    yardstick = reference_backward(p, gates, c, compute_type(p.dtype), recur_rounded=rounded)
    for name, stored in got.items():
        held = yardstick[name]
        if type_of(name, p) == p.dtype:
            held = decode(encode(held, p.dtype), p.dtype)
        assert_close(name, values(name, stored, p), held, exact[name], type_of(name, p))


def saved_arrays(p: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Saved gates (S) and c (C) as a forward pass in the kernel's precision leaves them."""
    out = reference_forward(p, compute_type(p.dtype), rounded=True)
    return encode(out["gates"], p.dtype), out["c"].astype(compute_type(p.dtype))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("cell", ["tanh", "relu"])
def test_against_the_transcription(isa: str, dtype: str, cell: str) -> None:
    _native.set_cpu_isa(isa)
    for seed, (n, t, b, h) in enumerate(SHAPES):
        for optional in ("all", "none", "random") if h in (1, 63) else ("random",):
            p = make_problem(seed, dtype, cell, n, t, b, h, optional=optional)
            for by_rows in (False, True):
                check_forward(p, alias=seed % 2 == 1, by_rows=by_rows)
                check_backward(p, *saved_arrays(p), alias=seed % 2 == 0, by_rows=by_rows)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("cell", ["tanh", "relu"])
def test_few_rows_with_the_weights_where_they_lie(isa: str, dtype: str, cell: str) -> None:
    _native.set_cpu_isa(isa)
    for seed, (n, t, b, h) in enumerate(FEW_ROWS):
        p = make_problem(seed, dtype, cell, n, t, b, h, optional="all" if seed % 2 else "random")
        check_forward(p, alias=seed % 2 == 1, packed=False)
        check_backward(p, *saved_arrays(p), alias=seed % 2 == 0, packed=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("b", [1, 3])
def test_more_units_than_a_tile_of_the_stream(dtype: str, b: int) -> None:
    p = make_problem(6, dtype, "tanh", 1, 2, b, 1100, optional="all")
    check_forward(p, packed=False)
    for threads in (1, 2):
        check_backward(p, *saved_arrays(p), packed=False, threads=threads)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", TYPES)
def test_the_input_share_formed_in_the_call(isa: str, dtype: str) -> None:
    """Several blocks of steps with a shorter last one, features that fill no vector, lengths, reversed recurrences."""
    _native.set_cpu_isa(isa)
    shapes = (2, 70, 1, 17, 1), (1, 9, 7, 5, 33), (2, 5, 17, 63, 64), (3, 3, 3, 16, 530), (1, 2, 70, 40, 7)
    for seed, (n, t, b, h, features) in enumerate(shapes):
        p = make_problem(seed, dtype, "tanh", n, t, b, h, optional="all" if seed % 2 else "random")
        p = with_input(p, seed, features, shared=seed % 3 != 2, batch_first=seed % 2 == 1)
        first = check_forward(p, threads=1)
        for how in ({"threads": 2}, {"threads": 5}, {"by_rows": True}, {"threads": 5, "by_rows": True}):
            again = run_forward(p, **how)
            for name in first:
                assert_same_bits(f"{name}, {how}", first[name], again[name])
        if b <= 4:
            check_forward(p, packed=False)


# N, T, B, H, I: one row of one step, an odd number of rows, more rows than are added at once, more gates and columns
# than a thread's sums hold, no vector filled, rows of gate gradients too long to be read where they lie, gate gradients
# that stay packed for many columns, and too many for that.
GRADIENT_SHAPES = (
    (1, 1, 1, 1, 1),
    (2, 9, 7, 5, 33),
    (1, 70, 4, 17, 3),
    (2, 5, 53, 40, 90),
    (1, 3, 3, 150, 300),
    (1, 2, 2, 20, 530),
    (1, 2, 33, 520, 20),
    (1, 3, 67, 70, 300),
    (1, 3, 1400, 3, 260),
)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", TYPES)
def test_gradients_of_the_input_and_the_matrices(isa: str, dtype: str) -> None:
    _native.set_cpu_isa(isa)
    for seed, (n, t, b, h, features) in enumerate(GRADIENT_SHAPES):
        p = make_problem(seed, dtype, "tanh", n, t, b, h, optional="all" if seed % 2 else "random")
        p = with_input(p, seed, features, shared=seed % 3 != 2, batch_first=seed % 2 == 1)
        forward = run_forward(p)
        d_gates = run_backward(p, forward["gates"], forward["c"])["d_gates"]
        for k in range(n):
            exact = reference_gradients(p, k, d_gates, forward["h"], judge_type(dtype))
            yardstick = reference_gradients(p, k, d_gates, forward["h"], compute_type(dtype))
            got = run_gradients(p, k, d_gates, forward["h"], threads=1)
            for name, stored in got.items():
                held = decode(encode(yardstick[name], dtype), dtype)
                assert_close(name, values(name, stored, p), held, exact[name], dtype)
            for threads in (2, 3, 5):
                for name, stored in run_gradients(p, k, d_gates, forward["h"], threads).items():
                    assert_same_bits(f"{name}, {threads} threads", got[name], stored)
            for name in LARGE:
                alone = run_gradients(p, k, d_gates, forward["h"], outputs=(name,))
                assert_same_bits(f"{name} alone", got[name], alone[name])


@pytest.mark.parametrize("isa", [ISAS[0], ISAS[-1]])
@pytest.mark.parametrize(("t", "b"), [(2, 3), (8, 50)])
def test_gradients_of_many_columns(t: int, b: int, isa: str) -> None:
    """Of few rows, whose threads own columns, and of more, with more columns than are packed at once."""
    _native.set_cpu_isa(isa)
    p = with_input(make_problem(3, "float32", "tanh", 1, t, b, 150, optional="all"), 3, 7100, shared=True)
    forward = run_forward(p)
    d_gates = run_backward(p, forward["gates"], forward["c"])["d_gates"]
    exact = reference_gradients(p, 0, d_gates, forward["h"], np.float64)["d_x"]
    yardstick = reference_gradients(p, 0, d_gates, forward["h"], np.float32)["d_x"]
    one, two = (run_gradients(p, 0, d_gates, forward["h"], threads, outputs=("d_x",))["d_x"] for threads in (1, 2))
    assert_close("d_x", one, yardstick, exact, "float32")
    assert_same_bits("d_x", one, two)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", TYPES)
def test_gradients_read_nothing_beyond_a_length(isa: str, dtype: str) -> None:
    _native.set_cpu_isa(isa)
    p = with_input(make_problem(2, dtype, "tanh", 2, 6, 5, 17, optional="all"), 2, 9, shared=True)
    p.lengths = np.array([[0, 1, 3, 6, 9], [2, -4, 6, 5, 0]], dtype=np.int32)
    p.reverse = [False, True]
    forward = run_forward(p)
    d_gates = run_backward(p, forward["gates"], forward["c"])["d_gates"]
    assert p.x is not None
    for k in range(p.n):
        before = run_gradients(p, k, d_gates, forward["h"])
        behind = np.array([[frame >= p.length(k, b) for b in range(p.b)] for frame in range(p.t)])
        assert (before["d_x"][behind] == 0).all()
        x = p.x.copy()
        x[0, behind] = encode(np.float32("nan"), dtype)
        for name, stored in run_gradients(replace(p, x=x), k, d_gates, forward["h"]).items():
            assert_same_bits(name, before[name], stored)


@pytest.mark.parametrize("isa", ISAS)
def test_gradients_of_a_shared_input_are_added(isa: str) -> None:
    _native.set_cpu_isa(isa)
    p = with_input(make_problem(4, "float32", "tanh", 2, 9, 7, 33, optional="none"), 4, 75, shared=True)
    forward = run_forward(p)
    d_gates = run_backward(p, forward["gates"], forward["c"])["d_gates"]
    first, second = (run_gradients(p, k, d_gates, forward["h"])["d_x"] for k in range(2))
    both = run_gradients(p, 1, d_gates, forward["h"], onto=first)["d_x"]
    assert_same_bits("d_x", both, first + second)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("t", "b"), [(0, 3), (4, 0)])
def test_gradients_of_no_frames_are_zero(dtype: str, t: int, b: int) -> None:
    p = with_input(make_problem(1, dtype, "tanh", 1, t, b, 17, optional="all"), 1, 5, shared=True)
    empty = encode(np.zeros((1, t, b, 68)), dtype), encode(np.zeros((1, t, b, 17)), dtype)
    made = run_gradients(p, 0, *empty)
    assert made["d_x"].size == 0
    assert not made["d_w_ih"].any()
    assert not made["d_w_hh"].any()


def test_an_input_and_its_share_are_refused_together() -> None:
    p = with_input(make_problem(0, "float32", "tanh", 1, 2, 5, 3), 0, 4, shared=True)
    p.gates_x = np.zeros((1, 2, 5, 12), np.float32)
    with pytest.raises(ValueError, match="gates_x must be null where x is given"):
        run_forward(p)


def test_many_rows_without_a_pack_are_refused() -> None:
    p = make_problem(0, "float32", "tanh", 1, 2, 5, 3)
    with pytest.raises(ValueError, match="packed: false for B = 5, at most 4 rows"):
        run_forward(p, packed=False)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("packed", [True, False])
def test_neither_threads_nor_what_they_own_change_a_bit(isa: str, dtype: str, packed: bool) -> None:
    _native.set_cpu_isa(isa)
    many, few = ((3, 4, 7, 100), (1, 10, 33, 63), (2, 2, 1, 5), (1, 3, 9, 17)), ((3, 4, 3, 100), (2, 2, 1, 5))
    for n, t, b, h in many if packed else few:
        p = make_problem(7, dtype, "tanh", n, t, b, h, optional="all")
        first = run_forward(p, threads=1, packed=packed)
        back = run_backward(p, first["gates"], first["c"], threads=1, packed=packed)
        for threads in (1, 2, 5):
            for by_rows in (False, True)[: 1 + packed]:
                how = {"threads": threads, "packed": packed, "by_rows": by_rows}
                again = run_forward(p, **how)
                for name in first:
                    assert_same_bits(f"{name}, {how}", first[name], again[name])
                again = run_backward(p, first["gates"], first["c"], **how)
                for name in back:
                    assert_same_bits(f"{name}, {how}", back[name], again[name])


@pytest.mark.parametrize("dtype", TYPES)
def test_without_saving_gives_the_same_outputs(dtype: str) -> None:
    p = make_problem(3, dtype, "tanh", 2, 5, 7, 63, optional="all")
    saved, plain = run_forward(p), run_forward(p, save=False)
    assert set(plain) == {"h", "h_n", "c_n"}
    for name in plain:
        assert_same_bits(name, saved[name], plain[name])
    gates, c = saved["gates"], saved["c"]
    full, few = run_backward(p, gates, c), run_backward(p, gates, c, optional=False)
    assert_same_bits("d_gates", full["d_gates"], few["d_gates"])


@pytest.mark.parametrize("dtype", TYPES)
def test_depth_and_rows_beyond_one_block(dtype: str) -> None:
    """Sums over more than one depth block (4H and H above 512), more rows than one register tile."""
    p = make_problem(5, dtype, "tanh", 1, 2, 7, 530, optional="all")
    check_forward(p)
    check_backward(p, *saved_arrays(p))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_biases_and_peepholes_of_the_io_type(isa: str, dtype: str) -> None:
    """As if they came in the compute type; their gradients are those, rounded."""
    _native.set_cpu_isa(isa)
    p = make_problem(9, dtype, "tanh", 2, 4, 7, 37, optional="all")
    assert p.bias is not None
    assert p.peephole is not None
    p.bias, p.peephole = (decode(encode(v, dtype), dtype, np.float32) for v in (p.bias, p.peephole))
    wide, narrow = run_forward(p), run_forward(p, vectors_as_io=True)
    for name, stored in wide.items():
        assert_same_bits(name, stored, narrow[name])
    saved = wide["gates"], wide["c"]
    wide, narrow = run_backward(p, *saved), run_backward(p, *saved, vectors_as_io=True)
    for name, stored in wide.items():
        assert_same_bits(name, encode(stored, dtype) if name in ("d_bias", "d_peephole") else stored, narrow[name])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("as_io", [False, True])
def test_two_biases_are_added(isa: str, dtype: str, as_io: bool) -> None:
    """To the bits of their sum, rounded to the type that they come in."""
    _native.set_cpu_isa(isa)
    p = make_problem(10, dtype, "tanh", 2, 4, 7, 37, optional="all")
    assert p.bias is not None
    if as_io:
        p.bias = decode(encode(p.bias, dtype), dtype, compute_type(dtype))
    first = p.bias * compute_type(dtype)(0.25)  # exact, in each type; what is left of the sum is not always
    second = p.bias - first if not as_io else decode(encode(p.bias * 3, dtype), dtype, compute_type(dtype))
    total = first + second
    both = run_forward(replace(p, bias=first), vectors_as_io=as_io, second_bias=second)
    one = run_forward(
        replace(p, bias=decode(encode(total, dtype), dtype, compute_type(dtype)) if as_io else total),
        vectors_as_io=as_io,
    )
    assert not np.array_equal(one["h"], run_forward(replace(p, bias=first), vectors_as_io=as_io)["h"])
    for name, stored in one.items():
        assert_same_bits(name, stored, both[name])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("t", "b"), [(0, 3), (4, 0), (0, 0)])
def test_no_steps_or_no_rows(dtype: str, t: int, b: int) -> None:
    p = make_problem(1, dtype, "tanh", 2, t, b, 17, optional="all")
    for packed in (True, False):
        check_forward(p, packed=packed)
        check_backward(p, *saved_arrays(p), packed=packed)


@pytest.mark.parametrize("isa", ISAS)
def test_beyond_a_length_outputs_are_zero_and_gradients_ignored(isa: str) -> None:
    _native.set_cpu_isa(isa)
    p = make_problem(2, "float32", "tanh", 2, 6, 5, 17, optional="all")
    p.lengths = np.array([[0, 1, 3, 6, 9], [2, -4, 6, 5, 0]], dtype=np.int32)
    p.reverse = [False, True]
    assert p.gates_x is not None
    assert p.grad_h is not None
    behind = np.zeros((p.n, p.t, p.b), dtype=bool)
    for n, b in np.ndindex(p.n, p.b):
        behind[n, p.length(n, b) :, b] = True
    forward = check_forward(p)
    back = run_backward(p, forward["gates"], forward["c"])
    for name, stored in {**forward, **back}.items():
        if stored.shape[:3] == behind.shape:
            assert (stored[behind] == 0).all(), name
    p.gates_x[behind] = np.nan
    p.grad_h[behind] = np.nan
    for name, stored in {**run_forward(p), **run_backward(p, forward["gates"], forward["c"])}.items():
        assert_same_bits(name, stored, {**forward, **back}[name])


@pytest.mark.parametrize("cell", ["tanh", "relu"])
def test_float64_gradients_are_the_derivative_of_forward(cell: str) -> None:
    """Directional derivative of a weighted sum of all outputs, by central differences."""
    p = make_problem(11, "float64", cell, 2, 4, 3, 9, optional="all")
    rng = np.random.default_rng(0)
    assert p.grad_h is not None
    assert p.grad_h_n is not None
    assert p.grad_c_n is not None

    def objective(shift: float, direction: dict[str, np.ndarray]) -> float:
        arrays = {name: getattr(p, name) + shift * d for name, d in direction.items()}
        moved = Problem(p.dtype, p.cell, p.n, p.t, p.b, p.h, p.reverse, p.w_hh, lengths=p.lengths, **arrays)
        out = run_forward(moved)
        return float((out["h"] * p.grad_h).sum() + (out["h_n"] * p.grad_h_n).sum() + (out["c_n"] * p.grad_c_n).sum())

    forward = run_forward(p)
    gradients = run_backward(p, forward["gates"], forward["c"])
    pairs = {"gates_x": "d_gates", "bias": "d_bias", "peephole": "d_peephole", "h0": "d_h0", "c0": "d_c0"}
    direction = {name: rng.standard_normal(getattr(p, name).shape) for name in pairs}
    analytic = sum(float((direction[name] * gradients[d]).sum()) for name, d in pairs.items())
    # Central differences with two steps: their difference measures the method's own error.
    step = np.finfo(np.float64).eps ** (1 / 3)
    numeric, wider = ((objective(s, direction) - objective(-s, direction)) / (2 * s) for s in (step, 2 * step))
    assert abs(analytic - numeric) <= abs(numeric - wider) + step * abs(numeric)


def test_two_host_threads_at_once() -> None:
    problems = [make_problem(seed, "float32", "tanh", 2, 20, 7, 63, optional="all") for seed in (0, 1)]
    alone = [run_forward(p) for p in problems]
    together: list[dict[str, np.ndarray]] = [{}, {}]

    def work(j: int) -> None:
        for _ in range(5):
            together[j] = run_forward(problems[j])

    threads = [threading.Thread(target=work, args=(j,)) for j in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        for name in one:
            assert_same_bits(name, one[name], other[name])


def test_the_comparison_can_fail() -> None:
    p = make_problem(4, "float32", "tanh", 1, 3, 2, 17, optional="all")
    got = values("h", run_forward(p)["h"], p)
    exact = reference_forward(p, np.float64, rounded=False)["h"]
    yardstick = reference_forward(p, np.float32, rounded=True)["h"]
    assert_close("h", got, yardstick, exact, "float32")
    wrong = got.copy()
    wrong[0, 0, 0, 0] += 1e-4
    with pytest.raises(AssertionError, match="is above"):
        assert_close("h", wrong, yardstick, exact, "float32")
    wrong[0, 0, 0, 0] = np.nan
    with pytest.raises(AssertionError, match="not finite"):
        assert_close("h", wrong, yardstick, exact, "float32")
