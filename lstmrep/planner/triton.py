"""The candidates of the Triton backend: which kernel runs a pass, in which fixed configuration.

Tile sizes are those that ptxas compiles without a spill on sm_80 to sm_120 (tests/test_triton_compiled.py); which
kernel goes first are rules, written down here and not measured on a card.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lstmrep.planner.problem import GATES, Machine, Problem, TritonPass, on_tensor_cores, uses_tf32

SMALLEST = 16  # side of a tile
HELD_UNITS = 64  # largest H whose W_hh one program holds, on tensor cores; half of it in true float32
WALKED_WEIGHTS = 1 << 19  # bytes of W_hh that one program still walks in each step: a second-level cache gives so
# many in some microseconds (model)
FUSED_ROWS = 64  # most rows of a product that is left to the fused step; a library's tiles are better above
PLAIN_UNITS = 256  # largest H whose true float32 products are not left to a library
MOST_ARRIVALS = 1 << 30  # JUMP of triton_kernels/barrier.py
WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}

# Tiles, rows x units, and what goes with them: depth, warps, stages.  Loads of the exchanged state run ahead of a
# product only where each thread copies 16 bytes at a time: narrower asynchronous copies go through the first-level
# cache, which may hold what another program has overwritten since.  So rows * depth * bytes >= 16 * 32 * warps, or one
# stage.
Tiles = dict[tuple[int, int], tuple[int, int, int]]
_NARROW: Tiles = {
    (16, 16): (64, 4, 3),
    (32, 16): (64, 4, 3),
    (64, 16): (64, 8, 3),
    (16, 32): (64, 4, 3),
    (32, 32): (64, 8, 3),
}
_TF32: Tiles = {(16, 16): (32, 4, 3), (32, 16): (32, 8, 3), (16, 32): (64, 8, 2)}
_TRUE_FLOAT32: Tiles = {(16, 16): (16, 8, 1), (32, 16): (16, 8, 1), (16, 32): (16, 8, 1)}
# H is no multiple of 16: each element has an address and a mask of its own, which take registers.
_NARROW_ANY: Tiles = {(16, 16): (32, 8, 1), (32, 16): (32, 8, 1), (16, 32): (32, 8, 1)}
_FLOAT32_ANY: Tiles = {(16, 16): (16, 8, 1), (16, 32): (16, 8, 1)}


STEPWISE = TritonPass("stepwise", rows=4, units=128, depth=0, warps=4, stages=1)


def _aligned(p: Problem) -> bool:
    return p.hidden_size % SMALLEST == 0


def tiles(p: Problem, tf32: bool) -> Tiles:
    """The tiles of kernels that read W_hh in every step."""
    if WIDTH[p.dtype] == 2:
        return _NARROW if _aligned(p) else _NARROW_ANY
    if not _aligned(p):
        return _FLOAT32_ANY
    return _TF32 if tf32 else _TRUE_FLOAT32


def _walked(kernel: str, p: Problem, m: Machine, rows: int, units: int) -> TritonPass:
    """A pass that reads W_hh in every step; rows: as many as wanted, of which the tiles may have fewer."""
    tf32 = uses_tf32(p, m)
    made = tiles(p, tf32)
    sides = sorted(r for r, u in made if u == units)
    rows = next((r for r in sides if r >= rows), sides[-1])
    depth, warps, stages = made[rows, units]
    return TritonPass(kernel, rows, units, depth, warps, stages, "tf32" if tf32 else "ieee")


def held_pass(p: Problem, m: Machine, backward: bool) -> TritonPass | str:
    """W_hh held by each program, or why it cannot be."""
    tf32 = uses_tf32(p, m)
    most = HELD_UNITS if on_tensor_cores(p, tf32) else HELD_UNITS // 2
    if p.hidden_size > most:
        return f"H = {p.hidden_size} exceeds {most}, the most that one program holds in {p.dtype}"
    units = next(side for side in (16, 32, 64) if side >= p.hidden_size)
    warps = 4 if _aligned(p) else 8
    return TritonPass("batch_held", SMALLEST, units, units, warps, 1, "tf32" if tf32 else "ieee")


def walked_pass(p: Problem, m: Machine, backward: bool) -> TritonPass | str:
    """W_hh walked by each program in every step, or why that is not done."""
    weights = GATES * p.hidden_size**2 * WIDTH[p.dtype]
    if weights > WALKED_WEIGHTS and m.triton_kernel == "auto":
        return f"W_hh has {weights:,} bytes, and each program would read all of them in every step"
    return _walked("batch_walked", p, m, SMALLEST, 32)


def grid_persistent_pass(p: Problem, m: Machine, backward: bool) -> TritonPass | str:
    """Hidden units split over programs that wait for each other, or why that cannot be."""
    tensor = on_tensor_cores(p, uses_tf32(p, m))
    if not tensor and p.hidden_size > PLAIN_UNITS and m.triton_kernel == "auto":
        return _TRUE_FLOAT
    for units in (16, 32):
        members = -(-p.hidden_size // units)
        if p.steps * members >= MOST_ARRIVALS:
            return f"T = {p.steps} steps of {members} programs exceed what a counter holds"
        most_teams = m.triton_programs // (members * p.recurrences)
        if not most_teams and members > 1:
            continue
        most_teams = max(1, most_teams)  # one program waits for nobody
        how = _walked("grid_persistent", p, m, -(-p.batch // most_teams), units)
        return replace(how, teams=max(1, min(most_teams, -(-p.batch // how.rows))))
    return (
        f"H = {p.hidden_size} and N = {p.recurrences} need more than the {m.triton_programs} programs that may wait "
        "for each other"
    )


def fused_step_pass(p: Problem, m: Machine, backward: bool) -> TritonPass | str:
    """Product and cell of a step in one launch, or why a library's product is better."""
    tensor = on_tensor_cores(p, uses_tf32(p, m))
    if m.triton_kernel == "auto":
        if not tensor and p.hidden_size > PLAIN_UNITS:
            return _TRUE_FLOAT
        if p.batch > FUSED_ROWS:
            return f"B = {p.batch}: a library multiplies more than {FUSED_ROWS} rows faster"
    return _walked("fused_step", p, m, min(p.batch, 2 * SMALLEST), 16)


