"""``LSTM.pack``: packs kept from call to call give the same bits, and are never used once they may be stale.

That a pack is used shows in the one thing it cannot see: a write through ``.data``.
"""

import copy
import gc
import io

import pytest
import torch

import lstmrep
from lstmrep import native
from lstmrep.backends import packs

pytestmark = pytest.mark.skipif(bool(native.reason()), reason=f"the cpu backend is missing: {native.reason()}")


@pytest.fixture(autouse=True)
def no_packs_left():
    yield
    gc.collect()
    assert len(packs._kept) == 0, "a pack outlived its module"


def _module(dtype: torch.dtype = torch.float32, **options: object) -> lstmrep.LSTM:
    torch.manual_seed(0)
    return lstmrep.LSTM(12, 24, dtype=dtype, peephole=True, **options).eval()


def _run(module: lstmrep.LSTM, batch: int = 5) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return module(torch.randn(4, batch, 12).to(module.weight_ih_l0.dtype))[0]


def _used(module: lstmrep.LSTM) -> bool:
    """Whether the pack of the first layer is used: W_hh is hidden behind it for one call."""
    weight = module.weight_hh_l0
    before, data = _run(module), weight.data.clone()
    weight.data.neg_()
    same = torch.equal(_run(module), before)
    weight.data.copy_(data)
    return same


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one layer", "two, both ways"])
def test_a_pack_is_used_and_changes_no_bit(dtype, options):
    module = _module(dtype, **options)
    assert not _used(module)
    plain = [_run(module, batch) for batch in (1, 5, 17)]
    assert module.pack() is module
    assert _used(module)
    for expected, batch in zip(plain, (1, 5, 17), strict=True):
        assert torch.equal(_run(module, batch), expected)
    assert module.unpack() is module
    assert not _used(module)


@pytest.mark.parametrize("isa", native.module().cpu_isas_usable() if not native.reason() else [])
def test_of_every_instruction_set_and_of_no_other(isa):
    kernels = native.module()
    before = kernels.cpu_isa()
    try:
        kernels.set_cpu_isa(isa)
        module = _module(torch.bfloat16)
        plain = _run(module)
        assert _used(module.pack())
        assert torch.equal(_run(module), plain)
        for other in kernels.cpu_isas_usable():
            kernels.set_cpu_isa(other)
            assert _used(module) == (other == isa)
    finally:
        kernels.set_cpu_isa(before)


def _write_in_place(module):
    with torch.no_grad():
        module.weight_hh_l0.mul_(0.5)


def _step(module):
    module(torch.randn(4, 5, 12))[0].sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()


def _load(module):
    module.load_state_dict({name: value * 0.5 for name, value in module.state_dict().items()})


def _assign(module):
    module.load_state_dict({name: value * 0.5 for name, value in module.state_dict().items()}, assign=True)


def _replace(module):
    module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.detach() * 0.5)


def _point_elsewhere(module):
    module.weight_hh_l0.data = module.weight_hh_l0.detach() * 0.5


CHANGES = {
    "write in place": _write_in_place,
    "optimizer step": _step,
    "load_state_dict": _load,
    "load_state_dict(assign=True)": _assign,
    "another parameter": _replace,
    "other memory under .data": _point_elsewhere,
    "reset_parameters": lambda module: module.reset_parameters(),
    "double()": lambda module: module.double(),
    "train() and eval()": lambda module: module.train().eval(),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_change_makes_a_pack_void(change):
    module = _module().pack()
    assert _used(module)
    CHANGES[change](module)
    fresh = copy.deepcopy(module)
    assert not _used(fresh)
    assert torch.equal(_run(module), _run(fresh))
    assert not _used(module)


def test_eval_and_training_with_gradients_keep_one():
    module = _module().pack()
    module.eval()
    assert _used(module)
    x = torch.randn(4, 5, 12)
    module(x)[0].sum().backward()
    with_pack = module.weight_hh_l0.grad.clone()
    module.zero_grad()
    module.unpack()(x)[0].sum().backward()
    assert torch.equal(module.weight_hh_l0.grad, with_pack)


def test_a_write_through_data_goes_unseen_until_the_next_pack_and_is_seen_without_one():
    module = _module()
    plain = _run(module)
    module.pack()
    module.weight_hh_l0.data.mul_(0.5)
    assert torch.equal(_run(module), plain)
    module.pack()
    packed = _run(module)
    assert not torch.equal(packed, plain)
    module.unpack()
    assert torch.equal(_run(module), packed)
    module.weight_hh_l0.data.mul_(2.0)
    assert torch.equal(_run(module), plain)


def test_packs_are_neither_copied_nor_saved():
    module = _module()
    plain = io.BytesIO()
    torch.save(module, plain)
    module.pack()
    saved = io.BytesIO()
    torch.save(module, saved)
    assert saved.getbuffer().nbytes == plain.getbuffer().nbytes
    assert not _used(copy.deepcopy(module))
    assert _used(module)


def test_where_no_pack_can_be_kept():
    with pytest.raises(RuntimeError, match="call eval"):
        _module().train().pack()
    with pytest.raises(NotImplementedError, match="proj_size"):
        lstmrep.LSTM(4, 8, proj_size=3).eval().pack()
    with pytest.raises(RuntimeError, match="not on the CPU"):
        lstmrep.LSTM(4, 8, device="meta").eval().pack()
    with torch.inference_mode():
        made = lstmrep.LSTM(4, 8).eval()
    with pytest.raises(RuntimeError, match="inference mode"):
        made.pack()


def test_inference_mode_uses_a_pack_made_before():
    module = _module().pack()
    with torch.inference_mode():
        assert _used(module)
