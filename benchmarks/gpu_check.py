"""Everything that can only be shown on an NVIDIA GPU, in one command that leaves one report.

    python benchmarks/gpu_check.py [--only STAGE ...] [--out FILE] [--together] [--emulated]

docs/gpu_check.md says what each stage shows.  Exit code: 0 some stage passed and none failed, 1 else, 2 there is
nothing to run on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT / "benchmarks"), str(ROOT)) if path not in sys.path]

import torch  # noqa: E402
from gpu_stages import report  # noqa: E402
from gpu_stages.apart import Stage, run_stage  # noqa: E402
from gpu_stages.record import SKIPPED, Result  # noqa: E402

from lstmrep import machine  # noqa: E402

STAGES = [
    Stage("machine", "gpu_stages.card:run", "what the report is of", 300),
    Stage("tests", "gpu_stages.suite:run", "the CUDA tests with the compiled kernels", 1800),
    Stage("compute-sanitizer", "gpu_stages.sanitizer:run", "no stray address, no race, no misused barrier", 1600),
    Stage("streams", "gpu_stages.streams:run", "graphs, streams, devices, threads: the same bits", 300),
    Stage("launches", "gpu_stages.launch_counts:run", "the card runs the kernels that are counted", 300),
    Stage("trust", "gpu_stages.verdicts:run", "every kernel agrees with stepwise and with float64", 600),
    Stage("timing", "gpu_stages.timing:run", "times beside cuDNN's", 2400, alone=True),
]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--emulated", action="store_true", help="on the emulated device: shows that the check works")
    made.add_argument("--only", action="append", metavar="STAGE", help="run this stage (may be given several times)")
    made.add_argument("--out", type=Path, metavar="FILE", help="the report; default: in benchmarks/results")
    made.add_argument(
        "--together", action="store_true", help="all stages but the times side by side: minutes, not hours"
    )
    made.add_argument("--limit", type=float, metavar="SECONDS", help="cut every stage off after this time")
    return made


def missing(emulated: bool) -> str:
    """Why nothing can run here, in one sentence, or ``""``."""
    if emulated:
        sys.path[:0] = [str(ROOT / "tests" / "emulator")]
        import emulated as emulator

        why = emulator.reason()
        return f"the emulated device cannot be used: {why}." if why else ""
    if not torch.cuda.is_available():
        return "there is no CUDA device that torch can use; --emulated runs the check without one."
    why = machine.current("cuda").cuda
    return f"there is a CUDA device, but lstmrep cannot use it: {why}." if why else ""


def main(arguments: Sequence[str] | None = None, stages: Sequence[Stage] = tuple(STAGES)) -> int:
    """Run the stages, writing the report after each.

    Args:
        arguments: of the command line; default: the process's.
        stages: what to run; tests pass their own.

    Returns:
        The exit code.
    """
    given = parser().parse_args(arguments)
    names = [stage.name for stage in stages]
    unknown = [name for name in given.only or [] if name not in names]
    why = f"there is no stage {unknown[0]!r}; choose from {', '.join(names)}." if unknown else missing(given.emulated)
    if why:
        print(f"gpu-check: {why}", file=sys.stderr)
        return 2
    now, file = report.started(), given.out
    results = {
        s.name: Result(s.name, SKIPPED, "left out by --only") for s in stages if given.only and s.name not in given.only
    }
    wanted = [stage for stage in stages if stage.name not in results]
    with ThreadPoolExecutor(max(1, len(wanted))) as pool:
        for group in groups(wanted, given.together):
            for stage in group:
                print(f"{stage.name}: {stage.shows} (at most {stage.limit:g} s) ...", flush=True)
            for done in as_completed([pool.submit(run_stage, one, given.emulated, given.limit) for one in group]):
                made = done.result()
                results[made.name] = made
                print(f"{made.name}: {made.status}: {made.reason} ({made.seconds:.1f} s)", flush=True)
                so_far = [results[stage.name] for stage in stages if stage.name in results]
                file = file or report.default_file(str(_card(so_far)), now)
                report.write(file, list(stages), so_far, given.emulated, now)
    ended = [results[stage.name] for stage in stages]
    print(report.verdict(ended, len(stages)))
    print(f"report: {file}")
    return 0 if report.passed(ended) else 1


def groups(stages: Sequence[Stage], together: bool) -> list[list[Stage]]:
    """Stages that run at the same time: each by itself, or all but those that need the card alone."""
    if not together:
        return [[stage] for stage in stages]
    shared = [stage for stage in stages if not stage.alone]
    return [shared, *([stage] for stage in stages if stage.alone)]


def _card(results: list[Result]) -> str:
    """The card's name, from the stage that asked; else from torch, so that any first stage gives the file its name."""
    found = [r.facts["card"] for r in results if "card" in r.facts]
    if found:
        return str(found[0])
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "emulated card"


if __name__ == "__main__":
    sys.exit(main())
