"""Runs of an LSTM module, lstmrep's or torch's: outputs and all gradients by name, and a pair held to a budget.

Numbers are drawn in float64 and representable in the precision under test, so every precision sees the same ones.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

import lstmrep
from lstmrep.testing import assert_within, budget
from lstmrep.testing.tolerance import ORDERS, Budget, one_thread

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
        order: 0 runs the module as it is; another number runs a copy with hidden units, input features and the rows
            of a padded batch shuffled and puts the results back, so that only the order of sums differs.
        gradients: also run backward.

    The loss weighs every output by a number of its own, a multiple of 1/8, which is the same in every precision.
    """
    rows = input.shape[0 if module.batch_first else 1] if isinstance(input, Tensor) and input.dim() == 3 else 0
    shuffle = _Shuffle(module, rows, order)
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


class Alone(lstmrep.LSTM):
    """Runs every sequence of a PackedSequence by itself and unbatched."""

    def forward(self, input, hx=None):
        states = [None if hx is None else (hx[0][:, b], hx[1][:, b]) for b in range(int(input.batch_sizes[0]))]
        made = [super(Alone, self).forward(x, s) for x, s in zip(unpack_sequence(input), states, strict=True)]
        output = pack_sequence([output for output, _ in made], enforce_sorted=input.sorted_indices is None)
        return output, tuple(torch.stack([state[k] for _, state in made], dim=1) for k in (0, 1))


def alone(module: lstmrep.LSTM) -> Alone:
    """A copy of the module that runs sequences one by one."""
    made = copy.deepcopy(module)
    made.__class__ = Alone
    return made


def module_budget(
    ours: lstmrep.LSTM,
    truth: nn.Module | None,
    input: Tensor | PackedSequence,
    hx: tuple[Tensor, Tensor] | None = None,
    *,
    gradients: bool = True,
) -> Budget:
    """The budget of all results of ``ours`` at its precision.

    What is allowed comes from the reference backend alone, its low precision against its own float64: were it held
    against ``truth``, a mistake in the module would be in the reference's run too and would allow itself.

    Args:
        ours: the module under test; its copy on the reference backend shows what error its precision costs.
        truth: runs in float64; default: the reference backend.
        input, hx: numbers that the precision of ``ours`` can hold.
        gradients: of the gradients too.
    """
    dtype = next(ours.parameters()).dtype

    def own_error(module: lstmrep.LSTM, first: int) -> Budget:
        return budget(
            lambda d, order: run(reference(module, d), input, hx, order=first + order, gradients=gradients), dtype
        )

    with one_thread():
        shown = [own_error(ours, 0), own_error(ours, ORDERS)]
        if isinstance(input, PackedSequence):
            # A packed batch has one order of rows; run one by one, they are summed in another.
            shown.append(own_error(alone(ours), 2 * ORDERS))
        exact = shown[0].truth
        if truth is not None:
            exact = run(copy.deepcopy(truth).double(), input, hx, gradients=gradients)
    return Budget(exact, {name: max(s.allowed[name] for s in shown) for name in exact})


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
    """Permutations of hidden units, projected outputs, input features and rows, along named tensors' dimensions."""

    def __init__(self, module: nn.Module, rows: int, order: int) -> None:
        self.identity = order == 0
        g = torch.Generator().manual_seed(order)
        out = module.proj_size or module.hidden_size
        self.orders = {"I": torch.randperm(module.input_size, generator=g)}
        self.orders["H"] = torch.randperm(module.hidden_size, generator=g)
        # P stands for the output's units, which are the hidden ones unless they are projected.
        self.orders["P"] = torch.randperm(out, generator=g) if module.proj_size else self.orders["H"]
        self.orders["G"] = torch.cat([self.orders["H"] + k * module.hidden_size for k in range(4)])
        self.rows = torch.randperm(rows, generator=g)
        self.batch_first = module.batch_first
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
        if len(self.rows) and name in ("input", "output", "h_0", "c_0", "h_n", "c_n"):
            dim = 0 if self.batch_first and name in ("input", "output") else 1
            t = t.index_select(dim, self.rows.argsort() if back else self.rows)
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
