"""Which sequences an update sees: a pure function of its number, so that a run resumes anywhere without a state.

All epochs form one endless row of positions; update s takes the positions from s*batch_size on. So every batch is
full: where an epoch does not divide by the batch, a batch takes the end of one epoch and the start of the next, and
nothing is dropped, repeated within an epoch or weighted otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

_WORD = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """A number of 63 bits from some numbers, every one of which matters (the finisher of splitmix64, chained)."""
    z = 0
    for number in numbers:
        z = (z + number + 0x9E3779B97F4A7C15) & _WORD
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
        z ^= z >> 31
    return z >> 1


def step_seed(seed: int, step: int, rank: int = 0, world: int = 1) -> int:
    """What torch's generators start from in one update on one process.

    Args:
        seed: of the run.
        step: updates done before this one.
        rank, world: of the process.

    Returns:
        A seed; no two of the same run have the same low 32 bits, the only ones that torch's CPU generator reads,
        within 2^32 / world updates.
    """
    return (mix(seed) + step * world + rank) & (_WORD >> 1)


def start_generators(seed: int, device: torch.device) -> None:
    """Start torch's generators of the CPU and of ``device``, and of no other device."""
    # torch.manual_seed also records where it was called from for every kind of device that is not in use: half a
    # millisecond.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


class StepSampler:
    """Indices of every update, for one process of several.

    Args:
        length: sequences of the data; none: endless, every index from 0 on is a sequence of its own.
        batch_size: of an update, over all processes together.
        seed: of the order within an epoch; endless data are read in their own order.
        rank, world: this process takes the ``rank``-th of ``world`` equal shares of each batch.

    Raises:
        ValueError: the data are empty, or the batch does not divide by the processes.
    """

    def __init__(self, length: int | None, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        if length is not None and length < 1:
            raise ValueError("lstmrep.train: the data are empty; give at least one sequence.")
        if batch_size % world:
            raise ValueError(
                f"lstmrep.train: train.batch_size is {batch_size}, expected a multiple of the {world} processes."
            )
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.share = rank, batch_size // world
        self._epoch: tuple[int, torch.Tensor] | None = None

    def indices(self, step: int) -> list[int]:
        """What update ``step`` (from 0) reads on this process."""
        start = step * self.batch_size + self.rank * self.share
        positions = range(start, start + self.share)
        if self.length is None:
            return list(positions)
        return [int(self._order(p // self.length)[p % self.length]) for p in positions]

    def steps(self, first: int, last: int) -> Iterator[tuple[int, list[int]]]:
        """``(step, indices)`` of the updates from ``first`` to before ``last``."""
        for step in range(first, last):
            yield step, self.indices(step)

    def _order(self, epoch: int) -> torch.Tensor:
        if self._epoch is None or self._epoch[0] != epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, epoch))
            self._epoch = (epoch, torch.randperm(self.length or 0, generator=generator))
        return self._epoch[1]
