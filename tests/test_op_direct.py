"""Small calls on the CPU that skip the interpreter: the same bits as the usual way, and which calls do."""

from __future__ import annotations

import pytest
import torch

import lstmrep
from lstmrep import _native
from lstmrep.backends import packs
from lstmrep.ops import direct, lstm, plans
from lstmrep.plan import PlanError
from lstmrep.testing import assert_same_bits

pytestmark = pytest.mark.skipif(
    not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"), reason="this torch has no C functions for reading tensors"
)
FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.fixture(autouse=True)
def _fresh_plans():
    plans.reset_plans()
    yield
    plans.reset_plans()


@pytest.fixture
def taken(monkeypatch):
    """Which passes went the direct way since: a list of their names."""
    names = []

    def watch(name):
        real = getattr(direct, name)

        def watched(*arguments, **options):
            made = real(*arguments, **options)
            names.extend([name] if made is not None else [])
            return made

        monkeypatch.setattr(direct, name, watched)

    watch("forward")
    watch("backward")
    return names


def _numbers(dtype, T=6, B=2, I=5, H=9, *, bias=2, peephole=True, states=True, narrow=False):
    """Inputs of a call by name, all of which want gradients."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    kind = dtype if narrow else wide
    shapes = {"x": (T, B, I), "w_ih": (4 * H, I), "w_hh": (4 * H, H)}
    shapes |= {"h0": (1, B, H), "c0": (1, B, H)} if states else {}
    shapes |= {f"bias{k}": (4 * H,) for k in range(bias)}
    shapes |= {f"peephole{k}": (H,) for k in range(3 if peephole else 0)}
    kinds = {"x": dtype, "w_ih": dtype, "w_hh": dtype, "h0": dtype, "c0": wide}
    return {name: torch.randn(shape).to(kinds.get(name, kind)).requires_grad_() for name, shape in shapes.items()}


def _biases(t):
    return [v for name, v in t.items() if name.startswith("bias")]


def _peepholes(t):
    return [v for name, v in t.items() if name.startswith("peephole")]


def _step(t, *, grads=(True, True, True), **options):
    """Outputs, and the gradients of all that want one."""
    given = {"h0": t.get("h0"), "c0": t.get("c0"), "bias": _biases(t), "peephole": _peepholes(t)}
    options = {**given, **options}
    outputs = lstm(t["x"], [t["w_ih"]], [t["w_hh"]], **options)
    found = dict(zip(("h", "h_n", "c_n"), outputs, strict=True))
    generator = torch.Generator().manual_seed(1)
    given = [torch.randn(o.shape, generator=generator).to(o.dtype) for o in outputs]
    wanted = {name: v for name, v in t.items() if v.requires_grad}
    if wanted:
        chosen = [(o, g) for o, g, use in zip(outputs, given, grads, strict=True) if use]
        made = torch.autograd.grad([o for o, _ in chosen], list(wanted.values()), [g for _, g in chosen])
        found |= {f"d_{name}": g for name, g in zip(wanted, made, strict=True)}
    return {name: v.detach() for name, v in found.items()}


def _both(monkeypatch, taken, t, expected, **options):
    """The same step both ways, the direct one twice: the first call of a kind and a later one."""
    direct_ways = []
    for _ in range(2):
        taken.clear()
        direct_ways.append(_step(t, **options))
        assert taken == expected
    with monkeypatch.context() as usual:
        usual.setattr(direct, "readable", lambda: False)
        wanted = _step(t, **options)
        assert taken == expected
    for got in direct_ways:
        assert_same_bits(got, wanted)


BOTH = ["forward", "backward"]


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"T": 1, "B": 1, "I": 1, "H": 1},
        {"bias": 1},
        {"bias": 0, "peephole": False},
        {"bias": 0},
        {"states": False, "narrow": True},
        {"T": 5, "B": 17, "I": 33, "H": 20, "peephole": False},
    ],
    ids=str,
)
def test_same_bits_as_the_usual_way(sizes, dtype, monkeypatch, taken):
    _both(monkeypatch, taken, _numbers(dtype, **sizes), BOTH)


@pytest.mark.parametrize("options", [{"cell": "relu"}, {"reverse": [True]}, {"backend": "cpu"}], ids=str)
def test_options_of_a_call(options, monkeypatch, taken):
    _both(monkeypatch, taken, _numbers(torch.float32), BOTH, **options)


@pytest.mark.parametrize("grads", [(True, False, False), (False, True, False), (False, False, True)])
def test_some_outputs_without_gradient(grads, monkeypatch, taken):
    _both(monkeypatch, taken, _numbers(torch.float32), BOTH, grads=grads)


@pytest.mark.parametrize("wanted", ["x", "w_ih", "w_hh", "h0", "c0", "bias1", "peephole2", ""])
def test_some_inputs_without_gradient(wanted, monkeypatch, taken):
    t = {name: v.detach().requires_grad_(name == wanted) for name, v in _numbers(torch.float32).items()}
    _both(monkeypatch, taken, t, BOTH if wanted else ["forward"])


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_under_another_default_device(device, taken):
    t = _numbers(torch.float32)
    wanted = _step(t)
    plans.reset_plans()
    with torch.device(device):
        outputs = lstm(
            t["x"], [t["w_ih"]], [t["w_hh"]], h0=t["h0"], c0=t["c0"], peephole=_peepholes(t), bias=_biases(t)
        )
        made = torch.autograd.grad(outputs[0], t["w_hh"], torch.ones_like(outputs[0]))
    assert taken == BOTH * 2
    assert_same_bits({"h": outputs[0].detach()}, {"h": wanted["h"]})
    assert made[0].device.type == "cpu" and made[0].isfinite().all()


def test_an_input_in_another_order(monkeypatch, taken):
    """As of batch_first: along its features it is dense."""
    t = _numbers(torch.float32)
    t["x"] = torch.randn(2, 6, 5).transpose(0, 1).requires_grad_()
    _both(monkeypatch, taken, t, BOTH)


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ({}, {"backend": "reference"}),
        ({}, {"lengths": torch.tensor([[3, 6]], dtype=torch.int32)}),
        ({}, {"recompute": True}),
        ({"H": 600, "T": 1100, "peephole": False}, {}),  # the gate gradients take more than is kept
    ],
    ids=["backend", "lengths", "recompute", "large"],
)
def test_other_calls_go_the_usual_way(sizes, options, monkeypatch, taken):
    monkeypatch.setattr(direct, "_KNOWN", 1)
    t = _numbers(torch.float32, **sizes)
    _step(t, **options)
    assert "backward" not in taken
    assert (taken == ["forward"]) == (not options)


def test_weights_that_are_not_dense_go_the_usual_way(taken):
    t = _numbers(torch.float32)
    wanted = _step(t)
    assert taken == BOTH
    loose = dict(t, w_ih=torch.cat([t["w_ih"], t["w_ih"]], 1).detach()[:, :5].requires_grad_())
    got = _step(loose)
    assert taken == BOTH
    assert_same_bits(got, wanted)


def test_a_gradient_that_is_not_dense_is_made_so(taken):
    t = _numbers(torch.float32)
    made = []
    for grad in (torch.ones(()).expand(1, 6, 2, 9), torch.ones(1, 6, 2, 9)):
        h, _, _ = lstm(t["x"], [t["w_ih"]], [t["w_hh"]])
        made.append({"d_w_hh": torch.autograd.grad(h, t["w_hh"], grad)[0]})
    assert taken == BOTH * 2
    assert_same_bits(*made)


def test_subclasses_and_listeners_see_the_op(taken):
    class Loud(torch.Tensor):
        pass

    t = _numbers(torch.float32)
    arguments = [t["w_ih"]], [t["w_hh"]]
    with torch.no_grad():
        lstm(t["x"].as_subclass(Loud), *arguments)
        with lstmrep.count_launches() as launches:
            lstm(t["x"], *arguments)
        with torch.profiler.profile() as seen:
            lstm(t["x"], *arguments)
        assert not taken
        lstm(t["x"], *arguments)
    assert taken == ["forward"] and launches.total
    assert "lstmrep::lstm" in {event.name for event in seen.events()}


def test_what_a_call_depends_on_is_asked_each_time(taken, monkeypatch):
    t = {name: v.detach() for name, v in _numbers(torch.float32).items()}
    first = _step(t)
    monkeypatch.setenv("LSTMREP_BACKEND", "reference")
    _step(t)
    assert taken == ["forward"]
    monkeypatch.delenv("LSTMREP_BACKEND")
    torch.set_num_threads(1)
    try:
        assert_same_bits(_step(t), first)
    finally:
        torch.set_num_threads(2)
    assert taken == ["forward"] * 2 and len(plans.direct_calls) == 3


def test_errors_are_those_of_the_usual_way_each_time(taken):
    t = _numbers(torch.float32)
    _step(t)
    for _ in range(2):
        with pytest.raises(ValueError, match="argument 'w_ih' has shape"):
            lstm(t["x"][..., :4], [t["w_ih"]], [t["w_hh"]])
        with pytest.raises(TypeError, match=r"argument 'x' is torch\.float64"):
            lstm(t["x"].double(), [t["w_ih"]], [t["w_hh"]])
        with pytest.raises(ValueError, match="argument 'cell' is 'gru'"):
            lstm(t["x"], [t["w_ih"]], [t["w_hh"]], cell="gru")
        with pytest.raises(PlanError, match="backend='gpu' is not known"):
            lstm(t["x"], [t["w_ih"]], [t["w_hh"]], backend="gpu")
    assert taken == BOTH


def test_second_derivatives_and_hooks_on_saved_tensors(taken):
    t = _numbers(torch.float64)
    h, _, _ = lstm(t["x"], [t["w_ih"]], [t["w_hh"]])
    (first,) = torch.autograd.grad(h, t["x"], torch.ones_like(h), create_graph=True)
    assert taken == ["forward"]
    assert torch.autograd.grad(first.square().sum(), t["w_hh"])[0].abs().sum() > 0
    taken.clear()
    seen = []
    with torch.autograd.graph.saved_tensors_hooks(lambda v: seen.append(v) or v.clone(), lambda v: v):
        h, _, _ = lstm(t["x"], [t["w_ih"]], [t["w_hh"]])
    torch.autograd.grad(h, t["x"], torch.ones_like(h))
    assert taken == BOTH and seen


def test_a_pack_that_is_kept_is_used(taken):
    module = lstmrep.LSTM(5, 9).eval()
    x = torch.randn(6, 2, 5)
    with torch.no_grad():
        wanted = module(x)[0]
        assert taken == ["forward"] and module.problems(2, 6)
        module.pack()
        assert packs.any_kept()
        got = module(x)[0]
    assert taken == ["forward"]
    assert_same_bits({"h": got}, {"h": wanted})


def test_few_kinds_are_remembered(monkeypatch, taken):
    monkeypatch.setattr(direct, "_KNOWN", 3)
    for steps in range(1, 8):
        _step(_numbers(torch.float32, T=steps))
        assert len(plans.direct_calls) <= 3
    assert taken == BOTH * 7


def test_without_torchs_functions_nothing_is_read(monkeypatch):
    direct.readable.cache_clear()
    real = torch.Tensor.__dlpack_c_exchange_api__
    del torch.Tensor.__dlpack_c_exchange_api__
    try:
        assert not direct.readable()
        assert "h" in _step(_numbers(torch.float32)) and not plans.direct_calls
    finally:
        torch.Tensor.__dlpack_c_exchange_api__ = real
        direct.readable.cache_clear()
    assert direct.readable()


def test_what_has_no_signature():
    assert direct.readable()
    dense = torch.randn(3, 4)
    named = {
        "nothing at all": (dense, 3),
        "a meta tensor": (dense, dense.to("meta")),
        "a sparse tensor": (dense.to_sparse(),),
        "a subclass": (torch.nn.Buffer(dense).as_subclass(type("Loud", (torch.Tensor,), {})),),
    }
    for what, tensors in named.items():
        assert _native.signature(tensors) is None, what
    known = {
        _native.signature(t)
        for t in [
            (dense,),
            (dense.t(),),
            (dense.view(4, 3),),
            (dense, None),
            (None, dense),
            (dense.double(),),
            (dense[0],),
        ]
    }
    assert len(known) == 7 and None not in known
    assert _native.signature((dense, None)) == _native.signature((torch.nn.Parameter(dense), None))


def test_a_direct_call_refuses_what_is_not_there():
    direct.readable()
    like = tuple(torch.zeros(()) for _ in range(9))
    sizes = {"dtype": 0, "cell": 0, "threads": 1, "packed": True, "by_rows": False, "T": 1, "B": 1, "H": 1, "I": 1}
    rest = {"vectors_as_io": False, "bias_parts": 0, "peephole": False, "reverse": False, "gradients_threads": 1}
    given = {**sizes, **rest, "fresh": torch.empty_like, "like": like}
    for changes, named in (({"cell": 2}, "cell"), ({"bias_parts": 3}, "bias_parts"), ({"like": like[1:]}, "like")):
        with pytest.raises(ValueError, match=rf"^{named} must"):
            _native.DirectCall(**{**given, **changes})
    call = _native.DirectCall(**given)
    scratch = torch.zeros(call.forward_bytes, dtype=torch.uint8)
    tensors = [torch.zeros(1, 1, 1), None, None, None, torch.zeros(4, 1), torch.zeros(4, 1)]
    call.forward(tuple(tensors), False, False, scratch.data_ptr())
    for wrong in ([3, *tensors[1:]], [None, *tensors[1:]], tensors[:4]):
        with pytest.raises((ValueError, IndexError)):
            call.forward(tuple(wrong), False, False, scratch.data_ptr())


@pytest.mark.parametrize("batch_first", [False, True])
def test_it_is_the_way_of_a_module(batch_first, taken):
    module, x = lstmrep.LSTM(5, 9, num_layers=2, peephole=True, batch_first=batch_first), torch.randn(2, 6, 5)
    output, _ = module(x)
    output.backward(torch.ones_like(output))
    assert taken == ["forward"] * 2 + ["backward"] * 2
    assert all(p.grad is not None for p in module.parameters())


def test_a_tensor_that_has_outlived_a_transform_goes_the_usual_way(taken):
    left = []
    torch.func.grad(lambda x: left.append(x) or x.sum())(torch.randn(6, 2, 5))
    t = _numbers(torch.float32)
    outputs = lstm(left[0], [t["w_ih"]], [t["w_hh"]])
    assert outputs[0].requires_grad and taken == []
    (same,) = (torch._C._functorch.unwrap_if_dead(x) for x in left)
    again = lstm(same, [t["w_ih"]], [t["w_hh"]])
    assert_same_bits({"h": outputs[0].detach()}, {"h": again[0].detach()})


@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_modules_call_like_one_before_gives_the_same(bias, peephole, monkeypatch, taken):
    layer, x = lstmrep.LSTM(5, 9, bias=bias, peephole=peephole), torch.randn(6, 2, 5)

    def step():
        h, (h_n, c_n) = layer(x)
        made = torch.autograd.grad(h.sum() + c_n.sum(), list(layer.parameters()))
        with torch.no_grad():
            again = layer(x)[0]
        return {"h": h.detach(), "h_n": h_n.detach(), "c_n": c_n.detach(), "again": again} | dict(enumerate(made))

    first, second = step(), step()
    assert taken == ["forward", "backward", "forward"] * 2
    monkeypatch.setattr(direct, "readable", lambda: None)
    assert_same_bits(first, step())
    assert_same_bits(second, first)


def test_the_backward_pass_of_a_modules_second_call_may_go_the_usual_way(taken):
    """Its h has no first dimension, which everything but the kernels' own way expects."""
    layer, x = lstmrep.LSTM(5, 9, peephole=True).double(), torch.randn(6, 2, 5).double().requires_grad_()
    inputs = [x, *layer.parameters()]

    def second_derivatives():
        h = layer(x)[0]
        made = torch.autograd.grad(h, inputs, torch.ones_like(h), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in made), inputs)

    def watched():
        h = layer(x)[0]
        with torch.profiler.profile():
            return torch.autograd.grad(h, inputs, torch.ones_like(h))

    for made in (second_derivatives, watched):
        torch.testing.assert_close(made(), made())
    assert taken == ["forward"] * 4
    layer(x)[0].backward(torch.ones(6, 2, 9).double())
    for parameter, there in zip(inputs, watched(), strict=True):
        torch.testing.assert_close(parameter.grad, there)


