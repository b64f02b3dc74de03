"""lstmrep.LSTM on a PackedSequence: against torch.nn.LSTM, and with peepholes against each sequence run alone."""

import copy

import pytest
import torch
from module_runs import alone, assert_pair, draw, draw_state, module_budget, reference, round_parameters, run
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import lstmrep
from lstmrep.testing import assert_same_bits, assert_within

I, H = 5, 16
SORTED = [20, 9, 9, 4, 1]
# Its sorting permutation is not its own inverse, so the two kinds of indices cannot be confused unseen.
UNSORTED = [4, 1, 9, 9, 20]
ARGUMENTS = [
    {},
    {"num_layers": 2},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True},
    {"proj_size": 3},
    {"num_layers": 2, "bidirectional": True, "proj_size": 3, "batch_first": True},
    {"bidirectional": True, "bias": False, "batch_first": True},
]


def _name(arguments: dict) -> str:
    return "-".join(f"{k}={v}" for k, v in arguments.items()) or "defaults"


def _packed(lengths: list[int]) -> PackedSequence:
    return pack_sequence([draw(n, I) for n in lengths], enforce_sorted=lengths == SORTED)


@pytest.mark.parametrize("states", [False, True], ids=["no_hx", "hx"])
@pytest.mark.parametrize("lengths", [SORTED, UNSORTED], ids=["sorted", "unsorted"])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=_name)
def test_against_torch(arguments, lengths, states):
    theirs = nn.LSTM(I, H, **arguments)
    ours = lstmrep.LSTM.from_torch(theirs)
    x = _packed(lengths)
    hx = draw_state(ours, len(lengths)) if states else None
    assert_pair(ours, theirs, x, hx)
    x = x._replace(data=x.data.float())
    got, expected = (m(x, None if hx is None else tuple(s.float() for s in hx))[0] for m in (ours, theirs))
    assert isinstance(got, PackedSequence)
    assert got.data.dtype == expected.data.dtype
    assert torch.equal(got.batch_sizes, expected.batch_sizes)
    for name in ("sorted_indices", "unsorted_indices"):
        indices = [getattr(p, name) for p in (got, expected)]
        assert torch.equal(*indices) if lengths == UNSORTED else indices == [None, None], name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_precisions(dtype):
    theirs = round_parameters(nn.LSTM(I, H, num_layers=2, bidirectional=True), torch.bfloat16)
    ours = lstmrep.LSTM.from_torch(theirs).to(dtype)
    x = _packed(UNSORTED)
    x = x._replace(data=x.data.bfloat16().double())
    assert_pair(ours, theirs, x, draw_state(ours, len(UNSORTED), dtype=torch.bfloat16))


@pytest.mark.parametrize("cell", ["tanh", "relu"])
@pytest.mark.parametrize("arguments", ARGUMENTS[:6], ids=_name)
def test_peephole_packed_is_each_sequence_alone(arguments, cell):
    # Larger than above: on few numbers the reference's largest error is a matter of luck.
    together = lstmrep.LSTM(I, 2 * H, peephole=True, cell=cell, **arguments)
    x, hx = _packed(UNSORTED * 2), draw_state(together, len(UNSORTED) * 2)
    truth = reference(alone(together), torch.float64)
    limits = module_budget(together, truth, x, hx)
    assert any(name.startswith("d_weight_po") for name in limits.truth)
    assert_within(run(together, x, hx), limits)
    assert_within(run(alone(together), x, hx), limits)


@pytest.mark.parametrize("peephole", [False, True])
def test_equal_lengths_are_a_padded_batch(peephole):
    module = lstmrep.LSTM(I, H, num_layers=2, bidirectional=True, peephole=peephole)
    x = torch.randn(6, 4, I)
    packed, state = module(pack_padded_sequence(x, [6] * 4))
    output, expected = module(x)
    assert torch.equal(pad_packed_sequence(packed)[0], output)
    assert torch.equal(state[0], expected[0])
    assert torch.equal(state[1], expected[1])


def test_same_call_twice_same_bits_and_nothing_written():
    module = lstmrep.LSTM(I, H, num_layers=2, bidirectional=True, peephole=True)
    x, hx = _packed(UNSORTED), draw_state(module, len(UNSORTED))
    kept = copy.deepcopy((x, hx))
    assert_same_bits(run(module, x, hx), run(module, x, hx))
    assert torch.equal(x.data, kept[0].data)
    assert torch.equal(hx[0], kept[1][0])
    assert torch.equal(hx[1], kept[1][1])


def test_dropout_between_layers_of_packed_input():
    module = lstmrep.LSTM(I, H, num_layers=2, dropout=0.5)
    x = _packed(UNSORTED)
    x = x._replace(data=x.data.float())
    first, second = module(x)[0].data, module(x)[0].data
    assert not torch.equal(first, second)
    module.eval()
    assert torch.equal(module(x)[0].data, module(x)[0].data)
