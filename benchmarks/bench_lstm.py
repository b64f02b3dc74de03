"""lstmrep against torch.nn.LSTM, eager peephole cells and other libraries: a table, each row right before it is timed.

    python benchmarks/bench_lstm.py             a set of about three minutes on two cores
    python benchmarks/bench_lstm.py --full      all registered problems: many hours on two cores
    python benchmarks/bench_lstm.py --only 'lstm-i4096-h2048-t10-b1*' --dtype float32
    python benchmarks/bench_lstm.py --list      the problems' names

Writes bench.csv, bench.md and bench.png into a folder; docs/benchmarks.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lstm_bench import plot, report
from lstm_bench.contenders import contenders
from lstm_bench.floor import Rates, floor, rates
from lstm_bench.problems import DTYPES, INFERENCE, PASSES, TRAINING, Problem, chosen, toy
from lstm_bench.report import Row
from lstm_bench.rows import Clock, rows
from lstm_bench.ways import ways
from lstm_bench.workload import Workload

import lstmrep
from lstmrep.eval.cost import device_name

RESULTS = Path(__file__).resolve().parent / "results"
SECONDS, FULL_SECONDS = 1.5, 10.0


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options, and the problems that they name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--full", action="store_true", help=f"all problems and passes, {FULL_SECONDS:g} seconds each")
    add("--only", action="append", default=[], metavar="PATTERN", help="problems by name, as a shell matches files")
    add("--list", action="store_true", help="print the problems' names and end")
    add("--dtype", action="append", choices=DTYPES, help="default: float32 and bfloat16, on CUDA float16 too")
    add("--passes", action="append", choices=PASSES, help=f"default: {INFERENCE} and {TRAINING}")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    add("--threads", type=int, default=0, help="of torch; default: its own choice")
    add("--seconds", type=float, default=0.0, help=f"for each problem, dtype and pass; default {SECONDS}")
    add("--graphs", action="store_true", help="on CUDA: time replays of CUDA graphs, the device's work alone")
    add("--triton", action="store_true", help="on CUDA: Triton's kernels too, which take minutes to compile")
    add("--no-compile", action="store_true", help="leave out torch.compile of the eager cell")
    add("--out", type=Path, help="folder of the results; default: benchmarks/results/bench-DEVICE-DATE")
    add("--toy", action="store_true", help="tiny sizes, two rounds: shows that the benchmark works, and no speed")
    options = parser.parse_args(given)
    if options.threads < 0 or options.seconds < 0:
        parser.error("--threads and --seconds must not be negative.")
    if options.graphs and (options.device == "cpu" or not torch.cuda.is_available()):
        parser.error("--graphs needs a CUDA device.")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch.cuda.is_available() is False.")
    try:
        options.problems = chosen(options.full or options.list, options.only)
    except ValueError as why:
        parser.error(str(why))
    if options.toy:
        options.problems = list(dict.fromkeys(map(toy, options.problems)))
    return options


def main(given: Sequence[str] | None = None) -> int:
    """Run it; 0 when every row that could run was right, 1 when the gate refused one."""
    options = arguments(given)
    if options.list:
        print("\n".join(p.name for p in options.problems))
        return 0
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")
    dtypes = [getattr(torch, d) for d in options.dtype or DTYPES[: 3 if device.type == "cuda" else 2]]
    passes = options.passes or (list(PASSES) if options.full else [INFERENCE, TRAINING])
    clock = Clock(
        options.seconds or (FULL_SECONDS if options.full else SECONDS), 2 if options.toy else 0, options.graphs
    )
    compiled = not (options.no_compile or options.toy)
    folder = options.out or RESULTS / f"bench-{device.type}-{time.strftime('%Y%m%d-%H%M%S')}"
    found = rates(device, dtypes, quick=options.toy)
    head = [conditions(device), f"command: {command(given)}"]
    if options.graphs:
        head.append("every call is the replay of a CUDA graph: times of the device's work, without the host's")
    if options.toy:
        head.append("TOY SIZES: these times say nothing about speed")
    print(*head, "", report.line(report.COLUMNS), sep="\n", flush=True)
    made: list[Row] = []
    for problem in options.problems:
        for dtype in dtypes:
            work = Workload(problem, dtype, device)
            for row in rows(work, contenders(work, ways(device, options.triton), compiled), passes, found, clock):
                made.append(row)
                print(report.line(row.cells()), flush=True)
            report.save(folder, [*head, found.describe()], made)  # what is there survives an interrupt
        found.look_again()
    made = with_last_rates(made, options.problems, found)
    head.append(found.describe())
    print("", found.describe(), "", "lstmrep, and its time over the baseline's:", *report.summary(made), sep="\n")
    print(*report.peephole_costs(made), "", report.verdict(made), sep="\n")
    files = report.save(folder, head, made)
    try:
        files.append(plot.draw(folder / "bench.png", made, head[0]))
    except ImportError:
        print("no plot: matplotlib is not installed (pip install '.[bench]')")
    print("written:", *files)
    return int(any(row.wrong for row in made))


def with_last_rates(made: Sequence[Row], problems: Sequence[Problem], found: Rates) -> list[Row]:
    """Rows with their floor by the rates at the end: those of a slow moment may have been seen better since."""
    by_name = {p.name: p for p in problems}
    return [
        replace(row, floor=floor(found, by_name[row.problem], row.passes, getattr(torch, row.dtype)))
        if row.median
        else row
        for row in made
    ]


def command(given: Sequence[str] | None) -> str:
    """What to type to run this again."""
    return " ".join(["python benchmarks/bench_lstm.py", *(sys.argv[1:] if given is None else given)])


def conditions(device: torch.device) -> str:
    """What the times are taken on."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), processor)
    where = f"{processor}, {device_name(device)}" if device.type == "cpu" else device_name(device)
    load = f"; load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return f"machine: {where}{load}; torch {torch.__version__}, lstmrep {lstmrep.__version__}"


if __name__ == "__main__":
    sys.exit(main())
