"""The entries of this package, and how each is compiled without a GPU.

An entry is a kernel for one I/O dtype and one configuration.  All its optional arrays are given, as in a training step,
or none of them (``bare``); pointers are said to be multiples of 16 bytes, as torch's are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import batch_split, fused_step, grid_persistent, stepwise
from .launch import constants, options

if TYPE_CHECKING:
    from lstmrep.planner.problem import TritonPass

# Kernels of a pass, forward and backward.
KERNELS = {
    "batch_held": (batch_split.batch_held_forward, batch_split.batch_held_backward),
    "batch_walked": (batch_split.batch_walked_forward, batch_split.batch_walked_backward),
    "grid_persistent": (grid_persistent.grid_persistent_forward, grid_persistent.grid_persistent_backward),
    "fused_step": (fused_step.fused_step_forward, fused_step.fused_step_backward),
    "stepwise": (stepwise.stepwise_forward, stepwise.stepwise_backward),
}
IO = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
# Arguments by name: type, shape. S is the I/O dtype, W the width of the exchanged state, H or 4H.
ARGUMENTS = {
    "exchange": ("*S", "[2, N, B, W]"),
    "w": ("*S", "[4H, H], that of recurrence n at n * w_step"),
    "z": ("*fp32", "[N, B, 4H]"),
    "dh": ("*fp32", "[N, B, H]"),
    "h0": ("*S", "[N, B, H]"),
    "c0": ("*fp32", "[N, B, H]"),
    "gates_x": ("*S", "[N, T, B, 4H]"),
    "bias": ("*fp32", "[N, 4H]"),
    "peephole": ("*fp32", "[N, 3, H]"),
    "lengths": ("*i32", "[N, B]"),
    "h": ("*S", "[N, T, B, H]"),
    "h_n": ("*S", "[N, B, H]"),
    "c_n": ("*fp32", "[N, B, H]"),
    "gates": ("*S", "[N, T, B, 4H]"),
    "c_all": ("*fp32", "[N, T, B, H]"),
    "h_next": ("*S", "[N, B, H]"),
    "grad_h": ("*S", "[N, T, B, H]"),
    "grad_h_n": ("*S", "[N, B, H]"),
    "grad_c_n": ("*fp32", "[N, B, H]"),
    "d_gates": ("*S", "[N, T, B, 4H]"),
    "d_next": ("*S", "[N, B, 4H]"),
    "d_h0": ("*S", "[N, B, H]"),
    "dc": ("*fp32", "[N, B, H]"),
    "sums": ("*fp32", "[N, B, 7, H]"),
    "counters": ("*i32", "[N, teams]"),
    "word": ("*i32", "[1]"),
    **dict.fromkeys(("step", "T", "B", "H"), ("i32", "")),
    **dict.fromkeys(("reverse", "w_step", "polls"), ("i64", "")),
}


# Arguments that may be none, forward and backward.
OPTIONAL = (
    ("z", "h0", "c0", "gates_x", "bias", "peephole", "lengths", "gates", "c_all"),
    ("dh", "c0", "peephole", "lengths", "grad_h", "grad_h_n", "grad_c_n", "d_h0", "sums"),
)


class Entry(NamedTuple):
    """One kernel to compile."""

    how: TritonPass
    backward: bool
    dtype: str  # I/O dtype
    aligned: bool = True  # H is a multiple of 16
    relu: bool = False
    bare: bool = False  # no optional array is given

    @property
    def kernel(self) -> Any:
        """The jitted function."""
        return KERNELS[self.how.kernel][self.backward]

    @property
    def name(self) -> str:
        """A name of its own, made of all that tells entries apart."""
        how = self.how
        tile = f"{how.rows}x{how.units}x{how.depth}_w{how.warps}s{how.stages}"
        flags = [how.precision] * (self.dtype == "float32") + ["any_h"] * (not self.aligned) + ["relu"] * self.relu
        flags += ["bare"] * self.bare
        return "_".join([self.kernel.__name__, self.dtype, tile, *flags])

    @property
    def constants(self) -> dict[str, Any]:
        """Its compile-time arguments."""
        none = [name for name in OPTIONAL[self.backward] if self.bare and name in self.kernel.arg_names]
        return constants(self.kernel, self.how, self.aligned, self.relu) | dict.fromkeys(none)

    @property
    def parameters(self) -> list[tuple[str, str, str]]:
        """Name, type and shape of each argument at run time, in order."""
        width = "4H" if self.backward else "H"
        found = []
        for name in self.kernel.arg_names:
            if name not in self.constants:
                kind, shape = ARGUMENTS[name]
                found.append((name, kind.replace("S", IO[self.dtype]), re.sub(r"\bW\b", width, shape)))
        return found


def compiled(entry: Entry, capability: int) -> Any:
    """Compile an entry for a card of that capability (80, 90, ...): what ``triton.compile`` returns."""
    kernel = entry.kernel
    signature = {name: kind for name, kind, _ in entry.parameters} | dict.fromkeys(entry.constants, "constexpr")
    order = {name: at for at, name in enumerate(kernel.arg_names)}
    attributes = {
        (order[name],): [["tt.divisibility", 16]] for name, kind, _ in entry.parameters if kind.startswith("*")
    }
    source = ASTSource(kernel, {name: signature[name] for name in kernel.arg_names}, entry.constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options(entry.how, entry.aligned))
