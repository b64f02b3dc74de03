"""The library's own models on its own data: exact resume with scheduled feeding, labels, time-first frames."""

import doctest

import pytest
import torch
from train_runs import config, same_parameters

import lstmrep
import lstmrep.train
from lstmrep.data import Digits, MovingMNIST
from lstmrep.testing.tolerance import one_thread
from lstmrep.train import Trainer, fit, load_weights

CANVAS, FRAMES = 12, 6


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def _data(seed: int, **options) -> MovingMNIST:
    """Two drawn 5x5 digits; no file is read."""
    images = torch.zeros(4, 5, 5)
    for k in range(4):
        images[k, k : k + 2, 1:4] = 1.0
    digits = Digits(images, torch.arange(4), "drawn", "train")
    return MovingMNIST(digits, FRAMES, CANVAS, 1, seed=seed, length=20, **options)


def _model(seed: int, **options) -> lstmrep.CompositeModel:
    torch.manual_seed(seed)
    sizes = {"reconstruct": FRAMES // 2, "predict": FRAMES // 2}
    return lstmrep.CompositeModel(CANVAS**2, 16, **{**sizes, **options})


def _trainer(model, steps, out, **train) -> Trainer:
    settings = config(steps, save_every=4, validate_every=4, validation_batches=2, **train)
    return Trainer(model, _data(1), settings, valid=_data(2), out=out, progress=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_composite_model_resumes_exactly(tmp_path, workers):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    options = {"conditional_future": True, "feeding": "scheduled", "num_layers": 2}
    settings = {"teacher_start": 1.0, "teacher_end": 0.0, "teacher_steps": 8, "workers": workers}
    whole, first, second = (_model(seed, **options) for seed in (1, 1, 2))
    expected = _trainer(whole, 8, tmp_path / "whole", **settings).fit()
    _trainer(first, 4, tmp_path / "halves", **settings).fit()
    result = _trainer(second, 8, tmp_path / "halves", **settings).fit(resume=True)
    assert result == expected
    assert same_parameters(second, whole)
    record = result.history[-1]
    assert record["valid_future_loss"] != record["teacher_future_loss"]
    assert record["valid_reconstruction_loss"] == record["teacher_reconstruction_loss"], "that decoder reads nothing"
    loaded = _model(3, **options)
    assert load_weights(loaded, tmp_path / "halves").state["step"] == result.best_step


def test_teacher_steps_need_scheduled_feeding():
    with pytest.raises(ValueError, match="build it with feeding='scheduled'"):
        _trainer(_model(1, conditional_future=True), 1, None, teacher_steps=4)


@pytest.mark.parametrize("part", ["reconstruct", "predict"])
def test_half_a_model_logs_the_part_it_has(capsys, part):
    model = _model(1, **{part: 0})
    result = Trainer(model, _data(1), config(2), progress=True).fit()
    there, absent = ("future_loss", "reconstruction_loss")[:: 1 if part == "reconstruct" else -1]
    assert there in result.history[0]
    assert absent not in result.history[0]
    line = capsys.readouterr().out.splitlines()[0]
    assert line == f"Step 1 {'Fut' if there == 'future_loss' else 'Dec'} {result.history[0][there]:.5f}"


def test_time_first_models_take_the_same_batches():
    frames = _data(1).batch(range(12))
    curves = []
    for batch_first in (True, False):
        model = _model(1, batch_first=batch_first)
        curves.append(fit(model, frames, steps=3, batch_size=4, print_every=1, valid=frames, progress=False).history)
    assert curves[0] == curves[1]


def test_a_classifier_learns_which_digit_moves():
    data = _data(1, labels="digits")
    frames, labels = data.batch(range(48))
    torch.manual_seed(1)
    model = lstmrep.ActionClassifier(CANVAS**2, 16, num_classes=4, dropout=0.2)
    settings = {"batch_size": 16, "lr": 0.01, "print_every": 20, "progress": False, "clip_norm": 5.0}
    result = fit(model, (frames, labels.reshape(-1)), steps=200, **settings)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert result.history[-1]["accuracy"] > 0.5, "four classes: 0.25 is chance"


@pytest.mark.parametrize("optimizer", ["velocity_sgd", "velocity_rmsprop"])
def test_the_originals_settings_bring_the_loss_down(optimizer):
    frames = _data(1).batch(range(16))
    scale = 16 * FRAMES / 2 if optimizer == "velocity_sgd" else FRAMES / 2
    rule = lstmrep.train.OptimizerConfig(
        name=optimizer, lr=1e-3, weight_decay=1e-4, velocity_clip=1e-2, gradient_scale=scale
    )
    result = fit(_model(1), frames, steps=40, batch_size=16, optimizer=rule, print_every=20, progress=False)
    assert result.history[1]["loss"] < result.history[0]["loss"]


def test_docstring_examples_run():
    from lstmrep.train import config, trainer  # modules, not the settings above

    model = _model(1)
    names = {"model": model, "data": _data(1), "frames": _data(1).batch(range(6)), "fit": fit}
    for module, examples in ((config, 2), (trainer, 3), (fit, 2)):
        runner, ran = doctest.DocTestRunner(), 0
        for test in doctest.DocTestFinder().find(module, extraglobs=names):
            runner.run(test)
            ran += len(test.examples)
        assert (runner.failures, ran) == (0, examples)
