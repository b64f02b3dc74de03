"""What no implementation can be faster than, nearly: products at the best rate, and bytes at the rate of memory.

A floor is the time of all products' flops at the best rate of a product, of a library or of this library's own kernels,
or of reading W_hh once a step where that is longer and W_hh does not stay in the threads' own caches; plus the time to
move once everything that must be moved (``problems.moved``), at the rate at which as many bytes can be moved again and
again.  Nothing is taken to overlap, so a time a little below it is possible.  On a CPU the rates are measured in the
same run, the best that was seen; on a GPU they are those of the card's data sheet (``lstmrep.planner.cards``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from lstm_bench.problems import TRAINING, Problem, flops, moved, steps
from lstm_bench.timing import milliseconds
from lstmrep import machine, native
from lstmrep.backends.tensors import DTYPE_CODE
from lstmrep.planner.cards import with_rates
from lstmrep.planner.problem import Card

PRODUCTS = (512, 1024, 2048)  # of square matrices
LEAST_STREAM, MOST_STREAM = 1 << 22, 1 << 30  # bytes of a buffer; below, a torch call's own cost would show
FIRST, AGAIN = 10, 2  # times that each way is tried when a rate is first asked for, and before each problem


class Rates(Protocol):
    """What a device can do."""

    cache: int  # bytes that the threads' own caches, or a card's multiprocessors, hold together

    def gemm(self, dtype: torch.dtype) -> float:
        """Flops a second of a product."""

    def stream(self, total: int) -> float:
        """Bytes a second of moving so many again and again."""

    def look_again(self) -> None:
        """Measure what was measured before; the best counts."""

    def describe(self) -> str:
        """One line."""


def floor(rates: Rates, problem: Problem, passes: str, dtype: torch.dtype) -> float:
    """Milliseconds of a pass."""
    work = flops(problem, passes) / rates.gemm(dtype)
    weights = 4 * problem.H**2 * dtype.itemsize
    if weights > rates.cache:
        walks = steps(problem) * (2 if passes == TRAINING else 1)
        work = max(work, walks * weights / rates.stream(weights))
    total = moved(problem, passes, dtype.itemsize)
    return (work + total / rates.stream(total)) * 1e3


def rates(device: torch.device, dtypes: Sequence[torch.dtype], quick: bool = False) -> Rates:
    """The rates of a device.

    Args:
        device: which.
        dtypes: of products.
        quick: measure small sizes once, for tests of the benchmark itself.

    Raises:
        RuntimeError: a CUDA device on which this library's kernels cannot run.
    """
    if device.type != "cuda":
        return Measured(dtypes, quick)
    card = machine.planned(device)[1].card
    if card is None:
        raise RuntimeError("bench_lstm: the CUDA kernels cannot run here; `python -m lstmrep info` says why.")
    return DataSheet(with_rates(card))


class DataSheet:
    """The rates of a card as its vendor gives them.

    Args:
        card: with its rates.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self.cache = card.sms * (card.shared_bytes + (256 << 10))  # shared memory and registers

    def gemm(self, dtype: torch.dtype) -> float:
        """Of tensor cores, for float32 without them."""
        return self.card.float_rate if dtype == torch.float32 else self.card.gemm_rate

    def stream(self, total: int) -> float:
        """Of L2 where it holds them, else of the card's memory."""
        return self.card.l2_rate if total <= self.card.l2_bytes else self.card.memory_rate

    def look_again(self) -> None:
        """Nothing is measured."""

    def describe(self) -> str:
        """One line."""
        return (
            f"{self.card.name}, by data sheet (L2: estimate): float32 {self.card.float_rate / 1e12:,.0f} TFLOP/s, "
            f"16 bits {self.card.gemm_rate / 1e12:,.0f}; memory {self.card.memory_rate / 1e12:.2f} TB/s, "
            f"L2 {self.card.l2_rate / 1e12:.1f}"
        )


