"""From a dataset and indices to a batch, in this process or in workers. Order is the sampler's."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from lstmrep.train.sampler import mix

Batch = Any  # frames, or a tuple that starts with them


class TensorFrames(Dataset[Any]):
    """Sequences in memory, with labels or without.

    Args:
        frames: ``[N, T, ...]``.
        labels: ``[N]`` int64, or none.
    """

    def __init__(self, frames: Tensor, labels: Tensor | None = None) -> None:
        self.frames, self.labels = frames, labels

    def __len__(self) -> int:
        return int(self.frames.shape[0])

    def __getitem__(self, index: int) -> Any:
        return self.frames[index] if self.labels is None else (self.frames[index], self.labels[index])

    def batch(self, indices: Sequence[int]) -> Any:
        """``[B, T, ...]``, or with labels a pair of it and ``[B]``."""
        chosen = torch.as_tensor(indices, device=self.frames.device)
        return self.frames[chosen] if self.labels is None else (self.frames[chosen], self.labels[chosen])


class Batches(Dataset[Any]):
    """A dataset of whole batches: item ``(number, indices)`` is the batch of these indices.

    What the data draw from torch's generator is the same whatever was drawn before and whichever process makes the
    batch: the generator starts from (seed, number) and has its own state back afterwards.
    """

    def __init__(self, data: Any, seed: int) -> None:
        if isinstance(data, (IterableDataset, DataLoader)) or not hasattr(data, "__getitem__"):
            raise TypeError(
                f"lstmrep.train: argument 'data' is a {type(data).__name__}, expected a dataset with data[i] and "
                "len(data), such as lstmrep.data.MovingMNIST; the trainer makes the batches itself."
            )
        self.data, self.seed = data, seed

    def __getitem__(self, item: tuple[int, Sequence[int]]) -> Batch:
        number, indices = item
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(mix(self.seed, number))
            if hasattr(self.data, "batch"):
                return self.data.batch(indices)
            if hasattr(self.data, "__getitems__"):
                return default_collate(self.data.__getitems__(list(indices)))
            return default_collate([self.data[i] for i in indices])


def length_of(data: Any) -> int | None:
    """Sequences of a dataset, or none for one that calls itself ``infinite``."""
    return None if getattr(data, "infinite", False) else len(data)


def stream(
    batches: Batches, items: Iterable[tuple[int, Sequence[int]]], *, workers: int, prefetch: int, pin: bool
) -> Iterator[Batch]:
    """The batches of ``items`` in their order.

    Args:
        batches: makes them.
        items: ``(number, indices)`` of each.
        workers: processes that prepare them; 0 makes them here, when they are asked for.
        prefetch: batches each worker prepares ahead.
        pin: into page-locked memory, from which copies to a GPU need not wait.
    """
    if not workers and not pin:
        return (batches[item] for item in items)
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=_Order(items),
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            pin_memory=pin,
            worker_init_fn=_worker,
        )
    )


class _Order:
    # A generator has no second start, which a loader's sampler may be asked for; here it never is.
    def __init__(self, items: Iterable[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


def _worker(_: int) -> None:
    # Ctrl-C reaches every process of the terminal: the trainer finishes its step, and needs its workers for that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on ``device``."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, (tuple, list)):
        return tuple(on_device(part, device) for part in batch)
    return batch
