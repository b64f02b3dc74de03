"""Weights that the paper's own code wrote (``.h5``), renamed and reshaped for the models here. Nothing is computed.

A file has entries ``<layer>:<part>``: ``w_input`` [4H, D], ``w_dense`` [4H, H], ``b`` and peepholes ``w_diag`` of every
layer, ``w_output`` [D, H] and ``b_output`` of layers that make frames.  Its gates i, f, a, o are i, f, g, o here, its
peepholes come in the order i, f, o.  The released code keeps vectors as rows (``w_diag`` [1, 3H], ``b`` [1, 4H]), its
authors' earlier code as columns (``w_diag`` [H, 3], ``b`` [4H, 1]).  Which is which shows in the shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmrep.optional import package

WHO = "lstmrep.nn.original"
PARTS = ("w_input", "w_dense", "w_diag", "b", "w_output", "b_output")
PEEPHOLES = ("weight_pi", "weight_pf", "weight_po")
# What a layer's name says of the stack it is in.
ROLES = {"enc": "encoder", "dec": "reconstruction", "fut": "future"}
STACKS = {"encoder": "encoder", "reconstruction": "reconstruction.lstm", "future": "future.lstm", "classifier": "lstm"}
HEADS = {"reconstruction": "reconstruction.head", "future": "future.head", "classifier": "head"}

Arrays = dict[str, NDArray[Any]]
Layers = Mapping[str, Sequence[str]]


def read_original(path: str | Path) -> Arrays:
    """The weights in a file, as they lie there.

    Args:
        path: an ``.h5`` file of the released code, or of its authors' earlier code.

    Returns:
        Arrays by ``"<layer>:<part>"``. Velocities (``_grad``) and running means (``_rms_prop``) are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is truncated, not HDF5, or has no such entries.
        ImportError: the package h5py is missing.
    """
    path = Path(path)
    h5py = package("h5py", f"{WHO}.read_original", "files")
    if not path.is_file():
        raise FileNotFoundError(f"{WHO}: no file {path}; check argument 'path'.")
    found: Arrays = {}
    try:
        with h5py.File(path, "r") as file:
            for name in file:
                layer, colon, part = name.rpartition(":")
                if layer and colon and part in PARTS:
                    found[name] = _floats(path, name, file[name])
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{WHO}: {path} cannot be read ({_first_line(error)}); it is truncated or no HDF5 file."
        ) from error
    if not found:
        raise ValueError(
            f"{WHO}: {path} has no entry such as 'lstm_1_enc:w_dense'; it is not a file of the original code."
        )
    return found


def state_dict_from_original(path: str | Path, layers: Layers | None = None) -> dict[str, Tensor]:
    """The weights in a file as a state_dict.

    A decoder gets ``weight_ih_l0`` where the file has its ``w_input``. The original also keeps that matrix for an
    unconditional decoder whose configuration asks for it, and never uses it: then leave it out.

    Args:
        path: an ``.h5`` file as for :func:`read_original`.
        layers: names in the file by stack, from the bottom up: ``{"encoder": [...], "reconstruction": [...],
            "future": [...]}``, each as far as it is wanted, or ``{"classifier": [...]}``. Default: a name with "enc" is
            of the encoder, "dec" of the reconstruction, "fut" of the future, ordered by the number in it; where no
            name has any of these, all are the classifier's.

    Returns:
        For ``lstmrep.CompositeModel.load_state_dict``, or for the classifier's: tensors on the CPU, in the file's dtype
        (float32 in files of the original).

    Raises:
        FileNotFoundError, ValueError, ImportError: as :func:`read_original`, or an entry is missing, too much or of a
            shape that does not fit the others; the message names it.

    Source: layouts of the released code and of the earlier one.
    """
    entries = read_original(path)
    chosen = _discovered(path, entries) if layers is None else _checked(path, entries, layers)
    state: dict[str, Tensor] = {}
    sizes: dict[str, int] = {}
    # The encoder first: it says the size of a frame.
    for stack in sorted(chosen, key=list(STACKS).index):
        _add_stack(state, _Part(path, entries, stack), chosen[stack], sizes)
    return state


def arguments_from_original(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of a model that a state_dict tells.

    Args:
        state: what :func:`state_dict_from_original` returned.

    Returns:
        ``input_size``, ``hidden_size``, ``num_layers``, and for a composite model ``conditional_reconstruction``,
        ``conditional_future``, with ``reconstruct=0`` or ``predict=0`` for a decoder that is not there; for a
        classifier ``num_classes``. Lengths, output, cell and hand-over are not in the weights.
    """
    classifier = not any(name.startswith(tuple(ROLES.values())) for name in state)
    first = "lstm" if classifier else "encoder" if "encoder.weight_hh_l0" in state else None
    if first is None:
        raise ValueError(f"{WHO}: argument 'state' has no encoder; the size of a frame is not known without it.")
    hidden, inputs = (state[f"{first}.weight_{which}_l0"].shape[1] for which in ("hh", "ih"))
    layers = sum(name.startswith(f"{first}.weight_hh_l") for name in state)
    found: dict[str, Any] = {"input_size": inputs, "hidden_size": hidden, "num_layers": layers}
    if classifier:
        return {**found, "num_classes": state["head.weight"].shape[0]}
    for stack, steps in (("reconstruction", "reconstruct"), ("future", "predict")):
        found[f"conditional_{stack}"] = f"{stack}.lstm.weight_ih_l0" in state
        if f"{stack}.head.weight" not in state:
            found[steps] = 0
    return found


