"""Models that draw their predictions: the best of K draws, as the literature on stochastic video scores them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lstmrep.eval import metrics

CALLER = "lstmrep.eval.best_of"
METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": metrics.cross_entropy,
    "half_squared_error": metrics.half_squared_error,
    "mse": metrics.mse,
    "mae": metrics.mae,
    "ssim": metrics.ssim,
    "psnr": metrics.psnr,
}
HIGHER = ("ssim", "psnr")


class BestOf(NamedTuple):
    """What ``best_of`` found.

    Attributes:
        curve: float64 ``[K]``: with the first 1, 2, ..., K draws, the mean over clips of each clip's best.
        chosen: int64 ``[K, B]``: which draw that is, the first of those equally good.
        per_frame: float64 ``[T]``: the mean over clips, frame by frame, of the draws chosen of all K.
    """

    curve: Tensor
    chosen: Tensor
    per_frame: Tensor


def best_of(
    samples: Tensor,
    truth: Tensor,
    metric: str | Callable[[Tensor, Tensor], Tensor] = "ssim",
    *,
    higher: bool | None = None,
) -> BestOf:
    """The best of the first k draws, k = 1 to K. A draw is chosen for each clip as a whole, by its mean over frames.

    With v[k, b] the mean over frames of draw k of clip b, the curve at k is the mean over b of the least of v[1, b] to
    v[k, b], or of the greatest where higher is better. It never gets worse with k, so it compares models only at one K.

    Args:
        samples: draws ``[K, B, T, *frame]``.
        truth: ``[B, T, *frame]``.
        metric: ``"cross_entropy"``, ``"half_squared_error"``, ``"mse"``, ``"mae"``, ``"ssim"``, ``"psnr"``, or a
            function of prediction and truth that gives ``[B, T]``, such as :func:`lpips`. Default ``"ssim"``.
        higher: whether higher is better. Default: for ssim and psnr; a function of one's own has to say.

    Returns:
        A :class:`BestOf`.

    Raises:
        ValueError: shapes do not fit, there are no draws or clips, the metric is not known or not a number.

    Source: Denton and Fergus 2018, whose best draw of a sequence is chosen so.
    """
    if samples.ndim < 4 or samples.shape[1:] != truth.shape or not samples.shape[0] or not truth.shape[0]:
        raise ValueError(
            f"{CALLER}: samples {tuple(samples.shape)} and truth {tuple(truth.shape)}, expected [K, B, T, *frame] and "
            "[B, T, *frame] with K and B of 1 or more."
        )
    score, better = _metric(metric, higher)
    frames = torch.stack([score(draw, truth) for draw in samples]).double()
    if frames.shape != samples.shape[:3] or frames.isnan().any():
        wrong = "not a number somewhere" if frames.shape == samples.shape[:3] else f"of shape {tuple(frames.shape[1:])}"
        raise ValueError(f"{CALLER}: the metric is {wrong}, expected numbers [B, T]; check samples and metric.")
    draws = frames.mean(2) if better else -frames.mean(2)  # [K, B], higher is better
    best, chosen = draws[0], torch.zeros_like(draws[0], dtype=torch.int64)
    curve, choices = [], []
    for k, draw in enumerate(draws):
        ahead = draw > best
        best, chosen = torch.where(ahead, draw, best), torch.where(ahead, k, chosen)
        curve.append(best.mean())
        choices.append(chosen)
    per_frame = frames[chosen, torch.arange(truth.shape[0], device=frames.device)].mean(0)
    return BestOf(torch.stack(curve) * (1 if better else -1), torch.stack(choices), per_frame)


def _metric(
    metric: str | Callable[[Tensor, Tensor], Tensor], higher: bool | None
) -> tuple[Callable[[Tensor, Tensor], Tensor], bool]:
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(f"{CALLER}: argument 'metric' is {metric!r}, expected one of {', '.join(METRICS)}.")
        return METRICS[metric], metric in HIGHER if higher is None else higher
    if higher is None:
        raise ValueError(
            f"{CALLER}: argument 'higher' is missing; with a metric of your own say whether higher is better."
        )
    return metric, higher
