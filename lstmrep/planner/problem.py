"""What a plan is made of: a problem, a card, a machine, and how a pass runs on CUDA. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

GATES = 4
BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Problem:
    """One call of the op: a whole sequence of N independent recurrences.

    Args:
        hidden_size: H, units of the cell.
        steps: T, time steps.
        batch: B, sequences.
        input_size: I, features of the input; 0 when there is no input (an unconditional decoder).
        recurrences: N, recurrences side by side (two directions, two decoders).
        dtype: I/O dtype, ``"float32"`` | ``"bfloat16"`` | ``"float16"`` | ``"float64"``.
        device: ``"cpu"`` | ``"cuda"`` | another torch device type.
        peephole: the cell has peephole connections.
        cell: ``"tanh"`` | ``"relu"``.
        training: a backward pass will follow, so its inputs are kept.
        recompute: keep only h and c, and form the gates again in the backward pass.
        proj_size: P, size of the projected output; 0 without projection.
        backend: ``"auto"`` or the one backend that may run.
    """

    hidden_size: int
    steps: int = 1
    batch: int = 1
    input_size: int = 0
    recurrences: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    peephole: bool = False
    cell: str = "tanh"
    training: bool = False
    recompute: bool = False
    proj_size: int = 0
    backend: str = "auto"


@dataclass(frozen=True)
class Card:
    """A CUDA card, as far as plans depend on it.

    The rates are for the step-time model only; where they are 0, estimates take their place (``cards.with_rates``).

    Args:
        name: for printing.
        sms: streaming multiprocessors.
        shared_bytes: dynamic shared memory that one CTA may have.
        clock: cycles per second, boost.
        gemm_rate: flops per second of tensor cores at their best, 16-bit operands; TF32 is half.
        tensor_rate: the same as far as ``mma.sync`` reaches.
        float_rate: the same of float32 without tensor cores.
        l2_bytes: size of the L2 cache.
        l2_rate: bytes per second from L2 to all SMs.
        memory_rate: bytes per second from device memory.
    """

    name: str
    sms: int
    shared_bytes: int
    clock: float = 0.0
    gemm_rate: float = 0.0
    tensor_rate: float = 0.0
    float_rate: float = 0.0
    l2_bytes: int = 0
    l2_rate: float = 0.0
    memory_rate: float = 0.0


@dataclass(frozen=True)
class Machine:
    """What can run here. An empty reason means usable.

    Args:
        native: why the compiled module is missing, or ``""``.
        cuda: why the CUDA kernels cannot run, or ``""``.
        isa: instruction set of the CPU kernels.
        threads: CPU threads.
        gpu: name and capability of the current CUDA device, for printing.
        card: what the CUDA kernels' sizes depend on, or none where it is not known (then only stepwise runs).
        tf32: torch allows TF32 in float32 products on CUDA.
        cuda_kernel: ``"auto"``, or the one CUDA kernel that may run, as LSTMREP_CUDA_KERNEL names it.
        triton: why Triton kernels cannot run, or ``""``.
        interpreted: Triton runs its kernels in its interpreter, on CPU tensors.
        triton_programs: programs of a Triton kernel that may wait for each other.
        triton_kernel: ``"auto"``, or the one Triton kernel that may run, as LSTMREP_TRITON_KERNEL names it.
    """

    native: str = ""
    cuda: str = ""
    isa: str = "baseline"
    threads: int = 1
    gpu: str = ""
    card: Card | None = None
    tf32: bool = False
    cuda_kernel: str = "auto"
    triton: str = ""
    interpreted: bool = False
    triton_programs: int = 1
    triton_kernel: str = "auto"


def uses_tf32(p: Problem, m: Machine) -> bool:
    """Whether a kernel over whole sequences rounds the operands of its products to TF32."""
    return p.dtype == "float32" and m.tf32


def on_tensor_cores(p: Problem, tf32: bool) -> bool:
    """Whether its products run on tensor cores: all but true float32."""
    return p.dtype != "float32" or tf32


@dataclass(frozen=True)
class GridLayout:
    """How ``grid_resident`` lays a pass over the card; what the fields mean: csrc/cuda/grid_resident/config.h.

    ``members``, ``replicas``, ``concurrent``, ``tiles``, ``panels``, ``row_tiles``, ``slots`` and ``most_shared`` are
    the choice (``choice``), the others follow from it.  ``rows`` are the batch rows of a team.
    """

    members: int
    replicas: int
    concurrent: int
    tiles: int
    panels: int
    row_tiles: int
    slots: int
    most_shared: int
    rows: int
    chunks: int = 0
    levels: int = 0
    held_levels: int = 0
    shared_levels: int = 0
    streamed_levels: int = 0
    shared_bytes: int = 0
    exchange_bytes: int = 0
    counter_words: int = 0
    streamed_bytes: int = 0
    part_floats: int = 0

    @property
    def choice(self) -> tuple[int, ...]:
        """The fields that the kernels are told."""
        return (
            self.members,
            self.replicas,
            self.concurrent,
            self.tiles,
            self.panels,
            self.row_tiles,
            self.slots,
            self.most_shared,
        )

    @property
    def ctas(self) -> int:
        """CTAs of the launch, all resident together."""
        return self.members * self.replicas * self.concurrent


@dataclass(frozen=True)
class CudaPass:
    """How a forward or backward pass runs on CUDA: the kernel, and what it needs to be told.

    ``rows`` and ``ctas`` are those of ``cta_resident``; ``grid`` is the layout of ``grid_resident``.
    """

    kernel: str
    rows: int = 0
    ctas: int = 0
    shared_bytes: int = 0
    tf32: bool = False
    grid: GridLayout | None = None


@dataclass(frozen=True)
class TritonPass:
    """How a forward or backward pass runs on Triton: the kernel and its fixed configuration.

    Args:
        kernel: ``"batch_held"``, ``"grid_persistent"``, ``"batch_walked"``, ``"fused_step"`` or ``"stepwise"``.
        rows: of the batch in a tile. units: hidden units in a tile.
        depth: of a block of the products.
        warps: of a program. stages: of loads under way.
        precision: of float32 products, ``"ieee"`` or ``"tf32"``.
        teams: among which ``grid_persistent`` deals the tiles of rows.
    """

    kernel: str
    rows: int
    units: int
    depth: int
    warps: int
    stages: int
    precision: str = "ieee"
    teams: int = 1

    @property
    def tf32(self) -> bool:
        """Whether operands of float32 products are rounded."""
        return self.precision == "tf32"