class Measured:
    """The rates of this CPU with torch's threads: the best of ``torch.mm``, ``linear`` and the kernels' own product, of
    reading and copying.

    Args:
        dtypes: of products.
        quick: small sizes, once.
    """

    def __init__(self, dtypes: Sequence[torch.dtype], quick: bool) -> None:
        self.cache = own_caches()
        self.sizes = (64,) if quick else PRODUCTS
        self.first = 1 if quick else FIRST
        self.largest = LEAST_STREAM if quick else MOST_STREAM
        self._gemm = {dtype: self._product(dtype, self.first) for dtype in dtypes}
        self._stream: dict[int, float] = {}
        self.stream(self.largest)

    def gemm(self, dtype: torch.dtype) -> float:
        """As measured."""
        return self._gemm[dtype]

    def stream(self, total: int) -> float:
        """As measured on a buffer of the next power of two."""
        size = min(self.largest, max(LEAST_STREAM, 1 << (total - 1).bit_length()))
        if size not in self._stream:
            self._stream[size] = _stream_rate(size, self.first)
        return self._stream[size]

    def look_again(self) -> None:
        """The best counts: a rate was taken in a slow moment if a later one is higher."""
        for dtype, rate in self._gemm.items():
            self._gemm[dtype] = max(rate, self._product(dtype, AGAIN))
        for size, rate in self._stream.items():
            self._stream[size] = max(rate, _stream_rate(size, AGAIN))

    def describe(self) -> str:
        """One line."""
        products = ", ".join(f"{str(d).removeprefix('torch.')} {r / 1e9:,.0f} GFLOP/s" for d, r in self._gemm.items())
        buffers = ", ".join(f"{size >> 20} MiB {r / 1e9:.1f} GB/s" for size, r in sorted(self._stream.items()))
        return f"best seen in this run: products {products}; moving {buffers}"

    def _product(self, dtype: torch.dtype, times: int) -> float:
        best = 0.0
        for n in self.sizes:
            a, b = (torch.randn(n, n).to(dtype) for _ in range(2))
            ways = [torch.mm, torch.nn.functional.linear]
            if not native.reason():
                ways.append(own_product)
            for way in ways:
                best = max(best, 2 * n**3 / _best(lambda way=way, a=a, b=b: way(a, b), times))
        return best


def own_product(a: Tensor, b: Tensor) -> Tensor:
    """``a.T @ b`` by the kernel that forms the gradient of W_ih: as of gate gradients and inputs of so many frames.

    Args:
        a, b: ``[n, n]`` of one dtype, dense; n a multiple of 4.
    """
    n, kernels, made = len(a), native.module(), torch.empty_like(a)
    sizes = {"dtype": DTYPE_CODE[a.dtype], "T": n, "B": 1, "H": n // 4, "I": n, "threads": torch.get_num_threads()}
    size = kernels.cpu_gradients_workspace_bytes(**sizes, input=False)
    workspace = torch.empty(size, dtype=torch.uint8)
    absent = dict.fromkeys(("w_ih", "h", "h0", "lengths", "d_x", "d_w_hh"), 0)
    kernels.cpu_gradients(
        **sizes,
        **absent,
        d_gates=a.data_ptr(),
        x=b.data_ptr(),
        x_strides=(n, n),
        reverse=False,
        add=False,
        d_w_ih=made.data_ptr(),
        workspace=workspace.data_ptr(),
    )
    return made


def _stream_rate(total: int, times: int) -> float:
    """The best of reading one buffer, and of copying one half of it to the other."""
    whole = torch.zeros(total // 4)
    matrix, vector = whole.view(-1, 1024), torch.ones(1024)
    one, two = whole.chunk(2)
    ways: list[Callable[[], object]] = [
        lambda: torch.mv(matrix, vector),
        lambda: whole.sum(),
        lambda: two.copy_(one),
    ]
    return total / min(_best(way, times) for way in ways)


def _best(call: Callable[[], object], times: int) -> float:
    """Seconds of the fastest call."""
    call()
    return min(milliseconds(torch.device("cpu"), call, 1) for _ in range(times)) / 1e3


def own_caches() -> int:
    """Bytes of the second-level caches of as many cores as there are threads; 1 MiB each where Linux does not say."""
    size = 1 << 20
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        found = re.fullmatch(r"(\d+)K", (index / "size").read_text().strip())
        if found and (index / "level").read_text().strip() == "2":
            size = int(found[1]) << 10
    return size * torch.get_num_threads()
