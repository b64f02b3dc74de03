"""What a training run is told: model, data, optimizer and loop, from TOML, overrides or Python. Builds nothing.

>>> from lstmrep.train.config import Config, TrainConfig
>>> Config(train=TrainConfig(max_iters=50)).train.max_iters
50
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lstmrep.files import write_text
from lstmrep.optional import package
from lstmrep.train import toml
from lstmrep.train.settings import WHO, check_section, make_section, nearest, setting

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd", "velocity_sgd", "velocity_rmsprop")
SCHEDULES = ("constant", "step", "onecycle", "cosine")


@dataclass(frozen=True)
class OptimizerConfig:
    """Section ``optimizer``. Fields, defaults and ranges are in the table of docs/configuration.md."""

    name: str = setting("adam", "the update rule; velocity_* are the released code's", choices=OPTIMIZERS)
    lr: float = setting(1e-3, "learning rate at its height", low=0.0)
    momentum: float = setting(0.9, "of sgd, rmsprop and velocity_*", low=0.0, below=1.0)
    weight_decay: float = setting(0.0, "on weights and peepholes, never on biases", low=0.0)
    beta1: float = setting(0.9, "of adam, adamw", low=0.0, below=1.0)
    beta2: float = setting(0.999, "of adam, adamw", low=0.0, below=1.0)
    eps: float = setting(1e-8, "of adam, adamw, rmsprop", low=0.0)
    rms_decay: float = setting(0.95, "of rmsprop, velocity_rmsprop: share of the old mean square", low=0.0, below=1.0)
    velocity_clip: float = setting(0.0, "velocity_*: no weight moves further in one step; 0 is off", low=0.0)
    gradient_scale: float = setting(
        1.0, "velocity_*: factor on the gradient; batch times frames is the released code's", above=0.0
    )
    schedule: str = setting("constant", "course of the learning rate", choices=SCHEDULES)
    schedule_steps: int = setting(0, "onecycle, cosine: their length; 0 is train.max_iters", low=0)
    decay_factor: float = setting(0.9, "step: the rate is multiplied by this", above=0.0)
    decay_after: int = setting(10000, "step: every so many steps", low=1)
    inert: bool = setting(False, "step: compute the decay and ignore it, as the released code does")

    def __post_init__(self) -> None:
        check_section("optimizer", self)


@dataclass(frozen=True)
class TrainConfig:
    """Section ``train``. Fields, defaults and ranges are in the table of docs/configuration.md."""

    max_iters: int = setting(10000, "updates in all, those before a resume counted", low=0)
    batch_size: int = setting(64, "sequences of an update, over all processes together", low=1)
    seed: int = setting(42, "of the order of the data and of everything drawn in a step", low=0)
    print_every: int = setting(100, "updates between two records of the training loss", low=1)
    validate_every: int = setting(500, "updates between two validations; 0 is never", low=0)
    save_every: int = setting(500, "updates between two checkpoints; 0 is at the end only", low=0)
    validation_batches: int = setting(0, "batches of a validation; 0 is the whole set", low=0)
    patience: int = setting(0, "stop after so many validations without a better one; 0 is off", low=0)
    monitor: str = setting("loss", "what makes a validation the best", choices=("loss", "accuracy"))
    amp: str = setting("none", "precision of torch.autocast", choices=("none", "bfloat16", "float16"))
    device: str = setting("auto", "auto (CUDA where there is one), cpu, cuda, cuda:1, ...")
    workers: int = setting(0, "processes that prepare batches; 0 is none", low=0)
    prefetch: int = setting(2, "batches each of them prepares ahead", low=1)
    clip_norm: float = setting(0.0, "largest norm of the whole gradient; 0 is off", low=0.0)
    clip_value: float = setting(0.0, "largest value of an element of the gradient; 0 is off", low=0.0)
    teacher_start: float = setting(1.0, "probability of the true frame at the first step", low=0.0, high=1.0)
    teacher_end: float = setting(0.0, "and from step teacher_steps on", low=0.0, high=1.0)
    teacher_steps: int = setting(0, "length of the line between the two; 0 leaves the model's own", low=0)
    tensorboard: bool = setting(False, "write TensorBoard events")
    keep_checkpoints: int = setting(3, "newest checkpoints kept; 0 is all", low=0)
    deterministic: bool = setting(False, "torch.use_deterministic_algorithms during the run")

    def __post_init__(self) -> None:
        check_section("train", self)


@dataclass(frozen=True)
class Config:
    """A whole run.

    Args:
        model: arguments of the model; checked by whoever builds it.
        data: arguments of the data; checked by whoever builds it.
        optimizer: an :class:`OptimizerConfig`.
        train: a :class:`TrainConfig`.

    Raises:
        TypeError, ValueError: a section or a setting is not what it must be; one sentence names it.
    """

    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name, kind in (("model", dict), ("data", dict), ("optimizer", OptimizerConfig), ("train", TrainConfig)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{WHO}: section '{name}' is a {type(value).__name__}, expected a {kind.__name__}.")

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The sections as plain tables."""
        return dataclasses.asdict(self)

    def to_toml(self) -> str:
        """Every setting, also those left at their default, as TOML that ``load`` reads back to an equal config."""
        return toml.dumps(self.to_dict())

    def save(self, path: str | Path) -> None:
        """Write ``to_toml()`` to ``path``, whole or not at all."""
        write_text(path, self.to_toml())


