"""Perceptual similarity of frames by the package lpips, whose network this library neither has nor fetches.

The package holds the weights of the last, calibrated layers. Those of AlexNet below them are torchvision's file
``alexnet-owt-*.pth``, which a user gets once; without the package or the file there is no number, and a report says so.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lstmrep.eval.metrics import pair
from lstmrep.optional import package

CALLER = "lstmrep.eval.lpips"
PATTERN = "alexnet-owt-*.pth"
# The smallest side that is left one value by AlexNet's strides.
SMALLEST = 31
PIECE = 256


def lpips(prediction: Tensor, target: Tensor, *, weights: str | Path | None = None) -> Tensor:
    """Learned perceptual distance of each frame: AlexNet's features, version 0.1 of the calibration. Lower is better.

    Args:
        prediction: floating point, ``[B, T, C, H, W]``, C 1 (repeated) or 3, H and W of 31 or more; clipped to [0, 1].
        target: values in [0, 1], the same shape.
        weights: torchvision's file of AlexNet's weights. Default: the one in torch's cache of checkpoints. Nothing is
            downloaded.

    Returns:
        float64 ``[B, T]``, 0 or more. The network runs in float32 on the frames' device.

    Raises:
        ImportError: the package lpips is missing.
        FileNotFoundError: the weights are missing.
        TypeError, ValueError: not floating point, not images, too small; or the file is no AlexNet.

    Source: Zhang, Isola, Efros, Shechtman, Wang 2018, by the authors' package.
    """
    p, t = pair("lpips", prediction, target)
    why = lpips_needs(tuple(p.shape[2:]))
    if why:
        raise ValueError(f"{CALLER}: {why}.")
    network = _network(str(weights_file(weights))).to(p.device)
    B, T = p.shape[:2]
    pairs = zip(*(x.clamp(0, 1).float().flatten(0, 1).split(PIECE) for x in (p, t)), strict=True)
    with torch.inference_mode():
        made = [network(_three(a), _three(b), normalize=True).flatten().double() for a, b in pairs]
    return torch.cat(made).view(B, T) if made else p.new_zeros(B, T)


def lpips_needs(frame: tuple[int, ...]) -> str:
    """Why frames of this shape have no perceptual distance; empty if they have one."""
    if len(frame) != 3 or frame[0] not in (1, 3):
        return f"frames have the shape {frame}, LPIPS needs images [C, H, W] with C 1 or 3"
    if min(frame[1:]) < SMALLEST:
        return f"frames are {frame[1]} by {frame[2]}, LPIPS needs {SMALLEST} by {SMALLEST} or more"
    return ""


def lpips_missing(weights: str | Path | None) -> str:
    """Why there is no LPIPS on this machine: the package, or the weights; empty if there is."""
    try:
        package("lpips", CALLER, "lpips")
        weights_file(weights)
    except (ImportError, FileNotFoundError) as error:
        return str(error).removeprefix(f"{CALLER}: ").rstrip(".")
    return ""


def weights_file(weights: str | Path | None) -> Path:
    """The file of AlexNet's weights.

    Raises:
        FileNotFoundError: there is none; the sentence says where it was looked for.
    """
    if weights is not None:
        if not Path(weights).is_file():
            raise FileNotFoundError(f"{CALLER}: no file {weights}; check argument 'weights'.")
        return Path(weights)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    found = sorted(folder.glob(PATTERN))
    if not found:
        raise FileNotFoundError(
            f"{CALLER}: no {PATTERN} in {folder}; pass torchvision's file of AlexNet's weights as argument 'weights'."
        )
    return found[0]


@lru_cache(maxsize=1)
def _network(path: str) -> Any:
    """The package's network with AlexNet's weights from a file: left to itself it would download them."""
    module = package("lpips", CALLER, "lpips")
    network = module.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{CALLER}: {path} is no file of weights ({type(error).__name__}); get it again.") from error
    # slice2.3.weight of the package is torchvision's features.3.weight.
    own = network.net.state_dict()
    names = {key: "features." + key.split(".", 1)[1] for key in own}
    for key, name in names.items():
        if not isinstance(given, dict) or name not in given or given[name].shape != own[key].shape:
            raise ValueError(f"{CALLER}: {path} has no fitting tensor '{name}'; pass torchvision's AlexNet.")
    network.net.load_state_dict({key: given[name] for key, name in names.items()})
    return network.requires_grad_(False)


def _three(frames: Tensor) -> Tensor:
    return frames.expand(-1, 3, -1, -1)
