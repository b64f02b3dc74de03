"""From a problem to its rows: the gate, then the clock, then what each contender's row says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import lstmrep
from lstm_bench.contenders import Contender
from lstm_bench.floor import Rates, floor
from lstm_bench.gate import Gate, WrongError
from lstm_bench.problems import INFERENCE, TRAINING
from lstm_bench.report import Row
from lstm_bench.timing import Turn, ratio, spread, take_turns
from lstm_bench.workload import Workload


@dataclass(frozen=True)
class Clock:
    """How long to time.

    Args:
        seconds: for a problem, dtype and pass, about.
        rounds: run exactly so many instead; 0 for as many as fit.
        graphs: time the replay of a CUDA graph of each call: the device's work without the host's.
    """

    seconds: float = 1.5
    rounds: int = 0
    graphs: bool = False


def rows(
    work: Workload, taking_part: Iterator[Contender], passes: Sequence[str], rates: Rates, clock: Clock
) -> Iterator[Row]:
    """All rows of a problem in a dtype: those of contenders without a time first, then the passes.

    Args:
        work: the problem with its numbers.
        taking_part: the contenders, the baseline first.
        passes: of PASSES.
        rates: for the floor.
        clock: how long to time.
    """
    gate = Gate(work)
    admitted = []
    for one in taking_part:
        refusal = admit(one, gate)
        if refusal is None:
            admitted.append(one)
        else:
            yield refusal
    del gate
    for one_pass in passes:
        yield from time_pass(work, [c for c in admitted if one_pass in c.passes], one_pass, rates, clock)


def admit(one: Contender, gate: Gate) -> Row | None:
    """Build a contender and hold its results against the truth.

    Args:
        one: its module is kept in it.
        gate: of the problem; a contender that computes something else brings its own truth.

    Returns:
        None for one that may be timed, else its row, which says why not.
    """
    name = gate.work.problem.name

    def row(note: str, wrong: bool = False) -> Row:
        return Row(name, gate.work.dtype_name, "all", one.label, one.plan, note=note, wrong=wrong)

    if one.refusal:
        return row(one.refusal)
    if one.truth is not None:
        gate = Gate(one.truth)
    try:
        with one.inside():
            one.module = one.make()
            for training in (False, True):
                if (TRAINING if training else INFERENCE) in one.passes:
                    gate.check(gate.work.results(one.module, training), training, one.own)
    except WrongError as why:
        return row(f"wrong result, {why}", wrong=True)
    except Exception as why:
        if one.own:
            raise
        first = next(iter(str(why).strip().splitlines()), "")
        return row(f"{type(why).__name__}: {first}")
    return None


def time_pass(work: Workload, taking: Sequence[Contender], one_pass: str, rates: Rates, clock: Clock) -> Iterator[Row]:
    """Time those that were admitted; rows come in their order."""
    turns = [Turn(work.passing(c.module, one_pass), c.inside) for c in taking]
    launches = [_launches(c, turn) for c, turn in zip(taking, turns, strict=True)]
    if clock.graphs:
        for turn in turns:
            turn.capture()
    take_turns(turns, work.device, clock.seconds, clock.rounds)
    baseline = next((turn.times for c, turn in zip(taking, turns, strict=True) if c.baseline), None)
    bound = floor(rates, work.problem, one_pass, work.dtype)
    for c, turn, count in zip(taking, turns, launches, strict=True):
        low, median, high = spread(turn.times)
        yield Row(
            problem=work.problem.name,
            dtype=work.dtype_name,
            passes=one_pass,
            backend=c.label,
            plan=c.plan,
            launches=count,
            median=median,
            p20=low,
            p80=high,
            ratio=ratio(turn.times, baseline) if baseline else 0.0,
            floor=bound,
            rounds=len(turn.times),
            calls=turn.calls,
        )


def _launches(one: Contender, turn: Turn) -> int:
    if not one.counted:
        return -1
    with one.inside():
        turn.call()  # plans are made, kernels are checked at their first use
        with lstmrep.count_launches() as counts:
            turn.call()
    return counts.total
