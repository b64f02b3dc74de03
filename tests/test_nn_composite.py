"""The composite model's habits: heads, conditioning, feeding, hand-over, outputs, long predictions, encodings.

Its numbers are held against an independent model in test_nn_composite_numbers.py.
"""

import copy
import itertools
import pickle

import pytest
import torch
from torch.testing import assert_close

import lstmrep
import lstmrep.nn.stack
from lstmrep.nn import presets

D, H, T_IN = 12, 8, 4


def build(seed=0, **options):
    torch.manual_seed(seed)
    settings = {"reconstruct": 3, "predict": 2, "dtype": torch.float64} | options
    return lstmrep.CompositeModel(D, H, **settings)


def clips(predict=2, dtype=torch.float64, batch=3):
    g = torch.Generator().manual_seed(5)
    return torch.rand(batch, T_IN + predict, 3, 4, generator=g, dtype=torch.float64).to(dtype)


def count(model):
    return sum(p.numel() for p in model.parameters())


# Targets and heads


def test_reconstruction_is_told_last_frame_first():
    model = build(output="gaussian")
    frames = clips()
    out = model(frames)
    wanted = frames[:, 1:T_IN].flip(1)
    assert_close(out.reconstruction_loss, 0.5 * (out.reconstruction - wanted).square().sum() / 9)
    assert_close(out.future_loss, 0.5 * (out.future - frames[:, T_IN:]).square().sum() / 6)


def test_palindromic_input_makes_reversed_and_plain_targets_one():
    model = build(reconstruct=4, predict=0)
    half = clips(0)[:, :2]
    palindrome = torch.cat((half, half.flip(1)), 1)
    out = model(palindrome)
    plain = torch.nn.functional.binary_cross_entropy(out.reconstruction, palindrome, reduction="sum") / 12
    assert_close(out.reconstruction_loss, plain)
    other = model(clips(0))
    assert not torch.allclose(
        other.reconstruction_loss,
        torch.nn.functional.binary_cross_entropy(other.reconstruction, clips(0), reduction="sum") / 12,
    )


def test_loss_is_the_weighted_sum():
    out = build(reconstruction_weight=0.25, future_weight=3.0)(clips())
    assert_close(out.loss, 0.25 * out.reconstruction_loss + 3.0 * out.future_loss)


@pytest.mark.parametrize(("reconstruct", "predict"), [(3, 0), (0, 2)])
def test_a_head_of_length_zero_is_gone(reconstruct, predict):
    model = build(reconstruct=reconstruct, predict=predict)
    out = model(clips(predict))
    gone, kept = ("future", "reconstruction") if reconstruct else ("reconstruction", "future")
    assert getattr(model, gone) is None
    assert getattr(out, gone) is None and getattr(out, f"{gone}_loss") is None
    assert not [name for name in model.state_dict() if name.startswith(gone)]
    assert torch.equal(out.loss, getattr(out, f"{kept}_loss"))
    assert getattr(out, kept).shape == (3, reconstruct or predict, 3, 4)


def test_names_of_the_state_dict():
    layer = ["weight_ih_l0", "weight_hh_l0", "bias_l0", "weight_pi_l0", "weight_pf_l0", "weight_po_l0"]
    expected = {f"encoder.{name}" for name in layer}
    for decoder in ("reconstruction", "future"):
        expected |= {f"{decoder}.lstm.{name}" for name in layer[1:]}
        expected |= {f"{decoder}.head.weight", f"{decoder}.head.bias"}
    assert set(build().state_dict()) == expected


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mnist_1layer", 167_823_360),
        ("mnist_2layer", 268_529_664),
        ("fc_lstm", 142_667_776),
        ("mnist_1layer_unconditional", 100_714_496),
        ("patches_1layer", 138_461_184),
    ],
)
def test_presets_have_the_published_counts(name, parameters):
    assert count(lstmrep.CompositeModel.from_preset(name, device="meta")) == parameters


