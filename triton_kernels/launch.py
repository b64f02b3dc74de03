"""How kernels of this package start: arguments in one order, options all stated, counted by name.

Compiled kernels run on torch's current stream.  Where triton was imported under TRITON_INTERPRET=1 they are Python
functions over numpy, on CPU tensors, and programs run one after another.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import triton
from torch import Tensor

if TYPE_CHECKING:
    from lstmrep.backends.tensors import Backward, Forward
    from lstmrep.planner.problem import TritonPass

INTERPRETED = bool(triton.knobs.runtime.interpret)
_counts: Counter[str] = Counter()


class Call(NamedTuple):
    """What forward and backward share. S is the I/O dtype; all tensors are dense."""

    w: Tensor  # [4H, H] S of recurrence 0
    w_step: int  # elements from the W_hh of one recurrence to the next
    bias: Tensor | None  # [N, 4H] float32
    peephole: Tensor | None  # [N, 3, H] float32
    h0: Tensor | None  # [N, B, H] S
    c0: Tensor | None  # [N, B, H] float32
    lengths: Tensor | None  # [N, B] int32
    N: int
    T: int
    B: int
    H: int
    reverse: int  # bits of reversed recurrences
    relu: bool

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """The arguments that all kernels over whole sequences end with."""
        return self.T, self.B, self.H, self.reverse, self.w_step

    @property
    def aligned(self) -> bool:
        """Whether rows of H elements, and the weights of each recurrence, begin at multiples of 16 elements."""
        return self.H % 16 == 0 and self.w_step % 16 == 0


def forward_arrays(call: Call, a: Forward) -> tuple[Tensor | None, ...]:
    """From the biases on, in the order that every forward kernel has."""
    return a.gates_x, call.bias, call.peephole, call.c0, call.lengths, a.h, a.h_n, a.c_n, a.gates, a.c


def backward_arrays(call: Call, a: Backward, dc: Tensor, sums: Tensor | None) -> tuple[Tensor | None, ...]:
    """From the peepholes on, in the order that every backward kernel has."""
    saved = call.peephole, call.c0, call.lengths, a.gates, a.c
    return *saved, a.grad_h, a.grad_h_n, a.grad_c_n, a.d_gates, dc, sums


def options(how: TritonPass, aligned: bool) -> dict[str, Any]:
    """What the compiler is told of a kernel.

    Loads run ahead only where they are 16 bytes wide: narrower asynchronous copies go through the first-level cache,
    which may hold what another program has overwritten since.  ``maxnreg`` is the most that a thread can have: without
    it ptxas spills some registers to leave room for a second program, which never comes.
    """
    told: dict[str, Any] = {
        "num_warps": how.warps,
        "num_stages": how.stages if aligned else 1,
        "enable_fp_fusion": True,
    }
    if how.kernel != "stepwise":
        told["maxnreg"] = 255
    if how.kernel == "grid_persistent":
        told["launch_cooperative_grid"] = True
    return told


def constants(kernel: Any, how: TritonPass, aligned: bool, relu: bool) -> dict[str, Any]:
    """The compile-time arguments of a kernel by name: those of these that it takes."""
    values = {
        "ROWS": how.rows,
        "UNITS": how.units,
        "DEPTH": how.depth,
        "ALIGNED": aligned,
        "RELU": relu,
        "PRECISION": how.precision,
    }
    return {name: value for name, value in values.items() if name in kernel.arg_names}


def start(
    name: str, kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], call: Call, how: TritonPass
) -> None:
    """Start a kernel.

    Args:
        name: under which it is counted.
        kernel: the jitted function.
        grid: programs. Without any nothing starts.
        arguments: in the kernel's order, up to its compile-time ones.
        call, how: tell those, the warps and the stages.
    """
    if 0 in grid:
        return
    _counts[name] += 1
    told = {} if INTERPRETED else options(how, call.aligned)
    kernel[grid](*arguments, **constants(kernel, how, call.aligned, call.relu), **told)


def launch_counts() -> dict[str, int]:
    """Launches so far by kernel, in this process."""
    return dict(_counts)


def resident_programs(device: torch.device) -> int:
    """Programs that are sure to run at the same time: one a multiprocessor; one under the interpreter."""
    return 1 if INTERPRETED else int(torch.cuda.get_device_properties(device).multi_processor_count)
