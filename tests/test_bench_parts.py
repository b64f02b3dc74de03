"""Parts of bench_lstm.py: counts of operations and bytes, floors, the clock, the wrappers of other libraries."""

import contextlib
import sys
from types import SimpleNamespace

import pytest
import torch
from lstm_bench import floor, rivals, timing
from lstm_bench.problems import FORWARD, INFERENCE, TRAINING, Problem, flops, moved, steps
from lstm_bench.torch_parts import EagerLSTM, TorchClassifier, TorchComposite
from lstm_bench.workload import Workload
from torch.utils.flop_counter import FlopCounterMode

import lstmrep
from lstmrep.planner.cards import CARDS
from lstmrep.testing import largest_error
from lstmrep.testing.tolerance import rounding

CPU = torch.device("cpu")
LAYER = Problem("lstm", 5, 7, 4, 3)
COMPOSITE = Problem("composite", 6, 5, 4, 3, peephole=True, predict=2)
CLASSIFIER = Problem("classifier", 6, 5, 4, 3, peephole=True, classes=3)


def _torch_parts(problem):
    p = problem
    if p.model == "composite":
        return TorchComposite(p.I, p.H, p.T, p.predict, True)
    if p.model == "classifier":
        return TorchClassifier(p.I, p.H, p.classes, True)
    return EagerLSTM(p.I, p.H, True, ("bias_ih_l0",))


@pytest.mark.parametrize("problem", [LAYER, COMPOSITE, CLASSIFIER], ids=lambda p: p.name)
@pytest.mark.parametrize("passes", [INFERENCE, TRAINING])
def test_operations_are_those_that_torch_counts(problem, passes):
    """The eager cell also multiplies the zeros before its first step: forward, and for the gradient of W_hh."""
    work, module = Workload(problem, torch.float32, CPU), _torch_parts(problem)
    with FlopCounterMode(display=False) as counter:
        if (problem.model, passes) == ("lstm", TRAINING):
            module(work.frames)[0].backward(work.grad)  # the counter cannot follow torch.autograd.grad to a leaf
        else:
            work.passing(module, passes)()
    zeros = 8 * problem.H**2 * problem.B * (2 if passes == TRAINING else 1)
    assert counter.get_total_flops() == flops(problem, passes) + zeros


def test_bytes_of_a_layer_by_hand():
    i, h, t, b = 5, 7, 4, 3
    weights, frames, out = 4 * h * (i + h), t * b * i, t * b * h
    assert moved(LAYER, INFERENCE, 4) == 4 * (weights + frames + out)
    kept = t * b * h * (4 * 4 + 4 + 4)  # gates, h, c
    assert moved(LAYER, FORWARD, 4) == moved(LAYER, INFERENCE, 4) + kept
    # Backward: kept values; both matrices read, their gradients written; frames, their gradients; those of h.
    backward = kept + 4 * (2 * weights + 2 * frames + out)
    assert moved(LAYER, TRAINING, 4) == moved(LAYER, FORWARD, 4) + backward


@pytest.mark.parametrize("problem", [COMPOSITE, CLASSIFIER], ids=lambda p: p.name)
def test_bytes_of_a_model_are_at_least_those_of_its_tensors(problem):
    module = _torch_parts(problem)
    held = sum(p.numel() for name, p in module.named_parameters() if "bias" not in name and "weight_p" not in name)
    given = problem.B * (problem.T + problem.predict) * problem.I
    forward = moved(problem, INFERENCE, 4)
    assert forward > 4 * (held + given)
    assert moved(problem, INFERENCE, 2) * 2 == forward
    assert moved(problem, TRAINING, 4) > moved(problem, FORWARD, 4) + 8 * held


def test_steps_that_wait_for_each_other():
    assert (steps(LAYER), steps(COMPOSITE), steps(CLASSIFIER)) == (3, 3 + 4, 3)


