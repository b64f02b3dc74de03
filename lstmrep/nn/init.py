"""How parameters start: U(-s, s), N(0, s), a constant, U(+-1/sqrt(fan-in)), or numbers from a file.

A scheme is a mapping from a role to an initializer; the roles are ``weight_ih``, ``weight_hh``, ``weight_hr``,
``peephole``, ``bias``, and ``head_weight`` and ``head_bias`` of the models' linear heads. ``bias`` may itself be a
mapping from a gate (``"i"``, ``"f"``, ``"g"``, ``"o"``) to a number, for a forget bias.  Where a layer has torch's two
bias vectors, the first takes the value and the second is zero, since only their sum acts.  A role that a scheme leaves
out keeps torch's default.

    >>> from lstmrep.nn import init
    >>> scheme = {"weight_hh": init.uniform(0.01), "peephole": init.constant(0.0), "bias": {"f": 5.0}}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lstmrep.optional import package

# Fills the tensor of the parameter with this name.
Initializer = Callable[[str, Tensor], None]
Scheme = Mapping[str, Initializer | Mapping[str, float]]

CALLER = "lstmrep.nn.init.from_file"
GATE_ORDER = "ifgo"
ROLES = ("weight_ih", "weight_hh", "weight_hr", "peephole", "bias", "head_weight", "head_bias")


def uniform(scale: float) -> Initializer:
    """U(-scale, scale)."""
    _positive("uniform", scale)
    return partial(_call, "uniform_", (-scale, scale))


def normal(scale: float) -> Initializer:
    """N(0, scale^2)."""
    _positive("normal", scale)
    return partial(_call, "normal_", (0.0, scale))


def constant(value: float) -> Initializer:
    """Every element is ``value``."""
    return partial(_call, "fill_", (value,))


def fan_in() -> Initializer:
    """U(-1/sqrt(n), 1/sqrt(n)) with n the columns of the matrix."""
    return _fill_fan_in


def from_file(path: str | Path, key: str | None = None) -> Initializer:
    """Numbers from a ``.npy``, ``.npz``, ``.safetensors`` or ``.h5`` file, bit for bit where dtypes agree.

    Args:
        path: the file. ``.safetensors`` and ``.h5`` need the packages of those names (``h5py`` for ``.h5``).
        key: entry to read; default: the parameter's own name. A ``.npy`` file has one entry.

    Raises:
        FileNotFoundError, KeyError, ValueError: the file, the entry or its shape is not what the parameter needs.
    """
    return partial(_fill_from_file, Path(path), key)


# Functions of the module, not closures: a module keeps its scheme, and must pickle.
def _call(method: str, arguments: tuple[float, ...], name: str, tensor: Tensor) -> None:
    getattr(tensor, method)(*arguments)


def _fill_fan_in(name: str, tensor: Tensor) -> None:
    bound = 1.0 / math.sqrt(tensor.shape[-1])
    tensor.uniform_(-bound, bound)


def _fill_from_file(path: Path, key: str | None, name: str, tensor: Tensor) -> None:
    values = _read(path, key or name)
    if tuple(values.shape) != tuple(tensor.shape):
        raise ValueError(
            f"lstmrep.nn.init.from_file: '{key or name}' in {path} has shape {tuple(values.shape)}, "
            f"parameter '{name}' needs {tuple(tensor.shape)}; transpose or choose another entry."
        )
    tensor.copy_(values)


def _read(path: Path, key: str) -> Tensor:
    if not path.is_file():
        raise FileNotFoundError(f"lstmrep.nn.init.from_file: no file {path}; check argument 'path'.")
    kind = path.suffix
    if kind == ".npy":
        return torch.from_numpy(np.load(path, allow_pickle=False))
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return torch.from_numpy(archive[_known(key, archive.files, path)])
    if kind == ".safetensors":
        with package("safetensors", CALLER, "files").safe_open(path, framework="pt") as archive:
            found: Tensor = archive.get_tensor(_known(key, archive.keys(), path))
        return found
    if kind in (".h5", ".hdf5"):
        with package("h5py", CALLER, "files").File(path, "r") as archive:
            return torch.from_numpy(np.asarray(archive[_known(key, archive.keys(), path)]))
    raise ValueError(
        f"lstmrep.nn.init.from_file: {path} has the suffix '{kind}', expected .npy, .npz, .safetensors or .h5."
    )


def _known(key: str, names: Iterable[str], path: Path) -> str:
    names = sorted(names)
    if key not in names:
        raise KeyError(f"lstmrep.nn.init.from_file: no entry '{key}' in {path}; pass key=, one of {names}.")
    return key


def initialize(module: nn.Module, scheme: Scheme | str | None, default_scale: float, prefix: str = "") -> None:
    """Fill every parameter of ``module`` by its role, in registration order.

    Args:
        module: a module whose parameters have the names of ``lstmrep.LSTM``, or of ``nn.Linear``.
        scheme: a mapping by role, a name (``"torch"``, ``"paper"``, ``"original"``), or none for ``"torch"``.
        default_scale: s of the default U(-s, s).
        prefix: put before the parameters' roles: ``"head_"`` for a linear head.
    """
    chosen = _chosen(scheme)
    default = uniform(default_scale)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            role = prefix + _role(name)
            how = chosen.get(role, default)
            if role == "bias" and role in chosen and "bias_hh" in name:
                parameter.zero_()
            elif isinstance(how, Mapping):
                _fill_gates(parameter, how)
            else:
                how(name, parameter)


def _chosen(scheme: Scheme | str | None) -> Scheme:
    if scheme is None:
        return {}
    if isinstance(scheme, str):
        if scheme not in NAMED:
            raise ValueError(f"lstmrep.nn.init: scheme {scheme!r} is not known; choose one of {', '.join(NAMED)}.")
        return NAMED[scheme]
    if not isinstance(scheme, Mapping):
        raise TypeError(
            f"lstmrep.nn.init: argument 'init' is a {type(scheme).__name__}, expected a mapping by role or a name."
        )
    unknown = [role for role in scheme if role not in ROLES]
    if unknown:
        raise ValueError(f"lstmrep.nn.init: role {unknown[0]!r} is not known; roles are {', '.join(ROLES)}.")
    for role, how in scheme.items():
        if not callable(how) and not (role == "bias" and isinstance(how, Mapping)):
            raise TypeError(
                f"lstmrep.nn.init: role {role!r} is given a {type(how).__name__}, expected an initializer such as "
                "uniform(0.1), or for 'bias' a mapping by gate."
            )
    gates = scheme.get("bias")
    if isinstance(gates, Mapping) and any(gate not in GATE_ORDER for gate in gates):
        raise ValueError(f"lstmrep.nn.init: bias gates are {list(gates)}, expected some of i, f, g, o.")
    return scheme


def _role(name: str) -> str:
    last = name.rsplit(".", 1)[-1]
    if last.startswith("bias"):
        return "bias"
    if last.startswith(("weight_pi", "weight_pf", "weight_po")):
        return "peephole"
    return last[: len("weight_ih")]


def _fill_gates(bias: Tensor, values: Mapping[str, float]) -> None:
    bias.zero_()
    for gate, part in zip(GATE_ORDER, bias.chunk(4), strict=True):
        part.fill_(values.get(gate, 0.0))


def _positive(name: str, scale: float) -> None:
    if not scale >= 0 or math.isinf(scale):
        raise ValueError(
            f"lstmrep.nn.init.{name}: argument 'scale' is {scale!r}, expected a finite number of 0 or more."
        )


# "paper": section 3.1's weights by fan-in, gate biases and peepholes zero.
# "original": the ranges in the released configuration files of the MNIST composite model.
NAMED: dict[str, Scheme] = {
    "torch": {},
    "paper": {
        "weight_ih": fan_in(),
        "weight_hh": fan_in(),
        "weight_hr": fan_in(),
        "peephole": constant(0.0),
        "bias": constant(0.0),
        "head_weight": fan_in(),
        "head_bias": constant(0.0),
    },
    "original": {
        "weight_ih": uniform(0.01),
        "weight_hh": uniform(0.01),
        "peephole": uniform(0.1),
        "bias": constant(0.0),
        "head_weight": uniform(0.01),
        "head_bias": constant(0.0),
    },
}
