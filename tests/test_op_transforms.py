"""The op under everything torch does to an op: opcheck, gradcheck, torch.compile, torch.export, checkpointing,
torch.func, forward mode, autocast, fake and meta tensors."""

import warnings

import pytest
import torch
from torch.autograd import forward_ad
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

from lstmrep.ops import lstm
from lstmrep.testing import assert_same_bits, assert_within, budget, moved

T, B, I, H = 3, 2, 3, 4
LENGTHS = {1: [[3, 1]], 2: [[3, 1], [0, 2]]}


def _tensors(n: int, dtype=torch.float64) -> tuple[torch.Tensor, ...]:
    """x, bias, peephole, h0, c0, then n of w_ih and n of w_hh."""
    shapes = [(T, B, I), (n, 4 * H), (n, 3, H), (n, B, H), (n, B, H), *[(4 * H, I)] * n, *[(4 * H, H)] * n]
    return tuple(torch.randn(s, dtype=torch.float64).mul(0.4).to(dtype) for s in shapes)


def _call(n: int, *tensors: torch.Tensor, lengths: bool = False, cell: str = "tanh", **options):
    x, bias, peephole, h0, c0, *weights = tensors
    return lstm(
        x,
        weights[:n],
        weights[n:],
        bias=bias,
        peephole=peephole,
        h0=h0,
        c0=c0,
        lengths=torch.tensor(LENGTHS[n]) if lengths else None,
        reverse=[False, True][:n],
        cell=cell,
        **options,
    )


def _loss(n: int, *tensors: torch.Tensor, **options) -> torch.Tensor:
    h, h_n, c_n = _call(n, *tensors, **options)
    return h.square().sum() + h_n.sum() + c_n.pow(3).sum()


def _leaves(tensors):
    return [t.clone().requires_grad_() for t in tensors]


def _gradients(n: int, tensors, **options) -> dict[str, torch.Tensor]:
    leaves = _leaves(tensors)
    return _named(torch.autograd.grad(_loss(n, *leaves, **options), leaves))


def _named(tensors) -> dict[str, torch.Tensor]:
    return {str(k): t for k, t in enumerate(tensors)}


def _budget(n: int, tensors, **options):
    """Of the gradients of the loss, for results in float64."""
    return budget(
        lambda dtype, order: _gradients(n, [moved(t, dtype, order) for t in tensors], backend="reference", **options),
        torch.float64,
    )


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("cell", ["tanh", "relu"])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradcheck_of_every_input(n, cell, lengths, recompute, backend):
    def call(*tensors):
        return _call(n, *tensors, cell=cell, lengths=lengths, recompute=recompute, backend=backend)

    assert torch.autograd.gradcheck(call, _leaves(_tensors(n)))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("n", [1, 2])
def test_double_backward(n, backend):
    def call(*tensors):
        return _call(n, *tensors, lengths=True, backend=backend)

    assert torch.autograd.gradgradcheck(call, _leaves(_tensors(n)))


def test_double_backward_of_a_tensor_passed_twice():
    def call(state, weight):
        return lstm(None, [], [weight], h0=state, c0=state, steps=2, backend="cpu")

    tensors = _leaves((torch.randn(1, B, H, dtype=torch.float64), torch.randn(4 * H, H, dtype=torch.float64)))
    assert torch.autograd.gradcheck(call, tensors)
    assert torch.autograd.gradgradcheck(call, tensors)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("save", ["states", "all"])
def test_opcheck_forward(n, requires_grad, save):
    x, bias, peephole, h0, c0, *weights = (t.requires_grad_(requires_grad) for t in _tensors(n))
    arguments = (x, weights[:n], weights[n:], [bias], [peephole], h0, c0, None, T, [False] * n, "tanh", "auto", save)
    opcheck(torch.ops.lstmrep.lstm.default, arguments)


def test_opcheck_inference():
    x, bias, peephole, h0, c0, *weights = _tensors(2)
    lengths = torch.tensor(LENGTHS[2], dtype=torch.int32)
    arguments = (
        x,
        weights[:2],
        weights[2:],
        list(bias),
        [v for row in peephole for v in row],
        h0,
        c0,
        lengths,
        T,
        [False, True],
        "relu",
        "cpu",
        "nothing",
    )
    opcheck(torch.ops.lstmrep.lstm.default, arguments)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("recompute", [False, True])