def stepwise_pass(p: Problem, m: Machine, backward: bool) -> TritonPass:
    """A library product and the cell of a step: what is left."""
    return STEPWISE


_TRUE_FLOAT = f"true float32 products of H above {PLAIN_UNITS} are left to a library"

# In order of preference.
TRITON_PASSES: dict[str, Callable[[Problem, Machine, bool], TritonPass | str]] = {
    "batch_held": held_pass,
    "grid_persistent": grid_persistent_pass,
    "batch_walked": walked_pass,
    "fused_step": fused_step_pass,
    "stepwise": stepwise_pass,
}
TRITON_KERNELS = ("auto", *TRITON_PASSES)


def triton_pass(p: Problem, m: Machine, backward: bool) -> tuple[TritonPass, list[tuple[str, str]]]:
    """The kernel of one pass, and why those before it in order of preference were not taken."""
    refusals: list[tuple[str, str]] = []
    for name, make in TRITON_PASSES.items():
        if m.triton_kernel not in ("auto", name):
            continue
        made = make(p, m, backward)
        if isinstance(made, TritonPass):
            return made, refusals
        refusals.append((name, made))
    return stepwise_pass(p, m, backward), refusals


def describe(how: TritonPass) -> str:
    """One pass as text."""
    tile = f"tiles of {how.rows} rows x {how.units} units"
    return {
        "batch_held": f"batch_held, the whole sequence in one launch, W_hh held by each program; {tile}",
        "batch_walked": f"batch_walked, the whole sequence in one launch, W_hh read by each program; {tile}",
        "grid_persistent": "grid_persistent, the whole sequence in one launch of programs that wait for each other; "
        f"{tile}, {how.teams} teams",
        "fused_step": f"fused_step, product and cell of a step in one launch; {tile}",
        "stepwise": "stepwise, one library product and one fused pointwise kernel a step",
    }[how.kernel]


def launches(how: TritonPass, steps: int, backward: bool) -> tuple[int, int]:
    """Launches of this library's kernels and library products of a pass."""
    if how.kernel == "stepwise":
        return steps, steps
    if how.kernel == "fused_step":
        return steps + backward, 0  # the last one forms the gradient of h0
    return 1, 0
