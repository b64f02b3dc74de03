"""The threaded time loop under ThreadSanitizer: silent, the same bytes for any team, and a report of planted faults.

The kernels are compiled as setup.py does, at -O1 and watched, and run in a program of their own (tsan_driver.cpp).  AMX
is left out: ThreadSanitizer does not see what tile instructions load and store.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import driver
import emulated
import pytest
from test_native_module import isa_flags

from lstmrep import _native

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
SOURCE = Path(__file__).with_name("tsan_driver.cpp")
USABLE = [isa for isa in _native.cpu_isas_usable() if isa != "amx"]
ISAS = [USABLE[0], USABLE[-1]]  # the baseline and the best
FLOAT32, BFLOAT16 = 0, 1
# N, T, B, H, packed, by_rows, I (0: the input share comes ready). A thread of 5 owns something of both recurrences;
# the rows are no multiple of a block.
UNITS = (2, 12, 5, 150, 1, 0, 0)
ROWS = (2, 12, 20, 40, 1, 1, 0)
ROW_ALONE = (2, 12, 1, 150, 1, 0, 0)
STREAM = (2, 12, 3, 150, 0, 0, 0)
INPUT_UNITS = (2, 25, 3, 150, 1, 0, 11)  # the input share of 22 steps at a time, and of the rest
INPUT_ROWS = (2, 12, 20, 40, 1, 1, 11)
INPUT_STREAM = (2, 25, 3, 150, 0, 0, 11)
INPUT_ONCE = (2, 20, 3, 150, 1, 0, 200)  # few rows: panels of W_ih packed by the thread that reads them
CASES = {
    "units": UNITS,
    "rows": ROWS,
    "row-alone": ROW_ALONE,
    "stream": STREAM,
    "input-units": INPUT_UNITS,
    "input-rows": INPUT_ROWS,
    "input-stream": INPUT_STREAM,
    "input-once": INPUT_ONCE,
}


@dataclass(frozen=True)
class Fault:
    """One edit of a header and the cases that show it. PLANTED in the new text holds where the fault is switched on."""

    name: str
    file: str
    old: str
    new: str
    cases: tuple[tuple[int, ...], ...]


STEP_BARRIER = ("if (!p.by_rows) share.wait();", "if (!p.by_rows && !PLANTED) share.wait();")
PACK_BARRIER = ("      share.wait();\n      for", "      if (!PLANTED) share.wait();\n      for")
FAULTS = [
    Fault("forward_steps_without_a_barrier", "forward.h", *STEP_BARRIER, (UNITS, ROW_ALONE, STREAM)),
    Fault("backward_steps_without_a_barrier", "backward.h", *STEP_BARRIER, (UNITS, ROW_ALONE, STREAM)),
    Fault("forward_reads_a_pack_too_early", "forward.h", *PACK_BARRIER, (ROWS, INPUT_ROWS)),
    Fault("backward_reads_a_pack_too_early", "backward.h", *PACK_BARRIER, (ROWS,)),
    Fault(
        "sums_of_rows_read_too_early",
        "backward.h",
        "if (p.by_rows) share.wait();",
        "if (p.by_rows && !PLANTED) share.wait();",
        (ROWS,),
    ),
    Fault(
        "forward_in_one_buffer",
        "forward.h",
        "h_state(1 - now, n, b) + u0",
        "h_state(PLANTED ? now : 1 - now, n, b) + u0",
        (UNITS, STREAM),
    ),
    Fault(
        "backward_in_one_buffer",
        "backward.h",
        "return scratch.d[which]",
        "return scratch.d[PLANTED ? 0 : which]",
        (UNITS,),
    ),
    Fault(
        "products_in_one_place",
        "forward.h",
        "scratch.products + share.thread *",
        "scratch.products + (PLANTED ? 0 : share.thread) *",
        (UNITS, ROWS, STREAM),
    ),
    Fault(
        "inputs_in_one_place",
        "forward.h",
        "scratch.x + share.thread *",
        "scratch.x + (PLANTED ? 0 : share.thread) *",
        (INPUT_UNITS, INPUT_ROWS, INPUT_STREAM),
    ),
    Fault(
        "input_shares_in_one_place",
        "forward.h",
        "part.row * scratch.steps + t",
        "(PLANTED ? 0 : part.row) * scratch.steps + t",
        (INPUT_ROWS,),
    ),
    Fault(
        "input_panels_in_one_place",
        "forward.h",
        "input_panel(share.thread));\n    return input_panel(share.thread);",
        "input_panel(PLANTED ? 0 : share.thread));\n    return input_panel(PLANTED ? 0 : share.thread);",
        (INPUT_ONCE,),
    ),
    Fault(
        "gradients_read_a_pack_too_early",
        "gradients.h",
        "share.wait();  // for the panels of others",
        "if (!PLANTED) share.wait();",
        (INPUT_ROWS,),
    ),
    Fault(
        "weights_for_gradients_in_one_place",
        "gradients.h",
        "scratch.weights + share.thread *",
        "scratch.weights + (PLANTED ? 0 : share.thread) *",
        (INPUT_ONCE,),
    ),
    Fault(
        "gate_gradients_in_one_place",
        "gradients.h",
        "(share.thread * scratch.blocks + block)",
        "((PLANTED ? 0 : share.thread) * scratch.blocks + block)",
        (INPUT_UNITS, INPUT_ROWS),
    ),
    Fault(
        "sums_of_gradients_in_one_place",
        "gradients.h",
        "scratch.sums + share.thread *",
        "scratch.sums + (PLANTED ? 0 : share.thread) *",
        (INPUT_UNITS, INPUT_ROWS),
    ),
    Fault(
        "barrier_that_publishes_nothing",
        "parallel.h",
        "__atomic_store_n(&of[thread].count, count, __ATOMIC_RELEASE);",
        "if (PLANTED) __atomic_store_n(&of[thread].count, count, __ATOMIC_RELAXED);\n"
        "    else __atomic_store_n(&of[thread].count, count, __ATOMIC_RELEASE);",
        (UNITS, ROWS, STREAM),
    ),
    Fault(
        "shares_that_overlap",
        "parallel.h",
        "(thread + 1) / threads",
        "(thread + 1) / threads + (PLANTED && thread + 1 < threads)",
        (UNITS, ROWS, STREAM),
    ),
]

_LIBGOMP = 'extern "C" void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned) {}'
_PROBE = f"{_LIBGOMP}\nint main() {{\n#pragma omp parallel\n  {{}}\n}}\n"


@functools.cache
def reason() -> str:
    """``""``, or why no such program can be made or started here."""
    if driver.start("tsan")[1]:
        return driver.start("tsan")[1]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "probe.cpp"), Path(folder, "probe")
        source.write_text(_PROBE)
        commands = (["-fopenmp", "-c", str(source), "-o", f"{made}.o"], [f"{made}.o", "-o", str(made)])
        for arguments in commands:
            command = [*(emulated.compiler() or []), *arguments]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                return "the C++ compiler's OpenMP is not GNU's, which the driver stands in for"
    return ""


def build(isa: str, folder: Path, csrc: Path = CSRC) -> Path:
    """The program with the kernels of ``isa`` from the tree ``csrc``."""
    flags = isa_flags()
    folder.mkdir(parents=True, exist_ok=True)
    kernels, made = folder / "isa.o", folder / "driver"
    common = [*(emulated.compiler() or []), "-g1", "-fsanitize=thread", f"-I{csrc}", f"-DLSTMREP_ISA={isa}"]
    isa_options = [*flags["common"], *flags[isa], "-fopenmp", "-O1"]
    for command in (
        [*common, *isa_options, "-c", str(csrc / "cpu/isa.cpp"), "-o", str(kernels)],
        [*common, "-std=c++17", "-O1", str(SOURCE), str(kernels), "-o", str(made)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return made


def build_planted(folder: Path) -> Path:
    """A program of the best instruction set that has all faults, each switched on by its number from 1."""
    csrc = folder / "csrc"
    shutil.copytree(CSRC, csrc)
    for number, fault in enumerate(FAULTS, 1):
        path = csrc / "cpu" / fault.file
        text = path.read_text()
        assert text.count(fault.old) == 1, f"{fault.file} has {text.count(fault.old)} times: {fault.old}"
        path.write_text(text.replace(fault.old, fault.new.replace("PLANTED", f"(planted_fault == {number})")))
    declared = 'extern "C" int planted_fault;  // of tsan_driver.cpp\n'
    path = csrc / "cpu/parallel.h"
    path.write_text(path.read_text().replace("#pragma once\n", f"#pragma once\n{declared}"))
    return build(ISAS[-1], folder / "made", csrc)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The program of an instruction set, or that of the faults; all are built side by side."""
    if reason():
        pytest.skip(reason())
    root = tmp_path_factory.mktemp("tsan")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = {isa: pool.submit(build, isa, root / isa) for isa in dict.fromkeys(ISAS)}
        made["faults"] = pool.submit(build_planted, root)
        yield lambda what: made[what].result()


