"""lstmrep.LSTM without peepholes against torch.nn.LSTM: constructor, numbers, names, results, gradients, dropout."""

import copy
import inspect
import math
import warnings
from dataclasses import replace

import pytest
import torch
from module_runs import FLOATS, assert_pair, draw, draw_state, one_thread, reference, round_parameters, run
from torch import nn

import lstmrep
import lstmrep.nn.lstm
from lstmrep.testing import assert_same_bits, assert_within, budget

T, B, I, H = 20, 7, 5, 16
ARGUMENTS = [
    {},
    {"num_layers": 2},
    {"num_layers": 3},
    {"bias": False},
    {"bidirectional": True},
    {"proj_size": 3},
    {"batch_first": True},
    {"num_layers": 3, "bidirectional": True, "bias": False},
    {"num_layers": 2, "bidirectional": True, "proj_size": 3},
    {"num_layers": 2, "batch_first": True, "proj_size": 5, "bias": False},
    {"num_layers": 2, "batch_first": True, "bidirectional": True},
    {"num_layers": 2, "dropout": 0.0, "device": "cpu"},
]
MADE = [*ARGUMENTS, {"num_layers": 2, "dropout": 0.5, "batch_first": True, "bidirectional": True, "device": "cpu"}]


def _name(arguments: dict) -> str:
    return "-".join(f"{k}={v}" for k, v in arguments.items()) or "defaults"


def _pair(dtype: torch.dtype = torch.float32, **arguments) -> tuple[lstmrep.LSTM, nn.LSTM]:
    theirs = round_parameters(nn.LSTM(I, H, dtype=dtype, **arguments), torch.float32)
    return lstmrep.LSTM.from_torch(theirs), theirs


def _input(arguments: dict) -> torch.Tensor:
    return draw(B, T, I) if arguments.get("batch_first") else draw(T, B, I)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("states", [False, True], ids=["no_hx", "hx"])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=_name)
def test_outputs_states_and_gradients(arguments, states, dtype):
    ours, theirs = _pair(dtype, **arguments)
    assert_pair(ours, theirs, _input(arguments), draw_state(ours, B) if states else None)


@pytest.mark.parametrize("states", [False, True], ids=["no_hx", "hx"])
@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 3}], ids=_name)
@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched(arguments, states, batch_first):
    ours, theirs = _pair(batch_first=batch_first, **arguments)
    assert_pair(ours, theirs, draw(T, I), draw_state(ours, None) if states else None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 3}], ids=_name)
def test_low_precision_against_float64_of_its_own_weights(arguments, dtype):
    theirs = round_parameters(nn.LSTM(I, H, **arguments), dtype)
    ours = lstmrep.LSTM.from_torch(theirs).to(dtype)
    x, hx = draw(T, B, I, dtype=dtype), draw_state(ours, B, dtype=dtype)
    got = assert_pair(ours, theirs, x, hx)
    assert {t.dtype for t in got.values()} == {dtype}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("arguments", MADE, ids=_name)
def test_same_seed_same_parameters_in_the_same_order(arguments, dtype):
    made = []
    for cls in (lstmrep.LSTM, nn.LSTM):
        torch.manual_seed(7)
        made.append(cls(I, H, dtype=dtype, **arguments))
    ours, theirs = made
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_same_bits(ours.state_dict(), theirs.state_dict())
    assert [[id(p) for p in group] for group in ours.all_weights] == [
        [id(dict(ours.named_parameters())[name]) for name in names] for names in theirs._all_weights
    ]


@pytest.mark.parametrize("arguments", MADE, ids=_name)
def test_strict_state_dicts_both_ways(arguments):
    ours, theirs = lstmrep.LSTM(I, H, **arguments), nn.LSTM(I, H, **arguments)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert_same_bits(ours.state_dict(), theirs.state_dict())
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert_same_bits(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("arguments", MADE, ids=_name)
def test_round_trip(arguments, training):
    start = nn.LSTM(I, H, dtype=torch.float64, **arguments).train(training)
    start.weight_hh_l0.requires_grad_(False)
    ours = lstmrep.LSTM.from_torch(start, peephole=True)
    assert ours.peephole
    assert not any(p.any() for name, p in ours.named_parameters() if name.startswith("weight_p"))
    end = ours.to_torch()
    assert repr(end) == repr(start)
    for module in (ours, end):
        assert module.training == training
        frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
        assert frozen == ["weight_hh_l0"]
    assert_same_bits(end.state_dict(), start.state_dict())
    # Copies, not the same storage.
    assert end.weight_ih_l0.data_ptr() != ours.weight_ih_l0.data_ptr() != start.weight_ih_l0.data_ptr()


def test_from_torch_wants_an_lstm():
    with pytest.raises(TypeError, match="argument 'module' is a GRU"):
        lstmrep.LSTM.from_torch(nn.GRU(I, H))


def test_constructor_and_forward_signatures():
    # RNNBase spells out what nn.LSTM takes as *args; its first two are self and the mode.
    theirs = list(inspect.signature(nn.RNNBase.__init__).parameters.values())[2:]
    ours = list(inspect.signature(lstmrep.LSTM.__init__).parameters.values())[1:]
    positional = [p for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in positional] == [(p.name, p.default) for p in theirs]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(positional) :])
    forward = [inspect.signature(cls.forward).parameters.values() for cls in (lstmrep.LSTM, nn.LSTM)]
    assert [(p.name, p.default) for p in forward[0]] == [(p.name, p.default) for p in forward[1]]
    values = (I, H, 2, False, True, 0.25, True, 3, "cpu", torch.float64)
    made, expected = lstmrep.LSTM(*values), nn.LSTM(*values)
    for name in [p.name for p in positional[:-2]]:
        assert getattr(made, name) == getattr(expected, name)
    assert {p.dtype for p in made.parameters()} == {torch.float64}


