"""The plan of a call of the op, cached by everything it depends on, and the one warning when "auto" falls back."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from lstmrep import env, machine, plan, trust
from lstmrep.backends.tensors import Shape
from lstmrep.ops import validate
from lstmrep.ops.schema import Inputs, Passed

_KNOWN = 4096
_known: dict[tuple[object, ...], tuple[Shape, plan.Plan]] = {}
# Of ``lstmrep.ops.direct``: what the native module made of a plan, or none where the call is not of its kind.
direct_calls: dict[tuple[object, ...], Any] = {}


def sizes_and_plan(
    i: Inputs,
    steps: int,
    reverse: Sequence[bool],
    cell: str,
    backend: str,
    *,
    training: bool,
    recompute: bool,
    passed: Passed | None = None,
) -> tuple[Shape, plan.Plan]:
    """Check a call, or find that one like it was checked before: all checks are of metadata, which is the key.

    Looking a call up takes a tenth of the lines that checking and planning take, and on the way between two kernels,
    whose data have replaced the interpreter's in the caches, each line costs several times what it does in a loop.

    Args:
        i, steps, reverse, cell, backend: of the call.
        training: states are saved for a backward pass. recompute: gates are not.
        passed: in a backward pass, the gradients and saved tensors.
    """
    if backend == "auto":
        backend = env.backend()
    weight = validate.first_weight(i.w_hh)
    tensors = i.flat() if passed is None else (*i.flat(), *passed)
    told = (
        tuple([t if t is None else (t.shape, t.dtype, t.device) for t in tensors]),
        i.counts,
        steps,
        tuple(reverse),
        cell,
        backend,
        training,
        recompute,
        torch.get_num_threads(),
        # Only CUDA's float32 products depend on it.
        torch.get_float32_matmul_precision() if weight.is_cuda else "",
    )
    found = _known.get(told)
    if found is None:
        s = validate.check(i, steps, reverse, cell)
        if passed is not None:
            validate.check_passed(s, passed)
        if len(_known) >= _KNOWN:
            _known.clear()
        found = _known[told] = s, chosen_plan(s, bool(i.peephole), cell, training, recompute, backend)
    return found


def chosen_plan(s: Shape, peephole: bool, cell: str, training: bool, recompute: bool, backend: str) -> plan.Plan:
    """The plan for one call, made anew; ``backend`` as the call or the environment has it."""
    seen, here = machine.planned(torch.device(s.device.type, s.device.index or 0))
    problem = plan.Problem(
        hidden_size=s.H,
        steps=s.T,
        batch=s.B,
        input_size=s.I,
        recurrences=s.N,
        dtype=str(s.dtype).removeprefix("torch."),
        device=seen,
        peephole=peephole,
        cell=cell,
        training=training,
        recompute=recompute,
        backend=backend,
    )
    made = plan.plan(problem, here)
    if backend == "auto" and made.backend == "reference" and seen in ("cpu", "cuda"):
        wanted = dict(made.refusals)[seen]
        _warn_once(
            f"lstmrep: no kernel of this library can run {problem.dtype} on {seen} ({wanted}); "
            "using the reference backend, which is slow. See python -m lstmrep info."
        )
    return made


@functools.cache
def _warn_once(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def cuda_runs(device: str, index: int) -> bool:
    """Whether CUDA kernels of this library run for tensors on a device."""
    return _cuda_runs(device, index)


# What torch.compiler.assume_constant_result does; calling that would import the compiler with the library.
cuda_runs._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=64)
def _cuda_runs(device: str, index: int) -> bool:
    seen, here = machine.planned(torch.device(device, index))
    return seen == "cuda" and not here.native and not here.cuda


def reset_plans() -> None:
    """Forget cached plans, which kernels are trusted, and warnings (for tests that change the machine)."""
    _known.clear()
    direct_calls.clear()
    _cuda_runs.cache_clear()
    _warn_once.cache_clear()
    trust.reset()
