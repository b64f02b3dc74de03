"""What every set of clips offers: items, batches, a description. Where clips come from is for the subclasses."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import SupportsIndex, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

# Of an endless set: a clip's draws, its index times its digits, must be countable in 64 bits.
INDICES = 1 << 56
# Frames, or frames and a label.
Item = Tensor | tuple[Tensor, Tensor]


class ClipDataset(Dataset[Item]):
    """Clips ``[T, *frame]``, float32, by index: frames ``[C, H, W]`` in [0, 1], or features ``[D]``.

    ``data[i]`` is one clip, ``data.batch(indices)`` forms ``[B, T, *frame]`` at once. A ``DataLoader`` takes either
    path by itself. With labels, both give ``(frames, labels)``.

    Attributes:
        frame_shape: (C, H, W), or (D,) of features.
        num_frames: T, frames of a clip.
        infinite: whether any index >= 0 is a clip of its own; ``len(data)`` is then nominal.
    """

    frame_shape: tuple[int, ...]
    num_frames: int
    infinite: bool

    @property
    @abstractmethod
    def description(self) -> str:
        """Source, split, seed and settings in one line, to print with every result."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Item:
        """The clips at ``indices``, formed together.

        Args:
            indices: integers, any order, repeats allowed.

        Returns:
            float32 ``[B, T, *frame]``; with labels a pair of that and their ``[B, ...]``.

        Raises:
            IndexError: an index is outside the set.
        """

    def __getitem__(self, index: SupportsIndex) -> Item:
        return self.__getitems__([operator.index(index)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        made = self.batch(indices)
        if isinstance(made, Tensor):
            return list(made)
        return list(zip(*made, strict=True))

    def __iter__(self) -> Iterator[Item]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<{self.description}>"

    def _checked(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """The indices as an array, negative ones counted from the end of a finite set."""
        found = np.asarray(indices if len(indices) else np.empty(0, np.int64))
        if found.ndim != 1 or found.dtype.kind not in "iu":
            raise TypeError(
                f"lstmrep.data.{type(self).__name__}: indices are {found.dtype} of {found.ndim} dimensions, expected a "
                "list of integers."
            )
        found = found.astype(np.int64)
        lowest, end = (0, INDICES) if self.infinite else (-len(self), len(self))
        outside = (found < lowest) | (found >= end)
        if outside.any():
            raise IndexError(
                f"lstmrep.data.{type(self).__name__}: index {found[outside][0]} is outside the set, expected {lowest} "
                f"to {end - 1}."
            )
        return cast("NDArray[np.int64]", np.where(found < 0, found + len(self), found))
