"""A decoder: a stack that starts from the encoder's state, and a linear head that turns its top layer into frames.

Two ways to run: ``decode`` takes whole sequences, for decoders that read nothing or whose inputs are known before
(the true frames), and both decoders side by side where they agree; ``roll_out`` goes frame by frame, for a decoder that
reads its own output, or, where that is linear, in one call with the head folded into the recurrence.

Hand-over, with (h, c) the encoder's last state: ``"step"`` makes it the state before step 0, so that frame 0 is
head(cell(h, c)) with no input; ``"copy"`` makes it the state of step 0, so that frame 0 is head(h).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lstmrep.nn.outputs import OUTPUTS
from lstmrep.nn.stack import Layers, Stack, run
from lstmrep.ops import autocast
from lstmrep.ops.validate import COMPUTE_DTYPE

HANDOVERS = ("step", "copy")
# A product of fewer rows waits for its matrix to be read and takes about as long as one of so many (docs/models.md).
ROWS = 24


class Decoder(nn.Module):
    """``lstm`` (a :class:`Stack`) and ``head`` (``nn.Linear(H, D)``).

    Args:
        frame_size: D, values of a frame.
        hidden_size: H.
        num_layers: L, as many as the encoder's.
        conditional: step t reads frame t-1; without it the bottom layer has no input matrix.
        output: a key of ``lstmrep.nn.outputs.OUTPUTS``.
        handover: ``"step"`` or ``"copy"``.
        stack: further arguments of :class:`Stack`.
    """

    def __init__(
        self,
        frame_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        conditional: bool,
        output: str,
        handover: str,
        **stack: Any,
    ) -> None:
        super().__init__()
        self.conditional = conditional
        self.output = output
        self.handover = handover
        self.lstm = Stack(frame_size if conditional else 0, hidden_size, num_layers, **stack)
        self.head = nn.Linear(hidden_size, frame_size, device=stack.get("device"), dtype=stack.get("dtype"))

    def activation(self, z: Tensor) -> Tensor:
        """Frames from the head's numbers."""
        return OUTPUTS[self.output].activation(z)

    @property
    def plain_head(self) -> bool:
        """Whether the head is what it was built as, so that its weight and bias say all about it."""
        return type(self.head) is nn.Linear and not _hooked(self.head)

    @property
    def skipped(self) -> int:
        """Steps that need no recurrence: 1 where the encoder's state is the state of step 0."""
        return 1 if self.handover == "copy" else 0


def decode_states(
    decoders: Sequence[Decoder], start: Layers, steps: Sequence[int], fed: Sequence[Tensor]
) -> Tensor | None:
    """Top states of decoders that agree in sizes and conditioning, each layer of all of them in one op.

    Args:
        decoders: N decoders.
        start: the encoder's last state.
        steps: frames that each makes, 1 or more.
        fed: for each conditional decoder the frames ``[steps - 1, B, D]`` that steps 1, 2, ... read; else empty.

    Returns:
        ``[N, T, B, H]``, T the most steps that a recurrence runs, zeros beyond its own; none where none runs.
    """
    one = decoders[0]
    runs = [n - one.skipped for n in steps]
    longest = max(runs)
    if not longest:
        return None
    lengths = None
    if min(runs) != longest:
        rows = (len(runs), start.h[0].shape[1])
        lengths = torch.full(rows, longest, device=start.h[0].device, dtype=torch.int32)
        for k, n in enumerate(runs):
            if n != longest:
                lengths[k].fill_(n)
    x = None
    if one.conditional:
        padded = [_padded(f, one.skipped == 0, longest) for f in fed]
        x = padded[0] if len(padded) == 1 else torch.stack(padded)
    h, _ = run([d.lstm for d in decoders], x, start, steps=longest, lengths=lengths)
    return h


def decode(decoders: Sequence[Decoder], start: Layers, steps: Sequence[int], fed: Sequence[Tensor]) -> list[Tensor]:
    """The numbers of their heads; arguments as for ``decode_states``.

    Returns:
        Of each decoder ``[steps, B, D]``.
    """
    h = decode_states(decoders, start, steps, fed)
    runs = [n - decoders[0].skipped for n in steps]
    made = []
    for k, decoder in enumerate(decoders):
        top = [start.h[-1]] if decoder.skipped else []
        if h is not None and runs[k]:
            top.append(h[k, : runs[k]])
        made.append(decoder.head(top[0] if len(top) == 1 else torch.cat(top)))
    return made


