"""Trained models that come with the library: small, with all that is needed to train them again, checked when loaded.

>>> from lstmrep import zoo
>>> zoo.names()
('toy-glyphs',)
>>> model = zoo.load("toy-glyphs")
>>> tuple(model.predict(torch.rand(1, 8, 1, 12, 12), steps=20).shape)
(1, 20, 1, 12, 12)
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from lstmrep.nn import CompositeModel

CALLER = "lstmrep.zoo"
MANIFEST = "manifest.json"

__all__ = ["folder", "load", "manifest", "names"]


def names() -> tuple[str, ...]:
    """The models that there are."""
    root = _root()
    return tuple(sorted(p.name for p in root.iterdir() if (p / MANIFEST).is_file()))


def folder(name: str) -> Path:
    """Where a model's files are: ``config.json`` and ``model.safetensors`` as ``from_pretrained`` reads them, the
    training's ``config.toml`` and ``manifest.json``. ``python -m lstmrep eval`` takes it for a run's folder.

    Args:
        name: one of :func:`names`.

    Raises:
        ValueError: there is no such model.
    """
    if name not in names():
        raise ValueError(f"{CALLER}: argument 'name' is {name!r}, expected one of {', '.join(names())}.")
    return _root() / name


def manifest(name: str) -> dict[str, Any]:
    """What is known of a model.

    Args:
        name: one of :func:`names`.

    Returns:
        ``files``: their SHA-256; ``training``: command, seeds, steps, versions; ``evaluation``: split, clips, the
        data's description, the recorded cross-entropy of both heads, free-running, in nats a frame, its course over
        the frames, and that of the mean frame.

    Raises:
        ValueError: there is no such model.
    """
    found: dict[str, Any] = json.loads((folder(name) / MANIFEST).read_text(encoding="utf-8"))
    return found


def load(name: str, *, device: torch.device | str | None = None, **options: Any) -> CompositeModel:
    """A trained model, in eval mode, after its files were checked against the manifest.

    Args:
        name: one of :func:`names`.
        device: where its parameters go. Default: the CPU.
        options: arguments that replace the saved ones, as for ``CompositeModel.from_pretrained``.

    Returns:
        The model.

    Raises:
        ValueError: there is no such model, or one of its files is not the one that was recorded.
        FileNotFoundError: one of its files is missing.
        ImportError: the package safetensors is missing.
    """
    where = folder(name)
    for file, expected in manifest(name)["files"].items():
        path = where / file
        if not path.is_file():
            raise FileNotFoundError(f"{CALLER}.load: no file {path}; install lstmrep again.")
        found = sha256(path)
        if found != expected:
            raise ValueError(
                f"{CALLER}.load: {path} has the SHA-256 {found}, expected {expected}; it is damaged or another file, "
                "install lstmrep again."
            )
    return CompositeModel.from_pretrained(where, device=device, **options)


def sha256(path: Path) -> str:
    """Of a small file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _root() -> Path:
    # A package on the disk: a file of weights is mapped, not read out of an archive.
    return Path(str(resources.files(CALLER)))
