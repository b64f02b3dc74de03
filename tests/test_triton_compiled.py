"""Triton's kernels compiled with no GPU for every architecture and planned configuration: what ptxas makes of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from triton_runs import REASON

pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

ROOT = Path(__file__).resolve().parents[1]
REGISTERS = 65536  # of a multiprocessor
SHARED = 99 << 10  # bytes that a program may have on the smallest of these cards
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def _python(*arguments: str) -> str:
    """Standard output of Python in a process that does not interpret kernels."""
    surroundings = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def _make(out: Path, *arguments: str) -> dict[str, dict]:
    """The entries of a manifest by name."""
    _python("-m", "lstmrep.triton_kernels.make_kernels", "--out", str(out), *arguments)
    return {k["name"]: k for k in json.loads((out / "manifest.json").read_text())["kernels"]}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(scope="session")
def kernels(folder):
    """Every entry for sm_80, and those of bfloat16 and float32 for the others."""
    made = _make(folder / "all", "--arch", "80", "90", "100", "120", "--dtype", "bfloat16", "float32")
    return made | _make(folder / "half", "--arch", "80", "--dtype", "float16")


def _ptx(folder, kernel, arch="80"):
    place = "half" if kernel["dtype"] == "float16" else "all"
    return (folder / place / kernel["files"][arch]["ptx"]).read_text()


def test_nothing_spills_and_all_fits(kernels):
    for name, kernel in kernels.items():
        for arch, used in kernel["resources"].items():
            where = f"{name} sm_{arch}: {used}"
            assert used["stack"] == 0 and used["local"] == 0, where
            assert used["registers"] * kernel["launch"]["block"][0] <= REGISTERS, where
            assert used["shared"] <= SHARED, where


def test_every_kernel_is_there_for_every_architecture(kernels):
    names = {"batch_held", "batch_walked", "grid_persistent", "fused_step", "stepwise"}
    for arch in ("80", "90", "100", "120"):
        found = {(k["kernel"], k["pass"]) for k in kernels.values() if arch in k["files"]}
        assert found == {(name, which) for name in names for which in ("forward", "backward")}


def test_parameters_are_those_of_the_ptx(kernels, folder):
    sizes = {"u64": 8, "u32": 4}
    for kernel in kernels.values():
        header = re.search(r"\.entry\s+(\w+)\s*\((.*?)\)", _ptx(folder, kernel), re.DOTALL)
        assert header[1] == kernel["entry"]
        assert [sizes[k] for k in re.findall(r"\.param \.(\w+)", header[2])] == [
            p["size"] for p in kernel["parameters"]
        ]


def test_the_exchanged_state_never_comes_from_the_first_level_cache(kernels, folder):
    """Loads of it are .cg, or run ahead as asynchronous copies of 16 bytes, which are .cg as well."""
    checked = 0
    for kernel in kernels.values():
        if kernel["kernel"] not in ("grid_persistent", "batch_walked", "fused_step"):
            continue
        text, c = _ptx(folder, kernel), kernel["constants"]
        assert "ld.global.nc" not in text
        if kernel["stages"] == 1:
            assert "cp.async" not in text and "ld.global.cg" in text, kernel["name"]
        else:
            bytes_of_thread = c["ROWS"] * c["DEPTH"] * BYTES[kernel["dtype"]] // kernel["launch"]["block"][0]
            assert bytes_of_thread % 16 == 0 and bytes_of_thread, kernel["name"]
            assert text.count("cp.async.cg.shared.global") >= kernel["stages"] * bytes_of_thread // 16, kernel["name"]
            checked += 1
    assert checked > 10


def test_a_barrier_releases_and_acquires(kernels, folder):
    for kernel in kernels.values():
        text = _ptx(folder, kernel)
        waits = kernel["kernel"] == "grid_persistent"
        assert ("atom.global.gpu.release.add" in text or "red.global.gpu.release.add" in text) == waits, kernel["name"]
        assert bool(re.search(r"ld\.global\.gpu\.acquire|atom\.global\.gpu\.acquire", text)) == waits, kernel["name"]


def test_products_in_true_float32_and_tensor_cores(kernels, folder):
    for kernel in kernels.values():
        text = _ptx(folder, kernel)
        precise = kernel["constants"].get("PRECISION") == "ieee" and kernel["dtype"] == "float32"
        has_product = kernel["kernel"] != "stepwise"
        assert ("mma.sync" in text) == (has_product and not precise), kernel["name"]
        assert (".tf32" in text) == (kernel["constants"].get("PRECISION") == "tf32"), kernel["name"]


_RUN_SIZES = """
import triton, torch
from triton.runtime.jit import JITFunction
from lstmrep.triton_kernels.signatures import KERNELS
for pair in KERNELS.values():
    for kernel in pair:
        for p in kernel.params:
            if p.is_constexpr:
                continue
            kind = {"step": 1, "T": 1, "B": 1, "H": 1, "reverse": 1, "w_step": 1, "polls": 1}.get(p.name)
            assert (p.do_not_specialize is True) == (kind is not None), (kernel.__name__, p.name)
            wide = p.name in ("reverse", "w_step", "polls")
            assert (p.annotation_type == "i64") == wide, (kernel.__name__, p.name, p.annotation_type)
print("sizes are not specialised")
"""


def test_no_new_size_compiles_again():
    assert _python("-c", _RUN_SIZES).strip() == "sizes are not specialised"
