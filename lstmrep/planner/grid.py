"""The candidate ``grid_resident``: a team of CTAs holds W_hh together, and the layout that the model likes best."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace

from lstmrep.planner.problem import BYTES, GATES, CudaPass, GridLayout, Machine, Problem, on_tensor_cores, uses_tf32
from lstmrep.planner.steptime import BLOCK_BYTES, ROW_TILE, TILE_BYTES, WARPS, grid_time

THREADS = 32 * WARPS
SUMS = 7
VECTORS = 7  # floats of a unit: four biases, three peepholes
COUNTER_WORDS = 32
OPERAND_BYTES = 512  # 8 rows, a block of K
MOST_OPERAND_BLOCKS = 1 << 30  # they are counted in 32 bits
MOST_TURNS = 1 << 30
SLOTS = (10, 6, 4, 2)  # of the ring; one less levels of the operand are under way
MOST_RING = 48 << 10  # bytes of it: weights have more use of the rest
MOST_PANELS = 8


def held_levels(tensor: bool, tiles: int) -> int:
    """Levels of weights that stay in registers; the same as in csrc/cuda/grid_resident/config.h."""
    return 2 if not tensor else 4 if tiles == 4 else 3


def laid_out(g: GridLayout, n: int, h: int, width: int, tensor: bool, backward: bool) -> GridLayout:
    """What follows from the choice; the same formulas as ``grid_layout`` in csrc/cuda/grid_resident/config.h.

    Args:
        g: the choice and the rows of a team.
        n: recurrences. h: units. width: bytes of an operand.
        tensor: tensor cores multiply. backward: the pass.
    """
    columns = ROW_TILE * g.row_tiles
    blocks = -(-h * width // BLOCK_BYTES)
    levels, chunks = -(-blocks // WARPS), -(-g.rows // columns)
    held = held_levels(tensor, g.tiles)
    beyond = max(0, levels - held) + (g.panels - 1) * levels
    shared_levels = min(beyond, g.most_shared)
    streamed = beyond - shared_levels
    level = WARPS * g.tiles * TILE_BYTES
    teams = n * g.replicas
    operand = 2 * chunks * g.row_tiles * blocks * OPERAND_BYTES
    parts = chunks * g.panels * GATES * g.tiles * 4 * columns if backward else 0
    return replace(
        g,
        chunks=chunks,
        levels=levels,
        held_levels=held,
        shared_levels=shared_levels,
        streamed_levels=streamed,
        shared_bytes=shared_levels * level + _beside_weights(g, backward),
        exchange_bytes=teams * (GATES if backward else 1) * operand,
        counter_words=teams * chunks * COUNTER_WORDS * (1 + g.members // GATES if backward else 1),
        streamed_bytes=g.ctas * streamed * level,
        part_floats=teams * g.members * parts,
    )


def _beside_weights(g: GridLayout, backward: bool) -> int:
    """Bytes of shared memory for the ring of operands, the warps' sums, the backward pass's totals, the vectors."""
    columns, units = ROW_TILE * g.row_tiles, g.panels * g.tiles * 4
    totals = units * columns * SUMS * 4 if backward else 0
    sums = WARPS * g.tiles * g.row_tiles * OPERAND_BYTES
    return g.slots * g.row_tiles * THREADS * 16 + sums + totals + units * VECTORS * 4


@functools.lru_cache(maxsize=256)
def grid_pass(p: Problem, m: Machine, backward: bool) -> CudaPass | str:
    """The grid-resident pass with the layout of the least modelled time, or why it cannot run."""
    if m.card is None:
        return "the card is not known"
    tf32 = uses_tf32(p, m)
    tensor = on_tensor_cores(p, tf32)
    best: GridLayout | None = None
    best_time = float("inf")
    for g in layouts(p, m, backward, tensor):
        time = grid_time(p, m.card, g, backward, tensor).total(max(1, p.steps))
        if time < best_time:
            best, best_time = g, time
    if best is None:
        return f"H = {p.hidden_size} needs more than the {m.card.sms} SMs that may wait for each other"
    return CudaPass("grid_resident", shared_bytes=best.shared_bytes, tf32=tf32, grid=best)


def layouts(p: Problem, m: Machine, backward: bool, tensor: bool) -> Iterator[GridLayout]:
    """All layouts that fit the card, in a fixed order."""
    assert m.card is not None
    width, batch = BYTES[p.dtype], max(1, p.batch)
    for tiles in (4, 5) if width == 2 else (4,):
        for panels in range(1, MOST_PANELS + 1):
            members = -(-p.hidden_size // (4 * tiles * panels))
            if backward:
                members = -(-members // GATES) * GATES
            if members > m.card.sms:
                continue
            concurrent = min(p.recurrences, m.card.sms // members)
            most_replicas = min(m.card.sms // (members * concurrent), -(-batch // ROW_TILE))
            for rows in sorted({-(-batch // r) for r in range(1, most_replicas + 1)}, reverse=True):
                replicas = -(-batch // rows)
                for row_tiles in (1, 2) if tensor and rows > ROW_TILE else (1,):
                    for slots in SLOTS:
                        g = GridLayout(members, replicas, concurrent, tiles, panels, row_tiles, slots, 0, rows)
                        room = m.card.shared_bytes - _beside_weights(g, backward)
                        if room < 0 or slots * row_tiles * THREADS * 16 > MOST_RING:
                            continue
                        g = replace(g, most_shared=room // (WARPS * tiles * TILE_BYTES))
                        g = laid_out(g, p.recurrences, p.hidden_size, width, tensor, backward)
                        blocks = g.exchange_bytes // OPERAND_BYTES
                        if blocks < MOST_OPERAND_BLOCKS and p.steps * -(-rows // ROW_TILE) < MOST_TURNS:
                            yield g
            if panels > 1 and members * 4 <= m.card.sms:
                break  # fewer CTAs than a quarter of the card: more panels only lose
