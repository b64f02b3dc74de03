"""The CUDA pointwise kernels run on the host: builds their source with the C++ compiler, calls it by ctypes.

``EmulatedPointwise`` has the methods ``cuda_pointwise_forward`` and ``cuda_pointwise_backward`` with exactly
the signatures of ``lstmrep._native``; ``device`` and ``stream`` are ignored, addresses are host addresses.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CSRC = FOLDER.parents[1] / "csrc"


def compiler() -> list[str] | None:
    """The C++ compiler as a command, or None."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    found = shutil.which("g++") or shutil.which("clang++")
    return [found] if found else None


@functools.cache
def build() -> ctypes.CDLL:
    """Compiles once per process into a temporary folder that lives as long as the process.

    Raises:
        RuntimeError: no compiler, or the kernel's source does not compile as plain C++.
    """
    command = compiler()
    if command is None:
        raise RuntimeError("no C++ compiler: the emulated pointwise kernels cannot be built")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "emulated_pointwise.so")
        flags = ["-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
        # `#pragma unroll` is nvcc's.
        flags += ["-Wno-unknown-pragmas", f"-I{FOLDER}", f"-I{CSRC}"]
        source = FOLDER / "emulated_pointwise.cpp"
        result = subprocess.run(
            [*command, *flags, str(source), "-o", str(library)], capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"the emulated pointwise kernels do not compile:\n{result.stderr}")
        return ctypes.CDLL(str(library))  # stays mapped after the file is gone


def _address(value: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(value or None)


class EmulatedPointwise:
    """Stands in for the two CUDA entries of lstmrep._native."""

    def __init__(self) -> None:
        self._library = build()

    def cuda_pointwise_forward(
        self,
        device: int,
        stream: int,
        dtype: int,
        cell: int,
        N: int,
        T: int,
        B: int,
        H: int,
        step: int,
        gates_x: int,
        recurrent: int,
        bias: int,
        peephole: int,
        lengths: int,
        reverse: int,
        c_state: int,
        h_state: int,
        h: int,
        gates: int,
        c: int,
    ) -> None:
        before = [_address(a) for a in (gates_x, recurrent, bias, peephole, lengths)]
        after = [_address(a) for a in (c_state, h_state, h, gates, c)]
        failed = self._library.emulated_pointwise_forward(
            dtype, cell, N, T, B, H, step, *before, ctypes.c_uint64(reverse), *after
        )
        if failed:
            raise ValueError(f"unknown dtype {dtype} or cell {cell}")

    def cuda_pointwise_backward(
        self,
        device: int,
        stream: int,
        dtype: int,
        cell: int,
        N: int,
        T: int,
        B: int,
        H: int,
        step: int,
        peephole: int,
        lengths: int,
        reverse: int,
        gates: int,
        c: int,
        c0: int,
        grad_h: int,
        grad_h_n: int,
        grad_c_n: int,
        dh_recurrent: int,
        dc: int,
        d_gates: int,
        d_step: int,
        sums: int,
    ) -> None:
        before = [_address(a) for a in (peephole, lengths)]
        inputs = (gates, c, c0, grad_h, grad_h_n, grad_c_n, dh_recurrent, dc, d_gates, d_step, sums)
        failed = self._library.emulated_pointwise_backward(
            dtype, cell, N, T, B, H, step, *before, ctypes.c_uint64(reverse), *[_address(a) for a in inputs]
        )
        if failed:
            raise ValueError(f"unknown dtype {dtype} or cell {cell}")
