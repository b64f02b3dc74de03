"""The launch counter."""

import pytest
import torch

import lstmrep
from lstmrep.ops import lstm


def _step(w_ih, w_hh, x, backend):
    h, _, _ = lstm(x, [w_ih], [w_hh], backend=backend)
    return h.sum()


def test_counts_own_kernels_and_torch_operations():
    w_ih, w_hh = torch.randn(16, 5, requires_grad=True), torch.randn(16, 4, requires_grad=True)
    x = torch.randn(7, 2, 5)
    with lstmrep.count_launches() as forward:
        loss = _step(w_ih, w_hh, x, "cpu")
    assert dict(forward.own) == {"cpu_forward": 1}
    assert forward.torch["mm"] == 0 and forward.torch["sum"] == 1
    assert forward.total == 2 + forward.torch["fill_"] + forward.torch["full"]
    with lstmrep.count_launches() as backward:
        loss.backward()
    assert dict(backward.own) == {"cpu_backward": 1, "cpu_gradients": 1}
    assert backward.torch["mm"] == 0


@pytest.mark.usefixtures("library_gradients")
def test_counts_library_products():
    w_ih, w_hh = torch.randn(16, 5, requires_grad=True), torch.randn(16, 4, requires_grad=True)
    loss = _step(w_ih, w_hh, torch.randn(7, 2, 5), "cpu")
    with lstmrep.count_launches() as backward:
        loss.backward()
    assert dict(backward.own) == {"cpu_backward": 1}
    assert backward.torch["mm"] == 2  # dW_ih and dW_hh; x needs no gradient


def test_a_loop_over_steps_costs_many_launches():
    w_ih, w_hh, x = torch.randn(16, 5), torch.randn(16, 4), torch.randn(50, 2, 5)
    with lstmrep.count_launches() as loop:
        _step(w_ih, w_hh, x, "reference")
    with lstmrep.count_launches() as fused:
        _step(w_ih, w_hh, x, "cpu")
    assert loop.total > 50 * 10 > 10 * fused.total


def test_blocks_nest_and_start_from_zero():
    with lstmrep.count_launches() as nothing:
        pass
    assert nothing.total == 0 and "total=0" in repr(nothing)
