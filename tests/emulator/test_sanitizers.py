"""The kernels under ThreadSanitizer and AddressSanitizer: no data race, no bad address, the plain build's bytes."""

from __future__ import annotations

import driver
import emulated
import pytest

# driver.cpp's arguments up to the seed. Narrow: one warp is partly empty, B is no multiple of the rows.
CASES = [
    "pointwise forward float32 40 3 4 2 1",
    "pointwise forward bfloat16 40 3 4 2 1",
    "pointwise backward float32 40 3 4 2 1",
    "pointwise backward float16 40 3 4 2 1",
    "resident forward bfloat16 40 3 4 2 2",
    "resident forward float16 40 5 4 2 4",
    "resident forward tf32 40 3 4 2 2",
    "resident forward float32 40 5 4 2 3",
    "resident backward bfloat16 40 3 4 2 2",
    "resident backward float16 40 5 4 2 4",
    "resident backward tf32 40 3 4 2 2",
    "resident backward float32 40 5 4 2 3",
    # Weights in shared memory too, the bfloat16 ones in the wide form and at a width no load of 16 bytes fits.
    "resident forward bfloat16 130 3 3 2 2",
    "resident forward tf32 72 3 3 2 2",
    "resident forward float32 68 5 3 2 3",
    "resident backward bfloat16 130 3 3 2 2",
    "resident backward tf32 72 3 3 2 2",
    "resident backward float32 68 5 3 2 3",
    # One CTA for a recurrence, so that only sums over recurrences are left.
    "resident backward bfloat16 20 2 3 3 2",
    # The width is no multiple of a tile; the three kinds of losses by T, heads of unequal length, several chunks.
    "frame_loss forward float32 70 5 3 2 1",
    "frame_loss forward bfloat16 33 4 4 2 1",
    "frame_loss forward float16 40 3 5 1 1",
    "frame_loss backward float32 70 5 3 2 1",
    "frame_loss backward bfloat16 33 4 4 2 1",
    "frame_loss backward float16 40 3 5 1 1",
    # Three chunks, two, one and two teams; then two panels of which one is streamed.
    "grid forward bfloat16 40 20 3 1 20",
    "grid forward float16 40 12 3 1 12",
    "grid forward float32 40 11 3 2 8",
    "grid forward tf32 70 3 3 1 3",
    "grid backward bfloat16 40 12 3 1 12",
    "grid backward float32 40 11 3 2 8",
    "grid backward float16 70 3 3 1 3",
]

pytestmark = pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "the emulator can be built")


@pytest.mark.parametrize("build", ["tsan", "asan"])
@pytest.mark.parametrize("arguments", CASES)
def test_silent_and_the_same_bytes(build, arguments):
    _, reason = driver.start(build)
    if reason:
        pytest.skip(reason)
    plain = driver.run("plain", driver.program("plain"), arguments, 0)
    assert (plain.code, plain.errors) == (0, "")
    assert plain.line.startswith(" ".join(arguments.split()[:3]))
    for seed in driver.SEEDS:
        assert driver.run("plain", driver.program("plain"), arguments, seed) == plain
        assert driver.run(build, driver.program(build), arguments, seed) == plain
