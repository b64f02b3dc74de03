"""Stage "streams": graphs, streams, devices and host threads around each kernel; the same bits as a plain call."""

from __future__ import annotations

import functools
import threading
from dataclasses import replace

import torch
from lstm_bench.timing import captured

import lstmrep
from gpu_stages.record import Record, SkipError
from gpu_stages.setup import FLOATS, NO_STREAMS, Call, Setup, copied, for_each_kernel
from lstmrep.testing import assert_same_bits
from lstmrep.testing.cases import Case

CASE = Case(N=2, T=20, B=16, I=32, H=128, reverse=(False, True))
TINY = Case(N=2, T=3, B=3, I=4, H=16, reverse=(False, True))
ROUNDS = 20
SLEEP = 200_000_000  # cycles: about a tenth of a second, in which a launch on a wrong stream would have run


def run(setup: Setup, record: Record) -> None:
    """All parts for each kernel and dtype."""
    case = TINY if setup.emulated else CASE
    for dtype in FLOATS[:1] if setup.emulated else FLOATS:
        here = replace(case, dtype=dtype)
        parts = {
            "captured in a CUDA graph, replayed on other numbers": graph_part,
            "on a side stream, after work that is not yet done": side_stream_part,
            "on the second card while the first is current": second_card_part,
            "two host threads at once": two_threads_part,
        }
        for what, part in parts.items():
            for_each_kernel(setup, record, here, what, functools.partial(part, setup, here))
    with record.part("no kernel gave up waiting"):
        setup.wait()
        lstmrep.check()


def graph_part(setup: Setup, case: Case) -> None:
    if not setup.streams:
        raise SkipError(NO_STREAMS)
    call = Call(case, setup.device)
    expected = []
    for seed in (0, 1):
        call.draw_again(seed)
        expected.append(copied(call()))
    replay, results = captured(call)
    for seed in (0, 1, 0):  # each other than the last, so that what an earlier replay left cannot pass
        call.draw_again(seed)
        replay()
        assert_same_bits(copied(results), expected[seed])


def side_stream_part(setup: Setup, case: Case) -> None:
    if not setup.streams:
        raise SkipError(NO_STREAMS)
    call = Call(case, setup.device)
    call.draw_again(1)
    expected = copied(call())
    call.draw_again(0)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        other = Call(replace(case, seed=1), setup.device)
        torch.cuda._sleep(SLEEP)
        with torch.no_grad():
            for mine, theirs in zip(call.leaves.values(), other.leaves.values(), strict=True):
                mine.copy_(theirs)
            for mine, theirs in zip(call.grads, other.grads, strict=True):
                mine.copy_(theirs)
        results = call()
    side.synchronize()
    assert_same_bits(copied(results), expected)


def second_card_part(setup: Setup, case: Case) -> None:
    if setup.emulated:
        raise SkipError("the emulated device is one card")
    if torch.cuda.device_count() < 2:
        raise SkipError("there is one card")
    first, second = torch.device("cuda", 0), torch.device("cuda", 1)
    with torch.cuda.device(second):
        expected = copied(Call(case, second)())
    with torch.cuda.device(first):
        results = Call(case, second)()
        assert torch.cuda.current_device() == 0, "the current device was changed"
        assert all(t.device == second for t in results.values()), "a result is on another card"
        assert_same_bits(copied(results), expected)


def two_threads_part(setup: Setup, case: Case) -> None:
    rounds = 2 if setup.emulated else ROUNDS
    calls = [Call(replace(case, seed=seed), setup.device) for seed in (0, 1)]
    expected = [copied(call()) for call in calls]
    setup.wait()
    start, troubles = threading.Barrier(2), []
    done = [0, 0]

    def work(k: int) -> None:
        try:
            start.wait(timeout=60)
            for _ in range(rounds):
                assert_same_bits(copied(calls[k]()), expected[k])
                done[k] += 1
        except Exception as error:
            troubles.append(error)

    def on_a_stream(k: int) -> None:
        if setup.emulated:
            work(k)
        else:
            with torch.cuda.stream(torch.cuda.Stream()):
                work(k)

    threads = [threading.Thread(target=on_a_stream, args=(k,)) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise troubles[0]
    assert done == [rounds, rounds], f"rounds done: {done}"