def run(
    made: Path, dtype: int, case: tuple[int, ...], threads: int, granted: int = 64, fault: int = 0
) -> subprocess.CompletedProcess[str]:
    words = [str(number) for number in (dtype, *case, threads, granted, fault)]
    settings = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    command = [*driver.start("tsan")[0], str(made), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=settings, timeout=60)


@pytest.mark.parametrize("isa", dict.fromkeys(ISAS))
@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_race_and_the_same_bytes(
    isa: str, dtype: int, case: tuple[int, ...], program: Callable[[str], Path]
) -> None:
    alone = run(program(isa), dtype, case, 1)
    assert (alone.returncode, alone.stderr) == (0, "")
    for threads, granted in ((2, 2), (3, 3), (5, 5), (5, 2), (64, 64)):  # 64: more than there are shares
        done = run(program(isa), dtype, case, threads, granted)
        assert (done.returncode, done.stderr) == (0, ""), (threads, granted)
        assert done.stdout == alone.stdout, (threads, granted)


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_reported(fault: Fault, dtype: int, program: Callable[[str], Path]) -> None:
    number = 1 + FAULTS.index(fault)
    for case in fault.cases:
        for threads, switch in ((1, number), (3, 0)):
            done = run(program("faults"), dtype, case, threads, fault=switch)
            assert (done.returncode, done.stderr) == (0, ""), (case, threads, switch)
        done = run(program("faults"), dtype, case, 3, fault=number)
        assert done.returncode != 0, case
        assert "WARNING: ThreadSanitizer: data race" in done.stderr, done.stderr
