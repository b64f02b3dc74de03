"""Promises of the op's contract beyond its numbers: memory kept, nothing written that is not ours, dense or not,
determinism, lengths, no-input decoders, two decoders from one state."""

from dataclasses import replace

import pytest
import torch
from emulated_device import device_under_test, reason, run

import lstmrep
from lstmrep.ops import lstm
from lstmrep.ops.products import RECOMPUTE_ROWS
from lstmrep.testing import assert_same_bits, assert_within, budget, moved
from lstmrep.testing.cases import Case, numbers
from lstmrep.testing.memory import peak_bytes

BACKENDS = ["cpu", "reference"]
# cuda: CPU tensors on the emulated device, or CUDA tensors on the real card (tests/emulated_device.py).
WITH_CUDA = [*BACKENDS, pytest.param("cuda", marks=pytest.mark.skipif(bool(reason()), reason=reason()))]


@pytest.fixture(autouse=True)
def _device(request):
    """A test of the cuda backend runs on the device under test; what torch makes there by default is there too."""
    called = getattr(request.node, "callspec", None)
    if called is None or called.params.get("backend") != "cuda":
        yield
        return
    with device_under_test():
        yield


def _placed(case):
    """The numbers of a case where the test runs."""
    return {name: t.to(torch.get_default_device()) for name, t in numbers(case).items()}


def _named(outputs) -> dict[str, torch.Tensor]:
    return dict(zip(("h", "h_n", "c_n"), outputs, strict=True))


def _strided(t: torch.Tensor) -> torch.Tensor:
    """The same values with every stride doubled and a gap of NaN between them."""
    wide = torch.full([2 * n for n in t.shape], float("nan"), dtype=t.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in t.shape)]
    view.copy_(t)
    return view


@pytest.mark.parametrize("backend", WITH_CUDA)
def test_strided_inputs_and_expanded_gradients(backend):
    case = Case(N=2, reverse=(False, True))
    data = {name: t.float() for name, t in _placed(case).items()}

    def gradients(prepare):
        names = ("x", "bias", "peephole", "h0", "c0", "w_ih0", "w_ih1", "w_hh0", "w_hh1")
        t = {name: prepare(data[name]).requires_grad_() for name in names}
        states = {name: t[name] for name in ("bias", "peephole", "h0", "c0")}
        h, h_n, c_n = lstm(
            t["x"],
            [t["w_ih0"], t["w_ih1"]],
            [t["w_hh0"], t["w_hh1"]],
            **states,
            reverse=[False, True],
            backend=backend,
        )
        # sum() sends back a gradient of stride 0
        return dict(zip(names, torch.autograd.grad(h.sum() + 2 * h_n.sum() + 3 * c_n.sum(), t.values()), strict=True))

    dense, strided = gradients(torch.Tensor.clone), gradients(_strided)
    if torch.get_default_device().type == "cuda":  # cuBLAS chooses its products by strides too
        dense, strided = ({k: v for k, v in d.items() if k not in ("x", "w_ih0", "w_ih1")} for d in (dense, strided))
    assert_same_bits(strided, dense)


@pytest.mark.parametrize("backend", WITH_CUDA)
@pytest.mark.parametrize("recompute", [False, True])
def test_backward_twice_gives_the_same_bits_and_writes_nothing_saved(backend, recompute):
    case = Case(N=2, lengths=True, reverse=(False, True))
    data = _placed(case)
    leaves = [data[k].float().requires_grad_() for k in ("x", "w_ih0", "w_ih1", "w_hh0", "w_hh1", "h0", "c0")]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        h, h_n, c_n = lstm(
            leaves[0],
            leaves[1:3],
            leaves[3:5],
            h0=leaves[5],
            c0=leaves[6],
            lengths=data["lengths"],
            reverse=[False, True],
            backend=backend,
            recompute=recompute,
        )
    before = {str(k): t.clone() for k, t in enumerate(saved)}
    grads = [data["grad_h"].float(), data["grad_h_n"].float(), data["grad_c_n"].float()]
    kept = [g.clone() for g in grads]
    first = torch.autograd.grad([h, h_n, c_n], leaves, grads, retain_graph=True)
    second = torch.autograd.grad([h, h_n, c_n], leaves, grads)
    assert_same_bits({str(k): t for k, t in enumerate(second)}, {str(k): t for k, t in enumerate(first)})
    assert_same_bits({str(k): t for k, t in enumerate(saved)}, before)
    assert_same_bits({str(k): t for k, t in enumerate(grads)}, {str(k): t for k, t in enumerate(kept)})


