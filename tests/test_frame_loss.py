"""The frame loss: its kernel on the emulated device, or the real card, against float64 autograd of the plain formulas.

Budgets are derived (lstmrep/testing/tolerance.py) from the plain formulas at the kernel's precision. A loss is one
number whose error is a sum of roundings; in low precision its draws come from other random numbers of the same kind.
"""

import copy
import functools
import pickle
from dataclasses import dataclass, replace

import pytest
import torch
from emulated_device import DEVICE, Card, device_under_test, reason, set_schedule

import lstmrep
from lstmrep.backends.frame_loss import LOSSES, Head, mean_loss
from lstmrep.ops.frame_loss import frame_loss, runs, side_by_side
from lstmrep.testing import assert_same_bits, assert_within, budget, moved

needs_device = pytest.mark.skipif(bool(reason()), reason=reason())
CARD = Card("132 SMs", 9, 0, 132, 227 << 10)
FLOATS = [torch.float32, torch.bfloat16, torch.float16]
FRAMES = 9


@dataclass(frozen=True)
class Case:
    """One call. The first head tells the last input frames backwards, a second one those that follow."""

    kind: str = "bernoulli"
    dtype: torch.dtype = torch.float32
    T: tuple[int, ...] = (4, 4)
    B: int = 3
    H: int = 5
    D: int = 7
    batch_first: bool = True
    together: bool = True  # the weights lie side by side
    wide_bias: bool = False
    wide_frames: bool = False
    seed: int = 3

    @property
    def heads(self) -> list[Head]:
        return [Head(4, -1, self.T[0], 0.75), Head(5, 1, self.T[-1], 2.5)][: len(self.T)]


def numbers(case: Case) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(case.seed)
    n, t, wide = len(case.T), max(case.T), torch.float32

    def draw(*shape, scale=1.0, dtype=case.dtype):
        return (torch.randn(shape, generator=g, dtype=torch.float64, device="cpu") * scale).to(dtype).double()

    out = {"h": draw(n, t, case.B, case.H), "weight": draw(n, case.D, case.H, scale=2 * case.H**-0.5)}
    for k, steps in enumerate(case.T):
        out["h"][k, steps:] = 0
    out["bias"] = draw(n, case.D, dtype=wide if case.wide_bias else case.dtype)
    frames = torch.rand(case.B, FRAMES, case.D, generator=g, dtype=torch.float64, device="cpu")
    out["frames"] = frames.to(wide if case.wide_frames else case.dtype).double()
    out["grad_total"], out["grad_losses"] = draw(dtype=wide), draw(n, dtype=wide)
    out["grad_z"] = draw(n, t, case.B, case.D, scale=0.01)
    return out


def run(case: Case, dtype=None, *, order=0, plain=False, grads=(True, True, True)) -> dict[str, torch.Tensor]:
    """Outputs and gradients, by the op or by the plain formulas; each head's own frames only.

    On torch's default device; what comes back is on the CPU.
    """
    dtype = dtype or case.dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    data = numbers(case)
    kinds = {"bias": wide if case.wide_bias else dtype, "frames": wide if case.wide_frames else dtype}
    kinds |= dict.fromkeys(("grad_total", "grad_losses"), wide)
    t = {name: moved(x, kinds.get(name, dtype), order if name in ("h", "weight", "bias") else 0)
         for name, x in data.items()}  # fmt: skip
    t = {name: x.to(torch.get_default_device()) for name, x in t.items()}
    whole = t["weight"].contiguous()
    weight = list(whole.unbind(0)) if case.together else [w.clone() for w in whole.unbind(0)]
    leaves = [t["h"], *weight, *t["bias"].clone().unbind(0)]
    leaves = [x.detach().requires_grad_() for x in leaves]
    n = len(case.T)
    h, weight, bias = leaves[0], leaves[1 : 1 + n], leaves[1 + n :]
    clip = t["frames"].transpose(0, 1) if case.batch_first else t["frames"].transpose(0, 1).contiguous()
    if plain:
        z = torch.stack([(x @ w.t() + v).to(dtype) for x, w, v in zip(h, weight, bias, strict=True)])
        heads = case.heads
        losses = torch.stack([mean_loss(case.kind, z[k, : d.frames], d.of(clip)) for k, d in enumerate(heads)])
        total = sum(d.weight * loss for d, loss in zip(heads, losses, strict=True))
    else:
        total, losses, z = frame_loss(h, weight, bias, clip, case.heads, case.kind)
    told = torch.zeros((*z.shape[:2], 1, 1), dtype=torch.bool)
    for k, steps in enumerate(case.T):
        told[k, :steps] = True
    z = torch.where(told, z, torch.zeros_like(z))
    outputs = [(total, t["grad_total"]), (losses, t["grad_losses"]), (z, t["grad_z"])]
    asked = [pair for pair, wanted in zip(outputs, grads, strict=True) if wanted]
    made = torch.autograd.grad([o for o, _ in asked], leaves, [g for _, g in asked])
    out = {"total": total, "losses": losses, "z": z, "d_h": made[0]}
    out |= {"d_weight": torch.stack(made[1 : 1 + n]), "d_bias": torch.stack(made[1 + n :])}
    return {name: x.detach().cpu() for name, x in out.items()}


