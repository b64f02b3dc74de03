"""Modelled time of a training step: it has the terms of the planner's model, and orders what must be ordered."""

import pytest
import torch

import lstmrep
from lstmrep.cli import main
from lstmrep.duration import training_step
from lstmrep.plan import Machine, plan
from lstmrep.planner.cards import CARDS
from lstmrep.planner.steptime import grid_time, stepwise_time


def composite(hidden=2048, **options):
    with torch.device("meta"):
        return lstmrep.CompositeModel(4096, hidden, **options)


def test_recurrences_are_the_planners():
    """Of one decoder and the encoder, both passes of each, by the layouts that the planner chooses."""
    model, card = composite(reconstruct=0), CARDS["H100 SXM"]
    total = 0.0
    for problem in model.problems(80, 20):
        p = lstmrep.Problem(**{**vars(problem), "device": "cuda", "training": True})
        for backward, how in enumerate(plan(p, Machine(card=card)).cuda):
            time = stepwise_time(p, card, False) if how.grid is None else grid_time(p, card, how.grid, backward, False)
            total += time.total(p.steps)
    assert training_step(model, 80, 20, "H100 SXM").recurrences == pytest.approx(total)


def test_products_and_the_optimizer_by_hand():
    """An autoencoder without conditions: every product's flops counted, every byte of Adam's."""
    D, H, B, T, card = 4096, 2048, 80, 10, CARDS["A100"]
    made = training_step(composite(predict=0), B, T, "A100")
    inputs = 3 * 2 * T * B * 4 * H * D  # forward, the input's gradient, the weight's
    recurrent = 2 * 2 * T * B * 4 * H * H  # the weight's gradient, of the encoder and of the decoder
    heads = 3 * 2 * T * B * H * D
    assert made.products == pytest.approx((inputs + recurrent + heads) / (0.7 * card.float_rate))
    numbers = sum(p.numel() for p in composite(predict=0).parameters())
    assert made.optimizer == pytest.approx(numbers * 4 * 7 / card.memory_rate)
    assert made.step == made.recurrences + made.products + made.optimizer


def test_orders():
    def step(model=None, card="H100 SXM", batch=80, **how):
        return training_step(model or composite(), batch, 20, card, **how).step

    assert step(composite(4096)) > step() > step(composite(1024))
    assert step(batch=160) > step() and step(card="A100") > step() and step(dtype="bfloat16") < step()
    assert step(composite(num_layers=2)) > 1.5 * step()
    with torch.device("meta"):
        classifier = lstmrep.ActionClassifier(4096, 2048, 101)
    assert 0 < training_step(classifier, 80, 16, "H200").step < step()
    with pytest.raises(ValueError, match="card 'GTX 580' is not known; choose one of A100, H100 SXM"):
        step(card="GTX 580")


def test_the_command_says_hours_and_that_it_is_a_model(capsys):
    assert main(["train", "patches_paper", "--dry-run", "--card", "H100 SXM"]) == 0
    with torch.device("meta"):
        model = lstmrep.CompositeModel.from_preset("patches_paper")
    hours = training_step(model, 100, 29, "H100 SXM").hours(100_000)
    printed = capsys.readouterr().out
    assert "time      model, not measured: " in printed and f"; {hours:.2f} GPU hours for 100,000 steps" in printed
    assert main(["train", "patches_paper", "--card", "H100 SXM"]) == 2
    assert "add --dry-run" in capsys.readouterr().err
    assert main(["train", "actions_frame", "--dry-run", "--card", "A100"]) == 2
    assert "--card is for models with an LSTM" in capsys.readouterr().err
