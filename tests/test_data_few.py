"""So many clips of every class: exactly, the same for a draw, none shared by two draws."""

import pytest
import torch

from lstmrep import data

SETTINGS = {"source": "glyphs", "canvas": 12, "num_digits": 1, "num_frames": 3, "labels": "direction"}


def few(k, r=0, split="train", **changes):
    return data.make("moving_mnist", split, per_class=k, resampling=r, **{**SETTINGS, **changes})


@pytest.mark.parametrize("k", [1, 4, 70])
def test_exactly_so_many_of_every_class(k):
    made = few(k)
    frames, labels = made.batch(range(len(made)))
    assert len(made) == 4 * k and torch.bincount(labels).tolist() == [k] * 4
    assert frames.shape == (4 * k, 3, 1, 12, 12) and not made.infinite
    assert torch.equal(made[-1][0], frames[-1]) and f"{k} a class (resampling 0)" in made.description


def test_draws():
    def clips(made):
        return {frame.numpy().tobytes() for frame in made.batch(range(len(made)))[0]}

    assert clips(few(4, 1)) == clips(few(4, 1))
    assert not clips(few(20, 1)) & clips(few(20, 2))
    assert clips(few(4, 1)) < clips(few(9, 1)), "fewer are among more"


def test_labels_are_those_of_their_clips():
    made, whole = few(3), data.make("moving_mnist", "train", **SETTINGS)
    frames, labels = whole.batch(range(256))
    known = {(frame.numpy().tobytes(), int(label)) for frame, label in zip(frames, labels, strict=True)}
    for k in range(len(made)):
        frame, label = made[k]
        assert (frame.numpy().tobytes(), int(label)) in known


def test_only_training_clips_are_few():
    assert few(4, split="test").infinite and few(None).infinite


def test_refused(monkeypatch):
    with pytest.raises(ValueError, match="has no classes; pass labels='direction'"):
        few(4, labels=None)
    with pytest.raises(ValueError, match="argument 'per_class' is 0, expected 1 or more"):
        few(0)
    monkeypatch.setattr("lstmrep.data.few.APART", 256)
    with pytest.raises(ValueError, match=r"of 256 clips too few are of class [0-3]"):
        few(200)