def drawn(results, dtype, order):
    """``results(dtype, order, seed)`` of the case itself; in low precision with the errors of another seed."""
    if order == 0 or dtype in (torch.float32, torch.float64):
        return results(dtype, order, 0)
    truth, there, low = (results(d, 0, s) for d, s in ((torch.float64, 0), (torch.float64, order), (dtype, order)))
    return {name: truth[name] + (low[name].double() - there[name]) for name in truth}


@functools.cache
def limits(case: Case, **how):
    def results(dtype, order, seed):
        return run(replace(case, seed=case.seed + seed), dtype, order=order, plain=True, **how)

    return budget(lambda dtype, order: drawn(results, dtype, order), case.dtype)


def name(value):
    return str(value).removeprefix("torch.")


@needs_device
@pytest.mark.parametrize("dtype", FLOATS, ids=name)
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"T": (1, 1), "B": 1, "D": 1, "H": 1},
        {"T": (4,), "B": 1, "D": 33},
        {"T": (2, 4), "B": 5, "D": 64, "batch_first": False},
        {"T": (4, 3), "B": 17, "D": 100, "wide_bias": True, "wide_frames": True},
        {"T": (3, 3), "B": 9, "D": 31, "together": False},
    ],
    ids=str,
)
def test_within_budget_and_the_same_bits_under_four_schedules(kind, dtype, sizes):
    case = Case(kind, dtype, **sizes)
    with device_under_test(CARD) as device:
        results = []
        for seed in range(4):
            set_schedule(device, seed)
            results.append(run(case))
        set_schedule(device, 0)
    assert_within(results[0], limits(case))
    for other in results[1:]:
        assert_same_bits(other, results[0])


@needs_device
@pytest.mark.parametrize("grads", [(True, False, False), (False, True, False), (False, False, True)], ids=str)
def test_each_incoming_gradient_alone(grads):
    case = Case(T=(4, 2), D=40)
    with device_under_test(CARD):
        assert_within(run(case, grads=grads), limits(case, grads=grads))


@needs_device
@pytest.mark.parametrize("scale", [1.0, 0.37, -65536.0, 2.0**-20])
def test_gradients_follow_the_incoming_scalar(scale):
    """As a gradient scaler or a sum of losses sends it: a power of two changes exponents only."""
    with device_under_test(CARD):
        model, frames = lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2), torch.rand(3, 6, 12)
        one = torch.autograd.grad(model(frames).loss, list(model.parameters()))
        scaled = torch.autograd.grad(scale * model(frames).loss, list(model.parameters()))
    for a, b in zip(one, scaled, strict=True):
        if scale in (1.0, -65536.0, 2.0**-20):
            assert torch.equal(a * scale, b)
        else:
            torch.testing.assert_close(a * scale, b)


@needs_device
def test_a_second_backward_through_one_graph_gives_the_same_bits():
    with device_under_test(CARD):
        model, frames = lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2), torch.rand(3, 6, 12)
        out = model(frames)
        first = torch.autograd.grad(out.loss, list(model.parameters()), retain_graph=True)
        torch.autograd.grad(out.future_loss, list(model.future.parameters()), retain_graph=True)
        second = torch.autograd.grad(out.loss, list(model.parameters()))
    assert all(map(torch.equal, first, second))