def test_every_preset_builds_and_an_unknown_one_lists_them():
    for name in presets.COMPOSITE:
        small = lstmrep.CompositeModel.from_preset(name, input_size=D, hidden_size=H)
        c = small.config
        steps = max(c.reconstruct, 1) + c.predict
        assert torch.isfinite(small(torch.rand(2, steps, D)).loss)
    with pytest.raises(ValueError, match=r"preset 'mnist' is not known; choose one of mnist_1layer, "):
        lstmrep.CompositeModel.from_preset("mnist")


# Conditioning and feeding


@pytest.mark.parametrize("decoder", ["reconstruction", "future"])
def test_conditioning_adds_the_input_matrix(decoder):
    assert count(build(**{f"conditional_{decoder}": True})) - count(build()) == 4 * H * D


def test_an_unconditional_future_does_not_see_its_targets():
    model, frames = build(), clips()
    noisy = torch.cat((frames[:, :T_IN], torch.rand_like(frames[:, T_IN:])), 1)
    assert torch.equal(model(frames).future, model(noisy).future)


def test_a_teacher_fed_future_sees_them_and_a_free_running_one_does_not():
    model, frames = build(conditional_future=True), clips()
    noisy = torch.cat((frames[:, :T_IN], torch.rand_like(frames[:, T_IN:])), 1)
    fed = [model(f, feeding="teacher").future for f in (frames, noisy)]
    assert torch.equal(fed[0][:, 0], fed[1][:, 0]) and not torch.equal(fed[0][:, 1], fed[1][:, 1])
    model.eval()
    assert torch.equal(model(frames).future, model(noisy).future)
    assert torch.equal(model(frames).future, model.predict(frames[:, :T_IN]))


def test_training_mode_feeds_the_truth_and_eval_mode_the_output():
    model, frames = build(conditional_reconstruction=True, conditional_future=True), clips()
    assert torch.equal(model(frames).loss, model(frames, feeding="teacher").loss)
    model.eval()
    assert torch.equal(model(frames).loss, model(frames, feeding="own").loss)
    assert not torch.equal(model(frames).loss, model(frames, feeding="teacher").loss)


def test_scheduled_feeding_lies_between():
    model = build(conditional_reconstruction=True, conditional_future=True, feeding="scheduled", predict=4)
    frames = clips(4)
    model.teacher_probability = 0.0
    assert torch.equal(model(frames).future, model(frames, feeding="own").future)
    model.teacher_probability = 1.0
    assert_close(model(frames).future, model(frames, feeding="teacher").future)
    model.teacher_probability = 0.5
    torch.manual_seed(1)
    one = model(frames).future
    torch.manual_seed(2)
    other = model(frames).future
    torch.manual_seed(1)
    assert torch.equal(model(frames).future, one) and not torch.equal(one, other)


@pytest.mark.parametrize("feeding", ["teacher", "own", "scheduled"])
@pytest.mark.parametrize("handover", ["step", "copy"])
def test_feeding_means_nothing_to_unconditional_decoders(feeding, handover):
    model, frames = build(handover=handover), clips()
    assert torch.equal(model(frames, feeding=feeding).loss, model(frames).loss)


def test_a_fed_back_frame_is_the_probability_not_the_logit():
    model = build(conditional_future=True, reconstruct=0, num_layers=2)
    frames = clips()[:, :T_IN]
    _, last = model.encoder(frames.flatten(2).transpose(0, 1))
    future = model.future
    h, state = future.lstm(torch.zeros(1, 3, D, dtype=torch.float64), last)
    first = torch.sigmoid(future.head(h))
    h, _ = future.lstm(first, state)
    second = torch.sigmoid(future.head(h))
    made = model.predict(frames, steps=2).flatten(2)
    assert torch.equal(made[:, 0], first[0]) and torch.equal(made[:, 1], second[0])


# Hand-over


@pytest.mark.parametrize("layers", [1, 2])
def test_copy_reads_the_first_frame_off_the_encoder(layers):
    model, frames = build(handover="copy", num_layers=layers), clips()
    out = model(frames)
    first = torch.sigmoid(model.future.head(out.state.h[-1]))
    assert_close(out.future[:, 0].flatten(1), first)
    assert_close(out.reconstruction[:, 0].flatten(1), torch.sigmoid(model.reconstruction.head(out.state.h[-1])))


