"""The roll-out that shows its gates is the model's own, and its gates are those of the equations."""

import numpy as np
import pytest
import torch

import lstmrep
from lstmrep.figures import activity
from lstmrep.figures.activity import strongest_period
from lstmrep.nn.decoder import decode_states
from lstmrep.nn.stack import run

VARIANTS = [
    {},
    {"num_layers": 2},
    {"conditional_future": True},
    {"conditional_future": True, "num_layers": 3},
    {"handover": "copy", "num_layers": 2},
    {"handover": "copy", "conditional_future": True},
    {"peephole": False, "conditional_future": True},
    {"cell": "relu", "output": "gaussian", "conditional_future": True},
    {"output": "squash", "conditional_future": True, "reconstruct": 0},
    {"batch_first": False, "conditional_future": True},
]


def model_of(**options):
    torch.manual_seed(3)
    made = lstmrep.CompositeModel(12, 7, **{"reconstruct": 2, "predict": 3, **options}).eval()
    for parameter in made.parameters():  # large enough that every term is seen
        parameter.data *= 3
    return made


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_frames_are_those_of_predict(options):
    model = model_of(**options).double()
    frames = torch.rand(5, 4, 1, 3, 4, dtype=torch.float64)
    frames = frames if model.batch_first else frames.transpose(0, 1)
    found = activity(model, frames, 9)
    steps = len(found.frames)
    assert steps == 9 + (options.get("handover") == "copy") and found.h.shape == (9, 5, 7)
    predicted = model.predict(frames, steps)
    torch.testing.assert_close(found.frames, predicted.transpose(0, 1) if model.batch_first else predicted)
    made = model.future.activation(model.future.head(found.h)).unflatten(2, (1, 3, 4))
    torch.testing.assert_close(made, found.frames[-9:])


@pytest.mark.parametrize("handover", ["step", "copy"])
@pytest.mark.parametrize("layers", [1, 2])
def test_h_is_that_of_decode(layers, handover):
    model = model_of(num_layers=layers, handover=handover)
    frames = torch.rand(5, 4, 1, 3, 4)
    with torch.no_grad():
        _, last = run([model.encoder], frames.flatten(2).transpose(0, 1), None)
        h = decode_states([model.future], last, [9 + model.future.skipped], [])
    torch.testing.assert_close(activity(model, frames, 9).h, h[0])


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("layer", [0, 1])
def test_gates_are_those_of_the_equations(layer, conditional):
    """Written out in numpy, float64, from the state before and what the layer reads."""
    model = model_of(num_layers=2, conditional_future=conditional).double()
    frames = torch.rand(5, 4, 1, 3, 4, dtype=torch.float64)
    below, found = activity(model, frames, 6, layer=0), activity(model, frames, 6, layer=layer)
    start = model.encode(frames, detach=True)
    weights = {
        name.removesuffix(f"_l{layer}"): p.detach().numpy()
        for name, p in model.future.lstm.named_parameters()
        if name.endswith(f"_l{layer}")
    }
    a = {name: getattr(found, name).numpy() for name in "ifgoch"}
    h, c = start.h[layer].numpy(), start.c[layer].numpy()
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    for t in range(6):
        pre = h @ weights["weight_hh"].T + weights["bias"]
        if layer == 1:
            pre = pre + below.h[t].numpy() @ weights["weight_ih"].T
        elif conditional and t:
            pre = pre + found.frames[t - 1].flatten(1).numpy() @ weights["weight_ih"].T
        z_i, z_f, z_g, z_o = np.split(pre, 4, axis=1)
        expected = {
            "i": sigmoid(z_i + weights["weight_pi"] * c),
            "f": sigmoid(z_f + weights["weight_pf"] * c),
            "g": np.tanh(z_g),
        }
        expected["c"] = expected["f"] * c + expected["i"] * expected["g"]
        expected["o"] = sigmoid(z_o + weights["weight_po"] * expected["c"])
        expected["h"] = expected["o"] * np.tanh(expected["c"])
        for name, value in expected.items():
            torch.testing.assert_close(torch.from_numpy(a[name][t]), torch.from_numpy(value), msg=f"{name} at {t}")
        h, c = a["h"][t], a["c"][t]


def test_change_is_the_mean_difference():
    found = activity(model_of(), torch.rand(5, 4, 1, 3, 4), 6)
    by_hand = [float((found.h[t] - found.h[t - 1]).double().abs().mean()) for t in range(1, 6)]
    torch.testing.assert_close(found.change(), torch.tensor(by_hand, dtype=torch.float64), check_stride=False)


def test_periods_of_waves():
    t = np.arange(100)[:, None]
    waves = np.concatenate([np.sin(2 * np.pi * t / p) for p in (50, 20, 10)] + [np.full((100, 1), 0.1)], axis=1)
    waves = np.concatenate([waves, waves[:, :1] + 2 * waves[:, 1:2]], axis=1).astype(np.float32)
    period, share = strongest_period(waves)
    assert period.tolist()[:3] == [50, 20, 10] and np.isnan(period[3]) and period[4] == 20
    torch.testing.assert_close(torch.from_numpy(share).float(), torch.tensor([1, 1, 1, 0, 0.8]))


def test_errors():
    frames = torch.rand(5, 4, 1, 3, 4)
    with pytest.raises(ValueError, match="predict=0 and has no future head"):
        activity(model_of(predict=0), frames, 3)
    with pytest.raises(ValueError, match="argument 'steps' is 0, expected 1 or more"):
        activity(model_of(), frames, 0)
    with pytest.raises(ValueError, match="argument 'layer' is 1, the model has 1; pass 0 to 0"):
        activity(model_of(), frames, 3, layer=1)
    with pytest.raises(ValueError, match="a spectrum of 1 steps"):
        strongest_period(np.zeros((1, 3)))
