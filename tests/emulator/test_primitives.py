"""The primitives of csrc/cuda/primitives on the emulated device, against numpy transcriptions of the PTX ISA.

Small integers are exact in every format, so that results are compared bit for bit. That the inline PTX beside each
emulation is the instruction meant is looked up in what nvcc makes of it (test_primitives_ptx.py).
"""

from __future__ import annotations

import re

import emulated
import numpy as np
import pytest
from primitives import SEEDS, aligned, launch

pytestmark = pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "the emulator can be built")

POISON = 0xFFFFFFFF


def bfloat16(x: np.ndarray) -> np.ndarray:
    """Bits of numbers that bfloat16 holds exactly."""
    bits = x.astype(np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype(np.uint16)


def float16(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).view(np.uint16)


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-8, 9, shape)


# --- mma: the matrices are dealt out to the lanes element by element, as the PTX ISA's tables have it ---


def deal_16_bit(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mma.m16n8k16, a [16, 16] and b [16, 8] as bits -> elements a_i [32, 8] and b_i [32, 4] of each lane."""
    dealt_a, dealt_b = aligned((32, 8), np.uint16), aligned((32, 4), np.uint16)
    for lane in range(32):
        group, thread = lane >> 2, lane % 4
        for i in range(8):
            row = group if i in (0, 1, 4, 5) else group + 8
            column = thread * 2 + (i & 1) + (0 if i < 4 else 8)
            dealt_a[lane, i] = a[row, column]
        for i in range(4):
            row = thread * 2 + (i & 1) + (0 if i < 2 else 8)
            dealt_b[lane, i] = b[row, group]
    return dealt_a, dealt_b


def deal_tf32(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mma.m16n8k8, a [16, 8] and b [8, 8] -> a_i [32, 4] and b_i [32, 2] of each lane."""
    dealt_a, dealt_b = aligned((32, 4), np.float32), aligned((32, 2), np.float32)
    for lane in range(32):
        group, thread = lane >> 2, lane % 4
        for i in range(4):
            dealt_a[lane, i] = a[group if i in (0, 2) else group + 8, thread if i < 2 else thread + 4]
        for i in range(2):
            dealt_b[lane, i] = b[thread if i == 0 else thread + 4, group]
    return dealt_a, dealt_b


def places_of_d() -> list[tuple[int, int, int, int]]:
    """(lane, i, row, column) of the accumulators, the same in all three shapes."""
    return [
        (lane, i, (lane >> 2) if i < 2 else (lane >> 2) + 8, lane % 4 * 2 + (i & 1))
        for lane in range(32)
        for i in range(4)
    ]


@pytest.mark.parametrize("name", ["mma_bfloat16", "mma_float16", "mma_tf32"])
@pytest.mark.parametrize("seed", SEEDS)
def test_mma_fragments(name, seed):
    rng = np.random.default_rng(seed)
    k = 8 if name == "mma_tf32" else 16
    a, b, c = integers(rng, 16, k), integers(rng, k, 8), integers(rng, 16, 8)
    if name == "mma_tf32":
        dealt_a, dealt_b = deal_tf32(a, b)
    else:
        bits = bfloat16 if name == "mma_bfloat16" else float16
        dealt_a, dealt_b = deal_16_bit(bits(a), bits(b))
    d = aligned((32, 4), np.float32)
    for lane, i, row, column in places_of_d():
        d[lane, i] = c[row, column]
    assert launch(name, dealt_a, dealt_b, d, seed=seed) == ""
    got = np.zeros((16, 8))
    for lane, i, row, column in places_of_d():
        got[row, column] = d[lane, i]
    np.testing.assert_array_equal(got, a @ b + c)


@pytest.mark.parametrize("name", ["mma_bfloat16", "mma_float16", "mma_tf32"])
def test_every_element_of_a_and_b_has_its_place(name):
    """One 1 in A and one in B: a product shows where each lies, also where random matrices would agree by chance."""
    k = 8 if name == "mma_tf32" else 16
    for row in range(16):
        for j in range(k):
            a, b = np.zeros((16, k), int), np.zeros((k, 8), int)
            a[row, j] = 1
            b[j] = np.arange(1, 9)
            if name == "mma_tf32":
                dealt_a, dealt_b = deal_tf32(a, b)
            else:
                bits = bfloat16 if name == "mma_bfloat16" else float16
                dealt_a, dealt_b = deal_16_bit(bits(a), bits(b))
            d = aligned((32, 4), np.float32)
            assert launch(name, dealt_a, dealt_b, d) == ""
            want = a @ b
            assert all(d[lane, i] == want[r, c] for lane, i, r, c in places_of_d()), (row, j)


# --- ldmatrix ---


def loaded_words(rows: np.ndarray, points_at: np.ndarray, matrices: int, trans: bool) -> np.ndarray:
    """rows [32, 8], points_at [32]: the row each lane points at -> words [32, 4] of each lane, 0 where none."""
    words = np.zeros((32, 4), np.uint32)
    for m in range(matrices):
        matrix = np.array([rows[points_at[8 * m + r]] for r in range(8)])
        matrix = matrix.T if trans else matrix
        for lane in range(32):
            low, high = (int(matrix[lane // 4, 2 * (lane % 4) + e]) for e in (0, 1))
            words[lane, m] = low | high << 16
    return words


FORMS = [("ldmatrix_two", 2, False), ("ldmatrix_four", 4, False), ("ldmatrix_four_trans", 4, True)]


@pytest.mark.parametrize(("name", "matrices", "trans"), FORMS)
@pytest.mark.parametrize("seed", SEEDS)
def test_ldmatrix(name, matrices, trans, seed):
    rows = aligned((32, 8), np.uint16)
    rows[:] = np.arange(256).reshape(32, 8)  # every element tells where it comes from
    points_at = np.random.default_rng(seed).permutation(32).astype(np.uint32)
    got = aligned((32, 4), np.uint32, 0xFF)
    assert launch(name, rows, points_at, got, shared=512, seed=seed) == ""
    np.testing.assert_array_equal(got, loaded_words(rows, points_at, matrices, trans))


@pytest.mark.parametrize(("name", "matrices", "trans"), FORMS)
def test_ldmatrix_refuses_rows_off_their_alignment(name, matrices, trans):
    rows, points_at = aligned((32, 8), np.uint16), np.zeros(32, np.uint32)
    got = aligned((32, 4), np.uint32)
    error = launch(name, rows, points_at, got, numbers=(8,), shared=512)
    assert re.search(r"ldmatrix off its alignment \[block \(0, 0, 0\), thread \(\d+, 0, 0\)\]$", error)


def test_ldmatrix_x2_looks_at_sixteen_addresses_only():
    rows, got = aligned((32, 8), np.uint16), aligned((32, 4), np.uint32)
    points_at = np.where(np.arange(32) < 16, np.arange(32), 1 << 20).astype(np.uint32)
    assert launch("ldmatrix_two", rows, points_at, got, shared=512) == ""
    assert "ldmatrix outside shared memory" in launch("ldmatrix_four", rows, points_at, got, shared=512)


@pytest.mark.parametrize("name", ["product", "product_trans"])
@pytest.mark.parametrize("seed", SEEDS)
def test_ldmatrix_and_mma_multiply(name, seed):
    rng = np.random.default_rng(seed)
    a, b = integers(rng, 16, 32), integers(rng, 8, 32)
    stored_a = aligned((32, 16) if name == "product_trans" else (16, 32), np.uint16)
    stored_a[:] = bfloat16(a.T if name == "product_trans" else a)
    stored_b = aligned((8, 32), np.uint16)
    stored_b[:] = bfloat16(b)
    d = aligned((16, 8), np.float32, 0xFF)
    assert launch(name, stored_a, stored_b, d, shared=8 * 80 + 32 * 80, seed=seed) == ""
    np.testing.assert_array_equal(d, a @ b.T)


# --- rounding to TF32 ---


def tf32_model(x: np.ndarray) -> np.ndarray:
    """The nearest number of 11 significant bits, ties away from zero, by exact arithmetic in float64."""
    wide = x.astype(np.float64)
    finite = np.isfinite(wide)
    _, exponent = np.frexp(np.where(finite, wide, 0))
    unit = np.exp2(np.maximum(exponent, -125) - 11.0)  # subnormals share the spacing of the least exponent
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = np.copysign(np.floor(np.abs(wide) / unit + 0.5) * unit, wide)
        return np.where(finite, rounded, wide).astype(np.float32)


def test_round_to_tf32():
    rng = np.random.default_rng(0)
    random = rng.integers(0, 1 << 32, 4000, dtype=np.uint32)
    random = random[np.isfinite(random.view(np.float32))]
    ties = (random & ~np.uint32(0x1FFF)) | np.uint32(0x1000)
    special = [0, 0x80000000, 0x7F800000, 0xFF800000, 1, 0x80000001, 0x0FFF, 0x1000, 0x1001, 0x2FFF, 0x3000]
    special += [0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F7FEFFF, 0x7F7FF000, 0x3F800FFF, 0x3F801000, 0x3F7FF000]
    x = np.concatenate([random, ties, ties - 1, ties + 1, np.array(special, np.uint32)]).view(np.float32)
    got = np.empty_like(x)
    assert launch("round_tf32", x, got, numbers=(x.size,)) == ""
    assert not (got.view(np.uint32) & 0x1FFF).any()
    wrong = np.flatnonzero(got.view(np.uint32) != tf32_model(x).view(np.uint32))
    assert wrong.size == 0, [hex(b) for b in x.view(np.uint32)[wrong[:4]]]


def test_round_to_tf32_keeps_nan():
    # a NaN whose payload lies in the 13 bits that are cut off must not become infinity
    x = np.array([0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0x7F802000, 0x7F800001, 0xFF801FFF], np.uint32).view(np.float32)
    got = np.empty_like(x)
    assert launch("round_tf32", x, got, numbers=(x.size,)) == ""
    assert np.isnan(got).all()


# --- loads of 16 bytes, coherent loads ---


def test_vector_load_and_store():
    x, got = aligned((32, 4), np.uint32), aligned((32, 4), np.uint32, 0xFF)
    x[:] = np.random.default_rng(0).integers(0, 1 << 32, x.shape)
    assert launch("vector", x, got) == ""
    np.testing.assert_array_equal(got, x)


@pytest.mark.parametrize("off", [1, 4, 8])
def test_vector_refuses_addresses_off_their_alignment(off):
    x, got = aligned((32, 4), np.uint32), aligned((32, 4), np.uint32)
    assert "a 16-byte load off its alignment" in launch("vector", x, got, numbers=(off, 0))
    assert "a 16-byte store off its alignment" in launch("vector", x, got, numbers=(0, off))


def test_coherent_loads():
    x, got = aligned(8, np.uint32), aligned(5, np.uint32, 0xFF)
    x[:] = np.arange(100, 108)
    assert launch("coherent", x, got, numbers=(16, 8), threads=1) == ""
    assert got.tolist() == [104, 105, 106, 107, 103]
    assert "a 16-byte load off its alignment" in launch("coherent", x, got, numbers=(4, 0), threads=1)
    assert "a 4-byte load off its alignment" in launch("coherent", x, got, numbers=(0, 2), threads=1)


# --- shuffles ---


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bits", [1, 2, 7, 16, 31])
def test_shuffles(seed, bits):
    x = np.random.default_rng(seed).normal(size=32).astype(np.float32)
    warp, quad, other = (np.zeros(32, np.float32) for _ in range(3))
    assert launch("shuffles", x, warp, quad, other, numbers=(bits,), seed=seed) == ""
    np.testing.assert_array_equal(other, x[np.arange(32) ^ bits])
    sums = [x]
    for distance in (1, 2, 4, 8, 16):  # in float32, in the order that the header promises
        sums.append(sums[-1] + sums[-1][np.arange(32) ^ distance])
    np.testing.assert_array_equal(quad, sums[2])
    np.testing.assert_array_equal(warp, sums[5])
    assert np.unique(warp).size == 1


# --- cp.async ---


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "size"), [("copies_16", 16), ("copies_4", 4)])
def test_copies_and_zeros_after_them(name, size, seed):
    for filled in range(size + 1):
        x, got = aligned((32, size), np.uint8), aligned((32, size), np.uint8, 0xEE)
        x[:] = np.random.default_rng(seed).integers(1, 256, x.shape)
        assert launch(name, x, got, numbers=(filled,), shared=32 * size, seed=seed) == ""
        np.testing.assert_array_equal(got[:, :filled], x[:, :filled])
        assert not got[:, filled:].any()


def test_a_forgotten_wait_shows():
    x = aligned(4, np.uint32)
    x[:] = [1, 2, 3, 4]
    for seed in SEEDS:
        got = aligned(4, np.uint32)
        assert launch("copies_read_early", x, got, threads=1, shared=16, seed=seed) == ""
        assert got.tolist() == ([1, 2, 3, 4] if seed % 2 else [POISON] * 4)


def test_groups_arrive_in_order():
    x, got = aligned(3, np.uint32), aligned((3, 3), np.uint32)
    x[:] = [5, 6, 7]
    assert launch("copies_in_groups", x, got, threads=1, shared=16, seed=0) == ""
    assert got.tolist() == [[5, POISON, POISON], [5, 6, POISON], [5, 6, 7]]


def test_copies_refuse_what_the_hardware_would():
    x, got = aligned((32, 4), np.uint32), aligned((32, 4), np.uint32)
    for name, off, size in [("copies_16", 8, 16), ("copies_4", 2, 4)]:
        refusal = launch(name, x, got, numbers=(size, off, 0), shared=1024)
        assert "cp.async from an address that is not aligned [block (0, 0, 0), thread (0, 0, 0)]" in refusal
        assert "cp.async to an address that is not aligned" in launch(name, x, got, numbers=(size, 0, off), shared=1024)
        assert "cp.async of more bytes than it has" in launch(name, x, got, numbers=(size + 1,), shared=1024)
    assert "cp.async to an address outside shared memory" in launch("broken_copy_place", x, got, threads=1, shared=16)


def test_a_thread_may_not_end_with_a_copy_under_way():
    x = aligned(4, np.uint32)
    error = launch("copies_left_pending", x, threads=1, shared=16, seed=0)
    assert "a thread ends with cp.async copies that it never waited for [block (0, 0, 0)" in error
