"""Clips from a file of numpy's: the published ``mnist_test_seq.npy``, and rows or clips of the released code.

The file stays on the disk; what is asked for is read. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmrep.data.arguments import one_of, real, two, whole
from lstmrep.data.dataset import ClipDataset
from lstmrep.data.sources import SPLITS

CALLER = "lstmrep.data.SequenceFile"
# Of mnist_test_seq.npy as published, (20, 10000, 64, 64) uint8.
MD5 = "be083ec986bfe91a449d63653c411eb2"
WHITE = 255.0
# Where the clips, the frames and the rest of a frame are, by dimensions of the array.
LAYOUTS = {"tnhw": 4, "nthw": 4, "ntchw": 5, "rows": 2}


class SequenceFile(ClipDataset):
    """Clips of one ``.npy`` file, divided by 255, in the file's order.

    ============ ==================== ==================================================================
    layout       array                known from
    ============ ==================== ==================================================================
    ``"tnhw"``   (T, N, H, W)         ``mnist_test_seq.npy``: (20, 10000, 64, 64), bytes
    ``"nthw"``   (N, T, H, W)         copies with the first two axes swapped; taken only when asked for
    ``"ntchw"``  (N, T, C, H, W)      clips of patches
    ``"rows"``   (N, T * C * H * W)   the released code's validation files; needs ``frame_shape``
    ============ ==================== ==================================================================

    Args:
        path: the file.
        layout: one of the table. Default: by the number of dimensions. Four are read as ``"tnhw"``, and refused when
            the first axis is longer than the second, since the two are never swapped unasked.
        frame_shape: (C, H, W), for ``"rows"``.
        clips: (first, end) of the clips to use, to split one file. Default: all.
        split: what this part is called in the description: ``"train"``, ``"valid"`` or ``"test"``.
        white: stored value of a pixel of 1. Default 255, for bytes and for the released code's floats alike; a file of
            floats is held against it by its first clip.
        md5: True to check that the file is the published one, or 32 hexadecimal digits that it should have.

    Raises:
        FileNotFoundError: there is no file; the message names it.
        ValueError: the file is truncated, has another layout, or an argument is not as above.
    """

    infinite = False

    def __init__(
        self,
        path: str | Path,
        *,
        layout: str | None = None,
        frame_shape: Sequence[int] | None = None,
        clips: Sequence[int] | None = None,
        split: str = "test",
        white: float = WHITE,
        md5: bool | str = False,
    ) -> None:
        self.path = Path(path)
        self.split = one_of(CALLER, "split", split, SPLITS)
        self.white = real(CALLER, "white", white, 0)
        if not self.white:
            raise ValueError(f"{CALLER}: argument 'white' is 0, expected the stored value of a white pixel.")
        array = open_array(self.path, CALLER)
        if md5:
            check_md5(self.path, MD5 if md5 is True else str(md5), CALLER)
        self.layout = _layout(layout, array, self.path)
        self.num_frames, self.frame_shape, total = _sizes(self.layout, array, frame_shape, self.path)
        self.first, self.end = _part(clips, total)
        self._array: NDArray[Any] | None = array
        if array.dtype.kind == "f":
            self._check_floats()

    def __len__(self) -> int:
        return self.end - self.first

    # A map of the file would travel to a worker as a copy of the whole file.
    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}

    @property
    def description(self) -> str:
        """File, split, clips and layout in one line."""
        return (
            f"SequenceFile: {self.path.name}, split {self.split}; clips {self.first} to {self.end - 1} in the file's "
            f"order, {self.num_frames} frames of {'x'.join(map(str, self.frame_shape))}; layout {self.layout}, white "
            f"{self.white:g}; no seed"
        )

    def batch(self, indices: Sequence[int]) -> Tensor:
        """The clips at ``indices``, read together.

        Args:
            indices: integers from ``-len`` to ``len - 1``, any order, repeats allowed.

        Returns:
            float32 ``[B, T, C, H, W]`` in [0, 1].

        Raises:
            IndexError: an index is outside the set.
        """
        return self._read(self.first + self._checked(indices))

    def _read(self, places: NDArray[np.int64]) -> Tensor:
        if self._array is None:
            self._array = open_array(self.path, CALLER)
        taken = self._array[:, places].swapaxes(0, 1) if self.layout == "tnhw" else self._array[places]
        shaped = taken.reshape(len(places), self.num_frames, *self.frame_shape)
        return torch.from_numpy(np.divide(shaped, self.white, dtype=np.float32))

    def _check_floats(self) -> None:
        largest = float(self._read(np.array([self.first])).max()) * self.white
        # Values that were divided already would be divided again, and the clip would be all but black.
        if largest > self.white or (largest <= 1 and self.white == WHITE):
            raise ValueError(
                f"{CALLER}: the first clip of {self.path} reaches {largest:g} and argument 'white' is {self.white:g}; "
                "pass white=1 for values of 0 to 1, white=255 for values of 0 to 255."
            )


def open_array(path: Path, caller: str) -> NDArray[Any]:
    """Map a ``.npy`` file; what is changed in memory never reaches the file.

    Args:
        path: the file.
        caller: who reads it, for the messages.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not a whole ``.npy`` file of numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{caller}: no file {path}; put it there, nothing is downloaded.")
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{caller}: {path} is not a whole .npy file ({' '.join(str(error).split()).rstrip('.')}); get it again."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif":
        raise ValueError(f"{caller}: {path} is not one array of numbers; pass a .npy file of clips.")
    return array


