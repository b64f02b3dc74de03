"""Counts launches: this library's kernels by their own counter, torch's by watching its operations.

Without a GPU the count is still defined: every torch operation counts as the one kernel it starts on a GPU, except
views and allocations, which start none, and fills with zero, which are listed apart.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lstmrep import native
from lstmrep.backends import cuda
from lstmrep.ops import frame_loss  # noqa: F401 (registers its ops)
from lstmrep.ops.registration import IMPLEMENTATIONS

# Operations that start no kernel: views, allocations, metadata.
FREE = frozenset(
    [
        "view",
        "_unsafe_view",
        "expand",
        "transpose",
        "t",
        "permute",
        "select",
        "slice",
        "unsqueeze",
        "squeeze",
        "split",
        "chunk",
        "unbind",
        "detach",
        "alias",
        "as_strided",
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "unfold",
        "diagonal",
        "movedim",
        "resize_",
        "set_",
        "_reshape_alias",
        "split_with_sizes",
        "lift_fresh",
    ]
)
# Copy only where the result cannot be the input itself or a view of it.
MAYBE = frozenset(["reshape", "flatten", "contiguous", "to"])
# Start a memset instead of a kernel; listed apart.
MEMSET = frozenset(["zeros", "zero_", "zeros_like", "new_zeros"])


class Launches:
    """The counts of one ``count_launches`` block: ``own`` by kernel, ``torch`` by operation, ``memset``."""

    def __init__(self) -> None:
        self.own: Counter[str] = Counter()
        self.torch: Counter[str] = Counter()
        self.memset = 0

    @property
    def total(self) -> int:
        """Kernels started, ours and torch's, without memsets."""
        return sum(self.own.values()) + sum(self.torch.values())

    def __repr__(self) -> str:
        return f"Launches(total={self.total}, own={dict(self.own)}, torch={dict(self.torch)}, memset={self.memset})"


class _Watch(TorchDispatchMode):
    def __init__(self, counts: Launches) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        space, _, name = func._schema.name.partition("::")
        if space == "lstmrep":
            # Our own op: its kernels count themselves, the torch operations inside it come past here one by one.
            with self:
                return IMPLEMENTATIONS[name](*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if name in MEMSET:
            self.counts.memset += 1
        elif name not in FREE and not (name in MAYBE and _same_memory(args[0], result)):
            self.counts.torch[name] += 1
        return result


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _counters() -> set[Any]:
    """The modules that count launches: the native one, where a test put another that of the CUDA kernels, and Triton's
    once it is imported."""
    counters = set() if native.reason() else {native.module(), cuda.kernels()}
    of_triton = sys.modules.get("lstmrep.triton_kernels.launch")
    return counters | ({of_triton} if of_triton else set())


def _own(counters: set[Any]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for module in counters:
        counts.update(module.launch_counts())
    return counts


@contextmanager
def count_launches() -> Iterator[Launches]:
    """Count the kernels started inside the block, forward and backward, in this thread.

    A CUDA kernel's check at its first use (LSTMREP_VERIFY) is counted in ``own`` with the rest.

    Example:
        >>> with lstmrep.count_launches() as launches:
        ...     output, _ = model(x)
        >>> dict(launches.own)
        {'cpu_forward': 1}
    """
    counts = Launches()
    counters = _counters()
    before = _own(counters)
    with _Watch(counts):
        yield counts
    counts.own = _own(counters) - before
    counts.memset += counts.own.pop("memset", 0)
