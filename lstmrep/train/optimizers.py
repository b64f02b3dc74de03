"""Update rules: the released code's, whose velocity is clipped, and torch's own by name.

Weight decay acts on weights and peepholes, never on biases: ``parameter_groups`` makes the two groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lstmrep.train.config import OptimizerConfig


class _Velocity(torch.optim.Optimizer):
    """What the two rules share: v <- clip(m v - lr d, +-clip), w <- w + v."""

    def __init__(self, params: Iterable[Any], **defaults: float) -> None:
        for name, value in defaults.items():
            high = 1.0 if name in ("momentum", "decay") else math.inf
            if not 0 <= value < high:
                fit = "0 or more and less than 1" if high == 1 else "a finite number of 0 or more"
                raise ValueError(f"{type(self).__name__}: argument '{name}' is {value!r}, expected {fit}.")
        super().__init__(params, dict(defaults))

    def _move(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient.

        Args:
            closure: evaluated first, with gradients, if given.

        Returns:
            What the closure returned, or none.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._move(group, weights, [p.grad for p in weights])
        return loss

    def _state(self, weights: list[Tensor], name: str, start: float) -> list[Tensor]:
        for w in weights:
            if name not in self.state[w]:
                self.state[w][name] = torch.full_like(w, start, memory_format=torch.preserve_format)
        return [self.state[w][name] for w in weights]

    @staticmethod
    def _clip_and_add(group: dict[str, Any], weights: list[Tensor], velocities: list[Tensor]) -> None:
        if group["clip"] > 0:
            torch._foreach_clamp_min_(velocities, -group["clip"])
            torch._foreach_clamp_max_(velocities, group["clip"])
        torch._foreach_add_(weights, velocities)


class VelocitySGD(_Velocity):
    """v <- m v - lr (s g + wd w); v <- clip(v, +-clip), each element; w <- w + v.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        momentum: m, share of the velocity that is kept. Default 0.9.
        weight_decay: wd. Default 0.
        clip: no element of a parameter moves further than this in one step; 0 is off. Default 0.
        gradient_scale: s, factor on the gradient before anything else. The released code sums the gradient over batch
            and frames where the losses here are means: batch * frames restores its numbers. Default 1.

    Raises:
        ValueError: an argument is negative or not finite, or ``momentum`` is 1 or more.

    Source: the released code's update. torch.optim.SGD keeps its velocity without the learning rate and has no clip.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        clip: float = 0.0,
        gradient_scale: float = 1.0,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            clip=clip,
            gradient_scale=gradient_scale,
        )

    def _move(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> None:
        velocities = self._state(weights, "velocity", 0.0)
        lr = group["lr"]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, gradients, alpha=-lr * group["gradient_scale"])
        if group["weight_decay"] > 0:
            torch._foreach_add_(velocities, weights, alpha=-lr * group["weight_decay"])
        self._clip_and_add(group, weights, velocities)


class VelocityRMSProp(_Velocity):
    """d <- s g + wd w; r <- sqrt(decay r^2 + (1 - decay) d^2); v <- clip(m v - lr d / r, +-clip); w <- w + v.

    r starts at 1, not 0, so the first steps are not larger than those of ``VelocitySGD``.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        momentum: m, share of the velocity that is kept. Default 0.9.
        decay: share of the old mean square. Default 0.95.
        weight_decay: wd. Default 0.
        clip: no element of a parameter moves further than this in one step; 0 is off. Default 0.
        gradient_scale: s, factor on the gradient before anything else. Default 1.

    Raises:
        ValueError: an argument is negative or not finite, or ``momentum`` or ``decay`` is 1 or more.

    Source: Nitish Srivastava's version of the released code.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        decay: float = 0.95,
        weight_decay: float = 0.0,
        clip: float = 0.0,
        gradient_scale: float = 1.0,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            decay=decay,
            weight_decay=weight_decay,
            clip=clip,
            gradient_scale=gradient_scale,
        )

    def _move(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> None:
        velocities = self._state(weights, "velocity", 0.0)
        roots = self._state(weights, "root_mean_square", 1.0)
        directions = torch._foreach_mul(gradients, group["gradient_scale"])
        if group["weight_decay"] > 0:
            torch._foreach_add_(directions, weights, alpha=group["weight_decay"])
        torch._foreach_mul_(roots, roots)
        torch._foreach_mul_(roots, group["decay"])
        torch._foreach_addcmul_(roots, directions, directions, value=1 - group["decay"])
        torch._foreach_sqrt_(roots)
        torch._foreach_div_(directions, roots)
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, directions, alpha=-group["lr"])
        self._clip_and_add(group, weights, velocities)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters in two groups: weights and peepholes with ``weight_decay``, biases without.

    Args:
        model: its parameters whose last name starts with ``bias`` are biases.
        weight_decay: of the first group.

    Returns:
        Groups for an optimizer; empty ones are left out.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (free if name.rsplit(".", 1)[-1].startswith("bias") else decayed).append(parameter)
    groups = ((decayed, weight_decay), (free, 0.0))
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


def build(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that ``config`` names, over the trained parameters of ``model``.

    Args:
        config: name and settings.
        model: where the parameters are; on its device already.

    Raises:
        ValueError: nothing in the model is trained, or a setting is given that the named rule does not have.
    """
    groups = parameter_groups(model, config.weight_decay)
    if not groups:
        raise ValueError("lstmrep.train.optimizers.build: no parameter of the model asks for a gradient.")
    velocity = {"clip": config.velocity_clip, "gradient_scale": config.gradient_scale}
    if config.name == "velocity_sgd":
        return VelocitySGD(groups, config.lr, config.momentum, **velocity)
    if config.name == "velocity_rmsprop":
        return VelocityRMSProp(groups, config.lr, config.momentum, config.rms_decay, **velocity)
    for setting, neutral in (("velocity_clip", 0.0), ("gradient_scale", 1.0)):
        if getattr(config, setting) != neutral:
            raise ValueError(
                f"lstmrep.train.Config: optimizer.{setting} acts on velocity_sgd and velocity_rmsprop alone, and "
                f"optimizer.name is {config.name!r}; leave it at {neutral} or choose one of those."
            )
    if config.name in ("adam", "adamw"):
        kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
        return kind(groups, config.lr, (config.beta1, config.beta2), config.eps, fused=_fuses(model))
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.lr, config.momentum, fused=_fuses(model))
    return torch.optim.RMSprop(groups, config.lr, config.rms_decay, config.eps, momentum=config.momentum, foreach=True)


def _fuses(model: nn.Module) -> bool:
    trained = [p for p in model.parameters() if p.requires_grad]
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in trained)
