"""The module's own facts: build information, argument checks, counters, symbols, no CUDA linkage."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cpu_runner import run_backward, run_forward
from emulated import compiler
from native_cases import make_problem

from lstmrep import _native

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path(str(_native.__file__))


def forward_arguments() -> dict[str, object]:
    """Valid arguments of a tiny cpu_forward, with the arrays kept alive in 'keep'."""
    n, t, b, h = 1, 2, 3, 4
    arrays = {name: np.zeros(512, dtype=np.float32) for name in ("w", "h", "h_n", "c_n")}
    size = _native.cpu_workspace_bytes(0, n, t, b, h, 0, 1, True, False, False)
    arrays["workspace"] = np.zeros(size, dtype=np.uint8)
    null = ("gates_x", "h0", "c0", "lengths", "gates", "c")
    return {
        "dtype": 0,
        "cell": 0,
        "threads": 1,
        "packed": True,
        "by_rows": False,
        "N": n,
        "T": t,
        "B": b,
        "H": h,
        "I": 0,
        "x": 0,
        "x_strides": (0, 0, 0),
        "w_ih": [],
        "vectors_as_io": False,
        "bias": [],
        "peephole": [],
        **dict.fromkeys(null, 0),
        **{name: arrays[name].ctypes.data for name in ("h", "h_n", "c_n", "workspace")},
        "w_hh": [arrays["w"].ctypes.data],
        "packs": [],
        "reverse": [False],
        "keep": arrays,
    }


def call_forward(**changes: object) -> None:
    arguments = {**forward_arguments(), **changes}
    keep = arguments.pop("keep")
    _native.cpu_forward(**arguments)  # type: ignore[arg-type]
    del keep


def test_build_facts() -> None:
    assert _native.version == "0.1.0"
    built, usable = _native.cpu_isas_built(), _native.cpu_isas_usable()
    assert built[0] == usable[0] == "baseline"
    assert set(usable) <= set(built)
    assert _native.cpu_isa() in usable
    assert re.fullmatch(r"(g|clang)\+\+ \d+\.\d+\.\d+", _native.compiler())
    assert isinstance(_native.has_openmp(), bool)
    assert bool(_native.cuda_archs()) == bool(_native.nvcc_version()) == _native.cuda_built()


def test_cuda_status_is_one_sentence_or_usable() -> None:
    status, devices = _native.cuda_status(), _native.cuda_devices()
    assert bool(status) == (not devices)
    if status:
        assert "\n" not in status
        assert status.endswith(".")


def test_no_word_is_made_before_a_kernel_that_may_give_up_runs() -> None:
    assert [_native.cuda_take_abort(index) for index in (-1, 0, 63, 64)] == [0] * 4
    assert _native.cuda_abort_devices() == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dtype": 4}, "dtype"),
        ({"dtype": -1}, "dtype"),
        ({"cell": 2}, "cell"),
        ({"threads": 0}, "threads"),
        ({"packed": False, "by_rows": True}, "by_rows"),
        ({"N": 0, "w_hh": [], "reverse": []}, "N"),
        ({"N": 2}, "w_hh"),
        ({"T": -1}, "T"),
        ({"B": -1}, "B"),
        ({"H": 0}, "H"),
        ({"reverse": [False, True]}, "reverse"),
        ({"w_hh": [0]}, "w_hh"),
        ({"bias": [64, 64, 64]}, "bias"),
        ({"bias": [64, 0]}, "bias"),
        ({"bias": [0]}, "bias"),
        ({"peephole": [64]}, "peephole"),
        ({"packs": [0]}, "packs"),
        ({"packs": [64, 64]}, "packs"),
        ({"packs": [64], "packed": False}, "packs"),
        ({"h": 0}, "h"),
        ({"h_n": 0}, "h_n"),
        ({"c_n": 0}, "c_n"),
        ({"workspace": 0}, "workspace"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, object], named: str) -> None:
    call_forward()
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call_forward(**changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dtype": 4}, "dtype"),
        ({"T": -1}, "T"),
        ({"I": -1}, "I"),
        ({"threads": 0}, "threads"),
        ({"d_gates": 0}, "d_gates"),
        ({"x": 0}, "x"),
        ({"w_ih": 0}, "w_ih"),
        ({"h": 0}, "h"),
        ({"workspace": 0}, "workspace"),
    ],
)
def test_bad_arguments_of_gradients_are_named(changes: dict[str, int], named: str) -> None:
    numbers = {"dtype": 0, "T": 1, "B": 2, "H": 3, "I": 4, "threads": 1, "x_strides": (8, 4)}
    arrays = ("d_gates", "x", "w_ih", "h", "d_x", "d_w_ih", "d_w_hh", "workspace")
    rest = {"h0": 0, "lengths": 0, "reverse": False, "add": False, **dict.fromkeys(arrays, 64)}
    with pytest.raises(ValueError, match=rf"^{named} must"):
        _native.cpu_gradients(**{**numbers, **rest, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"dtype": 3}, "dtype"), ({"N": 65}, "N"), ({"step": 2}, "step"), ({"B": 2**23, "H": 2**10}, "N")],
)
def test_bad_pointwise_arguments_are_named(changes: dict[str, int], named: str) -> None:
    numbers = {"device": 0, "stream": 0, "dtype": 0, "cell": 0, "N": 1, "T": 2, "B": 1, "H": 1, "step": 0}
    null = ("gates_x", "recurrent", "bias", "peephole", "lengths", "reverse", "gates", "c")
    rest = {**dict.fromkeys(null, 0), **dict.fromkeys(("c_state", "h_state", "h"), 64)}
    with pytest.raises(ValueError, match=rf"^{named}\b.* must"):
        _native.cuda_pointwise_forward(**{**numbers, **rest, **changes})


def test_unknown_instruction_set_names_the_usable_ones() -> None:
    with pytest.raises(ValueError, match="usable: baseline"):
        _native.set_cpu_isa("mmx")


def test_launches_are_counted() -> None:
    p = make_problem(0, "float32", "tanh", 1, 2, 1, 5)
    _native.reset_launch_counts()
    assert set(_native.launch_counts().values()) == {0}
    out = run_forward(p)
    run_forward(p)
    run_backward(p, out["gates"], out["c"])
    counts = _native.launch_counts()
    assert (counts["cpu_forward"], counts["cpu_backward"]) == (2, 1)


def test_workspace_holds_for_every_instruction_set() -> None:
    before = _native.cpu_isa()
    sizes = set()
    for isa in _native.cpu_isas_usable():
        _native.set_cpu_isa(isa)
        sizes.add(_native.cpu_workspace_bytes(0, 2, 3, 4, 5, 6, 2, True, True, True))
    _native.set_cpu_isa(before)
    assert len(sizes) == 1


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
def test_links_no_cuda_library() -> None:
    listing = subprocess.run(["readelf", "-d", str(LIBRARY)], capture_output=True, text=True, check=True).stdout
    needed = re.findall(r"NEEDED.*\[(.*)\]", listing)
    assert needed
    assert not [name for name in needed if "cuda" in name]


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_exports_only_the_module_entry() -> None:
    command = ["nm", "-D", "--defined-only", str(LIBRARY)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ours = [line.split()[-1] for line in listing.splitlines() if "lstmrep" in line or "PyInit" in line]
    assert ours == ["PyInit__native"]


@pytest.mark.skipif(shutil.which("nm") is None or compiler() is None, reason="needs nm and a C++ compiler")
def test_instruction_set_object_shares_no_symbol(tmp_path: Path) -> None:
    """A weak symbol in an AVX-512 object could become everybody's copy of that function."""
    flags = isa_flags()
    isa = _native.cpu_isas_built()[-1]
    target = tmp_path / "isa.o"
    command = [*(compiler() or []), *flags["common"], *flags[isa], f"-DLSTMREP_ISA={isa}", f"-I{ROOT / 'csrc'}"]
    # -O0 inlines nothing that is not marked so: the strictest look at what has external linkage.
    for level in ("-O0", "-O1"):
        subprocess.run(
            [*command, level, "-c", str(ROOT / "csrc/cpu/isa.cpp"), "-o", str(target)], check=True, capture_output=True
        )
        listing = subprocess.run(["nm", "-C", str(target)], capture_output=True, text=True, check=True).stdout
        symbols = [line[17:].split(" ", 1) for line in listing.splitlines()]
        shared = [name for kind, name in symbols if kind in "TWVuBDR" and name != f"lstmrep::cpu_kernels_{isa}()"]
        assert shared == [], level


def isa_flags() -> dict[str, list[str]]:
    """The flags of setup.py, read from its text: importing it would run setup()."""
    scope: dict[str, object] = {}
    text = (ROOT / "setup.py").read_text()
    start, end = text.index("COMMON = ["), text.index("HOST_SOURCES")
    exec(text[start:end], scope)
    flags: dict[str, list[str]] = dict(scope["ISA_FLAGS"])  # type: ignore[call-overload]
    return {**flags, "common": [*scope["COMMON"], *scope["ISA_COMMON"]]}  # type: ignore[misc]