def test_step_takes_a_step_before_the_first_frame():
    model, frames = build(), clips()
    out = model(frames)
    lstm = model.future.lstm
    h, _, _ = lstmrep.ops.lstm(
        None,
        [],
        [lstm.weight_hh_l0],
        bias=lstm.bias_l0[None],
        peephole=torch.stack((lstm.weight_pi_l0, lstm.weight_pf_l0, lstm.weight_po_l0))[None],
        h0=out.state.h,
        c0=out.state.c,
        steps=1,
    )
    assert_close(out.future[:, 0].flatten(1), torch.sigmoid(model.future.head(h[0, 0])))


def test_the_cell_state_is_handed_over_in_float32():
    model = build(dtype=torch.bfloat16)
    out = model(clips(dtype=torch.bfloat16))
    assert out.state.c.dtype == torch.float32 and out.state.h.dtype == torch.bfloat16
    assert out.loss.dtype == torch.float32
    assert not torch.equal(out.state.c, out.state.c.bfloat16().float()), "nothing was lost by chance"


# One call of the op a layer for both decoders


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, [1, 2]),
        ({"num_layers": 2}, [1, 1, 2, 2]),
        ({"reconstruct": 2}, [1, 2]),
        ({"conditional_reconstruction": True, "conditional_future": True}, [1, 2]),
        ({"conditional_future": True}, [1, 1, 1]),
        ({"reconstruct": 0}, [1, 1]),
    ],
    ids=str,
)
def test_decoders_that_read_alike_share_their_calls(monkeypatch, options, calls):
    model, frames = build(**options), clips()
    seen = []
    run = lstmrep.nn.stack.lstm
    monkeypatch.setattr(lstmrep.nn.stack, "lstm", lambda x, wi, wh, **k: seen.append(len(wh)) or run(x, wi, wh, **k))
    model(frames)
    assert seen == calls == [p.recurrences for p in model.problems(3, T_IN + 2)]


@pytest.mark.parametrize(("conditional", "handover"), [*itertools.product([False, True], ["step", "copy"])])
def test_decoders_of_unequal_length_share_and_equal_those_alone(conditional, handover):
    both = {"conditional_reconstruction": conditional, "conditional_future": conditional, "handover": handover}
    model, frames = build(reconstruct=4, predict=2, **both), clips()
    out = model(frames)
    for part, options, given in (
        ("reconstruction", {"reconstruct": 4, "predict": 0}, frames[:, :T_IN]),
        ("future", {"reconstruct": 0, "predict": 2}, frames),
    ):
        alone = build(**{**both, **options})
        alone.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith(("encoder", part))})
        assert_close(getattr(alone(given), part), getattr(out, part))


# Outputs


def test_output_formulas():
    frames = clips()
    squashed = 2 / (1 + torch.exp(-1.5 * frames)) - 1
    for output, made, wanted in (
        ("bernoulli", torch.sigmoid, frames),
        ("gaussian", lambda z: z, frames),
        ("relu", lambda z: z.clamp(min=0), frames),
        ("squash", torch.sigmoid, squashed),
    ):
        model = build(output=output, squash=1.5, reconstruct=0)
        out = model(frames)
        source = squashed if output == "squash" else frames
        _, last = model.encoder(source[:, :T_IN].flatten(2).transpose(0, 1))
        h, _ = lstmrep.nn.stack.run([model.future.lstm], None, last, steps=2)
        y = made(model.future.head(h[0])).transpose(0, 1).unflatten(2, (3, 4))
        assert_close(out.future, y)
        target = wanted[:, T_IN:]
        if output in ("bernoulli", "squash"):
            loss = -(target * y.log() + (1 - target) * (1 - y).log())
        else:
            loss = 0.5 * (y - target) ** 2
        assert_close(out.future_loss, loss.sum() / 6)


def test_squash_of_two_is_tanh():
    x = clips()
    assert torch.equal(lstmrep.nn.outputs.squash(x, 2.0), torch.tanh(x))


