"""Checkpoints: one safetensors file each, with everything a run needs to go on. Nothing is pickled.

Tensors are named ``model.<name>`` and ``optimizer.<parameter>.<entry>``; the rest is JSON in the file's header, with a
checksum of every tensor. One file, renamed into place when whole, cannot come apart: whenever the writer is stopped,
the folder holds checkpoints that are complete. Which of them a run keeps is :class:`Folder`'s matter.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstmrep.files import replacing
from lstmrep.optional import package

FORMAT = "lstmrep-checkpoint-1"
BEST = "best.safetensors"
_STEP = re.compile(r"step-(\d+)\.safetensors")
# Ours, and the one that safetensors writes before it renames it to ours.
_TEMPORARY = re.compile(r"\.(step-\d+|best)\..+\.safetensors|\.tmp\w+")


class CheckpointError(ValueError):
    """A checkpoint cannot be used: truncated, damaged, not a checkpoint, or of another model. One sentence says why."""


@dataclass
class Checkpoint:
    """What a file holds: the tensors by name, and ``state``, plain values by name."""

    tensors: dict[str, Tensor]
    state: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names start with ``name.``, without it."""
        return {key[len(name) + 1 :]: t for key, t in self.tensors.items() if key.startswith(f"{name}.")}


def write(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: a ``.safetensors`` file.
        checkpoint: tensors on any device, and a state that JSON can hold.

    Raises:
        ImportError: the package safetensors is missing.
    """
    save_file = package("safetensors.torch", "lstmrep.train.checkpoint", "train").save_file
    tensors: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in checkpoint.tensors.items():
        tensor = tensor.detach().to("cpu").contiguous()
        # Tied parameters are one memory under two names, which the format does not have.
        held = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if held in memory else tensor
        memory.add(held)
    sums = {name: _checksum(tensors[name]) for name in sorted(tensors)}
    # One entry, since the format does not order several: the same checkpoint is the same bytes.
    header = {FORMAT: json.dumps({"state": checkpoint.state, "checksums": sums})}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def read(path: str | Path, part: str = "") -> Checkpoint:
    """Read a checkpoint and check every tensor read against its checksum.

    Args:
        path: the file.
        part: ``"model"`` reads the model's tensors alone; default: all.

    Returns:
        The checkpoint, its tensors on the CPU.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: it is truncated, damaged or not a checkpoint.
        ImportError: the package safetensors is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"lstmrep.train.checkpoint: no file {path}; check the path.")
    safetensors = package("safetensors", "lstmrep.train.checkpoint", "train")
    tensors: dict[str, Tensor] = {}
    try:
        with safetensors.safe_open(path, framework="pt") as archive:
            header = archive.metadata() or {}
            if FORMAT not in header:
                raise CheckpointError(
                    f"lstmrep.train.checkpoint: {path} is a safetensors file, but no training checkpoint of this "
                    "library; give a file that a training run wrote."
                )
            told = json.loads(header[FORMAT])
            state, sums = told["state"], told["checksums"]
            for name in archive.keys():  # noqa: SIM118
                if name.startswith(part):
                    tensors[name] = archive.get_tensor(name)
    except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise CheckpointError(
            f"lstmrep.train.checkpoint: {path} cannot be read, it is truncated or no checkpoint ({reason})."
        ) from error
    for name, tensor in tensors.items():
        if _checksum(tensor) != sums.get(name):
            raise CheckpointError(
                f"lstmrep.train.checkpoint: {path} is damaged: tensor '{name}' does not match its checksum."
            )
    return Checkpoint(tensors, state, path)


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else 0


