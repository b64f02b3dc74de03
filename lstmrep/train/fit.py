"""Training in one call, for notebooks and scripts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lstmrep.train.batches import TensorFrames
from lstmrep.train.config import Config, OptimizerConfig, TrainConfig
from lstmrep.train.settings import nearest
from lstmrep.train.trainer import Result, Trainer

WHO = "lstmrep.train.fit"


def fit(
    model: nn.Module,
    data: Any,
    *,
    steps: int = 1000,
    batch_size: int = 64,
    lr: float = 1e-3,
    optimizer: str | OptimizerConfig = "adam",
    seed: int = 0,
    valid: Any = None,
    out: str | Path | None = None,
    resume: bool | str | Path = False,
    progress: bool = True,
    **train: Any,
) -> Result:
    """Train ``model`` on ``data``.

    Args:
        model: any module that :class:`Trainer` takes, such as ``lstmrep.CompositeModel``.
        data: frames ``[N, T, ...]`` float32 (batch first, whatever the model's ``batch_first``), a pair (frames,
            labels ``[N]`` int64), or a dataset.
        steps: updates in all. Default 1000.
        batch_size: sequences of an update; at most those of the data count once in an epoch. Default 64.
        lr: learning rate. Default 1e-3.
        optimizer: its name, or a whole :class:`OptimizerConfig`, whose ``lr`` then counts. Default ``"adam"``.
        seed: of the order of the data and of everything drawn. Default 0.
        valid: like ``data``, or none.
        out: folder for checkpoints and the curve, or none.
        resume: go on with the run in ``out``; see :meth:`Trainer.fit`.
        progress: print lines and a bar.
        train: other settings of :class:`TrainConfig`, such as ``print_every=10``.

    Returns:
        A :class:`Result`; the model itself is trained in place.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.

    Example:
        >>> result = fit(model, frames, steps=3, batch_size=2, print_every=1, progress=False)
        >>> [record["step"] for record in result.history]
        [1, 2, 3]
    """
    known = [f.name for f in dataclasses.fields(TrainConfig)]
    for name in train:
        if name not in known:
            raise TypeError(f"{WHO}: argument '{name}' is not known; {nearest(name, known)}.")
    if isinstance(optimizer, str):
        optimizer = OptimizerConfig(name=optimizer, lr=lr)
    loop = TrainConfig(**{"max_iters": steps, "batch_size": batch_size, "seed": seed, **train})
    trainer = Trainer(
        model,
        _dataset("data", data),
        Config(optimizer=optimizer, train=loop),
        valid=None if valid is None else _dataset("valid", valid),
        out=out,
        progress=progress,
    )
    return trainer.fit(resume)


def _dataset(name: str, data: Any) -> Any:
    pair = isinstance(data, (tuple, list))
    if not pair and not isinstance(data, Tensor):
        return data
    frames, labels = (data[0], data[1]) if pair and len(data) == 2 else (data, None)
    if not isinstance(frames, Tensor) or (labels is not None and not isinstance(labels, Tensor)):
        raise TypeError(f"{WHO}: argument '{name}' is a {type(data).__name__}, expected frames, or (frames, labels).")
    if frames.ndim < 3 or not len(frames):
        raise ValueError(f"{WHO}: argument '{name}' has shape {tuple(frames.shape)}, expected frames [N, T, ...].")
    if not frames.is_floating_point():
        raise TypeError(
            f"{WHO}: argument '{name}' is {frames.dtype}, expected float32 in [0, 1]; pass x.float() / 255."
        )
    if labels is not None and labels.shape != frames.shape[:1]:
        raise ValueError(
            f"{WHO}: argument '{name}' has labels of shape {tuple(labels.shape)}, expected one a sequence, "
            f"({len(frames)},)."
        )
    return TensorFrames(frames, labels)