# Prediction and encoding


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("handover", ["step", "copy"])
def test_prediction_of_any_length(conditional, handover):
    model = build(conditional_future=conditional, handover=handover)
    frames = clips()[:, :T_IN]
    far = model.predict(frames, steps=60)
    assert far.shape == (3, 60, 3, 4) and not far.requires_grad
    assert torch.equal(far, model.predict(frames, steps=60))
    assert_close(far[:, :8], model.predict(frames, steps=8))
    assert model.predict(frames).shape[1] == 2 and model.predict(frames, 1).shape[1] == 1


def test_encode_is_forwards_state():
    model, frames = build(num_layers=2), clips()
    h, c = model.encode(frames[:, :T_IN])
    state = model(frames).state
    assert h.shape == c.shape == (2, 3, H)
    assert torch.equal(h, state.h) and torch.equal(c, state.c)
    assert h.requires_grad and not model.encode(frames[:, :T_IN], detach=True).h.requires_grad
    early = model.encode(frames[:, :2])
    assert torch.equal(model.encode(frames, step=1).h, early.h)
    assert torch.equal(model.encode(frames[:, :T_IN], step=-3).c, early.c)
    with pytest.raises(ValueError, match=r"argument 'step' is 9, expected one of 4 frames"):
        model.encode(frames[:, :T_IN], step=9)


# As a torch module


def test_time_first_frames():
    model = build(batch_first=False)
    frames = clips()
    out, other = model(frames.transpose(0, 1)), build()(frames)
    assert torch.equal(out.loss, other.loss) and torch.equal(out.future.transpose(0, 1), other.future)
    assert torch.equal(model.predict(frames.transpose(0, 1)).transpose(0, 1), build().predict(frames))


def test_output_by_position_and_name():
    out = build()(clips())
    assert out[0] is out.loss is out["loss"] and out[2] is out.future


def test_copies_and_pickles():
    model, frames = build(init="original"), clips()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(frames).loss, model(frames).loss)


def test_same_bits_twice_and_with_recompute():
    frames = clips(dtype=torch.float32)
    losses, gradients = [], []
    for recompute in (False, False, True):
        model = build(dtype=torch.float32, recompute=recompute)
        loss = model(frames).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad for p in model.parameters()])
    assert losses[0] == losses[1] == losses[2]
    assert all(torch.equal(a, b) for a, b in zip(gradients[0], gradients[1], strict=True))


@pytest.mark.parametrize("conditional", [False, True])
def test_compiles_whole(conditional):
    both = {"conditional_reconstruction": conditional, "conditional_future": conditional}
    model, frames = build(**both), clips()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_close(compiled(frames).loss, model(frames).loss)


