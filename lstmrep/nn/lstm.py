"""``lstmrep.LSTM``: torch.nn.LSTM's constructor, call and state_dict, with optional peephole connections.

This file holds parameters and the way through layers; the arithmetic is ``lstmrep.ops.lstm``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple, cast, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lstmrep.backends import packs
from lstmrep.nn import convert, packed
from lstmrep.nn.init import Scheme, initialize
from lstmrep.ops import autocast
from lstmrep.ops.functional import lstm, same_again
from lstmrep.ops.projection import projected_lstm
from lstmrep.ops.validate import CELLS, COMPUTE_DTYPE
from lstmrep.plan import BACKENDS, Problem

State = tuple[Tensor, Tensor]
PEEPHOLES = ("weight_pi", "weight_pf", "weight_po")


class _Names(NamedTuple):
    """Of one layer's parameters, those of its directions one after the other."""

    recurrent: list[str]  # W_ih, W_hh, then biases in pairs and peepholes, where there are any
    projections: list[str]


def _names(suffixes: tuple[str, ...], bias: bool, peephole: bool) -> _Names:
    def of(*kind: str) -> list[str]:
        return [name + suffix for suffix in suffixes for name in kind]

    vectors = (of("bias_ih", "bias_hh") if bias else []) + (of(*PEEPHOLES) if peephole else [])
    return _Names(of("weight_ih") + of("weight_hh") + vectors, of("weight_hr"))


def _as_kept(c_n: Tensor, h_n: Tensor) -> Tensor:
    """The last cell state, which the op leaves in the compute dtype, as h is kept."""
    return c_n if c_n.dtype == h_n.dtype else c_n.to(h_n.dtype)


