"""Layers of one-directional peephole LSTM with one bias a layer: what the encoder, decoders and classifier are made of.

Time-major, no batch_first, no checks of the caller's input: the models do those. ``run`` takes several stacks side by
side (the two decoders) through each layer in one call of the op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from lstmrep.nn.init import Scheme, initialize
from lstmrep.ops.functional import lstm
from lstmrep.plan import Problem

PEEPHOLES = ("weight_pi", "weight_pf", "weight_po")


class State(NamedTuple):
    """Hidden and cell state of every layer: h ``[L, B, H]`` and c ``[L, B, H]`` (float32, float64 for float64)."""

    h: Tensor
    c: Tensor


class Layers(NamedTuple):
    """The same by layer, for N stacks: L tensors h ``[N, B, H]`` and L tensors c ``[N, B, H]``."""

    h: list[Tensor]
    c: list[Tensor]

    def state(self) -> State:
        """Of the first stack, as one tensor each."""
        if len(self.h) == 1:
            return State(self.h[0][:1], self.c[0][:1])
        return State(torch.stack([h[0] for h in self.h]), torch.stack([c[0] for c in self.c]))


class Stack(nn.Module):
    """L LSTM layers, each with ``weight_ih_l{k} [4H, I or H]``, ``weight_hh_l{k} [4H, H]``, ``bias_l{k} [4H]`` and
    peepholes ``weight_pi_l{k}``, ``weight_pf_l{k}``, ``weight_po_l{k}`` ``[H]``.

    Gates are in torch's order i, f, g, o. A state_dict with torch's two biases a layer loads too: they are added, and
    peepholes that it lacks become zero.

    Args:
        input_size: I; 0 for a stack that reads nothing at its bottom layer, which then has no ``weight_ih_l0``.
        hidden_size: H.
        num_layers: L.
        peephole, cell, recompute, backend: as for ``lstmrep.LSTM``.
        dropout: probability of dropping a value between layers in training, never through time.
        init: see ``lstmrep.nn.init``; default U(-1/sqrt(H), 1/sqrt(H)) for all.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        peephole: bool = True,
        cell: str = "tanh",
        recompute: bool = False,
        backend: str = "auto",
        dropout: float = 0.0,
        init: Scheme | str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.peephole = peephole
        self.cell = cell
        self.recompute = recompute
        self.backend = backend
        self.dropout = dropout
        self.init = init

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        for layer in range(num_layers):
            features = hidden_size if layer else input_size
            if features:
                self.register_parameter(f"weight_ih_l{layer}", parameter(4 * hidden_size, features))
            self.register_parameter(f"weight_hh_l{layer}", parameter(4 * hidden_size, hidden_size))
            self.register_parameter(f"bias_l{layer}", parameter(4 * hidden_size))
            for name in PEEPHOLES if peephole else ():
                self.register_parameter(f"{name}_l{layer}", parameter(hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start all parameters again by the ``init`` scheme."""
        initialize(self, self.init, default_scale=1.0 / math.sqrt(self.hidden_size))

    def extra_repr(self) -> str:
        """The sizes, for printing."""
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, peephole={self.peephole}"

    def forward(self, x: Tensor, start: Layers | None = None) -> tuple[Tensor, Layers]:
        """Run ``x [T, B, I]``; returns the top layer's h ``[T, B, H]`` and the last state."""
        h, last = run([self], x, start)
        return h[0], last

    def recur(self, weight_hh: Tensor, bias: Tensor, start: Layers, steps: int) -> tuple[Tensor, Layers]:
        """The bottom layer with another recurrent matrix and bias and no input; of a stack of one layer.

        Args:
            weight_hh: ``[4H, H]``.
            bias: ``[4H]``.
            start: the state before the first step.
            steps: T.

        Returns:
            As ``forward``.
        """
        h, h_last, c_last = lstm(
            None,
            [],
            [weight_hh],
            bias=[bias],
            peephole=[self.weight(name, 0) for name in PEEPHOLES] if self.peephole else None,
            h0=start.h[0],
            c0=start.c[0],
            steps=steps,
            cell=self.cell,
            backend=self.backend,
        )
        return h[0], Layers([h_last], [c_last])

    def problems(self, batch: int, steps: int, recurrences: int = 1) -> list[Problem]:
        """What each layer asks of the op, for N stacks like this one; for ``lstmrep.explain``."""
        weight = self.weight("weight_hh", 0)
        return [
            Problem(
                hidden_size=self.hidden_size,
                steps=steps,
                batch=batch,
                input_size=self.hidden_size if layer else self.input_size,
                recurrences=recurrences,
                dtype=str(weight.dtype).removeprefix("torch."),
                device=weight.device.type,
                peephole=self.peephole,
                cell=self.cell,
                training=self.training and any(p.requires_grad for p in self.parameters()),
                recompute=self.recompute,
                backend=self.backend,
            )
            for layer in range(self.num_layers)
        ]

    def weight(self, name: str, layer: int) -> Tensor:
        """A parameter; an attribute where weight_norm or a parametrization keeps it elsewhere."""
        key = f"{name}_l{layer}"
        held = self._parameters.get(key)
        return cast(Tensor, getattr(self, key)) if held is None else held

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        for layer in range(self.num_layers):
            first, second = f"{prefix}bias_ih_l{layer}", f"{prefix}bias_hh_l{layer}"
            if first in state_dict and second in state_dict:
                state_dict[f"{prefix}bias_l{layer}"] = state_dict.pop(first) + state_dict.pop(second)
                for name in PEEPHOLES if self.peephole else ():
                    key = f"{prefix}{name}_l{layer}"
                    state_dict.setdefault(key, torch.zeros_like(self.weight(name, layer), device="cpu"))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def run(
    stacks: Sequence[Stack],
    x: Tensor | None,
    start: Layers | None,
    *,
    steps: int | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Layers]:
    """N stacks of equal sizes side by side, one call of the op a layer.

    Args:
        stacks: N stacks.
        x: ``[T, B, I]`` for all of them, ``[N, T, B, I]``, or none for stacks that read nothing.
        start: the state before the first step, with N rows or one for all, whose gradients add up; none for zeros.
        steps: T where x is none.
        lengths: ``[N, B]`` steps of each, none for T everywhere.

    Returns:
        h of the top layer ``[N, T, B, H]`` and the state after the last step, N rows.
    """
    one = stacks[0]
    last = Layers([], [])
    h = x
    for layer in range(one.num_layers):
        if layer and one.dropout and one.training:
            h = nn.functional.dropout(cast(Tensor, h), one.dropout, training=True)
        reads = layer > 0 or one.input_size > 0
        h, h_last, c_last = lstm(
            h if reads else None,
            [s.weight("weight_ih", layer) for s in stacks] if reads else [],
            [s.weight("weight_hh", layer) for s in stacks],
            bias=[s.weight("bias", layer) for s in stacks],
            peephole=[s.weight(name, layer) for s in stacks for name in PEEPHOLES] if one.peephole else None,
            h0=start.h[layer] if start is not None else None,
            c0=start.c[layer] if start is not None else None,
            lengths=lengths,
            steps=steps,
            cell=one.cell,
            backend=one.backend,
            recompute=one.recompute,
        )
        last.h.append(h_last)
        last.c.append(c_last)
    return cast(Tensor, h), last
