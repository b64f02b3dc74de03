"""Trust on first use: which kernel really runs a pass on CUDA, compiled or of Triton.

A kernel that was never yet seen right on this card, with this driver and this build of the library, on a problem of
this size, is checked once against stepwise on random numbers (``comparison``) before its results are used.  Verdicts
are kept on disk (``verdicts``).  LSTMREP_VERIFY says whether that happens.

Nothing here runs where nothing is computed: under fake tensors or tracing the op's backends are not reached.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import threading
import warnings
from pathlib import Path
from typing import Any

import torch

from lstmrep import env, machine
from lstmrep.backends.tensors import Shape
from lstmrep.plan import Plan
from lstmrep.trust.comparison import Passes, compared
from lstmrep.trust.verdicts import Verdict, Verdicts, place, stored

__all__ = ["Passes", "capturing", "driver", "place", "reset", "stored", "trusted"]

MOST_PLANS = 4096

# (id of a plan, pass, device) -> the plan, which is held so that its id stays its own, and what runs.
_decided: dict[tuple[int, bool, torch.device], tuple[Plan, Any]] = {}
_verdicts = Verdicts()
_seeds = itertools.count()
_deciding = threading.Lock()


def trusted(plan: Plan, backward: bool, shape: Shape, passes: Passes) -> Any:
    """The kernel that runs a pass: the plan's, once it is trusted here, or stepwise.

    After the first call with a plan this is one look into a dictionary, by the plan's identity: hashing a plan costs
    more than all the rest.

    Args:
        plan: of the call; ``plan.passes`` has the pass.
        backward: which pass.
        shape: sizes and device of the call.
        passes: the backend, for the check.

    Returns:
        ``plan.passes[backward]``, or stepwise: with a warning, where the plan's kernel was found wrong or cannot be
        checked now because a CUDA graph is being captured.

    Raises:
        RuntimeError: the kernel was found wrong, and the caller or the environment left no choice; or a kernel of
            an earlier call had given up.
        ValueError: LSTMREP_VERIFY has a value that is not known.
    """
    found = _decided.get((id(plan), backward, shape.device))
    if found is not None:
        return found[1]
    with _deciding:
        how, lasting = _decide(plan, backward, shape, passes)
        if lasting:
            if len(_decided) >= MOST_PLANS:
                _decided.clear()
            _decided[id(plan), backward, shape.device] = plan, how
    return how


def reset() -> None:
    """Forget all that is in memory: what was decided, verdicts, warnings. The file stays."""
    _decided.clear()
    _verdicts.clear()
    _here.cache_clear()
    _warn_once.cache_clear()


def capturing(device: torch.device) -> bool:
    """Whether torch's current stream of a device is being captured into a CUDA graph."""
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


def _decide(plan: Plan, backward: bool, shape: Shape, passes: Passes) -> tuple[Any, bool]:
    """The kernel, and whether that holds for later calls with the plan."""
    how, mode = plan.passes[backward], env.verify()
    if how.kernel == "stepwise" or mode == "never" or not shape.N * shape.B:
        return how, True
    key = _key(plan, backward, shape, passes)
    what = f"the {how.kernel} kernel's {'backward' if backward else 'forward'} pass"
    busy = capturing(shape.device)
    verdict = _verdicts.get(key) if busy or mode == "first-use" else None
    if verdict is None and busy:
        _warn_once(
            f"lstmrep: {what} was not yet checked here at this size and cannot be while a CUDA graph is captured, so "
            f"stepwise is captured in its place; make the same call once before the capture ({key})."
        )
        return passes.stepwise, False
    if verdict is None:
        # At first use the same numbers in every process; at every call others each time.
        seed = next(_seeds) if mode == "always" else 0
        verdict = _checked(plan, backward, shape, passes, key, seed)
    if verdict.right:
        return how, mode != "always"
    wrong = f"lstmrep: {what} disagrees with stepwise ({verdict.figures}; {key})"
    if _forced(plan, shape, passes):
        raise RuntimeError(f"{wrong}; set {passes.variable}=stepwise{_to_check_again()}.")
    _warn_once(f"{wrong}; stepwise runs in its place{_to_check_again()}.")
    return passes.stepwise, mode != "always"


def _checked(plan: Plan, backward: bool, shape: Shape, passes: Passes, key: str, seed: int) -> Verdict:
    verdict = compared(passes, plan.passes[backward], backward, plan.problem, shape, seed)
    code = passes.kernels().cuda_take_abort(shape.device.index or 0)
    if code:
        verdict = Verdict(False, f"it gave up waiting for its other CTAs, code {code}")
    # Giving up may be another program's doing, so it is not held against the kernel in other processes.
    _verdicts.put(key, verdict, keep=not code)
    return verdict


def _forced(plan: Plan, shape: Shape, passes: Passes) -> bool:
    here = machine.planned(shape.device)[1]
    return plan.problem.backend != "auto" or getattr(here, passes.choice) != "auto"


def _to_check_again() -> str:
    return f", or delete {place()} to have it checked again" if place() else ""


def _key(plan: Plan, backward: bool, shape: Shape, passes: Passes) -> str:
    """All that a verdict depends on, as text."""
    p, index = plan.problem, shape.device.index or 0
    fields = [
        passes.card(index) if passes.card else _here(passes.kernels(), index),
        "backward" if backward else "forward",
        repr(plan.passes[backward]),
        f"{p.dtype} {p.cell}{' peephole' if p.peephole else ''} N={shape.N} B={shape.B} H={shape.H}",
    ]
    return "; ".join(fields)


@functools.cache
def _here(kernels: Any, index: int) -> str:
    """The card, the driver and the build of the library."""
    from lstmrep import __version__

    card = next(d for d in kernels.cuda_devices() if d["index"] == index)
    build = hashlib.sha256(Path(kernels.__file__).read_bytes()).hexdigest()[:12]
    major, minor = card["capability"]
    return (
        f"{card['name']} sm_{major}{minor}, driver {card['driver_version']}{driver()}, "
        f"runtime {card['runtime_version']}, lstmrep {__version__} {build}"
    )


def driver() -> str:
    """The driver's own version: what the runtime tells is only the CUDA version that the driver supports."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:  # not on this system; then CUDA's number has to do
        return ""
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return f" {found.group()}" if found else ""


@functools.cache
def _warn_once(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)
