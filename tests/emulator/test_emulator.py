"""The emulated device reports what a GPU would hang on or corrupt silently: planted errors, named block and thread."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import emulated
import numpy as np
import pytest
from primitives import SEEDS, aligned, launch

pytestmark = pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "the emulator can be built")

PLACE = r"\[block \(\d+, 0, 0\), thread \(\d+, 0, 0\)\]$"


def reported(error: str, what: str) -> bool:
    return re.search(what + " " + PLACE, error) is not None


@pytest.mark.parametrize("seed", SEEDS)
def test_deadlock(seed):
    error = launch("broken_deadlock", blocks=2, threads=64, seed=seed)
    assert reported(error, "(deadlock: every thread waits|threads meet with different ideas of how many they are)")


def test_a_thread_that_ends_before_the_barrier():
    error = launch("broken_early_end", aligned(1, np.uint32), threads=64)
    assert reported(error, "a thread ended while its block waits in __syncthreads")


@pytest.mark.parametrize("seed", SEEDS)
def test_livelock(seed):
    assert reported(launch("broken_livelock", aligned(1, np.uint32), seed=seed), "livelock: threads only poll")
    flag = np.ones(1, np.uint32)
    assert launch("broken_livelock", flag, seed=seed) == ""


@pytest.mark.parametrize("seed", SEEDS)
def test_lanes_in_different_collectives(seed):
    error = launch("broken_divergence", aligned(32, np.uint32), shared=512, seed=seed)
    assert reported(error, "lanes of one warp are in two collectives")


@pytest.mark.parametrize("seed", SEEDS)
def test_some_vote_and_some_do_not(seed):
    error = launch("broken_vote", threads=64, seed=seed)
    assert reported(error, "a block is in __syncthreads and in __syncthreads_or")


@pytest.mark.parametrize("behind", [0, 3, 255])
def test_shared_memory_overrun(behind):
    for size in (64, 100):
        error = launch("broken_shared_overrun", numbers=(5, behind, size), shared=size)
        assert error == "a thread wrote behind its shared memory [block (0, 0, 0), thread (5, 0, 0)]"
        assert launch("broken_shared_overrun", numbers=(5, 0, size - 1), shared=size) == ""


def test_stack_overrun():
    out = aligned(32, np.uint32)
    error = launch("broken_stack", out, numbers=(0,))
    assert error == "a thread used more than its stack [block (0, 0, 0), thread (0, 0, 0)]"
    assert launch("broken_stack", out, numbers=(32,)) == ""


def test_ldmatrix_outside_shared_memory():
    error = launch("broken_ldmatrix_place", aligned((32, 4), np.uint32), aligned(32, np.uint32), shared=512)
    assert reported(error, "ldmatrix outside shared memory")


def test_a_launch_after_a_failed_one():
    assert launch("broken_livelock", aligned(1, np.uint32)) != ""
    x, got = aligned((32, 4), np.uint32), aligned((32, 4), np.uint32, 0xFF)
    assert launch("vector", x, got) == ""
    assert not got.any()


def test_launches_that_a_card_refuses():
    assert launch("vector", blocks=0) == "an empty grid"
    assert launch("vector", threads=1025) == "more than 1024 threads a block"
    assert "bytes of shared memory where 49152 are allowed" in launch("vector", shared=49153)


# In a process of its own: what a launch of 512 threads a block took at its peak, and what address space it left.
MEMORY = """
import re, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from primitives import launch

def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10

blocks, rounds = int(sys.argv[2]), int(sys.argv[3])
launch("votes", np.zeros((1, 512), np.uint32), threads=512, numbers=(rounds,))
seen = np.zeros((blocks, 512), np.uint32)
peak, size = status("VmHWM"), status("VmSize")
assert launch("votes", seen, threads=512, blocks=blocks, numbers=(rounds,)) == ""
print(status("VmHWM") - peak, status("VmSize") - size)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
@pytest.mark.parametrize(("blocks", "rounds"), [(256, 0), (32, 1)], ids=["at once", "waiting"])
def test_stacks_are_there_only_while_threads_are(blocks, rounds):
    arguments = [sys.executable, "-c", MEMORY, str(Path(__file__).parent), str(blocks), str(rounds)]
    peak, left = map(int, subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split())
    threads = blocks * 512
    if not rounds:  # a thread that never stops leaves its stack to the next one
        assert peak < threads * 1024
    assert left < 2048 * (64 << 10) + threads * 1024  # the spare ones: the process can fork
