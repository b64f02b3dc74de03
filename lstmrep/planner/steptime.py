"""How long a step would take: bytes and flops over the card's rates, plus waits. A model, not a measurement.

It orders layouts and decides between ``grid_resident`` and ``stepwise``; its terms are printed with the plan, marked
as modelled.  Busy parts overlap, so the longest counts; waits add up.  The constants below were fitted to times that
were measured on an H200 (docs/kernels/grid_resident.md), but for the host's, of which 15 us were seen there and less is
usual.
"""

from __future__ import annotations

from dataclasses import dataclass

from lstmrep.planner.cards import with_rates
from lstmrep.planner.problem import BYTES, GATES, Card, GridLayout, Problem

# Seconds: of a kernel's start and end on the device; of a turn, a chunk of rows in a step, whose sums, loads and look
# at the other CTAs follow one another, forward and backward; of a level of K in a turn, without tensor cores and with;
# of a load from L2, for levels that the ring has no room for at once; of one that is streamed; of a thread's second
# element of the cell; and of the host for a launch from Python.
LAUNCH, HOST = 1.8e-6, 10e-6
TURN, LEVEL, LOAD, STREAMED_LEVEL, SECOND_CELL = (2.8e-6, 4.1e-6), (0.15e-6, 0.07e-6), 0.6e-6, 0.5e-6, 0.5e-6
SHARED_BYTES_A_CYCLE, INGRESS_BYTES_A_CYCLE = 128, 64  # of one SM
# Of library products of few rows: the share of the peak, and of the bandwidth of L2; without tensor cores and with.
LIBRARY_FLOPS, LIBRARY_BYTES = (0.45, 0.7), (0.2, 1.0)
WARPS, BLOCK_BYTES, TILE_BYTES, ROW_TILE = 8, 64, 1024, 8


@dataclass(frozen=True)
class StepTime:
    """Modelled seconds of a step: ``busy`` and ``waits`` by name, their sum, and the time before the first step."""

    busy: tuple[tuple[str, float], ...]
    waits: tuple[tuple[str, float], ...]
    start: float

    @property
    def step(self) -> float:
        """Seconds of a step: the longest busy part and all waits."""
        return max(t for _, t in self.busy) + sum(t for _, t in self.waits)

    def total(self, steps: int) -> float:
        """Seconds of a pass of so many steps."""
        return self.start + steps * self.step

    def describe(self) -> str:
        """The terms in microseconds, in one line."""
        busy, waits = (", ".join(f"{name} {t * 1e6:.2f}" for name, t in part if t) for part in (self.busy, self.waits))
        return f"{self.step * 1e6:.2f} us a step: longest of {busy}" + (f"; plus {waits}" if waits else "")


def grid_time(p: Problem, card: Card, g: GridLayout, backward: bool, tensor: bool) -> StepTime:
    """The step time of ``grid_resident``, all recurrences.

    Args:
        p: the problem.
        card: the card.
        g: the layout.
        backward: which pass.
        tensor: tensor cores multiply.
    """
    card = with_rates(card)
    width, io = BYTES[p.dtype], BYTES[p.dtype]
    phases = -(-p.recurrences // g.concurrent)
    row_tiles = -(-g.rows // ROW_TILE)
    blocks = -(-p.hidden_size * width // BLOCK_BYTES)
    level = WARPS * g.tiles * TILE_BYTES
    operand = g.panels * row_tiles * ROW_TILE * blocks * BLOCK_BYTES  # bytes that a CTA reads of h, or of one gate
    streamed = g.streamed_levels * level * g.chunks
    partials = 2 * g.chunks * g.panels * WARPS * g.tiles * g.row_tiles * 512
    flops = 2 * 16 * g.tiles * g.panels * (blocks * BLOCK_BYTES // width) * ROW_TILE * row_tiles
    rate = card.float_rate if not tensor else card.tensor_rate / (2 if width == 4 else 1)
    elements = g.concurrent * p.batch * p.hidden_size
    sent = elements * width * (GATES if backward else 1)
    parts = 2 * 4 * g.ctas * g.chunks * g.panels * GATES * 4 * g.tiles * ROW_TILE * g.row_tiles if backward else 0
    l2 = g.ctas * (operand + streamed) + sent + parts
    memory = frame_bytes(p, backward) * elements
    if g.streamed_bytes > 0.8 * card.l2_bytes:
        memory += g.ctas * streamed
    loads = -(-g.levels // (g.slots - 1)) - 1
    turn = TURN[backward] + LEVEL[tensor] * g.levels + LOAD * loads + SECOND_CELL * (g.tiles > 4)
    waits = [
        ("turns", g.chunks * g.panels * turn),
        ("streamed loads", STREAMED_LEVEL * g.streamed_levels * g.chunks),
    ]
    busy = [
        ("tensor cores" if tensor else "multiply-adds", flops / (rate / card.sms)),
        (
            "shared memory",
            (g.shared_levels * level * g.chunks + 2 * operand + partials) / (SHARED_BYTES_A_CYCLE * card.clock),
        ),
        ("L2", l2 / card.l2_rate),
        ("ingress", (operand + streamed) / (INGRESS_BYTES_A_CYCLE * card.clock)),
        ("memory", memory / card.memory_rate),
    ]
    weights = GATES * p.hidden_size**2 * io * p.recurrences
    start = HOST + 2 * weights * g.replicas / card.memory_rate
    return StepTime(
        tuple((name, phases * t) for name, t in busy), tuple((name, phases * t) for name, t in waits), start
    )


def stepwise_time(p: Problem, card: Card, tensor: bool) -> StepTime:
    """The step time of library products and a pointwise kernel, all recurrences; the same in both passes."""
    card = with_rates(card)
    width = BYTES[p.dtype]
    weights = GATES * p.hidden_size**2 * width * p.recurrences
    elements = p.recurrences * p.batch * p.hidden_size
    rate = card.float_rate if not tensor else card.gemm_rate / (2 if width == 4 else 1)
    from_where = card.l2_rate if weights < 0.8 * card.l2_bytes else card.memory_rate
    flops = 2 * GATES * p.hidden_size * elements / (rate * LIBRARY_FLOPS[tensor])
    product = max(flops, weights / (from_where * LIBRARY_BYTES[tensor]))
    wide = 2 * 4 * GATES * elements / card.l2_rate  # float32 sums, written and read
    launches = p.recurrences + 1
    device = product + wide + frame_bytes(p, True) * elements / card.memory_rate + LAUNCH * launches
    return StepTime((("device", device), ("host", HOST * launches)), (), 0.0)


def frame_bytes(p: Problem, backward: bool) -> int:
    """Bytes of device memory for each element of a frame: what a step reads and writes of the sequence."""
    io = BYTES[p.dtype]
    if backward:
        return (2 * GATES + 1) * io + 8  # gates, their gradients, the gradient of h; c twice
    kept = GATES * io + 4 if p.training else 0
    return (GATES * io if p.input_size else 0) + io + kept
