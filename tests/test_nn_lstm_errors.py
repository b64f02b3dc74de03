"""Wrong arguments of lstmrep.LSTM raise one sentence that names them; odd but right ones (strides, no rows, no steps)
work."""

import re

import pytest
import torch
from module_runs import FLOATS, draw_state, run
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import lstmrep
from lstmrep.testing import assert_same_bits

T, B, I, H = 6, 3, 5, 8


def _zeros(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(s, dtype=dtype) for s in shapes)


def _packed(features: int = I, dtype: torch.dtype = torch.float32):
    return pack_sequence([torch.zeros(n, features, dtype=dtype) for n in (2, 4)], enforce_sorted=False)


X, STATE = torch.zeros(T, B, I), (1, B, H)
CALLS = {
    "rank 1": (ValueError, "input", {}, (X[0, 0],)),
    "rank 4": (ValueError, "input", {}, (X[None],)),
    "features": (ValueError, "input", {}, (X[..., 1:],)),
    "features, unbatched": (ValueError, "input", {}, (X[:, 0, 1:],)),
    "features, packed": (ValueError, "input", {}, (_packed(I + 1),)),
    "float16 input": (TypeError, "input", {}, (X.half(),)),
    "float64 input": (TypeError, "input", {}, (X.double(),)),
    "integer input": (TypeError, "input", {}, (X.long(),)),
    "float32 input of a float16 module": (TypeError, "input", {"dtype": torch.float16}, (X,)),
    "packed float16 input": (TypeError, "input", {}, (_packed(dtype=torch.float16),)),
    "array": (TypeError, "input", {}, (X.numpy(),)),
    "none": (TypeError, "input", {}, (None,)),
    "device": (ValueError, "input", {}, (X.to("meta"),)),
    "one state": (TypeError, "hx", {}, (X, torch.zeros(STATE))),
    "three states": (TypeError, "hx", {}, (X, _zeros(STATE, STATE, STATE))),
    "one state, unbatched": (TypeError, "hx", {}, (X[:, 0], torch.zeros(1, H))),
    "h_0 batch": (ValueError, "h_0", {}, (X, _zeros((1, B + 1, H), STATE))),
    "c_0 batch": (ValueError, "c_0", {}, (X, _zeros(STATE, (1, 1, H)))),
    "h_0 size": (ValueError, "h_0", {}, (X, _zeros((1, B, H + 1), STATE))),
    "h_0 is not projected": (ValueError, "h_0", {"proj_size": 3}, (X, _zeros(STATE, STATE))),
    "c_0 is projected": (ValueError, "c_0", {"proj_size": 3}, (X, _zeros((1, B, 3), (1, B, 3)))),
    "layers": (ValueError, "h_0", {"num_layers": 2}, (X, _zeros(STATE, STATE))),
    "directions": (ValueError, "h_0", {"bidirectional": True}, (X, _zeros(STATE, STATE))),
    "h_0 rank": (ValueError, "h_0", {}, (X, _zeros((B, H), (B, H)))),
    "batch of a batch_first input": (ValueError, "h_0", {"batch_first": True}, (X, _zeros(STATE, STATE))),
    "batch_first states": (ValueError, "h_0", {"batch_first": True}, (X, _zeros((T, 1, H), (T, 1, H)))),
    "batched h_0 of an unbatched input": (ValueError, "h_0", {}, (X[:, 0], _zeros((1, 1, H), (1, 1, H)))),
    "batched c_0 of an unbatched input": (ValueError, "c_0", {}, (X[:, 0], _zeros((1, H), (1, 1, H)))),
    "size, unbatched": (ValueError, "h_0", {}, (X[:, 0], _zeros((1, H + 1), (1, H)))),
    "unbatched states": (ValueError, "h_0", {}, (X, _zeros((1, H), (1, H)))),
    "more states than packed sequences": (ValueError, "h_0", {}, (_packed(), _zeros((1, 3, H), (1, 3, H)))),
    "fewer states than packed sequences": (ValueError, "h_0", {}, (_packed(), _zeros((1, 1, H), (1, 1, H)))),
    "h_0 dtype": (TypeError, "h0", {}, (X, _zeros(STATE, STATE, dtype=torch.float64))),
    "backend that cannot run": (RuntimeError, "backend", {"backend": "cuda"}, (X,)),
}
CONSTRUCTORS = {
    "input_size": [0, -1, 2.0, True],
    "hidden_size": [0, -3, "8", None],
    "num_layers": [0, 1.5],
    "dropout": [2, -0.1, True, "0.5", float("nan")],
    "proj_size": [H, H + 1, -1, 1.0, True],
    "cell": ["gelu", None],
    "backend": ["gpu", None],
    "dtype": [torch.int32, torch.complex64],
}


