"""The clock: contenders take turns, so that a slow moment of the machine falls on all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

# A turn lasts at least this long and begins with a call that is not timed: the turn before has emptied the caches, and
# the floor's rates are those of one product after the other. A longer call empties them itself.
TURN_SECONDS = 20e-3
LONG_SECONDS = 0.1
MOST_CALLS = 200
LEAST_ROUNDS, MOST_ROUNDS = 5, 40


@dataclass
class Turn:
    """Something to be timed against others.

    Args:
        call: runs it once.
        inside: entered around its turns.
    """

    call: Callable[[], object]
    inside: Callable[[], AbstractContextManager[Any]]
    calls: int = 1
    warms: bool = True  # a turn begins with a call that is not timed
    times: list[float] = field(default_factory=list)  # milliseconds a call, one each round

    def capture(self) -> None:
        """From now on the call is the replay of a CUDA graph of what it did."""
        with self.inside():
            self.call, _ = captured(self.call, 3)


def captured(call: Callable[[], Any], before: int = 1) -> tuple[Callable[[], None], Any]:
    """A CUDA graph of a call.

    Args:
        call: runs it once.
        before: calls that are not captured, so that what is made at the first ones is not.

    Returns:
        What replays it, and what the captured call returned: its tensors hold the results of each replay.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(before):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    return graph.replay, results


def take_turns(turns: Sequence[Turn], device: torch.device, seconds: float, rounds: int = 0) -> None:
    """Fill ``times`` of all, as many rounds for each.

    Each turn of short calls begins with one that is not timed, and each on a GPU: where a kernel is forced its plan is
    made anew.

    Args:
        turns: who takes part; every round begins with another of them.
        device: whose clock counts.
        seconds: to spend on all rounds, about; at least LEAST_ROUNDS are run.
        rounds: run exactly so many instead.
    """
    spent = 0.0
    for turn in turns:
        with turn.inside():
            turn.call()  # plans, library handles, the allocator
            once = milliseconds(device, turn.call, 1) / 1e3
        turn.calls = max(1, min(MOST_CALLS, int(TURN_SECONDS / max(once, 1e-9))))
        turn.warms = once < LONG_SECONDS or device.type == "cuda"
        spent += once * (turn.calls + turn.warms)
    wanted = rounds or max(LEAST_ROUNDS, min(MOST_ROUNDS, int(seconds / max(spent, 1e-9))))
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for k in range(wanted):
            for turn in [*turns[k % len(turns) :], *turns[: k % len(turns)]]:
                with turn.inside():
                    if turn.warms:
                        turn.call()
                    turn.times.append(milliseconds(device, turn.call, turn.calls))
    finally:
        if was_on:
            gc.enable()


def milliseconds(device: torch.device, call: Callable[[], object], calls: int) -> float:
    """Of one of some calls in a row: by events on the current stream of a CUDA device, else by the wall clock."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / calls
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begin) / calls * 1e3


def spread(times: Sequence[float]) -> tuple[float, float, float]:
    """The 20th percentile, the median and the 80th percentile."""
    if len(times) == 1:
        return times[0], times[0], times[0]
    low, *_, high = statistics.quantiles(times, n=5, method="inclusive")
    return low, statistics.median(times), high


def ratio(times: Sequence[float], baseline: Sequence[float]) -> float:
    """The median over rounds of a time over the baseline's in the same round."""
    return statistics.median(a / b for a, b in zip(times, baseline, strict=True))
