"""The composite encoder-decoder of Srivastava, Mansimov and Salakhutdinov (2015), section 2.4, and its halves alone.

One encoder reads the frames. From its last state one decoder tells the frames again, last first, and another the
frames that come next. Either may be left out: an autoencoder, or a future predictor. The way of the data is in
docs/models.md; sizes that the paper and its code use are in ``lstmrep.nn.presets``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstmrep.backends.frame_loss import Head, mean_loss
from lstmrep.nn import presets
from lstmrep.nn.checks import check_frames, check_sizes, choice, count, finite, option
from lstmrep.nn.decoder import HANDOVERS, Decoder, decode, decode_states, roll_out
from lstmrep.nn.init import Scheme, initialize
from lstmrep.nn.original import state_dict_from_original
from lstmrep.nn.outputs import OUTPUTS, squash
from lstmrep.nn.pretrained import Pretrained, check_state
from lstmrep.nn.stack import Layers, Stack, State, run
from lstmrep.ops.frame_loss import frame_loss, side_by_side
from lstmrep.ops.frame_loss import runs as runs_frame_loss
from lstmrep.ops.validate import CELLS
from lstmrep.plan import BACKENDS, Problem

FEEDINGS = ("teacher", "own", "scheduled")


@dataclass(frozen=True)
class CompositeConfig:
    """The arguments of :class:`CompositeModel`, as ``model.config`` keeps and ``config.json`` holds them."""

    input_size: int
    hidden_size: int
    num_layers: int = 1
    reconstruct: int = 10
    predict: int = 10
    conditional_reconstruction: bool = False
    conditional_future: bool = False
    output: str = "bernoulli"
    handover: str = "step"
    peephole: bool = True
    cell: str = "tanh"
    feeding: str = "teacher"
    reconstruction_weight: float = 1.0
    future_weight: float = 1.0
    squash: float = 2.0
    batch_first: bool = True
    recompute: bool = False
    backend: str = "auto"

    def __post_init__(self) -> None:
        who = "lstmrep.CompositeModel"
        check_sizes(who, self.input_size, self.hidden_size, self.num_layers)
        count(who, "reconstruct", self.reconstruct, 0)
        count(who, "predict", self.predict, 0)
        if not self.reconstruct and not self.predict:
            raise ValueError(
                f"{who}: arguments 'reconstruct' and 'predict' are both 0; give one of them frames to make."
            )
        for name in ("conditional_reconstruction", "conditional_future", "peephole", "batch_first", "recompute"):
            option(who, name, getattr(self, name))
        choice(who, "output", self.output, OUTPUTS)
        choice(who, "handover", self.handover, HANDOVERS)
        choice(who, "cell", self.cell, CELLS)
        choice(who, "feeding", self.feeding, FEEDINGS)
        choice(who, "backend", self.backend, BACKENDS)
        for name in ("reconstruction_weight", "future_weight", "squash"):
            finite(who, name, getattr(self, name))


@dataclass
class CompositeOutput:
    """What a call returns. By name, or by position as trainers that expect a tuple do (``output[0]`` is the loss).

    ``loss`` is the weighted sum of the two, a scalar; ``reconstruction [B, reconstruct, *frame]`` is in the order in
    which it was decoded, the last input frame first (``flip(1)`` for time order); ``future [B, predict, *frame]``;
    ``state`` h and c ``[L, B, H]`` of the encoder. Heads that the model does not have are none. Frames are formed from
    the heads' numbers when they are first asked for: a training step that reads only the loss does not pay for them.
    """

    loss: Tensor
    reconstruction: Tensor | None
    future: Tensor | None
    state: State
    reconstruction_loss: Tensor | None
    future_loss: Tensor | None

    def __getitem__(self, key: int | str) -> Any:
        return getattr(self, key if isinstance(key, str) else fields(self)[key].name)

    def put_off(self, name: str, make: Callable[[], Tensor]) -> None:
        """Form a field only when it is first read."""
        delattr(self, name)
        self.__dict__.setdefault("_put_off", {})[name] = make

    def __getattr__(self, name: str) -> Any:  # of what is not there
        put_off = self.__dict__.get("_put_off", {})
        if name not in put_off:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        setattr(self, name, put_off.pop(name)())
        return self.__dict__[name]

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class CompositeModel(Pretrained, nn.Module):
    """Encoder LSTM, reconstruction decoder and future predictor.

    ``encoder.*``, ``reconstruction.lstm.*``, ``reconstruction.head.*``, ``future.lstm.*``, ``future.head.*`` are the
    names of the state_dict; each LSTM layer has one bias.

    Args:
        input_size: D, values of a frame (64*64 for the paper's digits); frames of any shape with D values are taken.
        hidden_size: H, units of every layer.
        num_layers: L, of the encoder and of each decoder. Default 1.
        reconstruct: frames to tell again, the last one first; 0 leaves the head out. Default 10.
        predict: frames to predict; 0 leaves the head out. Default 10.
        conditional_reconstruction, conditional_future: the decoder reads the frame before (see ``feeding``).
        output: ``"bernoulli"`` (logistic, cross-entropy), ``"gaussian"`` (linear, squared error), ``"relu"``
            (rectified, squared error), ``"squash"`` (frames pass 2/(1+exp(-squash*x))-1, then as bernoulli).
        handover: ``"step"``: decoders take one step from the encoder's state before their first frame; ``"copy"``:
            the first frame is read off the encoder's state itself.
        peephole: diagonal peepholes in every layer. Default True.
        cell: ``"tanh"`` or ``"relu"``.
        feeding: what a conditional decoder reads in training: ``"teacher"`` the true frame before, ``"own"`` the one it
            made, ``"scheduled"`` the true one with probability ``model.teacher_probability`` (drawn for each sequence
            and step). In eval mode it reads its own unless a call says otherwise.
        reconstruction_weight, future_weight: of the two losses in their sum. Default 1.
        squash: slope of the squashed output's curve. Default 2, which is tanh.
        batch_first: frames are ``[B, T, *frame]``; False: ``[T, B, *frame]``. Default True.
        recompute: keep h and c for the backward pass and form the gates again; less memory.
        backend: ``"auto"``, or the one that must run.
        init: how parameters start, see ``lstmrep.nn.init``: ``"torch"`` (default), ``"paper"``, ``"original"``, or a
            mapping by role.
        device, dtype: of the parameters.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it.

    Source: Srivastava, Mansimov, Salakhutdinov 2015, sections 2.2 to 2.5; hand-over and outputs: the released code.

    Example:
        >>> model = CompositeModel(64, 32, reconstruct=5, predict=5)
        >>> out = model(torch.rand(3, 10, 8, 8))
        >>> tuple(out.future.shape), tuple(out.state.h.shape)
        ((3, 5, 8, 8), (1, 3, 32))
        >>> tuple(model.predict(torch.rand(3, 5, 8, 8), steps=20).shape)
        (3, 20, 8, 8)
    """

    config_class = CompositeConfig
    config: CompositeConfig

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reconstruct: int = 10,
        predict: int = 10,
        conditional_reconstruction: bool = False,
        conditional_future: bool = False,
        output: str = "bernoulli",
        handover: str = "step",
        peephole: bool = True,
        cell: str = "tanh",
        feeding: str = "teacher",
        reconstruction_weight: float = 1.0,
        future_weight: float = 1.0,
        squash: float = 2.0,
        batch_first: bool = True,
        recompute: bool = False,
        backend: str = "auto",
        init: Scheme | str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        c = self.config = CompositeConfig(
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            reconstruct=reconstruct,
            predict=predict,
            conditional_reconstruction=conditional_reconstruction,
            conditional_future=conditional_future,
            output=output,
            handover=handover,
            peephole=peephole,
            cell=cell,
            feeding=feeding,
            reconstruction_weight=float(reconstruction_weight),
            future_weight=float(future_weight),
            squash=float(squash),
            batch_first=batch_first,
            recompute=recompute,
            backend=backend,
        )
        self.teacher_probability = 1.0
        self.init = init
        stack: dict[str, Any] = {
            "peephole": peephole,
            "cell": cell,
            "recompute": recompute,
            "backend": backend,
            "init": init,
            "device": device,
            "dtype": dtype,
        }
        self.encoder = Stack(input_size, hidden_size, num_layers, **stack)
        self.reconstruction = self._decoder(conditional_reconstruction, stack) if c.reconstruct else None
        self.future = self._decoder(conditional_future, stack) if c.predict else None
        for decoder in self._decoders():
            initialize(decoder.head, init, default_scale=1.0 / math.sqrt(hidden_size), prefix="head_")
        self._join_heads()

    def _decoder(self, conditional: bool, stack: dict[str, Any]) -> Decoder:
        c = self.config
        return Decoder(
            c.input_size,
            c.hidden_size,
            c.num_layers,
            conditional=conditional,
            output=c.output,
            handover=c.handover,
            **stack,
        )

    def _decoders(self) -> Iterator[Decoder]:
        return (d for d in (self.reconstruction, self.future) if d is not None)

    def _join_heads(self) -> None:
        """Put both heads' matrices side by side in memory, where one product takes them; they stay two parameters."""
        held = [d.head._parameters.get("weight") for d in self._decoders()]
        weights = [w for w in held if w is not None and type(w.data) is Tensor]
        if len(weights) != 2 or weights[0] is weights[1] or side_by_side(weights) is not None:
            return
        if (weights[0].dtype, weights[0].device) != (weights[1].dtype, weights[1].device):
            return
        for weight, part in zip(weights, torch.stack([w.detach() for w in weights]).unbind(0), strict=True):
            weight.data = part

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CompositeModel:
        super()._apply(fn, recurse)
        self._join_heads()  # each parameter was moved by itself
        return self

    @classmethod
    def from_preset(cls, name: str, **options: Any) -> CompositeModel:
        """A model by the name of a configuration in the paper or its released code.

        Args:
            name: a key of ``lstmrep.nn.presets.COMPOSITE``.
            options: arguments that replace the preset's, or ``device``, ``dtype``, ``init``.
        """
        return cls(**presets.arguments(presets.COMPOSITE, name, options))

    def reset_parameters(self) -> None:
        """Start all parameters again by the ``init`` scheme."""
        self.encoder.reset_parameters()
        for decoder in self._decoders():
            decoder.lstm.reset_parameters()
            initialize(decoder.head, self.init, default_scale=1.0 / math.sqrt(self.config.hidden_size), prefix="head_")

    def load_original(self, path: str | Path, layers: dict[str, list[str]] | None = None) -> CompositeModel:
        """Take the weights of an ``.h5`` file that the released code wrote; see ``lstmrep.nn.original``.

        Args:
            path: the file.
            layers: names of its layers by role; default: found by their names.

        Returns:
            The model itself.
        """
        state = state_dict_from_original(path, layers)
        for name, decoder in (("reconstruction", self.reconstruction), ("future", self.future)):
            if decoder is not None and not decoder.conditional:
                # The released code keeps this matrix for decoders that never use it.
                state.pop(f"{name}.lstm.weight_ih_l0", None)
        if not self.config.peephole and any(t.any() for key, t in state.items() if ".weight_p" in key):
            raise ValueError(
                f"lstmrep.CompositeModel.load_original: {path} has peepholes; build the model with peephole=True."
            )
        path = Path(path)
        own = self.state_dict()
        state = {k: t for k, t in state.items() if k in own or ".weight_p" not in k}
        check_state(self, state, path, "lstmrep.CompositeModel.load_original")
        self.load_state_dict(state)
        return self

    @property
    def batch_first(self) -> bool:
        """Whether frames are ``[B, T, *frame]``."""
        return self.config.batch_first

    def forward(self, frames: Tensor, *, feeding: str | None = None) -> CompositeOutput:
        """Encode the input frames, run the decoders, form the losses.

        Args:
            frames: ``[B, T, *frame]`` (``[T, B, *frame]`` without batch_first). The last ``predict`` of them are
                the future, those before are the input: at least one, and at least ``reconstruct``.
            feeding: what conditional decoders read, ``"teacher"``, ``"own"`` or ``"scheduled"``; default: the
                constructor's in training, ``"own"`` in eval mode.

        Returns:
            A :class:`CompositeOutput`.
        """
        c = self.config
        if feeding is None:
            feeding = c.feeding if self.training else "own"
        choice("lstmrep.CompositeModel", "feeding", feeding, FEEDINGS)
        x, shape = self._flat(frames, "frames", max(1, c.reconstruct) + c.predict)
        split = x.shape[0] - c.predict
        decoders, heads = list(self._decoders()), self._told(split)
        at_once = self._at_once(x, decoders, feeding)
        # The kernels want dense frames for the product that they go into, and again for its gradient.
        _, last = self.encoder(x[:split].contiguous() if at_once else x[:split])
        if at_once:
            loss, losses, made = self._heads_and_losses(x, last, decoders, heads)
        else:
            targets = [head.of(x) for head in heads]
            made = self._decode(decoders, last, targets, feeding)
            losses = [mean_loss(c.output, z, target) for z, target in zip(made, targets, strict=True)]
            parts = [head.weight * one for head, one in zip(heads, losses, strict=True)]
            loss = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        out = CompositeOutput(
            loss=loss,
            reconstruction=None,
            future=None,
            state=last.state(),
            reconstruction_loss=losses[0] if self.reconstruction is not None else None,
            future_loss=losses[-1] if self.future is not None else None,
        )
        for name, decoder, z in (
            ("reconstruction", self.reconstruction, made[0]),
            ("future", self.future, made[-1]),
        ):
            if decoder is None:
                continue
            if torch.compiler.is_compiling():
                setattr(out, name, self._frames(z, shape))
            else:
                out.put_off(name, partial(self._frames, z, shape))
        return out

    def _told(self, split: int) -> list[Head]:
        """What each head tells of a clip whose first ``split`` frames are the input."""
        c = self.config
        heads = []
        if c.reconstruct:
            heads.append(Head(split - 1, -1, c.reconstruct, c.reconstruction_weight))
        if c.predict:
            heads.append(Head(split, 1, c.predict, c.future_weight))
        return heads

    def _at_once(self, x: Tensor, decoders: list[Decoder], feeding: str) -> bool:
        """Whether one op can take the decoders' states to all losses: a kernel runs, and nothing must see its parts."""
        if not runs_frame_loss(self.encoder.weight("weight_hh", 0), self.config.backend):
            return False
        together = len(decoders) == 1 or self._together(decoders)
        free = decoders[0].conditional and feeding != "teacher"
        plain = x.shape[1] > 0 and all(d.plain_head and not d.skipped for d in decoders)
        return together and plain and not free and not x.requires_grad

    def _heads_and_losses(
        self, x: Tensor, last: Layers, decoders: list[Decoder], heads: list[Head]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The weighted loss, each head's, and each head's numbers ``[T_k, B, D]``."""
        steps = [head.frames for head in heads]
        fed = [head.of(x)[:-1] for head in heads] if decoders[0].conditional else []
        h = decode_states(decoders, last, steps, fed)
        assert h is not None
        # Under autocast the states are narrower than the parameters.
        weights = [d.head.weight.to(h.dtype) for d in decoders]
        loss, losses, z = frame_loss(h, weights, [d.head.bias for d in decoders], x, heads, self.config.output)
        return loss, list(losses.unbind(0)), [z[k, :n] for k, n in enumerate(steps)]

    def _frames(self, z: Tensor, shape: torch.Size) -> Tensor:
        return self._shaped(self._activate(z), shape)

    @torch.no_grad()
    def predict(self, frames: Tensor, steps: int | None = None) -> Tensor:
        """The frames that follow, each decoder step reading what the model itself made.

        Args:
            frames: input frames only, ``[B, T, *frame]`` (``[T, B, *frame]``).
            steps: frames to predict, any number; default: the constructor's ``predict``.

        Returns:
            ``[B, steps, *frame]``, without gradient.
        """
        if self.future is None:
            raise ValueError(
                "lstmrep.CompositeModel.predict: the model was built with predict=0 and has no future head."
            )
        steps = self.config.predict if steps is None else count("lstmrep.CompositeModel.predict", "steps", steps, 1)
        x, shape = self._flat(frames, "frames", 1)
        _, last = self.encoder(x)
        z = (
            roll_out(self.future, last, steps)
            if self.future.conditional
            else decode([self.future], last, [steps], [])[0]
        )
        return self._frames(z, shape)

    def encode(self, frames: Tensor, *, step: int | None = None, detach: bool = False) -> State:
        """The encoder's state: the representation that the paper learns.

        Args:
            frames: input frames only, ``[B, T, *frame]`` (``[T, B, *frame]``).
            step: the frame after which to look (negative: from the end); default: the last.
            detach: without gradient.

        Returns:
            h and c of every layer, ``[L, B, H]`` each.
        """
        x, _ = self._flat(frames, "frames", 1)
        if step is not None:
            if not -x.shape[0] <= step < x.shape[0]:
                raise ValueError(
                    f"lstmrep.CompositeModel.encode: argument 'step' is {step}, expected one of {x.shape[0]} frames."
                )
            x = x[: step % x.shape[0] + 1]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
            _, last = run([self.encoder], x, None)
            return last.state()

    def problems(self, batch: int, steps: int) -> list[Problem]:
        """What each call of the op asks for, for ``batch`` sequences of ``steps`` frames; for ``lstmrep.explain``."""
        made = self.encoder.problems(batch, steps - self.config.predict)
        decoders = list(self._decoders())
        frames = [n for n in (self.config.reconstruct, self.config.predict) if n]
        groups = [[0, 1]] if self._together(decoders) else [[k] for k in range(len(decoders))]
        for group in groups:
            runs = max(frames[k] for k in group) - decoders[0].skipped
            if runs:
                made += decoders[group[0]].lstm.problems(batch, runs, len(group))
        return made

    @staticmethod
    def _together(decoders: list[Decoder]) -> bool:
        """Whether both decoders can share each layer's call: they read alike."""
        return len(decoders) == 2 and decoders[0].conditional == decoders[1].conditional

    def _decode(self, decoders: list[Decoder], last: Layers, targets: list[Tensor], feeding: str) -> list[Tensor]:
        """The head's numbers of each decoder, ``[T_k, B, D]``."""
        steps = [t.shape[0] for t in targets]
        if feeding == "teacher" or not any(d.conditional for d in decoders):
            fed = [t[:-1] if d.conditional else t[:0] for d, t in zip(decoders, targets, strict=True)]
            if self._together(decoders):
                return decode(decoders, last, steps, fed)
            return [decode([d], last, [n], [f])[0] for d, n, f in zip(decoders, steps, fed, strict=True)]
        made = []
        for decoder, target in zip(decoders, targets, strict=True):
            n = target.shape[0]
            if not decoder.conditional:
                made.append(decode([decoder], last, [n], [])[0])
                continue
            keep = None
            if feeding == "scheduled":
                drawn = torch.rand(max(n - 1, 0), target.shape[1], 1, device=target.device)
                keep = drawn < self.teacher_probability
            made.append(roll_out(decoder, last, n, target[:-1], keep))
        return made

    def _activate(self, z: Tensor) -> Tensor:
        return OUTPUTS[self.config.output].activation(z)

    def _flat(self, frames: Tensor, name: str, fewest: int) -> tuple[Tensor, torch.Size]:
        """Frames as ``[T, B, D]``, squashed where the output is, and the shape of one frame."""
        c = self.config
        check_frames(type(self).__name__, name, frames, c.input_size, fewest, self.encoder.weight("weight_hh", 0), c)
        x = frames.flatten(2)
        if c.batch_first:
            x = x.transpose(0, 1)
        return (squash(x, c.squash) if c.output == "squash" else x), frames.shape[2:]

    def _shaped(self, frames: Tensor, shape: torch.Size) -> Tensor:
        """``[T, B, D]`` back in the caller's order and frame shape."""
        if self.config.batch_first:
            frames = frames.transpose(0, 1)
        return frames.unflatten(2, shape) if len(shape) > 1 else frames
