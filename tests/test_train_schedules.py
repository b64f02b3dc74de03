"""Learning rate and teacher probability at given steps, and against torch's own schedulers."""

import math

import pytest
import torch

from lstmrep.train import OptimizerConfig, TrainConfig
from lstmrep.train.schedules import learning_rate, teacher_probability


def test_step_decay_acts():
    config = OptimizerConfig(lr=1e-4, schedule="step", decay_factor=0.9, decay_after=10000)
    assert learning_rate(config, 9_999, 1) == 1e-4
    assert learning_rate(config, 10_000, 1) == 0.9 * 1e-4
    assert learning_rate(config, 25_000, 1) == 1e-4 * 0.9**2


def test_inert_decay_is_computed_and_ignored():
    config = OptimizerConfig(lr=1e-4, schedule="step", inert=True)
    assert {learning_rate(config, step, 1) for step in (0, 10_000, 10**6)} == {1e-4}


def test_constant():
    assert learning_rate(OptimizerConfig(lr=0.5), 10**6, 10) == 0.5


@pytest.mark.parametrize("length", [40, 3])
@pytest.mark.parametrize("name", ["onecycle", "cosine"])
def test_against_torch(name, length):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    if name == "onecycle":
        theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=length, cycle_momentum=False)
    else:
        theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, length)
    config = OptimizerConfig(lr=0.1, schedule=name)
    for step in range(length):
        # Theirs may multiply from step to step: two roundings of a rate of at most 0.1 for each step, the cosine's
        # own, and as many of ours.
        bound = 0.1 * 4 * (step + 2) * torch.finfo(torch.float64).eps
        assert abs(learning_rate(config, step, length) - optimizer.param_groups[0]["lr"]) <= bound
        optimizer.step()
        theirs.step()


def test_a_schedule_of_its_own_length_ends_there():
    config = OptimizerConfig(lr=1.0, schedule="cosine", schedule_steps=10)
    assert learning_rate(config, 5, 1000) == 0.5 * (1 + math.cos(math.pi / 2))
    assert learning_rate(config, 10, 1000) == learning_rate(config, 500, 1000) == 0.0


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.25, 1.0)])
def test_teacher_probability(start, end):
    config = TrainConfig(teacher_start=start, teacher_end=end, teacher_steps=8)
    values = [teacher_probability(config, step) for step in (0, 4, 8, 800)]
    assert values == [start, (start + end) / 2, end, end]
    assert teacher_probability(TrainConfig(), 3) is None
