"""The idx format of the MNIST family: a header of big-endian words, then bytes; plain or gzip."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CALLER = "lstmrep.data.load_digits"
UNSIGNED_BYTE = 0x08
# Deflate cannot compress further, so a header that claims more is wrong; no memory is taken for it.
MOST_COMPRESSION = 1032


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read one file of unsigned bytes.

    Args:
        path: the file; ``.gz`` is decompressed while it is read.
        dimensions: 3 for images, 1 for labels; the header's magic number must say the same.

    Returns:
        uint8 of the shape in the header.

    Raises:
        ValueError: magic number, sizes and length of the file do not agree, or the gzip stream is damaged.
    """
    packed = path.suffix == ".gz"
    most = path.stat().st_size * (MOST_COMPRESSION if packed else 1)
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            shape = _shape(path, header, dimensions)
            expected = math.prod(shape)
            # One byte more than expected shows a file that is too long.
            content = file.read(expected + 1) if expected <= most else b""
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{CALLER}: {path} is not a whole gzip file ({error}); get the file again.") from error
    if len(content) != expected:
        sizes = " x ".join(map(str, shape))
        found = "more" if len(content) > expected else "fewer"
        raise ValueError(
            f"{CALLER}: {path} says that it holds {sizes} = {expected} bytes after its header, but it holds {found}; "
            "get the file again."
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _shape(path: Path, header: bytes, dimensions: int) -> tuple[int, ...]:
    magic = (UNSIGNED_BYTE << 8) | dimensions
    if len(header) < 4 + 4 * dimensions:
        raise ValueError(
            f"{CALLER}: {path} ends within its header, after {len(header)} bytes of {4 + 4 * dimensions}; get the file "
            "again."
        )
    found, *shape = struct.unpack(f">{1 + dimensions}I", header)
    if found != magic:
        raise ValueError(
            f"{CALLER}: {path} starts with the magic number {found:#010x}, expected {magic:#010x}, an idx file of "
            f"unsigned bytes in {dimensions} dimension{'s' if dimensions > 1 else ''}; check the file."
        )
    return tuple(shape)