def test_a_floor_is_products_and_bytes_or_walks_over_the_weights():
    rates = SimpleNamespace(cache=1 << 30, gemm=lambda dtype: 1e6, stream=lambda total: 1e7)
    products, bytes_ = flops(LAYER, INFERENCE) / 1e6, moved(LAYER, INFERENCE, 4) / 1e7
    assert floor.floor(rates, LAYER, INFERENCE, torch.float32) == (products + bytes_) * 1e3
    rates.cache, rates.stream = 0, lambda total: 1e3
    walks = 3 * 4 * 7 * 7 * 4 / 1e3
    assert walks > products
    assert floor.floor(rates, LAYER, INFERENCE, torch.float32) == (walks + bytes_ * 1e4) * 1e3
    again = floor.floor(rates, LAYER, TRAINING, torch.float32)
    assert again == (2 * walks + moved(LAYER, TRAINING, 4) / 1e3) * 1e3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_own_product_counts_as_a_rate(monkeypatch, dtype):
    a, b = (torch.randn(64, 64).to(dtype) for _ in range(2))
    true = a.double().T @ b.double()
    allowed = 64 * rounding(true, torch.float32) + rounding(true, dtype)
    assert largest_error(floor.own_product(a, b), true) <= allowed
    asked = []
    monkeypatch.setattr(floor, "own_product", lambda a, b: asked.append(a.dtype))
    floor.Measured([dtype], quick=True)
    assert set(asked) == {dtype}


def test_measured_rates_only_grow(monkeypatch):
    rates = floor.Measured([torch.float32], quick=True)
    before = rates.gemm(torch.float32), rates.stream(1)
    assert min(before) > 0
    monkeypatch.setattr(floor, "_best", lambda call, times: 1e9)  # a machine that has become slow
    rates.look_again()
    assert (rates.gemm(torch.float32), rates.stream(1)) == before
    monkeypatch.setattr(floor, "_best", lambda call, times: 1e-9)
    rates.look_again()
    assert rates.gemm(torch.float32) > before[0] and rates.stream(1) > before[1]
    assert "GFLOP/s" in rates.describe() and "4 MiB" in rates.describe()


def test_a_data_sheet_has_the_cards_rates():
    card = CARDS["H100 SXM"]
    sheet = floor.DataSheet(card)
    assert (sheet.gemm(torch.bfloat16), sheet.gemm(torch.float32)) == (card.gemm_rate, card.float_rate)
    assert (sheet.stream(1 << 20), sheet.stream(1 << 30)) == (card.l2_rate, card.memory_rate)
    assert "H100" in sheet.describe()


class _Time:
    """A clock that only calls move, and a record of who was called."""

    def __init__(self):
        self.now, self.called = 0.0, []

    def perf_counter(self):
        return self.now

    def call(self, name, seconds):
        def run():
            self.called.append(name)
            self.now += seconds

        return timing.Turn(run, contextlib.nullcontext)


def test_contenders_take_turns(monkeypatch):
    clock = _Time()
    monkeypatch.setattr(timing.time, "perf_counter", clock.perf_counter)
    turns = [clock.call("a", 0.005), clock.call("b", 1.0)]
    timing.take_turns(turns, CPU, seconds=0.0)
    assert [turn.calls for turn in turns] == [4, 1]
    assert [len(turn.times) for turn in turns] == [timing.LEAST_ROUNDS] * 2
    assert turns[0].times == pytest.approx([5.0] * 5) and turns[1].times == pytest.approx([1000.0] * 5)
    a, b = ["a"] * 5, ["b"]  # a call that is not timed stands before short ones
    assert clock.called == ["a", "a", "b", "b", *a, *b, *b, *a, *a, *b, *b, *a, *a, *b]


