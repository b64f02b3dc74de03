"""What people do with modules: copy, save, cast, train, compile, look at; and what is lstmrep.LSTM's own, the relu
cell and the peepholes' reach. Initial values are in test_nn_init.py."""

import copy
import io
import pickle

import pytest
import torch
from module_runs import assert_pair, draw, draw_state, run
from torch import nn

import lstmrep
from lstmrep.nn import init
from lstmrep.testing import assert_same_bits

T, B, I, H = 6, 7, 5, 16
PEEPHOLES = ["weight_pi_l0", "weight_pf_l0", "weight_po_l0"]
KINDS = [
    {},
    {"peephole": True},
    {"num_layers": 2, "bidirectional": True, "peephole": True, "batch_first": True, "recompute": True},
    {"peephole": True, "cell": "relu", "init": {"weight_hh": init.uniform(0.1), "peephole": init.constant(0.5)}},
    {"proj_size": 3, "peephole": True, "init": "paper"},
]


def _name(arguments: dict) -> str:
    return "-".join(arguments) or "defaults"


@pytest.fixture(params=KINDS, ids=_name)
def module(request):
    return lstmrep.LSTM(I, H, **request.param)


class TestCopies:
    X = torch.randn(T, B, I)

    def _assert_same(self, made: lstmrep.LSTM, module: lstmrep.LSTM) -> None:
        assert repr(made) == repr(module)
        assert made.weight_ih_l0.data_ptr() != module.weight_ih_l0.data_ptr()
        assert_same_bits(run(made, self.X), run(module, self.X))

    def test_pickle(self, module):
        made = pickle.loads(pickle.dumps(module))
        self._assert_same(made, module)
        torch.manual_seed(3)
        made.reset_parameters()
        torch.manual_seed(3)
        module.reset_parameters()
        assert_same_bits(made.state_dict(), module.state_dict())

    def test_deepcopy(self, module):
        self._assert_same(copy.deepcopy(module), module)

    def test_saved_state_dict(self, module):
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        made = copy.deepcopy(module)
        made.reset_parameters()
        made.load_state_dict(torch.load(file, weights_only=True), strict=True)
        self._assert_same(made, module)


def test_peephole_names():
    names = [name for name, _ in lstmrep.LSTM(I, H, peephole=True, bidirectional=True).named_parameters()]
    torch_names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    forward = torch_names + PEEPHOLES
    assert names == forward + [f"{name}_reverse" for name in forward]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_casts(module, dtype):
    cast = {torch.float64: nn.Module.double, torch.bfloat16: nn.Module.bfloat16, torch.float16: nn.Module.half}[dtype]
    made, expected = cast(copy.deepcopy(module)), module.to(dtype)
    got = run(made, torch.randn(T, B, I))
    assert {t.dtype for t in got.values()} == {dtype}
    assert all(t.isfinite().all() for t in got.values())
    torch.manual_seed(5)
    x = torch.randn(T, B, I)
    assert_same_bits(run(made, x), run(expected, x))


def test_meta_shapes(module):
    expected = run(module, torch.randn(T, B, I), draw_state(module, T if module.batch_first else B))
    made = module.to("meta")
    x = torch.randn(T, B, I, device="meta")
    output, (h_n, c_n) = made(x)
    for got, name in ((output, "output"), (h_n, "h_n"), (c_n, "c_n")):
        assert got.device.type == "meta"
        assert (got.shape, got.dtype) == (expected[name].shape, expected[name].dtype)


def test_repr():
    assert repr(lstmrep.LSTM(3, 4)) == "LSTM(3, 4)"
    made = lstmrep.LSTM(3, 4, 2, False, True, 0.5, True, 2, peephole=True, cell="relu", recompute=True, backend="cpu")
    assert repr(made) == (
        "LSTM(3, 4, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True, proj_size=2, "
        "peephole=True, cell='relu', recompute=True, backend='cpu')"
    )


def test_all_weights_and_flatten_parameters(module):
    groups = module.all_weights
    assert [p for group in groups for p in group] == list(module.parameters())
    assert len(groups) == module.num_layers * (2 if module.bidirectional else 1)
    before = run(module, torch.ones(T, B, I))
    assert module.flatten_parameters() is None
    assert_same_bits(run(module, torch.ones(T, B, I)), before)


