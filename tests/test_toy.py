"""What training must reach, on a toy that is trained once: ten glyphs on a 12x12 canvas, 8 frames in and 8 out.

Steps are counted, never seconds. Thresholds are shares of the mean-frame baseline, the harder of the two constant ones.
"""

import numpy as np
import pytest
import torch

import lstmrep
from lstmrep import data
from lstmrep.cli import evaluate, runs
from lstmrep.eval import load, recompute
from lstmrep.train import read_history

FREE = "model, free-running"


@pytest.fixture(scope="module")
def toy(toy_run):
    """The folder of the trained toy, its model, its configuration and its report over 60 frames."""
    model, config = runs.load_run(toy_run)
    report = evaluate.evaluate_run(model, config, "test", clips=256, steps=60)
    print(report.table())
    return toy_run, model, config, report


def mean(report, head, name, *frames):
    return report.row(head, name).mean(report.loss, *frames)


def test_reconstruction_and_future_beat_the_constant_baselines(toy):
    report = toy[3]
    assert mean(report, "reconstruction", FREE) < 0.6 * mean(report, "reconstruction", "mean frame")
    assert mean(report, "future", FREE, 0, 8) < 0.7 * mean(report, "future", "mean frame", 0, 8)


def test_errors_rise_past_the_trained_horizon(toy):
    curve = toy[3].row("future", FREE).curve("cross_entropy")
    assert curve[:8].max() < curve[15] < curve[59]
    assert np.isfinite(curve).all() and curve[59] > toy[3].row("future", "mean frame").curve("cross_entropy")[59]


def test_baselines_are_what_they_say(toy):
    """Formed again from the frames, with no code of the evaluation."""
    _, _, config, report = toy
    train_mean = torch.cat(list(evaluate.batches(runs.make_data(config, "train"), 1000, 100))).double().mean((0, 1))
    clips = runs.make_data(config, "test", num_frames=68).batch(range(256)).double()
    last, future = clips[:, 7:8], clips[:, 8:]
    for name, guess, clamp in (
        ("mean pixel", train_mean.mean().expand_as(future), 1e-10),
        ("mean frame", train_mean.expand_as(future), 1e-10),
        ("copy last", last.expand_as(future), 1e-4),
    ):
        p = guess.clamp(clamp, 1 - clamp)
        by_hand = -(future * p.log() + (1 - future) * (1 - p).log()).sum((2, 3, 4)).mean()
        # The baseline is kept in float32; its logarithm's error is at most eps over the clamp's distance from 0 and 1.
        allowed = 144 * torch.finfo(torch.float32).eps / min(clamp if name == "copy last" else 1e-3, 1e-3)
        assert abs(mean(report, "future", name) - float(by_hand)) < allowed, name


def test_a_longer_prediction_starts_as_a_shorter_one(toy):
    _, model, config, _ = toy
    frames = runs.make_data(config, "test").batch(range(4))[:, :8]
    long, short = model.predict(frames, 60), model.predict(frames, 8)
    assert long.shape == (4, 60, 1, 12, 12) and torch.isfinite(long).all()
    torch.testing.assert_close(long[:, :8], short)


def test_saved_frames_give_the_same_numbers(toy, tmp_path):
    report = toy[3]
    report.save(tmp_path)
    again, kept = recompute(tmp_path), report.first(report.kept)
    assert report.kept and load(tmp_path).clips == report.clips
    for row, expected in zip(again.rows, kept, strict=True):
        for name, values in expected.values.items():
            assert np.array_equal(row.values[name], values), (row.name, name)


def test_the_curve_and_the_checkpoint_are_there(toy):
    folder = toy[0]
    records = read_history(folder / "history.jsonl")
    assert [r["step"] for r in records] == list(range(100, 1201, 100))
    assert {"loss", "reconstruction_loss", "future_loss"} <= set(records[0])
    assert "valid_future_loss" in records[3] and records[-1]["future_loss"] < records[0]["future_loss"]
    assert (folder / "checkpoints" / "best.safetensors").is_file() and (folder / "model" / "config.json").is_file()


def test_the_encoder_helps_a_classifier_of_motion(toy):
    """Quadrant of the velocity after the last frame, 64 labels a class: chance is 0.25."""
    _, model, config, _ = toy
    settings = {k: v for k, v in config.data.items() if k != "name"} | {"num_frames": 8, "seed": 100}

    def labelled(split, n):
        clips = data.make("moving_mnist", split, **settings).clips(range(n))
        v = torch.as_tensor(clips.velocities)[:, -1, 0]
        return clips.frames, (v[:, 0] > 0).long() + 2 * (v[:, 1] > 0).long()

    frames, labels = labelled("train", 1000)
    chosen = torch.cat([(labels == k).nonzero()[:64, 0] for k in range(4)])
    torch.manual_seed(0)
    classifier = lstmrep.ActionClassifier(144, 96, 4).load_encoder(model)
    result = lstmrep.train.fit(
        classifier, (frames[chosen], labels[chosen]), steps=60, batch_size=256, lr=3e-3, progress=False
    )
    assert result.step == 60
    test_frames, test_labels = labelled("test", 1000)
    accuracy = (classifier.eval().predict(test_frames) == test_labels).float().mean()
    print(f"accuracy {accuracy:.3f}")
    assert accuracy >= 0.6
