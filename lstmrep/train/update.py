"""One update: forward, backward, guard against numbers that are not finite, clip, optimizer. Reads and writes no file.

Nothing random is carried from one update to the next: torch's generators start anew from (seed, step, process), so an
update is a function of the parameters, the optimizer's state and its number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lstmrep.train import measures
from lstmrep.train.config import Config
from lstmrep.train.distributed import Group
from lstmrep.train.guard import culprit
from lstmrep.train.sampler import start_generators, step_seed
from lstmrep.train.schedules import learning_rate, teacher_probability

TEACHER = "teacher_probability"
AMP = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Update:
    """Does updates of ``model``, together with the other processes of ``group``.

    Args:
        model: on its device.
        optimizer: over its parameters.
        config: of the run.
        group: the processes; gradients are averaged over them.

    Raises:
        ValueError: float16 is asked for without CUDA.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, config: Config, group: Group) -> None:
        self.model, self.optimizer, self.config, self.group = model, optimizer, config, group
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.batch_first = measures.frames_first(model)
        self.amp = AMP.get(config.train.amp)
        device = group.device.type
        if self.amp == torch.float16 and device != "cuda":
            raise ValueError(
                f"lstmrep.train.Config: train.amp is 'float16' and the device is {device}, where gradients of that "
                "precision cannot be scaled; choose bfloat16 or none, or train on CUDA."
            )
        self.scaler = torch.amp.GradScaler(device, enabled=self.amp == torch.float16)
        self.module: nn.Module = model
        if group.world > 1:
            ids = [group.device.index] if device == "cuda" else None
            self.module = DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)

    def autocast(self) -> torch.autocast:
        """The precision that the config asks for."""
        return torch.autocast(self.group.device.type, self.amp, enabled=self.amp is not None)

    def prepare(self, step: int) -> float:
        """Set what depends on the step alone: generators, teacher probability, learning rate; returns the rate."""
        train = self.config.train
        start_generators(step_seed(train.seed, step, self.group.rank, self.group.world), self.group.device)
        teacher = teacher_probability(train, step)
        if teacher is not None and hasattr(self.model, TEACHER):
            setattr(self.model, TEACHER, teacher)
        rate = learning_rate(self.config.optimizer, step, train.max_iters)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def __call__(self, step: int, batch: Any, stop: bool) -> tuple[dict[str, float], bool, str]:
        """Update number ``step`` (from 0).

        Args:
            step: updates done before.
            batch: this process's share of the batch, on its device.
            stop: this process wishes to stop.

        Returns:
            Losses of the whole batch by name, whether any process wishes to stop, and what was not finite: then
            nothing was updated.
        """
        self.prepare(step)
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            output = measures.call(self.module, batch, self.batch_first)
        found = measures.measure(output, batch)
        self.scaler.scale(found["loss"]).backward()
        norm = self._clipped()
        told = measures.packed(found, norm, norm.new_tensor(float(stop)))
        *numbers, norm_told, stops = (self.group.total(told) / self.group.world).tolist()
        values = {name: n for name, n in zip(measures.NAMES, numbers, strict=True) if name in found}
        bad = self._not_finite(batch, values, norm_told)
        if not bad:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return values, stops > 0, bad

    def _clipped(self) -> Tensor:
        """Clip the gradients by value, then by norm; returns the norm before the latter."""
        train = self.config.train
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.trained if p.grad is not None]
        if train.clip_value and gradients:
            # NaN passes clamps and is found in the norm; infinity would not.
            for g in gradients:
                g.copy_(torch.where(g.isinf(), torch.nan, g).clamp_(-train.clip_value, train.clip_value))
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if train.clip_norm and gradients:
            torch.nn.utils.clip_grads_with_norm_(self.trained, train.clip_norm, norm, foreach=True)
        return norm

    def _not_finite(self, batch: Any, values: dict[str, float], norm: float) -> str:
        losses = torch.tensor(list(values.values()))
        if not losses.isfinite().all():
            return culprit(self.model, batch, values)
        if torch.tensor(norm).isfinite() or (self.scaler.is_enabled() and self.scaler.get_scale() > 1):
            # With a scale to lower, the scaler passes over this update instead.
            return ""
        return culprit(self.model, batch, values)
