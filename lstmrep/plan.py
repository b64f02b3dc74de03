"""The planner: which backend runs a problem, what it costs, and why the others do not.

Pure and printable: the standard library only, no torch, no native module.  What is known about the machine comes
in as a :class:`Machine` (collected by ``lstmrep.machine``), so a plan for a card that is not here is one call away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lstmrep.planner import triton
from lstmrep.planner.grid import grid_pass
from lstmrep.planner.problem import (
    BYTES,
    GATES,
    Card,
    CudaPass,
    GridLayout,
    Machine,
    Problem,
    TritonPass,
    on_tensor_cores,
)
from lstmrep.planner.resident import resident_pass, resident_shared_bytes
from lstmrep.planner.steptime import grid_time, stepwise_time

__all__ = [
    "BACKENDS",
    "BYTES",
    "CUDA_KERNELS",
    "GATES",
    "Card",
    "CudaPass",
    "GridLayout",
    "Machine",
    "Plan",
    "PlanError",
    "Problem",
    "TritonPass",
    "cpu_by_rows",
    "cpu_gradients",
    "cpu_packs",
    "cpu_shares",
    "cpu_threads",
    "cpu_turned",
    "plan",
    "resident_shared_bytes",
    "saved_bytes_per_step",
]

# Multiply-adds of a step that pay for one more thread at the barrier after it. Measured on 2 cores: two threads lose
# below about 32k and gain a quarter at 64k.
CPU_WORK_PER_THREAD = 1 << 15
# For so few rows a pack of so large a W_hh does not pay: with tiles, whose machines read it where it lies faster than
# they read a pack; elsewhere for so few steps, of so few rows in float32 and of one in other dtypes. Measured:
# docs/kernels/cpu.md.
CPU_STREAM_ROWS, CPU_STREAM_ROWS_FLOAT32 = 4, 2
CPU_STREAM_STEPS = 32
CPU_STREAM_BYTES = 1 << 23
# Threads share out rows where each can keep a whole pack in its second-level cache beside its rows.
CPU_ROWS_BYTES = 1 << 20
CPU_ROW_BLOCK = 8  # rows that stay with one thread: kRowBlock of csrc/cpu/workspace.h
CPU_ROWS_UNEVEN = 1.35  # the busiest thread's rows over the mean that still beat a barrier in each step
# The kernel forms the input share itself for as large a W_ih as it keeps a W_hh, and for any where torch.mm was
# measured to be slower (docs/kernels/cpu.md): in float32, and in bfloat16 for so many frames beside a W_hh that stays
# in the second-level caches, or so many beside any. Where a step has work for fewer threads than the share it does so
# only up to so many multiply-adds, which one thread does before a library call is under way.
CPU_SHARES_ISAS = ("avx512_bf16",)
CPU_SHARES_ALONE = 1 << 20
CPU_SHARES_FRAMES, CPU_SHARES_FRAMES_OF_ANY = 1000, 2048
# So few rows of so large a W_ih are formed as W x^T (measured: docs/kernels/cpu.md).
CPU_TURNED_ROWS = (2, 32)
CPU_TURNED_WEIGHTS = 1 << 20
# Gradients of x, W_ih and W_hh are formed by the kernels' own products where those were measured to beat torch.mm
# (docs/kernels/cpu.md): in float32, and in bfloat16 for matrices of so few elements or so many frames; everywhere for
# so few multiply-adds in all, which take less time than the calls of the library; by one more thread for each of so
# many.
CPU_GRADIENTS_ISAS = ("avx512_bf16",)
CPU_GRADIENTS_PAIRS, CPU_GRADIENTS_FRAMES = 1 << 16, 1024
CPU_GRADIENTS_ROWS = 64  # fewer do not pay for packing a W_ih beyond the second-level cache
CPU_GRADIENTS_SMALL = 1 << 22
CPU_GRADIENTS_WORK = 1 << 17
CPU_PAIR_ISAS = ("avx512_bf16", "amx")  # whose bfloat16 packs are bfloat16; other packs are float32 or float64
# Modelled times closer than this are a tie: a host may be slower than the model has it. One launch goes before 2T.
MODEL_MARGIN = 1.2
MAX_CUDA_ELEMENTS = 1 << 31
MAX_CUDA_RECURRENCES = 64  # the reverse flags travel as the bits of one 64-bit kernel argument


@dataclass(frozen=True)
class Plan:
    """What will run. ``describe()`` is its text; fields are stable and comparable.

    ``kernels`` and ``gemms`` count launches of this library's kernels and library matrix products of a forward pass
    and of the backward pass that follows it.  ``cuda`` and ``triton`` say which kernel each pass runs there.
    ``saved_bytes_per_step`` counts what a forward pass keeps for the backward pass beyond the caller's own tensors,
    per time step.  ``threads`` are those the cpu backend takes, ``packed`` whether it packs W_hh first,
    ``by_rows`` whether its threads share out rows rather than units, ``shares`` whether it forms the input share in
    the same call, ``turned`` whether a library product forms it as W x^T.  ``gradients`` are the threads that form the
    gradients of x, W_ih and W_hh in the backend's own products; 0: library products do.
    """

    problem: Problem
    backend: str
    design: str
    kernels: tuple[int, int]
    gemms: tuple[int, int]
    saved_bytes_per_step: int
    threads: int = 1
    packed: bool = True
    by_rows: bool = False
    shares: bool = False
    turned: bool = False
    gradients: int = 0
    refusals: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    cuda: tuple[CudaPass, ...] = ()  # forward, backward
    triton: tuple[TritonPass, ...] = ()

    @property
    def passes(self) -> tuple[CudaPass, ...] | tuple[TritonPass, ...]:
        """How the chosen backend runs forward and backward, where there is a choice of kernels."""
        return self.cuda or self.triton

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


def cpu_packs(problem: Problem, machine: Machine) -> bool:
    """Whether W_hh is packed before the first step, rather than read where it lies in every step."""
    if GATES * problem.hidden_size**2 * BYTES[problem.dtype] < CPU_STREAM_BYTES:
        return True
    if machine.isa == "amx":
        return problem.batch > CPU_STREAM_ROWS
    rows = CPU_STREAM_ROWS_FLOAT32 if problem.dtype == "float32" else 1
    return problem.batch > rows or problem.steps > CPU_STREAM_STEPS


def cpu_by_rows(problem: Problem, machine: Machine) -> bool:
    """Whether threads share out rows of the batch, rather than hidden units and a barrier in each step."""
    threads = cpu_threads(problem, machine)
    blocks = problem.recurrences * -(-problem.batch // CPU_ROW_BLOCK)
    most = -(-blocks // threads)
    even = blocks >= threads and most * threads <= CPU_ROWS_UNEVEN * blocks
    small = _pack_bytes(problem, machine, problem.hidden_size) <= CPU_ROWS_BYTES
    return threads > 1 and even and cpu_packs(problem, machine) and small


def cpu_shares(problem: Problem, machine: Machine) -> bool:
    """Whether the kernel forms the input share, a few steps at a time, rather than one library product before it."""
    features, float32 = problem.input_size, problem.dtype == "float32"
    if not features:
        return False
    if float32 and machine.isa != "amx" and not cpu_packs(problem, machine):
        return True  # W_ih is read where it lies too
    frames, threads = problem.steps * problem.batch, cpu_threads(problem, machine)
    work = frames * GATES * problem.hidden_size * features
    if threads < machine.threads and features > problem.hidden_size and work > CPU_SHARES_ALONE:
        return False  # most of the work is the share, which is worth more threads than a step
    packs = problem.recurrences * _pack_bytes(problem, machine, problem.hidden_size)
    near = packs <= CPU_ROWS_BYTES * threads
    many = frames >= (CPU_SHARES_FRAMES if near else CPU_SHARES_FRAMES_OF_ANY)
    any_size = machine.isa in CPU_SHARES_ISAS and (float32 or (problem.dtype == "bfloat16" and many))
    return any_size or _pack_bytes(problem, machine, features) <= CPU_ROWS_BYTES


def _pack_bytes(problem: Problem, machine: Machine, columns: int) -> int:
    """Size of a packed matrix ``[4H, columns]`` of one recurrence."""
    pairs = problem.dtype == "bfloat16" and machine.isa in CPU_PAIR_ISAS
    return GATES * problem.hidden_size * columns * (2 if pairs else max(4, BYTES[problem.dtype]))


def cpu_turned(problem: Problem) -> bool:
    """Whether the input share is formed as W x^T, which CPU libraries do faster for few rows, and then transposed."""
    low, high = CPU_TURNED_ROWS
    weights = GATES * problem.hidden_size * problem.input_size
    return low <= problem.steps * problem.batch <= high and weights >= CPU_TURNED_WEIGHTS


def cpu_gradients(problem: Problem, machine: Machine) -> int:
    """Threads that form the gradients of x, W_ih and W_hh in the kernels' own products; 0: library products do."""
    gates, features = GATES * problem.hidden_size, problem.input_size
    frames = problem.steps * problem.batch
    small = gates * max(features, problem.hidden_size) <= CPU_GRADIENTS_PAIRS
    pairs = problem.dtype == "bfloat16" and (small or frames >= CPU_GRADIENTS_FRAMES)
    measured = problem.dtype == "float32" or pairs
    few = frames < CPU_GRADIENTS_ROWS
    if few and _pack_bytes(problem, machine, features) > CPU_ROWS_BYTES:
        return 0
    work = frames * gates * (2 * features + problem.hidden_size)
    if work > CPU_GRADIENTS_SMALL and (machine.isa not in CPU_GRADIENTS_ISAS or not measured):
        return 0
    return min(machine.threads, 1 + work // CPU_GRADIENTS_WORK)


def cpu_threads(problem: Problem, machine: Machine) -> int:
    """Threads worth starting for a problem: each needs enough work in a step to pay for the barrier after it."""
    work = GATES * problem.recurrences * problem.batch * problem.hidden_size**2
    return min(machine.threads, 1 + work // CPU_WORK_PER_THREAD)


_CANDIDATE_PASSES: dict[str, Callable[[Problem, Machine, bool], CudaPass | str]] = {
    "cta_resident": resident_pass,
    "grid_resident": grid_pass,
}


def _cuda_pass(p: Problem, m: Machine, backward: bool) -> tuple[CudaPass, list[tuple[str, str]]]:
    """The kernel of one pass, and why those before it in order of preference were not taken."""
    refusals = []
    for name, make in _CANDIDATE_PASSES.items():
        if m.cuda_kernel not in ("auto", name):
            refusals.append((name, f"LSTMREP_CUDA_KERNEL={m.cuda_kernel}"))
            continue
        made = make(p, m, backward)
        if isinstance(made, CudaPass) and m.cuda_kernel == "auto":
            made = _worth_it(p, m, backward, made)
        if isinstance(made, CudaPass):
            return made, refusals
        refusals.append((name, made))
    return CudaPass("stepwise"), refusals


def _worth_it(p: Problem, m: Machine, backward: bool, made: CudaPass) -> CudaPass | str:
    """A grid-resident pass is taken unless the model is sure that stepwise is faster."""
    if made.grid is None or m.card is None:
        return made
    tensor = on_tensor_cores(p, made.tf32)
    grid = grid_time(p, m.card, made.grid, backward, tensor).total(max(1, p.steps))
    stepwise = stepwise_time(p, m.card, tensor).total(max(1, p.steps))
    if grid <= MODEL_MARGIN * stepwise:
        return made
    return f"modelled at {grid * 1e6:,.0f} us for all steps, stepwise at {stepwise * 1e6:,.0f} us"


def _too_large(p: Problem) -> str:
    """Why the arguments of a kernel on CUDA cannot hold the sizes, or ``""``."""
    if p.recurrences > MAX_CUDA_RECURRENCES:
        return f"N = {p.recurrences} recurrences exceed {MAX_CUDA_RECURRENCES}"
    if p.recurrences * p.batch * p.hidden_size >= MAX_CUDA_ELEMENTS:
        return f"N*B*H = {p.recurrences * p.batch * p.hidden_size} does not fit the kernel's 32-bit index"
    return ""


def _refuse_cuda(p: Problem, m: Machine) -> str:
    if p.device != "cuda":
        return f"the tensors are on {p.device}"
    if p.dtype == "float64":
        return "float64 runs on the cpu and reference backends only"
    if m.native:
        return m.native
    if m.cuda:
        return m.cuda
    if _too_large(p):
        return _too_large(p)
    if m.cuda_kernel not in CUDA_KERNELS:
        return f"LSTMREP_CUDA_KERNEL={m.cuda_kernel!r} is not known; choose one of {', '.join(CUDA_KERNELS)}"
    if m.cuda_kernel in _CANDIDATE_PASSES:
        for backward in (False, True)[: 1 + p.training]:
            made = _CANDIDATE_PASSES[m.cuda_kernel](p, m, backward)
            if isinstance(made, str):
                return f"LSTMREP_CUDA_KERNEL={m.cuda_kernel}, but {made}"
    return ""


def _refuse_triton(p: Problem, m: Machine) -> str:
    if p.device != "cuda" and not (p.device == "cpu" and p.backend == "triton"):
        return f"the tensors are on {p.device}"
    if p.dtype == "float64":
        return "float64 runs on the cpu and reference backends only"
    if m.triton:
        return m.triton
    if p.device == "cpu" and not m.interpreted:
        return (
            "the tensors are on cpu, where Triton has only its interpreter: set TRITON_INTERPRET=1 before triton is "
            "first imported"
        )
    if p.device == "cuda" and m.interpreted:
        return "TRITON_INTERPRET is set, and the interpreter runs on CPU tensors"
    if _too_large(p):
        return _too_large(p)
    if m.triton_kernel not in triton.TRITON_KERNELS:
        return (
            f"LSTMREP_TRITON_KERNEL={m.triton_kernel!r} is not known; choose one of {', '.join(triton.TRITON_KERNELS)}"
        )
    if m.triton_kernel != "auto":
        for backward in (False, True)[: 1 + p.training]:
            made = triton.TRITON_PASSES[m.triton_kernel](p, m, backward)
            if isinstance(made, str):
                return f"LSTMREP_TRITON_KERNEL={m.triton_kernel}, but {made}"
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
    resident = [how.kernel != "stepwise" for how in (forward, backward)]
    kernels = tuple(1 if one else p.steps for one in resident)
    gemms = tuple(0 if one else p.steps for one in resident)
    return f"on {m.gpu or 'CUDA'}: {text}", (kernels[0], kernels[1]), (gemms[0], gemms[1])


def _describe_pass(how: CudaPass) -> str:
    if how.kernel == "stepwise":
        return "stepwise, one library product and one fused pointwise kernel a step"
    if how.grid is not None:
        g = how.grid
        return f"grid_resident, the whole sequence in one launch of {g.ctas} CTAs that hold W_hh together"
    return (
        f"cta_resident, the whole sequence in one launch of {how.ctas} CTAs of {how.rows} rows, W_hh in registers and "
        f"{how.shared_bytes:,} bytes of shared memory"
    )


def _design_triton(p: Problem, m: Machine) -> tuple[str, tuple[int, int], tuple[int, int]]:
    forward, backward = (triton.triton_pass(p, m, b)[0] for b in (False, True))
    text = triton.describe(forward)
    if p.training and backward != forward:
        text = f"forward {text}; backward {triton.describe(backward)}"
    counts = [triton.launches(forward, p.steps, False), triton.launches(backward, p.steps, True)]
    where = "in Triton's interpreter, for tests" if m.interpreted else f"on {m.gpu or 'CUDA'}"
    return f"{where}: {text}", (counts[0][0], counts[1][0]), (counts[0][1], counts[1][1])


def _design_cpu(p: Problem, m: Machine) -> tuple[str, tuple[int, int], tuple[int, int]]:
    threads = cpu_threads(p, m)
    weights = "packed" if cpu_packs(p, m) else "read where it lies"
    shares = "" if threads == 1 else " by rows" if cpu_by_rows(p, m) else " by units"
    inside = ", input share in the same call" if cpu_shares(p, m) else ""
    text = (
        f"whole sequence in one native call, {m.isa}, {threads} of {m.threads} threads{shares}, W_hh {weights}{inside}"
    )
    return text, (1, 1 + (p.recurrences if cpu_gradients(p, m) else 0)), (0, 0)


def _design_reference(p: Problem, m: Machine) -> tuple[str, tuple[int, int], tuple[int, int]]:
    return "plain torch operations, an explicit loop over time", (0, 0), (p.steps, p.steps)


_Refuse = Callable[[Problem, Machine], str]
_Design = Callable[[Problem, Machine], tuple[str, tuple[int, int], tuple[int, int]]]

# In order of preference.
_CANDIDATES: dict[str, tuple[_Refuse, _Design]] = {
    "cuda": (_refuse_cuda, _design_cuda),
    "triton": (_refuse_triton, _design_triton),
    "cpu": (_refuse_cpu, _design_cpu),
    "reference": (lambda p, m: "", _design_reference),
}
BACKENDS = ("auto", *_CANDIDATES)
CUDA_KERNELS = ("auto", *_CANDIDATE_PASSES, "stepwise")


def _grid_notes(p: Problem, m: Machine, cuda: tuple[CudaPass, ...], backward: bool) -> list[str]:
    """Where W_hh of a grid-resident pass lies, its layout, and the model's terms."""
    g = cuda[backward].grid
    if g is None or m.card is None:
        return []
    level = 8 * g.tiles * 1024
    registers = min(g.levels, g.held_levels) * level
    tensor = on_tensor_cores(p, cuda[backward].tf32)
    name = "backward" if backward else "forward"
    phases = -(-p.recurrences // g.concurrent)
    streamed = f", {g.streamed_levels * level:,} streamed from L2 for each of {g.chunks} chunks a step"
    lines = [
        f"{name}: {g.members} CTAs a team x {g.replicas} teams x {g.concurrent} recurrences"
        + (f" in {phases} phases" if phases > 1 else "")
        + f"; {g.rows} rows a team in {g.chunks} chunks of {8 * g.row_tiles}, one barrier a step for each chunk"
        + (", and one of 4 CTAs" if backward else ""),
        f"{name}: W_hh of a CTA: {registers:,} bytes in registers, {g.shared_levels * level:,} in shared memory"
        + (streamed if g.streamed_levels else ", none streamed")
        + f"; {g.shared_bytes:,} bytes of shared memory in all",
        f"{name}: model, not measured: {grid_time(p, m.card, g, backward, tensor).describe()}",
    ]
    return lines


def _finish(p: Problem, m: Machine, name: str, refusals: list[tuple[str, str]]) -> Plan:
    design, kernels, recurrent = _CANDIDATES[name][1](p, m)
    n = p.recurrences
    has_input = 1 if p.input_size else 0
    shares = name == "cpu" and cpu_shares(p, m)
    turned = name == "cpu" and not shares and cpu_turned(p)
    forward = recurrent[0] + (0 if shares else n * has_input)
    # Backward: the recurrent products, dW_hh, and dx and dW_ih where there is an input.
    gradients = cpu_gradients(p, m) if name == "cpu" else 0
    backward = recurrent[1] + (0 if gradients else n + 2 * n * has_input)
    notes: list[str] = []
    if p.training and p.recompute:
        backward += n + n * has_input
        notes.append("recompute: two whole-sequence products form the gates again, no recurrence is run twice")
    if gradients and p.training:
        own = f"{gradients} thread{'s' * (gradients > 1)}"
        notes.append(f"gradients of x, W_ih and W_hh by the kernels' own products, {own}")
    if turned:
        notes.append("input share as W x^T, faster for few rows of large weights")
    if p.dtype in ("bfloat16", "float16"):
        notes.append("cell state, accumulation and carried gradients are float32")
    if p.proj_size:
        notes.append(
            "projection: step by step, since W_hh W_hr is not formed in low precision"
            if p.dtype in ("bfloat16", "float16")
            else "projection: the recurrence uses W_hh W_hr; the output is one product"
        )
    cuda: tuple[CudaPass, ...] = ()
    triton_passes: tuple[TritonPass, ...] = ()
    found: list[tuple[CudaPass, list[tuple[str, str]]]] | list[tuple[TritonPass, list[tuple[str, str]]]] = []
    if name == "cuda":
        found = [_cuda_pass(p, m, backward) for backward in (False, True)]
        cuda = tuple(how for how, _ in found)
        notes += [note for backward in (False, True)[: 1 + p.training] for note in _grid_notes(p, m, cuda, backward)]
    if name == "triton":
        found = [triton.triton_pass(p, m, backward) for backward in (False, True)]
        triton_passes = tuple(how for how, _ in found)
    refusals = [*refusals, *dict.fromkeys(refusal for _, why in found[: 1 + p.training] for refusal in why)]
    if found and p.dtype == "float32" and found[0][0].kernel != "stepwise":
        tf32 = found[0][0].tf32
        notes.append("products in TF32, which torch allows here" if tf32 else "products in true float32, no TF32")
    if name == "triton" and m.interpreted:
        notes.append("Triton's interpreter runs the kernels in numpy, on the CPU, thousands of times slower")
    return Plan(
        problem=p,
        backend=name,
        cuda=cuda,
        triton=triton_passes,
        design=design,
        kernels=kernels,
        gemms=(forward, backward),
        saved_bytes_per_step=saved_bytes_per_step(p),
        threads=cpu_threads(p, m) if name == "cpu" else 1,
        packed=name != "cpu" or cpu_packs(p, m),
        by_rows=name == "cpu" and cpu_by_rows(p, m),
        shares=shares,
        turned=turned,
        gradients=gradients,
        refusals=tuple(refusals),
        notes=tuple(notes),
    )
