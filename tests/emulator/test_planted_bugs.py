"""Planted bugs in the kernels: each is caught by the checker meant for it, which the unchanged kernel passes.

A bug is an edit of one source in a copy of csrc.  The checkers: ``plain``, other output bytes than the unchanged
kernel's; ``deadlock``, the emulator's word on threads that no longer meet; ``gave_up``, the kernel's own: it waited too
long for other CTAs, all CTAs left, all outputs are NaN; ``tsan``, a data race; ``asan``, an address out of bounds.
A bug marked slow runs only where LSTMREP_EMU_FULL is set (``make emu-full``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import driver
import emulated
import pytest

PLANTED = emulated.ROOT / "build" / "emulator" / "planted"
FULL = bool(os.environ.get("LSTMREP_EMU_FULL"))
RESIDENT = "cuda/cta_resident/"
GRID = "cuda/grid_resident/"


@dataclass(frozen=True)
class Bug:
    """One edit, the driver's arguments that show it, and the checker that must catch it."""

    name: str
    checker: str
    file: str
    old: str
    new: str
    arguments: str
    slow: bool = False

    @property
    def build(self) -> str:
        return "plain" if self.checker in ("deadlock", "gave_up") else self.checker

    @property
    def source(self) -> str:
        kernel, direction = self.arguments.split()[:2]
        folder = {"resident": RESIDENT, "grid": GRID}.get(kernel)
        return f"{folder}{direction}.cu" if folder else f"cuda/{kernel}/launch.cu"