def test_opcheck_backward(n, recompute):
    x, bias, peephole, h0, c0, *weights = _tensors(n)
    w_ih, w_hh = weights[:n], weights[n:]
    flags = ([False, True][:n], "tanh", "auto")
    save = "states" if recompute else "all"
    h, _, _, gates, c = torch.ops.lstmrep.lstm(x, w_ih, w_hh, [bias], [peephole], h0, c0, None, T, *flags, save)
    expanded = torch.ones(1, 1, 1, 1, dtype=h.dtype).expand_as(h)
    inputs = (x, w_ih, w_hh, [bias], [peephole], h0, c0, None, h, None if recompute else gates, c)
    for grads in ((expanded, None, None), (None, h[:, 0], None), (h, h[:, 0], c[:, 0])):
        opcheck(torch.ops.lstmrep.lstm_backward.default, (*grads, *inputs, *flags, [True] * 7))
    needs = [True, False, False, True, False, True, False]
    opcheck(torch.ops.lstmrep.lstm_backward.default, (h, None, None, *inputs, *flags, needs))


def test_direct_call_without_saving_refuses_to_differentiate():
    x, bias, peephole, h0, c0, w_ih, w_hh = _leaves(_tensors(1))
    flags = ([False], "tanh", "auto")
    with pytest.raises(RuntimeError, match="save='nothing'"):
        torch.ops.lstmrep.lstm(x, [w_ih], [w_hh], [bias], [peephole], h0, c0, None, T, *flags, "nothing")


@pytest.mark.parametrize(
    ("n", "compiler", "recompute"),
    [(1, "aot_eager", False), (2, "aot_eager", True), (2, "inductor", False)],
)
def test_compile_fullgraph(n, compiler, recompute):
    torch._dynamo.reset()
    tensors = _tensors(n)
    leaves = _leaves(tensors)
    compiled = torch.compile(lambda *t: _loss(n, *t, recompute=recompute), fullgraph=True, backend=compiler)
    got = _named(torch.autograd.grad(compiled(*leaves), leaves))
    assert_within(got, _budget(n, tensors))
    with torch.no_grad():  # inference: nothing is saved
        limits = budget(
            lambda dtype, order: {"loss": _loss(n, *[moved(t, dtype, order) for t in tensors], backend="reference")},
            torch.float64,
        )
        assert_within({"loss": compiled(*tensors)}, limits)


def test_compile_with_dynamic_shapes():
    torch._dynamo.reset()
    weights = _tensors(1)[5:]
    compiled = torch.compile(
        lambda x: lstm(x, [weights[0]], [weights[1]])[0], fullgraph=True, dynamic=True, backend="eager"
    )
    for t, b in ((3, 2), (5, 4), (6, 7)):
        x = torch.randn(t, b, I, dtype=torch.float64)
        assert torch.equal(compiled(x), lstm(x, [weights[0]], [weights[1]])[0])


class _Module(torch.nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        _, bias, peephole, _, _, *weights = _tensors(n)
        self.n = n
        self.weights = torch.nn.ParameterList(weights)
        self.bias, self.peephole = torch.nn.Parameter(bias), torch.nn.Parameter(peephole)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = list(self.weights)
        return lstm(x, w[: self.n], w[self.n :], bias=self.bias, peephole=self.peephole)[0]


@pytest.mark.parametrize("n", [1, 2])
def test_export(n):
    module = _Module(n)
    dims = {"x": {0: torch.export.Dim("T", min=1, max=64), 1: torch.export.Dim("B", min=1, max=64)}}
    program = torch.export.export(module, (torch.randn(5, 7, I, dtype=torch.float64),), dynamic_shapes=dims)
    x = torch.randn(9, 4, I, dtype=torch.float64)
    assert torch.equal(program.module()(x), module(x))
    assert "lstmrep.lstm" in str(program.graph)


@pytest.mark.parametrize("n", [1, 2])
def test_non_reentrant_checkpoint(n):
    tensors = _tensors(n)
    leaves = _leaves(tensors)
    loss = checkpoint(lambda *t: _loss(n, *t), *leaves, use_reentrant=False)
    assert_same_bits(_named(torch.autograd.grad(loss, leaves)), _gradients(n, tensors))


def test_saved_tensor_hooks_see_each_tensor_once():
    unpacked = []
    leaves = _leaves(_tensors(1))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: unpacked.append(t) or t):
        h, _, _ = _call(1, *leaves)
    torch.autograd.grad(h, leaves, torch.ones_like(h))
    pointers = [t.data_ptr() for t in unpacked]
    assert len(pointers) == len(set(pointers)) == 10  # seven inputs, h, gates, c


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_func_grad(n, backend):
    tensors = _tensors(n)
    every = tuple(range(len(tensors)))
    got = torch.func.grad(lambda *t: _loss(n, *t, backend=backend, lengths=True), argnums=every)(*tensors)
    assert_within(_named(got), _budget(n, tensors, lengths=True))


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_func_vmap_over_inputs_and_weights(n, backend):
    x, bias, peephole, h0, c0, *weights = _tensors(n)
    xs = torch.stack([x, -x, 2 * x], dim=1)
    last = torch.stack([weights[-1], weights[-1] / 2, -weights[-1]], dim=2)

    def loss(x, w):
        return _loss(n, x, bias, peephole, h0, c0, *weights[:-1], w, backend=backend)

    got = torch.func.vmap(loss, in_dims=(1, 2))(xs, last)
    one_by_one = [loss(xs[:, k], last[:, :, k]) for k in range(3)]
    limits = budget(
        lambda dtype, order: {
            str(k): _loss(
                n,
                *(moved(t, dtype, order) for t in (xs[:, k], bias, peephole, h0, c0, *weights[:-1], last[:, :, k])),
                backend="reference",
            )
            for k in range(3)
        },
        torch.float64,
    )
    assert_within(_named(got), limits)
    assert_within(_named(one_by_one), limits)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("each", [False, True])
