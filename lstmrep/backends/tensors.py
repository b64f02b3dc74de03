"""The contract every backend fills: which tensors come in, which buffers it must write.

All tensors are dense and already checked by ``lstmrep.ops.validate``.  ``S`` is the I/O dtype (float32, bfloat16,
float16, float64), ``C`` the dtype of the cell state and of every sum: float32, or float64 when S is float64.
Gates are in order i, f, g, o; peepholes in order i, f, o.

Step t of row (n, b) is active when t < len.  Its frame is t, or len-1-t when ``reverse[n]``; a step that is not
active owns frame t, where every frame-shaped output is zero.  ``h_n`` and ``c_n`` follow the last active step.

Small parameters come as the caller holds them: ``biases`` and ``peepholes`` are lists of tensors in one dtype ``V``,
which is S or C, that one after the other hold ``[N, 4H]`` and ``[N, 3, H]``; a start state may have one row for all
recurrences.  A kernel that reads them where they lie, and writes the ``Final`` gradients, starts no launch beside its
own.  For the others there is the plain form: ``bias``, ``peephole``, ``h0`` and ``c0`` of a ``Recurrence``, made when
asked for, and the plain gradients of a ``Backward``, from which ``Final.finish`` makes the final ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

# The numbers of csrc/common/dtype.h.
DTYPE_CODE = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}


class _Once(Generic[T]):
    """A property that is formed at its first reading; ``functools.cached_property`` takes a lock before Python 3.12."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self.make = make
        self.__doc__ = make.__doc__

    def __get__(self, owner: Any, kind: Any = None) -> T:
        made = owner.__dict__[self.make.__name__] = self.make(owner)
        return made


@dataclass(frozen=True)
class Shape:
    """Sizes of one call: N recurrences, T steps, B rows, I input features (0: none), H units."""

    N: int
    T: int
    B: int
    I: int
    H: int
    dtype: torch.dtype  # S
    compute: torch.dtype  # C
    device: torch.device


@dataclass
class Recurrence:
    """What forward and backward share."""

    shape: Shape
    reverse: list[bool]  # [N]
    cell: str  # "tanh" | "relu"
    w_hh: list[Tensor]  # N of [4H, H] S
    # V, [N, 4H] one after the other, or 2N of [4H] that are added, both of a recurrence side by side; empty: none
    biases: Sequence[Tensor]
    peepholes: Sequence[Tensor]  # V, [N, 3, H] one after the other; empty: none
    start_h: Tensor | None  # [N, B, H], or [1, B, H] for all, S; none means zeros
    start_c: Tensor | None  # [N, B, H], or [1, B, H] for all, C; none means zeros
    lengths: Tensor | None  # [N, B] int32

    @_Once
    def bias(self) -> Tensor | None:
        """``[N, 4H]`` C, plain."""
        joined = self.joined(self.summed_biases)
        return None if joined is None else joined.view(self.shape.N, 4 * self.shape.H)

    @_Once
    def summed_biases(self) -> Sequence[Tensor]:
        """V, ``[N, 4H]`` one after the other."""
        if not in_pairs(self.biases, self.shape.N):
            return self.biases
        return [a + b for a, b in zip(self.biases[::2], self.biases[1::2], strict=True)]

    @_Once
    def peephole(self) -> Tensor | None:
        """``[N, 3, H]`` C, plain."""
        joined = self.joined(self.peepholes)
        return None if joined is None else joined.view(self.shape.N, 3, self.shape.H)

    @property
    def vectors_as_io(self) -> bool:
        """Whether biases and peepholes are in S where that is not C."""
        vectors = self.biases or self.peepholes
        return bool(vectors) and vectors[0].dtype != self.shape.compute

    @_Once
    def h0(self) -> Tensor | None:
        """``[N, B, H]`` S, plain; none means zeros."""
        return self._for_each(self.start_h)

    @_Once
    def c0(self) -> Tensor | None:
        """``[N, B, H]`` C, plain; none means zeros."""
        return self._for_each(self.start_c)

    @_Once
    def shared_start(self) -> bool:
        """Whether each start state that is given is one for several recurrences."""
        given = [start for start in (self.start_h, self.start_c) if start is not None]
        return self.shape.N > 1 and bool(given) and all(start.shape[0] == 1 for start in given)

    def joined(self, vectors: Sequence[Tensor]) -> Tensor | None:
        """Biases or peepholes one after the other in one dense tensor, C; none where there are none."""
        if not vectors:
            return None
        whole = vectors[0] if len(vectors) == 1 else torch.cat([v if v.dim() == 1 else v.flatten() for v in vectors])
        return whole if whole.dtype == self.shape.compute else whole.to(self.shape.compute)

    def _for_each(self, start: Tensor | None) -> Tensor | None:
        if start is None or start.shape[0] == self.shape.N:
            return start
        return start.expand(self.shape.N, -1, -1).contiguous()


