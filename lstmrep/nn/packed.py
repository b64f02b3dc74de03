"""PackedSequence in and out: pad, run with lengths, pack again.

Padding stays in the packed (sorted) order; states are permuted to it and back, as torch.nn.LSTM does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, Tensor]


def pad(sequence: PackedSequence) -> tuple[Tensor, Tensor]:
    """Padded frames ``[T, B, I]`` in sorted order, and lengths ``[B]`` on the CPU."""
    return pad_packed_sequence(PackedSequence(sequence.data, sequence.batch_sizes))


def pack(padded: Tensor, like: PackedSequence) -> PackedSequence:
    """``[T, B, *]`` in sorted order to a PackedSequence with the batch order of ``like``."""
    counts = like.batch_sizes
    lengths = (counts[None, :] > torch.arange(int(counts[0]))[:, None]).sum(1)
    data = pack_padded_sequence(padded, lengths).data
    return PackedSequence(data, counts, like.sorted_indices, like.unsorted_indices)


def sort_state(hx: State | None, sequence: PackedSequence) -> State | None:
    """States ``[L*D, B, *]`` from the caller's order to the packed order."""
    return None if hx is None else _permute(hx, sequence.sorted_indices)


def unsort_state(hx: State, sequence: PackedSequence) -> State:
    """States ``[L*D, B, *]`` from the packed order to the caller's order."""
    return _permute(hx, sequence.unsorted_indices)


def _permute(hx: State, indices: Tensor | None) -> State:
    return hx if indices is None else (hx[0].index_select(1, indices), hx[1].index_select(1, indices))
