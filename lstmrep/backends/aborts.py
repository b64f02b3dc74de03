"""The word by which a CUDA kernel that waits for other CTAs tells that it gave up (csrc/cuda/abort.h)."""

from __future__ import annotations

from typing import Any


def look(kernels: Any, device: int, variable: str = "LSTMREP_CUDA_KERNEL") -> None:
    """Raise if a kernel on a device gave up since the last look. Reads host memory only; nothing synchronises.

    Args:
        kernels: the module with the CUDA entries.
        device: index of the CUDA device.
        variable: by which the user chooses a kernel, for the message.

    Raises:
        RuntimeError: one did. Raising clears the word.
    """
    code = kernels.cuda_take_abort(device)
    if code:
        raise RuntimeError(
            f"lstmrep: a kernel on CUDA device {device} gave up waiting for its other CTAs (code {code}) since the "
            "last look, so what its call returned is NaN; leave the card to this process, or set "
            f"{variable}=stepwise, and run from before that call again."
        )