def from_dict(tables: Mapping[str, Any]) -> Config:
    """A config from plain tables; sections left out have their defaults.

    Raises:
        TypeError, ValueError: a section or a setting is not known, or a value does not fit.
    """
    known = [f.name for f in dataclasses.fields(Config)]
    for name, table in tables.items():
        if name not in known:
            raise ValueError(f"{WHO}: section '{name}' is not known; {nearest(name, known)}.")
        if not isinstance(table, Mapping):
            raise TypeError(f"{WHO}: section '{name}' is {table!r}, expected a table of settings.")
    return Config(
        model=dict(tables.get("model", {})),
        data=dict(tables.get("data", {})),
        optimizer=make_section("optimizer", OptimizerConfig, tables.get("optimizer", {})),
        train=make_section("train", TrainConfig, tables.get("train", {})),
    )


def load(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a config file and change single settings of it.

    Args:
        path: a ``.toml`` file with the sections ``[model]``, ``[data]``, ``[optimizer]``, ``[train]``, or a ``.pbtxt``
            of the released code; none: all defaults.
        overrides: ``"section.setting=value"``; the value is read as TOML, and a plain word is a text.

    Returns:
        The config with every setting resolved.

    Raises:
        FileNotFoundError: no such file.
        TypeError, ValueError: the file is not TOML, or a section, a setting or a value is not what it must be.
    """
    return with_overrides({} if path is None else _read(Path(path)), overrides)


def with_overrides(tables: Mapping[str, Any], overrides: Iterable[str] = ()) -> Config:
    """A config from plain tables with single settings changed; arguments and errors as in ``load``."""
    copied = {name: dict(t) if isinstance(t, Mapping) else t for name, t in tables.items()}
    for override in overrides:
        _override(copied, override)
    return from_dict(copied)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"lstmrep.train.load: no file {path}; check argument 'path'.")
    if path.suffix == ".pbtxt":
        read: Config = importlib.import_module("lstmrep.train.pbtxt").load(path)
        return read.to_dict()
    parser = toml_parser()
    try:
        return parser.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except (parser.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"lstmrep.train.load: {path} is not a TOML file: {reason}.") from error


def toml_parser() -> Any:
    """``tomllib``, or ``tomli`` where Python has none yet."""
    return package("tomllib" if sys.version_info >= (3, 11) else "tomli", "lstmrep.train.load", "train")


def _override(tables: dict[str, Any], text: str) -> None:
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise ValueError(f"lstmrep.train.load: override {text!r} is not of the form section.setting=value.")
    table = tables.setdefault(section, {})
    if not isinstance(table, dict):
        raise TypeError(f"{WHO}: section '{section}' is {table!r}, expected a table of settings.")
    table[key] = _value(value.strip())


def _value(text: str) -> Any:
    parser = toml_parser()
    try:
        read = parser.loads(f"value = {text}")
    except parser.TOMLDecodeError:
        return text
    return read["value"] if len(read) == 1 else text