def fold_pays(hidden_size: int, batch: int, steps: int) -> bool:
    """Whether forming ``W_ih W_o`` once costs less than the products that it spares.

    The fold multiplies 4H * D * H numbers, an input product B * D * 4H at each step after the first; so it pays when
    (steps - 1) * B > H, with B at least ``ROWS``, since a smaller product takes no less time.

    Args:
        hidden_size: H.
        batch: B, sequences.
        steps: frames to make.
    """
    return (steps - 1) * max(batch, ROWS) > hidden_size


def folds(decoder: Decoder, start: Layers, steps: int) -> bool:
    """Whether ``roll_out`` folds the head into the recurrence, for a decoder that reads only what it makes.

    Linear frames, one layer, head and layer as they were built, nothing that a gradient, a transform or a compiler must
    see step by step (a compiled graph may meet other batches than the rule was asked for), and the fold pays.
    """
    if decoder.output != "gaussian" or decoder.lstm.num_layers > 1 or not decoder.plain_head or _hooked(decoder.lstm):
        return False
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in (*decoder.parameters(), *start.h, *start.c)):
        return False
    return fold_pays(decoder.lstm.hidden_size, start.h[-1].shape[1], steps)


def _folded(decoder: Decoder, start: Layers, steps: int) -> Tensor:
    """``roll_out`` where ``folds`` says so: with frames W_o h + b_o, all steps after the first are one recurrence of

        W_hh + W_ih W_o        and        b + W_ih b_o

    without input. Step 0 has no frame and runs by itself: taking W_ih (W_o h0 + b_o) off its input share again would
    cost a product of its own and lose digits.
    """
    lstm, head = decoder.lstm, decoder.head
    w_ih, w_hh, bias = (lstm.weight(name, 0) for name in ("weight_ih", "weight_hh", "bias"))
    if decoder.skipped:
        first, state = start.h[0], start
    else:
        first, state = lstm.recur(w_hh, bias, start, 1)
    compute = COMPUTE_DTYPE.get(w_hh.dtype, w_hh.dtype)
    with autocast.off(w_hh):
        w_ih, w_o = w_ih.to(compute), head.weight.to(compute)
        joined = torch.addmm(w_hh.to(compute), w_ih, w_o).to(w_hh.dtype)
        shift = torch.addmv(bias.to(compute), w_ih, head.bias.to(compute))
    rest, _ = lstm.recur(joined, shift, state, steps - 1)
    made: Tensor = head(torch.cat((first, rest)))
    return made


def roll_out(
    decoder: Decoder, start: Layers, steps: int, truth: Tensor | None = None, keep: Tensor | None = None
) -> Tensor:
    """A conditional decoder that reads what it made (after the activation; gradient flows through it), frame by frame
    or, where it ``folds``, in one call of the op for all steps after the first.

    Args:
        decoder: a conditional decoder.
        start: the encoder's last state.
        steps: frames to make.
        truth: frames ``[steps - 1, B, D]`` that steps 1, 2, ... would read, where ``keep`` may choose them.
        keep: booleans ``[steps - 1, B, 1]``: this sequence reads the true frame at this step. None: never.

    Returns:
        The head's numbers ``[steps, B, D]``.
    """
    if keep is None and folds(decoder, start, steps):
        return _folded(decoder, start, steps)
    made: list[Tensor] = []
    state = start
    if decoder.skipped:
        made.append(decoder.head(state.h[-1]))
    while len(made) < steps:
        t = len(made)
        if t == 0:
            x = state.h[-1].new_zeros(1, state.h[-1].shape[1], decoder.lstm.input_size)
        else:
            x = decoder.activation(made[-1])
            if truth is not None and keep is not None:
                x = torch.where(keep[t - 1 : t], truth[t - 1 : t].to(x.dtype), x)
        h, state = decoder.lstm(x, state)
        made.append(decoder.head(h))
    return torch.cat(made)


def _hooked(module: nn.Module) -> bool:
    """Whether calling the module does more than its ``forward``."""
    m = module
    return any((m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks))


def _padded(fed: Tensor, first: bool, steps: int) -> Tensor:
    """Inputs of ``steps`` steps: a zero frame for step 0 (no input: its product is zero), the fed ones, zeros."""
    parts = [fed.new_zeros(1, *fed.shape[1:])] if first else []
    parts.append(fed)
    missing = steps - fed.shape[0] - len(parts) + 1
    if missing:
        parts.append(fed.new_zeros(missing, *fed.shape[1:]))
    return parts[0] if len(parts) == 1 else torch.cat(parts)
