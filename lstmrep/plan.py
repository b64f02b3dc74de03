"""The planner: which backend runs a problem, what it costs, and why the others do not.

Pure and printable: the standard library only, no torch, no native module.  What is known about the machine comes
in as a :class:`Machine` (collected by ``lstmrep.machine``), so a plan for a card that is not here is one call away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GATES = 4
BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
# Multiply-adds of a step that pay for one more thread at the barrier after it. Measured on 2 cores: two threads lose
# below about 32k and gain a quarter at 64k.
CPU_WORK_PER_THREAD = 1 << 15
MAX_CUDA_ELEMENTS = 1 << 31
MAX_CUDA_RECURRENCES = 64  # the reverse flags travel as the bits of one 64-bit kernel argument


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

    Args:
        name: for printing.
        sms: streaming multiprocessors.
        shared_bytes: dynamic shared memory that one CTA may have.
    """

    name: str
    sms: int
    shared_bytes: int


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
        cuda_kernel: ``"auto"``, or the one CUDA kernel that may run: ``"stepwise"``, ``"cta_resident"``.
    """

    native: str = ""
    cuda: str = ""
    isa: str = "baseline"
    threads: int = 1
    gpu: str = ""
    card: Card | None = None
    tf32: bool = False
    cuda_kernel: str = "auto"


@dataclass(frozen=True)
class CudaPass:
    """How a forward or backward pass runs on CUDA: the kernel, and for ``cta_resident`` its rows a CTA and CTAs."""

    kernel: str
    rows: int = 0
    ctas: int = 0
    shared_bytes: int = 0
    tf32: bool = False


@dataclass(frozen=True)
class Plan:
    """What will run. ``describe()`` is its text; fields are stable and comparable.

    ``kernels`` and ``gemms`` count launches of this library's kernels and library matrix products of a forward pass
    and of the backward pass that follows it.  ``cuda`` says which kernel each pass runs there.
    ``saved_bytes_per_step`` counts what a forward pass keeps for the backward pass beyond the caller's own tensors,
    per time step.  ``threads`` are those the cpu backend takes.
    """

    problem: Problem
    backend: str
    design: str
    kernels: tuple[int, int]
    gemms: tuple[int, int]
    saved_bytes_per_step: int
    threads: int = 1
    refusals: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    cuda: tuple[CudaPass, ...] = ()  # forward, backward

    def describe(self) -> str:
        """The plan as text: problem, choice, costs, and one line per refused backend."""
        p = self.problem
        what = "peephole " if p.peephole else ""
        lines = [
            f"problem   {what}LSTM ({p.cell} cell), N={p.recurrences} T={p.steps} B={p.batch} "
            f"I={p.input_size} H={p.hidden_size}"
            + (f" P={p.proj_size}" if p.proj_size else "")
            + f", {p.dtype} on {p.device}, {'training' if p.training else 'inference'}",
            f"backend   {self.backend}: {self.design}",
            f"launches  forward {self.kernels[0]} own + {self.gemms[0]} library products"
            + (f"; backward {self.kernels[1]} own + {self.gemms[1]} library products" if p.training else ""),
        ]
        if p.training:
            kept = "h, c (gates are recomputed)" if p.recompute else "gates, c, h"
            lines.append(
                f"saved     {self.saved_bytes_per_step:,} bytes per step: {kept}; "
                f"{self.saved_bytes_per_step * p.steps:,} in all"
            )
        lines += [f"note      {note}" for note in self.notes]
        lines += [f"refused   {name}: {why}" for name, why in self.refusals]
        return "\n".join(lines)

    __str__ = describe


class PlanError(RuntimeError):
    """A forced backend cannot run the problem; the message says why."""


def plan(problem: Problem, machine: Machine) -> Plan:
    """Choose a backend for ``problem`` on ``machine``.

    Returns:
        The plan of the first candidate that is not refused, with the refusals met on the way.

    Raises:
        PlanError: ``problem.backend`` is unknown, or names a backend that cannot run the problem.
    """
    forced = problem.backend
    if forced not in BACKENDS:
        raise PlanError(f"lstmrep: backend={forced!r} is not known; choose one of {', '.join(BACKENDS)}.")
    refusals: list[tuple[str, str]] = []
    for name, (refuse, _) in _CANDIDATES.items():
        if forced not in ("auto", name):
            continue
        why = refuse(problem, machine)
        if why:
            refusals.append((name, why))
            continue
        return _finish(problem, machine, name, refusals)
    raise PlanError(f"lstmrep: backend={forced!r} cannot run this problem: {refusals[0][1]}.")


def saved_bytes_per_step(problem: Problem) -> int:
    """Bytes that one time step keeps for the backward pass: h and c, and the gates unless they are recomputed."""
    io = BYTES[problem.dtype]
    cell = max(io, 4)
    gates = 0 if problem.recompute else GATES * io
    return problem.recurrences * problem.batch * problem.hidden_size * (io + cell + gates)


def cpu_threads(problem: Problem, machine: Machine) -> int:
    """Threads worth starting for a problem: each needs enough work in a step to pay for the barrier after it."""
    work = GATES * problem.recurrences * problem.batch * problem.hidden_size**2
    return min(machine.threads, 1 + work // CPU_WORK_PER_THREAD)


RESIDENT_UNITS = 16  # hidden units of a warp
RESIDENT_NARROW, RESIDENT_WIDE = 8, 12  # most warps of the two widths of cta_resident
RESIDENT_ROWS = 4  # most rows of a CTA


def resident_shared_bytes(h: int, rows: int, width: int, tensor: bool, backward: bool) -> int:
    """Dynamic shared memory of a CTA of cta_resident; the same formula as csrc/cuda/cta_resident/config.h.

    Args:
        h: H. rows: of a CTA. width: bytes of an operand of the products.
        tensor: tensor cores, or multiply-adds in true float32.
        backward: the pass.
    """
    warps, blocks = -(-h // RESIDENT_UNITS), -(-h * width // 64)  # a block is 64 bytes of K
    of_operand = blocks * (GATES if backward else 1)
    operand = 64 * (of_operand | 1) * (2 if rows <= 2 else 4) if tensor else 256 * of_operand
    wide = warps > RESIDENT_NARROW
    held = (1 if backward else 2) if wide else (4 if tensor else 3)
    return max(0, blocks - held) * GATES * 2 * 512 * warps + 2 * operand


def _resident(p: Problem, m: Machine, backward: bool) -> CudaPass | str:
    """The CTA-resident pass, or why it cannot run. Rows: as few as give every SM at most one CTA."""
    if m.card is None:
        return "the card's shared memory is not known"
    tf32 = p.dtype == "float32" and m.tf32
    tensor = p.dtype != "float32" or tf32
    warps = -(-p.hidden_size // RESIDENT_UNITS)
    most_warps = RESIDENT_WIDE if BYTES[p.dtype] == 2 else RESIDENT_NARROW
    if warps > most_warps:
        return f"H = {p.hidden_size} exceeds {most_warps * RESIDENT_UNITS}, the most that one CTA holds in {p.dtype}"
    rows = next((r for r in range(1, RESIDENT_ROWS) if -(-p.batch // r) * p.recurrences <= m.card.sms), RESIDENT_ROWS)
    shared = resident_shared_bytes(p.hidden_size, rows, BYTES[p.dtype], tensor, backward)
    if shared > m.card.shared_bytes:
        return (
            f"W_hh of H = {p.hidden_size} needs {shared:,} bytes of shared memory beside the registers, "
            f"a CTA has {m.card.shared_bytes:,}"
        )
    return CudaPass("cta_resident", rows, -(-p.batch // rows) * p.recurrences, shared, tf32)


def _cuda_pass(p: Problem, m: Machine, backward: bool) -> tuple[CudaPass, str]:
    """The kernel of one pass, and why cta_resident was not taken."""
    if m.cuda_kernel == "stepwise":
        return CudaPass("stepwise"), "LSTMREP_CUDA_KERNEL=stepwise"
    made = _resident(p, m, backward)
    return (CudaPass("stepwise"), made) if isinstance(made, str) else (made, "")


def _refuse_cuda(p: Problem, m: Machine) -> str:
    if p.device != "cuda":
        return f"the tensors are on {p.device}"
    if p.dtype == "float64":
        return "float64 runs on the cpu and reference backends only"
    if m.native:
        return m.native
    if m.cuda:
        return m.cuda
    if p.recurrences > MAX_CUDA_RECURRENCES:
        return f"N = {p.recurrences} recurrences exceed {MAX_CUDA_RECURRENCES}"
    if p.recurrences * p.batch * p.hidden_size >= MAX_CUDA_ELEMENTS:
        return f"N*B*H = {p.recurrences * p.batch * p.hidden_size} does not fit the kernel's 32-bit index"
    if m.cuda_kernel not in CUDA_KERNELS:
        return f"LSTMREP_CUDA_KERNEL={m.cuda_kernel!r} is not known; choose one of {', '.join(CUDA_KERNELS)}"
    if m.cuda_kernel == "cta_resident":
        for backward in (False, True)[: 1 + p.training]:
            made = _resident(p, m, backward)
            if isinstance(made, str):
                return f"LSTMREP_CUDA_KERNEL=cta_resident, but {made}"
    return ""


def _refuse_cpu(p: Problem, m: Machine) -> str:
    if p.device != "cpu":
        return f"the tensors are on {p.device}"
    return m.native


def _design_cuda(p: Problem, m: Machine) -> tuple[str, tuple[int, int], tuple[int, int]]:
    forward, backward = (_cuda_pass(p, m, b)[0] for b in (False, True))
    text = _describe_pass(forward)
    if p.training and backward != forward:
        text = f"forward {text}; backward {_describe_pass(backward)}"
    resident = [how.kernel == "cta_resident" for how in (forward, backward)]
    kernels = tuple(1 if one else p.steps for one in resident)
    gemms = tuple(0 if one else p.steps for one in resident)
    return f"on {m.gpu or 'CUDA'}: {text}", (kernels[0], kernels[1]), (gemms[0], gemms[1])


def _describe_pass(how: CudaPass) -> str:
    if how.kernel == "stepwise":
        return "stepwise, one library product and one fused pointwise kernel a step"
    return (
        f"cta_resident, the whole sequence in one launch of {how.ctas} CTAs of {how.rows} rows, W_hh in registers and "
        f"{how.shared_bytes:,} bytes of shared memory"
    )


def _design_cpu(p: Problem, m: Machine) -> tuple[str, tuple[int, int], tuple[int, int]]:
    threads = cpu_threads(p, m)
    text = f"whole sequence in one native call, {m.isa}, {threads} of {m.threads} threads"
    return text, (1, 1), (0, 0)


def _design_reference(p: Problem, m: Machine) -> tuple[str, tuple[int, int], tuple[int, int]]:
    return "plain torch operations, an explicit loop over time", (0, 0), (p.steps, p.steps)


_Refuse = Callable[[Problem, Machine], str]
_Design = Callable[[Problem, Machine], tuple[str, tuple[int, int], tuple[int, int]]]

# In order of preference.
_CANDIDATES: dict[str, tuple[_Refuse, _Design]] = {
    "cuda": (_refuse_cuda, _design_cuda),
    "cpu": (_refuse_cpu, _design_cpu),
    "reference": (lambda p, m: "", _design_reference),
}
BACKENDS = ("auto", *_CANDIDATES)
CUDA_KERNELS = ("auto", "cta_resident", "stepwise")


def _finish(p: Problem, m: Machine, name: str, refusals: list[tuple[str, str]]) -> Plan:
    design, kernels, recurrent = _CANDIDATES[name][1](p, m)
    n = p.recurrences
    has_input = 1 if p.input_size else 0
    forward = recurrent[0] + n * has_input
    # Backward: the recurrent products, dW_hh, and dx and dW_ih where there is an input.
    backward = recurrent[1] + n + 2 * n * has_input
    notes: list[str] = []
    if p.training and p.recompute:
        backward += n + n * has_input
        notes.append("recompute: two whole-sequence products form the gates again, no recurrence is run twice")
    if p.dtype in ("bfloat16", "float16"):
        notes.append("cell state, accumulation and carried gradients are float32")
    if p.proj_size:
        notes.append(
            "projection: step by step, since W_hh W_hr is not formed in low precision"
            if p.dtype in ("bfloat16", "float16")
            else "projection: the recurrence uses W_hh W_hr; the output is one product"
        )
    cuda: tuple[CudaPass, ...] = ()
    if name == "cuda":
        passes = [_cuda_pass(p, m, backward) for backward in (False, True)]
        cuda = tuple(how for how, _ in passes)
        refusals = [*refusals, *dict.fromkeys(("cta_resident", why) for _, why in passes[: 1 + p.training] if why)]
        if p.dtype == "float32" and cuda[0].kernel == "cta_resident":
            notes.append(
                "products in TF32, which torch allows here" if cuda[0].tf32 else "products in true float32, no TF32"
            )
    return Plan(
        problem=p,
        backend=name,
        cuda=cuda,
        design=design,
        kernels=kernels,
        gemms=(forward, backward),
        saved_bytes_per_step=saved_bytes_per_step(p),
        threads=cpu_threads(p, m) if name == "cpu" else 1,
        refusals=tuple(refusals),
        notes=tuple(notes),
    )
