"""A model's losses on data it is not trained on: free-running and, where a decoder is conditional, teacher-forced.

Leaves no trace: the mode is set back, and the next update starts its generators itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lstmrep.train import measures
from lstmrep.train.batches import Batches, length_of, on_device, stream
from lstmrep.train.config import TrainConfig
from lstmrep.train.distributed import Group
from lstmrep.train.sampler import mix, start_generators
from lstmrep.train.update import Update


def items(data: Any, config: TrainConfig) -> list[tuple[int, list[int]]]:
    """``(number, indices)`` of every batch of a validation, in the data's own order; the last may be short."""
    size = config.batch_size
    length = length_of(data)
    if length is None:
        length = config.validation_batches * size or (len(data) if hasattr(data, "__len__") else 0)
    starts = range(0, length, size)
    if config.validation_batches:
        starts = starts[: config.validation_batches]
    if not starts:
        raise ValueError(
            "lstmrep.train.Trainer: argument 'valid' has no sequences; give some, or for endless data without a "
            "length set train.validation_batches."
        )
    return [(k, list(range(start, min(start + size, length)))) for k, start in enumerate(starts)]


def is_conditional(model: nn.Module) -> bool:
    """Whether a decoder reads frames, so that teacher-forced and free-running losses differ."""
    config = getattr(model, "config", None)
    return any(getattr(config, name, False) for name in ("conditional_reconstruction", "conditional_future"))


@torch.no_grad()
def validate(update: Update, data: Any, config: TrainConfig, group: Group) -> dict[str, float]:
    """Mean losses over the sequences of a validation, each process doing its share of the batches.

    Args:
        update: has the model and its precision.
        data: the dataset.
        config: batch size, ``validation_batches``, workers.
        group: the processes.

    Returns:
        ``valid_<name>`` free-running, and ``teacher_<name>`` where a decoder is conditional.
    """
    model = update.model
    kinds = {"valid": {}, "teacher": {"feeding": "teacher"}} if is_conditional(model) else {"valid": {}}
    mine = items(data, config)[group.rank :: group.world]
    sums = torch.zeros(len(kinds), 2, len(measures.NAMES), dtype=torch.float64, device=group.device)
    source = stream(
        Batches(data, mix(config.seed, 1)),
        mine,
        workers=min(config.workers, len(mine)),
        prefetch=config.prefetch,
        pin=group.device.type == "cuda",
    )
    mode = model.training
    model.eval()
    try:
        for (number, _), batch in zip(mine, source, strict=True):
            batch = on_device(batch, group.device)
            for k, options in enumerate(kinds.values()):
                start_generators(mix(config.seed, 2, number), group.device)
                with update.autocast():
                    output = measures.call(model, batch, update.batch_first, **options)
                found = measures.measure(output, batch)
                there = sums.new_tensor([float(name in found) for name in measures.NAMES])
                sums[k] += measures.size(batch) * torch.stack([measures.packed(found), there])
    finally:
        model.train(mode)
    totals = group.total(sums).tolist()
    return {
        measures.prefix_of(kind) + name: total / count
        for kind, (values, counts) in zip(kinds, totals, strict=True)
        for name, total, count in zip(measures.NAMES, values, counts, strict=True)
        if count
    }
