"""The composite model in float64 numpy with a gradient written out by hand: an oracle for the torch modules.

Written from the equations of the released code, from nothing in lstmrep: no torch, no automatic differentiation.  It is
slow and small.  Where the released code drops or misplaces a gradient, this is the exact derivative instead: the state
gradient of the encoder is the sum of both decoders', and frames get theirs as inputs, as targets and as fed frames.

``forward`` also takes parameters and frames with leading dimensions (copies of a whole model side by side), which is
how finite differences evaluate many moved models in one call; ``backward`` takes one model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
GATES = ("i", "f", "g", "o")
PEEPHOLES = ("i", "f", "o")


@dataclass(frozen=True)
class Settings:
    """What the model is; names and meanings are those of lstmrep.CompositeModel."""

    num_layers: int = 1
    reconstruct: int = 2
    predict: int = 2
    conditional_reconstruction: bool = False
    conditional_future: bool = False
    handover: str = "step"  # "copy": decoder step 0's state is the encoder's last
    output: str = "bernoulli"  # "gaussian", "relu", "squash"
    cell: str = "tanh"  # "relu"
    peephole: bool = True
    feeding: str = "teacher"  # "own": conditional decoders read their own previous output
    reconstruction_weight: float = 1.0
    future_weight: float = 1.0
    squash: float = 2.0

    def decoders(self) -> list[Decoder]:
        """Those that there are, the reconstruction first."""
        both = [
            Decoder("reconstruction", self.reconstruct, self.conditional_reconstruction, self.reconstruction_weight),
            Decoder("future", self.predict, self.conditional_future, self.future_weight),
        ]
        return [d for d in both if d.steps]

    def target(self, decoder: str, step: int, given: int) -> int:
        """Index of the frame that a decoder's step should give, of ``given`` input frames."""
        return given - 1 - step if decoder == "reconstruction" else given + step

    def fed(self, decoder: str, step: int, given: int) -> int:
        """Index of the true frame that a conditional decoder's step > 0 reads: the target of the step before."""
        return self.target(decoder, step - 1, given)


class Decoder(NamedTuple):
    """One of the two decoders."""

    name: str
    steps: int
    conditional: bool
    weight: float


