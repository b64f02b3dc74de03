"""What the CUDA compiler makes of the kernels: no spill, no stack, no calls, for every architecture that is built."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = ("80", "90", "100", "120")
ENTRIES = 12  # forward and backward, three I/O dtypes, two cells

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


def _nvcc(*flags: str) -> subprocess.CompletedProcess[str]:
    command = ["nvcc", "-std=c++17", "-O3", f"-I{ROOT / 'csrc'}", *flags, str(ROOT / "csrc/cuda/pointwise/launch.cu")]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_spill_and_no_stack(architecture, tmp_path):
    target = str(tmp_path / "k.cubin")
    report = _nvcc(f"-arch=sm_{architecture}", "-cubin", "-Xptxas", "-v", "-o", target).stderr
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    registers = [int(r) for r in re.findall(r"Used (\d+) registers", report)]
    assert len(frames) == len(registers) == ENTRIES
    assert set(frames) == {("0", "0", "0")}
    # 256 threads a block, so that 65,536 registers hold at least six blocks
    assert max(registers) <= 40


def test_ptx_calls_nothing_and_has_no_local_memory(tmp_path):
    target = tmp_path / "k.ptx"
    _nvcc("-arch=compute_80", "-ptx", "-o", str(target))
    ptx = target.read_text()
    assert ptx.count(".visible .entry") == ENTRIES
    for word in (".func", "call.uni", ".local", "vprintf"):
        assert word not in ptx
