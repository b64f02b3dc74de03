"""The numpy oracle itself: its gradient against finite differences, its cell against torch, its hand-over and feeding.

Finite differences.  Along a direction v, D(h) = (L(w + h v) - L(w - h v)) / 2h is the derivative plus a h^2 + b h^4 and
so on.  Two of them extrapolated, R(h) = (4 D(h/2) - D(h)) / 3, are off by some c h^4; so R(h) - R(h/2) is 15 times the
error of R(h/2), to leading order, and stands for it with that much to spare.  To it comes rounding: where L is off by
at most r, D(h) is off by r/h, hence R(h/2) by at most (4 r/(h/4) + r/(h/2)) / 3 = 6 r/h.

r: a sum of n terms of one size is off by at most n roundings of it, and each number on the way from the inputs to the
loss is one of ``roundings`` operations of one rounding each.  The cells do not amplify: gates are below one, the
weights drawn here below a half.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy_composite import GATES, PEEPHOLES, Settings, backward, draw, forward, shapes, sigmoid

from lstmrep.testing import assert_within, budget, moved

B, D, H = 2, 3, 2
GIVEN = 3
# A power of two, so that moved weights differ by it up to one rounding. Its fourth power is below the rounding of L.
STEP = 2.0**-7
# Derivatives here are some 0.01 to 1. A bound near their size would accept anything.
WIDEST = 1e-6
EPS = np.finfo(np.float64).eps

DECODERS = [
    {"reconstruct": r, "predict": p, "conditional_reconstruction": cr, "conditional_future": cf, "feeding": feeding}
    for r, p in ((3, 2), (2, 0), (0, 3))
    for cr, cf in itertools.product((False, True), repeat=2)
    for feeding in ("teacher", "own")
    if (r or not cr) and (p or not cf) and (cr or cf or feeding == "teacher")
]
OUTPUTS = ("bernoulli", "gaussian", "relu", "squash")


def _case(settings, seed):
    """Parameters and frames in [0, 1]; for squash, which takes features of any size, in [0, 2]."""
    rng = np.random.default_rng(1000 + seed)
    frames = rng.uniform(0.0, 2.0 if settings.output == "squash" else 1.0, (B, GIVEN + settings.predict, D))
    return draw(settings, D, H, seed), frames


def _roundings(settings):
    """Operations, each of one rounding, on the longest way from a weight to the loss."""
    steps = settings.num_layers * (GIVEN + max(settings.reconstruct, settings.predict))
    terms = B * D * max(settings.reconstruct, settings.predict)
    # A cell: two sums over H or D, and some twenty operations on elements; fed-back frames pass a head as well.
    return steps * (H + D + H + 20) + terms + 20


def _moves(value, name, directions):
    """The four moves +-h, +-h/2 and the next level's +-h/4 along each direction, as copies of ``value``."""
    lengths = STEP * np.array([1.0, -1.0, 0.5, -0.5, 0.25, -0.25])
    copies = np.broadcast_to(value, (len(directions), len(lengths), *value.shape)).copy()
    for k, direction in enumerate(directions):
        if name in direction:
            copies[k] += np.multiply.outer(lengths, direction[name])
    return copies.reshape(-1, *value.shape)


def _differences(settings, parameters, frames, directions):
    """Extrapolated derivative along each direction, and what it may be off by; none where a kink was crossed."""
    copies = {name: _moves(value, name, directions) for name, value in parameters.items()}
    out = forward(copies, _moves(frames, "frames", directions), settings)
    if any((np.sign(k) != np.sign(k[0])).any() for k in out["kinks"]):
        return None
    losses = out["loss"].reshape(-1, 3, 2)
    d = (losses[..., 0] - losses[..., 1]) / (2 * STEP * np.array([1.0, 0.5, 0.25]))
    coarse, fine = (4 * d[:, 1] - d[:, 0]) / 3, (4 * d[:, 2] - d[:, 1]) / 3
    r = EPS * _roundings(settings) * np.abs(losses).max()
    return fine, np.abs(fine - coarse) + 6 * r / STEP


def _check(settings, directions_of):
    """Backward against differences along ``directions_of(parameters, frames)``, at the first draw without a kink."""
    for seed in range(40):
        parameters, frames = _case(settings, seed)
        directions = directions_of(parameters, frames)
        found = _differences(settings, parameters, frames, directions)
        if found is not None:
            break
    else:
        pytest.fail(f"every draw crosses a kink: {settings}")
    gradients, d_frames = backward(parameters, frames, settings)
    assert gradients.keys() == parameters.keys()
    every = {**gradients, "frames": d_frames}
    largest = 0.0
    for direction, truth, allowed in zip(directions, *found, strict=True):
        got = sum((every[name] * part).sum() for name, part in direction.items())
        assert not abs(got - truth) > allowed, (settings, list(direction), got, truth, allowed)
        largest = max(largest, abs(truth))
        assert allowed < WIDEST, (settings, list(direction), allowed)
    assert largest > 1e4 * WIDEST, settings