class _Part:
    """The entries of one stack."""

    def __init__(self, path: str | Path, entries: Arrays, stack: str) -> None:
        self.path, self.entries, self.stack = path, entries, stack

    def has(self, layer: str, part: str) -> bool:
        return f"{layer}:{part}" in self.entries

    def take(self, layer: str, part: str, *shapes: tuple[int, ...]) -> NDArray[Any]:
        """An entry of one of some shapes."""
        name = f"{layer}:{part}"
        if name not in self.entries:
            _fail(self.path, f"has no entry '{name}', which a layer of the {self.stack} needs")
        found = self.entries[name]
        if found.shape not in shapes:
            expected = " or ".join(str(list(s)) for s in shapes)
            _fail(self.path, f"has the entry '{name}' of shape {list(found.shape)}, expected {expected}")
        return found

    def vector(self, layer: str, part: str, size: int) -> NDArray[Any]:
        """A vector kept as a row, a column or itself."""
        return self.take(layer, part, (1, size), (size, 1), (size,)).reshape(size)


def _add_stack(state: dict[str, Tensor], part: _Part, names: Sequence[str], sizes: dict[str, int]) -> None:
    stack, prefix = part.stack, STACKS[part.stack]
    if sizes.setdefault("layers", len(names)) != len(names):
        _fail(part.path, f"has {len(names)} layers for the {stack} and {sizes['layers']} for others, expected as many")
    for k, name in enumerate(names):
        hidden = _hidden(part, name)
        if sizes.setdefault("hidden", hidden) != hidden:
            _fail(part.path, f"has {hidden} units in layer '{name}' and {sizes['hidden']} in others, expected one size")
        reads = part.has(name, "w_input")
        inputs = hidden if k else 0
        if reads and not k:
            inputs = sizes.setdefault("frame", part.entries[f"{name}:w_input"].shape[-1])
        if reads or k or stack in ("encoder", "classifier"):
            state[f"{prefix}.weight_ih_l{k}"] = _tensor(part.take(name, "w_input", (4 * hidden, inputs)))
        state[f"{prefix}.weight_hh_l{k}"] = _tensor(part.take(name, "w_dense", (4 * hidden, hidden)))
        state[f"{prefix}.bias_l{k}"] = _tensor(part.vector(name, "b", 4 * hidden))
        # With one unit both layouts are [1, 3], and the same numbers.
        diagonal = part.take(name, "w_diag", (1, 3 * hidden), (hidden, 3), (3 * hidden,))
        rows = diagonal.T if diagonal.shape == (hidden, 3) else diagonal.reshape(3, hidden)
        state |= {f"{prefix}.{role}_l{k}": _tensor(row) for role, row in zip(PEEPHOLES, rows, strict=True)}
        if stack in HEADS and name == names[-1]:
            _add_head(state, part, name, sizes)
        elif part.has(name, "w_output"):
            _fail(part.path, f"has the entry '{name}:w_output', where only a decoder's last layer makes frames")


