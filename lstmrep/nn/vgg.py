"""VGG-16 up to its first fully connected layer: the frame features (fc6) that the paper's action models read.

Parameters have torchvision's names, so that the weights of its VGG-16 load as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstmrep.nn.checks import count
from lstmrep.nn.pretrained import check_state, read_safetensors

# Channels of the 3x3 convolutions, configuration D; 0 is a 2x2 maximum.
LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
POOLED = 7
FC6 = 4096
# What a whole classifier has after fc6.
LATER = ("classifier.3.", "classifier.6.")


class VGG16(nn.Module):
    """The convolutions of VGG-16 and fc6 with its rectifier; dropout and what follows are left out.

    ``features.*`` and ``classifier.0.*`` are the names of the state_dict.

    Args:
        channels: of the input, 3 for colour, 2L for a stack of L flow fields. Default 3.
        device, dtype: of the parameters.

    Source: Simonyan, Zisserman 2015, "Very deep convolutional networks for large-scale image recognition".

    Example:
        >>> with torch.device("meta"):
        ...     tuple(VGG16()(torch.rand(2, 3, 224, 224)).shape)
        (2, 4096)
    """

    def __init__(
        self, channels: int = 3, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        before = count("lstmrep.nn.VGG16", "channels", channels, 1)
        layers: list[nn.Module] = []
        for width in LAYERS:
            if not width:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(before, width, 3, padding=1, device=device, dtype=dtype), nn.ReLU(inplace=True)]
            before = width
        self.channels = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(before * POOLED**2, FC6, device=device, dtype=dtype))

    def forward(self, images: Tensor) -> Tensor:
        """``[N, channels, H, W]``, H and W of 32 or more (224 as trained), to rectified fc6 ``[N, 4096]``."""
        x = nn.functional.adaptive_avg_pool2d(self.features(images), POOLED)
        return nn.functional.relu(self.classifier(x.flatten(1)))

    @classmethod
    def from_file(cls, path: str | Path) -> VGG16:
        """The network with weights of a file, in eval mode.

        Args:
            path: a state_dict of torchvision's VGG-16, or of this class: ``.safetensors``, or ``.pth`` / ``.pt``, of
                which tensors alone are unpickled. The number of input channels is the file's.

        Raises:
            FileNotFoundError, ValueError: there is no such file, or it holds something else; the message names it.
        """
        path, who = Path(path), "lstmrep.nn.VGG16.from_file"
        tensors = {k: t for k, t in _read(path, who).items() if not k.startswith(LATER)}
        first = tensors.get("features.0.weight")
        if first is None or first.ndim != 4:
            raise ValueError(
                f"{who}: {path} has no convolution 'features.0.weight'; pass a state_dict of torchvision's VGG-16."
            )
        with torch.device("meta"):
            made = cls(first.shape[1])
        check_state(made, tensors, path, who)
        made.load_state_dict(tensors, assign=True)
        return made.requires_grad_(False).eval()


def _read(path: Path, who: str) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path, who)
    if not path.is_file():
        raise FileNotFoundError(f"{who}: no file {path}; pass the weights of a VGG-16, .pth or .safetensors.")
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what the pickle, the archive or its own checks raise
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ValueError(
            f"{who}: {path} cannot be read ({reason}); it is truncated or another kind of file."
        ) from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ValueError(f"{who}: {path} holds a {type(found).__name__}, expected a state_dict.")
    return found
