"""Stage "compute-sanitizer": NVIDIA's checkers over one forward and backward pass of each kernel.

    python -m gpu_stages.sanitizer [--emulated]

is the program that they check.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from gpu_stages.apart import ROOT
from gpu_stages.record import Record, SkipError
from gpu_stages.setup import FLOATS, KERNELS, Call, Setup, copied, name, problem
from lstmrep.testing.cases import Case

TOOLS = {
    "memcheck": "no address outside its buffer, none misaligned",
    "racecheck": "no two threads of a CTA at one word of shared memory without a barrier between",
    "synccheck": "no barrier used against its rules",
}
LIMIT = 500.0
FOUND = 99  # the exit code by which the checker says that it found something
DONE, NONE_FOUND = "all calls are done", "ERROR SUMMARY: 0 errors"
CASES = [
    Case(N=2, T=3, B=5, I=6, H=33, reverse=(False, True)),
    Case(T=3, B=9, I=6, H=64),
    Case(T=2, B=17, I=6, H=200),
]


def run(setup: Setup, record: Record) -> None:
    """Run the program under each checker."""
    for tool, shows in TOOLS.items():
        with record.part(f"{tool}: {shows}"):
            if setup.emulated:
                raise SkipError("compute-sanitizer checks machine code, which the emulated device does not run")
            program = find()
            if program is None:
                raise SkipError("no compute-sanitizer in PATH, CUDA_HOME/bin or CUDA_HOME/compute-sanitizer")
            check(program, tool, record)


def find() -> str | None:
    """compute-sanitizer, in PATH or in the CUDA toolkit; None where it is not."""
    homes = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", ""), "/usr/local/cuda"]
    folders = [Path(home, part) for home in homes if home for part in ("bin", "compute-sanitizer")]
    return shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=os.pathsep.join(map(str, folders))
    )


def check(program: str, tool: str, record: Record) -> None:
    """Run the program of this file under a checker.

    Args:
        program: compute-sanitizer.
        tool: of it.
        record: of the stage.

    Raises:
        AssertionError: it found something, or did not end well.
    """
    # torch asks the driver for functions that it may lack, and takes the error as the answer: that is none of ours.
    command = [program, "--tool", tool, "--error-exitcode", str(FOUND), "--report-api-errors", "no"]
    command += [sys.executable, "-m", "gpu_stages.sanitizer"]
    environment = {
        **os.environ,
        # A checked kernel is slow, so no time is too long to wait for other CTAs.
        "LSTMREP_SPIN_SECONDS": "0",
        # Else all tensors lie in one large allocation, where an address past a tensor's end is not seen.
        "PYTORCH_NO_CUDA_MEMORY_CACHING": "1",
    }
    made = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    text = made.stdout + made.stderr
    # torch's own threads may abort a checked process on its way out, after all that is ours was checked.
    if made.returncode == 0 or (made.returncode != FOUND and DONE in text and NONE_FOUND in text):
        if made.returncode:
            record.say(f"  - the process ended with exit code {made.returncode} after its last call")
        record.say(*(f"  - {line}" for line in text.splitlines() if "ran " in line or "ERROR SUMMARY" in line))
        return
    # The first findings name the kernel and the line; the rest is mostly the same again.
    record.say("```", *text.splitlines()[:80], "```")
    ours = len(re.findall(r"lstmrep", text))
    found = "found errors" if made.returncode == FOUND else f"ended with exit code {made.returncode}"
    raise AssertionError(f"compute-sanitizer {tool} {found}; its output names lstmrep in {ours} places")


def program(setup: Setup) -> int:
    """One forward and backward pass of each kernel, dtype and case; results must be finite.

    Returns:
        How many calls were made.
    """
    ran = 0
    for case in (replace(case, dtype=dtype) for case in CASES for dtype in FLOATS):
        for kernel in KERNELS:
            if setup.refusal(kernel, problem(case)):
                continue
            with setup.forced(kernel):
                results = copied(Call(case, setup.device)())
            wrong = [key for key, t in results.items() if not t.isfinite().all()]
            if wrong:
                raise AssertionError(f"{kernel}, {name(case.dtype)}: not finite: {', '.join(wrong)}")
            print(f"ran {kernel}, {case}", flush=True)
            ran += 1
    if not ran:
        raise AssertionError("no kernel can run any of the cases, so nothing was checked")
    setup.wait()
    print(DONE, flush=True)
    return ran


if __name__ == "__main__":
    torch.set_num_threads(1)
    program(Setup(emulated="--emulated" in sys.argv[1:]))
