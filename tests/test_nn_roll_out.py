"""The free-running roll-out with its head folded into the recurrence: where it folds, what it gives, what it costs."""

import contextlib

import pytest
import torch
from torch.nn.utils import parametrizations

import lstmrep
import lstmrep.nn.stack
from lstmrep.nn import decoder as decoders
from lstmrep.testing.compare import assert_within
from lstmrep.testing.tolerance import budget, moved

D, H, B, T_IN = 12, 8, 3, 4
MANY = 40


def build(seed=0, **options):
    """A model whose future predictor folds, and whose frames leave zero (torch's own start gives tiny ones)."""
    torch.manual_seed(seed)
    settings = {"reconstruct": 0, "predict": 2, "conditional_future": True, "output": "gaussian"}
    model = lstmrep.CompositeModel(D, H, **{**settings, "dtype": torch.float64, **options}).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.empty_like(p).uniform_(-0.6, 0.6))
    return model


def frames(batch=B, dtype=torch.float64):
    g = torch.Generator().manual_seed(5)
    return torch.rand(batch, T_IN, D, generator=g, dtype=torch.float64).to(dtype)


@pytest.fixture
def calls(monkeypatch):
    """Steps of each call of the op."""
    seen = []
    op = lstmrep.nn.stack.lstm

    def counted(x, *rest, **options):
        seen.append(options["steps"] if x is None else x.shape[-3])
        return op(x, *rest, **options)

    monkeypatch.setattr(lstmrep.nn.stack, "lstm", counted)
    return seen


