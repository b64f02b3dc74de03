"""The trainer: a model, data and a config in, a trained model, a curve and checkpoints out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lstmrep.train.batches import Batches
from lstmrep.train.config import Config
from lstmrep.train.distributed import joined
from lstmrep.train.history import Record
from lstmrep.train.loop import Loop
from lstmrep.train.signals import StopSignals
from lstmrep.train.update import TEACHER


@dataclass(frozen=True)
class Result:
    """What a run came to.

    ``step``: updates done in all. ``history``: records by step, with ``loss`` and its parts as means since the record
    before, ``valid_*`` free-running and ``teacher_*`` teacher-forced where there was a validation. ``stopped``:
    ``"finished"``, ``"patience"`` or ``"interrupted"``. ``best``: the best validation's monitored value and
    ``best_step`` its step, or none and 0.
    """

    step: int
    history: list[Record]
    stopped: str
    best: float | None = None
    best_step: int = 0


class Trainer:
    """Trains a module on a dataset of sequences.

    The module is called ``model(frames)``, or ``model(frames, labels)`` where the dataset gives pairs, and returns
    something with a scalar ``loss``. Started by torchrun, the processes share each batch and average their gradients.

    Args:
        model: any module; in training mode its parameters are changed in place. It ends on the config's device.
        data: a dataset: ``data[i]``, ``len(data)``; ``data.batch(indices)`` is used where there is one, and with
            ``data.infinite`` every index from 0 on is a sequence of its own.
        config: a :class:`lstmrep.train.Config`; default: all defaults.
        valid: a dataset for validation, or none.
        out: folder for ``config.toml``, ``history.jsonl``, ``checkpoints/`` and ``tensorboard/``; none writes nothing.
        progress: print lines, and a bar where standard error is a terminal.

    Raises:
        TypeError: an argument is of another kind; the message names it.

    Example:
        >>> from lstmrep.train import Config, TrainConfig, Trainer
        >>> trainer = Trainer(model, data, Config(train=TrainConfig(max_iters=2)), progress=False)
        >>> trainer.fit().step
        2
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        config: Config | None = None,
        *,
        valid: Any = None,
        out: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"lstmrep.train.Trainer: argument 'model' is a {type(model).__name__}, expected a module.")
        config = Config() if config is None else config
        if not isinstance(config, Config):
            raise TypeError(
                f"lstmrep.train.Trainer: argument 'config' is a {type(config).__name__}, expected a "
                "lstmrep.train.Config."
            )
        for given in (data, *([] if valid is None else [valid])):
            Batches(given, 0)
        _check_settings(config, model, valid, out)
        self.model, self.data, self.config, self.valid = model, data, config, valid
        self.out = None if out is None else Path(out)
        self.progress = progress

    def fit(self, resume: bool | str | Path = False) -> Result:
        """Train until ``train.max_iters`` updates are done, or until there is a reason to stop before.

        At the first SIGINT or SIGTERM the step under way is finished and saved. The caller's random number generators
        and the model's mode are as before when this returns.

        Args:
            resume: True goes on from the newest checkpoint in ``out`` that can be used, from the start where there is
                none; a path goes on from that file. False refuses a folder that holds a run already.

        Returns:
            A :class:`Result`.

        Raises:
            NotFiniteError: a loss or a gradient is NaN or infinite; the message names the step and the tensor.
            CheckpointError: what is to be resumed cannot be used.
            FileExistsError: ``out`` holds a run and ``resume`` is False.
            ValueError: a setting does not fit the model, the data or the machine.
        """
        train, mode = self.config.train, self.model.training
        with joined(train.device) as group, StopSignals() as signals, _own_generators(group.device):
            with _deterministic(train.deterministic):
                loop = Loop(self.model, self.data, self.valid, self.config, self.out, group, signals, self.progress)
                try:
                    stopped = loop.run(resume)
                finally:
                    self.model.train(mode)
            group.wait()
        p = loop.progress
        best = -p.best if p.best is not None and train.monitor == "accuracy" else p.best
        return Result(p.step, loop.history.records, stopped, best, p.best_step)


def _check_settings(config: Config, model: nn.Module, valid: Any, out: Any) -> None:
    """A setting that would do nothing here is a mistake."""
    train, who = config.train, "lstmrep.train.Config: train"
    if train.patience and (valid is None or not train.validate_every):
        raise ValueError(
            f"{who}.patience is {train.patience} and nothing is validated; give 'valid' and validate_every."
        )
    if train.tensorboard and out is None:
        raise ValueError(f"{who}.tensorboard is true and there is no folder for it; give 'out'.")
    if train.teacher_steps:
        feeding = getattr(getattr(model, "config", None), "feeding", "scheduled")
        if not hasattr(model, TEACHER) or feeding != "scheduled":
            raise ValueError(
                f"{who}.teacher_steps is {train.teacher_steps} and the model does not draw what its decoders are fed; "
                "build it with feeding='scheduled'."
            )


def _own_generators(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@contextlib.contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    # cuBLAS reads it when it starts, and torch refuses its products without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
