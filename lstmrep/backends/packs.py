"""Packs of W_hh that the CPU backend keeps from call to call, where a module asked for it (``lstmrep.LSTM.pack``).

A pack belongs to a tensor and to what that tensor held when it was made: it is used only while the tensor's version
counter, its address, and the instruction set of the kernels are the same.  Writes through ``.data`` bump no version;
they are the caller's business.  Nothing is kept that was not asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from lstmrep import native
from lstmrep.backends import memory
from lstmrep.backends.tensors import DTYPE_CODE


@dataclass(frozen=True)
class Pack:
    """A packed copy of one matrix, and what it is a copy of."""

    panels: Tensor
    of: tuple[int, int, str]  # version, address, instruction set


_kept = WeakTensorKeyDictionary()


def _identity(w: Tensor) -> tuple[int, int, str]:
    return w._version, w.data_ptr(), native.module().cpu_isa()


def keep(w: Tensor) -> None:
    """Pack ``w`` ``[4H, H]``, a dense tensor on the CPU, now, for the calls to come.

    Raises:
        RuntimeError: the native module is missing, or ``w`` is an inference tensor, whose writes nobody counts.
    """
    if w.is_inference():
        raise RuntimeError("lstmrep: a tensor made in inference mode counts no writes; make the module outside of it.")
    code, hidden = DTYPE_CODE[w.dtype], w.shape[1]
    panels = memory.workspace(native.module().cpu_pack_bytes(code, hidden), torch.device("cpu"))
    native.module().cpu_pack(code, hidden, w.data_ptr(), panels.data_ptr())
    _kept[w] = Pack(panels, _identity(w))


def drop(w: Tensor) -> None:
    """Forget the pack of ``w``, if there is one."""
    _kept.pop(w, None)


def any_kept() -> bool:
    """Whether there is a pack of any matrix."""
    return bool(_kept.data)  # asked in every call: not by len, which goes through Python


def addresses(weights: Sequence[Tensor]) -> list[int]:
    """Addresses of the packs of all ``weights``; empty unless each has one that still holds."""
    if not any_kept():
        return []
    found = []
    for w in weights:
        pack = None if w.is_inference() else _kept.get(w)
        if pack is None or pack.of != _identity(w):
            return []
        found.append(pack.panels.data_ptr())
    return found
