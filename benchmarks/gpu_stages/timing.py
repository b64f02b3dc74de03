"""Stage "timing": torch.nn.LSTM (cuDNN) and each kernel of this library in alternating rounds, gated by correctness."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

import lstmrep
from gpu_stages.record import Record
from gpu_stages.setup import KERNELS, Setup, copied, name, problem
from lstmrep.testing.cases import Case
from lstmrep.testing.compare import largest_error
from lstmrep.testing.tolerance import rounding

HIDDEN, BATCHES, STEPS = (128, 512, 1024, 2048), (1, 16, 100), 20
DTYPES = (torch.bfloat16, torch.float32)
ROUNDS, CALLS, WARM_UP = 12, 10, 3
# Of the error that the reference makes in the row's dtype, and of a rounding. The gate is for wrong results: cuDNN
# also rounds its cell state, which this library does not, and the tests hold kernels to two.
GATE = 8.0
NOT_TIMED = "not timed"

Results = dict[str, Tensor]


@dataclass
class Contender:
    """One row: a module, the kernel it is forced to (none for torch's), and its times in milliseconds."""

    label: str
    module: torch.nn.Module
    kernel: str | None
    refusal: str = ""
    times: list[float] = field(default_factory=list)


def run(setup: Setup, record: Record) -> None:
    """Time every size, dtype and pass; a row that is not right gets no time."""
    # True float32 on both sides; both of torch's switches, of which cuDNN's is on by default.
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    record.say(
        f"T = {STEPS}, I = H, one layer, one direction. Milliseconds a call by CUDA events, host time of the launches "
        f"included; median (20th to 80th percentile) of {ROUNDS} rounds of {CALLS} calls in which all rows take turns. "
        "float32 without TF32. Forward is without gradients, forward + backward gives those of x and all parameters.",
    )
    if setup.emulated:
        record.say("", "EMULATED on the CPU: the rows ran and were held against the reference, and none was timed.")
    record.table("dtype", "H", "B", "passes", "what", "ms")
    hidden, batches = ((8,), (1, 3)) if setup.emulated else (HIDDEN, BATCHES)
    for dtype in DTYPES:
        for h in hidden:
            for b in batches:
                for training in (False, True):
                    one_table(
                        setup, record, Case(T=3 if setup.emulated else STEPS, B=b, I=h, H=h, dtype=dtype), training
                    )


def one_table(setup: Setup, record: Record, case: Case, training: bool) -> None:
    """The rows of one size, dtype and pass."""
    where = [name(case.dtype), case.H, case.B, "forward + backward" if training else "forward"]
    x = torch.randn(case.T, case.B, case.I, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = x.to(setup.device, case.dtype).requires_grad_(training)
    right: list[Contender] = []
    for contender in _contenders(setup, case, training):
        if contender.refusal:
            record.row(*where, contender.label, f"cannot run: {contender.refusal}")
            continue
        with record.part(f"{', '.join(map(str, where))}: {contender.label}: gate", listed=False):
            try:
                _gate(setup, contender, x, training)
            except Exception:
                record.row(*where, contender.label, "no time: failed the gate")
                raise
            right.append(contender)
    with record.part(f"{', '.join(map(str, where))}: timing", listed=False):
        try:
            _take_turns(setup, right, x, training)
        finally:
            for contender in right:
                record.row(*where, contender.label, NOT_TIMED if setup.emulated else cell(contender.times))


def _contenders(setup: Setup, case: Case, training: bool) -> Iterator[Contender]:
    plain, peephole = (_module(case, setup, p) for p in (False, True))
    made = plain.to_torch()
    made.flatten_parameters()
    by_cudnn = torch.backends.cudnn.is_acceptable(next(made.parameters()))
    yield Contender(f"torch.nn.LSTM ({'cuDNN' if by_cudnn else 'without cuDNN'})", made, None)
    for kernel in KERNELS:
        for module, what in ((plain, ""), (peephole, ", peepholes")):
            asked = problem(replace(case, peephole=module is peephole), training)
            yield Contender(f"lstmrep {kernel}{what}", module, kernel, setup.refusal(kernel, asked))


def _module(case: Case, setup: Setup, peephole: bool) -> lstmrep.LSTM:
    torch.manual_seed(0)
    module = lstmrep.LSTM(case.I, case.H, peephole=peephole, backend="cuda")
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if key.startswith("weight_p"):
                parameter.uniform_(-0.5, 0.5)  # zero by default, where a kernel without them would pass the gate
    return module.to(setup.device, case.dtype)


def call(module: torch.nn.Module, x: Tensor, training: bool) -> Results:
    """Outputs, and for training all gradients, by name."""
    with torch.set_grad_enabled(training):
        out, (h, c) = module(x)
        results = {"output": out, "h_n": h, "c_n": c}
        if training:
            names = ["x", *(key for key, _ in module.named_parameters())]
            made = torch.autograd.grad(out.sum(), [x, *module.parameters()])
            results |= {f"d_{key}": g for key, g in zip(names, made, strict=True)}
    return results


def _reference(module: torch.nn.Module, peephole: bool, x: Tensor, training: bool, dtype: torch.dtype) -> Results:
    """The reference backend on the same numbers in another precision, on the same device."""
    made = lstmrep.LSTM(x.shape[2], x.shape[2], peephole=peephole, backend="reference")
    made = made.to(x.device, dtype)
    made.load_state_dict(module.state_dict())
    return copied(call(made, x.detach().to(dtype).requires_grad_(training), training))


def _gate(setup: Setup, contender: Contender, x: Tensor, training: bool) -> None:
    peephole = any("weight_p" in key for key, _ in contender.module.named_parameters())
    truth = _reference(contender.module, peephole, x, training, torch.float64)
    near = _reference(contender.module, peephole, x, training, x.dtype)
    with _forced(setup, contender):
        got = copied(call(contender.module, x, training))
    setup.wait()
    for key, true in truth.items():
        allowed = GATE * (largest_error(near[key], true) + rounding(true, got[key].dtype))
        error = largest_error(got[key], true)
        assert error <= allowed, f"{key}: error {error:.2e} against float64, allowed {allowed:.2e}"


def _forced(setup: Setup, contender: Contender) -> AbstractContextManager[Any]:
    return setup.forced(contender.kernel or "auto")


def _take_turns(setup: Setup, contenders: list[Contender], x: Tensor, training: bool) -> None:
    """Fill the times. Each turn starts with an untimed call: plans are forgotten where the kernel changes."""
    rounds, calls = (1, 1) if setup.emulated else (WARM_UP + ROUNDS, CALLS)
    for k in range(rounds):
        for contender in contenders:
            with _forced(setup, contender):
                run_once = functools.partial(call, contender.module, x, training)
                run_once()
                spent = milliseconds(setup, run_once, calls)
            if k >= WARM_UP:
                contender.times.append(spent)


def milliseconds(setup: Setup, run_once: Callable[[], object], calls: int) -> float:
    """Of one of some calls in a row, by events on the current stream."""
    if setup.emulated:
        for _ in range(calls):
            run_once()
        return 0.0  # never shown: the emulated device has no time of its own
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        run_once()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / calls


def cell(times: list[float]) -> str:
    """The median and the 20th and 80th percentile."""
    if len(times) < 2:
        return "no time: the timing failed"
    low, *_, high = statistics.quantiles(times, n=5, method="inclusive")
    return f"{statistics.median(times):.3f} ({low:.3f} to {high:.3f})"
