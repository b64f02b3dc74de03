"""Who takes part: this library by each of its ways, torch's modules, eager cells, other libraries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

import lstmrep
from lstm_bench import rivals
from lstm_bench.problems import INFERENCE, PASSES
from lstm_bench.report import PLAIN
from lstm_bench.torch_parts import EagerLSTM, TorchClassifier, TorchComposite, names_in_common
from lstm_bench.ways import Way
from lstm_bench.workload import Workload
from lstmrep import machine
from lstmrep.plan import CudaPass, Plan, PlanError, TritonPass, plan


@dataclass
class Contender:
    """One row's module.

    Args:
        label: as the table names it.
        make: builds the module; may raise.
        passes: that it can do.
        own: one of this library's.
        baseline: what the others are compared with.
        inside: entered around every call.
        plan: what runs, in short.
        refusal: why it cannot take part, or ``""``.
        counted: its launches can be counted.
        truth: what it is held against where that is not the problem.
    """

    label: str
    make: Callable[[], nn.Module]
    passes: tuple[str, ...] = PASSES
    own: bool = False
    baseline: bool = False
    inside: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    plan: str = ""
    refusal: str = ""
    counted: bool = True
    truth: Workload | None = None
    module: nn.Module | None = field(default=None, repr=False)


def contenders(work: Workload, ways: Sequence[Way], compiled: bool) -> Iterator[Contender]:
    """All that take part in a problem, the baseline first.

    Args:
        work: the problem with its numbers.
        ways: through this library.
        compiled: also the eager cell under ``torch.compile``, which takes seconds to compile.
    """
    yield _baseline(work)
    for way in ways:
        yield _own(work, way)
    p = work.problem
    if p.model != "lstm":
        return
    if p.peephole:  # what they cost
        plain = Workload(replace(p, peephole=False), work.dtype, work.device)
        yield replace(_own(plain, Way(PLAIN)), truth=plain)
    if p.peephole and compiled:
        yield Contender("eager cell, torch.compile", lambda: _eager(work, compiled=True), counted=False)
    if work.device.type == "cpu" and work.dtype == torch.float32:
        yield Contender(
            "onnxruntime",
            lambda: rivals.OnnxLSTM(work.module(), torch.get_num_threads()),
            passes=(INFERENCE,),
            refusal=rivals.missing("onnx", "onnxruntime"),
            counted=False,
        )
    if work.device.type == "cuda" and not p.peephole:
        for label, make in (("flashrnn", rivals.FlashRNN), ("haste_pytorch", rivals.Haste)):
            why = rivals.missing(label)
            if label == "haste_pytorch" and work.dtype != torch.float32:
                why = why or "float32 only"
            yield Contender(label, lambda make=make: make(work.module()), refusal=why, counted=False)


def _baseline(work: Workload) -> Contender:
    p = work.problem
    if p.model == "lstm" and p.peephole:
        return Contender("eager cell", lambda: _eager(work), baseline=True)
    if p.model == "lstm":
        return Contender(f"torch.nn.LSTM ({library(work.device)})", lambda: _nn_lstm(work), baseline=True)
    parts = "eager cells" if p.peephole else f"nn.LSTM, {library(work.device)}"
    return Contender(f"torch parts ({parts})", lambda: _torch_parts(work), baseline=True)


def library(device: torch.device) -> str:
    """Which library is behind ``torch.nn.LSTM``."""
    if device.type == "cuda":
        return "cuDNN" if torch.backends.cudnn.is_available() else "no cuDNN"
    return "oneDNN" if torch.backends.mkldnn.is_available() else "no oneDNN"


def _nn_lstm(work: Workload) -> nn.Module:
    source = work.module()
    assert isinstance(source, lstmrep.LSTM)
    made = source.to_torch()
    made.flatten_parameters()
    return made


def _eager(work: Workload, compiled: bool = False) -> nn.Module:
    p = work.problem
    if compiled:
        torch.compiler.reset()  # of other sizes' code, of which it keeps only so many
    made = EagerLSTM(p.I, p.H, p.peephole, ("bias_ih_l0", "bias_hh_l0"), compiled).to(work.device, work.dtype)
    made.load_state_dict(work.module().state_dict())
    return made


def _torch_parts(work: Workload) -> nn.Module:
    p = work.problem
    made: nn.Module
    if p.model == "composite":
        made = TorchComposite(p.I, p.H, p.T, p.predict, p.peephole)
    else:
        made = TorchClassifier(p.I, p.H, p.classes, p.peephole)
    made = made.to(work.device, work.dtype)
    state, given = work.module().state_dict(), set()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        for name, parameter in names_in_common(made):
            if name not in given:  # the second bias of a layer stays zero
                parameter.copy_(state[name])
            given.add(name)
    return made


def _own(work: Workload, way: Way) -> Contender:
    refusal, text, module = "", "", work.module(way.backend)
    try:
        with way.inside():
            text = short(plans(work, module))
    except PlanError as why:
        refusal = str(why)
    return Contender(way.label, lambda: module, own=True, inside=way.inside, plan=text, refusal=refusal)


def plans(work: Workload, module: Any) -> list[Plan]:
    """Of each call of the op that this library's module makes, for training."""
    p = work.problem
    where, here = machine.planned(work.device)
    return [plan(replace(asked, device=where), here) for asked in module.problems(p.B, p.T + p.predict)]


def short(made: Sequence[Plan]) -> str:
    """Plans in a few words, equal ones once."""
    return " + ".join(dict.fromkeys(_short(one) for one in made))


def _short(one: Plan) -> str:
    if one.passes:
        forward, backward = (_short_pass(how) for how in one.passes)
        return forward if forward == backward else f"{forward} / {backward}"
    if one.backend == "cpu":
        return f"cpu, {one.threads} thread{'s' if one.threads > 1 else ''}"
    return one.backend


def _short_pass(how: CudaPass | TritonPass) -> str:
    if isinstance(how, TritonPass):
        return f"triton {how.kernel}"
    ctas = how.grid.ctas if how.grid is not None else how.ctas
    return f"{how.kernel}, {ctas} CTAs" if ctas else how.kernel