def _assert_one_sentence(text: str, name: str) -> None:
    assert "\n" not in text
    assert text.endswith(".")
    assert text.startswith("lstmrep")
    assert re.search(rf"argument '{name}'|\b{name}=", text), text


@pytest.mark.parametrize("case", CALLS)
def test_calls(case):
    kind, name, arguments, call = CALLS[case]
    module = lstmrep.LSTM(I, H, **arguments)
    with pytest.raises(kind) as caught:
        module(*call)
    _assert_one_sentence(str(caught.value), name)


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in CONSTRUCTORS.items() for v in values])
def test_constructor(name, value):
    arguments = {"input_size": I, "hidden_size": H} | {name: value}
    with pytest.raises(ValueError, match=re.escape(repr(value))) as caught:
        lstmrep.LSTM(**arguments)
    _assert_one_sentence(str(caught.value), name)


def test_nothing_is_left_after_an_error():
    """A call that failed does not change the next one."""
    module, x = lstmrep.LSTM(I, H, peephole=True), torch.randn(T, B, I)
    before = run(module, x)
    with pytest.raises(ValueError, match="'input'"):
        module(x[..., 1:])
    assert_same_bits(run(module, x), before)


def _strided(t: Tensor) -> dict[str, Tensor]:
    """The same numbers in other layouts."""
    wide = torch.full((*t.shape[:-1], 2 * t.shape[-1]), torch.nan, dtype=t.dtype)
    wide[..., ::2] = t
    buffer = torch.full((t.numel() + 1,), torch.nan, dtype=t.dtype)
    buffer[1:] = t.flatten()
    return {
        "transposed": t.transpose(0, 1).contiguous().transpose(0, 1),
        "features last to first": t.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        "every other feature": wide[..., ::2],
        "off the alignment": buffer[1:].view(t.shape),
    }


@pytest.mark.parametrize("layout", list(_strided(X)))
@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 3}], ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_strides_do_not_change_a_bit(dtype, arguments, layout):
    module = lstmrep.LSTM(I, H, peephole=True, dtype=dtype, **arguments)
    x, hx = torch.randn(T, B, I, dtype=dtype), tuple(s.to(dtype) for s in draw_state(module, B))
    other, states = _strided(x)[layout], tuple(_strided(s)[layout] for s in hx)
    dense, odd = _outputs(module, x, hx), _outputs(module, other, states)
    assert_same_bits(odd, dense)
    # Where no weight wants a gradient torch's own products take another way.
    module.requires_grad_(False)
    assert torch.equal(module(other, states)[0], module(x, hx)[0])


def test_expanded_input_and_states():
    module = lstmrep.LSTM(I, H, peephole=True, num_layers=2)
    x, hx = torch.randn(T, 1, I).expand(T, B, I), tuple(torch.randn(1, 1, H).expand(2, B, H) for _ in range(2))
    assert_same_bits(_outputs(module, x, hx), _outputs(module, x.contiguous(), tuple(s.contiguous() for s in hx)))


def _outputs(module: lstmrep.LSTM, x: Tensor, hx) -> dict[str, Tensor]:
    """Outputs and gradients with the leaves in the layout they have; a sum's gradient has stride 0."""
    leaves = [x.detach().requires_grad_(), *(s.detach().requires_grad_() for s in hx)]
    assert leaves[0].stride() == x.stride()
    output, (h_n, c_n) = module(leaves[0], (leaves[1], leaves[2]))
    leaves += list(module.parameters())
    gradients = torch.autograd.grad(output.sum() + h_n.sum() + c_n.sum(), leaves)
    named = {f"d_{k}": g for k, g in enumerate(gradients)}
    return {name: t.detach() for name, t in ({"output": output, "h_n": h_n, "c_n": c_n} | named).items()}


@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 3}], ids=str)
@pytest.mark.parametrize(("steps", "batch"), [(0, B), (T, 0), (0, 0)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_no_steps_and_no_rows(batch_first, steps, batch, arguments):
    module = lstmrep.LSTM(I, H, peephole=True, batch_first=batch_first, **arguments)
    rows, out = module.num_layers * module.num_directions, module.proj_size or H
    x = torch.zeros((batch, steps, I) if batch_first else (steps, batch, I))
    hx = draw_state(module, batch)
    for state in (None, hx):
        got = run(module, x, state)
        assert got["output"].shape == (*x.shape[:2], out * module.num_directions)
        assert got["h_n"].shape == (rows, batch, out)
        assert got["c_n"].shape == (rows, batch, H)
        assert got["d_input"].shape == x.shape
        assert not any(got[f"d_{name}"].any() for name, _ in module.named_parameters())
    if not steps:
        assert torch.equal(got["h_n"], hx[0].float())
        assert torch.equal(got["c_n"], hx[1].float())
