"""What nvcc makes of the primitives: the instruction that each is meant to be, for every architecture, and no other.

That its operands stand in the right order is shown by running this PTX, which needs a GPU or a PTX interpreter.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from primitives import SOURCE

ROOT = Path(__file__).resolve().parents[2]
# Instructions of each kernel; {r} stands for a register.
INSTRUCTIONS = {
    "mma_bfloat16": ["mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"],
    "mma_float16": ["mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"],
    "mma_tf32": ["mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"],
    "ldmatrix_two": ["ldmatrix.sync.aligned.m8n8.x2.shared.b16 {{r}, {r}}, [{r}]"],
    "ldmatrix_four": ["ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{r}, {r}, {r}, {r}}, [{r}]"],
    "ldmatrix_four_trans": ["ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {{r}, {r}, {r}, {r}}, [{r}]"],
    "round_tf32": ["cvt.rna.tf32.f32 {r}, {r}"],
    "vector": ["ld.global.v4.u32", "st.global.v4.u32"],
    "coherent": ["ld.relaxed.gpu.global.v4.u32 {{r}, {r}, {r}, {r}}, [{r}]", "ld.relaxed.gpu.global.u32 {r}, [{r}]"],
    "shuffles": ["shfl.sync.bfly.b32"],
    "copies_16": ["cp.async.cg.shared.global [{r}], [{r}], 16, {r}"],
    "copies_4": ["cp.async.ca.shared.global [{r}], [{r}], 4, {r}"],
    "message": [
        "red.release.gpu.global.add.u32 [{r}], {r}",
        "st.release.gpu.global.u32 [{r}], {r}",
        "ld.acquire.gpu.global.u32 {r}, [{r}]",
        "ld.relaxed.gpu.global.u32",
    ],
    "rounds": [
        "bar.sync 0",
        "red.release.gpu.global.add.u32",
        "mov.u64 {r}, %globaltimer",
        "ld.acquire.gpu.global.u32",
        "atom.relaxed.gpu.global.cas.b32",
        "bar.red.or.pred",
        "ld.relaxed.gpu.global.u32",
    ],
    "swaps": ["atom.relaxed.gpu.global.cas.b32 {r}, [{r}], {r}, {r}"],
    "votes": ["bar.red.or.pred"],
    "arrivals": [
        "bar.sync 0",
        "atom.acq_rel.gpu.global.add.u32 {r}, [{r}], {r}",
        "bar.red.or.pred",
        "ld.relaxed.gpu.global.u32",
    ],
}
# Of kernels without a branch, so that the text has the order of execution.
IN_ORDER = {
    "copies_16": ["cp.async.cg.shared.global", "cp.async.commit_group", "cp.async.wait_group 0", "bar.sync 0"],
    "copies_4": ["cp.async.ca.shared.global", "cp.async.commit_group", "cp.async.wait_group 0"],
    "copies_in_groups": [
        *["cp.async.ca.shared.global", "cp.async.commit_group"] * 3,
        *["cp.async.wait_group 2", "cp.async.wait_group 1", "cp.async.wait_group 0"],
    ],
}
FORBIDDEN = ("ld.global.nc", "call.uni", ".func", ".local", "vprintf")

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


def nvcc(source: Path, *flags: str) -> None:
    command = ["nvcc", "-std=c++17", "-O3", f"-I{ROOT / 'csrc'}", *flags, str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def ptx(tmp_path_factory) -> str:
    target = tmp_path_factory.mktemp("ptx") / "primitives.ptx"
    nvcc(SOURCE, "-arch=compute_80", "-ptx", "-o", str(target))
    return target.read_text()


def body(ptx: str, entry: str) -> str:
    found = re.search(rf"\.entry {entry}\(.*?^\}}", ptx, re.DOTALL | re.MULTILINE)
    assert found is not None, entry
    return re.sub(r"\s+", " ", found[0])


def stands_in_order(text: str, instructions: list[str]) -> bool:
    register = r"%[a-z]+\d+(\+\d+)?"
    patterns = [re.escape(i).replace(re.escape("{r}"), register) for i in instructions]
    # the next character ends the name: x2 is not found in x2.trans
    return re.search(r"(?![.\w]).*?".join(patterns) + r"(?![.\w])", text) is not None


@pytest.mark.parametrize("entry", INSTRUCTIONS)
def test_instructions(ptx, entry):
    text = body(ptx, entry)
    assert not [i for i in INSTRUCTIONS[entry] if not stands_in_order(text, [i])]


@pytest.mark.parametrize("entry", IN_ORDER)
def test_order(ptx, entry):
    assert stands_in_order(body(ptx, entry), IN_ORDER[entry])


def test_an_instruction_that_is_not_there_is_missed(ptx):
    text = body(ptx, "ldmatrix_four_trans")
    assert not stands_in_order(text, ["ldmatrix.sync.aligned.m8n8.x4.shared.b16"])
    assert not stands_in_order(text, ["ldmatrix.sync.aligned.m8n8.x4"])
    assert stands_in_order(text, ["ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"])
    assert not stands_in_order(body(ptx, "copies_in_groups"), ["cp.async.wait_group 1", "cp.async.wait_group 2"])


def test_nothing_that_the_primitives_must_not_become(ptx):
    assert not [word for word in FORBIDDEN if word in ptx]


def test_the_compiler_does_use_the_read_only_cache_where_it_may(tmp_path):
    """So that the search above can fail: what a pointer to exchanged data must not be declared as."""
    source = tmp_path / "restricted.cu"
    source.write_text(
        "__global__ void k(const float* __restrict__ in, float* __restrict__ out) {"
        " out[threadIdx.x] = in[threadIdx.x]; }"
    )
    target = tmp_path / "restricted.ptx"
    nvcc(source, "-arch=compute_80", "-ptx", "-o", str(target))
    assert "ld.global.nc" in target.read_text()


@pytest.mark.parametrize("architecture", ["80", "90", "100", "120"])
def test_assembles(architecture, tmp_path):
    nvcc(SOURCE, f"-arch=sm_{architecture}", "-cubin", "-o", str(tmp_path / "primitives.cubin"))