def test_func_per_sample_gradients(n, each):
    x, *rest = _tensors(n)
    samples = [x, -x, 2 * x]
    if each:  # a sequence for each recurrence
        samples = [torch.stack([s, s.flip(0)][:n]) for s in samples]
    every = tuple(range(len(rest) + 1))
    in_dims = (0,) + (None,) * len(rest)
    got = torch.func.vmap(torch.func.grad(lambda *t: _loss(n, *t), argnums=every), in_dims)(torch.stack(samples), *rest)
    for k, sample in enumerate(samples):
        assert_within(_named([g[k] for g in got]), _budget(n, (sample, *rest)))


def test_func_jacrev_equals_jacobian():
    tensors = _tensors(1)

    def outputs(*t):
        return _call(1, *t)[0].sum((0, 1))

    got = torch.func.jacrev(outputs, argnums=tuple(range(7)))(*tensors)
    limits = budget(
        lambda dtype, order: _named(
            torch.autograd.functional.jacobian(
                lambda *t: _call(1, *t, backend="reference")[0].sum((0, 1)),
                tuple(moved(t, dtype, order) for t in tensors),
            )
        ),
        torch.float64,
    )
    assert_within(_named(got), limits)


def test_func_second_derivative_needs_the_reference():
    tensors = _tensors(1)
    with pytest.raises(NotImplementedError, match="backend='reference'"):
        torch.func.grad(lambda x: torch.func.grad(lambda y: _loss(1, y, *tensors[1:]))(x).sum())(tensors[0])
    hessian = torch.func.hessian(lambda x: _loss(1, x, *tensors[1:], backend="reference"))(tensors[0])
    assert hessian.shape == tensors[0].shape * 2 and hessian.abs().sum() > 0


