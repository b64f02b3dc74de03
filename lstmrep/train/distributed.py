"""Several processes that train one model, as torchrun starts them: who is who, sums over all, one device each."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch import distributed as dist

_PAUSE = 0.1  # seconds


@dataclass(frozen=True)
class Group:
    """This process among the others; alone by default."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def total(self, t: Tensor) -> Tensor:
        """The sum of ``t`` over all processes, the same bits on each."""
        if self.world > 1:
            dist.all_reduce(t)
        return t

    def agreed(self, number: int) -> int:
        """What the first process says."""
        if self.world > 1:
            t = torch.tensor(number, dtype=torch.int64, device=self.device)
            dist.broadcast(t, 0)
            number = int(t)
        return number

    def wait(self) -> None:
        """Until all processes are here."""
        self.agreed(0)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group of this process: torchrun's by its variables, one that is initialized already, or itself alone.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or one device by number. With several processes on CUDA each takes
            the one of its local rank.

    Raises:
        ValueError: there is no such device, or fewer devices than processes.
    """
    started = dist.is_available() and dist.is_initialized()
    world = dist.get_world_size() if started else int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")) if world > 1 else None)
    if world <= 1:
        yield Group(device=chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if not started:
        # Both, since a later run of this process may be on the other kind of device.
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        # Left open for the next run of this process: a group that starts again on the same store may meet the keys that
        # the one before left there, and hang.
        atexit.register(_leave)
    yield Group(dist.get_rank(), world, chosen)


def _leave() -> None:
    """Ends the group, before the interpreter does."""
    if dist.is_initialized():
        dist.destroy_process_group()
    # gloo's threads let go of the last collective's tensor, for which they need the interpreter, after it is done. One
    # that still waits for its turn when the interpreter ends aborts the process: a pause gives all of them theirs.
    time.sleep(_PAUSE)


def _device(name: str, local_rank: int | None) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"lstmrep.train.Config: train.device is {name!r}, expected auto, cpu, cuda or one such as cuda:1."
        ) from error
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count()
    index = local_rank if local_rank is not None else device.index if device.index is not None else 0
    if index >= count:
        raise ValueError(
            f"lstmrep.train.Config: train.device is {name!r} and this process needs CUDA device {index}, but torch "
            f"sees {count}; start fewer processes or set train.device to cpu."
        )
    return torch.device("cuda", index)
