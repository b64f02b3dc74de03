"""Cases of the op: sizes, flags and random numbers, and a run of one on a backend with all its gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lstmrep.ops import lstm
from lstmrep.testing.tolerance import moved


@dataclass(frozen=True)
class Case:
    """One call of the op. ``numbers`` are drawn from ``seed`` and rounded to ``dtype``, so every precision sees the
    same ones."""

    N: int = 1
    T: int = 5
    B: int = 3
    I: int = 6
    H: int = 8
    dtype: torch.dtype = torch.float32
    cell: str = "tanh"
    peephole: bool = True
    bias: bool = True
    input: str = "shared"  # "shared" | "each" | "gates" | "none"
    states: bool = True
    lengths: bool = False
    reverse: tuple[bool, ...] = ()
    recompute: bool = False
    seed: int = 0

    def __str__(self) -> str:
        flags = [self.cell, str(self.dtype).removeprefix("torch."), self.input]
        flags += [name for name in ("peephole", "lengths", "recompute") if getattr(self, name)]
        flags += [f"no_{name}" for name in ("bias", "states") if not getattr(self, name)]
        if any(self.reverse):
            flags.append("reverse")
        return f"N{self.N}T{self.T}B{self.B}I{self.I}H{self.H}-" + "-".join(flags)

    @property
    def flags(self) -> list[bool]:
        """The reverse flags, none by default."""
        return list(self.reverse) or [False] * self.N

    def at(self, dtype: torch.dtype) -> Case:
        """The same case at another precision (for cases whose numbers fit both)."""
        return replace(self, dtype=dtype)


def numbers(case: Case) -> dict[str, Tensor]:
    """The case's tensors in float64, each representable in its dtype. Absent ones are left out."""
    g = torch.Generator().manual_seed(case.seed)
    n, t, b, i, h = case.N, case.T, case.B, case.I, case.H

    def draw(*shape: int, scale: float = 1.0, dtype: torch.dtype | None = None) -> Tensor:
        values = torch.randn(shape, generator=g, dtype=torch.float64, device="cpu") * scale
        return values.to(dtype or case.dtype).double()

    wide = torch.float64 if case.dtype == torch.float64 else torch.float32
    out = {f"w_hh{k}": draw(4 * h, h, scale=h**-0.5) for k in range(n)}
    if case.input == "gates":
        out["x"] = draw(n, t, b, 4 * h)
    elif case.input != "none":
        out["x"] = draw(*([t, b, i] if case.input == "shared" else [n, t, b, i]))
        out |= {f"w_ih{k}": draw(4 * h, i, scale=i**-0.5) for k in range(n)}
    if case.bias:
        out["bias"] = draw(n, 4 * h, dtype=wide)
    if case.peephole:
        out["peephole"] = draw(n, 3, h, scale=0.5, dtype=wide)
    if case.states:
        out["h0"], out["c0"] = draw(n, b, h), draw(n, b, h, dtype=wide)
    # Without an input and without states nothing tells the batch size: c0 stays.
    elif case.input == "none":
        out["c0"] = draw(n, b, h, dtype=wide)
    out["grad_h"], out["grad_h_n"] = draw(n, t, b, h), draw(n, b, h)
    out["grad_c_n"] = draw(n, b, h, dtype=wide)
    if case.lengths:
        out["lengths"] = torch.randint(0, t + 1, (n, b), generator=g, device="cpu")
    return out


def run(
    case: Case,
    backend: str,
    dtype: torch.dtype | None = None,
    *,
    order: int = 0,
    gradients: bool = True,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """Run a case and return its outputs and the gradients of all its inputs by name (``d_x``, ``d_w_hh0``, ...).

    Args:
        case: the case.
        backend: which backend runs it.
        dtype: precision to run at; default: the case's.
        order: 0 runs the case as it is; another number runs it with its numbers moved by a rounding and with units,
            features and rows shuffled, so that sums run in another order; results are put back in the case's order.
        gradients: also run backward, with random gradients of h, h_n and c_n.
        device: where the op runs; numbers are drawn on the CPU, and results come back to it.
    """
    dtype = dtype or case.dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    shuffle = _Shuffle(case, order)
    data = {name: shuffle.apply(name, t) for name, t in numbers(case).items()}
    lengths = data.pop("lengths", None)
    grads = [data.pop(name) for name in ("grad_h", "grad_h_n", "grad_c_n")]
    leaves = {
        name: moved(t, wide if name in ("bias", "peephole", "c0") else dtype, order)
        .to(device)
        .requires_grad_(gradients)
        for name, t in data.items()
    }
    w_ih = [leaves[f"w_ih{k}"] for k in range(case.N) if f"w_ih{k}" in leaves]
    h, h_n, c_n = lstm(
        leaves.get("x"),
        w_ih,
        [leaves[f"w_hh{k}"] for k in range(case.N)],
        bias=leaves.get("bias"),
        peephole=leaves.get("peephole"),
        h0=leaves.get("h0"),
        c0=leaves.get("c0"),
        lengths=None if lengths is None else lengths.to(device),
        steps=case.T,
        reverse=case.flags,
        cell=case.cell,
        backend=backend,
        recompute=case.recompute,
    )
    out = {"h": h, "h_n": h_n, "c_n": c_n}
    if gradients:
        given = [g.to(o.device, o.dtype) for g, o in zip(grads, (h, h_n, c_n), strict=True)]
        made = torch.autograd.grad([h, h_n, c_n], list(leaves.values()), given)
        out |= {f"d_{name}": g for name, g in zip(leaves, made, strict=True)}
    return {name: shuffle.undo(name.removeprefix("d_"), t.detach().cpu()) for name, t in out.items()}


class _Shuffle:
    """Permutations of units, features and rows, applied along the dimensions of each named tensor."""

    def __init__(self, case: Case, order: int) -> None:
        g = torch.Generator().manual_seed(order)
        identity = order == 0
        sizes = {"H": case.H, "I": case.I, "B": case.B}
        # On the CPU, whatever torch's default device is: results come back to it.
        with torch.device("cpu"):
            self.orders = {k: torch.arange(n) if identity else torch.randperm(n, generator=g) for k, n in sizes.items()}
        gates = [self.orders["H"] + k * case.H for k in range(4)]
        self.orders["G"] = torch.cat(gates)
        self.gates_input = case.input == "gates"

    def _dims(self, name: str) -> str:
        """Trailing dimensions of a tensor, one letter each; G is 4H."""
        if name == "x":
            return "BG" if self.gates_input else "BI"
        name = name.rstrip("0123456789") if name.startswith("w_") else name
        return {"w_hh": "GH", "w_ih": "GI", "bias": "G", "peephole": "H", "lengths": "B"}.get(name, "BH")

    def apply(self, name: str, t: Tensor) -> Tensor:
        """To the shuffled order."""
        dims = self._dims(name)
        for place, letter in enumerate(dims):
            t = t.index_select(t.dim() - len(dims) + place, self.orders[letter])
        return t

    def undo(self, name: str, t: Tensor) -> Tensor:
        """Back to the case's order."""
        dims = self._dims(name)
        for place, letter in enumerate(dims):
            t = t.index_select(t.dim() - len(dims) + place, self.orders[letter].argsort())
        return t
