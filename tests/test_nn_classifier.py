"""The action classifier: probabilities, dropout between layers only, an encoder's weights taken over, wrong input."""

import pytest
import torch
from torch.testing import assert_close

import lstmrep
from lstmrep.footprint import footprint
from lstmrep.testing.memory import peak_bytes

D, H, K, T, B = 12, 8, 5, 6, 3


def build(seed=0, **options):
    torch.manual_seed(seed)
    return lstmrep.ActionClassifier(D, H, K, **options)


@pytest.fixture
def frames():
    return torch.rand(B, T, 3, 4, generator=torch.Generator().manual_seed(2))


def test_probabilities_are_the_mean_of_each_steps_softmax(frames):
    out = build()(frames)
    assert out.loss is None and out.logits.shape == (B, T, K)
    assert_close(out.probabilities, out.logits.softmax(-1).mean(1))
    assert_close(out.probabilities.sum(1), torch.ones(B))


def test_loss_is_the_cross_entropy_of_every_step(frames):
    labels = torch.tensor([4, 0, 2])
    out = build()(frames, labels)
    by_hand = -out.logits.log_softmax(-1)[torch.arange(B), :, labels].mean()
    assert_close(out.loss, by_hand)
    assert out[0] is out.loss
    assert torch.equal(build().predict(frames), out.probabilities.argmax(1))


def test_the_last_step_alone(frames):
    labels = torch.tensor([4, 0, 2])
    model, mean = build(pooling="last"), build()
    out = model(frames, labels)
    assert torch.equal(out.logits, mean(frames).logits)
    assert_close(out.probabilities, out.logits[:, -1].softmax(-1))
    assert_close(out.loss, -out.logits[:, -1].log_softmax(-1)[torch.arange(B), labels].mean())
    turned = build(pooling="last", batch_first=False)(frames.transpose(0, 1), labels)
    assert torch.equal(turned.probabilities, out.probabilities) and torch.equal(turned.loss, out.loss)
    with pytest.raises(ValueError, match="argument 'pooling' is 'max', expected one of mean, last"):
        build(pooling="max")


def test_time_first(frames):
    out, other = build(batch_first=False)(frames.transpose(0, 1)), build()(frames)
    assert torch.equal(out.probabilities, other.probabilities)
    assert torch.equal(out.logits.transpose(0, 1), other.logits)


def test_published_count():
    model = lstmrep.ActionClassifier.from_preset("ucf101_1layer", device="meta")
    assert sum(p.numel() for p in model.parameters()) == 50_552_933


def test_dropout_of_zero_and_eval_mode_change_nothing(frames):
    plain = build(num_layers=2)(frames).logits
    assert torch.equal(build(num_layers=2, dropout=0.0)(frames).logits, plain)
    assert torch.equal(build(num_layers=2, dropout=0.9).eval()(frames).logits, plain)


def test_dropout_never_reaches_through_time(frames):
    """With everything between layers dropped but nothing through time, the recurrence is what it was."""
    model = build(num_layers=2, dropout=0.999999)
    plain = build(num_layers=2)
    x = frames.flatten(2).transpose(0, 1)
    torch.manual_seed(3)
    h, last = model.lstm(x)
    _, undropped = plain.lstm(x)
    assert torch.equal(last.h[0], undropped.h[0]) and torch.equal(last.c[0], undropped.c[0])
    # Nothing reaches the second layer: it runs on zeros, and its own recurrence still moves.
    assert not torch.equal(h[0], h[1])
    # Nothing reaches the softmax but its bias.
    torch.manual_seed(3)
    assert_close(model(frames).logits, model.head.bias.expand(B, T, K))


def test_dropout_draws_a_mask_for_each_step_and_keeps_the_mean(frames):
    model = build(dropout=0.5)
    torch.manual_seed(0)
    model.head.weight.data.copy_(torch.eye(K, H))
    model.head.bias.data.zero_()
    h = build().lstm(frames.flatten(2).transpose(0, 1))[0][..., :K].transpose(0, 1)
    logits = model(frames).logits
    dropped = logits == 0
    assert dropped.any() and not dropped.all()
    assert not torch.equal(dropped[:, 0], dropped[:, 1])
    assert_close(logits[~dropped], 2 * h[~dropped])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("freeze", [False, True])
def test_the_encoders_weights_are_taken_over(frames, layers, freeze):
    torch.manual_seed(1)
    composite = lstmrep.CompositeModel(D, H, layers, reconstruct=2, predict=2)
    model = build(num_layers=layers).load_encoder(composite, freeze=freeze)
    x = frames.flatten(2).transpose(0, 1)
    (h, last), (expected, encoded) = model.lstm(x), composite.encoder(x)
    assert torch.equal(h, expected) and torch.equal(last.state().c, encoded.state().c)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(frames, torch.tensor([0, 1, 2])).loss.backward()
        optimizer.step()
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name]) == (freeze and name.startswith("lstm")), name
    assert torch.equal(composite.encoder(x)[0], expected), "the source is not touched"


@pytest.mark.parametrize(
    ("size", "options", "sentence"),
    [
        (H + 1, {}, r"'encoder.bias_l0' is \(36,\), the classifier's is \(32,\)"),
        (H, {"num_layers": 2}, "'encoder.bias_l1' is .32,., the classifier's is absent"),
        (H, {"peephole": False}, "'encoder.weight_pf_l0' is absent"),
        (H, {"cell": "relu"}, "the encoder's cell is 'relu', the classifier's 'tanh'"),
    ],
    ids=range(4),
)
def test_another_encoder_is_refused_by_name(size, options, sentence):
    model = build()
    before = model.lstm.weight_hh_l0.clone()
    with pytest.raises(ValueError, match=sentence):
        model.load_encoder(lstmrep.CompositeModel(D, size, **options))
    assert torch.equal(model.lstm.weight_hh_l0, before)
    with pytest.raises(TypeError, match=r"expected a lstmrep\.CompositeModel"):
        model.load_encoder(torch.nn.LSTM(D, H))


def test_wrong_input(frames):
    with pytest.raises(ValueError, match="argument 'num_classes' is 1, expected 2 or more"):
        lstmrep.ActionClassifier(D, H, 1)
    with pytest.raises(ValueError, match="expected a probability below 1"):
        build(dropout=1.5)
    with pytest.raises(TypeError, match=r"expected torch\.int64"):
        build()(frames, torch.zeros(B))
    with pytest.raises(ValueError, match=r"argument 'labels' has shape \(2,\), expected \[B\] = \(3,\)"):
        build()(frames, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="so 12 values a frame, expected input_size = 7"):
        lstmrep.ActionClassifier(7, H, K)(frames)


@pytest.mark.parametrize(
    ("size", "hidden", "layers", "dropout"), [(512, 256, 1, 0.5), (512, 256, 2, 0.0), (64, 128, 2, 0.5)]
)
def test_the_memory_that_is_said_is_what_a_step_takes(size, hidden, layers, dropout, library_gradients):
    # At these sizes the scratch of the kernels' own products, which is left out, would be a third of all.
    model = lstmrep.ActionClassifier(size, hidden, 101, layers, dropout=dropout)
    x, labels = torch.rand(32, 16, size), torch.zeros(32, dtype=torch.int64)

    def step():
        out = model(x, labels)
        out.loss.backward()
        return out

    measured, said = peak_bytes(step), footprint(model, 32, 16).step
    assert 0.9 * measured <= said <= 1.1 * measured, f"measured {measured:,}, said {said:,}"