def test_autocast():
    model, frames = build(dtype=torch.float32), clips(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(frames)
    out.loss.backward()
    assert out.state.h.dtype == torch.bfloat16 and out.state.c.dtype == torch.float32
    assert out.loss.dtype == torch.float32
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


def test_init_schemes():
    model = lstmrep.CompositeModel(D, 64, init="original")
    for name, p in model.named_parameters():
        if "bias" in name:
            assert not p.any(), name
        else:
            assert p.abs().max() <= (0.1 if "weight_p" in name else 0.01), name
            assert p.abs().max() > 0, name
    forget = lstmrep.CompositeModel(D, H, init={"bias": {"f": 5.0}})
    assert torch.equal(forget.encoder.bias_l0, torch.tensor([0.0, 5.0, 0.0, 0.0]).repeat_interleave(H))
    assert (forget.future.head.bias != 5.0).all()


def test_torchs_two_biases_load():
    source = torch.nn.LSTM(D, H, 2)
    model = lstmrep.CompositeModel(D, H, 2)
    model.encoder.load_state_dict(source.state_dict())
    assert torch.equal(model.encoder.bias_l1, source.bias_ih_l1 + source.bias_hh_l1)
    assert not model.encoder.weight_pi_l1.any()
    h, _ = model.encoder(torch.rand(T_IN, 3, D))
    assert h.shape == (T_IN, 3, H)


def test_explain_prints_each_call_and_the_memory_of_a_step(capsys):
    plans = lstmrep.explain(build(num_layers=2), clips())
    text = capsys.readouterr().out
    assert [p.problem.recurrences for p in plans] == [1, 1, 2, 2]
    assert text.count("problem ") == 4 and "memory " in text and "optimizer" in text


@pytest.mark.parametrize("options", [{}, {"conditional_reconstruction": True, "conditional_future": True}], ids=str)
def test_memory_is_what_explain_says(options, library_gradients):
    from lstmrep.footprint import footprint
    from lstmrep.testing.memory import peak_bytes

    # At this size the scratch of the kernels' own products, which is left out, would be a third of all.
    model = lstmrep.CompositeModel(512, 192, **options)
    frames = torch.rand(24, 20, 512)

    def step():
        out = model(frames)
        out.loss.backward()
        return out

    measured, said = peak_bytes(step), footprint(model, 24, 20).step
    assert 0.9 * measured <= said <= 1.1 * measured, f"measured {measured:,}, said {said:,}"


# Wrong input


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"reconstruct": -1}, ValueError, "argument 'reconstruct' is -1, expected 0 or more"),
        ({"predict": 2.5}, TypeError, "argument 'predict' is 2.5, expected a whole number of 0 or more"),
        ({"reconstruct": 0, "predict": 0}, ValueError, "are both 0; give one of them frames to make"),
        ({"output": "softmax"}, ValueError, "argument 'output' is 'softmax', expected one of bernoulli, gaussian"),
        ({"handover": "zero"}, ValueError, "argument 'handover' is 'zero', expected one of step, copy"),
        ({"feeding": "mixed"}, ValueError, "argument 'feeding' is 'mixed', expected one of teacher, own, scheduled"),
        ({"cell": "gelu"}, ValueError, "argument 'cell' is 'gelu', expected one of"),
        ({"backend": "tpu"}, ValueError, "argument 'backend' is 'tpu', expected one of auto"),
        ({"peephole": 1}, TypeError, "argument 'peephole' is 1, expected True or False"),
        ({"future_weight": float("nan")}, ValueError, "argument 'future_weight' is nan, expected a finite number"),
        ({"num_layers": 0}, ValueError, "argument 'num_layers' is 0, expected 1 or more"),
    ],
    ids=lambda v: str(v) if isinstance(v, dict) else "",
)
def test_wrong_arguments(options, error, sentence):
    with pytest.raises(error, match=sentence):
        build(**options)


@pytest.mark.parametrize(
    ("frames", "error", "sentence"),
    [
        ([1, 2], TypeError, r"argument 'frames' is a list, expected a Tensor \[B, T, \*frame\]"),
        (torch.rand(6, 12), ValueError, r"has shape \(6, 12\), expected \[B, T, \*frame\]; add the missing dimension"),
        (torch.rand(2, 6, 5), ValueError, "so 5 values a frame, expected input_size = 12"),
        (torch.rand(2, 4, 12), ValueError, "has 4 frames, expected at least 5"),
        (torch.zeros(2, 6, 12, dtype=torch.uint8), TypeError, r"pass frames.float\(\) / 255"),
        (torch.rand(2, 6, 12), TypeError, "is torch.float32, expected torch.float64 like the weights"),
        (torch.rand(2, 6, 12, dtype=torch.float64, device="meta"), ValueError, "is on meta, the weights are on cpu"),
    ],
    ids=range(7),
)
def test_wrong_frames(frames, error, sentence):
    with pytest.raises(error, match=sentence):
        build()(frames)


def test_wrong_calls():
    with pytest.raises(ValueError, match="argument 'feeding' is 'student'"):
        build()(clips(), feeding="student")
    with pytest.raises(ValueError, match="was built with predict=0 and has no future head"):
        build(predict=0).predict(clips(0))
    with pytest.raises(ValueError, match="argument 'steps' is 0, expected 1 or more"):
        build().predict(clips(0), 0)