def test_more_rounds_where_there_is_time(monkeypatch):
    clock = _Time()
    monkeypatch.setattr(timing.time, "perf_counter", clock.perf_counter)
    (turn,) = turns = [clock.call("a", 0.01)]
    timing.take_turns(turns, CPU, seconds=0.2)
    assert len(turn.times) == 6  # of two calls and one that is not timed
    timing.take_turns(turns, CPU, seconds=9.0, rounds=3)
    assert len(turn.times) == 9


def test_a_ratio_is_formed_within_rounds():
    assert timing.ratio([2.0, 30.0, 4.0], [4.0, 60.0, 1.0]) == 0.5
    assert timing.spread([float(n) for n in range(1, 12)]) == (3.0, 6.0, 9.0)
    assert timing.spread([2.0]) == (2.0, 2.0, 2.0)


def _flashrnn(share, r, b, states, function, backend):
    """What its documentation says: gates i, f, z, o, R [G, N, D, P], states [S, B, T, N, D]."""
    assert (states, function, backend) == (None, "lstm", "cuda_fused")
    batch, frames, _, heads, units = share.shape
    h = c = share.new_zeros(batch, heads, units)
    made = []
    for t in range(frames):
        i, f, z, o = (share[:, t] + torch.einsum("gndp,bnp->bgnd", r, h) + b).unbind(1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z)
        h = torch.sigmoid(o) * torch.tanh(c)
        made.append(torch.stack([h, c]))
    return torch.stack(made, 2), torch.stack([h, c])[:, :, None]


class _HasteLSTM(torch.nn.Module):
    """What its documentation says: matrices [in, 4H], gates i, g, f, o."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.kernel, self.recurrent_kernel, self.bias = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))

    def forward(self, x):
        h = c = x.new_zeros(x.shape[1], self.recurrent_kernel.shape[0])
        out = []
        for frame in x:
            i, g, f, o = (frame @ self.kernel + h @ self.recurrent_kernel + self.bias).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            out.append(h)
        return torch.stack(out), (h[None], c[None])


@pytest.mark.parametrize(
    ("package", "wrapper", "stand_in"),
    [
        ("flashrnn", rivals.FlashRNN, SimpleNamespace(flashrnn=_flashrnn)),
        ("haste_pytorch", rivals.Haste, SimpleNamespace(LSTM=_HasteLSTM)),
    ],
)
def test_wrappers_hand_over_what_the_libraries_document(package, wrapper, stand_in, monkeypatch):
    monkeypatch.setitem(sys.modules, package, stand_in)
    work = Workload(LAYER, torch.float64, CPU)
    module = work.module()
    assert isinstance(module, lstmrep.LSTM)
    expected, got = work.results(module, True), work.results(wrapper(module), True)
    assert set(got) == set(expected)
    for key, true in expected.items():
        # Two float64 loops with their sums in another order: some roundings of the largest value.
        assert largest_error(got[key], true) <= LAYER.T * LAYER.H * rounding(true, torch.float64), key


def test_a_library_that_is_missing_has_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "flashrnn", None)
    assert rivals.missing("torch", "flashrnn") == "flashrnn cannot be imported (ModuleNotFoundError)"
    assert rivals.missing("torch") == ""


def test_a_graph_is_of_the_call_after_those_that_make_things(monkeypatch):
    """In place of torch's streams and graphs, what is asked of them is written down."""
    said = []

    class Stream:
        def wait_stream(self, other):
            said.append("wait")

    class Graph:
        def replay(self):
            said.append("replay")

    @contextlib.contextmanager
    def inside(thing):
        said.append(type(thing).__name__)
        yield
        said.append("end")

    current = Stream()
    for name, stand_in in {
        "Stream": Stream,
        "current_stream": lambda: current,
        "stream": inside,
        "CUDAGraph": Graph,
        "graph": inside,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    replay, results = timing.captured(lambda: said.append("call") or len(said), 2)
    replay()
    assert said == ["wait", "Stream", "call", "call", "end", "wait", "Graph", "call", "end", "replay"]
    assert results == said.index("Graph") + 2, "of the captured call"