BUGS = [
    Bug(
        "forward_without_the_step_barrier",
        "tsan",
        RESIDENT + "forward.cuh",
        "    __syncthreads();  // h of the step before is complete\n",
        "",
        "resident forward bfloat16 40 3 4 2 2",
    ),
    Bug(
        "forward_without_the_first_barrier",
        "tsan",
        RESIDENT + "forward.cuh",
        "  __syncthreads();  // the buffers are clear\n",
        "",
        "resident forward bfloat16 40 3 4 2 2",
    ),
    Bug(
        "forward_with_one_operand_buffer",
        "tsan",
        RESIDENT + "cta.cuh",
        "next = {buffers + sizes.operand,",
        "next = {buffers,",
        "resident forward float32 40 3 4 2 2",
    ),
    Bug(
        "forward_warps_share_their_weights",
        "tsan",
        RESIDENT + "cta.cuh",
        "shared + sizes.weights / sizes.warps * warp",
        "shared",
        "resident forward tf32 72 3 3 2 2",
        slow=True,
    ),
    Bug(
        "backward_without_the_step_barrier",
        "tsan",
        RESIDENT + "backward.cuh",
        "    __syncthreads();  // the gate gradients of the step after are complete\n",
        "",
        "resident backward bfloat16 40 3 4 2 2",
    ),
    Bug(
        "backward_without_the_last_barrier",
        "tsan",
        RESIDENT + "backward.cuh",
        "    __syncthreads();  // the gate gradients of the first step are complete\n",
        "",
        "resident backward bfloat16 40 3 4 2 2",
    ),
    Bug(
        "forward_never_swaps_its_buffers",
        "plain",
        RESIDENT + "forward.cuh",
        "    cta.swap();\n",
        "",
        "resident forward bfloat16 40 3 4 2 2",
    ),
    Bug(
        "forward_leaves_the_padding",
        "plain",
        RESIDENT + "cta.cuh",
        "    clear_shared(buffers, 2 * sizes.operand);\n",
        "",
        "resident forward bfloat16 40 3 4 2 2",
    ),
    Bug(
        "quad_exchange_with_wrong_lane",
        "plain",
        RESIDENT + "operand.cuh",
        "from_lane_xor(other, 2)",
        "from_lane_xor(other, 1)",
        "resident forward float32 40 3 4 2 2",
    ),
    Bug(
        "row_sums_with_wrong_lane",
        "plain",
        RESIDENT + "backward.cuh",
        "from_lane_xor(total[k], 1)",
        "from_lane_xor(total[k], 2)",
        "resident backward bfloat16 40 3 4 2 2",
        slow=True,
    ),
    Bug(
        "divergent_barrier",
        "deadlock",
        RESIDENT + "forward.cuh",
        "    __syncthreads();  // h of the step before is complete\n",
        "    if (cta.unit < s.h) __syncthreads();\n",
        "resident forward float32 40 3 4 2 2",
    ),
    Bug(
        "row_beyond_the_batch",
        "asan",
        RESIDENT + "element.cuh",
        "e.row < s.rows && b < s.b",
        "e.row < s.rows",
        "resident forward bfloat16 40 3 4 2 2",
    ),
    Bug(
        "shared_memory_one_operand_short",
        "asan",
        RESIDENT + "config.h",
        "return s.weights + 2 * s.operand;",
        "return s.weights + s.operand;",
        "resident backward float32 40 3 4 2 2",
        slow=True,
    ),
    Bug(
        "units_beyond_the_weights",
        "asan",
        "cuda/recurrence/operand.cuh",
        "if (unit >= h || k >= h)",
        "if (k >= h)",
        "resident forward bfloat16 40 3 4 2 2",
        slow=True,
    ),
    Bug(
        "last_arrival_without_its_barrier",
        "tsan",
        "cuda/primitives/last_arrival.h",
        "  __syncthreads();  // what the block's threads wrote comes before the release\n",
        "",
        "frame_loss backward float32 70 5 3 2 1",
    ),
    Bug(
        "parts_are_read_by_who_comes_first",
        "tsan",
        "cuda/primitives/last_arrival.h",
        "== members - 1",
        "== members - members",
        "resident backward float32 40 5 4 2 3",
        slow=True,
    ),
    Bug(
        "arrivals_are_not_cleared",
        "plain",
        "cuda/frame_loss/launch.cu",
        "  if (args.arrivals) clear(args.arrivals, sizeof(uint32_t) * arrivals, stream);\n",
        "  (void)arrivals;\n",
        "frame_loss forward bfloat16 33 4 4 2 1",
    ),
    Bug(
        "frames_in_the_other_order",
        "plain",
        "cuda/frame_loss/kernel.cuh",
        "return t * head.frame_step +",
        "return (head.count - 1 - int64_t{t}) * head.frame_step +",
        "frame_loss forward float32 70 5 3 2 1",
    ),
    Bug(
        "columns_beyond_the_frame",
        "asan",
        "cuda/frame_loss/kernel.cuh",
        "  if (threadIdx.y == 0 && column < s.d) parts",
        "  if (threadIdx.y == 0) parts",
        "frame_loss backward float32 70 5 3 2 1",
    ),
    Bug(
        "column_sums_share_their_memory_too_early",
        "tsan",
        "cuda/frame_loss/kernel.cuh",
        "  __syncthreads();\n  float sum = 0.0f;\n",
        "  float sum = 0.0f;\n",
        "frame_loss forward float32 70 5 3 2 1",
    ),
    Bug(
        "grid_sums_overwritten_while_they_are_read",
        "tsan",
        GRID + "forward.cuh",
        "          __syncthreads();  // the sums before have been read, and h of the turn before is stored\n",
        "",
        "grid forward bfloat16 40 20 3 1 20",
        slow=True,
    ),
    Bug(
        "grid_waits_for_nobody",
        "tsan",
        GRID + "cta.cuh",
        "if (!team_barrier(grid, memory,",
        "if (turn < 0 && !team_barrier(grid, memory,",
        "grid forward bfloat16 40 20 3 1 20",
    ),
    Bug(
        "grid_announces_h_that_is_not_stored",
        "tsan",
        GRID + "forward.cuh",
        "        __syncthreads();\n        if (arrives()) arrive(a, cta, 0);\n",
        "        if (arrives()) arrive(a, cta, 0);\n",
        "grid forward bfloat16 40 8 3 1 8",
        slow=True,
    ),
    Bug(
        "grid_lanes_read_copies_of_others_too_early",
        "tsan",
        GRID + "product.cuh",
        "    if (kSharedRing) __syncwarp();\n",
        "    (void)kSharedRing;\n",
        "grid forward float32 40 11 3 2 8",
        slow=True,
    ),
    Bug(
        "grid_group_does_not_wait_for_its_sums",
        "tsan",
        GRID + "backward.cuh",
        "if (!group_barrier(a, cta, one).wait(round)) failed = true;",
        "(void)one;",
        "grid backward bfloat16 40 12 3 1 12",
    ),
    Bug(
        "grid_has_one_parity",
        "plain",
        GRID + "cta.cuh",
        "operand_offset<O>(grid, round % 2, e.row, e.unit)",
        "operand_offset<O>(grid, round % 1, e.row, e.unit)",
        "grid forward bfloat16 40 20 3 1 20",
    ),
    Bug(
        "grid_halves_of_another_column",
        "plain",
        GRID + "product.cuh",
        "from_lane_xor(half ? even[2 * q] : even[2 * q + 1], 16)",
        "from_lane_xor(half ? even[2 * q] : even[2 * q + 1], 8)",
        "grid forward bfloat16 40 20 3 1 20",
        slow=True,
    ),
    Bug(
        "grid_member_gets_the_sums_of_another",
        "plain",
        GRID + "backward.cuh",
        "part_at(a, cta, q, member() % kGates, j, panel, chunk)",
        "part_at(a, cta, 3 - q, member() % kGates, j, panel, chunk)",
        "grid backward bfloat16 40 12 3 1 12",
        slow=True,
    ),
    Bug(
        "grid_rows_beyond_the_batch",
        "asan",
        GRID + "cta.cuh",
        "e.batch < s.b && e.unit < s.h",
        "e.unit < s.h",
        "grid forward bfloat16 40 20 3 1 12",
        slow=True,
    ),
    Bug(
        "grid_member_that_never_comes",
        "gave_up",
        GRID + "forward.cuh",
        "cta.team_barrier(a.grid, a.memory, chunk).arrive();",
        "if (blockIdx.x != 1) cta.team_barrier(a.grid, a.memory, chunk).arrive();",
        "grid forward bfloat16 40 20 3 1 20",
    ),
    Bug(
        "grid_member_that_never_comes_to_its_group",
        "gave_up",
        GRID + "backward.cuh",
        "    if (arrives()) group_barrier(a, cta, last).arrive();\n",
        "    if (arrives() && blockIdx.x != 1) group_barrier(a, cta, last).arrive();\n",
        "grid backward bfloat16 40 12 3 2 12",
        slow=True,
    ),
    Bug(
        "step_before_is_the_step_after",
        "asan",
        "cuda/pointwise/kernel.cuh",
        "e.reversed ? e.h + frame : e.h - frame",
        "e.reversed ? e.h - frame : e.h + frame",
        "pointwise backward float32 40 3 4 1 1",
    ),
]


