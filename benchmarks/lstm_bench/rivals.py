"""Other libraries, where they can be imported: ONNX Runtime on a CPU; FlashRNN and Haste on a GPU.

Each gives a module that is called like ``torch.nn.LSTM`` and holds the same parameters as a given ``lstmrep.LSTM``.
The two for GPUs were written from their documentation and have not been run; the gate decides whether they are timed.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import lstmrep

# ONNX orders gates i, o, f, c and peepholes i, o, f; torch and lstmrep order gates i, f, g, o and peepholes i, f, o.
ONNX_GATES, ONNX_PEEPHOLES = (0, 3, 1, 2), (0, 2, 1)


def missing(*packages: str) -> str:
    """Why these cannot be imported, or ``""``."""
    for package in packages:
        try:
            importlib.import_module(package)
        except Exception as why:  # also a broken binary, or no CUDA toolkit at import
            return f"{package} cannot be imported ({type(why).__name__})"
    return ""


def reordered(t: Tensor, order: tuple[int, ...]) -> Tensor:
    """Blocks of equal size along the first dimension in another order."""
    blocks = t.detach().chunk(len(order))
    return torch.cat([blocks[k] for k in order])


class OnnxLSTM(nn.Module):
    """ONNX Runtime's LSTM operator with its input P, float32 on the CPU, inference only.

    Weights are part of the model file, where the runtime may pack them once, as a user's exported model has them.

    Args:
        module: one layer, one direction; its parameters are copied.
        threads: of the runtime's pool.
    """

    def __init__(self, module: lstmrep.LSTM, threads: int) -> None:
        super().__init__()
        import onnx
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper

        p = module.state_dict()
        held = {
            "W": reordered(p["weight_ih_l0"], ONNX_GATES),
            "R": reordered(p["weight_hh_l0"], ONNX_GATES),
            "B": torch.cat([reordered(p[name], ONNX_GATES) for name in ("bias_ih_l0", "bias_hh_l0")]),
        }
        if module.peephole:
            held["P"] = reordered(torch.cat([p[f"weight_{k}_l0"] for k in ("pi", "pf", "po")]), ONNX_PEEPHOLES)
        inputs = ["X", "W", "R", "B", "", "", "", "P" if module.peephole else ""]
        node = helper.make_node("LSTM", inputs, ["Y", "Y_h", "Y_c"], hidden_size=module.hidden_size)
        kind = TensorProto.FLOAT
        graph = helper.make_graph(
            [node],
            "lstm",
            [helper.make_tensor_value_info("X", kind, [None, None, module.input_size])],
            [helper.make_tensor_value_info(n, kind, [None] * r) for n, r in {"Y": 4, "Y_h": 3, "Y_c": 3}.items()],
            [numpy_helper.from_array(t[None].float().numpy(), name) for name, t in held.items()],
        )
        # An operator set and a file version of 2021, which every ONNX Runtime of this Python reads.
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        onnx.checker.check_model(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its workers must not spin on into the turns of others.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``x [T, B, I]``."""
        y, h, c = (torch.from_numpy(a) for a in self.session.run(None, {"X": x.detach().numpy()}))
        return y[:, 0], (h, c)


class FlashRNN(nn.Module):
    """``flashrnn(Wx [B, T, 4, 1, H], R [4, 1, H, H], b)`` with one head and the gates in torch's order."""

    def __init__(self, module: lstmrep.LSTM) -> None:
        super().__init__()
        self.function: Any = importlib.import_module("flashrnn").flashrnn
        for name, parameter in module.named_parameters():
            self.register_parameter(name, nn.Parameter(parameter.detach().clone()))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``x [T, B, I]``."""
        p = dict(self.named_parameters())
        T, B, _ = x.shape
        H = p["weight_hh_l0"].shape[1]
        share = functional.linear(x.transpose(0, 1), p["weight_ih_l0"]).view(B, T, 4, 1, H)
        bias = (p["bias_ih_l0"] + p["bias_hh_l0"]).view(4, 1, H)
        states, last = self.function(
            share, p["weight_hh_l0"].view(4, 1, H, H), bias, states=None, function="lstm", backend="cuda_fused"
        )
        return states[0].reshape(B, T, H).transpose(0, 1), (last[0].reshape(1, B, H), last[1].reshape(1, B, H))


class Haste(nn.Module):
    """``haste_pytorch.LSTM``, whose matrices are transposed and whose gates are in the order i, g, f, o; float32."""

    def __init__(self, module: lstmrep.LSTM) -> None:
        super().__init__()
        self.inner: Any = importlib.import_module("haste_pytorch").LSTM(module.input_size, module.hidden_size)
        for name, parameter in module.named_parameters():
            self.register_parameter(name, nn.Parameter(parameter.detach().clone()))
        del self.inner.kernel, self.inner.recurrent_kernel, self.inner.bias

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``x [T, B, I]``."""
        p = dict(self.named_parameters())

        def own(t: Tensor) -> Tensor:
            i, f, g, o = t.chunk(4)
            return torch.cat([i, g, f, o])

        self.inner.kernel = own(p["weight_ih_l0"]).t()
        self.inner.recurrent_kernel = own(p["weight_hh_l0"]).t()
        self.inner.bias = own(p["bias_ih_l0"] + p["bias_hh_l0"])
        return self.inner(x)