def _by_tensor(parameters, frames):
    """One random direction of length 1 for every tensor on its own."""
    rng = np.random.default_rng(7)
    found = []
    for name, value in {**parameters, "frames": frames}.items():
        v = rng.standard_normal(value.shape)
        found.append({name: v / np.linalg.norm(v)})
    return found


def _by_element(parameters, frames):
    """Every element of every tensor on its own."""
    found = []
    for name, value in {**parameters, "frames": frames}.items():
        for k in range(value.size):
            v = np.zeros(value.size)
            v[k] = 1.0
            found.append({name: v.reshape(value.shape)})
    return found


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("cell", ["tanh", "relu"])
def test_gradient_of_every_tensor_in_every_combination(num_layers, output, cell):
    assert len(DECODERS) == 13
    for decoders, peephole, handover in itertools.product(DECODERS, (True, False), ("step", "copy")):
        options = {"peephole": peephole, "handover": handover, "output": output, "cell": cell, **decoders}
        settings = Settings(num_layers, reconstruction_weight=0.7, future_weight=1.3, squash=1.5, **options)
        _check(settings, _by_tensor)


@pytest.mark.parametrize("handover", ["step", "copy"])
@pytest.mark.parametrize("feeding", ["teacher", "own"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_gradient_of_every_element(handover, feeding, output):
    both = {"conditional_reconstruction": True, "conditional_future": True}
    _check(Settings(2, 3, 2, **both, handover=handover, feeding=feeding, output=output), _by_element)


def test_a_wrong_gradient_is_seen():
    """The check's own check: with one decoder's share of the state gradient dropped, it fails."""
    both = Settings(1, 3, 2)
    parameters, frames = _case(both, 0)
    kept, _ = backward(parameters, frames, replace(both, reconstruction_weight=0.0))
    whole, _ = backward(parameters, frames, both)
    directions = _by_tensor(parameters, frames)
    truth, allowed = _differences(both, parameters, frames, directions)
    for direction, t, a in zip(directions, truth, allowed, strict=True):
        (name,) = direction
        if name.startswith("encoder."):
            assert abs((whole[name] * direction[name]).sum() - t) <= a
            assert abs((kept[name] * direction[name]).sum() - t) > a


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("steps", [1, 4])
def test_encoder_is_torchs_lstm_without_peepholes(num_layers, steps):
    settings = Settings(num_layers, reconstruct=1, predict=0)
    parameters = draw(settings, D, H, 3)
    for name in parameters:
        if "weight_p" in name:
            parameters[name][:] = 0.0
    # Representable in float32, in which the budget runs torch.
    parameters = {name: value.astype(np.float32).astype(np.float64) for name, value in parameters.items()}
    frames = np.random.default_rng(4).random((B, steps, D), np.float32).astype(np.float64)

    def by_torch(dtype, order):
        module = torch.nn.LSTM(D, H, num_layers, batch_first=True, dtype=dtype)
        with torch.no_grad():
            for k in range(num_layers):
                for role in ("weight_ih", "weight_hh", "bias"):
                    value = moved(torch.from_numpy(parameters[f"encoder.{role}_l{k}"]), dtype, order)
                    getattr(module, f"{role}_ih_l{k}" if role == "bias" else f"{role}_l{k}").copy_(value)
                getattr(module, f"bias_hh_l{k}").zero_()
            h, c = module(moved(torch.from_numpy(frames), dtype, order))[1]
        return {"h": h, "c": c}

    h, c = forward(parameters, frames, settings)["state"]
    got = {"h": torch.from_numpy(h), "c": torch.from_numpy(c)}
    assert_within(got, budget(by_torch, torch.float64))


def test_peepholes_see_the_states_that_the_paper_says():
    """Input and forget gates see the cell before the step, the output gate the one after it: one unit, by hand."""
    settings = Settings(1, reconstruct=1, predict=0)
    p = draw(settings, 1, 1, 5)
    frames = np.array([[[0.25], [0.75]]])
    w, u, b = (p[f"encoder.{role}_l0"].ravel() for role in ("weight_ih", "weight_hh", "bias"))
    pi, pf, po = (p[f"encoder.weight_p{gate}_l0"].item() for gate in PEEPHOLES)
    h = c = 0.0
    for x in frames.ravel():
        a = dict(zip(GATES, w * x + u * h + b, strict=True))
        new = sigmoid(a["f"] + pf * c) * c + sigmoid(a["i"] + pi * c) * np.tanh(a["g"])
        h, c = sigmoid(a["o"] + po * new) * np.tanh(new), new
    got = np.array([half.item() for half in forward(p, frames, settings)["state"]])
    # Two steps of some ten operations on numbers below one, each summed in another order there.
    assert np.abs(got - [h, c]).max() <= 2 * 10 * EPS


@pytest.mark.parametrize("output", OUTPUTS)
def test_reversed_and_plain_targets_coincide_for_a_palindrome(output):
    settings = Settings(2, reconstruct=4, predict=0, output=output, conditional_reconstruction=True)
    rng = np.random.default_rng(6)
    half = rng.random((B, 2, D))
    palindrome = np.concatenate([half, half[:, ::-1]], 1)
    parameters = draw(settings, D, H, 6)
    plain = np.concatenate([half, rng.random((B, 2, D))], 1)
    for frames, same in ((palindrome, True), (plain, False)):
        out = forward(parameters, frames, settings)
        in_time_order = _loss_by_hand(out["reconstruction_logits"], out["seen"], settings)
        reversed_order = _loss_by_hand(out["reconstruction_logits"], out["seen"][:, ::-1], settings)
        assert bool(in_time_order == reversed_order) is same
        assert abs(reversed_order - out["reconstruction_loss"]) <= B * 4 * D * EPS * reversed_order
        assert out["loss"] == out["reconstruction_loss"]


def _loss_by_hand(logits, targets, settings):
    """The formulas of the paper, from probabilities: logits drawn here are small, so nothing cancels."""
    y = sigmoid(logits)
    if settings.output in ("bernoulli", "squash"):
        values = -targets * np.log(y) - (1 - targets) * np.log(1 - y)
    else:
        made = logits if settings.output == "gaussian" else np.maximum(logits, 0)
        values = (made - targets) ** 2 / 2
    return values.sum(-1).mean()


def test_squash_of_two_is_tanh():
    settings = Settings(output="squash")
    parameters, frames = _case(settings, 8)
    seen = forward(parameters, frames, settings)["seen"]
    # One exponential, one quotient, one difference of numbers up to two.
    assert np.abs(seen - np.tanh(frames)).max() <= 2 * 4 * EPS


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("conditional", [False, True])
def test_handover(num_layers, conditional):
    settings = Settings(num_layers, 2, 2, conditional_reconstruction=conditional, conditional_future=conditional)
    parameters, frames = _case(settings, 9)
    copied = forward(parameters, frames, replace(settings, handover="copy"))
    stepped = forward(parameters, frames, settings)
    for name in ("reconstruction", "future"):
        weight, bias = parameters[f"{name}.head.weight"], parameters[f"{name}.head.bias"]
        read = copied["state"][0][-1] @ weight.T + bias
        assert np.array_equal(copied[f"{name}_logits"][:, 0], read)
        assert not np.array_equal(stepped[f"{name}_logits"][:, 0], read)
        assert [len(steps) for steps in copied["runs"][name].steps] == [0, num_layers]
        assert [len(steps) for steps in stepped["runs"][name].steps] == [num_layers, num_layers]
        first = stepped["runs"][name].steps[0]
        assert first[0].x is None
        assert all(np.array_equal(step.h_before, h) for step, h in zip(first, stepped["state"][0], strict=True))
        assert all(step.x is not None for step in first[1:])
        assert (stepped["runs"][name].steps[1][0].x is not None) is conditional


@pytest.mark.parametrize("feeding", ["teacher", "own"])
@pytest.mark.parametrize("output", ["bernoulli", "relu"])
def test_what_a_conditional_decoder_reads(feeding, output):
    both = {"conditional_reconstruction": True, "conditional_future": True}
    settings = Settings(1, 3, 3, **both, feeding=feeding, output=output)
    parameters, frames = _case(settings, 10)
    out = forward(parameters, frames, settings)
    expected = {"reconstruction": [frames[:, 2], frames[:, 1]], "future": [frames[:, 3], frames[:, 4]]}
    for name, true in expected.items():
        read = [steps[0].x for steps in out["runs"][name].steps[1:]]
        want = true if feeding == "teacher" else [out[name][:, 0], out[name][:, 1]]
        assert all(np.array_equal(a, b) for a, b in zip(read, want, strict=True))
    noise = frames.copy()
    noise[:, GIVEN:] = np.random.default_rng(11).random(noise[:, GIVEN:].shape)
    assert np.array_equal(forward(parameters, noise, settings)["future"], out["future"]) is (feeding == "own")


def test_names_and_counts():
    plain = Settings(2, 10, 10)
    fed = replace(plain, conditional_reconstruction=True, conditional_future=True)

    def count(settings, values, hidden):
        return sum(int(np.prod(shape)) for shape in shapes(settings, values, hidden).values())

    assert "reconstruction.lstm.weight_ih_l0" not in shapes(plain, D, H)
    assert count(fed, D, H) - count(plain, D, H) == 2 * 4 * H * D
    assert count(replace(fed, num_layers=1), 4096, 2048) == 167_823_360
    assert count(fed, 4096, 2048) == 268_529_664
    assert count(replace(fed, num_layers=1), 3072, 2048) == 138_461_184
    assert count(replace(plain, reconstruct=0), 4096, 2048) == 142_667_776
