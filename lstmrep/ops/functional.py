"""``lstmrep.ops.lstm``: the whole sequence as one differentiable function of tensors.

This is the only place that looks at autograd, autocast, tracing and transforms; below it there is one op.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lstmrep import env
from lstmrep.ops import autocast, autograd, direct
from lstmrep.ops.direct import Flat
from lstmrep.ops.dispatch import direct_call, forward_below_autograd
from lstmrep.ops.functorch import LSTMTransform
from lstmrep.ops.schema import Counts, Inputs
from lstmrep.ops.validate import COMPUTE_DTYPE, first_weight


def lstm(
    x: Tensor | None,
    w_ih: list[Tensor],
    w_hh: list[Tensor],
    *,
    bias: Tensor | list[Tensor] | None = None,
    peephole: Tensor | list[Tensor] | None = None,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    lengths: Tensor | None = None,
    steps: int | None = None,
    reverse: list[bool] | None = None,
    cell: str = "tanh",
    backend: str = "auto",
    recompute: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """N independent LSTM recurrences over a whole sequence, side by side.

    For each recurrence, with s the logistic function and (c', h') the state before the step::

        i = s(W_i x + U_i h' + p_i*c' + b_i)    f = s(W_f x + U_f h' + p_f*c' + b_f)
        g = tanh(W_g x + U_g h' + b_g)          c = f*c' + i*g
        o = s(W_o x + U_o h' + p_o*c + b_o)     h = o*tanh(c)

    Args:
        x: input ``[T, B, I]`` (shared by all recurrences) or ``[N, T, B, I]``; with an empty ``w_ih`` the gates'
            input share itself ``[N, T, B, 4H]``; or none (no input: nothing is materialised, ``steps`` says T).
        w_ih: N matrices ``[4H, I]`` (gates i, f, g, o), or empty.
        w_hh: N matrices ``[4H, H]``; float32, bfloat16, float16 or float64, the I/O dtype.
        bias: ``[N, 4H]``, or a list of N ``[4H]``, or one of 2N ``[4H]``, b_ih and b_hh of each recurrence, which are
            added; or none.
        peephole: ``[N, 3, H]`` (i, f, o), or a list of 3N ``[H]``; or none.
        h0: ``[N, B, H]`` in the I/O dtype, or ``[1, B, H]`` shared by all recurrences; or none for zeros.
        c0: like h0 in float32 (float64 beside float64 weights).
        lengths: ``[N, B]`` integers, 0 to T, or none for T everywhere. Frames beyond a length come out zero, their
            gradients are ignored, and the last state is the one after the last step run.
        steps: T; default: x's.
        reverse: N flags; a reversed recurrence starts at frame length-1. Default: none reversed.
        cell: ``"tanh"`` or ``"relu"`` (g = relu, h = o*c).
        backend: ``"auto"`` (also LSTMREP_BACKEND), or the one that must run: ``"cuda"``, ``"cpu"``, ``"reference"``.
        recompute: keep h and c for the backward pass but not the gates; they are formed again.

    Under autocast x, the weights and h0 are cast to the autocast dtype; bias, peepholes and c0 stay float32.
    Bias and peephole are taken as they lie when both are in the I/O dtype or both in float32 (float64), and converted
    otherwise; c0 in another floating dtype is converted.

    Returns:
        h ``[N, T, B, H]``, h_n ``[N, B, H]`` in the I/O dtype, c_n ``[N, B, H]`` in float32 (float64).

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it.
        lstmrep.plan.PlanError: a forced backend cannot run the problem.
        NotImplementedError: forward-mode differentiation, or torch.jit.trace.

    Source: Srivastava, Mansimov, Salakhutdinov 2015, section 2.1.
    """
    weight = first_weight(w_hh)
    if autocast.is_on(weight):
        low = torch.get_autocast_dtype(weight.device.type)
        x, h0 = _cast(x, low), _cast(h0, low)
        w_ih, w_hh = [w.to(low) for w in w_ih], [w.to(low) for w in w_hh]
        weight = w_hh[0]
    dtype = weight.dtype
    compute = COMPUTE_DTYPE.get(dtype, dtype)
    biases, peepholes = _vectors(bias, peephole, dtype, compute)
    c0 = _cast(c0, compute)
    if lengths is not None and lengths.dtype != torch.int32:
        if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
            raise TypeError(
                f"lstmrep.ops.lstm: argument 'lengths' is {lengths.dtype}, expected integers; pass lengths.int()."
            )
        lengths = lengths.to(torch.int32)
    if reverse is None:
        reverse = [False] * len(w_hh)
    if steps is None:
        if x is None:
            raise ValueError("lstmrep.ops.lstm: argument 'steps' is missing; without x pass the number of time steps.")
        if x.dim() < 3:
            raise ValueError(
                f"lstmrep.ops.lstm: argument 'x' has shape {tuple(x.shape)}, expected [T, B, I] or [N, T, B, I]; "
                "add the missing dimensions."
            )
        steps = x.shape[-3]

    i = Inputs(x, w_ih, w_hh, biases, peepholes, h0, c0, lengths)

    if torch.compiler.is_compiling():
        save = _save(_any_requires_grad(i.flat()), recompute)
        h, h_n, c_n, _, _ = torch.ops.lstmrep.lstm(*i, steps, reverse, cell, backend, save)
        return h, h_n, c_n
    if torch._C._get_tracing_state():
        raise NotImplementedError(
            "lstmrep: torch.jit.trace cannot record the op; use torch.export or torch.compile instead."
        )
    transforming = torch._C._are_functorch_transforms_active()
    if transforming and "reference" in (backend, env.backend() if backend == "auto" else ""):
        return autograd.reference_outputs(i, steps, reverse, cell)
    if forward_ad._current_level >= 0:
        _refuse_tangents(i)
    if transforming:
        out = LSTMTransform.apply((i.counts, steps, reverse, cell, backend, _save(True, recompute)), *i.flat())
        return out[0], out[1], out[2]
    flat = i.flat()
    if _any_requires_grad(flat):
        static = (i.counts, steps, tuple(reverse), cell, backend, _save(True, recompute))
        return autograd.recorded(static, direct_call(static, flat), flat)
    h, h_n, c_n, _, _ = forward_below_autograd((i.counts, steps, tuple(reverse), cell, backend, "nothing"), flat)
    return h, h_n, c_n


def same_again(
    flat: Flat, counts: Counts, cell: str, backend: str, recompute: bool
) -> tuple[Tensor, Tensor, Tensor] | None:
    """What ``lstm`` gives for tensors like those of a call before, of one recurrence: nothing is checked.

    Args:
        flat: ``Inputs.flat()`` of any tensors; x ``[T, B, I]``.
        counts: of the lists in it.
        cell, backend, recompute: as for ``lstm``.

    Returns:
        h ``[T, B, H]``, h_n, c_n; none where there was no such call, or where more than autograd looks on: call
        ``lstm``.
    """
    if torch.compiler.is_compiling() or torch._C._is_any_autocast_enabled() or forward_ad._current_level >= 0:
        return None
    if torch._C._get_tracing_state() or torch._C._are_functorch_transforms_active():
        return None
    record = _any_requires_grad(flat)
    static = (counts, len(flat[0]), (False,), cell, backend, _save(record, recompute))  # type: ignore[arg-type]
    call = direct_call(static, flat, known=True)
    if call is None:
        return None
    if record:
        return autograd.recorded(static, call, flat, layer=True)
    return direct.forward(call, static, flat, layer=True)[:3]


def _cast(t: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return t if t is None or t.dtype == dtype else t.to(dtype)


def _vectors(
    bias: Tensor | list[Tensor] | None, peephole: Tensor | list[Tensor] | None, dtype: torch.dtype, compute: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """Biases and peepholes as lists of one dtype, the I/O or the compute one."""
    biases = [bias] if isinstance(bias, Tensor) else bias or []
    peepholes = [peephole] if isinstance(peephole, Tensor) else peephole or []
    found = [v.dtype for v in (*biases, *peepholes)]
    if found and (found.count(found[0]) < len(found) or found[0] not in (dtype, compute)):
        return [v.to(compute) for v in biases], [v.to(compute) for v in peepholes]
    return biases, peepholes


def _save(training: bool, recompute: bool) -> str:
    return ("states" if recompute else "all") if training else "nothing"


def _any_requires_grad(flat: tuple[Tensor | None, ...]) -> bool:
    # From the end: where anything does, the parameters do.
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in reversed(flat))


def _refuse_tangents(i: Inputs) -> None:
    for t in i.flat():
        if t is not None and forward_ad.unpack_dual(t).tangent is not None:
            raise autograd.forward_mode_error()
