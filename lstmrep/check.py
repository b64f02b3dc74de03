"""``lstmrep.check``: whether a CUDA kernel of this library gave up since the last look."""

from __future__ import annotations

import torch

from lstmrep import native
from lstmrep.backends import aborts, cuda


def check(device: torch.device | str | int | None = None) -> None:
    """Raise if a CUDA kernel of this library gave up since the last look.

    A kernel whose CTAs wait for each other waits no longer than some time: then it ends, its outputs are NaN, and the
    host can know. The next CUDA call of this library raises; this function asks without one. It does not synchronise,
    so to learn about calls made so far, synchronise first.

    Args:
        device: the CUDA device to ask about, a :class:`torch.device`, its name or its index; default: all.

    Returns:
        None, when no kernel gave up.

    Raises:
        RuntimeError: one did. Raising clears it: the next call of this function, or of the op, works again.
        ValueError: ``device`` is not a CUDA device.

    Example:
        >>> torch.cuda.synchronize()
        >>> lstmrep.check()
    """
    if device is not None:
        device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if device.type != "cuda":
            raise ValueError(f"lstmrep.check: argument 'device' is {device}; pass a CUDA device, or None for all.")
    if native.reason():
        return
    kernels = cuda.kernels()
    asked = kernels.cuda_abort_devices()
    if device is not None and asked:
        asked = [torch.cuda.current_device() if device.index is None else device.index]
    for index in asked:
        aborts.look(kernels, index)