def take(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint: the model's state_dict and the optimizer's state by parameter name."""
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    if optimizer is not None:
        for name, parameter in model.named_parameters():
            for entry, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{entry}"] = torch.as_tensor(value)
    return tensors


def give(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Put a checkpoint's tensors into a model and its optimizer; the optimizer's settings stay as they are.

    Args:
        checkpoint: as ``read`` gives it.
        model: of the same parameters.
        optimizer: over parameters of ``model``.

    Raises:
        CheckpointError: a tensor is missing, of another shape, or not known; nothing has been changed then.
    """
    _fit(checkpoint, "model", checkpoint.part("model"), model.state_dict())
    loaded = _optimizer_state(checkpoint, model, optimizer) if optimizer is not None else None
    model.load_state_dict(checkpoint.part("model"))
    if optimizer is not None and loaded is not None:
        optimizer.load_state_dict(loaded)


def _fit(checkpoint: Checkpoint, part: str, given: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> None:
    where = f"lstmrep.train.checkpoint: {checkpoint.path or 'the checkpoint'}"
    for name, tensor in needed.items():
        if name not in given:
            raise CheckpointError(f"{where} has no tensor '{part}.{name}', which this model has; it is of another.")
        if given[name].shape != tensor.shape:
            raise CheckpointError(
                f"{where}: tensor '{part}.{name}' has shape {tuple(given[name].shape)}, this model needs "
                f"{tuple(tensor.shape)}."
            )
    for name in given:
        if name not in needed:
            raise CheckpointError(f"{where} has a tensor '{part}.{name}', which this model has not; it is of another.")


def _optimizer_state(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The argument of ``load_state_dict``: torch numbers the parameters in the order of the groups."""
    where = f"lstmrep.train.checkpoint: {checkpoint.path or 'the checkpoint'}"
    described = optimizer.state_dict()
    names = {parameter: name for name, parameter in model.named_parameters()}
    number = {}
    for group, numbered in zip(optimizer.param_groups, described["param_groups"], strict=True):
        for parameter, index in zip(group["params"], numbered["params"], strict=True):
            number[names[parameter]] = (index, parameter)
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in checkpoint.part("optimizer").items():
        name, _, entry = key.rpartition(".")
        if name not in number:
            raise CheckpointError(f"{where} has a tensor 'optimizer.{key}' of a parameter that is not trained here.")
        index, parameter = number[name]
        if tensor.ndim and tensor.shape != parameter.shape:
            raise CheckpointError(
                f"{where}: tensor 'optimizer.{key}' has shape {tuple(tensor.shape)}, its parameter "
                f"{tuple(parameter.shape)}."
            )
        state.setdefault(index, {})[entry] = tensor
    return {"state": state, "param_groups": described["param_groups"]}


class Folder:
    """The checkpoints of a run: ``step-<number>.safetensors``, the newest few, and ``best.safetensors``.

    Args:
        path: made when the first checkpoint is written.
        keep: newest to keep; 0 keeps all.
    """

    def __init__(self, path: str | Path, keep: int = 0) -> None:
        self.path, self.keep = Path(path), keep

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, the newest last."""
        found = (_STEP.fullmatch(p.name) for p in self.path.glob("step-*.safetensors"))
        return sorted(int(match[1]) for match in found if match)

    def file(self, step: int) -> Path:
        """Where the checkpoint of this step is."""
        return self.path / f"step-{step:08d}.safetensors"

    @property
    def best(self) -> Path:
        """Where the weights of the best validation are; they have no optimizer with them."""
        return self.path / BEST

    def save(self, step: int, checkpoint: Checkpoint) -> Path:
        """Write the checkpoint of a step, then remove those beyond the newest ``keep``."""
        path = self.file(step)
        write(path, checkpoint)
        if self.keep:
            for old in [s for s in self.steps() if s <= step][: -self.keep]:
                self.file(old).unlink(missing_ok=True)
        return path

    def newest(self, say: Callable[[str], None] = print) -> Checkpoint | None:
        """The newest checkpoint that can be used, or none where there is none at all.

        Args:
            say: told about each one that had to be passed over.

        Raises:
            CheckpointError: there are some, but none that can be used.
        """
        error = None
        for step in reversed(self.steps()):
            try:
                return read(self.file(step))
            except CheckpointError as unusable:
                say(f"{unusable} The one before it is tried.")
                error = unusable
        if error is not None:
            raise CheckpointError(f"lstmrep.train.checkpoint: no checkpoint in {self.path} can be used.") from error
        return None

    def drop_after(self, step: int) -> None:
        """Remove checkpoints of later steps: a run that goes on from ``step`` writes them again."""
        for later in self.steps():
            if later > step:
                self.file(later).unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what a writer that was killed left half written."""
        for path in self.path.glob(".*"):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)


def load_weights(model: nn.Module, path: str | Path, which: str = "best") -> Checkpoint:
    """Put the weights of a run into a model, as for evaluation.

    Args:
        model: of the same parameters.
        path: a checkpoint file, or the folder that a run was given as ``out``.
        which: in a folder: ``"best"``, the best validation's, or the last where nothing was validated; ``"last"``.

    Returns:
        The checkpoint; ``state`` has its ``step`` and the ``config`` of the run.

    Raises:
        FileNotFoundError: nothing is there.
        CheckpointError: it cannot be used for this model.
        ValueError: ``which`` is another word.
    """
    path = Path(path)
    if which not in ("best", "last"):
        raise ValueError(f"lstmrep.train.load_weights: argument 'which' is {which!r}; choose one of best, last.")
    if path.is_dir():
        folder = Folder(path / "checkpoints")
        if which == "best" and folder.best.is_file():
            path = folder.best
        elif folder.steps():
            path = folder.file(folder.steps()[-1])
        else:
            raise FileNotFoundError(f"lstmrep.train.load_weights: no checkpoint in {folder.path}; check the path.")
    checkpoint = read(path, "model.")
    give(checkpoint, model)
    return checkpoint