@needs_device
@pytest.mark.parametrize("kind", LOSSES)
def test_double_backward_is_that_of_the_plain_formulas(kind):
    case = Case(kind)
    data = {k: v.float() for k, v in numbers(case).items()}

    def penalty(plain):
        here = {k: v.to(torch.get_default_device()) for k, v in data.items()}
        h, w, b = (here[k].clone().requires_grad_() for k in ("h", "weight", "bias"))
        clip = here["frames"].transpose(0, 1)
        if plain:
            z = torch.stack([torch.nn.functional.linear(*x) for x in zip(h, w, b, strict=True)])
            losses = [d.weight * mean_loss(kind, z[k, : d.frames], d.of(clip)) for k, d in enumerate(case.heads)]
            total = losses[0] + losses[1]
        else:
            total, _, _ = frame_loss(h, list(w.unbind(0)), list(b.unbind(0)), clip, case.heads, kind)
        first = torch.autograd.grad(total, (h, w, b), create_graph=True)
        made = torch.autograd.grad(sum(g.square().sum() for g in first), (h, w, b))
        return [g.cpu() for g in made]

    with device_under_test(CARD):
        ours, plain = penalty(False), penalty(True)
    torch.testing.assert_close(ours, plain)


@needs_device
def test_opcheck_and_compile():
    case = Case(T=(2, 4), D=40)
    data = {k: v.float().to(DEVICE) for k, v in numbers(case).items()}
    leaves = [data["h"], *data["weight"].unbind(0), *data["bias"].unbind(0)]
    leaves = [x.detach().requires_grad_() for x in leaves]
    clip = data["frames"].transpose(0, 1)
    columns = [list(c) for c in zip(*case.heads, strict=True)]

    def loss(h, *vectors):
        total, losses, _ = frame_loss(h, list(vectors[:2]), list(vectors[2:]), clip, case.heads, "relu")
        return 2 * total + losses[1]

    with device_under_test(CARD):
        op = torch.ops.lstmrep.frame_loss.default
        torch.library.opcheck(op, (leaves[0], leaves[1:3], leaves[3:], clip, *columns, "relu"))
        eager = torch.autograd.grad(loss(*leaves), leaves)
        compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(*leaves), leaves)
    assert all(map(torch.equal, eager, compiled))


@needs_device
def test_the_model_compiles_whole_with_its_kernels():
    with device_under_test(CARD):
        model, frames = lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2), torch.rand(3, 6, 12)
        eager = model(frames)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(frames)
        assert torch.equal(compiled.loss, eager.loss) and torch.equal(compiled.future, eager.future)
        ours = torch.autograd.grad(compiled.loss, list(model.parameters()))
        assert all(map(torch.equal, ours, torch.autograd.grad(eager.loss, list(model.parameters()))))


@needs_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"output": "squash"},
        {"output": "relu", "reconstruct": 0},
        {"predict": 0, "output": "gaussian"},
        {"reconstruct": 4, "predict": 2, "num_layers": 2},
        {"conditional_reconstruction": True, "conditional_future": True},
        {"batch_first": False},
    ],
    ids=str,
)
def test_the_model_is_that_of_the_cpu_backend(options, dtype):
    """Losses, frames and all gradients of a whole model; both ways stay within the budget of the float64 model."""
    settings = {"reconstruct": 3, "predict": 3} | options

    def results(d, order, seed, device=False):
        torch.manual_seed(seed)
        source = lstmrep.CompositeModel(12, 8, **settings).to(dtype)
        frames = torch.rand(3, 4 + settings["predict"], 12).to(dtype)
        frames = frames if settings.get("batch_first", True) else frames.transpose(0, 1)
        model = lstmrep.CompositeModel(12, 8, **settings).to(d)
        model.load_state_dict({k: moved(v.double(), d, order) for k, v in source.state_dict().items()})
        where = DEVICE if device else torch.device("cpu")
        model.to(where)
        with device_under_test(CARD) if device else torch.enable_grad(), lstmrep.count_launches() as launches:
            out = model(frames.to(where, d))
            told = [x for x in (out.reconstruction, out.future) if x is not None]
            (out.loss + sum(x.to(out.loss.dtype).square().mean() for x in told)).backward()
        assert ("frame_loss_forward" in launches.own) == device, "the path under test is the one that ran"
        made = {"loss": out.loss, **{f"told{k}": x for k, x in enumerate(told)}}
        made |= {f"d_{k}": p.grad for k, p in model.named_parameters()}
        return {k: v.detach().cpu() for k, v in made.items()}

    allowed = budget(lambda d, order: drawn(results, d, order), dtype)
    assert_within(results(dtype, 0, 0, device=True), allowed)


