"""Starts the kernels of primitive_kernels.cu on numpy arrays: on the emulated device, by name."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import emulated
import numpy as np

SOURCE = Path(__file__).with_name("primitive_kernels.cu")
SEEDS = (0, 1, 2, 3)


class Buffers(ctypes.Structure):
    """The argument of every kernel."""

    _fields_ = [("p", ctypes.c_void_p * 4), ("n", ctypes.c_uint32 * 6)]


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels, built for the emulated device."""
    loaded = ctypes.CDLL(str(emulated.build("plain", [SOURCE], shared=True, suffix="primitives.so")))
    loaded.run.restype = ctypes.c_char_p
    return loaded


def launch(
    name: str,
    *arrays: np.ndarray,
    numbers: tuple[int, ...] = (),
    blocks: int = 1,
    threads: int | tuple[int, int] = 32,
    shared: int = 0,
    seed: int = 0,
) -> str:
    """Run a kernel; the text of what went wrong, or ``""``."""
    x, y = threads if isinstance(threads, tuple) else (threads, 1)
    buffers = Buffers()
    for j, array in enumerate(arrays):
        assert array.flags.c_contiguous
        buffers.p[j] = array.ctypes.data
    for j, number in enumerate(numbers):
        buffers.n[j] = number
    size = (ctypes.c_uint32 * 5)(blocks, x, y, shared, seed)
    return library().run(name.encode(), size, ctypes.byref(buffers)).decode()


def aligned(shape: tuple[int, ...] | int, dtype: type, fill: int = 0) -> np.ndarray:
    """An array at a multiple of 64 bytes, all bytes ``fill``, with 64 bytes more behind it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(size + 128, fill, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)