@contextlib.contextmanager
def rule(folds):
    """The roll-out inside folds, or never does, whatever its cost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoders, "fold_pays", lambda *sizes: folds)
        yield


def both(model, x, steps):
    """Frames by the folded and by the unfolded roll-out."""
    made = []
    for folds in (True, False):
        with rule(folds):
            made.append(model.predict(x, steps))
    return made


@pytest.mark.parametrize("steps", [1, 2, MANY])
@pytest.mark.parametrize("handover", ["step", "copy"])
@pytest.mark.parametrize("options", [{}, {"peephole": False}, {"cell": "relu"}], ids=str)
def test_folded_equals_unfolded_in_float64(options, handover, steps):
    folded, unfolded = both(build(handover=handover, **options), frames(), steps)
    assert folded.shape == (B, steps, D) and unfolded.abs().max() > 0.1
    torch.testing.assert_close(folded, unfolded)


@pytest.mark.parametrize("steps", [2, MANY])
@pytest.mark.parametrize("handover", ["step", "copy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_folded_is_within_the_budget_of_the_unfolded(dtype, handover, steps):
    """Against the unfolded roll-out of the reference in float64, allowed what that one errs at the lower precision."""
    source = build(handover=handover).bfloat16()  # numbers that every precision holds
    x = frames(dtype=torch.bfloat16)

    def run(at, order):
        model = build(handover=handover, backend="reference", dtype=at)
        state = {name: t.double() for name, t in source.state_dict().items()}
        model.load_state_dict({name: moved(t, at, order) for name, t in state.items()})
        with rule(False):
            return {"frames": model.predict(moved(x.double(), at, order), steps)}

    model = build(handover=handover, dtype=dtype)
    model.load_state_dict(source.state_dict())
    with rule(True):
        got = {"frames": model.predict(x.to(dtype), steps)}
    assert_within(got, budget(run, dtype))


@pytest.mark.parametrize(("handover", "expected"), [("step", [T_IN, 1, MANY - 1]), ("copy", [T_IN, MANY - 1])])
def test_all_steps_are_one_call(calls, handover, expected):
    model = build(handover=handover)
    model.predict(frames(), MANY)
    assert calls == expected
    calls.clear()
    with rule(False):
        model.predict(frames(), MANY)
    assert calls == [T_IN] + [1] * (MANY - model.future.skipped)


def test_the_head_is_one_product():
    model, seen = build(), []
    linear = torch.nn.functional.linear
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", lambda h, *rest: seen.append(tuple(h.shape)) or linear(h, *rest))
        model.predict(frames(), MANY)
    assert seen == [(MANY, B, H)]


def test_launches_fall():
    model, x, totals = build(dtype=torch.float32), frames(dtype=torch.float32), []
    for folds in (True, False):
        with rule(folds), lstmrep.count_launches() as launches:
            model.predict(x, MANY)
        totals.append((launches.total, launches.own["cpu_forward"]))
    print(totals)
    assert totals[0][1] == 3 and totals[1][1] == 1 + MANY  # the encoder's is one of them
    assert totals[0][0] < totals[1][0] - MANY


def test_evaluation_folds_both_heads(calls):
    """``forward`` in eval mode rolls out the reconstruction too."""
    model = build(reconstruct=MANY, predict=MANY, conditional_reconstruction=True)
    clip = torch.rand(B, 2 * MANY, D, dtype=torch.float64)
    with torch.no_grad():
        out = model(clip)
    assert calls == [MANY, 1, MANY - 1, 1, MANY - 1]
    with torch.no_grad(), rule(False):
        unfolded = model(clip)
    torch.testing.assert_close(out.loss, unfolded.loss)
    torch.testing.assert_close(out.reconstruction, unfolded.reconstruction)
    torch.testing.assert_close(out.future, unfolded.future)


# Where it pays


@pytest.mark.parametrize("hidden", [24, 256, 2048])
@pytest.mark.parametrize("batch", [1, decoders.ROWS, 80])
def test_the_rule_counts_products(hidden, batch):
    """Multiplications spared against those of the fold, D and 4H being common to both."""
    rows = max(batch, decoders.ROWS)
    most = hidden // rows + 1  # steps at which both cost the same, or one fewer
    assert not decoders.fold_pays(hidden, batch, 1)
    assert not decoders.fold_pays(hidden, batch, most)
    assert decoders.fold_pays(hidden, batch, most + 1)


def test_a_roll_out_that_is_too_short_does_not_fold(calls):
    model = lstmrep.CompositeModel(D, 64, reconstruct=0, predict=2, conditional_future=True, output="gaussian").eval()
    few = 64 // decoders.ROWS + 1
    model.predict(frames(1, torch.float32), few)
    assert calls == [T_IN] + [1] * few
    calls.clear()
    model.predict(frames(1, torch.float32), few + 1)
    assert calls == [T_IN, 1, few]


# What does not fold


def hooked_head(model):
    model.future.head.register_forward_hook(lambda module, given, made: 2 * made)


def hooked_layer(model):
    model.future.lstm.register_forward_pre_hook(lambda module, given: None)


def parametrized_head(model):
    parametrizations.weight_norm(model.future.head)


def old_weight_norm_head(model):
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(model.future.head)


def another_head(model):
    class Head(torch.nn.Linear):
        pass

    model.future.head = Head(H, D, dtype=torch.float64)


@pytest.mark.parametrize(
    "change",
    [hooked_head, hooked_layer, parametrized_head, old_weight_norm_head, another_head],
    ids=lambda f: f.__name__,
)
def test_modules_that_are_not_as_built_do_not_fold(calls, change):
    model = build()
    change(model)
    model.predict(frames(), MANY)
    assert calls == [T_IN] + [1] * MANY


@pytest.mark.parametrize(
    "options", [{"num_layers": 2}, *({"output": o} for o in ("bernoulli", "relu", "squash"))], ids=str
)
def test_models_that_are_not_linear_from_state_to_frame_do_not_fold(calls, options):
    model = build(**options)
    model.predict(frames(), MANY)
    layers = options.get("num_layers", 1)
    assert calls == [T_IN] * layers + [1] * (MANY * layers)


def test_a_parametrized_layer_folds_with_the_matrices_it_has():
    model = build()
    torch.nn.utils.parametrize.register_parametrization(model.future.lstm, "weight_ih_l0", torch.nn.Softsign())
    folded, unfolded = both(model, frames(), MANY)
    torch.testing.assert_close(folded, unfolded)


def test_gradients_go_step_by_step(calls):
    """And are what they are without a fold; frozen parameters leave nothing to differentiate."""
    model = build(predict=MANY)
    clip = torch.rand(B, T_IN + MANY, D, dtype=torch.float64)
    model(clip).loss.backward()
    assert calls == [T_IN] + [1] * MANY
    assert model.future.head.weight.grad is not None
    calls.clear()
    model.requires_grad_(False)
    model(clip)
    assert calls == [T_IN, 1, MANY - 1]


def test_the_truth_at_some_steps_goes_step_by_step(calls):
    model = build(predict=MANY).train()
    clip = torch.rand(B, T_IN + MANY, D, dtype=torch.float64)
    with torch.no_grad():
        model.teacher_probability = 0.0
        model(clip, feeding="scheduled")
    assert calls == [T_IN] + [1] * MANY


def test_a_compiled_model_stays_as_it_is():
    model, x = build(predict=MANY), torch.rand(B, T_IN + MANY, D, dtype=torch.float64)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x).future, model(x).future)


def test_under_autocast_the_fold_is_formed_in_float32():
    """Bits of the product say in which precision it ran: the recurrent matrix alone is rounded, once."""
    model, x = build(dtype=torch.float32), frames(dtype=torch.float32)
    seen = {}
    recur = model.future.lstm.recur

    def watched(weight, bias, *rest):
        seen[rest[-1]] = (weight, bias)
        return recur(weight, bias, *rest)

    model.future.lstm.recur = watched
    with torch.autocast("cpu", torch.bfloat16):
        made = model.predict(x, MANY)
    weight, bias = seen[MANY - 1]
    w_ih, head = model.future.lstm.weight_ih_l0, model.future.head
    assert torch.equal(weight, torch.addmm(model.future.lstm.weight_hh_l0, w_ih, head.weight))
    assert torch.equal(bias, torch.addmv(model.future.lstm.bias_l0, w_ih, head.bias))
    assert made.isfinite().all()