@pytest.mark.parametrize("cell", ["tanh", "relu"])
def test_training_lowers_the_loss_and_moves_the_peepholes(cell):
    module = lstmrep.LSTM(I, H, peephole=True, cell=cell)
    x = torch.randn(T, B, I)
    # Not negative: the relu cell has no negative output.
    target = x.cumsum(0)[..., :1].tanh().abs() / 2
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    start = {name: p.detach().clone() for name, p in module.named_parameters()}
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (module(x)[0] - target).square().sum(-1).mean()
        loss.backward()
        assert all(p.grad.any() for p in module.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(not torch.equal(p, start[name]) for name, p in module.named_parameters())


def test_compiles_whole(module):
    x = torch.randn(T, B, I)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    hx = tuple(s.float() for s in draw_state(module, T if module.batch_first else B))
    expected, got = (m(x, hx) for m in (module, compiled))
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1][0], expected[1][0])
    assert torch.equal(got[1][1], expected[1][1])
    gradients = [torch.autograd.grad(r[0].sum() + r[1][1].sum(), list(module.parameters())) for r in (expected, got)]
    names = [name for name, _ in module.named_parameters()]
    assert_same_bits(dict(zip(names, gradients[1], strict=True)), dict(zip(names, gradients[0], strict=True)))


def test_weights_from_elsewhere():
    """Parametrized and functionally replaced weights are used: they are attributes, no longer parameters."""
    module, x = lstmrep.LSTM(I, H, peephole=True), torch.randn(T, B, I)
    expected = module(x)[0]
    doubled = {"weight_hh_l0": module.weight_hh_l0.detach() * 2, "weight_po_l0": torch.ones(H)}
    other = torch.func.functional_call(module, doubled, (x,))[0]
    held = copy.deepcopy(module)
    held.load_state_dict(module.state_dict() | doubled)
    assert torch.equal(other, held(x)[0])

    class Twice(nn.Module):
        def forward(self, w):
            return 2 * w

    nn.utils.parametrize.register_parametrization(module, "weight_hh_l0", Twice())
    nn.utils.parametrize.register_parametrization(module, "weight_po_l0", Twice())
    nn.utils.parametrize.register_parametrization(module, "weight_ih_l0", nn.Identity())
    held.load_state_dict(doubled | {"weight_po_l0": module.weight_po_l0.detach()}, strict=False)
    assert torch.equal(module(x)[0], held(x)[0])
    assert not torch.equal(module(x)[0], expected)


class TestToTorch:
    @pytest.mark.parametrize("name", PEEPHOLES)
    def test_refuses_a_peephole_that_is_not_zero(self, name):
        module = lstmrep.LSTM(I, H, peephole=True, init={"peephole": init.constant(0.0)})
        module.to_torch()
        with torch.no_grad():
            getattr(module, name)[-1] = 1e-30
        with pytest.raises(ValueError, match=f"peephole '{name}' is not zero"):
            module.to_torch()

    def test_refuses_the_relu_cell(self):
        with pytest.raises(ValueError, match="the cell is 'relu'"):
            lstmrep.LSTM(I, H, cell="relu").to_torch()


class TestCell:
    X = torch.randn(T, B, I)

    def test_relu_state_is_never_negative(self):
        module = lstmrep.LSTM(I, H, cell="relu", peephole=True, num_layers=2)
        states = [module(self.X[:steps])[1] for steps in range(1, T + 1)]
        assert all((c_n >= 0).all() and (h_n >= 0).all() for h_n, c_n in states)
        assert any(c_n.any() for _, c_n in states)

    @pytest.mark.parametrize("cell", ["tanh", "relu"])
    def test_zero_peepholes_are_none(self, cell):
        with_zeros = lstmrep.LSTM(I, H, peephole=True, cell=cell, init={"peephole": init.constant(0.0)})
        plain = lstmrep.LSTM(I, H, cell=cell)
        plain.load_state_dict({n: p for n, p in with_zeros.state_dict().items() if n not in PEEPHOLES})
        got, expected = run(with_zeros, self.X), run(plain, self.X)
        for name in ("output", "h_n", "c_n"):
            assert torch.equal(got[name], expected[name])
        x, hx = draw(T, B, I), draw_state(plain, B)
        assert_pair(plain, None, x, hx)
        assert_pair(with_zeros, None, x, hx)

    @pytest.mark.parametrize("name", PEEPHOLES)
    def test_what_each_peephole_sees(self, name):
        module = lstmrep.LSTM(I, H, peephole=True)
        x, hx = self.X[:1], (torch.zeros(1, B, H), torch.ones(1, B, H))
        _, (h, c) = module(x, hx)
        with torch.no_grad():
            getattr(module, name).add_(1)
        _, (h_moved, c_moved) = module(x, hx)
        assert (h_moved != h).all()
        # The output gate looks at the cell state after it is made, so it cannot change it in the same step.
        assert torch.equal(c_moved, c) if name == "weight_po_l0" else (c_moved != c).all()
        # From a zero state only the output gate's peephole has something to see in the first step.
        _, (h, c) = module(x)
        with torch.no_grad():
            getattr(module, name).add_(1)
        _, (h_moved, c_moved) = module(x)
        assert torch.equal(c_moved, c)
        assert torch.equal(h_moved, h) == (name != "weight_po_l0")
