"""Stage "timing": torch.nn.LSTM (cuDNN), eager cells and each kernel of this library in turns, gated by correctness."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch
from lstm_bench.contenders import Contender, contenders
from lstm_bench.gate import Gate
from lstm_bench.problems import INFERENCE, TRAINING, Problem
from lstm_bench.report import figures
from lstm_bench.rows import admit
from lstm_bench.timing import Turn, spread, take_turns
from lstm_bench.ways import Way
from lstm_bench.workload import Workload

from gpu_stages.record import Record
from gpu_stages.setup import KERNELS, Setup

HIDDEN, BATCHES, STEPS = (128, 1024, 2048), (1, 16, 100), 20
DTYPES = (torch.bfloat16, torch.float32)
ROUNDS = 8
NOT_TIMED = "not timed"


def run(setup: Setup, record: Record) -> None:
    """Time every size, dtype and pass; a row that is not right gets no time."""
    # True float32 on both sides; both of torch's switches, of which cuDNN's is on by default.
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    record.say(
        f"T = {STEPS}, I = H, one layer, one direction. Milliseconds a call by CUDA events, host time of the launches "
        f"included, and of replays of a CUDA graph of the same, which is the device's work alone; median (20th to 80th "
        f"percentile) of {ROUNDS} rounds in which all rows take turns. float32 without "
        "TF32. Inference is without gradients, forward+backward gives those of x and all parameters. "
        "benchmarks/bench_lstm.py times more problems the same way.",
    )
    if setup.emulated:
        record.say("", "EMULATED on the CPU: the rows ran and were held against the reference, and none was timed.")
    record.table("dtype", "H", "B", "peepholes", "passes", "what", "ms", "ms, replayed")
    hidden, batches = ((8,), (1, 3)) if setup.emulated else (HIDDEN, BATCHES)
    for dtype in DTYPES:
        for h in hidden:
            for b in batches:
                for peephole in (False, True):
                    problem = Problem("lstm", h, h, 3 if setup.emulated else STEPS, b, peephole)
                    one_problem(setup, record, Workload(problem, dtype, setup.device))


def one_problem(setup: Setup, record: Record, work: Workload) -> None:
    """The rows of one size and dtype."""
    p = work.problem
    where = [work.dtype_name, p.H, p.B, "yes" if p.peephole else "no"]
    named = f"{work.dtype_name}, {p.name}"
    gate, admitted = Gate(work), []
    for one in contenders(work, _ways(setup), compiled=False):
        with record.part(f"{named}: {one.label}: gate", listed=False):
            try:
                refusal = admit(one, gate)
            except Exception:
                record.row(*where, "all", one.label, "no time: it failed", "")
                raise
            if refusal is None:
                admitted.append(one)
                continue
            record.row(*where, "all", one.label, f"{'no time' if refusal.wrong else 'cannot run'}: {refusal.note}", "")
            assert not refusal.wrong, refusal.note
    for passes in (INFERENCE, TRAINING):
        able = [one for one in admitted if passes in one.passes]
        with record.part(f"{named}, {passes}: timing", listed=False):
            for one, cells in zip(able, _cells(setup, work, able, passes), strict=True):
                record.row(*where, passes, one.label, *cells)


def _ways(setup: Setup) -> list[Way]:
    return [Way(f"lstmrep {kernel}", "cuda", functools.partial(setup.forced, kernel)) for kernel in KERNELS]


def _cells(setup: Setup, work: Workload, able: Sequence[Contender], passes: str) -> Iterator[tuple[str, str]]:
    """Of each contender its time, and that of its replay."""
    turns = [Turn(work.passing(one.module, passes), one.inside) for one in able]
    take_turns(turns, setup.device, 0.0, rounds=1 if setup.emulated else ROUNDS)
    if setup.emulated:
        yield from [(NOT_TIMED, NOT_TIMED)] * len(able)
        return
    replays = [Turn(turn.call, turn.inside) for turn in turns]
    for turn in replays:
        turn.capture()
    take_turns(replays, setup.device, 0.0, rounds=ROUNDS)
    for turn, replay in zip(turns, replays, strict=True):
        yield cell(turn.times), cell(replay.times)


def cell(times: Sequence[float]) -> str:
    """The median and the 20th and 80th percentile."""
    low, median, high = spread(times)
    return f"{figures(median)} ({figures(low)} to {figures(high)})"