def test_writing_into_a_saved_tensor_is_noticed():
    w = torch.randn(16, 4, requires_grad=True)
    h, _, _ = lstm(None, [], [w], h0=torch.randn(1, 2, 4), steps=3)
    with torch.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        h.sum().backward()


@pytest.mark.parametrize("backend", WITH_CUDA)
def test_inference_saves_nothing_and_equals_training(backend):
    case = Case(N=2, reverse=(False, True))
    with_gradients = run(case, backend)
    without = run(case, backend, gradients=False)
    assert_same_bits(without, {name: with_gradients[name] for name in without})
    x, w_ih, w_hh = torch.randn(3, 2, 5), torch.randn(16, 5), torch.randn(16, 4)
    _, _, _, gates, c = torch.ops.lstmrep.lstm(
        x, [w_ih], [w_hh], [], [], None, None, None, 3, [False], "tanh", backend, "nothing"
    )
    assert gates.numel() == c.numel() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("recompute", [False, True])
def test_saved_bytes_are_what_the_plan_says(dtype, recompute):
    n, t, b, i, h = 2, 7, 3, 5, 6
    w_ih, w_hh = ([torch.randn(4 * h, k, dtype=dtype, requires_grad=True) for _ in range(n)] for k in (i, h))
    x = torch.randn(t, b, i, dtype=dtype)
    given = {w.data_ptr() for w in (*w_ih, *w_hh, x)}
    saved = {}

    def keep(tensor):
        if tensor.data_ptr() not in given:
            saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        lstm(x, w_ih, w_hh, recompute=recompute)
    problem = lstmrep.Problem(
        hidden_size=h,
        steps=t,
        batch=b,
        input_size=i,
        recurrences=n,
        dtype=str(dtype).removeprefix("torch."),
        training=True,
        recompute=recompute,
    )
    assert sum(saved.values()) == lstmrep.plan(problem, lstmrep.Machine()).saved_bytes_per_step * t


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recompute_lowers_the_peak(dtype):
    h, i, t, b = 64, 4, 200, 16
    weights = [torch.randn(4 * h, k).to(dtype).requires_grad_() for k in (i, h, h, h)]
    x = torch.randn(t, b, i).to(dtype)

    def two_layers(recompute: bool) -> None:
        y, _, _ = lstm(x, [weights[0]], [weights[1]], recompute=recompute)
        z, _, _ = lstm(y[0], [weights[2]], [weights[3]], recompute=recompute)
        torch.autograd.grad(z.sum(), weights)

    stored, recomputed = peak_bytes(lambda: two_layers(False)), peak_bytes(lambda: two_layers(True))
    # The gates of both layers are not held, and the gradient takes the place of those formed again; against that stand
    # h and c moved by a step, and three times the sums of one block of frames in float32.
    gates = t * b * 4 * h * weights[0].element_size()
    copies = t * b * h * (weights[0].element_size() + 4)
    sums = RECOMPUTE_ROWS * 4 * h * 4
    assert recomputed <= stored - 2 * gates + copies + 3 * sums < stored, (stored, recomputed)


@pytest.mark.parametrize("backend", WITH_CUDA)
def test_lengths_equal_each_row_alone(backend):
    case = Case(N=2, B=3, T=5, lengths=True, reverse=(False, True), seed=3)
    data = numbers(case)
    lengths = data["lengths"]
    full = run(case, backend, gradients=False)

    def alone(n: int, b: int, dtype: torch.dtype, order: int):
        length = int(lengths[n, b])
        one = {
            "x": data["x"][:length, b : b + 1],
            "bias": data["bias"][n : n + 1],
            "peephole": data["peephole"][n : n + 1],
            "h0": data["h0"][n : n + 1, b : b + 1],
            "c0": data["c0"][n : n + 1, b : b + 1],
        }
        w_ih, w_hh = (moved(data[f"{name}{n}"], dtype, order) for name in ("w_ih", "w_hh"))
        one = {name: moved(t, dtype, order) for name, t in one.items()}
        return _named(lstm(**one, w_ih=[w_ih], w_hh=[w_hh], reverse=[case.flags[n]], backend="reference"))

    for n in range(2):
        for b in range(3):
            limits = budget(lambda dtype, order, n=n, b=b: alone(n, b, dtype, order), torch.float32)
            length = int(lengths[n, b])
            here = (slice(n, n + 1), slice(b, b + 1))
            got = (full["h"][n : n + 1, :length, b : b + 1], full["h_n"][here], full["c_n"][here])
            assert_within(_named(got), limits)
            assert not full["h"][n, length:, b].any()


