"""Update rules against hand computations in float64, state round trips, groups, the building by name."""

import numpy as np
import pytest
import torch
from torch import nn

import lstmrep
from lstmrep.nn.composite import CompositeModel
from lstmrep.train import OptimizerConfig, VelocityRMSProp, VelocitySGD, optimizers

STEPS, N = 7, 50
LR, M, WD, CLIP, SCALE, DECAY = 0.05, 0.9, 0.01, 0.03, 2.0, 0.95


def _by_hand(w, gradients, clip, rms):
    v, r = np.zeros_like(w), np.ones_like(w)
    most = 0.0
    for g in gradients:
        d = SCALE * g + WD * w
        if rms:
            r = np.sqrt(DECAY * r**2 + (1 - DECAY) * d**2)
            d = d / r
        v = M * v - LR * d
        most = max(most, np.abs(v).max(), np.abs(d).max(), np.abs(w).max())
        if clip:
            v = np.clip(v, -clip, clip)
        w = w + v
    # Less than 16 roundings a step of numbers up to `most`; what they change in r lasts for all later steps, in v for
    # 1 / (1 - M) steps.
    return w, v, most * 16 * STEPS**2 / (1 - M) * np.finfo(np.float64).eps


@pytest.mark.parametrize("clip", [0.0, CLIP])
@pytest.mark.parametrize("kind", [VelocitySGD, VelocityRMSProp])
def test_updates_equal_a_hand_computation(kind, clip):
    rng = np.random.default_rng(3)
    start, gradients = rng.normal(size=N), rng.normal(size=(STEPS, N))
    w = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = kind([w], LR, momentum=M, weight_decay=WD, clip=clip, gradient_scale=SCALE)
    for g in gradients:
        w.grad = torch.from_numpy(g.copy())
        optimizer.step()
    expected, velocity, bound = _by_hand(start, gradients, clip, kind is VelocityRMSProp)
    assert np.abs(w.detach().numpy() - expected).max() <= bound
    got = optimizer.state[w]["velocity"].numpy()
    assert np.abs(got - velocity).max() <= bound
    if clip:
        assert np.abs(got).max() == clip, "the clip acted"


def test_the_clip_is_on_the_velocity_not_on_the_gradient():
    w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = VelocitySGD([w], 1.0, momentum=0.5, clip=1.0)
    for g, expected in (([-8.0, 0.25], [1.0, -0.25]), ([0.0, 0.0], [1.5, -0.375])):
        w.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        assert w.tolist() == expected


@pytest.mark.parametrize("kind", [VelocitySGD, VelocityRMSProp])
def test_state_round_trips(kind):
    def run(split: bool) -> torch.Tensor:
        w = nn.Parameter(torch.linspace(-1, 1, N))
        optimizer = kind([w], LR, clip=CLIP)
        for k in range(4):
            if split and k == 2:
                state = optimizer.state_dict()
                w = nn.Parameter(w.detach().clone())
                optimizer = kind([w], 1.0)
                optimizer.load_state_dict(state)
            w.grad = torch.cos(w.detach() * k)
            optimizer.step(lambda: None)
        return w.detach()

    assert torch.equal(run(True), run(False))


def test_biases_do_not_decay():
    model = lstmrep.LSTM(3, 4, peephole=True)
    decayed, free = optimizers.parameter_groups(model, WD)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in free["params"]} == {"bias_ih_l0", "bias_hh_l0"}
    assert {"weight_pi_l0", "weight_ih_l0"} <= {names[id(p)] for p in decayed["params"]}
    assert (decayed["weight_decay"], free["weight_decay"]) == (WD, 0.0)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizers.build(OptimizerConfig(name="velocity_sgd", lr=1.0, weight_decay=WD), model).step()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith("bias"), name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("rmsprop", torch.optim.RMSprop),
        ("sgd", torch.optim.SGD),
        ("velocity_sgd", VelocitySGD),
        ("velocity_rmsprop", VelocityRMSProp),
    ],
)
def test_every_name_builds_and_learns(name, kind):
    model = nn.Linear(3, 1)
    optimizer = optimizers.build(OptimizerConfig(name=name, lr=0.01, weight_decay=WD), model)
    assert type(optimizer) is kind
    assert [g["weight_decay"] for g in optimizer.param_groups] == [WD, 0.0]
    x = torch.randn(16, 3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_mean_loss_times_batch_and_frames_has_the_summed_gradient():
    """What docs/training.md says of gradient_scale, on a composite model with as many frames in both heads."""
    model = CompositeModel(4, 3, reconstruct=2, predict=2, dtype=torch.float64)
    frames = torch.rand(5, 4, 4, dtype=torch.float64)
    out = model(frames)
    out.loss.backward()
    scaled = {n: p.grad * (5 * 2) for n, p in model.named_parameters()}
    model.zero_grad()
    for clip in frames[:, None]:
        out = model(clip)
        for made, target in ((out.reconstruction, clip[:, :2].flip(1)), (out.future, clip[:, 2:])):
            nn.functional.binary_cross_entropy(made, target, reduction="sum").backward(retain_graph=True)
    for name, p in model.named_parameters():
        # A sum of 5 clips * 2 heads * 2 frames * 4 values, each through a few dozen operations.
        bound = 80 * 100 * torch.finfo(torch.float64).eps * max(1.0, float(p.grad.abs().max()))
        assert float((p.grad - scaled[name]).abs().max()) <= bound, name


@pytest.mark.parametrize(
    ("match", "make"),
    [
        ("argument 'momentum' is 1.0, expected 0 or more and less than 1", lambda p: VelocitySGD(p, 0.1, 1.0)),
        ("argument 'lr' is nan, expected a finite number", lambda p: VelocitySGD(p, float("nan"))),
        ("argument 'clip' is -1, expected", lambda p: VelocityRMSProp(p, 0.1, clip=-1)),
    ],
)
def test_wrong_arguments(match, make):
    with pytest.raises(ValueError, match=match):
        make([nn.Parameter(torch.zeros(1))])


def test_what_cannot_be_built():
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"velocity_clip acts on velocity_sgd.*'adam'; leave it at 0.0"):
        optimizers.build(OptimizerConfig(velocity_clip=0.1), model)
    with pytest.raises(ValueError, match="no parameter of the model asks for a gradient"):
        optimizers.build(OptimizerConfig(), model.requires_grad_(False))