@needs_device
def test_what_the_kernel_does_not_do_runs_as_before():
    with device_under_test(CARD):
        frames = torch.rand(3, 6, 12)
        for model, given in (
            (lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2, handover="copy"), frames),
            (lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2, conditional_future=True), frames),
            (lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2), frames.clone().requires_grad_()),
            (lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2, backend="reference"), frames),
        ):
            with lstmrep.count_launches() as launches:
                model(given).loss.backward()
            assert "frame_loss_forward" not in launches.own
        hooked = lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2)
        seen = []
        hooked.future.head.register_forward_hook(lambda *_: seen.append(1))
        hooked(frames)
        assert seen == [1]
        assert not runs(frames.double(), "auto") and not runs(frames, "reference") and runs(frames, "auto")
        torch.func.grad(lambda x: torch.func.functional_call(model, dict(model.named_parameters()), x).loss)(frames)
    assert not runs(frames.cpu(), "auto")


def test_the_op_without_a_kernel_is_the_plain_formulas():
    for dtype in (torch.float32, torch.float64):
        case = Case(T=(2, 4), dtype=dtype, D=40)
        got, wanted = run(case), run(case, plain=True)
        for key, value in wanted.items():
            torch.testing.assert_close(got[key], value)


def test_frames_that_ask_for_a_gradient_are_refused():
    case = Case()
    data = {k: v.float() for k, v in numbers(case).items()}
    h = data["h"].requires_grad_()
    clip = data["frames"].transpose(0, 1).detach().requires_grad_()
    with pytest.raises(RuntimeError, match="argument 'frames' asks for a gradient"):
        frame_loss(h, list(data["weight"]), list(data["bias"]), clip, case.heads, case.kind)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("h", torch.rand(2, 4, 3), ValueError),
        ("weight", [torch.rand(7, 5)], ValueError),
        ("weight", [torch.rand(7, 5), torch.rand(7, 6)], ValueError),
        ("weight", [torch.rand(7, 5), torch.rand(7, 5).double()], TypeError),
        ("bias", [torch.rand(7), torch.rand(8)], ValueError),
        ("bias", [torch.rand(7), torch.rand(7).half()], TypeError),
        ("frames", torch.rand(9, 4, 7), ValueError),
        ("frames", torch.rand(9, 3, 7).half(), TypeError),
        ("heads", [Head(3, -1, 5, 1.0), Head(5, 1, 4, 1.0)], ValueError),
        ("heads", [Head(3, -1, 4, 1.0), Head(6, 1, 4, 1.0)], ValueError),
        ("heads", [Head(3, -2, 1, 1.0), Head(5, 1, 4, 1.0)], ValueError),
        ("kind", "softmax", ValueError),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_wrong_arguments(name, value, error):
    case = Case()
    data = {k: v.float() for k, v in numbers(case).items()}
    good = {"h": data["h"], "weight": list(data["weight"]), "bias": list(data["bias"])}
    good |= {"frames": data["frames"].transpose(0, 1), "heads": case.heads, "kind": "relu"}
    frame_loss(**good)
    with pytest.raises(error, match=rf"^lstmrep\.ops\.frame_loss: argument '{name}' .*\.$"):
        frame_loss(**{**good, name: value})


def test_heads_lie_side_by_side_wherever_the_model_goes():
    model = lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2)

    def joined():
        return side_by_side([model.reconstruction.head.weight, model.future.head.weight]) is not None

    assert joined()
    before = [p.clone() for p in model.parameters()]
    names = [id(p) for p in model.parameters()]
    assert all(map(torch.equal, model.double().float().parameters(), before))
    assert joined() and [id(p) for p in model.parameters()] == names
    model.load_state_dict(lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2).state_dict())
    assert joined()
    model.future.head = torch.nn.Linear(8, 12)
    assert not joined()
    with device_under_test(CARD) if not reason() else torch.enable_grad():
        assert torch.isfinite(model.to(torch.get_default_device())(torch.rand(3, 6, 12)).loss)


def test_frames_are_made_when_asked_for():
    model = lstmrep.CompositeModel(12, 8, reconstruct=3, predict=2)
    with lstmrep.count_launches() as step:
        out = model(torch.rand(3, 6, 12))
        out.loss.backward(retain_graph=True)
    assert step.torch["sigmoid"] == 2, "of the cross-entropies' gradients"
    with lstmrep.count_launches() as asked:
        first = out.future
    assert asked.torch["sigmoid"] == 1 and out.future is first is out[2] is out["future"]
    assert first.requires_grad and not hasattr(out, "past")
    with torch.no_grad():
        out = model(torch.rand(3, 6, 12))
    assert torch.equal(pickle.loads(pickle.dumps(out)).reconstruction, out.reconstruction)
    assert torch.equal(copy.deepcopy(out).future, out.future)