@pytest.mark.parametrize("backend", WITH_CUDA)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_beyond_a_length_are_ignored(backend, dtype):
    lengths = torch.tensor([[2, 0, 4]])
    w = torch.randn(16, 4).to(dtype).requires_grad_()
    h0 = torch.randn(1, 3, 4).to(dtype).requires_grad_()
    h, _, _ = lstm(None, [], [w], h0=h0, lengths=lengths, steps=4, backend=backend)
    beyond = torch.arange(4)[:, None] >= lengths[0]
    noise = torch.where(beyond[None, :, :, None], float("nan"), 1.0).expand_as(h).to(dtype)
    zero = torch.where(beyond[None, :, :, None], 0.0, 1.0).expand_as(h).to(dtype)
    got = torch.autograd.grad(h, (w, h0), noise, retain_graph=True)
    assert_same_bits(
        {"w": got[0], "h0": got[1]}, dict(zip(("w", "h0"), torch.autograd.grad(h, (w, h0), zero), strict=True))
    )


@pytest.mark.parametrize("backend", WITH_CUDA)
def test_no_input_equals_zero_input(backend):
    case = Case(input="none", N=2, reverse=(False, True))
    data = {name: t.float() for name, t in _placed(case).items()}
    w_hh = [data["w_hh0"], data["w_hh1"]]
    given = {name: data[name] for name in ("bias", "peephole", "h0", "c0")}
    without = lstm(None, [], w_hh, steps=case.T, reverse=case.flags, backend=backend, **given)
    zeros = torch.zeros(2, case.T, case.B, 4 * case.H)
    with_zeros = lstm(zeros, [], w_hh, reverse=case.flags, backend=backend, **given)
    assert_same_bits(_named(without), _named(with_zeros))


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_decoders_add_their_gradients_into_one_state(backend):
    data = numbers(Case(N=2, input="none", B=4, H=8))
    weights = [data["w_hh0"], data["w_hh1"]]
    h, c = (torch.randn(1, 4, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def loss(out):
        return (out[0].square() * torch.arange(1, 6, dtype=torch.float64)[None, :, None, None]).sum()

    together = lstm(None, [], weights, h0=h.expand(2, -1, -1), c0=c.expand(2, -1, -1), steps=5, backend=backend)
    got = torch.autograd.grad(loss(together), (h, c))
    apart = [
        torch.autograd.grad(loss(lstm(None, [], [w], h0=h, c0=c, steps=5, backend="reference")), (h, c))
        for w in weights
    ]
    limits = budget(
        lambda dtype, order: dict(
            zip(
                "hc",
                torch.autograd.grad(
                    loss(
                        lstm(
                            None,
                            [],
                            [w.to(dtype) for w in weights],
                            h0=h.to(dtype).expand(2, -1, -1),
                            c0=c.to(dtype).expand(2, -1, -1),
                            steps=5,
                            backend="reference",
                        )
                    ),
                    (h, c),
                ),
                strict=True,
            )
        ),
        torch.float64,
    )
    assert_within(dict(zip("hc", got, strict=True)), limits)
    assert_within({"h": apart[0][0] + apart[1][0], "c": apart[0][1] + apart[1][1]}, limits)


def test_perturbing_the_output_peephole_moves_h_but_not_c_of_the_step():
    case = Case(T=1)
    base = run(case, "cpu", gradients=False)
    data = numbers(case)
    peephole = data["peephole"].float().clone()
    peephole[:, 2] += 1
    h, _, c_n = lstm(
        data["x"].float(),
        [data["w_ih0"].float()],
        [data["w_hh0"].float()],
        bias=data["bias"].float(),
        peephole=peephole,
        h0=data["h0"].float(),
        c0=data["c0"].float(),
        backend="cpu",
    )
    assert torch.equal(c_n, base["c_n"]) and not torch.isclose(h, base["h"]).any()


@pytest.mark.parametrize("backend", WITH_CUDA)
def test_relu_cell_state_never_negative(backend):
    case = replace(Case(cell="relu", T=20), states=False)
    data = _placed(case)
    _, _, _, _, c = torch.ops.lstmrep.lstm(
        data["x"].float(),
        [data["w_ih0"].float()],
        [data["w_hh0"].float()],
        [data["bias"].float()],
        [data["peephole"].float()],
        None,
        None,
        None,
        case.T,
        [False],
        "relu",
        backend,
        "all",
    )
    assert (c >= 0).all() and (c > 0).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_start_state_and_vectors_as_the_caller_holds_them(backend, dtype):
    """A start shared by all recurrences, and biases and peepholes as separate vectors in the I/O dtype, are the same
    numbers as the expanded start and the stacked vectors in float32, with the gradients of those."""
    case = Case(N=2, lengths=True, reverse=(False, True), dtype=dtype)
    data = {name: t.to(torch.float32 if name in ("c0", "lengths") else dtype) for name, t in numbers(case).items()}
    w_ih, w_hh = [data["w_ih0"], data["w_ih1"]], [data["w_hh0"], data["w_hh1"]]
    h0, c0 = data["h0"][:1].clone().requires_grad_(), data["c0"][:1].clone().requires_grad_()
    vectors = [v.clone().requires_grad_() for v in (*data["bias"], *data["peephole"].flatten(0, 1))]
    leaves = [h0, c0, *vectors]

    def gradients(given):
        h, h_n, c_n = lstm(
            data["x"], w_ih, w_hh, **given, lengths=data["lengths"].int(), reverse=[False, True], backend=backend
        )
        loss = (h.float() * data["grad_h"].float()).sum() + (h_n.float() * data["grad_h_n"].float()).sum() + c_n.sum()
        return h, torch.autograd.grad(loss, leaves)

    h, made = gradients({"h0": h0, "c0": c0, "bias": vectors[:2], "peephole": vectors[2:]})
    wide = {"bias": torch.stack(vectors[:2]).float(), "peephole": torch.stack(vectors[2:]).view(2, 3, -1).float()}
    same_h, same = gradients({"h0": h0.expand(2, -1, -1), "c0": c0.expand(2, -1, -1), **wide})
    assert torch.equal(h, same_h)
    for leaf, g, other in zip(leaves, made, same, strict=True):
        assert g.shape == leaf.shape and g.dtype == leaf.dtype
        torch.testing.assert_close(g, other)
    assert all(map(torch.equal, made[2:], same[2:]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("N", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_biases_of_each_recurrence_are_added(backend, N, dtype):
    """b_ih and b_hh as torch has them: the bits, and for both the gradient, of their sum."""
    case = Case(N=N, peephole=N == 2, reverse=(False, True)[:N], dtype=dtype)
    data = {name: t.to(torch.float32 if name in ("c0", "lengths") else dtype) for name, t in numbers(case).items()}
    weights = [[data[f"{kind}{n}"] for n in range(N)] for kind in ("w_ih", "w_hh")]
    first = [b.clone().requires_grad_() for b in data["bias"]]
    second = [b.flip(0).clone().requires_grad_() for b in data["bias"]]

    def run(bias):
        peephole = data["peephole"] if N == 2 else None
        h, _, c_n = lstm(data["x"], *weights, bias=bias, peephole=peephole, reverse=[False, True][:N], backend=backend)
        return h, torch.autograd.grad((h.float() * data["grad_h"].float()).sum() + c_n.sum(), [*first, *second])

    h, made = run([b for pair in zip(first, second, strict=True) for b in pair])
    same_h, same = run([a + b for a, b in zip(first, second, strict=True)])
    assert torch.equal(h, same_h)
    assert all(map(torch.equal, made, same))
    assert all(map(torch.equal, made[:N], made[N:]))
