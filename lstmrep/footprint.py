"""Bytes that a training step holds at its peak, from shapes alone (a model, printed as such).

The scratch of the kernels is left out: on the CPU packs of a call's W_hh where its batch is large, which the system may
take between calls, and up to 16 MiB and 5 MiB a thread.

Of a composite model three moments can be the highest, depending on whether parameters or frames dominate: the start of
the backward pass, when every prediction is there; its middle, when both decoders' gradients are complete; and its end,
when all gradients are.
"""

from __future__ import annotations

from dataclasses import dataclass

from lstmrep.nn import ActionClassifier, CompositeModel
from lstmrep.plan import BYTES, GATES, Problem, saved_bytes_per_step


@dataclass(frozen=True)
class Footprint:
    """Bytes of a training step: ``parameters``, what ``step`` adds to them at its peak (gradients and kept values), and
    ``optimizer`` state."""

    parameters: int
    step: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.step + self.optimizer

    def describe(self) -> str:
        """One line."""
        p, s, o, t = (f"{n / 1e6:,.0f} MB" for n in (self.parameters, self.step, self.optimizer, self.total))
        return f"memory    {t} at a training step's peak: parameters {p}, gradients and kept values {s}, optimizer {o}"


def footprint(
    model: CompositeModel | ActionClassifier, batch: int, steps: int, optimizer_tensors: int = 2
) -> Footprint:
    """What a training step of ``model`` takes.

    Args:
        model: a composite model, or a classifier with an LSTM.
        batch: B, sequences.
        steps: T, frames of a clip, the future ones included.
        optimizer_tensors: tensors that the optimizer keeps for each parameter: 2 for Adam (the default), 1 for
            momentum.

    Returns:
        A :class:`Footprint`.
    """
    if isinstance(model, ActionClassifier):
        return _of_classifier(model, batch, steps, optimizer_tensors)
    c = model.config
    io = BYTES[str(next(model.parameters()).dtype).removeprefix("torch.")]
    sizes = {name: sum(p.numel() for p in part.parameters()) * io for name, part in model.named_children()}
    parameters = sum(sizes.values())
    problems = model.problems(batch, steps)
    encoder, decoders = problems[: c.num_layers], problems[c.num_layers :]
    frame = batch * c.input_size * io
    made = (c.reconstruct + c.predict) * frame
    fed = sum(p.recurrences * p.steps for p in decoders if p.input_size == c.input_size) * frame
    fed = fed if c.conditional_reconstruction or c.conditional_future else 0
    targets = c.reconstruct * frame
    kept = sum(map(_kept, problems))
    # A backward pass ends in the bottom layer, when what the layers above had kept is free again.
    above = sum(_kept(p) for k, p in enumerate(decoders) if k % c.num_layers)
    held = kept + fed + targets + made
    heads = parameters - sizes["encoder"]
    # A layer adds the gradients of its gates and, a quarter of their size each, of its input and output.
    layer = max(map(_gates, decoders), default=0) * 3 // 2
    start = held + max(2 * made, layer + heads // c.num_layers if c.num_layers > 1 else 0)
    middle = held - above + layer + heads
    end = _kept(encoder[0]) + _gates(encoder[0]) + made + parameters
    return Footprint(parameters, max(start, middle, end), optimizer_tensors * parameters)


def _of_classifier(model: ActionClassifier, batch: int, steps: int, optimizer_tensors: int) -> Footprint:
    """Gradients of all parameters are there when the bottom layer's gates have theirs."""
    io = BYTES[str(next(model.parameters()).dtype).removeprefix("torch.")]
    parameters = sum(p.numel() for p in model.parameters()) * io
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) * io
    problems = model.problems(batch, steps)
    kept = sum(map(_kept, problems))
    if model.config.dropout:  # what is dropped above each layer, and where
        kept += len(problems) * batch * steps * model.config.hidden_size * (io + 1)
    layer = max(map(_gates, problems)) * 3 // 2
    logits = 2 * batch * steps * model.config.num_classes * io
    step = max(kept + logits + layer, _kept(problems[0]) + layer + trained)
    return Footprint(parameters, step, optimizer_tensors * trained)


def _kept(p: Problem) -> int:
    return saved_bytes_per_step(p) * p.steps


def _gates(p: Problem) -> int:
    return p.recurrences * p.steps * p.batch * GATES * p.hidden_size * BYTES[p.dtype]
