"""Stage "trust": every kernel against stepwise at every call, and stepwise and the others against float64."""

from __future__ import annotations

import functools
import os
from dataclasses import replace

import lstmrep
from gpu_stages.record import Record
from gpu_stages.setup import FLOATS, Setup, for_each_kernel
from lstmrep import trust
from lstmrep.testing import assert_within, budget
from lstmrep.testing.cases import Case
from lstmrep.testing.cases import run as run_case
from lstmrep.testing.tolerance import Budget

CASES = [
    Case(N=2, T=8, B=16, I=64, H=128, reverse=(False, True)),
    Case(N=2, T=8, B=7, I=33, H=65, cell="relu", lengths=True, reverse=(False, True)),
    Case(T=20, B=1, I=32, H=192),
    Case(T=4, B=16, I=64, H=512),
    Case(T=4, B=16, I=64, H=1024),
]
TINY = [Case(N=2, T=3, B=3, I=4, H=16, reverse=(False, True))]


@functools.cache
def _limits(case: Case) -> Budget:
    return budget(lambda dtype, order: run_case(case, "reference", dtype, order=order), case.dtype)


def run(setup: Setup, record: Record) -> None:
    """Call every kernel with the check before each call, then list the verdicts."""
    os.environ["LSTMREP_VERIFY"] = "always"
    for case in TINY if setup.emulated else CASES:
        for dtype in FLOATS:
            here = replace(case, dtype=dtype)

            def compare(here: Case = here) -> None:
                # Where a kernel is forced, one that disagrees with stepwise raises.
                for _ in range(2):
                    assert_within(run_case(here, "cuda", device=setup.device), _limits(here))

            for_each_kernel(setup, record, here, f"{here} agrees with stepwise and with float64", compare)
    with record.part("no kernel gave up waiting"):
        setup.wait()
        lstmrep.check()
    record.say("", "Verdicts, the kernel with its launch parameters:")
    record.table("pass", "kernel", "problem", "verdict", "figures of the output closest to its bound")
    for key, verdict in trust.stored().items():
        which, kernel, sizes = key.split("; ")[-3:]
        record.row(which, kernel, sizes, "right" if verdict.right else "WRONG", verdict.figures)