def shapes(settings: Settings, values: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape, for frames of ``values`` numbers."""
    found = _stack_shapes(settings, "encoder.", values, hidden)
    for decoder in settings.decoders():
        found |= _stack_shapes(settings, f"{decoder.name}.lstm.", values if decoder.conditional else 0, hidden)
        found[f"{decoder.name}.head.weight"] = (values, hidden)
        found[f"{decoder.name}.head.bias"] = (values,)
    return found


def _stack_shapes(settings: Settings, prefix: str, inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for k in range(settings.num_layers):
        columns = hidden if k else inputs
        if columns:
            found[f"{prefix}weight_ih_l{k}"] = (4 * hidden, columns)
        found[f"{prefix}weight_hh_l{k}"] = (4 * hidden, hidden)
        found[f"{prefix}bias_l{k}"] = (4 * hidden,)
        if settings.peephole:
            found |= {f"{prefix}weight_p{gate}_l{k}": (hidden,) for gate in PEEPHOLES}
    return found


def draw(settings: Settings, values: int, hidden: int, seed: int, scale: float = 0.5) -> Arrays:
    """Parameters drawn from U(-scale, scale)."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(-scale, scale, shape) for name, shape in shapes(settings, values, hidden).items()}


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


# One step of one layer ------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What a step of a layer leaves for its gradient."""

    prefix: str
    layer: int
    x: np.ndarray | None
    h_before: np.ndarray
    c_before: np.ndarray
    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray


def cell(
    p: Arrays, prefix: str, layer: int, x: np.ndarray | None, h: np.ndarray, c: np.ndarray, settings: Settings
) -> tuple[np.ndarray, np.ndarray, Step, np.ndarray]:
    """h and c after one step, its record, and the sum inside g, at whose sign the rectified cell has its kink."""
    inside = _times(h, p[f"{prefix}weight_hh_l{layer}"]) + p[f"{prefix}bias_l{layer}"][..., None, :]
    if x is not None:
        inside = inside + _times(x, p[f"{prefix}weight_ih_l{layer}"])
    a = dict(zip(GATES, np.split(inside, 4, axis=-1), strict=True))
    if settings.peephole:
        a["i"] = a["i"] + c * _peephole(p, prefix, "i", layer)
        a["f"] = a["f"] + c * _peephole(p, prefix, "f", layer)
    i, f = sigmoid(a["i"]), sigmoid(a["f"])
    g = np.maximum(a["g"], 0.0) if settings.cell == "relu" else np.tanh(a["g"])
    new = f * c + i * g
    # The output gate sees the new cell state.
    if settings.peephole:
        a["o"] = a["o"] + new * _peephole(p, prefix, "o", layer)
    o = sigmoid(a["o"])
    seen = new if settings.cell == "relu" else np.tanh(new)
    return o * seen, new, Step(prefix, layer, x, h, c, i, f, g, o, new), a["g"]


def cell_gradient(
    p: Arrays, gradients: Arrays, step: Step, dh: np.ndarray, dc: np.ndarray, settings: Settings
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Gradients of x, of h before and of c before; those of the parameters are added to ``gradients``."""
    prefix, layer, x, h, c_before, i, f, g, o, c = step
    rectified = settings.cell == "relu"
    seen = c if rectified else np.tanh(c)
    da = {"o": dh * seen * o * (1.0 - o)}
    dc = dc + (dh * o if rectified else dh * o * (1.0 - seen**2))
    if settings.peephole:
        dc = dc + da["o"] * _peephole(p, prefix, "o", layer)
    da["i"] = dc * g * i * (1.0 - i)
    da["f"] = dc * c_before * f * (1.0 - f)
    da["g"] = dc * i * ((g > 0) if rectified else 1.0 - g**2)
    dc_before = dc * f
    if settings.peephole:
        for gate in ("i", "f"):
            dc_before = dc_before + da[gate] * _peephole(p, prefix, gate, layer)
            gradients[f"{prefix}weight_p{gate}_l{layer}"] += (da[gate] * c_before).sum(0)
        gradients[f"{prefix}weight_po_l{layer}"] += (da["o"] * c).sum(0)
    whole = np.concatenate([da[gate] for gate in GATES], axis=-1)
    gradients[f"{prefix}weight_hh_l{layer}"] += whole.T @ h
    gradients[f"{prefix}bias_l{layer}"] += whole.sum(0)
    dx = None
    if x is not None:
        gradients[f"{prefix}weight_ih_l{layer}"] += whole.T @ x
        dx = whole @ p[f"{prefix}weight_ih_l{layer}"]
    return dx, whole @ p[f"{prefix}weight_hh_l{layer}"], dc_before


def _times(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return x @ w.swapaxes(-1, -2)


def _peephole(p: Arrays, prefix: str, gate: str, layer: int) -> np.ndarray:
    return p[f"{prefix}weight_p{gate}_l{layer}"][..., None, :]


# A whole model --------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """One pass through a stack: by step the records of its layers, and the sums at which something has its kink."""

    steps: list[list[Step]]
    kinks: list[np.ndarray]


def _stack_step(
    p: Arrays, prefix: str, x: np.ndarray | None, state: list[tuple[np.ndarray, np.ndarray]], s: Settings, run: Run
) -> list[tuple[np.ndarray, np.ndarray]]:
    """States of all layers after one step; each layer above the first reads the h just made below it."""
    after, records = [], []
    for k in range(s.num_layers):
        h, c, record, kink = cell(p, prefix, k, x, *state[k], s)
        after.append((h, c))
        records.append(record)
        if s.cell == "relu":
            run.kinks.append(kink)
        x = h
    run.steps.append(records)
    return after


def forward(parameters: Arrays, frames: np.ndarray, settings: Settings) -> dict[str, Any]:
    """Run the model.

    Args:
        parameters: by the names of the state_dict, float64, each with the same leading dimensions (usually none).
        frames: ``[B, T, D]``, the last ``predict`` of them the future; leading dimensions as above.
        settings: what the model is.

    Returns:
        ``reconstruction`` ``[B, Tr, D]`` in decode order and ``future`` ``[B, Tf, D]`` (none where the decoder is not
        there), their ``_logits``, ``reconstruction_loss``, ``future_loss``, ``loss``, ``state`` (h, c) each
        ``[L, B, H]``, ``kinks`` (numbers whose sign chooses a branch) and ``runs`` for ``backward``.
    """
    s, p = settings, parameters
    seen = 2.0 * sigmoid(s.squash * frames) - 1.0 if s.output == "squash" else frames
    given = frames.shape[-2] - s.predict
    zero = np.zeros((*frames.shape[:-3], frames.shape[-3], p["encoder.weight_hh_l0"].shape[-1]))
    state = [(zero, zero)] * s.num_layers
    encoder = Run([], [])
    for t in range(given):
        state = _stack_step(p, "encoder.", seen[..., t, :], state, s, encoder)
    out: dict[str, Any] = {
        "state": (np.stack([h for h, _ in state], -3), np.stack([c for _, c in state], -3)),
        "loss": 0.0,
        "runs": {"encoder": encoder},
        "kinks": list(encoder.kinks),
        "seen": seen,
    }
    for name in ("reconstruction", "future"):
        out |= {name: None, f"{name}_logits": None, f"{name}_loss": None}
    for decoder in s.decoders():
        run = Run([], [])
        logits = _decode(p, decoder, seen, given, state, s, run)
        targets = np.stack([seen[..., s.target(decoder.name, t, given), :] for t in range(decoder.steps)], -2)
        loss = _loss(logits, targets, s).sum((-1, -2, -3)) / (decoder.steps * frames.shape[-3])
        out |= {decoder.name: _shown(logits, s), f"{decoder.name}_logits": logits, f"{decoder.name}_loss": loss}
        out["loss"] = out["loss"] + decoder.weight * loss
        out["runs"][decoder.name] = run
        out["kinks"] += [*run.kinks, *([logits] if s.output == "relu" else [])]
    return out


def _decode(
    p: Arrays,
    decoder: Decoder,
    seen: np.ndarray,
    given: int,
    state: list[tuple[np.ndarray, np.ndarray]],
    s: Settings,
    run: Run,
) -> np.ndarray:
    """What the head gives at each step, before the non-linearity."""
    made: list[np.ndarray] = []
    for t in range(decoder.steps):
        x = None
        if decoder.conditional and t > 0:
            x = _shown(made[-1], s) if s.feeding == "own" else seen[..., s.fed(decoder.name, t, given), :]
        if s.handover == "copy" and t == 0:
            run.steps.append([])
        else:
            state = _stack_step(p, f"{decoder.name}.lstm.", x, state, s, run)
        top = state[-1][0]
        made.append(_times(top, p[f"{decoder.name}.head.weight"]) + p[f"{decoder.name}.head.bias"][..., None, :])
    return np.stack(made, -2)


def _shown(logits: np.ndarray, s: Settings) -> np.ndarray:
    if s.output == "gaussian":
        return logits
    return np.maximum(logits, 0.0) if s.output == "relu" else sigmoid(logits)


def _shown_slope(logits: np.ndarray, s: Settings) -> np.ndarray | float:
    if s.output == "gaussian":
        return 1.0
    if s.output == "relu":
        return (logits > 0).astype(logits.dtype)
    return sigmoid(logits) * (1.0 - sigmoid(logits))


def _is_probability(s: Settings) -> bool:
    return s.output in ("bernoulli", "squash")


def _loss(logits: np.ndarray, targets: np.ndarray, s: Settings) -> np.ndarray:
    """By value: cross-entropy -y log(sigma) - (1 - y) log(1 - sigma) from logits, or half the squared difference."""
    if _is_probability(s):
        return np.maximum(logits, 0.0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return 0.5 * (_shown(logits, s) - targets) ** 2


def _loss_gradient(logits: np.ndarray, targets: np.ndarray, s: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Of ``_loss`` by the logits and by the targets."""
    if _is_probability(s):
        return sigmoid(logits) - targets, -logits
    difference = _shown(logits, s) - targets
    return difference * _shown_slope(logits, s), -difference


def backward(parameters: Arrays, frames: np.ndarray, settings: Settings) -> tuple[Arrays, np.ndarray]:
    """Gradient of ``forward``'s total loss.

    Args:
        parameters, frames, settings: as in ``forward``, of one model.

    Returns:
        By every parameter, under the same names, and by the frames ``[B, T, D]``: as the encoder's input, as targets
        and as frames fed to the decoders.
    """
    s, p = settings, parameters
    out = forward(p, frames, s)
    given = frames.shape[1] - s.predict
    gradients = {name: np.zeros_like(value) for name, value in p.items()}
    d_seen = np.zeros_like(frames)
    dh, dc = (np.zeros_like(half) for half in out["state"])
    for decoder in s.decoders():
        dh_decoder, dc_decoder = _decode_gradient(p, gradients, decoder, out, d_seen, given, s)
        dh = dh + dh_decoder
        dc = dc + dc_decoder
    for t in reversed(range(given)):
        dx, dh, dc = _stack_gradient(p, gradients, out["runs"]["encoder"].steps[t], dh, dc, s)
        d_seen[:, t] += dx
    if s.output == "squash":
        # seen = 2 sigma(s x) - 1, so its slope is 2 s sigma (1 - sigma) = s (1 - seen^2) / 2.
        d_seen = d_seen * s.squash * (1.0 - out["seen"] ** 2) / 2.0
    return gradients, d_seen


def _decode_gradient(
    p: Arrays, gradients: Arrays, decoder: Decoder, out: dict[str, Any], d_seen: np.ndarray, given: int, s: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the state that the decoder starts from; what frames get is added to ``d_seen``."""
    name, run = decoder.name, out["runs"][decoder.name]
    logits, head = out[f"{name}_logits"], p[f"{name}.head.weight"]
    h_encoder = out["state"][0]
    share = decoder.weight / (decoder.steps * logits.shape[0])
    dh, dc = np.zeros_like(h_encoder), np.zeros_like(h_encoder)
    dx: np.ndarray | None = None  # of the frame that the step after read
    for t in reversed(range(decoder.steps)):
        target = s.target(name, t, given)
        d_logits, d_target = _loss_gradient(logits[:, t], out["seen"][:, target], s)
        d_logits = d_logits * share
        d_seen[:, target] += d_target * share
        if dx is not None:
            if s.feeding == "own":
                d_logits = d_logits + dx * _shown_slope(logits[:, t], s)
            else:
                d_seen[:, s.fed(name, t + 1, given)] += dx
        steps = run.steps[t]
        top = steps[-1].o * (steps[-1].c if s.cell == "relu" else np.tanh(steps[-1].c)) if steps else h_encoder[-1]
        gradients[f"{name}.head.weight"] += d_logits.T @ top
        gradients[f"{name}.head.bias"] += d_logits.sum(0)
        dh[-1] += d_logits @ head
        dx = None
        if steps:
            dx, dh, dc = _stack_gradient(p, gradients, steps, dh, dc, s)
    return dh, dc


def _stack_gradient(
    p: Arrays, gradients: Arrays, steps: list[Step], dh: np.ndarray, dc: np.ndarray, s: Settings
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """One step of all layers, from the top: gradients of the bottom's x, and of all h and c before."""
    dh_before, dc_before = np.zeros_like(dh), np.zeros_like(dc)
    dx: np.ndarray | None = None
    for k in reversed(range(s.num_layers)):
        from_above = dh[k] if dx is None else dh[k] + dx
        dx, dh_before[k], dc_before[k] = cell_gradient(p, gradients, steps[k], from_above, dc[k], s)
    return dx, dh_before, dc_before