@pytest.mark.parametrize("weights_require_grad", [False, True])
def test_forward_mode_raises(weights_require_grad):
    x, *rest = _tensors(1)
    rest = [t.requires_grad_(weights_require_grad) for t in rest]
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode"):
        _call(1, forward_ad.make_dual(x, torch.ones_like(x)), *rest)
    with pytest.raises(NotImplementedError, match="forward-mode"):
        torch.func.jvp(lambda v: _loss(1, v, *[t.detach() for t in rest]), (x,), (x,))


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inside", [False, True], ids=["backward_outside", "backward_inside"])
def test_autocast(low, inside):
    tensors = _tensors(1, torch.float32)
    leaves = _leaves(tensors)
    with torch.autocast("cpu", dtype=low):
        h, h_n, c_n = _call(1, *leaves)
        if inside:
            got = torch.autograd.grad([h, c_n], leaves, [torch.ones_like(h), torch.ones_like(c_n)])
    assert (h.dtype, h_n.dtype, c_n.dtype) == (low, low, torch.float32)
    if not inside:
        got = torch.autograd.grad([h, c_n], leaves, [torch.ones_like(h), torch.ones_like(c_n)])
    assert all(g.dtype == torch.float32 for g in got)
    # The same by hand: x, weights and h0 cast, the rest float32.
    cast = [t.to(low) if k in (0, 3, 5, 6) else t for k, t in enumerate(tensors)]
    by_hand = _leaves(cast)
    expected = _call(1, *by_hand)
    assert_same_bits(_named([h, h_n, c_n]), _named(expected))
    expected = torch.autograd.grad(expected[::2], by_hand, [torch.ones_like(h), torch.ones_like(c_n)])
    assert_same_bits(_named(got), _named([g.float() for g in expected]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_jit_trace_says_what_to_use():
    w = torch.randn(4 * H, H)

    def call(h0):
        return lstm(None, [], [w], h0=h0, steps=2)[0]

    with pytest.raises(NotImplementedError, match=r"use torch\.export"):
        torch.jit.trace(call, torch.randn(1, B, H))


def test_inference_mode():
    tensors = _tensors(1)
    with torch.inference_mode():
        h, _, _ = _call(1, *tensors)
    assert h.is_inference()
    assert torch.equal(h, _call(1, *tensors)[0])


def test_profiler_shows_the_op():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        _call(1, *_tensors(1))
    assert "lstmrep::lstm" in {event.key for event in record.key_averages()}


def test_meta_tensors_give_shapes():
    h, h_n, c_n = _call(2, *(t.to("meta") for t in _tensors(2, torch.bfloat16)), backend="auto")
    assert (h.shape, h.dtype) == ((2, T, B, H), torch.bfloat16)
    assert (h_n.shape, c_n.shape, c_n.dtype) == ((2, B, H), (2, B, H), torch.float32)


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _gradients(2, _tensors(2))


def _two_biases(n: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Torch's two biases of each recurrence, side by side, and matrices, without peepholes."""
    x, bias, _, _, _, *weights = _tensors(n)
    return [x, *weights], [b for row in bias for b in (row, row.flip(0))]


def _of_two_biases(n: int, tensors, backend: str = "cpu") -> torch.Tensor:
    x, weights, bias = tensors[0], tensors[1 : 1 + 2 * n], tensors[1 + 2 * n :]
    h, h_n, c_n = lstm(x, weights[:n], weights[n:], bias=list(bias), reverse=[False, True][:n], backend=backend)
    return h.square().sum() + h_n.sum() + c_n.pow(3).sum()


@pytest.mark.parametrize("n", [1, 2])
def test_two_biases_under_every_transform(n):
    """gradcheck, a second derivative, the dispatcher's own checks, torch.func and torch.compile."""
    given, biases = _two_biases(n)
    every = tuple(range(len(given) + len(biases)))
    leaves = _leaves([*given, *biases])
    assert torch.autograd.gradcheck(lambda *t: _of_two_biases(n, t), leaves)
    assert torch.autograd.gradgradcheck(lambda *t: _of_two_biases(n, t), leaves)
    expected = torch.autograd.grad(_of_two_biases(n, leaves), leaves)

    got = torch.func.grad(lambda *t: _of_two_biases(n, t), argnums=every)(*(t.detach() for t in leaves))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
    compiled = torch.compile(lambda *t: _of_two_biases(n, t), backend="aot_eager", fullgraph=True)
    for a, b in zip(torch.autograd.grad(compiled(*leaves), leaves), expected, strict=True):
        torch.testing.assert_close(a, b)

    (x, *weights), flags = given, ([False, True][:n], "tanh", "auto")
    inputs = (x, weights[:n], weights[n:], biases, [], None, None, None)
    opcheck(torch.ops.lstmrep.lstm.default, (*inputs, T, *flags, "all"))
    h, _, _, gates, c = torch.ops.lstmrep.lstm(*inputs, T, *flags, "all")
    for needs in ([True, True, True, True], [False, False, True, True]):  # of x, w_ih, w_hh and bias
        flat = (h, None, None, *inputs, h, gates, c, *flags, [*needs, False, False, False])
        opcheck(torch.ops.lstmrep.lstm_backward.default, flat)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("samples", [1, 3])
def test_two_biases_for_each_sample(n, samples):
    given, biases = _two_biases(n)
    xs = torch.stack([given[0] * (k + 1) for k in range(samples)])
    rest = [*given[1:], *biases]
    every = tuple(range(1, 1 + len(rest)))
    one = torch.func.grad(lambda x, *t: _of_two_biases(n, (x, *t)), argnums=every)
    got = torch.func.vmap(one, in_dims=(0, *[None] * len(rest)))(xs, *rest)
    for k in range(samples):
        for a, b in zip(got, one(xs[k], *rest), strict=True):
            torch.testing.assert_close(a[k], b)
