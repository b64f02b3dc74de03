"""The composite model against the independent numpy model: outputs, losses, states, every gradient.

The reference backend must agree in float64 to its rounding, the others within the budget of their precision, for all
combinations of depth, conditioning, hand-over, output and heads. Budgets come from runs of the reference backend in
float32, whose own errors count; float64's are those times the ratio of the two precisions.
"""

import itertools

import numpy as np
import numpy_composite as oracle
import pytest
import torch

import lstmrep
from lstmrep.testing import Budget, assert_within, budget, moved

B, D, H, GIVEN = 3, 5, 4, 3
HEADS = {"both": (3, 3), "unequal": (2, 3), "reconstruction": (3, 0), "future": (0, 3)}
CONDITIONS = list(itertools.product([False, True], [False, True]))

# Each names what differs from the plain model; the first set is the whole product.
CASES = [
    oracle.Settings(
        num_layers=layers,
        conditional_reconstruction=condition[0],
        conditional_future=condition[1],
        handover=handover,
        output=output,
        reconstruct=heads[0],
        predict=heads[1],
        reconstruction_weight=0.5,
        future_weight=2.0,
    )
    for layers, condition, handover, output, heads in itertools.product(
        (1, 2), CONDITIONS, ("step", "copy"), ("bernoulli", "gaussian", "relu", "squash"), HEADS.values()
    )
    # A head that is not there is not conditional.
    if all(steps or not flag for steps, flag in zip(heads, condition, strict=True))
]
CASES += [
    oracle.Settings(
        num_layers=layers,
        conditional_reconstruction=condition[0],
        conditional_future=condition[1],
        handover=handover,
        output=output,
        reconstruct=2,
        predict=3,
        feeding="own",
    )
    for layers, condition, handover, output in itertools.product(
        (1, 2), CONDITIONS[1:], ("step", "copy"), ("bernoulli", "gaussian")
    )
]
CASES += [
    oracle.Settings(num_layers=2, cell=cell, peephole=peephole, conditional_future=True)
    for cell, peephole in (("relu", True), ("tanh", False))
]


def name(s):
    parts = [f"L{s.num_layers}", s.output, s.handover, f"{s.reconstruct}+{s.predict}", s.cell, s.feeding]
    parts += [what for what in ("conditional_reconstruction", "conditional_future", "peephole") if getattr(s, what)]
    return "-".join(parts)


def model_of(s, dtype, backend):
    options = {field: getattr(s, field) for field in s.__dataclass_fields__}
    return lstmrep.CompositeModel(D, H, **options, dtype=dtype, backend=backend)


def numbers(s):
    """Parameters and frames that float32 can hold."""
    parameters = {k: v.astype(np.float32).astype(np.float64) for k, v in oracle.draw(s, D, H, seed=7).items()}
    frames = np.random.default_rng(8).uniform(0.05, 0.95, (B, GIVEN + s.predict, D))
    return parameters, frames.astype(np.float32).astype(np.float64)


def expected(s):
    parameters, frames = numbers(s)
    out = oracle.forward(parameters, frames, s)
    gradients, d_frames = oracle.backward(parameters, frames, s)
    assert all((np.abs(k) > 1e-6).all() for k in out["kinks"]), "a case must not sit on a kink"
    found = {f"d_{k}": v for k, v in gradients.items()} | {"d_frames": d_frames}
    found |= {"h": out["state"][0], "c": out["state"][1]}
    found |= {k: out[k] for k in ("reconstruction", "future") if out[k] is not None}
    found["losses"] = np.array([out[k] for k in ("loss", "reconstruction_loss", "future_loss") if out[k] is not None])
    return {k: torch.from_numpy(np.array(v)) for k, v in found.items()}


def run(s, dtype, backend, order=0):
    parameters, frames = numbers(s)
    model = model_of(s, dtype, backend)
    model.load_state_dict({k: moved(torch.from_numpy(v), dtype, order) for k, v in parameters.items()})
    x = moved(torch.from_numpy(frames), dtype, order).requires_grad_()
    out = model(x, feeding=s.feeding)
    out.loss.backward()
    found = {f"d_{k}": p.grad for k, p in model.named_parameters()} | {"d_frames": x.grad}
    found |= {"h": out.state.h, "c": out.state.c}
    found |= {k: out[k] for k in ("reconstruction", "future") if out[k] is not None}
    losses = [out[k] for k in ("loss", "reconstruction_loss", "future_loss") if out[k] is not None]
    found["losses"] = torch.stack(losses)
    return {k: t.detach() for k, t in found.items()}


@pytest.mark.parametrize("s", CASES, ids=name)
def test_composite_equals_the_numpy_model(s):
    truth = expected(s)
    single = budget(lambda dtype, order: run(s, dtype, "reference", order), torch.float32)
    assert set(truth) == set(single.truth)
    # Three times the error instead of twice: in float64 the truth has its own share.
    ratio = 1.5 * torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    allowed = {k: ratio * allowed for k, allowed in single.allowed.items()}
    # A loss is a sum of so many terms, here and there in another order: half an eps for each level of a tree of sums.
    levels = np.log2(B * D * max(s.reconstruct, s.predict))
    allowed["losses"] += levels / 2 * torch.finfo(torch.float64).eps * float(truth["losses"].max())
    double = Budget(truth, allowed)
    single = Budget(truth, single.allowed)
    assert_within(run(s, torch.float64, "reference"), double)
    assert_within(run(s, torch.float64, "cpu"), double)
    assert_within(run(s, torch.float32, "cpu"), single)


def test_the_encoders_state_gradient_is_the_sum_from_both_decoders():
    """The released code kept one of the two. A loss weight of zero takes a decoder's share away."""
    s = oracle.Settings(num_layers=2, conditional_future=True)
    parameters, frames = numbers(s)
    gradients = []
    for weights in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0)):
        model = lstmrep.CompositeModel(
            D,
            H,
            2,
            reconstruct=2,
            predict=2,
            conditional_future=True,
            reconstruction_weight=weights[0],
            future_weight=weights[1],
            dtype=torch.float64,
        )
        model.load_state_dict({k: torch.from_numpy(v) for k, v in parameters.items()})
        out = model(torch.from_numpy(frames))
        gradients.append(torch.autograd.grad(out.loss, list(model.encoder.parameters())))
    for both, told, predicted in zip(*gradients, strict=True):
        assert told.any() and predicted.any()
        torch.testing.assert_close(both, told + predicted)


def test_the_comparison_would_notice():
    s = oracle.Settings()
    truth, found = expected(s), run(s, torch.float64, "cpu")
    allowed = budget(lambda dtype, order: run(s, dtype, "reference", order), torch.float32).allowed
    for key in found:
        wrong = dict(found)
        wrong[key] = found[key] * (1 + 1e-4)
        with pytest.raises(AssertionError, match=key):
            assert_within(wrong, Budget(truth, allowed))
