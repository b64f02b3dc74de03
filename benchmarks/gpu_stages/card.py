"""Stage "machine": the card and the software around it."""

from __future__ import annotations

import platform
import shutil
import subprocess

import torch

import lstmrep
from gpu_stages.apart import ROOT
from gpu_stages.record import Record
from gpu_stages.setup import Setup
from lstmrep import native

QUERY = (
    "name,driver_version,persistence_mode,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,"
    "power.limit,temperature.gpu,utilization.gpu"
)


def run(setup: Setup, record: Record) -> None:
    """Say what the figures and verdicts of this report are of."""
    with setup.forced("auto") as module, record.part("the card", listed=False):
        index = setup.device.index or 0
        card = next(d for d in module.cuda_devices() if d["index"] == index)
        record.fact("card", card["name"])
        major, minor = card["capability"]
        record.table("what", "value")
        record.row("card", card["name"] + (" (EMULATED on the CPU, no GPU)" if setup.emulated else ""))
        record.row("capability", f"sm_{major}{minor}")
        record.row("SMs", card["sm_count"])
        record.row("shared memory a CTA may have", f"{card['shared_memory_optin']:,} bytes")
        record.row("L2", f"{card['l2_bytes']:,} bytes")
        record.row("memory", f"{card['total_memory'] >> 20:,} MiB")
        record.row("CUDA of the driver, of the runtime", f"{card['driver_version']}, {card['runtime_version']}")
        record.row("cards seen", 1 if setup.emulated else torch.cuda.device_count())
    with record.part("the software", listed=False):
        cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else "none"
        record.row("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}, cuDNN {cudnn}")
        record.row("Python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
        record.row("lstmrep", f"{lstmrep.__version__}, commit {_commit()}")
        why = native.reason()
        built = why or f"nvcc {native.module().nvcc_version() or 'none'} for {', '.join(native.module().cuda_archs())}"
        record.row("compiled by", built)
        record.row("nvcc here", _nvcc())
    with record.part("clocks", listed=False, counted=False):
        for key, value in clocks(setup.device.index or 0):
            record.row(key, value)


def _output(*command: str) -> str:
    """What a program prints, or why there is nothing."""
    if not shutil.which(command[0]):
        return f"no {command[0]}"
    try:
        made = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {type(error).__name__}"
    return made.stdout.strip() if made.returncode == 0 else f"{command[0]}: exit code {made.returncode}"


def _commit() -> str:
    return _output("git", "describe", "--always", "--dirty", "--tags")


def _nvcc() -> str:
    return _output("nvcc", "--version").splitlines()[-1]


def clocks(index: int) -> list[tuple[str, str]]:
    """Clocks and the like of a card, by nvidia-smi, or why there are none."""
    # By its own number: nvidia-smi counts cards otherwise than a process whose cards are restricted or reordered.
    uuid = str(getattr(torch.cuda.get_device_properties(index), "uuid", "")) if torch.cuda.is_available() else ""
    card = ["-i", uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"] if uuid else []
    text = _output("nvidia-smi", *card, f"--query-gpu={QUERY}", "--format=csv,noheader")
    values = [value.strip() for value in text.splitlines()[0].split(",")] if text else []
    if len(values) != len(QUERY.split(",")):
        return [("nvidia-smi", text or "printed nothing")]
    return [(f"nvidia-smi {key}", value) for key, value in zip(QUERY.split(","), values, strict=True)]