def test_a_modules_output_may_be_changed_in_place_as_that_of_torch():
    layer, x = lstmrep.LSTM(5, 9), torch.randn(6, 2, 5)
    for _ in range(2):
        with torch.no_grad():
            layer(x)[0].add_(1.0)
        h = layer(x)[0] * 1.0
        h.add_(1.0).sum().backward()
        output = layer(x)[0]
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.add_(1.0).sum().backward()


def test_a_modules_second_call_is_checked_as_the_first(taken):
    layer, x = lstmrep.LSTM(5, 9), torch.randn(6, 2, 5)
    layer(x)
    wrong = {"features": x[..., :4], "shape": x[0, 0], "is torch.float64": x.double(), "is a list": x.tolist()}
    for named, given in wrong.items():
        with pytest.raises((TypeError, ValueError), match=f"lstmrep.LSTM: argument 'input'.*{named}"):
            layer(given)
    taken.clear()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x)[0].dtype == torch.bfloat16
    assert layer(x[:, 0])[0].shape == (6, 9)  # unbatched
    layer.batch_first = True
    assert layer(x)[1][0].shape == (1, 6, 9)
    layer.batch_first = False
    assert taken == ["forward"] * 3
    layer.backend = "reference"
    assert layer(x)[0].shape == (6, 2, 9)
    assert taken == ["forward"] * 3
