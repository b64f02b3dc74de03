"""``lstmrep.show_config()`` and ``python -m lstmrep info``: what was built, what can run here, why not the rest."""

from __future__ import annotations

import platform

import torch

import lstmrep
from lstmrep import env, machine, native, trust
from lstmrep.plan import Machine, PlanError, Problem, plan


def show_config() -> str:
    """What was built and what can run here, as text (``print(lstmrep.show_config())``)."""
    lines = [
        f"lstmrep {lstmrep.__version__}, Python {platform.python_version()}, torch {torch.__version__}",
        f"package   {', '.join(lstmrep.__path__)}",
        *_native_lines(),
        f"torch     {torch.get_num_threads()} threads; CUDA build: {torch.version.cuda or 'none'}",
        *_backend_lines(),
        *_trust_lines(),
    ]
    lines += [f"set       {name}={value}" for name, value in _set_variables()]
    return "\n".join(lines)


def _native_lines() -> list[str]:
    why = native.reason()
    if why:
        return [f"native    not loaded: {why}"]
    m = native.module()
    threads = "OpenMP" if m.has_openmp() else "no OpenMP: one thread"
    cuda = (
        f"built: nvcc {m.nvcc_version()} for {', '.join(m.cuda_archs())}"
        if m.cuda_built()
        else "not built (no nvcc was found, or LSTMREP_CUDA=0)"
    )
    return [
        f"native    {m.__file__}, {m.compiler()}, {threads}",
        f"CPU       built: {', '.join(m.cpu_isas_built())}; usable here: {', '.join(m.cpu_isas_usable())}; "
        f"in use: {m.cpu_isa()}",
        f"CUDA      {cuda}",
        *[
            f"device    {d['index']}: {d['name']}, sm_{d['capability'][0]}{d['capability'][1]}, "
            f"{d['sm_count']} SMs, {d['total_memory'] >> 20} MiB"
            for d in m.cuda_devices()
        ],
    ]


def _backend_lines() -> list[str]:
    lines = []
    here: Machine = machine.current("cuda" if torch.cuda.is_available() else "cpu")
    for name, device in (("cuda", "cuda"), ("triton", "cuda"), ("cpu", "cpu"), ("reference", "cpu")):
        try:
            plan(Problem(hidden_size=1, device=device, backend=name), here)
            verdict = "usable"
        except PlanError as error:
            verdict = "not usable: " + str(error).split(": ", 2)[-1].rstrip(".")
        lines.append(f"backend   {name}: {verdict}")
    return lines


def _trust_lines() -> list[str]:
    """How many checks of CUDA kernels are on record, and each that failed."""
    found = trust.stored()
    wrong = [f"wrong     {verdict.figures}; {key}" for key, verdict in found.items() if not verdict.right]
    where = trust.place() or "nowhere: there is no home folder"
    return [f"verdicts  {len(found) - len(wrong)} right, {len(wrong)} wrong, kept in {where}", *wrong]


def _set_variables() -> list[tuple[str, str]]:
    import os

    return [(name, os.environ[name]) for name in env.VARIABLES if name in os.environ]
