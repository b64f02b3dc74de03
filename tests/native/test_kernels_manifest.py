"""What the CUDA compiler makes of the kernels, and build/kernels/manifest.json: resources, parameters, launches."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import emulated
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "kernels"
ARCHITECTURES = ("80", "90", "100", "120")
POINTWISE = 12  # forward and backward, three I/O dtypes, two cells
REGISTERS = 65536  # of a multiprocessor, for every architecture that is built

NVCC = shutil.which("nvcc") or shutil.which(str(Path(os.environ.get("CUDA_HOME", ""), "bin", "nvcc")))
pytestmark = pytest.mark.skipif(NVCC is None, reason="nvcc is not installed: there are no kernels to look at")


@pytest.fixture(scope="session")
def manifest() -> dict[str, Any]:
    """The manifest of the sources as they are; compiled only when they changed."""
    command = [sys.executable, str(ROOT / "csrc" / "make_kernels.py"), "--out", str(FOLDER)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads((FOLDER / "manifest.json").read_text())


def ptx_files(manifest: dict[str, Any], arch: str = "80") -> dict[str, str]:
    """Text of each PTX file by its name."""
    names = sorted({k["files"][arch]["ptx"] for k in manifest["kernels"]})
    return {name: (FOLDER / name).read_text() for name in names}


def entries(manifest: dict[str, Any]) -> dict[str, str]:
    """Text of each entry in the PTX for compute_80, from its name to its end."""
    found = {}
    for text in ptx_files(manifest).values():
        for part in re.split(r"\.entry\s+", text)[1:]:
            found[re.match(r"\w+", part)[0]] = part[: part.index("\n}")]
    return found


def maxntid(entry: str) -> tuple[int, ...]:
    return tuple(int(v) for v in re.search(r"\.maxntid (\d+), (\d+), (\d+)", entry).groups())


def parameter_addresses(entry: str) -> dict[str, tuple[str, int]]:
    """Registers that hold the address of a parameter plus a constant."""
    found = {}
    pattern = r"\b(?:mov\.[ub]64\s+(%\w+), (\w+_param_\d+)|add\.[us]64\s+(%\w+), (%\w+), (\d+));"
    for register, name, sum_register, base, constant in re.findall(pattern, entry):
        if name:
            found[register] = (name, 0)
        elif base in found:
            found[sum_register] = (found[base][0], found[base][1] + int(constant))
    return found


def evaluate(formula: str, **names: Any) -> int:
    functions = {"ceil_div": lambda a, b: -(-a // b), "min": min, "max": max}
    return eval(formula, {"__builtins__": {}}, {**functions, **names})


def test_every_entry_is_described_once(manifest):
    described = [k["entry"] for k in manifest["kernels"]]
    assert len(described) == len(set(described))
    assert set(described) == set(entries(manifest))
    names = [k["name"] for k in manifest["kernels"]]
    assert len(names) == len(set(names))
    assert len([n for n in names if n.startswith("pointwise_")]) == POINTWISE
    assert "pointwise_forward_kernel<BFloat16, tanh>" in names
    assert manifest["archs"] == list(ARCHITECTURES)
    for kernel in manifest["kernels"]:
        assert set(kernel["files"]) == set(kernel["resources"]) == set(ARCHITECTURES)
        for files in kernel["files"].values():
            assert (FOLDER / files["cubin"]).read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_no_spill_no_stack_and_registers_for_a_block(manifest, arch):
    threads = {name: int(np.prod(maxntid(text))) for name, text in entries(manifest).items()}
    for kernel in manifest["kernels"]:
        used = kernel["resources"][arch]
        assert (used["stack"], used["spill_stores"], used["spill_loads"]) == (0, 0, 0), kernel["name"]
        assert used["registers"] * threads[kernel["entry"]] <= REGISTERS, kernel["name"]
        if kernel["name"].startswith("pointwise_"):
            # 256 threads a block, so that 65,536 registers hold at least six blocks
            assert used["registers"] <= 40, kernel["name"]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_ptx_calls_nothing_and_has_no_local_memory(manifest, arch):
    for name, text in ptx_files(manifest, arch).items():
        for word in (r"\.func\b", r"\bcall\b", r"\.local\b", "vprintf"):
            assert re.search(word, text) is None, (name, word)


def test_parameters_have_the_size_and_alignment_of_the_ptx(manifest):
    texts = entries(manifest)
    for kernel in manifest["kernels"]:
        head = texts[kernel["entry"]].split(")")[0]
        pattern = r"\.param (?:\.align (\d+) )?\.[a-z](\d+) (?:\.ptr[^,]*? )?\w+_param_\d+(?:\[(\d+)\])?"
        declared = re.findall(pattern, head)
        assert len(declared) == head.count(".param") == len(kernel["parameters"])
        for (align, bits, count), parameter in zip(declared, kernel["parameters"], strict=True):
            size = int(bits) // 8
            assert parameter["size"] == size * int(count or 1), kernel["name"]
            assert parameter["align"] == int(align or size), kernel["name"]


def test_loads_of_parameters_start_at_fields(manifest):
    texts = entries(manifest)
    seen = 0
    for kernel in manifest["kernels"]:
        text = texts[kernel["entry"]]
        starts, arrays = [], []
        for parameter in kernel["parameters"]:
            starts.append(set())
            arrays.append([])
            for field in parameter["fields"]:
                count = int(np.prod([int(c) for c in re.findall(r"\[(\d+)\]", field["type"])]))
                step = field["size"] // count
                starts[-1] |= {field["offset"] + k * step for k in range(count)}
                arrays[-1] += [field] if count > 1 or "[1]." in field["name"] else []
        bases = parameter_addresses(text)
        for kind, address in re.findall(r"\bld\.param((?:::\w+)?(?:\.\w+)+)\s[^\[]*\[([^\]]+)\]", text):
            seen += 1
            base, _, offset = address.partition("+")
            base, before = bases.get(base, (base, 0))
            which = re.search(r"_param_(\d+)$", base)
            if which is None:  # an address in a register: an array's element that is chosen at run time
                assert base.startswith("%")
                assert any(arrays), (kernel["name"], address)
                continue
            vector = int((re.search(r"\.v(\d)", kind) or [0, 1])[1])
            size = vector * int(re.search(r"(\d+)$", kind)[1]) // 8
            start = before + int(offset or 0)
            assert start in starts[int(which[1])], (kernel["name"], address)
            assert start + size <= kernel["parameters"][int(which[1])]["size"]
    assert seen > 0


def test_offsets_are_those_of_the_host_compiler(manifest, tmp_path):
    command = emulated.compiler()
    if command is None:
        pytest.skip("no C++ compiler to ask for offsets")
    lines = ["#include <cstddef>", "#include <type_traits>", "#include <utility>"]
    headers = sorted({Path(k["source"]).parent / "config.h" for k in manifest["kernels"]})
    lines += [f'#include "{header.relative_to("csrc")}"' for header in headers]
    lines.append("using namespace lstmrep;")
    structs = {p["type"]: p for k in manifest["kernels"] for p in k["parameters"] if len(p["fields"]) > 1}
    for name, struct in structs.items():
        lines.append(f"static_assert(sizeof({name}) == {struct['size']} && alignof({name}) == {struct['align']});")
        for field in struct["fields"]:
            what = f"std::declval<{name}&>().{field['name']}"
            lines.append(f"static_assert(offsetof({name}, {field['name']}) == {field['offset']});")
            lines.append(f"static_assert(sizeof({what}) == {field['size']});")
            lines.append(f"static_assert(std::is_same_v<decltype({what}), {field['type']}>);")
    source = tmp_path / "offsets.cpp"
    source.write_text("\n".join([*lines, ""]))
    flags = ["-std=c++17", "-Wall", "-Werror", f"-I{ROOT / 'csrc'}", f"-I{emulated.FOLDER / 'include'}"]
    flags += [f"-I{emulated.FOLDER}", "-c", str(source), "-o", str(tmp_path / "offsets.o")]
    result = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(structs) >= 2


def test_the_bound_of_threads_holds_for_the_launch_rule(manifest):
    texts = entries(manifest)
    for kernel in manifest["kernels"]:
        bound, block = maxntid(texts[kernel["entry"]]), kernel["launch"]["block"]
        assert 0 < int(np.prod(bound)) <= 1024
        if all(re.fullmatch(r"[\d\s()*+-]+", formula) for formula in block):
            # A rule without names; the others are held against the launches.
            assert int(np.prod([evaluate(formula) for formula in block])) <= int(np.prod(bound)), kernel["name"]


def test_exchanged_data_are_never_read_through_the_read_only_cache(manifest):
    """The emulator cannot see it: ld.global.nc may return what another CTA has long overwritten."""
    held = set()
    for kernel in manifest["kernels"]:
        if "exchanged data" in (ROOT / kernel["source"]).with_name("config.h").read_text().lower():
            held.add(kernel["name"].split("<")[0])
            for files in kernel["files"].values():
                assert "ld.global.nc" not in (FOLDER / files["ptx"]).read_text(), kernel["name"]
    assert held == {"grid_forward_kernel", "grid_backward_kernel"}


def test_nothing_is_compiled_again(manifest):
    before = {p.name: p.stat().st_mtime_ns for p in FOLDER.iterdir()}
    command = [sys.executable, str(ROOT / "csrc" / "make_kernels.py"), "--out", str(FOLDER)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if json.loads((FOLDER / "manifest.json").read_text())["hash"] != manifest["hash"]:
        pytest.skip("csrc was edited while the tests ran")
    assert "unchanged" in said
    assert {p.name: p.stat().st_mtime_ns for p in FOLDER.iterdir()} == before


def launch_forward(device: types.ModuleType, n: int, b: int, h: int, zeros: Callable[..., int]) -> None:
    inputs = dict.fromkeys(("gates_x", "recurrent", "bias", "peephole", "lengths", "gates", "c"), 0)
    state = {name: zeros(n, b, h) for name in ("c_state", "h_state", "h")}
    size = {"N": n, "T": 1, "B": b, "H": h}
    device.cuda_pointwise_forward(device=0, stream=0, dtype=0, cell=0, step=0, reverse=0, **size, **inputs, **state)


def launch_backward(device: types.ModuleType, n: int, b: int, h: int, zeros: Callable[..., int]) -> None:
    names = ("peephole", "lengths", "c0", "grad_h", "grad_h_n", "grad_c_n", "dh_recurrent", "sums")
    state = {name: zeros(n, b, 4 * h) for name in ("gates", "d_gates", "d_step")}
    state |= {name: zeros(n, b, h) for name in ("c", "dc")}
    size = {"N": n, "T": 1, "B": b, "H": h, **dict.fromkeys(names, 0)}
    device.cuda_pointwise_backward(device=0, stream=0, dtype=0, cell=0, step=0, reverse=0, **size, **state)


@pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "-")
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 4, 32), (3, 5, 17), (1, 257, 1), (8, 16, 100)])
def test_launches_follow_the_rule(manifest, size):
    n, b, h = size
    device = emulated.module()
    for base, launch in (("forward", launch_forward), ("backward", launch_backward)):
        held = []

        def zeros(*shape: int, held: list[np.ndarray] = held) -> int:
            held.append(np.zeros(shape, np.float32))
            return held[-1].ctypes.data

        device.take_launches()
        launch(device, n, b, h, zeros)
        rules = [k["launch"] for k in manifest["kernels"] if k["name"].startswith(f"pointwise_{base}_kernel<")]
        assert rules and all(rule == rules[0] for rule in rules)
        shape = types.SimpleNamespace(n=n, t=1, b=b, h=h, step=0, reverse=0)
        names = {"N": n, "T": 1, "B": b, "H": h, "S": 4, "SMs": 132, "shape": shape}
        grid, block = (tuple(evaluate(f, **names) for f in rules[0][part]) for part in ("grid", "block"))
        assert device.take_launches() == [(grid, block, evaluate(rules[0]["shared"], **names))]


@pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "-")
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 3, 5, 33), (2, 10, 100, 64), (8, 2, 1, 100), (1, 1, 2, 70000)])
def test_frame_loss_launches_follow_the_rule(manifest, size, backward):
    n, t, b, d = size
    device = emulated.module()
    vector, z, words = np.zeros(t * b * d, np.float32), np.zeros(n * t * b * d, np.float32), np.zeros(n * d, np.uint32)
    parts = np.zeros(device.cuda_frame_loss_scratch(n, t, b, d, backward)[0], np.float32)
    heads = [(vector.ctypes.data, vector.ctypes.data, b * d, t, 1.0)] * n
    more = {"d_z": z, "d_bias": words} if backward else {"losses": parts, "total": parts}
    more = {name: array.ctypes.data for name, array in {**more, "z": z, "parts": parts, "arrivals": words}.items()}
    more |= dict.fromkeys(("grad_total", "grad_losses", "grad_z"), 0) if backward else {}
    flags = {"vector_io": True, "frames_io": True, "row_stride": d}
    entry = device.cuda_frame_loss_backward if backward else device.cuda_frame_loss_forward
    device.take_launches()
    entry(0, 0, 0, 0, heads, T=t, B=b, D=d, **flags, **more)
    base = f"frame_loss_{'backward' if backward else 'forward'}_kernel<"
    rules = [k["launch"] for k in manifest["kernels"] if k["name"].startswith(base)]
    assert len(rules) == 3 and all(rule == rules[0] for rule in rules)
    ((grid, block, shared),) = device.take_launches()
    # As many blocks along the rows as fill the device, and no more than there are rows for; at least one.
    assert 1 <= grid[1] <= min(64, max(1, -(-t * b // 8)))
    shape = types.SimpleNamespace(d=d, chunks=grid[1])
    names = {"N": n, "T": t, "B": b, "H": 1, "S": 4, "SMs": 132, "shape": shape}
    assert (grid, block) == tuple(tuple(evaluate(f, **names) for f in rules[0][part]) for part in ("grid", "block"))
    assert shared == evaluate(rules[0]["shared"], **names)


OPERANDS = {"float": (0, False), "Tf32": (0, True), "BFloat16": (1, False), "Float16": (2, False)}


@pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "-")
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("operand", OPERANDS)
def test_resident_launches_follow_the_rule(manifest, operand, backward):
    """No step is run (T = 0): the launch is the same."""
    device, texts = emulated.module(), entries(manifest)
    base = f"resident_{'backward' if backward else 'forward'}_kernel<{operand}, "
    kernels = {k["name"].removeprefix(base): k for k in manifest["kernels"] if k["name"].startswith(base)}
    card = device.cuda_devices()[0]
    device.set_card("a large card", 9, 0, 132, 227 << 10)
    dtype, tf32 = OPERANDS[operand]
    heights = [1, 16, 63, 64, 100, 128, *([129, 160] if dtype else [])]
    try:
        for h, b, rows in [(h, b, rows) for h in heights for b, rows in ((1, 1), (7, 2), (9, 4))]:
            n, state = 2, np.zeros(2 * b * h, np.float32)
            w = np.zeros(4 * h * h, np.float32)
            names = ("vector_io", "c0", "shared_start", "lengths", "reverse", "gates", "c")
            names += ("grad_h", "grad_h_n", "grad_c_n", "d_gates", "d_h0", "d_c0", "vectors") if backward else ()
            names += ("sums", "start_parts", "arrivals") if backward else ("gates_x", "h0", "h")
            arguments = dict.fromkeys(names, 0) | {"peephole": []}
            arguments |= {} if backward else {"bias": [], **dict.fromkeys(("h_n", "c_n"), state.ctypes.data)}
            entry = device.cuda_resident_backward if backward else device.cuda_resident_forward
            device.take_launches()
            entry(0, 0, dtype, 0, tf32, n, 0, b, h, rows, w_hh=[w.ctypes.data] * n, **arguments)
            kernel = kernels["true>" if h > 128 else "false>"]
            shape = types.SimpleNamespace(n=n, t=0, b=b, h=h, rows=rows)
            values = {"N": n, "T": 0, "B": b, "H": h, "S": 2 if dtype else 4, "SMs": 132, "shape": shape}
            rule = kernel["launch"]
            grid, block = (tuple(evaluate(f, **values) for f in rule[part]) for part in ("grid", "block"))
            assert device.take_launches() == [(grid, block, evaluate(rule["shared"], **values))]
            assert int(np.prod(block)) <= int(np.prod(maxntid(texts[kernel["entry"]])))
    finally:
        device.set_card(card["name"], *card["capability"], card["sm_count"], card["shared_memory_optin"])


@pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "-")
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("operand", OPERANDS)
def test_grid_launches_follow_the_rule(manifest, operand, backward):
    """No step is run (T = 0): the launch is the same."""
    device, texts = emulated.module(), entries(manifest)
    base = f"grid_{'backward' if backward else 'forward'}_kernel<{operand}, "
    kernels = {k["name"].removeprefix(base)[0]: k for k in manifest["kernels"] if k["name"].startswith(base)}
    dtype, tf32 = OPERANDS[operand]
    width, n, b = 2 if dtype else 4, 2, 17
    assert set(kernels) == ({"4", "5"} if dtype else {"4"})
    card = device.cuda_devices()[0]
    device.set_card("a large card", 9, 0, 132, 227 << 10)
    try:
        for h, tiles, panels, replicas, concurrent in [
            (1, 4, 1, 1, 2),
            (100, 4, 1, 2, 1),
            (100, int(max(kernels)), 2, 3, 2),
        ]:
            members = -(-h // (4 * tiles * panels))
            members = -(-members // 4) * 4 if backward else members
            rows = -(-b // replicas)
            choice = (members, replicas, concurrent, tiles, panels, 1, 3, 2)
            sizes = device.cuda_grid_layout(n, h, rows, width, bool(dtype or tf32), backward, choice)
            held = [np.zeros(s, np.uint8) for s in (sizes["exchange_bytes"], 4 * sizes["counter_words"] + 4096)]
            held += [np.zeros(sizes["streamed_bytes"] + 16, np.uint8), np.zeros(sizes["part_floats"] + 1, np.float32)]
            held += [np.zeros(n * b * h, np.float32), np.zeros(4 * h * h, np.float32)]
            exchange, counters, streamed, parts, state, w = (a.ctypes.data for a in held)
            names = ("c0", "lengths", "reverse", "gates", "c", "vector_io", "shared_start")
            names += ("grad_h", "grad_h_n", "grad_c_n", "d_gates", "d_h0", "d_c0", "vectors", "sums", "start_parts")
            names += ("arrivals",) if backward else ()
            names = names if backward else (*names[:7], "gates_x", "h0", "h")
            arguments = dict.fromkeys(names, 0) | {"peephole": [], "w_hh": [w] * n, "layout": choice}
            arguments |= {"dc": state, "parts": parts} if backward else {"bias": [], "h_n": state, "c_n": state}
            memory = {"exchange": exchange, "counters": counters, "streamed": streamed, "budget_ns": 0}
            entry = device.cuda_grid_backward if backward else device.cuda_grid_forward
            device.take_launches()
            entry(0, 0, dtype, 0, tf32, n, 0, b, h, rows, **arguments, **memory)
            kernel = kernels[str(tiles)]
            fields = ("members", "replicas", "concurrent", "tiles", "panels", "row_tiles", "slots", "most_shared")
            grid = types.SimpleNamespace(**dict(zip(fields, choice, strict=True)), shared_bytes=sizes["shared_bytes"])
            values = {"N": n, "T": 0, "B": b, "H": h, "S": width, "SMs": 132, "grid": grid}
            rule = kernel["launch"]
            expected = tuple(tuple(evaluate(f, **values) for f in rule[part]) for part in ("grid", "block"))
            assert device.take_launches() == [(*expected, evaluate(rule["shared"], **values))]
            assert int(np.prod(expected[1])) <= int(np.prod(maxntid(texts[kernel["entry"]])))
    finally:
        device.set_card(card["name"], *card["capability"], card["sm_count"], card["shared_memory_optin"])
