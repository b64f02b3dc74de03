"""Schemas of the two torch ops, ``lstmrep::lstm`` and ``lstmrep::lstm_backward``, and the order of their inputs."""

from __future__ import annotations

import torch

# Kept alive for the life of the process: dropping it would unregister the ops.
LIBRARY = torch.library.Library("lstmrep", "DEF")

LIBRARY.define(
    "lstm(Tensor? x, Tensor[] w_ih, Tensor[] w_hh, Tensor? bias, Tensor? peephole, Tensor? h0, Tensor? c0,"
    " Tensor? lengths, SymInt steps, bool[] reverse, str cell, str backend, str save)"
    " -> (Tensor h, Tensor h_n, Tensor c_n, Tensor gates, Tensor c)"
)
LIBRARY.define(
    "lstm_backward(Tensor? grad_h, Tensor? grad_h_n, Tensor? grad_c_n, Tensor? x, Tensor[] w_ih, Tensor[] w_hh,"
    " Tensor? bias, Tensor? peephole, Tensor? h0, Tensor? c0, Tensor? lengths, Tensor h, Tensor? gates, Tensor c,"
    " bool[] reverse, str cell, str backend, bool[] needs) -> Tensor[]"
)

# Order of ``needs`` and of the gradients that lstm_backward returns (w_ih and w_hh give N tensors each).
INPUTS = ("x", "w_ih", "w_hh", "bias", "peephole", "h0", "c0")
X, W_IH, W_HH, BIAS, PEEPHOLE, H0, C0 = range(7)