def check_md5(path: Path, expected: str, caller: str) -> None:
    """Raise ValueError unless the file has this MD5 sum."""
    found = md5_of(path)
    if found != expected:
        raise ValueError(f"{caller}: {path} has the MD5 sum {found}, expected {expected}; get the file again.")


def md5_of(path: Path) -> str:
    """The MD5 sum of a file, 32 hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _layout(layout: str | None, array: NDArray[Any], path: Path) -> str:
    shape = array.shape
    if layout is None:
        layout = {2: "rows", 4: "tnhw", 5: "ntchw"}.get(array.ndim)
        if layout is None:
            raise ValueError(f"{CALLER}: {path} has shape {shape}, expected 2, 4 or 5 dimensions of clips.")
        if layout == "tnhw" and shape[0] > shape[1]:
            raise ValueError(
                f"{CALLER}: {path} has shape {shape}, longer along its first axis, where (T, N, H, W) has the frames; "
                "pass layout='nthw' if its first axis is the clips, or layout='tnhw' if it is the frames."
            )
    one_of(CALLER, "layout", layout, tuple(LAYOUTS))
    if array.ndim != LAYOUTS[layout]:
        raise ValueError(
            f"{CALLER}: {path} has shape {shape}, expected {LAYOUTS[layout]} dimensions for layout={layout!r}."
        )
    return layout


def _sizes(
    layout: str, array: NDArray[Any], frame_shape: Sequence[int] | None, path: Path
) -> tuple[int, tuple[int, int, int], int]:
    """Frames, shape of a frame and number of clips."""
    shape = array.shape
    if not array.size:
        raise ValueError(f"{CALLER}: {path} has shape {shape}, which holds no clip.")
    if layout != "rows":
        if frame_shape is not None:
            raise ValueError(f"{CALLER}: argument 'frame_shape' is {frame_shape}, expected None for layout={layout!r}.")
        height, width = shape[-2:]
        if layout == "ntchw":
            return shape[1], (shape[2], height, width), shape[0]
        frames, clips = shape[:2] if layout == "tnhw" else shape[1::-1]
        return frames, (1, height, width), clips
    if frame_shape is None or len(frame_shape) != 3:
        raise ValueError(
            f"{CALLER}: argument 'frame_shape' is {frame_shape}, expected (C, H, W) for the rows of {path}."
        )
    channels, height, width = (whole(CALLER, "frame_shape", size, 1) for size in frame_shape)
    frame = math.prod((channels, height, width))
    if shape[1] % frame:
        raise ValueError(
            f"{CALLER}: rows of {path} have {shape[1]} values, expected a multiple of a frame's {frame} = {channels} x "
            f"{height} x {width}; correct argument 'frame_shape'."
        )
    return shape[1] // frame, (channels, height, width), shape[0]


def _part(clips: Sequence[int] | None, total: int) -> tuple[int, int]:
    if clips is None:
        return 0, total
    first, end = two(CALLER, "clips", clips)
    if not (isinstance(first, int) and isinstance(end, int) and 0 <= first < end <= total):
        raise ValueError(
            f"{CALLER}: argument 'clips' is {clips!r}, expected (first, end) with 0 <= first < end <= {total}."
        )
    return first, end