def in_pairs(biases: Sequence[Tensor], n: int) -> bool:
    """Whether the biases of n recurrences are torch's two of each, ``[4H]``, side by side, which are added."""
    return len(biases) == 2 * n


def addresses(vectors: Sequence[Tensor], count: int, width: int) -> list[int]:
    """Addresses of ``count`` vectors of ``width`` elements that lie one after the other in dense tensors."""
    if not vectors:
        return []
    each = count // len(vectors)
    step = width * vectors[0].element_size()
    return [v.data_ptr() + k * step for v in vectors for k in range(each)]


def reverse_bits(reverse: Sequence[bool]) -> int:
    """The reverse flags as bits, that of recurrence n being bit n."""
    return sum(1 << n for n, flag in enumerate(reverse) if flag)


@dataclass(slots=True)
class Forward:
    """Buffers of a forward pass."""

    # [N, T, B, 4H] S, the input's share of the gates; may be the same tensor as gates; none: zero, or x is given
    gates_x: Tensor | None
    h: Tensor  # [N, T, B, H] S, out
    h_n: Tensor  # [N, B, H] S, out
    c_n: Tensor  # [N, B, H] C, out
    gates: Tensor | None  # [N, T, B, 4H] S, out: gates after their non-linearity; none: not wanted
    c: Tensor | None  # [N, T, B, H] C, out; none: not wanted
    # Where the plan says that the backend forms the input share (Plan.shares): [T, B, I] or [N, T, B, I] S, dense
    # along I only, and N of [4H, I] S.
    x: Tensor | None = None
    w_ih: Sequence[Tensor] = ()


@dataclass(slots=True)
class Final:
    """Gradients of the small inputs as the caller gets them; none: not wanted."""

    d_h0: Tensor | None  # like start_h, S: the sum over recurrences that share it
    d_c0: Tensor | None  # like start_c, C
    # [N*4H + N*3H] V: of the biases, then of the peepholes; [N*4H] where there are none and the backend allows it
    vectors: Tensor | None

    def finish(self, r: Recurrence, a: Backward) -> None:
        """Fill from the plain gradients of ``a``, where those are other tensors."""
        self.finish_starts(r, a)
        if self.vectors is None or self.vectors.dtype == r.shape.compute:
            return
        at = r.shape.N * 4 * r.shape.H
        for plain, final in ((a.d_bias, self.vectors[:at]), (a.d_peephole, self.vectors[at:])):
            if plain is not None:
                final.copy_(plain.flatten())

    def finish_starts(self, r: Recurrence, a: Backward) -> None:
        """The part of ``finish`` that is about start states."""
        for plain, final in ((a.d_h0, self.d_h0), (a.d_c0, self.d_c0)):
            if plain is not None and final is not None and plain.shape != final.shape:
                final.copy_(plain.to(r.shape.compute).sum(0, keepdim=True))


@dataclass(slots=True)
class Backward:
    """Buffers of a backward pass. Gradients that are none are zero; outputs that are none are not wanted.

    A backend fills the plain gradients, the last four, or ``final`` at once and says so by ``finished``.
    """

    gates: Tensor  # [N, T, B, 4H] S; may be the same tensor as d_gates
    c: Tensor  # [N, T, B, H] C
    grad_h: Tensor | None  # [N, T, B, H] S
    grad_h_n: Tensor | None  # [N, B, H] S
    grad_c_n: Tensor | None  # [N, B, H] C
    d_gates: Tensor  # [N, T, B, 4H] S, out: gradient of the sums before the non-linearity
    d_h0: Tensor | None  # [N, B, H] S, out
    d_c0: Tensor | None  # [N, B, H] C, out
    d_bias: Tensor | None  # [N, 4H] C, out
    d_peephole: Tensor | None  # [N, 3, H] C, out
    final: Final
    finished: bool = False


@dataclass(slots=True)
class Gradients:
    """Buffers of the products behind a backward pass. Outputs that are none, or empty, are not wanted."""

    d_gates: Tensor  # [N, T, B, 4H] S, zero in frames beyond a sequence's end
    h: Tensor  # [N, T, B, H] S
    x: Tensor | None = None  # [T, B, I] (shared) or [N, T, B, I] S, dense along I only
    w_ih: Sequence[Tensor] = ()  # N of [4H, I] S
    d_x: Tensor | None = None  # like x, dense, S, out
    d_w_ih: Sequence[Tensor] = ()  # N of [4H, I] S, out
    d_w_hh: Tensor | None = None  # [N, 4H, H] S, or [4H, H] for N = 1, out
