"""Grid persistent: the whole sequence in one launch, hidden units split over programs that wait for each other.

A program keeps one tile of units for all steps, and reads the same rows of W_hh in each; how much of them stays on chip
is up to its caches, nothing here promises it.  The tiles of rows are dealt round to teams; the programs of a team, one
for each tile of units, meet at a counter once a step.  All programs must be resident together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from .barrier import arrive_and_wait
from .launch import Call, backward_arrays, forward_arrays, resident_programs, start
from .tile import again, known_size, row_lengths
from .walked import walked_backward, walked_forward, walked_start

if TYPE_CHECKING:
    from lstmrep.backends.tensors import Backward, Forward
    from lstmrep.planner.problem import TritonPass


@triton.jit
def poison_unless(alive):
    """0, or NaN for a program that gave up waiting."""
    return tl.where(alive, 0.0, float("nan"))


@triton.jit(do_not_specialize=["T", "B", "H", "reverse", "w_step", "polls"])
def grid_persistent_forward(
    exchange, w, gates_x, bias, peephole, c0, lengths, h, h_n, c_n, gates, c_all, counters, word,
    T, B, H, reverse: tl.int64, w_step: tl.int64, polls: tl.int64,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, ALIGNED: tl.constexpr, RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Programs: tiles of units, teams, recurrences. The rest as ``walked_forward`` has it.

    counters: ``[N, teams]`` int32, zeros. word: one int32 that the host reads. polls: as ``arrive_and_wait`` has it.
    """
    H = known_size(H, ALIGNED)
    w_step = known_size(w_step, ALIGNED)
    n = tl.program_id(2)
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    team, teams = tl.program_id(1), tl.num_programs(1)
    counter = counters + n * teams + team
    alive = T >= 0
    for step in range(T):
        for tile in range(team, tl.cdiv(B, ROWS), teams):
            rows = again(tile * ROWS, step) + tl.arange(0, ROWS)
            length = row_lengths(lengths, n, rows, T, B)
            walked_forward(
                exchange, w + n * w_step, gates_x, bias, peephole, c0, h, h_n, c_n, gates, c_all, poison_unless(alive),
                n, step, length, rows, again(units, step), tl.num_programs(2), T, B, again(H, step), reverse,
                DEPTH, RELU, PRECISION,
            )  # fmt: skip
        if step < T - 1:
            alive = arrive_and_wait(counter, (step + 1) * tl.num_programs(0), word, polls) & alive


@triton.jit(do_not_specialize=["T", "B", "H", "reverse", "w_step", "polls"])
def grid_persistent_backward(
    exchange, w, peephole, c0, lengths, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, d_h0,
    counters, word,
    T, B, H, reverse: tl.int64, w_step: tl.int64, polls: tl.int64,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, ALIGNED: tl.constexpr, RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """As forward and ``walked_backward`` have it; d_h0: ``[N, B, H]`` S, out; none: not wanted."""
    H = known_size(H, ALIGNED)
    w_step = known_size(w_step, ALIGNED)
    n = tl.program_id(2)
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    team, teams = tl.program_id(1), tl.num_programs(1)
    counter = counters + n * teams + team
    alive = T >= 0
    for back in range(T):
        step = T - 1 - back
        for tile in range(team, tl.cdiv(B, ROWS), teams):
            rows = again(tile * ROWS, step) + tl.arange(0, ROWS)
            length = row_lengths(lengths, n, rows, T, B)
            walked_backward(
                exchange, w + n * w_step, peephole, c0, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums,
                poison_unless(alive), n, step, length, rows, again(units, step), tl.num_programs(2), T, B,
                again(H, step), reverse, DEPTH, RELU, PRECISION,
            )  # fmt: skip
        if (back < T - 1) | (d_h0 is not None):
            alive = arrive_and_wait(counter, (back + 1) * tl.num_programs(0), word, polls) & alive
    if d_h0 is not None:
        for tile in range(team, tl.cdiv(B, ROWS), teams):
            rows = tile * ROWS + tl.arange(0, ROWS)
            walked_start(
                exchange, w + n * w_step, grad_h_n, d_h0, poison_unless(alive),
                n, row_lengths(lengths, n, rows, T, B), rows, units, tl.num_programs(2), B, H, DEPTH, PRECISION,
            )  # fmt: skip


def _grid(call: Call, how: TritonPass, device: torch.device) -> tuple[int, int, int]:
    """Programs of a launch, all of them resident.

    Raises:
        RuntimeError: the device has fewer multiprocessors.
    """
    grid = (triton.cdiv(call.H, how.units), how.teams, call.N)
    programs, most = grid[0] * grid[1] * grid[2], resident_programs(device)
    if grid[0] > 1 and programs > most:
        raise RuntimeError(
            f"lstmrep: grid_persistent needs {programs} programs that wait for each other, and {device} runs {most} at "
            "once; set LSTMREP_TRITON_KERNEL=stepwise."
        )
    return grid


def launch_forward(
    call: Call, how: TritonPass, a: Forward, exchange: Tensor, counters: Tensor, word: Tensor, polls: int
) -> None:
    """The forward pass. exchange: ``[2, N, B, H]`` S, h0 in its first half.

    counters: ``[N, teams]`` int32, zeros. word: one int32 of pinned host memory. polls: looks before giving up, or 0.
    """
    arguments = (exchange, call.w, *forward_arrays(call, a), counters, word, *call.sizes, polls)
    grid = _grid(call, how, exchange.device)
    start("triton_grid_forward", grid_persistent_forward, grid, arguments, call, how)


def launch_backward(
    call: Call, how: TritonPass, a: Backward, exchange: Tensor, dc: Tensor, sums: Tensor | None,
    counters: Tensor, word: Tensor, polls: int,
) -> None:  # fmt: skip
    """The backward pass. exchange: ``[2, N, B, 4H]`` S. dc: ``[N, B, H]`` float32, out. sums: ``[N, B, 7, H]``, out."""
    arguments = (
        exchange, call.w, *backward_arrays(call, a, dc, sums), a.d_h0, counters, word, *call.sizes, polls,
    )  # fmt: skip
    grid = _grid(call, how, exchange.device)
    start("triton_grid_backward", grid_persistent_backward, grid, arguments, call, how)