def plant(bug: Bug) -> Path:
    """A copy of csrc with the bug; of the same sources always the same folder, so that what is built is found again."""
    csrc = emulated.ROOT / "csrc"
    target = PLANTED / f"{bug.name}-{emulated._hash(csrc, [], repr(bug))}"
    if target.exists():
        return target
    PLANTED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLANTED) as folder:
        made = Path(folder, "csrc")
        shutil.copytree(csrc, made)
        path = made / bug.file
        text = path.read_text()
        assert text.count(bug.old) == 1, f"{bug.file} has {text.count(bug.old)} times: {bug.old}"
        path.write_text(text.replace(bug.old, bug.new))
        try:
            made.rename(target)
        except OSError:  # another process was first
            assert target.exists()
    return target


def build(bug: Bug) -> Path:
    csrc = plant(bug)
    return emulated.build(bug.build, [driver.SOURCE, csrc / bug.source], csrc=csrc)


@pytest.fixture(scope="module")
def planted(request) -> Iterator[Callable[[Bug], Path]]:
    """Of a bug, its program; those of all selected bugs are built side by side."""
    selected = {item.callspec.params["bug"] for item in request.session.items if item.path == request.path}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        programs: dict[Bug, Future[Path]] = {
            bug: pool.submit(build, bug) for bug in BUGS if bug in selected and not reason(bug)
        }
        yield lambda bug: programs[bug].result()


def reason(bug: Bug) -> str:
    """``""``, or why this bug is not tried here."""
    if bug.slow and not FULL:
        return "set LSTMREP_EMU_FULL for all planted bugs (make emu-full)"
    return driver.start(bug.build)[1]


def caught(bug: Bug, made: Path, seed: int) -> bool:
    """Whether the bug's checker complains of the program ``made``."""
    result = driver.run(bug.build, made, bug.arguments, seed)
    if bug.checker == "plain":
        sound = driver.run("plain", driver.program("plain"), bug.arguments, driver.SEEDS[0])
        assert (sound.code, result.code) == (0, 0), result.errors
        return result.line != sound.line
    if result.code == 0:
        assert result.errors == ""
        return False
    if bug.checker == "gave_up":
        assert (result.code, result.errors) == (4, "gave up, all outputs are NaN")
        return True
    report = {
        "deadlock": ("deadlock: every thread waits", "a thread ended while its block waits in __syncthreads"),
        "tsan": ("WARNING: ThreadSanitizer: data race",),
        "asan": ("ERROR: AddressSanitizer: heap-buffer-overflow",),
    }[bug.checker]
    assert any(text in result.errors for text in report), result.errors
    return True


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.name}-{bug.checker}")
def test_caught(bug, planted):
    if reason(bug):
        pytest.skip(reason(bug))
    for seed in driver.SEEDS:
        assert not caught(bug, driver.program(bug.build), seed)
        assert caught(bug, planted(bug), seed)
