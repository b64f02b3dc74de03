"""CUDA kernels that gave up, on the emulated device: ``lstmrep.check``, the next call of the op, the pinned word."""

import emulated
import pytest
import torch
from emulated_device import NEEDS_EMULATOR, ON_CARD, Card, emulated_device

import lstmrep

pytestmark = [
    pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason()),
    pytest.mark.skipif(ON_CARD, reason=NEEDS_EMULATOR),
]

SMALL = Card("2 SMs", 9, 0, 2, 227 << 10)


def test_a_kernel_that_gave_up_is_reported_once_by_check():
    with emulated_device(SMALL) as device:
        lstmrep.check()
        device.give_up(0, 3)
        with pytest.raises(
            RuntimeError, match=r"CUDA device 0 gave up .* \(code 3\) .* NaN; .* LSTMREP_CUDA_KERNEL=step"
        ):
            lstmrep.check()
        lstmrep.check()
        device.give_up(0, 4)
        with pytest.raises(RuntimeError, match="code 4"):
            lstmrep.check("cuda:0")
        for same in (None, 0, "cuda:0", torch.device("cuda", 0), 1):
            lstmrep.check(same)
        with pytest.raises(ValueError, match="argument 'device' is cpu; pass a CUDA device"):
            lstmrep.check("cpu")


def test_a_kernel_that_gave_up_is_reported_by_the_next_call_of_either_pass():
    with emulated_device(SMALL) as device:
        w_hh = torch.randn(32, 8, requires_grad=True)
        call = lambda: lstmrep.ops.lstm(torch.ones(1, 3, 2, 32), [], [w_hh], backend="cuda")[0].sum()  # noqa: E731
        loss = call()
        device.give_up(0, 1)
        with pytest.raises(RuntimeError, match="gave up"):
            call()
        call().backward()
        device.give_up(0, 1)
        with pytest.raises(RuntimeError, match="gave up"):
            loss.backward()
        lstmrep.check()


def test_there_is_one_word_a_device_and_none_of_devices_that_cannot_exist():
    device = emulated.module()
    device.give_up(0, 5)
    assert device.cuda_abort_devices() == [0]
    assert [device.cuda_take_abort(index) for index in (-1, 1, 63, 64)] == [0] * 4
    assert [device.cuda_take_abort(0), device.cuda_take_abort(0)] == [5, 0]
    for index in (1, 64, -1):
        with pytest.raises(RuntimeError, match="lstmrep: "):
            device.give_up(index, 1)
    assert device.cuda_abort_devices() == [0]
