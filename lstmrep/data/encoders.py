"""From frames to vectors: any module of images behind the preparation that it was trained with.

The paper's is VGG-16's fc6 (:func:`vgg16`); :func:`projection` needs no weights and serves to try a pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstmrep.data.arguments import two, whole
from lstmrep.nn.vgg import VGG16

CALLER = "lstmrep.data.FrameEncoder"
# Of ImageNet's colours in [0, 1], as torchvision's weights expect them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The paper's video is 240x320, of which the centre is read.
SHORTER, CROP = 240, 224
# A flow field's bytes: 128 is no motion.
STILL = 128 / 255


class FrameEncoder(nn.Module):
    """A module of images, applied to bytes: centre crop, division by 255, mean and deviation, then the module.

    Args:
        module: ``[N, C, h, w]`` to ``[N, ...]``; its output is flattened to ``[N, D]``. Runs in eval mode.
        description: what makes a feature what it is; a store that was made otherwise is refused. Name the weights.
        resize: (height, width) that frames are read in, or the length of the shorter side; default: as they are.
        crop: (height, width) of the centre that is used, or one number. Default: all.
        mean, std: of every channel in [0, 1], or one number for all. Default 0 and 1.
        color: whether frames are read in colour. Default True.

    Example:
        >>> encoder = FrameEncoder(nn.AvgPool2d(8), "means of 8x8 pixels", crop=16)
        >>> tuple(encoder(torch.zeros(5, 20, 30, 3, dtype=torch.uint8)).shape)
        (5, 12)
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        description: str,
        *,
        resize: int | Sequence[int] | None = None,
        crop: int | Sequence[int] | None = None,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        color: bool = True,
    ) -> None:
        super().__init__()
        self.module = module
        self.resize, self.color = resize, color
        self.crop = (
            None if crop is None else tuple(whole(CALLER, "crop", side, 1) for side in two(CALLER, "crop", crop))
        )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1), persistent=False)
        self.description = (
            f"{description}; resize {resize}, crop {crop}, mean {mean}, std {std}, {'colour' if color else 'grey'}"
        )
        self.eval()

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """uint8 ``[N, H, W, C]`` to float32 ``[N, D]``, without gradient.

        Raises:
            ValueError: frames are smaller than the crop, or their channels are not those of ``mean``.
        """
        height, width = frames.shape[1:3]
        h, w = self.crop or (height, width)
        if height < h or width < w:
            raise ValueError(
                f"{CALLER}: frames are {height}x{width}, smaller than the crop of {h}x{w}; pass resize, or a smaller "
                "crop."
            )
        top, left = (height - h) // 2, (width - w) // 2
        x = frames[:, top : top + h, left : left + w].permute(0, 3, 1, 2).float().div_(255)
        if self.mean.shape[0] not in (1, x.shape[1]):
            raise ValueError(f"{CALLER}: frames have {x.shape[1]} channels, the encoder's mean {self.mean.shape[0]}.")
        out: Tensor = self.module((x - self.mean) / self.std)
        return out.flatten(1).float()

    def encode(self, frames: NDArray[np.uint8], batch: int, device: torch.device | str = "cpu") -> NDArray[np.float32]:
        """Features of any number of frames, ``batch`` at a time, on the CPU at the end."""
        parts = [self(torch.from_numpy(frames[k : k + batch]).to(device)).cpu() for k in range(0, len(frames), batch)]
        return torch.cat(parts).numpy()


def vgg16(
    weights: str | Path,
    *,
    resize: int | Sequence[int] | None = SHORTER,
    crop: int | Sequence[int] | None = CROP,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> FrameEncoder:
    """fc6 of VGG-16, 4096 rectified values a frame.

    Args:
        weights: see :meth:`lstmrep.nn.VGG16.from_file`. Of 3 input channels for colour, of 2L for stacks of L flow
            fields.
        resize, crop: of the frames. Defaults: shorter side 240, centre 224x224, as in the paper.
        mean, std: of the channels in [0, 1]. Defaults: ImageNet's for colour; 128/255 (no motion) and 1 for flow.

    Raises:
        FileNotFoundError, ValueError: the file is missing, or of another network.
    """
    from lstmrep.data.fixed import md5_of

    network = VGG16.from_file(weights)
    flow = network.channels != len(MEAN)
    return FrameEncoder(
        network,
        f"VGG-16 fc6 of {network.channels} channels, weights {Path(weights).name} with md5 {md5_of(Path(weights))}",
        resize=resize,
        crop=crop,
        mean=(STILL if flow else MEAN) if mean is None else mean,
        std=(1.0 if flow else STD) if std is None else std,
    )


class Projection(nn.Module):
    """Rectified random projections of whole images: ``[N, C, h, w]`` to ``[N, size]``.

    Entries are N(0, 1 / values); they are drawn when the first image tells how many values there are.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        super().__init__()
        self.size, self.seed = whole(CALLER, "size", size, 1), seed
        self.weight: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Of every image."""
        x = images.flatten(1)
        if self.weight is None or self.weight.shape[1] != x.shape[1]:
            drawn = torch.randn(self.size, x.shape[1], generator=torch.Generator().manual_seed(self.seed))
            self.weight = (drawn / x.shape[1] ** 0.5).to(x.device)
        return nn.functional.relu(x @ self.weight.T)


def projection(size: int = 256, *, seed: int = 0, resize: int | Sequence[int] = (32, 32), **how: Any) -> FrameEncoder:
    """Random features of small images, for trying a pipeline without weights.

    Args:
        size: D, values of a frame. Default 256.
        seed: of the projection. Default 0.
        resize: of the frames. Default (32, 32).
        how: other arguments of :class:`FrameEncoder`.
    """
    module = Projection(size, seed)
    return FrameEncoder(
        module, f"{size} rectified random projections, seed {seed}", resize=resize, **{"mean": 0.5, **how}
    )
