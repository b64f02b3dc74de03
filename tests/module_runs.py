"""Runs of an LSTM module, lstmrep's or torch's: outputs and all gradients by name, and a pair held to a budget.

Numbers are drawn in float64 and representable in the precision under test, so every precision sees the same ones.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import lstmrep
from lstmrep.testing import assert_within, budget
from lstmrep.testing.tolerance import Budget

FLOATS = [torch.float32, torch.float64]


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers in float64 that ``dtype`` and float32 can hold."""
    narrow = torch.float32 if dtype == torch.float64 else dtype
    return torch.randn(shape, dtype=torch.float64).to(narrow).double()


def draw_state(module: nn.Module, batch: int | None, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A start state (h_0, c_0) of the module; no batch dimension where ``batch`` is none."""
    rows = module.num_layers * (2 if module.bidirectional else 1)
    middle = () if batch is None else (batch,)
    sizes = (module.proj_size or module.hidden_size, module.hidden_size)
    return draw(rows, *middle, sizes[0], dtype=dtype), draw(rows, *middle, sizes[1], dtype=dtype)


def round_parameters(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module with every parameter set to a number that ``dtype`` can hold."""
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(p.to(dtype))
    return module


def reference(module: lstmrep.LSTM, dtype: torch.dtype) -> lstmrep.LSTM:
    """A copy of the module at ``dtype`` that runs on the reference backend."""
    made = copy.deepcopy(module).to(dtype)
    made.backend = "reference"
    return made


def run(
    module: nn.Module,
    input: Tensor | PackedSequence,
    hx: tuple[Tensor, Tensor] | None = None,
    *,
    order: int = 0,
    gradients: bool = True,
) -> dict[str, Tensor]:
    """Outputs and gradients of input, states and all parameters that want one (``d_input``, ``d_weight_ih_l0``, ...).

    Args:
        module: any LSTM; numbers are cast to its dtype.
        input: of any precision.
        hx: start state, or none.
        order: 0 runs the module as it is; another number runs a copy with hidden units and input features shuffled
            and puts the results back, so that only the order of sums differs.
        gradients: also run backward.

    The loss weighs every output by a number of its own, a multiple of 1/8, which is the same in every precision.
    """
    shuffle = _Shuffle(module, order)
    module = shuffle.module(module)
    dtype = next(module.parameters()).dtype
    packed = isinstance(input, PackedSequence)
    leaves = {"input": input.data if packed else input}
    if hx is not None:
        leaves |= {"h_0": hx[0], "c_0": hx[1]}
    leaves = {name: shuffle.apply(name, t.detach().to(dtype)).requires_grad_() for name, t in leaves.items()}
    leaves |= {name: p for name, p in module.named_parameters() if p.requires_grad}
    x = input._replace(data=leaves["input"]) if packed else leaves["input"]
    output, (h_n, c_n) = module(x, None if hx is None else (leaves["h_0"], leaves["c_0"]))
    outputs = {"output": output.data if packed else output, "h_n": h_n, "c_n": c_n}
    outputs = {name: shuffle.undo(name, t) for name, t in outputs.items()}
    results = dict(outputs)
    if gradients:
        g = torch.Generator().manual_seed(1)
        weights = [(torch.randint(-16, 17, o.shape, generator=g) / 8).to(o.dtype) for o in outputs.values()]
        made = torch.autograd.grad(list(outputs.values()), list(leaves.values()), weights)
        results |= {f"d_{name}": shuffle.undo(name, d) for name, d in zip(leaves, made, strict=True)}
    return {name: t.detach() for name, t in results.items()}


def module_budget(
    ours: lstmrep.LSTM,
    truth: nn.Module | None,
    input: Tensor | PackedSequence,
    hx: tuple[Tensor, Tensor] | None = None,
    *,
    gradients: bool = True,
) -> Budget:
    """The budget of all results of ``ours`` at its precision.

    Args:
        ours: the module under test. Its copy on the reference backend shows what error its precision costs.
        truth: runs in float64; default: the reference backend. Where it is an lstmrep.LSTM too, another way to the
            same results, it is on the reference backend, and its sums count among the orders of sums.
        input, hx: numbers that the precision of ``ours`` can hold.
        gradients: of the gradients too.
    """

    another = isinstance(truth, lstmrep.LSTM)

    def once(dtype: torch.dtype, order: int) -> dict[str, Tensor]:
        module = reference(truth if another and order % 2 else ours, dtype)
        if truth is not None and dtype == torch.float64:
            module = reference(truth, dtype) if another else copy.deepcopy(truth).to(dtype)
        return run(module, input, hx, order=order, gradients=gradients)

    # Many small operations: a second thread only waits, by a factor of 15 where the other core is busy.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return budget(once, next(ours.parameters()).dtype)
    finally:
        torch.set_num_threads(threads)


def assert_pair(
    ours: lstmrep.LSTM,
    truth: nn.Module | None,
    input: Tensor | PackedSequence,
    hx: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Every output and gradient of ``ours`` is there and within its budget; returns them."""
    got = run(ours, input, hx)
    limits = module_budget(ours, truth, input, hx)
    assert set(got) == set(limits.truth), f"names differ: {sorted(set(got) ^ set(limits.truth))}"
    assert_within(got, limits)
    return got


class _Shuffle:
    """Permutations of hidden units, projected outputs and input features, applied along named tensors' dimensions."""

    def __init__(self, module: nn.Module, order: int) -> None:
        self.identity = order == 0
        g = torch.Generator().manual_seed(order)
        out = module.proj_size or module.hidden_size
        self.orders = {"I": torch.randperm(module.input_size, generator=g)}
        self.orders["H"] = torch.randperm(module.hidden_size, generator=g)
        # P stands for the output's units, which are the hidden ones unless they are projected.
        self.orders["P"] = torch.randperm(out, generator=g) if module.proj_size else self.orders["H"]
        self.orders["G"] = torch.cat([self.orders["H"] + k * module.hidden_size for k in range(4)])
        self.orders["D"] = torch.cat([self.orders["P"] + k * out for k in range(1 + module.bidirectional)])

    @staticmethod
    def _dims(name: str) -> str:
        """Trailing dimensions, one letter each; G is 4H, D the output with its directions."""
        if name.startswith("weight_ih"):
            return "GI" if "_l0" in name else "GD"
        for start, dims in (("weight_hh", "GP"), ("weight_hr", "PH"), ("weight_p", "H"), ("bias", "G")):
            if name.startswith(start):
                return dims
        return {"input": "I", "output": "D", "h_0": "P", "h_n": "P", "c_0": "H", "c_n": "H"}[name]

    def apply(self, name: str, t: Tensor, *, back: bool = False) -> Tensor:
        """To the shuffled order."""
        if self.identity:
            return t.clone() if not t.requires_grad else t
        dims = self._dims(name)
        for place, letter in enumerate(dims):
            indices = self.orders[letter]
            t = t.index_select(t.dim() - len(dims) + place, indices.argsort() if back else indices)
        return t

    def undo(self, name: str, t: Tensor) -> Tensor:
        """Back to the caller's order."""
        return self.apply(name, t, back=True)

    def module(self, module: nn.Module) -> nn.Module:
        """The module itself, or a copy with shuffled parameters."""
        if self.identity:
            return module
        made = copy.deepcopy(module)
        with torch.no_grad():
            for name, p in made.named_parameters():
                p.copy_(self.apply(name, p))
        return made