class LSTM(nn.Module):
    """A (stacked, bidirectional) LSTM, by default equal to ``torch.nn.LSTM``, with peepholes on request.

    The equations are in docs/math.md; with ``peephole=True`` the input and forget gates also see the cell state
    before the step and the output gate the one after it, each through a vector (a diagonal matrix).

    Args:
        input_size: I, features of the input.
        hidden_size: H, units.
        num_layers: stacked layers. Default 1.
        bias: two bias vectors a layer, as in torch. Default True.
        batch_first: input and output are ``[B, T, *]`` instead of ``[T, B, *]``; states are not affected.
        dropout: probability of dropping a value between layers (never through time), in training only. Default 0.
        bidirectional: a second recurrence runs from each sequence's end. Default False.
        proj_size: P > 0 projects the output to P values. Default 0.
        device, dtype: of the parameters; float32, bfloat16, float16 or float64.
        peephole: add ``weight_pi_l0``, ``weight_pf_l0``, ``weight_po_l0`` (``[H]`` each; ``_reverse`` too).
        cell: ``"tanh"``, or ``"relu"`` (g = relu, h = o*c).
        init: how parameters start, see ``lstmrep.nn.init``; default: U(-1/sqrt(H), 1/sqrt(H)) for all, as in torch.
        recompute: keep h and c for the backward pass but form the gates again; less memory, two more products.
        backend: ``"auto"``, or the one backend that must run.

    Shapes (D directions, L layers, H' = P or H):
        input ``[T, B, I]``, ``[T, I]``, or a PackedSequence; h_0 ``[L*D, B, H']``, c_0 ``[L*D, B, H]`` (without B for
        an unbatched input), zeros by default; output ``[T, B, D*H']``; h_n and c_n like h_0 and c_0. The cell state
        is float32 inside; c_n is returned in the output's dtype.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it.

    Source: Srivastava, Mansimov, Salakhutdinov 2015, section 2.1; interface: torch.nn.LSTM.

    Example:
        >>> rnn = LSTM(10, 20, num_layers=2, peephole=True)
        >>> output, (h_n, c_n) = rnn(torch.randn(5, 3, 10))
        >>> tuple(output.shape), tuple(h_n.shape)
        ((5, 3, 20), (2, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        peephole: bool = False,
        cell: str = "tanh",
        init: Scheme | str | None = None,
        recompute: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        _check_constructor(input_size, hidden_size, num_layers, dropout, proj_size, dtype, cell, backend)
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"lstmrep.LSTM: dropout={dropout} acts between layers and num_layers=1 has none; it does nothing.",
                UserWarning,
                stacklevel=2,
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.peephole = peephole
        self.cell = cell
        self.init = init
        self.recompute = recompute
        self.backend = backend

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self._names = [_names(self._suffixes(layer), bias, peephole) for layer in range(num_layers)]
        out = proj_size or hidden_size
        for layer in range(num_layers):
            features = input_size if layer == 0 else out * self.num_directions
            for suffix in self._suffixes(layer):
                self.register_parameter(f"weight_ih{suffix}", parameter(4 * hidden_size, features))
                self.register_parameter(f"weight_hh{suffix}", parameter(4 * hidden_size, out))
                if bias:
                    self.register_parameter(f"bias_ih{suffix}", parameter(4 * hidden_size))
                    self.register_parameter(f"bias_hh{suffix}", parameter(4 * hidden_size))
                if proj_size:
                    self.register_parameter(f"weight_hr{suffix}", parameter(proj_size, hidden_size))
                if peephole:
                    for name in PEEPHOLES:
                        self.register_parameter(f"{name}{suffix}", parameter(hidden_size))
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """D of the shapes, which is 2 when bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        return (f"_l{layer}", f"_l{layer}_reverse") if self.bidirectional else (f"_l{layer}",)

    def _all_suffixes(self) -> list[str]:
        return [s for layer in range(self.num_layers) for s in self._suffixes(layer)]

    def reset_parameters(self) -> None:
        """Start all parameters again by the ``init`` scheme (with torch's default scheme also torch's numbers)."""
        initialize(self, self.init, default_scale=1.0 / math.sqrt(self.hidden_size))

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """Parameters by layer and direction, in registration order, as torch.nn.LSTM gives them."""
        named = dict(self.named_parameters())
        return [[p for name, p in named.items() if name[name.index("_l") :] == s] for s in self._all_suffixes()]

    def pack(self) -> LSTM:
        """Pack the recurrent matrices now and keep the packs for the calls to come: inference on the CPU.

        Without it the cpu backend packs W_hh anew in each call.  A pack is dropped by ``unpack``, ``train()``,
        ``load_state_dict``, and by everything that moves or converts the module; it is passed over, and W_hh packed
        anew, once the matrix has been written to in place or replaced.  Only a write through ``.data`` goes unseen:
        after one, call ``pack()`` again.  Takes the memory of one more W_hh for each layer and direction (twice that
        in float16, and in bfloat16 without the instruction sets that multiply it).

        Returns:
            The module itself.

        Raises:
            RuntimeError: the module is in training mode, not on the CPU, or the native module is missing.
            NotImplementedError: with ``proj_size``, whose recurrence multiplies by another matrix than W_hh.
        """
        if self.training:
            raise RuntimeError("lstmrep.LSTM.pack: the module is in training mode; call eval() first.")
        if self.proj_size:
            raise NotImplementedError("lstmrep.LSTM.pack: proj_size is not supported; call the module without pack().")
        weights = self._recurrent_weights()
        if any(w.device.type != "cpu" for w in weights):
            raise RuntimeError("lstmrep.LSTM.pack: the module is not on the CPU; packs are for the cpu backend only.")
        for w in weights:
            packs.keep(w)
        return self

    def unpack(self) -> LSTM:
        """Drop the packs that ``pack`` keeps; without any, nothing happens. Returns the module itself."""
        for w in self._recurrent_weights():
            packs.drop(w)
        return self

    def _recurrent_weights(self) -> list[Tensor]:
        held = [self._parameters.get(f"weight_hh{s}") for s in self._all_suffixes()]
        return [w for w in held if w is not None]  # weight_norm and parametrizations keep theirs elsewhere

    def train(self, mode: bool = True) -> LSTM:
        """As of every module; training mode drops what ``pack`` keeps."""
        if mode:
            self.unpack()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> LSTM:
        self.unpack()
        super()._apply(fn, recurse)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.unpack()
        super()._load_from_state_dict(*args, **kwargs)

    def flatten_parameters(self) -> None:
        """Does nothing: the kernels take each matrix where it lies. Here so that code written for torch runs."""

    @classmethod
    def from_torch(cls, module: nn.LSTM, **options: Any) -> LSTM:
        """An LSTM with the arguments and weights of a torch.nn.LSTM.

        Args:
            module: the source; its parameters are copied.
            options: further keyword arguments, such as ``peephole=True`` (peepholes then start at zero).
        """
        return convert.from_torch(cls, module, **options)

    def to_torch(self) -> nn.LSTM:
        """A torch.nn.LSTM with the same arguments and weights.

        Raises:
            ValueError: a peephole is not zero or the cell is not tanh, which torch.nn.LSTM cannot compute.
        """
        return convert.to_torch(self)

    def problems(self, batch: int, steps: int) -> list[Problem]:
        """What each layer asks of the op for ``batch`` sequences of ``steps`` steps; for ``lstmrep.explain``."""
        weight = cast(Tensor, self.weight_ih_l0)
        out = self.proj_size or self.hidden_size
        return [
            Problem(
                hidden_size=self.hidden_size,
                steps=steps,
                batch=batch,
                input_size=self.input_size if layer == 0 else out * self.num_directions,
                recurrences=self.num_directions,
                dtype=str(weight.dtype).removeprefix("torch."),
                device=weight.device.type,
                peephole=self.peephole,
                cell=self.cell,
                training=self.training and any(p.requires_grad for p in self.parameters()),
                recompute=self.recompute,
                proj_size=self.proj_size,
                backend=self.backend,
            )
            for layer in range(self.num_layers)
        ]

    @overload
    def forward(self, input: Tensor, hx: State | None = None) -> tuple[Tensor, State]: ...
    @overload
    def forward(self, input: PackedSequence, hx: State | None = None) -> tuple[PackedSequence, State]: ...
    def forward(self, input: Tensor | PackedSequence, hx: State | None = None) -> tuple[Tensor | PackedSequence, State]:
        """Run the sequence. See the class for shapes."""
        if isinstance(input, PackedSequence):
            self._check_input(input.data)
            x, lengths = packed.pad(input)
            state = self._checked_state(hx, x.shape[1])
            out, state = self._run(x, packed.sort_state(state, input), lengths)
            return packed.pack(out, input), packed.unsort_state(state, input)
        if hx is None and (made := self._same_again(input)) is not None:
            return made
        self._check_input(input)
        if input.dim() == 2:
            out, (h_n, c_n) = self._run(input.unsqueeze(1), self._checked_state(hx, None), None)
            return out.squeeze(1), (h_n.squeeze(1), c_n.squeeze(1))
        x = input.transpose(0, 1) if self.batch_first else input
        out, state = self._run(x, self._checked_state(hx, x.shape[1]), None)
        return (out.transpose(0, 1) if self.batch_first else out), state

    def _run(self, x: Tensor, hx: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        """All layers. x ``[T, B, I]``, lengths ``[B]`` or none; output ``[T, B, D*H']``."""
        d = self.num_directions
        if lengths is not None:
            lengths = lengths.to(x.device, torch.int32, non_blocking=True).expand(d, -1)
        if self.num_layers == 1:
            h0, c0 = hx if hx is not None else (None, None)
            x, h_last, c_last = self._run_layer(0, x, h0, c0, lengths)
            return x, (h_last, c_last)
        h_n: list[Tensor] = []
        c_n: list[Tensor] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = nn.functional.dropout(x, self.dropout, training=True)
            h0, c0 = (s[layer * d : (layer + 1) * d] for s in hx) if hx is not None else (None, None)
            x, h_last, c_last = self._run_layer(layer, x, h0, c0, lengths)
            h_n.append(h_last)
            c_n.append(c_last)
        return x, (torch.cat(h_n), torch.cat(c_n))

    def _run_layer(
        self, layer: int, x: Tensor, h0: Tensor | None, c0: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer, both directions side by side: output ``[T, B, D*H']``, last h and c ``[D, B, *]``."""
        names, d = self._names[layer], self.num_directions
        held = self._held(names.recurrent)
        w_ih, w_hh, vectors = held[:d], held[d : 2 * d], held[2 * d :]
        biases = 2 * d if self.bias else 0
        bias = vectors[:biases]
        common: dict[str, Any] = {
            "peephole": vectors[biases:],
            "h0": h0,
            "c0": c0,
            "lengths": lengths,
            "reverse": [False, True] if self.bidirectional else [False],
            "cell": self.cell,
            "backend": self.backend,
            "recompute": self.recompute,
        }
        if self.proj_size:
            bias = [b + r for b, r in zip(bias[::2], bias[1::2], strict=True)]
            h, h_n, c_n = projected_lstm(x, w_ih, w_hh, self._held(names.projections), bias=bias, **common)
        else:
            h, h_n, c_n = lstm(x, w_ih, w_hh, bias=bias, **common)
        return self._outputs(h, h_n, c_n)

    def _outputs(self, h: Tensor, h_n: Tensor, c_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a layer gives, from what the op has given."""
        # Not h[0], whose derivative fills zeros and copies where this one's is a view.
        output = torch.cat((h[0], h[1]), dim=-1) if self.bidirectional else h.squeeze(0)
        return output, h_n, _as_kept(c_n, h_n)

    def _same_again(self, x: Tensor) -> tuple[Tensor, State] | None:
        """The call, where there was one before with tensors like these: the shortest way. None: take another."""
        if self.num_layers > 1 or self.bidirectional or self.proj_size or self.batch_first:
            return None
        if not isinstance(x, Tensor) or x.dim() != 3:
            return None
        held = self._held(self._names[0].recurrent)
        counts = (1, 1, 2 if self.bias else 0, 3 if self.peephole else 0)
        made = same_again((x, None, None, None, *held), counts, self.cell, self.backend, self.recompute)
        if made is None:
            return None
        output, h_n, c_n = made
        return output, (h_n, _as_kept(c_n, h_n))

    def _held(self, names: Iterable[str]) -> list[Tensor]:
        # Looking up the dictionary costs a fifth of an attribute; weight_norm, parametrizations and DataParallel
        # replicas keep their tensors elsewhere.
        held = self._parameters
        return [getattr(self, name) if (p := held.get(name)) is None else p for name in names]

    def _check_input(self, x: Tensor) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(
                f"lstmrep.LSTM: argument 'input' is a {type(x).__name__}, expected a Tensor or a PackedSequence."
            )
        if x.dim() not in (2, 3):
            order = "[B, T, I]" if self.batch_first else "[T, B, I]"
            raise ValueError(
                f"lstmrep.LSTM: argument 'input' has shape {tuple(x.shape)}, expected {order} or [T, I]; "
                "reshape it, for frames with x.flatten(2)."
            )
        if x.shape[-1] != self.input_size:
            raise ValueError(
                f"lstmrep.LSTM: argument 'input' has {x.shape[-1]} features in its last dimension, expected "
                f"input_size = {self.input_size}; check the order of its dimensions."
            )
        (weight,) = self._held(("weight_ih_l0",))
        if x.dtype != weight.dtype and not autocast.is_on(x):
            raise TypeError(
                f"lstmrep.LSTM: argument 'input' is {x.dtype}, expected {weight.dtype} like the weights; "
                f"pass input.to({weight.dtype}), or use torch.autocast."
            )
        if x.device != weight.device:
            raise ValueError(
                f"lstmrep.LSTM: argument 'input' is on {x.device}, the weights are on {weight.device}; "
                f"pass input.to('{weight.device}')."
            )

    def _checked_state(self, hx: State | None, batch: int | None) -> State | None:
        """The start states ``[L*D, B, *]``; ``batch`` is none for an unbatched input, whose states have no B."""
        if hx is None:
            return None
        if not isinstance(hx, (tuple, list)) or len(hx) != 2:
            raise TypeError(
                f"lstmrep.LSTM: argument 'hx' is a {type(hx).__name__}, expected a pair of tensors; pass (h_0, c_0)."
            )
        rows = self.num_layers * self.num_directions
        middle, legend = ((), "[L*D, size]") if batch is None else ((batch,), "[L*D, B, size]")
        for name, s, size in (("h_0", hx[0], self.proj_size or self.hidden_size), ("c_0", hx[1], self.hidden_size)):
            if tuple(s.shape) != (rows, *middle, size):
                raise ValueError(
                    f"lstmrep.LSTM: argument '{name}' has shape {tuple(s.shape)}, expected {legend} = "
                    f"{(rows, *middle, size)}; states keep this order under batch_first too."
                )
        return (hx[0].unsqueeze(1), hx[1].unsqueeze(1)) if batch is None else hx

    def extra_repr(self) -> str:
        """Arguments that differ from their defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        defaults: dict[str, Any] = {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            "proj_size": 0,
            "peephole": False,
            "cell": "tanh",
            "recompute": False,
            "backend": "auto",
        }
        changed = [f"{k}={getattr(self, k)!r}" for k, v in defaults.items() if getattr(self, k) != v]
        return ", ".join([text, *changed])


def _pair(hx: State) -> State:
    if isinstance(hx, Tensor) or len(hx) != 2:
        kind = "a Tensor" if isinstance(hx, Tensor) else f"{len(hx)} values"
        raise TypeError(f"lstmrep.LSTM: argument 'hx' is {kind}, expected the pair (h_0, c_0).")
    return hx


def _check_constructor(
    input_size: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    proj_size: int,
    dtype: torch.dtype | None,
    cell: str,
    backend: str,
) -> None:
    for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"lstmrep.LSTM: argument '{name}' is {value!r}, expected a whole number of 1 or more.")
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
        raise ValueError(f"lstmrep.LSTM: argument 'dropout' is {dropout!r}, expected a probability from 0 to 1.")
    if not isinstance(proj_size, int) or isinstance(proj_size, bool) or not 0 <= proj_size < hidden_size:
        raise ValueError(
            f"lstmrep.LSTM: argument 'proj_size' is {proj_size!r}, expected 0 or less than hidden_size = {hidden_size}."
        )
    if cell not in CELLS:
        raise ValueError(f"lstmrep.LSTM: argument 'cell' is {cell!r}, expected 'tanh' or 'relu'.")
    if dtype is not None and dtype not in COMPUTE_DTYPE:
        raise ValueError(
            f"lstmrep.LSTM: argument 'dtype' is {dtype}, expected float32, bfloat16, float16 or float64 of torch."
        )
    if backend not in BACKENDS:
        raise ValueError(f"lstmrep.LSTM: argument 'backend' is {backend!r}, expected one of {', '.join(BACKENDS)}.")
