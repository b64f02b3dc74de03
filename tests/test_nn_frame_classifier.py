"""The single-frame baseline: the same result as the LSTM's classifier has, and no way to see the order of frames."""

import pytest
import torch
from torch.testing import assert_close

import lstmrep

D, K, T, B = 12, 5, 6, 3


def build(**options):
    torch.manual_seed(0)
    return lstmrep.FrameClassifier(D, K, **options)


@pytest.fixture
def frames():
    return torch.rand(B, T, 3, 4, generator=torch.Generator().manual_seed(2))


def test_each_frame_by_itself(frames):
    labels = torch.tensor([4, 0, 2])
    model = build()
    out = model(frames, labels)
    logits = frames.flatten(2) @ model.head.weight.T + model.head.bias
    assert_close(out.logits, logits)
    assert_close(out.probabilities, logits.softmax(-1).mean(1))
    assert_close(out.loss, -logits.log_softmax(-1)[torch.arange(B), :, labels].mean())
    assert torch.equal(model.predict(frames), out.probabilities.argmax(1))


def test_the_order_of_frames_changes_nothing(frames):
    model, other = build(), lstmrep.ActionClassifier(D, 4, K)
    assert_close(model(frames.flip(1)).probabilities, model(frames).probabilities)
    assert not torch.equal(other(frames.flip(1)).probabilities, other(frames).probabilities)


def test_the_last_frame_alone(frames):
    labels = torch.tensor([4, 0, 2])
    out, logits = build(pooling="last")(frames, labels), build()(frames).logits[:, -1]
    assert_close(out.probabilities, logits.softmax(-1))
    assert_close(out.loss, -logits.log_softmax(-1)[torch.arange(B), labels].mean())


def test_time_first(frames):
    assert_close(build(batch_first=False)(frames.transpose(0, 1)).probabilities, build()(frames).probabilities)


def test_saved_and_read(frames, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    build().save_pretrained(tmp_path)
    read = lstmrep.FrameClassifier.from_pretrained(tmp_path)
    assert torch.equal(read(frames).logits, build()(frames).logits)


def test_wrong_input(frames):
    with pytest.raises(ValueError, match="argument 'num_classes' is 1, expected 2 or more"):
        lstmrep.FrameClassifier(D, 1)
    with pytest.raises(ValueError, match="so 12 values a frame, expected input_size = 7"):
        lstmrep.FrameClassifier(7, K)(frames)
    with pytest.raises(ValueError, match=r"argument 'labels' has shape \(2,\), expected \[B\] = \(3,\)"):
        build()(frames, torch.zeros(2, dtype=torch.int64))
