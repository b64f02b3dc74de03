"""What backends that run step by step around library products share: products, start states, sums over rows."""

from __future__ import annotations

import torch
from torch import Tensor

from lstmrep.backends.product import wide_product
from lstmrep.backends.tensors import Backward, Recurrence


class Products:
    """``out[n] = a[n] @ weights[n]`` (or its transpose) at each call: a [N, B, K] S, out [N, B, M] C.

    The views are made once: a step of few rows takes the host longer than the device.
    """

    def __init__(self, a: Tensor, weights: list[Tensor], transpose: bool, out: Tensor) -> None:
        self._each = [(a[n], w.t() if transpose else w, out[n]) for n, w in enumerate(weights)]

    def __call__(self) -> None:
        """Form the products of what ``a`` holds now."""
        for a, w, out in self._each:
            wide_product(a, w, out)


def set_state(start: Tensor | None, out: Tensor) -> Tensor:
    """Put a start state, zeros for none, into ``out`` [N, B, H]."""
    return out.zero_() if start is None else out.copy_(start)


def add_up(sums: Tensor, a: Backward) -> None:
    """Bias and peephole gradients from the parts of each row, ``[N, B, 7, H]`` C."""
    totals = sums.sum(1)  # [N, 7, H]
    if a.d_bias is not None:
        a.d_bias.copy_(totals[:, :4].reshape(a.d_bias.shape))
    if a.d_peephole is not None:
        a.d_peephole.copy_(totals[:, 4:])


def start_gradients(r: Recurrence, a: Backward, d_step: Tensor, dh: Tensor, dc: Tensor) -> None:
    """Gradients of the start states; a row without any step hands its last state's gradient through.

    d_step: ``[N, B, 4H]`` S, gate gradients of step 0. dh: ``[N, B, H]`` C, scratch. dc: ``[N, B, H]`` C.
    """
    s = r.shape
    if a.d_h0 is not None:
        if s.T:
            Products(d_step, r.w_hh, False, dh)()
        else:
            dh.zero_()
        a.d_h0.copy_(_pass_through(r, dh, a.grad_h_n))
    if a.d_c0 is not None:
        a.d_c0.copy_(_pass_through(r, dc, a.grad_c_n))


def _pass_through(r: Recurrence, gradient: Tensor, grad_last: Tensor | None) -> Tensor:
    if grad_last is None or (r.lengths is None and r.shape.T):
        return gradient
    if r.lengths is None:
        return grad_last
    return torch.where((r.lengths <= 0)[:, :, None], grad_last.to(gradient.dtype), gradient)
