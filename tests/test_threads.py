"""Two host threads at once, and the interpreter lock released inside kernels."""

import threading
import time

import torch

from lstmrep.ops import lstm
from lstmrep.testing import assert_same_bits
from lstmrep.testing.cases import Case, run


def test_two_threads_get_their_own_results():
    cases = [Case(T=20, B=5, H=40, seed=k) for k in range(2)]
    alone = [run(case, "cpu") for case in cases]
    together: list[list[dict]] = [[], []]

    def work(k: int) -> None:
        together[k] = [run(cases[k], "cpu") for _ in range(10)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in range(2):
        assert len(together[k]) == 10
        for got in together[k]:
            assert_same_bits(got, alone[k])


def test_the_interpreter_runs_while_a_kernel_does():
    """A counter in another thread advances during one long native call."""
    w, h0 = torch.randn(4 * 512, 512), torch.randn(1, 64, 512)
    ticks = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = ticks
        lstm(None, [], [w], h0=h0, steps=50, backend="cpu")
        during = ticks - before
    finally:
        stop.set()
        thread.join()
    # One tick could fall between Python instructions around the call; many only while it runs.
    assert during > 10