def _add_head(state: dict[str, Tensor], part: _Part, name: str, sizes: dict[str, int]) -> None:
    made = part.entries[f"{name}:w_output"].shape[0] if part.has(name, "w_output") else 0
    values = made if part.stack == "classifier" else sizes.setdefault("frame", made)
    state[f"{HEADS[part.stack]}.weight"] = _tensor(part.take(name, "w_output", (values, sizes["hidden"])))
    state[f"{HEADS[part.stack]}.bias"] = _tensor(part.vector(name, "b_output", values))


def _hidden(part: _Part, name: str) -> int:
    if not part.has(name, "w_dense"):
        part.take(name, "w_dense")
    shape = part.entries[f"{name}:w_dense"].shape
    if len(shape) != 2 or shape[0] != 4 * shape[1] or not shape[1]:
        _fail(part.path, f"has the entry '{name}:w_dense' of shape {list(shape)}, expected [4H, H]")
    return int(shape[1])


def _discovered(path: str | Path, entries: Arrays) -> dict[str, list[str]]:
    """Stacks by what their layers are called, each from the bottom up."""
    names = sorted({name.rpartition(":")[0] for name in entries})
    by_stack: dict[str, list[str]] = {}
    for name in names:
        # Where several are in a name, as in "sequence_1_dec", the last one says it.
        places = {name.lower().rfind(mark): stack for mark, stack in ROLES.items() if mark in name.lower()}
        by_stack.setdefault(places[max(places)] if places else "classifier", []).append(name)
    if "classifier" in by_stack and len(by_stack) > 1:
        _fail(
            path,
            f"has the layer '{by_stack['classifier'][0]}', whose name has none of {', '.join(ROLES)}; pass argument "
            "'layers'",
        )
    for stack, members in by_stack.items():
        numbers = [int((re.findall(r"\d+", name) or ["0"])[0]) for name in members]
        if len(set(numbers)) < len(numbers):
            _fail(path, f"has the layers {', '.join(members)} for the {stack}, whose order is not clear; pass 'layers'")
        by_stack[stack] = [name for _, name in sorted(zip(numbers, members, strict=True))]
    return by_stack


def _checked(path: str | Path, entries: Arrays, layers: Layers) -> dict[str, list[str]]:
    known = {name.rpartition(":")[0] for name in entries}
    for stack, names in layers.items():
        if stack not in STACKS or isinstance(names, str) or not names:
            raise ValueError(
                f"{WHO}: argument 'layers' has {stack!r}: {names!r}, expected some of {', '.join(STACKS)}, each with "
                "the list of its layers' names."
            )
        for name in names:
            if name not in known:
                _fail(path, f"has no layer '{name}', only {', '.join(sorted(known))}")
    if not layers or ("classifier" in layers and len(layers) > 1):
        raise ValueError(
            f"{WHO}: argument 'layers' names {', '.join(layers) or 'nothing'}, expected the stacks of one model."
        )
    return {stack: list(names) for stack, names in layers.items()}


def _floats(path: Path, name: str, entry: Any) -> NDArray[Any]:
    dtype = getattr(entry, "dtype", None)
    if dtype is None or dtype.kind != "f" or dtype.itemsize > 8 or entry.ndim not in (1, 2):
        _fail(path, f"has the entry '{name}' of another kind ({entry!r}), expected a matrix or vector of floats")
    return np.asarray(entry)


def _tensor(values: NDArray[Any]) -> Tensor:
    # A copy in memory order, and in the machine's byte order, which torch asks for.
    return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("="), order="C"))


def _first_line(error: Exception) -> str:
    return str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__


def _fail(path: str | Path, what: str) -> NoReturn:
    raise ValueError(f"{WHO}: {path} {what}.")
