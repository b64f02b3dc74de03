"""Settings of the whole suite: fresh buffers start as NaN, torch uses two threads, every test starts from a seed."""

import os

import pytest
import torch

os.environ["LSTMREP_POISON"] = "1"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _threads():
    torch.set_num_threads(2)
