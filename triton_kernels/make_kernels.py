"""Compiles every kernel of this package in every planned configuration, with no GPU, and describes the results.

``make triton-kernels`` runs it: PTX and cubin of each entry and architecture, and manifest.json beside them with the
entry's parameters (name, type, offset, shape), its launch rule, and the resources that are read from the cubin.
Formulas are Python over N, B, H, teams and ceil_div.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import triton

from lstmrep.planner.problem import Machine, Problem
from lstmrep.planner.triton import TRITON_PASSES

from .launch import options
from .signatures import KERNELS, Entry, compiled

VERSION = 1  # of the manifest's form
ARCHITECTURES = (80, 90, 100, 120)
GRIDS = {
    "batch_held": ["ceil_div(B, {rows})", "N", "1"],
    "batch_walked": ["ceil_div(B, {rows})", "N", "1"],
    "grid_persistent": ["ceil_div(H, {units})", "teams", "N"],
    "fused_step": ["ceil_div(H, {units})", "ceil_div(B, {rows})", "N"],
    "stepwise": ["ceil_div(H, {units})", "ceil_div(B, {rows})", "N"],
}
RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def planned_entries() -> list[Entry]:
    """Every kernel in every configuration that the planner gives it, over sizes, cards and dtypes."""
    found: dict[Entry, None] = {}
    dtypes = (("bfloat16", False), ("float16", False), ("float32", False), ("float32", True))
    sizes = (8, 16, 24, 32, 48, 64, 100, 128, 256, 1000, 1024, 2048, 4096)
    for (dtype, tf32), h, b, programs in product(dtypes, sizes, (1, 20, 40, 100), (20, 132)):
        problem = Problem(h, batch=b, dtype=dtype, device="cuda", training=True)
        for kernel, backward in product(TRITON_PASSES, (False, True)):
            machine = Machine(tf32=tf32, triton_programs=programs, triton_kernel=kernel)
            how = TRITON_PASSES[kernel](problem, machine, backward)
            if not isinstance(how, str):
                found[Entry(replace(how, teams=1), backward, dtype, h % 16 == 0)] = None
    held = [e for e in found if e.how.kernel == "batch_held" and e.how.units == 32 and e.aligned]
    first = {(e.how.kernel, e.backward): e for e in reversed(found) if e.aligned}
    return [*found, *(e._replace(relu=True) for e in held), *(e._replace(bare=True) for e in first.values())]


def parameters(entry: Entry) -> list[dict[str, Any]]:
    """As the PTX has them; Triton adds two addresses of scratch memory, which these kernels do not use."""
    offset, described = 0, []
    hidden = [("scratch", "*i8", "may be null"), ("profile_scratch", "*i8", "may be null")]
    for name, kind, shape in [*entry.parameters, *hidden]:
        size = 4 if kind == "i32" else 8
        offset = -(-offset // size) * size
        described.append({"name": name, "type": kind, "offset": offset, "size": size, "shape": shape})
        offset += size
    return described


def resources(cubin: Path) -> dict[str, int]:
    """Registers a thread, and bytes of stack and local memory: spills lie there."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [str(tool), "--dump-resource-usage", str(cubin)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = RESOURCES.search(text)
    if found is None:
        raise RuntimeError(f"lstmrep: cuobjdump tells no resources of {cubin}: {text}")
    registers, stack, _, local = map(int, found.groups())
    return {"registers": registers, "stack": stack, "local": local}


def built(job: tuple[Entry, tuple[int, ...], Path]) -> dict[str, Any]:
    """Compile one entry, write its files, and describe it."""
    entry, architectures, out = job
    how = entry.how
    files, used = {}, {}
    for arch in architectures:
        made = compiled(entry, arch)
        ptx, cubin = out / f"{entry.name}.sm_{arch}.ptx", out / f"{entry.name}.sm_{arch}.cubin"
        ptx.write_text(made.asm["ptx"])
        cubin.write_bytes(made.asm["cubin"])
        files[str(arch)] = {"ptx": ptx.name, "cubin": cubin.name}
        used[str(arch)] = {**resources(cubin), "shared": made.metadata.shared}
    return {
        "name": entry.name,
        "entry": entry.kernel.__name__,
        "kernel": how.kernel,
        "pass": "backward" if entry.backward else "forward",
        "dtype": entry.dtype,
        "constants": entry.constants,
        "cooperative": how.kernel == "grid_persistent",
        "parameters": parameters(entry),
        "launch": {
            "grid": [f.format(rows=how.rows, units=how.units) for f in GRIDS[how.kernel]],
            "block": [32 * how.warps, 1, 1],
        },
        "stages": options(how, entry.aligned)["num_stages"],
        "resources": used,
        "files": files,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/triton"), help="folder of the results")
    parser.add_argument("--arch", type=int, nargs="+", default=list(ARCHITECTURES), help="default: 80 90 100 120")
    parser.add_argument("--dtype", nargs="+", default=[], help="only these; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    if triton.knobs.runtime.interpret:
        sys.exit("make_kernels: TRITON_INTERPRET is set, so nothing can be compiled; unset it.")
    asked.out.mkdir(parents=True, exist_ok=True)
    entries = [e for e in planned_entries() if not asked.dtype or e.dtype in asked.dtype]
    jobs = [(entry, tuple(asked.arch), asked.out) for entry in entries]
    with ProcessPoolExecutor(asked.jobs) as pool:
        described = list(pool.map(built, jobs, chunksize=2))
    manifest = {"version": VERSION, "triton": triton.__version__, "kernels": described}
    (asked.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    spilled = [k["name"] for k in described if any(u["stack"] or u["local"] for u in k["resources"].values())]
    print(f"{len(described)} entries of {len(KERNELS)} kernels in {asked.out}, {len(spilled)} with spills {spilled}")


if __name__ == "__main__":
    main()