def test_device_argument():
    assert {p.device.type for p in lstmrep.LSTM(I, H, device="meta").parameters()} == {"meta"}


class TestDropout:
    """Two layers; whether dropout is right shows in what the second one receives."""

    X = (T, 64, I)

    def _received(self, monkeypatch, module: lstmrep.LSTM, x: torch.Tensor) -> list[torch.Tensor]:
        """What each layer of the module is given."""
        seen: list[torch.Tensor] = []
        original = lstmrep.nn.lstm.lstm
        monkeypatch.setattr(lstmrep.nn.lstm, "lstm", lambda x, *a, **k: seen.append(x) or original(x, *a, **k))
        module(x)
        return seen

    def test_probability_0_and_eval_do_nothing(self):
        x = torch.randn(self.X)
        plain = lstmrep.LSTM(I, H, 2)
        with_0, with_half = (lstmrep.LSTM(I, H, 2, dropout=p) for p in (0.0, 0.5))
        for module in (with_0, with_half):
            module.load_state_dict(plain.state_dict())
        assert_same_bits(run(with_0, x), run(plain, x))
        assert_same_bits(run(with_half.eval(), x), run(plain, x))
        assert not torch.equal(with_half.train()(x)[0], plain(x)[0])

    def test_probability_1_leaves_the_upper_layer_without_input(self):
        x = torch.randn(self.X)
        both = lstmrep.LSTM(I, H, 2, dropout=1.0)
        lower, upper = lstmrep.LSTM(I, H), lstmrep.LSTM(H, H)
        for layer, module in enumerate((lower, upper)):
            own = {n.replace(f"_l{layer}", "_l0"): p for n, p in both.state_dict().items() if f"_l{layer}" in n}
            module.load_state_dict(own)
        output, (h_n, c_n) = both(x)
        expected, (h_upper, c_upper) = upper(torch.zeros(*self.X[:2], H))
        _, (h_lower, c_lower) = lower(x)
        assert torch.equal(output, expected)
        assert torch.equal(h_n, torch.cat((h_lower, h_upper)))
        assert torch.equal(c_n, torch.cat((c_lower, c_upper)))

    @pytest.mark.parametrize("p", [0.25, 0.5, 1.0])
    def test_one_layer_has_nothing_to_drop_and_says_so(self, p):
        x = torch.randn(self.X)
        with pytest.warns(UserWarning, match=f"dropout={p} acts between layers") as caught:
            module = lstmrep.LSTM(I, H, dropout=p)
        assert caught[0].filename == __file__
        plain = lstmrep.LSTM(I, H)
        plain.load_state_dict(module.state_dict())
        assert_same_bits(run(module, x), run(plain, x))

    def test_no_warning_where_it_acts(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lstmrep.LSTM(I, H, 2, dropout=0.5)

    @pytest.mark.parametrize("p", [0.2, 0.5])
    def test_mask(self, monkeypatch, p):
        module = lstmrep.LSTM(I, H, 2, dropout=p)
        x = torch.randn(self.X)
        first, second = self._received(monkeypatch, module, x)
        assert torch.equal(first, x)
        _, undropped = self._received(monkeypatch, copy.deepcopy(module).eval(), x)
        kept = second != 0
        # Five standard deviations of a mean of that many coins.
        assert abs(float(kept.double().mean()) - (1 - p)) < 5 * math.sqrt(p * (1 - p) / kept.numel())
        expected = nn.functional.dropout(torch.ones_like(second), p).amax()
        assert torch.equal(second[kept], (undropped * expected)[kept])
        # A mask of its own at every step: no row of time is like the first.
        assert not (kept[1:] == kept[0]).flatten(1).all(1).any()

    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    @pytest.mark.parametrize("batch_first", [False, True])
    def test_same_seed_drops_what_torch_drops(self, batch_first, dtype):
        arguments = {"num_layers": 3, "dropout": 0.4, "batch_first": batch_first, "bidirectional": True}
        ours, theirs = _pair(dtype, **arguments)

        x = _input(arguments)

        def seeded(module: nn.Module, seed: int = 11) -> dict[str, torch.Tensor]:
            torch.manual_seed(seed)
            return run(module, x)

        # Shuffled orders would shuffle the units under a mask that stays; other masks show the reference's error too.
        with one_thread():
            shown = [budget(lambda d, order, k=k: seeded(reference(ours, d), 11 + k), dtype) for k in range(4)]
        limits = replace(shown[0], truth=seeded(theirs.double()))
        limits.allowed.update({name: max(s.allowed[name] for s in shown) for name in limits.truth})
        assert_within(seeded(ours), limits)
