"""Bad input to the op: one sentence that names the argument, what was expected and what to do."""

import pytest
import torch

from lstmrep.ops import lstm
from lstmrep.plan import PlanError

N, T, B, I, H = 2, 3, 2, 5, 4


def _good() -> dict:
    return {
        "x": torch.randn(T, B, I),
        "w_ih": [torch.randn(4 * H, I)] * N,
        "w_hh": [torch.randn(4 * H, H)] * N,
        "bias": torch.randn(N, 4 * H),
        "peephole": torch.randn(N, 3, H),
        "h0": torch.randn(N, B, H),
        "c0": torch.randn(N, B, H),
        "lengths": torch.tensor([[3, 1], [2, 0]]),
    }


BAD = [
    ("w_hh", [], ValueError),
    ("w_hh", [torch.randn(15, 4)] * N, ValueError),
    ("w_hh", [torch.randn(16, 4), torch.randn(12, 3)], ValueError),
    ("w_hh", [torch.randn(16, 4), torch.randn(16, 4).double()], TypeError),
    ("w_hh", [torch.ones(16, 4, dtype=torch.int32)] * N, TypeError),
    ("w_ih", [torch.randn(16, 5)], ValueError),
    ("w_ih", [torch.randn(16, 6)] * N, ValueError),
    ("x", torch.randn(B, I), ValueError),
    ("x", torch.randn(3, T, B, I), ValueError),
    ("x", torch.randn(T, B, I).bfloat16(), TypeError),
    ("x", torch.randn(T, B, I, device="meta"), ValueError),
    ("x", None, ValueError),
    ("bias", torch.randn(4 * H), ValueError),
    ("peephole", torch.randn(N, H), ValueError),
    ("bias", [torch.randn(4 * H)], ValueError),
    ("peephole", [torch.randn(H)] * (N + 1), ValueError),
    ("h0", torch.randn(N, B + 1, H), ValueError),
    ("h0", torch.randn(N, B, H).half(), TypeError),
    ("c0", torch.randn(3, B, H), ValueError),
    ("lengths", torch.tensor([3, 1]), ValueError),
    ("lengths", torch.tensor([[3, 1], [4, 0]]), ValueError),
    ("lengths", torch.tensor([[3, 1], [-1, 0]]), ValueError),
    ("lengths", torch.rand(N, B), TypeError),
    ("steps", 4, ValueError),
    ("steps", -1, ValueError),
    ("reverse", [True], ValueError),
    ("cell", "gru", ValueError),
    ("backend", "cudnn", PlanError),
    ("backend", "cuda", PlanError),
]


def test_the_good_input_is_good():
    h, _, _ = lstm(**_good())
    assert h.shape == (N, T, B, H)


@pytest.mark.parametrize(("name", "value", "kind"), BAD, ids=lambda v: str(v)[:30] if isinstance(v, (str, int)) else "")
def test_bad_input(name, value, kind):
    with pytest.raises(kind) as caught:
        lstm(**{**_good(), name: value})
    text = str(caught.value)
    assert text.startswith("lstmrep") and text.endswith(".") and "\n" not in text
    assert name in text


def test_no_input_needs_steps_and_a_batch_size():
    w = [torch.randn(16, 4)]
    with pytest.raises(ValueError, match="argument 'steps' is missing"):
        lstm(None, [], w, h0=torch.randn(1, 2, 4))
    with pytest.raises(ValueError, match="pass h0 or c0"):
        lstm(None, [], w, steps=3)


def test_backward_op_checks_what_it_is_given():
    w = torch.randn(16, 4)
    h0 = torch.randn(1, 2, 4)
    h, _, _, gates, c = torch.ops.lstmrep.lstm(None, [], [w], [], [], h0, None, None, 3, [False], "tanh", "auto", "all")
    with pytest.raises(ValueError, match="argument 'grad_h'"):
        torch.ops.lstmrep.lstm_backward(
            h[:, 1:],
            None,
            None,
            None,
            [],
            [w],
            [],
            [],
            h0,
            None,
            None,
            h,
            gates,
            c,
            [False],
            "tanh",
            "auto",
            [False] * 7,
        )
