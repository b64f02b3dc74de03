"""Models in a folder: ``config.json`` (the constructor's arguments) and ``model.safetensors`` (the state_dict).

Each file is written whole or not at all; nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from lstmrep.files import replacing, write_text
from lstmrep.optional import package

CONFIG, WEIGHTS = "config.json", "model.safetensors"
Model = TypeVar("Model", bound="Pretrained")


class Pretrained:
    """``save_pretrained`` and ``from_pretrained`` for a module whose ``config`` is a dataclass of its arguments."""

    config_class: ClassVar[type]
    config: Any

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``folder``, which is made.

        Raises:
            ImportError: the package safetensors is missing.
        """
        assert isinstance(self, nn.Module)
        folder = Path(folder)
        save_file = package("safetensors.torch", f"{_who(type(self))}.save_pretrained", "files").save_file
        tensors = {name: t.detach().contiguous() for name, t in self.state_dict().items()}
        with replacing(folder / WEIGHTS) as path:
            save_file(tensors, path, metadata={"format": "pt"})
        described = {"model": type(self).__name__, **dataclasses.asdict(self.config)}
        write_text(folder / CONFIG, json.dumps(described, indent=2) + "\n")

    @classmethod
    def from_pretrained(
        cls: type[Model], folder: str | Path, *, device: torch.device | str | None = None, **options: Any
    ) -> Model:
        """The model that ``save_pretrained`` wrote, in eval mode.

        Args:
            folder: where the two files are; a local path, nothing is downloaded.
            device: where its parameters go. Default: the CPU.
            options: arguments that replace the saved ones, such as ``backend="reference"``.

        Raises:
            FileNotFoundError, ValueError: a file is missing, truncated or of another model; the message names it.
        """
        folder, who = Path(folder), f"{_who(cls)}.from_pretrained"
        arguments = cls._read_config(folder / CONFIG, who)
        tensors = read_safetensors(folder / WEIGHTS, who)
        # Shapes are compared on the meta device: nothing is drawn or allocated for a file that does not fit.
        with torch.device("meta"):
            made = cls(**{**arguments, **options})
        assert isinstance(made, nn.Module)
        check_state(made, tensors, folder / WEIGHTS, who)
        made.load_state_dict(
            {name: t.to(device) if device is not None else t for name, t in tensors.items()}, assign=True
        )
        return made.eval()

    @classmethod
    def _read_config(cls, path: Path, who: str) -> dict[str, Any]:
        if not path.is_file():
            raise FileNotFoundError(f"{who}: no file {path}; pass a folder that save_pretrained wrote.")
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{who}: {path} is not JSON ({error}); it is truncated or another file.") from error
        if not isinstance(described, dict) or described.pop("model", None) != cls.__name__:
            raise ValueError(f"{who}: {path} does not describe a {cls.__name__}; load it with the class that wrote it.")
        known = {field.name for field in dataclasses.fields(cls.config_class)}
        unknown = sorted(set(described) - known)
        if unknown:
            raise ValueError(
                f"{who}: {path} has the unknown entry '{unknown[0]}'; a newer version may have written it."
            )
        return described


def read_safetensors(path: Path, who: str) -> dict[str, torch.Tensor]:
    """All tensors of a file.

    Raises:
        FileNotFoundError, ValueError: it is missing, truncated, or another kind of file.
    """
    module = package("safetensors.torch", who, "files")
    broken = package("safetensors", who, "files").SafetensorError
    if not path.is_file():
        raise FileNotFoundError(f"{who}: no file {path}.")
    try:
        tensors: dict[str, torch.Tensor] = module.load_file(path)
    except (broken, OSError) as error:
        raise ValueError(f"{who}: {path} cannot be read ({error}); it is truncated or another kind of file.") from error
    return tensors


def check_state(module: nn.Module, tensors: dict[str, torch.Tensor], path: Path, who: str) -> None:
    """Names and shapes of a file against a module's.

    Raises:
        ValueError: names the first tensor that is missing, too much, or of another shape.
    """
    expected = module.state_dict()
    for name, t in expected.items():
        if name not in tensors:
            raise ValueError(f"{who}: {path} has no tensor '{name}'; it is of another model.")
        if tensors[name].shape != t.shape:
            raise ValueError(
                f"{who}: tensor '{name}' in {path} has shape {tuple(tensors[name].shape)}, the model's has "
                f"{tuple(t.shape)}; build the model with the sizes of the file."
            )
    extra = sorted(set(tensors) - set(expected))
    if extra:
        raise ValueError(f"{who}: {path} has the tensor '{extra[0]}', which the model lacks; it is of another model.")


def _who(cls: type) -> str:
    return f"lstmrep.{cls.__name__}"
