"""A stand-in for ``torchvision.datasets.MovingMNIST``: same arguments, same items, without torchvision.

Clips are bytes, not scaled, and "train" and "test" are the first and the last frames of the same clips. For training,
``lstmrep.data.SequenceFile`` reads the same file as float clips in [0, 1]. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lstmrep.data.arguments import one_of, whole
from lstmrep.data.fixed import open_array

CALLER = "lstmrep.data.torchvision_compatible.MovingMNIST"
FILE = "mnist_test_seq.npy"


class MovingMNIST(Dataset[Any]):
    """The fixed Moving MNIST clips as torchvision gives them.

    Args:
        root: folder that holds ``MovingMNIST/mnist_test_seq.npy``.
        split: None for all frames of each clip, ``"train"`` for the first ``split_ratio`` frames, ``"test"`` for the
            remaining ones. Both have every clip.
        split_ratio: number of frames, at least 1 and less than a clip has. Not used when ``split`` is None.
        download: accepted, and without effect where the file is there. Nothing is downloaded.
        transform: called with each clip; what it returns is the item.

    Attributes:
        data: uint8 ``[N, T, 1, H, W]``, mapped from the file.

    Raises:
        FileNotFoundError: the file is missing; the message names it.
        TypeError, ValueError: an argument or the array is not as above.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        split_ratio: int = 10,
        download: bool = False,
        transform: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.root, self.transform = Path(root), transform
        self.split = one_of(CALLER, "split", split, (None, "train", "test"))
        self.split_ratio = whole(CALLER, "split_ratio", split_ratio, 1)
        path = self.root / "MovingMNIST" / FILE
        if download and not path.is_file():
            raise FileNotFoundError(
                f"{CALLER}: no file {path}, and download=True downloads nothing here; put the published file there."
            )
        self.data = self._mapped()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, idx: int) -> Any:
        """Clip ``idx``: uint8 ``[T, 1, H, W]``, a copy, or what ``transform`` makes of it."""
        clip = self.data[idx].clone(memory_format=torch.contiguous_format)
        return clip if self.transform is None else self.transform(clip)

    # A map of the file would travel to a worker as a copy of the whole file.
    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "data"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.data = self._mapped()

    def _mapped(self) -> Tensor:
        path = self.root / "MovingMNIST" / FILE
        array = open_array(path, CALLER)
        if array.ndim != 4 or array.dtype != "uint8":
            raise ValueError(
                f"{CALLER}: {path} is {array.dtype} {array.shape}, expected uint8 (T, N, H, W); get the published file."
            )
        if self.split is not None:
            if self.split_ratio >= len(array):
                raise ValueError(
                    f"{CALLER}: argument 'split_ratio' is {self.split_ratio}, expected 1 to {len(array) - 1}, frames "
                    f"of the {len(array)} of a clip."
                )
            array = array[: self.split_ratio] if self.split == "train" else array[self.split_ratio :]
        return torch.from_numpy(array).transpose(0, 1).unsqueeze(2)
