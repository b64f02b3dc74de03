"""The primitives under ThreadSanitizer and AddressSanitizer: silent where they are used well, a report where not.

Every CUDA thread is a thread of its own to ThreadSanitizer, so that a race shows in any order of execution.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import emulated
import pytest

SOURCE = Path(__file__).with_name("watched.cpp")
NOBODY = 0xFFFFFFFF
MESSAGE, ROUNDS = (2, 32, 0), (3, 32, 0)
# kernel, (blocks, threads, shared memory), numbers
SOUND = [
    ("product", (1, 32, 3200), ()),
    ("product_trans", (1, 32, 3200), ()),
    ("ldmatrix_four", (1, 32, 512), ()),
    ("shuffles", (1, 32, 0), (5,)),
    ("copies_16", (1, 64, 1024), (12,)),
    ("copies_4", (1, 64, 256), (3,)),
    ("message", MESSAGE, (0, 0)),
    ("message", MESSAGE, (1, 0)),
    ("rounds", ROUNDS, (6, 0, 0, NOBODY)),
    ("rounds", ROUNDS, (6, 0, 100, 1, 2)),
    ("votes", (2, 96, 0), (13,)),
]
RACES = [
    ("message", MESSAGE, (0, 1)),  # does not wait for the flag
    ("rounds", ROUNDS, (6, 0, 0, NOBODY, 0, 1)),  # without the barrier
    ("rounds", ROUNDS, (6, 0xFFFFFFF0, 0, NOBODY)),  # the counter, 0, is ahead of where the barrier starts
    ("broken_ldmatrix_unsynchronized", (1, 32, 512), ()),
    ("broken_copy_unsynchronized", (1, 64, 1024), ()),
    ("broken_copy_over_readers", (1, 64, 1024), ()),
]
BAD_ADDRESSES = [
    ("broken_shared_overrun", (1, 32, 64), (5, 0, 64)),
    ("vector", (1, 32, 0), (4096 - 256, 0)),  # a load behind the buffer
    ("copies_16", (1, 64, 1024), (16, 4096 - 512)),  # a copy from behind the buffer
]

pytestmark = pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "the emulator can be built")


@functools.cache
def program(build: str) -> Path:
    return emulated.build(build, [SOURCE])


def run(build: str, kernel: str, size: tuple[int, int, int], numbers: tuple[int, ...], seed: int) -> tuple[int, str]:
    command = [program(build), kernel, *map(str, (*size, seed, *numbers))]
    settings = {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **settings})
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("build", ["tsan", "asan"])
@pytest.mark.parametrize(("kernel", "size", "numbers"), SOUND)
def test_silent(build, kernel, size, numbers):
    for seed in (0, 1):
        code, text = run(build, kernel, size, numbers, seed)
        assert (code, text.strip()) == (0, ""), text


@pytest.mark.parametrize(("kernel", "size", "numbers"), RACES)
def test_races_are_reported(kernel, size, numbers):
    for seed in (0, 1):
        code, text = run("tsan", kernel, size, numbers, seed)
        assert code != 0
        assert "WARNING: ThreadSanitizer: data race" in text


@pytest.mark.parametrize(("kernel", "size", "numbers"), BAD_ADDRESSES)
def test_addresses_out_of_bounds_are_reported(kernel, size, numbers):
    code, text = run("asan", kernel, size, numbers, 0)
    assert code != 0
    assert "ERROR: AddressSanitizer: heap-buffer-overflow" in text
